//! `drachma stop`, `drachma fail` and `drachma start`: single nodes of a cluster that `up` has started.

use std::time::{Duration, Instant};

use clap::Args;
use drachma_protocol::ids::NodeId;

use super::{block_on, data_dir, settings};
use crate::cli::Globals;
use crate::exit::{Exit, Failure, Outcome};
use crate::local::{LocalCluster, LocalError};
use crate::output::{self, Cell};
use crate::target;

/// A command with a target.
#[derive(Args, Clone, Debug)]
pub struct TargetArgs {
    /// A node (n1), a group (g1), a list (n1,n2) or `all`
    pub target: String,
}

/// How long a node may take to recover its log and serve.
const READY: Duration = Duration::from_secs(60);
/// How long its replicas may take to catch up.
const CAUGHT_UP: Duration = Duration::from_secs(5);

const HEADERS: [&str; 2] = ["node", "state"];

fn attach(args: &TargetArgs, globals: &Globals) -> Result<(LocalCluster, Vec<NodeId>), Failure> {
    let settings = settings(globals)?;
    let nodes = target::nodes(&args.target, &settings).map_err(Failure::usage)?;
    let data = data_dir(globals, &settings);
    Ok((LocalCluster::attach(settings, data)?, nodes))
}

/// Asks nodes to stop, which have others lead what they led, and waits for the end of their processes; who does not
/// stop is killed.
///
/// # Errors
/// With exit status 3 if `up` has not started the cluster.
pub fn stop(args: &TargetArgs, globals: &Globals) -> Outcome {
    end(args, globals, "stopped", LocalCluster::stop)
}

/// Kills nodes, as a failure would, and waits for the end of their processes.
///
/// # Errors
/// With exit status 3 if `up` has not started the cluster.
pub fn fail(args: &TargetArgs, globals: &Globals) -> Outcome {
    end(args, globals, "killed", |cluster, nodes| nodes.iter().try_for_each(|node| cluster.kill(*node)))
}

fn end(
    args: &TargetArgs,
    globals: &Globals,
    word: &str,
    how: impl FnOnce(&mut LocalCluster, &[NodeId]) -> Result<(), LocalError>,
) -> Outcome {
    let (mut cluster, nodes) = attach(args, globals)?;
    let running: Vec<bool> = nodes.iter().map(|node| cluster.is_running(*node)).collect();
    how(&mut cluster, &nodes)?;
    let row = |(node, running): (&NodeId, bool)| {
        vec![Cell::text(node), Cell::text(if running { word } else { "was not running" })]
    };
    let rows: Vec<Vec<Cell>> = nodes.iter().zip(running).map(row).collect();
    output::print(globals.output, &HEADERS, &rows)?;
    Ok(Exit::Done)
}

/// Starts nodes and waits until they serve and, where their groups have leaders, have caught up.
///
/// # Errors
/// With exit status 3 if `up` has not started the cluster, 2 if a node does not start.
pub fn start(args: &TargetArgs, globals: &Globals) -> Outcome {
    let (mut cluster, nodes) = attach(args, globals)?;
    block_on(async {
        for node in &nodes {
            cluster.start(*node)?;
        }
        for node in &nodes {
            cluster.wait_ready(*node, READY).await?;
        }
        let end = Instant::now() + globals.timeout.unwrap_or(CAUGHT_UP);
        let (mut rows, mut exit) = (Vec::new(), Exit::Done);
        for node in &nodes {
            let left = end.saturating_duration_since(Instant::now());
            let state = if cluster.wait_caught_up(*node, left).await {
                "caught up"
            } else {
                exit = Exit::Unavailable;
                "started, not caught up"
            };
            rows.push(vec![Cell::text(node), Cell::text(state)]);
        }
        output::print(globals.output, &HEADERS, &rows)?;
        if exit == Exit::Unavailable {
            eprintln!("a group of a node that has not caught up has no leader; `drachma status` shows which");
        }
        Ok(exit)
    })
}
