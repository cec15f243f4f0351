//! Keys and values in order, in pieces that pictures share.
//!
//! A map whose inner nodes are shared too would be copied from the root to the leaf at each write after a picture, and
//! count references on the way at every one. Here a table of the pieces is the ledger's own, and a piece is counted only
//! once it was shared; a picture costs a few instructions for each piece.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::Arc;

use bytes::Bytes;

use super::chunk::Chunk;
use super::operations::{Key, Value};

/// The most rows of a piece.
const PIECE: usize = 64;

/// Rows in the order of their keys.
pub(super) type Piece = Vec<(Key, Value)>;

/// The keys of a shard.
#[derive(Clone, Default)]
pub(super) struct Sorted {
    // By the least key that may lie in the piece: the keys before it may lie in the piece before it. The bound of the
    // very first is empty.
    pieces: BTreeMap<Bytes, Chunk<(Key, Value)>>,
}

impl Sorted {
    /// What a key holds.
    pub(super) fn get(&self, key: &Key) -> Option<&Value> {
        let rows = self.pieces.get(self.bound(key)?)?.rows();
        find(rows, key).ok().map(|index| &rows[index].1)
    }

    /// Sets a key; what it held before.
    pub(super) fn insert(&mut self, key: Key, value: Value) -> Option<Value> {
        let Some(bound) = self.bound(&key).cloned() else {
            self.pieces.insert(Bytes::new(), Chunk::Own(vec![(key, value)]));
            return None;
        };
        let rows = self.piece(&bound).own();
        let index = match find(rows, &key) {
            Ok(index) => return Some(std::mem::replace(&mut rows[index].1, value)),
            Err(index) => index,
        };
        if rows.len() < PIECE {
            rows.insert(index, (key, value));
        } else if index == rows.len() {
            // Keys that come in their order fill their pieces.
            self.pieces.insert(bound_of(&key), Chunk::Own(vec![(key, value)]));
        } else {
            let mut upper = rows.split_off(PIECE / 2);
            if index <= rows.len() {
                rows.insert(index, (key, value))
            } else {
                upper.insert(index - PIECE / 2, (key, value))
            }
            self.pieces.insert(bound_of(&upper[0].0), Chunk::Own(upper));
        }
        None
    }

    /// Removes a key; what it held.
    pub(super) fn remove(&mut self, key: &Key) -> Option<Value> {
        let bound = self.bound(key)?.clone();
        let index = find(self.pieces.get(&bound)?.rows(), key).ok()?;
        let rows = self.piece(&bound).own();
        let (_, value) = rows.remove(index);
        if rows.is_empty() {
            self.pieces.remove(&bound);
        }
        Some(value)
    }

    /// The rows from a key on, or all.
    pub(super) fn from<'a>(&'a self, key: Option<&Key>) -> impl Iterator<Item = (&'a Key, &'a Value)> + use<'a> {
        let bound = key.and_then(|key| self.bound(key)).map_or(Bound::Unbounded, |bound| Bound::Included(&bound[..]));
        let pieces = self.pieces.range::<[u8], _>((bound, Bound::Unbounded));
        let mut pieces = pieces.map(|(_, piece)| piece.rows());
        let first = pieces.next().unwrap_or_default();
        let start = key.map_or(0, |key| first.partition_point(|(found, _)| found < key));
        first[start..].iter().chain(pieces.flatten()).map(|(key, value)| (key, value))
    }

    /// The greatest key.
    pub(super) fn last(&self) -> Option<&Key> {
        self.pieces.last_key_value()?.1.rows().last().map(|(key, _)| key)
    }

    /// A picture of all rows, in their order.
    pub(super) fn freeze(&mut self) -> impl Iterator<Item = Arc<Piece>> {
        self.pieces.values_mut().map(Chunk::share)
    }

    /// The bound of the piece in which a key lies, or would lie.
    fn bound(&self, key: &Key) -> Option<&Bytes> {
        let before = self.pieces.range::<[u8], _>((Bound::Unbounded, Bound::Included(key.as_bytes())));
        before.map(|(bound, _)| bound).next_back()
    }

    fn piece(&mut self, bound: &Bytes) -> &mut Chunk<(Key, Value)> {
        self.pieces.get_mut(bound).expect("it is the bound of a piece")
    }
}

/// A copy, because a key may be a slice of something large.
fn bound_of(key: &Key) -> Bytes {
    Bytes::copy_from_slice(key.as_bytes())
}

fn find(rows: &[(Key, Value)], key: &Key) -> Result<usize, usize> {
    rows.binary_search_by(|(found, _)| found.cmp(key))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::{PIECE, Sorted};
    use crate::ledger::operations::{Key, Value};
    use crate::rng::Rng;

    fn key(number: u64) -> Key {
        Key::new(number.to_be_bytes().to_vec()).expect("a key")
    }

    #[test]
    fn it_does_what_a_map_does_and_pictures_stay_as_they_were() {
        for seed in 0..30 {
            let mut rng = Rng::new(seed);
            let (mut sorted, mut map): (Sorted, BTreeMap<Key, Value>) = Default::default();
            let mut pictures = Vec::new();
            // Some grow in order, some at random, and all shrink at the end.
            for step in 0..4000u64 {
                let removes = rng.chance(if step < 2500 { 20 } else { 80 });
                let at = key(if seed % 3 == 0 && !removes { step } else { rng.below(1500) });
                let value = Value::from(step as i64);
                if removes {
                    assert_eq!(sorted.remove(&at), map.remove(&at), "seed {seed}, step {step}");
                } else {
                    assert_eq!(
                        sorted.insert(at.clone(), value.clone()),
                        map.insert(at, value),
                        "seed {seed}, step {step}"
                    );
                }
                let at = key(rng.below(1500));
                assert_eq!(sorted.get(&at), map.get(&at));
                assert!(sorted.from(Some(&at)).take(5).eq(map.range(&at..).take(5)), "seed {seed}, step {step}");
                if step % 500 == 0 {
                    pictures.push((sorted.freeze().collect::<Vec<_>>(), map.clone()));
                    assert!(sorted.from(None).eq(map.iter()), "seed {seed}, step {step}");
                    assert_eq!(sorted.last(), map.last_key_value().map(|(last, _)| last));
                }
            }
            for (pieces, map) in &pictures {
                assert!(pieces.iter().all(|piece| (1..=PIECE).contains(&piece.len())));
                assert!(
                    pieces.iter().flat_map(|piece| piece.iter()).map(|(k, v)| (k, v)).eq(map.iter()),
                    "seed {seed}"
                );
            }
        }
    }
}
