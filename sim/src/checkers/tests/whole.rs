//! Numbers 15 and 16: how a run ends, and what it cost.

use drachma_protocol::ids::{Ballot, ReplicaId};
use drachma_protocol::log::record::AcceptRecord;
use drachma_protocol::message::PaxosMessage;
use drachma_protocol::message::client::{Call, ReadCall};
use drachma_protocol::message::paxos::{Accept, Commit};

use super::*;

const NOTHING: [&str; 0] = [];

#[test]
fn what_is_stuck_is_found_as_liveness() {
    let mut story = Story::new();
    story.stuck = Some("a client waits");
    assert_eq!(story.found(), ["liveness"]);
    assert_eq!(liveness::Liveness.class(), Class::Liveness);
    story.stuck = None;
    assert_eq!(story.found(), NOTHING);
}

fn leader(round: u64) -> Ballot {
    Ballot { round, replica: ReplicaId(1) }
}

fn sends(story: &mut Story, message: PaxosMessage, bytes: usize, times: usize, at: u64) {
    let (from, to) = (address(G1, 1, RoleKind::Leader), address(G1, 2, RoleKind::Replica));
    let message = Message::Paxos(message);
    story.happens(move |checker| {
        (0..times).try_for_each(|_| checker.on_message(&Sent { from, to, message: &message, bytes, at }))
    });
}

fn commit() -> PaxosMessage {
    PaxosMessage::Commit(Commit { ballot: leader(1), chosen: Slot(0) })
}

#[test]
fn messages_out_of_proportion_to_the_work_are_found() {
    let judged = |requests: usize, messages: usize, is_calm: bool| {
        let mut story = Story::new();
        story.swarm.network.loss = u64::from(!is_calm);
        story.happens(move |checker| {
            let read = ReadCall { account: AccountId(1), deadline: Span(1), epoch: Epoch(1) };
            let request = Request { group: G1, call: Call::Read(read) };
            (0..requests).try_for_each(|_| checker.on_request(0, &request))
        });
        sends(&mut story, commit(), 10, messages, 1_000_000);
        story.found()
    };
    assert_eq!(judged(10, 1_080, true), NOTHING);
    assert_eq!(judged(10, 1_081, true), ["bounds"]);
    assert_eq!(judged(11, 1_081, true), NOTHING, "one more request");
    assert_eq!(judged(10, 1_081, false), NOTHING, "something is sent again");
    assert_eq!(judged(10, 7_000, false), ["bounds"]);
}

#[test]
fn a_message_longer_than_a_frame_and_a_window_that_does_not_close_are_found() {
    let length = |bytes| {
        let mut story = Story::new();
        sends(&mut story, commit(), bytes, 1, 0);
        story.found()
    };
    let frame = (4 << 20) + (64 << 10);
    assert_eq!((length(frame), length(frame + 1)), (vec![], vec!["bounds"]));
    let window = |slot| {
        let mut story = Story::new();
        let accept = Accept { ballot: leader(1), slot: Slot(slot), chosen: Slot(3), entry: Bytes::new() };
        sends(&mut story, PaxosMessage::Accept(accept), 10, 1, 0);
        story.found()
    };
    assert_eq!((window(19), window(20)), (vec![], vec!["bounds"]));
}

#[test]
fn a_log_out_of_proportion_to_the_work_is_found() {
    let judged = |bytes: usize| {
        let mut story = Story::new();
        story.happens(move |checker| {
            let entry = Bytes::from(vec![0; bytes]);
            let record = Record::Accept(AcceptRecord { slot: Slot(0), chosen: Slot(0), entry });
            let (node, token) = (NodeId(1), Token(1));
            checker.on_persist(&Persisted { node, group: G1, token, records: &[record] })
        });
        story.found()
    };
    assert_eq!((judged(90_000), judged(90_001)), (vec![], vec!["bounds"]));
}

#[test]
fn more_that_waits_than_was_asked_for_is_found() {
    let judged = |waiting| {
        let mut story = Story::new();
        let totals = Totals { waiting, ..totals(0) };
        story.happens(move |checker| {
            let state = Some(State { totals: &totals, time: LogTime(0) });
            let (node, at) = (NodeId(1), Slot(0));
            checker.on_applied(&Applied {
                node,
                group: G1,
                from: at,
                until: at,
                entries: &[],
                posted_from: 0,
                posted: &[],
                state,
            })
        });
        story.found()
    };
    assert_eq!((judged(0), judged(1)), (vec![], vec!["bounds"]));
}
