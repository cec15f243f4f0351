//! One file per command. Those that ask a running cluster take a [`Context`]: `run --step` has one, too.

pub mod account;
pub mod balance;
#[cfg(feature = "verification")]
pub mod check;
pub mod committed;
pub mod config;
mod context;
pub mod db;
pub mod keys;
pub mod leader;
pub mod level;
pub mod lists;
pub mod log;
pub mod lookup;
pub mod node;
pub mod nodes;
pub mod pending;
pub mod performance;
pub mod ping;
#[cfg(feature = "verification")]
pub mod planted;
pub mod replay;
#[cfg(feature = "verification")]
pub mod sim;
pub mod status;
pub mod text;
pub mod transfer;
pub mod txn;
pub mod up;
#[cfg(feature = "verification")]
pub mod verify;
pub mod version;

pub use context::{Context, ask, block_on, data_dir, settings, timeout};
