//! The roles of two-phase commit as scripts: one scenario a file in `scripts/`, named as a claim, with the full trace.
//!
//! Groups g1 to g3 own the accounts 1 to 100, 101 to 200 and 201 to 300; g1 has the nodes n1 to n3, and so on. A script
//! begins with `coordinator` (of g1, on n1) or `participant` (of g2, on n4). Each command is followed by a turn, unless
//! it is `at` (the clock moves) or its mark is `+`. Forms: a transfer is `ID:DEBIT->CREDIT:AMOUNT`, a transaction
//! `ID@DEBIT`, an attempt `BALLOT#NUMBER`.

mod model;
mod parse;
mod show;

use std::collections::BTreeSet;

use crate::golden;
use crate::ids::{AccountId, Epoch, GroupId, NodeId};
use crate::placement::map::{AccountRange, Mode, ShardMap};
use crate::role::{Address, Effect, Effects, Input, Role, RoleKind, TIMERS};
use crate::routing::Routes;
use crate::time::{Span, Time};
use crate::txn::{Coordinator, Participant, TxnConfig};

use parse::Words;

/// One role under test and its surroundings.
struct Bench {
    me: Address,
    role: Box<dyn Role>,
    now: Time,
    deadline: Option<Time>,
    serve: parse::Records,
}

fn config(me: Address) -> TxnConfig {
    let groups = (1..=3).map(|g: u16| (GroupId(g), (3 * g - 2..=3 * g).map(NodeId).collect()));
    let range = |first: u128| AccountRange { first: AccountId(first), last: AccountId(first + 99) };
    let map = ShardMap {
        epoch: Epoch(1),
        mode: Mode::Range(vec![range(1), range(101), range(201)]),
        owners: vec![GroupId(1), GroupId(2), GroupId(3)],
    };
    TxnConfig { limit: 4, peer_limit: 3, ..TxnConfig::new(me, Routes::new(groups), map, 7) }
}

impl Bench {
    fn new(kind: &str) -> Bench {
        let at = |node, group, role| Address { node: NodeId(node), group: GroupId(group), role };
        let (me, role): (Address, Box<dyn Role>) = match kind {
            "coordinator" => {
                let me = at(1, 1, RoleKind::Coordinator);
                (me, Box::new(Coordinator::new(config(me))))
            }
            "participant" => {
                let me = at(4, 2, RoleKind::Participant);
                (me, Box::new(Participant::new(config(me))))
            }
            other => panic!("a script begins with `coordinator` or `participant`, not `{other}`"),
        };
        Bench { me, role, now: Time(0), deadline: None, serve: parse::Records::default() }
    }

    fn run(&mut self, turn: bool, command: &str) -> Vec<String> {
        let mut lines = Vec::new();
        let mut words = Words::new(command);
        match words.verb() {
            "at" => {
                self.now = Time(0) + Span::from_millis(words.number());
                return lines;
            }
            "record" => self.serve.coordinated.push(words.record()),
            "doubt" => self.serve.in_doubt.push(words.doubt()),
            _ => {
                let input = parse::input(self.me, command, &mut self.serve);
                self.step(input, &mut lines);
            }
        }
        words.finish_if_local();
        if turn {
            self.step(Input::Turn, &mut lines);
        }
        let deadline = self.role.deadline();
        if deadline != self.deadline {
            lines.push(show::deadline(deadline));
            self.deadline = deadline;
        }
        lines
    }

    fn step(&mut self, input: Input, lines: &mut Vec<String>) {
        let mut effects = Effects::new(self.me);
        self.role.step(self.now, input, &mut effects);
        while let Some(effect) = effects.pop() {
            // That a time has come shows in the command; the names of timers are for statistics.
            if !matches!(&effect, Effect::Trace(trace) if TIMERS.contains(&trace.event)) {
                lines.push(show::effect(&effect));
            }
        }
    }
}

fn play(name: &str) {
    let mut bench = None;
    golden::script(&format!("txn/scripts/{name}.txt"), |mark, command| match &mut bench {
        None => {
            bench = Some(Bench::new(command));
            Vec::new()
        }
        Some(bench) => bench.run(mark == '>', command),
    });
}

macro_rules! scripts {
    ($($name:ident),+ $(,)?) => {
        $(#[test] fn $name() { play(stringify!($name)); })+

        #[test]
        fn every_script_is_played() {
            let played: BTreeSet<String> = [$(stringify!($name)),+].map(str::to_owned).into();
            let found: BTreeSet<String> = golden::names("txn/scripts").into_iter().collect();
            assert_eq!(played, found);
        }
    };
}

scripts! {
    a_batch_that_does_not_fit_begins_elsewhere_each_time,
    a_begin_that_is_late_is_kept_until_its_fate_is_known,
    a_credit_account_that_nobody_owns_is_rejected_by_the_own_group,
    a_decided_record_of_one_group_is_forgotten_t5,
    a_decision_never_overtakes_its_begin_s9,
    a_deposed_coordinator_answers_and_redirects,
    a_deposed_participant_redirects,
    a_late_prepare_is_judged_by_the_ledger_s8,
    a_lost_acknowledgement_is_repeated_from_applied_state,
    a_new_participant_answers_from_state_l13,
    a_new_term_refuses_what_waited_and_numbers_on,
    a_no_of_a_participant_rejects,
    a_participant_follows_the_coordinators_leader,
    a_participant_without_a_majority_is_reported_as_unavailable,
    a_prepare_beyond_the_limit_is_dropped_and_a_resolve_never_l8,
    a_prepare_is_proposed_once_and_its_vote_told_again_l13,
    a_redirection_is_followed_at_once_but_not_for_ever,
    a_refusal_is_told_again_and_then_forgotten,
    a_rejection_is_the_first_in_the_order_of_the_transaction,
    a_request_that_comes_again_gets_the_same_answer_s16,
    a_silent_leader_is_left_for_the_next_node,
    a_transfer_commits_when_all_have_voted_yes,
    a_turn_proposes_once,
    a_void_begin_is_tried_again,
    an_abort_is_presumed_in_the_end,
    an_id_with_an_outcome_is_replayed,
    die_is_tried_again_under_its_age_after_the_abort_is_applied_s7,
    expired_and_moved_are_no_answers,
    inquiries_are_answered_by_the_table,
    lost_after_begin_and_late_the_attempt_is_aborted_t3,
    lost_after_begin_the_attempt_goes_on_t2,
    lost_after_begin_while_its_own_vote_waits,
    lost_after_its_own_refusal_the_attempt_ends_t2,
    lost_after_decide_everybody_is_told_again_t4,
    lost_before_begin_an_orphan_is_told_to_abort_t1,
    malformed_requests_are_refused,
    only_what_is_applied_is_acknowledged_s11,
    other_content_under_a_known_id_is_never_begun,
    preparing_ends_at_three_quarters_of_the_deadline,
    the_decision_that_is_applied_first_stands_s9,
    too_much_is_refused_and_what_relieves_it_is_not_l8,
    what_is_in_doubt_asks_and_never_lets_go_s10,
    an_end_that_comes_to_nothing_is_tried_again_when_it_is_due_again,
    what_is_due_is_ended_by_the_coordinator_itself,
    what_is_not_for_this_group_has_moved,
}

#[test]
fn a_large_batch_is_begun_in_slices() {
    let me = Address { node: NodeId(1), group: GroupId(1), role: RoleKind::Coordinator };
    let mut role = Coordinator::new(TxnConfig { limit: 2000, peer_limit: 2000, ..config(me) });
    let mut effects = Effects::new(me);
    let transfers: Vec<String> = (1..=1100).map(|id| format!("{id}:1->101:1")).collect();
    let request = format!("request 1 {}", transfers.join(" "));
    for command in ["serve ballot=5", request.as_str()] {
        role.step(Time(0), parse::input(me, command, &mut parse::Records::default()), &mut effects);
    }
    let mut proposed = Vec::new();
    for _ in 0..4 {
        role.step(Time(0), Input::Turn, &mut effects);
        let (mut begins, mut again) = (0, false);
        while let Some(effect) = effects.pop() {
            begins += show::effect(&effect).matches("Begin").count();
            again |= matches!(effect, Effect::Again);
        }
        proposed.push((begins, again));
    }
    assert_eq!(proposed, [(512, true), (512, true), (76, false), (0, false)]);
}
