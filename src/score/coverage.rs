//! Whether the stated uncertainty is true.

use std::collections::BTreeMap;

use serde::Serialize;

use super::error::median;
use super::read::Scored;

/// Counted in cells of a clock and a minute, because errors of neighbouring spans are one and the same.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Coverage {
    /// Cells of clocks that were moved, the reference left out.
    pub cells: usize,
    /// Cells in which at least half of the spans are no further off than they say.
    pub covered: usize,
    pub median_uncertainty_ns: Option<f64>,
    pub median_error_ns: Option<f64>,
}

const MINUTE_NS: i64 = 60_000_000_000;

/// `errors_ns`: by span; `None` where a span does not count.
pub(super) fn coverage(scored: &Scored, errors_ns: &[Option<f64>]) -> Coverage {
    let mut moved = vec![false; scored.clocks.len()];
    for span in &scored.spans {
        moved[span.clock] |= span.moved;
    }
    let mut cells: BTreeMap<(usize, i64), (usize, usize)> = BTreeMap::new();
    let (mut uncertainties, mut errors) = (Vec::new(), Vec::new());
    for (span, error_ns) in scored.spans.iter().zip(errors_ns) {
        let (Some(truth), Some(error_ns)) = (span.truth, error_ns) else { continue };
        if Some(span.clock) == scored.reference || !moved[span.clock] {
            continue;
        }
        let (spans, within) = cells.entry((span.clock, truth.times.start.div_euclid(MINUTE_NS))).or_default();
        *spans += 1;
        *within += usize::from(span.uncertainty_ns.is_some_and(|bound_ns| error_ns.abs() <= bound_ns as f64));
        uncertainties.extend(span.uncertainty_ns.map(|bound_ns| bound_ns as f64));
        errors.push(error_ns.abs());
    }
    Coverage {
        cells: cells.len(),
        covered: cells.values().filter(|(spans, within)| 2 * within >= *spans).count(),
        median_uncertainty_ns: median(&mut uncertainties),
        median_error_ns: median(&mut errors),
    }
}

#[cfg(test)]
mod tests {
    use super::super::made::{Made, fleet};
    use super::*;

    #[test]
    fn a_cell_counts_once_however_many_spans_it_has() {
        let at = |id, from: i64, host| Made { id, host, from, to: from + 1, ..Made::default() };
        let minute = 60_000;
        let mut rows: Vec<Made> = (1..=8).map(|id| at(id, 10, "moved")).collect();
        rows.extend([at(9, minute, "moved"), at(10, minute, "moved"), at(11, 2 * minute, "moved")]);
        rows.extend([at(12, 0, "reference"), at(13, 0, "left")]);
        let mut scored = fleet(&rows);
        scored.reference = scored.clocks.iter().position(|clock| clock == "reference");
        for span in &mut scored.spans {
            span.moved = scored.clocks[span.clock] != "left";
            span.uncertainty_ns = Some(100);
        }
        // All eight of the first minute are off by 101, one of the two of the second, none of the third.
        let mut errors: Vec<Option<f64>> = vec![Some(-101.0); 8];
        errors.extend([Some(99.0), Some(500.0), Some(-100.0), Some(0.0), Some(0.0)]);
        let found = coverage(&scored, &errors);
        assert_eq!((found.cells, found.covered), (3, 2));
        assert_eq!((found.median_uncertainty_ns, found.median_error_ns), (Some(100.0), Some(101.0)));
    }
}
