//! How a connection begins: who calls, and whether he may.

use std::collections::BTreeSet;

use drachma_protocol::ids::{ClusterId, DirectoryId, NodeId};
use drachma_protocol::message::hello::{Caller, Goodbye, Hello, Refusal, Welcome};
use drachma_protocol::wire::frame::VERSIONS;

/// Who this node is.
#[derive(Clone, Debug)]
pub(crate) struct Identity {
    /// The cluster.
    pub(crate) cluster: ClusterId,
    /// The node.
    pub(crate) node: NodeId,
    /// Its data directory.
    pub(crate) directory: DirectoryId,
    /// Every node of the cluster.
    pub(crate) nodes: BTreeSet<NodeId>,
}

/// A caller that may stay.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Admitted {
    /// Another node.
    Peer(NodeId),
    /// A client, or the command line.
    Client,
}

impl Identity {
    /// What this node says when it calls a peer.
    pub(crate) fn hello(&self) -> Hello {
        Hello {
            lowest: *VERSIONS.start(),
            highest: *VERSIONS.end(),
            cluster: Some(self.cluster),
            caller: Caller::Peer,
            node: Some(self.node),
            directory: Some(self.directory),
        }
    }

    /// Who calls, and the version that both will use.
    ///
    /// # Errors
    /// If he may not: what he is told.
    pub(crate) fn judge(&self, hello: &Hello) -> Result<(Admitted, Welcome), Goodbye> {
        let version = common_version(hello.lowest, hello.highest).ok_or_else(|| {
            let (low, high) = (VERSIONS.start(), VERSIONS.end());
            goodbye(Refusal::Version, format!("this node speaks versions {low} to {high}"))
        })?;
        if hello.cluster.is_some_and(|cluster| cluster != self.cluster) {
            return Err(goodbye(Refusal::Cluster, format!("this node belongs to cluster {}", self.cluster)));
        }
        let admitted = match hello.caller {
            Caller::Client | Caller::Operator => Admitted::Client,
            Caller::Peer => Admitted::Peer(self.judge_peer(hello)?),
        };
        Ok((admitted, Welcome { version, cluster: self.cluster, node: self.node }))
    }

    fn judge_peer(&self, hello: &Hello) -> Result<NodeId, Goodbye> {
        let stranger = |text: String| Err(goodbye(Refusal::Stranger, text));
        let (Some(_), Some(node), Some(directory)) = (hello.cluster, hello.node, hello.directory) else {
            return stranger("a peer names its cluster, its node and its data directory".to_owned());
        };
        if !self.nodes.contains(&node) {
            return stranger(format!("{node} is no node of this cluster"));
        }
        if node == self.node {
            return stranger(format!("{node} is this node itself"));
        }
        if directory == self.directory {
            return stranger(format!("{node} runs on a copy of the data directory of {}", self.node));
        }
        Ok(node)
    }

    /// Whether the peer that was called is the one that answers.
    ///
    /// # Errors
    /// If it is another, or speaks another version: for people.
    pub(crate) fn judge_welcome(&self, called: NodeId, welcome: &Welcome) -> Result<(), String> {
        if welcome.cluster != self.cluster {
            return Err(format!("cluster {} answers", welcome.cluster));
        }
        if welcome.node != called {
            return Err(format!("{} answers", welcome.node));
        }
        if !VERSIONS.contains(&welcome.version) {
            return Err(format!("version {} was chosen", welcome.version));
        }
        Ok(())
    }
}

fn common_version(lowest: u8, highest: u8) -> Option<u8> {
    let common = highest.min(*VERSIONS.end());
    (lowest <= common && common >= *VERSIONS.start()).then_some(common)
}

/// A typed error.
pub(crate) fn goodbye(refusal: Refusal, text: impl Into<String>) -> Goodbye {
    Goodbye { refusal, text: text.into() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn identity() -> Identity {
        let nodes = [1, 2, 3].map(NodeId).into();
        Identity { cluster: ClusterId(7), node: NodeId(1), directory: DirectoryId(11), nodes }
    }

    fn peer() -> Hello {
        Identity { node: NodeId(2), directory: DirectoryId(22), ..identity() }.hello()
    }

    fn refusal(hello: &Hello) -> Option<Refusal> {
        identity().judge(hello).err().map(|goodbye| goodbye.refusal)
    }

    #[test]
    fn peers_and_clients_are_welcome() {
        let (admitted, welcome) = identity().judge(&peer()).unwrap();
        assert_eq!(admitted, Admitted::Peer(NodeId(2)));
        assert_eq!(welcome, Welcome { version: 1, cluster: ClusterId(7), node: NodeId(1) });
        for caller in [Caller::Client, Caller::Operator] {
            let hello = Hello { caller, cluster: None, node: None, directory: None, ..peer() };
            assert_eq!(identity().judge(&hello).unwrap().0, Admitted::Client);
        }
    }

    #[test]
    fn whoever_does_not_belong_here_is_told_why() {
        let cases = [
            (Hello { lowest: 2, highest: 9, ..peer() }, Refusal::Version),
            (Hello { lowest: 0, highest: 0, ..peer() }, Refusal::Version),
            (Hello { lowest: 9, highest: 1, ..peer() }, Refusal::Version),
            (Hello { cluster: Some(ClusterId(8)), ..peer() }, Refusal::Cluster),
            (Hello { cluster: Some(ClusterId(8)), caller: Caller::Client, ..peer() }, Refusal::Cluster),
            (Hello { cluster: None, ..peer() }, Refusal::Stranger),
            (Hello { node: None, ..peer() }, Refusal::Stranger),
            (Hello { directory: None, ..peer() }, Refusal::Stranger),
            (Hello { node: Some(NodeId(4)), ..peer() }, Refusal::Stranger),
            (Hello { node: Some(NodeId(1)), ..peer() }, Refusal::Stranger),
            (Hello { directory: Some(DirectoryId(11)), ..peer() }, Refusal::Stranger),
        ];
        for (hello, expected) in cases {
            assert_eq!(refusal(&hello), Some(expected), "{hello:?}");
        }
        assert_eq!(refusal(&Hello { highest: 200, ..peer() }), None, "a newer caller that still speaks ours");
    }

    #[test]
    fn a_welcome_of_somebody_else_is_seen() {
        let good = Welcome { version: 1, cluster: ClusterId(7), node: NodeId(2) };
        assert!(identity().judge_welcome(NodeId(2), &good).is_ok());
        for bad in [
            Welcome { node: NodeId(3), ..good.clone() },
            Welcome { cluster: ClusterId(8), ..good.clone() },
            Welcome { version: 9, ..good.clone() },
        ] {
            assert!(identity().judge_welcome(NodeId(2), &bad).is_err(), "{bad:?}");
        }
    }
}
