//! The log thread: gathers, writes, syncs, tells.

use std::collections::{BTreeMap, VecDeque};
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, RecvTimeoutError, unbounded};
use drachma_protocol::ids::GroupId;
use drachma_protocol::role::Token;

use super::handle::{Append, Fetch, LogHandle, Shared, Work, count};
use super::open::{self, LogFiles};
use super::snapshot_files::SnapshotFiles;
use super::snapshot_thread::{self, Sizes};
use super::{LogEvent, StorageError};
use crate::config::Fsync;

/// A sync takes about so many bytes, or one larger request: a batch client must not hold up the others.
const BATCH: usize = 1 << 20;

/// The exit status of a node whose disk has failed (EX_IOERR).
const EXIT_DISK: i32 = 74;

impl LogFiles {
    /// Starts the log thread, and the one for snapshots. `sink` is called on these threads for every event; it must not
    /// block. On a disk error they log it and end the process.
    pub fn start(mut self, sink: Arc<dyn Fn(LogEvent) + Send + Sync>) -> LogHandle {
        let (queue, work) = unbounded();
        // What opening did does not count.
        let shared = Arc::<Shared>::default();
        self.store.device_mut().shared = shared.clone();
        shared.counters.segments_used.store(self.store.segments().into(), Ordering::Relaxed);
        let files = SnapshotFiles::new(self.layout.clone());
        let found = std::mem::take(&mut self.snapshots);
        let snapshots = snapshot_thread::start(files, self.cluster, found, self.lock.clone(), sink.clone());
        let snapshots = snapshots.unwrap_or_else(|error| cannot_start("snapshot", &error));
        let thread = {
            let (shared, sizes) = (shared.clone(), snapshots.sizes());
            std::thread::Builder::new().name("log".into()).spawn(move || {
                let _guard = AbortOnPanic;
                if let Err(error) = LogThread::new(self, work, (shared, sizes), sink).and_then(LogThread::run) {
                    fail(&error);
                }
            })
        };
        let thread = thread.unwrap_or_else(|error| cannot_start("log", &error));
        LogHandle { queue, shared, snapshots, thread: Arc::new(Mutex::new(Some(thread))) }
    }
}

fn cannot_start(name: &str, error: &std::io::Error) -> ! {
    tracing::error!(%error, "the {name} thread cannot be started");
    std::process::exit(EXIT_DISK)
}

/// A disk that has failed once is not asked again: after a failed sync it may claim success and have nothing.
pub(super) fn fail(error: &StorageError) -> ! {
    tracing::error!(%error, "the disk has failed: this node stops");
    std::process::exit(EXIT_DISK)
}

/// A broken invariant ends the process also where panics unwind: without the log nothing is ever confirmed.
pub(super) struct AbortOnPanic;

impl Drop for AbortOnPanic {
    fn drop(&mut self) {
        if std::thread::panicking() {
            std::process::abort();
        }
    }
}

/// How the thread ends.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Ending {
    /// With a mark behind everything that was queued.
    InOrder,
    /// At once.
    Abrupt,
}

struct LogThread {
    files: LogFiles,
    work: Receiver<Work>,
    shared: Arc<Shared>,
    sizes: Sizes,
    sink: Arc<dyn Fn(LogEvent) + Send + Sync>,
    /// What is queued, by group; no queue is empty.
    queued: BTreeMap<GroupId, VecDeque<Append>>,
    fetches: VecDeque<Fetch>,
    /// The group that was served last.
    turn: GroupId,
    /// When what is written and not synced was first written.
    dirty: Option<Instant>,
    ending: Option<Ending>,
}

impl LogThread {
    fn new(
        mut files: LogFiles,
        work: Receiver<Work>,
        (shared, sizes): (Arc<Shared>, Sizes),
        sink: Arc<dyn Fn(LogEvent) + Send + Sync>,
    ) -> Result<LogThread, StorageError> {
        files.store.device_mut().start_preparer()?;
        Ok(LogThread {
            files,
            work,
            shared,
            sizes,
            sink,
            queued: BTreeMap::new(),
            fetches: VecDeque::new(),
            turn: GroupId(u16::MAX),
            dirty: None,
            ending: None,
        })
    }

    fn run(mut self) -> Result<(), StorageError> {
        loop {
            self.receive();
            if self.ending == Some(Ending::Abrupt) {
                return Ok(());
            }
            if !self.queued.is_empty() {
                self.commit()?;
            }
            self.sync_if_due()?;
            // One at a time: a replica that reads its whole log must not hold up the others' syncs.
            if let Some(fetch) = self.ready_fetch() {
                self.fetch(&fetch)?;
            }
            if self.ending.is_some() && self.queued.is_empty() && self.fetches.is_empty() {
                return self.close();
            }
        }
    }

    /// Takes everything that is there; waits if there is nothing to do.
    fn receive(&mut self) {
        if self.queued.is_empty() && self.fetches.is_empty() && self.ending.is_none() {
            match self.wait() {
                Ok(work) => self.take(work),
                Err(RecvTimeoutError::Timeout) => {}
                // Every handle is gone and nobody asked for the mark.
                Err(RecvTimeoutError::Disconnected) => self.ending = Some(Ending::Abrupt),
            }
        }
        while let Ok(work) = self.work.try_recv() {
            self.take(work);
        }
    }

    fn wait(&self) -> Result<Work, RecvTimeoutError> {
        match (self.files.fsync, self.dirty) {
            (Fsync::Interval(span), Some(since)) => self.work.recv_deadline(since + Duration::from_micros(span.0)),
            _ => self.work.recv().map_err(|_| RecvTimeoutError::Disconnected),
        }
    }

    fn take(&mut self, work: Work) {
        match work {
            Work::Append(append) => self.queued.entry(append.group).or_default().push_back(append),
            Work::Fetch(mut fetch) => {
                let queue = self.queued.get(&fetch.group);
                fetch.after = queue.and_then(|queue| queue.back()).map(|append| append.token);
                self.fetches.push_back(fetch);
            }
            Work::Close => self.ending = self.ending.or(Some(Ending::InOrder)),
            #[cfg(test)]
            Work::Crash => self.ending = Some(Ending::Abrupt),
        }
    }

    /// Makes one batch as durable as configured, and tells.
    fn commit(&mut self) -> Result<(), StorageError> {
        let mut tokens: BTreeMap<GroupId, Token> = BTreeMap::new();
        let mut cost = 0;
        let mut batch = 0;
        let segment = self.files.store.position().segment;
        while let Some(append) = self.next(batch) {
            batch += append.cost;
            cost += append.cost;
            count(&self.shared.counters.records, append.records.len() as u64);
            for record in &append.records {
                self.files.store.push(append.group, record)?;
            }
            let last = tokens.insert(append.group, append.token);
            assert!(last < Some(append.token), "the tokens of a group grow");
        }
        self.write()?;
        if self.files.fsync == Fsync::Always {
            self.sync()?;
        }
        self.files.store.keep_promises(self.files.fsync == Fsync::Always)?;
        self.files.store.prepare();
        let begun = self.files.store.position().segment - segment;
        count(&self.shared.counters.segments, u64::from(begun));
        self.shared.counters.segments_used.store(self.files.store.segments().into(), Ordering::Relaxed);
        self.shared.give(cost);
        for (group, token) in tokens {
            (self.sink)(LogEvent::Persisted(group, token));
        }
        if begun > 0 {
            self.shorten();
        }
        Ok(())
    }

    /// Asks the group for whose sake the oldest segment is kept for a snapshot, if the log is long. A busy group takes one
    /// in time; a quiet one would keep what the busy ones have written since its last entry.
    fn shorten(&self) {
        // A group has up to twice as much between two snapshots, and so may the others have meanwhile.
        let share = 2 * self.files.store.groups().len() as u64;
        let enough = |group| self.sizes.of(group).max(self.files.snapshot_every).saturating_mul(share);
        if let Some(group) = self.files.store.overdue(enough) {
            (self.sink)(LogEvent::SnapshotDue(group));
        }
    }

    /// The next request for a batch that has `batch` bytes: of the groups in turn, so that none waits for another's
    /// backlog.
    fn next(&mut self, batch: usize) -> Option<Append> {
        let after = self.queued.range((std::ops::Bound::Excluded(self.turn), std::ops::Bound::Unbounded)).next();
        let group = *after.or_else(|| self.queued.first_key_value())?.0;
        let queue = self.queued.get_mut(&group)?;
        if batch > 0 && batch + queue.front()?.cost > BATCH {
            return None;
        }
        let append = queue.pop_front();
        if queue.is_empty() {
            self.queued.remove(&group);
        }
        self.turn = group;
        append
    }

    /// Writes what is pending to the current segment.
    fn write(&mut self) -> Result<(), StorageError> {
        let bytes = self.files.store.write()?;
        count(&self.shared.counters.bytes, bytes as u64);
        if !self.files.store.is_synced() {
            self.dirty.get_or_insert_with(Instant::now);
        }
        Ok(())
    }

    fn sync(&mut self) -> Result<(), StorageError> {
        self.files.store.sync()?;
        self.dirty = None;
        Ok(())
    }

    fn sync_if_due(&mut self) -> Result<(), StorageError> {
        match (self.files.fsync, self.dirty) {
            (Fsync::Interval(span), Some(since)) if since.elapsed() >= Duration::from_micros(span.0) => {
                self.files.store.sync_promises()?;
                self.sync()
            }
            _ => Ok(()),
        }
    }

    /// The first fetch before which everything is written that was appended before.
    fn ready_fetch(&mut self) -> Option<Fetch> {
        let next = |group: &GroupId| self.queued.get(group).and_then(VecDeque::front).map(|append| append.token);
        let ready = |fetch: &Fetch| next(&fetch.group).is_none_or(|next| Some(next) > fetch.after);
        let index = self.fetches.iter().position(ready)?;
        self.fetches.remove(index)
    }

    fn fetch(&mut self, fetch: &Fetch) -> Result<(), StorageError> {
        let entries = self.files.store.entries(fetch.group, fetch.range, fetch.bytes);
        let entries = entries.map_err(|error| open::refusal(&self.files.layout, error))?;
        count(&self.shared.counters.fetches, 1);
        count(&self.shared.counters.fetched_entries, entries.len() as u64);
        (self.sink)(LogEvent::Fetched(fetch.group, fetch.range.0, entries));
        Ok(())
    }

    /// Everything queued is written: adds the mark and makes all durable.
    fn close(mut self) -> Result<(), StorageError> {
        self.files.store.close()?;
        open::forget_boot(&self.files.layout)
    }
}
