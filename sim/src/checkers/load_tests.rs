//! The checkers of what clients do beside transfers and reads, each against a history that breaks its property.

use drachma_protocol::ids::{AccountId, Session, SessionId, Slot, TransferId};
use drachma_protocol::ledger::model::{CreateResult, Flags, NewAccount, Outcome, Reason, Sides, Transfer};
use drachma_protocol::message::client::{Refused, Response, TransfersDone, Why};
use drachma_protocol::rng::Rng;
use drachma_protocol::time::{LogTime, Span};

use super::*;
use crate::client::town::Town;
use crate::history::{BadRecord, CreationRecord, LaterCommand, LookupRecord, LostSession, SnapshotRecord};

const DONE: Outcome = Outcome::Committed;
const CONFLICT: Outcome = Outcome::Rejected(Reason::IdConflict);

struct Story {
    shape: Shape,
    history: History,
    groups: BTreeMap<GroupId, Vec<ReplicaView>>,
}

impl Story {
    fn new() -> Story {
        let shape = Shape::draw(&mut Rng::new(1), 1);
        let totals = Totals {
            applied: Slot(0),
            digest: 0,
            accounts: 0,
            posted: 0,
            keys: 0,
            key_bytes: 0,
            ids: 0,
            in_doubt: 0,
            coordinated: 0,
            waiting: 0,
            ledgers: Vec::new(),
            epoch: shape.map.epoch,
        };
        let view = ReplicaView {
            node: NodeId(1),
            totals,
            posted: Vec::new(),
            accounts: Vec::new(),
            keys: BTreeMap::new(),
            pending: Vec::new(),
        };
        Story { shape, history: History::default(), groups: BTreeMap::from([(GroupId(1), vec![view])]) }
    }

    fn replica(&mut self) -> &mut ReplicaView {
        &mut self.groups.get_mut(&GroupId(1)).unwrap()[0]
    }

    fn post(&mut self, transfer: Transfer) {
        self.replica().posted.push(Posted { transfer, sides: Sides::Both, posted_at: LogTime(0) });
    }

    fn ask(&self, mut checker: impl Checker) -> Verdict {
        checker.at_end(&End::new(&self.shape, &self.history, &self.groups, None))
    }

    /// A fresh account that was asked for and answered, and stands in the books if there is an account.
    fn creation(&mut self, flags: Flags, result: CreateResult, stands: bool) -> NewAccount {
        let new = NewAccount { id: self.shape.fresh_account(GroupId(1), 1), ledger: 1, code: 1, flags };
        let answers = vec![(5, vec![result])];
        self.history.creations.push(CreationRecord { group: GroupId(1), accounts: vec![new], invoked: 1, answers });
        if stands {
            let account = Account { id: new.id, ledger: 1, code: 1, flags, ..Account::default() };
            self.replica().accounts = vec![account];
        }
        new
    }
}

fn transfer(id: u128, amount: u128) -> Transfer {
    let (debit, credit) = (AccountId(1), AccountId(2));
    Transfer { id: TransferId(id), debit, credit, amount, ledger: 1, code: 1, ..Transfer::default() }
}

fn unknown_session() -> Response {
    Response::Refused(Refused { why: Why::UnknownSession, leader: None, after: Span(0) })
}

#[test]
fn an_account_stands_as_it_was_answered() {
    let mut story = Story::new();
    story.creation(Flags::NONE, CreateResult::Created, true);
    assert_eq!(story.ask(accounts::Accounts), Ok(()));
    story.creation(Flags::HISTORY, CreateResult::ExistsDifferent, false);
    assert_eq!(story.ask(accounts::Accounts), Ok(()));
    story.creation(Flags::HISTORY, CreateResult::Exists, false);
    assert!(story.ask(accounts::Accounts).is_err(), "it exists with other rules");
}

#[test]
fn a_created_account_that_is_missing_or_created_twice_is_found() {
    let mut story = Story::new();
    story.creation(Flags::NONE, CreateResult::Created, false);
    assert!(story.ask(accounts::Accounts).is_err());
    let mut story = Story::new();
    story.creation(Flags::NONE, CreateResult::Created, true);
    story.creation(Flags::NONE, CreateResult::Created, true);
    assert!(story.ask(accounts::Accounts).unwrap_err().contains("twice"));
}

#[test]
fn an_account_that_nobody_asked_for_or_a_read_that_misses_one_is_found() {
    let mut story = Story::new();
    let new = story.creation(Flags::NONE, CreateResult::Created, true);
    let read = ReadRecord { account: new.id, invoked: 9, completed: 10, found: None };
    story.history.reads.push(read.clone());
    assert!(story.ask(accounts::Accounts).unwrap_err().contains("missed"));
    story.history.reads = vec![ReadRecord { invoked: 2, ..read }];
    assert_eq!(story.ask(accounts::Accounts), Ok(()), "it began before that was known");
    story.history.creations.clear();
    assert!(story.ask(accounts::Accounts).unwrap_err().contains("nobody asked"));
}

#[test]
fn lookups_agree_with_each_other_and_with_answers() {
    let look = |outcome| {
        let txn = TxnId::from(&transfer(1, 5));
        LookupRecord { txn, invoked: 1, completed: 2, outcome }
    };
    let rejected = Some(Outcome::Rejected(Reason::ExceedsCredits));
    let mut story = Story::new();
    story.history.lookups = vec![look(None), look(Some(DONE)), look(None)];
    assert_eq!(story.ask(lookups::Lookups), Ok(()), "a replica may lag");
    story.history.lookups.push(look(rejected));
    assert!(story.ask(lookups::Lookups).is_err());
    story.history.lookups = vec![look(rejected)];
    story.history.invoke(0, transfer(1, 5));
    story.history.answer(9, TxnId::from(&transfer(1, 5)), DONE);
    assert!(story.ask(lookups::Lookups).is_err());
}

#[test]
fn of_two_contents_one_has_the_id() {
    let story = |answers: [Outcome; 2], posted: u128| {
        let mut story = Story::new();
        for (amount, outcome) in [5, 6].into_iter().zip(answers) {
            story.history.contest(0, transfer(1, amount));
            story.history.answer_rival(3, &transfer(1, amount), outcome);
        }
        story.post(transfer(1, posted));
        story.ask(contests::Contests)
    };
    assert_eq!(story([DONE, CONFLICT], 5), Ok(()));
    assert!(story([DONE, DONE], 5).is_err(), "both committed");
    assert!(story([DONE, CONFLICT], 6).is_err(), "the other one is in the books");
    assert!(story([Outcome::Rejected(Reason::Fenced), DONE], 6).is_err(), "fenced and committed");
}

#[test]
fn other_content_under_a_settled_id_is_a_conflict() {
    let mut story = Story::new();
    story.history.invoke(0, transfer(1, 5));
    story.history.answer(1, TxnId::from(&transfer(1, 5)), DONE);
    story.post(transfer(1, 5));
    story.history.contest(2, transfer(1, 6));
    story.history.answer_rival(3, &transfer(1, 6), CONFLICT);
    assert_eq!(story.ask(contests::Contests), Ok(()));
    story.history.answer_rival(4, &transfer(1, 6), DONE);
    assert!(story.ask(contests::Contests).is_err());
}

#[test]
fn s17_nothing_is_executed_under_a_session_that_is_unknown() {
    let mut story = Story::new();
    let session = Session { id: SessionId(7), registered: Slot(3) };
    let answers = vec![(9, unknown_session())];
    let later = vec![LaterCommand { transfers: vec![transfer(1, 5)], accounts: Vec::new(), answers }];
    story.history.lost_sessions.push(LostSession { group: GroupId(1), session, since: 1, later });
    assert_eq!(story.ask(sessions::Sessions), Ok(()));
    story.post(transfer(1, 5));
    assert!(story.ask(sessions::Sessions).is_err(), "refused, and executed all the same");
    story.replica().posted.clear();
    let done = Response::Transfers(TransfersDone { items: Vec::new() });
    story.history.lost_sessions[0].later[0].answers.push((10, done));
    assert!(story.ask(sessions::Sessions).is_err(), "answered as if it had been registered anew");
}

#[test]
fn what_is_malformed_changes_nothing_and_is_not_carried_out() {
    let mut story = Story::new();
    let answers = vec![(9, Response::refused(Why::Malformed))];
    let bad = BadRecord { what: "truncated", transfers: vec![transfer(1, 5)], accounts: Vec::new(), answers };
    story.history.bad.push(bad);
    assert_eq!(story.ask(refusals::Refusals), Ok(()));
    story.post(transfer(1, 5));
    assert!(story.ask(refusals::Refusals).is_err());
    story.replica().posted.clear();
    let done = Response::Transfers(TransfersDone { items: Vec::new() });
    story.history.bad[0].answers.push((10, done));
    assert!(story.ask(refusals::Refusals).is_err());
}

#[test]
fn the_bank_and_the_ledger_are_watched() {
    let mut story = Story::new();
    let town = Town::of(&story.shape);
    let account =
        |id: &AccountId, credits_posted| (*id, Some(Account { id: *id, credits_posted, ..Account::default() }));
    let read = |each| town.bank.accounts.iter().map(|id| account(id, each)).collect();
    story.history.snapshots.push(SnapshotRecord { accounts: read(13), invoked: 1, completed: 2 });
    assert!(story.ask(workloads::Workloads).unwrap_err().contains("the total is 104"));
    story.history.snapshots.clear();
    let withdrawal = Transfer { debit: town.ledger.accounts[0], amount: 9, ..transfer(1, 9) };
    story.history.invoke(0, withdrawal);
    story.history.answer(1, TxnId::from(&withdrawal), DONE);
    assert!(story.ask(workloads::Workloads).unwrap_err().contains("paid out 9"));
}
