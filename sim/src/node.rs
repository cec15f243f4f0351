//! A simulated node: its roles with their mailboxes, its clock and its disk.

use std::collections::{BTreeMap, VecDeque};

use drachma_protocol::ids::{DirectoryId, GroupId, NodeId, Slot};
use drachma_protocol::ledger::{Genesis, Ledger};
use drachma_protocol::log::record::Recovered;
use drachma_protocol::message::client::Request;
use drachma_protocol::rng::Rng;
use drachma_protocol::role::{Address, Effects, Input, Role, RoleKind, Token};
use drachma_protocol::time::Time;

use crate::clock::{Clock, NOMINAL};
use crate::disk::{Disk, Refusal};
use crate::shape::Shape;

/// The parts of a ledger's tables: a run has few rows, and a thousand empty parts for each start of a replica cost more
/// than they.
pub const PARTS: usize = 16;

/// A role that the simulator hosts.
pub trait Hosted: Role {
    /// The replicated state, if this role has it: for the checkers.
    fn ledger(&self) -> Option<&Ledger> {
        None
    }

    /// Whether this role's promises count in a majority; for who is healed at the end.
    fn may_vote(&self) -> bool {
        true
    }
}

/// What the roles of a group on a node start from.
#[derive(Clone, Debug)]
pub struct Birth {
    /// Where.
    pub node: NodeId,
    /// Which group's.
    pub group: GroupId,
    /// The id of the node's data directory.
    pub directory: DirectoryId,
    /// What its disk held of the group.
    pub recovered: Recovered,
    /// The state at which its log begins, if that is a snapshot's.
    pub ledger: Option<Box<Ledger>>,
    /// Another one at each start.
    pub seed: u64,
    /// The node's wall clock, in microseconds since 1970.
    pub wall: u64,
}

/// Makes the roles of a node. The real ones are made in [`crate::roles`]; tests of the world make their own.
pub trait Assembly {
    /// The roles of a group on a node that starts with what it recovered.
    fn start(&self, birth: Birth) -> Vec<(RoleKind, Box<dyn Hosted>)>;

    /// What a group begins with, where there are ledgers.
    fn genesis(&self, group: GroupId) -> Option<Genesis>;

    /// Which role takes a client's request.
    fn takes(&self, request: &Request) -> RoleKind;
}

/// A role in its place.
pub struct Seat {
    /// Who it is.
    pub address: Address,
    /// The role.
    pub role: Box<dyn Hosted>,
    /// What has come and is not handed in.
    pub mailbox: VecDeque<Input>,
    /// What its step wants done; empty between two steps, kept for its memory.
    pub effects: Effects,
    /// It is owed a turn.
    pub turn: bool,
    /// When the simulator will look at its deadline, in simulated time.
    pub armed: Option<u64>,
    /// When the last thing that it reads back from the disk comes: answers keep the order of the questions.
    pub fetched: u64,
    /// How far the checkers have seen it apply.
    pub applied: Slot,
    /// How many of its posted transfers they have seen.
    pub posted: u64,
}

/// A node.
pub struct Node {
    /// Its name.
    pub id: NodeId,
    /// Counts its starts; what belongs to an earlier one is void.
    pub boot: u32,
    /// Its clocks.
    pub clocks: Clock,
    /// What its roles were told last: time does not go back for them.
    pub told: Time,
    /// How long each of its steps takes, in microseconds; mostly none.
    pub slow: u64,
    /// A step is under way that takes time.
    pub busy: bool,
    /// Its roles; none while it is down.
    pub seats: Vec<Seat>,
    /// It stands still.
    pub paused: bool,
    /// What it holds was damaged or wiped once in this run, so it cannot be relied on for what was chosen.
    pub damaged: bool,
    /// It cannot start any more in this run: what it holds cannot be used.
    pub lost: bool,
    /// The id of its data directory.
    pub directory: DirectoryId,
    /// Its log.
    pub disk: Disk,
    /// A sync is under way.
    pub syncing: bool,
    /// What the sync under way makes durable: seat and token.
    pub in_sync: Vec<(usize, Token)>,
    /// What the next sync will make durable.
    pub unsynced: Vec<(usize, Token)>,
    /// How many syncs have begun and ended in this run of the process.
    pub syncs: (u64, u64),
    /// What roles want read from the disk once so many syncs have ended.
    pub fetches: VecDeque<(u64, Wanted)>,
    /// Its own randomness.
    pub rng: Rng,
}

/// Entries that a role wants back from the disk.
#[derive(Clone, Copy, Debug)]
pub struct Wanted {
    /// Whose role.
    pub seat: usize,
    /// The first.
    pub from: Slot,
    /// Behind the last.
    pub until: Slot,
    /// About how many bytes of them.
    pub bytes: usize,
}

impl Node {
    /// A node of these groups that has never run.
    pub fn new(id: NodeId, groups: Vec<GroupId>, rng: Rng) -> Node {
        let directory = Shape::directory(id);
        Node {
            id,
            boot: 0,
            clocks: Clock::new(NOMINAL),
            told: Time(0),
            slow: 0,
            busy: false,
            seats: Vec::new(),
            paused: false,
            damaged: false,
            lost: false,
            directory,
            disk: Disk::new(id, directory, groups),
            syncing: false,
            in_sync: Vec::new(),
            unsynced: Vec::new(),
            syncs: (0, 0),
            fetches: VecDeque::new(),
            rng,
        }
    }

    /// Whether it runs, paused or not.
    pub fn is_up(&self) -> bool {
        !self.seats.is_empty()
    }

    /// Its own clock.
    pub fn clock(&self, now: u64) -> Time {
        self.clocks.now(now)
    }

    /// The process begins: its roles come from what is on the disk.
    ///
    /// # Errors
    /// If what is on the disk does not let it.
    pub fn start(&mut self, now: u64, groups: &[GroupId], assembly: &dyn Assembly) -> Result<(), Refusal> {
        assert!(!self.is_up(), "a node runs once at a time");
        let mut recovered: BTreeMap<GroupId, Recovered> = self.disk.start()?;
        let mut births = Vec::new();
        for group in groups {
            let recovered = recovered.remove(group).unwrap_or_default();
            let seed = self.rng.next_u64();
            let genesis = assembly.genesis(*group).filter(|_| recovered.start > Slot(0));
            let load = |genesis: &Genesis| self.disk.load(recovered.start, seed, genesis, PARTS);
            let ledger = genesis.as_ref().map(load).transpose()?.map(Box::new);
            let wall = self.clocks.wall(now);
            births.push(Birth {
                node: self.id,
                group: *group,
                directory: self.directory,
                recovered,
                ledger,
                seed,
                wall,
            });
        }
        self.boot += 1;
        self.clocks.start(now);
        self.told = Time(0);
        for birth in births {
            let group = birth.group;
            for (role, hosted) in assembly.start(birth) {
                let address = Address { node: self.id, group, role };
                self.seats.push(Seat {
                    address,
                    role: hosted,
                    mailbox: VecDeque::new(),
                    effects: Effects::new(address),
                    turn: true,
                    armed: None,
                    fetched: 0,
                    applied: Slot(0),
                    posted: 0,
                });
            }
        }
        Ok(())
    }

    /// The process ends, and all that it had in memory.
    pub fn stop(&mut self) {
        self.seats.clear();
        self.in_sync.clear();
        self.unsynced.clear();
        self.fetches.clear();
        (self.syncing, self.paused, self.busy, self.syncs) = (false, false, false, (0, 0));
    }

    /// The seat of a role.
    pub fn seat_of(&self, address: Address) -> Option<usize> {
        self.seats.iter().position(|seat| seat.address == address)
    }

    /// Puts something into a mailbox, if there is such a role.
    pub fn put(&mut self, address: Address, input: Input) -> bool {
        let seat = self.seat_of(address);
        if let Some(seat) = seat {
            self.seats[seat].mailbox.push_back(input);
        }
        seat.is_some()
    }

    /// Brings what has come into another order, as far as it was sent by different ones: it has lain in different
    /// sockets while the process stood still, and these are read in any order.
    pub fn mix(&mut self) {
        let Node { id, seats, rng, .. } = self;
        for seat in seats {
            let mut ways: BTreeMap<(u64, NodeId), VecDeque<Input>> = BTreeMap::new();
            for input in seat.mailbox.drain(..) {
                let way = match &input {
                    Input::Message { from, .. } => (0, from.node),
                    Input::Request { origin, .. } => (origin.connection + 1, *id),
                    _ => (0, *id),
                };
                ways.entry(way).or_default().push_back(input);
            }
            let mut ways: Vec<VecDeque<Input>> = ways.into_values().collect();
            while !ways.is_empty() {
                let way = rng.below(ways.len() as u64) as usize;
                seat.mailbox.extend(ways[way].pop_front());
                ways.retain(|way| !way.is_empty());
            }
        }
    }

    /// Takes out what others have sent, in the order in which it is to be read: as it lies in each mailbox, which of the
    /// mailboxes is next being drawn.
    pub fn unread(&mut self) -> Vec<(Address, Input)> {
        let Node { id, seats, rng, .. } = self;
        let (mut taken, mut left): (Vec<(Address, VecDeque<Input>)>, usize) = (Vec::new(), 0);
        for seat in seats {
            let is_sent = |input: &Input| match input {
                Input::Message { from, .. } => from.node != *id,
                Input::Request { .. } => true,
                _ => false,
            };
            let (sent, kept): (VecDeque<Input>, VecDeque<Input>) = seat.mailbox.drain(..).partition(is_sent);
            seat.mailbox = kept;
            left += sent.len();
            taken.push((seat.address, sent));
        }
        let mut order = Vec::with_capacity(left);
        while order.len() < left {
            taken.retain(|(_, sent)| !sent.is_empty());
            let next = rng.below(taken.len() as u64) as usize;
            let (to, sent) = &mut taken[next];
            order.extend(sent.pop_front().map(|input| (*to, input)));
        }
        order
    }

    /// A seat that has something to do, drawn among all that have.
    pub fn next_seat(&mut self) -> Option<usize> {
        let busy = |seat: &&Seat| seat.turn || !seat.mailbox.is_empty();
        let count = self.seats.iter().filter(busy).count();
        if count == 0 {
            return None;
        }
        let chosen = self.rng.below(count as u64) as usize;
        self.seats.iter().enumerate().filter(|(_, seat)| busy(seat)).nth(chosen).map(|(index, _)| index)
    }
}
