//! What the roles have of the log thread.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

use crossbeam_channel::Sender;
use drachma_protocol::ids::{GroupId, Slot};
use drachma_protocol::ledger::image::Image;
use drachma_protocol::log::record::Record;
use drachma_protocol::role::Token;

use super::SnapshotState;
use super::snapshot_thread::SnapshotHandle;

/// So many bytes may be queued or on their way to the disk.
pub(super) const CREDIT: usize = 16 << 20;

/// Work for the log thread.
pub(super) enum Work {
    Append(Append),
    Fetch(Fetch),
    Close,
    /// Ends the thread like a crash, as far as the files are concerned.
    #[cfg(test)]
    Crash,
}

/// Records to be made durable.
pub(super) struct Append {
    pub(super) group: GroupId,
    pub(super) token: Token,
    pub(super) records: Vec<Record>,
    /// What was taken from the credit.
    pub(super) cost: usize,
}

/// Entries to be read.
pub(super) struct Fetch {
    pub(super) group: GroupId,
    pub(super) range: (Slot, Slot),
    pub(super) bytes: usize,
    /// The last append of the group that was queued before: it is written first.
    pub(super) after: Option<Token>,
}

/// Shared by the thread and its handles.
#[derive(Default)]
pub(super) struct Shared {
    outstanding: AtomicUsize,
    pub(super) counters: Counters,
    pub(super) syncs: Times,
}

/// The upper ends of the buckets of [`Times`], in microseconds.
const BOUNDS: [u64; 12] = [50, 100, 200, 400, 800, 1_600, 3_200, 6_400, 12_800, 51_200, 204_800, 1_638_400];

/// How long something took, counted by buckets.
#[derive(Default)]
pub(super) struct Times([AtomicU64; BOUNDS.len()]);

impl Times {
    /// Once more, so many microseconds; what is beyond the last bound is in no bucket.
    pub(super) fn add(&self, micros: u64) {
        if let Some(bucket) = BOUNDS.iter().position(|bound| micros <= *bound) {
            count(&self.0[bucket], 1);
        }
    }
}

/// What the thread has done.
#[derive(Default)]
pub(super) struct Counters {
    pub(super) syncs: AtomicU64,
    pub(super) sync_micros: AtomicU64,
    pub(super) records: AtomicU64,
    pub(super) bytes: AtomicU64,
    pub(super) segments: AtomicU64,
    /// How many there are; all others only grow.
    pub(super) segments_used: AtomicU64,
    pub(super) segment_micros: AtomicU64,
    pub(super) fetches: AtomicU64,
    pub(super) fetched_entries: AtomicU64,
    pub(super) refused: AtomicU64,
}

/// Adds to a counter; nothing is ordered by it.
pub(super) fn count(counter: &AtomicU64, by: u64) {
    counter.fetch_add(by, Ordering::Relaxed);
}

impl Shared {
    /// Takes credit; a request is always admitted when nothing is outstanding, however large.
    fn take(&self, cost: usize) -> bool {
        let take = |taken: usize| (taken == 0 || taken + cost <= CREDIT).then_some(taken + cost);
        self.outstanding.fetch_update(Ordering::Relaxed, Ordering::Relaxed, take).is_ok()
    }

    /// Gives credit back.
    pub(super) fn give(&self, cost: usize) {
        self.outstanding.fetch_sub(cost, Ordering::Relaxed);
    }
}

/// Gives work to the log thread and the snapshot thread. Cheap to clone, never blocks.
#[derive(Clone)]
pub struct LogHandle {
    pub(super) queue: Sender<Work>,
    pub(super) shared: Arc<Shared>,
    pub(super) snapshots: SnapshotHandle,
    pub(super) thread: Arc<Mutex<Option<JoinHandle<()>>>>,
}

/// The log's queue is full, or the log is closed: try later.
#[derive(Debug)]
pub struct Full;

impl LogHandle {
    /// Queues records of a group; `LogEvent::Persisted` follows. The tokens of a group must grow.
    ///
    /// # Errors
    /// If the byte credit is used up; nothing was queued.
    pub fn append(&self, group: GroupId, token: Token, records: Vec<Record>) -> Result<(), Full> {
        let cost = cost(&records);
        if !self.shared.take(cost) {
            count(&self.shared.counters.refused, 1);
            return Err(Full);
        }
        self.queue.send(Work::Append(Append { group, token, records, cost })).map_err(|_| {
            self.shared.give(cost);
            Full
        })
    }

    /// Asks for entries in `[from, until)`, about `bytes` of them; `LogEvent::Fetched` follows. What was appended
    /// before is found.
    pub fn fetch(&self, group: GroupId, from: Slot, until: Slot, bytes: usize) {
        // Once the log is closed nobody waits for an answer.
        let _ = self.queue.send(Work::Fetch(Fetch { group, range: (from, until), bytes, after: None }));
    }

    /// Has a snapshot written beside the log; `LogEvent::Snapshotted` follows. One of a group at a time.
    pub fn snapshot(&self, group: GroupId, image: Image) {
        self.snapshots.write(group, image);
    }

    /// Asks for the piece of a snapshot that stands at an offset; `LogEvent::SnapshotRead` follows, in the order of the
    /// questions. At most 16 of a group at once.
    pub fn read_snapshot(&self, group: GroupId, slot: Slot, offset: u64) {
        self.snapshots.read(group, slot, offset);
    }

    /// What is known of each group's snapshots.
    pub fn snapshots(&self) -> Vec<(GroupId, SnapshotState)> {
        self.snapshots.states()
    }

    /// Bytes that may still be queued. A request larger than that is refused, unless nothing else is outstanding.
    pub fn credit(&self) -> usize {
        CREDIT.saturating_sub(self.shared.outstanding.load(Ordering::Relaxed))
    }

    /// What the log has done since it was started, by name; times in microseconds. `log_segments_used` is how many there
    /// are now.
    pub fn counters(&self) -> Vec<(&'static str, u64)> {
        let counters = &self.shared.counters;
        let all = [
            ("log_syncs", &counters.syncs),
            ("log_sync_us", &counters.sync_micros),
            ("log_records", &counters.records),
            ("log_bytes", &counters.bytes),
            ("log_segments", &counters.segments),
            ("log_segments_used", &counters.segments_used),
            ("log_segment_us", &counters.segment_micros),
            ("log_fetches", &counters.fetches),
            ("log_fetched_entries", &counters.fetched_entries),
            ("log_refused", &counters.refused),
        ];
        all.into_iter().map(|(name, counter)| (name, counter.load(Ordering::Relaxed))).collect()
    }

    /// How long syncs took since the log was started: microseconds, and how many took up to that and no less than the
    /// bound before; what is missing to `log_syncs` took longer than all.
    pub fn sync_times(&self) -> Vec<(u64, u64)> {
        let counts = self.shared.syncs.0.iter().map(|count| count.load(Ordering::Relaxed));
        BOUNDS.into_iter().zip(counts).collect()
    }

    /// Gives up an unfinished snapshot, writes what is queued, marks the log as closed in order, and ends the threads. Afterwards every handle refuses.
    /// Not to be called from the sink, which runs on that thread.
    pub fn close(self) {
        self.snapshots.close();
        // If the thread has ended already, there is nothing left to write.
        let _ = self.queue.send(Work::Close);
        self.join();
    }

    /// Ends the thread without the mark.
    #[cfg(test)]
    pub(super) fn crash(self) {
        self.snapshots.close();
        let _ = self.queue.send(Work::Crash);
        self.join();
    }

    fn join(&self) {
        let thread = self.thread.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(thread) = thread {
            // A panic there has ended the process.
            let _ = thread.join();
        }
    }
}

/// About what records weigh, in memory and on disk; never nothing, so that the credit bounds their number, too.
fn cost(records: &[Record]) -> usize {
    const REQUEST: usize = 128;
    const ENTRY: usize = 64;
    let entries = |entries: &[bytes::Bytes]| entries.iter().map(|entry| ENTRY + entry.len()).sum::<usize>();
    let record = |record: &Record| match record {
        Record::Accept(accept) => ENTRY + accept.entry.len(),
        Record::Synchronise(synchronise) => ENTRY + entries(&synchronise.entries),
        Record::Learn(learn) => ENTRY + entries(&learn.entries),
        Record::Base(base) => ENTRY + entries(&base.tail),
        Record::Promise(_) | Record::Chosen(_) | Record::Doubt(_) | Record::Snapshot(_) => ENTRY,
    };
    REQUEST + records.iter().map(record).sum::<usize>()
}
