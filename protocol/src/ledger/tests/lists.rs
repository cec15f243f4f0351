//! Lists: order, pages, times, and what is in them.

use super::keys::{of, pair};
use super::*;
use crate::ledger::QueryState;
use crate::ledger::model::{BalancesAt, Flags, PendingState};
use crate::ledger::operations::{LIST_LIMIT, List, ListOf, Listed, ListedRows, Operation, Pend, PostPending, Reply};

const ALL: List =
    List { of: ListOf::Code(1), newest: false, since: LogTime(0), until: None, from: None, limit: LIST_LIMIT };

fn listed(world: &World, list: List) -> Option<Listed> {
    match world.ledger.query(&[Operation::List(list)]) {
        QueryState::Ready(found) => match &found[0].reply {
            Reply::Listed(listed) => Some(listed.clone()),
            other => panic!("{other:?}"),
        },
        QueryState::InDoubt => None,
        QueryState::Moved => panic!("moved"),
    }
}

/// The ids of a page of postings, and where to go on.
fn ids(world: &World, list: List) -> (Vec<u128>, Option<u64>) {
    let listed = listed(world, list).expect("nothing is in doubt");
    let ListedRows::Posted(rows) = listed.rows else { panic!("{:?}", listed.rows) };
    (rows.iter().map(|row| row.transfer.id.0).collect(), listed.next)
}

/// Nine transfers of 1, at times 10 to 90: from 1 and from 2 in turn, to 3; every third with user data.
fn world() -> World {
    let mut world = World::new(G1);
    for id in 1..=9u128 {
        world.time = id as u64 * 10;
        let data = u128::from(id % 3 == 0);
        let transfer = Transfer {
            code: if id < 5 { 1 } else { 2 },
            user_data_128: data * 7,
            user_data_64: data as u64 * 8,
            user_data_32: data as u32 * 9,
            ..move_money(id, 1 + id % 2, 3, 1)
        };
        assert_eq!(world.transfer(transfer), Some(COMMITTED));
    }
    world
}

#[test]
fn an_account_a_code_and_user_data_have_their_lists() {
    let world = world();
    let of = |of| ids(&world, List { of, ..ALL }).0;
    assert_eq!(of(ListOf::Account(AccountId(1))), [2, 4, 6, 8]);
    assert_eq!(of(ListOf::Account(AccountId(3))), [1, 2, 3, 4, 5, 6, 7, 8, 9]);
    assert_eq!((of(ListOf::Code(1)), of(ListOf::Code(2))), (vec![1, 2, 3, 4], vec![5, 6, 7, 8, 9]));
    for data in [ListOf::UserData128(7), ListOf::UserData64(8), ListOf::UserData32(9)] {
        assert_eq!(of(data), [3, 6, 9]);
    }
    for none in [ListOf::UserData128(0), ListOf::UserData64(7), ListOf::Account(AccountId(105)), ListOf::Code(9)] {
        assert!(of(none).is_empty(), "{none:?}");
    }
    let elsewhere = Operation::List(List { of: ListOf::Account(AccountId(11)), ..ALL });
    assert_eq!(world.ledger.query(&[elsewhere]), QueryState::Moved);
}

#[test]
fn pages_follow_each_other_in_both_directions_and_within_times() {
    let world = world();
    let all = List { of: ListOf::Account(AccountId(3)), limit: 4, ..ALL };
    for newest in [false, true] {
        let (mut found, mut from) = (Vec::new(), None);
        loop {
            let (page, next) = ids(&world, List { newest, from, ..all });
            found.extend(page);
            from = next;
            if from.is_none() {
                break;
            }
        }
        let mut wanted: Vec<u128> = (1..=9).collect();
        if newest {
            wanted.reverse();
        }
        assert_eq!(found, wanted);
    }
    let within = |since, until, newest| {
        ids(&world, List { since: LogTime(since), until: Some(LogTime(until)), newest, limit: 100, ..all }).0
    };
    assert_eq!(within(30, 60, false), [3, 4, 5], "the first time is included, the last is not");
    assert_eq!(within(31, 61, true), [6, 5, 4]);
    assert!(within(60, 30, false).is_empty() && within(91, 1000, true).is_empty());
    assert_eq!(ids(&world, List { limit: 0, ..all }), (vec![], Some(0)));
    assert_eq!(ids(&world, List { from: Some(u64::MAX), ..all }), (vec![], None));
    assert_eq!(ids(&world, List { from: Some(u64::MAX), newest: true, limit: 1, ..all }), (vec![9], Some(7)));
}

#[test]
fn a_list_of_an_account_waits_for_what_is_in_doubt() {
    let (mut g1, mut g2) = pair();
    let transfer = move_money(1, 1, 11, 4);
    g1.begin(transfer, 1, 1);
    g2.prepare(transfer, 1, 1);
    let of = |account| List { of: ListOf::Account(AccountId(account)), ..ALL };
    assert_eq!((listed(&g1, of(1)), listed(&g2, of(11))), (None, None));
    g1.decide(transfer, 1, Verdict::Commit);
    g2.resolve(transfer, 1, Verdict::Commit);
    assert_eq!((ids(&g1, of(1)).0, ids(&g2, of(11)).0), (vec![1], vec![1]));
}

#[test]
fn pending_transfers_and_histories_of_balances_are_listed() {
    let mut world = World::new(G1);
    world.create(&[NewAccount { id: AccountId(101), ledger: 1, code: 1, flags: Flags::HISTORY }]);
    let (debit, credit) = (AccountId(1), AccountId(101));
    let mut step = |time, id, operation| {
        world.time = time;
        assert_eq!(world.transact(&of(id, &[operation])).map(|done| done.result), Some(COMMITTED));
    };
    let pend = |id| Pend { transfer: move_money(id, 1, 101, 5), timeout: Span(100) };
    step(10, 1, Operation::Pend(pend(1)));
    step(20, 2, Operation::Pend(pend(2)));
    let (id, pending, amount) = (TransferId(3), TransferId(1), Some(3));
    step(30, 3, Operation::Post(PostPending { id, pending, debit, credit, amount }));
    world.time = 120;
    world.run([]);
    let ListedRows::Pending(rows) = listed(&world, List { of: ListOf::Pending(credit), ..ALL }).expect("quiet").rows
    else {
        panic!("pending transfers")
    };
    let states: Vec<_> = rows.iter().map(|row| (row.transfer.id.0, row.state, row.posted, row.ended_at.0)).collect();
    assert_eq!(states, [(1, PendingState::Posted, 3, 30), (2, PendingState::Expired, 0, 120)]);
    let newest = List { of: ListOf::Balances(credit), newest: true, ..ALL };
    let ListedRows::Balances(rows) = listed(&world, newest).expect("quiet").rows else { panic!("balances") };
    let told = |row: &BalancesAt| (row.transfer.0, row.at.0, row.credits_pending, row.credits_posted);
    let rows: Vec<_> = rows.iter().map(told).collect();
    assert_eq!(rows, [(2, 120, 0, 3), (3, 30, 5, 3), (2, 20, 10, 0), (1, 10, 5, 0)]);
    let none = List { of: ListOf::Balances(debit), ..ALL };
    assert_eq!(listed(&world, none).expect("quiet").rows, ListedRows::Balances(vec![]), "it keeps no history");
}

#[test]
fn a_transaction_has_no_lists() {
    let transaction = crate::ledger::operations::Transaction {
        id: TransferId(1),
        conditions: Vec::new(),
        operations: vec![Operation::List(ALL)],
    };
    assert!(transaction.fault().is_some());
}
