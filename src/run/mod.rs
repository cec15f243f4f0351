//! The main job: a file of transactions.

use std::process::ExitCode;

use crate::cli::{Globals, RunArgs};

/// Carries out `drachma run`.
pub fn main(args: &RunArgs, globals: &Globals) -> ExitCode {
    let _ = (args, globals);
    unimplemented!()
}
