//! Arbitrary values of everything that is said.

mod client;
mod group;
mod operations;

use bytes::Bytes;
use drachma_protocol::ids::{
    AccountId, Age, Attempt, Ballot, ClusterId, DirectoryId, Epoch, GroupId, NodeId, ReplicaId, Session, SessionId,
    ShardId, Slot, TransferId, TxnId,
};
use drachma_protocol::ledger::model::{Flags, Outcome, Reason, Transfer};
use drachma_protocol::message::hello::{Caller, Goodbye, Hello, Refusal, Welcome};
use drachma_protocol::time::{LogTime, Span};
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;

pub(crate) use client::{request, response};
pub(crate) use group::{client_command, entry, paxos_message, txn_message};

/// Numbers of every length on the wire.
pub(crate) fn u64s() -> impl Strategy<Value = u64> {
    let edges = vec![0, 127, 128, 255, 256, 65_535, 65_536, (1 << 32) - 1, 1 << 32, u64::MAX];
    prop_oneof![any::<u64>(), (0u32..64, any::<u64>()).prop_map(|(bits, n)| n >> bits), proptest::sample::select(edges)]
}

pub(crate) fn u128s() -> impl Strategy<Value = u128> {
    prop_oneof![u64s().prop_map(u128::from), any::<u128>(), Just(1 << 64), Just(u128::MAX)]
}

pub(crate) fn u32s() -> impl Strategy<Value = u32> {
    u64s().prop_map(|n| n as u32)
}

pub(crate) fn u16s() -> impl Strategy<Value = u16> {
    u64s().prop_map(|n| n as u16)
}

pub(crate) fn bytes() -> impl Strategy<Value = Bytes> {
    prop_oneof![vec(any::<u8>(), 0..40), vec(any::<u8>(), 250..260)].prop_map(Bytes::from)
}

pub(crate) fn text() -> impl Strategy<Value = String> {
    prop_oneof!["[a-z]{0,33}", "\\PC{0,20}", "x{250,260}"]
}

pub(crate) fn one_of<T: Copy + std::fmt::Debug + 'static>(all: &'static [(T, u64)]) -> impl Strategy<Value = T> {
    proptest::sample::select(all).prop_map(|(value, _)| value)
}

macro_rules! ids {
    ($($function:ident: $numbers:ident => $name:ident),+ $(,)?) => {$(
        pub(crate) fn $function() -> impl Strategy<Value = $name> {
            $numbers().prop_map($name)
        }
    )+};
}

ids! {
    node: u16s => NodeId,
    group_id: u16s => GroupId,
    replica: u32s => ReplicaId,
    epoch: u64s => Epoch,
    shard: u16s => ShardId,
    slot: u64s => Slot,
    account_id: u128s => AccountId,
    transfer_id: u128s => TransferId,
    session_id: u128s => SessionId,
    cluster: u128s => ClusterId,
    directory: u128s => DirectoryId,
    span: u64s => Span,
    log_time: u64s => LogTime,
}

prop_compose! {
    pub(crate) fn ballot()(round in u64s(), replica in replica()) -> Ballot {
        Ballot { round, replica }
    }
}

/// The one with the most bytes.
pub(crate) fn largest_ballot() -> Ballot {
    Ballot { round: u64::MAX, replica: ReplicaId(u32::MAX) }
}

prop_compose! {
    pub(crate) fn txn()(id in transfer_id(), first in account_id()) -> TxnId {
        TxnId { id, first }
    }
}

prop_compose! {
    pub(crate) fn attempt()(ballot in ballot(), number in u64s()) -> Attempt {
        Attempt { ballot, number }
    }
}

prop_compose! {
    pub(crate) fn age()(counter in u64s(), id in transfer_id()) -> Age {
        Age { counter, id }
    }
}

prop_compose! {
    pub(crate) fn session()(id in session_id(), registered in slot()) -> Session {
        Session { id, registered }
    }
}

pub(crate) fn reason() -> impl Strategy<Value = Reason> {
    one_of(Reason::ALL)
}

pub(crate) fn outcome() -> impl Strategy<Value = Outcome> {
    prop_oneof![Just(Outcome::Committed), reason().prop_map(Outcome::Rejected)]
}

pub(crate) fn flags() -> impl Strategy<Value = Flags> {
    use proptest::bits::u8::masked;
    let all =
        [Flags::DEBITS_MUST_NOT_EXCEED_CREDITS, Flags::CREDITS_MUST_NOT_EXCEED_DEBITS, Flags::CLOSED, Flags::HISTORY];
    masked(15)
        .prop_map(move |bits| all.into_iter().filter(|flag| bits & flag.bits() != 0).fold(Flags::NONE, Flags::with))
}

prop_compose! {
    pub(crate) fn transfer()(
        id in transfer_id(), debit in account_id(), credit in account_id(), amount in u128s(), ledger in u32s(),
        code in u16s(), user_data_128 in u128s(), user_data_64 in u64s(), user_data_32 in u32s(),
    ) -> Transfer {
        Transfer { id, debit, credit, amount, ledger, code, user_data_128, user_data_64, user_data_32 }
    }
}

prop_compose! {
    pub(crate) fn hello()(
        lowest in any::<u8>(), highest in any::<u8>(), cluster in option::of(cluster()), caller in one_of(Caller::ALL),
        node in option::of(node()), directory in option::of(directory()),
    ) -> Hello {
        Hello { lowest, highest, cluster, caller, node, directory }
    }
}

prop_compose! {
    pub(crate) fn welcome()(version in any::<u8>(), cluster in cluster(), node in node()) -> Welcome {
        Welcome { version, cluster, node }
    }
}

prop_compose! {
    pub(crate) fn goodbye()(refusal in one_of(Refusal::ALL), text in text()) -> Goodbye {
        Goodbye { refusal, text }
    }
}
