//! The posted transfers: immutable rows in the order of posting.

use super::arena::Arena;
use super::digest::Packer;
use super::model::{Posted, Sides};

/// A posted transfer with the positions of the previous one of each of its accounts: history without an index.
#[derive(Clone)]
pub(super) struct PostedRow {
    /// The transfer as it was posted.
    pub(super) posted: Posted,
    /// The previous transfer of the debit account, or `NO_TRANSFER`; also if this group does not own it.
    pub(super) before_debit: u64,
    /// The previous transfer of the credit account, likewise.
    pub(super) before_credit: u64,
}

/// The posted transfers of a group.
#[derive(Clone)]
pub(super) struct PostedLog {
    rows: Arena<PostedRow, 4096>,
    sum: u128,
}

impl PostedLog {
    /// Nothing yet.
    pub(super) fn new() -> PostedLog {
        PostedLog { rows: Arena::new(), sum: 0 }
    }

    /// How many there are.
    pub(super) fn len(&self) -> u64 {
        self.rows.len() as u64
    }

    /// Appends a row; `digest` is that of the transfer's content.
    pub(super) fn push(&mut self, row: PostedRow, digest: u128) {
        let sides = match row.posted.sides {
            Sides::Debit => 1,
            Sides::Credit => 2,
            Sides::Both => 3,
        };
        let packer = Packer::new(b'p')
            .put(&self.len().to_be_bytes())
            .put(&digest.to_be_bytes())
            .put(&[sides])
            .put(&row.posted.posted_at.0.to_be_bytes())
            .put(&row.before_debit.to_be_bytes())
            .put(&row.before_credit.to_be_bytes());
        self.sum = self.sum.wrapping_add(packer.hash());
        self.rows.push(row);
    }

    /// The row at a position, which must exist.
    pub(super) fn at(&self, position: u64) -> &PostedRow {
        self.rows.at(position as usize)
    }

    /// The rows from a position on.
    pub(super) fn from(&self, position: u64) -> impl Iterator<Item = &PostedRow> {
        let start = usize::try_from(position).unwrap_or(usize::MAX).min(self.rows.len());
        self.rows.from(start)
    }

    /// The order-free digest of all rows with their positions.
    pub(super) fn sum(&self) -> u128 {
        self.sum
    }
}
