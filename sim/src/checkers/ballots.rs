//! Number 1: on its disk a replica's promise and its accepted ballot never go back, over restarts too; it accepts nothing
//! below its promise; what it tells others is on the disk when it tells it; and a ballot has one leader, in one life of
//! its process (hazard S22).

use std::collections::{BTreeMap, VecDeque};

use drachma_protocol::ids::{Ballot, GroupId, NodeId};
use drachma_protocol::log::record::Record;
use drachma_protocol::message::{Message, PaxosMessage};
use drachma_protocol::role::{RoleKind, Token};

use super::{Checker, Persisted, Restarted, Sent, Verdict};
use crate::faults::Swarm;
use crate::shape::Shape;

/// See the module.
#[derive(Default)]
pub struct Ballots {
    members: BTreeMap<GroupId, Vec<NodeId>>,
    disks: BTreeMap<(NodeId, GroupId), OnDisk>,
    // Who has led under a ballot, and in which of its lives.
    leaders: BTreeMap<(GroupId, Ballot), (NodeId, u32)>,
}

/// The ballots of one replica.
#[derive(Default)]
struct OnDisk {
    lives: u32,
    written: Pair,
    durable: Pair,
    pending: VecDeque<(Token, Pair)>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Pair {
    promise: Ballot,
    accepted: Ballot,
}

impl Pair {
    fn write(&mut self, record: &Record) -> Verdict {
        match record {
            Record::Promise(ballot) if *ballot < self.promise => {
                return Err(format!("promises {ballot} after {}", self.promise));
            }
            Record::Promise(ballot) => self.promise = *ballot,
            Record::Accept(accept) if self.accepted < self.promise => {
                let Pair { promise, accepted } = self;
                return Err(format!("accepts slot {} under {accepted} after it promised {promise}", accept.slot));
            }
            Record::Synchronise(record) if record.ballot < self.promise => {
                return Err(format!("accepts a log under {} after it promised {}", record.ballot, self.promise));
            }
            Record::Synchronise(record) => {
                *self = Pair { promise: record.ballot, accepted: record.ballot };
            }
            Record::Accept(_)
            | Record::Learn(_)
            | Record::Chosen(_)
            | Record::Doubt(_)
            | Record::Base(_)
            | Record::Snapshot(_) => {}
        }
        Ok(())
    }
}

impl Checker for Ballots {
    fn name(&self) -> &'static str {
        "ballots"
    }

    fn on_begin(&mut self, swarm: &Swarm) {
        self.members = swarm.shape.groups.iter().cloned().collect();
    }

    fn on_restart(&mut self, restarted: &Restarted<'_>) -> Verdict {
        let Restarted { node, group, recovered, damaged } = *restarted;
        let disk = self.disks.entry((node, group)).or_default();
        disk.lives += 1;
        disk.pending.clear();
        let found = Pair { promise: recovered.promise, accepted: recovered.accepted };
        let (least, most) = (disk.durable, disk.written);
        (disk.written, disk.durable) = (found, found);
        if damaged {
            return Ok(());
        }
        if found.promise < least.promise || found.accepted < least.accepted {
            return Err(format!("{group} on {node} had {least:?} on disk and restarts with {found:?}"));
        }
        if found.promise > most.promise || found.accepted > most.accepted {
            return Err(format!("{group} on {node} wrote {most:?} and restarts with {found:?}"));
        }
        Ok(())
    }

    fn on_persist(&mut self, persisted: &Persisted<'_>) -> Verdict {
        let Persisted { node, group, token, records } = *persisted;
        let disk = self.disks.entry((node, group)).or_default();
        for record in records {
            disk.written.write(record).map_err(|text| format!("{group} on {node} {text}"))?;
        }
        disk.pending.push_back((token, disk.written));
        Ok(())
    }

    fn on_durable(&mut self, node: NodeId, group: GroupId, token: Token) -> Verdict {
        let disk = self.disks.entry((node, group)).or_default();
        while let Some((_, pair)) = disk.pending.pop_front_if(|(given, _)| *given <= token) {
            disk.durable = pair;
        }
        Ok(())
    }

    fn on_message(&mut self, sent: &Sent<'_>) -> Verdict {
        let Message::Paxos(message) = sent.message else { return Ok(()) };
        let (node, group) = (sent.from.node, sent.from.group);
        match (sent.from.role, message) {
            // Asking its own replica is how a ballot becomes durable; before that nobody knows it.
            (RoleKind::Leader, PaxosMessage::Prepare(_)) if sent.to.node == node => Ok(()),
            // A directory that was formatted anew has forgotten its ballots; nobody who knows the members hears it.
            (RoleKind::Leader, PaxosMessage::Prepare(prepare)) if prepare.directory != Shape::directory(node) => Ok(()),
            (RoleKind::Leader, PaxosMessage::Prepare(prepare)) => {
                let ballot = prepare.ballot;
                self.leads(node, group, ballot)?;
                self.told(node, group, "asks others to promise", ballot, |disk| disk.durable.promise >= ballot)
            }
            (RoleKind::Leader, PaxosMessage::Synchronise(message)) => self.leads(node, group, message.ballot),
            (RoleKind::Leader, PaxosMessage::Accept(message)) => self.leads(node, group, message.ballot),
            (RoleKind::Leader, PaxosMessage::Commit(message)) => self.leads(node, group, message.ballot),
            (RoleKind::Leader, PaxosMessage::Heartbeat(message)) => self.leads(node, group, message.ballot),
            (RoleKind::Replica, PaxosMessage::Promise(promise)) => {
                let ballot = promise.get().ballot;
                self.told(node, group, "tells that it promised", ballot, |disk| disk.durable.promise >= ballot)
            }
            (RoleKind::Replica, PaxosMessage::Accepted(accepted)) => {
                let ballot = accepted.get().ballot;
                self.told(node, group, "tells that it accepted under", ballot, |disk| disk.durable.accepted >= ballot)
            }
            (RoleKind::Replica, PaxosMessage::HeartbeatAck(ack)) => {
                self.told(node, group, "follows", ack.ballot, |disk| disk.written.promise <= ack.ballot)
            }
            _ => Ok(()),
        }
    }
}

impl Ballots {
    /// A node acts as the leader of a ballot.
    fn leads(&mut self, node: NodeId, group: GroupId, ballot: Ballot) -> Verdict {
        let index = (ballot.replica.0 as usize).wrapping_sub(1);
        let member = self.members.get(&group).and_then(|nodes| nodes.get(index));
        if member != Some(&node) {
            return Err(format!("{node} leads {group} under {ballot}, which is not its own"));
        }
        let life = self.disks.get(&(node, group)).map_or(0, |disk| disk.lives);
        let (_, first) = *self.leaders.entry((group, ballot)).or_insert((node, life));
        if first != life {
            return Err(format!("{node} leads {group} under {ballot} again, though it was restarted since"));
        }
        Ok(())
    }

    /// A replica says something that its disk must bear out.
    fn told(
        &self,
        node: NodeId,
        group: GroupId,
        what: &str,
        ballot: Ballot,
        holds: impl Fn(&OnDisk) -> bool,
    ) -> Verdict {
        let Some(disk) = self.disks.get(&(node, group)) else { return Ok(()) };
        if holds(disk) {
            return Ok(());
        }
        let OnDisk { written, durable, .. } = disk;
        Err(format!("{group} on {node} {what} {ballot}; written is {written:?}, durable {durable:?}"))
    }
}
