//! Never worse, whatever is read: fleets of which readings are replaced by anything, and their undamaged twins.
//!
//! `cargo test --release --test damaged` draws 30 fleets of 2 to 24 clocks; after `--`, `--seeds 300` or `--seeds 7..8`. Of
//! each, up to one reading in twenty is replaced (by seconds, hours, 1970, 2^63), or all spans of one kind on some hosts
//! are shifted, or both. What was out of order as recorded and as written is counted from the traces table
//! (`score::order`), not by the program. Of the undamaged twins, hardly a segment may be put back.

mod common;

use std::collections::BTreeSet;
use std::ops::RangeInclusive;
use std::path::Path;
use std::process::ExitCode;

use arrow::array::RecordBatch;
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::trace::v1::{Span, TracesData};
use prost::Message;
use rand::{RngExt, SeedableRng};
use rand_pcg::Pcg64Mcg;
use rayon::iter::{IntoParallelIterator, ParallelIterator};
use unskew::score::{self, CausalOrder, Gauge};
use unskew::settings::{Annotate, Fix, Write};
use unskew::simulate::{self, Scenario, Simulated};

use common::{batches, fix, ints, prefixed, records, settings, texts};

/// Of the segments that are moved in undamaged fleets, those that may be put back.
const PUT_BACK: f64 = 1.0 / 200.0;

const SECOND_NS: i64 = 1_000_000_000;

struct Draw(Pcg64Mcg);

impl Draw {
    fn chance(&mut self, share: f64) -> bool {
        self.0.random::<f64>() < share
    }

    fn log_between(&mut self, low: f64, high: f64) -> f64 {
        (low.ln() + (high.ln() - low.ln()) * self.0.random::<f64>()).exp()
    }

    fn one_of<T: Copy>(&mut self, all: &[T]) -> T {
        all[self.0.random_range(0..all.len())]
    }

    fn sign(&mut self) -> i64 {
        self.one_of(&[-1, 1])
    }
}

fn scenario(draw: &mut Draw) -> String {
    let clocks = draw.log_between(2.0, 24.9) as usize;
    let seconds = draw.log_between(20.0, 1_200.0);
    let spans = (clocks as f64 * draw.log_between(30.0, 400.0)) as usize;
    let services = 1 + (clocks - 1).div_ceil(2);
    let (zero, near) = draw.one_of(&[(1.0, 0.0), (0.5, 0.5), (0.1, 0.65), (0.0, 0.5)]);
    let mut text = format!(
        "duration_s = {seconds:.0}\nspans = {spans}\n[fleet]\nclocks = {clocks}\nservices = {services}\n[clocks]\n\
         zero = {zero}\nnear = {near}\nnear_ms = {:.2}\nfrequency_ppm = {:.1}\n",
        draw.log_between(0.05, 20.0),
        draw.one_of(&[0.0, 8.0, 40.0]),
    );
    if draw.chance(0.25) {
        text += "steps = { share = 0.4, each = [1, 2], ms = [5.0, 2000.0] }\n";
    }
    text += &format!("[sdk]\nbroken = {}\nbroken_ms = 3.0\n", draw.one_of(&[0.0, 0.0, 0.01]));
    text += &format!("[traffic]\nhostile = {}\n", draw.one_of(&[0.0, 0.06, 0.25]));
    text
}

/// What some readings are replaced by: anything.
fn anything(draw: &mut Draw, reading: u64) -> u64 {
    let by = |draw: &mut Draw, low_s: f64, high_s: f64| {
        let nanos = (draw.log_between(low_s, high_s) * SECOND_NS as f64) as i64 * draw.sign();
        reading.saturating_add_signed(nanos)
    };
    match draw.0.random_range(0..7) {
        0 => by(draw, 1e-5, 1.0),
        1 | 2 => by(draw, 1.0, 100.0),
        3 => by(draw, 3_600.0, 40_000.0),
        4 => draw.one_of(&[0, 1, 3_600 * SECOND_NS as u64]),
        5 => draw.one_of(&[1 << 63, u64::MAX]),
        _ => draw.0.random(),
    }
}

fn host(data: &TracesData, of: usize) -> String {
    let attributes = data.resource_spans[of].resource.iter().flat_map(|resource| &resource.attributes);
    let named = attributes.filter(|attribute| attribute.key == "host.name").find_map(|attribute| {
        match attribute.value.as_ref()?.value.as_ref()? {
            Value::StringValue(name) => Some(name.clone()),
            _ => None,
        }
    });
    named.unwrap_or_default()
}

fn damage(draw: &mut Draw, records: &mut [TracesData]) {
    let (replaces, shifts) = draw.one_of(&[(true, false), (false, true), (true, true)]);
    if replaces {
        let share = draw.log_between(0.0005, 0.05);
        for span in spans(records) {
            if draw.chance(share) {
                let readings = draw.one_of(&[[true, false], [false, true], [true, true]]);
                let old = [span.start_time_unix_nano, span.end_time_unix_nano];
                if readings[0] {
                    span.start_time_unix_nano = anything(draw, old[0]);
                }
                if readings[1] {
                    // Both by the same, or each by its own.
                    let by = span.start_time_unix_nano.wrapping_sub(old[0]);
                    let along = readings[0] && draw.chance(0.5);
                    span.end_time_unix_nano = if along { old[1].wrapping_add(by) } else { anything(draw, old[1]) };
                }
            }
        }
    }
    if shifts {
        let mut hosts: Vec<String> =
            records.iter().flat_map(|data| (0..data.resource_spans.len()).map(|of| host(data, of))).collect();
        hosts.sort_unstable();
        hosts.dedup();
        for _ in 0..draw.one_of(&[1, 1, 2, 3]) {
            let shifted = hosts[draw.0.random_range(0..hosts.len())].clone();
            let kind = draw.one_of(&[1, 2, 3, 3]);
            let by = (draw.log_between(0.001, 3_600.0) * SECOND_NS as f64) as i64 * draw.sign();
            for data in records.iter_mut() {
                let of_host: Vec<usize> =
                    (0..data.resource_spans.len()).filter(|&of| host(data, of) == shifted).collect();
                for of in of_host {
                    let spans = data.resource_spans[of].scope_spans.iter_mut().flat_map(|scope| &mut scope.spans);
                    for span in spans.filter(|span| span.kind == kind) {
                        span.start_time_unix_nano = span.start_time_unix_nano.saturating_add_signed(by);
                        span.end_time_unix_nano = span.end_time_unix_nano.saturating_add_signed(by);
                    }
                }
            }
        }
    }
}

fn spans(records: &mut [TracesData]) -> impl Iterator<Item = &mut Span> {
    let resources = records.iter_mut().flat_map(|data| &mut data.resource_spans);
    resources.flat_map(|of| &mut of.scope_spans).flat_map(|scope| &mut scope.spans)
}

struct Corrected {
    order: CausalOrder,
    moved: u64,
    /// Segments whose spans are moved, and those that were put back.
    segments: usize,
    put_back: usize,
    /// The worst of them.
    why: String,
    p95_ms: [f64; 2],
}

fn correct(records: &[TracesData], simulated: &Simulated, reference: Option<String>, folder: &Path) -> Corrected {
    let path = |name: &str| folder.join(name);
    let records: Vec<Vec<u8>> = records.iter().map(Message::encode_to_vec).collect();
    std::fs::write(path("traces.binpb"), prefixed(&records)).unwrap();
    std::fs::write(path("truth.parquet"), &simulated.truth).unwrap();
    let plain = settings(&[path("traces.binpb")], &path("fixed"), &[Write::Parquet]);
    let outcome = fix(&Fix { annotate: Annotate::None, reference, exchanges: false, ..plain });
    let summary = &outcome.report.summary;
    let score = score::score(&path("fixed"), &path("truth.parquet"), Gauge::Median).unwrap();
    let p95_ms = [&score.doing_nothing, &score.corrected].map(|way| way.error.p95_ns / 1e6);
    let moved = |batch: &RecordBatch| {
        let segments = texts(batch, "clock").into_iter().zip(ints(batch, "segment"));
        let applied = segments.zip(ints(batch, "applied_offset_ns")).filter(|(_, applied_ns)| *applied_ns != 0);
        applied.map(|(segment, _)| segment).collect::<Vec<_>>()
    };
    let offsets = batches(&path("fixed/skew/offsets.parquet"));
    let segments: BTreeSet<(String, i64)> = offsets.iter().flat_map(moved).collect();
    Corrected {
        order: score::order(&path("fixed")).unwrap(),
        moved: summary.moved,
        segments: segments.len(),
        put_back: summary.findings.get("not_corrected").copied().unwrap_or(0) as usize,
        why: outcome
            .report
            .findings
            .iter()
            .filter(|row| row.kind == "not_corrected")
            .map(|row| row.example.clone())
            .collect(),
        p95_ms,
    }
}

struct Fleet {
    seed: u64,
    clocks: usize,
    reference: bool,
    damaged: Corrected,
    twin: Corrected,
}

fn fleet(seed: u64) -> Fleet {
    let mut draw = Draw(Pcg64Mcg::seed_from_u64(seed));
    let scenario = Scenario::parse(&scenario(&mut draw)).unwrap();
    let simulated = simulate::run(&Scenario { seed, ..scenario }).unwrap();
    let decoded = |record: &Vec<u8>| TracesData::decode(&record[..]).unwrap();
    let mut records: Vec<TracesData> = records(simulated.protobuf.as_ref().unwrap()).iter().map(decoded).collect();
    let reference = draw.chance(0.5).then(|| simulated.summary.reference.clone());
    let run = |records: &[TracesData]| {
        let folder = tempfile::tempdir().unwrap();
        correct(records, &simulated, reference.clone(), folder.path())
    };
    let twin = run(&records);
    damage(&mut draw, &mut records);
    let damaged = run(&records);
    Fleet { seed, clocks: simulated.summary.clocks, reference: reference.is_some(), damaged, twin }
}

fn seeds() -> RangeInclusive<u64> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let given = arguments.iter().position(|argument| argument == "--seeds").map(|place| arguments[place + 1].as_str());
    let number = |text: &str| text.parse::<u64>().expect("--seeds takes a number or a range like 7..8");
    let range = |text: &str| match text.split_once("..") {
        Some((from, to)) => number(from)..=number(to),
        None => 1..=number(text),
    };
    given.map_or(1..=30, range)
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(0.0)
}

fn main() -> ExitCode {
    let fleets: Vec<Fleet> = seeds().into_par_iter().map(fleet).collect();
    let (mut passed, mut failed) = (0, 0);
    println!("seed  clocks  reference  out of order  early, ms  moved  put back  p95, ms (damaged; twin)");
    for Fleet { seed, clocks, reference, damaged, twin } in &fleets {
        let CausalOrder { before, after, .. } = damaged.order;
        let verdict = if damaged.order.is_worse() || twin.order.is_worse() { "  WORSE" } else { "" };
        println!(
            "{seed:>4}  {clocks:>6}  {reference:<9}  {} → {}  {:.3} → {:.3}  {}  {}  {:.3} → {:.3}; {:.3} → {:.3}{verdict}",
            before.pairs,
            after.pairs,
            before.early_ns as f64 / 1e6,
            after.early_ns as f64 / 1e6,
            damaged.moved,
            damaged.put_back,
            damaged.p95_ms[0],
            damaged.p95_ms[1],
            twin.p95_ms[0],
            twin.p95_ms[1],
        );
        if twin.put_back > 0 {
            println!("      of the twin {} put back: {}", twin.put_back, twin.why);
        }
        if verdict.is_empty() {
            passed += 1;
        } else {
            failed += 1;
        }
    }
    let still = fleets.iter().filter(|fleet| fleet.damaged.moved == 0).count();
    let p95 = |of: fn(&Fleet) -> f64| median(fleets.iter().map(of).collect());
    println!(
        "damaged: in {still} of {} nothing is moved; median p95 {:.3} → {:.3} ms (twins {:.3} → {:.3})",
        fleets.len(),
        p95(|fleet| fleet.damaged.p95_ms[0]),
        p95(|fleet| fleet.damaged.p95_ms[1]),
        p95(|fleet| fleet.twin.p95_ms[0]),
        p95(|fleet| fleet.twin.p95_ms[1]),
    );
    let segments: usize = fleets.iter().map(|fleet| fleet.twin.segments + fleet.twin.put_back).sum();
    let put_back: usize = fleets.iter().map(|fleet| fleet.twin.put_back).sum();
    println!("twins: {put_back} of {segments} segments are put back");
    if put_back as f64 <= PUT_BACK * segments as f64 {
        passed += 1;
    } else {
        failed += 1;
        println!("FAILED: at most one segment in 200 of an undamaged fleet is put back");
    }
    let result = if failed == 0 { "ok" } else { "FAILED" };
    println!("test result: {result}. {passed} passed; {failed} failed");
    if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
