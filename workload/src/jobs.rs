//! What clients do with keys and with transactions.

use drachma_protocol::ids::TransferId;
use drachma_protocol::ledger::model::Reason;
use drachma_protocol::ledger::operations::{Condition, Key, Operation, Put, Reply, Transaction, Value};
use drachma_protocol::rng::Rng;

/// Something that a client does with keys and accounts.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Job {
    /// Read all of this at once: reads only.
    Query(Vec<Operation>),
    /// Carry this out, all or nothing.
    Transact(Transaction),
}

/// What became of a [`Job`].
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Ended {
    /// What each operation yields.
    Replies(Vec<Reply>),
    /// It was rejected, for good.
    Rejected(Reason),
    /// Nothing is known: it may have taken effect or may not.
    Unknown,
}

/// A generator of jobs that learns from what became of them. Several clients may each drive one of the same settings.
pub trait Jobs {
    /// The next job; nothing while one that is under way has to end first.
    fn next(&mut self) -> Option<Job>;

    /// What became of the job that [`Jobs::next`] has yielded last: told once for each.
    fn ended(&mut self, ended: &Ended);
}

/// A transaction under an id drawn at random.
pub(crate) fn transaction(rng: &mut Rng, conditions: Vec<Condition>, operations: Vec<Operation>) -> Job {
    Job::Transact(Transaction { id: TransferId(rng.next_u128() | 1), conditions, operations })
}

/// A key by its name.
pub(crate) fn key(name: String) -> Key {
    Key::new(name).expect("the names of these workloads are short")
}

/// Sets a key.
pub(crate) fn put(key: Key, value: impl Into<Value>) -> Operation {
    Operation::Put(Put { key, value: value.into() })
}

/// Draws an index by weights that sum up to 100.
pub(crate) fn weighted(rng: &mut Rng, weights: &[u64]) -> usize {
    let drawn = rng.below(100);
    let mut sum = 0;
    let found = weights.iter().position(|weight| {
        sum += weight;
        drawn < sum
    });
    found.expect("the weights sum up to 100")
}

#[cfg(test)]
pub(crate) mod tests {
    /// Pearson's chi-square of counts against shares in percent.
    pub(crate) fn chi_square(counts: &[u64], percent: &[u64]) -> f64 {
        let total: u64 = counts.iter().sum();
        let term = |(count, percent): (&u64, &u64)| {
            let expected = (total * percent) as f64 / 100.0;
            (*count as f64 - expected).powi(2) / expected
        };
        counts.iter().zip(percent).map(term).sum()
    }
}
