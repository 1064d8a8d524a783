//! Models of window after window → the one set that is corrected by: pure.
//!
//! In come what is known and what a new window found, out goes what is known then. What a window found of a clock is drawn
//! towards what was known of it, as sure as each is, unless the two contradict each other; a decision, to move a clock or to
//! leave it alone, is kept where a window alone would change it by little; and so are clocks that it did not see.

mod merge;

use std::collections::{BTreeMap, BTreeSet};

use crate::clock::{ClockId, ClockModel, ClockState, LocalTime, Segment, Treatment};
use crate::models::{Learned, Models};

/// What is known once a window is: its models where they are better, else what was known.
///
/// `max_age_ns`: a clock that no window saw for so long is forgotten.
#[must_use]
pub fn after(known: &Models, window: Models, max_age_ns: i64) -> Models {
    let same = window.finder.same(&known.finder);
    let doubted_before = |name: &str| known.learned.as_ref().is_some_and(|learned| learned.doubted.contains(name));
    let mut doubted = BTreeSet::new();
    let mut next = window;
    for (index, (clock, model)) in (0..).zip(&mut next.clocks) {
        let Some((_, before)) = same.get(&ClockId(index)).map(|id| known.clock(*id)) else { continue };
        let (decided, is_doubted) = decided(before, model.clone(), doubted_before(&clock.name));
        *model = decided;
        if is_doubted {
            doubted.insert(clock.name.clone());
        }
    }
    let seen: BTreeMap<ClockId, ClockId> = same.into_iter().map(|(own, other)| (other, own)).collect();
    merge::unseen(&mut next, known, &seen, max_age_ns);
    let number = known.learned.as_ref().map_or(0, |learned| learned.number) + 1;
    next.learned = Some(Learned { number, doubted, ..Learned::default() });
    next
}

/// What a model says of its clock behind its last knot.
struct Says {
    offset_ns: i64,
    uncertainty_ns: i64,
    is_moved: bool,
}

impl Says {
    fn at(segment: &Segment, local: LocalTime) -> Self {
        let (offset_ns, uncertainty_ns) = (segment.offset_at(local), segment.uncertainty_at(local));
        Self { offset_ns, uncertainty_ns, is_moved: segment.is_moved() }
    }

    fn applied_ns(&self) -> i64 {
        if self.is_moved { self.offset_ns } else { 0 }
    }

    /// By how many intervals of this length an offset is from this one's.
    fn away(&self, offset_ns: i64, interval_ns: f64) -> f64 {
        (self.offset_ns.saturating_sub(offset_ns) as f64).abs() / interval_ns.max(1.0)
    }
}

/// An offset that is so many intervals from what is corrected by is no chance of one window.
const AT_ONCE: f64 = 3.0;

/// What is known of a clock of which a window found this; and whether the window alone would have decided otherwise.
fn decided(before: &ClockModel, mut found: ClockModel, was_doubted: bool) -> (ClockModel, bool) {
    use ClockState::{Capped, Contradictory, Corrected, NoEvidence, Reference, WithinUncertainty};
    match found.state {
        NoEvidence => return (before.clone(), was_doubted),
        // To move it does harm, it is too far, or all others are measured from it: at once.
        Contradictory | Capped | Reference => return (found, false),
        Corrected | WithinUncertainty => {}
    }
    let last = |model: &ClockModel| model.segments.last().filter(|segment| segment.is_told()).cloned();
    let (Some(known), Some(own)) = (last(before), last(&found)) else { return (found, false) };
    let Some(at) = own.knots.last().map(|knot| knot.local) else { return (found, false) };
    let (known, own) = (Says::at(&known, at), Says::at(&own, at));
    let [sure, own_sure] = [known.uncertainty_ns, own.uncertainty_ns].map(|uncertainty| (uncertainty as f64).max(1.0));
    let agrees = own.away(known.offset_ns, sure.hypot(own_sure)) <= 1.0;
    if agrees {
        let share = own_sure.powi(2) / (sure.powi(2) + own_sure.powi(2));
        draw(&mut found, known.offset_ns.saturating_sub(own.offset_ns) as f64 * share, known.uncertainty_ns);
    }
    if own.is_moved == known.is_moved || matches!(before.state, Contradictory | Capped | NoEvidence) {
        return (found, false);
    }
    if agrees && sure < own_sure {
        // It knows too little to decide.
        return (treated(found, known.is_moved), was_doubted);
    }
    if was_doubted || own.away(known.applied_ns(), own_sure) > AT_ONCE {
        return (found, false);
    }
    (treated(found, known.is_moved), true)
}

/// Moves a model's last segment by so much, ns. It is as sure as either is, and no surer: what both do not see is the same.
fn draw(model: &mut ClockModel, by: f64, sure_ns: i64) {
    let Some(segment) = model.segments.last_mut() else { return };
    for knot in &mut segment.knots {
        knot.offset_ns = knot.offset_ns.saturating_add(by.round() as i64);
        knot.uncertainty_ns = knot.uncertainty_ns.min(sure_ns);
    }
}

/// A model with the other treatment.
fn treated(mut model: ClockModel, is_moved: bool) -> ClockModel {
    model.state = if is_moved { ClockState::Corrected } else { ClockState::WithinUncertainty };
    let treatment = if is_moved { Treatment::Moved } else { Treatment::LeftAlone };
    let told = model.segments.iter_mut().filter(|segment| segment.is_told());
    told.for_each(|segment| segment.treatment = treatment);
    model
}

#[cfg(test)]
mod tests;
