//! The quickest request and the quickest response of a window → how far apart two clocks are, and how sure that is.

/// What a window's quickest request and response took beyond the least, on average over such windows, ns: of `n` exponential
/// queues of mean `jitter` the least is `jitter` / `n` (ESTIMATOR.md, "Weights").
#[derive(Clone, Copy, Debug)]
pub(super) struct Over {
    pub(super) out: f64,
    pub(super) back: f64,
}

/// (out − back)/2 rid of what is to be expected of queues, ns, and its variance, ns².
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Apart {
    pub(super) offset: f64,
    pub(super) variance: f64,
}

impl Over {
    /// By itself each leg is above its least by its mean, give or take as much.
    pub(super) fn each(self, out: f64, back: f64) -> Apart {
        let variance = (self.out * self.out + self.back * self.back) / 4.0;
        Apart { offset: ((out - self.out) - (back - self.back)) / 2.0, variance }
    }

    /// Of the two together it is known what they took beyond the least, `beyond`, and only not which of them did: then one leg's
    /// part has an exponential density between none and all, of the difference of both rates, and windows that met no queue say
    /// far more than others. (Moments of a truncated exponential distribution.)
    ///
    /// Where they took less than the least is thought to be, neither met a queue, however unsure that least is. (A clock of the
    /// real traces `nezha` (`tests/real.rs`) is steady, then slews by −15 ppm: +0.6 and −13.6 ppm like this. Were the
    /// difference taken for a queue, −2.5 and −12.5; were it what the least is unsure by, −4.5 and −10.1.)
    pub(super) fn together(self, out: f64, back: f64, beyond: f64) -> Apart {
        if beyond < 0.0 {
            return Apart { offset: (out - back) / 2.0, variance: 0.0 };
        }
        let rate = beyond * (1.0 / self.out - 1.0 / self.back);
        let (mean, variance) = if rate.abs() < 1e-3 {
            (0.5 - rate / 12.0, 1.0 / 12.0)
        } else {
            let falls = rate.exp_m1();
            (1.0 / rate - 1.0 / falls, (rate.powi(-2) - (1.0 / falls + 1.0) / falls).max(0.0))
        };
        // What one leg has more, the other has less: half of the difference is as much off.
        Apart { offset: (out - back) / 2.0 - beyond * (mean - 0.5), variance: beyond * beyond * variance }
    }
}

impl Apart {
    /// As far towards another reading of the same as `share` says: 0 is none of the way, 1 all of it.
    pub(super) fn mixed(self, other: Self, share: f64) -> Self {
        let between = |one: f64, other: f64| (1.0 - share) * one + share * other;
        Self { offset: between(self.offset, other.offset), variance: between(self.variance, other.variance) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_queues_alike_either_may_have_had_all_or_none() {
        let over = Over { out: 300.0, back: 300.0 };
        assert_eq!(over.each(1_500.0, 1_100.0), Apart { offset: 200.0, variance: 45_000.0 });
        assert_eq!(over.together(1_500.0, 1_100.0, 0.0), Apart { offset: 200.0, variance: 0.0 });
        assert_eq!(over.together(1_500.0, 1_100.0, 600.0), Apart { offset: 200.0, variance: 30_000.0 });
    }

    #[test]
    fn what_took_less_than_the_least_met_no_queue_whichever_queue_is_longer() {
        let over = Over { out: 100.0, back: 3_000.0 };
        assert_eq!(over.together(1_500.0, 1_100.0, -6_000.0), Apart { offset: 200.0, variance: 0.0 });
    }

    #[test]
    fn the_split_of_a_sum_has_the_moments_of_its_density() {
        for (over, beyond) in [
            (Over { out: 100.0, back: 300.0 }, 500.0),
            (Over { out: 900.0, back: 20.0 }, 400.0),
            (Over { out: 1e-3, back: 300.0 }, 200.0),
            (Over { out: 300.0, back: 299.9 }, 500.0),
        ] {
            let parts = 1_000_000;
            let (mut weight, mut sum, mut squares) = (0.0, 0.0, 0.0);
            for part in 0..parts {
                let out = beyond * (f64::from(part) + 0.5) / f64::from(parts);
                // By its largest, so that none is out of range.
                let least = (0.0 / over.out + beyond / over.back).min(beyond / over.out);
                let density = (least - out / over.out - (beyond - out) / over.back).exp();
                let off = (out - (beyond - out)) / 2.0;
                (weight, sum, squares) = (weight + density, sum + density * off, squares + density * off * off);
            }
            let (mean, variance) = (sum / weight, squares / weight - (sum / weight).powi(2));
            let found = over.together(0.0, 0.0, beyond);
            assert!((found.offset + mean).abs() < 1e-3 * beyond, "{over:?}: {found:?}, not {mean}");
            assert!((found.variance - variance).abs() < 1e-3 * beyond * beyond, "{over:?}: {found:?}, not {variance}");
        }
    }
}
