//! Time sources within a process: libraries that stamp their spans by another clock than the rest does.
//!
//! In come spans with their parents and instrumentation scopes; out go pairs of scopes of one process of which one's spans
//! lie wholly outside of those of the other that caused them, most of the time and by about as much. What runs on after its
//! parent has ended lies outside as well, but by anything.

use std::collections::{BTreeMap, BTreeSet};

use super::{Edge, Paired};
use crate::clock::Use;

/// Two scopes of one process that are apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Source {
    /// Index of the distinct resource.
    pub resource: u32,
    /// Of the parents and of the children.
    pub scopes: [u32; 2],
    /// Children of the one in the other, and those of them that lie outside.
    pub pairs: usize,
    pub outside: usize,
    /// How long after the parent's start they start, in the median, ns; negative: before it.
    pub apart_ns: i64,
}

/// So many pairs at the least show a habit.
const LEAST: usize = 10;

/// Finds scopes that are apart: at least half of the children of one in the other lie outside of their parents, and of these
/// the middle half within as much as half of their distance. `scopes` are per span.
pub fn sources(spans: &[Paired], parents: &[Option<u32>], scopes: impl Fn(u32) -> u32) -> Vec<Source> {
    let mut found: BTreeMap<(u32, [u32; 2]), (usize, Vec<i64>)> = BTreeMap::new();
    let families = (0u32..).zip(parents).filter_map(|(child, parent)| Some((child, (*parent)?)));
    for (child, parent) in families {
        let both = [scopes(parent), scopes(child)];
        let (of, from) = (&spans[child as usize], &spans[parent as usize]);
        if both[0] == both[1] || of.resource != from.resource || of.head.is_broken() || from.head.is_broken() {
            continue;
        }
        let (count, outside) = found.entry((of.resource, both)).or_default();
        *count += 1;
        if of.head.start > from.head.end || of.head.end < from.head.start {
            outside.push(of.head.start - from.head.start);
        }
    }
    let source = |((resource, scopes), (pairs, mut outside)): ((u32, [u32; 2]), (usize, Vec<i64>))| {
        outside.sort_unstable();
        let quantile = |quarters: usize| outside.get(quarters * outside.len() / 4).copied();
        let [low, apart_ns, high] = [quantile(1)?, quantile(2)?, quantile(3)?];
        let is_alike = high.saturating_sub(low) <= apart_ns.saturating_abs() / 2;
        let is_habit = outside.len() >= LEAST && 2 * outside.len() >= pairs && is_alike;
        is_habit.then_some(Source { resource, scopes, pairs, outside: outside.len(), apart_ns })
    };
    found.into_iter().filter_map(source).collect()
}

/// Why a call is no evidence.
pub const TWO_SOURCES: &str = "libraries of its process stamp by two time sources";

/// Takes calls for no evidence that were stamped by scopes that are apart: nobody can tell which of the two goes by their clock.
/// `stamped` gives a span's resource and scope.
pub fn distrust(edges: &mut [Edge], sources: &[Source], stamped: impl Fn(u32) -> [u32; 2]) {
    let apart: BTreeSet<[u32; 2]> =
        sources.iter().flat_map(|source| source.scopes.map(|scope| [source.resource, scope])).collect();
    for edge in edges {
        if [edge.parent, edge.child].iter().any(|span| apart.contains(&stamped(*span))) {
            edge.exchange.counts = Use::Neither;
            edge.reason = Some(TWO_SOURCES);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::{ClockId, LocalTime};
    use crate::pair::Standing;
    use crate::span::SpanHead;

    const NOON: i64 = 1_700_000_000_000_000_000;

    /// Work of 10 ms, with a child by another library so long behind its start, ms.
    fn check(behind_ms: &[i64], expected: Option<(usize, i64)>) {
        let span = |from_ms: i64| {
            let time = |ms: i64| LocalTime::from_nanos(NOON + ms * 1_000_000);
            let head = SpanHead { start: time(from_ms), end: time(from_ms + 10), ..SpanHead::default() };
            Paired { head, clock: ClockId(0), resource: 0, quantum_ns: 1, standing: Standing::Only }
        };
        let spans: Vec<Paired> = behind_ms.iter().flat_map(|&behind| [span(0), span(behind)]).collect();
        let parents: Vec<Option<u32>> =
            (0..spans.len() as u32).map(|span| (span % 2 == 1).then_some(span.saturating_sub(1))).collect();
        let found = sources(&spans, &parents, |span| span % 2);
        let told = found.first().map(|source| (source.outside, source.apart_ns / 1_000_000));
        assert_eq!(told, expected, "{behind_ms:?}");
    }

    #[test]
    fn a_library_that_is_off_by_much_the_same_is_told() {
        check(&[500, 501, 502, 503, 504, 505, 506, 507, 508, 509], Some((10, 505)));
        check(&[-180; 12], Some((12, -180)));
        // One that is right among them.
        check(&[vec![500; 12], vec![2]].concat(), Some((12, 500)));
    }

    #[test]
    fn what_lies_inside_or_runs_on_later_is_not() {
        check(&[2; 40], None);
        check(&[vec![2; 30], vec![500; 12]].concat(), None);
        check(&[12, 30, 45, 80, 130, 260, 400, 900, 1_500, 4_000, 9_000], None);
        check(&[500; 9], None);
    }

    #[test]
    fn calls_by_scopes_that_are_apart_are_no_evidence() {
        let source = Source { resource: 7, scopes: [1, 2], pairs: 20, outside: 20, apart_ns: -5 };
        // Of each span its resource and scope.
        let stamped = [[7, 1], [7, 3], [8, 1], [7, 2]];
        let edge = |parent, child| Edge {
            parent,
            child,
            kind: crate::pair::EdgeKind::Call,
            order: None,
            exchange: crate::clock::Exchange {
                id: 0,
                link: crate::clock::Link::default(),
                request_sent: LocalTime::from_nanos(0),
                request_received: LocalTime::from_nanos(0),
                response_sent: LocalTime::from_nanos(0),
                response_received: LocalTime::from_nanos(0),
                client_quantum_ns: 1,
                server_quantum_ns: 1,
                counts: Use::TwoSided,
            },
            reason: None,
        };
        let mut edges = [edge(2, 0), edge(2, 1), edge(3, 2), edge(1, 2)];
        distrust(&mut edges, &[source], |span| stamped[span as usize]);
        let counts = edges.map(|edge| (edge.exchange.counts == Use::TwoSided, edge.reason.is_none()));
        assert_eq!(counts, [(false, false), (true, true), (false, false), (true, true)]);
    }
}
