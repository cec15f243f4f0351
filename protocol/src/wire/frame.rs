//! Frames: a header of 20 bytes, big-endian, and a MessagePack body.
//!
//! | bytes | field |
//! |---|---|
//! | 0..4 | length of all that follows the checksum |
//! | 4..8 | CRC32C of all that follows |
//! | 8..10 | kind, see [`Kind`] |
//! | 10 | version of the protocol |
//! | 11 | flags, zero |
//! | 12..20 | correlation id: an answer carries its request's |
//! | 20.. | body |

use super::codec::{DecodeError, Encode};

/// The versions of the protocol that this build speaks.
pub const VERSIONS: std::ops::RangeInclusive<u8> = 1..=1;

/// The bytes before the body.
pub const HEADER: usize = 20;
/// The part of the header that the length and the checksum cover.
const COVERED: usize = HEADER - 8;

/// The largest frame before Hello has passed, in bytes, header included.
pub const LIMIT_HELLO: usize = 4 * 1024;
/// The largest frame of a client, in bytes, header included.
pub const LIMIT_CLIENT: usize = 4 * 1024 * 1024;
/// The largest frame of a peer: a client's, wrapped in an entry and an accept, must fit (hazard L9).
pub const LIMIT_PEER: usize = LIMIT_CLIENT + 64 * 1024;

/// What a frame's body is.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
#[repr(u16)]
pub enum Kind {
    /// The first frame of a connection, from who opened it.
    Hello = 1,
    /// The answer to Hello.
    Welcome = 2,
    /// A typed error; the connection is closed after it.
    Goodbye = 3,
    /// A client's request.
    Request = 16,
    /// The answer to a request.
    Response = 17,
    /// A message between replicas of a group.
    Paxos = 32,
    /// A message between groups about a transaction.
    Txn = 33,
}

impl Kind {
    /// Every kind.
    pub const ALL: [Kind; 7] =
        [Kind::Hello, Kind::Welcome, Kind::Goodbye, Kind::Request, Kind::Response, Kind::Paxos, Kind::Txn];

    fn from_number(number: u16) -> Option<Kind> {
        Kind::ALL.into_iter().find(|kind| *kind as u16 == number)
    }
}

/// Why a frame is refused. After each of them the connection is closed and the refusal is counted.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum FrameError {
    /// The announced length is over the limit.
    #[error("a frame of {announced} bytes is over the limit of {limit}")]
    TooLarge {
        /// Header included.
        announced: usize,
        /// Header included.
        limit: usize,
    },
    /// The announced length does not even hold the header.
    #[error("a frame shorter than its header")]
    TooShort,
    /// The checksum does not match.
    #[error("wrong checksum")]
    Checksum,
    /// A kind that this version does not know.
    #[error("unknown frame kind {0}")]
    Kind(u16),
    /// A version outside the negotiated one, or flags that are not zero.
    #[error("unknown version or flags")]
    Version,
    /// The body is not a value of its kind.
    #[error("malformed body: {0}")]
    Body(#[from] DecodeError),
}

/// One frame of a read buffer; the body is not yet decoded.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Frame<'a> {
    /// What the body is.
    pub kind: Kind,
    /// The version that its sender speaks.
    pub version: u8,
    /// The request's id.
    pub correlation: u64,
    /// MessagePack.
    pub body: &'a [u8],
}

/// Appends a frame to `out`.
pub fn encode<T: Encode + ?Sized>(out: &mut Vec<u8>, kind: Kind, correlation: u64, body: &T) {
    let start = out.len();
    out.extend_from_slice(&[0; 8]);
    out.extend_from_slice(&(kind as u16).to_be_bytes());
    out.push(*VERSIONS.end());
    out.push(0);
    out.extend_from_slice(&correlation.to_be_bytes());
    body.encode(out);
    let length = u32::try_from(out.len() - start - 8).expect("a frame that is sent is bounded far below 2^32");
    let checksum = crc32c::crc32c(&out[start + 8..]);
    out[start..start + 4].copy_from_slice(&length.to_be_bytes());
    out[start + 4..start + 8].copy_from_slice(&checksum.to_be_bytes());
}

/// The total length of the frame at the start of `bytes`, once enough of it is there to tell.
///
/// # Errors
/// If it is over `limit`: before memory is taken for it.
pub fn length(bytes: &[u8], limit: usize) -> Result<Option<usize>, FrameError> {
    let Some(head) = bytes.first_chunk::<4>() else { return Ok(None) };
    let announced = u32::from_be_bytes(*head) as usize + 8;
    if announced < HEADER {
        return Err(FrameError::TooShort);
    }
    if announced > limit {
        return Err(FrameError::TooLarge { announced, limit });
    }
    Ok(Some(announced))
}

/// Reads one whole frame, of the length that [`length`] told.
///
/// # Errors
/// If it is damaged or unknown.
pub fn decode(bytes: &[u8]) -> Result<Frame<'_>, FrameError> {
    if bytes.len() < HEADER {
        return Err(FrameError::TooShort);
    }
    let number = |range: std::ops::Range<usize>| bytes[range].iter().fold(0u64, |n, b| n << 8 | u64::from(*b));
    if number(0..4) as usize != bytes.len() - 8 {
        return Err(FrameError::TooShort);
    }
    if number(4..8) != u64::from(crc32c::crc32c(&bytes[8..])) {
        return Err(FrameError::Checksum);
    }
    let number_of_kind = number(8..10) as u16;
    let kind = Kind::from_number(number_of_kind).ok_or(FrameError::Kind(number_of_kind))?;
    if bytes[11] != 0 {
        return Err(FrameError::Version);
    }
    Ok(Frame { kind, version: bytes[10], correlation: number(12..20), body: &bytes[8 + COVERED..] })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame() -> Vec<u8> {
        let mut out = Vec::new();
        encode(&mut out, Kind::Request, 42, &7u64);
        out
    }

    #[test]
    fn a_frame_comes_back() {
        let bytes = frame();
        assert_eq!(length(&bytes, 100), Ok(Some(bytes.len())));
        let frame = decode(&bytes).unwrap();
        assert_eq!((frame.kind, frame.correlation, frame.body), (Kind::Request, 42, &[7u8][..]));
    }

    #[test]
    fn every_flipped_bit_is_seen() {
        let good = frame();
        for bit in 0..good.len() * 8 {
            let mut bad = good.clone();
            bad[bit / 8] ^= 1 << (bit % 8);
            assert!(decode(&bad).is_err(), "bit {bit}");
        }
    }

    #[test]
    fn the_limit_is_checked_before_memory_is_taken() {
        let announce = |total: usize| u32::try_from(total - 8).unwrap().to_be_bytes();
        assert_eq!(length(&announce(LIMIT_CLIENT), LIMIT_CLIENT), Ok(Some(LIMIT_CLIENT)));
        let over = LIMIT_CLIENT + 1;
        assert_eq!(
            length(&announce(over), LIMIT_CLIENT),
            Err(FrameError::TooLarge { announced: over, limit: LIMIT_CLIENT })
        );
        assert_eq!(length(&[0, 0, 0, 1], LIMIT_CLIENT), Err(FrameError::TooShort));
        assert_eq!(length(&[0, 0], LIMIT_CLIENT), Ok(None));
    }
}
