//! The node's files: its identity, its write-ahead log, its promises.
//!
//! | in the data directory | what |
//! |---|---|
//! | `identity` | whose directory it is; written last when it is formatted, never again |
//! | `lock` | held by the process that uses the directory |
//! | `boot` | only under a relaxed fsync policy: the boot of the machine under which there may be unsynced writes |
//! | `log/00000001.log`, ... | the segments of the log, see [`drachma_protocol::log`] |
//! | `promises/g1`, ... | the second copy of each group's promise, see [`drachma_protocol::log::promise`] |
//!
//! [`format()`] makes a directory, [`open()`] checks it and recovers what it holds, [`LogFiles::start`] runs the one thread
//! that writes it. What is written and synced when is decided in [`drachma_protocol::log::store`]; here are the files,
//! the threads and the queue.

mod device;
mod error;
mod files;
mod handle;
mod identity;
mod open;
mod prepare;
mod thread;

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use bytes::Bytes;
use drachma_protocol::ids::{ClusterId, DirectoryId, GroupId, NodeId, Slot};
use drachma_protocol::log::record::Recovered;
use drachma_protocol::role::Token;

pub use error::StorageError;
pub use handle::{Full, LogHandle};
pub use identity::format;
pub use open::{LogFiles, open};

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

/// What the log thread tells.
#[derive(Debug)]
pub enum LogEvent {
    /// Everything of this group up to the token is as durable as configured.
    Persisted(GroupId, Token),
    /// The answer to a fetch: the position of the first entry, and at least one entry unless nothing is stored there.
    Fetched(GroupId, Slot, Vec<Bytes>),
}
