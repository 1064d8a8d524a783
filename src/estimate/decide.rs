//! A solved model → what is done with each clock: moved whole, or left whole.
//!
//! A correction that is smaller than three of its own deviations, and removes no violation, is not made; the clocks
//! left alone are held at zero and the rest is solved again, so a well-kept fleet comes out as it went in.

use rustc_hash::FxHashSet;

use super::Settings;
use super::evidence::{Evidence, Side};
use super::fit::{Fit, fit};
use super::table::Table;
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

pub(super) fn decide(
    evidence: &Evidence,
    spans: &[Option<(LocalTime, LocalTime)>],
    settings: &Settings,
    free: Fit,
) -> Estimate {
    let clocks = evidence.clocks.len();
    let reference = settings.reference.map(|ClockId(clock)| clock as usize);
    let tied = tied(&free, clocks);
    let movable: Vec<bool> = (0..clocks).map(|clock| tied[clock] && reference != Some(clock)).collect();
    let free_table = Table::of(&free, settings.reference);
    // Per clock and segment.
    let large = |table: &Table, clock: usize| -> Vec<bool> {
        table.clocks[clock].iter().map(|part| part.ratio() > DEVIATIONS).collect()
    };
    let mut moved: Vec<bool> =
        (0..clocks).map(|clock| movable[clock] && large(&free_table, clock).contains(&true)).collect();
    let mut released = vec![false; clocks];
    release(&free, &free_table, None, &mut released, &movable);
    moved.iter_mut().zip(&released).for_each(|(moved, released)| *moved |= released);

    let mut solved = free;
    let mut table = free_table.clone();
    for _ in 0..RELEASES {
        let held: Vec<bool> = (0..clocks).map(|clock| movable[clock] && !moved[clock]).collect();
        if !held.contains(&true) {
            break;
        }
        solved = fit(evidence, spans, settings.reference, &held);
        let pinned = settings.reference.or_else(|| held.iter().position(|held| *held).map(|c| ClockId(c as u32)));
        table = Table::of(&solved, pinned);
        let before = moved.clone();
        release(&solved, &table, Some(&before), &mut released, &movable);
        moved.iter_mut().zip(&released).for_each(|(moved, released)| *moved |= released);
        if moved == before {
            break;
        }
    }

    let decided: Vec<Vec<bool>> =
        (0..clocks).map(|clock| large(if moved[clock] { &table } else { &free_table }, clock)).collect();
    table.admit(&free_table);
    let witnesses = Witnesses::of(&solved, clocks);
    let models = (0..clocks)
        .map(|clock| {
            let table = if moved[clock] { &table } else { &free_table };
            let mut segments = table.segments(clock, &witnesses.places[clock]);
            let largest = segments.iter().flat_map(|s| &s.knots).map(|knot| knot.offset_ns.abs()).max().unwrap_or(0);
            let capped = moved[clock] && settings.max_correction_ns.is_some_and(|most| largest > most);
            let state = match (reference == Some(clock), tied[clock], moved[clock]) {
                (true, ..) => ClockState::Reference,
                (_, false, _) => ClockState::NoEvidence,
                (.., true) if capped => ClockState::Capped,
                (.., true) => ClockState::Corrected,
                (.., false) => ClockState::WithinUncertainty,
            };
            for (segment, large) in segments.iter_mut().zip(&decided[clock]) {
                segment.moved = state == ClockState::Corrected && (*large || released[clock]);
            }
            if state == ClockState::NoEvidence {
                segments.clear();
            } else if segments.is_empty() {
                segments.push(zero(&solved));
            }
            ClockModel {
                state,
                group: solved.alignment.groups[clock],
                segments,
                steps: if tied[clock] { table.steps[clock].clone() } else { Vec::new() },
                exchanges: witnesses.exchanges[clock].len() as u64,
                neighbours: witnesses.neighbours[clock].len() as u32,
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

/// Solves in which clocks that were held in vain are let go, at the most.
const RELEASES: usize = 4;

/// What each clock's exchanges are: their places on the grid, how many, and with whom.
struct Witnesses {
    places: Vec<Vec<f64>>,
    exchanges: Vec<FxHashSet<u64>>,
    neighbours: Vec<FxHashSet<u32>>,
}

impl Witnesses {
    fn of(fit: &Fit, clocks: usize) -> Self {
        let mut witnesses = Self {
            places: vec![Vec::new(); clocks],
            exchanges: vec![FxHashSet::default(); clocks],
            neighbours: vec![FxHashSet::default(); clocks],
        };
        for o in fit.observations.iter().filter(|o| !o.one_way && o.side != Side::Forward) {
            let ends = [(o.client, o.server, o.returned), (o.server, o.client, o.responded)];
            for (clock, other, place) in ends {
                witnesses.places[clock as usize].push(place);
                witnesses.exchanges[clock as usize].insert(o.exchange);
                witnesses.neighbours[clock as usize].insert(other);
            }
        }
        witnesses.places.iter_mut().for_each(|places| places.sort_unstable_by(f64::total_cmp));
        witnesses
    }
}

/// A clock that is right at all times.
fn zero(fit: &Fit) -> Segment {
    let local = LocalTime::from_nanos(fit.grid.epoch);
    let knot = Knot { local, offset_ns: 0, uncertainty_ns: 0, lower_ns: None, upper_ns: None, exchanges: 0 };
    Segment { from: ReferenceTime::from_nanos(i64::MIN), until: ReferenceTime::MAX, knots: vec![knot], moved: false }
}

/// Names clocks to let go: where a link between clocks that are held shows a negative delay that moving them removes.
/// With `moved`, `fit` is a solve in which the others were held: links that holding made worse are released.
fn release(fit: &Fit, table: &Table, moved: Option<&[bool]>, released: &mut [bool], movable: &[bool]) {
    let mut violations = vec![(0u32, 0u32); fit.links.len()];
    for (o, _) in fit.observations.iter().zip(&fit.used).filter(|(_, used)| **used) {
        let apart = (fit.alignment.bases[o.server as usize] - fit.alignment.bases[o.client as usize]) as f64;
        // A quantum's deviation is its length over √12; a floored start may be all of it early.
        let tolerance = 1e3 + 12f64.sqrt() * o.floored_variance.sqrt();
        let delay = |out: f64, back: f64| match o.side {
            Side::Forward => out,
            Side::Backward => back,
            Side::Both => out.min(back),
        };
        let offset = |clock: u32, place: f64| {
            if moved.is_none_or(|moved| moved[clock as usize]) { table.at(clock, place) } else { 0.0 }
        };
        let recorded = delay(o.forward + apart, o.backward - apart);
        let corrected = delay(
            o.forward + apart - (offset(o.server, o.received) - offset(o.client, o.sent)),
            o.backward - apart + (offset(o.server, o.responded) - offset(o.client, o.returned)),
        );
        let (wrong, right) = if moved.is_some() { (corrected, recorded) } else { (recorded, corrected) };
        violations[o.link as usize].0 += u32::from(wrong < -tolerance && right >= -tolerance);
        violations[o.link as usize].1 += 1;
    }
    for (link, (bad, all)) in fit.links.iter().zip(violations) {
        // One reading in a hundred may be odd in ways that no clock explains.
        if bad > 0 && bad * 100 >= all {
            for clock in [link.client.0 as usize, link.server.0 as usize] {
                released[clock] |= movable[clock];
            }
        }
    }
}
