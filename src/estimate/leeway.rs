//! How far a clock may leave its model between two of its readings.
//!
//! A reading bounds the offset at its own time. Carried to another time, the bound widens by what the clock's frequency
//! may differ from the model's: a set limit where the model is well tied, more where it bends, as a slew or a step that
//! was not found is smeared over the knots around it, and more where few calls say how fast the clock runs.

use crate::clock::Segment;

/// A clock's frequency differs by no more than this from what was fitted: a crystal wanders by a few ppm, a warming one by
/// some tens. With it no knot of lab s1 to s5 misses the truth.
const DRIFT_PPM: f64 = 50.0;

/// No clock is further off than this: the kernel's limit (RFC 5905, MAXFREQ).
const FREE_PPM: f64 = 500.0;

/// The model's slope this many knots away may hold here: a solve with a knot every few seconds bends late.
const LATE: usize = 3;

/// The leeway over one clock's stretch between two steps, as a sum that grows with local time.
#[derive(Clone, Debug)]
pub(super) struct Leeway {
    /// Local times of the knots, and the leeway from the first to each, ns.
    at: Vec<i64>,
    sum: Vec<f64>,
    /// Before the first knot and behind the last, in ns per ns.
    outside: (f64, f64),
}

impl Leeway {
    /// A clock whose frequency nothing tells.
    pub(super) fn free() -> Self {
        Self { at: vec![0], sum: vec![0.0], outside: (FREE_PPM / 1e6, FREE_PPM / 1e6) }
    }

    /// Around a model whose slope is unsure by `unsure_ppm`.
    pub(super) fn around(segment: &Segment, unsure_ppm: f64) -> Self {
        let knots = &segment.knots;
        let slope = |pair: &[crate::clock::Knot]| {
            (pair[1].offset_ns.saturating_sub(pair[0].offset_ns)) as f64 / (pair[1].local - pair[0].local).max(1) as f64
        };
        let slopes: Vec<f64> = knots.windows(2).map(slope).collect();
        let least = (DRIFT_PPM + unsure_ppm).min(FREE_PPM) / 1e6;
        let rate = |place: usize| {
            let near = &slopes[place.saturating_sub(LATE)..(place + LATE + 1).min(slopes.len())];
            least + near.iter().map(|slope| (slope - slopes[place]).abs()).fold(0.0, f64::max)
        };
        let rates: Vec<f64> = (0..slopes.len()).map(rate).collect();
        let mut sum = vec![0.0; knots.len()];
        for place in 1..knots.len() {
            sum[place] = sum[place - 1] + rates[place - 1] * (knots[place].local - knots[place - 1].local) as f64;
        }
        let ends = (rates.first().copied().unwrap_or(least), rates.last().copied().unwrap_or(least));
        Self { at: knots.iter().map(|knot| knot.local.nanos()).collect(), sum, outside: ends }
    }

    /// What the residual may change by between two local times, ns.
    pub(super) fn between(&self, one: i64, other: i64) -> i64 {
        (self.until(one) - self.until(other)).abs().ceil() as i64
    }

    fn until(&self, local: i64) -> f64 {
        let after = self.at.partition_point(|at| *at <= local);
        let Some(last) = after.checked_sub(1) else {
            return self.sum[0] - self.outside.0 * self.at[0].saturating_sub(local) as f64;
        };
        let past = local.saturating_sub(self.at[last]) as f64;
        match self.at.get(after) {
            None => self.sum[last] + self.outside.1 * past,
            Some(next) => {
                let share = past / (next - self.at[last]) as f64;
                self.sum[last] + share * (self.sum[after] - self.sum[last])
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::{Knot, LocalTime, Onward, ReferenceTime, Treatment};

    const S: i64 = 1_000_000_000;

    /// Knots 5 s apart.
    fn segment(offsets_us: &[i64]) -> Segment {
        let knot = |(place, offset_us): (i64, &i64)| Knot {
            local: LocalTime::from_nanos(place * 5 * S),
            offset_ns: offset_us * 1_000,
            uncertainty_ns: 0,
            lower_ns: None,
            upper_ns: None,
            exchanges: 0,
        };
        Segment {
            from: ReferenceTime::from_nanos(i64::MIN),
            until: ReferenceTime::MAX,
            knots: (0..).zip(offsets_us).map(knot).collect(),
            treatment: Treatment::Moved,
            onward: Onward::default(),
        }
    }

    #[track_caller]
    fn check(leeway: &Leeway, (one, other): (i64, i64), us: i64) {
        assert_eq!((leeway.between(one, other) + 999) / 1_000, us);
        assert_eq!(leeway.between(one, other), leeway.between(other, one));
    }

    #[test]
    fn a_steady_clock_keeps_to_its_model_however_fast_it_runs() {
        let leeway = Leeway::around(&segment(&[0, 400, 800, 1_200]), 0.0);
        check(&leeway, (0, 10 * S), 500);
        check(&leeway, (-10 * S, 0), 500);
        check(&leeway, (3 * S, 115 * S), 5_600);
    }

    #[test]
    fn around_a_bend_the_model_may_be_late() {
        let mut offsets = vec![0; 10];
        offsets.extend([2_500; 10]);
        let leeway = Leeway::around(&segment(&offsets), 0.0);
        // 500 ppm between 45 s and 50 s: so from 30 s to 65 s the clock may have run by as much, or stood still.
        check(&leeway, (0, 30 * S), 1_500);
        check(&leeway, (30 * S, 65 * S), 35 * 550);
        check(&leeway, (65 * S, 95 * S), 1_500);
    }

    #[test]
    fn a_clock_with_one_call_may_run_as_fast_as_any() {
        check(&Leeway::around(&segment(&[0]), 1e9), (0, 10 * S), 5_000);
        check(&Leeway::free(), (7 * S, -3 * S), 5_000);
    }
}
