//! Log time never goes back: what is posted later is not posted earlier by the group's clock (hazard S26).

use super::{Checker, End, Verdict};

/// See the module.
pub struct LogTime;

impl Checker for LogTime {
    fn name(&self) -> &'static str {
        "log time"
    }

    fn at_end(&mut self, end: &End<'_>) -> Verdict {
        for (group, replicas) in end.groups {
            let posted = replicas.first().map_or(&[][..], |replica| &replica.posted);
            if let Some(pair) = posted.windows(2).find(|pair| pair[1].posted_at < pair[0].posted_at) {
                return Err(format!("{group} posted {:?} at an earlier time than before it {:?}", pair[1], pair[0]));
            }
        }
        Ok(())
    }
}
