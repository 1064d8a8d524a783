//! The gate: what is put back, as to move it would leave more out of order than it found.
//!
//! An estimator may be wrong in ways that nobody has thought of, but whether its corrections put parents and children in
//! order is known before any is written. In come all pairs with their recorded and corrected times, and for each span
//! the units that it is moved with (a segment of its clock, or the work of one call); out go the units to leave as
//! recorded. No stated uncertainty is taken off what is counted, as a model that is wrong states a wrong one.

use std::cmp::Reverse;
use std::collections::BTreeSet;

use crate::clock::{ClockId, Disorder, Pair, Times};

/// A span that is moved with nothing.
pub const NO_UNIT: u32 = u32::MAX;

/// What is moved, or left as recorded, as one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Unit {
    Segment {
        clock: ClockId,
        number: usize,
    },
    /// The work of one call, by the span that took it.
    Work {
        span: u32,
    },
}

/// Why a unit was left as recorded.
#[derive(Clone, Debug, PartialEq)]
pub enum Why {
    /// No clock is slewed as fast as its offset would change, ppm.
    Rate(f64),
    /// It would leave more out of order than it found.
    Worse(PutBack),
}

/// A unit that was left as recorded.
#[derive(Clone, Debug, PartialEq)]
pub struct Left {
    pub unit: Unit,
    pub why: Why,
}

/// What the gate decides on.
#[derive(Clone, Copy, Debug)]
pub struct Outcome<'a> {
    pub pairs: &'a [Pair],
    /// Per span, as recorded, or as an earlier run left it.
    pub before: &'a [Times],
    /// Per span, as it would be written.
    pub after: &'a [Times],
    /// Per span, the units of its start and of its end, or [`NO_UNIT`]. Where all else is equal, the one with the smaller
    /// number is put back first.
    pub units: &'a [[u32; 2]],
}

/// Pairs out of order, and the sum of what is early among them, ns.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sum {
    pub pairs: i64,
    pub early_ns: i128,
}

impl Sum {
    fn of(disorder: Disorder) -> Self {
        Self { pairs: i64::from(disorder.is_any()), early_ns: disorder.early_ns.into() }
    }

    fn plus(self, other: Self) -> Self {
        Self { pairs: self.pairs + other.pairs, early_ns: self.early_ns + other.early_ns }
    }

    fn less(self, other: Self) -> Self {
        Self { pairs: self.pairs - other.pairs, early_ns: self.early_ns - other.early_ns }
    }

    /// Of a change: more pairs are out of order, or what is early is earlier. The sum of what is late says nothing: what
    /// honestly ends late is late by more after a right move.
    fn is_worse(self) -> bool {
        self.pairs > 0 || self.early_ns > 0
    }
}

/// A pair and how far it is out of order, as recorded and as it would be written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Judged {
    pub pair: Pair,
    pub before: Disorder,
    pub after: Disorder,
}

impl Judged {
    fn change(&self) -> Sum {
        Sum::of(self.after).less(Sum::of(self.before))
    }
}

/// A unit to leave as recorded, and what to move it would have come to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PutBack {
    pub unit: u32,
    /// Pairs that one of its spans belongs to.
    pub pairs: usize,
    pub before: Sum,
    pub after: Sum,
    /// The pairs that speak most against the move, ten at the most.
    pub worst: Vec<Judged>,
    /// It is put back with all of its group, which as a whole would be worse.
    pub with_group: bool,
}

/// Pairs named for one unit, at the most.
const NAMED: usize = 10;

/// The units to put back, in order: while any is worse than it was found, all others moved, the one whose early sum grew
/// most; then, where all that pairs connect is worse as a whole, all of that. Empty where nothing needs to be.
pub fn gate(outcome: &Outcome<'_>) -> Vec<PutBack> {
    let mut gate = Gate::of(outcome);
    let mut put_back = Vec::new();
    while let Some(&(.., unit)) = gate.failing.first() {
        put_back.push(gate.put_back(unit, false));
    }
    for unit in gate.worse_together() {
        put_back.push(gate.put_back(unit, true));
    }
    put_back
}

struct Gate<'a> {
    outcome: &'a Outcome<'a>,
    /// Per span, its times as things stand.
    times: Vec<Times>,
    /// The pairs of which a span is moved, or moved with one that is.
    pairs: Vec<Judged>,
    /// Per unit, the places of its pairs.
    of_unit: Vec<Vec<u32>>,
    /// Per unit that is moved, by how much its pairs have become worse; `None` once it is put back.
    change: Vec<Option<Sum>>,
    /// Those that fail, worst first.
    failing: BTreeSet<Rank>,
}

/// Growth of the early sum, of the number of pairs, and the unit.
type Rank = (Reverse<i128>, Reverse<i64>, u32);

fn rank(unit: u32, change: Sum) -> Rank {
    (Reverse(change.early_ns), Reverse(change.pairs), unit)
}

impl<'a> Gate<'a> {
    fn of(outcome: &'a Outcome<'a>) -> Self {
        let Outcome { pairs, before, after, units } = *outcome;
        let count = units.iter().flatten().filter(|unit| **unit != NO_UNIT).max().map_or(0, |most| *most as usize + 1);
        let mut change: Vec<Option<Sum>> = vec![None; count];
        let moved = units.iter().zip(before.iter().zip(after)).filter(|(_, (before, after))| before != after);
        for &unit in moved.flat_map(|(units, _)| units).filter(|unit| **unit != NO_UNIT) {
            change[unit as usize] = Some(Sum::default());
        }
        let mut gate = Self {
            outcome,
            times: after.to_vec(),
            pairs: Vec::new(),
            of_unit: vec![Vec::new(); count],
            change,
            failing: BTreeSet::new(),
        };
        for pair in pairs {
            if gate.moved_of(pair).next().is_none() {
                continue;
            }
            let place = gate.pairs.len() as u32;
            let judged = gate.judged(pair);
            gate.pairs.push(judged);
            for unit in units_of(outcome, pair) {
                gate.of_unit[unit as usize].push(place);
                if let Some(change) = &mut gate.change[unit as usize] {
                    *change = change.plus(judged.change());
                }
            }
        }
        let fails = |(unit, change): (u32, &Option<Sum>)| change.filter(|it| it.is_worse()).map(|it| rank(unit, it));
        gate.failing = (0..).zip(&gate.change).filter_map(fails).collect();
        gate
    }

    /// Those of a pair's units that are moved.
    fn moved_of(&self, pair: &Pair) -> impl Iterator<Item = u32> {
        units_of(self.outcome, pair).filter(|unit| self.change[*unit as usize].is_some())
    }

    fn judged(&self, pair: &Pair) -> Judged {
        let [parent, child] = [pair.parent, pair.child].map(|span| span as usize);
        let before = self.outcome.before;
        Judged {
            pair: *pair,
            before: pair.disorder(before[parent], before[child]),
            after: pair.disorder(self.times[parent], self.times[child]),
        }
    }

    /// Takes all spans of a unit back to where they were found, and counts its pairs again.
    fn put_back(&mut self, unit: u32, with_group: bool) -> PutBack {
        let places = std::mem::take(&mut self.of_unit[unit as usize]);
        let judged = || places.iter().map(|&place| self.pairs[place as usize]);
        let sum = |of: fn(&Judged) -> Disorder| judged().fold(Sum::default(), |sum, one| sum.plus(Sum::of(of(&one))));
        let mut worst: Vec<Judged> = judged().filter(|one| one.after > one.before || one.change().is_worse()).collect();
        worst.sort_by_key(|one| Reverse((one.change().early_ns, one.after.late_ns - one.before.late_ns)));
        worst.truncate(NAMED);
        let told = PutBack {
            unit,
            pairs: places.len(),
            before: sum(|one| one.before),
            after: sum(|one| one.after),
            worst,
            with_group,
        };
        let Outcome { before, units, .. } = *self.outcome;
        for &place in &places {
            let pair = self.pairs[place as usize].pair;
            for span in [pair.parent, pair.child].map(|span| span as usize) {
                if units[span].contains(&unit) {
                    self.times[span] = before[span];
                }
            }
        }
        if let Some(change) = self.change[unit as usize].take() {
            self.failing.remove(&rank(unit, change));
        }
        for &place in &places {
            let old = self.pairs[place as usize];
            let new = self.judged(&old.pair);
            self.pairs[place as usize] = new;
            let more = new.change().less(old.change());
            for other in units_of(self.outcome, &old.pair) {
                if let Some(change) = &mut self.change[other as usize] {
                    self.failing.remove(&rank(other, *change));
                    *change = change.plus(more);
                    if change.is_worse() {
                        self.failing.insert(rank(other, *change));
                    }
                }
            }
        }
        told
    }

    /// Units that pairs connect and that are worse as a whole, though none is by itself: a pair between two that are moved
    /// counts for both.
    fn worse_together(&self) -> Vec<u32> {
        let mut above: Vec<u32> = (0..self.change.len() as u32).collect();
        fn root(above: &mut [u32], mut unit: u32) -> u32 {
            while above[unit as usize] != unit {
                above[unit as usize] = above[above[unit as usize] as usize];
                unit = above[unit as usize];
            }
            unit
        }
        for judged in &self.pairs {
            let mut units = self.moved_of(&judged.pair);
            let Some(first) = units.next() else { continue };
            for unit in units {
                let (one, other) = (root(&mut above, first), root(&mut above, unit));
                above[one.max(other) as usize] = one.min(other);
            }
        }
        let mut change = vec![Sum::default(); above.len()];
        for judged in &self.pairs {
            if let Some(unit) = self.moved_of(&judged.pair).next() {
                let sum = &mut change[root(&mut above, unit) as usize];
                *sum = sum.plus(judged.change());
            }
        }
        let moved = (0..above.len() as u32).filter(|unit| self.change[*unit as usize].is_some());
        moved.filter(|&unit| change[root(&mut above, unit) as usize].is_worse()).collect()
    }
}

/// The units of a pair's two spans, each once.
fn units_of(outcome: &Outcome<'_>, pair: &Pair) -> impl Iterator<Item = u32> + use<> {
    let [parent, child] = [pair.parent, pair.child].map(|span| outcome.units[span as usize]);
    let all = [parent[0], parent[1], child[0], child[1]];
    (0..4)
        .map(move |place| (all[place], !all[..place].contains(&all[place])))
        .filter_map(|(unit, is_first)| (is_first && unit != NO_UNIT).then_some(unit))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::clock::Order;

    const US: i64 = 1_000;

    fn pair(parent: u32, child: u32) -> Pair {
        Pair::new(parent, child, Order::Within, [1; 2])
    }

    /// Spans in µs: `(unit, recorded, moved to be later by)`, with the pairs between them. Gives the units that go back.
    fn check(spans: &[(u32, Times, i64)], pairs: &[(u32, u32)], expected: &[u32]) {
        let before: Vec<Times> = spans.iter().map(|(_, (start, end), _)| (start * US, end * US)).collect();
        let after: Vec<Times> =
            spans.iter().map(|(_, (start, end), by)| ((start + by) * US, (end + by) * US)).collect();
        let units: Vec<[u32; 2]> = spans.iter().map(|span| [span.0, NO_UNIT]).collect();
        let pairs: Vec<Pair> = pairs.iter().map(|&(parent, child)| pair(parent, child)).collect();
        let outcome = Outcome { pairs: &pairs, before: &before, after: &after, units: &units };
        let found: Vec<u32> = gate(&outcome).iter().map(|put_back| put_back.unit).collect();
        assert_eq!(found, expected);
    }

    #[test]
    fn what_comes_into_order_is_moved() {
        check(&[(0, (0, 100), 0), (1, (-400, -320), 410)], &[(0, 1)], &[]);
    }

    #[test]
    fn what_goes_out_of_order_is_put_back() {
        check(&[(0, (0, 100), 0), (1, (10, 90), -50)], &[(0, 1)], &[1]);
        check(&[(0, (0, 100), 0), (1, (10, 90), 50)], &[(0, 1)], &[1]);
    }

    #[test]
    fn what_is_early_must_not_be_earlier_and_what_is_late_may_be_later() {
        check(&[(0, (0, 100), 0), (1, (-10, 90), -5)], &[(0, 1)], &[1]);
        check(&[(0, (0, 100), 0), (1, (10, 110), 5)], &[(0, 1)], &[]);
    }

    /// Two right clocks and one, of which the third is moved and takes the second along: the one that is earlier goes first, and
    /// then the other is no better.
    #[test]
    fn the_worst_goes_back_first_and_what_it_leaves_is_counted_again() {
        let spans =
            [(0, (0, 100), 0), (1, (10, 90), -1_000), (2, (20, 80), -1_000), (0, (0, 100), 0), (2, (9, 90), -1_000)];
        check(&spans, &[(0, 1), (1, 2), (3, 4)], &[2, 1]);
        // One that alone is wrong leaves the other where it was.
        let spans = [(0, (0, 100), 0), (1, (10, 90), -1_000), (2, (-980, -920), 1_000)];
        check(&spans, &[(0, 1), (0, 2)], &[1]);
    }

    /// Each of two clocks that are moved puts the pair between them in order and another one out of order: by itself neither
    /// is worse, and together they are.
    #[test]
    fn what_is_worse_as_a_whole_goes_back_as_a_whole() {
        let between = [(1, (0, 100), 10), (2, (30, 110), -10)];
        let of_first = [(0, (0, 100), 0), (1, (10, 95), 10)];
        let of_second = [(2, (0, 100), -10), (0, (10, 95), 0)];
        let spans = [between, of_first, of_second].concat();
        check(&spans, &[(0, 1), (2, 3), (4, 5)], &[1, 2]);
        check(&spans[..4], &[(0, 1), (2, 3)], &[]);
    }

    proptest! {
        /// Whatever is moved by whatever, what is left moved is no worse than it was found.
        #[test]
        fn never_worse(
            spans in prop::collection::vec((0..5u32, -50..50i64, 0..60i64), 2..40),
            by in prop::collection::vec(-40..40i64, 5),
            pairs in prop::collection::vec((0..40u32, 0..40u32), 1..60),
        ) {
            let count = spans.len() as u32;
            let pairs: Vec<Pair> = pairs
                .into_iter()
                .map(|(parent, child)| (parent % count, child % count))
                .filter(|(parent, child)| spans[*parent as usize].0 != spans[*child as usize].0)
                .map(|(parent, child)| pair(parent, child))
                .collect();
            let before: Vec<Times> = spans.iter().map(|(_, start, length)| (start * US, (start + length) * US)).collect();
            let written = |back: &BTreeSet<u32>| -> Vec<Times> {
                let by = |unit: u32| if back.contains(&unit) { 0 } else { by[unit as usize] * US };
                spans.iter().zip(&before).map(|((unit, ..), (start, end))| (start + by(*unit), end + by(*unit))).collect()
            };
            let units: Vec<[u32; 2]> = spans.iter().map(|span| [span.0, NO_UNIT]).collect();
            let after = written(&BTreeSet::new());
            let outcome = Outcome { pairs: &pairs, before: &before, after: &after, units: &units };
            let back: BTreeSet<u32> = gate(&outcome).iter().map(|put_back| put_back.unit).collect();
            let total = |times: &[Times]| {
                let of = |pair: &Pair| Sum::of(pair.disorder(times[pair.parent as usize], times[pair.child as usize]));
                pairs.iter().map(of).fold(Sum::default(), Sum::plus)
            };
            let after = written(&back);
            prop_assert!(!total(&after).less(total(&before)).is_worse());
            // And it is settled: what is left moved passes.
            let outcome = Outcome { pairs: &pairs, before: &before, after: &after, units: &units };
            prop_assert_eq!(gate(&outcome), Vec::new());
        }
    }
}
