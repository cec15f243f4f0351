//! The world with roles of a few lines: what it promises to every role.

use std::cell::RefCell;
use std::rc::Rc;

use drachma_protocol::ids::{Ballot, GroupId, ReplicaId, Slot};
use drachma_protocol::ledger::Genesis;
use drachma_protocol::log::record::{Record, Recovered};
use drachma_protocol::message::client::Request;
use drachma_protocol::message::paxos::FetchChosen;
use drachma_protocol::message::{Message, PaxosMessage};
use drachma_protocol::role::{Effect, Role, RoleKind, Token};
use drachma_protocol::time::{Span, Time};

use super::*;
use crate::clock::Drift;
use crate::coverage::Kind;
use crate::faults::{Deed, Fall, FaultKind};
use crate::network::NetworkOptions;
use crate::node::{Birth, Hosted};

/// What a fake role does with its inputs; `diary` is shared by all of a test.
type Script = Rc<dyn Fn(&mut Fake, Time, Input, &mut Effects)>;
type Diary = Rc<RefCell<Vec<String>>>;

struct Fake {
    me: Address,
    recovered: Recovered,
    alarm: Option<Time>,
    last: u64,
    diary: Diary,
    script: Script,
}

impl Fake {
    fn note(&self, text: String) {
        self.diary.borrow_mut().push(text);
    }

    fn persist(&mut self, effects: &mut Effects) {
        self.last += 1;
        let ballot = Ballot { round: self.recovered.promise.round + self.last, replica: ReplicaId(1) };
        effects.push(Effect::Persist { token: Token(self.last), records: vec![Record::Promise(ballot)] });
    }
}

impl Role for Fake {
    fn step(&mut self, now: Time, input: Input, effects: &mut Effects) {
        let script = Rc::clone(&self.script);
        script(self, now, input, effects);
    }

    fn deadline(&self) -> Option<Time> {
        self.alarm
    }
}

impl Hosted for Fake {}

struct Fakes {
    diary: Diary,
    alarm: Option<Time>,
    script: Script,
}

impl Fakes {
    fn new(alarm: Option<Time>, script: impl Fn(&mut Fake, Time, Input, &mut Effects) + 'static) -> Fakes {
        Fakes { diary: Diary::default(), alarm, script: Rc::new(script) }
    }
}

impl Assembly for Fakes {
    fn start(&self, birth: Birth) -> Vec<(RoleKind, Box<dyn Hosted>)> {
        let Birth { node, group, recovered, .. } = birth;
        let role = RoleKind::Replica;
        let me = Address { node, group, role };
        let (diary, script) = (Rc::clone(&self.diary), Rc::clone(&self.script));
        vec![(role, Box::new(Fake { me, recovered, alarm: self.alarm, last: 0, diary, script }))]
    }

    fn genesis(&self, _group: GroupId) -> Option<Genesis> {
        None
    }

    fn takes(&self, _request: &Request) -> RoleKind {
        RoleKind::Replica
    }
}

/// A calm run of one group on three nodes, without clients' work.
fn calm() -> Swarm {
    let mut swarm = Swarm::draw(&mut Rng::new(1));
    swarm.shape = crate::shape::Shape::draw(&mut Rng::new(2), 1);
    swarm.kinds.clear();
    swarm.client_count = 0;
    (swarm.network, swarm.drift) = (NetworkOptions::calm(300), Drift::None);
    (swarm.quorum_only, swarm.stranger, swarm.moves) = (false, false, None);
    (swarm.safety, swarm.disk.mean_sync, swarm.disk.slow) = (1_000_000, 300, 0);
    swarm
}

fn run(swarm: &Swarm, fakes: &Fakes, seed: u64) -> (Outcome, Vec<String>) {
    let outcome = World::new(swarm, fakes, Checkers::none(), &mut Rng::new(seed), 50).run();
    let diary = fakes.diary.borrow().clone();
    (outcome, diary)
}

fn ping(to: NodeId, count: u64, effects: &mut Effects) {
    let message = PaxosMessage::FetchChosen(FetchChosen { from: Slot(count) });
    effects.send_paxos(to, RoleKind::Replica, message);
}

/// n1 and n2 throw a counter back and forth.
fn ping_pong() -> Fakes {
    Fakes::new(Some(Time(1000)), |fake, now, input, effects| match input {
        Input::Timer => {
            fake.alarm = None;
            if fake.me.node == NodeId(1) {
                ping(NodeId(2), 1, effects);
            }
        }
        Input::Message { from, message: Message::Paxos(PaxosMessage::FetchChosen(ball)) } => {
            fake.note(format!("{} {} {}", fake.me.node, ball.from, now.0));
            ping(from.node, ball.from.0 + 1, effects);
        }
        _ => {}
    })
}

#[test]
fn what_is_sent_arrives_later_in_alternation() {
    let (outcome, diary) = run(&calm(), &ping_pong(), 5);
    assert_eq!(outcome.violation, None);
    assert!(diary.len() > 10, "{}", diary.len());
    let expected = |index: usize| format!("n{} {} ", 2 - index % 2, index + 1);
    assert!(diary.iter().enumerate().all(|(index, line)| line.starts_with(&expected(index))), "{diary:?}");
}

#[test]
fn two_runs_of_a_seed_are_equal_and_two_seeds_are_not() {
    let hash = |seed| run(&calm(), &ping_pong(), seed).0.hash;
    assert_eq!(hash(5), hash(5));
    assert_ne!(hash(5), hash(6));
}

#[test]
fn a_timer_comes_at_its_time_and_a_turn_after_everything() {
    let fakes = Fakes::new(Some(Time(500)), |fake, now, input, effects| match input {
        Input::Timer => {
            fake.note(format!("timer {}", now.0));
            fake.alarm = (now < Time(2_000)).then_some(now + Span(700));
            effects.push(Effect::Again);
        }
        Input::Turn => fake.note("turn".to_owned()),
        _ => {}
    });
    let mut swarm = calm();
    swarm.shape.groups[0].1.truncate(1);
    let (_, diary) = run(&swarm, &fakes, 1);
    // One at the start; after each timer one at once, and one because more was to be done.
    let timers: Vec<&String> = diary.iter().filter(|line| line.starts_with("timer")).collect();
    assert_eq!(timers, ["timer 500", "timer 1200", "timer 1900", "timer 2600"]);
    assert_eq!(diary.iter().filter(|line| *line == "turn").count(), 1 + 2 * 4);
}

/// Persists at the first turn, sends when told that it is durable, and tells what it found when it started.
fn persister() -> Fakes {
    Fakes::new(None, |fake, _, input, effects| match input {
        Input::Turn if fake.last == 0 => {
            fake.note(format!("{} found {}", fake.me.node, fake.recovered.promise.round));
            fake.persist(effects);
        }
        Input::Persisted(token) => fake.note(format!("{} persisted {}", fake.me.node, token.0)),
        _ => {}
    })
}

fn one_node() -> Swarm {
    let mut swarm = calm();
    swarm.shape.groups[0].1.truncate(1);
    swarm
}

/// Runs `persister` on one node that goes down at this point of its first sync.
fn crash_at(point: Point, crash: Crash, seed: u64) -> Vec<String> {
    let (swarm, fakes) = (one_node(), persister());
    let mut world = World::new(&swarm, &fakes, Checkers::none(), &mut Rng::new(seed), 0);
    world.trap = Some(Trap { node: 0, anyone: false, point, skip: 0, crash: Some(crash), length: 10_000 });
    world.run();
    fakes.diary.take()
}

#[test]
fn a_role_is_told_when_its_records_are_durable() {
    let (outcome, diary) = run(&one_node(), &persister(), 1);
    assert_eq!(outcome.violation, None);
    assert_eq!(diary, ["n1 found 0", "n1 persisted 1"]);
}

#[test]
fn before_the_sync_ends_records_may_be_lost_and_afterwards_not() {
    let power_loss = Crash::PowerLoss { torn: 0 };
    let lost = (0..50).filter(|seed| crash_at(Point::BeforeSync, power_loss, *seed)[1] == "n1 found 0").count();
    assert!((5..45).contains(&lost), "{lost} of 50 lost their record");
    for seed in 0..50 {
        assert_eq!(crash_at(Point::AfterSync, power_loss, seed), ["n1 found 0", "n1 found 1", "n1 persisted 1"]);
    }
}

#[test]
fn a_crash_in_the_middle_of_effects_leaves_the_rest_undone() {
    let diary = crash_at(Point::Effects(1), Crash::Kill, 1);
    assert_eq!(diary, ["n1 found 0", "n1 found 0", "n1 persisted 1"], "the record was never written");
    let diary = crash_at(Point::AfterPersisted, Crash::Kill, 1);
    assert_eq!(diary, ["n1 found 0", "n1 persisted 1", "n1 found 1", "n1 persisted 1"]);
}

#[test]
fn a_crash_before_a_deed_leaves_it_undone_and_one_after_it_does_not() {
    let lost = crash_at(Point::Before(Deed::Append), Crash::Kill, 1);
    assert_eq!(lost, ["n1 found 0", "n1 found 0", "n1 persisted 1"]);
    // What was appended is on its way to the page cache, and a killed process has written all of it or nothing.
    let kept =
        (0..50).filter(|seed| crash_at(Point::After(Deed::Append), Crash::Kill, *seed)[1] == "n1 found 1").count();
    assert!((5..50).contains(&kept), "{kept} of 50 found their record");
}

#[test]
fn a_pause_at_a_point_leaves_nothing_undone_and_ends() {
    let (swarm, fakes) = (one_node(), persister());
    let mut world = World::new(&swarm, &fakes, Checkers::none(), &mut Rng::new(1), 0);
    let point = Point::Before(Deed::Append);
    world.trap = Some(Trap { node: 0, anyone: false, point, skip: 0, crash: None, length: 1_000_000 });
    world.start(0);
    until(&mut world, 900_000);
    assert_eq!(*fakes.diary.borrow(), ["n1 found 0"]);
    until(&mut world, 1_100_000);
    assert_eq!(*fakes.diary.borrow(), ["n1 found 0", "n1 persisted 1"]);
}

/// Lets the world go on until a moment.
fn until(world: &mut World<'_>, end: u64) {
    while world.queue.next_at().is_some_and(|at| at <= end) {
        let Some((at, event)) = world.queue.pop() else { return };
        world.now = at;
        world.happen(event);
    }
    world.now = end;
}

/// Tells of a timer each millisecond of its own clock.
fn clock() -> Fakes {
    Fakes::new(Some(Time(0)), |fake, now, input, _| {
        if let Input::Timer = input {
            fake.note(now.0.to_string());
            fake.alarm = Some(now + Span(1_000));
        }
    })
}

#[test]
fn a_restarted_node_begins_at_time_zero() {
    let (swarm, fakes) = (one_node(), clock());
    let mut world = World::new(&swarm, &fakes, Checkers::none(), &mut Rng::new(1), 0);
    world.start(0);
    until(&mut world, 2_500);
    world.crash(0, Crash::Kill, 1_000);
    until(&mut world, 5_000);
    assert_eq!(*fakes.diary.borrow(), ["1", "1001", "2001", "1", "1001"]);
}

#[test]
fn a_crash_loop_ends_with_its_last_fall() {
    let (swarm, fakes) = (one_node(), clock());
    let mut world = World::new(&swarm, &fakes, Checkers::none(), &mut Rng::new(1), 0);
    world.start(0);
    until(&mut world, 2_500);
    let fall = Fall { up: 1_500, crash: Crash::Kill, down: 1_000 };
    world.relapse(0, vec![fall, fall]);
    until(&mut world, 8_500);
    assert_eq!(*fakes.diary.borrow(), ["1", "1001", "2001", "1", "1001", "1", "1001", "2001"]);
}

#[test]
fn a_paused_node_stands_still_and_its_clock_does_not() {
    let (swarm, fakes) = (one_node(), clock());
    let mut world = World::new(&swarm, &fakes, Checkers::none(), &mut Rng::new(1), 0);
    world.start(0);
    until(&mut world, 1_500);
    world.pause(0, 3_000);
    until(&mut world, 6_000);
    assert_eq!(*fakes.diary.borrow(), ["1", "1001", "4501", "5501"]);
}

#[test]
fn a_clock_that_goes_twice_as_fast_or_jumps_brings_timers_sooner() {
    let (swarm, fakes) = (one_node(), clock());
    let mut world = World::new(&swarm, &fakes, Checkers::none(), &mut Rng::new(1), 0);
    world.start(0);
    until(&mut world, 500);
    world.nodes[0].clocks.set_rate(500, 2_000_000);
    world.arm_all(0);
    until(&mut world, 800);
    world.nodes[0].clocks.jump(800, 3_600_000_000);
    world.arm_all(0);
    until(&mut world, 1_500);
    let told: Vec<u64> = fakes.diary.borrow().iter().map(|line| line.parse().unwrap()).collect();
    assert_eq!(told, [1, 1_002, 3_600_001_102, 3_600_002_102]);
}

#[test]
fn a_slow_node_does_one_thing_after_the_other() {
    let (swarm, fakes) = (one_node(), clock());
    let mut world = World::new(&swarm, &fakes, Checkers::none(), &mut Rng::new(1), 0);
    world.nodes[0].slow = 3_000;
    world.start(0);
    until(&mut world, 20_000);
    let told: Vec<u64> = fakes.diary.borrow().iter().map(|line| line.parse().unwrap()).collect();
    assert!(told.len() < 8 && told.windows(2).all(|pair| pair[1] >= pair[0] + 3_000), "{told:?}");
}

#[test]
fn damaged_frames_are_refused_and_connections_go_on() {
    let mut swarm = calm();
    (swarm.network.corrupt, swarm.network.truncate) = (5_000, 5_000);
    let (mut refused, mut cut) = (0, 0);
    for seed in 0..20 {
        let fakes = Fakes::new(Some(Time(0)), |fake, now, input, effects| {
            if let Input::Timer = input {
                ping(NodeId(fake.me.node.0 % 3 + 1), now.0, effects);
                fake.alarm = Some(now + Span(2_000));
            }
        });
        let (outcome, _) = run(&swarm, &fakes, seed);
        assert_eq!(outcome.violation, None, "seed {seed}");
        refused += outcome.coverage.count(Kind::Wire, "Corrupted");
        cut += outcome.coverage.count(Kind::Wire, "Truncated");
    }
    assert!(refused > 100 && cut > 100, "{refused} refused, {cut} cut short");
}

#[test]
fn faults_come_and_go_and_the_end_finds_every_node_up_whose_disk_can_be_used() {
    let mut swarm = calm();
    swarm.kinds = FaultKind::ALL.to_vec();
    (swarm.mean_gap, swarm.mean_length, swarm.safety) = (50_000, 40_000, 5_000_000);
    for seed in 0..20 {
        let fakes = ping_pong();
        let mut world = World::new(&swarm, &fakes, Checkers::none(), &mut Rng::new(seed), 0);
        for node in 0..world.nodes.len() {
            world.start(node);
        }
        world.at(swarm.safety, Event::Heal);
        world.schedule_fault();
        until(&mut world, swarm.safety + 1_000_000);
        assert!(world.nodes.iter().all(|node| node.lost || (node.is_up() && !node.paused)), "seed {seed}");
        let happened = world.coverage.iter().filter(|(kind, _, count)| *kind == Kind::Fault && *count > 0).count();
        assert!(happened > 8, "seed {seed}: {}", world.coverage);
    }
}

#[test]
fn what_roles_of_a_node_say_to_each_other_stays_on_it() {
    let fakes = Fakes::new(None, |fake, _, input, effects| {
        if let (Input::Turn, NodeId(1)) = (input, fake.me.node) {
            let message = drachma_protocol::message::LocalMessage::Propose(Vec::new());
            effects.send(Address { node: NodeId(2), ..fake.me }, Message::Local(message));
        }
    });
    let (outcome, _) = run(&calm(), &fakes, 1);
    assert_eq!(outcome.violation.map(|violation| violation.checker), Some("wire"));
}
