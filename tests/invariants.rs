//! What holds whatever the input: its order and its copies decide nothing, and nothing but times is changed.

#[path = "invariants/after.rs"]
mod after;
#[path = "../fuzz/targets/agree.rs"]
#[allow(dead_code, reason = "the fuzz targets use the rest")]
mod agree;
mod common;
#[path = "invariants/even_links.rs"]
mod even_links;
#[path = "../benches/scale/fleet.rs"]
#[allow(dead_code, reason = "the bench uses the rest")]
mod fleet;
#[path = "invariants/phones.rs"]
mod phones;
#[path = "invariants/rolled_up.rs"]
mod rolled_up;
#[path = "invariants/steps.rs"]
mod steps;
#[path = "invariants/table.rs"]
mod table;
#[path = "invariants/wire.rs"]
mod wire;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use opentelemetry_proto::tonic::common::v1::{AnyValue, KeyValue, any_value::Value};
use opentelemetry_proto::tonic::trace::v1::span::Event;
use opentelemetry_proto::tonic::trace::v1::{Span, Status, TracesData};
use prost::Message;
use serde_json::Value as Json;
use unskew::settings::{Annotate, Fix, Write};

use common::{FLEET, batches, fix, fleet, ints, lines, prefixed, records, rows, settings, stepping, texts, traces};

const TABLES: [&str; 5] = ["clocks", "offsets", "links", "steps", "exchanges"];

/// A fleet's records, with an event and a link here and there, and times that say nothing.
fn requests() -> Vec<Vec<u8>> {
    let simulated = fleet(&stepping());
    let requests = records(&simulated.protobuf.unwrap());
    let mut number = 0;
    let mut made = Vec::new();
    for request in &requests {
        let mut request = TracesData::decode(&request[..]).unwrap();
        for span in spans(&mut request) {
            number += 1;
            embellish(number, span);
        }
        made.push(request.encode_to_vec());
        if made.len().is_multiple_of(8) {
            made.push(twin(request).encode_to_vec());
        }
    }
    made
}

/// The same spans under another service of the same host: copies that differ, and stand for none.
fn twin(mut request: TracesData) -> TracesData {
    for of in &mut request.resource_spans {
        of.scope_spans.iter_mut().for_each(|scope| scope.spans.truncate(5));
        let attributes = of.resource.as_mut().map(|resource| &mut resource.attributes);
        let service = attributes.unwrap().iter_mut().find(|attribute| attribute.key == "service.name").unwrap();
        service.value = Some(AnyValue { value: Some(Value::StringValue("another".into())) });
    }
    request
}

fn embellish(number: u64, span: &mut Span) {
    let (start, end) = (span.start_time_unix_nano, span.end_time_unix_nano);
    let event = |name: &str, time_unix_nano| Event { name: name.into(), time_unix_nano, ..Event::default() };
    if number.is_multiple_of(3) {
        span.events = vec![event("midway", start / 2 + end / 2), event("late", end + 90_000_000_000)];
    }
    match number % 97 {
        1 => span.events.push(event("timeless", 0)),
        2 => span.events.push(event("beyond", u64::MAX - number)),
        3 => span.end_time_unix_nano = 0,
        4 => span.end_time_unix_nano = u64::MAX - number,
        5 => span.start_time_unix_nano = 86_400,
        6 => span.trace_id.truncate(8),
        7 => span.span_id.clear(),
        _ => {}
    }
}

fn spans(data: &mut TracesData) -> impl Iterator<Item = &mut Span> {
    data.resource_spans.iter_mut().flat_map(|of| &mut of.scope_spans).flat_map(|of| &mut of.spans)
}

/// Runs over files made of the given bytes, all in one folder, and says where the output went.
fn run_over(folder: &Path, name: &str, files: &[Vec<u8>], change: impl FnOnce(&mut Fix)) -> PathBuf {
    let input = folder.join(format!("{name}-in"));
    fs::create_dir(&input).unwrap();
    for (index, file) in files.iter().enumerate() {
        fs::write(input.join(format!("{index}")), file).unwrap();
    }
    let out = folder.join(name);
    let mut settings = settings(&[input], &out, &[Write::Parquet, Write::Same]);
    change(&mut settings);
    let outcome = fix(&settings);
    assert!(!outcome.failed, "{name}: {:?}", outcome.report.summary.problems);
    out
}

/// The skew tables' bytes; findings as rows, without those about copies.
fn skew(out: &Path) -> BTreeMap<String, Vec<u8>> {
    let table = |name: &str| out.join(format!("skew/{name}.parquet"));
    let mut tables: BTreeMap<String, Vec<u8>> =
        TABLES.iter().map(|name| ((*name).to_owned(), fs::read(table(name)).unwrap())).collect();
    let findings: Vec<String> =
        rows(&table("findings"), &[]).into_iter().filter(|row| !row.contains(" | duplicate | ")).collect();
    tables.insert("findings".to_owned(), findings.join("\n").into_bytes());
    tables
}

fn shuffled<T: Clone>(items: &[T]) -> Vec<T> {
    let mut state = 0x9E37_79B9_7F4A_7C15_u64;
    let mut keyed: Vec<(u64, &T)> = items
        .iter()
        .map(|item| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 20, item)
        })
        .collect();
    keyed.sort_by_key(|(key, _)| *key);
    keyed.into_iter().map(|(_, item)| item.clone()).collect()
}

/// By an error, but answered.
#[test]
fn calls_that_failed_tell_as_much_as_others() {
    let requests = records(&fleet(FLEET).protobuf.unwrap());
    let ended = |code: i32| -> Vec<Vec<u8>> {
        let ended = |request: &Vec<u8>| {
            let mut request = TracesData::decode(&request[..]).unwrap();
            for span in spans(&mut request) {
                span.status = Some(Status { code, ..Status::default() });
                span.attributes.retain(|attribute| attribute.key != "http.response.status_code");
            }
            request.encode_to_vec()
        };
        requests.iter().map(ended).collect()
    };
    let folder = tempfile::tempdir().unwrap();
    let skew = |name: &str, requests: &[Vec<u8>]| skew(&run_over(folder.path(), name, &[prefixed(requests)], |_| ()));
    assert!(skew("plain", &ended(0)) == skew("failed", &ended(2)));
}

#[test]
fn order_copies_sharding_and_threads_decide_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let requests = requests();
    let plain = run_over(folder.path(), "plain", &[prefixed(&requests)], |_| ());
    let (tables, spans) = (skew(&plain), rows(&traces(&plain), &[]).into_iter().collect::<BTreeSet<_>>());
    assert!(spans.len() > 2_800 && rows(&plain.join("skew/findings.parquet"), &[]).len() > 100);

    let mixed = shuffled(&requests);
    // A copy comes before and after its twin, and two copies of the same one do.
    let copied = shuffled(&[&mixed[..], &mixed[..mixed.len() / 10], &mixed[..3]].concat());
    let fifths: Vec<Vec<u8>> = mixed.chunks(mixed.len().div_ceil(5)).map(prefixed).collect();
    assert_eq!(fifths.len(), 5);
    for (name, files) in [("shuffled", vec![prefixed(&mixed)]), ("copied", vec![prefixed(&copied)]), ("split", fifths)]
    {
        for threads in [1, 2] {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            let name = format!("{name} on {threads}");
            let out = pool.install(|| run_over(folder.path(), &name, &files, |_| ()));
            for (table, bytes) in skew(&out) {
                assert!(bytes == tables[&table], "{name}: {table} differs");
            }
            let all = rows(&traces(&out), &[]);
            assert!(all.iter().collect::<BTreeSet<_>>() == spans.iter().collect(), "{name}: traces differ");
            assert_eq!(all.len(), spans.len(), "{name}: a span has several rows");
        }
    }
}

#[test]
fn json_and_protobuf_are_corrected_alike() {
    let folder = tempfile::tempdir().unwrap();
    let simulated = fleet(&stepping());
    let times = |name: &str, file: Vec<u8>| {
        let out = run_over(folder.path(), name, &[file], |_| ());
        rows(&traces(&out), &[]).into_iter().collect::<BTreeSet<_>>()
    };
    let json = times("json", simulated.json.unwrap());
    assert!(json.len() > 2_800);
    assert!(json == times("protobuf", simulated.protobuf.unwrap()));
}

/// A message with every time set to zero, and what the marks say taken off.
fn timeless(data: &[u8]) -> TracesData {
    let mut data = TracesData::decode(data).unwrap();
    for span in spans(&mut data) {
        (span.start_time_unix_nano, span.end_time_unix_nano) = (0, 0);
        span.events.iter_mut().for_each(|event| event.time_unix_nano = 0);
    }
    data
}

fn unmarked(mut data: TracesData) -> TracesData {
    let is_ours = |attribute: &KeyValue| attribute.key.starts_with("unskew.");
    for span in spans(&mut data) {
        span.attributes.retain(|attribute| !is_ours(attribute));
        span.events.iter_mut().for_each(|event| event.attributes.retain(|attribute| !is_ours(attribute)));
    }
    data
}

fn mark(attributes: &[KeyValue], name: &str) -> Option<i64> {
    let value = attributes.iter().find(|attribute| attribute.key == name)?.value.clone()?;
    match value.value {
        Some(Value::IntValue(nanos)) => Some(nanos),
        other => panic!("{name} is {other:?}"),
    }
}

/// A reader's way back to the recorded times, by DESIGN.md's "Marks" and nothing of ours.
fn restored(data: &[u8]) -> TracesData {
    let mut data = TracesData::decode(data).unwrap();
    for span in spans(&mut data) {
        let Some(offset) = mark(&span.attributes, "unskew.offset_ns") else { continue };
        let back = |written: u64, original: Option<i64>| match original {
            // Saturated, and untouched.
            Some(i64::MAX) => written,
            Some(original) => original as u64,
            None => (written as i64 + offset) as u64,
        };
        span.start_time_unix_nano =
            back(span.start_time_unix_nano, mark(&span.attributes, "unskew.original_start_unix_nano"));
        span.end_time_unix_nano =
            back(span.end_time_unix_nano, mark(&span.attributes, "unskew.original_end_unix_nano"));
        for event in &mut span.events {
            let original = mark(&event.attributes, "unskew.original_time_unix_nano");
            // No time at all is no field on the wire.
            if event.time_unix_nano != 0 || original.is_some() {
                event.time_unix_nano = back(event.time_unix_nano, original);
            }
        }
    }
    data
}

fn same_records(out: &Path) -> Vec<Vec<u8>> {
    records(&fs::read(out.join("corrected/0")).unwrap())
}

#[test]
fn without_marks_only_times_differ_and_with_marks_all_comes_back() {
    let folder = tempfile::tempdir().unwrap();
    let requests = requests();
    let bare = run_over(folder.path(), "bare", &[prefixed(&requests)], |fix| fix.annotate = Annotate::None);
    let marked = run_over(folder.path(), "marked", &[prefixed(&requests)], |_| ());
    let (bare, marked) = (same_records(&bare), same_records(&marked));
    assert_eq!((bare.len(), marked.len()), (requests.len(), requests.len()));
    let mut moved = 0;
    for ((request, bare), marked) in requests.iter().zip(&bare).zip(&marked) {
        assert_eq!(request.len(), bare.len());
        assert_eq!(timeless(request), timeless(bare));
        assert_eq!(unmarked(TracesData::decode(&marked[..]).unwrap()), TracesData::decode(&bare[..]).unwrap());
        assert_eq!(unmarked(restored(marked)), TracesData::decode(&request[..]).unwrap());
        moved += usize::from(request != bare);
    }
    assert!(moved > 20, "{moved} of {} records changed", requests.len());
}

/// JSON with every time blanked: what is left must be the same text.
fn timeless_json(line: &[u8]) -> String {
    let mut text = String::new();
    let mut rest = std::str::from_utf8(line).unwrap();
    while let Some(at) = rest.find("UnixNano\":\"") {
        let (before, after) = rest.split_at(at + 11);
        text.push_str(before);
        rest = after.trim_start_matches(|c: char| c.is_ascii_digit());
    }
    text + rest
}

#[test]
fn json_lines_differ_in_times_only() {
    let folder = tempfile::tempdir().unwrap();
    let json = fleet(&stepping()).json.unwrap();
    let bare = run_over(folder.path(), "bare", std::slice::from_ref(&json), |fix| fix.annotate = Annotate::None);
    let bare = fs::read(bare.join("corrected/0")).unwrap();
    assert!(bare != json);
    for (line, written) in lines(&json).iter().zip(lines(&bare)) {
        assert_eq!(timeless_json(line), timeless_json(&written));
    }
    let marked = run_over(folder.path(), "marked", &[json], |_| ());
    let marked = fs::read(marked.join("corrected/0")).unwrap();
    let mut marks = 0;
    for (bare, marked) in lines(&bare).iter().zip(lines(&marked)) {
        let mut marked: Json = serde_json::from_slice(&marked).unwrap();
        marks += unmark_json(&mut marked);
        let bare: Json = serde_json::from_slice(bare).unwrap();
        assert_eq!(marked, bare);
    }
    assert!(marks > 1_000, "{marks} marks");
}

/// Takes our marks off, and an attributes array that held nothing else.
fn unmark_json(value: &mut Json) -> usize {
    let mut marks = 0;
    match value {
        Json::Array(items) => items.iter_mut().for_each(|item| marks += unmark_json(item)),
        Json::Object(members) => {
            if let Some(Json::Array(attributes)) = members.get_mut("attributes") {
                let before = attributes.len();
                attributes.retain(|it| !it["key"].as_str().unwrap_or_default().starts_with("unskew."));
                marks += before - attributes.len();
                if attributes.is_empty() && before > 0 {
                    members.remove("attributes");
                }
            }
            members.values_mut().for_each(|member| marks += unmark_json(member));
        }
        _ => {}
    }
    marks
}

#[test]
fn a_second_run_moves_nothing_and_tells_the_same() {
    let folder = tempfile::tempdir().unwrap();
    let first = run_over(folder.path(), "first", &[prefixed(&requests())], |_| ());
    let written = fs::read(first.join("corrected/0")).unwrap();
    let second = run_over(folder.path(), "second", std::slice::from_ref(&written), |_| ());
    assert!(fs::read(second.join("corrected/0")).unwrap() == written);
    // The marks themselves are attributes, and events with attributes of their own.
    let seen = |out: &Path| rows(&traces(out), &["attributes", "events"]);
    for (before, after) in seen(&first).iter().zip(seen(&second)) {
        assert_eq!(*before, after);
    }
    assert_eq!(event_times(&first), event_times(&second));
    let summary = |out: &Path| serde_json::from_slice::<Json>(&fs::read(out.join("summary.json")).unwrap()).unwrap();
    let (first_said, second_said) = (summary(&first), summary(&second));
    assert!(first_said["moved"].as_u64() > Some(500));
    assert_eq!(second_said["moved"], 0);
    assert!(second_said["marked_before"].as_u64() >= first_said["moved"].as_u64());
    // Nor does it matter what this run would have done.
    let other = run_over(folder.path(), "other", &[written], |fix| fix.reference = None);
    let said: BTreeSet<String> = seen(&other).into_iter().collect();
    let moved: Vec<String> = seen(&first).into_iter().filter(|row| row.contains(" | moved | ")).collect();
    assert!(moved.len() > 500 && moved.iter().all(|row| said.contains(row)));
    // What is wrong is told as before; of parents and children only those that are still out of order.
    let findings = |out: &Path, about_order: bool| {
        let mut rows = rows(&out.join("skew/findings.parquet"), &["action", "reason", "before_ns"]);
        let is_about_order = |row: &String| ["_parent | ", "not_comparable"].iter().any(|kind| row.contains(kind));
        rows.retain(|row| (is_about_order(row) && !row.contains("missing_parent")) == about_order);
        rows
    };
    assert_eq!(findings(&first, false), findings(&second, false));
    let mut left = findings(&first, true);
    left.retain(|row| !row.ends_with(" | 0"));
    assert_eq!(left, findings(&second, true));
    assert_eq!(
        fs::read(first.join("skew/offsets.parquet")).unwrap(),
        fs::read(second.join("skew/offsets.parquet")).unwrap()
    );
}

#[test]
fn enforcing_causality_leaves_no_call_out_of_order_and_every_time_can_be_had_back() {
    let folder = tempfile::tempdir().unwrap();
    let requests = requests();
    let plain = run_over(folder.path(), "plain", &[prefixed(&requests)], |_| ());
    let strict = run_over(folder.path(), "strict", &[prefixed(&requests)], |fix| fix.enforce_causality = true);
    let said = |out: &Path| serde_json::from_slice::<Json>(&fs::read(out.join("summary.json")).unwrap()).unwrap();
    let after = |out: &Path| said(out)["inversions"]["after"].as_u64().unwrap();
    assert!(after(&plain) > 0);
    assert_eq!(after(&strict), 0);

    let column = |out: &Path, name: &str| -> Vec<i64> {
        batches(&traces(out)).iter().flat_map(|batch| ints(batch, name)).collect()
    };
    let nudges = column(&strict, "nudge_ns");
    for time in ["start_unix_nano", "end_unix_nano"] {
        let moved = column(&plain, time).into_iter().zip(&nudges).map(|(plain, nudge)| plain + nudge);
        assert!(moved.eq(column(&strict, time)), "{time}");
    }
    let original = column(&strict, "original_start_unix_nano").into_iter();
    let back = column(&strict, "start_unix_nano").into_iter().zip(column(&strict, "offset_ns"));
    assert!(original.eq(back.map(|(start, offset)| start + offset)));
    let nudged = nudges.iter().filter(|nudge| **nudge != 0).count();
    assert!(nudged > 10 && 2 * nudged < nudges.len(), "{nudged} of {}", nudges.len());
    assert_eq!(said(&strict)["nudged"], nudged);
    assert!(said(&plain).get("nudged").is_none());

    let written = fs::read(strict.join("corrected/0")).unwrap();
    for (request, marked) in requests.iter().zip(&records(&written)) {
        assert_eq!(unmarked(restored(marked)), TracesData::decode(&request[..]).unwrap());
    }
    let again = run_over(folder.path(), "again", std::slice::from_ref(&written), |fix| fix.enforce_causality = true);
    assert!(fs::read(again.join("corrected/0")).unwrap() == written);
    assert_eq!(column(&again, "nudge_ns"), nudges);
}

/// Written and original times of all events, in order.
fn event_times(out: &Path) -> Vec<(i64, i64)> {
    use arrow::array::{Array, ListArray, StructArray};
    let mut times = Vec::new();
    for batch in batches(&traces(out)) {
        let list = batch.column_by_name("events").unwrap().as_any().downcast_ref::<ListArray>().unwrap().clone();
        let events = RecordBatchOf(list.values().as_any().downcast_ref::<StructArray>().unwrap());
        times.extend(events.ints("time_unix_nano").into_iter().zip(events.ints("original_time_unix_nano")));
    }
    times
}

struct RecordBatchOf<'a>(&'a arrow::array::StructArray);

impl RecordBatchOf<'_> {
    fn ints(&self, name: &str) -> Vec<i64> {
        ints(&arrow::array::RecordBatch::from(self.0), name)
    }
}

#[test]
fn corrected_times_keep_their_order_and_ends_come_after_starts() {
    let folder = tempfile::tempdir().unwrap();
    let out = run_over(folder.path(), "out", &[fleet(FLEET).protobuf.unwrap()], |_| ());
    let mut by_clock: BTreeMap<String, Vec<(i64, i64)>> = BTreeMap::new();
    let (mut moved, mut recovered) = (0, 0);
    for batch in batches(&traces(&out)) {
        let (start, end) = (ints(&batch, "start_unix_nano"), ints(&batch, "end_unix_nano"));
        let (original, original_end) =
            (ints(&batch, "original_start_unix_nano"), ints(&batch, "original_end_unix_nano"));
        let (offset, duration) = (ints(&batch, "offset_ns"), ints(&batch, "duration_ns"));
        let correction = texts(&batch, "correction");
        for (row, clock) in texts(&batch, "clock").into_iter().enumerate() {
            assert!(end[row] >= start[row]);
            assert_eq!(duration[row], end[row] - start[row]);
            assert_eq!(start[row], original[row] - offset[row]);
            assert_eq!(correction[row] == "recovered", original_end[row] < original[row]);
            moved += usize::from(correction[row] == "moved");
            recovered += usize::from(correction[row] == "recovered");
            // A rebuilt start goes by its parent, and says so.
            if correction[row] != "recovered" {
                by_clock.entry(clock).or_default().push((original[row], start[row]));
            }
        }
    }
    assert!(moved > 500 && recovered > 10, "{moved} moved, {recovered} recovered");
    for (clock, mut starts) in by_clock {
        starts.sort_unstable();
        assert!(starts.is_sorted_by_key(|(_, written)| *written), "{clock}: spans change places");
    }
}

/// All else is measured from the first clock before anything is known; that it is hours off must not matter, nor that
/// another steps, be it the only group of clocks or one of two.
#[test]
fn without_a_reference_clocks_that_are_right_stay() {
    let dump = |seed: u64| {
        let text = format!(
            "
            seed = {seed}
            spans = 4000
            duration_s = 400
            [fleet]
            clocks = 8
            [clocks]
            perfect = true
            [[clocks.given]]
            host = \"svc01-1\"
            offset_ms = 36e6
            [[clocks.given]]
            host = \"svc02-1\"
            offset_ms = 5.0
            steps = [{{ at_s = 150.0, ms = 80.0 }}]
        "
        );
        // By name the reference of the fleet comes first; called otherwise, it comes last.
        renamed(fleet(&text).protobuf.unwrap(), b"gateway-1", b"z")
    };
    for seed in 1..=6 {
        let others = renamed(renamed(dump(seed + 40), b"zateway-1", b"y"), b"svc0", b"t");
        for bytes in [dump(seed), [dump(seed), others].concat()] {
            let folder = tempfile::tempdir().unwrap();
            let input = folder.path().join("traces.binpb");
            fs::write(&input, bytes).unwrap();
            let mut settings = settings(&[input], &folder.path().join("out"), &[Write::Parquet]);
            settings.reference = None;
            let outcome = unskew::run::fix(&settings, &mut std::io::empty(), |_| {}).unwrap();
            assert!(outcome.report.clocks.len() >= 8);
            for row in &outcome.report.clocks {
                let (first, last) = match &row.clock[1..] {
                    "vc01-1" => (36e12, 36e12),
                    "vc02-1" => (5e6, 85e6),
                    _ => (0.0, 0.0),
                };
                let off = |found: Option<i64>, truth: f64| (found.unwrap() as f64 - truth).abs();
                let well = off(row.offset_first_ns, first) < 3e5 && off(row.offset_last_ns, last) < 3e5;
                assert!(well, "seed {seed}: {row:?}");
                assert_eq!(row.moved > 0, first != 0.0, "seed {seed}: {row:?}");
            }
        }
    }
}

/// With other first letters in all names that begin so.
fn renamed(mut bytes: Vec<u8>, name: &[u8], letters: &[u8]) -> Vec<u8> {
    let places: Vec<usize> = memchr::memmem::find_iter(&bytes, name).collect();
    places.iter().for_each(|&place| bytes[place..place + letters.len()].copy_from_slice(letters));
    bytes
}

/// With a key that the user insists on, nothing that the solve can do is right; but what is told of a clock has to be what
/// is done with it.
#[test]
fn a_name_that_three_machines_share_invents_no_correction_of_nothing() {
    let text = "
        spans = 5000
        duration_s = 300
        [fleet]
        clocks = 8
        services = 4
        [links]
        one_way_ms = [0.1, 1.0]
        [clocks]
        perfect = true
        [[clocks.given]]
        host = \"svc03-2\"
        offset_ms = 100.0
        [[clocks.given]]
        host = \"svc03-3\"
        offset_ms = -50.0
    ";
    let mut bytes = fleet(text).protobuf.unwrap();
    let places: Vec<usize> = memchr::memmem::find_iter(&bytes, b"svc03-").collect();
    places.iter().for_each(|&place| bytes[place + 6] = b'1');
    let folder = tempfile::tempdir().unwrap();
    let input = folder.path().join("traces.binpb");
    fs::write(&input, bytes).unwrap();
    let mut settings = settings(&[input], &folder.path().join("out"), &[Write::Parquet]);
    settings.clock_keys = vec!["host.name".to_owned()];
    let outcome = unskew::run::fix(&settings, &mut std::io::empty(), |_| {}).unwrap();
    assert!(outcome.report.summary.findings.contains_key("negative_cycle"));
    for row in outcome.report.clocks.iter().filter(|row| row.state == "corrected") {
        assert!(row.moved > 0 && row.uncertainty_ns > Some(0), "{row:?}");
    }
}
