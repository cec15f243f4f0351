//! Leaders of a coordinator's group that are killed between prepare and decide.

use std::collections::BTreeSet;
use std::time::Instant;

use drachma_client::Status;
use drachma_protocol::ids::{Attempt, GroupId, NodeId, TxnId};
use drachma_protocol::message::command::{Command, Content, Entry};
use drachma_protocol::message::operator::{OperatorAnswer, OperatorCall, PageCall};
use drachma_protocol::wire::codec::from_slice;
use rustix::process::Signal;

use crate::common::load::{Load, Plan, outcomes};
use crate::common::{PATIENCE, World, setting, transfer};

#[test]
fn a_coordinator_killed_between_prepare_and_decide_leaves_nothing_half_done() {
    let mut world = World::start("a_coordinator_killed_between_prepare_and_decide_leaves_nothing_half_done");
    let (wanted, groups) = (setting("DRACHMA_ROUNDS", 5), world.groups());
    let (mut sent, mut hits, mut kills) = (Vec::new(), 0, 0);
    while hits < wanted {
        kills += 1;
        assert!(kills <= 30 * wanted, "{kills} kills, and only {hits} came between prepare and decide");
        let load = Load::start(&mut world, Plan { clients: 32, across_percent: Some(100), ..Plan::default() });
        load.wait_committed(50 + world.rng.below(100) as usize);
        let first = world.rng.below(groups.len() as u64) as usize;
        let (coordinator, participant) = (groups[first], groups[(first + 1) % groups.len()]);
        let killed = world.leader(coordinator, None);
        let witness = world.leader(participant, None);
        until_one_has_voted(&world, (participant, witness), coordinator);
        world.local.kill(killed).unwrap();
        let orphans = voted(&world, (participant, witness), coordinator);
        let next = world.leader(coordinator, Some(killed));
        let undecided = orphans.difference(&decided_by_the_last(&world, coordinator, next)).count();
        println!("{coordinator}: {killed} was killed; of {} that had voted {undecided} were undecided", orphans.len());
        hits += u64::from(undecided > 0);
        load.wait_committed(50);
        world.start_node(killed);
        sent.extend(outcomes(&load.stop()));
    }
    println!("{hits} of {kills} kills came between prepare and decide");
    world.verify(&sent);
}

/// The followers of the coordinator are paused, so that it cannot even make its Begin certain.
#[test]
fn a_coordinator_lost_before_begin_is_chosen_ends_the_attempt_but_not_the_transfer() {
    let mut world = World::start("a_coordinator_lost_before_begin_is_chosen_ends_the_attempt_but_not_the_transfer");
    let (coordinator, participant) = (GroupId(1), GroupId(2));
    let mut sent = Vec::new();
    for round in 0..setting("DRACHMA_ROUNDS", 5) {
        let sending = transfer(u128::from(world.rng.next_u64()), 1 + u128::from(round), 3001, 1);
        let killed = world.leader(coordinator, None);
        let witness = world.leader(participant, None);
        let others: Vec<NodeId> = world.members(coordinator).into_iter().filter(|node| *node != killed).collect();
        let processes: Vec<_> = others.iter().map(|node| world.process(*node)).collect();
        // The client has found the leader before the others are paused.
        let client = world.client.clone();
        assert!(world.wait(client.read(sending.debit, None)).account.is_ok());
        for process in &processes {
            rustix::process::kill_process(*process, Signal::STOP).unwrap();
        }
        let answer = world.runtime.spawn(async move { client.transfer(sending, None).await });
        until_one_has_voted(&world, (participant, witness), coordinator);
        world.local.kill(killed).unwrap();
        assert!(!voted(&world, (participant, witness), coordinator).is_empty(), "who voted yes never decides alone");
        for process in &processes {
            rustix::process::kill_process(*process, Signal::CONT).unwrap();
        }
        let answer = world.wait(answer).unwrap();
        assert_eq!(answer.status, Status::Committed, "{answer:?}");
        sent.push((sending, answer.status));
        world.start_node(killed);
    }
    world.verify(&sent);
}

/// What has voted yes at a participant's replica and is decided by this group.
fn voted(world: &World, (group, node): (GroupId, NodeId), coordinator: GroupId) -> BTreeSet<(TxnId, Attempt)> {
    let page = world.pending(node, group).expect("the participant serves");
    let rows = page.rows.iter().filter(|row| !row.waiting && row.coordinator == coordinator);
    rows.map(|row| (row.txn, row.attempt)).collect()
}

fn until_one_has_voted(world: &World, at: (GroupId, NodeId), coordinator: GroupId) {
    let end = Instant::now() + PATIENCE;
    while voted(world, at, coordinator).is_empty() {
        assert!(Instant::now() < end, "nothing is ever in doubt");
    }
}

/// What the leader before this one has decided, by the group's log.
fn decided_by_the_last(world: &World, group: GroupId, leader: NodeId) -> BTreeSet<(TxnId, Attempt)> {
    let (mut decided, mut before) = (BTreeSet::new(), BTreeSet::new());
    let mut from = 0;
    loop {
        let Some(OperatorAnswer::Log(page)) =
            world.ask(leader, group, OperatorCall::Log(PageCall { from, limit: 256 }))
        else {
            panic!("{leader} does not tell its log")
        };
        for bytes in &page.entries {
            match from_slice::<Entry>(bytes).unwrap().content {
                Content::LeaderStart(_) => before = decided.clone(),
                Content::Commands(commands) => decided.extend(commands.iter().filter_map(|command| match command {
                    Command::Decide(decide) => Some((decide.txn, decide.attempt)),
                    _ => None,
                })),
            }
        }
        from += page.entries.len() as u64;
        if page.entries.is_empty() || from >= page.chosen.0 {
            return before;
        }
    }
}
