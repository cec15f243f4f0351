//! What a peer may say is bytes from outside: whatever they are, no role panics and no log takes them in.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use bytes::Bytes;
use drachma_protocol::ids::{AccountId, Ballot, DirectoryId, Epoch, GroupId, NodeId, Origin, ReplicaId, Slot};
use drachma_protocol::ledger::operations::{Key, Operation, Put, Value};
use drachma_protocol::ledger::{Genesis, Limits};
use drachma_protocol::log::record::Recovered;
use drachma_protocol::message::client::{Call, QueryCall, Request, Response, Why};
use drachma_protocol::message::command::{Content, Entry, FORMAT};
use drachma_protocol::message::paxos::{Accept, ChosenEntries, PreCheckReply, Synchronise};
use drachma_protocol::message::{Message, PaxosMessage};
use drachma_protocol::paxos::{Leader, LeaderConfig, Replica, ReplicaConfig};
use drachma_protocol::placement::map::{AccountRange, Mode, ShardMap};
use drachma_protocol::role::{Address, Effect, Effects, Input, Role, RoleKind};
use drachma_protocol::time::{LogTime, Span, Time};
use drachma_protocol::wire::codec::to_vec;

const GROUP: GroupId = GroupId(1);
const BALLOT: Ballot = Ballot { round: 1, replica: ReplicaId(2) };

fn replica() -> Replica {
    let range = AccountRange { first: AccountId(1), last: AccountId(10) };
    let map = ShardMap { epoch: Epoch(1), mode: Mode::Range(vec![range]), owners: vec![GROUP] };
    let genesis = Genesis { group: GROUP, map, accounts: 10, initial_balance: 10, limits: Limits::default() };
    let config = ReplicaConfig {
        node: NodeId(1),
        group: GROUP,
        nodes: vec![NodeId(1), NodeId(2), NodeId(3)],
        directory: DirectoryId(1),
        genesis,
        snapshot_every: u64::MAX,
        parts: 16,
        seed: 7,
    };
    Replica::new(config, Recovered { promise: BALLOT, ..Recovered::default() })
}

/// Hands in a message of the leader on node 2, then a turn; returns the events that were told.
fn say(replica: &mut Replica, message: PaxosMessage) -> Vec<&'static str> {
    let address = |node| Address { node: NodeId(node), group: GROUP, role: RoleKind::Leader };
    let mut effects = Effects::new(Address { role: RoleKind::Replica, ..address(1) });
    replica.step(Time(0), Input::Message { from: address(2), message: Message::Paxos(message) }, &mut effects);
    replica.step(Time(0), Input::Turn, &mut effects);
    let traces = std::iter::from_fn(|| effects.pop()).filter_map(|effect| match effect {
        Effect::Trace(trace) => Some(trace.event),
        _ => None,
    });
    traces.collect()
}

fn entry(format: u8) -> Bytes {
    to_vec(&Entry { format, time: LogTime(0), wall: 0, content: Content::Commands(Vec::new()) }).into()
}

fn synchronise(entries: Vec<Bytes>) -> PaxosMessage {
    let (from, start) = (Slot(0), Slot(0));
    let chosen = Slot(entries.len() as u64);
    PaxosMessage::Synchronise(Synchronise { ballot: BALLOT, from, start, entries, last: true, chosen, nonce: 0 })
}

#[test]
fn a_query_that_writes_is_malformed_whoever_leads_and_confirmed_or_not() {
    let key = Key::new("k").unwrap();
    for confirmed in [false, true] {
        let operations = vec![Operation::Put(Put { key: key.clone(), value: Value::from(1) })];
        let call = Call::Query(QueryCall { operations, confirmed, deadline: Span(1), epoch: Epoch(1) });
        let mut effects = Effects::new(Address { node: NodeId(1), group: GROUP, role: RoleKind::Replica });
        let origin = Origin { connection: 1, correlation: 1 };
        replica().step(Time(0), Input::Request { origin, request: Request { group: GROUP, call } }, &mut effects);
        let answers: Vec<Response> = std::iter::from_fn(|| effects.pop())
            .filter_map(|effect| match effect {
                Effect::Reply { response, .. } => Some(response),
                _ => None,
            })
            .collect();
        assert_eq!(answers, [Response::refused(Why::Malformed)]);
    }
}

/// Bytes that no replica of this version could apply.
fn malformed() -> Vec<Bytes> {
    let good = entry(FORMAT);
    let cut = good.slice(..good.len() - 1);
    let longer = Bytes::from([&good[..], &[0]].concat());
    let command = Bytes::from_static(&[0x94, 1, 0, 0, 0x92, 2, 0x91, 0x92, 99, 0]);
    vec![Bytes::new(), Bytes::from_static(b"?"), cut, longer, command, entry(FORMAT + 1)]
}

#[test]
fn bytes_that_are_no_entry_are_not_synchronised() {
    for bad in malformed() {
        let mut replica = replica();
        assert_eq!(say(&mut replica, synchronise(vec![entry(FORMAT), bad.clone()])), ["ignore_malformed"], "{bad:?}");
        assert_eq!((replica.chosen(), replica.accepted()), (Slot(0), Ballot::default()));
        say(&mut replica, synchronise(vec![entry(FORMAT)]));
        assert_eq!((replica.chosen(), replica.ledger().applied()), (Slot(1), Slot(1)), "the good one is");
    }
}

#[test]
fn bytes_that_are_no_entry_are_not_accepted() {
    for bad in malformed() {
        let mut replica = replica();
        say(&mut replica, synchronise(vec![entry(FORMAT)]));
        let accept = |entry| PaxosMessage::Accept(Accept { ballot: BALLOT, slot: Slot(1), chosen: Slot(2), entry });
        assert_eq!(say(&mut replica, accept(bad.clone())), ["ignore_malformed"], "{bad:?}");
        assert_eq!(replica.chosen(), Slot(1));
        say(&mut replica, accept(entry(FORMAT)));
        assert_eq!((replica.chosen(), replica.ledger().applied()), (Slot(2), Slot(2)), "the good one is");
    }
}

#[test]
fn bytes_that_are_no_entry_are_not_learned() {
    for bad in malformed() {
        let mut replica = replica();
        let entries = vec![entry(FORMAT), bad.clone()];
        let chosen = PaxosMessage::ChosenEntries(ChosenEntries { start: Slot(0), entries, chosen: Slot(2) });
        assert_eq!(say(&mut replica, chosen), ["ignore_malformed"], "{bad:?}");
        assert_eq!(replica.chosen(), Slot(0));
    }
}

#[test]
fn after_the_last_ballot_nobody_stands() {
    let me = Address { node: NodeId(1), group: GROUP, role: RoleKind::Leader };
    let mut leader = Leader::new(LeaderConfig {
        node: me.node,
        group: GROUP,
        nodes: vec![NodeId(1), NodeId(2), NodeId(3)],
        directory: DirectoryId(1),
        heartbeat: Span::from_millis(50),
        leader_timeout: Span::from_millis(300),
        promise: Ballot::default(),
        wall: 0,
        seed: 7,
    });
    let mut effects = Effects::new(me);
    leader.step(leader.deadline().unwrap(), Input::Timer, &mut effects);
    let now = leader.deadline().unwrap();
    let ballot = Ballot { round: u64::MAX, replica: ReplicaId(2) };
    let reply = PaxosMessage::PreCheckReply(PreCheckReply { round: 1, lost: true, ballot });
    let from = Address { node: NodeId(2), ..me };
    leader.step(now, Input::Message { from, message: Message::Paxos(reply) }, &mut effects);
    let mut told = false;
    while let Some(effect) = effects.pop() {
        told |= matches!(&effect, Effect::Trace(trace) if trace.event == "no_ballot_left");
        let prepare = matches!(effect, Effect::Send { message: Message::Paxos(PaxosMessage::Prepare(_)), .. });
        assert!(!prepare, "a ballot of a round that was used before");
    }
    assert!(told, "an operator can see why");
}
