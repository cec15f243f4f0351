//! How a connection begins.

use crate::ids::{ClusterId, DirectoryId, NodeId};
use crate::wire::codec::{wire_struct, wire_tags};

/// Who opens a connection.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Caller {
    /// Another node of the cluster.
    Peer,
    /// A client of the ledger.
    Client,
    /// The command line's operator commands.
    Operator,
}
wire_tags!(Caller { 1 => Peer, 2 => Client, 3 => Operator });

/// The first frame of a connection.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Hello {
    /// The lowest version of the protocol that the caller speaks.
    pub lowest: u8,
    /// The highest.
    pub highest: u8,
    /// The cluster that the caller means; a client that does not know it says nothing.
    pub cluster: Option<ClusterId>,
    /// Who calls.
    pub caller: Caller,
    /// The calling node, if it is a peer.
    pub node: Option<NodeId>,
    /// The data directory of the calling node, if it is a peer.
    pub directory: Option<DirectoryId>,
}
wire_struct!(Hello { lowest, highest, cluster, caller, node, directory });

/// The answer to Hello.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Welcome {
    /// The highest version that both know; used from here on.
    pub version: u8,
    /// The cluster that the node belongs to.
    pub cluster: ClusterId,
    /// The node that answers.
    pub node: NodeId,
}
wire_struct!(Welcome { version, cluster, node });

/// Why a node closes a connection.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Refusal {
    /// No common version.
    Version,
    /// The caller means another cluster.
    Cluster,
    /// The caller is no node of this cluster, or not who it says it is.
    Stranger,
    /// A frame over the limit.
    TooLarge,
    /// A frame or body that is not well-formed, or not of this state of the connection.
    Malformed,
    /// Too many connections, or answers that are not read.
    Overloaded,
    /// The node stops.
    Stopping,
}
wire_tags!(Refusal {
    1 => Version, 2 => Cluster, 3 => Stranger, 4 => TooLarge, 5 => Malformed, 6 => Overloaded, 7 => Stopping,
});

/// A typed error; the connection is closed after it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Goodbye {
    /// Why.
    pub refusal: Refusal,
    /// For people.
    pub text: String,
}
wire_struct!(Goodbye { refusal, text });
