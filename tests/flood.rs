//! Floods: memory stays under the bound that `docs/limits.md` states, and the cluster serves on.
//!
//! Small by default. `DRACHMA_FLOOD=full` is 10,000 connections and 1 GiB of garbage.

mod rig;

use std::io::{Read, Write};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use drachma_client::{Client, Options, Status};
use drachma_protocol::ids::{AccountId, GroupId, NodeId};
use drachma_protocol::ledger::model::{CreateResult, NewAccount};
use drachma_protocol::message::client::{Call, Request};
use drachma_protocol::message::operator::{AccountsCall, Nothing, OperatorCall};
use drachma_protocol::rng::Rng;
use drachma_protocol::wire::frame::{self, Kind};

use rig::{Line, PATIENCE, Rig, configuration, transfer};

const MIB: u64 = 1 << 20;
/// What a node with nothing but clients that do not read grows by at most, per connection: its task, its tables, and
/// what the allocator keeps.
const PER_CONNECTION: u64 = 16 << 10;
/// Whatever is sent: the read buffer, frames in part, and what the allocator keeps.
const GARBAGE: u64 = 32 * MIB;
/// Answers that clients have not read, requests that wait, and as much again of what the allocator keeps.
const UNREAD: u64 = 2 * 512 * MIB;

fn full() -> bool {
    std::env::var("DRACHMA_FLOOD").is_ok_and(|size| size == "full")
}

/// Resident memory of a process, in bytes.
fn resident(pid: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).expect("the node runs");
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("a line");
    line.trim().trim_end_matches(" kB").parse::<u64>().expect("a number") * 1024
}

/// g1 on n1 to n3, g2 on n4 to n6: each node does everything on one thread, so that nothing hides.
fn start(name: &str) -> (Rig, NodeId, u32) {
    // Ten thousand connections need more descriptors than most shells give.
    let mut limit = rustix::process::getrlimit(rustix::process::Resource::Nofile);
    limit.current = limit.maximum;
    rustix::process::setrlimit(rustix::process::Resource::Nofile, limit).expect("a limit");
    let mut rig = Rig::start(name, &configuration(6, &[&[1, 2, 3], &[4, 5, 6]]));
    rig.assert_serves(1);
    let leader = rig.leader(1);
    let pid = rig.pid(leader);
    (rig, leader, pid)
}

/// What happened meanwhile.
#[derive(Debug, Default)]
struct Meanwhile {
    peak: u64,
    transfers: u64,
    slowest: Duration,
}

/// Runs `flood` on another thread; meanwhile money moves, one transfer after another, and memory is watched.
fn while_serving(rig: &Rig, pid: u32, flood: impl FnOnce() + Send) -> Meanwhile {
    let over = AtomicBool::new(false);
    let peak = AtomicU64::new(0);
    let mut seen = Meanwhile::default();
    let options = Options { endpoints: rig.cluster.endpoints(), cluster: None, deadline: Some(PATIENCE) };
    std::thread::scope(|scope| {
        scope.spawn(|| {
            flood();
            over.store(true, Ordering::Release);
        });
        scope.spawn(|| {
            while !over.load(Ordering::Acquire) {
                peak.fetch_max(resident(pid), Ordering::Relaxed);
                std::thread::sleep(Duration::from_millis(2));
            }
        });
        rig.block_on(async {
            let client = Client::connect(options).await.expect("a new client is taken in");
            while !over.load(Ordering::Acquire) {
                // There and back, within g1 and across.
                let (debit, credit) = [(11, 12), (12, 11), (13, 1013), (1013, 13)][seen.transfers as usize % 4];
                let began = Instant::now();
                let answer =
                    client.transfer(transfer(1 << 80 | u128::from(seen.transfers), debit, credit, 1), None).await;
                assert_eq!(answer.status, Status::Committed, "{answer:?}");
                seen.slowest = seen.slowest.max(began.elapsed());
                seen.transfers += 1;
            }
        });
    });
    seen.peak = peak.into_inner().max(resident(pid));
    assert!(seen.transfers > 0);
    seen
}

#[track_caller]
fn assert_bound(what: &str, before: u64, seen: &Meanwhile, bound: u64) {
    let grown = seen.peak.saturating_sub(before);
    println!(
        "{what}: {:.1} MiB before, {:.1} MiB at most, {:.1} MiB more; the bound is {:.1} MiB more; meanwhile {} transfers, \
         the slowest {:?}",
        before as f64 / MIB as f64,
        seen.peak as f64 / MIB as f64,
        grown as f64 / MIB as f64,
        bound as f64 / MIB as f64,
        seen.transfers,
        seen.slowest
    );
    assert!(grown <= bound, "{what}: the node has grown by {grown} bytes; {bound} were allowed");
}

/// Many requests in one write.
fn requests(count: u64, group: u16, call: &Call) -> Vec<u8> {
    let mut out = Vec::new();
    for correlation in 0..count {
        frame::encode(&mut out, Kind::Request, correlation, &Request { group: GroupId(group), call: call.clone() });
    }
    out
}

#[test]
fn connections_that_never_read_cost_little_and_the_cluster_serves() {
    let count = if full() { 10_000 } else { 1_000 };
    let (mut rig, leader, pid) = start("connections");
    let before = resident(pid);
    let address = rig.address(leader);
    let mut lines = Vec::new();
    let asked = requests(4, 0, &Call::Operator(OperatorCall::NodeStatus(Nothing {})));
    let seen = while_serving(&rig, pid, || {
        for _ in 0..count {
            let mut line = Line::open(&address);
            line.hello();
            line.say(&asked);
            lines.push(line);
        }
        // They stay, say nothing more, and never read.
        std::thread::sleep(Duration::from_millis(500));
    });
    assert_bound(&format!("{count} connections"), before, &seen, 16 * MIB + count * PER_CONNECTION);
    assert!(rig.count(leader, "clients_open") >= count, "all of them are still connected");
    drop(lines);
    rig.assert_unharmed();
}

#[test]
fn garbage_takes_no_memory_and_the_cluster_serves() {
    let total = if full() { 1024 * MIB } else { 64 * MIB };
    let (mut rig, leader, pid) = start("garbage");
    let before = resident(pid);
    let address = rig.address(leader);
    let seed = u64::from(std::process::id());
    println!("seed {seed}");
    let mut connections = 0u64;
    let seen = while_serving(&rig, pid, || {
        let mut rng = Rng::new(seed);
        let mut garbage: Vec<u8> = (0..MIB / 8).flat_map(|_| rng.next_u64().to_le_bytes()).collect();
        let mut sent = 0;
        while sent < total {
            // Of three: garbage at once; after Hello; and what announces the largest frame, so that it is collected.
            let mut line = Line::open(&address);
            let kind = connections % 3;
            if kind != 0 {
                line.hello();
            }
            let announced = if kind == 2 { (4 * MIB - 8) as u32 } else { rng.next_u64() as u32 };
            garbage[..4].copy_from_slice(&announced.to_be_bytes());
            connections += 1;
            for piece in std::iter::repeat_n(&garbage, 4).flat_map(|garbage| garbage.chunks(64 << 10)) {
                match line.stream().write(piece) {
                    Ok(count) => sent += count as u64,
                    Err(_) => break, // Refused, and closed.
                }
            }
        }
    });
    println!("{connections} connections");
    assert_bound(&format!("{} MiB of garbage", total / MIB), before, &seen, GARBAGE);
    rig.assert_unharmed();
}

#[test]
fn pages_that_nobody_reads_are_bounded_and_the_cluster_serves() {
    let count = if full() { 400 } else { 40 };
    let (mut rig, leader, pid) = start("pages");
    let new: Vec<NewAccount> = (0..8_000)
        .map(|n| NewAccount { id: AccountId(100_000 + n), ledger: 1, code: 1, ..NewAccount::default() })
        .collect();
    let created = rig.block_on(rig.client.create_accounts(&new, Some(PATIENCE)));
    assert!(created.iter().all(|result| *result == Ok(CreateResult::Created)));
    let before = resident(pid);
    let address = rig.address(leader);
    // A question of some thirty bytes whose answer has thousands of rows, thousands of times in one write.
    let page = AccountsCall { from: 0, limit: u32::MAX, changed: false, reserved: true };
    let asked = requests(5_000, 1, &Call::Operator(OperatorCall::Accounts(page)));
    let seen = while_serving(&rig, pid, || {
        let lines: Vec<Line> = (0..count)
            .map(|_| {
                let mut line = Line::open(&address);
                line.hello();
                line.stream().set_write_timeout(Some(Duration::from_millis(200))).expect("a timeout");
                let _ = line.stream().write(&asked);
                line
            })
            .collect();
        // They are let go when they have read nothing for long enough; here, after a moment.
        std::thread::sleep(Duration::from_secs(1));
        for line in &lines {
            line.stream().set_read_timeout(Some(Duration::from_millis(1))).expect("a timeout");
            let _ = line.stream().read(&mut [0; 16]);
        }
    });
    assert_bound(&format!("{count} x 5000 pages"), before, &seen, UNREAD);
    rig.assert_unharmed();
}
