//! The log's device on a node: files.

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io::Read;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use drachma_protocol::ids::{GroupId, Slot};
use drachma_protocol::log::device::Device;
use drachma_protocol::log::index::Position;

use super::StorageError;
use super::files::{self, Layout};
use super::handle::{Shared, count};
use super::prepare::Preparer;

/// So many segments are kept open for reading.
const OPEN: usize = 8;

/// The files of a data directory.
pub(super) struct Files {
    layout: Layout,
    /// Makes segments ahead; nothing while the directory is opened.
    preparer: Option<Preparer>,
    /// The segment that is written, and one that was made and not yet written.
    current: Option<(u32, File)>,
    next: Option<(u32, File)>,
    promises: BTreeMap<GroupId, File>,
    reading: BTreeMap<u32, File>,
    pub(super) shared: Arc<Shared>,
}

impl Files {
    pub(super) fn new(layout: Layout) -> Files {
        Files {
            layout,
            preparer: None,
            current: None,
            next: None,
            promises: BTreeMap::new(),
            reading: BTreeMap::new(),
            shared: Arc::default(),
        }
    }

    /// Has the next segments made on a thread of their own from now on.
    pub(super) fn start_preparer(&mut self) -> Result<(), StorageError> {
        let preparer = Preparer::start(self.layout.clone()).map_err(StorageError::io(&self.layout.log()))?;
        self.preparer = Some(preparer);
        Ok(())
    }

    /// A segment, to be written.
    fn segment(&mut self, number: u32) -> Result<&File, StorageError> {
        if self.current.as_ref().is_none_or(|(current, _)| *current != number) {
            let made = self.next.take_if(|(next, _)| *next == number);
            let opened = made.map_or_else(|| open_file(&self.layout.segment(number)), |(_, file)| Ok(file))?;
            self.current = Some((number, opened));
        }
        Ok(&self.current.as_ref().expect("it was just opened").1)
    }

    fn promise(&mut self, group: GroupId) -> Result<&File, StorageError> {
        if !self.promises.contains_key(&group) {
            let path = self.layout.promise(group);
            let open = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(&path);
            self.promises.insert(group, open.map_err(StorageError::io(&path))?);
        }
        Ok(&self.promises[&group])
    }
}

impl Device for Files {
    type Error = StorageError;

    fn segments(&mut self) -> Result<Vec<u32>, StorageError> {
        self.layout.segments()
    }

    fn read_segment(&mut self, segment: u32, into: &mut Vec<u8>) -> Result<(), StorageError> {
        let path = self.layout.segment(segment);
        into.clear();
        let read = File::open(&path).and_then(|mut file| file.read_to_end(into));
        read.map(|_| ()).map_err(StorageError::io(&path))
    }

    fn read(&mut self, at: Position, into: &mut [u8]) -> Result<usize, StorageError> {
        let path = self.layout.segment(at.segment);
        if !self.reading.contains_key(&at.segment) {
            if self.reading.len() == OPEN {
                self.reading.pop_first();
            }
            self.reading.insert(at.segment, File::open(&path).map_err(StorageError::io(&path))?);
        }
        let file = &self.reading[&at.segment];
        files::read_at(file, u64::from(at.offset), into).map_err(StorageError::io(&path))
    }

    fn write(&mut self, at: Position, bytes: &[u8]) -> Result<(), StorageError> {
        let written = self.segment(at.segment)?.write_all_at(bytes, u64::from(at.offset));
        written.map_err(StorageError::io(&self.layout.segment(at.segment)))
    }

    fn sync(&mut self, segment: u32) -> Result<(), StorageError> {
        let begun = Instant::now();
        let synced = match &self.current {
            Some((current, file)) if *current == segment => file.sync_data(),
            _ => File::open(self.layout.segment(segment)).and_then(|file| file.sync_data()),
        };
        synced.map_err(StorageError::io(&self.layout.segment(segment)))?;
        count(&self.shared.counters.syncs, 1);
        let micros = begun.elapsed().as_micros() as u64;
        count(&self.shared.counters.sync_micros, micros);
        self.shared.syncs.add(micros);
        Ok(())
    }

    fn create(&mut self, segment: u32, size: u32, least: u32) -> Result<u32, StorageError> {
        let begun = Instant::now();
        // Whatever was opened under this name is not it any more.
        self.reading.remove(&segment);
        let (file, size) = match &mut self.preparer {
            Some(preparer) => preparer.take(segment, size, least)?,
            None => (files::make_segment(&self.layout, segment, size.max(least))?, size.max(least)),
        };
        self.next = Some((segment, file));
        count(&self.shared.counters.segment_micros, begun.elapsed().as_micros() as u64);
        Ok(size)
    }

    fn prepare(&mut self, segment: u32, size: u32) {
        if let Some(preparer) = &mut self.preparer {
            preparer.prepare(segment, size);
        }
    }

    fn remove(&mut self, segment: u32) -> Result<(), StorageError> {
        self.reading.remove(&segment);
        files::remove_file(&self.layout.segment(segment))
    }

    fn snapshots(&mut self) -> Result<Vec<(GroupId, Slot)>, StorageError> {
        let found = self.layout.whole_snapshots()?;
        Ok(found.into_iter().map(|(group, slot, _)| (group, slot)).collect())
    }

    fn remove_snapshot(&mut self, group: GroupId, slot: Slot) -> Result<(), StorageError> {
        files::remove_file(&self.layout.snapshot(group, slot))
    }

    fn sync_names(&mut self) -> Result<(), StorageError> {
        files::sync_directory(&self.layout.log())?;
        files::sync_directory(&self.layout.snapshots())?;
        files::sync_directory(&self.layout.promises())
    }

    fn read_promise(&mut self, group: GroupId) -> Result<Vec<u8>, StorageError> {
        let path = self.layout.promise(group);
        match fs::read(&path) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(Vec::new()),
            read => read.map_err(StorageError::io(&path)),
        }
    }

    fn write_promise(&mut self, group: GroupId, offset: usize, bytes: &[u8]) -> Result<(), StorageError> {
        let written = self.promise(group)?.write_all_at(bytes, offset as u64);
        written.map_err(StorageError::io(&self.layout.promise(group)))
    }

    fn sync_promise(&mut self, group: GroupId) -> Result<(), StorageError> {
        let synced = self.promise(group)?.sync_data();
        synced.map_err(StorageError::io(&self.layout.promise(group)))
    }
}

fn open_file(path: &Path) -> Result<File, StorageError> {
    OpenOptions::new().read(true).write(true).open(path).map_err(StorageError::io(path))
}
