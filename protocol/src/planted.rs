//! Known bugs that can be planted, one at a time, to test those that hunt for bugs.
//!
//! A build with the feature `planted` has them all, asleep; [`plant`] wakes one, for the whole process. Every other build
//! has none: [`is_planted`] is then the constant `false`, and what it guards is not compiled into the program. A node
//! refuses to start from a build that has the feature.

/// A bug that somebody could really have written. Each names the rule that it breaks.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub enum Bug {
    /// An acceptance leaves before the disk has it.
    AcceptedBeforeSync,
    /// An acceptor accepts below its promise.
    PromiseIgnored,
    /// A participant acknowledges a decision when it comes, before it is applied (hazard S11).
    ResolveAcknowledgedOnReceipt,
    /// A participant votes yes when a `Prepare` comes, before it is applied (hazard S9).
    VoteOnReceipt,
}

impl Bug {
    /// Every bug.
    pub const ALL: &'static [Bug] =
        &[Bug::AcceptedBeforeSync, Bug::PromiseIgnored, Bug::ResolveAcknowledgedOnReceipt, Bug::VoteOnReceipt];

    /// Its name on the command line.
    pub const fn name(self) -> &'static str {
        match self {
            Bug::AcceptedBeforeSync => "accepted-before-sync",
            Bug::PromiseIgnored => "promise-ignored",
            Bug::ResolveAcknowledgedOnReceipt => "resolve-acknowledged-on-receipt",
            Bug::VoteOnReceipt => "vote-on-receipt",
        }
    }

    /// The bug of this name.
    pub fn from_name(name: &str) -> Option<Bug> {
        Bug::ALL.iter().copied().find(|bug| bug.name() == name)
    }
}

#[cfg(feature = "planted")]
mod switch {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::Bug;

    // The number of the planted bug, from 1.
    static PLANTED: AtomicUsize = AtomicUsize::new(0);

    /// Plants this bug, and no other, in the whole process.
    pub fn plant(bug: Option<Bug>) {
        PLANTED.store(bug.map_or(0, |bug| bug as usize + 1), Ordering::Relaxed);
    }

    /// Whether this bug is planted.
    pub fn is_planted(bug: Bug) -> bool {
        PLANTED.load(Ordering::Relaxed) == bug as usize + 1
    }
}

#[cfg(feature = "planted")]
pub use switch::{is_planted, plant};

/// Whether this bug is planted.
#[cfg(not(feature = "planted"))]
#[inline(always)]
pub const fn is_planted(_: Bug) -> bool {
    false
}

/// Whether this build can plant bugs.
pub const AVAILABLE: bool = cfg!(feature = "planted");
