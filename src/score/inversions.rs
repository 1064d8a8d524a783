//! Children that start before or end after the call that waited for them.

use serde::Serialize;

use super::read::{Scored, Span, Times};

/// Counts of cross-host pairs of a CLIENT and its SERVER child, and of those out of order.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Pairs {
    /// CLIENT→SERVER pairs across hosts.
    pub calls: usize,
    /// Those in order in truth: the caller did wait.
    pub synchronous: usize,
    /// Those out of order in truth: the caller gave up, or never waited.
    pub inverted_in_truth: usize,
}

/// Pairs out of order in some set of times.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Inversions {
    /// Synchronous pairs whose child starts before or ends after its parent.
    pub inverted: usize,
    /// Cross-host children of any kind that start before their parent by 1 ms more than in truth.
    pub excess: usize,
}

const SLACK_NS: i64 = 1_000;
const MILLISECOND_NS: i64 = 1_000_000;

/// A child and its parent with both truths, on different hosts.
fn across_hosts(scored: &Scored) -> impl Iterator<Item = (usize, usize, Times, Times)> {
    scored.spans.iter().enumerate().filter_map(|(child, span)| {
        let parent = span.parent?;
        let (of_child, of_parent) = (span.truth?, scored.spans[parent].truth?);
        (of_child.host != of_parent.host).then_some((child, parent, of_child.times, of_parent.times))
    })
}

fn is_call(scored: &Scored, child: usize, parent: usize) -> bool {
    scored.spans[child].is_server && scored.spans[parent].is_client
}

/// Whether a child leaves its parent by more than what clocks and flooring explain.
fn inverted(child: Times, parent: Times, slack_ns: i64) -> bool {
    child.start.saturating_add(slack_ns) < parent.start || child.end > parent.end.saturating_add(slack_ns)
}

fn slack_ns(child: &Span, parent: &Span) -> i64 {
    let floored = |span: &Span| span.original.start % MILLISECOND_NS == 0;
    if floored(child) || floored(parent) { MILLISECOND_NS + SLACK_NS } else { SLACK_NS }
}

pub(super) fn pairs(scored: &Scored) -> Pairs {
    let mut pairs = Pairs::default();
    for (child, parent, true_child, true_parent) in across_hosts(scored) {
        if is_call(scored, child, parent) {
            pairs.calls += 1;
            let slack_ns = slack_ns(&scored.spans[child], &scored.spans[parent]);
            if inverted(true_child, true_parent, slack_ns) {
                pairs.inverted_in_truth += 1;
            } else {
                pairs.synchronous += 1;
            }
        }
    }
    pairs
}

pub(super) fn inversions(scored: &Scored, written: &[Times]) -> Inversions {
    let mut counts = Inversions::default();
    for (child, parent, true_child, true_parent) in across_hosts(scored) {
        let slack_ns = slack_ns(&scored.spans[child], &scored.spans[parent]);
        let waited = is_call(scored, child, parent) && !inverted(true_child, true_parent, slack_ns);
        counts.inverted += usize::from(waited && inverted(written[child], written[parent], slack_ns));
        let early = |child: Times, parent: Times| parent.start.saturating_sub(child.start).max(0);
        let excess_ns = early(written[child], written[parent]) - early(true_child, true_parent);
        counts.excess += usize::from(excess_ns > MILLISECOND_NS);
    }
    counts
}

#[cfg(test)]
mod tests {
    use super::super::made::{Made, fleet};
    use super::*;

    /// A call that truly lasts 1..101 ms, its server from `child` in truth, with the child's reading `error_ms` late.
    fn check(child: [i64; 2], error_ms: f64, pairs_in_truth: [usize; 2], [inverted, excess]: [usize; 2]) {
        // 7 ns after the millisecond, so that nothing passes for floored.
        let parent = Made { id: 1, host: "a", kind: "CLIENT", from: 1, to: 101, beyond_ns: 7, ..Made::default() };
        let [from, to] = child;
        let child = Made { id: 2, parent: 1, host: "b", kind: "SERVER", from, to, beyond_ns: 7, error_ms };
        let scored = fleet(&[parent, child]);
        let Pairs { synchronous, inverted_in_truth, .. } = pairs(&scored);
        assert_eq!([synchronous, inverted_in_truth], pairs_in_truth);
        let written: Vec<Times> = scored.spans.iter().map(|span| span.corrected).collect();
        assert_eq!(inversions(&scored, &written), Inversions { inverted, excess });
    }

    #[test]
    fn a_child_in_order_is_no_inversion() {
        check([11, 91], 0.0, [1, 0], [0, 0]);
        check([11, 91], -9.0, [1, 0], [0, 0]);
        check([11, 91], 10.0, [1, 0], [0, 0]);
    }

    #[test]
    fn early_or_late_by_more_than_a_microsecond_is() {
        check([11, 91], -10.000_5, [1, 0], [0, 0]);
        check([11, 91], -10.002, [1, 0], [1, 0]);
        check([11, 91], -11.002, [1, 0], [1, 1]);
        check([11, 91], 10.002, [1, 0], [1, 0]);
    }

    #[test]
    fn a_child_that_outlives_a_caller_in_truth_is_not_synchronous() {
        check([11, 191], 0.0, [0, 1], [0, 0]);
        check([11, 191], -30.0, [0, 1], [0, 1]);
    }

    #[test]
    fn a_child_that_truly_starts_before_its_parent_is_no_excess() {
        // A receive span that polled before the publish.
        check([-500, 91], 0.0, [0, 1], [0, 0]);
        check([-500, 91], -0.9, [0, 1], [0, 0]);
        check([-500, 91], -1.1, [0, 1], [0, 1]);
    }

    #[test]
    fn floored_starts_have_a_millisecond_of_slack() {
        let parent = Made { id: 1, host: "a", kind: "CLIENT", from: 1, to: 101, ..Made::default() };
        let early_us = |early_us: f64| {
            let error_ms = -early_us / 1e3;
            let child = Made { id: 2, parent: 1, host: "b", kind: "SERVER", from: 1, to: 91, beyond_ns: 7, error_ms };
            let scored = fleet(&[parent.clone(), child]);
            let written: Vec<Times> = scored.spans.iter().map(|span| span.corrected).collect();
            inversions(&scored, &written).inverted
        };
        assert_eq!(early_us(1_000.9), 0);
        assert_eq!(early_us(1_001.1), 1);
    }
}
