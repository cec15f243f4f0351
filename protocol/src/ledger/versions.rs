//! When accounts and keys last changed: what reads that are made twice compare.
//!
//! A change is a posting, a write, and the beginning and the end of a doubt. Versions lie in buckets by hash, so that an
//! absent key has one, too; a bucket that is shared costs a needless repetition and no more. Versions are no part of the
//! replicated state: between two replicas an equal version still means an unchanged one, because it is the slot of the
//! change, or a later slot before which nothing changed.

use super::accounts::Place;
use super::operations::Key;
use crate::ids::Slot;
use crate::planted::{Bug, is_planted};

/// Buckets for each part of the large tables.
const BUCKETS_PER_PART: usize = 64;

/// The slots of the latest changes.
#[derive(Clone)]
pub(super) struct Versions {
    accounts: Box<[Slot]>,
    keys: Box<[Slot]>,
    parts: Box<[Slot]>,
}

impl Versions {
    /// Nothing has changed since slot 0.
    pub(super) fn new(parts: usize) -> Versions {
        let buckets = || vec![Slot(0); parts * BUCKETS_PER_PART].into_boxed_slice();
        Versions { accounts: buckets(), keys: buckets(), parts: buckets() }
    }

    /// As if everything had changed last before slot `applied`: that is a later slot than the true one, before which
    /// nothing changed, so a read that is made twice over a state that was loaded in between is made once more.
    pub(super) fn since(applied: Slot, parts: usize) -> Versions {
        let mut versions = Versions::new(parts);
        let Versions { accounts, keys, parts } = &mut versions;
        [accounts, keys, parts].into_iter().for_each(|buckets| buckets.fill(applied));
        versions
    }

    /// An account changes by the entry at `slot`.
    pub(super) fn touch_account(&mut self, place: Place, slot: Slot) {
        let bucket = bucket_of(place, self.accounts.len());
        self.accounts[bucket] = slot.next();
    }

    /// A key changes by the entry at `slot`.
    pub(super) fn touch_key(&mut self, key: &Key, slot: Slot) {
        if is_planted(Bug::VersionsStay) {
            return;
        }
        let (bucket, part) = (hash(key.as_bytes(), self.keys.len()), hash(key.part(), self.parts.len()));
        self.keys[bucket] = slot.next();
        self.parts[part] = slot.next();
    }

    /// The version of an account.
    pub(super) fn of_account(&self, place: Place) -> Slot {
        self.accounts[bucket_of(place, self.accounts.len())]
    }

    /// The version of a key.
    pub(super) fn of_key(&self, key: &Key) -> Slot {
        self.keys[hash(key.as_bytes(), self.keys.len())]
    }

    /// The version of everything in a key's part.
    pub(super) fn of_part(&self, key: &Key) -> Slot {
        self.parts[hash(key.part(), self.parts.len())]
    }
}

fn bucket_of(place: Place, buckets: usize) -> usize {
    // Neighbours lie in different buckets; the number of buckets is a power of two.
    (place.position as usize ^ (usize::from(place.shard) << 5)) & (buckets - 1)
}

fn hash(bytes: &[u8], buckets: usize) -> usize {
    xxhash_rust::xxh3::xxh3_64(bytes) as usize & (buckets - 1)
}
