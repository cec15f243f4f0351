//! What a node is told when it starts.

use std::path::PathBuf;

use drachma_protocol::ids::{ClusterId, GroupId, NodeId};
use drachma_protocol::ledger::Genesis;
use drachma_protocol::time::Span;

/// Everything a node needs to know.
#[derive(Clone, Debug)]
pub struct NodeConfig {
    /// Who it is.
    pub node: NodeId,
    /// The cluster that it belongs to.
    pub cluster: ClusterId,
    /// The node's own data directory, formatted before.
    pub data: PathBuf,
    /// Where it listens, `host:port`.
    pub listen: String,
    /// Every node of the cluster with its address, this one included.
    pub nodes: Vec<(NodeId, String)>,
    /// Every group of the cluster with the nodes of its first members.
    pub groups: Vec<(GroupId, Vec<NodeId>)>,
    /// What each group begins with.
    pub genesis: Vec<Genesis>,
    /// The timers.
    pub timers: Timers,
    /// The log.
    pub storage: StorageConfig,
}

/// How long things take.
#[derive(Clone, Copy, Debug)]
pub struct Timers {
    /// Between two heartbeats of a leader.
    pub heartbeat: Span,
    /// Silence after which a leader is suspected; adapts from there.
    pub leader_timeout: Span,
    /// How long a request may take that does not say so itself.
    pub deadline: Span,
}

/// How the log is kept.
#[derive(Clone, Copy, Debug)]
pub struct StorageConfig {
    /// When it is synced.
    pub fsync: Fsync,
    /// The size of a segment.
    pub segment_bytes: u64,
}

/// When the log is synced.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Fsync {
    /// Before anything is promised.
    Always,
    /// At most this long after; a restart of the machine then counts as a wiped disk (hazard S31).
    Interval(Span),
    /// When the operating system likes; as above.
    Never,
}
