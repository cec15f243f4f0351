//! Number 1: one value per slot. All logs that were accepted under one ballot are prefixes of one sequence; what a
//! majority has on disk under a ballot is chosen, and every later ballot's log has it; nobody takes anything else for
//! chosen, says that it accepted what is not on its disk, or applies what is not chosen.

use std::collections::BTreeMap;

use drachma_protocol::ids::{GroupId, NodeId};
use drachma_protocol::message::{Message, PaxosMessage};
use drachma_protocol::role::Token;

use super::logs::Logs;
use super::{Applied, Checker, Persisted, Restarted, Sent, Verdict};
use crate::faults::Swarm;

/// See the module.
#[derive(Default)]
pub struct Agreement {
    groups: BTreeMap<GroupId, Logs>,
}

impl Agreement {
    fn logs(&mut self, group: GroupId) -> &mut Logs {
        self.groups.entry(group).or_default()
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
        let Message::Paxos(PaxosMessage::Accepted(accepted)) = sent.message else { return Ok(()) };
        let (node, group, accepted) = (sent.from.node, sent.from.group, accepted.get());
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
