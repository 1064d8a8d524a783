//! Which side of a step a reading is on, where its time alone does not say.
//!
//! A clock that steps back reads the same times twice, and a step is known to a fraction of a second only. In come all
//! spans with their parents, out goes a segment for each start and end: the one in which the span fits best into its
//! parent and around its children. Without a step there is nothing to choose.

use super::{EndHabit, Recorded};
use crate::clock::{ClockId, ClockMap, ClockModel};

/// The segments of a span's start and end.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sides {
    pub start: usize,
    pub end: usize,
    /// Nothing tells this choice from another; the offset may be off by as much, ns.
    pub doubt_ns: i64,
}

/// Both sides of a step are weighed for readings this near to it.
const NEAR_STEP_NS: i64 = 500_000_000;

/// Fits that differ by less than this are alike: spans stick out of each other by a millisecond for other reasons.
const ALIKE_NS: i64 = 1_000_000;

/// So many generations away a span is told by its family at the most.
const ROUNDS: usize = 16;

/// The sides of all spans. `parents` gives each span's parent in the dump.
pub fn sides(spans: &[Recorded], clocks: &[ClockId], parents: &[Option<u32>], map: &ClockMap) -> Vec<Sides> {
    let mut chosen = vec![Some(Sides::default()); spans.len()];
    let mut open: Vec<(usize, Vec<Sides>)> = Vec::new();
    for (index, (span, clock)) in spans.iter().zip(clocks).enumerate() {
        let model = map.model(*clock);
        if model.segments.len() > 1 {
            let options = options(*span, model);
            chosen[index] = if options.len() == 1 { Some(options[0]) } else { None };
            if options.len() > 1 {
                open.push((index, options));
            }
        }
    }
    if open.is_empty() {
        return chosen.into_iter().map(Option::unwrap_or_default).collect();
    }
    let mut children: Vec<(u32, u32)> =
        parents.iter().enumerate().filter_map(|(child, parent)| Some(((*parent)?, child as u32))).collect();
    children.sort_unstable();
    let times = |index: usize, sides: Sides| {
        let model = map.model(clocks[index]);
        let offset = |segment: usize, at| model.segments.get(segment).map_or(0, |segment| segment.offset_at(at));
        let span = spans[index];
        let start = offset(sides.start, span.start);
        let end = if span.ends == EndHabit::Wall { offset(sides.end, span.end) } else { start };
        (span.start.plus(-start).nanos(), span.end.plus(-end).nanos())
    };
    // Spans that are told by their neighbours tell others.
    for _ in 0..ROUNDS {
        let told = chosen.clone();
        let known = |index: u32| told[index as usize].map(|sides| times(index as usize, sides));
        for (index, options) in &open {
            let parent = parents[*index].and_then(known);
            let from = children.partition_point(|(parent, _)| (*parent as usize) < *index);
            let own: Vec<(i64, i64)> = children[from..]
                .iter()
                .take_while(|(parent, _)| *parent as usize == *index)
                .filter_map(|(_, child)| known(*child))
                .collect();
            chosen[*index] = choose(options, parent, &own, |sides| times(*index, sides));
        }
        if chosen == told {
            break;
        }
    }
    let first = |(index, sides): (usize, Option<Sides>)| {
        sides.unwrap_or_else(|| {
            let place = open.binary_search_by_key(&index, |(index, _)| *index);
            place.ok().map_or(Sides::default(), |place| doubtful(&open[place].1, |sides| times(index, sides)))
        })
    };
    chosen.into_iter().enumerate().map(first).collect()
}

/// The likeliest sides first; more than one only near a step, or in a stretch that a step repeats.
fn options(span: Recorded, model: &ClockModel) -> Vec<Sides> {
    let near = |at: crate::clock::LocalTime| -> Vec<usize> {
        let likeliest = model.segment_at(at).unwrap_or(0);
        let mut near = vec![likeliest];
        near.extend((0..model.segments.len()).filter(|&index| {
            let segment = &model.segments[index];
            let reference = at.nanos().saturating_sub(segment.offset_at(at));
            index != likeliest
                && reference >= segment.from.nanos().saturating_sub(NEAR_STEP_NS)
                && reference < segment.until.nanos().saturating_add(NEAR_STEP_NS)
        }));
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

/// How far a span sticks out of its parent and its children out of it, ns; ends before starts weigh most.
fn misfit(own: (i64, i64), parent: Option<(i64, i64)>, children: &[(i64, i64)]) -> i64 {
    let out = |inner: (i64, i64), outer: (i64, i64)| {
        outer.0.saturating_sub(inner.0).max(0).saturating_add(inner.1.saturating_sub(outer.1).max(0))
    };
    let backwards = own.0.saturating_sub(own.1).max(0).saturating_mul(4);
    let of_children = children.iter().fold(0i64, |sum, child| sum.saturating_add(out(*child, own)));
    let of_parent = parent.map_or(0, |parent| out(own, parent));
    backwards.saturating_add(of_children).saturating_add(of_parent)
}

/// The option that fits best, if it is told from the likeliest one at all; `None` where nothing is known of its family.
fn choose(
    options: &[Sides],
    parent: Option<(i64, i64)>,
    children: &[(i64, i64)],
    times: impl Fn(Sides) -> (i64, i64),
) -> Option<Sides> {
    let backwards = |sides: &Sides| times(*sides).1 < times(*sides).0;
    if parent.is_none() && children.is_empty() && !options.iter().any(backwards) {
        return None;
    }
    let fits: Vec<i64> = options.iter().map(|sides| misfit(times(*sides), parent, children)).collect();
    let best = fits.iter().min().copied().unwrap_or(0);
    let alike = || options.iter().zip(&fits).filter(|(_, fit)| **fit <= best.saturating_add(ALIKE_NS));
    // By its children alone, a span may have begun any time before them.
    let length = |sides: Sides| times(sides).1.saturating_sub(times(sides).0).max(0);
    let shortest = alike().map(|(sides, _)| length(*sides)).min()?;
    // Options stand in order of likelihood.
    let mut short = alike().filter(|(sides, _)| length(**sides) <= shortest.saturating_add(NEAR_STEP_NS));
    short.next().map(|(sides, _)| *sides)
}

/// The likeliest option, with the most that another is away from it.
fn doubtful(options: &[Sides], times: impl Fn(Sides) -> (i64, i64)) -> Sides {
    let start = times(options[0]).0;
    let doubt_ns = options.iter().map(|sides| (times(*sides).0 - start).abs()).max().unwrap_or(0);
    Sides { doubt_ns, ..options[0] }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::{ClockState, Knot, LocalTime, ReferenceTime, Segment};

    const SECOND: i64 = 1_000_000_000;

    #[test]
    fn what_a_span_began_in_is_not_told_by_its_children_alone() {
        // Set back by an hour after a hundred seconds: by then it has not read these times before, but might have.
        let segment = |from, until, offset_ns| {
            let knot = |at| Knot {
                local: LocalTime::from_nanos(at),
                offset_ns,
                uncertainty_ns: 0,
                lower_ns: None,
                upper_ns: None,
                exchanges: 0,
            };
            Segment { from, until, knots: vec![knot(-5_000 * SECOND), knot(5_000 * SECOND)], moved: true }
        };
        let step = ReferenceTime::from_nanos(100 * SECOND);
        let segments = vec![
            segment(ReferenceTime::from_nanos(i64::MIN), step, 0),
            segment(step, ReferenceTime::MAX, -3_600 * SECOND),
        ];
        let model = |state, segments| ClockModel {
            state,
            group: 0,
            segments,
            steps: Vec::new(),
            bounds: Vec::new(),
            exchanges: 0,
            neighbours: 0,
        };
        let models = vec![model(ClockState::Corrected, segments), model(ClockState::Reference, Vec::new())];
        let map = ClockMap { models, reference: None };
        let span = |start: i64, end: i64| Recorded {
            start: LocalTime::from_nanos(start),
            end: LocalTime::from_nanos(end),
            ends: EndHabit::Wall,
        };
        let begun = 200 * SECOND - 3_600 * SECOND;
        // A span of one that is not in the dump, with a child on the other clock.
        let spans = [span(begun, begun + SECOND), span(200 * SECOND + 1_000, 201 * SECOND - 1_000)];
        let found = sides(&spans, &[ClockId(0), ClockId(1)], &[None, Some(0)], &map);
        assert_eq!(found[0], Sides { start: 1, end: 1, doubt_ns: 0 });
    }
}
