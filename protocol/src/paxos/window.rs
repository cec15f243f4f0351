//! The part of a log that is in memory.

use std::collections::VecDeque;

use bytes::Bytes;

use crate::ids::Slot;

/// A log's entries from `start` on; those before are on disk only.
///
/// - Everything that is not known to be chosen is here: `start <= chosen <= length`.
/// - `chosen` never goes back, and what lies below it never changes.
#[derive(Clone, Debug)]
pub(super) struct Window {
    start: Slot,
    entries: VecDeque<Bytes>,
    bytes: usize,
    chosen: Slot,
}

impl Window {
    /// A log of which `chosen` entries are chosen and on disk, and `tail` follows.
    pub(super) fn new(chosen: Slot, tail: Vec<Bytes>) -> Window {
        let bytes = tail.iter().map(Bytes::len).sum();
        Window { start: chosen, entries: tail.into(), bytes, chosen }
    }

    pub(super) fn start(&self) -> Slot {
        self.start
    }

    pub(super) fn chosen(&self) -> Slot {
        self.chosen
    }

    pub(super) fn length(&self) -> Slot {
        self.start.plus(self.entries.len())
    }

    /// The entry at `slot`, if it is in memory.
    pub(super) fn get(&self, slot: Slot) -> Option<&Bytes> {
        if slot < self.start { None } else { self.entries.get(slot.distance_from(self.start)) }
    }

    /// The entries from `slot` on, as many as are there and fit `bytes`, but at least one.
    ///
    /// # Panics
    /// If `slot` is no longer in memory.
    pub(super) fn from(&self, slot: Slot, until: Slot, bytes: usize) -> Vec<Bytes> {
        assert!(slot >= self.start, "the caller looks at the start first");
        let mut taken = 0;
        let wanted = until.distance_from(slot);
        let rest = self.entries.iter().skip(slot.distance_from(self.start)).take(wanted);
        rest.take_while(|entry| {
            let fits = taken == 0 || taken + entry.len() <= bytes;
            taken += entry.len();
            fits
        })
        .cloned()
        .collect()
    }

    pub(super) fn append(&mut self, entry: Bytes) {
        self.bytes += entry.len();
        self.entries.push_back(entry);
    }

    /// Removes everything from `slot` on.
    ///
    /// # Panics
    /// If something of it is known to be chosen.
    pub(super) fn truncate(&mut self, slot: Slot) {
        assert!(slot >= self.chosen, "what is chosen stays");
        while self.length() > slot {
            let Some(entry) = self.entries.pop_back() else { return };
            self.bytes -= entry.len();
        }
    }

    /// Takes note that so much is chosen; lower numbers are old news.
    ///
    /// # Panics
    /// If the log is shorter.
    pub(super) fn choose(&mut self, chosen: Slot) {
        assert!(chosen <= self.length(), "only what is here can be known to be chosen");
        self.chosen = self.chosen.max(chosen);
    }

    /// Everything below `slot` is chosen and in a snapshot: what is here of it goes, what lies beyond stays.
    pub(super) fn skip_to(&mut self, slot: Slot) {
        while self.start < slot {
            match self.entries.pop_front() {
                Some(entry) => {
                    self.bytes -= entry.len();
                    self.start = self.start.next();
                }
                None => self.start = slot,
            }
        }
        self.chosen = self.chosen.max(slot);
    }

    /// Lets go of entries below `limit` until about `keep` bytes remain.
    pub(super) fn trim(&mut self, limit: Slot, keep: usize) {
        let limit = limit.min(self.chosen);
        while self.bytes > keep && self.start < limit {
            let Some(entry) = self.entries.pop_front() else { return };
            self.bytes -= entry.len();
            self.start = self.start.next();
        }
    }

    /// The bytes of the entries from `slot` on.
    pub(super) fn bytes_from(&self, slot: Slot) -> usize {
        self.entries.iter().skip(slot.distance_from(self.start)).map(Bytes::len).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(len: usize) -> Bytes {
        Bytes::from(vec![7; len])
    }

    #[test]
    fn entries_come_and_go_at_both_ends() {
        let mut window = Window::new(Slot(5), vec![entry(1), entry(2)]);
        assert_eq!((window.start(), window.chosen(), window.length()), (Slot(5), Slot(5), Slot(7)));
        window.append(entry(3));
        window.truncate(Slot(6));
        window.append(entry(4));
        window.choose(Slot(7));
        window.choose(Slot(6));
        assert_eq!(window.chosen(), Slot(7));
        assert_eq!(window.get(Slot(6)).map(Bytes::len), Some(4));
        assert_eq!(window.from(Slot(5), Slot(9), 1).len(), 1);
        assert_eq!(window.from(Slot(5), Slot(9), 5).len(), 2);
        window.trim(Slot(6), 0);
        assert_eq!((window.start(), window.get(Slot(5))), (Slot(6), None));
        window.trim(Slot(100), 0);
        assert_eq!(window.start(), Slot(7));
    }

    #[test]
    fn a_snapshot_takes_the_place_of_what_lies_before_it_and_leaves_the_rest() {
        for (slot, left, length) in [(6, 1, 7), (7, 0, 7), (9, 0, 9)] {
            let mut window = Window::new(Slot(5), vec![entry(1), entry(2)]);
            window.skip_to(Slot(slot));
            window.skip_to(Slot(3));
            assert_eq!((window.start(), window.chosen(), window.length()), (Slot(slot), Slot(slot), Slot(length)));
            assert_eq!(window.bytes_from(Slot(0)), 2 * left);
        }
    }

    #[test]
    #[should_panic(expected = "what is chosen stays")]
    fn what_is_chosen_is_never_cut() {
        let mut window = Window::new(Slot(0), vec![entry(1), entry(1)]);
        window.choose(Slot(2));
        window.truncate(Slot(1));
    }
}
