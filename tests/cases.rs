//! What people reported of their clocks and traces, each with its right answer.
//!
//! Fleets are `tests/cases/*.toml`, with several seeds each; files that a fleet cannot make are written here.

mod common;

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use common::{batches, fix, ints, rows, settings, texts, traces};
use unskew::report::ClockRow;
use unskew::run::Outcome;
use unskew::score::{self, Gauge, Score};
use unskew::settings::Write;
use unskew::simulate::scenario::GivenStep;
use unskew::simulate::{self, Scenario, scenario};

/// A fleet's traces, corrected, beside the truth.
struct Case {
    folder: tempfile::TempDir,
    outcome: Outcome,
    what: String,
}

/// `about` changes the scenario further.
fn case(name: &str, seed: u64, about: impl FnOnce(&mut Scenario)) -> Case {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/cases").join(name).with_extension("toml");
    let mut scenario = scenario::read(&path).unwrap();
    scenario.seed = seed;
    scenario.outputs = vec![scenario::Output::Protobuf];
    about(&mut scenario);
    let simulated = simulate::run(&scenario).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let (input, truth) = (folder.path().join("traces.binpb"), folder.path().join("truth.parquet"));
    fs::write(&input, simulated.protobuf.unwrap()).unwrap();
    fs::write(truth, simulated.truth).unwrap();
    let outcome = fix(&settings(&[input], &folder.path().join("out"), &[Write::Parquet]));
    Case { folder, outcome, what: format!("{name}, seed {seed}") }
}

/// A row of `skew/steps.parquet`.
#[derive(Debug)]
struct Told {
    clock: String,
    is_slew: bool,
    /// After the start.
    at_s: f64,
    lasted_s: f64,
    size_ns: i64,
}

impl Case {
    fn out(&self) -> std::path::PathBuf {
        self.folder.path().join("out")
    }

    /// Of every span, the error of its start and how unsure that is said to be, ns.
    fn errors(&self) -> Vec<(i64, i64)> {
        let truth = batches(&self.folder.path().join("truth.parquet"));
        let of_batch = |batch: &_| texts(batch, "span_id").into_iter().zip(ints(batch, "true_start_ns"));
        let truth: BTreeMap<String, i64> = truth.iter().flat_map(of_batch).collect();
        let of_batch = |batch: &_| {
            let times = ints(batch, "start_unix_nano").into_iter().zip(ints(batch, "uncertainty_ns"));
            // Where nothing is known nothing is claimed.
            let claims = batch.column_by_name("uncertainty_ns").unwrap();
            let spans = texts(batch, "span_id").into_iter().zip(times).enumerate();
            spans.filter(|(row, _)| claims.is_valid(*row)).map(|(_, span)| span).collect::<Vec<_>>()
        };
        let spans = batches(&traces(&self.out()));
        let error = |(span, (start, unsure)): (String, (i64, i64))| ((start - truth[&span]).abs(), unsure);
        spans.iter().flat_map(of_batch).map(error).collect()
    }

    fn score(&self) -> Score {
        self.score_against(Gauge::None)
    }

    fn score_against(&self, gauge: Gauge) -> Score {
        score::score(&self.out(), &self.folder.path().join("truth.parquet"), gauge).unwrap()
    }

    /// The same traces, corrected against the median clock.
    fn without_a_reference(mut self) -> Self {
        let mut settings = settings(&[self.folder.path().join("traces.binpb")], &self.out(), &[Write::Parquet]);
        settings.reference = None;
        self.outcome = fix(&settings);
        self.what += ", without a reference";
        self
    }

    fn clock(&self, name: &str) -> &ClockRow {
        self.outcome.report.clocks.iter().find(|row| row.clock == name).unwrap_or_else(|| panic!("no clock {name}"))
    }

    /// Every step and slew that is told.
    fn told(&self) -> Vec<Told> {
        let mut told = Vec::new();
        for batch in batches(&self.out().join("skew/steps.parquet")) {
            let (clocks, kinds) = (texts(&batch, "clock"), texts(&batch, "kind"));
            let [times, lasted, sizes] =
                ["time_unix_nano", "duration_ns", "size_ns"].map(|column| ints(&batch, column));
            told.extend((0..batch.num_rows()).map(|row| Told {
                clock: clocks[row].clone(),
                is_slew: kinds[row] == "slew",
                at_s: (times[row] - Scenario::default().start_unix_nano) as f64 / 1e9,
                lasted_s: lasted[row] as f64 / 1e9,
                size_ns: sizes[row],
            }));
        }
        told
    }

    /// Seconds after the start, and size in ns, of a clock's steps; and how many slews are told of it.
    fn steps(&self, clock: &str) -> (Vec<(f64, i64)>, usize) {
        let (slews, steps): (Vec<Told>, Vec<Told>) =
            self.told().into_iter().filter(|told| told.clock == clock).partition(|told| told.is_slew);
        (steps.into_iter().map(|step| (step.at_s, step.size_ns)).collect(), slews.len())
    }

    /// The steps of `svc01-1` are these, to `within_s` and `within_ms`, and no more slews than so many are told.
    fn check_steps(&self, expected: &[(f64, f64)], within_s: f64, within_ms: f64, most_slews: usize) {
        let (steps, slews) = self.steps("svc01-1");
        let alike = steps.iter().zip(expected).all(|(found, expected)| {
            (found.0 - expected.0).abs() <= within_s && (found.1 as f64 / 1e6 - expected.1).abs() <= within_ms
        });
        assert!(
            steps.len() == expected.len() && slews <= most_slews && alike,
            "{}: steps {steps:?} and {slews} slews, and not {expected:?}",
            self.what
        );
    }

    fn check_p95(&self, most_ms: f64) {
        let score = self.score();
        let (ours, nothing) = (score.corrected.error.p95_ns / 1e6, score.doing_nothing.error.p95_ns / 1e6);
        assert!(ours <= most_ms, "{}: p95 {ours} ms, more than {most_ms}; {nothing} as recorded", self.what);
    }

    fn nothing_moves(&self) {
        assert_eq!(self.outcome.report.summary.moved, 0, "{}", self.what);
        assert_eq!(self.score().moves.max_ns, 0.0, "{}", self.what);
    }
}

/// Reported of six nodes, against NTP.
const SIX_NODES: [(&str, f64); 6] = [
    ("svc01-1", -33.604),
    ("svc02-1", -31.109),
    ("svc02-2", -30.372),
    ("svc02-3", -22.730),
    ("svc03-1", 267.821),
    ("svc03-2", 267.582),
];

/// The 95 % interval of all six hangs on one link's asymmetry, so it may miss on one fleet of five (seed 1 does, by a
/// quarter); the bounds that follow from cause and effect may not.
#[test]
fn six_nodes_are_where_they_were_reported() {
    let mut missed = Vec::new();
    for seed in [1, 5, 7, 19, 26] {
        let case = case("six_nodes", seed, |_| ());
        let found = |name: &str| {
            let row = case.clock(name);
            assert_eq!(row.state, "corrected", "{}: {name}", case.what);
            (row.offset_largest_ns.unwrap() as f64 / 1e6, row.uncertainty_ns.unwrap() as f64 / 1e6)
        };
        for (name, offset_ms) in SIX_NODES {
            let (found_ms, bound_ms) = found(name);
            let off_ms = (found_ms - offset_ms).abs();
            let what = format!("{}: {name} at {found_ms} ± {bound_ms} ms, and not {offset_ms}", case.what);
            assert!(off_ms <= 1.5 * bound_ms && bound_ms < 1.5, "{what}");
            if off_ms > bound_ms {
                missed.push((seed, what));
            }
        }
        for batch in batches(&case.out().join("skew/offsets.parquet")) {
            let (lower, upper) = (ints(&batch, "lower_ns"), ints(&batch, "upper_ns"));
            for (row, clock) in texts(&batch, "clock").into_iter().enumerate() {
                if let Some((_, offset_ms)) = SIX_NODES.iter().find(|(name, _)| *name == clock) {
                    let offset = (offset_ms * 1e6).round() as i64;
                    assert!((lower[row]..=upper[row]).contains(&offset), "{}: {clock}", case.what);
                }
            }
        }
        let (one, other) = (found("svc03-1"), found("svc03-2"));
        // Reported 0.239 ms apart.
        assert!((one.0 - other.0 - 0.239).abs() <= one.1 + other.1, "{}: {one:?} and {other:?}", case.what);
    }
    missed.dedup_by_key(|(seed, _)| *seed);
    assert!(missed.len() <= 1, "{missed:?}");
}

#[test]
fn two_opposite_steps_of_hours_come_out_right() {
    let hours_ms = 28_560_000.0;
    let steps = [(300.0, hours_ms), (330.0, -hours_ms)];
    for seed in 1..=3 {
        let case = case("opposite_steps", seed, |_| ());
        case.check_p95(0.5);
        case.check_steps(&steps, 4.0, 2.0, 0);
        assert!(case.score().corrected.error.max_ns < 5e6, "{}", case.what);
    }
    // Few clocks and few calls.
    let small = case("opposite_steps", 4, |scenario| {
        scenario.fleet.clocks = 4;
        scenario.spans = 3_000;
    });
    small.check_p95(1.5);
    small.check_steps(&steps, 10.0, 3.0, 0);
    // And three years back.
    let years = case("opposite_steps", 5, |scenario| {
        let steps = &mut scenario.clocks.given[0].steps;
        (steps[0].ms, steps[1].ms) = (-1e11, 1e11);
    });
    years.check_p95(0.5);
    years.check_steps(&[(300.0, -1e11), (330.0, 1e11)], 4.0, 2.0, 0);
}

/// Most of their clocks read some times twice. Of the first 24 seeds 12 failed once, by up to 46 minutes; these are some of
/// them.
#[test]
fn clocks_that_leap_are_followed_whatever_the_others_are_measured_from() {
    for seed in [3, 5, 6, 9, 12, 14, 20, 23] {
        let check = |case: Case| {
            let score = case.score_against(Gauge::Median);
            let p99_ms = score.corrected.error.p99_ns / 1e6;
            assert!(p99_ms < 1.0, "{}: p99 {p99_ms} ms", case.what);
            let [left, of] = [&score.corrected, &score.doing_nothing].map(|by| by.inversions.inverted);
            assert!(100 * left <= of, "{}: {left} of {of} inversions left", case.what);
            case
        };
        check(check(case("leaping", seed, |_| {})).without_a_reference());
    }
}

#[test]
fn what_a_clock_did_before_it_was_set_back_is_no_guess() {
    // Each reads a time once, as it steps by more than the dump is long.
    for seed in [1, 2, 3, 4, 5, 6, 7, 9] {
        let check = |case: Case| {
            let score = case.score_against(Gauge::Median);
            let max_ms = score.corrected.error.max_ns / 1e6;
            assert!(max_ms < 1.0, "{}: {max_ms} ms at the most", case.what);
            assert_eq!(score.corrected.inversions.inverted, 0, "{}", case.what);
            case
        };
        check(check(case("set_back", seed, |_| {})).without_a_reference());
    }
}

#[test]
fn a_step_that_one_trace_tells_of_takes_no_other_clock_along() {
    // Near either end of the dump; by one call that is 20 s off, 355 spans came out up to 371 s off.
    for (seed, at_s) in [(2, 119.0), (6, 119.0), (7, 119.0), (13, 0.6)] {
        let case = case("late_step", seed, |scenario| scenario.clocks.given[0].steps[0].at_s = at_s);
        let off: Vec<(i64, i64)> = case.errors().into_iter().filter(|(error_ns, _)| *error_ns > 1_000_000).collect();
        assert!(off.len() <= 2, "{}, at {at_s} s: {} spans off", case.what, off.len());
        // A span that no trace puts right says so.
        assert!(off.iter().all(|(error, unsure)| error <= unsure), "{}, at {at_s} s: {off:?}", case.what);
    }
}

#[test]
fn a_saw_tooth_is_followed() {
    // Of half an hour, the offset that the teeth take back adds up to two minutes.
    for (seed, minutes) in [(1, 10), (2, 10), (3, 10), (1, 30), (6, 30), (2, 60)] {
        let teeth: Vec<(f64, f64)> = (1..minutes).map(|tooth| (60.0 * f64::from(tooth), -4_466.58)).collect();
        let case = case("saw_tooth", seed, |scenario| {
            scenario.duration_s = 60.0 * f64::from(minutes);
            scenario.spans = 1_200 * minutes as usize;
            scenario.clocks.given[0].steps = teeth.iter().map(|&(at_s, ms)| GivenStep { at_s, ms }).collect();
        });
        // As recorded, p95 is 1 to 3 s where the clock has more than a twentieth of the spans.
        case.check_p95(1.0);
        // Its calls are seconds apart in some fleets.
        // In half an hour of seed 1, two slews of 1 ms are told beside a tooth.
        case.check_steps(&teeth, 4.0, 2.0, if minutes > 10 { 2 } else { 0 });
        let ppm = case.clock("svc01-1").frequency_ppm.unwrap();
        // Per second of its own, of which it counts 1.074 to ours.
        assert!((ppm - 74_443.0 / 1.074_443).abs() < 150.0, "{}: gains {ppm} ppm", case.what);
    }
}

#[test]
fn a_device_that_loses_time_has_one_slope() {
    for seed in 1..=2 {
        let case = case("losing_device", seed, |_| ());
        let (steps, slews) = case.steps("svc01-1");
        assert!(steps.is_empty() && slews == 0, "{}: {steps:?}, {slews} slews", case.what);
        let row = case.clock("svc01-1");
        let (lost_s, ppm) = (row.offset_last_ns.unwrap() as f64 / 1e9, row.frequency_ppm.unwrap());
        assert!((lost_s + 20.0).abs() < 0.1, "{}: {lost_s} s", case.what);
        assert!((ppm + 115.74).abs() < 0.5, "{}: {ppm} ppm", case.what);
        case.check_p95(1.0);
    }
}

/// Of whole milliseconds, and not at the search's knots of 5 s: where its slew ended is not told by any one call.
#[test]
fn a_slew_is_as_long_and_as_large_as_it_was() {
    for seed in 1..=8 {
        let case = case("slewed", seed, |_| ());
        let told = case.told();
        // With its ends where the search has them, as much as 2.6 s and 5.5 ms off.
        let [Told { clock, is_slew: true, lasted_s, size_ns, .. }] = &told[..] else {
            panic!("{}: {told:?}", case.what)
        };
        assert_eq!(clock, "svc01-1", "{}", case.what);
        let size_ms = *size_ns as f64 / 1e6;
        assert!((lasted_s - 300.0).abs() < 1.0 && (size_ms - 150.0).abs() < 0.5, "{}: {told:?}", case.what);
    }
}

#[test]
fn who_slews_fast_amid_few_calls_says_how_unsure_that_is() {
    for seed in [1, 6] {
        let case = case("fast_slews", seed, |_| ());
        let outside = |(error, unsure): &(i64, i64)| *error > 1_000_000 && *error > 2 * unsure;
        let outside = case.errors().into_iter().filter(outside).count();
        // Of 6,000 spans; 14 where ends of slews are taken for known.
        assert!(outside <= 6, "{}: {outside} spans far outside their interval", case.what);
    }
}

/// Of calls that take 100 to 400 ms longer one way and of those that were given up meanwhile one could make a clock that steps
/// there and back.
#[test]
fn a_link_that_is_slow_for_a_while_moves_no_clock() {
    for seed in [1, 2, 15, 18] {
        let case = case("slowed", seed, |_| {});
        let score = case.score();
        let told: Vec<_> = score.clocks.iter().map(|clock| (&clock.clock, case.steps(&clock.clock))).collect();
        let is_small = |(steps, slews): &(Vec<(f64, i64)>, usize)| {
            *slews == 0 && steps.iter().all(|(_, size_ns)| size_ns.abs() < 1_000_000)
        };
        assert!(told.iter().all(|(_, told)| is_small(told)), "{}: {told:?}", case.what);
        let p99_ms = score.corrected.error.p99_ns / 1e6;
        assert!(p99_ms < 1.0, "{}: p99 {p99_ms} ms", case.what);
    }
}

/// Each may be 18 ms off by its asymmetric links alone, and most are held where they were. The correction of one that is not,
/// drawn towards zero by itself, left hundreds of calls out of order. Of these fleets one still is left so: whether its second
/// clock is moved hangs on a few calls of 7,659.
#[test]
fn a_correction_in_doubt_leaves_no_calls_out_of_order() {
    let mut left: Vec<usize> = Vec::new();
    for seed in [1, 4, 10, 11, 12] {
        let case = case("long_drift", seed, |_| {});
        let score = case.score();
        let (before, after) = (score.doing_nothing, score.corrected);
        assert!(before.inversions.inverted > 1_000, "{}: {before:?}", case.what);
        assert!(after.inversions.inverted < before.inversions.inverted, "{}: {after:?}, {before:?}", case.what);
        assert!(after.error.p95_ns < before.error.p95_ns, "{}: {after:?}, {before:?}", case.what);
        left.push(after.inversions.inverted);
    }
    left.sort_unstable();
    assert!(left[3] <= 2, "{left:?}");
}

#[test]
fn ends_before_their_starts_are_found_told_and_rebuilt() {
    for seed in 1..=3 {
        let case = case("broken_ends", seed, |_| ());
        let (mut broken, mut with_duration) = (0, 0);
        for batch in batches(&traces(&case.out())) {
            let of = |name| ints(&batch, name);
            let (start, end, duration) = (of("start_unix_nano"), of("end_unix_nano"), of("duration_ns"));
            let (was, ended, offset) = (of("original_start_unix_nano"), of("original_end_unix_nano"), of("offset_ns"));
            for (row, correction) in texts(&batch, "correction").into_iter().enumerate() {
                assert!(end[row] >= start[row] && start[row] == was[row] - offset[row], "{}", case.what);
                assert_eq!(ended[row] < was[row], correction == "recovered", "{}", case.what);
                if correction == "recovered" {
                    assert_eq!(was[row] - ended[row], 2_000_000);
                    broken += 1;
                    with_duration += usize::from(duration[row] > 0);
                }
            }
        }
        // One in a hundred of 12,000; a third or more of them are servers with a client that waited.
        assert!((80..=160).contains(&broken) && with_duration * 4 > broken, "{}: {broken}, {with_duration}", case.what);
        assert_eq!(case.outcome.report.summary.findings["end_before_start"], broken as u64);
        case.check_p95(1.0);
    }
}

#[test]
fn a_poll_that_began_before_the_publish_moves_nothing() {
    for seed in 1..=3 {
        let case = case("early_poll", seed, |_| ());
        case.nothing_moves();
        // Counted from where the poll began, messages would contradict every call.
        assert_eq!(case.outcome.report.summary.findings.get("negative_cycle"), None, "{}", case.what);
    }
}

const NOON: i64 = 1_712_345_678_000_000_000;

/// A span of a file that is written by hand; times in ns.
#[derive(Clone, Copy)]
struct Hand {
    host: &'static str,
    id: u64,
    parent: u64,
    kind: u8,
    start: i64,
    end: i64,
}

const SERVER: u8 = 2;
const CLIENT: u8 = 3;

fn line(trace: u64, span: &Hand) -> String {
    let Hand { host, id, parent, kind, start, end } = span;
    let parent = if *parent == 0 { String::new() } else { format!(r#""parentSpanId":"{parent:016x}","#) };
    let resource = format!(
        r#"{{"attributes":[{{"key":"service.name","value":{{"stringValue":"{host}"}}}},{{"key":"host.name","value":{{"stringValue":"{host}"}}}},{{"key":"telemetry.sdk.language","value":{{"stringValue":"python"}}}}]}}"#
    );
    let span = format!(
        r#"{{"traceId":"{trace:032x}","spanId":"{id:016x}",{parent}"name":"work","kind":{kind},"startTimeUnixNano":"{start}","endTimeUnixNano":"{end}"}}"#
    );
    format!("{{\"resourceSpans\":[{{\"resource\":{resource},\"scopeSpans\":[{{\"spans\":[{span}]}}]}}]}}\n")
}

/// Start, end, correction and offset.
type Times = (i64, i64, String, i64);

/// Sixty calls from `front` to `back`, whose clock is `ahead_ns` ahead, and the spans of `odd` in a trace of their own.
/// Gives the folder written to, and the start, end, correction and offset of each of `odd`, by id.
fn by_hand(ahead_ns: i64, odd: &[Hand]) -> (tempfile::TempDir, Outcome, Vec<Times>) {
    let mut text = String::new();
    for call in 0..60 {
        let at = NOON + i64::from(call) * 1_013_370_003 + 123_457;
        let jitter = i64::from(call * 37 % 23) * 11_003;
        let front = Hand { host: "front", id: 1, parent: 0, kind: CLIENT, start: at, end: at + 9_000_000 + 2 * jitter };
        let (start, end) = (at + 400_000 + jitter + ahead_ns, at + 8_600_000 + jitter + ahead_ns);
        let back = Hand { host: "back", id: 2, parent: 1, kind: SERVER, start, end };
        text += &(line(1_000 + call as u64, &front) + &line(1_000 + call as u64, &back));
    }
    odd.iter().for_each(|span| text += &line(1, span));
    let folder = tempfile::tempdir().unwrap();
    let input = folder.path().join("traces.jsonl");
    fs::write(&input, text).unwrap();
    let mut asked = settings(&[input], &folder.path().join("out"), &[Write::Parquet, Write::Same]);
    asked.reference = Some("front".to_owned());
    let outcome = fix(&asked);
    let mut found: Vec<(String, Times)> = Vec::new();
    for batch in batches(&traces(&asked.out)) {
        let of = |name| ints(&batch, name);
        let (start, end, offset) = (of("start_unix_nano"), of("end_unix_nano"), of("offset_ns"));
        let (trace, id, correction) =
            (texts(&batch, "trace_id"), texts(&batch, "span_id"), texts(&batch, "correction"));
        found.extend(
            (0..batch.num_rows())
                .filter(|&row| trace[row] == format!("{:032x}", 1))
                .map(|row| (id[row].clone(), (start[row], end[row], correction[row].clone(), offset[row]))),
        );
    }
    found.sort();
    (folder, outcome, found.into_iter().map(|(_, times)| times).collect())
}

#[test]
fn spans_of_1970_and_of_56_years_move_nothing() {
    let early = 123_000_000;
    let years = 50 * 365 * 86_400 * 1_000_000_000;
    let span = |id, parent, kind, host, start, end| Hand { host, id, parent, kind, start, end };
    for ahead_ns in [0, 80_000_000] {
        let odd = [
            span(1, 0, CLIENT, "front", early, early + 5_000_000),
            span(2, 1, SERVER, "back", early + 1_000_000, early + 4_000_000),
            // They last for 54 years and for 50, the last on a host that is seen in no other span.
            span(3, 0, CLIENT, "front", early, NOON),
            span(4, 3, SERVER, "back", NOON + 1_000_000, NOON + 2_000_000),
            span(5, 0, CLIENT, "front", NOON - years, NOON + 5_000_000),
            span(6, 5, SERVER, "lonely", early, NOON),
        ];
        let (folder, outcome, found) = by_hand(ahead_ns, &odd);
        for (found, span) in found.iter().zip(&odd).filter(|(_, span)| span.start == early) {
            assert_eq!((found.0, found.1, found.3), (span.start, span.end, 0), "{ahead_ns}: span {}", span.id);
            assert_eq!(found.2, "no_evidence");
        }
        let clock = |name: &str| outcome.report.clocks.iter().find(|row| row.clock == name).unwrap();
        assert_eq!((clock("lonely").state.as_str(), clock("lonely").moved), ("no_evidence", 0));
        assert_eq!(clock("back").steps, 0);
        let offset = clock("back").offset_largest_ns.unwrap();
        assert!((offset - ahead_ns).abs() < 300_000, "{offset}, and not {ahead_ns}");
        assert_eq!(outcome.report.summary.moved, if ahead_ns == 0 { 0 } else { 61 });
        assert_eq!(outcome.report.summary.findings["implausible_time"], 5);
        assert!(rows(&folder.path().join("out/skew/steps.parquet"), &[]).is_empty());
    }
}

/// As reported: the start is 1.1 ms behind the end, under a parent that encloses both.
#[test]
fn a_reported_end_before_its_start_is_put_inside_its_parent() {
    let (start, end) = (1_712_345_678_901_234_567, 1_712_345_678_900_123_456);
    let parent = Hand {
        host: "front",
        id: 1,
        parent: 0,
        kind: CLIENT,
        start: 1_712_345_678_898_000_000,
        end: 1_712_345_678_905_000_000,
    };
    let broken = Hand { host: "back", id: 2, parent: 1, kind: SERVER, start, end };
    for ahead_ns in [0, 80_000_000] {
        let broken = Hand { start: start + ahead_ns, end: end + ahead_ns, ..broken };
        let (folder, outcome, found) = by_hand(ahead_ns, &[parent, broken]);
        let (written, until, correction, offset) = &found[1];
        assert_eq!(correction, "recovered");
        assert!((written - start).abs() < 300_000, "starts {} ns from where it did", written - start);
        assert!(parent.start < *written && written < until && *until < parent.end, "{written}..{until}");
        assert_eq!(written + offset, broken.start);
        assert_eq!(outcome.report.summary.findings["end_before_start"], 1);
        // What was recorded can be had back.
        let corrected = fs::read_to_string(folder.path().join("out/corrected/traces.jsonl")).unwrap();
        let line = corrected.lines().find(|line| line.contains("\"recovered\"")).unwrap();
        assert!(line.contains(&format!(r#""unskew.original_end_unix_nano","value":{{"intValue":"{}"}}"#, broken.end)));
    }
}

/// With its host on the same clock as the parent nothing tells more than its start.
#[test]
fn a_reported_end_before_its_start_on_its_parents_clock_is_put_at_its_start() {
    let (start, end) = (1_712_345_678_901_234_567, 1_712_345_678_900_123_456);
    let span = |id, parent, start, end| Hand { host: "front", id, parent, kind: 1, start, end };
    let (_, outcome, found) = by_hand(0, &[span(1, 0, start - 5_000_000, start + 5_000_000), span(2, 1, start, end)]);
    assert_eq!(found[1], (start, start, "recovered".to_owned(), 0));
    assert_eq!(outcome.report.summary.findings["end_before_start"], 1);
}
