//! Values that many states of a model have in common: kept once, compared and hashed by a digest.
//!
//! A state of a model is a few digests, so millions of them fit in memory, and a step of a node that was computed for
//! one state is looked up for the next. The digest is that of the debug text: the derived text shows every field of a
//! role, so what it leaves out cannot tell two nodes apart.

use std::collections::BTreeMap;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::ops::Deref;
use std::sync::{Arc, Mutex, PoisonError};

use xxhash_rust::xxh3::Xxh3;

struct Sink(Xxh3);

impl fmt::Write for Sink {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        self.0.update(text.as_bytes());
        Ok(())
    }
}

/// The digest of a value's debug text.
pub(super) fn digest(value: &impl fmt::Debug) -> u128 {
    let mut sink = Sink(Xxh3::new());
    // The sink takes everything.
    let _ = fmt::write(&mut sink, format_args!("{value:?}"));
    sink.0.digest128()
}

/// A value with its digest. Equal is what has the same digest.
pub(super) struct Shared<T> {
    digest: u128,
    value: Arc<T>,
}

impl<T: fmt::Debug> Shared<T> {
    pub(super) fn new(value: T) -> Shared<T> {
        Shared { digest: digest(&value), value: Arc::new(value) }
    }
}

impl<T> Shared<T> {
    pub(super) fn digest(&self) -> u128 {
        self.digest
    }
}

impl<T> Clone for Shared<T> {
    fn clone(&self) -> Shared<T> {
        Shared { digest: self.digest, value: Arc::clone(&self.value) }
    }
}

impl<T> Deref for Shared<T> {
    type Target = T;
    fn deref(&self) -> &T {
        &self.value
    }
}

impl<T> PartialEq for Shared<T> {
    fn eq(&self, other: &Shared<T>) -> bool {
        self.digest == other.digest
    }
}

impl<T> Hash for Shared<T> {
    fn hash<H: Hasher>(&self, state: &mut H) {
        state.write_u128(self.digest);
    }
}

impl<T: fmt::Debug> fmt::Debug for Shared<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.value.fmt(f)
    }
}

const PARTS: usize = 64;
/// Results that a part of a memo keeps; when it is full it begins anew.
const PART_LIMIT: usize = 4096;

/// Results of steps by the digest of what they were computed from.
pub(super) struct Memo<V> {
    parts: Vec<Mutex<BTreeMap<u128, V>>>,
}

impl<V: Clone> Memo<V> {
    pub(super) fn new() -> Memo<V> {
        Memo { parts: (0..PARTS).map(|_| Mutex::new(BTreeMap::new())).collect() }
    }

    /// The result for `key`, computed if it is not known.
    pub(super) fn get(&self, key: u128, compute: impl FnOnce() -> V) -> V {
        let part = &self.parts[(key >> 64) as usize % PARTS];
        let lock = || part.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(value) = lock().get(&key) {
            return value.clone();
        }
        // Computed without the lock: two threads may do it twice, with the same result.
        let value = compute();
        let mut known = lock();
        if known.len() >= PART_LIMIT {
            known.clear();
        }
        known.insert(key, value.clone());
        value
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_equal_by_what_they_show() {
        let (a, b, c) = (Shared::new(vec![1, 2]), Shared::new(vec![1, 2]), Shared::new(vec![2, 1]));
        assert!(a == b && a != c);
        assert_eq!(a.digest(), b.digest());
        assert_eq!(a.len(), 2);
    }

    #[test]
    fn a_result_is_computed_once() {
        let memo = Memo::new();
        assert_eq!(memo.get(7, || 1), 1);
        assert_eq!(memo.get(7, || unreachable!("it is known")), 1);
        for key in 0..(PARTS * PART_LIMIT * 2) as u128 {
            memo.get(key, || 0);
        }
        assert!(memo.parts[0].lock().unwrap().len() <= PART_LIMIT);
    }
}
