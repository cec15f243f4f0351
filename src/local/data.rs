//! The data directories of local nodes: what is there, formatting, wiping.

use std::path::{Path, PathBuf};

use drachma_actors::storage::{self, Identity};
use drachma_protocol::ids::NodeId;

use super::LocalError;
use crate::settings::{Settings, shape};

/// The file in a node's directory that says of which shape of cluster it is.
const SHAPE: &str = "shape";

/// What is in the data directories of a configuration.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Inventory {
    /// Nodes whose directory is missing or empty.
    pub empty: Vec<NodeId>,
    /// Nodes whose directory has something.
    pub filled: Vec<NodeId>,
}

/// The directory of a node.
pub fn directory(data: &Path, node: NodeId) -> PathBuf {
    data.join(node.to_string())
}

/// Looks at every node's directory.
///
/// # Errors
/// If one cannot be read.
pub fn inspect(settings: &Settings, data: &Path) -> Result<Inventory, LocalError> {
    let mut inventory = Inventory::default();
    for node in settings.nodes() {
        let empty = is_empty(&directory(data, node.id))?;
        if empty { &mut inventory.empty } else { &mut inventory.filled }.push(node.id);
    }
    Ok(inventory)
}

/// Whether a directory is missing or has nothing in it.
///
/// # Errors
/// If it cannot be read.
pub fn is_empty(directory: &Path) -> Result<bool, LocalError> {
    match std::fs::read_dir(directory) {
        Ok(mut entries) => Ok(entries.next().is_none()),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(true),
        Err(error) => Err(LocalError::io(format!("cannot read {}", directory.display()), error)),
    }
}

/// Formats the directory of one node, which must be missing or empty.
///
/// # Errors
/// If it has something, or the system refuses.
pub fn format(settings: &Settings, data: &Path, node: NodeId) -> Result<(), LocalError> {
    let directory = directory(data, node);
    if !is_empty(&directory)? {
        let advice = "a formatted directory is never formatted again; remove it if you are sure";
        return Err(LocalError::Data(format!("{} is not empty: {advice}", directory.display())));
    }
    std::fs::create_dir_all(data).map_err(|error| LocalError::io(format!("cannot make {}", data.display()), error))?;
    let identity = Identity { cluster: settings.cluster_id(), node, shape: settings.shape() };
    storage::format(&directory, &identity, &settings.groups_of(node))
        .map_err(|error| LocalError::Data(error.to_string()))?;
    let path = directory.join(SHAPE);
    std::fs::write(&path, identity.shape)
        .map_err(|error| LocalError::io(format!("cannot write {}", path.display()), error))
}

/// Removes the directory of one node with all it has.
///
/// # Errors
/// If the system refuses.
pub fn wipe(data: &Path, node: NodeId) -> Result<(), LocalError> {
    let directory = directory(data, node);
    match std::fs::remove_dir_all(&directory) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(LocalError::io(format!("cannot remove {}", directory.display()), error))
        }
        _ => Ok(()),
    }
}

/// Refuses a directory that is not formatted, or was formatted for another shape of cluster, with the difference.
///
/// # Errors
/// If so. A directory without a record of its shape passes: opening it decides.
pub fn check_shape(settings: &Settings, data: &Path, node: NodeId) -> Result<(), LocalError> {
    let directory = directory(data, node);
    if is_empty(&directory)? {
        return Err(LocalError::Data(format!(
            "{} is missing or empty: `drachma up` formats a new cluster, `drachma node --id {node} --format` one node \
             of it. If this node was part of a running cluster, its disk is lost: do not format it, it has promised \
             things that it no longer knows",
            directory.display()
        )));
    }
    let Ok(was) = std::fs::read_to_string(directory.join(SHAPE)) else { return Ok(()) };
    let difference = shape::difference(&was, &settings.shape());
    if difference.is_empty() {
        return Ok(());
    }
    Err(LocalError::Data(format!(
        "{} was formatted for another cluster than {} describes (- was, + is):\n{difference}only addresses, timers, \
         fsync, segment_bytes, snapshot_every_bytes and logging may change after formatting",
        directory.display(),
        settings.origin()
    )))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scratch(name: &str) -> PathBuf {
        let path = std::env::temp_dir().join(format!("drachma-data-{name}-{}", std::process::id()));
        let _ = std::fs::remove_dir_all(&path);
        path
    }

    #[test]
    fn what_is_empty_and_what_is_not_is_told_apart() {
        let data = scratch("inventory");
        let settings = Settings::sample();
        assert_eq!(inspect(&settings, &data).unwrap().empty.len(), 9);
        std::fs::create_dir_all(directory(&data, NodeId(2))).unwrap();
        std::fs::create_dir_all(directory(&data, NodeId(3)).join("something")).unwrap();
        let inventory = inspect(&settings, &data).unwrap();
        assert_eq!((inventory.empty.len(), inventory.filled), (8, vec![NodeId(3)]));
        wipe(&data, NodeId(3)).unwrap();
        wipe(&data, NodeId(3)).unwrap();
        assert_eq!(inspect(&settings, &data).unwrap().filled, []);
        std::fs::remove_dir_all(&data).unwrap();
    }

    #[test]
    fn a_directory_with_something_in_it_is_not_formatted() {
        let data = scratch("format");
        std::fs::create_dir_all(directory(&data, NodeId(1)).join("something")).unwrap();
        let error = format(&Settings::sample(), &data, NodeId(1)).unwrap_err();
        assert!(error.to_string().contains("is not empty"), "{error}");
        std::fs::remove_dir_all(&data).unwrap();
    }

    #[test]
    fn a_changed_shape_is_refused_with_the_difference() {
        let data = scratch("shape");
        let settings = Settings::sample();
        let missing = check_shape(&settings, &data, NodeId(1)).unwrap_err().to_string();
        assert!(missing.contains("is missing or empty") && missing.contains("node --id n1 --format"), "{missing}");
        let node = directory(&data, NodeId(1));
        std::fs::create_dir_all(&node).unwrap();
        std::fs::write(node.join(SHAPE), settings.shape()).unwrap();
        check_shape(&settings, &data, NodeId(1)).unwrap();
        std::fs::write(node.join(SHAPE), settings.shape().replace("with 10 each", "with 11 each")).unwrap();
        let error = check_shape(&settings, &data, NodeId(1)).unwrap_err().to_string();
        assert!(error.contains("  - data set of 9000 accounts with 11 each\n  + data set of 9000 accounts with 10"));
        std::fs::remove_dir_all(&data).unwrap();
    }
}
