//! How many are enough.

use crate::planted::{Bug, is_planted};

/// Majority quorums over a group of `replicas` voters; any two of them share one.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Quorum {
    replicas: usize,
}

impl Quorum {
    /// The quorums of a group with `replicas` voters.
    ///
    /// # Panics
    /// If there are none.
    pub fn new(replicas: usize) -> Quorum {
        assert!(replicas > 0, "a group has a voter");
        Quorum { replicas }
    }

    /// The smallest number that is a quorum.
    pub fn size(self) -> usize {
        if is_planted(Bug::HalfIsQuorum) {
            return self.replicas.div_ceil(2).max(2) - 1;
        }
        self.replicas / 2 + 1
    }

    /// Whether `count` distinct voters are a quorum.
    pub fn is_quorum(self, count: usize) -> bool {
        count >= self.size()
    }

    /// The number of voters.
    pub fn replicas(self) -> usize {
        self.replicas
    }
}
