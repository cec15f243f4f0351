//! Within a group: what leaders and replicas say to each other. See [`crate::paxos`] for the protocol.

use bytes::Bytes;

use crate::ids::{Ballot, DirectoryId, ReplicaId, Slot};
use crate::role::Durable;
use crate::time::Time;
use crate::wire::codec::{wire_enum, wire_newtype, wire_struct};

wire_newtype!(Time);

/// One message of Multi-Paxos. The tag is part of the peers' protocol.
#[derive(Clone, Debug)]
pub enum PaxosMessage {
    /// Leader to leaders: have you lost the leader, too?
    PreCheck(PreCheck),
    /// The answer.
    PreCheckReply(PreCheckReply),
    /// Candidate to replicas: phase 1.
    Prepare(Prepare),
    /// The answer; leaves after the promise is durable.
    Promise(Durable<Promise>),
    /// Leader to a replica: make your log this, whole.
    Synchronise(Synchronise),
    /// Leader to a replica: the next entry.
    Accept(Accept),
    /// The answer to both; leaves after the log is durable.
    Accepted(Durable<Accepted>),
    /// Leader to replicas: so much is chosen.
    Commit(Commit),
    /// Leader to replicas: I am here.
    Heartbeat(Heartbeat),
    /// The answer.
    HeartbeatAck(HeartbeatAck),
    /// Replica to leader: I have promised a higher ballot.
    Refused(Refused),
    /// Replica to leader: I need this from you.
    Missing(Missing),
    /// Replica to replica: send me what is chosen.
    FetchChosen(FetchChosen),
    /// The answer.
    ChosenEntries(ChosenEntries),
    /// Leader to the leader role of another node: lead instead of me.
    TakeOver(TakeOver),
    /// Replica to replica: send me this piece of the snapshot.
    FetchSnapshot(FetchSnapshot),
    /// The answer; also to [`FetchChosen`], if what it asks for is in a snapshot only.
    SnapshotPiece(SnapshotPiece),
    /// Replica to leader: how far is the group now?
    AskAge(AskAge),
    /// The answer, after a quorum has confirmed the leader.
    Aged(Aged),
}
wire_enum!(PaxosMessage {
    1 => PreCheck, 2 => PreCheckReply, 3 => Prepare, 4 => Promise, 5 => Synchronise, 6 => Accept, 7 => Accepted,
    8 => Commit, 9 => Heartbeat, 10 => HeartbeatAck, 11 => Refused, 12 => Missing, 13 => FetchChosen,
    14 => ChosenEntries, 15 => TakeOver, 16 => FetchSnapshot, 17 => SnapshotPiece, 18 => AskAge, 19 => Aged,
});

/// Have you lost the leader, too? A cut-off node that returns must not depose a healthy leader.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct PreCheck {
    /// Identifies the question.
    pub round: u64,
    /// The ballot of the leader that the asker has lost.
    pub ballot: Ballot,
}
wire_struct!(PreCheck { round, ballot });

/// The answer to [`PreCheck`].
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct PreCheckReply {
    /// Of the question.
    pub round: u64,
    /// The replica has no leader either.
    pub lost: bool,
    /// The highest ballot that the answering replica knows.
    pub ballot: Ballot,
}
wire_struct!(PreCheckReply { round, lost, ballot });

/// Phase 1: promise to accept nothing below this ballot, and tell what you have accepted.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Prepare {
    /// The candidate's ballot; durable at the candidate.
    pub ballot: Ballot,
    /// The ballot under which the candidate's log was last accepted.
    pub accepted: Ballot,
    /// The candidate's log length.
    pub length: Slot,
    /// The candidate's chosen length; a promise tells nothing below it.
    pub chosen: Slot,
    /// The candidate's data directory.
    pub directory: DirectoryId,
}
wire_struct!(Prepare { ballot, accepted, length, chosen, directory });

/// A promise and the log behind it, possibly in parts.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Promise {
    /// The candidate's ballot.
    pub ballot: Ballot,
    /// The ballot under which this replica's log was last accepted.
    pub accepted: Ballot,
    /// This replica's log length.
    pub length: Slot,
    /// This replica's chosen length.
    pub chosen: Slot,
    /// The position of the first entry of this part.
    pub start: Slot,
    /// The entries from `start`; all parts together reach from the larger of both chosen lengths to `length`, or
    /// are empty if the candidate's log is as good.
    pub entries: Vec<Bytes>,
    /// No part follows.
    pub last: bool,
    /// This replica's log may have lost its end: it counts only if every replica is heard (hazard S28).
    pub doubtful: bool,
    /// This replica's data directory.
    pub directory: DirectoryId,
}
wire_struct!(Promise { ballot, accepted, length, chosen, start, entries, last, doubtful, directory });

/// Make your log from your chosen length on exactly this. Comes in parts, takes effect whole.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Synchronise {
    /// The leader's ballot.
    pub ballot: Ballot,
    /// Where the whole synchronisation begins; at or below it everything is chosen.
    pub from: Slot,
    /// The position of the first entry of this part.
    pub start: Slot,
    /// The entries from `start`.
    pub entries: Vec<Bytes>,
    /// No part follows.
    pub last: bool,
    /// The leader's chosen length.
    pub chosen: Slot,
    /// Of the [`Missing`] that it answers; zero if nobody asked.
    pub nonce: u64,
}
wire_struct!(Synchronise { ballot, from, start, entries, last, chosen, nonce });

/// The entry at `slot`; follows the one before without a gap.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Accept {
    /// The leader's ballot.
    pub ballot: Ballot,
    /// The entry's position.
    pub slot: Slot,
    /// The leader's chosen length.
    pub chosen: Slot,
    /// The encoded [`Entry`](super::command::Entry).
    pub entry: Bytes,
}
wire_struct!(Accept { ballot, slot, chosen, entry });

/// This replica's log under `ballot` is durable up to `length`.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Accepted {
    /// The leader's ballot, which is the log's accepted ballot.
    pub ballot: Ballot,
    /// How long the log is.
    pub length: Slot,
}
wire_struct!(Accepted { ballot, length });

/// So much is chosen; counts only for a replica that was synchronised under this ballot (hazard S20).
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Commit {
    /// The leader's ballot.
    pub ballot: Ballot,
    /// The chosen length.
    pub chosen: Slot,
}
wire_struct!(Commit { ballot, chosen });

/// The leader is here.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Heartbeat {
    /// The leader's ballot.
    pub ballot: Ballot,
    /// Counts the leader's rounds; a read is confirmed by a round that began after it arrived (hazard S23).
    pub round: u64,
    /// The leader's log length.
    pub length: Slot,
    /// The leader's chosen length.
    pub chosen: Slot,
    /// Who should stand first if the leader is lost.
    pub succession: Vec<ReplicaId>,
}
wire_struct!(Heartbeat { ballot, round, length, chosen, succession });

/// The answer to a heartbeat: this replica has promised nothing higher.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct HeartbeatAck {
    /// The leader's ballot.
    pub ballot: Ballot,
    /// The round that it answers.
    pub round: u64,
    /// This replica's chosen length.
    pub chosen: Slot,
}
wire_struct!(HeartbeatAck { ballot, round, chosen });

/// Not under this ballot: a higher one was promised, or this one was not.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Refused {
    /// The ballot that was refused.
    pub ballot: Ballot,
    /// What this replica has promised.
    pub promised: Ballot,
}
wire_struct!(Refused { ballot, promised });

/// What a replica lacks from its leader.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Missing {
    /// The leader's ballot.
    pub ballot: Ballot,
    /// Whether it has been synchronised under this ballot: if so it needs the entries from `from`, else a
    /// synchronisation from there.
    pub synchronised: bool,
    /// Its log length if synchronised, else its chosen length.
    pub from: Slot,
    /// Drawn when the replica started: an answer to an earlier life is told from one to this.
    pub nonce: u64,
}
wire_struct!(Missing { ballot, synchronised, from, nonce });

/// Send me what is chosen from here on.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct FetchChosen {
    /// The asker's chosen length.
    pub from: Slot,
}
wire_struct!(FetchChosen { from });

/// Chosen entries, as many as fit a frame.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct ChosenEntries {
    /// The position of the first.
    pub start: Slot,
    /// The entries.
    pub entries: Vec<Bytes>,
    /// How much is chosen at the sender.
    pub chosen: Slot,
}
wire_struct!(ChosenEntries { start, entries, chosen });

/// Lead instead of me: stand at once, without asking whether others have lost the leader, too. What is proposed is
/// chosen by now and accepted by the one that is told, and nothing follows until it leads, or is given up. It runs
/// phase 1 like every candidate (hazard A7).
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct TakeOver {
    /// The leader's ballot; of an older leader than is known it means nothing.
    pub ballot: Ballot,
}
wire_struct!(TakeOver { ballot });

/// Send me a piece of a snapshot.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct FetchSnapshot {
    /// Which snapshot: the state after so many entries.
    pub slot: Slot,
    /// Where the piece stands in it, see [`crate::log::snapshot`].
    pub offset: u64,
}
wire_struct!(FetchSnapshot { slot, offset });

/// A piece of a snapshot.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct SnapshotPiece {
    /// Which snapshot.
    pub slot: Slot,
    /// Where the piece stands in it.
    pub offset: u64,
    /// The piece with its head; none says that there is such a snapshot, to be asked for.
    pub piece: Bytes,
}
wire_struct!(SnapshotPiece { slot, offset, piece });
/// How far is the group now? A replica asks so that it can say how old its state is.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct AskAge {
    /// Drawn when the replica started: an answer to an earlier life is told from one to this.
    pub nonce: u64,
    /// The time of asking, by the replica's clock: ages count from here (hazard A3).
    pub asked: Time,
}
wire_struct!(AskAge { nonce, asked });

/// At some moment after the question was asked this leader was the group's, and so much was chosen.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Aged {
    /// The question.
    pub question: AskAge,
    /// How much was chosen: everything that anybody had been told of when the question was asked.
    pub chosen: Slot,
}
wire_struct!(Aged { question, chosen });
