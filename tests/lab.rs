//! Real traces with known clocks: a laboratory's hosts, and the same spans as a real Collector wrote them.
//!
//! `UNSKEW_DATA=FOLDER cargo test --release --test lab`; a folder or file that is missing is a failure.

mod common;

use std::collections::BTreeMap;
use std::io::Read;
use std::path::{Path, PathBuf};

use arrow::array::{Array, AsArray};
use arrow::datatypes::Int64Type;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use unskew::report::ClockRow;
use unskew::run::Outcome;
use unskew::score::{self, Gauge, Score};
use unskew::settings::{Annotate, Fix, Write};

use common::data;

/// A row of the steps table.
#[derive(Debug)]
struct Step {
    clock: String,
    kind: String,
    at: i64,
    size_ns: i64,
}

/// A run of `fix` into a folder of its own.
struct Fixed {
    folder: tempfile::TempDir,
    outcome: Outcome,
}

fn fix(inputs: &[PathBuf]) -> Fixed {
    let folder = tempfile::tempdir().unwrap();
    let plain = common::settings(inputs, &folder.path().join("out"), &[Write::Parquet]);
    let settings = Fix { reference: Some("lg-1".to_owned()), annotate: Annotate::None, exchanges: false, ..plain };
    let outcome = unskew::run::fix(&settings, &mut std::io::empty(), |_| {}).unwrap();
    assert!(!outcome.failed, "{:?}", outcome.report.summary.problems);
    // Each key is one clock there, by steps, slews and real SDKs' habits.
    assert_eq!(outcome.report.summary.findings.get("shared_key"), None);
    Fixed { folder, outcome }
}

impl Fixed {
    fn out(&self) -> PathBuf {
        self.folder.path().join("out")
    }

    fn score(&self, truth: &Path) -> Score {
        score::score(&self.out(), truth, Gauge::Median).unwrap()
    }

    fn clock(&self, name: &str) -> &ClockRow {
        self.outcome.report.clocks.iter().find(|row| row.clock == name).unwrap_or_else(|| panic!("no clock {name}"))
    }

    fn steps(&self) -> Vec<Step> {
        let file = std::fs::File::open(self.out().join("skew/steps.parquet")).unwrap();
        let mut steps = Vec::new();
        for batch in ParquetRecordBatchReaderBuilder::try_new(file).unwrap().build().unwrap() {
            let batch = batch.unwrap();
            let text =
                |name: &str, row: usize| batch.column_by_name(name).unwrap().as_string::<i32>().value(row).to_owned();
            let int =
                |name: &str, row: usize| batch.column_by_name(name).unwrap().as_primitive::<Int64Type>().value(row);
            steps.extend((0..batch.num_rows()).map(|row| Step {
                clock: text("clock", row),
                kind: text("kind", row),
                at: int("time_unix_nano", row),
                size_ns: int("size_ns", row),
            }));
        }
        steps
    }

    /// Of every span, by ids and kind: start, end, offset.
    fn times(&self) -> BTreeMap<(String, String, String), [i64; 3]> {
        let file = std::fs::File::open(self.out().join("traces/part-00000.parquet")).unwrap();
        let mut rows = BTreeMap::new();
        for batch in ParquetRecordBatchReaderBuilder::try_new(file).unwrap().build().unwrap() {
            let batch = batch.unwrap();
            let text = |name: &str| {
                let column = batch.column_by_name(name).unwrap();
                let column = arrow::compute::cast(column, &arrow::datatypes::DataType::Utf8).unwrap();
                column.as_string::<i32>().iter().map(|text| text.unwrap_or("").to_owned()).collect::<Vec<_>>()
            };
            let (traces, spans, kinds) = (text("trace_id"), text("span_id"), text("kind"));
            let times = ["start_unix_nano", "end_unix_nano", "offset_ns"]
                .map(|name| batch.column_by_name(name).unwrap().as_primitive::<Int64Type>().values().to_vec());
            for (row, key) in traces.into_iter().zip(spans).zip(kinds).enumerate() {
                let ((trace, span), kind) = key;
                let doubled = rows.insert((trace, span, kind), [times[0][row], times[1][row], times[2][row]]);
                assert!(doubled.is_none());
            }
            assert_eq!(batch.column_by_name("span_id").unwrap().null_count(), 0);
        }
        rows
    }
}

fn check(what: &str, measured: f64, most: f64) {
    assert!(measured <= most, "{what}: {measured:.3}, which is more than {most}");
}

fn truth(scenario: &str) -> PathBuf {
    data(&format!("lab/{scenario}/truth_spans.parquet"))
}

fn protobuf(scenario: &str) -> Fixed {
    fix(&[data(&format!("lab/{scenario}/traces.binpb.gz"))])
}

#[test]
fn constant_offsets_are_taken_out() {
    let score = protobuf("s1").score(&truth("s1"));
    check("median error, ms", score.corrected.error.p50_ns / 1e6, 0.8);
    check("p95, ms", score.corrected.error.p95_ns / 1e6, 1.5);
    assert_eq!(score.corrected.inversions.excess, 0);
}

#[test]
fn json_and_protobuf_are_corrected_alike() {
    let [protobuf, json] = [protobuf("s1"), fix(&[data("lab/s1/traces.jsonl.zst")])].map(|fixed| fixed.times());
    assert_eq!(protobuf.len(), 51_604);
    assert!(protobuf == json);
}

#[test]
fn drifting_clocks_are_followed() {
    let score = protobuf("s2").score(&truth("s2"));
    check("median error, ms", score.corrected.error.p50_ns / 1e6, 0.8);
    check("p95, ms", score.corrected.error.p95_ns / 1e6, 1.2);
    check("excess inversions", score.corrected.inversions.excess as f64, 5.0);
}

/// A clock's error, at half of its spans or more, is within the bound that it is told with.
#[test]
fn nine_of_ten_recorded_clocks_are_within_their_bound() {
    let (mut within, mut all, mut told) = (0, 0, Vec::new());
    for scenario in ["s1", "s2", "s3"] {
        let fixed = protobuf(scenario);
        for clock in fixed.score(&truth(scenario)).clocks.iter().filter(|clock| clock.clock != "lg-1") {
            let bound_ns = fixed.clock(&clock.clock).uncertainty_ns.unwrap() as f64;
            all += 1;
            within += usize::from(clock.error.p50_ns <= bound_ns);
            told.push(format!("{scenario} {}: {} ± {bound_ns}", clock.clock, clock.error.p50_ns));
        }
    }
    assert!(all == 27 && 10 * within >= 9 * all, "{within} of {all}: {told:?}");
}

/// When a host's clock was set, ns of true time since the traffic began, and by how much.
const SET: [(&str, f64, f64); 3] = [("web-2", 60e9, 40e6), ("pay-1", 96e9, -87e6), ("cat-2", 132e9, 1_200e6)];

#[test]
fn stepping_clocks_are_followed_and_their_steps_told() {
    let fixed = protobuf("s3");
    let score = fixed.score(&truth("s3"));
    check("median error, ms", score.corrected.error.p50_ns / 1e6, 0.8);
    check("p95, ms", score.corrected.error.p95_ns / 1e6, 1.2);
    check("p99, ms", score.corrected.error.p99_ns / 1e6, 1.8);
    check("excess inversions", score.corrected.inversions.excess as f64, 5.0);

    let mut began = String::new();
    let packed = std::fs::File::open(data("lab/s3/truth.json.gz")).unwrap();
    flate2::read::GzDecoder::new(packed).read_to_string(&mut began).unwrap();
    let began: serde_json::Value = serde_json::from_str(&began).unwrap();
    let began = began["traffic_ns"][0].as_i64().unwrap();
    let steps = fixed.steps();
    for (clock, at, size) in SET {
        let of_clock = |step: &&Step| step.clock == clock && step.kind == "step";
        let step = steps.iter().find(of_clock).unwrap_or_else(|| panic!("no step of {clock}"));
        check(&format!("{clock}'s step, s from when it was"), ((step.at - began) as f64 - at).abs() / 1e9, 0.5);
        check(&format!("{clock}'s step, ms from its size"), (step.size_ns as f64 - size).abs() / 1e6, 1.0);
    }
    let slew = steps.iter().find(|step| step.kind == "slew").expect("no slew");
    assert_eq!((slew.clock.as_str(), steps.len()), ("web-2", 4), "{steps:?}");
    check("the slew's start, s from when it was", ((slew.at - began) as f64 - 110e9).abs() / 1e9, 5.0);
    check("the slew's size, part from what it was", (slew.size_ns as f64 / -40e6 - 1.0).abs(), 0.02);
}

/// The traces of a scenario whose first request left within a stretch of time, counted from the first of all.
fn cut(scenario: &str, from_s: u64, until_s: u64, folder: &Path) -> PathBuf {
    use serde_json::Value;
    let packed = std::fs::read(data(&format!("lab/{scenario}/traces.jsonl.zst"))).unwrap();
    let text = String::from_utf8(zstd::decode_all(&packed[..]).unwrap()).unwrap();
    let mut messages: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    fn each<'a>(message: &'a mut Value, mut of: impl FnMut(&'a mut Value, bool)) {
        for resource in message["resourceSpans"].as_array_mut().unwrap() {
            let of_reference = resource["resource"].to_string().contains("\"lg-1\"");
            for scope in resource["scopeSpans"].as_array_mut().unwrap() {
                of(&mut scope["spans"], of_reference);
            }
        }
    }
    let mut begun: BTreeMap<String, u64> = BTreeMap::new();
    for message in &mut messages {
        each(message, |spans, of_reference| {
            for span in spans.as_array().unwrap().iter().filter(|_| of_reference) {
                let start = span["startTimeUnixNano"].as_str().unwrap().parse().unwrap();
                let first = begun.entry(span["traceId"].as_str().unwrap().to_owned()).or_insert(start);
                *first = start.min(*first);
            }
        });
    }
    let first = *begun.values().min().unwrap();
    let stretch = first + from_s * 1_000_000_000..first + until_s * 1_000_000_000;
    for message in &mut messages {
        each(message, |spans, _| {
            let kept =
                |span: &Value| begun.get(span["traceId"].as_str().unwrap()).is_some_and(|at| stretch.contains(at));
            spans.as_array_mut().unwrap().retain(kept);
        });
    }
    let lines: String = messages.iter().map(|message| format!("{message}\n")).collect();
    let path = folder.join(format!("{scenario}-{from_s}.jsonl"));
    std::fs::write(&path, lines).unwrap();
    path
}

/// Eight seconds of a recording, steps and slews in some of them: never worse than it was, and far better where clocks
/// are wrong.
#[test]
fn short_dumps_come_out_no_worse_than_they_went_in() {
    let folder = tempfile::tempdir().unwrap();
    for scenario in ["s1", "s2", "s3"] {
        let mut ratios = Vec::new();
        for from_s in (0..232).step_by(29) {
            let score = fix(&[cut(scenario, from_s, from_s + 8, folder.path())]).score(&truth(scenario));
            let (ours, nothing) = (score.corrected.error.p95_ns, score.doing_nothing.error.p95_ns);
            assert!(ours <= nothing, "{scenario} from {from_s} s: p95 {ours} ns, and {nothing} as recorded");
            ratios.push(nothing / ours);
        }
        ratios.sort_by(f64::total_cmp);
        check(&format!("{scenario}: times better, in the median"), -ratios[4], -20.0);
    }
}

/// `pay-1` stepped back by 87 ms while they lasted.
#[test]
fn ends_before_starts_at_a_step_are_put_back() {
    let fixed = protobuf("s3");
    let mut true_times = BTreeMap::new();
    let file = std::fs::File::open(truth("s3")).unwrap();
    for batch in ParquetRecordBatchReaderBuilder::try_new(file).unwrap().build().unwrap() {
        let batch = batch.unwrap();
        let ids = arrow::compute::cast(batch.column_by_name("span_id").unwrap(), &arrow::datatypes::DataType::Utf8);
        let ints = |name: &str| batch.column_by_name(name).unwrap().as_primitive::<Int64Type>().values().to_vec();
        let (starts, ends) = (ints("true_start_ns"), ints("true_end_ns"));
        let ids = ids.unwrap();
        for (row, id) in ids.as_string::<i32>().iter().enumerate() {
            true_times.insert(id.unwrap().to_owned(), (starts[row], ends[row]));
        }
    }
    let text = |batch: &arrow::array::RecordBatch, name: &str| -> Vec<String> {
        let column = arrow::compute::cast(batch.column_by_name(name).unwrap(), &arrow::datatypes::DataType::Utf8);
        column.unwrap().as_string::<i32>().iter().map(|text| text.unwrap_or("").to_owned()).collect()
    };
    let table = |path: &str| {
        let file = std::fs::File::open(fixed.out().join(path)).unwrap();
        ParquetRecordBatchReaderBuilder::try_new(file).unwrap().build().unwrap().map(Result::unwrap)
    };
    let mut recovered = 0;
    for batch in table("traces/part-00000.parquet") {
        let ints = |name: &str| batch.column_by_name(name).unwrap().as_primitive::<Int64Type>().values().to_vec();
        let (start, end) = (ints("start_unix_nano"), ints("end_unix_nano"));
        let (was, ended) = (ints("original_start_unix_nano"), ints("original_end_unix_nano"));
        let (ids, corrections) = (text(&batch, "span_id"), text(&batch, "correction"));
        for row in (0..batch.num_rows()).filter(|&row| ended[row] < was[row]) {
            assert_eq!(corrections[row], "recovered");
            let (from, to) = true_times[&ids[row]];
            check("start, ms from the truth", (start[row] - from).abs() as f64 / 1e6, 2.0);
            check("duration, ms from the truth", ((end[row] - start[row]) - (to - from)).abs() as f64 / 1e6, 2.0);
            recovered += 1;
        }
    }
    assert_eq!(recovered, 3);
    let mut told = 0;
    for batch in table("skew/findings.parquet") {
        let columns = ["kind", "clock", "action", "reason"].map(|name| text(&batch, name));
        for row in (0..batch.num_rows()).filter(|&row| columns[0][row] == "end_before_start") {
            assert_eq!((columns[1][row].as_str(), columns[2][row].as_str()), ("pay-1", "recovered"));
            assert!(columns[3][row].contains("its clock stepped by -8"), "{}", columns[3][row]);
            told += 1;
        }
    }
    assert_eq!(told, 3);
}

#[test]
fn perfect_clocks_are_left_alone() {
    let score = protobuf("s4").score(&truth("s4"));
    check("p95 of the moves, ms", score.moves.p95_ns / 1e6, 0.2);
    assert_eq!(score.corrected.inversions.excess, 0);
    assert!(score.corrected.inversions.inverted <= score.doing_nothing.inversions.inverted);
}

#[test]
fn little_evidence_is_a_wide_bound_and_none_is_no_move() {
    let fixed = protobuf("s5");
    let alone = fixed.clock("cron-1");
    assert_eq!((alone.state.as_str(), alone.moved), ("no_evidence", 0));
    assert!(!alone.advice.is_empty());
    let (truth, knots) = (Truth::of("s5"), fixed.knots());
    let of = |name: &'static str| knots.iter().filter(move |knot| knot.clock == name);
    assert_eq!(of("cron-1").count(), 0);
    // The host of one call, 33 ms ahead.
    let once = fixed.clock("cat-2");
    let (offset, bound) = (once.offset_largest_ns.unwrap(), once.uncertainty_ns.unwrap());
    assert!((offset - 33_000_000).abs() <= bound && bound < 50_000_000, "{offset} ± {bound}");
    assert!(of("cat-2").count() > 0);
    for knot in of("cat-2") {
        let width = knot.upper.unwrap() - knot.lower.unwrap();
        assert!(knot.holds(&truth) && width < 50_000_000, "{knot:?}");
    }
    // The host behind a queue, 120 ms behind: every message says that it is behind, none how far at the most.
    let queue = fixed.clock("wrk-1");
    assert_eq!((queue.state.as_str(), queue.moved, queue.offset_largest_ns), ("no_evidence", 0, None));
    assert_eq!(queue.verdict, "behind a queue only, at least 102 ms behind: left alone");
    assert!(of("wrk-1").count() > 20);
    for knot in of("wrk-1") {
        assert!(knot.holds(&truth), "{knot:?}");
        let found = (knot.offset, knot.uncertainty, knot.lower, knot.exchanges);
        assert_eq!(found, (None, None, None, None));
        assert!(knot.upper.unwrap() < -100_000_000, "{knot:?}");
    }
}

/// A clock's true offset over true time, as measured inside the host.
struct Truth(Vec<(i64, i64)>);

impl Truth {
    fn of(scenario: &str) -> BTreeMap<String, Self> {
        let packed = std::fs::File::open(data(&format!("lab/{scenario}/truth.json.gz"))).unwrap();
        let truth: serde_json::Value = serde_json::from_reader(flate2::read::GzDecoder::new(packed)).unwrap();
        let point = |point: &serde_json::Value| (point[0].as_i64().unwrap(), point[1].as_i64().unwrap());
        let series = |host: &serde_json::Value| Self(host["series"].as_array().unwrap().iter().map(point).collect());
        truth["hosts"].as_object().unwrap().iter().map(|(name, host)| (name.clone(), series(host))).collect()
    }

    fn offset(&self, time: i64) -> i64 {
        let after = self.0.partition_point(|(at, _)| *at <= time);
        match (after.checked_sub(1).map(|last| self.0[last]), self.0.get(after)) {
            (Some((from, early)), Some(&(to, late))) => {
                early + ((late - early) as f64 * (time - from) as f64 / (to - from) as f64).round() as i64
            }
            (Some((_, end)), None) | (None, Some(&(_, end))) => end,
            (None, None) => panic!("a host without a truth"),
        }
    }
}

/// A row of the offsets table.
#[derive(Clone, Debug)]
struct Knot {
    clock: String,
    time: i64,
    local: i64,
    offset: Option<i64>,
    uncertainty: Option<i64>,
    lower: Option<i64>,
    upper: Option<i64>,
    exchanges: Option<i64>,
}

impl Fixed {
    fn knots(&self) -> Vec<Knot> {
        let file = std::fs::File::open(self.out().join("skew/offsets.parquet")).unwrap();
        let mut knots = Vec::new();
        for batch in ParquetRecordBatchReaderBuilder::try_new(file).unwrap().build().unwrap() {
            let batch = batch.unwrap();
            let clocks =
                arrow::compute::cast(batch.column_by_name("clock").unwrap(), &arrow::datatypes::DataType::Utf8);
            let clocks = clocks.unwrap();
            let ints = |name: &str| {
                let column = batch.column_by_name(name).unwrap().as_primitive::<Int64Type>().clone();
                move |row: usize| column.is_valid(row).then(|| column.value(row))
            };
            let (time, local, offset) = (ints("time_unix_nano"), ints("local_unix_nano"), ints("offset_ns"));
            let (uncertainty, lower, upper) = (ints("uncertainty_ns"), ints("lower_ns"), ints("upper_ns"));
            let exchanges = ints("exchanges");
            knots.extend((0..batch.num_rows()).map(|row| Knot {
                clock: clocks.as_string::<i32>().value(row).to_owned(),
                time: time(row).unwrap(),
                local: local(row).unwrap(),
                offset: offset(row),
                uncertainty: uncertainty(row),
                lower: lower(row),
                upper: upper(row),
                exchanges: exchanges(row),
            }));
        }
        knots
    }
}

impl Knot {
    /// Whether a clock's true offset from the reference lies between its bounds here.
    fn holds(&self, truth: &BTreeMap<String, Truth>) -> bool {
        let of = |name: &str, time: i64| truth[name].offset(time);
        let time = match self.offset {
            Some(_) => self.time,
            None => self.local - of(&self.clock, self.local - of(&self.clock, self.local)),
        };
        let true_offset = of(&self.clock, time) - of("lg-1", time);
        self.lower.is_none_or(|lower| lower <= true_offset) && self.upper.is_none_or(|upper| true_offset <= upper)
    }
}

#[test]
fn the_truth_is_between_the_bounds() {
    for scenario in ["s1", "s2", "s3", "s4", "s5"] {
        let fixed = protobuf(scenario);
        let truth = Truth::of(scenario);
        let (knots, rest): (Vec<Knot>, Vec<Knot>) = fixed.knots().into_iter().partition(|knot| knot.offset.is_some());
        assert!(rest.iter().all(|knot| knot.holds(&truth)), "{scenario}: {rest:?}");
        let missed: Vec<&Knot> = knots.iter().filter(|knot| !knot.holds(&truth)).collect();
        let share = missed.len() as f64 / knots.len() as f64;
        check(&format!("{scenario}: knots whose bounds miss the truth, of {}", knots.len()), share, 0.001);
        let mut widths = Vec::new();
        for knot in knots.iter().filter(|knot| knot.clock != "lg-1") {
            let (lower, upper) = (knot.lower.unwrap(), knot.upper.unwrap());
            let estimate = knot.offset.unwrap();
            assert!(lower <= estimate && estimate <= upper, "{scenario}: {knot:?}");
            widths.push(upper - lower);
        }
        widths.sort_unstable();
        let median = widths[widths.len() / 2] as f64 / 1e6;
        check(&format!("{scenario}: median width of the bounds, ms"), median, 12.0);
        assert_eq!(fixed.outcome.report.summary.findings.get("negative_cycle"), None, "{scenario}");
    }
}

/// What the Collector wrote of one scenario, each layout by its name and files.
fn layouts(scenario: &str, folder: &Path) -> Vec<(String, Vec<PathBuf>)> {
    let written = |name: &str| data(&format!("real/written/collector/{scenario}-{name}"));
    let mut plain = Vec::new();
    let packed = std::fs::File::open(written("plain.tar.zst")).unwrap();
    zstd::Decoder::new(packed).unwrap().read_to_end(&mut plain).unwrap();
    tar::Archive::new(&plain[..]).unpack(folder).unwrap();
    let rotated = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let rotated = rotated.filter(|path| path.file_name().unwrap().to_string_lossy().starts_with("rotated")).collect();
    let mut layouts = vec![
        ("plain json".to_owned(), vec![folder.join("traces.json")]),
        ("plain proto".to_owned(), vec![folder.join("traces.proto")]),
        ("rotated".to_owned(), rotated),
        ("by host".to_owned(), vec![folder.join("by-host")]),
    ];
    let packed: &[&str] = match scenario {
        "s1" => &["traces.json.zstd", "traces.proto.zstd", "native.json.zst", "native.proto.zst"],
        _ => &["traces.proto.zstd", "native.json.zst"],
    };
    layouts.extend(packed.iter().map(|name| ((*name).to_owned(), vec![written(name)])));
    layouts
}

/// Every layout gives the same corrected times.
fn check_layouts(scenario: &str, spans: usize) -> Fixed {
    let folder = tempfile::tempdir().unwrap();
    let mut first: Option<(Fixed, BTreeMap<_, _>)> = None;
    for (layout, files) in layouts(scenario, folder.path()) {
        let fixed = fix(&files);
        let times = fixed.times();
        assert_eq!(times.len(), spans, "{scenario}, {layout}");
        match &first {
            None => first = Some((fixed, times)),
            Some((_, first)) => assert!(*first == times, "{scenario}: {layout} is corrected otherwise than plain json"),
        }
    }
    first.unwrap().0
}

#[test]
fn every_layout_of_the_collector_is_corrected_alike() {
    let fixed = check_layouts("s1", 1_576);
    let worst = unskew::report::worst_first(&fixed.outcome.report.clocks);
    for (row, (clock, offset_ms)) in worst.iter().zip([("pay-1", 2150.0), ("api-1", -1020.0)]) {
        let found_ms = row.offset_largest_ns.unwrap() as f64 / 1e6;
        assert_eq!(row.clock, clock);
        let bound_ms = row.uncertainty_ns.unwrap() as f64 / 1e6;
        check(&format!("{clock}, ms from what was set"), (found_ms - offset_ms).abs(), bound_ms);
    }
}

#[test]
fn every_layout_of_the_collector_is_corrected_alike_around_a_step() {
    let score = check_layouts("s3", 2_348).score(&data("real/written/truth-s3.parquet"));
    check("p95, ms", score.corrected.error.p95_ns / 1e6, 1.8);
    assert!(score.corrected.error.p99_ns < score.doing_nothing.error.p99_ns);
}
