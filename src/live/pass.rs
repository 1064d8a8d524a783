//! One record → its edits: each span by its clock's model as it passes.

use std::sync::Arc;

use rustc_hash::FxHashMap;

use super::era::{Era, Use};
use super::find::{AFTER_ARRIVAL_NS, Found, Published};
use super::watch::Call;
use crate::apply::{self, Placement};
use crate::clock::{ClockId, ClockModel, LocalTime, Order, Pair, ReferenceTime};
use crate::correct::{self, Corrected, Recorded, Sides};
use crate::otlp::{Payload, SpanEdit, SpanSite};
use crate::span::{SpanId, SpanKind, TraceId};

/// What is done to spans whose clock is off.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Mode {
    /// Nothing: bytes leave as they came.
    #[default]
    Observe,
    /// Times stay; attributes say what would be taken off.
    Annotate,
    Correct,
}

/// What became of a span.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Its clock is off; in mode `observe` it would be moved.
    Moved,
    /// Nothing is wrong with its clock, or it is to be left alone.
    LeftAlone,
    NoModel,
    ModelExpired,
    /// Moved it would end later than it arrived.
    AfterArrival,
    /// Its clock is further off than may be corrected.
    Capped,
    /// Moved or annotated before it came here.
    Marked,
}

/// Every outcome, with its name in metrics.
pub const OUTCOMES: [(Outcome, &str); 7] = [
    (Outcome::Moved, "moved"),
    (Outcome::LeftAlone, "left_alone"),
    (Outcome::NoModel, "no_model"),
    (Outcome::ModelExpired, "model_expired"),
    (Outcome::AfterArrival, "after_arrival"),
    (Outcome::Capped, "capped"),
    (Outcome::Marked, "marked"),
];

/// Spans of a record by what became of them, and calls between two clocks of which both spans are in it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// In the order of [`OUTCOMES`].
    pub spans: [u64; OUTCOMES.len()],
    pub pairs: u64,
    /// Of these, those whose child starts before its parent: as they came, and as they leave.
    pub out_of_order: [u64; 2],
}

/// What a record becomes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Passed {
    /// In the order of the spans.
    pub edits: Vec<SpanEdit>,
    pub tally: Tally,
    /// Where spans are moved, calls between two clocks of the newest models.
    pub calls: Vec<Call>,
}

/// Corrects one record that arrived at this time of the stage's own clock. `found` is what [`Published::find`] gave.
pub fn pass(
    payload: &Payload<'_>,
    published: &Published,
    found: &[Arc<Found>],
    arrival: ReferenceTime,
    mode: Mode,
) -> Passed {
    let mut passed = Passed::default();
    if published.eras.is_empty() {
        let marked = payload.spans.iter().filter(|site| site.is_marked()).count() as u64;
        passed.tally.spans[Outcome::Marked as usize] = marked;
        passed.tally.spans[Outcome::NoModel as usize] = payload.spans.len() as u64 - marked;
        return passed;
    }
    let mut calls = Calls::of(payload.spans.len());
    for (index, site) in (0u32..).zip(&payload.spans) {
        let of = &*found[site.resource as usize];
        let recorded = Recorded { start: site.head.start, end: site.head.end, ends: of.ends };
        let (outcome, placed, clock) = place(site, recorded, of, &published.eras, arrival);
        passed.tally.spans[outcome as usize] += 1;
        let start = placed.as_ref().map_or(recorded.start.nanos(), |(placement, _)| placement.placed.start);
        calls.see(site, clock, [recorded.start.nanos(), start]);
        if let Some((placement, _)) = placed {
            passed.edits.extend(match mode {
                Mode::Observe => None,
                Mode::Annotate => Some(apply::annotation(index, &placement)),
                Mode::Correct => apply::edit(payload, index, &placement, true),
            });
        }
    }
    calls.count(&mut passed, mode, published.eras.len() - 1);
    passed
}

type Placed<'a> = (Placement<'a>, ClockId);

/// What becomes of a span, where it is placed if it is moved, and which clock it has, as `(era, clock)`.
fn place<'a>(
    site: &SpanSite,
    recorded: Recorded,
    found: &Found,
    eras: &'a [Era],
    arrival: ReferenceTime,
) -> (Outcome, Option<Placed<'a>>, Option<(usize, ClockId, u32)>) {
    if site.is_marked() {
        return (Outcome::Marked, None, None);
    }
    let Some((number, era, clock)) = era_of(recorded.start, found, eras, arrival) else {
        return (Outcome::NoModel, None, None);
    };
    let model = &era.models.clock(clock).1;
    let known = Some((number, clock, model.group));
    let until = match era.use_of(clock) {
        Use::NoModel => return (Outcome::NoModel, None, None),
        Use::LeftAlone => return (Outcome::LeftAlone, None, known),
        Use::Capped => return (Outcome::Capped, None, known),
        Use::Until(until) => until,
    };
    if recorded.start.is_broken() || recorded.end.is_broken() {
        return (Outcome::LeftAlone, None, known);
    }
    if recorded.start > until {
        return (Outcome::ModelExpired, None, known);
    }
    let side = |at: LocalTime| side(model, at, arrival).unwrap_or_default();
    let sides = Sides { start: side(recorded.start), end: side(recorded.end), doubt_ns: 0 };
    let placed = correct::span(recorded, model, sides);
    let latest = arrival.plus(AFTER_ARRIVAL_NS).nanos();
    if placed.end > latest && recorded.end.nanos() <= latest {
        return (Outcome::AfterArrival, None, known);
    }
    let is_moved = |segment: usize| model.segments.get(segment).is_some_and(|segment| segment.is_moved());
    if !(is_moved(sides.start) || is_moved(sides.end)) || is_still(recorded, &placed) {
        return (Outcome::LeftAlone, None, known);
    }
    let segment = placed.segment.and_then(|number| model.segments.get(number));
    let placement = Placement { recorded, placed, clock: era.name(clock), segment };
    (Outcome::Moved, Some((placement, clock)), known)
}

fn is_still(recorded: Recorded, placed: &Corrected) -> bool {
    placed.start == recorded.start.nanos() && placed.end == recorded.end.nanos()
}

/// The newest models that hold when a span starts, as they put it themselves; and its clock by them.
fn era_of<'a>(
    start: LocalTime,
    found: &Found,
    eras: &'a [Era],
    arrival: ReferenceTime,
) -> Option<(usize, &'a Era, ClockId)> {
    let (number, era) = eras.iter().enumerate().rev().find(|(number, era)| {
        // The first hold from the beginning.
        if *number == 0 {
            return true;
        }
        let model = found.clocks[*number].map(|clock| &era.models.clock(clock).1);
        let segment = model.and_then(|model| Some(&model.segments[side(model, start, arrival)?]));
        start.plus(-segment.map_or(0, |segment| segment.applied_at(start))).nanos() >= era.from.nanos()
    })?;
    Some((number, era, found.clocks[number]?))
}

/// The side of a step that a reading is on, told by when it arrived: of the segments that it may lie in the one in which it
/// is latest, but not later than that, give or take what clocks of stages differ. A clock that stepped back reads the same times twice, and what passes is new.
pub(super) fn side(model: &ClockModel, at: LocalTime, arrival: ReferenceTime) -> Option<usize> {
    if model.segments.len() == 1 {
        return Some(0);
    }
    let candidates = model.segments_at(at).map(|(number, segment)| (at.plus(-segment.offset_at(at)).nanos(), number));
    let (mut before, mut after) = (None, None);
    for candidate in candidates {
        if candidate.0 <= arrival.plus(AFTER_ARRIVAL_NS).nanos() {
            before = before.max(Some(candidate));
        } else if after.is_none_or(|least| candidate < least) {
            after = Some(candidate);
        }
    }
    before.or(after).map(|(_, number)| number).or_else(|| model.segment_at(at))
}

/// Calls of which both spans are in one record.
#[derive(Default)]
struct Calls {
    /// By [`short`] of their ids, places in `seen` of those that may have called.
    callers: FxHashMap<u64, u32>,
    /// With the ids of those that called them.
    called: Vec<(SpanId, Seen)>,
    seen: Vec<(SpanId, Seen)>,
}

/// A span's trace, its clock, as era, clock and group, and its start as it came and as it leaves.
struct Seen {
    trace: TraceId,
    clock: (usize, ClockId, u32),
    start: [i64; 2],
}

/// Both ids in one word: a map of these is a third as large.
fn short(TraceId(trace): TraceId, SpanId(span): SpanId) -> u64 {
    trace as u64 ^ (trace >> 64) as u64 ^ span.rotate_left(32)
}

impl Calls {
    fn of(spans: usize) -> Self {
        let mut calls = Self::default();
        calls.callers.reserve(spans / 2);
        calls
    }

    fn see(&mut self, site: &SpanSite, clock: Option<(usize, ClockId, u32)>, start: [i64; 2]) {
        let Some(clock) = clock else { return };
        let (head, seen) = (&site.head, Seen { trace: site.head.trace, clock, start });
        match (head.kind, head.parent) {
            (SpanKind::Client | SpanKind::Producer, _) => {
                self.callers.insert(short(head.trace, head.span), self.seen.len() as u32);
                self.seen.push((head.span, seen));
            }
            (SpanKind::Server | SpanKind::Consumer, Some(parent)) => self.called.push((parent, seen)),
            _ => {}
        }
    }

    fn caller(&self, trace: TraceId, parent: SpanId) -> Option<&Seen> {
        let (span, seen) = self.seen.get(*self.callers.get(&short(trace, parent))? as usize)?;
        (*span == parent && seen.trace == trace).then_some(seen)
    }

    /// A child that starts before its parent is out of order, whatever the parent waited for.
    fn count(&self, passed: &mut Passed, mode: Mode, newest: usize) {
        let tally = &mut passed.tally;
        for (parent, child) in &self.called {
            let Some(caller) = self.caller(child.trace, *parent) else { continue };
            let ((era, one, group), (other_era, other, other_group)) = (caller.clock, child.clock);
            if (era, one) == (other_era, other) || (era, group) != (other_era, other_group) {
                continue;
            }
            let pair = Pair::new(0, 1, Order::After, [1, 1]);
            let late =
                |when: usize| pair.disorder((caller.start[when], i64::MAX), (child.start[when], i64::MAX)).is_any();
            let leaves = if mode == Mode::Correct { 1 } else { 0 };
            tally.pairs += 1;
            tally.out_of_order[0] += u64::from(late(0));
            tally.out_of_order[1] += u64::from(late(leaves));
            if era == newest && mode == Mode::Correct {
                passed.calls.push(Call { clocks: [one, other], out_of_order: [late(0), late(1)] });
            }
        }
    }
}
