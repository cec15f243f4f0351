//! Client requests whose transfers are under way: one answer when the last one has its result.

use std::collections::BTreeMap;

use crate::ids::Origin;
use crate::ledger::model::{ItemResult, Outcome, TransferResult};
use crate::ledger::output::TransactionResult;
use crate::message::client::{Refused, Response, TransactionDone, TransfersDone};
use crate::role::{Answers, Effects};
use crate::time::Time;

/// One transfer of one request.
#[derive(Clone, Copy, Debug)]
pub(super) struct Waiter {
    request: u64,
    index: u32,
}

/// The requests that have no answer yet.
#[derive(Clone, Debug, Default)]
pub(super) struct Requests {
    last: u64,
    open: BTreeMap<u64, Open>,
    waiting: usize,
}

#[derive(Clone, Debug)]
struct Open {
    origin: Origin,
    give_up: Time,
    remaining: usize,
    // A transaction by itself, not a batch.
    alone: bool,
    items: Vec<ItemResult>,
}

impl Requests {
    /// Opens a request with `count` transfers, whose preparing ends at `give_up`.
    pub(super) fn open(&mut self, origin: Origin, give_up: Time, count: u32) -> impl Iterator<Item = Waiter> + use<> {
        self.last += 1;
        let request = self.last;
        self.waiting += count as usize;
        let (remaining, items) = (count as usize, Vec::new());
        self.open.insert(request, Open { origin, give_up, remaining, alone: false, items });
        (0..count).map(move |index| Waiter { request, index })
    }

    /// Opens a request that is a transaction by itself.
    pub(super) fn open_alone(&mut self, origin: Origin, give_up: Time) -> Waiter {
        self.last += 1;
        self.waiting += 1;
        self.open.insert(self.last, Open { origin, give_up, remaining: 1, alone: true, items: Vec::new() });
        Waiter { request: self.last, index: 0 }
    }

    /// When the preparing of the waiter's transfer ends.
    pub(super) fn give_up(&self, waiter: Waiter) -> Time {
        self.open.get(&waiter.request).map_or(Time(0), |open| open.give_up)
    }

    /// A transfer has its result; the last one answers the request.
    ///
    /// # Panics
    /// If the transfer had its result before.
    pub(super) fn finish(&mut self, waiter: Waiter, done: &TransactionResult, effects: &mut Effects) {
        let TransactionResult { result, replayed, .. } = *done;
        let open = self.open.get_mut(&waiter.request).expect("a request is open while one of its transfers waits");
        if open.alone {
            let done = TransactionDone::from(done.clone());
            effects.reply(open.origin, Response::Transaction(done));
            self.waiting -= 1;
            self.open.remove(&waiter.request);
            return;
        }
        if replayed || result != TransferResult::Done(Outcome::Committed) {
            open.items.push(ItemResult { index: waiter.index, result, replayed });
        }
        open.remaining -= 1;
        self.waiting -= 1;
        if open.remaining > 0 {
            return;
        }
        if let Some(mut open) = self.open.remove(&waiter.request) {
            open.items.sort_unstable_by_key(|item| item.index);
            effects.reply(open.origin, Response::Transfers(TransfersDone { items: open.items }));
        }
    }

    /// How many transfers have no result yet.
    pub(super) fn waiting(&self) -> usize {
        self.waiting
    }

    /// None of them will be answered here.
    pub(super) fn refuse_all(&mut self, refused: &Refused, answers: &mut Answers, effects: &mut Effects) {
        self.waiting = 0;
        let open = std::mem::take(&mut self.open).into_values();
        answers.tell(open.map(|open| (open.origin, Response::Refused(refused.clone()))), effects);
    }
}
