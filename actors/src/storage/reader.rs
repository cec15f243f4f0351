//! Reads entries back from the segments.

use std::collections::BTreeMap;
use std::fs::File;
use std::os::unix::fs::FileExt;

use bytes::Bytes;
use drachma_protocol::ids::{GroupId, Slot};
use drachma_protocol::log::index::Position;
use drachma_protocol::log::record::Record;
use drachma_protocol::log::recover::Flaw;
use drachma_protocol::log::segment::{self, HEAD};
use drachma_protocol::log::state;
use drachma_protocol::log::writer::Appender;
use drachma_protocol::wire::codec;

use super::StorageError;
use super::files::Layout;

/// So much is read at once, because the records that follow are mostly wanted next.
const AHEAD: usize = 256 << 10;
/// So many segments are kept open.
const OPEN: usize = 8;

/// Reads records; knows that what is written never changes, so what was read stays valid.
pub(super) struct Reader {
    layout: Layout,
    open: BTreeMap<u32, File>,
    /// The bytes read last, and where they are from.
    chunk: Vec<u8>,
    chunk_at: Position,
}

impl Reader {
    pub(super) fn new(layout: Layout) -> Reader {
        Reader { layout, open: BTreeMap::new(), chunk: Vec::new(), chunk_at: Position { segment: 0, offset: 0 } }
    }

    /// The entries of a group in `[from, until)`: as many as fit `bytes`, but at least one if it is stored.
    /// Everything that the appender knows of must have been written.
    pub(super) fn entries(
        &mut self,
        appender: &Appender,
        group: GroupId,
        (from, until): (Slot, Slot),
        bytes: usize,
    ) -> Result<Vec<Bytes>, StorageError> {
        let mut found: Vec<Bytes> = Vec::new();
        let mut size = 0;
        let mut slot = from;
        while slot < until
            && let Some(position) = appender.locate(group, slot)
        {
            let (start, entries) = self.record(appender, group, position)?;
            // The slots of this record that still stand: a later record may have replaced some.
            let mut entries = entries.into_iter().skip(slot.distance_from(start));
            while slot < until && appender.locate(group, slot) == Some(position) {
                let entry = entries.next().ok_or_else(|| self.damaged(position))?;
                size += entry.len();
                if size > bytes && !found.is_empty() {
                    return Ok(found);
                }
                found.push(entry);
                slot = slot.next();
            }
        }
        Ok(found)
    }

    fn record(
        &mut self,
        appender: &Appender,
        group: GroupId,
        at: Position,
    ) -> Result<(Slot, Vec<Bytes>), StorageError> {
        self.load(appender, at, HEAD as usize)?;
        let length = segment::claimed_length(self.loaded(at)).ok_or_else(|| self.damaged(at))?;
        self.load(appender, at, length as usize)?;
        let (head, body) = segment::decode(self.loaded(at), at.segment, at.offset).ok_or_else(|| self.damaged(at))?;
        let record: Record = codec::from_slice(body).map_err(|_| self.damaged(at))?;
        state::entries(record).filter(|_| head.group == group).ok_or_else(|| self.damaged(at))
    }

    fn loaded(&self, at: Position) -> &[u8] {
        let here = at.segment == self.chunk_at.segment && at.offset >= self.chunk_at.offset;
        let chunk = here.then(|| self.chunk.get((at.offset - self.chunk_at.offset) as usize..));
        chunk.flatten().unwrap_or_default()
    }

    /// Reads on until `least` bytes from `at` are there, or the file or what was written ends.
    fn load(&mut self, appender: &Appender, at: Position, least: usize) -> Result<(), StorageError> {
        if self.loaded(at).len() >= least {
            return Ok(());
        }
        let written = appender.pending().position;
        let end = if at.segment == written.segment { written.offset } else { u32::MAX };
        let wanted = least.max(AHEAD).min(end.saturating_sub(at.offset) as usize);
        let path = self.layout.segment(at.segment);
        if !self.open.contains_key(&at.segment) {
            if self.open.len() == OPEN {
                self.open.pop_first();
            }
            self.open.insert(at.segment, File::open(&path).map_err(StorageError::io(&path))?);
        }
        let file = &self.open[&at.segment];
        self.chunk.resize(wanted, 0);
        self.chunk_at = at;
        let mut filled = 0;
        while filled < wanted {
            let read = file.read_at(&mut self.chunk[filled..], u64::from(at.offset) + filled as u64);
            match read.map_err(StorageError::io(&path))? {
                0 => break,
                count => filled += count,
            }
        }
        self.chunk.truncate(filled);
        self.chunk.shrink_to(4 * AHEAD);
        Ok(())
    }

    fn damaged(&self, at: Position) -> StorageError {
        let path = self.layout.segment(at.segment);
        StorageError::Damaged { path, offset: u64::from(at.offset), what: Flaw::Record }
    }
}
