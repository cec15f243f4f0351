//! Judges histories that others have recorded: whether what clients were told can be explained at all.

pub mod edn;
pub mod jepsen;
pub mod linear;

use jepsen::{Registers, Told};
use linear::{Budget, Judgement};

/// What became of a history.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Verdict {
    /// It can be explained.
    Good,
    /// It cannot: a small part of it that already cannot, whatever the rest was.
    Bad {
        /// The key that it is about; "" if there is one register alone.
        key: String,
        /// The operations of that part, in the order of their calls.
        part: Vec<Told>,
    },
    /// There was not time enough, or too many operations are open at a time.
    Undecided {
        /// The keys that could not be judged.
        keys: Vec<String>,
    },
}

/// Judges each key by itself: a history is linearizable if that of each key is (Herlihy and Wing, section 3.3). Stops
/// when `is_over` says so; what was not judged by then is undecided, never good.
pub fn judge(registers: &Registers, is_over: &mut dyn FnMut() -> bool) -> Verdict {
    let mut undecided = Vec::new();
    for (key, operations) in &registers.keys {
        match linear::judge(operations, &registers.initial, &mut Budget::new(is_over)) {
            Judgement::Good => {}
            Judgement::Undecided => undecided.push(key.clone()),
            Judgement::Bad(at) => {
                let part = linear::smallest(operations, &registers.initial, at, &mut Budget::new(is_over));
                let part = part.into_iter().map(|name| registers.told[name].clone()).collect();
                return Verdict::Bad { key: key.clone(), part };
            }
        }
    }
    if undecided.is_empty() { Verdict::Good } else { Verdict::Undecided { keys: undecided } }
}

#[cfg(test)]
mod tests;
