//! Listing: pages of postings, of pending transfers and of balances, by the lists of [`super::index`].

use super::arena::{Arena, Frozen};
use super::image::{Fault, Rows};
use super::index::{Of, Positions};
use super::model::{Account, BalancesAt, Flags};
use super::operations::{LIST_LIMIT, List, ListOf, Listed, ListedRows};
use super::{
    Ledger,
    accounts::{Place, Whereabouts},
};
use crate::ids::TransferId;
use crate::time::LogTime;
use crate::wire::codec::{Encode, to_vec};

/// Rows that are allocated, and copied after an image was taken, at a time.
const CHUNK: usize = 1024;

/// The balances of accounts that keep a history, in the order of the changes.
#[derive(Clone)]
pub(super) struct BalanceLog {
    rows: Arena<BalancesAt, CHUNK>,
    sum: u128,
}

impl BalanceLog {
    /// Nothing yet.
    pub(super) fn new() -> BalanceLog {
        BalanceLog { rows: Arena::new(), sum: 0 }
    }

    /// The order-free digest of all rows with their positions.
    pub(super) fn sum(&self) -> u128 {
        self.sum
    }

    /// How many rows there are.
    pub(super) fn len(&self) -> u64 {
        self.rows.len() as u64
    }

    fn push(&mut self, row: BalancesAt) -> u64 {
        let position = self.rows.len() as u64;
        let mut bytes = to_vec(&(position, row));
        bytes.push(b'b');
        self.sum = self.sum.wrapping_add(xxhash_rust::xxh3::xxh3_128(&bytes));
        self.rows.push(row);
        position
    }
}

/// The places of a page in a list, and where to go on.
fn page(list: &List, positions: &Positions, time: impl Fn(u64) -> LogTime) -> (Vec<u64>, Option<u64>) {
    let first = positions.partition_point(|position| time(position) < list.since);
    let end = list.until.map_or(positions.len(), |until| positions.partition_point(|position| time(position) < until));
    let from = list.from.map(|from| usize::try_from(from).unwrap_or(usize::MAX));
    let limit = list.limit.min(LIST_LIMIT) as usize;
    let mut places: Box<dyn Iterator<Item = usize>> = if list.newest {
        let end = from.map_or(end, |from| end.min(from.saturating_add(1)));
        Box::new((first..end).rev())
    } else {
        Box::new(first.max(from.unwrap_or(0))..end)
    };
    let found = places.by_ref().take(limit).map(|place| positions.at(place)).collect();
    (found, places.next().map(|place| place as u64))
}

impl Ledger {
    /// A page of what this group has. What is in doubt is not in it.
    pub(super) fn list(&self, list: &List) -> Listed {
        let of = match list.of {
            ListOf::Account(account) => Of::Account(account),
            ListOf::Code(code) => Of::Code(code),
            ListOf::UserData128(data) => Of::Data128(data),
            ListOf::UserData64(data) => Of::Data64(data),
            ListOf::UserData32(data) => Of::Data32(data),
            ListOf::Pending(account) => Of::Pending(account),
            ListOf::Balances(account) => Of::Balances(account),
        };
        let none = Positions::default();
        let positions = self.index.get(of).unwrap_or(&none);
        let (rows, next) = match of {
            Of::Pending(_) => {
                let row = |position| self.pendings.at(position).pending;
                let (found, next) = page(list, positions, |position| row(position).made_at);
                (ListedRows::Pending(found.into_iter().map(row).collect()), next)
            }
            Of::Balances(_) => {
                let row = |position: u64| *self.balances.rows.at(position as usize);
                let (found, next) = page(list, positions, |position| row(position).at);
                (ListedRows::Balances(found.into_iter().map(row).collect()), next)
            }
            _ => {
                let row = |position| self.posted.at(position).posted;
                let (found, next) = page(list, positions, |position| row(position).posted_at);
                (ListedRows::Posted(found.into_iter().map(row).collect()), next)
            }
        };
        Listed { rows, next }
    }

    /// An account has changed by this transfer: if it keeps a history, this is its next row.
    pub(super) fn note_balances(&mut self, place: Place, transfer: TransferId) {
        let Account { id: account, flags, debits_pending, debits_posted, credits_pending, credits_posted, .. } =
            self.accounts.row(place).account;
        if flags.has(Flags::HISTORY) {
            let at = self.time;
            let row =
                BalancesAt { account, transfer, at, debits_pending, debits_posted, credits_pending, credits_posted };
            let position = self.balances.push(row);
            self.index.enter_balances(position, &row);
        }
    }
}

/// The balances as an image has them.
pub(super) struct BalancesImage(Frozen<BalancesAt, CHUNK>);

impl Rows for BalancesImage {
    fn len(&self, _part: usize) -> usize {
        self.0.len()
    }

    fn encode(&self, _part: usize, row: usize, out: &mut Vec<u8>) {
        self.0.at(row).encode(out);
    }
}

impl BalanceLog {
    /// The balances as they are now.
    pub(super) fn image(&mut self) -> BalancesImage {
        let BalanceLog { rows, sum: _ } = self;
        BalancesImage(rows.freeze())
    }
}

impl Ledger {
    /// Takes over the next row of an image.
    pub(super) fn load_balances(&mut self, row: BalancesAt) -> Result<(), Fault> {
        let kept = match self.accounts.whereabouts(row.account) {
            Whereabouts::Here(place) => self.accounts.row(place).account.flags.has(Flags::HISTORY),
            _ => false,
        };
        if !kept {
            return Err("balances of an account that keeps no history");
        }
        let position = self.balances.push(row);
        self.index.enter_balances(position, &row);
        Ok(())
    }
}
