//! One group, nothing in doubt: each rule of a transfer, accounts, sessions.

use super::*;
use crate::ledger::ReadState;
use crate::ledger::model::{CreateResult, Flags};
use crate::message::client::Why;

fn account(id: u128, ledger: u32, flags: Flags) -> NewAccount {
    NewAccount { id: AccountId(id), ledger, code: 1, flags }
}

#[test]
fn a_group_opens_with_its_own_accounts_in_double_entry() {
    let world = World::new(G1);
    let totals = world.ledger.totals();
    assert_eq!(totals.accounts, 12);
    assert_eq!((totals.ledgers[0].debits, totals.ledgers[0].credits), (100, 100));
    assert_eq!(world.balance(1), 10);
    assert_eq!(world.balance(u128::MAX), -100);
    assert_eq!(world.ledger.read(AccountId(11)), ReadState::Moved);
    assert_eq!(world.ledger.read(AccountId(30)), ReadState::Ready(None));
}

#[test]
fn a_transfer_moves_money_once() {
    let mut world = World::new(G1);
    assert_eq!(world.transfer(move_money(1, 1, 2, 4)), Some(COMMITTED));
    let again = world.one(transfers(&[move_money(1, 1, 2, 4)]));
    let (items, waiting) = transfers_done(&again[0]).expect("a batch is answered");
    assert_eq!((items.len(), waiting), (1, 0));
    assert_eq!((items[0].result, items[0].replayed), (COMMITTED, true));
    assert_eq!((world.balance(1), world.balance(2)), (6, 14));
    assert_eq!(world.ledger.totals().posted, 1);
}

#[test]
fn each_rule_rejects_and_is_recorded() {
    let mut world = World::new(G1);
    world.create(&[account(101, 2, Flags::NONE), account(102, 1, Flags::CLOSED)]);
    let all = [
        (move_money(1, 1, 2, 0), Reason::ZeroAmount),
        (move_money(2, 1, 1, 1), Reason::SameAccount),
        (move_money(3, 1, 110, 1), Reason::NoSuchAccount),
        (move_money(4, 110, 1, 1), Reason::NoSuchAccount),
        (move_money(5, 1, 77, 1), Reason::NoSuchAccount),
        (move_money(6, 77, 1, 1), Reason::NoSuchAccount),
        (move_money(7, 1, 101, 1), Reason::LedgerMismatch),
        (Transfer { ledger: 2, ..move_money(8, 1, 2, 1) }, Reason::LedgerMismatch),
        (move_money(9, 1, 102, 1), Reason::Closed),
        (move_money(10, 102, 1, 1), Reason::Closed),
        (move_money(11, 1, 2, u128::MAX), Reason::Overflow),
        (move_money(12, 1, 2, 11), Reason::ExceedsCredits),
    ];
    for (transfer, reason) in all {
        assert_eq!(world.transfer(transfer), Some(rejected(reason)), "{transfer:?}");
        assert_eq!(world.ledger.outcome(TxnId::from(&transfer)), Some(Outcome::Rejected(reason)));
    }
    let totals = world.ledger.totals();
    assert_eq!((totals.posted, totals.ids), (0, all.len() as u64));
}

#[test]
fn the_checks_have_an_order() {
    let mut world = World::new(G1);
    assert_eq!(world.transfer(move_money(1, 1, 1, 0)), Some(rejected(Reason::ZeroAmount)));
    assert_eq!(world.transfer(move_money(2, 77, 77, 1)), Some(rejected(Reason::SameAccount)));
    assert_eq!(
        world.transfer(Transfer { ledger: 3, ..move_money(3, 1, 110, 1) }),
        Some(rejected(Reason::NoSuchAccount))
    );
}

#[test]
fn the_limit_of_the_credit_side_is_symmetric() {
    let mut world = World::new(G1);
    world.create(&[account(101, 1, Flags::CREDITS_MUST_NOT_EXCEED_DEBITS), account(102, 1, Flags::NONE)]);
    assert_eq!(world.transfer(move_money(1, 102, 101, 1)), Some(rejected(Reason::ExceedsDebits)));
    assert_eq!(world.transfer(move_money(2, 101, 102, 5)), Some(COMMITTED));
    assert_eq!(world.transfer(move_money(3, 102, 101, 5)), Some(COMMITTED));
    assert_eq!(world.transfer(move_money(4, 102, 101, 1)), Some(rejected(Reason::ExceedsDebits)));
}

#[test]
fn what_other_groups_own_has_moved_and_is_not_recorded() {
    let mut world = World::new(G1);
    assert_eq!(world.transfer(move_money(1, 1, 11, 1)), Some(TransferResult::Moved));
    assert_eq!(world.transfer(move_money(2, 11, 1, 1)), Some(TransferResult::Moved));
    assert_eq!(world.ledger.totals().ids, 0);
}

#[test]
fn the_digest_of_a_transfer_is_that_of_its_bytes_in_a_batch() {
    let mut world = World::new(G1);
    let transfer = Transfer { user_data_128: u128::MAX, user_data_64: 300, ..move_money(1 << 100, 1, 2, 1) };
    assert_eq!(world.transfer(transfer), Some(COMMITTED));
    let txn = TxnId::from(&transfer);
    assert_eq!(world.ledger.ids.known(txn, transfer.digest()), crate::txn::table::Known::Committed);
}

#[test]
fn accounts_are_created_once_and_only_where_they_belong() {
    let mut world = World::new(G1);
    let session = world.register(5);
    let batch = [
        account(101, 3, Flags::NONE),
        account(101, 3, Flags::NONE),
        account(101, 4, Flags::NONE),
        account(12, 1, Flags::NONE),
        account(130, 1, Flags::NONE),
        account(u128::MAX, 1, Flags::NONE),
        account(1, 1, Flags::DEBITS_MUST_NOT_EXCEED_CREDITS),
    ];
    let wanted = vec![
        CreateResult::Created,
        CreateResult::Exists,
        CreateResult::ExistsDifferent,
        CreateResult::Moved,
        CreateResult::Moved,
        CreateResult::Moved,
        CreateResult::Exists,
    ];
    for _ in 0..2 {
        // The second time the stored answer is given: created, not exists.
        let outputs = world.one(create(session, 3, &batch));
        let [Output::Client(output)] = &outputs[..] else { panic!("{outputs:?}") };
        assert_eq!(output.result, CommandResult::Created(wanted.clone()));
    }
}

fn refusal(outputs: &[Output]) -> Option<Why> {
    match outputs {
        [Output::Client(output)] => match output.result {
            CommandResult::Refused(why) => Some(why),
            _ => None,
        },
        _ => None,
    }
}

#[test]
fn an_answer_is_kept_within_the_window_and_refused_beyond_it() {
    let mut world = World::new(G1);
    let session = world.register(5);
    let batch = [account(101, 3, Flags::NONE)];
    world.one(create(session, 1, &batch));
    world.one(client::<Transfer>(CommandKind::Transfers, Some(session), 1024, &[]));
    assert_eq!(refusal(&world.one(create(session, 1, &batch))), None);
    let batch = [move_money(1, 1, 2, 1)];
    world.one(client(CommandKind::Transfers, Some(session), 1026, &batch));
    assert_eq!(refusal(&world.one(create(session, 2, &[account(102, 3, Flags::NONE)]))), Some(Why::SessionWindow));
    assert_eq!(refusal(&world.one(create(session, 3, &[account(102, 3, Flags::NONE)]))), None);
}

#[test]
fn sessions_are_refused_when_unknown_or_too_many() {
    let limits = Limits { sessions: 2, ..Limits::default() };
    let mut world = World::with(G1, limits);
    let unknown = Session { id: SessionId(5), registered: Slot(0) };
    let batch = [move_money(1, 1, 2, 1)];
    let outputs = world.one(client(CommandKind::Transfers, Some(unknown), 1, &batch));
    assert_eq!(refusal(&outputs), Some(Why::UnknownSession));
    assert_eq!(refusal(&world.one(create(unknown, 1, &[]))), Some(Why::UnknownSession));
    world.register(1);
    world.register(2);
    assert_eq!(refusal(&world.one(register(3))), Some(Why::Overloaded));
    world.time = limits.session_lifetime.0 * 2;
    world.register(3);
    assert_eq!(world.ledger.sessions.len(), 1);
}

#[test]
fn a_session_in_use_does_not_expire() {
    let limits = Limits::default();
    let mut world = World::with(G1, limits);
    let session = world.register(1);
    for use_ in 1..20 {
        world.time += limits.session_lifetime.0 / 2;
        let outputs = world.one(client::<Transfer>(CommandKind::Transfers, Some(session), use_, &[]));
        assert_eq!(refusal(&outputs), None, "a body without transfers is a batch, too");
    }
    // An empty batch is a use, too.
    assert_eq!(world.ledger.sessions.len(), 1);
}
