//! Rows in the order of their arrival, in chunks: growing never moves a row, and a picture of all of them shares the
//! chunks.
//!
//! A picture ([`Frozen`]) costs a few instructions for each chunk. Afterwards a chunk that changes is copied first, once.
//! A chunk is either the arena's own or shared, and only a shared one is reference-counted: counting all of them would
//! cost a locked instruction at each change, and a posting makes two.

use std::sync::Arc;

/// An append-only list whose rows can be changed in place. `CHUNK` rows are allocated, shared and copied at a time.
#[derive(Clone)]
pub(super) struct Arena<T, const CHUNK: usize> {
    chunks: Vec<Chunk<T>>,
    len: usize,
}

#[derive(Clone)]
enum Chunk<T> {
    Own(Vec<T>),
    /// With pictures that may still exist.
    Shared(Arc<Vec<T>>),
}

impl<T: Clone> Chunk<T> {
    fn rows(&self) -> &[T] {
        match self {
            Chunk::Own(rows) => rows,
            Chunk::Shared(rows) => rows,
        }
    }

    fn own(&mut self) -> &mut Vec<T> {
        if let Chunk::Shared(rows) = self {
            *self = Chunk::Own(Arc::unwrap_or_clone(std::mem::take(rows)));
        }
        match self {
            Chunk::Own(rows) => rows,
            Chunk::Shared(_) => unreachable!("it was just made its own"),
        }
    }

    fn share(&mut self) -> Arc<Vec<T>> {
        if let Chunk::Own(rows) = self {
            *self = Chunk::Shared(Arc::new(std::mem::take(rows)));
        }
        match self {
            Chunk::Shared(rows) => Arc::clone(rows),
            Chunk::Own(_) => unreachable!("it was just shared"),
        }
    }
}

impl<T: Clone, const CHUNK: usize> Arena<T, CHUNK> {
    /// An empty arena.
    pub(super) fn new() -> Arena<T, CHUNK> {
        const { assert!(CHUNK.is_power_of_two()) };
        Arena { chunks: Vec::new(), len: 0 }
    }

    /// The number of rows.
    pub(super) fn len(&self) -> usize {
        self.len
    }

    /// Appends a row and returns its position.
    pub(super) fn push(&mut self, row: T) -> usize {
        if self.len.is_multiple_of(CHUNK) {
            self.chunks.push(Chunk::Own(Vec::with_capacity(CHUNK)));
        }
        let chunk = self.chunks[self.len / CHUNK].own();
        if chunk.len() == chunk.capacity() {
            chunk.reserve_exact(CHUNK - chunk.len()); // It was shared and copied: the copy has no room.
        }
        chunk.push(row);
        self.len += 1;
        self.len - 1
    }

    /// The row at `position`, which must exist.
    pub(super) fn at(&self, position: usize) -> &T {
        &self.chunks[position / CHUNK].rows()[position % CHUNK]
    }

    /// The row at `position`, which must exist, to change it.
    pub(super) fn at_mut(&mut self, position: usize) -> &mut T {
        &mut self.chunks[position / CHUNK].own()[position % CHUNK]
    }

    /// The rows from `position` on.
    pub(super) fn from(&self, position: usize) -> impl Iterator<Item = &T> {
        (position..self.len).map(|position| self.at(position))
    }

    /// A picture of all rows as they are now.
    pub(super) fn freeze(&mut self) -> Frozen<T, CHUNK> {
        Frozen { chunks: self.chunks.iter_mut().map(Chunk::share).collect(), len: self.len }
    }
}

/// The rows of an arena as they were at one moment.
pub(super) struct Frozen<T, const CHUNK: usize> {
    chunks: Vec<Arc<Vec<T>>>,
    len: usize,
}

impl<T, const CHUNK: usize> Frozen<T, CHUNK> {
    /// The number of rows.
    pub(super) fn len(&self) -> usize {
        self.len
    }

    /// The row at `position`, which must exist.
    pub(super) fn at(&self, position: usize) -> &T {
        &self.chunks[position / CHUNK][position % CHUNK]
    }
}

#[cfg(test)]
mod tests {
    use super::Arena;

    #[test]
    fn rows_keep_their_positions_over_chunks() {
        let mut arena: Arena<usize, 4> = Arena::new();
        for row in 0..11 {
            assert_eq!(arena.push(row), row);
        }
        *arena.at_mut(7) = 70;
        assert_eq!(arena.from(6).copied().collect::<Vec<_>>(), [6, 70, 8, 9, 10]);
        assert_eq!((arena.len(), *arena.at(10)), (11, 10));
        assert_eq!(arena.from(20).count(), 0);
    }

    #[test]
    fn a_picture_stays_as_it_was() {
        let mut arena: Arena<usize, 4> = Arena::new();
        (0..6).for_each(|row| assert_eq!(arena.push(row), row));
        let first = arena.freeze();
        *arena.at_mut(1) = 10;
        arena.push(6);
        let second = arena.freeze();
        *arena.at_mut(1) = 100;
        drop(arena.freeze());
        *arena.at_mut(5) = 50; // The picture is gone, so nothing is copied.
        (7..10).for_each(|row| assert_eq!(arena.push(row), row));
        let rows = |frozen: &super::Frozen<usize, 4>| (0..frozen.len()).map(|row| *frozen.at(row)).collect::<Vec<_>>();
        assert_eq!(rows(&first), [0, 1, 2, 3, 4, 5]);
        assert_eq!(rows(&second), [0, 10, 2, 3, 4, 5, 6]);
        assert_eq!(arena.from(0).copied().collect::<Vec<_>>(), [0, 100, 2, 3, 4, 50, 6, 7, 8, 9]);
    }
}
