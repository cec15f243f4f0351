//! Transactions, and what they yield.

use drachma_protocol::ids::{AccountId, TransferId};
use drachma_protocol::ledger::model::{Account, Balance, BalancesAt, PendingState, PendingTransfer, Posted, Sides};
use drachma_protocol::ledger::operations::{
    Action, Add, Answered, BalanceIs, Condition, Expire, Key, KeyIs, List, ListOf, Listed, ListedRows, Operation, Pend,
    PostPending, Put, Reply, Rows, Scan, Swap, Swapped, Transaction, Value, VoidPending,
};
use drachma_protocol::message::operator::Nothing;
use drachma_protocol::time::{LogTime, Span};
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;

use super::{account_id, transfer, transfer_id, u32s, u64s, u128s};

pub(crate) fn key() -> impl Strategy<Value = Key> {
    let bytes = prop_oneof![vec(any::<u8>(), 1..40), "[a-c]{1,2}/[a-c]{0,2}".prop_map(String::into_bytes)];
    bytes.prop_map(|bytes| Key::new(bytes).expect("short enough"))
}

fn value() -> impl Strategy<Value = Value> {
    let bytes = prop_oneof![vec(any::<u8>(), 0..40), vec(any::<u8>(), 250..260)];
    prop_oneof![bytes.prop_map(|bytes| Value::new(bytes).expect("short enough")), any::<i64>().prop_map(Value::from)]
}

fn put() -> impl Strategy<Value = Put> {
    (key(), value()).prop_map(|(key, value)| Put { key, value })
}

fn delta() -> impl Strategy<Value = i64> {
    (0u32..64, any::<i64>()).prop_map(|(bits, number)| number >> bits)
}

fn balance() -> impl Strategy<Value = Balance> {
    (any::<bool>(), u128s()).prop_map(|(negative, magnitude)| Balance { negative, magnitude })
}

fn condition() -> impl Strategy<Value = Condition> {
    let of_key = || (key(), option::of(value())).prop_map(|(key, value)| KeyIs { key, value });
    let of_balance = || (account_id(), balance()).prop_map(|(account, balance)| BalanceIs { account, balance });
    prop_oneof![
        of_key().prop_map(Condition::Is),
        of_key().prop_map(Condition::IsNot),
        of_balance().prop_map(Condition::AtLeast),
        of_balance().prop_map(Condition::AtMost),
    ]
}

pub(crate) fn operation() -> impl Strategy<Value = Operation> {
    prop_oneof![
        transfer().prop_map(Operation::Transfer),
        put().prop_map(Operation::Put),
        key().prop_map(Operation::Delete),
        put().prop_map(Operation::Append),
        (key(), delta()).prop_map(|(key, delta)| Operation::Add(Add { key, delta })),
        (key(), key()).prop_map(|(left, right)| Operation::Swap(Swap { left, right })),
        key().prop_map(Operation::Get),
        (key(), option::of(key()), u32s()).prop_map(|(from, to, limit)| Operation::Scan(Scan { from, to, limit })),
        account_id().prop_map(Operation::Read),
        (transfer(), u64s()).prop_map(|(transfer, timeout)| Operation::Pend(Pend { transfer, timeout: Span(timeout) })),
        (ending(), option::of(u128s())).prop_map(|((id, pending, debit, credit), amount)| {
            Operation::Post(PostPending { id, pending, debit, credit, amount })
        }),
        ending().prop_map(|(id, pending, debit, credit)| Operation::Void(VoidPending { id, pending, debit, credit })),
        account_id().prop_map(Operation::Close),
        account_id().prop_map(Operation::Open),
        list().prop_map(Operation::List),
    ]
}

fn list() -> impl Strategy<Value = List> {
    let of = prop_oneof![
        account_id().prop_map(ListOf::Account),
        any::<u16>().prop_map(ListOf::Code),
        u128s().prop_map(ListOf::UserData128),
        u64s().prop_map(ListOf::UserData64),
        u32s().prop_map(ListOf::UserData32),
        account_id().prop_map(ListOf::Pending),
        account_id().prop_map(ListOf::Balances),
    ];
    let times = (u64s().prop_map(LogTime), option::of(u64s().prop_map(LogTime)));
    (of, any::<bool>(), times, option::of(u64s()), u32s()).prop_map(|(of, newest, (since, until), from, limit)| List {
        of,
        newest,
        since,
        until,
        from,
        limit,
    })
}

fn listed() -> impl Strategy<Value = Listed> {
    let pending = (transfer(), u64s(), u128s()).prop_map(|(transfer, timeout, posted)| PendingTransfer {
        transfer,
        sides: Sides::Credit,
        made_at: LogTime(3),
        timeout: Span(timeout),
        state: PendingState::Posted,
        ended_at: LogTime(timeout),
        posted,
    });
    let posted =
        (transfer(), u64s()).prop_map(|(transfer, at)| Posted { transfer, sides: Sides::Both, posted_at: LogTime(at) });
    let balances =
        (account_id(), transfer_id(), u128s(), u64s()).prop_map(|(account, transfer, total, at)| BalancesAt {
            account,
            transfer,
            at: LogTime(at),
            debits_pending: total,
            debits_posted: 1,
            credits_pending: 0,
            credits_posted: total,
        });
    let rows = prop_oneof![
        vec(posted, 0..4).prop_map(ListedRows::Posted),
        vec(pending, 0..4).prop_map(ListedRows::Pending),
        vec(balances, 0..4).prop_map(ListedRows::Balances),
    ];
    (rows, option::of(u64s())).prop_map(|(rows, next)| Listed { rows, next })
}

fn ending() -> impl Strategy<Value = (TransferId, TransferId, AccountId, AccountId)> {
    (transfer_id(), transfer_id(), account_id(), account_id())
}

/// One without faults of its own.
pub(crate) fn transaction() -> impl Strategy<Value = Transaction> {
    let drawn = (transfer_id(), vec(condition(), 0..4), vec(operation(), 0..6));
    drawn.prop_filter_map("a transaction with a fault", |(id, conditions, operations)| {
        let transaction = Transaction { id, conditions, operations };
        transaction.fault().is_none().then_some(transaction)
    })
}

pub(crate) fn action() -> impl Strategy<Value = Action> {
    let expire = ending().prop_map(|(id, pending, debit, credit)| Expire { id, pending, debit, credit });
    prop_oneof![
        transfer().prop_map(Action::from),
        transaction().prop_map(Action::from),
        expire.prop_map(Action::Expire)
    ]
}

pub(crate) fn row() -> impl Strategy<Value = (Key, Value)> {
    (key(), value())
}

pub(crate) fn reply() -> impl Strategy<Value = Reply> {
    let account =
        (account_id(), u128s()).prop_map(|(id, credits_posted)| Account { id, credits_posted, ..Account::default() });
    prop_oneof![
        Just(Reply::Done(Nothing {})),
        option::of(value()).prop_map(Reply::Value),
        account.prop_map(Reply::Account),
        (vec(row(), 0..4), option::of(key())).prop_map(|(rows, next)| Reply::Rows(Rows { rows, next })),
        delta().prop_map(Reply::Number),
        u64s().prop_map(Reply::Length),
        (option::of(value()), option::of(value())).prop_map(|(left, right)| Reply::Swapped(Swapped { left, right })),
        listed().prop_map(Reply::Listed),
    ]
}

pub(crate) fn answered() -> impl Strategy<Value = Answered> {
    (u32s(), reply()).prop_map(|(operation, reply)| Answered { operation, reply })
}
