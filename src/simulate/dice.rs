//! Named streams of random numbers: what one part of a fleet draws never shifts what another draws.

use rand::{RngExt, SeedableRng};
use rand_distr::{Distribution, Exp1, StandardNormal};
use rand_pcg::Pcg64Mcg;
use xxhash_rust::xxh3::xxh3_64_with_seed;

pub(super) struct Dice(Pcg64Mcg);

impl Dice {
    /// The stream of `purpose` number `index` under a scenario's seed.
    pub fn new(seed: u64, purpose: &str, index: u64) -> Self {
        let name = [purpose.as_bytes(), &index.to_le_bytes()].concat();
        Self(Pcg64Mcg::seed_from_u64(xxh3_64_with_seed(&name, seed)))
    }

    pub fn bits(&mut self) -> u64 {
        self.0.random()
    }

    /// Uniform in [0, 1).
    pub fn unit(&mut self) -> f64 {
        self.0.random()
    }

    pub fn chance(&mut self, share: f64) -> bool {
        self.unit() < share
    }

    pub fn below(&mut self, bound: usize) -> usize {
        self.0.random_range(0..bound)
    }

    pub fn between(&mut self, [low, high]: [f64; 2]) -> f64 {
        low + (high - low) * self.unit()
    }

    /// Uniform in the logarithm; both ends positive.
    pub fn log_between(&mut self, [low, high]: [f64; 2]) -> f64 {
        self.between([low.ln(), high.ln()]).exp()
    }

    pub fn exponential(&mut self, mean: f64) -> f64 {
        let draw: f64 = Exp1.sample(&mut self.0);
        mean * draw
    }

    pub fn normal(&mut self, deviation: f64) -> f64 {
        let draw: f64 = StandardNormal.sample(&mut self.0);
        deviation * draw
    }

    pub fn sign(&mut self) -> f64 {
        if self.chance(0.5) { 1.0 } else { -1.0 }
    }

    /// An index, each with its weight's share.
    pub fn pick(&mut self, weights: &[f64]) -> usize {
        let mut left = self.unit() * weights.iter().sum::<f64>();
        for (index, weight) in weights.iter().enumerate() {
            left -= weight;
            if left < 0.0 {
                return index;
            }
        }
        weights.len() - 1
    }

    pub fn shuffle<T>(&mut self, items: &mut [T]) {
        for last in (1..items.len()).rev() {
            items.swap(last, self.below(last + 1));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Dice;

    #[test]
    fn a_stream_is_its_seed_purpose_and_index() {
        let first = |seed, purpose, index| Dice::new(seed, purpose, index).bits();
        assert_eq!(first(1, "link", 2), first(1, "link", 2));
        assert_ne!(first(1, "link", 2), first(2, "link", 2));
        assert_ne!(first(1, "link", 2), first(1, "clock", 2));
        assert_ne!(first(1, "link", 2), first(1, "link", 3));
    }

    #[test]
    fn weights_are_shares() {
        let mut dice = Dice::new(1, "weights", 0);
        let mut counts = [0; 3];
        for _ in 0..10_000 {
            counts[dice.pick(&[1.0, 0.0, 3.0])] += 1;
        }
        assert!((2_300..2_700).contains(&counts[0]), "{counts:?}");
        assert_eq!(counts[1], 0);
    }
}
