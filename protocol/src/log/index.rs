//! Where the entries of a group are: eight bytes a slot.

use crate::ids::Slot;

/// Where a record begins.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct Position {
    /// The segment's number.
    pub segment: u32,
    /// Bytes from the segment's start.
    pub offset: u32,
}

impl Position {
    fn pack(self) -> u64 {
        u64::from(self.segment) << 32 | u64::from(self.offset)
    }

    fn unpack(packed: u64) -> Position {
        Position { segment: (packed >> 32) as u32, offset: packed as u32 }
    }
}

/// Slots in a chunk: chunks never move, so growing never stalls.
const CHUNK: usize = 8192;

/// The record of each slot from 0 on. A record with several entries is the record of several slots.
#[derive(Clone, Debug, Default)]
pub struct Index {
    chunks: Vec<Vec<u64>>,
}

impl Index {
    /// The number of slots.
    pub fn len(&self) -> Slot {
        match self.chunks.last() {
            None => Slot(0),
            Some(last) => Slot(0).plus((self.chunks.len() - 1) * CHUNK + last.len()),
        }
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.chunks.is_empty()
    }

    /// The record of the next slot.
    pub fn push(&mut self, position: Position) {
        match self.chunks.last_mut() {
            Some(last) if last.len() < CHUNK => last.push(position.pack()),
            _ => {
                // The first chunk grows, so that a group with little in its log takes little memory.
                let mut chunk = Vec::with_capacity(if self.chunks.is_empty() { 0 } else { CHUNK });
                chunk.push(position.pack());
                self.chunks.push(chunk);
            }
        }
    }

    /// Forgets the slots from `length` on.
    pub fn truncate(&mut self, length: Slot) {
        let length = length.distance_from(Slot(0));
        self.chunks.truncate(length.div_ceil(CHUNK));
        if let Some(last) = self.chunks.last_mut()
            && !length.is_multiple_of(CHUNK)
        {
            last.truncate(length % CHUNK);
        }
    }

    /// The record of a slot, if it is stored.
    pub fn get(&self, slot: Slot) -> Option<Position> {
        let slot = slot.distance_from(Slot(0));
        self.chunks.get(slot / CHUNK)?.get(slot % CHUNK).copied().map(Position::unpack)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slots_are_found_at_and_around_the_edges_of_chunks() {
        let at = |n: usize| Position { segment: n as u32 / 100, offset: 4096 + n as u32 };
        for length in [0, 1, CHUNK - 1, CHUNK, CHUNK + 1, 2 * CHUNK] {
            let mut index = Index::default();
            (0..2 * CHUNK + 5).for_each(|n| index.push(at(n)));
            index.truncate(Slot(length as u64));
            assert_eq!(index.len(), Slot(length as u64));
            assert_eq!(index.is_empty(), length == 0);
            for n in [0, 1, CHUNK - 1, CHUNK, CHUNK + 1, 2 * CHUNK, 2 * CHUNK + 4] {
                assert_eq!(index.get(Slot(n as u64)), (n < length).then(|| at(n)), "slot {n} of {length}");
            }
            index.push(at(7));
            assert_eq!(index.get(Slot(length as u64)), Some(at(7)), "the slot after {length}");
        }
    }

    #[test]
    fn a_slot_beyond_all_memory_is_not_found() {
        let mut index = Index::default();
        index.push(Position { segment: 1, offset: 4096 });
        assert_eq!(index.get(Slot(u64::MAX)), None);
    }
}
