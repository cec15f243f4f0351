//! The nodes of a run: of its own, or those of a running cluster.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use drachma_client::{Client, ClientError, Options};
use drachma_protocol::ids::{GroupId, NodeId};
use drachma_protocol::quorum::Quorum;

use super::plan::Plan;
use crate::cli::Globals;
use crate::exit::Failure;
use crate::local::{LocalCluster, LocalOptions, data};
use crate::settings::Settings;

/// How long a node may take to say that it serves, and a group to find a leader.
const START: Duration = Duration::from_secs(30);
/// How long a node that is started by a row may take to catch up.
const CATCH_UP: Duration = Duration::from_secs(5);

/// The nodes, and how to reach them.
pub(super) struct Cluster {
    // Before the directory: its nodes end before their files go.
    local: Option<LocalCluster>,
    settings: Settings,
    endpoints: Vec<String>,
    keep: bool,
    _directory: Option<TemporaryDirectory>,
}

impl Cluster {
    /// The nodes that a plan needs; none is started yet.
    ///
    /// # Errors
    /// If the plan stops nodes, and the cluster's cannot be stopped by this process; or if a cluster of its own cannot
    /// be made.
    pub(super) fn open(plan: &Plan) -> Result<Cluster, Failure> {
        if plan.embedded { Cluster::own(plan) } else { Cluster::running_one(plan) }
    }

    fn own(plan: &Plan) -> Result<Cluster, Failure> {
        let directory = if plan.data().is_none() { Some(TemporaryDirectory::new()?) } else { None };
        let path = directory.as_ref().map(|directory| directory.path.clone()).or(plan.data()).unwrap_or_default();
        let local = LocalCluster::create(plan.settings.clone(), path, LocalOptions::embedded())?;
        let (settings, endpoints) = (local.settings().clone(), local.endpoints());
        Ok(Cluster { local: Some(local), settings, endpoints, keep: directory.is_none(), _directory: directory })
    }

    fn running_one(plan: &Plan) -> Result<Cluster, Failure> {
        let settings = plan.settings.clone();
        let data = plan.data().unwrap_or_else(|| settings.data_dir().to_owned());
        let foreign = !plan.globals.endpoints.is_empty();
        let local = if foreign {
            Err("the nodes that --endpoints names are not this machine's to stop".to_owned())
        } else if data.is_dir() {
            LocalCluster::attach(settings.clone(), data).map_err(|error| error.to_string())
        } else {
            Err(format!("`drachma up` has not started a cluster in {}", data.display()))
        };
        let local = match local {
            Err(why) if plan.scenario.needs_control() => {
                return Err(Failure::usage(format!("the file stops or starts nodes: {why}; --embedded needs none")));
            }
            local => local.ok(),
        };
        let endpoints = match &local {
            _ if foreign => plan.globals.endpoints.clone(),
            Some(local) => local.endpoints(),
            None => settings.endpoints(),
        };
        let settings = local.as_ref().map_or(settings, |local| local.settings().clone());
        Ok(Cluster { local, settings, endpoints, keep: true, _directory: None })
    }

    /// The settings as they are used.
    pub(super) fn settings(&self) -> &Settings {
        &self.settings
    }

    /// How commands find this cluster.
    pub(super) fn globals(&self, plan: &Plan) -> Globals {
        let config = match &self.local {
            Some(local) if plan.embedded => Some(local.data().join("cluster.toml")),
            _ => plan.globals.config.clone(),
        };
        Globals { config, endpoints: self.endpoints.clone(), ..Globals::default() }
    }

    /// A new client, whose requests have no deadline of their own. Formatting forgets sessions, so each fresh cluster
    /// needs its own.
    pub(super) async fn connect(&self) -> Result<Client, Failure> {
        let cluster = Some(self.settings.cluster_id());
        let options = Options { endpoints: self.endpoints.clone(), cluster, deadline: None };
        Client::connect(options).await.map_err(|error| match error {
            ClientError::Unreachable(_) => Failure::unavailable(format!(
                "no cluster: {error}\nstart one with `drachma up`, or run with --embedded"
            )),
            ClientError::Protocol(_) => {
                let origin = self.settings.origin();
                Failure::usage(format!("{error}\nis it the cluster of {origin}? --config names another one"))
            }
        })
    }

    /// Starts every node, in directories that are formatted if all of them are empty.
    pub(super) async fn start(&mut self) -> Result<(), Failure> {
        let Some(local) = &mut self.local else { return Ok(()) };
        let found = data::inspect(&self.settings, local.data())?;
        match (found.empty.as_slice(), found.filled.is_empty()) {
            (_, true) => local.format_all()?,
            ([], false) => {
                let mut nodes = self.settings.nodes().iter();
                nodes.try_for_each(|node| data::check_shape(&self.settings, local.data(), node.id))?;
            }
            ([node, ..], false) => {
                let directory = local.data().display();
                return Err(Failure::usage(format!(
                    "{directory} has no data of {node}, but of other nodes: remove it to begin anew"
                )));
            }
        }
        self.start_all().await
    }

    /// Ends every node, and starts all of them with nothing but the data set.
    pub(super) async fn renew(&mut self) -> Result<(), Failure> {
        if let Some(local) = &mut self.local {
            for node in local.running() {
                local.kill(node)?;
            }
            local.format_all()?;
        }
        self.start_all().await
    }

    async fn start_all(&mut self) -> Result<(), Failure> {
        let nodes: Vec<NodeId> = self.settings.nodes().iter().map(|node| node.id).collect();
        self.start_nodes(&nodes).await?;
        let groups: Vec<GroupId> = self.settings.groups().iter().map(|group| group.id).collect();
        self.wait_leaders(&groups).await
    }

    async fn start_nodes(&mut self, nodes: &[NodeId]) -> Result<(), Failure> {
        let Some(local) = &mut self.local else { return Ok(()) };
        let missing: Vec<NodeId> = nodes.iter().copied().filter(|node| !local.is_running(*node)).collect();
        missing.iter().try_for_each(|node| local.start(*node))?;
        for node in missing {
            local.wait_ready(node, START).await?;
        }
        Ok(())
    }

    async fn wait_leaders(&mut self, groups: &[GroupId]) -> Result<(), Failure> {
        let Some(local) = &mut self.local else { return Ok(()) };
        if local.wait_leaders(groups, START).await {
            return Ok(());
        }
        let seconds = START.as_secs();
        Err(Failure::unavailable(format!("not every group that could has found a leader within {seconds} s")))
    }

    /// Leaves exactly these nodes running, and waits until every group with a majority among them has a leader.
    pub(super) async fn arrange(&mut self, live: &[NodeId]) -> Result<(), Failure> {
        let Some(local) = &mut self.local else { return Ok(()) };
        for node in local.running().into_iter().filter(|node| !live.contains(node)) {
            local.kill(node)?;
        }
        self.start_nodes(live).await?;
        let groups = able_groups(&self.settings, live);
        self.wait_leaders(&groups).await
    }

    /// Kills a node and waits for the end of its process.
    pub(super) fn fail(&mut self, node: NodeId) -> Result<(), Failure> {
        self.local.as_mut().map_or(Ok(()), |local| local.kill(node).map_err(Failure::from))
    }

    /// Kills the leader of the first group, if it has one or may find one soon.
    pub(super) async fn fail_leader(&mut self) -> Result<Option<NodeId>, Failure> {
        let (Some(local), Some(first)) = (&mut self.local, self.settings.groups().first()) else { return Ok(None) };
        let end = Instant::now() + CATCH_UP;
        loop {
            if let Some(leader) = local.leader_of(first.id).await {
                local.kill(leader)?;
                return Ok(Some(leader));
            }
            if !local.has_majority(first.id) || Instant::now() >= end {
                return Ok(None);
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    /// Starts a node, and waits until its replicas have caught up or it is clear that they cannot.
    pub(super) async fn recover(&mut self, node: NodeId) -> Result<(), Failure> {
        self.start_nodes(&[node]).await?;
        if let Some(local) = &mut self.local {
            local.wait_caught_up(node, CATCH_UP).await;
        }
        Ok(())
    }

    /// Starts all nodes and waits until they have caught up. What has not when the time is up shows in the audit.
    pub(super) async fn restore(&mut self) -> Result<(), Failure> {
        self.start_all().await?;
        let Some(local) = &mut self.local else { return Ok(()) };
        for node in self.settings.nodes() {
            local.wait_caught_up(node.id, START).await;
        }
        Ok(())
    }

    /// Whether a node runs; of a cluster that is not this process's to stop, all are thought to.
    pub(super) fn is_running(&mut self, node: NodeId) -> bool {
        self.local.as_mut().is_none_or(|local| local.is_running(node))
    }

    /// Ends a cluster of its own: in order where its data is kept.
    pub(super) fn end(mut self, embedded: bool) {
        if let Some(local) = self.local.as_mut().filter(|_| embedded && self.keep)
            && let Err(error) = local.stop_all()
        {
            eprintln!("warning: {error}");
        }
    }
}

/// The groups that have a majority among these nodes.
fn able_groups(settings: &Settings, live: &[NodeId]) -> Vec<GroupId> {
    let able =
        |nodes: &[NodeId]| Quorum::new(nodes.len()).is_quorum(nodes.iter().filter(|node| live.contains(node)).count());
    settings.groups().iter().filter(|group| able(&group.nodes)).map(|group| group.id).collect()
}

/// A directory that goes with this value.
struct TemporaryDirectory {
    path: PathBuf,
}

impl TemporaryDirectory {
    fn new() -> Result<TemporaryDirectory, Failure> {
        let random = crate::id::random().map_err(|error| Failure::failed(format!("no random name: {error}")))?;
        let path = std::env::temp_dir().join(format!("drachma-run-{}-{:016x}", std::process::id(), random as u64));
        let made = std::fs::create_dir(&path);
        made.map_err(|error| Failure::usage(format!("cannot make {}: {error}", path.display())))?;
        Ok(TemporaryDirectory { path })
    }
}

impl Drop for TemporaryDirectory {
    fn drop(&mut self) {
        remove(&self.path);
    }
}

fn remove(path: &Path) {
    if let Err(error) = std::fs::remove_dir_all(path) {
        eprintln!("warning: cannot remove {}: {error}", path.display());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn groups_with_a_listed_majority_can_find_a_leader() {
        let settings = Settings::sample();
        let live = [1, 2, 4, 5, 7].map(NodeId);
        assert_eq!(able_groups(&settings, &live), [GroupId(1), GroupId(2)]);
        assert_eq!(able_groups(&settings, &[]), []);
    }

    #[test]
    fn a_temporary_directory_goes_with_its_value() {
        let directory = TemporaryDirectory::new().expect("fine");
        let path = directory.path.clone();
        std::fs::write(path.join("x"), "y").expect("fine");
        drop(directory);
        assert!(!path.exists());
    }
}
