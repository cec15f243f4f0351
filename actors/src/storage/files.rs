//! Paths, and the few ways in which files are made durable.

use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use drachma_protocol::ids::{GroupId, Slot};

use super::StorageError;

/// The places in a data directory.
#[derive(Clone, Debug)]
pub(super) struct Layout {
    pub(super) data: PathBuf,
}

impl Layout {
    pub(super) fn new(data: &Path) -> Layout {
        Layout { data: data.to_owned() }
    }

    pub(super) fn identity(&self) -> PathBuf {
        self.data.join("identity")
    }

    pub(super) fn lock(&self) -> PathBuf {
        self.data.join("lock")
    }

    pub(super) fn boot(&self) -> PathBuf {
        self.data.join("boot")
    }

    pub(super) fn log(&self) -> PathBuf {
        self.data.join("log")
    }

    pub(super) fn segment(&self, number: u32) -> PathBuf {
        self.log().join(format!("{number:08}.log"))
    }

    /// A segment in the making. It gets its name when it is whole, so that one with a name always is.
    pub(super) fn unfinished(&self) -> PathBuf {
        self.log().join("unfinished")
    }

    pub(super) fn promises(&self) -> PathBuf {
        self.data.join("promises")
    }

    pub(super) fn promise(&self, group: GroupId) -> PathBuf {
        self.promises().join(group.to_string())
    }

    pub(super) fn snapshots(&self) -> PathBuf {
        self.data.join("snapshots")
    }

    pub(super) fn snapshot(&self, group: GroupId, slot: Slot) -> PathBuf {
        self.snapshots().join(format!("{group}-{}.snapshot", slot.0))
    }

    /// A snapshot in the making.
    pub(super) fn unfinished_snapshot(&self, group: GroupId) -> PathBuf {
        self.snapshots().join(format!("{group}.unfinished"))
    }

    /// The snapshots that are whole, with their sizes in bytes. Other files are left alone.
    pub(super) fn whole_snapshots(&self) -> Result<Vec<(GroupId, Slot, u64)>, StorageError> {
        let snapshots = self.snapshots();
        let mut found = Vec::new();
        for entry in fs::read_dir(&snapshots).map_err(StorageError::io(&snapshots))? {
            let entry = entry.map_err(StorageError::io(&snapshots))?;
            let name = entry.file_name();
            let parts = name.to_str().and_then(|name| name.strip_suffix(".snapshot")?.split_once('-'));
            let Some((Ok(group), Ok(slot))) = parts.map(|(group, slot)| (group.parse(), slot.parse().map(Slot))) else {
                continue;
            };
            if self.snapshot(group, slot).file_name() == Some(&name) {
                let size = entry.metadata().map_err(StorageError::io(&entry.path()))?.len();
                found.push((group, slot, size));
            }
        }
        Ok(found)
    }

    /// The numbers of the segments that exist, in order. Other files are left alone.
    pub(super) fn segments(&self) -> Result<Vec<u32>, StorageError> {
        let log = self.log();
        let mut numbers = Vec::new();
        for entry in fs::read_dir(&log).map_err(StorageError::io(&log))? {
            let name = entry.map_err(StorageError::io(&log))?.file_name();
            let number =
                name.to_str().and_then(|name| name.strip_suffix(".log")).and_then(|digits| digits.parse().ok());
            numbers.extend(number.filter(|number| self.segment(*number).file_name() == Some(&name)));
        }
        numbers.sort_unstable();
        Ok(numbers)
    }
}

/// Zeros are written in steps of this, each synced: what the log syncs meanwhile waits for one step, not for all.
const STEP: usize = 1 << 20;

/// Makes a segment of zeros that is wholly on disk: a later sync of what is written into it changes no metadata.
/// Replaces one of that number.
pub(super) fn make_segment(layout: &Layout, number: u32, size: u32) -> Result<File, StorageError> {
    let unfinished = layout.unfinished();
    let file = make_file(&unfinished, |file| {
        let zeros = vec![0; STEP];
        let mut written = 0;
        while written < size as usize {
            let step = STEP.min(size as usize - written);
            file.write_all_at(&zeros[..step], written as u64)?;
            file.sync_data()?;
            written += step;
        }
        Ok(())
    })?;
    let path = layout.segment(number);
    fs::rename(&unfinished, &path).map_err(StorageError::io(&path))?;
    sync_directory(&layout.log())?;
    Ok(file)
}

/// Makes a file with a content, durable as soon as its directory is synced.
pub(super) fn make_file(
    path: &Path,
    fill: impl FnOnce(&mut File) -> std::io::Result<()>,
) -> Result<File, StorageError> {
    let make = || {
        let mut file = OpenOptions::new().read(true).write(true).create(true).truncate(true).open(path)?;
        fill(&mut file)?;
        file.sync_all()?;
        Ok(file)
    };
    make().map_err(StorageError::io(path))
}

/// Fills `into` from an offset on and returns how many bytes that were: fewer only where the file ends.
pub(super) fn read_at(file: &File, offset: u64, into: &mut [u8]) -> std::io::Result<usize> {
    let mut filled = 0;
    while filled < into.len() {
        match file.read_at(&mut into[filled..], offset + filled as u64)? {
            0 => break,
            count => filled += count,
        }
    }
    Ok(filled)
}

/// Makes or replaces a small file: afterwards it is there whole and durable, or as before.
pub(super) fn replace_file(path: &Path, content: &[u8]) -> Result<(), StorageError> {
    let next = path.with_extension("next");
    make_file(&next, |file| file.write_all(content))?;
    fs::rename(&next, path).map_err(StorageError::io(path))?;
    sync_directory(path.parent().unwrap_or(Path::new(".")))
}

/// Makes what was created, renamed or removed in a directory durable.
pub(super) fn sync_directory(path: &Path) -> Result<(), StorageError> {
    let path = if path.as_os_str().is_empty() { Path::new(".") } else { path };
    File::open(path).and_then(|directory| directory.sync_all()).map_err(StorageError::io(path))
}

/// Removes a file if it is there.
pub(super) fn remove_file(path: &Path) -> Result<(), StorageError> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(StorageError::io(path)(error)),
        _ => Ok(()),
    }
}
