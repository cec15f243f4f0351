//! The shape of a simulated cluster: its nodes, groups and shards.

use drachma_protocol::ids::{AccountId, DirectoryId, Epoch, GroupId, NodeId};
use drachma_protocol::ledger::{Genesis, Limits};
use drachma_protocol::message::operator::Nothing;
use drachma_protocol::placement::map::{AccountRange, Mode, ShardMap};
use drachma_protocol::rng::Rng;
use drachma_protocol::time::Span;

use crate::draw::{between, pick};

/// In range mode, so many ids beyond the first accounts belong to each group: that is where clients open accounts.
const FRESH: u64 = 1_000_000;
/// Among so many ids in a row one of the wanted group is found, where a hash decides.
const STRIDE: u64 = 64;

/// A cluster before its first start.
#[derive(Clone, Debug)]
pub struct Shape {
    /// Every group with its nodes.
    pub groups: Vec<(GroupId, Vec<NodeId>)>,
    /// Which group owns what.
    pub map: ShardMap,
    /// Accounts 1 to this number exist.
    pub accounts: u64,
    /// What each of them holds in the beginning.
    pub initial_balance: u128,
    /// The limits that apply uses.
    pub limits: Limits,
    /// Between two heartbeats of a leader.
    pub heartbeat: Span,
    /// Silence after which a leader is suspected.
    pub leader_timeout: Span,
    /// After which a message between groups is sent again.
    pub resend: Span,
    /// After which a participant asks about something in doubt.
    pub inquire_after: Span,
    /// Bytes of entries between two snapshots of a replica.
    pub snapshot_every: u64,
}

impl Shape {
    /// A cluster of `groups` groups of three or five replicas each, on nodes of their own or shared, as the draw will have it.
    pub fn draw(rng: &mut Rng, groups: u16) -> Shape {
        let replicas = pick(rng, &[3, 3, 3, 5]);
        // Every group on nodes of its own; all groups on the same nodes; something in between.
        let nodes = pick(rng, &[groups * replicas, groups * replicas, replicas, replicas + 2]);
        let members = |group: u16| (0..replicas).map(|n| NodeId((group * replicas + n) % nodes + 1)).collect();
        let accounts = between(rng, 12, 60);
        let heartbeat = between(rng, 20, 60);
        Shape {
            groups: (0..groups).map(|group| (GroupId(group + 1), members(group))).collect(),
            map: shard_map(rng, groups, accounts),
            accounts,
            initial_balance: u128::from(between(rng, 5, 200)),
            limits: limits(rng),
            heartbeat: Span::from_millis(heartbeat),
            leader_timeout: Span::from_millis(heartbeat * between(rng, 4, 10)),
            resend: Span::from_millis(between(rng, 20, 300)),
            // So soon that a leader that sleeps through its succession is asked, too; or as late as in earnest.
            inquire_after: Span::from_millis(if rng.chance(30) {
                between(rng, 20, 100)
            } else {
                between(rng, 100, 1000)
            }),
            snapshot_every: pick(rng, &[2 << 10, 8 << 10, 32 << 10, 128 << 10, u64::MAX]),
        }
    }

    /// Keeps only the first groups, and of each the first replicas, as many as that; what the others owned goes to
    /// those that stay.
    pub fn restrict(&mut self, groups: usize, replicas: usize) {
        let left = groups.clamp(1, self.groups.len());
        self.groups.truncate(left);
        self.groups.iter_mut().for_each(|(_, nodes)| nodes.truncate(replicas.max(1)));
        for owner in &mut self.map.owners {
            *owner = self.groups[usize::from(owner.0 - 1) % left].0;
        }
    }

    /// Every node, once, in order.
    pub fn nodes(&self) -> Vec<NodeId> {
        let mut nodes: Vec<NodeId> = self.groups.iter().flat_map(|(_, nodes)| nodes.iter().copied()).collect();
        nodes.sort_unstable();
        nodes.dedup();
        nodes
    }

    /// The groups that have a replica on a node.
    pub fn groups_on(&self, node: NodeId) -> Vec<GroupId> {
        self.groups.iter().filter(|(_, nodes)| nodes.contains(&node)).map(|(group, _)| *group).collect()
    }

    /// The nodes of a group.
    pub fn members(&self, group: GroupId) -> &[NodeId] {
        self.groups.iter().find(|(g, _)| *g == group).map_or(&[], |(_, nodes)| nodes)
    }

    /// What a group begins with.
    pub fn genesis(&self, group: GroupId) -> Genesis {
        Genesis {
            group,
            map: self.map.clone(),
            accounts: self.accounts,
            initial_balance: self.initial_balance,
            limits: self.limits,
        }
    }

    /// An id beyond the first accounts that belongs to a group; another one for each `number` below 15,000.
    pub fn fresh_account(&self, group: GroupId, number: u64) -> AccountId {
        let index = self.groups.iter().position(|(g, _)| *g == group).unwrap_or(0) as u64;
        let first = u128::from(self.accounts + FRESH * index + 1 + number * STRIDE);
        let mut ids = (first..first + u128::from(STRIDE)).map(AccountId);
        ids.find(|id| self.map.owner_of(*id) == Some(group)).unwrap_or(AccountId(first))
    }

    /// The id of a node's data directory; the simulator never formats one again.
    pub fn directory(node: NodeId) -> DirectoryId {
        DirectoryId(0xd1_0000 + u128::from(node.0))
    }
}

/// Usually as a cluster has them; sometimes so small that clients meet them.
fn limits(rng: &mut Rng) -> Limits {
    let usual = Limits::default();
    let mut limits = usual;
    if rng.chance(30) {
        limits.waiting = pick(rng, &[2, 8, 64]);
    }
    if rng.chance(30) {
        limits.in_doubt_per_group = pick(rng, &[1, 4, 32]);
    }
    // Few sessions are given out soon enough only if they expire.
    if rng.chance(40) {
        limits.sessions = pick(rng, &[2, 5, usual.sessions]);
        limits.session_lifetime = Span::from_millis(pick(rng, &[500, 2_000, 10_000]));
    }
    limits
}

fn shard_map(rng: &mut Rng, groups: u16, accounts: u64) -> ShardMap {
    let shards = groups * between(rng, 1, 2) as u16;
    let mut owners: Vec<GroupId> = (0..shards).map(|shard| GroupId(shard % groups + 1)).collect();
    if rng.chance(30) {
        return ShardMap { epoch: Epoch(1), mode: Mode::Hash(Nothing {}), owners };
    }
    let bound = |shard: u16| u128::from(accounts * u64::from(shard) / u64::from(shards));
    let range = |shard| AccountRange { first: AccountId(bound(shard) + 1), last: AccountId(bound(shard + 1)) };
    let mut ranges: Vec<AccountRange> = (0..shards).map(range).collect();
    for group in 0..groups {
        let first = u128::from(accounts + FRESH * u64::from(group) + 1);
        ranges.push(AccountRange { first: AccountId(first), last: AccountId(first + u128::from(FRESH) - 1) });
        owners.push(GroupId(group + 1));
    }
    ShardMap { epoch: Epoch(1), mode: Mode::Range(ranges), owners }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_account_has_an_owner_and_every_group_its_nodes() {
        for seed in 0..50 {
            let shape = Shape::draw(&mut Rng::new(seed), 3);
            assert_eq!(shape.groups.len(), 3);
            for (group, nodes) in &shape.groups {
                assert!([3, 5].contains(&nodes.len()));
                assert!(nodes.iter().all(|node| shape.groups_on(*node).contains(group)));
            }
            for account in 1..=shape.accounts {
                let owner = shape.map.owner_of(AccountId(u128::from(account)));
                assert!(owner.is_some_and(|group| !shape.members(group).is_empty()), "account {account}, seed {seed}");
            }
            assert!(shape.leader_timeout >= Span(shape.heartbeat.0 * 3));
        }
    }

    #[test]
    fn what_is_left_of_a_shape_owns_everything() {
        let mut shape = Shape::draw(&mut Rng::new(4), 3);
        shape.restrict(2, 2);
        assert_eq!(shape.groups.iter().map(|(_, nodes)| nodes.len()).collect::<Vec<_>>(), [2, 2]);
        for account in 1..=shape.accounts {
            let owner = shape.map.owner_of(AccountId(u128::from(account)));
            assert!(owner.is_some_and(|group| !shape.members(group).is_empty()), "account {account}");
        }
    }
}
