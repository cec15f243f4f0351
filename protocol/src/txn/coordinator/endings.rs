//! Decided attempts that somebody still has to hear about.

use std::collections::{BTreeMap, BTreeSet};

use super::{Cx, Load};
use crate::ids::{Attempt, GroupId, TxnId};
use crate::ledger::model::Outcome;
use crate::ledger::operations::{Action, Answered};
use crate::message::TxnMessage;
use crate::message::command::{Command, Forget, Resolve, Verdict};
use crate::planted::{Bug, is_planted};
use crate::role::{Effects, RoleKind};
use crate::time::{Span, Time};
use crate::txn::label;

/// A transaction and one of its attempts.
pub(super) type Key = (TxnId, Attempt);

/// One `Forget` ends at most so many.
const FORGET_BATCH: usize = 256;
/// An ended attempt is forgotten at the latest so long after its last acknowledgement.
const FORGET_DELAY: Span = Span::from_millis(100);
/// An abort is told so often, with growing pauses; then it is presumed: whoever missed it will ask (row I4 or I5). One that
/// only groups wait for that cannot be reached is told once: each try of such a transaction leaves another.
const ABORT_SENDS: u32 = 6;
/// Pauses between two sends double so often.
const DOUBLINGS: u32 = 4;

/// The decisions that are applied here and not yet acknowledged everywhere.
#[derive(Clone, Debug, Default)]
pub(super) struct Endings {
    open: BTreeMap<Key, Ending>,
    timers: BTreeSet<(Time, Key)>,
    load: Load,
    ended: Vec<Key>,
    forget_at: Option<Time>,
}

/// A decision and what belongs to it.
pub(super) struct Decided {
    pub(super) verdict: Verdict,
    pub(super) action: Action,
    /// Of a commit: what the keys of its swaps held.
    pub(super) swapped: Vec<Answered>,
}

#[derive(Clone, Debug)]
struct Ending {
    verdict: Verdict,
    action: Action,
    // Of a commit: what the keys of its swaps held.
    swapped: Vec<Answered>,
    unacknowledged: Vec<GroupId>,
    sends: u32,
    due: Time,
}

impl Endings {
    /// Begins to tell `others`, with the first send when the timers run next.
    ///
    /// # Panics
    /// If the attempt is here already: an attempt is decided once.
    pub(super) fn insert(&mut self, key: Key, decided: Decided, others: Vec<GroupId>, now: Time) {
        let Decided { verdict, action, swapped } = decided;
        if others.is_empty() {
            self.end(key, now);
            return;
        }
        self.load.add(&others);
        self.timers.insert((now, key));
        let ending = Ending { verdict, action, swapped, unacknowledged: others, sends: 0, due: now };
        assert!(self.open.insert(key, ending).is_none(), "an attempt is decided once");
    }

    /// Tells everybody who has not acknowledged, and arranges for the next time.
    pub(super) fn tell(&mut self, key: Key, cx: &mut Cx<'_>) {
        let Some(ending) = self.open.get_mut(&key) else { return };
        self.timers.remove(&(ending.due, key));
        let told_once = is_planted(Bug::ForgottenOnSending) && ending.sends > 0;
        let cut = ending.unacknowledged.iter().all(|group| cx.desk.peers.unavailable(*group));
        let enough = ending.sends >= if cut { 1 } else { ABORT_SENDS };
        if (ending.verdict == Verdict::Abort && enough) || told_once {
            self.load.sub(&ending.unacknowledged);
            self.open.remove(&key);
            cx.effects.trace("abort_presumed", || label(key.0, key.1));
            self.end(key, cx.now);
            return;
        }
        for group in &ending.unacknowledged {
            cx.ask(*group, ending.sends > 0, ending.message(key));
        }
        ending.due = cx.now + Span(cx.desk.resend.0 << ending.sends.min(DOUBLINGS));
        ending.sends += 1;
        self.timers.insert((ending.due, key));
    }

    /// A participant has applied the decision.
    pub(super) fn acknowledged(&mut self, key: Key, group: GroupId, now: Time) {
        let Some(ending) = self.open.get_mut(&key) else { return };
        let Some(place) = ending.unacknowledged.iter().position(|other| *other == group) else { return };
        ending.unacknowledged.swap_remove(place);
        self.load.sub(&[group]);
        if ending.unacknowledged.is_empty() {
            self.timers.remove(&(ending.due, key));
            self.open.remove(&key);
            self.end(key, now);
        }
    }

    fn end(&mut self, key: Key, now: Time) {
        self.ended.push(key);
        self.forget_at.get_or_insert(now + FORGET_DELAY);
    }

    /// Tells the attempts of a group again, the first `budget` of all.
    pub(super) fn tell_group(&mut self, group: GroupId, budget: usize, cx: &mut Cx<'_>) {
        for (key, ending) in self.open.iter().take(budget) {
            if ending.sends > 0 && ending.unacknowledged.contains(&group) {
                cx.ask(group, false, ending.message(*key));
            }
        }
    }

    /// Tells what is due, up to `budget`.
    pub(super) fn on_timer(&mut self, budget: usize, cx: &mut Cx<'_>) {
        for _ in 0..budget {
            match self.timers.first() {
                Some((due, key)) if *due <= cx.now => {
                    cx.effects.timer("coordinator/resolve_again");
                    self.tell(*key, cx);
                }
                _ => return,
            }
        }
    }

    /// The `Forget`s that are to be proposed now.
    pub(super) fn forgets(&mut self, now: Time, proposals: &mut Vec<Command>, effects: &mut Effects) {
        let late = self.forget_at.is_some_and(|at| at <= now);
        if late {
            effects.timer("coordinator/forget");
        }
        while self.ended.len() >= FORGET_BATCH || (late && !self.ended.is_empty()) {
            let rest = self.ended.split_off(self.ended.len().min(FORGET_BATCH));
            let ended = std::mem::replace(&mut self.ended, rest);
            proposals.push(Command::Forget(Forget { ended }));
            self.forget_at = (!self.ended.is_empty()).then_some(now + FORGET_DELAY);
        }
    }

    /// When there is something to do.
    pub(super) fn deadline(&self) -> Option<Time> {
        self.timers.first().map(|(due, _)| *due).into_iter().chain(self.forget_at).min()
    }

    /// The decision on an attempt.
    pub(super) fn verdict(&self, key: Key) -> Option<Verdict> {
        self.open.get(&key).map(|ending| ending.verdict)
    }

    /// What the keys of the attempt's swaps held, for those that write it elsewhere.
    pub(super) fn swapped(&self, key: Key) -> Vec<Answered> {
        self.open.get(&key).map(|ending| ending.swapped.clone()).unwrap_or_default()
    }

    /// Whether an attempt of the transaction is here.
    pub(super) fn has(&self, txn: TxnId) -> bool {
        self.of(txn).next().is_some()
    }

    /// The outcome of the transaction if it has one, and its content.
    pub(super) fn outcome(&self, txn: TxnId) -> Option<(Outcome, &Action)> {
        self.of(txn).find_map(|ending| match ending.verdict {
            Verdict::Commit => Some((Outcome::Committed, &ending.action)),
            Verdict::Reject(reason) => Some((Outcome::Rejected(reason), &ending.action)),
            Verdict::Abort => None,
        })
    }

    /// How many wait for a group.
    pub(super) fn load(&self, group: GroupId) -> usize {
        self.load.of(group)
    }

    fn of(&self, txn: TxnId) -> impl Iterator<Item = &Ending> {
        let from = (txn, Attempt::default());
        self.open.range(from..).take_while(move |(key, _)| key.0 == txn).map(|(_, ending)| ending)
    }
}

impl Ending {
    fn message(&self, (txn, attempt): Key) -> (RoleKind, TxnMessage) {
        let resolve = Resolve { txn, attempt, verdict: self.verdict, values: self.swapped.clone() };
        (RoleKind::Participant, TxnMessage::Resolve(resolve))
    }
}
