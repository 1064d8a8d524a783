//! One request after another: a tree of calls, told as spans in true time and written down by each host's SDK.

use super::dice::Dice;
use super::fleet::{Fleet, HostId, REFERENCE, ROOT};
use super::links::Legs;
use super::scenario::{Scenario, Traffic};
use super::sdk::Stamp;
use crate::clock::ReferenceTime;
use crate::span::SpanKind;

/// A span as it leaves its host.
#[derive(Clone, Debug)]
pub(super) struct Span {
    pub trace: u128,
    pub id: u64,
    pub parent: Option<Parent>,
    pub host: HostId,
    pub kind: SpanKind,
    pub name: &'static str,
    pub stamp: Stamp,
    pub attributes: Vec<(&'static str, Value)>,
    pub failed: bool,
    /// Trace and span that it is linked to.
    pub link: Option<(u128, u64)>,
}

#[derive(Clone, Copy, Debug)]
pub(super) struct Parent {
    pub id: u64,
    /// In another process.
    pub remote: bool,
}

#[derive(Clone, Debug, PartialEq)]
pub(super) enum Value {
    Str(&'static str),
    Int(i64),
}

/// How many calls a service makes at once when it calls on. With the probabilities of `calls_on` this makes
/// traces of about nine spans, as the standard fleet has.
const CALLS_AT_ONCE: [f64; 3] = [0.78, 0.18, 0.04];

fn calls_on(depth: usize) -> f64 {
    if depth < 4 { 0.75 } else { 0.25 }
}

/// Own work of a service in one request: its spread (of the logarithm), and its limits in medians.
const WORK_SPREAD: f64 = 0.8;
const WORK_LIMITS: [f64; 2] = [0.1, 20.0];

/// The spans of request number `index`; one trace, or more where a message begins its own.
pub(super) fn request(scenario: &Scenario, fleet: &Fleet, index: u64) -> Vec<Span> {
    let mut dice = Dice::new(scenario.seed, "request", index);
    let life_ns = (fleet.life.until - fleet.life.from) as f64;
    let at = fleet.life.from.plus((dice.unit() * life_ns) as i64);
    let mut story = Story { scenario, fleet, dice, trace: 0, spans: Vec::new() };
    story.trace = story.trace_id();
    if story.dice.chance(scenario.traffic.background) {
        story.background(at);
    } else {
        let protocol = Protocol::Http;
        story.serve(Served { service: ROOT, host: REFERENCE, parent: None, at, depth: 0, protocol });
    }
    story.spans
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Protocol {
    Http,
    Grpc,
    Messaging,
}

struct Story<'a> {
    scenario: &'a Scenario,
    fleet: &'a Fleet,
    dice: Dice,
    trace: u128,
    spans: Vec<Span>,
}

/// A request that has reached its server.
#[derive(Clone, Copy)]
struct Served {
    service: usize,
    host: HostId,
    parent: Option<Parent>,
    at: ReferenceTime,
    depth: usize,
    protocol: Protocol,
}

/// Where a span happens: its host, and when the local trace that it belongs to began there.
#[derive(Clone, Copy)]
struct Place {
    host: HostId,
    anchor: ReferenceTime,
}

/// A call about to be made.
#[derive(Clone, Copy)]
struct Call {
    from: Place,
    /// The caller's span around it.
    under: u64,
    service: usize,
    to: HostId,
    at: ReferenceTime,
    depth: usize,
    protocol: Protocol,
}

#[derive(Clone, Copy)]
enum Manner {
    Plain,
    GivesUp,
    FireAndForget,
    ClientMissing,
    Messaging,
}

impl Story<'_> {
    /// A server span with what it does; gives its end and whether it failed.
    fn serve(&mut self, served: Served) -> (ReferenceTime, bool) {
        self.serve_in(Place { host: served.host, anchor: served.at }, served)
    }

    fn serve_in(&mut self, place: Place, served: Served) -> (ReferenceTime, bool) {
        let Served { service, parent, at, depth, protocol, .. } = served;
        let id = self.id();
        let callees = self.callees(service, depth);
        let work_ns = self.work_ns();
        let even_ns = work_ns / (callees.len() as i64 + 1);
        let (ahead_ns, piece_ns) = match self.scenario.traffic.work_ahead {
            Some(share) if !callees.is_empty() => {
                let ahead_ns = (share * work_ns as f64) as i64;
                (ahead_ns, (work_ns - ahead_ns) / callees.len() as i64)
            }
            _ => (even_ns, even_ns),
        };

        let mut now = at.plus(ahead_ns);
        let inner = if self.dice.chance(0.15) { Some((self.id(), now)) } else { None };
        let under = inner.map_or(id, |(id, _)| id);
        let parallel = self.dice.chance(0.3);
        let mut latest = now;
        for callee in callees {
            let slot = self.dice.below(self.fleet.services[callee].slots.len());
            // A host that is replaced meanwhile finishes what it was given.
            let to = self.fleet.host(callee, slot, now);
            let protocol = if self.dice.chance(0.5) { Protocol::Http } else { Protocol::Grpc };
            let call = Call { from: place, under, service: callee, to, at: now, depth: depth + 1, protocol };
            let done = self.call(call);
            latest = latest.max(done);
            now = if parallel { now.plus(self.dice.between([10e3, 60e3]) as i64) } else { done.plus(piece_ns) };
        }
        now = latest.plus(piece_ns.min(work_ns / 2));
        if let Some((inner, began)) = inner {
            let name = ["render", "compute"][self.dice.below(2)];
            let parent = Some(Parent { id, remote: false });
            self.write(place, Draft { id: inner, parent, ..Draft::new(SpanKind::Internal, name, began, now) });
            now = now.plus(self.dice.between([20e3, 200e3]) as i64);
        }

        let failed = self.dice.chance(self.scenario.traffic.errors);
        let (kind, name) = match protocol {
            Protocol::Http => (SpanKind::Server, "GET /item"),
            Protocol::Grpc => (SpanKind::Server, "shop.Items/Get"),
            Protocol::Messaging => (SpanKind::Consumer, "process orders"),
        };
        let attributes = match protocol {
            Protocol::Messaging => messaging("process"),
            other => answered(other, failed),
        };
        self.write(place, Draft { id, parent, attributes, failed, ..Draft::new(kind, name, at, now) });
        (now, failed)
    }

    /// Makes one call; gives the instant at which the caller goes on.
    fn call(&mut self, call: Call) -> ReferenceTime {
        match self.manner() {
            Manner::Plain if self.dice.chance(self.scenario.traffic.retries) => self.retried(call),
            Manner::Plain => self.plain(call),
            Manner::GivesUp => self.gives_up(call),
            Manner::FireAndForget => self.fire_and_forget(call),
            Manner::ClientMissing => self.client_missing(call),
            Manner::Messaging => self.message(call),
        }
    }

    fn manner(&mut self) -> Manner {
        let Traffic { hostile, mix, .. } = self.scenario.traffic;
        if !self.dice.chance(hostile) {
            return Manner::Plain;
        }
        match self.dice.pick(&[mix.messaging, mix.gives_up, mix.fire_and_forget, mix.client_missing]) {
            0 => Manner::Messaging,
            1 => Manner::GivesUp,
            2 => Manner::FireAndForget,
            _ => Manner::ClientMissing,
        }
    }

    fn plain(&mut self, call: Call) -> ReferenceTime {
        let id = self.id();
        let (done, failed) = self.there_and_back(call, Parent { id, remote: true });
        let attributes = answered(call.protocol, failed);
        self.write(call.from, Draft { attributes, failed, ..call.client(id, done) });
        done
    }

    /// HTTP: one client span for each try. gRPC: one for both.
    fn retried(&mut self, mut call: Call) -> ReferenceTime {
        let first = self.id();
        let (failed_at, _) = self.there_and_back(call, Parent { id: first, remote: true });
        let pause_ns = self.dice.between([1e6, 20e6]) as i64;
        let second_try = failed_at.plus(pause_ns);
        if call.protocol == Protocol::Grpc {
            let second = Call { at: second_try, ..call };
            let (done, failed) = self.there_and_back(second, Parent { id: first, remote: true });
            let attributes = answered(call.protocol, failed);
            self.write(call.from, Draft { attributes, failed, ..call.client(first, done) });
            return done;
        }
        let attributes = answered(call.protocol, true);
        self.write(call.from, Draft { attributes, failed: true, ..call.client(first, failed_at) });
        call.at = second_try;
        let second = self.id();
        let (done, failed) = self.there_and_back(call, Parent { id: second, remote: true });
        let mut attributes = answered(call.protocol, failed);
        attributes.push(("http.request.resend_count", Value::Int(1)));
        self.write(call.from, Draft { attributes, failed, ..call.client(second, done) });
        done
    }

    /// The caller stops waiting while the server goes on. Half say so; of the others half end with an error that says no
    /// more, and an intentional cancel leaves no mark.
    fn gives_up(&mut self, call: Call) -> ReferenceTime {
        let id = self.id();
        let (done, _) = self.there_and_back(call, Parent { id, remote: true });
        let waited = self.dice.between([0.2, 0.8]) * (done - call.at) as f64;
        let left = call.at.plus(waited as i64);
        let (failed, says_so) = [(true, true), (true, false), (false, false)][self.dice.pick(&[0.5, 0.25, 0.25])];
        let mut attributes = match call.protocol {
            Protocol::Grpc if says_so => rpc(Some("DEADLINE_EXCEEDED")),
            Protocol::Grpc => rpc((!failed).then_some("OK")),
            _ => vec![("http.request.method", Value::Str("GET"))],
        };
        if says_so {
            attributes.push(("error.type", Value::Str("timeout")));
        }
        self.write(call.from, Draft { attributes, failed, ..call.client(id, left) });
        left
    }

    /// The caller never waits: its span ends when the request is sent, whatever the server does.
    fn fire_and_forget(&mut self, call: Call) -> ReferenceTime {
        let id = self.id();
        self.there_and_back(call, Parent { id, remote: true });
        let sent = call.at.plus(self.dice.exponential(5e6) as i64);
        self.write(call.from, Draft { attributes: answered(call.protocol, false), ..call.client(id, sent) });
        sent
    }

    /// The server's span hangs under the caller's own, as behind a proxy that passes the context on.
    fn client_missing(&mut self, call: Call) -> ReferenceTime {
        self.there_and_back(call, Parent { id: call.under, remote: true }).0
    }

    /// A message: processed by a child, by a span of its own trace that is linked, or under a receive span that
    /// began to poll before the publish.
    fn message(&mut self, call: Call) -> ReferenceTime {
        let publish = self.id();
        let done = call.at.plus(self.dice.between([1e5, 8e5]) as i64);
        let parent = Some(Parent { id: call.under, remote: false });
        let draft = Draft::new(SpanKind::Producer, "publish orders", call.at, done);
        self.write(call.from, Draft { id: publish, parent, attributes: messaging("send"), ..draft });

        let queued_ns = self.dice.exponential(20e6) as i64;
        let at = call.at.plus(self.legs(call).request_ns + queued_ns);
        let served = call.served(Parent { id: publish, remote: true }, at);
        let served = Served { protocol: Protocol::Messaging, ..served };
        match self.dice.pick(&[0.5, 0.25, 0.25]) {
            0 => {
                self.serve(served);
            }
            1 => {
                let own = self.trace_id();
                let trace = std::mem::replace(&mut self.trace, own);
                let before = self.spans.len();
                self.serve(Served { parent: None, ..served });
                let process = self.spans[before..].iter_mut().rfind(|span| span.kind == SpanKind::Consumer);
                if let Some(process) = process {
                    process.link = Some((trace, publish));
                }
                self.trace = trace;
            }
            _ => {
                let polled_ns = (self.dice.unit() * self.scenario.traffic.poll_s * 1e9) as i64;
                let began = call.at.plus(-polled_ns);
                let place = Place { host: call.to, anchor: began };
                let receive = self.id();
                let taken = at.plus(self.dice.between([2e4, 2e5]) as i64);
                let draft = Draft::new(SpanKind::Consumer, "receive orders", began, taken);
                let attributes = messaging("receive");
                self.write(place, Draft { id: receive, parent: served.parent, attributes, ..draft });
                let parent = Some(Parent { id: receive, remote: false });
                self.serve_in(place, Served { at: taken, parent, ..served });
            }
        }
        done
    }

    /// Work that nobody asked for, which never leaves its host.
    fn background(&mut self, at: ReferenceTime) {
        let service = self.dice.below(self.fleet.services.len());
        let slot = self.dice.below(self.fleet.services[service].slots.len());
        let place = Place { host: self.fleet.host(service, slot, at), anchor: at };
        let root = self.id();
        let mut now = at;
        for _ in 0..3 {
            let began = now.plus(self.dice.between([2e4, 2e5]) as i64);
            now = began.plus(self.work_ns());
            let (id, parent) = (self.id(), Some(Parent { id: root, remote: false }));
            self.write(place, Draft { id, parent, ..Draft::new(SpanKind::Internal, "reindex shard", began, now) });
        }
        let end = now.plus(self.dice.between([2e4, 2e5]) as i64);
        self.write(place, Draft { id: root, ..Draft::new(SpanKind::Internal, "reindex", at, end) });
    }

    /// Request leg, service, response leg: when the response is back, and whether it is an error.
    fn there_and_back(&mut self, call: Call, parent: Parent) -> (ReferenceTime, bool) {
        let legs = self.legs(call);
        let (done, failed) = self.serve(call.served(parent, call.at.plus(legs.request_ns)));
        let late_ns = self.injected_ns(call, done, false);
        (done.plus(legs.response_ns + late_ns), failed)
    }

    fn legs(&mut self, call: Call) -> Legs {
        let mut legs = self.fleet.link(call.from.host, call.to).legs(&self.scenario.links, &mut self.dice);
        legs.request_ns += self.injected_ns(call, call.at, true);
        legs
    }

    fn injected_ns(&self, call: Call, at: ReferenceTime, on_request: bool) -> i64 {
        self.fleet
            .injections_on(call.from.host, call.to)
            .filter(|injection| injection.on_request == on_request && injection.from <= at && at < injection.until)
            .map(|injection| injection.delay_ns as i64)
            .sum()
    }

    fn callees(&mut self, service: usize, depth: usize) -> Vec<usize> {
        if !self.dice.chance(calls_on(depth)) {
            return Vec::new();
        }
        let count = 1 + self.dice.pick(&CALLS_AT_ONCE);
        let mut callees = self.fleet.services[service].calls.clone();
        self.dice.shuffle(&mut callees);
        callees.truncate(count);
        callees
    }

    fn work_ns(&mut self) -> i64 {
        let [least, most] = WORK_LIMITS;
        (self.scenario.traffic.work_ms * self.dice.normal(WORK_SPREAD).exp().clamp(least, most) * 1e6) as i64
    }

    fn id(&mut self) -> u64 {
        self.dice.bits().max(1)
    }

    fn trace_id(&mut self) -> u128 {
        u128::from(self.id()) << 64 | u128::from(self.dice.bits())
    }

    fn write(&mut self, place: Place, draft: Draft) {
        let host = &self.fleet.hosts[place.host];
        let mut stamp = host.habit.stamp(&host.clock, place.anchor, draft.from, draft.to);
        let sdk = &self.scenario.sdk;
        if self.dice.chance(sdk.broken) {
            stamp.end = stamp.start.plus(-(sdk.broken_ms * 1e6) as i64);
        }
        let Draft { id, parent, kind, name, attributes, failed, .. } = draft;
        let trace = self.trace;
        self.spans.push(Span {
            trace,
            id,
            parent,
            host: place.host,
            kind,
            name,
            stamp,
            attributes,
            failed,
            link: None,
        });
    }
}

/// A span in true time.
struct Draft {
    id: u64,
    parent: Option<Parent>,
    kind: SpanKind,
    name: &'static str,
    from: ReferenceTime,
    to: ReferenceTime,
    attributes: Vec<(&'static str, Value)>,
    failed: bool,
}

impl Draft {
    fn new(kind: SpanKind, name: &'static str, from: ReferenceTime, to: ReferenceTime) -> Self {
        Self { id: 0, parent: None, kind, name, from, to, attributes: Vec::new(), failed: false }
    }
}

impl Call {
    fn client(&self, id: u64, end: ReferenceTime) -> Draft {
        let name = if self.protocol == Protocol::Grpc { "shop.Items/Get" } else { "GET" };
        let parent = Some(Parent { id: self.under, remote: false });
        Draft { id, parent, ..Draft::new(SpanKind::Client, name, self.at, end) }
    }

    fn served(&self, parent: Parent, at: ReferenceTime) -> Served {
        let Self { service, to, depth, protocol, .. } = *self;
        Served { service, host: to, parent: Some(parent), at, depth, protocol }
    }
}

fn answered(protocol: Protocol, failed: bool) -> Vec<(&'static str, Value)> {
    match protocol {
        Protocol::Grpc => rpc(Some(if failed { "UNAVAILABLE" } else { "OK" })),
        _ => vec![
            ("http.request.method", Value::Str("GET")),
            ("http.response.status_code", Value::Int(if failed { 503 } else { 200 })),
        ],
    }
}

fn rpc(status: Option<&'static str>) -> Vec<(&'static str, Value)> {
    let call = [("rpc.system.name", Value::Str("grpc")), ("rpc.method", Value::Str("shop.Items/Get"))];
    call.into_iter().chain(status.map(|status| ("rpc.status_code", Value::Str(status)))).collect()
}

fn messaging(operation: &'static str) -> Vec<(&'static str, Value)> {
    vec![
        ("messaging.system", Value::Str("kafka")),
        ("messaging.destination.name", Value::Str("orders")),
        ("messaging.operation.type", Value::Str(operation)),
    ]
}
