//! Calls → how far apart the clocks of processes are that go by one key.
//!
//! In come calls between processes, out goes for every two processes of a clock between what they are apart, where
//! that can be told, and which processes are two clocks by themselves. Assumed is cause before effect alone: each call
//! says −b ≤ x ≤ f, so paths may be as asymmetric as they like. Two processes are compared against the same third one
//! within the same few seconds, so a step or a slew, which takes both along, is nothing between them.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};

use rayon::prelude::*;

use super::mixed::{Mixed, mixed};
use super::sights::{Call, LEAST_NS, Sight, sights};
use crate::clock::ClockId;

/// How far one process' clock is ahead of another's, by calls with the same neighbours at the same times.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Distance {
    pub one: u32,
    pub other: u32,
    /// Reading of `one` − reading of `other`, ns: it lies between these.
    pub low_ns: i64,
    pub high_ns: i64,
    /// The processes that say so; `other` where the two call each other.
    pub neighbours: BTreeSet<u32>,
    /// Of both, with these neighbours.
    pub calls: u64,
}

impl Distance {
    /// They cannot be one clock.
    pub fn is_apart(&self) -> bool {
        self.low_ns > 0 || self.high_ns < 0
    }

    /// At most so far apart, ns.
    pub(super) fn most_ns(&self) -> i64 {
        self.high_ns.max(self.low_ns.saturating_neg())
    }

    /// At least so far apart, ns; 0 where they may be one clock.
    pub(super) fn least_ns(&self) -> i64 {
        self.low_ns.max(self.high_ns.saturating_neg()).max(0)
    }
}

/// What the calls say of processes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Told {
    /// Of the processes of clocks in which any two may be apart.
    pub(super) distances: Vec<Distance>,
    pub(super) mixed: Vec<Mixed>,
}

/// Windows in which two processes must have been compared: fewer may be one outage.
const LEAST_WINDOWS: usize = 6;

/// The share of windows that must say the same.
const AGREEING: f64 = 0.75;

/// Windows looked at per neighbour and clock, so that a clock of a thousand processes costs seconds, not hours.
const MOST_WINDOWS: usize = 64;

/// Calls of a process in a window: the median of four outvotes one that nobody waited for.
const PER_WINDOW: i64 = 4;

/// A window is at least this long, ns: a 500 ppm slew moves a clock by 1 ms in it.
const SHORTEST_NS: i64 = 2_000_000_000;

/// Looks at every two processes of one clock. `clock_of` gives each process' clock.
pub(super) fn apart(calls: &[Call], clock_of: &[ClockId]) -> Told {
    let mut sights = sights(calls, clock_of);
    sights.par_sort_unstable();
    let relations: Vec<&[Sight]> = sights.chunk_by(|left, right| left.relation() == right.relation()).collect();
    let mixed = mixed(&relations);
    let is_mixed: BTreeSet<u32> = mixed.iter().map(|mixed| mixed.process).collect();
    let relations: Vec<Relation> = relations
        .into_par_iter()
        .filter(|sights| !is_mixed.contains(&sights[0].neighbour))
        .map(|sights| Relation::of(sights, clock_of))
        .filter(|relation| relation.habits.len() > 1)
        .collect();
    let suspect: BTreeSet<ClockId> =
        relations.iter().filter(|relation| relation.is_suspect()).map(|relation| relation.clock).collect();
    let seen: Vec<Distance> = relations
        .par_iter()
        .filter(|relation| suspect.contains(&relation.clock))
        .flat_map_iter(|relation| relation.distances())
        .filter(|distance| !is_mixed.contains(&distance.one) && !is_mixed.contains(&distance.other))
        .collect();
    Told { distances: together(seen), mixed }
}

/// What a neighbour's calls in a window say of a process.
#[derive(Clone, Copy, Debug)]
struct Level {
    window: i64,
    process: u32,
    low: i64,
    high: i64,
    calls: u64,
}

impl Level {
    fn middle(&self) -> i64 {
        self.low / 2 + self.high / 2
    }
}

/// What is usual of a process with a neighbour, ns.
#[derive(Clone, Copy, Debug)]
struct Habit {
    /// How far its level moves from window to window: noise, and drift.
    movement: i64,
    round_trip: i64,
}

/// All processes of one clock, as one neighbour sees them.
struct Relation {
    neighbour: u32,
    clock: ClockId,
    /// In order of window and process.
    levels: Vec<Level>,
    habits: BTreeMap<u32, Habit>,
}

impl Relation {
    fn of(sights: &[Sight], clock_of: &[ClockId]) -> Self {
        let (neighbour, clock) = sights[0].relation();
        let of_process = || sights.chunk_by(|left, right| left.process == right.process);
        let mut gaps: Vec<i64> = of_process().flat_map(gaps).collect();
        let width = median(&mut gaps).saturating_mul(PER_WINDOW).max(SHORTEST_NS);
        let (mut levels, mut habits) = (Vec::new(), BTreeMap::new());
        for sights in of_process() {
            let window = |sight: &Sight| sight.at.div_euclid(width);
            let own: Vec<Level> = sights
                .chunk_by(|left, right| window(left) == window(right))
                .map(|sights| level(window(&sights[0]), sights))
                .collect();
            let mut moved: Vec<i64> =
                own.windows(2).map(|two| two[1].middle().saturating_sub(two[0].middle()).saturating_abs()).collect();
            let mut widths: Vec<i64> = sights.iter().map(Sight::width).collect();
            let habit = Habit { movement: median(&mut moved), round_trip: median(&mut widths) };
            habits.insert(sights[0].process, habit);
            levels.extend(own);
        }
        levels.sort_unstable_by_key(|level| (level.window, level.process));
        if clock_of[neighbour as usize] == clock {
            // Of the same clock, it is where it is at all times.
            let mut windows: Vec<i64> = levels.iter().map(|level| level.window).collect();
            windows.dedup();
            let still = |window| Level { window, process: neighbour, low: 0, high: 0, calls: 0 };
            levels.extend(windows.into_iter().map(still));
            levels.sort_unstable_by_key(|level| (level.window, level.process));
            habits.insert(neighbour, Habit { movement: 0, round_trip: 0 });
        }
        Self { neighbour, clock, levels, habits }
    }

    fn windows(&self) -> impl Iterator<Item = &[Level]> {
        self.levels.chunk_by(|left, right| left.window == right.window).filter(|levels| levels.len() > 1)
    }

    /// Whether any two processes may be apart: cheap, as most clocks are one.
    fn is_suspect(&self) -> bool {
        let apart = |levels: &&[Level]| {
            let low = levels.iter().map(|level| level.low).max();
            let high = levels.iter().map(|level| level.high).min();
            low > high
        };
        self.windows().filter(apart).count() >= LEAST_WINDOWS
    }

    fn distances(&self) -> Vec<Distance> {
        let every = self.windows().count().div_ceil(MOST_WINDOWS).max(1);
        let mut gaps: Vec<(u32, u32, i64, i64, u64)> = Vec::new();
        for levels in self.windows().step_by(every) {
            for (place, one) in levels.iter().enumerate() {
                gaps.extend(levels[place + 1..].iter().map(|other| {
                    let (low, high) = (one.low.saturating_sub(other.high), one.high.saturating_sub(other.low));
                    (one.process, other.process, low, high, one.calls + other.calls)
                }));
            }
        }
        gaps.sort_unstable();
        let of_two = |gaps: &[(u32, u32, i64, i64, u64)]| {
            let (one, other, ..) = gaps[0];
            let at = ((gaps.len() - 1) as f64 * (1.0 - AGREEING)) as usize;
            let mut highs: Vec<i64> = gaps.iter().map(|gap| gap.3).collect();
            highs.sort_unstable_by_key(|&high| Reverse(high));
            let (left, right) = (self.habits[&one], self.habits[&other]);
            // A drift moves a level by once its movement; spans that end late, by a part of the round trip.
            let margin = LEAST_NS
                .max(left.movement.max(right.movement).saturating_mul(2))
                .max(left.round_trip.max(right.round_trip) / 2);
            Distance {
                one,
                other,
                low_ns: gaps[at].2.saturating_sub(margin),
                high_ns: highs[at].saturating_add(margin),
                neighbours: BTreeSet::from([self.neighbour]),
                calls: gaps.iter().map(|gap| gap.4).sum(),
            }
        };
        gaps.chunk_by(|left, right| (left.0, left.1) == (right.0, right.1))
            .filter(|gaps| gaps.len() >= LEAST_WINDOWS)
            .map(of_two)
            .collect()
    }
}

/// The level that half of the calls, or more, agree on.
fn level(window: i64, sights: &[Sight]) -> Level {
    let (mut lows, mut highs): (Vec<i64>, Vec<i64>) = sights.iter().map(|sight| (sight.low, sight.high)).unzip();
    lows.sort_unstable_by_key(|&low| Reverse(low));
    highs.sort_unstable();
    let at = sights.len() / 2;
    Level { window, process: sights[0].process, low: lows[at], high: highs[at], calls: sights.len() as u64 }
}

fn median(values: &mut [i64]) -> i64 {
    values.sort_unstable();
    values.get(values.len() / 2).copied().unwrap_or(0)
}

/// What all neighbours say of two processes together. Where they contradict each other, one of them was not waited for,
/// and nothing is told.
fn together(mut seen: Vec<Distance>) -> Vec<Distance> {
    seen.sort_by_key(|distance| (distance.one, distance.other, distance.neighbours.first().copied()));
    let all = |seen: &[Distance]| {
        let low_ns = seen.iter().map(|distance| distance.low_ns).max()?;
        let high_ns = seen.iter().map(|distance| distance.high_ns).min()?;
        let apart = low_ns > 0 || high_ns < 0;
        let says_so = |distance: &&Distance| distance.is_apart() == apart;
        let neighbours = seen.iter().filter(says_so).flat_map(|distance| distance.neighbours.iter().copied()).collect();
        let calls = seen.iter().filter(says_so).map(|distance| distance.calls).sum();
        let (one, other) = (seen[0].one, seen[0].other);
        (low_ns <= high_ns).then_some(Distance { one, other, low_ns, high_ns, neighbours, calls })
    };
    seen.chunk_by(|left, right| (left.one, left.other) == (right.one, right.other)).filter_map(all).collect()
}

/// From call to call of one process, ns.
fn gaps(sights: &[Sight]) -> impl Iterator<Item = i64> + '_ {
    sights.windows(2).map(|two| two[1].at.saturating_sub(two[0].at))
}

#[cfg(test)]
mod tests {
    use super::super::sights::made::{MS, Process, SECOND, calls};
    use super::*;
    use crate::clock::Use;

    const RIGHT: fn(i64, i64) -> i64 = |_, _| 0;
    const AHEAD: fn(i64, i64) -> i64 = |_, _| 10 * MS;

    /// What is told of processes 0 and 1, which go by one key, by these calls; process 2 and those behind it have clocks
    /// of their own.
    fn told(calls: &[Vec<Call>]) -> Vec<Distance> {
        let clocks: Vec<ClockId> = [0, 0, 1, 2, 3].map(ClockId).to_vec();
        apart(&calls.concat(), &clocks).distances
    }

    fn check_one(calls: &[Vec<Call>]) {
        let told = told(calls);
        assert!(told.iter().all(|distance| !distance.is_apart()), "{told:?}");
    }

    #[test]
    fn clocks_ten_milliseconds_apart_are_told_by_a_common_neighbour() {
        let told = told(&[calls((2, RIGHT), (0, AHEAD), (MS, MS)), calls((1, RIGHT), (2, RIGHT), (MS, MS))]);
        let [distance] = &told[..] else { panic!("{told:?}") };
        assert!(distance.is_apart() && distance.low_ns > 5 * MS && distance.high_ns < 15 * MS, "{distance:?}");
        assert_eq!((distance.one, distance.other, distance.calls), (0, 1, 200));
        assert_eq!(distance.neighbours, BTreeSet::from([2]));
    }

    #[test]
    fn clocks_that_call_each_other_need_no_neighbour() {
        let told = told(&[calls((1, AHEAD), (0, RIGHT), (MS, MS))]);
        assert!(told.len() == 1 && told[0].high_ns < -5 * MS && told[0].low_ns > -15 * MS, "{told:?}");
        check_one(&[calls((1, AHEAD), (0, AHEAD), (MS, MS))]);
    }

    #[test]
    fn neither_a_step_nor_a_slew_nor_a_saw_tooth_of_both_is_anything_between_them() {
        let step: fn(i64, i64) -> i64 = |at, _| if at > 20 * SECOND { -7 * SECOND } else { 3 * MS };
        let slew: fn(i64, i64) -> i64 = |at, _| at / 2_000;
        let saw: fn(i64, i64) -> i64 = |at, _| at % (9 * SECOND) / 14;
        for trouble in [step, slew, saw] {
            let of = |process: Process| calls((2, RIGHT), process, (MS, MS));
            check_one(&[of((0, trouble)), of((1, trouble))]);
            // Nor is one of the neighbour.
            check_one(&[0, 1].map(|process| calls((2, trouble), (process, RIGHT), (MS, MS))));
        }
    }

    #[test]
    fn a_path_that_is_slow_one_way_is_no_other_clock() {
        let crooked = [calls((2, RIGHT), (0, RIGHT), (80 * MS, MS)), calls((2, RIGHT), (1, RIGHT), (MS, 90 * MS))];
        check_one(&crooked);
    }

    #[test]
    fn floored_starts_are_no_other_clock() {
        let mut floored = calls((2, RIGHT), (0, RIGHT), (MS, MS));
        for Call { exchange, .. } in &mut floored {
            exchange.server_quantum_ns = SECOND as u32;
            exchange.request_received = exchange.request_received.plus(-900 * MS);
            exchange.response_sent = exchange.response_sent.plus(-900 * MS);
        }
        check_one(&[floored, calls((2, RIGHT), (1, RIGHT), (MS, MS))]);
    }

    /// A queue's work begins late, and nobody waits for its end: most ends come after the client's, some do not.
    #[test]
    fn calls_that_nobody_waits_for_part_no_clocks() {
        let mut queue = calls((2, RIGHT), (0, RIGHT), (40 * MS, -35 * MS));
        for call in queue.iter_mut().step_by(2) {
            call.exchange.response_sent = call.exchange.response_sent.plus(90 * MS);
            call.exchange.counts = Use::ForwardOnly;
        }
        check_one(&[queue, calls((2, RIGHT), (1, RIGHT), (MS, MS))]);
    }

    /// Two neighbours that cannot both be right leave nothing told.
    #[test]
    fn neighbours_that_contradict_each_other_part_no_clocks() {
        let with = |neighbour, process| calls((neighbour, RIGHT), process, (MS, MS));
        check_one(&[with(2, (0, AHEAD)), with(2, (1, RIGHT)), with(3, (0, RIGHT)), with(3, (1, RIGHT))]);
    }

    #[test]
    fn a_few_seconds_of_calls_part_no_clocks() {
        let few = |calls: Vec<Call>| calls[..10].to_vec();
        check_one(&[0, 1].map(|process| few(calls((2, RIGHT), (process, [AHEAD, RIGHT][process as usize]), (MS, MS)))));
    }
}
