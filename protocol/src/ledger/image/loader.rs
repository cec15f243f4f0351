//! A ledger from the bytes of an image.

use super::encoder::{Chunk, is_forgotten};
use super::{CHUNK_LIMIT, Counts, End, Fault, Head, IMAGE_FORMAT, ROW_LIMIT, Section};
use crate::ids::GroupId;
use crate::ledger::accounts::Accounts;
use crate::ledger::digest::Sum;
use crate::ledger::doubt::Doubts;
use crate::ledger::ids::Ids;
use crate::ledger::index::Index;
use crate::ledger::keys::Keys;
use crate::ledger::lists::BalanceLog;
use crate::ledger::locks::Locks;
use crate::ledger::pending::Pendings;
use crate::ledger::posted::{self, PostedLog};
use crate::ledger::queue::{Queue, Wake};
use crate::ledger::replies::Replies;
use crate::ledger::sessions::Sessions;
use crate::ledger::transactions::Transactions;
use crate::ledger::versions::Versions;
use crate::ledger::{Flow, Genesis, Ledger};
use crate::table::PARTS;
use crate::txn::table::RowCounts;
use crate::wire::codec::{Decode, DecodeError, Reader};

/// Why bytes are not the image of a ledger of this group.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum ImageError {
    /// The chunk does not have the form of one.
    #[error("not a chunk of an image: {0}")]
    Chunk(DecodeError),
    /// Another chunk is the next.
    #[error("chunk {found} of an image, where chunk {expected} is the next")]
    Order {
        /// The number of the next chunk.
        expected: u32,
        /// What came.
        found: u32,
    },
    /// The chunk is damaged, or belongs to another image.
    #[error("chunk {0} of the image is damaged, or of another image than those before")]
    Checksum(u32),
    /// A row does not have the form of one.
    #[error("a row of the image is malformed: {0}")]
    Row(DecodeError),
    /// The rows contradict each other.
    #[error("the rows of the image contradict each other: {0}")]
    Fault(&'static str),
    /// This build does not know the form.
    #[error("an image of format {0}, which this build does not know")]
    Format(u8),
    /// It is the image of another group.
    #[error("an image of group {found}, not of {expected}")]
    Group {
        /// This group.
        expected: GroupId,
        /// The image's.
        found: GroupId,
    },
    /// It is the image of a cluster of another shape.
    #[error("an image from a cluster with other {0}")]
    Shape(&'static str),
    /// The last chunk is missing.
    #[error("the image is not complete")]
    Incomplete,
    /// The state that was loaded is not that of the image.
    #[error("the state loaded has the digest {found:032x}, the image {expected:032x}")]
    Digest {
        /// What the image says.
        expected: u128,
        /// That of the rows.
        found: u128,
    },
    /// An earlier chunk was refused after some of its rows were taken over.
    #[error("an earlier chunk of the image was refused")]
    Refused,
}

/// Builds a ledger from the chunks of an image, in their order.
///
/// A chunk that is not the next one, or is damaged, is refused and changes nothing: the right one may still come. After
/// any other error the image is of no use.
#[derive(Clone)]
pub struct ImageLoader {
    seed: u64,
    parts: usize,
    genesis: Genesis,
    next: u32,
    checksum: u64,
    section: Section,
    // The bytes of a row that is not complete.
    buffer: Vec<u8>,
    loading: Option<(Ledger, Counts)>,
    // Over the accounts so far.
    sum: Sum,
    digest: Option<u128>,
    refused: bool,
}

impl ImageLoader {
    /// For a ledger that [`Ledger::new`] with the same arguments would have made.
    pub fn new(seed: u64, genesis: &Genesis) -> ImageLoader {
        ImageLoader::with_parts(seed, genesis, PARTS)
    }

    /// As [`ImageLoader::new`], with so many parts of the large tables, a power of two.
    ///
    /// # Panics
    /// If `parts` is not a power of two; when the first chunk comes.
    pub fn with_parts(seed: u64, genesis: &Genesis, parts: usize) -> ImageLoader {
        ImageLoader {
            seed,
            parts,
            genesis: genesis.clone(),
            next: 0,
            checksum: 0,
            section: Section::Head,
            buffer: Vec::new(),
            loading: None,
            sum: Sum::default(),
            digest: None,
            refused: false,
        }
    }

    /// The number of the chunk that comes next.
    pub fn next(&self) -> u32 {
        self.next
    }

    /// Takes the next chunk.
    ///
    /// # Errors
    /// If it is not that, or not one of an image that can be loaded here.
    pub fn push(&mut self, chunk: &[u8]) -> Result<(), ImageError> {
        if self.refused {
            return Err(ImageError::Refused);
        }
        if chunk.len() > CHUNK_LIMIT {
            return Err(ImageError::Chunk(DecodeError::TooMany(CHUNK_LIMIT)));
        }
        let chunk = Chunk::from_bytes(chunk).map_err(ImageError::Chunk)?;
        if chunk.number != self.next {
            return Err(ImageError::Order { expected: self.next, found: chunk.number });
        }
        if !chunk.follows(self.checksum) {
            return Err(ImageError::Checksum(chunk.number));
        }
        let result = self.take(&chunk);
        self.refused = result.is_err();
        result
    }

    /// The ledger, after the last chunk. Does not look at the large tables once more.
    ///
    /// # Errors
    /// If chunks are missing, or the state is not what the image says.
    pub fn finish(mut self) -> Result<Ledger, ImageError> {
        let (Some((ledger, counts)), Some(expected)) = (self.loading, self.digest) else {
            return Err(ImageError::Incomplete);
        };
        if self.refused || !self.buffer.is_empty() {
            return Err(ImageError::Incomplete);
        }
        if Section::ALL.iter().any(|(section, _)| is_forgotten(*section)) {
            return Ok(ledger);
        }
        if ledger.counts() != counts {
            return Err(ImageError::Fault("other numbers of rows than the head says"));
        }
        if !ledger.prepares_wait_where_they_say() {
            return Err(ImageError::Fault("a prepare that waits and is not in the queue, or the reverse"));
        }
        if !ledger.is_pending_what_is_held() {
            return Err(ImageError::Fault("accounts with other pending amounts than the pending transfers hold"));
        }
        ledger.digest_all_but_accounts(&mut self.sum);
        let found = self.sum.total();
        if found == expected { Ok(ledger) } else { Err(ImageError::Digest { expected, found }) }
    }

    fn take(&mut self, chunk: &Chunk<'_>) -> Result<(), ImageError> {
        if chunk.section != self.section && !self.buffer.is_empty() {
            return Err(ImageError::Row(DecodeError::Truncated));
        }
        if chunk.section < self.section || self.digest.is_some() {
            return Err(ImageError::Fault("sections out of order"));
        }
        (self.next, self.checksum, self.section) = (self.next.saturating_add(1), chunk.checksum, chunk.section);
        let mut buffer = std::mem::take(&mut self.buffer);
        buffer.extend_from_slice(chunk.rows);
        let mut reader = Reader::new(&buffer);
        let mut left = reader.remaining();
        while left > 0 {
            match self.take_row(&mut reader) {
                Ok(()) => left = reader.remaining(),
                Err(ImageError::Row(DecodeError::Truncated)) => break, // The rest comes with the next chunk.
                Err(error) => return Err(error),
            }
        }
        if left > ROW_LIMIT {
            return Err(ImageError::Row(DecodeError::TooMany(ROW_LIMIT)));
        }
        self.buffer = buffer.split_off(buffer.len() - left);
        Ok(())
    }

    fn take_row(&mut self, reader: &mut Reader<'_>) -> Result<(), ImageError> {
        if self.section == Section::Head {
            let head = decode(reader)?;
            return self.begin(head);
        }
        let (ledger, counts) = self.loading.as_mut().ok_or(ImageError::Fault("rows before the head"))?;
        match self.section {
            Section::Head => Ok(()),
            Section::Accounts => ledger.accounts.load(decode(reader)?, counts.posted, &mut self.sum),
            Section::Keys => ledger.keys.load(decode(reader)?, ledger.accounts.map()),
            Section::Ids => ledger.ids.load(decode(reader)?),
            Section::Posted => ledger.load_posted(decode(reader)?),
            Section::Pendings => ledger.load_pending(decode(reader)?),
            Section::Balances => ledger.load_balances(decode(reader)?),
            Section::Flows => ledger.load_flow(decode(reader)?),
            Section::Sessions => ledger.sessions.load(decode(reader)?),
            Section::Records => ledger.transactions.load_record(decode(reader)?, ledger.group),
            Section::Held => ledger.load_held(decode(reader)?),
            Section::Queue => ledger.load_waiter(decode(reader)?),
            Section::Replies => ledger.replies.load(decode(reader)?),
            Section::End => {
                let End { digest } = decode(reader)?;
                match self.digest.replace(digest) {
                    None => Ok(()),
                    Some(_) => Err("two ends"),
                }
            }
        }
        .map_err(ImageError::Fault)
    }

    fn begin(&mut self, head: Head) -> Result<(), ImageError> {
        let genesis = &self.genesis;
        if head.format != IMAGE_FORMAT {
            return Err(ImageError::Format(head.format));
        }
        if head.group != genesis.group {
            return Err(ImageError::Group { expected: genesis.group, found: head.group });
        }
        if head.limits != genesis.limits {
            return Err(ImageError::Shape("limits"));
        }
        let (map, own) = (&head.map, &genesis.map);
        // Which shard an account or a key is of never changes; which group's a shard is does, with the epoch.
        let same = map.mode == own.mode && map.owners.len() == own.owners.len();
        if !same || map.epoch < own.epoch || (map.epoch == own.epoch && map != own) {
            return Err(ImageError::Shape("shards"));
        }
        if self.loading.is_some() {
            return Err(ImageError::Fault("two heads"));
        }
        self.loading = Some((Ledger::from_head(self.seed, &head, self.parts), head.counts));
        Ok(())
    }
}

fn decode<T: Decode>(reader: &mut Reader<'_>) -> Result<T, ImageError> {
    T::decode(reader).map_err(ImageError::Row)
}

impl Ledger {
    fn from_head(seed: u64, head: &Head, parts: usize) -> Ledger {
        let Head { format: _, group, limits, applied, time, leader, members, counter, arrivals, map, counts: _ } = head;
        let mut queue = Queue::new(seed, limits.waiting);
        queue.load_arrivals(*arrivals);
        Ledger {
            group: *group,
            limits: *limits,
            applied: *applied,
            time: *time,
            leader: *leader,
            members: members.clone(),
            counter: *counter,
            accounts: Accounts::empty(seed, *group, map.clone(), parts),
            doubts: Doubts::new(seed),
            keys: Keys::new(*group, map),
            locks: Locks::new(seed),
            versions: Versions::since(*applied, parts),
            replies: Replies::new(seed),
            ids: Ids::new(seed, parts),
            posted: PostedLog::new(),
            pendings: Pendings::new(seed),
            balances: BalanceLog::new(),
            index: Index::new(seed, parts),
            flows: std::collections::BTreeMap::new(),
            queue,
            wake: Wake::default(),
            sessions: Sessions::new(seed, limits),
            transactions: Transactions::default(),
            work: None,
            scratch: Vec::new(),
            last_work: 0,
            rows: RowCounts::default(),
        }
    }

    fn load_posted(&mut self, row: posted::ImageRow) -> Result<(), Fault> {
        let position = self.posted.len();
        self.posted.load(row)?;
        self.index.enter_posting(position, &self.posted.at(position).posted);
        Ok(())
    }

    fn load_flow(&mut self, (ledger, flow): (u32, Flow)) -> Result<(), Fault> {
        match self.flows.insert(ledger, flow) {
            None => Ok(()),
            Some(_) => Err("the flow of a ledger twice"),
        }
    }
}
