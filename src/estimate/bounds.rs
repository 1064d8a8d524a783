//! Models → what cause before effect alone says of every clock: bounds that hold whatever the delays were.
//!
//! In come all readings and the fitted models; into the knots go lower and upper bounds, out come readings that
//! contradict each other. No delay is negative, so every request says x ≤ f, and every response that was waited for
//! x ≥ −b; shortest paths over all of them bound each clock against the one at zero (ESTIMATOR.md, fact 9).
//!
//! The bounds are solved as *residuals*, what the truth may differ from the model by, so that slews are followed; what
//! is assumed beside cause and effect is how fast a residual can change (`leeway.rs`), that no clock stepped where no
//! step was found, and that a call which the fit believes to have been waited for was. At zero is the reference; in a
//! group without one its best connected clock, held at its estimate, as nothing shows what all do together.

use std::cmp::Reverse;
use std::collections::{BTreeSet, VecDeque};

use rayon::prelude::*;
use rustc_hash::FxHashSet;

use super::evidence::{Evidence, Reading, Side};
use super::leeway::Leeway;
use super::paths::{Constraint, Contradiction, Ranges, ranges};
use crate::clock::{Bound, ClockId, ClockMap, ClockModel, ClockState, Link, LocalTime};

/// Readings of one clock within this long share a node, each widened by the leeway to its middle: 0.05 ms at 50 ppm,
/// where bounds are some ms wide. The evidence's buckets are as long.
const CELL_NS: i64 = 2_000_000_000;

/// Of evidence that is rolled up, each window has at least so many.
const CELLS: i64 = 8;

/// A reading this near to a step may be on the other side of it: steps are timed to about 0.3 s amid busy traffic
/// (ESTIMATOR.md, second prototype, 5).
const NEAR_STEP_NS: i64 = 1_000_000_000;

/// Bounds all knots, and the clocks that have none. `unanswered` are exchanges whose response proves nothing.
pub(super) fn bound(evidence: &Evidence, unanswered: &FxHashSet<u64>, map: &mut ClockMap) -> Vec<Contradiction> {
    let clocks = Clocks::of(evidence, unanswered, map);
    let claims: Vec<Claim> = evidence
        .readings
        .par_iter()
        .with_min_len(4_096)
        .flat_map_iter(|reading| clocks.claims(reading, !unanswered.contains(&reading.exchange)))
        .collect();
    let claims = waited_for(claims);
    let mut nodes: Vec<Node> = claims.iter().flat_map(|claim| [claim.from, claim.to]).collect();
    nodes.par_sort_unstable();
    nodes.dedup();
    let index = |node: &Node| nodes.binary_search(node).unwrap_or_default() as u32;
    let mut constraints: Vec<Constraint> = claims
        .par_iter()
        .map(|claim| Constraint {
            from: index(&claim.from),
            to: index(&claim.to),
            most: claim.most,
            exchange: Some(claim.exchange),
        })
        .collect();
    for (place, pair) in nodes.windows(2).enumerate().filter(|(_, pair)| pair[0].stretch() == pair[1].stretch()) {
        let most = clocks.leeway(pair[0]).between(pair[0].middle, pair[1].middle);
        let place = place as u32;
        let limit = |from, to| Constraint { from, to, most, exchange: None };
        constraints.extend([limit(place, place + 1), limit(place + 1, place)]);
    }
    let zeros: Vec<u32> =
        (0u32..).zip(&nodes).filter(|(_, node)| clocks.at_zero[node.clock as usize]).map(|(at, _)| at).collect();
    let owners: Vec<u32> = nodes.iter().map(|node| node.clock).collect();
    let found = ranges(&owners, constraints, &zeros);
    let bounds: Vec<Written> =
        (0..map.models.len() as u32).into_par_iter().map(|clock| clocks.written(clock, &nodes, &found)).collect();
    for (model, Written { knots, bounds }) in map.models.iter_mut().zip(bounds) {
        let all = model.segments.iter_mut().flat_map(|segment| &mut segment.knots);
        all.zip(knots).for_each(|(knot, (lower, upper))| (knot.lower_ns, knot.upper_ns) = (lower, upper));
        model.bounds = bounds;
    }
    found.contradictions
}

/// An interval that the estimate states is no wider than what bounds allow: a clock of one call has an estimate whose
/// slope nothing tells, and bounds that say how far it can be off all the same (lab s5: ± 6.4 s and 21 ms). Only against
/// a reference: where a group has none, its bounds are against a clock that may be off itself.
pub(super) fn narrow(map: &mut ClockMap) {
    let fixed = map.models.iter().filter(|model| model.state == ClockState::Reference);
    let groups: BTreeSet<u32> = fixed.map(|model| model.group).collect();
    for model in map.models.iter_mut().filter(|model| groups.contains(&model.group)) {
        for knot in model.segments.iter_mut().flat_map(|segment| &mut segment.knots) {
            if let (Some(lower), Some(upper)) = (knot.lower_ns, knot.upper_ns) {
                let furthest = upper.saturating_sub(knot.offset_ns).max(knot.offset_ns.saturating_sub(lower));
                knot.uncertainty_ns = knot.uncertainty_ns.min(furthest);
            }
        }
    }
}

/// A clock's residual during one cell of its own time. Of a clock at zero there is one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Node {
    clock: u32,
    segment: u32,
    /// Local time of its middle, ns.
    middle: i64,
}

impl Node {
    fn stretch(self) -> (u32, u32) {
        (self.clock, self.segment)
    }
}

/// residual(to) − residual(from) ≤ most.
#[derive(Clone, Copy, Debug)]
struct Claim {
    link: Link,
    is_response: bool,
    from: Node,
    to: Node,
    /// By the model, ns.
    delay: i64,
    most: i64,
    exchange: u64,
}

/// A response this much quicker than is usual on its link was sent before the server's span ended, so it proves
/// nothing. Without this, 5 in 100 bounds of lab s1 to s3 miss the truth, by up to a millisecond.
const QUICK: f64 = 0.5;

/// A request cannot arrive before it is sent, but a span may end after its response went out: leaves out the responses
/// whose delay, by the model, gives that away. The evidence holds the quickest of all, so the median is usual.
fn waited_for(claims: Vec<Claim>) -> Vec<Claim> {
    let mut kept = Vec::with_capacity(claims.len());
    for of_link in claims.chunk_by(|left, right| left.link == right.link) {
        let mut delays: Vec<i64> = of_link.iter().filter(|claim| claim.is_response).map(|claim| claim.delay).collect();
        delays.sort_unstable();
        let usual = delays.get(delays.len() / 2).copied().unwrap_or(0);
        let least = ((QUICK * usual as f64) as i64).max(0);
        kept.extend(of_link.iter().filter(|claim| !claim.is_response || claim.delay >= least));
    }
    kept
}

/// One end of a message: which node it is about, the model's offset there, and the leeway to the node's middle.
#[derive(Clone, Copy, Debug)]
struct End {
    node: Node,
    offset: i64,
    leeway: i64,
    reference: i64,
}

/// Lower and upper, ns.
type Between = (Option<i64>, Option<i64>);

/// What is written into one clock's model.
struct Written {
    knots: Vec<Between>,
    bounds: Vec<Bound>,
}

struct Clocks<'a> {
    models: &'a [ClockModel],
    /// Per clock and segment; one for a clock without a model.
    leeways: Vec<Vec<Leeway>>,
    domains: Vec<Option<u32>>,
    at_zero: Vec<bool>,
    cell_ns: i64,
}

impl<'a> Clocks<'a> {
    fn of(evidence: &Evidence, unanswered: &FxHashSet<u64>, map: &'a ClockMap) -> Self {
        let unsure = unsure_ppm(evidence, unanswered);
        let leeways = |(model, unsure): (&ClockModel, f64)| match model.segments.as_slice() {
            [] => vec![Leeway::free()],
            segments => segments.iter().map(|segment| Leeway::around(segment, unsure)).collect(),
        };
        let domains = domains(evidence, map);
        let mut at_zero = vec![false; map.models.len()];
        zeros(map, &domains).into_iter().for_each(|clock| at_zero[clock as usize] = true);
        let leeways = map.models.iter().zip(unsure).map(leeways).collect();
        let window_ns = evidence.rolled_up.as_ref().map_or(0, |rolled_up| rolled_up.window_ns);
        Self { models: &map.models, leeways, domains, at_zero, cell_ns: CELL_NS.max(window_ns / CELLS) }
    }

    fn leeway(&self, node: Node) -> &Leeway {
        &self.leeways[node.clock as usize][node.segment as usize]
    }

    /// What a reading proves. Floored times are anywhere up to a quantum later.
    fn claims(&self, reading: &Reading, answered: bool) -> impl Iterator<Item = Claim> {
        let (client, server) = (reading.link.client, reading.link.server);
        let domain = self.domains[client.0 as usize];
        let comparable = domain.is_some() && domain == self.domains[server.0 as usize];
        let forward = (comparable && reading.side != Side::Backward)
            .then(|| {
                let ends = (client, reading.request_sent, server, reading.request_received);
                let (sent, received) = self.ends(ends, reading.one_way)?;
                Some((sent, received, reading.forward_ns(), reading.server_quantum_ns))
            })
            .flatten();
        let backward = (comparable && reading.side != Side::Forward && answered)
            .then(|| {
                let ends = (server, reading.response_sent, client, reading.response_received);
                let (sent, received) = self.ends(ends, reading.one_way)?;
                Some((sent, received, reading.backward_ns(), reading.client_quantum_ns))
            })
            .flatten();
        let (link, exchange) = (reading.link, reading.exchange);
        let claim = move |is_response: bool, (sent, received, gap, quantum): (End, End, i64, u32)| {
            let delay = gap.saturating_sub(received.offset.saturating_sub(sent.offset));
            let most = delay.saturating_add(sent.leeway + received.leeway).saturating_add(i64::from(quantum));
            Claim { link, is_response, from: sent.node, to: received.node, delay, most, exchange }
        };
        let request = forward.map(|message| claim(false, message));
        request.into_iter().chain(backward.map(|message| claim(true, message)))
    }

    /// The two ends of a message; `None` where a step is so near that either may be on the other side.
    fn ends(&self, (from, sent, to, received): (ClockId, i64, ClockId, i64), one_way: bool) -> Option<(End, End)> {
        // A clock that stepped back reads the same time twice; the other end tells which, unless the message lay in a
        // queue meanwhile.
        match (self.end(from, sent, None), self.end(to, received, None)) {
            (Some(sent), Some(received)) => Some((sent, received)),
            (Some(sent), None) if !one_way => Some((sent, self.end(to, received, Some(sent.reference))?)),
            (None, Some(received)) if !one_way => Some((self.end(from, sent, Some(received.reference))?, received)),
            _ => None,
        }
    }

    fn end(&self, ClockId(clock): ClockId, local: i64, reference: Option<i64>) -> Option<End> {
        let model = &self.models[clock as usize];
        let at = LocalTime::from_nanos(local);
        let segment = match (model.segments.len(), reference) {
            (0 | 1, _) => 0,
            (count, Some(reference)) => (0..count).min_by_key(|&segment| {
                let here = local.saturating_sub(model.segments[segment].offset_at(at));
                here.saturating_sub(reference).saturating_abs()
            })?,
            (_, None) => {
                let mut segments = model.segments_at(at);
                let (segment, _) = segments.next()?;
                segments.next().is_none().then_some(segment)?
            }
        };
        let offset = model.segments.get(segment).map_or(0, |segment| segment.offset_at(at));
        let reference = local.saturating_sub(offset);
        if beside_step(model, segment, reference) != (false, false) {
            return None;
        }
        if self.at_zero[clock as usize] {
            return Some(End { node: Node { clock, segment: 0, middle: 0 }, offset, leeway: 0, reference });
        }
        let middle = local.div_euclid(self.cell_ns).saturating_mul(self.cell_ns).saturating_add(self.cell_ns / 2);
        let node = Node { clock, segment: segment as u32, middle };
        let leeway = self.leeway(node).between(local, node.middle);
        Some(End { node, offset, leeway, reference })
    }

    fn written(&self, clock: u32, nodes: &[Node], found: &Ranges) -> Written {
        let model = &self.models[clock as usize];
        let own = |segment: u32| {
            let start = nodes.partition_point(|node| node.stretch() < (clock, segment));
            start..start + nodes[start..].partition_point(|node| node.stretch() == (clock, segment))
        };
        if self.at_zero[clock as usize] {
            let knots = model.segments.iter().flat_map(|segment| &segment.knots);
            let knots = knots.map(|knot| (Some(knot.offset_ns), Some(knot.offset_ns))).collect();
            return Written { knots, bounds: Vec::new() };
        }
        if model.segments.is_empty() {
            let bound = |node: usize| Bound {
                local: LocalTime::from_nanos(nodes[node].middle),
                lower_ns: found.lower[node],
                upper_ns: found.upper[node],
            };
            let bounds = own(0).map(bound).filter(|bound| bound.lower_ns.or(bound.upper_ns).is_some()).collect();
            return Written { knots: Vec::new(), bounds };
        }
        let mut knots = Vec::new();
        for (place, segment) in (0u32..).zip(&model.segments) {
            let own = own(place);
            // Between the last reading before a step and the first behind it, the step may have been at any time.
            let jump = |from: usize| match (model.segments.get(from), model.segments.get(from + 1)) {
                (Some(before), Some(after)) => match (before.knots.last(), after.knots.first()) {
                    (Some(last), Some(first)) => first.offset_ns.saturating_sub(last.offset_ns),
                    _ => 0,
                },
                _ => 0,
            };
            let came = (place as usize).checked_sub(1).map_or(0, jump);
            let comes = jump(place as usize);
            let first = nodes[own.clone()].first().map_or(i64::MAX, |node| node.middle - self.cell_ns / 2);
            let last = nodes[own.clone()].last().map_or(i64::MIN, |node| node.middle + self.cell_ns / 2);
            for knot in &segment.knots {
                let local = knot.local.nanos();
                let near = beside_step(model, place as usize, local.saturating_sub(knot.offset_ns));
                let perhaps_before = if local < first || near.0 { -came } else { 0 };
                let perhaps_after = if local > last || near.1 { comes } else { 0 };
                let lowest = knot.offset_ns + perhaps_before.min(perhaps_after).min(0);
                let highest = knot.offset_ns + perhaps_before.max(perhaps_after).max(0);
                let leeway = &self.leeways[clock as usize][place as usize];
                let (lower, upper) = residual(&nodes[own.clone()], own.start, found, leeway, local);
                // A request that the model has arrive before it was sent is a finding of its own; the bounds hold both.
                let lower = lower.map(|it| lowest.saturating_add(it).min(knot.offset_ns));
                let upper = upper.map(|it| highest.saturating_add(it).max(knot.offset_ns));
                knots.push((lower, upper));
            }
        }
        Written { knots, bounds: Vec::new() }
    }
}

/// Whether a time in a segment is so near to the step that began it, or to the one that ends it, that it may be on the
/// other side of that step.
fn beside_step(model: &ClockModel, segment: usize, reference: i64) -> (bool, bool) {
    let Some(found) = model.segments.get(segment) else { return (false, false) };
    let behind = segment > 0 && reference.saturating_sub(found.from.nanos()) < NEAR_STEP_NS;
    let before = segment + 1 < model.segments.len() && found.until.nanos().saturating_sub(reference) < NEAR_STEP_NS;
    (behind, before)
}

/// A residual's bounds between two nodes: the tighter of what each of them says.
fn residual(own: &[Node], start: usize, found: &Ranges, leeway: &Leeway, local: i64) -> Between {
    let after = own.partition_point(|node| node.middle < local);
    let (mut lower, mut upper): Between = (None, None);
    for place in [after.checked_sub(1), (after < own.len()).then_some(after)].into_iter().flatten() {
        let wider = leeway.between(own[place].middle, local);
        if let Some(most) = found.upper[start + place] {
            let most = most.saturating_add(wider);
            upper = Some(upper.map_or(most, |upper| upper.min(most)));
        }
        if let Some(least) = found.lower[start + place] {
            let least = least.saturating_sub(wider);
            lower = Some(lower.map_or(least, |lower| lower.max(least)));
        }
    }
    (lower, upper)
}

/// How unsure each clock's frequency is: a round trip over the time between its first answered call and its last.
fn unsure_ppm(evidence: &Evidence, unanswered: &FxHashSet<u64>) -> Vec<f64> {
    let mut seen: Vec<Option<(i64, i64, i64)>> = vec![None; evidence.clocks.len()];
    for reading in evidence.readings.iter().filter(|reading| reading.side != Side::Forward) {
        if unanswered.contains(&reading.exchange) {
            continue;
        }
        let delay = reading.round_trip_delay_ns();
        let ends = [(reading.link.client, reading.response_received), (reading.link.server, reading.response_sent)];
        for (clock, local) in ends {
            let seen = seen[clock.0 as usize].get_or_insert((local, local, delay));
            *seen = (seen.0.min(local), seen.1.max(local), seen.2.min(delay));
        }
    }
    let ppm = |(first, last, delay): (i64, i64, i64)| delay.max(1) as f64 / last.saturating_sub(first) as f64 * 1e6;
    seen.into_iter().map(|seen| seen.map_or(f64::INFINITY, ppm)).collect()
}

/// Whom each clock is bounded against: its own group; for a clock without a round trip, the group that its messages
/// lead to, the reference's first, then the largest. `None`: nobody.
fn domains(evidence: &Evidence, map: &ClockMap) -> Vec<Option<u32>> {
    let group = |clock: usize| map.models[clock].group;
    let reference = map.reference.map(|ClockId(clock)| clock as usize);
    let mut sizes = vec![0u32; map.models.len()];
    map.models.iter().for_each(|model| sizes[model.group as usize] += 1);
    let tied = |clock: usize| sizes[group(clock) as usize] > 1 || Some(clock) == reference;
    let mut domains: Vec<Option<u32>> = (0..map.models.len()).map(|clock| tied(clock).then(|| group(clock))).collect();
    let mut messages: BTreeSet<(usize, usize)> = BTreeSet::new();
    let mut last = None;
    for link in evidence.readings.iter().map(|reading| reading.link).filter(|link| last.replace(*link) != Some(*link)) {
        let ends = (link.client.0 as usize, link.server.0 as usize);
        if !tied(ends.0) || !tied(ends.1) {
            messages.extend([ends, (ends.1, ends.0)]);
        }
    }
    let mut queue: Vec<usize> = (0..map.models.len()).filter(|&clock| tied(clock)).collect();
    let first = reference.map(group);
    queue.sort_by_key(|&clock| {
        (Some(group(clock)) != first, Reverse(sizes[group(clock) as usize]), group(clock), clock)
    });
    for members in queue.chunk_by(|&left, &right| group(left) == group(right)) {
        let mut queue: VecDeque<usize> = members.iter().copied().collect();
        while let Some(clock) = queue.pop_front() {
            for &(_, other) in messages.range((clock, 0)..=(clock, usize::MAX)) {
                if domains[other].is_none() {
                    domains[other] = domains[clock];
                    queue.push_back(other);
                }
            }
        }
    }
    domains
}

/// The clock of each domain whose residual is zero.
fn zeros(map: &ClockMap, domains: &[Option<u32>]) -> Vec<u32> {
    let known = |clock: &u32| {
        let model = &map.models[*clock as usize];
        domains[*clock as usize] == Some(model.group) && !model.segments.is_empty()
    };
    let mut clocks: Vec<u32> = (0..map.models.len() as u32).filter(known).collect();
    clocks.sort_by_key(|&clock| {
        let model = &map.models[clock as usize];
        let is_other = model.state != ClockState::Reference;
        (model.group, is_other, Reverse((model.neighbours, model.exchanges)), clock)
    });
    clocks.dedup_by_key(|clock| map.models[*clock as usize].group);
    clocks
}

#[cfg(test)]
mod tests;
