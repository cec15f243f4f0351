//! Two-phase commit.
//!
//! # The problem
//!
//! A transfer moves money between two accounts. If both belong to one group, its log decides alone. If they do not, two
//! logs must end with the same outcome, although messages between the groups are lost, doubled and late, although any
//! node may crash at any moment, and although the client may ask again anywhere, at any time.
//!
//! # The protocol
//!
//! Two-phase commit (Gray 1978), with a coordinator that is itself replicated, so that no single failure blocks it.
//! Gray and Lamport ("Consensus on Transaction Commit", 2006) obtain the classic form as the special case of a commit
//! over consensus that tolerates no fault: one coordinator fails, and all are blocked. Here it cannot, short of a
//! majority of its group: every prepare and every decision is an entry of a replicated log.
//!
//! The group that owns the debit account coordinates.
//!
//! 1. The coordinator proposes `Begin` to its own log, and sends `Prepare` to the other groups at the same time.
//!    `Begin` contains the local prepare. Both name all participants and an *attempt*.
//! 2. Each group logs its prepare. The *vote* is what applying it yields, the same on every replica. A yes means that
//!    whatever the decision is, it can be carried out, and holds what that needs.
//! 3. When `Begin` is applied and all votes are yes, `Decide(commit)` is proposed; on a no, `Decide(reject)`, with the
//!    reason that the client will read; on anything else, and at three quarters of the client's deadline,
//!    `Decide(abort)`, which ends the attempt and not the transaction's id. When `Decide` is applied the client is
//!    answered.
//! 4. `Resolve` carries the decision to the others, again and again until each has applied it and said so. Then the
//!    coordinator's group forgets its record; one `Forget` ends many.
//!
//! So a transfer between two groups is four commands in two logs. Votes and acknowledgements are not logged: they are
//! functions of what is.
//!
//! # Who is who
//!
//! The rules of apply, the only place where anything is decided, are in the ledger. The two roles of this module,
//! [`Coordinator`] and [`Participant`], are its hands: volatile views that turn messages into proposals and outputs of
//! apply into messages. They run beside the group's leader. A new leader makes new ones from the records in the log
//! ([`Serve`](crate::message::local::Serve)), and nothing is lost but time. A role that crashes, lags, repeats itself
//! or speaks for a deposed leader can only propose what apply then judges.
//!
//! # Why it is safe
//!
//! **One decision.** A record has one verdict: the first `Decide` that is applied. Whatever is told to clients and
//! participants is that verdict, from applied state (hazard S9). A `Decide` without its `Begin` is void, and the
//! coordinator proposes none before the `Begin` is applied.
//!
//! **Commit means everywhere.** Commit is proposed only when every participant's yes is in hand. A yes is applied state
//! of a replicated log; no deadline, no failover and no load takes it back (hazard S10). Only the decision of the
//! coordinator's group does, and a decision that a group does not know what to do with is not acknowledged (hazard
//! S11).
//!
//! **Attempts.** What is prepared, voted for and decided is an attempt: (ballot of the leader that began it, number). A
//! retry is a new one. It begins when the end of the last is applied, so a yes of an old attempt can never meet the
//! decision of a new one, nor an old abort a new yes (hazard S7).
//!
//! **Presumed abort** (Mohan, Lindsay and Obermarck 1986). A group that knows nothing of an attempt may say that it is
//! aborted. The original forces no record for an abort; its coordinator must then know that no commit can follow. Here
//! that comes from ballots. A leader serves when its first entry, which names its ballot, is applied; a `Begin` of an
//! older ballot that is applied after it is void (hazard S35). So what a serving leader has no record of, and has not
//! begun itself, is dead for ever. The cases are a table in the code, `inquiry`.
//!
//! **Once.** Every group that a transaction touched keeps its id and outcome. A second request finds it (`Known`), a
//! second `Prepare` is answered from it, on the credit side too (hazard S8). A request that comes while its transaction
//! is under way gets the answer of that one (hazard S16).
//!
//! **Values.** A transaction may read, and write what another group holds (a swap). What is read is read under locks,
//! from prepare to resolve (hazard S2); it travels in the votes, the decision carries all of it, and a resolve the values
//! that its receiver writes (hazard S5).
//!
//! # Why it ends
//!
//! Everything sent is sent again until it is answered: `Prepare` until there is a vote, from state if need be (hazard
//! L13); `Resolve` until it is acknowledged; a question while something is in doubt. Preparing ends with the client's
//! deadline, which travels as remaining time (hazard L5). Waiting is by age (wait-die; the ledger's rules): who may not
//! wait votes `die`, and is tried again under the age that it has, so that it grows old enough (hazards L1, L6). And
//! what relieves a full system (decisions, acknowledgements, questions) is never refused (hazard L8).
//!
//! While the groups concerned have majorities, nothing is held for longer than its deadline and a failover. Without
//! them it may be, and must be.
//!
//! # What is left out
//!
//! - One round less: to answer the client when all votes are durable, before `Decide` is. The participants are named in
//!   every `Prepare` so that recovery could ask them; the rules for aborting would have to change with it (hazard S14).

mod coordinator;
mod inquiry;
mod participant;
mod peers;
pub mod table;
#[cfg(test)]
mod tests;

pub use coordinator::Coordinator;
pub use inquiry::ROWS as RECOVERY_ROWS;
pub use participant::Participant;

use crate::ids::{Attempt, TxnId};
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

/// The replies to a transaction from the answers of its participants, as the coordinator puts them together.
#[cfg(test)]
pub(crate) fn replies_for_tests(
    action: &crate::ledger::operations::Action,
    participants: &[crate::ids::GroupId],
    answers: impl IntoIterator<Item = Vec<crate::ledger::operations::Answered>>,
    map: &ShardMap,
) -> Vec<crate::ledger::operations::Reply> {
    let mut all = Vec::new();
    for (group, answers) in participants.iter().zip(answers) {
        coordinator::merge(&mut all, answers, |operation| coordinator::owns_left(action, operation, *group, map));
    }
    crate::ledger::replies_of(action.transaction().expect("a transaction"), all)
}

// An attempt in traces.
fn label(txn: TxnId, attempt: Attempt) -> String {
    format!("{txn} {}#{}", attempt.ballot, attempt.number)
}
