//! The node's files: its identity, its write-ahead log, its promises.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use drachma_protocol::ids::{ClusterId, DirectoryId, GroupId, NodeId, Slot};
use drachma_protocol::log::record::{Record, Recovered};
use drachma_protocol::role::Token;

use crate::config::StorageConfig;

/// Why a data directory cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum StorageError {
    /// The system refused.
    #[error("{path}: {error}")]
    Io {
        /// Which file or directory.
        path: PathBuf,
        /// What the system said.
        error: std::io::Error,
    },
}

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

/// Formats a directory that is empty or does not exist, and returns the id drawn for it.
///
/// # Errors
/// If something is there already, or the system refuses.
pub fn format(data: &Path, identity: &Identity, groups: &[GroupId]) -> Result<DirectoryId, StorageError> {
    let _ = (data, identity, groups);
    unimplemented!()
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

/// The open log.
pub struct LogFiles {}

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
    let _ = (data, cluster, node, groups, config);
    unimplemented!()
}

/// What the log thread tells.
#[derive(Debug)]
pub enum LogEvent {
    /// Everything of this group up to the token is as durable as configured.
    Persisted(GroupId, Token),
    /// The answer to a fetch.
    Fetched(GroupId, Slot, Vec<Bytes>),
}

/// Gives work to the log thread. Cheap to clone, never blocks.
#[derive(Clone)]
pub struct LogHandle {}

/// The log's queue is full: try later.
#[derive(Debug)]
pub struct Full;

impl LogFiles {
    /// Starts the log thread. `sink` is called on that thread for every event; it must not block. On a disk error the
    /// thread logs it and ends the process.
    pub fn start(self, sink: Arc<dyn Fn(LogEvent) + Send + Sync>) -> LogHandle {
        let _ = sink;
        unimplemented!()
    }
}

impl LogHandle {
    /// Queues records of a group; `LogEvent::Persisted` follows.
    ///
    /// # Errors
    /// If the byte credit is used up; nothing was queued.
    pub fn append(&self, group: GroupId, token: Token, records: Vec<Record>) -> Result<(), Full> {
        let _ = (group, token, records);
        unimplemented!()
    }

    /// Asks for entries in `[from, until)`, about `bytes` of them; `LogEvent::Fetched` follows.
    pub fn fetch(&self, group: GroupId, from: Slot, until: Slot, bytes: usize) {
        let _ = (group, from, until, bytes);
        unimplemented!()
    }

    /// Bytes that may still be queued.
    pub fn credit(&self) -> usize {
        unimplemented!()
    }

    /// Writes what is queued, marks the log as closed in order, and ends the thread.
    pub fn close(self) {
        unimplemented!()
    }
}
