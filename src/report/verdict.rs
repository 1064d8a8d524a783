//! What a clock's numbers mean, and what to do about it, in words. Every text is here.

use super::skew::ClockRow;
use crate::clock::{Clock, ClockModel, ClockState, ErrorBound, FrequencyError, Offset, Segment, StepKind};
use crate::identity::PER_TRACE;

/// A frequency error worth a word: a healthy clock keeps within this.
const NOTABLE_PPM: f64 = 2.0;

/// What is known of a clock without a round trip comes this way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Heard {
    ByQueue,
    OneWay,
    /// From clocks that cannot be told apart.
    Loosely,
    /// By libraries that stamp one process by two time sources.
    Doubtful,
}

impl Heard {
    fn words(self) -> &'static str {
        match self {
            Self::ByQueue => "behind a queue only",
            Self::OneWay => "heard one way only",
            Self::Loosely => "called by clocks that cannot be told apart only",
            Self::Doubtful => "called by libraries that stamp by two time sources only",
        }
    }
}

/// Spans of a clock that were placed by their own traces, and the offset of the one that was furthest off, ns.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ByTrace {
    pub spans: i64,
    pub furthest_ns: i64,
}

pub(super) fn verdict(
    row: &ClockRow,
    clock: &Clock,
    model: &ClockModel,
    heard: Heard,
    (is_given, by_trace): (bool, ByTrace),
) -> String {
    let bound = ErrorBound::ns(row.uncertainty_ns.unwrap_or(0));
    match model.state {
        ClockState::Reference if is_given => "the reference".to_owned(),
        ClockState::Reference => "stays as it is: of two clocks nobody can tell which is wrong".to_owned(),
        ClockState::NoEvidence if clock.untrusted && by_trace.spans > 0 => format!(
            "its key may hide several clocks, so its spans are placed call by call: {} moved, one of which was {}",
            by_trace.spans,
            Offset::ahead_ns(by_trace.furthest_ns)
        ),
        ClockState::NoEvidence if clock.untrusted => {
            "its key may hide several clocks: left alone, as no trace's own calls say that it is off".to_owned()
        }
        ClockState::NoEvidence => match between(model) {
            Some(between) => format!("{}, {between}: left alone", heard.words()),
            None if heard == Heard::Loosely => {
                "its calls are with clocks that cannot be told apart: left as it is, and they are placed by it"
                    .to_owned()
            }
            None if heard == Heard::Doubtful => {
                "its calls are stamped by libraries of one process that go by two time sources: left alone".to_owned()
            }
            None => "no round trip ties it to another clock: left alone".to_owned(),
        },
        ClockState::WithinUncertainty => format!("agrees within {bound}: left alone"),
        ClockState::Capped => format!("{}, more than --max-correction: left alone", size(row)),
        ClockState::Contradictory => "its calls contradict what was found of it: left as recorded".to_owned(),
        ClockState::Corrected => {
            let span = (row.offset_last_ns.unwrap_or(0) - row.offset_first_ns.unwrap_or(0)).abs();
            let mut words = vec![size(row)];
            if row.offset_largest_ns.unwrap_or(0).abs() <= row.uncertainty_ns.unwrap_or(0) {
                words.push("no more than its bound: moved to agree with the clocks it talks to".to_owned());
            }
            for (kind, word) in [(StepKind::Step, "step"), (StepKind::Slew, "slew")] {
                match model.steps.iter().filter(|step| step.kind == kind).count() {
                    0 => {}
                    1 => words.push(format!("1 {word}")),
                    count => words.push(format!("{count} {word}s")),
                }
            }
            if let Some(ppm) = row.frequency_ppm.filter(|ppm| ppm.abs() >= NOTABLE_PPM && span > 3 * bound.nanos()) {
                words.push(FrequencyError::gains_ppm(ppm).to_string());
            }
            if let Some(percent) = contradictory_percent(model) {
                words.push(format!("left as recorded for {percent} % of its time, where its calls contradict that"));
            }
            words.join(", ")
        }
    }
}

/// The part of a clock's time whose segments are contradictory, from 1 to 99; `None` where none is.
fn contradictory_percent(model: &ClockModel) -> Option<u64> {
    let length = |segment: &Segment| match (segment.knots.first(), segment.knots.last()) {
        (Some(first), Some(last)) => (last.local - first.local).max(1) as f64,
        _ => 0.0,
    };
    let all: f64 = model.segments.iter().map(length).sum();
    let told: f64 = model.told().map(length).sum();
    let is_any = model.segments.iter().any(|segment| !segment.is_told());
    is_any.then(|| (100.0 * (all - told) / all).round().clamp(1.0, 99.0) as u64)
}

/// How far off a clock is at most, and what that alone gives away.
fn size(row: &ClockRow) -> String {
    let offset = Offset::ahead_ns(row.offset_largest_ns.unwrap_or(0));
    match signature(row) {
        None => offset.to_string(),
        Some(Signature::TimeZone { quarters }) => {
            let way = if offset.nanos() < 0 { "behind" } else { "ahead" };
            let hours = [(quarters / 4, "h"), (quarters % 4 * 15, "min")];
            let hours: Vec<String> =
                hours.iter().filter(|(count, _)| *count > 0).map(|(count, unit)| format!("{count} {unit}")).collect();
            let whole = if quarters % 4 == 0 { "hours" } else { "quarter hours" };
            format!("{} {way}: a whole number of {whole}, so a time zone taken for UTC", hours.join(" "))
        }
        Some(Signature::AtomicTime) if offset.nanos() < 0 => {
            format!("{offset}: as far as UTC is behind TAI, so the others keep TAI")
        }
        Some(Signature::AtomicTime) => format!("{offset}: as far as TAI is ahead of UTC, so TAI taken for UTC"),
    }
}

/// A mistake that an offset's size gives away.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Signature {
    TimeZone { quarters: u64 },
    AtomicTime,
}

const SECOND_NS: u64 = 1_000_000_000;

/// TAI − UTC since 2017.
const LEAP_SECONDS_NS: u64 = 37 * SECOND_NS;

/// Zones are multiples of this from UTC, by up to 14 hours.
const QUARTER_HOUR_NS: u64 = 900 * SECOND_NS;
const WIDEST_ZONE: u64 = 14 * 4;

/// A clock that keeps the wrong scale is besides as wrong as clocks are; a random offset is so near to a quarter hour
/// once in 450 times.
const BESIDES_NS: u64 = SECOND_NS;

/// With 37 s there is but one place to hit, but offsets of seconds are more usual than those of hours.
const BESIDES_TAI_NS: u64 = 100_000_000;

fn signature(row: &ClockRow) -> Option<Signature> {
    let offset = row.offset_largest_ns?.unsigned_abs();
    let bound = row.uncertainty_ns?.unsigned_abs();
    let quarters = (offset + QUARTER_HOUR_NS / 2) / QUARTER_HOUR_NS;
    // A bound that reaches half way to the next quarter hour says nothing; a tenth says enough.
    let is_near = |place: u64, besides: u64, most: u64| bound <= most && offset.abs_diff(place) <= bound.max(besides);
    if (1..=WIDEST_ZONE).contains(&quarters) && is_near(quarters * QUARTER_HOUR_NS, BESIDES_NS, QUARTER_HOUR_NS / 10) {
        return Some(Signature::TimeZone { quarters });
    }
    is_near(LEAP_SECONDS_NS, BESIDES_TAI_NS, SECOND_NS).then_some(Signature::AtomicTime)
}

/// Where messages put a clock, at all times that they bound it.
fn between(model: &ClockModel) -> Option<String> {
    let lowest = model.bounds.iter().map(|bound| bound.lower_ns).min().flatten().map(Offset::ahead_ns);
    let highest = if model.bounds.iter().any(|bound| bound.upper_ns.is_none()) {
        None
    } else {
        model.bounds.iter().filter_map(|bound| bound.upper_ns).max().map(Offset::ahead_ns)
    };
    // At most so far ahead is at least so far behind.
    match (lowest, highest) {
        (Some(lowest), Some(highest)) => Some(format!("between {lowest} and {highest}")),
        (None, Some(highest)) if highest.nanos() < 0 => Some(format!("at least {highest}")),
        (None, Some(highest)) => Some(format!("at most {highest}")),
        (Some(lowest), None) if lowest.nanos() < 0 => Some(format!("at most {lowest}")),
        (Some(lowest), None) => Some(format!("at least {lowest}")),
        (None, None) => None,
    }
}

pub(super) fn advice(
    row: &ClockRow,
    clock: &Clock,
    model: &ClockModel,
    in_seconds: bool,
    (heard, reference): (Heard, Option<&str>),
) -> String {
    match model.state {
        ClockState::Reference | ClockState::WithinUncertainty | ClockState::Corrected if in_seconds => {
            format!("{}: record its times in finer units than seconds; they say nothing of its clock", clock.name)
        }
        ClockState::Reference | ClockState::WithinUncertainty => String::new(),
        ClockState::Corrected => match signature(row) {
            None => format!("{}: check its time synchronisation (chronyc tracking, timedatectl)", clock.name),
            Some(Signature::TimeZone { .. }) => format!(
                "{}: make it stamp spans in UTC, and its hardware clock keep UTC (timedatectl set-local-rtc 0)",
                clock.name
            ),
            Some(Signature::AtomicTime) => format!(
                "{}: check what sets it and the others for the offset from TAI to UTC (ptp4l, phc2sys -O)",
                clock.name
            ),
        },
        ClockState::Contradictory => {
            format!("{}: look at the calls that its not_corrected findings name (skew/findings.parquet)", clock.name)
        }
        ClockState::Capped => format!("{}: raise --max-correction to move it, and check its clock", clock.name),
        ClockState::NoEvidence if clock.rule == PER_TRACE => {
            format!("{}: no attribute says which page or device it is; set session.id", clock.name)
        }
        ClockState::NoEvidence if clock.untrusted => format!(
            "{}: no attribute says which machine it is; set host.id or k8s.node.name, or name one with --clock-key",
            clock.name
        ),
        ClockState::NoEvidence if matches!(heard, Heard::Loosely | Heard::Doubtful) => String::new(),
        ClockState::NoEvidence => {
            let to = reference.map_or_else(|| "another clock".to_owned(), |name| format!("`{name}`"));
            format!(
                "{}: no call with client and server spans ties it to {to}; trace one request through both",
                clock.name
            )
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: i64 = SECOND_NS as i64;

    fn clock(offset_ns: i64, bound_ns: i64) -> (String, String) {
        let row =
            ClockRow { offset_largest_ns: Some(offset_ns), uncertainty_ns: Some(bound_ns), ..ClockRow::default() };
        let clock = Clock { name: "pay-1".to_owned(), ..Clock::default() };
        let model = ClockModel {
            state: ClockState::Corrected,
            group: 0,
            segments: Vec::new(),
            steps: Vec::new(),
            bounds: Vec::new(),
            exchanges: 0,
            neighbours: 0,
        };
        (
            verdict(&row, &clock, &model, Heard::OneWay, (true, ByTrace::default())),
            advice(&row, &clock, &model, false, (Heard::OneWay, None)),
        )
    }

    fn check(offset_ns: i64, bound_ns: i64, expected: &str, advised: &str) {
        let (verdict, advice) = clock(offset_ns, bound_ns);
        assert_eq!(verdict, expected);
        assert!(advice.contains(advised), "{advice}");
    }

    #[test]
    fn whole_and_quarter_hours_are_time_zones() {
        let hours = "a whole number of hours, so a time zone taken for UTC";
        check(3 * 3_600 * SECOND + 800_000_000, 40_000, &format!("3 h ahead: {hours}"), "set-local-rtc");
        check(-8 * 3_600 * SECOND, 40_000, &format!("8 h behind: {hours}"), "set-local-rtc");
        let quarters = "a whole number of quarter hours, so a time zone taken for UTC";
        check(19_800 * SECOND, 40_000, &format!("5 h 30 min ahead: {quarters}"), "set-local-rtc");
        check(-900 * SECOND, 40_000, &format!("15 min behind: {quarters}"), "set-local-rtc");
    }

    #[test]
    fn what_is_near_no_quarter_hour_or_a_day_off_is_no_time_zone() {
        check(3 * 3_600 * SECOND + 2 * SECOND, 40_000, "3 h ahead", "chronyc");
        check(24 * 3_600 * SECOND, 40_000, "24 h ahead", "chronyc");
        // Any offset would do within such a bound.
        check(3_600 * SECOND, 400 * SECOND, "60 min ahead", "chronyc");
        check(SECOND, 40_000, "1 s ahead", "chronyc");
    }

    #[test]
    fn leap_seconds_left_out_are_atomic_time() {
        let ahead = "37 s ahead: as far as TAI is ahead of UTC, so TAI taken for UTC";
        check(37 * SECOND + 20_000_000, 40_000, ahead, "ptp4l");
        check(-37 * SECOND, 40_000, "37 s behind: as far as UTC is behind TAI, so the others keep TAI", "ptp4l");
        check(37 * SECOND + 300_000_000, 40_000, "37.3 s ahead", "chronyc");
    }
}
