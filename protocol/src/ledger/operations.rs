//! What a transaction says: keys and values, conditions, operations, and what they yield.
//!
//! Conditions and reads see the state before the transaction. Its writes to one key happen in the order in which they
//! are written down; a swap exchanges what its two keys held before, so neither of them may be written otherwise in the
//! same transaction. On accounts it acts by its net effect: what an account passes on it need not have had.

use std::fmt;
use std::sync::Arc;

use bytes::Bytes;

use super::model::{Account, Balance, Transfer};
use crate::ids::{AccountId, GroupId, TransferId, TxnId};
use crate::message::operator::Nothing;
use crate::placement::map::ShardMap;
use crate::wire::codec::{Decode, DecodeError, Encode, Reader, encode_bin, to_vec, wire_enum, wire_struct};

mod lists;
mod phases;

pub use lists::{LIST_LIMIT, List, ListOf, Listed, ListedRows};
pub(crate) use phases::Named;
pub use phases::{Expire, Pend, PostPending, VoidPending};

/// The most bytes of a key; it has at least one.
pub const KEY_LIMIT: usize = 1024;
/// The most bytes of a value.
pub const VALUE_LIMIT: usize = 256 * 1024;
/// The most conditions and operations of a transaction, together.
pub const OPERATIONS_LIMIT: usize = 1024;
/// The most bytes that all replies of a transaction may have: they travel in votes, and the decision carries them.
pub const REPLIES_LIMIT: usize = 2 * 1024 * 1024;
/// The most rows of a scan.
pub const SCAN_LIMIT: u32 = 1024;
/// What a row of a scan counts for beside its key and value: rows cost time, too.
pub(crate) const ROW_BYTES: usize = 256;
/// Ends the part of a key by which it is placed.
const SEPARATOR: u8 = b'/';

/// The name of a value: 1 to [`KEY_LIMIT`] bytes, in the order of their bytes.
#[derive(Clone, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct Key(Bytes);

impl Key {
    /// A key; nothing if it is empty or too long.
    pub fn new(bytes: impl Into<Bytes>) -> Option<Key> {
        let bytes = bytes.into();
        (1..=KEY_LIMIT).contains(&bytes.len()).then_some(Key(bytes))
    }

    /// The bytes.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// What comes before the first `/`: keys that share it lie in one shard and can be scanned in order.
    pub fn part(&self) -> &[u8] {
        self.0.split(|byte| *byte == SEPARATOR).next().unwrap_or_default()
    }

    /// The first possible key below the part: the part and a `/`.
    pub(crate) fn below_part(&self) -> Vec<u8> {
        [self.part(), &[SEPARATOR]].concat()
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Key({})", self.0.escape_ascii())
    }
}

impl Encode for Key {
    fn encode(&self, out: &mut Vec<u8>) {
        encode_bin(out, &self.0);
    }
}

impl Decode for Key {
    fn decode(reader: &mut Reader<'_>) -> Result<Key, DecodeError> {
        let bytes = Bytes::copy_from_slice(reader.bin()?);
        Key::new(bytes).ok_or(DecodeError::Expected("a key of 1 to 1024 bytes"))
    }
}

/// What a key holds: up to [`VALUE_LIMIT`] bytes.
#[derive(Clone, Default, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct Value(Bytes);

impl Value {
    /// A value; nothing if it is too long.
    pub fn new(bytes: impl Into<Bytes>) -> Option<Value> {
        let bytes = bytes.into();
        (bytes.len() <= VALUE_LIMIT).then_some(Value(bytes))
    }

    /// The bytes.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// The number that the value is, in decimal digits: what `add` works on. Nothing if it is none.
    pub fn number(&self) -> Option<i64> {
        let number: i64 = std::str::from_utf8(&self.0).ok()?.parse().ok()?;
        // One form of each number, so that a counter is equal on all replicas and comparable by its bytes.
        (number.to_string().as_bytes() == &self.0[..]).then_some(number)
    }
}

impl From<i64> for Value {
    fn from(number: i64) -> Value {
        Value(number.to_string().into())
    }
}

impl fmt::Debug for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0[..] {
            short if short.len() <= 64 => write!(f, "Value({})", short.escape_ascii()),
            long => write!(f, "Value({}.. {} bytes)", long[..32].escape_ascii(), long.len()),
        }
    }
}

impl Encode for Value {
    fn encode(&self, out: &mut Vec<u8>) {
        encode_bin(out, &self.0);
    }
}

impl Decode for Value {
    fn decode(reader: &mut Reader<'_>) -> Result<Value, DecodeError> {
        let bytes = reader.bin()?;
        if bytes.len() > VALUE_LIMIT {
            return Err(DecodeError::Expected("a value of at most 256 KiB"));
        }
        Ok(Value(Bytes::copy_from_slice(bytes)))
    }
}

/// A list of conditions and operations over accounts and keys, in any shards: all or nothing.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Transaction {
    /// Chosen by the client; unique, for ever, per first account, or per shard of the first key.
    pub id: TransferId,
    /// All must hold.
    pub conditions: Vec<Condition>,
    /// What is done.
    pub operations: Vec<Operation>,
}

impl Encode for Transaction {
    fn encode(&self, out: &mut Vec<u8>) {
        (self.id, &self.conditions, &self.operations).encode(out);
    }
}

impl Decode for Transaction {
    fn decode(reader: &mut Reader<'_>) -> Result<Transaction, DecodeError> {
        reader.array_of(3)?;
        let id = TransferId::decode(reader)?;
        let conditions: Vec<Condition> = bounded(reader, OPERATIONS_LIMIT)?;
        let operations = bounded(reader, OPERATIONS_LIMIT - conditions.len())?;
        let transaction = Transaction { id, conditions, operations };
        match transaction.fault() {
            None => Ok(transaction),
            Some(fault) => Err(DecodeError::Expected(fault)),
        }
    }
}

impl Transaction {
    /// The names of the fields in their order on the wire.
    pub const FIELDS: &'static [&'static str] = &["id", "conditions", "operations"];
}

fn bounded<T: Decode>(reader: &mut Reader<'_>, limit: usize) -> Result<Vec<T>, DecodeError> {
    let count = reader.array_len()? as usize;
    if count > limit {
        return Err(DecodeError::TooMany(OPERATIONS_LIMIT));
    }
    (0..count).map(|_| T::decode(reader)).collect()
}

/// What must hold before a transaction.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Condition {
    /// The key holds exactly this; nothing: it does not exist.
    Is(KeyIs),
    /// The key holds something else than this; nothing: it exists.
    IsNot(KeyIs),
    /// The account's balance is this or more. An account that does not exist is a rejection of its own.
    AtLeast(BalanceIs),
    /// The account's balance is this or less. An account that does not exist is a rejection of its own.
    AtMost(BalanceIs),
}
wire_enum!(Condition { 1 => Is, 2 => IsNot, 3 => AtLeast, 4 => AtMost });

/// A key and what it is compared with.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct KeyIs {
    /// Which.
    pub key: Key,
    /// What it is compared with; nothing stands for no value.
    pub value: Option<Value>,
}
wire_struct!(KeyIs { key, value });

/// An account and what its balance is compared with.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct BalanceIs {
    /// Which.
    pub account: AccountId,
    /// What the balance is compared with.
    pub balance: Balance,
}
wire_struct!(BalanceIs { account, balance });

/// One thing that a transaction does.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Operation {
    /// Moves money. An id that is not 0 is registered as that of a transfer by itself (hazard A11).
    Transfer(Transfer),
    /// Sets a key. Yields `Done`.
    Put(Put),
    /// Removes a key, if it exists. Yields `Done`.
    Delete(Key),
    /// Appends to what the key holds, or to nothing. Yields the new `Length`.
    Append(Put),
    /// Adds to the number that the key holds, or to 0. Yields the new `Number`.
    Add(Add),
    /// Exchanges what two keys hold. Yields `Swapped`: what they held before.
    Swap(Swap),
    /// Reads a key. Yields `Value`.
    Get(Key),
    /// Reads the keys of a range, in order. Yields `Rows`.
    Scan(Scan),
    /// Reads an account. Yields `Account`. An account that does not exist is a rejection.
    Read(AccountId),
    /// Begins a transfer in two phases. Yields `Done`, as do the following.
    Pend(Pend),
    /// Posts a pending transfer, whole or in part.
    Post(PostPending),
    /// Releases a pending transfer.
    Void(VoidPending),
    /// Closes an account: it takes no transfers any more, and what is pending can only be voided.
    Close(AccountId),
    /// Opens an account that is closed.
    Open(AccountId),
    /// Reads a page of what one group has. In queries only. Yields `Listed`.
    List(List),
}
wire_enum!(Operation {
    1 => Transfer, 2 => Put, 3 => Delete, 4 => Append, 5 => Add, 6 => Swap, 7 => Get, 8 => Scan, 9 => Read,
    10 => Pend, 11 => Post, 12 => Void, 13 => Close, 14 => Open, 15 => List,
});

/// A key and a value for it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Put {
    /// Which.
    pub key: Key,
    /// The value.
    pub value: Value,
}
wire_struct!(Put { key, value });

/// A counter and what it grows by.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Add {
    /// Which.
    pub key: Key,
    /// Negative to take off.
    pub delta: i64,
}
wire_struct!(Add { key, delta });

/// Two keys.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Swap {
    /// One.
    pub left: Key,
    /// Another one.
    pub right: Key,
}
wire_struct!(Swap { left, right });

/// A range of the keys that share the part before the first `/`.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Scan {
    /// The first key, if it exists.
    pub from: Key,
    /// The first key that is not read any more, of the same part; nothing: to the end of the part.
    pub to: Option<Key>,
    /// At most so many rows, and [`SCAN_LIMIT`].
    pub limit: u32,
}
wire_struct!(Scan { from, to, limit });

impl Scan {
    /// Whether the range has a key.
    pub fn covers(&self, key: &Key) -> bool {
        key.part() == self.from.part() && *key >= self.from && self.to.as_ref().is_none_or(|to| key < to)
    }
}

/// What an operation yields.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Reply {
    /// It is done.
    Done(Nothing),
    /// What a key holds.
    Value(Option<Value>),
    /// An account.
    Account(Account),
    /// What a scan has found.
    Rows(Rows),
    /// A counter's new number.
    Number(i64),
    /// A value's new length in bytes.
    Length(u64),
    /// What two keys held.
    Swapped(Swapped),
    /// A page of a list.
    Listed(Listed),
}
wire_enum!(Reply {
    1 => Done, 2 => Value, 3 => Account, 4 => Rows, 5 => Number, 6 => Length, 7 => Swapped, 8 => Listed,
});

impl Reply {
    /// About how many bytes it has.
    pub(crate) fn bytes(&self) -> usize {
        let of = |value: &Option<Value>| value.as_ref().map_or(0, |value| value.0.len());
        let content = match self {
            Reply::Value(value) => of(value),
            Reply::Rows(rows) => rows.rows.iter().map(|(key, value)| ROW_BYTES + key.0.len() + value.0.len()).sum(),
            Reply::Swapped(swapped) => of(&swapped.left) + of(&swapped.right),
            Reply::Account(_) => 64,
            Reply::Listed(listed) => ROW_BYTES * listed.rows.len(),
            Reply::Done(_) | Reply::Number(_) | Reply::Length(_) => 0,
        };
        content + 8
    }
}

/// What a scan has found.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Rows {
    /// Keys and values, in the order of the keys.
    pub rows: Vec<(Key, Value)>,
    /// Where to go on: the limit was reached before the end of the range.
    pub next: Option<Key>,
}
wire_struct!(Rows { rows, next });

/// What the two keys of a swap held before; between groups each knows one side first.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Swapped {
    /// Of the left key.
    pub left: Option<Value>,
    /// Of the right key.
    pub right: Option<Value>,
}
wire_struct!(Swapped { left, right });

/// The reply to one operation of a transaction, on its way between groups.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Answered {
    /// The operation's place in the transaction.
    pub operation: u32,
    /// What it yields; of a swap the side that the sender owns.
    pub reply: Reply,
}
wire_struct!(Answered { operation, reply });

/// What an operation or condition is about.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Subject<'a> {
    /// An account.
    Account(AccountId),
    /// A key.
    Key(&'a Key),
}

impl Subject<'_> {
    /// The group that owns it; nothing if no group does.
    pub fn owner(self, map: &ShardMap) -> Option<GroupId> {
        match self {
            Subject::Account(account) => map.owner_of(account),
            Subject::Key(key) => Some(map.owner_of_key(key)),
        }
    }
}

impl Condition {
    /// What it is about.
    pub fn subject(&self) -> Subject<'_> {
        match self {
            Condition::Is(KeyIs { key, .. }) | Condition::IsNot(KeyIs { key, .. }) => Subject::Key(key),
            Condition::AtLeast(is) | Condition::AtMost(is) => Subject::Account(is.account),
        }
    }
}

impl Operation {
    /// What it is about, in the order in which it is written.
    pub fn subjects(&self) -> [Option<Subject<'_>>; 2] {
        match self {
            Operation::Transfer(Transfer { debit, credit, .. })
            | Operation::Pend(Pend { transfer: Transfer { debit, credit, .. }, .. })
            | Operation::Post(PostPending { debit, credit, .. })
            | Operation::Void(VoidPending { debit, credit, .. }) => {
                [Some(Subject::Account(*debit)), Some(Subject::Account(*credit))]
            }
            Operation::Put(Put { key, .. })
            | Operation::Append(Put { key, .. })
            | Operation::Add(Add { key, .. })
            | Operation::Delete(key)
            | Operation::Get(key)
            | Operation::Scan(Scan { from: key, .. }) => [Some(Subject::Key(key)), None],
            Operation::Swap(Swap { left, right }) => [Some(Subject::Key(left)), Some(Subject::Key(right))],
            Operation::Read(account) | Operation::Close(account) | Operation::Open(account) => {
                [Some(Subject::Account(*account)), None]
            }
            Operation::List(list) => [list.of.account().map(Subject::Account), None],
        }
    }

    /// The id of its own that it has, with the account under which that is unique.
    pub fn named(&self) -> Option<TxnId> {
        let txn = match self {
            Operation::Transfer(transfer) | Operation::Pend(Pend { transfer, .. }) => TxnId::from(transfer),
            Operation::Post(PostPending { id, debit, .. }) | Operation::Void(VoidPending { id, debit, .. }) => {
                TxnId { id: *id, first: *debit }
            }
            _ => return None,
        };
        (txn.id != TransferId(0)).then_some(txn)
    }

    /// The pending transfer that it begins or ends.
    pub(crate) fn pending(&self) -> Option<TxnId> {
        match self {
            Operation::Pend(pend) => Some(TxnId::from(&pend.transfer)),
            Operation::Post(post) => Some(post.named().txn),
            Operation::Void(void) => Some(void.named().txn),
            _ => None,
        }
    }

    /// A digest of its content, under its own id.
    pub(crate) fn digest(&self) -> u128 {
        match self {
            Operation::Transfer(transfer) => transfer.digest(),
            other => xxhash_rust::xxh3::xxh3_128(&to_vec(other)),
        }
    }

    /// Whether it changes anything.
    pub fn writes(&self) -> bool {
        !matches!(self, Operation::Get(_) | Operation::Scan(_) | Operation::Read(_) | Operation::List(_))
    }

    /// Whether a reply can be the answer to it.
    fn takes(&self, reply: &Reply) -> bool {
        matches!(
            (self, reply),
            (
                Operation::Transfer(_)
                    | Operation::Put(_)
                    | Operation::Delete(_)
                    | Operation::Pend(_)
                    | Operation::Post(_)
                    | Operation::Void(_)
                    | Operation::Close(_)
                    | Operation::Open(_),
                Reply::Done(_)
            ) | (Operation::Append(_), Reply::Length(_))
                | (Operation::Add(_), Reply::Number(_))
                | (Operation::Swap(_), Reply::Swapped(_))
                | (Operation::Get(_), Reply::Value(_))
                | (Operation::Scan(_), Reply::Rows(_))
                | (Operation::Read(_), Reply::Account(_))
        )
    }
}

impl Transaction {
    /// These operations, to take effect together. A pending transfer, or the end of one, alone has the transaction's id;
    /// several together have one that is made from all of them, so that the same chain is the same transaction.
    pub fn of_chain(operations: Vec<Operation>) -> Transaction {
        let id = match &operations[..] {
            [one] if one.pending().is_some() => one.named().map(|named| named.id),
            _ => None,
        };
        let id = id.unwrap_or_else(|| TransferId(xxhash_rust::xxh3::xxh3_128(&to_vec(&operations))));
        Transaction { id, conditions: Vec::new(), operations }
    }

    /// Everything that it is about, in the order in which it is written.
    pub fn subjects(&self) -> impl Iterator<Item = Subject<'_>> {
        let conditions = self.conditions.iter().map(Condition::subject);
        conditions.chain(self.operations.iter().flat_map(|operation| operation.subjects().into_iter().flatten()))
    }

    /// Its transfers.
    pub fn transfers(&self) -> impl Iterator<Item = &Transfer> {
        self.operations.iter().filter_map(|operation| match operation {
            Operation::Transfer(transfer) => Some(transfer),
            _ => None,
        })
    }

    /// Whether it changes anything.
    pub fn writes(&self) -> bool {
        self.operations.iter().any(Operation::writes)
    }

    /// Its identity: the id, and the first account; if it begins with a key, the reserved account of the key's shard.
    pub fn txn(&self, map: &ShardMap) -> TxnId {
        let first = match self.subjects().next() {
            Some(Subject::Account(account)) => account,
            Some(Subject::Key(key)) => ShardMap::reserved(map.shard_of_key(key)),
            None => AccountId(0),
        };
        TxnId { id: self.id, first }
    }

    /// Every group that takes part, that of the identity first. Accounts that no group owns take no part.
    pub fn participants(&self, map: &ShardMap) -> Vec<GroupId> {
        let mut groups: Vec<GroupId> = map.owner_of(self.txn(map).first).into_iter().collect();
        for group in self.subjects().filter_map(|subject| subject.owner(map)) {
            if !groups.contains(&group) {
                groups.push(group);
            }
        }
        groups
    }

    /// Whether these can be the replies to it: what comes from other groups is looked at before it takes effect.
    pub(crate) fn takes(&self, replies: &[Reply]) -> bool {
        let mut pairs = self.operations.iter().zip(replies);
        self.operations.len() == replies.len() && pairs.all(|(operation, reply)| operation.takes(reply))
    }

    /// A digest of the whole content: the same id with another digest is an `id_conflict`.
    pub fn digest(&self) -> u128 {
        xxhash_rust::xxh3::xxh3_128(&to_vec(self))
    }

    /// About how many bytes it has.
    pub(crate) fn bytes(&self) -> usize {
        let of = |value: &Option<Value>| value.as_ref().map_or(0, |value| value.0.len());
        let conditions = self.conditions.iter().map(|condition| match condition {
            Condition::Is(is) | Condition::IsNot(is) => is.key.0.len() + of(&is.value),
            Condition::AtLeast(_) | Condition::AtMost(_) => 40,
        });
        let operations = self.operations.iter().map(|operation| match operation {
            Operation::Transfer(_) | Operation::Pend(_) | Operation::Post(_) | Operation::Void(_) => 128,
            Operation::Put(put) | Operation::Append(put) => put.key.0.len() + put.value.0.len(),
            Operation::Delete(key) | Operation::Get(key) => key.0.len(),
            Operation::Add(add) => add.key.0.len(),
            Operation::Swap(swap) => swap.left.0.len() + swap.right.0.len(),
            Operation::Scan(scan) => scan.from.0.len() + scan.to.as_ref().map_or(0, |to| to.0.len()),
            Operation::Read(_) | Operation::Close(_) | Operation::Open(_) | Operation::List(_) => 20,
        });
        conditions.chain(operations).map(|bytes| bytes + 16).sum()
    }

    /// What is wrong with it that can be said without knowing anything else.
    pub fn fault(&self) -> Option<&'static str> {
        if self.conditions.is_empty() && self.operations.is_empty() {
            return Some("at least one condition or operation");
        }
        let mut written: Vec<&Key> = Vec::new();
        let mut swapped: Vec<&Key> = Vec::new();
        let mut ids: Vec<TxnId> = Vec::new();
        let mut pending: Vec<TxnId> = Vec::new();
        let mut switched: Vec<AccountId> = Vec::new();
        for operation in &self.operations {
            pending.extend(operation.pending());
            match operation.named() {
                // Both would be recorded, perhaps under one identity. What is all of a transaction may share its id.
                Some(named) if named.id == self.id && !self.is_named_as_its_only_operation() => {
                    return Some("transfers with ids of their own, or with id 0, not with the transaction's");
                }
                named => ids.extend(named),
            }
            match operation {
                Operation::Put(Put { key, .. })
                | Operation::Append(Put { key, .. })
                | Operation::Add(Add { key, .. })
                | Operation::Delete(key) => written.push(key),
                Operation::Swap(Swap { left, right }) => swapped.extend([left, right]),
                Operation::Scan(Scan { from, to: Some(to), .. }) if from.part() != to.part() => {
                    return Some("a scan within the keys that share the part before the first `/`");
                }
                Operation::Pend(pend) if pend.transfer.id == TransferId(0) => {
                    return Some("pending transfers with ids of their own");
                }
                Operation::Close(account) | Operation::Open(account) => switched.push(*account),
                Operation::List(_) => return Some("no lists: they are read by queries"),
                _ => {}
            }
        }
        swapped.sort_unstable();
        written.sort_unstable();
        ids.sort_unstable();
        pending.sort_unstable();
        switched.sort_unstable();
        let twice = swapped.windows(2).any(|pair| pair[0] == pair[1]);
        if twice || swapped.iter().any(|key| written.binary_search(key).is_ok()) {
            return Some("a key that is swapped and not written otherwise in the same transaction");
        }
        if ids.windows(2).any(|pair| pair[0] == pair[1]) {
            return Some("transfers with different ids, or with id 0 for none, in one transaction");
        }
        if pending.windows(2).any(|pair| pair[0] == pair[1]) {
            return Some("each pending transfer once in one transaction");
        }
        if switched.windows(2).any(|pair| pair[0] == pair[1]) {
            return Some("each account closed or opened once in one transaction");
        }
        None
    }

    /// Whether it is nothing but a pending transfer, or the end of one, under its own id.
    fn is_named_as_its_only_operation(&self) -> bool {
        let alone = self.conditions.is_empty() && self.operations.len() == 1;
        let first = self.operations.first().filter(|_| alone);
        first.is_some_and(|it| it.pending().is_some() && it.named().is_some_and(|named| named.id == self.id))
    }
}

/// What a transaction over groups does.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Action {
    /// One transfer: the common case.
    Transfer(Transfer),
    /// Anything else.
    Transaction(Arc<Transaction>),
    /// The end of a pending transfer whose time is over.
    Expire(Expire),
}
wire_enum!(Action { 1 => Transfer, 2 => Transaction, 3 => Expire });

impl Action {
    /// Its identity.
    pub fn txn(&self, map: &ShardMap) -> TxnId {
        match self {
            Action::Transfer(transfer) => TxnId::from(transfer),
            Action::Transaction(transaction) => transaction.txn(map),
            Action::Expire(expire) => TxnId { id: expire.id, first: expire.debit },
        }
    }

    /// Every group that takes part, that of the identity first. Accounts that no group owns take no part.
    pub fn participants(&self, map: &ShardMap) -> Vec<GroupId> {
        let (debit, credit) = match self {
            Action::Transfer(Transfer { debit, credit, .. }) | Action::Expire(Expire { debit, credit, .. }) => {
                (map.owner_of(*debit), map.owner_of(*credit))
            }
            Action::Transaction(transaction) => return transaction.participants(map),
        };
        debit.into_iter().chain(credit.filter(|credit| Some(*credit) != debit)).collect()
    }

    /// A digest of the whole content.
    pub fn digest(&self) -> u128 {
        match self {
            Action::Transfer(transfer) => transfer.digest(),
            Action::Transaction(transaction) => transaction.digest(),
            Action::Expire(expire) => xxhash_rust::xxh3::xxh3_128(&to_vec(expire)),
        }
    }

    /// How many conditions and operations it has.
    pub(crate) fn len(&self) -> usize {
        match self {
            Action::Transfer(_) | Action::Expire(_) => 1,
            Action::Transaction(transaction) => transaction.conditions.len() + transaction.operations.len(),
        }
    }

    /// About how many bytes it has.
    pub(crate) fn bytes(&self) -> usize {
        match self {
            Action::Transfer(_) | Action::Expire(_) => 128,
            Action::Transaction(transaction) => transaction.bytes(),
        }
    }

    /// The transaction, if it is one that a client wrote.
    pub fn transaction(&self) -> Option<&Transaction> {
        match self {
            Action::Transfer(_) | Action::Expire(_) => None,
            Action::Transaction(transaction) => Some(transaction),
        }
    }
}

impl From<Transfer> for Action {
    fn from(transfer: Transfer) -> Action {
        Action::Transfer(transfer)
    }
}

impl From<Transaction> for Action {
    fn from(transaction: Transaction) -> Action {
        Action::Transaction(Arc::new(transaction))
    }
}

#[cfg(test)]
mod tests;
