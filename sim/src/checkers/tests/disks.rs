//! Numbers 1 to 3: what is on the disks, and what is applied.

use drachma_protocol::ids::{Ballot, DirectoryId, ReplicaId};
use drachma_protocol::log::record::{AcceptRecord, LearnRecord, SynchroniseRecord};
use drachma_protocol::message::command::{LeaderStart, Member};
use drachma_protocol::message::paxos::{Accepted, Commit, HeartbeatAck, PaxosMessage, Prepare, Promise, Synchronise};
use drachma_protocol::role::{Effect, Effects, Gate, Gated};

use super::*;

const NOTHING: [&str; 0] = [];

fn ballot(round: u64, replica: u32) -> Ballot {
    Ballot { round, replica: ReplicaId(replica) }
}

fn word(text: &str) -> Bytes {
    Bytes::copy_from_slice(text.as_bytes())
}

fn synchronise(round: u64, from: u64, words: &str, chosen: u64) -> Record {
    let entries = words.split_whitespace().map(word).collect();
    let (from, chosen) = (Slot(from), Slot(chosen));
    Record::Synchronise(SynchroniseRecord { ballot: ballot(round, 1), from, entries, chosen })
}

fn accept(slot: u64, text: &str, chosen: u64) -> Record {
    Record::Accept(AcceptRecord { slot: Slot(slot), chosen: Slot(chosen), entry: word(text) })
}

fn learn(start: u64, words: &str) -> Record {
    let entries = words.split_whitespace().map(word).collect();
    Record::Learn(LearnRecord { start: Slot(start), entries })
}

/// The disks of g1, on nodes 1 to 3.
struct Disks {
    story: Story,
    tokens: u64,
}

impl Disks {
    fn new() -> Disks {
        let mut disks = Disks { story: Story::new(), tokens: 0 };
        (1..=3).for_each(|node| disks.starts(node, Recovered::default()));
        disks
    }

    fn starts(&mut self, node: u16, recovered: Recovered) {
        self.recovers(node, recovered, false);
    }

    fn recovers(&mut self, node: u16, recovered: Recovered, damaged: bool) {
        let node = NodeId(node);
        self.story
            .happens(move |checker| checker.on_restart(&Restarted { node, group: G1, recovered: &recovered, damaged }));
    }

    fn writes(&mut self, node: u16, record: Record) {
        self.tokens += 1;
        let (node, token) = (NodeId(node), Token(self.tokens));
        self.story.happens(move |checker| {
            checker.on_persist(&Persisted { node, group: G1, token, records: std::slice::from_ref(&record) })
        });
    }

    /// Everything that a node has written becomes durable.
    fn syncs(&mut self, node: u16) {
        let (node, token) = (NodeId(node), Token(self.tokens));
        self.story.happens(move |checker| checker.on_durable(node, G1, token));
    }

    fn stores(&mut self, node: u16, record: Record) {
        self.writes(node, record);
        self.syncs(node);
    }

    fn sends(&mut self, node: u16, role: RoleKind, message: PaxosMessage) {
        let (from, to) = (address(G1, node, role), address(G1, 9, role));
        let message = Message::Paxos(message);
        self.story.happens(move |checker| checker.on_message(&Sent { from, to, message: &message, bytes: 1, at: 0 }));
    }

    fn tells(&mut self, node: u16, gated: Gated) {
        let mut effects = Effects::new(address(G1, node, RoleKind::Replica));
        Gate::default().hold(NodeId(9), gated, &mut effects);
        let Some(Effect::Send { message: Message::Paxos(message), .. }) = effects.pop() else { panic!("it sends") };
        self.sends(node, RoleKind::Replica, message);
    }

    fn tells_accepted(&mut self, node: u16, round: u64, length: u64) {
        self.tells(node, Gated::Accepted(Accepted { ballot: ballot(round, 1), length: Slot(length) }));
    }

    fn found(&self) -> Vec<&'static str> {
        self.story.found()
    }
}

fn recovered(promise: u64, accepted: u64, chosen: u64, tail: &str) -> Recovered {
    Recovered {
        start: Slot(0),
        promise: if promise == 0 { Ballot::default() } else { ballot(promise, 1) },
        accepted: if accepted == 0 { Ballot::default() } else { ballot(accepted, 1) },
        chosen: Slot(chosen),
        tail: tail.split_whitespace().map(word).collect(),
        doubtful: false,
    }
}

#[test]
fn promises_that_go_back_and_acceptances_below_them_are_found() {
    let writes = |records: Vec<Record>| {
        let mut disks = Disks::new();
        records.into_iter().for_each(|record| disks.stores(1, record));
        disks.found()
    };
    assert_eq!(writes(vec![Record::Promise(ballot(3, 1)), Record::Promise(ballot(2, 2))]), ["ballots"]);
    assert_eq!(writes(vec![Record::Promise(ballot(3, 1)), Record::Promise(ballot(3, 2))]), NOTHING);
    let below = vec![synchronise(1, 0, "a", 0), Record::Promise(ballot(2, 2)), accept(1, "b", 0)];
    assert_eq!(writes(below), ["ballots"]);
    assert_eq!(writes(vec![Record::Promise(ballot(2, 2)), synchronise(1, 0, "a", 0)]), ["ballots"]);
    assert_eq!(writes(vec![Record::Promise(ballot(1, 1)), synchronise(1, 0, "a", 0), accept(1, "b", 0)]), NOTHING);
}

#[test]
fn a_promise_that_a_restart_lost_is_found() {
    let restarts = |found: Recovered, is_synced: bool, damaged: bool| {
        let mut disks = Disks::new();
        disks.writes(1, Record::Promise(ballot(3, 1)));
        if is_synced {
            disks.syncs(1);
        }
        disks.recovers(1, found, damaged);
        disks.found()
    };
    assert_eq!(restarts(recovered(0, 0, 0, ""), true, false), ["ballots"]);
    assert_eq!(restarts(recovered(0, 0, 0, ""), true, true), NOTHING, "what damage took is not the replica's fault");
    assert_eq!(restarts(recovered(0, 0, 0, ""), false, false), NOTHING);
    assert_eq!(restarts(recovered(3, 0, 0, ""), true, false), NOTHING);
    assert_eq!(restarts(recovered(4, 0, 0, ""), true, false), ["ballots"], "it never promised that");
}

#[test]
fn entries_that_a_restart_lost_are_found() {
    let restarts = |found: Recovered| {
        let mut disks = Disks::new();
        disks.stores(1, synchronise(1, 0, "a b", 0));
        disks.writes(1, accept(2, "c", 0));
        disks.starts(1, found);
        disks.found()
    };
    assert_eq!(restarts(recovered(1, 1, 0, "a")), ["agreement"]);
    assert_eq!(restarts(recovered(1, 1, 0, "a b")), NOTHING);
    assert_eq!(restarts(recovered(1, 1, 0, "a b c")), NOTHING);
}

#[test]
fn what_is_told_before_it_is_on_disk_is_found() {
    let promise = |is_synced: bool| {
        let mut disks = Disks::new();
        disks.writes(1, Record::Promise(ballot(3, 2)));
        if is_synced {
            disks.syncs(1);
        }
        let (ballot, accepted, slot) = (ballot(3, 2), Ballot::default(), Slot(0));
        let (entries, directory) = (Vec::new(), DirectoryId(1));
        let promise = Promise {
            ballot,
            accepted,
            length: slot,
            chosen: slot,
            start: slot,
            entries,
            last: true,
            doubtful: false,
            directory,
        };
        disks.tells(1, Gated::Promise(promise));
        disks.found()
    };
    assert_eq!((promise(false), promise(true)), (vec!["ballots"], vec![]));
    let accepted = |length| {
        let mut disks = Disks::new();
        disks.stores(1, synchronise(1, 0, "a", 0));
        disks.writes(1, accept(1, "b", 0));
        disks.tells_accepted(1, 1, length);
        disks.found()
    };
    assert_eq!((accepted(2), accepted(1)), (vec!["agreement"], vec![]));
}

#[test]
fn a_candidate_whose_ballot_is_not_durable_and_a_follower_of_two_are_found() {
    let stands = |is_synced: bool| {
        let mut disks = Disks::new();
        disks.writes(1, Record::Promise(ballot(3, 1)));
        if is_synced {
            disks.syncs(1);
        }
        let (accepted, slot, directory) = (Ballot::default(), Slot(0), Shape::directory(NodeId(1)));
        let prepare = Prepare { ballot: ballot(3, 1), accepted, length: slot, chosen: slot, directory };
        disks.sends(1, RoleKind::Leader, PaxosMessage::Prepare(prepare));
        disks.found()
    };
    assert_eq!((stands(false), stands(true)), (vec!["ballots"], vec![]));
    let follows = |round| {
        let mut disks = Disks::new();
        disks.writes(2, Record::Promise(ballot(3, 1)));
        let ack = HeartbeatAck { ballot: ballot(round, 1), round: 0, chosen: Slot(0) };
        disks.sends(2, RoleKind::Replica, PaxosMessage::HeartbeatAck(ack));
        disks.found()
    };
    assert_eq!((follows(2), follows(3)), (vec!["ballots"], vec![]));
}

#[test]
fn s22_a_ballot_that_is_continued_after_a_restart_or_by_another_is_found() {
    let commits = |node: u16, round: u64| {
        let mut disks = Disks::new();
        let commit = |round| PaxosMessage::Commit(Commit { ballot: ballot(round, 1), chosen: Slot(0) });
        disks.sends(1, RoleKind::Leader, commit(1));
        disks.starts(1, recovered(0, 0, 0, ""));
        disks.sends(node, RoleKind::Leader, commit(round));
        disks.found()
    };
    assert_eq!(commits(1, 1), ["ballots"]);
    assert_eq!(commits(2, 2), ["ballots"], "the ballot is replica 1's");
    assert_eq!(commits(1, 2), NOTHING);
}

#[test]
fn two_sequences_under_one_ballot_are_found() {
    let judged = |other: Record| {
        let mut disks = Disks::new();
        disks.stores(1, synchronise(1, 0, "a b", 0));
        disks.stores(2, synchronise(1, 0, "a", 0));
        disks.stores(2, other);
        disks.found()
    };
    assert_eq!(judged(accept(1, "x", 0)), ["agreement"]);
    assert_eq!(judged(accept(2, "c", 0)), ["agreement"], "a gap");
    assert_eq!(judged(accept(1, "b", 0)), NOTHING);
    assert_eq!(judged(synchronise(2, 1, "x", 1)), NOTHING, "another ballot may differ while nothing is chosen");
}

#[test]
fn what_no_majority_has_on_disk_is_not_chosen() {
    let judged = |is_synced: bool, claim: Record| {
        let mut disks = Disks::new();
        disks.stores(1, synchronise(1, 0, "a", 0));
        disks.writes(2, synchronise(1, 0, "a", 0));
        if is_synced {
            disks.syncs(2);
        }
        disks.writes(3, claim);
        disks.found()
    };
    assert_eq!(judged(false, learn(0, "a")), ["agreement"]);
    assert_eq!(judged(true, learn(0, "a")), NOTHING);
    assert_eq!(judged(true, learn(0, "x")), ["agreement"], "chosen is something else");
    assert_eq!(judged(true, synchronise(2, 0, "a", 1)), NOTHING);
    assert_eq!(judged(true, synchronise(2, 0, "a b", 2)), ["agreement"]);
    assert_eq!(judged(true, Record::Chosen(Slot(1))), ["agreement"], "it does not have it");
}

#[test]
fn a_later_ballot_without_what_was_chosen_is_found() {
    let judged = |record: Record| {
        let mut disks = Disks::new();
        (1..=2).for_each(|node| disks.stores(node, synchronise(2, 0, "a b", 0)));
        disks.stores(3, record);
        disks.found()
    };
    assert_eq!(judged(synchronise(3, 0, "a x", 0)), ["agreement"]);
    assert_eq!(judged(synchronise(3, 0, "a", 0)), ["agreement"]);
    assert_eq!(judged(synchronise(3, 0, "a b x", 0)), NOTHING);
    assert_eq!(judged(synchronise(1, 0, "a x", 0)), NOTHING, "an older leader's does no harm");
}

/// Hazard S20: what was learned does not count for an older ballot whose sequence it is not.
#[test]
fn a_log_that_learned_something_else_is_not_counted_for_its_ballot() {
    let mut disks = Disks::new();
    disks.stores(1, synchronise(1, 0, "a b", 0));
    disks.stores(3, synchronise(1, 0, "a", 0));
    // b1 has two entries on one disk only. Under b2 something else is chosen by 1 and 2, and 3 learns it.
    disks.stores(2, synchronise(2, 0, "a x", 0));
    disks.stores(1, synchronise(2, 0, "a x", 0));
    disks.stores(3, learn(0, "a x"));
    assert_eq!(disks.found(), NOTHING);
    disks.story.applied(G1, 3, 0, Vec::new(), Vec::new());
    assert_eq!(disks.found(), NOTHING);
}

fn applies(story: &mut Story, node: u16, from: u64, times: &[u64]) {
    let entries: Vec<Bytes> = times.iter().map(|time| entry(*time, Vec::new())).collect();
    let known = story.entries.get(&G1).copied().unwrap_or_default();
    if from + entries.len() as u64 > known {
        // Chosen, as far as the checker of disks is concerned.
        let records: Vec<Record> = (from..)
            .zip(&entries)
            .map(|(slot, entry)| {
                Record::Accept(AcceptRecord { slot: Slot(slot), chosen: Slot(0), entry: entry.clone() })
            })
            .collect();
        for node in (1..=3).map(NodeId) {
            let (records, token) = (records.clone(), Token(from + 1));
            story.happens(move |checker| {
                checker.on_persist(&Persisted { node, group: G1, token, records: &records })?;
                checker.on_durable(node, G1, token)
            });
        }
    }
    story.applied(G1, node, from, entries, Vec::new());
}

#[test]
fn a_committed_prefix_that_changes_is_found() {
    let judged = |node: u16, times: &[u64]| {
        let mut story = Story::new();
        applies(&mut story, 1, 0, &[1, 2, 3]);
        applies(&mut story, node, 0, times);
        story.found()
    };
    assert_eq!(judged(2, &[1, 9, 3]), ["prefix"]);
    assert_eq!(judged(1, &[1, 9, 3]), ["prefix"], "itself, after a restart");
    assert_eq!(judged(2, &[1, 2]), NOTHING);
}

#[test]
fn applying_what_the_log_does_not_have_is_found() {
    let mut story = Story::new();
    story.happens(|checker| {
        let (node, from, until) = (NodeId(1), Slot(0), Slot(0));
        let seen =
            Applied { node, group: G1, from, until, entries: &[word("a")], posted_from: 0, posted: &[], state: None };
        checker.on_applied(&seen)
    });
    assert_eq!(story.found(), ["prefix"]);
}

#[test]
fn applying_what_is_not_chosen_is_found() {
    let mut story = Story::new();
    story.applied(G1, 1, 0, vec![entry(1, Vec::new())], Vec::new());
    assert_eq!(story.found(), ["agreement"]);
}

fn state(story: &mut Story, node: u16, until: u64, digest: u128, time: u64) {
    let totals = Totals { digest, ..totals(until) };
    story.happens(move |checker| {
        let state = Some(State { totals: &totals, time: LogTime(time) });
        let (node, at) = (NodeId(node), Slot(until));
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
}

#[test]
fn two_states_at_a_length_and_a_log_time_that_goes_back_are_found() {
    let judged = |digest: u128, time: u64| {
        let mut story = Story::new();
        // The second entry names an earlier time: log time stays (hazard S26).
        applies(&mut story, 1, 0, &[5, 3]);
        state(&mut story, 1, 2, 7, 5);
        state(&mut story, 2, 2, digest, time);
        story.found()
    };
    assert_eq!(judged(7, 5), NOTHING);
    assert_eq!(judged(8, 5), ["digests"]);
    assert_eq!(judged(7, 3), ["digests"]);
}

#[test]
fn replicas_that_end_unequal_are_found_and_those_that_lag_are_not() {
    let mut story = Story::new();
    story.replica(G1, 2).totals.digest = 1;
    assert_eq!(story.found(), ["digests"]);
    story.replica(G1, 2).totals.applied = Slot(8);
    assert_eq!(story.found(), NOTHING);
}

/// What the checker of elections says of node 1 that leads after these promises: node, directory, doubtful.
fn elected(promises: &[(u16, u128, bool)], to: u16) -> Vec<&'static str> {
    let mut story = Story::new();
    let member =
        |n: u16| Member { replica: ReplicaId(u32::from(n)), node: NodeId(n), directory: DirectoryId(u128::from(n)) };
    let members = Some((1..=3).map(member).collect());
    let content = Content::LeaderStart(LeaderStart { ballot: ballot(1, 1), members });
    let first = Entry { format: 1, time: LogTime(0), wall: 0, content };
    let slot = Slot(0);
    story.happens(move |checker| {
        if checker.name() != "elections" {
            return Ok(()); // Others would ask for the log.
        }
        checker.on_entry(&Chosen { group: G1, slot, entry: &first })
    });
    let mut says = |from: Address, to: u16, message: PaxosMessage| {
        let (to, message) = (address(G1, to, RoleKind::Replica), Message::Paxos(message));
        story.happens(move |checker| {
            if checker.name() != "elections" {
                return Ok(());
            }
            checker.on_message(&Sent { from, to, message: &message, bytes: 1, at: 0 })
        });
    };
    for (node, directory, doubtful) in promises {
        let promise = Promise {
            ballot: ballot(2, 1),
            accepted: Ballot::default(),
            length: slot,
            chosen: slot,
            start: slot,
            entries: Vec::new(),
            last: true,
            doubtful: *doubtful,
            directory: DirectoryId(*directory),
        };
        let from = address(G1, *node, RoleKind::Replica);
        let mut effects = Effects::new(from);
        Gate::default().hold(NodeId(1), Gated::Promise(promise), &mut effects);
        let Some(Effect::Send { message: Message::Paxos(message), .. }) = effects.pop() else { panic!("it sends") };
        says(from, 1, message);
    }
    let (ballot, entries) = (ballot(2, 1), Vec::new());
    let message = Synchronise { ballot, from: slot, start: slot, entries, last: true, chosen: slot, nonce: 0 };
    says(address(G1, 1, RoleKind::Leader), to, PaxosMessage::Synchronise(message));
    story.found()
}

#[test]
fn a_leader_whom_too_few_have_elected_is_found() {
    assert_eq!(elected(&[(1, 1, false), (2, 2, false)], 2), NOTHING);
    assert_eq!(elected(&[(1, 1, false)], 1), ["elections"], "one of three");
    assert_eq!(elected(&[(1, 1, false), (2, 2, true)], 1), ["elections"], "one of them in doubt (hazard S28)");
    assert_eq!(elected(&[(1, 1, false), (2, 2, true), (3, 3, true)], 1), NOTHING, "nobody is missing");
    assert_eq!(elected(&[(1, 1, false), (2, 7, false)], 1), ["elections"], "another directory (hazard S25)");
    assert_eq!(elected(&[(1, 1, false), (2, 2, false), (3, 7, false)], 3), ["elections"], "and made part of it");
}

#[test]
fn s19_a_leader_that_counts_what_was_accepted_under_another_ballot_is_found() {
    let told = |chosen: u64| {
        let mut disks = Disks::new();
        (1..=2).for_each(|node| disks.stores(node, synchronise(1, 0, "a b", 0)));
        disks.stores(1, synchronise(2, 0, "a b c", 0));
        let commit = |chosen| PaxosMessage::Commit(Commit { ballot: ballot(2, 1), chosen: Slot(chosen) });
        disks.sends(1, RoleKind::Leader, commit(1));
        disks.sends(1, RoleKind::Leader, commit(chosen));
        disks.found()
    };
    assert_eq!((told(1), told(2)), (vec![], vec!["agreement"]));
}
