//! Spans that are still impossible where they are: how far off they may be.
//!
//! A step that a handful of calls tell of is not followed, and a span on the wrong side of one lies seconds before the
//! call that caused it. In come the corrected times, and what each span and its parent must be to each other. Spans of a
//! trace that are in order, as sure as they are, make a piece; of two pieces that are out of order with each other the one
//! with fewer clocks is the likelier to be wrong, and its spans say so. None is moved.

use std::collections::{BTreeMap, BTreeSet};

use super::sides::ALIKE_NS;
use super::{Corrected, Correction};
use crate::clock::{ClockId, Order};

/// Widens the intervals of spans that are out of order with more of their trace than not. `parents` as in
/// [`super::nudge`]; spans that are `fixed` stay as they are.
pub fn doubt(
    corrected: &mut [Corrected],
    clocks: &[ClockId],
    parents: &[Option<(u32, Order)>],
    fixed: impl Fn(u32) -> bool,
) {
    let mut pieces = Pieces { of: (0..corrected.len() as u32).collect() };
    let mut broken: Vec<(u32, u32, i64)> = Vec::new();
    for (child, (parent, order)) in (0u32..).zip(parents).filter_map(|(child, of)| Some((child, (*of)?))) {
        match apart(&corrected[parent as usize], &corrected[child as usize], order) {
            Some(apart_ns) => broken.push((parent, child, apart_ns)),
            None => pieces.join(parent, child),
        }
    }
    if broken.is_empty() {
        return;
    }
    let ends = broken.iter().flat_map(|&(parent, child, _)| [parent, child]);
    let concerned: BTreeSet<u32> = ends.map(|span| pieces.find(span)).collect();
    let mut of_piece: BTreeMap<u32, Piece> = BTreeMap::new();
    for span in 0..corrected.len() as u32 {
        let piece = pieces.find(span);
        if concerned.contains(&piece) {
            let piece = of_piece.entry(piece).or_default();
            piece.clocks.insert(clocks[span as usize]);
            piece.is_right |= corrected[span as usize].correction == Correction::Reference;
            piece.spans.push(span);
        }
    }
    let mut doubts: BTreeMap<u32, i64> = BTreeMap::new();
    for (parent, child, apart_ns) in broken {
        let [parent, child] = [parent, child].map(|span| pieces.find(span));
        let weight = |piece: u32| (of_piece[&piece].is_right, of_piece[&piece].clocks.len());
        for (piece, other) in [(parent, child), (child, parent)] {
            if weight(piece) <= weight(other) && !of_piece[&piece].is_right {
                let doubt = doubts.entry(piece).or_default();
                *doubt = apart_ns.max(*doubt);
            }
        }
    }
    for (piece, doubt_ns) in doubts {
        for &span in of_piece[&piece].spans.iter().filter(|&&span| !fixed(span)) {
            let uncertainty_ns = &mut corrected[span as usize].uncertainty_ns;
            *uncertainty_ns = uncertainty_ns.map(|uncertainty_ns| uncertainty_ns.saturating_add(doubt_ns));
        }
    }
}

/// What of a trace is in order with itself.
#[derive(Default)]
struct Piece {
    spans: Vec<u32>,
    clocks: BTreeSet<ClockId>,
    /// The reference is part of it.
    is_right: bool,
}

/// Per span another one of its piece, or itself.
struct Pieces {
    of: Vec<u32>,
}

impl Pieces {
    fn find(&mut self, span: u32) -> u32 {
        let mut at = span;
        while self.of[at as usize] != at {
            let above = self.of[at as usize];
            self.of[at as usize] = self.of[above as usize];
            at = above;
        }
        at
    }

    fn join(&mut self, one: u32, other: u32) {
        let (one, other) = (self.find(one), self.find(other));
        self.of[one.max(other) as usize] = one.min(other);
    }
}

/// How far off one of the two may be that are further out of order than both are unsure, ns.
fn apart(parent: &Corrected, child: &Corrected, order: Order) -> Option<i64> {
    let unsure = parent.uncertainty_ns?.saturating_add(child.uncertainty_ns?);
    let early = match order {
        Order::Along => return None,
        Order::EndsAfter => parent.start.saturating_sub(child.end),
        Order::After | Order::Within => parent.start.saturating_sub(child.start),
    };
    // It may end later than the parent waited, but does not begin later.
    let late = if order == Order::Within { child.start.saturating_sub(parent.end) } else { i64::MIN };
    let least = early.max(late);
    // It may have been anywhere within its parent, but hardly that far from where this begins to explain it.
    let more = parent.end.saturating_sub(parent.start).clamp(0, least.max(0));
    (least > unsure.saturating_add(ALIKE_NS)).then(|| least.saturating_add(more))
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: i64 = 1_000_000;

    /// A gateway, which is right, from 0 to 100 ms calls `b` from 10 to 90 ms, that calls `c` from 20 to 80, and that does
    /// some work of its own from 30 to 70; each is so far off, and all but the first ± 1 ms. How unsure they come out, ms.
    fn check(off_ms: [i64; 3], order: Order, expected: [i64; 4]) {
        let span = |(index, off_ms): (i64, i64)| {
            let (start, end) = ((10 * index + off_ms) * MS, (100 - 10 * index + off_ms) * MS);
            let (correction, uncertainty_ns) =
                if index == 0 { (Correction::Reference, Some(0)) } else { (Correction::Moved, Some(MS)) };
            Corrected { start, end, offset_ns: 0, nudge_ns: 0, uncertainty_ns, correction, segment: Some(0) }
        };
        let [b, c, work] = off_ms;
        let mut corrected: Vec<Corrected> = (0..).zip([0, b, c, work]).map(span).collect();
        let clocks = [0, 1, 2, 2].map(ClockId);
        let parents = [None, Some((0, order)), Some((1, order)), Some((2, Order::Along))];
        doubt(&mut corrected, &clocks, &parents, |_| false);
        let unsure: Vec<i64> = corrected.iter().map(|span| span.uncertainty_ns.unwrap() / MS).collect();
        assert_eq!(unsure, expected, "{off_ms:?}, {order:?}");
    }

    #[test]
    fn spans_in_order_are_as_sure_as_they_were() {
        check([0, 0, 0], Order::Within, [0, 1, 1, 1]);
        // As unsure as they are, they may well be in order; and nobody need have waited for the end.
        check([0, -12, -12], Order::Within, [0, 1, 1, 1]);
        check([0, 60, 60], Order::Within, [0, 1, 1, 1]);
        check([0, 500, 500], Order::After, [0, 1, 1, 1]);
    }

    #[test]
    fn what_lies_before_its_cause_or_after_the_answer_may_be_as_far_off() {
        // All work of that call is.
        check([0, -500, -500], Order::After, [0, 1, 571, 571]);
        check([0, -500, -500], Order::Within, [0, 1, 571, 571]);
        check([0, 500, 500], Order::Within, [0, 1, 511, 511]);
        check([0, -500, -500], Order::EndsAfter, [0, 1, 511, 511]);
        // What it called is right by it, and wrong with it.
        check([-500, -500, -500], Order::Within, [0, 591, 591, 591]);
    }

    #[test]
    fn where_two_are_alike_either_may_be_wrong() {
        let span = |start: i64| Corrected {
            start: start * MS,
            end: (start + 10) * MS,
            offset_ns: 0,
            nudge_ns: 0,
            uncertainty_ns: Some(MS),
            correction: Correction::Moved,
            segment: Some(0),
        };
        let unsure = |fixed: fn(u32) -> bool| {
            let mut corrected = [span(100), span(40)];
            doubt(&mut corrected, &[0, 1].map(ClockId), &[None, Some((0, Order::After))], fixed);
            corrected.map(|span| span.uncertainty_ns.unwrap() / MS)
        };
        assert_eq!(unsure(|_| false), [71, 71]);
        assert_eq!(unsure(|span| span == 0), [1, 71]);
    }
}
