//! The bytes on disk: recovery from segments, and the second copy of promises.

use std::collections::BTreeMap;

use bytes::Bytes;
use drachma_protocol::ids::{Ballot, ClusterId, DirectoryId, GroupId, NodeId, ReplicaId};
use drachma_protocol::log::index::Position;
use drachma_protocol::log::promise::{FILE, PromiseSlots, SECOND, SLOT};
use drachma_protocol::log::record::{AcceptRecord, LearnRecord, Record, Recovered, SynchroniseRecord};
use drachma_protocol::log::recover::{Damage, Recoverer, Recovery};
use drachma_protocol::log::segment::{self, HEADER, Owner};
use drachma_protocol::log::state::GroupLog;
use drachma_protocol::log::writer::Appender;
use drachma_protocol::message::operator::Nothing;

use crate::draw::Draw;

const OWNER: Owner = Owner { cluster: ClusterId(11), node: NodeId(2), directory: DirectoryId(33) };
const GROUPS: [GroupId; 2] = [GroupId(1), GroupId(2)];
/// Small, so that logs have several.
const SEGMENT: u32 = HEADER + 700;

/// Recovery: of arbitrary bytes; of a good log that was damaged; of the promises' file. It never panics, and what it
/// accepts is a state that the log went through. If records are lacking that were synced, either it says that the end
/// is doubtful, or nothing that is left of the log shows that they ever were.
pub fn log_recovery(data: &[u8]) {
    let mut draw = Draw::new(data);
    match draw.below(4) {
        0 => arbitrary_segments(draw),
        1 => promises(draw),
        _ => damaged_log(draw),
    }
}

fn recover(disk: &[Vec<u8>]) -> Result<Recovery, Damage> {
    let mut recoverer = Recoverer::new(OWNER, &GROUPS);
    for (index, segment) in disk.iter().enumerate() {
        recoverer.segment(index as u32 + 1, segment)?;
    }
    recoverer.finish()
}

/// Segments with a header that may be good, and any bytes in place of records.
fn arbitrary_segments(mut draw: Draw<'_>) {
    let header = draw.below(4);
    let size = usize::from(draw.byte()) * 8;
    let rest = draw.rest();
    let segment = |(index, bytes): (usize, &[u8])| {
        let size = HEADER + bytes.len() as u32;
        let mut all = Appender::first_header(OWNER, size).encode();
        if header == 0 || (header == 1 && index > 0) {
            all.truncate(usize::from(header));
        }
        all.extend_from_slice(bytes);
        all
    };
    let disk: Vec<Vec<u8>> = rest.chunks(size.max(1)).take(8).enumerate().map(segment).collect();
    if let Ok(recovery) = recover(&disk) {
        go_on(recovery, disk);
    }
}

/// What was recovered can be gone on with, and is recovered again.
fn go_on(recovery: Recovery, mut disk: Vec<Vec<u8>>) {
    let before = states(&recovery.appender);
    let mut log =
        Log { appender: recovery.appender, written: Vec::new(), states: Vec::new(), synced: 0, disk: Vec::new() };
    disk.truncate(log.appender.position().segment as usize);
    log.disk = disk;
    log.push(GROUPS[0], &Record::Promise(Ballot { round: u64::MAX, replica: ReplicaId(9) }));
    log.sync();
    let again = states(&recover(&log.disk).expect("a log that goes on is whole").appender);
    assert_eq!(before[&GROUPS[1]], again[&GROUPS[1]], "nothing was lost by going on");
    assert_eq!(again[&GROUPS[0]].promise.round, u64::MAX, "what was added is there");
}

/// Every group's state.
type States = BTreeMap<GroupId, Recovered>;

fn states(appender: &Appender) -> States {
    appender.groups().iter().map(|(group, state)| (*group, state.recovered())).collect()
}

/// A record's place, and how many records had been synced when it was written.
#[derive(Clone, Copy)]
struct Written {
    from: Position,
    end: u32,
    synced: u64,
}

/// A log on a disk in memory, with the states that it went through.
struct Log {
    disk: Vec<Vec<u8>>,
    appender: Appender,
    written: Vec<Written>,
    /// After 0, 1, 2, ... records.
    states: Vec<States>,
    synced: u64,
}

impl Log {
    fn new() -> Log {
        let mut disk = vec![vec![0; SEGMENT as usize]];
        disk[0][..HEADER as usize].copy_from_slice(&Appender::first_header(OWNER, SEGMENT).encode());
        let appender = recover(&disk).expect("a new log is whole").appender;
        let states = vec![states(&appender)];
        Log { disk, appender, written: Vec::new(), states, synced: 0 }
    }

    fn note(&mut self, from: Position) {
        self.written.push(Written { from, end: self.appender.position().offset, synced: self.synced });
        self.states.push(states(&self.appender));
    }

    fn push(&mut self, group: GroupId, record: &Record) {
        let mut from = self.appender.position();
        while let Err(no_room) = self.appender.push(group, record) {
            self.roll(no_room.size);
            from = self.appender.position();
        }
        self.note(from);
    }

    fn roll(&mut self, least: u32) {
        if !self.appender.is_ended() {
            let from = self.appender.position();
            self.appender.end_segment();
            self.note(from);
        }
        self.sync();
        let header = self.appender.begin_segment(least.max(SEGMENT));
        let mut segment = header.encode();
        segment.resize(header.size as usize, 0);
        self.disk.push(segment);
        let mut from = Position { segment: header.segment, offset: HEADER };
        for _ in GROUPS {
            let pending = self.appender.pending();
            let bytes = &pending.bytes[(from.offset - HEADER) as usize..];
            let length = segment::claimed_length(bytes).expect("a base of each group is pending");
            let end = from.offset + length;
            self.written.push(Written { from, end, synced: self.synced });
            self.states.push(states(&self.appender));
            from.offset = end;
        }
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
        self.synced = self.appender.sequence();
    }
}

/// A record that can follow what the group has.
fn record(draw: &mut Draw<'_>, log: &GroupLog) -> Record {
    let state = log.recovered();
    let tail = state.tail.len() as u8;
    let ballot = Ballot { round: u64::from(draw.below(9)), replica: ReplicaId(u32::from(draw.below(3))) };
    match draw.below(9) {
        8 => Record::Snapshot(state.start.max(state.chosen).plus(usize::from(draw.below(tail.saturating_add(3))))),
        0 => Record::Promise(ballot),
        1 | 2 => {
            let from = state.chosen.plus(usize::from(draw.below(tail.saturating_add(1))));
            let entries: Vec<Bytes> = (0..draw.below(4)).map(|_| draw.bytes()).collect();
            let chosen = from.plus(usize::from(draw.below(entries.len() as u8 + 1)));
            Record::Synchronise(SynchroniseRecord { ballot, from, entries, chosen })
        }
        3 => {
            let mut entries: Vec<Bytes> = (0..draw.below(4)).map(|_| draw.bytes()).collect();
            // Mostly what the log has already.
            let own = usize::from(draw.below(5));
            entries.iter_mut().zip(&state.tail).take(own).for_each(|(entry, own)| *entry = own.clone());
            Record::Learn(LearnRecord { start: state.chosen, entries })
        }
        4 => Record::Chosen(state.chosen.plus(usize::from(draw.below(tail.saturating_add(1))))),
        5 => Record::Doubt(Nothing {}),
        _ => {
            let chosen = state.chosen.plus(usize::from(draw.below(tail.saturating_add(1))));
            Record::Accept(AcceptRecord { slot: log.len(), chosen, entry: draw.bytes() })
        }
    }
}

fn damaged_log(mut draw: Draw<'_>) {
    let mut log = Log::new();
    for _ in 0..draw.below(40) {
        let group = draw.pick(&GROUPS);
        let next = record(&mut draw, &log.appender.groups()[&group]);
        log.push(group, &next);
        if draw.once_in(3) {
            log.sync();
        }
    }
    if draw.once_in(4) && log.appender.push_closed().is_ok() {
        let Position { segment, offset } = log.appender.position();
        log.note(Position { segment, offset: offset - segment::HEAD });
    }
    log.write();
    let good = log.disk.clone();
    for _ in 0..draw.below(4) {
        damage(&mut draw, &mut log.disk);
    }
    let Ok(recovery) = recover(&log.disk) else {
        assert_ne!(good, log.disk, "a log that nothing has happened to is accepted");
        return;
    };
    judge(&log, &good, &recovery);
    let disk = std::mem::take(&mut log.disk);
    go_on(recovery, disk);
}

/// Something that happens to disks.
fn damage(draw: &mut Draw<'_>, disk: &mut Vec<Vec<u8>>) {
    let kind = draw.below(6);
    let index = usize::from(draw.byte()) % disk.len().max(1);
    let number = usize::from(draw.byte()) * 256 + usize::from(draw.byte());
    let length = usize::from(draw.byte()) + 1;
    let xor = draw.byte().max(1);
    let Some(segment) = disk.get_mut(index).filter(|segment| !segment.is_empty()) else { return };
    // Mostly among the records, since the header is a long row of zeros.
    let at = if number % 8 == 0 { number / 8 } else { HEADER as usize + number / 8 };
    let at = at % segment.len();
    let until = (at + length).min(segment.len());
    match kind {
        0 => segment[at] ^= xor,
        1 => segment[at..until].fill(0),
        2 => segment[at..].fill(0),
        3 => segment[at..until].fill(xor),
        4 => segment.truncate(at),
        _ => drop(disk.remove(index)),
    }
}

/// Whether what was accepted is what it must be.
fn judge(log: &Log, good: &[Vec<u8>], recovery: &Recovery) {
    let kept = recovery.appender.sequence();
    let strip = |states: &States| -> States {
        states.iter().map(|(group, state)| (*group, Recovered { doubtful: false, ..state.clone() })).collect()
    };
    let found = states(&recovery.appender);
    let expected = &log.states[kept as usize];
    assert_eq!(strip(&found), strip(expected), "what is recovered is what was written");
    let forgiven = |(found, expected): (&Recovered, &Recovered)| found.doubtful || !expected.doubtful;
    assert!(found.values().zip(expected.values()).all(forgiven), "doubt does not go away by itself");
    if recovery.doubtful.is_some() {
        assert!(found.values().all(|state| state.doubtful), "every group is told");
    }
    // A record that is as it was written, in a segment with its number, and says that more had been synced.
    let intact = |record: &&Written| {
        let bytes = |disk: &[Vec<u8>]| {
            let segment = disk.get(record.from.segment as usize - 1)?;
            segment.get(record.from.offset as usize..record.end as usize).map(<[u8]>::to_vec)
        };
        bytes(good).is_some_and(|was| bytes(&log.disk).as_ref() == Some(&was))
    };
    let proof = log.written.iter().skip(kept as usize).filter(intact).find(|record| record.synced > kept);
    assert!(proof.is_none(), "{kept} of {} records, though a later one shows that more were synced", log.synced);
}

/// The file of the promises: damage of one write leaves the promise before at least, and never shows a higher one than
/// was made.
fn promises(mut draw: Draw<'_>) {
    let ballot = |round: u8| Ballot { round: u64::from(round), replica: ReplicaId(u32::from(round.min(1))) };
    let (mut slots, mut file) = PromiseSlots::new(OWNER.directory, GROUPS[0]);
    let last = draw.below(5);
    for round in 1..=last {
        let (at, bytes) = slots.write(ballot(round));
        file[at..at + bytes.len()].copy_from_slice(&bytes);
    }
    let slot = draw.pick(&[0, SECOND]);
    for byte in &mut file[slot..slot + SLOT] {
        if draw.is_empty() {
            break;
        }
        *byte ^= draw.byte();
    }
    let mut read = PromiseSlots::decode(OWNER.directory, GROUPS[0], &file);
    let found = read.promise().expect("the other slot is whole");
    assert!(found <= ballot(last) && found >= ballot(last.saturating_sub(1)), "{found} after {last} promises");
    assert_eq!(read.is_whole(), read == slots, "a damaged slot is seen");
    let (at, bytes) = read.write(ballot(last + 1));
    file[at..at + bytes.len()].copy_from_slice(&bytes);
    assert_eq!(file.len(), FILE, "a slot is written in its place");
    let read = PromiseSlots::decode(OWNER.directory, GROUPS[0], &file);
    assert_eq!(read.promise(), Some(ballot(last + 1)), "the next promise is kept");
    PromiseSlots::decode(OWNER.directory, GROUPS[0], draw.rest());
}
