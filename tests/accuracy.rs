//! What a correction is worth on simulated fleets: scenario, seeds, limits.
//!
//! `cargo test --release --test accuracy` measures all rows, each on its seeds from 1, and fails where a limit does not
//! hold.
//! After `--`: names of scenarios to measure only those, `--seeds 10` for seeds 1 to 10, and `--table` to write
//! `tests/accuracy/README.md` from what was measured.

use std::fmt::Write as _;
use std::path::Path;
use std::process::ExitCode;

use unskew::score::{self, Gauge, Score};
use unskew::settings::{Annotate, Fix, Write};
use unskew::simulate::{self, scenario};

/// A scenario of `tests/accuracy/scenarios`.
struct Row {
    scenario: &'static str,
    /// From seed 1.
    seeds: u64,
    /// What holds, and is held.
    held: &'static [Limit],
    /// What is aimed at and not reached yet: measured and told, not failed for. Once it holds, it belongs above.
    open: &'static [Limit],
}

/// What has to hold in the median over a row's seeds, and on no seed be missed by more than [`Limit::slack`].
#[derive(Clone, Copy, Debug)]
enum Limit {
    /// p95 ≤ times × floor + plus.
    P95Floor {
        times: f64,
        plus_us: f64,
    },
    P95 {
        us: f64,
    },
    P99 {
        ms: f64,
    },
    /// p95 of per-trace centring is so many times ours.
    BeatsCentring {
        times: f64,
    },
    /// Synchronous pairs left out of order, of all.
    InversionsLeft {
        share: f64,
    },
    /// p95 is not above that of doing nothing.
    NoWorseThanNothing,
    /// But on one seed in ten, and there p95 is within the floor.
    NothingMoves,
}
use Limit::*;

const ASYMMETRIC: Limit = P95Floor { times: 1.25, plus_us: 30.0 };
const FEW_LEFT: Limit = InversionsLeft { share: 0.0005 };

const ROWS: [Row; 14] = [
    Row { scenario: "const", seeds: 3, held: &[ASYMMETRIC, BeatsCentring { times: 40.0 }, FEW_LEFT], open: &[] },
    Row { scenario: "drift", seeds: 3, held: &[ASYMMETRIC, BeatsCentring { times: 40.0 }], open: &[] },
    Row { scenario: "symmetric", seeds: 3, held: &[P95 { us: 60.0 }], open: &[] },
    Row { scenario: "sparse", seeds: 3, held: &[P95Floor { times: 1.5, plus_us: 60.0 }], open: &[] },
    Row { scenario: "steps", seeds: 3, held: &[P95Floor { times: 1.25, plus_us: 50.0 }, P99 { ms: 2.0 }], open: &[] },
    Row { scenario: "brief", seeds: 3, held: &[P95Floor { times: 2.0, plus_us: 60.0 }, P99 { ms: 2.0 }], open: &[] },
    Row { scenario: "hostile", seeds: 3, held: &[P95Floor { times: 2.5, plus_us: 60.0 }], open: &[] },
    Row { scenario: "far", seeds: 3, held: &[P95Floor { times: 1.25, plus_us: 300.0 }], open: &[] },
    Row { scenario: "slews", seeds: 3, held: &[P95Floor { times: 1.25, plus_us: 60.0 }, P99 { ms: 5.0 }], open: &[] },
    Row { scenario: "tail_sampled", seeds: 3, held: &[P95Floor { times: 1.25, plus_us: 50.0 }], open: &[] },
    Row { scenario: "injected", seeds: 3, held: &[P95Floor { times: 1.25, plus_us: 40.0 }], open: &[] },
    Row { scenario: "ephemeral", seeds: 3, held: &[P95Floor { times: 1.5, plus_us: 60.0 }], open: &[] },
    Row { scenario: "ntp", seeds: 10, held: &[NoWorseThanNothing, FEW_LEFT], open: &[] },
    Row { scenario: "perfect", seeds: 10, held: &[NothingMoves, InversionsLeft { share: 0.0 }], open: &[] },
];

/// Of the 95 % interval, over all cells of clocks and minutes of all fleets: at least, at most; and what no scenario may
/// be below.
const COVERAGE: [f64; 3] = [0.92, 0.98, 0.88];

/// Coverage is measured on fleets of its own, each with another seed, so that no two share their links: within a fleet
/// the errors of all clocks are much the same draw of a few asymmetries.
const COVERAGE_SEEDS: std::ops::Range<u64> = 101..106;

impl Limit {
    fn holds(self, seeds: &[Score]) -> bool {
        if let NothingMoves = self {
            let moved: Vec<&Score> = seeds.iter().filter(|score| score.moves.max_ns > 0.0).collect();
            let within = |score: &&Score| score.corrected.error.p95_ns <= score.floor.map_or(0.0, |floor| floor.p95_ns);
            return moved.len() <= seeds.len().div_ceil(10).min(seeds.len() / 2) && moved.iter().all(within);
        }
        holds(seeds.iter().map(|score| self.reached(score)).collect(), self.slack())
    }

    /// What a seed comes to, in parts of the limit: within it up to 1.
    fn reached(self, score: &Score) -> f64 {
        let part = |value: f64, limit: f64| if value > 0.0 { value / limit } else { 0.0 };
        let error = score.corrected.error;
        match self {
            P95Floor { times, plus_us } => {
                let floor = score.floor.map_or(0.0, |floor| floor.p95_ns);
                part(error.p95_ns, times * floor + plus_us * 1e3)
            }
            P95 { us } => part(error.p95_ns, us * 1e3),
            P99 { ms } => part(error.p99_ns, ms * 1e6),
            BeatsCentring { times } => part(times, score.centring_over_ours.unwrap_or(f64::INFINITY)),
            InversionsLeft { share } => part(left(score), share),
            NoWorseThanNothing => part(error.p95_ns, score.doing_nothing.error.p95_ns),
            NothingMoves => part(score.moves.max_ns, 0.0),
        }
    }

    /// By how much a single seed may miss the limit, as a factor: the floor of one fleet, and one that NTP keeps, are luck.
    fn slack(self) -> f64 {
        if let NoWorseThanNothing = self { 1.1 } else { 1.3 }
    }

    fn text(self) -> String {
        match self {
            P95Floor { times, plus_us } => format!("p95 ≤ {times} × floor + {plus_us} µs"),
            P95 { us } => format!("p95 ≤ {us} µs"),
            P99 { ms } => format!("p99 ≤ {ms} ms"),
            BeatsCentring { times } => format!("centring ÷ ours ≥ {times}"),
            InversionsLeft { share: 0.0 } => "no inversion left".to_owned(),
            InversionsLeft { share } => format!("inversions left ≤ {} %", 100.0 * share),
            NoWorseThanNothing => "p95 ≤ that of doing nothing".to_owned(),
            NothingMoves => "nothing moves in nine of ten".to_owned(),
        }
    }
}

/// Whether parts of a limit are within it in the median (of two in the middle, the larger), and none is beyond its slack.
fn holds(mut parts: Vec<f64>, slack: f64) -> bool {
    parts.sort_by(f64::total_cmp);
    parts.get(parts.len() / 2).is_some_and(|median| *median <= 1.0) && parts.iter().all(|part| *part <= slack)
}

fn left(score: &Score) -> f64 {
    score.corrected.inversions.inverted as f64 / score.pairs.synchronous.max(1) as f64
}

fn measure(name: &str, seed: u64) -> Score {
    let scenarios = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/accuracy/scenarios");
    let scenario = scenario::read(&scenarios.join(name).with_extension("toml")).unwrap();
    let simulated = simulate::run(&scenario::Scenario { seed, outputs: vec![scenario::Output::Protobuf], ..scenario });
    let simulated = simulated.unwrap();
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    std::fs::write(path("traces.binpb"), simulated.protobuf.unwrap()).unwrap();
    std::fs::write(path("truth.parquet"), simulated.truth).unwrap();
    let settings = Fix {
        inputs: vec![path("traces.binpb").display().to_string()],
        out: path("fixed"),
        write: vec![Write::Parquet],
        annotate: Annotate::None,
        reference: Some(simulated.summary.reference),
        after: None,
        context: Vec::new(),
        clock_keys: Vec::new(),
        max_correction_ns: None,
        dry_run: false,
        enforce_causality: false,
        exchanges: false,
        max_record: unskew::io::MAX_RECORD,
        force: false,
    };
    let outcome = unskew::run::fix(&settings, &mut std::io::empty(), |_| {}).unwrap();
    assert_eq!(outcome.report.summary.findings.get("shared_key"), None, "each host is one clock");
    score::score(&path("fixed"), &path("truth.parquet"), Gauge::None).unwrap()
}

/// One line of the table.
fn line(scenario: &str, seed: &str, score: &Score) -> String {
    let ms = |ns: f64| format!("{:.3}", ns / 1e6);
    let Score { corrected, centring, doing_nothing, floor, coverage, .. } = score;
    let cells = [
        scenario.to_owned(),
        seed.to_owned(),
        ms(corrected.error.p50_ns),
        ms(corrected.error.p95_ns),
        ms(corrected.error.p99_ns),
        floor.map_or_else(|| "–".to_owned(), |floor| ms(floor.p95_ns)),
        ms(doing_nothing.error.p95_ns),
        ms(centring.error.p95_ns),
        score.centring_over_ours.map_or_else(|| "–".to_owned(), |times| format!("{times:.1}")),
        format!("{} → {}", doing_nothing.inversions.inverted, corrected.inversions.inverted),
        format!("{:.3}", 100.0 * left(score)),
        format!("{:.1}", 100.0 * coverage.covered as f64 / coverage.cells.max(1) as f64),
    ];
    cells.iter().fold(String::from("|"), |line, cell| line + " " + cell + " |")
}

const HEAD: &str = "\
| scenario | seed | p50 | p95 | p99 | floor p95 | nothing p95 | centring p95 | centring ÷ ours | inversions | left, % | covered, % |
|---|---|---|---|---|---|---|---|---|---|---|---|";

const INTRODUCTION: &str = "\
# Accuracy on simulated fleets

Made by `cargo test --release --test accuracy -- --table`; the scenarios are beside this file, and
`tests/accuracy.rs` holds the limits.

Errors of starts in ms, of all spans but those on the reference clock and those that straddle a step; nothing is
subtracted. *Floor*: what a solve is left with that knows every link's base delays but not which way it is slower.
*Nothing*: the spans as recorded. *Centring*: each child centred in its parent, one trace at a time, as Jaeger does.
*Inversions*: of synchronous pairs across clocks, as recorded → corrected, and the share left. *Covered*: clock-minutes
in which the stated 95 % interval holds the truth.
";

struct Covered {
    holds: bool,
    text: String,
}

/// How often the stated interval holds the truth, over all scenarios in which clocks are wrong.
fn coverage(named: &[&str]) -> Covered {
    let (mut covered, mut cells, mut fleets) = (0, 0, 0);
    let mut below = Vec::new();
    let wrong = ROWS.iter().enumerate().filter(|(_, row)| row.scenario != "perfect");
    for (index, row) in wrong.filter(|(_, row)| named.is_empty() || named.contains(&row.scenario)) {
        let mut of_row = (0, 0);
        for seed in COVERAGE_SEEDS {
            let found = measure(row.scenario, seed + 5 * index as u64).coverage;
            of_row = (of_row.0 + found.covered, of_row.1 + found.cells);
            fleets += 1;
        }
        (covered, cells) = (covered + of_row.0, cells + of_row.1);
        let share = of_row.0 as f64 / of_row.1.max(1) as f64;
        if share < COVERAGE[2] {
            below.push(format!("{} {:.1} %", row.scenario, 100.0 * share));
        }
    }
    let share = covered as f64 / cells.max(1) as f64;
    let [least, most, of_scenario] = COVERAGE.map(|part| 100.0 * part);
    let named_below = if below.is_empty() { "none".to_owned() } else { below.join(", ") };
    Covered {
        holds: below.is_empty() && ((COVERAGE[0]..=COVERAGE[1]).contains(&share) || !named.is_empty()),
        text: format!(
            "coverage: {:.1} % of {cells} clock-minutes of {fleets} more fleets (held: {least} to {most} %); scenarios \
             below {of_scenario} %: {named_below}",
            100.0 * share,
        ),
    }
}

/// Of three seeds one may miss a limit by a little, neither two nor by a lot: this suite has no harness, so it is asked here.
fn check_limits() {
    assert!(holds(vec![0.5, 1.29, 1.0], 1.3));
    assert!(!holds(vec![0.5, 1.29, 1.01], 1.3));
    assert!(!holds(vec![0.5, 1.31, 0.5], 1.3));
    assert!(!holds(vec![0.5, 1.01], 1.3));
    assert!(!holds(Vec::new(), 1.3));
}

fn main() -> ExitCode {
    check_limits();
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let asked: Option<u64> = arguments
        .iter()
        .position(|argument| argument == "--seeds")
        .map(|place| arguments.get(place + 1).and_then(|count| count.parse().ok()).expect("--seeds takes a number"));
    let named: Vec<&str> = arguments
        .iter()
        .map(String::as_str)
        .filter(|name| !name.starts_with("--") && name.parse::<u64>().is_err())
        .collect();
    for name in &named {
        assert!(ROWS.iter().any(|row| row.scenario == *name), "no row {name:?}");
    }

    let (mut passed, mut failed) = (0, 0);
    let (mut table, mut limits) = (String::new(), String::new());
    println!("{HEAD}");
    for row in ROWS.iter().filter(|row| named.is_empty() || named.contains(&row.scenario)) {
        let seeds = asked.unwrap_or(row.seeds);
        let scores: Vec<Score> = (1..=seeds).map(|seed| measure(row.scenario, seed)).collect();
        for (seed, score) in (1..).zip(&scores) {
            let line = line(row.scenario, &format!("{seed}"), score);
            println!("{line}");
            let _ = writeln!(table, "{line}");
        }
        for limit in row.held {
            let (scenario, text) = (row.scenario, limit.text());
            if limit.holds(&scores) {
                passed += 1;
                let _ = writeln!(limits, "- {scenario}: {text}: held");
            } else {
                failed += 1;
                println!("FAILED {scenario}, seeds 1 to {seeds}: {text}");
                let _ = writeln!(limits, "- {scenario}: {text}: **fails**");
            }
        }
        for limit in row.open {
            let (scenario, text) = (row.scenario, limit.text());
            let reached = if limit.holds(&scores) { "reached; hold it from now on" } else { "not reached yet" };
            println!("open   {scenario}: {text}: {reached}");
            let _ = writeln!(limits, "- {scenario}: {text}: {reached}");
        }
    }
    let coverage = coverage(&named);
    println!("{}", coverage.text);
    if coverage.holds {
        passed += 1;
    } else {
        failed += 1;
        println!("FAILED coverage");
    }
    if arguments.iter().any(|argument| argument == "--table") {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/accuracy/README.md");
        std::fs::write(path, format!("{INTRODUCTION}\n{HEAD}\n{table}\n{limits}- {}\n", coverage.text)).unwrap();
    }
    let result = if failed == 0 { "ok" } else { "FAILED" };
    println!("test result: {result}. {passed} passed; {failed} failed");
    if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
