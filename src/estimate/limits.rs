//! What it tells of clocks that no way is more uneven than so much.
//!
//! The solve takes asymmetries for normally distributed, and a normal distribution has no end. Where all else says that a
//! way is at its limit or beyond, the clocks at its ends have to give way. So each asymmetry gets that normal distribution
//! which, put together with what all others say of it, comes out with the mean and variance that limits would give
//! (expectation propagation; Minka 2001).

use std::f64::consts::{FRAC_1_SQRT_2, TAU};

/// A normal distribution.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Normal {
    /// ns.
    pub(super) mean: f64,
    /// One over its variance, ns⁻².
    pub(super) weight: f64,
}

impl Normal {
    pub(super) fn new(mean: f64, weight: f64) -> Self {
        Self { mean, weight }
    }

    /// What both say together.
    fn and(self, other: Self) -> Self {
        let weight = self.weight + other.weight;
        Self::new((self.weight * self.mean + other.weight * other.mean) / weight, weight)
    }

    /// What is left of it without `other`, which is part of it.
    fn without(self, other: Self) -> Self {
        self.and(Self { weight: -other.weight, ..other })
    }

    /// Towards `other`, as far as `share` says: 0 is none of the way, 1 all of it.
    pub(super) fn mixed(self, other: Self, share: f64) -> Self {
        let of = |normal: Self, share: f64| Self { weight: share * normal.weight, ..normal };
        of(self, 1.0 - share).and(of(other, share))
    }
}

/// Within ± `half` and as likely anywhere there, but for an error of deviation `blur`, ns.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limits {
    pub(super) half: f64,
    pub(super) blur: f64,
}

/// Less than this share of what limits say by themselves is as good as nothing.
const LEAST_SAID: f64 = 0.01;

/// So unlikely that no limit holds.
const IMPOSSIBLE: f64 = 1e-100;

impl Limits {
    /// The prior to go on with, given the last one and what was `found` with it; and how much likelier what all others say is
    /// with limits than with a normal distribution of the same variance (a logarithm). `None` where they say nothing.
    pub(super) fn met(&self, prior: Normal, found: Normal) -> Option<(Normal, f64)> {
        let least = LEAST_SAID / self.variance();
        let others = found.without(prior);
        if others.weight < least {
            return None;
        }
        let (limited, odds) = self.limit(others)?;
        // Limits never make less sure; how much surer, rounding may hide.
        let weight = (limited.weight - others.weight).max(least);
        let mean = (limited.weight * limited.mean - others.weight * others.mean) / weight;
        Some((Normal::new(mean, weight), odds))
    }

    fn variance(&self) -> f64 {
        self.half * self.half / 3.0 + self.blur * self.blur
    }

    /// Mean and variance of what is said to be as `others` and lies within the limits, and the odds of [`Limits::met`].
    fn limit(&self, others: Normal) -> Option<(Normal, f64)> {
        let variance = 1.0 / others.weight;
        let blurred = variance + self.blur * self.blur;
        let deviation = blurred.sqrt();
        let far = others.mean.abs() / deviation;
        let [low, high] = [-self.half, self.half].map(|end| end / deviation - far);
        let inside = below(high) - below(low);
        if inside < IMPOSSIBLE {
            return None;
        }
        // Moments of a normal distribution cut off at both ends, in its own deviations.
        let mean = (density(low) - density(high)) / inside;
        let square = (1.0 + (low * density(low) - high * density(high)) / inside - mean * mean).max(0.0);
        let share = variance / blurred;
        let off = (others.mean.abs() + share * deviation * mean).copysign(others.mean);
        let limited = Normal::new(off, 1.0 / (share * (share * blurred * square + self.blur * self.blur)));
        let normal = (variance + self.variance()).sqrt();
        let odds = (inside / (2.0 * self.half)).ln() - (density(others.mean / normal) / normal).ln();
        Some((limited, odds))
    }
}

fn density(at: f64) -> f64 {
    (-at * at / 2.0).exp() / TAU.sqrt()
}

/// The share of a normal distribution below this.
fn below(at: f64) -> f64 {
    libm::erfc(-at * FRAC_1_SQRT_2) / 2.0
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng;
    use rand_distr::{Distribution, StandardNormal, Uniform};
    use rand_pcg::Pcg64Mcg;

    use super::*;

    const LIMITS: Limits = Limits { half: 300.0, blur: 40.0 };

    /// Mean and variance of a density on a grid.
    fn moments(density: impl Fn(f64) -> f64) -> (f64, f64) {
        let places = || (-40_000..40_000).map(|place| f64::from(place) * 0.1);
        let sum = |value: &dyn Fn(f64) -> f64| places().map(|at| density(at) * value(at)).sum::<f64>();
        let mean = sum(&|at| at) / sum(&|_| 1.0);
        (mean, sum(&|at| (at - mean).powi(2)) / sum(&|_| 1.0))
    }

    #[test]
    fn what_lies_within_limits_has_the_moments_of_its_density() {
        for (mean, deviation) in [(0.0, 1_000.0), (100.0, 50.0), (-310.0, 60.0), (500.0, 80.0), (-800.0, 30.0)] {
            let (limited, _) = LIMITS.limit(Normal::new(mean, f64::powi(deviation, -2))).unwrap();
            let within = |at: f64| below((at + LIMITS.half) / LIMITS.blur) - below((at - LIMITS.half) / LIMITS.blur);
            let expected = moments(|at| within(at) * density((at - mean) / deviation));
            assert!((limited.mean - expected.0).abs() < 0.1, "{mean}, {deviation}: {limited:?}, not {expected:?}");
            let variance = 1.0 / limited.weight;
            assert!((variance / expected.1 - 1.0).abs() < 1e-2, "{mean}, {deviation}: {variance}, not {expected:?}");
        }
    }

    #[test]
    fn the_prior_does_to_what_others_say_what_the_limits_would() {
        let last = Normal::new(0.0, 1.0 / LIMITS.variance());
        for (mean, deviation) in [(20.0, 30.0), (-280.0, 60.0), (450.0, 90.0)] {
            let others = Normal::new(mean, f64::powi(deviation, -2));
            let (next, _) = LIMITS.met(last, others.and(last)).unwrap();
            let (limited, together) = (LIMITS.limit(others).unwrap().0, others.and(next));
            assert!((together.mean - limited.mean).abs() < 1.0, "{together:?}, not {limited:?}");
            assert!((together.weight / limited.weight - 1.0).abs() < 0.02, "{together:?}, not {limited:?}");
        }
    }

    #[test]
    fn of_what_only_its_prior_tells_or_no_limit_can_hold_nothing_is_said() {
        let last = Normal::new(0.0, 1.0 / LIMITS.variance());
        assert_eq!(LIMITS.met(last, Normal::new(10.0, last.weight * 1.001)), None);
        assert_eq!(LIMITS.met(last, Normal::new(5_000.0, 1e-2).and(last)), None);
    }

    #[test]
    fn the_odds_tell_what_has_limits_from_what_has_none() {
        let mut dice = Pcg64Mcg::seed_from_u64(1);
        let last = Normal::new(0.0, 1.0 / LIMITS.variance());
        let mut odds = |drawn: &mut dyn FnMut(&mut Pcg64Mcg) -> f64| -> f64 {
            let mut said = |dice: &mut Pcg64Mcg| Normal::new(drawn(dice), f64::powi(60.0, -2));
            (0..200).map(|_| LIMITS.met(last, said(&mut dice).and(last)).map_or(0.0, |(_, odds)| odds)).sum()
        };
        let uniform = Uniform::new(-LIMITS.half, LIMITS.half).unwrap();
        let limited = odds(&mut |dice| uniform.sample(dice));
        let normal = odds(&mut |dice| {
            let drawn: f64 = StandardNormal.sample(dice);
            drawn * LIMITS.half / 3.0f64.sqrt()
        });
        let even = odds(&mut |_| 0.0);
        assert!(limited > 5.0 && normal < -5.0 && even < -5.0, "{limited}, {normal}, {even}");
    }

    #[test]
    fn half_of_the_way_has_half_of_both_weights() {
        assert_eq!(Normal::new(0.0, 1.0).mixed(Normal::new(4.0, 3.0), 0.5), Normal::new(3.0, 2.0));
    }
}
