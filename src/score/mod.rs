//! How good a correction is: its traces against what is known to be true, beside what doing nothing and per-trace
//! centring make of the same spans, and beside the floor that asymmetric links set.

mod centring;
mod coverage;
mod error;
mod floor;
mod gauge;
mod inversions;
#[cfg(test)]
mod made;
mod read;
mod text;

use std::path::Path;

use anyhow::Result;
use serde::Serialize;

pub use coverage::Coverage;
pub use error::Sizes;
pub use gauge::Gauge;
pub use inversions::{Inversions, Pairs};
use read::{Scored, Times};

/// The score of a correction. All errors are of starts, in ns; a signed one is positive when late.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Score {
    pub spans: usize,
    /// Spans that the truth has.
    pub with_truth: usize,
    /// Display name of the reference clock.
    pub reference: Option<String>,
    pub corrected: Way,
    pub doing_nothing: Way,
    /// Jaeger's rule, one trace at a time.
    pub centring: Way,
    /// The error that a solve has which knows every link's base delays and is wrong by their asymmetries alone;
    /// only for simulated fleets.
    pub floor: Option<Sizes>,
    /// p95 of per-trace centring over p95 of the correction; `None` where the correction has no error.
    pub centring_over_ours: Option<f64>,
    /// Sizes of the moves, |corrected − original|, of the spans whose errors count.
    pub moves: Sizes,
    /// Errors of spans whose clock's offset changes by more than 1 ms within them. They are not in `corrected` but
    /// with [`Gauge::Median`].
    pub straddling: Sizes,
    pub pairs: Pairs,
    pub coverage: Coverage,
    /// Worst p95 first.
    pub clocks: Vec<ClockScore>,
}

/// What one way of correcting makes of the spans.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Way {
    pub error: Sizes,
    pub inversions: Inversions,
    /// What was taken from all errors, in ns; 0 without a gauge.
    pub constant_ns: f64,
}

/// The errors of one clock's spans.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ClockScore {
    /// Display name.
    pub clock: String,
    /// Median error in ns; positive: its spans are late.
    pub median_ns: f64,
    pub error: Sizes,
}

/// Scores what `fix` wrote into `dir` against a table with the columns `span_id, host, true_start_ns, true_end_ns`
/// and, where it has one, `trace_id`.
pub fn score(dir: &Path, truth: &Path, gauge: Gauge) -> Result<Score> {
    Ok(of(&read::read(dir, truth)?, gauge))
}

fn of(scored: &Scored, gauge: Gauge) -> Score {
    let spans = &scored.spans;
    let straddles: Vec<bool> = spans.iter().map(|span| error::straddles(scored, span)).collect();
    let group = gauge::largest_group(scored);
    let counts = |index: usize| match gauge {
        Gauge::None => Some(spans[index].clock) != scored.reference,
        Gauge::Median => spans[index].truth.is_some_and(|truth| group[truth.host]),
    };
    let apart = |index: usize| gauge == Gauge::None && straddles[index];
    let constant_ns = |written: &[Times]| match gauge {
        Gauge::None => 0.0,
        Gauge::Median => gauge::constant_ns(scored, &group, written),
    };
    let errors_ns = |written: &[Times], constant_ns: f64| -> Vec<Option<f64>> {
        let error = |index: usize| Some(error::of_start(&spans[index], written[index])? as f64 - constant_ns);
        (0..spans.len()).map(|index| if counts(index) { error(index) } else { None }).collect()
    };
    let counted = |errors_ns: &[Option<f64>]| {
        error::sizes((0..spans.len()).filter(|index| !apart(*index)).filter_map(|index| errors_ns[index]))
    };
    let way = |written: &[Times]| {
        let constant_ns = constant_ns(written);
        let error = counted(&errors_ns(written, constant_ns));
        Way { error, inversions: inversions::inversions(scored, written), constant_ns }
    };

    let corrected: Vec<Times> = spans.iter().map(|span| span.corrected).collect();
    let original: Vec<Times> = spans.iter().map(|span| span.original).collect();
    let ours = way(&corrected);
    let centring = way(&centring::centred(scored));
    let errors = errors_ns(&corrected, ours.constant_ns);
    let unstraddled: Vec<Option<f64>> =
        errors.iter().zip(&straddles).map(|(error, straddles)| error.filter(|_| !straddles)).collect();
    let floor = floor::errors_ns(scored).map(|by_host| {
        let at = |index: usize| errors[index].and(spans[index].truth).and_then(|truth| by_host[truth.host]);
        counted(&(0..spans.len()).map(at).collect::<Vec<_>>())
    });
    let moves: Vec<Option<f64>> = spans
        .iter()
        .zip(&errors)
        .map(|(span, error)| error.map(|_| (span.corrected.start - span.original.start) as f64))
        .collect();
    Score {
        spans: spans.len(),
        with_truth: spans.iter().filter(|span| span.truth.is_some()).count(),
        reference: scored.reference.map(|clock| scored.clocks[clock].clone()),
        corrected: ours,
        doing_nothing: way(&original),
        centring,
        floor,
        centring_over_ours: (ours.error.p95_ns > 0.0).then(|| centring.error.p95_ns / ours.error.p95_ns),
        moves: counted(&moves),
        straddling: error::sizes((0..spans.len()).filter(|index| straddles[*index]).filter_map(|index| errors[index])),
        pairs: inversions::pairs(scored),
        coverage: coverage::coverage(scored, &unstraddled),
        clocks: clocks(scored, &unstraddled),
    }
}

fn clocks(scored: &Scored, errors_ns: &[Option<f64>]) -> Vec<ClockScore> {
    let mut by_clock: Vec<Vec<f64>> = vec![Vec::new(); scored.clocks.len()];
    for (span, error_ns) in scored.spans.iter().zip(errors_ns) {
        by_clock[span.clock].extend(error_ns);
    }
    let mut clocks: Vec<ClockScore> = scored
        .clocks
        .iter()
        .zip(&mut by_clock)
        .filter_map(|(clock, errors)| {
            let median_ns = error::median(errors)?;
            Some(ClockScore { clock: clock.clone(), median_ns, error: error::sizes(errors.iter().copied()) })
        })
        .collect();
    clocks.sort_by(|one, other| {
        other.error.p95_ns.total_cmp(&one.error.p95_ns).then_with(|| one.clock.cmp(&other.clock))
    });
    clocks
}
