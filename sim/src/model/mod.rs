//! Models of the protocols, checked exhaustively up to their bounds.
//!
//! A model is the real roles behind a thin adapter: in each state every message on its way may arrive next, every disk
//! may sync, every node may crash or stand for election, as often as the bounds allow. The checker
//! ([stateright](https://docs.rs/stateright)) visits every state that can be reached so. What holds "always" is looked
//! at in each of them; what holds "sometimes" shows that the model does something at all.
//!
//! | file | what |
//! |---|---|
//! | `paxos/` | one group: three replicas, leaders that do not know of each other |
//! | `commit/` | two groups that commit transfers together, over logs that are taken for granted |
//! | `shared` | states made of digests, and steps that are computed once |
//! | `network` | messages on their way, in no order |
//! | `explore` | the search and its report |
//!
//! Time stands still in a model, but for timers: a node's clock jumps to its next deadline when its timer fires.

mod commit;
mod explore;
mod network;
mod paxos;
mod shared;

use std::any::Any;
use std::fmt;
use std::net::SocketAddr;
use std::panic;

pub use explore::{Claim, Line, Progress, Report, Verdict};

/// The protocols that have a model.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Name {
    /// Multi-Paxos within a group.
    Paxos,
    /// Two-phase commit between groups.
    Commit,
}

impl Name {
    /// Every model.
    pub const ALL: [Name; 2] = [Name::Paxos, Name::Commit];

    /// Its name on the command line.
    pub const fn as_str(self) -> &'static str {
        match self {
            Name::Paxos => "paxos",
            Name::Commit => "commit",
        }
    }

    /// The model of this name.
    pub fn from_name(name: &str) -> Option<Name> {
        Name::ALL.into_iter().find(|model| model.as_str() == name)
    }

    /// The invariants that are checked only when they are asked for.
    pub const fn invariants(self) -> &'static [&'static str] {
        match self {
            Name::Paxos => paxos::INVARIANTS,
            Name::Commit => commit::INVARIANTS,
        }
    }
}

/// In which order states are visited.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Search {
    /// By their distance from the beginning: paths are shortest.
    Breadth,
    /// Depth first: less memory.
    Depth,
    /// Random walks, without an end of their own.
    Simulation {
        /// Determines the walks.
        seed: u64,
    },
}

/// The bounds of a model and of its search.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Options {
    /// Elections beyond the first: changes of leadership in `commit`, of either group.
    pub elections: u8,
    /// Hand-overs of leadership to another node; in `paxos` only.
    pub moves: u8,
    /// Crashes.
    pub crashes: u8,
    /// Crashes, of those, after which the last record of the node's log is lost although it was synced; in `paxos` only.
    pub doubts: u8,
    /// Messages that arrive once more.
    pub duplicates: u8,
    /// Messages that are lost. One that never arrives is as good as lost, so this matters only to what must end.
    pub drops: u8,
    /// Timers that fire.
    pub timers: u8,
    /// Commands of clients, at most 8.
    pub commands: u8,
    /// Invariants that are checked besides the usual ones.
    pub invariants: Vec<String>,
    /// The longest paths.
    pub depth: Option<usize>,
    /// About so many states.
    pub states: Option<usize>,
    /// How many threads search. One visits states exactly by their distance; several do so nearly, and may leave out
    /// some just below a bound of depth.
    pub threads: usize,
    /// Look for a shortest path to everything that happens sometimes, too.
    pub examples: bool,
    /// The order.
    pub search: Search,
}

impl Options {
    /// The bounds that a model has by default: a search of a minute or two.
    pub fn of(model: Name) -> Options {
        let (elections, crashes, doubts, timers, commands) = match model {
            Name::Paxos => (1, 1, 1, 0, 1),
            Name::Commit => (1, 1, 0, 1, 1),
        };
        Options {
            elections,
            moves: 0,
            crashes,
            doubts,
            duplicates: 0,
            drops: 0,
            timers,
            commands,
            invariants: Vec::new(),
            depth: None,
            states: None,
            threads: 2,
            examples: false,
            search: Search::Breadth,
        }
    }
}

/// A rule that a step can break.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
enum Rule {
    Agreement,
    AppliedPrefix,
    DurableBeforeSaid,
    OneLogPerBallot,
    Assertion,
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Rule::Agreement => "agreement",
            Rule::AppliedPrefix => "the applied prefix never changes",
            Rule::DurableBeforeSaid => "durable before said",
            Rule::OneLogPerBallot => "one log per ballot",
            Rule::Assertion => "the roles' assertions hold",
        })
    }
}

/// What was broken, and how. Nothing happens after it.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
struct Broken {
    rule: Rule,
    text: String,
}

fn panic_text(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
    text.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_else(|| "a role panicked".to_owned())
}

/// Searches a model; `tell` is called with the progress a few times a second.
///
/// The assertions of the roles are part of what is checked, so their panics are caught and not printed.
pub fn check(model: Name, options: &Options, tell: &(dyn Fn(Progress) + Sync)) -> Report {
    let hook = panic::take_hook();
    panic::set_hook(Box::new(|_| {}));
    let report = match model {
        Name::Paxos => explore::explore(&|| paxos::Paxos::new(options), options, tell),
        Name::Commit => explore::explore(&|| commit::Commit::new(options), options, tell),
    };
    panic::set_hook(hook);
    report
}

/// Serves a model to a browser until the process ends.
///
/// # Panics
/// If the address cannot be listened on.
pub fn serve(model: Name, options: &Options, address: SocketAddr) {
    match model {
        Name::Paxos => explore::serve(paxos::Paxos::new(options), options, address),
        Name::Commit => explore::serve(commit::Commit::new(options), options, address),
    }
}
