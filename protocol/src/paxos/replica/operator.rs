//! Answers to the command line, from applied state.

use bytes::Bytes;

use crate::ids::{Origin, Slot};
use crate::ledger::model::BATCH_LIMIT;
use crate::message::client::{Response, Why};
use crate::message::operator::{LogPage, OperatorAnswer, OperatorCall, OutcomesPage, PageCall, ReplicaStatus};
use crate::paxos::PART_BYTES;
use crate::role::{Effect, Effects};

use super::Replica;
use super::learner::Fetch;

/// The most questions about the log that may wait for the disk.
const SHOW_LIMIT: usize = 16;

impl Replica {
    pub(super) fn on_operator(&mut self, origin: Origin, call: OperatorCall, effects: &mut Effects) {
        let answer = match call {
            OperatorCall::ReplicaStatus(_) => OperatorAnswer::ReplicaStatus(self.status()),
            OperatorCall::Accounts(call) => OperatorAnswer::Accounts(self.ledger.accounts_page(&call)),
            OperatorCall::Keys(call) => OperatorAnswer::Keys(self.ledger.keys_page(&call)),
            OperatorCall::Posted(call) => OperatorAnswer::Posted(self.ledger.posted_page(&call)),
            OperatorCall::PostedDigest(call) => OperatorAnswer::PostedDigest(self.ledger.posted_digest(&call)),
            OperatorCall::Pending(_) => OperatorAnswer::Pending(self.ledger.pending_page()),
            OperatorCall::Totals(_) => OperatorAnswer::Totals(self.ledger.totals()),
            OperatorCall::Outcomes(call) if call.ids.len() <= BATCH_LIMIT => {
                let outcomes = call.ids.iter().map(|txn| self.ledger.outcome(*txn)).collect();
                OperatorAnswer::Outcomes(OutcomesPage { outcomes, applied: self.ledger.applied() })
            }
            OperatorCall::Log(call) => return self.on_log(origin, call, effects),
            _ => return effects.reply(origin, Response::refused(Why::Malformed)),
        };
        effects.reply(origin, Response::Operator(answer));
    }

    fn status(&self) -> ReplicaStatus {
        ReplicaStatus {
            promise: self.promise,
            accepted: self.accepted,
            length: self.log.length(),
            chosen: self.log.chosen(),
            applied: self.ledger.applied(),
            doubtful: self.doubtful,
            foreign: self.foreign,
        }
    }

    fn on_log(&mut self, origin: Origin, call: PageCall, effects: &mut Effects) {
        // What lies before is in a snapshot, and not an entry any more.
        let first = self.snapshots.start.min(self.log.start());
        let (from, chosen) = (Slot(call.from).max(first), self.log.chosen());
        // Both numbers are the caller's: together they may be beyond everything.
        let until = chosen.min(Slot(from.0.saturating_add(u64::from(call.limit))));
        if from >= until {
            self.show_log(origin, from, Vec::new(), effects);
        } else if from >= self.log.start() {
            let entries = self.log.from(from, until, PART_BYTES);
            self.show_log(origin, from, entries, effects);
        } else if self.fetches.len() >= SHOW_LIMIT {
            effects.reply(origin, Response::refused(Why::Overloaded));
        } else {
            self.fetches.push_back(Fetch::Show(origin, from));
            effects.push(Effect::Fetch { from, until: until.min(self.log.start()), bytes: PART_BYTES });
        }
    }

    pub(super) fn show_log(&self, origin: Origin, from: Slot, entries: Vec<Bytes>, effects: &mut Effects) {
        let page = LogPage { from, entries, chosen: self.log.chosen() };
        effects.reply(origin, Response::Operator(OperatorAnswer::Log(page)));
    }
}
