//! The bytes of the write-ahead log, and recovery from them. Pure: the same code runs on files and on simulated disks.

pub mod record;
