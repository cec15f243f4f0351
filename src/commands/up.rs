//! `drachma up` and `drachma down`: every node of the configuration as its own process on this machine.

use std::path::Path;
use std::time::{Duration, Instant};

use clap::Args;
use drachma_protocol::ids::{GroupId, NodeId};
use tokio::signal::unix::{Signal, SignalKind, signal};

use super::{block_on, data_dir, settings};
use crate::cli::Globals;
use crate::exit::{Exit, Failure, Outcome};
use crate::local::{LocalCluster, LocalOptions, data};
use crate::output::{self, Cell, Format};
use crate::settings::Settings;

/// `drachma up`.
#[derive(Args, Clone, Copy, Debug)]
pub struct UpArgs {
    /// Leave the nodes running and return when they are ready
    #[arg(long)]
    pub detach: bool,
    /// Remove all old data first
    #[arg(long)]
    pub fresh: bool,
}

/// How long the nodes may take to recover their logs, and the groups to find leaders.
const READY: Duration = Duration::from_secs(60);

/// Starts the cluster; stays until interrupted, unless detached.
///
/// # Errors
/// With exit status 2 if the data or a node's start does not allow it, 3 if a group finds no leader.
pub fn up(args: UpArgs, globals: &Globals) -> Outcome {
    let settings = settings(globals)?;
    let data = data_dir(globals, &settings);
    let mut cluster = LocalCluster::create(settings, data, LocalOptions::detached())?;
    let formatted = prepare(&cluster, args.fresh)?;
    block_on(async {
        let mut stop = StopSignals::new()?;
        let began = Instant::now();
        let started = tokio::select! {
            started = bring_up(&mut cluster, globals.timeout.unwrap_or(READY)) => started.map(|()| true),
            () = stop.wait() => Ok(false),
        };
        match started {
            Ok(true) => {}
            Ok(false) => {
                cluster.stop_all()?;
                return Ok(Exit::Interrupted);
            }
            Err(failure) => {
                cluster.stop_all()?;
                return Err(failure);
            }
        }
        announce(&cluster, globals.output, &formatted, began.elapsed(), args.detach)?;
        if args.detach {
            return Ok(Exit::Done);
        }
        stop.wait().await;
        cluster.stop_all()?;
        Ok(Exit::Interrupted)
    })
}

/// Stops every node that `up` has started.
///
/// # Errors
/// With exit status 3 if there is none.
pub fn down(globals: &Globals) -> Outcome {
    let settings = settings(globals)?;
    let data = data_dir(globals, &settings);
    let mut cluster = LocalCluster::attach(settings, data)?;
    let running = cluster.running();
    cluster.stop_all()?;
    let rows: Vec<Vec<Cell>> = running.iter().map(|node| vec![Cell::text(node), Cell::text("stopped")]).collect();
    output::print(globals.output, &["node", "state"], &rows)?;
    Ok(Exit::Done)
}

/// Sees to it that every directory is formatted, and says what was found.
fn prepare(cluster: &LocalCluster, fresh: bool) -> Result<String, Failure> {
    let (settings, root) = (cluster.settings(), cluster.data());
    let found = data::inspect(settings, root)?;
    if fresh {
        let nodes: Vec<NodeId> = settings.nodes().iter().map(|node| node.id).collect();
        nodes.iter().try_for_each(|node| data::wipe(root, *node))?;
        format(settings, root)?;
        let old = if found.filled.is_empty() { "there was none" } else { "all of it was removed" };
        return Ok(format!("formatted; old data: {old}"));
    }
    if found.filled.is_empty() {
        format(settings, root)?;
        return Ok("formatted; old data: there was none".to_owned());
    }
    if !found.empty.is_empty() {
        return Err(partly(root, &found));
    }
    for node in settings.nodes() {
        data::check_shape(settings, root, node.id)?;
    }
    Ok("found the data of an earlier start".to_owned())
}

/// A node that lost its disk must not vote as if it had promised nothing (hazard S25).
fn partly(root: &Path, found: &data::Inventory) -> Failure {
    let names = |nodes: &[NodeId]| nodes.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
    Failure::usage(format!(
        "in {} there is data of {}, and none of {}: a lost disk, or a start that was interrupted while formatting. \
         Bring the missing directories back; or, if nothing is to be kept, start with `drachma up --fresh`",
        root.display(),
        names(&found.filled),
        names(&found.empty)
    ))
}

fn format(settings: &Settings, root: &Path) -> Result<(), Failure> {
    for node in settings.nodes() {
        data::format(settings, root, node.id)?;
    }
    Ok(())
}

async fn bring_up(cluster: &mut LocalCluster, patience: Duration) -> Result<(), Failure> {
    let end = Instant::now() + patience;
    let left = || end.saturating_duration_since(Instant::now());
    let nodes: Vec<NodeId> = cluster.settings().nodes().iter().map(|node| node.id).collect();
    let groups: Vec<GroupId> = cluster.settings().groups().iter().map(|group| group.id).collect();
    cluster.start_all()?;
    for node in nodes {
        cluster.wait_ready(node, left()).await?;
    }
    for group in groups {
        if !cluster.wait_leaders(&[group], left()).await {
            let logs = cluster.data().join("*.log");
            return Err(Failure::unavailable(format!("{group} has found no leader; see {}", logs.display())));
        }
    }
    Ok(())
}

fn announce(
    cluster: &LocalCluster,
    format: Format,
    formatted: &str,
    took: Duration,
    detached: bool,
) -> Result<(), Failure> {
    let settings = cluster.settings();
    if format == Format::Json {
        let headers = ["kind", "nodes", "groups", "data", "state", "ready_ms"];
        let row = vec![
            Cell::text("up"),
            Cell::number(settings.nodes().len()),
            Cell::number(settings.groups().len()),
            Cell::text(cluster.data().display()),
            Cell::text(formatted),
            Cell::number(took.as_millis()),
        ];
        output::print(format, &headers, &[row])?;
        return Ok(());
    }
    let (nodes, groups) = (settings.nodes().len(), settings.groups().len());
    output::line(format!("data: {} ({formatted})", cluster.data().display()))?;
    output::line(format!("up: {nodes} nodes, {groups} groups, every group has a leader ({} ms)", took.as_millis()))?;
    let how = if detached { "`drachma down` stops the nodes" } else { "Ctrl-C stops the nodes" };
    output::line(how)?;
    Ok(())
}

/// The signals that end a cluster in the foreground.
struct StopSignals {
    interrupt: Signal,
    terminate: Signal,
    hang_up: Signal,
}

impl StopSignals {
    fn new() -> std::io::Result<StopSignals> {
        Ok(StopSignals {
            interrupt: signal(SignalKind::interrupt())?,
            terminate: signal(SignalKind::terminate())?,
            hang_up: signal(SignalKind::hangup())?,
        })
    }

    async fn wait(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
            _ = self.hang_up.recv() => {}
        }
    }
}
