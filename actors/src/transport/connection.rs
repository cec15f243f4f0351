//! A connection that somebody opened to this node: Hello first, then a peer's messages or a client's requests.
//!
//! One task per connection. It reads when there is something to read and room for it, decodes every whole frame of
//! one read and hands them over together, writes what the socket did not take at once, and keeps three deadlines: for
//! Hello, for the rest of a frame, and for answers that are not read. Bad input ends it with a typed error.

use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use drachma_protocol::ids::{NodeId, Origin};
use drachma_protocol::message::client::Request;
use drachma_protocol::message::hello::{Caller, Goodbye, Hello, Refusal};
use drachma_protocol::role::{Address, Input};
use drachma_protocol::time::{Span, Time};
use drachma_protocol::wire::codec::from_slice;
use drachma_protocol::wire::frame::{self, Frame, FrameError, Kind, LIMIT_CLIENT, LIMIT_HELLO, LIMIT_PEER};
use drachma_protocol::wire::peer;
use tokio::net::TcpStream;
use tokio::net::tcp::OwnedReadHalf;

use super::Hub;
use super::client::{Admission, Client, Shared, repeated};
use super::hello::{Admitted, goodbye};
use super::reader::{Assembler, FrameSink, READ};
use super::writer::Outbox;

/// How often a connection that is not read looks for requests that were given up.
const SWEEP: Span = Span::from_millis(1_000);
/// How long the last word may take to be sent and read.
const LINGER: Duration = Duration::from_millis(500);
/// What is thrown away meanwhile, so that the last word is not lost to a reset.
const LINGER_BYTES: usize = 1024 * 1024;

/// Why a connection ends.
#[derive(Debug)]
enum End {
    /// The other side closed it, or it broke.
    Gone,
    /// A frame was refused.
    Frame(FrameError),
    /// With a last word.
    Word(Goodbye),
    /// Without one.
    Silent,
}

impl From<FrameError> for End {
    fn from(error: FrameError) -> End {
        End::Frame(error)
    }
}

enum Side {
    Unknown,
    Peer(NodeId),
    Client(Rc<Client>),
}

/// What the frames of a connection do.
struct Talk {
    hub: Rc<Hub>,
    outbox: Rc<Outbox>,
    side: Side,
    version: u8,
    // Of one read: they are handed over together.
    messages: Vec<(Address, Vec<Input>, usize)>,
    requests: Vec<(Origin, Request)>,
    frames: u64,
}

struct Connection {
    talk: Talk,
    assembler: Assembler,
    // Bytes of the assembler that are charged to a budget.
    charged: usize,
    since: Time,
    // Since when the rest of a frame is awaited.
    partial: Option<Time>,
    // Since when the socket takes nothing, and the outbox's progress then.
    stuck: Option<(Time, u64)>,
}

/// Serves a connection until it ends.
pub(crate) async fn serve(stream: TcpStream, from: SocketAddr, hub: Rc<Hub>) {
    let node = hub.identity.node;
    if let Err(error) = super::prepare(&stream) {
        tracing::debug!(%node, %from, %error, "a socket stays as it is");
    }
    let (mut socket, write) = stream.into_split();
    let outbox = Rc::new(Client::outbox());
    outbox.attach(write);
    let mut connection = Connection::new(hub, outbox);
    let end = connection.run(&mut socket).await;
    tracing::debug!(%node, %from, ?end, "connection closed");
    connection.close(&mut socket, end).await;
}

impl Connection {
    fn new(hub: Rc<Hub>, outbox: Rc<Outbox>) -> Connection {
        let since = hub.clock.now();
        let talk = Talk {
            hub,
            outbox,
            side: Side::Unknown,
            version: 0,
            messages: Vec::new(),
            requests: Vec::new(),
            frames: 0,
        };
        Connection { talk, assembler: Assembler::default(), charged: 0, since, partial: None, stuck: None }
    }

    async fn run(&mut self, socket: &mut OwnedReadHalf) -> End {
        let (hub, outbox) = (self.talk.hub.clone(), self.talk.outbox.clone());
        loop {
            if let Some(end) = self.ended() {
                return end;
            }
            let reads = self.reads();
            let deadline = self.deadline(reads).map(|at| hub.clock.instant(at).into());
            let read = std::future::poll_fn(|cx| {
                hub.scratch.poll_read(cx, socket, |bytes| (bytes.len(), self.receive(bytes)))
            });
            let woken = tokio::select! {
                biased;
                () = outbox.changed() => Woken::Changed,
                () = outbox.writable(), if outbox.is_stuck() => Woken::Writable,
                result = read, if reads => Woken::Read(result),
                () = until(deadline) => Woken::Late,
            };
            match woken {
                Woken::Changed => {}
                Woken::Writable => self.talk.flush(),
                Woken::Read(Err(_) | Ok((0, _))) => return End::Gone,
                Woken::Read(Ok((_, Err(end)))) => return end,
                // There is more where this came from: let the others have a turn.
                Woken::Read(Ok((READ, _))) => tokio::task::yield_now().await,
                Woken::Read(_) => {}
                Woken::Late => {
                    if let Some(end) = self.late() {
                        return end;
                    }
                }
            }
        }
    }

    fn ended(&self) -> Option<End> {
        if let Side::Client(client) = &self.talk.side
            && let Some(word) = client.ends()
        {
            return Some(word.map_or(End::Silent, End::Word));
        }
        self.talk.outbox.has_failed().then_some(End::Gone)
    }

    // A client with too much unanswered is not read: that is all the back-pressure it needs.
    fn reads(&self) -> bool {
        !matches!(&self.talk.side, Side::Client(client) if client.is_full())
    }

    fn receive(&mut self, bytes: &[u8]) -> Result<(), End> {
        let frames = self.talk.frames;
        let result = self.assembler.feed(bytes, &mut self.talk);
        self.talk.hand_over();
        if self.assembler.held() == 0 {
            self.partial = None;
        } else if self.partial.is_none() || self.talk.frames > frames {
            self.partial = Some(self.talk.hub.clock.now());
        }
        result.and_then(|()| self.charge())
    }

    // The bytes of a frame that has not arrived whole count as held.
    fn charge(&mut self) -> Result<(), End> {
        let Some(budget) = self.talk.budget() else { return Ok(()) };
        budget.give(self.charged);
        self.charged = self.assembler.held();
        budget.take(self.charged);
        if self.charged > 0 && budget.is_over_with(0) {
            return Err(End::Word(goodbye(Refusal::Overloaded, "this node holds too many bytes of requests")));
        }
        Ok(())
    }

    fn deadline(&mut self, reads: bool) -> Option<Time> {
        let (limits, now) = (self.talk.hub.limits, self.talk.hub.clock.now());
        let outbox = &self.talk.outbox;
        self.stuck = outbox.is_stuck().then(|| match self.stuck {
            Some((since, progress)) if progress == outbox.progress() => (since, progress),
            _ => (now, outbox.progress()),
        });
        if !reads {
            self.partial = self.partial.map(|_| now); // It could not go on.
        }
        let hello = matches!(self.talk.side, Side::Unknown).then(|| self.since + limits.hello);
        let frame = self.partial.map(|since| since + limits.frame);
        let unread = self.stuck.map(|(since, _)| since + limits.unread);
        let sweep = (!reads).then(|| now + SWEEP);
        [hello, frame, unread, sweep].into_iter().flatten().min()
    }

    // A deadline has passed: which?
    fn late(&mut self) -> Option<End> {
        let (limits, now) = (self.talk.hub.limits, self.talk.hub.clock.now());
        let counters = &self.talk.hub.counters;
        let passed = |since: Option<Time>, span: Span| since.is_some_and(|since| since + span <= now);
        if matches!(self.talk.side, Side::Unknown) && passed(Some(self.since), limits.hello) {
            counters.hello_late.bump();
            return Some(End::Word(goodbye(Refusal::Malformed, "no Hello came")));
        }
        if passed(self.partial, limits.frame) {
            counters.frames_late.bump();
            return Some(End::Word(goodbye(Refusal::Malformed, "the rest of a frame did not come")));
        }
        if passed(self.stuck.map(|(since, _)| since), limits.unread) {
            match &self.talk.side {
                Side::Client(client) => client.starve(),
                _ => return Some(End::Silent),
            }
        }
        if let Side::Client(client) = &self.talk.side {
            client.sweep(now);
        }
        None
    }

    // Says the last word and gives it a chance to arrive: closing with unread input resets the connection.
    async fn close(mut self, socket: &mut OwnedReadHalf, end: End) {
        let word = match end {
            End::Gone | End::Silent => return,
            End::Word(word) => word,
            End::Frame(error) => self.talk.refuse(error),
        };
        // What it held is given back at once, the last word needs no more than the socket.
        self.assembler = Assembler::default();
        let outbox = self.talk.outbox.clone();
        drop(self);
        outbox.append(LIMIT_HELLO, |out| frame::encode(out, Kind::Goodbye, 0, &word));
        let linger = async {
            outbox.flush();
            while outbox.is_stuck() && !outbox.has_failed() {
                outbox.writable().await;
                outbox.flush();
            }
            outbox.detach();
            let mut thrown = 0;
            let mut sink = [0; 4096];
            while thrown < LINGER_BYTES {
                match tokio::io::AsyncReadExt::read(socket, &mut sink).await {
                    Ok(count) if count > 0 => thrown += count,
                    _ => break,
                }
            }
        };
        let _ = tokio::time::timeout(LINGER, linger).await;
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        if let Some(budget) = self.talk.budget() {
            budget.give(self.charged);
        }
        if let Side::Client(client) = &self.talk.side {
            let hub = &self.talk.hub;
            hub.clients.set(hub.clients.get() - 1);
            hub.counters.clients_open.lower();
            hub.doors.on_client_gone(client.connection);
        }
    }
}

impl FrameSink for Talk {
    type Stop = End;

    fn limit(&self) -> usize {
        match self.side {
            Side::Unknown => LIMIT_HELLO,
            Side::Peer(_) => LIMIT_PEER,
            Side::Client(_) => LIMIT_CLIENT,
        }
    }

    fn on_frame(&mut self, frame: Frame<'_>) -> Result<(), End> {
        self.frames += 1;
        if !matches!(self.side, Side::Unknown) && frame.version != self.version {
            return Err(FrameError::Version.into());
        }
        match (&self.side, frame.kind) {
            (Side::Unknown, Kind::Hello) => self.on_hello(frame),
            (Side::Peer(node), Kind::Paxos | Kind::Txn) => self.on_message(*node, frame),
            (Side::Client(client), Kind::Request) => {
                let client = client.clone();
                self.on_request(&client, frame)
            }
            (_, Kind::Goodbye) => Err(End::Gone),
            (_, kind) => Err(FrameError::Kind(kind as u16).into()),
        }
    }
}

impl Talk {
    fn on_hello(&mut self, frame: Frame<'_>) -> Result<(), End> {
        let hub = self.hub.clone();
        let hello: Hello = from_slice(frame.body).map_err(FrameError::Body)?;
        let (admitted, welcome) = hub.identity.judge(&hello).map_err(|word| {
            hub.counters.hello_refused.bump();
            if hello.caller == Caller::Peer {
                tracing::info!(node = %hub.identity.node, ?hello, why = word.text, "a peer was refused");
            }
            End::Word(word)
        })?;
        if admitted == Admitted::Client && hub.clients.get() >= hub.limits.clients {
            hub.counters.connections_refused.bump();
            return Err(End::Word(goodbye(Refusal::Overloaded, "too many clients")));
        }
        self.version = welcome.version;
        self.outbox.append(LIMIT_HELLO, |out| frame::encode(out, Kind::Welcome, frame.correlation, &welcome));
        match admitted {
            Admitted::Peer(node) => {
                self.side = Side::Peer(node);
                hub.doors.on_peer(node);
            }
            Admitted::Client => {
                let shared = Shared {
                    limits: hub.limits,
                    counters: hub.counters.clone(),
                    requests: hub.requests.clone(),
                    answers: hub.answers.clone(),
                };
                let client = Rc::new(Client::new(hub.next_connection(), self.outbox.clone(), shared));
                hub.clients.set(hub.clients.get() + 1);
                hub.counters.clients_open.bump();
                hub.doors.on_client(client.clone());
                self.side = Side::Client(client);
            }
        }
        self.flush();
        Ok(())
    }

    fn on_message(&mut self, from: NodeId, frame: Frame<'_>) -> Result<(), End> {
        let (to, input) = peer::decode(frame, from, self.hub.identity.node).map_err(FrameError::Body)?;
        let size = frame.body.len();
        match self.messages.iter_mut().find(|(address, ..)| *address == to) {
            Some((_, inputs, bytes)) => {
                inputs.push(input);
                *bytes += size;
            }
            None => self.messages.push((to, vec![input], size)),
        }
        Ok(())
    }

    fn on_request(&mut self, client: &Client, frame: Frame<'_>) -> Result<(), End> {
        let request: Request = from_slice(frame.body).map_err(FrameError::Body)?;
        let now = self.hub.clock.now();
        match client.admit(frame.correlation, &request, frame.body.len(), now) {
            Admission::Admitted => self.requests.push((client.origin(frame.correlation), request)),
            Admission::Overloaded => {}
            Admission::Repeated => return Err(End::Word(repeated())),
        }
        Ok(())
    }

    // Everything that one read brought, one message for each who gets any of it.
    fn hand_over(&mut self) {
        for (to, inputs, bytes) in self.messages.drain(..) {
            self.hub.doors.on_messages(to, inputs, bytes);
        }
        if !self.requests.is_empty() {
            self.hub.doors.on_requests(std::mem::take(&mut self.requests));
        }
        if matches!(self.side, Side::Client(_)) && self.outbox.waiting() > 0 && !self.outbox.is_stuck() {
            self.flush(); // Refusals that were given at once.
        }
    }

    fn flush(&self) {
        match &self.side {
            Side::Client(client) => client.flush(),
            _ => {
                self.outbox.flush();
            }
        }
    }

    fn budget(&self) -> Option<Rc<super::Budget>> {
        match self.side {
            Side::Unknown => None,
            Side::Peer(_) => Some(self.hub.peers.clone()),
            Side::Client(_) => Some(self.hub.requests.clone()),
        }
    }

    fn refuse(&self, error: FrameError) -> Goodbye {
        let counters = &self.hub.counters;
        let (count, refusal) = match error {
            FrameError::TooLarge { .. } => (&counters.frames_too_large, Refusal::TooLarge),
            FrameError::Checksum => (&counters.frames_bad_checksum, Refusal::Malformed),
            _ => (&counters.frames_malformed, Refusal::Malformed),
        };
        count.bump();
        goodbye(refusal, error.to_string())
    }
}

enum Woken {
    Changed,
    Writable,
    Read(io::Result<(usize, Result<(), End>)>),
    Late,
}

async fn until(deadline: Option<tokio::time::Instant>) {
    match deadline {
        Some(at) => tokio::time::sleep_until(at).await,
        None => std::future::pending().await,
    }
}
