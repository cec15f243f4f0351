//! The posted transfers: immutable rows in the order of posting.

use super::accounts::NO_TRANSFER;
use super::arena::{Arena, Frozen};
use super::digest::Packer;
use super::image::{Fault, Rows};
use super::model::{Posted, Sides};
use crate::wire::codec::Encode;

/// Rows that are allocated at a time.
const CHUNK: usize = 4096;

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
    rows: Arena<PostedRow, CHUNK>,
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

/// The posted transfers as an image has them.
pub(super) struct PostedImage(Frozen<PostedRow, CHUNK>);

/// A row of an image: the transfer, and the previous one of the debit and of the credit account.
pub(super) type ImageRow = (Posted, Option<u64>, Option<u64>);

impl Rows for PostedImage {
    fn len(&self, _part: usize) -> usize {
        self.0.len()
    }

    fn encode(&self, _part: usize, row: usize, out: &mut Vec<u8>) {
        let PostedRow { posted, before_debit, before_credit } = self.0.at(row);
        let before = |position: &u64| (*position != NO_TRANSFER).then_some(*position);
        (posted, before(before_debit), before(before_credit)).encode(out);
    }
}

impl PostedLog {
    /// The posted transfers as they are now.
    pub(super) fn image(&mut self) -> PostedImage {
        let PostedLog { rows, sum: _ } = self;
        PostedImage(rows.freeze())
    }

    /// Takes over the next row of an image.
    pub(super) fn load(&mut self, (posted, debit, credit): ImageRow) -> Result<(), Fault> {
        if [debit, credit].into_iter().flatten().any(|before| before >= self.len()) {
            return Err("a transfer after one that comes later");
        }
        let (before_debit, before_credit) = (debit.unwrap_or(NO_TRANSFER), credit.unwrap_or(NO_TRANSFER));
        self.push(PostedRow { posted, before_debit, before_credit }, posted.transfer.digest());
        Ok(())
    }
}
