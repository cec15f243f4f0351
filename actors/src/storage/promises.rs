//! The promise files of a node.

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::os::unix::fs::FileExt;

use drachma_protocol::ids::{Ballot, DirectoryId, GroupId};
use drachma_protocol::log::promise::PromiseSlots;
use drachma_protocol::log::recover::Recovery;

use super::StorageError;
use super::files::{self, Layout};

/// The second copy of each group's promise.
pub(super) struct Promises {
    layout: Layout,
    groups: BTreeMap<GroupId, (PromiseSlots, File)>,
}

impl Promises {
    /// Reads the files, raises what the log says, and mends them: afterwards both copies of each promise are durable.
    pub(super) fn recover(
        layout: &Layout,
        directory: DirectoryId,
        recovery: &mut Recovery,
    ) -> Result<Promises, StorageError> {
        let mut promises = Promises { layout: layout.clone(), groups: BTreeMap::new() };
        let groups: Vec<GroupId> = recovery.appender.groups().keys().copied().collect();
        for group in groups {
            let path = layout.promise(group);
            let content = match fs::read(&path) {
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => Vec::new(),
                read => read.map_err(StorageError::io(&path))?,
            };
            let slots = PromiseSlots::decode(directory, group, &content);
            promises.check(group, &slots, recovery)?;
            let before = slots.promise();
            recovery.raise_promise(group, before.unwrap_or_default());
            let promise = recovery.appender.groups()[&group].promise();
            let open = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(&path);
            let file = open.map_err(StorageError::io(&path))?;
            let whole = slots.is_whole();
            promises.groups.insert(group, (slots, file));
            if !whole {
                tracing::warn!(path = %path.display(), "a promise slot is not whole and is written again");
            }
            // Twice, so that both slots are whole again.
            let writes = if whole { usize::from(before < Some(promise)) } else { 2 };
            for _ in 0..writes {
                promises.write(group, promise)?;
                promises.sync(group)?;
            }
        }
        files::sync_directory(&layout.promises())?;
        Ok(promises)
    }

    /// A slot is written after the log was synced, so a crash never tears both: with a damaged slot, what a doubtful
    /// end of the log may have lost may be a promise (hazard S27).
    fn check(&self, group: GroupId, slots: &PromiseSlots, recovery: &Recovery) -> Result<(), StorageError> {
        let doubtful = recovery.appender.groups()[&group].recovered().doubtful;
        let lost = (recovery.doubtful.is_some() && !slots.is_whole()) || (doubtful && slots.promise().is_none());
        if lost { Err(StorageError::PromisesLost { path: self.layout.promise(group), group }) } else { Ok(()) }
    }

    /// Writes a promise into the older slot of its group.
    pub(super) fn write(&mut self, group: GroupId, promise: Ballot) -> Result<(), StorageError> {
        let (slots, file) = self.groups.get_mut(&group).expect("every group of the log has its promise file");
        let (at, bytes) = slots.write(promise);
        file.write_all_at(&bytes, at as u64).map_err(StorageError::io(&self.layout.promise(group)))
    }

    /// Syncs the file of a group.
    pub(super) fn sync(&self, group: GroupId) -> Result<(), StorageError> {
        let (_, file) = &self.groups[&group];
        file.sync_data().map_err(StorageError::io(&self.layout.promise(group)))
    }

    /// Syncs every file.
    pub(super) fn sync_all(&self) -> Result<(), StorageError> {
        self.groups.keys().try_for_each(|group| self.sync(*group))
    }
}
