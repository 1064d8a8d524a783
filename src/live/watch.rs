//! Whether corrections do harm: calls that are more out of order as they leave than as they came, clock by clock.
//!
//! In come the calls of each request of which both spans are in it, with when it came; out goes, at any time, which clocks made
//! more of their calls out of order than fewer, minute after minute, and whether all of them together did. Models that no longer
//! fit show so within minutes, a window before the next ones come.

use std::collections::VecDeque;

use rustc_hash::FxHashMap;

use crate::clock::ClockId;

/// A call of which both spans were in one request: its clocks, and whether it was out of order as it came and as it left.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Call {
    pub clocks: [ClockId; 2],
    pub out_of_order: [bool; 2],
}

/// Minutes in a row that must say the same.
const MINUTES: usize = 3;

/// Fewer calls in a minute say nothing.
const LEAST: u64 = 20;

const MINUTE_NS: i64 = 60_000_000_000;

/// Calls, and how many of them were out of order as they came and as they left.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Counts {
    calls: u64,
    out_of_order: [u64; 2],
}

impl Counts {
    fn add(&mut self, call: &Call) {
        self.calls += 1;
        self.out_of_order.iter_mut().zip(call.out_of_order).for_each(|(count, is)| *count += u64::from(is));
    }

    fn is_worse(&self) -> bool {
        self.calls >= LEAST && self.out_of_order[1] > self.out_of_order[0]
    }
}

/// The calls of the last minutes.
#[derive(Clone, Debug, Default)]
pub struct Watch {
    /// By number of the minute, the newest last.
    minutes: VecDeque<(i64, Counts, FxHashMap<ClockId, Counts>)>,
}

/// What does harm.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Harm {
    /// In order.
    pub clocks: Vec<ClockId>,
    /// All calls together became worse.
    pub all: bool,
}

impl Watch {
    /// Adds the calls of a request that came at this time, ns.
    pub fn add(&mut self, at_ns: i64, calls: &[Call]) {
        let minute = at_ns.div_euclid(MINUTE_NS);
        if self.minutes.back().is_none_or(|(last, ..)| *last != minute) {
            self.minutes.push_back((minute, Counts::default(), FxHashMap::default()));
            while self.minutes.len() > MINUTES + 1 {
                self.minutes.pop_front();
            }
        }
        let Some((_, all, clocks)) = self.minutes.back_mut() else { return };
        for call in calls {
            all.add(call);
            call.clocks.iter().for_each(|clock| clocks.entry(*clock).or_default().add(call));
        }
    }

    /// What was worse in each of the last whole minutes before this time, ns.
    pub fn harm(&self, at_ns: i64) -> Harm {
        let now = at_ns.div_euclid(MINUTE_NS);
        let whole = || self.minutes.iter().filter(|(minute, ..)| (now - MINUTES as i64..now).contains(minute));
        if whole().count() < MINUTES {
            return Harm::default();
        }
        let last = self.minutes.iter().rev().find(|(minute, ..)| *minute < now);
        let is_worse =
            |clock: &&ClockId| whole().all(|(_, _, clocks)| clocks.get(*clock).is_some_and(Counts::is_worse));
        let mut clocks: Vec<ClockId> = last.into_iter().flat_map(|it| it.2.keys()).filter(is_worse).copied().collect();
        clocks.sort_unstable();
        Harm { clocks, all: whole().all(|(_, all, _)| all.is_worse()) }
    }

    /// Forgets what was: other models hold, or some clocks are left alone.
    pub fn begin_anew(&mut self) {
        self.minutes.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Of calls between clocks 0 and 1 in each minute so many are out of order as they came and left, of so many; and clock 1
    /// has as many calls with clock 2 that are in order.
    fn harm(minutes: &[(i64, [u64; 2], u64)], at: i64) -> Harm {
        let mut watch = Watch::default();
        for (minute, out_of_order, calls) in minutes {
            for number in 0..*calls {
                let at_ns = minute * MINUTE_NS + number as i64;
                let clocks = [ClockId(0), ClockId(1)];
                let is = |when: usize| number < out_of_order[when];
                let call = Call { clocks, out_of_order: [is(0), is(1)] };
                let other = Call { clocks: [ClockId(1), ClockId(2)], out_of_order: [false; 2] };
                watch.add(at_ns, &[call, other]);
            }
        }
        watch.harm(at * MINUTE_NS + 1)
    }

    #[test]
    fn what_is_worse_for_three_minutes_does_harm() {
        let worse = |minute| (minute, [1, 5], 30);
        let both = Harm { clocks: vec![ClockId(0), ClockId(1)], all: true };
        assert_eq!(harm(&[worse(7), worse(8), worse(9)], 10), both);
        // Not yet, no longer, not in a row, or as often better.
        assert_eq!(harm(&[worse(7), worse(8), worse(9)], 9), Harm::default());
        assert_eq!(harm(&[worse(7), worse(8), worse(9)], 11), Harm::default());
        assert_eq!(harm(&[worse(6), worse(8), worse(9)], 10), Harm::default());
        assert_eq!(harm(&[worse(7), (8, [5, 5], 30), worse(9)], 10), Harm::default());
    }

    #[test]
    fn few_calls_say_nothing() {
        let few = |minute| (minute, [0, 9], 15);
        // The second has twice as many calls, of which as many are worse.
        let second = Harm { clocks: vec![ClockId(1)], all: true };
        assert_eq!(harm(&[few(7), few(8), few(9)], 10), second);
    }

    #[test]
    fn better_is_no_harm_and_what_was_is_forgotten() {
        let better = |minute| (minute, [9, 3], 30);
        assert_eq!(harm(&[better(7), better(8), better(9)], 10), Harm::default());
        let mut watch = Watch::default();
        for minute in 7..10 {
            let call = Call { clocks: [ClockId(0), ClockId(1)], out_of_order: [false, true] };
            watch.add(minute * MINUTE_NS, &[call; 25]);
        }
        assert!(watch.harm(10 * MINUTE_NS).all);
        watch.begin_anew();
        assert_eq!(watch.harm(10 * MINUTE_NS), Harm::default());
    }
}
