//! The disk of a node in the model: what is written, and what of it is durable.

use bytes::Bytes;

use drachma_protocol::log::index::Position;
use drachma_protocol::log::record::{Record, Recovered};
use drachma_protocol::log::state::{self, GroupLog};
use drachma_protocol::role::Token;

use crate::model::shared::Shared;

/// An entry of the log with its digest.
pub(super) type Entry = Shared<Bytes>;

/// The log of one node.
#[derive(Clone, Debug, Default)]
pub(super) struct Disk {
    /// What the synced records add up to, as recovery finds it.
    durable: GroupLog,
    /// Every entry of the synced log, the chosen ones included.
    synced: Vec<Entry>,
    /// Every entry of the log as the replica sees it.
    written: Vec<Entry>,
    /// Written and not synced.
    writing: Vec<(Token, Vec<Record>)>,
}

impl Disk {
    /// Writes records; they are lost in a crash until they are synced.
    pub(super) fn write(&mut self, token: Token, records: Vec<Record>) {
        for record in &records {
            write_entries(&mut self.written, record);
        }
        self.writing.push((token, records));
    }

    /// Whether something would be lost in a crash.
    pub(super) fn is_dirty(&self) -> bool {
        !self.writing.is_empty()
    }

    /// Makes everything durable; the last token that was given for it, if there is any.
    ///
    /// # Errors
    /// If the records do not follow from those before: a broken replica.
    pub(super) fn sync(&mut self) -> Result<Option<Token>, String> {
        let mut last = None;
        for (token, records) in std::mem::take(&mut self.writing) {
            for record in &records {
                let nowhere = Position { segment: 0, offset: 0 };
                self.durable.apply(record, nowhere).map_err(|violation| violation.to_string())?;
                write_entries(&mut self.synced, record);
            }
            last = Some(token);
        }
        Ok(last)
    }

    /// The node goes down: what is not synced is lost.
    pub(super) fn crash(&mut self) {
        self.writing.clear();
        self.written.clone_from(&self.synced);
    }

    /// What is durable, as a starting node finds it.
    pub(super) fn recovered(&self) -> Recovered {
        self.durable.recovered()
    }

    /// How many entries are durable.
    pub(super) fn synced_len(&self) -> u64 {
        self.durable.len().0
    }

    /// The log, as written.
    pub(super) fn log(&self) -> &[Entry] {
        &self.written
    }
}

/// The log after a record; the same that [`GroupLog`] makes of it, with what is chosen kept.
fn write_entries(log: &mut Vec<Entry>, record: &Record) {
    let whole = matches!(record, Record::Synchronise(_));
    let Some((start, entries)) = state::entries(record.clone()) else { return };
    let start = start.0 as usize;
    let end = start + entries.len();
    for (index, entry) in entries.into_iter().enumerate() {
        let (place, entry) = (start + index, Shared::new(entry));
        if log.get(place).is_some_and(|own| *own != entry) {
            log.truncate(place);
        }
        if log.len() == place {
            log.push(entry);
        }
    }
    if whole {
        log.truncate(end);
    }
}
