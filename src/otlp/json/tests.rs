use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::common::v1::{
    AnyValue, ArrayValue, EntityRef, InstrumentationScope, KeyValue, KeyValueList,
};
use opentelemetry_proto::tonic::resource::v1::Resource;
use opentelemetry_proto::tonic::trace::v1::span::{Event, Link};
use opentelemetry_proto::tonic::trace::v1::{ResourceSpans, ScopeSpans, Span, Status, TracesData};
use proptest::prelude::*;
use serde_json::{Value as Json, json};

use super::*;
use crate::span::{Marks, Protocol};

/// A record with one span, whose members are `members`.
fn record(members: &str) -> String {
    format!(r#"{{"resourceSpans":[{{"resource":{{}},"scopeSpans":[{{"spans":[{{{members}}}]}}]}}]}}"#)
}

/// What both readers make of the one span in a record, after checking that they agree.
fn span(members: &str) -> (SpanSite, Span) {
    let text = record(members);
    let payload = scan(text.as_bytes()).unwrap_or_else(|error| panic!("{members}: {error}"));
    let data = decode(text.as_bytes()).unwrap_or_else(|error| panic!("{members}: {error}"));
    agree(&payload, &data);
    (payload.spans[0].clone(), data.resource_spans[0].scope_spans[0].spans[0].clone())
}

/// Both readers found the same resources, spans, ids, times, events, links and statuses.
fn agree(payload: &Payload<'_>, data: &TracesData) {
    assert_eq!(payload.resources.len(), data.resource_spans.len());
    let mut sites = payload.spans.iter();
    for (index, resource_spans) in data.resource_spans.iter().enumerate() {
        assert_eq!(payload.resources[index].at.len(), usize::from(resource_spans.resource.is_some()));
        let attributes = resource_spans.resource.as_ref().map_or(&[][..], |resource| &resource.attributes);
        let texts: Vec<_> = attributes
            .iter()
            .map(|attribute| (attribute.key.clone(), crate::otlp::value_text(attribute.value.as_ref()).into_owned()))
            .collect();
        assert_eq!(resource_attributes(payload, index), Ok(texts));
        for span in resource_spans.scope_spans.iter().flat_map(|scope_spans| &scope_spans.spans) {
            let site = sites.next().unwrap();
            assert_eq!(site.resource as usize, index);
            assert_eq!(site.head.trace, TraceId::from_bytes(&span.trace_id));
            assert_eq!(site.head.span, SpanId::from_bytes(&span.span_id));
            let parent = SpanId::from_bytes(&span.parent_span_id);
            assert_eq!(site.head.parent, (parent.0 != 0).then_some(parent));
            assert_eq!(site.head.kind, SpanKind::from_number(span.kind.into()));
            assert_eq!(site.start.as_ref().map_or(0, |time| time.unix_nano), span.start_time_unix_nano);
            assert_eq!(site.end.as_ref().map_or(0, |time| time.unix_nano), span.end_time_unix_nano);
            assert_eq!(site.head.start, LocalTime::from_unix_nano(span.start_time_unix_nano));
            assert_eq!(site.head.end, LocalTime::from_unix_nano(span.end_time_unix_nano));
            assert_eq!(site.head.failed, span.status.as_ref().is_some_and(|status| status.code == 2));
            let mut facts = CallFacts::default();
            for attribute in &span.attributes {
                let value = match attribute.value.as_ref().and_then(|any| any.value.as_ref()) {
                    Some(Value::StringValue(text)) => AttributeValue::Str(text.as_bytes()),
                    Some(Value::IntValue(number)) => AttributeValue::Int(*number),
                    _ => AttributeValue::Other,
                };
                facts.learn(attribute.key.as_bytes(), value);
            }
            assert_eq!(site.head.facts, facts);
            // A `null` among them is no attribute, yet wants a comma after it.
            assert!(span.attributes.is_empty() || site.has_attributes == Some(true));
            let events = &payload.events[site.events.start as usize..site.events.end as usize];
            let times = events.iter().map(|event| event.time.as_ref().map_or(0, |time| time.unix_nano));
            assert!(times.eq(span.events.iter().map(|event| event.time_unix_nano)));
            let links = &payload.links[site.links.start as usize..site.links.end as usize];
            let targets =
                span.links.iter().map(|link| (TraceId::from_bytes(&link.trace_id), SpanId::from_bytes(&link.span_id)));
            assert!(links.iter().copied().eq(targets));
        }
    }
    assert!(sites.next().is_none());
}

#[test]
fn times_in_every_dress() {
    for (text, start) in [
        (r#""startTimeUnixNano":"1700000000000000001""#, 1_700_000_000_000_000_001),
        (r#""startTimeUnixNano":1700000000000000001"#, 1_700_000_000_000_000_001),
        (r#""start_time_unix_nano":"17""#, 17),
        (r#""start\u0054imeUnixNano":"17""#, 17),
        (r#""startTimeUnixNano":"\u00317""#, 17),
        (r#""startTimeUnixNano":1.7e18"#, 1_700_000_000_000_000_000),
        (r#""startTimeUnixNano":"5.0""#, 5),
        (r#""startTimeUnixNano":"18446744073709551615""#, u64::MAX),
        (r#""startTimeUnixNano":null"#, 0),
        (r#""startTimeUnixNano":"""#, 0),
        (r#""startTimeUnixNano":"1","startTimeUnixNano":"2""#, 2),
        (r#""startTimeUnixNano":"1","start_time_unix_nano":null"#, 0),
    ] {
        assert_eq!(span(text).1.start_time_unix_nano, start, "{text}");
    }
}

#[test]
fn what_the_collector_forgives_is_forgiven() {
    use SpanKind::{Client, Server, Unspecified};
    for (text, kind) in [
        (r#""kind":2"#, Server),
        (r#""kind":"2""#, Server),
        (r#""kind":"SPAN_KIND_SERVER""#, Server),
        (r#""kind":"client""#, Client),
        (r#""kind":null"#, Unspecified),
        (r#""kind":99"#, Unspecified),
        (r#""kind":"SPAN_KIND_WHATEVER""#, Unspecified),
    ] {
        assert_eq!(span(text).0.head.kind, kind, "{text}");
    }
    for (text, failed) in [
        (r#""status":{"code":2}"#, true),
        (r#""status":{"code":"STATUS_CODE_ERROR","message":"x"}"#, true),
        (r#""status":{"code":"2"}"#, true),
        (r#""status":{"code":1}"#, false),
        (r#""status":{}"#, false),
        (r#""status":null"#, false),
        (r#""status":{"code":2},"status":{}"#, false),
        (r#""status":{"code":2,"code":0}"#, false),
    ] {
        assert_eq!(span(text).0.head.failed, failed, "{text}");
    }
    let counts =
        span(r#""droppedAttributesCount":"3","dropped_events_count":4,"droppedLinksCount":5.0,"flags":"257""#).1;
    assert_eq!(
        (counts.dropped_attributes_count, counts.dropped_events_count, counts.dropped_links_count, counts.flags),
        (3, 4, 5, 257)
    );
    span(r#""parentSpanId":null,"attributes":null,"events":null,"links":null,"traceState":null,"name":null"#);
    span(r#""unknown":{"nested":[1,{"a":"}"}]},"attributes":[null],"events":[null,{}],"links":[{},null]"#);
}

#[test]
fn ids_of_wrong_length_are_zero() {
    for (text, trace, id, parent) in [
        (r#""traceId":"000000000000000000000000000000AB","spanId":"00000000000000Cd""#, 0xAB, 0xCD, None),
        (r#""traceId":"AAAAAAAAAAAAAAAAAAAAqw==","spanId":"AAAAAAAAAM0=""#, 0xAB, 0xCD, None),
        (r#""traceId":"5b8e","spanId":"5b8e","parentSpanId":"5b8e""#, 0, 0, None),
        (r#""traceId":"","spanId":null,"parentSpanId":"0000000000000000""#, 0, 0, None),
        (r#""span_id":"","parent_span_id":"0000000000000001""#, 0, 0, Some(SpanId(1))),
    ] {
        let head = span(text).0.head;
        assert_eq!((head.trace, head.span, head.parent), (TraceId(trace), SpanId(id), parent), "{text}");
    }
}

#[test]
fn values_of_every_kind() {
    for (text, value) in [
        (r#"{}"#, None),
        (r#"null"#, None),
        (r#"{"newKindOfValue":1}"#, None),
        (r#"{"stringValue":null}"#, None),
        (r#"{"stringValue":""}"#, Some(Value::StringValue("".into()))),
        (r#"{"stringValue":"\u00e9\ud83d\ude00"}"#, Some(Value::StringValue("é😀".into()))),
        (r#"{"stringValue":"a","intValue":null}"#, Some(Value::StringValue("a".into()))),
        (r#"{"stringValue":"a","intValue":1}"#, Some(Value::IntValue(1))),
        (r#"{"int_value":"-9223372036854775808"}"#, Some(Value::IntValue(i64::MIN))),
        (r#"{"intValue":5.0}"#, Some(Value::IntValue(5))),
        (r#"{"boolValue":true}"#, Some(Value::BoolValue(true))),
        (r#"{"boolValue":"false"}"#, Some(Value::BoolValue(false))),
        (r#"{"doubleValue":1.5}"#, Some(Value::DoubleValue(1.5))),
        (r#"{"doubleValue":"1.5"}"#, Some(Value::DoubleValue(1.5))),
        (r#"{"doubleValue":"-Infinity"}"#, Some(Value::DoubleValue(f64::NEG_INFINITY))),
        (r#"{"bytesValue":"AAH/"}"#, Some(Value::BytesValue(vec![0, 1, 255]))),
        (r#"{"arrayValue":{}}"#, Some(Value::ArrayValue(ArrayValue::default()))),
        (r#"{"kvlistValue":{}}"#, Some(Value::KvlistValue(KeyValueList::default()))),
        (r#"{"arrayValue":{"values":null}}"#, Some(Value::ArrayValue(ArrayValue::default()))),
        (
            r#"{"array_value":{"values":[{"intValue":"1"},null]}}"#,
            Some(Value::ArrayValue(ArrayValue {
                values: vec![AnyValue { value: Some(Value::IntValue(1)) }, AnyValue::default()],
            })),
        ),
    ] {
        let (_, decoded) = span(&format!(r#""attributes":[{{"value":{text},"key":"k"}}]"#));
        assert_eq!(decoded.attributes[0].value.as_ref().and_then(|any| any.value.clone()), value, "{text}");
    }
    let (_, decoded) = span(r#""attributes":[{"key":"k","value":{"doubleValue":"NaN"}}]"#);
    assert!(
        matches!(decoded.attributes[0].value.as_ref().unwrap().value, Some(Value::DoubleValue(number)) if number.is_nan())
    );
}

#[test]
fn values_of_an_unknown_shape_are_counted() {
    let attribute = |value: &str| format!(r#"[{{"value":{value},"key":"k"}}]"#);
    for (value, told) in [
        ("{\"Value\":{\"StringValue\":\n \"a\"}}", r#"{"Value":{"StringValue": "a"}} of k"#),
        (r#"{"newKindOfValue":1}"#, r#"{"newKindOfValue":1} of k"#),
        (r#"{"newKindOfValue":1,"stringValue":null}"#, r#"{"newKindOfValue":1,"stringValue":null} of k"#),
    ] {
        let odd = attribute(value);
        let text = format!(
            r#"{{"resourceSpans":[{{"resource":{{"attributes":{odd}}},"scopeSpans":[{{"spans":[{{"attributes":{odd},"events":[{{"attributes":{odd}}}]}}]}}]}}]}}"#
        );
        let payload = scan(text.as_bytes()).unwrap();
        assert_eq!(payload.unknown_values, Counted { count: 3, first: told.to_owned() });
        agree(&payload, &decode(text.as_bytes()).unwrap());
    }
    for value in [
        "{}",
        "null",
        r#"{"Value":null}"#,
        r#"{"stringValue":null}"#,
        r#"{"newKindOfValue":1,"stringValue":"a"}"#,
        r#"{"intValue":"1","newKindOfValue":1}"#,
        r#"{"boolValue":true}"#,
        r#"{"doubleValue":1}"#,
        r#"{"bytesValue":""}"#,
        r#"{"arrayValue":{}}"#,
        r#"{"kvlistValue":{}}"#,
    ] {
        let text = record(&format!(r#""attributes":{}"#, attribute(value)));
        assert_eq!(scan(text.as_bytes()).unwrap().unknown_values, Counted::default(), "{value}");
    }
}

#[test]
fn what_cannot_be_meant_is_an_error_at_its_place() {
    for (members, at) in [
        (r#""startTimeUnixNano":"yesterday""#, r#""yesterday"#),
        (r#""startTimeUnixNano":-1"#, "-1"),
        (r#""startTimeUnixNano":1.5"#, "1.5"),
        (r#""startTimeUnixNano":18446744073709551616"#, "18446744073709551616"),
        (r#""attributes":5"#, "5"),
        (r#""traceId":7"#, "7"),
        (r#""events":[true]"#, "true"),
        (r#""attributes":[{"key":"k","value":{"intValue":5.5}}]"#, "5.5"),
    ] {
        let text = record(members);
        let at = text.find(at);
        assert_eq!(scan(text.as_bytes()).map_err(|error| error.at).err(), at, "{members}");
        assert_eq!(decode(text.as_bytes()).map_err(|error| error.at).err(), at, "{members}");
    }
    for text in ["", "null", "[]", "5", "{} x", r#"{"resourceSpans":[}"#, r#"{"resourceSpans":{}}"#] {
        assert!(scan(text.as_bytes()).is_err() && decode(text.as_bytes()).is_err(), "{text}");
    }
    let invalid = b"{\"a\":\"\xff\"}";
    assert_eq!(scan(invalid).map_err(|error| error.at).err(), Some(6));
}

#[test]
fn a_field_that_cannot_be_meant_goes_alone() {
    let kept =
        r#""traceId":"000000000000000000000000000000ab","startTimeUnixNano":"7","events":[{"timeUnixNano":"8"}]"#;
    for (odd, told) in [
        (
            r#""droppedAttributesCount":-1"#,
            "droppedAttributesCount: `-1` is not a whole number of the right size at byte",
        ),
        (r#""dropped_links_count":4294967296"#, "dropped_links_count: `4294967296` is not a whole number"),
        (r#""status":{"message":5}"#, "message: expected a string at byte"),
        (r#""links":[{"flags":1.5,"attributes":[]}]"#, "flags: `1.5` is not"),
        (
            r#""attributes":[{"key":"k","value":{"arrayValue":{"values":[{"boolValue":7}]}}}]"#,
            "boolValue: expected true",
        ),
        (r#""attributes":[{"key":"k","value":{"bytesValue":"?"}}]"#, "bytesValue: bytesValue is not base64"),
        (r#""traceState":{"a":[1]}"#, "traceState: expected a string"),
        (r#""parentSpanId":"zz""#, "parentSpanId: `zz` is not hexadecimal"),
    ] {
        let text = record(&format!("{odd},{kept}"));
        let (payload, whole) = (scan(text.as_bytes()).unwrap(), decode(text.as_bytes()));
        let (data, left_out) = decode_most(text.as_bytes()).unwrap();
        agree(&payload, &data);
        assert!(left_out.count == 1 && left_out.first.starts_with(told), "{odd}: {left_out:?}");
        assert!(whole.is_err_and(|error| left_out.first.ends_with(&error.to_string())), "{odd}");
        assert_eq!(data.resource_spans[0].scope_spans[0].spans[0].events.len(), 1, "{odd}");
    }
    let text = r#"{"resourceSpans":[{"resource":{"droppedAttributesCount":-1,"attributes":[{"key":"a","value":{"intValue":"1"}}]},"scopeSpans":[{"scope":{"name":7,"version":"1"},"schemaUrl":[]}]}]}"#;
    let (data, left_out) = decode_most(text.as_bytes()).unwrap();
    agree(&scan(text.as_bytes()).unwrap(), &data);
    assert_eq!((left_out.count, &*data.resource_spans[0].scope_spans[0].scope.as_ref().unwrap().version), (3, "1"));
    for broken in [r#"{"resourceSpans":[{"schemaUrl":[}]}"#, r#"{"resourceSpans":{}}"#, "[]", "{} x"] {
        assert!(decode_most(broken.as_bytes()).is_err(), "{broken}");
    }
}

#[test]
fn records_without_spans_are_empty() {
    for text in [
        "{}",
        r#"{"resourceMetrics":[{"resource":{}}]}"#,
        r#"{"resourceLogs":[]}"#,
        r#"{"resource_profiles":[],"dictionary":{}}"#,
        r#"{"resourceSpans":null}"#,
        r#"{"resourceSpans":[null]}"#,
        r#" { "resourceSpans" : [ ] } "#,
    ] {
        let payload = scan(text.as_bytes()).unwrap();
        assert!(payload.resources.is_empty() && payload.spans.is_empty() && !payload.is_foreign, "{text}");
        agree(&payload, &decode(text.as_bytes()).unwrap());
    }
    for text in [
        r#"{"batches":[]}"#,
        r#"{"resource":{"resourceSpans":[]}}"#,
        r#"{"resourceSpans":[{"resource":{}},{"resource":{},"spans":[{}]}]}"#,
    ] {
        let payload = scan(text.as_bytes()).unwrap();
        assert!(payload.is_foreign && payload.spans.is_empty(), "{text}");
    }
    for text in [
        r#"{"resourceSpans":[{"resource":{},"schemaUrl":""}]}"#,
        r#"{"resourceSpans":[{"resource":{},"spans":[{}]},{"scopeSpans":[{"spans":[{}]}]}]}"#,
        r#"{"resourceSpans":[{"odd":1,"scope_spans":[]}]}"#,
    ] {
        assert!(!scan(text.as_bytes()).unwrap().is_foreign, "{text}");
    }
}

#[test]
fn the_last_of_a_key_given_twice_wins() {
    let list = |ids: &[u8]| {
        ids.iter()
            .map(|id| format!(r#"{{"spanId":"{id:016x}","events":[{{}}],"links":[{{}}]}}"#))
            .collect::<Vec<_>>()
            .join(",")
    };
    let (one, two) = (list(&[1]), list(&[2, 3]));
    for (text, spans) in [
        (format!(r#"{{"resourceSpans":[{{"scopeSpans":[{{"spans":[{one}],"spans":[{two}]}}]}}]}}"#), &[2, 3][..]),
        (format!(r#"{{"resourceSpans":[{{"scopeSpans":[{{"spans":[{one}],"spans":null}}]}}]}}"#), &[]),
        (
            format!(
                r#"{{"resourceSpans":[{{"scopeSpans":[{{"spans":[{one}]}}],"scope_spans":[{{"spans":[{two}]}}]}}]}}"#
            ),
            &[2, 3],
        ),
        (
            format!(
                r#"{{"resourceSpans":[{{"scopeSpans":[{{"spans":[{one}]}}]}}],"resource_spans":[{{"scopeSpans":[{{"spans":[{two}]}}]}}]}}"#
            ),
            &[2, 3],
        ),
        // The old name alone, and beside the new one, which then counts.
        (format!(r#"{{"resourceSpans":[{{"instrumentationLibrarySpans":[{{"spans":[{one}]}}]}}]}}"#), &[1]),
        (
            format!(
                r#"{{"resourceSpans":[{{"instrumentationLibrarySpans":[{{"spans":[{one}]}}],"scopeSpans":[{{"spans":[{two}]}}]}}]}}"#
            ),
            &[2, 3],
        ),
        (
            format!(
                r#"{{"resourceSpans":[{{"scopeSpans":[{{"spans":[{two}]}}],"instrumentationLibrarySpans":[{{"spans":[{one}]}}]}}]}}"#
            ),
            &[2, 3],
        ),
        (
            format!(r#"{{"resourceSpans":[{{"instrumentationLibrarySpans":[{{"spans":[{one}]}}],"scopeSpans":[]}}]}}"#),
            &[1],
        ),
        (format!(r#"{{"resourceSpans":[{{"scopeSpans":[{{"spans":[{two}]}}],"scopeSpans":null}}]}}"#), &[]),
    ] {
        let payload = scan(text.as_bytes()).unwrap();
        agree(&payload, &decode(text.as_bytes()).unwrap());
        assert!(payload.spans.iter().map(|site| site.head.span.0).eq(spans.iter().copied()), "{text}");
        assert_eq!((payload.events.len(), payload.links.len()), (spans.len(), spans.len()), "{text}");
    }
    let twice = r#"{"key":"http.status_code","value":{"intValue":"200"}}"#;
    assert_eq!(span(&format!(r#""attributes":[{twice}],"attributes":[]"#)).0.head.facts, CallFacts::default());
    assert_eq!(span(&format!(r#""attributes":[],"attributes":[{twice}]"#)).0.head.facts.protocol, Protocol::Http);
}

#[test]
fn spans_may_come_before_their_resource() {
    let after = r#"{"resourceSpans":[{"scopeSpans":[{"spans":[{}]}],"resource":{"attributes":[{"key":"a","value":{"intValue":"1"}}]}}]}"#;
    let before = r#"{"resourceSpans":[{"resource":{"attributes":[{"key":"a","value":{"intValue":"1"}}]},"scopeSpans":[{"spans":[{}]}]}]}"#;
    let (after, before) = (scan(after.as_bytes()).unwrap(), scan(before.as_bytes()).unwrap());
    assert_eq!(after.resources[0].fingerprint, before.resources[0].fingerprint);
    assert_eq!(resource_attributes(&after, 0), Ok(vec![("a".into(), "1".into())]));
    assert_eq!(after.spans[0].head.fingerprint, before.spans[0].head.fingerprint);
}

fn marks() -> Marks {
    Marks {
        clock: "web \"2\"".into(),
        offset_ns: -40_000_000,
        nudge_ns: None,
        uncertainty_ns: Some(1_200),
        correction: "moved".into(),
        original_start_unix_nano: Some(7),
        original_end_unix_nano: None,
        is_estimate: false,
    }
}

/// Rewrites one span (its members) and reads the result back: times, marks, the event's original.
fn event(event: u32, time: Option<u64>, original_unix_nano: Option<i64>) -> EventEdit {
    EventEdit { event, time, original_unix_nano }
}

fn rewritten(members: &str, edit: SpanEdit) -> String {
    let text = record(members);
    let payload = scan(text.as_bytes()).unwrap();
    let mut out = Vec::new();
    rewrite(&payload, std::slice::from_ref(&edit), &mut out);
    let again = scan(&out).unwrap_or_else(|error| panic!("{error}: {}", String::from_utf8_lossy(&out)));
    agree(&again, &decode(&out).unwrap());
    assert_eq!(again.spans[0].marks.as_deref(), edit.marks.as_ref());
    let record = view(&out).unwrap();
    for EventEdit { event, time, original_unix_nano } in edit.events {
        assert_eq!(record.original_unix_nano(&record.events[event as usize]), original_unix_nano);
        let event = &again.events[event as usize];
        assert_eq!(event.time.as_ref().map(|time| time.unix_nano), time);
    }
    let out = String::from_utf8(out).unwrap();
    let (before, after) = text.split_at(text.find("[{\"spans\":[{").unwrap() + 12);
    let after = &after[members.len()..];
    out.strip_prefix(before).unwrap().strip_suffix(after).unwrap().to_owned()
}

#[test]
fn times_keep_their_style_and_nothing_else_changes() {
    for (members, expected) in [
        (
            r#""startTimeUnixNano":"5", "x":[ 1.0 ],"endTimeUnixNano":60"#,
            r#""startTimeUnixNano":"1234", "x":[ 1.0 ],"endTimeUnixNano":7"#,
        ),
        (r#""end_time_unix_nano" : 1.7e18"#, r#""end_time_unix_nano" : 7"#),
        (
            r#""startTimeUnixNano":"1","startTimeUnixNano":"9999","y":1"#,
            r#""startTimeUnixNano":"1","startTimeUnixNano":"1234","y":1"#,
        ),
        (r#""startTimeUnixNano":null"#, r#""startTimeUnixNano":null"#),
        ("", ""),
    ] {
        assert_eq!(rewritten(members, SpanEdit { start: Some(1234), end: Some(7), ..SpanEdit::default() }), expected);
    }
    let events = r#""events":[{"timeUnixNano":"5","name":"a"},{"timeUnixNano":6,"attributes":[ ]}]"#;
    assert_eq!(
        rewritten(
            events,
            SpanEdit { events: vec![event(0, Some(15), None), event(1, Some(4), Some(6))], ..SpanEdit::default() }
        ),
        r#""events":[{"timeUnixNano":"15","name":"a"},{"timeUnixNano":4,"attributes":[ {"key":"unskew.original_time_unix_nano","value":{"intValue":"6"}}]}]"#
    );
}

#[test]
fn marks_go_where_the_attributes_are_that_count() {
    let marked = r#"{"key":"unskew.clock","value":{"stringValue":"web \"2\""}},{"key":"unskew.offset_ns","value":{"intValue":"-40000000"}},{"key":"unskew.uncertainty_ns","value":{"intValue":"1200"}},{"key":"unskew.correction","value":{"stringValue":"moved"}},{"key":"unskew.original_start_unix_nano","value":{"intValue":"7"}}"#;
    for (members, expected) in [
        ("", r#""attributes":[M]"#),
        ("\n", "\n\"attributes\":[M]"),
        (r#""name":"}" "#, r#""name":"}" ,"attributes":[M]"#),
        (r#""attributes":[]"#, r#""attributes":[M]"#),
        (r#""attributes":[{"key":"a"} ],"name":"x""#, r#""attributes":[{"key":"a"} ,M],"name":"x""#),
        (r#""attributes":null,"name":"x""#, r#""attributes":null,"name":"x","attributes":[M]"#),
        (r#""attributes":[{}],"attributes":null"#, r#""attributes":[{}],"attributes":null,"attributes":[M]"#),
        (r#""attributes":[{}],"attributes":[]"#, r#""attributes":[{}],"attributes":[M]"#),
    ] {
        let edit = SpanEdit { marks: Some(marks()), ..SpanEdit::default() };
        assert_eq!(rewritten(members, edit), expected.replace('M', marked), "{members}");
    }
    let edit = SpanEdit { events: vec![event(0, Some(1), Some(2))], ..SpanEdit::default() };
    assert_eq!(
        rewritten(r#""events":[{"timeUnixNano":2}]"#, edit),
        r#""events":[{"timeUnixNano":1,"attributes":[{"key":"unskew.original_time_unix_nano","value":{"intValue":"2"}}]}]"#
    );
}

#[test]
fn marks_need_an_offset_or_a_correction() {
    let attribute = |key: &str, value: &str| format!(r#""attributes":[{{"key":"{key}","value":{value}}}]"#);
    assert!(span(&attribute("unskew.clock", r#"{"stringValue":"a"}"#)).0.marks.is_none());
    assert_eq!(span(&attribute("unskew.offset_ns", r#"{"intValue":"3"}"#)).0.marks.unwrap().offset_ns, 3);
    assert_eq!(
        span(&attribute("unskew.correction", r#"{"stringValue":"moved"}"#)).0.marks.unwrap().correction,
        "moved"
    );
}

// The specified form, written down a second time and with another library.

fn write(data: &TracesData) -> Json {
    json!({"resourceSpans": data.resource_spans.iter().map(|resource_spans| json!({
        "resource": resource_spans.resource.as_ref().map(|resource| json!({
            "attributes": write_attributes(&resource.attributes),
            "droppedAttributesCount": resource.dropped_attributes_count,
            "entityRefs": resource.entity_refs.iter().map(|entity| json!({
                "schemaUrl": entity.schema_url, "type": entity.r#type,
                "idKeys": entity.id_keys, "descriptionKeys": entity.description_keys,
            })).collect::<Json>(),
        })),
        "scopeSpans": resource_spans.scope_spans.iter().map(|scope_spans| json!({
            "scope": scope_spans.scope.as_ref().map(|scope| json!({
                "name": scope.name, "version": scope.version,
                "attributes": write_attributes(&scope.attributes),
                "droppedAttributesCount": scope.dropped_attributes_count,
            })),
            "spans": scope_spans.spans.iter().map(write_span).collect::<Json>(),
            "schemaUrl": scope_spans.schema_url,
        })).collect::<Json>(),
        "schemaUrl": resource_spans.schema_url,
    })).collect::<Json>()})
}

fn write_span(span: &Span) -> Json {
    json!({
        "traceId": hex(&span.trace_id), "spanId": hex(&span.span_id), "parentSpanId": hex(&span.parent_span_id),
        "traceState": span.trace_state, "flags": span.flags, "name": span.name, "kind": span.kind,
        "startTimeUnixNano": span.start_time_unix_nano.to_string(),
        "endTimeUnixNano": span.end_time_unix_nano.to_string(),
        "attributes": write_attributes(&span.attributes),
        "droppedAttributesCount": span.dropped_attributes_count,
        "events": span.events.iter().map(|event| json!({
            "timeUnixNano": event.time_unix_nano.to_string(), "name": event.name,
            "attributes": write_attributes(&event.attributes),
            "droppedAttributesCount": event.dropped_attributes_count,
        })).collect::<Json>(),
        "droppedEventsCount": span.dropped_events_count,
        "links": span.links.iter().map(|link| json!({
            "traceId": hex(&link.trace_id), "spanId": hex(&link.span_id), "traceState": link.trace_state,
            "attributes": write_attributes(&link.attributes),
            "droppedAttributesCount": link.dropped_attributes_count, "flags": link.flags,
        })).collect::<Json>(),
        "droppedLinksCount": span.dropped_links_count,
        "status": span.status.as_ref().map(|status| json!({"message": status.message, "code": status.code})),
    })
}

fn write_attributes(attributes: &[KeyValue]) -> Json {
    attributes
        .iter()
        .map(|attribute| json!({"key": attribute.key, "value": attribute.value.as_ref().map(write_value)}))
        .collect()
}

fn write_value(value: &AnyValue) -> Json {
    match &value.value {
        Some(Value::StringValue(text)) => json!({"stringValue": text}),
        Some(Value::BoolValue(flag)) => json!({"boolValue": flag}),
        Some(Value::IntValue(number)) => json!({"intValue": number.to_string()}),
        Some(Value::DoubleValue(number)) if number.is_finite() => json!({"doubleValue": number}),
        Some(Value::DoubleValue(number)) => {
            json!({"doubleValue": if *number > 0.0 { "Infinity" } else { "-Infinity" }})
        }
        Some(Value::ArrayValue(array)) => {
            json!({"arrayValue": {"values": array.values.iter().map(write_value).collect::<Json>()}})
        }
        Some(Value::KvlistValue(list)) => json!({"kvlistValue": {"values": write_attributes(&list.values)}}),
        Some(Value::BytesValue(bytes)) => json!({"bytesValue": to_base64(bytes)}),
        Some(Value::StringValueStrindex(_)) | None => json!({}),
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn to_base64(bytes: &[u8]) -> String {
    let alphabet: Vec<char> = ('A'..='Z').chain('a'..='z').chain('0'..='9').chain(['+', '/']).collect();
    let mut text = String::new();
    for chunk in bytes.chunks(3) {
        let bits = chunk.iter().fold(0u32, |bits, byte| bits << 8 | u32::from(*byte)) << (8 * (3 - chunk.len()));
        (0..4).for_each(|index| {
            text.push(if index <= chunk.len() { alphabet[(bits >> (18 - 6 * index) & 63) as usize] } else { '=' });
        });
    }
    text
}

fn any_value() -> impl Strategy<Value = AnyValue> {
    let double = prop_oneof![
        any::<i32>().prop_map(|number| f64::from(number) / 64.0),
        Just(f64::INFINITY),
        Just(f64::NEG_INFINITY)
    ];
    let leaf = prop_oneof![
        Just(None),
        any::<String>().prop_map(|text| Some(Value::StringValue(text))),
        any::<bool>().prop_map(|flag| Some(Value::BoolValue(flag))),
        any::<i64>().prop_map(|number| Some(Value::IntValue(number))),
        double.prop_map(|number| Some(Value::DoubleValue(number))),
        prop::collection::vec(any::<u8>(), 0..8).prop_map(|bytes| Some(Value::BytesValue(bytes))),
    ]
    .prop_map(|value| AnyValue { value });
    leaf.prop_recursive(3, 12, 3, |inner| {
        let values = prop::collection::vec(inner.clone(), 0..3);
        let entries = prop::collection::vec((any::<String>(), prop::option::of(inner)), 0..3);
        prop_oneof![
            values.prop_map(|values| AnyValue { value: Some(Value::ArrayValue(ArrayValue { values })) }),
            entries.prop_map(|entries| {
                let values = entries.into_iter().map(|(key, value)| KeyValue { key, value, ..KeyValue::default() });
                AnyValue { value: Some(Value::KvlistValue(KeyValueList { values: values.collect() })) }
            }),
        ]
    })
}

fn attributes() -> impl Strategy<Value = Vec<KeyValue>> {
    let key = prop_oneof![Just("http.status_code".to_owned()), Just("error.type".to_owned()), any::<String>()];
    let attribute =
        (key, prop::option::of(any_value())).prop_map(|(key, value)| KeyValue { key, value, ..KeyValue::default() });
    prop::collection::vec(attribute, 0..3)
}

fn id(length: usize) -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![4 => prop::collection::vec(any::<u8>(), length), 1 => prop::collection::vec(any::<u8>(), 0..16)]
}

fn traces() -> impl Strategy<Value = TracesData> {
    let event = (any::<u64>(), any::<String>(), attributes(), any::<u32>()).prop_map(
        |(time_unix_nano, name, attributes, dropped_attributes_count)| Event {
            time_unix_nano,
            name,
            attributes,
            dropped_attributes_count,
        },
    );
    let link = (id(16), id(8), any::<String>(), attributes(), any::<u32>(), any::<u32>()).prop_map(
        |(trace_id, span_id, trace_state, attributes, dropped_attributes_count, flags)| Link {
            trace_id,
            span_id,
            trace_state,
            attributes,
            dropped_attributes_count,
            flags,
        },
    );
    let status = (any::<String>(), 0..4).prop_map(|(message, code)| Status { message, code });
    let span = (
        (id(16), id(8), id(8), any::<String>(), any::<u32>(), any::<String>(), -1..9),
        (
            any::<u64>(),
            any::<u64>(),
            attributes(),
            prop::collection::vec(event, 0..3),
            prop::collection::vec(link, 0..2),
        ),
        (any::<[u32; 3]>(), prop::option::of(status)),
    )
        .prop_map(|(head, body, (dropped, status))| {
            let (trace_id, span_id, parent_span_id, trace_state, flags, name, kind) = head;
            let (start_time_unix_nano, end_time_unix_nano, attributes, events, links) = body;
            Span {
                trace_id,
                span_id,
                trace_state,
                parent_span_id,
                flags,
                name,
                kind,
                start_time_unix_nano,
                end_time_unix_nano,
                attributes,
                dropped_attributes_count: dropped[0],
                events,
                dropped_events_count: dropped[1],
                links,
                dropped_links_count: dropped[2],
                status,
            }
        });
    let scope = (any::<[String; 2]>(), attributes(), any::<u32>()).prop_map(
        |([name, version], attributes, dropped_attributes_count)| InstrumentationScope {
            name,
            version,
            attributes,
            dropped_attributes_count,
        },
    );
    let scope_spans = (prop::option::of(scope), prop::collection::vec(span, 0..3), any::<String>())
        .prop_map(|(scope, spans, schema_url)| ScopeSpans { scope, spans, schema_url });
    let entity = any::<[String; 4]>().prop_map(|[schema_url, r#type, id, description]| EntityRef {
        schema_url,
        r#type,
        id_keys: vec![id],
        description_keys: vec![description],
    });
    let resource = (attributes(), any::<u32>(), prop::collection::vec(entity, 0..2)).prop_map(
        |(attributes, dropped_attributes_count, entity_refs)| Resource {
            attributes,
            dropped_attributes_count,
            entity_refs,
        },
    );
    let resource_spans = (prop::option::of(resource), prop::collection::vec(scope_spans, 0..3), any::<String>())
        .prop_map(|(resource, scope_spans, schema_url)| ResourceSpans { resource, scope_spans, schema_url });
    prop::collection::vec(resource_spans, 0..3).prop_map(|resource_spans| TracesData { resource_spans })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn any_traces_are_read_and_rewritten(data in traces(), pretty in any::<bool>()) {
        let json = write(&data);
        let text = if pretty { serde_json::to_vec_pretty(&json) } else { serde_json::to_vec(&json) }.unwrap();
        let payload = scan(&text).unwrap();
        agree(&payload, &data);
        prop_assert_eq!(&decode(&text).unwrap(), &data);

        let mut same = Vec::new();
        rewrite(&payload, &[], &mut same);
        prop_assert!(same == text);

        let mut moved = data.clone();
        let mut edits = Vec::new();
        let spans = moved.resource_spans.iter_mut().flat_map(|it| &mut it.scope_spans).flat_map(|it| &mut it.spans);
        for (index, (span, site)) in spans.zip(&payload.spans).enumerate() {
            if index % 3 == 2 {
                continue;
            }
            (span.start_time_unix_nano, span.end_time_unix_nano) = (span.end_time_unix_nano, 12);
            let mut edit = SpanEdit { span: index as u32, start: Some(span.start_time_unix_nano), end: Some(12), ..SpanEdit::default() };
            for (event, index) in span.events.iter_mut().zip(site.events.clone()) {
                let time = Some(event.time_unix_nano / 3);
                edit.events.push(EventEdit { event: index, time, original_unix_nano: Some(5) });
                event.time_unix_nano /= 3;
                event.attributes.push(int("unskew.original_time_unix_nano", 5));
            }
            if index % 3 == 1 {
                edit.marks = Some(marks());
                for (key, value) in mark_attributes(&marks()) {
                    let value = Some(match value {
                        MarkValue::Text(text) => Value::StringValue(text.into()),
                        MarkValue::Int(number) => Value::IntValue(number),
                    });
                    let value = Some(AnyValue { value });
                    span.attributes.push(KeyValue { key: key.into(), value, ..KeyValue::default() });
                }
            }
            edits.push(edit);
        }
        let mut out = Vec::new();
        rewrite(&payload, &edits, &mut out);
        prop_assert_eq!(decode(&out).unwrap(), moved);
    }

    #[test]
    fn broken_records_never_panic_and_both_readers_stop(data in traces(), cut in any::<prop::sample::Index>(), byte in any::<u8>()) {
        let mut text = serde_json::to_vec(&write(&data)).unwrap();
        let cut = cut.index(text.len());
        prop_assert!(scan(&text[..cut]).is_err() && decode(&text[..cut]).is_err());
        text[cut] = byte;
        if let (Ok(payload), Ok(data)) = (scan(&text), decode(&text)) {
            agree(&payload, &data);
        }
    }
}

fn int(key: &str, number: i64) -> KeyValue {
    KeyValue { key: key.into(), value: Some(AnyValue { value: Some(Value::IntValue(number)) }), ..KeyValue::default() }
}
