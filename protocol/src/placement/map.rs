//! The shard map: accounts to shards, shards to groups, at an epoch.

use crate::ids::{AccountId, Epoch, GroupId, ShardId};
use crate::ledger::operations::Key;
use crate::message::operator::Nothing;
use crate::wire::codec::{wire_enum, wire_struct};

/// The most shards of a cluster.
pub const SHARDS_LIMIT: usize = 4096;

/// Which group owns what, at one epoch.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct ShardMap {
    /// The version.
    pub epoch: Epoch,
    /// How accounts become shards.
    pub mode: Mode,
    /// The owner of each shard, by its number.
    pub owners: Vec<GroupId>,
}
wire_struct!(ShardMap { epoch, mode, owners });

/// How accounts become shards.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Mode {
    /// By range of ids, one range a shard; ids outside all ranges do not exist.
    Range(Vec<AccountRange>),
    /// By a hash of the id.
    Hash(Nothing),
}
wire_enum!(Mode { 1 => Range, 2 => Hash });

/// A range of ids, both ends included.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct AccountRange {
    /// The first.
    pub first: AccountId,
    /// The last.
    pub last: AccountId,
}
wire_struct!(AccountRange { first, last });

impl ShardMap {
    /// The reserved account of a shard: the other side of its opening balances.
    pub fn reserved(shard: ShardId) -> AccountId {
        AccountId(u128::MAX - u128::from(shard.0))
    }

    /// The shard that an account belongs to; nothing if the id is outside all ranges.
    pub fn shard_of(&self, account: AccountId) -> Option<ShardId> {
        let from_the_end = u128::MAX - account.0;
        if from_the_end < self.owners.len() as u128 {
            return Some(ShardId(from_the_end as u16));
        }
        match &self.mode {
            Mode::Range(ranges) => {
                let found = ranges.iter().position(|range| range.first <= account && account <= range.last)?;
                Some(ShardId(found as u16))
            }
            Mode::Hash(_) => {
                let hash = xxhash_rust::xxh3::xxh3_64(&account.0.to_be_bytes());
                Some(ShardId((hash % self.owners.len() as u64) as u16))
            }
        }
    }

    /// The shard that a key belongs to: by a hash of its part, so that keys of one part lie together.
    pub fn shard_of_key(&self, key: &Key) -> ShardId {
        let hash = xxhash_rust::xxh3::xxh3_64(key.part());
        ShardId((hash % self.owners.len() as u64) as u16)
    }

    /// The group that owns a key.
    pub fn owner_of_key(&self, key: &Key) -> GroupId {
        self.owners[usize::from(self.shard_of_key(key).0)]
    }

    /// The group that owns an account; nothing if the id is outside all ranges.
    pub fn owner_of(&self, account: AccountId) -> Option<GroupId> {
        self.shard_of(account).map(|shard| self.owners[usize::from(shard.0)])
    }

    /// The shards that a group owns.
    pub fn shards_of(&self, group: GroupId) -> Vec<ShardId> {
        (0..self.owners.len()).filter(|index| self.owners[*index] == group).map(|index| ShardId(index as u16)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn range(first: u128, last: u128) -> AccountRange {
        AccountRange { first: AccountId(first), last: AccountId(last) }
    }

    #[test]
    fn ranges_hashes_and_reserved_accounts() {
        let owners = vec![GroupId(1), GroupId(2)];
        let map = ShardMap { epoch: Epoch(1), mode: Mode::Range(vec![range(1, 10), range(11, 20)]), owners };
        assert_eq!(map.owner_of(AccountId(10)), Some(GroupId(1)));
        assert_eq!(map.owner_of(AccountId(11)), Some(GroupId(2)));
        assert_eq!(map.owner_of(AccountId(21)), None);
        assert_eq!(map.owner_of(AccountId(0)), None);
        assert_eq!(map.owner_of(ShardMap::reserved(ShardId(1))), Some(GroupId(2)));
        let hashed = ShardMap { mode: Mode::Hash(Nothing {}), ..map };
        let ones = (0..1000).filter(|id| hashed.owner_of(AccountId(*id)) == Some(GroupId(1))).count();
        assert!((400..600).contains(&ones));
    }
}
