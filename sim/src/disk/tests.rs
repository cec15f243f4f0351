//! What the world may rely on.

use std::collections::BTreeSet;

use drachma_protocol::ids::{Ballot, ReplicaId};
use drachma_protocol::log::record::{AcceptRecord, LearnRecord, SynchroniseRecord};

use super::device::File;
use super::*;

const G: GroupId = GroupId(1);

fn disk() -> Disk {
    let mut disk = Disk::new(NodeId(1), DirectoryId(7), vec![G]);
    disk.start().unwrap();
    disk
}

fn ballot(round: u64) -> Ballot {
    Ballot { round, replica: ReplicaId(1) }
}

fn accept(slot: u64) -> Record {
    Record::Accept(AcceptRecord { slot: Slot(slot), chosen: Slot(0), entry: entry(slot) })
}

fn entry(number: u64) -> Bytes {
    Bytes::copy_from_slice(&number.to_be_bytes())
}

fn large(slot: u64) -> Record {
    Record::Accept(AcceptRecord { slot: Slot(slot), chosen: Slot(0), entry: vec![slot as u8 + 1; 3000].into() })
}

fn synchronise(round: u64, from: u64, entries: &[u64]) -> Record {
    let entries = entries.iter().copied().map(entry).collect();
    Record::Synchronise(SynchroniseRecord { ballot: ballot(round), from: Slot(from), entries, chosen: Slot(0) })
}

fn write(disk: &mut Disk, records: &[Record]) {
    disk.append(G, records).unwrap();
    disk.start_sync(u64::MAX).unwrap();
}

fn commit(disk: &mut Disk, records: &[Record]) {
    write(disk, records);
    disk.finish_sync();
}

fn restart(disk: &mut Disk, crash: Crash, seed: u64) -> Result<Recovered, Refusal> {
    disk.crash(crash, &mut Rng::new(seed));
    Ok(disk.start()?.remove(&G).unwrap())
}

const CLEAN: Crash = Crash::PowerLoss { torn: 0 };
const TORN: Crash = Crash::PowerLoss { torn: 1000 };

#[test]
fn a_power_loss_keeps_what_was_synced_and_perhaps_the_rest() {
    for crash in [Crash::Kill, CLEAN] {
        let mut kept = BTreeSet::new();
        for seed in 0..100 {
            let mut disk = disk();
            commit(&mut disk, &[Record::Promise(ballot(1)), accept(0)]);
            write(&mut disk, &[accept(1), accept(2)]);
            let recovered = restart(&mut disk, crash, seed).unwrap();
            assert_eq!((recovered.promise, recovered.doubtful), (ballot(1), false));
            kept.insert(recovered.tail.len());
        }
        assert_eq!(kept, [1, 3].into(), "{crash:?}");
    }
}

#[test]
fn a_torn_write_keeps_any_sectors_and_the_end_is_doubtful_until_a_synchronisation() {
    let (mut doubts, mut kept) = (0, BTreeSet::new());
    for seed in 0..200 {
        let mut disk = disk();
        commit(&mut disk, &[Record::Promise(ballot(1)), large(0)]);
        write(&mut disk, &[large(1), large(2), large(3)]);
        let recovered = restart(&mut disk, TORN, seed).unwrap();
        kept.insert(recovered.tail.len());
        if recovered.doubtful {
            doubts += 1;
            assert!(restart(&mut disk, Crash::Kill, seed).unwrap().doubtful, "doubt survives another crash");
            commit(&mut disk, &[synchronise(2, 0, &[7])]);
            let recovered = restart(&mut disk, CLEAN, seed).unwrap();
            assert_eq!((recovered.doubtful, recovered.accepted, recovered.tail), (false, ballot(2), vec![entry(7)]));
        }
    }
    assert!((50..200).contains(&doubts), "{doubts}");
    assert!(kept.len() > 2 && kept.first() == Some(&1) && kept.last() == Some(&4), "{kept:?}");
}

#[test]
fn what_a_killed_process_wrote_is_found_and_is_durable_from_then_on() {
    let mut found = 0;
    for seed in 0..100 {
        let mut disk = disk();
        write(&mut disk, &[accept(0)]);
        let recovered = restart(&mut disk, Crash::Kill, seed).unwrap();
        found += recovered.tail.len();
        assert_eq!(restart(&mut disk, TORN, seed).unwrap(), recovered);
    }
    assert!((20..100).contains(&found), "{found}");
}

/// Hazard S29: after a sync that failed the cache is clean and the disk has something else.
#[test]
fn what_is_found_after_a_failed_sync_is_durable_from_then_on() {
    let mut found = BTreeSet::new();
    for seed in 0..300 {
        let mut disk = disk();
        commit(&mut disk, &[Record::Promise(ballot(1))]);
        for slot in 0..seed % 25 {
            commit(&mut disk, &[large(slot)]);
        }
        disk.device_mut().expect(Trouble::FailedSync((seed % 3) as u32));
        let more: Vec<Record> = (seed % 25..seed % 25 + 3).map(large).collect();
        disk.append(G, &[&more[..], &[Record::Promise(ballot(2))]].concat()).unwrap();
        let failed = disk.start_sync(u64::MAX).is_err();
        if !failed {
            disk.finish_sync();
        }
        let recovered = restart(&mut disk, Crash::Kill, seed).unwrap();
        found.insert((failed, recovered.tail.len() as u64 > seed % 25));
        let again = restart(&mut disk, TORN, seed).unwrap();
        assert_eq!(again, recovered, "seed {seed}");
        commit(&mut disk, &[accept(recovered.chosen.plus(recovered.tail.len()).0)]);
        restart(&mut disk, TORN, seed).unwrap();
    }
    assert!(found.contains(&(true, true)) && found.contains(&(false, true)), "{found:?}");
}

#[test]
#[should_panic(expected = "a disk that has failed once is asked again")]
fn a_disk_that_has_failed_is_not_asked_again() {
    let mut disk = disk();
    disk.device_mut().expect(Trouble::FailedSync(0));
    disk.append(G, &[accept(0)]).unwrap();
    disk.start_sync(u64::MAX).unwrap_err();
    let _ = disk.start_sync(u64::MAX);
}

#[test]
fn a_full_disk_refuses_the_next_segment_and_nothing_is_lost() {
    let mut disk = disk();
    disk.device_mut().expect(Trouble::Full);
    let mut slot = 0;
    let refusal = loop {
        disk.append(G, &[large(slot)]).unwrap();
        match disk.start_sync(u64::MAX) {
            Ok(_) => disk.finish_sync(),
            Err(refusal) => break refusal,
        }
        slot += 1;
    };
    assert!(refusal.to_string().contains("no space"), "{refusal}");
    assert!(slot > 10);
    disk.crash(Crash::Kill, &mut Rng::new(1));
    disk.device_mut().relieve();
    assert_eq!(disk.start().unwrap()[&G].tail.len() as u64, slot);
}

#[test]
fn the_log_goes_over_many_segments_and_comes_back() {
    let mut disk = disk();
    for slot in 0..100 {
        commit(&mut disk, &[large(slot), Record::Chosen(Slot(slot))]);
    }
    assert!(disk.device().files().len() > 5);
    let found = restart(&mut disk, TORN, 1).unwrap();
    assert_eq!((found.start, found.chosen, found.tail.len()), (Slot(0), Slot(99), 1));
    assert_eq!(disk.read(G, Slot(50), Slot(60), usize::MAX).unwrap().len(), 10);
}

#[test]
fn a_flipped_bit_is_seen_when_it_is_read_and_when_the_node_starts() {
    let mut disk = disk();
    commit(&mut disk, &[large(0), large(1)]);
    commit(&mut disk, &[large(2)]);
    disk.device_mut().expect(Trouble::Misread(100));
    assert!(matches!(disk.read(G, Slot(0), Slot(1), 9), Err(Refusal::Failed(_))));
    assert_eq!(restart(&mut disk, Crash::Kill, 1).unwrap().tail.len(), 3, "the disk has it right");
    let flipped = disk.device().bytes(File::Segment(1))[5000] ^ 1;
    disk.device_mut().damage(File::Segment(1), 5000, &[flipped]);
    assert!(matches!(restart(&mut disk, Crash::Kill, 1), Err(Refusal::Unusable(_))));
}

#[test]
fn a_wiped_disk_does_not_start_and_a_formatted_one_has_nothing() {
    let mut disk = disk();
    commit(&mut disk, &[accept(0)]);
    disk.crash(CLEAN, &mut Rng::new(1));
    disk.wipe();
    assert_eq!(disk.start(), Err(Refusal::NotFormatted));
    disk.format(DirectoryId(8));
    assert_eq!(disk.start().unwrap()[&G], Recovered::default());
}

#[test]
fn a_disk_that_forgets_what_it_acknowledged_is_noticed() {
    let mut disk = disk();
    commit(&mut disk, &[Record::Promise(ballot(3)), accept(0), accept(1)]);
    let length = disk.device().files()[0].1;
    let header = disk.device().bytes(File::Segment(1))[..4096].to_vec();
    disk.crash(Crash::Kill, &mut Rng::new(1));
    // The very last write, lost without a trace: nothing else can tell.
    disk.device_mut().damage(File::Segment(1), 0, &[header, vec![0; length - 4096]].concat());
    assert!(matches!(disk.start(), Err(Refusal::Broken(_))));
}

#[test]
fn learning_keeps_what_follows_only_if_it_agrees() {
    let learn = |entries: &[u64]| {
        let mut disk = disk();
        commit(&mut disk, &[accept(0), accept(1), accept(2)]);
        let entries = entries.iter().copied().map(entry).collect();
        commit(&mut disk, &[Record::Learn(LearnRecord { start: Slot(0), entries })]);
        disk.read(G, Slot(0), Slot(9), usize::MAX).unwrap()
    };
    assert_eq!(learn(&[0, 1]), [entry(0), entry(1), entry(2)]);
    assert_eq!(learn(&[0, 9]), [entry(0), entry(9)]);
    assert_eq!(learn(&[0, 1, 2, 3]), [entry(0), entry(1), entry(2), entry(3)]);
}

#[test]
fn records_that_do_not_follow_are_refused() {
    let mut disk = disk();
    disk.append(G, &[accept(0)]).unwrap();
    assert!(disk.append(G, &[accept(0)]).is_err());
    assert!(disk.append(G, &[Record::Chosen(Slot(2))]).is_err());
    disk.append(G, &[Record::Chosen(Slot(1))]).unwrap();
    assert!(disk.append(G, &[synchronise(1, 0, &[4])]).is_err(), "below what is chosen");
    disk.append(G, &[Record::Promise(ballot(3))]).unwrap();
    assert!(disk.append(G, &[synchronise(2, 1, &[4])]).is_err(), "under less than was promised");
}

#[test]
fn a_read_has_at_least_one_entry() {
    let mut disk = disk();
    commit(&mut disk, &[accept(0), accept(1), accept(2)]);
    assert_eq!(disk.read(G, Slot(1), Slot(3), 1).unwrap(), [entry(1)]);
    assert_eq!(disk.read(G, Slot(0), Slot(3), 16).unwrap(), [entry(0), entry(1)]);
    assert_eq!(disk.read(G, Slot(3), Slot(9), 16).unwrap(), Vec::<Bytes>::new());
}
