//! All nodes killed at random moments under load, and started again.

use std::time::{Duration, Instant};

use crate::common::load::{Load, Plan, outcomes};
use crate::common::{World, setting};

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
