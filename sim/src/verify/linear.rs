//! Whether the operations on one register, or one key, are linearizable: whether each seems to take effect at one moment
//! between its call and its return (Herlihy and Wing, *Linearizability*, 1990).
//!
//! The events are taken in their order. What may be is kept as a set of configurations: the value, and which of the open
//! operations have taken effect. When an operation returns, each configuration in which it has not taken effect yet is
//! gone on from in every way that ends with it: linearized just in time (Lowe, *Testing for linearizability*, 2017). If
//! nothing is left, there is no explanation of what was told up to this return.
//!
//! An operation of which nobody knows the outcome stays open for ever. Of two configurations that differ only in which of
//! those have taken effect, the one with fewer can do all that the other can.

use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

/// Open operations at a time, those of unknown outcome included.
const OPEN: usize = 128;
/// Where the smallest part is looked for operation by operation, it may have so many.
const PART: usize = 400;

/// A value, or the end of one of which the rest is not known.
#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub struct State {
    open: bool,
    text: Rc<str>,
}

impl State {
    /// This value.
    pub fn known(text: &str) -> State {
        State { open: false, text: text.into() }
    }

    fn any() -> State {
        State { open: true, text: "".into() }
    }

    fn may_be(&self, value: &str) -> bool {
        if self.open { value.ends_with(&*self.text) } else { *self.text == *value }
    }

    /// The value after a step; nothing if it cannot be taken here.
    fn after(&self, step: &Step) -> Option<State> {
        match step {
            Step::Read(value) => self.may_be(value).then(|| State { open: false, text: value.clone() }),
            Step::Write(value) => Some(State { open: false, text: value.clone() }),
            Step::Cas(old, new) => self.may_be(old).then(|| State { open: false, text: new.clone() }),
            Step::Append(end) => Some(State { open: self.open, text: format!("{}{end}", self.text).into() }),
        }
    }
}

/// What an operation does, if it takes effect.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Step {
    /// It finds this value.
    Read(Rc<str>),
    /// It leaves this value.
    Write(Rc<str>),
    /// It finds the first value and leaves the second.
    Cas(Rc<str>, Rc<str>),
    /// It leaves what there was with this behind it.
    Append(Rc<str>),
}

impl Step {
    fn observes(&self) -> Option<&Rc<str>> {
        match self {
            Step::Read(value) | Step::Cas(value, _) => Some(value),
            Step::Write(_) | Step::Append(_) => None,
        }
    }

    fn leaves(&self) -> Option<&Rc<str>> {
        match self {
            Step::Read(_) => None,
            Step::Write(value) | Step::Cas(_, value) | Step::Append(value) => Some(value),
        }
    }
}

/// An operation with its call and return: any numbers that tell their order in time.
#[derive(Clone, Debug)]
pub struct Operation {
    /// What the caller knows it by.
    pub name: usize,
    /// When it was called.
    pub call: u64,
    /// When it returned; nothing if its outcome is unknown.
    pub returned: Option<u64>,
    /// What it does.
    pub step: Step,
}

/// What became of a judgement.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Judgement {
    /// There is an explanation.
    Good,
    /// There is none of what was told up to this return.
    Bad(u64),
    /// The budget was not enough, or too many operations are open at a time.
    Undecided,
}

/// How much work a judgement may take.
pub struct Budget<'a> {
    steps: u64,
    is_over: &'a mut dyn FnMut() -> bool,
}

impl<'a> Budget<'a> {
    /// As long as `is_over` says no; it is asked now and then.
    pub fn new(is_over: &'a mut dyn FnMut() -> bool) -> Budget<'a> {
        Budget { steps: 0, is_over }
    }

    fn take(&mut self) -> bool {
        self.steps += 1;
        !self.steps.is_multiple_of(4096) || !(self.is_over)()
    }
}

/// The configurations that are left: value, and open operations that have taken effect and will return; with them, which
/// of unknown outcome have.
#[derive(Default)]
struct Configurations(BTreeMap<(State, u128), Vec<u128>>);

impl Configurations {
    /// Takes in a configuration, unless there is one that can do all that it can.
    fn insert(&mut self, state: State, taken: u128, unknown: u128) -> bool {
        let rivals = self.0.entry((state, taken & !unknown)).or_default();
        let spent = taken & unknown;
        if rivals.iter().any(|other| other & !spent == 0) {
            return false;
        }
        rivals.retain(|other| spent & !other != 0);
        rivals.push(spent);
        true
    }

    fn iter(&self) -> impl Iterator<Item = (&State, u128)> {
        self.0.iter().flat_map(|((state, taken), spent)| spent.iter().map(move |spent| (state, taken | spent)))
    }
}

/// Judges the operations on one register, which begins as `initial`.
pub fn judge(operations: &[Operation], initial: &State, budget: &mut Budget<'_>) -> Judgement {
    let operations = relevant(operations);
    let mut events: Vec<(u64, bool, usize)> = Vec::new();
    for (index, operation) in operations.iter().enumerate() {
        events.push((operation.call, false, index));
        events.extend(operation.returned.map(|at| (at, true, index)));
    }
    events.sort_unstable();
    let mut open: [Option<usize>; OPEN] = [None; OPEN];
    let mut unknown = 0;
    let mut left = Configurations::default();
    left.insert(initial.clone(), 0, 0);
    for (at, is_return, index) in events {
        if !is_return {
            let Some(slot) = open.iter().position(Option::is_none) else { return Judgement::Undecided };
            open[slot] = Some(index);
            unknown |= u128::from(operations[index].returned.is_none()) << slot;
            continue;
        }
        let slot = open.iter().position(|other| *other == Some(index)).expect("what returns was called");
        let pending: Vec<(u128, &Step)> = open
            .iter()
            .enumerate()
            .filter_map(|(slot, index)| Some((1 << slot, &operations[(*index)?].step)))
            .collect();
        let Some(next) = left.linearize(1 << slot, &pending, unknown, budget) else { return Judgement::Undecided };
        if next.0.is_empty() {
            return Judgement::Bad(at);
        }
        (left, open[slot]) = (next, None);
    }
    Judgement::Good
}

impl Configurations {
    /// Those in which the operation `returns` has taken effect, and does not count as open any more. Nothing if the
    /// budget is used up.
    fn linearize(
        &self,
        returns: u128,
        pending: &[(u128, &Step)],
        unknown: u128,
        budget: &mut Budget<'_>,
    ) -> Option<Configurations> {
        let (mut done, mut seen) = (Configurations::default(), Configurations::default());
        let mut stack: Vec<(State, u128)> = self.iter().map(|(state, taken)| (state.clone(), taken)).collect();
        while let Some((state, taken)) = stack.pop() {
            if taken & returns != 0 {
                done.insert(state, taken & !returns, unknown);
                continue;
            }
            for (slot, step) in pending.iter().filter(|(slot, _)| taken & slot == 0) {
                if !budget.take() {
                    return None;
                }
                let Some(after) = state.after(step) else { continue };
                if seen.insert(after.clone(), taken | slot, unknown) {
                    stack.push((after, taken | slot));
                }
            }
        }
        Some(done)
    }
}

/// Leaves out what cannot matter: an operation of unknown outcome that only reads, or leaves what nobody has seen.
fn relevant(operations: &[Operation]) -> Vec<&Operation> {
    // What an unknown one has seen may be why it took effect.
    let told = |operation: &&Operation| operation.returned.is_some() || operation.step.leaves().is_some();
    let observed = operations.iter().filter(told).filter_map(|operation| operation.step.observes());
    let seen: BTreeSet<&str> = observed.map(|value| &**value).collect();
    let matters = |operation: &&Operation| {
        let left = operation.step.leaves();
        operation.returned.is_some() || left.is_some_and(|left| seen.iter().any(|value| value.contains(&**left)))
    };
    operations.iter().filter(matters).collect()
}

/// Of operations for which there is no explanation up to the return at `at`, a small part that already has none,
/// whatever the others did: their names, in the order of their calls.
pub fn smallest(operations: &[Operation], initial: &State, at: u64, budget: &mut Budget<'_>) -> Vec<usize> {
    let mut part: Vec<Operation> = operations
        .iter()
        .filter(|operation| operation.call < at)
        .map(|operation| Operation { returned: operation.returned.filter(|end| *end <= at), ..operation.clone() })
        .collect();
    let mut initial = initial.clone();
    if let Some(later) = latest(&part, budget) {
        (part, initial) = (later, State::any());
    }
    if part.len() <= PART {
        thin_out(&mut part, &initial, budget);
    }
    part.retain(|operation| operation.returned.is_some());
    part.sort_by_key(|operation| operation.call);
    part.iter().map(|operation| operation.name).collect()
}

/// The part behind the latest moment from which on there is no explanation, whatever the value was then; nothing if the
/// value in the beginning matters.
fn latest(operations: &[Operation], budget: &mut Budget<'_>) -> Option<Vec<Operation>> {
    let behind = |time: u64| -> Vec<Operation> {
        operations.iter().filter(|operation| operation.returned.is_none_or(|end| end > time)).cloned().collect()
    };
    let mut is_bad = |part: &[Operation]| matches!(judge(part, &State::any(), budget), Judgement::Bad(_));
    let mut times: Vec<u64> = operations.iter().filter_map(|operation| operation.returned).collect();
    times.sort_unstable();
    // Bad behind `times[low - 1]`, and not any more behind `times[high - 1]`.
    let (mut low, mut high) = (0, times.len());
    if !is_bad(operations) {
        return None;
    }
    while high - low > 1 {
        let middle = low + (high - low) / 2;
        if is_bad(&behind(times[middle - 1])) {
            low = middle;
        } else {
            high = middle;
        }
    }
    Some(if low == 0 { operations.to_vec() } else { behind(times[low - 1]) })
}

/// Takes what an operation was told as unknown wherever the rest has no explanation all the same.
fn thin_out(part: &mut [Operation], initial: &State, budget: &mut Budget<'_>) {
    for index in (0..part.len()).rev() {
        if part[index].returned.is_none() {
            continue;
        }
        let told = part[index].returned.take();
        if !matches!(judge(part, initial, budget), Judgement::Bad(_)) {
            part[index].returned = told;
        }
    }
}

#[cfg(test)]
mod tests {
    use drachma_protocol::rng::Rng;

    use super::*;
    use crate::draw::between;

    fn step(text: &str) -> Step {
        let words: Vec<&str> = text.split(' ').collect();
        match words[..] {
            ["r", value] => Step::Read(value.into()),
            ["w", value] => Step::Write(value.into()),
            ["c", old, new] => Step::Cas(old.into(), new.into()),
            ["a", end] => Step::Append(end.into()),
            _ => panic!("{text}"),
        }
    }

    /// Lines like `w 1: 0 5`, without a return if it is unknown.
    fn operations(lines: &[&str]) -> Vec<Operation> {
        let read = |(name, line): (usize, &&str)| {
            let (text, times) = line.split_once(": ").expect("a colon");
            let mut times = times.split(' ').map(|time| time.parse().expect("a time"));
            let (call, returned) = (times.next().expect("a call"), times.next());
            Operation { name, call, returned, step: step(text) }
        };
        lines.iter().enumerate().map(read).collect()
    }

    fn judged(lines: &[&str]) -> Judgement {
        judge(&operations(lines), &State::known("0"), &mut Budget::new(&mut || false))
    }

    fn core(lines: &[&str]) -> Vec<usize> {
        let (operations, initial) = (operations(lines), State::known("0"));
        let never = &mut || false;
        let mut budget = Budget::new(never);
        let Judgement::Bad(at) = judge(&operations, &initial, &mut budget) else { panic!("it is good") };
        smallest(&operations, &initial, at, &mut budget)
    }

    #[test]
    fn operations_that_overlap_take_effect_in_any_order_and_others_in_theirs() {
        assert_eq!(judged(&["w 1: 0 10", "r 0: 1 2", "r 1: 3 4", "r 1: 11 12"]), Judgement::Good);
        assert_eq!(judged(&["w 1: 0 10", "r 1: 1 2", "r 0: 3 4"]), Judgement::Bad(4), "back in time");
        assert_eq!(judged(&["w 1: 0 1", "r 0: 2 3"]), Judgement::Bad(3), "stale");
        assert_eq!(judged(&["w 1: 0 1", "w 2: 2 9", "c 1 3: 3 4", "r 2: 10 11"]), Judgement::Good);
        assert_eq!(judged(&["w 1: 0 1", "c 1 2: 2 5", "c 1 3: 2 6"]), Judgement::Bad(6), "a lost update");
        assert_eq!(judged(&["a x: 0 5", "a y: 1 6", "r 0yx: 7 8"]), Judgement::Good);
        assert_eq!(judged(&["a x: 0 1", "a y: 2 6", "r 0yx: 7 8"]), Judgement::Bad(8));
    }

    #[test]
    fn what_is_unknown_may_take_effect_at_any_time_or_never() {
        assert_eq!(judged(&["w 1: 0", "r 0: 1 2", "r 1: 3 4"]), Judgement::Good);
        assert_eq!(judged(&["w 1: 0", "r 1: 1 2", "r 0: 3 4"]), Judgement::Bad(4));
        assert_eq!(judged(&["w 1: 5", "r 1: 1 2"]), Judgement::Bad(2), "before it was called");
        assert_eq!(judged(&["w 1: 0", "w 1: 0", "r 1: 1 2", "w 0: 3 4", "r 1: 5 6"]), Judgement::Good);
    }

    #[test]
    fn of_a_bad_history_the_part_is_told_that_is_bad_by_itself() {
        let mut lines: Vec<String> = (0..200).map(|n| format!("w {n}: {} {}", n * 10 + 1, n * 10 + 5)).collect();
        lines.extend((0..200).map(|n| format!("r {n}: {} {}", n * 10 + 6, n * 10 + 8)));
        lines.push("r 170: 1986 1987".to_owned());
        let lines: Vec<&str> = lines.iter().map(String::as_str).collect();
        assert_eq!(core(&lines), [198, 400], "the last write, and what was read after it");
        assert_eq!(core(&["w 1: 0 9", "r 1: 1 2", "r 0: 3 4"]), [1, 2]);
        assert_eq!(core(&["r 7: 1 2"]), [0]);
    }

    #[test]
    fn who_has_no_time_left_does_not_say_good() {
        let lines: Vec<String> = (0..20).map(|n| format!("a {}: 0 {}", char::from(b'a' + n), 100 + n)).collect();
        let lines: Vec<&str> = lines.iter().map(String::as_str).collect();
        let judged = judge(&operations(&lines), &State::known("0"), &mut Budget::new(&mut || true));
        assert_eq!(judged, Judgement::Undecided);
        let many: Vec<Operation> = (0..=OPEN)
            .map(|name| Operation { name, call: 0, returned: Some(1), step: Step::Write("1".into()) })
            .collect();
        assert_eq!(judge(&many, &State::known("0"), &mut Budget::new(&mut || false)), Judgement::Undecided);
    }

    /// The same by trying every order: of those not taken yet, any that nobody was back before.
    fn explained(left: &[&Operation], state: &State) -> bool {
        if left.iter().all(|operation| operation.returned.is_none()) {
            return true;
        }
        let first_return = left.iter().filter_map(|operation| operation.returned).min().unwrap_or(u64::MAX);
        left.iter().enumerate().filter(|(_, operation)| operation.call < first_return).any(|(index, operation)| {
            let mut rest = left.to_vec();
            rest.remove(index);
            state.after(&operation.step).is_some_and(|after| explained(&rest, &after))
        })
    }

    #[test]
    fn it_is_the_same_as_trying_every_order() {
        let mut verdicts = [0, 0];
        for seed in 0..3_000 {
            let mut rng = Rng::new(seed);
            let operations: Vec<Operation> = (0..between(&mut rng, 2, 7))
                .map(|name| {
                    let call = rng.below(16);
                    let returned = (!rng.chance(20)).then(|| call + 1 + rng.below(8));
                    let mut value = || Rc::from(["0", "1", "2"][rng.below(3) as usize]);
                    let step = match (seed + name) % 4 {
                        0 | 1 => Step::Read(value()),
                        2 => Step::Write(value()),
                        _ => Step::Cas(value(), value()),
                    };
                    // No two events at one time, and returns behind calls.
                    let returned = returned.map(|at| at * 32 + 16 + name);
                    Operation { name: name as usize, call: call * 32 + name, returned, step }
                })
                .collect();
            let all: Vec<&Operation> = operations.iter().collect();
            let expected = explained(&all, &State::known("0"));
            let found = judge(&operations, &State::known("0"), &mut Budget::new(&mut || false));
            assert_eq!(found == Judgement::Good, expected, "seed {seed}: {operations:?}");
            if let Judgement::Bad(at) = found {
                let part = smallest(&operations, &State::known("0"), at, &mut Budget::new(&mut || false));
                assert!(!part.is_empty(), "seed {seed}: {operations:?}");
            }
            verdicts[usize::from(expected)] += 1;
        }
        assert!(verdicts.iter().all(|count| *count > 500), "{verdicts:?}");
    }
}
