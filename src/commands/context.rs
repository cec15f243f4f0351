//! What a command that asks a running cluster works with.

use std::future::Future;
use std::path::PathBuf;
use std::time::Duration;

use drachma_client::{Client, ClientError, Options};
use drachma_protocol::ids::{GroupId, NodeId};
use drachma_protocol::message::operator::{LeaderPhase, LeaderStatus, Nothing, OperatorAnswer, OperatorCall};

use super::level::LevelArgs;
use crate::cli::Globals;
use crate::exit::{Failure, Outcome};
use crate::output::Format;
use crate::settings::Settings;
use crate::target::Topology;

/// A connection to a running cluster, and how to print.
pub struct Context {
    /// The connection.
    pub client: Client,
    /// The configuration. It is the cluster's own only if `verified`.
    pub settings: Settings,
    /// The cluster has the id of the configuration.
    pub verified: bool,
    /// The cluster's nodes and groups.
    pub topology: Topology,
    /// How to print.
    pub format: Format,
    /// How long to wait for an answer.
    pub timeout: Duration,
    /// How consistent commands are that do not say so themselves.
    pub usual: LevelArgs,
}

impl Context {
    /// Commands over a connection that is there already, to the cluster of these settings.
    pub fn new(client: Client, settings: Settings, format: Format, timeout: Duration) -> Context {
        let topology = Topology::from(&settings);
        Context { client, settings, verified: true, topology, format, timeout, usual: LevelArgs::default() }
    }

    /// Connects as the global options say.
    ///
    /// # Errors
    /// With exit status 2 if the configuration is bad, 3 if no node answers.
    pub async fn connect(globals: &Globals) -> Result<Context, Failure> {
        let settings = settings(globals)?;
        // Endpoints alone may lead to any cluster; a configuration must be the cluster's own.
        let verified = globals.endpoints.is_empty() || globals.config.is_some();
        let endpoints = if globals.endpoints.is_empty() { settings.endpoints() } else { globals.endpoints.clone() };
        let timeout = timeout(globals, &settings);
        let cluster = verified.then(|| settings.cluster_id());
        let options = Options { endpoints, cluster, deadline: Some(timeout) };
        let client = Client::connect(options).await.map_err(|error| match error {
            ClientError::Unreachable(_) => Failure::unavailable(format!(
                "{error}\nstart the cluster with `drachma up`, or name nodes with --endpoints"
            )),
            ClientError::Protocol(_) => Failure::usage(error),
        })?;
        let topology = if verified { Topology::from(&settings) } else { Topology::from(&client.map()) };
        let (format, usual) = (globals.output, LevelArgs::default());
        Ok(Context { client, settings, verified, topology, format, timeout, usual })
    }

    /// Asks one node; the error says why there is no answer.
    ///
    /// # Errors
    /// If it does not answer in time.
    pub async fn ask(&self, node: NodeId, group: GroupId, call: OperatorCall) -> Result<OperatorAnswer, ClientError> {
        self.client.operator(node, group, call, self.timeout).await
    }

    /// Asks a node what its leader role does.
    pub async fn leader_status(&self, node: NodeId, group: GroupId) -> Option<LeaderStatus> {
        match self.ask(node, group, OperatorCall::LeaderStatus(Nothing {})).await {
            Ok(OperatorAnswer::LeaderStatus(status)) => Some(status),
            _ => None,
        }
    }

    /// The node that leads a group and serves, with its status; of several that say so, the one with the highest
    /// ballot.
    pub async fn leader(&self, group: GroupId) -> Option<(NodeId, LeaderStatus)> {
        let nodes = self.topology.groups.iter().find(|known| known.id == group)?.nodes.clone();
        let mut best: Option<(NodeId, LeaderStatus)> = None;
        for node in nodes {
            let Some(status) = self.leader_status(node, group).await else { continue };
            let newer = best.as_ref().is_none_or(|(_, known)| known.ballot < status.ballot);
            if status.phase == LeaderPhase::Serving && newer {
                best = Some((node, status));
            }
        }
        best
    }
}

/// The answer was of another kind than the question: a node of another make.
pub(super) fn unexpected(answer: &OperatorAnswer) -> Failure {
    Failure::unavailable(format!("a node answered {} to another question; is it of another version?", answer.kind()))
}

/// The configuration that the global options name; its warnings go to standard error.
///
/// # Errors
/// With exit status 2 if it cannot be used.
pub fn settings(globals: &Globals) -> Result<Settings, Failure> {
    let settings = Settings::load(globals.config.as_deref())?;
    for warning in settings.warnings() {
        eprintln!("warning: {}: {warning}", settings.origin());
    }
    Ok(settings)
}

/// The directory with one data directory per node.
pub fn data_dir(globals: &Globals, settings: &Settings) -> PathBuf {
    globals.data.clone().unwrap_or_else(|| settings.data_dir().to_owned())
}

/// How long to wait for an answer.
pub fn timeout(globals: &Globals, settings: &Settings) -> Duration {
    globals.timeout.unwrap_or(Duration::from_micros(settings.timers().deadline.0))
}

/// Runs a future to its end on this thread.
///
/// # Errors
/// If the system gives no runtime, or as the future.
pub fn block_on<T>(future: impl Future<Output = Result<T, Failure>>) -> Result<T, Failure> {
    tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(future)
}

/// Carries out a command that asks a running cluster.
///
/// # Errors
/// As the command, or [`Context::connect`].
pub fn ask(globals: &Globals, command: impl AsyncFnOnce(&Context) -> Outcome) -> Outcome {
    block_on(async {
        let context = Context::connect(globals).await?;
        command(&context).await
    })
}
