//! Number 12: read levels. At `linearizable` what a client reads of an account never goes back, and has
//! everything of its own that it was told of before it asked. Judged at each answer, from what this client knows alone:
//! totals only grow. The same holds of a session, from whatever replicas it reads, with what the session sees: its own
//! transfers once it was told the positions of their groups, and whatever it has read at any level. What any replica tells is
//! a state that the account had, and not from the future.

use std::collections::BTreeMap;

use drachma_protocol::ids::AccountId;
use drachma_protocol::ledger::model::Outcome;

use drachma_protocol::message::level::Level;

use super::{Answered, Checker, End, Verdict};
use crate::history::{ReadRecord, SessionRead};

/// See the module.
#[derive(Default)]
pub struct Levels {
    known: BTreeMap<(u32, AccountId), Knowledge>,
}

/// What a client knows of an account: the least of its totals from a time on.
#[derive(Default)]
struct Knowledge {
    read: Vec<(u64, u128, u128)>,
    own: Vec<(u64, u128, u128)>,
}

impl Knowledge {
    fn before(list: &[(u64, u128, u128)], time: u64) -> (u128, u128) {
        let count = list.partition_point(|(at, ..)| *at < time);
        count.checked_sub(1).map_or((0, 0), |last| (list[last].1, list[last].2))
    }

    fn last(list: &[(u64, u128, u128)]) -> (u128, u128) {
        list.last().map_or((0, 0), |(_, debits, credits)| (*debits, *credits))
    }
}

impl Checker for Levels {
    fn name(&self) -> &'static str {
        "levels"
    }

    fn on_answer(&mut self, answered: &Answered<'_>) -> Verdict {
        let record = answered.record;
        let Some((at, Outcome::Committed)) = record.answers.last().copied() else { return Ok(()) };
        if record.answers.len() > 1 {
            return Ok(()); // Told before.
        }
        let (transfer, amount) = (&record.transfer, record.transfer.amount);
        for (account, debit, credit) in [(transfer.debit, amount, 0), (transfer.credit, 0, amount)] {
            let own = &mut self.known.entry((answered.client, account)).or_default().own;
            let (debits, credits) = Knowledge::last(own);
            own.push((at, debits + debit, credits + credit));
        }
        Ok(())
    }

    fn on_read(&mut self, client: u32, read: &ReadRecord) -> Verdict {
        let Some(found) = &read.found else { return Ok(()) };
        let known = self.known.entry((client, read.account)).or_default();
        let (debits, credits) = (found.debits_posted, found.credits_posted);
        let earlier = Knowledge::before(&known.read, read.invoked);
        if debits < earlier.0 || credits < earlier.1 {
            return Err(format!("client {client} read {earlier:?} before, and now {read:?}"));
        }
        let own = Knowledge::before(&known.own, read.invoked);
        if debits < own.0 || credits < own.1 {
            return Err(format!("client {client} was told of {own:?} of its own, and now {read:?}"));
        }
        let most = Knowledge::last(&known.read);
        known.read.push((read.completed, debits.max(most.0), credits.max(most.1)));
        Ok(())
    }

    fn at_end(&mut self, end: &End<'_>) -> Verdict {
        let mut sessions: BTreeMap<((u64, u64), AccountId), Knowledge> = BTreeMap::new();
        for known in &end.history.session_known {
            let own = &mut sessions.entry((known.session, known.account)).or_default().own;
            let (debits, credits) = Knowledge::last(own);
            own.push((known.at, debits + known.debit, credits + known.credit));
        }
        for read in &end.history.session_reads {
            let known = sessions.entry((read.session, read.account)).or_default();
            let Some(found) = &read.found else { continue };
            let most = Knowledge::last(&known.read);
            known.read.push((read.completed, found.debits_posted.max(most.0), found.credits_posted.max(most.1)));
        }
        let all = end.versions();
        end.history.session_reads.iter().try_for_each(|read| {
            let Some(found) = &read.found else { return Ok(()) };
            if let Some(versions) = all.get(&read.account) {
                let Some(version) = versions.of(found) else {
                    return Err(format!("a replica told what the account never was: {read:?}"));
                };
                if version > versions.most(read.completed) {
                    return Err(format!("a replica told what was asked for later: {read:?}"));
                }
            }
            sessions.get(&(read.session, read.account)).map_or(Ok(()), |known| of_session(read, known))
        })
    }
}

/// A session goes on from what it knows. At level `any` it may fall back.
fn of_session(read: &SessionRead, known: &Knowledge) -> Verdict {
    let Some(found) = read.found.filter(|_| read.level == Level::Session) else { return Ok(()) };
    for (least, what) in [
        (Knowledge::before(&known.read, read.invoked), "read"),
        (Knowledge::before(&known.own, read.invoked), "written"),
    ] {
        if found.debits_posted < least.0 || found.credits_posted < least.1 {
            return Err(format!("a session had {what} {least:?} before, and now {read:?}"));
        }
    }
    Ok(())
}
