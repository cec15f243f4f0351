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

/// Prints how long a group is silent while it is moved; see docs/performance.md.
#[test]
#[ignore = "a measurement of minutes, for a machine of its own"]
fn measure_moves_under_load() {
    let mut world = World::start("measure_moves_under_load");
    let clients = setting("DRACHMA_CLIENTS", 64);
    let load = Load::start(&mut world, Plan { clients, deadline: DEADLINE, ..Plan::default() });
    load.wait_committed(2000);
    let quiet = (Instant::now(), std::thread::sleep(Duration::from_secs(5)), Instant::now());
    let mut moves = Vec::new();
    for round in 0..setting("DRACHMA_ROUNDS", 100) {
        let begun = Instant::now();
        let (group, ..) = move_leader(&mut world, round);
        std::thread::sleep(Duration::from_millis(200));
        moves.push((group, begun, Instant::now()));
    }
    let answers = load.stop();
    let map = world.local.settings().shard_map();
    let gap = |group: Option<GroupId>, from: Instant, until: Instant| {
        longest_gap(answers.iter().filter(|answered| {
            let Transfer { debit, credit, .. } = answered.transfer;
            let touches = |group| [debit, credit].iter().any(|account| map.owner_of(*account) == Some(group));
            (from..until).contains(&answered.at) && group.is_none_or(touches)
        }))
    };
    let mut gaps: Vec<Duration> = moves.iter().map(|(group, from, until)| gap(Some(*group), *from, *until)).collect();
    gaps.sort_unstable();
    let (count, failed) = (gaps.len(), failed(&answers).len());
    let still = world.groups().into_iter().map(|group| gap(Some(group), quiet.0, quiet.2)).max().unwrap_or_default();
    let rate = answers.iter().filter(|answered| (quiet.0..quiet.2).contains(&answered.at)).count() / 5;
    println!("{clients} clients, {rate} transfers/s; {count} moves, {failed} of {} requests failed", answers.len());
    println!("longest gap of a group without a move, in 5 s: {still:?}");
    println!(
        "longest gap of the moved group: p50 {:?}, p90 {:?}, max {:?}",
        gaps[count / 2],
        gaps[count * 9 / 10],
        gaps[count - 1]
    );
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
