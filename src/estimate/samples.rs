//! What single calls and messages say of one clock → its stretches.

use std::collections::BTreeMap;

use super::evidence::{Reading, Side};
use super::scale::upper_median;
use super::stretches::{NEAR_NS, Stretch, seen, times};

/// What a look takes for a step.
#[derive(Clone, Copy, Debug)]
pub(super) struct Look {
    /// A smaller one is none, ns.
    pub(super) least: f64,
    /// A smaller one is one only where no slew is as fast, ns.
    pub(super) sure: f64,
    /// What it finds is taken off the readings.
    pub(super) taken_off: bool,
}

/// A clock gains or loses no more than a tenth, and chrony slews by no more than a twelfth.
const FASTEST: f64 = 0.1;

/// Of what a clock changes by from one level to another, it makes so much at once where it steps.
const AT_ONCE: f64 = 0.85;

/// A jump is this many times larger than what the offset usually changes by from one call to the next.
const OVER_USUAL: f64 = 8.0;

/// Calls on either side that tell a level.
pub(super) const CALLS: usize = 5;

/// Before and after it was seen, a clock goes on for one part in so many of that time.
const BEYOND: i64 = 10;

/// One call's word on a clock: when, how far ahead, and within what.
#[derive(Clone, Copy, Debug)]
pub(super) struct Sample {
    /// The other clock.
    pub(super) by: u32,
    pub(super) time: i64,
    pub(super) ahead: i64,
    pub(super) within: i64,
}

/// One message's word on a clock: it was no further ahead than this, or else no less far.
#[derive(Clone, Copy, Debug)]
pub(super) struct Bound {
    pub(super) time: i64,
    pub(super) ahead: i64,
    pub(super) is_upper: bool,
    /// What the readings are floored to.
    pub(super) quantum: i64,
}

/// With whether the other clock jumps; `None` where it reads a time twice and nothing tells which of the two it was.
pub(super) fn sample(call: &Reading, clock: u32, known: &BTreeMap<u32, Vec<Stretch>>) -> Option<(bool, Sample)> {
    let is_server = call.link.server.0 == clock;
    let other = if is_server { call.link.client.0 } else { call.link.server.0 };
    let local = if is_server { call.request_sent } else { call.request_received };
    let stretches = known.get(&other)?;
    let (time, offset) = seen(stretches, local)?;
    let apart = call.forward_ns().saturating_sub(call.backward_ns()) / 2;
    let ahead = offset.saturating_add(if is_server { apart } else { -apart });
    Some((stretches.len() > 1, Sample { by: other, time, ahead, within: call.round_trip_delay_ns() / 2 }))
}

/// That no message comes before it was sent.
pub(super) fn bounds(
    message: &Reading,
    clock: u32,
    known: &BTreeMap<u32, Vec<Stretch>>,
) -> impl Iterator<Item = Bound> {
    let is_server = message.link.server.0 == clock;
    let other = known.get(&if is_server { message.link.client.0 } else { message.link.server.0 });
    let quantum = i64::from(message.client_quantum_ns.max(message.server_quantum_ns));
    let [request, response] = [
        (message.request_sent, message.request_received, is_server),
        (message.response_received, message.response_sent, !is_server),
    ];
    let of_side = match message.side {
        Side::Forward => [Some(request), None],
        Side::Backward => [None, Some(response)],
        Side::Both => [Some(request), Some(response)],
    };
    of_side.into_iter().flatten().filter_map(move |(at_client, at_server, is_upper)| {
        let (own, theirs) = if is_server { (at_server, at_client) } else { (at_client, at_server) };
        // Near a step of the other clock, the looser.
        let looser = |offset: i64| if is_upper { offset } else { offset.saturating_neg() };
        let (time, offset) = times(other?, theirs).max_by_key(|(_, offset)| looser(*offset))?;
        Some(Bound { time, ahead: offset.saturating_add(own.saturating_sub(theirs)), is_upper, quantum })
    })
}

/// Samples within `most`, but where most calls of a neighbour take longer: those that do not were given up.
pub(super) fn quick_among(of_neighbour: &[Sample], most: i64) -> impl Iterator<Item = Sample> {
    let is_quick = move |sample: &Sample| sample.within <= most;
    let is_usual = move |index: usize| {
        let around = &of_neighbour[index.saturating_sub(CALLS)..(index + CALLS + 1).min(of_neighbour.len())];
        is_quick(&of_neighbour[index]) && 2 * around.iter().filter(|sample| is_quick(sample)).count() >= around.len()
    };
    (0..of_neighbour.len()).filter(move |&index| is_usual(index)).map(|index| of_neighbour[index])
}

/// Samples without those that most of the other neighbours contradict before and after; of two, the one by which the clock
/// is the steadier is believed. What one neighbour alone says of a clock is the neighbour's own: steps of less than a second
/// are no jumps, but may add up to some, and by such a clock others seemed to jump to and fro (fleet `steps`, seed 513). So is
/// what it says of times that lie further from all that the others say than these lie from each other.
fn agreed(samples: &[Sample], slope: f64, least: f64) -> Vec<Sample> {
    let mut of_neighbour: BTreeMap<u32, Vec<Sample>> = BTreeMap::new();
    samples.iter().for_each(|sample| of_neighbour.entry(sample.by).or_default().push(*sample));
    let rise = |from: &Sample, to: &Sample| {
        to.ahead.saturating_sub(from.ahead) as f64 - slope * to.time.saturating_sub(from.time) as f64
    };
    let range = |samples: &Vec<Sample>| {
        let rises = || samples.iter().map(|sample| rise(&samples[0], sample));
        rises().fold(0.0, f64::max) - rises().fold(0.0, f64::min)
    };
    let reach = |samples: &Vec<Sample>| (samples[0].time, samples[samples.len() - 1].time);
    let is_far = |sample: &&Sample| {
        let others = || of_neighbour.iter().filter(|(by, _)| **by != sample.by).map(|(_, theirs)| reach(theirs));
        let (first, last) = others().fold((i64::MAX, i64::MIN), |all, own| (all.0.min(own.0), all.1.max(own.1)));
        let beyond = last.saturating_sub(first).saturating_add(NEAR_NS);
        others().count() > 1 && first.saturating_sub(sample.time).max(sample.time.saturating_sub(last)) > beyond
    };
    let ranges: BTreeMap<u32, f64> = of_neighbour.iter().map(|(&by, samples)| (by, range(samples))).collect();
    let is_agreed = |sample: &&Sample| {
        let others = of_neighbour.iter().filter(|(by, _)| **by != sample.by);
        let contradicts = |(_, theirs): &(&u32, &Vec<Sample>)| {
            let after = theirs.partition_point(|other| other.time <= sample.time);
            // Before the first of them, and after the last, it may be the clock itself that jumps.
            let beside = theirs.get(after.wrapping_sub(1)..=after);
            beside.is_some_and(|beside| beside.iter().all(|other| rise(sample, other).abs() > least))
        };
        let against: Vec<u32> = others.clone().filter(contradicts).map(|(by, _)| *by).collect();
        match against[..] {
            [] => true,
            [other] if others.count() == 1 => ranges[&sample.by] <= ranges[&other],
            _ => 2 * against.len() < of_neighbour.len(),
        }
    };
    let agreed: Vec<Sample> = samples.iter().filter(|sample| !is_far(sample) && is_agreed(sample)).copied().collect();
    // Where each contradicts each other, none is more believable: only the first and last of each are left.
    if 10 * agreed.len() < samples.len() { samples.to_vec() } else { agreed }
}

/// Whether a clock may as well have slewed from one run of samples to the next, where its level is another by `change`: it
/// did not do that at once, nobody looked for as long as a slew takes, or those that were there before are not there after
/// and it may be they that slewed.
fn may_have_slewed(before: &[Sample], after: &[Sample], change: f64) -> bool {
    let (left, came) = (&before[before.len() - 1], &after[0]);
    let rise = came.ahead.saturating_sub(left.ahead) as f64;
    let beside = &before[before.len().saturating_sub(2 * CALLS)..];
    let both = after.iter().take(2 * CALLS).any(|one| beside.iter().any(|other| one.by == other.by));
    rise / change < AT_ONCE || change.abs() <= FASTEST * came.time.saturating_sub(left.time) as f64 || !both
}

/// A clock's samples, in order of time → its stretches, between which it jumps; `bounds` tell when.
pub(super) fn stretches(samples: &[Sample], bounds: &[Bound], look: Look) -> Vec<Stretch> {
    let zero = samples[0].ahead;
    let value = |sample: &Sample| sample.ahead.saturating_sub(zero) as f64;
    let after = |from: i64, sample: &Sample| sample.time.saturating_sub(from) as f64;
    let slopes = |samples: &[Sample], lag: usize| -> Vec<f64> {
        let pairs = samples.iter().zip(samples.iter().skip(lag)).filter(|(one, other)| other.time > one.time);
        pairs.map(|(one, other)| (value(other) - value(one)) / after(one.time, other)).collect()
    };
    let slope = upper_median(slopes(samples, CALLS)).clamp(-FASTEST, FASTEST);
    let level = |samples: &[Sample], time: i64| {
        upper_median(samples.iter().map(|sample| value(sample) - slope * after(time, sample)).collect())
    };
    let changes =
        samples.windows(2).map(|pair| value(&pair[1]) - value(&pair[0]) - slope * after(pair[0].time, &pair[1]));
    let usual = upper_median(changes.map(f64::abs).collect());
    let least = look.least.max(OVER_USUAL * usual);
    let samples = &agreed(samples, slope, least)[..];
    let (first, last) = (samples[0].time, samples[samples.len() - 1].time);
    let beyond = last.saturating_sub(first) / BEYOND + NEAR_NS;
    let seen = (first.saturating_sub(beyond), last.saturating_add(beyond));

    let mut runs: Vec<Vec<Sample>> = vec![vec![samples[0]]];
    for (index, sample) in samples.iter().enumerate().skip(1) {
        let run = &runs[runs.len() - 1];
        let off = |sample: &Sample, run: &[Sample]| {
            value(sample) - level(&run[run.len().saturating_sub(CALLS)..], sample.time)
        };
        let here = off(sample, run);
        if here.abs() <= least {
            let last = runs.len() - 1;
            runs[last].push(*sample);
            continue;
        }
        // One call may be off for reasons of its own; a clock that jumped takes the next ones along.
        let next: Vec<f64> = samples[index..].iter().take(CALLS).map(|sample| off(sample, run)).collect();
        let there = upper_median(next.clone());
        let agree = next.iter().filter(|off| (*off - there).abs() < least / 2.0).count();
        if there.abs() > least && (here - there).abs() < least / 2.0 && agree >= 2 && 2 * agree > next.len() {
            runs.push(vec![*sample]);
        }
    }
    runs.retain(|run| run.len() > 1 || samples.len() == 1);
    // With whether the clock jumped when it began.
    let mut joined: Vec<(bool, Vec<Sample>)> = Vec::new();
    for run in runs {
        let begins = run[0].time;
        let Some((_, last)) = joined.last_mut() else {
            joined.push((true, run));
            continue;
        };
        let before = level(&last[last.len().saturating_sub(CALLS)..], begins);
        let change = level(&run[..run.len().min(CALLS)], begins) - before;
        if change.abs() <= least {
            last.extend(run);
        } else {
            let jumped = change.abs() >= look.sure || !may_have_slewed(last, &run, change);
            joined.push((jumped, run));
        }
    }

    let mut found: Vec<Stretch> = Vec::new();
    for (index, (jumped, run)) in joined.iter().enumerate() {
        let middle = run[run.len() / 2].time;
        let own = if run.len() > 4 * CALLS {
            upper_median(slopes(run, run.len() / 2)).clamp(-FASTEST, FASTEST)
        } else {
            slope
        };
        let at_middle = upper_median(run.iter().map(|sample| value(sample) - own * after(middle, sample)).collect());
        let (from, base) = match index.checked_sub(1).map(|last| (&joined[last].1, found[last].base)) {
            None => (i64::MIN, zero.saturating_add(at_middle.round() as i64)),
            Some((last, base)) => {
                let (before, after) = (&last[last.len().saturating_sub(CALLS)..], &run[..run.len().min(CALLS)]);
                let (left, came) = (last[last.len() - 1].time, run[0].time);
                // By how much a level is impossible.
                let over = |side: &[Sample], bound: &Bound| {
                    let over = level(side, bound.time) - bound.ahead.saturating_sub(zero) as f64;
                    (if bound.is_upper { over } else { -over }).max(0.0)
                };
                let from = bounds.partition_point(|bound| bound.time <= left);
                let to = bounds.partition_point(|bound| bound.time < came).max(from);
                let side = |bound: &Bound| {
                    let more = over(before, bound) - over(after, bound);
                    let least = bound.quantum as f64 + least / 2.0;
                    (bound.time, more > least, more < -least)
                };
                let between: Vec<(i64, bool, bool)> = bounds[from..to].iter().map(side).collect();
                let at = turn(left, &between, came);
                let jump = if *jumped { level(after, at) - level(before, at) } else { 0.0 };
                (at, base.saturating_add(jump.round() as i64))
            }
        };
        if let Some(last) = found.last_mut() {
            last.until = from;
        }
        let within = upper_median(run.iter().map(|sample| sample.within as f64).collect());
        found.push(Stretch {
            from,
            until: i64::MAX,
            seen,
            base,
            middle,
            level: at_middle - base.saturating_sub(zero) as f64,
            slope: own,
            unsure: 2.0 * (within + usual) + 1e6,
        });
    }
    match &mut found[..] {
        [] => vec![Stretch::steady(zero)],
        [only] => {
            only.seen = (i64::MIN, i64::MAX);
            found
        }
        _ => found,
    }
}

/// When a clock jumped that had not at `left` and had when it `came`: in between are messages, each with whether it speaks
/// more against the level before or against the one after.
fn turn(left: i64, between: &[(i64, bool, bool)], came: i64) -> i64 {
    // How many speak against it if it is before the k-th.
    let mut against = vec![between.iter().filter(|message| message.2).count()];
    for message in between {
        let last = against[against.len() - 1];
        against.push(last + usize::from(message.1) - usize::from(message.2));
    }
    let least = against.iter().min();
    let first = against.iter().position(|count| Some(count) == least).unwrap_or(0);
    let last = against.iter().rposition(|count| Some(count) == least).unwrap_or(0);
    let from = first.checked_sub(1).map_or(left, |index| between[index].0);
    let to = between.get(last).map_or(came, |message| message.0);
    from + (to - from) / 2
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::estimate::jumps::{CLOSER, LARGE_NS, TAKEN_OFF};
    use crate::estimate::stretches::{moments, over, steps};

    const SECOND: i64 = 1_000_000_000;

    /// A clock's stretches by a call every half second, ± 3 ms: when each begins and by how much the clock jumped then.
    fn check(ahead: impl Fn(f64) -> f64, expected: &[(f64, f64)]) {
        let sample = |k: i64| {
            let time = k * SECOND / 2;
            let wrong = [0.003, -0.002, 0.001][k as usize % 3];
            // Every eleventh call is off by minutes for reasons of its own.
            let wrong = if k % 11 == 5 { 100.0 } else { wrong };
            Sample { by: 0, time, ahead: ((ahead(time as f64 / 1e9) + wrong) * 1e9) as i64, within: 5_000_000 }
        };
        let samples: Vec<Sample> = (0..1_200).map(sample).collect();
        let found = stretches(&samples, &[], TAKEN_OFF);
        let jumps: Vec<(f64, f64)> = found
            .windows(2)
            .map(|pair| (pair[1].from as f64 / 1e9, (pair[1].base - pair[0].base) as f64 / 1e9))
            .collect();
        let alike = jumps.len() == expected.len()
            && jumps
                .iter()
                .zip(expected)
                .all(|(one, other)| (one.0 - other.0).abs() < 1.1 && (one.1 - other.1).abs() < 0.02);
        assert!(alike, "{jumps:?}, and not {expected:?}");
    }

    #[test]
    fn a_clock_that_only_drifts_has_one_stretch() {
        check(|_| 0.0, &[]);
        check(|time| -1e-4 * time, &[]);
        check(|time| 0.08 * time + 1e6, &[]);
    }

    #[test]
    fn among_calls_that_take_long_a_quick_one_was_given_up() {
        let sample = |k: i64| {
            let is_slow = (40..80).contains(&k) && k % 10 != 3;
            Sample { by: 0, time: k * SECOND, ahead: 0, within: if is_slow { 9_000 } else { 1_000 } }
        };
        let samples: Vec<Sample> = (0..120).map(sample).collect();
        let left: Vec<i64> = quick_among(&samples, 4_000).map(|sample| sample.time / SECOND).collect();
        assert_eq!(left, (0..40).chain(80..120).collect::<Vec<_>>());
    }

    #[test]
    fn hours_ahead_for_a_while_are_two_jumps() {
        let there_and_back = |time: f64| if (300.0..330.0).contains(&time) { 28_560.002 } else { 0.002 };
        check(there_and_back, &[(300.0, 28_560.0), (330.0, -28_560.0)]);
    }

    #[test]
    fn what_may_be_a_slew_is_no_jump_but_how_far_ahead_the_clock_is_after_it_is_known() {
        // 300 ms from a minute on, `slewed` over so long or while nobody looked; `by` says whose call it is.
        let found = |ahead: f64, slewed: f64, unseen: f64, by: &dyn Fn(f64) -> u32| {
            let at = |time: f64| ahead * ((time - 60.0) / slewed).clamp(0.0, 1.0);
            let seconds = (0..240).map(|k| f64::from(k) / 2.0 + 0.1);
            let sample = |time: f64| {
                let [time_ns, ahead] = [time, at(time)].map(|seconds| (seconds * 1e9) as i64);
                Sample { by: by(time), time: time_ns, ahead, within: 1_000_000 }
            };
            let samples: Vec<Sample> =
                seconds.filter(|&time| time < 60.0 || time >= 60.0 + unseen).map(sample).collect();
            stretches(&samples, &[], TAKEN_OFF)
        };
        let jump = |found: &[Stretch]| steps(0, found).map(|step| step.size).sum::<i64>();
        let after = |found: &[Stretch]| over(found, 110 * SECOND, 0).map(|ahead| (ahead / 1e6).round());
        let one = |_: f64| 1;
        let at_once = found(0.3, 1e-3, 0.0, &one);
        assert_eq!((jump(&at_once), after(&at_once)), (300_000_000, Some(300.0)));
        for slewed in [
            found(0.3, 3.6, 0.0, &one),
            // In a gap of five seconds it may have been one, though it was not, and in one of two it may not.
            found(0.3, 1e-3, 5.0, &one),
            // Who is there after it alone may have made it.
            found(0.3, 1e-3, 0.0, &|time| if time < 60.0 { 1 } else { 2 }),
        ] {
            assert_eq!((jump(&slewed), after(&slewed)), (0, Some(300.0)), "{slewed:?}");
        }
        assert_eq!(jump(&found(0.3, 1e-3, 2.0, &one)), 300_000_000);
        // A large one is a jump however long nobody looked.
        assert_eq!(jump(&found(1.5, 1e-3, 20.0, &one)), 1_500_000_000);
    }

    #[test]
    fn what_a_clock_reads_twice_are_times_that_it_was_seen_at() {
        let set_back_by = |seconds: i64| {
            let ahead = |k: i64| if k < 600 { 0 } else { -seconds * SECOND };
            let sample = |k: i64| Sample { by: 0, time: k * SECOND / 2, ahead: ahead(k), within: 3_000_000 };
            stretches(&(0..1_200).map(sample).collect::<Vec<_>>(), &[], TAKEN_OFF)
        };
        // Not an hour before the first of ten minutes, but once more as it was set back.
        let time = |found: &[Stretch], local: i64| seen(found, local * SECOND).map(|(time, _)| time / SECOND);
        let by_an_hour = set_back_by(3_600);
        assert_eq!((time(&by_an_hour, 400 - 3_600), time(&by_an_hour, 100)), (Some(400), Some(100)));
        let [back, _] = moments((&[Stretch::steady(0)], 400 * SECOND), (&by_an_hour, (400 - 3_600) * SECOND));
        assert_eq!(back.time, 400 * SECOND);
        // Nor if all clocks are a day further ahead.
        let day = 86_400;
        let mut ahead = by_an_hour.clone();
        ahead.iter_mut().for_each(|stretch| stretch.shift(day * SECOND));
        assert_eq!((time(&ahead, 400 - 3_600), time(&ahead, 100)), (Some(400 - day), Some(100 - day)));
        let by_minutes = set_back_by(200);
        assert_eq!((time(&by_minutes, 150), time(&by_minutes, 50)), (None, Some(50)));
    }

    #[test]
    fn every_tooth_of_a_saw_is_a_jump() {
        check(
            |time| 0.074443 * (time % 60.0),
            &[60.0, 120.0, 180.0, 240.0, 300.0, 360.0, 420.0, 480.0, 540.0].map(|at| (at, -4.46658)),
        );
    }

    #[test]
    fn what_one_neighbour_alone_says_is_no_jump() {
        // Bursts of six calls by turns; by the last neighbour the clock is two seconds ahead for the first minute.
        let said = |neighbours: usize, jump: f64| -> Vec<Stretch> {
            let sample = |k: usize| {
                let (by, time) = (k / 6 % neighbours, k as i64 * SECOND / 2);
                let own = if by == neighbours - 1 && k < 120 { 2.0 } else { 0.0 };
                let jumped = if k < 600 { 0.0 } else { jump };
                Sample { by: by as u32, time, ahead: ((own + jumped) * 1e9) as i64, within: 5_000_000 }
            };
            stretches(&(0..1_200).map(sample).collect::<Vec<_>>(), &[], TAKEN_OFF)
        };
        for neighbours in [2, 3, 5] {
            assert_eq!(said(neighbours, 0.0).len(), 1, "{neighbours}");
        }
        // Of two neighbours neither is the steadier where the clock itself jumps.
        for neighbours in [3, 5] {
            let found = said(neighbours, 60.0);
            assert!(found.len() == 2 && found[1].base - found[0].base == 60 * SECOND, "{neighbours}: {found:?}");
        }
    }

    #[test]
    fn who_did_not_call_before_a_step_does_not_speak_against_it() {
        let sample = |k: usize| {
            let by = u32::from(k > 62 && k.is_multiple_of(2));
            let ahead = if k < 60 { 0 } else { 50_000_000 };
            Sample { by, time: k as i64 * SECOND / 2, ahead, within: 1_000_000 }
        };
        let found = stretches(&(0..120).map(sample).collect::<Vec<_>>(), &[], CLOSER);
        assert!(found.len() == 2 && found[1].base - found[0].base == 50_000_000, "{found:?}");
    }

    #[test]
    fn messages_tell_when_a_clock_stepped() {
        // Against the level after, neither, against the one before: the step is amid those that do not matter.
        let told = |sides: &[(bool, bool)]| {
            let between: Vec<(i64, bool, bool)> = (1..).zip(sides).map(|(k, side)| (10 * k, side.0, side.1)).collect();
            turn(0, &between, 100)
        };
        assert_eq!(told(&[]), 50);
        assert_eq!(told(&[(false, true), (false, true), (false, false), (true, false)]), 30);
        assert_eq!(told(&[(true, false)]), 5);
        assert_eq!(told(&[(false, true)]), 55);
        // One that is late for reasons of its own is outvoted.
        assert_eq!(told(&[(false, true), (true, false), (false, true), (false, true), (true, false)]), 45);
    }

    #[test]
    fn what_one_neighbour_says_of_hours_later_is_its_own_leap() {
        // Ten minutes; one of three neighbours leaps ahead by an hour in the last one, which nothing tells yet.
        let leaps = |k: i64| k % 3 == 0 && k > 540;
        let sample = |k: i64| {
            let hour = if leaps(k) { 3_600 * SECOND } else { 0 };
            Sample { by: (k % 3) as u32, time: k * SECOND + hour, ahead: -hour, within: 5_000_000 }
        };
        let samples: Vec<Sample> = (0..600).map(sample).collect();
        assert_eq!(agreed(&samples, 0.0, LARGE_NS).len(), (0..600).filter(|k| !leaps(*k)).count());
        // By two it might be either.
        let two: Vec<Sample> = samples.iter().filter(|sample| sample.by < 2).copied().collect();
        assert_eq!(agreed(&two, 0.0, LARGE_NS).len(), two.len());
    }

    #[test]
    fn where_all_neighbours_contradict_each_other_all_count() {
        // As by a host name that three machines share.
        let sample = |k: usize| {
            let (by, time) = (k % 3, k as i64 * SECOND);
            Sample { by: by as u32, time, ahead: by as i64 * 3_600 * SECOND, within: 5_000_000 }
        };
        let samples: Vec<Sample> = (0..60).map(sample).collect();
        assert_eq!(agreed(&samples, 0.0, LARGE_NS).len(), samples.len());
        assert!(!stretches(&samples, &[], TAKEN_OFF).is_empty());
    }
}
