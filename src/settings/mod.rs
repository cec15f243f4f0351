//! `cluster.toml`: what a cluster is.
//!
//! The text is read as it is written (`raw`), checked as a whole (`check`, `placement`), and what may not change after
//! formatting is its shape (`shape`), whose hash is the cluster's id.

mod check;
mod placement;
mod raw;
pub mod shape;
#[cfg(test)]
mod tests;
pub mod units;

use std::fmt;
use std::path::{Path, PathBuf};

use drachma_actors::config::{NodeConfig, StorageConfig, Timers};
use drachma_protocol::ids::{ClusterId, GroupId, NodeId};
use drachma_protocol::ledger::{Genesis, Limits};
use drachma_protocol::placement::map::ShardMap;

/// The sample that is compiled in: three groups of three replicas on nine local nodes.
pub const SAMPLE: &str = include_str!("../../cluster.toml");

/// The most nodes of a cluster.
pub const NODES_LIMIT: usize = 1000;
/// The most groups with a replica on one node.
pub const GROUPS_PER_NODE_LIMIT: usize = 64;
/// The most replicas of a group.
pub const REPLICAS_LIMIT: usize = 7;

/// A configuration that cannot be used: where and why.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub struct SettingsError {
    /// The file, or `the built-in sample`.
    pub origin: String,
    /// Line and column from 1, if the error is at a place.
    pub at: Option<(usize, usize)>,
    /// What is wrong and what is allowed.
    pub message: String,
}

impl fmt::Display for SettingsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.at {
            Some((line, column)) => write!(f, "{}:{line}:{column}: {}", self.origin, self.message),
            None => write!(f, "{}: {}", self.origin, self.message),
        }
    }
}

/// One node of the configuration.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Node {
    /// Its id.
    pub id: NodeId,
    /// Where it listens, `host:port`.
    pub address: String,
}

/// One group of the configuration.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Group {
    /// Its id.
    pub id: GroupId,
    /// The nodes of its first members, in order.
    pub nodes: Vec<NodeId>,
}

/// How a node logs.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct LogSettings {
    /// A level or a filter of `tracing`.
    pub level: String,
    /// JSON lines instead of text.
    pub json: bool,
}

/// A checked configuration.
#[derive(Clone, Debug)]
pub struct Settings {
    origin: String,
    name: String,
    data_dir: PathBuf,
    listen: Option<String>,
    nodes: Vec<Node>,
    groups: Vec<Group>,
    map: ShardMap,
    timers: Timers,
    storage: StorageConfig,
    limits: Limits,
    accounts: u64,
    initial_balance: u128,
    log: LogSettings,
    // Of n1; the next node has the next port.
    metrics: Option<(String, u16)>,
    warnings: Vec<String>,
}

impl Settings {
    /// Reads the configuration: `config`, else the file that `DRACHMA_CONFIG` names, else `./cluster.toml`, else the
    /// built-in sample.
    ///
    /// # Errors
    /// If the file cannot be read or used.
    pub fn load(config: Option<&Path>) -> Result<Settings, SettingsError> {
        let named = config.map(Path::to_path_buf).or_else(|| std::env::var_os("DRACHMA_CONFIG").map(PathBuf::from));
        let path = match named {
            Some(path) => path,
            None if Path::new("cluster.toml").exists() => PathBuf::from("cluster.toml"),
            None => return Ok(Settings::sample()),
        };
        let origin = path.display().to_string();
        let text = std::fs::read_to_string(&path).map_err(|error| SettingsError {
            origin: origin.clone(),
            at: None,
            message: format!("{error}; name a configuration with --config or DRACHMA_CONFIG"),
        })?;
        Settings::parse(&text, &origin)
    }

    /// Checks the text of a configuration; `origin` names it in errors.
    ///
    /// # Errors
    /// With line and column, what is wrong and what is allowed.
    pub fn parse(text: &str, origin: &str) -> Result<Settings, SettingsError> {
        check::settings(&check::Source { text, origin })
    }

    /// The built-in sample.
    pub fn sample() -> Settings {
        Settings::parse(SAMPLE, "the built-in sample").expect("the sample is tested")
    }

    /// Where the configuration came from.
    pub fn origin(&self) -> &str {
        &self.origin
    }

    /// The cluster's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The directory with one directory per node.
    pub fn data_dir(&self) -> &Path {
        &self.data_dir
    }

    /// Every node, by id.
    pub fn nodes(&self) -> &[Node] {
        &self.nodes
    }

    /// Every group, by id.
    pub fn groups(&self) -> &[Group] {
        &self.groups
    }

    /// One group.
    pub fn group(&self, id: GroupId) -> Option<&Group> {
        self.groups.iter().find(|group| group.id == id)
    }

    /// The groups with a replica on a node.
    pub fn groups_of(&self, node: NodeId) -> Vec<GroupId> {
        self.groups.iter().filter(|group| group.nodes.contains(&node)).map(|group| group.id).collect()
    }

    /// Where a node listens.
    pub fn node_address(&self, id: NodeId) -> Option<&str> {
        self.nodes.iter().find(|node| node.id == id).map(|node| node.address.as_str())
    }

    /// All addresses, in the order of the nodes.
    pub fn endpoints(&self) -> Vec<String> {
        self.nodes.iter().map(|node| node.address.clone()).collect()
    }

    /// Which group owns what, at epoch 1.
    pub fn shard_map(&self) -> ShardMap {
        self.map.clone()
    }

    /// How long things take.
    pub fn timers(&self) -> Timers {
        self.timers
    }

    /// The limits that are part of the cluster's identity.
    pub fn limits(&self) -> Limits {
        self.limits
    }

    /// Accounts 1 to this number exist from the beginning.
    pub fn accounts(&self) -> u64 {
        self.accounts
    }

    /// What each of them holds.
    pub fn initial_balance(&self) -> u128 {
        self.initial_balance
    }

    /// How nodes log.
    pub fn log(&self) -> &LogSettings {
        &self.log
    }

    /// What is allowed and unwise.
    pub fn warnings(&self) -> &[String] {
        &self.warnings
    }

    /// What may not change after formatting, as text, one fact a line.
    pub fn shape(&self) -> String {
        shape::shape(self)
    }

    /// A hash of the shape.
    pub fn cluster_id(&self) -> ClusterId {
        ClusterId(xxhash_rust::xxh3::xxh3_128(self.shape().as_bytes()))
    }

    /// What a group begins with.
    pub fn genesis(&self, group: GroupId) -> Genesis {
        Genesis {
            group,
            map: self.map.clone(),
            accounts: self.accounts,
            initial_balance: self.initial_balance,
            limits: self.limits,
        }
    }

    /// What a node is told when it starts; `data` is its own directory. Nothing if there is no such node.
    pub fn node_config(&self, node: NodeId, data: PathBuf) -> Option<NodeConfig> {
        let own = self.nodes.iter().find(|known| known.id == node)?;
        Some(NodeConfig {
            node,
            cluster: self.cluster_id(),
            data,
            listen: self.listen_address(own),
            nodes: self.nodes.iter().map(|node| (node.id, node.address.clone())).collect(),
            groups: self.groups.iter().map(|group| (group.id, group.nodes.clone())).collect(),
            genesis: self.groups.iter().map(|group| self.genesis(group.id)).collect(),
            timers: self.timers,
            storage: self.storage,
            metrics: self.metrics_address(node),
        })
    }

    /// What a node binds to: the `listen` host if one is given, at the port of the node's address.
    fn listen_address(&self, node: &Node) -> String {
        let Some(host) = &self.listen else { return node.address.clone() };
        let port = node.address.rsplit_once(':').map_or("", |(_, port)| port);
        if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") }
    }

    /// Where a node serves its metrics: at the port that is configured for n1, counted on.
    pub fn metrics_address(&self, node: NodeId) -> Option<String> {
        let (host, port) = self.metrics.as_ref()?;
        Some(format!("{host}:{}", port.saturating_add(node.0.saturating_sub(1))))
    }

    /// The same cluster at other addresses, without metrics, whose ports may be another's; nodes that are not named keep
    /// theirs.
    #[must_use]
    pub fn with_ports(mut self, addresses: Vec<(NodeId, String)>) -> Settings {
        (self.listen, self.metrics) = (None, None);
        for (id, address) in addresses {
            if let Some(node) = self.nodes.iter_mut().find(|node| node.id == id) {
                node.address = address;
            }
        }
        self
    }

    /// A complete `cluster.toml` of these settings, as they stand after checking.
    pub fn to_toml(&self) -> String {
        shape::to_toml(self)
    }
}
