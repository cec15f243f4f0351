//! Where the postings of an account, of a code or of some user data are: lists of positions, derived from the rows.
//!
//! Positions grow with time, and so does the log time of what lies there; so a range of time is a range of a list, found
//! by halving. A list grows by chunks, so that no posting moves a long one.

use super::model::{BalancesAt, PendingTransfer, Posted, Sides, Transfer};
use crate::ids::AccountId;
use crate::table::Table;

/// Positions in the first chunk of a list; each chunk has twice as many as the one before, up to the largest.
const FIRST: usize = 4;
const DOUBLINGS: usize = 8;
/// Positions in all chunks before those of the largest size.
const SMALL: usize = FIRST * ((1 << DOUBLINGS) - 1);
const LARGEST: usize = FIRST << DOUBLINGS;

/// What a list is of.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub(super) enum Of {
    /// The postings of an account.
    Account(AccountId),
    /// The postings with a code.
    Code(u16),
    /// The postings with this user data; 0 stands for none and has no list.
    Data128(u128),
    /// Likewise.
    Data64(u64),
    /// Likewise.
    Data32(u32),
    /// The pending transfers of an account.
    Pending(AccountId),
    /// The balances of an account.
    Balances(AccountId),
}

/// Positions in growing order.
#[derive(Clone, Debug, Default)]
pub(super) struct Positions {
    chunks: Vec<Vec<u64>>,
    len: usize,
}

impl Positions {
    fn place(index: usize) -> (usize, usize) {
        if index >= SMALL {
            return (DOUBLINGS + (index - SMALL) / LARGEST, (index - SMALL) % LARGEST);
        }
        let chunk = (index / FIRST + 1).ilog2() as usize;
        (chunk, index - FIRST * ((1 << chunk) - 1))
    }

    fn push(&mut self, position: u64) {
        let (chunk, place) = Positions::place(self.len);
        if place == 0 {
            self.chunks.push(Vec::with_capacity(FIRST << chunk.min(DOUBLINGS)));
        }
        self.chunks[chunk].push(position);
        self.len += 1;
    }

    /// How many there are.
    pub(super) fn len(&self) -> usize {
        self.len
    }

    /// The one at a place, which must exist.
    pub(super) fn at(&self, index: usize) -> u64 {
        let (chunk, place) = Positions::place(index);
        self.chunks[chunk][place]
    }

    /// The first place at which `before` does not hold of the position; it holds up to there and not beyond.
    pub(super) fn partition_point(&self, before: impl Fn(u64) -> bool) -> usize {
        let (mut low, mut high) = (0, self.len);
        while low < high {
            let middle = low + (high - low) / 2;
            if before(self.at(middle)) {
                low = middle + 1;
            } else {
                high = middle;
            }
        }
        low
    }
}

/// All lists of a group.
#[derive(Clone)]
pub(super) struct Index {
    lists: Table<Of, Positions>,
}

impl Index {
    /// Nothing yet.
    pub(super) fn new(seed: u64, parts: usize) -> Index {
        Index { lists: Table::new(seed, parts) }
    }

    /// Enters a posting.
    pub(super) fn enter_posting(&mut self, position: u64, posted: &Posted) {
        let Posted { transfer, sides, posted_at: _ } = posted;
        let Transfer { code, user_data_128, user_data_64, user_data_32, .. } = *transfer;
        for account in accounts_here(transfer, *sides) {
            self.push(Of::Account(account), position);
        }
        self.push(Of::Code(code), position);
        if user_data_128 > 0 {
            self.push(Of::Data128(user_data_128), position);
        }
        if user_data_64 > 0 {
            self.push(Of::Data64(user_data_64), position);
        }
        if user_data_32 > 0 {
            self.push(Of::Data32(user_data_32), position);
        }
    }

    /// Enters a pending transfer.
    pub(super) fn enter_pending(&mut self, position: u64, pending: &PendingTransfer) {
        for account in accounts_here(&pending.transfer, pending.sides) {
            self.push(Of::Pending(account), position);
        }
    }

    /// Enters the balances of an account.
    pub(super) fn enter_balances(&mut self, position: u64, balances: &BalancesAt) {
        self.push(Of::Balances(balances.account), position);
    }

    /// Appends a position, which is beyond all of its list.
    fn push(&mut self, of: Of, position: u64) {
        match self.lists.get_mut(&of) {
            Some(list) => list.push(position),
            None => {
                let mut list = Positions::default();
                list.push(position);
                self.lists.insert(of, list);
            }
        }
    }

    /// A list; nothing if it is empty.
    pub(super) fn get(&self, of: Of) -> Option<&Positions> {
        self.lists.get(&of)
    }
}

/// Those accounts of a transfer that are this group's.
fn accounts_here(transfer: &Transfer, sides: Sides) -> impl Iterator<Item = AccountId> {
    let debit = (sides != Sides::Credit).then_some(transfer.debit);
    let credit = (sides != Sides::Debit).then_some(transfer.credit);
    debit.into_iter().chain(credit)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn positions_are_found_where_they_were_put_in_chunks_of_every_size() {
        let mut list = Positions::default();
        for index in 0..3 * LARGEST as u64 + 5 {
            list.push(index * 3);
        }
        assert!((0..list.len()).all(|index| list.at(index) == index as u64 * 3));
        assert!(list.chunks.iter().all(|chunk| chunk.capacity() >= chunk.len() && chunk.len() <= LARGEST));
        assert_eq!(list.partition_point(|position| position < 31), 11);
        assert_eq!((list.partition_point(|_| false), list.partition_point(|_| true)), (0, list.len()));
        assert_eq!(Positions::default().partition_point(|_| true), 0);
    }
}
