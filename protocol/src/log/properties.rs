//! Recovery against a simple model, over small logs of all kinds of records: every byte flipped, every end cut off,
//! writes torn, lost and misdirected.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;

use super::index::Position;
use super::record::{AcceptRecord, LearnRecord, Record, Recovered, SynchroniseRecord};
use super::recover::{Damage, Flaw, Recoverer, Recovery};
use super::segment::{self, HEADER, Header, Owner};
use super::state;
use super::writer::Appender;
use crate::ids::{Ballot, ClusterId, DirectoryId, GroupId, NodeId, ReplicaId, Slot};
use crate::message::operator::Nothing;
use crate::rng::Rng;
use crate::wire::codec;

const OWNER: Owner = Owner { cluster: ClusterId(11), node: NodeId(2), directory: DirectoryId(33) };
const GROUPS: [GroupId; 3] = [GroupId(1), GroupId(2), GroupId(7)];

/// A group as plainly as can be: the whole log in one vector.
#[derive(Clone, Debug, Default)]
struct Model {
    promise: Ballot,
    accepted: Ballot,
    /// What lies before is in a snapshot.
    start: usize,
    chosen: usize,
    log: Vec<Bytes>,
    doubtful: bool,
}

impl Model {
    fn recovered(&self) -> Recovered {
        Recovered {
            start: Slot(self.start as u64),
            promise: self.promise,
            accepted: self.accepted,
            chosen: Slot(self.chosen as u64),
            tail: self.log[self.chosen..].to_vec(),
            doubtful: self.doubtful,
        }
    }

    fn apply(&mut self, record: &Record) {
        match record.clone() {
            Record::Promise(ballot) => self.promise = self.promise.max(ballot),
            Record::Accept(accept) => {
                self.log.push(accept.entry);
                self.chosen = self.chosen.max(accept.chosen.0 as usize);
            }
            Record::Synchronise(record) => {
                self.log.truncate(record.from.0 as usize);
                self.log.extend(record.entries);
                self.accepted = record.ballot;
                self.promise = self.promise.max(record.ballot);
                self.chosen = self.chosen.max(record.chosen.0 as usize);
                self.doubtful = false;
            }
            Record::Learn(record) => {
                let (start, end) = (record.start.0 as usize, record.start.0 as usize + record.entries.len());
                let shared = end.min(self.log.len());
                let agrees = self.log[start..shared] == record.entries[..shared - start];
                let rest = if agrees { self.log[shared..].to_vec() } else { Vec::new() };
                self.log.truncate(start);
                self.log.extend(record.entries);
                self.log.extend(rest);
                self.chosen = end;
            }
            Record::Chosen(chosen) => self.chosen = self.chosen.max(chosen.0 as usize),
            Record::Doubt(_) => self.doubtful = true,
            Record::Snapshot(slot) => {
                self.start = slot.0 as usize;
                self.chosen = self.chosen.max(self.start);
                // Entries that were never here.
                self.log.resize(self.log.len().max(self.start), Bytes::new());
            }
            Record::Base(_) => unreachable!("a base is the log's own"),
        }
    }

    /// A record that can follow.
    fn draw(&self, rng: &mut Rng) -> Record {
        let ballot = Ballot { round: rng.below(9), replica: ReplicaId(rng.below(3) as u32) };
        let between = |rng: &mut Rng, low: usize, high: usize| low + rng.below((high - low + 1) as u64) as usize;
        let entries = |rng: &mut Rng, count: usize| (0..count).map(|_| entry(rng)).collect::<Vec<_>>();
        match rng.below(13) {
            // Mostly of what is chosen, now and then from another replica, of more than there is.
            12 if rng.chance(20) => Record::Snapshot(Slot(between(rng, self.start, self.log.len() + 3) as u64)),
            12 => Record::Snapshot(Slot(between(rng, self.start, self.chosen) as u64)),
            0 => Record::Promise(ballot),
            1 | 2 => {
                let from = between(rng, self.chosen, self.log.len());
                let count = rng.below(4) as usize;
                let chosen = Slot(between(rng, 0, from + count) as u64);
                Record::Synchronise(SynchroniseRecord {
                    ballot,
                    from: Slot(from as u64),
                    entries: entries(rng, count),
                    chosen,
                })
            }
            3 | 4 => {
                let start = between(rng, self.chosen, self.log.len());
                let count = rng.below(4) as usize;
                let mut learned = entries(rng, count);
                for (at, entry) in learned.iter_mut().enumerate() {
                    // Mostly what the log has already.
                    if let Some(own) = self.log.get(start + at).filter(|_| rng.chance(85)) {
                        *entry = own.clone();
                    }
                }
                Record::Learn(LearnRecord { start: Slot(start as u64), entries: learned })
            }
            5 => Record::Chosen(Slot(between(rng, 0, self.log.len()) as u64)),
            6 => Record::Doubt(Nothing {}),
            _ => {
                let slot = self.log.len();
                let chosen = Slot(between(rng, self.chosen.saturating_sub(1), slot + 1) as u64);
                Record::Accept(AcceptRecord { slot: Slot(slot as u64), chosen, entry: entry(rng) })
            }
        }
    }
}

fn entry(rng: &mut Rng) -> Bytes {
    let len = if rng.chance(5) { rng.below(900) } else { rng.below(24) };
    (0..len).map(|_| if rng.chance(50) { 0 } else { rng.below(256) as u8 }).collect()
}

type State = BTreeMap<GroupId, Recovered>;

/// A record's place, and what had been synced before it was written.
#[derive(Clone, Copy, Debug)]
struct Written {
    at: Position,
    end: u32,
    synced: usize,
}

/// A log on a simulated disk, with the state after each record.
struct World {
    rng: Rng,
    disk: Vec<Vec<u8>>,
    appender: Appender,
    models: BTreeMap<GroupId, Model>,
    /// After 0, 1, 2, ... records; the marks of segments count as records that change nothing.
    states: Vec<State>,
    records: Vec<Written>,
    synced: usize,
}

impl World {
    fn new(seed: u64) -> World {
        let mut disk = vec![vec![0; 6000]];
        disk[0][..HEADER as usize].copy_from_slice(&Appender::first_header(OWNER, 6000).encode());
        let appender = recover(&disk).expect("a new log is whole").appender;
        let models: BTreeMap<_, _> = GROUPS.into_iter().map(|group| (group, Model::default())).collect();
        let mut world =
            World { rng: Rng::new(seed), disk, appender, models, states: vec![], records: vec![], synced: 0 };
        world.note_state();
        world
    }

    fn note_state(&mut self) {
        self.states.push(self.models.iter().map(|(group, model)| (*group, model.recovered())).collect());
    }

    fn note_record(&mut self, at: Position) {
        let end = self.appender.position().offset;
        self.records.push(Written { at, end, synced: self.synced });
        self.note_state();
    }

    fn write(&mut self) {
        let pending = self.appender.pending();
        let at = pending.position.offset as usize;
        let segment = &mut self.disk[pending.position.segment as usize - 1];
        segment[at..at + pending.bytes.len()].copy_from_slice(pending.bytes);
        self.appender.written();
    }

    fn sync(&mut self) {
        self.write();
        self.appender.synced();
        self.synced = self.records.len();
    }

    fn roll(&mut self, least: u32) {
        if !self.appender.is_ended() {
            let at = self.appender.position();
            self.appender.end_segment();
            self.note_record(at);
        }
        self.sync();
        let size = least.max(5000);
        let header = self.appender.begin_segment(size);
        self.disk.truncate(header.segment as usize - 1);
        self.disk.push(vec![0; size as usize]);
        let last = self.disk.len() - 1;
        self.disk[last][..HEADER as usize].copy_from_slice(&header.encode());
        let mut at = Position { segment: header.segment, offset: HEADER };
        for _ in GROUPS {
            let bytes = &self.appender.pending().bytes[(at.offset - HEADER) as usize..];
            let (head, body) = segment::decode(bytes, at.segment, at.offset).expect("a base of each group is pending");
            assert!(matches!(codec::from_slice(body), Ok(Record::Base(_))));
            let end = at.offset + head.length;
            self.records.push(Written { at, end, synced: self.synced });
            self.note_state();
            at.offset = end;
        }
    }

    fn push(&mut self) {
        let group = GROUPS[self.rng.below(3) as usize];
        let record = self.models[&group].draw(&mut self.rng);
        while let Err(no_room) = self.appender.push(group, &record) {
            self.roll(no_room.size);
        }
        let at = self.last_position();
        self.models.get_mut(&group).expect("a group of this log").apply(&record);
        self.note_record(at);
    }

    /// Where the record that was just pushed begins.
    fn last_position(&self) -> Position {
        let pending = self.appender.pending();
        let segment = pending.position.segment;
        let offset = match self.records.last() {
            Some(last) if last.at.segment == segment => last.end,
            _ => HEADER,
        };
        Position { segment, offset }
    }

    /// Appends `count` records in batches; the last batch is written, but not synced.
    fn fill(&mut self, count: usize) {
        for _ in 0..count {
            self.push();
            if self.rng.chance(30) {
                self.sync();
            }
        }
        self.sync();
        for _ in 0..1 + self.rng.below(4) {
            self.push();
        }
        self.write();
    }

    /// Every entry that is needed is found where it stands.
    fn check_entries(&self, recovery: &Recovery, what: &str) {
        for (group, model) in &self.models {
            for (slot, entry) in model.log.iter().enumerate().skip(model.start) {
                let at = recovery.appender.locate(*group, Slot(slot as u64)).expect("every entry is indexed");
                let bytes = &self.disk[at.segment as usize - 1][at.offset as usize..];
                let (head, body) = segment::decode(bytes, at.segment, at.offset).expect("a record is there");
                let (start, entries) = state::entries(codec::from_slice(body).unwrap()).expect("with entries");
                assert_eq!((head.group, &entries[slot - start.0 as usize]), (*group, entry), "{what}");
            }
            assert_eq!(recovery.appender.locate(*group, Slot(model.log.len() as u64)), None, "{what}");
        }
    }

    fn last(&self) -> &State {
        self.states.last().expect("the state before the first record")
    }
}

fn recover(disk: &[Vec<u8>]) -> Result<Recovery, Damage> {
    recover_without(disk, &BTreeSet::new())
}

/// Recovers a log of which some segments are gone.
fn recover_without(disk: &[Vec<u8>], gone: &BTreeSet<u32>) -> Result<Recovery, Damage> {
    let mut recoverer = Recoverer::new(OWNER, &GROUPS);
    for (number, bytes) in (1..).zip(disk) {
        if !gone.contains(&number) {
            recoverer.segment(number, bytes)?;
        }
    }
    recoverer.finish()
}

fn state_of(recovery: &Recovery) -> State {
    recovery.appender.groups().iter().map(|(group, state)| (*group, state.recovered())).collect()
}

fn doubtful(state: &State) -> State {
    let doubt = |recovered: &Recovered| Recovered { doubtful: true, ..recovered.clone() };
    state.iter().map(|(group, recovered)| (*group, doubt(recovered))).collect()
}

/// What a damaged log was taken for.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Taken {
    Whole,
    /// With so many records.
    Doubtful(usize),
    Refused,
}

/// Recovers a log that was changed behind its back: it must never be taken for something that it never was.
fn taken(world: &World, disk: &[Vec<u8>], what: &str) -> Taken {
    let Ok(recovery) = recover(disk) else { return Taken::Refused };
    let state = state_of(&recovery);
    if recovery.doubtful.is_none() {
        assert_eq!(&state, world.last(), "{what}: a silently different state");
        return Taken::Whole;
    }
    let records = recovery.appender.sequence() as usize;
    assert_eq!(state, doubtful(&world.states[records]), "{what}: a state that never was");
    Taken::Doubtful(records)
}

#[test]
fn any_sequence_of_records_comes_back() {
    for seed in 0..300 {
        let mut world = World::new(seed);
        for round in 0..4 {
            world.fill(40);
            let recovery = recover(&world.disk).unwrap_or_else(|damage| panic!("seed {seed}: {damage}"));
            assert_eq!(&state_of(&recovery), world.last(), "seed {seed}, round {round}");
            assert_eq!(recovery.appender.sequence() as usize, world.records.len(), "seed {seed}");
            let unsynced = world.records.last().map(|last| world.records[last.synced].at);
            assert_eq!(Some(recovery.unsynced), unsynced, "seed {seed}");
            world.check_entries(&recovery, &format!("seed {seed}"));
            // The next round goes on with what was recovered.
            world.appender = recovery.appender;
            world.synced = world.records.len();
        }
    }
}

#[test]
fn every_flipped_byte_is_the_same_state_or_a_doubtful_prefix_or_refused() {
    for seed in 0..6 {
        let mut world = World::new(seed);
        world.fill(50);
        assert!(world.disk.len() > 1, "seed {seed} has more than one segment");
        let synced = world.synced;
        let mut disk = world.disk.clone();
        for number in 0..disk.len() {
            for at in 0..disk[number].len() {
                let mask = 1 << ((at * 7 + seed as usize) % 8);
                disk[number][at] ^= mask;
                let what = format!("seed {seed}, segment {}, byte {at}", number + 1);
                let taken = taken(&world, &disk, &what);
                disk[number][at] ^= mask;
                let hit = world.records.iter().position(|record| {
                    record.at.segment as usize == number + 1 && (record.at.offset..record.end).contains(&(at as u32))
                });
                match hit {
                    // A record that later ones show to have been synced.
                    Some(record) if record < synced => assert_eq!(taken, Taken::Refused, "{what}"),
                    Some(record) => assert_eq!(taken, Taken::Doubtful(record), "{what}"),
                    None if at < HEADER as usize => assert_eq!(taken, Taken::Refused, "{what}"),
                    // Behind the last record.
                    None if number + 1 == disk.len() => {
                        assert_eq!(taken, Taken::Doubtful(world.records.len()), "{what}");
                    }
                    None => assert_eq!(taken, Taken::Whole, "{what}"),
                }
            }
        }
    }
}

#[test]
fn a_segment_of_another_size_is_refused_wherever_it_is_cut() {
    let mut world = World::new(1);
    world.fill(60);
    for number in 0..world.disk.len() {
        for cut in 0..world.disk[number].len() {
            let mut disk = world.disk.clone();
            disk[number].truncate(cut);
            let damage = recover(&disk).err().unwrap_or_else(|| panic!("segment {} cut at {cut}", number + 1));
            assert_eq!(damage.segment as usize, number + 1);
        }
        let mut disk = world.disk.clone();
        disk[number].push(0);
        assert!(recover(&disk).is_err());
    }
}

#[test]
fn a_segment_that_went_away_is_missed_if_anything_of_it_is_needed() {
    let mut missed = 0;
    for seed in 0..40 {
        let mut world = World::new(seed);
        world.fill(150);
        for gone in 1..=world.disk.len() as u32 {
            let what = format!("seed {seed}, without segment {gone}");
            match recover_without(&world.disk, &BTreeSet::from([gone])) {
                Ok(recovery) => {
                    assert_eq!(&state_of(&recovery), world.last(), "{what}");
                    world.check_entries(&recovery, &what);
                }
                Err(damage) => {
                    assert_eq!((damage.segment, damage.flaw), (gone, Flaw::Missing), "{what}");
                    missed += 1;
                }
            }
        }
    }
    assert!(missed > 40, "only {missed} were missed");
}

/// Hazard S30: nothing of a group that is idle goes with the segments of one that is not; and a crash may bring any of
/// those back that were removed.
#[test]
fn s30_segments_that_nothing_needs_may_go_in_any_choice() {
    let mut removed = 0;
    for seed in 0..200 {
        let mut world = World::new(seed);
        for round in 0..3 {
            world.fill(80);
            world.sync();
            let oldest = world.appender.release();
            let gone: BTreeSet<u32> = (1..oldest).filter(|_| world.rng.chance(70)).collect();
            removed += gone.len();
            let what = format!("seed {seed}, round {round}, without {gone:?} of {}", world.disk.len());
            let recovery = recover_without(&world.disk, &gone).unwrap_or_else(|damage| panic!("{what}: {damage}"));
            assert_eq!(&state_of(&recovery), world.last(), "{what}");
            world.check_entries(&recovery, &what);
            world.appender = recovery.appender;
            world.synced = world.records.len();
            assert_eq!(world.appender.release(), oldest, "{what}");
        }
    }
    assert!(removed > 200, "only {removed} segments could go");
}

/// A crash while the last batch is written: any part of its sectors may be on disk.
#[test]
fn a_torn_write_is_never_taken_for_damage_and_loses_nothing_that_was_synced() {
    let mut doubts = 0;
    for seed in 0..400 {
        let mut world = World::new(seed);
        world.fill(20);
        let (synced, first) = (world.synced, world.records[world.synced].at);
        let end = world.records.last().unwrap().end as usize;
        if first.segment as usize != world.disk.len() {
            continue;
        }
        let mut disk = world.disk.clone();
        let segment = disk.last_mut().unwrap();
        let step = 1 << world.rng.below(10);
        for start in (first.offset as usize..end).step_by(step) {
            if world.rng.chance(50) {
                segment[start..(start + step).min(end)].fill(0);
            }
        }
        let recovery = recover(&disk).unwrap_or_else(|damage| panic!("seed {seed}: {damage}"));
        let records = recovery.appender.sequence() as usize;
        assert!(records >= synced, "seed {seed}: {records} of {synced} synced records");
        let state = &world.states[records];
        let expected = if recovery.doubtful.is_some() { doubtful(state) } else { state.clone() };
        assert_eq!(state_of(&recovery), expected, "seed {seed}");
        doubts += usize::from(recovery.doubtful.is_some());
    }
    assert!(doubts > 100, "only {doubts} torn writes were doubtful");
}

#[test]
fn a_write_that_was_lost_or_went_elsewhere_is_refused_once_something_was_synced_after_it() {
    for seed in 0..100 {
        let mut world = World::new(seed);
        world.fill(30);
        let batches: Vec<Written> = world.records[..world.synced]
            .chunk_by(|one, other| one.synced == other.synced && one.at.segment == other.at.segment)
            .map(|batch| Written { end: batch[batch.len() - 1].end, ..batch[0] })
            .collect();
        let range = |batch: &Written| batch.at.offset as usize..batch.end as usize;
        for batch in &batches {
            let mut lost = world.disk.clone();
            lost[batch.at.segment as usize - 1][range(batch)].fill(0);
            assert_eq!(taken(&world, &lost, "lost"), Taken::Refused, "seed {seed}: {batch:?}");

            let other = &batches[world.rng.below(batches.len() as u64) as usize];
            if other.at == batch.at {
                continue;
            }
            let mut misdirected = lost;
            let bytes = world.disk[batch.at.segment as usize - 1][range(batch)].to_vec();
            let target = &mut misdirected[other.at.segment as usize - 1];
            let end = (other.at.offset as usize + bytes.len()).min(target.len());
            target[other.at.offset as usize..end].copy_from_slice(&bytes[..end - other.at.offset as usize]);
            // It may have hit everything that proved the loss; the end is doubtful then.
            assert_ne!(taken(&world, &misdirected, "misdirected"), Taken::Whole, "seed {seed}: {batch:?}");
        }
    }
}

/// Tears the end of a log so that it is doubtful; returns the number of records that are left.
fn tear(world: &mut World) -> usize {
    let last = *world.records.last().unwrap();
    world.disk[last.at.segment as usize - 1][last.end as usize - 1] ^= 1;
    let recovery = recover(&world.disk).expect("a doubtful end is not refused");
    assert!(recovery.doubtful.is_some() && recovery.appender.is_ended());
    let left = recovery.appender.sequence() as usize;
    world.appender = recovery.appender;
    world.records.truncate(left);
    world.states.truncate(left + 1);
    world.synced = left;
    left
}

#[test]
fn doubt_outlives_restarts_until_a_synchronisation_cures_it_in_its_group() {
    let mut world = World::new(5);
    world.fill(30);
    let left = tear(&mut world);
    let before = doubtful(&world.states[left]);
    world.roll(5000);
    for _ in 0..3 {
        // Restarts before anything is written.
        let recovery = recover(&world.disk).unwrap();
        assert_eq!((state_of(&recovery), recovery.doubtful), (before.clone(), None));
        world.appender = recovery.appender;
    }
    let chosen = before[&GROUPS[0]].chosen;
    let ballot = Ballot { round: 50, replica: ReplicaId(1) };
    let cure = SynchroniseRecord { ballot, from: chosen, entries: vec![], chosen };
    world.appender.push(GROUPS[1], &Record::Promise(ballot)).unwrap();
    world.appender.push(GROUPS[0], &Record::Synchronise(cure)).unwrap();
    assert_eq!(world.appender.take_promised(), vec![(GROUPS[0], ballot), (GROUPS[1], ballot)]);
    world.sync();
    let state = state_of(&recover(&world.disk).unwrap());
    let doubts: Vec<bool> = state.values().map(|recovered| recovered.doubtful).collect();
    assert_eq!(doubts, [false, true, true]);
}

#[test]
fn a_crash_while_the_next_segment_is_begun_changes_nothing() {
    // The segment is full and ended, the next one exists and has no header yet.
    let mut world = World::new(8);
    world.fill(30);
    world.sync();
    world.appender.end_segment();
    world.sync();
    assert_eq!(recover(&world.disk).expect_err("the next segment is missing").flaw, Flaw::Missing);
    world.disk.push(vec![0; 5000]);
    let recovery = recover(&world.disk).unwrap();
    assert_eq!(&state_of(&recovery), world.last());
    assert!(recovery.appender.is_ended() && recovery.spare.is_some_and(|spare| spare.blank));
    // The same after a doubtful end.
    let mut world = World::new(8);
    world.fill(30);
    let left = tear(&mut world);
    world.disk.push(vec![0; 5000]);
    let recovery = recover(&world.disk).unwrap();
    assert_eq!(state_of(&recovery), doubtful(&world.states[left]));
    assert!(recovery.doubtful.is_some() && recovery.spare.is_some());
}

#[test]
fn a_prepared_segment_is_only_a_spare_and_what_is_in_it_does_not_matter_unless_it_was_used() {
    let mut world = World::new(9);
    world.fill(10);
    let mut disk = world.disk.clone();
    disk.push(vec![0; 7000]);
    let spare = recover(&disk).unwrap().spare.unwrap();
    assert_eq!((spare.segment as usize, spare.size, spare.blank), (disk.len(), 7000, true));
    disk.last_mut().unwrap()[5000] = 1;
    let recovery = recover(&disk).unwrap();
    assert!(!recovery.spare.unwrap().blank);
    assert_eq!(&state_of(&recovery), world.last());
    disk.push(vec![0; 7000]);
    assert_eq!(recover(&disk).expect_err("nothing comes after a spare").flaw, Flaw::Missing);

    // The last segment with its header gone: its records show that it was used.
    let mut world = World::new(9);
    world.fill(40);
    assert!(world.disk.len() > 1);
    world.disk.last_mut().unwrap()[..HEADER as usize].fill(0);
    assert_eq!(recover(&world.disk).expect_err("it was used").flaw, Flaw::Header);
}

#[test]
fn after_a_clean_stop_every_flipped_byte_of_a_record_is_refused() {
    let mut world = World::new(10);
    world.fill(20);
    world.sync();
    let at = world.appender.position();
    world.appender.push_closed().unwrap();
    world.note_record(at);
    world.sync();
    let recovery = recover(&world.disk).unwrap();
    assert!(recovery.closed);
    let closing = *world.records.last().unwrap();
    for record in &world.records {
        for at in record.at.offset..record.end {
            let mut disk = world.disk.clone();
            disk[record.at.segment as usize - 1][at as usize] ^= 4;
            let expected = match record.at == closing.at {
                true => Taken::Doubtful(world.records.len() - 1),
                false => Taken::Refused,
            };
            assert_eq!(taken(&world, &disk, "closed"), expected, "byte {at} of {record:?}");
        }
    }
    // It goes on behind the mark.
    world.appender = recovery.appender;
    world.fill(20);
    let recovery = recover(&world.disk).unwrap();
    assert_eq!(&state_of(&recovery), world.last());
    assert!(!recovery.closed);
}

/// Two logs of the same shape with other entries: every record of one fits the other, but for the chain.
#[test]
fn records_and_segments_of_another_history_are_refused() {
    let history = |letter: u8| {
        let mut world = World::new(13);
        for slot in 0..60 {
            let entry = Bytes::from(vec![letter; 100]);
            let record = AcceptRecord { slot: Slot(slot), chosen: Slot(0), entry };
            while let Err(no_room) = world.appender.push(GROUPS[0], &Record::Accept(record.clone())) {
                world.roll(no_room.size);
            }
            let at = world.last_position();
            world.note_record(at);
            world.sync();
        }
        world
    };
    let (one, other) = (history(b'a'), history(b'b'));
    for record in &one.records {
        let (number, range) = (record.at.segment as usize - 1, record.at.offset as usize..record.end as usize);
        let mut disk = one.disk.clone();
        disk[number][range.clone()].copy_from_slice(&other.disk[number][range]);
        // The chain breaks at the record, or behind the first one, or at the next segment.
        let broken = recover(&disk).err().map(|damage| damage.flaw);
        assert!(matches!(broken, Some(Flaw::Chain | Flaw::Gap)), "{record:?}: {broken:?}");
    }
    for number in 0..one.disk.len() {
        let mut disk = one.disk.clone();
        disk[number] = other.disk[number].clone();
        let broken = recover(&disk).err().map(|damage| damage.flaw);
        assert_eq!(broken, Some(Flaw::Gap), "segment {}", number + 1);
    }
}

#[test]
fn a_segment_begun_after_a_doubtful_end_follows_no_other_end() {
    let mut world = World::new(14);
    world.fill(60);
    assert!(world.disk.len() > 1);
    let header = Header { doubtful: true, ..Header::decode(&world.disk[1]).unwrap() };
    world.disk[1][..HEADER as usize].copy_from_slice(&header.encode());
    assert_eq!(recover(&world.disk).expect_err("the segment before is whole").flaw, Flaw::Gap);
}

#[test]
fn a_log_of_another_owner_version_or_group_is_refused() {
    let mut world = World::new(11);
    world.fill(10);
    let other = Owner { directory: DirectoryId(34), ..OWNER };
    let damage = Recoverer::new(other, &GROUPS).segment(1, &world.disk[0]).expect_err("another directory");
    assert_eq!(damage.flaw, Flaw::Foreign(Box::new(OWNER)));
    let mut recoverer = Recoverer::new(OWNER, &GROUPS[..1]);
    let damage = recoverer.segment(1, &world.disk[0]).expect_err("groups that are not here");
    assert!(matches!(damage.flaw, Flaw::Group(_)), "{damage}");
    assert_eq!(recover(&[]).expect_err("nothing").flaw, Flaw::Missing);
}

#[test]
#[should_panic(expected = "does not follow the end of the log")]
fn a_role_that_breaks_its_invariant_is_stopped_before_the_disk() {
    let mut world = World::new(12);
    let record = AcceptRecord { slot: Slot(5), chosen: Slot(0), entry: Bytes::new() };
    let _ = world.appender.push(GROUPS[0], &Record::Accept(record));
}
