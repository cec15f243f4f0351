//! Phase 1: promises, and the log that they oblige the candidate to.

use std::collections::BTreeMap;

use bytes::Bytes;

use crate::ids::{Ballot, NodeId, Slot};
use crate::message::PaxosMessage;
use crate::message::command::{Content, Entry, Member};
use crate::message::local::AppliedTo;
use crate::message::paxos::{Prepare, Promise};
use crate::planted::{Bug, is_planted};
use crate::role::{Effects, RoleKind};
use crate::time::{Span, Time};
use crate::wire::codec::from_slice;

use super::{Leader, State};

/// Promises that stay away so long are asked for again.
const ASK_AGAIN: Span = Span::from_millis(50);

/// A candidate and what it was promised.
#[derive(Clone, Debug)]
pub(super) struct Candidate {
    pub(super) ballot: Ballot,
    // By node; the own replica's comes first, and with it everybody else is asked.
    promises: BTreeMap<NodeId, Pledge>,
    // How much the own replica knows to be chosen.
    chosen: Slot,
    again: Time,
    until: Time,
    // Only with a planted bug: its predecessor's word is enough.
    pub(super) appointed: bool,
}

/// A promise of which parts have arrived.
#[derive(Clone, Debug)]
pub(super) struct Pledge {
    promise: Promise,
    whole: bool,
}

impl Candidate {
    pub(super) fn next_deadline(&self) -> Time {
        self.again.min(self.until)
    }

    fn whole(&self) -> impl Iterator<Item = (&NodeId, &Promise)> {
        self.promises.iter().filter(|(_, pledge)| pledge.whole).map(|(node, pledge)| (node, &pledge.promise))
    }

    /// Adds a part and returns whether the promise is whole now. Parts that do not fit are dropped: what is missing is
    /// asked for again.
    fn add(&mut self, node: NodeId, own: NodeId, part: Promise) -> bool {
        let told = self.promises.get(&own).map_or(Slot(0), |pledge| pledge.promise.chosen);
        let first = if node == own { part.chosen } else { part.chosen.max(told) };
        let whole = part.last;
        let generation = |promise: &Promise| (promise.accepted, promise.length, promise.chosen);
        match self.promises.get_mut(&node) {
            Some(pledge) if pledge.whole => return false,
            Some(Pledge { promise, whole: done })
                if generation(promise) == generation(&part)
                    && part.start == promise.start.plus(promise.entries.len())
                    && part.start > first =>
            {
                promise.entries.extend(part.entries);
                *done = whole;
            }
            _ if part.start == first => {
                self.promises.insert(node, Pledge { promise: part, whole });
            }
            _ => return false,
        }
        whole
    }
}

/// The members that a group's first entry names; nothing if it is another entry.
fn first_members(entry: &Bytes) -> Option<Vec<Member>> {
    match from_slice::<Entry>(entry).ok()?.content {
        Content::LeaderStart(start) => start.members,
        Content::Commands(_) => None,
    }
}

/// What a won election starts from.
#[derive(Debug)]
pub(super) struct Adopted {
    pub(super) ballot: Ballot,
    // The position of the first entry; everything before is chosen and at the own replica.
    pub(super) start: Slot,
    pub(super) entries: Vec<Bytes>,
    // Who has promised, with the chosen length told.
    pub(super) followers: Vec<(NodeId, Slot)>,
    // For the very first entry of a group.
    pub(super) members: Option<Vec<Member>>,
}

impl Leader {
    /// Takes a new ballot and makes it durable at the own replica before anybody else is asked (hazard S22).
    pub(super) fn stand(&mut self, effects: &mut Effects) {
        // Nobody counts so far, but a peer may say that it has: a ballot is never used twice, so there is none left.
        let Some(round) = self.highest.round.checked_add(1) else {
            effects.trace("no_ballot_left", || format!("after {}", self.highest));
            return;
        };
        let mut ballot = Ballot { round, replica: self.me };
        if is_planted(Bug::BallotContinued) && self.highest == self.config.promise && self.highest.replica == self.me {
            ballot = self.highest;
        }
        self.highest = ballot;
        effects.note("stand", format!("with {ballot}"));
        self.state = State::Candidate(Box::new(Candidate {
            ballot,
            promises: BTreeMap::new(),
            chosen: Slot(0),
            again: self.now + ASK_AGAIN,
            until: self.now + Span(self.config.leader_timeout.0 * 2),
            appointed: false,
        }));
        self.send_prepare(self.config.node, effects);
    }

    fn send_prepare(&self, node: NodeId, effects: &mut Effects) {
        let State::Candidate(candidate) = &self.state else { return };
        let own = candidate.promises.get(&self.config.node).filter(|pledge| pledge.whole);
        let (accepted, length, chosen) = match own {
            Some(Pledge { promise, .. }) => (promise.accepted, promise.length, promise.chosen),
            None => (Ballot::default(), Slot(0), Slot(0)),
        };
        let directory = self.config.directory;
        let prepare = Prepare { ballot: candidate.ballot, accepted, length, chosen, directory };
        effects.send_paxos(node, RoleKind::Replica, PaxosMessage::Prepare(prepare));
    }

    pub(super) fn on_candidate_timer(&mut self, effects: &mut Effects) {
        let State::Candidate(candidate) = &mut self.state else { return };
        if self.now >= candidate.until {
            effects.timer("leader/candidacy_end");
            effects.trace("election_failed", || format!("{} promises", candidate.promises.len()));
            let heard = candidate.whole().count();
            self.no_quorum = !self.quorum.is_quorum(heard);
            self.become_follower(effects);
            self.tell_follow(effects);
            return;
        }
        if self.now >= candidate.again {
            effects.timer("leader/promises_again");
            candidate.again = self.now + ASK_AGAIN;
            let candidate = &*candidate;
            let own = self.config.node;
            let done = |node: &NodeId| candidate.promises.get(node).is_some_and(|pledge| pledge.whole);
            let all = if done(&own) { self.config.nodes.clone() } else { vec![own] };
            let open: Vec<NodeId> = all.into_iter().filter(|node| !done(node)).collect();
            for node in open {
                self.send_prepare(node, effects);
            }
        }
    }

    pub(super) fn on_promise(&mut self, node: NodeId, promise: Promise, effects: &mut Effects) {
        if !self.admitted(node, promise.directory) {
            effects.note("ignore_foreign", format!("{node} promises with a directory that was not admitted"));
            // What is chosen it may know: so it learns that it is none of the group's.
            self.hint_chosen(node, promise.chosen, effects);
            return;
        }
        let own = self.config.node;
        if node != own && !promise.entries.iter().all(|entry| Entry::is_well_formed(entry)) {
            effects.note("ignore_malformed", format!("{node} promises with bytes that are no entry"));
            return;
        }
        match &mut self.state {
            State::Candidate(candidate) if candidate.ballot == promise.ballot => {
                if node == own {
                    candidate.chosen = candidate.chosen.max(promise.chosen);
                }
                if !candidate.add(node, own, promise) {
                    return;
                }
                if node == own {
                    let others: Vec<NodeId> = self.others().collect();
                    for node in others {
                        self.send_prepare(node, effects);
                    }
                }
                self.judge_promises(effects);
            }
            State::Leading(leading) if leading.ballot == promise.ballot => {
                self.on_late_promise(node, &promise, effects);
            }
            _ => {}
        }
    }

    /// Who belongs to the group is known now: promises of others do not count.
    pub(super) fn on_members(&mut self, members: Vec<Member>, effects: &mut Effects) {
        self.keep_admitted(members);
        self.judge_promises(effects);
    }

    fn keep_admitted(&mut self, members: Vec<Member>) {
        self.members = Some(members);
        let State::Candidate(candidate) = &self.state else { return };
        let foreign = |(node, pledge): &(&NodeId, &Pledge)| !self.admitted(**node, pledge.promise.directory);
        let foreign: Vec<NodeId> = candidate.promises.iter().filter(foreign).map(|(node, _)| *node).collect();
        if let State::Candidate(candidate) = &mut self.state {
            candidate.promises.retain(|node, _| !foreign.contains(node));
        }
    }

    /// The own replica has learned more, or its log is applied further.
    pub(super) fn on_applied(&mut self, applied: &AppliedTo, effects: &mut Effects) {
        match &mut self.state {
            State::Candidate(candidate) => {
                candidate.chosen = candidate.chosen.max(applied.chosen);
                self.judge_promises(effects);
            }
            State::Leading(leading) => leading.expiry = applied.expiry,
            _ => {}
        }
    }

    /// Whether the promises are enough, and nothing that somebody knows to be chosen is lacking here.
    fn judge_promises(&mut self, effects: &mut Effects) {
        let State::Candidate(candidate) = &self.state else { return };
        if !candidate.whole().any(|(node, _)| *node == self.config.node) {
            return;
        }
        let known = candidate.whole().any(|(_, promise)| promise.chosen > Slot(0));
        if !known && self.members.is_none() && self.learn_members() {
            return self.judge_promises(effects);
        }
        let State::Candidate(candidate) = &self.state else { return };
        let heard = candidate.whole().count();
        let sure = |promise: &Promise| !promise.doubtful || is_planted(Bug::DoubtfulVotes);
        let sure = candidate.whole().filter(|(_, promise)| sure(promise)).count();
        let all = heard == self.config.nodes.len();
        // Without a first entry the group has not begun, as far as is known: its first leader needs everybody. A replica
        // in doubt counts only when nobody is missing (hazard S28).
        let begun = known || (self.members.is_some() && candidate.whole().any(|(_, promise)| promise.length > Slot(0)));
        let enough = all || (self.quorum.is_quorum(sure) && begun) || candidate.appointed;
        if !enough || (known && self.members.is_none()) {
            return; // Members become known when the first entry, which is chosen, is applied here.
        }
        let target = candidate.whole().map(|(_, promise)| promise.chosen).max().unwrap_or_default();
        if candidate.chosen < target && !is_planted(Bug::ProposedBelowChosen) {
            return; // The own replica is fetching it.
        }
        let adopted = self.adopt(all);
        if let Some(adopted) = adopted {
            self.lead(adopted, effects);
        }
    }

    /// The group's first entry may be chosen without anybody here knowing it. Whoever has accepted it knows from it which
    /// directories its leader, which had heard everybody, has admitted; so a majority of those is enough to go on.
    fn learn_members(&mut self) -> bool {
        let State::Candidate(candidate) = &self.state else { return false };
        let best = candidate.whole().map(|(_, promise)| (promise.accepted, promise.length)).max().unwrap_or_default();
        let logs = candidate.whole().filter(|(_, p)| (p.accepted, p.length) == best && p.start == Slot(0));
        let members = logs.filter_map(|(_, promise)| first_members(promise.entries.first()?)).next();
        let Some(members) = members else { return false };
        self.keep_admitted(members);
        true
    }

    /// The log of the highest (accepted ballot, length) among the promises, from what is chosen on.
    fn adopt(&self, all: bool) -> Option<Adopted> {
        let State::Candidate(candidate) = &self.state else { return None };
        let best = |promise: &Promise| (promise.accepted, promise.length);
        let own = candidate.promises.get(&self.config.node).map(|pledge| &pledge.promise)?;
        let mut winner = own;
        // A log in doubt may win: its intact part was accepted, and with a quorum of sure promises nothing chosen is lost.
        for (_, promise) in candidate.whole() {
            let better = if is_planted(Bug::AnyLogAdopted) {
                true
            } else if is_planted(Bug::OwnLogAdopted) {
                false
            } else if is_planted(Bug::LongestLogAdopted) {
                promise.length > winner.length
            } else {
                best(promise) > best(winner)
            };
            if better {
                winner = promise;
            }
        }
        let start = candidate.chosen;
        assert!(winner.start <= start, "what lies before the entries of a promise is chosen, and known here by now");
        let entries: Vec<Bytes> = winner.entries.iter().skip(start.distance_from(winner.start)).cloned().collect();
        let first = start == Slot(0) && entries.is_empty();
        assert!(!first || all, "a group's first leader has heard every replica");
        let members = first.then(|| {
            let member = |(node, promise): (&NodeId, &Promise)| Member {
                replica: self.replica_of(*node),
                node: *node,
                directory: promise.directory,
            };
            candidate.whole().map(member).collect()
        });
        let followers = candidate.whole().map(|(node, promise)| (*node, promise.chosen)).collect();
        Some(Adopted { ballot: candidate.ballot, start, entries, followers, members })
    }
}
