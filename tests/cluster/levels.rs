//! Consistency levels on real processes: what `any` may lose, what `all` says with a replica down, what a session sees
//! through a replica that lags, and how old a replica that was cut off says that it is.

use std::time::{Duration, Instant};

use drachma_client::{Client, Level, LevelError, Options, Status, Token};
use drachma_protocol::ids::{AccountId, ClusterId, GroupId, NodeId, Slot, TxnId};
use drachma_protocol::ledger::model::Reason;
use drachma_protocol::ledger::operations::Reply;
use rustix::process::{Signal, kill_process};

use crate::common::{PATIENCE, World, text, transfer};

const GROUP: GroupId = GroupId(1);
/// Between a write at level `any` and the end of its leader's patience lies less than this; how often it is tried.
const TRIES: usize = 20;

/// A client that asks this node before others.
fn near(world: &World, node: NodeId) -> Client {
    let settings = world.local.settings();
    // One of another group, too, in case the first does not answer.
    let other = world.members(GroupId(2))[0];
    let endpoints = [other, node].map(|node| settings.node_address(node).unwrap().to_owned()).to_vec();
    let options = Options { endpoints, cluster: Some(settings.cluster_id()), deadline: Some(PATIENCE) };
    world.wait(Client::connect(options)).unwrap()
}

fn followers(world: &mut World) -> (NodeId, Vec<NodeId>) {
    let leader = world.leader(GROUP, None);
    (leader, world.members(GROUP).into_iter().filter(|node| *node != leader).collect())
}

#[test]
fn a_write_that_was_accepted_at_level_any_is_lost_in_a_failover() {
    let mut world = World::start("a_write_that_was_accepted_at_level_any_is_lost_in_a_failover");
    let mut sent = Vec::new();
    let lost = (0..TRIES).find_map(|_| {
        let moving = transfer(world.rng.next_u128(), 1, 2, 1);
        sent.push((moving, world.wait(world.client.transfer(moving, None)).status));
        let (leader, others) = followers(&mut world);
        others.iter().for_each(|node| world.local.kill(*node).unwrap());
        let moving = transfer(world.rng.next_u128(), 1, 2, 1);
        let session = world.client.session();
        let done = world.wait(session.transfer(moving, Level::Any, Some(Duration::from_millis(200)))).unwrap();
        world.local.kill(leader).unwrap();
        others.iter().for_each(|node| world.local.start(*node).unwrap());
        for node in &others {
            world.runtime.block_on(world.local.wait_ready(*node, PATIENCE)).unwrap();
        }
        let next = world.leader(GROUP, Some(leader));
        println!("{leader} said {:?}; {next} leads", done.answer.status);
        let settled = world.wait(world.client.fence(TxnId::from(&moving), None)).status;
        sent.push((moving, settled));
        world.start_node(leader);
        (done.answer.status == Status::Accepted).then_some(settled)
    });
    assert_eq!(lost, Some(Status::Rejected(Reason::Fenced)), "accepted, and gone with its leader");
    world.verify(&sent);
}

#[test]
fn level_any_says_beforehand_what_it_does_and_is_not_to_be_had_over_groups() {
    let world = World::start("level_any_says_beforehand_what_it_does_and_is_not_to_be_had_over_groups");
    let done = world.drachma(&["transfer", "1", "2", "1", "--id", "a1", "--level", "ANY", "--output", "json"]);
    assert_eq!(done.status.code(), Some(0), "{done:?}");
    assert!(text(&done.stdout).contains("\"outcome\":\"accepted\""), "{done:?}");
    let warned = text(&done.stderr);
    assert!(warned.contains("a failover may lose it") && warned.contains("drachma lookup"), "{warned}");
    let over = world.drachma(&["transfer", "1", "3001", "1", "--level", "eventual"]);
    assert_eq!(over.status.code(), Some(2), "{over:?}");
    assert!(text(&over.stderr).contains("several groups"), "{over:?}");
    let refused = world.wait(world.client.session().transfer(transfer(9, 1, 3001, 1), Level::Any, None));
    assert_eq!(refused.err(), Some(LevelError::SeveralGroups));
    let settled = world.drachma(&["lookup", "a1", "--at", "1", "--fence"]);
    assert!(text(&settled.stdout).contains("committed"), "{settled:?}");
}

#[test]
fn level_all_with_a_replica_down_is_committed_and_not_met() {
    let mut world = World::start("level_all_with_a_replica_down_is_committed_and_not_met");
    let all = |world: &World, arguments: &[&str]| {
        let done = world.drachma(&[arguments, &["--level", "all", "--output", "json", "--timeout", "3s"]].concat());
        (done.status.code(), text(&done.stdout))
    };
    for (credit, id) in [("2", "b1"), ("3001", "b2")] {
        let (code, out) = all(&world, &["transfer", "1", credit, "1", "--id", id]);
        assert_eq!(code, Some(0), "{out}");
        assert!(out.contains("\"outcome\":\"committed\"") && out.contains("\"level_met\":true"), "{out}");
    }
    let (code, out) = all(&world, &["balance", "1"]);
    assert_eq!((code, out.contains("\"balance\":8")), (Some(0), true), "{out}");
    let (_, others) = followers(&mut world);
    world.local.kill(others[0]).unwrap();
    for (credit, id) in [("2", "b3"), ("3001", "b4")] {
        let (code, out) = all(&world, &["transfer", "1", credit, "1", "--id", id]);
        assert_eq!(code, Some(3), "{out}");
        assert!(out.contains("\"outcome\":\"committed\"") && out.contains("\"level_met\":false"), "{out}");
    }
    let (code, out) = all(&world, &["balance", "1"]);
    assert_eq!((code, out.contains("\"balance\":6")), (Some(3), true), "{out}");
    world.start_node(others[0]);
    let (code, out) = all(&world, &["balance", "1"]);
    assert_eq!(code, Some(0), "{out}");
}

#[test]
fn a_session_that_reads_through_a_follower_that_lags_waits_or_moves_on() {
    let mut world = World::start("a_session_that_reads_through_a_follower_that_lags_waits_or_moves_on");
    let mut sent = Vec::new();
    let (_, others) = followers(&mut world);
    let slow = others[0];
    let reader = near(&world, slow).session();
    let balance = |world: &World, level| {
        let (account, read) = world.wait(reader.read(AccountId(2), level, None)).unwrap();
        (account.unwrap().balance().magnitude, read)
    };
    let pay = |world: &mut World, sent: &mut Vec<_>, credit| {
        // Each from another account, so that none runs out.
        let moving = transfer(world.rng.next_u128(), 100 + sent.len() as u128, credit, 1);
        let done = world.wait(reader.transfer(moving, Level::Session, None)).unwrap();
        assert!(done.level_met && done.answer.status == Status::Committed, "{done:?}");
        sent.push((moving, done.answer.status));
    };
    pay(&mut world, &mut sent, 2);
    assert_eq!(balance(&world, Level::Session).0, 11);
    // It stands still: the next one is asked.
    let process = world.process(slow);
    kill_process(process, Signal::STOP).unwrap();
    pay(&mut world, &mut sent, 2);
    assert_eq!(balance(&world, Level::Session).0, 12);
    // It goes on, and lacks something: it waits until it has that, or says so.
    for round in 0..20 {
        pay(&mut world, &mut sent, 2);
        if round == 0 {
            kill_process(process, Signal::CONT).unwrap();
        }
        let (found, read) = balance(&world, Level::Session);
        assert_eq!(found, 13 + round, "{read:?}");
        assert!(read.slots[&GROUP] > Slot(0));
    }
    // A transfer over groups is seen in both, from any replica (hazard S18).
    let other = world.members(GroupId(2));
    for round in 0..20 {
        let moving = transfer(world.rng.next_u128(), 200 + round as u128, 3002, 1);
        let done = world.wait(reader.transfer(moving, Level::Session, None)).unwrap();
        sent.push((moving, done.answer.status));
        let token: Token = reader.token().to_string().parse().unwrap();
        let node = other[round % other.len()];
        let resumed = near(&world, node).resume(token).unwrap();
        let read = world.wait(resumed.read(AccountId(3002), Level::Session, None)).unwrap();
        assert_eq!(read.0.unwrap().balance().magnitude, 11 + round as u128, "through {node}");
    }
    world.verify(&sent);
}

#[test]
fn a_follower_that_was_cut_off_for_three_seconds_says_at_least_three_seconds() {
    let mut world = World::start("a_follower_that_was_cut_off_for_three_seconds_says_at_least_three_seconds");
    let (leader, others) = followers(&mut world);
    let (alone, other) = (others[0], others[1]);
    let reader = near(&world, alone).session();
    let read = |world: &World| world.wait(reader.read(AccountId(5), Level::Any, Some(PATIENCE))).unwrap();
    let (_, young) = read(&world);
    let age = young.age.expect("a follower with a leader knows its age");
    println!("with everybody there: {age:?}");
    assert!(age < Duration::from_secs(2), "{young:?}");
    let processes = [leader, other].map(|node| world.process(node));
    processes.iter().for_each(|process| kill_process(*process, Signal::STOP).unwrap());
    let cut = Instant::now();
    // That it is cut off for so long is what the test is about.
    std::thread::sleep(Duration::from_secs(3));
    let least = cut.elapsed();
    let (account, old) = read(&world);
    processes.iter().for_each(|process| kill_process(*process, Signal::CONT).unwrap());
    let age = old.age.expect("it has known it before");
    println!("after {least:?}: {age:?}");
    assert!(age >= least && matches!(old.replies[..], [Reply::Account(_)]), "{old:?}");
    assert_eq!(account.unwrap().balance().magnitude, 10);
    // With everybody back it is young again.
    let end = Instant::now() + PATIENCE;
    while read(&world).1.age.is_none_or(|age| age >= Duration::from_secs(2)) {
        assert!(Instant::now() < end, "it stays old");
    }
}

#[test]
fn a_session_is_kept_in_a_file_and_is_its_own_clusters() {
    let world = World::start("a_session_is_kept_in_a_file_and_is_its_own_clusters");
    let file = world.local.data().join("session");
    let path = file.display().to_string();
    let paid = world.drachma(&["transfer", "1", "3001", "4", "--session", &path]);
    assert_eq!(paid.status.code(), Some(0), "{paid:?}");
    for (account, balance) in [("1", "6"), ("3001", "14")] {
        let read = world.drachma(&["balance", account, "--session", &path]);
        assert_eq!((read.status.code(), text(&read.stdout).trim()), (Some(0), balance), "{read:?}");
    }
    let put = world.drachma(&["put", "a/1", "x", "--session", &path]);
    assert_eq!(put.status.code(), Some(0), "{put:?}");
    let got = world.drachma(&["get", "a/1", "--session", &path, "--level", "ryw"]);
    assert_eq!(text(&got.stdout).trim(), "x", "{got:?}");
    let token: Token = std::fs::read_to_string(&file).unwrap().trim().parse().unwrap();
    assert_eq!(token.cluster(), world.local.settings().cluster_id());
    let mut other = Token::new(ClusterId(7));
    other.see(GROUP, Slot(1));
    for (content, says) in [(other.to_string(), "another cluster"), ("hello".to_owned(), "no session token")] {
        std::fs::write(&file, &content).unwrap();
        let refused = world.drachma(&["balance", "1", "--session", &path]);
        assert_eq!(refused.status.code(), Some(2), "{refused:?}");
        assert!(text(&refused.stderr).contains(says), "{refused:?}");
        assert_eq!(std::fs::read_to_string(&file).unwrap(), content, "it is left as it was");
    }
}
