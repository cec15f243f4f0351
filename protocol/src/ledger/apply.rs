//! An entry in the making: its commands are decoded and carried out one by one, in slices.

use std::sync::Arc;

use bytes::Bytes;

use super::Ledger;
use super::model::{Account, BATCH_LIMIT, CreateResult, Flags, ItemResult, NewAccount, Transfer};
use super::operations::Transaction;
use super::output::{ClientOutput, CommandResult, Output};
use super::queue::Asker;
use super::sessions::Sequence;
use super::transfers::Submitted;
use crate::ids::{Attempt, CommandRef, Session, SessionId, Slot, TxnId};
use crate::ledger::accounts::Whereabouts;
use crate::message::client::Why;
use crate::message::command::{ClientCommand, Command, CommandKind, FORMAT, LeaderStart};
use crate::planted::{Bug, is_planted};
use crate::time::LogTime;
use crate::wire::codec::{Decode, DecodeError, Reader, from_slice};

/// Items of a body that are decoded as one operation.
const DECODE_STEP: usize = 4;

const MADE_BY_A_LEADER: &str = "an entry is made by a leader and kept under checksums";

/// An entry that is being applied.
#[derive(Clone)]
pub(super) struct Work {
    slot: Slot,
    time: LogTime,
    entry: Box<[u8]>,
    // Where the next command begins.
    at: usize,
    left: u32,
    index: u32,
    start: Option<LeaderStart>,
    expiring: bool,
    job: Option<Job>,
}

/// A command that takes more than one step.
#[derive(Clone)]
enum Job {
    Transfers(Box<TransferBatch>),
    Accounts(Box<AccountBatch>),
    Forget(std::vec::IntoIter<(TxnId, Attempt)>),
    /// What is left of the steps that a large transaction counts for: it was carried out in one.
    Rest(usize),
}

/// Operations of a transaction that count for one step.
const OPERATIONS_PER_STEP: usize = 4;

#[derive(Clone)]
struct TransferBatch {
    command: CommandRef,
    session: Option<Session>,
    sequence: u64,
    deadline: LogTime,
    body: Body<(Transfer, u128)>,
    next: usize,
    items: Vec<ItemResult>,
    waiting: u32,
}

#[derive(Clone)]
struct AccountBatch {
    command: CommandRef,
    session: Session,
    sequence: u64,
    body: Body<NewAccount>,
    next: usize,
    results: Vec<CreateResult>,
}

/// The body of a batch, decoded in steps, before anything of it is carried out.
#[derive(Clone)]
struct Body<T> {
    bytes: Bytes,
    at: usize,
    left: usize,
    items: Vec<T>,
}

impl<T> Body<T> {
    /// Checks the head: as many items as the envelope says, and no more than a batch may have.
    fn open(command: &ClientCommand, mut items: Vec<T>) -> Option<Body<T>> {
        let mut reader = Reader::new(&command.body);
        let count = reader.array_len().ok()?;
        let left = count as usize;
        // An item has several bytes, so this takes no more memory than a multiple of what has arrived.
        if count != command.count || left > BATCH_LIMIT || left > reader.remaining() {
            return None;
        }
        items.reserve(left);
        Some(Body { bytes: command.body.clone(), at: command.body.len() - reader.remaining(), left, items })
    }

    /// Decodes some items; returns whether all are decoded.
    fn step(&mut self, item: fn(&mut Reader<'_>, &[u8]) -> Result<T, DecodeError>) -> Result<bool, DecodeError> {
        let rest = &self.bytes[self.at..];
        let mut reader = Reader::new(rest);
        for _ in 0..self.left.min(DECODE_STEP) {
            let from = &rest[rest.len() - reader.remaining()..];
            self.items.push(item(&mut reader, from)?);
            self.left -= 1;
        }
        self.at = self.bytes.len() - reader.remaining();
        if self.left > 0 {
            return Ok(false);
        }
        reader.finish().map(|()| true)
    }

    fn is_open(&self) -> bool {
        self.left > 0 || self.at < self.bytes.len()
    }
}

/// There is one form of each value, so the bytes as they came are those of which the digest is made.
fn transfer_item(reader: &mut Reader<'_>, from: &[u8]) -> Result<(Transfer, u128), DecodeError> {
    let transfer = Transfer::decode(reader)?;
    let used = from.len() - reader.remaining();
    Ok((transfer, xxhash_rust::xxh3::xxh3_128(&from[..used])))
}

fn account_item(reader: &mut Reader<'_>, _from: &[u8]) -> Result<NewAccount, DecodeError> {
    NewAccount::decode(reader)
}

impl Work {
    /// Reads the head of an entry.
    ///
    /// # Panics
    /// If it is none.
    pub(super) fn new(slot: Slot, entry: &[u8]) -> Work {
        let mut reader = Reader::new(entry);
        let mut work = Work {
            slot,
            time: LogTime(0),
            entry: entry.into(),
            at: 0,
            left: 0,
            index: 0,
            start: None,
            expiring: true,
            job: None,
        };
        work.read_head(&mut reader).expect(MADE_BY_A_LEADER);
        work.at = entry.len() - reader.remaining();
        work
    }

    fn read_head(&mut self, reader: &mut Reader<'_>) -> Result<(), DecodeError> {
        reader.array_of(4)?;
        let format = u8::decode(reader)?;
        assert!(format <= FORMAT, "a leader writes what all members of the group can read");
        self.time = LogTime::decode(reader)?;
        let _wall = u64::decode(reader)?;
        reader.array_of(2)?;
        match reader.uint()? {
            1 => self.start = Some(LeaderStart::decode(reader)?),
            2 => self.left = reader.array_len()?,
            tag => return Err(DecodeError::Tag(tag)),
        }
        if self.left == 0 { reader.finish() } else { Ok(()) }
    }

    /// The leader's log time.
    pub(super) fn time(&self) -> LogTime {
        self.time
    }

    fn next_command(&mut self) -> Option<(CommandRef, Command)> {
        self.left = self.left.checked_sub(1)?;
        let mut reader = Reader::new(&self.entry[self.at..]);
        let command = Command::decode(&mut reader).expect(MADE_BY_A_LEADER);
        if self.left == 0 {
            reader.finish().expect(MADE_BY_A_LEADER);
        }
        self.at = self.entry.len() - reader.remaining();
        let place = CommandRef { slot: self.slot, index: self.index };
        self.index += 1;
        Some((place, command))
    }
}

fn client(command: CommandRef, result: CommandResult) -> Output {
    Output::Client(ClientOutput { command, result })
}

impl Ledger {
    /// One operation of the entry; returns whether the entry is done.
    pub(super) fn advance(&mut self, work: &mut Work, outputs: &mut Vec<Output>) -> bool {
        if work.expiring {
            work.expiring = self.expire_one(outputs);
        } else if let Some((turn, spot)) = self.wake.pop() {
            self.reconsider(turn, outputs);
            self.stir(spot, Some(turn));
        } else if let Some(start) = work.start.take() {
            self.lead(start);
        } else if let Some(job) = work.job.take() {
            work.job = self.go_on(job, outputs);
        } else if let Some((place, command)) = work.next_command() {
            work.job = self.carry_out(place, command, outputs);
        } else {
            return true;
        }
        false
    }

    fn lead(&mut self, start: LeaderStart) {
        assert!(start.ballot >= self.leader, "a leader's first entry follows those of lower ballots");
        self.leader = start.ballot;
        #[cfg(feature = "planted")]
        self.lose_holds(Bug::HoldsLostAtFailover, LogTime(u64::MAX));
        if self.members.is_none() {
            self.members = start.members;
        }
    }

    fn carry_out(&mut self, place: CommandRef, command: Command, outputs: &mut Vec<Output>) -> Option<Job> {
        match command {
            Command::Client(command) => match self.open(place, &command) {
                Ok(Opened::Job(job)) => return self.go_on(job, outputs),
                Ok(Opened::Done(result)) => outputs.push(client(place, result)),
                Ok(Opened::Transaction(transaction)) => {
                    let asker = Asker { command: place, index: 0, alone: true, session: command.session };
                    let deadline = self.time + command.deadline;
                    let (work, result) = (transaction.operations.len(), self.transact(transaction, asker, deadline));
                    if let Some(session) = command.session {
                        self.sessions.touch(session, command.sequence, self.time);
                    }
                    if let Some(result) = result {
                        outputs.push(client(place, CommandResult::Transaction(result)));
                    }
                    return rest_of(work);
                }
                Err(why) => outputs.push(client(place, CommandResult::Refused(why))),
            },
            Command::Begin(begin) => {
                let work = begin.action.len();
                self.begin_transaction(begin, outputs);
                return rest_of(work);
            }
            Command::Prepare(prepare) => {
                let work = prepare.action.len();
                self.prepare_transaction(prepare, outputs);
                return rest_of(work);
            }
            Command::Decide(decide) => {
                let work = decide.replies.len();
                self.decide_transaction(decide, outputs);
                return rest_of(work);
            }
            Command::Resolve(resolve) => {
                let work = self.transactions.held_operations(resolve.txn);
                self.resolve_transaction(resolve, outputs);
                return rest_of(work);
            }
            Command::Forget(forget) => return Some(Job::Forget(forget.ended.into_iter())),
            Command::Read(read) => self.read_in_turn(read, outputs),
            Command::Fence(fence) => {
                let result = self.fence(fence.txn, outputs);
                outputs.push(client(place, result));
            }
        }
        None
    }

    /// Whether a session is registered (hazard S17).
    fn knows(&mut self, session: Session) -> bool {
        self.sessions.is_known(session)
            || (is_planted(Bug::SessionRevived) && self.sessions.register(session, self.time))
    }

    /// Looks at the envelope of a client's command.
    fn open(&mut self, place: CommandRef, command: &ClientCommand) -> Result<Opened, Why> {
        match command.kind {
            CommandKind::Register => {
                let id: SessionId = from_slice(&command.body).map_err(|_| Why::Malformed)?;
                let session = Session { id, registered: place.slot };
                let room = self.sessions.register(session, self.time);
                if room { Ok(Opened::Done(CommandResult::Registered(session))) } else { Err(Why::Overloaded) }
            }
            CommandKind::Transfers => {
                if command.session.is_some_and(|session| !self.knows(session)) {
                    return Err(Why::UnknownSession);
                }
                let mut scratch = std::mem::take(&mut self.scratch);
                scratch.clear();
                let batch = TransferBatch {
                    command: place,
                    session: command.session,
                    sequence: command.sequence,
                    deadline: self.time + command.deadline,
                    body: Body::open(command, scratch).ok_or(Why::Malformed)?,
                    next: 0,
                    items: Vec::new(),
                    waiting: 0,
                };
                Ok(Opened::Job(Job::Transfers(Box::new(batch))))
            }
            // The coordinator takes these apart; they are never logged as they came.
            CommandKind::Transact | CommandKind::TransactOver => Err(Why::Malformed),
            CommandKind::Transaction => {
                if command.session.is_some_and(|session| !self.knows(session)) {
                    return Err(Why::UnknownSession);
                }
                let transaction: Arc<Transaction> = from_slice(&command.body).map_err(|_| Why::Malformed)?;
                Ok(Opened::Transaction(transaction))
            }
            CommandKind::CreateAccounts => {
                let session = command.session.ok_or(Why::UnknownSession)?;
                if !self.knows(session) {
                    return Err(Why::UnknownSession);
                }
                match self.sessions.sequence(session, command.sequence) {
                    Sequence::Outside => return Err(Why::SessionWindow),
                    Sequence::Answered(results) => return Ok(Opened::Done(CommandResult::Created(results))),
                    Sequence::New => {}
                }
                let batch = AccountBatch {
                    command: place,
                    session,
                    sequence: command.sequence,
                    body: Body::open(command, Vec::new()).ok_or(Why::Malformed)?,
                    next: 0,
                    results: Vec::new(),
                };
                Ok(Opened::Job(Job::Accounts(Box::new(batch))))
            }
        }
    }

    fn go_on(&mut self, job: Job, outputs: &mut Vec<Output>) -> Option<Job> {
        match job {
            Job::Transfers(batch) => self.go_on_transfers(batch, outputs).map(Job::Transfers),
            Job::Accounts(batch) => self.go_on_accounts(batch, outputs).map(Job::Accounts),
            Job::Forget(mut ended) => {
                let (txn, attempt) = ended.next()?;
                self.transactions.forget(txn, attempt, self.group);
                Some(Job::Forget(ended))
            }
            Job::Rest(steps) => rest_of(steps.saturating_sub(1) * OPERATIONS_PER_STEP),
        }
    }

    fn go_on_transfers(
        &mut self,
        mut batch: Box<TransferBatch>,
        outputs: &mut Vec<Output>,
    ) -> Option<Box<TransferBatch>> {
        if batch.body.is_open() {
            match batch.body.step(transfer_item) {
                Err(_) => {
                    outputs.push(client(batch.command, CommandResult::Refused(Why::Malformed)));
                    return None;
                }
                Ok(false) => return Some(batch),
                // A single transfer, the common case, is carried out in the same step.
                Ok(true) if batch.body.items.len() > DECODE_STEP => return Some(batch),
                Ok(true) => {}
            }
        }
        if let Some((transfer, digest)) = batch.body.items.get(batch.next) {
            let index = batch.next as u32;
            let asker = Asker { command: batch.command, index, alone: false, session: batch.session };
            match self.submit(transfer, *digest, asker, batch.deadline) {
                Submitted::Committed => {}
                Submitted::Waits => batch.waiting += 1,
                Submitted::Known { result, replayed } => batch.items.push(ItemResult { index, result, replayed }),
            }
            batch.next += 1;
        }
        if batch.next < batch.body.items.len() {
            return Some(batch);
        }
        if let Some(session) = batch.session {
            self.sessions.touch(session, batch.sequence, self.time);
        }
        self.scratch = batch.body.items;
        let result = CommandResult::Transfers { items: batch.items, waiting: batch.waiting };
        outputs.push(client(batch.command, result));
        None
    }

    fn go_on_accounts(&mut self, mut batch: Box<AccountBatch>, outputs: &mut Vec<Output>) -> Option<Box<AccountBatch>> {
        if batch.body.is_open() {
            return match batch.body.step(account_item) {
                Err(_) => {
                    outputs.push(client(batch.command, CommandResult::Refused(Why::Malformed)));
                    None
                }
                Ok(_) => Some(batch),
            };
        }
        if let Some(new) = batch.body.items.get(batch.next).copied() {
            batch.results.push(self.create(new));
            batch.next += 1;
        }
        if batch.next < batch.body.items.len() {
            return Some(batch);
        }
        self.sessions.touch(batch.session, batch.sequence, self.time);
        self.sessions.answer(batch.session, batch.sequence, batch.results.clone());
        outputs.push(client(batch.command, CommandResult::Created(batch.results)));
        None
    }

    fn create(&mut self, new: NewAccount) -> CreateResult {
        if self.accounts.is_reserved(new.id) {
            return CreateResult::Moved;
        }
        match self.accounts.whereabouts(new.id) {
            Whereabouts::Elsewhere | Whereabouts::Nowhere => CreateResult::Moved,
            Whereabouts::Missing => {
                let NewAccount { id, ledger, code, flags } = new;
                self.accounts.create(Account { id, ledger, code, flags, ..Account::default() });
                CreateResult::Created
            }
            Whereabouts::Here(place) => {
                let old = &self.accounts.row(place).account;
                // Whether it is closed changes: the same request comes again after that, too.
                let rules = |flags: Flags| flags.without(Flags::CLOSED);
                let same = (old.ledger, old.code, rules(old.flags)) == (new.ledger, new.code, rules(new.flags));
                if same { CreateResult::Exists } else { CreateResult::ExistsDifferent }
            }
        }
    }
}

fn rest_of(operations: usize) -> Option<Job> {
    let steps = operations / OPERATIONS_PER_STEP;
    (steps > 0).then_some(Job::Rest(steps))
}

/// What the envelope of a client's command leads to.
enum Opened {
    Done(CommandResult),
    Job(Job),
    Transaction(Arc<Transaction>),
}
