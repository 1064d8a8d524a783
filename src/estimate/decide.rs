//! A solved model → what is done with each clock: moved whole, or left whole.
//!
//! A correction that is not surely larger than its own error, and is not needed to put calls in order, is not made;
//! the clocks left alone are held at zero and the rest is solved again, so a well-kept fleet comes out as it went in.

use rustc_hash::FxHashSet;

use super::Settings;
use super::evidence::{Evidence, Side};
use super::fit::{Fit, fit};
use super::frame::Frame;
use super::paths::Contradiction;
use super::table::{OF_95, Part, Table};
use crate::clock::{
    ClockId, ClockMap, ClockModel, ClockState, Knot, Link, LocalTime, Onward, ReferenceTime, Segment, Treatment,
};

/// What the evidence says of every clock and link.
#[derive(Clone, Debug, Default)]
pub struct Estimate {
    pub map: ClockMap,
    /// The clocks that all others of their group are measured from, where none stands at zero.
    pub medians: Vec<ClockId>,
    pub links: Vec<LinkEstimate>,
    /// Exchanges that took no part in the last pass: nobody waited, or they imply a negative delay.
    pub set_aside: FxHashSet<u64>,
    /// Exchanges whose response took no part in it.
    pub unanswered: FxHashSet<u64>,
    /// Readings that cannot all be true.
    pub contradictions: Vec<Contradiction>,
}

/// What was found of one link.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct LinkEstimate {
    pub link: Link,
    /// out − back of the way that its calls take, which other classes may share, ns; positive: the request leg is longer.
    /// `None` without two-sided exchanges.
    pub asymmetry_ns: Option<i64>,
}

/// In a well-kept fleet a correction must be larger than this many of its deviations, and once others are held and it is
/// drawn towards zero, larger than its 95 %. At 2, two of ten perfect fleets were moved for nothing, before that was asked
/// of what is drawn; at 2.5 none is, and no fleet of ten kept by NTP comes out worse than it went in; at 3, more was left as
/// it was (fleet `const`, seed 1: p95 273 µs instead of 158).
const DEVIATIONS: f64 = 2.5;

/// So many deviations are no chance, even where all clocks of a fleet share one error.
const BEYOND_DOUBT: f64 = 6.0;

pub(super) fn decide(
    evidence: &Evidence,
    spans: &[Option<(LocalTime, LocalTime)>],
    settings: &Settings,
    frame: &Frame,
    free: Fit,
) -> Estimate {
    let clocks = evidence.clocks.len();
    let fixed = |clock: usize| frame.fixed[clock];
    let tied = tied(&free, clocks);
    let movable: Vec<bool> = (0..clocks).map(|clock| tied[clock] && !fixed(clock)).collect();
    let medians: Vec<ClockId> = free.medians.iter().map(|&clock| ClockId(clock as u32)).collect();
    let free_table = Table::of(&free);
    let wrong = |clock: &usize| free_table.clocks[*clock].iter().any(|part| part.ratio() > BEYOND_DOUBT);
    let movable_clocks = || (0..clocks).filter(|&clock| movable[clock]);
    let well_kept = 2 * movable_clocks().filter(wrong).count() <= movable_clocks().count();
    let in_any_way = |part: &Part| part.ratio().max(part.pointwise_ratio()).max(part.change_ratio());
    let size = |part: &Part| if well_kept { part.ratio() } else { in_any_way(part) };
    let least = if well_kept { DEVIATIONS } else { OF_95 };
    let off = |clock: usize| movable[clock] && free_table.clocks[clock].iter().any(|part| size(part) > least);
    let mut moved: Vec<bool> = (0..clocks).map(off).collect();
    let seems_right = |&clock: &usize| fixed(clock) || movable[clock] && !moved[clock];
    let right: Vec<bool> = if well_kept {
        vec![true; clocks]
    } else {
        let seem_right: Vec<usize> = (0..clocks).filter(seems_right).collect();
        let agreeing = free_table.agreeing(&seem_right, &free.alignment.groups, DEVIATIONS);
        (0..clocks).map(|clock| agreeing.contains(&clock)).collect()
    };
    let levels = well_kept.then(|| free_table.levels(&movable));
    // A clock is let go, or held after all, once.
    let mut released = vec![false; clocks];
    let mut solved = None;
    let mut held_last = Vec::new();
    let mut table = free_table.clone();
    // With levels drawn towards zero, as clocks that are moved come out.
    let mut drawn = free_table.clone();
    let mut large = Vec::new();
    for solves in 1..=SOLVES {
        let mut held: Vec<bool> = (0..clocks).map(|clock| movable[clock] && !moved[clock] && right[clock]).collect();
        frame.stand_by(&free.alignment.groups, &mut held);
        if held.contains(&true) || well_kept {
            // Those that were neither taken for right nor for wrong may have changed alone.
            if solved.is_none() || held != held_last {
                let fit = fit(evidence, spans, frame, &held, Some((&free, levels.as_ref())));
                table = Table::of(&fit);
                solved = Some(fit);
            }
        } else {
            table = free_table.clone();
            solved = None;
        }
        held_last = held;
        drawn = table.clone();
        solved.iter().for_each(|fit| drawn.draw(fit));
        let is_large = |part: &Part| size(part) > OF_95;
        large = drawn.clocks.iter().map(|parts| parts.iter().map(is_large).collect::<Vec<_>>()).collect();
        let mut next = moved.clone();
        for clock in (0..clocks).filter(|&clock| moved[clock] && !released[clock]) {
            next[clock] = large[clock].contains(&true);
        }
        // One that was neither taken for right nor for wrong is seen more clearly beside those that are right.
        for clock in (0..clocks).filter(|&clock| movable[clock] && !moved[clock] && !right[clock]) {
            next[clock] = table.clocks[clock].iter().any(|part| size(part) > least);
        }
        for clock in out_of_order(&free, &free_table, &drawn, (&moved, &movable), frame) {
            next[clock] = true;
            released[clock] = true;
        }
        if next == moved || solves == SOLVES {
            break;
        }
        moved = next;
    }
    let solved = solved.unwrap_or(free);
    drawn.admit(&free_table);
    let witnesses = Witnesses::of(&solved, clocks);
    let models = (0..clocks)
        .map(|clock| {
            let table = if moved[clock] { &drawn } else { &free_table };
            let mut segments = table.segments(clock, &witnesses.exchanges[clock]);
            let largest = segments.iter().flat_map(|s| &s.knots).map(|knot| knot.offset_ns.abs()).max().unwrap_or(0);
            let capped = moved[clock] && settings.max_correction_ns.is_some_and(|most| largest > most);
            let state = match (fixed(clock), tied[clock], moved[clock]) {
                (true, ..) => ClockState::Reference,
                (_, false, _) => ClockState::NoEvidence,
                (.., true) if capped => ClockState::Capped,
                (.., true) => ClockState::Corrected,
                (.., false) => ClockState::WithinUncertainty,
            };
            for (segment, large) in segments.iter_mut().zip(&large[clock]) {
                // The clock that all are measured from is off by no less than its own interval.
                let is_median = medians.contains(&ClockId(clock as u32));
                let is_off = |knot: &Knot| knot.offset_ns.abs() > knot.uncertainty_ns;
                let is_moved = (*large || released[clock]) && (!is_median || segment.knots.iter().any(is_off));
                if state == ClockState::Corrected && is_moved {
                    segment.treatment = Treatment::Moved;
                }
            }
            let state = match state {
                ClockState::Corrected if !segments.iter().any(Segment::is_moved) => ClockState::WithinUncertainty,
                state => state,
            };
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
                bounds: Vec::new(),
                exchanges: witnesses.exchanges[clock].last().map_or(0, |last| last.1),
                neighbours: witnesses.neighbours[clock].len() as u32,
            }
        })
        .collect();
    let two_sided: FxHashSet<u32> =
        solved.observations.iter().filter(|o| !o.one_way && o.is_two_sided()).map(|o| o.link).collect();
    let links = solved
        .links
        .iter()
        .enumerate()
        .map(|(index, &link)| LinkEstimate {
            link,
            asymmetry_ns: two_sided.contains(&(index as u32)).then(|| (2.0 * solved.asymmetries[index]).round() as i64),
        })
        .collect();
    let all = || solved.observations.iter().zip(&solved.used);
    let mut set_aside: FxHashSet<u64> = all().filter(|(_, used)| !**used).map(|(o, _)| o.exchange).collect();
    all().filter(|(_, used)| **used).for_each(|(o, _)| {
        set_aside.remove(&o.exchange);
    });
    let unused = all().filter(|(o, used)| o.is_two_sided() && !**used);
    let unanswered = unused.map(|(o, _)| o.exchange).collect();
    let map = ClockMap { models, reference: settings.reference };
    Estimate { map, medians, links, set_aside, unanswered, contradictions: Vec::new() }
}

/// Moves what causality alone says is off: clocks that were left alone, in a group with a clock at zero, of which all bounds
/// of a segment have zero on one side. With one exchange that is all there is to say; its middle is the estimate.
pub(super) fn release(map: &mut ClockMap, max_correction_ns: Option<i64>) {
    let fixed = |model: &&ClockModel| model.state == ClockState::Reference;
    let groups: FxHashSet<u32> = map.models.iter().filter(fixed).map(|model| model.group).collect();
    let left = |model: &&mut ClockModel| model.state == ClockState::WithinUncertainty && groups.contains(&model.group);
    for model in map.models.iter_mut().filter(left) {
        for segment in &mut model.segments {
            let ahead = segment.knots.iter().all(|knot| knot.lower_ns.is_some_and(|lower| lower > 0));
            let behind = segment.knots.iter().all(|knot| knot.upper_ns.is_some_and(|upper| upper < 0));
            if ahead || behind {
                segment.treatment = Treatment::Moved;
                model.state = ClockState::Corrected;
            }
        }
        let moved = model.segments.iter().filter(|segment| segment.is_moved()).flat_map(|segment| &segment.knots);
        let largest = moved.map(|knot| knot.offset_ns.abs()).max().unwrap_or(0);
        if max_correction_ns.is_some_and(|most| largest > most) {
            model.state = ClockState::Capped;
            model.segments.iter_mut().for_each(|segment| segment.treatment = Treatment::LeftAlone);
        }
    }
}

/// Clocks that a two-sided exchange ties to another.
fn tied(fit: &Fit, clocks: usize) -> Vec<bool> {
    let mut sizes = vec![0u32; clocks];
    fit.alignment.groups.iter().for_each(|&group| sizes[group as usize] += 1);
    (0..clocks).map(|clock| sizes[fit.alignment.groups[clock] as usize] > 1).collect()
}

/// Solves after which clocks that were held in vain are let go, at the most.
const SOLVES: usize = 6;

/// What each clock's exchanges are: their places on the grid, each with how many there were until then, and with whom.
struct Witnesses {
    exchanges: Vec<Vec<(f64, u64)>>,
    neighbours: Vec<FxHashSet<u32>>,
}

impl Witnesses {
    fn of(fit: &Fit, clocks: usize) -> Self {
        let mut witnesses =
            Self { exchanges: vec![Vec::new(); clocks], neighbours: vec![FxHashSet::default(); clocks] };
        for o in fit.observations.iter().filter(|o| !o.one_way && o.is_two_sided()) {
            let ends = [(o.client, o.server, o.returned), (o.server, o.client, o.responded)];
            for (clock, other, place) in ends {
                // Of one exchange there is one reading that stands for its response.
                witnesses.exchanges[clock as usize].push((place, u64::from(o.stands_for)));
                witnesses.neighbours[clock as usize].insert(other);
            }
        }
        for exchanges in &mut witnesses.exchanges {
            exchanges.sort_unstable_by(|left, right| left.0.total_cmp(&right.0));
            exchanges.iter_mut().fold(0, |before, (_, count)| {
                *count += before;
                *count
            });
        }
        witnesses
    }
}

/// A clock that is right at all times.
fn zero(fit: &Fit) -> Segment {
    let local = LocalTime::from_nanos(fit.grid.epoch);
    let knot = Knot { local, offset_ns: 0, uncertainty_ns: 0, lower_ns: None, upper_ns: None, exchanges: 0 };
    Segment {
        from: ReferenceTime::from_nanos(i64::MIN),
        until: ReferenceTime::MAX,
        knots: vec![knot],
        treatment: Treatment::LeftAlone,
        onward: Onward::default(),
    }
}

/// Clocks to let go: held at zero, they leave calls of a link with a negative delay that moving both its ends would
/// remove; and either the calls were in order as recorded, or the two clocks are surely not as far apart as they are held.
/// Of two held ends one that has no vote goes first, then the one that is more surely off.
fn out_of_order(
    free: &Fit,
    free_table: &Table,
    table: &Table,
    (moved, movable): (&[bool], &[bool]),
    frame: &Frame,
) -> Vec<usize> {
    let held = |clock: u32| movable[clock as usize] && !moved[clock as usize];
    let now = |clock: u32, place: f64| if moved[clock as usize] { table.at(clock, place) } else { 0.0 };
    let mut in_vain = FxHashSet::default();
    let used = free.observations.iter().zip(&free.used).filter(|(_, used)| **used).map(|(o, _)| o);
    for o in used.filter(|o| held(o.client) || held(o.server)) {
        // A quantum's deviation is its length over √12; a floored start may be all of it early.
        let tolerance = 1e3 + 12f64.sqrt() * o.floored_variance().sqrt();
        let delay = |offset: &dyn Fn(u32, f64) -> f64| {
            let out = o.forward + o.apart[0] - (offset(o.server, o.received) - offset(o.client, o.sent));
            let back = o.backward - o.apart[1] + (offset(o.server, o.responded) - offset(o.client, o.returned));
            match o.side {
                Side::Forward => out,
                Side::Backward => back,
                Side::Both => out.min(back),
            }
        };
        let violated = delay(&now) < -tolerance
            && delay(&|clock, place| free_table.at(clock, place)) >= -tolerance
            && (delay(&|_, _| 0.0) >= -tolerance
                || free_table.contradicts((o.client, o.sent), (o.server, o.received), now) > DEVIATIONS);
        if violated {
            in_vain.insert(o.link);
        }
    }
    let ratio = |clock: &u32| free_table.clocks[*clock as usize].iter().map(Part::ratio).fold(0.0, f64::max);
    let votes = |clock: &u32| frame.votes[*clock as usize];
    let surest = |link: u32| {
        let Link { client, server, .. } = free.links[link as usize];
        let ends = [client.0, server.0].into_iter().filter(|&clock| held(clock));
        let first = ends.max_by(|a, b| votes(b).cmp(&votes(a)).then(ratio(a).total_cmp(&ratio(b))));
        first.map(|clock| clock as usize)
    };
    in_vain.into_iter().filter_map(surest).collect()
}
