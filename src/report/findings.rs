//! Violations and oddities, before and after: one row each.

use std::collections::BTreeMap;

use rustc_hash::{FxHashMap, FxHashSet};
use serde::{Deserialize, Serialize};

use crate::clock::{ClockId, ClockModel, Link, LocalTime, Step, StepKind, Use};
use crate::correct::{Corrected, Correction};
use crate::pair::{Edge, EdgeKind, Oddity, Paired, Pairing, Standing};
use crate::span::SpanHead;

/// One violation or oddity.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Finding {
    pub kind: &'static str,
    pub trace: Option<u128>,
    pub span: Option<u64>,
    pub parent: Option<u64>,
    pub clock: Option<ClockId>,
    pub parent_clock: Option<ClockId>,
    /// Index of the distinct resource, whose service is told.
    pub resource: Option<u32>,
    /// How much was wrong, ns, as recorded and as written.
    pub before_ns: Option<i64>,
    pub after_ns: Option<i64>,
    pub action: &'static str,
    pub reason: String,
}

/// Inversions of synchronous pairs across clocks: a child that starts before or ends after its parent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tally {
    pub pairs: u64,
    pub before: u64,
    pub after: u64,
}

/// What the links table counts.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LinkCounts {
    pub exchanges: u64,
    pub one_way: u64,
    pub early_ends: u64,
    pub set_aside: u64,
    pub inversions: Tally,
    pub worst_inversion_ns: Option<i64>,
    /// δ of the two-sided exchanges, ns, sorted.
    pub delays: Vec<i64>,
}

/// Less than this is rounding, not an inversion; a floored start may be a whole quantum early.
fn tolerance_ns(parent: &Paired, child: &Paired) -> i64 {
    let quantum = i64::from(parent.quantum_ns.max(child.quantum_ns));
    if quantum >= 1_000_000 { quantum + 1_000 } else { 1_000 }
}

/// How far a child sticks out of its parent, before its start and behind its end, ns; 0 where it does not.
fn overhang(parent: (i64, i64), child: (i64, i64)) -> (i64, i64) {
    (parent.0.saturating_sub(child.0).max(0), child.1.saturating_sub(parent.1).max(0))
}

/// Whether a child sticks out by more than rounding.
pub fn is_inverted(parent: &Paired, child: &Paired, parent_times: (i64, i64), child_times: (i64, i64)) -> bool {
    let (early, late) = overhang(parent_times, child_times);
    early.max(late) > tolerance_ns(parent, child)
}

/// Findings and counts of all calls between two clocks. `groups` gives each clock's group.
pub fn of_edges(
    spans: &[Paired],
    corrected: &[Corrected],
    pairing: &Pairing,
    set_aside: impl Fn(u64) -> bool,
    groups: impl Fn(ClockId) -> u32,
) -> (Vec<Finding>, BTreeMap<Link, LinkCounts>, Tally) {
    let mut findings = Vec::new();
    let mut links: BTreeMap<Link, LinkCounts> = BTreeMap::new();
    let mut all = Tally::default();
    for edge in &pairing.edges {
        let (parent, child) = (&spans[edge.parent as usize], &spans[edge.child as usize]);
        let counts = links.entry(edge.exchange.link).or_default();
        count_exchange(counts, edge, &set_aside);
        let waited = edge.kind == EdgeKind::Call && edge.exchange.counts == Use::TwoSided;
        let recorded = |span: &Paired| (span.head.start.nanos(), span.head.end.nanos());
        let written = |index: u32| (corrected[index as usize].start, corrected[index as usize].end);
        let before = overhang(recorded(parent), recorded(child));
        let after = overhang(written(edge.parent), written(edge.child));
        let most = tolerance_ns(parent, child);
        if waited {
            counts.inversions.pairs += 1;
            all.pairs += 1;
            for (sum, out) in [(&mut counts.inversions.before, before), (&mut counts.inversions.after, after)] {
                *sum += u64::from(out.0.max(out.1) > most);
            }
            all.before += u64::from(before.0.max(before.1) > most);
            all.after += u64::from(after.0.max(after.1) > most);
            if before.0.max(before.1) > most {
                let worst = before.0.max(before.1).max(counts.worst_inversion_ns.unwrap_or(0));
                counts.worst_inversion_ns = Some(worst);
            }
        }
        let comparable = groups(parent.clock) == groups(child.clock);
        let sides =
            [("starts_before_parent", before.0, after.0, true), ("ends_after_parent", before.1, after.1, waited)];
        for (kind, before, after, counts) in sides {
            if counts && before.max(after) > most {
                findings.push(Finding {
                    parent: Some(parent.head.span.0),
                    parent_clock: Some(parent.clock),
                    before_ns: Some(before),
                    after_ns: Some(after),
                    action: if corrected[edge.child as usize].nudge_ns != 0 {
                        "nudged"
                    } else if corrected[edge.child as usize].offset_ns != 0
                        || corrected[edge.parent as usize].offset_ns != 0
                    {
                        "moved"
                    } else {
                        "none"
                    },
                    reason: reason(edge, before, after, comparable),
                    ..about(if comparable { kind } else { "not_comparable" }, child)
                });
            }
        }
    }
    links.values_mut().for_each(|counts| counts.delays.sort_unstable());
    findings.sort_unstable();
    (findings, links, all)
}

fn count_exchange(counts: &mut LinkCounts, edge: &Edge, set_aside: &impl Fn(u64) -> bool) {
    let delay = edge.exchange.round_trip_delay_ns();
    match edge.exchange.counts {
        Use::TwoSided => {
            counts.exchanges += 1;
            counts.set_aside += u64::from(set_aside(edge.exchange.id));
            counts.delays.push(delay);
        }
        Use::ForwardOnly => {
            counts.one_way += 1;
            counts.early_ends += u64::from(edge.kind == EdgeKind::Call && delay < 0);
        }
        Use::Neither => {}
    }
}

fn reason(edge: &Edge, before: i64, after: i64, comparable: bool) -> String {
    let why = match (comparable, edge.reason) {
        (false, _) => "no round trip ties the two clocks, so neither is moved for it",
        (_, Some(reason)) => reason,
        (true, None) if after == 0 => "the clocks' offsets explain it",
        (true, None) if after < before => "the clocks' offsets explain part of it",
        (true, None) => "the clocks do not explain it",
    };
    why.to_owned()
}

fn about(kind: &'static str, span: &Paired) -> Finding {
    Finding {
        kind,
        trace: Some(span.head.trace.0),
        span: Some(span.head.span.0),
        parent: span.head.parent.map(|id| id.0),
        clock: Some(span.clock),
        resource: Some(span.resource),
        action: "none",
        ..Finding::default()
    }
}

/// Exchanges that cannot all be true: the dropped one's id, the others' in order, and by how many ns they cannot.
pub fn of_contradictions<'a>(
    spans: &[Paired],
    edges: &[Edge],
    contradictions: impl Iterator<Item = (u64, &'a [u64], i64)>,
) -> Vec<Finding> {
    let contradictions: Vec<_> = contradictions.collect();
    let named: FxHashSet<u64> =
        contradictions.iter().flat_map(|(dropped, others, _)| others.iter().copied().chain([*dropped])).collect();
    let edges: FxHashMap<u64, &Edge> =
        edges.iter().map(|edge| (edge.exchange.id, edge)).filter(|(id, _)| named.contains(id)).collect();
    let name = |edge: &&Edge| {
        let child = &spans[edge.child as usize].head;
        format!("{:032x} {:016x}", child.trace.0, child.span.0)
    };
    let finding = |(dropped, others, missing): (u64, &[u64], i64)| {
        let edge = edges.get(&dropped)?;
        let (parent, child) = (&spans[edge.parent as usize], &spans[edge.child as usize]);
        let mut names: Vec<String> = others.iter().take(NAMED).filter_map(|other| edges.get(other)).map(name).collect();
        if others.len() > NAMED {
            names.push(format!("{} more", others.len() - NAMED));
        }
        let names = if names.is_empty() { "the reference".to_owned() } else { names.join(", ") };
        Some(Finding {
            parent: Some(parent.head.span.0),
            parent_clock: Some(parent.clock),
            before_ns: Some(missing),
            after_ns: Some(0),
            action: "not used for bounds",
            reason: format!(
                "no offsets make it true together with {names}: two clocks under one key, a step that was not found, or \
                 a parent that did not cause it"
            ),
            ..about("negative_cycle", child)
        })
    };
    contradictions.into_iter().filter_map(finding).collect()
}

/// Spans named in one finding, at the most.
const NAMED: usize = 8;

/// Findings about the tree of spans.
pub fn of_oddities(spans: &[Paired], oddities: &[(u32, Oddity)]) -> Vec<Finding> {
    let finding = |&(span, what): &(u32, Oddity)| {
        let (kind, reason) = match what {
            Oddity::MissingParent => ("missing_parent", "its parent is not in the dump"),
            Oddity::ParentCycle => ("parent_cycle", "its parents lead back to itself"),
            Oddity::Duplicate => ("duplicate", "a byte-equal copy under an equal resource; one row for both"),
            Oddity::ConflictingDuplicate => {
                ("conflicting_duplicate", "another span has the same ids and kind; both are kept, one is paired")
            }
            Oddity::InvalidId => ("invalid_id", "its trace id or span id is zero, missing or of the wrong length"),
        };
        Finding { reason: reason.to_owned(), ..about(kind, &spans[span as usize]) }
    };
    let mut findings: Vec<Finding> = oddities.iter().map(finding).collect();
    findings.sort_unstable();
    findings
}

/// A step is known to this, ns: a short span beside it may have been where it was.
const NEAR_STEP_NS: i64 = 500_000_000;

/// Why a span ends before it starts: the step back of its clock by which its ends were parted, or none.
fn backwards(head: &SpanHead, corrected: &Corrected, model: &ClockModel) -> String {
    let parted = (corrected.end - corrected.start).saturating_add(head.start - head.end);
    let between = |step: &&Step| {
        let at = step.at.nanos();
        let near = corrected.start - NEAR_STEP_NS < at && at <= corrected.end + NEAR_STEP_NS;
        let alike = parted.saturating_add(step.size_ns).abs() <= step.uncertainty_ns - step.size_ns / 10;
        step.kind == StepKind::Step && step.size_ns < 0 && near && alike
    };
    match model.steps.iter().find(between) {
        Some(step) => format!(
            "it ends before it starts: its clock stepped by {} ms at {} ns, while it lasted; each end is placed by its \
             own side of that",
            step.size_ns as f64 / 1e6,
            step.at.nanos()
        ),
        None => {
            "it ends before it starts, and no step of its clock explains it: inside its parent, if that waited for \
                 it, otherwise at its start"
                .to_owned()
        }
    }
}

/// Findings about single spans' times. `models` are the clocks', by id.
pub fn of_times(spans: &[Paired], corrected: &[Corrected], models: &[ClockModel]) -> Vec<Finding> {
    const YEAR_2000: i64 = 946_684_800_000_000_000;
    const DAY: i64 = 86_400_000_000_000;
    // A copy is a finding of its own; what else is wrong with it is told once.
    let counted = || spans.iter().zip(corrected).filter(|(span, _)| span.standing != Standing::Duplicate);
    let mut starts: Vec<i64> =
        counted().map(|(span, _)| span.head.start).filter(|start| !start.is_broken()).map(LocalTime::nanos).collect();
    starts.sort_unstable();
    let median = starts.get(starts.len() / 2).copied().unwrap_or(0);
    let mut findings = Vec::new();
    for (span, corrected) in counted() {
        let SpanHead { start, end, .. } = span.head;
        if start == LocalTime::MAX || end == LocalTime::MAX {
            let reason = "a time of 2^63 ns and more: told as 2^63 − 1, its bytes untouched".to_owned();
            findings.push(Finding { reason, ..about("time_out_of_range", span) });
        } else if start.nanos() < YEAR_2000 || (start.nanos() - median).abs() > DAY {
            let reason = if start.is_broken() || end.is_broken() {
                "a time within a day of 1970: never moved, never evidence"
            } else {
                "before 2000, or more than a day from the dump's median"
            };
            findings.push(Finding { reason: reason.to_owned(), ..about("implausible_time", span) });
        }
        if end < start {
            findings.push(Finding {
                before_ns: Some(start - end),
                after_ns: Some(0),
                action: if corrected.correction == Correction::Recovered { "recovered" } else { "none" },
                reason: backwards(&span.head, corrected, &models[span.clock.0 as usize]),
                ..about("end_before_start", span)
            });
        }
    }
    findings.sort_unstable();
    findings
}
