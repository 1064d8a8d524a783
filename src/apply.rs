//! One span's placement → what to write into the bytes that it came in.
//!
//! In come a record, where a span sits in it, its recorded times and where it is placed; out goes the edit, or nothing
//! where it stays as it is. Knows of no other span, and so serves whole dumps and single spans as they pass alike.

use std::sync::Arc;

use crate::clock::{LocalTime, Segment};
use crate::correct::{self, Corrected, Recorded};
use crate::otlp::{EventEdit, Payload, SpanEdit};
use crate::span::Marks;

/// Where one span is placed.
#[derive(Clone, Copy, Debug)]
pub struct Placement<'a> {
    pub recorded: Recorded,
    pub placed: Corrected,
    /// Display name of its clock.
    pub clock: &'a Arc<str>,
    /// The stretch of its clock's model that its start belongs to, by which its events go; `None`: no model.
    pub segment: Option<&'a Segment>,
}

/// The edit of the span at a place in its record; `None` where neither its times nor its events' change. With `annotate`
/// it is marked, so that its recorded times can be had back.
pub fn edit(payload: &Payload<'_>, span: u32, placement: &Placement<'_>, annotate: bool) -> Option<SpanEdit> {
    let Placement { recorded, placed, clock, .. } = placement;
    let (start, end) = (recorded.start.nanos(), recorded.end.nanos());
    let changed = |from: i64, to: i64| (from != to).then_some(to as u64);
    let events = events(payload, span, placement, annotate);
    if placed.start == start && placed.end == end && events.is_empty() {
        return None;
    }
    let kept = |recorded: i64, written: i64| (recorded - written != placed.offset_ns).then_some(recorded);
    let marks = annotate.then(|| Marks {
        clock: Arc::clone(clock),
        offset_ns: placed.offset_ns,
        nudge_ns: Some(placed.nudge_ns).filter(|nanos| *nanos != 0),
        uncertainty_ns: placed.uncertainty_ns,
        correction: placed.correction.name().into(),
        original_start_unix_nano: kept(start, placed.start),
        original_end_unix_nano: kept(end, placed.end),
        is_estimate: false,
    });
    Some(SpanEdit { span, start: changed(start, placed.start), end: changed(end, placed.end), events, marks })
}

/// The edit that leaves a span's times as they are and says what would be taken off them.
pub fn annotation(span: u32, placement: &Placement<'_>) -> SpanEdit {
    let Placement { placed, clock, .. } = placement;
    let marks = Marks {
        clock: Arc::clone(clock),
        offset_ns: placed.offset_ns,
        uncertainty_ns: placed.uncertainty_ns,
        is_estimate: true,
        ..Marks::default()
    };
    SpanEdit { span, marks: Some(marks), ..SpanEdit::default() }
}

/// Events move with their span; one that does not, or not by as much, says in a mark where it was.
fn events(payload: &Payload<'_>, span: u32, placement: &Placement<'_>, annotate: bool) -> Vec<EventEdit> {
    let Placement { recorded, placed, segment, .. } = placement;
    let edit = |event: u32| {
        // No time at all is read as zero, and is never moved: nothing to tell.
        let time = payload.events[event as usize].time.as_ref()?.unix_nano;
        let local = LocalTime::from_unix_nano(time);
        let written = correct::event(local, *recorded, placed, *segment);
        let time = (local.nanos() != written).then_some(written as u64);
        let is_derived = !annotate || local.nanos() - written == placed.offset_ns;
        let original_unix_nano = (!is_derived).then_some(local.nanos());
        (time.is_some() || !is_derived).then_some(EventEdit { event, time, original_unix_nano })
    };
    payload.spans[span as usize].events.clone().filter_map(edit).collect()
}
