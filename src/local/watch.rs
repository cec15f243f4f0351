//! Waiting for leaders and for replicas that catch up, by asking the nodes. All of this must be called from one
//! runtime: the connection is kept.

use std::time::{Duration, Instant};

use drachma_client::{Client, Options};
use drachma_protocol::ids::{Ballot, GroupId, NodeId, Slot};
use drachma_protocol::message::operator::{
    LeaderPhase, LeaderStatus, Nothing, OperatorAnswer, OperatorCall, ReplicaStatus,
};
use drachma_protocol::quorum::Quorum;

use super::LocalCluster;

/// Between two questions.
const PAUSE: Duration = Duration::from_millis(5);
/// For one answer: a node that is stopped (SIGSTOP) holds up the others' answers no longer.
const ANSWER: Duration = Duration::from_millis(500);

impl LocalCluster {
    /// Waits until each of the groups has a leader that serves; false if the time is up.
    pub async fn wait_leaders(&mut self, groups: &[GroupId], timeout: Duration) -> bool {
        let end = Instant::now() + timeout;
        for group in groups {
            while self.leader_of(*group).await.is_none() {
                if Instant::now() >= end {
                    return false;
                }
                tokio::time::sleep(PAUSE).await;
            }
        }
        true
    }

    /// Waits until every replica of the node has applied what its group's leader had chosen when this was called;
    /// false if the time is up, or as soon as it is clear that it cannot: fewer than a majority of a group are running,
    /// or the node's directory is not the one that was admitted. Every other replica is waited for all the same.
    pub async fn wait_caught_up(&mut self, node: NodeId, timeout: Duration) -> bool {
        let end = Instant::now() + timeout;
        let mut all = true;
        for group in self.settings().groups_of(node) {
            all &= self.group_caught_up(node, group, end).await;
        }
        all
    }

    async fn group_caught_up(&mut self, node: NodeId, group: GroupId, end: Instant) -> bool {
        let mut target = None;
        loop {
            if !self.has_majority(group) || !self.is_running(node) {
                return false;
            }
            if target.is_none() {
                target = self.chosen_by_leader(group).await;
            }
            let status = self.replica_status(node, group).await;
            match (target, status) {
                (_, Some(status)) if status.foreign => return false,
                (Some(target), Some(status)) if status.applied >= target => return true,
                _ if Instant::now() >= end => return false,
                _ => tokio::time::sleep(PAUSE).await,
            }
        }
    }

    /// The node that leads the group and serves, if there is one. Of several that say so, the one with the highest
    /// ballot: a leader that was cut off may not know yet.
    pub async fn leader_of(&mut self, group: GroupId) -> Option<NodeId> {
        let nodes = self.settings().group(group)?.nodes.clone();
        let mut best: Option<(Ballot, NodeId)> = None;
        for node in nodes {
            if !self.is_running(node) {
                continue;
            }
            let Some(status) = self.leader_status(node, group).await else { continue };
            if status.phase == LeaderPhase::Serving && best.is_none_or(|(ballot, _)| ballot < status.ballot) {
                best = Some((status.ballot, node));
            }
        }
        best.map(|(_, node)| node)
    }

    /// Whether a majority of the group's nodes is running.
    pub fn has_majority(&mut self, group: GroupId) -> bool {
        let Some(nodes) = self.settings().group(group).map(|group| group.nodes.clone()) else { return false };
        let running = self.running();
        Quorum::new(nodes.len()).is_quorum(nodes.iter().filter(|node| running.contains(node)).count())
    }

    async fn chosen_by_leader(&mut self, group: GroupId) -> Option<Slot> {
        let leader = self.leader_of(group).await?;
        self.replica_status(leader, group).await.map(|status| status.chosen)
    }

    async fn leader_status(&mut self, node: NodeId, group: GroupId) -> Option<LeaderStatus> {
        match self.ask(node, group, OperatorCall::LeaderStatus(Nothing {})).await? {
            OperatorAnswer::LeaderStatus(status) => Some(status),
            _ => None,
        }
    }

    async fn replica_status(&mut self, node: NodeId, group: GroupId) -> Option<ReplicaStatus> {
        match self.ask(node, group, OperatorCall::ReplicaStatus(Nothing {})).await? {
            OperatorAnswer::ReplicaStatus(status) => Some(status),
            _ => None,
        }
    }

    async fn ask(&mut self, node: NodeId, group: GroupId, call: OperatorCall) -> Option<OperatorAnswer> {
        let client = self.client().await?;
        client.operator(node, group, call, ANSWER).await.ok()
    }

    async fn client(&mut self) -> Option<Client> {
        if self.client.is_none() {
            let running = self.running();
            let endpoints: Vec<String> =
                running.iter().filter_map(|node| self.settings().node_address(*node)).map(str::to_owned).collect();
            let cluster = Some(self.settings().cluster_id());
            let options = Options { endpoints, cluster, deadline: Some(ANSWER) };
            self.client = Client::connect(options).await.ok();
        }
        self.client.clone()
    }
}
