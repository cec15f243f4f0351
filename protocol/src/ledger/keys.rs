//! The keys and their values, per shard, in order.

use std::collections::BTreeMap;
use std::ops::Bound;

use xxhash_rust::xxh3::Xxh3;

use super::image::{Fault, Rows as ImageRows};
use super::operations::{Key, REPLIES_LIMIT, ROW_BYTES, Rows, SCAN_LIMIT, Scan, Value};
use crate::ids::{GroupId, ShardId};
use crate::placement::map::ShardMap;
use crate::wire::codec::Encode;

/// The keys of a group.
#[derive(Clone)]
pub(super) struct Keys {
    // A scan is within one shard, and shards will move.
    shards: BTreeMap<ShardId, BTreeMap<Key, Value>>,
    len: u64,
    bytes: u64,
    sum: u128,
}

impl Keys {
    /// No keys yet, in the shards of a group.
    pub(super) fn new(group: GroupId, map: &ShardMap) -> Keys {
        let shards = map.shards_of(group).into_iter().map(|shard| (shard, BTreeMap::new())).collect();
        Keys { shards, len: 0, bytes: 0, sum: 0 }
    }

    /// What a key holds.
    pub(super) fn get(&self, shard: ShardId, key: &Key) -> Option<&Value> {
        self.shards.get(&shard)?.get(key)
    }

    /// Sets a key, or removes it.
    ///
    /// # Panics
    /// If the shard is not one of the group's.
    pub(super) fn set(&mut self, shard: ShardId, key: &Key, value: Option<Value>) {
        let rows = self.shards.get_mut(&shard).expect("a key that is written lies in a shard of this group");
        let added = value.as_ref().map(|value| (hash(key, value), size(key, value)));
        let before = match value {
            Some(value) => rows.insert(key.clone(), value),
            None => rows.remove(key),
        };
        if let Some((hash, size)) = added {
            (self.len, self.bytes, self.sum) = (self.len + 1, self.bytes + size, self.sum.wrapping_add(hash));
        }
        if let Some(before) = before {
            self.len -= 1;
            self.bytes -= size(key, &before);
            self.sum = self.sum.wrapping_sub(hash(key, &before));
        }
    }

    /// The rows of a range: up to its limit, up to [`SCAN_LIMIT`], and up to [`REPLIES_LIMIT`] bytes.
    pub(super) fn scan(&self, shard: ShardId, scan: &Scan) -> Rows {
        let mut found = Rows::default();
        let Some(rows) = self.shards.get(&shard) else { return found };
        let limit = scan.limit.min(SCAN_LIMIT) as usize;
        // The part itself is a key, too; between it and what lies below it there may be other parts.
        let below = Key::new(scan.from.below_part());
        let itself = rows.get_key_value(&scan.from).filter(|_| scan.from.as_bytes() == scan.from.part());
        let start = match &below {
            Some(below) if *below > scan.from => Some(below),
            Some(_) => Some(&scan.from),
            None => None, // The part alone is as long as a key may be.
        };
        let rest = start.into_iter().flat_map(|start| rows.range((Bound::Included(start), Bound::Unbounded)));
        let rest = rest.take_while(|(key, _)| scan.covers(key));
        let mut bytes = 0;
        for (key, value) in itself.filter(|(key, _)| scan.covers(key)).into_iter().chain(rest) {
            bytes += ROW_BYTES + key.as_bytes().len() + value.as_bytes().len();
            if found.rows.len() == limit || bytes > REPLIES_LIMIT / 2 {
                found.next = Some(key.clone());
                break;
            }
            found.rows.push((key.clone(), value.clone()));
        }
        found
    }

    /// How many keys there are.
    pub(super) fn len(&self) -> u64 {
        self.len
    }

    /// The bytes of all keys and values.
    pub(super) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// The order-free digest of all rows.
    pub(super) fn sum(&self) -> u128 {
        self.sum
    }

    /// All rows from a key on, shard by shard.
    pub(super) fn from(&self, shard: ShardId, key: Option<&Key>) -> impl Iterator<Item = (ShardId, &Key, &Value)> {
        let shards = self.shards.range(shard..);
        shards.flat_map(move |(number, rows)| {
            let from = key.filter(|_| *number == shard).map_or(Bound::Unbounded, Bound::Included);
            rows.range((from, Bound::Unbounded)).map(|(key, value)| (*number, key, value))
        })
    }
}

fn size(key: &Key, value: &Value) -> u64 {
    (key.as_bytes().len() + value.as_bytes().len()) as u64
}

fn hash(key: &Key, value: &Value) -> u128 {
    let mut hash = Xxh3::new();
    hash.update(b"k");
    hash.update(&(key.as_bytes().len() as u64).to_be_bytes());
    hash.update(key.as_bytes());
    hash.update(value.as_bytes());
    hash.digest128()
}

/// The keys as an image has them.
pub(super) struct KeysImage(Vec<(ShardId, Key, Value)>);

/// A row of an image; within a shard in the order of the keys.
pub(super) type ImageRow = (ShardId, Key, Value);

impl ImageRows for KeysImage {
    fn len(&self, _part: usize) -> usize {
        self.0.len()
    }

    fn encode(&self, _part: usize, row: usize, out: &mut Vec<u8>) {
        self.0[row].encode(out);
    }
}

impl Keys {
    /// The keys as they are now.
    pub(super) fn image(&mut self) -> KeysImage {
        let Keys { shards, len: _, bytes: _, sum: _ } = self;
        let rows = shards.iter().flat_map(|(shard, rows)| rows.iter().map(|(k, v)| (*shard, k.clone(), v.clone())));
        KeysImage(rows.collect())
    }

    /// Takes over the next row of an image. `map` says where the key belongs.
    pub(super) fn load(&mut self, (shard, key, value): ImageRow, map: &ShardMap) -> Result<(), Fault> {
        let after_the_last = |rows: &BTreeMap<Key, Value>| rows.last_key_value().is_none_or(|(last, _)| *last < key);
        if map.shard_of_key(&key) != shard || !self.shards.get(&shard).is_some_and(after_the_last) {
            return Err("a key in another shard than its own, or out of order");
        }
        self.set(shard, &key, Some(value));
        Ok(())
    }
}
