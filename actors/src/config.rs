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
    /// Where metrics are served, `host:port`; nothing serves none.
    pub metrics: Option<String>,
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

/// How the log is kept, and bounded.
#[derive(Clone, Copy, Debug)]
pub struct StorageConfig {
    /// When it is synced.
    pub fsync: Fsync,
    /// The size of a segment.
    pub segment_bytes: u64,
    /// A snapshot of a group is taken when about so many bytes of its log were applied since the last one.
    pub snapshot_every_bytes: u64,
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

/// What a node holds for others at most. Fixed in operation; tests make them small.
#[derive(Clone, Copy, Debug)]
pub struct NodeLimits {
    /// Clients that are connected at once; one more gets `Goodbye(Overloaded)`.
    pub clients: usize,
    /// Connections on top of the clients': peers, and those that have not said Hello.
    pub other_connections: usize,
    /// How long a connection may take to say Hello.
    pub hello: Span,
    /// How long the rest of a frame may take.
    pub frame: Span,
    /// How long a client may leave its answers unread once its socket is full.
    pub unread: Span,
    /// Requests of one connection that wait for their answers; then the connection is not read.
    pub requests_per_client: usize,
    /// Bytes of such requests; then the connection is not read.
    pub request_bytes_per_client: usize,
    /// Bytes of requests, whole or in part, of all clients; then new ones are refused as overloaded.
    pub request_bytes: usize,
    /// Bytes of frames of peers that have not arrived whole.
    pub peer_bytes: usize,
    /// Bytes of answers that one client has not read; one more answer, and it is cut off.
    pub answer_bytes_per_client: usize,
    /// Bytes of answers that all clients have not read; beyond it a client may have
    /// [`answer_bytes_reserved`](NodeLimits::answer_bytes_reserved) or is cut off.
    pub answer_bytes: usize,
    /// See [`answer_bytes`](NodeLimits::answer_bytes).
    pub answer_bytes_reserved: usize,
    /// Bytes that wait for one peer's socket; then frames are dropped and counted.
    pub link_bytes: usize,
}

impl Default for NodeLimits {
    fn default() -> NodeLimits {
        const MIB: usize = 1024 * 1024;
        NodeLimits {
            clients: 12_000,
            other_connections: 2_048,
            hello: Span::from_millis(5_000),
            frame: Span::from_millis(60_000),
            unread: Span::from_millis(30_000),
            requests_per_client: 64 * 1_024,
            request_bytes_per_client: 8 * MIB,
            request_bytes: 256 * MIB,
            peer_bytes: 256 * MIB,
            answer_bytes_per_client: 8 * MIB,
            answer_bytes: 256 * MIB,
            answer_bytes_reserved: 16 * 1024,
            link_bytes: 8 * MIB,
        }
    }
}
