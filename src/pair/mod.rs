//! Spans → exchanges, each with the kind of evidence it is.
//!
//! In come the compact heads of all spans with whose clock stamped them; out go calls between two clocks. Assumed:
//! only *server start ≥ client start* is safe everywhere; everything else depends on kinds, on whether the client says
//! that it gave up, and on δ (ESTIMATOR.md, facts 3 and 4): an error is an answer unless it came quicker than answers do. No
//! order of the input matters.

mod ancestry;
mod processes;
mod quantum;
mod sources;

use ancestry::Ancestry;
pub use processes::{between_processes, within_clocks};
use quantum::{Start, quanta};
pub use sources::{Source, TWO_SOURCES, distrust, sources};

use std::cmp::Reverse;

use rayon::prelude::*;
use rustc_hash::{FxHashMap, FxHashSet};

use crate::clock::{CallClass, ClockId, Exchange, Link, LocalTime, Order, Pair, Use, WITHOUT_CLIENT};
use crate::span::{Protocol, SpanHead, SpanId, SpanKind, TraceId};

/// A span as pairing sees it.
#[derive(Clone, Copy, Debug)]
pub struct Paired {
    pub head: SpanHead,
    pub clock: ClockId,
    /// Index of its distinct resource.
    pub resource: u32,
    /// Its start was floored to a multiple of this many ns.
    pub quantum_ns: u32,
    /// Another copy of the same span stands for it.
    pub standing: Standing,
}

/// What a span's id has in common with another's.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Standing {
    #[default]
    Only,
    /// A byte-equal copy comes earlier in the input.
    Duplicate,
    /// Another span has the same ids and kind and differs; this one takes part.
    ConflictingFirst,
    /// As above; the other takes part.
    Conflicting,
    /// It is of another window: evidence here, and a parent of others, but told of there.
    Context,
}

impl Paired {
    /// Whether it is told of: counted, and written.
    pub fn is_told(&self) -> bool {
        !matches!(self.standing, Standing::Duplicate | Standing::Context)
    }
}

/// A parent and its child on two clocks, or a link between them.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Edge {
    /// Indices into the spans.
    pub parent: u32,
    pub child: u32,
    pub kind: EdgeKind,
    /// What the two must be to each other; `None` where one of their times says nothing.
    pub order: Option<Order>,
    pub exchange: Exchange,
    /// Why it counts for less than both ways.
    pub reason: Option<&'static str>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum EdgeKind {
    /// CLIENT → SERVER: the client waited, unless it says otherwise.
    Call,
    /// SERVER → SERVER: the client span is missing.
    WithoutClient,
    /// A publish and what became of it below it.
    Message,
    /// A publish and what took it with a link to it.
    Linked,
    /// Anything else across clocks: the forward inequality only.
    Other,
}

/// An oddity of the tree of spans.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Oddity {
    MissingParent,
    ParentCycle,
    Duplicate,
    ConflictingDuplicate,
    InvalidId,
}

/// What pairing makes of all spans.
#[derive(Clone, Debug, Default)]
pub struct Pairing {
    /// Sorted.
    pub classes: Vec<CallClass>,
    /// In order of trace, child and parent.
    pub edges: Vec<Edge>,
    /// Per span its parent in the dump, on whichever clock.
    pub parents: Vec<Option<u32>>,
    /// Byte-equal copies, each with the span that stands for it.
    pub copies: Vec<(u32, u32)>,
    /// `(span, what)`, in order of trace and span.
    pub oddities: Vec<(u32, Oddity)>,
}

impl Edge {
    /// The two with what they must be to each other; `None` where one of their times says nothing.
    pub fn pair(&self) -> Option<Pair> {
        let quanta_ns = [self.exchange.client_quantum_ns, self.exchange.server_quantum_ns];
        self.order.map(|order| Pair::new(self.parent, self.child, order, quanta_ns))
    }
}

impl Pairing {
    /// Whether it is a child and its parent, not a link. A server that shares its client's id is that client's child, not its
    /// parent's too.
    pub fn is_own(&self, edge: &Edge) -> bool {
        edge.kind != EdgeKind::Linked && self.parents[edge.child as usize] == Some(edge.parent)
    }

    /// All parents and children on two clocks whose times say something.
    pub fn pairs(&self) -> impl Iterator<Item = Pair> {
        self.edges.iter().filter(|edge| self.is_own(edge)).filter_map(Edge::pair)
    }
}

/// Finds every call between two clocks. Marks copies in `spans`, and how far their starts are floored. `links` are `(span, target)`; `services` names each
/// resource's service.
pub fn pair(spans: &mut [Paired], links: &[(u32, TraceId, SpanId)], services: &[String]) -> Pairing {
    let mut order: Vec<u32> = (0..spans.len() as u32).collect();
    let key = |span: &Paired| {
        let head = &span.head;
        (head.trace, head.span, head.kind, head.start, head.end, head.fingerprint, span.resource)
    };
    // The index comes last: of byte-equal copies the first in the input is written.
    order.par_sort_unstable_by_key(|&index| (key(&spans[index as usize]), index));
    let (mut oddities, copies) = mark_copies(spans, &order);

    let mut links = links.to_vec();
    links.sort_unstable_by_key(|&(span, trace, target)| {
        let head = &spans[span as usize].head;
        (head.trace, head.span, trace, target, span)
    });
    let tree = Tree { spans: &*spans, order: &order, services: &numbered(services) };
    let mut found: Vec<Found> = order
        .chunk_by(|&left, &right| spans[left as usize].head.trace == spans[right as usize].head.trace)
        .collect::<Vec<_>>()
        .into_par_iter()
        .with_min_len(64)
        .map(|trace| tree.trace(trace))
        .collect();
    found.push(tree.links(&links));

    let (classes, place) = classes(&found, services);
    let mut edges = Vec::new();
    let mut parents = vec![None; spans.len()];
    for own in found {
        edges.extend(own.edges.into_iter().map(|mut edge| {
            edge.exchange.link.class = place[&own.classes[edge.exchange.link.class as usize]];
            edge
        }));
        oddities.extend(own.oddities);
        own.parents.into_iter().for_each(|(child, parent)| parents[child as usize] = Some(parent));
    }
    doubt_quick_errors(spans, &mut edges);
    find_quanta(spans, &parents, services.len());
    for Edge { parent, child, exchange, .. } in &mut edges {
        exchange.client_quantum_ns = spans[*parent as usize].quantum_ns;
        exchange.server_quantum_ns = spans[*child as usize].quantum_ns;
    }
    oddities.sort_unstable_by_key(|&(span, what)| {
        let head = &spans[span as usize].head;
        (head.trace, head.span, head.kind, what, head.start, head.end, head.fingerprint)
    });
    Pairing { classes, edges, parents, copies, oddities }
}

/// Errors of unknown meaning: by HTTP without a status one may be the answer, or that of a client that gave up and
/// does not say so, whose end follows no response. It counts as an answer where it took no less than calls between
/// the same two clocks usually do, or where all of them failed. (Fleets of `given_up`, seeds 1 to 6, against taking
/// all such errors for givings-up: p95 × 1.44 in the median, × 1.04 with this.)
fn doubt_quick_errors(spans: &[Paired], edges: &mut [Edge]) {
    let awaited = |edge: &Edge| edge.kind == EdgeKind::Call && edge.exchange.counts == Use::TwoSided;
    let client = |edge: &Edge| &spans[edge.parent as usize].head;
    let in_doubt = |edge: &Edge| {
        let SpanHead { failed, facts, .. } = client(edge);
        *failed && facts.protocol == Protocol::Http && !facts.has_http_status
    };
    let between = |edge: &Edge| (edge.exchange.link.client, edge.exchange.link.server);
    let doubtful: FxHashSet<(ClockId, ClockId)> =
        edges.iter().filter(|edge| awaited(edge) && in_doubt(edge)).map(between).collect();
    let mut delays: FxHashMap<(ClockId, ClockId), Vec<i64>> = FxHashMap::default();
    for edge in edges.iter().filter(|edge| awaited(edge) && !client(edge).failed && doubtful.contains(&between(edge))) {
        delays.entry(between(edge)).or_default().push(edge.exchange.round_trip_delay_ns());
    }
    let median = |mut delays: Vec<i64>| {
        let middle = delays.len() / 2;
        *delays.select_nth_unstable(middle).1
    };
    let usual: FxHashMap<(ClockId, ClockId), i64> =
        delays.into_iter().map(|(clocks, delays)| (clocks, median(delays))).collect();
    for edge in edges.iter_mut().filter(|edge| awaited(edge) && in_doubt(edge)) {
        if usual.get(&between(edge)).is_some_and(|usual| edge.exchange.round_trip_delay_ns() < *usual) {
            edge.exchange.counts = Use::ForwardOnly;
            edge.reason = Some("an error that came quicker than answers do: perhaps the client gave up");
        }
    }
}

/// A class of calls while there are edges to be sorted into it: services by their resources' numbers. Its names are put
/// together once all are known, as most traces have the same few.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct ClassKey {
    client_service: u32,
    server_service: u32,
    kind: EdgeKind,
    protocol: Protocol,
}

/// Per resource, the first with a service of that name.
fn numbered(services: &[String]) -> Vec<u32> {
    let mut first: FxHashMap<&str, u32> = FxHashMap::default();
    (0..).zip(services).map(|(resource, service)| *first.entry(service).or_insert(resource)).collect()
}

/// All classes, sorted, and the place of each key among them.
fn classes(found: &[Found], services: &[String]) -> (Vec<CallClass>, FxHashMap<ClassKey, u32>) {
    let keys: FxHashSet<ClassKey> = found.iter().flat_map(|found| found.classes.iter().copied()).collect();
    let class = |key: ClassKey| CallClass {
        client_service: services[key.client_service as usize].clone(),
        server_service: services[key.server_service as usize].clone(),
        protocol: match key.kind {
            EdgeKind::Message | EdgeKind::Linked => Protocol::Messaging.name().to_owned(),
            EdgeKind::WithoutClient => format!("{}{WITHOUT_CLIENT}", key.protocol.name()),
            EdgeKind::Call => key.protocol.name().to_owned(),
            EdgeKind::Other => format!("{} from inside", key.protocol.name()),
        },
    };
    let mut named: Vec<(CallClass, ClassKey)> = keys.into_iter().map(|key| (class(key), key)).collect();
    named.sort_unstable_by(|(left, _), (right, _)| left.cmp(right));
    let (mut classes, mut place) = (Vec::<CallClass>::new(), FxHashMap::default());
    for (class, key) in named {
        if classes.last() != Some(&class) {
            classes.push(class);
        }
        place.insert(key, (classes.len() - 1) as u32);
    }
    (classes, place)
}

/// Oddities, and copies with what they are copies of.
type Copies = (Vec<(u32, Oddity)>, Vec<(u32, u32)>);

fn mark_copies(spans: &mut [Paired], order: &[u32]) -> Copies {
    let (mut oddities, mut copies) = (Vec::new(), Vec::new());
    let id = |span: &Paired| (span.head.trace, span.head.span, span.head.kind);
    let mut start = 0;
    while start < order.len() {
        let first = id(&spans[order[start] as usize]);
        let end = start + order[start..].iter().take_while(|&&index| id(&spans[index as usize]) == first).count();
        // Without a valid id spans may differ and not be in conflict; byte-equal ones are copies all the same.
        let is_valid = first.0.0 != 0 && first.1.0 != 0;
        let mut distinct = 0;
        let mut stands_for = order[start];
        for place in start..end {
            let this = spans[order[place] as usize];
            let is_copy = place > start && {
                let last = &spans[order[place - 1] as usize];
                last.head == this.head && last.resource == this.resource
            };
            distinct += u32::from(!is_copy);
            if is_copy {
                copies.push((order[place], stands_for));
            } else {
                stands_for = order[place];
            }
            let (standing, what) = match (is_copy, is_valid) {
                (true, _) => (Standing::Duplicate, Oddity::Duplicate),
                (false, false) => (Standing::Only, Oddity::InvalidId),
                (false, true) if distinct > 1 => (Standing::Conflicting, Oddity::ConflictingDuplicate),
                (false, true) => continue,
            };
            spans[order[place] as usize].standing = standing;
            oddities.push((order[place], what));
        }
        if is_valid && distinct > 1 {
            spans[order[start] as usize].standing = Standing::ConflictingFirst;
        }
        start = end;
    }
    (oddities, copies)
}

/// What one trace holds.
#[derive(Default)]
struct Found {
    edges: Vec<Edge>,
    /// The classes that these edges count by.
    classes: Vec<ClassKey>,
    oddities: Vec<(u32, Oddity)>,
    /// `(child, parent)`.
    parents: Vec<(u32, u32)>,
}

/// Copies do not count: how often a record was delivered must not decide what its starts were floored to.
fn find_quanta(spans: &mut [Paired], parents: &[Option<u32>], resources: usize) {
    let start = |(span, parent): (&Paired, &Option<u32>)| Start {
        resource: span.resource,
        at: span.head.start,
        enters: parent.is_none_or(|parent| spans[parent as usize].resource != span.resource),
    };
    let counted = spans.iter().zip(parents).filter(|(span, _)| span.standing != Standing::Duplicate);
    let quanta = quanta(resources, counted.map(start));
    for span in spans {
        span.quantum_ns = quanta[span.resource as usize].of_start(span.head.start);
    }
}

/// Per resource, the tick of a clock that is too coarse for its starts, ns.
pub fn ticks(spans: &[Paired], resources: usize) -> Vec<Option<i64>> {
    let counted = spans.iter().filter(|span| !span.head.is_broken());
    quantum::ticks(resources, counted.map(|span| (span.resource, span.head.start)))
}

struct Tree<'a> {
    spans: &'a [Paired],
    /// Spans by trace, id, kind and start.
    order: &'a [u32],
    /// Per resource its service, by number.
    services: &'a [u32],
}

/// A stable name of an exchange: the child's ids and, for a link, the target's.
fn exchange_id(child: &SpanHead, parent: &SpanHead) -> u64 {
    let mut bytes = [0; 41];
    bytes[..16].copy_from_slice(&child.trace.0.to_be_bytes());
    bytes[16..24].copy_from_slice(&child.span.0.to_be_bytes());
    bytes[24..32].copy_from_slice(&parent.span.0.to_be_bytes());
    bytes[32..40].copy_from_slice(&(parent.trace.0 as u64).to_be_bytes());
    bytes[40] = child.kind as u8;
    xxhash_rust::xxh3::xxh3_64(&bytes)
}

impl Tree<'_> {
    fn span(&self, index: u32) -> &Paired {
        &self.spans[index as usize]
    }

    fn takes_part(&self, index: u32) -> bool {
        let span = self.span(index);
        matches!(span.standing, Standing::Only | Standing::ConflictingFirst)
            && span.head.trace.0 != 0
            && span.head.span.0 != 0
    }

    /// The spans of one trace with an id.
    fn find<'b>(&self, trace: &'b [u32], id: SpanId) -> &'b [u32] {
        let start = trace.partition_point(|&index| self.span(index).head.span < id);
        let end = start + trace[start..].partition_point(|&index| self.span(index).head.span == id);
        &trace[start..end]
    }

    fn trace(&self, trace: &[u32]) -> Found {
        let mut found = Found::default();
        let mut start = 0;
        // Parents in order of id, each with all its children, so that retries of one call are seen together.
        let mut children: Vec<(SpanId, u32)> = trace
            .iter()
            .filter(|&&index| self.takes_part(index))
            .filter_map(|&index| Some((self.span(index).head.parent?, index)))
            .collect();
        // A server that shares its client's id (Zipkin) is that client's child.
        children.extend(trace.windows(2).filter_map(|pair| {
            let (first, second) = (&self.span(pair[0]).head, &self.span(pair[1]).head);
            let shared = first.span == second.span && first.kind == SpanKind::Server && second.kind == SpanKind::Client;
            (shared && self.takes_part(pair[0])).then_some((first.span, pair[0]))
        }));
        children.sort_by_key(|&(parent, child)| {
            let head = &self.span(child).head;
            (parent, head.span, head.kind, head.start)
        });
        let (ids, ancestry) = self.ancestry(trace);
        let place = |id: SpanId| ids.binary_search(&id).ok();
        // A server with its client's id is no cycle: its parent is the client's parent.
        let leads_back = |head: &SpanHead| {
            let parent = head.parent.and_then(place);
            parent.zip(place(head.span)).is_some_and(|(parent, own)| ancestry.leads(parent, own))
        };
        while start < children.len() {
            let id = children[start].0;
            let end = start + children[start..].iter().take_while(|(parent, _)| *parent == id).count();
            let parents = self.find(trace, id);
            for &(_, child) in &children[start..end] {
                if parents.is_empty() {
                    found.oddities.push((child, Oddity::MissingParent));
                } else if leads_back(&self.span(child).head) {
                    found.oddities.push((child, Oddity::ParentCycle));
                }
            }
            self.family(parents, children[start..end].iter().map(|(_, child)| *child), &mut found);
            start = end;
        }
        found
    }

    /// The ids of one trace, sorted, and which of them are above which: of spans that share one, the first says.
    fn ancestry(&self, trace: &[u32]) -> (Vec<SpanId>, Ancestry) {
        let first = trace.chunk_by(|&left, &right| self.span(left).head.span == self.span(right).head.span);
        let heads: Vec<&SpanHead> = first.map(|same| &self.span(same[0]).head).collect();
        let ids: Vec<SpanId> = heads.iter().map(|head| head.span).collect();
        let parents: Vec<Option<usize>> = heads.iter().map(|head| ids.binary_search(&head.parent?).ok()).collect();
        let ancestry = Ancestry::of(&parents);
        (ids, ancestry)
    }

    fn family(&self, parents: &[u32], children: impl Iterator<Item = u32>, found: &mut Found) {
        let Some(&parent) = parents
            .iter()
            .filter(|&&index| self.takes_part(index))
            .min_by_key(|&&index| matches!(self.span(index).head.kind, SpanKind::Server | SpanKind::Consumer))
        else {
            return;
        };
        let Found { edges, classes, .. } = found;
        let first = edges.len();
        for child in children.filter(|&child| child != parent) {
            found.parents.push((child, parent));
            if self.span(child).clock != self.span(parent).clock {
                edges.extend(self.edge(parent, child, classes));
            }
        }
        // Of several servers behind one client span (retries, hedges) only the one that answered last was waited for. A
        // server whose client spans are missing may have called them all.
        let edges = &mut edges[first..];
        let is_waited_for = |edge: &Edge| edge.kind == EdgeKind::Call && edge.exchange.counts == Use::TwoSided;
        let calls = (0..edges.len()).filter(|&index| is_waited_for(&edges[index]));
        let last = calls.max_by_key(|&index| (edges[index].exchange.response_sent, Reverse(edges[index].exchange.id)));
        for (index, edge) in edges.iter_mut().enumerate() {
            if Some(index) != last && is_waited_for(edge) {
                edge.exchange.counts = Use::ForwardOnly;
                edge.reason = Some("an earlier attempt of a retried call");
            }
        }
    }

    fn edge(&self, parent: u32, child: u32, classes: &mut Vec<ClassKey>) -> Option<Edge> {
        use SpanKind::{Client, Consumer, Producer, Server};
        let (from, to) = (self.span(parent), self.span(child));
        let messaging = Protocol::Messaging;
        let is_message = to.head.facts.protocol == messaging || from.head.facts.protocol == messaging;
        let (kind, mut counts, mut reason) = match (from.head.kind, to.head.kind) {
            (Producer, _) | (_, Consumer) => (EdgeKind::Message, Use::ForwardOnly, None),
            (Client, Server) if is_message => (EdgeKind::Message, Use::ForwardOnly, None),
            (Client, Server) => (EdgeKind::Call, Use::TwoSided, None),
            (Server, Server) => (EdgeKind::WithoutClient, Use::TwoSided, None),
            _ => (EdgeKind::Other, Use::ForwardOnly, Some("the parent did not make the call")),
        };
        let mut exchange = self.exchange(kind, from, to, classes);
        let from = &from.head;
        if from.start == LocalTime::MAX || to.head.start == LocalTime::MAX || from.is_broken() || to.head.is_broken() {
            (counts, reason) = (Use::Neither, Some("a time near 1970 or beyond 2262"));
        } else if counts == Use::TwoSided {
            if from.facts.gave_up {
                (counts, reason) = (Use::ForwardOnly, Some("the client gave up"));
            } else if exchange.round_trip_delay_ns() < 0 {
                (counts, reason) = (Use::ForwardOnly, Some("the server took longer than its client: nobody waited"));
            }
        }
        exchange.counts = counts;
        let awaited = matches!(kind, EdgeKind::Call | EdgeKind::WithoutClient)
            && !from.facts.gave_up
            && exchange.round_trip_delay_ns() >= 0;
        let order = match counts {
            Use::Neither => None,
            _ if awaited => Some(Order::Within),
            _ if polls(kind, to) => Some(Order::EndsAfter),
            _ => Some(Order::After),
        };
        Some(Edge { parent, child, kind, order, exchange, reason })
    }

    fn exchange(&self, kind: EdgeKind, from: &Paired, to: &Paired, classes: &mut Vec<ClassKey>) -> Exchange {
        let class = ClassKey {
            client_service: self.services[from.resource as usize],
            server_service: self.services[to.resource as usize],
            kind,
            protocol: from.head.facts.protocol.max(to.head.facts.protocol),
        };
        let place = classes.iter().position(|other| *other == class).unwrap_or_else(|| {
            classes.push(class);
            classes.len() - 1
        });
        let exchange = readings(from, to, Link { client: from.clock, server: to.clock, class: place as u32 });
        Exchange { request_received: if polls(kind, to) { to.head.end } else { to.head.start }, ..exchange }
    }

    /// Links of messaging consumers to what they consume.
    fn links(&self, links: &[(u32, TraceId, SpanId)]) -> Found {
        let (mut edges, mut classes) = (Vec::new(), Vec::new());
        for &(span, trace, target) in links {
            let consumer = self.span(span);
            let takes = consumer.head.kind == SpanKind::Consumer || consumer.head.facts.protocol == Protocol::Messaging;
            if !takes || !self.takes_part(span) || consumer.head.parent == Some(target) {
                continue;
            }
            let start = self.order.partition_point(|&index| {
                let head = &self.span(index).head;
                (head.trace, head.span) < (trace, target)
            });
            let producer = self.order[start..]
                .iter()
                .take_while(|&&index| (self.span(index).head.trace, self.span(index).head.span) == (trace, target))
                .find(|&&index| {
                    self.takes_part(index)
                        && matches!(self.span(index).head.kind, SpanKind::Producer | SpanKind::Client)
                });
            if let Some(&producer) = producer {
                let (from, to) = (self.span(producer), consumer);
                if from.clock != to.clock && !from.head.is_broken() && !to.head.is_broken() {
                    let (parent, child, kind) = (producer, span, EdgeKind::Linked);
                    let exchange = self.exchange(kind, from, to, &mut classes);
                    let exchange = Exchange { counts: Use::ForwardOnly, ..exchange };
                    let order = if polls(kind, to) { Order::EndsAfter } else { Order::After };
                    edges.push(Edge { parent, child, kind, order: Some(order), exchange, reason: None });
                }
            }
        }
        Found { edges, classes, ..Found::default() }
    }
}

/// A receive span: it may have begun to poll long before the publish, and only its end follows it.
fn polls(kind: EdgeKind, to: &Paired) -> bool {
    matches!(kind, EdgeKind::Message | EdgeKind::Linked) && !to.head.facts.processes_message
}

/// The four times of a call; what they count for is not looked at.
fn readings(from: &Paired, to: &Paired, link: Link) -> Exchange {
    Exchange {
        id: exchange_id(&to.head, &from.head),
        link,
        request_sent: from.head.start,
        request_received: to.head.start,
        response_sent: to.head.end,
        response_received: from.head.end,
        client_quantum_ns: 1,
        server_quantum_ns: 1,
        counts: Use::Neither,
    }
}

#[cfg(test)]
mod tests;
