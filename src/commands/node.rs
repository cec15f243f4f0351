//! `drachma node`: one node in the foreground.

use std::io::IsTerminal;

use clap::Args;
use drachma_actors::node::{self, NodeError};
use drachma_protocol::ids::NodeId;
use rustix::process::{Pid, Signal, getppid, set_parent_process_death_signal};
use tracing_subscriber::EnvFilter;

use super::{data_dir, settings};
use crate::cli::Globals;
use crate::exit::{Exit, Failure, Outcome};
use crate::local::data;
use crate::output;
use crate::settings::LogSettings;

/// `drachma node`.
#[derive(Args, Clone, Copy, Debug)]
pub struct NodeArgs {
    /// Which node of the configuration
    #[arg(long)]
    pub id: NodeId,
    /// Format its data directory instead: once, when the cluster is created
    #[arg(long)]
    pub format: bool,
    /// End when this process, the parent, ends
    #[arg(long, hide = true, value_name = "PROCESS")]
    pub die_with_parent: Option<u32>,
}

/// Runs one node until it is asked to stop (SIGTERM, Ctrl-C), or formats its directory.
///
/// # Errors
/// With exit status 2, if it cannot start.
pub fn node(args: NodeArgs, globals: &Globals) -> Outcome {
    if drachma_protocol::planted::AVAILABLE {
        return Err(Failure::usage(
            "this build has planted bugs for tests; a node does not run it: build without them",
        ));
    }
    if let Some(parent) = args.die_with_parent {
        die_with(parent)?;
    }
    let settings = settings(globals)?;
    let root = data_dir(globals, &settings);
    let directory = data::directory(&root, args.id);
    let Some(config) = settings.node_config(args.id, directory) else {
        return Err(Failure::usage(format!("there is no node {} in {}", args.id, settings.origin())));
    };
    if args.format {
        data::format(&settings, &root, args.id)?;
        return Ok(Exit::Done);
    }
    data::check_shape(&settings, &root, args.id)?;
    start_logging(settings.log())?;
    let id = args.id;
    let ready = move |address| {
        if let Err(error) = output::line(format!("ready {id} {address}")) {
            tracing::warn!(%error, "nobody hears that this node is ready");
        }
    };
    node::run(&config, ready).map_err(|error| failure(&error))?;
    Ok(Exit::Done)
}

fn failure(error: &NodeError) -> Failure {
    match error {
        NodeError::Listen { error: cause, .. } if cause.kind() == std::io::ErrorKind::AddrInUse => {
            Failure::usage(format!(
                "{error}: is the node running already? `drachma down` stops it; base_port and address choose other ports"
            ))
        }
        NodeError::Metrics { error: cause, .. } if cause.kind() == std::io::ErrorKind::AddrInUse => {
            Failure::usage(format!(
                "{error}: another program has that port; `[metrics] address` chooses another one, of n1, and counts on"
            ))
        }
        _ => Failure::usage(error),
    }
}

/// Has the system end this process with its parent, however that ends.
fn die_with(parent: u32) -> Result<(), Failure> {
    set_parent_process_death_signal(Some(Signal::KILL)).map_err(std::io::Error::from)?;
    // The parent may have ended before the system was told.
    let expected = i32::try_from(parent).ok().and_then(Pid::from_raw);
    if getppid() != expected {
        return Err(Failure::unavailable("the process that started this node has ended"));
    }
    Ok(())
}

fn start_logging(log: &LogSettings) -> Result<(), Failure> {
    let filter = EnvFilter::try_new(&log.level).map_err(Failure::usage)?;
    let ansi = std::io::stderr().is_terminal();
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).with_ansi(ansi);
    let started = if log.json { builder.json().try_init() } else { builder.try_init() };
    started.map_err(Failure::usage)
}
