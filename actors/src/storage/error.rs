//! Why a data directory cannot be used, and what to do about it.

use std::path::{Path, PathBuf};

use drachma_protocol::ids::{ClusterId, GroupId, NodeId};
use drachma_protocol::ledger::image::ImageError;
use drachma_protocol::log::recover::Flaw;

/// Why a data directory cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum StorageError {
    /// The system refused.
    #[error("{path}: {error}")]
    Io {
        /// Which file or directory.
        path: PathBuf,
        /// What the system said.
        error: std::io::Error,
    },
    /// There is no such directory.
    #[error("{path}: there is no such directory; a new node's is made with `drachma node --format`")]
    Missing {
        /// The data directory.
        path: PathBuf,
    },
    /// The directory is empty.
    #[error(
        "{path}: the directory is empty. If the node is new, format it with `drachma node --format`; if it has lost its \
         data, leave it down: it no longer knows what it has promised"
    )]
    NotFormatted {
        /// The data directory.
        path: PathBuf,
    },
    /// There is something, but not a data directory.
    #[error(
        "{path}: not a data directory: it has files, but no `identity`. Either it is something else, or its formatting \
         was interrupted and it can be removed"
    )]
    Stranger {
        /// The directory.
        path: PathBuf,
    },
    /// To be formatted, but it is a data directory already.
    #[error("{path}: already formatted for {node} of cluster {cluster}")]
    AlreadyFormatted {
        /// The data directory.
        path: PathBuf,
        /// Its cluster.
        cluster: ClusterId,
        /// Its node.
        node: NodeId,
    },
    /// To be formatted, but there is something in it.
    #[error("{path}: not empty; only an empty or missing directory is formatted")]
    NotEmpty {
        /// The directory.
        path: PathBuf,
    },
    /// The identity cannot be read.
    #[error("{path}: {what}; the directory cannot be trusted without it")]
    BadIdentity {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        what: &'static str,
    },
    /// It belongs to another cluster.
    #[error("{path}: belongs to cluster {found}, not to {expected}; {}", SHAPE)]
    OtherCluster {
        /// The data directory.
        path: PathBuf,
        /// Its cluster.
        found: ClusterId,
        /// The configuration's.
        expected: ClusterId,
        /// The shape it was formatted with, to show the difference.
        shape: String,
    },
    /// It belongs to another node.
    #[error("{path}: belongs to {found}, not to {expected}")]
    OtherNode {
        /// The data directory.
        path: PathBuf,
        /// Its node.
        found: NodeId,
        /// The configuration's.
        expected: NodeId,
    },
    /// It holds other groups.
    #[error("{path}: holds {}, not {}; {}", list(.found), list(.expected), SHAPE)]
    OtherGroups {
        /// The data directory.
        path: PathBuf,
        /// Its groups.
        found: Vec<GroupId>,
        /// The configuration's.
        expected: Vec<GroupId>,
    },
    /// Another process uses it.
    #[error("{path}: in use by process {holder}")]
    InUse {
        /// The lock file.
        path: PathBuf,
        /// What the lock file says about who holds it.
        holder: String,
    },
    /// Something that was on disk is not there any more.
    #[error(
        "{path}: damaged at offset {offset}: {what}. The log is never read past damage: something that was acknowledged \
         may lie behind it. Put back the file as it was, or leave this node down: the others go on without it"
    )]
    Damaged {
        /// The file.
        path: PathBuf,
        /// Where in it, in bytes.
        offset: u64,
        /// What is wrong there.
        what: Flaw,
    },
    /// Both copies of a promise may be lost.
    #[error(
        "{path}: the promises of {group} are damaged, and so is the end of the log: this replica no longer knows what it \
         has promised, which counts as a wiped disk: leave this node down"
    )]
    PromisesLost {
        /// The promise file.
        path: PathBuf,
        /// Its group.
        group: GroupId,
    },
    /// The snapshot at which a log begins is not there.
    #[error("{path}: missing: the log of {group} begins at this snapshot. {}", SNAPSHOT)]
    SnapshotMissing {
        /// The file.
        path: PathBuf,
        /// Its group.
        group: GroupId,
    },
    /// The snapshot at which a log begins is damaged.
    #[error("{path}: damaged at offset {offset}: the log of {group} begins at this snapshot. {}", SNAPSHOT)]
    SnapshotDamaged {
        /// The file.
        path: PathBuf,
        /// Its group.
        group: GroupId,
        /// Where in it, in bytes.
        offset: u64,
    },
    /// The snapshot at which a log begins has every byte that was written, and yet is no state of this group.
    #[error("{path}: cannot be loaded: {error}. {}", SNAPSHOT)]
    SnapshotUnusable {
        /// The file.
        path: PathBuf,
        /// Its group.
        group: GroupId,
        /// Why.
        error: ImageError,
    },
    /// The machine went down with writes that were not synced.
    #[error(
        "{path}: the machine was restarted while the node ran with a relaxed fsync policy (`interval` or `never`): what \
         it had acknowledged may be lost, which counts as a wiped disk: leave this node down"
    )]
    LostWrites {
        /// The data directory.
        path: PathBuf,
    },
}

const SHAPE: &str = "the shape of a cluster is settled when it is formatted";
const SNAPSHOT: &str = "Without it this node does not have the state that its promises belong to. Put back the file as \
                        it was, or leave this node down: the others go on without it";

impl StorageError {
    pub(super) fn io(path: &Path) -> impl FnOnce(std::io::Error) -> StorageError {
        let path = path.to_owned();
        |error| StorageError::Io { path, error }
    }
}

fn list(groups: &[GroupId]) -> String {
    let names: Vec<String> = groups.iter().map(GroupId::to_string).collect();
    if names.is_empty() { "no groups".to_owned() } else { names.join(" ") }
}
