//! Structured values out of the fuzzer's bytes.

use arbitrary::Unstructured;
use bytes::Bytes;

/// Draws values from the fuzzer's bytes; zeros when they are used up.
pub(crate) struct Draw<'a>(Unstructured<'a>);

impl<'a> Draw<'a> {
    pub(crate) fn new(data: &'a [u8]) -> Draw<'a> {
        Draw(Unstructured::new(data))
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(crate) fn byte(&mut self) -> u8 {
        self.0.arbitrary().unwrap_or_default()
    }

    /// A number below `limit`, which is not 0.
    pub(crate) fn below(&mut self, limit: u8) -> u8 {
        self.byte() % limit
    }

    /// One of the alternatives; the earlier ones are drawn when the bytes are used up.
    pub(crate) fn pick<T: Copy>(&mut self, all: &[T]) -> T {
        all[usize::from(self.byte()) % all.len()]
    }

    /// True about once in `parts`; never when the bytes are used up.
    pub(crate) fn once_in(&mut self, parts: u8) -> bool {
        self.below(parts) == parts - 1
    }

    /// Mostly small; sometimes one that nobody expects.
    pub(crate) fn number(&mut self) -> u64 {
        match self.byte() {
            byte @ 0..=199 => u64::from(byte % 20),
            byte @ 200..=223 => u64::from(byte) * 1000,
            byte @ 224..=231 => u64::MAX - u64::from(byte - 224),
            byte @ 232..=239 => (1 << 63) - 4 + u64::from(byte - 232),
            _ => self.0.arbitrary().unwrap_or_default(),
        }
    }

    /// Mostly small; sometimes one that nobody expects.
    pub(crate) fn wide(&mut self) -> u128 {
        match self.byte() {
            byte @ 0..=209 => u128::from(byte % 24),
            byte @ 210..=223 => u128::MAX - u128::from(byte - 210),
            byte @ 224..=231 => (1 << 127) - 4 + u128::from(byte - 224),
            _ => self.0.arbitrary().unwrap_or_default(),
        }
    }

    /// A few bytes.
    pub(crate) fn bytes(&mut self) -> Bytes {
        let length = usize::from(self.below(24)).min(self.0.len());
        Bytes::copy_from_slice(self.0.bytes(length).unwrap_or_default())
    }

    /// Everything that is left.
    pub(crate) fn rest(self) -> &'a [u8] {
        self.0.take_rest()
    }
}
