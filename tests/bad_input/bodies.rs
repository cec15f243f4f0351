//! Bodies that are not what they should be, in frames that are: every kind of call, on a cluster that lives.
//!
//! A request that cannot be read ends the connection with `Malformed`. A command that can, with a body that cannot, is
//! chosen all the same, and is refused by every replica alike.

use drachma_protocol::ids::{AccountId, Epoch, GroupId, Session, SessionId, TransferId, TxnId};
use drachma_protocol::ledger::model::{BATCH_LIMIT, Flags, NewAccount, TransferResult};
use drachma_protocol::message::client::{Call, FenceCall, MapCall, ReadCall, Request, Response, Why};
use drachma_protocol::message::command::{ClientCommand, CommandKind};
use drachma_protocol::message::hello::Refusal;
use drachma_protocol::message::operator::{AccountsCall, Nothing, OperatorCall, OutcomesCall, PageCall};
use drachma_protocol::rng::Rng;
use drachma_protocol::time::Span;
use drachma_protocol::wire::codec::to_vec;
use drachma_protocol::wire::frame::Kind;

use crate::rig::{Heard, Line, Rig, raw_command, raw_frame, transfer};

const G1: GroupId = GroupId(1);

/// One of every call, none of which changes anything.
fn every_call(deadline: Span) -> Vec<Call> {
    let txn = TxnId { id: TransferId(u128::MAX), first: AccountId(199_999) };
    let page = |from, limit| PageCall { from, limit };
    let accounts = |from| AccountsCall { from, limit: 7, changed: false, reserved: true };
    let nothing = || Nothing {};
    let operator = [
        OperatorCall::LeaderStatus(nothing()),
        OperatorCall::ReplicaStatus(nothing()),
        OperatorCall::NodeStatus(nothing()),
        OperatorCall::Accounts(accounts(0)),
        OperatorCall::Accounts(accounts(u64::MAX)),
        OperatorCall::Posted(page(0, u32::MAX)),
        OperatorCall::Posted(page(u64::MAX, u32::MAX)),
        OperatorCall::PostedDigest(page(u64::MAX, 3)),
        OperatorCall::Log(page(0, u32::MAX)),
        OperatorCall::Log(page(u64::MAX, u32::MAX)),
        OperatorCall::Log(page(1, 0)),
        OperatorCall::Pending(nothing()),
        OperatorCall::Totals(nothing()),
        OperatorCall::Outcomes(OutcomesCall { ids: vec![txn; 3] }),
        OperatorCall::Performance(nothing()),
    ];
    let with = |kind, count, body| Call::Command(ClientCommand { deadline, ..raw_command(kind, count, body) });
    let no_account = to_vec(&vec![transfer(u128::MAX, 199_999, 199_998, 1)]);
    let new = vec![NewAccount { id: AccountId(1), ledger: 9, code: 9, flags: Flags::NONE }];
    let mut calls = vec![
        Call::Read(ReadCall { account: AccountId(1), deadline, epoch: Epoch(1) }),
        Call::Read(ReadCall { account: AccountId(u128::MAX), deadline, epoch: Epoch(u64::MAX) }),
        Call::Fence(FenceCall { txn: TxnId { first: AccountId(u128::MAX), ..txn }, deadline }),
        Call::Fence(FenceCall { txn: TxnId { first: AccountId(1001), ..txn }, deadline }),
        Call::Lookup(FenceCall { txn, deadline }),
        Call::Map(MapCall { epoch: Epoch(u64::MAX) }),
        with(CommandKind::Transfers, 1, no_account.clone()),
        with(CommandKind::Transact, 1, no_account),
        with(CommandKind::CreateAccounts, 1, to_vec(&new)),
    ];
    calls.extend(operator.map(Call::Operator));
    calls
}

#[test]
fn every_call_to_every_group_with_every_deadline_is_answered() {
    let mut rig = Rig::small("calls");
    for node in rig.nodes() {
        let mut line = rig.caller(node);
        for group in [0, 1, 2, 3, u16::MAX] {
            for deadline in [0, 1, 5_000_000, u64::MAX] {
                for call in every_call(Span(deadline)) {
                    let response = line.answer(group, call.clone());
                    let here = matches!(group, 1 | 2);
                    let own = matches!(
                        &call,
                        Call::Map(_) | Call::Operator(OperatorCall::NodeStatus(_) | OperatorCall::Performance(_))
                    );
                    if !here && !own {
                        assert_eq!(why(&response), Some(Why::WrongNode), "g{group} {call:?}: {response:?}");
                    }
                }
            }
        }
    }
    rig.assert_unharmed();
}

#[test]
fn a_deadline_of_zero_is_over_at_once() {
    let mut rig = Rig::small("deadline");
    let leader = rig.leader(1);
    let mut line = rig.caller(leader);
    let command = |kind, body| Call::Command(ClientCommand { deadline: Span(0), ..raw_command(kind, 1, body) });
    let (local, across) = (to_vec(&vec![transfer(1, 1, 2, 1)]), to_vec(&vec![transfer(2, 1, 1001, 1)]));
    let before = rig.settled();
    assert_eq!(line.refused(1, command(CommandKind::Transfers, local)), Why::Expired);
    let Response::Transfers(done) = line.answer(1, command(CommandKind::Transact, across)) else { panic!("no batch") };
    assert_eq!(done.items.iter().map(|item| item.result).collect::<Vec<_>>(), [TransferResult::Unknown]);
    assert_eq!(rig.settled(), before);
    rig.assert_unharmed();
}

fn why(response: &Response) -> Option<Why> {
    match response {
        Response::Refused(refused) => Some(refused.why),
        _ => None,
    }
}

#[test]
fn a_request_that_is_cut_off_or_has_a_rest_or_an_unknown_tag_is_malformed() {
    let mut rig = Rig::small("requests");
    let before = rig.settled();
    let leader = rig.leader(1);
    let refused = |what: &str, body: &[u8]| {
        let mut line = rig.caller(leader);
        line.say(&raw_frame(Kind::Request as u16, 9, body));
        assert_eq!(line.refusal(), Refusal::Malformed, "{what}");
    };
    for call in every_call(Span(1)) {
        let body = to_vec(&Request { group: G1, call: call.clone() });
        for cut in 0..body.len() {
            refused(&format!("{call:?} cut at {cut}"), &body[..cut]);
        }
        refused(&format!("{call:?} and more"), &[&body[..], &[0]].concat());
        // `[group, [tag, value]]`: a number in a longer form, another number of fields, tags that nobody knows.
        refused("a longer form", &[&[0x92, 0xcc, 1], &body[2..]].concat());
        for (at, values) in [(0, [0x91u8, 0x93, 0x80, 0xc1]), (2, [0x91, 0x93, 0xa2, 0xc0]), (3, [0, 8, 0x7f, 0xff])] {
            for value in values {
                let mut bad = body.clone();
                bad[at] = value;
                refused(&format!("{call:?} with {value:#x} at {at}"), &bad);
            }
        }
    }
    refused("unknown operator call", &[0x92, 1, 0x92, 6, 0x92, 99, 0x90]);
    refused("a command of an unknown kind", &[0x92, 1, 0x92, 1, 0x97, 99, 0xc0, 1, 1, 1, 1, 0xc4, 0]);
    // Announces four thousand million ids in nine bytes.
    refused("an endless array", &[0x92, 1, 0x92, 6, 0x92, 10, 0x91, 0xdd, 0xff, 0xff, 0xff, 0xff, 0x92, 1, 1]);
    refused("nested arrays", &[0x91; 4_000]);
    assert_eq!(rig.settled(), before);
    rig.assert_unharmed();
}

/// Bodies that are not lists of `item`, with the count that goes with them.
fn bad_bodies(item: &[u8]) -> Vec<(&'static str, u32, Vec<u8>)> {
    let list = |head: &[u8], items: usize| [head, &item.repeat(items)].concat();
    let cut = |at: usize| list(&[0x91], 1)[..at].to_vec();
    let mut bodies = vec![
        ("no body", 0, Vec::new()),
        ("no body, counted", 1, Vec::new()),
        ("count too large", 2, list(&[0x91], 1)),
        ("count too small", 1, list(&[0x92], 2)),
        ("count of nothing", 0, list(&[0x91], 1)),
        ("count beyond everything", u32::MAX, list(&[0x91], 1)),
        ("both beyond everything", u32::MAX, list(&[0xdd, 0xff, 0xff, 0xff, 0xff], 1)),
        ("both at the limit", BATCH_LIMIT as u32, list(&[0xdc, 0x1f, 0xfe], 1)),
        ("a rest", 1, list(&[0x91], 2)),
        ("a rest of one byte", 1, [list(&[0x91], 1), vec![0]].concat()),
        ("fewer than announced", 2, list(&[0x92], 1)),
        ("a longer head", 1, list(&[0xdc, 0, 1], 1)),
        ("a map", 1, list(&[0x81], 1)),
        ("nil", 1, vec![0xc0]),
        ("never used", 1, vec![0xc1; 40]),
        ("a number", 1, vec![7]),
        ("a list of nothing", 1, vec![0x91, 0xc0]),
        ("a list of lists", 1, vec![0x91; 1000]),
        ("a list of empty lists", 1, vec![0x91, 0x90]),
    ];
    bodies.extend((1..item.len() + 1).map(|at| ("cut off", 1, cut(at))));
    // Nothing instead of an item, or of its first field: no field is optional.
    bodies.extend((1..3).map(|at| {
        let mut bad = list(&[0x91], 1);
        bad[at] = 0xc0;
        ("nil for a field", 1, bad)
    }));
    bodies
}

fn session(line: &mut Line) -> Session {
    let body = to_vec(&SessionId(0xabcd));
    match line.answer(1, Call::Command(raw_command(CommandKind::Register, 1, body))) {
        Response::Registered(session) => session,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_command_whose_body_is_not_what_the_envelope_says_is_refused_by_all_replicas_alike() {
    let mut rig = Rig::small("commands");
    let before = rig.settled();
    let leader = rig.leader(1);
    let mut line = rig.caller(leader);
    let session = session(&mut line);
    let local = to_vec(&transfer(1, 1, 2, 1));
    let across = to_vec(&transfer(1, 1, 1001, 1));
    let new = to_vec(&NewAccount { id: AccountId(150_000), ledger: 1, code: 1, flags: Flags::NONE });
    let mut unknown_flags = new.clone();
    *unknown_flags.last_mut().unwrap() = 16;
    for (kind, item) in
        [(CommandKind::Transfers, local), (CommandKind::Transact, across), (CommandKind::CreateAccounts, new)]
    {
        let mut bodies = bad_bodies(&item);
        if kind == CommandKind::CreateAccounts {
            bodies.push(("unknown flags", 1, [&[0x91], &unknown_flags[..]].concat()));
        }
        for (n, (what, count, body)) in bodies.into_iter().enumerate() {
            let command = raw_command(kind, count, body);
            let session = (kind == CommandKind::CreateAccounts).then_some(session);
            let call = Call::Command(ClientCommand { session, sequence: n as u64 + 1, ..command });
            assert_eq!(line.refused(1, call), Why::Malformed, "{kind:?}: {what}");
        }
    }
    for (what, body) in [
        ("no body", Vec::new()),
        ("a list", vec![0x91, 7]),
        ("a rest", vec![7, 7]),
        ("a longer form", vec![0xcc, 7]),
        ("cut off", vec![0xcf, 1, 2]),
    ] {
        let why = line.refused(1, Call::Command(raw_command(CommandKind::Register, 1, body)));
        assert_eq!(why, Why::Malformed, "Register: {what}");
    }
    assert_eq!(rig.settled(), before);
    rig.assert_unharmed();
}

#[test]
fn whatever_bytes_a_command_has_it_is_answered_and_the_replicas_agree() {
    const ROUNDS: u64 = 2_000;
    let mut rig = Rig::small("mutated");
    let seed = u64::from(std::process::id());
    println!("seed {seed}");
    let mut rng = Rng::new(seed);
    let leader = rig.leader(1);
    let mut line = rig.caller(leader);
    let session = session(&mut line);
    let new = |id| NewAccount { id: AccountId(id), ledger: 1, code: 1, flags: Flags::NONE };
    let good = [
        (CommandKind::Transfers, to_vec(&vec![transfer(1 << 70, 3, 4, 1), transfer(2, 5, 6, 1)])),
        (CommandKind::Transact, to_vec(&vec![transfer(3 << 70, 3, 1004, 1), transfer(4, 5, 1006, 1)])),
        (CommandKind::CreateAccounts, to_vec(&vec![new(160_000), new(1 << 80)])),
        (CommandKind::Register, to_vec(&SessionId(1 << 90))),
    ];
    // Many at once, so that bad and good ones share an entry of the log.
    for correlation in 0..ROUNDS {
        let (kind, body) = &good[rng.below(4) as usize];
        let (mut body, mut count) = (body.clone(), 2);
        for _ in 0..rng.below(3) {
            let at = rng.below(body.len() as u64) as usize;
            match rng.below(4) {
                0 => body[at] ^= 1 << rng.below(8),
                1 => body[at] = rng.next_u64() as u8,
                2 => body.truncate(at.max(1)),
                _ => count = rng.below(4) as u32,
            }
        }
        let session = (*kind == CommandKind::CreateAccounts).then_some(session);
        let command = raw_command(*kind, count, body);
        // Short: a transfer that waits for one in doubt is given up soon.
        let deadline = Span::from_millis(5_000);
        line.ask(
            correlation,
            1,
            Call::Command(ClientCommand { session, sequence: correlation + 1, deadline, ..command }),
        );
    }
    let mut open: std::collections::BTreeSet<u64> = (0..ROUNDS).collect();
    let (mut done, mut malformed) = (0, 0);
    while !open.is_empty() {
        match line.hear() {
            Heard::Answer(correlation, response) => {
                assert!(open.remove(&correlation), "{correlation} is answered twice");
                match why(&response) {
                    None => done += 1,
                    Some(Why::Malformed) => malformed += 1,
                    Some(_) => {}
                }
            }
            other => panic!("{other:?}"),
        }
    }
    println!("{done} were carried out, {malformed} malformed");
    assert!(done > 0 && malformed > 0);
    rig.assert_unharmed();
}
