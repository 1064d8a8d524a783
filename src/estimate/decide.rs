//! A solved model → what is done with each clock: moved whole, or left whole.
//!
//! A correction that is smaller than three of its own deviations, and removes no violation, is not made; the clocks
//! left alone are held at zero and the rest is solved again, so a well-kept fleet comes out as it went in.

use rustc_hash::FxHashSet;

use super::Settings;
use super::evidence::{Evidence, Side};
use super::fit::{Fit, fit};
use super::solve::{Block, slope_basis};
use crate::clock::{ClockId, ClockMap, ClockModel, ClockState, Knot, Link, LocalTime, ReferenceTime, Segment};

/// What the evidence says of every clock and link.
#[derive(Clone, Debug, Default)]
pub struct Estimate {
    pub map: ClockMap,
    pub links: Vec<LinkEstimate>,
    /// Exchanges that took no part in the last pass: nobody waited, or they imply a negative delay.
    pub set_aside: FxHashSet<u64>,
}

/// What was found of one link.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct LinkEstimate {
    pub link: Link,
    /// out − back, ns; positive: the request leg is longer. `None` without two-sided exchanges.
    pub asymmetry_ns: Option<i64>,
}

/// A correction must be larger than this many of its deviations. At 2, one clock in 23 of a perfect fleet is moved for
/// nothing; from 3 on, none (ESTIMATOR.md, second prototype, 6).
const DEVIATIONS: f64 = 3.0;

/// Of a normal distribution, 95 % lie within this many deviations.
const OF_95: f64 = 1.96;

pub(super) fn decide(
    evidence: &Evidence,
    spans: &[Option<(LocalTime, LocalTime)>],
    settings: &Settings,
    free: Fit,
) -> Estimate {
    let clocks = evidence.clocks.len();
    let free_curves = Tabulated::of(&free, settings.reference);
    let tied: Vec<bool> = tied(&free, clocks);
    let mut moved: Vec<bool> = (0..clocks)
        .map(|clock| {
            tied[clock] && settings.reference != Some(ClockId(clock as u32)) && free_curves.ratio(clock) > DEVIATIONS
        })
        .collect();
    release(&free, &free_curves, None, &mut moved, settings.reference, &tied);

    let mut solved = free;
    let mut curves = free_curves.clone();
    for _ in 0..4 {
        if (0..clocks).all(|clock| moved[clock] || !tied[clock] || settings.reference == Some(ClockId(clock as u32))) {
            break;
        }
        let held: Vec<bool> = (0..clocks).map(|clock| tied[clock] && !moved[clock]).collect();
        solved = fit(evidence, spans, settings.reference, &held);
        curves = Tabulated::of(
            &solved,
            settings.reference.or_else(|| held.iter().position(|h| *h).map(|c| ClockId(c as u32))),
        );
        let before = moved.clone();
        release(&solved, &curves, Some(&before), &mut moved, settings.reference, &tied);
        if moved == before {
            break;
        }
    }

    let mut exchanges = vec![FxHashSet::default(); clocks];
    let mut neighbours = vec![FxHashSet::default(); clocks];
    for observation in solved.observations.iter().filter(|observation| !observation.one_way) {
        for (clock, other) in [(observation.client, observation.server), (observation.server, observation.client)] {
            exchanges[clock as usize].insert(observation.exchange);
            neighbours[clock as usize].insert(other);
        }
    }
    let models = (0..clocks)
        .map(|clock| {
            let is_reference = settings.reference == Some(ClockId(clock as u32));
            let (table, fit) = if moved[clock] { (&curves, &solved) } else { (&free_curves, &solved) };
            let mut segment = table.segment(clock, fit, moved[clock]);
            let largest = segment.knots.iter().map(|knot| knot.offset_ns.abs()).max().unwrap_or(0);
            let capped = moved[clock] && settings.max_correction_ns.is_some_and(|most| largest > most);
            let state = match (is_reference, tied[clock], moved[clock]) {
                (true, ..) => ClockState::Reference,
                (_, false, _) => ClockState::NoEvidence,
                (.., true) if capped => ClockState::Capped,
                (.., true) => ClockState::Corrected,
                (.., false) => ClockState::WithinUncertainty,
            };
            segment.moved = state == ClockState::Corrected;
            let segments = if tied[clock] || is_reference { vec![segment] } else { Vec::new() };
            ClockModel {
                state,
                group: solved.alignment.groups[clock],
                segments,
                steps: Vec::new(),
                exchanges: exchanges[clock].len() as u64,
                neighbours: neighbours[clock].len() as u32,
            }
        })
        .collect();
    let two_sided: FxHashSet<u32> =
        solved.observations.iter().filter(|o| !o.one_way && o.side != Side::Forward).map(|o| o.link).collect();
    let links = solved
        .links
        .iter()
        .enumerate()
        .map(|(index, &link)| LinkEstimate {
            link,
            asymmetry_ns: two_sided.contains(&(index as u32)).then(|| (2.0 * solved.asymmetries[index]).round() as i64),
        })
        .collect();
    let taken: FxHashSet<u64> =
        solved.observations.iter().zip(&solved.used).filter(|(_, used)| **used).map(|(o, _)| o.exchange).collect();
    let set_aside =
        solved.observations.iter().map(|o| o.exchange).filter(|exchange| !taken.contains(exchange)).collect();
    Estimate { map: ClockMap { models, reference: settings.reference }, links, set_aside }
}

/// Clocks that a two-sided exchange ties to another.
fn tied(fit: &Fit, clocks: usize) -> Vec<bool> {
    let mut sizes = vec![0u32; clocks];
    fit.alignment.groups.iter().for_each(|&group| sizes[group as usize] += 1);
    (0..clocks).map(|clock| sizes[fit.alignment.groups[clock] as usize] > 1).collect()
}

/// A fit's curves with the gauge applied: total offset and deviation at each of a clock's knots, ns.
#[derive(Clone, Debug)]
struct Tabulated {
    curves: Vec<Vec<(f64, f64)>>,
}

impl Tabulated {
    fn of(fit: &Fit, pinned: Option<ClockId>) -> Self {
        let clocks = fit.curves.blocks.len();
        let mut curves: Vec<Vec<(f64, f64)>> = (0..clocks).map(|clock| tabulate(fit, clock)).collect();
        let pinned_group = pinned.map(|ClockId(clock)| fit.alignment.groups[clock as usize]);
        let mut groups: Vec<u32> = fit.alignment.groups.clone();
        groups.sort_unstable();
        groups.dedup();
        for group in groups.into_iter().filter(|group| Some(*group) != pinned_group) {
            let members: Vec<usize> =
                (0..clocks).filter(|&c| fit.alignment.groups[c] == group && !curves[c].is_empty()).collect();
            if members.len() > 1 {
                centre(fit, &members, &mut curves);
            }
        }
        Self { curves }
    }

    /// How large a clock's correction is, in its own deviations.
    fn ratio(&self, clock: usize) -> f64 {
        let (mut square, mut variance) = (0.0, 0.0);
        for (offset, deviation) in &self.curves[clock] {
            square += offset * offset;
            variance += deviation * deviation;
        }
        if variance > 0.0 { (square / variance).sqrt() } else { 0.0 }
    }

    fn at(&self, fit: &Fit, clock: u32, place: f64) -> f64 {
        let curve = &self.curves[clock as usize];
        if curve.is_empty() {
            return 0.0;
        }
        let place = (place - fit.curves.first[clock as usize] as f64).clamp(0.0, (curve.len() - 1) as f64);
        let knot = (place as usize).min(curve.len().saturating_sub(2));
        let share = place - knot as f64;
        let next = curve.get(knot + 1).unwrap_or(&curve[knot]);
        curve[knot].0 * (1.0 - share) + next.0 * share
    }

    fn segment(&self, clock: usize, fit: &Fit, moved: bool) -> Segment {
        let curve = &self.curves[clock];
        let mut counts = vec![0u32; curve.len().max(1)];
        for observation in fit.observations.iter().filter(|o| o.side != Side::Forward && !o.one_way) {
            for (of, place) in [(observation.client, observation.returned), (observation.server, observation.responded)]
            {
                if of as usize == clock {
                    let knot = (place - fit.curves.first[clock] as f64).round().clamp(0.0, (counts.len() - 1) as f64);
                    counts[knot as usize] += 1;
                }
            }
        }
        let knots = curve
            .iter()
            .zip(counts)
            .enumerate()
            .map(|(k, (&(offset, deviation), exchanges))| {
                let offset_ns = offset.round() as i64;
                let time = fit.grid.time((fit.curves.first[clock] + k) as f64);
                Knot {
                    // Knots stand on the clock's own time less its base, which the fit kept out of the curve.
                    local: LocalTime::from_nanos(time.saturating_add(fit.alignment.bases[clock])),
                    offset_ns,
                    uncertainty_ns: (OF_95 * deviation).ceil() as i64,
                    lower_ns: None,
                    upper_ns: None,
                    exchanges,
                }
            })
            .collect();
        let knots = if curve.is_empty() { vec![self.zero(fit)] } else { knots };
        Segment { from: ReferenceTime::from_nanos(i64::MIN), until: ReferenceTime::MAX, knots, moved }
    }

    fn zero(&self, fit: &Fit) -> Knot {
        let local = LocalTime::from_nanos(fit.grid.epoch);
        Knot { local, offset_ns: 0, uncertainty_ns: 0, lower_ns: None, upper_ns: None, exchanges: 0 }
    }
}

fn tabulate(fit: &Fit, clock: usize) -> Vec<(f64, f64)> {
    let Block { start, count } = fit.curves.blocks[clock];
    let first = fit.curves.first[clock];
    (0..count)
        .map(|k| {
            let offset = fit.alignment.bases[clock] as f64 + fit.curves.at(clock as u32, (first + k) as f64);
            let shape = fit.posterior.local[start + k];
            let variance = fit.posterior.block_variance(clock, slope_basis(k, count)) + 2.0 * shape;
            (offset, variance.sqrt())
        })
        .collect()
}

/// Shifts a group without a reference so that the medians over its clocks of the mean offset and of the mean frequency
/// error are zero; what the group does together cannot be seen (ESTIMATOR.md, fact 11).
fn centre(fit: &Fit, members: &[usize], curves: &mut [Vec<(f64, f64)>]) {
    let median = |mut values: Vec<f64>| {
        values.sort_unstable_by(f64::total_cmp);
        let half = values.len() / 2;
        if values.len() % 2 == 1 { values[half] } else { (values[half - 1] + values[half]) / 2.0 }
    };
    let slope = |curve: &[(f64, f64)]| match curve {
        [first, .., last] => (last.0 - first.0) / (curve.len() - 1) as f64,
        _ => 0.0,
    };
    let rate = median(members.iter().map(|&clock| slope(&curves[clock])).collect());
    let middle =
        members.iter().map(|&clock| fit.curves.first[clock] as f64 + curves[clock].len() as f64 / 2.0).sum::<f64>()
            / members.len() as f64;
    for &clock in members {
        let first = fit.curves.first[clock] as f64;
        curves[clock].iter_mut().enumerate().for_each(|(k, knot)| knot.0 -= rate * (first + k as f64 - middle));
    }
    let mean = |curve: &[(f64, f64)]| curve.iter().map(|knot| knot.0).sum::<f64>() / curve.len() as f64;
    let shift = median(members.iter().map(|&clock| mean(&curves[clock])).collect());
    let count = members.len() as f64;
    let common: f64 =
        members.iter().flat_map(|&a| members.iter().map(move |&b| fit.posterior.constants(a, b))).sum::<f64>()
            / (count * count);
    for &clock in members {
        let with_all: f64 = members.iter().map(|&other| fit.posterior.constants(clock, other)).sum::<f64>() / count;
        let own = fit.posterior.constants(clock, clock);
        // What the whole group does together is not an error: only the distance from the group's middle is.
        let relative = (own - 2.0 * with_all + common).max(0.0);
        for knot in &mut curves[clock] {
            knot.0 -= shift;
            knot.1 = (knot.1 * knot.1 - own + relative).max(relative).sqrt();
        }
    }
}

/// Lets clocks move that are held, where a link between them shows a negative delay that moving them removes.
/// With `before`, `fit` is a solve in which some were held: links that it made worse are released.
fn release(
    fit: &Fit,
    curves: &Tabulated,
    before: Option<&[bool]>,
    moved: &mut [bool],
    reference: Option<ClockId>,
    tied: &[bool],
) {
    let mut violations = vec![(0u32, 0u32); fit.links.len()];
    for (o, _) in fit.observations.iter().zip(&fit.used).filter(|(_, used)| **used) {
        let bases = fit.alignment.bases[o.server as usize] - fit.alignment.bases[o.client as usize];
        let tolerance = 1e3 + 2.0 * 3.0f64.sqrt() * o.floored_variance.sqrt();
        let recorded = match o.side {
            Side::Forward => o.forward + bases as f64,
            Side::Backward => o.backward - bases as f64,
            Side::Both => (o.forward + bases as f64).min(o.backward - bases as f64),
        };
        let held = |clock: u32, place: f64| {
            if before.is_none_or(|moved| moved[clock as usize]) { curves.at(fit, clock, place) } else { 0.0 }
        };
        let out = o.forward + bases as f64 - (held(o.server, o.received) - held(o.client, o.sent));
        let back = o.backward - bases as f64 + (held(o.server, o.responded) - held(o.client, o.returned));
        let corrected = match o.side {
            Side::Forward => out,
            Side::Backward => back,
            Side::Both => out.min(back),
        };
        let (wrong, right) = if before.is_some() { (corrected, recorded) } else { (recorded, corrected) };
        if wrong < -tolerance && right >= -tolerance {
            violations[o.link as usize].0 += 1;
        }
        violations[o.link as usize].1 += 1;
    }
    for (link, (bad, all)) in fit.links.iter().zip(violations) {
        // One reading in a hundred may be odd in ways that no clock explains.
        if bad > 0 && bad * 100 >= all {
            for clock in [link.client, link.server] {
                let clock_index = clock.0 as usize;
                moved[clock_index] |= reference != Some(clock) && tied[clock_index];
            }
        }
    }
}
