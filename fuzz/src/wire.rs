//! Frames and messages: bytes in, values out.

use drachma_protocol::ledger::model::{NewAccount, Transfer};
use drachma_protocol::log::record::Record;
use drachma_protocol::message::client::{Request, Response};
use drachma_protocol::message::command::{Entry, Prepare};
use drachma_protocol::message::hello::{Goodbye, Hello, Welcome};
use drachma_protocol::message::{PaxosMessage, TxnMessage};
use drachma_protocol::wire::codec::{Decode, Encode, from_slice, to_vec};
use drachma_protocol::wire::frame::{self, Frame, FrameError, Kind, LIMIT_HELLO};

use crate::draw::Draw;
use crate::measured;
use crate::reader::{Assembler, FrameSink};

/// A value takes at most so much memory for each of its bytes, while it is decoded: an empty byte string is two bytes
/// on the wire and four words in memory, and a growing array is copied once more.
const PER_BYTE: usize = 128;
/// A decoder may take so much memory before it has seen a byte: room for a few hundred elements.
const AHEAD: usize = 128 * 1024;

fn is_a<T: Decode>(body: &[u8]) -> Result<(), FrameError> {
    from_slice::<T>(body)?;
    Ok(())
}

/// What a connection does with frames: keeps them, and decodes their bodies.
#[derive(Default)]
struct Sink {
    frames: Vec<(Kind, u8, u64, Vec<u8>)>,
}

impl FrameSink for Sink {
    type Stop = FrameError;

    fn limit(&self) -> usize {
        LIMIT_HELLO
    }

    fn on_frame(&mut self, frame: Frame<'_>) -> Result<(), FrameError> {
        match frame.kind {
            Kind::Hello => is_a::<Hello>(frame.body)?,
            Kind::Welcome => is_a::<Welcome>(frame.body)?,
            Kind::Goodbye => is_a::<Goodbye>(frame.body)?,
            Kind::Request => is_a::<Request>(frame.body)?,
            Kind::Response => is_a::<Response>(frame.body)?,
            Kind::Paxos => is_a::<PaxosMessage>(frame.body)?,
            Kind::Txn => is_a::<TxnMessage>(frame.body)?,
        }
        self.frames.push((frame.kind, frame.version, frame.correlation, frame.body.to_vec()));
        Ok(())
    }
}

/// A stream of bytes, cut at arbitrary places. Frames come out whole and the same however the stream is cut, and an
/// unfinished one holds no more than has arrived. The first byte says whether checksums are set right, so that what
/// lies behind them is reached.
pub fn frame(data: &[u8]) {
    let mut draw = Draw::new(data);
    let mend = draw.byte() & 1 == 1;
    let cuts: Vec<usize> = (0..draw.below(16)).map(|_| usize::from(draw.byte())).collect();
    let mut stream = draw.rest().to_vec();
    if mend {
        set_checksums(&mut stream);
    }
    let mut whole = Sink::default();
    let end = Assembler::default().feed(&stream, &mut whole);

    let (mut assembler, mut sink) = (Assembler::default(), Sink::default());
    let mut rest = &stream[..];
    let mut result = Ok(());
    let (mut arrived, mut cuts) = (0, cuts.into_iter());
    while !rest.is_empty() && result.is_ok() {
        let size = cuts.next().map_or(rest.len(), |cut| cut.clamp(1, rest.len()));
        let (piece, after) = rest.split_at(size);
        result = assembler.feed(piece, &mut sink);
        (rest, arrived) = (after, arrived + size);
        assert!(assembler.held() <= 2 * arrived + 8, "an unfinished frame holds what has arrived");
    }
    assert_eq!(whole.frames, sink.frames, "frames do not depend on how the stream is cut");
    assert_eq!(end, result, "nor does the error");
}

/// Gives every frame of the stream the length of what is there at most, and the checksum of what it covers.
fn set_checksums(stream: &mut [u8]) {
    let mut at = 0;
    while let Ok(Some(length)) = frame::length(&stream[at..], LIMIT_HELLO) {
        let Some(one) = stream.get_mut(at..at + length) else { return };
        let checksum = drachma_protocol::log::segment::checksum(&one[8..]);
        one[4..8].copy_from_slice(&checksum.to_be_bytes());
        at += length;
    }
}

/// Every wire type: what decodes has the same bytes when it is encoded again, since there is one form of each value;
/// decoding takes memory in proportion to the bytes.
pub fn message(data: &[u8]) {
    const TYPES: [fn(&[u8]); 12] = [
        one_form::<Request>,
        one_form::<Response>,
        one_form::<PaxosMessage>,
        one_form::<TxnMessage>,
        one_form::<Entry>,
        one_form::<Record>,
        one_form::<Hello>,
        one_form::<Welcome>,
        one_form::<Goodbye>,
        one_form::<Vec<Transfer>>,
        one_form::<Vec<NewAccount>>,
        one_form::<Prepare>,
    ];
    let Some((kind, bytes)) = data.split_first() else { return };
    TYPES[usize::from(*kind) % TYPES.len()](bytes);
}

fn one_form<T: Decode + Encode>(bytes: &[u8]) {
    let (value, memory) = measured(|| from_slice::<T>(bytes));
    assert!(memory <= PER_BYTE * bytes.len() + AHEAD, "{memory} bytes of memory for {} of input", bytes.len());
    if let Ok(value) = value {
        assert_eq!(to_vec(&value), bytes, "there is one form of a value");
    }
}
