//! How a role is driven: inputs go in, effects come out.
//!
//! A role is a pure state machine. The shell (or the simulator) calls [`Role::step`] with everything that concerns it
//! and carries out the effects in their order. When the role has drained what was there, it gets [`Input::Turn`]: that
//! is when it proposes, and when a replica applies. [`Role::deadline`] is asked after each step; at that time it gets
//! [`Input::Timer`].
//!
//! **Durability is in the types.** A message that promises something durable ([`Promise`], [`Accepted`]) travels as
//! [`Durable`], which only [`Gate::release`] can make: the role hands it to the gate under the token of what it
//! persists, and gets it back, as an effect, when [`Input::Persisted`] says that the token is on disk.

use std::collections::VecDeque;

use bytes::Bytes;

use crate::ids::{GroupId, NodeId, Origin, Slot};
use crate::ledger::image::Image;
use crate::log::record::Record;
use crate::message::client::{Request, Response};
use crate::message::paxos::{Accepted, Promise};
use crate::message::{LocalMessage, Message, PaxosMessage, TxnMessage};
use crate::planted::{Bug, is_planted};
use crate::time::Time;
use crate::wire::codec::{Decode, DecodeError, Encode, Reader};

/// The roles of a group; each is one actor.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub enum RoleKind {
    /// Acceptor, learner and state machine.
    Replica,
    /// Election, batching, pipeline, reads.
    Leader,
    /// Begins and decides transactions.
    Coordinator,
    /// Takes part in the transactions of other groups.
    Participant,
}

impl RoleKind {
    /// Every role.
    pub const ALL: [RoleKind; 4] = [RoleKind::Replica, RoleKind::Leader, RoleKind::Coordinator, RoleKind::Participant];
}

/// A role of a group on a node.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct Address {
    /// Where it runs.
    pub node: NodeId,
    /// Its group.
    pub group: GroupId,
    /// Which role.
    pub role: RoleKind,
}

/// Counts what a role has persisted; the shell confirms tokens in their order.
#[derive(Clone, Copy, Debug, Default, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct Token(pub u64);

/// What comes to a role.
#[derive(Clone, Debug)]
pub enum Input {
    /// From another role. The shell vouches for the sender's node.
    Message {
        /// Who sent it.
        from: Address,
        /// What it says.
        message: Message,
    },
    /// From a client.
    Request {
        /// Where the answer goes.
        origin: Origin,
        /// What it asks.
        request: Request,
    },
    /// The records under this token, and all before, are as durable as the configuration promises.
    Persisted(Token),
    /// The answer to [`Effect::Fetch`].
    Fetched {
        /// The position of the first entry.
        start: Slot,
        /// At least one entry, unless nothing is stored from `start` on.
        entries: Vec<Bytes>,
    },
    /// The snapshot of [`Effect::Snapshot`] is durable.
    Snapshotted {
        /// Its slot.
        slot: Slot,
        /// How large it is.
        bytes: u64,
    },
    /// The answer to [`Effect::ReadSnapshot`].
    SnapshotRead {
        /// Which snapshot.
        slot: Slot,
        /// Where the piece stands in it.
        offset: u64,
        /// Nothing if there is no such snapshot, no piece begins there, or it is damaged.
        piece: Option<Bytes>,
    },
    /// The node's log is long, and its oldest part is kept for this group alone: a snapshot is due, however little was
    /// applied since the last one.
    SnapshotDue,
    /// The connection to a node was made or lost.
    Link {
        /// The node.
        node: NodeId,
        /// Whether it can be reached now.
        up: bool,
    },
    /// The time of [`Role::deadline`] has come.
    Timer,
    /// Everything that was there has been handed in: propose, apply.
    Turn,
}

/// What a role wants done. Effects are carried out in their order.
#[derive(Clone, Debug)]
pub enum Effect {
    /// To another role, on this node or another. May be lost between nodes.
    Send {
        /// Who gets it.
        to: Address,
        /// What it says.
        message: Message,
    },
    /// Write to the log, in this order; then [`Input::Persisted`].
    Persist {
        /// Grows with each use.
        token: Token,
        /// What to write.
        records: Vec<Record>,
    },
    /// Read entries back from the log, in `[from, until)`, as many as fit `bytes` but at least one; then
    /// [`Input::Fetched`]. Sees everything that was persisted before; answers keep the order of the questions.
    Fetch {
        /// The first position.
        from: Slot,
        /// The position after the last.
        until: Slot,
        /// About how many bytes at once.
        bytes: usize,
    },
    /// Write a snapshot, beside everything else and at a gentle pace; then [`Input::Snapshotted`]. At most one at a time.
    Snapshot(Image),
    /// Read a piece of a durable snapshot; then [`Input::SnapshotRead`]. Answers keep the order of the questions.
    ReadSnapshot {
        /// Which snapshot.
        slot: Slot,
        /// Where the piece stands in it.
        offset: u64,
    },
    /// An answer to a client.
    Reply {
        /// Where it goes.
        to: Origin,
        /// What it says.
        response: Response,
    },
    /// There is more to do: give me another [`Input::Turn`] after what has arrived meanwhile.
    Again,
    /// For people and for the simulator's statistics; has no consequence.
    Trace(Trace),
}

/// Something worth telling.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Trace {
    /// What happened, from a small fixed set: counted by the simulator.
    pub event: &'static str,
    /// Details for people.
    pub detail: String,
    /// Whether an operator wants to see it in normal operation.
    pub notable: bool,
}

/// Every [`Trace::event`] of the roles, but for timers.
pub const EVENTS: &[&str] = &[
    "abort_presumed",
    "catch_up",
    "caught_up",
    "committed_without_record",
    "coordinator_ignored",
    "deposed",
    "election_failed",
    "expires",
    "follow",
    "foreign",
    "given_up",
    "hand_over",
    "hand_over_ended",
    "handed_over",
    "ignore_accepted",
    "ignore_foreign",
    "ignore_malformed",
    "ignore_misdirected",
    "ignore_short_sync",
    "ignore_snapshot",
    "ignore_stranger",
    "ignore_take_over",
    "inquiry",
    "lead",
    "no_ballot_left",
    "no_route",
    "participant_ignored",
    "pre_check",
    "pre_check_failed",
    "serve",
    "snapshot",
    "snapshot_fetched",
    "snapshot_due",
    "snapshot_gone",
    "snapshot_installed",
    "stand",
    "step_down",
    "suspect",
    "take_over",
    "taken_over",
    "unpromised",
];

/// Every timer of the roles, as [`Effects::timer`] names it when its time has come.
pub const TIMERS: &[&str] = &[
    "leader/suspicion",
    "leader/pre_check_again",
    "leader/pre_check_end",
    "leader/promises_again",
    "leader/candidacy_end",
    "leader/commit",
    "leader/expiry",
    "leader/quorum_check",
    "leader/heartbeat",
    "leader/hand_over_end",
    "leader/level_end",
    "replica/catch_up",
    "replica/level_end",
    "replica/read_end",
    "replica/read_in_turn",
    "coordinator/retry",
    "coordinator/prepare_again",
    "coordinator/give_up",
    "coordinator/resolve_again",
    "coordinator/forget",
    "participant/inquire",
    "participant/drop",
];

/// The effects of a step, in their order.
#[derive(Debug)]
pub struct Effects {
    me: Address,
    queue: VecDeque<Effect>,
}

impl Effects {
    /// Nothing yet; `me` is the role that is driven.
    pub fn new(me: Address) -> Effects {
        Effects { me, queue: VecDeque::new() }
    }

    /// Sends to another role.
    pub fn send(&mut self, to: Address, message: Message) {
        self.queue.push_back(Effect::Send { to, message });
    }

    /// Sends to a role of the same group on `node`.
    pub fn send_paxos(&mut self, node: NodeId, role: RoleKind, message: PaxosMessage) {
        self.send(Address { node, role, ..self.me }, Message::Paxos(message));
    }

    /// Sends to a role of the same group on the same node.
    pub fn send_local(&mut self, role: RoleKind, message: LocalMessage) {
        self.send(Address { role, ..self.me }, Message::Local(message));
    }

    /// Sends to a role of another (or the same) group.
    pub fn send_txn(&mut self, to: Address, message: TxnMessage) {
        self.send(to, Message::Txn(message));
    }

    /// Answers a client.
    pub fn reply(&mut self, to: Origin, response: Response) {
        self.queue.push_back(Effect::Reply { to, response });
    }

    /// Tells something.
    pub fn trace(&mut self, event: &'static str, detail: impl FnOnce() -> String) {
        self.queue.push_back(Effect::Trace(Trace { event, detail: detail(), notable: false }));
    }

    /// Tells that the time of one of the [`TIMERS`] has come.
    pub fn timer(&mut self, timer: &'static str) {
        self.queue.push_back(Effect::Trace(Trace { event: timer, detail: String::new(), notable: false }));
    }

    /// Tells an operator something.
    pub fn note(&mut self, event: &'static str, detail: String) {
        self.queue.push_back(Effect::Trace(Trace { event, detail, notable: true }));
    }

    /// Any other effect.
    pub fn push(&mut self, effect: Effect) {
        self.queue.push_back(effect);
    }

    /// The next effect to carry out.
    pub fn pop(&mut self) -> Option<Effect> {
        self.queue.pop_front()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.queue.is_empty()
    }
}

/// Answers that many get at once: a slice goes at each turn, so that telling all does not stall the group.
#[derive(Clone, Debug, Default)]
pub struct Answers(VecDeque<(Origin, Response)>);

impl Answers {
    /// So many a step.
    const SLICE: usize = 1024;

    /// Answers these, the first slice at once.
    pub fn tell(&mut self, answers: impl IntoIterator<Item = (Origin, Response)>, effects: &mut Effects) {
        self.0.extend(answers);
        self.on_turn(effects);
    }

    /// The next slice.
    pub fn on_turn(&mut self, effects: &mut Effects) {
        for (to, response) in self.0.drain(..self.0.len().min(Self::SLICE)) {
            effects.reply(to, response);
        }
        if !self.0.is_empty() {
            effects.push(Effect::Again);
        }
    }
}

/// A pure state machine.
pub trait Role {
    /// Takes one input at `now`, which never goes back, and says what is to be done.
    ///
    /// Bad input from outside is dropped and traced; it changes nothing. A step takes at most 1 ms.
    fn step(&mut self, now: Time, input: Input, effects: &mut Effects);

    /// When this role wants [`Input::Timer`] at the latest.
    fn deadline(&self) -> Option<Time>;
}

/// A message that promises durability and may leave now. Made by [`Gate::release`] only, or read from the wire.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Durable<T>(T);

impl<T> Durable<T> {
    /// What was promised.
    pub fn get(&self) -> &T {
        &self.0
    }

    /// What was promised.
    pub fn into_inner(self) -> T {
        self.0
    }
}

impl<T: Encode> Encode for Durable<T> {
    fn encode(&self, out: &mut Vec<u8>) {
        self.0.encode(out);
    }
}

impl<T: Decode> Decode for Durable<T> {
    fn decode(reader: &mut Reader<'_>) -> Result<Durable<T>, DecodeError> {
        T::decode(reader).map(Durable)
    }
}

/// A promise that waits for the disk.
#[derive(Clone, Debug)]
pub enum Gated {
    /// Phase 1.
    Promise(Promise),
    /// Phase 2.
    Accepted(Accepted),
}

/// Holds back what may not leave before its token is on disk.
#[derive(Clone, Debug, Default)]
pub struct Gate {
    last: Token,
    persisted: Token,
    held: VecDeque<(Token, NodeId, Gated)>,
}

impl Gate {
    /// Persists `records` and returns their token.
    pub fn persist(&mut self, records: Vec<Record>, effects: &mut Effects) -> Token {
        assert!(!records.is_empty(), "a token stands for records");
        self.last = Token(self.last.0 + 1);
        effects.push(Effect::Persist { token: self.last, records });
        self.last
    }

    /// Sends `gated` to the leader role of `node` once everything persisted so far is on disk; at once if it is.
    pub fn hold(&mut self, node: NodeId, gated: Gated, effects: &mut Effects) {
        self.held.push_back((self.last, node, gated));
        self.release(effects);
    }

    /// Takes note of what is on disk and lets go what waited for it.
    ///
    /// # Panics
    /// If the shell confirms a token that was never given, or goes back.
    pub fn on_persisted(&mut self, token: Token, effects: &mut Effects) {
        assert!(token <= self.last && token >= self.persisted, "tokens are confirmed in their order");
        self.persisted = token;
        self.release(effects);
    }

    /// Whether something is on its way to the disk.
    pub fn is_busy(&self) -> bool {
        self.persisted < self.last
    }

    /// The last token that was given.
    pub fn last(&self) -> Token {
        self.last
    }

    /// The last token that is on disk.
    pub fn persisted(&self) -> Token {
        self.persisted
    }

    /// Forgets what waits: the promises of an older ballot need not be told any more.
    pub fn drop_held(&mut self) {
        self.held.clear();
    }

    /// Whether the next that may leave says as much and more: one sync may confirm thousands of entries, and of the
    /// lengths of one log the last is enough.
    fn is_superseded(&self, node: NodeId, gated: &Gated) -> bool {
        match (gated, self.held.front()) {
            (Gated::Accepted(this), Some((token, to, Gated::Accepted(next)))) => {
                *token <= self.persisted && *to == node && next.ballot == this.ballot && next.length >= this.length
            }
            _ => false,
        }
    }

    fn release(&mut self, effects: &mut Effects) {
        while let Some((token, _, gated)) = self.held.front() {
            let early = match gated {
                Gated::Promise(_) => is_planted(Bug::PromiseBeforeSync),
                Gated::Accepted(_) => is_planted(Bug::AcceptedBeforeSync),
            };
            if *token > self.persisted && !early {
                return;
            }
            let Some((_, node, gated)) = self.held.pop_front() else { return };
            if self.is_superseded(node, &gated) {
                continue;
            }
            let message = match gated {
                Gated::Promise(promise) => PaxosMessage::Promise(Durable(promise)),
                Gated::Accepted(accepted) => PaxosMessage::Accepted(Durable(accepted)),
            };
            effects.send_paxos(node, RoleKind::Leader, message);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::client::Why;

    #[test]
    fn many_answers_leave_in_slices_and_none_is_lost() {
        let me = Address { node: NodeId(1), group: GroupId(1), role: RoleKind::Leader };
        let all = (0..3000).map(|n| (Origin { connection: 1, correlation: n }, Response::refused(Why::NotLeader)));
        let (mut answers, mut effects, mut told) = (Answers::default(), Effects::new(me), Vec::new());
        answers.tell(all, &mut effects);
        for slice in [1024, 1024, 952, 0] {
            let before = told.len();
            let mut again = false;
            while let Some(effect) = effects.pop() {
                match effect {
                    Effect::Reply { to, .. } => told.push(to.correlation),
                    Effect::Again => again = true,
                    other => panic!("{other:?}"),
                }
            }
            assert_eq!((told.len() - before, again), (slice, told.len() < 3000));
            answers.on_turn(&mut effects);
        }
        assert!(told.iter().copied().eq(0..3000));
    }
}
