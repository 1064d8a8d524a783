//! How a clock goes from one set of models to the next: where they differ by little, gradually.
//!
//! At once, a difference of milliseconds would put spans of one host, in order as they were sent, out of order. A larger one is
//! an error that is not to go on, or a clock that stepped.

use std::collections::BTreeMap;

use crate::clock::{ClockId, ClockModel, ClockState, Knot, LocalTime, ReferenceTime, Segment};
use crate::models::Models;

/// A clock's correction changes by no more than this beside its own rate, parts per million: half of what a kernel slews by.
const RAMP_PPM: i64 = 200;

/// A difference that takes longer than this to make good is made at once, ns.
const LONGEST_NS: i64 = 60_000_000_000;

/// Clocks whose correction changes at once, by why.
pub type Resets = BTreeMap<&'static str, u64>;

/// Every reason for which a correction changes at once.
pub const RESETS: [&str; 4] = ["new", "moved", "left_alone", "difference"];

/// Models that hold from this time on, each clock of them beginning as `known` has it there, where that is near.
#[must_use]
pub fn ramped(known: &Models, mut next: Models, from: ReferenceTime) -> (Models, Resets) {
    let same = next.finder.same(&known.finder);
    let mut resets = Resets::new();
    for (index, (_, model)) in (0..).zip(&mut next.clocks) {
        let before = same.get(&ClockId(index)).map(|id| &known.clock(*id).1);
        if let Some(why) = begin(before, model, from) {
            *resets.entry(why).or_default() += 1;
        }
    }
    (next, resets)
}

/// The segment that is taken off a clock's readings behind its last knot.
fn applied(model: &ClockModel) -> Option<&Segment> {
    model.segments.last().filter(|segment| model.state == ClockState::Corrected && segment.is_moved())
}

/// Has a model begin as the one before it; why not, where it cannot.
fn begin(before: Option<&ClockModel>, model: &mut ClockModel, from: ReferenceTime) -> Option<&'static str> {
    let known = before.and_then(applied);
    let at = |local: LocalTime| known.map_or(0, |segment| segment.offset_at(local));
    let first = LocalTime::from_nanos(from.nanos());
    let start = first.plus(at(first.plus(at(first))));
    let (was_ns, was_known) = (at(start), before.is_some_and(|model| model.told().next().is_some()));
    let Some(segment) = applied(model) else { return known.map(|_| "left_alone") };
    let difference = was_ns.saturating_sub(segment.offset_at(start));
    if difference == 0 {
        return None;
    }
    let length = difference.saturating_abs().saturating_mul(1_000_000 / RAMP_PPM);
    if !was_known || length > LONGEST_NS {
        return Some(match (was_known, known) {
            (false, _) => "new",
            (true, None) => "moved",
            (true, Some(_)) => "difference",
        });
    }
    let knot = |local: LocalTime, left: i64| Knot {
        local,
        offset_ns: segment.offset_at(local).saturating_add(left),
        uncertainty_ns: segment.uncertainty_at(local).saturating_add(left.saturating_abs()),
        lower_ns: None,
        upper_ns: None,
        exchanges: 0,
    };
    let ramp = [knot(start, difference), knot(start.plus(length), 0)];
    let behind = |knot: &Knot| knot.local > ramp[1].local;
    let knots = segment.knots.iter().filter(|knot| knot.local < start).chain(&ramp);
    let knots = knots.chain(segment.knots.iter().filter(|knot| behind(knot))).copied().collect();
    if let Some(last) = model.segments.last_mut() {
        last.knots = knots;
    }
    None
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::era::tests::{NOON, S, ahead};
    use super::*;
    use crate::clock::Onward;

    const MS: i64 = 1_000_000;

    fn steady(offset_ns: i64) -> ClockModel {
        ahead(offset_ns, Onward { rate_ppb: 20_000, growth_ppb: 15_000 })
    }

    fn left() -> ClockModel {
        let mut model = steady(MS);
        model.state = ClockState::WithinUncertainty;
        model.segments[0].treatment = crate::clock::Treatment::LeftAlone;
        model
    }

    fn check(before: Option<ClockModel>, mut model: ClockModel, expected: Option<&str>) {
        let found = model.clone();
        let why = begin(before.as_ref(), &mut model, ReferenceTime::from_nanos(NOON + 100 * S));
        assert_eq!(why, expected);
        assert!(why.is_none() || model == found, "what begins at once is as it was found");
    }

    #[test]
    fn what_differs_by_much_begins_at_once() {
        check(None, steady(5 * MS), Some("new"));
        check(None, left(), None);
        check(Some(ClockModel { segments: Vec::new(), ..left() }), steady(5 * MS), Some("new"));
        check(Some(left()), steady(5 * MS), None);
        check(Some(left()), steady(50 * MS), Some("moved"));
        check(Some(steady(50 * MS)), left(), Some("left_alone"));
        check(Some(steady(50 * MS)), steady(70 * MS), Some("difference"));
        check(Some(steady(50 * MS)), steady(61 * MS), None);
    }

    proptest! {
        /// From the time at which models change the correction goes on as it was, is never changed faster than a ramp may be,
        /// and is what was found after a minute.
        #[test]
        fn a_ramp_leads_from_one_to_the_other(
            was in -5_000 * MS..5_000 * MS, by in -12 * MS..12 * MS, rates in prop::array::uniform2(-50_000i64..50_000),
            from in 1..3600i64,
        ) {
            let [before, found] = [(was, rates[0]), (was + by, rates[1])]
                .map(|(offset, rate_ppb)| ahead(offset, Onward { rate_ppb, growth_ppb: 15_000 }));
            let from = ReferenceTime::from_nanos(NOON + from * S);
            let mut next = found.clone();
            let why = begin(Some(&before), &mut next, from);
            let at = |model: &ClockModel, local: i64| model.segments[0].applied_at(LocalTime::from_nanos(local));
            let start = (0..4).fold(from.nanos(), |local, _| from.nanos() + at(&before, local));
            if why.is_some() {
                prop_assert!((at(&before, start) - at(&found, start)).abs() >= 12 * MS);
                return Ok(());
            }
            prop_assert!((at(&before, start) - at(&next, start)).abs() < 1_000);
            prop_assert!((at(&next, start + 60 * S) - at(&found, start + 60 * S)).abs() < 1_000);
            for second in 0..70 {
                let change = at(&next, start + (second + 1) * S) - at(&next, start + second * S);
                prop_assert!(change.abs() <= 200_000 + 50_000 + 10, "{change}");
                // An honest bound holds what was found, with its own.
                let local = LocalTime::from_nanos(start + second * S);
                let away = (next.segments[0].offset_at(local) - found.segments[0].offset_at(local)).abs();
                let room = next.segments[0].uncertainty_at(local) - found.segments[0].uncertainty_at(local);
                prop_assert!(room >= away - 1_000, "{room} {away}");
            }
        }
    }
}
