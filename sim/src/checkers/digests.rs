//! Number 3: replicas that have applied as much have the same state: digest, sums and log time. Log time is the largest
//! that an entry has named so far (hazard S26), so it never goes back.

use std::collections::BTreeMap;

use drachma_protocol::ids::{GroupId, NodeId};
use drachma_protocol::message::operator::Totals;
use drachma_protocol::time::LogTime;

use super::{Applied, Checker, Chosen, End, Verdict};

/// See the module.
#[derive(Default)]
pub struct Digests {
    groups: BTreeMap<GroupId, Group>,
}

#[derive(Default)]
struct Group {
    // By applied length less one: the log time.
    times: Vec<LogTime>,
    // By applied length: the sums, and whose they were.
    states: BTreeMap<u64, (Totals, NodeId)>,
}

impl Checker for Digests {
    fn name(&self) -> &'static str {
        "digests"
    }

    fn on_entry(&mut self, chosen: &Chosen<'_>) -> Verdict {
        let times = &mut self.groups.entry(chosen.group).or_default().times;
        let last = times.last().copied().unwrap_or_default();
        times.push(last.max(chosen.entry.time));
        Ok(())
    }

    fn on_applied(&mut self, applied: &Applied<'_>) -> Verdict {
        let Applied { node, group, until, .. } = *applied;
        let Some(state) = applied.state else { return Ok(()) };
        let known = self.groups.entry(group).or_default();
        let expected = known.times.get((until.0 as usize).wrapping_sub(1));
        if expected.is_some_and(|time| *time != state.time) {
            return Err(format!("{group} on {node} at {until}: log time {:?} instead of {expected:?}", state.time));
        }
        match known.states.get(&until.0) {
            None => {
                known.states.insert(until.0, (state.totals.clone(), node));
                Ok(())
            }
            Some((totals, _)) if totals == state.totals => Ok(()),
            Some((totals, first)) => {
                let own = state.totals;
                Err(format!("{group} at {until}: {node} has {own:?}, {first} had {totals:?}"))
            }
        }
    }

    fn at_end(&mut self, end: &End<'_>) -> Verdict {
        for (group, first) in end.furthest() {
            for other in end.groups.get(&group).into_iter().flatten() {
                if other.totals.applied != first.totals.applied {
                    continue; // It lags; that is not this property.
                }
                if other.totals != first.totals || other.posted != first.posted || other.accounts != first.accounts {
                    let (one, two) = (&first.totals, &other.totals);
                    return Err(format!("{group} ends unequal: {one:?} on {}, {two:?} on {}", first.node, other.node));
                }
            }
        }
        Ok(())
    }
}
