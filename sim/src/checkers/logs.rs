//! What is on the disks: the log of every replica of a group, one hash per slot, and what follows from them all: what a
//! leader's sequence is, and what is chosen. Built from the records that replicas write and from when they are durable.

use std::collections::{BTreeMap, VecDeque};

use bytes::Bytes;
use xxhash_rust::xxh3::xxh3_64;

use drachma_protocol::ids::{Ballot, NodeId, Slot};
use drachma_protocol::log::record::{LearnRecord, Record, Recovered, SynchroniseRecord};
use drachma_protocol::role::Token;

use super::Verdict;

/// The disks of a group's replicas.
#[derive(Default)]
pub struct Logs {
    majority: usize,
    sequences: BTreeMap<Ballot, Sequence>,
    // By slot: what is chosen, and under which ballot that was seen first.
    chosen: Vec<(u64, Ballot)>,
    logs: BTreeMap<NodeId, Log>,
}

/// What was accepted under one ballot, by slot: only one thing may be.
#[derive(Default)]
struct Sequence {
    entries: BTreeMap<u64, u64>,
    // How much of it a majority has on disk.
    held: u64,
}

impl Sequence {
    /// How many entries of a log are this sequence's; what lies before its first known entry is chosen.
    fn matches(&self, log: &[u64]) -> u64 {
        let Some((first, _)) = self.entries.first_key_value() else { return log.len() as u64 };
        self.matches_from(log, *first)
    }

    fn matches_from(&self, log: &[u64], from: u64) -> u64 {
        let own = log.iter().enumerate().skip(from as usize);
        let other =
            own.map(|(slot, hash)| (slot as u64, *hash)).find(|(slot, hash)| self.entries.get(slot) != Some(hash));
        other.map_or(log.len() as u64, |(slot, _)| slot)
    }
}

/// How much of a log is the sequence of its ballot, and how long it is.
#[derive(Clone, Copy, Debug, Default)]
struct Extent {
    accepted: Ballot,
    length: u64,
    matched: u64,
}

#[derive(Default)]
struct Log {
    accepted: Ballot,
    entries: Vec<u64>,
    chosen: u64,
    matched: u64,
    on_disk: Extent,
    pending: VecDeque<(Token, Extent)>,
    // The most that was ever durable under each ballot.
    durable: BTreeMap<Ballot, Extent>,
}

impl Log {
    fn extent(&self) -> Extent {
        Extent { accepted: self.accepted, length: self.entries.len() as u64, matched: self.matched }
    }

    /// The shortest that the log may be found after a restart: learning what is chosen may have shortened it.
    fn least(&self, accepted: Ballot) -> u64 {
        let extents = self.pending.iter().map(|(_, extent)| extent).chain([&self.on_disk]);
        let shorter = extents.map(|extent| if extent.accepted == accepted { extent.length } else { 0 });
        shorter.min().unwrap_or(0)
    }

    fn make_durable(&mut self, extent: Extent) {
        self.on_disk = extent;
        let most = self.durable.entry(extent.accepted).or_default();
        most.accepted = extent.accepted;
        most.length = most.length.max(extent.length);
        most.matched = most.matched.max(extent.matched);
    }
}

impl Logs {
    /// The disks of a group of so many replicas.
    pub fn new(replicas: usize) -> Logs {
        Logs { majority: replicas / 2 + 1, ..Logs::default() }
    }

    /// A replica writes.
    ///
    /// # Errors
    /// If what it writes contradicts what another one has accepted, or what is chosen.
    pub fn write(&mut self, node: NodeId, token: Token, records: &[Record]) -> Verdict {
        for record in records {
            match record {
                Record::Accept(accept) => {
                    self.accept(node, accept.slot, &accept.entry)?;
                    self.claim(node, accept.chosen)?;
                }
                Record::Synchronise(record) => self.synchronise(node, record)?,
                Record::Learn(record) => self.learn(node, record)?,
                Record::Chosen(chosen) => self.claim(node, *chosen)?,
                Record::Snapshot(slot) => self.snapshot(node, *slot)?,
                Record::Promise(_) | Record::Doubt(_) | Record::Base(_) => {}
            }
        }
        let log = self.logs.entry(node).or_default();
        log.pending.push_back((token, log.extent()));
        Ok(())
    }

    /// What a replica wrote under `token` and before is durable.
    ///
    /// # Errors
    /// If two values are chosen for a slot by that.
    pub fn durable(&mut self, node: NodeId, token: Token) -> Verdict {
        let log = self.logs.entry(node).or_default();
        let mut ballots = Vec::new();
        while let Some((_, extent)) = log.pending.pop_front_if(|(given, _)| *given <= token) {
            log.make_durable(extent);
            if ballots.last() != Some(&extent.accepted) {
                ballots.push(extent.accepted);
            }
        }
        ballots.into_iter().try_for_each(|ballot| self.count(ballot))
    }

    /// A replica starts with what it recovered, which is durable.
    ///
    /// # Errors
    /// If it is not what was written, or two values are chosen for a slot by it.
    pub fn restart(&mut self, node: NodeId, recovered: &Recovered, damaged: bool) -> Verdict {
        let log = self.logs.entry(node).or_default();
        let least = log.least(recovered.accepted);
        log.pending.clear();
        let chosen = recovered.chosen.0;
        let found = chosen + recovered.tail.len() as u64;
        if !damaged && !recovered.doubtful && (found < least || chosen > log.entries.len() as u64) {
            return Err(format!("had {least} entries on disk, wrote {}, and restarts with {found}", log.entries.len()));
        }
        log.entries.truncate(chosen as usize);
        if (log.entries.len() as u64) < chosen {
            return Err(format!("restarts with {chosen} chosen entries, more than it ever had"));
        }
        log.entries.extend(recovered.tail.iter().map(|entry| xxh3_64(entry)));
        (log.accepted, log.chosen) = (recovered.accepted, chosen);
        let sequence = self.sequences.entry(recovered.accepted).or_default();
        log.matched = sequence.matches(&log.entries);
        if log.accepted > Ballot::default() {
            log.make_durable(log.extent());
        }
        self.count(recovered.accepted)
    }

    /// How long the log of a replica has been on its disk under a ballot, at the most.
    pub fn durable_length(&self, node: NodeId, ballot: Ballot) -> u64 {
        self.logs.get(&node).and_then(|log| log.durable.get(&ballot)).map_or(0, |extent| extent.length)
    }

    /// How much of a ballot's log a majority has or had on disk under it.
    pub fn held(&self, ballot: Ballot) -> Slot {
        Slot(self.sequences.get(&ballot).map_or(0, |sequence| sequence.held))
    }

    /// Whether the entries of a replica up to `until` are chosen: a majority has or had them on disk.
    ///
    /// # Errors
    /// If they are not.
    pub fn claim(&mut self, node: NodeId, until: Slot) -> Verdict {
        let log = self.logs.entry(node).or_default();
        for slot in log.chosen..until.0 {
            let own = log.entries.get(slot as usize);
            let chosen = self.chosen.get(slot as usize).map(|(hash, _)| hash);
            match (own, chosen) {
                (None, _) => return Err(format!("takes slot {slot} for chosen, which it does not have")),
                (_, None) => return Err(format!("takes slot {slot} for chosen, which no majority has on disk")),
                (own, chosen) if own != chosen => {
                    return Err(format!("takes an entry for chosen at slot {slot}, where another one is"));
                }
                _ => {}
            }
        }
        log.chosen = log.chosen.max(until.0);
        Ok(())
    }

    fn accept(&mut self, node: NodeId, slot: Slot, entry: &Bytes) -> Verdict {
        let log = self.logs.entry(node).or_default();
        if slot.0 != log.entries.len() as u64 {
            return Err(format!("accepts slot {slot} after a log of {}", log.entries.len()));
        }
        let hash = xxh3_64(entry);
        let sequence = self.sequences.entry(log.accepted).or_default();
        if *sequence.entries.entry(slot.0).or_insert(hash) != hash {
            return Err(format!("accepts another entry at slot {slot} under {} than others did", log.accepted));
        }
        log.entries.push(hash);
        log.matched = sequence.matches_from(&log.entries, log.matched);
        Ok(())
    }

    fn synchronise(&mut self, node: NodeId, record: &SynchroniseRecord) -> Verdict {
        let (ballot, from) = (record.ballot, record.from.0);
        self.claim(node, record.from)?;
        let end = from + record.entries.len() as u64;
        if self.chosen.get(end as usize).is_some_and(|(_, chosen)| *chosen < ballot) {
            return Err(format!("is given a log of {end} under {ballot}, shorter than what is chosen before it"));
        }
        let log = self.logs.entry(node).or_default();
        let sequence = self.sequences.entry(ballot).or_default();
        log.entries.truncate(from as usize);
        for (slot, entry) in (from..).zip(&record.entries) {
            let hash = xxh3_64(entry);
            if *sequence.entries.entry(slot).or_insert(hash) != hash {
                return Err(format!("is given another entry at slot {slot} under {ballot} than others were"));
            }
            let chosen = self.chosen.get(slot as usize);
            if chosen.is_some_and(|(other, chosen)| *other != hash && *chosen < ballot) {
                return Err(format!("is given an entry at slot {slot} under {ballot} where another one was chosen"));
            }
            log.entries.push(hash);
        }
        log.accepted = ballot;
        log.matched = sequence.matches(&log.entries);
        self.claim(node, record.chosen)
    }

    fn learn(&mut self, node: NodeId, record: &LearnRecord) -> Verdict {
        self.claim(node, record.start)?;
        let log = self.logs.entry(node).or_default();
        for (slot, entry) in (record.start.0 as usize..).zip(&record.entries) {
            let hash = xxh3_64(entry);
            if log.entries.get(slot).is_some_and(|own| *own != hash) {
                log.entries.truncate(slot);
            }
            if slot == log.entries.len() {
                log.entries.push(hash);
            }
        }
        let sequence = self.sequences.entry(log.accepted).or_default();
        log.matched = sequence.matches_from(&log.entries, log.matched.min(record.start.0));
        self.claim(node, record.start.plus(record.entries.len()))
    }

    /// The state after `slot` entries takes their place: all of them are chosen. What the replica had accepted beyond
    /// stays.
    fn snapshot(&mut self, node: NodeId, slot: Slot) -> Verdict {
        let log = self.logs.entry(node).or_default();
        let Some(chosen) = self.chosen.get(..slot.0 as usize) else {
            return Err(format!("has a snapshot at {slot}, and {} entries are chosen", self.chosen.len()));
        };
        if slot.0 <= log.chosen {
            return Ok(()); // Its own.
        }
        let from = (log.chosen as usize).min(chosen.len());
        let kept = log.entries.split_off(log.entries.len().min(chosen.len()));
        log.entries.truncate(from);
        log.entries.extend(chosen[from..].iter().map(|(hash, _)| hash));
        log.entries.extend(kept);
        let sequence = self.sequences.entry(log.accepted).or_default();
        log.matched = sequence.matches(&log.entries);
        self.claim(node, slot)
    }

    /// What a majority has on disk under a ballot is chosen.
    fn count(&mut self, ballot: Ballot) -> Verdict {
        let Some(sequence) = self.sequences.get_mut(&ballot) else { return Ok(()) };
        let matched = |log: &Log| log.durable.get(&ballot).map_or(0, |extent| extent.matched);
        let mut lengths: Vec<u64> = self.logs.values().map(matched).collect();
        lengths.sort_unstable_by(|a, b| b.cmp(a));
        let held = lengths.get(self.majority.saturating_sub(1)).copied().unwrap_or(0);
        for slot in sequence.held..held {
            let Some(hash) = sequence.entries.get(&slot) else { continue };
            match self.chosen.get(slot as usize) {
                None if self.chosen.len() as u64 == slot => self.chosen.push((*hash, ballot)),
                None => return Err(format!("{ballot} has slot {slot} chosen, and nobody the one before")),
                Some((other, _)) if other == hash => {}
                Some((_, first)) => {
                    return Err(format!("slot {slot} has two values: one chosen under {first}, one under {ballot}"));
                }
            }
        }
        sequence.held = sequence.held.max(held);
        Ok(())
    }
}
