//! Whether a running cluster is consistent.

use std::process::ExitCode;

use crate::cli::Globals;

/// Carries out `drachma audit`.
pub fn main(globals: &Globals) -> ExitCode {
    let _ = globals;
    unimplemented!()
}
