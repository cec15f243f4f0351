//! The wires: connections that others open to this node ([`listener`], [`connection`]), and those that it opens to
//! its peers ([`link`]). It knows frames, Hello, limits and budgets, and no role: whatever is decoded goes through
//! [`Doors`].
//!
//! Everything here is bounded, and the bounds are in [`NodeLimits`]. What comes in is limited by not reading a client
//! with too much unanswered, by refusing requests when the node holds too many, and by dropping peers' messages for a
//! full mailbox. What goes out is limited by dropping frames for a peer whose link is full, and by cutting off a
//! client that does not read. Each of these is counted.

pub(crate) mod client;
pub(crate) mod connection;
pub(crate) mod hello;
pub(crate) mod link;
pub(crate) mod listener;
pub(crate) mod reader;
pub(crate) mod writer;

#[cfg(test)]
mod link_tests;
#[cfg(test)]
mod tests;

use std::cell::Cell;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use drachma_protocol::ids::{NodeId, Origin};
use drachma_protocol::message::client::Request;
use drachma_protocol::role::{Address, Input};

use crate::clock::Clock;
use crate::config::NodeLimits;
use crate::counters::Counters;
pub(crate) use client::Client;
pub(crate) use hello::Identity;
pub(crate) use link::Links;
use reader::Scratch;

/// Prepares the socket of a connection: nothing is held back, and the system finds out when the other side is gone
/// without a word, so that the process need not wake up to ask.
///
/// # Errors
/// If the system refuses; the connection works without.
pub(crate) fn prepare(stream: &tokio::net::TcpStream) -> std::io::Result<()> {
    use rustix::net::sockopt;
    stream.set_nodelay(true)?;
    sockopt::set_socket_keepalive(stream, true)?;
    sockopt::set_tcp_keepidle(stream, Duration::from_secs(60))?;
    sockopt::set_tcp_keepintvl(stream, Duration::from_secs(10))?;
    sockopt::set_tcp_keepcnt(stream, 3)?;
    Ok(())
}

/// Where decoded frames go.
pub(crate) trait Doors {
    /// A peer has said Hello.
    fn on_peer(&self, node: NodeId);
    /// Messages of one read from a peer for one role, `bytes` of them.
    fn on_messages(&self, to: Address, inputs: Vec<Input>, bytes: usize);
    /// A client has said Hello.
    fn on_client(&self, client: Rc<Client>);
    /// Requests of one read from a client, admitted.
    fn on_requests(&self, requests: Vec<(Origin, Request)>);
    /// A client is gone.
    fn on_client_gone(&self, connection: u64);
}

/// An amount of memory that many share.
#[derive(Debug)]
pub(crate) struct Budget {
    used: Cell<usize>,
    limit: usize,
}

impl Budget {
    /// Nothing is used yet.
    pub(crate) fn new(limit: usize) -> Budget {
        Budget { used: Cell::new(0), limit }
    }

    /// Takes so much, even beyond the limit.
    pub(crate) fn take(&self, bytes: usize) {
        self.used.set(self.used.get() + bytes);
    }

    /// Gives so much back.
    pub(crate) fn give(&self, bytes: usize) {
        let left = self.used.get().checked_sub(bytes);
        self.used.set(left.expect("whoever gives back has taken: each amount is kept beside what it was taken for"));
    }

    /// Whether so much more would be too much.
    pub(crate) fn is_over_with(&self, bytes: usize) -> bool {
        self.used.get().saturating_add(bytes) > self.limit
    }

    /// How much is used.
    #[cfg(test)]
    pub(crate) fn used(&self) -> usize {
        self.used.get()
    }
}

/// What all connections that others open share.
pub(crate) struct Hub {
    /// Who this node is, and who may call.
    pub(crate) identity: Identity,
    /// The bounds.
    pub(crate) limits: NodeLimits,
    /// The node's counts.
    pub(crate) counters: Arc<Counters>,
    /// The node's clock.
    pub(crate) clock: Clock,
    /// Where decoded frames go.
    pub(crate) doors: Box<dyn Doors>,
    /// The read buffer of the thread.
    pub(crate) scratch: Scratch,
    /// Bytes of clients' requests, whole or in part, that are held.
    pub(crate) requests: Rc<Budget>,
    /// Bytes of peers' frames that have not arrived whole.
    pub(crate) peers: Rc<Budget>,
    /// Bytes of answers that clients have not read.
    pub(crate) answers: Rc<Budget>,
    /// Connections that are open.
    pub(crate) open: Cell<usize>,
    /// Those of them that are clients.
    pub(crate) clients: Cell<usize>,
    /// Counts connections; never used twice.
    pub(crate) last: Cell<u64>,
}

impl Hub {
    /// Nobody has called yet.
    pub(crate) fn new(
        identity: Identity,
        limits: NodeLimits,
        counters: Arc<Counters>,
        clock: Clock,
        doors: Box<dyn Doors>,
    ) -> Hub {
        Hub {
            identity,
            limits,
            counters,
            clock,
            doors,
            scratch: Scratch::new(),
            requests: Rc::new(Budget::new(limits.request_bytes)),
            peers: Rc::new(Budget::new(limits.peer_bytes)),
            answers: Rc::new(Budget::new(limits.answer_bytes)),
            open: Cell::new(0),
            clients: Cell::new(0),
            last: Cell::new(0),
        }
    }

    fn next_connection(&self) -> u64 {
        self.last.set(self.last.get() + 1);
        self.last.get()
    }
}
