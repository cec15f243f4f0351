//! Snapshots: they bound the log, and bring a replica back that lags behind where the logs of the others begin.
//!
//! **Taking one.** When enough of the log is applied, the replica makes an image of its state, which costs next to
//! nothing, and has it written while it goes on. Once it is durable a record says that the log begins there. Enough is
//! what the configuration says, or as much as the last snapshot has, if that is more: so the disk writes of snapshots
//! never more than it writes of entries, however large the state grows. The leader waits longer than the others, so that
//! they take turns and it comes last.
//!
//! **Giving it away.** Whoever is asked for entries that it no longer has offers its snapshot instead; the other one asks
//! for it piece by piece, each with a checksum, and goes on where it was if one is lost. Meanwhile no newer snapshot
//! takes its place, unless this one turns out to be damaged: the state itself is in memory.
//!
//! **Taking it in.** The pieces become a state in memory, whose digest must be right. It is used only once it is durable
//! here like a snapshot of one's own: the log has no entries before it. What this replica had accepted beyond it stays.
//! If that does not follow what is chosen, some majority has accepted under a higher ballot, and it counts no more than
//! it did before; nothing that this replica has said is taken back.

use bytes::Bytes;

use crate::ids::{NodeId, Slot};
use crate::ledger::Ledger;
use crate::log::record::Record;
use crate::log::snapshot::Loader;
use crate::message::PaxosMessage;
use crate::message::paxos::{FetchSnapshot, SnapshotPiece};
use crate::planted::{Bug, is_planted};
use crate::role::{Effect, Effects, RoleKind};
use crate::time::{Span, Time};

use super::Replica;

/// A snapshot that was asked for within this time is not replaced, unless the log gets very long.
const HOLD: Span = Span::from_millis(1_000);

/// So often a piece is asked for of the same replica.
const TRIES: u32 = 5;

/// The most questions about the own snapshot that may wait for the disk.
const READ_LIMIT: usize = 16;

/// What a replica knows about its snapshots.
#[derive(Clone, Debug, Default)]
pub(super) struct Snapshots {
    // Where the log on disk begins: the state before is in the snapshot of that slot.
    pub(super) start: Slot,
    // Bytes of entries applied since the last snapshot.
    applied: u64,
    // How large the last one was; unknown after a start.
    size: u64,
    // The log is waiting for the next one.
    due: bool,
    // The one that is being written.
    writing: Option<Slot>,
    // Fetched from another replica, and not yet durable.
    fetched: Option<Box<Ledger>>,
    // Fetched, and durable: the state from the next turn on.
    ready: Option<Box<Ledger>>,
    // The own one was asked for: no newer one for a while.
    asked: Option<Time>,
    // The own one cannot be read: another one takes its place as soon as can be.
    damaged: bool,
    // For whom it is being read.
    reads: std::collections::VecDeque<NodeId>,
    loading: Option<Loading>,
}

/// A snapshot that is being fetched.
#[derive(Clone, Debug)]
struct Loading {
    loader: Loader,
    tries: u32,
}

impl Snapshots {
    pub(super) fn starting_at(start: Slot) -> Snapshots {
        Snapshots { start, ..Snapshots::default() }
    }

    /// Takes note of an entry that is applied.
    pub(super) fn on_entry(&mut self, bytes: usize) {
        self.applied += bytes as u64;
    }

    /// How many bytes are applied between two snapshots: the one of so many replicas whose turn comes last waits longest.
    fn patience(&self, every: u64, turn: usize, replicas: usize) -> u64 {
        let every = every.max(self.size);
        every.saturating_add(every / replicas as u64 * turn as u64)
    }
}

impl Replica {
    /// Begins a snapshot if it is time, between two entries.
    pub(super) fn take_snapshot(&mut self, effects: &mut Effects) {
        let snapshots = &self.snapshots;
        let busy = self.ledger.is_busy() || snapshots.writing.is_some() || snapshots.loading.is_some();
        let patience = self.patience();
        let held = snapshots.asked.is_some_and(|at| self.now < at + HOLD) && snapshots.applied / 4 < patience;
        let due = !held && (snapshots.applied >= patience || snapshots.due) && self.ledger.applied() > snapshots.start;
        if busy || !(due || snapshots.damaged) {
            return;
        }
        let slot = self.ledger.applied();
        self.snapshots.damaged = false;
        self.snapshots.writing = Some(slot);
        (self.snapshots.applied, self.snapshots.due) = (0, false);
        effects.push(Effect::Snapshot(self.ledger.image()));
        if is_planted(Bug::SnapshotNotAwaited) {
            self.snapshots.start = slot;
            self.persist(vec![Record::Snapshot(slot)], effects);
        }
    }

    /// The log is long for the sake of this group: little happens in it, and much in others of the node.
    pub(super) fn on_snapshot_due(&mut self, effects: &mut Effects) {
        self.snapshots.due = true;
        effects.trace("snapshot_due", || format!("{} bytes after the last", self.snapshots.applied));
    }

    /// How many bytes are applied between two snapshots. The replicas take turns, the leader comes last.
    fn patience(&self) -> u64 {
        let nodes = &self.config.nodes;
        let place = |node: NodeId| nodes.iter().position(|other| *other == node).unwrap_or(0);
        let leader = self.leader.map_or(0, |(node, _)| place(node));
        let turn = (place(self.config.node) + nodes.len() - leader - 1) % nodes.len();
        self.snapshots.patience(self.config.snapshot_every, turn, nodes.len())
    }

    /// A snapshot is durable: from now on the log begins there.
    pub(super) fn on_snapshotted(&mut self, slot: Slot, bytes: u64, effects: &mut Effects) {
        assert_eq!(self.snapshots.writing.take(), Some(slot), "the shell writes the snapshot that it is given");
        let fetched = self.snapshots.fetched.take();
        if slot < self.snapshots.start {
            return; // It was fetched, and meanwhile a newer one was taken.
        }
        (self.snapshots.start, self.snapshots.size) = (slot, bytes);
        self.persist(vec![Record::Snapshot(slot)], effects);
        effects.note("snapshot", format!("at {slot}: the log begins there"));
        self.snapshots.ready = fetched.filter(|ledger| ledger.applied() > self.ledger.applied());
        if self.snapshots.ready.is_some() {
            self.log.skip_to(slot);
        }
        effects.push(Effect::Again);
    }

    /// The state of another replica takes the place of this one's.
    pub(super) fn install(&mut self, effects: &mut Effects) {
        let Some(ledger) = self.snapshots.ready.take() else { return };
        effects.note("snapshot_installed", format!("from {} to {}", self.ledger.applied(), ledger.applied()));
        self.ledger = *ledger;
        self.backlog.clear();
        self.snapshots.applied = 0;
        self.on_state(&mut Vec::new(), effects);
        self.go_on_catching_up(effects);
    }

    /// Offers the own snapshot to one that asks for entries before it.
    pub(super) fn offer_snapshot(&mut self, node: NodeId, effects: &mut Effects) {
        self.snapshots.asked = Some(self.now);
        let offer = SnapshotPiece { slot: self.snapshots.start, offset: 0, piece: Bytes::new() };
        effects.send_paxos(node, RoleKind::Replica, PaxosMessage::SnapshotPiece(offer));
    }

    /// Another replica wants a piece of a snapshot.
    pub(super) fn on_fetch_snapshot(&mut self, node: NodeId, fetch: &FetchSnapshot, effects: &mut Effects) {
        if fetch.slot != self.snapshots.start || fetch.slot == Slot(0) {
            // It has gone. Whoever still needs one asks for entries again, and learns which there is.
            effects.trace("snapshot_gone", || format!("{} for {node}", fetch.slot));
            return;
        }
        self.snapshots.asked = Some(self.now);
        if self.snapshots.reads.len() < READ_LIMIT {
            self.snapshots.reads.push_back(node);
            effects.push(Effect::ReadSnapshot { slot: fetch.slot, offset: fetch.offset });
        }
    }

    /// A piece of the own snapshot, for the one that has asked.
    pub(super) fn on_snapshot_read(&mut self, slot: Slot, offset: u64, piece: Option<Bytes>, effects: &mut Effects) {
        let node = self.snapshots.reads.pop_front().expect("the shell answers what it was asked");
        let Some(piece) = piece else {
            effects.note("snapshot_gone", format!("{slot} at {offset} cannot be read, for {node}"));
            self.snapshots.damaged |= slot == self.snapshots.start;
            effects.push(Effect::Again);
            return;
        };
        let message = SnapshotPiece { slot, offset, piece };
        effects.send_paxos(node, RoleKind::Replica, PaxosMessage::SnapshotPiece(message));
    }

    /// A piece of a snapshot, or the offer of one.
    pub(super) fn on_snapshot_piece(&mut self, node: NodeId, message: &SnapshotPiece, effects: &mut Effects) {
        let wanted = self.catch_up.as_ref().is_some_and(|catch_up| catch_up.from == node);
        let newer = message.slot > self.ledger.applied() && message.slot > self.log.chosen();
        if !wanted || !newer || self.snapshots.writing.is_some() {
            return;
        }
        if message.piece.is_empty() {
            let slot = self.snapshots.loading.as_ref().map(|loading| loading.loader.slot());
            if slot != Some(message.slot) {
                effects.trace("snapshot_fetched", || format!("{} from {node}", message.slot));
                let loader = Loader::new(message.slot, self.config.seed, &self.config.genesis, self.config.parts);
                self.snapshots.loading = Some(Loading { loader, tries: 0 });
            }
            self.fetch_piece(node, effects);
            return;
        }
        let Some(loading) = &mut self.snapshots.loading else { return };
        if (loading.loader.slot(), loading.loader.offset()) != (message.slot, message.offset) {
            return; // It came twice.
        }
        loading.tries = 0;
        match loading.loader.push(&message.piece) {
            Ok(None) => self.fetch_piece(node, effects),
            Ok(Some(ledger)) => {
                self.snapshots.loading = None;
                let mut ledger = ledger;
                self.snapshots.writing = Some(ledger.applied());
                effects.push(Effect::Snapshot(ledger.image()));
                self.snapshots.fetched = Some(ledger);
            }
            Err(error) => {
                effects.note("ignore_snapshot", format!("{} from {node}: {error}", message.slot));
                self.snapshots.loading = None;
            }
        }
    }

    fn fetch_piece(&mut self, node: NodeId, effects: &mut Effects) {
        let Some(loading) = &self.snapshots.loading else { return };
        let fetch = FetchSnapshot { slot: loading.loader.slot(), offset: loading.loader.offset() };
        self.put_off_catch_up();
        effects.send_paxos(node, RoleKind::Replica, PaxosMessage::FetchSnapshot(fetch));
    }

    /// Time to ask again while catching up: returns whether a snapshot is what is waited for.
    pub(super) fn retry_snapshot(&mut self, node: NodeId, effects: &mut Effects) -> bool {
        if self.snapshots.fetched.is_some() || self.snapshots.ready.is_some() {
            self.put_off_catch_up();
            return true; // It is being written.
        }
        let Some(loading) = &mut self.snapshots.loading else { return false };
        loading.tries += 1;
        if loading.tries > TRIES {
            self.snapshots.loading = None;
            return false;
        }
        self.fetch_piece(node, effects);
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_log_grows_as_long_as_the_last_snapshot_and_the_replicas_take_turns() {
        let of_size = |size| Snapshots { size, ..Snapshots::default() };
        let turns = |snapshots: Snapshots| [0, 1, 2].map(|turn| snapshots.patience(300, turn, 3));
        assert_eq!(turns(of_size(0)), [300, 400, 500]);
        assert_eq!(turns(of_size(299)), [300, 400, 500]);
        assert_eq!(turns(of_size(900)), [900, 1200, 1500]);
        assert_eq!(of_size(900).patience(u64::MAX, 2, 3), u64::MAX, "none are taken");
    }
}
