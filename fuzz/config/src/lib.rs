//! Stands in for the crate of the actors where only its configuration types are needed.

#[path = "../../../actors/src/config.rs"]
pub mod config;
