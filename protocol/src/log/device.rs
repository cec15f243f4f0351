//! The disk, as the log needs it: files on a node, bytes in memory in the simulator.

use super::index::Position;
use crate::ids::{GroupId, Slot};

/// Where a log keeps its bytes.
///
/// What was written is read back at once. It is durable when the file was synced after it: before that a power cut may
/// keep any part of it. A name is durable at once when [`create`](Self::create) returns. An error is final: whoever gets
/// one stops, and never asks the same device again, because after a failed sync it may claim success and have nothing.
pub trait Device {
    /// Why the device refused.
    type Error;

    /// The numbers of the segments that exist, in order.
    ///
    /// # Errors
    /// If the device refuses; so with every other method.
    fn segments(&mut self) -> Result<Vec<u32>, Self::Error>;

    /// Replaces `into` by all bytes of a segment.
    ///
    /// # Errors
    /// If there is no such segment.
    fn read_segment(&mut self, segment: u32, into: &mut Vec<u8>) -> Result<(), Self::Error>;

    /// Fills `into` from a position on and returns how many bytes that were: fewer only where the segment ends.
    ///
    /// # Errors
    /// If there is no such segment.
    fn read(&mut self, at: Position, into: &mut [u8]) -> Result<usize, Self::Error>;

    /// Writes within a segment.
    ///
    /// # Errors
    /// If there is no such segment.
    fn write(&mut self, at: Position, bytes: &[u8]) -> Result<(), Self::Error>;

    /// Makes durable what was written to a segment.
    ///
    /// # Errors
    /// If it may not be durable.
    fn sync(&mut self, segment: u32) -> Result<(), Self::Error>;

    /// Makes a segment of zeros, of `size` bytes or of `least` if that is more, and returns its size. It is wholly
    /// durable, name and zeros, so that a later sync of what is written into it changes nothing but that; one that had
    /// its name is replaced.
    ///
    /// # Errors
    /// If there is no room.
    fn create(&mut self, segment: u32, size: u32, least: u32) -> Result<u32, Self::Error>;

    /// A segment that [`create`](Self::create) will probably be asked for soon, and repeatedly so until then.
    fn prepare(&mut self, segment: u32, size: u32);

    /// Removes a segment if it is there; that is durable after [`sync_names`](Self::sync_names).
    ///
    /// # Errors
    /// If it is still there.
    fn remove(&mut self, segment: u32) -> Result<(), Self::Error>;

    /// The snapshots that are whole, of all groups.
    ///
    /// # Errors
    /// If the device refuses.
    fn snapshots(&mut self) -> Result<Vec<(GroupId, Slot)>, Self::Error>;

    /// Removes a snapshot; that is durable after [`sync_names`](Self::sync_names).
    ///
    /// # Errors
    /// If it is still there.
    fn remove_snapshot(&mut self, group: GroupId, slot: Slot) -> Result<(), Self::Error>;

    /// Makes durable which segments, snapshots and promise files there are.
    ///
    /// # Errors
    /// If it may not be durable.
    fn sync_names(&mut self) -> Result<(), Self::Error>;

    /// All bytes of a group's promise file; none if there is no file.
    ///
    /// # Errors
    /// If there is one, and it cannot be read.
    fn read_promise(&mut self, group: GroupId) -> Result<Vec<u8>, Self::Error>;

    /// Writes within a group's promise file, which is made if there is none; its name is then durable after
    /// [`sync_names`](Self::sync_names).
    ///
    /// # Errors
    /// If there is no room.
    fn write_promise(&mut self, group: GroupId, offset: usize, bytes: &[u8]) -> Result<(), Self::Error>;

    /// Makes durable what was written to a group's promise file.
    ///
    /// # Errors
    /// If it may not be durable.
    fn sync_promise(&mut self, group: GroupId) -> Result<(), Self::Error>;
}

/// Where snapshots are written and read back, beside the log and at another pace. An error is final as with [`Device`].
pub trait SnapshotDevice {
    /// Why the device refused.
    type Error;

    /// Begins a snapshot in the place of an unfinished one of the same group, which goes.
    ///
    /// # Errors
    /// If there is no room.
    fn begin_snapshot(&mut self, group: GroupId) -> Result<(), Self::Error>;

    /// Adds bytes to the snapshot that was begun.
    ///
    /// # Errors
    /// If there is no room.
    fn append_snapshot(&mut self, group: GroupId, bytes: &[u8]) -> Result<(), Self::Error>;

    /// The snapshot that was begun is whole: makes its bytes durable, then its name. Until then nobody finds it.
    ///
    /// # Errors
    /// If it may not be durable.
    fn finish_snapshot(&mut self, group: GroupId, slot: Slot) -> Result<(), Self::Error>;

    /// Fills `into` with bytes of a whole snapshot from `offset` on, and returns how many: fewer only where it ends, none
    /// if there is no such snapshot.
    ///
    /// # Errors
    /// If it cannot be read.
    fn read_snapshot(&mut self, group: GroupId, slot: Slot, offset: u64, into: &mut [u8])
    -> Result<usize, Self::Error>;
}
