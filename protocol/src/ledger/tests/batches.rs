//! Bodies: what is malformed changes nothing; large ones are applied in slices.

use super::*;
use crate::ledger::model::BATCH_LIMIT;
use crate::message::client::Why;

fn raw(kind: CommandKind, count: u32, body: Vec<u8>) -> Command {
    let session = None;
    let body = body.into();
    Command::Client(ClientCommand { kind, session, sequence: 0, deadline: LONG, epoch: Epoch(1), count, body })
}

#[test]
fn a_malformed_body_is_refused_as_a_whole() {
    let good = to_vec(&(1..=9).map(|id| move_money(id, 1, 2, 1)).collect::<Vec<_>>());
    let mut cases =
        vec![(8, good.clone()), (10, good.clone()), (0, Vec::new()), (u32::MAX, vec![0xdd, 255, 255, 255, 255])];
    cases.extend((0..good.len()).map(|cut| (9, good[..cut].to_vec())));
    cases.push((9, [&good[..], &[0]].concat()));
    cases.push((0, vec![0x90, 0x90]));
    let mut world = World::new(G1);
    for (count, body) in cases {
        let before = world.ledger.totals();
        let outputs = world.one(raw(CommandKind::Transfers, count, body.clone()));
        let [Output::Client(output)] = &outputs[..] else { panic!("{outputs:?}") };
        assert_eq!(output.result, CommandResult::Refused(Why::Malformed), "{count} {body:x?}");
        let after = world.ledger.totals();
        assert_eq!((before.posted, before.ids, before.ledgers), (after.posted, after.ids, after.ledgers));
    }
    let outputs = world.one(raw(CommandKind::Transfers, 9, good));
    assert_eq!(transfers_done(&outputs[0]).map(|(items, waiting)| (items.len(), waiting)), Some((0, 0)));
}

#[test]
fn garbage_of_every_kind_is_refused() {
    let mut world = World::new(G1);
    for kind in [CommandKind::Register, CommandKind::Transfers, CommandKind::Transact, CommandKind::CreateAccounts] {
        for body in [vec![], vec![0xc1], vec![0xff; 40], vec![0x91, 0x91, 0x91]] {
            let outputs = world.one(raw(kind, 1, body));
            let [Output::Client(output)] = &outputs[..] else { panic!("{outputs:?}") };
            assert!(matches!(output.result, CommandResult::Refused(_)), "{outputs:?}");
        }
    }
    assert_eq!(world.ledger.totals().ids, 0);
}

#[test]
fn a_batch_at_the_limit_is_applied_and_one_past_it_is_refused() {
    let batch: Vec<Transfer> = (0..=BATCH_LIMIT as u128).map(|id| move_money(id, u128::MAX, 1, 1)).collect();
    let mut world = World::new(G1);
    let outputs = world.one(transfers(&batch));
    let [Output::Client(output)] = &outputs[..] else { panic!("{outputs:?}") };
    assert_eq!(output.result, CommandResult::Refused(Why::Malformed));
    let outputs = world.one(transfers(&batch[..BATCH_LIMIT]));
    assert_eq!(transfers_done(&outputs[0]).map(|(items, _)| items.len()), Some(0));
    assert_eq!(world.balance(1), 10 + BATCH_LIMIT as i128);
}

#[test]
fn a_batch_is_applied_in_slices_of_the_budget() {
    let batch: Vec<Transfer> = (0..1000).map(|id| move_money(id, u128::MAX, 1, 1)).collect();
    let mut world = World::new(G1);
    let content = Content::Commands(vec![transfers(&batch)]);
    let entry = to_vec(&Entry { format: FORMAT, time: LogTime(0), wall: 0, content });
    world.ledger.begin(Slot(1), &entry);
    let (mut outputs, mut steps, mut posted) = (Vec::new(), 1, 0);
    while !world.ledger.apply(100, &mut outputs) {
        assert!(world.ledger.is_busy() && outputs.is_empty());
        assert!(world.ledger.totals().posted - posted <= 100);
        posted = world.ledger.totals().posted;
        steps += 1;
    }
    assert!((10..=14).contains(&steps), "{steps}");
    assert_eq!((world.ledger.is_busy(), world.ledger.applied(), outputs.len()), (false, Slot(2), 1));
}

#[test]
fn an_id_twice_in_a_batch_takes_effect_once() {
    let mut world = World::new(G1);
    let outputs = world.one(transfers(&[move_money(1, 1, 2, 3), move_money(1, 1, 2, 3), move_money(1, 1, 2, 4)]));
    let (items, _) = transfers_done(&outputs[0]).expect("a batch is answered");
    let results: Vec<_> = items.iter().map(|item| (item.index, item.result, item.replayed)).collect();
    assert_eq!(results, [(1, COMMITTED, true), (2, rejected(Reason::IdConflict), false)]);
    assert_eq!(world.balance(1), 7);
}
