//! What all clocks of a group do together, which no call between them can show.
//!
//! Where a clock of the group is held, that says what all others are measured from. In every other group the medians over
//! its clocks of the mean offset and of the mean frequency error are zero, steps counting once (ESTIMATOR.md, fact 11).

use super::align::Alignment;
use super::curves::Curves;
use super::levels::median;
use super::solve::Block;

/// The groups in which no clock is held.
pub(super) struct Gauge<'a> {
    alignment: &'a Alignment,
    /// Per group, its clocks.
    groups: Vec<Vec<usize>>,
}

impl<'a> Gauge<'a> {
    pub(super) fn new(alignment: &'a Alignment, anchored: &[bool]) -> Self {
        let mut groups = vec![Vec::new(); anchored.len()];
        alignment.groups.iter().enumerate().for_each(|(clock, &group)| groups[group as usize].push(clock));
        groups.retain(|clocks| clocks.len() > 1 && !clocks.iter().any(|&clock| anchored[clock]));
        Self { alignment, groups }
    }

    /// Takes off values of the curves' unknowns what each group does together.
    pub(super) fn apply(&self, curves: &Curves, values: &mut [f64]) {
        for group in &self.groups {
            let clocks = || group.iter().copied().filter(|&clock| curves.blocks[clock].count > 0);
            let rate = median(clocks().map(|clock| slope(curves, values, clock)).collect());
            let middles =
                clocks().map(|clock| curves.first[clock] as f64 + (curves.blocks[clock].count - 1) as f64 / 2.0);
            let middle = middles.sum::<f64>() / clocks().count().max(1) as f64;
            let mean = |clock: usize| {
                let off = |place: f64| {
                    let base = self.alignment.bases[clock].saturating_add(curves.jumped(clock as u32, place));
                    base as f64 + curves.of(values, clock as u32, place) - rate * (place - middle)
                };
                curves.places(clock).map(off).sum::<f64>() / curves.blocks[clock].count as f64
            };
            let shift = median(clocks().map(mean).collect());
            for clock in clocks() {
                let Block { start, count } = curves.blocks[clock];
                for (value, place) in values[start..start + count].iter_mut().zip(curves.places(clock)) {
                    *value -= shift + rate * (place - middle);
                }
            }
        }
    }
}

/// Mean slope of a clock, breaks left out, in ns per knot of the grid.
fn slope(curves: &Curves, values: &[f64], clock: usize) -> f64 {
    let Block { start, count } = curves.blocks[clock];
    (values[start + count - 1] - values[start]) / (count - 1).max(1) as f64
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::estimate::curves::{Break, Shape};

    /// Two groups of three clocks, over ten knots each; the last clock of the first group steps in the middle.
    fn curves(values: impl Fn(usize, f64) -> f64) -> Curves {
        let step = Break { clock: 2, from: 4.5, to: 4.5, size: 8e7, least: 0.0, jump_ns: 0, shape: Shape::Whole };
        let mut curves = Curves::new(&[Some((3, 12)); 6], vec![step], 1);
        (0..6).for_each(|clock| curves.begin(clock, |place| values(clock as usize, place)));
        curves.values[60..].copy_from_slice(&[8e7, 0.25]);
        curves
    }

    fn alignment(bases: [i64; 6]) -> Alignment {
        Alignment { groups: vec![0, 0, 0, 3, 3, 3], bases: bases.to_vec(), stretches: vec![Vec::new(); 6] }
    }

    fn gauged(alignment: &Alignment, anchored: &[bool], curves: &Curves) -> Vec<f64> {
        let mut values = curves.values.clone();
        Gauge::new(alignment, anchored).apply(curves, &mut values);
        values
    }

    #[test]
    fn the_median_clock_has_neither_an_offset_nor_a_frequency_error() {
        let found = |clock: usize, place: f64| -7e6 + [1e3, 5e3, -9e3][clock % 3] + 70.0 * place;
        let values = gauged(&alignment([0; 6]), &[false; 6], &curves(found));
        // With its step of 80 ms the third clock is the furthest ahead of its group, without it the last.
        for (clock, offset) in [-4e3, 0.0, -14e3, 0.0, 4e3, -10e3].into_iter().enumerate() {
            let of_clock = &values[10 * clock..10 * clock + 10];
            assert!(of_clock.iter().all(|value| (value - offset).abs() < 1e-6), "{clock}: {of_clock:?}");
        }
        assert_eq!(values[60..], [8e7, 0.25]);
    }

    #[test]
    fn offsets_between_clocks_stay_and_a_second_time_changes_nothing() {
        let wild = curves(|clock, place| 1e5 * clock as f64 + 3.0 * (clock as f64 - 2.3) * place + (place * 1.7).sin());
        let alignment = alignment([0, 4_000_000, -90_000, 12, 0, 36_000_000_000_000]);
        let values = gauged(&alignment, &[false; 6], &wild);
        for [one, other] in [[0, 1], [0, 2], [3, 4], [3, 5]] {
            for knot in 0..10 {
                let apart = |values: &[f64]| values[10 * one + knot] - values[10 * other + knot];
                assert!((apart(&values) - apart(&wild.values)).abs() < 1e-3);
            }
        }
        let again = gauged(&alignment, &[false; 6], &Curves { values: values.clone(), ..wild });
        assert!(values.iter().zip(&again).all(|(one, other)| (one - other).abs() < 1e-3));
    }

    #[test]
    fn where_a_clock_is_held_all_stay() {
        let curves = curves(|clock, place| 1e6 + clock as f64 + place);
        let values = gauged(&alignment([0; 6]), &[false, false, false, false, true, false], &curves);
        assert_eq!(values[30..], curves.values[30..]);
        assert_ne!(values[..30], curves.values[..30]);
    }

    #[test]
    fn what_was_taken_off_the_readings_counts() {
        let alignment = alignment([500, 700, 900, -40, -60, -50]);
        let mut curves = curves(|_, _| 0.0);
        let values = gauged(&alignment, &[false; 6], &curves);
        // Of the first group the second clock is the median, as the third has the step as well.
        assert!(values[..30].iter().all(|value| (value + 700.0).abs() < 1e-9), "{values:?}");
        assert!(values[30..60].iter().all(|value| (value - 50.0).abs() < 1e-9), "{values:?}");
        // With a jump back by twice its step, that one is the last.
        curves.breaks[0].jump_ns = -160_000_000;
        let values = gauged(&alignment, &[false; 6], &curves);
        assert!(values[..30].iter().all(|value| (value + 500.0).abs() < 1e-9), "{values:?}");
    }
}
