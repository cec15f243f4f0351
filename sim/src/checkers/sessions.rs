//! Nothing is executed under a session that its group does not know: not after it has said so once, and not under one
//! that was made up (hazard S17).

use drachma_protocol::message::client::{Response, Why};

use super::refusals::untouched;
use super::{Checker, End, Verdict};

/// See the module.
pub struct Sessions;

impl Checker for Sessions {
    fn name(&self) -> &'static str {
        "sessions"
    }

    fn at_end(&mut self, end: &End<'_>) -> Verdict {
        for lost in &end.history.lost_sessions {
            for command in &lost.later {
                let is_refused = |response: &Response| matches!(response, Response::Refused(refused) if refused.why == Why::UnknownSession);
                if let Some((at, wrong)) = command.answers.iter().find(|(_, response)| !is_refused(response)) {
                    let (session, group, since) = (lost.session, lost.group, lost.since);
                    return Err(format!(
                        "at {at} {group} answered {wrong:?} under {session:?}, unknown since {since}: {command:?}"
                    ));
                }
                untouched(end, &command.transfers, &command.accounts)?;
            }
        }
        Ok(())
    }
}
