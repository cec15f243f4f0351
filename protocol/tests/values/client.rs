//! What clients say and are told.

use drachma_protocol::ledger::model::{Account, CreateResult, ItemResult, Posted, Sides, TransferResult};
use drachma_protocol::message::client::{
    Call, CreatedDone, FenceCall, Found, GroupNodes, MapCall, MapDone, NodeAddress, QueryCall, QueryDone, ReadCall,
    ReadDone, Refused, Request, Response, SettledDone, TransactionDone, TransfersDone, Why,
};
use drachma_protocol::message::level::{
    Level, PositionCall, PositionDone, ReplicaReadCall, ReplicaReadDone, WriteCall, WriteDone, WriteResult,
};
use drachma_protocol::message::operator::{
    AccountsCall, AccountsPage, ActorStatus, Counter, HandOverCall, HandOverDone, HandOverEnd, KeysCall, KeysPage,
    KindPerformance, LeaderPhase, LeaderStatus, LedgerTotals, LogPage, NodeStatus, Nothing, OperatorAnswer,
    OperatorCall, OutcomesCall, OutcomesPage, PageCall, PendingPage, PendingRow, Performance, PostedDigest, PostedPage,
    ReplicaStatus, Totals,
};
use drachma_protocol::placement::map::{AccountRange, Mode, ShardMap};
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;

use super::operations::{key, operation, reply, row};
use super::*;

prop_compose! {
    pub(crate) fn request()(group in group_id(), call in call()) -> Request {
        Request { group, call }
    }
}

fn call() -> impl Strategy<Value = Call> {
    prop_oneof![
        client_command().prop_map(Call::Command),
        (account_id(), span(), epoch()).prop_map(|(account, deadline, epoch)| Call::Read(ReadCall {
            account,
            deadline,
            epoch
        })),
        fence_call().prop_map(Call::Fence),
        fence_call().prop_map(Call::Lookup),
        epoch().prop_map(|epoch| Call::Map(MapCall { epoch })),
        operator_call().prop_map(Call::Operator),
        (vec(operation(), 0..6), any::<bool>(), span(), epoch()).prop_map(
            |(operations, confirmed, deadline, epoch)| {
                Call::Query(QueryCall { operations, confirmed, deadline, epoch })
            }
        ),
        (one_of(Level::ALL), client_command()).prop_map(|(level, command)| Call::Write(WriteCall { level, command })),
        (any::<bool>(), span(), epoch())
            .prop_map(|(everywhere, deadline, epoch)| { Call::Position(PositionCall { everywhere, deadline, epoch }) }),
        (vec(operation(), 0..6), slot(), any::<bool>(), span(), epoch()).prop_map(
            |(operations, after, settled, deadline, epoch)| {
                Call::ReplicaRead(ReplicaReadCall { operations, after, settled, deadline, epoch })
            }
        ),
    ]
}

fn fence_call() -> impl Strategy<Value = FenceCall> {
    (txn(), span()).prop_map(|(txn, deadline)| FenceCall { txn, deadline })
}

fn page_call() -> impl Strategy<Value = PageCall> {
    (u64s(), u32s()).prop_map(|(from, limit)| PageCall { from, limit })
}

fn accounts_call() -> impl Strategy<Value = AccountsCall> {
    (u64s(), u32s(), any::<bool>(), any::<bool>()).prop_map(|(from, limit, changed, reserved)| AccountsCall {
        from,
        limit,
        changed,
        reserved,
    })
}

fn operator_call() -> impl Strategy<Value = OperatorCall> {
    prop_oneof![
        Just(OperatorCall::LeaderStatus(Nothing {})),
        Just(OperatorCall::ReplicaStatus(Nothing {})),
        Just(OperatorCall::NodeStatus(Nothing {})),
        accounts_call().prop_map(OperatorCall::Accounts),
        page_call().prop_map(OperatorCall::Posted),
        page_call().prop_map(OperatorCall::PostedDigest),
        page_call().prop_map(OperatorCall::Log),
        Just(OperatorCall::Pending(Nothing {})),
        Just(OperatorCall::Totals(Nothing {})),
        vec(txn(), 0..20).prop_map(|ids| OperatorCall::Outcomes(OutcomesCall { ids })),
        Just(OperatorCall::Performance(Nothing {})),
        (shard(), option::of(key()), u32s()).prop_map(|(shard, from, limit)| OperatorCall::Keys(KeysCall {
            shard,
            from,
            limit
        })),
        option::of(node()).prop_map(|target| OperatorCall::HandOver(HandOverCall { target })),
    ]
}

pub(crate) fn response() -> impl Strategy<Value = Response> {
    prop_oneof![
        session().prop_map(Response::Registered),
        vec(item_result(), 0..20).prop_map(|items| Response::Transfers(TransfersDone { items })),
        vec(one_of(CreateResult::ALL), 0..20).prop_map(|results| Response::Created(CreatedDone { results })),
        (option::of(account()), slot()).prop_map(|(account, slot)| Response::Read(ReadDone { account, slot })),
        option::of(outcome()).prop_map(|outcome| Response::Settled(SettledDone { outcome })),
        map_done().prop_map(Response::Map),
        (one_of(Why::ALL), option::of(node()), span()).prop_map(|(why, leader, after)| Response::Refused(Refused {
            why,
            leader,
            after
        })),
        operator_answer().prop_map(Response::Operator),
        transaction_done().prop_map(Response::Transaction),
        (slot(), found()).prop_map(|(slot, found)| Response::Queried(QueryDone { slot, found })),
        (write_result(), slot(), any::<bool>())
            .prop_map(|(result, slot, level_met)| { Response::Written(WriteDone { result, slot, level_met }) }),
        (slot(), any::<bool>()).prop_map(|(slot, everywhere)| Response::Position(PositionDone { slot, everywhere })),
        (slot(), option::of(span()), found()).prop_map(|(slot, age, found)| Response::ReplicaRead(ReplicaReadDone {
            slot,
            age,
            found
        })),
    ]
}

fn found() -> impl Strategy<Value = Option<Vec<Found>>> {
    option::of(vec((reply(), slot()).prop_map(|(reply, version)| Found { reply, version }), 0..5))
}

fn transaction_done() -> impl Strategy<Value = TransactionDone> {
    (transfer_result(), any::<bool>(), option::of(vec(reply(), 0..5)))
        .prop_map(|(result, replayed, replies)| TransactionDone { result, replayed, replies })
}

fn write_result() -> impl Strategy<Value = WriteResult> {
    prop_oneof![
        Just(WriteResult::Accepted(Nothing {})),
        vec(item_result(), 0..20).prop_map(|items| WriteResult::Transfers(TransfersDone { items })),
        transaction_done().prop_map(WriteResult::Transaction),
    ]
}

fn transfer_result() -> impl Strategy<Value = TransferResult> {
    prop_oneof![
        outcome().prop_map(TransferResult::Done),
        Just(TransferResult::Retry),
        Just(TransferResult::Moved),
        Just(TransferResult::Unavailable),
        Just(TransferResult::Unknown),
    ]
}

fn item_result() -> impl Strategy<Value = ItemResult> {
    (u32s(), transfer_result(), any::<bool>()).prop_map(|(index, result, replayed)| ItemResult {
        index,
        result,
        replayed,
    })
}

prop_compose! {
    fn account()(
        id in account_id(), ledger in u32s(), code in u16s(), flags in flags(), debits_pending in u128s(),
        debits_posted in u128s(), credits_pending in u128s(), credits_posted in u128s(),
    ) -> Account {
        Account { id, ledger, code, flags, debits_pending, debits_posted, credits_pending, credits_posted }
    }
}

fn map_done() -> impl Strategy<Value = MapDone> {
    let range = (account_id(), account_id()).prop_map(|(first, last)| AccountRange { first, last });
    let mode = prop_oneof![vec(range, 0..20).prop_map(Mode::Range), Just(Mode::Hash(Nothing {}))];
    let map =
        (epoch(), mode, vec(group_id(), 0..20)).prop_map(|(epoch, mode, owners)| ShardMap { epoch, mode, owners });
    let groups = (group_id(), vec(node(), 0..7)).prop_map(|(group, nodes)| GroupNodes { group, nodes });
    let nodes = (node(), text()).prop_map(|(node, address)| NodeAddress { node, address });
    (map, vec(groups, 0..5), vec(nodes, 0..5)).prop_map(|(map, groups, nodes)| MapDone { map, groups, nodes })
}

fn operator_answer() -> impl Strategy<Value = OperatorAnswer> {
    prop_oneof![
        leader_status().prop_map(OperatorAnswer::LeaderStatus),
        replica_status().prop_map(OperatorAnswer::ReplicaStatus),
        node_status().prop_map(OperatorAnswer::NodeStatus),
        (vec(account(), 0..5), option::of(u64s()), slot()).prop_map(|(accounts, next, applied)| {
            OperatorAnswer::Accounts(AccountsPage { accounts, next, applied })
        }),
        (vec(posted(), 0..5), u64s(), slot()).prop_map(|(rows, total, applied)| OperatorAnswer::Posted(PostedPage {
            rows,
            total,
            applied
        })),
        (u128s(), u64s(), u64s(), slot()).prop_map(|(digest, rows, total, applied)| {
            OperatorAnswer::PostedDigest(PostedDigest { digest, rows, total, applied })
        }),
        (slot(), vec(bytes(), 0..5), slot()).prop_map(|(from, entries, chosen)| OperatorAnswer::Log(LogPage {
            from,
            entries,
            chosen
        })),
        (vec(pending_row(), 0..5), u64s(), u64s(), log_time()).prop_map(|(rows, total, waiting, time)| {
            OperatorAnswer::Pending(PendingPage { rows, total, waiting, time })
        }),
        totals().prop_map(OperatorAnswer::Totals),
        (vec(row(), 0..4), option::of((shard(), key())), slot())
            .prop_map(|(rows, next, applied)| OperatorAnswer::Keys(KeysPage { rows, next, applied })),
        (vec(option::of(outcome()), 0..20), slot())
            .prop_map(|(outcomes, applied)| OperatorAnswer::Outcomes(OutcomesPage { outcomes, applied })),
        (u64s(), vec(kind_performance(), 0..5))
            .prop_map(|(window, kinds)| OperatorAnswer::Performance(Performance { window, kinds })),
        (one_of(HandOverEnd::ALL), node(), ballot())
            .prop_map(|(end, leader, ballot)| OperatorAnswer::HandOver(HandOverDone { end, leader, ballot })),
    ]
}

fn posted() -> impl Strategy<Value = Posted> {
    (transfer(), one_of(Sides::ALL), log_time()).prop_map(|(transfer, sides, posted_at)| Posted {
        transfer,
        sides,
        posted_at,
    })
}

prop_compose! {
    fn leader_status()(
        phase in one_of(LeaderPhase::ALL), ballot in ballot(), leader in option::of(node()), no_quorum in any::<bool>(),
        waiting in u64s(), in_flight in u64s(), elections in u64s(),
    ) -> LeaderStatus {
        LeaderStatus { phase, ballot, leader, no_quorum, waiting, in_flight, elections }
    }
}

prop_compose! {
    fn replica_status()(
        promise in ballot(), accepted in ballot(), length in slot(), chosen in slot(), applied in slot(),
        doubtful in any::<bool>(), foreign in any::<bool>(),
    ) -> ReplicaStatus {
        ReplicaStatus { promise, accepted, length, chosen, applied, doubtful, foreign }
    }
}

prop_compose! {
    fn node_status()(
        node in node(), process in u32s(), uptime in u64s(), actors in vec(actor_status(), 0..4),
        counters in vec((text(), u64s()).prop_map(|(name, value)| Counter { name, value }), 0..4),
    ) -> NodeStatus {
        NodeStatus { node, process, uptime, actors, counters }
    }
}

prop_compose! {
    fn actor_status()(group in group_id(), role in text(), depth in u64s(), handled in u64s()) -> ActorStatus {
        ActorStatus { group, role, depth, handled }
    }
}

prop_compose! {
    fn pending_row()(
        txn in txn(), attempt in attempt(), coordinator in group_id(), since in log_time(), waiting in any::<bool>(),
    ) -> PendingRow {
        PendingRow { txn, attempt, coordinator, since, waiting }
    }
}

prop_compose! {
    fn totals()(
        applied in slot(), digest in u128s(), (accounts, posted, ids) in (u64s(), u64s(), u64s()), (keys, key_bytes) in (u64s(), u64s()),
        (in_doubt, coordinated, waiting) in (u64s(), u64s(), u64s()), ledgers in vec(ledger_totals(), 0..3),
        epoch in epoch(),
    ) -> Totals {
        Totals {
            applied, digest, accounts, posted, keys, key_bytes, ids, in_doubt, coordinated, waiting, ledgers, epoch,
        }
    }
}

prop_compose! {
    fn ledger_totals()(
        ledger in u32s(), debits in u128s(), credits in u128s(), sent in u128s(), received in u128s(),
        (debits_pending, credits_pending) in (u128s(), u128s()),
    ) -> LedgerTotals {
        LedgerTotals { ledger, debits, credits, sent, received, debits_pending, credits_pending }
    }
}

prop_compose! {
    fn kind_performance()(
        kind in text(), count in u64s(), refused in u64s(), p50 in u64s(), p99 in u64s(), max in u64s(),
    ) -> KindPerformance {
        KindPerformance { kind, count, refused, p50, p99, max }
    }
}
