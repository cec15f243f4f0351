//! Opening a directory: checks, lock, recovery.

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io::{Read, Write};
use std::os::unix::fs::FileExt;
use std::path::Path;

use drachma_protocol::ids::{ClusterId, GroupId, NodeId};
use drachma_protocol::log::recover::{Damage, Recoverer, Recovery, Spare};
use drachma_protocol::log::segment::{HEAD, HEADER, MAX_SEGMENT};
use drachma_protocol::log::writer::Appender;
use rustix::fs::{FlockOperation, flock};

use super::files::{self, Layout};
use super::identity::{self, Stored};
use super::promises::Promises;
use super::{Opened, StorageError};
use crate::config::{Fsync, StorageConfig};

/// The open log.
pub struct LogFiles {
    pub(super) layout: Layout,
    pub(super) fsync: Fsync,
    /// What a segment has at least, in bytes.
    pub(super) segment_bytes: u32,
    pub(super) appender: Appender,
    /// The segment that is appended to.
    pub(super) segment: File,
    /// The next one, if it was prepared already, and its size.
    pub(super) spare: Option<(File, u32)>,
    pub(super) promises: Promises,
    /// Held as long as the log is.
    pub(super) _lock: File,
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
    files::remove_file(&layout.unfinished())?;
    let mut recovery = recover(&layout, &stored)?;
    harden(&layout, &recovery)?;
    let promises = Promises::recover(&layout, stored.owner.directory, &mut recovery)?;
    if let Some(end) = recovery.doubtful {
        tracing::warn!(
            path = %layout.segment(end.segment).display(),
            offset = end.offset,
            "bad bytes after the last good record: the replicas of this node abstain until they are synchronised"
        );
    }
    let segment_bytes = u32::try_from(config.segment_bytes).unwrap_or(MAX_SEGMENT).clamp(LEAST_SEGMENT, MAX_SEGMENT);
    let mut spare = take_spare(&layout, recovery.spare)?;
    let mut appender = recovery.appender;
    let segment = if appender.is_ended() {
        // A doubtful end is on record before anything else happens (hazard S28).
        begin_segment(&layout, &mut appender, spare.take(), segment_bytes)?
    } else {
        open_file(&layout, appender.position().segment)?
    };
    note_boot(&layout, config.fsync)?;
    let groups = appender.groups().iter().map(|(group, state)| (*group, state.recovered())).collect::<BTreeMap<_, _>>();
    let fsync = config.fsync;
    let log = LogFiles { layout, fsync, segment_bytes, appender, segment, spare, promises, _lock: lock };
    Ok(Opened { directory: stored.owner.directory, shape: stored.shape, groups, log })
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

fn recover(layout: &Layout, stored: &Stored) -> Result<Recovery, StorageError> {
    let damaged = |damage: Damage| StorageError::Damaged {
        path: layout.segment(damage.segment),
        offset: damage.offset,
        what: damage.flaw,
    };
    let mut recoverer = Recoverer::new(stored.owner, &stored.groups);
    let mut bytes = Vec::new();
    for number in layout.segments()? {
        let path = layout.segment(number);
        bytes.clear();
        let read = File::open(&path).and_then(|mut file| file.read_to_end(&mut bytes));
        read.map_err(StorageError::io(&path))?;
        recoverer.segment(number, &bytes).map_err(damaged)?;
    }
    recoverer.finish().map_err(damaged)
}

/// Makes what was recovered durable: it may have been in the page cache only (hazard S29). What nothing shows to have
/// been synced is written again, because after a sync that failed the cache calls itself clean and the disk has
/// something else.
fn harden(layout: &Layout, recovery: &Recovery) -> Result<(), StorageError> {
    let last = recovery.appender.position();
    let path = layout.segment(last.segment);
    let file = open_file(layout, last.segment)?;
    let mut bytes = vec![0; 1 << 20];
    let mut at = u64::from(recovery.unsynced.offset);
    while at < u64::from(last.offset) {
        let step = bytes.len().min((u64::from(last.offset) - at) as usize);
        let again = file.read_exact_at(&mut bytes[..step], at).and_then(|()| file.write_all_at(&bytes[..step], at));
        again.map_err(StorageError::io(&path))?;
        at += step as u64;
    }
    for number in layout.segments()? {
        let path = layout.segment(number);
        File::open(&path).and_then(|file| file.sync_all()).map_err(StorageError::io(&path))?;
    }
    files::sync_directory(&layout.log())
}

/// The segment that was prepared, if it can be used.
fn take_spare(layout: &Layout, spare: Option<Spare>) -> Result<Option<(File, u32)>, StorageError> {
    let Some(spare) = spare else { return Ok(None) };
    match u32::try_from(spare.size) {
        Ok(size) if spare.blank && (HEADER + HEAD..=MAX_SEGMENT).contains(&size) => {
            Ok(Some((open_file(layout, spare.segment)?, size)))
        }
        _ => {
            files::remove_file(&layout.segment(spare.segment))?;
            files::sync_directory(&layout.log())?;
            Ok(None)
        }
    }
}

/// Begins the next segment in `spare` or in a new file. Its header is durable afterwards.
pub(super) fn begin_segment(
    layout: &Layout,
    appender: &mut Appender,
    spare: Option<(File, u32)>,
    size: u32,
) -> Result<File, StorageError> {
    let number = appender.position().segment + 1;
    let (file, size) = match spare {
        Some(spare) => spare,
        None => (files::make_segment(layout, number, size, &[])?, size),
    };
    let header = appender.begin_segment(size);
    let write = file.write_all_at(&header.encode(), 0).and_then(|()| file.sync_data());
    write.map_err(StorageError::io(&layout.segment(number)))?;
    Ok(file)
}

fn open_file(layout: &Layout, number: u32) -> Result<File, StorageError> {
    let path = layout.segment(number);
    OpenOptions::new().read(true).write(true).open(&path).map_err(StorageError::io(&path))
}
