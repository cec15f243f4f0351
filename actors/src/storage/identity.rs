//! Whose directory it is, and how one is made.

use std::fs::{self, File, OpenOptions};
use std::io::Read;
use std::path::Path;

use drachma_protocol::ids::{ClusterId, DirectoryId, GroupId, NodeId};
use drachma_protocol::log::segment::Owner;
use drachma_protocol::log::store;

use super::device::Files;
use super::files::{self, Layout};
use super::{Identity, StorageError};

/// The first segment in bytes: small, because it is made while somebody waits for the node.
const FIRST_SEGMENT: u32 = 4 << 20;

/// Formats a directory that is empty or does not exist, and returns the id drawn for it.
///
/// Done once, when the cluster is created: a node that has lost its data must not come back as if it were new
/// (hazard S25). The identity is written last, so an interrupted formatting is not taken for a data directory.
///
/// # Errors
/// If something is there already, or the system refuses.
pub fn format(data: &Path, identity: &Identity, groups: &[GroupId]) -> Result<DirectoryId, StorageError> {
    let layout = Layout::new(data);
    refuse_used(&layout)?;
    fs::create_dir_all(data).map_err(StorageError::io(data))?;
    // Of two that format at the same time one fails here.
    let lock = layout.lock();
    OpenOptions::new().write(true).create_new(true).open(&lock).map_err(StorageError::io(&lock))?;
    let directory = draw_directory()?;
    let owner = Owner { cluster: identity.cluster, node: identity.node, directory };
    fs::create_dir(layout.log()).map_err(StorageError::io(&layout.log()))?;
    fs::create_dir(layout.promises()).map_err(StorageError::io(&layout.promises()))?;
    fs::create_dir(layout.snapshots()).map_err(StorageError::io(&layout.snapshots()))?;
    let mut device = Files::new(layout.clone());
    store::format(&mut device, owner, groups, FIRST_SEGMENT)?;
    let stored = Stored { owner, groups: sorted(groups), shape: identity.shape.clone() };
    files::replace_file(&layout.identity(), stored.encode().as_bytes())?;
    // The directory itself is an entry of its parent.
    let parent = data.canonicalize().map_err(StorageError::io(data))?;
    files::sync_directory(parent.parent().unwrap_or(&parent))?;
    Ok(directory)
}

fn refuse_used(layout: &Layout) -> Result<(), StorageError> {
    let path = layout.data.clone();
    if let Some(stored) = Stored::read(layout)? {
        let Owner { cluster, node, .. } = stored.owner;
        return Err(StorageError::AlreadyFormatted { path, cluster, node });
    }
    match is_empty(&path) {
        Ok(true) => Ok(()),
        Ok(false) => Err(StorageError::NotEmpty { path }),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(StorageError::Io { path, error }),
    }
}

/// Whether nothing is in a directory.
pub(super) fn is_empty(path: &Path) -> std::io::Result<bool> {
    Ok(fs::read_dir(path)?.next().is_none())
}

fn draw_directory() -> Result<DirectoryId, StorageError> {
    let path = Path::new("/dev/urandom");
    let mut bytes = [0; 16];
    File::open(path).and_then(|mut file| file.read_exact(&mut bytes)).map_err(StorageError::io(path))?;
    Ok(DirectoryId(u128::from_be_bytes(bytes)))
}

/// The groups in order, each once.
pub(super) fn sorted(groups: &[GroupId]) -> Vec<GroupId> {
    let mut groups = groups.to_vec();
    groups.sort_unstable();
    groups.dedup();
    groups
}

/// What the identity file says.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct Stored {
    pub(super) owner: Owner,
    pub(super) groups: Vec<GroupId>,
    pub(super) shape: String,
}

const TITLE: &str = "Drachma data directory, format 1. Do not edit: the checksum covers every line.";

impl Stored {
    /// The identity of a directory, if it has one.
    pub(super) fn read(layout: &Layout) -> Result<Option<Stored>, StorageError> {
        let path = layout.identity();
        match fs::read(&path) {
            Ok(content) => match Stored::decode(&content) {
                Ok(stored) => Ok(Some(stored)),
                Err(what) => Err(StorageError::BadIdentity { path, what }),
            },
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(StorageError::Io { path, error }),
        }
    }

    fn encode(&self) -> String {
        let groups: Vec<String> = self.groups.iter().map(GroupId::to_string).collect();
        let Owner { cluster, node, directory } = self.owner;
        let body = format!(
            "cluster {cluster}\nnode {node}\ndirectory {directory}\ngroups {}\nshape\n{}",
            groups.join(" "),
            self.shape
        );
        format!("{TITLE}\nchecksum {:08x}\n{body}", crc32c(&body))
    }

    fn decode(content: &[u8]) -> Result<Stored, &'static str> {
        let text = str::from_utf8(content).map_err(|_| "damaged: not a text")?;
        let rest = text.strip_prefix(TITLE).ok_or("damaged, or written by another version")?;
        let (checksum, body) =
            rest.strip_prefix("\nchecksum ").and_then(|rest| rest.split_once('\n')).ok_or("damaged: no checksum")?;
        if checksum != format!("{:08x}", crc32c(body)) {
            return Err("damaged or edited: the checksum does not match");
        }
        let malformed = "malformed";
        let (head, shape) = body.split_once("\nshape\n").ok_or(malformed)?;
        let mut lines = head.lines();
        let mut line =
            |name: &str| lines.next().and_then(|line| line.strip_prefix(name)?.strip_prefix(' ')).ok_or(malformed);
        let cluster: ClusterId = line("cluster")?.parse().map_err(|_| malformed)?;
        let node: NodeId = line("node")?.parse().map_err(|_| malformed)?;
        let directory: DirectoryId = line("directory")?.parse().map_err(|_| malformed)?;
        let groups = line("groups")?.split_whitespace().map(|group| group.parse().map_err(|_| malformed));
        let groups = groups.collect::<Result<Vec<GroupId>, _>>()?;
        Ok(Stored { owner: Owner { cluster, node, directory }, groups, shape: shape.to_owned() })
    }
}

fn crc32c(text: &str) -> u32 {
    drachma_protocol::log::segment::checksum(text.as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stored() -> Stored {
        let owner = Owner { cluster: ClusterId(5), node: NodeId(3), directory: DirectoryId(u128::MAX) };
        Stored { owner, groups: vec![GroupId(1), GroupId(4)], shape: "[cluster]\n\nname = \"ä\"\n".into() }
    }

    #[test]
    fn an_identity_comes_back_and_every_flipped_bit_is_seen() {
        let text = stored().encode();
        assert_eq!(Stored::decode(text.as_bytes()), Ok(stored()));
        for bit in 0..text.len() * 8 {
            let mut bad = text.clone().into_bytes();
            bad[bit / 8] ^= 1 << (bit % 8);
            assert!(Stored::decode(&bad).is_err(), "bit {bit}");
        }
        for cut in 0..text.len() {
            assert!(Stored::decode(&text.as_bytes()[..cut]).is_err(), "cut at {cut}");
        }
    }
}
