//! Spans → export requests as a Collector's file exporter writes them, in JSON lines and in protobuf.

use std::collections::BTreeMap;

use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::{AnyValue, InstrumentationScope, KeyValue, any_value};
use opentelemetry_proto::tonic::resource::v1::Resource;
use opentelemetry_proto::tonic::trace::v1::{ResourceSpans, ScopeSpans, Span as OtlpSpan, Status, span};
use prost::Message;
use serde_json::{Value as Json, json};

use super::fleet::{Fleet, HostId};
use super::traffic::{Span, Value};
use crate::span::SpanKind;

/// A process sends what it has this often, or when it has so many.
const FLUSH_NS: i64 = 60_000_000_000;
const FLUSH_SPANS: usize = 200;

/// Spans in the batches in which their processes send them, in the order of sending.
pub(super) fn batches<'a>(spans: &'a [Span], fleet: &Fleet) -> Vec<(HostId, Vec<&'a Span>)> {
    let mut ended: Vec<&Span> = spans.iter().collect();
    ended.sort_by_key(|span| (span.stamp.true_end, span.trace, span.id));
    let mut open: BTreeMap<(HostId, i64), Vec<&Span>> = BTreeMap::new();
    let mut sent = Vec::new();
    for span in ended {
        let turn = (span.stamp.true_end - fleet.life.from).div_euclid(FLUSH_NS);
        let batch = open.entry((span.host, turn)).or_default();
        batch.push(span);
        if batch.len() == FLUSH_SPANS {
            sent.push((turn, span.host, std::mem::take(batch)));
        }
    }
    sent.extend(
        open.into_iter().filter(|(_, batch)| !batch.is_empty()).map(|((host, turn), batch)| (turn, host, batch)),
    );
    sent.sort_by_key(|(turn, host, batch)| (*turn, *host, batch[0].stamp.true_end));
    sent.into_iter().map(|(_, host, batch)| (host, batch)).collect()
}

pub(super) fn request(host: HostId, batch: &[&Span], fleet: &Fleet) -> ExportTraceServiceRequest {
    let service = &fleet.services[fleet.hosts[host].service].name;
    let scope = InstrumentationScope { name: format!("shop.{service}"), version: "1.0.0".into(), ..Default::default() };
    let spans = batch.iter().map(|span| otlp_span(span)).collect();
    ExportTraceServiceRequest {
        resource_spans: vec![ResourceSpans {
            resource: Some(resource(host, fleet)),
            scope_spans: vec![ScopeSpans { scope: Some(scope), spans, schema_url: String::new() }],
            schema_url: String::new(),
        }],
    }
}

/// Adds a request behind its length, four bytes, big-endian.
pub(super) fn push_protobuf(request: &ExportTraceServiceRequest, out: &mut Vec<u8>) {
    let bytes = request.encode_to_vec();
    out.extend((bytes.len() as u32).to_be_bytes());
    out.extend(bytes);
}

/// Adds a request as one line of JSON.
pub(super) fn push_json(request: &ExportTraceServiceRequest, out: &mut Vec<u8>) {
    let resources: Vec<Json> = request
        .resource_spans
        .iter()
        .map(|of| {
            let attributes = of.resource.as_ref().map(|resource| json_attributes(&resource.attributes));
            let scopes: Vec<Json> = of.scope_spans.iter().map(json_scope).collect();
            json!({"resource": {"attributes": attributes}, "scopeSpans": scopes})
        })
        .collect();
    out.extend(json!({"resourceSpans": resources}).to_string().into_bytes());
    out.push(b'\n');
}

fn resource(host: HostId, fleet: &Fleet) -> Resource {
    let host = &fleet.hosts[host];
    let uuid = format!("{:032x}", host.instance);
    let instance = [&uuid[..8], &uuid[8..12], &uuid[12..16], &uuid[16..20], &uuid[20..]].join("-");
    let attributes = [
        ("service.name", fleet.services[host.service].name.clone()),
        ("service.instance.id", instance),
        ("host.name", host.name.clone()),
        ("telemetry.sdk.name", "opentelemetry".into()),
        ("telemetry.sdk.language", host.habit.language().into()),
    ];
    Resource {
        attributes: attributes.map(|(key, text)| pair(key, any_value::Value::StringValue(text))).into(),
        ..Default::default()
    }
}

fn otlp_span(span: &Span) -> OtlpSpan {
    // W3C "sampled", then OTLP's "parent is remote: known" and its answer.
    let flags = 0x101 | if span.parent.is_some_and(|parent| parent.remote) { 0x200 } else { 0 };
    OtlpSpan {
        trace_id: span.trace.to_be_bytes().into(),
        span_id: span.id.to_be_bytes().into(),
        parent_span_id: span.parent.map_or_else(Vec::new, |parent| parent.id.to_be_bytes().into()),
        flags,
        name: span.name.into(),
        kind: number(span.kind),
        start_time_unix_nano: span.stamp.start.nanos().max(0) as u64,
        end_time_unix_nano: span.stamp.end.nanos().max(0) as u64,
        attributes: span.attributes.iter().map(|(key, value)| pair(key, any_value(value))).collect(),
        links: span.link.iter().map(|link| otlp_link(*link)).collect(),
        status: Some(Status { code: if span.failed { 2 } else { 0 }, message: String::new() }),
        ..Default::default()
    }
}

fn otlp_link((trace, span): (u128, u64)) -> span::Link {
    span::Link { trace_id: trace.to_be_bytes().into(), span_id: span.to_be_bytes().into(), ..Default::default() }
}

fn number(kind: SpanKind) -> i32 {
    match kind {
        SpanKind::Unspecified => 0,
        SpanKind::Internal => 1,
        SpanKind::Server => 2,
        SpanKind::Client => 3,
        SpanKind::Producer => 4,
        SpanKind::Consumer => 5,
    }
}

fn any_value(value: &Value) -> any_value::Value {
    match value {
        Value::Str(text) => any_value::Value::StringValue((*text).into()),
        Value::Int(number) => any_value::Value::IntValue(*number),
    }
}

fn pair(key: &str, value: any_value::Value) -> KeyValue {
    KeyValue { key: key.into(), value: Some(AnyValue { value: Some(value) }), ..Default::default() }
}

fn json_scope(of: &ScopeSpans) -> Json {
    let scope = of.scope.as_ref().map(|scope| json!({"name": scope.name, "version": scope.version}));
    json!({"scope": scope, "spans": of.spans.iter().map(json_span).collect::<Vec<_>>()})
}

fn json_span(span: &OtlpSpan) -> Json {
    let mut json = json!({
        "traceId": hex(&span.trace_id),
        "spanId": hex(&span.span_id),
        "parentSpanId": hex(&span.parent_span_id),
        "flags": span.flags,
        "name": span.name,
        "kind": span.kind,
        "startTimeUnixNano": span.start_time_unix_nano.to_string(),
        "endTimeUnixNano": span.end_time_unix_nano.to_string(),
        "status": match &span.status {
            Some(Status { code: 2, .. }) => json!({"code": 2}),
            _ => json!({}),
        },
    });
    if !span.attributes.is_empty() {
        json["attributes"] = json_attributes(&span.attributes);
    }
    if !span.links.is_empty() {
        let link = |link: &span::Link| json!({"traceId": hex(&link.trace_id), "spanId": hex(&link.span_id)});
        json["links"] = span.links.iter().map(link).collect();
    }
    json
}

fn json_attributes(attributes: &[KeyValue]) -> Json {
    attributes
        .iter()
        .map(|pair| {
            let value = match pair.value.as_ref().and_then(|value| value.value.as_ref()) {
                Some(any_value::Value::StringValue(text)) => json!({"stringValue": text}),
                Some(any_value::Value::IntValue(number)) => json!({"intValue": number.to_string()}),
                other => unreachable!("we write strings and whole numbers only, not {other:?}"),
            };
            json!({"key": pair.key, "value": value})
        })
        .collect()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
