//! What waits: one queue per group, bounded, deterministic, in log time.
//!
//! A waiter holds nothing; it is all or nothing. The queue has three lanes. Reads come first: they are looked at before
//! anything is granted, and hold nothing afterwards (hazard L4). Then prepares: one waits only if it is older than
//! every prepare in its way, so each waits for younger ones only, and none waits for a one-group operation (hazards L1,
//! L2). Then the operations of this group. Within a lane the order is that of arrival.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::accounts::Place;
use super::digest::Sum;
use super::doubt::{Effects, Rank};
use super::footprint::{Footprint, Spot};
use super::image::Fault;
use super::model::Transfer;
use super::operations::Transaction;
use crate::ids::{AccountId, CommandRef, Session, TxnId};
use crate::table::Table;
use crate::time::LogTime;
use crate::wire::codec::{Decode, DecodeError, Encode, Reader, wire_struct};

/// Which kind of operation waits; also the first part of the order.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub(super) enum Lane {
    /// A read that waits for a quiet moment.
    Read,
    /// A prepare.
    Prepare,
    /// An operation of this group.
    Local,
}

impl Encode for Lane {
    fn encode(&self, out: &mut Vec<u8>) {
        (*self as u8).encode(out);
    }
}

impl Decode for Lane {
    fn decode(reader: &mut Reader<'_>) -> Result<Lane, DecodeError> {
        match reader.uint()? {
            0 => Ok(Lane::Read),
            1 => Ok(Lane::Prepare),
            2 => Ok(Lane::Local),
            tag => Err(DecodeError::Tag(tag)),
        }
    }
}

/// A place in the queue.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub(super) struct Turn {
    /// The lane.
    pub(super) lane: Lane,
    /// Counts all that ever waited.
    pub(super) arrival: u64,
}
wire_struct!(Turn { lane, arrival });

/// Who is to be told.
#[derive(Clone, Copy, Debug)]
pub(super) struct Asker {
    /// The command.
    pub(super) command: CommandRef,
    /// The place in its batch.
    pub(super) index: u32,
    /// The command is a transaction, not a batch.
    pub(super) alone: bool,
    /// The session, which does not expire meanwhile.
    pub(super) session: Option<Session>,
}
wire_struct!(Asker { command, index, alone, session });

/// A transfer within this group that waits.
#[derive(Clone, Debug)]
pub(super) struct WaitingTransfer {
    /// The transfer.
    pub(super) transfer: Transfer,
    /// The digest of its content.
    pub(super) digest: u128,
    /// Its effects.
    pub(super) effects: Effects,
}
wire_struct!(WaitingTransfer { transfer, digest, effects });

/// A transaction within this group that waits.
#[derive(Clone, Debug)]
pub(super) struct WaitingTransaction {
    /// Its identity.
    pub(super) txn: TxnId,
    /// What it does.
    pub(super) transaction: Arc<Transaction>,
    /// The digest of its content.
    pub(super) digest: u128,
}
wire_struct!(WaitingTransaction { txn, transaction, digest });

/// What waits.
#[derive(Clone, Debug)]
pub(super) enum Waiting {
    /// A transfer within this group.
    Transfer(Box<WaitingTransfer>),
    /// A transaction within this group.
    Transaction(Box<WaitingTransaction>),
    /// A prepare; what it is lies with the transactions.
    Prepare(TxnId),
    /// All reads of an account.
    Read(AccountId, Place),
}

impl Encode for Waiting {
    fn encode(&self, out: &mut Vec<u8>) {
        match self {
            Waiting::Transfer(waiting) => (1u8, waiting).encode(out),
            Waiting::Transaction(waiting) => (2u8, waiting).encode(out),
            Waiting::Prepare(txn) => (3u8, txn).encode(out),
            Waiting::Read(account, place) => (4u8, (account, place)).encode(out),
        }
    }
}

impl Decode for Waiting {
    fn decode(reader: &mut Reader<'_>) -> Result<Waiting, DecodeError> {
        reader.array_of(2)?;
        match reader.uint()? {
            1 => Decode::decode(reader).map(Waiting::Transfer),
            2 => Decode::decode(reader).map(Waiting::Transaction),
            3 => TxnId::decode(reader).map(Waiting::Prepare),
            4 => Decode::decode(reader).map(|(account, place)| Waiting::Read(account, place)),
            tag => Err(DecodeError::Tag(tag)),
        }
    }
}

/// One that waits.
#[derive(Clone, Debug)]
pub(super) struct Waiter {
    /// What it is.
    pub(super) what: Waiting,
    /// How old it is.
    pub(super) rank: Rank,
    /// When it gives up.
    pub(super) deadline: LogTime,
    /// Where it waits.
    pub(super) at: Footprint,
    /// Who is to be told; for transfers and transactions of this group only.
    pub(super) askers: Vec<Asker>,
}
wire_struct!(Waiter { what, rank, deadline, at, askers });

impl Waiter {
    /// Adds it to a digest.
    pub(super) fn digest(&self, turn: Turn, sum: &mut Sum) {
        // Where it waits follows from the rest of the state, by what it does.
        let Waiter { what, rank, deadline, at: _, askers } = self;
        let (lane, arrival) = (turn.lane as u8, turn.arrival);
        let (kind, account, content) = match what {
            Waiting::Transfer(waiting) => (1u8, AccountId(0), waiting.digest),
            Waiting::Prepare(_) => (2, AccountId(0), 0),
            Waiting::Read(account, _) => (3, *account, 0),
            Waiting::Transaction(waiting) => (4, AccountId(0), waiting.digest),
        };
        let head: [&dyn Encode; 4] = [&lane, &arrival, &rank.age, &rank.txn];
        let rest: [&dyn Encode; 4] = [deadline, &kind, &account, &content];
        sum.row(b'w', &[head, rest].concat());
        for (number, asker) in askers.iter().enumerate() {
            let number = number as u64;
            sum.row(b'q', &[&arrival, &number, &asker.command, &asker.index, &asker.alone, &asker.session]);
        }
    }
}

/// Everything that waits.
#[derive(Clone)]
pub(super) struct Queue {
    limit: usize,
    waiters: BTreeMap<Turn, Waiter>,
    named: Table<TxnId, Turn>,
    reads: Table<AccountId, Turn>,
    expiry: BTreeSet<(LogTime, Turn)>,
    arrivals: u64,
    attached: usize,
}

impl Queue {
    /// An empty queue for `limit` operations and askers attached to them.
    pub(super) fn new(seed: u64, limit: usize) -> Queue {
        Queue {
            limit,
            waiters: BTreeMap::new(),
            named: Table::new(seed, 64),
            reads: Table::new(seed, 64),
            expiry: BTreeSet::new(),
            arrivals: 0,
            attached: 0,
        }
    }

    /// Whether there is no place.
    pub(super) fn is_full(&self) -> bool {
        self.waiters.len() + self.attached >= self.limit
    }

    /// How many operations wait.
    pub(super) fn len(&self) -> usize {
        self.waiters.len()
    }

    /// The place that the next operation of a lane gets.
    pub(super) fn next_turn(&mut self, lane: Lane) -> Turn {
        self.arrivals += 1;
        Turn { lane, arrival: self.arrivals }
    }

    /// Puts an operation into its place.
    pub(super) fn insert(&mut self, turn: Turn, waiter: Waiter) {
        assert!(!self.is_full(), "whoever waits has found a place");
        let before = match &waiter.what {
            Waiting::Transfer(waiting) => self.named.insert(TxnId::from(&waiting.transfer), turn),
            Waiting::Transaction(waiting) => self.named.insert(waiting.txn, turn),
            Waiting::Read(account, _) => self.reads.insert(*account, turn),
            Waiting::Prepare(_) => None,
        };
        assert!(before.is_none(), "an id waits once");
        self.expiry.insert((waiter.deadline, turn));
        self.waiters.insert(turn, waiter);
    }

    /// Takes an operation out.
    pub(super) fn remove(&mut self, turn: Turn) -> Option<Waiter> {
        let waiter = self.waiters.remove(&turn)?;
        self.expiry.remove(&(waiter.deadline, turn));
        match &waiter.what {
            Waiting::Transfer(waiting) => {
                self.named.remove(&TxnId::from(&waiting.transfer));
                self.attached -= waiter.askers.len() - 1;
            }
            Waiting::Transaction(waiting) => {
                self.named.remove(&waiting.txn);
                self.attached -= waiter.askers.len() - 1;
            }
            Waiting::Read(account, _) => {
                self.reads.remove(account);
            }
            Waiting::Prepare(_) => {}
        }
        Some(waiter)
    }

    /// The operation at a place.
    pub(super) fn get(&self, turn: Turn) -> Option<&Waiter> {
        self.waiters.get(&turn)
    }

    /// Remembers where an operation waits now.
    pub(super) fn move_to(&mut self, turn: Turn, at: Footprint) {
        self.waiters.get_mut(&turn).expect("it waits").at = at;
    }

    /// The operation of this group that waits under an id, if one does.
    pub(super) fn named(&self, txn: TxnId) -> Option<Turn> {
        if self.named.is_empty() { None } else { self.named.get(&txn).copied() }
    }

    /// The read of an account that waits, if one does.
    pub(super) fn read(&self, account: AccountId) -> Option<Turn> {
        self.reads.get(&account).copied()
    }

    /// One more wants to know what becomes of an operation that waits (hazard S16). False if there is no place.
    pub(super) fn attach(&mut self, turn: Turn, asker: Asker) -> bool {
        if self.is_full() {
            return false;
        }
        self.attached += 1;
        self.waiters.get_mut(&turn).expect("it waits").askers.push(asker);
        true
    }

    /// One more reads an account: the read that waits waits at least so long.
    pub(super) fn extend(&mut self, turn: Turn, deadline: LogTime) {
        let waiter = self.waiters.get_mut(&turn).expect("it waits");
        if deadline > waiter.deadline {
            self.expiry.remove(&(waiter.deadline, turn));
            waiter.deadline = deadline;
            self.expiry.insert((deadline, turn));
        }
    }

    /// The earliest deadline.
    pub(super) fn next_expiry(&self) -> Option<LogTime> {
        self.expiry.first().map(|(deadline, _)| *deadline)
    }

    /// The first operation whose deadline has come.
    pub(super) fn expired(&self, now: LogTime) -> Option<Turn> {
        self.expiry.first().filter(|(deadline, _)| *deadline <= now).map(|(_, turn)| *turn)
    }

    /// Everything that waits, in the order of the queue.
    pub(super) fn iter(&self) -> impl Iterator<Item = (&Turn, &Waiter)> {
        self.waiters.iter()
    }

    /// Everything that waits, as it is now, in the order of the queue.
    pub(super) fn image(&self) -> Vec<(Turn, Waiter)> {
        // The rest follows from what waits; how many ever waited is in the head of an image.
        let Queue { limit: _, waiters, named: _, reads: _, expiry: _, arrivals: _, attached: _ } = self;
        waiters.iter().map(|(turn, waiter)| (*turn, waiter.clone())).collect()
    }

    /// The prepares among what waits.
    pub(super) fn prepares(&self) -> impl Iterator<Item = (Turn, TxnId)> {
        self.waiters.iter().filter_map(|(turn, waiter)| match &waiter.what {
            Waiting::Prepare(txn) => Some((*turn, *txn)),
            _ => None,
        })
    }

    /// So many have ever waited, says the head of an image.
    pub(super) fn load_arrivals(&mut self, arrivals: u64) {
        self.arrivals = arrivals;
    }

    /// Takes over the next row of an image.
    pub(super) fn load(&mut self, turn: Turn, waiter: Waiter) -> Result<(), Fault> {
        let attached = match &waiter.what {
            Waiting::Transfer(_) | Waiting::Transaction(_) => waiter.askers.len().checked_sub(1),
            Waiting::Prepare(_) | Waiting::Read(..) => waiter.askers.is_empty().then_some(0),
        };
        let attached = attached.ok_or("a waiter that nobody asked for, or somebody who cannot be told")?;
        let known = match &waiter.what {
            Waiting::Transfer(waiting) => self.named.get(&TxnId::from(&waiting.transfer)),
            Waiting::Transaction(waiting) => self.named.get(&waiting.txn),
            Waiting::Read(account, _) => self.reads.get(account),
            Waiting::Prepare(_) => None,
        };
        let last = self.waiters.last_key_value().map(|(last, _)| *last);
        if known.is_some() || last.is_some_and(|last| last >= turn) || turn.arrival > self.arrivals {
            return Err("a waiter twice, or out of order");
        }
        if self.waiters.len() + self.attached + attached >= self.limit {
            return Err("more waiters than the limit");
        }
        self.attached += attached;
        self.insert(turn, waiter);
        Ok(())
    }

    /// Counts all that ever waited.
    pub(super) fn arrivals(&self) -> u64 {
        self.arrivals
    }
}

/// The waiters that must be looked at again, in the order of the queue: for each account or part of the keys that changed, the next one.
#[derive(Clone, Default)]
pub(super) struct Wake {
    next: BTreeSet<(Turn, Spot)>,
    cursors: BTreeMap<Spot, Turn>,
}

impl Wake {
    /// From `turn` on, whoever waits at `spot` must be looked at.
    pub(super) fn mark(&mut self, spot: Spot, turn: Turn) {
        match self.cursors.get(&spot) {
            Some(earlier) if *earlier <= turn => return,
            Some(later) => {
                self.next.remove(&(*later, spot));
            }
            None => {}
        }
        self.cursors.insert(spot, turn);
        self.next.insert((turn, spot));
    }

    /// The next one to look at.
    pub(super) fn pop(&mut self) -> Option<(Turn, Spot)> {
        let (turn, spot) = self.next.pop_first()?;
        self.cursors.remove(&spot);
        Some((turn, spot))
    }

    /// Whether nobody must be looked at.
    pub(super) fn is_empty(&self) -> bool {
        self.next.is_empty()
    }
}
