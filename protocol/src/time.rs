//! Time as data: the roles never read a clock.

use std::ops::{Add, Sub};

use crate::wire::codec::wire_newtype;

/// A point on the local monotonic clock, in microseconds since the process (or the simulation) began.
#[derive(Clone, Copy, Debug, Default, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct Time(pub u64);

/// A length of time in microseconds.
#[derive(Clone, Copy, Debug, Default, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct Span(pub u64);

/// A point in a group's replicated log time, in microseconds. It only grows, and only by applying entries.
#[derive(Clone, Copy, Debug, Default, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct LogTime(pub u64);

wire_newtype!(Span, LogTime);

impl Span {
    /// A span of whole milliseconds.
    pub const fn from_millis(millis: u64) -> Span {
        Span(millis * 1000)
    }

    /// Whole milliseconds, rounded down.
    pub const fn as_millis(self) -> u64 {
        self.0 / 1000
    }
}

impl Time {
    /// The span from `earlier` to this point; zero if `earlier` is later.
    pub fn since(self, earlier: Time) -> Span {
        Span(self.0.saturating_sub(earlier.0))
    }
}

impl Add<Span> for Time {
    type Output = Time;
    fn add(self, span: Span) -> Time {
        Time(self.0.saturating_add(span.0))
    }
}

impl Sub<Span> for Time {
    type Output = Time;
    fn sub(self, span: Span) -> Time {
        Time(self.0.saturating_sub(span.0))
    }
}

impl Add<Span> for LogTime {
    type Output = LogTime;
    fn add(self, span: Span) -> LogTime {
        LogTime(self.0.saturating_add(span.0))
    }
}
