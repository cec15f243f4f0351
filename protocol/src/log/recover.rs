//! Reads a log back, segment by segment, and tells a clean end, a doubtful end and damage apart; see [`super`].

use std::collections::{BTreeMap, BTreeSet};

use super::index::Position;
use super::record::Record;
use super::segment::{self, HEADER, Head, Header, HeaderError, Kind, Owner};
use super::state::{GroupLog, Violation};
use super::writer::{Appender, Room};
use crate::ids::{Ballot, GroupId};
use crate::planted::{Bug, is_planted};
use crate::wire::codec::{self, DecodeError};

/// The log cannot be used: something that was synced is not there any more, or never was what it claims to be.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error("segment {segment}, offset {offset}: {flaw}")]
pub struct Damage {
    /// The segment.
    pub segment: u32,
    /// Where in it, in bytes.
    pub offset: u64,
    /// What is wrong there.
    pub flaw: Flaw,
}

/// What is wrong.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum Flaw {
    /// No such segment, though others show that it existed.
    #[error("the segment is missing")]
    Missing,
    /// It has another size than it was made with.
    #[error("{found} bytes where the segment was made with {expected}")]
    Size {
        /// By its header.
        expected: u64,
        /// The bytes that are there.
        found: u64,
    },
    /// The header does not match its checksum.
    #[error("the segment's header is damaged")]
    Header,
    /// Written by another version.
    #[error("version {0} of the format, which this build does not know")]
    Version(u16),
    /// Of another cluster, node or directory.
    #[error("the segment belongs to {} of cluster {}, directory {}", .0.node, .0.cluster, .0.directory)]
    Foreign(Box<Owner>),
    /// The header does not continue the segment before.
    #[error("the segment does not continue the one before")]
    Gap,
    /// Bad bytes where a record was that had been synced.
    #[error("a record is damaged or lost; what stands behind it shows that it was synced")]
    Record,
    /// A good record with a wrong predecessor.
    #[error("a record does not follow the one before it")]
    Chain,
    /// A record whose checksum is right, but not its content.
    #[error("a record does not decode: {0}")]
    Decode(#[from] DecodeError),
    /// A kind of record that this version does not know.
    #[error("unknown kind {0} of record")]
    Kind(u8),
    /// A group that is not on this node.
    #[error("a record of {0}, which this node does not have")]
    Group(GroupId),
    /// A record that cannot follow.
    #[error("{0}")]
    Violation(#[from] Violation),
}

/// How the records of the last segment end.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum End {
    /// Only zeros follow.
    Zeros,
    /// The last record says that the next segment goes on.
    Continued,
    /// Something else follows.
    Bad {
        offset: u32,
        /// A record behind it shows that what was there had been synced.
        proof: bool,
    },
}

/// A prepared segment that was not yet used.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Spare {
    /// Its number, the one after the last used.
    pub segment: u32,
    /// In bytes.
    pub size: u64,
    /// Only zeros are in it, so that it can be used.
    pub blank: bool,
}

/// What a log held.
#[derive(Debug)]
pub struct Recovery {
    /// Continues the log; has the state of every group. It counts everything as synced: the owner must see to that
    /// before anything is said (hazard S29). If [`Appender::is_ended`], a segment is to be begun before anything else.
    pub appender: Appender,
    /// Where the doubtful end is, if this recovery found one.
    pub doubtful: Option<Position>,
    /// From here to the end of the records in the last segment nothing shows that it was ever synced: a sync of the
    /// writer may have failed, after which the page cache and the disk can differ for ever. To be written again.
    pub unsynced: Position,
    /// The log ends with the mark of a stop in order.
    pub closed: bool,
    /// The segment prepared ahead, if there is one.
    pub spare: Option<Spare>,
}

/// Takes the segments in their order, each with all its bytes, one at a time.
#[derive(Debug)]
pub struct Recoverer {
    owner: Owner,
    groups: BTreeMap<GroupId, GroupLog>,
    segment: u32,
    size: u32,
    /// Where the next record is expected.
    offset: u32,
    sequence: u64,
    chain: u32,
    end: End,
    /// What the last record says was synced, and where the first record that says so is.
    synced: u64,
    unsynced: Position,
    closed: bool,
    spare: Option<Spare>,
    /// Groups of which no base was read yet: segments before the first that is there have gone.
    unbased: BTreeSet<GroupId>,
    /// Groups of which the current segment has a base.
    bases: BTreeSet<GroupId>,
    /// See [`Appender`].
    based: BTreeSet<u32>,
}

impl Recoverer {
    /// Nothing read yet.
    pub fn new(owner: Owner, groups: &[GroupId]) -> Recoverer {
        Recoverer {
            owner,
            groups: groups.iter().map(|group| (*group, GroupLog::default())).collect(),
            segment: 0,
            size: 0,
            offset: 0,
            sequence: 0,
            chain: 0,
            end: End::Continued,
            synced: 0,
            unsynced: Position { segment: 0, offset: 0 },
            closed: false,
            spare: None,
            unbased: BTreeSet::new(),
            bases: BTreeSet::new(),
            based: BTreeSet::from([1]),
        }
    }

    /// Takes in the next segment.
    ///
    /// # Errors
    /// If the log is damaged.
    pub fn segment(&mut self, number: u32, bytes: &[u8]) -> Result<(), Damage> {
        if let Some(spare) = self.spare {
            // A used segment never follows an unused one.
            return Err(Damage { segment: spare.segment, offset: 0, flaw: Flaw::Missing });
        }
        let damage = |offset: u32, flaw| Err(Damage { segment: number, offset: u64::from(offset), flaw });
        let header = match Header::decode(bytes) {
            Ok(header) => header,
            Err(HeaderError::Version(version)) => return damage(12, Flaw::Version(version)),
            Err(HeaderError::Bad) => return self.take_spare(number, bytes),
        };
        if header.owner != self.owner {
            return damage(16, Flaw::Foreign(Box::new(header.owner)));
        }
        if u64::from(header.size) != bytes.len() as u64 {
            let (expected, found) = (u64::from(header.size), bytes.len() as u64);
            return Err(Damage { segment: number, offset: found, flaw: Flaw::Size { expected, found } });
        }
        if number != self.segment + 1 {
            self.begin_at(&header);
        }
        let follows = match self.end {
            End::Continued => !header.doubtful,
            End::Zeros | End::Bad { .. } => header.doubtful,
        };
        let continues = header.segment == number && header.sequence == self.sequence + 1 && header.chain == self.chain;
        if !follows || !continues {
            // If the segment before ends badly, that is where what is missing was.
            self.refuse_bad_end(true)?;
            return damage(0, Flaw::Gap);
        }
        if header.doubtful {
            self.groups.values_mut().for_each(GroupLog::doubt);
        }
        self.bases.clear();
        (self.segment, self.size, self.offset) = (number, header.size, HEADER);
        self.unsynced = Position { segment: number, offset: HEADER };
        self.records(bytes)
    }

    /// Segments before this one have gone, or came back after others had gone: nothing of them is needed, or the end will
    /// show that something is (hazard S30).
    fn begin_at(&mut self, header: &Header) {
        self.unbased = self.groups.keys().copied().collect();
        self.groups.values_mut().for_each(|state| *state = GroupLog::default());
        (self.sequence, self.chain, self.synced) = (header.sequence.saturating_sub(1), header.chain, 0);
        self.end = if header.doubtful { End::Zeros } else { End::Continued };
        self.based.clear();
    }

    /// A segment without a good header: was it never used?
    fn take_spare(&mut self, number: u32, bytes: &[u8]) -> Result<(), Damage> {
        let blank = bytes.len() >= HEADER as usize && segment::is_blank(bytes);
        // Without the record that continues there nothing was ever written to it; and with it, the header may be what a
        // power cut tore, since it is synced before any record. What stands there instead of zeros does not matter. But a
        // good record in it means that it was used after all.
        let torn = self.end == End::Continued && bytes.len() >= HEADER as usize;
        let follows = self.segment > 0 && number == self.segment + 1;
        let unused = follows && (blank || torn || self.end == End::Zeros);
        if !unused || (!blank && find_record(bytes, number, HEADER, |_| true)) {
            return Err(Damage { segment: number, offset: 0, flaw: Flaw::Header });
        }
        self.spare = Some(Spare { segment: number, size: bytes.len() as u64, blank });
        Ok(())
    }

    fn records(&mut self, bytes: &[u8]) -> Result<(), Damage> {
        self.end = loop {
            let rest = bytes.get(self.offset as usize..).unwrap_or_default();
            let Some((head, body)) = segment::decode(rest, self.segment, self.offset) else {
                if is_planted(Bug::DamagedRecordSkipped) && self.skip(bytes) {
                    continue;
                }
                break self.end_of(bytes);
            };
            let kind = self.record(&head, body).map_err(|flaw| self.damage_at(self.offset, flaw))?;
            self.offset += head.length;
            if kind == Kind::Continued {
                break End::Continued;
            }
        };
        Ok(())
    }

    fn record(&mut self, head: &Head, body: &[u8]) -> Result<Kind, Flaw> {
        if head.version != segment::VERSION {
            return Err(Flaw::Version(u16::from(head.version)));
        }
        let follows = head.sequence == self.sequence + 1 && head.chain == self.chain;
        if (!follows || head.synced > self.sequence || head.synced < self.synced)
            && !is_planted(Bug::DamagedRecordSkipped)
        {
            return Err(Flaw::Chain);
        }
        let kind = [Kind::Data, Kind::Closed, Kind::Continued].into_iter().find(|kind| *kind as u8 == head.kind);
        let kind = kind.ok_or(Flaw::Kind(head.kind))?;
        if kind != Kind::Continued && self.size - self.offset - head.length < segment::HEAD {
            return Err(Violation("a record leaves no room for the one that ends the segment").into());
        }
        let position = Position { segment: self.segment, offset: self.offset };
        if kind == Kind::Data {
            let record: Record = codec::from_slice(body)?;
            self.apply(head.group, &record, position)?;
        }
        if head.synced > self.synced {
            self.unsynced = position;
        }
        (self.sequence, self.chain, self.synced) = (head.sequence, head.checksum, head.synced);
        self.closed = kind == Kind::Closed;
        Ok(kind)
    }

    fn apply(&mut self, id: GroupId, record: &Record, position: Position) -> Result<(), Flaw> {
        let count = self.groups.len();
        let group = self.groups.get_mut(&id).ok_or(Flaw::Group(id))?;
        if let Record::Base(base) = record {
            self.bases.insert(id);
            if self.bases.len() == count {
                self.based.insert(position.segment);
            }
            if self.unbased.remove(&id) {
                *group = GroupLog::from_base(base, position);
                return Ok(());
            }
        }
        if self.unbased.contains(&id) {
            return Ok(()); // Its base is still to come, and adds this up.
        }
        match group.apply(record, position) {
            Err(_) if is_planted(Bug::DamagedRecordSkipped) => Ok(()),
            applied => Ok(applied?),
        }
    }

    /// Goes to the next record that is whole, if there is one: only for a planted bug.
    fn skip(&mut self, bytes: &[u8]) -> bool {
        let good = |at: &u32| {
            let rest = bytes.get(*at as usize..).unwrap_or_default();
            rest.get(12..16) == Some(&self.segment.to_be_bytes()) && segment::decode(rest, self.segment, *at).is_some()
        };
        let next = (self.offset..bytes.len() as u32).find(good);
        self.offset = next.unwrap_or(self.offset);
        next.is_some()
    }

    /// No record is at `offset`: what is there?
    fn end_of(&self, bytes: &[u8]) -> End {
        let rest = bytes.get(self.offset as usize..).unwrap_or_default();
        if segment::is_blank(rest) {
            return End::Zeros;
        }
        let expected = self.sequence + 1;
        let proof = find_record(bytes, self.segment, self.offset, |head| head.synced >= expected);
        End::Bad { offset: self.offset, proof }
    }

    fn damage_at(&self, offset: u32, flaw: Flaw) -> Damage {
        Damage { segment: self.segment, offset: u64::from(offset), flaw }
    }

    fn refuse_bad_end(&self, always: bool) -> Result<(), Damage> {
        match self.end {
            End::Bad { offset, proof } if proof || always => Err(self.damage_at(offset, Flaw::Record)),
            End::Bad { .. } | End::Zeros | End::Continued => Ok(()),
        }
    }

    /// There are no more segments.
    ///
    /// # Errors
    /// If the log is damaged.
    pub fn finish(mut self) -> Result<Recovery, Damage> {
        self.refuse_bad_end(false)?;
        if self.segment == 0 || (self.end == End::Continued && self.spare.is_none()) {
            return Err(Damage { segment: self.segment + 1, offset: 0, flaw: Flaw::Missing });
        }
        // What a base says is in a snapshot is not needed; everything else is.
        if !self.unbased.is_empty() || !self.groups.values().all(GroupLog::is_whole) {
            let first = self.based.first().copied().unwrap_or(self.segment);
            return Err(Damage { segment: first.saturating_sub(1).max(1), offset: 0, flaw: Flaw::Missing });
        }
        let (room, doubtful) = match self.end {
            End::Zeros => (Room::Open, None),
            End::Continued => (Room::Continued, None),
            End::Bad { .. } if is_planted(Bug::DoubtfulTailCut) => (Room::Open, None),
            End::Bad { offset, .. } => (Room::Doubtful, Some(Position { segment: self.segment, offset })),
        };
        if doubtful.is_some() {
            self.groups.values_mut().for_each(GroupLog::doubt);
        }
        let appender = Appender {
            owner: self.owner,
            segment: self.segment,
            size: self.size,
            offset: self.offset,
            room,
            sequence: self.sequence,
            chain: self.chain,
            synced: self.sequence,
            groups: self.groups,
            buffer: Vec::new(),
            promised: BTreeSet::new(),
            based: self.based,
        };
        Ok(Recovery { appender, doubtful, unsynced: self.unsynced, closed: self.closed, spare: self.spare })
    }
}

impl Recovery {
    /// Takes in a promise that was kept beside the log.
    pub fn raise_promise(&mut self, group: GroupId, promise: Ballot) {
        if let Some(state) = self.appender.groups.get_mut(&group) {
            state.raise_promise(promise);
        }
    }
}

/// Whether a record for which `wanted` holds stands anywhere from `offset` on. Its own position must be right, so bytes
/// within an entry are not taken for one.
fn find_record(bytes: &[u8], segment: u32, offset: u32, wanted: impl Fn(&Head) -> bool) -> bool {
    let mark = segment.to_be_bytes();
    let starts = offset as usize..bytes.len().saturating_sub(segment::HEAD as usize - 1);
    starts.into_iter().any(|start| {
        // Before anything dear: the position, which is wrong nearly everywhere.
        bytes[start + 12..start + 16] == mark
            && segment::decode(&bytes[start..], segment, start as u32).is_some_and(|(head, _)| wanted(&head))
    })
}
