//! What must hold, one file each. A checker sees what clients saw, what replicas wrote and what they hold when all is
//! quiet; [`agreement`] and [`limits`] also look at applied state while it changes.

pub mod accounts;
pub mod agreement;
pub mod atomicity;
pub mod canary;
pub mod conservation;
pub mod contests;
pub mod exactly_once;
pub mod limits;
pub mod liveness;
#[cfg(test)]
mod load_tests;
pub mod log_time;
pub mod lookups;
pub mod reads;
pub mod refusals;
pub mod rejections;
pub mod serializable;
pub mod sessions;
#[cfg(test)]
mod tests;
pub mod versions;
pub mod workloads;

use std::collections::BTreeMap;

use bytes::Bytes;

use drachma_protocol::ids::{GroupId, NodeId, Slot, TxnId};
use drachma_protocol::ledger::model::{Account, Posted};
use drachma_protocol::message::operator::Totals;

use crate::history::{History, TransferRecord};
use crate::shape::Shape;

/// What kind of promise was broken.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Class {
    /// Something happened that never may.
    Safety,
    /// Something did not happen in time.
    Liveness,
    /// A role's own assertion failed.
    Crash,
}

/// A checker's finding.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Violation {
    /// Whose.
    pub checker: &'static str,
    /// What kind of promise was broken.
    pub class: Class,
    /// What was found.
    pub text: String,
}

/// A check passed, or what it found.
pub type Verdict = Result<(), String>;

/// A replica has applied more entries.
pub struct Applied<'a> {
    /// Where.
    pub node: NodeId,
    /// Which group's.
    pub group: GroupId,
    /// The position of the first new entry.
    pub from: Slot,
    /// The entries as its log has them.
    pub entries: &'a [Bytes],
    /// The state after them.
    pub totals: &'a Totals,
}

/// A replica's accounts at some moment.
pub struct Sample<'a> {
    /// Where.
    pub node: NodeId,
    /// Which group's.
    pub group: GroupId,
    /// All accounts, reserved ones included.
    pub accounts: &'a [Account],
}

/// A replica when all is quiet.
#[derive(Clone, Debug)]
pub struct ReplicaView {
    /// Where.
    pub node: NodeId,
    /// The sums.
    pub totals: Totals,
    /// Every posted transfer, in the order of posting.
    pub posted: Vec<Posted>,
    /// Every account, reserved ones included.
    pub accounts: Vec<Account>,
}

impl ReplicaView {
    /// The posted transfers by their ids.
    pub fn posted_by_id(&self) -> BTreeMap<TxnId, &Posted> {
        self.posted.iter().map(|row| (TxnId::from(&row.transfer), row)).collect()
    }
}

/// The end of a run.
pub struct End<'a> {
    /// The cluster.
    pub shape: &'a Shape,
    /// What clients asked and were told.
    pub history: &'a History,
    /// Every replica of every group.
    pub groups: &'a BTreeMap<GroupId, Vec<ReplicaView>>,
    /// What is still not done though everything was healed long ago.
    pub stuck: Option<&'a str>,
}

/// One property. Each method may find that it does not hold.
pub trait Checker {
    /// Its name in reports.
    fn name(&self) -> &'static str;

    /// What kind of promise it watches.
    fn class(&self) -> Class {
        Class::Safety
    }

    /// A replica has applied more.
    ///
    /// # Errors
    /// If the property does not hold.
    fn on_applied(&mut self, _applied: &Applied<'_>) -> Verdict {
        Ok(())
    }

    /// Accounts were looked at.
    ///
    /// # Errors
    /// If the property does not hold.
    fn on_sample(&mut self, _sample: &Sample<'_>) -> Verdict {
        Ok(())
    }

    /// A client was given a final answer; it is the record's last.
    ///
    /// # Errors
    /// If the property does not hold.
    fn on_answer(&mut self, _record: &TransferRecord) -> Verdict {
        Ok(())
    }

    /// The run is over.
    ///
    /// # Errors
    /// If the property does not hold.
    fn at_end(&mut self, _end: &End<'_>) -> Verdict {
        Ok(())
    }
}

/// All checkers; the first finding stops the run.
pub struct Checkers {
    checkers: Vec<Box<dyn Checker>>,
}

impl Checkers {
    /// Every checker of properties; [`liveness`] first, because the others' view of the end assumes it.
    pub fn all() -> Checkers {
        Checkers {
            checkers: vec![
                Box::new(liveness::Liveness),
                Box::new(agreement::Agreement::default()),
                Box::new(conservation::Conservation),
                Box::new(limits::Limits),
                Box::new(exactly_once::ExactlyOnce),
                Box::new(atomicity::Atomicity),
                Box::new(log_time::LogTime),
                Box::new(reads::Reads),
                Box::new(rejections::Rejections),
                Box::new(serializable::Serializable),
                Box::new(accounts::Accounts),
                Box::new(lookups::Lookups),
                Box::new(contests::Contests),
                Box::new(sessions::Sessions),
                Box::new(refusals::Refusals),
                Box::new(workloads::Workloads),
            ],
        }
    }

    /// No checker at all.
    pub fn none() -> Checkers {
        Checkers { checkers: Vec::new() }
    }

    /// Adds one more.
    pub fn add(&mut self, checker: Box<dyn Checker>) {
        self.checkers.push(checker);
    }

    /// Asks each in turn.
    ///
    /// # Errors
    /// The first finding.
    pub fn ask(&mut self, mut question: impl FnMut(&mut dyn Checker) -> Verdict) -> Result<(), Violation> {
        for checker in &mut self.checkers {
            if let Err(text) = question(checker.as_mut()) {
                return Err(Violation { checker: checker.name(), class: checker.class(), text });
            }
        }
        Ok(())
    }
}
