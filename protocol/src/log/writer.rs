//! Appends records: turns them into bytes, and says where these go.

use std::collections::{BTreeMap, BTreeSet};

use super::index::Position;
use super::record::Record;
use super::segment::{self, HEAD, HEADER, Header, Kind, Owner, Place};
use super::state::GroupLog;
use crate::ids::{Ballot, GroupId, Slot};
use crate::planted::{Bug, is_planted};
use crate::wire::codec::Encode;

/// The current segment has no room for a record: [`Appender::end_segment`], then [`Appender::begin_segment`].
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct NoRoom {
    /// The least size in bytes of a segment that the record fits.
    pub size: u32,
}

/// Bytes that are to be written.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Pending<'a> {
    /// Where.
    pub position: Position,
    /// What.
    pub bytes: &'a [u8],
}

/// Whether the current segment takes more records.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Room {
    /// As far as they fit.
    Open,
    /// It has its last record.
    Continued,
    /// Its end is doubtful and stays as it is.
    Doubtful,
}

/// Builds the log's bytes and knows what they add up to.
///
/// The cycle of its owner: [`push`](Self::push) until enough is gathered, write [`pending`](Self::pending) to the
/// segment, [`written`](Self::written), sync, [`synced`](Self::synced). It does no IO itself.
#[derive(Debug)]
pub struct Appender {
    pub(crate) owner: Owner,
    pub(crate) segment: u32,
    pub(crate) size: u32,
    /// Where the next record goes; `buffer` ends there.
    pub(crate) offset: u32,
    pub(crate) room: Room,
    /// The last record's.
    pub(crate) sequence: u64,
    pub(crate) chain: u32,
    pub(crate) synced: u64,
    pub(crate) groups: BTreeMap<GroupId, GroupLog>,
    pub(crate) buffer: Vec<u8>,
    pub(crate) promised: BTreeSet<GroupId>,
    /// The segments from which on the log can be read alone: those that begin with a base of each group, and the first.
    pub(crate) based: BTreeSet<u32>,
}

impl Appender {
    /// The first segment of a new log, to be written with [`Header::encode`].
    pub fn first_header(owner: Owner, size: u32) -> Header {
        Header { owner, segment: 1, size, sequence: 1, chain: 0, doubtful: false }
    }

    /// Adds a record of a group to what is pending.
    ///
    /// # Errors
    /// If the segment has no room for it: nothing was added.
    ///
    /// # Panics
    /// If the group is unknown, or the record cannot follow the ones before: a role's invariant is broken.
    pub fn push(&mut self, group: GroupId, record: &Record) -> Result<(), NoRoom> {
        let position = Position { segment: self.segment, offset: self.offset };
        self.append(group, Kind::Data, 0, |out| record.encode(out))?;
        let state = self.groups.get_mut(&group).expect("a node's roles are those of its groups");
        let before = state.promise();
        if let Err(violation) = state.apply(record, position) {
            panic!("{group}: {violation}: {}", record.kind());
        }
        if state.promise() > before {
            self.promised.insert(group);
        }
        Ok(())
    }

    /// Adds the record that says: closed in order.
    ///
    /// # Errors
    /// If the segment has no room for it.
    pub fn push_closed(&mut self) -> Result<(), NoRoom> {
        self.append(GroupId(0), Kind::Closed, 0, |_| {})
    }

    /// Adds the record that ends the segment, if it is to have one. Room for it is always kept.
    pub fn end_segment(&mut self) {
        if self.room == Room::Open {
            self.append(GroupId(0), Kind::Continued, HEAD, |_| {}).expect("room for the last record is always kept");
            self.room = Room::Continued;
        }
    }

    /// Goes on in the next segment, of `size` bytes, and returns its header. The header must be synced before anything
    /// else is written there. What is pending then is what the records so far add up to: a base of each group.
    ///
    /// # Panics
    /// If the segment before was not ended, or not written and synced.
    pub fn begin_segment(&mut self, size: u32) -> Header {
        assert!(self.buffer.is_empty() && self.synced == self.sequence, "the segment before is on disk");
        assert!(self.room != Room::Open, "the segment before has its end");
        assert!((self.least_segment()..=segment::MAX_SEGMENT).contains(&size), "a segment of {size} bytes");
        let doubtful = self.room == Room::Doubtful;
        self.segment = self.segment.checked_add(1).expect("2^32 segments are never written");
        (self.size, self.offset, self.room) = (size, HEADER, Room::Open);
        let (sequence, chain) = (self.sequence + 1, self.chain);
        self.push_bases();
        Header { owner: self.owner, segment: self.segment, size, sequence, chain, doubtful }
    }

    /// Says again what the records so far add up to, so that the segments before this one can go.
    ///
    /// # Panics
    /// If there is no room: a segment of [`least_segment`](Self::least_segment) has it when it is begun.
    pub(crate) fn push_bases(&mut self) {
        let bases: Vec<(GroupId, Record)> =
            self.groups.iter().map(|(group, state)| (*group, Record::Base(state.base()))).collect();
        for (group, base) in bases {
            self.push(group, &base).expect("the size of a segment counts its bases");
        }
        self.based.insert(self.segment);
    }

    /// The least size in bytes of a segment: one that its bases fit.
    pub(crate) fn least_segment(&self) -> u32 {
        let mut bytes = Vec::new();
        let base = |state: &GroupLog| {
            bytes.clear();
            Record::Base(state.base()).encode(&mut bytes);
            HEAD + bytes.len() as u32
        };
        HEADER + HEAD + self.groups.values().map(base).sum::<u32>()
    }

    /// The oldest segment that is needed: from there on everything is there that any group needs (hazard S30). Those
    /// before may go, once everything is synced.
    pub(crate) fn release(&mut self) -> u32 {
        let oldest = self.groups.values().filter_map(GroupLog::oldest);
        let needed = if is_planted(Bug::SegmentsGoEarly) { oldest.max() } else { oldest.min() };
        let needed = needed.unwrap_or(self.segment);
        let oldest = self.based.range(..=needed).next_back().copied().unwrap_or(1);
        self.based.retain(|segment| *segment >= oldest);
        oldest
    }

    /// Whether the current segment has a base of each group.
    pub(crate) fn is_based(&self) -> bool {
        self.based.contains(&self.segment)
    }

    fn append(
        &mut self,
        group: GroupId,
        kind: Kind,
        reserve: u32,
        body: impl FnOnce(&mut Vec<u8>),
    ) -> Result<(), NoRoom> {
        let place = Place {
            segment: self.segment,
            offset: self.offset,
            chain: self.chain,
            sequence: self.sequence + 1,
            synced: self.synced,
        };
        let start = self.buffer.len();
        let (checksum, length) = segment::encode(&mut self.buffer, place, group, kind, body);
        let length = u32::try_from(length).expect("a record is at most 1 GiB");
        let room = if self.room == Room::Open { self.size - self.offset + reserve } else { 0 };
        if length + HEAD > room {
            self.buffer.truncate(start);
            return Err(NoRoom { size: self.least_segment() + length });
        }
        self.offset += length;
        self.sequence += 1;
        self.chain = checksum;
        Ok(())
    }

    /// What is to be written before the next sync.
    pub fn pending(&self) -> Pending<'_> {
        let offset = self.offset - self.buffer.len() as u32;
        Pending { position: Position { segment: self.segment, offset }, bytes: &self.buffer }
    }

    /// What was pending is in the segment, not yet synced. The memory is kept for the next records, unless one of them
    /// was unusually large.
    pub fn written(&mut self) {
        const KEEP: usize = 4 << 20;
        self.buffer.clear();
        self.buffer.shrink_to(KEEP);
    }

    /// Everything written so far is on disk.
    ///
    /// # Panics
    /// If something is still pending.
    pub fn synced(&mut self) {
        assert!(self.buffer.is_empty(), "what is synced was written");
        self.synced = self.sequence;
    }

    /// Whether everything pushed so far is on disk.
    pub fn is_synced(&self) -> bool {
        self.synced == self.sequence
    }

    /// Groups whose promise has risen since the last call, with it: the second copy of each is to be written once the
    /// records are on disk (hazard S27).
    pub fn take_promised(&mut self) -> Vec<(GroupId, Ballot)> {
        let promised = std::mem::take(&mut self.promised);
        promised.into_iter().filter_map(|group| Some((group, self.groups.get(&group)?.promise()))).collect()
    }

    /// Where the entry of a slot is, pending ones included.
    pub fn locate(&self, group: GroupId, slot: Slot) -> Option<Position> {
        self.groups.get(&group)?.locate(slot)
    }

    /// The state of each group as of the last record pushed.
    pub fn groups(&self) -> &BTreeMap<GroupId, GroupLog> {
        &self.groups
    }

    /// Where the next record would go.
    pub fn position(&self) -> Position {
        Position { segment: self.segment, offset: self.offset }
    }

    /// The size of the current segment in bytes.
    pub fn segment_size(&self) -> u32 {
        self.size
    }

    /// Whether the log goes on in another segment before anything can be pushed.
    pub fn is_ended(&self) -> bool {
        self.room != Room::Open
    }

    /// The sequence number of the last record.
    pub fn sequence(&self) -> u64 {
        self.sequence
    }
}
