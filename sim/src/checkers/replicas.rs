//! Number 12, as far as it is to be seen at the replicas: a read for a session is served where as much is applied as the
//! session knows; the age of a state counts from a moment at which its replica asked, and everything that was applied
//! anywhere by then is in it (hazard A3); what is told at equal positions is equal, whoever tells it; a position has
//! everything that was applied anywhere before it was asked for; and what is said to be on every replica is.

use std::collections::BTreeMap;

use drachma_protocol::ids::{AccountId, Ballot, GroupId, NodeId, Slot};
use drachma_protocol::ledger::operations::{Operation, Reply as Found};
use drachma_protocol::message::client::{Call, Request, Response};
use drachma_protocol::message::level::{Level, ReplicaReadDone};
use drachma_protocol::message::{Message, PaxosMessage};
use drachma_protocol::time::Time;

use super::{Checker, Chosen, Reply, Restarted, Sent, Verdict};
use crate::faults::Swarm;

/// See the module.
#[derive(Default)]
pub struct Replicas {
    members: BTreeMap<GroupId, Vec<NodeId>>,
    // How much of each group was applied anywhere.
    applied: BTreeMap<GroupId, Slot>,
    // By client and number of a copy.
    asked: BTreeMap<(u64, u64), Asked>,
    // The same when a replica asked how far its group is, by the time that its clock showed.
    questions: BTreeMap<(NodeId, GroupId), BTreeMap<Time, Slot>>,
    // Debits and credits posted.
    told: BTreeMap<(GroupId, Slot, AccountId), (u128, u128)>,
    accepted: BTreeMap<(GroupId, Ballot), BTreeMap<NodeId, Slot>>,
}

enum Asked {
    Read(Vec<Operation>, Slot),
    Position { applied: Slot, everywhere: bool },
    WriteAll,
}

impl Replicas {
    fn is_everywhere(&self, group: GroupId, slot: Slot) -> bool {
        let members = self.members.get(&group).map_or(&[][..], Vec::as_slice);
        self.accepted
            .iter()
            .filter(|((of, _), _)| *of == group)
            .any(|(_, lengths)| members.iter().all(|node| lengths.get(node).is_some_and(|length| *length >= slot)))
    }

    fn judge_age(&self, reply: &Reply<'_>, done: &ReplicaReadDone) -> Verdict {
        let Some(age) = done.age else { return Ok(()) };
        let (node, group) = (reply.from.node, reply.from.group);
        let since = Time(reply.clock.0.saturating_sub(age.0));
        let asked = self.questions.get(&(node, group)).and_then(|questions| questions.get(&since));
        match asked {
            None => Err(format!("{group} on {node} tells an age from {since:?}, when it did not ask: {done:?}")),
            Some(least) if done.slot < *least => Err(format!(
                "{group} on {node} tells an age from {since:?}, when {least} entries had been applied: {done:?}"
            )),
            Some(_) => Ok(()),
        }
    }

    fn judge_content(&mut self, reply: &Reply<'_>, done: &ReplicaReadDone) -> Verdict {
        for found in done.found.iter().flatten() {
            let Found::Account(account) = &found.reply else { continue };
            let totals = (account.debits_posted, account.credits_posted);
            let known = *self.told.entry((reply.from.group, done.slot, account.id)).or_insert(totals);
            if known != totals {
                return Err(format!(
                    "{:?} tells {account:?} at {}, where {known:?} was told before",
                    reply.from, done.slot
                ));
            }
        }
        Ok(())
    }
}

impl Checker for Replicas {
    fn name(&self) -> &'static str {
        "replicas"
    }

    fn on_begin(&mut self, swarm: &Swarm) {
        self.members = swarm.shape.groups.iter().cloned().collect();
    }

    fn on_restart(&mut self, restarted: &Restarted<'_>) -> Verdict {
        self.questions.remove(&(restarted.node, restarted.group));
        Ok(())
    }

    fn on_entry(&mut self, chosen: &Chosen<'_>) -> Verdict {
        self.applied.insert(chosen.group, chosen.slot.next());
        Ok(())
    }

    fn on_message(&mut self, sent: &Sent<'_>) -> Verdict {
        let (node, group) = (sent.from.node, sent.from.group);
        match sent.message {
            Message::Paxos(PaxosMessage::AskAge(question)) => {
                let applied = self.applied.get(&group).copied().unwrap_or_default();
                self.questions.entry((node, group)).or_default().insert(question.asked, applied);
            }
            Message::Paxos(PaxosMessage::Accepted(accepted)) => {
                let accepted = accepted.get();
                let length = self.accepted.entry((group, accepted.ballot)).or_default().entry(node).or_default();
                *length = accepted.length.max(*length);
            }
            _ => {}
        }
        Ok(())
    }

    fn on_copy(&mut self, client: u32, correlation: u64, request: &Request) -> Verdict {
        let applied = self.applied.get(&request.group).copied().unwrap_or_default();
        let asked = match &request.call {
            Call::ReplicaRead(call) => Asked::Read(call.operations.clone(), call.after),
            Call::Position(call) => Asked::Position { applied, everywhere: call.everywhere },
            Call::Write(write) if write.level == Level::All => Asked::WriteAll,
            _ => return Ok(()),
        };
        self.asked.entry((client.into(), correlation)).or_insert(asked);
        Ok(())
    }

    fn on_reply(&mut self, reply: &Reply<'_>) -> Verdict {
        let (node, group) = (reply.from.node, reply.from.group);
        let Some(asked) = self.asked.get(&(reply.to.connection, reply.to.correlation)) else { return Ok(()) };
        match (reply.response, asked) {
            (Response::ReplicaRead(done), Asked::Read(operations, after)) => {
                if done.slot < *after || done.slot > reply.applied.next() {
                    return Err(format!("{group} on {node} reads {operations:?} at {}, after {after}", done.slot));
                }
                self.judge_age(reply, done)?;
                self.judge_content(reply, done)
            }
            (Response::Position(done), Asked::Position { applied, everywhere }) => {
                if done.slot < *applied {
                    return Err(format!("{group} on {node} is at {}, and {applied} were applied before", done.slot));
                }
                if done.everywhere && (!everywhere || !self.is_everywhere(group, done.slot)) {
                    return Err(format!("{group} on {node} says that {} is everywhere", done.slot));
                }
                Ok(())
            }
            (Response::Written(done), Asked::WriteAll) if done.level_met && !self.is_everywhere(group, done.slot) => {
                Err(format!("{group} on {node} says that a command is on every replica: {done:?}"))
            }
            _ => Ok(()),
        }
    }
}
