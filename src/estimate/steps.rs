//! Steps and fast slews: where a solved curve runs away, and when exactly.
//!
//! In come curves that bend freely; out go breaks whose sizes the next solve has as unknowns. Without them a step is
//! smeared over the knots around it, and the guard then sets its witnesses aside (ESTIMATOR.md, second prototype, 5).

use std::cmp::Ordering;
use std::collections::BTreeSet;

use rayon::iter::{IntoParallelIterator, ParallelIterator};

use super::curves::{Break, Curves, Shape};
use super::evidence::Side;
use super::observation::Observation;
use super::scale::{Scale, upper_median};
use super::solve::Block;

/// A curve that runs faster than this, beside its own usual run, is on its way from one offset to another.
pub(super) const RUNS_PPM: f64 = 200.0;

/// Runs shorter than this many knots may be steps.
const STEP_KNOTS: usize = 6;

/// A ramp must fit this much better than a step to be believed: any step is a steep ramp.
const RAMP_FITS: f64 = 0.75;

/// By how much readings must fit better with a break than with the lines before or after it alone, where it is no larger than
/// what they spread over: what they fit by is about a logarithm of how likely they are. (Fleets `slow_steps`: p95 1.3 ms, and
/// 2.8 without such breaks.)
const TOGETHER: f64 = 40.0;

/// As there are calls that nobody waited for, none counts for more than this.
const ALONE: f64 = 8.0;

/// A run of one clock's curve away from its usual slope: between two knots of the grid.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Run {
    clock: u32,
    from: usize,
    to: usize,
}

/// One inequality on a clock's offset, the other clock taken as the model has it: offset ≤ or ≥ `bound` at `at`.
#[derive(Clone, Copy, Debug)]
struct Witness {
    at: f64,
    bound: f64,
    upper: bool,
    /// What the delay usually is, and how far it spreads, ns.
    usual: f64,
    spread: f64,
}

impl Witness {
    /// How badly an offset fits: an impossible delay weighs four times what a long one does, and a very long one no
    /// more than a long one.
    fn cost(&self, offset: f64) -> f64 {
        let delay = if self.upper { self.bound - offset } else { offset - self.bound };
        let off = (delay - self.usual) / self.spread;
        if off < 0.0 { (4.0 * -off).min(40.0) } else { off.min(10.0) }
    }
}

/// The breaks that a clock should have beside or instead of those that it has. Only the largest of those that disturb
/// each other: a step of one clock bends the curves of its neighbours.
pub(super) fn find(
    curves: &Curves,
    observations: &[Observation],
    used: &[bool],
    scales: &[Scale],
    spacing_ns: f64,
) -> Vec<Break> {
    let mut neighbours: BTreeSet<(u32, u32)> = BTreeSet::new();
    for of_route in observations.chunk_by(|left, right| left.route == right.route) {
        neighbours.extend([(of_route[0].client, of_route[0].server), (of_route[0].server, of_route[0].client)]);
    }
    let runs: Vec<Vec<Run>> = (0..curves.blocks.len() as u32).map(|clock| runs(curves, clock, spacing_ns)).collect();
    let mut of_clock: Vec<Vec<&Observation>> = vec![Vec::new(); runs.len()];
    for (observation, _) in observations.iter().zip(used).filter(|(_, used)| **used) {
        for clock in [observation.client, observation.server] {
            if !runs[clock as usize].is_empty() {
                of_clock[clock as usize].push(observation);
            }
        }
    }
    let places = |(clock, (runs, of_clock)): (usize, (Vec<Run>, Vec<&Observation>))| -> Vec<Break> {
        let witnesses = witnesses(curves, &of_clock, scales, clock as u32);
        let placed = runs.into_iter().filter_map(|run| place(curves, &witnesses, run));
        placed.filter(|new| !curves.breaks.iter().any(|old| stands(old, new))).collect()
    };
    let clocks: Vec<_> = runs.into_iter().zip(of_clock).enumerate().filter(|(_, (runs, _))| !runs.is_empty()).collect();
    let mut candidates: Vec<Break> = clocks.into_par_iter().flat_map_iter(places).collect();
    candidates.sort_by(|a, b| b.size.abs().total_cmp(&a.size.abs()).then(a.clock.cmp(&b.clock)));
    let mut found: Vec<Break> = Vec::new();
    for candidate in candidates {
        let disturbs = |other: &Break| {
            let near = other.from - NEAR < candidate.to && candidate.from < other.to + NEAR;
            near && (other.clock == candidate.clock || neighbours.contains(&(other.clock, candidate.clock)))
        };
        if !found.iter().any(disturbs) {
            found.push(candidate);
        }
    }
    found
}

/// Drops breaks that the solve made small, and adds what was found; one beside an old one takes its place. Says whether
/// anything changed.
pub(super) fn adopt(breaks: &mut Vec<Break>, curves: &Curves, found: Vec<Break>) -> bool {
    let sizes = &curves.values[curves.knots()..];
    let before = breaks.len();
    let stays = |(old, size): &(&Break, &f64)| old.jump_ns != 0 || size.abs() >= old.least;
    *breaks = breaks.iter().zip(sizes).filter(stays).map(|(old, _)| *old).collect();
    let mut changed = breaks.len() < before;
    for new in found {
        breaks.retain(|old| old.jump_ns != 0 || !beside(old, &new));
        breaks.push(new);
        changed = true;
    }
    sort(breaks);
    changed
}

pub(super) fn sort(breaks: &mut [Break]) {
    breaks.sort_unstable_by(|a, b| (a.clock, a.from).partial_cmp(&(b.clock, b.from)).unwrap_or(Ordering::Equal));
}

/// Whether a break that was found has its unknown already. What the solve made of it is its size; asked for again and
/// again, it would keep back the step of a neighbour that it answers to. (Fleet `steps`, seed 513: 298 ms of one clock
/// stayed a slew beside 400 ms of another, of which each solve left 73.)
fn stands(old: &Break, new: &Break) -> bool {
    let same = old.clock == new.clock && (old.from - new.from).abs() < 0.02 && (old.to - new.to).abs() < 0.02;
    same || (old.jump_ns != 0 && new.from == new.to && beside(old, new))
}

/// Whether a break takes the place of an old one.
pub(super) fn beside(old: &Break, new: &Break) -> bool {
    old.clock == new.clock && old.from > new.from - BESIDE && old.to < new.to + BESIDE
}

/// Two breaks within so many knots are not told apart in one search.
const NEAR: f64 = 4.0;

/// A break found within so many knots of an old one is the old one, placed better.
const BESIDE: f64 = 1.5;

/// Stretches where a curve is far steeper than it usually is; a clock that runs fast throughout is no usual clock.
fn runs(curves: &Curves, clock: u32, spacing_ns: f64) -> Vec<Run> {
    let Block { start, count } = curves.blocks[clock as usize];
    let first = curves.first[clock as usize];
    let slopes: Vec<f64> =
        curves.values[start..start + count].windows(2).map(|pair| (pair[1] - pair[0]) / spacing_ns * 1e6).collect();
    let usual = upper_median(slopes.clone()).clamp(-RUNS_PPM, RUNS_PPM);
    let mut runs: Vec<Run> = Vec::new();
    for (k, slope) in slopes.iter().enumerate() {
        if (slope - usual).abs() < RUNS_PPM {
            continue;
        }
        match runs.last_mut() {
            Some(run) if run.to == first + k && (slope - usual > 0.0) == (slopes[k - 1] - usual > 0.0) => run.to += 1,
            _ => runs.push(Run { clock, from: first + k, to: first + k + 1 }),
        }
    }
    runs
}

/// What all readings of a clock say of its offset.
fn witnesses(curves: &Curves, of_clock: &[&Observation], scales: &[Scale], clock: u32) -> Vec<Witness> {
    let mut witnesses = Vec::new();
    for o in of_clock {
        let scale = &scales[o.route as usize];
        let usual = scale.delay / 2.0;
        let is_server = o.server == clock;
        let quantum = o.floored_variance().sqrt();
        if o.side != Side::Backward {
            // f = out + x(server) − x(client)
            let (at, bound) = if is_server {
                (o.received, o.forward + curves.at(o.client, o.sent))
            } else {
                (o.sent, curves.at(o.server, o.received) - o.forward)
            };
            witnesses.push(Witness {
                at,
                bound,
                upper: is_server,
                usual,
                spread: scale.jitter_out + 0.2 * usual + quantum,
            });
        }
        if o.is_two_sided() {
            // b = back − x(server) + x(client)
            let (at, bound) = if is_server {
                (o.responded, curves.at(o.client, o.returned) - o.backward)
            } else {
                (o.returned, o.backward + curves.at(o.server, o.responded))
            };
            witnesses.push(Witness {
                at,
                bound,
                upper: !is_server,
                usual,
                spread: scale.jitter_back + 0.2 * usual + quantum,
            });
        }
    }
    witnesses.sort_unstable_by(|a, b| a.at.total_cmp(&b.at));
    witnesses
}

/// Two lines, before and after a run, each through the nearest calm knots.
fn sides(curves: &Curves, run: Run) -> [(f64, f64, f64); 2] {
    let Block { start, count } = curves.blocks[run.clock as usize];
    let first = curves.first[run.clock as usize];
    let value = |knot: usize| curves.values[start + knot - first];
    let line = |from: usize, to: usize, at: usize| {
        let slope = if to > from { (value(to) - value(from)) / (to - from) as f64 } else { 0.0 };
        (at as f64, value(at), slope)
    };
    const REACH: usize = 3;
    let before = line(run.from.saturating_sub(REACH).max(first), run.from, run.from);
    let after = line(run.to, (run.to + REACH).min(first + count - 1), run.to);
    [before, after]
}

/// Finds when a run began and ended; `None` when it is no more than noise.
fn place(curves: &Curves, witnesses: &[Witness], run: Run) -> Option<Break> {
    let [before, after] = sides(curves, run);
    let (low, high) = (run.from as f64 - 2.0, run.to as f64 + 2.0);
    // Breaks that stand here already are part of the change: none of them has come before, all of them after.
    let had = |at: f64| {
        let size = |index: &usize| curves.breaks[*index].share(at) * curves.values[curves.knots() + index];
        curves.of_clock[run.clock as usize].iter().map(size).sum::<f64>()
    };
    let (had_before, had_after) = (had(low), had(high));
    let early = |at: f64| before.1 + before.2 * (at - before.0) + had_before;
    let late = |at: f64| after.1 + after.2 * (at - after.0) + had_after;
    let start = witnesses.partition_point(|witness| witness.at < low);
    let end = witnesses.partition_point(|witness| witness.at < high);
    let near = &witnesses[start..end];
    if near.len() < 4 {
        return None;
    }
    let middle = (run.from + run.to) as f64 / 2.0;
    let size = late(middle) - early(middle);
    // A change within what single delays spread over is left to the knots, but where all of them together ask for it.
    let spread = upper_median(near.iter().map(|witness| witness.spread).collect());
    let is_small = size.abs() < 3.0 * spread;
    let least = if is_small { spread } else { 3.0 * spread };
    if size.abs() < least {
        return None;
    }
    let as_it_is: f64 = near.iter().map(|witness| witness.cost(curves.at(run.clock, witness.at))).sum();
    let (ramp_cost, from, to) = best_ramp(near, &early, &late, run);
    let step = if run.to - run.from <= STEP_KNOTS {
        Some(best_step(near, &early, &late)).filter(|step| ramp_cost > RAMP_FITS * step.cost)
    } else {
        // No calm knots are near enough to tell the levels: they are read off the witnesses. A curve may run straight
        // through a step, so both that curve and the best ramp have to do worse.
        best_levels(near, before.2, after.2).filter(|step| step.cost < RAMP_FITS * ramp_cost.min(as_it_is))
    };
    let (cost, from, to, size) = match step {
        Some(Fitted { cost, at, size: fitted }) => (cost, at, at, fitted.unwrap_or(size)),
        None => (ramp_cost, from, to, size),
    };
    let together = |offset: &dyn Fn(f64) -> f64| -> f64 {
        near.iter().map(|witness| witness.cost(offset(witness.at)).min(ALONE)).sum()
    };
    let broken = |at: f64| {
        let share = if to > from { ((at - from) / (to - from)).clamp(0.0, 1.0) } else { f64::from(at >= from) };
        early(at) * (1.0 - share) + late(at) * share
    };
    if is_small && together(&early).min(together(&late)) - together(&broken) < TOGETHER {
        return None;
    }
    let new = Break { clock: run.clock, from, to, size, least, jump_ns: 0, shape: Shape::Whole };
    // What stands there gives way to what fits better. Where nothing fits yet, as a neighbour is wrong, places would take
    // turns until the search is given up.
    let displaces = |&index: &usize| curves.breaks[index].jump_ns == 0 && beside(&curves.breaks[index], &new);
    let stays = curves.of_clock[run.clock as usize].iter().any(displaces) && cost > as_it_is;
    (!stays).then_some(new)
}

/// A step as it fits the witnesses.
struct Fitted {
    cost: f64,
    at: f64,
    /// Where it was read off the witnesses, ns.
    size: Option<f64>,
}

/// The instant and the two levels that cost least; the slopes before and after are given, in ns per knot.
fn best_levels(near: &[Witness], slope_before: f64, slope_after: f64) -> Option<Fitted> {
    const SPLITS: usize = 200;
    /// Fewer say nothing of a level.
    const LEAST: usize = 4;
    let mut best: Option<Fitted> = None;
    for split in (LEAST..near.len().saturating_sub(LEAST)).step_by(near.len().div_ceil(SPLITS)) {
        let (early, late) = near.split_at(split);
        let at = (early[split - 1].at + late[0].at) / 2.0;
        let (Some(before), Some(after)) = (level(early, at, slope_before), level(late, at, slope_after)) else {
            continue;
        };
        let cost = |side: &[Witness], level: f64, slope: f64| -> f64 {
            side.iter().map(|witness| witness.cost(level + slope * (witness.at - at))).sum()
        };
        let cost = cost(early, before, slope_before) + cost(late, after, slope_after);
        if best.as_ref().is_none_or(|best| cost < best.cost) {
            best = Some(Fitted { cost, at, size: Some(after - before) });
        }
    }
    best
}

/// The offset at `at` that witnesses say, with delays as they usually are: the middle between what the bounds above
/// and the bounds below say in the median. `None` without both.
fn level(side: &[Witness], at: f64, slope: f64) -> Option<f64> {
    let says = |upper: bool| -> Vec<f64> {
        side.iter()
            .filter(|witness| witness.upper == upper)
            .map(|witness| {
                let offset = if upper { witness.bound - witness.usual } else { witness.bound + witness.usual };
                offset - slope * (witness.at - at)
            })
            .collect()
    };
    let (above, below) = (says(true), says(false));
    (!above.is_empty() && !below.is_empty()).then(|| (upper_median(above) + upper_median(below)) / 2.0)
}

/// The instant that costs least, from the sums before and after each reading.
fn best_step(near: &[Witness], early: &impl Fn(f64) -> f64, late: &impl Fn(f64) -> f64) -> Fitted {
    let mut cost: f64 = near.iter().map(|witness| witness.cost(late(witness.at))).sum();
    let mut best = Fitted { cost, at: near[0].at, size: None };
    for (index, witness) in near.iter().enumerate() {
        cost += witness.cost(early(witness.at)) - witness.cost(late(witness.at));
        if cost < best.cost {
            let next = near.get(index + 1).map_or(witness.at, |next| next.at);
            best = Fitted { cost, at: (witness.at + next) / 2.0, size: None };
        }
    }
    best
}

/// Beginning and end that cost least: first on a coarse lattice, then on a finer one around the best.
fn best_ramp(near: &[Witness], early: &impl Fn(f64) -> f64, late: &impl Fn(f64) -> f64, run: Run) -> (f64, f64, f64) {
    let cost = |from: f64, to: f64| -> f64 {
        near.iter()
            .map(|witness| {
                let share = ((witness.at - from) / (to - from)).clamp(0.0, 1.0);
                witness.cost(early(witness.at) * (1.0 - share) + late(witness.at) * share)
            })
            .sum()
    };
    let mut best = (f64::INFINITY, run.from as f64, run.to as f64);
    for step in [0.5, 0.1, 0.02] {
        let (from, to) = (best.1, best.2);
        for i in -5..=5 {
            for j in -5..=5 {
                let (from, to) = (from + step * f64::from(i), to + step * f64::from(j));
                if to - from > 0.02 {
                    let cost = cost(from, to);
                    if cost < best.0 {
                        best = (cost, from, to);
                    }
                }
            }
        }
    }
    best
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Calls between three clocks ten times a knot, as their curves have it.
    fn calls(curves: &Curves) -> Vec<Observation> {
        let places = || (0..190).map(|tenth| f64::from(tenth) / 10.0 + 0.03);
        let of_pair = |(route, pair)| places().map(move |at| Observation::between(curves, route, pair, at));
        (0..).zip([(0, 1), (0, 2), (1, 2)]).flat_map(of_pair).collect()
    }

    fn found(curves: &Curves, calls: &[Observation]) -> Vec<Break> {
        let scales = [Scale { delay: 1e6, jitter_out: 1e4, jitter_back: 1e4, calls: 100.0 }; 3];
        find(curves, calls, &vec![true; calls.len()], &scales, 5e9)
    }

    #[test]
    fn a_break_gives_way_only_to_what_fits_better() {
        // Soon after its step the first clock is 3 ms ahead for a moment. Without that, its step would fit worse.
        let step = Break { clock: 1, from: 9.5, to: 9.5, size: 3e8, least: 0.0, jump_ns: 0, shape: Shape::Whole };
        let mut curves = Curves::new(&[None, Some((0, 19)), Some((0, 19))], vec![step], 0);
        curves.values[40] = 3e8;
        curves.values[11] = 3e6;
        let calls = calls(&curves);
        assert_eq!(found(&curves, &calls), []);
        // Two knots late, it does not fit at all.
        curves.breaks[0] = Break { from: 11.5, to: 11.5, ..step };
        let found = found(&curves, &calls);
        assert!(matches!(found[..], [Break { clock: 1, from, to, .. }] if from == to && (9.0..10.0).contains(&from)));
    }

    #[test]
    fn a_step_within_what_delays_spread_over_takes_many_calls() {
        let mut curves = Curves::new(&[None, Some((0, 19))], Vec::new(), 0);
        curves.values[10..20].fill(2.5e6);
        let scales = [Scale { delay: 1e6, jitter_out: 1e6, jitter_back: 1e6, calls: 100.0 }];
        let found = |calls_per_knot: u32| {
            let places = (0..19 * calls_per_knot).map(|k| (f64::from(k) + 0.3) / f64::from(calls_per_knot));
            let calls: Vec<Observation> = places.map(|at| Observation::between(&curves, 0, (0, 1), at)).collect();
            find(&curves, &calls, &vec![true; calls.len()], &scales, 5e9).len()
        };
        assert_eq!([found(1), found(10)], [0, 1]);
    }

    #[test]
    fn a_break_that_stands_keeps_back_no_step_of_a_neighbour() {
        // Both neighbours run away between the same two knots, the second by more.
        let curves = |breaks: Vec<Break>| {
            let mut curves = Curves::new(&[None, Some((0, 19)), Some((0, 19))], breaks, 0);
            curves.values[10..20].fill(3e8);
            curves.values[30..40].fill(-4e8);
            curves
        };
        let before = curves(Vec::new());
        let calls = calls(&before);
        let found = |breaks| found(&curves(breaks), &calls);
        let first = found(Vec::new());
        assert_eq!(first.iter().map(|found| found.clock).collect::<Vec<_>>(), [2], "the larger one of two neighbours");
        assert_eq!(found(first).iter().map(|found| found.clock).collect::<Vec<_>>(), [1]);
    }
}
