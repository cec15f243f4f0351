//! Number 1: who leads has been elected. Before the first word of a leader a majority has promised with logs that are
//! whole, or every replica has (hazard S28); a promise counts only with the directory that the group has admitted, and
//! no other directory is made part of it (hazard S25).

use std::collections::{BTreeMap, BTreeSet};

use drachma_protocol::ids::{Ballot, DirectoryId, GroupId, NodeId, Slot};
use drachma_protocol::message::command::Content;
use drachma_protocol::message::paxos::Promise;
use drachma_protocol::message::{Message, PaxosMessage};
use drachma_protocol::role::RoleKind;

use super::{Checker, Chosen, Sent, Verdict};
use crate::faults::Swarm;

/// See the module.
#[derive(Default)]
pub struct Elections {
    members: BTreeMap<GroupId, Vec<NodeId>>,
    // Which directories the first entry of a group names, once it is applied.
    admitted: BTreeMap<GroupId, BTreeMap<NodeId, DirectoryId>>,
    promised: BTreeMap<(GroupId, Ballot), BTreeSet<Promised>>,
    led: BTreeSet<(GroupId, Ballot)>,
}

/// A whole promise.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
struct Promised {
    node: NodeId,
    directory: DirectoryId,
    doubtful: bool,
}

impl Checker for Elections {
    fn name(&self) -> &'static str {
        "elections"
    }

    fn on_begin(&mut self, swarm: &Swarm) {
        self.members = swarm.shape.groups.iter().cloned().collect();
    }

    fn on_entry(&mut self, chosen: &Chosen<'_>) -> Verdict {
        if let (Slot(0), Content::LeaderStart(start)) = (chosen.slot, &chosen.entry.content) {
            let members = start.members.iter().flatten().map(|member| (member.node, member.directory));
            self.admitted.insert(chosen.group, members.collect());
        }
        Ok(())
    }

    fn on_message(&mut self, sent: &Sent<'_>) -> Verdict {
        let Message::Paxos(message) = sent.message else { return Ok(()) };
        let (node, group) = (sent.from.node, sent.from.group);
        match (sent.from.role, message) {
            (RoleKind::Replica, PaxosMessage::Promise(promise)) if promise.get().last => {
                let Promise { ballot, directory, doubtful, .. } = *promise.get();
                self.promised.entry((group, ballot)).or_default().insert(Promised { node, directory, doubtful });
                Ok(())
            }
            (RoleKind::Leader, PaxosMessage::Synchronise(message)) => {
                let text = |text| format!("{node} leads {group} under {}, and {text}", message.ballot);
                self.leads(group, message.ballot, sent.to.node).map_err(text)
            }
            _ => Ok(()),
        }
    }
}

impl Elections {
    /// A leader makes the log of a replica its own.
    fn leads(&mut self, group: GroupId, ballot: Ballot, to: NodeId) -> Verdict {
        let admitted = self.admitted.get(&group);
        let counts = |promised: &&Promised| {
            admitted.is_none_or(|admitted| admitted.get(&promised.node) == Some(&promised.directory))
        };
        let promises: Vec<&Promised> =
            self.promised.get(&(group, ballot)).into_iter().flatten().filter(counts).collect();
        if !promises.iter().any(|promised| promised.node == to) {
            return Err(format!("makes {to} part of it, which has not promised with an admitted directory"));
        }
        if !self.led.insert((group, ballot)) {
            return Ok(());
        }
        let size = self.members.get(&group).map_or(0, Vec::len);
        let heard: BTreeSet<NodeId> = promises.iter().map(|promised| promised.node).collect();
        let sure: BTreeSet<NodeId> = promises.iter().filter(|p| !p.doubtful).map(|p| p.node).collect();
        if sure.len() * 2 <= size && heard.len() < size {
            return Err(format!("only these of {size} have promised: {promises:?}"));
        }
        Ok(())
    }
}
