//! The bytes of a snapshot: a header, compressed chunks, and an end, each with its checksum. All numbers are big-endian,
//! all checksums CRC32C.
//!
//! | bytes of the header | field |
//! |---|---|
//! | 0..8 | the text `DRACHSNP` |
//! | 8..12 | checksum of the rest of the header, up to byte 64 |
//! | 12..14 | version of the format |
//! | 16..32 | cluster |
//! | 32..34, 34..42 | group, slot: the state after so many entries |
//!
//! | bytes of a chunk | field |
//! |---|---|
//! | 0..4 | checksum of all that follows |
//! | 4..8 | length of what follows the head; 0 in the end |
//! | 8..12 | length before compression; 0 in the end |
//! | 12..16 | counts the chunks, from 0 |
//! | 16..24 | where in the snapshot the chunk stands |
//! | 24.. | a chunk of [`crate::ledger::image`], compressed with LZ4 (block format) |
//!
//! A chunk says where it stands, so it can be read, sent and checked by itself: whoever fetches a snapshot asks for the
//! next by its offset, from anybody who has the same snapshot.

use std::fmt;

use bytes::Bytes;

use super::device::SnapshotDevice;
use super::segment;
use crate::ids::{ClusterId, GroupId, Slot};
use crate::ledger::image::{CHUNK_LIMIT, Image, ImageEncoder, ImageError, ImageLoader};
use crate::ledger::{Genesis, Ledger};

/// The version of this format.
pub const VERSION: u16 = 1;
/// The size of the header in bytes.
pub const HEADER: u64 = 64;
/// The size of a chunk's head in bytes.
pub const HEAD: usize = 24;

const MAGIC: [u8; 8] = *b"DRACHSNP";

/// Which snapshot.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Name {
    /// The cluster.
    pub cluster: ClusterId,
    /// The group.
    pub group: GroupId,
    /// The state after so many entries.
    pub slot: Slot,
}

/// Bytes that are no snapshot, or a damaged one.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum SnapshotError {
    /// The header is damaged, of another version, or another snapshot's.
    #[error("the snapshot's header is damaged, or another's")]
    Header,
    /// A chunk is damaged, lost, or stands somewhere else.
    #[error("offset {0}: a chunk of the snapshot is damaged")]
    Chunk(u64),
    /// The chunks do not make a state.
    #[error("the snapshot is no state: {0}")]
    Image(#[from] ImageError),
}

impl Name {
    /// The header's bytes.
    fn header(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(HEADER as usize);
        out.extend_from_slice(&MAGIC);
        out.extend_from_slice(&[0; 4]);
        out.extend_from_slice(&VERSION.to_be_bytes());
        out.extend_from_slice(&[0; 2]);
        out.extend_from_slice(&self.cluster.0.to_be_bytes());
        out.extend_from_slice(&self.group.0.to_be_bytes());
        out.extend_from_slice(&self.slot.0.to_be_bytes());
        out.resize(HEADER as usize, 0);
        let checksum = segment::checksum(&out[12..]);
        out[8..12].copy_from_slice(&checksum.to_be_bytes());
        out
    }
}

/// Turns an image into the bytes of a snapshot, a piece at a time.
pub struct Writer {
    header: Option<Vec<u8>>,
    image: Option<ImageEncoder>,
    offset: u64,
    count: u32,
}

impl Writer {
    /// The snapshot of an image.
    pub fn new(cluster: ClusterId, group: GroupId, image: Image) -> Writer {
        let name = Name { cluster, group, slot: image.slot() };
        Writer { header: Some(name.header()), image: Some(image.encoder()), offset: HEADER, count: 0 }
    }

    /// The next piece, to stand behind the one before; nothing after the last.
    pub fn next_piece(&mut self) -> Option<Vec<u8>> {
        if let Some(header) = self.header.take() {
            return Some(header);
        }
        let encoder = self.image.as_mut()?;
        let piece = match encoder.next_chunk() {
            Some(chunk) => chunk_of(self.offset, self.count, &lz4_flex::block::compress(&chunk), chunk.len()),
            None => {
                self.image = None;
                chunk_of(self.offset, self.count, &[], 0)
            }
        };
        self.offset += piece.len() as u64;
        self.count += 1;
        Some(piece)
    }
}

/// Writes the snapshot of an image at once, and returns its size in bytes.
///
/// # Errors
/// If the device refuses.
pub fn write<D: SnapshotDevice>(
    device: &mut D,
    cluster: ClusterId,
    group: GroupId,
    image: Image,
) -> Result<u64, D::Error> {
    let slot = image.slot();
    let mut bytes = 0;
    let mut writer = Writer::new(cluster, group, image);
    device.begin_snapshot(group)?;
    while let Some(piece) = writer.next_piece() {
        device.append_snapshot(group, &piece)?;
        bytes += piece.len() as u64;
    }
    device.finish_snapshot(group, slot)?;
    Ok(bytes)
}

fn chunk_of(offset: u64, count: u32, compressed: &[u8], length: usize) -> Vec<u8> {
    assert!(length <= CHUNK_LIMIT, "a chunk of {length} bytes");
    let mut out = vec![0; 4];
    out.extend_from_slice(&(compressed.len() as u32).to_be_bytes());
    out.extend_from_slice(&(length as u32).to_be_bytes());
    out.extend_from_slice(&count.to_be_bytes());
    out.extend_from_slice(&offset.to_be_bytes());
    out.extend_from_slice(compressed);
    let checksum = segment::checksum(&out[4..]);
    out[..4].copy_from_slice(&checksum.to_be_bytes());
    out
}

/// What a chunk is.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Chunk {
    /// A chunk of the image, as it was before compression.
    Image(Vec<u8>),
    /// There are no more.
    End,
}

/// The length that a chunk claims, head included.
fn claimed(head: &[u8]) -> Option<usize> {
    let length = u32::from_be_bytes(*head.get(4..8)?.first_chunk()?) as usize;
    (length <= lz4_flex::block::get_maximum_output_size(CHUNK_LIMIT)).then_some(HEAD + length)
}

/// Reads a chunk that stands at `offset`.
///
/// # Errors
/// If the bytes are not one: they may come from a disk or from a peer.
pub fn decode(offset: u64, bytes: &[u8]) -> Result<Chunk, SnapshotError> {
    let bad = || SnapshotError::Chunk(offset);
    let field =
        |at: usize| bytes.get(at..at + 4).and_then(|field| field.first_chunk()).copied().map(u32::from_be_bytes);
    let place = bytes.get(16..24).and_then(|field| field.first_chunk()).copied().map(u64::from_be_bytes);
    let length = field(8).ok_or_else(bad)? as usize;
    let whole = claimed(bytes) == Some(bytes.len()) && place == Some(offset) && length <= CHUNK_LIMIT;
    if !whole || field(0) != Some(segment::checksum(&bytes[4..])) {
        return Err(bad());
    }
    if length == 0 {
        return Ok(Chunk::End);
    }
    let chunk = lz4_flex::block::decompress(&bytes[HEAD..], length).map_err(|_| bad())?;
    if chunk.len() == length { Ok(Chunk::Image(chunk)) } else { Err(bad()) }
}

/// The chunk of a whole snapshot that stands at `offset`, with its head; nothing if there is none, or it is damaged.
///
/// # Errors
/// If the device refuses.
pub fn read<D: SnapshotDevice>(
    device: &mut D,
    group: GroupId,
    slot: Slot,
    offset: u64,
) -> Result<Option<Bytes>, D::Error> {
    let mut bytes = vec![0; HEAD];
    if device.read_snapshot(group, slot, offset, &mut bytes)? < HEAD {
        return Ok(None);
    }
    let Some(length) = claimed(&bytes) else { return Ok(None) };
    bytes.resize(length, 0);
    let read = device.read_snapshot(group, slot, offset + HEAD as u64, &mut bytes[HEAD..])?;
    let whole = read == length - HEAD && decode(offset, &bytes).is_ok();
    Ok(whole.then(|| Bytes::from(bytes)))
}

/// Why a snapshot cannot be loaded.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum LoadError<E> {
    /// The device refused.
    #[error("{0}")]
    Device(E),
    /// It is damaged.
    #[error("{0}")]
    Snapshot(#[from] SnapshotError),
}

/// Loads the state that a whole snapshot holds, into a ledger as [`Ledger::with_parts`] makes it.
///
/// # Errors
/// If it is damaged, or the device refuses.
pub fn load<D: SnapshotDevice>(
    device: &mut D,
    name: Name,
    (seed, genesis, parts): (u64, &Genesis, usize),
) -> Result<Ledger, LoadError<D::Error>> {
    let mut header = vec![0; HEADER as usize];
    let read = device.read_snapshot(name.group, name.slot, 0, &mut header).map_err(LoadError::Device)?;
    if read < header.len() || header != name.header() {
        return Err(SnapshotError::Header.into());
    }
    let mut loader = Loader::new(name.slot, seed, genesis, parts);
    loop {
        let chunk = read_at(device, name, loader.offset())?;
        if let Some(ledger) = loader.push(&chunk)? {
            return Ok(*ledger);
        }
    }
}

fn read_at<D: SnapshotDevice>(device: &mut D, name: Name, offset: u64) -> Result<Bytes, LoadError<D::Error>> {
    let chunk = read(device, name.group, name.slot, offset).map_err(LoadError::Device)?;
    Ok(chunk.ok_or(SnapshotError::Chunk(offset))?)
}

/// Makes a state of chunks, one after the other.
#[derive(Clone)]
pub struct Loader {
    slot: Slot,
    offset: u64,
    loader: Option<ImageLoader>,
}

impl Loader {
    /// Nothing yet of the snapshot at `slot`. `seed` and `parts` are for the hash tables, as in [`Ledger::with_parts`].
    pub fn new(slot: Slot, seed: u64, genesis: &Genesis, parts: usize) -> Loader {
        Loader { slot, offset: HEADER, loader: Some(ImageLoader::with_parts(seed, genesis, parts)) }
    }

    /// Where the next chunk stands.
    pub fn offset(&self) -> u64 {
        self.offset
    }

    /// Which snapshot.
    pub fn slot(&self) -> Slot {
        self.slot
    }

    /// Takes in the next chunk, with its head; after the last one, the state.
    ///
    /// # Errors
    /// If it is damaged, or the chunks do not make the state that they should.
    pub fn push(&mut self, bytes: &[u8]) -> Result<Option<Box<Ledger>>, SnapshotError> {
        let chunk = decode(self.offset, bytes)?;
        let loader = self.loader.as_mut().ok_or(SnapshotError::Chunk(self.offset))?;
        match chunk {
            Chunk::Image(chunk) => loader.push(&chunk)?,
            Chunk::End => {
                let ledger = self.loader.take().ok_or(SnapshotError::Chunk(self.offset))?.finish()?;
                if ledger.applied() != self.slot {
                    return Err(SnapshotError::Header);
                }
                return Ok(Some(Box::new(ledger)));
            }
        }
        self.offset += bytes.len() as u64;
        Ok(None)
    }
}

impl fmt::Debug for Loader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Loader").field("slot", &self.slot).field("offset", &self.offset).finish_non_exhaustive()
    }
}
