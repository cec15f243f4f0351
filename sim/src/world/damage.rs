//! Disks that come to harm, and what a group can bear of that.
//!
//! # Which damage is done
//!
//! A bit that flips or a write that goes elsewhere may take a record away that its replica has acknowledged. Such a node
//! counts as damaged for the rest of the run. Damage is done only so that **in every group a majority of the nodes is
//! never damaged**. Why that is enough for agreement: an entry is chosen when a majority has it, and two majorities
//! share a node, so an undamaged node always has it. What a damaged node makes of its disk is one of these:
//!
//! - It sees the damage and stays down: a crash for good, of a minority.
//! - It sees a doubtful end: it counts in an election only when every replica is heard, the undamaged holder among them,
//!   or waits for the synchronisation of a leader elected by others (hazard S28).
//! - It mends what it has twice: a slot of a promise.
//! - It has another directory id: its group does not admit it.
//!
//! In none of them does it vote with less than it had acknowledged, unknown to all. One case would: the very last write
//! of a node, lost or gone elsewhere so that zeros are left, is one that was never made, as far as anybody can tell. An
//! entry that just one majority has accepted would be lost by a single such node, undamaged majority or not: {A, B} have
//! it, A forgets it, {A, C} elect without it. So a misdirected write is never the last one of its disk, unless it fell
//! upon the log's own bytes before it, or behind it in the same segment, where it shows.
//!
//! # What keeps a group alive
//!
//! A group whose every sure replica is in doubt can elect only if it hears all; with one of them lost it would be stuck
//! for ever, and rightly so. So no torn write (a power loss or a failed sync: what makes doubt without damage) happens to the other nodes of
//! a group that has a damaged one, and none is damaged while an undamaged one is in doubt. A group's first leader needs
//! every replica, so none is damaged before a majority of undamaged ones has the first entry.

use drachma_protocol::ids::{DirectoryId, GroupId};
use drachma_protocol::log::segment::{HEAD, HEADER, claimed_length};

use super::{Event, World};
use crate::checkers::Class;
use crate::coverage::Kind;
use crate::disk::device::File;
use crate::disk::{Crash, Refusal, Trouble};
use crate::draw::{between, pick};
use crate::faults::Harm;

/// How long a node that could not start waits at least until it is started again, in microseconds.
const RETRY: u64 = 50_000;

impl World<'_> {
    /// Does this harm to a node's disk, if its groups can bear it.
    pub(super) fn damage(&mut self, node: usize, harm: Harm, length: u64) {
        let done = match harm {
            Harm::Rot => self.may_damage(node) && self.rot(node),
            Harm::Misdirect => self.may_damage(node) && self.misplace(node),
            Harm::Wipe { formatted } => self.may_damage(node) && self.wipe(node, formatted, length),
            Harm::Misread => self.expect(node, Trouble::Misread),
            Harm::Fill => self.expect(node, |_| Trouble::Full),
            Harm::FailSync => !self.is_hurt(node) && self.expect(node, |at| Trouble::FailedSync((at % 4) as u32)),
        };
        if !done {
            return;
        }
        let id = self.nodes[node].id;
        self.count(
            Kind::Damage,
            match harm {
                Harm::Rot => "bit flipped",
                Harm::Misdirect => "write misdirected",
                Harm::Wipe { formatted: false } => "directory wiped",
                Harm::Wipe { formatted: true } => "directory formatted anew",
                Harm::Misread | Harm::Fill | Harm::FailSync => "disk about to fail",
            },
        );
        self.trace.event(self.now, b"damage", || format!("{id}'s disk: {harm:?}"));
        // Damage is mostly found at the next start.
        if matches!(harm, Harm::Rot | Harm::Misdirect) && self.rng.chance(60) {
            let crash = if self.rng.chance(50) { Crash::Kill } else { Crash::PowerLoss { torn: 0 } };
            self.crash(node, crash, length);
        }
    }

    fn groups_of(&self, node: usize) -> Vec<GroupId> {
        self.swarm.shape.groups_on(self.nodes[node].id)
    }

    /// Whether every group of a node keeps a majority of undamaged nodes, none of them in doubt, if this one is damaged.
    fn may_damage(&self, node: usize) -> bool {
        self.groups_of(node).into_iter().all(|group| {
            let members = self.swarm.shape.members(group);
            let others = self.nodes.iter().enumerate().filter(|(index, n)| *index != node && members.contains(&n.id));
            let mut whole = others.filter(|(_, other)| !other.damaged).map(|(_, other)| other);
            let begun = whole.clone().filter(|other| other.disk.has_begun(group)).count();
            begun * 2 > members.len() && !whole.any(|other| other.disk.is_doubtful())
        })
    }

    /// Whether a group of a node has a damaged replica.
    fn is_hurt(&self, node: usize) -> bool {
        self.groups_of(node).into_iter().any(|group| {
            let members = self.swarm.shape.members(group);
            self.nodes.iter().any(|other| other.damaged && members.contains(&other.id))
        })
    }

    /// A crash that leaves no torn write where a group could not bear the doubt.
    pub(super) fn bearable(&self, node: usize, crash: Crash) -> Crash {
        match crash {
            Crash::PowerLoss { .. } if self.is_hurt(node) => Crash::PowerLoss { torn: 0 },
            crash => crash,
        }
    }

    fn rot(&mut self, node: usize) -> bool {
        let host = &mut self.nodes[node];
        let files = host.disk.device().files();
        let (file, size) = pick(&mut host.rng, &files);
        let bytes = host.disk.device().bytes(file);
        // Mostly where something is written.
        let used = bytes.iter().rposition(|byte| *byte != 0).map_or(size, |last| last + 1);
        let until = if host.rng.chance(90) { used } else { size };
        if until == 0 {
            return false;
        }
        let at = host.rng.below(until as u64) as usize;
        let flipped = bytes[at] ^ (1 << host.rng.below(8));
        host.disk.device_mut().damage(file, at, &[flipped]);
        host.damaged = true;
        true
    }

    /// A record is not where it should be, but over or behind others.
    fn misplace(&mut self, node: usize) -> bool {
        let host = &mut self.nodes[node];
        let segments: Vec<File> = host
            .disk
            .device()
            .files()
            .into_iter()
            .map(|(file, _)| file)
            .filter(|f| matches!(f, File::Segment(_)))
            .collect();
        let file = pick(&mut host.rng, &segments);
        let bytes = host.disk.device().bytes(file).to_vec();
        let records = records(&bytes);
        let Some(end) = records.last().map(|(start, length)| start + length) else { return false };
        let (from, length) = pick(&mut host.rng, &records);
        // Within the records, or right behind them.
        let to = between(&mut host.rng, u64::from(HEADER), end as u64 + 4096) as usize;
        if to == from || to + length > bytes.len() {
            return false;
        }
        let device = host.disk.device_mut();
        device.damage(file, from, &vec![0; length]);
        device.damage(file, to, &bytes[from..from + length]);
        host.damaged = true;
        true
    }

    fn wipe(&mut self, node: usize, formatted: bool, length: u64) -> bool {
        self.crash(node, Crash::PowerLoss { torn: 0 }, length);
        let host = &mut self.nodes[node];
        if host.is_up() {
            return false;
        }
        host.disk.wipe();
        host.damaged = true;
        if formatted {
            host.directory = DirectoryId(u128::from(host.rng.next_u64()) | 1 << 100);
            host.disk.format(host.directory);
        }
        true
    }

    fn expect(&mut self, node: usize, trouble: impl Fn(u64) -> Trouble) -> bool {
        let host = &mut self.nodes[node];
        let at = host.rng.next_u64();
        host.disk.device_mut().expect(trouble(at));
        host.is_up()
    }

    /// A disk that has failed once is not asked again: the process ends.
    pub(super) fn disk_failed(&mut self, node: usize, refusal: &Refusal) {
        let id = self.nodes[node].id;
        if let Refusal::Broken(text) = refusal {
            return self.fail("durability", Class::Safety, format!("{id}: {text}"));
        }
        self.count(Kind::Damage, "stopped by its disk");
        self.trace.event(self.now, b"disk", || format!("{id} stops: {refusal}"));
        let length = RETRY + between(&mut self.rng, 0, 1_000_000);
        self.crash(node, Crash::Kill, length);
        self.nodes[node].disk.device_mut().relieve();
    }

    /// Whether a node goes down again before it has recovered.
    pub(super) fn is_interrupted(&mut self, node: usize) -> bool {
        if self.healed || self.swarm.kinds.is_empty() || self.nodes[node].boot == 0 || !self.rng.chance(5) {
            return false;
        }
        let torn = if self.rng.chance(50) { 1000 } else { 0 };
        let crash = if self.rng.chance(30) { Crash::Kill } else { Crash::PowerLoss { torn } };
        let crash = self.bearable(node, crash);
        let host = &mut self.nodes[node];
        host.disk.start_in_vain(crash, &mut host.rng);
        self.count(Kind::Damage, "crash while it starts");
        true
    }

    pub(super) fn start_later(&mut self, node: usize) {
        let boot = self.nodes[node].boot;
        self.at(self.now + RETRY, Event::Start { node, boot });
    }

    /// A node does not start.
    pub(super) fn not_started(&mut self, node: usize, refusal: &Refusal) {
        let host = &mut self.nodes[node];
        let (id, damaged) = (host.id, host.damaged);
        host.disk.crash(Crash::Kill, &mut host.rng);
        self.trace.event(self.now, b"refused", || format!("{id} does not start: {refusal}"));
        match refusal {
            Refusal::Broken(text) => self.fail("durability", Class::Safety, format!("{id}: {text}")),
            Refusal::Failed(_) => {
                self.nodes[node].disk.device_mut().relieve();
                self.start_later(node);
            }
            Refusal::Unusable(_) | Refusal::NotFormatted if damaged => {
                self.count(Kind::Damage, "refuses its disk");
                self.lose_for_good(node);
            }
            _ => self.fail("durability", Class::Safety, format!("{id} was never damaged and refuses: {refusal}")),
        }
    }
}

/// Where the records of a segment stand: offset and length.
fn records(bytes: &[u8]) -> Vec<(usize, usize)> {
    let mut found = Vec::new();
    let mut at = HEADER as usize;
    while let Some(length) = bytes.get(at..).and_then(claimed_length) {
        if at + length as usize > bytes.len() || length < HEAD {
            break;
        }
        found.push((at, length as usize));
        at += length as usize;
    }
    found
}
