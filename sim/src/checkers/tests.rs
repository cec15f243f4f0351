//! Each checker against a history that breaks its property, and all of them against one that breaks none.

use drachma_protocol::ids::{AccountId, Epoch, TransferId};
use drachma_protocol::ledger::Limits as LedgerLimits;
use drachma_protocol::ledger::model::{Flags, Outcome, Reason, Sides, Transfer};
use drachma_protocol::message::operator::LedgerTotals;
use drachma_protocol::placement::map::{AccountRange, Mode, ShardMap};
use drachma_protocol::time::{LogTime, Span};

use super::*;
use crate::history::ReadRecord;

/// Two groups of one node: accounts 1 to 5 and 6 to 10, each with 10.
fn shape() -> Shape {
    let range = |first, last| AccountRange { first: AccountId(first), last: AccountId(last) };
    let owners = vec![GroupId(1), GroupId(2)];
    Shape {
        groups: vec![(GroupId(1), vec![NodeId(1)]), (GroupId(2), vec![NodeId(2)])],
        map: ShardMap { epoch: Epoch(1), mode: Mode::Range(vec![range(1, 5), range(6, 10)]), owners },
        accounts: 10,
        initial_balance: 10,
        limits: LedgerLimits::default(),
        heartbeat: Span(1),
        leader_timeout: Span(10),
        resend: Span(1),
        inquire_after: Span(1),
    }
}

fn transfer(id: u128, debit: u128, credit: u128, amount: u128) -> Transfer {
    let (debit, credit) = (AccountId(debit), AccountId(credit));
    Transfer { id: TransferId(id), debit, credit, amount, ledger: 1, code: 1, ..Transfer::default() }
}

/// A run in the making.
struct Story {
    shape: Shape,
    history: History,
    groups: BTreeMap<GroupId, Vec<ReplicaView>>,
}

impl Story {
    fn new() -> Story {
        let shape = shape();
        let mut groups = BTreeMap::new();
        for (group, nodes) in &shape.groups {
            let own = (1..=10).map(AccountId).filter(|id| shape.map.owner_of(*id) == Some(*group));
            let accounts: Vec<Account> = own.map(|id| account(id, 0, 10)).collect();
            groups.insert(*group, vec![ReplicaView { node: nodes[0], totals: totals(), posted: Vec::new(), accounts }]);
        }
        Story { shape, history: History::default(), groups }
    }

    /// A transfer is asked for and answered.
    fn asked(&mut self, transfer: Transfer, from: u64, until: u64, outcome: Outcome) -> &mut Story {
        self.history.invoke(from, transfer);
        self.history.answer(until, TxnId::from(&transfer), outcome);
        self
    }

    /// One side of a transfer is posted in its group.
    fn posted(&mut self, transfer: Transfer, sides: Sides) -> &mut Story {
        let id = if sides == Sides::Credit { transfer.credit } else { transfer.debit };
        let group = self.shape.map.owner_of(id).unwrap();
        let view = &mut self.groups.get_mut(&group).unwrap()[0];
        view.posted.push(Posted { transfer, sides, posted_at: LogTime(0) });
        let ledger = &mut view.totals.ledgers[0];
        for account in &mut view.accounts {
            if account.id == transfer.debit {
                account.debits_posted += transfer.amount;
                ledger.debits += transfer.amount;
                ledger.sent += if sides == Sides::Debit { transfer.amount } else { 0 };
            }
            if account.id == transfer.credit {
                account.credits_posted += transfer.amount;
                ledger.credits += transfer.amount;
                ledger.received += if sides == Sides::Credit { transfer.amount } else { 0 };
            }
        }
        self
    }

    fn across(&mut self, transfer: Transfer, from: u64, until: u64) -> &mut Story {
        self.asked(transfer, from, until, Outcome::Committed);
        self.posted(transfer, Sides::Debit).posted(transfer, Sides::Credit)
    }

    fn read(&mut self, id: u128, from: u64, until: u64, debits: u128, credits: u128) -> &mut Story {
        let found = Some(account(AccountId(id), debits, credits));
        self.history.reads.push(ReadRecord { account: AccountId(id), invoked: from, completed: until, found });
        self
    }

    /// Which checker finds what.
    fn found(&self) -> Option<&'static str> {
        let end = End { shape: &self.shape, history: &self.history, groups: &self.groups, stuck: None };
        Checkers::all().ask(|checker| checker.at_end(&end)).err().map(|violation| violation.checker)
    }
}

fn account(id: AccountId, debits_posted: u128, credits_posted: u128) -> Account {
    Account {
        id,
        ledger: 1,
        code: 1,
        flags: Flags::DEBITS_MUST_NOT_EXCEED_CREDITS,
        debits_posted,
        credits_posted,
        ..Account::default()
    }
}

fn totals() -> Totals {
    Totals {
        applied: Slot(9),
        digest: 0,
        accounts: 5,
        posted: 0,
        ids: 0,
        in_doubt: 0,
        coordinated: 0,
        waiting: 0,
        ledgers: vec![LedgerTotals { ledger: 1, ..LedgerTotals::default() }],
        epoch: Epoch(1),
    }
}

#[test]
fn a_good_run_passes() {
    let mut story = Story::new();
    story.across(transfer(1, 1, 6, 3), 10, 20).asked(
        transfer(2, 1, 7, 99),
        10,
        20,
        Outcome::Rejected(Reason::ExceedsCredits),
    );
    story.read(1, 30, 40, 3, 10).read(6, 15, 18, 0, 10).read(6, 15, 19, 0, 13);
    assert_eq!(story.found(), None);
}

#[test]
fn a_transfer_that_was_posted_in_one_group_only_is_found() {
    let mut story = Story::new();
    story.history.invoke(1, transfer(1, 1, 6, 3));
    story.posted(transfer(1, 1, 6, 3), Sides::Debit);
    assert_eq!(story.found(), Some("conservation"));
    // The sums agree, the transfers do not.
    story.history.invoke(1, transfer(2, 1, 6, 3));
    story.posted(transfer(2, 1, 6, 3), Sides::Credit);
    assert_eq!(story.found(), Some("atomicity"));
}

#[test]
fn an_answer_that_does_not_agree_with_what_was_posted_is_found() {
    let mut lost = Story::new();
    lost.asked(transfer(1, 1, 2, 3), 1, 2, Outcome::Committed);
    assert_eq!(lost.found(), Some("exactly once"));
    let mut surprise = Story::new();
    surprise.asked(transfer(1, 1, 2, 3), 1, 2, Outcome::Rejected(Reason::Fenced));
    surprise.posted(transfer(1, 1, 2, 3), Sides::Both);
    assert_eq!(surprise.found(), Some("exactly once"));
}

#[test]
fn a_double_posting_and_one_that_nobody_asked_for_are_found() {
    let mut twice = Story::new();
    twice.asked(transfer(1, 1, 2, 3), 1, 2, Outcome::Committed);
    twice.posted(transfer(1, 1, 2, 3), Sides::Both).posted(transfer(1, 1, 2, 3), Sides::Both);
    assert_eq!(twice.found(), Some("exactly once"));
    let mut invented = Story::new();
    invented.posted(transfer(1, 1, 2, 3), Sides::Both);
    assert_eq!(invented.found(), Some("exactly once"));
}

#[test]
fn an_account_that_does_not_hold_what_was_posted_is_found() {
    let mut story = Story::new();
    story.groups.get_mut(&GroupId(1)).unwrap()[0].accounts[0].credits_posted += 1;
    assert_eq!(story.found(), Some("conservation"));
}

#[test]
fn replicas_that_end_unequal_are_found() {
    let mut story = Story::new();
    let replicas = story.groups.get_mut(&GroupId(1)).unwrap();
    let mut other = replicas[0].clone();
    other.totals.digest = 1;
    replicas.push(other);
    assert_eq!(story.found(), Some("agreement"));
}

#[test]
fn contradicting_answers_are_found_at_once() {
    let mut story = Story::new();
    story.asked(transfer(1, 1, 2, 3), 1, 2, Outcome::Committed);
    let again = story.history.answer(3, TxnId::from(&transfer(1, 1, 2, 3)), Outcome::Committed).unwrap().clone();
    assert!(exactly_once::ExactlyOnce.on_answer(&again).is_ok());
    let rejected = Outcome::Rejected(Reason::Fenced);
    let other = story.history.answer(3, TxnId::from(&transfer(1, 1, 2, 3)), rejected).unwrap();
    assert!(exactly_once::ExactlyOnce.on_answer(other).is_err());
}

#[test]
fn a_stale_read_a_read_of_the_future_and_reads_that_go_back_are_found() {
    let after = |id, from, until, debits, credits| {
        let mut story = Story::new();
        story.across(transfer(1, 1, 6, 3), 10, 20).read(id, from, until, debits, credits);
        story.found()
    };
    assert_eq!(after(1, 21, 22, 0, 10), Some("reads"));
    assert_eq!(after(6, 5, 9, 0, 13), Some("reads"));
    assert_eq!(after(6, 12, 13, 0, 11), Some("reads"), "a state that never was");
    let mut back = Story::new();
    back.across(transfer(1, 1, 6, 3), 10, 20).read(6, 11, 12, 0, 13).read(6, 13, 14, 0, 10);
    assert_eq!(back.found(), Some("reads"));
}

/// Hazard S1(b): T: X to A, home g2. A read of X began before T2, saw T, and not T2; another one, of A, saw a transfer
/// that was asked for after T2 was answered, and not T. Each read by itself is right.
#[test]
fn s1b_a_cycle_over_two_groups_is_found_though_every_read_by_itself_is_right() {
    let mut story = Story::new();
    let (t, t2, t3) = (transfer(1, 6, 1, 3), transfer(2, 7, 6, 1), transfer(3, 2, 1, 2));
    story.asked(t2, 20, 30, Outcome::Committed).asked(t3, 31, 40, Outcome::Committed);
    story.asked(t, 5, 90, Outcome::Committed);
    story.posted(t2, Sides::Both).posted(t3, Sides::Both);
    // What the log of g2 posts first does not help: the read left T2 out, so X was (3, 10).
    let rows = story.groups.get_mut(&GroupId(2)).unwrap();
    rows[0].posted.clear();
    rows[0].accounts.iter_mut().for_each(|a| *a = account(a.id, 0, 10));
    rows[0].totals.ledgers = vec![LedgerTotals { ledger: 1, ..LedgerTotals::default() }];
    story.posted(t, Sides::Debit).posted(t2, Sides::Both).posted(t, Sides::Credit);
    story.read(6, 6, 95, 3, 10).read(1, 41, 50, 0, 12);
    assert_eq!(story.found(), Some("serializable"));
}

#[test]
fn an_account_beyond_its_limit_is_found() {
    let sample = |accounts: &[Account]| {
        limits::Limits.on_sample(&Sample { node: NodeId(1), group: GroupId(1), accounts }).is_err()
    };
    assert!(sample(&[account(AccountId(1), 11, 10)]));
    assert!(!sample(&[account(AccountId(1), 10, 10)]));
    assert!(sample(&[Account { debits_pending: 1, ..account(AccountId(1), 10, 10) }]));
}

#[test]
fn two_values_for_a_slot_and_two_states_at_a_length_are_found() {
    let entries = [Bytes::from_static(b"a")];
    let others = [Bytes::from_static(b"b")];
    let state = |digest| Totals { applied: Slot(1), digest, ..totals() };
    let see = |checker: &mut agreement::Agreement, node, entries: &[Bytes], digest| {
        let totals = state(digest);
        let (node, group, from) = (NodeId(node), GroupId(1), Slot(0));
        checker.on_applied(&Applied { node, group, from, entries, totals: &totals })
    };
    let mut checker = agreement::Agreement::default();
    assert!(see(&mut checker, 1, &entries, 5).is_ok());
    assert!(see(&mut checker, 2, &entries, 5).is_ok());
    assert!(see(&mut checker, 3, &others, 5).is_err());
    assert!(see(&mut checker, 3, &entries, 6).is_err());
    assert!(see(&mut checker, 3, &[], 5).is_err(), "applied what its log does not have");
}

#[test]
fn money_made_in_a_group_is_found_when_it_is_made() {
    let ledgers = vec![LedgerTotals { ledger: 1, debits: 5, credits: 4, sent: 0, received: 0 }];
    let totals = Totals { ledgers, ..totals() };
    let applied = Applied { node: NodeId(1), group: GroupId(1), from: Slot(0), entries: &[], totals: &totals };
    assert!(conservation::Conservation.on_applied(&applied).is_err());
}

#[test]
fn the_canary_fails_and_so_does_what_is_stuck() {
    let story = Story::new();
    let end = End { shape: &story.shape, history: &story.history, groups: &story.groups, stuck: Some("stuck") };
    assert!(canary::Canary.at_end(&end).is_err());
    assert_eq!(Checkers::all().ask(|checker| checker.at_end(&end)).err().map(|v| v.class), Some(Class::Liveness));
}
