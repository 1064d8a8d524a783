//! How the estimator grows with the fleet: seconds and memory, clocks doubling.
//!
//! `cargo bench --bench scale -- 625 1250` takes those numbers of clocks; each in a process of its own, so that its
//! memory is its own. Clocks drift, links are asymmetric, a reading is one gap of one call.

#[path = "scale/fleet.rs"]
mod fleet;

use std::process::Command;
use std::time::Instant;

use fleet::Fleet;
use unskew::clock::ClockId;
use unskew::estimate::{self, Evidence, Settings};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// An hour, a call every ten seconds.
const SECONDS: f64 = 3_600.0;
const CALLS_PER_SECOND: f64 = 0.1;

/// So many links' calls are held at a time: all of ten thousand clocks' are more than memory holds, so they are rolled
/// up as they come, to windows as long as the estimator would choose for all of them.
const LINKS_ABREAST: usize = 2_000;
const UNKNOWNS: f64 = 150_000.0;
const LEAST_WINDOW_S: f64 = 20.0;

/// With the seconds that it took to roll it up.
fn evidence(fleet: &mut Fleet) -> (Evidence, f64) {
    let window_s = fleet.seconds * fleet.clocks.len() as f64 / UNKNOWNS;
    let mut all = Evidence::default();
    let mut seconds = 0.0;
    for first in (0..fleet.links.len()).step_by(LINKS_ABREAST) {
        let part = fleet.evidence(first..(first + LINKS_ABREAST).min(fleet.links.len()));
        let start = Instant::now();
        let part = if window_s < LEAST_WINDOW_S { part } else { part.rolled_up((window_s * 1e9) as i64) };
        seconds += start.elapsed().as_secs_f64();
        (all.clocks, all.classes) = (part.clocks, part.classes);
        all.readings.extend(part.readings);
        if let Some(part) = part.rolled_up {
            let rolled_up = all.rolled_up.get_or_insert_default();
            rolled_up.window_ns = part.window_ns;
            rolled_up.usual.extend(part.usual);
        }
    }
    (all, seconds)
}

fn peak_mb() -> f64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmHWM")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<f64>().unwrap() / 1e3
}

fn one(clocks: usize) {
    let mut fleet = Fleet::new(clocks, SECONDS, CALLS_PER_SECOND);
    let (evidence, rolling_up) = evidence(&mut fleet);
    let before = peak_mb();
    let start = Instant::now();
    let settings = Settings { reference: Some(ClockId(0)), ..Settings::default() };
    let estimate = estimate::clocks(&evidence, &fleet.reach(), &settings);
    let seconds = start.elapsed().as_secs_f64();
    let errors = fleet.errors(&estimate.map);
    println!(
        "{clocks:>6} clocks {:>6} links {:>9} readings {rolling_up:>5.1} s to roll up {seconds:>6.1} s to solve \
         {:>5.0} MB ({before:.0} before) p50 {:.0} p95 {:.0} us",
        fleet.links.len(),
        evidence.readings.len(),
        peak_mb(),
        errors[errors.len() / 2] / 1e3,
        errors[errors.len() * 95 / 100] / 1e3,
    );
}

fn main() {
    if let Ok(clocks) = std::env::var("UNSKEW_SCALE") {
        return one(clocks.parse().unwrap());
    }
    let asked: Vec<String> = std::env::args().skip(1).filter(|arg| !arg.starts_with("--")).collect();
    let doubling = ["100", "200", "400", "800", "1250", "2500", "5000", "10000"];
    let asked = if asked.is_empty() { doubling.map(String::from).to_vec() } else { asked };
    for clocks in asked {
        let this = std::env::current_exe().unwrap();
        assert!(Command::new(this).env("UNSKEW_SCALE", clocks).status().unwrap().success());
    }
}
