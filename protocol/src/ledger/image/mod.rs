//! Images of a ledger: what a snapshot has in it.
//!
//! An image is the whole state between two entries: everything that applying and answering depend on (hazard A14). It is
//! taken at once and shares the large tables with the ledger, which copies what it changes afterwards; so the ledger
//! goes on while the image is written down.
//!
//! **Bytes.** An image becomes chunks of at most [`CHUNK_LIMIT`] bytes, each `[number, section, checksum, bytes]` in
//! MessagePack. The bytes of a section's chunks, one after the other, are its rows; a row may begin in one chunk and end
//! in another. A checksum (XXH3 of 64 bits, seeded with the checksum before, 0 at first) covers `[number, section]` and the
//! bytes, so a chunk that is damaged, left out, doubled or in another place is refused when it arrives. The bytes are a
//! function of the log: images of two replicas at one slot are equal, chunk by chunk. The first row is the [`Head`]; the last one has the digest of the state
//! (that of [`Totals`](crate::message::operator::Totals)), which a loader compares with that of the rows as it has them.
//!
//! **What is not in it** follows from what is: indexes, what is in doubt at an account and who waits there, locks, counts.
//! Versions of accounts and keys are no replicated state; after loading, everything counts as changed at the image's
//! slot. Each structure is taken apart by all its fields, here and where its rows are, so that a new field has to be
//! decided upon.

mod encoder;
mod loader;

#[cfg(test)]
mod tests;

use std::fmt;
use std::sync::Arc;

use super::accounts::AccountsImage;
use super::digest::Sum;
use super::ids::IdsImage;
use super::keys::KeysImage;
use super::lists::BalancesImage;
use super::pending::PendingsImage;
use super::posted::PostedImage;
use super::queue::{Turn, Waiter};
use super::replies::RepliesImage;
use super::sessions::SessionsImage;
use super::transactions::{Coordination, Held};
use super::{Flow, Ledger, Limits};
use crate::ids::{Ballot, Epoch, GroupId, Slot};
use crate::message::command::Member;
use crate::placement::map::ShardMap;
use crate::time::{LogTime, Span};
use crate::wire::codec::{Decode, DecodeError, Encode, Reader, wire_struct, wire_tags};

pub use encoder::ImageEncoder;
pub use loader::{ImageError, ImageLoader};

/// The version of an image's form that this build writes and reads.
pub const IMAGE_FORMAT: u8 = 1;

/// The most bytes of rows in a chunk.
const CHUNK_BYTES: usize = 256 * 1024;

/// The most bytes of a chunk.
pub const CHUNK_LIMIT: usize = CHUNK_BYTES + 32;

/// The most bytes of a row: a transaction as large as a client's frame, with its locks, and what it has yielded.
const ROW_LIMIT: usize = 16 * 1024 * 1024;

/// What is wrong with a row of an image.
pub(super) type Fault = &'static str;

/// The rows of a section.
pub(super) trait Rows: Send + Sync {
    /// How many parts the section has.
    fn parts(&self) -> usize {
        1
    }

    /// How many rows a part has.
    fn len(&self, part: usize) -> usize;

    /// Appends a row.
    fn encode(&self, part: usize, row: usize, out: &mut Vec<u8>);

    /// Adds a row to the digest of the state, unless the sum over such rows is kept.
    fn digest(&self, _part: usize, _row: usize, _sum: &mut Sum) {}
}

/// A row of a section that is a list.
pub(super) trait Row: Encode + Send + Sync {
    /// Adds it to the digest of the state, unless the sum over such rows is kept.
    fn digest(&self, sum: &mut Sum);
}

impl<T: Row> Row for Arc<T> {
    fn digest(&self, sum: &mut Sum) {
        (**self).digest(sum);
    }
}

impl<T: Row> Rows for Vec<T> {
    fn len(&self, _part: usize) -> usize {
        self.as_slice().len()
    }

    fn encode(&self, _part: usize, row: usize, out: &mut Vec<u8>) {
        self[row].encode(out);
    }

    fn digest(&self, _part: usize, row: usize, sum: &mut Sum) {
        self[row].digest(sum);
    }
}

impl Row for (Turn, Arc<Waiter>) {
    fn digest(&self, sum: &mut Sum) {
        self.1.digest(self.0, sum);
    }
}

impl Row for (u32, Flow) {
    fn digest(&self, sum: &mut Sum) {
        let (ledger, Flow { sent, received, difference }) = self;
        sum.row(b'f', &[ledger, sent, received, difference]);
    }
}

/// The sections of an image, in their order: each needs only what comes before it.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
enum Section {
    Head,
    Accounts,
    Keys,
    Ids,
    Posted,
    Pendings,
    Balances,
    Flows,
    Sessions,
    Records,
    Held,
    Queue,
    Replies,
    End,
}
wire_tags!(Section {
    1 => Head, 2 => Accounts, 3 => Keys, 4 => Ids, 5 => Posted, 13 => Pendings, 14 => Balances, 6 => Flows,
    7 => Sessions, 8 => Records, 9 => Held, 10 => Queue, 11 => Replies, 12 => End,
});

/// What an image begins with.
#[derive(Clone, Debug)]
struct Head {
    format: u8,
    group: GroupId,
    limits: Limits,
    applied: Slot,
    time: LogTime,
    leader: Ballot,
    members: Option<Vec<Member>>,
    counter: u64,
    arrivals: u64,
    map: ShardMap,
    counts: Counts,
}
wire_struct!(Head { format, group, limits, applied, time, leader, members, counter, arrivals, map, counts });

/// How many rows the large sections have.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
struct Counts {
    accounts: u64,
    keys: u64,
    ids: u64,
    posted: u64,
    pendings: u64,
    balances: u64,
}
wire_struct!(Counts { accounts, keys, ids, posted, pendings, balances });

/// What an image ends with.
struct End {
    digest: u128,
}
wire_struct!(End { digest });

impl Encode for Limits {
    fn encode(&self, out: &mut Vec<u8>) {
        let Limits { waiting, sessions, session_lifetime, in_doubt_per_group } = self;
        let counts = vec![*waiting as u64, *sessions as u64, *in_doubt_per_group as u64];
        (counts, *session_lifetime).encode(out);
    }
}

impl Decode for Limits {
    fn decode(reader: &mut Reader<'_>) -> Result<Limits, DecodeError> {
        let (counts, session_lifetime): (Vec<u64>, Span) = Decode::decode(reader)?;
        let size = |number: u64| usize::try_from(number).map_err(|_| DecodeError::Number);
        match counts[..] {
            [waiting, sessions, in_doubt] => Ok(Limits {
                waiting: size(waiting)?,
                sessions: size(sessions)?,
                session_lifetime,
                in_doubt_per_group: size(in_doubt)?,
            }),
            _ => Err(DecodeError::Length { expected: 3, found: counts.len() as u32 }),
        }
    }
}

impl Head {
    /// Adds the clocks of the state to a digest.
    fn digest(&self, sum: &mut Sum) {
        let Head { format: _, group: _, limits: _, applied, time, leader, members, counter, arrivals, map, counts: _ } =
            self;
        sum.row(b'g', &[applied, time, counter, arrivals, leader, members, &map.epoch]);
    }
}

impl Rows for Head {
    fn len(&self, _part: usize) -> usize {
        1
    }

    fn encode(&self, _part: usize, _row: usize, out: &mut Vec<u8>) {
        Encode::encode(self, out);
    }

    fn digest(&self, _part: usize, _row: usize, sum: &mut Sum) {
        self.digest(sum);
    }
}

/// The whole state of a [`Ledger`] between two entries. A clone shares it.
#[derive(Clone)]
pub struct Image(Arc<Parts>);

struct Parts {
    head: Head,
    accounts: AccountsImage,
    keys: KeysImage,
    ids: IdsImage,
    posted: PostedImage,
    pendings: PendingsImage,
    balances: BalancesImage,
    flows: Vec<(u32, Flow)>,
    sessions: SessionsImage,
    records: Vec<Arc<Coordination>>,
    held: Vec<Arc<Held>>,
    queue: Vec<(Turn, Arc<Waiter>)>,
    replies: RepliesImage,
    /// The sums that the tables keep over their rows.
    kept: u128,
}

impl Parts {
    /// The rows of a section; the end has none of its own.
    fn rows(&self, section: Section) -> Option<&dyn Rows> {
        Some(match section {
            Section::Head => &self.head,
            Section::Accounts => &self.accounts,
            Section::Keys => &self.keys,
            Section::Ids => &self.ids,
            Section::Posted => &self.posted,
            Section::Pendings => &self.pendings,
            Section::Balances => &self.balances,
            Section::Flows => &self.flows,
            Section::Sessions => &self.sessions,
            Section::Records => &self.records,
            Section::Held => &self.held,
            Section::Queue => &self.queue,
            Section::Replies => &self.replies,
            Section::End => return None,
        })
    }
}

impl Image {
    /// How many entries are in it: the slot of the first that is not.
    pub fn slot(&self) -> Slot {
        self.0.head.applied
    }

    /// The replicated log time.
    pub fn time(&self) -> LogTime {
        self.0.head.time
    }

    /// The ballot of the last `LeaderStart` applied.
    pub fn leader(&self) -> Ballot {
        self.0.head.leader
    }

    /// The members of the group.
    pub fn members(&self) -> Option<&[Member]> {
        self.0.head.members.as_deref()
    }

    /// The version of the shard map.
    pub fn epoch(&self) -> Epoch {
        self.0.head.map.epoch
    }

    /// The digest of the state: that of the ledger's totals. Looks at every account, about 0.1 s for a million: for
    /// whoever writes the image down, not for the thread that applies. [`ImageEncoder::digest`] has it for nothing.
    pub fn digest(&self) -> u128 {
        let mut sum = Sum::default();
        sum.add(self.0.kept);
        for rows in Section::ALL.iter().filter_map(|(section, _)| self.0.rows(*section)) {
            for part in 0..rows.parts() {
                (0..rows.len(part)).for_each(|row| rows.digest(part, row, &mut sum));
            }
        }
        sum.total()
    }

    /// The image as bytes.
    pub fn encoder(self) -> ImageEncoder {
        ImageEncoder::new(self.0)
    }
}

impl fmt::Debug for Image {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Image").field(&self.0.head).finish()
    }
}

impl Ledger {
    /// The whole state as it is now. Costs a few instructions for each chunk of rows; a chunk that changes afterwards is
    /// copied first, as long as the image exists.
    ///
    /// # Panics
    /// If an entry is begun and not done.
    pub fn image(&mut self) -> Image {
        assert!(self.work.is_none(), "an image is taken between two entries");
        let head = self.head();
        let Ledger {
            group: _,
            limits: _,
            applied: _,
            time: _,
            leader: _,
            members: _,
            counter: _, // All these are in the head.
            accounts,
            doubts: _, // Follow from what is held and what waits, locks too.
            keys,
            locks: _,
            versions: _, // No replicated state.
            replies,
            ids,
            posted,
            pendings,
            balances,
            index: _, // Follows from the rows that it is of.
            flows,
            queue,
            wake,
            sessions,
            transactions,
            work: _,
            scratch: _,
            last_work: _,
            rows: _,
        } = self;
        assert!(wake.is_empty(), "nobody has to be looked at between two entries");
        let rows = [keys.sum(), ids.sum(), posted.sum(), pendings.sum(), balances.sum()];
        let sums = rows.into_iter().chain([sessions.sum(), replies.sum()]);
        let (records, held) = transactions.image();
        Image(Arc::new(Parts {
            head,
            accounts: accounts.image(),
            keys: keys.image(),
            ids: ids.image(),
            posted: posted.image(),
            pendings: pendings.image(),
            balances: balances.image(),
            flows: flows.iter().map(|(ledger, flow)| (*ledger, *flow)).collect(),
            sessions: sessions.image(),
            records,
            held,
            queue: queue.image(),
            replies: replies.image(),
            kept: sums.fold(0, u128::wrapping_add),
        }))
    }

    fn head(&self) -> Head {
        Head {
            format: IMAGE_FORMAT,
            group: self.group,
            limits: self.limits,
            applied: self.applied,
            time: self.time,
            leader: self.leader,
            members: self.members.clone(),
            counter: self.counter,
            arrivals: self.queue.arrivals(),
            map: self.accounts.map().clone(),
            counts: self.counts(),
        }
    }

    fn counts(&self) -> Counts {
        Counts {
            accounts: self.accounts.len() as u64,
            keys: self.keys.len(),
            ids: self.ids.len() as u64,
            posted: self.posted.len(),
            pendings: self.pendings.len(),
            balances: self.balances.len(),
        }
    }

    /// Adds to a digest what is in the head of an image.
    pub(super) fn digest_head(&self, sum: &mut Sum) {
        self.head().digest(sum);
    }
}
