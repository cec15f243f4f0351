//! What a transaction finds and does: its conditions, what its operations yield, what they write.

use std::collections::BTreeMap;

use super::Ledger;
use super::accounts::{Place, Whereabouts};
use super::model::{Outcome, PendingState, Reason, Sides, Transfer};
use super::operations::{
    Action, Answered, Condition, Key, Operation, REPLIES_LIMIT, Reply, Subject, Swap, Swapped, Transaction, Value,
};
use super::transfers::{Post, check_rules};
use crate::ids::{TransferId, TxnId};
use crate::message::operator::Nothing;
use crate::planted::{Bug, is_planted};
use crate::wire::codec::to_vec;

/// What a transaction would do to the keys of this group.
#[derive(Default)]
pub(super) struct Examined {
    /// What operations on what is here yield, but for what is merely done.
    pub(super) answers: Vec<Answered>,
    /// What the keys will hold. Swaps are not among them: what they write may come from elsewhere.
    pub(super) writes: BTreeMap<Key, Option<Value>>,
}

impl Ledger {
    /// Looks at what a transaction reads here, and works out what it writes here. Its locks are free, or its own.
    pub(super) fn examine(&self, transaction: &Transaction) -> Result<Examined, Reason> {
        if !transaction.conditions.iter().all(|condition| self.holds(condition)) {
            return Err(Reason::Condition);
        }
        let mut examined = Examined::default();
        let mut bytes = 0;
        for (index, operation) in transaction.operations.iter().enumerate() {
            let Some(reply) = self.carry_out_on_keys(operation, &mut examined.writes)? else { continue };
            bytes += reply.bytes();
            if bytes > REPLIES_LIMIT {
                return Err(Reason::TooLarge);
            }
            examined.answers.push(Answered { operation: index as u32, reply });
        }
        Ok(examined)
    }

    /// Whether a condition holds, as far as it concerns this group.
    fn holds(&self, condition: &Condition) -> bool {
        let balance = |account| match self.accounts.whereabouts(account) {
            Whereabouts::Here(place) => Some(self.accounts.row(place).account.balance()),
            _ => None,
        };
        match condition {
            Condition::Is(is) => !self.owns(&is.key) || self.value(&is.key) == is.value.as_ref(),
            Condition::IsNot(is) => !self.owns(&is.key) || self.value(&is.key) != is.value.as_ref(),
            Condition::AtLeast(is) => balance(is.account).is_none_or(|balance| balance.is_at_least(is.balance)),
            Condition::AtMost(is) => balance(is.account).is_none_or(|balance| is.balance.is_at_least(balance)),
        }
    }

    /// What a key of this group holds.
    pub(super) fn value(&self, key: &Key) -> Option<&Value> {
        self.keys.get(self.accounts.map().shard_of_key(key), key)
    }

    /// One operation; what it yields, if that is more than that it is done here.
    fn carry_out_on_keys(
        &self,
        operation: &Operation,
        writes: &mut BTreeMap<Key, Option<Value>>,
    ) -> Result<Option<Reply>, Reason> {
        let held = |writes: &BTreeMap<Key, Option<Value>>, key: &Key| {
            writes.get(key).cloned().unwrap_or_else(|| self.value(key).cloned())
        };
        let reply = match operation {
            Operation::Put(put) if self.owns(&put.key) => {
                writes.insert(put.key.clone(), Some(put.value.clone()));
                return Ok(None);
            }
            Operation::Delete(key) if self.owns(key) => {
                writes.insert(key.clone(), None);
                return Ok(None);
            }
            Operation::Append(put) if self.owns(&put.key) => {
                let before = held(writes, &put.key).unwrap_or_default();
                let value = Value::new([before.as_bytes(), put.value.as_bytes()].concat()).ok_or(Reason::TooLarge)?;
                let length = value.as_bytes().len() as u64;
                writes.insert(put.key.clone(), Some(value));
                Reply::Length(length)
            }
            Operation::Add(add) if self.owns(&add.key) => {
                let before = match held(writes, &add.key) {
                    None => 0,
                    Some(value) => value.number().ok_or(Reason::NotANumber)?,
                };
                let number = before.checked_add(add.delta).ok_or(Reason::Overflow)?;
                writes.insert(add.key.clone(), Some(number.into()));
                Reply::Number(number)
            }
            Operation::Swap(Swap { left, right }) => {
                let side = |key: &Key| if self.owns(key) { self.value(key).cloned() } else { None };
                if !self.owns(left) && !self.owns(right) {
                    return Ok(None);
                }
                Reply::Swapped(Swapped { left: side(left), right: side(right) })
            }
            Operation::Get(key) if self.owns(key) => Reply::Value(self.value(key).cloned()),
            Operation::Scan(scan) if self.owns(&scan.from) => {
                Reply::Rows(self.keys.scan(self.accounts.map().shard_of_key(&scan.from), scan))
            }
            Operation::Read(account) => match self.accounts.whereabouts(*account) {
                Whereabouts::Here(place) => Reply::Account(self.accounts.row(place).account),
                _ => return Ok(None),
            },
            _ => return Ok(None),
        };
        Ok(Some(reply))
    }

    /// The answers that a vote carries: made from what is locked, so they are the same whenever they are made.
    pub(super) fn answers_of(&self, action: &Action) -> Vec<Answered> {
        let Some(transaction) = action.transaction() else { return Vec::new() };
        let examined = self.examine(transaction);
        examined.expect("what was prepared can be carried out: its locks are held").answers
    }

    /// Whether `values` say what is written here by swaps with keys of other groups.
    pub(super) fn has_values_for(&self, action: &Action, values: &[Answered]) -> bool {
        let Some(transaction) = action.transaction() else { return true };
        let mut operations = transaction.operations.iter().enumerate();
        operations.all(|(index, operation)| match operation {
            Operation::Swap(Swap { left, right }) if self.owns(left) || self.owns(right) => {
                swapped(values, index).is_some()
            }
            _ => true,
        })
    }

    /// Carries out a transaction, as far as it concerns this group. `values`: what the keys of its swaps held.
    pub(super) fn execute(
        &mut self,
        txn: TxnId,
        transaction: &Transaction,
        mut writes: BTreeMap<Key, Option<Value>>,
        values: &[Answered],
    ) {
        for (index, operation) in transaction.operations.iter().enumerate() {
            let Operation::Swap(Swap { left, right }) = operation else { continue };
            let Some(swapped) = swapped(values, index) else { continue };
            writes.insert(left.clone(), swapped.right.clone());
            writes.insert(right.clone(), swapped.left.clone());
        }
        for (key, value) in writes {
            if self.owns(&key) {
                self.versions.touch_key(&key, self.applied);
                self.keys.set(self.accounts.map().shard_of_key(&key), &key, value);
            }
        }
        let post = |(index, operation): (usize, &Operation)| {
            let transfer = match operation {
                Operation::Transfer(transfer) => *transfer,
                // It appears with what the pending transfer says.
                Operation::Post(post) => {
                    let pending = self.pendings.get(post.named().txn)?.pending.transfer;
                    Transfer { id: post.id, amount: post.amount.unwrap_or(pending.amount), ..pending }
                }
                _ => return None,
            };
            let id = if transfer.id == TransferId(0) { unnamed(txn, index) } else { transfer.id };
            let transfer = Transfer { id, ..transfer };
            Post::new(transfer, transfer.digest(), self.places(transfer.debit, transfer.credit))
        };
        let whole = if is_planted(Bug::ChainInPart) { 1 } else { usize::MAX };
        let posts: Vec<Post> = transaction.operations.iter().enumerate().filter_map(post).take(whole).collect();
        for operation in &transaction.operations {
            self.carry_out_on_pendings(operation);
        }
        self.post_all(&posts);
        for operation in transaction.operations.iter().filter(|operation| operation.pending().is_some()) {
            for subject in operation.subjects() {
                if let Some(Subject::Account(account)) = subject
                    && let Whereabouts::Here(place) = self.accounts.whereabouts(account)
                {
                    check_rules(&self.accounts.row(place).account);
                }
            }
        }
        for (named, digest) in self.inner(txn, transaction) {
            let Whereabouts::Here(place) = self.accounts.whereabouts(named.first) else { continue };
            let shard = Some(self.accounts.shard(place));
            self.ids.record(named, Some(digest), Outcome::Committed, shard);
        }
    }

    /// The part of an operation that is about what is reserved, or about an account as a whole.
    fn carry_out_on_pendings(&mut self, operation: &Operation) {
        match operation {
            Operation::Pend(pend) => self.begin_pending(pend),
            Operation::Post(post) => {
                if let Some(row) = self.pendings.get(post.named().txn) {
                    let posted = post.amount.unwrap_or(row.pending.transfer.amount);
                    self.end_pending(post.named().txn, PendingState::Posted, posted);
                }
            }
            Operation::Void(void) if self.pendings.get(void.named().txn).is_some() => {
                self.end_pending(void.named().txn, PendingState::Voided, 0);
            }
            Operation::Close(account) => self.switch_account(*account, true),
            Operation::Open(account) => self.switch_account(*account, false),
            _ => {}
        }
    }

    /// What within a transaction has an id of its own, which lives here, with the digests of its content (hazard A11).
    fn inner(&self, txn: TxnId, transaction: &Transaction) -> Vec<(TxnId, u128)> {
        let here = |named: &TxnId| matches!(self.accounts.whereabouts(named.first), Whereabouts::Here(_));
        let inner = |operation: &Operation| {
            let named = operation.named().filter(|named| *named != txn).filter(here)?;
            Some((named, operation.digest()))
        };
        transaction.operations.iter().filter_map(inner).collect()
    }

    /// The ids of its own that an action registers here.
    pub(super) fn inner_ids(&self, action: &Action) -> Vec<TxnId> {
        let Some(transaction) = action.transaction() else { return Vec::new() };
        let inner = self.inner(action.txn(self.accounts.map()), transaction);
        inner.into_iter().map(|(named, _)| named).collect()
    }
}

/// The id under which a transfer without one is posted: the same in both groups, and no other's.
fn unnamed(txn: TxnId, index: usize) -> TransferId {
    TransferId(xxhash_rust::xxh3::xxh3_128(&to_vec(&(txn, index as u64))))
}

/// What the keys of a swap held.
fn swapped(values: &[Answered], index: usize) -> Option<&Swapped> {
    values.iter().find_map(|value| match &value.reply {
        Reply::Swapped(swapped) if value.operation as usize == index => Some(swapped),
        _ => None,
    })
}

/// The replies to all operations, from the answers of the groups that own what they are about.
pub(crate) fn replies_of(transaction: &Transaction, answers: Vec<Answered>) -> Vec<Reply> {
    let mut replies = vec![Reply::Done(Nothing {}); transaction.operations.len()];
    for answered in answers {
        if let Some(reply) = replies.get_mut(answered.operation as usize) {
            *reply = answered.reply;
        }
    }
    replies
}

/// What the keys of a transaction's swaps held, out of all its replies.
pub(crate) fn swapped_of(replies: &[Reply]) -> Vec<Answered> {
    let swaps = replies.iter().enumerate().filter(|(_, reply)| matches!(reply, Reply::Swapped(_)));
    swaps.map(|(index, reply)| Answered { operation: index as u32, reply: reply.clone() }).collect()
}

/// Which sides of a transfer are posted here.
pub(super) fn sides(debit: Option<Place>, credit: Option<Place>) -> Option<Sides> {
    match (debit, credit) {
        (Some(_), Some(_)) => Some(Sides::Both),
        (Some(_), None) => Some(Sides::Debit),
        (None, Some(_)) => Some(Sides::Credit),
        (None, None) => None,
    }
}
