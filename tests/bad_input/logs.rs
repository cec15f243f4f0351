//! Logs that are truncated, foreign or damaged: refused with file and offset, and left as they are.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use drachma_client::Status;
use drachma_protocol::ids::NodeId;

use crate::rig::{PATIENCE, Rig, Scratch, configuration, content, transfer};

/// The data of a single node that was stopped in order after some transfers, and how far its log is written.
struct Stopped {
    scratch: Scratch,
    files: BTreeMap<PathBuf, Vec<u8>>,
    segment: PathBuf,
    written: usize,
}

fn stopped(name: &str) -> Stopped {
    let Rig { mut cluster, client, scratch, .. } = stopped_rig(name);
    drop(client);
    cluster.stop_all().unwrap();
    drop(cluster);
    let files = content(&scratch.0.join("data/n1"));
    let segment = scratch.0.join("data/n1/log/00000001.log");
    let segment = if files.contains_key(&segment) { segment } else { scratch.0.join("data/n1/log/00000000.log") };
    let written = files[&segment].iter().rposition(|byte| *byte != 0).unwrap();
    assert!(written > 1000, "{written} bytes of log");
    Stopped { scratch, files, segment, written }
}

fn stopped_rig(name: &str) -> Rig {
    let rig = Rig::start(name, &configuration(1, &[&[1], &[1]]));
    let transfers: Vec<_> = (1..=40).map(|n| transfer(n, n, n + 980, 1)).collect();
    let answers = rig.block_on(rig.client.transfers(&transfers, Some(PATIENCE)));
    assert!(answers.iter().all(|answer| answer.status == Status::Committed), "{answers:?}");
    rig
}

impl Stopped {
    fn start(&self) -> [&str; 7] {
        ["node", "--id", "n1", "--config", "data/cluster.toml", "--data", "data"]
    }

    /// Starts the node on a log with other bytes, which must be refused with the file and an offset of at most
    /// `until`; the directory must be as it was, but for the lock that names its last user.
    #[track_caller]
    fn refused_with(&self, what: &str, path: &Path, bytes: &[u8], until: usize) {
        assert!(bytes != self.files[path], "{what}: nothing was damaged");
        std::fs::write(path, bytes).unwrap();
        let mut expected = self.files.clone();
        expected.insert(path.to_owned(), bytes.to_vec());
        let file = path.strip_prefix(&self.scratch.0).unwrap().display().to_string();
        let said = self.scratch.refused(&self.start(), 2, &[&file, "damaged at offset ", "never read past damage"]);
        println!("{what}: {said}");
        let offset = said.split("damaged at offset ").nth(1).unwrap().split(':').next().unwrap();
        assert!(offset.parse::<usize>().unwrap() <= until, "{what}: {said}");
        self.assert_as(&expected, what);
        std::fs::write(path, &self.files[path]).unwrap();
    }

    #[track_caller]
    fn assert_as(&self, expected: &BTreeMap<PathBuf, Vec<u8>>, what: &str) {
        let mut found = content(&self.scratch.0.join("data/n1"));
        let lock = self.scratch.0.join("data/n1/lock");
        found.insert(lock.clone(), self.files[&lock].clone());
        assert_eq!(found.keys().collect::<Vec<_>>(), expected.keys().collect::<Vec<_>>(), "{what}");
        for (path, bytes) in expected {
            assert!(found[path] == *bytes, "{what}: {path:?} was changed");
        }
    }
}

#[test]
fn a_damaged_or_truncated_log_is_refused_with_file_and_offset_and_left_as_it_is() {
    let stopped = stopped("damaged");
    let good = &stopped.files[&stopped.segment];
    for at in [0, 9, 40, stopped.written / 4, stopped.written / 2, stopped.written * 3 / 4] {
        let mut bad = good.clone();
        bad[at] ^= 0x10;
        stopped.refused_with(&format!("flipped at {at}"), &stopped.segment, &bad, at);
    }
    for cut in [0, 17, stopped.written / 3, stopped.written - 5, stopped.written + 100, good.len() - 1] {
        stopped.refused_with(&format!("cut at {cut}"), &stopped.segment, &good[..cut], cut);
    }
    // A hole, as a lost write leaves it.
    let mut bad = good.clone();
    let hole = stopped.written * 3 / 4..stopped.written * 3 / 4 + 200;
    bad[hole.clone()].fill(0);
    stopped.refused_with("a hole", &stopped.segment, &bad, hole.end);
}

#[test]
fn the_log_of_another_directory_is_refused() {
    let (one, other) = (stopped("mine"), stopped("foreign"));
    // Same cluster, same node, same groups; only the directory's random id differs.
    let foreign = &other.files[&other.segment];
    one.refused_with("a foreign log", &one.segment, foreign, foreign.len());
    one.refused_with("no log at all", &one.segment, b"From: me\nTo: you\n", 17);
}

#[test]
fn what_was_put_back_is_all_there() {
    let stopped = stopped("restored");
    let mut bad = stopped.files[&stopped.segment].clone();
    bad[stopped.written / 2] ^= 1;
    stopped.refused_with("flipped", &stopped.segment, &bad, stopped.written / 2);
    let settings = drachma::settings::Settings::load(Some(&stopped.scratch.0.join("data/cluster.toml"))).unwrap();
    let options = drachma::local::LocalOptions {
        executable: Some(crate::rig::BINARY.into()),
        ..drachma::local::LocalOptions::embedded()
    };
    let mut cluster = drachma::local::LocalCluster::create(settings, stopped.scratch.0.join("data"), options).unwrap();
    cluster.start(NodeId(1)).unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let answer = runtime.block_on(async {
        cluster.wait_ready(NodeId(1), PATIENCE).await.unwrap();
        let endpoints = cluster.endpoints();
        let options = drachma_client::Options { endpoints, cluster: None, deadline: Some(PATIENCE) };
        let client = drachma_client::Client::connect(options).await.unwrap();
        client.transfer(transfer(7, 7, 987, 1), None).await
    });
    assert_eq!((answer.status, answer.replayed), (Status::Committed, true));
}
