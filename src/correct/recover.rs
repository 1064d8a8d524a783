//! Spans that end before they start though no step of their clock explains it.
//!
//! What the parent of a call leaves open is used: neither the request nor the response took less than the quickest on its
//! link. A time outside of that is rebuilt from the parent's; a start inside stays, and then the end is the wrong one. In
//! come the times by the models, out go those of such spans anew; all others stay.

use std::collections::BTreeMap;

use super::{Corrected, Correction, Recorded};
use crate::clock::Link;

/// A parent that waited for a child on another clock of its group, both by their places among the spans.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Awaited {
    pub parent: u32,
    pub child: u32,
    pub link: Link,
}

/// Puts spans without a duration of their own inside the parent that waited for them; one without such a parent stays
/// at its start.
pub fn recover(recorded: &[Recorded], corrected: &mut [Corrected], calls: &[Awaited]) {
    let broken = |index: u32, corrected: &[Corrected]| {
        let (recorded, corrected) = (recorded[index as usize], corrected[index as usize]);
        recorded.end < recorded.start
            && corrected.correction == Correction::Recovered
            && corrected.end == corrected.start
    };
    let open: Vec<Awaited> = calls
        .iter()
        .copied()
        .filter(|call| broken(call.child, corrected) && !broken(call.parent, corrected))
        .filter(|call| [call.child, call.parent].iter().all(|&index| corrected[index as usize].segment.is_some()))
        .collect();
    if open.is_empty() {
        return;
    }
    // Per link, what the quickest request and the quickest response took.
    let mut quickest: BTreeMap<Link, [i64; 2]> = open.iter().map(|call| (call.link, [i64::MAX; 2])).collect();
    for call in calls.iter().filter(|call| !broken(call.child, corrected) && !broken(call.parent, corrected)) {
        if let Some(least) = quickest.get_mut(&call.link) {
            let (parent, child) = (corrected[call.parent as usize], corrected[call.child as usize]);
            least[0] = child.start.saturating_sub(parent.start).clamp(0, least[0]);
            least[1] = parent.end.saturating_sub(child.end).clamp(0, least[1]);
        }
    }
    for Awaited { parent, child, link } in open {
        let (recorded, by_model, parent) =
            (recorded[child as usize], corrected[child as usize], corrected[parent as usize]);
        let least = quickest[&link].map(|least| if least < i64::MAX { least } else { 0 });
        let first = parent.start.saturating_add(least[0]).min(parent.end);
        let last = parent.end.saturating_sub(least[1]).max(first);
        let inside = |time: i64| (first..=last).contains(&time).then_some(time);
        let start = inside(by_model.start).unwrap_or(first);
        // With its start right, it is the end that is wrong.
        let end = recorded.end.plus(-by_model.offset_ns).nanos();
        let end = inside(end).filter(|end| *end >= start).unwrap_or(last);
        let taken = by_model.start.saturating_sub(start).saturating_abs();
        let unsure = by_model.uncertainty_ns.max(parent.uncertainty_ns).map(|unsure| unsure.saturating_add(taken));
        corrected[child as usize] = Corrected {
            start,
            end,
            offset_ns: recorded.start.nanos().saturating_sub(start),
            uncertainty_ns: if taken > 0 { unsure } else { by_model.uncertainty_ns },
            ..by_model
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::LocalTime;
    use crate::correct::EndHabit;

    const NOON: i64 = 1_700_000_000_000_000_000;

    /// A client from 0 to 100 µs on the reference that calls a server 1 ms ahead. The quickest request to it
    /// took 20 µs, the quickest response 10.
    fn check((start, end): (i64, i64), expected: &str) {
        let of = |(start, end): (i64, i64), offset_ns: i64, correction| {
            let recorded = Recorded {
                start: LocalTime::from_nanos(NOON + start * 1_000 + offset_ns),
                end: LocalTime::from_nanos(NOON + end * 1_000 + offset_ns),
                ends: EndHabit::Wall,
            };
            let written = (NOON + start * 1_000, NOON + end.max(start) * 1_000);
            let corrected = Corrected {
                start: written.0,
                end: written.1,
                offset_ns,
                nudge_ns: 0,
                uncertainty_ns: Some(3_000),
                correction,
                segment: Some(0),
            };
            (recorded, corrected)
        };
        let (moved, recovered) = (Correction::Moved, Correction::Recovered);
        let spans = [
            of((0, 100), 0, Correction::Reference),
            of((20, 90), 1_000_000, moved),
            of((0, 100), 0, Correction::Reference),
            of((start, end), 1_000_000, if end < start { recovered } else { moved }),
        ];
        let (recorded, mut corrected): (Vec<_>, Vec<_>) = spans.into_iter().unzip();
        let call = |parent, child| Awaited { parent, child, link: Link::default() };
        recover(&recorded, &mut corrected, &[call(0, 1), call(2, 3)]);
        let found = corrected[3];
        assert_eq!(recorded[3].start.nanos() - found.offset_ns, found.start);
        let text = format!(
            "{}..{} ± {}",
            (found.start - NOON) / 1_000,
            (found.end - NOON) / 1_000,
            found.uncertainty_ns.unwrap() / 1_000
        );
        assert_eq!(text, expected);
    }

    #[test]
    fn a_start_that_can_be_stays_and_the_end_is_rebuilt() {
        check((80, 60), "80..90 ± 3");
        check((30, -40), "30..90 ± 3");
    }

    #[test]
    fn a_start_outside_the_parent_is_rebuilt_and_an_end_inside_it_stays() {
        check((95, 60), "20..60 ± 78");
        check((900, 800), "20..90 ± 883");
        check((-500, -600), "20..90 ± 523");
    }

    #[test]
    fn spans_that_end_after_they_start_stay() {
        check((500, 600), "500..600 ± 3");
    }
}
