//! The constant that no trace can show: what all clocks are off by together.

use super::error::{median, of_start};
use super::read::{Scored, Times};

/// Whether a constant is taken from all errors before they are counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Gauge {
    /// Nothing is taken: errors are against the reference clock. Spans off the reference count.
    #[default]
    None,
    /// The median over hosts of each host's median error, over the largest group of hosts that call each other.
    /// All spans of that group count.
    Median,
}

/// The constant in ns (positive: all are late) of the hosts that count.
pub(super) fn constant_ns(scored: &Scored, counted: &[bool], written: &[Times]) -> f64 {
    let mut by_host: Vec<Vec<f64>> = vec![Vec::new(); scored.hosts.len()];
    for (span, written) in scored.spans.iter().zip(written) {
        if let (Some(truth), Some(error)) = (span.truth, of_start(span, *written)) {
            by_host[truth.host].push(error as f64);
        }
    }
    let hosts = by_host.iter_mut().zip(counted).filter(|(_, counted)| **counted);
    let mut medians: Vec<f64> = hosts.filter_map(|(errors, _)| median(errors)).collect();
    median(&mut medians).unwrap_or(0.0)
}

/// Which hosts belong to the largest group that cross-host parents and children connect.
pub(super) fn largest_group(scored: &Scored) -> Vec<bool> {
    let mut group: Vec<usize> = (0..scored.hosts.len()).collect();
    fn leader(group: &[usize], mut host: usize) -> usize {
        while group[host] != host {
            host = group[host];
        }
        host
    }
    for span in &scored.spans {
        let parent = span.parent.and_then(|parent| scored.spans[parent].truth);
        if let (Some(child), Some(parent)) = (span.truth, parent) {
            let (one, other) = (leader(&group, child.host), leader(&group, parent.host));
            group[one.max(other)] = one.min(other);
        }
    }
    let leaders: Vec<usize> = (0..group.len()).map(|host| leader(&group, host)).collect();
    let size = |of: usize| leaders.iter().filter(|leader| **leader == of).count();
    let largest = leaders.iter().copied().max_by_key(|leader| (size(*leader), std::cmp::Reverse(*leader)));
    leaders.iter().map(|leader| Some(*leader) == largest).collect()
}

#[cfg(test)]
mod tests {
    use super::super::made::{Made, fleet};
    use super::*;

    #[test]
    fn hosts_count_once_each_and_outsiders_not_at_all() {
        // Errors in ms: one busy host at 1, then 5 and 7; a lone host at 1,000 that nobody calls.
        let mut rows = vec![Made { id: 1, host: "a", error_ms: 1.0, ..Made::default() }; 50];
        rows.push(Made { id: 2, parent: 1, host: "b", error_ms: 5.0, ..Made::default() });
        rows.push(Made { id: 3, parent: 2, host: "c", error_ms: 7.0, ..Made::default() });
        rows.push(Made { id: 4, host: "lone", error_ms: 1_000.0, ..Made::default() });
        let scored = fleet(&rows);
        let counted = largest_group(&scored);
        assert_eq!(counted, [true, true, true, false]);
        let written: Vec<Times> = scored.spans.iter().map(|span| span.corrected).collect();
        assert_eq!(constant_ns(&scored, &counted, &written), 5e6);
    }
}
