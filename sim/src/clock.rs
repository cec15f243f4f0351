//! The clocks of a node: a monotonic one with a drift and jumps, and a wall clock that goes anywhere.

use drachma_protocol::rng::Rng;
use drachma_protocol::time::Time;

use crate::draw::{between, pick};

/// The right speed.
pub const NOMINAL: u64 = 1_000_000;

/// An hour, the most that a clock jumps, in microseconds.
pub const HOUR: u64 = 3_600_000_000;

/// The wall clock when a world begins, in microseconds since 1970.
const EPOCH: u64 = 1_800_000_000_000_000;

/// The clocks of a node. The monotonic one begins at zero with each start of the process and never goes back.
#[derive(Clone, Debug)]
pub struct Clock {
    // At this moment of simulated time ...
    base: u64,
    // ... the monotonic clock showed this, and goes on at this many millionths of the right speed.
    shown: u64,
    rate: u64,
    // What is added to the wall clock; wrapping, so that it may be too late or too early.
    wall: u64,
}

/// How well the clocks of a run go.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Drift {
    /// All at the same speed.
    None,
    /// Within 1 %.
    Usual,
    /// From half to twice the right speed.
    Extreme,
}

impl Drift {
    /// The speed of one node's clock.
    pub fn draw(self, rng: &mut Rng) -> u64 {
        match self {
            Drift::None => NOMINAL,
            Drift::Usual => between(rng, NOMINAL * 99 / 100, NOMINAL * 101 / 100),
            Drift::Extreme => pick(rng, &[NOMINAL / 2, NOMINAL * 3 / 4, NOMINAL, NOMINAL * 3 / 2, NOMINAL * 2]),
        }
    }
}

impl Clock {
    /// A clock of this speed that has never been started.
    pub fn new(rate: u64) -> Clock {
        Clock { base: 0, shown: 0, rate, wall: 0 }
    }

    /// The process starts: its monotonic clock begins.
    pub fn start(&mut self, now: u64) {
        (self.base, self.shown) = (now, 0);
    }

    /// What the monotonic clock shows.
    pub fn now(&self, now: u64) -> Time {
        Time(self.shown + (now - self.base) * self.rate / NOMINAL)
    }

    /// The first moment of simulated time at which the clock shows `time`, as it goes now.
    pub fn moment(&self, time: Time) -> u64 {
        let left = time.0.saturating_sub(self.shown);
        let wait = (u128::from(left) * u128::from(NOMINAL)).div_ceil(u128::from(self.rate));
        self.base.saturating_add(u64::try_from(wait).unwrap_or(u64::MAX))
    }

    /// From now on it goes at another speed.
    pub fn set_rate(&mut self, now: u64, rate: u64) {
        (self.shown, self.base, self.rate) = (self.now(now).0, now, rate);
    }

    /// The monotonic clock jumps forward.
    pub fn jump(&mut self, now: u64, by: u64) {
        (self.shown, self.base) = (self.now(now).0 + by, now);
    }

    /// The wall clock is set anew, an hour off in either direction at most.
    pub fn set_wall(&mut self, rng: &mut Rng) {
        self.wall = rng.below(2 * HOUR).wrapping_sub(HOUR);
    }

    /// What the wall clock shows, in microseconds since 1970.
    pub fn wall(&self, now: u64) -> u64 {
        EPOCH.wrapping_add(now).wrapping_add(self.wall)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_never_goes_back_and_comes_to_each_moment_in_time() {
        let mut rng = Rng::new(7);
        let mut clock = Clock::new(Drift::Extreme.draw(&mut rng));
        clock.start(500);
        assert_eq!(clock.now(500), Time(0));
        let (mut now, mut last) = (500, Time(0));
        for _ in 0..10_000 {
            now += rng.below(1000);
            match rng.below(20) {
                0 => clock.set_rate(now, Drift::Extreme.draw(&mut rng)),
                1 => clock.jump(now, rng.below(HOUR)),
                2 => clock.set_wall(&mut rng),
                _ => {}
            }
            assert!(clock.now(now) >= last);
            last = clock.now(now);
            let wanted = Time(last.0 + 1 + rng.below(5000));
            let moment = clock.moment(wanted);
            assert!(clock.now(moment) >= wanted && clock.now(moment - 1) < wanted);
            assert!(clock.wall(now).abs_diff(EPOCH + now) <= HOUR);
        }
    }

    #[test]
    fn speeds_are_what_they_are_called() {
        let mut clock = Clock::new(NOMINAL / 2);
        clock.start(1_000_000);
        assert_eq!(clock.now(3_000_000), Time(1_000_000));
        assert_eq!(clock.moment(Time(1_000_000)), 3_000_000);
    }
}
