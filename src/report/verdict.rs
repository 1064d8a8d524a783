//! What a clock's numbers mean, and what to do about it, in words. Every text is here.

use super::skew::ClockRow;
use crate::clock::{Clock, ClockModel, ClockState, ErrorBound, FrequencyError, Offset, StepKind};

/// A frequency error worth a word: a healthy clock keeps within this.
const NOTABLE_PPM: f64 = 2.0;

/// What is known of a clock without a round trip comes this way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Heard {
    ByQueue,
    OneWay,
}

impl Heard {
    fn words(self) -> &'static str {
        match self {
            Self::ByQueue => "behind a queue only",
            Self::OneWay => "heard one way only",
        }
    }
}

pub(super) fn verdict(row: &ClockRow, clock: &Clock, model: &ClockModel, heard: Heard) -> String {
    let bound = ErrorBound::ns(row.uncertainty_ns.unwrap_or(0));
    let largest = Offset::ahead_ns(row.offset_largest_ns.unwrap_or(0));
    match model.state {
        ClockState::Reference => "the reference".to_owned(),
        ClockState::NoEvidence if clock.untrusted => "its key may hide several clocks: left alone".to_owned(),
        ClockState::NoEvidence => match between(model) {
            Some(between) => format!("{}, {between}: left alone", heard.words()),
            None => "no round trip ties it to another clock: left alone".to_owned(),
        },
        ClockState::WithinUncertainty => format!("agrees within {bound}: left alone"),
        ClockState::Capped => format!("{largest}, more than --max-correction: left alone"),
        ClockState::Corrected => {
            let span = (row.offset_last_ns.unwrap_or(0) - row.offset_first_ns.unwrap_or(0)).abs();
            let mut words = vec![largest.to_string()];
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
            words.join(", ")
        }
    }
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

pub(super) fn advice(clock: &Clock, model: &ClockModel, reference: Option<&str>) -> String {
    match model.state {
        ClockState::Reference | ClockState::WithinUncertainty => String::new(),
        ClockState::Corrected => {
            format!("{}: check its time synchronisation (chronyc tracking, timedatectl)", clock.name)
        }
        ClockState::Capped => format!("{}: raise --max-correction to move it, and check its clock", clock.name),
        ClockState::NoEvidence if clock.untrusted => format!(
            "{}: no attribute says which machine it is; set host.id or k8s.node.name, or name one with --clock-key",
            clock.name
        ),
        ClockState::NoEvidence => {
            let to = reference.map_or_else(|| "another clock".to_owned(), |name| format!("`{name}`"));
            format!(
                "{}: no call with client and server spans ties it to {to}; trace one request through both",
                clock.name
            )
        }
    }
}
