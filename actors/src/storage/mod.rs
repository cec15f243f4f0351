//! The node's files: its identity, its write-ahead log, its promises.
//!
//! | in the data directory | what |
//! |---|---|
//! | `identity` | whose directory it is; written last when it is formatted, never again |
//! | `lock` | held by the process that uses the directory |
//! | `boot` | only under a relaxed fsync policy: the boot of the machine under which there may be unsynced writes |
//! | `log/00000001.log`, ... | the segments of the log, see [`drachma_protocol::log`] |
//! | `promises/g1`, ... | the second copy of each group's promise, see [`drachma_protocol::log::promise`] |
//! | `snapshots/g1-42.snapshot`, ... | a group's state after so many entries, see [`drachma_protocol::log::snapshot`] |
//! | `snapshots/g1.unfinished`, `log/unfinished` | a snapshot and a segment in the making; worth nothing after a crash |
//!
//! [`format()`] makes a directory, [`open()`] checks it and recovers what it holds, [`LogFiles::start`] runs the one thread
//! that writes it, and beside it one for snapshots. What is written and synced when is decided in
//! [`drachma_protocol::log::store`]; here are the files, the threads and the queues.

mod device;
mod error;
mod files;
mod handle;
mod identity;
mod open;
mod prepare;
mod snapshot_files;
mod snapshot_thread;
mod thread;

#[cfg(test)]
mod snapshot_tests;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use drachma_protocol::ids::{ClusterId, DirectoryId, GroupId, NodeId, Slot};
use drachma_protocol::log::record::Recovered;
use drachma_protocol::role::Token;

pub use error::StorageError;
pub use handle::{Full, LogHandle};
pub use identity::format;
pub use open::{LogFiles, open};
pub use snapshot_files::load;

/// Who a directory belongs to.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Identity {
    /// The cluster.
    pub cluster: ClusterId,
    /// The node.
    pub node: NodeId,
    /// The cluster's shape as text, to tell the difference when it was changed.
    pub shape: String,
}

/// What a directory held.
pub struct Opened {
    /// The id drawn when it was formatted.
    pub directory: DirectoryId,
    /// The shape at that time.
    pub shape: String,
    /// Each group's state, synced again before this returns (hazard S29).
    pub groups: BTreeMap<GroupId, Recovered>,
    /// The log, ready to be started.
    pub log: LogFiles,
}

/// What is known of a group's snapshots.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct SnapshotState {
    /// The last one that is whole: the state after so many entries; 0 if there is none.
    pub slot: Slot,
    /// Its size.
    pub bytes: u64,
    /// How long it took to write; nothing if that was before the node was started.
    pub took: Duration,
    /// How many were written since the node was started.
    pub written: u64,
    /// Whether one is being written.
    pub writing: bool,
}

/// What the log thread and the snapshot thread tell.
#[derive(Debug)]
pub enum LogEvent {
    /// Everything of this group up to the token is as durable as configured.
    Persisted(GroupId, Token),
    /// The answer to a fetch: the position of the first entry, and at least one entry unless nothing is stored there.
    Fetched(GroupId, Slot, Vec<Bytes>),
    /// A snapshot is durable.
    Snapshotted {
        /// Of this group.
        group: GroupId,
        /// At this slot.
        slot: Slot,
        /// How large it is.
        bytes: u64,
    },
    /// The log is long, and its oldest segment is kept for this group: it should take a snapshot.
    SnapshotDue(GroupId),
    /// The answer to a question for a piece of a snapshot.
    SnapshotRead {
        /// The group.
        group: GroupId,
        /// Which snapshot.
        slot: Slot,
        /// Where the piece stands in it.
        offset: u64,
        /// Nothing if there is no such snapshot, no piece begins there, or it is damaged.
        piece: Option<Bytes>,
    },
}
