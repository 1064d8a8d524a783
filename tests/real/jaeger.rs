//! Jaeger's query API → spans.

use std::collections::BTreeMap;

use serde::Deserialize;

use super::otlp::{Kind, Span};

#[derive(Deserialize)]
struct Answer {
    data: Vec<Trace>,
}

#[derive(Deserialize)]
struct Trace {
    spans: Vec<Recorded>,
    processes: BTreeMap<String, Process>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Recorded {
    #[serde(rename = "traceID")]
    trace: String,
    #[serde(rename = "spanID")]
    span: String,
    #[serde(rename = "processID")]
    process: String,
    operation_name: String,
    references: Vec<Reference>,
    /// µs.
    start_time: i64,
    /// µs.
    duration: i64,
    tags: Vec<Tag>,
}

#[derive(Deserialize)]
struct Reference {
    #[serde(rename = "spanID")]
    span: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Process {
    service_name: String,
    tags: Vec<Tag>,
}

#[derive(Deserialize)]
struct Tag {
    key: String,
    value: serde_json::Value,
}

fn tag<'a>(tags: &'a [Tag], key: &str) -> Option<&'a str> {
    tags.iter().find(|tag| tag.key == key)?.value.as_str()
}

/// The spans of one answer. `machine` makes attributes of a process' tags `ip` and `hostname`.
pub fn spans(answer: &str, machine: impl Fn(&str, &str) -> BTreeMap<&'static str, String>) -> Vec<Span> {
    let answer: Answer = serde_json::from_str(answer).unwrap();
    let of_trace = |Trace { spans, processes }: Trace| {
        let span = |span: Recorded| {
            let Process { service_name, tags } = &processes[&span.process];
            let mut resource = machine(tag(tags, "ip").unwrap(), tag(tags, "hostname").unwrap());
            resource.insert("service.name", service_name.clone());
            Span {
                parent: span.references.first().map(|reference| reference.span.clone()),
                kind: tag(&span.tags, "span.kind").map(|kind| match kind {
                    "server" => Kind::Server,
                    "client" => Kind::Client,
                    _ => Kind::Internal,
                }),
                start_ns: span.start_time * 1_000,
                end_ns: (span.start_time + span.duration) * 1_000,
                trace: span.trace,
                span: span.span,
                name: span.operation_name,
                resource,
            }
        };
        spans.into_iter().map(span).collect::<Vec<_>>()
    };
    answer.data.into_iter().flat_map(of_trace).collect()
}
