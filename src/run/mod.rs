//! The main job: a file of transactions.
//!
//! [`plan`] checks everything that can be checked before anything is started; [`cluster`] has the nodes; [`engine`]
//! sends the rows; [`settle`] brings all nodes back, makes open transfers final and audits; [`report`] prints.

mod args;
mod cluster;
mod engine;
mod expect;
mod plan;
mod report;
mod settle;
mod step;
mod summary;

use std::process::ExitCode;

pub use args::{Deadline, RunArgs};

use crate::cli::Globals;
use crate::exit::{self, Failure};
use plan::Plan;

/// Carries out `drachma run`.
pub fn main(args: &RunArgs, globals: &Globals) -> ExitCode {
    carry_out(args, globals).unwrap_or_else(|failure| failure.report()).into()
}

fn carry_out(args: &RunArgs, globals: &Globals) -> exit::Outcome {
    let plan = Plan::new(args, globals)?;
    // One thread: the system ends owned nodes with the thread that started them.
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::failed(format!("cannot start: {error}")))?;
    runtime.block_on(engine::run(&plan))
}
