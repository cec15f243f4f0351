//! Frames between the nodes, and between clients and nodes: out, damaged, and in through the decoder of the product.

use bytes::Bytes;

use drachma_protocol::ids::{GroupId, NodeId, Origin};
use drachma_protocol::message::client::{Request, Response};
use drachma_protocol::message::operator::OperatorAnswer;
use drachma_protocol::message::{Message, PaxosMessage, TxnMessage};
use drachma_protocol::role::{Address, Input, RoleKind};
use drachma_protocol::wire::codec::{DecodeError, from_slice};
use drachma_protocol::wire::frame::{self, Frame, FrameError, Kind, LIMIT_CLIENT, LIMIT_PEER};
use drachma_protocol::wire::peer;

use super::events::{Change, Event};
use super::{World, name};
use crate::checkers::Class;
use crate::coverage::{self, Wire};
use crate::draw::{permille, pick};
use crate::faults::Point;
use crate::network::{Arrival, Damage, Endpoint, Link, Stream};

/// How long the rest of a frame may stay away, in microseconds; then the connection is closed.
const REST_OF_FRAME: u64 = 1_000_000;

/// A frame that came whole, decoded.
enum Came {
    Peer(Address, Input),
    Request(u64, Request),
    Response(u64, Response),
}

impl World<'_> {
    /// A message from role to role leaves its node.
    pub(super) fn send(&mut self, from: Address, to: Address, message: &Message) {
        match message {
            Message::Paxos(PaxosMessage::Accept(_) | PaxosMessage::Heartbeat(_)) => {
                self.leaders.insert(from.group, from.node);
            }
            Message::Txn(TxnMessage::Vote(vote)) => self.count(coverage::Kind::Vote, coverage::vote(vote.vote)),
            Message::Local(_) => {
                return self.fail("wire", Class::Safety, format!("{} sent {message:?} to another node", name(from)));
            }
            _ => {}
        }
        match message {
            Message::Paxos(message) => self.count(coverage::Kind::Paxos, message.kind()),
            Message::Txn(message) => self.count(coverage::Kind::Txn, message.kind()),
            Message::Local(_) => {}
        }
        let frame = self.frame(|out| peer::encode(out, from, to, message));
        self.show_message(from, to, message, frame.len());
        let link = (Endpoint::Node(from.node), Endpoint::Node(to.node));
        self.transmit(link, frame, || format!("{} -> {} lost {message:?}", name(from), name(to)));
        if self.network.misdirects() {
            self.misdirect(from, to, message);
        }
        if let Message::Txn(TxnMessage::Inquire(_)) = message
            && permille(&mut self.rng, self.swarm.asked_around)
        {
            self.ask_around(from, to, message);
        }
        if let Message::Paxos(message) = message {
            self.mangle(from, to, message);
        }
    }

    /// A role asks the nodes of a group in turn, since it cannot know who leads; here copies come to all of them at once,
    /// and so to one that has led and does not know yet that it does not.
    fn ask_around(&mut self, from: Address, to: Address, message: &Message) {
        self.count(coverage::Kind::Wire, coverage::wire(Wire::AskedAround));
        let others = self.swarm.shape.members(to.group).iter().filter(|node| ![to.node, from.node].contains(node));
        for node in others.copied().collect::<Vec<_>>() {
            let frame = self.frame(|out| peer::encode(out, from, Address { node, ..to }, message));
            self.transmit((Endpoint::Node(from.node), Endpoint::Node(node)), frame, || {
                "lost on its way round".to_owned()
            });
        }
    }

    /// A copy goes where it does not belong: to another role, or to a group of which the sender is no member.
    fn misdirect(&mut self, from: Address, to: Address, message: &Message) {
        let role = pick(&mut self.rng, &RoleKind::ALL);
        let shape = &self.swarm.shape;
        let foreign = |group: &&GroupId| !shape.members(**group).contains(&from.node);
        let strange = shape.groups_on(to.node).iter().find(foreign).copied();
        let other = shape.groups_on(to.node).into_iter().find(|group| *group != to.group);
        let (from, to) = match (message, strange, other) {
            (Message::Paxos(_), Some(group), _) if self.rng.chance(50) => {
                (Address { group, ..from }, Address { group, ..to })
            }
            // What a participant is told names its transaction, and a group that takes no part in it can tell.
            (Message::Txn(TxnMessage::Prepare(_) | TxnMessage::Resolve(_)), _, Some(group)) if self.rng.chance(50) => {
                (from, Address { group, ..to })
            }
            _ if role == to.role => return,
            _ => (from, Address { role, ..to }),
        };
        self.count(coverage::Kind::Wire, coverage::wire(Wire::Misdirected));
        let frame = self.frame(|out| peer::encode(out, from, to, message));
        self.transmit((Endpoint::Node(from.node), Endpoint::Node(to.node)), frame, || "lost astray".to_owned());
    }

    /// A copy comes with bytes that are no entry of a log, as of a peer whose memory is bad.
    fn mangle(&mut self, from: Address, to: Address, message: &PaxosMessage) {
        let mut mangled = message.clone();
        let entries = match &mut mangled {
            PaxosMessage::Accept(accept) => std::slice::from_mut(&mut accept.entry),
            PaxosMessage::Synchronise(synchronise) => synchronise.entries.as_mut_slice(),
            _ => return,
        };
        if entries.is_empty() || !self.network.mangles() {
            return;
        }
        let place = self.rng.below(entries.len() as u64) as usize;
        let left = self.rng.below(entries[place].len() as u64) as usize;
        entries[place].truncate(left);
        self.count(coverage::Kind::Wire, coverage::wire(Wire::Mangled));
        let mut bytes = Vec::new();
        peer::encode(&mut bytes, from, to, &Message::Paxos(mangled));
        self.transmit((Endpoint::Node(from.node), Endpoint::Node(to.node)), bytes.into(), || "lost mangled".to_owned());
    }

    /// An answer to a client leaves its node.
    pub(super) fn reply(&mut self, from: NodeId, to: Origin, response: &Response) {
        self.count(coverage::Kind::Response, response.kind());
        if let Response::Refused(refused) = response {
            self.count(coverage::Kind::Refusal, coverage::why(refused.why));
        }
        if let Response::Operator(OperatorAnswer::HandOver(done)) = response {
            self.count(coverage::Kind::HandOver, coverage::hand_over(done.end));
        }
        let frame = self.frame(|out| frame::encode(out, Kind::Response, to.correlation, response));
        let link = (Endpoint::Node(from), Endpoint::Client(to.connection as u32));
        self.transmit(link, frame, || format!("{from} -> client {} lost {response:?}", to.connection));
    }

    /// A client's request leaves.
    pub(super) fn ask(&mut self, client: u32, node: NodeId, correlation: u64, request: &Request) {
        self.count(coverage::Kind::Call, request.call.kind());
        if let drachma_protocol::message::client::Call::Command(command) = &request.call {
            self.count(coverage::Kind::Command, coverage::command(command.kind));
        }
        let found = self.checkers.ask(|checker| checker.on_copy(client, correlation, request));
        self.check(found);
        let frame = self.frame(|out| frame::encode(out, Kind::Request, correlation, request));
        let link = (Endpoint::Client(client), Endpoint::Node(node));
        self.transmit(link, frame, || format!("client {client} -> {node} lost {request:?}"));
    }

    /// A frame of its exact length, however its encoding grew.
    fn frame(&mut self, encode: impl FnOnce(&mut Vec<u8>)) -> Bytes {
        self.scratch.clear();
        encode(&mut self.scratch);
        Bytes::copy_from_slice(&self.scratch)
    }

    fn transmit(&mut self, link: Link, frame: Bytes, lost: impl FnOnce() -> String) {
        let fate = self.network.send(self.now, link.0, link.1);
        if fate.first.is_none() {
            self.trace.event(self.now, b"lost", lost);
            self.count(coverage::Kind::Wire, coverage::wire(Wire::Lost));
        }
        if fate.straggles {
            self.count(coverage::Kind::Wire, coverage::wire(Wire::Straggled));
        }
        if fate.second.is_some() {
            self.count(coverage::Kind::Wire, coverage::wire(Wire::Doubled));
        }
        for arrival in [fate.first, fate.second].into_iter().flatten() {
            let bytes = match arrival.damage {
                Damage::None => frame.clone(),
                damage => Bytes::from(self.network.damaged(damage, &frame)),
            };
            self.at(arrival.at, Event::Frame { link, arrival, bytes });
        }
    }

    /// Something arrives. Most of it is one whole frame with nothing before it.
    pub(super) fn on_frame(&mut self, link: Link, arrival: Arrival, bytes: &Bytes) {
        let Some(life) = arrival.life else {
            return self.receive(link, bytes, false); // On a way of its own.
        };
        if !self.network.holds(link, life) {
            self.trace.event(self.now, b"reset", || format!("{link:?} is gone with a frame of {} bytes", bytes.len()));
            return self.count(coverage::Kind::Wire, coverage::wire(Wire::Reset));
        }
        if !self.is_listening(link.1) {
            return;
        }
        let (stream, _) = self.network.stream(link);
        if stream.bytes.is_empty() && arrival.damage == Damage::None {
            return self.receive(link, bytes, false);
        }
        stream.bytes.extend_from_slice(bytes);
        stream.tainted |= arrival.damage == Damage::Corrupted;
        self.take_apart(link);
        if arrival.damage == Damage::Truncated && self.network.holds(link, life) {
            self.count(coverage::Kind::Wire, coverage::wire(Wire::Truncated));
            self.close(link, "in the middle of a frame");
        }
    }

    /// Takes whole frames off a stream, and sees to it that the rest does not stay for ever.
    fn take_apart(&mut self, link: Link) {
        loop {
            let (stream, life) = self.network.stream(link);
            let whole = match frame::length(&stream.bytes, limit(link)) {
                Err(error) => return self.refuse(link, &error),
                Ok(Some(whole)) if whole <= stream.bytes.len() => whole,
                Ok(_) if stream.bytes.is_empty() => return,
                Ok(_) => return self.at(self.now + REST_OF_FRAME, Event::Stall { link, life }),
            };
            let Stream { bytes, tainted } = std::mem::take(stream);
            stream.bytes = bytes[whole..].to_vec();
            // What follows a damaged length is not where frames begin, though all of it may be as it was sent.
            stream.tainted = tainted && !stream.bytes.is_empty();
            self.receive(link, &bytes[..whole], tainted);
            if !self.network.holds(link, life) || self.violation.is_some() {
                return; // It was refused.
            }
        }
    }

    pub(super) fn on_stall(&mut self, link: Link, life: u32) {
        let (stream, current) = self.network.stream(link);
        if current == life && !stream.bytes.is_empty() {
            self.count(coverage::Kind::Wire, coverage::wire(Wire::Swallowed));
            self.close(link, "waiting for the rest of a frame");
        }
    }

    /// A damaged frame was refused, or somebody has sent what is no frame.
    fn refuse(&mut self, link: Link, error: &FrameError) {
        if !self.network.stream(link).0.tainted {
            return self.fail("wire", Class::Safety, format!("{link:?}: a frame that was not damaged: {error}"));
        }
        self.count(coverage::Kind::Wire, coverage::wire(Wire::Corrupted));
        self.close(link, "at a damaged frame");
    }

    /// A connection is closed, in this direction at once; both nodes will notice.
    fn close(&mut self, link: Link, why: &str) {
        self.trace.event(self.now, b"close", || format!("{link:?} breaks {why}"));
        self.network.break_off(self.now, link);
        if let (Endpoint::Node(a), Endpoint::Node(b)) = link {
            for (watcher, peer) in [(a, b), (b, a)] {
                if let Some(watcher) = self.index_of(watcher) {
                    self.notice(watcher, peer, Change::Broken);
                }
            }
        }
    }

    fn is_listening(&self, endpoint: Endpoint) -> bool {
        match endpoint {
            Endpoint::Client(_) => true,
            Endpoint::Node(node) => self.index_of(node).is_some_and(|node| self.nodes[node].is_up()),
        }
    }

    /// A whole frame.
    fn receive(&mut self, link: Link, bytes: &[u8], tainted: bool) {
        if !self.is_listening(link.1) {
            return;
        }
        let came = match frame::decode(bytes).and_then(|frame| decode(link, frame).map_err(FrameError::Body)) {
            Ok(came) => came,
            Err(error) => {
                self.network.stream(link).0.tainted |= tainted;
                return self.refuse(link, &error);
            }
        };
        if tainted {
            return self.fail("wire", Class::Safety, format!("{link:?}: a damaged frame passes: {bytes:x?}"));
        }
        match (came, link) {
            (Came::Peer(to, input), (_, Endpoint::Node(node))) => {
                self.trace.event(self.now, bytes, || format!("{} <- {input:?}", name(to)));
                let Some(node) = self.index_of(node) else { return };
                self.nodes[node].put(to, input);
                self.run_node(node);
            }
            (Came::Request(correlation, request), (Endpoint::Client(client), Endpoint::Node(node))) => {
                self.trace.event(self.now, bytes, || format!("{node} <- client {client} #{correlation:x} {request:?}"));
                let to = Address { node, group: request.group, role: self.assembly.takes(&request) };
                let origin = Origin { connection: u64::from(client), correlation };
                let Some(node) = self.index_of(node) else { return };
                self.nodes[node].put(to, Input::Request { origin, request });
                self.run_node(node);
                if self.nodes[node].is_up() && self.is_trapped_at(node, Point::AfterRequest) {
                    self.spring();
                }
            }
            (Came::Response(correlation, response), (Endpoint::Node(node), Endpoint::Client(client))) => {
                self.trace
                    .event(self.now, bytes, || format!("client {client} <- {node} #{correlation:x} {response:?}"));
                self.on_response(client, correlation, node, &response);
            }
            _ => self.fail("wire", Class::Safety, format!("{link:?}: a frame of another kind of connection")),
        }
    }
}

/// The largest frame of a connection.
fn limit(link: Link) -> usize {
    if matches!(link.0, Endpoint::Client(_)) { LIMIT_CLIENT } else { LIMIT_PEER }
}

fn decode(link: Link, frame: Frame<'_>) -> Result<Came, DecodeError> {
    match (link, frame.kind) {
        ((Endpoint::Node(from), Endpoint::Node(to)), _) => {
            peer::decode(frame, from, to).map(|(to, input)| Came::Peer(to, input))
        }
        ((Endpoint::Client(_), _), Kind::Request) => Ok(Came::Request(frame.correlation, from_slice(frame.body)?)),
        ((_, Endpoint::Client(_)), Kind::Response) => Ok(Came::Response(frame.correlation, from_slice(frame.body)?)),
        _ => Err(DecodeError::Expected("a frame of this connection")),
    }
}
