//! Draws from a seeded stream, in integers: the same on every machine.

use drachma_protocol::rng::Rng;

pub(crate) use drachma_workload::draw::exponential;

/// True in `permille` of 1,000 cases.
pub(crate) fn permille(rng: &mut Rng, permille: u64) -> bool {
    permille > 0 && rng.below(1000) < permille
}

/// True in so many of 100,000 cases.
pub(crate) fn per_100_000(rng: &mut Rng, times: u64) -> bool {
    times > 0 && rng.below(100_000) < times
}

/// A number from `low` to `high`, both included.
pub(crate) fn between(rng: &mut Rng, low: u64, high: u64) -> u64 {
    low + rng.below(high - low + 1)
}

/// One of `items`, which must not be empty.
pub(crate) fn pick<T: Copy>(rng: &mut Rng, items: &[T]) -> T {
    items[rng.below(items.len() as u64) as usize]
}

/// The items in another order.
pub(crate) fn shuffle<T>(rng: &mut Rng, items: &mut [T]) {
    for last in (1..items.len()).rev() {
        items.swap(last, rng.below(last as u64 + 1) as usize);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shuffle_loses_nothing() {
        let mut items: Vec<u32> = (0..50).collect();
        shuffle(&mut Rng::new(2), &mut items);
        assert_ne!(items, (0..50).collect::<Vec<_>>());
        items.sort_unstable();
        assert_eq!(items, (0..50).collect::<Vec<_>>());
    }
}
