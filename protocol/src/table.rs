//! The hash table of replicated state: seeded, split so that growing never stalls, and without iteration.
//!
//! One growing table moves all its rows at once: 0.4 s at seven million rows. Every replica would stall at the same
//! slot, so failover would not help. Split in parts, each growth moves a thousandth. The seed is given to the
//! constructor and differs per node, because clients choose the ids. There is no iteration, so the order of the
//! hashes cannot leak into the state.

use std::hash::{BuildHasher, Hash};

use foldhash::quality::FixedState;
use hashbrown::HashTable;

/// A map from `K` to `V`.
#[derive(Clone)]
pub struct Table<K, V> {
    hasher: FixedState,
    parts: Vec<HashTable<(K, V)>>,
    len: usize,
}

/// The usual number of parts.
pub const PARTS: usize = 1024;

impl<K: Eq + Hash, V> Table<K, V> {
    /// An empty table of `parts` parts.
    ///
    /// # Panics
    /// If `parts` is not a power of two.
    pub fn new(seed: u64, parts: usize) -> Table<K, V> {
        assert!(parts.is_power_of_two(), "the number of parts is a power of two");
        Table { hasher: FixedState::with_seed(seed), parts: (0..parts).map(|_| HashTable::new()).collect(), len: 0 }
    }

    /// The number of rows.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there are no rows.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The value of `key`.
    pub fn get(&self, key: &K) -> Option<&V> {
        let hash = self.hasher.hash_one(key);
        self.parts[self.part(hash)].find(hash, |row| row.0 == *key).map(|row| &row.1)
    }

    /// The value of `key`, to change it.
    pub fn get_mut(&mut self, key: &K) -> Option<&mut V> {
        let hash = self.hasher.hash_one(key);
        let part = self.part(hash);
        self.parts[part].find_mut(hash, |row| row.0 == *key).map(|row| &mut row.1)
    }

    /// Sets the value of `key` and returns the one before.
    pub fn insert(&mut self, key: K, value: V) -> Option<V> {
        let hash = self.hasher.hash_one(&key);
        let part = self.part(hash);
        if let Some(row) = self.parts[part].find_mut(hash, |row| row.0 == key) {
            return Some(std::mem::replace(&mut row.1, value));
        }
        let hasher = &self.hasher;
        self.parts[part].insert_unique(hash, (key, value), |row| hasher.hash_one(&row.0));
        self.len += 1;
        None
    }

    /// Takes `key` out and returns its value.
    pub fn remove(&mut self, key: &K) -> Option<V> {
        let hash = self.hasher.hash_one(key);
        let part = self.part(hash);
        let entry = self.parts[part].find_entry(hash, |row| row.0 == *key).ok()?;
        self.len -= 1;
        Some(entry.remove().0.1)
    }

    fn part(&self, hash: u64) -> usize {
        part_of(hash, self.parts.len())
    }
}

/// Finds rows by their keys that lie elsewhere, each at a position: of a row it holds the hash and the position.
#[derive(Clone)]
pub struct Index {
    hasher: FixedState,
    // The hash is kept, because growing must not look at the rows.
    parts: Vec<HashTable<(u64, u32)>>,
}

impl Index {
    /// An empty index of `parts` parts.
    ///
    /// # Panics
    /// If `parts` is not a power of two.
    pub fn new(seed: u64, parts: usize) -> Index {
        assert!(parts.is_power_of_two(), "the number of parts is a power of two");
        Index { hasher: FixedState::with_seed(seed), parts: (0..parts).map(|_| HashTable::new()).collect() }
    }

    /// The position of `key`; `is` tells whether the row at a position has it.
    pub fn find<K: Hash>(&self, key: &K, is: impl Fn(u32) -> bool) -> Option<u32> {
        let hash = self.hasher.hash_one(key);
        let part = part_of(hash, self.parts.len());
        self.parts[part].find(hash, |row| row.0 == hash && is(row.1)).map(|row| row.1)
    }

    /// Adds the position of a key; false if the key has one. `is` tells whether the row at a position has it.
    pub fn insert<K: Hash>(&mut self, key: &K, position: u32, is: impl Fn(u32) -> bool) -> bool {
        let hash = self.hasher.hash_one(key);
        let part = part_of(hash, self.parts.len());
        if self.parts[part].find(hash, |row| row.0 == hash && is(row.1)).is_some() {
            return false;
        }
        self.parts[part].insert_unique(hash, (hash, position), |row| row.0);
        true
    }
}

fn part_of(hash: u64, parts: usize) -> usize {
    // The table itself uses the lowest and the highest seven bits.
    (hash >> 32) as usize & (parts - 1)
}

#[cfg(test)]
mod tests {
    use super::{Index, Table};

    #[test]
    fn positions_are_found_by_the_keys_of_their_rows() {
        let rows: Vec<u64> = (0..1000).map(|row| row * 7).collect();
        let mut index = Index::new(5, 8);
        for (position, row) in rows.iter().enumerate() {
            assert!(index.insert(row, position as u32, |position| rows[position as usize] == *row));
        }
        assert!(!index.insert(&7, 1000, |position| rows[position as usize] == 7), "a key has one position");
        let find = |key: u64| index.find(&key, |position| rows[position as usize] == key);
        assert_eq!((find(0), find(6993), find(6994)), (Some(0), Some(999), None));
    }

    #[test]
    fn rows_are_found_replaced_and_removed() {
        let mut table = Table::new(5, 8);
        for key in 0..1000u64 {
            assert_eq!(table.insert(key, key * 2), None);
        }
        assert_eq!(table.insert(7, 1), Some(14));
        assert_eq!(table.len(), 1000);
        assert_eq!(table.get(&7), Some(&1));
        assert_eq!(table.remove(&7), Some(1));
        assert_eq!(table.remove(&7), None);
        assert_eq!((table.get(&7), table.len()), (None, 999));
    }
}
