//! An operator who has leadership moved about while everything else goes on: to a node by name, to whoever is closest, to
//! one that leads already, is down, or has no replica of the group. Its answers prove nothing; what the clients see does.

use std::collections::BTreeMap;

use drachma_protocol::ids::{GroupId, NodeId};
use drachma_protocol::message::client::{Call, Request};
use drachma_protocol::message::operator::{HandOverCall, OperatorCall};
use drachma_protocol::rng::Rng;

use crate::draw::{exponential, pick};
use crate::shape::Shape;

/// See the module.
pub struct Mover {
    rng: Rng,
    asked: u64,
}

impl Mover {
    /// An operator.
    pub fn new(rng: Rng) -> Mover {
        Mover { rng, asked: 0 }
    }

    /// How long until the next move, in microseconds.
    pub fn pause(&mut self, mean: u64) -> u64 {
        1 + exponential(&mut self.rng, mean)
    }

    /// Whom it asks what, and under which correlation id: mostly who leads, as far as is known.
    pub fn ask(&mut self, shape: &Shape, leaders: &BTreeMap<GroupId, NodeId>) -> (NodeId, u64, Request) {
        self.asked += 1;
        let (group, nodes) = &shape.groups[self.rng.below(shape.groups.len() as u64) as usize];
        let known = leaders.get(group).copied().filter(|_| self.rng.chance(90));
        let node = known.unwrap_or_else(|| pick(&mut self.rng, nodes));
        let target = match self.rng.below(20) {
            0..=3 => None,
            4 => Some(pick(&mut self.rng, &shape.nodes())),
            _ => Some(pick(&mut self.rng, nodes)),
        };
        let call = Call::Operator(OperatorCall::HandOver(HandOverCall { target }));
        (node, self.asked, Request { group: *group, call })
    }
}
