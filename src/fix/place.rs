//! Between the passes: heads of spans, calls and models → every span's times.
//!
//! Says of each span what `correct` asks, which knows nothing of pairing: its parent, its calls, what its clock is.

use rayon::prelude::*;

use crate::clock::{ClockId, ClockMap, ClockState, Exchange, Use};
use crate::correct::{self, Awaited, Call, Corrected, EndHabit, Ground, Order, Recorded, Sides};
use crate::dump::Dump;
use crate::pair::{self, Edge, EdgeKind, Paired, Pairing, Standing};
use crate::settings::Fix;
use crate::span::SpanKind;

/// Which clock each resource's SDK reads for the end of a span.
pub fn habits(dump: &Dump) -> Vec<EndHabit> {
    dump.attribute("telemetry.sdk.language").iter().map(|name| EndHabit::of_language(Some(name))).collect()
}

/// What to write for every span, by ordinal: each by its clock's model, then what acts on single spans.
pub fn corrected(settings: &Fix, dump: &Dump, spans: &[Paired], pairing: &Pairing, map: &ClockMap) -> Vec<Corrected> {
    let habits = habits(dump);
    let recorded =
        |span: &Paired| Recorded { start: span.head.start, end: span.head.end, ends: habits[span.resource as usize] };
    let recorded: Vec<Recorded> = spans.iter().map(recorded).collect();
    let clocks: Vec<ClockId> = spans.iter().map(|span| span.clock).collect();
    let sides = correct::sides(&recorded, &clocks, &pairing.parents, map);
    let one = |((span, clock), sides): ((&Recorded, &ClockId), &Sides)| correct::span(*span, map.model(*clock), *sides);
    let mut corrected: Vec<Corrected> = recorded.iter().zip(&clocks).zip(&sides).map(one).collect();
    correct::recover(&recorded, &mut corrected, &awaited(pairing, map));
    if map.models.iter().any(|model| model.state == ClockState::NoEvidence) {
        correct::fall_back(&mut corrected, &grounds(spans, pairing, map), &calls(spans, pairing, map));
    }
    for (span, before) in &dump.corrected_before {
        corrected[*span as usize] = *before;
    }
    let fixed = |span: u32| dump.spans[span as usize].marked || spans[span as usize].head.is_broken();
    let orders = orders(spans, pairing, map);
    correct::doubt(&mut corrected, &clocks, &orders, fixed);
    if settings.enforce_causality {
        correct::nudge(&mut corrected, &orders, fixed);
    }
    // A copy has no parent of its own; it goes where the span goes that stands for it.
    pairing.copies.iter().for_each(|&(copy, of)| corrected[copy as usize] = corrected[of as usize]);
    corrected
}

/// Which spans have a clock with a model, and which must be placed by their own trace: each call's work by itself, from the
/// span that took it, as the next call may have gone to another machine of the same name.
fn grounds(spans: &[Paired], pairing: &Pairing, map: &ClockMap) -> Vec<Ground> {
    let home = map.home();
    let ground = |index: u32| {
        let span = &spans[index as usize];
        let model = map.model(span.clock);
        match model.state {
            _ if span.head.is_broken() => Ground::None,
            ClockState::NoEvidence => Ground::Loose(taken_by(index, spans, pairing)),
            ClockState::Capped => Ground::None,
            _ if Some(model.group) == home => Ground::Firm,
            _ => Ground::None,
        }
    };
    (0..spans.len() as u32).into_par_iter().map(ground).collect()
}

/// The span that took the call that a span is part of the work of.
fn taken_by(span: u32, spans: &[Paired], pairing: &Pairing) -> u32 {
    let mut at = span;
    // A cycle of parents ends here.
    for _ in 0..DEEPEST {
        let (Paired { head, clock, resource, .. }, parent) = (&spans[at as usize], pairing.parents[at as usize]);
        match parent {
            Some(parent) if !matches!(head.kind, SpanKind::Server | SpanKind::Consumer) => {
                let of = &spans[parent as usize];
                if of.clock != *clock || of.resource != *resource {
                    break;
                }
                at = parent;
            }
            _ => break,
        }
    }
    at
}

/// Spans below each other in one process, at the most.
const DEEPEST: usize = 10_000;

/// Calls that say which of two came first: between clocks, and within one that may be several.
fn calls(spans: &[Paired], pairing: &Pairing, map: &ClockMap) -> Vec<Call> {
    let counts = |edge: &&Edge| {
        let is_own = pairing.parents[edge.child as usize] == Some(edge.parent);
        is_own && edge.kind != EdgeKind::Message && edge.exchange.counts != Use::Neither
    };
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

/// What each span and its parent must be to each other, where they can be compared.
fn orders(spans: &[Paired], pairing: &Pairing, map: &ClockMap) -> Vec<Option<(u32, Order)>> {
    let clock = |span: u32| spans[span as usize].clock;
    let along = |(child, parent): (u32, &Option<u32>)| {
        parent.filter(|&parent| clock(parent) == clock(child)).map(|parent| (parent, Order::Along))
    };
    let mut orders: Vec<_> = (0u32..).zip(&pairing.parents).map(along).collect();
    for edge in pairing.edges.iter().filter(|edge| pairing.parents[edge.child as usize] == Some(edge.parent)) {
        let comparable = map.model(clock(edge.parent)).group == map.model(clock(edge.child)).group;
        let order = match (edge.exchange.counts, edge.kind) {
            (Use::Neither, _) => None,
            (Use::TwoSided, EdgeKind::Call) => Some(Order::Within),
            (_, EdgeKind::Message) if edge.exchange.request_received == edge.exchange.response_sent => {
                Some(Order::EndsAfter)
            }
            _ => Some(Order::After),
        };
        orders[edge.child as usize] = order.filter(|_| comparable).map(|order| (edge.parent, order));
    }
    orders
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
    for (span, corrected) in spans.iter().zip(corrected).filter(|(span, _)| span.standing != Standing::Duplicate) {
        for step in &mut map.models[span.clock.0 as usize].steps {
            let at = step.at.nanos();
            step.spans_straddling += i64::from(corrected.start < at && at < corrected.end);
        }
    }
}
