//! A script stands for the node here: what is tested is the handling of its process.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use drachma_protocol::ids::NodeId;

use super::{LocalCluster, LocalError, LocalOptions};
use crate::settings::Settings;

const N1: NodeId = NodeId(1);
const PATIENCE: Duration = Duration::from_secs(30);

struct Scratch(PathBuf);

impl Scratch {
    fn new(name: &str) -> Scratch {
        let path = std::env::temp_dir().join(format!("drachma-local-{name}-{}", std::process::id()));
        let _ = std::fs::remove_dir_all(&path);
        std::fs::create_dir_all(&path).unwrap();
        Scratch(path)
    }

    /// An executable that behaves as the script says.
    fn script(&self, body: &str) -> PathBuf {
        let path = self.0.join("node.sh");
        std::fs::write(&path, format!("#!/bin/sh\n{body}\n")).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
        path
    }

    fn cluster(&self, body: &str) -> LocalCluster {
        let options = LocalOptions { executable: Some(self.script(body)), ..LocalOptions::embedded() };
        LocalCluster::create(Settings::sample(), self.0.join("data"), options).unwrap()
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn wait_ready(cluster: &mut LocalCluster, timeout: Duration) -> Result<(), LocalError> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(cluster.wait_ready(N1, timeout))
}

fn pid(cluster: &LocalCluster) -> u32 {
    cluster.processes[&N1].pid()
}

fn lives(pid: u32) -> bool {
    Path::new(&format!("/proc/{pid}")).exists()
}

const SERVES: &str = "echo ready n1 127.0.0.1:1; exec sleep 1000";

#[test]
fn a_node_is_ready_when_it_says_so_and_gone_when_kill_returns() {
    let scratch = Scratch::new("kill");
    let mut cluster = scratch.cluster(SERVES);
    assert_eq!(cluster.running(), []);
    cluster.start(N1).unwrap();
    wait_ready(&mut cluster, PATIENCE).unwrap();
    assert_eq!(cluster.running(), [N1]);
    let first = pid(&cluster);
    cluster.start(N1).unwrap();
    assert_eq!(pid(&cluster), first, "a running node is not started twice");
    cluster.kill(N1).unwrap();
    assert!(!lives(first) && !cluster.is_running(N1));
    cluster.kill(N1).unwrap();
    cluster.start(N1).unwrap();
    wait_ready(&mut cluster, PATIENCE).unwrap();
    assert_ne!(pid(&cluster), first);
}

#[test]
fn a_node_that_does_not_start_tells_why() {
    let scratch = Scratch::new("last-words");
    let mut cluster = scratch.cluster("echo old words >&2; exit 2");
    cluster.start(N1).unwrap();
    assert!(wait_ready(&mut cluster, PATIENCE).unwrap_err().to_string().contains("old words"));
    scratch.script("echo error: the address is in use >&2; exit 2");
    cluster.start(N1).unwrap();
    let error = wait_ready(&mut cluster, PATIENCE).unwrap_err().to_string();
    assert_eq!(error, "n1 did not start: error: the address is in use");
}

#[test]
fn a_node_that_is_never_ready_is_waited_for_no_longer_than_told() {
    let scratch = Scratch::new("never");
    let mut cluster = scratch.cluster("exec sleep 1000");
    cluster.start(N1).unwrap();
    let error = wait_ready(&mut cluster, Duration::from_millis(50)).unwrap_err().to_string();
    assert!(error.contains("it is not ready after 0.1 s"), "{error}");
    let mut other = scratch.cluster("exec sleep 1000");
    assert!(wait_ready(&mut other, PATIENCE).unwrap_err().to_string().contains("nobody has started it"));
}

#[test]
fn stopping_lets_a_node_finish() {
    let scratch = Scratch::new("stop");
    let done = scratch.0.join("finished");
    let body = format!(
        "trap 'echo done > {}; kill $!; exit 0' TERM; sleep 1000 & echo ready n1 127.0.0.1:1; wait",
        done.display()
    );
    let mut cluster = scratch.cluster(&body);
    cluster.start(N1).unwrap();
    wait_ready(&mut cluster, PATIENCE).unwrap();
    cluster.stop_all().unwrap();
    assert_eq!(cluster.running(), []);
    assert!(done.exists());
}

#[test]
fn owned_nodes_end_with_their_cluster() {
    let scratch = Scratch::new("drop");
    let mut cluster = scratch.cluster(SERVES);
    cluster.start(N1).unwrap();
    wait_ready(&mut cluster, PATIENCE).unwrap();
    let pid = pid(&cluster);
    assert!(lives(pid));
    drop(cluster);
    assert!(!lives(pid));
}

#[test]
fn a_process_that_only_has_the_id_of_a_node_is_let_alone() {
    let scratch = Scratch::new("stranger");
    let data = scratch.0.join("data");
    let options = LocalOptions { free_ports: true, ..LocalOptions::detached() };
    let mut cluster = LocalCluster::create(Settings::sample(), data.clone(), options).unwrap();
    cluster.note().unwrap();
    let settings = cluster.settings().clone();
    // This very process stands for a stranger that got the id of a node that has ended.
    super::state::save_pid(&data, N1, std::process::id()).unwrap();
    let mut attached = LocalCluster::attach(settings, data).unwrap();
    assert_eq!(attached.running(), []);
    attached.kill(N1).unwrap();
    attached.stop_all().unwrap();
}

#[test]
fn only_the_cluster_that_was_started_is_attached_to() {
    let scratch = Scratch::new("attach");
    let data = scratch.0.join("data");
    let refused = |settings: &Settings| LocalCluster::attach(settings.clone(), data.clone()).err().unwrap().to_string();
    let sample = Settings::sample();
    assert!(refused(&sample).contains("has not started this cluster"), "{}", refused(&sample));
    let mut cluster = LocalCluster::create(sample.clone(), data.clone(), LocalOptions::detached()).unwrap();
    assert!(refused(&sample).contains("has not started this cluster"), "no node was started yet: {}", refused(&sample));
    cluster.note().unwrap();
    drop(cluster);
    LocalCluster::attach(sample.clone(), data.clone()).unwrap();
    let other = sample.with_ports(vec![(N1, "127.0.0.1:1".to_owned())]);
    assert!(refused(&other).contains("from another configuration"), "{}", refused(&other));
}

#[test]
fn embedded_clusters_have_ports_of_their_own_and_write_their_configuration() {
    let scratch = Scratch::new("ports");
    let mut cluster = scratch.cluster(SERVES);
    cluster.start(N1).unwrap();
    let text = std::fs::read_to_string(scratch.0.join("data/cluster.toml")).unwrap();
    let again = Settings::parse(&text, "again").unwrap();
    assert_eq!(again.endpoints(), cluster.endpoints());
    assert_eq!(again.cluster_id(), Settings::sample().cluster_id());
    let mut endpoints = cluster.endpoints();
    endpoints.sort_unstable();
    endpoints.dedup();
    assert_eq!(endpoints.len(), 9);
    assert!(endpoints.iter().all(|endpoint| !Settings::sample().endpoints().contains(endpoint)));
}
