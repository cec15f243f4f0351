//! In which order the log's bytes are written and synced, and what is made of those that are found: the same for the
//! files of a node and for a simulated disk.
//!
//! - **Open**: read everything; refuse what is damaged; make durable what was recovered before anybody may rely on it
//!   (hazard S29); mend the second copies of the promises, or refuse if one may be lost (hazard S27); go on in a new
//!   segment behind a doubtful end (hazard S28).
//! - **Commit**: [`push`](Store::push) records, [`write`](Store::write) and [`sync`](Store::sync) the log, then
//!   [`keep_promises`](Store::keep_promises): the second copy of a promise follows the first, so that no crash tears both.
//! - **Roll**, as part of a push: the next segment exists before the old one says that it does; the old one is synced
//!   before anything is written to the next; the header of the next is synced before any record. It begins with what all
//!   records before add up to, a base of each group.
//! - **Release**, as part of a sync: segments of which nothing is needed any more go, the oldest first, and with them the
//!   snapshots that a newer one replaces (hazard S30). A crash may bring some back, in any choice: whoever opens the log
//!   begins at the first segment from which on none is missing.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;

use super::device::Device;
use super::index::Position;
use super::promise::PromiseSlots;
use super::reader::Reader;
use super::record::Record;
use super::recover::{Damage, Recoverer, Recovery, Spare};
use super::segment::{HEAD, HEADER, MAX_SEGMENT, Owner};
use super::state::GroupLog;
use super::writer::Appender;
use crate::ids::{GroupId, Slot};
use crate::planted::{Bug, is_planted};

/// So much is written again at once when a log is opened.
const STEP: usize = 1 << 20;

/// The store cannot be used.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum StoreError<E> {
    /// The device refused.
    #[error("{0}")]
    Device(E),
    /// Something that was on the device is not there any more.
    #[error("{0}")]
    Damage(Damage),
    /// Both copies of a promise of this group may be lost (hazard S27).
    #[error("the promises of {0} are damaged, and so is the end of the log")]
    PromisesLost(GroupId),
    /// The log of this group begins at a snapshot that is not there.
    #[error("the snapshot of {0} at {1}, where its log begins, is missing")]
    SnapshotMissing(GroupId, Slot),
}

impl<E> From<Damage> for StoreError<E> {
    fn from(damage: Damage) -> StoreError<E> {
        StoreError::Damage(damage)
    }
}

/// Makes an empty log on an empty device, with a first segment of `size` bytes. All of it is durable afterwards.
///
/// # Errors
/// If the device refuses.
pub fn format<D: Device>(device: &mut D, owner: Owner, groups: &[GroupId], size: u32) -> Result<(), D::Error> {
    let size = device.create(1, size, HEADER + HEAD)?;
    let header = Appender::first_header(owner, size);
    device.write(Position { segment: header.segment, offset: 0 }, &header.encode())?;
    device.sync(header.segment)?;
    for group in groups {
        let (_, content) = PromiseSlots::new(owner.directory, *group);
        device.write_promise(*group, 0, &content)?;
        device.sync_promise(*group)?;
    }
    device.sync_names()
}

/// An open log.
#[derive(Debug)]
pub struct Store<D> {
    device: D,
    appender: Appender,
    reader: Reader,
    promises: BTreeMap<GroupId, PromiseSlots>,
    /// The size of the next segment, if it was found at opening.
    spare: Option<u32>,
    /// What a segment has at least, in bytes.
    segment_bytes: u32,
    /// The first segment that may be there.
    first: u32,
    /// The snapshots that are there.
    snapshots: BTreeSet<(GroupId, Slot)>,
}

/// What opening a log found.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Found {
    /// Where bad bytes stand after the last good record, if they were found now and not at an earlier opening.
    pub doubtful: Option<Position>,
    /// Groups of which a promise slot was not whole.
    pub torn_promises: Vec<GroupId>,
}

impl<D: Device> Store<D> {
    /// Opens the log of `owner`. What was recovered is durable when this returns (hazard S29). Segments made from now on
    /// have `segment_bytes`, or more for a record that does not fit.
    ///
    /// # Errors
    /// If the log is damaged, another's, or may have lost a promise; or the device refuses.
    ///
    /// # Panics
    /// If `segment_bytes` is less than a header and a record's head, or more than a segment may have.
    pub fn open(
        mut device: D,
        owner: Owner,
        groups: &[GroupId],
        segment_bytes: u32,
    ) -> Result<(Store<D>, Found), StoreError<D::Error>> {
        assert!((HEADER + HEAD..=MAX_SEGMENT).contains(&segment_bytes), "segments of {segment_bytes} bytes");
        let mut recovery = recover(&mut device, owner, groups)?;
        if !is_planted(Bug::RecoveredNotSynced) {
            harden(&mut device, &recovery).map_err(StoreError::Device)?;
        }
        let promises = recover_promises(&mut device, owner, &mut recovery)?;
        let torn = promises.iter().filter(|(_, (_, whole))| !whole).map(|(group, _)| *group).collect();
        let found = Found { doubtful: recovery.doubtful, torn_promises: torn };
        let spare = take_spare(&mut device, recovery.spare).map_err(StoreError::Device)?;
        let promises = promises.into_iter().map(|(group, (slots, _))| (group, slots)).collect();
        let (appender, reader) = (recovery.appender, Reader::new());
        let first = device.segments().map_err(StoreError::Device)?.first().copied().unwrap_or(1);
        let snapshots = recover_snapshots(&mut device, &appender)?;
        let mut store = Store { device, appender, reader, promises, spare, segment_bytes, first, snapshots };
        store.settle().map_err(StoreError::Device)?;
        Ok((store, found))
    }

    /// Sees to it that the log can go on from where it ends, and be read from there.
    fn settle(&mut self) -> Result<(), D::Error> {
        let least = self.appender.least_segment();
        if self.appender.is_ended() {
            // A doubtful end is on record before anything else happens (hazard S28).
            let size = self.next_segment(least)?;
            self.begin_segment(size)?;
        } else if !self.appender.is_based() {
            // A crash came between the header of this segment and its bases.
            self.roll(least)?;
        }
        self.write()?;
        self.sync()
    }

    /// Takes in a record. It is written when the segment is full or [`write`](Self::write) is called.
    ///
    /// # Errors
    /// If the device refuses.
    ///
    /// # Panics
    /// If the group is unknown, or the record cannot follow the ones before: a role's invariant is broken.
    pub fn push(&mut self, group: GroupId, record: &Record) -> Result<(), D::Error> {
        while let Err(no_room) = self.appender.push(group, record) {
            self.roll(no_room.size)?;
        }
        if let Record::Snapshot(slot) = record {
            self.snapshots.insert((group, *slot));
        }
        Ok(())
    }

    /// Writes what was pushed, and returns how many bytes that were.
    ///
    /// # Errors
    /// If the device refuses.
    pub fn write(&mut self) -> Result<usize, D::Error> {
        let pending = self.appender.pending();
        let bytes = pending.bytes.len();
        if bytes > 0 {
            self.device.write(pending.position, pending.bytes)?;
            self.appender.written();
        }
        Ok(bytes)
    }

    /// Makes durable what was written to the log.
    ///
    /// # Errors
    /// If it may not be durable: the store must not be used any more.
    pub fn sync(&mut self) -> Result<(), D::Error> {
        self.device.sync(self.appender.position().segment)?;
        self.appender.synced();
        self.release()
    }

    /// Removes the segments and snapshots that nothing of what is durable needs any more.
    fn release(&mut self) -> Result<(), D::Error> {
        let oldest = self.appender.release();
        let groups = self.appender.groups();
        let old = |(group, slot): &(GroupId, Slot)| groups.get(group).is_none_or(|state| *slot < state.start());
        let snapshots: Vec<(GroupId, Slot)> = self.snapshots.extract_if(.., old).collect();
        if self.first >= oldest && snapshots.is_empty() {
            return Ok(());
        }
        for (group, slot) in snapshots {
            self.device.remove_snapshot(group, slot)?;
        }
        while self.first < oldest {
            self.device.remove(self.first)?;
            self.first += 1;
        }
        self.device.sync_names()
    }

    /// Whether all that was pushed is durable in the log.
    pub fn is_synced(&self) -> bool {
        self.appender.is_synced()
    }

    /// Writes the second copy of promises that have risen, and syncs it if `sync`. To be called once the log has the
    /// first copy: a crash never tears both (hazard S27).
    ///
    /// # Errors
    /// If the device refuses.
    pub fn keep_promises(&mut self, sync: bool) -> Result<(), D::Error> {
        for (group, promise) in self.appender.take_promised() {
            let slots = self.promises.get_mut(&group).expect("opening made the slots of every group");
            let (at, bytes) = slots.write(promise);
            self.device.write_promise(group, at, &bytes)?;
            if sync {
                self.device.sync_promise(group)?;
            }
        }
        Ok(())
    }

    /// Makes the second copies of all promises durable.
    ///
    /// # Errors
    /// If the device refuses.
    pub fn sync_promises(&mut self) -> Result<(), D::Error> {
        self.promises.keys().try_for_each(|group| self.device.sync_promise(*group))
    }

    /// Has the next segment prepared, as early as can be: on a busy disk it takes a while. Only the first segment is not
    /// followed at once, so that a node that does little takes little of the disk.
    pub fn prepare(&mut self) {
        let position = self.appender.position();
        if self.spare.is_none() && (position.segment > 1 || position.offset >= self.appender.segment_size() / 4) {
            self.device.prepare(position.segment + 1, self.segment_bytes);
        }
    }

    /// Ends the log in order: a mark behind everything, all of it durable.
    ///
    /// # Errors
    /// If the device refuses.
    pub fn close(&mut self) -> Result<(), D::Error> {
        // Everything that the mark speaks of first.
        self.sync_promises()?;
        while let Err(no_room) = self.appender.push_closed() {
            self.roll(no_room.size)?;
        }
        self.write()?;
        self.sync()
    }

    /// The entries of a group in `[from, until)`: as many as fit `bytes`, but at least one if there is one. Everything
    /// that was pushed must have been written.
    ///
    /// # Errors
    /// If the device refuses, or hands back something else than was written.
    pub fn entries(
        &mut self,
        group: GroupId,
        range: (Slot, Slot),
        bytes: usize,
    ) -> Result<Vec<Bytes>, StoreError<D::Error>> {
        self.reader.entries(&mut self.device, &self.appender, group, range, bytes)
    }

    /// The state of each group as of the last record pushed.
    pub fn groups(&self) -> &BTreeMap<GroupId, GroupLog> {
        self.appender.groups()
    }

    /// Where the next record would go.
    pub fn position(&self) -> Position {
        self.appender.position()
    }

    /// How many segments are in use: the current one, and those before it of which something is still needed.
    pub fn segments(&self) -> u32 {
        self.appender.position().segment + 1 - self.first
    }

    /// The group for whose sake the oldest segment in use is kept, if more bytes of log are kept for it than are `enough`
    /// for this group. A busy group takes a snapshot in time; a quiet one would keep what the busy ones have written
    /// since its last entry.
    pub fn overdue(&self, enough: impl Fn(GroupId) -> u64) -> Option<GroupId> {
        let needed = self.groups().iter().filter_map(|(group, state)| Some((state.oldest()?, *group)));
        let (oldest, group) = needed.min()?;
        let segments = u64::from(self.position().segment - oldest);
        (segments * u64::from(self.segment_bytes) > enough(group)).then_some(group)
    }

    /// The device.
    pub fn device(&self) -> &D {
        &self.device
    }

    /// The device. Nothing may be written past the store.
    pub fn device_mut(&mut self) -> &mut D {
        &mut self.device
    }

    /// Gives the device back; nothing more is written.
    pub fn into_device(self) -> D {
        self.device
    }

    /// Goes on in the next segment, of at least `least` bytes. What the old one has is synced first, whatever the policy,
    /// so that whoever finds the new one knows that nothing before it may be missing.
    fn roll(&mut self, least: u32) -> Result<(), D::Error> {
        // The next segment exists before the old one says that it does.
        let size = self.next_segment(least)?;
        self.appender.end_segment();
        self.write()?;
        self.sync()?;
        self.begin_segment(size)
    }

    /// Sees to it that the next segment is there, and returns its size.
    fn next_segment(&mut self, least: u32) -> Result<u32, D::Error> {
        match self.spare.take() {
            Some(size) if size >= least => Ok(size),
            _ => self.device.create(self.appender.position().segment + 1, self.segment_bytes, least),
        }
    }

    /// Begins the next segment. Its header is durable afterwards.
    fn begin_segment(&mut self, size: u32) -> Result<(), D::Error> {
        let header = self.appender.begin_segment(size);
        self.device.write(Position { segment: header.segment, offset: 0 }, &header.encode())?;
        self.device.sync(header.segment)
    }
}

fn recover<D: Device>(device: &mut D, owner: Owner, groups: &[GroupId]) -> Result<Recovery, StoreError<D::Error>> {
    let mut recoverer = Recoverer::new(owner, groups);
    let mut bytes = Vec::new();
    for number in device.segments().map_err(StoreError::Device)? {
        device.read_segment(number, &mut bytes).map_err(StoreError::Device)?;
        recoverer.segment(number, &bytes)?;
    }
    Ok(recoverer.finish()?)
}

/// Makes what was recovered durable: it may have been in the page cache only (hazard S29). What nothing shows to have
/// been synced is written again, because after a sync that failed the cache calls itself clean and the disk has
/// something else.
fn harden<D: Device>(device: &mut D, recovery: &Recovery) -> Result<(), D::Error> {
    let last = recovery.appender.position();
    // Only a record behind the first ones shows that a sync of this segment succeeded, and with it the header.
    let first = recovery.unsynced.offset;
    let mut at = if first <= HEADER { 0 } else { first };
    let mut bytes = vec![0; STEP.min((last.offset - at) as usize)];
    while at < last.offset {
        let step = bytes.len().min((last.offset - at) as usize);
        let position = Position { segment: last.segment, offset: at };
        let read = device.read(position, &mut bytes[..step])?;
        device.write(position, &bytes[..read])?;
        at += step as u32;
    }
    for number in device.segments()? {
        device.sync(number)?;
    }
    device.sync_names()
}

/// The slots of each group, and whether they were whole.
type Slots = BTreeMap<GroupId, (PromiseSlots, bool)>;

/// Reads the second copies, raises what the log says, and mends them: afterwards both copies of each promise are durable.
fn recover_promises<D: Device>(
    device: &mut D,
    owner: Owner,
    recovery: &mut Recovery,
) -> Result<Slots, StoreError<D::Error>> {
    let mut promises = BTreeMap::new();
    let groups: Vec<GroupId> = recovery.appender.groups().keys().copied().collect();
    for group in groups {
        let content = device.read_promise(group).map_err(StoreError::Device)?;
        let mut slots = PromiseSlots::decode(owner.directory, group, &content);
        let (whole, before) = (slots.is_whole(), slots.promise());
        // A slot is written after the log was synced, so a crash never tears both: with a damaged slot, what a doubtful
        // end of the log may have lost may be a promise (hazard S27).
        let doubtful = recovery.appender.groups()[&group].recovered().doubtful;
        if (recovery.doubtful.is_some() && !whole) || (doubtful && before.is_none()) {
            return Err(StoreError::PromisesLost(group));
        }
        recovery.raise_promise(group, before.unwrap_or_default());
        let promise = recovery.appender.groups()[&group].promise();
        // Twice, so that both slots have it, unless a stop in order has left them as they should be: a slot may be in the
        // page cache only, and the log's copy may have gone with its doubtful end.
        let kept = recovery.closed && whole && before == Some(promise);
        for _ in 0..if kept { 0 } else { 2 } {
            let (at, bytes) = slots.write(promise);
            device.write_promise(group, at, &bytes).map_err(StoreError::Device)?;
            device.sync_promise(group).map_err(StoreError::Device)?;
        }
        promises.insert(group, (slots, whole));
    }
    device.sync_names().map_err(StoreError::Device)?;
    Ok(promises)
}

/// The snapshots at which the logs begin. Others go: nobody knows yet, or any more, that they are there.
fn recover_snapshots<D: Device>(
    device: &mut D,
    appender: &Appender,
) -> Result<BTreeSet<(GroupId, Slot)>, StoreError<D::Error>> {
    let groups = appender.groups().iter();
    let needed = groups.map(|(group, state)| (*group, state.start())).filter(|(_, start)| *start > Slot(0));
    let needed: BTreeSet<(GroupId, Slot)> = needed.collect();
    let found: BTreeSet<_> = device.snapshots().map_err(StoreError::Device)?.into_iter().collect();
    if let Some((group, slot)) = needed.difference(&found).next() {
        return Err(StoreError::SnapshotMissing(*group, *slot));
    }
    for (group, slot) in found.difference(&needed) {
        device.remove_snapshot(*group, *slot).map_err(StoreError::Device)?;
    }
    Ok(needed)
}

/// The size of the segment that was prepared, if it can be used.
fn take_spare<D: Device>(device: &mut D, spare: Option<Spare>) -> Result<Option<u32>, D::Error> {
    let Some(spare) = spare else { return Ok(None) };
    match u32::try_from(spare.size) {
        Ok(size) if spare.blank && (HEADER + HEAD..=MAX_SEGMENT).contains(&size) => Ok(Some(size)),
        _ => {
            device.remove(spare.segment)?;
            device.sync_names()?;
            Ok(None)
        }
    }
}
