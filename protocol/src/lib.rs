//! What is said and what is decided: the pure heart of Drachma.
//!
//! Nothing in this crate reads a clock, opens a file or a socket, starts a thread or asks the operating system for
//! randomness. Every role is a state machine behind [`role::Role`]: inputs go in, effects come out, and the shell (the
//! `actors` crate) or the simulator (`sim`) carries them out. That is what makes every decision testable.
//!
//! From the ground floor up: [`ids`], [`time`], [`rng`], [`table`], [`quorum`]; then the words that are exchanged,
//! [`message`], and their bytes, [`wire`]; [`role`] says how a role is driven; [`log`] has the bytes on disk;
//! [`ledger`] is the replicated state machine, [`paxos`] keeps its replicas equal, [`txn`] commits across groups, and
//! [`placement`] says which group owns what.

#[cfg(test)]
mod golden;
pub mod ids;
pub mod ledger;
pub mod log;
pub mod message;
pub mod paxos;
pub mod placement;
pub mod planted;
pub mod quorum;
pub mod rng;
pub mod role;
pub mod routing;
pub mod table;
pub mod time;
pub mod txn;
pub mod wire;
