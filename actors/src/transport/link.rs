//! Connections that this node opens to its peers: one per peer and thread, made again whenever it breaks.
//!
//! Messages only go out on a link; what a peer has to say comes on the link that it opens itself. A frame for a link
//! that is down or full is dropped and counted: the protocols send again, and nothing here ever waits. A link tells
//! when it goes up and down; a connection that breaks is the first hint that the peer's process has died.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use drachma_protocol::ids::NodeId;
use drachma_protocol::message::Message;
use drachma_protocol::message::hello::{Goodbye, Welcome};
use drachma_protocol::rng::Rng;
use drachma_protocol::role::Address;
use drachma_protocol::wire::codec::from_slice;
use drachma_protocol::wire::frame::{self, Frame, FrameError, Kind, LIMIT_HELLO, LIMIT_PEER};
use drachma_protocol::wire::peer;
use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;
use tokio::net::tcp::OwnedReadHalf;
use tokio::sync::Notify;

use super::hello::Identity;
use super::reader::{Assembler, FrameSink};
use super::writer::Outbox;
use crate::counters::Counters;

/// Memory that an idle link keeps.
const KEEP: usize = 64 * 1024;
/// The pauses between attempts.
const SHORTEST_PAUSE: Duration = Duration::from_millis(20);
const LONGEST_PAUSE: Duration = Duration::from_millis(500);
/// How long connecting and Hello may take.
const PATIENCE: Duration = Duration::from_secs(2);
/// A link that lived this long was a good one: the next attempt does not wait.
const GOOD: Duration = Duration::from_secs(1);
/// Unacknowledged bytes break the connection after this long, in milliseconds: the system alone would go on for a
/// quarter of an hour, and after a partition of a minute wait another minute.
const SILENCE_MILLIS: u32 = 5_000;

/// The links of one thread.
pub(crate) struct Links {
    budget: usize,
    peers: BTreeMap<NodeId, Peer>,
    // Those with something to flush.
    dirty: RefCell<Vec<NodeId>>,
    counters: Arc<Counters>,
}

struct Peer {
    address: String,
    outbox: Rc<Outbox>,
    called: Arc<Notify>,
}

impl Links {
    /// Links to `peers`, all down; the own node is left out. `budget`: bytes that may wait for one of them.
    pub(crate) fn new(own: NodeId, peers: &[(NodeId, String)], budget: usize, counters: Arc<Counters>) -> Links {
        let peer = |address: &String| Peer {
            address: address.clone(),
            outbox: Rc::new(Outbox::new(KEEP)),
            called: Arc::new(Notify::new()),
        };
        let others = peers.iter().filter(|(node, _)| *node != own);
        let peers = others.map(|(node, address)| (*node, peer(address))).collect();
        Links { budget, peers, dirty: RefCell::default(), counters }
    }

    /// Appends a message to what waits for its node.
    pub(crate) fn send(&self, from: Address, to: Address, message: &Message) {
        let Some(peer) = self.peers.get(&to.node) else {
            return self.counters.link_down_dropped.bump();
        };
        if !peer.outbox.is_attached() {
            return self.counters.link_down_dropped.bump();
        }
        if peer.outbox.waiting() >= self.budget {
            return self.counters.link_full_dropped.bump();
        }
        let added = peer.outbox.append(LIMIT_PEER, |out| peer::encode(out, from, to, message));
        if added > LIMIT_PEER {
            self.counters.link_oversized_dropped.bump();
            tracing::error!(node = %from.node, group = %from.group, to = %to.node, bytes = added, "oversized message");
            return;
        }
        let mut dirty = self.dirty.borrow_mut();
        if !dirty.contains(&to.node) {
            dirty.push(to.node);
        }
    }

    /// Writes what waits, as far as the sockets take it.
    pub(crate) fn flush(&self) {
        for node in self.dirty.borrow_mut().drain(..) {
            if let Some(peer) = self.peers.get(&node) {
                peer.outbox.flush();
            }
        }
    }

    /// Rung when a peer calls: then it can be called, too, and a link that waits need not.
    pub(crate) fn bells(&self) -> Vec<(NodeId, Arc<Notify>)> {
        self.peers.iter().map(|(node, peer)| (*node, peer.called.clone())).collect()
    }

    /// Starts to connect; `tell` hears when a link goes up or down.
    pub(crate) fn start(&self, identity: &Rc<Identity>, seed: u64, tell: &Rc<dyn Fn(NodeId, bool)>) {
        let mut rng = Rng::new(seed);
        for (node, peer) in &self.peers {
            let link = Link {
                identity: identity.clone(),
                node: *node,
                address: peer.address.clone(),
                outbox: peer.outbox.clone(),
                called: peer.called.clone(),
                tell: tell.clone(),
                counters: self.counters.clone(),
                rng: rng.fork(),
                up: None,
            };
            actix_rt::spawn(link.run());
        }
    }
}

struct Link {
    identity: Rc<Identity>,
    node: NodeId,
    address: String,
    outbox: Rc<Outbox>,
    called: Arc<Notify>,
    tell: Rc<dyn Fn(NodeId, bool)>,
    counters: Arc<Counters>,
    rng: Rng,
    // What was told last.
    up: Option<bool>,
}

/// Why a link is down.
#[derive(Debug, thiserror::Error)]
enum LinkError {
    #[error("{0}")]
    Io(#[from] std::io::Error),
    #[error("no answer")]
    Late(#[from] tokio::time::error::Elapsed),
    #[error("bad frame: {0}")]
    Frame(#[from] FrameError),
    #[error("refused: {0}")]
    Goodbye(String),
    #[error("the wrong node: {0}")]
    Wrong(String),
    #[error("closed by the peer")]
    Closed,
}

impl Link {
    async fn run(mut self) {
        let mut pause = SHORTEST_PAUSE;
        loop {
            let begun = Instant::now();
            let error = self.live().await;
            self.outbox.detach();
            if self.up == Some(true) {
                self.counters.links_lost.bump();
            }
            self.report(false, Some(&error));
            if begun.elapsed() >= GOOD {
                pause = SHORTEST_PAUSE;
            }
            // Between half and the whole of it: nodes that lost each other at once do not come back at once.
            let half = u64::try_from(pause.as_micros() / 2).unwrap_or(u64::MAX);
            let wait = Duration::from_micros(half + self.rng.below(half + 1));
            let rung = tokio::time::timeout(wait, self.called.notified()).await.is_ok();
            pause = if rung { SHORTEST_PAUSE } else { (pause * 2).min(LONGEST_PAUSE) };
            if rung {
                // It may have been rung by a caller that goes away again: never faster than this.
                tokio::time::sleep(SHORTEST_PAUSE / 4).await;
            }
        }
    }

    // Connects and stays until the connection ends.
    async fn live(&mut self) -> LinkError {
        match self.connect().await {
            Ok(mut socket) => {
                self.counters.links_made.bump();
                self.report(true, None);
                self.serve(&mut socket).await
            }
            Err(error) => error,
        }
    }

    async fn connect(&self) -> Result<OwnedReadHalf, LinkError> {
        let hello = async {
            let stream = TcpStream::connect(&self.address).await?;
            super::prepare(&stream)?;
            rustix::net::sockopt::set_tcp_user_timeout(&stream, SILENCE_MILLIS).map_err(std::io::Error::from)?;
            let (mut socket, mut write) = stream.into_split();
            let mut out = Vec::new();
            frame::encode(&mut out, Kind::Hello, 0, &self.identity.hello());
            tokio::io::AsyncWriteExt::write_all(&mut write, &out).await?;
            let mut listen = Listen { welcome: None };
            let mut assembler = Assembler::default();
            while listen.welcome.is_none() {
                hear(&mut socket, &mut assembler, &mut listen).await?;
            }
            Ok::<_, LinkError>((socket, write, listen.welcome))
        };
        let (socket, write, welcome) = tokio::time::timeout(PATIENCE, hello).await??;
        let welcome = welcome.ok_or(LinkError::Closed)?;
        self.identity.judge_welcome(self.node, &welcome).map_err(LinkError::Wrong)?;
        self.outbox.attach(write);
        Ok(socket)
    }

    // A peer says nothing on this connection any more but goodbye; that it ends is what is waited for.
    async fn serve(&self, socket: &mut OwnedReadHalf) -> LinkError {
        let mut listen = Listen { welcome: None };
        let mut assembler = Assembler::default();
        loop {
            tokio::select! {
                biased;
                () = self.outbox.changed() => {}
                () = self.outbox.writable(), if self.outbox.is_stuck() => {
                    self.outbox.flush();
                }
                heard = hear(socket, &mut assembler, &mut listen) => match heard {
                    Ok(()) if listen.welcome.is_some() => return FrameError::Kind(Kind::Welcome as u16).into(),
                    Ok(()) => {}
                    Err(error) => return error,
                },
            }
            if self.outbox.has_failed() {
                return LinkError::Closed;
            }
        }
    }

    fn report(&mut self, up: bool, error: Option<&LinkError>) {
        if self.up == Some(up) {
            return;
        }
        self.up = Some(up);
        let why = error.map(ToString::to_string).unwrap_or_default();
        tracing::info!(node = %self.identity.node, peer = %self.node, up, why, "link");
        (self.tell)(self.node, up);
    }
}

/// What a link hears.
struct Listen {
    welcome: Option<Welcome>,
}

impl FrameSink for Listen {
    type Stop = LinkError;

    fn limit(&self) -> usize {
        LIMIT_HELLO
    }

    fn on_frame(&mut self, frame: Frame<'_>) -> Result<(), LinkError> {
        match frame.kind {
            Kind::Welcome if self.welcome.is_none() => {
                self.welcome = Some(from_slice(frame.body).map_err(FrameError::Body)?);
                Ok(())
            }
            Kind::Goodbye => {
                let goodbye: Goodbye = from_slice(frame.body).map_err(FrameError::Body)?;
                Err(LinkError::Goodbye(format!("{:?}: {}", goodbye.refusal, goodbye.text)))
            }
            kind => Err(FrameError::Kind(kind as u16).into()),
        }
    }
}

// Reads once. Cancel safe: what is read is taken in before anything else is awaited.
async fn hear(socket: &mut OwnedReadHalf, assembler: &mut Assembler, listen: &mut Listen) -> Result<(), LinkError> {
    let mut buffer = [0; 512];
    match socket.read(&mut buffer).await? {
        0 => Err(LinkError::Closed),
        count => assembler.feed(&buffer[..count], listen),
    }
}
