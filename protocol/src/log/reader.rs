//! Reads entries back from the segments.

use bytes::Bytes;

use super::device::Device;
use super::index::Position;
use super::record::Record;
use super::recover::{Damage, Flaw};
use super::segment::{self, HEAD};
use super::state;
use super::store::StoreError;
use super::writer::Appender;
use crate::ids::{GroupId, Slot};
use crate::wire::codec;

/// So much is read at once, because the records that follow are mostly wanted next.
const AHEAD: usize = 256 << 10;

/// Reads records; knows that what is written never changes, so what was read stays valid.
#[derive(Debug)]
pub(super) struct Reader {
    /// The bytes read last, and where they are from.
    chunk: Vec<u8>,
    chunk_at: Position,
}

impl Reader {
    pub(super) fn new() -> Reader {
        Reader { chunk: Vec::new(), chunk_at: Position { segment: 0, offset: 0 } }
    }

    /// The entries of a group in `[from, until)`: as many as fit `bytes`, but at least one if it is stored.
    /// Everything that the appender knows of must have been written.
    pub(super) fn entries<D: Device>(
        &mut self,
        device: &mut D,
        appender: &Appender,
        group: GroupId,
        (from, until): (Slot, Slot),
        bytes: usize,
    ) -> Result<Vec<Bytes>, StoreError<D::Error>> {
        let mut found: Vec<Bytes> = Vec::new();
        let mut size = 0;
        let mut slot = from;
        while slot < until
            && let Some(position) = appender.locate(group, slot)
        {
            let (start, entries) = self.record(device, appender, group, position)?;
            // The slots of this record that still stand: a later record may have replaced some.
            let mut entries = entries.into_iter().skip(slot.distance_from(start));
            while slot < until && appender.locate(group, slot) == Some(position) {
                let entry = entries.next().ok_or_else(|| damaged(position))?;
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

    fn record<D: Device>(
        &mut self,
        device: &mut D,
        appender: &Appender,
        group: GroupId,
        at: Position,
    ) -> Result<(Slot, Vec<Bytes>), StoreError<D::Error>> {
        self.load(device, appender, at, HEAD as usize)?;
        let length = segment::claimed_length(self.loaded(at)).ok_or_else(|| damaged(at))?;
        self.load(device, appender, at, length as usize)?;
        let (head, body) = segment::decode(self.loaded(at), at.segment, at.offset).ok_or_else(|| damaged(at))?;
        let record: Record = codec::from_slice(body).map_err(|_| damaged(at))?;
        Ok(state::entries(record).filter(|_| head.group == group).ok_or_else(|| damaged(at))?)
    }

    fn loaded(&self, at: Position) -> &[u8] {
        let here = at.segment == self.chunk_at.segment && at.offset >= self.chunk_at.offset;
        let chunk = here.then(|| self.chunk.get((at.offset - self.chunk_at.offset) as usize..));
        chunk.flatten().unwrap_or_default()
    }

    /// Reads on until `least` bytes from `at` are there, or the segment or what was written ends.
    fn load<D: Device>(
        &mut self,
        device: &mut D,
        appender: &Appender,
        at: Position,
        least: usize,
    ) -> Result<(), StoreError<D::Error>> {
        if self.loaded(at).len() >= least {
            return Ok(());
        }
        let written = appender.pending().position;
        let end = if at.segment == written.segment { written.offset } else { u32::MAX };
        let wanted = least.max(AHEAD).min(end.saturating_sub(at.offset) as usize);
        // Nothing of it is taken for read if the device refuses.
        self.chunk.clear();
        self.chunk.resize(wanted, 0);
        self.chunk_at = at;
        let filled = device.read(at, &mut self.chunk).map_err(StoreError::Device)?;
        self.chunk.truncate(filled);
        self.chunk.shrink_to(4 * AHEAD);
        Ok(())
    }
}

fn damaged(at: Position) -> Damage {
    Damage { segment: at.segment, offset: u64::from(at.offset), flaw: Flaw::Record }
}
