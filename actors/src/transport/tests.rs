//! The wires of a whole node, seen from outside: what is refused, what is cut off, what goes on.

use std::sync::{Arc, Mutex, mpsc};
use std::time::Duration;

use bytes::Bytes;
use drachma_protocol::ids::{Ballot, ClusterId, Epoch, GroupId, NodeId, Slot};
use drachma_protocol::message::client::{Call, MapCall, Response, Why};
use drachma_protocol::message::command::{ClientCommand, CommandKind};
use drachma_protocol::message::hello::{Caller, Hello, Refusal};
use drachma_protocol::message::paxos::{Accept, FetchChosen};
use drachma_protocol::message::{Message, PaxosMessage};
use drachma_protocol::rng::Rng;
use drachma_protocol::role::{Address, Input, RoleKind};
use drachma_protocol::time::Span;
use drachma_protocol::wire::frame::{self, Kind, LIMIT_CLIENT, LIMIT_HELLO, LIMIT_PEER};
use drachma_protocol::wire::peer;

use crate::config::NodeLimits;
use crate::testing::{
    Builds, Heard, Line, TestNode, acts, at, client_hello, config, count, directory, idle, parrot, peer_hello, read,
    sized,
};

const KIB: usize = 1024;

fn refused(response: &Response) -> Option<Why> {
    match response {
        Response::Refused(refused) => Some(refused.why),
        _ => None,
    }
}

fn command(body: usize) -> Call {
    let body = Bytes::from(vec![0; body]);
    let kind = CommandKind::Transfers;
    Call::Command(ClientCommand {
        kind,
        session: None,
        sequence: 0,
        deadline: Span(1),
        epoch: Epoch(1),
        count: 1,
        body,
    })
}

// The frame of a command, of exactly `total` bytes.
fn command_frame(total: usize) -> Vec<u8> {
    let frame = |body| {
        let mut out = Vec::new();
        let request = drachma_protocol::message::client::Request { group: GroupId(1), call: command(body) };
        frame::encode(&mut out, Kind::Request, 5, &request);
        out
    };
    let around = frame(100 * KIB).len() - 100 * KIB;
    let out = frame(total - around);
    assert_eq!(out.len(), total);
    out
}

// The frame of an accept from node 2, of exactly `total` bytes.
fn accept_frame(total: usize) -> Vec<u8> {
    let address = |node, role| Address { node: NodeId(node), group: GroupId(1), role };
    let frame = |entry| {
        let entry = Bytes::from(vec![0; entry]);
        let accept = Accept { ballot: Ballot::default(), slot: Slot(0), chosen: Slot(0), entry };
        let message = Message::Paxos(PaxosMessage::Accept(accept));
        let mut out = Vec::new();
        peer::encode(&mut out, address(2, RoleKind::Leader), address(1, RoleKind::Replica), &message);
        out
    };
    let around = frame(100 * KIB).len() - 100 * KIB;
    let out = frame(total - around);
    assert_eq!(out.len(), total);
    out
}

fn pair() -> TestNode {
    let nodes = [(1, "127.0.0.1:0".to_owned()), (2, "127.0.0.1:1".to_owned())];
    TestNode::start(config(1, &nodes), NodeLimits::default(), parrot())
}

fn peer_of(node: &TestNode) -> Line {
    let mut peer = node.caller();
    peer.hello(&peer_hello(2));
    assert!(matches!(peer.hear(), Heard::Welcome));
    peer
}

#[test]
fn before_hello_a_frame_has_at_most_4_kib() {
    let node = TestNode::parrot(NodeLimits::default());
    for (total, refusal) in [(LIMIT_HELLO, Refusal::Malformed), (LIMIT_HELLO + 1, Refusal::TooLarge)] {
        let mut caller = node.caller();
        let mut out = Vec::new();
        frame::encode(&mut out, Kind::Hello, 0, &Bytes::from(vec![0; total - 23]));
        assert_eq!(out.len(), total);
        caller.send(&out);
        assert_eq!(caller.refusal(), refusal, "{total}");
        caller.end();
    }
    assert_eq!((node.count("frames_too_large"), node.count("frames_malformed")), (1, 1));
}

#[test]
fn a_clients_frame_has_at_most_4_mib() {
    let node = TestNode::parrot(NodeLimits::default());
    let mut client = node.client();
    client.send(&command_frame(LIMIT_CLIENT));
    assert_eq!(client.response().0, 5);
    client.send(&command_frame(LIMIT_CLIENT + 1));
    assert_eq!(client.refusal(), Refusal::TooLarge);
    client.end();
}

#[test]
fn hazard_l9_a_peers_frame_has_64_kib_more() {
    let node = pair();
    let mut peer = peer_of(&node);
    peer.send(&accept_frame(LIMIT_PEER));
    node.await_count("peer_messages", 1);
    peer.send(&accept_frame(LIMIT_PEER + 1));
    assert_eq!(peer.refusal(), Refusal::TooLarge);
    peer.end();
    assert_eq!(node.count("peer_messages"), 1);
}

#[test]
fn a_wrong_checksum_closes_the_connection_and_is_counted() {
    let node = TestNode::parrot(NodeLimits::default());
    let mut client = node.client();
    let mut bad = command_frame(200 * KIB);
    bad[150 * KIB] ^= 4;
    client.read(1, 10);
    client.send(&bad);
    assert_eq!(client.response().0, 1, "what came before is answered");
    assert_eq!(client.refusal(), Refusal::Malformed);
    client.end();
    assert_eq!(node.count("frames_bad_checksum"), 1);
}

#[test]
fn garbage_is_refused_at_any_point_and_the_node_serves_on() {
    let node = TestNode::parrot(NodeLimits::default());
    let seed = 1;
    let mut rng = Rng::new(seed);
    let garbage: Vec<u8> = (0..1 << 20).map(|_| rng.next_u64() as u8).collect();
    for round in 0..20 {
        let mut caller = if round % 2 == 0 { node.caller() } else { node.client() };
        caller.send(&garbage[round * 1000..]);
        caller.end();
    }
    let mut client = node.client();
    client.read(1, 100);
    assert_eq!(client.response().0, 1);
}

#[test]
fn well_formed_frames_of_another_state_are_malformed() {
    let node = pair();
    let mut early = node.caller();
    early.read(1, 1);
    assert_eq!(early.refusal(), Refusal::Malformed, "a request before Hello");
    let mut twice = node.client();
    twice.hello(&client_hello());
    assert_eq!(twice.refusal(), Refusal::Malformed, "Hello twice");
    let mut posing = node.client();
    posing.send(&accept_frame(200 * KIB));
    assert_eq!(posing.refusal(), Refusal::Malformed, "a peer's message from a client");
    let mut asking = peer_of(&node);
    asking.read(1, 1);
    assert_eq!(asking.refusal(), Refusal::Malformed, "a request from a peer");
    let mut other = node.client();
    let mut out = Vec::new();
    frame::encode(&mut out, Kind::Request, 1, &7u64);
    other.send(&out);
    assert_eq!(other.refusal(), Refusal::Malformed, "a body that is no request");
}

#[test]
fn a_frame_of_another_version_than_agreed_is_malformed() {
    let node = TestNode::parrot(NodeLimits::default());
    let mut client = node.client();
    let mut out = command_frame(100 * KIB);
    out[10] = 2;
    let checksum = {
        // A frame whose only fault is its version.
        let mut other = Vec::new();
        frame::encode(&mut other, Kind::Request, 5, &0u8);
        assert_eq!(other[10], 1);
        crc32c_of(&out[8..])
    };
    out[4..8].copy_from_slice(&checksum.to_be_bytes());
    client.send(&out);
    assert_eq!(client.refusal(), Refusal::Malformed);
    assert_eq!(node.count("frames_bad_checksum"), 0);
}

// Bit by bit, so that the tests need no other crate.
fn crc32c_of(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(!0u32, |crc, byte| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| crc >> 1 ^ if crc & 1 == 1 { 0x82f6_3b78 } else { 0 })
    })
}

#[test]
fn another_cluster_another_version_and_strangers_are_refused() {
    let node = pair();
    let cases = [
        (Hello { cluster: Some(ClusterId(1)), ..client_hello() }, Refusal::Cluster),
        (Hello { cluster: Some(ClusterId(1)), ..peer_hello(2) }, Refusal::Cluster),
        (Hello { lowest: 2, highest: 3, ..client_hello() }, Refusal::Version),
        (peer_hello(3), Refusal::Stranger),
        (peer_hello(1), Refusal::Stranger),
        (Hello { directory: Some(directory(1)), ..peer_hello(2) }, Refusal::Stranger),
        (Hello { caller: Caller::Peer, ..client_hello() }, Refusal::Stranger),
    ];
    let count = cases.len() as u64;
    for (hello, refusal) in cases {
        let mut caller = node.caller();
        caller.hello(&hello);
        assert_eq!(caller.refusal(), refusal, "{hello:?}");
        caller.end();
    }
    assert_eq!(node.count("hello_refused"), count);
}

#[test]
fn whoever_says_nothing_is_sent_away() {
    let node = TestNode::parrot(NodeLimits { hello: Span::from_millis(500), ..NodeLimits::default() });
    let mut silent = node.caller();
    assert_eq!(silent.refusal(), Refusal::Malformed);
    silent.end();
    assert_eq!(node.count("hello_late"), 1);
}

#[test]
fn a_frame_that_is_not_finished_in_time_is_given_up() {
    let node = TestNode::parrot(NodeLimits { frame: Span::from_millis(30), ..NodeLimits::default() });
    let mut slow = node.client();
    slow.send(&command_frame(100 * KIB)[..50 * KIB]);
    assert_eq!(slow.refusal(), Refusal::Malformed);
    assert_eq!(node.count("frames_late"), 1);
}

#[test]
fn one_client_more_than_the_limit_is_refused() {
    let node = TestNode::parrot(NodeLimits { clients: 2, ..NodeLimits::default() });
    let (mut first, _second) = (node.client(), node.client());
    let mut third = node.caller();
    third.hello(&client_hello());
    assert_eq!(third.refusal(), Refusal::Overloaded);
    third.end();
    assert_eq!(count(&first.status(), "connections_refused"), 1);
}

#[test]
fn one_connection_more_than_the_limit_is_refused() {
    let node = TestNode::parrot(NodeLimits { clients: 1, other_connections: 2, ..NodeLimits::default() });
    let mut client = node.client();
    let _others = [node.caller(), node.caller()];
    while count(&client.status(), "connections_open") < 3 {}
    assert_eq!(node.caller().refusal(), Refusal::Overloaded);
}

#[test]
fn a_client_that_never_reads_is_cut_off() {
    let limits = NodeLimits { answer_bytes_per_client: 256 * KIB, ..NodeLimits::default() };
    let node = TestNode::parrot(limits);
    let mut deaf = node.client();
    // Ten times what the budget and the sockets on both sides hold.
    for correlation in 0..400 {
        deaf.read(correlation, 256 * KIB);
    }
    node.await_count("clients_cut_off", 1);
    while node.count("clients_open") > 1 {}
}

#[test]
fn a_client_whose_socket_stays_full_is_cut_off() {
    let node = TestNode::parrot(NodeLimits { unread: Span::from_millis(50), ..NodeLimits::default() });
    let mut deaf = node.client();
    // Less than its budget, more than its socket takes.
    for correlation in 0..20 {
        deaf.read(correlation, 380 * KIB);
    }
    node.await_count("clients_cut_off", 1);
}

#[test]
fn unread_answers_of_all_clients_are_bounded_together() {
    let limits = NodeLimits { answer_bytes: 512 * KIB, answer_bytes_reserved: 16 * KIB, ..NodeLimits::default() };
    let node = TestNode::parrot(limits);
    let mut deaf: Vec<Line> = (0..4).map(|_| node.client()).collect();
    for (correlation, client) in (0..40).flat_map(|n| (0..4).map(move |c| (n, c))) {
        deaf[client].read(correlation, 256 * KIB);
    }
    node.await_count("clients_cut_off", 1);
    let mut modest = node.client();
    modest.read(1, KIB);
    assert!(matches!(modest.hear(), Heard::Response(1, Response::Operator(_))), "a small answer has room always");
}

#[test]
fn two_thousand_clients_that_never_read_do_not_disturb_another() {
    let limits = NodeLimits { answer_bytes: 64 << 20, ..NodeLimits::default() };
    let node = TestNode::parrot(limits);
    let mut deaf: Vec<Line> = (0..2_000).map(|_| node.caller()).collect();
    for client in &mut deaf {
        client.hello(&client_hello());
        for correlation in 0..20 {
            client.read(correlation, 16 * KIB);
        }
    }
    let mut client = node.client();
    for correlation in 0..1_000 {
        client.read(correlation, 100);
        assert_eq!(client.response().0, correlation);
    }
    assert!(count(&client.status(), "clients_open") <= 2_001);
}

#[test]
fn a_client_with_too_much_unanswered_is_not_read() {
    let (tell, told) = mpsc::channel();
    let tell = Mutex::new(tell);
    let factory = Builds(move |_| {
        let (tell, mut held) = (tell.lock().unwrap().clone(), Vec::new());
        // Answers none of the first ten before it is asked for account 99.
        let patient = acts(move |_, input, effects, _| {
            let Input::Request { origin, request } = input else { return };
            tell.send(origin.correlation).unwrap();
            match request.call == read(99) {
                true => held.drain(..).chain([origin]).for_each(|origin| effects.reply(origin, sized(1))),
                false => held.push(origin),
            }
        });
        at(RoleKind::Leader, patient)
    });
    let limits = NodeLimits { requests_per_client: 10, ..NodeLimits::default() };
    let node = TestNode::start(config(1, &[(1, "127.0.0.1:0".to_owned())]), limits, Arc::new(factory));
    let mut client = node.client();
    let hear = || told.recv_timeout(Duration::from_secs(20)).unwrap();
    for correlation in 0..10 {
        client.read(correlation, 1);
        assert_eq!(hear(), correlation);
    }
    client.read(10, 1);
    let mut other = node.client();
    for _ in 0..100 {
        other.status();
    }
    assert!(told.try_recv().is_err(), "the eleventh is not read");
    other.read(1000, 99);
    assert_eq!((hear(), hear()), (1000, 10), "until there is room again");
}

#[test]
fn too_many_bytes_of_requests_are_refused_early() {
    let node = TestNode::parrot(NodeLimits { request_bytes: 100 * KIB, ..NodeLimits::default() });
    let mut client = node.client();
    client.request(1, 1, command(60 * KIB));
    assert_eq!(refused(&client.response().1), None, "answered: its bytes are free again");
    let silent = Arc::new(Builds(|_| [idle(), idle(), idle(), idle()]));
    let limits = NodeLimits { request_bytes: 100 * KIB, ..NodeLimits::default() };
    let node = TestNode::start(config(1, &[(1, "127.0.0.1:0".to_owned())]), limits, silent);
    let mut client = node.client();
    client.request(1, 1, command(40 * KIB));
    client.request(2, 1, command(40 * KIB));
    client.request(3, 1, command(40 * KIB));
    let (correlation, response) = client.response();
    assert_eq!((correlation, refused(&response)), (3, Some(Why::Overloaded)));
    drop(client);
    let mut other = node.client();
    while count(&other.status(), "clients_open") > 1 {}
    other.request(4, 1, command(60 * KIB));
    other.request(5, 1, command(60 * KIB));
    assert_eq!(other.response().0, 5, "what a client held is free when it is gone");
}

#[test]
fn a_correlation_id_that_is_in_use_is_malformed() {
    let node = TestNode::parrot(NodeLimits::default());
    let mut client = node.client();
    client.read(1, 0);
    client.read(1, 0);
    assert_eq!(client.refusal(), Refusal::Malformed);
    let mut client = node.client();
    for _ in 0..3 {
        client.read(1, 10);
        assert_eq!(client.response().0, 1, "once answered it is free");
    }
}

#[test]
fn what_is_not_here_is_refused_and_the_nodes_own_is_answered() {
    let node = TestNode::parrot(NodeLimits::default());
    let mut client = node.client();
    client.request(1, 2, read(1));
    assert_eq!(refused(&client.response().1), Some(Why::WrongNode));
    client.request(2, 0, read(1));
    assert_eq!(refused(&client.response().1), Some(Why::WrongNode));
    client.request(3, 0, Call::Map(MapCall { epoch: Epoch(0) }));
    let (_, Response::Map(map)) = client.response() else { panic!("a map was asked for") };
    assert_eq!((map.map.epoch, map.groups.len(), map.nodes.len()), (Epoch(1), 1, 1));
    let status = client.status();
    let actors: Vec<&str> = status.actors.iter().map(|actor| actor.role.as_str()).collect();
    assert_eq!(actors, ["replica", "leader", "coordinator", "participant", "gateway"]);
    assert_eq!((status.node, status.process), (NodeId(1), std::process::id()));
    assert!(status.actors[4].handled >= 3);
}

#[test]
fn messages_for_a_group_that_is_not_here_are_counted_and_survived() {
    let node = pair();
    let mut peer = peer_of(&node);
    let message = Message::Paxos(PaxosMessage::FetchChosen(FetchChosen { from: Slot(0) }));
    for group in [9, 1] {
        let address = |node, role| Address { node: NodeId(node), group: GroupId(group), role };
        let mut out = Vec::new();
        peer::encode(&mut out, address(2, RoleKind::Replica), address(1, RoleKind::Replica), &message);
        peer.send(&out);
    }
    node.await_count("peer_messages", 1);
    assert_eq!(node.count("peer_messages_misrouted"), 1);
}

#[test]
fn each_of_several_groups_answers() {
    let mut config = config(1, &[(1, "127.0.0.1:0".to_owned())]);
    config.groups.push((GroupId(2), vec![NodeId(1)]));
    let node = TestNode::start(config, NodeLimits::default(), parrot());
    let mut client = node.client();
    for correlation in 0..100 {
        client.request(correlation, 1 + (correlation % 2) as u16, read(50));
        assert_eq!(client.response().0, correlation);
    }
    assert_eq!(client.status().actors.len(), 9);
}

#[test]
fn a_node_that_stops_says_so() {
    let mut node = TestNode::parrot(NodeLimits::default());
    let mut client = node.client();
    client.read(1, 1);
    assert_eq!(client.response().0, 1);
    let waiting = std::thread::spawn(move || client.refusal());
    node.stop();
    assert_eq!(waiting.join().unwrap(), Refusal::Stopping);
}

#[test]
fn answers_of_a_defective_role_that_exceed_a_frame_are_refusals() {
    let node = TestNode::parrot(NodeLimits::default());
    let mut client = node.client();
    client.read(1, LIMIT_CLIENT);
    assert_eq!(refused(&client.response().1), Some(Why::Malformed));
    assert_eq!(node.count("answers_oversized"), 1);
}

#[test]
fn a_reply_to_nobody_is_counted() {
    let factory = Builds(|_| {
        let twice = acts(|_, input, effects, _| {
            if let Input::Request { origin, .. } = input {
                effects.reply(origin, sized(1));
                effects.reply(origin, sized(1));
            }
        });
        at(RoleKind::Leader, twice)
    });
    let node = TestNode::start(config(1, &[(1, "127.0.0.1:0".to_owned())]), NodeLimits::default(), Arc::new(factory));
    let mut client = node.client();
    client.read(1, 1);
    assert_eq!(client.response().0, 1);
    assert_eq!(count(&client.status(), "answers_unwanted"), 1);
}
