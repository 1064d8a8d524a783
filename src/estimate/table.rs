//! A solved fit, tabulated: every clock's total offset and deviation at its knots, per segment.

use std::collections::{BTreeMap, BTreeSet};

use super::curves::Break;
use super::fit::Fit;
use super::levels::{Level, Levels};
use super::slews::{Slew, slews};
use crate::clock::{Knot, LocalTime, Onward, ReferenceTime, Segment, Step, StepKind, Treatment};

/// Of a normal distribution, 95 % lie within this many deviations.
pub(super) const OF_95: f64 = 1.96;

/// One knot: its place on the grid, the clock's total offset there, errors it may have, and its local time.
#[derive(Clone, Debug)]
pub(super) struct Point {
    pub(super) place: f64,
    pub(super) offset: f64,
    /// Drawn from their distribution, ns; a draw is one for all points of all clocks.
    pub(super) errors: Vec<f32>,
    /// It is no surer than this, ns.
    least_deviation: f64,
    local: i64,
}

impl Point {
    fn deviation(&self) -> f64 {
        let square: f64 = self.errors.iter().map(|&error| f64::from(error).powi(2)).sum();
        (square / self.errors.len().max(1) as f64).sqrt().max(self.least_deviation)
    }
}

/// The stretch between two steps.
#[derive(Clone, Debug)]
pub(super) struct Part {
    from: f64,
    pub(super) points: Vec<Point>,
}

impl Part {
    /// How large the correction is, in its own deviations.
    pub(super) fn ratio(&self) -> f64 {
        let square: f64 = self.points.iter().map(|point| point.offset * point.offset).sum();
        let variance: f64 = self.points.iter().map(|point| point.deviation().powi(2)).sum();
        if variance > 0.0 { (square / variance).sqrt() } else { 0.0 }
    }

    /// The same with every point in its own deviations: of the whole, a few knots that nothing is known of outweigh a
    /// hundred that are off for sure. (Fleet `slews`, seed 8: 30 ms, known to 0.2, left as recorded for 25 minutes.)
    pub(super) fn pointwise_ratio(&self) -> f64 {
        let known = self.points.iter().map(|point| (point.offset, point.deviation())).filter(|known| known.1 > 0.0);
        let squares: Vec<f64> = known.map(|(offset, deviation)| (offset / deviation).powi(2)).collect();
        (squares.iter().sum::<f64>() / squares.len().max(1) as f64).sqrt()
    }

    /// The same of what it changes by: asymmetric links may leave a clock's level unsure that drifts for sure.
    pub(super) fn change_ratio(&self) -> f64 {
        let around_mean = |value: &dyn Fn(&Point) -> f64| {
            let mean = self.points.iter().map(value).sum::<f64>() / self.points.len() as f64;
            self.points.iter().map(|point| (value(point) - mean).powi(2)).sum::<f64>()
        };
        let draws = self.points.first().map_or(0, |point| point.errors.len());
        let of_draw = |draw: usize| around_mean(&|point| f64::from(point.errors[draw]));
        let variance = (0..draws).map(of_draw).sum::<f64>() / draws.max(1) as f64;
        if variance > 0.0 { (around_mean(&|point| point.offset) / variance).sqrt() } else { 0.0 }
    }
}

/// Every clock's parts, in order of time; none for a clock that is held or has no readings.
#[derive(Clone, Debug)]
pub(super) struct Table {
    pub(super) clocks: Vec<Vec<Part>>,
    pub(super) steps: Vec<Vec<Step>>,
}

impl Table {
    pub(super) fn of(fit: &Fit) -> Self {
        let clocks = fit.curves.blocks.len();
        let clocks: Vec<Vec<Part>> = (0..clocks).map(|clock| parts(fit, clock)).collect();
        let steps = clocks.iter().enumerate().map(|(clock, parts)| jumps(fit, clock, parts)).collect();
        Self { clocks, steps }
    }

    /// A clock's total offset at a place, ns.
    pub(super) fn at(&self, clock: u32, place: f64) -> f64 {
        let parts = &self.clocks[clock as usize];
        let part = parts.partition_point(|part| part.from <= place).max(1) - 1;
        let Some(points) = parts.get(part).map(|part| &part.points) else { return 0.0 };
        let after = points.partition_point(|point| point.place <= place);
        match (after.checked_sub(1).and_then(|last| points.get(last)), points.get(after)) {
            (Some(last), Some(next)) => {
                let share = (place - last.place) / (next.place - last.place);
                last.offset * (1.0 - share) + next.offset * share
            }
            (Some(end), None) | (None, Some(end)) => end.offset,
            (None, None) => 0.0,
        }
    }

    /// Admits that holding some clocks at zero made the others no surer than they would be freely.
    pub(super) fn admit(&mut self, free: &Self) {
        for (clock, parts) in self.clocks.iter_mut().enumerate() {
            for point in parts.iter_mut().flat_map(|part| &mut part.points) {
                point.least_deviation = free.deviation_at(clock, point.place);
            }
        }
    }

    /// What the levels of all clocks that may move are like.
    pub(super) fn levels(&self, movable: &[bool]) -> Levels {
        let level = |(parts, movable): (&Vec<Part>, &bool)| movable.then(|| level(parts));
        let of_clock: Vec<Option<Level>> = self.clocks.iter().zip(movable).map(level).collect();
        Levels::of(of_clock)
    }

    /// Offsets as they are with clocks' levels drawn towards zero.
    pub(super) fn draw(&mut self, fit: &Fit) {
        if fit.drawn.is_empty() {
            return;
        }
        for (clock, parts) in (0..).zip(&mut self.clocks) {
            for point in parts.iter_mut().flat_map(|part| &mut part.points) {
                point.offset += fit.curves.of(&fit.drawn, clock, point.place);
            }
        }
    }

    fn deviation_at(&self, clock: usize, place: f64) -> f64 {
        self.last_before(clock as u32, place).map_or(0.0, Point::deviation)
    }

    fn last_before(&self, clock: u32, place: f64) -> Option<&Point> {
        let parts = &self.clocks[clock as usize];
        let part = parts.partition_point(|part| part.from <= place).max(1) - 1;
        let points = &parts.get(part)?.points;
        points.get(points.partition_point(|point| point.place <= place).max(1) - 1)
    }

    /// How far apart two clocks are, in deviations of that distance: it may be sure where neither clock is.
    fn apart(&self, one: (u32, f64), other: (u32, f64)) -> f64 {
        self.contradicts(one, other, |_, _| 0.0)
    }

    /// How far two clocks are from being as far apart as other `offset`s have them, in deviations of that distance.
    pub(super) fn contradicts(&self, one: (u32, f64), other: (u32, f64), offset: impl Fn(u32, f64) -> f64) -> f64 {
        let error = |point: Option<&Point>, draw: usize| {
            point.and_then(|point| point.errors.get(draw)).map_or(0.0, |&error| f64::from(error))
        };
        let points = [self.last_before(one.0, one.1), self.last_before(other.0, other.1)];
        let draws = points.iter().flatten().map(|point| point.errors.len()).max().unwrap_or(0);
        let square: f64 = (0..draws).map(|draw| (error(points[0], draw) - error(points[1], draw)).powi(2)).sum();
        let beyond = |(clock, place): (u32, f64)| self.at(clock, place) - offset(clock, place);
        let distance = (beyond(one) - beyond(other)).abs();
        if square > 0.0 { distance / (square / draws as f64).sqrt() } else { f64::INFINITY }
    }

    /// Of clocks that each seem right, some of which no two are surely apart: all may be unsure for one reason, a slow way to
    /// the reference, and yet be sure of each other. While any are apart, the one goes that is apart from the most, and of
    /// several the one that is further from right. (Fleet `const`, seed 508: a clock 213 µs off is 1.4 deviations from
    /// right and more than 5 from two that are; held, it took its neighbours along.)
    pub(super) fn agreeing(&self, clocks: &[usize], groups: &[u32], surely: f64) -> BTreeSet<usize> {
        let are_apart = |one: usize, other: usize| {
            one != other && groups[one] == groups[other] && self.apart_halfway(one, other) > surely
        };
        let from = |&one: &usize| {
            let apart = clocks.iter().filter(|&&other| are_apart(one, other)).count();
            (one, (apart, self.clocks[one].iter().map(Part::ratio).fold(0.0, f64::max)))
        };
        let mut left: BTreeMap<usize, (usize, f64)> = clocks.iter().map(from).collect();
        let further = |(_, one): &(&usize, &(usize, f64)), (_, other): &(&usize, &(usize, f64))| {
            one.0.cmp(&other.0).then(one.1.total_cmp(&other.1))
        };
        while let Some((&furthest, _)) = left.iter().filter(|(_, (apart, _))| *apart > 0).max_by(further) {
            left.remove(&furthest);
            left.iter_mut().filter(|(other, _)| are_apart(**other, furthest)).for_each(|(_, (apart, _))| *apart -= 1);
        }
        left.into_keys().collect()
    }

    /// How far apart two clocks are, halfway through the time that both are known for, in deviations of that distance.
    fn apart_halfway(&self, one: usize, other: usize) -> f64 {
        let reach = |clock: usize| {
            let (first, last) =
                (self.clocks[clock].first()?.points.first()?, self.clocks[clock].last()?.points.last()?);
            Some((first.place, last.place))
        };
        let reaches = [one, other].into_iter().filter_map(reach);
        let common = reaches.reduce(|(from, until), (first, last)| (f64::max(from, first), f64::min(until, last)));
        let (from, until) = common.unwrap_or_default();
        let place = (from + until) / 2.0;
        self.apart((one as u32, place), (other as u32, place))
    }

    /// A clock's segments; `exchanges` are places of its exchanges, sorted, each with how many there were until then.
    pub(super) fn segments(&self, clock: usize, exchanges: &[(f64, u64)]) -> Vec<Segment> {
        let parts = &self.clocks[clock];
        let reference =
            |point: &Point| ReferenceTime::from_nanos(point.local.saturating_sub(point.offset.round() as i64));
        let begins = |index: usize| {
            let first = parts.get(index).and_then(|part| part.points.first());
            if index == 0 { None } else { first.map(&reference) }
        };
        let segment = |(index, part): (usize, &Part)| Segment {
            from: begins(index).unwrap_or(ReferenceTime::from_nanos(i64::MIN)),
            until: begins(index + 1).unwrap_or(ReferenceTime::MAX),
            knots: knots(&part.points, exchanges),
            treatment: Treatment::LeftAlone,
            onward: Onward::default(),
        };
        parts.iter().enumerate().map(segment).collect()
    }
}

/// Of a clock without points, nothing.
fn level(parts: &[Part]) -> Level {
    let points = || parts.iter().flat_map(|part| &part.points);
    let count = points().count().max(1) as f64;
    let draws = points().next().map_or(0, |point| point.errors.len());
    let of_draw = |draw: usize| (points().map(|point| f64::from(point.errors[draw])).sum::<f64>() / count).powi(2);
    Level {
        offset: points().map(|point| point.offset).sum::<f64>() / count,
        variance: (0..draws).map(of_draw).sum::<f64>() / draws.max(1) as f64,
    }
}

fn knots(points: &[Point], exchanges: &[(f64, u64)]) -> Vec<Knot> {
    let middle = |left: usize| match (points.get(left), points.get(left + 1)) {
        (Some(left), Some(right)) => (left.place + right.place) / 2.0,
        _ => f64::INFINITY,
    };
    let before = |until: f64| match exchanges.partition_point(|(place, _)| *place < until) {
        0 => 0,
        behind => exchanges[behind - 1].1,
    };
    let mut seen = before(points.first().map_or(0.0, |point| point.place - 0.5));
    let mut knots: Vec<Knot> = Vec::with_capacity(points.len());
    for (index, point) in points.iter().enumerate() {
        let until = before(middle(index).min(point.place + 0.5));
        let local = LocalTime::from_nanos(point.local);
        let knot = Knot {
            local,
            offset_ns: point.offset.round() as i64,
            uncertainty_ns: (OF_95 * unsure(point.errors.len()) * point.deviation()).ceil() as i64,
            lower_ns: None,
            upper_ns: None,
            exchanges: until.saturating_sub(seen) as u32,
        };
        seen = seen.max(until);
        // Two places a few ns apart at the edge of a step are one knot.
        if knots.last().is_none_or(|last| last.local < local) {
            knots.push(knot);
        }
    }
    knots
}

/// By how much an interval must be wider for its deviation being read off so many draws: Student's distribution over the
/// normal one at 97.5 %, to first order (Fisher and Cornish).
fn unsure(draws: usize) -> f64 {
    1.0 + (OF_95 * OF_95 + 1.0) / (4.0 * draws.max(1) as f64)
}

/// A clock's steps that are larger than their own noise, each with its number.
fn steps(fit: &Fit, clock: usize) -> impl Iterator<Item = (usize, &Break)> {
    let of_clock = fit.curves.of_clock[clock].iter().map(|&index| (index, &fit.curves.breaks[index]));
    of_clock.filter(move |&(index, found)| {
        let size = fit.curves.values[fit.curves.knots() + index];
        found.from == found.to && (found.jump_ns != 0 || size.abs() > 3.0 * deviation(fit, index))
    })
}

/// How unsure the size of a step is, ns.
fn deviation(fit: &Fit, index: usize) -> f64 {
    let of = |errors: &Vec<f64>| errors[fit.curves.knots() + index].powi(2);
    (fit.errors.iter().map(of).sum::<f64>() / fit.errors.len().max(1) as f64).sqrt()
}

/// Steps and slews, in order of time.
fn jumps(fit: &Fit, clock: usize, parts: &[Part]) -> Vec<Step> {
    let jump = |kind, from: f64, to: f64, size: f64, deviation: f64| Step {
        kind,
        at: ReferenceTime::from_nanos(fit.grid.time(from)),
        duration_ns: ((to - from) * fit.grid.spacing_ns).round() as i64,
        size_ns: size.round() as i64,
        uncertainty_ns: (OF_95 * deviation).ceil() as i64,
        spans_straddling: 0,
    };
    let step = |(index, found): (usize, &Break)| {
        let size = fit.curves.values[fit.curves.knots() + index] + found.jump_ns as f64;
        jump(StepKind::Step, found.from, found.from, size, deviation(fit, index))
    };
    let slew = |slew: Slew| jump(StepKind::Slew, slew.from, slew.to, slew.size, slew.deviation);
    let mut jumps: Vec<Step> = steps(fit, clock).map(step).collect();
    jumps.extend(slews(parts, fit.grid.spacing_ns).into_iter().map(slew));
    jumps.sort_unstable_by_key(|jump| jump.at);
    jumps
}

fn parts(fit: &Fit, clock: usize) -> Vec<Part> {
    let Some((low, high)) = fit.ranges[clock] else { return Vec::new() };
    let edges: Vec<f64> = steps(fit, clock).map(|(_, step)| step.from).collect();
    let of_clock = fit.curves.of_clock[clock].iter().map(|&index| &fit.curves.breaks[index]);
    let ramps = of_clock.filter(|found| found.from < found.to).flat_map(|ramp| [ramp.from, ramp.to]);
    let mut places: Vec<f64> = (low.ceil() as usize..=high.floor() as usize).map(|knot| knot as f64).collect();
    // No knot stands outside what the clock's readings and spans reach over.
    places.extend([low, high].into_iter().chain(ramps.filter(|place| (low..high).contains(place))));
    places.sort_unstable_by(f64::total_cmp);
    places.dedup();
    let point = |place: f64| {
        let error = |values: &Vec<f64>| fit.curves.of(values, clock as u32, place) as f32;
        let base = fit.alignment.bases[clock].saturating_add(fit.curves.jumped(clock as u32, place));
        let offset = base as f64 + fit.curves.at(clock as u32, place);
        let local = fit.grid.time(place).saturating_add(offset.round() as i64);
        Point { place, offset, errors: fit.errors.iter().map(error).collect(), least_deviation: 0.0, local }
    };
    let mut parts = Vec::new();
    for index in 0..=edges.len() {
        let from = if index == 0 { f64::NEG_INFINITY } else { edges[index - 1] };
        let until = edges.get(index).copied().unwrap_or(f64::INFINITY);
        let mut inside: Vec<f64> = places.iter().copied().filter(|place| *place > from && *place < until).collect();
        if index > 0 {
            inside.insert(0, from);
        }
        if until.is_finite() {
            // Just before the step: the last instant that the old offset held.
            inside.push(until - 1e-9);
        }
        parts.push(Part { from, points: inside.into_iter().map(point).collect() });
    }
    parts.retain(|part| !part.points.is_empty());
    parts
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Draws in which all points share one error of ± `level` and differ by ± `shape`.
    fn part(offsets: &[f64], level: f32, shape: f32) -> Part {
        let point = |(index, &offset): (usize, &f64)| {
            let errors = (0..4).map(|draw: usize| {
                let sign = |positive: bool| if positive { 1.0 } else { -1.0 };
                sign(draw.is_multiple_of(2)) * level + sign((draw / 2 + index).is_multiple_of(2)) * shape
            });
            Point { place: index as f64, offset, errors: errors.collect(), least_deviation: 0.0, local: 0 }
        };
        Part { from: 0.0, points: offsets.iter().enumerate().map(point).collect() }
    }

    #[test]
    fn a_drift_is_sure_where_the_level_is_not() {
        let drifts = part(&[-30.0, -10.0, 10.0, 30.0], 100.0, 2.0);
        assert!(drifts.ratio() < 0.5 && drifts.change_ratio() > 5.0, "{} {}", drifts.ratio(), drifts.change_ratio());
        let level = part(&[30.0, 30.0, 30.0, 30.0], 100.0, 2.0);
        assert!(level.change_ratio() < 0.1, "{}", level.change_ratio());
    }

    #[test]
    fn what_is_unsure_for_a_moment_is_as_surely_off_at_all_others() {
        let mut off = part(&[3e6; 100], 1e5, 0.0);
        off.points[50].errors.iter_mut().for_each(|error| *error *= 1e4);
        assert!((29.0..=30.0).contains(&off.pointwise_ratio()), "{}", off.pointwise_ratio());
        assert!(off.ratio() < 1.0);
    }

    #[test]
    fn beside_held_clocks_none_is_surer_than_freely() {
        let table = |levels: [Option<f32>; 3]| Table {
            clocks: levels
                .iter()
                .map(|level| level.map(|level| part(&[1.0; 3], level, 0.0)).into_iter().collect())
                .collect(),
            steps: vec![Vec::new(); 3],
        };
        let mut held = table([Some(50.0), Some(150.0), Some(70.0)]);
        held.admit(&table([Some(100.0), Some(100.0), None]));
        let deviations: Vec<f64> = held.clocks.iter().map(|parts| parts[0].points[1].deviation()).collect();
        assert_eq!(deviations, [100.0, 150.0, 70.0]);
    }

    #[test]
    fn of_clocks_that_share_an_error_those_agree_that_no_two_are_apart() {
        // All are unsure by 100; from one another, by 2 or less. The first is the reference, and in the way of nobody.
        let clocks = [
            vec![],
            vec![part(&[120.0; 3], 100.0, 2.0)],
            vec![part(&[1.0; 3], 100.0, 2.0)],
            vec![part(&[-1.0; 3], 100.0, -2.0)],
            vec![part(&[118.0; 3], 100.0, -2.0)],
        ];
        let table = Table { clocks: clocks.to_vec(), steps: vec![Vec::new(); 5] };
        let agreeing =
            |clocks: &[usize], groups: &[u32]| table.agreeing(clocks, groups, 2.5).into_iter().collect::<Vec<_>>();
        assert_eq!(agreeing(&[0, 1, 2, 3], &[0; 5]), [0, 2, 3]);
        // Of two and two, and of one and one, those nearer to right.
        assert_eq!(agreeing(&[0, 1, 2, 3, 4], &[0; 5]), [0, 2, 3]);
        assert_eq!(agreeing(&[0, 1, 2], &[0; 5]), [0, 2]);
        // Those of another group say nothing.
        assert_eq!(agreeing(&[0, 1, 2, 3], &[0, 0, 1, 2, 0]), [0, 1, 2, 3]);
    }
}
