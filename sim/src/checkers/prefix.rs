//! Number 2: the committed prefix never changes. What any replica has applied stays the beginning of what every replica
//! applies, itself after a restart included; and a replica applies what its log has, without a gap.

use std::collections::BTreeMap;

use xxhash_rust::xxh3::xxh3_64;

use drachma_protocol::ids::{GroupId, NodeId};

use super::{Applied, Checker, Verdict};

/// See the module.
#[derive(Default)]
pub struct Prefix {
    // By slot: the hash of the entry, and who applied it first.
    groups: BTreeMap<GroupId, Vec<(u64, NodeId)>>,
}

impl Checker for Prefix {
    fn name(&self) -> &'static str {
        "prefix"
    }

    fn on_applied(&mut self, applied: &Applied<'_>) -> Verdict {
        let Applied { node, group, from, until, entries, .. } = *applied;
        let known = self.groups.entry(group).or_default();
        let (wanted, has) = (until.distance_from(from), entries.len());
        if has != wanted {
            return Err(format!("{group} on {node} applied {wanted} entries from {from}, but its log has {has}"));
        }
        for (slot, entry) in (from.0..).zip(entries) {
            let hash = xxh3_64(entry);
            match known.get(slot as usize) {
                None if known.len() as u64 == slot => known.push((hash, node)),
                None => return Err(format!("{group} on {node} applied slot {slot}, and nobody the one before")),
                Some((other, _)) if *other == hash => {}
                Some((_, first)) => {
                    return Err(format!("{group} on {node} applied another entry at slot {slot} than {first}"));
                }
            }
        }
        Ok(())
    }
}
