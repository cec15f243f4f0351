//! Two-phase commit.
