//! Values as MessagePack: arrays with integer tags, the shortest form of every number, nothing else.
//!
//! There is one valid encoding of each value, so digests and test vectors have one form. Decoding is strict: another
//! length of an array, a longer form of a number, a rest after the value are errors. No type is recursive, so no input
//! can exhaust the stack; a container takes memory as its elements arrive, never as its header announces.

use std::collections::VecDeque;
use std::sync::Arc;

use bytes::Bytes;
use rmp::Marker;

/// Why bytes are not a value.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum DecodeError {
    /// The bytes end within the value.
    #[error("the value is cut off")]
    Truncated,
    /// Another type stands there.
    #[error("expected {0}")]
    Expected(&'static str),
    /// The number does not fit, or a shorter form of it exists.
    #[error("a number out of range or not in its shortest form")]
    Number,
    /// An array of another length.
    #[error("an array of {found} where {expected} was expected")]
    Length {
        /// What the type has.
        expected: u32,
        /// What was found.
        found: u32,
    },
    /// A tag that this version does not know.
    #[error("unknown tag {0}")]
    Tag(u64),
    /// More elements than the limit.
    #[error("more than {0} elements")]
    TooMany(usize),
    /// Bytes remain after the value.
    #[error("bytes remain after the value")]
    Trailing,
}

/// A value that has a form on the wire.
pub trait Encode {
    /// Appends the value to `out`.
    fn encode(&self, out: &mut Vec<u8>);
}

/// A value that can be read from the wire.
pub trait Decode: Sized {
    /// Reads the value.
    ///
    /// # Errors
    /// If the bytes are not exactly the one form of a value.
    fn decode(reader: &mut Reader<'_>) -> Result<Self, DecodeError>;
}

/// The bytes that remain to be read.
pub struct Reader<'a> {
    bytes: &'a [u8],
}

impl<'a> Reader<'a> {
    /// Reads from the start of `bytes`.
    pub fn new(bytes: &'a [u8]) -> Reader<'a> {
        Reader { bytes }
    }

    /// How many bytes remain.
    pub fn remaining(&self) -> usize {
        self.bytes.len()
    }

    /// The next `count` bytes.
    ///
    /// # Errors
    /// If fewer remain.
    pub fn take(&mut self, count: usize) -> Result<&'a [u8], DecodeError> {
        let (head, rest) = self.bytes.split_at_checked(count).ok_or(DecodeError::Truncated)?;
        self.bytes = rest;
        Ok(head)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], DecodeError> {
        let (head, rest) = self.bytes.split_first_chunk::<N>().ok_or(DecodeError::Truncated)?;
        self.bytes = rest;
        Ok(*head)
    }

    fn marker(&mut self) -> Result<Marker, DecodeError> {
        let [byte] = self.array()?;
        Ok(Marker::from_u8(byte))
    }

    /// An unsigned number in its shortest form.
    ///
    /// # Errors
    /// If something else, or a longer form, stands there.
    pub fn uint(&mut self) -> Result<u64, DecodeError> {
        let (value, least) = match self.marker()? {
            Marker::FixPos(value) => return Ok(u64::from(value)),
            Marker::U8 => (u64::from(u8::from_be_bytes(self.array()?)), 1 << 7),
            Marker::U16 => (u64::from(u16::from_be_bytes(self.array()?)), 1 << 8),
            Marker::U32 => (u64::from(u32::from_be_bytes(self.array()?)), 1 << 16),
            Marker::U64 => (u64::from_be_bytes(self.array()?), 1 << 32),
            _ => return Err(DecodeError::Expected("an unsigned number")),
        };
        if value < least { Err(DecodeError::Number) } else { Ok(value) }
    }

    /// An unsigned number of up to 128 bits: the number itself where 64 bits suffice, else 16 bytes.
    ///
    /// # Errors
    /// If something else, or a longer form, stands there.
    pub fn uint128(&mut self) -> Result<u128, DecodeError> {
        if self.bytes.first() != Some(&Marker::Bin8.to_u8()) {
            return self.uint().map(u128::from);
        }
        self.marker()?;
        if self.array()? != [16] {
            return Err(DecodeError::Number);
        }
        let value = u128::from_be_bytes(self.array()?);
        if value >> 64 == 0 { Err(DecodeError::Number) } else { Ok(value) }
    }

    /// A signed number in its shortest form; zero and above are unsigned.
    ///
    /// # Errors
    /// If something else, or a longer form, stands there.
    pub fn int(&mut self) -> Result<i64, DecodeError> {
        let marker = self.bytes.first().map(|byte| Marker::from_u8(*byte)).ok_or(DecodeError::Truncated)?;
        if !matches!(marker, Marker::FixNeg(_) | Marker::I8 | Marker::I16 | Marker::I32 | Marker::I64) {
            return i64::try_from(self.uint()?).map_err(|_| DecodeError::Number);
        }
        let (value, most) = match self.marker()? {
            Marker::FixNeg(value) => return Ok(i64::from(value)),
            Marker::I8 => (i64::from(i8::from_be_bytes(self.array()?)), -33),
            Marker::I16 => (i64::from(i16::from_be_bytes(self.array()?)), i64::from(i8::MIN) - 1),
            Marker::I32 => (i64::from(i32::from_be_bytes(self.array()?)), i64::from(i16::MIN) - 1),
            _ => (i64::from_be_bytes(self.array()?), i64::from(i32::MIN) - 1),
        };
        if value > most { Err(DecodeError::Number) } else { Ok(value) }
    }

    /// The length of an array.
    ///
    /// # Errors
    /// If something else stands there.
    pub fn array_len(&mut self) -> Result<u32, DecodeError> {
        let (len, least) = match self.marker()? {
            Marker::FixArray(len) => return Ok(u32::from(len)),
            Marker::Array16 => (u32::from(u16::from_be_bytes(self.array()?)), 1 << 4),
            Marker::Array32 => (u32::from_be_bytes(self.array()?), 1 << 16),
            _ => return Err(DecodeError::Expected("an array")),
        };
        if len < least { Err(DecodeError::Number) } else { Ok(len) }
    }

    /// An array of exactly `expected` elements.
    ///
    /// # Errors
    /// If something else stands there.
    pub fn array_of(&mut self, expected: u32) -> Result<(), DecodeError> {
        let found = self.array_len()?;
        if found == expected { Ok(()) } else { Err(DecodeError::Length { expected, found }) }
    }

    /// A byte string, not copied.
    ///
    /// # Errors
    /// If something else stands there.
    pub fn bin(&mut self) -> Result<&'a [u8], DecodeError> {
        let (len, least) = match self.marker()? {
            Marker::Bin8 => (u32::from(u8::from_be_bytes(self.array()?)), 0),
            Marker::Bin16 => (u32::from(u16::from_be_bytes(self.array()?)), 1 << 8),
            Marker::Bin32 => (u32::from_be_bytes(self.array()?), 1 << 16),
            _ => return Err(DecodeError::Expected("a byte string")),
        };
        if len < least {
            return Err(DecodeError::Number);
        }
        self.take(len as usize)
    }

    fn text(&mut self) -> Result<&'a str, DecodeError> {
        let (len, least) = match self.marker()? {
            Marker::FixStr(len) => (u32::from(len), 0),
            Marker::Str8 => (u32::from(u8::from_be_bytes(self.array()?)), 1 << 5),
            Marker::Str16 => (u32::from(u16::from_be_bytes(self.array()?)), 1 << 8),
            Marker::Str32 => (u32::from_be_bytes(self.array()?), 1 << 16),
            _ => return Err(DecodeError::Expected("a text")),
        };
        if len < least {
            return Err(DecodeError::Number);
        }
        str::from_utf8(self.take(len as usize)?).map_err(|_| DecodeError::Expected("UTF-8"))
    }

    fn nil(&mut self) -> bool {
        if self.bytes.first() == Some(&Marker::Null.to_u8()) {
            self.bytes = &self.bytes[1..];
            return true;
        }
        false
    }

    /// Nothing may remain.
    ///
    /// # Errors
    /// If something does.
    pub fn finish(&self) -> Result<(), DecodeError> {
        if self.bytes.is_empty() { Ok(()) } else { Err(DecodeError::Trailing) }
    }
}

/// The bytes of one value.
pub fn to_vec<T: Encode + ?Sized>(value: &T) -> Vec<u8> {
    let mut out = Vec::new();
    value.encode(&mut out);
    out
}

/// The one value that `bytes` are.
///
/// # Errors
/// If they are not exactly that.
pub fn from_slice<T: Decode>(bytes: &[u8]) -> Result<T, DecodeError> {
    let mut reader = Reader::new(bytes);
    let value = T::decode(&mut reader)?;
    reader.finish()?;
    Ok(value)
}

// Writing into a `Vec` cannot fail.
const INFALLIBLE: &str = "writing to memory cannot fail";

/// Appends the head of an array.
#[inline]
pub fn encode_array_len(out: &mut Vec<u8>, len: usize) {
    if len < 16 {
        return out.push(Marker::FixArray(len as u8).to_u8()); // As nearly all are: this is on every path.
    }
    let len = u32::try_from(len).expect("an array that is sent is bounded far below 2^32");
    rmp::encode::write_array_len(out, len).expect(INFALLIBLE);
}

/// Appends a byte string.
pub fn encode_bin(out: &mut Vec<u8>, bytes: &[u8]) {
    let len = u32::try_from(bytes.len()).expect("a byte string that is sent is bounded far below 2^32");
    rmp::encode::write_bin_len(out, len).expect(INFALLIBLE);
    out.extend_from_slice(bytes);
}

/// Appends a number in its shortest form, each in one piece: digests and frames are made of little else.
#[inline]
fn encode_uint(value: u64, out: &mut Vec<u8>) {
    match value {
        0..=0x7f => out.push(value as u8),
        0x80..=0xff => out.extend_from_slice(&[Marker::U8.to_u8(), value as u8]),
        0x100..=0xffff => {
            let [a, b] = (value as u16).to_be_bytes();
            out.extend_from_slice(&[Marker::U16.to_u8(), a, b]);
        }
        0x1_0000..=0xffff_ffff => {
            let [a, b, c, d] = (value as u32).to_be_bytes();
            out.extend_from_slice(&[Marker::U32.to_u8(), a, b, c, d]);
        }
        _ => {
            let [a, b, c, d, e, f, g, h] = value.to_be_bytes();
            out.extend_from_slice(&[Marker::U64.to_u8(), a, b, c, d, e, f, g, h]);
        }
    }
}

macro_rules! unsigned {
    ($($name:ty),+) => {$(
        impl Encode for $name {
            #[inline]
            fn encode(&self, out: &mut Vec<u8>) {
                encode_uint(u64::from(*self), out);
            }
        }
        impl Decode for $name {
            fn decode(reader: &mut Reader<'_>) -> Result<$name, DecodeError> {
                <$name>::try_from(reader.uint()?).map_err(|_| DecodeError::Number)
            }
        }
    )+};
}
unsigned!(u8, u16, u32, u64);

/// The shortest form; zero and above are unsigned.
impl Encode for i64 {
    fn encode(&self, out: &mut Vec<u8>) {
        rmp::encode::write_sint(out, *self).expect(INFALLIBLE);
    }
}

impl Decode for i64 {
    fn decode(reader: &mut Reader<'_>) -> Result<i64, DecodeError> {
        reader.int()
    }
}

impl Encode for u128 {
    fn encode(&self, out: &mut Vec<u8>) {
        match u64::try_from(*self) {
            Ok(small) => encode_uint(small, out),
            Err(_) => {
                let mut bytes = [0; 18];
                (bytes[0], bytes[1]) = (Marker::Bin8.to_u8(), 16);
                bytes[2..].copy_from_slice(&self.to_be_bytes());
                out.extend_from_slice(&bytes);
            }
        }
    }
}

impl Decode for u128 {
    fn decode(reader: &mut Reader<'_>) -> Result<u128, DecodeError> {
        reader.uint128()
    }
}

impl Encode for bool {
    fn encode(&self, out: &mut Vec<u8>) {
        out.push(if *self { Marker::True } else { Marker::False }.to_u8());
    }
}

impl Decode for bool {
    fn decode(reader: &mut Reader<'_>) -> Result<bool, DecodeError> {
        match reader.marker()? {
            Marker::True => Ok(true),
            Marker::False => Ok(false),
            _ => Err(DecodeError::Expected("true or false")),
        }
    }
}

impl Encode for Bytes {
    fn encode(&self, out: &mut Vec<u8>) {
        encode_bin(out, self);
    }
}

impl Decode for Bytes {
    fn decode(reader: &mut Reader<'_>) -> Result<Bytes, DecodeError> {
        // A copy, on purpose: a slice would keep the whole read buffer alive.
        Ok(Bytes::copy_from_slice(reader.bin()?))
    }
}

impl Encode for String {
    fn encode(&self, out: &mut Vec<u8>) {
        rmp::encode::write_str(out, self).expect(INFALLIBLE);
    }
}

impl Decode for String {
    fn decode(reader: &mut Reader<'_>) -> Result<String, DecodeError> {
        Ok(reader.text()?.to_owned())
    }
}

/// `nil` or the value. No wire type nests two options.
impl<T: Encode> Encode for Option<T> {
    fn encode(&self, out: &mut Vec<u8>) {
        match self {
            None => out.push(Marker::Null.to_u8()),
            Some(value) => value.encode(out),
        }
    }
}

impl<T: Decode> Decode for Option<T> {
    fn decode(reader: &mut Reader<'_>) -> Result<Option<T>, DecodeError> {
        if reader.nil() { Ok(None) } else { T::decode(reader).map(Some) }
    }
}

/// Memory is taken for so many elements at once; more only as they arrive.
const PREALLOCATE: usize = 256;

impl<T: Encode> Encode for [T] {
    fn encode(&self, out: &mut Vec<u8>) {
        encode_array_len(out, self.len());
        for item in self {
            item.encode(out);
        }
    }
}

impl<T: Encode> Encode for Vec<T> {
    fn encode(&self, out: &mut Vec<u8>) {
        self.as_slice().encode(out);
    }
}

impl<T: Decode> Decode for Vec<T> {
    fn decode(reader: &mut Reader<'_>) -> Result<Vec<T>, DecodeError> {
        let len = reader.array_len()? as usize;
        let mut items = Vec::with_capacity(len.min(PREALLOCATE).min(reader.remaining()));
        for _ in 0..len {
            items.push(T::decode(reader)?);
        }
        Ok(items)
    }
}

impl<T: Encode> Encode for VecDeque<T> {
    fn encode(&self, out: &mut Vec<u8>) {
        encode_array_len(out, self.len());
        for item in self {
            item.encode(out);
        }
    }
}

impl<A: Encode, B: Encode> Encode for (A, B) {
    fn encode(&self, out: &mut Vec<u8>) {
        encode_array_len(out, 2);
        self.0.encode(out);
        self.1.encode(out);
    }
}

impl<A: Encode, B: Encode, C: Encode> Encode for (A, B, C) {
    fn encode(&self, out: &mut Vec<u8>) {
        encode_array_len(out, 3);
        self.0.encode(out);
        self.1.encode(out);
        self.2.encode(out);
    }
}

impl<T: Encode + ?Sized> Encode for Arc<T> {
    fn encode(&self, out: &mut Vec<u8>) {
        (**self).encode(out);
    }
}

impl<T: Decode> Decode for Arc<T> {
    fn decode(reader: &mut Reader<'_>) -> Result<Arc<T>, DecodeError> {
        T::decode(reader).map(Arc::new)
    }
}

impl<T: Encode> Encode for Box<T> {
    fn encode(&self, out: &mut Vec<u8>) {
        (**self).encode(out);
    }
}

impl<T: Decode> Decode for Box<T> {
    fn decode(reader: &mut Reader<'_>) -> Result<Box<T>, DecodeError> {
        T::decode(reader).map(Box::new)
    }
}

impl<T: Encode + ?Sized> Encode for &T {
    fn encode(&self, out: &mut Vec<u8>) {
        (**self).encode(out);
    }
}

impl<A: Decode, B: Decode> Decode for (A, B) {
    fn decode(reader: &mut Reader<'_>) -> Result<(A, B), DecodeError> {
        reader.array_of(2)?;
        Ok((A::decode(reader)?, B::decode(reader)?))
    }
}

impl<A: Decode, B: Decode, C: Decode> Decode for (A, B, C) {
    fn decode(reader: &mut Reader<'_>) -> Result<(A, B, C), DecodeError> {
        reader.array_of(3)?;
        Ok((A::decode(reader)?, B::decode(reader)?, C::decode(reader)?))
    }
}

/// `wire_newtype!(A, B)`: a tuple struct of one field has that field's form.
macro_rules! wire_newtype {
    ($($name:ident),+ $(,)?) => {$(
        impl $crate::wire::codec::Encode for $name {
            fn encode(&self, out: &mut Vec<u8>) {
                $crate::wire::codec::Encode::encode(&self.0, out);
            }
        }
        impl $crate::wire::codec::Decode for $name {
            fn decode(
                reader: &mut $crate::wire::codec::Reader<'_>,
            ) -> Result<$name, $crate::wire::codec::DecodeError> {
                $crate::wire::codec::Decode::decode(reader).map($name)
            }
        }
    )+};
}
pub(crate) use wire_newtype;

/// `wire_struct!(Name { field, field })`: an array of the fields in that order.
macro_rules! wire_struct {
    ($name:ident { $($field:ident),* $(,)? }) => {
        impl $crate::wire::codec::Encode for $name {
            #[allow(unused_variables)]
            fn encode(&self, out: &mut Vec<u8>) {
                const LEN: usize = $name::FIELDS.len();
                $crate::wire::codec::encode_array_len(out, LEN);
                $($crate::wire::codec::Encode::encode(&self.$field, out);)*
            }
        }
        impl $crate::wire::codec::Decode for $name {
            fn decode(
                reader: &mut $crate::wire::codec::Reader<'_>,
            ) -> Result<$name, $crate::wire::codec::DecodeError> {
                const LEN: u32 = $name::FIELDS.len() as u32;
                reader.array_of(LEN)?;
                Ok($name { $($field: $crate::wire::codec::Decode::decode(reader)?),* })
            }
        }
        // Types that only this crate knows have a form, too: in the images of the ledger.
        #[allow(unreachable_pub)]
        impl $name {
            /// The names of the fields in their order on the wire.
            pub const FIELDS: &'static [&'static str] = &[$(stringify!($field)),*];
        }
    };
}
pub(crate) use wire_struct;

/// `wire_tags!(Name { 1 => First, 2 => Second })`: an enum without data is its tag.
macro_rules! wire_tags {
    ($name:ident { $($tag:literal => $variant:ident),+ $(,)? }) => {
        impl $crate::wire::codec::Encode for $name {
            fn encode(&self, out: &mut Vec<u8>) {
                let tag: u64 = match self { $($name::$variant => $tag),+ };
                $crate::wire::codec::Encode::encode(&tag, out);
            }
        }
        impl $crate::wire::codec::Decode for $name {
            fn decode(
                reader: &mut $crate::wire::codec::Reader<'_>,
            ) -> Result<$name, $crate::wire::codec::DecodeError> {
                match reader.uint()? {
                    $($tag => Ok($name::$variant),)+
                    other => Err($crate::wire::codec::DecodeError::Tag(other)),
                }
            }
        }
        #[allow(unreachable_pub)]
        impl $name {
            /// Every variant with its tag on the wire.
            pub const ALL: &'static [($name, u64)] = &[$(($name::$variant, $tag)),+];
        }
    };
}
pub(crate) use wire_tags;

/// `wire_enum!(Name { 1 => First, 2 => Second })`: an enum whose variants have one field each is `[tag, field]`.
macro_rules! wire_enum {
    ($name:ident { $($tag:literal => $variant:ident),+ $(,)? }) => {
        impl $crate::wire::codec::Encode for $name {
            fn encode(&self, out: &mut Vec<u8>) {
                $crate::wire::codec::encode_array_len(out, 2);
                match self {
                    $($name::$variant(value) => {
                        $crate::wire::codec::Encode::encode(&($tag as u64), out);
                        $crate::wire::codec::Encode::encode(value, out);
                    })+
                }
            }
        }
        impl $crate::wire::codec::Decode for $name {
            fn decode(
                reader: &mut $crate::wire::codec::Reader<'_>,
            ) -> Result<$name, $crate::wire::codec::DecodeError> {
                reader.array_of(2)?;
                match reader.uint()? {
                    $($tag => $crate::wire::codec::Decode::decode(reader).map($name::$variant),)+
                    other => Err($crate::wire::codec::DecodeError::Tag(other)),
                }
            }
        }
        impl $name {
            /// Every variant's name with its tag on the wire.
            pub const KINDS: &'static [(&'static str, u64)] = &[$((stringify!($variant), $tag)),+];

            /// The variant's name.
            pub fn kind(&self) -> &'static str {
                match self { $($name::$variant(_) => stringify!($variant)),+ }
            }
        }
    };
}
pub(crate) use wire_enum;
