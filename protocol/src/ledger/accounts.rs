//! The accounts: per shard in the order of their creation, and one index over all of them.
//!
//! The rows lie per shard, because shards will move. The index from id to place is one per group and its rows name the
//! shard: a table of its own for each of 4,096 shards would mostly be empty parts.

use super::Genesis;
use super::arena::{Arena, Frozen};
use super::digest::Sum;
use super::image::{Fault, Rows};
use super::model::{Account, Flags};
use crate::ids::{AccountId, GroupId, ShardId};
use crate::placement::map::{Mode, ShardMap};
use crate::table::Table;
use crate::wire::codec::{Encode, wire_struct};

/// Stands for "no transfer yet" in [`Row::last`].
pub(super) const NO_TRANSFER: u64 = u64::MAX;

/// Where an account lies: the shard's place among the group's shards, and the position in it.
#[derive(Clone, Copy, Debug, Default, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub(super) struct Place {
    /// An index into the group's shards.
    pub(super) shard: u16,
    /// The position in the order of creation.
    pub(super) position: u32,
}
wire_struct!(Place { shard, position });

/// What the group knows of an account id.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Whereabouts {
    /// The account lies here.
    Here(Place),
    /// The id belongs to this group, and no such account exists.
    Missing,
    /// The id belongs to another group.
    Elsewhere,
    /// The id lies outside all ranges: no such account will ever exist.
    Nowhere,
}

/// An account with what the group keeps beside it.
#[derive(Clone)]
pub(super) struct Row {
    /// The account.
    pub(super) account: Account,
    /// The position of its last posted transfer, or [`NO_TRANSFER`].
    pub(super) last: u64,
    /// Something is in doubt or waits here: there is more in `Doubts`.
    pub(super) busy: bool,
}

impl Row {
    /// Adds the row to a digest.
    pub(super) fn digest(&self, shard: ShardId, position: u32, sum: &mut Sum) {
        let Row { account, last, busy: _ } = self; // That it is busy follows from what is in doubt and what waits.
        sum.row(b'a', &[account, &shard, &position, last]);
    }
}

/// Accounts that are copied together after an image was taken: the fewer, the less a change copies; the more, the less
/// an image costs.
const CHUNK: usize = 32;

#[derive(Clone)]
struct Shard {
    id: ShardId,
    rows: Arena<Row, CHUNK>,
}

/// The accounts of a group.
#[derive(Clone)]
pub(super) struct Accounts {
    group: GroupId,
    map: ShardMap,
    shards: Vec<Shard>,
    index: Table<AccountId, Place>,
}

impl Accounts {
    /// The opening accounts: ids 1 to `genesis.accounts` in the group's shards, and each shard's reserved account as
    /// the other side of their balances.
    ///
    /// # Panics
    /// If the opening balances of a shard do not fit 128 bits: whoever reads the configuration checks that.
    pub(super) fn new(seed: u64, genesis: &Genesis, parts: usize) -> Accounts {
        let mut accounts = Accounts::empty(seed, genesis.group, genesis.map.clone(), parts);
        accounts.open(genesis);
        accounts
    }

    /// No accounts yet, in the shards of a group.
    pub(super) fn empty(seed: u64, group: GroupId, map: ShardMap, parts: usize) -> Accounts {
        let shards = map.shards_of(group).into_iter().map(|id| Shard { id, rows: Arena::new() }).collect();
        Accounts { group, map, shards, index: Table::new(seed, parts) }
    }

    fn open(&mut self, genesis: &Genesis) {
        let flags = Flags::DEBITS_MUST_NOT_EXCEED_CREDITS;
        let credits_posted = genesis.initial_balance;
        let model = Account { ledger: 1, code: 1, flags, credits_posted, ..Account::default() };
        match &genesis.map.mode {
            Mode::Hash(_) => {
                for number in 1..=u128::from(genesis.accounts) {
                    let id = AccountId(number);
                    let shard = genesis.map.shard_of(id).expect("every id has a hash");
                    if let Some(shard) = self.number_of(shard) {
                        self.insert(shard, Account { id, ..model });
                    }
                }
            }
            Mode::Range(ranges) => {
                for shard in 0..self.shards.len() {
                    // A range mode has a range for each shard; whoever makes the map checks that they are disjoint.
                    let range = ranges[usize::from(self.shards[shard].id.0)];
                    for number in range.first.0.max(1)..=range.last.0.min(u128::from(genesis.accounts)) {
                        self.insert(shard, Account { id: AccountId(number), ..model });
                    }
                }
            }
        }
        for shard in 0..self.shards.len() {
            let id = ShardMap::reserved(self.shards[shard].id);
            let debits = (self.shards[shard].rows.len() as u128).checked_mul(genesis.initial_balance);
            let debits_posted = debits.expect("the configuration is checked: a shard's opening balances fit 128 bits");
            self.insert(shard, Account { id, ledger: 1, code: 1, debits_posted, ..Account::default() });
        }
    }

    fn number_of(&self, shard: ShardId) -> Option<usize> {
        self.shards.binary_search_by_key(&shard, |shard| shard.id).ok()
    }

    fn insert(&mut self, shard: usize, account: Account) {
        let position = self.shards[shard].rows.push(Row { account, last: NO_TRANSFER, busy: false });
        let position = u32::try_from(position).expect("memory ends before a shard has 2^32 accounts");
        let shard = u16::try_from(shard).expect("a shard's number has 16 bits");
        let before = self.index.insert(account.id, Place { shard, position });
        assert!(before.is_none(), "an account is created once");
    }

    /// Creates an account whose id is `Missing`.
    pub(super) fn create(&mut self, account: Account) {
        let shard = self.map.shard_of(account.id).and_then(|shard| self.number_of(shard));
        self.insert(shard.expect("an id that is missing lies in a shard of this group"), account);
    }

    /// Where an id is.
    pub(super) fn whereabouts(&self, account: AccountId) -> Whereabouts {
        if let Some(place) = self.index.get(&account) {
            return Whereabouts::Here(*place);
        }
        match self.map.owner_of(account) {
            Some(owner) if owner == self.group => Whereabouts::Missing,
            Some(_) => Whereabouts::Elsewhere,
            None => Whereabouts::Nowhere,
        }
    }

    /// Whether an id is a shard's own account.
    pub(super) fn is_reserved(&self, account: AccountId) -> bool {
        u128::MAX - account.0 < self.map.owners.len() as u128
    }

    /// The map by which ids belong to groups.
    pub(super) fn map(&self) -> &ShardMap {
        &self.map
    }

    /// The row at a place.
    pub(super) fn row(&self, place: Place) -> &Row {
        self.shards[usize::from(place.shard)].rows.at(place.position as usize)
    }

    /// The row at a place, to change it.
    pub(super) fn row_mut(&mut self, place: Place) -> &mut Row {
        self.shards[usize::from(place.shard)].rows.at_mut(place.position as usize)
    }

    /// The shard of a place.
    pub(super) fn shard(&self, place: Place) -> ShardId {
        self.shards[usize::from(place.shard)].id
    }

    /// How many accounts there are, reserved ones included.
    pub(super) fn len(&self) -> usize {
        self.index.len()
    }

    /// All rows with their places, from a place on, shard by shard in the order of creation.
    pub(super) fn from(&self, place: Place) -> impl Iterator<Item = (Place, &Row)> {
        let shards = self.shards.iter().enumerate().skip(usize::from(place.shard));
        shards.flat_map(move |(number, shard)| {
            let number = number as u16;
            let start = if number == place.shard { place.position } else { 0 };
            let rows = shard.rows.from(start as usize).zip(start..);
            rows.map(move |(row, position)| (Place { shard: number, position }, row))
        })
    }
}

/// The accounts as an image has them.
pub(super) struct AccountsImage {
    shards: Vec<(ShardId, Frozen<Row, CHUNK>)>,
}

/// A row of an image: the shard, the account, its last posted transfer. Within a shard in the order of creation.
pub(super) type ImageRow = (ShardId, Account, Option<u64>);

impl Rows for AccountsImage {
    fn parts(&self) -> usize {
        self.shards.len()
    }

    fn len(&self, part: usize) -> usize {
        self.shards[part].1.len()
    }

    fn encode(&self, part: usize, row: usize, out: &mut Vec<u8>) {
        let (shard, rows) = &self.shards[part];
        let Row { account, last, busy: _ } = rows.at(row); // That it is busy follows from what is in doubt and what waits.
        (*shard, account, (*last != NO_TRANSFER).then_some(*last)).encode(out);
    }

    fn digest(&self, part: usize, row: usize, sum: &mut Sum) {
        let (shard, rows) = &self.shards[part];
        rows.at(row).digest(*shard, row as u32, sum);
    }
}

impl Accounts {
    /// The accounts as they are now.
    pub(super) fn image(&mut self) -> AccountsImage {
        let Accounts { group: _, map: _, shards, index: _ } = self;
        AccountsImage { shards: shards.iter_mut().map(|shard| (shard.id, shard.rows.freeze())).collect() }
    }

    /// Takes over the next row of an image of a state with so many posted transfers, and adds it to a digest.
    pub(super) fn load(&mut self, row: ImageRow, posted: u64, sum: &mut Sum) -> Result<(), Fault> {
        let (shard, account, last) = row;
        let number = self.number_of(shard).ok_or("an account in a shard of another group")?;
        if self.map.shard_of(account.id) != Some(shard) || self.index.get(&account.id).is_some() {
            return Err("an account in another shard than its own, or twice");
        }
        if last.is_some_and(|last| last >= posted) {
            return Err("an account whose last transfer is not among those posted");
        }
        self.insert(number, account);
        let place = *self.index.get(&account.id).expect("it was just put there");
        let row = self.row_mut(place);
        row.last = last.unwrap_or(NO_TRANSFER);
        row.digest(shard, place.position, sum);
        Ok(())
    }

    /// Whether there is an account at a place.
    pub(super) fn has(&self, place: Place) -> bool {
        let shard = self.shards.get(usize::from(place.shard));
        shard.is_some_and(|shard| (place.position as usize) < shard.rows.len())
    }
}
