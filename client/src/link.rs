//! A node, reached or not: connects on demand, and again with growing pauses.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use drachma_protocol::ids::NodeId;
use drachma_protocol::message::hello::{Hello, Welcome};
use tokio::sync::watch;
use tokio::task::AbortHandle;
use tokio::time::Instant;

use crate::backoff::Backoff;
use crate::connection::{self, Pipe, Trouble};

/// Told when the node can be reached (true) and when it cannot (false).
pub(crate) type OnChange = Box<dyn Fn(bool) + Send + Sync>;

/// The way to one node. Its connection ends with it.
pub(crate) struct Link {
    shared: Arc<Shared>,
    task: Mutex<Option<AbortHandle>>,
}

struct Shared {
    address: String,
    hello: Hello,
    // Who must answer; nothing accepts any node.
    node: Option<NodeId>,
    state: watch::Sender<State>,
    backoff: Mutex<Backoff>,
    on_change: OnChange,
}

enum State {
    // There may be a reason; it is not tried again before then.
    Down(Option<Trouble>, Instant),
    Connecting,
    Up(Arc<Pipe>, Welcome),
}

impl Link {
    /// A way to `address`, not yet tried.
    pub(crate) fn new(address: String, hello: Hello, node: Option<NodeId>, on_change: OnChange) -> Link {
        let state = watch::Sender::new(State::Down(None, Instant::now()));
        let backoff = Mutex::new(Backoff::new(Duration::from_millis(10), Duration::from_millis(500)));
        let shared = Shared { address, hello, node, state, backoff, on_change };
        Link { shared: Arc::new(shared), task: Mutex::new(None) }
    }

    /// Where it leads.
    pub(crate) fn address(&self) -> &str {
        &self.shared.address
    }

    /// The open connection, and who is at its end. If there is none, it is made, unless that failed a moment ago:
    /// then the reason is told at once. With `now` it is tried all the same.
    pub(crate) async fn pipe(&self, now: bool) -> Result<(Arc<Pipe>, Welcome), Trouble> {
        match &*self.shared.state.borrow() {
            State::Up(pipe, welcome) => return Ok((Arc::clone(pipe), welcome.clone())),
            State::Down(Some(trouble), until) if !now && Instant::now() < *until => return Err(trouble.clone()),
            State::Down(..) | State::Connecting => {}
        }
        let mut changes = self.shared.state.subscribe();
        self.start(now);
        let gone = |_| Trouble::Unreachable("the client is closed".to_owned());
        match &*changes.wait_for(|state| !matches!(state, State::Connecting)).await.map_err(gone)? {
            State::Up(pipe, welcome) => Ok((Arc::clone(pipe), welcome.clone())),
            State::Down(Some(trouble), _) => Err(trouble.clone()),
            State::Down(None, _) | State::Connecting => Err(Trouble::Unreachable("not connected".to_owned())),
        }
    }

    /// Begins to connect, if that is not done already and did not fail a moment ago.
    pub(crate) fn poke(&self) {
        self.start(false);
    }

    fn start(&self, now: bool) {
        let started = self.shared.state.send_if_modified(|state| match state {
            State::Down(_, until) if now || Instant::now() >= *until => {
                *state = State::Connecting;
                true
            }
            _ => false,
        });
        if started {
            let task = tokio::spawn(run(Arc::clone(&self.shared))).abort_handle();
            *self.task.lock().unwrap_or_else(PoisonError::into_inner) = Some(task);
        }
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        if let Some(task) = self.task.lock().unwrap_or_else(PoisonError::into_inner).take() {
            task.abort();
        }
    }
}

/// Connects once and serves the connection until it ends.
async fn run(shared: Arc<Shared>) {
    let opened = match connection::open(&shared.address, &shared.hello).await.and_then(|opened| shared.check(opened)) {
        Ok(opened) => opened,
        Err(trouble) => {
            shared.note(&trouble);
            return shared.down(trouble, true);
        }
    };
    tracing::debug!(address = %shared.address, node = %opened.welcome.node, "connected");
    (shared.on_change)(true);
    let welcome = opened.welcome.clone();
    let (pipe, running) = opened.run();
    shared.state.send_replace(State::Up(pipe, welcome));
    // Who waits for an answer asks for another node as soon as he is told: so the change must be known before.
    let (trouble, heard) = running.until_the_end(|trouble| shared.note(trouble)).await;
    shared.down(trouble, !heard);
}

impl Shared {
    fn check(&self, opened: connection::Opened) -> Result<connection::Opened, Trouble> {
        let welcome = &opened.welcome;
        if self.hello.cluster.is_some_and(|cluster| cluster != welcome.cluster) {
            return Err(Trouble::Protocol(format!("{}: is of cluster {}", self.address, welcome.cluster)));
        }
        if self.node.is_some_and(|node| node != welcome.node) {
            return Err(Trouble::Protocol(format!("{}: is {}", self.address, welcome.node)));
        }
        Ok(opened)
    }

    /// A node that is merely slow has been reached.
    fn note(&self, trouble: &Trouble) {
        tracing::debug!(address = %self.address, ?trouble, "not connected");
        if !matches!(trouble, Trouble::Silent(_)) {
            (self.on_change)(false);
        }
    }

    /// After a connection that was of use, the next one is tried at once; else after a pause.
    fn down(&self, trouble: Trouble, pause: bool) {
        let mut backoff = self.backoff.lock().unwrap_or_else(PoisonError::into_inner);
        let until = if pause {
            Instant::now() + backoff.pause()
        } else {
            backoff.reset();
            Instant::now()
        };
        self.state.send_replace(State::Down(Some(trouble), until));
    }
}
