//! Leaders that are killed under load.

use drachma_protocol::ledger::model::Transfer;

use crate::common::load::{Answered, Load, Plan, longest_gap, outcomes};
use crate::common::{World, setting};

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
