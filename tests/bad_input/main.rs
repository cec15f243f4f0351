//! Bad input, end to end, over real processes: each gets the documented error and exit status, changes nothing, and
//! never ends a node.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod bodies;
mod configuration;
mod directories;
mod frames;
mod keys;
mod logs;
mod pending;
#[path = "../rig/mod.rs"]
mod rig;
mod transfers;
