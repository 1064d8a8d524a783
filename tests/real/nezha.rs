//! Nezha's minutes of a cluster (CSV, ns) → spans.

use std::collections::BTreeMap;

use super::otlp::Span;

const HEADER: &str = "TraceID,SpanID,ParentID,PodName,OperationName,StartTimeUnixNano,EndTimeUnixNano,Duration";

pub fn spans(csv: &str) -> Vec<Span> {
    let mut lines = csv.lines();
    assert_eq!(lines.next(), Some(HEADER));
    let span = |line: &str| {
        let fields: Vec<&str> = line.split(',').collect();
        let [trace, span, parent, pod, name, start, end, _] = fields[..] else { panic!("{line}") };
        // A pod goes by its deployment, the replica set's hash and its own.
        let service = pod.rsplitn(3, '-').nth(2).unwrap();
        Span {
            trace: trace.to_owned(),
            span: span.to_owned(),
            parent: (parent != "root").then(|| parent.to_owned()),
            name: name.to_owned(),
            kind: None,
            start_ns: start.parse().unwrap(),
            end_ns: end.parse().unwrap(),
            resource: BTreeMap::from([("service.name", service.to_owned()), ("host.name", pod.to_owned())]),
        }
    };
    lines.map(span).collect()
}
