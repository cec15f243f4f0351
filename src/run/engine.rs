//! Sends the rows: in file order, so many in flight. The beginning of a set, and rows that stop or start nodes, are
//! barriers.

use std::collections::BTreeSet;
use std::ops::Range;
use std::time::{Duration, Instant};

use drachma_client::{
    Answer, Client, Level, LevelError, LevelRead, ReadAnswer, ReadError, Session, Status, Transacted,
};
use drachma_protocol::ids::NodeId;
use drachma_protocol::ledger::model::Account;
use drachma_protocol::ledger::operations::{Operation, Reply as Found};
use drachma_protocol::placement::map::ShardMap;
use tokio::signal::unix::{SignalKind, signal};
use tokio::task::JoinSet;

use super::cluster::Cluster;
use super::expect::ActualRow;
use super::plan::{Plan, Work};
use super::report::{Amount, Report, RowLine};
use super::step::Stepper;
use super::summary::Tally;
use crate::audit::{AuditReport, Verdict};
use crate::exit::{self, Exit, Failure};
use crate::scenario::{Action, Row, Set};

/// Differences from the expectation that are printed.
const DIFFERENCES_SHOWN: usize = 20;
/// Between two tries of a row without a deadline.
const AGAIN: Duration = Duration::from_millis(100);

/// Carries out a plan.
///
/// # Errors
/// If it cannot be begun.
pub(super) async fn run(plan: &Plan) -> exit::Outcome {
    let mut engine = Engine::open(plan).await?;
    let ended = tokio::select! {
        biased;
        () = interruption() => None,
        ended = engine.carry_out() => Some(ended),
    };
    engine.finish(ended)
}

/// Ctrl-C, or a request to stop.
async fn interruption() {
    let (interrupt, terminate) = (signal(SignalKind::interrupt()), signal(SignalKind::terminate()));
    let (Ok(mut interrupt), Ok(mut terminate)) = (interrupt, terminate) else {
        return std::future::pending().await; // Then the signals end the process, as they do by default.
    };
    tokio::select! {
        _ = interrupt.recv() => {}
        _ = terminate.recv() => {}
    }
}

/// A connection, and the map that says which groups a row touches.
pub(super) struct Link {
    pub(super) client: Client,
    // Where rows have levels: all rows are one session's.
    session: Option<Session>,
    pub(super) map: ShardMap,
}

/// A run under way.
pub(super) struct Engine<'a> {
    pub(super) plan: &'a Plan,
    pub(super) cluster: Cluster,
    link: Option<Link>,
    pub(super) report: Report,
    tally: Tally,
    began: Instant,
    // Sent and not answered.
    in_flight: BTreeSet<usize>,
    /// Answered `committed` since the last audit.
    pub(super) committed: Vec<usize>,
    /// Answered and not final since the last audit.
    pub(super) open: Vec<usize>,
    /// What the audits so far have found.
    pub(super) audit: Option<AuditReport>,
    actual: Vec<ActualRow>,
    stepper: Stepper,
}

/// A row that was answered.
struct Answered {
    index: usize,
    reply: Reply,
    latency: Duration,
}

enum Reply {
    Write(Answer),
    Read(ReadAnswer),
    // At a level; with whether it was met.
    LeveledWrite(Answer, bool),
    LeveledRead(Result<LevelRead, ReadError>),
    // The level does not allow this.
    Refused(LevelError),
}

impl Reply {
    fn is_write(&self) -> bool {
        !matches!(self, Reply::Read(_) | Reply::LeveledRead(_))
    }
}

impl<'a> Engine<'a> {
    /// Finds the cluster, if it must be there, and begins to print.
    async fn open(plan: &'a Plan) -> Result<Engine<'a>, Failure> {
        let cluster = Cluster::open(plan)?;
        let link = if plan.embedded { None } else { Some(connect(&cluster, plan).await?) };
        let report = Report::new(plan.format, plan.scenario.len(), &plan.run_id).map_err(unwritable)?;
        Ok(Engine {
            plan,
            cluster,
            link,
            report,
            tally: Tally::new(),
            began: Instant::now(),
            in_flight: BTreeSet::new(),
            committed: Vec::new(),
            open: Vec::new(),
            audit: None,
            actual: Vec::new(),
            stepper: Stepper::default(),
        })
    }

    /// The connection.
    pub(super) fn link(&self) -> &Link {
        self.link.as_ref().expect("rows and audits come after the connection")
    }

    async fn carry_out(&mut self) -> Result<(), Failure> {
        let plan = self.plan;
        if plan.embedded && !plan.isolate {
            self.cluster.start().await?;
            self.link = Some(connect(&self.cluster, plan).await?);
        }
        let sets = plan.scenario.sets();
        for (position, set) in sets.iter().enumerate() {
            if plan.step && position > 0 {
                let (globals, settings) = (self.cluster.globals(plan), self.cluster.settings());
                self.stepper.wait((sets[position - 1].number, set.number), globals, settings).await;
            }
            if plan.isolate {
                if position > 0 {
                    self.settle(&sets[position - 1], sets[position - 1].rows.clone()).await?;
                }
                self.cluster.renew().await?;
                self.link = Some(connect(&self.cluster, plan).await?);
            }
            if let Some(live) = self.live_nodes(set) {
                self.cluster.arrange(&live).await?;
            }
            self.rows(set.rows.clone()).await?;
        }
        let Some(last) = sets.last() else { return Ok(()) };
        let rows = if plan.isolate { last.rows.clone() } else { 0..plan.scenario.len() };
        self.settle(last, rows).await
    }

    /// The nodes that must be up when a set starts; nothing if the file leaves them as they are.
    fn live_nodes(&self, set: &Set) -> Option<Vec<NodeId>> {
        let all = || self.cluster.settings().nodes().iter().map(|node| node.id).collect();
        match &set.live {
            Some(live) if !live.is_empty() => Some(live.clone()),
            Some(_) => Some(all()),
            None => self.plan.scenario.has_live().then(all),
        }
    }

    async fn rows(&mut self, range: Range<usize>) -> Result<(), Failure> {
        let mut next = range.start;
        while next < range.end {
            let row = self.plan.scenario.row(next);
            if row.action.is_control() {
                self.control(&row).await?;
                next += 1;
            } else {
                next = self.stretch(next..range.end).await?;
            }
        }
        Ok(())
    }

    async fn control(&mut self, row: &Row<'_>) -> Result<(), Failure> {
        let node = match row.action {
            Action::Fail(node) => self.cluster.fail(node).map(|()| Some(node))?,
            Action::Recover(node) => self.cluster.recover(node).await.map(|()| Some(node))?,
            _ => self.cluster.fail_leader().await?,
        };
        self.tally.control();
        self.print(RowLine { node: node.map(|node| node.to_string()), ..line(row) })?;
        self.report.flush().map_err(unwritable)
    }

    /// Sends rows until the next barrier, waits for all of them, and returns where it stopped.
    async fn stretch(&mut self, range: Range<usize>) -> Result<usize, Failure> {
        let mut flight = JoinSet::new();
        let mut next = range.start;
        let mut barrier = range.end;
        self.tally.start(self.began.elapsed());
        loop {
            while flight.len() < self.plan.clients && next < barrier {
                let row = self.plan.scenario.row(next);
                if row.action.is_control() {
                    barrier = next;
                    break;
                }
                self.in_flight.insert(next);
                let Link { client, session, .. } = self.link();
                let asked = Asked {
                    index: row.index,
                    action: row.action,
                    level: row.level,
                    work: self.plan.work(next),
                    deadline: self.plan.deadline,
                };
                flight.spawn(asked.ask(client.clone(), session.clone()));
                next += 1;
            }
            let answered = match flight.try_join_next() {
                Some(answered) => answered,
                None => {
                    self.report.flush().map_err(unwritable)?;
                    match flight.join_next().await {
                        Some(answered) => answered,
                        None => break,
                    }
                }
            };
            self.answered(answered.map_err(|error| Failure::failed(format!("a row was not carried out: {error}")))?)?;
        }
        self.tally.stop();
        Ok(next)
    }

    fn answered(&mut self, answered: Answered) -> Result<(), Failure> {
        let Answered { index, reply, latency } = answered;
        let row = self.plan.scenario.row(index);
        let outcome = Outcome::from(&reply);
        self.in_flight.remove(&index);
        self.tally.answered(self.began.elapsed(), outcome.name, reply.is_write(), latency);
        if outcome.level_met == Some(false) {
            self.tally.level_missed();
        }
        if let Reply::Write(answer) | Reply::LeveledWrite(answer, _) = reply {
            match answer.status {
                Status::Committed => self.committed.push(index),
                Status::Rejected(_) => {}
                // What is only accepted is settled in the end like what is not known.
                Status::Accepted | Status::Unavailable | Status::Unknown => self.open.push(index),
            }
        }
        self.print(RowLine {
            level_met: outcome.level_met.filter(|met| row.level == Level::All || !met),
            age_us: outcome.age,
            reason: outcome.reason,
            replayed: (outcome.replayed && self.plan.repeats).then_some(true),
            value: outcome.value,
            attempts: outcome.attempts,
            latency_us: Some(u64::try_from(latency.as_micros()).unwrap_or(u64::MAX)),
            ..self.asked(&row, outcome.name)
        })
    }

    /// What there is to say of a row that was sent.
    fn asked<'r>(&self, row: &Row<'r>, outcome: &'static str) -> RowLine<'r> {
        RowLine {
            id: self.plan.txn(row.index).map(|txn| txn.id.to_string()),
            groups: Some(groups(&self.link().map, &row.members())),
            level: Some(row.level.to_string()),
            outcome: Some(outcome),
            is_final: Some(matches!(outcome, "committed" | "rejected" | "ok")),
            ..line(row)
        }
    }

    fn print(&mut self, line: RowLine<'_>) -> Result<(), Failure> {
        self.report.row(&line).map_err(unwritable)?;
        if self.plan.expectation.is_some() {
            self.actual.push(ActualRow {
                index: line.index,
                set: line.set,
                row: line.row.to_owned(),
                kind: line.kind,
                groups: line.groups,
                outcome: line.outcome,
                value: line.value.and_then(Amount::number),
            });
        }
        Ok(())
    }

    /// Prints the summary, compares with the expectation, and ends the nodes. `ended` is nothing if interrupted.
    fn finish(mut self, ended: Option<Result<(), Failure>>) -> exit::Outcome {
        let interrupted = ended.is_none();
        let mut written = Ok(());
        for index in std::mem::take(&mut self.in_flight) {
            self.tally.given_up("unknown");
            let row = self.plan.scenario.row(index);
            let line = self.asked(&row, "unknown");
            written = written.and(self.print(line));
        }
        let whole = matches!(ended, Some(Ok(())));
        let mut audit = self.audit.take().unwrap_or_default();
        if !whole {
            let why = if interrupted { "the run was interrupted" } else { "the run could not be finished" };
            audit.incomplete(format!("{why} before its last audit"));
        }
        let summary = self.tally.summary(&self.plan.run_id, interrupted, &audit);
        written = written.and(self.report.summary(&summary).map_err(unwritable));
        let flushed = self.plan.recorder.as_ref().map_or(Ok(()), drachma_client::Recorder::flush);
        written = written.and(flushed.map_err(|error| Failure::failed(format!("cannot write the history: {error}"))));
        let differences = if whole { self.compare() } else { 0 };
        self.cluster.end(self.plan.embedded);
        let failed = match ended {
            None => return Ok(Exit::Interrupted),
            Some(ended) => ended.and(written).map_err(|failure| failure.report()).err(),
        };
        Ok(match failed {
            _ if audit.verdict == Verdict::Violated || differences > 0 => Exit::Failed,
            Some(exit) => exit,
            None => audit.exit(),
        })
    }

    /// Says where the rows differ from the expectation, and how often they do.
    fn compare(&mut self) -> usize {
        let Some(expectation) = &self.plan.expectation else { return 0 };
        let differences = expectation.differences(&mut self.actual);
        for difference in differences.iter().take(DIFFERENCES_SHOWN) {
            eprintln!("difference: {difference}");
        }
        if differences.len() > DIFFERENCES_SHOWN {
            eprintln!("... {} differences in all", differences.len());
        }
        differences.len()
    }
}

async fn connect(cluster: &Cluster, plan: &Plan) -> Result<Link, Failure> {
    let client = cluster.connect().await?;
    let client = plan.recorder.as_ref().map_or(client.clone(), |recorder| client.recorded(recorder));
    let map = client.map().map;
    let session = plan.scenario.has_levels().then(|| client.session());
    Ok(Link { client, session, map })
}

/// A row on its way.
struct Asked {
    index: usize,
    action: Action,
    level: Level,
    work: Option<Work>,
    deadline: Option<Duration>,
}

impl Asked {
    /// Asks the cluster; without a deadline again until there is an answer that the level is content with.
    async fn ask(self, client: Client, session: Option<Session>) -> Answered {
        let sent = Instant::now();
        let mut before = 0;
        loop {
            let mut reply = match &session {
                Some(session) => self.leveled(session).await,
                None => self.linearizable(&client).await,
            };
            let (attempts, is_final) = match &mut reply {
                Reply::Write(answer) | Reply::LeveledWrite(answer, _) => {
                    let is_final = answer.status.is_final() || answer.status == Status::Accepted;
                    (Some(&mut answer.attempts), is_final)
                }
                Reply::Read(answer) => (Some(&mut answer.attempts), answer.account.is_ok()),
                Reply::LeveledRead(read) => (None, !matches!(read, Err(ReadError::Status(_)))),
                Reply::Refused(_) => (None, true),
            };
            if let Some(attempts) = attempts {
                *attempts = attempts.saturating_add(before);
                before = *attempts;
            }
            if is_final || self.deadline.is_some() {
                return Answered { index: self.index, reply, latency: sent.elapsed() };
            }
            tokio::time::sleep(AGAIN).await;
        }
    }

    async fn linearizable(&self, client: &Client) -> Reply {
        match (&self.work, self.action) {
            (Some(Work::Transfer(transfer)), _) => Reply::Write(client.transfer(*transfer, self.deadline).await),
            (Some(Work::Transaction(all)), _) => Reply::Write(answer(client.transact(all, self.deadline).await)),
            (None, Action::Balance(account)) => Reply::Read(client.read(account, self.deadline).await),
            (None, _) => unreachable!("rows that stop or start nodes are not sent"),
        }
    }

    async fn leveled(&self, session: &Session) -> Reply {
        match (&self.work, self.action) {
            (Some(Work::Transfer(transfer)), _) => match session.transfer(*transfer, self.level, self.deadline).await {
                Ok(done) => Reply::LeveledWrite(done.answer, done.level_met),
                Err(error) => Reply::Refused(error),
            },
            (Some(Work::Transaction(all)), _) => match session.transact(all, self.level, self.deadline).await {
                Ok(done) => Reply::LeveledWrite(answer(done.answer), done.level_met),
                Err(error) => Reply::Refused(error),
            },
            (None, Action::Balance(account)) => {
                let read = session.query(&[Operation::Read(account)], self.level, self.deadline).await;
                Reply::LeveledRead(read)
            }
            (None, _) => unreachable!("rows that stop or start nodes are not sent"),
        }
    }
}

/// Rows show what became of a transaction, not what its operations yield: those of a row yield nothing.
fn answer(done: Transacted) -> Answer {
    Answer { status: done.status, replayed: done.replayed, attempts: done.attempts }
}

/// An answer in the words of reports.
#[derive(Default)]
struct Outcome {
    name: &'static str,
    reason: Option<String>,
    value: Option<Amount>,
    attempts: Option<u32>,
    replayed: bool,
    level_met: Option<bool>,
    // In microseconds.
    age: Option<u64>,
}

impl From<&Reply> for Outcome {
    fn from(reply: &Reply) -> Outcome {
        match reply {
            Reply::Write(answer) => Outcome::of_write(answer),
            Reply::LeveledWrite(answer, met) => Outcome { level_met: Some(*met), ..Outcome::of_write(answer) },
            Reply::Read(answer) => Outcome { attempts: Some(answer.attempts), ..Outcome::of_read(answer.account) },
            Reply::LeveledRead(Ok(read)) => {
                let account = match read.replies.first() {
                    Some(Found::Account(account)) => Some(*account),
                    _ => None,
                };
                let age = read.age.map(|age| u64::try_from(age.as_micros()).unwrap_or(u64::MAX));
                Outcome { level_met: Some(read.level_met), age, ..Outcome::of_read(Ok(account)) }
            }
            Reply::LeveledRead(Err(ReadError::Status(status))) => Outcome::of_read(Err(*status)),
            Reply::LeveledRead(Err(ReadError::Differ(group))) => {
                Outcome { name: "rejected", reason: Some(format!("replicas_of_{group}_differ")), ..Outcome::default() }
            }
            Reply::Refused(LevelError::SeveralGroups) => {
                Outcome { name: "rejected", reason: Some("several_groups".to_owned()), ..Outcome::default() }
            }
        }
    }
}

impl Outcome {
    fn of_write(answer: &Answer) -> Outcome {
        let (name, reason) = words(answer.status);
        let (attempts, replayed) = (Some(answer.attempts), answer.replayed);
        Outcome { name, reason, attempts, replayed, ..Outcome::default() }
    }

    fn of_read(account: Result<Option<Account>, Status>) -> Outcome {
        let (name, reason, value) = match account {
            Ok(Some(account)) => ("ok", None, Some(Amount(account.balance()))),
            Ok(None) => ("rejected", Some("no_such_account".to_owned()), None),
            Err(status) => (words(status).0, words(status).1, None),
        };
        Outcome { name, reason, value, ..Outcome::default() }
    }
}

fn words(status: Status) -> (&'static str, Option<String>) {
    match status {
        Status::Committed => ("committed", None),
        Status::Rejected(reason) => ("rejected", Some(reason.to_string())),
        Status::Accepted => ("accepted", None),
        Status::Unavailable => ("unavailable", None),
        Status::Unknown => ("unknown", None),
    }
}

fn line<'r>(row: &Row<'r>) -> RowLine<'r> {
    RowLine { index: row.index, set: row.set, row: row.text, kind: row.action.kind(), ..RowLine::default() }
}

/// The numbers of the groups that a row touches, sorted.
fn groups(map: &ShardMap, actions: &[Action]) -> Vec<u16> {
    let accounts = actions.iter().flat_map(Action::accounts);
    let owners: BTreeSet<u16> = accounts.filter_map(|account| Some(map.owner_of(account)?.0)).collect();
    owners.into_iter().collect()
}

pub(super) fn unwritable(error: std::io::Error) -> Failure {
    Failure::failed(format!("cannot write the results: {error}"))
}

#[cfg(test)]
mod tests {
    use drachma_protocol::ids::{AccountId, Slot};
    use drachma_protocol::ledger::model::Reason;

    use super::*;
    use crate::settings::Settings;

    #[test]
    fn groups_are_sorted_and_each_named_once() {
        let map = Settings::sample().shard_map();
        let transfer = |debit: u128, credit: u128| {
            let (debit, credit) = (AccountId(debit), AccountId(credit));
            groups(&map, &[Action::Transfer { debit, credit, amount: 1 }])
        };
        assert_eq!(transfer(6001, 1), [1, 3]);
        assert_eq!(transfer(1, 2), [1]);
        assert_eq!(transfer(1, 70_000), [1]);
        assert_eq!(groups(&map, &[Action::Balance(AccountId(3001))]), [2]);
        assert_eq!(groups(&map, &[Action::FailLeader]), [0u16; 0]);
    }

    #[test]
    fn answers_are_told_in_one_vocabulary() {
        let write = |status| Outcome::from(&Reply::Write(Answer { status, replayed: true, attempts: 2 }));
        let rejected = write(Status::Rejected(Reason::ExceedsCredits));
        assert_eq!((rejected.name, rejected.reason.as_deref()), ("rejected", Some("exceeds_credits")));
        assert_eq!((rejected.attempts, rejected.replayed), (Some(2), true));
        assert_eq!(write(Status::Unavailable).name, "unavailable");
        let read = |account| Outcome::from(&Reply::Read(ReadAnswer { account, slot: Slot(1), attempts: 1 }));
        let account = Account { debits_posted: 7, credits_posted: 2, ..Account::default() };
        let ok = read(Ok(Some(account)));
        assert_eq!((ok.name, ok.value.and_then(Amount::number)), ("ok", Some(-5)));
        let missing = read(Ok(None));
        assert_eq!((missing.name, missing.reason.as_deref()), ("rejected", Some("no_such_account")));
        assert_eq!(read(Err(Status::Unknown)).name, "unknown");
    }
}
