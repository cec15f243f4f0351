//! The log on real files.
#![allow(clippy::unwrap_used)]

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use crossbeam_channel::{Receiver, bounded, unbounded};
use drachma_protocol::ids::{Ballot, ClusterId, GroupId, NodeId, ReplicaId, Slot};
use drachma_protocol::log::record::{AcceptRecord, LearnRecord, Record, Recovered, SynchroniseRecord};
use drachma_protocol::log::recover::Flaw;
use drachma_protocol::log::segment::HEADER;
use drachma_protocol::role::Token;
use drachma_protocol::time::Span;

use super::{Full, Identity, LogEvent, LogHandle, Opened, StorageError, format, open};
use crate::config::{Fsync, StorageConfig};

pub(super) const CLUSTER: ClusterId = ClusterId(42);
const NODE: NodeId = NodeId(1);
pub(super) const G1: GroupId = GroupId(1);
pub(super) const G2: GroupId = GroupId(2);
pub(super) const CONFIG: StorageConfig =
    StorageConfig { fsync: Fsync::Always, segment_bytes: 1 << 20, snapshot_every_bytes: u64::MAX };

/// A directory that goes away with the test.
pub(super) struct Directory(pub(super) PathBuf);

impl Directory {
    pub(super) fn new() -> Directory {
        static COUNT: AtomicU64 = AtomicU64::new(0);
        let name = format!("drachma-log-{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        Directory(std::env::temp_dir().join(name))
    }

    pub(super) fn formatted() -> Directory {
        let directory = Directory::new();
        format(&directory.0, &identity(), &[G1, G2]).unwrap();
        directory
    }

    pub(super) fn segment(&self, number: u32) -> PathBuf {
        self.0.join(format!("log/{number:08}.log"))
    }

    pub(super) fn open(&self) -> Result<Opened, StorageError> {
        self.open_with(CONFIG)
    }

    pub(super) fn open_with(&self, config: StorageConfig) -> Result<Opened, StorageError> {
        open(&self.0, CLUSTER, NODE, &[G2, G1], config)
    }

    pub(super) fn refusal(&self) -> StorageError {
        self.open().map(|_| ()).expect_err("to be refused")
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn identity() -> Identity {
    Identity { cluster: CLUSTER, node: NODE, shape: "g1: n1 n2 n3\n".into() }
}

/// A running log and what it tells.
pub(super) struct Log {
    pub(super) handle: LogHandle,
    events: Receiver<LogEvent>,
    token: u64,
    persisted: RefCell<BTreeMap<GroupId, Token>>,
    /// Who was asked for a snapshot.
    pub(super) due: RefCell<Vec<GroupId>>,
}

impl Log {
    pub(super) fn start(opened: Opened) -> Log {
        let (send, events) = unbounded();
        let handle = opened.log.start(Arc::new(move |event| send.send(event).unwrap()));
        Log { handle, events, token: 0, persisted: RefCell::default(), due: RefCell::default() }
    }

    pub(super) fn event(&self) -> LogEvent {
        let event = self.events.recv_timeout(Duration::from_secs(30)).expect("the log answers");
        if let LogEvent::Persisted(group, token) = event {
            let before = self.persisted.borrow_mut().insert(group, token);
            assert!(before < Some(token), "tokens of {group} are confirmed in their order");
        }
        if let LogEvent::SnapshotDue(group) = event {
            self.due.borrow_mut().push(group);
        }
        event
    }

    pub(super) fn send(&mut self, group: GroupId, records: Vec<Record>) -> Token {
        self.token += 1;
        self.handle.append(group, Token(self.token), records).unwrap();
        Token(self.token)
    }

    /// Appends and waits until it is persisted.
    pub(super) fn append(&mut self, group: GroupId, records: Vec<Record>) {
        let token = self.send(group, records);
        self.wait(group, token);
    }

    pub(super) fn wait(&self, group: GroupId, wanted: Token) {
        while self.persisted.borrow().get(&group) < Some(&wanted) {
            self.event();
        }
    }

    pub(super) fn fetch(&self, group: GroupId, from: u64, until: u64, bytes: usize) -> Vec<Bytes> {
        self.handle.fetch(group, Slot(from), Slot(until), bytes);
        loop {
            if let LogEvent::Fetched(of, start, entries) = self.event() {
                assert_eq!((of, start), (group, Slot(from)));
                return entries;
            }
        }
    }

    pub(super) fn counter(&self, name: &str) -> u64 {
        self.handle.counters().into_iter().find(|(other, _)| *other == name).unwrap().1
    }
}

pub(super) fn ballot(round: u64) -> Ballot {
    Ballot { round, replica: ReplicaId(1) }
}

pub(super) fn accept(slot: u64, chosen: u64, entry: &[u8]) -> Record {
    Record::Accept(AcceptRecord { slot: Slot(slot), chosen: Slot(chosen), entry: Bytes::copy_from_slice(entry) })
}

fn synchronise(round: u64, from: u64, entries: &[&'static [u8]], chosen: u64) -> Record {
    let entries = entries.iter().map(|entry| Bytes::from_static(entry)).collect();
    Record::Synchronise(SynchroniseRecord { ballot: ballot(round), from: Slot(from), entries, chosen: Slot(chosen) })
}

pub(super) fn flip(path: &Path, at: u64) {
    let file = fs::OpenOptions::new().read(true).write(true).open(path).unwrap();
    let mut byte = [0];
    file.read_exact_at(&mut byte, at).unwrap();
    file.write_all_at(&[byte[0] ^ 0x20], at).unwrap();
}

/// Where the records of a segment end.
fn end_of(path: &Path) -> u64 {
    let bytes = fs::read(path).unwrap();
    bytes.iter().rposition(|byte| *byte != 0).unwrap() as u64 + 1
}

#[test]
fn what_was_persisted_comes_back_after_a_crash_and_after_a_clean_stop() {
    let directory = Directory::formatted();
    for (round, clean) in [(1, false), (2, true), (3, false)] {
        let opened = directory.open().unwrap();
        assert_eq!(opened.shape, identity().shape);
        let length = 10 * (round - 1);
        let mut log = Log::start(opened);
        log.append(G1, vec![Record::Promise(ballot(round)), synchronise(round, length, &[], 0)]);
        for slot in length..length + 10 {
            log.send(G1, vec![accept(slot, slot, format!("entry {slot}").as_bytes())]);
        }
        log.append(G2, vec![Record::Promise(ballot(round + 5))]);
        log.wait(G1, Token(log.token - 1));
        let entries = log.fetch(G1, 0, 100, usize::MAX);
        let expected: Vec<String> = (0..length + 10).map(|slot| format!("entry {slot}")).collect();
        assert_eq!(entries, expected);
        if clean {
            log.handle.close()
        } else {
            log.handle.crash()
        }

        let opened = directory.open().unwrap();
        let last = length + 9;
        let tail = vec![Bytes::from(format!("entry {last}"))];
        let (promise, accepted, chosen) = (ballot(round), ballot(round), Slot(last));
        let recovered = Recovered { start: Slot(0), promise, accepted, chosen, tail, doubtful: false };
        assert_eq!(opened.groups[&G1], recovered);
        assert_eq!(opened.groups[&G2], Recovered { promise: ballot(round + 5), ..Recovered::default() });
    }
}

#[test]
fn formatting_is_done_once_and_draws_another_id_each_time() {
    let one = Directory::new();
    fs::create_dir(&one.0).unwrap();
    let first = format(&one.0, &identity(), &[G1]).unwrap();
    let error = format(&one.0, &identity(), &[G1]).unwrap_err();
    assert!(matches!(error, StorageError::AlreadyFormatted { node: NODE, cluster: CLUSTER, .. }), "{error}");
    let other = Directory::new();
    assert_ne!(format(&other.0, &identity(), &[G1]).unwrap(), first);
    assert_eq!(open(&one.0, CLUSTER, NODE, &[G1], CONFIG).unwrap().directory, first);
    let full = Directory::new();
    fs::create_dir(&full.0).unwrap();
    fs::write(full.0.join("something"), "").unwrap();
    assert!(matches!(format(&full.0, &identity(), &[G1]), Err(StorageError::NotEmpty { .. })));
    assert_eq!(fs::read_dir(&full.0).unwrap().count(), 1);
}

#[test]
fn a_directory_that_is_not_this_nodes_is_refused_and_told_why() {
    let missing = Directory::new();
    assert!(matches!(missing.refusal(), StorageError::Missing { .. }));
    fs::create_dir(&missing.0).unwrap();
    let empty = missing.refusal();
    assert!(matches!(empty, StorageError::NotFormatted { .. }) && empty.to_string().contains("--format"), "{empty}");
    fs::write(missing.0.join("thesis.tex"), "").unwrap();
    assert!(matches!(missing.refusal(), StorageError::Stranger { .. }));

    let directory = Directory::formatted();
    let open = |cluster, node, groups: &[GroupId]| open(&directory.0, cluster, node, groups, CONFIG).map(|_| ());
    let error = open(ClusterId(43), NODE, &[G1, G2]).unwrap_err();
    assert!(matches!(&error, StorageError::OtherCluster { shape, .. } if *shape == identity().shape), "{error}");
    let error = open(CLUSTER, NodeId(9), &[G1, G2]).unwrap_err();
    assert!(matches!(error, StorageError::OtherNode { found: NODE, .. }), "{error}");
    let error = open(CLUSTER, NODE, &[G1]).unwrap_err();
    assert!(error.to_string().contains("holds g1 g2, not g1;"), "{error}");
    flip(&directory.0.join("identity"), 200);
    assert!(matches!(directory.refusal(), StorageError::BadIdentity { .. }));
}

#[test]
fn the_segments_of_another_directory_are_refused() {
    let (one, other) = (Directory::formatted(), Directory::formatted());
    fs::copy(one.segment(1), other.segment(1)).unwrap();
    let error = other.refusal();
    assert!(matches!(&error, StorageError::Damaged { what: Flaw::Foreign(_), .. }), "{error}");
}

#[test]
fn a_directory_in_use_is_refused_until_its_log_has_ended() {
    let directory = Directory::formatted();
    let log = Log::start(directory.open().unwrap());
    let error = directory.refusal();
    let pid = std::process::id().to_string();
    assert!(matches!(&error, StorageError::InUse { holder, .. } if *holder == pid), "{error}");
    log.handle.close();
    assert!(directory.open().is_ok());
}

#[test]
fn a_flipped_byte_of_a_synced_record_is_refused_with_file_and_offset() {
    let directory = Directory::formatted();
    let mut log = Log::start(directory.open().unwrap());
    for slot in 0..5 {
        log.append(G1, vec![accept(slot, slot, b"some entry")]);
    }
    log.handle.crash();
    flip(&directory.segment(1), u64::from(HEADER) + 50);
    match directory.refusal() {
        StorageError::Damaged { path, offset, what: Flaw::Record } => {
            assert_eq!((path, offset), (directory.segment(1), u64::from(HEADER)));
        }
        error => panic!("{error}"),
    }
    assert!(directory.refusal().to_string().contains("never read past damage"));
}

#[test]
fn truncated_and_missing_segments_are_refused() {
    let directory = Directory::formatted();
    let file = fs::OpenOptions::new().write(true).open(directory.segment(1)).unwrap();
    for length in [3 << 20, 4096, 100, 0] {
        file.set_len(length).unwrap();
        assert!(matches!(directory.refusal(), StorageError::Damaged { .. }), "cut to {length}");
    }
    fs::remove_file(directory.segment(1)).unwrap();
    assert!(matches!(directory.refusal(), StorageError::Damaged { what: Flaw::Missing, .. }));
}

/// Hazard S28.
#[test]
fn a_torn_end_is_doubtful_over_restarts_until_a_synchronisation() {
    let directory = Directory::formatted();
    let mut log = Log::start(directory.open().unwrap());
    log.append(G1, vec![Record::Promise(ballot(3)), synchronise(3, 0, &[b"a", b"b"], 1)]);
    log.append(G2, vec![synchronise(4, 0, &[b"x"], 0)]);
    log.append(G1, vec![accept(2, 1, b"c")]);
    log.handle.crash();
    flip(&directory.segment(1), end_of(&directory.segment(1)) - 1);
    for _ in 0..3 {
        let opened = directory.open().unwrap();
        assert!(opened.groups.values().all(|group| group.doubtful));
        assert_eq!(opened.groups[&G1].tail, ["b"]);
    }
    let mut log = Log::start(directory.open().unwrap());
    assert_eq!(log.fetch(G1, 0, 9, 1000), ["a", "b"]);
    log.append(G2, vec![accept(1, 0, b"y")]);
    log.append(G1, vec![synchronise(5, 1, &[b"b", b"d"], 1)]);
    assert_eq!(log.fetch(G1, 0, 9, 1000), ["a", "b", "d"]);
    log.handle.close();
    let opened = directory.open().unwrap();
    assert_eq!((opened.groups[&G1].doubtful, opened.groups[&G2].doubtful), (false, true));
    assert_eq!(
        (opened.groups[&G1].accepted, &opened.groups[&G1].tail[..]),
        (ballot(5), &["b", "d"].map(Bytes::from)[..])
    );
}

/// Hazard S27: a promise that the log has lost is still known, also one that came with a synchronisation.
#[test]
fn a_promise_outlives_the_doubtful_end_that_had_it() {
    let directory = Directory::formatted();
    let mut log = Log::start(directory.open().unwrap());
    log.append(G1, vec![Record::Promise(ballot(3))]);
    log.append(G2, vec![synchronise(8, 0, &[], 0)]);
    log.handle.crash();
    // Both records: the first to go takes the second with it.
    flip(&directory.segment(1), u64::from(HEADER) + 4);
    let bytes = fs::read(directory.segment(1)).unwrap();
    let length = u32::from_be_bytes(bytes[HEADER as usize + 4..][..4].try_into().unwrap()) ^ 0x2000_0000;
    flip(&directory.segment(1), u64::from(HEADER + length) + 12);
    let opened = directory.open().unwrap();
    assert_eq!((opened.groups[&G1].promise, opened.groups[&G1].doubtful), (ballot(3), true));
    assert_eq!((opened.groups[&G2].promise, opened.groups[&G2].doubtful), (ballot(8), true));
}

/// Hazard S27.
#[test]
fn a_replica_that_may_have_lost_both_copies_of_a_promise_is_refused() {
    let directory = Directory::formatted();
    let mut log = Log::start(directory.open().unwrap());
    log.append(G1, vec![Record::Promise(ballot(3))]);
    log.handle.crash();
    // With an intact log a damaged slot is mended, and one of an interrupted write is written on.
    for at in [20, 4096 + 20] {
        flip(&directory.0.join("promises/g1"), at);
        assert_eq!(directory.open().unwrap().groups[&G1].promise, ballot(3));
    }
    fs::remove_file(directory.0.join("promises/g1")).unwrap();
    assert_eq!(directory.open().unwrap().groups[&G1].promise, ballot(3));
    flip(&directory.0.join("promises/g1"), 4096 + 20);
    flip(&directory.segment(1), end_of(&directory.segment(1)) - 1);
    for _ in 0..2 {
        assert!(matches!(directory.refusal(), StorageError::PromisesLost { group: G1, .. }));
    }
}

#[test]
fn records_over_many_segments_come_back_and_a_large_one_gets_a_segment_that_fits() {
    let directory = Directory::formatted();
    let config = StorageConfig { segment_bytes: 64 << 10, ..CONFIG };
    let mut log = Log::start(directory.open_with(config).unwrap());
    let entry = |slot: u64| Bytes::from(vec![slot as u8; if slot == 40 { 6 << 20 } else { 30_000 }]);
    for slot in 0..180 {
        log.send(G1, vec![accept(slot, slot, &entry(slot))]);
        log.append(G2, vec![accept(slot, slot, &slot.to_be_bytes())]);
    }
    let learned = (170..173).map(entry).collect();
    // Learning what the log has already, then what it has not.
    log.append(G1, vec![Record::Learn(LearnRecord { start: Slot(179), entries: vec![entry(179)] })]);
    log.append(G1, vec![Record::Learn(LearnRecord { start: Slot(180), entries: learned })]);
    assert!(log.counter("log_segments") > 5);
    let check = |log: &Log| {
        for slot in [0, 39, 40, 41, 100, 179] {
            assert_eq!(log.fetch(G1, slot, slot + 1, 1), [entry(slot)], "slot {slot}");
        }
        assert_eq!(log.fetch(G1, 0, 20, 100_000), (0..3).map(entry).collect::<Vec<_>>());
        assert_eq!(log.fetch(G1, 178, 400, usize::MAX), [178, 179, 170, 171, 172].map(entry));
        assert_eq!(log.fetch(G1, 181, 183, usize::MAX), [171, 172].map(entry));
        assert_eq!(log.fetch(G1, 183, 400, usize::MAX), [] as [Bytes; 0]);
        let numbers: Vec<Vec<u8>> = (0..180u64).map(|slot| slot.to_be_bytes().to_vec()).collect();
        assert_eq!(log.fetch(G2, 0, 180, usize::MAX), numbers);
    };
    check(&log);
    log.handle.crash();
    assert!(fs::metadata(directory.segment(2)).unwrap().len() > 6 << 20);
    let log = Log::start(directory.open_with(config).unwrap());
    check(&log);
    log.handle.close();
    // Every segment but the last shows that it is missed.
    let count = fs::read_dir(directory.0.join("log")).unwrap().count() as u32;
    assert!(count > 5);
    fs::remove_file(directory.segment(3)).unwrap();
    assert!(matches!(directory.refusal(), StorageError::Damaged { what: Flaw::Missing, .. }));
}

#[test]
fn credit_is_used_up_and_given_back() {
    let directory = Directory::formatted();
    let (send, events) = unbounded();
    let (release, released) = bounded::<()>(0);
    let opened = directory.open().unwrap();
    // The thread waits in its first event for the test.
    let sink = move |event| {
        send.send(event).unwrap();
        let _ = released.recv();
    };
    let log = opened.log.start(Arc::new(sink));
    let all = log.credit();
    let large = |slot| vec![accept(slot, 0, &vec![7; 5 << 20])];
    log.append(G1, Token(1), vec![accept(0, 0, &vec![7; 20 << 20])]).unwrap();
    assert!(matches!(events.recv().unwrap(), LogEvent::Persisted(G1, Token(1))));
    assert_eq!(log.credit(), all, "a large request is admitted when there is no other, and its credit comes back");
    for slot in 1..=3 {
        log.append(G1, Token(1 + slot), large(slot)).unwrap();
    }
    assert!(log.credit() < 2 << 20);
    assert!(matches!(log.append(G1, Token(5), large(4)), Err(Full)));
    log.append(G2, Token(1), vec![accept(0, 0, b"a small one")]).unwrap();
    drop(release);
    let mut last = Token(0);
    while last < Token(4) {
        if let LogEvent::Persisted(G1, token) = events.recv().unwrap() {
            last = token;
        }
    }
    log.append(G1, Token(5), large(4)).unwrap();
    log.clone().close();
    assert_eq!(log.credit(), all);
    assert!(matches!(log.append(G1, Token(6), large(5)), Err(Full)), "a closed log refuses");
    assert_eq!(directory.open().unwrap().groups[&G1].tail.len(), 5);
}

#[test]
fn what_is_queued_is_synced_together_and_each_group_is_told_once_with_its_last_token() {
    let directory = Directory::formatted();
    let (send, events) = unbounded();
    let (release, released) = bounded::<()>(0);
    let sink = move |event| {
        send.send(event).unwrap();
        let _ = released.recv();
    };
    let log = directory.open().unwrap().log.start(Arc::new(sink));
    log.append(G1, Token(1), vec![accept(0, 0, b"first")]).unwrap();
    assert!(matches!(events.recv().unwrap(), LogEvent::Persisted(G1, Token(1))));
    for slot in 1..100 {
        log.append(G1, Token(slot + 1), vec![accept(slot, 0, b"more")]).unwrap();
        log.append(G2, Token(slot), vec![accept(slot - 1, 0, b"more")]).unwrap();
    }
    drop(release);
    log.clone().close();
    let rest: Vec<String> = events.try_iter().map(|event| format!("{event:?}")).collect();
    assert_eq!(rest, ["Persisted(g1, Token(100))", "Persisted(g2, Token(99))"].map(debug_names));
    let syncs = log.counters().into_iter().find(|(name, _)| *name == "log_syncs").unwrap().1;
    assert_eq!(syncs, 3, "one for the first, one for all others, one for the mark");
}

#[test]
fn a_fetch_finds_what_was_appended_before_it_however_much_is_queued() {
    let directory = Directory::formatted();
    let (send, events) = unbounded();
    let (release, released) = bounded::<()>(0);
    let sink = move |event| {
        send.send(event).unwrap();
        let _ = released.recv();
    };
    let log = directory.open().unwrap().log.start(Arc::new(sink));
    log.append(G1, Token(1), vec![accept(0, 0, b"first")]).unwrap();
    assert!(matches!(events.recv().unwrap(), LogEvent::Persisted(G1, Token(1))));
    // Several batches for each group are queued when the fetch comes.
    for slot in 1..20 {
        log.append(G2, Token(slot), vec![accept(slot - 1, 0, &vec![2; 300 << 10])]).unwrap();
        log.append(G1, Token(slot + 1), vec![accept(slot, 0, &vec![1; 300 << 10])]).unwrap();
    }
    log.fetch(G1, Slot(19), Slot(20), 1);
    drop(release);
    let found = events.iter().find_map(|event| match event {
        LogEvent::Fetched(group, slot, entries) => Some((group, slot, entries.len())),
        _ => None,
    });
    assert_eq!(found, Some((G1, Slot(19), 1)));
    log.close();
}

fn debug_names(text: &str) -> String {
    text.replace("g1", "GroupId(1)").replace("g2", "GroupId(2)")
}

/// Hazard S31.
#[test]
fn under_a_relaxed_policy_a_restarted_machine_counts_as_a_wiped_disk() {
    let never = StorageConfig { fsync: Fsync::Never, ..CONFIG };
    let interval = StorageConfig { fsync: Fsync::Interval(Span::from_millis(1)), ..CONFIG };
    for relaxed in [never, interval] {
        let directory = Directory::formatted();
        let mut log = Log::start(directory.open_with(relaxed).unwrap());
        log.append(G1, vec![Record::Promise(ballot(1)), accept(0, 0, b"a")]);
        log.handle.crash();
        // The process only: everything is there.
        assert_eq!(directory.open_with(relaxed).unwrap().groups[&G1].tail, ["a"]);
        let log = Log::start(directory.open_with(relaxed).unwrap());
        log.handle.close();
        assert!(!directory.0.join("boot").exists(), "a clean stop has synced everything");
        let log = Log::start(directory.open_with(relaxed).unwrap());
        log.handle.crash();
        fs::write(directory.0.join("boot"), "another boot").unwrap();
        for config in [CONFIG, relaxed] {
            assert!(matches!(directory.open_with(config), Err(StorageError::LostWrites { .. })));
        }
    }
}

#[test]
fn an_interval_is_synced_without_further_work() {
    let directory = Directory::formatted();
    let config = StorageConfig { fsync: Fsync::Interval(Span::from_millis(2)), ..CONFIG };
    let mut log = Log::start(directory.open_with(config).unwrap());
    log.append(G1, vec![accept(0, 0, b"a")]);
    let begun = std::time::Instant::now();
    while log.counter("log_syncs") == 0 {
        assert!(begun.elapsed() < Duration::from_secs(30), "no sync after the interval");
        std::thread::yield_now();
    }
    log.handle.close();
}

/// The other half of the test below, in a process of its own.
#[test]
#[ignore = "run by the test of a damaged entry"]
fn child_that_fetches_a_damaged_entry() {
    let Ok(path) = std::env::var("DRACHMA_TEST_DIRECTORY") else { return };
    let mut log = Log::start(open(Path::new(&path), CLUSTER, NODE, &[G1, G2], CONFIG).unwrap());
    log.append(G1, vec![accept(0, 0, b"an entry"), accept(1, 1, b"another")]);
    flip(&Path::new(&path).join("log/00000001.log"), u64::from(HEADER) + 45);
    log.fetch(G1, 0, 1, 100);
    unreachable!("a damaged entry is never handed out");
}

#[test]
fn a_disk_that_hands_back_something_else_stops_the_node() {
    let directory = Directory::formatted();
    let status = std::process::Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "storage::tests::child_that_fetches_a_damaged_entry", "--ignored", "--nocapture"])
        .env("DRACHMA_TEST_DIRECTORY", &directory.0)
        .stdout(std::process::Stdio::null())
        .stderr(std::process::Stdio::null())
        .status()
        .unwrap();
    assert_eq!(status.code(), Some(74));
}
