//! Leaders of a coordinator's group that are killed between prepare and decide.

use std::collections::BTreeSet;
use std::sync::mpsc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use drachma_client::{Client, Options, Status};
use drachma_protocol::ids::{Attempt, GroupId, NodeId, TxnId};
use drachma_protocol::ledger::model::{Reason, Transfer};
use drachma_protocol::message::command::{Command, Content, Entry};
use drachma_protocol::message::operator::{OperatorAnswer, OperatorCall, PageCall};
use drachma_protocol::wire::codec::from_slice;
use rustix::process::{Signal, kill_process};
use tokio::runtime::Builder;

use crate::common::load::{Load, Plan, outcomes};
use crate::common::wire::Wire;
use crate::common::{PATIENCE, World, setting, text, transfer};

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

#[test]
fn a_coordinator_lost_before_begin_is_chosen_ends_the_attempt_but_not_the_transfer() {
    let mut world = World::start("a_coordinator_lost_before_begin_is_chosen_ends_the_attempt_but_not_the_transfer");
    let mut sent = warm_up(&mut world);
    for round in 0..setting("DRACHMA_ROUNDS", 5) {
        let sending = transfer(world.rng.next_u128(), 1 + u128::from(round), 3001, 1);
        let client = world.client.clone();
        // The client has found the leader before the others are paused.
        assert!(world.wait(client.read(sending.debit, None)).account.is_ok());
        let answer = lose_coordinator(&mut world, &sending, |world, _| {
            world.runtime.spawn(async move { client.transfer(sending, None).await })
        });
        let answer = world.wait(answer).unwrap();
        assert_eq!(answer.status, Status::Committed, "{answer:?}");
        sent.push((sending, answer.status));
    }
    world.verify(&sent);
}

/// The client has a thread of its own, so that its time is its own.
fn impatient(world: &World, sending: Transfer) -> (mpsc::Sender<()>, JoinHandle<(Status, Duration)>) {
    let settings = world.local.settings();
    let options = Options { endpoints: settings.endpoints(), cluster: Some(settings.cluster_id()), deadline: None };
    let ((go, gone), (ready, is_ready)) = (mpsc::channel(), mpsc::channel());
    let thread = std::thread::spawn(move || {
        let runtime = Builder::new_current_thread().enable_all().build().unwrap();
        let client = runtime.block_on(Client::connect(options)).unwrap();
        // It has found the leader before the others are paused.
        assert!(runtime.block_on(client.read(sending.debit, Some(PATIENCE))).account.is_ok());
        ready.send(()).unwrap();
        gone.recv().unwrap();
        let sent = Instant::now();
        let status = runtime.block_on(client.transfer(sending, Some(Duration::from_millis(150)))).status;
        (status, sent.elapsed())
    });
    is_ready.recv().unwrap();
    (go, thread)
}

#[test]
fn a_deadline_shorter_than_the_failover_ends_in_unknown_and_a_fence_is_final_for_ever() {
    let mut world = World::start("a_deadline_shorter_than_the_failover_ends_in_unknown_and_a_fence_is_final_for_ever");
    let mut sent = warm_up(&mut world);
    let mut fenced = Vec::new();
    for round in 0..setting("DRACHMA_ROUNDS", 2) {
        let sending = transfer(world.rng.next_u128(), 1 + u128::from(round), 3001, 1);
        let (go, thread) = impatient(&world, sending);
        lose_coordinator(&mut world, &sending, |_, _| go.send(()).unwrap());
        let (status, took) = thread.join().unwrap();
        assert!(matches!(status, Status::Unknown | Status::Unavailable), "{status:?}");
        assert!(took < Duration::from_secs(1), "the client was told after {took:?}");
        let (id, at) = (sending.id.to_string(), sending.debit.to_string());
        let began = Instant::now();
        let settled = world.drachma(&["lookup", &id, "--at", &at, "--fence", "--timeout", "1s"]);
        println!("{status:?} after {took:?}; settled within {:?}", began.elapsed());
        assert!(text(&settled.stdout).contains("fenced"), "{settled:?}");
        fenced.push(sending);
    }
    let refused = |world: &World| {
        for sending in &fenced {
            let again = world.wait(world.client.transfer(*sending, Some(PATIENCE)));
            assert_eq!(again.status, Status::Rejected(Reason::Fenced), "{again:?}");
        }
    };
    refused(&world);
    world.nodes().into_iter().for_each(|node| world.local.kill(node).unwrap());
    world.start_all();
    refused(&world);
    sent.extend(fenced.iter().map(|sending| (*sending, Status::Rejected(Reason::Fenced))));
    world.verify(&sent);
}

/// Nobody sends the transfer again: the participant has to ask, and is told that the attempt is aborted.
#[test]
fn a_coordinator_lost_together_with_its_client_leaves_nothing_in_doubt() {
    let mut world = World::start("a_coordinator_lost_together_with_its_client_leaves_nothing_in_doubt");
    let mut sent = warm_up(&mut world);
    for round in 0..setting("DRACHMA_ROUNDS", 5) {
        let sending = transfer(world.rng.next_u128(), 1 + u128::from(round), 3001, 1);
        lose_coordinator(&mut world, &sending, |world, leader| {
            let address = world.local.settings().node_address(leader).unwrap();
            Wire::connect(address, world.local.settings().cluster_id()).send_transfer(COORDINATOR, sending);
        });
        let witness = world.leader(PARTICIPANT, None);
        let end = Instant::now() + PATIENCE;
        while !voted(&world, (PARTICIPANT, witness), COORDINATOR).is_empty() {
            assert!(Instant::now() < end, "{sending:?} stays in doubt");
        }
        let settled = world.wait(world.client.fence((&sending).into(), None)).status;
        assert_eq!(settled, Status::Rejected(Reason::Fenced), "an attempt without Begin has no effect");
        sent.push((sending, settled));
    }
    world.verify(&sent);
}

const COORDINATOR: GroupId = GroupId(1);
const PARTICIPANT: GroupId = GroupId(2);

/// Two entries in the coordinator's group. As long as no follower has it on disk that the group's first entry is
/// chosen, a majority without the first leader does not go on; that is not what is tested here.
fn warm_up(world: &mut World) -> Vec<(Transfer, Status)> {
    let mut sent = Vec::new();
    for _ in 0..2 {
        let moving = transfer(world.rng.next_u128(), 2999, 2998, 1);
        let status = world.wait(world.client.transfer(moving, None)).status;
        assert_eq!(status, Status::Committed);
        sent.push((moving, status));
    }
    for node in world.members(COORDINATOR) {
        assert!(world.runtime.block_on(world.local.wait_caught_up(node, PATIENCE)), "{node} has not caught up");
    }
    sent
}

/// Pauses the coordinator's followers, so that its leader cannot even make a Begin certain; then `send` has something
/// sent to that leader, which is killed when the participant has voted. The followers are killed too, because Begin may
/// wait in their sockets, and elect one of them before the leader comes back.
fn lose_coordinator<T>(world: &mut World, sending: &Transfer, send: impl FnOnce(&World, NodeId) -> T) -> T {
    let killed = world.leader(COORDINATOR, None);
    let at = (PARTICIPANT, world.leader(PARTICIPANT, None));
    let others: Vec<NodeId> = world.members(COORDINATOR).into_iter().filter(|node| *node != killed).collect();
    for node in &others {
        kill_process(world.process(*node), Signal::STOP).unwrap();
    }
    let sent = send(world, killed);
    let has_voted = || voted(world, at, COORDINATOR).iter().any(|(txn, _)| *txn == sending.into());
    let end = Instant::now() + PATIENCE;
    while !has_voted() {
        assert!(Instant::now() < end, "{sending:?} is not prepared");
    }
    world.local.kill(killed).unwrap();
    let has_voted = voted(world, at, COORDINATOR).iter().any(|(txn, _)| *txn == sending.into());
    assert!(has_voted, "who voted yes never decides alone");
    for node in &others {
        world.local.kill(*node).unwrap();
        world.local.start(*node).unwrap();
    }
    for node in &others {
        world.runtime.block_on(world.local.wait_ready(*node, PATIENCE)).unwrap();
    }
    world.leader(COORDINATOR, Some(killed));
    world.start_node(killed);
    sent
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
