//! The ids and what became of them: kept for ever, one index per group.

use super::digest::Packer;
use super::model::{Outcome, Reason};
use crate::ids::{ShardId, TxnId};
use crate::table::Table;
use crate::txn::table::Known;

/// What is known of an id.
#[derive(Clone, Copy, Debug)]
pub(super) struct IdRow {
    /// Of the content.
    pub(super) digest: u128,
    /// The content is not known here, or does not matter: the row answers any.
    pub(super) any: bool,
    /// What became of it.
    pub(super) outcome: Outcome,
    /// The shard with which the row moves; none for an id outside all ranges.
    pub(super) shard: Option<ShardId>,
}

/// The id index.
#[derive(Clone)]
pub(super) struct Ids {
    rows: Table<TxnId, IdRow>,
    sum: u128,
}

impl Ids {
    /// No ids yet.
    pub(super) fn new(seed: u64, parts: usize) -> Ids {
        Ids { rows: Table::new(seed, parts), sum: 0 }
    }

    /// What is known of an id, whatever the content.
    pub(super) fn outcome(&self, txn: TxnId) -> Option<Outcome> {
        self.rows.get(&txn).map(|row| row.outcome)
    }

    /// What is known of an id with this content.
    pub(super) fn known(&self, txn: TxnId, digest: u128) -> Known {
        match self.rows.get(&txn) {
            None => Known::Open,
            Some(row) if !row.any && row.digest != digest => Known::Conflict,
            Some(IdRow { outcome: Outcome::Committed, .. }) => Known::Committed,
            Some(IdRow { outcome: Outcome::Rejected(reason), .. }) => Known::Rejected(*reason),
        }
    }

    /// Records an outcome, once and for ever.
    pub(super) fn record(&mut self, txn: TxnId, digest: Option<u128>, outcome: Outcome, shard: Option<ShardId>) {
        // A fence answers any content: it came without one, or ended whatever was under way.
        let any = digest.is_none() || outcome == Outcome::Rejected(Reason::Fenced);
        let row = IdRow { digest: digest.unwrap_or(0), any, outcome, shard };
        assert!(row.outcome != Outcome::Rejected(Reason::IdConflict), "a conflict is not recorded");
        self.sum = self.sum.wrapping_add(hash(txn, &row));
        let before = self.rows.insert(txn, row);
        assert!(before.is_none(), "an outcome is final");
    }

    /// How many ids have an outcome.
    pub(super) fn len(&self) -> usize {
        self.rows.len()
    }

    /// The order-free digest of all rows.
    pub(super) fn sum(&self) -> u128 {
        self.sum
    }
}

fn hash(txn: TxnId, row: &IdRow) -> u128 {
    let tag = match row.outcome {
        Outcome::Committed => 0,
        Outcome::Rejected(reason) => reason as u8 + 1,
    };
    let shard = row.shard.map_or(u32::MAX, |shard| u32::from(shard.0));
    Packer::new(b'i')
        .put(&txn.id.0.to_be_bytes())
        .put(&txn.first.0.to_be_bytes())
        .put(&row.digest.to_be_bytes())
        .put(&[tag, u8::from(row.any)])
        .put(&shard.to_be_bytes())
        .hash()
}
