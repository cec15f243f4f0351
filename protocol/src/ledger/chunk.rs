//! A few rows that belong to a table, or to it and to pictures of it.

use std::sync::Arc;

/// Rows that a table changes, shared with the pictures that were taken of them.
///
/// They are either the table's own or shared, and only shared ones are counted by reference: counting all would cost a
/// locked instruction at each change, and a posting makes two.
#[derive(Clone)]
pub(super) enum Chunk<T> {
    /// No picture has them.
    Own(Vec<T>),
    /// With pictures that may still exist.
    Shared(Arc<Vec<T>>),
}

impl<T: Clone> Chunk<T> {
    /// No rows, and room for some.
    pub(super) fn with_capacity(rows: usize) -> Chunk<T> {
        Chunk::Own(Vec::with_capacity(rows))
    }

    /// The rows.
    pub(super) fn rows(&self) -> &[T] {
        match self {
            Chunk::Own(rows) => rows,
            Chunk::Shared(rows) => rows,
        }
    }

    /// The rows, to change them: copied first, if a picture has them.
    pub(super) fn own(&mut self) -> &mut Vec<T> {
        if let Chunk::Shared(rows) = self {
            *self = Chunk::Own(Arc::unwrap_or_clone(std::mem::take(rows)));
        }
        match self {
            Chunk::Own(rows) => rows,
            Chunk::Shared(_) => unreachable!("it was just made its own"),
        }
    }

    /// The rows, for a picture.
    pub(super) fn share(&mut self) -> Arc<Vec<T>> {
        if let Chunk::Own(rows) = self {
            *self = Chunk::Shared(Arc::new(std::mem::take(rows)));
        }
        match self {
            Chunk::Shared(rows) => Arc::clone(rows),
            Chunk::Own(_) => unreachable!("it was just shared"),
        }
    }
}
