//! Opening a directory: checks, lock, recovery.

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io::{Read, Write};
use std::path::Path;
use std::sync::Arc;

use drachma_protocol::ids::{ClusterId, GroupId, NodeId};
use drachma_protocol::log::segment::MAX_SEGMENT;
use drachma_protocol::log::store::{Found, Store, StoreError};
use rustix::fs::{FlockOperation, flock};

use super::device::Files;
use super::files::{self, Layout};
use super::identity::{self, Stored};
use super::{Opened, SnapshotState, StorageError};
use crate::config::{Fsync, StorageConfig};

/// The open log.
pub struct LogFiles {
    pub(super) layout: Layout,
    pub(super) fsync: Fsync,
    pub(super) store: Store<Files>,
    /// Between two snapshots of a group, in bytes of its log.
    pub(super) snapshot_every: u64,
    pub(super) cluster: ClusterId,
    /// What was found of each group's snapshots.
    pub(super) snapshots: BTreeMap<GroupId, SnapshotState>,
    /// Held as long as the log is, or snapshots are.
    pub(super) lock: Arc<File>,
}

/// The smallest segment in bytes; a smaller setting counts as this.
const LEAST_SEGMENT: u32 = 64 << 10;

/// Opens a directory, recovers what it holds, and locks it.
///
/// # Errors
/// If it is missing, empty, another cluster's or node's, damaged (with file and offset), in use, or the machine was
/// restarted under a relaxed fsync policy.
pub fn open(
    data: &Path,
    cluster: ClusterId,
    node: NodeId,
    groups: &[GroupId],
    config: StorageConfig,
) -> Result<Opened, StorageError> {
    let layout = Layout::new(data);
    let stored = identify(&layout, cluster, node, groups)?;
    let lock = lock(&layout)?;
    check_boot(&layout)?;
    // Directories of earlier builds have none.
    fs::create_dir_all(layout.snapshots()).map_err(StorageError::io(&layout.snapshots()))?;
    remove_unfinished(&layout, groups)?;
    let segment_bytes = u32::try_from(config.segment_bytes).unwrap_or(MAX_SEGMENT).clamp(LEAST_SEGMENT, MAX_SEGMENT);
    let opened = Store::open(Files::new(layout.clone()), stored.owner, &stored.groups, segment_bytes);
    let (store, found) = opened.map_err(|error| refusal(&layout, error))?;
    tell(&layout, &found);
    note_boot(&layout, config.fsync)?;
    let groups = store.groups().iter().map(|(group, state)| (*group, state.recovered())).collect::<BTreeMap<_, _>>();
    let snapshots = snapshots_of(&layout, &store)?;
    let log = LogFiles {
        layout,
        fsync: config.fsync,
        store,
        snapshot_every: config.snapshot_every_bytes,
        cluster,
        snapshots,
        lock: Arc::new(lock),
    };
    Ok(Opened { directory: stored.owner.directory, shape: stored.shape, groups, log })
}

/// Removes what a crash has left half made.
fn remove_unfinished(layout: &Layout, groups: &[GroupId]) -> Result<(), StorageError> {
    files::remove_file(&layout.unfinished())?;
    groups.iter().try_for_each(|group| files::remove_file(&layout.unfinished_snapshot(*group)))
}

fn snapshots_of(layout: &Layout, store: &Store<Files>) -> Result<BTreeMap<GroupId, SnapshotState>, StorageError> {
    let mut states: BTreeMap<_, _> = store.groups().keys().map(|group| (*group, SnapshotState::default())).collect();
    for (group, slot, bytes) in layout.whole_snapshots()? {
        states.insert(group, SnapshotState { slot, bytes, ..SnapshotState::default() });
    }
    Ok(states)
}

/// Why the log cannot be used, with the file.
pub(super) fn refusal(layout: &Layout, error: StoreError<StorageError>) -> StorageError {
    match error {
        StoreError::Device(error) => error,
        StoreError::Damage(damage) => {
            StorageError::Damaged { path: layout.segment(damage.segment), offset: damage.offset, what: damage.flaw }
        }
        StoreError::PromisesLost(group) => StorageError::PromisesLost { path: layout.promise(group), group },
        StoreError::SnapshotMissing(group, slot) => {
            StorageError::SnapshotMissing { path: layout.snapshot(group, slot), group }
        }
    }
}

fn tell(layout: &Layout, found: &Found) {
    for group in &found.torn_promises {
        let path = layout.promise(*group);
        tracing::warn!(path = %path.display(), "a promise slot is not whole and is written again");
    }
    if let Some(end) = found.doubtful {
        tracing::warn!(
            path = %layout.segment(end.segment).display(),
            offset = end.offset,
            "bad bytes after the last good record: the replicas of this node abstain until they are synchronised"
        );
    }
}

/// Whose directory is it?
fn identify(layout: &Layout, cluster: ClusterId, node: NodeId, groups: &[GroupId]) -> Result<Stored, StorageError> {
    let path = layout.data.clone();
    let empty = match identity::is_empty(&path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Err(StorageError::Missing { path }),
        empty => empty.map_err(StorageError::io(&path))?,
    };
    let Some(stored) = Stored::read(layout)? else {
        return Err(if empty { StorageError::NotFormatted { path } } else { StorageError::Stranger { path } });
    };
    let owner = stored.owner;
    if owner.cluster != cluster {
        let shape = stored.shape;
        return Err(StorageError::OtherCluster { path, found: owner.cluster, expected: cluster, shape });
    }
    if owner.node != node {
        return Err(StorageError::OtherNode { path, found: owner.node, expected: node });
    }
    let expected = identity::sorted(groups);
    if stored.groups != expected {
        return Err(StorageError::OtherGroups { path, found: stored.groups, expected });
    }
    Ok(stored)
}

/// Takes the directory for this process; the system gives it back when the process ends, however it ends.
fn lock(layout: &Layout) -> Result<File, StorageError> {
    let path = layout.lock();
    let open = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(&path);
    let mut file = open.map_err(StorageError::io(&path))?;
    if let Err(error) = flock(&file, FlockOperation::NonBlockingLockExclusive) {
        if error != rustix::io::Errno::WOULDBLOCK {
            return Err(StorageError::Io { path, error: error.into() });
        }
        let mut holder = String::new();
        // Only for the message; whoever holds the lock may not have written it yet.
        let known = file.read_to_string(&mut holder).is_ok() && !holder.trim().is_empty();
        let holder = if known { holder.trim().to_owned() } else { "unknown".to_owned() };
        return Err(StorageError::InUse { path, holder });
    }
    let write = file.set_len(0).and_then(|()| writeln!(file, "{}", std::process::id()));
    write.map_err(StorageError::io(&path))?;
    Ok(file)
}

/// Identifies the time since the machine was started.
fn boot_id() -> Result<String, StorageError> {
    let path = Path::new("/proc/sys/kernel/random/boot_id");
    fs::read_to_string(path).map_err(StorageError::io(path))
}

/// Unsynced writes outlive the process, but not the machine (hazard S31).
fn check_boot(layout: &Layout) -> Result<(), StorageError> {
    let path = layout.boot();
    match fs::read_to_string(&path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(StorageError::Io { path, error }),
        Ok(boot) if boot == boot_id()? => Ok(()),
        Ok(_) => Err(StorageError::LostWrites { path: layout.data.clone() }),
    }
}

/// Notes under a relaxed policy, before the first write, under which boot there may be unsynced writes.
fn note_boot(layout: &Layout, fsync: Fsync) -> Result<(), StorageError> {
    match fsync {
        Fsync::Always => forget_boot(layout),
        Fsync::Interval(_) | Fsync::Never => files::replace_file(&layout.boot(), boot_id()?.as_bytes()),
    }
}

/// Everything is synced.
pub(super) fn forget_boot(layout: &Layout) -> Result<(), StorageError> {
    files::remove_file(&layout.boot())?;
    files::sync_directory(&layout.data)
}
