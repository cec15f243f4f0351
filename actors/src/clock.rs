//! The one clock of the process: roles are told the time, they never read it.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use drachma_protocol::time::{Span, Time};

/// Counts from the moment it was started; one per node, copied to everyone.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Clock {
    start: Instant,
    wall: u64,
}

impl Clock {
    /// Time zero is now.
    pub(crate) fn start() -> Clock {
        let wall = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Clock { start: Instant::now(), wall: u64::try_from(wall.as_micros()).unwrap_or(u64::MAX) }
    }

    /// Microseconds since the start; never goes back.
    pub(crate) fn now(&self) -> Time {
        Time(u64::try_from(self.start.elapsed().as_micros()).unwrap_or(u64::MAX))
    }

    /// The wall clock at time zero, in microseconds since 1970: shown, never used.
    pub(crate) fn wall(&self) -> u64 {
        self.wall
    }

    /// The system's name for a point of this clock.
    pub(crate) fn instant(&self, at: Time) -> Instant {
        self.start + Duration::from_micros(at.0)
    }
}

/// A span as the system counts.
pub(crate) fn duration(span: Span) -> Duration {
    Duration::from_micros(span.0)
}
