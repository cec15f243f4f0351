//! The bytes of segment headers and of records; see the tables in [`super`].

use crate::ids::{ClusterId, DirectoryId, GroupId, NodeId};

/// The version of this format.
pub const VERSION: u8 = 1;
/// The size of a segment's header in bytes.
pub const HEADER: u32 = 4096;
/// The size of a record's head in bytes.
pub const HEAD: u32 = 40;
/// The largest record in bytes, head included.
pub const MAX_RECORD: u32 = 1 << 30;
/// The largest segment in bytes: one that a largest record fits.
pub const MAX_SEGMENT: u32 = MAX_RECORD + HEADER + HEAD;

const MAGIC: [u8; 8] = *b"DRACHLOG";

/// Who a log belongs to.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Owner {
    /// The cluster.
    pub cluster: ClusterId,
    /// The node.
    pub node: NodeId,
    /// The data directory.
    pub directory: DirectoryId,
}

/// The beginning of a segment.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Header {
    /// Who the log belongs to.
    pub owner: Owner,
    /// Counts the segments, from 1.
    pub segment: u32,
    /// In bytes, header included.
    pub size: u32,
    /// The sequence number of the first record.
    pub sequence: u64,
    /// The checksum of the record before; 0 if there is none.
    pub chain: u32,
    /// The segment was opened because the one before had a doubtful end.
    pub doubtful: bool,
}

/// Why bytes are not a segment's header.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum HeaderError {
    /// Damaged, or never written.
    Bad,
    /// Whole, but of another version of the format.
    Version(u16),
}

impl Header {
    /// The header's bytes.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(HEADER as usize);
        out.extend_from_slice(&MAGIC);
        out.extend_from_slice(&[0; 4]);
        out.extend_from_slice(&u16::from(VERSION).to_be_bytes());
        out.extend_from_slice(&[u8::from(self.doubtful), 0]);
        out.extend_from_slice(&self.owner.cluster.0.to_be_bytes());
        out.extend_from_slice(&self.owner.node.0.to_be_bytes());
        out.extend_from_slice(&self.owner.directory.0.to_be_bytes());
        out.extend_from_slice(&self.segment.to_be_bytes());
        out.extend_from_slice(&self.size.to_be_bytes());
        out.extend_from_slice(&self.sequence.to_be_bytes());
        out.extend_from_slice(&self.chain.to_be_bytes());
        out.resize(HEADER as usize, 0);
        let checksum = crc32c::crc32c(&out[12..]);
        out[8..12].copy_from_slice(&checksum.to_be_bytes());
        out
    }

    /// Reads a header from a segment's first bytes.
    ///
    /// # Errors
    /// If they are not one.
    pub fn decode(bytes: &[u8]) -> Result<Header, HeaderError> {
        let bytes = bytes.get(..HEADER as usize).ok_or(HeaderError::Bad)?;
        if bytes[..8] != MAGIC || u32::from_be_bytes(field(bytes, 8)) != crc32c::crc32c(&bytes[12..]) {
            return Err(HeaderError::Bad);
        }
        let version = u16::from_be_bytes(field(bytes, 12));
        if version != u16::from(VERSION) {
            return Err(HeaderError::Version(version));
        }
        let size = u32::from_be_bytes(field(bytes, 54));
        if !(HEADER + HEAD..=MAX_SEGMENT).contains(&size) {
            return Err(HeaderError::Bad); // No writer makes such a segment: it could not even be ended.
        }
        Ok(Header {
            owner: Owner {
                cluster: ClusterId(u128::from_be_bytes(field(bytes, 16))),
                node: NodeId(u16::from_be_bytes(field(bytes, 32))),
                directory: DirectoryId(u128::from_be_bytes(field(bytes, 34))),
            },
            segment: u32::from_be_bytes(field(bytes, 50)),
            size,
            sequence: u64::from_be_bytes(field(bytes, 58)),
            chain: u32::from_be_bytes(field(bytes, 66)),
            doubtful: bytes[14] != 0,
        })
    }
}

/// What a record is.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[repr(u8)]
pub enum Kind {
    /// A [`super::record::Record`] of a group.
    Data = 1,
    /// The log was closed in order; everything before was synced.
    Closed = 2,
    /// The log goes on in the next segment; everything before was synced before anything was written there.
    Continued = 3,
}

/// The beginning of a record.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Head {
    /// The checksum of the record.
    pub checksum: u32,
    /// Of the whole record, in bytes.
    pub length: u32,
    /// The checksum of the record before.
    pub chain: u32,
    /// Counts the records, from 1.
    pub sequence: u64,
    /// Everything up to this sequence number was synced when this record was written.
    pub synced: u64,
    /// Whose record it is; zero for [`Kind::Closed`] and [`Kind::Continued`].
    pub group: GroupId,
    /// The version of the format.
    pub version: u8,
    /// A [`Kind`].
    pub kind: u8,
}

/// What the writer knows of a record before it has its body.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Place {
    pub(crate) segment: u32,
    pub(crate) offset: u32,
    pub(crate) chain: u32,
    pub(crate) sequence: u64,
    pub(crate) synced: u64,
}

/// Appends a record to `out` whose body `body` appends; returns its checksum and its length in bytes.
pub(crate) fn encode(
    out: &mut Vec<u8>,
    place: Place,
    group: GroupId,
    kind: Kind,
    body: impl FnOnce(&mut Vec<u8>),
) -> (u32, usize) {
    let start = out.len();
    out.extend_from_slice(&[0; 8]);
    out.extend_from_slice(&place.chain.to_be_bytes());
    out.extend_from_slice(&place.segment.to_be_bytes());
    out.extend_from_slice(&place.offset.to_be_bytes());
    out.extend_from_slice(&place.sequence.to_be_bytes());
    out.extend_from_slice(&place.synced.to_be_bytes());
    out.extend_from_slice(&group.0.to_be_bytes());
    out.extend_from_slice(&[VERSION, kind as u8]);
    body(out);
    let length = out.len() - start;
    assert!(length <= MAX_RECORD as usize, "a record of {length} bytes; the roles keep theirs far below the limit");
    out[start + 4..start + 8].copy_from_slice(&(length as u32).to_be_bytes());
    let checksum = crc32c::crc32c(&out[start + 4..]);
    out[start..start + 4].copy_from_slice(&checksum.to_be_bytes());
    (checksum, length)
}

/// The length that the record at the start of `bytes` claims to have, not yet verified; nothing if it cannot be one.
pub fn claimed_length(bytes: &[u8]) -> Option<u32> {
    let length = u32::from_be_bytes(*bytes.get(4..)?.first_chunk()?);
    (HEAD..=MAX_RECORD).contains(&length).then_some(length)
}

/// The record at the start of `bytes` with its body, if one stands there whole and is meant to stand at `offset` of
/// `segment`. Whether it follows the record before is left to the caller.
pub fn decode(bytes: &[u8], segment: u32, offset: u32) -> Option<(Head, &[u8])> {
    let head = bytes.get(..HEAD as usize)?;
    if field(head, 12) != segment.to_be_bytes() || field(head, 16) != offset.to_be_bytes() {
        return None;
    }
    let length = claimed_length(head)?;
    let record = bytes.get(..length as usize)?;
    let checksum = u32::from_be_bytes(field(head, 0));
    if checksum != crc32c::crc32c(&record[4..]) {
        return None;
    }
    let head = Head {
        checksum,
        length,
        chain: u32::from_be_bytes(field(head, 8)),
        sequence: u64::from_be_bytes(field(head, 20)),
        synced: u64::from_be_bytes(field(head, 28)),
        group: GroupId(u16::from_be_bytes(field(head, 36))),
        version: head[38],
        kind: head[39],
    };
    Some((head, &record[HEAD as usize..]))
}

/// The checksum that the log's files use: CRC32C.
pub fn checksum(bytes: &[u8]) -> u32 {
    crc32c::crc32c(bytes)
}

/// Whether there is nothing but zeros.
pub fn is_blank(bytes: &[u8]) -> bool {
    // In large steps: a test per byte takes longer than reading the segment.
    bytes.chunks(4096).all(|chunk| chunk.iter().fold(0, |all, byte| all | byte) == 0)
}

fn field<const N: usize>(bytes: &[u8], at: usize) -> [u8; N] {
    *bytes[at..].first_chunk().expect("every caller has checked that the whole header or head is there")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header() -> Header {
        let owner = Owner { cluster: ClusterId(1 << 100), node: NodeId(7), directory: DirectoryId(u128::MAX - 1) };
        Header { owner, segment: 3, size: 1 << 24, sequence: 1 << 40, chain: 0x0102_0304, doubtful: true }
    }

    #[test]
    fn a_size_that_no_segment_has_is_not_taken() {
        for size in [0, HEADER, HEADER + HEAD - 1, MAX_SEGMENT + 1] {
            let bytes = Header { size, ..header() }.encode();
            assert_eq!(Header::decode(&bytes), Err(HeaderError::Bad), "{size}");
        }
        for size in [HEADER + HEAD, MAX_SEGMENT] {
            let whole = Header { size, ..header() };
            assert_eq!(Header::decode(&whole.encode()), Ok(whole), "{size}");
        }
    }

    #[test]
    fn a_header_comes_back_and_every_flipped_byte_is_seen() {
        let bytes = header().encode();
        assert_eq!(bytes.len(), HEADER as usize);
        assert_eq!(Header::decode(&bytes), Ok(header()));
        for at in 0..bytes.len() {
            let mut bad = bytes.clone();
            bad[at] ^= 0x10;
            assert_eq!(Header::decode(&bad), Err(HeaderError::Bad), "byte {at}");
        }
        assert_eq!(Header::decode(&bytes[..4095]), Err(HeaderError::Bad));
    }

    #[test]
    fn the_format_is_the_documented_one() {
        let mut out = Vec::new();
        let place = Place { segment: 1, offset: 4096, chain: 0x0a0b_0c0d, sequence: 2, synced: 1 };
        let (checksum, length) = encode(&mut out, place, GroupId(3), Kind::Data, |out| out.extend_from_slice(b"body"));
        assert_eq!(length, out.len());
        let rest = "0000002c0a0b0c0d00000001000010000000000000000002000000000000000100030101626f6479";
        let hex: String = out.iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(hex, format!("{checksum:08x}{rest}"));
        assert_eq!(checksum, crc32c::crc32c(&out[4..]));
    }

    #[test]
    fn a_record_comes_back_at_its_own_place_only_and_every_flipped_bit_is_seen() {
        let mut out = Vec::new();
        let place = Place { segment: 5, offset: 8192, chain: 9, sequence: 77, synced: 70 };
        encode(&mut out, place, GroupId(2), Kind::Data, |out| out.extend_from_slice(b"some entry"));
        let (head, body) = decode(&out, 5, 8192).unwrap();
        assert_eq!((head.chain, head.sequence, head.synced, head.group), (9, 77, 70, GroupId(2)));
        assert_eq!(body, b"some entry");
        assert_eq!(decode(&out, 5, 8193), None);
        assert_eq!(decode(&out, 6, 8192), None);
        for bit in 0..out.len() * 8 {
            let mut bad = out.clone();
            bad[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(decode(&bad, 5, 8192), None, "bit {bit}");
        }
        for cut in 0..out.len() {
            assert_eq!(decode(&out[..cut], 5, 8192), None, "cut at {cut}");
        }
    }

    #[test]
    fn blank_is_zeros_only() {
        assert!(is_blank(&[]));
        let mut bytes = vec![0; 10_000];
        assert!(is_blank(&bytes));
        for at in [0, 4095, 4096, 9999] {
            bytes[at] = 1;
            assert!(!is_blank(&bytes), "byte {at}");
            bytes[at] = 0;
        }
    }
}
