//! What happens, and when: the queue of a world.

use std::collections::{BTreeSet, BinaryHeap};

use bytes::Bytes;

use drachma_protocol::ids::{NodeId, Slot};
use drachma_protocol::role::{Address, Input};

use crate::client::Alarm;
use crate::faults::Fall;
use crate::network::{Arrival, Link};

/// Something that happens at a point in time. Those with a boot belong to one run of a process.
#[derive(Debug)]
pub(super) enum Event {
    /// What arrives of a frame, damaged already.
    Frame {
        link: Link,
        arrival: Arrival,
        bytes: Bytes,
    },
    /// The rest of a frame did not come for long.
    Stall {
        link: Link,
        life: u32,
    },
    Alarm {
        client: u32,
        alarm: Alarm,
    },
    Timer {
        node: usize,
        boot: u32,
        seat: usize,
    },
    Again {
        node: usize,
        boot: u32,
        seat: usize,
    },
    /// Something comes to a role from within its node: what another role has told it comes once more, or what has lain in
    /// a socket. Boxed, because it is rare, and all events of the queue are as large as the largest.
    Echo {
        node: usize,
        boot: u32,
        to: Address,
        input: Box<Input>,
    },
    /// A Begin that lay on its way to its leader comes there, if its coordinator's node leads as it did.
    Late {
        number: u64,
    },
    /// A step that took time is over.
    Go {
        node: usize,
        boot: u32,
    },
    Synced {
        node: usize,
        boot: u32,
    },
    Fetched {
        node: usize,
        boot: u32,
        seat: usize,
        start: Slot,
        entries: Vec<Bytes>,
    },
    Snapshotted {
        node: usize,
        boot: u32,
        seat: usize,
        slot: Slot,
        bytes: u64,
    },
    SnapshotRead {
        node: usize,
        boot: u32,
        seat: usize,
        slot: Slot,
        offset: u64,
        piece: Option<Bytes>,
    },
    Link {
        node: usize,
        boot: u32,
        peer: NodeId,
        change: Change,
    },
    Fault,
    Mend(BTreeSet<Link>),
    Clog {
        node: NodeId,
        until: u64,
    },
    Start {
        node: usize,
        boot: u32,
    },
    /// A node that has not been up for long goes down again.
    Relapse {
        node: usize,
        boot: u32,
        falls: Vec<Fall>,
    },
    Resume {
        node: usize,
        boot: u32,
    },
    Hasten {
        node: usize,
        slow: u64,
    },
    /// Somebody asks what no good client asks.
    Strange,
    /// An operator wants another leader.
    Move,
    Sample,
    Heal,
    Rest,
    /// A leader is lost, to measure what follows.
    Strike,
}

/// What a node notices of its connection to another one.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Change {
    /// It can be reached.
    Up,
    /// It cannot be reached.
    Down,
    /// The connection broke, though there will be another one.
    Broken,
}

#[derive(Debug)]
struct Scheduled {
    at: u64,
    sequence: u64,
    event: Event,
}

impl Ord for Scheduled {
    // The first is the greatest.
    fn cmp(&self, other: &Scheduled) -> std::cmp::Ordering {
        (other.at, other.sequence).cmp(&(self.at, self.sequence))
    }
}

impl PartialOrd for Scheduled {
    fn partial_cmp(&self, other: &Scheduled) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Scheduled {
    fn eq(&self, other: &Scheduled) -> bool {
        self.sequence == other.sequence
    }
}

impl Eq for Scheduled {}

/// What is still to happen; of two events of one moment, the one that was added first.
#[derive(Debug, Default)]
pub(super) struct Queue {
    sequence: u64,
    heap: BinaryHeap<Scheduled>,
}

impl Queue {
    pub(super) fn push(&mut self, at: u64, event: Event) {
        self.sequence += 1;
        self.heap.push(Scheduled { at, sequence: self.sequence, event });
    }

    pub(super) fn pop(&mut self) -> Option<(u64, Event)> {
        self.heap.pop().map(|scheduled| (scheduled.at, scheduled.event))
    }

    #[cfg(test)]
    pub(super) fn next_at(&self) -> Option<u64> {
        self.heap.peek().map(|scheduled| scheduled.at)
    }
}
