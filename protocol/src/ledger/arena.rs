//! Rows in the order of their arrival, in chunks: growing never moves a row.

/// An append-only list whose rows can be changed in place. `CHUNK` rows are allocated at a time.
#[derive(Clone)]
pub(super) struct Arena<T, const CHUNK: usize> {
    chunks: Vec<Vec<T>>,
    len: usize,
}

impl<T, const CHUNK: usize> Arena<T, CHUNK> {
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
            self.chunks.push(Vec::with_capacity(CHUNK));
        }
        self.chunks[self.len / CHUNK].push(row);
        self.len += 1;
        self.len - 1
    }

    /// The row at `position`, which must exist.
    pub(super) fn at(&self, position: usize) -> &T {
        &self.chunks[position / CHUNK][position % CHUNK]
    }

    /// The row at `position`, which must exist, to change it.
    pub(super) fn at_mut(&mut self, position: usize) -> &mut T {
        &mut self.chunks[position / CHUNK][position % CHUNK]
    }

    /// The rows from `position` on.
    pub(super) fn from(&self, position: usize) -> impl Iterator<Item = &T> {
        (position..self.len).map(|position| self.at(position))
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
}
