//! The shell: one actix actor per role, the wires between nodes, and the disk.
//!
//! Every decision is taken in `drachma-protocol`; this crate only moves bytes, time and files. [`node::run`] assembles
//! a node from its [`config::NodeConfig`].

pub mod config;
pub mod node;
pub mod storage;
