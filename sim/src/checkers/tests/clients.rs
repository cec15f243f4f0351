//! Numbers 4, 8 and 12: what clients were told.

use drachma_protocol::message::client::{Call, ReadCall, ReadDone};
use drachma_protocol::message::command::Fence;

use super::*;

const NOTHING: [&str; 0] = [];

#[test]
fn a_stale_read_a_read_of_the_future_and_reads_that_go_back_are_found() {
    let after = |id, from, until, debits, credits| {
        let mut story = Story::new();
        story.across(transfer(1, 1, 6, 3), 10, 20).read(id, from, until, debits, credits);
        story.found()
    };
    // What real time says of one account, the checker of all accounts says, too.
    assert_eq!(after(1, 21, 22, 0, 10), ["reads", "serializable"]);
    assert_eq!(after(1, 20, 22, 0, 10), NOTHING);
    assert_eq!(after(6, 5, 9, 0, 13), ["reads", "serializable"]);
    assert_eq!(after(6, 5, 10, 0, 13), NOTHING);
    assert_eq!(after(6, 12, 13, 0, 11), ["reads"], "a state that never was");
    let back = |second| {
        let mut story = Story::new();
        story.across(transfer(1, 1, 6, 3), 10, 20).read(6, 11, 12, 0, 13).read(6, second, 14, 0, 10);
        story.found()
    };
    assert_eq!(back(13), ["reads", "serializable"]);
    assert_eq!(back(12), NOTHING);
}

#[test]
fn a_read_that_does_not_find_an_account_that_exists_is_found() {
    let absent = |id: u128| {
        let mut story = Story::new();
        let record = ReadRecord { account: AccountId(id), invoked: 1, completed: 2, found: None };
        story.history.reads.push(record);
        story.found()
    };
    assert_eq!(absent(1), ["reads"]);
    assert_eq!(absent(99), NOTHING);
}

#[test]
fn a_rejection_that_no_moment_justifies_is_found() {
    let judged = |amount, credit_answered| {
        let mut story = Story::new();
        story.across(transfer(1, 6, 1, 9), 10, credit_answered);
        story.rejected(transfer(2, 1, 2, amount), 30, 40, Reason::ExceedsCredits).found()
    };
    assert_eq!(judged(15, 20), ["rejections"], "the credit was answered before");
    assert_eq!(judged(15, 30), NOTHING, "the credit may have come later");
    assert_eq!(judged(20, 20), NOTHING);
    assert_eq!(judged(10, 90), ["rejections"], "the opening balance is enough");
}

#[test]
fn debits_that_were_asked_for_later_justify_nothing() {
    let judged = |debit_invoked| {
        let mut story = Story::new();
        story.within(transfer(1, 1, 2, 9), debit_invoked, 90);
        story.rejected(transfer(2, 1, 3, 5), 30, 40, Reason::ExceedsCredits).found()
    };
    assert_eq!(judged(41), ["rejections"]);
    assert_eq!(judged(40), NOTHING);
}

/// A credit from another group that is answered and not yet posted counts: `high` has it (hazard S3).
#[test]
fn s3_a_debit_rejected_though_a_decided_credit_covers_it_is_found() {
    let judged = |credit_answered| {
        let (credit, other) = (transfer(1, 6, 1, 9), transfer(2, 1, 2, 1));
        let mut story = Story::new();
        // g1 posts the credit after a debit that was asked for after the rejection.
        story.asked(credit, 10, credit_answered, Outcome::Committed).posted(credit, Sides::Debit);
        story.within(other, 50, 60).posted(credit, Sides::Credit);
        story.rejected(transfer(3, 1, 2, 12), 30, 40, Reason::ExceedsCredits).found()
    };
    assert_eq!(judged(20), ["rejections"]);
    assert_eq!(judged(35), NOTHING);
}

#[test]
fn a_reason_that_is_not_true_is_found() {
    let judged = |transfer, reason| {
        let mut story = Story::new();
        story.rejected(transfer, 1, 2, reason).found()
    };
    let plain = transfer(1, 1, 2, 3);
    for reason in [Reason::NoSuchAccount, Reason::SameAccount, Reason::ZeroAmount, Reason::LedgerMismatch] {
        assert_eq!(judged(plain, reason), ["rejections"], "{reason}");
    }
    for reason in [Reason::Closed, Reason::Overflow, Reason::Condition, Reason::ExceedsDebits] {
        assert_eq!(judged(plain, reason), ["rejections"], "{reason}");
    }
    assert_eq!(judged(transfer(1, 1, 99, 3), Reason::NoSuchAccount), NOTHING);
    assert_eq!(judged(transfer(1, 1, 1, 3), Reason::SameAccount), NOTHING);
    assert_eq!(judged(transfer(1, 1, 2, 0), Reason::ZeroAmount), NOTHING);
    assert_eq!(judged(Transfer { ledger: 2, ..plain }, Reason::LedgerMismatch), NOTHING);
    assert_eq!(judged(transfer(1, 1, 2, u128::MAX), Reason::Overflow), NOTHING);
}

fn answer(story: &mut Story, client: u32, transfer: Transfer, answers: &[(u64, Outcome)]) {
    let record = TransferRecord { transfer, invoked: 1, answers: answers.to_vec() };
    story.happens(move |checker| checker.on_answer(&Answered { client, record: &record }));
}

#[test]
fn an_answer_fenced_without_a_fence_in_the_log_is_found() {
    let judged = |is_logged: bool| {
        let (mut story, t) = (Story::new(), transfer(1, 1, 2, 3));
        if is_logged {
            let fence = Command::Fence(Fence { txn: TxnId::from(&t) });
            // Only the checker of rejections is told: the others would want to know who has it on disk.
            let bytes: Entry = from_slice(&entry(1, vec![fence])).unwrap();
            story.happens(move |checker| checker.on_entry(&Chosen { group: G1, slot: Slot(0), entry: &bytes }));
        }
        story.rejected(t, 1, 2, Reason::Fenced).found()
    };
    assert_eq!(judged(false), ["rejections"]);
    assert_eq!(judged(true), NOTHING);
}

#[test]
fn contradicting_answers_are_found_at_once() {
    let judged = |second| {
        let mut story = Story::new();
        answer(&mut story, 0, transfer(1, 1, 2, 3), &[(2, Outcome::Committed), (3, second)]);
        story.found()
    };
    assert_eq!(judged(Outcome::Rejected(Reason::ExceedsCredits)), ["exactly once"]);
    assert_eq!(judged(Outcome::Committed), NOTHING);
}

#[test]
fn an_answer_that_does_not_agree_with_what_was_posted_is_found() {
    let (t, good) = (transfer(1, 1, 2, 3), Outcome::Committed);
    let mut lost = Story::new();
    lost.asked(t, 1, 2, good);
    assert_eq!(lost.found(), ["exactly once"]);
    assert_eq!(lost.posted(t, Sides::Both).found(), NOTHING);
    let mut surprise = Story::new();
    surprise.rejected(t, 1, 2, Reason::Fenced).posted(t, Sides::Both);
    assert_eq!(surprise.found(), ["exactly once", "rejections"], "and nobody had fenced it");
}

#[test]
fn a_double_posting_and_one_that_nobody_asked_for_are_found() {
    let t = transfer(1, 1, 2, 3);
    let mut twice = Story::new();
    twice.within(t, 1, 2).posted(t, Sides::Both);
    assert_eq!(twice.found(), ["exactly once"]);
    let mut invented = Story::new();
    invented.posted(t, Sides::Both);
    assert_eq!(invented.found(), ["exactly once"]);
    let mut other = Story::new();
    other.asked(t, 1, 2, Outcome::Committed).posted(Transfer { amount: 4, ..t }, Sides::Both);
    assert_eq!(other.found(), ["exactly once"], "other content than was asked for");
}

#[test]
fn what_one_client_reads_never_goes_back_and_has_its_own_writes() {
    let told = |client: u32, from: u64, debits: u128| {
        let mut story = Story::new();
        let read = |from, until, debits| {
            let found = Some(account(AccountId(1), debits, 10));
            ReadRecord { account: AccountId(1), invoked: from, completed: until, found }
        };
        answer(&mut story, 0, transfer(1, 1, 2, 3), &[(5, Outcome::Committed)]);
        let (first, second) = (read(8, 10, 7), read(from, 30, debits));
        story.happens(move |checker| checker.on_read(0, &first));
        story.happens(move |checker| checker.on_read(client, &second));
        story.found()
    };
    assert_eq!(told(0, 11, 6), ["levels"], "it had read 7");
    assert_eq!(told(0, 10, 6), NOTHING, "the reads overlap");
    assert_eq!(told(1, 11, 6), NOTHING, "of what another client read this checker says nothing");
    assert_eq!(told(0, 6, 2), ["levels"], "it had been told of 3");
    assert_eq!(told(0, 5, 2), NOTHING);
}

#[test]
fn a_read_from_before_what_was_applied_elsewhere_when_it_was_sent_is_found() {
    let served = |slot: u64| {
        let mut story = Story::new();
        story.happens(move |checker| {
            if checker.name() != "freshness" {
                return Ok(()); // Others would ask for the log.
            }
            let applied: Entry = from_slice(&entry(1, Vec::new())).unwrap();
            checker.on_entry(&Chosen { group: G1, slot: Slot(4), entry: &applied })?;
            let call = ReadCall { account: AccountId(1), deadline: Span(1), epoch: Epoch(1) };
            checker.on_copy(1, 7, &Request { group: G1, call: Call::Read(call) })?;
            checker.on_entry(&Chosen { group: G1, slot: Slot(5), entry: &applied })?;
            let response = Response::Read(ReadDone { account: None, slot: Slot(slot) });
            let (from, to) = (address(G1, 1, RoleKind::Replica), Origin { connection: 1, correlation: 7 });
            checker.on_reply(&Reply { from, to, response: &response, applied: Slot(9), clock: Time(0) })
        });
        story.found()
    };
    assert_eq!(served(5), NOTHING);
    assert_eq!(served(4), ["freshness"]);
}
