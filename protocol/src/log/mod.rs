//! The bytes of the write-ahead log, and recovery from them. Pure: the same code runs on files and on simulated disks.
//!
//! A node has one log for all its groups. It is a row of segments, numbered from 1; a segment is a header and records,
//! then zeros. All numbers are big-endian, all checksums CRC32C.
//!
//! | bytes of a segment | field |
//! |---|---|
//! | 0..8 | the text `DRACHLOG` |
//! | 8..12 | checksum of the rest of the header, up to byte 4,096 |
//! | 12..14, 14 | version of the format; 1 if the segment was opened after a doubtful end, else 0 |
//! | 16..32, 32..34, 34..50 | cluster, node, directory: who the log belongs to |
//! | 50..54, 54..58 | the segment's number, and its size in bytes |
//! | 58..66, 66..70 | the sequence number of the first record, and the checksum of the record before it |
//! | 4096.. | records |
//!
//! | bytes of a record | field |
//! |---|---|
//! | 0..4 | checksum of all that follows |
//! | 4..8 | length of the whole record |
//! | 8..12 | checksum of the record before: the chain |
//! | 12..16, 16..20 | segment and offset where the record is meant to stand |
//! | 20..28 | sequence number, from 1, over all groups |
//! | 28..36 | the sequence number up to which everything was synced when this record was written |
//! | 36..38, 38, 39 | group; version of the format; 1 a [`record::Record`], 2 closed in order, 3 continued in the next segment |
//! | 40.. | the [`record::Record`] |
//!
//! # What recovery can tell
//!
//! Chain, sequence and position make a lost or misdirected write show. What is found after the last good record decides
//! (hazard S28):
//!
//! - **Zeros**: the log ends here.
//! - **Anything else, and nothing shows that it was ever synced**: either a write that a crash cut off, or the last
//!   records, acknowledged and then rotten; nobody can tell which. Every group of the node is doubtful until a
//!   synchronisation cures it. Appending goes on in a new segment, whose header says so.
//! - **Anything else, and a record behind it (or the next segment) shows that it was synced**: damage. A crash cannot do
//!   that. Each record says how much was synced when it was written, because pages of one unsynced write may reach the
//!   disk in any order: a good record behind a bad one is not yet a proof. The log is refused, never skipped.
//!
//! A segment that is full ends with a record that says so, so a last segment that went away is missed. A clean stop
//! writes a record behind everything, so the last records before it are covered too. What remains is the very last
//! write of a crashed node, lost without a trace by its disk: that leaves zeros and cannot be told from a write that was
//! never made.
//!
//! [`segment`] has the bytes, [`state`] what records mean, [`index`] where entries are, [`writer`] appends, [`recover`]
//! reads back, [`promise`] keeps the second copy of promises. [`store`] puts them together over a [`device`]: it alone
//! decides what is written and synced when.

pub mod device;
pub mod index;
pub mod promise;
mod reader;
pub mod record;
pub mod recover;
pub mod segment;
pub mod snapshot;
pub mod state;
pub mod store;
pub mod writer;

#[cfg(test)]
mod properties;
