//! Windows: a run that goes on from an earlier one measures from where that did, whichever clocks it sees; and what is given as
//! context is evidence, and no row.

use std::path::{Path, PathBuf};

use opentelemetry_proto::tonic::common::v1::{AnyValue, KeyValue, any_value::Value};
use opentelemetry_proto::tonic::resource::v1::Resource;
use opentelemetry_proto::tonic::trace::v1::{ResourceSpans, ScopeSpans, Span, TracesData};
use prost::Message;
use unskew::report;
use unskew::settings::Write;

use crate::common::{FLEET, batches, fix, fleet, prefixed, records, settings, traces};

const MS: i64 = 1_000_000;

/// Hosts with how far they are ahead, ms.
const HOSTS: [(&str, i64); 4] = [("a", 50), ("b", 0), ("c", 0), ("d", -80)];

fn text(key: &str, value: &str) -> KeyValue {
    let value = Some(AnyValue { value: Some(Value::StringValue(value.to_owned())) });
    KeyValue { key: key.to_owned(), value, ..KeyValue::default() }
}

/// Calls between hosts, by their places, one pair a second from this second on.
fn calls(pairs: &[(usize, usize)], from: i64) -> Vec<u8> {
    let span = |host: usize, id: u64, parent: Option<u64>, kind: i32, [start, end]: [i64; 2]| {
        let by_clock = |at: i64| (1_700_000_000_000_000_000 + at + HOSTS[host].1 * MS) as u64;
        let bytes = |id: u64| id.to_be_bytes().to_vec();
        let span = Span {
            trace_id: u128::from(id / 2 + 1).to_be_bytes().to_vec(),
            span_id: bytes(id + 1),
            parent_span_id: parent.map(|parent| bytes(parent + 1)).unwrap_or_default(),
            kind,
            start_time_unix_nano: by_clock(start),
            end_time_unix_nano: by_clock(end),
            ..Span::default()
        };
        let attributes = vec![text("host.name", HOSTS[host].0), text("service.name", HOSTS[host].0)];
        ResourceSpans {
            resource: Some(Resource { attributes, ..Resource::default() }),
            scope_spans: vec![ScopeSpans { spans: vec![span], ..ScopeSpans::default() }],
            ..ResourceSpans::default()
        }
    };
    let mut bytes = Vec::new();
    for number in 0..90 {
        let (client, server) = pairs[number as usize % pairs.len()];
        // At whole seconds they would be taken for floored.
        let at = (from + number) * 1_000 * MS + number * 15_485_863 % MS;
        let (out, back) = (MS + number * 7_919 % 13 * 20_000, MS + number * 104_729 % 11 * 20_000);
        let id = 2 * (from + number) as u64;
        let of_server = [at + out, at + out + 5 * MS];
        let spans =
            vec![span(client, id, None, 3, [at, of_server[1] + back]), span(server, id + 1, Some(id), 2, of_server)];
        let record = TracesData { resource_spans: spans }.encode_to_vec();
        bytes.extend((record.len() as u32).to_be_bytes());
        bytes.extend(record);
    }
    bytes
}

/// How far each clock was moved, ms, at its last.
fn offsets(folder: &Path, name: &str, dump: &[u8], after: Option<&Path>) -> (PathBuf, Vec<(String, i64)>) {
    let (input, out) = (folder.join(format!("{name}.binpb")), folder.join(name));
    std::fs::write(&input, dump).unwrap();
    let mut settings = settings(&[input], &out, &[]);
    (settings.reference, settings.after) = (None, after.map(Path::to_owned));
    fix(&settings);
    let rows = report::load(&out).unwrap().clocks;
    let of = |row: &report::ClockRow| {
        let offset = row.offset_last_ns.filter(|_| row.state == "corrected").unwrap_or(0);
        (row.clock.clone(), (offset as f64 / MS as f64).round() as i64)
    };
    let mut offsets: Vec<_> = rows.iter().map(of).collect();
    offsets.sort();
    (out, offsets)
}

#[test]
fn a_window_that_sees_other_clocks_moves_no_more_than_those_that_are_wrong() {
    let folder = tempfile::tempdir().unwrap();
    let all = calls(&[(0, 1), (1, 2), (2, 0), (1, 3)], 0);
    let (first, found) = offsets(folder.path(), "first", &all, None);
    let said =
        |hosts: &[usize]| hosts.iter().map(|&host| (HOSTS[host].0.to_owned(), HOSTS[host].1)).collect::<Vec<_>>();
    assert_eq!(found, said(&[0, 1, 2, 3]));
    // Two clocks of which one is known to be wrong; two that both are; and a few of all.
    for (number, hosts) in [[0, 1], [0, 3], [1, 3], [1, 2]].into_iter().enumerate() {
        let dump = calls(&[(hosts[0], hosts[1])], 100 + 100 * number as i64);
        let (_, alone) = offsets(folder.path(), &format!("alone-{number}"), &dump, None);
        let (_, after) = offsets(folder.path(), &format!("after-{number}"), &dump, Some(&first));
        assert_eq!(after, said(&hosts));
        // Alone, one of two stays.
        assert!(alone.iter().any(|(_, offset)| *offset == 0), "{alone:?}");
    }
}

/// Spans, calls between two clocks and spans without their parents, as a summary has them.
fn counts(folder: &Path, name: &str, dump: &[Vec<u8>], context: &[Vec<u8>]) -> [u64; 3] {
    let path = |what: &str| folder.join(format!("{name}-{what}.binpb"));
    std::fs::write(path("own"), prefixed(dump)).unwrap();
    std::fs::write(path("context"), prefixed(context)).unwrap();
    let out = folder.join(name);
    let mut settings = settings(&[path("own")], &out, &[Write::Parquet]);
    if !context.is_empty() {
        settings.context = vec![path("context").to_str().unwrap().to_owned()];
    }
    let summary = fix(&settings).report.summary;
    let rows: usize = batches(&traces(&out)).iter().map(|batch| batch.num_rows()).sum();
    assert_eq!(rows as u64, summary.spans);
    [summary.spans, summary.inversions.pairs, summary.findings.get("missing_parent").copied().unwrap_or(0)]
}

#[test]
fn context_is_evidence_and_has_no_rows() {
    let folder = tempfile::tempdir().unwrap();
    let all = records(&fleet(FLEET).protobuf.unwrap());
    let (first, second) = all.split_at(all.len() / 2);
    let whole = counts(folder.path(), "whole", &all, &[]);
    let add = |one: [u64; 3], other: [u64; 3]| std::array::from_fn(|at| one[at] + other[at]);
    let with = add(counts(folder.path(), "1", first, second), counts(folder.path(), "2", second, first));
    assert_eq!(with, whole);
    let without: [u64; 3] = add(counts(folder.path(), "3", first, &[]), counts(folder.path(), "4", second, &[]));
    assert!(without[1] < whole[1] && without[2] > whole[2], "no trace crosses: {without:?} {whole:?}");
}
