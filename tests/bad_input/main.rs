//! Bad input, end to end, over real processes: each gets the documented error and exit status, changes nothing, and
//! never ends a node.

mod bodies;
mod configuration;
mod directories;
mod frames;
mod logs;
#[path = "../rig/mod.rs"]
mod rig;
mod transfers;
