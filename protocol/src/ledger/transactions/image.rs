//! The records of two-phase commit in an image of the ledger.

use super::{Coordination, Held, Transactions, count};
use crate::ids::{GroupId, TxnId};
use crate::ledger::Ledger;
use crate::ledger::digest::Sum;
use crate::ledger::image::{Fault, Row};
use crate::ledger::queue::Turn;
use crate::ledger::records::Coordinated;
use crate::wire::codec::Encode;

impl Row for Held {
    fn digest(&self, sum: &mut Sum) {
        // The action has its digest; what it needs follows from it.
        let Held { txn, attempt, participants, coordinator, rank, action: _, digest, needs: _, since, waiting } = self;
        let place = waiting.map_or(0, |turn| turn.arrival);
        let names: [&dyn Encode; 4] = [txn, attempt, coordinator, participants];
        let rest: [&dyn Encode; 4] = [&rank.age, digest, since, &place];
        sum.row(b'd', &[names, rest].concat());
    }
}

impl Row for Coordination {
    fn digest(&self, sum: &mut Sum) {
        let Coordination { record, digest, askers } = self;
        // The action has its digest; the values are made when they are asked for.
        let Coordinated { txn, attempt, age, participants, action: _, deadline, vote, values: _, verdict, swapped } =
            record;
        let asked = askers.len() as u64;
        let names: [&dyn Encode; 4] = [txn, attempt, age, participants];
        let rest: [&dyn Encode; 6] = [digest, deadline, vote, verdict, swapped, &asked];
        sum.row(b'c', &[&names[..], &rest[..]].concat());
    }
}

impl Transactions {
    /// The coordinator's records, and what is prepared or waits for its vote, as they are now, each by id.
    pub(in crate::ledger) fn image(&self) -> (Vec<Coordination>, Vec<Held>) {
        // The counts follow from the rows.
        let Transactions { held, records, prepared: _, unacknowledged: _, inner: _, attached: _ } = self;
        (records.values().cloned().collect(), held.values().cloned().collect())
    }

    /// Takes over the next row of an image.
    pub(in crate::ledger) fn load_record(&mut self, coordination: Coordination, group: GroupId) -> Result<(), Fault> {
        let Coordination { record, digest: _, askers } = &coordination;
        let decided = record.verdict.is_some();
        if self.records.contains_key(&record.txn) || (decided && !askers.is_empty()) {
            return Err("a coordinator's record twice, or with somebody who was told already");
        }
        self.attached += askers.len();
        self.insert_record(coordination, group);
        Ok(())
    }

    /// Whether a prepare waits under an id at a place in the queue.
    fn waits_at(&self, txn: TxnId, turn: Turn) -> bool {
        self.held.get(&txn).is_some_and(|held| held.waiting == Some(turn))
    }
}

impl Ledger {
    /// Takes over the next row of an image: it holds again what it held.
    pub(in crate::ledger) fn load_held(&mut self, held: Held) -> Result<(), Fault> {
        if self.transactions.held.contains_key(&held.txn) {
            return Err("a transaction held twice");
        }
        if held.waiting.is_none() {
            self.doubts.load_held(&mut self.accounts, &held.needs.effects, held.rank)?;
            self.locks.hold(held.needs.locks(), held.rank);
            for inner in self.inner_ids(&held.action) {
                if !self.transactions.inner.insert(inner) {
                    return Err("an id prepared twice");
                }
            }
            count(&mut self.transactions.prepared, held.coordinator, true);
        }
        self.transactions.held.insert(held.txn, held);
        Ok(())
    }

    /// Whether every prepare that waits is in the queue where it says, and the queue has no others.
    pub(in crate::ledger) fn prepares_wait_where_they_say(&self) -> bool {
        let waiting = self.transactions.held.values().filter(|held| held.waiting.is_some()).count();
        let queued: Vec<(Turn, TxnId)> = self.queue.prepares().collect();
        queued.len() == waiting && queued.iter().all(|(turn, txn)| self.transactions.waits_at(*txn, *turn))
    }
}
