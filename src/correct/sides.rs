//! Which side of a step a reading is on, where its time alone does not say.
//!
//! A clock that steps back reads the same times twice, and a step is known to a fraction of a second only. In come all
//! spans with their parents, out goes a segment for each start and end: the one in which the span fits best into its
//! parent and around its children. Without a step there is nothing to choose.

use std::collections::BTreeMap;
use std::ops::{Add, RangeInclusive, Sub};

use super::{EndHabit, Recorded};
use crate::clock::{ClockId, ClockMap, ClockModel, Knot, LocalTime, Segment};

/// The segments of a span's start and end.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sides {
    pub start: usize,
    pub end: usize,
    /// Another choice fits as well; the offset may be off by as much, ns.
    pub doubt_ns: i64,
}

/// Both sides of a step are weighed for readings this near to it.
const NEAR_STEP_NS: i64 = 500_000_000;

/// Fits that differ by less than this are alike: spans stick out of each other by a millisecond for other reasons.
pub(super) const ALIKE_NS: i64 = 1_000_000;

/// Nothing sticks out by more than this, so that sums stay exact.
const MOST_NS: i64 = 1 << 60;

/// What speaks against a choice; the first of them that differs decides.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
struct Cost {
    /// By how much spans stick out of their parents and end before they start, in units of [`ALIKE_NS`].
    misfit: i128,
    /// By how much spans are longer than they may be, ns: by its children alone, one may have begun any time before them.
    longer: i128,
    /// How far their times are from all that tells a clock, ns: it may have been there, but was not seen.
    unseen: i128,
    /// Options stand in order of likelihood.
    rank: i128,
}

impl Cost {
    fn of_misfit(ns: i64) -> Self {
        Self { misfit: i128::from(ns.min(MOST_NS) / ALIKE_NS), ..Self::default() }
    }

    /// As far as it is told at all.
    fn told(self) -> (i128, i128) {
        (self.misfit, self.longer)
    }
}

impl Add for Cost {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self {
            misfit: self.misfit + other.misfit,
            longer: self.longer + other.longer,
            unseen: self.unseen + other.unseen,
            rank: self.rank + other.rank,
        }
    }
}

impl Sub for Cost {
    type Output = Self;

    fn sub(self, other: Self) -> Self {
        Self {
            misfit: self.misfit - other.misfit,
            longer: self.longer - other.longer,
            unseen: self.unseen - other.unseen,
            rank: self.rank - other.rank,
        }
    }
}

/// Start and end by the reference, ns.
type Times = (i64, i64);

/// A span that may be on several sides.
#[derive(Default)]
struct Open {
    options: Vec<Sides>,
    times: Vec<Times>,
    /// Per option, what is against it by itself and by all of its family that has no choice.
    alone: Vec<Cost>,
    /// Its parent, where that has a choice as well.
    parent: Option<usize>,
    /// Per option, the least that is against it and all below it.
    below: Vec<Cost>,
    /// Per option of the parent, the least against this and all below, and the option with which it is.
    given: Vec<(Cost, usize)>,
    /// Per option, the least against all that is not below it.
    above: Vec<Cost>,
}

/// The sides of all spans: of all choices in a trace those together that fit best. `parents` gives each span's parent in
/// the dump. What is found of a span's children, option by option, is handed to its parent, and back down again
/// (the min-sum algorithm; exact, as families are trees).
pub fn sides(spans: &[Recorded], clocks: &[ClockId], parents: &[Option<u32>], map: &ClockMap) -> Vec<Sides> {
    let mut chosen = vec![Sides::default(); spans.len()];
    let mut indices: Vec<usize> = Vec::new();
    let mut open: Vec<Open> = Vec::new();
    let reaches = reaches(map);
    for (index, (span, clock)) in spans.iter().zip(clocks).enumerate() {
        let model = map.model(*clock);
        if model.segments.len() > 1 {
            let options = options(*span, model, &reaches[&model.group]);
            chosen[index] = options[0];
            if options.len() > 1 {
                let times: Vec<Times> = options.iter().map(|sides| times(*span, model, *sides)).collect();
                let alone = alone(*span, model, &options, &times);
                indices.push(index);
                open.push(Open { options, times, alone, ..Open::default() });
            }
        }
    }
    if open.is_empty() {
        return chosen;
    }
    let known = |index: usize| times(spans[index], map.model(clocks[index]), chosen[index]);
    // Only where the two can be compared.
    let group = |index: usize| map.model(clocks[index]).group;
    let tells = |child: usize, parent: usize| {
        group(child) == group(parent) && ![child, parent].iter().any(|&index| spans[index].start.is_broken())
    };
    let families = parents.iter().enumerate().filter_map(|(child, parent)| Some((child, (*parent)? as usize)));
    for (child, parent) in families.filter(|&(child, parent)| tells(child, parent)) {
        match (indices.binary_search(&child), indices.binary_search(&parent)) {
            (Ok(child), Ok(parent)) => open[child].parent = Some(parent),
            (Ok(child), Err(_)) => open[child].beside(|own| out(own, known(parent))),
            (Err(_), Ok(parent)) => open[parent].beside(|own| out(known(child), own)),
            (Err(_), Err(_)) => {}
        }
    }
    let order = children_first(&mut open);
    gather(&mut open, &order);
    for (place, sides) in tell(&mut open, &order) {
        chosen[indices[place]] = sides;
    }
    chosen
}

impl Open {
    /// Counts how far it sticks out of another span or that out of it.
    fn beside(&mut self, misfit: impl Fn(Times) -> i64) {
        for (cost, times) in self.alone.iter_mut().zip(&self.times) {
            *cost = *cost + Cost::of_misfit(misfit(*times));
        }
    }
}

/// Where a span's start and end are if they are on these sides.
fn times(span: Recorded, model: &ClockModel, sides: Sides) -> Times {
    let offset = |segment: usize, at| model.segments.get(segment).map_or(0, |segment| segment.offset_at(at));
    let start = offset(sides.start, span.start);
    let end = if span.ends == EndHabit::Wall { offset(sides.end, span.end) } else { start };
    (span.start.plus(-start).nanos(), span.end.plus(-end).nanos())
}

/// What is against each option by itself.
fn alone(span: Recorded, model: &ClockModel, options: &[Sides], times: &[Times]) -> Vec<Cost> {
    let length = |times: &Times| times.1.saturating_sub(times.0).max(0);
    let shortest = times.iter().map(length).min().unwrap_or(0);
    let cost = |(rank, (sides, times)): (i128, (&Sides, &Times))| {
        let longer = length(times).saturating_sub(shortest).saturating_sub(NEAR_STEP_NS).max(0);
        let unseen = |segment: usize, at| unseen(&model.segments[segment], at);
        let unseen = unseen(sides.start, span.start).max(unseen(sides.end, span.end));
        let backwards = times.0.saturating_sub(times.1).clamp(0, MOST_NS / 4);
        Cost { longer: longer.into(), unseen: unseen.into(), rank, ..Cost::of_misfit(4 * backwards) }
    };
    (0..).zip(options.iter().zip(times)).map(cost).collect()
}

/// The open spans, children before parents. One of a cycle forgets its parent.
fn children_first(open: &mut [Open]) -> Vec<usize> {
    let mut children = vec![0usize; open.len()];
    open.iter().filter_map(|span| span.parent).for_each(|parent| children[parent] += 1);
    let mut order: Vec<usize> = (0..open.len()).filter(|&place| children[place] == 0).collect();
    let mut done = 0;
    while let Some(&place) = order.get(done) {
        done += 1;
        if let Some(parent) = open[place].parent {
            children[parent] -= 1;
            if children[parent] == 0 {
                order.push(parent);
            }
        }
    }
    let cyclic: Vec<usize> = (0..open.len()).filter(|&place| children[place] > 0).collect();
    cyclic.iter().for_each(|&place| open[place].parent = None);
    order.extend(cyclic);
    order
}

/// What is against each option of a span and all below it.
fn gather(open: &mut [Open], order: &[usize]) {
    open.iter_mut().for_each(|span| span.below = span.alone.clone());
    for &place in order {
        let Some(parent) = open[place].parent else { continue };
        let (own, outer) = (&open[place], &open[parent]);
        let best = |outer: &Times| {
            let with = |(own_times, below): (&Times, &Cost)| *below + Cost::of_misfit(out(*own_times, *outer));
            let costs = own.times.iter().zip(&own.below).map(with).zip(0..);
            costs.min().unwrap_or_default()
        };
        let given: Vec<(Cost, usize)> = outer.times.iter().map(best).collect();
        open[parent].below.iter_mut().zip(&given).for_each(|(below, given)| *below = *below + given.0);
        open[place].given = given;
    }
}

/// The options that fit best together, and how far others are away that fit as well.
fn tell(open: &mut [Open], order: &[usize]) -> Vec<(usize, Sides)> {
    let mut picked = vec![0usize; open.len()];
    let mut told = Vec::with_capacity(open.len());
    for &place in order.iter().rev() {
        let own = &open[place];
        let (pick, above) = match own.parent {
            None => {
                let best = own.below.iter().zip(0..).min().map_or(0, |(_, index)| index);
                (best, vec![Cost::default(); own.options.len()])
            }
            Some(parent) => {
                let outer = &open[parent];
                let others = |index: usize| outer.below[index] - own.given[index].0 + outer.above[index];
                let with = |own_times: &Times| {
                    let costs = outer
                        .times
                        .iter()
                        .zip(0..)
                        .map(|(outer_times, index)| others(index) + Cost::of_misfit(out(*own_times, *outer_times)));
                    costs.min().unwrap_or_default()
                };
                (own.given[picked[parent]].1, own.times.iter().map(with).collect())
            }
        };
        let against = |index: usize| (own.below[index] + above[index]).told();
        let away = |index: usize| own.times[index].0.saturating_sub(own.times[pick].0).saturating_abs();
        let alike = (0..own.options.len()).filter(|&index| against(index) <= against(pick));
        let doubt_ns = alike.map(away).max().unwrap_or(0);
        told.push((place, Sides { doubt_ns, ..own.options[pick] }));
        picked[place] = pick;
        open[place].above = above;
    }
    told
}

/// First and last reference time that the models of each group's clocks reach over, and a tenth of that to be safe.
fn reaches(map: &ClockMap) -> BTreeMap<u32, RangeInclusive<i64>> {
    let mut reaches = BTreeMap::new();
    for model in &map.models {
        let time = |knot: &Knot| knot.local.nanos().saturating_sub(knot.offset_ns);
        let knots = || model.segments.iter().flat_map(|segment| &segment.knots);
        if let (Some(first), Some(last)) = (knots().map(time).min(), knots().map(time).max()) {
            let reach = reaches.entry(model.group).or_insert(first..=last);
            *reach = first.min(*reach.start())..=last.max(*reach.end());
        }
    }
    for reach in reaches.values_mut() {
        let beyond = reach.end().saturating_sub(*reach.start()) / 10 + NEAR_STEP_NS;
        *reach = reach.start().saturating_sub(beyond)..=reach.end().saturating_add(beyond);
    }
    reaches
}

/// The likeliest sides first; more than one only near a step, or in a stretch that a step repeats.
fn options(span: Recorded, model: &ClockModel, reach: &RangeInclusive<i64>) -> Vec<Sides> {
    let near = |at: LocalTime| -> Vec<usize> {
        let likeliest = model.segment_at(at).unwrap_or(0);
        let time = |index: usize| at.nanos().saturating_sub(model.segments[index].offset_at(at));
        let mut near = vec![likeliest];
        near.extend((0..model.segments.len()).filter(|&index| {
            let segment = &model.segments[index];
            index != likeliest
                && time(index) >= segment.from.nanos().saturating_sub(NEAR_STEP_NS)
                && time(index) < segment.until.nanos().saturating_add(NEAR_STEP_NS)
        }));
        // A clock that is set back reads times of long before anything was recorded.
        let recorded = |&index: &usize| reach.contains(&time(index));
        if near.iter().any(recorded) {
            near.retain(recorded);
        } else if let Some(nearest) = (0..model.segments.len()).filter(recorded).min_by_key(|&index| {
            let segment = &model.segments[index];
            segment.from.nanos().saturating_sub(time(index)).max(time(index).saturating_sub(segment.until.nanos()))
        }) {
            // Where calls are rare, when it was set back is known no better.
            near = vec![nearest];
        }
        near
    };
    let starts = near(span.start);
    if span.ends != EndHabit::Wall {
        return starts.into_iter().map(|start| Sides { start, end: start, doubt_ns: 0 }).collect();
    }
    let ends = near(span.end);
    let mut options: Vec<Sides> = starts
        .iter()
        .flat_map(|&start| ends.iter().map(move |&end| Sides { start, end, doubt_ns: 0 }))
        .filter(|sides| sides.start <= sides.end)
        .collect();
    if options.is_empty() {
        // It ends before it begins even so: a step lies between, and its end is on the later side.
        options.push(Sides { start: starts[0].min(ends[0]), end: starts[0].max(ends[0]), doubt_ns: 0 });
    }
    options
}

/// How long before or after all that tells a segment's offset a local time is, ns; next to it counts as within.
fn unseen(segment: &Segment, at: LocalTime) -> i64 {
    let before = segment.knots.first().map_or(0, |first| first.local.nanos().saturating_sub(at.nanos()));
    let after = segment.knots.last().map_or(0, |last| at.nanos().saturating_sub(last.local.nanos()));
    before.max(after).saturating_sub(NEAR_STEP_NS).max(0)
}

/// How far a span sticks out of its parent, ns: none begins before that, but some end later that nobody waits for.
fn out(inner: Times, outer: Times) -> i64 {
    let before = outer.0.saturating_sub(inner.0).max(0).saturating_mul(4);
    before.saturating_add(inner.1.saturating_sub(outer.1).max(0))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::{ClockState, Onward, ReferenceTime, Treatment};

    const SECOND: i64 = 1_000_000_000;

    /// Seen from the first to the last of `seen` by the reference, set back at 100 s to that `offset_s`.
    fn set_back(seen: RangeInclusive<i64>, offset_s: i64) -> ClockModel {
        let step = 100;
        let at = |time: i64| ReferenceTime::from_nanos(time * SECOND);
        let segment = |from, until, first: i64, last: i64, offset_s: i64| {
            let knot = |time: i64| Knot {
                local: LocalTime::from_nanos((time + offset_s) * SECOND),
                offset_ns: offset_s * SECOND,
                uncertainty_ns: 0,
                lower_ns: None,
                upper_ns: None,
                exchanges: 0,
            };
            Segment {
                from,
                until,
                knots: vec![knot(first), knot(last)],
                treatment: Treatment::Moved,
                onward: Onward::default(),
            }
        };
        let segments = vec![
            segment(ReferenceTime::from_nanos(i64::MIN), at(step), *seen.start(), step, 0),
            segment(at(step), ReferenceTime::MAX, step, *seen.end(), offset_s),
        ];
        model(ClockState::Corrected, segments)
    }

    fn model(state: ClockState, segments: Vec<Segment>) -> ClockModel {
        ClockModel { state, group: 0, segments, steps: vec![], bounds: vec![], exchanges: 0, neighbours: 0 }
    }

    /// From and to a local time, in seconds.
    fn span(start: f64, end: f64) -> Recorded {
        let at = |seconds: f64| LocalTime::from_nanos(1_000_000 * SECOND + (seconds * 1e9) as i64);
        Recorded { start: at(start), end: at(end), ends: EndHabit::Wall }
    }

    /// Spans, each with its clock's number and its parent's place.
    fn found(models: Vec<ClockModel>, spans: &[(Recorded, u32, Option<u32>)]) -> Vec<Sides> {
        let (recorded, clocks): (Vec<Recorded>, Vec<ClockId>) =
            spans.iter().map(|&(span, clock, _)| (span, ClockId(clock))).unzip();
        let parents: Vec<Option<u32>> = spans.iter().map(|(.., parent)| *parent).collect();
        // All of it a million seconds later, as times near 1970 are broken.
        let mut map = ClockMap { models, reference: None };
        let later = 1_000_000 * SECOND;
        for segment in map.models.iter_mut().flat_map(|model| &mut model.segments) {
            segment.from = ReferenceTime::from_nanos(segment.from.nanos().saturating_add(later));
            segment.until = ReferenceTime::from_nanos(segment.until.nanos().saturating_add(later));
            segment.knots.iter_mut().for_each(|knot| knot.local = knot.local.plus(later));
        }
        sides(&recorded, &clocks, &parents, &map)
    }

    const fn on(side: usize, doubt_s: i64) -> Sides {
        Sides { start: side, end: side, doubt_ns: doubt_s * SECOND }
    }

    fn steady() -> ClockModel {
        model(ClockState::Reference, Vec::new())
    }

    #[test]
    fn what_a_span_began_in_is_not_told_by_its_children_alone() {
        // Seen for so long that either side is as likely. A span of one that is not in the dump, with a child on the other
        // clock: it may have begun before the step, and lasted.
        let clock = || set_back(-5_000..=5_000, -3_600);
        let spans = [(span(-3_400.0, -3_399.0), 0, None), (span(200.1, 200.9), 1, Some(0))];
        assert_eq!(found(vec![clock(), steady()], &spans)[0], on(1, 0));
    }

    #[test]
    fn what_would_be_long_before_anything_was_recorded_is_after_the_step() {
        let alone = |seen, start: f64| found(vec![set_back(seen, -3_600)], &[(span(start, start + 1.0), 0, None)])[0];
        assert_eq!(alone(0..=900, -3_400.0), on(1, 0));
        assert_eq!(alone(0..=900, 50.0), on(0, 0));
        // The step was two seconds earlier than is thought.
        assert_eq!(alone(0..=900, -3_502.0), on(1, 0));
        // Where it may be either, that it may be an hour off is said.
        assert_eq!(alone(-5_000..=5_000, -3_400.0), on(0, 3_600));
    }

    #[test]
    fn times_that_a_clock_was_seen_at_are_likelier() {
        // The fleet was recorded from −1000 s on, this clock from 0 on.
        let clocks = || vec![set_back(0..=900, -700), set_back(-1_000..=900, 0)];
        assert_eq!(found(clocks(), &[(span(-300.0, -299.0), 0, None)])[0], on(1, 700));
    }

    #[test]
    fn spans_that_none_tells_tell_each_other() {
        // Two clocks read these times before, but not both at once.
        let clocks = || vec![set_back(-5_000..=5_000, -3_600), set_back(-5_000..=5_000, -3_000)];
        let spans = [(span(-3_400.0, -3_399.0), 0, None), (span(-2_799.9, -2_799.1), 1, Some(0))];
        assert_eq!(found(clocks(), &spans), [on(1, 0), on(1, 0)]);
        // Nor is a grandchild left out, or a second tree.
        let spans = [
            (span(-2_799.9, -2_799.1), 1, Some(2)),
            (span(50.0, 51.0), 0, None),
            (span(-3_400.0, -3_399.0), 0, Some(3)),
        ];
        let spans = [&spans[..], &[(span(-3_401.0, -3_398.0), 0, None)]].concat();
        assert_eq!(found(clocks(), &spans), [on(1, 0), on(0, 3_600), on(1, 0), on(1, 0)]);
    }

    #[test]
    fn what_tells_one_tells_all_of_its_family() {
        let of_set_back = |inset: f64| span(-3_400.0 + inset, -3_399.0 - inset);
        let spans = [
            (of_set_back(0.0), 0, None),
            (span(200.1, 200.9), 1, Some(0)),
            (of_set_back(0.1), 0, Some(0)),
            (of_set_back(0.2), 0, Some(2)),
        ];
        let found = found(vec![set_back(-5_000..=5_000, -3_600), steady()], &spans);
        assert_eq!([found[0], found[2], found[3]], [on(1, 0); 3]);
    }

    #[test]
    fn a_family_that_fits_either_way_is_in_doubt_together() {
        let spans = [(span(-3_400.0, -3_399.0), 0, None), (span(-3_399.9, -3_399.1), 0, Some(0))];
        assert_eq!(found(vec![set_back(-5_000..=5_000, -3_600)], &spans), [on(0, 3_600); 2]);
    }

    #[test]
    fn what_cannot_be_compared_tells_nothing() {
        let clock = || set_back(-5_000..=5_000, -3_600);
        let spans = [(span(-3_400.0, -3_399.0), 0, None), (span(200.1, 200.9), 1, Some(0))];
        let apart = ClockModel { group: 1, ..model(ClockState::NoEvidence, Vec::new()) };
        assert_eq!(found(vec![clock(), apart], &spans)[0], on(0, 3_600));
        let missing = Recorded { start: LocalTime::from_nanos(0), ..spans[1].0 };
        assert_eq!(found(vec![clock(), steady()], &[spans[0], (missing, 1, Some(0))])[0], on(0, 3_600));
    }

    #[test]
    fn parents_in_a_circle_are_no_trap() {
        let clock = || set_back(-5_000..=5_000, -3_600);
        let spans = [
            (span(-3_400.0, -3_399.0), 0, Some(1)),
            (span(-3_400.0, -3_399.0), 0, Some(0)),
            (span(-3_400.0, -3_399.0), 0, Some(1)),
            (span(200.1, 200.9), 1, Some(2)),
        ];
        let found = found(vec![clock(), steady()], &spans);
        assert_eq!((found[0], found[2]), (on(0, 3_600), on(1, 0)));
    }
}
