//! What a coordinator does while its node leads.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use super::attempt::{Cause, Try};
use super::endings::{Decided, Endings, Key};
use super::expiry::PATIENCE;
use super::requests::{Requests, Waiter};
use super::{Cx, Load, participant};
use crate::ids::{Age, Attempt, Ballot, GroupId, Origin, TxnId};
use crate::ledger::model::{BATCH_LIMIT, Outcome, Reason, Transfer, TransferResult};
use crate::ledger::operations::{Action, Answered, Operation, REPLIES_LIMIT, Reply, Transaction};
use crate::ledger::output::{TransactionResult, TxnOutput};
use crate::ledger::records::Coordinated;
use crate::ledger::{replies_of, swapped_of};
use crate::message::client::{Refused, Response, Why};
use crate::message::command::{Begin, ClientCommand, Command, CommandKind, Decide, Prepare, Resolve, Verdict};
use crate::message::local::LocalMessage;
use crate::message::txn::{Inquire, Redirect, Resolved, TxnMessage, Vote, VoteKind};
use crate::placement::map::ShardMap;
use crate::planted::{Bug, is_planted};
use crate::role::{Address, Answers, Effect, Effects, RoleKind};
use crate::time::{LogTime, Span, Time};
use crate::txn::inquiry::{self, Answer, Known, Takeover};
use crate::txn::label;
use crate::wire::codec::{Reader, from_slice};

/// So many transactions are begun, or sent again, in one step.
const SLICE: usize = 512;
/// The first pause before a transaction that had to die is tried again; doubles a few times, with jitter.
const BACKOFF: Span = Span::from_millis(2);
const BACKOFF_DOUBLINGS: u32 = 5;

/// The view of a serving coordinator.
///
/// - `txns` has every transaction of this group that is not decided: those that this leader has proposed, and those
///   whose undecided record it found. What is in neither `txns` nor `endings` is not under way, and will not be.
/// - A transaction leaves `txns` only when its last attempt is known to be over by an output of the ledger.
#[derive(Clone, Debug)]
pub(super) struct Serving {
    ballot: Ballot,
    // The age counter: what was given or heard of last.
    pub(super) counter: u64,
    requests: Requests,
    // Transfers that arrived and are begun at the next turns.
    backlog: VecDeque<(Waiter, Action)>,
    pub(super) txns: BTreeMap<TxnId, Txn>,
    // The pending transfers that its own transactions among them are about.
    pub(super) expiring: BTreeSet<TxnId>,
    timers: BTreeSet<(Time, TxnId)>,
    pub(super) load: Load,
    pub(super) endings: Endings,
    proposals: Vec<Command>,
}

#[derive(Clone, Debug)]
pub(super) struct Txn {
    pub(super) action: Action,
    // Kept over all tries (hazard L6).
    pub(super) age: Age,
    // This group first.
    pub(super) participants: Vec<GroupId>,
    pub(super) waiters: Vec<Waiter>,
    pub(super) tries: u32,
    // Its place in `timers`.
    pub(super) due: Option<Time>,
    // Nothing between two tries.
    pub(super) current: Option<Try>,
}

impl Txn {
    fn others(&self) -> &[GroupId] {
        &self.participants[1..]
    }

    fn trying(&mut self, attempt: Attempt) -> Option<&mut Try> {
        self.current.as_mut().filter(|current| current.attempt == attempt)
    }
}

/// What a request asks for, if it has as many transfers as it says and no more than a batch may have: that is looked at
/// first, since a body of small items takes many times its size when it is decoded.
fn actions_of(command: &ClientCommand) -> Option<Vec<Action>> {
    if command.kind == CommandKind::TransactOver {
        let transaction: Arc<Transaction> = from_slice(&command.body).ok()?;
        return Some(vec![Action::Transaction(transaction)]);
    }
    let announced = Reader::new(&command.body).array_len().ok()?;
    let fits = announced == command.count && (1..=BATCH_LIMIT).contains(&(announced as usize));
    let transfers: Vec<Transfer> = if fits { from_slice(&command.body).ok()? } else { return None };
    Some(transfers.into_iter().map(Action::Transfer).collect())
}

impl Serving {
    pub(super) fn new(ballot: Ballot, counter: u64) -> Serving {
        Serving {
            ballot,
            counter,
            requests: Requests::default(),
            backlog: VecDeque::new(),
            txns: BTreeMap::new(),
            expiring: BTreeSet::new(),
            timers: BTreeSet::new(),
            load: Load::default(),
            endings: Endings::default(),
            proposals: Vec::new(),
        }
    }

    /// Goes on with what the last leader left: rows T2 to T5.
    pub(super) fn take_over(&mut self, record: Coordinated, log_time: LogTime, cx: &mut Cx<'_>) {
        let Coordinated { txn, attempt, age, participants, action, deadline, vote, values, verdict, swapped } = record;
        let key = (txn, attempt);
        let others = participants.get(1..).expect("a record names its own group first").to_vec();
        let remaining = Span(deadline.0.saturating_sub(log_time.0));
        let (row, next) = inquiry::takeover(verdict, remaining, others.len());
        cx.effects.trace("taken_over", || format!("{row} {}", label(txn, attempt)));
        self.counter = self.counter.max(age.counter);
        let forgotten = if verdict.is_some() { Bug::DecisionsForgotten } else { Bug::UndecidedForgotten };
        if is_planted(forgotten) {
            return;
        }
        let (mut current, past) = match next {
            Takeover::Tell(verdict) => {
                return self.endings.insert(key, Decided { verdict, action, swapped }, others, cx.now);
            }
            Takeover::Forget => {
                let decided = Decided { verdict: Verdict::Abort, action, swapped: Vec::new() };
                return self.endings.insert(key, decided, Vec::new(), cx.now);
            }
            Takeover::AskAgain(rest) => (Try::new(attempt, participants.len(), cx.now + rest), false),
            Takeover::Abort => (Try::new(attempt, participants.len(), cx.now), true),
        };
        current.begun = true;
        current.given_up = past;
        current.answers = values;
        if let Some(vote) = vote {
            current.vote(0, vote);
        }
        self.load.add(&others);
        if let Action::Expire(expire) = &action {
            self.expiring.insert(expire.named().txn);
        }
        let found = Txn { action, age, participants, waiters: Vec::new(), tries: 0, due: None, current: Some(current) };
        assert!(self.txns.insert(txn, found).is_none(), "a transaction has one undecided attempt at most");
        self.settle(txn, cx);
        self.arm(txn, Some(cx.now));
    }

    /// Refuses whatever waits: another leader will know what became of it.
    pub(super) fn stop(&mut self, refused: &Refused, answers: &mut Answers, effects: &mut Effects) {
        self.requests.refuse_all(refused, answers, effects);
    }

    /// A transaction, or a batch of transfers to other groups, each of which is one.
    pub(super) fn on_request(&mut self, origin: Origin, command: &ClientCommand, cx: &mut Cx<'_>) {
        let Some(actions) = actions_of(command) else {
            return cx.effects.reply(origin, Response::refused(Why::Malformed));
        };
        let count = actions.len();
        if self.requests.waiting().max(self.txns.len()) + count > cx.desk.limit {
            let refused = Refused { why: Why::Overloaded, leader: Some(cx.desk.me.node), after: cx.desk.resend };
            return cx.effects.reply(origin, Response::Refused(refused));
        }
        // A quarter of the deadline is left for the abort and the answer.
        let give_up = cx.now + Span(command.deadline.0 - command.deadline.0 / 4);
        let waiters: Vec<Waiter> = match command.kind {
            CommandKind::TransactOver => vec![self.requests.open_alone(origin, give_up)],
            _ => self.requests.open(origin, give_up, command.count).collect(),
        };
        let mut items: Vec<(Waiter, Action)> = waiters.into_iter().zip(actions).collect();
        if self.load.most() + count > cx.desk.peer_limit {
            // Not all may find a place. A batch that is sent again whole begins elsewhere each time, else those in front,
            // though they have their outcome, would take the places of the same ones behind for ever.
            items.rotate_left(cx.desk.rng.below(count as u64) as usize);
        }
        self.backlog.extend(items);
    }

    /// Begins what has arrived, a slice at a time, and proposes once for all.
    pub(super) fn on_turn(&mut self, cx: &mut Cx<'_>) {
        for _ in 0..SLICE {
            let Some((waiter, action)) = self.backlog.pop_front() else { break };
            self.start(waiter, action, cx);
        }
        self.endings.forgets(cx.now, &mut self.proposals, cx.effects);
        if !self.proposals.is_empty() {
            let proposals = std::mem::take(&mut self.proposals);
            cx.effects.send_local(RoleKind::Leader, LocalMessage::Propose(proposals));
        }
        if !self.backlog.is_empty() {
            cx.effects.push(Effect::Again);
        }
    }

    fn start(&mut self, waiter: Waiter, action: Action, cx: &mut Cx<'_>) {
        let id = action.txn(&cx.desk.map);
        if self.requests.give_up(waiter) <= cx.now {
            return self.requests.finish(waiter, &TransferResult::Unknown.into(), cx.effects);
        }
        let own = cx.desk.me.group;
        let within = |transfer: &Transfer| cx.desk.map.owner_of(transfer.credit) == Some(own);
        if cx.desk.map.owner_of(id.first) != Some(own) || matches!(&action, Action::Transfer(it) if within(it)) {
            return self.requests.finish(waiter, &TransferResult::Moved.into(), cx.effects);
        }
        if let Some(done) = self.attach(id, waiter, &action) {
            if let Some(done) = done {
                self.requests.finish(waiter, &done, cx.effects);
            }
            return;
        }
        // An account that nobody owns does not exist: any group that takes part rejects it, and records that.
        let participants = action.participants(&cx.desk.map);
        assert_eq!(participants.first(), Some(&own), "who owns the first account or key coordinates");
        let full = |group: &&GroupId| self.load.of(**group) + self.endings.load(**group) >= cx.desk.peer_limit;
        if let Some(other) = participants[1..].iter().find(full) {
            let unavailable = cx.desk.peers.unavailable(*other);
            let result = if unavailable { TransferResult::Unavailable } else { TransferResult::Retry };
            return self.requests.finish(waiter, &result.into(), cx.effects);
        }
        self.counter = self.counter.saturating_add(1);
        let age = Age { counter: self.counter, id: id.id };
        self.load.add(&participants[1..]);
        let txn = Txn { action, age, participants, waiters: vec![waiter], tries: 0, due: None, current: None };
        self.txns.insert(id, txn);
        self.begin(id, cx);
    }

    // What is under way or just decided under an id: the request waits with it (`Some(None)`), or has a result.
    fn attach(&mut self, id: TxnId, waiter: Waiter, action: &Action) -> Option<Option<TransactionResult>> {
        if let Some(txn) = self.txns.get_mut(&id) {
            // The same content under way: this request gets the same answer (hazard S16). Other content: the ledger
            // compares it with the record, once there is one.
            if txn.action == *action {
                txn.waiters.push(waiter);
                return Some(None);
            }
            return Some(Some(TransferResult::Retry.into()));
        }
        let (outcome, content) = self.endings.outcome(id)?;
        let same = content == action;
        if same && outcome == Outcome::Committed && action.transaction().is_some() {
            return Some(Some(TransferResult::Retry.into())); // The ledger knows what it has yielded.
        }
        let outcome = if same { outcome } else { Outcome::Rejected(Reason::IdConflict) };
        Some(Some(TransactionResult { result: TransferResult::Done(outcome), replayed: same, replies: None }))
    }

    // A new attempt. Nothing of an earlier one is under way any more: it was decided or void by applied state.
    pub(super) fn begin(&mut self, id: TxnId, cx: &mut Cx<'_>) {
        let Some(txn) = self.txns.get_mut(&id) else { return };
        assert!(txn.current.is_none(), "a retry begins only when the last attempt is over (hazard S7)");
        let own = matches!(txn.action, Action::Expire(_)).then_some(cx.now + PATIENCE);
        let latest = txn.waiters.iter().map(|waiter| self.requests.give_up(*waiter)).chain(own).max();
        let give_up = latest.unwrap_or(cx.now);
        cx.desk.number += 1;
        let number = if is_planted(Bug::SameAttempt) { 1 } else { cx.desk.number };
        let attempt = Attempt { ballot: self.ballot, number };
        let current = Try::new(attempt, txn.participants.len(), give_up);
        self.proposals.push(Command::Begin(Begin {
            txn: id,
            attempt,
            age: txn.age,
            participants: txn.participants.clone(),
            action: txn.action.clone(),
            deadline: give_up.since(cx.now),
        }));
        send_prepares(id, txn, &current, false, cx);
        txn.current = Some(current);
        self.arm(id, Some(give_up.min(cx.now + cx.desk.resend)));
    }

    /// Something about a transaction is applied.
    pub(super) fn on_event(&mut self, event: TxnOutput, cx: &mut Cx<'_>) {
        match event {
            TxnOutput::Begun { txn, attempt } => {
                if let Some(current) = self.trying(txn, attempt) {
                    current.begun = true;
                    self.settle(txn, cx);
                }
            }
            TxnOutput::Voted { txn, attempt, coordinator, vote, counter, values }
                if coordinator == cx.desk.me.group =>
            {
                self.counter = self.counter.max(counter);
                if self.trying(txn, attempt).is_some() {
                    self.take_vote(txn, 0, vote, values, cx);
                }
            }
            TxnOutput::Decided { txn, attempt, verdict, replies } => {
                self.on_decided((txn, attempt), verdict, replies, cx);
            }
            TxnOutput::Known { txn, attempt, outcome, replies } => {
                if self.void(txn, attempt, cx).is_some() {
                    let replayed = outcome != Outcome::Rejected(Reason::IdConflict);
                    let result = TransferResult::Done(outcome);
                    self.finish(txn, &TransactionResult { result, replayed, replies }, cx);
                }
            }
            TxnOutput::Void { txn, attempt } => {
                if let Some(over) = self.void(txn, attempt, cx) {
                    self.rest(txn, &over, cx);
                }
            }
            TxnOutput::Due(expire) => self.on_due(expire, cx),
            // The participant's.
            TxnOutput::Voted { .. } | TxnOutput::Resolved { .. } => {}
        }
    }

    fn trying(&mut self, txn: TxnId, attempt: Attempt) -> Option<&mut Try> {
        self.txns.get_mut(&txn)?.trying(attempt)
    }

    // An attempt that never began: whoever prepared it may let go at once. If this is lost they will ask.
    fn void(&mut self, id: TxnId, attempt: Attempt, cx: &mut Cx<'_>) -> Option<Try> {
        let txn = self.txns.get_mut(&id)?;
        txn.trying(attempt)?;
        for group in txn.others() {
            let resolve = Resolve { txn: id, attempt, verdict: Verdict::Abort, values: Vec::new() };
            cx.ask(*group, false, (RoleKind::Participant, TxnMessage::Resolve(resolve)));
        }
        txn.current.take()
    }

    fn take_vote(&mut self, id: TxnId, place: usize, vote: VoteKind, values: Vec<Answered>, cx: &mut Cx<'_>) {
        let Some(txn) = self.txns.get_mut(&id) else { return };
        let Some(current) = &mut txn.current else { return };
        if vote == VoteKind::Yes && !values.is_empty() {
            let (group, action) = (txn.participants[place], &txn.action);
            current.answer(place, values, |operation| owns_left(action, operation, group, &cx.desk.map));
        }
        current.vote(place, vote);
        self.settle(id, cx);
    }

    // Proposes the verdict if the votes yield one.
    fn settle(&mut self, id: TxnId, cx: &mut Cx<'_>) {
        let Some(txn) = self.txns.get_mut(&id) else { return };
        let Some(current) = &mut txn.current else { return };
        if current.proposed.is_some() {
            return;
        }
        let Some(mut verdict) = current.judge() else { return };
        assert!(current.begun, "a decision never overtakes its Begin (hazard S9)");
        let mut replies = Vec::new();
        if let (Verdict::Commit, Some(transaction)) = (verdict, txn.action.transaction()) {
            replies = replies_of(transaction, std::mem::take(&mut current.answers));
            if !transaction.takes(&replies) {
                verdict = Verdict::Abort; // A participant has left something out.
            } else if replies.iter().map(Reply::bytes).sum::<usize>() > REPLIES_LIMIT {
                verdict = Verdict::Reject(Reason::TooLarge);
            }
            if verdict != Verdict::Commit {
                replies.clear();
            }
        }
        current.proposed = Some(verdict);
        self.proposals.push(Command::Decide(Decide { txn: id, attempt: current.attempt, verdict, replies }));
        if is_planted(Bug::AnsweredOnProposal) && verdict == Verdict::Commit {
            for waiter in txn.waiters.drain(..) {
                let done = TransferResult::Done(Outcome::Committed).into();
                self.requests.finish(waiter, &done, cx.effects);
            }
        }
    }

    // The first decision that is applied stands, whatever was proposed here (hazard S9).
    fn on_decided(&mut self, key: Key, verdict: Verdict, replies: Vec<Reply>, cx: &mut Cx<'_>) {
        let (id, attempt) = key;
        let Some(txn) = self.txns.get_mut(&id) else { return };
        if txn.trying(attempt).is_none() {
            return;
        }
        let Some(over) = txn.current.take() else { return };
        if over.votes.contains(&Some(VoteKind::AlreadyCommitted)) {
            cx.effects.note("committed_without_record", label(id, attempt));
        }
        let decided = Decided { verdict, action: txn.action.clone(), swapped: swapped_of(&replies) };
        self.endings.insert(key, decided, txn.others().to_vec(), cx.now);
        self.endings.tell(key, cx);
        let result = match (verdict, over.cause()) {
            (Verdict::Commit, _) => TransferResult::Done(Outcome::Committed),
            (Verdict::Reject(reason), _) => TransferResult::Done(Outcome::Rejected(reason)),
            (Verdict::Abort, _) if is_planted(Bug::AbortIsFinal) => {
                TransferResult::Done(Outcome::Rejected(Reason::Fenced))
            }
            (Verdict::Abort, Cause::Moved) => TransferResult::Moved,
            (Verdict::Abort, Cause::Busy) => TransferResult::Retry,
            (Verdict::Abort, Cause::Again) => return self.rest(id, &over, cx),
        };
        let replies = Some(replies).filter(|_| verdict == Verdict::Commit);
        self.finish(id, &TransactionResult { result, replayed: false, replies }, cx);
    }

    // The transaction is over: everybody who waits for it gets the same result.
    fn finish(&mut self, id: TxnId, done: &TransactionResult, cx: &mut Cx<'_>) {
        self.arm(id, None);
        let Some(txn) = self.txns.remove(&id) else { return };
        assert!(txn.current.is_none(), "a transaction is over when its last attempt is");
        self.load.sub(txn.others());
        if let Action::Expire(expire) = &txn.action {
            self.expiring.remove(&expire.named().txn);
        }
        for waiter in txn.waiters {
            self.requests.finish(waiter, done, cx.effects);
        }
    }

    // An attempt is over without an outcome: who still waits gets another one, under the same age.
    fn rest(&mut self, id: TxnId, over: &Try, cx: &mut Cx<'_>) {
        self.answer_late(id, over.unavailable, cx);
        let Some(txn) = self.txns.get_mut(&id) else { return };
        if txn.waiters.is_empty() {
            return self.finish(id, &TransferResult::Unknown.into(), cx);
        }
        let pause = BACKOFF.0 << txn.tries.min(BACKOFF_DOUBLINGS);
        txn.tries += 1;
        let pause = Span(pause / 2 + cx.desk.rng.below(pause));
        self.arm(id, Some(cx.now + pause));
    }

    // Answers those for whom preparing has ended.
    fn answer_late(&mut self, id: TxnId, unavailable: bool, cx: &mut Cx<'_>) {
        let Some(txn) = self.txns.get_mut(&id) else { return };
        let result = if unavailable { TransferResult::Unavailable } else { TransferResult::Unknown };
        let late = txn.waiters.extract_if(.., |waiter| self.requests.give_up(*waiter) <= cx.now);
        for waiter in late.collect::<Vec<_>>() {
            self.requests.finish(waiter, &result.into(), cx.effects);
        }
    }

    /// A vote of another group.
    pub(super) fn on_vote(&mut self, from: Address, vote: &Vote, cx: &mut Cx<'_>) {
        cx.desk.peers.heard(vote.group, from.node);
        self.counter = self.counter.max(vote.counter);
        let Some(txn) = self.txns.get_mut(&vote.txn).filter(|txn| txn.current.is_some()) else {
            return self.on_stray_vote(from, vote, cx);
        };
        let place = txn.others().iter().position(|group| *group == vote.group);
        let counted = if is_planted(Bug::OlderVoteCounted) { None } else { Some(vote.attempt) };
        match (place, txn.current.as_mut().filter(|current| counted.is_none_or(|it| it == current.attempt))) {
            (Some(place), Some(_)) => self.take_vote(vote.txn, place + 1, vote.vote, vote.values.clone(), cx),
            _ => self.on_stray_vote(from, vote, cx),
        }
    }

    // A vote for something that is not under way: a yes is a question, too. Decisions are sent again anyhow.
    fn on_stray_vote(&mut self, from: Address, vote: &Vote, cx: &mut Cx<'_>) {
        let decided = self.endings.verdict((vote.txn, vote.attempt)).is_some();
        if vote.vote == VoteKind::Yes && !decided {
            let inquire = Inquire { txn: vote.txn, attempt: vote.attempt, group: vote.group };
            self.on_inquire(from, &inquire, cx);
        }
    }

    /// A participant has applied a decision.
    pub(super) fn on_resolved(&mut self, from: Address, resolved: &Resolved, cx: &mut Cx<'_>) {
        cx.desk.peers.heard(resolved.group, from.node);
        self.endings.acknowledged((resolved.txn, resolved.attempt), resolved.group, cx.now);
    }

    /// A participant asks: rows I1 to I6.
    pub(super) fn on_inquire(&mut self, from: Address, inquire: &Inquire, cx: &mut Cx<'_>) {
        let Inquire { txn, attempt, group } = *inquire;
        let known = self.known(txn, attempt);
        let (row, answer) = inquiry::answer(self.ballot, attempt.ballot, known);
        cx.effects.trace("inquiry", || format!("{row} {}", label(txn, attempt)));
        if let Answer::Resolve(verdict) = answer {
            let values = self.endings.swapped((txn, attempt));
            let resolve = TxnMessage::Resolve(Resolve { txn, attempt, verdict, values });
            cx.effects.send_txn(participant(from.node, group), resolve);
        }
    }

    fn known(&self, txn: TxnId, attempt: Attempt) -> Known {
        let current = self.txns.get(&txn).and_then(|txn| txn.current.as_ref());
        if current.is_some_and(|current| current.attempt == attempt) {
            Known::UnderWay
        } else if let Some(verdict) = self.endings.verdict((txn, attempt)) {
            Known::Decided(verdict)
        } else if self.txns.contains_key(&txn) || self.endings.has(txn) {
            Known::Replaced
        } else {
            Known::Nothing
        }
    }

    /// A node does not lead the group that was meant: what waits for that group is sent to the one that may.
    pub(super) fn on_redirect(&mut self, from: Address, redirect: &Redirect, cx: &mut Cx<'_>) {
        if !cx.desk.peers.redirected(from.node, redirect, cx.now) {
            return;
        }
        for (id, txn) in self.txns.iter().take(SLICE) {
            if let Some(current) = &txn.current
                && !current.given_up
                && txn.others().contains(&redirect.group)
            {
                send_prepares(*id, txn, current, false, cx);
            }
        }
        self.endings.tell_group(redirect.group, SLICE, cx);
    }

    /// Does what is due, a slice at a time.
    pub(super) fn on_timer(&mut self, cx: &mut Cx<'_>) {
        for _ in 0..SLICE {
            match self.timers.first() {
                Some((due, id)) if *due <= cx.now => self.on_timer_of(*id, cx),
                _ => break,
            }
        }
        self.endings.on_timer(SLICE, cx);
    }

    /// When there is something to do.
    pub(super) fn deadline(&self) -> Option<Time> {
        self.timers.first().map(|(due, _)| *due).into_iter().chain(self.endings.deadline()).min()
    }

    fn on_timer_of(&mut self, id: TxnId, cx: &mut Cx<'_>) {
        self.arm(id, None);
        let Some(txn) = self.txns.get_mut(&id) else { return };
        let Some(current) = &mut txn.current else {
            cx.effects.timer("coordinator/retry");
            return self.begin(id, cx);
        };
        if current.proposed.is_some() || current.given_up {
            return;
        }
        if current.give_up <= cx.now {
            cx.effects.timer("coordinator/give_up");
            return self.give_up(id, cx);
        }
        cx.effects.timer("coordinator/prepare_again");
        let (next, give_up) = (cx.now + cx.desk.resend, current.give_up);
        if let Some(current) = &txn.current {
            send_prepares(id, txn, current, true, cx);
        }
        self.arm(id, Some(give_up.min(next)));
    }

    // Preparing has ended. A Begin that is not applied yet may still be: it is kept until its fate is known.
    fn give_up(&mut self, id: TxnId, cx: &mut Cx<'_>) {
        let Some(txn) = self.txns.get_mut(&id) else { return };
        let Some(current) = &mut txn.current else { return };
        let silent = txn.participants.iter().zip(&current.votes).skip(1).filter(|(_, vote)| vote.is_none());
        current.unavailable = silent.into_iter().any(|(group, _)| cx.desk.peers.unavailable(*group));
        current.given_up = true;
        let (begun, unavailable) = (current.begun, current.unavailable);
        let attempt = current.attempt;
        cx.effects.trace("given_up", || label(id, attempt));
        if begun {
            self.settle(id, cx);
        } else {
            self.answer_late(id, unavailable, cx);
        }
    }

    // Moves a transaction's place among the timers.
    fn arm(&mut self, id: TxnId, due: Option<Time>) {
        let Some(txn) = self.txns.get_mut(&id) else { return };
        if let Some(old) = std::mem::replace(&mut txn.due, due) {
            self.timers.remove(&(old, id));
        }
        if let Some(due) = due {
            self.timers.insert((due, id));
        }
    }
}

/// Whether a group owns the left key of a swap.
pub(crate) fn owns_left(action: &Action, operation: u32, group: GroupId, map: &ShardMap) -> bool {
    match action.transaction().and_then(|transaction| transaction.operations.get(operation as usize)) {
        Some(Operation::Swap(swap)) => map.owner_of_key(&swap.left) == group,
        _ => false,
    }
}

// Asks the other participants that have not voted.
fn send_prepares(id: TxnId, txn: &Txn, current: &Try, again: bool, cx: &mut Cx<'_>) {
    for (place, group) in txn.participants.iter().enumerate().skip(1) {
        if current.votes[place].is_some() {
            continue;
        }
        let prepare = Prepare {
            txn: id,
            attempt: current.attempt,
            age: txn.age,
            participants: txn.participants.clone(),
            action: txn.action.clone(),
            deadline: current.give_up.since(cx.now),
        };
        cx.ask(*group, again, (RoleKind::Participant, TxnMessage::Prepare(prepare)));
    }
}
