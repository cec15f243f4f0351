//! What committed transactions have yielded: the latest of it is kept, for those whose answer was lost.

use std::collections::VecDeque;

use super::image::Fault;
use super::operations::Reply;
use crate::ids::TxnId;
use crate::planted::{Bug, is_planted};
use crate::table::Table;
use crate::wire::codec::to_vec;

/// The most bytes that are kept; the oldest go first.
const LIMIT: usize = 16 * 1024 * 1024;

/// A row of an image.
pub(super) type ImageRow = (TxnId, Vec<Reply>);

/// The replies of the latest transactions. What is no longer here is answered without: the outcome is kept for ever.
#[derive(Clone)]
pub(super) struct Replies {
    rows: Table<TxnId, Vec<Reply>>,
    order: VecDeque<TxnId>,
    bytes: usize,
    sum: u128,
}

impl Replies {
    /// Nothing yet.
    pub(super) fn new(seed: u64) -> Replies {
        Replies { rows: Table::new(seed, 64), order: VecDeque::new(), bytes: 0, sum: 0 }
    }

    /// Keeps what a transaction has yielded, if that says anything.
    pub(super) fn keep(&mut self, txn: TxnId, replies: &[Reply]) {
        if replies.iter().all(|reply| matches!(reply, Reply::Done(_))) || is_planted(Bug::RepliesForgotten) {
            return;
        }
        self.bytes += bytes(replies);
        self.sum = self.sum.wrapping_add(hash(txn, replies));
        let before = self.rows.insert(txn, replies.to_vec());
        assert!(before.is_none(), "a transaction takes effect once");
        self.order.push_back(txn);
        while self.bytes > LIMIT {
            let Some(oldest) = self.order.pop_front() else { break };
            let gone = self.rows.remove(&oldest).expect("what is in the order is kept");
            self.bytes -= bytes(&gone);
            self.sum = self.sum.wrapping_sub(hash(oldest, &gone));
        }
    }

    /// What a transaction has yielded, if that is still here.
    pub(super) fn of(&self, txn: TxnId) -> Option<Vec<Reply>> {
        if self.rows.is_empty() { None } else { self.rows.get(&txn).cloned() }
    }

    /// The replies as they are now, the oldest first.
    pub(super) fn image(&self) -> Vec<ImageRow> {
        let Replies { rows, order, bytes: _, sum: _ } = self;
        let row = |txn: &TxnId| (*txn, rows.get(txn).expect("what is in the order is kept").clone());
        order.iter().map(row).collect()
    }

    /// Takes over the next row of an image.
    pub(super) fn load(&mut self, (txn, replies): ImageRow) -> Result<(), Fault> {
        if self.rows.get(&txn).is_some() {
            return Err("the replies to a transaction twice");
        }
        self.keep(txn, &replies);
        Ok(())
    }

    /// The order-free digest of all rows.
    pub(super) fn sum(&self) -> u128 {
        self.sum
    }
}

fn bytes(replies: &[Reply]) -> usize {
    64 + replies.iter().map(Reply::bytes).sum::<usize>()
}

fn hash(txn: TxnId, replies: &[Reply]) -> u128 {
    let mut row = to_vec(&(txn, replies.to_vec()));
    row.push(b'y');
    xxhash_rust::xxh3::xxh3_128(&row)
}
