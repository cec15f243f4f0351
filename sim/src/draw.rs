//! Draws from a seeded stream, in integers: the same on every machine.

use drachma_protocol::rng::Rng;

/// About exponentially distributed with this mean: -log2 of a uniform number, linear between the powers of two.
pub(crate) fn exponential(rng: &mut Rng, mean: u64) -> u64 {
    let uniform = rng.next_u64() | 1;
    let zeros = uniform.leading_zeros();
    let fraction = (uniform << zeros << 1) >> 40;
    let halvings = (u64::from(zeros + 1) << 24) - fraction;
    // 693 thousandths are the logarithm of two.
    ((u128::from(mean) * u128::from(halvings) * 693) / (1000 << 24)) as u64
}

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
    fn the_mean_is_kept_and_the_tail_is_long() {
        let mut rng = Rng::new(1);
        let draws: Vec<u64> = (0..20_000).map(|_| exponential(&mut rng, 1000)).collect();
        let mean = draws.iter().sum::<u64>() / 20_000;
        assert!((900..1200).contains(&mean), "{mean}");
        assert!(draws.iter().any(|draw| *draw > 6000));
        assert!(draws.iter().any(|draw| *draw < 100));
    }

    #[test]
    fn a_shuffle_loses_nothing() {
        let mut items: Vec<u32> = (0..50).collect();
        shuffle(&mut Rng::new(2), &mut items);
        assert_ne!(items, (0..50).collect::<Vec<_>>());
        items.sort_unstable();
        assert_eq!(items, (0..50).collect::<Vec<_>>());
    }
}
