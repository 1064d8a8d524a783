//! A score to read.

use std::fmt;

use super::error::Sizes;
use super::{Score, Way};

impl fmt::Display for Score {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let of_reference = self.reference.as_deref().unwrap_or("none");
        writeln!(out, "{} spans, {} with a truth; reference {of_reference}", self.spans, self.with_truth)?;
        writeln!(out)?;
        writeln!(out, "error of starts, ms     spans       mean        p50        p95        p99        max")?;
        sizes(out, "corrected", &self.corrected.error)?;
        sizes(out, "doing nothing", &self.doing_nothing.error)?;
        sizes(out, "per-trace centring", &self.centring.error)?;
        if let Some(floor) = &self.floor {
            sizes(out, "floor", floor)?;
        }
        sizes(out, "moves", &self.moves)?;
        sizes(out, "straddling a step", &self.straddling)?;
        if let Some(times) = self.centring_over_ours {
            writeln!(out, "p95 of per-trace centring is {times:.1} times ours")?;
        }
        if self.corrected.constant_ns != 0.0 {
            writeln!(out, "less {:.3} ms on all", self.corrected.constant_ns / 1e6)?;
        }
        writeln!(out)?;
        let pairs = self.pairs;
        writeln!(
            out,
            "{} calls across hosts: {} synchronous, {} out of order in truth",
            pairs.calls, pairs.synchronous, pairs.inverted_in_truth
        )?;
        writeln!(out, "inversions            of synchronous     share   excess")?;
        for (name, way) in [
            ("corrected", &self.corrected),
            ("doing nothing", &self.doing_nothing),
            ("per-trace centring", &self.centring),
        ] {
            inversions(out, name, way, pairs.synchronous)?;
        }
        writeln!(out)?;
        let coverage = &self.coverage;
        let share = 100.0 * coverage.covered as f64 / coverage.cells.max(1) as f64;
        write!(out, "uncertainty holds in {} of {} clock-minutes ({share:.1} %)", coverage.covered, coverage.cells)?;
        if let (Some(bound_ns), Some(error_ns)) = (coverage.median_uncertainty_ns, coverage.median_error_ns) {
            write!(out, "; median {:.3} ms, median error {:.3} ms", bound_ns / 1e6, error_ns / 1e6)?;
        }
        writeln!(out)?;
        writeln!(out)?;
        let widest = self.clocks.iter().map(|clock| clock.clock.chars().count()).max().unwrap_or(0).max(5);
        writeln!(out, "{:widest$}      spans   median, ms        p50        p95        p99        max", "clock")?;
        for clock in &self.clocks {
            let Sizes { spans, p50_ns, p95_ns, p99_ns, max_ns, .. } = clock.error;
            write!(out, "{:widest$} {spans:10} {:12.3}", clock.clock, clock.median_ns / 1e6)?;
            for value_ns in [p50_ns, p95_ns, p99_ns, max_ns] {
                write!(out, " {:10.3}", value_ns / 1e6)?;
            }
            writeln!(out)?;
        }
        Ok(())
    }
}

fn sizes(out: &mut fmt::Formatter<'_>, name: &str, of: &Sizes) -> fmt::Result {
    write!(out, "{name:20} {:8}", of.spans)?;
    for value_ns in [of.mean_ns, of.p50_ns, of.p95_ns, of.p99_ns, of.max_ns] {
        write!(out, " {:10.3}", value_ns / 1e6)?;
    }
    writeln!(out)
}

fn inversions(out: &mut fmt::Formatter<'_>, name: &str, way: &Way, synchronous: usize) -> fmt::Result {
    let share = 100.0 * way.inversions.inverted as f64 / synchronous.max(1) as f64;
    writeln!(out, "{name:20} {:15} {share:8.3}% {:8}", way.inversions.inverted, way.inversions.excess)
}
