//! Turns and timers of a running actor.

use std::collections::BTreeMap;
use std::sync::mpsc;
use std::time::Duration;

use actix::Recipient;
use drachma_protocol::ids::{DirectoryId, GroupId, NodeId};
use drachma_protocol::log::record::Recovered;
use drachma_protocol::role::{Effect, Effects, Input, Token};

use super::*;
use crate::clock::Clock;
use crate::counters::Counters;
use crate::group::{self, GroupPlan};
use crate::mailbox::{GatewayMailbox, Mailbox, Replies, Roster};
use crate::testing::{Builds, CLUSTER, TestLog, acts, at};
use crate::transport::Identity;

const GROUP: GroupId = GroupId(1);

struct Nobody;

impl Actor for Nobody {
    type Context = Context<Self>;
}

impl Handler<Replies> for Nobody {
    type Result = ();
    fn handle(&mut self, _: Replies, _: &mut Context<Self>) {}
}

// Starts a group whose replica does what `act` says, and begins.
fn begin<A>(act: A) -> (Mailbox, Vec<Recipient<Halt>>)
where
    A: FnMut(Time, Input, &mut Effects, &mut Option<Time>) + Clone + Send + Sync + 'static,
{
    let roster = Roster::default();
    let (node, directory) = (NodeId(1), DirectoryId(1));
    let started = group::start(GroupPlan {
        group: GROUP,
        recovered: Recovered::default(),
        ledger: None,
        factory: Arc::new(Builds(move |_| at(RoleKind::Replica, acts(act.clone())))),
        identity: Identity { cluster: CLUSTER, node, directory, nodes: [node].into() },
        nodes: Vec::new(),
        link_bytes: 0,
        seed: 1,
        clock: Clock::start(),
        roster: roster.clone(),
        log: TestLog::new(),
        counters: Arc::new(Counters::default()),
    });
    let gateway = GatewayMailbox::new(Nobody.start().recipient(), Arc::new(Gauge::default()));
    let replica = started.mailboxes[0].clone();
    roster.fill(BTreeMap::from([(GROUP, started.mailboxes)]), gateway);
    started.begin.send(()).unwrap();
    (replica, started.halts)
}

fn in_system<T>(test: impl Future<Output = T>) -> T {
    actix_rt::System::new().block_on(async { tokio::time::timeout(Duration::from_secs(20), test).await.unwrap() })
}

async fn hear<T>(seen: &mpsc::Receiver<T>) -> T {
    loop {
        if let Ok(heard) = seen.try_recv() {
            return heard;
        }
        tokio::task::yield_now().await;
    }
}

#[test]
fn a_turn_ends_behind_everything_that_has_arrived() {
    in_system(async {
        let (tell, seen) = mpsc::channel();
        let (replica, _) = begin(move |_, input, _, _| {
            let word = match input {
                Input::Persisted(token) => token.0,
                Input::Turn => 0,
                _ => panic!("nothing else was sent"),
            };
            tell.send(word).unwrap();
        });
        assert_eq!(hear(&seen).await, 0, "the first turn");
        for number in [1, 3, 5] {
            replica.deliver(vec![Input::Persisted(Token(number)), Input::Persisted(Token(number + 1))], 0);
        }
        for expected in [1, 2, 3, 4, 5, 6, 0] {
            assert_eq!(hear(&seen).await, expected);
        }
        replica.deliver(vec![Input::Persisted(Token(7))], 0);
        assert_eq!((hear(&seen).await, hear(&seen).await), (7, 0), "and a turn for the next");
    });
}

#[test]
fn slices_of_work_let_others_pass() {
    in_system(async {
        let (tell, seen) = mpsc::channel();
        let mut slices = 0;
        let (replica, _) = begin(move |_, input, effects, _| match input {
            Input::Turn if slices < 1_000_000 => {
                slices += 1;
                effects.push(Effect::Again);
            }
            Input::Persisted(_) => {
                tell.send(slices).unwrap();
                slices = 1_000_000;
            }
            _ => {}
        });
        // Without a pause between slices this task would not run before the last.
        for _ in 0..3 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        replica.deliver(vec![Input::Persisted(Token(0))], 0);
        let done = hear(&seen).await;
        assert!(done > 0 && done < 1_000_000, "{done} slices");
    });
}

#[test]
fn the_timer_is_set_anew_when_the_deadline_comes_earlier() {
    in_system(async {
        let (tell, seen) = mpsc::channel();
        let (replica, _) = begin(move |now, input, _, deadline| match input {
            Input::Turn if deadline.is_none() => *deadline = Some(now + Span::from_millis(3_600_000)),
            Input::Persisted(_) => *deadline = Some(now + Span::from_millis(2)),
            Input::Timer => {
                tell.send((now, deadline.unwrap())).unwrap();
                *deadline = Some(now + Span::from_millis(3_600_000));
            }
            _ => {}
        });
        for _ in 0..3 {
            replica.deliver(vec![Input::Persisted(Token(0))], 0);
            let (now, deadline) = hear(&seen).await;
            assert!(now >= deadline);
        }
    });
}

#[test]
fn the_timer_does_not_fire_before_a_deadline_that_moved_away() {
    in_system(async {
        let (tell, seen) = mpsc::channel();
        let mut moved = 0;
        let (replica, _) = begin(move |now, input, _, deadline| match input {
            Input::Persisted(_) => {
                moved += 1;
                *deadline = Some(now + Span::from_millis(5 * moved));
            }
            Input::Timer => {
                tell.send((now, deadline.take().unwrap())).unwrap();
            }
            _ => {}
        });
        for _ in 0..4 {
            replica.deliver(vec![Input::Persisted(Token(0))], 0);
        }
        let (now, deadline) = hear(&seen).await;
        assert!(now >= deadline, "{now:?} {deadline:?}");
    });
}

#[test]
fn what_was_halted_takes_nothing_more() {
    in_system(async {
        let (tell, seen) = mpsc::channel();
        let (replica, halts) = begin(move |_, input, _, _| {
            if let Input::Persisted(token) = input {
                tell.send(token.0).unwrap();
            }
        });
        replica.deliver(vec![Input::Persisted(Token(1))], 0);
        for halt in halts {
            halt.send(Halt).await.unwrap();
        }
        replica.deliver(vec![Input::Persisted(Token(2))], 0);
        for _ in 0..100 {
            tokio::task::yield_now().await;
        }
        assert_eq!(seen.try_iter().collect::<Vec<_>>(), [1]);
    });
}
