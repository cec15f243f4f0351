//! Drachma's binary as a library: settings, the command line, and clusters of local node processes.
//!
//! `main.rs` only hands over to [`cli::main`]. The load generator and the tests use [`local::LocalCluster`].

pub mod audit;
pub mod cli;
pub mod commands;
pub mod exit;
pub mod id;
pub mod local;
pub mod output;
pub mod run;
pub mod scenario;
pub mod settings;
pub mod shell;
pub mod target;
