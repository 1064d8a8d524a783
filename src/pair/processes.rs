//! Calls between processes, whether or not one clock stamps both.

use super::{EdgeKind, Paired, Pairing, broken, readings};
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
    let within = spans.iter().zip(&pairing.parents).filter_map(|(to, parent)| {
        let from = &spans[(*parent)? as usize];
        (from.clock == to.clock && from.resource != to.resource).then(|| within(from, to)).flatten()
    });
    across.chain(within)
}

fn within(from: &Paired, to: &Paired) -> Option<(u32, u32, Exchange)> {
    let is_message = [from, to].iter().any(|span| span.head.facts.protocol == Protocol::Messaging);
    let is_call = (from.head.kind, to.head.kind) == (SpanKind::Client, SpanKind::Server) && !is_message;
    if !is_call || broken(&from.head) || broken(&to.head) {
        return None;
    }
    let mut exchange = readings(from, to, Link { client: from.clock, server: to.clock, class: 0 });
    (exchange.client_quantum_ns, exchange.server_quantum_ns) = (from.quantum_ns, to.quantum_ns);
    let answered = !from.head.facts.gave_up && exchange.round_trip_delay_ns() >= 0;
    exchange.counts = if answered { Use::TwoSided } else { Use::ForwardOnly };
    Some((from.resource, to.resource, exchange))
}
