//! `drachma`: the node and the command line.

use std::process::ExitCode;

fn main() -> ExitCode {
    drachma::cli::main()
}
