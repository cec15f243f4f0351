//! What operators see.

use super::*;
use crate::ledger::model::Sides;
use crate::message::operator::{AccountsCall, PageCall};

fn pages(world: &World, limit: u32, changed: bool, reserved: bool) -> Vec<u128> {
    let (mut from, mut found) = (0, Vec::new());
    loop {
        let page = world.ledger.accounts_page(&AccountsCall { from, limit, changed, reserved });
        found.extend(page.accounts.iter().map(|account| account.id.0));
        match page.next {
            Some(next) => from = next,
            None => return found,
        }
    }
}

#[test]
fn accounts_come_in_pages_over_all_shards() {
    let mut world = World::new(G1);
    world.create(&[NewAccount { id: AccountId(105), ledger: 1, code: 1, ..NewAccount::default() }]);
    let all: Vec<u128> = (1..=10).chain([u128::MAX, u128::MAX - 2, 105]).collect();
    let listed: Vec<u128> = (1..=10).chain([105]).collect();
    for limit in [1, 2, 3, 100, u32::MAX] {
        assert_eq!(pages(&world, limit, false, true), all);
        assert_eq!(pages(&world, limit, false, false), listed);
        assert_eq!(pages(&world, limit, true, true), [0; 0]);
    }
    world.transfer(move_money(1, 3, 105, 1));
    assert_eq!(pages(&world, 1, true, true), [3, 105]);
    let call = AccountsCall { from: u64::MAX, limit: 5, changed: false, reserved: false };
    assert_eq!(world.ledger.accounts_page(&call).accounts, []);
}

#[test]
fn posted_transfers_have_their_order_their_sides_and_links() {
    let mut world = World::new(G1);
    world.transfer(move_money(1, 1, 2, 1));
    world.begin(move_money(2, 1, 11, 1), 1, 1);
    world.decide(move_money(2, 1, 11, 1), 1, Verdict::Commit);
    world.prepare(move_money(3, 11, 2, 1), 1, 1);
    world.resolve(move_money(3, 11, 2, 1), 1, Verdict::Commit);
    world.transfer(move_money(4, 1, 2, 1));
    let page = world.ledger.posted_page(&PageCall { from: 0, limit: 10 });
    let sides: Vec<(u128, Sides)> = page.rows.iter().map(|row| (row.transfer.id.0, row.sides)).collect();
    assert_eq!(sides, [(1, Sides::Both), (2, Sides::Debit), (3, Sides::Credit), (4, Sides::Both)]);
    let none = crate::ledger::accounts::NO_TRANSFER;
    let links: Vec<_> = world.ledger.posted.from(0).map(|row| (row.before_debit, row.before_credit)).collect();
    assert_eq!(links, [(none, none), (0, none), (none, 0), (1, 2)]);
    let page = world.ledger.posted_page(&PageCall { from: 3, limit: u32::MAX });
    assert_eq!((page.rows.len(), page.total), (1, 4));
    assert_eq!(world.ledger.posted_page(&PageCall { from: u64::MAX, limit: 1 }).rows, []);
}

#[test]
fn a_digest_of_a_range_tells_rows_and_order() {
    let world = |ids: &[u128]| {
        let mut world = World::new(G1);
        ids.iter().for_each(|id| assert_eq!(world.transfer(move_money(*id, 1, 2, 1)), Some(COMMITTED)));
        world
    };
    let digest = |world: &World, from, limit| world.ledger.posted_digest(&PageCall { from, limit });
    let (a, b) = (world(&[1, 2, 3]), world(&[1, 3, 2]));
    assert_eq!(digest(&a, 0, 1), digest(&b, 0, 1));
    assert_ne!(digest(&a, 1, 2).digest, digest(&b, 1, 2).digest);
    assert_eq!((digest(&a, 2, 10).rows, digest(&a, 2, 10).total), (1, 3));
    assert_ne!(a.ledger.totals().digest, b.ledger.totals().digest);
}

#[test]
fn every_part_of_the_state_is_in_the_digest() {
    let mut world = World::new(G1);
    let mut seen = vec![world.ledger.totals().digest];
    let mut fresh = |world: &World, what: &str| {
        // The applied length alone would change it; it is the same after each of these.
        let digest = world.ledger.totals().digest;
        assert!(!seen.contains(&digest), "{what}");
        seen.push(digest);
    };
    let with = |what: &str, command: Command, fresh: &mut dyn FnMut(&World, &str)| {
        let mut world = World::new(G1);
        world.begin(move_money(900, 1, 11, 5), 1, 5);
        world.one(command);
        fresh(&world, what);
    };
    with("nothing", transfers(&[]), &mut fresh);
    with("posted", transfers(&[move_money(1, 3, 2, 1)]), &mut fresh);
    with("posted other", transfers(&[move_money(2, 3, 2, 1)]), &mut fresh);
    with("rejected", transfers(&[move_money(1, 3, 2, 0)]), &mut fresh);
    with("fenced", fence(move_money(1, 3, 2, 0)), &mut fresh);
    with("waiting", transfers(&[move_money(1, 1, 2, 6)]), &mut fresh);
    with("waiting other", transfers(&[move_money(1, 1, 2, 7)]), &mut fresh);
    with("waiting twice", transfers(&[move_money(1, 1, 2, 6), move_money(1, 1, 2, 6)]), &mut fresh);
    with("read", read(1), &mut fresh);
    with("prepared", prepare(move_money(1, 11, 2, 1), 1, 1), &mut fresh);
    with("prepared again", prepare(move_money(1, 11, 2, 1), 2, 1), &mut fresh);
    with("begun", begin(move_money(1, 2, 11, 1), 1, 1), &mut fresh);
    with("decided", decide(move_money(900, 1, 11, 5), 1, Verdict::Commit), &mut fresh);
    with("aborted", decide(move_money(900, 1, 11, 5), 1, Verdict::Abort), &mut fresh);
    with("session", register(1), &mut fresh);
    with("other session", register(2), &mut fresh);
    world.lead(3);
    fresh(&world, "leader");
}

#[test]
fn pending_shows_what_is_in_doubt() {
    let mut world = World::new(G1);
    world.time = 5;
    world.begin(move_money(1, 1, 11, 8), 1, 50);
    world.prepare(move_money(2, 11, 3, 8), 4, 60);
    world.begin(move_money(3, 1, 11, 8), 1, 40);
    let page = world.ledger.pending_page();
    assert_eq!((page.total, page.waiting, page.time), (3, 1, LogTime(5)));
    let rows: Vec<_> = page.rows.iter().map(|row| (row.txn.id.0, row.coordinator, row.since.0, row.waiting)).collect();
    assert_eq!(rows, [(1, G1, 5, false), (2, G2, 5, false), (3, G1, 5, true)]);
    assert_eq!(page.rows[1].attempt, attempt(4));
}
