//! Bytes in, values out: the [`codec`] of values and the [`frame`]s that carry them.

pub mod codec;
pub mod frame;
