//! Batches with chains: transfers of one or two phases, some of which are linked.
//!
//! All members with the flag `linked`, and the first one without it that follows, are a chain: they take effect together
//! or not at all. A chain is sent as one transaction, whatever groups it spans; what stands alone goes its own way, plain
//! transfers together as a batch.

use drachma_protocol::ledger::model::{Reason, Transfer};
use drachma_protocol::ledger::operations::{OPERATIONS_LIMIT, Operation, Transaction};
use tokio::time::Instant;

use crate::batch::{self, join_all};
use crate::transaction::transact;
use crate::{Answer, Inner, Status};

/// So many chains, and single operations that are no plain transfers, are under way at a time.
const SIDE_BY_SIDE: usize = 512;

/// One member of a batch.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Linked {
    /// A transfer, a pending one, a posting or a voiding, with an id of its own.
    pub operation: Operation,
    /// It takes effect only together with the next one.
    pub linked: bool,
}

/// The chains of a batch by their places: where each begins, and where the next one does. The last may be open.
fn chains(batch: &[Linked]) -> Vec<std::ops::Range<usize>> {
    let mut chains = Vec::new();
    let mut start = 0;
    for (place, member) in batch.iter().enumerate() {
        if !member.linked || place + 1 == batch.len() {
            chains.push(start..place + 1);
            start = place + 1;
        }
    }
    chains
}

/// Which member a chain's rejection is told of; the others are told that another one failed. What can be said of one by
/// itself is said of it, anything else of the last.
fn culprit(members: &[Linked], reason: Reason) -> usize {
    let is_it = |member: &Linked| match (&member.operation, reason) {
        (Operation::Transfer(it), Reason::ZeroAmount) => it.amount == 0,
        (Operation::Pend(it), Reason::ZeroAmount) => it.transfer.amount == 0,
        (Operation::Post(it), Reason::ZeroAmount) => it.amount == Some(0),
        (Operation::Transfer(it), Reason::SameAccount) => it.debit == it.credit,
        (Operation::Pend(it), Reason::SameAccount) => it.transfer.debit == it.transfer.credit,
        (
            Operation::Post(_) | Operation::Void(_),
            Reason::PendingNotFound
            | Reason::PendingAlreadyPosted
            | Reason::PendingAlreadyVoided
            | Reason::PendingExpired
            | Reason::PendingDifferentAccounts
            | Reason::ExceedsPendingAmount,
        ) => true,
        _ => false,
    };
    members.iter().position(is_it).unwrap_or(members.len() - 1)
}

/// What each member of a chain is told, given what became of all of it.
fn told(members: &[Linked], answer: Answer) -> Vec<Answer> {
    let Status::Rejected(reason) = answer.status else { return vec![answer; members.len()] };
    let culprit = culprit(members, reason);
    let status = |place| if place == culprit { reason } else { Reason::LinkedEventFailed };
    (0..members.len()).map(|place| Answer { status: Status::Rejected(status(place)), ..answer }).collect()
}

/// What can be said of a chain without asking anybody.
fn refusal(members: &[Linked], transaction: &Transaction) -> Option<Reason> {
    let is_open = members.last().is_some_and(|last| last.linked);
    let fits = (1..=OPERATIONS_LIMIT).contains(&members.len());
    match (is_open, fits, transaction.fault()) {
        (true, ..) => Some(Reason::LinkedEventChainOpen),
        (_, false, _) => Some(Reason::TooLarge),
        // Ids that are missing, or used twice.
        (.., Some(_)) => Some(Reason::IdConflict),
        _ => None,
    }
}

/// Carries out all of `batch`; one answer each, in their order.
pub(crate) async fn linked(inner: &Inner, batch: &[Linked], deadline: Option<Instant>) -> Vec<Answer> {
    let unknown = Answer { status: Status::Unknown, replayed: false, attempts: 0 };
    let mut answers = vec![unknown; batch.len()];
    let mut plain: Vec<(usize, Transfer)> = Vec::new();
    let mut others: Vec<(std::ops::Range<usize>, Transaction)> = Vec::new();
    for chain in chains(batch) {
        let members = &batch[chain.clone()];
        if let [Linked { operation: Operation::Transfer(transfer), linked: false }] = members {
            plain.push((chain.start, *transfer));
            continue;
        }
        let operations = members.iter().map(|member| member.operation.clone()).collect();
        let transaction = Transaction::of_chain(operations);
        match refusal(members, &transaction) {
            Some(Reason::LinkedEventChainOpen) => {
                let status = Status::Rejected(Reason::LinkedEventChainOpen);
                chain.for_each(|place| answers[place] = Answer { status, ..unknown });
            }
            Some(reason) => {
                let told = told(members, Answer { status: Status::Rejected(reason), ..unknown });
                chain.zip(told).for_each(|(place, answer)| answers[place] = answer);
            }
            None => others.push((chain, transaction)),
        }
    }
    let transfers: Vec<Transfer> = plain.iter().map(|(_, transfer)| *transfer).collect();
    for ((place, _), answer) in plain.iter().zip(batch::transfers(inner, &transfers, deadline).await) {
        answers[*place] = answer;
    }
    for some in others.chunks(SIDE_BY_SIDE) {
        let asked = some.iter().map(|(_, transaction)| transact(inner, transaction, deadline));
        for ((chain, _), done) in some.iter().zip(join_all(asked).await) {
            let answer = Answer { status: done.status, replayed: done.replayed, attempts: done.attempts };
            let told = told(&batch[chain.clone()], answer);
            chain.clone().zip(told).for_each(|(place, answer)| answers[place] = answer);
        }
    }
    answers
}

#[cfg(test)]
mod tests {
    use drachma_protocol::ids::{AccountId, TransferId};

    use super::*;

    fn member(id: u128, amount: u128, linked: bool) -> Linked {
        let (debit, credit) = (AccountId(1), AccountId(2));
        let transfer =
            Transfer { id: TransferId(id), debit, credit, amount, ledger: 1, code: 1, ..Transfer::default() };
        Linked { operation: Operation::Transfer(transfer), linked }
    }

    fn transaction(members: &[Linked]) -> Transaction {
        Transaction::of_chain(members.iter().map(|member| member.operation.clone()).collect())
    }

    #[test]
    fn a_chain_ends_with_the_first_member_that_is_not_linked() {
        let batch: Vec<Linked> = [false, true, true, false, false, true].map(|linked| member(1, 1, linked)).into();
        assert_eq!(chains(&batch), [0..1, 1..4, 4..5, 5..6]);
        assert_eq!(chains(&batch[..5]), [0..1, 1..4, 4..5]);
        assert!(chains(&[]).is_empty());
    }

    #[test]
    fn a_chain_that_its_batch_leaves_open_is_not_sent() {
        let open = [member(1, 1, true), member(2, 1, true)];
        assert_eq!(refusal(&open, &transaction(&open)), Some(Reason::LinkedEventChainOpen));
        let whole = [member(1, 1, true), member(2, 1, false)];
        assert_eq!(refusal(&whole, &transaction(&whole)), None);
        let twice = [member(1, 1, true), member(1, 1, false)];
        assert_eq!(refusal(&twice, &transaction(&twice)), Some(Reason::IdConflict));
        let most: Vec<Linked> =
            (1..=OPERATIONS_LIMIT as u128).map(|id| member(id, 1, id < OPERATIONS_LIMIT as u128)).collect();
        assert_eq!(refusal(&most, &transaction(&most)), None);
        let more = [vec![member(9999, 1, true)], most].concat();
        assert_eq!(refusal(&more, &transaction(&more)), Some(Reason::TooLarge));
    }

    #[test]
    fn one_member_is_told_the_reason_and_the_others_that_another_failed() {
        let chain = [member(1, 1, true), member(2, 0, true), member(3, 1, false)];
        let reasons = |reason| {
            let answer = Answer { status: Status::Rejected(reason), replayed: false, attempts: 1 };
            told(&chain, answer).into_iter().map(|answer| answer.status).collect::<Vec<_>>()
        };
        let failed = Status::Rejected(Reason::LinkedEventFailed);
        assert_eq!(reasons(Reason::ZeroAmount), [failed, Status::Rejected(Reason::ZeroAmount), failed]);
        assert_eq!(reasons(Reason::ExceedsCredits), [failed, failed, Status::Rejected(Reason::ExceedsCredits)]);
    }

    #[test]
    fn the_same_chain_is_the_same_transaction_and_another_one_is_not() {
        let chain = [member(1, 1, true), member(2, 1, false)];
        assert_eq!(transaction(&chain), transaction(&chain));
        // Pinned: clients in other languages make the same of it.
        assert_eq!(transaction(&chain).id, TransferId(46361719837499378709282246372646211039));
        assert_ne!(transaction(&chain).id, transaction(&[member(1, 2, true), member(2, 1, false)]).id);
    }
}
