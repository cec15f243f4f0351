//! Snapshots: they bound the log, and bring back what was down for too long.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use drachma::settings::Settings;
use drachma_client::Status;
use drachma_protocol::ids::{GroupId, NodeId};
use drachma_protocol::ledger::model::Transfer;
use drachma_protocol::message::operator::{Nothing, OperatorAnswer, OperatorCall, PageCall};
use drachma_protocol::rng::Rng;

use crate::common::load::{Load, Plan, outcomes};
use crate::common::{PATIENCE, World, drachma, setting, text, transfer};

const G1: GroupId = GroupId(1);

/// The sample cluster with the smallest segments, and snapshots as often as can be.
fn start(test: &str) -> World {
    let mut text = drachma::settings::SAMPLE.to_owned();
    for (name, value) in [
        ("segment_bytes = 16777216", "segment_bytes = 1048576"),
        ("snapshot_every_bytes = 268435456", "snapshot_every_bytes = 1048576"),
        ("initial_balance = 10\n", "initial_balance = 1000000\n"),
    ] {
        assert!(text.contains(name), "{name}");
        text = text.replace(name, value);
    }
    let settings = Settings::parse(&text, "the test's").unwrap();
    World::start_with(test, settings)
}

/// Transfers in batches, which make much log in little time.
struct Batches {
    rng: Rng,
    next: u128,
    sent: Vec<(Transfer, Status)>,
}

impl Batches {
    fn new(world: &mut World) -> Batches {
        Batches { rng: world.rng.fork(), next: 1 << 100, sent: Vec::new() }
    }

    /// Sends batches between accounts of g1 until its log has grown by about so many bytes.
    fn fill(&mut self, world: &World, bytes: usize) {
        const BATCH: usize = 2000;
        /// What a transfer of these has in the log, at least.
        const BYTES: usize = 20;
        for _ in 0..bytes.div_ceil(BYTES * BATCH) {
            let batch: Vec<Transfer> = (0..BATCH).map(|_| self.draw()).collect();
            let answers = world.wait(world.client.transfers(&batch, Some(PATIENCE)));
            self.sent.extend(batch.into_iter().zip(answers).map(|(transfer, answer)| (transfer, answer.status)));
        }
    }

    fn draw(&mut self) -> Transfer {
        self.next += 1;
        let debit = 1 + u128::from(self.rng.below(2999));
        transfer(self.next, debit, 3000, 1)
    }
}

/// The snapshots of a node that are whole, by the slots in their names.
fn snapshots(world: &World, node: NodeId) -> Vec<(u64, PathBuf)> {
    let directory = world.local.data().join(format!("{node}/snapshots"));
    let names = std::fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path());
    let slot = |path: &Path| path.file_name()?.to_str()?.strip_suffix(".snapshot")?.rsplit('-').next()?.parse().ok();
    names.filter_map(|path| Some((slot(&path)?, path))).collect()
}

fn first_segment(world: &World, node: NodeId) -> u32 {
    let directory = world.local.data().join(format!("{node}/log"));
    let names = std::fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    names.filter_map(|name| name.strip_suffix(".log")?.parse().ok()).min().unwrap()
}

/// Waits until something on the disk is so.
fn wait_for(what: &str, mut is_so: impl FnMut() -> bool) {
    let end = Instant::now() + PATIENCE;
    while !is_so() {
        assert!(Instant::now() < end, "{what}: not in {PATIENCE:?}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn snapshots_bound_the_log_and_everything_comes_back() {
    let mut world = start("snapshots_bound_the_log_and_everything_comes_back");
    let mut batches = Batches::new(&mut world);
    batches.fill(&world, 8 << 20);
    for node in world.members(G1) {
        wait_for("the log is cut", || !snapshots(&world, node).is_empty() && first_segment(&world, node) > 1);
    }
    let leader = world.leader(G1, None);
    log_tells_what_is_left(&world, leader);
    for node in world.nodes() {
        world.local.kill(node).unwrap();
    }
    world.verify(&batches.sent);
    // Old answers are remembered: nothing is done twice.
    let (again, _) = batches.sent[7];
    let answer = world.wait(world.client.transfer(again, Some(PATIENCE)));
    assert_eq!((answer.status, answer.replayed), (Status::Committed, true));
    let nodes = world.nodes();
    world.local.stop(&nodes).unwrap();
    world.verify(&batches.sent);
}

/// The command line says from where on the log is there.
fn log_tells_what_is_left(world: &World, leader: NodeId) {
    let call = OperatorCall::Log(PageCall { from: 0, limit: 10 });
    let Some(OperatorAnswer::Log(page)) = world.ask(leader, G1, call) else { panic!("no page") };
    assert!(page.from.0 > 0 && !page.entries.is_empty(), "{:?} of {:?}", page.from, page.chosen);
    let output = world.drachma(&["log", &leader.to_string()]);
    let said = text(&output.stderr);
    assert!(said.contains("from slot ") && said.contains("snapshot"), "{said}");
}

#[test]
fn a_node_that_was_down_while_the_others_cut_their_logs_comes_back_by_a_snapshot() {
    let mut world = start("a_node_that_was_down_while_the_others_cut_their_logs_comes_back_by_a_snapshot");
    let mut batches = Batches::new(&mut world);
    batches.fill(&world, 1 << 19);
    let leader = world.leader(G1, None);
    let down = *world.members(G1).iter().find(|node| **node != leader).unwrap();
    let Some(OperatorAnswer::ReplicaStatus(status)) = world.ask(down, G1, OperatorCall::ReplicaStatus(Nothing {}))
    else {
        panic!("no status")
    };
    world.local.kill(down).unwrap();
    batches.fill(&world, 6 << 20);
    for node in world.members(G1).into_iter().filter(|node| *node != down) {
        let cut = || snapshots(&world, node).iter().any(|(slot, _)| *slot > status.length.0 + 1);
        wait_for("the log is cut", cut);
    }
    let load = Load::start(&mut world, Plan::default());
    let begun = Instant::now();
    world.start_node(down);
    println!("{down} is back after {:?}", begun.elapsed());
    let told = std::fs::read_to_string(world.local.data().join(format!("{down}.log"))).unwrap();
    assert!(told.contains("snapshot_installed"), "it came back without a snapshot: {told}");
    load.wait_committed(200);
    batches.sent.extend(outcomes(&load.stop()));
    wait_for("it has one of its own", || !snapshots(&world, down).is_empty());
    world.verify(&batches.sent);
    // What it was given is on its own disk.
    world.local.kill(down).unwrap();
    world.start_node(down);
    world.verify(&batches.sent);
}

#[test]
fn nodes_are_killed_while_snapshots_are_taken_and_sent() {
    let mut world = start("nodes_are_killed_while_snapshots_are_taken_and_sent");
    let mut batches = Batches::new(&mut world);
    let members = world.members(G1);
    let rounds = setting("DRACHMA_ROUNDS", 4);
    for round in 1..=rounds {
        let load = Load::start(&mut world, Plan { clients: 4, ..Plan::default() });
        let node = members[world.rng.below(members.len() as u64) as usize];
        let more = (1 << 19) + world.rng.below(1 << 20) as usize;
        batches.fill(&world, more);
        world.local.kill(node).unwrap();
        if world.rng.chance(50) {
            // So much that it needs a snapshot, and it may be killed while it gets that.
            batches.fill(&world, 5 << 20);
            world.local.start(node).unwrap();
            std::thread::sleep(Duration::from_micros(world.rng.below(1_000_000)));
            world.local.kill(node).unwrap();
        }
        world.start_node(node);
        println!("round {round} of {rounds}: {node} is back");
        batches.sent.extend(outcomes(&load.stop()));
    }
    world.verify(&batches.sent);
}

#[test]
fn a_damaged_snapshot_keeps_its_node_from_starting_and_the_others_go_on() {
    let mut world = start("a_damaged_snapshot_keeps_its_node_from_starting_and_the_others_go_on");
    let mut batches = Batches::new(&mut world);
    batches.fill(&world, 4 << 20);
    let leader = world.leader(G1, None);
    let node = *world.members(G1).iter().find(|node| **node != leader).unwrap();
    wait_for("a snapshot is taken", || !snapshots(&world, node).is_empty());
    world.local.stop(&[node]).unwrap();
    let (_, path) = snapshots(&world, node).pop().unwrap();
    let good = std::fs::read(&path).unwrap();
    let mut bad = good.clone();
    let at = world.rng.below(good.len() as u64) as usize;
    bad[at] ^= 1 << world.rng.below(8);
    std::fs::write(&path, &bad).unwrap();
    let refused = |part: &str| {
        let config = world.local.data().join("cluster.toml").display().to_string();
        let (data, id) = (world.local.data().display().to_string(), node.to_string());
        let output = drachma(&["--config", &config, "--data", &data, "node", "--id", &id]);
        let said = text(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{said}");
        assert!(said.contains(&path.display().to_string()) && said.contains(part), "{said}");
        assert!(said.contains("Put back the file"), "{said}");
    };
    refused("damaged at offset ");
    std::fs::remove_file(&path).unwrap();
    refused("missing");
    batches.fill(&world, 1 << 18);
    std::fs::write(&path, &good).unwrap();
    world.start_node(node);
    world.verify(&batches.sent);
}

#[test]
fn a_quiet_group_does_not_keep_the_log_of_a_busy_one() {
    let text = "[[node]]\nid = \"n1\"\n[[group]]\nid = \"g1\"\nnodes = [\"n1\"]\n[[group]]\nid = \"g2\"\nnodes = [\"n1\"]\n\
        [storage]\nsnapshot_every_bytes = 1048576\nsegment_bytes = 1048576\n\
        [data_set]\naccounts = 6000\ninitial_balance = 1000000\n";
    let settings = Settings::parse(text, "the test's").unwrap();
    let mut world = World::start_with("a_quiet_group_does_not_keep_the_log_of_a_busy_one", settings);
    let quiet = transfer(77, 3001, 3002, 5);
    let answer = world.wait(world.client.transfer(quiet, Some(PATIENCE)));
    assert_eq!(answer.status, Status::Committed);
    let mut batches = Batches::new(&mut world);
    let node = world.nodes()[0];
    batches.fill(&world, 12 << 20);
    wait_for("the log is cut", || first_segment(&world, node) > 1);
    world.local.kill(node).unwrap();
    world.start_all();
    let answer = world.wait(world.client.transfer(quiet, Some(PATIENCE)));
    assert_eq!((answer.status, answer.replayed), (Status::Committed, true));
}

/// Prints how long a node takes to come back by a snapshot, and what that costs the others; see docs/performance.md.
#[test]
#[ignore = "a measurement, for a machine of its own"]
fn measure_how_fast_a_node_comes_back() {
    let mut world = start("measure_how_fast_a_node_comes_back");
    let mut batches = Batches::new(&mut world);
    let leader = world.leader(G1, None);
    let down = *world.members(G1).iter().find(|node| **node != leader).unwrap();
    world.local.kill(down).unwrap();
    while batches.sent.len() < setting("DRACHMA_TRANSFERS", 200_000) as usize {
        batches.fill(&world, 1 << 20);
    }
    let plan = Plan { clients: setting("DRACHMA_CLIENTS", 64), deadline: PATIENCE, ..Plan::default() };
    let load = Load::start(&mut world, plan);
    load.wait_committed(5000);
    let still = Instant::now();
    std::thread::sleep(Duration::from_secs(5));
    let begun = Instant::now();
    world.start_node(down);
    let back = Instant::now();
    std::thread::sleep(Duration::from_secs(5));
    let answers = load.stop();
    let rate = |from: Instant, until: Instant| {
        let count = answers.iter().filter(|answered| (from..until).contains(&answered.at)).count();
        count as f64 / (until - from).as_secs_f64()
    };
    let (before, meanwhile, after) = (rate(still, begun), rate(begun, back), rate(back, back + Duration::from_secs(5)));
    println!(
        "{} transfers missed; back after {:?}; {before:.0} transfers/s before, {meanwhile:.0} meanwhile, {after:.0} after",
        batches.sent.len(),
        back - begun
    );
    for (slot, path) in snapshots(&world, down) {
        println!("its snapshot of {slot} entries has {} bytes", std::fs::metadata(path).unwrap().len());
    }
    batches.sent.extend(outcomes(&answers));
    world.verify(&batches.sent);
}

/// Prints how long transfers take while a snapshot of many accounts is being taken, and while none is; see
/// docs/performance.md.
#[test]
#[ignore = "a measurement, for a machine of its own"]
fn measure_transfers_while_snapshots_are_taken() {
    let accounts = setting("DRACHMA_ACCOUNTS", 1_000_000);
    let text = format!(
        "[[node]]\nid = \"n1\"\n[[node]]\nid = \"n2\"\n[[node]]\nid = \"n3\"\n[[group]]\nid = \"g1\"\n\
         nodes = [\"n1\", \"n2\", \"n3\"]\n[storage]\nsnapshot_every_bytes = 1048576\n\
         [data_set]\naccounts = {accounts}\ninitial_balance = 1000000\n"
    );
    let settings = Settings::parse(&text, "the test's").unwrap();
    let mut world = World::start_with("measure_transfers_while_snapshots_are_taken", settings);
    let plan = Plan { clients: setting("DRACHMA_CLIENTS", 16), deadline: PATIENCE, ..Plan::default() };
    let load = Load::start(&mut world, plan);
    load.wait_committed(2000);
    // Whether one is being written is seen on the disk.
    let paths: Vec<PathBuf> =
        world.nodes().iter().map(|node| world.local.data().join(format!("{node}/snapshots/g1.unfinished"))).collect();
    let (begun, mut seen) = (Instant::now(), Vec::new());
    while begun.elapsed() < Duration::from_secs(setting("DRACHMA_SECONDS", 30)) {
        seen.push((Instant::now(), paths.iter().any(|path| path.exists())));
        std::thread::sleep(Duration::from_millis(2));
    }
    let answers = load.stop();
    for (what, wanted) in [("no snapshot is taken", false), ("one is taken", true)] {
        let during = |at: Instant| {
            let place = seen.partition_point(|(time, _)| *time <= at);
            place > 0 && place < seen.len() && seen[place - 1].1 == wanted && seen[place].1 == wanted
        };
        let mut times: Vec<Duration> = answers.iter().filter(|it| during(it.at)).map(|it| it.took).collect();
        times.sort_unstable();
        let [p50, p99, p999] = [500, 990, 999].map(|part| times.get(times.len().saturating_sub(1) * part / 1000));
        println!("while {what}: {} transfers, p50 {p50:?}, p99 {p99:?}, p99.9 {p999:?}", times.len());
    }
    for node in world.nodes() {
        for (slot, path) in snapshots(&world, node) {
            println!("{node}: a snapshot of {slot} entries, {} bytes", std::fs::metadata(path).unwrap().len());
        }
    }
}
