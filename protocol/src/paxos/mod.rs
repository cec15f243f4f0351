//! Multi-Paxos in its log form: how the replicas of a group come to hold the same log, and why it is safe.
//!
//! # The problem
//!
//! A group has a few replicas, one per node. Nodes crash, restart, pause; messages are lost, doubled, delayed, and
//! overtake each other. Clients hand in commands, and every replica must apply the same commands in the same order. So
//! the group decides, for each position of one log, on one entry: a batch of commands. Once an entry is *chosen* it is
//! chosen for ever; a majority of the replicas is enough to go on.
//!
//! # What a replica keeps
//!
//! Classical Multi-Paxos runs an instance of Paxos per position, each with a ballot of its own. Gaps between positions
//! and mixtures of ballots in one log are where such systems go wrong. The log form (Sequence Paxos: Haridi, Kroll and
//! Carbone, *Lecture Notes on Leader-based Sequence Paxos*, 2020) decides on a growing sequence instead. The durable
//! state of a [`Replica`] is four things:
//!
//! - `promise`: the highest ballot that it has promised; it accepts nothing below;
//! - `accepted`: the one ballot under which its log, as a whole, was last accepted;
//! - the log: entries without holes;
//! - `chosen`: how long a prefix of the log it knows to be chosen. Only that is ever applied.
//!
//! # The protocol
//!
//! **Phase 1.** A candidate makes a new ballot durable at its own replica, then asks all: [`Prepare`]. A replica that
//! has promised nothing higher promises, durably, and answers with its accepted ballot, its lengths, and the entries
//! beyond what is chosen: [`Promise`]. With a majority of promises the candidate takes the log with the highest
//! (accepted ballot, length). What somebody knows to be chosen beyond its own knowledge it first learns, as it is; it
//! proposes nothing below.
//!
//! **Synchronise.** The leader's first act is to make each follower's log exactly its own, from the follower's chosen
//! length on: [`Synchronise`]. That happens once per ballot and follower, and takes effect whole, by one durable record:
//! old suffix out, new suffix in, `accepted` set to the ballot. The leader's own replica is a follower like any other.
//!
//! **Accept.** From then on the log only grows, an entry at a time, without gaps: [`Accept`]. The leader does not wait
//! between entries. A replica answers [`Accepted`] with its log's length, after the disk has it. What a majority has
//! accepted under the leader's ballot is chosen. The new chosen length travels on the next accept, or soon after by
//! itself ([`Commit`]).
//!
//! # Why it is safe
//!
//! Claim: if a sequence *s* is chosen under ballot *b*, then every log accepted under a ballot *b' ≥ b* begins with *s*
//! or is a prefix of a log that does.
//!
//! - *Within a ballot* there is one leader, and its log only grows. A replica is set to exactly that log by the
//!   synchronisation and extended without gaps, so all logs accepted under one ballot are prefixes of one sequence. A
//!   ballot is never continued after a restart (a candidate always takes a new, higher round), so there are no two
//!   sequences under one ballot.
//! - *Across ballots*, by induction. The leader of *b' > b* has promises of a majority; one of them, *R*, is in the
//!   majority that accepted *s* under *b*. *R* accepted before it promised, since afterwards it would have refused; so its
//!   promise shows an accepted ballot of at least *b*. The leader adopts the log with the highest accepted ballot, *a*,
//!   with *b ≤ a < b'*, and among those the longest. If *a = b*, all logs are prefixes of one sequence and the longest has
//!   at least *R*'s length, hence all of *s*. If *a > b*, that log begins with *s* by induction: a log is accepted under *a*
//!   only after a synchronisation that contained it whole.
//!
//! There are no holes to fill, no entry of an old ballot can surface later behind a newer one, and "the highest
//! contiguous position" cannot mix ballots: hazards S19, S20, S21 and S35 of the obvious designs are closed by
//! construction. Two more rules keep the argument honest:
//!
//! - **Durable before said.** A promise or an acceptance leaves a replica only when the disk has it. The type
//!   [`Durable`](crate::role::Durable) sees to it.
//! - **Chosen entries may be learned from anybody** ([`ChosenEntries`]) without touching `accepted`. If the learned
//!   entries contradict the replica's own, they were chosen under a higher ballot than its `accepted`, and its own
//!   suffix, which can never be chosen any more, goes. If they do not, its log is only extended by what every later
//!   leader has anyway. Either way no majority can come to a different result than before.
//!
//! # Serving
//!
//! A leader's first entry, [`LeaderStart`], names its ballot. The leader serves when that entry is chosen *and applied*
//! at its own replica, not before: sent is not chosen (hazard S22). A linearizable read is confirmed by a round of
//! heartbeats that began after the read arrived, and waits until what was chosen at its arrival is applied (hazard
//! S23). No clock is trusted for any of this; clocks decide only when somebody stands for election.
//!
//! # Elections
//!
//! A follower suspects its leader when heartbeats stay away for longer than their measured rhythm explains, or at once
//! when the connection to the leader's process breaks. It asks first whether others have lost the leader, too
//! ([`PreCheck`]), so that a node that was cut off cannot depose a healthy leader when it returns. Heartbeats name the
//! order of succession, so that usually one successor stands alone. A leader that has not heard a majority for an
//! election timeout, or whose own disk has not finished a write for that long, steps down and says so (hazard L7). A leader
//! that is to go hands over: who is told to ([`TakeOver`]) stands without the question, and never without phase 1.
//!
//! # Doubt
//!
//! A replica whose log may have lost its end ([`Promise::doubtful`]) may have forgotten what it accepted. It counts in
//! phase 1 only if the candidate has heard *every* replica of the group, for then whoever else accepted the same is
//! heard as well; otherwise it abstains until a leader that was elected without it has synchronised it (hazard S28).
//! A directory that was formatted anew is no voter: promises name the directory, and the group's first entry has
//! recorded which ones belong to it (hazard S25). The very first leader therefore needs a promise of every replica. And
//! a replica takes nothing, and confirms nothing, under a ballot that it has not promised itself: one that was wiped
//! while a leader goes on has forgotten its promise, says so, and is found out by the next.
//!
//! # Snapshots
//!
//! A log does not grow for ever. Now and then a replica writes down its state, beside everything else; once that is
//! durable, its log begins there ([`Record::Snapshot`]). Only what was applied, and so was chosen, is ever in a snapshot,
//! so nothing that could still be undecided goes: promise, accepted ballot and everything behind the chosen length stay.
//! Whoever needs an entry that the others no longer have gets a snapshot instead ([`SnapshotPiece`]). That is learning,
//! like [`ChosenEntries`]: it raises the chosen length, and leaves `accepted` and the log beyond the snapshot as they were.
//! What it skips cannot be compared with the own log; if the own log contradicts it, a majority has accepted under a
//! higher ballot than this replica's `accepted`, so no later leader adopts what is left here: every majority of promises
//! shows a higher one.
//!
//! # Implementation caveats
//!
//! - Members are fixed by the group's first entry; changing them comes later.
//! - A replica whose own snapshot is damaged does not start; it does not fetch another one yet.
//! - Messages between the leader and the replica on one node go through memory, in order, and are not lost; the same
//!   code would survive their loss, as it does for other nodes.
//!
//! Read on: [`replica`] for the acceptor and learner, [`leader`] for elections, batching and the pipeline.
//!
//! [`Prepare`]: crate::message::paxos::Prepare
//! [`Promise`]: crate::message::paxos::Promise
//! [`Promise::doubtful`]: crate::message::paxos::Promise::doubtful
//! [`Synchronise`]: crate::message::paxos::Synchronise
//! [`Accept`]: crate::message::paxos::Accept
//! [`Accepted`]: crate::message::paxos::Accepted
//! [`Commit`]: crate::message::paxos::Commit
//! [`ChosenEntries`]: crate::message::paxos::ChosenEntries
//! [`PreCheck`]: crate::message::paxos::PreCheck
//! [`TakeOver`]: crate::message::paxos::TakeOver
//! [`SnapshotPiece`]: crate::message::paxos::SnapshotPiece
//! [`Record::Snapshot`]: crate::log::record::Record::Snapshot
//! [`LeaderStart`]: crate::message::command::LeaderStart

pub mod leader;
pub mod replica;
#[cfg(test)]
mod testing;
mod window;

pub use leader::{Leader, LeaderConfig};
pub use replica::{Replica, ReplicaConfig};

use bytes::Bytes;

use crate::ids::{NodeId, ReplicaId};
use crate::planted::{Bug, is_planted};

/// Bytes of entries in one part of a promise, a synchronisation or a catch-up: a part fits a peer's frame with room
/// for one entry of any size that a client can cause.
const PART_BYTES: usize = 1024 * 1024;

/// The replica id of a group's first member on `node`: its place in the list, from 1.
///
/// # Panics
/// If the node has no replica of the group: a configuration that was checked before.
fn replica_on(nodes: &[NodeId], node: NodeId) -> ReplicaId {
    let index = nodes.iter().position(|other| *other == node).expect("the configuration names the nodes of a group");
    ReplicaId(index as u32 + 1)
}

/// The node of a first member; nothing if there is no such replica.
fn node_of(nodes: &[NodeId], replica: ReplicaId) -> Option<NodeId> {
    nodes.get((replica.0 as usize).checked_sub(1)?).copied()
}

/// The limit of a part; a bug that needs several has small ones, since simulated transfers never fill a large one.
fn part_bytes() -> usize {
    if is_planted(Bug::SynchronisedInParts) { 1 } else { PART_BYTES }
}

/// Splits entries into parts of about [`PART_BYTES`]; at least one part, which may be empty.
fn parts(entries: &[Bytes]) -> Vec<Vec<Bytes>> {
    let mut parts = vec![Vec::new()];
    let mut bytes = 0;
    for entry in entries {
        if bytes > 0 && bytes + entry.len() > part_bytes() {
            parts.push(Vec::new());
            bytes = 0;
        }
        bytes += entry.len();
        if let Some(part) = parts.last_mut() {
            part.push(entry.clone());
        }
    }
    parts
}
