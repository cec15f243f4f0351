//! The digest of the state: an order-free sum over rows, so that the layout in memory never enters it.

use xxhash_rust::xxh3::xxh3_128;

use crate::wire::codec::Encode;

/// The bytes of a small row of fixed form, without an allocation: this is on the path of every transfer.
pub(super) struct Packer {
    bytes: [u8; 64],
    len: usize,
}

impl Packer {
    /// A row of a kind; no two kinds of rows share a letter.
    pub(super) fn new(kind: u8) -> Packer {
        let mut bytes = [0; 64];
        bytes[0] = kind;
        Packer { bytes, len: 1 }
    }

    /// Appends a field. A row has at most 64 bytes.
    pub(super) fn put(mut self, field: &[u8]) -> Packer {
        self.bytes[self.len..self.len + field.len()].copy_from_slice(field);
        self.len += field.len();
        self
    }

    /// The hash of the row.
    pub(super) fn hash(&self) -> u128 {
        xxh3_128(&self.bytes[..self.len])
    }
}

/// A sum over rows of any form.
#[derive(Clone, Default)]
pub(super) struct Sum {
    total: u128,
    row: Vec<u8>,
}

impl Sum {
    /// Adds a sum that was kept elsewhere.
    pub(super) fn add(&mut self, sum: u128) {
        self.total = self.total.wrapping_add(sum);
    }

    /// Adds a row of a kind.
    pub(super) fn row(&mut self, kind: u8, fields: &[&dyn Encode]) {
        self.row.clear();
        self.row.push(kind);
        for field in fields {
            field.encode(&mut self.row);
        }
        self.total = self.total.wrapping_add(xxh3_128(&self.row));
    }

    /// The sum.
    pub(super) fn total(&self) -> u128 {
        self.total
    }
}
