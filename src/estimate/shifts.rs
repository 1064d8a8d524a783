//! Steps that no single reading shows: what the calls with all neighbours say of a clock before a moment and after it.
//!
//! A step within what delays spread over hardly bends a curve: smeared over minutes, it passes for drift. What gives it away is
//! that the calls of all neighbours, both ways, come off the curve by as much at one moment.

use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::ops::Range;

use rayon::iter::{IntoParallelRefIterator, ParallelIterator};

use super::curves::{Break, Curves, Shape};
use super::evidence::Side;
use super::observation::Observation;
use super::scale::{Scale, quantile, upper_median};
use super::solve::Block;
use super::steps::RUNS_PPM;

/// In knots: so long before and after a moment is looked at.
const REACHES: [f64; 3] = [12.0, 36.0, 108.0];

/// A shift of the mean by so many of its deviations is worth a closer look.
const SUSPECT: f64 = 3.0;

/// By how much readings have to be likelier with a step than without, as a logarithm. (Fleets `far`: steps of 4 to 29 ms, where
/// delays spread over 6 to 10, have 44 to 112. Of 18 fleets without steps, one has 39, one 29, the others no more than 21.)
const GAIN: f64 = 40.0;

/// This part of the evidence has to agree that a clock shifts, lest it be a neighbour.
const AGREED: f64 = 0.75;

/// Readings this near to a break, in knots, may be on its wrong side.
const BESIDE: f64 = 2.0;

/// Of a mean, none is further off than so many deviations: calls may be given up.
const OUTLYING: f64 = 3.0;

/// Fewer readings of a route and direction say nothing of what it is like.
const LEAST: usize = 6;

/// A route's delays are above a low one by its jitter, and below it by a quarter of that: a fifth of them, by such a density.
const LOW: f64 = 0.2;
const EARLY: f64 = 4.0;

/// None counts for more than this: there are calls that nobody waited for.
const ALONE: f64 = 8.0;

/// Floored readings count together or not at all, ns².
const FLOORED: f64 = 1e6;

/// Levels that are tried on either side of a moment, from −1.5 to 1.5 times what the means differ by.
const LEVELS: usize = 13;

/// What the curves leave of one route's delays one way.
struct Leg {
    client: u32,
    server: u32,
    forward: bool,
    /// Place on the grid and what is left, ns, less its median; in order of place.
    left: Vec<(f64, f64)>,
    /// What it spreads over, ns.
    deviation: f64,
    /// A low one, less the median, ns.
    low: f64,
    jitter: f64,
}

/// By how much a clock comes off its curve at a place on the grid, ns.
#[derive(Clone, Copy, Debug)]
struct Shift {
    at: f64,
    size: f64,
    /// How much likelier readings are with it.
    gain: f64,
    /// So far around it was looked, in knots.
    reach: f64,
}

/// Steps for clocks that shift surely; of those that disturb each other, the surest. `used` are readings that were waited for,
/// whatever the curves say of them.
pub(super) fn find(
    curves: &Curves,
    observations: &[Observation],
    used: &[bool],
    scales: &[Scale],
    spacing_ns: f64,
) -> Vec<Break> {
    let legs = legs(curves, observations, used, scales);
    let mut of_clock: BTreeMap<u32, Vec<&Leg>> = BTreeMap::new();
    for leg in &legs {
        for clock in [leg.client, leg.server] {
            if curves.blocks[clock as usize].count > 0 {
                of_clock.entry(clock).or_default().push(leg);
            }
        }
    }
    let shifts = |(&clock, legs): (&u32, &Vec<&Leg>)| -> Vec<(u32, Shift)> {
        let steady =
            |shift: &Shift| is_steady(curves, clock, [shift.at - shift.reach, shift.at + shift.reach], spacing_ns);
        shifts(legs, clock, curves.places(clock as usize))
            .into_iter()
            .filter(steady)
            .map(|shift| (clock, shift))
            .collect()
    };
    let mut candidates: Vec<(u32, Shift)> = of_clock.par_iter().flat_map_iter(shifts).collect();
    candidates.sort_by(|(one, a), (other, b)| b.gain.total_cmp(&a.gain).then(one.cmp(other)));
    let mut found: Vec<(u32, Shift)> = Vec::new();
    for (clock, shift) in candidates {
        let disturbs = |(other, theirs): &(u32, Shift)| {
            let near = (shift.at - theirs.at).abs() < shift.reach.max(theirs.reach);
            let neighbours = || of_clock[&clock].iter().any(|leg| leg.client == *other || leg.server == *other);
            near && (clock == *other || neighbours())
        };
        if !found.iter().any(disturbs) {
            found.push((clock, shift));
        }
    }
    let as_break = |(clock, Shift { at, size, .. })| Break {
        clock,
        from: at,
        to: at,
        size,
        least: f64::abs(size) / 2.0,
        jump_ns: 0,
        shape: Shape::Whole,
    };
    found.into_iter().map(as_break).collect()
}

/// Whether a clock keeps its usual run between two places. Where a slew is followed late, no step is told from that.
fn is_steady(curves: &Curves, clock: u32, [from, to]: [f64; 2], spacing_ns: f64) -> bool {
    let Block { start, count } = curves.blocks[clock as usize];
    let knot = |at: f64| (at - curves.first[clock as usize] as f64).clamp(0.0, count as f64) as usize;
    let slopes = curves.values[start + knot(from)..start + knot(to)].windows(2).map(|pair| pair[1] - pair[0]);
    let (least, most) =
        slopes.fold((f64::INFINITY, f64::NEG_INFINITY), |(least, most), slope| (least.min(slope), most.max(slope)));
    let slews = |found: &Break| found.from < found.to && found.from < to && from < found.to;
    let has_slew = curves.of_clock[clock as usize].iter().any(|&index| slews(&curves.breaks[index]));
    !has_slew && most - least < RUNS_PPM * spacing_ns / 1e6
}

fn legs(curves: &Curves, observations: &[Observation], used: &[bool], scales: &[Scale]) -> Vec<Leg> {
    let is_beside = |clock: u32, at: f64| {
        curves.of_clock[clock as usize]
            .iter()
            .map(|&index| &curves.breaks[index])
            .any(|found| found.from - BESIDE < at && at < found.to + BESIDE)
    };
    let mut legs = Vec::new();
    let mut start = 0;
    for of_route in observations.chunk_by(|left, right| left.route == right.route) {
        let used = &used[start..start + of_route.len()];
        start += of_route.len();
        let (Observation { client, server, .. }, scale) = (of_route[0], &scales[of_route[0].route as usize]);
        let counted = of_route.iter().zip(used).filter(|(o, used)| **used && o.floored_variance() < FLOORED);
        let (mut out, mut back) = (Vec::new(), Vec::new());
        for (o, _) in counted.filter(|(o, _)| ![client, server].iter().any(|&clock| is_beside(clock, o.place()))) {
            if o.side != Side::Backward {
                out.push((o.sent, o.out(curves)));
            }
            if o.is_two_sided() {
                back.push((o.returned, o.back(curves)));
            }
        }
        for (forward, left, jitter) in [(true, out, scale.jitter_out), (false, back, scale.jitter_back)] {
            if left.len() >= LEAST {
                legs.push(Leg::new(client, server, forward, left, jitter));
            }
        }
    }
    legs
}

impl Leg {
    fn new(client: u32, server: u32, forward: bool, mut left: Vec<(f64, f64)>, jitter: f64) -> Self {
        left.sort_unstable_by(|one, other| one.partial_cmp(other).unwrap_or(Ordering::Equal));
        let usual = upper_median(left.iter().map(|left| left.1).collect());
        let spread = 1.48 * upper_median(left.iter().map(|left| (left.1 - usual).abs()).collect());
        let deviation = spread.max(jitter).max(1e3);
        for (_, left) in &mut left {
            *left = (*left - usual).clamp(-OUTLYING * deviation, OUTLYING * deviation);
        }
        let mut sorted: Vec<f64> = left.iter().map(|left| left.1).collect();
        sorted.sort_unstable_by(f64::total_cmp);
        let low = quantile(&sorted, LOW);
        Self { client, server, forward, left, deviation, low, jitter }
    }

    /// Whether what is left grows or falls where a clock is further ahead.
    fn sign(&self, clock: u32) -> f64 {
        if self.forward == (self.server == clock) { 1.0 } else { -1.0 }
    }

    fn other(&self, clock: u32) -> u32 {
        if self.client == clock { self.server } else { self.client }
    }

    fn between(&self, from: f64, to: f64) -> Range<usize> {
        let place = |place: f64| self.left.partition_point(|left| left.0 < place);
        place(from)..place(to)
    }

    /// How badly a delay fits by the logarithm of how likely it is, where the clock is off its curve by so much.
    fn cost(&self, left: f64, off: f64) -> f64 {
        let over = (left - off - self.low) / self.jitter;
        if over < 0.0 { (EARLY * -over).min(ALONE) } else { over.min(ALONE) }
    }

    fn mean(&self, range: Range<usize>) -> f64 {
        self.left[range.clone()].iter().map(|left| left.1).sum::<f64>() / range.len() as f64
    }
}

/// A weighted mean.
#[derive(Clone, Copy, Default)]
struct Mean {
    sum: f64,
    weight: f64,
}

impl Mean {
    fn add(&mut self, value: f64, weight: f64) {
        self.sum += value * weight;
        self.weight += weight;
    }

    fn value(self) -> f64 {
        self.sum / self.weight
    }

    /// Whether it says about the same as a shift of that size: half of it, or its own deviation, is as far as it may be from that.
    fn agrees(self, size: f64) -> bool {
        self.weight > 0.0 && (self.value() - size).abs() <= (size.abs() / 2.0).max(self.weight.sqrt().recip())
    }
}

/// All moments at which one clock surely shifts, between its knots: a reading beyond them may be years away.
fn shifts(legs: &[&Leg], clock: u32, knots: impl Iterator<Item = f64>) -> Vec<Shift> {
    let ends = legs.iter().filter_map(|leg| Some((leg.left.first()?.0, leg.left.last()?.0)));
    let (first, last) =
        ends.fold((f64::INFINITY, f64::NEG_INFINITY), |all, (first, last)| (all.0.min(first), all.1.max(last)));
    let knots: Vec<f64> = knots.collect();
    let (Some(&from), Some(&until)) = (knots.first(), knots.last()) else { return Vec::new() };
    let (first, last) = (first.max(from), last.min(until));
    let mut shifts = Vec::new();
    for reach in REACHES {
        let places = (1..).map(|k| first + f64::from(k) * reach / 6.0).take_while(|&at| at < last);
        let shift = |at: f64| step(legs, clock, at, reach, suspected(legs, clock, at, reach)?);
        shifts.extend(places.filter_map(shift).filter(|shift| shift.gain > GAIN));
    }
    shifts
}

/// The step near a place that makes readings around it likeliest, if they shift there by about so much.
fn step(legs: &[&Leg], clock: u32, at: f64, reach: f64, size: f64) -> Option<Shift> {
    let mut near: Vec<(f64, [f64; LEVELS])> = Vec::new();
    let off = |k: usize| (k as f64 / (LEVELS - 1) as f64 * 3.0 - 1.5) * size;
    for leg in legs {
        for &(place, left) in &leg.left[leg.between(at - reach, at + reach)] {
            near.push((place, std::array::from_fn(|k| leg.cost(left, leg.sign(clock) * off(k)))));
        }
    }
    near.sort_unstable_by(|one, other| one.0.total_cmp(&other.0));
    let mut after = [0.0; LEVELS];
    near.iter().for_each(|(_, costs)| (0..LEVELS).for_each(|k| after[k] += costs[k]));
    let least = |costs: &[f64; LEVELS]| (0..LEVELS).min_by(|&a, &b| costs[a].total_cmp(&costs[b])).unwrap_or(0);
    let without = after[least(&after)];
    let mut before = [0.0; LEVELS];
    let mut best: Option<Shift> = None;
    for (index, (place, costs)) in near.iter().enumerate() {
        for k in 0..LEVELS {
            before[k] += costs[k];
            after[k] -= costs[k];
        }
        if (place - at).abs() > reach / 2.0 {
            continue;
        }
        let (early, late) = (least(&before), least(&after));
        let gain = without - before[early] - after[late];
        if best.is_none_or(|best| gain > best.gain) {
            let next = near.get(index + 1).map_or(*place, |next| next.0);
            best = Some(Shift { at: (place + next) / 2.0, size: off(late) - off(early), gain, reach });
        }
    }
    best
}

/// By how much what is left changes at a place, in the mean, ns; `None` where it hardly does, or not both ways and with all
/// neighbours alike.
fn suspected(legs: &[&Leg], clock: u32, at: f64, reach: f64) -> Option<f64> {
    let mut all = Mean::default();
    let mut ways = [Mean::default(); 2];
    let mut neighbours: BTreeMap<u32, Mean> = BTreeMap::new();
    for leg in legs {
        let (before, after) = (leg.between(at - reach, at), leg.between(at, at + reach));
        if before.len() < 2 || after.len() < 2 {
            continue;
        }
        let weight = 1.0 / (leg.deviation.powi(2) * (1.0 / before.len() as f64 + 1.0 / after.len() as f64));
        let size = leg.sign(clock) * (leg.mean(after) - leg.mean(before));
        all.add(size, weight);
        ways[usize::from(leg.sign(clock) > 0.0)].add(size, weight);
        neighbours.entry(leg.other(clock)).or_default().add(size, weight);
    }
    if all.weight == 0.0 {
        return None;
    }
    let size = all.value();
    if !ways.iter().all(|way| way.agrees(size)) {
        return None;
    }
    let agreed: f64 = neighbours.values().filter(|of| of.agrees(size)).map(|of| of.weight).sum();
    (agreed >= AGREED * all.weight && size.abs() * all.weight.sqrt() > SUSPECT).then_some(size)
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng;
    use rand_distr::{Distribution, Exp1};
    use rand_pcg::Pcg64Mcg;

    use super::*;

    const JITTER: f64 = 2e6;
    const ROUTES: [(u32, u32); 4] = [(0, 1), (1, 2), (3, 1), (0, 2)];

    /// What is found of clocks that should all be where they are, each leg of a call (a place, a route, a direction) being longer
    /// by so much.
    fn found(longer: impl Fn(f64, (u32, u32), bool) -> f64) -> Vec<Break> {
        let curves = Curves::new(&[None, Some((0, 119)), Some((0, 119)), Some((0, 119))], Vec::new(), 0);
        let mut dice = Pcg64Mcg::seed_from_u64(7);
        let mut calls = Vec::new();
        for (route, pair) in (0..).zip(ROUTES) {
            for call in 0..357 {
                let mut leg = |forward: bool, at: f64| -> f64 {
                    let queue: f64 = Exp1.sample(&mut dice);
                    5e5 + JITTER * queue + longer(at, pair, forward)
                };
                let at = f64::from(call) / 3.0;
                let (forward, backward) = (leg(true, at), leg(false, at));
                let call = Observation { forward, backward, ..Observation::between(&curves, route, pair, at) };
                calls.extend([Side::Forward, Side::Backward].map(|side| Observation { side, ..call }));
            }
        }
        let scale = Scale { delay: 1e6, jitter_out: JITTER, jitter_back: JITTER, calls: 357.0 };
        find(&curves, &calls, &vec![true; calls.len()], &[scale; ROUTES.len()], 5e9)
    }

    /// A clock's step of 1.2 ms: what reaches it seems to take longer, and what it sends shorter.
    fn stepped(clock: u32) -> impl Fn(f64, (u32, u32), bool) -> f64 {
        move |at, (client, server), forward| {
            let (sender, receiver) = if forward { (client, server) } else { (server, client) };
            let ahead = f64::from(clock == receiver) - f64::from(clock == sender);
            if at > 61.0 { 1.2e6 * ahead } else { 0.0 }
        }
    }

    #[test]
    fn a_step_that_each_delay_hides_is_found_by_all_of_them() {
        for clock in [1, 2] {
            let found = found(stepped(clock));
            let [Break { clock: whose, from, size, .. }] = found[..] else { panic!("{found:?}") };
            assert_eq!(whose, clock);
            assert!((from - 61.0).abs() < 3.0 && (size - 1.2e6).abs() < 4e5, "{found:?}");
        }
    }

    #[test]
    fn delays_that_grow_one_way_or_with_one_neighbour_are_no_step() {
        assert_eq!(found(|_, _, _| 0.0), []);
        assert_eq!(found(|at, _, forward| if at > 61.0 && forward { 2e6 } else { 0.0 }), []);
        let one = stepped(1);
        assert_eq!(found(|at, pair, forward| if pair == (0, 1) { one(at, pair, forward) } else { 0.0 }), []);
    }
}
