//! Snapshots on real files.
#![allow(clippy::unwrap_used)]

use std::fs;
use std::path::PathBuf;

use drachma_protocol::ids::{Epoch, GroupId, Slot};
use drachma_protocol::ledger::{Genesis, Ledger, Limits};
use drachma_protocol::log::device::SnapshotDevice;
use drachma_protocol::log::record::Record;
use drachma_protocol::log::snapshot::{HEADER, Loader, Name, Writer};
use drachma_protocol::message::command::{Content, Entry, LeaderStart};
use drachma_protocol::message::operator::Nothing;
use drachma_protocol::placement::map::{Mode, ShardMap};
use drachma_protocol::time::LogTime;
use drachma_protocol::wire::codec::to_vec;

use super::files::Layout;
use super::snapshot_files::SnapshotFiles;
use super::tests::{CLUSTER, CONFIG, Directory, G1, G2, Log, accept, ballot, flip};
use super::{LogEvent, StorageError, load};
use crate::config::StorageConfig;

fn genesis(accounts: u64) -> Genesis {
    let map = ShardMap { epoch: Epoch(1), mode: Mode::Hash(Nothing {}), owners: vec![G1] };
    Genesis { group: G1, map, accounts, initial_balance: 7, limits: Limits::default() }
}

/// An entry that changes the state.
fn entry(slot: u64) -> Vec<u8> {
    let content = Content::LeaderStart(LeaderStart { ballot: ballot(slot + 1), members: None });
    to_vec(&Entry { format: 1, time: LogTime(slot), wall: 0, content })
}

/// The state of G1 after so many entries.
fn ledger(accounts: u64, length: u64) -> Ledger {
    let mut ledger = Ledger::new(3, &genesis(accounts));
    for slot in 0..length {
        ledger.begin(Slot(slot), &entry(slot));
        while !ledger.apply(512, &mut Vec::new()) {}
    }
    ledger
}

fn name(slot: u64) -> Name {
    Name { cluster: CLUSTER, group: G1, slot: Slot(slot) }
}

impl Directory {
    fn snapshot(&self, slot: u64) -> PathBuf {
        self.0.join(format!("snapshots/g1-{slot}.snapshot"))
    }

    fn files(&self, directory: &str) -> Vec<String> {
        let entries = fs::read_dir(self.0.join(directory)).unwrap();
        let mut names: Vec<String> = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort_unstable();
        names
    }

    fn load(&self, accounts: u64, slot: u64) -> Result<Ledger, StorageError> {
        load(&self.0, name(slot), 11, &genesis(accounts))
    }
}

impl Log {
    /// Has a snapshot written and puts it on record.
    fn snapshot(&mut self, group: GroupId, ledger: &mut Ledger) {
        self.handle.snapshot(group, ledger.image());
        loop {
            if let LogEvent::Snapshotted { group: of, slot, .. } = self.event() {
                assert_eq!((of, slot), (group, ledger.applied()));
                return self.append(group, vec![Record::Snapshot(slot)]);
            }
        }
    }

    fn piece(&self, slot: u64, offset: u64) -> Option<bytes::Bytes> {
        self.handle.read_snapshot(G1, Slot(slot), offset);
        loop {
            if let LogEvent::SnapshotRead { group, slot: of, offset: at, piece } = self.event() {
                assert_eq!((group, of, at), (G1, Slot(slot), offset));
                return piece;
            }
        }
    }

    /// Appends entries of 16 KiB of a group: 250 fill the first segment, then 64 fill one. All are known to be chosen.
    fn fill(&mut self, group: GroupId, from: u64, until: u64) {
        for slot in from..until {
            self.send(group, vec![accept(slot, slot, &[7; 16 << 10])]);
        }
        self.append(group, vec![Record::Chosen(Slot(until))]);
    }
}

#[test]
fn a_snapshot_takes_the_place_of_the_log_before_it() {
    let directory = Directory::formatted();
    let mut log = Log::start(directory.open().unwrap());
    let (mut first, mut second) = (ledger(1000, 300), ledger(1000, 600));
    log.fill(G1, 0, 400);
    let before = log.counter("log_segments_used");
    log.snapshot(G1, &mut first);
    assert_eq!(directory.files("snapshots"), ["g1-300.snapshot"]);
    log.fill(G1, 400, 600);
    log.snapshot(G1, &mut second);
    assert_eq!(directory.files("snapshots"), ["g1-600.snapshot"], "the one before has gone");
    log.fill(G1, 600, 700);
    let after = log.counter("log_segments_used");
    assert!(before >= 4 && after <= 3, "{before} before, {after} after");
    assert!(!directory.segment(1).exists(), "segments that nobody needs have gone");
    let state = log.handle.snapshots()[0].1;
    let size = fs::metadata(directory.snapshot(600)).unwrap().len();
    assert_eq!((state.slot, state.bytes, state.written, state.writing), (Slot(600), size, 2, false));
    assert!(!state.took.is_zero());
    assert_eq!(log.fetch(G1, 600, 700, usize::MAX).len(), 100);
    log.handle.crash();

    let opened = directory.open().unwrap();
    let recovered = &opened.groups[&G1];
    assert_eq!((recovered.start, recovered.chosen), (Slot(600), Slot(700)));
    assert_eq!(directory.load(1000, 600).unwrap().totals(), second.totals());
    let mut log = Log::start(opened);
    assert_eq!(log.handle.snapshots()[0].1.bytes, size, "known from the disk");
    assert_eq!(log.fetch(G1, 650, 700, usize::MAX).len(), 50);
    log.fill(G1, 700, 710);
    log.handle.close();
}

#[test]
fn a_group_that_is_far_behind_keeps_what_it_needs_and_no_more() {
    let directory = Directory::formatted();
    let mut log = Log::start(directory.open().unwrap());
    log.fill(G2, 0, 3);
    log.fill(G1, 0, 600);
    log.snapshot(G1, &mut ledger(10, 600));
    log.fill(G1, 600, 700);
    assert!(directory.segment(1).exists(), "it has entries of g2, of which there is no snapshot");
    log.handle.crash();
    let opened = directory.open().unwrap();
    assert_eq!((opened.groups[&G2].chosen, opened.groups[&G1].start), (Slot(3), Slot(600)));
    let log = Log::start(opened);
    assert_eq!(log.fetch(G2, 0, 3, usize::MAX).len(), 3);
}

#[test]
fn a_quiet_group_is_asked_for_a_snapshot_when_the_log_is_long_for_its_sake() {
    let directory = Directory::formatted();
    let config = StorageConfig { snapshot_every_bytes: 1 << 20, ..CONFIG };
    let mut log = Log::start(directory.open_with(config).unwrap());
    log.fill(G2, 0, 3);
    log.fill(G1, 0, 200);
    assert!(log.due.borrow().is_empty(), "four segments of 1 MiB are enough for two groups");
    log.fill(G1, 200, 700);
    assert!(log.due.take().contains(&G1), "it is a busy one");
    log.snapshot(G1, &mut ledger(10, 690));
    log.due.take();
    log.fill(G1, 700, 800);
    let due = log.due.take();
    assert!(!due.is_empty() && due.iter().all(|group| *group == G2), "{due:?}");
    assert!(directory.segment(1).exists());
    log.snapshot(G2, &mut ledger(10, 3));
    log.fill(G1, 800, 870);
    assert!(log.due.take().is_empty() && !directory.segment(1).exists());
}

#[test]
fn what_a_crash_leaves_of_a_snapshot_is_removed() {
    let directory = Directory::formatted();
    let mut log = Log::start(directory.open().unwrap());
    log.fill(G1, 0, 20);
    log.snapshot(G1, &mut ledger(10, 10));
    log.handle.crash();
    // One that was not whole, one that was whole and not on record, and files of somebody else.
    let mut files = SnapshotFiles::new(Layout::new(&directory.0));
    let mut image = Writer::new(CLUSTER, G1, ledger(10, 15).image());
    files.begin_snapshot(G1).unwrap();
    files.append_snapshot(G1, &image.next_piece().unwrap()).unwrap();
    fs::copy(directory.snapshot(10), directory.snapshot(12)).unwrap();
    fs::write(directory.0.join("snapshots/g1-007.snapshot"), "").unwrap();
    fs::write(directory.0.join("snapshots/notes"), "").unwrap();
    assert_eq!(directory.files("snapshots").len(), 5);
    let opened = directory.open().unwrap();
    assert_eq!(directory.files("snapshots"), ["g1-007.snapshot", "g1-10.snapshot", "notes"]);
    assert_eq!(opened.groups[&G1].start, Slot(10));
    assert_eq!(directory.load(10, 10).unwrap().applied(), Slot(10));
}

#[test]
fn pieces_are_read_in_any_order_while_the_next_snapshot_is_written() {
    let directory = Directory::formatted();
    let mut log = Log::start(directory.open().unwrap());
    let (mut first, mut second) = (ledger(40_000, 20), ledger(40_000, 30));
    log.fill(G1, 0, 40);
    log.snapshot(G1, &mut first);
    log.handle.snapshot(G1, second.image());
    let mut loader = Loader::new(Slot(20), 5, &genesis(40_000), 8);
    let mut offsets = vec![HEADER];
    let loaded = loop {
        let piece = log.piece(20, loader.offset()).expect("it is there");
        if let Some(ledger) = loader.push(&piece).unwrap() {
            break ledger;
        }
        offsets.push(loader.offset());
    };
    assert_eq!(loaded.totals(), first.totals());
    assert!(offsets.len() > 3, "{offsets:?}");
    for offset in offsets.iter().rev() {
        assert!(log.piece(20, *offset).is_some(), "{offset}");
    }
    for (slot, offset) in [(20, 0), (20, HEADER + 1), (20, 1 << 40), (21, HEADER)] {
        assert_eq!(log.piece(slot, offset), None, "{slot} at {offset}");
    }
}

#[test]
fn a_log_that_is_closed_gives_up_the_snapshot_that_is_being_written() {
    let directory = Directory::formatted();
    let mut log = Log::start(directory.open().unwrap());
    log.fill(G1, 0, 20);
    let mut large = ledger(100_000, 20);
    log.handle.snapshot(G1, large.image());
    log.handle.close();
    let opened = directory.open().expect("nobody uses the directory any more");
    assert_eq!((opened.groups[&G1].start, directory.files("snapshots")), (Slot(0), Vec::new()));
}

#[test]
fn a_damaged_or_missing_snapshot_is_refused_with_file_and_offset() {
    let directory = Directory::formatted();
    let mut log = Log::start(directory.open().unwrap());
    log.fill(G1, 0, 20);
    log.snapshot(G1, &mut ledger(20_000, 20));
    log.handle.close();
    let path = directory.snapshot(20);
    let good = fs::read(&path).unwrap();
    for at in [0, 9, 20, 50, HEADER + 3, HEADER + 40, good.len() as u64 / 2, good.len() as u64 - 1] {
        flip(&path, at);
        let error = directory.load(20_000, 20).expect_err("it is damaged");
        let StorageError::SnapshotDamaged { path: file, offset, .. } = &error else { panic!("{error}") };
        assert!(*file == path && *offset <= at, "flipped at {at}: {error}");
        assert!(error.to_string().contains("Put back the file"), "{error}");
        flip(&path, at);
    }
    for cut in [0, 30, HEADER as usize, good.len() / 2, good.len() - 1] {
        fs::write(&path, &good[..cut]).unwrap();
        let error = directory.load(20_000, 20).expect_err("it is cut");
        assert!(
            matches!(&error, StorageError::SnapshotDamaged { offset, .. } if *offset <= cut as u64),
            "{cut}: {error}"
        );
    }
    fs::write(&path, &good).unwrap();
    assert!(directory.load(20_000, 20).is_ok());
    let other = Genesis { limits: Limits { waiting: 5, ..Limits::default() }, ..genesis(20_000) };
    let error = load(&directory.0, name(20), 11, &other).expect_err("of another cluster");
    assert!(matches!(error, StorageError::SnapshotUnusable { .. }), "{error}");
    fs::remove_file(&path).unwrap();
    let error = directory.refusal();
    assert!(matches!(&error, StorageError::SnapshotMissing { path: file, group: G1 } if *file == path), "{error}");
}
