//! The replicated state machine.

use drachma_protocol::ids::{Ballot, ReplicaId, Slot};
use drachma_protocol::ledger::Ledger;
use drachma_protocol::ledger::output::Output;
use drachma_protocol::message::command::{Content, Entry, FORMAT, LeaderStart};
use drachma_protocol::time::LogTime;
use drachma_protocol::wire::codec::to_vec;

use crate::draw::Draw;
use crate::values::genesis;

/// Entries that one input may hold: a run takes milliseconds.
const ENTRIES: u64 = 200;

/// Entries with whatever clients and other groups can bring into them, applied by two replicas whose hash tables have
/// different seeds, in slices of different sizes: nothing panics, and both yield the same and are the same.
///
/// What a leader itself vouches for is as it says: ballots of first entries grow, a `Begin` names its group first.
pub fn ledger_entry(data: &[u8]) {
    let mut draw = Draw::new(data);
    let mut one = Ledger::new(1, &genesis());
    let mut two = Ledger::new(0x9e37_79b9, &genesis());
    let mut leader = Ballot { round: 1, replica: ReplicaId(1) };
    let first = Content::LeaderStart(LeaderStart { ballot: leader, members: Some(Vec::new()) });
    apply_both(&mut one, &mut two, &Entry { format: FORMAT, time: LogTime(0), wall: 0, content: first }, 1);
    for _ in 0..ENTRIES {
        if draw.is_empty() {
            break;
        }
        let mut entry = draw.entry(leader);
        if let Content::LeaderStart(start) = &mut entry.content {
            leader.round += 1;
            start.ballot = leader;
        }
        let slice = usize::from(draw.below(40)) + 1;
        apply_both(&mut one, &mut two, &entry, slice);
    }
}

fn apply_both(one: &mut Ledger, two: &mut Ledger, entry: &Entry, slice: usize) {
    let bytes = to_vec(entry);
    let (mine, other) = (apply(one, &bytes, usize::MAX), apply(two, &bytes, slice));
    assert_eq!(mine, other, "replicas yield the same");
    assert_eq!(one.totals(), two.totals(), "replicas are the same");
    assert_eq!(one.pending_page(), two.pending_page(), "replicas are the same");
}

pub(crate) fn apply(ledger: &mut Ledger, entry: &[u8], slice: usize) -> Vec<Output> {
    let mut outputs = Vec::new();
    let slot = ledger.applied();
    ledger.begin(slot, entry);
    while !ledger.apply(slice, &mut outputs) {}
    assert_eq!(ledger.applied(), Slot(slot.0 + 1), "one entry was applied");
    outputs
}
