//! Bytes that wait for a socket.
//!
//! Frames are encoded straight into an [`Outbox`]; at the end of a handler run it is flushed: written to the socket
//! there and then, in one call. Only what the socket does not take waits for the connection's task. Whoever fills an
//! outbox checks its budget first: an outbox itself never waits and never refuses.

use std::cell::RefCell;
use std::io;

use tokio::net::tcp::OwnedWriteHalf;
use tokio::sync::Notify;

/// The outgoing side of a connection; shared by those that fill it and the task that owns the connection.
pub(crate) struct Outbox {
    state: RefCell<State>,
    changed: Notify,
    // Memory kept while nothing waits.
    keep: usize,
}

struct State {
    socket: Option<std::rc::Rc<OwnedWriteHalf>>,
    // `pending[written..]` waits.
    pending: Vec<u8>,
    written: usize,
    // The socket took less than there was: its task waits until it takes more.
    stuck: bool,
    // How often bytes were taken: to see that none are.
    progress: u64,
    failed: bool,
}

impl Outbox {
    /// Without a socket; `keep` bytes of memory are kept while nothing waits.
    pub(crate) fn new(keep: usize) -> Outbox {
        let state = State { socket: None, pending: Vec::new(), written: 0, stuck: false, progress: 0, failed: false };
        Outbox { state: RefCell::new(state), changed: Notify::new(), keep }
    }

    /// From now on bytes go here; what waited is lost.
    pub(crate) fn attach(&self, socket: OwnedWriteHalf) {
        let mut state = self.state.borrow_mut();
        state.discard();
        state.socket = Some(std::rc::Rc::new(socket));
        state.failed = false;
    }

    /// The socket is gone, and what waited for it.
    pub(crate) fn detach(&self) {
        let mut state = self.state.borrow_mut();
        state.discard();
        state.socket = None;
    }

    /// Whether there is a socket that has not failed.
    pub(crate) fn is_attached(&self) -> bool {
        let state = self.state.borrow();
        state.socket.is_some() && !state.failed
    }

    /// How many bytes wait.
    pub(crate) fn waiting(&self) -> usize {
        let state = self.state.borrow();
        state.pending.len() - state.written
    }

    /// Appends what `fill` writes, unless it is more than `most` bytes; returns how much it was.
    pub(crate) fn append(&self, most: usize, fill: impl FnOnce(&mut Vec<u8>)) -> usize {
        let mut state = self.state.borrow_mut();
        let start = state.pending.len();
        fill(&mut state.pending);
        let added = state.pending.len() - start;
        if added > most {
            state.pending.truncate(start);
        }
        added
    }

    /// Writes what the socket takes now; the connection's task does the rest. Returns how many bytes it took.
    pub(crate) fn flush(&self) -> usize {
        let mut state = self.state.borrow_mut();
        let Some(socket) = state.socket.clone() else { return 0 };
        let before = state.written;
        let mut taken = 0;
        while !state.failed && state.written < state.pending.len() {
            match socket.try_write(&state.pending[state.written..]) {
                Ok(count) => state.written += count,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(_) => state.failed = true,
            }
        }
        taken += state.written - before;
        state.progress += u64::from(taken > 0);
        let was_stuck = state.stuck;
        state.stuck = state.written < state.pending.len();
        state.tidy(self.keep);
        if state.failed || (state.stuck && !was_stuck) {
            self.changed.notify_one();
        }
        taken
    }

    /// Whether the socket is full.
    pub(crate) fn is_stuck(&self) -> bool {
        self.state.borrow().stuck
    }

    /// Whether the socket has failed.
    pub(crate) fn has_failed(&self) -> bool {
        self.state.borrow().failed
    }

    /// Changes whenever the socket has taken something.
    pub(crate) fn progress(&self) -> u64 {
        self.state.borrow().progress
    }

    /// Waits until the socket may take more.
    pub(crate) async fn writable(&self) {
        let socket = self.state.borrow().socket.clone();
        match socket {
            // An error shows when something is written.
            Some(socket) => drop(socket.writable().await),
            None => std::future::pending().await,
        }
    }

    /// Waits until the connection's task has something to look at.
    pub(crate) async fn changed(&self) {
        self.changed.notified().await;
    }

    /// Makes the connection's task look.
    pub(crate) fn nudge(&self) {
        self.changed.notify_one();
    }
}

impl State {
    fn discard(&mut self) {
        self.pending = Vec::new();
        self.written = 0;
        self.stuck = false;
    }

    fn tidy(&mut self, keep: usize) {
        if self.written == self.pending.len() {
            self.pending.clear();
            self.written = 0;
            if self.pending.capacity() > keep {
                self.pending = Vec::new();
            }
        } else if self.written > self.pending.len() / 2 {
            self.pending.drain(..self.written);
            self.written = 0;
        }
    }
}
