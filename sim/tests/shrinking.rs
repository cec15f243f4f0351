//! Known bugs are found, and made small: at most a tenth of the events of the run that found them.
#![cfg(feature = "planted")]

use std::sync::atomic::AtomicBool;
use std::time::Duration;

use drachma_protocol::ids::GroupId;
use drachma_protocol::ledger::{Genesis, Ledger};
use drachma_protocol::message::client::{Request, Response, TransfersDone};
use drachma_protocol::message::txn::{Vote, VoteKind};
use drachma_protocol::message::{Message, TxnMessage};
use drachma_protocol::planted::{Bug, plant};
use drachma_protocol::role::{Address, Effect, Effects, Input, Role, RoleKind};
use drachma_protocol::time::Time;
use drachma_sim::faults::Swarm;
use drachma_sim::node::{Assembly, Birth, Hosted};
use drachma_sim::plan::Plan;
use drachma_sim::roles::{REAL, RealRoles};
use drachma_sim::run::Simulation;
use drachma_sim::shrink::{Limits, shrink};
use drachma_sim::trace::Keep;

/// Bugs of the build, planted by their names.
const PLANTED: &[&str] =
    &["accepted-before-sync", "half-is-quorum", "log-time-back", "same-attempt", "resolved-twice", "never-resolved"];

/// Bugs that are made here, from the real roles.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Mutant {
    /// A node that starts does not know the last entry that it had accepted.
    LastEntryForgotten,
    /// A coordinator never tells the participants what was decided.
    DecisionKept,
    /// A participant says yes, whatever its vote is.
    AlwaysYes,
    /// A node that starts does not know what it had promised beyond what it accepted.
    PromiseForgotten,
    /// A client whose transfer was rejected is told that it is committed.
    RejectionHidden,
}

struct Mutants {
    real: RealRoles,
    mutant: Mutant,
}

/// A role whose effects are tampered with.
struct Tampered {
    role: Box<dyn Hosted>,
    me: Address,
    mutant: Mutant,
}

impl Role for Tampered {
    fn step(&mut self, now: Time, input: Input, effects: &mut Effects) {
        let mut real = Effects::new(self.me);
        self.role.step(now, input, &mut real);
        while let Some(effect) = real.pop() {
            match (&effect, self.mutant) {
                (Effect::Send { message: Message::Txn(TxnMessage::Resolve(_)), .. }, Mutant::DecisionKept) => {}
                (Effect::Send { to, message: Message::Txn(TxnMessage::Vote(vote)) }, Mutant::AlwaysYes) => {
                    let vote = Vote { vote: VoteKind::Yes, ..vote.clone() };
                    effects.push(Effect::Send { to: *to, message: Message::Txn(TxnMessage::Vote(vote)) });
                }
                (Effect::Reply { to, response: Response::Transfers(_) }, Mutant::RejectionHidden) => {
                    effects.reply(*to, Response::Transfers(TransfersDone { items: Vec::new() }));
                }
                _ => effects.push(effect),
            }
        }
    }

    fn deadline(&self) -> Option<Time> {
        self.role.deadline()
    }
}

impl Hosted for Tampered {
    fn ledger(&self) -> Option<&Ledger> {
        self.role.ledger()
    }
}

impl Assembly for Mutants {
    fn start(&self, mut birth: Birth) -> Vec<(RoleKind, Box<dyn Hosted>)> {
        let mutant = self.mutant;
        if mutant == Mutant::LastEntryForgotten {
            birth.recovered.tail.pop();
        }
        if mutant == Mutant::PromiseForgotten {
            birth.recovered.promise = birth.recovered.accepted;
        }
        let (node, group) = (birth.node, birth.group);
        let tamper = |(kind, role)| {
            let tampered = Tampered { role, me: Address { node, group, role: kind }, mutant };
            (kind, Box::new(tampered) as Box<dyn Hosted>)
        };
        self.real.start(birth).into_iter().map(tamper).collect()
    }

    fn genesis(&self, group: GroupId) -> Option<Genesis> {
        self.real.genesis(group)
    }

    fn takes(&self, request: &Request) -> RoleKind {
        self.real.takes(request)
    }
}

/// Finds a failing seed, shrinks it, and returns how many events are left of how many.
fn find_and_shrink(name: &str, simulation: &Simulation<'_>) -> (u64, u64) {
    let never = AtomicBool::new(false);
    let found = (0..2000).map(Plan::of).find_map(|plan| {
        let outcome = simulation.run_plan(&plan, Keep::NOTHING, u64::MAX);
        outcome.violation.is_some().then_some((plan, outcome))
    });
    let Some((plan, outcome)) = found else { panic!("{name} was not found in 2000 seeds") };
    // Bounded by runs and not by time, so that the result does not depend on the machine.
    let limits = Limits { time: Duration::from_secs(3600), runs: 600 };
    let Some(shrunk) = shrink(simulation, &plan, &outcome, limits, &never) else { panic!("{name}: nothing to shrink") };
    let again = simulation.run_plan(&shrunk.plan, Keep::NOTHING, u64::MAX);
    let finding =
        |outcome: &drachma_sim::world::Outcome| outcome.violation.as_ref().map(|found| (found.checker, found.class));
    assert_eq!(finding(&again), finding(&outcome), "{name}: {}", shrunk.plan);
    println!(
        "{name}: {:?}, {} events of {} after {} runs: {}",
        finding(&again),
        shrunk.events,
        shrunk.before,
        shrunk.runs,
        shrunk.plan
    );
    (shrunk.events, shrunk.before)
}

// One test for all, because a bug is planted in the whole process.
#[test]
fn a_shrunk_failure_has_at_most_a_tenth_of_the_events() {
    let mut results = Vec::new();
    for name in PLANTED {
        let Some(bug) = Bug::from_name(name) else { panic!("there is no bug {name}") };
        plant(Some(bug));
        results.push((*name, find_and_shrink(name, &REAL)));
        plant(None);
    }
    for (name, mutant) in [
        ("last-entry-forgotten", Mutant::LastEntryForgotten),
        ("decision-kept", Mutant::DecisionKept),
        ("always-yes", Mutant::AlwaysYes),
        ("promise-forgotten", Mutant::PromiseForgotten),
        ("rejection-hidden", Mutant::RejectionHidden),
    ] {
        let assembly = |swarm: &Swarm| -> Box<dyn Assembly> {
            Box::new(Mutants { real: RealRoles::new(swarm.shape.clone()), mutant })
        };
        results.push((name, find_and_shrink(name, &Simulation { assembly: &assembly, ..REAL })));
    }
    let small = results.iter().filter(|(_, (events, before))| events * 10 <= *before).count();
    assert!(small >= 5, "only {small} are a tenth or less: {results:?}");
}
