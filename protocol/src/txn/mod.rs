//! Two-phase commit.

pub mod table;
