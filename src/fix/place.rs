//! Between the passes: heads of spans, calls and models → every span's times.
//!
//! Says of each span what `correct` asks, which knows nothing of pairing: its parent, its calls, what its clock is. What
//! the gate puts back is left as recorded, and all that hung on it is placed anew, until nothing more is put back.

use std::collections::{BTreeMap, BTreeSet};

use rayon::prelude::*;

use crate::clock::{Clock, ClockId, ClockMap, ClockState, Exchange, Order, Pair, Times, Treatment, Use};
use crate::correct::{
    self, Awaited, Call, Corrected, Correction, EndHabit, Ground, Left, NO_UNIT, Outcome, PutBack, Recorded, Sides,
    Unit, Why,
};
use crate::dump::Dump;
use crate::pair::{self, Edge, EdgeKind, Paired, Pairing};
use crate::settings::Fix;
use crate::span::SpanKind;

/// Which clock each resource's SDK reads for the end of a span.
pub fn habits(dump: &Dump) -> Vec<EndHabit> {
    dump.attribute("telemetry.sdk.language").iter().map(|name| EndHabit::of_language(Some(name))).collect()
}

/// Every span's times, and what was left as recorded for want of a better.
#[derive(Clone, Debug, Default)]
pub struct Placed {
    /// By ordinal, as found in the input: recorded, or as an earlier run left it.
    pub before: Vec<Times>,
    /// By ordinal.
    pub corrected: Vec<Corrected>,
    pub left: Vec<Left>,
}

/// The steepest slope of an offset, ppm, in either way: chrony slews by at most 83,333 (its `maxslewrate`).
const STEEPEST_PPM: f64 = 100_000.0;

/// What to write for every span: each by its clock's model, then what acts on single spans. Segments that no clock can have
/// made, or that leave more out of order than they found, are `Contradictory` in `map` from here on.
pub fn placed(
    settings: &Fix,
    dump: &Dump,
    clocks: &[Clock],
    (spans, pairing): (&[Paired], &Pairing),
    map: &mut ClockMap,
) -> Placed {
    let mut left = too_steep(map);
    let placing = Placing::of(dump, clocks, (spans, pairing), map);
    let mut back: BTreeSet<Unit> = BTreeSet::new();
    let before = placing.before();
    let mut corrected = placing.corrected(map, &back);
    loop {
        let units = placing.units(map, &back, &corrected);
        let put_back = placing.gate(&units, &before, &corrected);
        if put_back.is_empty() {
            break;
        }
        for put_back in put_back {
            let unit = units.all[put_back.unit as usize];
            if let Unit::Segment { clock: ClockId(clock), number } = unit {
                let model = &mut map.models[clock as usize];
                if model.segments[number].treatment == Treatment::Moved {
                    model.contradict(number);
                }
            }
            back.insert(unit);
            left.push(Left { unit, why: Why::Worse(put_back) });
        }
        corrected = placing.corrected(map, &back);
    }
    let fixed = |span: u32| dump.spans[span as usize].marked || spans[span as usize].head.is_broken();
    let orders = placing.orders(map);
    correct::doubt(&mut corrected, &placing.clocks, &orders, fixed);
    if settings.enforce_causality {
        correct::nudge(&mut corrected, &orders, fixed);
    }
    // A copy has no parent of its own; it goes where the span goes that stands for it.
    pairing.copies.iter().for_each(|&(copy, of)| corrected[copy as usize] = corrected[of as usize]);
    Placed { before, corrected, left }
}

/// Takes out the segments whose offset changes faster than any clock is slewed.
fn too_steep(map: &mut ClockMap) -> Vec<Left> {
    let mut left = Vec::new();
    for (clock, model) in (0..).map(ClockId).zip(&mut map.models) {
        for number in 0..model.segments.len() {
            let steepest = model.segments[number].steepest_ppm();
            if steepest > STEEPEST_PPM {
                model.contradict(number);
                left.push(Left { unit: Unit::Segment { clock, number }, why: Why::Rate(steepest) });
            }
        }
    }
    left
}

/// What every placing of the spans of a dump has in common.
struct Placing<'a> {
    dump: &'a Dump,
    spans: &'a [Paired],
    pairing: &'a Pairing,
    pairs: Vec<Pair>,
    recorded: Vec<Recorded>,
    clocks: Vec<ClockId>,
    sides: Vec<Sides>,
    /// Where a clock has no model.
    grounds: Vec<Ground>,
}

/// The units of all spans.
struct Units {
    /// In the order in which they are put back where all else is equal, which is that of no input.
    all: Vec<Unit>,
    /// Per span, those of its start and end.
    of_span: Vec<[u32; 2]>,
}

impl<'a> Placing<'a> {
    fn of(dump: &'a Dump, clocks: &[Clock], (spans, pairing): (&'a [Paired], &'a Pairing), map: &ClockMap) -> Self {
        let habits = habits(dump);
        let recorded = |span: &Paired| Recorded {
            start: span.head.start,
            end: span.head.end,
            ends: habits[span.resource as usize],
        };
        let recorded: Vec<Recorded> = spans.iter().map(recorded).collect();
        let of_spans: Vec<ClockId> = spans.iter().map(|span| span.clock).collect();
        let sides = correct::sides(&recorded, &of_spans, &pairing.parents, map);
        let is_loose = map.models.iter().any(|model| model.state == ClockState::NoEvidence);
        let grounds = if is_loose { grounds(clocks, spans, pairing, map) } else { Vec::new() };
        let pairs = pairing.pairs().collect();
        Self { dump, spans, pairing, pairs, recorded, clocks: of_spans, sides, grounds }
    }

    /// All spans but for `back`, which is left as recorded.
    fn corrected(&self, map: &ClockMap, back: &BTreeSet<Unit>) -> Vec<Corrected> {
        let one = |((recorded, clock), sides): ((&Recorded, &ClockId), &Sides)| {
            correct::span(*recorded, map.model(*clock), *sides)
        };
        let mut corrected: Vec<Corrected> = self.recorded.iter().zip(&self.clocks).zip(&self.sides).map(one).collect();
        let stands = |span: u32| corrected[span as usize].correction != Correction::Contradictory;
        let is_back = |span: u32| {
            let number = corrected[span as usize].segment;
            number.is_some_and(|number| back.contains(&Unit::Segment { clock: self.clocks[span as usize], number }))
        };
        let mut awaited = awaited(self.pairing, map);
        awaited.retain(|call| stands(call.parent) && stands(call.child) && !is_back(call.child));
        correct::recover(&self.recorded, &mut corrected, &awaited);
        if !self.grounds.is_empty() {
            let stands = |span: usize| match self.grounds[span] {
                Ground::Loose(work) => !back.contains(&Unit::Work { span: work }),
                _ => corrected[span].correction != Correction::Contradictory,
            };
            let ground = |span: usize| if stands(span) { self.grounds[span] } else { Ground::None };
            let grounds: Vec<Ground> = (0..self.spans.len()).map(ground).collect();
            correct::fall_back(&mut corrected, &grounds, &calls(self.spans, self.pairing, map));
            for (span, ground) in self.grounds.iter().enumerate() {
                if matches!(ground, Ground::Loose(_)) && grounds[span] == Ground::None {
                    corrected[span].correction = Correction::Contradictory;
                }
            }
        }
        for (span, before) in &self.dump.corrected_before {
            corrected[*span as usize] = *before;
        }
        corrected
    }

    /// What each span is moved with, but for `back`, which is moved no more.
    fn units(&self, map: &ClockMap, back: &BTreeSet<Unit>, corrected: &[Corrected]) -> Units {
        let mut all: Vec<Unit> = Vec::new();
        let mut first: Vec<u32> = Vec::with_capacity(map.models.len());
        for (clock, model) in (0..).map(ClockId).zip(&map.models) {
            first.push(all.len() as u32);
            all.extend((0..model.segments.len()).map(|number| Unit::Segment { clock, number }));
        }
        let work = |span: usize| match self.grounds.get(span) {
            Some(Ground::Loose(work)) if corrected[span].correction == Correction::TraceFallback => Some(*work),
            _ => None,
        };
        let mut works: Vec<u32> = (0..self.spans.len()).filter_map(work).collect();
        works.sort_unstable_by_key(|&work| {
            let Paired { head, clock, .. } = &self.spans[work as usize];
            (*clock, head.trace, head.span, head.kind, head.start, head.fingerprint, work)
        });
        works.dedup();
        let of_work: BTreeMap<u32, u32> = works.iter().copied().zip(all.len() as u32..).collect();
        all.extend(works.iter().map(|&span| Unit::Work { span }));
        let of_span = |span: usize| {
            let segment = |number: Option<usize>| match number {
                Some(number) if !self.dump.spans[span].marked => {
                    let unit = first[self.clocks[span].0 as usize] + number as u32;
                    if back.contains(&all[unit as usize]) { NO_UNIT } else { unit }
                }
                _ => NO_UNIT,
            };
            match work(span) {
                Some(work) => [of_work[&work], NO_UNIT],
                None => [corrected[span].segment, corrected[span].segment.map(|_| self.sides[span].end)].map(segment),
            }
        };
        let of_span = (0..self.spans.len()).map(of_span).collect();
        Units { all, of_span }
    }

    /// Every span's times in the input: as recorded, or as an earlier run left it.
    fn before(&self) -> Vec<Times> {
        // An end before its start is written at it wherever the clock is.
        let recorded = |span: &Recorded| (span.start.nanos(), span.end.max(span.start).nanos());
        let mut before: Vec<Times> = self.recorded.iter().map(recorded).collect();
        for (span, corrected) in &self.dump.corrected_before {
            before[*span as usize] = (corrected.start, corrected.end);
        }
        before
    }

    fn gate(&self, units: &Units, before: &[Times], corrected: &[Corrected]) -> Vec<PutBack> {
        let after: Vec<Times> = corrected.iter().map(|span| (span.start, span.end)).collect();
        correct::gate(&Outcome { pairs: &self.pairs, before, after: &after, units: &units.of_span })
    }

    /// What each span and its parent must be to each other, where they can be compared.
    fn orders(&self, map: &ClockMap) -> Vec<Option<(u32, Order)>> {
        let clock = |span: u32| self.clocks[span as usize];
        let along = |(child, parent): (u32, &Option<u32>)| {
            parent.filter(|&parent| clock(parent) == clock(child)).map(|parent| (parent, Order::Along))
        };
        let mut orders: Vec<_> = (0u32..).zip(&self.pairing.parents).map(along).collect();
        for Pair { parent, child, order, .. } in &self.pairs {
            let comparable = map.model(clock(*parent)).group == map.model(clock(*child)).group;
            orders[*child as usize] = Some((*parent, *order)).filter(|_| comparable);
        }
        orders
    }
}

/// Which spans have a clock with a model, and which must be placed by their own trace: each call's work by itself, from the
/// span that took it, as the next call may have gone to another machine of the same name. Where no clock has a model, those
/// that are known by a key of their own are taken as they are.
fn grounds(clocks: &[Clock], spans: &[Paired], pairing: &Pairing, map: &ClockMap) -> Vec<Ground> {
    let home = map.home();
    let taken = taken_by(spans, pairing);
    let ground = |index: u32| {
        let span = &spans[index as usize];
        let model = map.model(span.clock);
        match model.state {
            _ if span.head.is_broken() => Ground::None,
            ClockState::NoEvidence if home.is_none() && !clocks[span.clock.0 as usize].untrusted => Ground::Firm,
            ClockState::NoEvidence => Ground::Loose(taken[index as usize]),
            ClockState::Capped => Ground::None,
            _ if Some(model.group) == home => Ground::Firm,
            _ => Ground::None,
        }
    };
    (0..spans.len() as u32).into_par_iter().map(ground).collect()
}

/// Per span, the one that took the call that it is part of the work of: its topmost ancestor in one process, by path
/// compression. Each parent is followed once, however deep a trace is; the spans of a cycle have one among them.
fn taken_by(spans: &[Paired], pairing: &Pairing) -> Vec<u32> {
    let caller = |index: u32| {
        let (Paired { head, clock, resource, .. }, parent) = (&spans[index as usize], pairing.parents[index as usize]?);
        let of = &spans[parent as usize];
        let is_taken = matches!(head.kind, SpanKind::Server | SpanKind::Consumer);
        (!is_taken && of.clock == *clock && of.resource == *resource).then_some(parent)
    };
    let mut taken: Vec<Option<u32>> = vec![None; spans.len()];
    let mut path = Vec::new();
    for index in 0..spans.len() as u32 {
        let mut at = index;
        let top = loop {
            if let Some(top) = taken[at as usize] {
                break top;
            }
            // Its own until more is known, where a cycle ends.
            taken[at as usize] = Some(at);
            path.push(at);
            at = caller(at).unwrap_or(at);
        };
        path.drain(..).for_each(|below| taken[below as usize] = Some(top));
    }
    taken.into_iter().flatten().collect()
}

/// Calls that say which of two came first: between clocks, and within one that may be several.
fn calls(spans: &[Paired], pairing: &Pairing, map: &ClockMap) -> Vec<Call> {
    let counts =
        |edge: &&Edge| pairing.is_own(edge) && edge.kind != EdgeKind::Message && edge.exchange.counts != Use::Neither;
    let across = pairing.edges.iter().filter(counts).map(|edge| (edge.parent, edge.child, edge.exchange));
    let loose = |exchange: &Exchange| map.model(exchange.link.server).state == ClockState::NoEvidence;
    let within = pair::within_clocks(spans, pairing).filter(|(.., exchange)| loose(exchange));
    let call = |(parent, child, exchange): (u32, u32, Exchange)| Call {
        parent,
        child,
        waited: exchange.counts == Use::TwoSided,
        quanta_ns: [exchange.client_quantum_ns, exchange.server_quantum_ns].map(|quantum| i64::from(quantum) - 1),
    };
    across.chain(within).map(call).collect()
}

/// Calls whose client waited for the response, between clocks that can be compared.
fn awaited(pairing: &Pairing, map: &ClockMap) -> Vec<Awaited> {
    let group = |clock: ClockId| map.model(clock).group;
    let edges = pairing.edges.iter().filter(|edge| edge.exchange.counts == Use::TwoSided);
    edges
        .map(|edge| Awaited { parent: edge.parent, child: edge.child, link: edge.exchange.link })
        .filter(|call| group(call.link.client) == group(call.link.server))
        .collect()
}

/// Spans that began before a step of their clock and ended after it.
pub fn count_straddling(map: &mut ClockMap, spans: &[Paired], corrected: &[Corrected]) {
    for (span, corrected) in spans.iter().zip(corrected).filter(|(span, _)| span.is_told()) {
        for step in &mut map.models[span.clock.0 as usize].steps {
            let at = step.at.nanos();
            step.spans_straddling += i64::from(corrected.start < at && at < corrected.end);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pair::Standing;
    use crate::span::SpanHead;

    /// Spans of one process, each with its parent and kind.
    fn taken(spans: &[(Option<u32>, SpanKind)]) -> Vec<u32> {
        let paired = |&(_, kind): &(Option<u32>, SpanKind)| Paired {
            head: SpanHead { kind, ..SpanHead::default() },
            clock: ClockId(0),
            resource: 0,
            quantum_ns: 1,
            standing: Standing::Only,
        };
        let paired: Vec<Paired> = spans.iter().map(paired).collect();
        let parents = spans.iter().map(|(parent, _)| *parent).collect();
        taken_by(&paired, &Pairing { parents, ..Pairing::default() })
    }

    #[test]
    fn work_is_of_the_server_span_above_it() {
        use SpanKind::{Client, Internal, Server};
        let outer = [(None, Server), (Some(0), Client), (Some(1), Server), (Some(4), Internal), (Some(2), Client)];
        assert_eq!(taken(&outer), [0, 0, 2, 2, 2]);
    }

    #[test]
    fn work_is_one_however_deep_it_is_and_in_a_cycle_too() {
        const DEEP: u32 = 100_000;
        // Each under the next.
        let chain = |last: Option<u32>| -> Vec<_> {
            (1..=DEEP).map(|next| (Some(next).filter(|next| *next < DEEP).or(last), SpanKind::Internal)).collect()
        };
        assert_eq!(taken(&chain(None)), [DEEP - 1; DEEP as usize]);
        let ring = taken(&chain(Some(0)));
        assert!(ring.iter().all(|taken| *taken == ring[0]));
    }
}
