//! The keys that clients use, the same in every client of a run: in each group one part of the keys, below it some of
//! every kind.

use drachma_protocol::ids::GroupId;
use drachma_protocol::ledger::operations::Key;

use crate::shape::Shape;

/// The bytes of what is appended to a list, or put where every value is another one.
pub const TOKEN: usize = 6;
/// The keys of the ring.
pub const RING: usize = 7;
/// The keys whose values are exchanged.
pub const SEATS: usize = 5;
/// So many lists of a group are in use at a time.
pub const LISTS: u64 = 3;
/// So many counters a group has.
pub const COUNTERS: u64 = 2;
/// So many keys of no order a group has.
pub const ODDS: u64 = 3;
/// In the search for a part that belongs to a group.
const TRIES: u32 = 100_000;

/// What a key is used for.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum Street {
    /// Tokens are appended; nothing else writes it.
    List,
    /// Grows by one at a time.
    Counter,
    /// Replaced by a new token, in all groups together, on condition that it holds a known one.
    Chain,
    /// Replaced by a new token, in all groups together.
    Board,
    /// Holds the number of the next key of the ring.
    Ring,
    /// Holds a number that is exchanged with those of others.
    Seat,
    /// Anything.
    Odd,
}

impl Street {
    const ALL: [(Street, u8); 7] = [
        (Street::List, b'l'),
        (Street::Counter, b'c'),
        (Street::Chain, b'h'),
        (Street::Board, b'b'),
        (Street::Ring, b'r'),
        (Street::Seat, b's'),
        (Street::Odd, b'x'),
    ];

    /// What a key is used for; nothing if it is not one of the clients'.
    pub fn of(key: &Key) -> Option<Street> {
        let letter = *key.as_bytes().get(key.part().len() + 1)?;
        Street::ALL.iter().find(|(_, own)| *own == letter).map(|(street, _)| *street)
    }

    fn letter(self) -> char {
        Street::ALL.iter().find(|(street, _)| *street == self).map_or('?', |(_, letter)| char::from(*letter))
    }
}

/// Which keys there may be.
#[derive(Clone, Debug)]
pub struct Streets {
    /// The part of each group that owns keys.
    pub parts: Vec<(GroupId, String)>,
}

impl Streets {
    /// The keys of a cluster.
    pub fn of(shape: &Shape) -> Streets {
        let part = |group: &GroupId| {
            let parts = (0..TRIES).map(|number| format!("p{number}"));
            let owned =
                |part: &String| Key::new(part.clone()).is_some_and(|key| shape.map.owner_of_key(&key) == *group);
            parts.into_iter().find(owned).map(|part| (*group, part))
        };
        Streets { parts: shape.groups.iter().filter_map(|(group, _)| part(group)).collect() }
    }

    /// A key below the part at `place`, modulo their number.
    ///
    /// # Panics
    /// If no group owns keys.
    pub fn key(&self, place: usize, street: Street, number: u64) -> Key {
        let (_, part) = &self.parts[place % self.parts.len()];
        Key::new(format!("{part}/{}{number:04}", street.letter())).expect("a short name is a key")
    }

    /// The key of this kind in every group.
    pub fn everywhere(&self, street: Street) -> Vec<Key> {
        (0..self.parts.len()).map(|place| self.key(place, street, 0)).collect()
    }

    /// So many keys, spread over the groups.
    pub fn spread(&self, street: Street, count: usize) -> Vec<Key> {
        (0..count).map(|number| self.key(number, street, number as u64)).collect()
    }

    /// The first key of a kind below a part, and the first one behind all of them.
    pub fn range(&self, place: usize, street: Street) -> (Key, Key) {
        let (_, part) = &self.parts[place % self.parts.len()];
        let end = char::from(street.letter() as u8 + 1);
        let named = |name: String| Key::new(name).expect("a short name is a key");
        (named(format!("{part}/{}", street.letter())), named(format!("{part}/{end}")))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use drachma_protocol::rng::Rng;

    use super::*;

    #[test]
    fn every_group_has_keys_of_every_kind_that_tell_what_they_are_for() {
        for seed in 0..50 {
            let shape = Shape::draw(&mut Rng::new(seed), 3);
            let streets = Streets::of(&shape);
            assert_eq!(streets.parts.len(), 3, "seed {seed}");
            let mut names = BTreeSet::new();
            for place in 0..3 {
                for (street, _) in Street::ALL {
                    let key = streets.key(place, street, 1);
                    assert_eq!(shape.map.owner_of_key(&key), streets.parts[place].0);
                    assert_eq!(Street::of(&key), Some(street));
                    let (from, to) = streets.range(place, street);
                    assert!(from <= key && key < to);
                    assert!(names.insert(key));
                }
            }
        }
    }
}
