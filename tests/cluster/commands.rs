//! Every command against a live cluster that `drachma up --detach` has started.

use std::collections::BTreeSet;
use std::process::Output;

use drachma::local::{LocalCluster, LocalOptions};
use drachma::settings::Settings;
use serde_json::Value;

use crate::common::{Scratch, drachma, text};

/// A cluster of `up`; `down` when it goes.
struct Up {
    config: String,
    data: String,
    // Holds the ports.
    _ports: LocalCluster,
    _scratch: Scratch,
}

impl Up {
    /// A configuration with free ports; nothing is started.
    fn prepare(name: &str) -> Up {
        let scratch = Scratch::new(name);
        let own = scratch.0.join("config");
        let ports = LocalCluster::create(Settings::sample(), own.clone(), LocalOptions::embedded()).unwrap();
        std::fs::create_dir_all(&own).unwrap();
        std::fs::write(own.join("cluster.toml"), ports.settings().to_toml()).unwrap();
        let path = |path: std::path::PathBuf| path.display().to_string();
        let (config, data) = (path(own.join("cluster.toml")), path(scratch.0.join("data")));
        Up { config, data, _ports: ports, _scratch: scratch }
    }

    fn run(&self, line: &str) -> Output {
        let mut words = vec!["--config", &self.config, "--data", &self.data];
        words.extend(line.split_whitespace());
        if !words.contains(&"--timeout") {
            words.extend(["--timeout", "30s"]);
        }
        drachma(&words)
    }

    /// Standard output of a command that ends with this status.
    #[track_caller]
    fn table(&self, status: i32, line: &str) -> String {
        let output = self.run(line);
        let (out, err) = (text(&output.stdout), text(&output.stderr));
        assert_eq!(output.status.code(), Some(status), "{line}: {out}{err}");
        out
    }

    /// The objects that it prints, one a line.
    #[track_caller]
    fn json(&self, status: i32, line: &str) -> Vec<Value> {
        let out = self.table(status, &format!("{line} --output json"));
        out.lines().map(|line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"))).collect()
    }

    /// The same with as many objects as are expected.
    #[track_caller]
    fn rows(&self, count: usize, line: &str) -> Vec<Value> {
        let rows = self.json(0, line);
        assert_eq!(rows.len(), count, "{line}: {rows:?}");
        rows
    }
}

impl Drop for Up {
    fn drop(&mut self) {
        let _ = self.run("down");
    }
}

/// A column, as a set of texts.
fn set(rows: &[Value], key: &str) -> BTreeSet<String> {
    rows.iter().map(|row| row[key].as_str().unwrap_or_else(|| panic!("no {key}: {row}")).to_owned()).collect()
}

fn names(prefix: &str, count: usize) -> BTreeSet<String> {
    (1..=count).map(|number| format!("{prefix}{number}")).collect()
}

#[test]
fn every_command_works_on_a_cluster_that_up_has_started() {
    let up = Up::prepare("commands");
    assert_eq!(up.run("status --timeout 100ms").status.code(), Some(3), "nothing runs yet");
    let started = up.rows(1, "up --detach");
    assert_eq!((&started[0]["nodes"], &started[0]["groups"]), (&9.into(), &3.into()), "{started:?}");
    assert_eq!(up.run("up --detach").status.code(), Some(2), "it runs already");
    shows_its_state(&up);
    moves_money(&up);
    shows_what_was_moved(&up);
    keeps_accounts(&up);
    moves_a_leader(&up);
    stops_and_starts_nodes(&up);
    goes_down_and_comes_back(&up);
}

fn shows_its_state(up: &Up) {
    let status = up.rows(9, "status");
    assert_eq!(set(&status, "node"), names("n", 9));
    for group in names("g", 3) {
        let leaders = status.iter().filter(|row| row["group"] == *group && row["state"] == "leader").count();
        assert_eq!(leaders, 1, "{group}: {status:?}");
    }
    let table = up.table(0, "status");
    assert_eq!(table.lines().count(), 10, "{table}");
    assert!(table.lines().next().is_some_and(|head| head.starts_with("group") && head.contains("applied")), "{table}");
    shows_its_actors(up);
    let leaders = up.rows(3, "leader");
    assert_eq!(set(&leaders, "group"), names("g", 3));
    let table = up.table(0, "leader");
    assert!(leaders.iter().all(|row| table.contains(row["leader"].as_str().unwrap())), "{table}");
    let ping = up.rows(9, "ping");
    let processes: BTreeSet<u64> = ping.iter().map(|row| row["process"].as_u64().unwrap()).collect();
    assert_eq!((set(&ping, "node"), set(&ping, "state")), (names("n", 9), ["up".to_owned()].into()));
    assert_eq!(processes.len(), 9, "each node is a process: {ping:?}");
    assert!(ping.iter().all(|row| row["round_trip_us"].is_u64() && row["address"].is_string()), "{ping:?}");
    up.rows(0, "pending");
}

/// One actor per role and group, with the depth of its queue.
fn shows_its_actors(up: &Up) {
    let actors = up.json(0, "status --actors");
    for number in 1..=9 {
        let (node, group) = (format!("n{number}"), format!("g{}", (number - 1) / 3 + 1));
        let of = actors.iter().filter(|row| row["node"] == *node && row["group"] == *group);
        let roles: Vec<&Value> = of.collect();
        let names: BTreeSet<&str> = roles.iter().map(|row| row["role"].as_str().unwrap()).collect();
        assert_eq!(names, ["coordinator", "leader", "participant", "replica"].into(), "{node}: {actors:?}");
        assert_eq!(roles.len(), 4, "{node}");
        assert!(roles.iter().all(|row| row["depth"].is_u64() && row["handled"].as_u64() > Some(0)), "{roles:?}");
    }
    let table = up.table(0, "status --actors");
    assert!(table.starts_with("node") && table.contains("participant"), "{table}");
}

fn moves_money(up: &Up) {
    let within = up.rows(1, "transfer 1 2 3 --id a1");
    let id = "000000000000000000000000000000a1";
    assert_eq!((&within[0]["id"], &within[0]["outcome"]), (&id.into(), &"committed".into()), "{within:?}");
    let again = up.rows(1, "transfer 1 2 3 --id a1");
    assert_eq!((&again[0]["outcome"], &again[0]["replayed"]), (&"committed".into(), &true.into()), "{again:?}");
    let other = up.json(1, "transfer 1 2 4 --id a1");
    assert_eq!((&other[0]["outcome"], &other[0]["reason"]), (&"rejected".into(), &"id_conflict".into()));
    let across = up.table(0, "transfer 1 3001 4 --id a2 --level quorum");
    assert!(across.contains("committed") && across.contains("00a2"), "{across}");
    let rejected = up.json(1, "transfer 2 6001 100 --id a3");
    assert_eq!((&rejected[0]["outcome"], &rejected[0]["reason"]), (&"rejected".into(), &"exceeds_credits".into()));
    assert!(up.table(1, "transfer 2 6001 100 --id a3").contains("exceeds_credits"));
    assert_eq!(up.table(0, "balance 1"), "3\n");
    assert_eq!(up.rows(1, "balance 3001")[0]["balance"], 14);
    assert_eq!(up.table(1, "balance 9001"), "");

    assert_eq!(up.rows(1, "lookup a2 --at 1")[0]["outcome"], "committed");
    let unknown = up.json(1, "lookup a9 --at 1");
    assert_eq!(unknown[0]["outcome"], "not_found");
    assert_eq!(up.json(1, "lookup a9 --at 1 --fence")[0]["reason"], "fenced");
    assert!(up.table(1, "transfer 1 2 1 --id a9").contains("fenced"));
    assert!(up.table(0, "lookup a2 --at 1 --fence").contains("committed"));
}

fn shows_what_was_moved(up: &Up) {
    // A follower learns that an entry is chosen a little later; the audit waits for that.
    let audit = up.rows(1, "audit");
    assert_eq!((&audit[0]["verdict"], &audit[0]["replicas"]), (&"clean".into(), &9.into()), "{audit:?}");
    assert!(up.table(0, "audit").contains("clean"));

    let db = up.rows(3, "db");
    assert_eq!((&db[0]["account"], &db[0]["replicas"]["n2"]), (&1.into(), &3.into()), "{db:?}");
    assert_eq!((&db[2]["account"], &db[2]["replicas"]["n5"]), (&3001.into(), &14.into()), "{db:?}");
    assert_eq!(up.rows(1, "db n4")[0]["replicas"].as_object().unwrap().len(), 1);
    let table = up.table(0, "db g1");
    assert_eq!(table.lines().count(), 3, "{table}");

    for node in 4..=6 {
        let rows = up.rows(1, &format!("committed n{node}"));
        assert_eq!((&rows[0]["sides"], &rows[0]["amount"]), (&"credit".into(), &4.into()), "{rows:?}");
    }
    assert_eq!(up.rows(6, "committed g1")[0]["id"], "000000000000000000000000000000a1");
    assert!(up.table(0, "committed n1").contains("00a2"));

    let words = |rows: &[Value]| rows.iter().map(|row| row["record"].as_str().unwrap().to_owned()).collect::<Vec<_>>();
    let log = up.rows(4, "log n1 --txn a1");
    assert_eq!(words(&log), ["start", "update", "update", "commit"]);
    assert_eq!((&log[1]["account"], &log[1]["balance"]), (&1.into(), &7.into()), "{log:?}");
    assert_eq!(words(&up.rows(3, "log n4 --txn a2")), ["start", "update", "commit"]);
    let aborted = up.json(0, "log n1 --txn a3");
    assert_eq!(aborted.last().unwrap()["record"], "abort", "{aborted:?}");
    assert_eq!(up.rows(2, "log n1 --limit 2").len(), 2);
    let table = up.table(0, "log n1 --txn a1");
    assert!(table.contains(", Start>") && table.contains(", Update, 1, 7>") && table.contains(", Commit>"), "{table}");

    let performance = up.json(0, "performance");
    let count: u64 = performance.iter().map(|row| row["count"].as_u64().unwrap()).sum();
    assert!(count > 0 && set(&performance, "kind").contains("query"), "{performance:?}");
    assert!(up.table(0, "performance").starts_with("node"));
}

fn keeps_accounts(up: &Up) {
    let exists = up.json(1, "account create 5 --code 2");
    assert_eq!(exists[0]["result"], "exists_different", "{exists:?}");
    assert_eq!(up.rows(1, "account create 5")[0]["result"], "exists");
    assert_eq!(up.json(1, "account create 9001")[0]["result"], "outside_all_ranges");
    let shown = up.rows(1, "account show 1");
    assert_eq!((&shown[0]["debits_posted"], &shown[0]["credits_posted"]), (&7.into(), &10.into()), "{shown:?}");
    assert_eq!(shown[0]["flags"][0], "debits_must_not_exceed_credits");
    assert!(up.table(0, "account show 1").contains("debits_must_not_exceed_credits"));
    assert_eq!(up.table(1, "account show 9001"), "");
    up.rows(9000, "account list");
    up.rows(9003, "account list --all");
}

fn moves_a_leader(up: &Up) {
    let leader = up.rows(3, "leader")[0]["leader"].as_str().unwrap().to_owned();
    let next = ["n1", "n2", "n3"].into_iter().find(|node| *node != leader).unwrap();
    for (line, status, part) in [
        ("leader move g9 n1", 2, "there is no group g9"),
        ("leader move g1 n77", 2, "there is no node n77"),
        ("leader move g1 n4", 2, "n4 has no replica of g1; its nodes are n1, n2, n3"),
    ] {
        let output = up.run(line);
        let said = text(&output.stderr);
        assert!(output.status.code() == Some(status) && said.contains(part), "{line}: {said}");
    }
    let moved = &up.rows(1, &format!("leader move g1 {next}"))[0];
    assert_eq!((&moved["group"], &moved["from"], &moved["leader"]), (&"g1".into(), &leader.into(), &next.into()));
    assert_eq!(up.rows(3, "leader")[0]["leader"], next);
    let again = up.run(&format!("leader move g1 {next}"));
    assert_eq!(again.status.code(), Some(0));
    assert!(text(&again.stderr).contains(&format!("{next} leads g1 already")));
    // A node that is down does not take over, and the leader goes on.
    let third = ["n1", "n2", "n3"].into_iter().find(|node| *node != next && moved["from"] != **node).unwrap();
    up.table(0, &format!("fail {third}"));
    let output = up.run(&format!("leader move g1 {third}"));
    assert_eq!(output.status.code(), Some(3), "{}", text(&output.stdout));
    assert!(text(&output.stderr).contains(&format!("{next} leads g1 on")), "{}", text(&output.stderr));
    up.table(0, &format!("start {third}"));
}

fn stops_and_starts_nodes(up: &Up) {
    let leader = up.rows(3, "leader")[1]["leader"].as_str().unwrap().to_owned();
    up.table(0, &format!("stop {leader}"));
    let status = up.rows(9, "status");
    let row = status.iter().find(|row| row["node"] == *leader).unwrap();
    assert_eq!(row["state"], "down", "{row}");
    assert_eq!(up.json(3, "ping").iter().filter(|row| row["state"] == "down").count(), 1);
    // The others elect another leader; the client waits for it.
    assert_eq!(up.rows(1, "transfer 3001 3002 1 --id b1")[0]["outcome"], "committed");
    assert_ne!(up.rows(3, "leader")[1]["leader"], *leader);
    let db = up.json(0, "db g2");
    assert!(db.iter().all(|row| row["replicas"][leader.as_str()] == "down"), "{db:?}");
    assert_eq!(up.json(3, "audit --timeout 1s")[0]["verdict"], "incomplete");
    up.table(0, &format!("start {leader}"));
    assert_eq!(set(&up.rows(9, "ping"), "state"), ["up".to_owned()].into());
    assert_eq!(up.rows(1, "audit")[0]["verdict"], "clean");
    // By the names that scenario files have for it; a whole group.
    up.table(0, "fail g3");
    assert_eq!(up.json(3, "transfer 1 6001 1 --id b2 --timeout 1s")[0]["outcome"], "unavailable");
    up.json(3, "leader");
    up.table(0, "recover g3");
    up.rows(3, "leader");
}

fn goes_down_and_comes_back(up: &Up) {
    let stopped = up.rows(9, "down");
    assert_eq!(set(&stopped, "node"), names("n", 9));
    assert_eq!(up.run("ping --timeout 100ms").status.code(), Some(3));
    assert_eq!(up.run("down").status.code(), Some(3), "nothing runs");
    let started = up.rows(1, "up --detach");
    assert!(started[0]["state"].as_str().unwrap().contains("earlier start"), "{started:?}");
    assert_eq!(up.table(0, "balance 3001"), "13\n");
    up.rows(9, "down");
    assert!(up.table(0, "up --detach --fresh").contains("all of it was removed"));
    assert_eq!(up.table(0, "balance 3001"), "10\n");
}
