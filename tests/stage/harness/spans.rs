//! Requests to send.

use std::fmt::Write;
use std::sync::atomic::{AtomicU64, Ordering};

use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::common::v1::{AnyValue, InstrumentationScope, KeyValue};
use opentelemetry_proto::tonic::resource::v1::Resource;
use opentelemetry_proto::tonic::trace::v1::span::Event;
use opentelemetry_proto::tonic::trace::v1::{ResourceSpans, ScopeSpans, Span, Status};
use prost::Message;

/// A time, in nanoseconds, long ago: nothing here is in the future of what receives it.
const THEN: u64 = 1_750_000_000_000_000_000;

/// Spans of two hosts, no two of a test program with the same ids.
pub fn request(count: usize) -> ExportTraceServiceRequest {
    let half = count.div_ceil(2);
    let mut hosts = vec![host("host-a", half)];
    hosts.extend((count > half).then(|| host("host-b", count - half)));
    ExportTraceServiceRequest { resource_spans: hosts }
}

fn host(name: &str, count: usize) -> ResourceSpans {
    let spans = (0..count).map(|_| span()).collect();
    let scope = InstrumentationScope { name: "suite".to_owned(), version: "1".to_owned(), ..Default::default() };
    let attributes = vec![attribute("service.name", "shop"), attribute("host.name", name)];
    ResourceSpans {
        resource: Some(Resource { attributes, ..Default::default() }),
        scope_spans: vec![ScopeSpans { scope: Some(scope), spans, schema_url: String::new() }],
        schema_url: "https://opentelemetry.io/schemas/1.37.0".to_owned(),
    }
}

fn span() -> Span {
    static NEXT: AtomicU64 = AtomicU64::new(1);
    let nth = NEXT.fetch_add(1, Ordering::Relaxed);
    let start = THEN + nth * 1_000_000;
    Span {
        trace_id: [0xab_u64.to_be_bytes(), nth.to_be_bytes()].concat(),
        span_id: nth.to_be_bytes().to_vec(),
        name: format!("GET /{nth}"),
        kind: 2,
        start_time_unix_nano: start,
        end_time_unix_nano: start + 700_000,
        attributes: vec![attribute("http.request.method", "GET")],
        events: vec![Event { time_unix_nano: start + 100_000, name: "looked".to_owned(), ..Default::default() }],
        status: Some(Status::default()),
        ..Default::default()
    }
}

pub fn attribute(key: &str, text: &str) -> KeyValue {
    let value = Some(AnyValue { value: Some(Value::StringValue(text.to_owned())) });
    KeyValue { key: key.to_owned(), value, ..Default::default() }
}

/// A request of one span that is exactly so long.
pub fn of_length(length: usize) -> Vec<u8> {
    let mut request = request(1);
    let most = length.checked_sub(request.encoded_len()).expect("longer than without padding") + 16;
    // Lengths are themselves of any length: a field more bridges where one grows.
    for (shorter, dropped) in (0..64).flat_map(|shorter| [(shorter, 0), (shorter, 1)]) {
        let span = &mut request.resource_spans[0].scope_spans[0].spans[0];
        span.name = "x".repeat(most.saturating_sub(shorter));
        span.dropped_events_count = dropped;
        if request.encoded_len() == length {
            return request.encode_to_vec();
        }
    }
    panic!("no request of {length} bytes")
}

/// All spans of a request, in its order.
pub fn of(request: &ExportTraceServiceRequest) -> Vec<Span> {
    let scopes = request.resource_spans.iter().flat_map(|resource| &resource.scope_spans);
    scopes.flat_map(|scope| scope.spans.iter().cloned()).collect()
}

/// A request in OTLP's JSON, as far as [`request`] goes.
pub fn json(request: &ExportTraceServiceRequest) -> String {
    let hex = |bytes: &[u8]| bytes.iter().fold(String::new(), |hex, byte| hex + &format!("{byte:02x}"));
    let list = |items: Vec<String>| format!("[{}]", items.join(","));
    let attributes = |all: &[KeyValue]| {
        let one = |it: &KeyValue| match it.value.as_ref().and_then(|any| any.value.as_ref()) {
            Some(Value::StringValue(text)) => format!(r#"{{"key":"{}","value":{{"stringValue":"{text}"}}}}"#, it.key),
            other => panic!("{other:?}"),
        };
        list(all.iter().map(one).collect())
    };
    let event = |event: &Event| format!(r#"{{"timeUnixNano":"{}","name":"{}"}}"#, event.time_unix_nano, event.name);
    let span = |span: &Span| {
        let mut text = format!(r#"{{"traceId":"{}","spanId":"{}""#, hex(&span.trace_id), hex(&span.span_id));
        write!(text, r#","name":"{}","kind":{}"#, span.name, span.kind).unwrap();
        write!(text, r#","startTimeUnixNano":"{}""#, span.start_time_unix_nano).unwrap();
        write!(text, r#","endTimeUnixNano":"{}""#, span.end_time_unix_nano).unwrap();
        write!(text, r#","attributes":{}"#, attributes(&span.attributes)).unwrap();
        text + &format!(r#","events":{},"status":{{}}}}"#, list(span.events.iter().map(event).collect()))
    };
    let scope = |of: &ScopeSpans| {
        let scope = of.scope.as_ref().unwrap();
        let scope = format!(r#"{{"name":"{}","version":"{}"}}"#, scope.name, scope.version);
        format!(r#"{{"scope":{scope},"spans":{}}}"#, list(of.spans.iter().map(span).collect()))
    };
    let resource = |of: &ResourceSpans| {
        let known = attributes(&of.resource.as_ref().unwrap().attributes);
        let scopes = list(of.scope_spans.iter().map(scope).collect());
        format!(r#"{{"resource":{{"attributes":{known}}},"scopeSpans":{scopes},"schemaUrl":"{}"}}"#, of.schema_url)
    };
    format!(r#"{{"resourceSpans":{}}}"#, list(request.resource_spans.iter().map(resource).collect()))
}
