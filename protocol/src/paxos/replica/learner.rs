//! The learner: fetching what is chosen from another replica, and handing it out.

use bytes::Bytes;

use crate::ids::{NodeId, Origin, Slot};
use crate::log::record::{LearnRecord, Record};
use crate::message::PaxosMessage;
use crate::message::paxos::{ChosenEntries, FetchChosen};
use crate::paxos::PART_BYTES;
use crate::planted::{Bug, is_planted};
use crate::role::{Effect, Effects, RoleKind};
use crate::time::{Span, Time};

use super::Replica;

/// An answer that stays away so long is asked for again.
const RETRY: Span = Span::from_millis(100);

/// Entries in memory beyond what is applied, while catching up; what is more is read back from the disk.
const KEEP_BYTES: usize = 4 * 1024 * 1024;

/// This replica fetches what is chosen.
#[derive(Clone, Debug)]
pub(super) struct CatchUp {
    pub(super) from: NodeId,
    target: Slot,
    pub(super) retry: Time,
}

/// Why entries are being read back from the disk. Answers come in the order of the questions.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) enum Fetch {
    /// To apply them from this slot on.
    Apply(Slot),
    /// For another replica.
    Serve(NodeId, Slot),
    /// For the command line.
    Show(Origin, Slot),
}

impl Replica {
    /// Another replica wants what is chosen.
    pub(super) fn on_fetch_chosen(&mut self, node: NodeId, fetch: &FetchChosen, effects: &mut Effects) {
        let chosen = self.log.chosen();
        if fetch.from >= chosen {
            return;
        }
        if fetch.from >= self.log.start() {
            let entries = self.log.from(fetch.from, chosen, PART_BYTES);
            self.send_chosen(node, fetch.from, entries, effects);
            return;
        }
        if fetch.from < self.snapshots.start {
            self.offer_snapshot(node, effects);
            return;
        }
        let pending = self.fetches.iter().any(|other| matches!(other, Fetch::Serve(asker, _) if *asker == node));
        if !pending {
            self.fetches.push_back(Fetch::Serve(node, fetch.from));
            effects.push(Effect::Fetch { from: fetch.from, until: self.log.start(), bytes: PART_BYTES });
        }
    }

    fn send_chosen(&self, node: NodeId, start: Slot, entries: Vec<Bytes>, effects: &mut Effects) {
        let message = ChosenEntries { start, entries, chosen: self.log.chosen() };
        effects.send_paxos(node, RoleKind::Replica, PaxosMessage::ChosenEntries(message));
    }

    /// Entries came back from the disk.
    pub(super) fn on_fetched(&mut self, start: Slot, entries: Vec<Bytes>, effects: &mut Effects) {
        match self.fetches.pop_front() {
            // A snapshot came in between: it has these.
            Some(Fetch::Apply(slot)) if slot < self.ledger.applied() => effects.push(Effect::Again),
            Some(Fetch::Apply(slot)) => {
                assert!(!entries.is_empty(), "what is chosen and not in memory is on disk");
                assert!(start == slot && start == self.ledger.applied(), "fetched for the next slots");
                self.backlog = entries.into();
                effects.push(Effect::Again);
            }
            Some(Fetch::Serve(node, from)) => {
                assert_eq!(start, from, "answers come in the order of the questions");
                self.send_chosen(node, start, entries, effects);
            }
            Some(Fetch::Show(origin, from)) => {
                assert_eq!(start, from, "answers come in the order of the questions");
                self.show_log(origin, from, entries, effects);
            }
            None => panic!("the shell answered a question that was never asked"),
        }
    }

    /// Chosen entries, or the hint that there are some.
    pub(super) fn on_chosen_entries(&mut self, node: NodeId, message: ChosenEntries, effects: &mut Effects) {
        if message.entries.is_empty() {
            if message.chosen > self.log.chosen() && self.catch_up.is_none() {
                self.start_catch_up(node, message.chosen, effects);
            }
            return;
        }
        let chosen = self.log.chosen();
        if message.start > chosen {
            return; // An answer to an older question.
        }
        if !self.are_well_formed(node, &message.entries, effects) {
            return;
        }
        let skip = chosen.distance_from(message.start);
        let entries: Vec<Bytes> = message.entries.into_iter().skip(skip).collect();
        if !entries.is_empty() {
            self.learn(entries, effects);
        }
        let Some(catch_up) = &mut self.catch_up else { return };
        catch_up.target = catch_up.target.max(message.chosen);
        self.go_on_catching_up(effects);
    }

    /// Asks for the next page, until everything is there.
    pub(super) fn go_on_catching_up(&mut self, effects: &mut Effects) {
        let Some(catch_up) = &self.catch_up else { return };
        if self.log.chosen() < catch_up.target {
            let from = catch_up.from;
            self.request_chosen(from, effects);
            return;
        }
        self.catch_up = None;
        effects.trace("caught_up", || format!("to {}", self.log.chosen()));
        if let Some((leader, ballot)) = self.leader
            && ballot >= self.promise
        {
            self.ask(leader, ballot, effects);
        }
    }

    /// Takes entries that are known to be chosen; what contradicts them goes.
    fn learn(&mut self, entries: Vec<Bytes>, effects: &mut Effects) {
        let start = self.log.chosen();
        for (index, entry) in entries.iter().enumerate() {
            let slot = start.plus(index);
            if self.log.get(slot).is_some_and(|own| own != entry) && !is_planted(Bug::LearnedWithoutCut) {
                self.cut(slot);
            }
            if slot == self.log.length() {
                self.log.append(entry.clone());
            }
            self.log.choose(slot.next());
        }
        self.persist(vec![Record::Learn(LearnRecord { start, entries })], effects);
        self.trim();
    }

    pub(super) fn start_catch_up(&mut self, from: NodeId, target: Slot, effects: &mut Effects) {
        effects.trace("catch_up", || format!("from {from} to {target}"));
        self.catch_up = Some(CatchUp { from, target, retry: self.now });
        self.request_chosen(from, effects);
    }

    /// The answer that is waited for takes its time.
    pub(super) fn put_off_catch_up(&mut self) {
        if let Some(catch_up) = &mut self.catch_up {
            catch_up.retry = self.now + RETRY;
        }
    }

    fn request_chosen(&mut self, from: NodeId, effects: &mut Effects) {
        self.put_off_catch_up();
        let fetch = FetchChosen { from: self.log.chosen() };
        effects.send_paxos(from, RoleKind::Replica, PaxosMessage::FetchChosen(fetch));
    }

    /// Asks again, in turn, whoever may have it.
    pub(super) fn retry_catch_up(&mut self, effects: &mut Effects) {
        let Some(catch_up) = &mut self.catch_up else { return };
        if self.now < catch_up.retry {
            return;
        }
        if is_planted(Bug::CatchUpOnce) {
            catch_up.retry = self.now + RETRY;
            return;
        }
        effects.timer("replica/catch_up");
        let from = catch_up.from;
        if self.retry_snapshot(from, effects) {
            return;
        }
        let Some(catch_up) = &mut self.catch_up else { return };
        let others: Vec<NodeId> = self.config.nodes.iter().copied().filter(|node| *node != self.config.node).collect();
        let index = others.iter().position(|node| *node == catch_up.from).map_or(0, |index| index + 1);
        let Some(next) = others.get(index % others.len().max(1)).copied() else { return };
        catch_up.from = next;
        self.request_chosen(next, effects);
    }

    pub(super) fn on_link(&mut self, node: NodeId, up: bool, effects: &mut Effects) {
        if let Some(catch_up) = &mut self.catch_up
            && !up
            && catch_up.from == node
        {
            catch_up.retry = self.now;
            self.retry_catch_up(effects);
        }
    }

    /// Lets go of entries that are on disk: those that are applied, and while catching up more.
    pub(super) fn trim(&mut self) {
        self.log.trim(self.durable_length, KEEP_BYTES);
    }
}
