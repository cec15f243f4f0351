//! Locks on keys and on pending transfers: what prepared transactions have read or will write, and who waits for that.
//!
//! A key that is read is locked shared, one that is written exclusively, and a scan locks its range, absent keys
//! included (hazard S6). Locks are held from prepare to resolve only: an operation of one group is carried out at once
//! or waits, and holds nothing. Whoever waits for a key waits at the key's part, and is looked at again when anything
//! of that part is released. A pending transfer is a part of its own: whoever begins or ends it locks it, so that it ends
//! once, and in both groups alike.

use std::collections::{BTreeMap, BTreeSet};

use super::doubt::{Ahead, Rank};
use super::operations::{Key, Scan};
use super::queue::{Lane, Turn};
use crate::ids::TxnId;
use crate::planted::{Bug, is_planted};
use crate::table::Table;
use crate::wire::codec::{Decode, DecodeError, Encode, Reader, to_vec};

/// The most operations that wait at one part, and the most locks that they wait for: each newcomer is compared with them.
const WAITING_LIMIT: usize = 4096;

/// What an operation does with a key, or with a range.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) enum Lock {
    /// Reads it: others may, too.
    Shared(Key),
    /// Writes it.
    Exclusive(Key),
    /// Reads whatever lies in it.
    Range(Scan),
    /// Begins or ends a pending transfer: one at a time.
    Pending(TxnId),
}

/// Names a part: where operations wait. Parts of one hash share their waiters, which costs a look and no more.
#[derive(Clone, Copy, Debug, Default, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub(super) struct PartId(u64);

impl PartId {
    /// The part that a key lies in.
    pub(super) fn of(key: &Key) -> PartId {
        PartId(xxhash_rust::xxh3::xxh3_64(key.part()))
    }
}

impl Lock {
    /// The key, or the first of the range; nothing of a pending transfer.
    pub(super) fn key(&self) -> Option<&Key> {
        match self {
            Lock::Shared(key) | Lock::Exclusive(key) => Some(key),
            Lock::Range(scan) => Some(&scan.from),
            Lock::Pending(_) => None,
        }
    }

    /// Where one waits for it.
    pub(super) fn part(&self) -> PartId {
        match self {
            Lock::Shared(key) | Lock::Exclusive(key) | Lock::Range(Scan { from: key, .. }) => PartId::of(key),
            Lock::Pending(txn) => PartId(xxhash_rust::xxh3::xxh3_64(&to_vec(txn))),
        }
    }
}

impl Encode for Lock {
    fn encode(&self, out: &mut Vec<u8>) {
        match self {
            Lock::Shared(key) => (1u8, key).encode(out),
            Lock::Exclusive(key) => (2u8, key).encode(out),
            Lock::Range(scan) => (3u8, scan).encode(out),
            Lock::Pending(txn) => (4u8, txn).encode(out),
        }
    }
}

impl Decode for Lock {
    fn decode(reader: &mut Reader<'_>) -> Result<Lock, DecodeError> {
        reader.array_of(2)?;
        match reader.uint()? {
            1 => Key::decode(reader).map(Lock::Shared),
            2 => Key::decode(reader).map(Lock::Exclusive),
            3 => Scan::decode(reader).map(Lock::Range),
            4 => TxnId::decode(reader).map(Lock::Pending),
            tag => Err(DecodeError::Tag(tag)),
        }
    }
}

/// Locks of many owners.
#[derive(Clone)]
struct Index<O> {
    keys: BTreeMap<Key, BTreeMap<O, bool>>,
    ranges: BTreeMap<O, Vec<Scan>>,
    pendings: BTreeMap<TxnId, BTreeSet<O>>,
    len: usize,
}

impl<O> Default for Index<O> {
    fn default() -> Index<O> {
        Index { keys: BTreeMap::new(), ranges: BTreeMap::new(), pendings: BTreeMap::new(), len: 0 }
    }
}

impl<O: Copy + Ord> Index<O> {
    fn insert(&mut self, owner: O, lock: &Lock) {
        self.len += 1;
        match lock {
            Lock::Shared(key) | Lock::Exclusive(key) => {
                let exclusive = matches!(lock, Lock::Exclusive(_));
                *self.keys.entry(key.clone()).or_default().entry(owner).or_default() |= exclusive;
            }
            Lock::Range(scan) => self.ranges.entry(owner).or_default().push(scan.clone()),
            Lock::Pending(txn) => {
                self.pendings.entry(*txn).or_default().insert(owner);
            }
        }
    }

    fn remove(&mut self, owner: O, lock: &Lock) {
        self.len = self.len.checked_sub(1).expect("what is let go was locked");
        match lock {
            Lock::Shared(key) | Lock::Exclusive(key) => {
                if let Some(owners) = self.keys.get_mut(key) {
                    owners.remove(&owner);
                    if owners.is_empty() {
                        self.keys.remove(key);
                    }
                }
            }
            Lock::Range(_) => {
                self.ranges.remove(&owner);
            }
            Lock::Pending(txn) => {
                if let Some(owners) = self.pendings.get_mut(txn) {
                    owners.remove(&owner);
                    if owners.is_empty() {
                        self.pendings.remove(txn);
                    }
                }
            }
        }
    }

    /// Whoever has a lock that excludes this one.
    fn in_way_of<'a>(&'a self, lock: &'a Lock) -> Box<dyn Iterator<Item = O> + 'a> {
        let writers =
            |owners: &'a BTreeMap<O, bool>| owners.iter().filter(|(_, exclusive)| **exclusive).map(|(o, _)| *o);
        match lock {
            Lock::Shared(key) => Box::new(self.keys.get(key).into_iter().flat_map(writers)),
            Lock::Exclusive(key) => {
                let excludes = |exclusive: bool| exclusive || !is_planted(Bug::SharedLockFree);
                let owners = self.keys.get(key).into_iter().flat_map(|owners| owners.iter());
                let owners = owners.filter(move |(_, exclusive)| excludes(**exclusive)).map(|(owner, _)| *owner);
                let ranges = self.ranges.iter().filter(|(_, scans)| scans.iter().any(|scan| scan.covers(key)));
                Box::new(owners.chain(ranges.map(|(owner, _)| *owner)))
            }
            Lock::Range(scan) => {
                let covered =
                    self.keys.range(&scan.from..).take_while(|(key, _)| scan.to.as_ref().is_none_or(|to| *key < to));
                Box::new(covered.filter(|(key, _)| scan.covers(key)).flat_map(move |(_, owners)| writers(owners)))
            }
            Lock::Pending(txn) => Box::new(self.pendings.get(txn).into_iter().flatten().copied()),
        }
    }
}

/// The locks of one part.
#[derive(Clone, Default)]
struct Part {
    held: Index<Rank>,
    claims: Index<(Turn, Rank)>,
    waiting: BTreeSet<Turn>,
}

/// The locks of a group.
#[derive(Clone)]
pub(super) struct Locks {
    parts: Table<PartId, Part>,
}

impl Locks {
    /// Nothing is locked.
    pub(super) fn new(seed: u64) -> Locks {
        Locks { parts: Table::new(seed, 64) }
    }

    fn part(&self, lock: &Lock) -> Option<&Part> {
        if self.parts.is_empty() { None } else { self.parts.get(&lock.part()) }
    }

    /// Whether an operation can have its locks now.
    pub(super) fn are_free(&self, locks: &[Lock], ahead: Ahead) -> bool {
        let free = |lock: &Lock| {
            let Some(part) = self.part(lock) else { return true };
            part.held.in_way_of(lock).next().is_none()
                && !part.claims.in_way_of(lock).any(|claim| is_ahead(claim, ahead))
        };
        locks.iter().all(free)
    }

    /// Whether there is room for one more to wait.
    pub(super) fn may_queue(&self, locks: &[Lock]) -> bool {
        locks.iter().all(|lock| self.part(lock).is_none_or(|part| part.claims.len + locks.len() <= WAITING_LIMIT))
    }

    /// Whether a prepare is older than everything in its way: then it may wait (hazards L1, L2).
    pub(super) fn may_wait(&self, locks: &[Lock], rank: Rank) -> bool {
        let older =
            |lock: &Lock| self.part(lock).is_none_or(|part| part.claims.in_way_of(lock).all(|(_, other)| rank < other));
        self.may_go_on_waiting(locks, rank) && locks.iter().all(older)
    }

    /// Whether a prepare that waits is still older than whatever was prepared in its way meanwhile.
    pub(super) fn may_go_on_waiting(&self, locks: &[Lock], rank: Rank) -> bool {
        let older =
            |lock: &Lock| self.part(lock).is_none_or(|part| part.held.in_way_of(lock).all(|other| rank < other));
        locks.iter().all(older)
    }

    /// Locks for a transaction that has voted yes.
    pub(super) fn hold(&mut self, locks: &[Lock], rank: Rank) {
        for lock in locks.iter().filter(|_| !is_planted(Bug::LocksNotHeld)) {
            self.part_mut(lock).held.insert(rank, lock);
        }
    }

    /// Lets go of a transaction's locks.
    pub(super) fn release(&mut self, locks: &[Lock], rank: Rank) {
        for lock in locks.iter().filter(|_| !is_planted(Bug::LocksNotHeld)) {
            self.part_mut(lock).held.remove(rank, lock);
            self.tidy(lock);
        }
    }

    /// An operation begins to wait for its locks.
    pub(super) fn claim(&mut self, turn: Turn, rank: Rank, locks: &[Lock]) {
        for lock in locks {
            let part = self.part_mut(lock);
            part.claims.insert((turn, rank), lock);
            part.waiting.insert(turn);
        }
    }

    /// It no longer waits.
    pub(super) fn unclaim(&mut self, turn: Turn, rank: Rank, locks: &[Lock]) {
        for lock in locks {
            let part = self.part_mut(lock);
            part.claims.remove((turn, rank), lock);
            part.waiting.remove(&turn);
            self.tidy(lock);
        }
    }

    /// The first operation that waits at a part, or the first after `after`.
    pub(super) fn next_waiting(&self, part: PartId, after: Option<Turn>) -> Option<Turn> {
        let waiting = &self.parts.get(&part)?.waiting;
        match after {
            None => waiting.first().copied(),
            Some(after) => {
                waiting.range((std::ops::Bound::Excluded(after), std::ops::Bound::Unbounded)).next().copied()
            }
        }
    }

    /// Whether what is to be read may change by a decision.
    pub(super) fn is_in_doubt(&self, lock: &Lock) -> bool {
        self.part(lock).is_some_and(|part| part.held.in_way_of(lock).next().is_some())
    }

    fn part_mut(&mut self, lock: &Lock) -> &mut Part {
        let id = lock.part();
        if self.parts.get(&id).is_none() {
            self.parts.insert(id, Part::default());
        }
        self.parts.get_mut(&id).expect("it was just put there")
    }

    fn tidy(&mut self, lock: &Lock) {
        let id = lock.part();
        if self.parts.get(&id).is_some_and(|part| part.held.len == 0 && part.claims.len == 0) {
            self.parts.remove(&id);
        }
    }
}

/// Whether an operation that waits goes first.
fn is_ahead((turn, rank): (Turn, Rank), ahead: Ahead) -> bool {
    match ahead {
        Ahead::All => true,
        Ahead::Older(own) => turn.lane != Lane::Local || rank < own,
        Ahead::Before(own) => turn < own,
    }
}
