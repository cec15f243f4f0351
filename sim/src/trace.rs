//! What happened, as a hash always and as lines when asked: formatting every event would cost more than running it.
//!
//! A run is a function of its seed, so a failure is found without lines and told with them, by running it again.

use std::collections::VecDeque;

use xxhash_rust::xxh3::{xxh3_64, xxh3_64_with_seed};

/// The trace of one run.
#[derive(Debug)]
pub struct Trace {
    hash: u64,
    events: u64,
    keep: usize,
    lines: VecDeque<String>,
}

impl Trace {
    /// A trace that keeps the last `keep` lines; with zero none is ever formatted.
    pub fn new(keep: usize) -> Trace {
        Trace { hash: 0, events: 0, keep, lines: VecDeque::new() }
    }

    /// Something happened at `now` microseconds; `what` tells all that may not differ between two runs of a seed.
    pub fn event(&mut self, now: u64, what: &[u8], line: impl FnOnce() -> String) {
        self.events += 1;
        self.hash = xxh3_64_with_seed(what, self.hash.rotate_left(23) ^ now.wrapping_mul(0x9e37_79b9_7f4a_7c15));
        if self.keep > 0 {
            if self.lines.len() == self.keep {
                self.lines.pop_front();
            }
            self.lines.push_back(format!("{:>4}.{:06} {}", now / 1_000_000, now % 1_000_000, line()));
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

    /// The last lines.
    pub fn into_lines(self) -> Vec<String> {
        self.lines.into()
    }
}

#[cfg(test)]
mod tests {
    use super::Trace;

    #[test]
    fn the_hash_sees_time_content_and_order() {
        let hash = |events: &[(u64, &[u8])]| {
            let mut trace = Trace::new(0);
            events.iter().for_each(|(now, what)| trace.event(*now, what, || unreachable!("nothing is kept")));
            trace.hash()
        };
        assert_eq!(hash(&[(1, b"a"), (2, b"b")]), hash(&[(1, b"a"), (2, b"b")]));
        assert_ne!(hash(&[(1, b"a"), (2, b"b")]), hash(&[(1, b"a"), (3, b"b")]));
        assert_ne!(hash(&[(1, b"a"), (1, b"b")]), hash(&[(1, b"b"), (1, b"a")]));
    }

    #[test]
    fn only_the_last_lines_are_kept() {
        let mut trace = Trace::new(2);
        (0..5).for_each(|n| trace.event(n, b"", || n.to_string()));
        assert_eq!(trace.into_lines(), ["   0.000003 3", "   0.000004 4"]);
    }
}
