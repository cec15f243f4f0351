//! Consistency levels: what a client says to write and read at another level than linearizable.
//!
//! A write at level `any` or `session` within one group is a [`WriteCall`]; a read by any replica is a
//! [`ReplicaReadCall`]; a [`PositionCall`] tells how far a group is, and whether every replica is as far. What a client
//! makes of these is in `docs/protocol.md`.

use std::fmt;
use std::str::FromStr;

use crate::ids::{Epoch, Slot};
use crate::ledger::operations::Operation;
use crate::time::Span;
use crate::wire::codec::{wire_enum, wire_struct, wire_tags};

use super::client::{Found, TransactionDone, TransfersDone};
use super::command::ClientCommand;
use super::operator::Nothing;

/// How consistent a request is to be.
#[derive(Clone, Copy, Debug, Default, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub enum Level {
    /// Chosen by a majority, and applied; reads see everything that was answered before.
    #[default]
    Linearizable,
    /// As linearizable, and every replica has it.
    All,
    /// Sees what this session has written and read.
    Session,
    /// A write is answered when the leader's own disk has it, and may be lost; a read is any replica's.
    Any,
}
wire_tags!(Level { 1 => Linearizable, 2 => All, 3 => Session, 4 => Any });

impl Level {
    /// What [`FromStr`] understands, for people.
    pub const WORDS: &'static str = "linearizable (or quorum), all, session (ryw) or any (eventual)";
}

impl fmt::Display for Level {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Level::Linearizable => "linearizable",
            Level::All => "all",
            Level::Session => "session",
            Level::Any => "any",
        })
    }
}

impl FromStr for Level {
    type Err = String;

    /// In small or capital letters.
    fn from_str(text: &str) -> Result<Level, String> {
        match text.to_ascii_lowercase().as_str() {
            "linearizable" | "quorum" => Ok(Level::Linearizable),
            "all" => Ok(Level::All),
            "session" | "ryw" => Ok(Level::Session),
            "any" | "eventual" => Ok(Level::Any),
            _ => Err(format!("the levels are {}", Level::WORDS)),
        }
    }
}

/// A command of the kinds `Transfers` and `Transaction`, at a level.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct WriteCall {
    /// When it is answered.
    pub level: Level,
    /// The command.
    pub command: ClientCommand,
}
wire_struct!(WriteCall { level, command });

/// The answer to [`WriteCall`].
#[derive(Clone, Debug, PartialEq)]
pub struct WriteDone {
    /// What became of it.
    pub result: WriteResult,
    /// How far the group's log is: a replica that has applied so much has applied the command. Zero at level `any`.
    pub slot: Slot,
    /// At level `all`: whether every replica has it; else the deadline was near. True at the other levels.
    pub level_met: bool,
}
wire_struct!(WriteDone { result, slot, level_met });

/// What became of a command.
#[derive(Clone, Debug, PartialEq)]
pub enum WriteResult {
    /// The leader's own disk has it. That is no outcome: it may still be rejected, or be lost with the leader.
    Accepted(Nothing),
    /// Applied: the results of its transfers.
    Transfers(TransfersDone),
    /// Applied: what became of the transaction.
    Transaction(TransactionDone),
}
wire_enum!(WriteResult { 1 => Accepted, 2 => Transfers, 3 => Transaction });

/// How far is the group? Everything that was answered before this was asked is before the position that is told.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct PositionCall {
    /// Answer when every replica has accepted so much, or when the deadline is near.
    pub everywhere: bool,
    /// How long the client waits.
    pub deadline: Span,
    /// The version of the shard map that routed it.
    pub epoch: Epoch,
}
wire_struct!(PositionCall { everywhere, deadline, epoch });

/// The answer to [`PositionCall`].
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct PositionDone {
    /// How much was chosen when a quorum had confirmed the leader after the question came.
    pub slot: Slot,
    /// Every replica has accepted so much; never true if that was not asked.
    pub everywhere: bool,
}
wire_struct!(PositionDone { slot, everywhere });

/// Read keys and accounts of one group from whatever replica is asked.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct ReplicaReadCall {
    /// `Get`, `Scan` and `Read` operations, up to the limit of a transaction's.
    pub operations: Vec<Operation>,
    /// The replica must have applied so much.
    pub after: Slot,
    /// Nothing that is read may be in doubt there. Otherwise it is told as it was before what is in doubt.
    pub settled: bool,
    /// How long the client waits; the replica refuses much earlier what it cannot answer.
    pub deadline: Span,
    /// The version of the shard map that routed it.
    pub epoch: Epoch,
}
wire_struct!(ReplicaReadCall { operations, after, settled, deadline, epoch });

/// The answer to [`ReplicaReadCall`].
#[derive(Clone, Debug, PartialEq)]
pub struct ReplicaReadDone {
    /// The position at which it was read.
    pub slot: Slot,
    /// How old that state is at most: everything that was answered so long ago is in it. Nothing if that is not known.
    pub age: Option<Span>,
    /// In the order of the request; nothing if it is more than a reply may have.
    pub found: Option<Vec<Found>>,
}
wire_struct!(ReplicaReadDone { slot, age, found });

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn levels_have_names_and_aliases_in_any_case() {
        let read = |text: &str| text.parse::<Level>().map(|level| level.to_string());
        for (word, name) in [
            ("LINEARIZABLE", "linearizable"),
            ("quorum", "linearizable"),
            ("All", "all"),
            ("session", "session"),
            ("RYW", "session"),
            ("ANY", "any"),
            ("Eventual", "any"),
        ] {
            assert_eq!(read(word), Ok(name.to_owned()));
        }
        assert!(read("soon").is_err());
    }
}
