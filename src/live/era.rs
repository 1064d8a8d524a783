//! Models from when they were published: which of several a span is corrected by, and until when each may be used.

use std::sync::Arc;

use crate::clock::{ClockId, ClockModel, ClockState, LocalTime, ReferenceTime};
use crate::models::Models;

/// How far models are to be followed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// A model is used for so long behind its last knot, ns.
    pub max_age_ns: i64,
    /// A clock that is further off is left alone, whole, ns.
    pub max_correction_ns: i64,
    /// Clocks to leave alone, by display name or key.
    pub leave_alone: Vec<String>,
}

/// Models, and the reference time from which they hold.
#[derive(Clone, Debug)]
pub struct Era {
    /// A span that starts earlier, as these models put it, is an earlier era's.
    pub from: ReferenceTime,
    pub models: Arc<Models>,
    /// By [`ClockId`].
    uses: Vec<Use>,
    names: Vec<Arc<str>>,
    /// Clocks that pass unmoved as moving them did harm.
    held: Vec<ClockId>,
}

/// What is done with a clock's spans.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Use {
    /// Nothing is known of it.
    NoModel,
    LeftAlone,
    Capped,
    /// Corrected, until this reading of its own.
    Until(LocalTime),
}

impl Era {
    pub fn of(models: Arc<Models>, from: ReferenceTime, limits: &Limits) -> Self {
        let uses = models.clocks.iter().map(|(clock, model)| {
            let is_left = limits.leave_alone.iter().any(|name| *name == clock.name || *name == clock.key);
            match model.state {
                ClockState::NoEvidence => Use::NoModel,
                ClockState::Corrected if is_left => Use::LeftAlone,
                ClockState::Corrected if furthest_ns(model) > limits.max_correction_ns => Use::Capped,
                ClockState::Corrected => Use::Until(expiry(model, limits)),
                ClockState::Capped => Use::Capped,
                ClockState::Reference | ClockState::WithinUncertainty | ClockState::Contradictory => Use::LeftAlone,
            }
        });
        let uses = uses.collect();
        let names = models.clocks.iter().map(|(clock, _)| clock.name.as_str().into()).collect();
        Self { from, models, uses, names, held: Vec::new() }
    }

    /// The same, with these clocks left alone.
    #[must_use]
    pub(super) fn holding(mut self, clocks: &[ClockId]) -> Self {
        for ClockId(clock) in clocks {
            if let Some(is_moved) = self.uses.get_mut(*clock as usize).filter(|it| matches!(it, Use::Until(_))) {
                *is_moved = Use::LeftAlone;
            }
        }
        self.held.extend(clocks);
        self
    }

    /// The same under other limits.
    pub(super) fn limited(&self, limits: &Limits) -> Self {
        Self::of(Arc::clone(&self.models), self.from, limits).holding(&self.held)
    }

    pub(super) fn use_of(&self, ClockId(clock): ClockId) -> Use {
        self.uses[clock as usize]
    }

    /// Display name of a clock.
    pub(super) fn name(&self, ClockId(clock): ClockId) -> &Arc<str> {
        &self.names[clock as usize]
    }

    /// The reading of each clock behind which it is passed unmoved; `None` where it is never moved.
    pub fn expiries(&self) -> impl Iterator<Item = (ClockId, Option<LocalTime>)> {
        let until = |clock| match clock {
            Use::Until(expiry) => Some(expiry),
            _ => None,
        };
        (0..).map(ClockId).zip(self.uses.iter().copied().map(until))
    }
}

/// The largest offset that would be taken off, ns.
fn furthest_ns(model: &ClockModel) -> i64 {
    let knots = model.segments.iter().filter(|segment| segment.is_moved()).flat_map(|segment| &segment.knots);
    knots.map(|knot| knot.offset_ns.saturating_abs()).max().unwrap_or(0)
}

/// The last reading of a clock that its model still corrects: not long behind its last knot, and there only while the
/// offset, which goes on at the clock's long-run rate, exceeds its own interval, which grows. Until that has doubled there
/// is no new reason to leave what was moved. Nor is a clock followed to where it is off by more than may be corrected.
fn expiry(model: &ClockModel, limits: &Limits) -> LocalTime {
    let Some(segment) = model.segments.last() else { return LocalTime::MAX };
    let Some(last) = segment.knots.last() else { return LocalTime::MAX };
    if !segment.is_moved() {
        return LocalTime::MAX;
    }
    let margin = last.offset_ns.saturating_abs().saturating_sub(last.uncertainty_ns);
    let gains = segment.onward.rate_ppb.saturating_mul(last.offset_ns.signum());
    // How fast the margin shrinks, ppb; it does not where the clock runs off faster than it becomes unsure.
    let shrinks = segment.onward.growth_ppb.saturating_sub(gains);
    let exceeds_ns = if margin > 0 { length(margin, shrinks) } else { 0 };
    let doubles_ns = length(last.uncertainty_ns, segment.onward.growth_ppb);
    let room = limits.max_correction_ns.saturating_sub(last.offset_ns.saturating_abs());
    let too_far_ns = length(room, gains);
    last.local.plus(exceeds_ns.max(doubles_ns).min(too_far_ns).min(limits.max_age_ns))
}

/// How long it takes to make up so much at this rate, ns; for ever at none.
fn length(ns: i64, ppb: i64) -> i64 {
    if ppb <= 0 {
        return i64::MAX;
    }
    i64::try_from(i128::from(ns) * 1_000_000_000 / i128::from(ppb)).unwrap_or(i64::MAX)
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::clock::{Clock, Knot, Onward, Segment, Treatment};

    pub(crate) const S: i64 = 1_000_000_000;
    pub(crate) const NOON: i64 = 1_700_000_000 * S;

    /// A clock that was ahead by this until noon, and is sure within 1 ms.
    pub(crate) fn ahead(offset_ns: i64, onward: Onward) -> ClockModel {
        let knot = |at| Knot {
            local: LocalTime::from_nanos(at),
            offset_ns,
            uncertainty_ns: 1_000_000,
            lower_ns: None,
            upper_ns: None,
            exchanges: 1,
        };
        let segment = Segment {
            from: ReferenceTime::from_nanos(i64::MIN),
            until: ReferenceTime::MAX,
            knots: vec![knot(NOON - 600 * S), knot(NOON)],
            treatment: Treatment::Moved,
            onward,
        };
        ClockModel {
            state: ClockState::Corrected,
            group: 0,
            segments: vec![segment],
            steps: Vec::new(),
            bounds: Vec::new(),
            exchanges: 1,
            neighbours: 1,
        }
    }

    pub(crate) fn limits() -> Limits {
        Limits { max_age_ns: 3600 * S, max_correction_ns: 86_400 * S, leave_alone: Vec::new() }
    }

    fn check(offset_ms: i64, rate_ppm: i64, growth_ppm: i64, expected_s: i64) {
        let onward = Onward { rate_ppb: rate_ppm * 1000, growth_ppb: growth_ppm * 1000 };
        let limits = Limits { max_correction_ns: 1_200_000_000, ..limits() };
        let until = expiry(&ahead(offset_ms * 1_000_000, onward), &limits);
        assert_eq!((until.nanos() - NOON) / S, expected_s, "{offset_ms} ms, {rate_ppm} ± {growth_ppm} ppm");
    }

    #[test]
    fn a_model_is_followed_while_its_offset_is_surer_than_not() {
        check(1000, 0, 15, 3600);
        check(2, 0, 15, 66);
        check(-2, 0, 15, 66);
        check(4, 0, 15, 200);
        // Running off, or coming back.
        check(4, 20, 15, 3600);
        check(4, -20, 15, 85);
        check(-4, 20, 15, 85);
        check(100, 0, 500, 198);
        check(1100, 100, 15, 1000);
        // What was unsure when it was moved.
        check(0, 0, 15, 66);
    }

    #[test]
    fn what_is_done_with_a_clock_is_one_thing() {
        let check = |state, limits: Limits, expected| {
            let model = ClockModel { state, ..ahead(5 * S, Onward::default()) };
            let clock = Clock { name: "a".into(), key: "k".into(), ..Clock::default() };
            let models = Models { clocks: vec![(clock, model)], ..Models::default() };
            let era = Era::of(models.into(), ReferenceTime::from_nanos(0), &limits);
            assert_eq!(era.use_of(ClockId(0)), expected);
        };
        let hour = Use::Until(LocalTime::from_nanos(NOON + 3600 * S));
        check(ClockState::Corrected, limits(), hour);
        check(ClockState::Corrected, Limits { max_correction_ns: 4 * S, ..limits() }, Use::Capped);
        check(ClockState::Corrected, Limits { leave_alone: vec!["k".into()], ..limits() }, Use::LeftAlone);
        check(ClockState::Reference, limits(), Use::LeftAlone);
        check(ClockState::NoEvidence, limits(), Use::NoModel);
    }
}
