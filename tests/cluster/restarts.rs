//! All nodes killed at random moments under load, and started again.

use std::time::{Duration, Instant};

use drachma_client::Status;
use drachma_protocol::ids::TransferId;
use drachma_protocol::ledger::model::Reason;
use drachma_protocol::ledger::operations::{Add, Key, Operation, Transaction};

use crate::common::load::{Load, Plan, outcomes};
use crate::common::{World, setting, transfer};

#[test]
fn a_cluster_that_is_killed_whole_comes_back_with_all_it_acknowledged() {
    let mut world = World::start("a_cluster_that_is_killed_whole_comes_back_with_all_it_acknowledged");
    let (rounds, began) = (setting("DRACHMA_ROUNDS", 5), Instant::now());
    let mut sent = Vec::new();
    for round in 1..=rounds {
        let load = Load::start(&mut world, Plan::default());
        load.wait_committed(1 + world.rng.below(400) as usize);
        kill_all(&mut world);
        let down = Instant::now();
        world.start_all();
        println!("round {round} of {rounds}: up again after {:?}", down.elapsed());
        load.wait_committed(1 + world.rng.below(100) as usize);
        sent.extend(outcomes(&load.stop()));
        if round == rounds || round % 10 == 0 {
            world.verify(&sent);
        }
    }
    println!("{rounds} rounds took {:?}", began.elapsed());
}

/// One node after the other, in random order, up to 20 ms apart. In every second round at once.
fn kill_all(world: &mut World) {
    let mut nodes = world.nodes();
    let at_once = world.rng.chance(50);
    while !nodes.is_empty() {
        let node = nodes.swap_remove(world.rng.below(nodes.len() as u64) as usize);
        if !at_once {
            // A random moment; nothing is waited for here.
            std::thread::sleep(Duration::from_micros(world.rng.below(20_000)));
        }
        world.local.kill(node).unwrap();
    }
}

/// A client that begins anew knows its ids and nothing else: it gets the answers of before, whatever became of the nodes.
#[test]
fn a_client_that_restarts_with_the_same_ids_gets_the_same_answers() {
    let mut world = World::start("a_client_that_restarts_with_the_same_ids_gets_the_same_answers");
    let key = |text: &str| Key::new(text.to_owned()).unwrap();
    let add = |text| Operation::Add(Add { key: key(text), delta: 1 });
    let (poor, rich) = (transfer(world.rng.next_u128(), 1, 3001, 11), transfer(world.rng.next_u128(), 1, 3001, 3));
    let one =
        Transaction { id: TransferId(71), conditions: Vec::new(), operations: vec![add("a"), add("b"), add("c")] };
    let (mut answers, mut sent) = (Vec::new(), Vec::new());
    for round in 0..3 {
        let client = world.connect(round, Some(crate::common::PATIENCE));
        let moved = [poor, rich].map(|moving| world.wait(client.transfer(moving, None)));
        let done = world.wait(client.transact(&one, None));
        assert!(moved.iter().all(|answer| round == 0 || answer.replayed), "{moved:?}");
        assert_eq!(done.replayed, round > 0, "{done:?}");
        answers.push((moved.map(|answer| answer.status), done.status, done.replies));
        if round == 0 {
            sent.extend([poor, rich].into_iter().zip(moved.map(|answer| answer.status)));
            // One leader of each group goes, and comes back.
            for group in world.groups() {
                let leader = world.leader(group, None);
                world.local.kill(leader).unwrap();
                world.leader(group, Some(leader));
                world.start_node(leader);
            }
        } else {
            kill_all(&mut world);
            world.start_all();
        }
    }
    assert_eq!(answers[0].0, [Status::Rejected(Reason::ExceedsCredits), Status::Committed]);
    assert!(answers[0].2.is_some() && answers.iter().all(|answer| *answer == answers[0]), "{answers:?}");
    world.verify(&sent);
}
