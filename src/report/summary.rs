//! `summary.json`: a run in numbers. No dates, paths or ids of the run, so that equal inputs give equal bytes.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::findings::Tally;

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Summary {
    pub schema_version: String,
    /// Display name of the reference clock.
    pub reference: Option<String>,
    /// Nothing was written but what would move.
    pub dry_run: bool,

    pub spans: u64,
    pub moved: u64,
    /// Spans that were put in order within their trace, and by how much at the most, ns; with `--enforce-causality`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub nudged: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub largest_nudge_ns: Option<i64>,
    /// Spans that an earlier run had moved; they passed as they were.
    pub marked_before: u64,
    pub duplicates: u64,
    /// Of the spans of clocks that cannot be told apart, which are moved call by call, the offset of the one furthest off, ns.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub furthest_by_trace_ns: Option<i64>,
    pub clocks: u64,
    pub clocks_moved: u64,
    /// Clocks that calls tie to another.
    #[serde(default)]
    pub clocks_compared: u64,
    /// Display name of the clock that all others are measured from where there is no reference: the median one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub median_clock: Option<String>,
    /// Clocks of which nobody can tell which is wrong, as they know but each other.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub undecided: Vec<Undecided>,
    pub groups: u64,
    pub exchanges: u64,
    pub inversions: Tally,
    /// Half of the clocks with evidence are known at least this well, ns.
    pub median_uncertainty_ns: Option<i64>,
    /// The worst known of the clocks that agree, ns.
    pub agree_within_ns: Option<i64>,
    pub findings: BTreeMap<String, u64>,
    /// What could not be read or written, each with the file it is about.
    pub problems: Vec<FileSummary>,
}

impl Summary {
    /// The numbers of two windows as one run's: counts are summed, names are the later's, and of sizes the larger is kept.
    #[must_use]
    pub fn then(mut self, later: Summary) -> Summary {
        later.findings.into_iter().for_each(|(kind, count)| *self.findings.entry(kind).or_default() += count);
        let furthest = [self.furthest_by_trace_ns, later.furthest_by_trace_ns].into_iter().flatten();
        Summary {
            schema_version: later.schema_version,
            reference: later.reference.or(self.reference),
            dry_run: self.dry_run || later.dry_run,
            spans: self.spans + later.spans,
            moved: self.moved + later.moved,
            nudged: self.nudged.max(later.nudged).map(|_| self.nudged.unwrap_or(0) + later.nudged.unwrap_or(0)),
            largest_nudge_ns: self.largest_nudge_ns.max(later.largest_nudge_ns),
            marked_before: self.marked_before + later.marked_before,
            duplicates: self.duplicates + later.duplicates,
            furthest_by_trace_ns: furthest.max_by_key(|nanos| nanos.abs()),
            clocks: self.clocks.max(later.clocks),
            clocks_moved: self.clocks_moved.max(later.clocks_moved),
            clocks_compared: self.clocks_compared.max(later.clocks_compared),
            median_clock: later.median_clock.or(self.median_clock),
            undecided: later.undecided,
            groups: self.groups.max(later.groups),
            exchanges: self.exchanges + later.exchanges,
            inversions: self.inversions.then(later.inversions),
            median_uncertainty_ns: later.median_uncertainty_ns.or(self.median_uncertainty_ns),
            agree_within_ns: self.agree_within_ns.max(later.agree_within_ns),
            findings: self.findings,
            problems: [self.problems, later.problems].concat(),
        }
    }
}

/// Two clocks that differ, by their display names.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Undecided {
    /// Taken to be right.
    pub standing: String,
    pub other: String,
}

/// Problems of one file that differ in numbers alone are told one by one up to this; a mistake of whoever wrote it is in all of
/// its records.
const LIKE_SHOWN: usize = 20;

/// Of more, so many stand for all.
const LIKE_EXAMPLES: usize = 3;

/// What went wrong, a line each: of every file all that differs, and of what is alike the first ones and how many more.
pub fn problem_lines(problems: &[FileSummary]) -> Vec<String> {
    let like = |FileSummary { file, problem }: &FileSummary| {
        (file.clone(), problem.chars().filter(|letter| !letter.is_ascii_digit()).collect::<String>())
    };
    let mut all: BTreeMap<(String, String), usize> = BTreeMap::new();
    problems.iter().for_each(|problem| *all.entry(like(problem)).or_default() += 1);
    let mut told: BTreeMap<(String, String), usize> = BTreeMap::new();
    let line = |problem: &FileSummary| {
        let (all, told) = (all[&like(problem)], told.entry(like(problem)).or_default());
        *told += 1;
        let FileSummary { file, problem } = problem;
        if all <= LIKE_SHOWN || *told <= LIKE_EXAMPLES {
            Some(format!("{file}: {problem}"))
        } else {
            (*told == LIKE_EXAMPLES + 1).then(|| format!("{file}: {} more like these", all - LIKE_EXAMPLES))
        }
    };
    problems.iter().filter_map(line).collect()
}

/// One thing that went wrong with one file.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct FileSummary {
    pub file: String,
    pub problem: String,
}
