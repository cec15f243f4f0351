//! The simulated device: files of bytes, a cache that forgets, and what a crash makes of both.
//!
//! Every change is an operation in a row. [`Device::settle`] makes a row of them done: what was synced is durable, the
//! rest is dirty. [`Device::crash`] cuts the row somewhere: a killed process has made all calls before the cut, and
//! its writes stay in the cache; a machine that loses power keeps of what was dirty then no more than the luck of its
//! sectors. A sync that fails makes its file's dirty bytes clean without writing all of them: the cache has them for as
//! long as the machine runs, and no later sync brings them to the disk (hazard S29).

use std::collections::BTreeMap;
use std::fmt;

use drachma_protocol::ids::{GroupId, Slot};
use drachma_protocol::log::device::{self, SnapshotDevice};
use drachma_protocol::log::index::Position;
use drachma_protocol::rng::Rng;

use super::{Crash, Trouble};
use crate::draw::{permille, pick};

/// The system caches whole pages of so many bytes.
const PAGE: usize = 4096;

/// A file of a node.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum File {
    /// A segment of the log.
    Segment(u32),
    /// The second copy of a group's promise.
    Promise(GroupId),
    /// A whole snapshot.
    Snapshot(GroupId, Slot),
    /// A snapshot that is being written.
    Unfinished(GroupId),
}

/// Why the device refuses.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum DeviceError {
    /// There is no room for another file.
    Full,
    /// A sync has failed.
    Sync,
    /// There is no such file.
    Missing(File),
}

impl fmt::Display for DeviceError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            DeviceError::Full => write!(f, "no space left on the device"),
            DeviceError::Sync => write!(f, "a sync has failed"),
            DeviceError::Missing(file) => write!(f, "{file:?} is missing"),
        }
    }
}

/// One change.
#[derive(Clone, Debug)]
enum Op {
    Create { file: File, size: usize },
    Write { file: File, offset: usize, bytes: Vec<u8> },
    Sync(File),
    FailedSync(File),
    Remove(File),
    Rename(File, File),
    SyncNames,
}

/// A write that the disk does not have yet.
#[derive(Clone, Debug)]
struct Dirty {
    offset: usize,
    bytes: Vec<u8>,
    /// A failed sync has taken it for written: no later one writes it.
    forgotten: bool,
}

#[derive(Clone, Debug, Default)]
struct Content {
    /// What the disk has.
    durable: Vec<u8>,
    /// It was made, and not only asked for.
    made: bool,
    /// Whether the disk has its name.
    named: bool,
    /// What the process sees.
    cache: Vec<u8>,
    dirty: Vec<Dirty>,
}

impl Content {
    /// What the process sees follows from the rest.
    fn refresh(&mut self) {
        self.cache.clone_from(&self.durable);
        for dirty in &self.dirty {
            put(&mut self.cache, dirty.offset, &dirty.bytes);
        }
    }

    /// A write makes its pages dirty, with all that the cache has of them.
    fn remember(&mut self, offset: usize, length: usize) {
        let (first, last) = (offset / PAGE, (offset + length) / PAGE);
        for dirty in &mut self.dirty {
            dirty.forgotten &= !(first..=last).contains(&(dirty.offset / PAGE));
        }
    }
}

/// The disk of a node.
#[derive(Clone, Debug, Default)]
pub struct Device {
    files: BTreeMap<File, Content>,
    /// Removed, but perhaps not for ever.
    removed: BTreeMap<File, Content>,
    /// What was done since the last settling.
    ops: Vec<Op>,
    /// The same for the snapshot of each group, which is written beside the log: a row of its own, for no sync of the
    /// log waits for it.
    beside: BTreeMap<GroupId, Vec<Op>>,
    trouble: Option<Trouble>,
    /// It has refused; whoever asks again breaks a rule.
    failed: bool,
}

impl Device {
    /// What is to go wrong next.
    pub fn expect(&mut self, trouble: Trouble) {
        self.trouble = Some(trouble);
    }

    /// The operator has made room.
    pub fn relieve(&mut self) {
        self.trouble = None;
    }

    /// Every file with its size.
    pub fn files(&self) -> Vec<(File, usize)> {
        self.files.iter().map(|(file, content)| (*file, content.cache.len())).collect()
    }

    /// The bytes of a file as a process sees them.
    pub fn bytes(&self, file: File) -> &[u8] {
        self.files.get(&file).map_or(&[], |content| &content.cache)
    }

    /// Changes bytes of a file behind everybody's back, on the disk and in the cache.
    pub fn damage(&mut self, file: File, offset: usize, bytes: &[u8]) {
        if let Some(content) = self.files.get_mut(&file) {
            for image in [&mut content.durable, &mut content.cache] {
                if image.len() >= offset + bytes.len() {
                    put(image, offset, bytes);
                }
            }
        }
    }

    /// What was done is done, but for snapshots.
    pub fn settle(&mut self) {
        for op in std::mem::take(&mut self.ops) {
            self.carry_out(op, None);
        }
    }

    /// What was done for the snapshot of a group is done.
    pub fn settle_snapshot(&mut self, group: GroupId) {
        for op in self.beside.remove(&group).unwrap_or_default() {
            self.carry_out(op, None);
        }
    }

    /// The process or the machine goes down in the middle of what was done since the last settling.
    pub fn crash(&mut self, crash: Crash, rng: &mut Rng) {
        let mut ops = std::mem::take(&mut self.ops);
        // A sync that failed has stopped the process: that is not undone.
        let cut = if self.failed { ops.len() } else { rng.below(ops.len() as u64 + 1) as usize };
        ops.truncate(cut);
        for mut beside in std::mem::take(&mut self.beside).into_values() {
            let is_over = matches!(beside.last(), Some(Op::FailedSync(_)));
            let cut = if is_over { beside.len() } else { rng.below(beside.len() as u64 + 1) as usize };
            beside.truncate(cut);
            ops.extend(beside);
        }
        for op in ops {
            self.carry_out(op, Some(&mut *rng));
        }
        if let Crash::PowerLoss { torn } = crash {
            self.lose(permille(rng, torn), rng);
        }
        self.failed = false;
        if self.trouble != Some(Trouble::Full) {
            self.trouble = None;
        }
        self.files.retain(|_, content| content.made);
        self.files.values_mut().for_each(Content::refresh);
    }

    /// All files are gone.
    pub fn wipe(&mut self) {
        *self = Device::default();
    }

    /// The machine is gone, and with it what was not durable: of what was dirty the first writes have reached the disk,
    /// or, if it is `torn`, any of their sectors.
    fn lose(&mut self, torn: bool, rng: &mut Rng) {
        for (file, content) in std::mem::take(&mut self.removed) {
            if rng.chance(50) {
                self.files.entry(file).or_insert(content);
            }
        }
        self.files.retain(|_, content| content.named || rng.chance(50));
        let mut reached = true;
        for content in self.files.values_mut() {
            content.named = true;
            for dirty in std::mem::take(&mut content.dirty) {
                if dirty.forgotten {
                    continue;
                }
                if torn {
                    write_sectors(&mut content.durable, dirty.offset, &dirty.bytes, rng);
                } else {
                    reached &= rng.chance(50);
                    if reached {
                        put(&mut content.durable, dirty.offset, &dirty.bytes);
                    }
                }
            }
        }
    }

    /// One change takes effect below the cache. `luck` says what a failed sync has written.
    fn carry_out(&mut self, op: Op, luck: Option<&mut Rng>) {
        match op {
            Op::Create { file, size } => {
                let cache = self.files.remove(&file).map_or_else(|| vec![0; size], |content| content.cache);
                let content = Content { durable: vec![0; size], made: true, named: true, cache, dirty: Vec::new() };
                self.files.insert(file, content);
            }
            Op::Write { file, offset, bytes } => {
                // A file that is made by writing to it.
                let content = self.files.entry(file).or_default();
                content.made = true;
                content.remember(offset, bytes.len());
                content.dirty.push(Dirty { offset, bytes, forgotten: false });
            }
            Op::Sync(file) => {
                let Some(content) = self.files.get_mut(&file) else { return };
                for dirty in content.dirty.extract_if(.., |dirty| !dirty.forgotten) {
                    put(&mut content.durable, dirty.offset, &dirty.bytes);
                }
            }
            Op::FailedSync(file) => {
                let (Some(content), Some(rng)) = (self.files.get_mut(&file), luck) else { return };
                for dirty in std::mem::take(&mut content.dirty) {
                    write_sectors(&mut content.durable, dirty.offset, &dirty.bytes, rng);
                    for (offset, bytes) in pieces(dirty.offset, &dirty.bytes, PAGE) {
                        content.dirty.push(Dirty { offset, bytes: bytes.to_vec(), forgotten: true });
                    }
                }
            }
            Op::Remove(file) => {
                if let Some(content) = self.files.remove(&file) {
                    self.removed.insert(file, content);
                }
            }
            Op::Rename(from, to) => {
                if let Some(content) = self.files.remove(&from) {
                    self.files.insert(to, Content { named: false, ..content });
                }
            }
            Op::SyncNames => {
                self.removed.clear();
                self.files.values_mut().for_each(|content| content.named = true);
            }
        }
    }

    /// A change as the process sees it; below the cache it comes later.
    fn note(&mut self, op: Op) {
        self.show(&op);
        self.ops.push(op);
    }

    /// The same for what belongs to the snapshot of a group.
    fn note_beside(&mut self, group: GroupId, op: Op) {
        self.show(&op);
        self.beside.entry(group).or_default().push(op);
    }

    fn show(&mut self, op: &Op) {
        assert!(!self.failed, "a disk that has failed once is asked again");
        match op {
            Op::Create { file, size } => {
                let content = self.files.entry(*file).or_default();
                content.cache = vec![0; *size];
            }
            Op::Write { file, offset, bytes } => put(&mut self.files.entry(*file).or_default().cache, *offset, bytes),
            Op::Sync(_) | Op::FailedSync(_) | Op::Remove(_) | Op::Rename(..) | Op::SyncNames => {}
        }
    }

    fn seen(&self, file: File) -> Result<&Content, DeviceError> {
        assert!(!self.failed, "a disk that has failed once is asked again");
        let removed = self.ops.iter().any(|op| matches!(op, Op::Remove(removed) if *removed == file));
        self.files.get(&file).filter(|_| !removed).ok_or(DeviceError::Missing(file))
    }

    fn fail(&mut self, error: DeviceError) -> DeviceError {
        self.failed = true;
        error
    }

    /// The next sync of a file: whether it fails.
    fn next_sync(&mut self, file: File) -> (Op, bool) {
        match &mut self.trouble {
            Some(Trouble::FailedSync(0)) => {
                self.trouble = None;
                return (Op::FailedSync(file), true);
            }
            Some(Trouble::FailedSync(left)) => *left -= 1,
            _ => {}
        }
        (Op::Sync(file), false)
    }

    fn sync_file(&mut self, file: File) -> Result<(), DeviceError> {
        let (op, fails) = self.next_sync(file);
        self.note(op);
        if fails { Err(self.fail(DeviceError::Sync)) } else { Ok(()) }
    }
}

impl device::Device for Device {
    type Error = DeviceError;

    fn segments(&mut self) -> Result<Vec<u32>, DeviceError> {
        let numbers = self.files.keys().filter_map(|file| match file {
            File::Segment(number) => Some(*number),
            _ => None,
        });
        let numbers: Vec<u32> = numbers.collect();
        Ok(numbers.into_iter().filter(|number| self.seen(File::Segment(*number)).is_ok()).collect())
    }

    fn read_segment(&mut self, segment: u32, into: &mut Vec<u8>) -> Result<(), DeviceError> {
        into.clone_from(&self.seen(File::Segment(segment))?.cache);
        Ok(())
    }

    fn read(&mut self, at: Position, into: &mut [u8]) -> Result<usize, DeviceError> {
        let cache = &self.seen(File::Segment(at.segment))?.cache;
        let rest = cache.get(at.offset as usize..).unwrap_or_default();
        let count = rest.len().min(into.len());
        into[..count].copy_from_slice(&rest[..count]);
        if count > 0
            && let Some(Trouble::Misread(at)) = self.trouble
        {
            self.trouble = None;
            into[at as usize % count] ^= 1 << (at % 8);
        }
        Ok(count)
    }

    fn write(&mut self, at: Position, bytes: &[u8]) -> Result<(), DeviceError> {
        let file = File::Segment(at.segment);
        let size = self.seen(file)?.cache.len();
        let offset = at.offset as usize;
        assert!(offset + bytes.len() <= size, "the log writes within its segments");
        self.note(Op::Write { file, offset, bytes: bytes.to_vec() });
        Ok(())
    }

    fn sync(&mut self, segment: u32) -> Result<(), DeviceError> {
        self.seen(File::Segment(segment))?;
        self.sync_file(File::Segment(segment))
    }

    fn create(&mut self, segment: u32, size: u32, least: u32) -> Result<u32, DeviceError> {
        let (file, size) = (File::Segment(segment), size.max(least));
        // One that was prepared is as good as a new one.
        let prepared = self.seen(file).is_ok_and(|content| content.cache.len() >= size as usize);
        if prepared && self.bytes(file).iter().all(|byte| *byte == 0) {
            return Ok(self.bytes(file).len() as u32);
        }
        if self.trouble == Some(Trouble::Full) {
            return Err(self.fail(DeviceError::Full));
        }
        self.note(Op::Create { file, size: size as usize });
        Ok(size)
    }

    fn prepare(&mut self, segment: u32, size: u32) {
        let file = File::Segment(segment);
        if self.seen(file).is_err() && self.trouble != Some(Trouble::Full) {
            self.note(Op::Create { file, size: size as usize });
        }
    }

    fn remove(&mut self, segment: u32) -> Result<(), DeviceError> {
        self.note(Op::Remove(File::Segment(segment)));
        // Whoever makes it anew finds nothing.
        self.settle();
        Ok(())
    }

    fn snapshots(&mut self) -> Result<Vec<(GroupId, Slot)>, DeviceError> {
        let snapshots = self.files.keys().filter_map(|file| match file {
            File::Snapshot(group, slot) => Some((*group, *slot)),
            _ => None,
        });
        Ok(snapshots.collect())
    }

    fn remove_snapshot(&mut self, group: GroupId, slot: Slot) -> Result<(), DeviceError> {
        self.note(Op::Remove(File::Snapshot(group, slot)));
        Ok(())
    }

    fn sync_names(&mut self) -> Result<(), DeviceError> {
        self.note(Op::SyncNames);
        Ok(())
    }

    fn read_promise(&mut self, group: GroupId) -> Result<Vec<u8>, DeviceError> {
        assert!(!self.failed, "a disk that has failed once is asked again");
        Ok(self.bytes(File::Promise(group)).to_vec())
    }

    fn write_promise(&mut self, group: GroupId, offset: usize, bytes: &[u8]) -> Result<(), DeviceError> {
        self.note(Op::Write { file: File::Promise(group), offset, bytes: bytes.to_vec() });
        Ok(())
    }

    fn sync_promise(&mut self, group: GroupId) -> Result<(), DeviceError> {
        self.sync_file(File::Promise(group))
    }
}

impl SnapshotDevice for Device {
    type Error = DeviceError;

    fn begin_snapshot(&mut self, group: GroupId) -> Result<(), DeviceError> {
        if self.trouble == Some(Trouble::Full) {
            return Err(self.fail(DeviceError::Full));
        }
        self.note_beside(group, Op::Create { file: File::Unfinished(group), size: 0 });
        Ok(())
    }

    fn append_snapshot(&mut self, group: GroupId, bytes: &[u8]) -> Result<(), DeviceError> {
        let file = File::Unfinished(group);
        let offset = self.bytes(file).len();
        self.note_beside(group, Op::Write { file, offset, bytes: bytes.to_vec() });
        Ok(())
    }

    fn finish_snapshot(&mut self, group: GroupId, slot: Slot) -> Result<(), DeviceError> {
        let (op, fails) = self.next_sync(File::Unfinished(group));
        self.note_beside(group, op);
        if fails {
            return Err(self.fail(DeviceError::Sync));
        }
        self.note_beside(group, Op::Rename(File::Unfinished(group), File::Snapshot(group, slot)));
        self.note_beside(group, Op::SyncNames);
        Ok(())
    }

    fn read_snapshot(
        &mut self,
        group: GroupId,
        slot: Slot,
        offset: u64,
        into: &mut [u8],
    ) -> Result<usize, DeviceError> {
        let file = File::Snapshot(group, slot);
        let Ok(content) = self.seen(file) else { return Ok(0) };
        let rest = content.cache.get(offset as usize..).unwrap_or_default();
        let count = rest.len().min(into.len());
        into[..count].copy_from_slice(&rest[..count]);
        Ok(count)
    }
}

/// Writes into an image, which grows if need be.
fn put(image: &mut Vec<u8>, offset: usize, bytes: &[u8]) {
    if image.len() < offset + bytes.len() {
        image.resize(offset + bytes.len(), 0);
    }
    image[offset..offset + bytes.len()].copy_from_slice(bytes);
}

/// Some of the sectors that a write touches reach the disk.
fn write_sectors(image: &mut Vec<u8>, offset: usize, bytes: &[u8], rng: &mut Rng) {
    let sector = pick(rng, &[512, PAGE]);
    for (at, piece) in pieces(offset, bytes, sector) {
        if rng.chance(50) {
            put(image, at, piece);
        }
    }
}

/// Cuts a write at the bounds of sectors.
fn pieces(offset: usize, bytes: &[u8], sector: usize) -> Vec<(usize, &[u8])> {
    let mut pieces = Vec::new();
    let (mut at, mut rest) = (offset, bytes);
    while !rest.is_empty() {
        let (piece, behind) = rest.split_at((sector - at % sector).min(rest.len()));
        pieces.push((at, piece));
        (at, rest) = (at + piece.len(), behind);
    }
    pieces
}
