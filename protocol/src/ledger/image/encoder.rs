//! An image as bytes.

use std::sync::Arc;

use xxhash_rust::xxh3::Xxh3;

use super::{CHUNK_BYTES, End, Parts, Section};
use crate::ledger::digest::Sum;
use crate::planted::{Bug, is_planted};
use crate::wire::codec::{Decode, DecodeError, Encode, Reader, encode_array_len, encode_bin, to_vec};

/// Makes the chunks of an image, one after the other, each in bounded time.
pub struct ImageEncoder {
    parts: Arc<Parts>,
    section: Section,
    part: usize,
    row: usize,
    // Rows that are not in a chunk yet.
    buffer: Vec<u8>,
    number: u32,
    checksum: u64,
    sum: Sum,
    done: bool,
}

impl ImageEncoder {
    pub(super) fn new(parts: Arc<Parts>) -> ImageEncoder {
        let mut sum = Sum::default();
        sum.add(parts.kept);
        ImageEncoder {
            parts,
            section: Section::Head,
            part: 0,
            row: 0,
            buffer: Vec::new(),
            number: 0,
            checksum: 0,
            sum,
            done: false,
        }
    }

    /// The next chunk, of at most [`CHUNK_LIMIT`](super::CHUNK_LIMIT) bytes; nothing after the last.
    pub fn next_chunk(&mut self) -> Option<Vec<u8>> {
        while !self.done {
            while self.buffer.len() < CHUNK_BYTES && self.encode_row() {}
            let section = self.section;
            if self.buffer.len() < CHUNK_BYTES {
                self.next_section();
            }
            if !self.buffer.is_empty() {
                let rest = self.buffer.split_off(self.buffer.len().min(CHUNK_BYTES));
                let rows = std::mem::replace(&mut self.buffer, rest);
                let chunk = Chunk::new(self.number, section, self.checksum, &rows);
                (self.number, self.checksum) = (self.number + 1, chunk.checksum);
                return Some(chunk.to_bytes());
            }
        }
        None
    }

    /// How many chunks there were so far.
    pub fn chunks(&self) -> u32 {
        self.number
    }

    /// The digest of the state, once the last chunk was made.
    pub fn digest(&self) -> Option<u128> {
        self.done.then(|| self.sum.total())
    }

    /// Appends the next row of the section; false if there is none.
    fn encode_row(&mut self) -> bool {
        let Some(rows) = self.parts.rows(self.section) else {
            let is_first = self.row == 0;
            if is_first {
                End { digest: self.sum.total() }.encode(&mut self.buffer);
                self.row = 1;
            }
            return is_first;
        };
        if is_forgotten(self.section) {
            return false;
        }
        while self.part < rows.parts() {
            if self.row < rows.len(self.part) {
                rows.encode(self.part, self.row, &mut self.buffer);
                rows.digest(self.part, self.row, &mut self.sum);
                self.row += 1;
                return true;
            }
            (self.part, self.row) = (self.part + 1, 0);
        }
        false
    }

    fn next_section(&mut self) {
        let next = Section::ALL.iter().map(|(section, _)| *section).find(|section| *section > self.section);
        match next {
            Some(section) => (self.section, self.part, self.row) = (section, 0, 0),
            None => self.done = true,
        }
    }
}

/// Whether a planted bug leaves a section out of images.
pub(super) fn is_forgotten(section: Section) -> bool {
    match section {
        Section::Sessions => is_planted(Bug::SnapshotForgetsSessions),
        Section::Held => is_planted(Bug::SnapshotForgetsDoubt),
        _ => false,
    }
}

/// A piece of an image.
pub(super) struct Chunk<'a> {
    /// Counts from 0.
    pub(super) number: u32,
    /// What its rows are.
    pub(super) section: Section,
    /// Of this chunk and all before it.
    pub(super) checksum: u64,
    /// The next bytes of the section's rows.
    pub(super) rows: &'a [u8],
}

impl<'a> Chunk<'a> {
    /// `before`: the checksum of the chunk before, 0 for the first.
    pub(super) fn new(number: u32, section: Section, before: u64, rows: &'a [u8]) -> Chunk<'a> {
        Chunk { number, section, checksum: checksum(number, section, before, rows), rows }
    }

    pub(super) fn to_bytes(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(self.rows.len() + 32);
        encode_array_len(&mut out, 4);
        self.number.encode(&mut out);
        self.section.encode(&mut out);
        self.checksum.encode(&mut out);
        encode_bin(&mut out, self.rows);
        out
    }

    /// Reads a chunk; whether it is whole shows [`Chunk::follows`].
    pub(super) fn from_bytes(bytes: &'a [u8]) -> Result<Chunk<'a>, DecodeError> {
        let mut reader = Reader::new(bytes);
        reader.array_of(4)?;
        let (number, section) = (u32::decode(&mut reader)?, Section::decode(&mut reader)?);
        let chunk = Chunk { number, section, checksum: reader.uint()?, rows: reader.bin()? };
        reader.finish()?;
        Ok(chunk)
    }

    /// Whether it is whole, and comes after one with the checksum `before`.
    pub(super) fn follows(&self, before: u64) -> bool {
        self.checksum == checksum(self.number, self.section, before, self.rows)
    }
}

fn checksum(number: u32, section: Section, before: u64, rows: &[u8]) -> u64 {
    let mut hash = Xxh3::with_seed(before);
    hash.update(&to_vec(&(number, section)));
    hash.update(rows);
    hash.digest()
}
