//! Numbers 6, 7, 9 and 10: what groups posted and what their logs say.

use drachma_protocol::ids::{Age, Attempt, Ballot, ReplicaId};
use drachma_protocol::message::command::{Begin, Decide, Forget, Prepare, Resolve, Verdict as Ending};

use super::*;

const NOTHING: [&str; 0] = [];

#[test]
fn an_account_that_does_not_hold_what_was_posted_is_found() {
    let mut story = Story::new();
    for index in 0..3 {
        story.replica(G1, index).accounts[0].credits_posted += 1;
    }
    assert_eq!(story.found(), ["conservation"]);
}

#[test]
fn money_made_in_a_group_is_found_when_it_is_made() {
    let judged = |credits| {
        let mut story = Story::new();
        let ledgers = vec![LedgerTotals { ledger: 1, debits: 5, credits, ..LedgerTotals::default() }];
        let totals = Totals { ledgers, ..totals(0) };
        story.happens(move |checker| {
            let state = Some(State { totals: &totals, time: LogTime(0) });
            let (node, from, until) = (NodeId(1), Slot(0), Slot(0));
            checker.on_applied(&Applied {
                node,
                group: G1,
                from,
                until,
                entries: &[],
                posted_from: 0,
                posted: &[],
                state,
            })
        });
        story.found()
    };
    assert_eq!(judged(4), ["conservation"]);
    assert_eq!(judged(5), NOTHING);
}

#[test]
fn counters_of_what_was_sent_that_lie_are_found() {
    let mut story = Story::new();
    story.across(transfer(1, 1, 6, 3), 1, 2);
    for index in 0..3 {
        let ledger = &mut story.replica(G1, index).totals.ledgers[0];
        (ledger.sent, ledger.received) = (5, 2); // The difference is right.
    }
    assert_eq!(story.found(), ["conservation"]);
}

#[test]
fn a_transfer_that_was_posted_in_one_group_only_is_found() {
    let t = transfer(1, 1, 6, 3);
    let mut story = Story::new();
    story.asked(t, 1, 2, Outcome::Committed).posted(t, Sides::Debit);
    assert_eq!(story.found(), ["atomicity"], "on the cut no money is missing");
    story.posted(t, Sides::Credit);
    assert_eq!(story.found(), NOTHING);
}

#[test]
fn what_is_left_over_in_a_majority_is_found() {
    let judged = |replicas: usize| {
        let mut story = Story::new();
        for index in 0..replicas {
            let replica = story.replica(G2, index);
            replica.totals.coordinated = 1;
            replica.totals.applied = Slot(8); // Those that lag may have it.
        }
        story.found()
    };
    assert_eq!(judged(2), ["atomicity"]);
    assert_eq!(judged(1), NOTHING);
}

/// The records of one attempt at a transfer from account 1 to 6.
struct Try {
    transfer: Transfer,
    attempt: Attempt,
}

impl Try {
    fn new(number: u64) -> Try {
        let ballot = Ballot { round: 1, replica: ReplicaId(1) };
        Try { transfer: transfer(1, 1, 6, 3), attempt: Attempt { ballot, number } }
    }

    fn txn(&self) -> TxnId {
        TxnId::from(&self.transfer)
    }

    fn begin(&self) -> Command {
        Command::Begin(Begin {
            txn: self.txn(),
            attempt: self.attempt,
            age: Age::default(),
            participants: vec![G1, G2],
            action: self.transfer.into(),
            deadline: Span(1),
        })
    }

    fn prepare(&self) -> Command {
        Command::Prepare(Prepare {
            txn: self.txn(),
            attempt: self.attempt,
            age: Age::default(),
            participants: vec![G1, G2],
            action: self.transfer.into(),
            deadline: Span(1),
        })
    }

    fn decide(&self, verdict: Ending) -> Command {
        Command::Decide(Decide { txn: self.txn(), attempt: self.attempt, verdict, replies: Vec::new() })
    }

    fn resolve(&self, verdict: Ending) -> Command {
        Command::Resolve(Resolve { txn: self.txn(), attempt: self.attempt, verdict, values: Vec::new() })
    }

    fn forget(&self) -> Command {
        Command::Forget(Forget { ended: vec![(self.txn(), self.attempt)] })
    }
}

/// What the checker of atomicity says of logs that grow in this order: one command an entry, and what it posts.
fn logs(steps: &[(GroupId, Command, Option<Sides>)]) -> Vec<&'static str> {
    let mut story = Story::new();
    let t = Try::new(0).transfer;
    for (slot, (group, command, sides)) in (0..).zip(steps) {
        let bytes: Entry = from_slice(&entry(1, vec![command.clone()])).unwrap();
        let (group, sides) = (*group, *sides);
        story.happens(move |checker| {
            if checker.name() != "atomicity" {
                return Ok(()); // Others would ask for the records of the log.
            }
            checker.on_entry(&Chosen { group, slot: Slot(slot), entry: &bytes })?;
            let posted: Vec<Posted> =
                sides.into_iter().map(|sides| Posted { transfer: t, sides, posted_at: LogTime(0) }).collect();
            let (node, from, until) = (NodeId(1), Slot(slot), Slot(slot + 1));
            let totals = totals(slot + 1);
            checker.on_applied(&Applied {
                node,
                group,
                from,
                until,
                entries: &[],
                posted_from: 0,
                posted: &posted,
                state: Some(State { totals: &totals, time: LogTime(0) }),
            })
        });
    }
    story.found()
}

#[test]
fn a_transaction_by_the_book_passes() {
    let (first, second) = (Try::new(1), Try::new(2));
    let debit = Some(Sides::Debit);
    let credit = Some(Sides::Credit);
    let book = [
        (G1, first.begin(), None),
        (G1, first.decide(Ending::Abort), None),
        (G2, first.resolve(Ending::Abort), None),
        (G1, second.begin(), None),
        (G2, second.prepare(), None),
        (G1, second.decide(Ending::Commit), debit),
        (G1, second.decide(Ending::Abort), None), // A second decision is void.
        (G2, second.resolve(Ending::Commit), credit),
        (G1, second.forget(), None),
        (G2, second.resolve(Ending::Abort), None), // Presumed, by one who has forgotten; without consequence.
    ];
    assert_eq!(logs(&book), NOTHING);
}

#[test]
fn logs_that_do_not_agree_on_the_end_of_an_attempt_are_found() {
    let (first, second) = (Try::new(1), Try::new(2));
    let (debit, credit) = (Some(Sides::Debit), Some(Sides::Credit));
    let undecided = [(G1, first.begin(), None), (G2, first.resolve(Ending::Commit), None)];
    assert_eq!(logs(&undecided), ["atomicity"]);
    let aborted = [(G1, first.decide(Ending::Abort), None), (G2, first.resolve(Ending::Commit), None)];
    assert_eq!(logs(&aborted), ["atomicity"]);
    let released = [(G1, first.decide(Ending::Commit), debit), (G2, first.resolve(Ending::Abort), None)];
    assert_eq!(logs(&released), ["atomicity"]);
    let late = [(G2, first.resolve(Ending::Abort), None), (G1, first.decide(Ending::Commit), debit)];
    assert_eq!(logs(&late), ["atomicity"]);
    let alone = [(G2, first.resolve(Ending::Abort), credit)];
    assert_eq!(logs(&alone), ["atomicity"], "posts what its coordinator's group has not");
    let another = [
        (G2, first.resolve(Ending::Abort), None),
        (G1, second.decide(Ending::Commit), debit),
        (G2, second.resolve(Ending::Commit), credit),
    ];
    assert_eq!(logs(&another), NOTHING, "another attempt may end otherwise");
}

#[test]
fn a_commit_without_a_prepare_of_its_attempt_and_one_that_posts_nothing_are_found() {
    let (first, second) = (Try::new(1), Try::new(2));
    let (debit, credit) = (Some(Sides::Debit), Some(Sides::Credit));
    let logged = |prepare: Command, sides: Option<Sides>| {
        logs(&[
            (G1, second.begin(), None),
            (G2, prepare, None),
            (G1, second.decide(Ending::Commit), debit),
            (G2, second.resolve(Ending::Commit), sides),
        ])
    };
    assert_eq!(logged(second.prepare(), credit), NOTHING);
    assert_eq!(logged(first.prepare(), credit), ["atomicity"], "the vote was for an older attempt");
    assert_eq!(logged(second.prepare(), None), ["atomicity"], "what it held was lost");
}

#[test]
fn a_commit_that_is_forgotten_too_early_is_found() {
    let t = Try::new(1);
    let (begin, decide) = ((G1, t.begin(), None), (G1, t.decide(Ending::Commit), Some(Sides::Debit)));
    let resolve = (G2, t.resolve(Ending::Commit), Some(Sides::Credit));
    let forget = (G1, t.forget(), None);
    let prepare = (G2, t.prepare(), None);
    let early = [begin.clone(), prepare.clone(), decide.clone(), forget.clone(), resolve.clone()];
    assert_eq!(logs(&early), ["atomicity"]);
    assert_eq!(logs(&[begin, prepare, decide, resolve, forget]), NOTHING);
}

#[test]
fn an_account_beyond_its_limit_is_found_in_a_sample_and_between_two_postings() {
    let sample = |account: Account| {
        let mut story = Story::new();
        story.happens(move |checker| checker.on_sample(&Sample { node: NodeId(1), group: G1, accounts: &[account] }));
        story.found()
    };
    assert_eq!(sample(account(AccountId(1), 11, 10)), ["limits"]);
    assert_eq!(sample(account(AccountId(1), 10, 10)), NOTHING);
    assert_eq!(sample(Account { debits_pending: 1, ..account(AccountId(1), 10, 10) }), ["limits"]);
    let posts = |amounts: [(u128, u128, u128); 2]| {
        let mut story = Story::new();
        let row = |(debit, credit, amount)| Posted {
            transfer: transfer(amount, debit, credit, amount),
            sides: Sides::Both,
            posted_at: LogTime(0),
        };
        let posted: Vec<Posted> = amounts.into_iter().map(row).collect();
        story.happens(move |checker| {
            if checker.name() == "atomicity" {
                return Ok(()); // It would ask for the records of the log.
            }
            let (node, from, until) = (NodeId(1), Slot(0), Slot(0));
            checker.on_applied(&Applied {
                node,
                group: G1,
                from,
                until,
                entries: &[],
                posted_from: 0,
                posted: &posted,
                state: None,
            })
        });
        story.found()
    };
    // In the end all is well; in between account 1 had paid 12 of 10.
    assert_eq!(posts([(1, 2, 12), (3, 1, 5)]), ["limits"]);
    assert_eq!(posts([(3, 1, 5), (1, 2, 12)]), NOTHING);
}

#[test]
fn accounts_and_postings_in_the_wrong_group_are_found() {
    let mut strange = Story::new();
    strange.replica(G2, 0).accounts.push(account(AccountId(1), 0, 10));
    strange.replica(G2, 1).accounts.push(account(AccountId(1), 0, 10));
    strange.replica(G2, 2).accounts.push(account(AccountId(1), 0, 10));
    assert_eq!(strange.found(), ["ownership", "accounts"]);
    let mut nowhere = Story::new();
    for index in 0..3 {
        nowhere.replica(G1, index).accounts.remove(4);
    }
    assert_eq!(nowhere.found(), ["ownership"]);
    let posts = |sides| {
        let mut story = Story::new();
        let row = Posted { transfer: transfer(1, 1, 6, 3), sides, posted_at: LogTime(0) };
        story.happens(move |checker| {
            let (node, from, until) = (NodeId(1), Slot(0), Slot(0));
            checker.on_applied(&Applied {
                node,
                group: G1,
                from,
                until,
                entries: &[],
                posted_from: 0,
                posted: &[row],
                state: None,
            })
        });
        story.found()
    };
    assert_eq!(posts(Sides::Both), ["ownership"]);
    assert_eq!(posts(Sides::Debit), NOTHING);
}
