//! What floored readings say together: more than their average, because flooring is uniform.
//!
//! A clock read in whole milliseconds is early by some u in [0, q), the same at both ends of a span, so δ stays exact.
//! Where the legs took `excess` beyond the link's least δ, any part of it may be in the request: for exponential queues
//! of one mean that part is uniform. So (f − b)/2 is the truth plus a sum of uniform numbers, and a dozen of them pin the
//! truth like the ends of a ruler, to about q/n, where their average is right to q/√(12 n).

/// One exchange: (f − b)/2 less what flooring adds to it on average, and the widths of what is uniform in it, ns.
#[derive(Clone, Copy, Debug)]
pub(super) struct Floored {
    pub(super) offset: f64,
    /// The client's quantum, the server's, and the excess of δ.
    pub(super) widths: [f64; 3],
}

/// Narrower than this a width is taken to be no less: what it stands for is known no better, ns.
const LEAST_WIDTH: f64 = 2e3;

/// Of a hundred exchanges one may be anything, within ten times the widths.
const ASTRAY: f64 = 0.001;

/// The mean is looked for within so many deviations of the median, at so many places either side; then again around
/// what was found, closer.
const REACH: f64 = 6.0;
const PLACES: i32 = 24;
const LOOKS: usize = 3;

/// Mean and variance, in ns and ns², of what all of them measure, nothing known before.
pub(super) fn together(exchanges: &[Floored]) -> (f64, f64) {
    let total: f64 = exchanges.iter().map(Floored::weight).sum();
    let (mut mean, mut variance) = (median(exchanges, total), 1.0 / total);
    for _ in 0..LOOKS {
        let apart = REACH * variance.sqrt() / f64::from(PLACES);
        let places: Vec<f64> = (-PLACES..=PLACES).map(|place| mean + apart * f64::from(place)).collect();
        let log = |&at: &f64| exchanges.iter().map(|one| one.log_likelihood(at)).sum();
        let logs: Vec<f64> = places.iter().map(log).collect();
        let best = logs.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        let weights: Vec<f64> = logs.iter().map(|log| (log - best).exp()).collect();
        let sum: f64 = weights.iter().sum();
        let over = |value: &dyn Fn(f64) -> f64| {
            places.iter().zip(&weights).map(|(&at, weight)| weight * value(at)).sum::<f64>() / sum
        };
        mean = over(&|at| at);
        variance = over(&|at| (at - mean) * (at - mean)) + apart * apart / 12.0;
    }
    (mean, variance)
}

/// By weight: of one that is far off, an average takes its share.
fn median(exchanges: &[Floored], total: f64) -> f64 {
    let mut sorted = exchanges.to_vec();
    sorted.sort_unstable_by(|left, right| left.offset.total_cmp(&right.offset));
    let mut below = 0.0;
    let reaches_half = |one: &&Floored| {
        below += one.weight();
        below >= total / 2.0
    };
    sorted.iter().find(reaches_half).map_or(0.0, |one| one.offset)
}

impl Floored {
    /// One over its variance.
    fn weight(&self) -> f64 {
        12.0 / self.widths.iter().map(|width| width * width).sum::<f64>().max(LEAST_WIDTH * LEAST_WIDTH)
    }

    fn log_likelihood(&self, truth: f64) -> f64 {
        let widths = self.widths.map(|width| width.max(LEAST_WIDTH));
        (density(self.offset - truth, widths) + ASTRAY / widths.iter().sum::<f64>()).ln()
    }
}

/// Density at `at` of the sum of three numbers, each uniform over a width around zero.
fn density(at: f64, [one, other, third]: [f64; 3]) -> f64 {
    let from_left = at + (one + other + third) / 2.0;
    let square = |past: f64| past.max(0.0).powi(2);
    let corner = |taken: f64| square(from_left - taken);
    let sum = corner(0.0) - corner(one) - corner(other) - corner(third)
        + corner(one + other)
        + corner(one + third)
        + corner(other + third)
        - corner(one + other + third);
    (sum / (2.0 * one * other * third)).max(0.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_density_is_that_of_a_sum_of_uniforms() {
        let widths = [1e6, 3e5, 2e3];
        let step = 500.0;
        let places = || (-2_000..2_000).map(|place| f64::from(place) * step);
        let moment = |power: i32| places().map(|at| density(at, widths) * at.powi(power)).sum::<f64>() * step;
        assert!((moment(0) - 1.0).abs() < 1e-6, "{}", moment(0));
        let variance = widths.iter().map(|width| width * width).sum::<f64>() / 12.0;
        assert!((moment(2) / variance - 1.0).abs() < 1e-4, "{} {variance}", moment(2));
        assert!((density(0.0, widths) - 1e-6).abs() < 1e-12);
    }

    #[test]
    fn two_ends_of_a_ruler_pin_it() {
        // By hand: quantum 1 ms, truth 0; readings from −480 to +490 µs leave −10 to +20 µs.
        let at = |offset: f64| Floored { offset, widths: [1e6, 0.0, 0.0] };
        let exchanges = [-480e3, -300e3, -10e3, 140e3, 490e3].map(at);
        let (mean, variance) = together(&exchanges);
        assert!((mean - 5e3).abs() < 3e3, "{mean}");
        assert!((5e3..15e3).contains(&variance.sqrt()), "{variance}");
    }

    #[test]
    fn one_alone_says_what_it_reads() {
        let (mean, variance) = together(&[Floored { offset: 7e5, widths: [1e6, 0.0, 5e5] }]);
        assert!((mean - 7e5).abs() < 1e3 && (variance.sqrt() / 323e3 - 1.0).abs() < 0.1, "{mean} {variance}");
    }

    #[test]
    fn one_that_contradicts_all_others_does_not_win() {
        let at = |offset: f64| Floored { offset, widths: [1e6, 0.0, 0.0] };
        for astray in [5e6, -5e6] {
            let mut exchanges = [-480e3, -400e3, -300e3, -200e3, -10e3, 140e3, 250e3, 380e3, 490e3].map(at).to_vec();
            exchanges.push(at(astray));
            let (mean, _) = together(&exchanges);
            assert!((mean - 5e3).abs() < 30e3, "{astray}: {mean}");
        }
    }
}
