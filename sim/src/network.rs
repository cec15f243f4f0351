//! The simulated network: when, how often, and whether at all something sent arrives.

use std::collections::{BTreeMap, BTreeSet};

use drachma_protocol::ids::NodeId;
use drachma_protocol::rng::Rng;

use crate::draw::{between, exponential, permille};

/// Who sends and receives.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum Endpoint {
    /// A node of the cluster.
    Node(NodeId),
    /// A client, by its number.
    Client(u32),
}

/// How bad the network is all the time; partitions and clogs come on top.
#[derive(Clone, Debug)]
pub struct NetworkOptions {
    /// The mean of the exponential delay, in microseconds.
    pub mean_delay: u64,
    /// How many of 1,000 messages are lost.
    pub loss: u64,
    /// How many of 1,000 messages arrive twice.
    pub duplicate: u64,
    /// How many of 1,000 messages take up to `straggler_delay`: longer than a whole transaction.
    pub straggler: u64,
    /// In microseconds.
    pub straggler_delay: u64,
    /// Messages between the same two endpoints keep their order, but for duplicates and stragglers.
    pub in_order: bool,
}

/// A directed link.
pub type Link = (Endpoint, Endpoint);

/// The state of all links.
pub struct Network {
    options: NetworkOptions,
    rng: Rng,
    // How many partitions cut the link now.
    cut: BTreeMap<Link, u32>,
    clogged: BTreeMap<Link, u64>,
    last: BTreeMap<Link, u64>,
}

/// What becomes of a message.
#[derive(Debug, Default, Eq, PartialEq)]
pub struct Fate {
    /// When it arrives, in microseconds; none if it is lost.
    pub first: Option<u64>,
    /// When a copy of it arrives.
    pub second: Option<u64>,
}

impl Network {
    /// A network without partitions.
    pub fn new(options: NetworkOptions, rng: Rng) -> Network {
        Network { options, rng, cut: BTreeMap::new(), clogged: BTreeMap::new(), last: BTreeMap::new() }
    }

    /// Decides about a message that is sent now.
    pub fn send(&mut self, now: u64, from: Endpoint, to: Endpoint) -> Fate {
        let link = (from, to);
        if self.is_cut(link) || permille(&mut self.rng, self.options.loss) {
            return Fate::default();
        }
        let first = Some(self.arrival(now, link));
        let second = permille(&mut self.rng, self.options.duplicate).then(|| {
            let extra = exponential(&mut self.rng, self.options.mean_delay * 20);
            now + extra + 1
        });
        Fate { first, second }
    }

    fn arrival(&mut self, now: u64, link: Link) -> u64 {
        if permille(&mut self.rng, self.options.straggler) {
            return now + between(&mut self.rng, 1, self.options.straggler_delay.max(1));
        }
        let mut at = now + 1 + exponential(&mut self.rng, self.options.mean_delay);
        if let Some(until) = self.clogged.get(&link) {
            at = at.max(*until);
        }
        if self.options.in_order {
            let last = self.last.entry(link).or_default();
            at = at.max(*last);
            *last = at;
        }
        at
    }

    /// Whether nothing passes a link now.
    pub fn is_cut(&self, link: Link) -> bool {
        self.cut.contains_key(&link)
    }

    /// Cuts links, until [`Network::mend`] is called as often.
    pub fn cut(&mut self, links: &BTreeSet<Link>) {
        for link in links {
            *self.cut.entry(*link).or_default() += 1;
        }
    }

    /// Undoes one [`Network::cut`].
    pub fn mend(&mut self, links: &BTreeSet<Link>) {
        for link in links {
            if let Some(count) = self.cut.get_mut(link) {
                *count -= 1;
                if *count == 0 {
                    self.cut.remove(link);
                }
            }
        }
    }

    /// Nothing passes a link until then; what was sent meanwhile arrives in a burst.
    pub fn clog(&mut self, link: Link, until: u64) {
        self.clogged.insert(link, until);
    }

    /// Ends every fault; what is under way stays under way.
    pub fn heal(&mut self) {
        self.cut.clear();
        self.clogged.clear();
        self.options = NetworkOptions { loss: 0, duplicate: 0, straggler: 0, ..self.options };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: Endpoint = Endpoint::Node(NodeId(1));
    const B: Endpoint = Endpoint::Node(NodeId(2));

    fn network(loss: u64, duplicate: u64, in_order: bool) -> Network {
        let options = NetworkOptions { mean_delay: 1000, loss, duplicate, straggler: 0, straggler_delay: 0, in_order };
        Network::new(options, Rng::new(9))
    }

    #[test]
    fn messages_are_lost_and_doubled_at_their_rates() {
        let mut network = network(100, 200, false);
        let fates: Vec<Fate> = (0..1000).map(|_| network.send(0, A, B)).collect();
        let lost = fates.iter().filter(|fate| fate.first.is_none()).count();
        let doubled = fates.iter().filter(|fate| fate.second.is_some()).count();
        assert!((50..150).contains(&lost), "{lost}");
        assert!((130..230).contains(&doubled), "{doubled}");
    }

    #[test]
    fn a_cut_has_a_direction_and_cuts_overlap() {
        let mut network = network(0, 0, false);
        let links = BTreeSet::from([(A, B)]);
        network.cut(&links);
        network.cut(&links);
        network.mend(&links);
        assert_eq!(network.send(0, A, B), Fate::default());
        assert!(network.send(0, B, A).first.is_some());
        network.mend(&links);
        assert!(network.send(0, A, B).first.is_some());
    }

    #[test]
    fn a_clogged_link_ends_in_a_burst() {
        let mut network = network(0, 0, true);
        network.clog((A, B), 1_000_000);
        let arrivals: Vec<u64> = (0..10).filter_map(|n| network.send(n, A, B).first).collect();
        assert_eq!(arrivals, [1_000_000; 10]);
    }

    #[test]
    fn order_is_kept_only_where_it_is_asked_for() {
        let sorted = |in_order| {
            let mut network = network(0, 0, in_order);
            let arrivals: Vec<u64> = (0..100).filter_map(|n| network.send(n, A, B).first).collect();
            arrivals.is_sorted()
        };
        assert!(sorted(true));
        assert!(!sorted(false));
    }
}
