//! One trace of calls between two hosts, of which the second is 35 ms ahead.

use opentelemetry_proto::tonic::resource::v1::Resource;
use opentelemetry_proto::tonic::trace::v1::{ResourceSpans, ScopeSpans, Span, TracesData};
use prost::Message;

use super::attribute;

/// How its calls stand to each other.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Shape {
    /// Each within the last, to and fro.
    Deep,
    /// All below the first span, one after the other.
    Wide,
}

const US: u64 = 1_000;
const START: u64 = 1_750_000_000_000_000_000;
const AHEAD: u64 = 35_000 * US;

/// A dump of so many spans, each record behind its length.
pub fn calls(spans: usize, shape: Shape) -> Vec<u8> {
    let calls = spans as u64 / 2;
    let all: Vec<(usize, Span)> = (0..calls).flat_map(|number| call(number, calls, shape)).collect();
    let mut dump = Vec::new();
    for some in all.chunks(500) {
        let of = |host: usize| ResourceSpans {
            resource: Some(Resource {
                attributes: [
                    ("host.name", ["a", "b"][host]),
                    ("service.name", "walker"),
                    ("telemetry.sdk.language", "go"),
                ]
                .map(|(key, text)| attribute(key, text))
                .to_vec(),
                ..Resource::default()
            }),
            scope_spans: vec![ScopeSpans {
                spans: some.iter().filter(|span| span.0 == host).map(|span| span.1.clone()).collect(),
                ..ScopeSpans::default()
            }],
            ..ResourceSpans::default()
        };
        let record = TracesData { resource_spans: vec![of(0), of(1)] }.encode_to_vec();
        dump.extend((record.len() as u32).to_be_bytes());
        dump.extend(record);
    }
    dump
}

/// Client and server span of one call, each with its host.
fn call(number: u64, calls: u64, shape: Shape) -> [(usize, Span); 2] {
    const CLIENT: i32 = 3;
    const SERVER: i32 = 2;
    let id = 2 * number + 1;
    let (from, above, start, end) = match shape {
        Shape::Deep => (number as usize % 2, id - 1, 170 * US * number, 600 * US * calls - 120 * US * number),
        Shape::Wide if number == 0 => (0, 0, 0, 600 * US * calls),
        Shape::Wide => (0, 1, 600 * US * number, 600 * US * number + 500 * US),
    };
    let span = |host: usize, id: u64, above: u64, kind: i32, start: u64, end: u64| {
        let local = |time: u64| START + AHEAD * host as u64 + time;
        let span = Span {
            trace_id: 7u128.to_be_bytes().to_vec(),
            span_id: id.to_be_bytes().to_vec(),
            parent_span_id: if above > 0 { above.to_be_bytes().to_vec() } else { Vec::new() },
            name: "walk".into(),
            kind,
            start_time_unix_nano: local(start),
            end_time_unix_nano: local(end),
            ..Span::default()
        };
        (host, span)
    };
    [span(from, id, above, CLIENT, start, end), span(1 - from, id + 1, id, SERVER, start + 150 * US, end - 100 * US)]
}
