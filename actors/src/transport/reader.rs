//! Frames out of a byte stream, at the price of what has arrived.
//!
//! All connections of a thread read into one [`Scratch`]; a connection keeps bytes of its own only while a frame has
//! not arrived whole. So ten thousand idle connections hold no buffers, and a connection that announces 4 MiB and sends
//! ten bytes holds ten. The announced length is checked against the limit before anything is kept.

use std::cell::RefCell;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use drachma_protocol::wire::frame::{self, Frame, FrameError};
use tokio::io::{AsyncRead, ReadBuf};
use tokio::net::tcp::OwnedReadHalf;

/// The most that one read takes from a socket.
pub(crate) const READ: usize = 256 * 1024;

/// The buffer that the connections of a thread share. What is read is used up before anybody else can read.
pub(crate) struct Scratch(RefCell<Vec<u8>>);

impl Scratch {
    /// Takes no memory before the first read.
    pub(crate) fn new() -> Scratch {
        Scratch(RefCell::new(Vec::new()))
    }

    /// Reads once and hands what came to `take`; nothing at the end of the stream.
    pub(crate) fn poll_read<T>(
        &self,
        cx: &mut Context<'_>,
        socket: &mut OwnedReadHalf,
        take: impl FnOnce(&[u8]) -> T,
    ) -> Poll<io::Result<T>> {
        let mut buffer = self.0.borrow_mut();
        if buffer.is_empty() {
            buffer.resize(READ, 0);
        }
        let mut window = ReadBuf::new(&mut buffer);
        ready!(Pin::new(socket).poll_read(cx, &mut window))?;
        Poll::Ready(Ok(take(window.filled())))
    }
}

/// What is done with frames.
pub(crate) trait FrameSink {
    /// Why no more frames are wanted.
    type Stop: From<FrameError>;
    /// The largest frame that may come next, header included.
    fn limit(&self) -> usize;
    /// A whole frame with the right checksum.
    ///
    /// # Errors
    /// If no more are wanted; what was not looked at is lost.
    fn on_frame(&mut self, frame: Frame<'_>) -> Result<(), Self::Stop>;
}

/// Puts the frames of one connection together.
#[derive(Debug, Default)]
pub(crate) struct Assembler {
    // The beginning of a frame that has not arrived whole.
    partial: Vec<u8>,
}

impl Assembler {
    /// Takes what one read brought.
    ///
    /// # Errors
    /// If a frame is refused, or `sink` wants no more.
    pub(crate) fn feed<S: FrameSink>(&mut self, mut bytes: &[u8], sink: &mut S) -> Result<(), S::Stop> {
        if !self.partial.is_empty() {
            // Only what completes the frame is copied.
            let Some(whole) = self.complete(&mut bytes, sink.limit())? else { return Ok(()) };
            let partial = std::mem::take(&mut self.partial);
            sink.on_frame(frame::decode(&partial[..whole])?)?;
        }
        while let Some(whole) = frame::length(bytes, sink.limit())? {
            let Some((one, rest)) = bytes.split_at_checked(whole) else { break };
            sink.on_frame(frame::decode(one)?)?;
            bytes = rest;
        }
        self.partial.extend_from_slice(bytes);
        Ok(())
    }

    /// Bytes kept for a frame that has not arrived whole.
    pub(crate) fn held(&self) -> usize {
        self.partial.capacity()
    }

    // Moves bytes to the partial frame until it is whole, and returns its length; nothing if more must arrive.
    fn complete(&mut self, bytes: &mut &[u8], limit: usize) -> Result<Option<usize>, FrameError> {
        while frame::length(&self.partial, limit)?.is_none() {
            let Some((first, rest)) = bytes.split_first() else { return Ok(None) };
            self.partial.push(*first);
            *bytes = rest;
        }
        let Some(whole) = frame::length(&self.partial, limit)? else { return Ok(None) };
        let missing = whole.saturating_sub(self.partial.len()).min(bytes.len());
        let (head, rest) = bytes.split_at(missing);
        self.partial.extend_from_slice(head);
        *bytes = rest;
        Ok((self.partial.len() == whole).then_some(whole))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use drachma_protocol::wire::frame::{Kind, LIMIT_HELLO};

    struct Collected {
        limit: usize,
        frames: Vec<(u64, Vec<u8>)>,
    }

    impl FrameSink for Collected {
        type Stop = FrameError;
        fn limit(&self) -> usize {
            self.limit
        }
        fn on_frame(&mut self, frame: Frame<'_>) -> Result<(), FrameError> {
            self.frames.push((frame.correlation, frame.body.to_vec()));
            Ok(())
        }
    }

    fn collected() -> Collected {
        Collected { limit: LIMIT_HELLO, frames: Vec::new() }
    }

    fn frame_of(total: usize, correlation: u64) -> Vec<u8> {
        let mut out = Vec::new();
        // A byte string of 256 to 65,535 bytes has 3 bytes of its own, the frame 20.
        frame::encode(&mut out, Kind::Request, correlation, &bytes::Bytes::from(vec![7; total - 23]));
        assert_eq!(out.len(), total);
        out
    }

    #[test]
    fn frames_come_out_whole_however_the_stream_is_cut() {
        let stream: Vec<u8> = (0..5).flat_map(|n| frame_of(300 + n as usize, n)).collect();
        for size in [1, 2, 3, 19, 20, 21, 299, 300, 301, 700, stream.len()] {
            let (mut assembler, mut sink) = (Assembler::default(), collected());
            for piece in stream.chunks(size) {
                assembler.feed(piece, &mut sink).unwrap();
            }
            let correlations: Vec<u64> = sink.frames.iter().map(|(correlation, _)| *correlation).collect();
            assert_eq!(correlations, [0, 1, 2, 3, 4], "pieces of {size}");
            assert_eq!(assembler.held(), 0, "nothing is kept between frames");
        }
    }

    #[test]
    fn a_frame_at_the_limit_passes_and_one_byte_more_does_not() {
        let (mut assembler, mut sink) = (Assembler::default(), collected());
        assembler.feed(&frame_of(LIMIT_HELLO, 1), &mut sink).unwrap();
        assert_eq!(sink.frames.len(), 1);
        let over = frame_of(LIMIT_HELLO + 1, 2);
        // Refused as soon as the length is there, not when the frame is.
        let error = assembler.feed(&over[..4], &mut sink).unwrap_err();
        assert_eq!(error, FrameError::TooLarge { announced: LIMIT_HELLO + 1, limit: LIMIT_HELLO });
        assert_eq!(assembler.held(), 0);
    }

    #[test]
    fn memory_follows_what_arrives_and_not_what_is_announced() {
        let mut sink = Collected { limit: 4 << 20, frames: Vec::new() };
        let mut assembler = Assembler::default();
        assembler.feed(&(3u32 << 20).to_be_bytes(), &mut sink).unwrap();
        assembler.feed(&[0; 1000], &mut sink).unwrap();
        assert!(assembler.held() < 3000, "{} bytes held for 1004", assembler.held());
    }

    #[test]
    fn a_wrong_checksum_is_refused() {
        let mut bad = frame_of(300, 1);
        bad[250] ^= 1;
        assert_eq!(Assembler::default().feed(&bad, &mut collected()), Err(FrameError::Checksum));
    }

    #[test]
    fn no_stream_of_garbage_is_taken_for_long_or_panics() {
        for seed in 0..2000 {
            let mut rng = drachma_protocol::rng::Rng::new(seed);
            let (mut assembler, mut sink) = (Assembler::default(), collected());
            let refused = (0..40).any(|_| {
                let piece: Vec<u8> = (0..rng.below(400)).map(|_| rng.next_u64() as u8).collect();
                assembler.feed(&piece, &mut sink).is_err()
            });
            assert!(refused, "seed {seed}");
            assert!(sink.frames.is_empty(), "seed {seed}");
            assert!(assembler.held() <= 2 * LIMIT_HELLO, "seed {seed}");
        }
    }
}
