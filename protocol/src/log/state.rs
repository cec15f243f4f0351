//! What the records of a group mean. Writing and recovery share this, so that what is recovered is what was meant.

use std::collections::VecDeque;

use bytes::Bytes;

use super::index::{Index, Position};
use super::record::{BaseRecord, LearnRecord, Record, Recovered, SynchroniseRecord};
use crate::ids::{Ballot, Slot};
use crate::planted::{Bug, is_planted};

/// A record that cannot follow the ones before it.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[error("{0}")]
pub struct Violation(pub &'static str);

/// The durable state of a group: what its records so far add up to.
///
/// - The log is `chosen` entries that are known to be chosen, then `tail`.
/// - The index has a record for each of them from `start` on: the state before is in a snapshot.
#[derive(Clone, Debug, Default)]
pub struct GroupLog {
    promise: Ballot,
    accepted: Ballot,
    start: Slot,
    chosen: Slot,
    tail: VecDeque<Bytes>,
    doubtful: bool,
    index: Index,
}

impl GroupLog {
    /// Takes in a record that stands at `position`.
    ///
    /// # Errors
    /// If it cannot follow the ones before; the state is then unspecified and must not be used any more.
    pub fn apply(&mut self, record: &Record, position: Position) -> Result<(), Violation> {
        match record {
            Record::Promise(ballot) => self.promise = self.promise.max(*ballot),
            Record::Accept(accept) => {
                check(accept.slot == self.len(), "an accepted entry does not follow the end of the log")?;
                self.push(&accept.entry, position);
                self.choose(accept.chosen)?;
            }
            Record::Synchronise(synchronise) => self.synchronise(synchronise, position)?,
            Record::Learn(learn) => self.learn(learn, position)?,
            Record::Chosen(chosen) => self.choose(*chosen)?,
            Record::Doubt(_) => self.doubtful = true,
            Record::Base(base) => self.rebase(base, position)?,
            Record::Snapshot(slot) => self.snapshot(*slot)?,
        }
        assert_eq!(self.index.len(), self.len(), "the index covers the log");
        Ok(())
    }

    fn synchronise(&mut self, record: &SynchroniseRecord, position: Position) -> Result<(), Violation> {
        let inside = record.from >= self.chosen && record.from <= self.len();
        check(inside, "a synchronisation begins outside the part of the log that may be replaced")?;
        self.truncate(record.from);
        record.entries.iter().for_each(|entry| self.push(entry, position));
        self.accepted = record.ballot;
        self.promise = self.promise.max(record.ballot);
        self.doubtful = false;
        self.choose(record.chosen)
    }

    fn learn(&mut self, record: &LearnRecord, position: Position) -> Result<(), Violation> {
        let inside = record.start >= self.chosen && record.start <= self.len();
        check(inside, "learned entries begin outside the part of the log that may be replaced")?;
        // A replica may know more to be chosen than it has written down.
        self.choose(record.start)?;
        let overlap = self.tail.len().min(record.entries.len());
        if self.tail.iter().zip(&record.entries).any(|(mine, chosen)| mine != chosen) {
            self.truncate(record.start);
            record.entries.iter().for_each(|entry| self.push(entry, position));
        } else {
            record.entries[overlap..].iter().for_each(|entry| self.push(entry, position));
        }
        self.choose(record.start.plus(record.entries.len()))
    }

    /// What the records before add up to is said again: nothing changes but where it stands.
    fn rebase(&mut self, base: &BaseRecord, position: Position) -> Result<(), Violation> {
        let same = (self.accepted, self.start, self.chosen) == (base.accepted, base.start, base.chosen)
            && self.doubtful == base.doubtful
            && self.promise <= base.promise
            && self.tail.iter().eq(&base.tail);
        check(same, "what is said again is not what the records before add up to")?;
        self.promise = base.promise;
        self.index.truncate(self.chosen);
        base.tail.iter().for_each(|_| self.index.push(position));
        Ok(())
    }

    /// The log begins anew at `slot`. What was accepted from there on stays: if what lies below is not what was chosen,
    /// it counts no more and no less than before.
    fn snapshot(&mut self, slot: Slot) -> Result<(), Violation> {
        check(slot >= self.start, "a snapshot is older than the one before")?;
        let known = slot.distance_from(self.chosen).min(self.tail.len());
        self.tail.drain(..known);
        self.chosen = self.chosen.max(slot);
        self.start = slot;
        self.index.release(slot);
        Ok(())
    }

    fn push(&mut self, entry: &Bytes, position: Position) {
        self.tail.push_back(entry.clone());
        self.index.push(position);
    }

    fn truncate(&mut self, length: Slot) {
        self.tail.truncate(length.distance_from(self.chosen));
        self.index.truncate(length);
    }

    fn choose(&mut self, chosen: Slot) -> Result<(), Violation> {
        check(chosen <= self.len(), "more is chosen than the log has")?;
        self.tail.drain(..chosen.distance_from(self.chosen));
        self.chosen = self.chosen.max(chosen);
        Ok(())
    }

    /// From here on the end of the log is doubtful, until a synchronisation.
    pub fn doubt(&mut self) {
        self.doubtful = true;
    }

    /// A promise that was kept elsewhere, too.
    pub fn raise_promise(&mut self, promise: Ballot) {
        self.promise = self.promise.max(promise);
    }

    /// The number of entries.
    pub fn len(&self) -> Slot {
        self.chosen.plus(self.tail.len())
    }

    /// Whether there are no entries.
    pub fn is_empty(&self) -> bool {
        self.len() == Slot(0)
    }

    /// The highest promise, that of a synchronisation included.
    pub fn promise(&self) -> Ballot {
        self.promise
    }

    /// Where the entry of a slot is.
    pub fn locate(&self, slot: Slot) -> Option<Position> {
        self.index.get(slot)
    }

    /// Where the log begins: entries below are not needed, the state before is in a snapshot.
    pub fn start(&self) -> Slot {
        self.start
    }

    /// Whether every entry is there that is needed.
    pub fn is_whole(&self) -> bool {
        self.index.start() <= self.start
    }

    /// The segment of the oldest entry that is needed, if there is any.
    pub fn oldest(&self) -> Option<u32> {
        self.index.get(self.start).map(|position| position.segment)
    }

    /// The state after a base: where the chosen entries are is not known.
    pub fn from_base(base: &BaseRecord, position: Position) -> GroupLog {
        let mut index = Index::starting_at(base.chosen);
        base.tail.iter().for_each(|_| index.push(position));
        let accepted = if is_planted(Bug::BaseForgetsAccepted) { Ballot::default() } else { base.accepted };
        GroupLog {
            promise: base.promise,
            accepted,
            start: base.start,
            chosen: base.chosen,
            tail: base.tail.iter().cloned().collect(),
            doubtful: base.doubtful,
            index,
        }
    }

    /// What all records so far add up to, the chosen entries aside.
    pub fn base(&self) -> BaseRecord {
        BaseRecord {
            promise: self.promise,
            accepted: self.accepted,
            start: self.start,
            chosen: self.chosen,
            tail: self.tail.iter().cloned().collect(),
            doubtful: self.doubtful,
        }
    }

    /// What a replica starts from.
    pub fn recovered(&self) -> Recovered {
        Recovered {
            start: self.start,
            promise: self.promise,
            accepted: self.accepted,
            chosen: self.chosen,
            tail: self.tail.iter().cloned().collect(),
            doubtful: self.doubtful,
        }
    }
}

fn check(holds: bool, what: &'static str) -> Result<(), Violation> {
    if holds { Ok(()) } else { Err(Violation(what)) }
}

/// The entries in a record with the position of the first; nothing if it carries none.
pub fn entries(record: Record) -> Option<(Slot, Vec<Bytes>)> {
    match record {
        Record::Accept(accept) => Some((accept.slot, vec![accept.entry])),
        Record::Synchronise(synchronise) => Some((synchronise.from, synchronise.entries)),
        Record::Learn(learn) => Some((learn.start, learn.entries)),
        // Only what was not chosen then stands there.
        Record::Base(base) => Some((base.chosen, base.tail)),
        Record::Promise(_) | Record::Chosen(_) | Record::Doubt(_) | Record::Snapshot(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::ReplicaId;
    use crate::log::record::AcceptRecord;
    use crate::message::operator::Nothing;

    fn bytes(text: &'static str) -> Bytes {
        Bytes::from_static(text.as_bytes())
    }

    fn ballot(round: u64) -> Ballot {
        Ballot { round, replica: ReplicaId(1) }
    }

    fn accept(slot: u64, chosen: u64, entry: &'static str) -> Record {
        Record::Accept(AcceptRecord { slot: Slot(slot), chosen: Slot(chosen), entry: bytes(entry) })
    }

    fn synchronise(round: u64, from: u64, entries: &[&'static str], chosen: u64) -> Record {
        let entries = entries.iter().map(|entry| bytes(entry)).collect();
        Record::Synchronise(SynchroniseRecord {
            ballot: ballot(round),
            from: Slot(from),
            entries,
            chosen: Slot(chosen),
        })
    }

    fn learn(start: u64, entries: &[&'static str]) -> Record {
        Record::Learn(LearnRecord { start: Slot(start), entries: entries.iter().map(|entry| bytes(entry)).collect() })
    }

    fn after(records: &[Record]) -> Result<GroupLog, Violation> {
        let mut state = GroupLog::default();
        for (number, record) in records.iter().enumerate() {
            state.apply(record, Position { segment: 1, offset: number as u32 })?;
        }
        Ok(state)
    }

    /// Accepted, chosen, tail as words, and the record of each slot.
    fn shape(records: &[Record]) -> (u64, u64, String, Vec<u32>) {
        let state = after(records).unwrap();
        let recovered = state.recovered();
        let words: Vec<_> = recovered.tail.iter().map(|entry| std::str::from_utf8(entry).unwrap()).collect();
        let index = (0..state.len().0).map(|slot| state.locate(Slot(slot)).unwrap().offset).collect();
        (recovered.accepted.round, recovered.chosen.0, words.join(" "), index)
    }

    #[test]
    fn a_synchronisation_replaces_the_end_of_the_log_whole() {
        let old = [synchronise(1, 0, &["a"], 0), accept(1, 1, "b"), accept(2, 1, "c")];
        assert_eq!(shape(&old), (1, 1, "b c".into(), vec![0, 1, 2]));
        let new = [&old[..], &[synchronise(2, 1, &["x"], 1)]].concat();
        assert_eq!(shape(&new), (2, 1, "x".into(), vec![0, 3]));
        let shorter = [&old[..], &[synchronise(2, 2, &[], 2)]].concat();
        assert_eq!(shape(&shorter), (2, 2, String::new(), vec![0, 1]));
    }

    #[test]
    fn learning_keeps_what_agrees_and_drops_what_follows_a_difference() {
        let old = [synchronise(1, 0, &["a", "b", "c"], 1)];
        let same = [&old[..], &[learn(1, &["b"])]].concat();
        assert_eq!(shape(&same), (1, 2, "c".into(), vec![0, 0, 0]));
        let longer = [&old[..], &[learn(1, &["b", "c", "d"])]].concat();
        assert_eq!(shape(&longer), (1, 4, String::new(), vec![0, 0, 0, 1]));
        let further = [&old[..], &[learn(2, &["c"])]].concat();
        assert_eq!(shape(&further), (1, 3, String::new(), vec![0, 0, 0]));
        let other = [&old[..], &[learn(1, &["x"])]].concat();
        assert_eq!(shape(&other), (1, 2, String::new(), vec![0, 1]));
    }

    #[test]
    fn a_synchronisation_promises_and_cures_doubt() {
        let records = [Record::Promise(ballot(3)), Record::Promise(ballot(2)), Record::Doubt(Nothing {})];
        let state = after(&records).unwrap();
        assert_eq!((state.promise(), state.recovered().doubtful), (ballot(3), true));
        let state = after(&[&records[..], &[synchronise(4, 0, &[], 0)]].concat()).unwrap();
        assert_eq!((state.promise(), state.recovered().doubtful), (ballot(4), false));
        let state = after(&[&records[..], &[accept(0, 0, "a")]].concat()).unwrap();
        assert!(state.recovered().doubtful);
    }

    #[test]
    fn what_cannot_follow_is_refused() {
        let old = [synchronise(1, 0, &["a", "b", "c"], 1)];
        let wrong = [
            accept(2, 1, "x"),
            accept(4, 1, "x"),
            accept(3, 5, "x"),
            synchronise(2, 0, &["a"], 1),
            synchronise(2, 4, &["a"], 1),
            synchronise(2, 1, &["a"], 3),
            learn(0, &["a"]),
            learn(4, &["e"]),
            Record::Chosen(Slot(4)),
        ];
        for record in wrong {
            assert!(after(&[&old[..], std::slice::from_ref(&record)].concat()).is_err(), "{record:?}");
        }
        assert!(after(&[&old[..], &[Record::Chosen(Slot(3))]].concat()).is_ok());
        assert!(after(&[&old[..], &[learn(3, &["d"])]].concat()).is_ok());
    }
}
