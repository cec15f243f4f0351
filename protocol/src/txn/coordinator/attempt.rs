//! One try at a transaction: who has voted what, and what follows from it.

use crate::ids::Attempt;
use crate::ledger::operations::{Answered, Reply};
use crate::message::command::Verdict;
use crate::message::txn::VoteKind;
use crate::time::Time;

/// An attempt from its proposal to its decision.
///
/// - `votes` has a place for each participant, in the transaction's order: this group's own is the first.
/// - A verdict is proposed at most once, and only when `begun`: a decision never overtakes its Begin (hazard S9).
#[derive(Clone, Debug)]
pub(super) struct Try {
    pub(super) attempt: Attempt,
    /// The Begin is applied and stands.
    pub(super) begun: bool,
    pub(super) votes: Vec<Option<VoteKind>>,
    /// What the operations yield, from those that have voted yes.
    pub(super) answers: Vec<Answered>,
    /// When preparing ends.
    pub(super) give_up: Time,
    /// Preparing has ended: no further vote is waited for.
    pub(super) given_up: bool,
    /// When preparing ended, a group that had not voted could not be reached.
    pub(super) unavailable: bool,
    /// What was proposed; what is decided comes from applied state only.
    pub(super) proposed: Option<Verdict>,
}

/// Why an attempt was aborted: what its transaction does next.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Cause {
    /// A group voted `die`, or preparing ended: it is tried again if a client still waits.
    Again,
    /// A group does not own what the transaction names.
    Moved,
    /// A queue was full, or something expired in it.
    Busy,
}

/// Adds a group's answers to those of others. Of a swap between groups each tells its own side; `left`: whether that is
/// the left one.
pub(crate) fn merge(known: &mut Vec<Answered>, answers: Vec<Answered>, left: impl Fn(u32) -> bool) {
    for new in answers {
        let Some(before) = known.iter_mut().find(|before| before.operation == new.operation) else {
            known.push(new);
            continue;
        };
        if let (Reply::Swapped(before), Reply::Swapped(side)) = (&mut before.reply, new.reply) {
            if left(new.operation) {
                before.left = side.left;
            } else {
                before.right = side.right;
            }
        }
    }
}

impl Try {
    pub(super) fn new(attempt: Attempt, participants: usize, give_up: Time) -> Try {
        assert!(participants > 0, "the coordinator's group takes part");
        Try {
            attempt,
            begun: false,
            votes: vec![None; participants],
            answers: Vec::new(),
            give_up,
            given_up: false,
            unavailable: false,
            proposed: None,
        }
    }

    /// Takes a vote; the first one of a group counts. A later one differs only if a copy of the `Prepare` was judged
    /// again after a refusal, and a refusal has already ended this attempt.
    pub(super) fn vote(&mut self, participant: usize, vote: VoteKind) {
        self.votes[participant].get_or_insert(vote);
    }

    /// Takes what comes with a yes, once.
    pub(super) fn answer(&mut self, participant: usize, answers: Vec<Answered>, left: impl Fn(u32) -> bool) {
        if self.votes[participant].is_none() {
            merge(&mut self.answers, answers, left);
        }
    }

    /// The verdict that follows from the votes, if one does.
    pub(super) fn judge(&self) -> Option<Verdict> {
        if !self.begun {
            return None;
        }
        // The rejection that is reported is the first in the transaction's order, not the first to arrive (hazard A8).
        let decisive = self.votes.iter().find(|vote| **vote != Some(VoteKind::Yes));
        match decisive {
            None => return Some(Verdict::Commit),
            Some(Some(VoteKind::No(reason))) => return Some(Verdict::Reject(*reason)),
            Some(_) => {}
        }
        let aborted = self.votes.iter().flatten().any(|vote| !matches!(vote, VoteKind::Yes | VoteKind::No(_)));
        if aborted {
            return Some(Verdict::Abort);
        }
        self.given_up.then(|| self.last_word())
    }

    // Preparing has ended: a rejection that is known is still one.
    fn last_word(&self) -> Verdict {
        let reason = self.votes.iter().flatten().find_map(|vote| match vote {
            VoteKind::No(reason) => Some(*reason),
            _ => None,
        });
        reason.map_or(Verdict::Abort, Verdict::Reject)
    }

    /// Why it was aborted.
    pub(super) fn cause(&self) -> Cause {
        let any = |kind| self.votes.contains(&Some(kind));
        if any(VoteKind::Moved) {
            Cause::Moved
        } else if any(VoteKind::Expired) || any(VoteKind::AlreadyCommitted) {
            Cause::Busy
        } else {
            Cause::Again
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ledger::model::Reason;

    const YES: Option<VoteKind> = Some(VoteKind::Yes);
    const CLOSED: Option<VoteKind> = Some(VoteKind::No(Reason::Closed));
    const POOR: Option<VoteKind> = Some(VoteKind::No(Reason::ExceedsCredits));
    const DIE: Option<VoteKind> = Some(VoteKind::Die);

    fn a_try(votes: &[Option<VoteKind>]) -> Try {
        Try { begun: true, votes: votes.to_vec(), ..Try::new(Attempt::default(), votes.len(), Time(0)) }
    }

    fn judge(votes: &[Option<VoteKind>]) -> Option<Verdict> {
        a_try(votes).judge()
    }

    #[test]
    fn only_all_votes_commit() {
        assert_eq!(judge(&[YES, YES]), Some(Verdict::Commit));
        assert_eq!(judge(&[YES]), Some(Verdict::Commit));
        assert_eq!(judge(&[YES, None]), None);
        assert_eq!(judge(&[None, YES]), None);
    }

    #[test]
    fn nothing_is_decided_before_begin_is_applied() {
        for votes in [[YES, YES], [CLOSED, YES], [YES, DIE]] {
            assert_eq!(Try { begun: false, ..a_try(&votes) }.judge(), None);
            assert_eq!(Try { begun: false, given_up: true, ..a_try(&votes) }.judge(), None);
        }
    }

    #[test]
    fn the_rejection_is_the_first_in_the_transactions_order() {
        assert_eq!(judge(&[POOR, CLOSED]), Some(Verdict::Reject(Reason::ExceedsCredits)));
        assert_eq!(judge(&[POOR, None]), Some(Verdict::Reject(Reason::ExceedsCredits)));
        assert_eq!(judge(&[None, CLOSED]), None);
        assert_eq!(judge(&[YES, CLOSED]), Some(Verdict::Reject(Reason::Closed)));
    }

    #[test]
    fn what_is_no_vote_on_the_content_aborts_at_once() {
        for vote in [VoteKind::Die, VoteKind::Expired, VoteKind::Moved, VoteKind::AlreadyCommitted] {
            assert_eq!(judge(&[None, Some(vote)]), Some(Verdict::Abort));
            assert_eq!(judge(&[Some(vote), None]), Some(Verdict::Abort));
            assert_eq!(judge(&[Some(vote), YES]), Some(Verdict::Abort));
        }
        assert_eq!(judge(&[DIE, CLOSED]), Some(Verdict::Abort));
        assert_eq!(judge(&[CLOSED, DIE]), Some(Verdict::Reject(Reason::Closed)));
    }

    #[test]
    fn the_end_of_preparing_aborts_unless_a_rejection_is_known() {
        let end = |votes: &[Option<VoteKind>]| Try { given_up: true, ..a_try(votes) }.judge();
        assert_eq!(end(&[YES, None]), Some(Verdict::Abort));
        assert_eq!(end(&[None, CLOSED]), Some(Verdict::Reject(Reason::Closed)));
    }

    #[test]
    fn the_first_vote_of_a_group_counts() {
        let mut a_try = a_try(&[YES, None]);
        a_try.vote(1, VoteKind::Die);
        a_try.vote(1, VoteKind::Yes);
        assert_eq!(a_try.judge(), Some(Verdict::Abort));
        assert_eq!(a_try.cause(), Cause::Again);
    }

    #[test]
    fn the_cause_of_an_abort_says_what_follows() {
        assert_eq!(a_try(&[YES, Some(VoteKind::Moved)]).cause(), Cause::Moved);
        assert_eq!(a_try(&[YES, Some(VoteKind::Expired)]).cause(), Cause::Busy);
        assert_eq!(a_try(&[YES, Some(VoteKind::AlreadyCommitted)]).cause(), Cause::Busy);
        assert_eq!(a_try(&[YES, None]).cause(), Cause::Again);
    }
}
