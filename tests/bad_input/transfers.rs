//! Transfers that cannot be: each has its typed outcome, and moves nothing.

use drachma_client::Status;
use drachma_protocol::ids::{AccountId, Epoch, GroupId, Session, SessionId, TransferId, TxnId};
use drachma_protocol::ledger::model::{BATCH_LIMIT, CreateResult, Flags, NewAccount, Outcome, Reason, Transfer};
use drachma_protocol::message::client::{Call, Response, Why};
use drachma_protocol::message::command::CommandKind;
use drachma_protocol::message::operator::{OperatorAnswer, OperatorCall, OutcomesCall};
use drachma_protocol::wire::codec::to_vec;

use crate::rig::{Line, PATIENCE, Rig, batch, raw_command, transfer};

const G1: GroupId = GroupId(1);
const G2: GroupId = GroupId(2);

impl Rig {
    #[track_caller]
    fn assert_rejected(&self, transfer: Transfer, reason: Reason) {
        let answer = self.block_on(self.client.transfer(transfer, Some(PATIENCE)));
        assert_eq!(answer.status, Status::Rejected(reason), "{transfer:?}");
    }

    fn outcome(&self, id: u128, first: u128) -> Option<Outcome> {
        let txn = TxnId { id: TransferId(id), first: AccountId(first) };
        // Settled first, so that a replica that lags cannot hide it.
        self.block_on(self.client.lookup(txn, Some(PATIENCE))).expect("an answer")
    }

    fn create(&self, new: &[NewAccount]) {
        let results = self.block_on(self.client.create_accounts(new, Some(PATIENCE)));
        assert!(results.iter().all(|result| *result == Ok(CreateResult::Created)), "{results:?}");
    }
}

fn new_account(id: u128, ledger: u32, flags: Flags) -> NewAccount {
    NewAccount { id: AccountId(id), ledger, code: 1, flags }
}

#[test]
fn what_cannot_be_moved_is_rejected_with_its_reason_for_ever_and_moves_nothing() {
    let mut rig = Rig::small("rejected");
    rig.create(&[
        new_account(100_001, 2, Flags::NONE),
        new_account(200_001, 2, Flags::NONE),
        new_account(100_002, 1, Flags::CLOSED),
        new_account(200_002, 1, Flags::CLOSED),
        new_account(100_003, 1, Flags::CREDITS_MUST_NOT_EXCEED_DEBITS),
        new_account(200_003, 1, Flags::CREDITS_MUST_NOT_EXCEED_DEBITS),
    ]);
    let before = rig.settled();
    // Within g1, and from g1 to g2.
    let cases = [
        (transfer(1, 1, 2, 0), Reason::ZeroAmount),
        (transfer(2, 1, 1001, 0), Reason::ZeroAmount),
        (transfer(3, 1, 1, 5), Reason::SameAccount),
        (transfer(4, 1, 2, 11), Reason::ExceedsCredits),
        (transfer(5, 1, 1001, 11), Reason::ExceedsCredits),
        (transfer(6, 1, 2, u128::MAX), Reason::Overflow),
        (transfer(7, 1, 1001, u128::MAX), Reason::ExceedsCredits),
        (transfer(8, 1, 100_003, 1), Reason::ExceedsDebits),
        (transfer(9, 1, 200_003, 1), Reason::ExceedsDebits),
        (transfer(10, 1, 199_999, 1), Reason::NoSuchAccount),
        (transfer(11, 1, 299_999, 1), Reason::NoSuchAccount),
        (transfer(12, 1, 5_000, 1), Reason::NoSuchAccount), // Outside all ranges.
        (transfer(13, 199_999, 1, 1), Reason::NoSuchAccount),
        (transfer(14, 199_999, 1001, 1), Reason::NoSuchAccount),
        (transfer(15, 1, 100_001, 1), Reason::LedgerMismatch),
        (transfer(16, 1, 200_001, 1), Reason::LedgerMismatch),
        (Transfer { ledger: 2, ..transfer(17, 1, 2, 1) }, Reason::LedgerMismatch),
        (Transfer { ledger: 2, ..transfer(18, 1, 1001, 1) }, Reason::LedgerMismatch),
        (transfer(19, 1, 100_002, 1), Reason::Closed),
        (transfer(20, 1, 200_002, 1), Reason::Closed),
    ];
    for (transfer, reason) in cases {
        rig.assert_rejected(transfer, reason);
        // Final: the same id gets the same answer, whatever has changed since.
        rig.assert_rejected(transfer, reason);
        assert_eq!(rig.outcome(transfer.id.0, transfer.debit.0), Some(Outcome::Rejected(reason)), "{transfer:?}");
    }
    // Its id would live under an account that nobody owns: nobody has a record of it.
    rig.assert_rejected(transfer(21, 5_000, 1, 1), Reason::NoSuchAccount);
    let mut expected = before.clone();
    expected.get_mut(&G1).unwrap().ids += cases.len() as u64;
    // A participant that has voted yes keeps the outcome, too.
    let after = rig.settled();
    expected.get_mut(&G2).unwrap().ids = after[&G2].ids;
    assert!(after[&G2].ids <= before[&G2].ids + cases.len() as u64);
    assert_eq!(after, expected, "only the ids that now have an outcome differ");
    rig.assert_unharmed();
}

#[test]
fn the_command_line_says_the_reason_and_ends_with_1() {
    let mut rig = Rig::small("cli");
    let before = rig.settled();
    let cases: [(&[&str], &str); 6] = [
        (&["1", "2", "0"], "zero_amount"),
        (&["1", "1", "5"], "same_account"),
        (&["1", "1001", "11"], "exceeds_credits"),
        (&["1", "199999", "1"], "no_such_account"),
        (&["5000", "1", "1"], "no_such_account"),
        (&["1", "2", "1", "--ledger", "7"], "ledger_mismatch"),
    ];
    for (arguments, reason) in cases {
        let output = rig.cli(&[&["transfer", "--output", "json"], arguments].concat());
        assert_eq!(output.status.code(), Some(1), "{arguments:?}: {output:?}");
        let row: serde_json::Value = serde_json::from_slice(&output.stdout).expect("one object");
        assert_eq!((&row["outcome"], &row["reason"]), (&"rejected".into(), &reason.into()), "{row}");
    }
    for bad in [&["1", "2", "-1"][..], &["1", "2", "340282366920938463463374607431768211456"], &["x", "2", "1"]] {
        let output = rig.cli(&[&["transfer"], bad].concat());
        assert_eq!(output.status.code(), Some(2), "{bad:?}: {output:?}");
    }
    let mut expected = before;
    expected.get_mut(&G1).unwrap().ids += 5;
    expected.get_mut(&G2).unwrap().ids += 1; // It had voted yes on what crosses.
    assert_eq!(rig.settled(), expected);
    rig.assert_unharmed();
}

#[test]
fn an_id_with_other_content_is_refused_and_the_first_content_still_answers() {
    let mut rig = Rig::small("conflict");
    let moved = |transfer| rig.block_on(rig.client.transfer(transfer, Some(PATIENCE)));
    for first in [transfer(1, 1, 2, 3), transfer(2, 1, 1001, 3)] {
        assert_eq!(moved(first).status, Status::Committed);
        let others = [
            Transfer { amount: 4, ..first },
            Transfer { credit: AccountId(3), ..first },
            Transfer { credit: AccountId(1002), ..first },
            Transfer { credit: AccountId(199_999), ..first },
            Transfer { ledger: 2, ..first },
            Transfer { code: 2, ..first },
            Transfer { user_data_128: 1, ..first },
            Transfer { user_data_64: 1, ..first },
            Transfer { user_data_32: 1, ..first },
        ];
        let before = rig.settled();
        for other in others {
            rig.assert_rejected(other, Reason::IdConflict);
            assert_eq!(rig.outcome(first.id.0, 1), Some(Outcome::Committed));
        }
        let again = moved(first);
        assert_eq!((again.status, again.replayed), (Status::Committed, true));
        assert_eq!(rig.settled(), before, "a conflict is not recorded");
        // The same id under another debit account is another id.
        assert_eq!(moved(Transfer { debit: AccountId(4), ..first }).status, Status::Committed);
    }
    // Within one batch: one of the two takes effect, the other conflicts.
    let answers = rig.block_on(rig.client.transfers(&[transfer(9, 5, 6, 1), transfer(9, 5, 6, 2)], Some(PATIENCE)));
    let mut statuses: Vec<Status> = answers.iter().map(|answer| answer.status).collect();
    statuses.sort_by_key(|status| *status != Status::Committed);
    assert_eq!(statuses, [Status::Committed, Status::Rejected(Reason::IdConflict)]);
    let conflict = rig.cli(&["transfer", "1", "2", "4", "--id", "1", "--output", "json"]);
    assert_eq!(conflict.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&conflict.stdout).contains("id_conflict"), "{conflict:?}");
    rig.assert_unharmed();
}

#[test]
fn amounts_that_overflow_are_rejected_and_the_largest_fits() {
    const ALL: u128 = u128::MAX;
    let mut rig = Rig::small("overflow");
    let (a, b, x, y) = (100_011, 100_012, 200_011, 200_012);
    rig.create(&[a, b, x, y].map(|id| new_account(id, 3, Flags::NONE)));
    let three = |id, debit, credit, amount| Transfer { ledger: 3, ..transfer(id, debit, credit, amount) };
    let moved = |transfer| rig.block_on(rig.client.transfer(transfer, Some(PATIENCE))).status;
    assert_eq!(moved(three(1, a, b, ALL - 5)), Status::Committed);
    assert_eq!(moved(three(2, x, y, ALL)), Status::Committed);
    let before = rig.settled();
    for (n, (debit, credit, amount)) in [
        (a, b, ALL),
        (a, b, 6),
        (a, x, 6), // The debit side, across groups.
        (y, b, 6), // The credit side, across groups.
        (x, y, 1),
        (x, a, 1),
        (b, y, 1),
    ]
    .into_iter()
    .enumerate()
    {
        rig.assert_rejected(three(10 + n as u128, debit, credit, amount), Reason::Overflow);
    }
    let after = rig.settled();
    for (group, state) in &after {
        assert_eq!((&state.changed, state.posted), (&before[group].changed, before[group].posted), "{group}");
        assert_eq!(state.ledgers, before[group].ledgers, "{group}");
    }
    assert_eq!(moved(three(3, a, b, 5)), Status::Committed, "exactly full");
    assert_eq!(moved(three(4, b, a, ALL)), Status::Committed, "and back");
    rig.assert_unharmed();
}

fn register(line: &mut Line, group: u16) -> Session {
    match line.answer(group, Call::Command(raw_command(CommandKind::Register, 1, to_vec(&SessionId(0x5e55))))) {
        Response::Registered(session) => session,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_batch_at_the_limit_is_answered_and_one_past_it_is_refused() {
    assert_eq!(BATCH_LIMIT, 8190);
    let mut rig = Rig::small("batch");
    let leader = rig.leader(1);
    let mut line = rig.caller(leader);
    // As large as transfers become.
    let large = |n: u128, debit, credit| Transfer {
        id: TransferId(u128::MAX - n),
        debit: AccountId(debit),
        credit: AccountId(credit),
        amount: u128::MAX - n,
        ledger: u32::MAX,
        code: u16::MAX,
        user_data_128: u128::MAX,
        user_data_64: u64::MAX,
        user_data_32: u32::MAX,
    };
    for (kind, credit, start) in [(CommandKind::Transfers, 2, 0), (CommandKind::Transact, 1002, 10_000)] {
        let transfers: Vec<Transfer> = (0..=BATCH_LIMIT as u128).map(|n| large(start + n, 1, credit)).collect();
        let before = rig.settled();
        assert_eq!(line.refused(1, batch(kind, &transfers)), Why::Malformed, "{kind:?}");
        assert_eq!(rig.settled(), before, "{kind:?}");
        let Response::Transfers(done) = line.answer(1, batch(kind, &transfers[..BATCH_LIMIT])) else {
            panic!("a batch at the limit is answered");
        };
        assert_eq!(done.items.len(), BATCH_LIMIT, "{kind:?}: all of another ledger, so all rejected");
        let reasons = done.items.iter().map(|item| item.result);
        assert!(
            reasons.clone().all(|result| result
                == drachma_protocol::ledger::model::TransferResult::Done(Outcome::Rejected(Reason::LedgerMismatch))),
            "{kind:?}: {:?}",
            reasons.take(5).collect::<Vec<_>>()
        );
    }
    let session = register(&mut line, 1);
    let new: Vec<NewAccount> = (0..=BATCH_LIMIT as u128).map(|n| new_account(110_000 + n, 1, Flags::NONE)).collect();
    let create = |new: &[NewAccount], sequence| {
        let command = raw_command(CommandKind::CreateAccounts, new.len() as u32, to_vec(&new.to_vec()));
        let session = Some(session);
        Call::Command(drachma_protocol::message::command::ClientCommand { session, sequence, ..command })
    };
    assert_eq!(line.refused(1, create(&new, 1)), Why::Malformed);
    let Response::Created(done) = line.answer(1, create(&new[..BATCH_LIMIT], 2)) else { panic!("created") };
    assert_eq!(done.results, vec![CreateResult::Created; BATCH_LIMIT]);
    let outcomes = |count: usize| {
        let txn = |n| TxnId { id: TransferId(n as u128), first: AccountId(1) };
        Call::Operator(OperatorCall::Outcomes(OutcomesCall { ids: (0..count).map(txn).collect() }))
    };
    assert_eq!(line.refused(1, outcomes(BATCH_LIMIT + 1)), Why::Malformed);
    let Response::Operator(OperatorAnswer::Outcomes(page)) = line.answer(1, outcomes(BATCH_LIMIT)) else {
        panic!("outcomes");
    };
    assert_eq!(page.outcomes.len(), BATCH_LIMIT);
    rig.assert_unharmed();
}

#[test]
fn sessions_that_are_unknown_or_overtaxed_are_refused() {
    let mut rig = Rig::small("sessions");
    let before = rig.settled();
    let leader = rig.leader(1);
    let mut line = rig.caller(leader);
    let session = register(&mut line, 1);
    let create = |session, sequence| {
        let command = raw_command(CommandKind::CreateAccounts, 1, to_vec(&vec![new_account(1, 1, Flags::NONE)]));
        Call::Command(drachma_protocol::message::command::ClientCommand { session, sequence, ..command })
    };
    let stranger = Session { id: SessionId(1), ..session };
    let earlier = Session { registered: drachma_protocol::ids::Slot(0), ..session };
    for unknown in [None, Some(stranger), Some(earlier)] {
        assert_eq!(line.refused(1, create(unknown, 1)), Why::UnknownSession, "{unknown:?}");
    }
    // The window: a number that is 1,024 behind the highest is refused, one less is not.
    assert!(matches!(line.answer(1, create(Some(session), 5_000)), Response::Created(_)));
    assert_eq!(line.refused(1, create(Some(session), 5_000 - 1024)), Why::SessionWindow);
    assert!(matches!(line.answer(1, create(Some(session), 5_000 - 1023)), Response::Created(_)));
    assert_eq!(rig.settled()[&G2], before[&G2]);
    let moved = Epoch(u64::MAX);
    let read = |account| {
        Call::Read(drachma_protocol::message::client::ReadCall {
            account: AccountId(account),
            deadline: drachma_protocol::time::Span::from_millis(5_000),
            epoch: moved,
        })
    };
    assert_eq!(line.refused(1, read(1001)), Why::Moved, "an account of g2");
    rig.assert_unharmed();
}
