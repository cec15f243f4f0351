//! What a replica makes durable.

use bytes::Bytes;

use crate::ids::{Ballot, Slot};
use crate::message::operator::Nothing;
use crate::wire::codec::{wire_enum, wire_struct};

/// One record of one group.
#[derive(Clone, Debug, PartialEq)]
pub enum Record {
    /// The replica has promised this ballot.
    Promise(Ballot),
    /// The entry after the last one, accepted under the log's ballot.
    Accept(AcceptRecord),
    /// The log from `from` on was replaced as a whole, and its ballot set.
    Synchronise(SynchroniseRecord),
    /// Entries that are known to be chosen; the log's ballot stays.
    Learn(LearnRecord),
    /// So much is chosen.
    Chosen(Slot),
    /// The end of the log was doubtful when it was recovered; a `Synchronise` cures it.
    Doubt(Nothing),
    /// What all records before add up to, the chosen entries aside. Every segment but the first begins with one for each
    /// group, so that the segments before can go (hazard S30).
    Base(BaseRecord),
    /// The state after so many entries is in a durable snapshot. They are known to be chosen, and the log begins there:
    /// entries below are not needed any more.
    Snapshot(Slot),
}
wire_enum!(Record {
    1 => Promise, 2 => Accept, 3 => Synchronise, 4 => Learn, 5 => Chosen, 6 => Doubt, 7 => Base, 8 => Snapshot,
});

/// See [`Record::Accept`].
#[derive(Clone, Debug, PartialEq)]
pub struct AcceptRecord {
    /// Its position: the log's length before it.
    pub slot: Slot,
    /// The chosen length at the time.
    pub chosen: Slot,
    /// The entry.
    pub entry: Bytes,
}
wire_struct!(AcceptRecord { slot, chosen, entry });

/// See [`Record::Synchronise`].
#[derive(Clone, Debug, PartialEq)]
pub struct SynchroniseRecord {
    /// The ballot under which the log is accepted from now on.
    pub ballot: Ballot,
    /// Where the replacement begins; never below the chosen length.
    pub from: Slot,
    /// The entries from `from`.
    pub entries: Vec<Bytes>,
    /// The chosen length.
    pub chosen: Slot,
}
wire_struct!(SynchroniseRecord { ballot, from, entries, chosen });

/// See [`Record::Learn`].
#[derive(Clone, Debug, PartialEq)]
pub struct LearnRecord {
    /// The position of the first entry: the chosen length before it. What the log had from here on and is different
    /// goes away.
    pub start: Slot,
    /// The entries; all are chosen.
    pub entries: Vec<Bytes>,
}
wire_struct!(LearnRecord { start, entries });

/// See [`Record::Base`].
#[derive(Clone, Debug, PartialEq)]
pub struct BaseRecord {
    /// The highest promise.
    pub promise: Ballot,
    /// Under what ballot the log was last accepted.
    pub accepted: Ballot,
    /// Where the log begins: the state before is in a snapshot.
    pub start: Slot,
    /// How much is known to be chosen.
    pub chosen: Slot,
    /// The entries from `chosen` on.
    pub tail: Vec<Bytes>,
    /// The log may have lost its end.
    pub doubtful: bool,
}
wire_struct!(BaseRecord { promise, accepted, start, chosen, tail, doubtful });

/// What recovery finds of one group.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Recovered {
    /// Where the log begins: the state before is in the snapshot of this slot; at 0 there is none.
    pub start: Slot,
    /// The highest promise.
    pub promise: Ballot,
    /// Under what ballot the log was last accepted.
    pub accepted: Ballot,
    /// How much is known to be chosen.
    pub chosen: Slot,
    /// The entries from `chosen` on; those below are fetched when they are needed.
    pub tail: Vec<Bytes>,
    /// The log may have lost its end (hazard S28).
    pub doubtful: bool,
}
