//! Stand-in.
use super::{Genesis, Ledger};
use crate::ids::Slot;

/// A picture of the state.
#[derive(Clone, Debug)]
pub struct Image(Box<Ledger>);
/// Its bytes.
#[derive(Debug)]
pub struct ImageEncoder(#[allow(dead_code)] Image);
/// Back.
#[derive(Clone, Debug)]
pub struct ImageLoader;
/// Why not.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error("bad")]
pub struct ImageError;
impl Ledger {
    /// A picture.
    pub fn image(&self) -> Image {
        Image(Box::new(self.clone()))
    }
}
impl Image {
    /// When.
    pub fn slot(&self) -> Slot {
        self.0.applied()
    }
    /// Bytes.
    pub fn encoder(self) -> ImageEncoder {
        ImageEncoder(self)
    }
}
impl ImageEncoder {
    /// Next.
    pub fn next_chunk(&mut self) -> Option<Vec<u8>> {
        None
    }
}
impl ImageLoader {
    /// New.
    pub fn new(_: u64, _: &Genesis) -> ImageLoader {
        ImageLoader
    }
    /// Push.
    pub fn push(&mut self, _: &[u8]) -> Result<(), ImageError> {
        Err(ImageError)
    }
    /// Finish.
    pub fn finish(self) -> Result<Ledger, ImageError> {
        Err(ImageError)
    }
}
