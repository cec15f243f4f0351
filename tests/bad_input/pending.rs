//! Two-phase transfers, chains and closed accounts as they cannot be: each with its typed answer.

use std::time::{Duration, Instant};

use drachma_client::{Linked, Status};
use drachma_protocol::ids::{AccountId, GroupId, TransferId};
use drachma_protocol::ledger::model::{PendingState, Reason};
use drachma_protocol::ledger::operations::{
    List, ListOf, ListedRows, OPERATIONS_LIMIT, Operation, Pend, PostPending, Transaction, VoidPending,
};
use drachma_protocol::time::{LogTime, Span};

use crate::rig::{PATIENCE, Rig, transfer};

fn pend(id: u128, debit: u128, credit: u128, amount: u128, timeout: u64) -> Operation {
    Operation::Pend(Pend { transfer: transfer(id, debit, credit, amount), timeout: Span::from_millis(timeout) })
}

fn post(id: u128, (pending, debit, credit): (u128, u128, u128), amount: Option<u128>) -> Operation {
    let (pending, debit, credit) = (TransferId(pending), AccountId(debit), AccountId(credit));
    Operation::Post(PostPending { id: TransferId(id), pending, debit, credit, amount })
}

fn void(id: u128, (pending, debit, credit): (u128, u128, u128)) -> Operation {
    let (pending, debit, credit) = (TransferId(pending), AccountId(debit), AccountId(credit));
    Operation::Void(VoidPending { id: TransferId(id), pending, debit, credit })
}

impl Rig {
    fn linked(&self, batch: Vec<(Operation, bool)>) -> Vec<Status> {
        let batch: Vec<Linked> = batch.into_iter().map(|(operation, linked)| Linked { operation, linked }).collect();
        let answers = self.block_on(self.client.linked(&batch, Some(PATIENCE)));
        answers.into_iter().map(|answer| answer.status).collect()
    }

    /// Final: the same gets the same answer again.
    fn one(&self, operation: Operation) -> Status {
        let first = self.linked(vec![(operation.clone(), false)])[0];
        assert_eq!(self.linked(vec![(operation, false)])[0], first);
        first
    }

    fn state_of(&self, account: u128, id: u128) -> Option<PendingState> {
        let group = self.client.map().map.owner_of(AccountId(account)).expect("an account of a group");
        self.pending(group, account).into_iter().find(|(found, _)| *found == id).map(|(_, state)| state)
    }

    fn pending(&self, group: GroupId, account: u128) -> Vec<(u128, PendingState)> {
        let of = ListOf::Pending(AccountId(account));
        let list = List { of, newest: true, since: LogTime(0), until: None, from: None, limit: 1000 };
        let listed = self.block_on(self.client.list(group, list, Some(PATIENCE))).unwrap();
        let ListedRows::Pending(rows) = listed.rows else { panic!("{listed:?}") };
        rows.into_iter().map(|row| (row.transfer.id.0, row.state)).collect()
    }
}

const fn rejected(reason: Reason) -> Status {
    Status::Rejected(reason)
}

#[test]
fn a_pending_transfer_ends_once_within_what_was_reserved_and_its_time() {
    let rig = Rig::small("pending");
    let map = rig.client.map().map;
    let other = (2..=2000).find(|id| map.owner_of(AccountId(*id)) != map.owner_of(AccountId(1))).unwrap_or(2);
    for (base, credit) in [(100, 2), (200, other)] {
        let named = |id| (base + id, 1, credit);
        for id in 1..=3 {
            assert_eq!(rig.one(pend(base + id, 1, credit, 2, 0)), Status::Committed);
        }
        assert_eq!(rig.one(post(base + 11, named(1), Some(3))), rejected(Reason::ExceedsPendingAmount));
        assert_eq!(rig.one(post(base + 12, named(1), Some(0))), rejected(Reason::ZeroAmount));
        assert_eq!(rig.one(post(base + 13, named(1), Some(2))), Status::Committed, "at the limit");
        assert_eq!(rig.one(post(base + 14, named(1), None)), rejected(Reason::PendingAlreadyPosted));
        assert_eq!(rig.one(void(base + 15, named(2))), Status::Committed);
        assert_eq!(rig.one(void(base + 16, named(2))), rejected(Reason::PendingAlreadyVoided));
        assert_eq!(rig.one(void(base + 17, named(9))), rejected(Reason::PendingNotFound));
        assert_eq!(rig.one(void(base + 18, (base + 3, 1, 3))), rejected(Reason::PendingDifferentAccounts));
        assert_eq!(rig.one(void(base + 19, named(3))), Status::Committed);
        assert_eq!(rig.one(pend(base + 4, 1, credit, 2, 50)), Status::Committed);
        let until = Instant::now() + PATIENCE;
        while rig.state_of(1, base + 4) != Some(PendingState::Expired) {
            assert!(Instant::now() < until, "it expires by itself");
            std::thread::sleep(Duration::from_millis(10));
        }
        assert_eq!(rig.state_of(credit, base + 4), Some(PendingState::Expired), "on both sides");
        assert_eq!(rig.one(post(base + 20, named(4), None)), rejected(Reason::PendingExpired));
    }
}

#[test]
fn chains_that_are_open_too_long_or_broken_take_no_effect() {
    let rig = Rig::small("chains");
    let pay = |id, amount| Operation::Transfer(transfer(id, 1, 2, amount));
    let open = rejected(Reason::LinkedEventChainOpen);
    assert_eq!(
        rig.linked(vec![(pay(1, 1), false), (pay(2, 1), true), (pay(3, 1), true)]),
        [Status::Committed, open, open]
    );
    let failed = rejected(Reason::LinkedEventFailed);
    assert_eq!(
        rig.linked(vec![(pay(4, 1), true), (pay(5, 0), true), (pay(6, 1), false)]),
        [failed, rejected(Reason::ZeroAmount), failed]
    );
    let chain = vec![(pay(7, 1), true), (pend(8, 1, 2, 1, 0), true), (pay(9, 1), false)];
    assert_eq!(rig.linked(chain.clone()), [Status::Committed; 3]);
    assert_eq!(rig.linked(chain), [Status::Committed; 3], "the same chain is carried out once");
    assert_eq!(rig.linked(vec![(pay(10, 1), true), (pay(7, 1), false)]), [failed, rejected(Reason::IdConflict)]);
    let long = |count: u128| (1..=count).map(|n| (pay(1000 + n, 1), n < count)).collect::<Vec<_>>();
    let more = rig.linked(long(OPERATIONS_LIMIT as u128 + 1));
    assert_eq!(more.last(), Some(&rejected(Reason::TooLarge)));
}

#[test]
fn a_closed_account_takes_nothing_but_a_voiding() {
    let rig = Rig::small("closed");
    assert_eq!(rig.one(pend(1, 1, 2, 2, 0)), Status::Committed);
    let switch = |id, operation| {
        let transaction = Transaction { id: TransferId(id), conditions: vec![], operations: vec![operation] };
        rig.block_on(rig.client.transact(&transaction, Some(PATIENCE))).status
    };
    assert_eq!(switch(50, Operation::Close(AccountId(2))), Status::Committed);
    let closed = rejected(Reason::Closed);
    assert_eq!(rig.one(pend(2, 1, 2, 1, 0)), closed);
    assert_eq!(rig.one(Operation::Transfer(transfer(3, 2, 1, 1))), closed);
    assert_eq!(rig.one(post(4, (1, 1, 2), None)), closed);
    assert_eq!(rig.one(void(5, (1, 1, 2))), Status::Committed);
    assert_eq!(switch(51, Operation::Open(AccountId(2))), Status::Committed);
    assert_eq!(switch(52, Operation::Open(AccountId(1 << 100))), rejected(Reason::NoSuchAccount));
    assert_eq!(rig.one(Operation::Transfer(transfer(6, 1, 2, 1))), Status::Committed);
}
