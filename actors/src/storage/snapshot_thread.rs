//! The snapshot thread: writes snapshots beside the log, and reads them back for other nodes.
//!
//! One snapshot of the node at a time, a piece after the other, with pauses. What other nodes wait for goes between the
//! pieces. The state that a snapshot shares with its replica is let go here, not on the replica's thread: freeing a
//! million rows takes a while.

use std::collections::{BTreeMap, VecDeque};
use std::fs::File;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, TrySendError, bounded};
use drachma_protocol::ids::{ClusterId, GroupId, Slot};
use drachma_protocol::ledger::image::Image;
use drachma_protocol::log::device::SnapshotDevice;
use drachma_protocol::log::snapshot::{self, Writer};

use super::snapshot_files::SnapshotFiles;
use super::thread::{AbortOnPanic, fail};
use super::{LogEvent, SnapshotState, StorageError};

/// Bytes of a snapshot that are written in a second, at most. A disk that takes 200 MiB in a second, which a plain one
/// does, has two thirds of its time left for the log, whose syncs everybody waits for; and 10 million accounts are
/// written in about 10 s. Besides, the thread rests as long as it has worked: it takes half of a core at most.
const RATE: usize = 64 << 20;

/// How much less the thread matters than those that serve clients, where there are not cores enough for all.
const NICE: i32 = 10;

/// The most that a group may have asked for at once: a replica has one snapshot written, and a few pieces read.
const QUEUE: usize = 32;

/// Work for the thread.
enum Work {
    Write(GroupId, Image),
    Read(Read),
    Close,
}

/// A piece to be read.
struct Read {
    group: GroupId,
    slot: Slot,
    offset: u64,
}

/// What is known of each group's snapshots.
type States = Arc<Mutex<BTreeMap<GroupId, SnapshotState>>>;

/// Gives work to the thread. Never blocks.
#[derive(Clone)]
pub(super) struct SnapshotHandle {
    queue: Sender<Work>,
    states: States,
    thread: Arc<Mutex<Option<JoinHandle<()>>>>,
}

impl SnapshotHandle {
    /// Has a snapshot written; `LogEvent::Snapshotted` follows.
    pub(super) fn write(&self, group: GroupId, image: Image) {
        self.send(Work::Write(group, image));
    }

    /// Has a piece read; `LogEvent::SnapshotRead` follows, in the order of the questions.
    pub(super) fn read(&self, group: GroupId, slot: Slot, offset: u64) {
        self.send(Work::Read(Read { group, slot, offset }));
    }

    /// What is known of each group's snapshots.
    pub(super) fn states(&self) -> Vec<(GroupId, SnapshotState)> {
        let states = self.states.lock().unwrap_or_else(PoisonError::into_inner);
        states.iter().map(|(group, state)| (*group, *state)).collect()
    }

    /// How large each group's snapshot is.
    pub(super) fn sizes(&self) -> Sizes {
        Sizes(self.states.clone())
    }

    /// Ends the thread; a snapshot that is not finished is given up.
    pub(super) fn close(&self) {
        // If the thread has ended already, nobody writes.
        let _ = self.queue.send(Work::Close);
        let thread = self.thread.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(thread) = thread {
            // A panic there has ended the process.
            let _ = thread.join();
        }
    }

    fn send(&self, work: Work) {
        // Once the thread is closed nobody waits for an answer.
        let full = matches!(self.queue.try_send(work), Err(TrySendError::Full(_)));
        assert!(!full, "a replica does not ask for more than the queue takes");
    }
}

/// How large each group's snapshot is, as long as the thread runs.
pub(super) struct Sizes(States);

impl Sizes {
    /// Of this group: 0 if it has none.
    pub(super) fn of(&self, group: GroupId) -> u64 {
        let states = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        states.get(&group).map_or(0, |state| state.bytes)
    }
}

/// Starts the thread. `lock` keeps the directory until it has ended. A disk error ends the process.
pub(super) fn start(
    files: SnapshotFiles,
    cluster: ClusterId,
    states: BTreeMap<GroupId, SnapshotState>,
    lock: Arc<File>,
    sink: Arc<dyn Fn(LogEvent) + Send + Sync>,
) -> std::io::Result<SnapshotHandle> {
    let (queue, work) = bounded(QUEUE * states.len().max(1));
    let states = Arc::new(Mutex::new(states));
    let thread = SnapshotThread {
        files,
        cluster,
        work,
        states: states.clone(),
        sink,
        waiting: VecDeque::new(),
        reads: VecDeque::new(),
        current: None,
    };
    let thread = std::thread::Builder::new().name("snapshot".into()).spawn(move || {
        let _guard = AbortOnPanic;
        let _lock = lock;
        // Of this thread alone. It is only slower for the others without it.
        let _ = rustix::process::nice(NICE);
        if let Err(error) = thread.run() {
            fail(&error);
        }
    })?;
    Ok(SnapshotHandle { queue, states, thread: Arc::new(Mutex::new(Some(thread))) })
}

/// The snapshot that is being written.
struct Current {
    group: GroupId,
    slot: Slot,
    writer: Writer,
    begun: Instant,
    bytes: u64,
    /// When the next piece is due.
    next: Instant,
}

struct SnapshotThread {
    files: SnapshotFiles,
    cluster: ClusterId,
    work: Receiver<Work>,
    states: States,
    sink: Arc<dyn Fn(LogEvent) + Send + Sync>,
    waiting: VecDeque<(GroupId, Image)>,
    reads: VecDeque<Read>,
    current: Option<Current>,
}

impl SnapshotThread {
    fn run(mut self) -> Result<(), StorageError> {
        while self.receive() {
            while let Some(read) = self.reads.pop_front() {
                self.read(&read)?;
            }
            self.write()?;
        }
        Ok(())
    }

    /// Takes everything that is there; waits if there is nothing to do. Returns false at the end.
    fn receive(&mut self) -> bool {
        let first = match &self.current {
            Some(current) => self.work.recv_deadline(current.next),
            None if self.waiting.is_empty() => self.work.recv().map_err(|_| RecvTimeoutError::Disconnected),
            None => self.work.recv_deadline(Instant::now()),
        };
        let mut next = match first {
            Ok(work) => Some(work),
            Err(RecvTimeoutError::Timeout) => None,
            Err(RecvTimeoutError::Disconnected) => return false,
        };
        while let Some(work) = next {
            match work {
                Work::Write(group, image) => self.waiting.push_back((group, image)),
                Work::Read(read) => self.reads.push_back(read),
                Work::Close => return false,
            }
            next = self.work.try_recv().ok();
        }
        true
    }

    fn read(&mut self, read: &Read) -> Result<(), StorageError> {
        let Read { group, slot, offset } = *read;
        let piece = snapshot::read(&mut self.files, group, slot, offset)?;
        (self.sink)(LogEvent::SnapshotRead { group, slot, offset, piece });
        Ok(())
    }

    /// Writes the next piece, if it is due.
    fn write(&mut self) -> Result<(), StorageError> {
        if self.current.is_none() {
            let Some((group, image)) = self.waiting.pop_front() else { return Ok(()) };
            self.current = Some(self.begin(group, image)?);
        }
        let now = Instant::now();
        let Some(current) = self.current.as_mut().filter(|current| current.next <= now) else { return Ok(()) };
        match current.writer.next_piece() {
            Some(piece) => {
                self.files.append_snapshot(current.group, &piece)?;
                current.bytes += piece.len() as u64;
                let pause = Duration::from_secs_f64(piece.len() as f64 / RATE as f64);
                current.next = Instant::now() + pause.max(now.elapsed());
                Ok(())
            }
            None => self.finish(),
        }
    }

    fn begin(&mut self, group: GroupId, image: Image) -> Result<Current, StorageError> {
        let slot = image.slot();
        self.files.begin_snapshot(group)?;
        self.note(group, |state| state.writing = true);
        let (writer, now) = (Writer::new(self.cluster, group, image), Instant::now());
        Ok(Current { group, slot, writer, begun: now, bytes: 0, next: now })
    }

    fn finish(&mut self) -> Result<(), StorageError> {
        let Some(Current { group, slot, begun, bytes, .. }) = self.current.take() else { return Ok(()) };
        self.files.finish_snapshot(group, slot)?;
        let took = begun.elapsed();
        tracing::info!(%group, %slot, bytes, millis = took.as_millis() as u64, "snapshot written");
        self.note(group, |state| {
            *state = SnapshotState { slot, bytes, took, written: state.written + 1, writing: false };
        });
        (self.sink)(LogEvent::Snapshotted { group, slot, bytes });
        Ok(())
    }

    fn note(&self, group: GroupId, change: impl FnOnce(&mut SnapshotState)) {
        change(self.states.lock().unwrap_or_else(PoisonError::into_inner).entry(group).or_default());
    }
}
