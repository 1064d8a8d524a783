//! Fleets of which everything is drawn at random, to find what no named scenario has: which of them come out worse than
//! they were recorded, out of order, far off the floor, or with intervals that miss.
//!
//! `cargo bench --bench sweep -- 1 60` makes, corrects and scores fleets 1 to 60; `--against PROGRAM` lets another build
//! of `unskew` correct the same, `--keep FOLDER` leaves each scenario there, for `unskew simulate`.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use rand::{RngExt, SeedableRng};
use rand_pcg::Pcg64Mcg;
use rayon::iter::{IntoParallelIterator, ParallelIterator};
use unskew::score::{self, Gauge, Score};

const PROGRAM: &str = env!("CARGO_BIN_EXE_unskew");

/// Off by more than twice the floor and this much.
const FAR_OFF_NS: f64 = 500_000.0;
/// Where less of the clock-minutes are in their interval, and there are at least so many.
const MISSES: (f64, usize) = (0.6, 10);

struct Draw(Pcg64Mcg);

impl Draw {
    fn unit(&mut self) -> f64 {
        self.0.random()
    }

    fn chance(&mut self, share: f64) -> bool {
        self.unit() < share
    }

    fn between(&mut self, low: f64, high: f64) -> f64 {
        low + (high - low) * self.unit()
    }

    fn log_between(&mut self, low: f64, high: f64) -> f64 {
        self.between(low.ln(), high.ln()).exp()
    }

    fn one_of<T: Copy>(&mut self, all: &[T]) -> T {
        all[self.0.random_range(0..all.len())]
    }
}

/// The text of a scenario: sizes over one or two decades, and each trait of a network, a clock, an SDK or traffic in some
/// of the fleets.
fn scenario(seed: u64) -> String {
    let mut draw = Draw(Pcg64Mcg::seed_from_u64(seed));
    let clocks = draw.log_between(3.0, 60.0) as usize;
    let seconds = draw.log_between(30.0, 3_600.0);
    let spans = draw.log_between(4_000.0, 90_000.0) as usize;
    let mut text = format!("duration_s = {seconds:.0}\nspans = {spans}\n");
    let replaced = draw.chance(0.1) && seconds > 300.0;
    let sampled = draw.chance(0.12);

    // One to three clocks a service.
    let services = 1 + ((clocks - 1) as f64 / draw.between(1.0, 3.0)).ceil() as usize;
    text += &format!("[fleet]\nclocks = {clocks}\nservices = {services}\n");
    if replaced {
        text += &format!("replaced = {{ share = {:.2}, every_s = {:.0} }}\n", draw.between(0.1, 0.4), seconds / 3.0);
    }

    let low_ms = draw.log_between(0.05, 20.0);
    let high_ms = (low_ms * draw.log_between(1.5, 60.0)).min(120.0);
    let asymmetry = draw.one_of(&[0.0, 0.1, 0.3, 0.3, 0.3, 0.45]);
    text += &format!("[links]\none_way_ms = [{low_ms:.3}, {high_ms:.3}]\nasymmetry = {asymmetry}\n");
    text += &format!("jitter = {:.2}\nset_up = {:.2}\n", draw.log_between(0.1, 1.5), draw.between(0.0, 0.15));
    text += &format!("spikes = {:.3}\nspike_ms = {:.0}\n", draw.between(0.0, 0.08), draw.log_between(5.0, 200.0));
    if draw.chance(0.15) {
        let (share, mean_ms) = (draw.between(0.1, 0.5), draw.log_between(2.0, 40.0));
        text += &format!("congested = {{ share = {share:.2}, mean_ms = {mean_ms:.1} }}\n");
    }
    if draw.chance(0.15) {
        let (least_ms, for_s) = (draw.log_between(5.0, 300.0), draw.between(0.1, 0.5) * seconds);
        let ms = format!("[{least_ms:.0}, {:.0}]", 3.0 * least_ms);
        text += &format!("injected = {{ links = {}, ms = {ms}, for_s = {for_s:.0} }}\n", draw.one_of(&[1, 2, 4]));
    }

    text += "[clocks]\n";
    let kept = draw.unit();
    if kept < 0.12 {
        text += &format!("ntp_within_ms = {:.2}\n", draw.log_between(0.1, 5.0));
    } else if kept < 0.17 {
        text += "perfect = true\n";
    } else {
        let (zero, near) = (draw.between(0.0, 0.4), draw.between(0.2, 0.6));
        text += &format!("zero = {zero:.2}\nnear = {near:.2}\nnear_ms = {:.2}\n", draw.log_between(0.3, 30.0));
        if draw.chance(0.7) {
            let (ppm, wander) = (draw.log_between(1.0, 60.0), draw.log_between(0.1, 5.0));
            text += &format!("frequency_ppm = {ppm:.1}\nwander_ppm = {wander:.2}\n");
        }
        if draw.chance(0.4) {
            let (share, most) = (draw.between(0.1, 0.5), draw.one_of(&[1, 2, 3]));
            let ms = draw.one_of(&["[1.0, 30.0]", "[5.0, 1600.0]", "[200.0, 60000.0]"]);
            text += &format!("steps = {{ share = {share:.2}, each = [1, {most}], ms = {ms} }}\n");
        }
        if draw.chance(0.2) {
            let (share, ppm) = (draw.between(0.1, 0.4), draw.one_of(&["[50.0, 500.0]", "[500.0, 80000.0]"]));
            let most_s = draw.between(0.1, 0.5) * seconds;
            let last_s = format!("[{:.0}, {most_s:.0}]", most_s / 4.0);
            text += &format!("slews = {{ share = {share:.2}, ppm = {ppm}, last_s = {last_s} }}\n");
        }
    }

    let parts: [f64; 4] = std::array::from_fn(|_| draw.log_between(0.1, 1.0));
    let share = |index: usize| parts[index] / parts.iter().sum::<f64>();
    text += &format!("[sdk]\nmillisecond_starts = {:.2}\n", share(0) - 0.01);
    text += &format!("wall_clock_ends = {:.2}\nanchored = {:.2}\n", share(1), share(2));
    if draw.chance(0.1) {
        text += "broken = 0.01\nbroken_ms = 2.0\n";
    }

    let hostile = draw.one_of(&[0.0, 0.06, 0.06, 0.25, 0.5]);
    text += &format!("[traffic]\nhostile = {hostile}\nwork_ms = {:.1}\n", draw.log_between(0.5, 40.0));
    text += &format!("retries = {:.2}\nlost = {:.2}\n", draw.between(0.0, 0.1), draw.one_of(&[0.0, 0.01, 0.1, 0.3]));
    text += &format!("errors = 0.01\nbackground = {:.2}\n", draw.between(0.0, 0.2));
    let mix: [f64; 4] = std::array::from_fn(|_| draw.log_between(0.1, 1.0));
    text += &format!("mix = {{ messaging = {:.2}, gives_up = {:.2}, ", mix[0], mix[1]);
    text += &format!("fire_and_forget = {:.2}, client_missing = {:.2} }}\n", mix[2], mix[3]);
    if sampled {
        text += &format!("[sampling]\nslowest = 0.05\nrest = {:.2}\n", draw.between(0.1, 0.5));
    }
    text
}

fn run(command: &mut Command) {
    let output = command.output().unwrap();
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
}

/// What a program makes of the fleet in a folder.
fn corrected(program: &Path, fleet: &Path) -> Score {
    let fixed = fleet.join("fixed");
    let _ = fs::remove_dir_all(&fixed);
    let mut fix = Command::new(program);
    fix.arg("fix").arg(fleet.join("traces.binpb")).args(["--reference", "gateway-1", "--annotate", "none", "--out"]);
    run(fix.arg(&fixed));
    score::score(&fixed, &fleet.join("truth.parquet"), Gauge::None).unwrap()
}

struct Fleet {
    seed: u64,
    score: Score,
    against: Option<Score>,
}

fn measured(seed: u64, against: Option<&Path>, keep: Option<&Path>) -> Fleet {
    let folder = tempfile::tempdir().unwrap();
    let file = keep.unwrap_or(folder.path()).join(format!("{seed}.toml"));
    fs::write(&file, format!("seed = {seed}\noutputs = [\"protobuf\"]\n{}", scenario(seed))).unwrap();
    run(Command::new(PROGRAM).arg("simulate").arg(&file).arg("--out").arg(folder.path()));
    let score = corrected(Path::new(PROGRAM), folder.path());
    Fleet { seed, score, against: against.map(|program| corrected(program, folder.path())) }
}

fn covered(score: &Score) -> f64 {
    score.coverage.covered as f64 / score.coverage.cells.max(1) as f64
}

fn floor_ns(score: &Score) -> f64 {
    score.floor.map_or(0.0, |floor| floor.p95_ns)
}

fn line(fleet: &Fleet) -> String {
    let Fleet { seed, score, against } = fleet;
    let ms = |ns: f64| format!("{:.3}", ns / 1e6);
    let Score { corrected, doing_nothing, .. } = score;
    let cells = [
        seed.to_string(),
        score.spans.to_string(),
        score.clocks.len().to_string(),
        ms(corrected.error.p50_ns),
        ms(corrected.error.p95_ns),
        ms(corrected.error.p99_ns),
        ms(floor_ns(score)),
        ms(doing_nothing.error.p95_ns),
        format!("{} → {}", doing_nothing.inversions.inverted, corrected.inversions.inverted),
        format!("{:.1}", 100.0 * covered(score)),
        against.as_ref().map_or(String::new(), |against| ms(against.corrected.error.p95_ns)),
    ];
    cells.iter().fold(String::from("|"), |line, cell| line + " " + cell + " |")
}

const HEAD: &str = "\
| fleet | spans | clocks | p50, ms | p95 | p99 | floor p95 | nothing p95 | inversions | covered, % | p95 of the other |
|---|---|---|---|---|---|---|---|---|---|---|";

fn tell(what: &str, fleets: &[Fleet], is: impl Fn(&Score) -> bool) {
    let seeds: Vec<String> = fleets.iter().filter(|one| is(&one.score)).map(|one| one.seed.to_string()).collect();
    println!("- {what}: {} of {}: {}", seeds.len(), fleets.len(), seeds.join(", "));
}

fn summarize(fleets: &[Fleet]) {
    println!();
    tell("p95 above that of the spans as recorded", fleets, |score| {
        score.corrected.error.p95_ns > score.doing_nothing.error.p95_ns
    });
    tell("more pairs out of order than as recorded", fleets, |score| {
        score.corrected.inversions.inverted > score.doing_nothing.inversions.inverted
    });
    tell("p95 beyond 2 × floor + 0.5 ms", fleets, |score| {
        score.corrected.error.p95_ns > 2.0 * floor_ns(score) + FAR_OFF_NS
    });
    tell("p99 beyond 2 × its p95 + 0.5 ms", fleets, |score| {
        score.corrected.error.p99_ns > 2.0 * score.corrected.error.p95_ns + FAR_OFF_NS
    });
    tell("intervals that hold in less than 60 % of clock-minutes", fleets, |score| {
        covered(score) < MISSES.0 && score.coverage.cells >= MISSES.1
    });
    let cells: usize = fleets.iter().map(|fleet| fleet.score.coverage.cells).sum();
    let inside: usize = fleets.iter().map(|fleet| fleet.score.coverage.covered).sum();
    let mean = fleets.iter().map(|fleet| covered(&fleet.score)).sum::<f64>() / fleets.len() as f64;
    println!(
        "- covered: {:.1} % of {cells} clock-minutes, {:.1} % in the mean over fleets",
        100.0 * inside as f64 / cells.max(1) as f64,
        100.0 * mean
    );
    let factor = |fleet: &Fleet| {
        let other = fleet.against.as_ref()?;
        Some((fleet.score.corrected.error.p95_ns.max(1e3) / other.corrected.error.p95_ns.max(1e3), fleet.seed))
    };
    let mut factors: Vec<(f64, u64)> = fleets.iter().filter_map(factor).collect();
    if factors.is_empty() {
        return;
    }
    factors.sort_by(|one, other| one.0.total_cmp(&other.0));
    let mean = factors.iter().map(|(factor, _)| factor.ln()).sum::<f64>() / factors.len() as f64;
    let text = |some: &[(f64, u64)]| {
        some.iter().map(|(factor, seed)| format!("{factor:.2} ({seed})")).collect::<Vec<_>>().join(", ")
    };
    println!("- p95 ÷ that of the other program, geometric mean: {:.3}", mean.exp());
    println!("- least: {}", text(&factors[..factors.len().min(8)]));
    println!("- most: {}", text(&factors[factors.len().saturating_sub(8)..]));
}

fn main() {
    let mut arguments = std::env::args().skip(1).filter(|argument| argument != "--bench");
    let (mut against, mut keep, mut seeds) = (None, None, Vec::new());
    while let Some(argument) = arguments.next() {
        let mut path = || PathBuf::from(arguments.next().expect("a path behind --against, --keep"));
        match argument.as_str() {
            "--against" => against = Some(path()),
            "--keep" => keep = Some(path()),
            number => seeds.push(number.parse::<u64>().expect("the first and the last fleet")),
        }
    }
    let (first, last) = (seeds.first().copied().unwrap_or(1), seeds.get(1).copied().unwrap_or(60));
    if let Some(folder) = &keep {
        fs::create_dir_all(folder).unwrap();
    }
    println!("{HEAD}");
    let mut fleets: Vec<Fleet> = (first..=last)
        .into_par_iter()
        .map(|seed| {
            let fleet = measured(seed, against.as_deref(), keep.as_deref());
            println!("{}", line(&fleet));
            fleet
        })
        .collect();
    fleets.sort_by_key(|fleet| fleet.seed);
    summarize(&fleets);
}
