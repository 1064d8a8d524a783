//! How far starts are from the truth.

use serde::Serialize;

use super::read::{Scored, Span, Times};

/// Sizes of errors of starts, in ns.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Sizes {
    pub spans: usize,
    pub mean_ns: f64,
    pub p50_ns: f64,
    pub p95_ns: f64,
    pub p99_ns: f64,
    pub max_ns: f64,
}

/// A clock's offset changes by more than this within a span that straddles a step.
const STRADDLES_NS: i64 = 1_000_000;

/// Whether the span's clock changed its offset between the span's start and end.
pub(super) fn straddles(scored: &Scored, span: &Span) -> bool {
    let Some(truth) = span.truth else { return false };
    let offset_at_start = span.original.start.saturating_sub(truth.times.start);
    let offset_at_end = span.original.end.saturating_sub(truth.times.end);
    // Readings show a step only where the end was read from the wall clock again.
    let stepped = scored.steps.iter().any(|(host, at, size_ns)| {
        let inside = truth.times.start < at.nanos() && at.nanos() <= truth.times.end;
        *host == truth.host && inside && size_ns.abs() > STRADDLES_NS as f64
    });
    stepped || offset_at_start.saturating_sub(offset_at_end).saturating_abs() > STRADDLES_NS
}

/// Error of a start in ns; positive is late. `None` without a truth.
pub(super) fn of_start(span: &Span, written: Times) -> Option<i64> {
    Some(written.start.saturating_sub(span.truth?.times.start))
}

/// Percentiles of the sizes of some errors, by nearest rank.
pub(super) fn sizes(errors_ns: impl Iterator<Item = f64>) -> Sizes {
    let mut sizes: Vec<f64> = errors_ns.map(f64::abs).collect();
    sizes.sort_unstable_by(f64::total_cmp);
    Sizes {
        spans: sizes.len(),
        // From 0.0, because the sum of nothing is −0.0.
        mean_ns: sizes.iter().fold(0.0, |sum, size| sum + size) / sizes.len().max(1) as f64,
        p50_ns: percentile(&sizes, 0.50),
        p95_ns: percentile(&sizes, 0.95),
        p99_ns: percentile(&sizes, 0.99),
        max_ns: sizes.last().copied().unwrap_or(0.0),
    }
}

fn percentile(sorted: &[f64], share: f64) -> f64 {
    let rank = (share * sorted.len() as f64).ceil() as usize;
    sorted.get(rank.max(1) - 1).copied().unwrap_or(0.0)
}

/// The middle value, or the mean of the two middle ones.
pub(super) fn median(values: &mut [f64]) -> Option<f64> {
    values.sort_unstable_by(f64::total_cmp);
    let middle = values.len() / 2;
    match values.len() % 2 {
        _ if values.is_empty() => None,
        0 => Some((values[middle - 1] + values[middle]) / 2.0),
        _ => Some(values[middle]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_values_that_occurred() {
        let of = sizes((1..=200).map(|value| f64::from(value) * if value % 2 == 0 { 1.0 } else { -1.0 }));
        assert_eq!([of.p50_ns, of.p95_ns, of.p99_ns, of.max_ns, of.mean_ns], [100.0, 190.0, 198.0, 200.0, 100.5]);
        assert_eq!(sizes(std::iter::empty()), Sizes::default());
    }

    #[test]
    fn a_median_of_an_even_count_lies_between() {
        assert_eq!(median(&mut [3.0, 1.0, 2.0]), Some(2.0));
        assert_eq!(median(&mut [4.0, 1.0, 3.0, 2.0]), Some(2.5));
        assert_eq!(median(&mut []), None);
    }
}
