//! The ids and what became of them: kept for ever, one index per group.

use super::arena::{Arena, Frozen};
use super::digest::Packer;
use super::image::{Fault, Rows};
use super::model::{Outcome, Reason};
use crate::ids::{ShardId, TxnId};
use crate::table::Index;
use crate::txn::table::Known;
use crate::wire::codec::{Encode, wire_struct};

/// Rows that are allocated at a time.
const CHUNK: usize = 4096;

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
wire_struct!(IdRow { digest, any, outcome, shard });

/// The id index.
#[derive(Clone)]
pub(super) struct Ids {
    // In the order of recording.
    rows: Arena<(TxnId, IdRow), CHUNK>,
    index: Index,
    sum: u128,
}

impl Ids {
    /// No ids yet.
    pub(super) fn new(seed: u64, parts: usize) -> Ids {
        Ids { rows: Arena::new(), index: Index::new(seed, parts), sum: 0 }
    }

    fn row(&self, txn: TxnId) -> Option<&IdRow> {
        let position = self.index.find(&txn, |position| self.rows.at(position as usize).0 == txn)?;
        Some(&self.rows.at(position as usize).1)
    }

    /// What is known of an id, whatever the content.
    pub(super) fn outcome(&self, txn: TxnId) -> Option<Outcome> {
        self.row(txn).map(|row| row.outcome)
    }

    /// What is known of an id with this content.
    pub(super) fn known(&self, txn: TxnId, digest: u128) -> Known {
        match self.row(txn) {
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
        assert!(self.insert(txn, row), "an outcome is final");
    }

    /// False if there is a row under the id.
    fn insert(&mut self, txn: TxnId, row: IdRow) -> bool {
        let position = u32::try_from(self.rows.len()).expect("memory ends before a group has 2^32 ids");
        if !self.index.insert(&txn, position, |position| self.rows.at(position as usize).0 == txn) {
            return false;
        }
        self.sum = self.sum.wrapping_add(hash(txn, &row));
        self.rows.push((txn, row));
        true
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

/// The ids as an image has them.
pub(super) struct IdsImage(Frozen<(TxnId, IdRow), CHUNK>);

impl Rows for IdsImage {
    fn len(&self, _part: usize) -> usize {
        self.0.len()
    }

    fn encode(&self, _part: usize, row: usize, out: &mut Vec<u8>) {
        self.0.at(row).encode(out);
    }
}

impl Ids {
    /// The ids as they are now.
    pub(super) fn image(&mut self) -> IdsImage {
        let Ids { rows, index: _, sum: _ } = self;
        IdsImage(rows.freeze())
    }

    /// Takes over the next row of an image.
    pub(super) fn load(&mut self, (txn, row): (TxnId, IdRow)) -> Result<(), Fault> {
        if row.outcome == Outcome::Rejected(Reason::IdConflict) || !self.insert(txn, row) {
            return Err("an id twice, or with a conflict as its outcome");
        }
        Ok(())
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
