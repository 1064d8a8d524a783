//! The strict mode: within each trace, spans nudged into order.
//!
//! In come times by the models, each clock moved whole; what then still sticks out of a call is smaller than the models'
//! error, but some viewers cannot bear it. From the root down each span that breaks a rule goes by as little as mends it,
//! and all below goes along, so that spans of one clock part only where a call parts them. A span that is longer than the
//! parent that waited for it fits nowhere: it begins no earlier, and ends where it ends.

use super::Corrected;
use crate::clock::Order;

/// Nudges spans into order. `parents` gives for each span its parent and what it is to that, or `None`, where nothing is
/// asked: roots, and spans that cannot be compared with their parent. Spans that are `fixed` stay where they are.
pub fn nudge(corrected: &mut [Corrected], parents: &[Option<(u32, Order)>], fixed: impl Fn(u32) -> bool) {
    let mut families: Vec<(u32, u32, Order)> = (0u32..)
        .zip(parents)
        .filter_map(|(child, parent)| parent.map(|(parent, order)| (parent, child, order)))
        .collect();
    families.sort_unstable_by_key(|&(parent, child, _)| (parent, child));
    let children = |parent: u32| {
        let first = families.partition_point(|family| family.0 < parent);
        families[first..].iter().take_while(move |family| family.0 == parent)
    };
    let roots = (0u32..).zip(parents).filter(|(_, parent)| parent.is_none()).map(|(root, _)| root);
    let mut open: Vec<u32> = roots.collect();
    while let Some(parent) = open.pop() {
        for &(_, child, order) in children(parent) {
            if !fixed(child) {
                let along = corrected[parent as usize].nudge_ns;
                let needed = needed(&corrected[parent as usize], &corrected[child as usize], along, order);
                let by = along.saturating_add(needed);
                shift(&mut corrected[child as usize], by);
            }
            open.push(child);
        }
    }
}

/// By how much a child that went `along` already is still out of order, ns; positive: it must go later.
fn needed(parent: &Corrected, child: &Corrected, along: i64, order: Order) -> i64 {
    let (start, end) = (child.start.saturating_add(along), child.end.saturating_add(along));
    let (early, late) = (parent.start.saturating_sub(start), parent.end.saturating_sub(end));
    match order {
        Order::Along => 0,
        Order::After => early.max(0),
        Order::EndsAfter => parent.start.saturating_sub(end).max(0),
        Order::Within if early > 0 => early,
        Order::Within => late.min(0).max(early),
    }
}

fn shift(span: &mut Corrected, by: i64) {
    let (start, end) = (span.start.checked_add(by), span.end.checked_add(by));
    if let (Some(start @ 0..), Some(end @ 0..)) = (start, end)
        && by != 0
    {
        *span = Corrected {
            start,
            end,
            offset_ns: span.offset_ns.saturating_sub(by),
            nudge_ns: by,
            // The model says where it was; so far is it surely wrong, or the model.
            uncertainty_ns: span.uncertainty_ns.map(|unsure| unsure.saturating_add(by.saturating_abs())),
            ..*span
        };
    }
}

#[cfg(test)]
mod tests {
    use super::super::Correction;
    use super::*;

    const NOON: i64 = 1_700_000_000_000_000_000;

    fn span(start: i64, end: i64) -> Corrected {
        Corrected {
            start: NOON + start,
            end: NOON + end,
            offset_ns: 1_000,
            nudge_ns: 0,
            uncertainty_ns: Some(40),
            correction: Correction::Moved,
            segment: Some(0),
        }
    }

    /// A root from 0 to 100, below it the others, each under the one before it.
    fn check(spans: &[(i64, i64, Order)], expected: &[(i64, i64)]) {
        let mut corrected = vec![span(0, 100)];
        corrected.extend(spans.iter().map(|&(start, end, _)| span(start, end)));
        let parents: Vec<_> =
            [None].into_iter().chain((0u32..).zip(spans).map(|(parent, span)| Some((parent, span.2)))).collect();
        nudge(&mut corrected, &parents, |_| false);
        let found: Vec<_> = corrected[1..].iter().map(|span| (span.start - NOON, span.end - NOON)).collect();
        assert_eq!(found, expected);
        for (found, &(start, _, _)) in corrected[1..].iter().zip(spans) {
            let by = found.start - NOON - start;
            assert_eq!((found.nudge_ns, found.offset_ns), (by, 1_000 - by));
            assert_eq!(found.uncertainty_ns, Some(40 + by.abs()));
        }
    }

    #[test]
    fn a_span_in_order_stays() {
        check(&[(0, 100, Order::Within), (-5, 40, Order::Along)], &[(0, 100), (-5, 40)]);
    }

    #[test]
    fn a_span_that_sticks_out_goes_by_as_little_as_mends_it() {
        check(&[(-7, 40, Order::Within)], &[(0, 47)]);
        check(&[(60, 107, Order::Within)], &[(53, 100)]);
        check(&[(60, 107, Order::After)], &[(60, 107)]);
        check(&[(-7, 40, Order::After)], &[(0, 47)]);
        check(&[(-70, -4, Order::EndsAfter)], &[(-66, 0)]);
    }

    #[test]
    fn what_is_longer_than_its_parent_begins_no_earlier() {
        check(&[(-10, 130, Order::Within)], &[(0, 140)]);
        check(&[(10, 130, Order::Within)], &[(0, 120)]);
    }

    #[test]
    fn all_below_goes_along() {
        check(
            &[(-7, 40, Order::Within), (-5, 30, Order::Along), (-6, 20, Order::Within)],
            &[(0, 47), (2, 37), (2, 28)],
        );
    }

    #[test]
    fn what_is_fixed_stays_and_is_a_parent_all_the_same() {
        let mut corrected = [span(0, 100), span(-9, 50), span(-12, 10)];
        let parents = [None, Some((0, Order::Within)), Some((1, Order::Within))];
        nudge(&mut corrected, &parents, |span| span == 1);
        assert_eq!(corrected.map(|span| span.start - NOON), [0, -9, -9]);
    }

    #[test]
    fn a_cycle_is_left_alone() {
        let mut corrected = [span(0, 100), span(-9, 50)];
        nudge(&mut corrected, &[Some((1, Order::Within)), Some((0, Order::Within))], |_| false);
        assert_eq!(corrected.map(|span| span.nudge_ns), [0, 0]);
    }
}
