//! `drachma check`: explores a model of a protocol exhaustively, up to its bounds.

use crate::cli::CheckArgs;
use crate::exit::{Failure, Outcome};

/// Checks a model.
///
/// # Errors
/// If there is no such model.
pub fn check(args: &CheckArgs) -> Outcome {
    Err(Failure::usage(format!("no model `{}`", args.model)))
}
