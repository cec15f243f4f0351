//! What a shell does with effects, and what it does not let in.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::atomic::Ordering;

use actix::{Actor, Context, Handler};
use bytes::Bytes;
use drachma_protocol::ids::{Ballot, Epoch, NodeId};
use drachma_protocol::ledger::{Genesis, Ledger, Limits};
use drachma_protocol::message::LocalMessage;
use drachma_protocol::message::command::Command;
use drachma_protocol::message::operator::Nothing;
use drachma_protocol::message::paxos::{Accept, Commit};
use drachma_protocol::placement::map::{Mode, ShardMap};
use drachma_protocol::role::Effect;

use super::*;
use crate::mailbox::{GatewayMailbox, Gauge, Inbound, Mailbox, Replies};
use crate::testing::{TestLog, acts, sized};

type Seen = Arc<Mutex<Vec<String>>>;

// Stands for a sibling or the gateway: notes each message with what it holds.
struct Probe(&'static str, Seen);

impl Actor for Probe {
    type Context = Context<Self>;
}

impl Handler<Inbound> for Probe {
    type Result = ();
    fn handle(&mut self, inbound: Inbound, _: &mut Context<Self>) {
        let commands = |input: &Input| match input {
            Input::Message { message: Message::Local(LocalMessage::Propose(commands)), .. } => commands.len(),
            _ => panic!("only proposals are sent here"),
        };
        let told: Vec<usize> = inbound.inputs.iter().map(commands).collect();
        self.1.lock().unwrap().push(format!("{} {told:?}", self.0));
    }
}

impl Handler<Replies> for Probe {
    type Result = ();
    fn handle(&mut self, Replies(replies): Replies, _: &mut Context<Self>) {
        let told: Vec<u64> = replies.iter().map(|(origin, _)| origin.correlation).collect();
        self.1.lock().unwrap().push(format!("{} {told:?}", self.0));
    }
}

const GROUP: GroupId = GroupId(1);

fn me(role: RoleKind) -> Address {
    Address { node: NodeId(1), group: GROUP, role }
}

fn surround(role: RoleKind, pure: Box<dyn Role>, log: &Arc<TestLog>) -> (Shell, Seen) {
    let seen = Seen::default();
    let probe = |name| Probe(name, seen.clone()).start();
    let mailbox = |name| Mailbox::new(probe(name).recipient(), Arc::new(Gauge::default()));
    let mailboxes = ["replica", "leader", "coordinator", "participant"].map(mailbox);
    let gateway = GatewayMailbox::new(probe("gateway").recipient(), Arc::new(Gauge::default()));
    let roster = Roster::default();
    roster.fill(BTreeMap::from([(GROUP, mailboxes)]), gateway);
    let counters = Arc::new(Counters::default());
    let links = Rc::new(Links::new(NodeId(1), &[], 0, counters.clone()));
    let wiring = Wiring { clock: Clock::start(), roster, links, log: log.clone(), counters };
    (Shell::new(me(role), pure, wiring), seen)
}

fn propose(count: usize) -> LocalMessage {
    let command = Command::Forget(drachma_protocol::message::command::Forget { ended: Vec::new() });
    LocalMessage::Propose(vec![command; count])
}

fn record() -> Vec<Record> {
    vec![Record::Doubt(Nothing {})]
}

fn origin(correlation: u64) -> Origin {
    Origin { connection: 1, correlation }
}

fn in_system<T>(test: impl Future<Output = T>) -> T {
    actix_rt::System::new().block_on(test)
}

async fn settle() {
    for _ in 0..10 {
        tokio::task::yield_now().await;
    }
}

#[test]
fn one_handler_run_is_one_message_to_each_sibling_and_to_the_gateway_in_order() {
    in_system(async {
        let log = TestLog::new();
        let mut number = 0;
        let pure = acts(move |_, _, effects, _| {
            number += 1;
            effects.send_local(RoleKind::Leader, propose(number));
            effects.push(Effect::Persist { token: Token(number as u64), records: record() });
            effects.reply(origin(number as u64), sized(1));
            effects.send_local(RoleKind::Participant, propose(10 + number));
        });
        let (mut shell, seen) = surround(RoleKind::Replica, pure, &log);
        shell.take(vec![Input::Turn, Input::Turn, Input::Turn]);
        assert_eq!(log.tokens(), [1, 2, 3], "records go at once");
        settle().await;
        assert!(seen.lock().unwrap().is_empty(), "messages go at the end");
        assert!(!shell.finish());
        settle().await;
        let mut told = seen.lock().unwrap().clone();
        told.sort();
        assert_eq!(told, ["gateway [1, 2, 3]", "leader [1, 2, 3]", "participant [11, 12, 13]"]);
    });
}

#[test]
fn snapshots_do_not_wait_for_what_the_log_refuses() {
    in_system(async {
        let log = TestLog::new();
        let pure = acts(|_, _, effects, _| {
            let map = ShardMap { epoch: Epoch(1), mode: Mode::Hash(Nothing {}), owners: vec![GROUP] };
            let genesis = Genesis { group: GROUP, map, accounts: 0, initial_balance: 0, limits: Limits::default() };
            effects.push(Effect::Persist { token: Token(1), records: record() });
            effects.push(Effect::Snapshot(Ledger::new(0, &genesis).image()));
            effects.push(Effect::ReadSnapshot { slot: Slot(7), offset: 64 });
        });
        let (mut shell, _) = surround(RoleKind::Replica, pure, &log);
        log.refusals.store(1, Ordering::SeqCst);
        shell.take(vec![Input::Turn]);
        assert_eq!(log.snapshots.lock().unwrap()[..], [(GROUP, Slot(0), None), (GROUP, Slot(7), Some(64))]);
        assert!(log.tokens().is_empty());
        shell.finish();
        assert_eq!(log.tokens(), [1]);
    });
}

#[test]
fn another_turn_is_asked_for_once() {
    in_system(async {
        let mut left = 1;
        let pure = acts(move |_, input, effects, _| {
            if matches!(input, Input::Turn) && left > 0 {
                left -= 1;
                effects.push(Effect::Again);
            }
        });
        let (mut shell, _) = surround(RoleKind::Replica, pure, &TestLog::new());
        shell.turn();
        assert!(shell.finish());
        shell.turn();
        assert!(!shell.finish());
    });
}

#[test]
fn what_the_log_refuses_is_kept_and_offered_again_in_order() {
    in_system(async {
        let log = TestLog::new();
        let mut token = 0;
        let pure = acts(move |_, _, effects, _| {
            token += 1;
            effects.push(Effect::Persist { token: Token(token), records: record() });
        });
        let (mut shell, _) = surround(RoleKind::Replica, pure, &log);
        // The first append is refused, the offer beside the second, and the one at the end of the run.
        log.refusals.store(3, Ordering::SeqCst);
        shell.take(vec![Input::Turn, Input::Turn]);
        shell.finish();
        assert!(log.tokens().is_empty(), "the second may not overtake the first");
        assert!(shell.deadline().is_some(), "it comes back by itself");
        shell.timer();
        shell.finish();
        assert_eq!(log.tokens(), [1, 2]);
        assert_eq!(shell.deadline(), None);
        shell.take(vec![Input::Turn]);
        assert_eq!(log.tokens(), [1, 2, 3]);
    });
}

fn accept(node: u16, bytes: usize) -> Input {
    let entry = Bytes::from(vec![0; bytes]);
    let accept = Accept { ballot: Ballot::default(), slot: Slot(0), chosen: Slot(0), entry };
    let from = Address { node: NodeId(node), ..me(RoleKind::Leader) };
    Input::Message { from, message: Message::Paxos(PaxosMessage::Accept(accept)) }
}

fn commit(node: u16) -> Input {
    let from = Address { node: NodeId(node), ..me(RoleKind::Leader) };
    let commit = Commit { ballot: Ballot::default(), chosen: Slot(0) };
    Input::Message { from, message: Message::Paxos(PaxosMessage::Commit(commit)) }
}

#[test]
fn without_credit_entries_of_other_nodes_are_dropped_and_counted_and_nothing_else_is() {
    in_system(async {
        let log = TestLog::new();
        let taken = Arc::new(Mutex::new(0));
        let count = taken.clone();
        let pure = acts(move |_, input, _, _| *count.lock().unwrap() += i32::from(!matches!(input, Input::Turn)));
        let (mut shell, _) = surround(RoleKind::Replica, pure, &log);
        log.credit.store(LOG_RESERVE + 1_000, Ordering::SeqCst);
        shell.take(vec![accept(2, 600), accept(2, 400), accept(2, 1)]);
        assert_eq!(*taken.lock().unwrap(), 2, "what was let in since the last turn counts");
        shell.take(vec![commit(2), accept(1, 1_000_000)]);
        assert_eq!(*taken.lock().unwrap(), 4, "small things pass, and what the own leader proposes");
        shell.turn();
        shell.take(vec![accept(3, 1_001)]);
        assert_eq!(*taken.lock().unwrap(), 4);
        shell.take(vec![accept(3, 1_000)]);
        assert_eq!(*taken.lock().unwrap(), 5);
        assert_eq!(shell.wiring.counters.no_credit_dropped.get(), 2);
    });
}

#[test]
fn while_records_wait_for_the_log_no_entries_are_let_in() {
    in_system(async {
        let log = TestLog::new();
        let pure = acts(|_, input, effects, _| {
            if matches!(input, Input::Turn) {
                effects.push(Effect::Persist { token: Token(1), records: record() });
            }
        });
        let (mut shell, _) = surround(RoleKind::Replica, pure, &log);
        log.refusals.store(1, Ordering::SeqCst);
        shell.turn();
        shell.take(vec![accept(2, 10)]);
        assert_eq!(shell.wiring.counters.no_credit_dropped.get(), 1);
        shell.finish();
        shell.take(vec![accept(2, 10)]);
        assert_eq!(shell.wiring.counters.no_credit_dropped.get(), 1);
    });
}
