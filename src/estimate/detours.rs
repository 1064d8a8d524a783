//! When the calls of a route take far longer than they usually do: another path, a queue, a delay that somebody injects.
//!
//! How much of that is in which leg may be anything but stays as it is, and so such a time is a route of its own, with an
//! asymmetry of its own. Taken for a chance of each call it would average out, and the clock seem to be in the middle of the
//! long round trips. Callers give up meanwhile, and a call that was given up has any δ: one that took longer and was given up
//! looks like one that did not by a clock that stepped.

use super::observation::Observation;
use super::scale::{EARLY, LOW_DELAY, Scale, quantile};

#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Detour {
    /// The route that its calls usually take.
    pub(super) direct: u32,
    /// On the grid.
    from: f64,
    until: f64,
    /// What took no longer than this was not waited for, ns.
    pub(super) over: f64,
}

/// A detour has so many calls that take too long more than others, each of which counts `SHORT` times, as some there will be
/// that nobody waited for; where it has so many fewer again it has ended. (Where chance makes a quarter of all calls too long,
/// one call in 10⁵ is taken for the end of one.)
const NO_CHANCE: f64 = 10.0;
const SHORT: f64 = 1.5;

/// Before the first and after the last that takes too long, so many may have been given up, or not.
const UNSURE: usize = 3;

/// Too long is this many times as far above the low delay as calls usually are.
const TOO_LONG: f64 = 6.0;

/// What part of the calls on a detour may be too short for it: there is far more room for those that nobody waited for.
pub(super) const TOO_SHORT: f64 = 0.3;

/// Such a call is shorter than the low one by more than so many of what calls differ by.
const DIFFER: f64 = 3.0;

impl Detour {
    /// From a route's calls in order of time: place on the grid, and δ.
    pub(super) fn all(direct: u32, calls: &[(f64, f64)]) -> Vec<Self> {
        let over = too_long(calls.iter().map(|call| call.1).collect());
        let stretches = stretches_over(calls, over).into_iter();
        stretches.map(|(from, until)| Self { direct, from, until, over }).collect()
    }

    /// A call that was given up says nothing, but that its request took no longer than it did.
    pub(super) fn has(&self, observation: &Observation) -> bool {
        let at = observation.place();
        let went = observation.is_two_sided() || !observation.one_way && observation.delay() > self.over;
        went && self.from <= at && at <= self.until
    }

    /// The least δ of a call on it that was waited for, ns: what it takes longer, every call does.
    pub(super) fn least(&self, scale: &Scale, direct: &Scale) -> f64 {
        let part = (1.0 - EARLY) * direct.delay;
        self.over.max(scale.delay - part - DIFFER * (scale.jitter_out + scale.jitter_back))
    }
}

/// A round trip that long is none of the usual ones, though half of all calls may be unusual. The 10 % and the 30 % quantiles
/// of an exponential tail are ln(0.9/0.7) = 0.251 means apart.
fn too_long(mut delays: Vec<f64>) -> f64 {
    delays.sort_unstable_by(f64::total_cmp);
    let usual = (quantile(&delays, 0.3) - quantile(&delays, 0.1)) / 0.251;
    quantile(&delays, LOW_DELAY) + TOO_LONG * usual
}

/// What calls differ by where some are too short: the 30 % and the 50 % quantiles are ln(0.7/0.5) = 0.336 means apart.
pub(super) fn spread(sorted: &[f64]) -> f64 {
    (quantile(sorted, 0.5) - quantile(sorted, TOO_SHORT)) / 0.336
}

/// First and last place of each stretch in which δ is over `over`, with a few calls to either side.
fn stretches_over(calls: &[(f64, f64)], over: f64) -> Vec<(f64, f64)> {
    let mut found = Vec::new();
    // Since `from`: the sum, and the largest that it had, with where that was.
    let (mut from, mut sum, mut most, mut until) = (0, 0.0, 0.0, 0);
    let last = calls.len().saturating_sub(1);
    for (index, &(_, delay)) in calls.iter().enumerate() {
        if sum <= 0.0 {
            (from, sum, most) = (index, 0.0, 0.0);
        }
        sum += if delay > over { 1.0 } else { -SHORT };
        if sum > most {
            (most, until) = (sum, index);
        }
        if most >= NO_CHANCE && (index == last || sum <= most - NO_CHANCE) {
            let (from, until) = (calls[from.saturating_sub(UNSURE)], calls[last.min(until + UNSURE)]);
            found.push((from.0, until.0));
            sum = 0.0;
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A call every quarter of a place, long while `is_long`; every tenth was given up. First and last call of each detour.
    fn check(is_long: impl Fn(usize) -> bool, expected: &[(usize, usize)]) {
        let jitter = |k: usize| (k * 7_919 % 97) as f64 * 1e3;
        let delay = |k: usize| match (is_long(k), k % 10) {
            (true, 3) => 6e7,
            (true, _) => 2e8 + jitter(k),
            (false, _) => 1e6 + jitter(k),
        };
        let calls: Vec<(f64, f64)> = (0..400).map(|k| (k as f64 / 4.0, delay(k))).collect();
        let found = Detour::all(0, &calls);
        let ends: Vec<(usize, usize)> =
            found.iter().map(|detour| ((4.0 * detour.from) as usize, (4.0 * detour.until) as usize)).collect();
        assert_eq!(ends, expected);
    }

    #[test]
    fn where_most_calls_take_far_longer_is_a_detour() {
        check(|k| (100..=160).contains(&k), &[(97, 163)]);
        check(|k| (100..=160).contains(&k) || k >= 300, &[(97, 163), (297, 399)]);
        check(|k| (100..=104).contains(&k), &[]);
    }

    #[test]
    fn calls_that_take_longer_now_and_then_are_on_none() {
        check(|k| k % 4 == 0, &[]);
        check(|k| k % 20 < 6, &[]);
    }

    #[test]
    fn a_call_that_was_given_up_is_shorter_than_those_on_the_detour() {
        let detour = Detour { direct: 0, from: 0.0, until: 1.0, over: 3e6 };
        let scale = |delay| Scale { delay, jitter_out: 1e5, jitter_back: 1e5, calls: 100.0 };
        let least = detour.least(&scale(2e8), &scale(1e6));
        assert!((1.9e8..2e8).contains(&least), "{least}");
        // Where calls wait in a queue they differ by as much as they wait.
        let queued = Scale { jitter_out: 4e7, jitter_back: 4e7, ..scale(2e8) };
        assert_eq!(detour.least(&queued, &scale(1e6)), 3e6);
    }
}
