//! Sequences of inputs to the roles: messages from peers with any content, requests, timers, confirmations of what was
//! written, broken connections, crashes.
//!
//! Every node is whole, so what a role is told by its neighbours on the same node is true; only what comes from outside
//! is made up. While nobody has lied about the group's own log, its replicas must agree.

use drachma_protocol::ids::{Ballot, GroupId, NodeId, Origin, ReplicaId, Slot};
use drachma_protocol::message::client::{Call, Request};
use drachma_protocol::message::paxos::{
    Accept, Accepted, Aged, AskAge, ChosenEntries, Commit, FetchChosen, FetchSnapshot, Heartbeat, HeartbeatAck,
    Missing, PreCheck, PreCheckReply, Prepare, Promise, Refused, SnapshotPiece, Synchronise, TakeOver,
};
use drachma_protocol::message::{Message, PaxosMessage};
use drachma_protocol::role::{Address, Input, RoleKind};
use drachma_protocol::time::Time;
use drachma_protocol::wire::codec::{Encode, encode_array_len, from_slice};

use crate::draw::Draw;
use crate::values::{OWN, directory};
use crate::world::World;

/// Steps that one input may hold: a run takes milliseconds.
const STEPS: usize = 400;

/// The replica of one of three nodes.
pub fn replica(data: &[u8]) {
    drive(data, RoleKind::Replica, 3);
}

/// The leader of one of three nodes.
pub fn leader(data: &[u8]) {
    drive(data, RoleKind::Leader, 3);
}

/// The coordinator of a group of one node: what it proposes is chosen and applied at once.
pub fn coordinator(data: &[u8]) {
    drive(data, RoleKind::Coordinator, 1);
}

/// The participant of a group of one node.
pub fn participant(data: &[u8]) {
    drive(data, RoleKind::Participant, 1);
}

fn drive(data: &[u8], target: RoleKind, count: u16) {
    let mut draw = Draw::new(data);
    let mut world = World::new(count);
    // Most of what is worth finding begins with a leader that serves.
    if draw.below(4) < 3 {
        world.settle();
    }
    for _ in 0..STEPS {
        if draw.is_empty() {
            break;
        }
        act(&mut world, &mut draw, target);
    }
    // Whatever has happened, going on is possible.
    world.smooth(8);
}

fn act(world: &mut World, draw: &mut Draw<'_>, target: RoleKind) {
    let node = usize::from(draw.below(3)) % world.nodes.len();
    match draw.below(20) {
        0..=5 => inject(world, draw, target),
        6..=8 => request(world, draw),
        9 => world.run(node),
        10 => {
            let span = draw.span();
            world.pass(span);
        }
        11 => world.deliver(usize::from(draw.byte()), false),
        12 => world.deliver(usize::from(draw.byte()), true),
        13 => drop(world.network.remove(usize::from(draw.byte()))),
        14 => world.persist(node, usize::from(draw.below(4))),
        15 => {
            let kind = draw.pick(&RoleKind::ALL);
            world.next(node, kind);
        }
        16 => {
            let kind = draw.pick(&RoleKind::ALL);
            let input = draw.pick(&[true, false]);
            world.step(node, kind, if input { Input::Turn } else { Input::Timer });
        }
        17 => {
            let (peer, up) = (NodeId(draw.pick(&[1, 2, 3, 21, 31])), draw.once_in(2));
            RoleKind::ALL.into_iter().for_each(|kind| world.step(node, kind, Input::Link { node: peer, up }));
        }
        18 => world.restart(node),
        _ => world.smooth(usize::from(draw.below(8)) + 1),
    }
}

/// A client asks; the gateway sends each call to the role that takes it, and this one now and then to another.
fn request(world: &mut World, draw: &mut Draw<'_>) {
    let call = draw.call();
    let kind = match &call {
        _ if draw.once_in(16) => draw.pick(&RoleKind::ALL),
        Call::Command(command) if command.kind.is_coordinated() => RoleKind::Coordinator,
        Call::Query(query) if !query.confirmed => RoleKind::Replica,
        Call::Lookup(_) | Call::ReplicaRead(_) => RoleKind::Replica,
        Call::Operator(_) => draw.pick(&[RoleKind::Replica, RoleKind::Leader]),
        _ => RoleKind::Leader,
    };
    let origin = Origin { connection: u64::from(draw.below(3)), correlation: draw.number() };
    let group = if draw.once_in(16) { draw.group() } else { OWN };
    world.step(0, kind, Input::Request { origin, request: Request { group, call } });
}

/// A peer says something to the first node.
fn inject(world: &mut World, draw: &mut Draw<'_>, target: RoleKind) {
    let kind = if draw.once_in(8) { draw.pick(&RoleKind::ALL) } else { target };
    let (from, message) = match kind {
        RoleKind::Replica | RoleKind::Leader => {
            let node = NodeId(draw.pick(&[2, 3, 2, 3, 2, 9]));
            let group = if draw.once_in(16) { draw.group() } else { OWN };
            let role = if kind == RoleKind::Leader { RoleKind::Replica } else { RoleKind::Leader };
            let message = paxos_message(world, draw, node, kind);
            // Promises, acceptances, leaders: a lie about them is beyond what Paxos can bear.
            world.honest &= group != OWN || !world.members().contains(&node);
            (Address { node, group, role }, Message::Paxos(message))
        }
        RoleKind::Coordinator | RoleKind::Participant => {
            let message = draw.txn_message(&world.known);
            world.learn(&message);
            let group = GroupId(draw.pick(&[2, 2, 3, 3, 1, 9]));
            let node = NodeId(group.0 * 10 + u16::from(draw.below(4)));
            let other = if kind == RoleKind::Coordinator { RoleKind::Participant } else { RoleKind::Coordinator };
            (Address { node, group, role: other }, Message::Txn(message))
        }
    };
    world.step(0, kind, Input::Message { from, message });
}

/// A ballot near the one that the first node has promised.
fn ballot_near(world: &World, draw: &mut Draw<'_>, node: NodeId) -> Ballot {
    let (promise, ..) = world.state(0);
    match draw.below(8) {
        0..=3 => promise,
        4 | 5 => Ballot { round: promise.round.saturating_add(1), replica: ReplicaId(u32::from(node.0)) },
        6 => Ballot { round: promise.round.saturating_sub(1), replica: ReplicaId(u32::from(node.0)) },
        _ => draw.ballot(),
    }
}

/// A position near the chosen length or the end of the first node's log.
fn slot_near(world: &World, draw: &mut Draw<'_>) -> Slot {
    let (_, chosen, length) = world.state(0);
    match draw.below(8) {
        0..=2 => chosen,
        3 | 4 => length,
        5 => Slot(chosen.0.saturating_sub(u64::from(draw.below(4)))),
        6 => length.plus(usize::from(draw.below(4))),
        _ => Slot(draw.number()),
    }
}

fn paxos_message(world: &World, draw: &mut Draw<'_>, node: NodeId, to: RoleKind) -> PaxosMessage {
    let ballot = ballot_near(world, draw, node);
    let accepted = ballot_near(world, draw, node);
    let (slot, chosen, start) = (slot_near(world, draw), slot_near(world, draw), slot_near(world, draw));
    let entries: Vec<_> = (0..draw.below(4)).map(|_| draw.entry_bytes(accepted)).collect();
    let last = !draw.once_in(4);
    let directory = if draw.once_in(16) { directory(NodeId(9)) } else { directory(node) };
    let for_leader = if to == RoleKind::Leader { !draw.once_in(8) } else { draw.once_in(8) };
    match (for_leader, draw.below(9)) {
        (true, 0) => PaxosMessage::PreCheck(PreCheck { round: draw.number(), ballot }),
        (true, 1) => PaxosMessage::PreCheckReply(PreCheckReply { round: draw.number(), lost: draw.once_in(2), ballot }),
        (true, 2) => durable(
            4,
            &Promise {
                ballot,
                accepted,
                length: slot,
                chosen,
                start,
                entries,
                last,
                doubtful: draw.once_in(4),
                directory,
            },
        ),
        (true, 3) => durable(7, &Accepted { ballot, length: slot }),
        (true, 4) => PaxosMessage::HeartbeatAck(HeartbeatAck { ballot, round: draw.number(), chosen }),
        (true, 5) => PaxosMessage::TakeOver(TakeOver { ballot }),
        (true, 6) if draw.once_in(2) => {
            PaxosMessage::AskAge(AskAge { nonce: draw.number(), asked: Time(draw.number()) })
        }
        (true, 6) => PaxosMessage::Refused(Refused { ballot, promised: accepted }),
        (true, _) => {
            let synchronised = draw.once_in(2);
            PaxosMessage::Missing(Missing { ballot, synchronised, from: slot, nonce: draw.number() })
        }
        (false, 0) if draw.once_in(4) => {
            let question = AskAge { nonce: draw.number(), asked: Time(draw.number()) };
            PaxosMessage::Aged(Aged { question, chosen })
        }
        (false, 0) => PaxosMessage::Prepare(Prepare { ballot, accepted, length: slot, chosen, directory }),
        (false, 1) => {
            let from = if draw.once_in(4) { slot } else { start };
            PaxosMessage::Synchronise(Synchronise { ballot, from, start, entries, last, chosen, nonce: draw.number() })
        }
        (false, 2) => {
            let entry = entries.into_iter().next().unwrap_or_default();
            PaxosMessage::Accept(Accept { ballot, slot, chosen, entry })
        }
        (false, 3) => PaxosMessage::Commit(Commit { ballot, chosen }),
        (false, 4) => {
            let succession = (0..draw.below(4)).map(|n| ReplicaId(u32::from(n))).collect();
            PaxosMessage::Heartbeat(Heartbeat { ballot, round: draw.number(), length: slot, chosen, succession })
        }
        (false, 5) => PaxosMessage::FetchChosen(FetchChosen { from: slot }),
        (false, 6) => PaxosMessage::FetchSnapshot(FetchSnapshot { slot, offset: draw.number() }),
        (false, 7) => {
            // The offer of a snapshot, or bytes that are none.
            let piece = entries.into_iter().next().filter(|_| draw.once_in(2)).unwrap_or_default();
            let offset = if draw.once_in(2) { 64 } else { draw.number() };
            PaxosMessage::SnapshotPiece(SnapshotPiece { slot, offset, piece })
        }
        (false, _) => PaxosMessage::ChosenEntries(ChosenEntries { start: slot, entries, chosen }),
    }
}

/// A message that only a disk's confirmation can make, as it comes from the wire.
fn durable(tag: u64, content: &impl Encode) -> PaxosMessage {
    let mut bytes = Vec::new();
    encode_array_len(&mut bytes, 2);
    tag.encode(&mut bytes);
    content.encode(&mut bytes);
    from_slice(&bytes).expect("a message with its tag can be read")
}
