//! Records as they pass, row by row.

use std::sync::Arc;

use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::{AnyValue, KeyValue, any_value::Value};
use opentelemetry_proto::tonic::resource::v1::Resource;
use opentelemetry_proto::tonic::trace::v1::{ResourceSpans, ScopeSpans, Span};
use prost::Message as _;

use super::era::tests::{NOON, S, ahead, limits};
use super::*;
use crate::clock::{Clock, ClockId, ClockModel, ClockState, Onward, ReferenceTime, Segment};
use crate::identity::{Finder, Place};
use crate::models::Models;
use crate::otlp;

const MS: i64 = 1_000_000;

fn text(key: &str, value: &str) -> KeyValue {
    let value = Some(AnyValue { value: Some(Value::StringValue(value.to_owned())) });
    KeyValue { key: key.to_owned(), value, ..KeyValue::default() }
}

/// Spans of one host each: host, start and end in ns after noon by its clock, kind, and the place of its parent.
type Row<'a> = (&'a str, i64, i64, i32, Option<u8>);

fn record(rows: &[Row<'_>]) -> Vec<u8> {
    let id = |place: u8| vec![0, 0, 0, 0, 0, 0, 1, place];
    let resource_spans = (0..).zip(rows).map(|(place, (host, start, end, kind, parent))| ResourceSpans {
        resource: Some(Resource { attributes: vec![text("host.name", host)], ..Resource::default() }),
        scope_spans: vec![ScopeSpans {
            spans: vec![Span {
                trace_id: vec![7; 16],
                span_id: id(place),
                parent_span_id: parent.map(id).unwrap_or_default(),
                start_time_unix_nano: (NOON + start) as u64,
                end_time_unix_nano: (NOON + end) as u64,
                kind: *kind,
                ..Span::default()
            }],
            ..ScopeSpans::default()
        }],
        schema_url: String::new(),
    });
    ExportTraceServiceRequest { resource_spans: resource_spans.collect() }.encode_to_vec()
}

/// Clocks by host name.
fn models(clocks: &[(&str, ClockModel)]) -> Arc<Models> {
    let clock = |(name, model): &(&str, ClockModel)| {
        (Clock { name: (*name).into(), key: (*name).into(), ..Clock::default() }, model.clone())
    };
    let place = |(number, (name, _)): (u32, &(&str, ClockModel))| {
        (("host.name".to_owned(), (*name).to_owned()), Place::Clock(ClockId(number)))
    };
    let finder = Finder { places: (0..).zip(clocks).map(place).collect(), ..Finder::default() };
    Arc::new(Models { clocks: clocks.iter().map(clock).collect(), finder, ..Models::default() })
}

fn steady(offset_ns: i64) -> ClockModel {
    ahead(offset_ns, Onward { rate_ppb: 0, growth_ppb: 15_000 })
}

fn right() -> ClockModel {
    ClockModel { state: ClockState::Reference, ..steady(0) }
}

/// A clock that is right until a minute before noon, and ahead by this from then on.
fn stepped(offset_ns: i64) -> ClockModel {
    let at = ReferenceTime::from_nanos(NOON - 60 * S);
    let before = Segment { until: at, ..steady(0).segments[0].clone() };
    let after = Segment { from: at, ..steady(offset_ns).segments[0].clone() };
    ClockModel { segments: vec![before, after], ..steady(0) }
}

fn sent(published: &Published, bytes: &[u8], arrival: i64, mode: Mode) -> Passed {
    let payload = otlp::protobuf::locate(bytes).unwrap();
    let found = published.find(&payload, ReferenceTime::from_nanos(NOON + arrival));
    pass(&payload, published, &found, ReferenceTime::from_nanos(NOON + arrival), mode)
}

/// What becomes of one span of a host, and by how much it is moved, ms.
fn check(model: ClockModel, start: i64, end: i64, arrival: i64, expected: &str) {
    let published = Published::of(Some(models(&[("a", model)])), &limits());
    let passed = sent(&published, &record(&[("a", start, end, 1, None)]), arrival, Mode::Correct);
    let outcome = OUTCOMES.iter().zip(passed.tally.spans).find(|(_, count)| *count == 1).map_or("none", |it| it.0.1);
    let moved = passed.edits.first().and_then(|edit| edit.start).map_or(0, |to| (start - (to as i64 - NOON)) / MS);
    assert_eq!(format!("{outcome} {moved}"), expected);
}

#[test]
fn a_span_is_moved_by_its_clocks_model() {
    check(steady(5 * MS), 0, MS, S, "moved 5");
    check(steady(-5 * MS), 0, MS, S, "moved -5");
    check(right(), 0, MS, S, "left_alone 0");
    check(ClockModel { state: ClockState::NoEvidence, segments: Vec::new(), ..right() }, 0, MS, S, "no_model 0");
}

#[test]
fn what_is_too_old_too_far_or_not_yet_passes_unmoved() {
    check(steady(5 * S), 3601 * S, 3601 * S, 3602 * S, "model_expired 0");
    check(steady(25 * 3600 * S), 0, MS, S, "capped 0");
    // Behind by five seconds; it would end after it arrived.
    check(steady(-5 * S), 0, MS, 2 * S, "after_arrival 0");
    check(steady(-5 * S), 0, MS, 5 * S, "moved -5000");
    // A stage whose own clock is far behind is no reason.
    check(steady(-5 * S), 0, MS, -60 * S, "moved -5000");
}

#[test]
fn the_side_of_a_step_back_is_told_by_the_arrival() {
    // Readings from 70 to 60 s before noon are there twice.
    check(stepped(-10 * S), -65 * S, -65 * S, -64 * S, "left_alone 0");
    check(stepped(-10 * S), -65 * S, -65 * S, -50 * S, "moved -10000");
    check(stepped(-10 * S), -80 * S, -80 * S, S, "left_alone 0");
}

#[test]
fn what_is_not_known_is_not_touched() {
    let published = Published::of(Some(models(&[("a", steady(S))])), &limits());
    let passed = sent(&published, &record(&[("b", 0, MS, 1, None)]), S, Mode::Correct);
    assert_eq!((passed.edits.len(), passed.tally.spans[Outcome::NoModel as usize]), (0, 1));
    let passed = sent(&Published::of(None, &limits()), &record(&[("a", 0, MS, 1, None)]), S, Mode::Correct);
    assert_eq!((passed.edits.len(), passed.tally.spans[Outcome::NoModel as usize]), (0, 1));
}

#[test]
fn a_span_is_corrected_or_annotated_once() {
    let published = Published::of(Some(models(&[("a", steady(5 * MS))])), &limits());
    let bytes = record(&[("a", 0, MS, 1, None)]);
    for mode in [Mode::Annotate, Mode::Correct] {
        let payload = otlp::protobuf::locate(&bytes).unwrap();
        let mut once = Vec::new();
        otlp::rewrite(&payload, &sent(&published, &bytes, S, mode).edits, &mut once);
        let start = |bytes: &[u8]| otlp::protobuf::locate(bytes).unwrap().spans[0].head.start.nanos() - NOON;
        assert_eq!(start(&once), if mode == Mode::Correct { -5 * MS } else { 0 });
        let again = sent(&published, &once, S, Mode::Correct);
        assert_eq!((again.edits.len(), again.tally.spans[Outcome::Marked as usize]), (0, 1), "{mode:?}");
        // What is annotated was not moved, and nothing takes it for moved.
        assert_eq!(otlp::protobuf::locate(&once).unwrap().spans[0].marks.is_some(), mode == Mode::Correct);
    }
    assert_eq!(sent(&published, &bytes, S, Mode::Observe).edits, []);
}

#[test]
fn calls_within_a_record_are_counted_as_they_came_and_as_they_leave() {
    let published = Published::of(Some(models(&[("a", right()), ("b", steady(-5 * MS))])), &limits());
    let bytes = record(&[("a", 0, 9 * MS, 3, None), ("b", -3 * MS, 0, 2, Some(0))]);
    for (mode, after) in [(Mode::Observe, 1), (Mode::Annotate, 1), (Mode::Correct, 0)] {
        let tally = sent(&published, &bytes, S, mode).tally;
        assert_eq!((tally.pairs, tally.out_of_order), (1, [1, after]), "{mode:?}");
    }
}

/// The shift of each span, ms, by hosts `a` and `b`.
fn shifts(published: &Published, rows: &[Row<'_>]) -> Vec<i64> {
    let passed = sent(published, &record(rows), 100 * S, Mode::Correct);
    let mut shifts = vec![0; rows.len()];
    for edit in passed.edits {
        let row = &rows[edit.span as usize];
        shifts[edit.span as usize] = edit.start.map_or(0, |to| (row.1 - (to as i64 - NOON)) / MS);
    }
    shifts
}

#[test]
fn nothing_is_corrected_two_ways_when_models_change() {
    let published = Published::of(Some(models(&[("a", steady(5 * MS)), ("b", steady(50 * MS))])), &limits());
    let sent_before = [("a", 2 * S, 2 * S, 1, None), ("b", 3 * S, 3 * S, 1, None)];
    assert_eq!(shifts(&published, &sent_before), [5, 50]);
    let next = models(&[("a", steady(7 * MS)), ("b", steady(70 * MS)), ("c", steady(90 * MS))]);
    let now = ReferenceTime::from_nanos(NOON + 10 * S);
    let published = published.followed_by(next, now);
    // Sent again, it comes out as it did; what is new, by what is new.
    assert_eq!(shifts(&published, &sent_before), [5, 50]);
    assert_eq!(shifts(&published, &[("a", 4 * S, 4 * S, 1, None), ("b", 4 * S, 4 * S, 1, None)]), [7, 70]);
    // A clock that nobody knew begins with the new ones.
    assert_eq!(shifts(&published, &[("c", 2 * S, 2 * S, 1, None), ("c", 4 * S, 4 * S, 1, None)]), [0, 90]);
}

#[test]
fn a_span_from_far_ahead_does_not_stop_new_models() {
    let published = Published::of(Some(models(&[("a", steady(5 * MS)), ("b", steady(50 * MS))])), &limits());
    let year = 365 * 86_400 * S;
    shifts(&published, &[("a", 2 * S, 2 * S, 1, None), ("b", 70 * year, 70 * year, 1, None)]);
    let next = models(&[("a", steady(7 * MS)), ("b", steady(70 * MS))]);
    let published = published.followed_by(next, ReferenceTime::from_nanos(NOON + 10 * S));
    assert_eq!(shifts(&published, &[("a", 4 * S, 4 * S, 1, None), ("b", 4 * S, 4 * S, 1, None)]), [7, 70]);
}

#[test]
fn a_clock_that_did_harm_is_left_alone_until_its_next_models() {
    let clocks = || models(&[("a", steady(5 * MS)), ("b", steady(50 * MS))]);
    let spans = |at: i64| [("a", at * S, at * S, 1, None), ("b", at * S, at * S, 1, None)];
    let published = Published::of(Some(clocks()), &limits());
    assert_eq!(shifts(&published, &spans(2)), [5, 50]);
    let published = published.holding(&[ClockId(1)]);
    assert_eq!(shifts(&published, &spans(3)), [5, 0]);
    assert_eq!(shifts(&published.limited(&limits()), &spans(3)), [5, 0]);
    let published = published.followed_by(clocks(), ReferenceTime::from_nanos(NOON + 10 * S));
    // What was sent before stays as it was.
    assert_eq!(shifts(&published, &spans(3)), [5, 0]);
    assert_eq!(shifts(&published, &spans(5)), [5, 50]);
}

#[test]
fn calls_are_told_with_their_clocks_where_spans_are_moved() {
    let published = Published::of(Some(models(&[("a", right()), ("b", steady(-5 * MS))])), &limits());
    let bytes = record(&[("a", 0, 9 * MS, 3, None), ("b", -3 * MS, 0, 2, Some(0))]);
    let call = Call { clocks: [ClockId(0), ClockId(1)], out_of_order: [true, false] };
    assert_eq!(sent(&published, &bytes, S, Mode::Correct).calls, [call]);
    assert_eq!(sent(&published, &bytes, S, Mode::Observe).calls, []);
}
