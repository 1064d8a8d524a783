//! The stage corrects by a model of `fix` as `fix` did: the laboratory's traces, record by record.

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
use crate::harness::client::Via;
use crate::harness::sink::Received;
use crate::harness::{Config, Hop, Sink, Stage, Verdict, spans};

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
    pub fn check(&self, received: &[Received], json: bool) -> (usize, usize) {
        let (mut all, mut excepted) = (0, 0);
        assert_eq!(received.len(), self.corrected.len());
        for (nth, ((recorded, corrected), received)) in
            self.recorded.iter().zip(&self.corrected).zip(received).enumerate()
        {
            assert_eq!(received.is_json(), json);
            let views = |body: &[u8]| if json { json_views(body) } else { protobuf_views(body) };
            let [recorded, corrected, received] =
                [recorded, corrected, &received.body.to_vec()].map(|body| views(body));
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
struct View {
    key: Key,
    /// Start, end, events.
    times: Vec<u64>,
    marks: Vec<String>,
    /// All else, the resource and the scope with it.
    rest: String,
}

const KINDS: [&str; 6] = ["UNSPECIFIED", "INTERNAL", "SERVER", "CLIENT", "PRODUCER", "CONSUMER"];

fn protobuf_views(body: &[u8]) -> Vec<View> {
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

fn json_views(body: &[u8]) -> Vec<View> {
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

/// Sends every record, one after the other, and returns what the next hop got.
async fn through(stage: &Stage, sink: &Sink, via: Via, records: &[Vec<u8>]) -> Vec<Received> {
    for (nth, record) in records.iter().enumerate() {
        let reply = stage.send_bytes(via, record).await;
        assert_eq!(reply.verdict(via), Verdict::Accepted, "record {nth}: {reply:?}");
    }
    sink.take()
}

/// All ways through a stage whose encoding stays.
const WAYS: [(Via, Hop); 5] = [
    (Via::Grpc, Hop::Grpc),
    (Via::Grpc, Hop::Http),
    (Via::Protobuf, Hop::Grpc),
    (Via::Protobuf, Hop::Http),
    (Via::Json, Hop::Http),
];

/// At most so many of a thousand spans may be excepted.
async fn corrects_like_fix(scenario: &'static str, spans: usize, most_per_mille: usize) {
    for (via, hop) in WAYS {
        let json = via == Via::Json;
        let fixed = Fixed::of(scenario, json);
        let sink = Sink::start().await;
        let stage = Stage::start(Config::to(&sink, hop).correcting_by(fixed.models())).await;
        let received = through(&stage, &sink, via, &fixed.recorded).await;
        let (all, excepted) = fixed.check(&received, json);
        println!("{scenario}, {via:?} to {hop:?}: {all} spans, of which {excepted} are excepted");
        assert_eq!(all, spans, "{scenario}, {via:?} to {hop:?}");
        assert!(excepted * 1_000 <= most_per_mille * all, "{scenario}, {via:?} to {hop:?}: {excepted} excepted");
        assert!(stage.metric("unskew_spans_total", "outcome=\"moved\"").await > 0.0);
        assert_eq!(stage.metric("unskew_spans_total", "").await, all as f64, "each span has one outcome");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn constant_offsets_are_corrected_as_fix_does() {
    corrects_like_fix("s1", 51_604, 0).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn clocks_that_step_are_corrected_as_fix_does() {
    let spans = Fixed::of("s3", false).corrected.iter().map(|record| protobuf_views(record).len()).sum();
    corrects_like_fix("s3", spans, 9).await;
}

/// JSON on its way to a next hop that speaks gRPC: the same times as in protobuf.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn json_to_grpc_has_the_same_times() {
    let fixed = Fixed::of("s1", true);
    let sink = Sink::start().await;
    let stage = Stage::start(Config::to(&sink, Hop::Grpc).correcting_by(fixed.models())).await;
    let received = through(&stage, &sink, Via::Json, &fixed.recorded).await;
    let mut spans = 0;
    for (nth, (corrected, received)) in fixed.corrected.iter().zip(&received).enumerate() {
        let (corrected, received) = (json_views(corrected), protobuf_views(&received.body));
        assert_eq!(corrected.len(), received.len(), "record {nth}");
        for (corrected, received) in corrected.iter().zip(&received) {
            assert_eq!((&received.key, &received.times), (&corrected.key, &corrected.times), "record {nth}");
            spans += 1;
        }
    }
    assert_eq!(spans, 51_604);
}

/// `fix` and the stage write the same bytes, marks and all, wherever no span is excepted.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn records_are_those_of_fix_byte_for_byte() {
    for (via, hop) in [(Via::Grpc, Hop::Grpc), (Via::Json, Hop::Http)] {
        let fixed = Fixed::of("s1", via == Via::Json);
        let sink = Sink::start().await;
        let stage = Stage::start(Config::to(&sink, hop).correcting_by(fixed.models())).await;
        let received = through(&stage, &sink, via, &fixed.recorded).await;
        for (nth, (corrected, received)) in fixed.corrected.iter().zip(&received).enumerate() {
            assert!(received.body.trim_ascii_end() == corrected.trim_ascii_end(), "{via:?}: record {nth} differs");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn observing_changes_nothing_and_annotating_no_time() {
    let fixed = Fixed::of("s1", false);
    let some = &fixed.recorded[..fixed.recorded.len().min(40)];
    let sink = Sink::start().await;
    let models = format!("models: \"{}\"", fixed.models().display());
    let config = Config::to(&sink, Hop::Grpc).unskew(&models);
    let stage = Stage::start(config.clone()).await;
    let received = through(&stage, &sink, Via::Grpc, some).await;
    assert!(received.iter().zip(some).all(|(received, record)| received.body == record));
    assert!(stage.log().contains("mode"), "nothing says how to begin correcting: {}", stage.log());

    let config = Config::to(&sink, Hop::Grpc).unskew(&models).unskew("mode: annotate");
    let stage = Stage::start(config).await;
    let received = through(&stage, &sink, Via::Grpc, some).await;
    let mut annotated = 0;
    for ((recorded, corrected), received) in some.iter().zip(&fixed.corrected).zip(&received) {
        let [recorded, corrected, received] = [&recorded[..], &corrected[..], &received.body[..]].map(protobuf_views);
        for ((recorded, corrected), received) in recorded.iter().zip(&corrected).zip(&received) {
            assert_eq!((&received.times, &received.rest), (&recorded.times, &recorded.rest));
            let names: BTreeSet<_> = received.marks.iter().map(|mark| mark.split(' ').next().unwrap()).collect();
            let moved = !corrected.marks.is_empty();
            annotated += usize::from(moved);
            let expected: &[&str] =
                if moved { &["unskew.clock", "unskew.estimated_offset_ns", "unskew.uncertainty_ns"] } else { &[] };
            assert_eq!(names, expected.iter().copied().collect(), "{:?}", received.key);
        }
    }
    assert!(annotated > 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn clocks_may_be_left_alone_and_too_large_corrections_are_not_made() {
    let fixed = Fixed::of("s1", false);
    let some = &fixed.recorded[..fixed.recorded.len().min(40)];
    // pay-1 is 2.15 s ahead and api-1 1.02 s behind.
    for (keys, left, outcome) in
        [("leave_alone: [pay-1]", "pay-1", "left_alone"), ("max_correction: 1500ms", "pay-1", "capped")]
    {
        let sink = Sink::start().await;
        let stage = Stage::start(Config::to(&sink, Hop::Grpc).correcting_by(fixed.models()).unskew(keys)).await;
        let received = through(&stage, &sink, Via::Grpc, some).await;
        let mut counts = [0; 2];
        for ((recorded, corrected), received) in some.iter().zip(&fixed.corrected).zip(&received) {
            let [recorded, corrected, received] =
                [&recorded[..], &corrected[..], &received.body[..]].map(protobuf_views);
            for ((recorded, corrected), received) in recorded.iter().zip(&corrected).zip(&received) {
                let of_it = corrected.marks.iter().any(|mark| mark.contains("unskew.clock") && mark.contains(left));
                counts[usize::from(of_it)] += 1;
                assert_eq!(received, if of_it { recorded } else { corrected }, "{keys}");
            }
        }
        assert!(counts.iter().all(|count| *count > 0), "{keys}: {counts:?}");
        let counted = stage.metric("unskew_spans_total", &format!("outcome=\"{outcome}\"")).await;
        assert_eq!(counted, f64::from(counts[1]), "{keys}");
    }
}

/// Two stages in a row correct once.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_marked_passes_as_it_is() {
    for (via, hop) in [(Via::Grpc, Hop::Grpc), (Via::Json, Hop::Http)] {
        let fixed = Fixed::of("s1", via == Via::Json);
        let some = &fixed.corrected[..fixed.corrected.len().min(40)];
        let sink = Sink::start().await;
        let stage = Stage::start(Config::to(&sink, hop).correcting_by(fixed.models())).await;
        let received = through(&stage, &sink, via, some).await;
        assert!(received.iter().zip(some).all(|(received, record)| received.body == record), "{via:?}");
        assert!(stage.metric("unskew_spans_total", "outcome=\"marked\"").await > 0.0);
        assert_eq!(stage.metric("unskew_spans_total", "outcome=\"moved\"").await, 0.0);
    }
}

/// The mode is another from one request to the next.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn correcting_begins_and_ends_with_a_reload() {
    let fixed = Fixed::of("s1", false);
    let sink = Sink::start().await;
    let models = format!("models: \"{}\"", fixed.models().display());
    let observe = Config::to(&sink, Hop::Grpc).unskew(&models);
    let stage = Stage::start(observe.clone()).await;
    let nth = (0..fixed.recorded.len()).find(|&nth| fixed.recorded[nth] != fixed.corrected[nth]).unwrap();
    for (config, expected) in
        [(observe.clone().unskew("mode: correct"), &fixed.corrected[nth]), (observe, &fixed.recorded[nth])]
    {
        stage.reload(&config);
        let began = std::time::Instant::now();
        loop {
            stage.send_bytes(Via::Grpc, &fixed.recorded[nth]).await;
            if sink.only().body == expected[..] {
                break;
            }
            assert!(began.elapsed().as_secs() < 5, "the mode does not change");
        }
    }
}

/// A resource that no model is of, beside others.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_host_that_nobody_knows_passes_unmoved() {
    let fixed = Fixed::of("s1", false);
    let sink = Sink::start().await;
    let stage = Stage::start(Config::to(&sink, Hop::Grpc).correcting_by(fixed.models())).await;
    let body = spans::request(6).encode_to_vec();
    assert_eq!(stage.send_bytes(Via::Grpc, &body).await.verdict(Via::Grpc), Verdict::Accepted);
    assert!(sink.only().body == body);
    assert_eq!(stage.metric("unskew_spans_total", "outcome=\"no_model\"").await, 6.0);
}
