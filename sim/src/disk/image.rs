//! What a group's records add up to, as plainly as can be: what the store reads and recovers is held against it.

use bytes::Bytes;

use drachma_protocol::ids::{Ballot, Slot};
use drachma_protocol::log::record::{LearnRecord, Record, Recovered, SynchroniseRecord};

/// The state after some records, with the whole log.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Image {
    promise: Ballot,
    accepted: Ballot,
    chosen: Slot,
    /// What lies before is in a snapshot, on the disk; the books keep it.
    pub(super) start: Slot,
    pub(super) log: Vec<Bytes>,
}

impl Image {
    /// Takes in a record.
    ///
    /// # Errors
    /// If it does not follow from those before: a broken replica.
    pub(super) fn apply(&mut self, record: &Record) -> Result<(), String> {
        match record {
            Record::Promise(ballot) if *ballot < self.promise => {
                return Err(format!("promises {ballot} after {}", self.promise));
            }
            Record::Promise(ballot) => self.promise = *ballot,
            Record::Accept(accept) => {
                if accept.slot != self.length() {
                    return Err(format!("accepts slot {} with a log of {}", accept.slot, self.length()));
                }
                self.log.push(accept.entry.clone());
                self.raise_chosen(accept.chosen)?;
            }
            Record::Synchronise(record) => self.synchronise(record)?,
            Record::Learn(record) => self.learn(record)?,
            Record::Chosen(chosen) => self.raise_chosen(*chosen)?,
            Record::Doubt(_) => {}
            Record::Base(_) => return Err("writes a base, which is the log's own".to_owned()),
            Record::Snapshot(slot) => {
                if *slot < self.start || *slot > self.length() {
                    return Err(format!("begins its log at {slot} instead of {}", self.start));
                }
                self.start = *slot;
                self.chosen = self.chosen.max(*slot);
            }
        }
        Ok(())
    }

    /// A snapshot at `slot` takes the place of entries: those that were never here are what is chosen. What was accepted
    /// beyond stays.
    pub(super) fn fill(&mut self, slot: Slot, chosen: &[Bytes]) -> Result<(), String> {
        let (from, until) = (self.chosen.0 as usize, slot.0 as usize);
        let Some(entries) = chosen.get(from.min(until)..until) else {
            return Err(format!("has a snapshot at {slot}, and only {} entries were ever applied", chosen.len()));
        };
        let kept = self.log.split_off(self.log.len().min(until));
        self.log.truncate(from.min(until));
        self.log.extend_from_slice(entries);
        self.log.extend(kept);
        Ok(())
    }

    fn synchronise(&mut self, record: &SynchroniseRecord) -> Result<(), String> {
        if record.from < self.chosen || record.from > self.length() {
            let (chosen, length) = (self.chosen, self.length());
            return Err(format!("is synchronised from {} with {chosen} chosen of {length}", record.from));
        }
        if record.ballot < self.accepted || record.ballot < self.promise {
            return Err(format!("is synchronised under {} after {}", record.ballot, self.promise));
        }
        self.log.truncate(record.from.0 as usize);
        self.log.extend(record.entries.iter().cloned());
        self.accepted = record.ballot;
        self.promise = record.ballot;
        self.raise_chosen(record.chosen)
    }

    fn learn(&mut self, record: &LearnRecord) -> Result<(), String> {
        // A replica may know more to be chosen than it has written down.
        if record.start < self.chosen || record.start > self.length() {
            let (chosen, length) = (self.chosen, self.length());
            return Err(format!("learns from {} with {chosen} chosen of {length}", record.start));
        }
        let start = record.start.0 as usize;
        let overlap = record.entries.len().min(self.log.len() - start);
        if self.log[start..start + overlap] != record.entries[..overlap] {
            self.log.truncate(start);
        }
        let known = self.log.len() - start;
        self.log.extend(record.entries.iter().skip(known).cloned());
        self.raise_chosen(record.start.plus(record.entries.len()))
    }

    fn raise_chosen(&mut self, chosen: Slot) -> Result<(), String> {
        if chosen > self.length() {
            return Err(format!("has {chosen} chosen with a log of {}", self.length()));
        }
        self.chosen = self.chosen.max(chosen);
        Ok(())
    }

    fn length(&self) -> Slot {
        Slot(self.log.len() as u64)
    }

    /// The entries in `[from, until)`, as far as there are any.
    pub(super) fn entries(&self, from: Slot, until: Slot) -> &[Bytes] {
        let until = (until.0 as usize).min(self.log.len());
        &self.log[(from.0 as usize).min(until)..until]
    }

    /// The log goes on from what was recovered: nothing that was `acknowledged` may be lacking, unless the log says that
    /// it may have lost its end; a promise may not be lacking even then.
    ///
    /// # Errors
    /// What is lacking.
    pub(super) fn resume(&mut self, acknowledged: &Recovered, found: &Recovered) -> Result<(), String> {
        if found.promise < acknowledged.promise {
            return Err(format!("has promised {} and remembers {}", acknowledged.promise, found.promise));
        }
        if found.chosen > self.length() {
            return Err(format!("recovers {} chosen entries and never had more than {}", found.chosen, self.length()));
        }
        if !found.doubtful {
            // With a doubtful end the last record may be gone, that of a snapshot like any other.
            if found.start < acknowledged.start {
                return Err(format!("its log began at {} and now at {}", acknowledged.start, found.start));
            }
            covers(acknowledged, found)?;
        }
        self.log.truncate(found.chosen.0 as usize);
        self.log.extend(found.tail.iter().cloned());
        (self.promise, self.accepted) = (found.promise, found.accepted);
        (self.start, self.chosen) = (found.start, found.chosen);
        Ok(())
    }
}

/// Whether what was found has at least what was acknowledged.
fn covers(acknowledged: &Recovered, found: &Recovered) -> Result<(), String> {
    let length = |state: &Recovered| state.chosen.plus(state.tail.len());
    let have = format!("{} of {} under {}", found.chosen, length(found), found.accepted);
    let had = format!("{} of {} under {}", acknowledged.chosen, length(acknowledged), acknowledged.accepted);
    let less = found.accepted < acknowledged.accepted || found.chosen < acknowledged.chosen;
    // Only what was chosen instead takes the place of accepted entries under the same ballot.
    let same = (found.accepted, found.chosen) == (acknowledged.accepted, acknowledged.chosen);
    if less || (same && !found.tail.starts_with(&acknowledged.tail)) {
        return Err(format!("has acknowledged {had} and recovers {have}"));
    }
    Ok(())
}
