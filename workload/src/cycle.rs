//! The cycle of FoundationDB's tests: keys form a ring, and each transaction rewires three successors.
//!
//! A client reads three successors, one after the other, and then exchanges the second and the third, if all of them are
//! still what it has read. Whatever is interleaved, the ring stays one ring of full length: a write that is lost, seen
//! half, or made upon an old read breaks it.

use drachma_protocol::ledger::operations::{Condition, Key, KeyIs, Operation, Reply, Value};
use drachma_protocol::rng::Rng;

use crate::jobs::{Ended, Job, Jobs, key, put, transaction};

/// A ring. All clients of one ring have the same.
#[derive(Clone, Debug)]
pub struct Settings {
    /// How many keys it has: at least four.
    pub length: u64,
    /// What their names begin with. Each key is a part of its own, so that they lie in all groups.
    pub prefix: String,
}

impl Settings {
    /// The name of a node of the ring.
    pub fn key(&self, node: u64) -> Key {
        key(format!("{}{node}", self.prefix))
    }

    /// What makes the ring, at first: each node's successor is the next one. In pieces of so many operations.
    pub fn opening(&self, at_once: usize) -> Vec<Vec<Operation>> {
        let puts: Vec<Operation> =
            (0..self.length).map(|node| put(self.key(node), number((node + 1) % self.length))).collect();
        puts.chunks(at_once.max(1)).map(<[_]>::to_vec).collect()
    }
}

fn number(node: u64) -> Value {
    Value::from(node as i64)
}

/// The stream of one client.
#[derive(Clone, Debug)]
pub struct Cycle {
    settings: Settings,
    rng: Rng,
    /// The nodes that were read so far, each the successor of the one before.
    path: Vec<u64>,
    busy: bool,
}

impl Cycle {
    /// The stream that `seed` determines.
    ///
    /// # Panics
    /// If the ring has fewer than four keys.
    pub fn new(settings: Settings, seed: u64) -> Cycle {
        assert!(settings.length >= 4, "three successors are rewired");
        Cycle { settings, rng: Rng::new(seed), path: Vec::new(), busy: false }
    }

    fn is(&self, from: u64, to: u64) -> Condition {
        Condition::Is(KeyIs { key: self.settings.key(from), value: Some(number(to)) })
    }
}

impl Jobs for Cycle {
    fn next(&mut self) -> Option<Job> {
        if std::mem::replace(&mut self.busy, true) {
            return None;
        }
        if let [first, second, third, fourth] = self.path[..] {
            let conditions = vec![self.is(first, second), self.is(second, third), self.is(third, fourth)];
            let rewire = |from, to| put(self.settings.key(from), number(to));
            let operations = vec![rewire(first, third), rewire(third, second), rewire(second, fourth)];
            return Some(transaction(&mut self.rng, conditions, operations));
        }
        if self.path.is_empty() {
            self.path.push(self.rng.below(self.settings.length));
        }
        Some(Job::Query(vec![Operation::Get(self.settings.key(self.path[self.path.len() - 1]))]))
    }

    fn ended(&mut self, ended: &Ended) {
        self.busy = false;
        let complete = self.path.len() == 4;
        match ended {
            Ended::Replies(replies) if !complete => match successor(replies.first()) {
                // Reads at different moments may go round in circles: then it begins anew.
                Some(next) if next < self.settings.length && !self.path.contains(&next) => self.path.push(next),
                _ => self.path.clear(),
            },
            _ => self.path.clear(),
        }
    }
}

fn successor(reply: Option<&Reply>) -> Option<u64> {
    match reply {
        Some(Reply::Value(Some(value))) => value.number().and_then(|number| u64::try_from(number).ok()),
        _ => None,
    }
}

/// What must hold of a read of all keys at one moment, in the order of the nodes: one ring of full length.
///
/// # Errors
/// Where the ring is broken.
pub fn check(settings: &Settings, replies: &[Reply]) -> Result<(), String> {
    let (mut at, mut seen) = (0, vec![false; settings.length as usize]);
    for step in 0..settings.length {
        if std::mem::replace(&mut seen[at as usize], true) {
            return Err(format!("the ring closes after {step} of {} keys, at {:?}", settings.length, settings.key(at)));
        }
        at = match successor(replies.get(at as usize)) {
            Some(next) if next < settings.length => next,
            _ => return Err(format!("{:?} has no successor: {:?}", settings.key(at), replies.get(at as usize))),
        };
    }
    if at == 0 { Ok(()) } else { Err(format!("after {} keys the ring does not close", settings.length)) }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use drachma_protocol::ledger::model::Reason;

    fn settings() -> Settings {
        Settings { length: 8, prefix: "ring".to_owned() }
    }

    fn all(settings: &Settings, store: &BTreeMap<Key, Value>) -> Vec<Reply> {
        (0..settings.length).map(|node| Reply::Value(store.get(&settings.key(node)).cloned())).collect()
    }

    fn write(store: &mut BTreeMap<Key, Value>, operations: &[Operation]) {
        for operation in operations {
            let Operation::Put(put) = operation else { panic!("{operation:?}") };
            store.insert(put.key.clone(), put.value.clone());
        }
    }

    /// Several clients over a store; `checked`: it looks at the conditions.
    fn run(seed: u64, checked: bool) -> (Result<(), String>, usize) {
        let (settings, mut store, mut committed) = (settings(), BTreeMap::new(), 0);
        settings.opening(3).iter().for_each(|piece| write(&mut store, piece));
        assert_eq!(check(&settings, &all(&settings, &store)), Ok(()));
        let mut clients: Vec<Cycle> = (0..4).map(|n| Cycle::new(settings.clone(), seed * 10 + n)).collect();
        let mut rng = Rng::new(seed);
        for _ in 0..2000 {
            let client = &mut clients[rng.below(4) as usize];
            let ended = match client.next().expect("the last one has ended") {
                Job::Query(reads) => {
                    let [Operation::Get(key)] = &reads[..] else { panic!("{reads:?}") };
                    Ended::Replies(vec![Reply::Value(store.get(key).cloned())])
                }
                Job::Transact(transaction) => {
                    assert_eq!(transaction.fault(), None);
                    let holds = |condition: &Condition| match condition {
                        Condition::Is(is) => store.get(&is.key) == is.value.as_ref(),
                        other => panic!("{other:?}"),
                    };
                    if checked && !transaction.conditions.iter().all(holds) {
                        Ended::Rejected(Reason::Condition)
                    } else {
                        committed += 1;
                        write(&mut store, &transaction.operations);
                        Ended::Replies(Vec::new())
                    }
                }
            };
            client.ended(&ended);
        }
        (check(&settings, &all(&settings, &store)), committed)
    }

    #[test]
    fn the_ring_stays_whole_if_conditions_hold_and_breaks_if_nobody_looks_at_them() {
        let mut broken = 0;
        for seed in 0..20 {
            let (whole, committed) = run(seed, true);
            assert!(whole.is_ok() && committed > 100, "seed {seed}: {whole:?}, {committed} committed");
            broken += usize::from(run(seed, false).0.is_err());
        }
        assert!(broken > 15, "only {broken} of 20 rings are broken");
    }

    #[test]
    fn a_ring_that_is_short_open_or_closed_too_early_is_found() {
        let ring = |next: [i64; 8]| next.map(|next| Reply::Value(Some(Value::from(next)))).to_vec();
        assert_eq!(check(&settings(), &ring([1, 2, 3, 4, 5, 6, 7, 0])), Ok(()));
        assert!(check(&settings(), &ring([1, 2, 3, 0, 5, 6, 7, 4])).unwrap_err().contains("after 4 of 8"));
        assert!(check(&settings(), &ring([1, 2, 3, 4, 5, 6, 7, 3])).unwrap_err().contains("does not close"));
        assert!(check(&settings(), &ring([1, 2, 3, 4, 5, 6, 7, 9])).unwrap_err().contains("no successor"));
        assert!(check(&settings(), &ring([1, 2, 3, 4, 5, 6, 7, 0])[..7]).unwrap_err().contains("no successor"));
    }
}
