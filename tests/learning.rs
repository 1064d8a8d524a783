//! The stage corrects by what it learnt itself: traces of a laboratory, sent in the order of time, four times as fast.
//!
//! `UNSKEW_DATA=FOLDER cargo test --release --test learning -- --nocapture`; what is missing there is a failure.

mod common;
#[path = "stage/harness/mod.rs"]
mod harness;

use std::collections::{BTreeMap, HashMap};
use std::io::Read;
use std::path::Path;
use std::time::{Duration, Instant, SystemTime};

use flate2::read::GzDecoder;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::trace::v1::{ResourceSpans, ScopeSpans, Span};
use prost::Message;

use common::{batches, data, ints, texts};
use harness::client::Grpc;
use harness::config::quoted;
use harness::wire::{Packing, frame};
use harness::{Config, Hop, Sink, Stage, TRACES, Verdict, Via, spans};

const WINDOW: Duration = Duration::from_secs(5);

/// What is true of a span.
struct Truth {
    host: String,
    start: i64,
    end: i64,
    /// Its clock is right, and so is what it recorded.
    is_right: bool,
}

/// What is sent, and what is true of it.
struct Traffic {
    truth: HashMap<Vec<u8>, Truth>,
    records: Vec<ExportTraceServiceRequest>,
    /// So many times as fast as it was recorded.
    speed: i64,
    /// So much of the recorded time goes into one request, ns.
    slice_ns: i64,
}

fn id(hex: &str) -> Vec<u8> {
    (0..hex.len() / 2).map(|at| u8::from_str_radix(&hex[2 * at..2 * at + 2], 16).unwrap()).collect()
}

impl Traffic {
    /// The laboratory's, four times as fast.
    fn of_laboratory(scenario: &str) -> Self {
        let mut truth = HashMap::new();
        for batch in batches(&data(&format!("lab/{scenario}/truth_spans.parquet"))) {
            let (ids, hosts) = (texts(&batch, "span_id"), texts(&batch, "host"));
            let (starts, ends) = (ints(&batch, "true_start_ns"), ints(&batch, "true_end_ns"));
            for (row, hex) in ids.iter().enumerate() {
                let (host, start, end) = (hosts[row].clone(), starts[row], ends[row]);
                truth.insert(id(hex), Truth { host, start, end, is_right: false });
            }
        }
        let file = std::fs::File::open(data(&format!("lab/{scenario}/traces.binpb.gz"))).unwrap();
        let mut bytes = Vec::new();
        GzDecoder::new(file).read_to_end(&mut bytes).unwrap();
        let records = common::records(&bytes);
        let records = records.iter().map(|it| ExportTraceServiceRequest::decode(&it[..]).unwrap()).collect();
        Self { truth, records, speed: 4, slice_ns: 200_000_000 }
    }

    /// What somebody reported, twenty times as fast.
    fn of_case(case: &str) -> Self {
        let lines = |file: &str| {
            let file = std::fs::File::open(data(&format!("cases/{case}/{file}"))).unwrap();
            common::lines(&zstd::decode_all(file).unwrap())
        };
        let rows: Vec<serde_json::Value> =
            lines("truth.jsonl.zst").iter().map(|line| serde_json::from_slice(line).unwrap()).collect();
        let text = |row: &serde_json::Value, name: &str| row[name].as_str().unwrap().to_owned();
        let number = |row: &serde_json::Value, name: &str| row[name].as_i64().unwrap();
        let mut furthest: HashMap<String, i64> = HashMap::new();
        for row in &rows {
            let of_host = furthest.entry(text(row, "host")).or_default();
            *of_host = number(row, "offset_ns").abs().max(*of_host);
        }
        let truth = rows.iter().map(|row| {
            let host = text(row, "host");
            let is_right = furthest[&host] < 1_000_000 && row["bad"] == false;
            let (start, end) = (number(row, "true_start_ns"), number(row, "true_end_ns"));
            (id(&text(row, "span_id")), Truth { host, start, end, is_right })
        });
        let truth = truth.collect();
        let decode = |line: &Vec<u8>| {
            let data = unskew::otlp::json::decode(line).unwrap();
            ExportTraceServiceRequest::decode(&data.encode_to_vec()[..]).unwrap()
        };
        let records = lines("traces.jsonl.zst").iter().map(decode).collect();
        Self { truth, records, speed: 20, slice_ns: 1_000_000_000 }
    }

    /// Requests in the order in which their spans ended, each with when that was, ns.
    fn requests(&self) -> Vec<(i64, ExportTraceServiceRequest)> {
        let mut slices: BTreeMap<i64, Vec<ResourceSpans>> = BTreeMap::new();
        for of_resource in self.records.iter().flat_map(|record| record.resource_spans.clone()) {
            let mut parts: BTreeMap<i64, ResourceSpans> = BTreeMap::new();
            for of_scope in of_resource.scope_spans {
                let mut by_slice: BTreeMap<i64, Vec<Span>> = BTreeMap::new();
                for span in of_scope.spans {
                    by_slice.entry(self.truth[&span.span_id].end.div_euclid(self.slice_ns)).or_default().push(span);
                }
                for (slice, spans) in by_slice {
                    let part = parts.entry(slice).or_insert_with(|| ResourceSpans {
                        resource: of_resource.resource.clone(),
                        scope_spans: Vec::new(),
                        schema_url: of_resource.schema_url.clone(),
                    });
                    let (scope, schema_url) = (of_scope.scope.clone(), of_scope.schema_url.clone());
                    part.scope_spans.push(ScopeSpans { scope, spans, schema_url });
                }
            }
            parts.into_iter().for_each(|(slice, part)| slices.entry(slice).or_default().push(part));
        }
        let request = |(slice, resource_spans)| (slice * self.slice_ns, ExportTraceServiceRequest { resource_spans });
        slices.into_iter().map(request).collect()
    }
}

/// What came of a replay.
struct Replay {
    left: Vec<Left>,
    /// Spans that were sent, and spans of the tables of all windows.
    sent: usize,
    in_tables: Vec<String>,
    out: tempfile::TempDir,
    resets: f64,
}

/// A span that left.
struct Left {
    /// Counted from the first.
    window: u64,
    host: String,
    /// How far its start is from the truth, ns.
    error: i64,
    is_right: bool,
    /// By how much it was moved, ns.
    moved: i64,
    /// The half-width of the interval that it is marked with, ns; `None` where it was not moved.
    within: Option<i64>,
}

fn window_of(at: SystemTime) -> u64 {
    at.duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs() / WINDOW.as_secs()
}

async fn replay(traffic: &Traffic, keys: &str) -> Replay {
    let requests = traffic.requests();
    let recorded = traffic.records.iter().flat_map(spans::of);
    let recorded: HashMap<Vec<u8>, i64> =
        recorded.map(|span| (span.span_id, span.start_time_unix_nano as i64)).collect();
    let out = tempfile::tempdir().unwrap();
    let sink = Sink::start().await;
    let keys =
        format!("out: {}, window: {}s, grace: 1s, drain_timeout: 60s{keys}", quoted(out.path()), WINDOW.as_secs());
    let mut stage = Stage::start(Config::to(&sink, Hop::Grpc).unskew(&keys).unskew("mode: correct")).await;
    let mut sender = Grpc::to(stage.grpc).await.unwrap();
    // Windows begin at whole multiples of their length: each run has the same.
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_nanos();
    tokio::time::sleep(Duration::from_nanos((WINDOW.as_nanos() - since % WINDOW.as_nanos()) as u64)).await;
    let (began, first) = (Instant::now(), requests[0].0);
    let first_window = window_of(SystemTime::now());
    let (mut left, mut sent) = (Vec::new(), 0);
    for (at, request) in &requests {
        let due = Duration::from_nanos(((at - first) / traffic.speed) as u64);
        tokio::time::sleep(due.saturating_sub(began.elapsed())).await;
        let window = window_of(SystemTime::now()) - first_window;
        sent += spans::of(request).len();
        let reply = sender.call(TRACES, &[], frame(&request.encode_to_vec(), Packing::Plain)).await.unwrap();
        assert_eq!(reply.verdict(Via::Grpc), Verdict::Accepted, "{reply:?}");
        for span in sink.take().iter().flat_map(|received| received.spans()) {
            let Truth { host, start, is_right, .. } = &traffic.truth[&span.span_id];
            let marked = span.attributes.iter().find(|attribute| attribute.key == "unskew.uncertainty_ns");
            let within = marked.and_then(|mark| match mark.value.as_ref()?.value.as_ref()? {
                Value::IntValue(nanos) => Some(*nanos),
                _ => None,
            });
            let error = span.start_time_unix_nano as i64 - start;
            let moved = span.start_time_unix_nano as i64 - recorded[&span.span_id];
            left.push(Left { window, host: host.clone(), error, is_right: *is_right, moved, within });
        }
    }
    let resets = stage.metric("unskew_model_resets_total", "").await;
    stage.signal("TERM");
    assert_eq!(stage.ended(Duration::from_secs(90)).await.code(), Some(0), "{}", stage.log());
    let in_tables = ids_in(out.path());
    Replay { left, sent, in_tables, out, resets }
}

fn ids_in(out: &Path) -> Vec<String> {
    let mut ids = Vec::new();
    for window in std::fs::read_dir(out.join("windows")).unwrap() {
        for table in std::fs::read_dir(window.unwrap().path().join("traces")).unwrap() {
            batches(&table.unwrap().path()).iter().for_each(|batch| ids.extend(texts(batch, "span_id")));
        }
    }
    ids
}

impl Replay {
    /// Nothing is lost on either way, and nothing is there twice.
    fn check_whole(&self) {
        assert_eq!(self.left.len(), self.sent, "spans in, spans out");
        assert_eq!(self.in_tables.len(), self.sent, "spans in, spans in tables");
        let distinct: std::collections::HashSet<&String> = self.in_tables.iter().collect();
        assert_eq!(distinct.len(), self.sent, "a span in two tables");
    }

    /// By window, how far half and 95 of 100 spans are off at most, ms.
    fn by_window(&self) -> BTreeMap<u64, (usize, f64, f64)> {
        let mut windows: BTreeMap<u64, Vec<i64>> = BTreeMap::new();
        for Left { window, error, .. } in &self.left {
            windows.entry(*window).or_default().push(error.abs());
        }
        let quantiles = |mut errors: Vec<i64>| {
            errors.sort_unstable();
            let at = |share: f64| errors[((errors.len() - 1) as f64 * share) as usize] as f64 / 1e6;
            (errors.len(), at(0.5), at(0.95))
        };
        windows.into_iter().map(|(window, errors)| (window, quantiles(errors))).collect()
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn constant_offsets_are_learnt_in_two_windows() {
    let replay = replay(&Traffic::of_laboratory("s1"), ", reference: lg-1").await;
    let windows = replay.by_window();
    for (window, (spans, p50, p95)) in &windows {
        println!("s1: window {window}: {spans} spans, |error| p50 {p50:.3} ms, p95 {p95:.3} ms");
    }
    let mut late: Vec<i64> = replay.left.iter().filter(|left| left.window >= 2).map(|left| left.error.abs()).collect();
    late.sort_unstable();
    let p95 = late[late.len() * 95 / 100] as f64 / 1e6;
    println!("s1: from the third window on p95 {p95:.3} ms; {} resets", replay.resets);
    assert!(p95 <= 3.0, "{p95}");
    replay.check_whole();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_perfect_clocks_none_is_moved() {
    let replay = replay(&Traffic::of_laboratory("s4"), "").await;
    replay.check_whole();
    let moved: Vec<_> = std::fs::read_dir(replay.out.path().join("windows")).unwrap().collect();
    assert!(moved.len() > 3);
    assert_eq!(replay.resets, 0.0, "a correction of a perfect clock");
}

/// A step is followed by the window after the one that it is in: spans sent meanwhile went by what was known before. Where no step
/// is near, the interval that a span is marked with holds the truth.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn steps_are_in_the_tables_of_their_windows() {
    let replay = replay(&Traffic::of_laboratory("s3"), ", reference: lg-1").await;
    replay.check_whole();
    for (window, (spans, p50, p95)) in &replay.by_window() {
        println!("s3: window {window}: {spans} spans, |error| p50 {p50:.3} ms, p95 {p95:.3} ms");
    }
    let mut steps: Vec<(String, i64, i64)> = Vec::new();
    for window in std::fs::read_dir(replay.out.path().join("windows")).unwrap() {
        for batch in batches(&window.unwrap().path().join("skew/steps.parquet")) {
            let (clocks, kinds) = (texts(&batch, "clock"), texts(&batch, "kind"));
            let (times, sizes) = (ints(&batch, "time_unix_nano"), ints(&batch, "size_ns"));
            let rows = clocks.into_iter().zip(kinds).zip(times).zip(sizes);
            let steps_of = rows.filter(|(((_, kind), _), _)| kind == "step");
            steps.extend(steps_of.map(|(((clock, _), at), size)| (clock, at, size)));
        }
    }
    steps.sort();
    println!("s3: {steps:?}");
    for (clock, size_ms) in [("pay-1", -87.0), ("cat-2", 1_200.0), ("web-2", 40.0)] {
        let is_it = |step: &&(String, i64, i64)| step.0 == clock && (step.2 as f64 / 1e6 - size_ms).abs() < 3.0;
        let times: Vec<i64> = steps.iter().filter(is_it).map(|step| step.1).collect();
        // In the context of two windows both tell it, and of the same moment.
        assert!(!times.is_empty() && times.len() <= 2 && times[times.len() - 1] - times[0] < 2_000_000_000, "{clock}");
    }
    // On a clock's wrong side of a step a span is off by most of it.
    let others = || replay.left.iter().filter(|left| left.window >= 2 && left.error.abs() < 25_000_000);
    let moved = others().filter_map(|left| Some((left.error.abs(), left.within?)));
    let (held, all) = moved.fold((0, 0), |(held, all), (error, within)| (held + usize::from(error <= within), all + 1));
    let wrong = replay.left.iter().filter(|left| left.window >= 2).count() - others().count();
    println!("s3: the interval holds the truth of {held} of {all} moved spans; {wrong} were on a step's wrong side");
    assert!(all > 5_000 && held * 100 >= all * 90, "{held} of {all}");
    let late = replay.left.iter().filter(|left| left.window >= 2 && left.host == "lg-1");
    assert!(late.map(|left| left.error.abs()).max() < Some(5_000_000), "the reference is not moved");
}

/// By how much `fix` of the whole moves a right clock's span at the most, ns.
fn moved_by_fix(case: &str, reference: Option<&str>, truth: &HashMap<Vec<u8>, Truth>) -> i64 {
    let out = tempfile::tempdir().unwrap();
    let input = data(&format!("cases/{case}/traces.jsonl.zst"));
    let mut settings = common::settings(&[input], &out.path().join("fixed"), &[unskew::settings::Write::Parquet]);
    settings.reference = reference.map(str::to_owned);
    common::fix(&settings);
    let mut most = 0;
    for batch in batches(&common::traces(&out.path().join("fixed"))) {
        for (hex, offset) in texts(&batch, "span_id").iter().zip(ints(&batch, "offset_ns")) {
            most = if truth[&id(hex)].is_right { offset.abs().max(most) } else { most };
        }
    }
    most
}

/// What people reported: window by window right clocks are moved by no more than `fix` of the whole moves them, and a millisecond.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn right_clocks_stay_right() {
    let bad =
        ["early_100s", "late_50ms", "usual_clocks", "usual_clocks_none_bad"].map(|it| format!("one_bad_reading/{it}"));
    let ticks = ["both_tick", "start_ticks"].map(|it| format!("ten_ms_tick/{it}"));
    let others = ["two_time_sources", "devices"].map(str::to_owned);
    let mut replays = tokio::task::JoinSet::new();
    for case in bad.into_iter().chain(ticks).chain(others) {
        replays.spawn(async move {
            let traffic = Traffic::of_case(&case);
            let reference = case.contains("usual_clocks").then_some("node-0");
            let keys = reference.map_or_else(String::new, |name| format!(", reference: {name}"));
            let replay = replay(&traffic, &keys).await;
            replay.check_whole();
            let right = replay.left.iter().filter(|left| left.is_right);
            let moved = right.map(|left| (left.moved.abs(), left.window, &left.host));
            let most = moved.max().unwrap();
            let by_fix = moved_by_fix(&case, reference, &traffic.truth);
            println!(
                "{case}: right clocks moved by at most {:.3} ms (window {}, {}), by `fix` of the whole {:.3} ms",
                most.0 as f64 / 1e6,
                most.1,
                most.2,
                by_fix as f64 / 1e6
            );
            (case, most.0 <= by_fix + 1_000_000)
        });
    }
    let all = replays.join_all().await;
    assert!(all.iter().all(|(_, holds)| *holds), "{all:?}");
}
