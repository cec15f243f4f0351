//! Leaders that are killed under load, moved, and stopped in order.

use std::time::{Duration, Instant};

use drachma_client::Status;
use drachma_protocol::ids::{GroupId, NodeId};
use drachma_protocol::ledger::model::Transfer;

use crate::common::load::{Answered, Load, Plan, longest_gap, outcomes};
use crate::common::{World, setting, text};

/// Enough for every transfer, and the default of the configuration.
const DEADLINE: Duration = Duration::from_secs(2);

#[test]
fn killing_leaders_under_load_loses_nothing() {
    let mut world = World::start("killing_leaders_under_load_loses_nothing");
    let groups = world.groups();
    let mut sent = Vec::new();
    for round in 0..setting("DRACHMA_ROUNDS", 5) {
        let group = groups[round as usize % groups.len()];
        let load = Load::start(&mut world, Plan::default());
        load.wait_committed(100 + world.rng.below(200) as usize);
        let killed = world.leader(group, None);
        world.local.kill(killed).unwrap();
        let next = world.leader(group, Some(killed));
        load.wait_committed(200);
        world.start_node(killed);
        let answers = load.stop();
        let map = world.local.settings().shard_map();
        let touches = |answered: &&Answered| {
            let Transfer { debit, credit, .. } = answered.transfer;
            [debit, credit].iter().any(|account| map.owner_of(*account) == Some(group))
        };
        let own = longest_gap(answers.iter().filter(touches));
        let all = longest_gap(answers.iter());
        println!("{group}: {killed} was killed, {next} took over; longest gap {own:?} in the group, {all:?} in all");
        sent.extend(outcomes(&answers));
    }
    world.verify(&sent);
}

#[test]
fn a_leader_that_is_moved_under_load_fails_no_request() {
    let mut world = World::start("a_leader_that_is_moved_under_load_fails_no_request");
    let load = Load::start(&mut world, Plan { deadline: DEADLINE, ..Plan::default() });
    for round in 0..setting("DRACHMA_ROUNDS", 9) {
        load.wait_committed(100);
        move_leader(&mut world, round);
    }
    load.wait_committed(100);
    let answers = load.stop();
    assert_eq!(failed(&answers), []);
    world.verify(&outcomes(&answers));
}

#[test]
fn a_leader_that_is_stopped_hands_over_first_and_fails_no_request() {
    let mut world = World::start("a_leader_that_is_stopped_hands_over_first_and_fails_no_request");
    let load = Load::start(&mut world, Plan { deadline: DEADLINE, ..Plan::default() });
    let mut stopped = Vec::new();
    for group in world.groups() {
        load.wait_committed(200);
        let leader = world.leader(group, None);
        world.local.stop(&[leader]).unwrap();
        stopped.push(leader);
        let log = std::fs::read_to_string(world.local.data().join(format!("{leader}.log"))).unwrap();
        assert!(log.contains("handed_over"), "{leader} stopped without a hand-over:\n{log}");
        let next = world.leader(group, Some(leader));
        println!("{group}: {leader} was stopped, {next} leads");
    }
    load.wait_committed(200);
    let answers = load.stop();
    assert_eq!(failed(&answers), []);
    for node in stopped {
        world.start_node(node);
    }
    world.verify(&outcomes(&answers));
}

/// Prints how long a group is silent while its leader is moved, and in as many pieces of time in which nothing is moved;
/// see docs/performance.md.
#[test]
#[ignore = "a measurement, for a machine of its own"]
fn measure_moves_under_load() {
    const PIECE: Duration = Duration::from_millis(200);
    let mut world = World::start("measure_moves_under_load");
    let (clients, rounds) = (setting("DRACHMA_CLIENTS", 64), setting("DRACHMA_ROUNDS", 100));
    let load = Load::start(&mut world, Plan { clients, deadline: DEADLINE, ..Plan::default() });
    load.wait_committed(2000);
    let (mut still, mut moved) = (Vec::new(), Vec::new());
    for round in 0..rounds {
        let begun = Instant::now();
        std::thread::sleep(PIECE);
        let between = Instant::now();
        let (group, ..) = move_leader(&mut world, round);
        std::thread::sleep(PIECE);
        still.push((group, begun, between));
        moved.push((group, between, Instant::now()));
    }
    let answers = load.stop();
    let map = world.local.settings().shard_map();
    let gap = |(group, from, until): &(GroupId, Instant, Instant)| {
        longest_gap(answers.iter().filter(|answered| {
            let Transfer { debit, credit, .. } = answered.transfer;
            let touches = [debit, credit].iter().any(|account| map.owner_of(*account) == Some(*group));
            touches && (*from..*until).contains(&answered.at)
        }))
    };
    let time: Duration = still.iter().map(|(_, from, until)| *until - *from).sum();
    let within = |answered: &&Answered| still.iter().any(|(_, from, until)| (*from..*until).contains(&answered.at));
    let rate = answers.iter().filter(within).count() as f64 / time.as_secs_f64();
    println!("{clients} clients, {rate:.0} transfers/s between moves");
    for (what, pieces) in [("without a move", &still), ("with a move", &moved)] {
        let mut gaps: Vec<Duration> = pieces.iter().map(&gap).collect();
        gaps.sort_unstable();
        let [p50, p90, p99] = [50, 90, 99].map(|percent| gaps[(gaps.len() - 1) * percent / 100]);
        println!(
            "longest gap of the group {what}: p50 {p50:?}, p90 {p90:?}, p99 {p99:?}, max {:?}",
            gaps[gaps.len() - 1]
        );
    }
    let (all, failed) = (answers.len(), failed(&answers).len());
    println!("{rounds} moves, {failed} of {all} transfers without a final answer");
    assert_eq!(failed, 0);
    world.verify(&outcomes(&answers));
}

/// Has the next node of one of the groups lead it, by the command line.
fn move_leader(world: &mut World, round: u64) -> (GroupId, NodeId, NodeId) {
    let groups = world.groups();
    let group = groups[round as usize % groups.len()];
    let leader = world.leader(group, None);
    let members = world.members(group);
    let place = members.iter().position(|node| *node == leader).unwrap();
    let next = members[(place + 1) % members.len()];
    let done = world.drachma(&["leader", "move", &group.to_string(), &next.to_string(), "--timeout", "30s"]);
    let said = format!("{}{}", text(&done.stdout), text(&done.stderr));
    assert_eq!(done.status.code(), Some(0), "{group} from {leader} to {next}: {said}");
    assert_eq!(world.leader(group, None), next, "{said}");
    (group, leader, next)
}

/// The transfers that have no final answer.
fn failed(answers: &[Answered]) -> Vec<(Transfer, Status)> {
    outcomes(answers).into_iter().filter(|(_, status)| !status.is_final()).collect()
}
