//! Distributions, the same on every machine: integers, and of floating point only the operations that IEEE 754 rounds
//! exactly.

use drachma_protocol::rng::Rng;

/// The exponent of the usual zipfian distributions.
const THETA: f64 = 0.99;

/// How many items YCSB's scrambled zipfian distribution draws from before it scatters them.
const YCSB_ITEMS: u64 = 10_000_000_000;
/// The sum of `1 / k^0.99` over them, as YCSB has it.
const YCSB_ZETA: f64 = 26.469_028_201_783_02;
/// `0.5^0.99` and `(2 / YCSB_ITEMS)^0.01`.
const HALF: f64 = 0.503_477_775_028_359_4;
const YCSB_TWO: f64 = 0.799_853_224_522_371_3;

/// About exponentially distributed with this mean: -log2 of a uniform number, linear between the powers of two.
pub fn exponential(rng: &mut Rng, mean: u64) -> u64 {
    let uniform = rng.next_u64() | 1;
    let zeros = uniform.leading_zeros();
    let fraction = (uniform << zeros << 1) >> 40;
    let halvings = (u64::from(zeros + 1) << 24) - fraction;
    // 693 thousandths are the logarithm of two.
    ((u128::from(mean) * u128::from(halvings) * 693) / (1000 << 24)) as u64
}

/// Zipf's law over `0..items`, plain: the first item is the most frequent, then the second, and so on. Eight bytes
/// an item.
#[derive(Clone, Debug)]
pub struct Zipfian {
    // The share of the first 1, 2, 3 ... items, of 2^64.
    shares: Vec<u64>,
}

impl Zipfian {
    /// The distribution with exponent 0.99.
    ///
    /// # Panics
    /// If there is no item.
    pub fn new(items: u64) -> Zipfian {
        assert!(items > 0, "an empty set has no distribution");
        let mut sums = Vec::with_capacity(items as usize);
        let (mut sum, mut logarithm) = (0.0, 0.0);
        for rank in 1..=items {
            if rank > 1 {
                logarithm += log_of_step(rank);
            }
            sum += weight(rank, logarithm);
            sums.push(sum);
        }
        let scale = 18_446_744_073_709_551_616.0 / sum;
        Zipfian { shares: sums.into_iter().map(|sum| (sum * scale) as u64).collect() }
    }

    /// The next item.
    pub fn draw(&self, rng: &mut Rng) -> u64 {
        let uniform = rng.next_u64();
        let rank = self.shares.partition_point(|share| *share <= uniform);
        rank.min(self.shares.len() - 1) as u64
    }
}

/// `rank^-0.99`, as `rank^0.01 / rank`.
fn weight(rank: u64, logarithm: f64) -> f64 {
    let exponent = (1.0 - THETA) * logarithm;
    let (mut term, mut power) = (1.0, 1.0);
    for n in 1..16 {
        term *= exponent / f64::from(n);
        power += term;
    }
    power / rank as f64
}

/// `ln(rank) - ln(rank - 1)`, by the series of the inverse hyperbolic tangent.
fn log_of_step(rank: u64) -> f64 {
    let x = 1.0 / (2 * rank - 1) as f64;
    let (mut power, mut sum, mut divisor) = (x, 0.0, 1.0);
    while power > 1e-18 {
        sum += power / divisor;
        power *= x * x;
        divisor += 2.0;
    }
    2.0 * sum
}

/// YCSB's scrambled zipfian distribution over `0..items`: ranks are drawn from ten thousand million and scattered by
/// a hash, so the hottest item has 3.78 % of the draws, however many items there are, and hot ones do not lie together.
pub fn scrambled_zipfian(rng: &mut Rng, items: u64) -> u64 {
    fnv(ycsb_rank(rng)) % items
}

/// Gray and others, "Quickly generating billion-record synthetic databases" (1994).
fn ycsb_rank(rng: &mut Rng) -> u64 {
    let uniform = (rng.next_u64() >> 11) as f64 / (1u64 << 53) as f64;
    let scaled = uniform * YCSB_ZETA;
    if scaled < 1.0 {
        return 0;
    }
    if scaled < 1.0 + HALF {
        return 1;
    }
    let eta = (1.0 - YCSB_TWO) / (1.0 - (1.0 + HALF) / YCSB_ZETA);
    // The exponent is 1 / (1 - 0.99).
    let base = eta * uniform - eta + 1.0;
    let power = (0..100).fold(1.0, |power, _| power * base);
    (YCSB_ITEMS as f64 * power) as u64
}

/// The 64-bit hash of Fowler, Noll and Vo (1a).
fn fnv(number: u64) -> u64 {
    let mix = |hash: u64, byte: u8| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
    number.to_le_bytes().into_iter().fold(0xcbf2_9ce4_8422_2325, mix)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shares(items: u64, draws: u64, mut draw: impl FnMut(&mut Rng) -> u64) -> Vec<f64> {
        let (mut rng, mut counts) = (Rng::new(5), vec![0u64; items as usize]);
        (0..draws).for_each(|_| counts[draw(&mut rng) as usize] += 1);
        counts.into_iter().map(|count| count as f64 * 100.0 / draws as f64).collect()
    }

    #[test]
    fn the_mean_is_kept_and_the_tail_is_long() {
        let mut rng = Rng::new(1);
        let draws: Vec<u64> = (0..20_000).map(|_| exponential(&mut rng, 10_000)).collect();
        let mean = draws.iter().sum::<u64>() / 20_000;
        assert!((9_500..11_000).contains(&mean), "{mean}");
        assert!(draws.iter().any(|draw| *draw > 60_000));
        assert!(draws.iter().any(|draw| *draw < 1_000));
    }

    #[test]
    fn plain_zipfian_gives_the_first_of_1000_items_an_eighth_and_falls_off_as_the_rank() {
        let zipfian = Zipfian::new(1000);
        let shares = shares(1000, 200_000, |rng| zipfian.draw(rng));
        assert!((12.5..13.3).contains(&shares[0]), "{}", shares[0]);
        for rank in [2, 4, 10] {
            let expected = shares[0] / f64::from(rank);
            let found = shares[rank as usize - 1];
            assert!((expected * 0.85..expected * 1.2).contains(&found), "rank {rank}: {found}, not {expected}");
        }
        assert!(shares[999] < 0.1);
    }

    #[test]
    fn scrambled_zipfian_has_the_same_hottest_share_at_any_size_and_elsewhere_than_in_front() {
        for items in [100, 1000, 10_000] {
            let shares = shares(items, 200_000, |rng| scrambled_zipfian(rng, items));
            let (hottest, share) = shares.iter().enumerate().max_by(|a, b| a.1.total_cmp(b.1)).unwrap();
            // What the ranks far behind add to it is about one part in the number of items.
            let rest = 90.0 / items as f64;
            assert!((3.6..4.0 + rest).contains(share), "{share} of {items}");
            assert_ne!(hottest, 0);
        }
    }

    #[test]
    fn the_constants_are_what_they_say() {
        assert!((HALF - 0.5f64.powf(THETA)).abs() < 1e-12);
        assert!(
            (YCSB_TWO - (2.0 / YCSB_ITEMS as f64).powf(1.0 - THETA)).abs() < 1e-12,
            "{}",
            (2.0 / YCSB_ITEMS as f64).powf(0.01)
        );
    }

    #[test]
    fn one_item_is_always_drawn() {
        let (zipfian, mut rng) = (Zipfian::new(1), Rng::new(1));
        assert!((0..100).all(|_| zipfian.draw(&mut rng) == 0 && scrambled_zipfian(&mut rng, 1) == 0));
    }
}
