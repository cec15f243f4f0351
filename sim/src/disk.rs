//! The simulated disk: what was synced stays, what was not may be lost.
//!
//! [`Disk`] is what the world needs of a node's log. [`MemoryDisk`] keeps records as values and knows what they mean;
//! a disk of real bytes has the same interface.

use std::collections::BTreeMap;

use bytes::Bytes;

use drachma_protocol::ids::{Ballot, GroupId, Slot};
use drachma_protocol::log::record::{LearnRecord, Record, Recovered, SynchroniseRecord};
use drachma_protocol::message::operator::Nothing;
use drachma_protocol::rng::Rng;

use crate::draw::permille;

/// How a node goes down.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Crash {
    /// The process is killed: what it wrote stays in the page cache and is found again.
    Kill,
    /// The machine goes down: what was not synced is lost from some point on; in `torn` of 1,000 cases the end of the
    /// log shows bad bytes.
    PowerLoss {
        /// Per 1,000.
        torn: u64,
    },
}

/// The log of one node.
pub trait Disk {
    /// Writes records of a group; they are not yet durable.
    ///
    /// # Errors
    /// If the records do not follow from those before: a broken replica.
    fn append(&mut self, group: GroupId, records: &[Record]) -> Result<(), String>;

    /// A sync begins: it covers what was appended so far.
    fn start_sync(&mut self);

    /// The sync that was begun is done.
    fn finish_sync(&mut self);

    /// The node goes down, and comes back with what it finds on its disk.
    fn crash(&mut self, crash: Crash, rng: &mut Rng);

    /// What a starting node finds of a group; it is durable before the node speaks (hazard S29).
    fn recover(&mut self, group: GroupId) -> Recovered;

    /// Entries in `[from, until)`, as many as fit `bytes` but at least one, as far as there are any.
    fn read(&self, group: GroupId, from: Slot, until: Slot, bytes: usize) -> Vec<Bytes>;
}

/// The log as values.
#[derive(Debug, Default)]
pub struct MemoryDisk {
    records: Vec<(GroupId, Record)>,
    syncing: usize,
    synced: usize,
    images: BTreeMap<GroupId, Image>,
}

/// What the records of a group add up to.
#[derive(Clone, Debug, Default, PartialEq)]
struct Image {
    promise: Ballot,
    accepted: Ballot,
    chosen: Slot,
    log: Vec<Bytes>,
    doubtful: bool,
}

impl Image {
    fn apply(&mut self, record: &Record) -> Result<(), String> {
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
            Record::Doubt(_) => self.doubtful = true,
        }
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
        self.doubtful = false;
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
}

impl MemoryDisk {
    fn rebuild(&mut self) {
        self.images.clear();
        for (group, record) in &self.records {
            let applied = self.images.entry(*group).or_default().apply(record);
            applied.expect("a prefix of records that followed from each other does so, too");
        }
        self.synced = self.records.len();
        self.syncing = self.synced;
    }
}

impl Disk for MemoryDisk {
    fn append(&mut self, group: GroupId, records: &[Record]) -> Result<(), String> {
        let image = self.images.entry(group).or_default();
        for record in records {
            image.apply(record)?;
            self.records.push((group, record.clone()));
        }
        Ok(())
    }

    fn start_sync(&mut self) {
        self.syncing = self.records.len();
    }

    fn finish_sync(&mut self) {
        self.synced = self.syncing;
    }

    fn crash(&mut self, crash: Crash, rng: &mut Rng) {
        if let Crash::PowerLoss { torn } = crash {
            let unsynced = self.records.len() - self.synced;
            let kept = rng.below(unsynced as u64 + 1) as usize;
            self.records.truncate(self.synced + kept);
            if kept < unsynced && permille(rng, torn) {
                // Nobody can tell whose record the bad bytes were.
                let groups: Vec<GroupId> = self.images.keys().copied().collect();
                self.records.extend(groups.into_iter().map(|group| (group, Record::Doubt(Nothing {}))));
            }
        }
        self.rebuild();
    }

    fn recover(&mut self, group: GroupId) -> Recovered {
        let image = self.images.entry(group).or_default();
        Recovered {
            promise: image.promise,
            accepted: image.accepted,
            chosen: image.chosen,
            tail: image.log[image.chosen.0 as usize..].to_vec(),
            doubtful: image.doubtful,
        }
    }

    fn read(&self, group: GroupId, from: Slot, until: Slot, bytes: usize) -> Vec<Bytes> {
        let Some(image) = self.images.get(&group) else { return Vec::new() };
        let until = (until.0 as usize).min(image.log.len());
        let from = (from.0 as usize).min(until);
        let mut budget = bytes;
        let fits = |entry: &&Bytes| {
            let fits = entry.len() <= budget || budget == bytes;
            budget = budget.saturating_sub(entry.len());
            fits
        };
        image.log[from..until].iter().take_while(fits).cloned().collect()
    }
}

#[cfg(test)]
mod tests {
    use drachma_protocol::ids::ReplicaId;
    use drachma_protocol::log::record::AcceptRecord;

    use super::*;

    const G: GroupId = GroupId(1);

    fn ballot(round: u64) -> Ballot {
        Ballot { round, replica: ReplicaId(1) }
    }

    fn accept(slot: u64) -> Record {
        Record::Accept(AcceptRecord { slot: Slot(slot), chosen: Slot(0), entry: entry(slot) })
    }

    fn entry(number: u64) -> Bytes {
        Bytes::copy_from_slice(&number.to_be_bytes())
    }

    fn synchronise(round: u64, from: u64, entries: &[u64]) -> Record {
        let entries = entries.iter().copied().map(entry).collect();
        Record::Synchronise(SynchroniseRecord { ballot: ballot(round), from: Slot(from), entries, chosen: Slot(0) })
    }

    #[test]
    fn a_power_loss_keeps_what_was_synced_and_a_prefix_of_the_rest() {
        let mut kept = std::collections::BTreeSet::new();
        for seed in 0..100 {
            let mut disk = MemoryDisk::default();
            disk.append(G, &[Record::Promise(ballot(1)), accept(0)]).unwrap();
            disk.start_sync();
            disk.append(G, &[accept(1), accept(2)]).unwrap();
            disk.finish_sync();
            disk.crash(Crash::PowerLoss { torn: 0 }, &mut Rng::new(seed));
            let recovered = disk.recover(G);
            assert_eq!((recovered.promise, recovered.doubtful), (ballot(1), false));
            kept.insert(recovered.tail.len());
        }
        assert_eq!(kept, [1, 2, 3].into());
    }

    #[test]
    fn a_killed_process_finds_what_it_wrote() {
        let mut disk = MemoryDisk::default();
        disk.append(G, &[accept(0)]).unwrap();
        disk.crash(Crash::Kill, &mut Rng::new(1));
        assert_eq!(disk.recover(G).tail, [entry(0)]);
    }

    #[test]
    fn a_torn_end_is_doubtful_until_a_synchronisation() {
        let mut disk = MemoryDisk::default();
        let mut seed = 0;
        loop {
            disk.append(G, &[Record::Promise(ballot(1))]).unwrap();
            disk.crash(Crash::PowerLoss { torn: 1000 }, &mut Rng::new(seed));
            seed += 1;
            if disk.recover(G).doubtful {
                break;
            }
        }
        disk.crash(Crash::Kill, &mut Rng::new(seed));
        assert!(disk.recover(G).doubtful, "doubt survives another crash");
        disk.append(G, &[synchronise(2, 0, &[7])]).unwrap();
        let recovered = disk.recover(G);
        assert_eq!((recovered.doubtful, recovered.accepted, recovered.tail), (false, ballot(2), vec![entry(7)]));
    }

    #[test]
    fn learning_keeps_what_follows_only_if_it_agrees() {
        let learn = |entries: &[u64]| {
            let mut disk = MemoryDisk::default();
            disk.append(G, &[accept(0), accept(1), accept(2)]).unwrap();
            let entries = entries.iter().copied().map(entry).collect();
            disk.append(G, &[Record::Learn(LearnRecord { start: Slot(0), entries })]).unwrap();
            disk.read(G, Slot(0), Slot(9), usize::MAX)
        };
        assert_eq!(learn(&[0, 1]), [entry(0), entry(1), entry(2)]);
        assert_eq!(learn(&[0, 9]), [entry(0), entry(9)]);
        assert_eq!(learn(&[0, 1, 2, 3]), [entry(0), entry(1), entry(2), entry(3)]);
    }

    #[test]
    fn records_that_do_not_follow_are_refused() {
        let mut disk = MemoryDisk::default();
        disk.append(G, &[accept(0)]).unwrap();
        assert!(disk.append(G, &[accept(0)]).is_err());
        assert!(disk.append(G, &[Record::Chosen(Slot(2))]).is_err());
        disk.append(G, &[Record::Chosen(Slot(1))]).unwrap();
        assert!(disk.append(G, &[synchronise(1, 0, &[4])]).is_err(), "below what is chosen");
        disk.append(G, &[Record::Promise(ballot(3))]).unwrap();
        assert!(disk.append(G, &[synchronise(2, 1, &[4])]).is_err(), "under less than was promised");
    }

    #[test]
    fn a_read_has_at_least_one_entry() {
        let mut disk = MemoryDisk::default();
        disk.append(G, &[accept(0), accept(1), accept(2)]).unwrap();
        assert_eq!(disk.read(G, Slot(1), Slot(3), 1), [entry(1)]);
        assert_eq!(disk.read(G, Slot(0), Slot(3), 16), [entry(0), entry(1)]);
        assert_eq!(disk.read(G, Slot(3), Slot(9), 16), Vec::<Bytes>::new());
    }
}
