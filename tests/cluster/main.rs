//! Whole clusters of real processes: nine nodes in three groups, killed, paused and started again under load.
//!
//! How long they run is set by environment variables, see `docs/testing.md`.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod commands;
mod common;
mod coordinators;
mod example;
mod hot;
mod keys;
mod leaders;
mod levels;
mod metrics;
mod mixtures;
mod paused;
mod planted;
mod reads;
mod restarts;
mod shell;
mod snapshots;
