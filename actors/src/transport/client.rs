//! A client's connection as the gateway sees it: what it waits for, and what it has not read.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::rc::Rc;
use std::sync::Arc;

use drachma_protocol::ids::{Origin, TxnId};
use drachma_protocol::ledger::model::{Account, BATCH_LIMIT, Outcome, Posted};
use drachma_protocol::ledger::operations::{Operation, REPLIES_LIMIT, VALUE_LIMIT};
use drachma_protocol::message::client::{Call, QueryCall, Request, Response, Why};
use drachma_protocol::message::hello::{Goodbye, Refusal};
use drachma_protocol::message::level::ReplicaReadCall;
use drachma_protocol::message::operator::{OperatorCall, PendingRow};
use drachma_protocol::time::{Span, Time};
use drachma_protocol::wire::frame::{self, Kind, LIMIT_CLIENT};

use super::Budget;
use super::hello::goodbye;
use super::writer::Outbox;
use crate::config::NodeLimits;
use crate::counters::Counters;
use crate::performance::RequestKind;

/// Memory that an idle client's outbox keeps.
const KEEP: usize = 1024;
/// When a request is given up whose answer never came, so that a lost one does not hold its room for ever. Longer
/// than any client waits.
const GIVEN_UP: Span = Span::from_millis(600_000);
/// The rows of a page of what is pending, at most.
const PENDING: usize = 1_000;
/// How often it is looked for such requests, at most.
const SWEEP: Span = Span::from_millis(1_000);

/// A request that waits for its answer.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Waiting {
    /// What it asks.
    pub(crate) kind: RequestKind,
    /// When it came.
    pub(crate) since: Time,
    bytes: usize,
}

/// What the connections of all clients share.
#[derive(Clone)]
pub(crate) struct Shared {
    /// The bounds.
    pub(crate) limits: NodeLimits,
    /// The node's counts.
    pub(crate) counters: Arc<Counters>,
    /// See [`Hub::requests`](super::Hub).
    pub(crate) requests: Rc<Budget>,
    /// See [`Hub::answers`](super::Hub).
    pub(crate) answers: Rc<Budget>,
}

/// What a request holds until it is answered, beyond its own bytes: ids that take more memory decoded than encoded, and
/// the rows of an answer that is large however small the question is.
fn room(call: &Call) -> usize {
    let rows = |limit: u32| (limit as usize).min(BATCH_LIMIT);
    match call {
        Call::Operator(OperatorCall::Keys(_)) => REPLIES_LIMIT,
        Call::Query(QueryCall { operations, .. }) | Call::ReplicaRead(ReplicaReadCall { operations, .. }) => {
            operations.iter().map(most_of).sum::<usize>().min(REPLIES_LIMIT)
        }
        Call::Operator(OperatorCall::Accounts(call)) => rows(call.limit) * size_of::<Account>(),
        Call::Operator(OperatorCall::Posted(call)) => rows(call.limit) * size_of::<Posted>(),
        Call::Operator(OperatorCall::Pending(_)) => PENDING * size_of::<PendingRow>(),
        Call::Operator(OperatorCall::Outcomes(call)) => call.ids.len() * size_of::<(TxnId, Option<Outcome>)>(),
        _ => 0,
    }
}

/// The most that an operation of a query can find.
fn most_of(operation: &Operation) -> usize {
    match operation {
        Operation::Get(_) => VALUE_LIMIT,
        Operation::Scan(_) => REPLIES_LIMIT / 2,
        _ => size_of::<Account>(),
    }
}

/// A connected client.
pub(crate) struct Client {
    /// Which connection it is.
    pub(crate) connection: u64,
    outbox: Rc<Outbox>,
    shared: Shared,
    waiting: RefCell<HashMap<u64, Waiting>>,
    // Bytes of the requests in `waiting`.
    bytes: Cell<usize>,
    // Bytes of answers that were charged to the node's budget.
    charged: Cell<usize>,
    swept: Cell<Time>,
    // The connection ends; with a word, if there is one to say.
    end: RefCell<Option<Option<Goodbye>>>,
}

/// What became of a request that was read.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Admission {
    /// It waits for its answer now.
    Admitted,
    /// It was answered: the node holds too much.
    Overloaded,
    /// Another request with this correlation id waits.
    Repeated,
}

impl Client {
    /// A client that has asked nothing yet.
    pub(crate) fn new(connection: u64, outbox: Rc<Outbox>, shared: Shared) -> Client {
        Client {
            connection,
            outbox,
            shared,
            waiting: RefCell::default(),
            bytes: Cell::new(0),
            charged: Cell::new(0),
            swept: Cell::new(Time(0)),
            end: RefCell::default(),
        }
    }

    /// An outbox for a client.
    pub(crate) fn outbox() -> Outbox {
        Outbox::new(KEEP)
    }

    /// Takes note of a request of `bytes` bytes.
    pub(crate) fn admit(&self, correlation: u64, request: &Request, bytes: usize, now: Time) -> Admission {
        if self.waiting.borrow().contains_key(&correlation) {
            return Admission::Repeated;
        }
        let room = room(&request.call);
        let bytes = bytes + room;
        // Pages come in turn: those of one read that the client has no room for must not all be made at once.
        let too_many = room > 0 && self.is_full();
        if too_many || self.shared.requests.is_over_with(bytes) {
            self.sweep(now);
            if too_many || self.shared.requests.is_over_with(bytes) {
                self.shared.counters.requests_overloaded.bump();
                self.say(correlation, &Response::refused(Why::Overloaded));
                return Admission::Overloaded;
            }
        }
        let kind = RequestKind::of(&request.call);
        self.waiting.borrow_mut().insert(correlation, Waiting { kind, since: now, bytes });
        self.shared.requests.take(bytes);
        self.bytes.set(self.bytes.get() + bytes);
        self.shared.counters.requests.bump();
        Admission::Admitted
    }

    /// Whether so much is unanswered that no more is read.
    pub(crate) fn is_full(&self) -> bool {
        let limits = &self.shared.limits;
        self.bytes.get() >= limits.request_bytes_per_client || self.waiting.borrow().len() >= limits.requests_per_client
    }

    /// Gives a request its answer. Returns the request, unless nobody waits for it.
    pub(crate) fn answer(&self, correlation: u64, response: &Response) -> Option<Waiting> {
        let was_full = self.is_full();
        let waiting = self.waiting.borrow_mut().remove(&correlation)?;
        self.release(waiting.bytes);
        self.shrink();
        self.shared.counters.answers.bump();
        self.say(correlation, response);
        if was_full && !self.is_full() {
            self.outbox.nudge();
        }
        Some(waiting)
    }

    /// Writes what waits, as far as the socket takes it.
    pub(crate) fn flush(&self) {
        self.outbox.flush();
        self.settle();
    }

    /// Gives back what the socket has taken since.
    pub(crate) fn settle(&self) {
        let waiting = self.outbox.waiting();
        if let Some(read) = self.charged.get().checked_sub(waiting) {
            self.shared.answers.give(read);
            self.charged.set(waiting);
        }
    }

    /// Ends the connection, with a word.
    pub(crate) fn dismiss(&self, word: Goodbye) {
        self.end.borrow_mut().get_or_insert(Some(word));
        self.outbox.nudge();
    }

    /// Whether and how the connection is to end.
    pub(crate) fn ends(&self) -> Option<Option<Goodbye>> {
        self.end.borrow().clone()
    }

    /// Gives up requests whose answers never came.
    pub(crate) fn sweep(&self, now: Time) {
        if now.since(self.swept.get()) < SWEEP {
            return;
        }
        self.swept.set(now);
        let mut freed = 0;
        self.waiting.borrow_mut().retain(|_, waiting| {
            let keep = now.since(waiting.since) < GIVEN_UP;
            freed += if keep { 0 } else { waiting.bytes };
            keep
        });
        self.release(freed);
    }

    fn release(&self, bytes: usize) {
        self.shared.requests.give(bytes);
        self.bytes.set(self.bytes.get() - bytes);
    }

    // A burst of requests must not leave its table behind.
    fn shrink(&self) {
        let mut waiting = self.waiting.borrow_mut();
        if waiting.is_empty() && waiting.capacity() > 4_096 {
            *waiting = HashMap::new();
        }
    }

    // Appends an answer, unless the client is too far behind: then it is cut off.
    fn say(&self, correlation: u64, response: &Response) {
        if self.end.borrow().is_some() {
            return;
        }
        self.settle();
        let limits = &self.shared.limits;
        let before = self.outbox.waiting();
        if before > limits.answer_bytes_per_client {
            return self.cut_off();
        }
        let encode = |out: &mut Vec<u8>| frame::encode(out, Kind::Response, correlation, response);
        let mut added = self.outbox.append(LIMIT_CLIENT, encode);
        if added > LIMIT_CLIENT {
            self.shared.counters.answers_oversized.bump();
            tracing::error!(connection = self.connection, bytes = added, "an answer is larger than a frame");
            let refused = Response::refused(Why::Malformed);
            added = self.outbox.append(LIMIT_CLIENT, |out| frame::encode(out, Kind::Response, correlation, &refused));
        }
        if self.shared.answers.is_over_with(added) && before + added > limits.answer_bytes_reserved {
            return self.cut_off();
        }
        self.shared.answers.take(added);
        self.charged.set(self.charged.get() + added);
    }

    fn cut_off(&self) {
        self.shared.counters.clients_cut_off.bump();
        tracing::info!(connection = self.connection, "a client does not read its answers: cut off");
        // No word: it would not be read either.
        self.end.borrow_mut().get_or_insert(None);
        self.outbox.detach();
        self.settle();
        self.outbox.nudge();
    }

    /// The socket took nothing for too long.
    pub(crate) fn starve(&self) {
        if self.end.borrow().is_none() {
            self.cut_off();
        }
    }

    /// Where an answer to a request of this client goes.
    pub(crate) fn origin(&self, correlation: u64) -> Origin {
        Origin { connection: self.connection, correlation }
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        self.shared.requests.give(self.bytes.get());
        self.shared.answers.give(self.charged.get());
    }
}

/// What a client is told when its correlation ids are not its own.
pub(crate) fn repeated() -> Goodbye {
    goodbye(Refusal::Malformed, "a request with this correlation id waits for its answer")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{read, sized};
    use drachma_protocol::ids::GroupId;
    use drachma_protocol::message::operator::AccountsCall;

    fn shared(limits: NodeLimits) -> Shared {
        Shared {
            limits,
            counters: Arc::default(),
            requests: Rc::new(Budget::new(limits.request_bytes)),
            answers: Rc::new(Budget::new(limits.answer_bytes)),
        }
    }

    // Without a socket nothing is ever written: the client that never reads.
    fn client(shared: &Shared) -> Client {
        Client::new(1, Rc::new(Client::outbox()), shared.clone())
    }

    fn ask(client: &Client, correlation: u64, bytes: usize, now: u64) -> Admission {
        let request = Request { group: GroupId(1), call: read(1) };
        client.admit(correlation, &request, bytes, Time(now))
    }

    #[test]
    fn a_page_holds_room_for_its_answer_and_the_next_ones_come_in_turn() {
        let shared = shared(NodeLimits::default());
        let client = client(&shared);
        let page = |limit| {
            let call = AccountsCall { from: 0, limit, changed: false, reserved: false };
            Request { group: GroupId(1), call: Call::Operator(OperatorCall::Accounts(call)) }
        };
        let ask = |correlation| client.admit(correlation, &page(u32::MAX), 30, Time(0));
        let admitted = (0..1_000).take_while(|n| ask(*n) == Admission::Admitted).count();
        let largest = BATCH_LIMIT * size_of::<Account>();
        assert_eq!(admitted, NodeLimits::default().request_bytes_per_client.div_ceil(largest + 30));
        assert!(client.answer(0, &Response::refused(Why::Expired)).is_some());
        assert_eq!(ask(2_000), Admission::Admitted);
        // What is small is admitted from the same read, as ever.
        assert_eq!(
            client.admit(3_000, &Request { group: GroupId(1), call: read(1) }, 30, Time(0)),
            Admission::Admitted
        );
        drop(client);
        assert_eq!(shared.requests.used(), 0);
    }

    #[test]
    fn every_byte_that_was_taken_is_given_back() {
        let shared = shared(NodeLimits::default());
        let client = client(&shared);
        assert_eq!(ask(&client, 1, 100, 0), Admission::Admitted);
        assert_eq!(ask(&client, 2, 30, 0), Admission::Admitted);
        assert_eq!(shared.requests.used(), 130);
        assert!(client.answer(1, &sized(500)).is_some());
        assert!(client.answer(1, &sized(500)).is_none(), "answered once");
        assert_eq!(shared.requests.used(), 30);
        assert!((500..600).contains(&shared.answers.used()));
        drop(client);
        assert_eq!((shared.requests.used(), shared.answers.used()), (0, 0));
    }

    #[test]
    fn what_a_client_does_not_read_is_bounded_by_its_budget_and_one_answer() {
        let limits = NodeLimits { answer_bytes_per_client: 10_000, ..NodeLimits::default() };
        let shared = shared(limits);
        let client = client(&shared);
        let mut most = 0;
        for correlation in 0..100 {
            ask(&client, correlation, 1, 0);
            client.answer(correlation, &sized(3_000));
            most = most.max(shared.answers.used());
        }
        assert!((10_000..10_000 + 3_100).contains(&most), "{most}");
        assert!(matches!(client.ends(), Some(None)), "cut off without a word");
        assert_eq!(shared.answers.used(), 0, "and its memory is free at once");
        assert_eq!(shared.counters.clients_cut_off.get(), 1);
    }

    #[test]
    fn all_unread_answers_together_are_bounded_and_small_ones_have_room() {
        let limits = NodeLimits { answer_bytes: 10_000, answer_bytes_reserved: 1_000, ..NodeLimits::default() };
        let shared = shared(limits);
        let (greedy, modest, late) = (client(&shared), client(&shared), client(&shared));
        for (client, size) in [(&greedy, 9_500), (&modest, 800), (&late, 1_200)] {
            ask(client, 1, 1, 0);
            client.answer(1, &sized(size));
        }
        assert!(greedy.ends().is_none() && modest.ends().is_none());
        assert!(late.ends().is_some());
        assert!(shared.answers.used() < 10_000 + 1_000);
    }

    #[test]
    fn a_request_whose_answer_never_comes_is_given_up_in_the_end() {
        let shared = shared(NodeLimits { request_bytes: 100, ..NodeLimits::default() });
        let client = client(&shared);
        assert_eq!(ask(&client, 1, 80, 1), Admission::Admitted);
        assert_eq!(ask(&client, 2, 80, 500_000_000), Admission::Overloaded);
        assert_eq!(ask(&client, 3, 80, 601_000_000), Admission::Admitted);
        assert_eq!(shared.requests.used(), 80);
    }

    #[test]
    fn a_client_is_full_by_number_and_by_bytes() {
        let limits = NodeLimits { requests_per_client: 2, request_bytes_per_client: 100, ..NodeLimits::default() };
        let shared = shared(limits);
        let client = client(&shared);
        ask(&client, 1, 1, 0);
        assert!(!client.is_full());
        ask(&client, 2, 1, 0);
        assert!(client.is_full());
        client.answer(1, &sized(1));
        assert!(!client.is_full());
        client.answer(2, &sized(1));
        ask(&client, 3, 100, 0);
        assert!(client.is_full());
    }
}
