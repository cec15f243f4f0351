//! The disk of a node in the model: what is written, and what of it is durable.

use bytes::Bytes;

use drachma_protocol::log::index::Position;
use drachma_protocol::log::record::{Record, Recovered};
use drachma_protocol::log::state::{self, GroupLog};
use drachma_protocol::message::operator::Nothing;
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
    /// What is left if the last record with entries turns out to be damaged; kept only while that may happen.
    intact: Option<Box<(GroupLog, Vec<Entry>)>>,
    /// The end of the log was lost, and no synced synchronisation has given it back.
    in_doubt: bool,
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

    /// Makes everything durable; the last token that was given for it, if there is any. With `rots`, the last record
    /// may be damaged later.
    ///
    /// # Errors
    /// If the records do not follow from those before: a broken replica.
    pub(super) fn sync(&mut self, rots: bool) -> Result<Option<Token>, String> {
        let mut last = None;
        if !rots {
            self.intact = None;
        }
        for (token, records) in std::mem::take(&mut self.writing) {
            for record in &records {
                if rots && state::entries(record.clone()).is_some() {
                    self.intact = Some(Box::new((self.durable.clone(), self.synced.clone())));
                }
                let nowhere = Position { segment: 0, offset: 0 };
                self.in_doubt &= !matches!(record, Record::Synchronise(_));
                self.durable.apply(record, nowhere).map_err(|violation| violation.to_string())?;
                write_entries(&mut self.synced, record);
            }
            last = Some(token);
        }
        Ok(last)
    }

    /// The node goes down: what is not synced is lost.
    pub(super) fn crash(&mut self, rots: bool) {
        self.writing.clear();
        if !rots {
            self.intact = None;
        }
        self.written.clone_from(&self.synced);
    }

    /// Whether the last record with entries may be damaged.
    pub(super) fn can_rot(&self) -> bool {
        self.intact.is_some()
    }

    /// The node goes down, and the last synced record with entries, with all that follows it, is found damaged: they are
    /// cut off, and the log is in doubt. The promise is kept beside the log, too.
    pub(super) fn rot(&mut self) {
        let promise = self.durable.promise();
        if let Some(intact) = self.intact.take() {
            (self.durable, self.synced) = *intact;
        }
        self.crash(false);
        self.in_doubt = true;
        for record in [Record::Promise(promise), Record::Doubt(Nothing {})] {
            let nowhere = Position { segment: 0, offset: 0 };
            self.durable.apply(&record, nowhere).expect("a promise and a doubt may follow any record");
        }
    }

    /// Whether the log may have lost its end.
    pub(super) fn is_in_doubt(&self) -> bool {
        self.in_doubt
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
