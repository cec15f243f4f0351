//! Number 12 at the levels other than linearizable: sessions, ages, positions, every replica.

use drachma_protocol::ids::Ballot;
use drachma_protocol::ledger::operations::{Operation, Reply as Found};
use drachma_protocol::message::PaxosMessage;
use drachma_protocol::message::client::Call;
use drachma_protocol::message::client::Found as FoundOne;
use drachma_protocol::message::level::{Level, PositionCall, PositionDone, ReplicaReadCall, ReplicaReadDone};
use drachma_protocol::message::paxos::{Accepted, AskAge};
use drachma_protocol::role::Durable;

use super::*;
use crate::history::{SessionKnown, SessionRead};

const NOTHING: [&str; 0] = [];
const CLIENT: u32 = 1;

fn session_read(level: Level, from: u64, until: u64, debits: u128, credits: u128) -> SessionRead {
    let found = Account { id: AccountId(1), debits_posted: debits, credits_posted: credits, ..Account::default() };
    let (session, account) = ((1, 0), AccountId(1));
    SessionRead { session, level, account, invoked: from, completed: until, found: Some(found) }
}

#[test]
fn a_session_that_misses_what_it_knows_or_falls_back_is_found() {
    let judged = |reads: Vec<SessionRead>, known_at: u64| {
        let mut story = Story::new();
        story.across(transfer(1, 1, 6, 3), 10, 20);
        let (session, account) = ((1, 0), AccountId(1));
        story.history.session_known.push(SessionKnown { session, at: known_at, account, debit: 3, credit: 0 });
        story.history.session_reads.extend(reads);
        story.found()
    };
    let old = |from, until| session_read(Level::Session, from, until, 0, 10);
    let new = |from, until| session_read(Level::Session, from, until, 3, 10);
    assert_eq!(judged(vec![old(31, 32)], 30), ["levels"], "its own transfer is missing");
    assert_eq!(judged(vec![old(30, 32)], 30), NOTHING, "it was not told yet");
    assert_eq!(judged(vec![new(11, 12), old(13, 14)], 30), ["levels"], "it had seen more");
    assert_eq!(judged(vec![old(11, 12), new(13, 14)], 30), NOTHING);
    let any = session_read(Level::Any, 31, 32, 0, 10);
    assert_eq!(judged(vec![any.clone()], 30), NOTHING, "any replica may lag");
    assert_eq!(judged(vec![session_read(Level::Any, 31, 32, 1, 10)], 30), ["levels"], "that never was");
    assert_eq!(judged(vec![session_read(Level::Any, 1, 2, 3, 10)], 30), ["levels"], "nobody had asked for it");
}

/// What a replica answers, after one entry was applied before and one after its question.
fn replica(after: u64, asked: u64, done: impl Fn() -> ReplicaReadDone + 'static) -> Vec<&'static str> {
    let mut story = Story::new();
    story.happens(move |checker| {
        if checker.name() != "replicas" {
            return Ok(()); // Others would ask for the log.
        }
        let (from, to) = (address(G1, 2, RoleKind::Replica), address(G1, 1, RoleKind::Leader));
        let applied: Entry = from_slice(&entry(1, Vec::new())).unwrap();
        checker.on_entry(&Chosen { group: G1, slot: Slot(4), entry: &applied })?;
        let message = Message::Paxos(PaxosMessage::AskAge(AskAge { nonce: 1, asked: Time(asked) }));
        checker.on_message(&Sent { from, to, message: &message, bytes: 1, at: 1 })?;
        let operations = vec![Operation::Read(AccountId(1))];
        let (deadline, epoch) = (Span(1), Epoch(1));
        let call = ReplicaReadCall { operations, after: Slot(after), settled: true, deadline, epoch };
        checker.on_copy(CLIENT, 7, &Request { group: G1, call: Call::ReplicaRead(call) })?;
        checker.on_entry(&Chosen { group: G1, slot: Slot(5), entry: &applied })?;
        let response = Response::ReplicaRead(done());
        let to = Origin { connection: CLIENT.into(), correlation: 7 };
        checker.on_reply(&Reply { from, to, response: &response, applied: Slot(6), clock: Time(100) })
    });
    story.found()
}

fn done(slot: u64, age: Option<u64>) -> ReplicaReadDone {
    ReplicaReadDone { slot: Slot(slot), age: age.map(Span), found: None }
}

#[test]
fn an_age_that_does_not_hold_and_a_read_below_what_was_asked_for_are_found() {
    assert_eq!(replica(5, 70, || done(5, Some(30))), NOTHING);
    assert_eq!(replica(6, 70, || done(5, Some(30))), ["replicas"], "less than was asked for");
    assert_eq!(replica(0, 70, || done(4, Some(30))), ["replicas"], "it lacks what was applied when it asked");
    assert_eq!(replica(0, 70, || done(5, Some(29))), ["replicas"], "it did not ask then");
    assert_eq!(replica(0, 70, || done(4, None)), NOTHING, "it does not know");
}

#[test]
fn two_replicas_that_tell_different_things_at_one_position_are_found() {
    let judged = |second: u128| {
        let mut story = Story::new();
        story.happens(move |checker| {
            if checker.name() != "replicas" {
                return Ok(());
            }
            for (correlation, debits) in [(1, 3), (2, second)] {
                let operations = vec![Operation::Read(AccountId(1))];
                let (after, settled, deadline, epoch) = (Slot(0), false, Span(1), Epoch(1));
                let call = Call::ReplicaRead(ReplicaReadCall { operations, after, settled, deadline, epoch });
                checker.on_copy(CLIENT, correlation, &Request { group: G1, call })?;
                let account = Account { id: AccountId(1), debits_posted: debits, ..Account::default() };
                let found = vec![FoundOne { reply: Found::Account(account), version: Slot(1) }];
                let done = ReplicaReadDone { slot: Slot(5), age: None, found: Some(found) };
                let response = Response::ReplicaRead(done);
                let from = address(G1, correlation as u16, RoleKind::Replica);
                let to = Origin { connection: CLIENT.into(), correlation };
                checker.on_reply(&Reply { from, to, response: &response, applied: Slot(5), clock: Time(1) })?;
            }
            Ok(())
        });
        story.found()
    };
    assert_eq!(judged(3), NOTHING);
    assert_eq!(judged(4), ["replicas"]);
}

#[test]
fn what_is_said_to_be_everywhere_and_is_not_is_found() {
    let judged = |lengths: [u64; 3], slot: u64, everywhere: bool| {
        let mut story = Story::new();
        story.happens(move |checker| {
            if checker.name() != "replicas" {
                return Ok(());
            }
            for (node, length) in (1..).zip(lengths) {
                let (ballot, length) = (Ballot::default(), Slot(length));
                let accepted: Durable<Accepted> =
                    from_slice(&to_vec(&Accepted { ballot, length })).expect("what a replica may say");
                let message = Message::Paxos(PaxosMessage::Accepted(accepted));
                let (from, to) = (address(G1, node, RoleKind::Replica), address(G1, 1, RoleKind::Leader));
                checker.on_message(&Sent { from, to, message: &message, bytes: 1, at: 1 })?;
            }
            let call = Call::Position(PositionCall { everywhere: true, deadline: Span(1), epoch: Epoch(1) });
            checker.on_copy(CLIENT, 7, &Request { group: G1, call })?;
            let response = Response::Position(PositionDone { slot: Slot(slot), everywhere });
            let (from, to) = (address(G1, 1, RoleKind::Leader), Origin { connection: CLIENT.into(), correlation: 7 });
            checker.on_reply(&Reply { from, to, response: &response, applied: Slot(5), clock: Time(1) })
        });
        story.found()
    };
    assert_eq!(judged([5, 5, 5], 5, true), NOTHING);
    assert_eq!(judged([5, 5, 4], 5, true), ["replicas"]);
    assert_eq!(judged([5, 5, 4], 5, false), NOTHING);
}
