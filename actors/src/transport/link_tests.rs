//! Links between whole nodes: made, lost, made again, and never waited for.

use std::io::Write;
use std::net::TcpListener;
use std::sync::mpsc::{self, Receiver, Sender};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use drachma_protocol::ids::{Ballot, GroupId, NodeId, Slot};
use drachma_protocol::message::hello::Welcome;
use drachma_protocol::message::paxos::{Accept, FetchChosen};
use drachma_protocol::message::{Message, PaxosMessage};
use drachma_protocol::role::{Address, Input, RoleKind};
use drachma_protocol::wire::frame::{self, Kind};

use crate::config::NodeLimits;
use crate::roles::RoleFactory;
use crate::testing::{Builds, CLUSTER, TestNode, acts, at, config, count, sized};

#[derive(Debug, Eq, PartialEq)]
enum Seen {
    Link(u16, bool),
    Message(Address, u64),
}

// A replica that tells what it sees, and greets the same role of a node when the link to it goes up.
fn greeter(tell: Sender<Seen>) -> Arc<dyn RoleFactory> {
    let tell = Mutex::new(tell);
    Arc::new(Builds(move |_| {
        let tell = tell.lock().unwrap().clone();
        let greet = acts(move |_, input, effects, _| match input {
            Input::Link { node, up } => {
                let _ = tell.send(Seen::Link(node.0, up));
                if up {
                    let greeting = PaxosMessage::FetchChosen(FetchChosen { from: Slot(42) });
                    effects.send_paxos(node, RoleKind::Replica, greeting);
                }
            }
            Input::Message { from, message: Message::Paxos(PaxosMessage::FetchChosen(fetch)) } => {
                let _ = tell.send(Seen::Message(from, fetch.from.0));
            }
            _ => {}
        });
        at(RoleKind::Replica, greet)
    }))
}

// Two addresses that were free a moment ago.
fn addresses() -> [(u16, String); 2] {
    let free = [TcpListener::bind("127.0.0.1:0").unwrap(), TcpListener::bind("127.0.0.1:0").unwrap()];
    let address = |index: usize| free[index].local_addr().unwrap().to_string();
    [(1, address(0)), (2, address(1))]
}

fn next(seen: &Receiver<Seen>) -> Seen {
    seen.recv_timeout(Duration::from_secs(20)).expect("something is seen")
}

fn start(id: u16, nodes: &[(u16, String)]) -> (TestNode, Receiver<Seen>) {
    let (tell, seen) = mpsc::channel();
    (TestNode::start(config(id, nodes), NodeLimits::default(), greeter(tell)), seen)
}

#[test]
fn links_go_up_and_down_with_the_peers_process_and_come_back() {
    let nodes = addresses();
    let (first, seen_by_first) = start(1, &nodes);
    assert_eq!(next(&seen_by_first), Seen::Link(2, false), "what is not there is told");
    let replica = |node| Address { node: NodeId(node), group: GroupId(1), role: RoleKind::Replica };
    for _ in 0..2 {
        let (mut second, seen_by_second) = start(2, &nodes);
        let mut both = [next(&seen_by_first), next(&seen_by_first)];
        both.sort_by_key(|seen| matches!(seen, Seen::Message(..)));
        assert_eq!(both, [Seen::Link(2, true), Seen::Message(replica(2), 42)]);
        let mut both = [next(&seen_by_second), next(&seen_by_second)];
        both.sort_by_key(|seen| matches!(seen, Seen::Message(..)));
        assert_eq!(both, [Seen::Link(1, true), Seen::Message(replica(1), 42)]);
        second.stop();
        assert_eq!(next(&seen_by_first), Seen::Link(2, false));
    }
    assert_eq!((first.count("links_made"), first.count("links_lost")), (2, 2));
}

// A leader that sends the replica of node 2 an accept of 1 MiB for each request.
fn generous() -> Arc<dyn RoleFactory> {
    Arc::new(Builds(|_| {
        let give = acts(|_, input, effects, _| {
            let Input::Request { origin, .. } = input else { return };
            let entry = Bytes::from(vec![0; 1 << 20]);
            let accept = Accept { ballot: Ballot::default(), slot: Slot(0), chosen: Slot(0), entry };
            effects.send_paxos(NodeId(2), RoleKind::Replica, PaxosMessage::Accept(accept));
            effects.reply(origin, sized(1));
        });
        at(RoleKind::Leader, give)
    }))
}

#[test]
fn frames_for_a_peer_that_is_down_are_dropped_and_counted() {
    let node = TestNode::start(config(1, &addresses()), NodeLimits::default(), generous());
    let mut client = node.client();
    client.read(1, 1);
    assert_eq!(client.response().0, 1);
    assert_eq!(count(&client.status(), "link_down_dropped"), 1);
}

#[test]
fn frames_for_a_peer_that_does_not_read_are_dropped_beyond_the_budget() {
    let peer = TcpListener::bind("127.0.0.1:0").unwrap();
    let nodes = [(1, "127.0.0.1:0".to_owned()), (2, peer.local_addr().unwrap().to_string())];
    let limits = NodeLimits { link_bytes: 2 << 20, ..NodeLimits::default() };
    let node = TestNode::start(config(1, &nodes), limits, generous());
    let (mut deaf, _) = peer.accept().unwrap();
    let mut out = Vec::new();
    frame::encode(&mut out, Kind::Welcome, 0, &Welcome { version: 1, cluster: CLUSTER, node: NodeId(2) });
    deaf.write_all(&out).unwrap();
    node.await_count("links_made", 1);
    let mut client = node.client();
    for correlation in 0..64 {
        client.read(correlation, 1);
        assert_eq!(client.response().0, correlation, "clients do not wait for a peer");
    }
    // At most 2 MiB, one frame and what both sockets hold are on their way.
    assert!(count(&client.status(), "link_full_dropped") >= 32);
}

#[test]
fn a_link_to_the_wrong_node_stays_down() {
    let peer = TcpListener::bind("127.0.0.1:0").unwrap();
    let nodes = [(1, "127.0.0.1:0".to_owned()), (2, peer.local_addr().unwrap().to_string())];
    let (tell, seen) = mpsc::channel();
    let node = TestNode::start(config(1, &nodes), NodeLimits::default(), greeter(tell));
    let (mut wrong, _) = peer.accept().unwrap();
    let mut out = Vec::new();
    frame::encode(&mut out, Kind::Welcome, 0, &Welcome { version: 1, cluster: CLUSTER, node: NodeId(3) });
    wrong.write_all(&out).unwrap();
    assert_eq!(next(&seen), Seen::Link(2, false));
    // It tries again.
    let _again = peer.accept().unwrap();
    assert_eq!(node.count("links_made"), 0);
}
