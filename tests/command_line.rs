//! The binary as a user meets it: exit statuses, and what it says about wrong input. No cluster is needed here.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

fn drachma(directory: &Path, arguments: &str) -> Output {
    Command::new(env!("CARGO_BIN_EXE_drachma"))
        .args(arguments.split_whitespace())
        .current_dir(directory)
        .env_remove("DRACHMA_CONFIG")
        .env_remove("DRACHMA_ENDPOINTS")
        .output()
        .unwrap()
}

struct Scratch(PathBuf);

impl Scratch {
    fn new(name: &str) -> Scratch {
        let path = std::env::temp_dir().join(format!("drachma-command-{name}-{}", std::process::id()));
        let _ = std::fs::remove_dir_all(&path);
        std::fs::create_dir_all(&path).unwrap();
        Scratch(path)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

#[track_caller]
fn refused(scratch: &Scratch, arguments: &str, status: i32, part: &str) {
    let output = drachma(&scratch.0, arguments);
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(status), "{arguments}: {said}");
    assert!(said.contains(part), "{arguments}: {said}");
    assert!(output.stdout.is_empty(), "{arguments}: {}", String::from_utf8_lossy(&output.stdout));
}

#[test]
fn wrong_usage_and_configuration_end_with_2_and_say_what_to_do() {
    let scratch = Scratch::new("usage");
    std::fs::write(scratch.0.join("bad.toml"), "[cluster]\nnmae = \"x\"\n").unwrap();
    refused(&scratch, "frobnicate", 2, "unrecognized subcommand");
    refused(&scratch, "config check --config missing.toml", 2, "missing.toml: No such file");
    refused(
        &scratch,
        "config check --config bad.toml",
        2,
        "bad.toml:2:1: unknown field `nmae`, expected one of `name`",
    );
    refused(&scratch, "up --config bad.toml", 2, "bad.toml:2:1: ");
    refused(&scratch, "node --id n77", 2, "there is no node n77");
    refused(&scratch, "node --id n1", 2, "drachma node --id n1 --format");
    refused(&scratch, "stop n77", 2, "there is no node n77");
    refused(&scratch, "stop everything", 2, "`everything` is not a target");
    refused(&scratch, "ping --timeout 5", 2, "a whole number with a unit");
    refused(&scratch, "transfer 1 2 x", 2, "invalid value 'x'");
    refused(&scratch, "shell --config bad.toml", 2, "bad.toml:2:1: ");
    refused(&scratch, "shell file", 2, "unexpected argument 'file'");
}

#[test]
fn a_cluster_that_up_has_not_started_is_neither_stopped_nor_started() {
    let scratch = Scratch::new("down");
    refused(&scratch, "down", 3, "`drachma up` has not started this cluster");
    refused(&scratch, "stop n1", 3, "start it with `drachma up`");
    refused(&scratch, "start all", 3, "start it with `drachma up`");
}

#[test]
fn a_partly_formatted_set_of_directories_is_refused_with_which() {
    let scratch = Scratch::new("partly");
    std::fs::create_dir_all(scratch.0.join("data/n2/something")).unwrap();
    refused(&scratch, "up", 2, "there is data of n2, and none of n1, n3, n4");
    assert!(scratch.0.join("data/n2/something").exists());
    assert!(!scratch.0.join("data/n1").exists());
}

#[test]
fn a_node_of_a_parent_that_has_ended_does_not_start() {
    let scratch = Scratch::new("orphan");
    refused(&scratch, "node --id n1 --die-with-parent 999999999", 3, "has ended");
}

#[test]
fn the_configuration_is_checked_and_described() {
    let scratch = Scratch::new("check");
    let output = drachma(&scratch.0, "config check --output json");
    assert_eq!(output.status.code(), Some(0));
    let text = String::from_utf8(output.stdout).unwrap();
    let value: serde_json::Value = serde_json::from_str(&text).unwrap();
    assert_eq!((value["nodes"].as_u64(), value["groups"].as_u64()), (Some(9), Some(3)), "{text}");
    let sample = include_str!("../cluster.toml").replacen("\"n3\"]", "\"n3\", \"n4\"]", 1);
    std::fs::write(scratch.0.join("cluster.toml"), sample).unwrap();
    let output = drachma(&scratch.0, "config check");
    assert_eq!(output.status.code(), Some(0));
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(said.contains("warning: cluster.toml: g1 has 4 replicas"), "{said}");
}

#[test]
fn version_and_completions_need_nothing() {
    let scratch = Scratch::new("version");
    let version = drachma(&scratch.0, "version --output json");
    let value: serde_json::Value = serde_json::from_slice(&version.stdout).unwrap();
    assert_eq!(value["drachma"], env!("CARGO_PKG_VERSION"));
    let completions = drachma(&scratch.0, "completions bash");
    assert!(String::from_utf8(completions.stdout).unwrap().contains("_drachma"));
}

#[test]
fn a_history_is_judged_and_one_that_cannot_be_is_told_apart() {
    let scratch = Scratch::new("verify");
    let event = |process: u64, kind: &str, function: &str, value: &str| {
        format!("{{:process {process}, :type :{kind}, :f :{function}, :value {value}}}\n")
    };
    let mut good = String::new();
    for value in 0..1_000 {
        for (kind, function) in [("invoke", "write"), ("ok", "write"), ("invoke", "read"), ("ok", "read")] {
            good += &event(0, kind, function, &value.to_string());
        }
    }
    let judge = |text: &str, arguments: &str| {
        std::fs::write(scratch.0.join("history.edn"), text).unwrap();
        let output = drachma(&scratch.0, &format!("verify history.edn {arguments}"));
        (output.status.code(), String::from_utf8_lossy(&output.stdout).into_owned())
    };
    assert_eq!(judge(&good, ""), (Some(0), "2000 operations on 1 keys\ngood: linearizable\n".to_owned()));
    let stale = good.clone() + &event(1, "invoke", "read", "nil") + &event(1, "ok", "read", "7");
    let (status, said) = judge(&stale, "");
    assert_eq!(status, Some(1));
    assert!(
        said.contains("bad: these operations") && said.contains("lines 4001 to 4002, process 1: :read 7"),
        "{said}"
    );
    let (status, said) = judge(&stale, "--output json");
    let said: serde_json::Value = serde_json::from_str(&said).unwrap();
    assert_eq!((status, &said["verdict"]), (Some(1), &"bad".into()));
    assert_eq!(said["part"][1]["return_line"], 4002);
    // So many at once that nobody can try all orders in a millisecond.
    let mut wild: String = (0..40).map(|n| event(n, "invoke", "cas", &format!("[{} {}]", n % 7, n % 5))).collect();
    wild += &(0..40).map(|n| event(n, "ok", "cas", &format!("[{} {}]", n % 7, n % 5))).collect::<String>();
    let wild = event(99, "invoke", "write", "0") + &event(99, "ok", "write", "0") + &wild;
    assert_eq!(judge(&wild, "--timeout 1ms").0, Some(3));
    std::fs::write(scratch.0.join("history.edn"), event(0, "ok", "read", "7")).unwrap();
    refused(&scratch, "verify history.edn", 2, "history.edn:1: process 0 returns from what it has not called");
    refused(&scratch, "verify missing.edn", 2, "missing.edn: No such file");
}
