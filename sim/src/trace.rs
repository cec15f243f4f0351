//! What happened, as a hash always and as lines when asked: formatting every event would cost more than running it.
//!
//! A run is a function of its seed, so a failure is found without lines and told with them, by running it again.

use std::collections::VecDeque;

use xxhash_rust::xxh3::{xxh3_64, xxh3_64_with_seed};

/// How much of the end of a trace is kept.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Keep {
    /// At most so many lines; with zero none is ever formatted.
    pub lines: usize,
    /// And at most so many bytes, each line with its line end.
    pub bytes: usize,
}

impl Keep {
    /// Nothing but the hash.
    pub const NOTHING: Keep = Keep::lines(0);

    /// The last lines, however long they are.
    pub const fn lines(lines: usize) -> Keep {
        Keep { lines, bytes: usize::MAX }
    }

    /// As many of the last lines as this many bytes hold.
    pub const fn bytes(bytes: usize) -> Keep {
        Keep { lines: usize::MAX, bytes }
    }
}

/// The trace of one run.
#[derive(Debug)]
pub struct Trace {
    hash: u64,
    events: u64,
    keep: Keep,
    lines: VecDeque<String>,
    bytes: usize,
    left_out: u64,
}

impl Trace {
    /// A trace that keeps so much of its end.
    pub fn new(keep: Keep) -> Trace {
        Trace { hash: 0, events: 0, keep, lines: VecDeque::new(), bytes: 0, left_out: 0 }
    }

    /// Something happened at `now` microseconds; `what` tells all that may not differ between two runs of a seed.
    pub fn event(&mut self, now: u64, what: &[u8], line: impl FnOnce() -> String) {
        self.events += 1;
        self.hash = xxh3_64_with_seed(what, self.hash.rotate_left(23) ^ now.wrapping_mul(0x9e37_79b9_7f4a_7c15));
        self.note(now, line);
    }

    /// A line for the reader about something that other events tell, too.
    pub fn note(&mut self, now: u64, line: impl FnOnce() -> String) {
        if self.keep.lines == 0 {
            return;
        }
        let line = format!("{:>4}.{:06} {}", now / 1_000_000, now % 1_000_000, line());
        self.bytes += line.len() + 1;
        self.lines.push_back(line);
        while self.lines.len() > self.keep.lines || self.bytes > self.keep.bytes {
            let Some(first) = self.lines.pop_front() else { break };
            self.bytes -= first.len() + 1;
            self.left_out += 1;
        }
    }

    /// Equal for equal runs.
    pub fn hash(&self) -> u64 {
        xxh3_64(&self.hash.to_be_bytes())
    }

    /// How many events there were.
    pub fn events(&self) -> u64 {
        self.events
    }

    /// How many lines were not kept.
    pub fn left_out(&self) -> u64 {
        self.left_out
    }

    /// The last lines.
    pub fn into_lines(self) -> Vec<String> {
        self.lines.into()
    }
}

#[cfg(test)]
mod tests {
    use super::{Keep, Trace};

    #[test]
    fn the_hash_sees_time_content_and_order() {
        let hash = |events: &[(u64, &[u8])]| {
            let mut trace = Trace::new(Keep::NOTHING);
            events.iter().for_each(|(now, what)| trace.event(*now, what, || unreachable!("nothing is kept")));
            trace.hash()
        };
        assert_eq!(hash(&[(1, b"a"), (2, b"b")]), hash(&[(1, b"a"), (2, b"b")]));
        assert_ne!(hash(&[(1, b"a"), (2, b"b")]), hash(&[(1, b"a"), (3, b"b")]));
        assert_ne!(hash(&[(1, b"a"), (1, b"b")]), hash(&[(1, b"b"), (1, b"a")]));
    }

    #[test]
    fn only_the_last_lines_are_kept_and_the_others_counted() {
        let mut trace = Trace::new(Keep::lines(2));
        (0..5).for_each(|n| trace.event(n, b"", || n.to_string()));
        assert_eq!(trace.left_out(), 3);
        assert_eq!(trace.into_lines(), ["   0.000003 3", "   0.000004 4"]);
    }

    #[test]
    fn what_is_kept_fits_its_bytes() {
        let mut trace = Trace::new(Keep::bytes(30));
        (0..5).for_each(|n| trace.note(n, || n.to_string()));
        assert_eq!((trace.left_out(), trace.events()), (3, 0));
        assert_eq!(trace.into_lines(), ["   0.000003 3", "   0.000004 4"]);
    }
}
