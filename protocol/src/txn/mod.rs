//! Two-phase commit.
mod coordinator;
mod inquiry;
mod participant;
mod peers;

pub use coordinator::Coordinator;
pub use participant::Participant;

use crate::placement::map::ShardMap;
use crate::role::Address;
use crate::routing::Routes;
use crate::time::Span;

/// What a coordinator or a participant is made from.
#[derive(Clone, Debug)]
pub struct TxnConfig {
    /// The node and the group; the role is set by the constructor.
    pub me: Address,
    /// The nodes of all groups.
    pub routes: Routes,
    /// Which group owns what.
    pub map: ShardMap,
    /// Seeds the jitter of retries. Should differ per node.
    pub seed: u64,
    /// The pause after which a `Prepare` without a vote is sent again; pauses between `Resolve`s begin with it.
    pub resend: Span,
    /// How long something may be in doubt before the coordinator's group is asked.
    pub inquire_after: Span,
    /// Coordinator: client transfers under way at once; beyond it requests are refused as overloaded. Participant:
    /// attempts under way at once; beyond it a `Prepare` is dropped, and comes again.
    pub limit: usize,
    /// Coordinator: transactions under way at once, or decided and not acknowledged, for one other group; beyond it a
    /// transfer is answered `Retry`, or `Unavailable` (hazard L14).
    pub peer_limit: usize,
}

impl TxnConfig {
    /// The defaults: sent again after 50 ms, asked for after 300 ms, 16,384 under way, 8,192 for one group.
    pub fn new(me: Address, routes: Routes, map: ShardMap, seed: u64) -> TxnConfig {
        TxnConfig {
            me,
            routes,
            map,
            seed,
            resend: Span::from_millis(50),
            inquire_after: Span::from_millis(300),
            limit: 16_384,
            peer_limit: 8192,
        }
    }
}
