//! What each ingredient of the estimator buys: the program without it, beside the program as it is.
//!
//! `cargo bench --bench ablation` takes out one after the other; names after `--` take only those, `--from 21` fleets of
//! seeds from 21 on, and `--seeds 40` so many. The switches are here and not in the product: each is a text of the source
//! and what stands in its place. One that no longer fits the source fails before anything is built.

#[path = "ablation/ingredients.rs"]
mod ingredients;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use ingredients::{Figure, INGREDIENTS, Ingredient, Shown};
use rayon::iter::{IntoParallelRefIterator, ParallelIterator};
use serde_json::Value;

const SEEDS: u64 = 5;
const FIRST_SEED: u64 = 41;

const HEAD: &str = "\
| ingredient | instead | scenario | figure | with | without | worse by: least, median, most of the seeds | mean ÷ spread |
|---|---|---|---|---|---|---|---|";

impl Figure {
    fn of(self, score: &Value) -> f64 {
        let number = |path: &str| score.pointer(path).and_then(Value::as_f64).unwrap_or(f64::NAN);
        match self {
            Self::P95 => number("/corrected/error/p95_ns") / 1e3,
            Self::P99 => number("/corrected/error/p99_ns") / 1e3,
            Self::Interval => number("/coverage/median_uncertainty_ns") / 1e3,
            Self::Missed => {
                let cells = number("/coverage/cells");
                100.0 * (cells - number("/coverage/covered")) / cells.max(1.0)
            }
            Self::Inverted => number("/corrected/inversions/inverted"),
        }
    }

    /// Of several fleets, the geometric mean; less than one of it counts as one.
    fn of_all(self, scores: &[Value]) -> f64 {
        match scores {
            [score] => self.of(score),
            _ => (scores.iter().map(|score| self.of(score).max(1.0).ln()).sum::<f64>() / scores.len() as f64).exp(),
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::P95 => "p95, µs",
            Self::P99 => "p99, µs",
            Self::Interval => "median interval, ± µs",
            Self::Missed => "clock-minutes outside the interval, %",
            Self::Inverted => "inversions left",
        }
    }
}

impl Shown {
    fn name(&self) -> String {
        let fleets = if self.fleets == 1 { String::new() } else { format!(", {} a seed", self.fleets) };
        format!("{}{fleets}{}", self.scenario, if self.reference { "" } else { ", no reference" })
    }
}

/// The logarithm of the factor by which a figure grew; less than one of it counts as one.
fn worse(with: f64, without: f64) -> f64 {
    (without.max(1.0) / with.max(1.0)).ln()
}

fn text_of_worse(worse: f64) -> String {
    if worse.exp() < 10.0 { format!("× {:.2}", worse.exp()) } else { format!("× {:.0}", worse.exp()) }
}

/// A folder of its own for all that is made here, wiped at the start.
fn work() -> PathBuf {
    root().join("target/ablation")
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn run(command: &mut Command) -> Vec<u8> {
    let output = command.stderr(Stdio::piped()).output().unwrap();
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
    output.stdout
}

/// All files of `src`, below `into`.
fn copy(from: &Path, into: &Path) {
    fs::create_dir_all(into).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let path = entry.unwrap().path();
        let copied = into.join(path.file_name().unwrap());
        if path.is_dir() {
            copy(&path, &copied);
        } else {
            fs::copy(&path, &copied).unwrap();
        }
    }
}

/// The source files that an ingredient changes, as they are without it.
fn replaced(ingredient: &Ingredient) -> BTreeMap<PathBuf, String> {
    let mut files = BTreeMap::new();
    for (file, old, new) in ingredient.replace {
        let path = Path::new("src/estimate").join(file);
        let text = files.entry(path.clone()).or_insert_with(|| fs::read_to_string(root().join(&path)).unwrap());
        let times = text.matches(old).count();
        assert!(times == 1, "{}: {} has {times} times: {old}", ingredient.name, path.display());
        *text = text.replace(old, new);
    }
    files
}

/// The program built from the source with some files replaced. Every build has one folder in common: what does not
/// change is not compiled again.
fn build(name: &str, replaced: &BTreeMap<PathBuf, String>) -> PathBuf {
    let package = work().join("package");
    let _ = fs::remove_dir_all(&package);
    copy(&root().join("src"), &package.join("src"));
    for file in ["Cargo.toml", "Cargo.lock"] {
        fs::copy(root().join(file), package.join(file)).unwrap();
    }
    // Cargo wants all targets that it is told of, even where it builds none of them.
    let manifest: toml::Table = fs::read_to_string(package.join("Cargo.toml")).unwrap().parse().unwrap();
    for (kind, folder) in [("bench", "benches"), ("test", "tests")] {
        fs::create_dir_all(package.join(folder)).unwrap();
        for target in manifest[kind].as_array().unwrap() {
            let target = target["name"].as_str().unwrap();
            fs::write(package.join(folder).join(target).with_extension("rs"), "").unwrap();
        }
    }
    for (path, text) in replaced {
        fs::write(package.join(path), text).unwrap();
    }
    let mut cargo = Command::new(env!("CARGO"));
    // What the outer cargo says of this package would have some dependencies built anew.
    for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("CARGO_") && name != "CARGO_HOME") {
        cargo.env_remove(name);
    }
    cargo.args(["build", "--release", "--locked", "--bin", "unskew", "--target-dir"]).arg(work().join("target"));
    run(cargo.env("CARGO_INCREMENTAL", "1").current_dir(&package));
    let program = work().join("programs").join(name);
    fs::create_dir_all(program.parent().unwrap()).unwrap();
    fs::copy(work().join("target/release/unskew"), &program).unwrap();
    program
}

struct Fleets {
    /// The program as it is, which makes and scores all fleets.
    unchanged: PathBuf,
    seeds: std::ops::Range<u64>,
    /// By scenario, how many fleets a seed stands for, and whether they have a reference: by seed and fleet.
    known: BTreeMap<(&'static str, u64, bool), Vec<Vec<Value>>>,
}

impl Fleets {
    /// The seeds of the fleets that each seed stands for.
    fn batches(&self, fleets: u64) -> Vec<Vec<u64>> {
        let of = |seed: u64| match fleets {
            1 => vec![seed],
            _ => (0..fleets).map(|fleet| 100 * seed + fleet).collect(),
        };
        self.seeds.clone().map(of).collect()
    }

    /// The folder of a scenario's fleets, those of some seeds made if need be.
    fn simulate(&self, scenario: &str, seeds: &[u64]) -> PathBuf {
        let fleets = work().join("fleets").join(scenario);
        fs::create_dir_all(&fleets).unwrap();
        let folders = ["tests/accuracy/scenarios", "benches/ablation", "tests/cases"];
        let mut files = folders.iter().map(|folder| root().join(folder).join(scenario).with_extension("toml"));
        let file = files.find(|file| file.exists()).unwrap_or_else(|| panic!("no scenario {scenario:?}"));
        let text = format!("outputs = [\"protobuf\"]\n{}", fs::read_to_string(file).unwrap());
        fs::write(fleets.join("scenario.toml"), text).unwrap();
        seeds.par_iter().filter(|seed| !fleets.join(seed.to_string()).exists()).for_each(|seed| {
            let mut command = Command::new(&self.unchanged);
            command.arg("simulate").arg(fleets.join("scenario.toml")).args(["--seed", &seed.to_string()]);
            run(command.arg("--out").arg(fleets.join(seed.to_string())));
        });
        fleets
    }

    /// What a program makes of a scenario's fleets.
    fn measure(&self, program: &Path, shown: &Shown) -> Vec<Vec<Value>> {
        let batches = self.batches(shown.fleets);
        let fleets = self.simulate(shown.scenario, &batches.concat());
        let score = |seed: &u64| {
            let fleet = fleets.join(seed.to_string());
            let fixed = fleets.join(format!("{seed}-fixed"));
            let _ = fs::remove_dir_all(&fixed);
            let mut fix = Command::new(program);
            fix.arg("fix").arg(fleet.join("traces.binpb")).args(["--annotate", "none"]);
            let mut score = Command::new(&self.unchanged);
            score.arg("score").arg(&fixed).arg("--truth").arg(fleet.join("truth.parquet")).arg("--json");
            if shown.reference {
                fix.args(["--reference", "gateway-1"]);
            } else {
                score.args(["--gauge", "median"]);
            }
            run(fix.arg("--out").arg(&fixed));
            let score = serde_json::from_slice(&run(&mut score)).unwrap();
            fs::remove_dir_all(&fixed).unwrap();
            score
        };
        batches.par_iter().map(|seeds| seeds.par_iter().map(score).collect()).collect()
    }

    /// Rows of the table, one for each figure.
    fn compare(&mut self, ingredient: &Ingredient, program: &Path, shown: &Shown) -> Vec<String> {
        let key = (shown.scenario, shown.fleets, shown.reference);
        if !self.known.contains_key(&key) {
            self.known.insert(key, self.measure(&self.unchanged, shown));
        }
        let without = self.measure(program, shown);
        let row = |figure: &Figure| row(ingredient, shown, *figure, &self.known[&key], &without);
        shown.figures.iter().map(row).collect()
    }
}

fn row(ingredient: &Ingredient, shown: &Shown, figure: Figure, with: &[Vec<Value>], without: &[Vec<Value>]) -> String {
    let of = |scores: &[Vec<Value>]| scores.iter().map(|scores| figure.of_all(scores)).collect::<Vec<f64>>();
    let (with, without) = (of(with), of(without));
    let worse: Vec<f64> = with.iter().zip(&without).map(|(&with, &without)| worse(with, without)).collect();
    let [least, median, most] = spread_out(&worse).map(text_of_worse);
    let cells = [
        ingredient.name.to_owned(),
        ingredient.instead.to_owned(),
        shown.name(),
        figure.name().to_owned(),
        format!("{:.1}", spread_out(&with)[1]),
        format!("{:.1}", spread_out(&without)[1]),
        format!("{least}, {median}, {most}"),
        over_spread(&worse),
    ];
    cells.iter().fold(String::from("|"), |line, cell| line + " " + cell + " |")
}

/// Least, median, largest.
fn spread_out(values: &[f64]) -> [f64; 3] {
    let mut sorted = values.to_vec();
    sorted.sort_unstable_by(f64::total_cmp);
    [sorted[0], sorted[sorted.len() / 2], sorted[sorted.len() - 1]]
}

/// How much worse in the mean over the seeds, in standard deviations over the seeds of the same: seed by seed, as
/// fleets differ among themselves by more than any estimator does. Above 1 an ingredient earned its place: chance alone
/// does that to one in twenty that are worth nothing (t > √5, four degrees of freedom).
fn over_spread(worse: &[f64]) -> String {
    let mean = worse.iter().sum::<f64>() / worse.len() as f64;
    let square: f64 = worse.iter().map(|worse| (worse - mean).powi(2)).sum();
    let spread = (square / (worse.len() - 1) as f64).sqrt();
    match mean {
        0.0 => "no change".to_owned(),
        _ if mean > spread => format!("**{:.1}**", mean / spread),
        _ => format!("{:.1}", mean / spread),
    }
}

fn main() {
    let mut arguments = std::env::args().skip(1).filter(|argument| argument != "--bench");
    let (mut first, mut seeds, mut named) = (FIRST_SEED, SEEDS, Vec::new());
    while let Some(argument) = arguments.next() {
        let mut number =
            || arguments.next().and_then(|next| next.parse().ok()).expect("a number behind --from, --seeds");
        match argument.as_str() {
            "--from" => first = number(),
            "--seeds" => seeds = number(),
            _ => named.push(argument),
        }
    }
    for name in &named {
        assert!(INGREDIENTS.iter().any(|ingredient| ingredient.name == *name), "no ingredient {name:?}");
    }
    let chosen = INGREDIENTS.iter().filter(|one| named.is_empty() || named.iter().any(|name| *name == one.name));
    let chosen: Vec<_> = chosen.map(|ingredient| (ingredient, replaced(ingredient))).collect();

    let _ = fs::remove_dir_all(work().join("fleets"));
    let unchanged = build("unchanged", &BTreeMap::new());
    let mut fleets = Fleets { unchanged, seeds: first..first + seeds, known: BTreeMap::new() };
    println!("{HEAD}");
    for (ingredient, replaced) in chosen {
        let program = build(ingredient.name, &replaced);
        for shown in ingredient.shown {
            fleets.compare(ingredient, &program, shown).iter().for_each(|row| println!("{row}"));
        }
    }
}
