//! What `up` leaves behind so that later commands find its nodes: `up.json`, and one file with the process id of each
//! node, so that commands that run at the same time do not write the same file.

use std::path::{Path, PathBuf};

use drachma_protocol::ids::NodeId;
use serde::{Deserialize, Serialize};

use super::LocalError;
use crate::settings::Settings;

/// The state file.
#[derive(Debug, Deserialize, Serialize)]
pub(super) struct UpState {
    /// A hash of the whole configuration.
    pub(super) config: String,
    /// The nodes that belong to it.
    pub(super) nodes: Vec<String>,
}

/// A hash of everything that a configuration says.
pub(super) fn fingerprint(settings: &Settings) -> String {
    format!("{:032x}", xxhash_rust::xxh3::xxh3_128(settings.to_toml().as_bytes()))
}

fn up_file(data: &Path) -> PathBuf {
    data.join("up.json")
}

fn pid_file(data: &Path, node: NodeId) -> PathBuf {
    data.join(format!("{node}.pid"))
}

/// Replaces a file as a whole.
pub(super) fn write(path: &Path, text: &str) -> Result<(), LocalError> {
    let new = path.with_extension("new");
    std::fs::write(&new, text)
        .and_then(|()| std::fs::rename(&new, path))
        .map_err(|error| LocalError::io(format!("cannot write {}", path.display()), error))
}

pub(super) fn save(data: &Path, settings: &Settings) -> Result<(), LocalError> {
    let nodes = settings.nodes().iter().map(|node| node.id.to_string()).collect();
    let state = UpState { config: fingerprint(settings), nodes };
    let text = serde_json::to_string(&state).map_err(|error| LocalError::State(error.to_string()))?;
    write(&up_file(data), &text)
}

/// The state that `up` left, if there is one.
pub(super) fn load(data: &Path) -> Result<Option<UpState>, LocalError> {
    let path = up_file(data);
    match std::fs::read_to_string(&path) {
        Ok(text) => serde_json::from_str(&text)
            .map(Some)
            .map_err(|error| LocalError::State(format!("{} is damaged ({error}); remove it", path.display()))),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(LocalError::io(format!("cannot read {}", path.display()), error)),
    }
}

/// Removes the state of a cluster that is down.
pub(super) fn clear(data: &Path) {
    // What cannot be removed is found stale later.
    let _ = std::fs::remove_file(up_file(data));
}

pub(super) fn save_pid(data: &Path, node: NodeId, pid: u32) -> Result<(), LocalError> {
    write(&pid_file(data, node), &pid.to_string())
}

pub(super) fn load_pid(data: &Path, node: NodeId) -> Option<u32> {
    std::fs::read_to_string(pid_file(data, node)).ok()?.trim().parse().ok()
}

pub(super) fn clear_pid(data: &Path, node: NodeId) {
    let _ = std::fs::remove_file(pid_file(data, node));
}
