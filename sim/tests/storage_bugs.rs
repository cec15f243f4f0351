//! Bugs of the storage policy, planted one after the other: each is found by the ordinary hunt.
#![cfg(feature = "planted")]

use drachma_protocol::planted::{Bug, plant};
use drachma_sim::roles::REAL;

#[test]
fn bugs_of_the_storage_policy_are_found() {
    for bug in [Bug::RecoveredNotSynced, Bug::DamagedRecordSkipped, Bug::DoubtfulTailCut] {
        plant(Some(bug));
        let found = (0..2000).find_map(|seed| REAL.check(seed).err());
        plant(None);
        let failure = found.unwrap_or_else(|| panic!("{} is not found", bug.name()));
        println!("{}: seed {}, {}: {}", bug.name(), failure.seed, failure.violation.checker, failure.violation.text);
    }
}
