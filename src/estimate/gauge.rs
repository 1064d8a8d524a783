//! What all clocks of a group do together, which no call between them can show.
//!
//! Where a clock of the group is held, that says what all others are measured from. In every other group the median clock
//! does: the medians over its clocks of the usual offset and of the mean frequency error are zero, steps counting once
//! (ESTIMATOR.md, fact 11; there the mean offset, which of a clock that was hours off for a minute is minutes). Where an
//! earlier estimate is known, these are of what changed since then: the least change over the clocks (frame.rs).

use super::align::Alignment;
use super::curves::Curves;
use super::fit::Grid;
use super::frame::Frame;
use super::solve::Block;

/// The groups in which no clock is held.
pub(super) struct Gauge<'a> {
    alignment: &'a Alignment,
    /// Per group, its clocks.
    groups: Vec<Vec<usize>>,
    /// Who counts for the medians, and from where.
    frame: &'a Frame,
    grid: &'a Grid,
}

/// What a group is measured from.
struct Standard {
    /// The clock, or the two clocks, whose mean frequency error is zero.
    steady: Vec<usize>,
    /// The clock whose usual offset is zero, and the places where it has it.
    clock: usize,
    places: Vec<f64>,
    /// Where a rate that is taken off changes no offset.
    middle: f64,
}

impl<'a> Gauge<'a> {
    pub(super) fn new(alignment: &'a Alignment, anchored: &[bool], (frame, grid): (&'a Frame, &'a Grid)) -> Self {
        let mut groups = vec![Vec::new(); anchored.len()];
        alignment.groups.iter().enumerate().for_each(|(clock, &group)| groups[group as usize].push(clock));
        groups.retain(|clocks| clocks.len() > 1 && !clocks.iter().any(|&clock| anchored[clock]));
        Self { alignment, groups, frame, grid }
    }

    /// Takes off the curves' values what each group does together.
    pub(super) fn apply(&self, curves: &mut Curves) {
        let mut values = curves.values.clone();
        for group in &self.groups {
            if let Some(standard) = self.standard(curves, group) {
                let base = |place: f64| self.base(curves, standard.clock, place);
                standard.take_off(curves, group, (base, |clock| self.known_slope(clock)), &mut values);
            }
        }
        curves.values = values;
    }

    /// Takes off a change of the values what each group does together by it: the same clocks stay the standard. If the
    /// median were taken anew, all clocks would seem unsure by what lies between two that might be it.
    pub(super) fn apply_to_change(&self, curves: &Curves, change: &mut [f64]) {
        for group in &self.groups {
            if let Some(standard) = self.standard(curves, group) {
                standard.take_off(curves, group, (|_| 0.0, |_| 0.0), change);
            }
        }
    }

    /// The clock whose usual offset is zero, of each group.
    pub(super) fn medians(&self, curves: &Curves) -> Vec<usize> {
        self.groups.iter().filter_map(|group| Some(self.standard(curves, group)?.clock)).collect()
    }

    /// What is taken off a clock's readings at a place beyond what is known of it, ns.
    fn base(&self, curves: &Curves, clock: usize, place: f64) -> f64 {
        let known = self.frame.known[clock].at(self.grid.time(place));
        self.alignment.bases[clock].saturating_add(curves.jumped(clock as u32, place)) as f64 - known
    }

    /// The slope that is known of a clock, in ns per knot of the grid.
    fn known_slope(&self, clock: usize) -> f64 {
        self.frame.known[clock].rate_ppb as f64 * 1e-9 * self.grid.spacing_ns
    }

    /// `None` where no clock of the group has a curve.
    fn standard(&self, curves: &Curves, group: &[usize]) -> Option<Standard> {
        let clocks = || of_curves(curves, group);
        let is_any = clocks().any(|clock| self.frame.votes[clock]);
        let voters = || clocks().filter(|&clock| self.frame.votes[clock] || !is_any);
        let changed = |clock: usize| slope(curves, &curves.values, clock) - self.known_slope(clock);
        let slopes = sorted(voters().map(|clock| (changed(clock), clock)));
        let steady = slopes.get(slopes.len().saturating_sub(1) / 2..=slopes.len() / 2)?;
        let rate = mean(steady.iter().map(|(slope, _)| *slope));
        let middle = mean(clocks().map(|clock| mean(curves.places(clock))));
        let usual_places = |clock: usize| {
            let off =
                |place: f64| self.base(curves, clock, place) + curves.at(clock as u32, place) - rate * (place - middle);
            usual(sorted(curves.places(clock).map(|place| (off(place), place))))
        };
        let offsets = sorted(voters().map(|clock| (mean(usual_places(clock).iter().map(|one| one.0)), clock)));
        let (_, clock) = middle_one(&offsets)?;
        let places = usual_places(clock).iter().map(|one| one.1).collect();
        Some(Standard { steady: steady.iter().map(|(_, clock)| *clock).collect(), clock, places, middle })
    }
}

impl Standard {
    /// Takes off what the clocks that are the standard do; `base` is what else they are off, and `known` their slopes that are
    /// no change.
    fn take_off(
        &self,
        curves: &Curves,
        group: &[usize],
        (base, known): (impl Fn(f64) -> f64, impl Fn(usize) -> f64),
        values: &mut [f64],
    ) {
        let rate = mean(self.steady.iter().map(|&clock| slope(curves, values, clock) - known(clock)));
        let together = |place: f64| rate * (place - self.middle);
        let shift = mean(
            self.places
                .iter()
                .map(|&place| base(place) + curves.of(values, self.clock as u32, place) - together(place)),
        );
        for clock in of_curves(curves, group) {
            let Block { start, count } = curves.blocks[clock];
            for (value, place) in values[start..start + count].iter_mut().zip(curves.places(clock)) {
                *value -= shift + together(place);
            }
        }
    }
}

fn of_curves<'a>(curves: &'a Curves, group: &'a [usize]) -> impl Iterator<Item = usize> + 'a {
    group.iter().copied().filter(|&clock| curves.blocks[clock].count > 0)
}

/// Mean slope of a clock, breaks left out, in ns per knot of the grid.
fn slope(curves: &Curves, values: &[f64], clock: usize) -> f64 {
    let Block { start, count } = curves.blocks[clock];
    (values[start + count - 1] - values[start]) / (count - 1).max(1) as f64
}

fn mean(values: impl Iterator<Item = f64>) -> f64 {
    let (sum, count) = values.fold((0.0, 0), |(sum, count), value| (sum + value, count + 1));
    sum / count.max(1) as f64
}

fn sorted<T>(values: impl Iterator<Item = (f64, T)>) -> Vec<(f64, T)> {
    let mut values: Vec<_> = values.collect();
    values.sort_by(|one, other| one.0.total_cmp(&other.0));
    values
}

/// Of sorted offsets the half that is nearest to their median: no step counts that a clock made in less than half of the time.
fn usual(mut offsets: Vec<(f64, f64)>) -> Vec<(f64, f64)> {
    if let Some(&(median, _)) = offsets.get(offsets.len().saturating_sub(1) / 2) {
        offsets.sort_by(|one, other| (one.0 - median).abs().total_cmp(&(other.0 - median).abs()));
    }
    offsets.truncate(offsets.len().div_ceil(2));
    offsets
}

/// The median, and of two in the middle the one that has the nearer neighbour: halfway between two clocks, of which one is
/// hours off, both would be wrong.
fn middle_one(offsets: &[(f64, usize)]) -> Option<(f64, usize)> {
    let low = offsets.len().saturating_sub(1) / 2;
    let gap = |from: usize| offsets.get(from..from + 2).map_or(f64::INFINITY, |pair| pair[1].0 - pair[0].0);
    let is_high = offsets.len().is_multiple_of(2) && low > 0 && gap(low + 1) < gap(low - 1);
    offsets.get(low + usize::from(is_high)).copied()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::ReferenceTime;
    use crate::estimate::Course;
    use crate::estimate::curves::{Break, Shape};

    /// Two groups of three clocks, over ten knots each; the last clock of the first group steps in the middle.
    fn curves(values: impl Fn(usize, f64) -> f64) -> Curves {
        let step = Break { clock: 2, from: 4.5, to: 4.5, size: 8e7, least: 0.0, jump_ns: 0, shape: Shape::Whole };
        let mut curves = Curves::new(&[Some((3, 12)); 6], vec![step], 1);
        (0..60).for_each(|knot| curves.values[knot] = values(knot / 10, 3.0 + (knot % 10) as f64));
        curves.values[60..].copy_from_slice(&[8e7, 0.25]);
        curves
    }

    fn alignment(bases: [i64; 6]) -> Alignment {
        Alignment { groups: vec![0, 0, 0, 3, 3, 3], bases: bases.to_vec(), stretches: vec![Vec::new(); 6] }
    }

    const GRID: Grid = Grid { epoch: 0, spacing_ns: 5e9, reach: 1e3 };

    /// Clocks by whether they vote, of which nothing is known.
    fn frame(votes: [bool; 6]) -> Frame {
        Frame { fixed: vec![false; 6], votes: votes.to_vec(), known: vec![Course::default(); 6] }
    }

    fn gauged(alignment: &Alignment, anchored: &[bool], curves: &Curves) -> Vec<f64> {
        let mut curves = curves.clone();
        Gauge::new(alignment, anchored, (&frame([true; 6]), &GRID)).apply(&mut curves);
        curves.values
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
    fn the_median_is_of_those_that_vote() {
        let alignment = alignment([0; 6]);
        let off = curves(|clock, _| [0.0, 9e6, 1e3, 0.0, 0.0, 0.0][clock]);
        // Of all three the median is the second, which is 9 ms ahead.
        let frame = frame([true, false, false, true, true, true]);
        let gauge = Gauge::new(&alignment, &[false; 6], (&frame, &GRID));
        assert_eq!(gauge.medians(&off)[0], 0);
        let mut gauged = off.clone();
        gauge.apply(&mut gauged);
        assert!(gauged.values[..10].iter().all(|value| value.abs() < 1e-6), "{:?}", gauged.values);
    }

    /// The clocks of a group change by 1, 4 and 9 ms, and their rates by 0, 5 and 90 ns per knot: the second is the median.
    #[test]
    fn what_is_known_of_clocks_changes_least() {
        let mut frame = frame([true; 6]);
        let before = |clock: usize, place: f64| [1e9, -5e6, 2e6][clock] + [-400.0, 3e3, 0.0][clock] * place;
        for clock in 0..3 {
            let rate_ppb = [-80, 600, 0][clock];
            let from = ReferenceTime::from_nanos(35_000_000_000);
            frame.known[clock] = Course { from, offset_ns: before(clock, 7.0) as i64, rate_ppb };
        }
        let changes = |clock: usize, place: f64| [1e6, 4e6, 9e6][clock] + [0.0, 5.0, 90.0][clock] * (place - 7.5);
        let alignment = alignment([1_000_000_000, 0, 0, 0, 0, 0]);
        // The step of the third is no change of what was known; it is left out here.
        let found = |clock: usize, place: f64| match clock {
            0..3 => 77e6 + before(clock, place) + changes(clock, place) - alignment.bases[clock] as f64,
            _ => 0.0,
        };
        let mut off = curves(found);
        off.values[60] = 0.0;
        Gauge::new(&alignment, &[false; 6], (&frame, &GRID)).apply(&mut off);
        for clock in 0..3 {
            for (knot, place) in (0..10).zip(3..) {
                let place = f64::from(place);
                let expected =
                    before(clock, place) + changes(clock, place) - changes(1, place) - alignment.bases[clock] as f64;
                assert!((off.values[10 * clock + knot] - expected).abs() < 1e-3, "{clock} at {place}");
            }
        }
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
    fn hours_that_clocks_were_off_for_a_while_shift_none_that_is_right() {
        // Of the first three, one was an hour behind at two of ten knots, one an hour ahead at three.
        let found = |clock: usize, place: f64| match (clock, place as i64) {
            (0, 5..=6) => -3.6e12,
            (1, 7..=9) => 3.6e12,
            _ => 0.0,
        };
        let gauge = |curves: &Curves, groups| {
            let alignment = Alignment { groups, ..alignment([0; 6]) };
            let mut curves = curves.clone();
            Gauge::new(&alignment, &[false; 6], (&frame([true; 6]), &GRID)).apply(&mut curves);
            curves.values
        };
        let values = gauge(&curves(found), vec![0, 0, 0, 3, 3, 3]);
        assert!(values[..10].iter().filter(|value| value.abs() < 1e-3).count() == 8, "{values:?}");
        // Of four, two agree, and two are hours off, ahead or behind: nobody is halfway.
        for (hour, right) in [(3.6e12, 1), (-3.6e12, 0)] {
            let off = curves(|clock, _| [0.0, 1e3, hour, 2.0 * hour, 0.0, 0.0][clock]);
            let values = gauge(&off, vec![0, 0, 0, 0, 4, 4]);
            assert!(values[10 * right..][..10].iter().all(|value| value.abs() < 1e-3), "{hour}: {values:?}");
        }
    }

    #[test]
    fn a_change_is_measured_from_the_same_clock() {
        let curves = curves(|clock, _| [0.0, 1e6, 2e6][clock % 3]);
        let mut change: Vec<f64> = (0..62).map(|index| if index < 10 { 5e6 } else { 0.0 }).collect();
        let alignment = alignment([0; 6]);
        // By it the first clock becomes the last, and the second stays the standard.
        Gauge::new(&alignment, &[false; 6], (&frame([true; 6]), &GRID)).apply_to_change(&curves, &mut change);
        assert!(change[..10].iter().all(|change| (change - 5e6).abs() < 1e-3), "{change:?}");
        assert!(change[10..60].iter().all(|change| change.abs() < 1e-3), "{change:?}");
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
