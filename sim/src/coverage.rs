//! What happened how often: every kind of fault, message, refusal, row, timer and event that exists, so that a hunt can
//! show that none of them never occurred.
//!
//! The lists come from the types. Where a type does not list its variants itself, the macro `names` does, and a variant that is
//! missing there does not compile. Names of events are strings; one that is not listed is a finding of the world.

use std::fmt;

use drachma_protocol::message::client::{Call, Response, Why};
use drachma_protocol::message::command::CommandKind;
use drachma_protocol::message::operator::HandOverEnd;
use drachma_protocol::message::txn::VoteKind;
use drachma_protocol::message::{LocalMessage, PaxosMessage, TxnMessage};
use drachma_protocol::role::{EVENTS, TIMERS};
use drachma_protocol::txn::RECOVERY_ROWS;
use drachma_protocol::txn::table::Row;

use crate::faults::{FaultKind, Point};

/// Names for the variants of an enum: a list and a function, exhaustive because the match is.
macro_rules! names {
    ($($list:ident, $function:ident of $type:ident: { $($variant:ident $(($field:pat))?),+ $(,)? })+) => {$(
        const $list: &[&str] = &[$(stringify!($variant)),+];

        /// The variant's name, as the counts have it.
        pub fn $function(value: $type) -> &'static str {
            match value { $($type::$variant $(($field))? => stringify!($variant)),+ }
        }
    )+};
}
names! {
    WHYS, why of Why: {
        NotLeader, NoQuorum, Overloaded, Moved, UnknownSession, SessionWindow, Expired, Malformed, WrongNode,
        Lagging, Level,
    }
    VOTES, vote of VoteKind: { Yes, No(_), Die, Expired, AlreadyCommitted, Moved }
    HAND_OVERS, hand_over of HandOverEnd: { Moved, Already, NotMember, Down, Lagging, NotTaken, Busy }
    COMMANDS, command of CommandKind: { Register, Transfers, Transact, CreateAccounts, Transaction, TransactOver }
    WIRES, wire of Wire: {
        Lost, Doubled, Straggled, Truncated, Corrupted, Swallowed, Reset, Misdirected, Mangled, Echoed,
        Late, AskedAround,
    }
}

/// What befalls a single frame or connection.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Wire {
    /// A frame never arrived.
    Lost,
    /// A frame arrived twice.
    Doubled,
    /// A frame took longer than a whole transaction.
    Straggled,
    /// A connection broke in the middle of a frame.
    Truncated,
    /// A damaged frame was refused.
    Corrupted,
    /// A damaged length made a receiver wait for bytes that never came.
    Swallowed,
    /// What was under way on a connection that broke was lost.
    Reset,
    /// A copy of a frame came to a role that it was not meant for.
    Misdirected,
    /// What a role had proposed to its leader came there once more, long after.
    Echoed,
    /// A copy of a frame held bytes that are no entry of a log, under a good checksum.
    Mangled,
    /// A Begin came to its leader later than what was proposed after it.
    Late,
    /// A question about something in doubt came to every node of the group at once, and not to one after the other.
    AskedAround,
}

/// What befalls a disk, and what follows.
const DAMAGES: &[&str] = &[
    "bit flipped",
    "write misdirected",
    "directory wiped",
    "directory formatted anew",
    "disk about to fail",
    "stopped by its disk",
    "crash while it starts",
    "refuses its disk",
];

/// What is counted together.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum Kind {
    /// Faults that come and go.
    Fault,
    /// Crashes at a point.
    Point,
    /// What befalls frames and connections.
    Wire,
    /// What befalls disks, and what follows.
    Damage,
    /// Rows of two-phase commit at apply, on every replica.
    Row,
    /// Rows of inquiries and takeovers.
    Recovery,
    /// Messages within a group.
    Paxos,
    /// Messages between groups.
    Txn,
    /// Messages between the roles of a node.
    Local,
    /// Votes as they were sent.
    Vote,
    /// What was asked.
    Call,
    /// The commands among it.
    Command,
    /// Answers to clients.
    Response,
    /// The refusals among them.
    Refusal,
    /// The ends of hand-overs among them.
    HandOver,
    /// Timers that came.
    Timer,
    /// What roles told.
    Event,
}

impl Kind {
    /// Every kind, in the order of the table.
    pub const ALL: [Kind; 17] = [
        Kind::Fault,
        Kind::Point,
        Kind::Wire,
        Kind::Damage,
        Kind::Row,
        Kind::Recovery,
        Kind::Paxos,
        Kind::Txn,
        Kind::Local,
        Kind::Vote,
        Kind::Call,
        Kind::Command,
        Kind::Response,
        Kind::Refusal,
        Kind::HandOver,
        Kind::Timer,
        Kind::Event,
    ];

    /// Its title.
    pub const fn title(self) -> &'static str {
        match self {
            Kind::Fault => "faults",
            Kind::Point => "crash points",
            Kind::Wire => "frames and connections",
            Kind::Damage => "damage to disks",
            Kind::Row => "rows at apply",
            Kind::Recovery => "rows of recovery",
            Kind::Paxos => "messages within a group",
            Kind::Txn => "messages between groups",
            Kind::Local => "messages on a node",
            Kind::Vote => "votes",
            Kind::Call => "requests",
            Kind::Command => "commands of clients",
            Kind::Response => "answers",
            Kind::Refusal => "refusals",
            Kind::HandOver => "ends of hand-overs",
            Kind::Timer => "timers",
            Kind::Event => "events",
        }
    }

    /// Every name of the kind.
    fn names(self) -> Vec<&'static str> {
        let first = |kinds: &'static [(&'static str, u64)]| kinds.iter().map(|(name, _)| *name).collect();
        match self {
            Kind::Fault => FaultKind::ALL.iter().map(|kind| kind.name()).collect(),
            Kind::Point => Point::all().into_iter().map(Point::name).collect(),
            Kind::Wire => WIRES.to_vec(),
            Kind::Damage => DAMAGES.to_vec(),
            Kind::Row => Row::ALL.iter().map(|row| row.name()).collect(),
            Kind::Recovery => RECOVERY_ROWS.to_vec(),
            Kind::Paxos => first(PaxosMessage::KINDS),
            Kind::Txn => first(TxnMessage::KINDS),
            Kind::Local => LocalMessage::KINDS.to_vec(),
            Kind::Vote => VOTES.to_vec(),
            Kind::Call => first(Call::KINDS),
            Kind::Command => COMMANDS.to_vec(),
            Kind::Response => first(Response::KINDS),
            Kind::Refusal => WHYS.to_vec(),
            Kind::HandOver => HAND_OVERS.to_vec(),
            Kind::Timer => TIMERS.to_vec(),
            Kind::Event => EVENTS.to_vec(),
        }
    }
}

/// What cannot occur, and why; a count of one of these that is not 0 is a reason to read the sentence again.
pub const EXCUSED: &[(Kind, &str, &str)] = &[
    (Kind::Call, "Map", "the gateway's, which is no role"),
    (Kind::Response, "Map", "the gateway's, which is no role"),
    (Kind::Refusal, "WrongNode", "the gateway's, which is no role"),
    (Kind::Row, "R12", "the group of the debit account alone decides an id, once, and others record what it has said"),
    (Kind::Row, "D4", "a coordinator proposes a commit on its own yes only, which nothing but a decision takes back"),
    (Kind::Row, "P4", "a group decides only what begins with an account of its own, which nobody prepares there"),
    (Kind::Row, "B3", "a coordinator proposes each attempt once, and its leader once; late ones come once, too"),
    (
        Kind::Row,
        "B5",
        "each attempt is proposed once, and the next of its ballot after its end; of older ballots it is B1",
    ),
    (Kind::Row, "R4", "a commit needs this group's yes to that attempt, after which it does not wait"),
    (Kind::Row, "R11", "a commit needs this group's yes to that attempt, which no other attempt replaces (row P10)"),
    (Kind::Event, "committed_without_record", "a participant never takes effect before its coordinator has decided"),
    (Kind::Event, "ignore_accepted", "a leader asks for a promise first, and nobody accepts more than it has sent"),
    (Kind::Event, "ignore_short_sync", "every leader's log begins with what is chosen"),
    (Kind::Vote, "Moved", "all groups have the same map, which nothing changes, and a coordinator looks at it first"),
    (Kind::Event, "no_ballot_left", "rounds begin at 0, and each candidacy takes the next one: there are 2^64"),
    (Kind::Event, "ignore_snapshot", "a piece is checked where it is read and on the wire, and a slot has one state"),
    (Kind::Event, "no_route", "every group has nodes"),
];

/// How often each thing that exists has happened.
#[derive(Clone, Debug)]
pub struct Coverage {
    counts: Vec<Vec<(&'static str, u64)>>,
}

impl Default for Coverage {
    fn default() -> Coverage {
        let zero = |kind: &Kind| kind.names().into_iter().map(|name| (name, 0)).collect();
        Coverage { counts: Kind::ALL.iter().map(zero).collect() }
    }
}

impl Coverage {
    /// It happened once more.
    ///
    /// # Errors
    /// If there is no such name: the lists are not complete.
    pub fn add(&mut self, kind: Kind, name: &str) -> Result<(), String> {
        self.add_many(kind, name, 1)
    }

    /// It happened `times` times more.
    ///
    /// # Errors
    /// If there is no such name: the lists are not complete.
    pub fn add_many(&mut self, kind: Kind, name: &str, times: u64) -> Result<(), String> {
        let found = self.counts[kind as usize].iter_mut().find(|(other, _)| *other == name);
        let (_, count) = found.ok_or_else(|| format!("`{name}` is not listed among the {}", kind.title()))?;
        *count += times;
        Ok(())
    }

    /// Adds what happened elsewhere.
    pub fn merge(&mut self, other: &Coverage) {
        for (own, others) in self.counts.iter_mut().zip(&other.counts) {
            for ((_, count), (_, more)) in own.iter_mut().zip(others) {
                *count += more;
            }
        }
    }

    /// How often something happened.
    pub fn count(&self, kind: Kind, name: &str) -> u64 {
        self.counts[kind as usize].iter().find(|(other, _)| *other == name).map_or(0, |(_, count)| *count)
    }

    /// Everything with its count, in the order of the table.
    pub fn iter(&self) -> impl Iterator<Item = (Kind, &'static str, u64)> {
        let rows = Kind::ALL.iter().zip(&self.counts);
        rows.flat_map(|(kind, names)| names.iter().map(|(name, count)| (*kind, *name, *count)))
    }

    /// What never happened, though it can.
    pub fn zeros(&self) -> Vec<(Kind, &'static str)> {
        let excused = |kind, name| EXCUSED.iter().any(|(k, n, _)| (*k, *n) == (kind, name));
        self.iter()
            .filter(|(kind, name, count)| *count == 0 && !excused(*kind, *name))
            .map(|(k, n, _)| (k, n))
            .collect()
    }
}

impl fmt::Display for Coverage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for kind in Kind::ALL {
            writeln!(f, "{}", kind.title())?;
            for (name, count) in &self.counts[kind as usize] {
                let excuse = EXCUSED.iter().find(|(k, n, _)| (*k, *n) == (kind, name)).map(|(.., why)| *why);
                match excuse {
                    Some(why) if *count == 0 => writeln!(f, "{:>14}  {name}: {why}", "-")?,
                    _ => writeln!(f, "{count:>14}  {name}{}", if *count == 0 { "   <- never" } else { "" })?,
                }
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_added_is_counted_and_what_is_not_is_a_zero() {
        let mut coverage = Coverage::default();
        coverage.add(Kind::Row, "P1").unwrap();
        let mut other = Coverage::default();
        other.add_many(Kind::Row, "P1", 2).unwrap();
        coverage.merge(&other);
        assert_eq!(coverage.count(Kind::Row, "P1"), 3);
        assert!(!coverage.zeros().contains(&(Kind::Row, "P1")));
        assert!(coverage.zeros().contains(&(Kind::Row, "P2")));
        let table = coverage.to_string();
        assert!(table.contains("             3  P1\n") && table.contains("P2   <- never"), "{table}");
    }

    #[test]
    fn a_name_that_is_not_listed_is_an_error() {
        assert!(Coverage::default().add(Kind::Event, "no such event").is_err());
    }

    #[test]
    fn no_list_has_a_name_twice_or_is_empty() {
        for kind in Kind::ALL {
            let names: std::collections::BTreeSet<&str> = kind.names().into_iter().collect();
            assert_eq!(names.len(), kind.names().len(), "{kind:?}");
            assert!(!names.is_empty(), "{kind:?}");
            assert_eq!(Kind::ALL[kind as usize], kind);
        }
    }

    #[test]
    fn what_is_excused_exists() {
        for (kind, name, _) in EXCUSED {
            assert!(kind.names().contains(name), "{kind:?} {name}");
        }
    }
}
