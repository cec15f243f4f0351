//! The retry loop: one request to one group, sent until there is an answer or the deadline passes.
//!
//! A try that is refused, or whose connection is lost, is followed at once by another one to the next node that has
//! not been asked in this round (the leader that was hinted at first); when all have been asked, a pause begins the
//! next round. A try that is merely not answered is not given up: after a while the request is sent again, and
//! whichever answer comes first is taken. That is safe because every request is either a read or executed once
//! however often it arrives.

use std::collections::BTreeSet;
use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use drachma_protocol::ids::{GroupId, NodeId};
use drachma_protocol::message::client::{Call, Refused, Request, Response, Why};
use drachma_protocol::time::Span;
use tokio::time::{Instant, sleep_until, timeout_at};

use crate::Status;
use crate::backoff::Backoff;
use crate::connection::{Answer, SendError};
use crate::router::Router;

/// A request that has not been answered for so long is sent again; twice as long after that, and so on.
const PATIENCE: Duration = Duration::from_millis(500);
/// As long as that at most.
const PATIENCE_LIMIT: Duration = Duration::from_secs(4);
/// What a request without a deadline tells the node: it is tried again after that.
const NO_DEADLINE: Duration = Duration::from_secs(10);
/// A node's wish to be left alone for longer is not followed.
const LONGEST_WISH: Duration = Duration::from_secs(1);
/// Tries that are waited for at once.
const OUTSTANDING: usize = 4;

/// When a request that begins now must be over; nothing if it may take for ever.
pub(crate) fn deadline_in(duration: Option<Duration>) -> Option<Instant> {
    Instant::now().checked_add(duration?)
}

/// What `future` yields; nothing if the deadline passes before.
pub(crate) async fn within<T>(deadline: Option<Instant>, future: impl Future<Output = T>) -> Option<T> {
    match deadline {
        Some(deadline) => timeout_at(deadline, future).await.ok(),
        None => Some(future.await),
    }
}

/// What the caller of a [`Pursuit`] has to deal with.
pub(crate) enum Heard {
    /// An answer, though perhaps not the final one, or not of the right kind.
    Answer(Response),
    /// `Moved`, `UnknownSession`, `SessionWindow` or `Malformed`; the others are dealt with here.
    Refused(Why),
    /// The deadline has passed.
    Over,
}

/// One request on its way to an answer.
pub(crate) struct Pursuit<'a> {
    router: &'a Router,
    group: GroupId,
    // Every group that must be reachable for an answer.
    needed: BTreeSet<GroupId>,
    deadline: Option<Instant>,
    attempts: u32,
    outstanding: Vec<Try>,
    // When the next try is due.
    due: Instant,
    patience: Duration,
    // The nodes asked in this round.
    asked: Vec<NodeId>,
    backoff: Backoff,
    // Who answered last.
    last: Option<NodeId>,
}

struct Try {
    number: u32,
    node: NodeId,
    sent: Instant,
    // An answer to it shows that the node leads; a lookup is answered by any replica.
    for_leader: bool,
    answer: Answer,
}

enum Event {
    Over,
    Due,
    Ended(Box<(Try, Option<Response>)>),
}

impl<'a> Pursuit<'a> {
    /// A request to `group` that needs all of `needed`.
    pub(crate) fn new(
        router: &'a Router,
        group: GroupId,
        needed: BTreeSet<GroupId>,
        deadline: Option<Instant>,
    ) -> Pursuit<'a> {
        // What is said at the deadline must not rest on what was so long ago.
        router.poke_lost(&needed);
        Pursuit {
            router,
            group,
            needed,
            deadline,
            attempts: 0,
            outstanding: Vec::new(),
            due: Instant::now(),
            patience: PATIENCE,
            asked: Vec::new(),
            backoff: Backoff::of_requests(),
            last: None,
        }
    }

    /// How often it was sent.
    pub(crate) fn attempts(&self) -> u32 {
        self.attempts
    }

    /// The node whose answer or refusal came last.
    pub(crate) fn last(&self) -> Option<NodeId> {
        self.last
    }

    /// The next answer to `call`, which is made anew for each try from the time that remains.
    pub(crate) async fn answer(&mut self, call: &(impl Fn(Span) -> Call + Sync)) -> Heard {
        loop {
            match self.event().await {
                Event::Over => return Heard::Over,
                Event::Due => {
                    self.note_silence();
                    self.send(call).await;
                }
                Event::Ended(ended) => match *ended {
                    (ended, None) => {
                        self.router.redirect(self.group, ended.node, None, false);
                        self.failed(Some(ended.number), None);
                    }
                    (ended, Some(Response::Refused(refused))) => {
                        if let Some(why) = self.refused(&ended, &refused) {
                            return Heard::Refused(why);
                        }
                    }
                    (ended, Some(response)) => {
                        if ended.for_leader {
                            self.router.confirm(self.group, ended.node);
                        }
                        self.last = Some(ended.node);
                        return Heard::Answer(response);
                    }
                },
            }
        }
    }

    /// The answer was not final: try again after a pause, a short one if there was `progress`.
    pub(crate) fn again(&mut self, progress: bool) {
        if progress {
            self.backoff.reset();
            self.patience = PATIENCE;
        }
        // What else may come is answered to a question that is no longer asked.
        self.outstanding.clear();
        self.asked.clear();
        self.due = Instant::now() + self.backoff.pause();
    }

    /// What to say at the deadline if nothing was final.
    pub(crate) fn status(&self) -> Status {
        status(self.router, &self.needed)
    }

    /// The first of: an answer or a loss, the deadline, the time of the next try.
    async fn event(&mut self) -> Event {
        let now = Instant::now();
        let over = self.deadline.is_some_and(|deadline| deadline <= now);
        if self.outstanding.is_empty() && !over && self.due <= now {
            return Event::Due;
        }
        let wake = self.deadline.map_or(self.due, |deadline| deadline.min(self.due));
        let outstanding = &mut self.outstanding;
        tokio::select! {
            biased;
            ended = poll_fn(|context| poll_tries(outstanding, context)) => Event::Ended(Box::new(ended)),
            () = sleep_until(wake) => match self.deadline {
                Some(deadline) if deadline <= Instant::now() => Event::Over,
                _ => Event::Due,
            },
        }
    }

    async fn send(&mut self, call: &(impl Fn(Span) -> Call + Sync)) {
        let Some(node) = self.router.target(self.group) else { return self.failed(None, None) };
        let Some(link) = self.router.link(node) else { return self.failed(None, None) };
        self.asked.push(node);
        let sent = Instant::now();
        let patience = sent + self.patience;
        let until = self.deadline.map_or(patience, |deadline| deadline.min(patience));
        let request = Request { group: self.group, call: call(self.remaining()) };
        let sending = async {
            match link.pipe(false).await {
                Ok((pipe, _)) => pipe.send(&request).await.map_err(Some),
                Err(_) => Err(None),
            }
        };
        match timeout_at(until, sending).await {
            Ok(Ok(answer)) => {
                self.attempts = self.attempts.saturating_add(1);
                if self.outstanding.len() == OUTSTANDING {
                    self.outstanding.remove(0);
                }
                let for_leader = !matches!(request.call, Call::Lookup(_));
                self.outstanding.push(Try { number: self.attempts, node, sent, for_leader, answer });
                self.due = patience;
            }
            Ok(Err(error)) => {
                if error == Some(SendError::TooLarge) {
                    tracing::error!(group = %self.group, "a request over the limit of a frame");
                }
                self.router.redirect(self.group, node, None, false);
                self.failed(None, None);
            }
            Err(_) => {
                self.router.silent(self.group, node, sent);
                self.failed(None, None);
            }
        }
    }

    /// The last try has not been answered in time.
    fn note_silence(&mut self) {
        let Some(last) = self.outstanding.last() else { return };
        self.router.silent(self.group, last.node, last.sent);
        last.answer.pipe().suspect();
        self.router.poke(&self.needed);
        self.patience = (self.patience * 2).min(PATIENCE_LIMIT);
    }

    /// Follows the refusal, or returns why if that is the caller's to do.
    fn refused(&mut self, ended: &Try, refused: &Refused) -> Option<Why> {
        tracing::trace!(group = %self.group, node = %ended.node, why = ?refused.why, "refused");
        self.last = Some(ended.node);
        let wish = Some(Duration::from_micros(refused.after.0));
        match refused.why {
            Why::NotLeader | Why::NoQuorum | Why::WrongNode | Why::Lagging => {
                let no_quorum = refused.why == Why::NoQuorum;
                self.router.redirect(self.group, ended.node, refused.leader, no_quorum);
                self.failed(Some(ended.number), wish.filter(|wish| !wish.is_zero()));
                None
            }
            Why::Overloaded | Why::Expired => {
                // The same node may take it later; the others would only send us back.
                self.failed(Some(ended.number), wish);
                None
            }
            Why::Moved | Why::UnknownSession | Why::SessionWindow | Why::Malformed | Why::Level => Some(refused.why),
        }
    }

    /// A try has come to nothing. Only the last one decides when the next is due. With a `wish` there is a pause at
    /// once, at least so long.
    fn failed(&mut self, number: Option<u32>, wish: Option<Duration>) {
        if number.is_some_and(|number| number != self.attempts) {
            return;
        }
        self.router.poke(&self.needed);
        let next = self.router.target(self.group);
        let now = Instant::now();
        if wish.is_none() && next.is_some_and(|node| !self.asked.contains(&node)) {
            self.due = now;
            return;
        }
        self.asked.clear();
        self.due = now + self.backoff.pause().max(wish.unwrap_or_default().min(LONGEST_WISH));
    }

    /// How long the node may take.
    fn remaining(&self) -> Span {
        let remaining = self.deadline.map_or(NO_DEADLINE, |deadline| deadline - Instant::now());
        Span(u64::try_from(remaining.as_micros()).unwrap_or(u64::MAX).max(1))
    }
}

/// What to say of something that needs `groups`, of which nothing final is known.
pub(crate) fn status<'g>(router: &Router, groups: impl IntoIterator<Item = &'g GroupId>) -> Status {
    if groups.into_iter().any(|group| router.unavailable(*group)) { Status::Unavailable } else { Status::Unknown }
}

/// The first try that has ended; the latest is asked first.
fn poll_tries(tries: &mut Vec<Try>, context: &mut Context<'_>) -> Poll<(Try, Option<Response>)> {
    for index in (0..tries.len()).rev() {
        if let Poll::Ready(response) = Pin::new(&mut tries[index].answer).poll(context) {
            return Poll::Ready((tries.remove(index), response));
        }
    }
    Poll::Pending
}
