//! The nodes of a configuration as processes of this machine.
//!
//! Two flavours: **owned** nodes end with this process, however it ends (the system kills them); **detached** ones stay,
//! and are remembered by state files in the data directory, so that `stop`, `start` and `down` find them. A process id
//! is trusted only while the process has the arguments of that node.

pub mod data;
mod ports;
mod process;
mod state;
#[cfg(test)]
mod tests;
mod watch;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use drachma_client::Client;
use drachma_protocol::ids::NodeId;
use rustix::process::Signal;

use crate::settings::Settings;
use ports::Ports;
use process::{Process, Progress, Start};

/// How long a node may take to stop in order before it is killed.
const STOP_PATIENCE: Duration = Duration::from_secs(10);

/// How a local cluster's processes are kept.
#[derive(Clone, Debug)]
pub struct LocalOptions {
    /// The executable of the nodes; nothing means the running one.
    pub executable: Option<PathBuf>,
    /// Free ports instead of the configuration's.
    pub free_ports: bool,
    /// Whether the nodes end with this process, however it ends. If not, state files remember them.
    pub owned: bool,
}

impl LocalOptions {
    /// Free ports, and nodes that end with this process.
    pub fn embedded() -> LocalOptions {
        LocalOptions { executable: None, free_ports: true, owned: true }
    }

    /// The configuration's ports, and nodes that stay.
    pub fn detached() -> LocalOptions {
        LocalOptions { executable: None, free_ports: false, owned: false }
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
    /// A node ended before it was ready, or did not become ready in time.
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

impl LocalError {
    fn io(what: String, error: std::io::Error) -> LocalError {
        LocalError::Io { what, error }
    }
}

/// The nodes of a configuration as processes of this machine. Dropping an owned one ends its nodes.
pub struct LocalCluster {
    settings: Settings,
    data: PathBuf,
    config: PathBuf,
    executable: PathBuf,
    owned: bool,
    // Whether the configuration and the state are in their files: they are written when the first node starts, so that
    // a start that is refused before leaves those of the last one.
    noted: bool,
    processes: BTreeMap<NodeId, Process>,
    // Where each node's log ended when it was started.
    log_starts: BTreeMap<NodeId, u64>,
    client: Option<Client>,
    _ports: Option<Ports>,
}

impl LocalCluster {
    /// A cluster without a running node. `data` gets one directory per node (`n1`), their logs (`n1.log`), and, when
    /// the first node starts, the configuration as it is used (`cluster.toml`).
    ///
    /// # Errors
    /// If the directory cannot be made, no ports are free, or nodes of another start are running in it.
    pub fn create(settings: Settings, data: PathBuf, options: LocalOptions) -> Result<LocalCluster, LocalError> {
        let mut cluster = LocalCluster::open(settings, data, &options)?;
        let running = cluster.running();
        if !running.is_empty() {
            let names: Vec<String> = running.iter().map(ToString::to_string).collect();
            return Err(LocalError::Data(format!(
                "{} already running in {}; `drachma down` stops them",
                match names.as_slice() {
                    [one] => format!("{one} is"),
                    many => format!("{} are", many.join(", ")),
                },
                cluster.data.display()
            )));
        }
        if options.free_ports {
            let seed = crate::id::random().unwrap_or(0) as u64;
            let ports = ports::take(cluster.settings.nodes().len(), seed)
                .map_err(|error| LocalError::io("cannot find free ports".to_owned(), error))?;
            let ids = cluster.settings.nodes().iter().map(|node| node.id);
            let addresses = ids.zip(&ports.ports).map(|(id, port)| (id, format!("127.0.0.1:{port}"))).collect();
            cluster.settings = cluster.settings.clone().with_ports(addresses);
            cluster._ports = Some(ports);
        }
        Ok(cluster)
    }

    fn note(&mut self) -> Result<(), LocalError> {
        if self.noted {
            return Ok(());
        }
        state::write(&self.config, &self.settings.to_toml())?;
        if !self.owned {
            state::save(&self.data, &self.settings)?;
        }
        self.noted = true;
        Ok(())
    }

    /// The nodes that `up` has started from this configuration in this directory.
    ///
    /// # Errors
    /// If it has started none, or from another configuration.
    pub fn attach(settings: Settings, data: PathBuf) -> Result<LocalCluster, LocalError> {
        let wrong = |what: &str| {
            let message = format!("{what} ({} in {}); start it with `drachma up`", settings.origin(), data.display());
            Err(LocalError::State(message))
        };
        match state::load(&data)? {
            None => wrong("`drachma up` has not started this cluster"),
            Some(state) if state.config != state::fingerprint(&settings) => {
                wrong("the cluster was started from another configuration")
            }
            Some(_) => {
                let mut cluster = LocalCluster::open(settings, data, &LocalOptions::detached())?;
                cluster.noted = true;
                Ok(cluster)
            }
        }
    }

    fn open(settings: Settings, data: PathBuf, options: &LocalOptions) -> Result<LocalCluster, LocalError> {
        let cannot = |error| LocalError::io(format!("cannot use {}", data.display()), error);
        std::fs::create_dir_all(&data).map_err(cannot)?;
        let data = data.canonicalize().map_err(cannot)?;
        let executable = match &options.executable {
            Some(path) => path.clone(),
            None => std::env::current_exe()
                .map_err(|error| LocalError::io("cannot find the running executable".to_owned(), error))?,
        };
        let config = data.join("cluster.toml");
        let mut cluster = LocalCluster {
            settings,
            data,
            config,
            executable,
            owned: options.owned,
            noted: false,
            processes: BTreeMap::new(),
            log_starts: BTreeMap::new(),
            client: None,
            _ports: None,
        };
        cluster.refresh();
        Ok(cluster)
    }

    /// Looks for nodes that other commands have started or stopped since.
    fn refresh(&mut self) {
        for node in self.settings.nodes() {
            let Some(pid) = state::load_pid(&self.data, node.id) else { continue };
            if self.processes.get(&node.id).is_some_and(|process| process.pid() == pid) {
                continue;
            }
            if let Some(process) = Process::find(node.id, &self.data, pid) {
                self.processes.insert(node.id, process);
            }
        }
    }

    /// The settings as they are used, with the real addresses.
    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// The directory with one directory per node.
    pub fn data(&self) -> &Path {
        &self.data
    }

    /// All addresses, running or not.
    pub fn endpoints(&self) -> Vec<String> {
        self.settings.endpoints()
    }

    /// Removes and formats the directories of all nodes; none may be running.
    ///
    /// # Errors
    /// If one runs, or the system refuses.
    pub fn format_all(&mut self) -> Result<(), LocalError> {
        if let Some(node) = self.running().first() {
            return Err(LocalError::State(format!("{node} is running: stop it before formatting")));
        }
        for node in self.settings.nodes() {
            data::wipe(&self.data, node.id)?;
            data::format(&self.settings, &self.data, node.id)?;
        }
        Ok(())
    }

    /// Starts a node and returns at once; does nothing if it runs. Call it from a thread that lives as long as the
    /// cluster: the system ends owned nodes with the thread that started them.
    ///
    /// # Errors
    /// If the process cannot be started.
    pub fn start(&mut self, node: NodeId) -> Result<(), LocalError> {
        if self.settings.node_address(node).is_none() {
            return Err(LocalError::State(format!("there is no node {node} in {}", self.settings.origin())));
        }
        if self.is_running(node) {
            return Ok(());
        }
        self.note()?;
        let said = std::fs::metadata(process::log_file(&self.data, node)).map_or(0, |metadata| metadata.len());
        let start =
            Start { executable: &self.executable, node, config: &self.config, data: &self.data, owned: self.owned };
        let process = Process::start(&start)?;
        if !self.owned {
            state::save_pid(&self.data, node, process.pid())?;
        }
        self.log_starts.insert(node, said);
        self.processes.insert(node, process);
        Ok(())
    }

    /// Starts every node that does not run, and returns at once.
    ///
    /// # Errors
    /// As [`LocalCluster::start`].
    pub fn start_all(&mut self) -> Result<(), LocalError> {
        let nodes: Vec<NodeId> = self.settings.nodes().iter().map(|node| node.id).collect();
        nodes.into_iter().try_for_each(|node| self.start(node))
    }

    /// Waits until a started node says that it serves.
    ///
    /// # Errors
    /// If it was not started, ends before, with what it said, or the time is up.
    pub async fn wait_ready(&mut self, node: NodeId, timeout: Duration) -> Result<(), LocalError> {
        let failed = |message: String| Err(LocalError::NotStarted { node, message });
        let Some(process) = self.processes.get_mut(&node) else { return failed("nobody has started it".to_owned()) };
        let mut progress = process.progress.clone();
        let changed = progress.wait_for(|progress| *progress != Progress::Starting);
        // A closed channel means that the process was found, not started: it was ready before.
        let reached =
            tokio::time::timeout(timeout, changed).await.map(|seen| seen.map_or(Progress::Ready, |seen| *seen));
        let from = self.log_starts.get(&node).copied().unwrap_or(0);
        match reached {
            Ok(Progress::Ready) => Ok(()),
            Ok(_) => {
                process.wait(Duration::from_secs(1));
                failed(process::last_words(&self.data, node, from))
            }
            Err(_) => {
                let seconds = timeout.as_secs_f64();
                let said = process::last_words(&self.data, node, from);
                failed(format!("it is not ready after {seconds:.1} s\n{said}"))
            }
        }
    }

    /// Kills a node (SIGKILL) and waits for the end of its process; does nothing if it does not run.
    ///
    /// # Errors
    /// If the system refuses.
    pub fn kill(&mut self, node: NodeId) -> Result<(), LocalError> {
        if let Some(process) = self.processes.get_mut(&node) {
            process.kill()?;
        }
        self.forget(node);
        Ok(())
    }

    /// Asks nodes to stop (SIGTERM), waits, and kills those that do not. Nodes that do not run are skipped.
    ///
    /// # Errors
    /// If the system refuses; the others are stopped all the same.
    pub fn stop(&mut self, nodes: &[NodeId]) -> Result<(), LocalError> {
        let mut result = Ok(());
        for node in nodes {
            if let Some(process) = self.processes.get_mut(node) {
                result = result.and(process.signal(Signal::TERM));
            }
        }
        let end = Instant::now() + STOP_PATIENCE;
        for node in nodes {
            if let Some(process) = self.processes.get_mut(node) {
                if !process.wait(end.saturating_duration_since(Instant::now())) {
                    result = result.and(process.kill());
                }
                self.forget(*node);
            }
        }
        result
    }

    /// Asks every node to stop, waits, and kills those that do not; also those that other commands have started. The
    /// state files go away.
    ///
    /// # Errors
    /// As [`LocalCluster::stop`].
    pub fn stop_all(&mut self) -> Result<(), LocalError> {
        let running = self.running();
        let result = self.stop(&running);
        if !self.owned {
            state::clear(&self.data);
        }
        result
    }

    fn forget(&mut self, node: NodeId) {
        self.processes.remove(&node);
        if !self.owned {
            state::clear_pid(&self.data, node);
        }
    }

    /// The running nodes, in order.
    pub fn running(&mut self) -> Vec<NodeId> {
        self.refresh();
        self.processes.iter_mut().filter_map(|(node, process)| process.is_running().then_some(*node)).collect()
    }

    /// Whether a node runs.
    pub fn is_running(&mut self, node: NodeId) -> bool {
        self.refresh();
        self.processes.get_mut(&node).is_some_and(Process::is_running)
    }
}

impl Drop for LocalCluster {
    fn drop(&mut self) {
        if !self.owned {
            return;
        }
        for process in self.processes.values_mut() {
            // First all, so that none sees the others go one by one; what cannot be ended here ends with this process.
            let _ = process.signal(Signal::KILL);
        }
        for process in self.processes.values_mut() {
            let _ = process.kill();
        }
    }
}
