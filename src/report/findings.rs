//! Violations and oddities, before and after: one row each.

use std::collections::BTreeMap;

use rustc_hash::{FxHashMap, FxHashSet};
use serde::{Deserialize, Serialize};

use crate::clock::{
    ClockId, ClockModel, Disorder, Link, LocalTime, Order, Pair, ROUNDING_NS, Span, Step, StepKind, Times, Use,
};
use crate::correct::{Corrected, Correction, Judged, Left, PutBack, Unit, Why};
use crate::pair::{Edge, EdgeKind, Oddity, Paired, Pairing, Source, Standing, TWO_SOURCES};
use crate::span::{SpanHead, SpanKind};

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

/// Inversions: parents and children on two clocks that are early or late (`clock::Pair`), as found and as written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tally {
    pub pairs: u64,
    pub before: u64,
    pub after: u64,
    /// As written, those before their parent, and the worst of them, ns; and those that outlast one that waited.
    #[serde(default)]
    pub early_after: u64,
    #[serde(default)]
    pub worst_early_after_ns: i64,
    #[serde(default)]
    pub late_after: u64,
    #[serde(default)]
    pub worst_late_after_ns: i64,
}

impl Tally {
    fn count(&mut self, before: Disorder, after: Disorder) {
        self.pairs += 1;
        self.before += u64::from(before.is_any());
        self.after += u64::from(after.is_any());
        self.early_after += u64::from(after.early_ns > 0);
        self.worst_early_after_ns = self.worst_early_after_ns.max(after.early_ns);
        self.late_after += u64::from(after.late_ns > 0);
        self.worst_late_after_ns = self.worst_late_after_ns.max(after.late_ns);
    }

    /// Those of two windows.
    pub(super) fn then(self, later: Self) -> Self {
        Self {
            pairs: self.pairs + later.pairs,
            before: self.before + later.before,
            after: self.after + later.after,
            early_after: self.early_after + later.early_after,
            worst_early_after_ns: self.worst_early_after_ns.max(later.worst_early_after_ns),
            late_after: self.late_after + later.late_after,
            worst_late_after_ns: self.worst_late_after_ns.max(later.worst_late_after_ns),
        }
    }
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
    /// Calls that are no evidence, as libraries of one process stamp by two time sources.
    pub distrusted: bool,
}

/// Every span's times, as the reports compare them.
pub struct Shown<'a> {
    pub spans: &'a [Paired],
    /// As found in the input: recorded, or as an earlier run left it.
    pub before: &'a [Times],
    pub corrected: &'a [Corrected],
}

impl Shown<'_> {
    fn after(&self, span: u32) -> Times {
        (self.corrected[span as usize].start, self.corrected[span as usize].end)
    }

    /// How far two spans are out of order, as found and as written.
    fn disorders(&self, pair: &Pair) -> (Disorder, Disorder) {
        let before = |span: u32| self.before[span as usize];
        let found = pair.disorder(before(pair.parent), before(pair.child));
        (found, pair.disorder(self.after(pair.parent), self.after(pair.child)))
    }

    /// What was done with a child and its parent.
    fn action(&self, parent: u32, child: u32) -> &'static str {
        let of = |span: u32| &self.corrected[span as usize];
        let is = |correction| [parent, child].iter().any(|&span| of(span).correction == correction);
        let is_moved = |span: u32| self.before[span as usize] != self.after(span);
        if of(child).nudge_ns != 0 {
            "nudged"
        } else if is_moved(parent) || is_moved(child) {
            "moved"
        } else if is(Correction::Contradictory) {
            "left as recorded"
        } else {
            "none"
        }
    }
}

/// Findings and counts of all calls between two clocks. `groups` gives each clock's group.
pub fn of_edges(
    shown: &Shown<'_>,
    pairing: &Pairing,
    set_aside: impl Fn(u64) -> bool,
    groups: impl Fn(ClockId) -> u32,
) -> (Vec<Finding>, BTreeMap<Link, LinkCounts>, Tally) {
    let mut findings = Vec::new();
    let mut links: BTreeMap<Link, LinkCounts> = BTreeMap::new();
    let mut all = Tally::default();
    for edge in &pairing.edges {
        let (parent, child) = (&shown.spans[edge.parent as usize], &shown.spans[edge.child as usize]);
        if child.standing == Standing::Context {
            continue;
        }
        let counts = links.entry(edge.exchange.link).or_default();
        count_exchange(counts, edge, &set_aside);
        let Some(pair) = edge.pair() else { continue };
        let (before, after) = shown.disorders(&pair);
        if pairing.is_own(edge) {
            counts.inversions.count(before, after);
            all.count(before, after);
            let worst = counts.worst_inversion_ns.max(Some(before.worst_ns()).filter(|nanos| *nanos > 0));
            counts.worst_inversion_ns = worst;
        }
        let comparable = groups(parent.clock) == groups(child.clock);
        findings.extend(outlasts(shown, edge));
        let sides = [
            ("starts_before_parent", before.early_ns, after.early_ns),
            ("ends_after_parent", before.late_ns, after.late_ns),
        ];
        for (kind, before, after) in sides {
            if before.max(after) > 0 {
                let action = shown.action(edge.parent, edge.child);
                findings.push(Finding {
                    parent: Some(parent.head.span.0),
                    parent_clock: Some(parent.clock),
                    before_ns: Some(before),
                    after_ns: Some(after),
                    action,
                    reason: reason(edge, before, after, comparable, action != "none"),
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
        Use::Neither => counts.distrusted |= edge.reason == Some(TWO_SOURCES),
    }
}

/// A server that took longer than the server above it, which starts that are floored do not excuse, and ends after it.
fn outlasts(shown: &Shown<'_>, edge: &Edge) -> Option<Finding> {
    let late = |[parent, child]: [Times; 2]| child.1.saturating_sub(parent.1).max(0);
    let before = late([edge.parent, edge.child].map(|span| shown.before[span as usize]));
    let after = late([edge.parent, edge.child].map(|span| shown.after(span)));
    let is_longer = edge.kind == EdgeKind::WithoutClient && edge.exchange.round_trip_delay_ns() < -ROUNDING_NS;
    let child = &shown.spans[edge.child as usize];
    (is_longer && edge.order.is_some() && before > ROUNDING_NS).then(|| Finding {
        parent: Some(shown.spans[edge.parent as usize].head.span.0),
        parent_clock: Some(shown.spans[edge.parent as usize].clock),
        before_ns: Some(before),
        after_ns: Some(after),
        action: shown.action(edge.parent, edge.child),
        reason: "it took longer than the server above it, and ends after it: nobody waited, or that one stamps its end early"
            .to_owned(),
        ..about("ends_after_parent", child)
    })
}

fn reason(edge: &Edge, before: i64, after: i64, comparable: bool, is_moved: bool) -> String {
    let why = match (comparable, edge.reason) {
        (false, _) if is_moved => "no round trip ties the two clocks: what moved one of them says nothing of the other",
        (false, _) => "no round trip ties the two clocks, so neither is moved for it",
        (_, Some(reason)) => reason,
        (true, None) if after == 0 => "the clocks' offsets explain it",
        (true, None) if after < before => "the clocks' offsets explain part of it",
        (true, None) => "the clocks do not explain it",
    };
    why.to_owned()
}

/// Same-clock disorder: a child this long before its parent, ns, though one clock stamped both. Shorter ones are usual where
/// an SDK takes a start from its caller.
const SAME_CLOCK_NS: i64 = 1_000_000_000;

/// Children more than a second before their parent on the same clock.
pub fn of_one_clock(shown: &Shown<'_>, parents: &[Option<u32>]) -> Vec<Finding> {
    let finding = |(child, parent): (u32, &Option<u32>)| {
        let parent = (*parent)?;
        let (of, from) = (&shown.spans[child as usize], &shown.spans[parent as usize]);
        if of.standing == Standing::Context || of.clock != from.clock || of.head.is_broken() || from.head.is_broken() {
            return None;
        }
        let receives = of.head.kind == SpanKind::Consumer && !of.head.facts.processes_message;
        let order = if receives { Order::EndsAfter } else { Order::After };
        let (before, after) = shown.disorders(&Pair::new(parent, child, order, [of.quantum_ns, from.quantum_ns]));
        let reason = if after.early_ns == 0 {
            "its clock was set back between the two"
        } else {
            "one clock, so not skew: a second time source, or a restored snapshot"
        };
        (before.early_ns > SAME_CLOCK_NS).then(|| Finding {
            parent: Some(from.head.span.0),
            parent_clock: Some(from.clock),
            before_ns: Some(before.early_ns),
            after_ns: Some(after.early_ns),
            action: shown.action(parent, child),
            reason: reason.to_owned(),
            ..about("starts_before_parent", of)
        })
    };
    (0..).zip(parents).filter_map(finding).collect()
}

/// Clocks that tick too coarsely: one finding for each process. `ticks` are per resource, ns.
pub fn of_ticks(spans: &[Paired], ticks: &[Option<i64>]) -> Vec<Finding> {
    let mut clocks: BTreeMap<u32, ClockId> = BTreeMap::new();
    spans.iter().for_each(|span| _ = clocks.entry(span.resource).or_insert(span.clock));
    let finding = |(resource, tick): (u32, &Option<i64>)| {
        let tick = Span((*tick)?.unsigned_abs());
        Some(Finding {
            kind: "coarse_tick",
            clock: clocks.get(&resource).copied(),
            resource: Some(resource),
            action: "none",
            reason: format!(
                "all its starts are whole multiples of {tick} apart: it reads a clock that ticks every {tick}, and may be early \
                 by as much"
            ),
            ..Finding::default()
        })
    };
    (0..).zip(ticks).filter_map(finding).collect()
}

/// Libraries that stamp their spans by another time source than the rest of their process: one finding each. `scopes` are
/// names, by number.
pub fn of_sources(spans: &[Paired], found: &[Source], scopes: &[String]) -> Vec<Finding> {
    let mut clocks: BTreeMap<u32, ClockId> = BTreeMap::new();
    spans.iter().for_each(|span| _ = clocks.entry(span.resource).or_insert(span.clock));
    let finding = |source: &Source| {
        let [parents, children] = source.scopes.map(|scope| scopes[scope as usize].as_str());
        let (apart, way) = (Span(source.apart_ns.unsigned_abs()), if source.apart_ns < 0 { "before" } else { "after" });
        Finding {
            kind: "untrusted_source",
            clock: clocks.get(&source.resource).copied(),
            resource: Some(source.resource),
            action: "none",
            reason: format!(
                "in one process spans of scope `{children}` are about {apart} {way} those of scope `{parents}` that they belong \
                 in ({} of {} lie outside): one of the two libraries stamps by another time source",
                source.outside, source.pairs
            ),
            ..Finding::default()
        }
    };
    found.iter().map(finding).collect()
}

/// Why a segment, or the work of a call, was left as recorded: one finding each.
pub fn of_left(shown: &Shown<'_>, left: &[Left], models: &[ClockModel]) -> Vec<Finding> {
    let finding = |Left { unit, why }: &Left| {
        let (clock, what) = match *unit {
            Unit::Segment { clock, number } => (clock, stretch(&models[clock.0 as usize], number)),
            Unit::Work { span } => {
                let Paired { head, clock, .. } = &shown.spans[span as usize];
                (*clock, format!("the work of span {:016x} in trace {:032x}", head.span.0, head.trace.0))
            }
        };
        let (before_ns, after_ns, reason) = match why {
            Why::Rate(ppm) => (
                None,
                None,
                format!(
                    "{what}: its offset would change by {ppm:.0} ppm, faster than any clock is slewed; a wrong reading, \
                     or a second time source under one key"
                ),
            ),
            Why::Worse(put_back) => {
                // As it stays where it was.
                let early_ns = Some(i64::try_from(put_back.before.early_ns).unwrap_or(i64::MAX));
                (early_ns, early_ns, worse(shown, &what, put_back))
            }
        };
        Finding {
            kind: "not_corrected",
            clock: Some(clock),
            before_ns,
            after_ns,
            action: "left as recorded",
            reason,
            ..Finding::default()
        }
    };
    left.iter().map(finding).collect()
}

/// Which part of a clock's time a segment is.
fn stretch(model: &ClockModel, number: usize) -> String {
    let segment = &model.segments[number];
    let [from, until] = [segment.knots.first(), segment.knots.last()].map(|knot| knot.map_or(0, |it| it.local.nanos()));
    match model.segments.len() {
        1 => "all of its time".to_owned(),
        count => format!("segment {number} of {count}, {from} to {until} ns by its own time"),
    }
}

fn worse(shown: &Shown<'_>, what: &str, put_back: &PutBack) -> String {
    let PutBack { pairs, before, after, worst, with_group, .. } = put_back;
    let name = |Judged { pair, before, after }: &Judged| {
        let child = &shown.spans[pair.child as usize].head;
        let by = |disorder: &Disorder| match (disorder.early_ns, disorder.late_ns) {
            (0, 0) => "in order".to_owned(),
            (0, late) => format!("{} late", Span(late.unsigned_abs())),
            (early, _) => format!("{} early", Span(early.unsigned_abs())),
        };
        format!("{:032x} {:016x} ({} → {})", child.trace.0, child.span.0, by(before), by(after))
    };
    let names: Vec<String> = worst.iter().map(name).collect();
    let all = if *with_group { ", with all clocks that its calls tie it to" } else { "" };
    format!(
        "{what}: to move it{all} would leave {} of {pairs} parents and children out of order, where {} are as recorded; look \
         at these for a wrong reading, a second time source or a coarse clock: {}",
        after.pairs,
        before.pairs,
        names.join(", ")
    )
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
    let is_own = |&&(span, _): &&(u32, Oddity)| spans[span as usize].standing != Standing::Context;
    let mut findings: Vec<Finding> = oddities.iter().filter(is_own).map(finding).collect();
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
    let counted = || spans.iter().zip(corrected).filter(|(span, _)| span.is_told());
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
