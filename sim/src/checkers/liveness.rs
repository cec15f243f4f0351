//! Number 15: once everything is healed, everything ends within the bound that the run was given: every request has its
//! final answer, nothing is in doubt, nothing waits, and the replicas of a group are equally far.

use super::{Checker, Class, End, Verdict};

/// See the module.
pub struct Liveness;

impl Checker for Liveness {
    fn name(&self) -> &'static str {
        "liveness"
    }

    fn class(&self) -> Class {
        Class::Liveness
    }

    fn at_end(&mut self, end: &End<'_>) -> Verdict {
        end.stuck.map_or(Ok(()), |text| Err(text.to_owned()))
    }
}
