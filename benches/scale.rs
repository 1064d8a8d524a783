//! How the estimator grows with the fleet: seconds and memory, clocks doubling.
//!
//! `cargo bench --bench scale -- 625 1250` takes those numbers of clocks; each in a process of its own, so that its
//! memory is its own. Clocks drift, links are asymmetric, a reading is one gap of one call.

use std::process::Command;
use std::time::Instant;

use rand::{RngExt, SeedableRng};
use rand_distr::{Distribution, Exp1, StandardNormal};
use rand_pcg::Pcg64Mcg;
use unskew::clock::{CallClass, ClockId, Exchange, Link, LocalTime, Use};
use unskew::estimate::{self, Evidence, Settings};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// ESTIMATOR.md, fact 12: 88,000 links of 10,000 clocks, an hour, a call every ten seconds.
const LINKS_PER_CLOCK: f64 = 8.8;
const SECONDS: f64 = 3_600.0;
const CALLS_PER_SECOND: f64 = 0.1;
/// So many links' calls are held at a time: all of ten thousand clocks' are more than memory holds, so they are rolled
/// up as they come, to windows as long as the estimator would choose for all of them.
const LINKS_ABREAST: usize = 2_000;
const UNKNOWNS: f64 = 150_000.0;
const LEAST_WINDOW_S: f64 = 20.0;
const EPOCH: i64 = 1_700_000_000_000_000_000;

struct Clock {
    offset_ns: f64,
    ppm: f64,
}

impl Clock {
    fn off(&self, at_s: f64) -> f64 {
        self.offset_ns + self.ppm * 1e3 * at_s
    }

    fn reads(&self, at_s: f64) -> LocalTime {
        LocalTime::from_nanos(EPOCH + (at_s * 1e9) as i64 + self.off(at_s) as i64)
    }
}

/// With the seconds that it took to roll up its evidence.
fn fleet(clocks: usize) -> (Vec<Clock>, Evidence, f64) {
    let mut dice = Pcg64Mcg::seed_from_u64(clocks as u64);
    let normal = |dice: &mut Pcg64Mcg| -> f64 { StandardNormal.sample(dice) };
    let fleet: Vec<Clock> = (0..clocks)
        .map(|clock| match clock {
            0 => Clock { offset_ns: 0.0, ppm: 0.0 },
            _ => Clock { offset_ns: 5e6 * normal(&mut dice), ppm: 15.0 * normal(&mut dice) },
        })
        .collect();
    let links = (LINKS_PER_CLOCK * clocks as f64) as usize;
    let mut pairs: Vec<(usize, usize)> = (0..links)
        .map(|link| {
            // Every clock is reached by one of those before it.
            let server = if link + 1 < clocks { link + 1 } else { dice.random_range(1..clocks) };
            loop {
                let client =
                    if link + 1 < clocks { dice.random_range(0..server) } else { dice.random_range(0..clocks) };
                if client != server {
                    break (client, server);
                }
            }
        })
        .collect();
    pairs.sort_unstable();
    pairs.dedup();
    let keys: Vec<String> = (0..clocks).map(|clock| format!("{clock:06}")).collect();
    let class = CallClass { client_service: "a".into(), server_service: "b".into(), protocol: "http".into() };
    let mut evidence = Evidence { clocks: keys.clone(), classes: vec![class.clone()], ..Evidence::default() };
    let mut seconds = 0.0;
    let window_s = SECONDS * clocks as f64 / UNKNOWNS;
    for pairs in pairs.chunks(LINKS_ABREAST) {
        let exchanges: Vec<Exchange> = pairs.iter().flat_map(|&pair| calls(&fleet, pair, &mut dice)).collect();
        let part = Evidence::of(keys.clone(), vec![class.clone()], &exchanges);
        let start = Instant::now();
        let part = if window_s < LEAST_WINDOW_S { part } else { part.rolled_up((window_s * 1e9) as i64) };
        seconds += start.elapsed().as_secs_f64();
        evidence.readings.extend(part.readings);
        if let Some(part) = part.rolled_up {
            let all = evidence.rolled_up.get_or_insert_default();
            all.window_ns = part.window_ns;
            all.usual.extend(part.usual);
        }
    }
    (fleet, evidence, seconds)
}

/// An hour of calls of one link.
fn calls(fleet: &[Clock], (client, server): (usize, usize), dice: &mut Pcg64Mcg) -> Vec<Exchange> {
    let base = 0.16e-3 * 50f64.powf(dice.random());
    let asymmetry = dice.random_range(-0.3..0.3);
    let call = |call: usize| {
        let sent = (call as f64 + dice.random::<f64>()) / CALLS_PER_SECOND;
        let mut leg = |share: f64| -> f64 {
            let queue: f64 = Exp1.sample(dice);
            base * (share + 0.5 * queue)
        };
        let received = sent + leg(1.0 + asymmetry);
        let responded = received + 2e-3;
        let returned = responded + leg(1.0 - asymmetry);
        Exchange {
            id: dice.random(),
            link: Link { client: ClockId(client as u32), server: ClockId(server as u32), class: 0 },
            request_sent: fleet[client].reads(sent),
            request_received: fleet[server].reads(received),
            response_sent: fleet[server].reads(responded),
            response_received: fleet[client].reads(returned),
            client_quantum_ns: 1,
            server_quantum_ns: 1,
            counts: Use::TwoSided,
        }
    };
    (0..(SECONDS * CALLS_PER_SECOND) as usize).map(call).collect()
}

fn peak_mb() -> f64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmHWM")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<f64>().unwrap() / 1e3
}

fn one(clocks: usize) {
    let (fleet, evidence, rolling_up) = fleet(clocks);
    let before = peak_mb();
    let reach: Vec<_> = fleet.iter().map(|clock| Some((clock.reads(0.0), clock.reads(SECONDS)))).collect();
    let start = Instant::now();
    let estimate =
        estimate::clocks(&evidence, &reach, &Settings { reference: Some(ClockId(0)), ..Settings::default() });
    let seconds = start.elapsed().as_secs_f64();
    let mut errors: Vec<f64> = fleet
        .iter()
        .zip(&estimate.map.models)
        .flat_map(|(clock, model)| {
            model.segments.iter().flat_map(|segment| &segment.knots).map(move |knot| {
                let at_s = (knot.local.nanos() - EPOCH - knot.offset_ns) as f64 / 1e9;
                (knot.offset_ns as f64 - clock.off(at_s)).abs() / 1e3
            })
        })
        .collect();
    errors.sort_unstable_by(f64::total_cmp);
    println!(
        "{clocks:>6} clocks {:>9} readings {rolling_up:>6.1} s to roll up {seconds:>8.1} s to solve {:>7.0} MB ({before:.0} before) p50 {:.0} p95 {:.0} us",
        evidence.readings.len(),
        peak_mb(),
        errors[errors.len() / 2],
        errors[errors.len() * 95 / 100],
    );
}

fn main() {
    if let Ok(clocks) = std::env::var("UNSKEW_SCALE") {
        return one(clocks.parse().unwrap());
    }
    let asked: Vec<String> = std::env::args().skip(1).filter(|arg| !arg.starts_with("--")).collect();
    let asked = if asked.is_empty() {
        ["100", "200", "400", "800", "1250", "2500", "5000", "10000"].map(String::from).to_vec()
    } else {
        asked
    };
    for clocks in asked {
        let this = std::env::current_exe().unwrap();
        assert!(Command::new(this).env("UNSKEW_SCALE", clocks).status().unwrap().success());
    }
}
