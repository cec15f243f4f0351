//! Pauses that grow, with jitter, so that many clients that were refused together do not come back together.

use std::hash::{BuildHasher, Hasher, RandomState};
use std::time::Duration;

/// The pauses between the tries of one thing: each about twice the last, up to a limit.
#[derive(Debug)]
pub(crate) struct Backoff {
    least: Duration,
    most: Duration,
    doublings: u32,
}

impl Backoff {
    /// Pauses from `least` to `most`.
    pub(crate) fn new(least: Duration, most: Duration) -> Backoff {
        Backoff { least, most, doublings: 0 }
    }

    /// The pauses between the tries of a request.
    pub(crate) fn of_requests() -> Backoff {
        Backoff::new(Duration::from_millis(2), Duration::from_millis(200))
    }

    /// The next pause: between a half and the whole of its nominal length.
    pub(crate) fn pause(&mut self) -> Duration {
        let nominal = self.least.saturating_mul(1 << self.doublings.min(16)).min(self.most);
        self.doublings = self.doublings.saturating_add(1);
        let half = nominal / 2;
        let spread = u64::try_from(half.as_micros()).unwrap_or(u64::MAX).saturating_add(1);
        half + Duration::from_micros(random() % spread)
    }

    /// There was progress: begin with the shortest pause again.
    pub(crate) fn reset(&mut self) {
        self.doublings = 0;
    }
}

/// 64 bits from the randomness that the standard library seeds its hash maps with.
pub(crate) fn random() -> u64 {
    RandomState::new().build_hasher().finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_to_the_limit_and_stay_within_their_bounds() {
        let mut backoff = Backoff::of_requests();
        for nominal in [2u64, 4, 8, 16, 32, 64, 128, 200, 200, 200] {
            let pause = backoff.pause();
            let nominal = Duration::from_millis(nominal);
            assert!(nominal / 2 <= pause && pause <= nominal, "{pause:?} of {nominal:?}");
        }
        backoff.reset();
        assert!(backoff.pause() <= Duration::from_millis(2));
    }

    #[test]
    fn a_thousand_tries_do_not_overflow() {
        let mut backoff = Backoff::of_requests();
        assert!((0..1000).all(|_| backoff.pause() <= Duration::from_millis(200)));
    }
}
