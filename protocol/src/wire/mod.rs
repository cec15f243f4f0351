//! Bytes in, values out: the [`codec`] of values, the [`frame`]s that carry them, and the bodies of frames between
//! nodes ([`peer`]).

pub mod codec;
pub mod frame;
pub mod peer;
