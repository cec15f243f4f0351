//! One value per slot, the applied prefix never changes, and equal state at equal position.

use std::collections::BTreeMap;

use xxhash_rust::xxh3::xxh3_64;

use drachma_protocol::ids::{GroupId, NodeId};

use super::{Applied, Checker, End, Verdict};

/// See the module.
#[derive(Default)]
pub struct Agreement {
    groups: BTreeMap<GroupId, Group>,
}

#[derive(Default)]
struct Group {
    // By slot: the hash of the entry, and who applied it first.
    entries: Vec<(u64, NodeId)>,
    // By applied length: the digest of the state, and whose it was.
    digests: BTreeMap<u64, (u128, NodeId)>,
}

impl Checker for Agreement {
    fn name(&self) -> &'static str {
        "agreement"
    }

    fn on_applied(&mut self, applied: &Applied<'_>) -> Verdict {
        let Applied { node, group, .. } = *applied;
        let known = self.groups.entry(group).or_default();
        let wanted = applied.totals.applied.distance_from(applied.from);
        if applied.entries.len() != wanted {
            let has = applied.entries.len();
            return Err(format!(
                "{group} on {node} applied {wanted} entries from {}, but its log has {has}",
                applied.from
            ));
        }
        for (slot, entry) in (applied.from.0..).zip(applied.entries) {
            let hash = xxh3_64(entry);
            match known.entries.get(slot as usize) {
                None if known.entries.len() as u64 == slot => known.entries.push((hash, node)),
                None => return Err(format!("{group} on {node} applied slot {slot}, and nobody the one before")),
                Some((other, _)) if *other == hash => {}
                Some((_, first)) => {
                    return Err(format!("{group} has two values at slot {slot}: {first} applied one, {node} another"));
                }
            }
        }
        let (length, digest) = (applied.totals.applied.0, applied.totals.digest);
        match known.digests.insert(length, (digest, node)) {
            Some((other, first)) if other != digest => {
                Err(format!("{group} at {length}: the state of {node} differs from that of {first}"))
            }
            _ => Ok(()),
        }
    }

    fn at_end(&mut self, end: &End<'_>) -> Verdict {
        for (group, replicas) in end.groups {
            let Some((first, others)) = replicas.split_first() else { continue };
            for other in others {
                if other.totals != first.totals || other.posted != first.posted || other.accounts != first.accounts {
                    return Err(format!(
                        "{group} ends unequal: {:?} on {}, {:?} on {}",
                        first.totals, first.node, other.totals, other.node
                    ));
                }
            }
        }
        Ok(())
    }
}
