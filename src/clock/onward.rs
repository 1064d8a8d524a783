//! How a clock goes on behind its last knot: by its long-run frequency error, with an interval that grows.

use std::ops::Range;

use super::{ClockModel, ClockState, Knot, Segment, StepKind};

/// The slope of an offset behind the last knot, and how fast its 95 % interval grows, both in parts per billion.
///
/// As it is by default, the last knot holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Onward {
    /// Positive: the clock gains on the reference.
    pub rate_ppb: i64,
    pub growth_ppb: i64,
}

/// Frequency wander: a clock's own rate changes by so much, ppb (RFC 5905's PHI, 15 ppm).
const WANDER_PPB: f64 = 15e3;

/// What is known of a clock's rate beforehand, and where a slew was running at the last knot, all that is known of it: its
/// size, ppb (RFC 5905's largest frequency correction, and the fastest slew of a Linux kernel, 500 ppm).
const LARGEST_PPB: f64 = 500e3;

impl Onward {
    /// What `ns` of local time after the last knot change of the offset.
    pub fn offset_ns(self, ns: i64) -> i64 {
        times(ns, self.rate_ppb)
    }

    /// What they add to the half-width of its interval.
    pub fn growth_ns(self, ns: i64) -> i64 {
        times(ns, self.growth_ppb)
    }
}

/// Asked of every span that passes; a double is exact to a nanosecond for years.
fn times(ns: i64, ppb: i64) -> i64 {
    (ns as f64 * ppb as f64 * 1e-9).round() as i64
}

impl ClockModel {
    /// Lets each segment go on behind its last knot by the clock's long-run rate: of its whole model, steps and slews left
    /// out. Drawn towards none by how unsure it is, as the rate between two knots of a short dump is mostly their error.
    pub fn go_on(&mut self) {
        // What all others are measured against is right by definition.
        if self.state == ClockState::Reference {
            return;
        }
        let slews: Vec<Range<i64>> = self.slews().collect();
        let (mut change, mut length, mut variance) = (0.0, 0.0, 0.0);
        for segment in self.told() {
            for run in steady(&segment.knots, &slews) {
                let (Some(first), Some(last)) = (run.first(), run.last()) else { continue };
                change += last.offset_ns as f64 - first.offset_ns as f64;
                length += (last.local - first.local) as f64;
                variance += (first.uncertainty_ns as f64).powi(2) + (last.uncertainty_ns as f64).powi(2);
            }
        }
        // Of the normal distribution that data and what is known beforehand make: its middle, and its 95 % half-width.
        let (prior, own) = (LARGEST_PPB.powi(2), variance * 1e18 / (length * length).max(1.0));
        let weight = if length > 0.0 { prior / (prior + own) } else { 0.0 };
        let rate_ppb = if weight > 0.0 { (weight * change / length * 1e9).round() as i64 } else { 0 };
        let unsure = if weight > 0.0 { (weight * own).sqrt() } else { LARGEST_PPB };
        for segment in &mut self.segments {
            let slewing = segment.is_slewing(&slews);
            let growth = if slewing { LARGEST_PPB } else { (unsure.powi(2) + WANDER_PPB.powi(2)).sqrt() };
            segment.onward = Onward { rate_ppb, growth_ppb: growth.round() as i64 };
        }
    }

    /// Reference times of slews, ns.
    fn slews(&self) -> impl Iterator<Item = Range<i64>> {
        let slews = self.steps.iter().filter(|step| step.kind == StepKind::Slew);
        slews.map(|slew| slew.at.nanos()..slew.at.nanos().saturating_add(slew.duration_ns))
    }
}

impl Segment {
    /// Whether a slew had not surely ended at the last knot: it is told to a knot's distance.
    fn is_slewing(&self, slews: &[Range<i64>]) -> bool {
        let [.., before, last] = self.knots.as_slice() else { return false };
        let at = last.reference_ns();
        slews.iter().any(|slew| slew.start < at && at - (last.local - before.local) < slew.end)
    }
}

/// Runs of knots between which no slew was running.
fn steady<'a>(knots: &'a [Knot], slews: &'a [Range<i64>]) -> impl Iterator<Item = &'a [Knot]> {
    let is_slewed = move |one: &Knot, next: &Knot| {
        slews.iter().any(|slew| one.reference_ns() < slew.end && slew.start < next.reference_ns())
    };
    knots.chunk_by(move |one, next| !is_slewed(one, next))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::{LocalTime, ReferenceTime, Step, Treatment};

    const S: i64 = 1_000_000_000;

    /// A clock with knots at these seconds, offsets in µs, uncertain by 1 µs.
    fn model(knots: &[(i64, i64)], slew_s: Option<Range<i64>>) -> ClockModel {
        let knot = |&(at, offset): &(i64, i64)| Knot {
            local: LocalTime::from_nanos(at * S),
            offset_ns: offset * 1000,
            uncertainty_ns: 1000,
            lower_ns: None,
            upper_ns: None,
            exchanges: 1,
        };
        let segment = Segment {
            from: ReferenceTime::from_nanos(i64::MIN),
            until: ReferenceTime::MAX,
            knots: knots.iter().map(knot).collect(),
            treatment: Treatment::Moved,
            onward: Onward::default(),
        };
        let slew = |at: Range<i64>| Step {
            kind: StepKind::Slew,
            at: ReferenceTime::from_nanos(at.start * S),
            duration_ns: (at.end - at.start) * S,
            size_ns: 0,
            uncertainty_ns: 0,
            spans_straddling: 0,
        };
        let mut model = ClockModel {
            state: ClockState::Corrected,
            group: 0,
            segments: vec![segment],
            steps: slew_s.map(slew).into_iter().collect(),
            bounds: Vec::new(),
            exchanges: 1,
            neighbours: 1,
        };
        model.go_on();
        model
    }

    /// Rate and growth in ppm, and the offset and its interval ten seconds behind the last knot, µs.
    fn check(knots: &[(i64, i64)], slew_s: Option<Range<i64>>, expected: &str) {
        let model = model(knots, slew_s);
        let segment = &model.segments[0];
        let Onward { rate_ppb, growth_ppb } = segment.onward;
        let at = segment.knots[knots.len() - 1].local.plus(10 * S);
        let (offset, uncertainty) = (segment.offset_at(at) as f64 / 1e3, segment.uncertainty_at(at) as f64 / 1e3);
        let (rate, growth) = (rate_ppb as f64 / 1e3, growth_ppb as f64 / 1e3);
        assert_eq!(format!("{rate:.1} ± {growth:.1} ppm: {offset:.0} ± {uncertainty:.0}"), expected);
    }

    #[test]
    fn a_clock_goes_on_as_it_went() {
        check(&[(0, 0), (50, 1000), (100, 2000)], None, "20.0 ± 15.0 ppm: 2200 ± 151");
        check(&[(0, 5)], None, "0.0 ± 500.2 ppm: 5 ± 5003");
    }

    #[test]
    fn the_rate_of_a_moment_is_mostly_not_believed() {
        // 1 µs in 1 ms is 1,000 ppm, give or take 1,414.
        let mut model = model(&[(0, 0), (1, 0)], None);
        model.segments[0].knots[1] =
            Knot { local: LocalTime::from_nanos(1_000_000), offset_ns: 1000, ..model.segments[0].knots[1] };
        model.go_on();
        let Onward { rate_ppb, growth_ppb } = model.segments[0].onward;
        assert!((50_000..150_000).contains(&rate_ppb) && (400_000..500_000).contains(&growth_ppb), "{rate_ppb}");
    }

    #[test]
    fn a_slew_is_no_part_of_the_long_run() {
        let knots = [(0, 0), (100, 1000), (200, 51_000), (300, 52_000), (400, 53_000)];
        check(&knots, Some(100..200), "10.0 ± 15.0 ppm: 53100 ± 151");
        // Where it was running last, anything up to its own speed may follow.
        check(&knots[..3], Some(100..200), "10.0 ± 500.0 ppm: 51100 ± 5001");
    }
}
