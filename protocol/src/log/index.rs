//! Where the entries of a group are: eight bytes a slot.

use std::collections::VecDeque;

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

/// The record of each slot that is still kept. A record with several entries is the record of several slots.
#[derive(Clone, Debug, Default)]
pub struct Index {
    /// The first slot that is kept.
    start: Slot,
    /// The slot of the first row of the first chunk, at or below `start`.
    origin: Slot,
    chunks: VecDeque<Vec<u64>>,
}

impl Index {
    /// Nothing but the knowledge that there are `start` slots before the next.
    pub fn starting_at(start: Slot) -> Index {
        Index { start, origin: start, chunks: VecDeque::new() }
    }

    /// The number of slots, those that are no longer kept included.
    pub fn len(&self) -> Slot {
        match self.chunks.back() {
            None => self.origin,
            Some(last) => self.origin.plus((self.chunks.len() - 1) * CHUNK + last.len()),
        }
    }

    /// Whether none is kept.
    pub fn is_empty(&self) -> bool {
        self.start == self.len()
    }

    /// The first slot that is kept.
    pub fn start(&self) -> Slot {
        self.start
    }

    /// The record of the next slot.
    pub fn push(&mut self, position: Position) {
        match self.chunks.back_mut() {
            Some(last) if last.len() < CHUNK => last.push(position.pack()),
            _ => {
                // The first chunk grows, so that a group with little in its log takes little memory.
                let mut chunk = Vec::with_capacity(if self.chunks.is_empty() { 0 } else { CHUNK });
                chunk.push(position.pack());
                self.chunks.push_back(chunk);
            }
        }
    }

    /// Forgets the slots from `length` on, as far as they are kept.
    pub fn truncate(&mut self, length: Slot) {
        let length = length.max(self.start).distance_from(self.origin);
        self.chunks.truncate(length.div_ceil(CHUNK));
        if let Some(last) = self.chunks.back_mut()
            && !length.is_multiple_of(CHUNK)
        {
            last.truncate(length % CHUNK);
        }
    }

    /// Forgets the slots below `start`; if there are fewer, there are `start` slots from now on.
    pub fn release(&mut self, start: Slot) {
        if start >= self.len() {
            *self = Index::starting_at(start.max(self.start));
            return;
        }
        self.start = self.start.max(start);
        while self.start.distance_from(self.origin) >= CHUNK {
            self.chunks.pop_front();
            self.origin = self.origin.plus(CHUNK);
        }
    }

    /// The record of a slot, if it is kept.
    pub fn get(&self, slot: Slot) -> Option<Position> {
        if slot < self.start {
            return None;
        }
        let slot = slot.distance_from(self.origin);
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

    #[test]
    fn slots_are_let_go_at_the_front_at_and_around_the_edges_of_chunks() {
        let at = |n: usize| Position { segment: 1, offset: n as u32 };
        for start in [0, 1, CHUNK - 1, CHUNK, CHUNK + 1, 2 * CHUNK, 2 * CHUNK + 5, 3 * CHUNK] {
            let mut index = Index::default();
            (0..2 * CHUNK + 5).for_each(|n| index.push(at(n)));
            index.release(Slot(start as u64));
            index.release(Slot(0));
            let length = start.max(2 * CHUNK + 5);
            assert_eq!((index.start(), index.len()), (Slot(start as u64), Slot(length as u64)));
            assert_eq!(index.is_empty(), start >= 2 * CHUNK + 5);
            index.push(at(length));
            for n in [0, 1, CHUNK - 1, CHUNK, CHUNK + 1, 2 * CHUNK + 4, length, length + 1] {
                let kept = n >= start && n <= length;
                assert_eq!(index.get(Slot(n as u64)), kept.then(|| at(n)), "slot {n} from {start}");
            }
            index.truncate(Slot(0));
            assert_eq!((index.start(), index.len()), (Slot(start as u64), Slot(start as u64)));
        }
    }
}
