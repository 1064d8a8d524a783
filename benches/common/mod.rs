//! One dump for all benches: a simulated fleet whose spans carry as much as real ones do.
#![allow(dead_code, reason = "each bench uses a part")]

pub mod shape;

use opentelemetry_proto::tonic::common::v1::{AnyValue, KeyValue, any_value::Value};
use opentelemetry_proto::tonic::trace::v1::TracesData;
use prost::Message;
use unskew::clock::{
    ClockId, ClockMap, ClockModel, ClockState, Knot, LocalTime, Onward, ReferenceTime, Segment, Treatment,
};
use unskew::correct::{self, Corrected, EndHabit, Recorded};
use unskew::dump::Dump;
use unskew::fix::Written;
use unskew::identity::{self, Identity};
use unskew::pair::{self, Paired, Pairing, Standing};
use unskew::simulate::{self, Scenario};

/// As the program has it.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Eleven attributes a span, as the laboratory's SDKs write.
const ATTRIBUTES: [(&str, &str); 8] = [
    ("server.address", "checkout.shop.svc.cluster.local"),
    ("network.peer.address", "10.42.17.203"),
    ("network.protocol.version", "1.1"),
    ("user_agent.original", "python-requests/2.32.3"),
    ("url.path", "/api/v2/carts/5f1c/items"),
    ("url.scheme", "http"),
    ("thread.name", "worker-7"),
    ("deployment.environment.name", "production"),
];

pub struct Sample {
    pub spans: usize,
    /// `ExportTraceServiceRequest`s.
    pub requests: Vec<Vec<u8>>,
    /// The same, each behind its length.
    pub protobuf: Vec<u8>,
    /// The same, each on a line.
    pub json: Vec<u8>,
}

pub fn sample(spans: usize) -> Sample {
    sample_of(spans, "frequency_ppm = 15.0")
}

/// With other clocks.
pub fn sample_of(spans: usize, clocks: &str) -> Sample {
    let scenario = Scenario { spans, ..Scenario::parse(&format!("[clocks]\n{clocks}")).unwrap() };
    let simulated = simulate::run(&scenario).unwrap();
    let mut rest = &simulated.protobuf.unwrap()[..];
    let mut sample =
        Sample { spans: simulated.summary.spans, requests: Vec::new(), protobuf: Vec::new(), json: Vec::new() };
    while let Some((length, after)) = rest.split_first_chunk::<4>() {
        let (record, after) = after.split_at(u32::from_be_bytes(*length) as usize);
        let mut data = TracesData::decode(record).unwrap();
        let all = data.resource_spans.iter_mut().flat_map(|of| &mut of.scope_spans).flat_map(|of| &mut of.spans);
        all.for_each(|span| span.attributes.extend(ATTRIBUTES.map(|(key, text)| attribute(key, text))));
        let request = data.encode_to_vec();
        sample.protobuf.extend((request.len() as u32).to_be_bytes());
        sample.protobuf.extend(&request);
        sample.json.extend(json(&data).into_bytes());
        sample.json.push(b'\n');
        sample.requests.push(request);
        rest = after;
    }
    sample
}

fn attribute(key: &str, text: &str) -> KeyValue {
    let value = Some(AnyValue { value: Some(Value::StringValue(text.into())) });
    KeyValue { key: key.into(), value, ..KeyValue::default() }
}

fn json(data: &TracesData) -> String {
    let hex = |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    let attributes = |all: &[KeyValue]| {
        let one = |it: &KeyValue| match it.value.as_ref().and_then(|any| any.value.as_ref()) {
            Some(Value::StringValue(text)) => format!(r#"{{"key":"{}","value":{{"stringValue":"{text}"}}}}"#, it.key),
            Some(Value::IntValue(number)) => format!(r#"{{"key":"{}","value":{{"intValue":"{number}"}}}}"#, it.key),
            other => panic!("{other:?}"),
        };
        format!("[{}]", all.iter().map(one).collect::<Vec<_>>().join(","))
    };
    let mut parts = Vec::new();
    for of in &data.resource_spans {
        let resource = attributes(&of.resource.as_ref().unwrap().attributes);
        for scope in &of.scope_spans {
            let spans: Vec<String> = scope
                .spans
                .iter()
                .map(|span| {
                    format!(
                        r#"{{"traceId":"{}","spanId":"{}","parentSpanId":"{}","flags":{},"name":"{}","kind":{},"startTimeUnixNano":"{}","endTimeUnixNano":"{}","attributes":{},"status":{{}}}}"#,
                        hex(&span.trace_id),
                        hex(&span.span_id),
                        hex(&span.parent_span_id),
                        span.flags,
                        span.name,
                        span.kind,
                        span.start_time_unix_nano,
                        span.end_time_unix_nano,
                        attributes(&span.attributes)
                    )
                })
                .collect();
            let name = &scope.scope.as_ref().unwrap().name;
            parts.push(format!(
                r#"{{"resource":{{"attributes":{resource}}},"scopeSpans":[{{"scope":{{"name":"{name}"}},"spans":[{}]}}]}}"#,
                spans.join(",")
            ));
        }
    }
    format!(r#"{{"resourceSpans":[{}]}}"#, parts.join(","))
}

/// All that is known of a dump once its spans are paired and its clocks, each 5 ms ahead, are known.
pub struct Known {
    pub identity: Identity,
    pub spans: Vec<Paired>,
    pub pairing: Pairing,
    pub map: ClockMap,
    pub corrected: Vec<Corrected>,
    marked: Vec<bool>,
    names: Vec<std::sync::Arc<str>>,
    habits: Vec<EndHabit>,
}

pub fn paired(dump: &Dump) -> (Identity, Vec<Paired>) {
    let identity = identity::identify(&dump.resources, &[], &identity::Before::default());
    let clock = |resource: u32| identity.of_resource[resource as usize];
    let one = |span: &unskew::dump::DumpSpan| Paired {
        head: span.head,
        clock: clock(span.resource),
        resource: span.resource,
        quantum_ns: 1,
        standing: Standing::Only,
    };
    let spans = dump.spans.iter().map(one).collect();
    (identity, spans)
}

impl Known {
    pub fn of(dump: &Dump) -> Self {
        let (identity, mut spans) = paired(dump);
        let pairing = pair::pair(&mut spans, &dump.links, &dump.attribute("service.name"));
        let map = ClockMap { models: vec![model(); identity.clocks.len()], reference: None };
        let habits: Vec<EndHabit> =
            dump.attribute("telemetry.sdk.language").iter().map(|name| EndHabit::of_language(Some(name))).collect();
        let recorded = |span: &Paired| Recorded {
            start: span.head.start,
            end: span.head.end,
            ends: habits[span.resource as usize],
        };
        let recorded: Vec<Recorded> = spans.iter().map(recorded).collect();
        let clocks: Vec<ClockId> = spans.iter().map(|span| span.clock).collect();
        let sides = correct::sides(&recorded, &clocks, &pairing.parents, &map);
        let corrected = recorded
            .iter()
            .zip(&clocks)
            .zip(&sides)
            .map(|((span, clock), sides)| correct::span(*span, map.model(*clock), *sides));
        let corrected = corrected.collect();
        let marked = vec![false; spans.len()];
        let names = identity.clocks.iter().map(|clock| clock.name.as_str().into()).collect();
        Self { identity, spans, pairing, map, corrected, marked, names, habits }
    }

    pub fn written(&self) -> Written<'_> {
        Written {
            spans: &self.spans,
            corrected: &self.corrected,
            marked: &self.marked,
            names: &self.names,
            map: &self.map,
            habits: &self.habits,
            enforced: false,
        }
    }
}

fn model() -> ClockModel {
    let knot = |second: i64| Knot {
        local: LocalTime::from_nanos(1_750_000_000_000_000_000 + second * 1_000_000_000),
        offset_ns: 5_000_000 + 15_000 * second,
        uncertainty_ns: 90_000,
        lower_ns: None,
        upper_ns: None,
        exchanges: 9,
    };
    let knots = (0..60).map(|index| knot(10 * index)).collect();
    let segment = Segment {
        from: ReferenceTime::from_nanos(i64::MIN),
        until: ReferenceTime::MAX,
        knots,
        treatment: Treatment::Moved,
        onward: Onward::default(),
    };
    ClockModel {
        state: ClockState::Corrected,
        group: 0,
        segments: vec![segment],
        steps: Vec::new(),
        bounds: Vec::new(),
        exchanges: 1,
        neighbours: 1,
    }
}
