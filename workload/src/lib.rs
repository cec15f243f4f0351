//! What clients do: generators of operations, pure and seeded, shared by the load generator and the simulator.
//!
//! A generator is told its settings and a seed and yields operations without end; it knows neither clocks nor
//! connections. Whoever drives it decides when an operation is sent and keeps what became of it.

pub mod transfer;
