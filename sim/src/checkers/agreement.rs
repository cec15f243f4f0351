//! Number 1: one value per slot. All logs that were accepted under one ballot are prefixes of one sequence; what a
//! majority has on disk under a ballot is chosen, and every later ballot's log has it; nobody takes anything else for
//! chosen, says that it accepted what is not on its disk, or applies what is not chosen. Beyond what it was elected with,
//! a leader says that something is chosen only once a majority has it under its own ballot (hazard S19).

use std::collections::BTreeMap;

use drachma_protocol::ids::{Ballot, GroupId, NodeId, Slot};
use drachma_protocol::message::{Message, PaxosMessage};
use drachma_protocol::role::Token;

use super::logs::Logs;
use super::{Applied, Checker, Persisted, Restarted, Sent, Verdict};
use crate::faults::Swarm;

/// See the module.
#[derive(Default)]
pub struct Agreement {
    groups: BTreeMap<GroupId, Logs>,
    // What was chosen when a leader began.
    elected: BTreeMap<(GroupId, Ballot), Slot>,
}

impl Agreement {
    fn logs(&mut self, group: GroupId) -> &mut Logs {
        self.groups.entry(group).or_default()
    }

    /// A leader says how much is chosen; the first time it is what it was elected with.
    fn told(&mut self, group: GroupId, ballot: Ballot, chosen: Slot) -> Verdict {
        let elected = *self.elected.entry((group, ballot)).or_insert(chosen);
        let held = self.logs(group).held(ballot);
        if chosen > elected.max(held) {
            return Err(format!("says that {chosen} are chosen; a majority has {held} under {ballot}"));
        }
        Ok(())
    }
}

/// How much a leader says is chosen, if this is a leader's.
fn told_chosen(message: &PaxosMessage) -> Option<(Ballot, Slot)> {
    match message {
        PaxosMessage::Synchronise(message) => Some((message.ballot, message.chosen)),
        PaxosMessage::Accept(message) => Some((message.ballot, message.chosen)),
        PaxosMessage::Commit(message) => Some((message.ballot, message.chosen)),
        PaxosMessage::Heartbeat(message) => Some((message.ballot, message.chosen)),
        _ => None,
    }
}

impl Checker for Agreement {
    fn name(&self) -> &'static str {
        "agreement"
    }

    fn on_begin(&mut self, swarm: &Swarm) {
        let groups = swarm.shape.groups.iter();
        self.groups = groups.map(|(group, nodes)| (*group, Logs::new(nodes.len()))).collect();
    }

    fn on_restart(&mut self, restarted: &Restarted<'_>) -> Verdict {
        let Restarted { node, group, recovered, damaged } = *restarted;
        self.logs(group).restart(node, recovered, damaged).map_err(|text| format!("{group} on {node} {text}"))
    }

    fn on_persist(&mut self, persisted: &Persisted<'_>) -> Verdict {
        let Persisted { node, group, token, records } = *persisted;
        self.logs(group).write(node, token, records).map_err(|text| format!("{group} on {node} {text}"))
    }

    fn on_durable(&mut self, node: NodeId, group: GroupId, token: Token) -> Verdict {
        self.logs(group).durable(node, token).map_err(|text| format!("{group} on {node}: {text}"))
    }

    fn on_message(&mut self, sent: &Sent<'_>) -> Verdict {
        let Message::Paxos(message) = sent.message else { return Ok(()) };
        let (node, group) = (sent.from.node, sent.from.group);
        if let Some((ballot, chosen)) = told_chosen(message) {
            return self.told(group, ballot, chosen).map_err(|text| format!("{node} leads {group}, and {text}"));
        }
        let PaxosMessage::Accepted(accepted) = message else { return Ok(()) };
        let accepted = accepted.get();
        let length = self.logs(group).durable_length(node, accepted.ballot);
        if length >= accepted.length.0 {
            return Ok(());
        }
        let (ballot, told) = (accepted.ballot, accepted.length);
        Err(format!("{group} on {node} tells of {told} entries accepted under {ballot}; on its disk are {length}"))
    }

    fn on_applied(&mut self, applied: &Applied<'_>) -> Verdict {
        let Applied { node, group, until, .. } = *applied;
        self.logs(group).claim(node, until).map_err(|text| format!("{group} on {node} applies, and {text}"))
    }
}
