//! The deterministic world: a whole cluster of the real roles in one thread, with a simulated network, disks, clocks
//! and clients, and everything that can go wrong with them.
//!
//! **One seed gives everything.** It draws the cluster's shape, which kinds of faults there are and how strong, what
//! the clients do, and then every delay, loss and crash ([`faults::Swarm`]). Two runs of a seed are equal. A run has a
//! safety phase, in which anything may fail, and a liveness phase, in which at least a quorum of each group is healed
//! and must come to rest in bounded simulated time. The [`checkers`] watch both.
//!
//! **Only the devices are simulated.** The roles are those of the nodes ([`roles`]), and what leaves a node passes as
//! the bytes of the wire. Where things are:
//!
//! | file | what |
//! |---|---|
//! | [`run`] | a seed from the draw to the verdict; hunting over many |
//! | [`plan`], [`shrink`] | a seed with parts of it left out; the least that still fails |
//! | [`failover`] | how long a group is silent when its leader is lost |
//! | [`world`] | the queue of events; driving roles; carrying out their effects; faults as they happen |
//! | [`node`], [`disk`], [`network`], [`clock`], [`client`], [`stranger`], [`mover`] | the parts of a world |
//! | [`faults`], [`shape`] | what a seed draws |
//! | [`history`], [`checkers`] | what clients saw, and what must hold |
//! | [`recorded`] | what real clients saw, read from a file |
//! | `planted` | hunts for known bugs, in a build that has them |
//! | [`coverage`] | what happened how often |
//! | [`trace`] | a hash always, lines when something failed |

pub mod checkers;
pub mod client;
pub mod clock;
pub mod coverage;
pub mod disk;
mod draw;
pub mod failover;
pub mod faults;
pub mod history;
pub mod model;
pub mod mover;
pub mod network;
pub mod node;
mod panics;
pub mod plan;
#[cfg(feature = "planted")]
pub mod planted;
pub mod recorded;
pub mod roles;
pub mod run;
pub mod shape;
pub mod shrink;
pub mod stranger;
pub mod trace;
pub mod verify;
pub mod world;
