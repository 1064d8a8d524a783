//! Models and a span's recorded times → the times to write.
//!
//! In come what the clock's model says and how the SDK stamped the end; out go new times, by how much and how sure.
//! Within a segment all spans move alike, so the order of events on one clock never changes.

mod doubt;
mod fallback;
mod gate;
mod nudge;
mod recover;
mod sides;

pub use doubt::doubt;
pub use fallback::{Call, Ground, fall_back};
pub use gate::{Judged, Left, NO_UNIT, Outcome, PutBack, Sum, Unit, Why, gate};
pub use nudge::nudge;
pub use recover::{Awaited, recover};
pub use sides::{Sides, sides};

use crate::clock::{ClockModel, ClockState, LocalTime, Segment, Treatment};

/// Which clock an SDK reads for a span's end (SPEC: how each SDK times a span).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum EndHabit {
    /// Start + what a monotonic clock counted: the duration is right even across a step.
    #[default]
    Monotonic,
    /// The wall clock, a second time: a step inside the span corrupts the duration.
    Wall,
}

impl EndHabit {
    /// By `telemetry.sdk.language`. Most SDKs count; these read the wall clock twice.
    pub fn of_language(language: Option<&str>) -> Self {
        match language {
            Some("python" | "dotnet" | "rust") => Self::Wall,
            _ => Self::Monotonic,
        }
    }
}

/// What became of a span, as the `correction` column says it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Correction {
    Reference,
    Moved,
    WithinUncertainty,
    NoEvidence,
    Capped,
    /// Left as recorded, as to move it would leave more out of order than it found.
    Contradictory,
    Recovered,
    /// By what the span's own trace says, as its clock has no model.
    TraceFallback,
}

impl Correction {
    /// The name in our tables and marks.
    pub fn name(self) -> &'static str {
        match self {
            Self::Reference => "reference",
            Self::Moved => "moved",
            Self::WithinUncertainty => "within_uncertainty",
            Self::NoEvidence => "no_evidence",
            Self::Capped => "capped",
            Self::Contradictory => "contradictory",
            Self::Recovered => "recovered",
            Self::TraceFallback => "trace_fallback",
        }
    }

    /// The correction that a mark names; what we do not know was a move of some kind.
    pub fn of_name(name: &str) -> Self {
        [
            Self::Reference,
            Self::WithinUncertainty,
            Self::NoEvidence,
            Self::Capped,
            Self::Contradictory,
            Self::Recovered,
            Self::TraceFallback,
        ]
        .into_iter()
        .find(|known| known.name() == name)
        .unwrap_or(Self::Moved)
    }
}

/// A span's recorded times.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Recorded {
    pub start: LocalTime,
    pub end: LocalTime,
    pub ends: EndHabit,
}

/// A span's written times, ns since the Unix epoch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Corrected {
    pub start: i64,
    pub end: i64,
    /// Applied at the start: recorded start − offset = written start.
    pub offset_ns: i64,
    /// How much of that put the span in order within its trace, and is not its clock's; positive: later.
    pub nudge_ns: i64,
    /// Half-width of the 95 % interval of the written start around true reference time.
    pub uncertainty_ns: Option<i64>,
    pub correction: Correction,
    /// The segment that the start belongs to.
    pub segment: Option<usize>,
}

/// What to write for one span whose start and end are on these sides of its clock's steps.
pub fn span(recorded: Recorded, model: &ClockModel, sides: Sides) -> Corrected {
    let Recorded { start, end, .. } = recorded;
    // A missing or corrupt time says nothing of its partner either: neither is touched.
    if start.is_broken() || end.is_broken() {
        return untouched(recorded, Correction::NoEvidence, None, None);
    }
    let corrected = by_model(recorded, model, sides);
    let corrected = if told(corrected.start).and(told(corrected.end)).is_some() {
        corrected
    } else {
        untouched(recorded, Correction::NoEvidence, None, None)
    };
    // Where the clock's times are contradictory nothing is rebuilt from them.
    let is_rebuilt = end < start && corrected.correction != Correction::Contradictory;
    let correction = if is_rebuilt { Correction::Recovered } else { corrected.correction };
    Corrected { end: corrected.end.max(corrected.start), correction, ..corrected }
}

fn untouched(
    recorded: Recorded,
    correction: Correction,
    uncertainty_ns: Option<i64>,
    segment: Option<usize>,
) -> Corrected {
    let (start, end) = (recorded.start.nanos(), recorded.end.nanos());
    Corrected { start, end, offset_ns: 0, nudge_ns: 0, uncertainty_ns, correction, segment }
}

fn by_model(recorded: Recorded, model: &ClockModel, sides: Sides) -> Corrected {
    let Recorded { start, end, ends } = recorded;
    let Some(here) = model.segments.get(sides.start) else {
        return untouched(recorded, Correction::NoEvidence, None, None);
    };
    let segment = Some(sides.start);
    let there = model.segments.get(sides.end).filter(|there| there.is_told());
    if model.state == ClockState::Reference {
        untouched(recorded, Correction::Reference, Some(0), segment)
    } else if here.treatment == Treatment::Contradictory {
        untouched(recorded, Correction::Contradictory, None, segment)
    } else if here.is_moved() || there.is_some_and(Segment::is_moved) {
        let offset_ns = here.applied_at(start);
        let end_offset = match ends {
            EndHabit::Monotonic => offset_ns,
            EndHabit::Wall => there.map_or(offset_ns, |there| there.applied_at(end)),
        };
        Corrected {
            start: start.plus(-offset_ns).nanos(),
            end: end.plus(-end_offset).nanos(),
            offset_ns,
            nudge_ns: 0,
            uncertainty_ns: Some(here.uncertainty_at(start).saturating_add(sides.doubt_ns)),
            correction: Correction::Moved,
            segment,
        }
    } else {
        // Left alone: the written start is off by the offset itself, give or take.
        let uncertainty = here.offset_at(start).saturating_abs().saturating_add(here.uncertainty_at(start));
        let correction =
            if model.state == ClockState::Capped { Correction::Capped } else { Correction::WithinUncertainty };
        untouched(recorded, correction, Some(uncertainty), segment)
    }
}

/// A time that can be written.
fn told(nanos: i64) -> Option<i64> {
    Some(nanos).filter(|nanos| (0..i64::MAX).contains(nanos))
}

/// The written time of an event, by the segment of its clock that its span's start belongs to.
pub fn event(time: LocalTime, recorded: Recorded, corrected: &Corrected, segment: Option<&Segment>) -> i64 {
    if time.is_broken() {
        return time.nanos();
    }
    match segment.filter(|segment| segment.is_moved()) {
        Some(segment) => {
            let offset_ns = match recorded.ends {
                EndHabit::Monotonic => segment.offset_at(recorded.start),
                EndHabit::Wall => segment.offset_at(time),
            };
            told(time.plus(corrected.nudge_ns.saturating_sub(offset_ns)).nanos()).unwrap_or(time.nanos())
        }
        None if corrected.correction == Correction::TraceFallback => {
            told(time.plus(-corrected.offset_ns).nanos()).unwrap_or(time.nanos())
        }
        None => told(time.plus(corrected.nudge_ns).nanos()).unwrap_or(time.nanos()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::{Knot, Onward, ReferenceTime, Segment, Treatment};

    const NOON: i64 = 1_700_000_000_000_000_000;

    /// A clock 1 ms ahead that gains 100 ppm.
    fn model(state: ClockState, moved: bool) -> ClockModel {
        let knot = |after: i64, offset_ns| Knot {
            local: LocalTime::from_nanos(NOON + after),
            offset_ns,
            uncertainty_ns: 50,
            lower_ns: None,
            upper_ns: None,
            exchanges: 1,
        };
        let knots = vec![knot(0, 1_000_000), knot(10_000_000_000, 2_000_000)];
        let (from, until) = (ReferenceTime::from_nanos(i64::MIN), ReferenceTime::MAX);
        let treatment = if moved { Treatment::Moved } else { Treatment::LeftAlone };
        let segments = vec![Segment { from, until, knots, treatment, onward: Onward::default() }];
        ClockModel { state, group: 0, segments, steps: Vec::new(), bounds: Vec::new(), exchanges: 1, neighbours: 1 }
    }

    fn check(state: ClockState, moved: bool, ends: EndHabit, (start, end): (i64, i64), expected: &str) {
        let at = |after| LocalTime::from_nanos(NOON + after);
        let found = span(Recorded { start: at(start), end: at(end), ends }, &model(state, moved), Sides::default());
        let (start, end) = (found.start - NOON, found.end - NOON);
        let text =
            format!("{start}..{end} off {} ± {:?} {}", found.offset_ns, found.uncertainty_ns, found.correction.name());
        assert_eq!(text, expected);
    }

    #[test]
    fn a_moved_span_is_shifted_by_its_clocks_offset_at_its_start() {
        let span = (5_000_000_000, 6_000_000_000);
        let counted = "4998500000..5998500000 off 1500000 ± Some(50) moved";
        check(ClockState::Corrected, true, EndHabit::Monotonic, span, counted);
        let read_twice = "4998500000..5998400000 off 1500000 ± Some(50) moved";
        check(ClockState::Corrected, true, EndHabit::Wall, span, read_twice);
    }

    #[test]
    fn a_span_left_alone_admits_its_clocks_whole_offset() {
        let left = "0..9 off 0 ± Some(1000050) within_uncertainty";
        check(ClockState::WithinUncertainty, false, EndHabit::Wall, (0, 9), left);
        check(ClockState::Capped, false, EndHabit::Wall, (0, 9), "0..9 off 0 ± Some(1000050) capped");
        check(ClockState::Reference, false, EndHabit::Wall, (0, 9), "0..9 off 0 ± Some(0) reference");
    }

    #[test]
    fn an_end_before_its_start_is_put_at_its_start() {
        check(ClockState::Reference, false, EndHabit::Wall, (9, 0), "9..9 off 0 ± Some(0) recovered");
    }

    #[test]
    fn times_near_1970_are_never_moved() {
        check(
            ClockState::Corrected,
            true,
            EndHabit::Wall,
            (123_000_000 - NOON, 5),
            "-1699999999877000000..5 off 0 ± None no_evidence",
        );
    }

    #[test]
    fn a_time_that_says_nothing_is_no_end_to_recover() {
        let (zero, beyond) = (-NOON, i64::MAX - NOON);
        for (start, end) in [(9, zero), (beyond, 9), (9, beyond)] {
            let left = format!("{start}..{end} off 0 ± None no_evidence");
            check(ClockState::Corrected, true, EndHabit::Wall, (start, end), &left);
        }
    }

    #[test]
    fn nothing_is_moved_to_before_1970() {
        let mut model = model(ClockState::Corrected, true);
        model.segments[0].knots[0].offset_ns = NOON;
        model.segments[0].knots.truncate(1);
        let early = LocalTime::from_nanos(NOON / 2);
        let recorded = Recorded { start: early, end: early, ends: EndHabit::Monotonic };
        let found = span(recorded, &model, Sides::default());
        assert_eq!((found.start, found.offset_ns, found.correction), (NOON / 2, 0, Correction::NoEvidence));
        let noon = LocalTime::from_nanos(NOON);
        let recorded = Recorded { start: noon, end: noon, ends: EndHabit::Monotonic };
        assert_eq!(event(early, recorded, &span(recorded, &model, Sides::default()), model.segments.first()), NOON / 2);
    }

    #[test]
    fn events_go_with_their_span() {
        let model = model(ClockState::Corrected, true);
        let at = |after| LocalTime::from_nanos(NOON + after);
        for (ends, expected) in [(EndHabit::Monotonic, 7_998_500_000), (EndHabit::Wall, 7_998_200_000)] {
            let recorded = Recorded { start: at(5_000_000_000), end: at(9_000_000_000), ends };
            let corrected = span(recorded, &model, Sides::default());
            assert_eq!(event(at(8_000_000_000), recorded, &corrected, model.segments.first()) - NOON, expected);
        }
    }
}
