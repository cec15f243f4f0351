//! Always fails: a hunt that does not report it reports nothing.

use super::{Checker, End, Verdict};

/// See the module.
pub struct Canary;

impl Checker for Canary {
    fn name(&self) -> &'static str {
        "canary"
    }

    fn at_end(&mut self, _end: &End<'_>) -> Verdict {
        Err("the canary always fails".to_owned())
    }
}
