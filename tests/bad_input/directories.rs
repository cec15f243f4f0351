//! Data directories that are not this node's.

use std::path::Path;
use std::process::Stdio;

use crate::rig::{Scratch, command, content};

/// Two nodes with a group each; the port does not belong to the shape.
fn text(port: u16, name: &str, balance: u32) -> String {
    let mut text = format!("[cluster]\nname = \"{name}\"\nbase_port = {port}\n");
    for n in [1, 2] {
        text += &format!("[[node]]\nid = \"n{n}\"\n[[group]]\nid = \"g{n}\"\nnodes = [\"n{n}\"]\n");
    }
    text + &format!("[data_set]\naccounts = 20\ninitial_balance = {balance}\n")
}

/// Both nodes formatted, in `data`.
fn formatted(name: &str) -> Scratch {
    let scratch = Scratch::new(name);
    scratch.file("cluster.toml", &text(free_port(), "one", 10));
    for node in ["n1", "n2"] {
        assert!(scratch.run(&["node", "--id", node, "--format"]).status.success());
    }
    scratch
}

fn free_port() -> u16 {
    // The system does not give the same one again at once; the node that gets it is refused before it listens anyway.
    std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

fn copy(from: &Path, to: &Path) {
    for (path, bytes) in content(from) {
        let target = to.join(path.strip_prefix(from).unwrap());
        std::fs::create_dir_all(target.parent().unwrap()).unwrap();
        std::fs::write(target, bytes).unwrap();
    }
}

/// Refused with exit status 2, and not a byte differs afterwards.
#[track_caller]
fn refused(scratch: &Scratch, arguments: &[&str], parts: &[&str]) {
    let before = scratch.content();
    scratch.refused(arguments, 2, parts);
    assert!(scratch.content() == before, "{arguments:?} has changed something");
}

const N1: &[&str] = &["node", "--id", "n1"];

#[test]
fn the_directory_of_another_cluster_is_refused_with_the_difference() {
    let scratch = formatted("other-cluster");
    scratch.file("other.toml", &text(free_port(), "other", 10));
    let difference = ["data/n1 was formatted for another cluster", "  - cluster one\n  + cluster other\n"];
    refused(&scratch, &["node", "--id", "n1", "--config", "other.toml"], &difference);
    refused(&scratch, &["up", "--detach", "--config", "other.toml"], &difference);
    // Without the record for people the identity still decides.
    std::fs::remove_file(scratch.0.join("data/n1/shape")).unwrap();
    refused(&scratch, &["node", "--id", "n1", "--config", "other.toml"], &["data/n1: belongs to cluster "]);
}

#[test]
fn a_changed_shape_is_refused_with_the_difference_and_a_changed_port_is_not() {
    let scratch = formatted("shape");
    let was = "  - data set of 20 accounts with 10 each\n  + data set of 20 accounts with 11 each\n";
    let only = "only addresses, timers, fsync, segment_bytes, snapshot_every_bytes and logging may change";
    scratch.file("cluster.toml", &text(free_port(), "one", 11));
    refused(&scratch, N1, &[was, only]);
    refused(&scratch, &["up", "--detach"], &[was, only]);
    let moved = text(free_port(), "one", 10).replace("[\"n2\"]", "[\"n1\", \"n2\"]");
    scratch.file("cluster.toml", &moved);
    refused(&scratch, N1, &["  - group g2 of n2\n", "  + group g2 of n1 n2\n"]);
}

#[test]
fn the_directory_of_another_node_is_refused() {
    let scratch = formatted("other-node");
    std::fs::remove_dir_all(scratch.0.join("data/n1")).unwrap();
    copy(&scratch.0.join("data/n2"), &scratch.0.join("data/n1"));
    refused(&scratch, N1, &["data/n1: belongs to n2, not to n1"]);
    let before = content(&scratch.0.join("data/n1"));
    scratch.refused(&["up", "--detach", "--timeout", "30s"], 2, &["n1 did not start", "belongs to n2, not to n1"]);
    assert_eq!(content(&scratch.0.join("data/n1")), before);
}

#[test]
fn a_directory_that_is_missing_empty_or_something_else_does_not_start() {
    let scratch = formatted("empty");
    let n1 = scratch.0.join("data/n1");
    std::fs::remove_dir_all(&n1).unwrap();
    let advice = ["data/n1 is missing or empty", "drachma node --id n1 --format", "do not format it"];
    refused(&scratch, N1, &advice);
    refused(&scratch, &["up", "--detach"], &["there is data of n2, and none of n1"]);
    std::fs::create_dir(&n1).unwrap();
    refused(&scratch, N1, &advice);
    assert!(n1.is_dir());
    std::fs::write(n1.join("holiday.jpg"), "not a log").unwrap();
    refused(&scratch, N1, &["data/n1: not a data directory"]);
    refused(&scratch, &["node", "--id", "n1", "--format"], &["data/n1 is not empty"]);
}

#[test]
fn a_formatted_directory_is_not_formatted_again() {
    let scratch = formatted("again");
    refused(&scratch, &["node", "--id", "n1", "--format"], &["data/n1 is not empty"]);
}

#[test]
fn a_damaged_identity_is_refused() {
    let scratch = formatted("identity");
    let path = scratch.0.join("data/n1/identity");
    let good = std::fs::read(&path).unwrap();
    for (place, bytes) in [("flipped", flipped(&good)), ("cut", good[..good.len() / 2].to_vec()), ("empty", Vec::new())]
    {
        std::fs::write(&path, bytes).unwrap();
        println!("{place}");
        refused(&scratch, N1, &["data/n1/identity: ", "the directory cannot be trusted without it"]);
    }
}

fn flipped(good: &[u8]) -> Vec<u8> {
    let mut bad = good.to_vec();
    let middle = bad.len() / 2;
    bad[middle] ^= 1;
    bad
}

#[test]
fn a_directory_in_use_is_refused_with_the_process_that_uses_it() {
    let scratch = formatted("in-use");
    let mut first = command(&scratch.0, N1).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
    let mut ready = String::new();
    let out = first.stdout.take().unwrap();
    std::io::BufRead::read_line(&mut std::io::BufReader::new(out), &mut ready).unwrap();
    assert!(ready.starts_with("ready n1 "), "{ready}");
    scratch.file("other.toml", &text(free_port(), "one", 10));
    let holder = format!("in use by process {}", first.id());
    scratch.refused(&["node", "--id", "n1", "--config", "other.toml"], 2, &["data/n1/lock", &holder]);
    assert_eq!(first.try_wait().unwrap(), None, "the node that uses it goes on");
    first.kill().unwrap();
    first.wait().unwrap();
}
