//! What committed transactions have yielded: the latest of it is kept, for those whose answer was lost.

use std::collections::VecDeque;
use std::sync::Arc;

use super::chunk::Chunk;
use super::image::{Fault, Rows};
use super::operations::Reply;
use crate::ids::TxnId;
use crate::planted::{Bug, is_planted};
use crate::table::Table;
use crate::wire::codec::{Encode, to_vec};

/// The most bytes that are kept; the oldest go first.
const LIMIT: usize = 16 * 1024 * 1024;

/// A segment takes no more rows, or none after so many bytes.
const SEGMENT_ROWS: usize = 64;
const SEGMENT_BYTES: usize = 64 * 1024;

/// A transaction and what it has yielded.
pub(super) type ImageRow = (TxnId, Vec<Reply>);

/// Where a row lies: the number of its segment, counted from the first that ever was, and the place in it.
#[derive(Clone, Copy, Default)]
struct Position {
    segment: u64,
    row: usize,
}

/// The replies of the latest transactions. What is no longer here is answered without: the outcome is kept for ever.
#[derive(Clone)]
pub(super) struct Replies {
    index: Table<TxnId, Position>,
    segments: VecDeque<Chunk<ImageRow>>,
    /// The oldest row that is kept, in the first segment. Those before it go with their segment.
    oldest: Position,
    /// Of the rows in the last segment.
    last_bytes: usize,
    bytes: usize,
    sum: u128,
}

impl Replies {
    /// Nothing yet.
    pub(super) fn new(seed: u64) -> Replies {
        Replies {
            index: Table::new(seed, 64),
            segments: VecDeque::new(),
            oldest: Position::default(),
            last_bytes: 0,
            bytes: 0,
            sum: 0,
        }
    }

    /// Keeps what a transaction has yielded, if that says anything.
    pub(super) fn keep(&mut self, txn: TxnId, replies: &[Reply]) {
        if replies.iter().all(|reply| matches!(reply, Reply::Done(_))) || is_planted(Bug::RepliesForgotten) {
            return;
        }
        self.bytes += bytes(replies);
        self.sum = self.sum.wrapping_add(hash(txn, replies));
        self.push(txn, replies);
        while self.bytes > LIMIT {
            self.drop_oldest();
        }
    }

    fn push(&mut self, txn: TxnId, replies: &[Reply]) {
        let full = |last: &Chunk<ImageRow>| last.rows().len() >= SEGMENT_ROWS;
        if self.segments.back().is_none_or(full) || self.last_bytes >= SEGMENT_BYTES {
            self.segments.push_back(Chunk::with_capacity(1));
            self.last_bytes = 0;
        }
        self.last_bytes += bytes(replies);
        let segment = self.oldest.segment + self.segments.len() as u64 - 1;
        let last = self.segments.back_mut().expect("there is one").own();
        let before = self.index.insert(txn, Position { segment, row: last.len() });
        assert!(before.is_none(), "a transaction takes effect once");
        last.push((txn, replies.to_vec()));
    }

    fn drop_oldest(&mut self) {
        let first = self.segments.front().expect("bytes are those of rows").rows();
        let (txn, gone) = &first[self.oldest.row];
        self.bytes -= bytes(gone);
        self.sum = self.sum.wrapping_sub(hash(*txn, gone));
        self.index.remove(txn).expect("what is kept is in the index");
        self.oldest.row += 1;
        if self.oldest.row == first.len() {
            self.segments.pop_front();
            self.oldest = Position { segment: self.oldest.segment + 1, row: 0 };
        }
    }

    /// What a transaction has yielded, if that is still here.
    pub(super) fn of(&self, txn: TxnId) -> Option<Vec<Reply>> {
        if self.index.is_empty() {
            return None;
        }
        let position = self.index.get(&txn)?;
        let segment = &self.segments[(position.segment - self.oldest.segment) as usize];
        Some(segment.rows()[position.row].1.clone())
    }

    /// The order-free digest of all rows.
    pub(super) fn sum(&self) -> u128 {
        self.sum
    }

    /// The replies as they are now, the oldest first.
    pub(super) fn image(&mut self) -> RepliesImage {
        let Replies { index: _, segments, oldest, last_bytes: _, bytes: _, sum: _ } = self;
        RepliesImage { segments: segments.iter_mut().map(Chunk::share).collect(), first: oldest.row }
    }

    /// Takes over the next row of an image.
    pub(super) fn load(&mut self, (txn, replies): ImageRow) -> Result<(), Fault> {
        if self.index.get(&txn).is_some() {
            return Err("the replies to a transaction twice");
        }
        self.keep(txn, &replies);
        Ok(())
    }
}

/// The replies as an image has them.
pub(super) struct RepliesImage {
    segments: Vec<Arc<Vec<ImageRow>>>,
    /// Rows of the first segment that had gone.
    first: usize,
}

impl RepliesImage {
    fn skipped(&self, part: usize) -> usize {
        if part == 0 { self.first } else { 0 }
    }
}

impl Rows for RepliesImage {
    fn parts(&self) -> usize {
        self.segments.len()
    }

    fn len(&self, part: usize) -> usize {
        self.segments[part].len() - self.skipped(part)
    }

    fn encode(&self, part: usize, row: usize, out: &mut Vec<u8>) {
        self.segments[part][self.skipped(part) + row].encode(out);
    }
}

fn bytes(replies: &[Reply]) -> usize {
    64 + replies.iter().map(Reply::bytes).sum::<usize>()
}

fn hash(txn: TxnId, replies: &[Reply]) -> u128 {
    let mut row = to_vec(&(txn, replies.to_vec()));
    row.push(b'y');
    xxhash_rust::xxh3::xxh3_128(&row)
}

#[cfg(test)]
mod tests {
    use super::{LIMIT, Replies};
    use crate::ids::{AccountId, TransferId, TxnId};
    use crate::ledger::operations::{Reply, Value};

    fn txn(number: u128) -> TxnId {
        TxnId { id: TransferId(number), first: AccountId(1) }
    }

    #[test]
    fn the_latest_replies_are_kept_in_an_image_too() {
        let reply = |number: u128| {
            let size = if number.is_multiple_of(100) { 200_000 } else { 5_000 };
            vec![Reply::Value(Value::new(vec![number as u8; size]))]
        };
        let mut replies = Replies::new(1);
        for number in 0..6000 {
            replies.keep(txn(number), &reply(number));
            if number % 1000 == 999 {
                let image = replies.image();
                let mut loaded = Replies::new(2);
                for (part, segment) in image.segments.iter().enumerate() {
                    segment[image.skipped(part)..].iter().for_each(|row| loaded.load(row.clone()).expect("a row"));
                }
                assert_eq!((loaded.sum(), loaded.bytes), (replies.sum(), replies.bytes));
                replies = loaded;
            }
        }
        let kept: Vec<u128> = (0..6000).filter(|number| replies.of(txn(*number)).is_some()).collect();
        assert!(kept.iter().all(|number| replies.of(txn(*number)) == Some(reply(*number))));
        assert_eq!(kept, (6000 - kept.len() as u128..6000).collect::<Vec<_>>(), "the oldest go first");
        assert!((LIMIT - 300_000..=LIMIT).contains(&replies.bytes), "{}", replies.bytes);
    }
}
