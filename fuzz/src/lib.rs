//! The bodies of the fuzzers: one function per target, each takes the bytes that the fuzzer made up and panics if
//! something is wrong. The binaries in `targets/` hand over to them.
//!
//! Two rules are tested. Outside input (a client, a peer, a file) ends in a typed error: it never panics and never
//! takes memory out of proportion. And what is accepted means what it should: a value has one form, a recovered log is
//! one that was written, replicas that apply the same agree.
//!
//! The settings, the run files and the frame reader are compiled in from their sources, because the crates that they
//! belong to bring a runtime with them that takes minutes to build with instrumentation.

#![forbid(unsafe_code)]

mod draw;
mod files;
mod image;
mod ledger;
mod log;
mod operations;
mod roles;
mod values;
mod wire;
mod world;

#[allow(dead_code, missing_docs, unreachable_pub, reason = "a source of the product, linted where it belongs")]
#[path = "../../actors/src/transport/reader.rs"]
mod reader;
#[allow(dead_code, unreachable_pub, reason = "a source of the product, linted where it belongs")]
#[path = "../../src/scenario/mod.rs"]
mod scenario;
#[allow(dead_code, unreachable_pub, reason = "a source of the product, linted where it belongs")]
#[path = "../../src/settings/mod.rs"]
mod settings;

pub use files::{cluster_toml, run_file};
pub use image::ledger_image;
pub use ledger::ledger_entry;
pub use log::log_recovery;
pub use roles::{coordinator, leader, participant, replica};
pub use wire::{frame, message};

#[global_allocator]
static MEMORY: peak_alloc::PeakAlloc = peak_alloc::PeakAlloc;

/// Runs `work` and returns what it yields, with the most memory in bytes that it held at once beyond what was held
/// before.
fn measured<T>(work: impl FnOnce() -> T) -> (T, usize) {
    let before = MEMORY.current_usage();
    MEMORY.reset_peak_usage();
    let result = work();
    (result, MEMORY.peak_usage().saturating_sub(before))
}
