//! The nodes of a configuration as processes of this machine.

use std::path::{Path, PathBuf};
use std::time::Duration;

use drachma_protocol::ids::{GroupId, NodeId};

use crate::settings::Settings;

/// How a local cluster's processes are kept.
#[derive(Clone, Debug)]
pub struct LocalOptions {
    /// The executable of the nodes; nothing means the running one.
    pub executable: Option<PathBuf>,
    /// Free ports instead of the configuration's.
    pub free_ports: bool,
    /// Whether the nodes end with this process, however it ends. If not, a state file remembers them.
    pub owned: bool,
}

impl LocalOptions {
    /// Free ports, and nodes that end with this process.
    pub fn embedded() -> LocalOptions {
        LocalOptions { executable: None, free_ports: true, owned: true }
    }
}

/// Why local nodes cannot be started or stopped.
#[derive(Debug, thiserror::Error)]
pub enum LocalError {
    /// A file or process operation failed.
    #[error("{what}: {error}")]
    Io {
        /// What was tried.
        what: String,
        /// What the system said.
        error: std::io::Error,
    },
    /// A node ended before it was ready; the message has the end of its log.
    #[error("{node} did not start: {message}")]
    NotStarted {
        /// Which.
        node: NodeId,
        /// Why, as it said itself.
        message: String,
    },
    /// The data directories are not as they must be.
    #[error("{0}")]
    Data(String),
    /// The cluster that runs is not of this configuration, or there is none.
    #[error("{0}")]
    State(String),
}

/// The nodes of a configuration as processes of this machine. Dropping an owned one ends its nodes.
pub struct LocalCluster {}

#[allow(unused_variables)]
impl LocalCluster {
    /// A cluster without a running node. `data` gets one directory per node, their logs, and for free ports the
    /// configuration as it is used.
    ///
    /// # Errors
    /// If the directory cannot be made, or no ports are free.
    pub fn create(settings: Settings, data: PathBuf, options: LocalOptions) -> Result<LocalCluster, LocalError> {
        unimplemented!()
    }

    /// The nodes that `up` has started from this configuration in this directory.
    ///
    /// # Errors
    /// If it has started none, or from another configuration.
    pub fn attach(settings: Settings, data: PathBuf) -> Result<LocalCluster, LocalError> {
        unimplemented!()
    }

    /// The settings as they are used, with the real addresses.
    pub fn settings(&self) -> &Settings {
        unimplemented!()
    }

    /// The directory with one directory per node.
    pub fn data(&self) -> &Path {
        unimplemented!()
    }

    /// All addresses, running or not.
    pub fn endpoints(&self) -> Vec<String> {
        unimplemented!()
    }

    /// Removes and formats the directories of all nodes; none may be running.
    ///
    /// # Errors
    /// If one runs, or the system refuses.
    pub fn format_all(&mut self) -> Result<(), LocalError> {
        unimplemented!()
    }

    /// Starts a node and returns at once; does nothing if it runs. Call it from a thread that lives as long as the
    /// cluster: the system ends owned nodes with the thread that started them.
    ///
    /// # Errors
    /// If the process cannot be started.
    pub fn start(&mut self, node: NodeId) -> Result<(), LocalError> {
        unimplemented!()
    }

    /// Starts every node that does not run, and returns at once.
    ///
    /// # Errors
    /// As [`LocalCluster::start`].
    pub fn start_all(&mut self) -> Result<(), LocalError> {
        unimplemented!()
    }

    /// Waits until a started node says that it serves.
    ///
    /// # Errors
    /// If it ends before, with what it said, or the time is up.
    pub async fn wait_ready(&mut self, node: NodeId, timeout: Duration) -> Result<(), LocalError> {
        unimplemented!()
    }

    /// Waits until each of the groups has a leader that serves; false if the time is up.
    pub async fn wait_leaders(&mut self, groups: &[GroupId], timeout: Duration) -> bool {
        unimplemented!()
    }

    /// Waits until every replica of the node has applied what its group's leader had chosen when this was called;
    /// false if the time is up or a group has no leader.
    pub async fn wait_caught_up(&mut self, node: NodeId, timeout: Duration) -> bool {
        unimplemented!()
    }

    /// The node that leads the group and serves, if there is one.
    pub async fn leader_of(&mut self, group: GroupId) -> Option<NodeId> {
        unimplemented!()
    }

    /// Kills a node (SIGKILL) and waits for the end of its process; does nothing if it does not run.
    ///
    /// # Errors
    /// If the system refuses.
    pub fn kill(&mut self, node: NodeId) -> Result<(), LocalError> {
        unimplemented!()
    }

    /// Asks every node to stop (SIGTERM), waits, and kills those that do not.
    ///
    /// # Errors
    /// If the system refuses.
    pub fn stop_all(&mut self) -> Result<(), LocalError> {
        unimplemented!()
    }

    /// The running nodes.
    pub fn running(&mut self) -> Vec<NodeId> {
        unimplemented!()
    }

    /// Whether a node runs.
    pub fn is_running(&mut self, node: NodeId) -> bool {
        unimplemented!()
    }
}
