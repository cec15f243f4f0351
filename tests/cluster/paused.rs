//! A leader that stands still while another is elected, and wakes up.

use drachma_client::Status;
use drachma_protocol::ids::{AccountId, GroupId, NodeId};
use drachma_protocol::message::client::{Response, Why};
use drachma_protocol::message::operator::{LeaderPhase, Nothing, OperatorAnswer, OperatorCall};
use rustix::process::{Signal, kill_process};

use crate::common::load::{Load, Plan, outcomes};
use crate::common::wire::Wire;
use crate::common::{World, setting, transfer};

/// Reads that wait in the sleeper's socket, and again as many that reach it when it has woken up.
const READS: usize = 50;

#[test]
fn a_leader_that_wakes_up_after_its_succession_serves_nothing_old() {
    let mut world = World::start("a_leader_that_wakes_up_after_its_succession_serves_nothing_old");
    let (group, account) = (GroupId(1), AccountId(7));
    let mut sent = Vec::new();
    for round in 0..setting("DRACHMA_ROUNDS", 5) {
        let sleeper = world.leader(group, None);
        let process = world.process(sleeper);
        let address = world.local.settings().node_address(sleeper).unwrap().to_owned();
        let mut wire = Wire::connect(&address, world.local.settings().cluster_id());
        let before = through(&mut wire, group, account, 1);
        assert_eq!(before, [Some(u128::from(10 + round))], "the leader serves");
        let load = Load::start(&mut world, Plan { spare: Some(account), ..Plan::default() });
        load.wait_committed(100);
        kill_process(process, Signal::STOP).unwrap();
        // What the clients have on the way to it stays there; so do these reads.
        (0..READS).for_each(|_| wire.ask_account(group, account));
        let next = world.leader(group, Some(sleeper));
        let paying = transfer(world.rng.next_u128(), 4000 + u128::from(round), account.0, 1);
        // By a client of its own, which does not know the old leader.
        let client = world.connect(usize::from(next.0 - 1), None);
        let status = world.wait(client.transfer(paying, None)).status;
        assert_eq!(status, Status::Committed);
        sent.push((paying, status));
        load.wait_committed(100);
        kill_process(process, Signal::CONT).unwrap();
        let now = u128::from(10 + round + 1);
        let mut answers = answers(&mut wire, READS);
        answers.extend(through(&mut wire, group, account, READS));
        let served = answers.iter().flatten().count();
        println!("{sleeper} slept, {next} leads; {served} of {} reads were served by the sleeper", answers.len());
        assert!(answers.iter().flatten().all(|value| *value == now), "an old balance: {answers:?}");
        steps_down(&world, group, sleeper);
        load.wait_committed(100);
        sent.extend(outcomes(&load.stop()));
    }
    world.verify(&sent);
}

/// The balance as this node tells it, so many times; nothing where it does not serve.
fn through(wire: &mut Wire, group: GroupId, account: AccountId, times: usize) -> Vec<Option<u128>> {
    (0..times).for_each(|_| wire.ask_account(group, account));
    answers(wire, times)
}

fn answers(wire: &mut Wire, count: usize) -> Vec<Option<u128>> {
    let value = |response| match response {
        Response::Read(done) => Some(done.account.unwrap().balance().magnitude),
        Response::Refused(refused) => {
            assert!(matches!(refused.why, Why::NotLeader | Why::NoQuorum | Why::Expired), "{refused:?}");
            None
        }
        other => panic!("{other:?}"),
    };
    (0..count).map(|_| value(wire.answer())).collect()
}

/// Waits until the node knows that it does not lead, unless it has been elected again.
fn steps_down(world: &World, group: GroupId, node: NodeId) {
    let status = |node| match world.ask(node, group, OperatorCall::LeaderStatus(Nothing {})) {
        Some(OperatorAnswer::LeaderStatus(status)) => status,
        other => panic!("{node}: {other:?}"),
    };
    let others: Vec<NodeId> = world.members(group).into_iter().filter(|other| *other != node).collect();
    let end = std::time::Instant::now() + crate::common::PATIENCE;
    loop {
        let own = status(node);
        let known = others.iter().map(|other| status(*other).ballot).max();
        if own.phase == LeaderPhase::Following || Some(own.ballot) >= known {
            return;
        }
        assert!(std::time::Instant::now() < end, "{node} still thinks that it leads {group}");
    }
}
