//! `cluster.toml`, and ports.

use std::net::TcpListener;

use crate::rig::{Scratch, configuration};

/// Every command that would start something.
const STARTS: [&[&str]; 4] =
    [&["config", "check"], &["up", "--detach"], &["node", "--id", "n1", "--format"], &["run", "--embedded", "f.csv"]];

#[track_caller]
fn refused_everywhere(name: &str, text: &str, place: &str, part: &str) {
    let scratch = Scratch::new(name);
    scratch.file("cluster.toml", text);
    scratch.file("f.csv", "1,2,1\n");
    let before = scratch.content();
    for start in STARTS {
        scratch.refused(start, 2, &[&format!("cluster.toml:{place}: "), part]);
        assert_eq!(scratch.content(), before, "{start:?} has left something behind");
    }
}

#[test]
fn an_unknown_key_is_refused_with_its_place() {
    let text = configuration(3, &[&[1, 2, 3], &[1, 2, 3]]).replace("mode = ", "mood = ");
    let line = text.lines().position(|line| line.starts_with("mood")).map_or(0, |index| index + 1);
    refused_everywhere("key", &text, &format!("{line}:1"), "unknown field `mood`, expected one of `mode`");
}

#[test]
fn a_group_that_names_an_unknown_node_is_refused_with_its_place() {
    let text = configuration(3, &[&[1, 2, 9], &[1, 2, 3]]);
    let line = text.lines().position(|line| line.contains("n9")).map_or(0, |index| index + 1);
    let part = "g1 names n9, and there is no [[node]] with that id (there are n1, n2, n3)";
    refused_everywhere("member", &text, &format!("{line}:22"), part);
}

#[test]
fn an_even_number_of_replicas_is_allowed_and_warned_about() {
    let scratch = Scratch::new("even");
    scratch.file("cluster.toml", &configuration(4, &[&[1, 2, 3, 4], &[1, 2]]));
    let output = scratch.run(&["config", "check"]);
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(0), "{said}");
    for (group, replicas, less) in [("g1", 4, 3), ("g2", 2, 1)] {
        let warning = format!("warning: cluster.toml: {group} has {replicas} replicas: it survives no more failures");
        assert!(said.contains(&format!("{warning} than with {less}")), "{said}");
    }
}

#[test]
fn a_port_in_use_is_named_and_nothing_is_changed_or_left_running() {
    let scratch = Scratch::new("port");
    let holder = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = holder.local_addr().unwrap().to_string();
    let text = format!(
        "[[node]]\nid = \"n1\"\naddress = \"{address}\"\n[[group]]\nid = \"g1\"\nnodes = [\"n1\"]\n[data_set]\naccounts = 9\n"
    );
    scratch.file("cluster.toml", &text);
    scratch.run(&["node", "--id", "n1", "--format"]);
    let before = scratch.content();
    assert!(before.len() > 3, "formatted");
    let said = format!("cannot listen on {address}");
    scratch.refused(&["node", "--id", "n1"], 2, &[&said, "is the node running already?"]);
    assert_eq!(scratch.content(), before);
    scratch.refused(&["up", "--detach", "--timeout", "30s"], 2, &["n1 did not start", &said]);
    for (path, bytes) in before {
        assert_eq!(std::fs::read(&path).unwrap(), bytes, "{path:?}");
    }
    scratch.refused(&["down"], 3, &["`drachma up` has not started this cluster"]);
}
