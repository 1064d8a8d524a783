//! Spans of any format → OTLP/JSON, one request a line, as the Collector's file exporter writes it.

use std::collections::{BTreeMap, HashMap, HashSet};

use serde_json::{Value, json};

/// As much of a span as clocks need.
pub struct Span {
    pub trace: String,
    pub span: String,
    pub parent: Option<String>,
    pub name: String,
    /// `None` where the format has none: the trace's shape tells.
    pub kind: Option<Kind>,
    pub start_ns: i64,
    pub end_ns: i64,
    pub resource: BTreeMap<&'static str, String>,
}

/// By OTLP's numbers.
#[derive(Clone, Copy)]
pub enum Kind {
    Internal = 1,
    Server = 2,
    Client = 3,
}

pub fn lines(spans: &[Span]) -> String {
    let id = |span: &Span| (span.trace.clone(), span.span.clone());
    let of_id: HashMap<_, &Span> = spans.iter().map(|span| (id(span), span)).collect();
    let parent = |span: &Span| of_id.get(&(span.trace.clone(), span.parent.clone()?)).copied();
    let is_called = |span: &Span| parent(span).is_none_or(|parent| parent.resource != span.resource);
    let callers: HashSet<_> =
        spans.iter().filter(|span| is_called(span)).filter_map(|span| parent(span).map(id)).collect();
    let kind = |span: &Span| match span.kind {
        Some(kind) => kind,
        None if is_called(span) => Kind::Server,
        None if callers.contains(&id(span)) => Kind::Client,
        None => Kind::Internal,
    };
    let mut traces: BTreeMap<&str, BTreeMap<_, Vec<Value>>> = BTreeMap::new();
    for span in spans {
        let Span { trace, name, .. } = span;
        traces.entry(trace).or_default().entry(&span.resource).or_default().push(json!({
            "traceId": format!("{trace:0>32}"),
            "spanId": format!("{:0>16}", span.span),
            "parentSpanId": span.parent.as_ref().map_or_else(String::new, |parent| format!("{parent:0>16}")),
            "name": name,
            "kind": kind(span) as u8,
            "startTimeUnixNano": span.start_ns.to_string(),
            "endTimeUnixNano": span.end_ns.to_string(),
        }));
    }
    let request = |resources: BTreeMap<&BTreeMap<&str, String>, Vec<Value>>| {
        let resource = |(resource, spans): (&BTreeMap<&str, String>, Vec<Value>)| {
            let attribute = |(key, value): (&&str, &String)| json!({"key": key, "value": {"stringValue": value}});
            let attributes: Vec<Value> = resource.iter().map(attribute).collect();
            json!({"resource": {"attributes": attributes}, "scopeSpans": [{"spans": spans}]})
        };
        json!({"resourceSpans": resources.into_iter().map(resource).collect::<Vec<_>>()}).to_string() + "\n"
    };
    traces.into_values().map(request).collect()
}
