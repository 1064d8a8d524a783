//! Spans of clocks that have no model, placed trace by trace by what their own calls say.
//!
//! A key may hide several clocks that nothing tells apart; the work of one call is by one clock all the same. In come the
//! times by the models, out go those of work that is surely off: where cause before effect leaves an interval that zero
//! is not in, its middle, give or take its half. Where zero is in it nothing is moved, and where a side is open nothing
//! is known. So unsure is one call, where a thousand tell a clock to microseconds.

use std::collections::{BTreeMap, BTreeSet};

use super::{Corrected, Correction};

/// A call, by its spans' places.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Call {
    pub parent: u32,
    pub child: u32,
    /// The parent waited for the child's end.
    pub waited: bool,
    /// What the parent's times are floored to, and the child's start, ns: they were later by up to as much.
    pub quanta_ns: [i64; 2],
}

/// What a span's clock is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ground {
    /// It has a model, is the reference, or there is none beside it: its written times stand.
    Firm,
    /// It has none; spans with this number are one call's work.
    Loose(u32),
    /// It says nothing here: its times are broken, or it is of a group that cannot be compared.
    None,
}

/// How far the clock of some work is ahead, ns.
#[derive(Clone, Copy, Debug)]
struct Interval {
    low: i64,
    high: i64,
    /// How unsure the clocks are that say so.
    unsure: i64,
}

impl Interval {
    const OPEN: Self = Self { low: i64::MIN, high: i64::MAX, unsure: 0 };

    /// What is applied, and how unsure it is.
    fn placed(self) -> Option<(i64, i64)> {
        let Self { low, high, unsure } = self;
        if low == i64::MIN || high == i64::MAX || low > high {
            return None;
        }
        let (least, most) = (low.saturating_sub(unsure), high.saturating_add(unsure));
        let middle = low.midpoint(high);
        let is_off = least > 0 || most < 0;
        // The middle is rounded.
        let half = most.saturating_sub(middle).saturating_add(1);
        Some(if is_off { (middle, half) } else { (0, most.max(least.saturating_neg())) })
    }
}

/// Moves the work that is surely off, by breadth-first search from firm ground: what is placed in one round is ground for
/// the next, as a trace may go through several such clocks. Each call is looked at when an end of it is placed.
pub fn fall_back(corrected: &mut [Corrected], ground: &[Ground], calls: &[Call]) {
    let mut calls_of: BTreeMap<u32, Vec<&Call>> = BTreeMap::new();
    for (span, call) in calls.iter().flat_map(|call| [(call.parent, call), (call.child, call)]) {
        if let Ground::Loose(work) = ground[span as usize] {
            calls_of.entry(work).or_default().push(call);
        }
    }
    let mut placed: BTreeMap<u32, (i64, i64)> = BTreeMap::new();
    let mut intervals: BTreeMap<u32, Interval> = BTreeMap::new();
    let mut telling: Vec<&Call> = calls_of.values().flatten().copied().collect();
    while !telling.is_empty() {
        let mut narrowed = BTreeSet::new();
        for (work, told) in telling.iter().filter_map(|call| told(call, corrected, ground, &placed)) {
            let interval = intervals.entry(work).or_insert(Interval::OPEN);
            interval.low = interval.low.max(told.low);
            interval.high = interval.high.min(told.high);
            interval.unsure = interval.unsure.max(told.unsure);
            narrowed.insert(work);
        }
        let found: Vec<_> = narrowed.iter().filter_map(|work| Some((*work, intervals[work].placed()?))).collect();
        telling = found.iter().flat_map(|(work, _)| &calls_of[work]).copied().collect();
        placed.extend(found);
    }
    for (corrected, ground) in corrected.iter_mut().zip(ground) {
        let Ground::Loose(work) = ground else { continue };
        let Some(&(offset_ns, uncertainty)) = placed.get(work).filter(|(offset_ns, _)| *offset_ns != 0) else {
            continue;
        };
        let [start, end] = [corrected.start, corrected.end].map(|time| time.saturating_sub(offset_ns));
        if start >= 0 && end >= 0 {
            let (correction, uncertainty_ns) = (Correction::TraceFallback, Some(uncertainty));
            *corrected = Corrected { start, end, offset_ns, uncertainty_ns, correction, ..*corrected };
        }
    }
}

/// What a call says of the one of its two ends that is not placed yet.
fn told(
    call: &Call,
    corrected: &[Corrected],
    ground: &[Ground],
    placed: &BTreeMap<u32, (i64, i64)>,
) -> Option<(u32, Interval)> {
    // Start, end, and how unsure they are.
    let known = |span: u32| -> Option<(i64, i64, i64)> {
        let Corrected { start, end, uncertainty_ns, .. } = corrected[span as usize];
        match ground[span as usize] {
            // Without a model it is what all else is measured from.
            Ground::Firm => Some((start, end, uncertainty_ns.unwrap_or(0))),
            Ground::Loose(work) => {
                let &(offset_ns, unsure) = placed.get(&work)?;
                Some((start.saturating_sub(offset_ns), end.saturating_sub(offset_ns), unsure))
            }
            Ground::None => None,
        }
    };
    let unknown = |span: u32| match ground[span as usize] {
        Ground::Loose(work) if !placed.contains_key(&work) => {
            Some((work, corrected[span as usize].start, corrected[span as usize].end))
        }
        _ => None,
    };
    let [of_parent, of_child] = call.quanta_ns;
    let awaited = |nanos: i64, open: i64| if call.waited { nanos } else { open };
    if let (Some((start, end, unsure)), Some((work, received, responded))) = (known(call.parent), unknown(call.child)) {
        let high = received.saturating_add(of_child).saturating_sub(start);
        let low = awaited(responded.saturating_sub(end.saturating_add(of_parent)), i64::MIN);
        return Some((work, Interval { low, high, unsure }));
    }
    let ((work, sent, returned), (start, end, unsure)) = (unknown(call.parent)?, known(call.child)?);
    let low = sent.saturating_sub(start.saturating_add(of_child));
    let high = awaited(returned.saturating_add(of_parent).saturating_sub(end), i64::MAX);
    Some((work, Interval { low, high, unsure }))
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOON: i64 = 1_700_000_000_000_000_000;

    fn call(parent: u32, child: u32) -> Call {
        Call { parent, child, waited: true, quanta_ns: [0, 0] }
    }

    /// Spans as recorded, of which the numbered are of work without a model; gives what is written, how far from
    /// what was recorded, and how sure.
    fn check(spans: &[(i64, i64, Option<u32>)], calls: &[Call], expected: &[(i64, i64, Option<i64>)]) {
        let (mut corrected, mut ground) = (Vec::new(), Vec::new());
        for &(start, end, work) in spans {
            corrected.push(Corrected {
                start: NOON + start,
                end: NOON + end,
                offset_ns: 0,
                nudge_ns: 0,
                uncertainty_ns: work.is_none().then_some(5),
                correction: if work.is_some() { Correction::NoEvidence } else { Correction::Reference },
                segment: None,
            });
            ground.push(work.map_or(Ground::Firm, Ground::Loose));
        }
        fall_back(&mut corrected, &ground, calls);
        for ((start, ..), corrected) in spans.iter().zip(&corrected) {
            assert_eq!(NOON + start - corrected.offset_ns, corrected.start);
            assert_eq!(corrected.correction == Correction::TraceFallback, corrected.offset_ns != 0);
        }
        let found: Vec<_> = corrected.iter().map(|it| (it.start - NOON, it.end - NOON, it.uncertainty_ns)).collect();
        assert_eq!(found, expected);
    }

    #[test]
    fn work_that_is_surely_off_goes_to_the_middle_of_what_can_be() {
        // 100 to 140 ahead, and the other span of the work goes along.
        check(
            &[(0, 100, None), (140, 200, Some(7)), (150, 160, Some(7))],
            &[call(0, 1)],
            &[(0, 100, Some(5)), (20, 80, Some(26)), (30, 40, Some(26))],
        );
    }

    #[test]
    fn one_that_may_be_right_stays() {
        check(&[(0, 100, None), (30, 90, Some(7))], &[call(0, 1)], &[(0, 100, Some(5)), (30, 90, None)]);
        // Out of order by less than the parent is unsure by.
        check(&[(0, 100, None), (-4, 90, Some(7))], &[call(0, 1)], &[(0, 100, Some(5)), (-4, 90, None)]);
    }

    #[test]
    fn calls_that_nobody_waited_for_leave_a_side_open() {
        let alone = Call { waited: false, ..call(0, 1) };
        check(&[(0, 100, None), (-40, 20, Some(7))], &[alone], &[(0, 100, Some(5)), (-40, 20, None)]);
    }

    #[test]
    fn times_centuries_apart_are_an_interval_like_any_other() {
        let (early, late) = (-1_600_000_000_000_000_000, 7_400_000_000_000_000_000);
        let spans = [(early, early + 9, None), (late, late + 9, None), (late, late, Some(7)), (early, early, Some(7))];
        let calls = [(0, 2), (3, 1)].map(|(parent, child)| Call { waited: false, ..call(parent, child) });
        let left = |sure| move |&(start, end, _): &(i64, i64, Option<u32>)| (start, end, sure);
        let expected: Vec<_> = spans[..2].iter().map(left(Some(5))).chain(spans[2..].iter().map(left(None))).collect();
        check(&spans, &calls, &expected);
    }

    #[test]
    fn calls_that_contradict_each_other_move_nothing() {
        let spans = [(0, 100, None), (140, 200, Some(7)), (-150, -90, Some(7))];
        let calls = [call(0, 1), call(0, 2)];
        check(&spans, &calls, &[(0, 100, Some(5)), (140, 200, None), (-150, -90, None)]);
    }

    #[test]
    fn floored_starts_widen_what_can_be() {
        let floored = Call { quanta_ns: [0, 50], ..call(0, 1) };
        check(&[(0, 100, None), (-40, 20, Some(7))], &[floored], &[(0, 100, Some(5)), (-40, 20, None)]);
    }

    #[test]
    fn what_was_placed_places_what_it_calls() {
        // The second work calls the third, whose clock is the second's; and a firm one, which places it from below.
        check(
            &[(0, 100, None), (1_000, 1_080, Some(7)), (1_010, 1_070, Some(8))],
            &[call(0, 1), call(1, 2)],
            &[(0, 100, Some(5)), (10, 90, Some(16)), (20, 80, Some(27))],
        );
        check(&[(1_000, 1_100, Some(7)), (20, 80, None)], &[call(0, 1)], &[(0, 100, Some(26)), (20, 80, Some(5))]);
    }
}
