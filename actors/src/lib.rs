//! The shell: one actix actor per role, the wires between nodes, and the disk.
//!
//! Every decision is taken in `drachma-protocol`; this crate only moves bytes, time and files. [`node::run`] assembles
//! a node from its [`config::NodeConfig`].
//!
//! How an input travels: a socket is read by a connection task (`transport`), which decodes all whole frames of one
//! read and hands them over as one message per role: a peer's straight to the role's `mailbox`, a client's by way of
//! the `gateway`. The role's actor (`replica`, `leader`, `coordinator`, `participant`) steps its pure role with each
//! of them (`shell`) and carries out the effects: messages to roles of this node go to their mailboxes, messages to
//! other nodes into the buffers of the `transport`'s links, records to the log thread (`storage`), answers to the
//! gateway. Nothing here waits: what is full drops and counts (`counters`), or stops reading.

#![cfg_attr(test, allow(clippy::unwrap_used))]

mod actor;
mod clock;
pub mod config;
mod coordinator;
mod counters;
mod gateway;
mod group;
mod leader;
mod mailbox;
mod metrics;
pub mod node;
mod participant;
mod performance;
mod replica;
pub mod roles;
mod shell;
pub mod storage;
#[cfg(test)]
mod testing;
mod transport;
