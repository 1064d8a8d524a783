//! What calls say of processes → those that are two clocks by themselves.
//!
//! Two machines with equal resources, or a process with two sources of time: call by call its times go to and fro, as
//! those of no clock do that steps or slews.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};

use rayon::prelude::*;

use super::sights::Sight;

/// A process whose own times are of two clocks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mixed {
    pub process: u32,
    pub neighbours: BTreeSet<u32>,
    pub calls: u64,
}

/// Two clocks under one process contradict each other call by call, to and fro: this share of the calls goes one way,
/// and as many the other. Two equal clocks give a quarter, one with a fifth of the calls 0.16; a hostile fleet's calls
/// less than 0.05, as do a clock's own steps.
const TO_AND_FRO: f64 = 0.12;

/// And so many of them.
const LEAST_TURNS: usize = 12;

/// Only between calls so near to each other, ns: a clock that runs off and is set back every minute turns as well.
const NEAR_NS: i64 = 2_000_000_000;

/// How often the times of a process and its neighbour go to and fro, in the order of one of their clocks; and of how
/// many calls that could be told.
fn turns(sights: &mut [Sight], order: fn(&Sight) -> i64) -> (usize, usize) {
    sights.sort_unstable_by_key(|sight| (order(sight), *sight));
    let near = || sights.windows(2).filter(|pair| order(&pair[1]).saturating_sub(order(&pair[0])) < NEAR_NS);
    let [ahead, back] = [
        near().filter(|pair| pair[1].is_beyond(&pair[0])).count(),
        near().filter(|pair| pair[0].is_beyond(&pair[1])).count(),
    ];
    (ahead.min(back), near().count())
}

/// How two processes go with each other.
struct Pair {
    process: u32,
    neighbour: u32,
    turns: usize,
    near: usize,
    calls: u64,
}

impl Pair {
    /// As by the clock of a neighbour that stepped back all calls of twice the same time turn, both clocks have to say so.
    fn of(sights: &[Sight]) -> Self {
        let mut sorted = sights.to_vec();
        let (turns, near) = turns(&mut sorted, |sight| sight.at).min(turns(&mut sorted, |sight| sight.own));
        let (process, neighbour) = (sights[0].process, sights[0].neighbour);
        Self { process, neighbour, turns, near, calls: sights.len() as u64 }
    }

    fn turns_much(&self) -> bool {
        self.turns >= LEAST_TURNS && self.turns as f64 >= TO_AND_FRO * self.near as f64
    }
}

/// The processes that explain the pairs that go to and fro. Which of two it is, the other calls of both tell; where there
/// are none, nobody is named, nor where both seem to be one clock elsewhere: they were set back about the same time, and
/// each reads the times twice by which the other is judged.
pub(super) fn mixed(relations: &[&[Sight]]) -> Vec<Mixed> {
    let pairs: Vec<&[Sight]> =
        relations.iter().flat_map(|sights| sights.chunk_by(|left, right| left.process == right.process)).collect();
    let mut pairs: Vec<Pair> = pairs.into_par_iter().map(Pair::of).collect();
    let mut mixed = Vec::new();
    while pairs.iter().any(Pair::turns_much) {
        let mut sums: BTreeMap<u32, (usize, usize)> = BTreeMap::new();
        for pair in &pairs {
            let (turns, near) = sums.entry(pair.process).or_default();
            (*turns, *near) = (*turns + pair.turns, *near + pair.near);
        }
        let elsewhere = |process: u32, pair: &Pair| {
            let (turns, near) = sums[&process];
            let (turns, near) = (turns.saturating_sub(pair.turns), near.saturating_sub(pair.near));
            // In thousandths, so that equal is equal.
            if near < LEAST_TURNS { UNKNOWN } else { 1000 * turns / near }
        };
        let suspects = pairs.iter().filter(|pair| pair.turns_much()).filter_map(|pair| {
            let [own, other] = [pair.process, pair.neighbour].map(|process| elsewhere(process, pair));
            (own > other && own >= UNKNOWN).then_some((own, Reverse(pair.process)))
        });
        let Some((_, Reverse(process))) = suspects.max() else { break };
        let own = || pairs.iter().filter(|pair| pair.process == process && pair.turns_much());
        let neighbours = own().map(|pair| pair.neighbour).collect();
        mixed.push(Mixed { process, neighbours, calls: own().map(|pair| pair.calls).sum() });
        pairs.retain(|pair| pair.process != process && pair.neighbour != process);
    }
    mixed.sort_unstable_by_key(|mixed| mixed.process);
    mixed
}

/// The share of turns, in thousandths, of a process that talks to nobody else: more than that of hostile calls, less
/// than that of two clocks.
const UNKNOWN: usize = 60;

#[cfg(test)]
mod tests {
    use super::super::apart::apart;
    use super::super::sights::Call;
    use super::super::sights::made::{MS, SECOND, calls};
    use crate::clock::ClockId;

    const RIGHT: fn(i64, i64) -> i64 = |_, _| 0;
    /// Of two machines, each call reaches one or the other.
    const TWO: fn(i64, i64) -> i64 = |_, number| number * 5 % 7 / 4 * 30 * MS;

    fn check(calls: &[Vec<Call>], expected: &[u32]) {
        let clocks: Vec<ClockId> = (0..5).map(ClockId).collect();
        let mixed = apart(&calls.concat(), &clocks).mixed;
        assert_eq!(mixed.iter().map(|mixed| mixed.process).collect::<Vec<_>>(), expected, "{mixed:?}");
    }

    #[test]
    fn a_process_that_is_two_clocks_is_named_and_its_neighbours_are_not() {
        let with = |neighbour| calls((neighbour, RIGHT), (0, TWO), (MS, MS));
        check(&[with(1), with(2)], &[0]);
        // One neighbour that talks to others as well tells it.
        check(&[with(1), calls((1, RIGHT), (2, RIGHT), (MS, MS))], &[0]);
    }

    #[test]
    fn of_two_that_talk_to_nobody_else_none_is_named() {
        check(&[calls((1, RIGHT), (0, TWO), (MS, MS))], &[]);
    }

    #[test]
    fn two_clocks_that_are_set_back_together_are_one_each() {
        // A few calls of the first are odd.
        fn odd(number: i64) -> i64 {
            i64::from(number % 25 == 7) * 30 * MS
        }
        let back: fn(i64, i64) -> i64 = |at, number| odd(number) - i64::from(at > 25 * SECOND) * 25 * SECOND;
        let soon: fn(i64, i64) -> i64 = |at, _| if at > 24 * SECOND { -20 * SECOND } else { 0 };
        let with = |client, server| calls(client, server, (MS, MS));
        let steady = (2, RIGHT);
        check(&[with((1, soon), (0, back)), with(steady, (0, back)), with(steady, (1, soon))], &[]);
    }

    #[test]
    fn a_clock_that_steps_or_runs_off_is_one() {
        let back: fn(i64, i64) -> i64 = |at, _| if at > 25 * SECOND { -25 * SECOND } else { 0 };
        let saw: fn(i64, i64) -> i64 = |at, _| at % (9 * SECOND) / 14;
        for trouble in [back, saw] {
            check(&[1, 2].map(|neighbour| calls((neighbour, RIGHT), (0, trouble), (MS, MS))), &[]);
        }
    }
}
