//! One leader lost under load, and how long its group is silent then: the measure of [`crate::failover`].

use drachma_protocol::ids::{GroupId, NodeId, TxnId};
use drachma_protocol::ledger::model::Outcome;

use super::{Event, World};
use crate::disk::Crash;

/// How a leader is lost.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Loss {
    /// The process ends, and its connections break: the others notice at once, as fast as the network is.
    Noticed,
    /// The machine is gone: nothing tells but silence.
    Silent,
}

/// A leader that is to be lost, and what came of it.
#[derive(Debug)]
pub(crate) struct Strike {
    group: GroupId,
    loss: Loss,
    // Who was lost, and when.
    lost: Option<(u64, NodeId)>,
    // When a client had the next answer that something is committed.
    answered: Option<u64>,
}

/// Nobody comes back while it is measured.
const FOR_EVER: u64 = 1 << 40;

impl World<'_> {
    /// Runs until the leader of this group is lost at `at`, or as soon after it as there is one, and until a client is
    /// told by another node that a transfer is committed. Returns the microseconds in between; nothing if there was no
    /// such answer until the run ended.
    pub fn measure(mut self, group: GroupId, loss: Loss, at: u64) -> Option<u64> {
        self.strike = Some(Strike { group, loss, lost: None, answered: None });
        self.at(at, Event::Strike);
        self.go();
        let strike = self.strike?;
        Some(strike.answered?.saturating_sub(strike.lost?.0))
    }

    pub(super) fn on_strike(&mut self) {
        let Some(group) = self.strike.as_ref().map(|strike| strike.group) else { return };
        let leader = self.leaders.get(&group).and_then(|leader| self.index_of(*leader));
        let Some(node) = leader.filter(|node| self.nodes[*node].is_up()) else {
            return self.at(self.now + 1_000, Event::Strike);
        };
        let id = self.nodes[node].id;
        self.crash(node, Crash::Kill, FOR_EVER);
        if let Some(strike) = &mut self.strike {
            strike.lost = Some((self.now, id));
        }
    }

    /// A client has a final answer.
    pub(super) fn see_answer(&mut self, from: NodeId, txn: TxnId, outcome: Outcome) {
        let Some(strike) = &mut self.strike else { return };
        let is_of_group = self.swarm.shape.map.owner_of(txn.first) == Some(strike.group);
        if outcome == Outcome::Committed && is_of_group && strike.lost.is_some_and(|(_, lost)| lost != from) {
            strike.answered = Some(self.now);
            self.patience = 0; // That is all that was to be known.
        }
    }

    /// How long until somebody notices that a node is gone, while a loss is measured; nothing if nobody will.
    pub(super) fn notice_of_loss(&self) -> Option<Option<u64>> {
        let loss = self.strike.as_ref()?.loss;
        Some((loss == Loss::Noticed).then_some(self.swarm.network.mean_delay))
    }
}
