//! Applying: what is chosen runs through the ledger, in slices, so that nothing else waits long.

use crate::ids::Ballot;
use crate::ledger::output::{ClientOutput, Output, TxnOutput};
use crate::log::record::Record;
use crate::message::LocalMessage;
use crate::message::local::{AppliedTo, Serve};
use crate::paxos::PART_BYTES;
use crate::planted::{Bug, is_planted};
use crate::role::{Effect, Effects, RoleKind};

use super::Replica;
use super::learner::Fetch;

/// Operations in one slice: well under a millisecond.
const SLICE: usize = 512;

impl Replica {
    /// One slice of applying, then what it yielded.
    pub(super) fn on_turn(&mut self, effects: &mut Effects) {
        self.answers.on_turn(effects);
        self.install(effects);
        if !self.members_told && self.ledger.members().is_some() {
            self.on_state(&mut Vec::new(), effects); // They are in the snapshot that this replica starts from.
        }
        let mut outputs = Vec::new();
        let mut budget = SLICE;
        while budget > 0 {
            if !self.ledger.is_busy() && !self.begin_next(effects) {
                break;
            }
            let done = self.ledger.apply(budget, &mut outputs);
            // An entry costs at least one, so that a row of small ones ends the slice, too.
            budget = if done { budget.saturating_sub(self.ledger.last_work().max(1)) } else { 0 };
            if done {
                self.on_state(&mut outputs, effects);
            }
        }
        self.route(outputs, effects);
        self.serve_reads(effects);
        self.take_snapshot(effects);
        self.serve_levels(effects);
        self.trim();
        self.tell_leader(effects);
        let ready = self.ledger.is_busy() || !self.backlog.is_empty();
        if ready || (self.ledger.applied() < self.log.chosen() && self.log.get(self.ledger.applied()).is_some()) {
            effects.push(Effect::Again);
        }
    }

    /// Begins the next chosen entry, if there is one in memory; otherwise sees to it that it is read.
    fn begin_next(&mut self, effects: &mut Effects) -> bool {
        let slot = self.ledger.applied();
        if slot >= self.log.chosen() {
            return false;
        }
        if let Some(entry) = self.backlog.pop_front() {
            self.ledger.begin(slot, &entry);
            self.snapshots.on_entry(entry.len());
            return true;
        }
        if let Some(entry) = self.log.get(slot) {
            self.ledger.begin(slot, entry);
            self.snapshots.on_entry(entry.len());
            return true;
        }
        if !self.fetches.contains(&Fetch::Apply(slot)) {
            self.fetches.push_back(Fetch::Apply(slot));
            effects.push(Effect::Fetch { from: slot, until: self.log.start(), bytes: PART_BYTES });
        }
        false
    }

    /// Sees whether the state makes this node the serving leader, or another one.
    pub(super) fn on_state(&mut self, outputs: &mut Vec<Output>, effects: &mut Effects) {
        if !self.members_told
            && let Some(members) = self.ledger.members().map(<[_]>::to_vec)
        {
            let own = members.iter().find(|member| member.replica == self.me);
            self.foreign = own.is_none_or(|member| member.directory != self.config.directory);
            self.foreign &= !is_planted(Bug::StrangerVotes);
            if self.foreign {
                effects.note("foreign", "this directory is not the one that the group admitted".to_owned());
            }
            self.members_told = true;
            // A replica that knows this after a restart knows that the group has begun.
            self.persist(vec![Record::Chosen(self.log.chosen())], effects);
            effects.send_local(RoleKind::Leader, LocalMessage::Members(members));
        }
        let leader = self.ledger.leader();
        if self.serving == Some(leader) {
            return;
        }
        let fresh = leader > self.recovered || is_planted(Bug::BallotContinued);
        let mine = leader.replica == self.me && fresh && leader == self.promise;
        if mine {
            outputs.clear(); // Of entries before the first one of this ballot: nobody here waits for them.
            self.serving = Some(leader);
            self.told = None; // The leader of the new ballot knows nothing yet.
            self.send_serve(leader, effects);
        } else if self.serving.take().is_some() {
            self.refuse_reads(effects);
        }
    }

    fn send_serve(&self, ballot: Ballot, effects: &mut Effects) {
        let serve = Serve {
            ballot,
            time: self.ledger.time(),
            members: self.ledger.members().map(<[_]>::to_vec).unwrap_or_default(),
            counter: self.ledger.counter(),
            coordinated: Vec::new(),
            in_doubt: Vec::new(),
        };
        effects.send_local(RoleKind::Leader, LocalMessage::Serve(serve.clone()));
        let coordinated = Serve { coordinated: self.ledger.coordinated(), ..serve.clone() };
        effects.send_local(RoleKind::Coordinator, LocalMessage::Serve(coordinated));
        let in_doubt = Serve { in_doubt: self.ledger.in_doubt(), ..serve };
        effects.send_local(RoleKind::Participant, LocalMessage::Serve(in_doubt));
    }

    /// Hands what applying yielded to the roles that wait for it. Followers have none.
    fn route(&mut self, outputs: Vec<Output>, effects: &mut Effects) {
        if self.serving.is_none() || outputs.is_empty() {
            return;
        }
        let mut answers: Vec<ClientOutput> = Vec::new();
        let mut coordinator: Vec<TxnOutput> = Vec::new();
        let mut participant: Vec<TxnOutput> = Vec::new();
        for output in outputs {
            match output {
                Output::Client(answer) => answers.push(answer),
                Output::Txn(event) => match &event {
                    TxnOutput::Voted { coordinator: group, .. } if *group != self.config.group => {
                        participant.push(event);
                    }
                    TxnOutput::Resolved { .. } => participant.push(event),
                    _ => coordinator.push(event),
                },
                Output::Read(account, value) => self.on_read_output(account, value, effects),
                Output::ReadExpired(account) => self.on_read_expired(account, effects),
            }
        }
        if !answers.is_empty() {
            effects.send_local(RoleKind::Leader, LocalMessage::Answers(answers));
        }
        if !coordinator.is_empty() {
            effects.send_local(RoleKind::Coordinator, LocalMessage::Events(coordinator));
        }
        if !participant.is_empty() {
            effects.send_local(RoleKind::Participant, LocalMessage::Events(participant));
        }
    }

    /// A candidate waits for what is chosen, and a leader for the expiry of what waits.
    fn tell_leader(&mut self, effects: &mut Effects) {
        if self.promise.replica != self.me {
            return;
        }
        let applied = AppliedTo {
            applied: self.ledger.applied(),
            chosen: self.log.chosen(),
            time: self.ledger.time(),
            expiry: self.ledger.next_expiry(),
        };
        let news = if self.serving.is_some() { (applied.expiry, None) } else { (None, Some(applied.chosen)) };
        if self.told.replace(news) != Some(news) {
            effects.send_local(RoleKind::Leader, LocalMessage::Applied(applied));
        }
    }
}
