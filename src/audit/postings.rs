//! Comparing what was posted, transfer by transfer. Pure: fetching is elsewhere.

use std::collections::hash_map::Entry;
use std::collections::{BTreeMap, HashMap, HashSet};

use drachma_protocol::ids::{AccountId, GroupId, TransferId};
use drachma_protocol::ledger::model::{Account, Posted, Sides, Transfer};

use super::judgement::Judgement;
use super::report::name;

type Key = (TransferId, AccountId);

fn key(row: &Posted) -> Key {
    (row.transfer.id, row.transfer.debit)
}

fn same(left: &Posted, right: &Posted) -> bool {
    (left.transfer, left.sides) == (right.transfer, right.sides)
}

/// The postings of two replicas as they arrive, in any order: what both have is forgotten at once, so that memory is
/// taken for differences only.
#[derive(Debug, Default)]
pub(super) struct Comparison {
    open: HashMap<Key, Pair>,
}

#[derive(Debug, Default)]
struct Pair {
    reference: Vec<Posted>,
    other: Vec<Posted>,
}

/// How the postings of a replica differ from the reference's.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) enum Difference {
    /// The reference has it once more.
    Missing(Posted),
    /// The replica has it once more.
    Extra(Posted),
    /// Both have it, with another content.
    Changed {
        /// The reference's.
        reference: Posted,
        /// The replica's.
        other: Posted,
    },
}

impl Comparison {
    /// The reference has posted this.
    pub(super) fn reference(&mut self, row: Posted) {
        self.take(row, |pair| (&mut pair.other, &mut pair.reference));
    }

    /// The other replica has posted this.
    pub(super) fn other(&mut self, row: Posted) {
        self.take(row, |pair| (&mut pair.reference, &mut pair.other));
    }

    fn take(&mut self, row: Posted, sides: fn(&mut Pair) -> (&mut Vec<Posted>, &mut Vec<Posted>)) {
        let mut entry = match self.open.entry(key(&row)) {
            Entry::Occupied(entry) => entry,
            Entry::Vacant(entry) => entry.insert_entry(Pair::default()),
        };
        let (opposite, own) = sides(entry.get_mut());
        match opposite.iter().position(|there| same(there, &row)) {
            Some(found) => drop(opposite.swap_remove(found)),
            None => own.push(row),
        }
        if entry.get().reference.is_empty() && entry.get().other.is_empty() {
            entry.remove();
        }
    }

    /// What remains when both have posted all they have, in the order of ids.
    pub(super) fn differences(self) -> Vec<Difference> {
        let open: BTreeMap<Key, Pair> = self.open.into_iter().collect();
        let mut found = Vec::new();
        for Pair { reference, other } in open.into_values() {
            let common = reference.len().min(other.len());
            let changed = reference.iter().zip(&other);
            found
                .extend(changed.map(|(reference, other)| Difference::Changed { reference: *reference, other: *other }));
            found.extend(reference[common..].iter().copied().map(Difference::Missing));
            found.extend(other[common..].iter().copied().map(Difference::Extra));
        }
        found
    }
}

/// What the accounts of the data set hold from the beginning.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Opening {
    /// Accounts 1 to this number exist from the beginning.
    pub accounts: u64,
    /// What each of them holds.
    pub balance: u128,
}

/// Account totals recomputed from postings: debits and credits beyond the opening ones, modulo 2^128.
#[derive(Debug, Default)]
pub(super) struct Recomputed {
    moved: BTreeMap<AccountId, (u128, u128)>,
}

impl Recomputed {
    /// A posting of the replica.
    pub(super) fn posted(&mut self, row: &Posted) {
        let Transfer { debit, credit, amount, .. } = row.transfer;
        if row.sides != Sides::Credit {
            let debits = &mut self.moved.entry(debit).or_default().0;
            *debits = debits.wrapping_add(amount);
        }
        if row.sides != Sides::Debit {
            let credits = &mut self.moved.entry(credit).or_default().1;
            *credits = credits.wrapping_add(amount);
        }
    }

    /// The accounts whose totals do not follow from the opening balances and the postings; `changed` are all that
    /// the replica says have moved.
    pub(super) fn contradictions(mut self, opening: Opening, changed: &[Account]) -> Vec<String> {
        let mut found = Vec::new();
        for account in changed {
            let (debits, credits) = self.moved.remove(&account.id).unwrap_or_default();
            let held = if (1..=u128::from(opening.accounts)).contains(&account.id.0) { opening.balance } else { 0 };
            let credits = credits.wrapping_add(held);
            if (account.debits_posted, account.credits_posted) != (debits, credits) {
                found.push(format!(
                    "account {}: debits {} and credits {}, but by its postings {debits} and {credits}",
                    account.id, account.debits_posted, account.credits_posted
                ));
            }
        }
        found.extend(self.moved.into_iter().filter(|(_, moved)| *moved != (0, 0)).map(|(id, (debits, credits))| {
            format!("account {id}: unchanged, but by its postings {debits} more debits and {credits} more credits")
        }));
        found
    }
}

/// The postings of all groups, one replica each: nothing twice, and both sides of everything.
#[derive(Debug, Default)]
pub(super) struct Matching {
    seen: HashSet<(GroupId, Key)>,
    // Transfers of which one side has been seen: where, and its content.
    half: HashMap<Key, (GroupId, Posted)>,
    doubled: Vec<(GroupId, Posted)>,
    unequal: Vec<((GroupId, Posted), (GroupId, Posted))>,
}

impl Matching {
    /// A group has posted this.
    pub(super) fn posted(&mut self, group: GroupId, row: Posted) {
        if !self.seen.insert((group, key(&row))) {
            self.doubled.push((group, row));
            return;
        }
        if row.sides == Sides::Both {
            return;
        }
        match self.half.entry(key(&row)) {
            Entry::Vacant(entry) => drop(entry.insert((group, row))),
            Entry::Occupied(entry) => {
                let half = entry.remove();
                if half.1.transfer != row.transfer || half.1.sides == row.sides {
                    self.unequal.push((half, (group, row)));
                }
            }
        }
    }

    /// Says what is wrong when every group has posted all it has.
    pub(super) fn judge(self, judgement: &mut Judgement) {
        for (group, row) in self.doubled {
            let finding = format!("{group} has posted {} twice", name(&row.transfer));
            judgement.posted_twice(&row.transfer, finding);
        }
        let side = |row: &Posted| format!("the {} side of {}", side(row), name(&row.transfer));
        for ((first, half), (group, row)) in self.unequal {
            let finding = format!("{first} has posted {}, but {group} {}", side(&half), side(&row));
            judgement.report.violated(finding);
        }
        let half: BTreeMap<Key, (GroupId, Posted)> = self.half.into_iter().collect();
        for (group, row) in half.into_values() {
            let finding = format!("{group} has posted {}, no group the other", side(&row));
            judgement.lost(&row.transfer, finding);
        }
    }
}

fn side(row: &Posted) -> &'static str {
    if row.sides == Sides::Credit { "credit" } else { "debit" }
}
