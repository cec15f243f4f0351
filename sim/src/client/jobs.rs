//! Operations of the workloads: taken apart into requests to groups, and put together again.

use std::collections::BTreeMap;

use drachma_protocol::ids::{AccountId, GroupId};
use drachma_protocol::ledger::model::{Account, CreateResult, NewAccount, Outcome, Transfer};
use drachma_protocol::message::client::Found;
use drachma_protocol::message::command::CommandKind;
use drachma_workload::{Answer, Observed, Operation};

use super::Client;
use super::exchange::{Ask, Part};
use super::sessions::Pending;
use crate::history::{CreationRecord, History, SnapshotRecord};

/// How often a snapshot is tried before the client gives it up.
const COLLECTS: u64 = 12;

/// An operation under way.
#[derive(Debug)]
pub(super) struct Job {
    /// Whose it is: a place among the client's generators.
    generator: Option<usize>,
    operation: Operation,
    progress: Progress,
    /// Parts that have not ended.
    left: usize,
    invoked: u64,
}

/// What is known by now.
#[derive(Debug)]
enum Progress {
    Created(Vec<Option<CreateResult>>),
    Transfers(Vec<Option<Outcome>>),
    Read(Option<Option<Account>>),
    Snapshot(Collect),
}

#[derive(Debug)]
struct Collect {
    number: u64,
    before: Option<Vec<Option<Account>>>,
    now: Vec<Option<Account>>,
    failed: bool,
}

/// How a part ended.
pub(super) enum PartEnd {
    Created(Vec<CreateResult>),
    Transfers(Vec<Option<Outcome>>),
    Read(Option<Account>),
    /// Of a query; nothing if something was in doubt.
    Queried(Option<Vec<Found>>),
    /// Nothing is known of it.
    Unknown,
}

impl Client {
    pub(super) fn start_job(
        &mut self,
        now: u64,
        generator: Option<usize>,
        operation: Operation,
        history: &mut History,
    ) {
        self.open += 1;
        self.last_job += 1;
        let progress = match &operation {
            Operation::CreateAccounts(accounts) => Progress::Created(vec![None; accounts.len()]),
            Operation::Transfers(transfers) => Progress::Transfers(vec![None; transfers.len()]),
            Operation::Read(_) => Progress::Read(None),
            Operation::Snapshot(accounts) => {
                Progress::Snapshot(Collect { number: 1, before: None, now: vec![None; accounts.len()], failed: false })
            }
        };
        let job = Job { generator, operation: operation.clone(), progress, left: 0, invoked: now };
        let id = self.last_job;
        self.jobs.insert(id, job);
        match operation {
            Operation::CreateAccounts(accounts) => self.create_all(now, id, &accounts, history),
            Operation::Transfers(transfers) => self.transfer_all(now, id, &transfers, history),
            Operation::Read(account) => self.read_all(now, id, &[account]),
            Operation::Snapshot(accounts) => self.read_all(now, id, &accounts),
        }
    }

    /// The group of an account; of one that nobody owns, the first.
    pub(super) fn group_of(&self, account: AccountId) -> GroupId {
        self.shape.map.owner_of(account).unwrap_or(self.groups[0])
    }

    fn create_all(&mut self, now: u64, job: u64, accounts: &[NewAccount], history: &mut History) {
        let identity = self.sessions.pick(&mut self.rng);
        let mut parts: BTreeMap<GroupId, Vec<usize>> = BTreeMap::new();
        for (place, account) in accounts.iter().enumerate() {
            parts.entry(self.group_of(account.id)).or_default().push(place);
        }
        self.expect(job, parts.len());
        for (group, places) in parts {
            let accounts = places.iter().map(|place| accounts[*place]).collect();
            let pending = Pending { identity, group, accounts, part: Some(Part { job, places }) };
            self.create(now, pending, history);
        }
    }

    /// Sends the creation of accounts, if the session is registered; otherwise registers it first.
    pub(super) fn create(&mut self, now: u64, pending: Pending, history: &mut History) {
        let Pending { identity, group, accounts, part } = pending;
        let Some(session) = self.sessions.in_group(identity, group) else {
            self.sessions.pending.push(Pending { identity, group, accounts, part });
            return self.register(now, identity, group);
        };
        let sequence = self.sessions.sequence(&mut self.rng, identity);
        let record = history.creations.len();
        let creation = CreationRecord { group, accounts: accounts.clone(), invoked: now, answers: Vec::new() };
        history.creations.push(creation);
        self.exchange(now, group, Ask::Create { accounts, session, sequence, record }, part);
    }

    pub(super) fn register(&mut self, now: u64, identity: usize, group: GroupId) {
        if self.sessions.registering.insert((identity, group)) {
            let id = self.sessions.id(identity);
            self.exchange(now, group, Ask::Register { identity, id }, None);
        }
    }

    fn transfer_all(&mut self, now: u64, job: u64, transfers: &[Transfer], history: &mut History) {
        let mut parts: BTreeMap<(GroupId, bool), Vec<usize>> = BTreeMap::new();
        for (place, transfer) in transfers.iter().enumerate() {
            history.invoke(now, *transfer);
            let owners = (self.shape.map.owner_of(transfer.debit), self.shape.map.owner_of(transfer.credit));
            let across = owners.0.is_some() && owners.0 != owners.1;
            parts.entry((self.group_of(transfer.debit), across)).or_default().push(place);
        }
        self.expect(job, parts.len());
        for ((group, across), places) in parts {
            let transfers = places.iter().map(|place| transfers[*place]).collect();
            let ask = self.transfers_ask(group, across, transfers);
            self.exchange(now, group, ask, Some(Part { job, places }));
        }
    }

    /// A batch of one kind; sometimes under a session, which it does not need.
    pub(super) fn transfers_ask(&mut self, group: GroupId, across: bool, transfers: Vec<Transfer>) -> Ask {
        let kind = if across { CommandKind::Transact } else { CommandKind::Transfers };
        let identity = self.sessions.pick(&mut self.rng);
        let session = self.sessions.in_group(identity, group).filter(|_| self.rng.chance(50));
        let sequence = if session.is_some() { self.sessions.sequence(&mut self.rng, identity) } else { 0 };
        Ask::Transfers { kind, transfers, session, sequence, level: None }
    }

    fn read_all(&mut self, now: u64, job: u64, accounts: &[AccountId]) {
        self.expect(job, accounts.len());
        for (place, account) in accounts.iter().enumerate() {
            let part = Part { job, places: vec![place] };
            self.exchange(now, self.group_of(*account), Ask::Read { account: *account }, Some(part));
        }
    }

    fn expect(&mut self, job: u64, parts: usize) {
        if let Some(job) = self.jobs.get_mut(&job) {
            job.left = parts;
        }
    }

    /// A part becomes two.
    pub(super) fn add_part(&mut self, job: u64) {
        if let Some(job) = self.jobs.get_mut(&job) {
            job.left += 1;
        }
    }

    /// A part of a job has ended.
    pub(super) fn end_part(&mut self, now: u64, part: &Part, end: PartEnd, history: &mut History) {
        let Some(job) = self.jobs.get_mut(&part.job) else { return self.end_share(now, part, end, history) };
        job.left -= 1;
        match (&mut job.progress, end) {
            (Progress::Created(known), PartEnd::Created(results)) => {
                for (place, result) in part.places.iter().zip(results) {
                    known[*place] = Some(result);
                }
            }
            (Progress::Transfers(known), PartEnd::Transfers(outcomes)) => {
                for (place, outcome) in part.places.iter().zip(outcomes) {
                    known[*place] = outcome;
                }
            }
            (Progress::Read(known), PartEnd::Read(account)) => *known = Some(account),
            (Progress::Snapshot(collect), PartEnd::Read(account)) => {
                part.places.iter().for_each(|place| collect.now[*place] = account);
            }
            (Progress::Snapshot(collect), _) => collect.failed = true,
            _ => {}
        }
        if job.left == 0 {
            self.end_collect(now, part.job, history);
        }
    }

    /// All parts have ended: the operation has, too, unless it is a snapshot that has to be read again.
    fn end_collect(&mut self, now: u64, id: u64, history: &mut History) {
        let Some(job) = self.jobs.get_mut(&id) else { return };
        let (Progress::Snapshot(collect), Operation::Snapshot(accounts)) = (&mut job.progress, &job.operation) else {
            return self.end_job(now, id, history);
        };
        if collect.failed || collect.before.as_ref() == Some(&collect.now) || collect.number >= COLLECTS {
            return self.end_job(now, id, history);
        }
        collect.number += 1;
        let nothing = vec![None; collect.now.len()];
        collect.before = Some(std::mem::replace(&mut collect.now, nothing));
        let accounts = accounts.clone();
        self.read_all(now, id, &accounts);
    }

    fn end_job(&mut self, now: u64, id: u64, history: &mut History) {
        let Some(job) = self.jobs.remove(&id) else { return };
        let answer = match job.progress {
            Progress::Created(known) => Answer::Created(known),
            Progress::Transfers(known) => Answer::Transfers(known),
            Progress::Read(known) => known.map_or(Answer::Unknown, Answer::Read),
            Progress::Snapshot(collect) if !collect.failed && collect.before.as_ref() == Some(&collect.now) => {
                Answer::Snapshot(collect.now)
            }
            Progress::Snapshot(_) => Answer::Unknown,
        };
        let observed = Observed { operation: job.operation, answer };
        if let Answer::Snapshot(_) = observed.answer {
            let accounts = observed.accounts();
            history.snapshots.push(SnapshotRecord { accounts, invoked: job.invoked, completed: now });
        }
        if let Some(generator) = job.generator.and_then(|generator| self.generators.get_mut(generator)) {
            generator.ended(&observed);
        }
        self.close_unit(now);
    }
}
