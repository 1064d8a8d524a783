//! A dump of the laboratory and what `fix` made of it, to hold beside what came out of the stage.
#![allow(dead_code, reason = "each test program uses a part")]

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, LazyLock, Mutex};

use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::KeyValue;
use prost::Message;
use serde_json::Value;

use crate::common::{batches, data, ints, lines, records, texts};

const SECOND_NS: i64 = 1_000_000_000;

/// Trace, span, kind.
type Key = (String, String, String);

/// A dump, what `fix` made of it, and the models that it wrote.
pub struct Fixed {
    out: PathBuf,
    pub recorded: Vec<Vec<u8>>,
    pub corrected: Vec<Vec<u8>>,
    /// Spans for which `fix` knew more than a model tells.
    excepted: BTreeSet<Key>,
    _folder: tempfile::TempDir,
}

type Made = HashMap<(&'static str, bool), Arc<Fixed>>;

impl Fixed {
    /// Of a scenario, once a test program.
    pub fn of(scenario: &'static str, json: bool) -> Arc<Self> {
        static MADE: LazyLock<Mutex<Made>> = LazyLock::new(Mutex::default);
        let mut made = MADE.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        made.entry((scenario, json)).or_insert_with(|| Arc::new(Self::make(scenario, json))).clone()
    }

    fn make(scenario: &str, json: bool) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let out = folder.path().join("out");
        let name = if json { "traces.jsonl.zst" } else { "traces.binpb.gz" };
        let dump = data(&format!("lab/{scenario}/{name}"));
        let run = Command::new(env!("CARGO_BIN_EXE_unskew"))
            .args(["fix", "--write", "same", "--write", "parquet", "--reference", "lg-1", "--out"])
            .args([&out, &dump])
            .output()
            .unwrap();
        assert!(run.status.success(), "{}", String::from_utf8_lossy(&run.stderr));
        let read = |path: &Path| {
            let packed = std::fs::read(path).unwrap();
            let mut plain = Vec::new();
            match json {
                true => zstd::Decoder::new(&packed[..]).unwrap().read_to_end(&mut plain).unwrap(),
                false => flate2::read::MultiGzDecoder::new(&packed[..]).read_to_end(&mut plain).unwrap(),
            };
            if json { lines(&plain) } else { records(&plain) }
        };
        let (recorded, corrected) = (read(&dump), read(&out.join("corrected").join(name)));
        assert_eq!(recorded.len(), corrected.len());
        let excepted = excepted(&out);
        Self { out, recorded, corrected, excepted, _folder: folder }
    }

    /// What `models:` is given.
    pub fn models(&self) -> &Path {
        assert!(self.out.join("skew/models.binpb").exists(), "`fix` writes no models");
        &self.out
    }

    /// Asserts that each record came out as that of `fix`: times and marks span by span, and all else as recorded.
    /// Returns how many spans there were, and how many of them were excepted.
    pub fn check<'a>(&self, bodies: impl ExactSizeIterator<Item = &'a [u8]>, json: bool) -> (usize, usize) {
        let views = if json { json_views } else { protobuf_views };
        let (mut all, mut excepted) = (0, 0);
        assert_eq!(bodies.len(), self.corrected.len(), "records");
        for (nth, ((recorded, corrected), body)) in self.recorded.iter().zip(&self.corrected).zip(bodies).enumerate() {
            let [recorded, corrected, received] = [recorded, &corrected[..], body].map(views);
            assert_eq!(received.len(), recorded.len(), "record {nth}: spans");
            for ((recorded, corrected), received) in recorded.iter().zip(&corrected).zip(&received) {
                all += 1;
                assert_eq!(received.rest, recorded.rest, "record {nth}: more than times and marks differs");
                if self.excepted.contains(&received.key) {
                    excepted += 1;
                } else {
                    assert_eq!(received.times, corrected.times, "record {nth}, {:?}: {received:?}", received.key);
                    assert_eq!(received.marks, corrected.marks, "record {nth}, {:?}", received.key);
                }
            }
        }
        (all, excepted)
    }
}

/// Spans that `fix` rebuilt, placed by their trace, or that are within a second of a step of their clock.
fn excepted(out: &Path) -> BTreeSet<Key> {
    let mut steps: BTreeMap<String, Vec<[i64; 2]>> = BTreeMap::new();
    for batch in batches(&out.join("skew/steps.parquet")) {
        let (clocks, from, lasts) =
            (texts(&batch, "clock"), ints(&batch, "time_unix_nano"), ints(&batch, "duration_ns"));
        for ((clock, from), lasts) in clocks.into_iter().zip(from).zip(lasts) {
            // A slew has no sides to choose.
            if lasts == 0 {
                steps.entry(clock).or_default().push([from - SECOND_NS, from + SECOND_NS]);
            }
        }
    }
    let mut excepted = BTreeSet::new();
    let files = std::fs::read_dir(out.join("traces")).unwrap().map(|entry| entry.unwrap().path());
    for batch in files.flat_map(|file| batches(&file)) {
        let column = |name: &str| texts_of(&batch, name);
        let (traces, spans, kinds) = (column("trace_id"), column("span_id"), column("kind"));
        let (clocks, corrections) = (column("clock"), column("correction"));
        let (starts, ends) = (ints(&batch, "start_unix_nano"), ints(&batch, "end_unix_nano"));
        for row in 0..batch.num_rows() {
            let by_hand = ["recovered", "trace_fallback"].contains(&&corrections[row][..]);
            let near = steps
                .get(&clocks[row])
                .is_some_and(|steps| steps.iter().any(|[from, to]| starts[row] <= *to && *from <= ends[row]));
            if by_hand || near {
                excepted.insert((traces[row].clone(), spans[row].clone(), kinds[row].clone()));
            }
        }
    }
    excepted
}

/// A column of text, dictionaries spelt out.
fn texts_of(batch: &arrow::array::RecordBatch, name: &str) -> Vec<String> {
    use arrow::array::{Array, AsArray};
    let column = batch.column_by_name(name).unwrap_or_else(|| panic!("no column {name}"));
    let column = arrow::compute::cast(column, &arrow::datatypes::DataType::Utf8).unwrap();
    let column = column.as_string::<i32>();
    (0..column.len()).map(|row| column.value(row).to_owned()).collect()
}

/// A span by what may change and what may not.
#[derive(Debug, PartialEq)]
pub struct View {
    pub key: Key,
    /// Start, end, events.
    pub times: Vec<u64>,
    pub marks: Vec<String>,
    /// All else, the resource and the scope with it.
    pub rest: String,
}

const KINDS: [&str; 6] = ["UNSPECIFIED", "INTERNAL", "SERVER", "CLIENT", "PRODUCER", "CONSUMER"];

pub fn protobuf_views(body: &[u8]) -> Vec<View> {
    let hex = |bytes: &[u8]| bytes.iter().fold(String::new(), |hex, byte| hex + &format!("{byte:02x}"));
    let is_mark = |attribute: &KeyValue| attribute.key.starts_with("unskew.");
    let request = ExportTraceServiceRequest::decode(body).unwrap();
    let mut views = Vec::new();
    for resource in &request.resource_spans {
        for scope in &resource.scope_spans {
            let around =
                format!("{:?} {} {:?} {}", resource.resource, resource.schema_url, scope.scope, scope.schema_url);
            for span in &scope.spans {
                let mut rest = span.clone();
                let mut times = vec![span.start_time_unix_nano, span.end_time_unix_nano];
                (rest.start_time_unix_nano, rest.end_time_unix_nano) = (0, 0);
                let mut marks: Vec<_> = rest.attributes.extract_if(.., |it| is_mark(it)).collect();
                for event in &mut rest.events {
                    times.push(std::mem::take(&mut event.time_unix_nano));
                    marks.extend(event.attributes.extract_if(.., |it| is_mark(it)));
                }
                views.push(View {
                    key: (hex(&span.trace_id), hex(&span.span_id), KINDS[span.kind as usize].to_owned()),
                    times,
                    marks: marks.iter().map(|mark| format!("{} = {:?}", mark.key, mark.value)).collect(),
                    rest: format!("{around} {rest:?}"),
                });
            }
        }
    }
    views
}

pub fn json_views(body: &[u8]) -> Vec<View> {
    let request: Value = serde_json::from_slice(body).unwrap();
    let list = |of: &Value, name: &str| of[name].as_array().cloned().unwrap_or_default();
    let time = |of: &mut Value, name: &str| match of.get_mut(name).map(Value::take) {
        Some(Value::String(text)) => text.parse().unwrap(),
        Some(number) => number.as_u64().unwrap(),
        None => 0,
    };
    let take_marks = |of: &mut Value| -> Vec<String> {
        let Some(attributes) = of.get_mut("attributes").and_then(Value::as_array_mut) else { return Vec::new() };
        let is_mark = |it: &mut Value| it["key"].as_str().unwrap().starts_with("unskew.");
        let marks: Vec<Value> = attributes.extract_if(.., is_mark).collect();
        // A list that only marks made is none.
        if attributes.is_empty() {
            of.as_object_mut().unwrap().remove("attributes");
        }
        marks.iter().map(Value::to_string).collect()
    };
    let mut views = Vec::new();
    for resource in list(&request, "resourceSpans") {
        for scope in list(&resource, "scopeSpans") {
            let around = format!("{} {} {}", resource["resource"], resource["schemaUrl"], scope["scope"]);
            for mut span in list(&scope, "spans") {
                let text = |name: &str| span[name].as_str().unwrap_or("").to_ascii_lowercase();
                let kind = KINDS[span["kind"].as_u64().unwrap_or(0) as usize].to_owned();
                let key = (text("traceId"), text("spanId"), kind);
                let mut times = vec![time(&mut span, "startTimeUnixNano"), time(&mut span, "endTimeUnixNano")];
                let mut marks = take_marks(&mut span);
                for event in span.get_mut("events").and_then(Value::as_array_mut).into_iter().flatten() {
                    times.push(time(event, "timeUnixNano"));
                    marks.extend(take_marks(event));
                }
                views.push(View { key, times, marks, rest: format!("{around} {span}") });
            }
        }
    }
    views
}
