//! The simulated network: when, how often, and in what state something sent arrives, if at all.
//!
//! Two endpoints are joined by a connection, each direction of which is a stream of frames. A connection can break: what
//! is under way on the broken direction is lost, and a new connection takes a while. Copies and stragglers are on ways
//! of their own: they stand for older connections, on which something still lies.

use std::collections::{BTreeMap, BTreeSet};

use drachma_protocol::ids::NodeId;
use drachma_protocol::rng::Rng;

use crate::draw::{between, exponential, per_100_000, permille};

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
    /// In how many of 100,000 frames bits or bytes are changed.
    pub corrupt: u64,
    /// In the middle of how many of 100,000 frames the connection breaks.
    pub truncate: u64,
    /// Of how many of 100,000 frames between nodes a copy goes to a role that it was not meant for.
    pub misdirect: u64,
    /// Of how many of 100,000 frames with entries of a log a copy comes, under a good checksum, with bytes that are none.
    pub mangle: u64,
    /// The mean time until a broken connection is made again, in microseconds.
    pub reconnect: u64,
}

impl NetworkOptions {
    /// A network that delays messages and does nothing else to them.
    pub fn calm(mean_delay: u64) -> NetworkOptions {
        NetworkOptions {
            mean_delay,
            loss: 0,
            duplicate: 0,
            straggler: 0,
            straggler_delay: 0,
            in_order: true,
            corrupt: 0,
            truncate: 0,
            misdirect: 0,
            mangle: 0,
            reconnect: 1,
        }
    }
}

/// A directed link.
pub type Link = (Endpoint, Endpoint);

/// What is done to a frame on its way.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Damage {
    /// Nothing.
    None,
    /// Some of its bits are others.
    Corrupted,
    /// Only its beginning arrives, and the connection breaks.
    Truncated,
}

/// When and how a frame arrives.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Arrival {
    /// When, in microseconds.
    pub at: u64,
    /// On which connection; none if it is on a way of its own.
    pub life: Option<u32>,
    /// In what state.
    pub damage: Damage,
}

/// What becomes of a message.
#[derive(Debug, Default, Eq, PartialEq)]
pub struct Fate {
    /// How it arrives; none if it is lost.
    pub first: Option<Arrival>,
    /// When a copy of it arrives, whole.
    pub second: Option<Arrival>,
    /// It takes longer than a whole transaction.
    pub straggles: bool,
}

#[derive(Debug, Default)]
struct State {
    // How many partitions cut the link now.
    cuts: u32,
    clogged: u64,
    // The last arrival, where order is kept.
    last: u64,
    // Counts the connections.
    life: u32,
    // Until then there is none.
    broken: u64,
    stream: Stream,
}

/// What has come on a direction of a connection and is no whole frame yet.
#[derive(Debug, Default)]
pub struct Stream {
    /// The bytes.
    pub bytes: Vec<u8>,
    /// Some of them are not as they were sent.
    pub tainted: bool,
}

/// The state of all links.
pub struct Network {
    options: NetworkOptions,
    rng: Rng,
    links: BTreeMap<Link, State>,
}

impl Network {
    /// A network without partitions.
    pub fn new(options: NetworkOptions, rng: Rng) -> Network {
        Network { options, rng, links: BTreeMap::new() }
    }

    /// Decides about a message that is sent now.
    pub fn send(&mut self, now: u64, from: Endpoint, to: Endpoint) -> Fate {
        let Network { options, rng, links } = self;
        let state = links.entry((from, to)).or_default();
        if state.cuts > 0 || now < state.broken || permille(rng, options.loss) {
            return Fate::default();
        }
        let alone = |at| Some(Arrival { at, life: None, damage: Damage::None });
        let straggles = permille(rng, options.straggler);
        let first = if straggles {
            alone(now + between(rng, 1, options.straggler_delay.max(1)))
        } else {
            let mut at = now + 1 + exponential(rng, options.mean_delay);
            if at < state.clogged {
                // A burst, in its order or in any.
                at = state.clogged + if options.in_order { 0 } else { exponential(rng, options.mean_delay) };
            }
            if options.in_order {
                at = at.max(state.last);
                state.last = at;
            }
            let damage = if per_100_000(rng, options.truncate) {
                Damage::Truncated
            } else if per_100_000(rng, options.corrupt) {
                Damage::Corrupted
            } else {
                Damage::None
            };
            Some(Arrival { at, life: Some(state.life), damage })
        };
        let second = permille(rng, options.duplicate).then(|| now + exponential(rng, options.mean_delay * 20) + 1);
        Fate { first, second: second.and_then(alone), straggles }
    }

    /// Whether a copy of this frame goes astray.
    pub fn misdirects(&mut self) -> bool {
        per_100_000(&mut self.rng, self.options.misdirect)
    }

    /// Whether a copy of this frame comes with other entries.
    pub fn mangles(&mut self) -> bool {
        per_100_000(&mut self.rng, self.options.mangle)
    }

    /// What arrives of a frame that is damaged so.
    pub fn damaged(&mut self, damage: Damage, frame: &[u8]) -> Vec<u8> {
        let mut bytes = frame.to_vec();
        match damage {
            Damage::None => {}
            Damage::Truncated => bytes.truncate(self.rng.below(frame.len() as u64) as usize),
            Damage::Corrupted => {
                // A bit, a byte, or some of both; the header as often as the body. Nothing is ever put back.
                let mut places: BTreeSet<usize> = BTreeSet::new();
                for _ in 0..=self.rng.below(4) {
                    let end = if self.rng.chance(50) { frame.len().min(20) } else { frame.len() };
                    places.insert(self.rng.below(end as u64) as usize);
                }
                for place in places {
                    let bit = 1 << self.rng.below(8);
                    let change = if self.rng.chance(50) { bit } else { between(&mut self.rng, 1, 255) as u8 };
                    bytes[place] ^= change;
                }
            }
        }
        bytes
    }

    /// Whether nothing passes a link now.
    pub fn is_cut(&self, link: Link) -> bool {
        self.links.get(&link).is_some_and(|state| state.cuts > 0)
    }

    /// Whether the connection on which a frame was sent still holds.
    pub fn holds(&self, link: Link, life: u32) -> bool {
        self.links.get(&link).is_some_and(|state| state.life == life)
    }

    /// What has come on a link and is no whole frame yet, and the number of its connection.
    pub fn stream(&mut self, link: Link) -> (&mut Stream, u32) {
        let state = self.links.entry(link).or_default();
        (&mut state.stream, state.life)
    }

    /// The connection breaks in this direction: what is under way in it is lost, and for a while nobody can send.
    pub fn break_off(&mut self, now: u64, link: Link) {
        let until = now + 1 + exponential(&mut self.rng, self.options.reconnect);
        let state = self.links.entry(link).or_default();
        state.life += 1;
        state.broken = until;
        state.stream = Stream::default();
        self.links.entry((link.1, link.0)).or_default().broken = until;
    }

    /// Forgets what somebody who went down had received of unfinished frames.
    pub fn forget(&mut self, endpoint: Endpoint) {
        for (link, state) in &mut self.links {
            if link.0 == endpoint || link.1 == endpoint {
                state.stream = Stream::default();
            }
        }
    }

    /// Cuts links, until [`Network::mend`] is called as often.
    pub fn cut(&mut self, links: &BTreeSet<Link>) {
        for link in links {
            self.links.entry(*link).or_default().cuts += 1;
        }
    }

    /// Undoes one [`Network::cut`].
    pub fn mend(&mut self, links: &BTreeSet<Link>) {
        for link in links {
            if let Some(state) = self.links.get_mut(link) {
                state.cuts = state.cuts.saturating_sub(1);
            }
        }
    }

    /// Nothing passes a link until then; what was sent meanwhile arrives in a burst.
    pub fn clog(&mut self, link: Link, until: u64) {
        let state = self.links.entry(link).or_default();
        state.clogged = state.clogged.max(until);
    }

    /// Ends every fault, but for links that are to stay cut. What is under way stays under way, but for what is clogged:
    /// its connection is made anew.
    pub fn heal(&mut self, now: u64, cut: &BTreeSet<Link>) {
        for state in self.links.values_mut() {
            if state.clogged > now {
                (state.life, state.last, state.stream) = (state.life + 1, now, Stream::default());
            }
            (state.cuts, state.clogged, state.broken) = (0, 0, 0);
        }
        self.options = NetworkOptions {
            loss: 0,
            duplicate: 0,
            straggler: 0,
            corrupt: 0,
            truncate: 0,
            misdirect: 0,
            ..self.options
        };
        self.cut(cut);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: Endpoint = Endpoint::Node(NodeId(1));
    const B: Endpoint = Endpoint::Node(NodeId(2));

    fn network(options: NetworkOptions) -> Network {
        Network::new(options, Rng::new(9))
    }

    fn calm() -> NetworkOptions {
        NetworkOptions::calm(1000)
    }

    fn arrival(network: &mut Network, now: u64) -> Option<u64> {
        network.send(now, A, B).first.map(|arrival| arrival.at)
    }

    #[test]
    fn messages_are_lost_and_doubled_at_their_rates() {
        let mut network = network(NetworkOptions { loss: 100, duplicate: 200, ..calm() });
        let fates: Vec<Fate> = (0..1000).map(|_| network.send(0, A, B)).collect();
        let lost = fates.iter().filter(|fate| fate.first.is_none()).count();
        let doubled = fates.iter().filter(|fate| fate.second.is_some()).count();
        assert!((50..150).contains(&lost), "{lost}");
        assert!((130..230).contains(&doubled), "{doubled}");
    }

    #[test]
    fn a_cut_has_a_direction_and_cuts_overlap() {
        let mut network = network(calm());
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
    fn healing_leaves_cut_what_is_to_stay_cut() {
        let mut network = network(NetworkOptions { loss: 1000, ..calm() });
        network.cut(&BTreeSet::from([(A, B), (B, A)]));
        network.heal(0, &BTreeSet::from([(A, B)]));
        assert!(network.is_cut((A, B)) && !network.is_cut((B, A)));
        assert!(network.send(0, B, A).first.is_some());
    }

    #[test]
    fn healing_does_not_wait_for_what_is_clogged() {
        let mut network = network(calm());
        network.clog((A, B), 1_000_000);
        let life = network.send(0, A, B).first.and_then(|arrival| arrival.life).unwrap();
        network.heal(5, &BTreeSet::new());
        assert!(!network.holds((A, B), life));
        assert!(arrival(&mut network, 5).is_some_and(|at| at < 1_000_000));
    }

    #[test]
    fn a_clogged_link_ends_in_a_burst() {
        let mut network = network(calm());
        network.clog((A, B), 1_000_000);
        network.clog((A, B), 500_000);
        let arrivals: Vec<u64> = (0..10).filter_map(|n| arrival(&mut network, n)).collect();
        assert_eq!(arrivals, [1_000_000; 10]);
    }

    #[test]
    fn order_is_kept_only_where_it_is_asked_for() {
        let sorted = |in_order| {
            let mut network = network(NetworkOptions { in_order, ..calm() });
            let arrivals: Vec<u64> = (0..100).filter_map(|n| arrival(&mut network, n)).collect();
            arrivals.is_sorted()
        };
        assert!(sorted(true));
        assert!(!sorted(false));
    }

    #[test]
    fn a_connection_that_breaks_takes_with_it_what_is_under_way_in_its_direction() {
        let mut network = network(calm());
        let life = |fate: Fate| fate.first.and_then(|arrival| arrival.life).unwrap();
        let (there, back) = (life(network.send(0, A, B)), life(network.send(0, B, A)));
        network.break_off(5, (A, B));
        assert!(!network.holds((A, B), there) && network.holds((B, A), back));
        assert_eq!(network.send(5, A, B), Fate::default(), "there is no connection yet");
        assert!(network.send(1000, A, B).first.is_some());
    }

    #[test]
    fn what_is_damaged_is_never_as_it_was() {
        let mut network = network(calm());
        let frame: Vec<u8> = (0..200).collect();
        for _ in 0..1000 {
            assert_ne!(network.damaged(Damage::Corrupted, &frame), frame);
            let part = network.damaged(Damage::Truncated, &frame);
            assert!(part.len() < frame.len() && frame.starts_with(&part));
        }
    }
}
