//! How far the levels of a well-kept fleet's clocks, their offsets in the mean, are drawn towards zero.

/// Of a normal distribution of variance 1, half of the squares are below this.
const MEDIAN_SQUARE: f64 = 0.455;

/// Degrees of freedom of what the clocks of a well-kept fleet are off by.
const TAILS: f64 = 3.0;

/// No more of a level than this goes.
const DRAWN: f64 = 0.95;

/// What a clock is off by in the mean, ns, and the variance of that.
#[derive(Clone, Copy, Debug)]
pub(super) struct Level {
    pub(super) offset: f64,
    pub(super) variance: f64,
}

/// Levels of a well-kept fleet, each clock free to move.
pub(super) struct Levels {
    /// Per clock; `None` where it cannot move.
    of_clock: Vec<Option<Level>>,
    /// The variance of their offsets.
    spread: f64,
}

impl Levels {
    pub(super) fn of(of_clock: Vec<Option<Level>>) -> Self {
        let squares = of_clock.iter().flatten().map(|level| level.offset.powi(2)).collect();
        Self { spread: median(squares) / MEDIAN_SQUARE, of_clock }
    }

    /// How strongly a clock's level is drawn towards zero, as one over a variance in ns², where it is `level` once others are
    /// held and that took it so far, in ns. The expected offset of a clock that seems to be off by y ± σ is y + σ² times the
    /// slope of the logarithm of the density of what all clocks seem to be off by (Tweedie's formula; Efron 2011). That is
    /// taken to be a Student distribution, so that what is far beyond the fleet stays where it is.
    pub(super) fn pull(&self, clock: usize, level: Level, taken: f64) -> f64 {
        let Some(free) = self.of_clock[clock] else { return 0.0 };
        let variance = free.variance.max(level.variance) + taken.powi(2);
        let all = TAILS * self.spread.max(variance) + level.offset.powi(2);
        let drawn = ((TAILS + 1.0) * variance / all.max(f64::MIN_POSITIVE)).min(DRAWN);
        drawn / (1.0 - drawn) / level.variance.max(1.0)
    }
}

pub(super) fn median(mut values: Vec<f64>) -> f64 {
    values.sort_unstable_by(f64::total_cmp);
    let half = values.len() / 2;
    match values.len() {
        0 => 0.0,
        count if count % 2 == 1 => values[half],
        _ => (values[half - 1] + values[half]) / 2.0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_level_no_larger_than_its_error_is_drawn_towards_zero_and_one_far_beyond_the_fleet_stays() {
        let offsets = [30.0, -50.0, 100.0, -300.0, 20_000.0];
        let levels = Levels::of(offsets.map(|offset| Some(Level { offset, variance: 1e4 })).to_vec());
        let left = |clock: usize, variance: f64, taken: f64| {
            let pull = levels.pull(clock, Level { offset: offsets[clock], variance }, taken);
            1.0 / (1.0 + pull * variance)
        };
        // By hand: half of the squares are below 100², so the fleet's are 100²/0.455 on average; of an offset y,
        // 4 · 100² / (3 · 100²/0.455 + y²) goes.
        assert!((left(0, 1e4, 0.0) - 0.4015).abs() < 1e-3 && (left(3, 1e4, 0.0) - 0.7434).abs() < 1e-3);
        assert!(left(4, 1e4, 0.0) > 0.999);
        // However sure holding others makes it, it is no surer than it was freely, and less where that took it far.
        assert!((left(3, 1e2, 0.0) - 0.7434).abs() < 1e-3);
        assert!(left(3, 1e2, 200.0) < 0.4);
        assert_eq!(Levels::of(vec![None; 5]).pull(3, Level { offset: -300.0, variance: 1e4 }, 0.0), 0.0);
    }
}
