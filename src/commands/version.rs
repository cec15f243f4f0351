//! `drachma version`.

use drachma_protocol::message::command::FORMAT;
use drachma_protocol::wire::frame::VERSIONS;

use crate::cli::Globals;
use crate::exit::{Exit, Outcome};
use crate::output::{self, Cell};

/// Prints the version of the program, of the protocol that it speaks, and of the commands that it writes.
///
/// # Errors
/// If standard output fails.
pub fn version(globals: &Globals) -> Outcome {
    let protocol = format!("{} to {}", VERSIONS.start(), VERSIONS.end());
    let row = vec![Cell::text(env!("CARGO_PKG_VERSION")), Cell::text(protocol), Cell::number(FORMAT)];
    output::print(globals.output, &["drachma", "protocol", "command_format"], &[row])?;
    Ok(Exit::Done)
}
