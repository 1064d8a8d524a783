//! Traces that others recorded, whose clocks are known from their own causality: their papers' test beds.
//!
//! `UNSKEW_DATA=FOLDER cargo test --release --test real`; a folder or file that is missing is a failure.

mod common;
#[path = "real/jaeger.rs"]
mod jaeger;
#[path = "real/nezha.rs"]
mod nezha;
#[path = "real/otlp.rs"]
mod otlp;

use std::collections::BTreeMap;
use std::io::Read;
use std::path::PathBuf;

use arrow::array::{Array, AsArray};
use arrow::datatypes::{DataType, Int64Type};
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use unskew::report::ClockRow;
use unskew::run::Outcome;
use unskew::settings::{Annotate, Fix, Write};

fn unpacked(path: &str) -> Vec<u8> {
    let packed = std::fs::read(common::data(&format!("real/{path}"))).unwrap();
    zstd::decode_all(&packed[..]).unwrap()
}

/// All traces of one of TraceWeaver's runs.
fn traceweaver(run: &str, machine: fn(&str, &str) -> BTreeMap<&'static str, String>) -> String {
    let tar = unpacked(&format!("traceweaver/{run}.tar.zst"));
    let mut archive = tar::Archive::new(&tar[..]);
    let mut spans = Vec::new();
    for entry in archive.entries().unwrap() {
        let mut entry = entry.unwrap();
        if entry.path().unwrap().extension().is_some_and(|extension| extension == "json") {
            let mut answer = String::new();
            entry.read_to_string(&mut answer).unwrap();
            spans.extend(jaeger::spans(&answer, machine));
        }
    }
    otlp::lines(&spans)
}

/// Minutes of Nezha's cluster, together.
fn nezha(minutes: &[&str]) -> String {
    let csv = |minute: &&str| String::from_utf8(unpacked(&format!("nezha/{minute}_trace.csv.zst"))).unwrap();
    otlp::lines(&minutes.iter().map(csv).flat_map(|csv| nezha::spans(&csv)).collect::<Vec<_>>())
}

/// A run of `fix` in a folder of its own.
struct Fixed {
    folder: tempfile::TempDir,
    outcome: Outcome,
}

/// A row of the offsets table, ns.
#[derive(Clone, Copy, Debug)]
struct Knot {
    time: i64,
    offset: i64,
    uncertainty: i64,
    lower: i64,
    upper: i64,
}

fn fix(lines: &str, reference: Option<&str>) -> Fixed {
    let folder = tempfile::tempdir().unwrap();
    let input = folder.path().join("traces.jsonl");
    std::fs::write(&input, lines).unwrap();
    let plain = common::settings(&[input], &folder.path().join("out"), &[Write::Parquet]);
    let settings = Fix {
        reference: reference.map(str::to_owned),
        after: None,
        context: Vec::new(),
        annotate: Annotate::None,
        exchanges: false,
        dry_run: true,
        enforce_causality: false,
        ..plain
    };
    let outcome = unskew::run::fix(&settings, &mut std::io::empty(), |_| {}).unwrap();
    assert!(!outcome.failed, "{:?}", outcome.report.summary.problems);
    // Dozens of processes on two machines, or on one.
    assert_eq!(outcome.report.summary.findings.get("shared_key"), None);
    Fixed { folder, outcome }
}

impl Fixed {
    fn table(&self, name: &str) -> PathBuf {
        self.folder.path().join("out/skew").join(name)
    }

    /// The one clock whose name begins so.
    fn clock(&self, name: &str) -> &ClockRow {
        let named: Vec<&ClockRow> =
            self.outcome.report.clocks.iter().filter(|row| row.clock.starts_with(name)).collect();
        let [row] = named[..] else { panic!("{name}: {named:?}") };
        row
    }

    /// The offset of a clock over time.
    fn knots(&self, name: &str) -> Vec<Knot> {
        let name = &self.clock(name).clock;
        let file = std::fs::File::open(self.table("offsets.parquet")).unwrap();
        let mut knots = Vec::new();
        for batch in ParquetRecordBatchReaderBuilder::try_new(file).unwrap().build().unwrap() {
            let batch = batch.unwrap();
            let clocks = arrow::compute::cast(batch.column_by_name("clock").unwrap(), &DataType::Utf8).unwrap();
            let ints = |name: &str| batch.column_by_name(name).unwrap().as_primitive::<Int64Type>().clone();
            let (time, offset, uncertainty) = (ints("time_unix_nano"), ints("offset_ns"), ints("uncertainty_ns"));
            let (lower, upper) = (ints("lower_ns"), ints("upper_ns"));
            let of_clock = (0..batch.num_rows()).filter(|&row| clocks.as_string::<i32>().value(row) == name);
            knots.extend(of_clock.filter(|&row| offset.is_valid(row)).map(|row| Knot {
                time: time.value(row),
                offset: offset.value(row),
                uncertainty: uncertainty.value(row),
                lower: lower.value(row),
                upper: upper.value(row),
            }));
        }
        assert!(!knots.is_empty(), "{name}: no offsets");
        knots
    }

    /// Nothing was moved; the verdicts where something was.
    fn check_left_alone(&self) {
        let moved: Vec<_> = self.outcome.report.clocks.iter().filter(|row| row.moved > 0).collect();
        assert!(moved.is_empty(), "{moved:#?}");
    }
}

/// Clocks of TraceWeaver's two nodes go by the subnet of their pods' addresses.
fn node(ip: &str, _hostname: &str) -> BTreeMap<&'static str, String> {
    BTreeMap::from([("host.name", ip.rsplit_once('.').unwrap().0.to_owned())])
}

/// The offset of node 10.0.1 from node 10.0.2 is within µs that two links give independently of each other.
fn check_hotel(run: &str, (least_us, most_us): (i64, i64)) {
    let fixed = fix(&traceweaver(run, node), Some("10.0.2"));
    let is_off = least_us > 0 || most_us < 0;
    for knot in fixed.knots("10.0.1") {
        let Knot { offset, uncertainty, lower, upper, .. } = knot;
        assert!((least_us * 1_000..=most_us * 1_000).contains(&offset), "{run}: {knot:?}");
        assert!(lower <= offset && offset <= upper, "{run}: {knot:?}");
        if is_off {
            assert!(offset.abs() > uncertainty, "{run}: the interval holds zero: {knot:?}");
            assert!(lower > 0 || upper < 0, "{run}: the bounds hold zero: {knot:?}");
        }
    }
    let row = fixed.clock("10.0.1");
    assert!(row.moved == row.spans || !is_off, "{run}: {row:?}");
}

#[test]
fn hotel_load25_is_ahead() {
    check_hotel("hotel_load25", (652, 1_935));
}

#[test]
fn hotel_load50_is_behind() {
    check_hotel("hotel_load50", (-3_602, -2_300));
}

#[test]
fn hotel_load100_is_behind() {
    check_hotel("hotel_load100", (-2_161, -856));
}

#[test]
fn hotel_load150_may_be_right() {
    check_hotel("hotel_load150", (-1_046, 272));
}

#[test]
fn clocks_of_one_machine_are_left_alone() {
    let as_is = |ip: &str, hostname: &str| BTreeMap::from([("ip", ip.to_owned()), ("hostname", hostname.to_owned())]);
    let fixed = fix(&traceweaver("media_load100", as_is), None);
    assert_eq!(fixed.outcome.report.clocks.len(), 10);
    fixed.check_left_alone();
}

/// ppm, by least squares over the knots of a stretch.
fn slope_ppm(knots: &[Knot]) -> f64 {
    let count = knots.len() as f64;
    let mean =
        |of: &dyn Fn(&Knot) -> i64| knots.iter().map(|knot| (of(knot) - of(&knots[0])) as f64).sum::<f64>() / count;
    let (time, offset) = (mean(&|knot| knot.time), mean(&|knot| knot.offset));
    let from =
        |knot: &Knot| ((knot.time - knots[0].time) as f64 - time, (knot.offset - knots[0].offset) as f64 - offset);
    let (rise, run) = knots.iter().map(from).fold((0.0, 0.0), |(rise, run), (x, y)| (rise + x * y, run + x * x));
    rise / run * 1e6
}

#[test]
fn a_clocks_excursion_is_followed_as_it_slews_back() {
    let fixed = fix(&nezha(&["2022-08-23_13_10", "2022-08-23_13_11"]), Some("frontend"));
    let knots = fixed.knots("productcatalogservice");
    let start = knots[0].time;
    let between = |from_s: i64, until_s: i64| -> Vec<Knot> {
        let seconds = |knot: &&Knot| (from_s..=until_s).contains(&((knot.time - start) / 1_000_000_000));
        knots.iter().filter(seconds).copied().collect()
    };
    let (before, slew) = (between(0, 60), between(65, 115));
    for knot in &before {
        assert!((470_000..=1_545_000).contains(&knot.offset) && knot.offset > knot.uncertainty, "{knot:?}");
    }
    let (before, slew) = (slope_ppm(&before), slope_ppm(&slew));
    assert!(before.abs() < 3.0, "{before:.1} ppm before the slew");
    assert!((-18.0..=-12.0).contains(&slew), "{slew:.1} ppm during the slew");
}

#[test]
fn neither_floored_milliseconds_nor_a_clean_minute_is_taken_for_skew() {
    fix(&nezha(&["2022-08-23_13_21"]), Some("frontend")).check_left_alone();
}

#[test]
fn children_that_outlive_their_parents_by_seconds_are_no_skew() {
    let fixed = fix(&nezha(&["2022-08-23_16_33"]), Some("frontend"));
    fixed.check_left_alone();
    let adservice = fixed.clock("adservice");
    assert!(adservice.uncertainty_ns.unwrap() < 2_000_000, "{adservice:?}");
}

/// A clean minute, one service's times without their fractions.
#[test]
fn whole_seconds_are_told_and_not_taken_for_skew() {
    let csv = String::from_utf8(unpacked("nezha/2022-08-23_13_21_trace.csv.zst")).unwrap();
    let mut spans = nezha::spans(&csv);
    for span in spans.iter_mut().filter(|span| span.resource["service.name"] == "currencyservice") {
        for time in [&mut span.start_ns, &mut span.end_ns] {
            *time -= *time % 1_000_000_000;
        }
    }
    let fixed = fix(&otlp::lines(&spans), Some("frontend"));
    fixed.check_left_alone();
    let row = fixed.clock("currencyservice");
    assert!(row.verdict.ends_with("its starts are whole seconds"), "{row:?}");
    assert!(row.advice.contains("finer units"), "{row:?}");
}
