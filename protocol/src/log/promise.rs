//! The second copy of a group's promise: two slots, written in turn, so that one is always whole.
//!
//! A promise that only the log has is lost with the log's doubtful end, and the replica would then promise less than it
//! has promised (hazard S27). The slot is written after the log is synced: so a crash tears one of both at most, and a
//! damaged slot beside a doubtful log means that a promise may be lost.
//!
//! | bytes of a slot | field |
//! |---|---|
//! | 0..4 | CRC32C of the rest |
//! | 4..12 | the text `DRACHPRO` |
//! | 12..28 | the data directory |
//! | 28..30 | the group |
//! | 30..38 | counts the writes; the higher one is the newer |
//! | 38..46, 46..50 | the ballot: round, replica |
//! | 50..512 | zeros |

use crate::ids::{Ballot, DirectoryId, GroupId, ReplicaId};

/// The size of a slot in bytes.
pub const SLOT: usize = 512;
/// The second slot begins here: in another sector on every disk, so that no write touches both.
pub const SECOND: usize = 4096;
/// The size of the file in bytes.
pub const FILE: usize = SECOND + SLOT;

const MAGIC: [u8; 8] = *b"DRACHPRO";

/// Both slots of a group.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct PromiseSlots {
    directory: DirectoryId,
    group: GroupId,
    /// The count and the ballot of each slot, if it is whole.
    slots: [Option<(u64, Ballot)>; 2],
}

impl PromiseSlots {
    /// Two slots that promise nothing, and the bytes of their file.
    pub fn new(directory: DirectoryId, group: GroupId) -> (PromiseSlots, Vec<u8>) {
        let slots =
            PromiseSlots { directory, group, slots: [Some((0, Ballot::default())), Some((1, Ballot::default()))] };
        let mut file = vec![0; FILE];
        file[..SLOT].copy_from_slice(&slots.encode(0, Ballot::default()));
        file[SECOND..].copy_from_slice(&slots.encode(1, Ballot::default()));
        (slots, file)
    }

    /// Reads the file of a group. What is damaged, or another directory's, counts as not there.
    pub fn decode(directory: DirectoryId, group: GroupId, file: &[u8]) -> PromiseSlots {
        let slot = |at: usize| {
            let bytes = file.get(at..at + SLOT)?;
            let count = u64::from_be_bytes(*bytes[30..].first_chunk()?);
            let round = u64::from_be_bytes(*bytes[38..].first_chunk()?);
            let replica = ReplicaId(u32::from_be_bytes(*bytes[46..].first_chunk()?));
            let ballot = Ballot { round, replica };
            let own = PromiseSlots { directory, group, slots: [None; 2] };
            (bytes == own.encode(count, ballot)).then_some((count, ballot))
        };
        PromiseSlots { directory, group, slots: [slot(0), slot(SECOND)] }
    }

    /// The highest promise that is there.
    pub fn promise(&self) -> Option<Ballot> {
        self.slots.iter().flatten().map(|(_, ballot)| *ballot).max()
    }

    /// Whether both slots are whole. One that is not was torn by a crash, or is damaged.
    pub fn is_whole(&self) -> bool {
        self.slots.iter().all(Option::is_some)
    }

    /// Takes in a promise: the bytes to write, and where in the file. The newer whole slot stays as it is.
    pub fn write(&mut self, promise: Ballot) -> (usize, Vec<u8>) {
        let count = |slot: usize| self.slots[slot].map(|(count, _)| count);
        let older = if count(0) <= count(1) { 0 } else { 1 };
        let next = count(0).max(count(1)).map_or(0, |count| count + 1);
        self.slots[older] = Some((next, promise));
        (older * SECOND, self.encode(next, promise))
    }

    fn encode(&self, count: u64, promise: Ballot) -> Vec<u8> {
        let mut out = vec![0; 4];
        out.extend_from_slice(&MAGIC);
        out.extend_from_slice(&self.directory.0.to_be_bytes());
        out.extend_from_slice(&self.group.0.to_be_bytes());
        out.extend_from_slice(&count.to_be_bytes());
        out.extend_from_slice(&promise.round.to_be_bytes());
        out.extend_from_slice(&promise.replica.0.to_be_bytes());
        out.resize(SLOT, 0);
        let checksum = crc32c::crc32c(&out[4..]);
        out[..4].copy_from_slice(&checksum.to_be_bytes());
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DIRECTORY: DirectoryId = DirectoryId(99);
    const GROUP: GroupId = GroupId(3);

    fn ballot(round: u64) -> Ballot {
        Ballot { round, replica: ReplicaId(2) }
    }

    fn file(promises: std::ops::RangeInclusive<u64>) -> Vec<u8> {
        let (mut slots, mut file) = PromiseSlots::new(DIRECTORY, GROUP);
        for round in promises {
            let (at, bytes) = slots.write(ballot(round));
            file[at..at + bytes.len()].copy_from_slice(&bytes);
            assert_eq!(PromiseSlots::decode(DIRECTORY, GROUP, &file), slots);
        }
        file
    }

    #[test]
    fn a_new_file_promises_nothing_and_is_whole() {
        let (slots, file) = PromiseSlots::new(DIRECTORY, GROUP);
        assert_eq!(PromiseSlots::decode(DIRECTORY, GROUP, &file), slots);
        assert_eq!((slots.promise(), slots.is_whole()), (Some(Ballot::default()), true));
    }

    #[test]
    fn a_torn_write_leaves_the_promise_before() {
        for last in 1..6 {
            let before = file(1..=last);
            let mut slots = PromiseSlots::decode(DIRECTORY, GROUP, &before);
            let (at, bytes) = slots.write(ballot(100));
            for cut in 1..bytes.len() {
                let mut torn = before.clone();
                torn[at..at + cut].copy_from_slice(&bytes[..cut]);
                let read = PromiseSlots::decode(DIRECTORY, GROUP, &torn);
                assert!(read.promise() >= Some(ballot(last)), "cut at {cut}");
                assert!(read.is_whole() || read.promise() == Some(ballot(last)), "cut at {cut}");
            }
        }
    }

    #[test]
    fn a_damaged_slot_is_written_next() {
        for broken in [0, SECOND] {
            let mut file = file(1..=5);
            file[broken + 40] ^= 1;
            let mut slots = PromiseSlots::decode(DIRECTORY, GROUP, &file);
            assert!(!slots.is_whole());
            assert_eq!(slots.write(ballot(6)).0, broken);
            assert!(slots.is_whole());
        }
    }

    #[test]
    fn the_slots_of_another_directory_or_group_are_not_taken() {
        let file = file(1..=2);
        assert_eq!(PromiseSlots::decode(DirectoryId(98), GROUP, &file).promise(), None);
        assert_eq!(PromiseSlots::decode(DIRECTORY, GroupId(4), &file).promise(), None);
        assert_eq!(PromiseSlots::decode(DIRECTORY, GROUP, &[]).promise(), None);
    }
}
