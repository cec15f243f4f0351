//! What must hold, one file each. A checker sees what clients saw, what was sent, and what is on the disks; numbers 1 to
//! 3 also look at applied entries and digests while they change.
//!
//! | number | property | file |
//! |---|---|---|
//! | 1 | ballots never go back and have one leader; what was told is on disk | [`ballots`] |
//! | 1 | who leads has a majority of promises that count | [`elections`] |
//! | 1 | one sequence per ballot, one value per slot, chosen by a majority of disks | [`agreement`] |
//! | 2 | the committed prefix never changes | [`prefix`] |
//! | 3 | equal state at equal position; log time never goes back | [`digests`] |
//! | 4 | reads of an account are linearizable | [`reads`] |
//! | 4 | a read is served behind all that was applied anywhere before it was sent | [`freshness`] |
//! | 4 | rejections are observations, and justified | [`rejections`] |
//! | 5 | strict serializability over all groups | [`serializable`] |
//! | 5 | transactions and queries over keys have a serial order, and lose and double nothing | [`keys`] |
//! | 6 | money is neither made nor lost, over all groups on a cut | [`conservation`] |
//! | 7 | no account beyond its limit, at any posting | [`limits`] |
//! | 8 | exactly once, and answers are final | [`exactly_once`] |
//! | 8 | of several contents under one id one at most has its own outcome | [`contests`] |
//! | 8 | a lookup tells what everybody is told | [`lookups`] |
//! | 8 | nothing runs under a session that its group does not know | [`sessions`] |
//! | 9 | transactions commit in every group or in none, and nothing is left over | [`atomicity`] |
//! | 9 | what is pending ends once, in both groups alike; chains are whole; what is closed stays so | [`pending`] |
//! | 9 | nothing ends a pending transfer after its time | [`expiry`] |
//! | 10 | every account has one owner, and only that one posts to it | [`ownership`] |
//! | 12 | what one client, or one session, reads never goes back and has its own writes | [`levels`] |
//! | 12 | what replicas tell at other levels is what they say that it is, and as old at most | [`replicas`] |
//! | | accounts are as they were created, and as was answered | [`accounts`] |
//! | | what is malformed or misplaced is refused and changes nothing | [`refusals`] |
//! | | the invariants of the workloads | [`workloads`] |
//! | 15 | once healed, everything ends | [`liveness`] |
//! | 16 | memory, log and messages are bounded | [`bounds`] |
//!
//! Numbers 11, 13 and 14 have no object yet: nothing moves, streams or is backed up. [`logs`] and [`versions`] are what
//! several of them know about disks and about accounts; [`graph`] finds cycles.

pub mod accounts;
pub mod agreement;
pub mod atomicity;
pub mod ballots;
pub mod bounds;
pub mod canary;
pub mod conservation;
pub mod contests;
pub mod digests;
pub mod elections;
pub mod exactly_once;
pub mod expiry;
pub mod freshness;
pub mod graph;
pub mod keys;
pub mod levels;
pub mod limits;
pub mod liveness;
#[cfg(test)]
mod load_tests;
pub mod logs;
pub mod lookups;
pub mod ownership;
pub mod pending;
pub mod prefix;
pub mod reads;
pub mod refusals;
pub mod rejections;
pub mod replicas;
pub mod serializable;
pub mod sessions;
#[cfg(test)]
mod tests;
pub mod versions;
pub mod workloads;

use std::cell::OnceCell;
use std::collections::BTreeMap;

use bytes::Bytes;

use drachma_protocol::ids::{AccountId, GroupId, NodeId, Origin, Slot, TxnId};
use drachma_protocol::ledger::model::{Account, PendingTransfer, Posted};
use drachma_protocol::ledger::operations::{Key, Value};
use drachma_protocol::log::record::{Record, Recovered};
use drachma_protocol::message::Message;
use drachma_protocol::message::client::{Request, Response};
use drachma_protocol::message::command::Entry;
use drachma_protocol::message::operator::Totals;
use drachma_protocol::role::{Address, Token};
use drachma_protocol::time::{LogTime, Time};
use drachma_protocol::wire::codec::from_slice;

use crate::faults::Swarm;
use crate::history::{History, ReadRecord, TransferRecord};
use crate::shape::Shape;
use versions::Versions;

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

/// A replica has written to its log.
pub struct Persisted<'a> {
    /// Where.
    pub node: NodeId,
    /// Which group's.
    pub group: GroupId,
    /// Comes back in [`Checker::on_durable`].
    pub token: Token,
    /// What was written, not yet durable.
    pub records: &'a [Record],
}

/// A node begins to run: what it found of one group.
pub struct Restarted<'a> {
    /// Where.
    pub node: NodeId,
    /// Which group's.
    pub group: GroupId,
    /// What was found; it is durable.
    pub recovered: &'a Recovered,
    /// The disk was damaged, so what was written may be missing.
    pub damaged: bool,
}

/// A role sends to another one, on the same node or not.
pub struct Sent<'a> {
    /// Who sends it.
    pub from: Address,
    /// Who is to get it.
    pub to: Address,
    /// What it says.
    pub message: &'a Message,
    /// Its length on the wire; zero on the same node.
    pub bytes: usize,
    /// When, in simulated microseconds.
    pub at: u64,
}

/// A role answers a copy of a request.
pub struct Reply<'a> {
    /// Who answers.
    pub from: Address,
    /// Which copy.
    pub to: Origin,
    /// What it says.
    pub response: &'a Response,
    /// How much the replica there has applied.
    pub applied: Slot,
    /// What the monotonic clock there shows.
    pub clock: Time,
}

/// A replica has applied more entries.
pub struct Applied<'a> {
    /// Where.
    pub node: NodeId,
    /// Which group's.
    pub group: GroupId,
    /// The position of the first new entry.
    pub from: Slot,
    /// The position after the last one.
    pub until: Slot,
    /// The entries as its log has them.
    pub entries: &'a [Bytes],
    /// How many transfers the replica had posted when it was last looked at.
    pub posted_from: u64,
    /// What it has posted since.
    pub posted: &'a [Posted],
    /// The state after the last entry; nothing in the middle of one.
    pub state: Option<State<'a>>,
}

/// A replica's state between two entries.
#[derive(Clone, Copy)]
pub struct State<'a> {
    /// The sums.
    pub totals: &'a Totals,
    /// The log time.
    pub time: LogTime,
}

/// An entry that is applied for the first time anywhere; those of a group come in their order.
pub struct Chosen<'a> {
    /// Which group's.
    pub group: GroupId,
    /// Its position.
    pub slot: Slot,
    /// The entry.
    pub entry: &'a Entry,
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

/// A client was given a final answer; it is the record's last.
pub struct Answered<'a> {
    /// Which client.
    pub client: u32,
    /// What is known of the transfer by now.
    pub record: &'a TransferRecord,
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
    /// Every key of the clients with its value.
    pub keys: BTreeMap<Key, Value>,
    /// Every pending transfer there ever was, in the order in which they were made.
    pub pending: Vec<PendingTransfer>,
}

/// The end of a run.
pub struct End<'a> {
    /// The cluster.
    pub shape: &'a Shape,
    /// What clients asked and were told.
    pub history: &'a History,
    /// Every replica of every group that runs.
    pub groups: &'a BTreeMap<GroupId, Vec<ReplicaView>>,
    /// What is still not done though everything was healed long ago.
    pub stuck: Option<&'a str>,
    // Made when the first checker asks.
    posted: OnceCell<PostedById>,
    versions: OnceCell<BTreeMap<AccountId, Versions>>,
}

/// What each group has posted, by id.
pub type PostedById = BTreeMap<GroupId, BTreeMap<TxnId, Posted>>;

impl<'a> End<'a> {
    /// The end of a run in which everything is done, or `stuck` is not.
    pub fn new(
        shape: &'a Shape,
        history: &'a History,
        groups: &'a BTreeMap<GroupId, Vec<ReplicaView>>,
        stuck: Option<&'a str>,
    ) -> End<'a> {
        End { shape, history, groups, stuck, posted: OnceCell::new(), versions: OnceCell::new() }
    }

    /// Each group with the replica that is furthest.
    pub fn furthest(&self) -> impl Iterator<Item = (GroupId, &'a ReplicaView)> + use<'a> {
        let furthest = |replicas: &'_ [ReplicaView]| {
            let last = replicas.iter().map(|replica| replica.totals.applied).max()?;
            replicas.iter().position(|replica| replica.totals.applied == last)
        };
        let groups = self.groups;
        groups.iter().filter_map(move |(group, replicas)| Some((*group, &replicas[furthest(replicas)?])))
    }

    /// What each group has posted, by id.
    pub fn posted(&self) -> &PostedById {
        self.posted.get_or_init(|| {
            let by_id = |replica: &'a ReplicaView| {
                replica.posted.iter().map(|row| (TxnId::from(&row.transfer), *row)).collect()
            };
            self.furthest().map(|(group, replica)| (group, by_id(replica))).collect()
        })
    }

    /// The versions of every account that exists.
    pub fn versions(&self) -> &BTreeMap<AccountId, Versions> {
        self.versions.get_or_init(|| versions::versions(self))
    }
}

/// One property. Each method may find that it does not hold, and then says how.
///
/// # Errors
/// Of every method: the property does not hold.
#[allow(clippy::missing_errors_doc, reason = "said once for all methods")]
pub trait Checker {
    /// Its name in reports.
    fn name(&self) -> &'static str;

    /// What kind of promise it watches.
    fn class(&self) -> Class {
        Class::Safety
    }

    /// The run begins.
    fn on_begin(&mut self, _swarm: &Swarm) {}

    /// A node begins to run.
    fn on_restart(&mut self, _restarted: &Restarted<'_>) -> Verdict {
        Ok(())
    }

    /// A replica has written to its log.
    fn on_persist(&mut self, _persisted: &Persisted<'_>) -> Verdict {
        Ok(())
    }

    /// What a replica wrote under this token, and all before, is durable, and nobody has been told yet.
    fn on_durable(&mut self, _node: NodeId, _group: GroupId, _token: Token) -> Verdict {
        Ok(())
    }

    /// A role sends something.
    fn on_message(&mut self, _sent: &Sent<'_>) -> Verdict {
        Ok(())
    }

    /// A client sends a copy of a request.
    fn on_request(&mut self, _client: u32, _request: &Request) -> Verdict {
        Ok(())
    }

    /// A copy of a request leaves a client under this number.
    fn on_copy(&mut self, _client: u32, _correlation: u64, _request: &Request) -> Verdict {
        Ok(())
    }

    /// A role answers a client; it is not on its way yet.
    fn on_reply(&mut self, _reply: &Reply<'_>) -> Verdict {
        Ok(())
    }

    /// A replica has applied more, and nobody has been told of it yet.
    fn on_applied(&mut self, _applied: &Applied<'_>) -> Verdict {
        Ok(())
    }

    /// An entry was applied for the first time; comes before [`Checker::on_applied`].
    fn on_entry(&mut self, _chosen: &Chosen<'_>) -> Verdict {
        Ok(())
    }

    /// Accounts were looked at.
    fn on_sample(&mut self, _sample: &Sample<'_>) -> Verdict {
        Ok(())
    }

    /// A client was given a final answer about a transfer.
    fn on_answer(&mut self, _answered: &Answered<'_>) -> Verdict {
        Ok(())
    }

    /// A client's read was answered.
    fn on_read(&mut self, _client: u32, _read: &ReadRecord) -> Verdict {
        Ok(())
    }

    /// The run is over.
    fn at_end(&mut self, _end: &End<'_>) -> Verdict {
        Ok(())
    }
}

/// All checkers; the first finding stops the run.
pub struct Checkers {
    checkers: Vec<Box<dyn Checker>>,
    // How many entries of each group have been applied anywhere.
    applied: BTreeMap<GroupId, u64>,
}

impl Checkers {
    /// Every checker of properties. Those before [`liveness`] are right about the end of a run that never came to rest,
    /// too; those behind it assume that it did.
    pub fn all() -> Checkers {
        let mut checkers = Checkers::none();
        checkers.checkers = vec![
            Box::new(ballots::Ballots::default()),
            Box::new(elections::Elections::default()),
            Box::new(agreement::Agreement::default()),
            Box::new(prefix::Prefix::default()),
            Box::new(digests::Digests::default()),
            Box::new(liveness::Liveness),
            Box::new(ownership::Ownership::default()),
            Box::new(limits::Limits::default()),
            Box::new(exactly_once::ExactlyOnce::default()),
            Box::new(atomicity::Atomicity::default()),
            Box::new(conservation::Conservation),
            Box::new(levels::Levels::default()),
            Box::new(replicas::Replicas::default()),
            Box::new(expiry::Expiry::default()),
            Box::new(freshness::Freshness::default()),
            Box::new(reads::Reads),
            Box::new(rejections::Rejections::default()),
            Box::new(serializable::Serializable),
            Box::new(keys::Keys),
            Box::new(bounds::Bounds::default()),
            Box::new(accounts::Accounts),
            Box::new(pending::Pending),
            Box::new(lookups::Lookups),
            Box::new(contests::Contests),
            Box::new(sessions::Sessions),
            Box::new(refusals::Refusals),
            Box::new(workloads::Workloads),
        ];
        checkers
    }

    /// No checker at all.
    pub fn none() -> Checkers {
        Checkers { checkers: Vec::new(), applied: BTreeMap::new() }
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

    /// A replica has applied more: shows every checker what is new anywhere, then what is new there.
    ///
    /// # Errors
    /// The first finding.
    pub fn applied(&mut self, applied: &Applied<'_>) -> Result<(), Violation> {
        if self.checkers.is_empty() {
            return Ok(());
        }
        let group = applied.group;
        for (slot, bytes) in (applied.from.0..).zip(applied.entries) {
            let known = self.applied.entry(group).or_default();
            if slot != *known {
                continue; // Seen before; one that is too far ahead is found by the checker of the prefix.
            }
            *known += 1;
            let entry: Entry = from_slice(bytes).map_err(|error| Violation {
                checker: "wire",
                class: Class::Safety,
                text: format!("{group} applied what is no entry at {slot}: {error}"),
            })?;
            let chosen = Chosen { group, slot: Slot(slot), entry: &entry };
            self.ask(|checker| checker.on_entry(&chosen))?;
        }
        self.ask(|checker| checker.on_applied(applied))
    }
}
