//! Snapshots on a node: a file for each.
//!
//! A snapshot is written under another name until it is whole and durable, so one that has its name is both. What a
//! crash leaves under the other name is removed when the directory is opened.

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::path::Path;

use drachma_protocol::ids::{GroupId, Slot};
use drachma_protocol::ledger::{Genesis, Ledger};
use drachma_protocol::log::device::SnapshotDevice;
use drachma_protocol::log::snapshot::{self, LoadError, Name, SnapshotError};

use drachma_protocol::table::PARTS;

use super::StorageError;
use super::files::{self, Layout};

/// A snapshot is synced in steps of this: what the log syncs meanwhile waits for one step, not for all.
const STEP: usize = 1 << 20;

/// The snapshots of a data directory.
pub(super) struct SnapshotFiles {
    layout: Layout,
    unfinished: BTreeMap<GroupId, Unfinished>,
    /// The snapshot of each group that was read last.
    reading: BTreeMap<GroupId, (Slot, File)>,
}

struct Unfinished {
    file: File,
    unsynced: usize,
}

impl SnapshotFiles {
    pub(super) fn new(layout: Layout) -> SnapshotFiles {
        SnapshotFiles { layout, unfinished: BTreeMap::new(), reading: BTreeMap::new() }
    }
}

impl SnapshotDevice for SnapshotFiles {
    type Error = StorageError;

    fn begin_snapshot(&mut self, group: GroupId) -> Result<(), StorageError> {
        let path = self.layout.unfinished_snapshot(group);
        let open = OpenOptions::new().write(true).create(true).truncate(true).open(&path);
        let file = open.map_err(StorageError::io(&path))?;
        self.unfinished.insert(group, Unfinished { file, unsynced: 0 });
        Ok(())
    }

    fn append_snapshot(&mut self, group: GroupId, bytes: &[u8]) -> Result<(), StorageError> {
        let unfinished = self.unfinished.get_mut(&group).expect("a snapshot is begun before it is written");
        unfinished.unsynced += bytes.len();
        let mut written = unfinished.file.write_all(bytes);
        if unfinished.unsynced >= STEP {
            unfinished.unsynced = 0;
            written = written.and_then(|()| unfinished.file.sync_data());
        }
        written.map_err(StorageError::io(&self.layout.unfinished_snapshot(group)))
    }

    fn finish_snapshot(&mut self, group: GroupId, slot: Slot) -> Result<(), StorageError> {
        let Unfinished { file, .. } =
            self.unfinished.remove(&group).expect("a snapshot is begun before it is finished");
        let (from, to) = (self.layout.unfinished_snapshot(group), self.layout.snapshot(group, slot));
        file.sync_all().map_err(StorageError::io(&from))?;
        fs::rename(&from, &to).map_err(StorageError::io(&to))?;
        // The one before will go: a file that is open keeps its room on the disk.
        self.reading.remove(&group);
        files::sync_directory(&self.layout.snapshots())
    }

    fn read_snapshot(
        &mut self,
        group: GroupId,
        slot: Slot,
        offset: u64,
        into: &mut [u8],
    ) -> Result<usize, StorageError> {
        let path = self.layout.snapshot(group, slot);
        if self.reading.get(&group).is_none_or(|(open, _)| *open != slot) {
            match File::open(&path) {
                Ok(file) => self.reading.insert(group, (slot, file)),
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(0),
                Err(error) => return Err(StorageError::Io { path, error }),
            };
        }
        files::read_at(&self.reading[&group].1, offset, into).map_err(StorageError::io(&path))
    }
}

/// Loads the state that a snapshot of a data directory holds. `seed` is for the hash tables.
///
/// # Errors
/// If it is damaged (with file and offset), of another cluster, or cannot be read.
pub fn load(data: &Path, name: Name, seed: u64, genesis: &Genesis) -> Result<Ledger, StorageError> {
    let tables = (seed, genesis, PARTS);
    let layout = Layout::new(data);
    let path = layout.snapshot(name.group, name.slot);
    let group = name.group;
    snapshot::load(&mut SnapshotFiles::new(layout), name, tables).map_err(|error| match error {
        LoadError::Device(error) => error,
        LoadError::Snapshot(SnapshotError::Header) => StorageError::SnapshotDamaged { path, group, offset: 0 },
        LoadError::Snapshot(SnapshotError::Chunk(offset)) => StorageError::SnapshotDamaged { path, group, offset },
        LoadError::Snapshot(SnapshotError::Image(error)) => StorageError::SnapshotUnusable { path, group, error },
    })
}
