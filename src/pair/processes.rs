//! Calls between processes, whether or not one clock stamps both.

use super::{EdgeKind, Paired, Pairing, readings};
use crate::clock::{Exchange, Link, Use};
use crate::span::{Protocol, SpanKind};

/// `(client's resource, server's resource, call)`. Calls within a clock are no evidence of an offset, but of whether it
/// is one clock; all attempts of a retried one count there.
pub fn between_processes<'a>(
    spans: &'a [Paired],
    pairing: &'a Pairing,
) -> impl Iterator<Item = (u32, u32, Exchange)> + 'a {
    let resource = |span: u32| spans[span as usize].resource;
    let calls = pairing.edges.iter().filter(|edge| edge.kind == EdgeKind::Call);
    let across = calls.map(move |edge| (resource(edge.parent), resource(edge.child), edge.exchange));
    let within = within_clocks(spans, pairing)
        .map(move |(parent, child, exchange)| (resource(parent), resource(child), exchange))
        .filter(|(client, server, _)| client != server);
    across.chain(within)
}

/// `(client's span, server's span, call)` of calls that one clock, or one key, stamps at both ends.
pub fn within_clocks<'a>(spans: &'a [Paired], pairing: &'a Pairing) -> impl Iterator<Item = (u32, u32, Exchange)> + 'a {
    (0u32..).zip(&pairing.parents).filter_map(|(child, parent)| {
        let parent = (*parent)?;
        let (from, to) = (&spans[parent as usize], &spans[child as usize]);
        (from.clock == to.clock).then(|| within(from, to)).flatten().map(|exchange| (parent, child, exchange))
    })
}

fn within(from: &Paired, to: &Paired) -> Option<Exchange> {
    let is_message = [from, to].iter().any(|span| span.head.facts.protocol == Protocol::Messaging);
    let is_call = (from.head.kind, to.head.kind) == (SpanKind::Client, SpanKind::Server) && !is_message;
    if !is_call || from.head.is_broken() || to.head.is_broken() {
        return None;
    }
    let mut exchange = readings(from, to, Link { client: from.clock, server: to.clock, class: 0 });
    (exchange.client_quantum_ns, exchange.server_quantum_ns) = (from.quantum_ns, to.quantum_ns);
    let answered = !from.head.facts.gave_up && exchange.round_trip_delay_ns() >= 0;
    exchange.counts = if answered { Use::TwoSided } else { Use::ForwardOnly };
    Some(exchange)
}
