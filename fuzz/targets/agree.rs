//! What a scan and a rewrite owe to every record, whatever its bytes; prost and the full JSON decoding are the oracle.

use opentelemetry_proto::tonic::common::v1::{AnyValue, KeyValue, any_value::Value};
use opentelemetry_proto::tonic::trace::v1::{Span, TracesData};
use prost::Message;
use unskew::otlp::{self, AttributeView, Encoding, EventEdit, Payload, SpanEdit, SpanSite, TimeField};
use unskew::span::{AttributeValue, CallFacts, Marks, SpanHead, SpanId, SpanKind, TraceId};

/// All that a record says, by readers that own what they read: prost's, or the one that JSON is told in protobuf by.
pub fn decoded(encoding: Encoding, bytes: &[u8]) -> Option<TracesData> {
    match encoding {
        Encoding::Protobuf => TracesData::decode(bytes).ok(),
        Encoding::Json => otlp::json::decode(bytes).ok(),
    }
}

/// Checks one record. `data` is what a full decoding makes of it: the scan must find the same. Where there is none the
/// scan may still take the record, as it does not read every field; it must end, and times alone may change.
pub fn check(encoding: Encoding, bytes: &[u8], data: Option<&TracesData>, dice: &[u64]) {
    viewed(encoding, bytes, data);
    let payload = match otlp::scan(encoding, bytes) {
        Ok(payload) => payload,
        Err(error) => {
            assert!(data.is_none(), "refused: {error}");
            assert!(error.at <= bytes.len());
            return;
        }
    };
    if let Some(data) = data {
        agree(&payload, data);
    }
    located(&payload);
    assert!(rewritten(&payload, &[]) == bytes);
    for annotate in [false, true] {
        let edits = edits(&payload, dice, annotate);
        let out = rewritten(&payload, &edits);
        let again = otlp::scan(encoding, &out).unwrap();
        edited(&payload, &edits, &again);
        if !annotate {
            assert!(around_times(&payload) == around_times(&again), "more than times differs");
        }
        if let Some(data) = data {
            let expected = applied(&payload, &edits, data.clone());
            // Encoded, as NaN differs from itself.
            assert!(decoded(encoding, &out).unwrap().encode_to_vec() == expected.encode_to_vec(), "{expected:?}");
            agree(&again, &expected);
            viewed(encoding, &out, Some(&expected));
        }
    }
}

/// Numbers to edit by, the same for the same bytes.
pub fn dice(bytes: &[u8]) -> [u64; 7] {
    let mut state = bytes
        .iter()
        .fold(0xCBF2_9CE4_8422_2325_u64, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x100_0000_01B3));
    std::array::from_fn(|index| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        // Short ones too: in JSON their length differs.
        state >> (index * 9)
    })
}

/// A record with these edits made.
pub fn rewritten(payload: &Payload<'_>, edits: &[SpanEdit]) -> Vec<u8> {
    let mut out = Vec::new();
    otlp::rewrite(payload, edits, &mut out);
    out
}

/// Edits by the dice.
pub fn edits(payload: &Payload<'_>, dice: &[u64], annotate: bool) -> Vec<SpanEdit> {
    let mut throw = dice.iter().copied().cycle();
    let mut throw = || throw.next().unwrap_or(0);
    let mut edits = Vec::new();
    for (span, site) in (0..).zip(&payload.spans) {
        if throw().is_multiple_of(4) {
            continue;
        }
        let mut time = || Some(throw()).filter(|dice| !dice.is_multiple_of(3));
        let (start, end) = (time(), time());
        let events = site.events.clone().map(|event| {
            let time = time();
            let original_unix_nano = (annotate && time.is_some_and(|new| new.is_multiple_of(2))).then_some(11);
            EventEdit { event, time, original_unix_nano }
        });
        edits.push(SpanEdit { span, start, end, events: events.collect(), marks: annotate.then(marks) });
    }
    edits
}

/// What a record means with these edits made.
fn applied(payload: &Payload<'_>, edits: &[SpanEdit], mut data: TracesData) -> TracesData {
    // A time that is absent is zero and stays so.
    let set = |into: &mut u64, field: &Option<TimeField>, new: Option<u64>| {
        *into = new.filter(|_| field.is_some()).unwrap_or(*into);
    };
    let spans = data.resource_spans.iter_mut().flat_map(|of| &mut of.scope_spans).flat_map(|of| &mut of.spans);
    let mut spans: Vec<&mut Span> = spans.collect();
    for edit in edits {
        let (span, site) = (&mut spans[edit.span as usize], &payload.spans[edit.span as usize]);
        set(&mut span.start_time_unix_nano, &site.start, edit.start);
        set(&mut span.end_time_unix_nano, &site.end, edit.end);
        for (event, edit) in span.events.iter_mut().zip(&edit.events) {
            set(&mut event.time_unix_nano, &payload.events[edit.event as usize].time, edit.time);
            event.attributes.extend(edit.original_unix_nano.map(|nanos| int("unskew.original_time_unix_nano", nanos)));
        }
        if edit.marks.is_some() {
            span.attributes.extend([
                string("unskew.clock", "line\n\"quoted\" é"),
                int("unskew.offset_ns", -7),
                int("unskew.nudge_ns", 2),
                int("unskew.uncertainty_ns", 3),
                string("unskew.correction", "moved"),
                int("unskew.original_end_unix_nano", i64::MAX),
            ]);
        }
    }
    data
}

/// A record scanned again is the one before, but for the edits.
fn edited(before: &Payload<'_>, edits: &[SpanEdit], after: &Payload<'_>) {
    let timeless = |site: &SpanSite| {
        let head = SpanHead { start: Default::default(), end: Default::default(), fingerprint: 0, ..site.head };
        (head, site.resource, site.events.clone(), site.links.clone())
    };
    assert!(before.spans.iter().map(timeless).eq(after.spans.iter().map(timeless)));
    assert_eq!(before.links, after.links);
    assert_eq!(before.resources.len(), after.resources.len());
    let mut changes = edits.iter().peekable();
    let nothing = SpanEdit::default();
    for (span, (before_span, after_span)) in (0..).zip(before.spans.iter().zip(&after.spans)) {
        let edit = changes.next_if(|edit| edit.span == span).unwrap_or(&nothing);
        let same = |before: &Option<TimeField>, new: Option<u64>, after: &Option<TimeField>| {
            let expected = before.as_ref().map(|time| new.unwrap_or(time.unix_nano));
            assert_eq!(after.as_ref().map(|time| time.unix_nano), expected);
        };
        same(&before_span.start, edit.start, &after_span.start);
        same(&before_span.end, edit.end, &after_span.end);
        for (index, event) in before_span.events.clone().enumerate() {
            let new = edit.events.get(index).and_then(|edit| edit.time);
            same(&before.events[event as usize].time, new, &after.events[event as usize].time);
        }
    }
}

/// A rewrite's own scan learns less, and finds what it looks at where the other does.
fn located(payload: &Payload<'_>) {
    let found = otlp::locate(payload.encoding, payload.bytes).unwrap();
    let places = |site: &SpanSite| {
        let mut site = site.clone();
        (site.head.facts, site.head.fingerprint) = (CallFacts::default(), 0);
        site
    };
    assert!(found.spans.iter().map(places).eq(payload.spans.iter().map(places)));
    assert_eq!((found.events, found.links), (payload.events.clone(), payload.links.clone()));
    assert_eq!(found.containers, payload.containers);
}

fn light(value: &Option<AnyValue>) -> AttributeValue<'_> {
    match value.as_ref().and_then(|any| any.value.as_ref()) {
        Some(Value::StringValue(text)) => AttributeValue::Str(text.as_bytes()),
        Some(Value::IntValue(number)) => AttributeValue::Int(*number),
        _ => AttributeValue::Other,
    }
}

fn marks_of(attributes: &[KeyValue]) -> Option<Marks> {
    let int = |name: &str| {
        attributes.iter().rev().filter(|it| it.key == name).find_map(|it| match light(&it.value) {
            AttributeValue::Int(number) => Some(number),
            _ => None,
        })
    };
    let text = |name: &str| {
        attributes.iter().rev().filter(|it| it.key == name).find_map(|it| match light(&it.value) {
            AttributeValue::Str(text) => Some(String::from_utf8(text.to_vec()).unwrap()),
            _ => None,
        })
    };
    let (offset, correction) = (int("unskew.offset_ns"), text("unskew.correction"));
    (offset.is_some() || correction.is_some()).then(|| Marks {
        clock: text("unskew.clock").unwrap_or_default().into(),
        offset_ns: offset.unwrap_or(0),
        nudge_ns: int("unskew.nudge_ns"),
        uncertainty_ns: int("unskew.uncertainty_ns"),
        correction: correction.unwrap_or_default().into(),
        original_start_unix_nano: int("unskew.original_start_unix_nano"),
        original_end_unix_nano: int("unskew.original_end_unix_nano"),
        is_estimate: false,
    })
}

fn nanos(time: &Option<TimeField>) -> u64 {
    time.as_ref().map_or(0, |time| time.unix_nano)
}

/// The scan found what a full decoding finds.
fn agree(payload: &Payload<'_>, data: &TracesData) {
    assert_eq!(payload.resources.len(), data.resource_spans.len());
    let mut sites = payload.spans.iter();
    for (resource, of) in data.resource_spans.iter().enumerate() {
        let attributes = of.resource.as_ref().map_or(&[][..], |resource| &resource.attributes);
        let found = otlp::resource_attributes(payload, resource).unwrap();
        assert!(found.iter().map(|(key, _)| key).eq(attributes.iter().map(|attribute| &attribute.key)));
        for span in of.scope_spans.iter().flat_map(|of| &of.spans) {
            let site = sites.next().unwrap();
            let head = &site.head;
            assert_eq!(site.resource as usize, resource);
            assert_eq!(head.trace, TraceId::from_bytes(&span.trace_id));
            assert_eq!(head.span, SpanId::from_bytes(&span.span_id));
            assert_eq!(head.parent.unwrap_or_default(), SpanId::from_bytes(&span.parent_span_id));
            assert_eq!(head.kind, SpanKind::from_number(span.kind.into()));
            assert_eq!(head.failed, span.status.as_ref().is_some_and(|status| status.code == 2));
            assert_eq!((nanos(&site.start), nanos(&site.end)), (span.start_time_unix_nano, span.end_time_unix_nano));
            let mut facts = CallFacts::default();
            span.attributes.iter().for_each(|it| facts.learn(it.key.as_bytes(), light(&it.value)));
            assert_eq!(head.facts, facts);
            assert_eq!(site.marks.as_deref(), marks_of(&span.attributes).as_ref());
            let events = &payload.events[site.events.start as usize..site.events.end as usize];
            assert!(
                events.iter().map(|event| nanos(&event.time)).eq(span.events.iter().map(|event| event.time_unix_nano))
            );
            let links = &payload.links[site.links.start as usize..site.links.end as usize];
            let targets =
                span.links.iter().map(|link| (TraceId::from_bytes(&link.trace_id), SpanId::from_bytes(&link.span_id)));
            assert!(links.iter().copied().eq(targets));
        }
    }
    assert!(sites.next().is_none());
}

/// The view shows what a full decoding finds.
fn viewed(encoding: Encoding, bytes: &[u8], data: Option<&TracesData>) {
    let (record, data) = match (otlp::view(encoding, bytes), data) {
        (Err(error), data) => {
            assert!(data.is_none(), "refused: {error}");
            return;
        }
        // It does not read every field either.
        (Ok(_), None) => return,
        (Ok(record), Some(data)) => (record, data),
    };
    let mut views = record.spans.iter();
    for of in &data.resource_spans {
        let resource = of.resource.as_ref().map_or(&[][..], |resource| &resource.attributes);
        for (scope, span) in of.scope_spans.iter().flat_map(|of| of.spans.iter().map(|span| (of.scope.as_ref(), span)))
        {
            let view = views.next().unwrap();
            same_attributes(record.resource_attributes(view), resource);
            assert_eq!(text(&record.scope(view).name), scope.map_or("", |scope| &scope.name));
            assert_eq!(text(&record.scope(view).version), scope.map_or("", |scope| &scope.version));
            assert_eq!(view.trace_id.bytes(), span.trace_id);
            assert_eq!(view.span_id.bytes(), span.span_id);
            assert_eq!(view.parent_span_id.bytes(), span.parent_span_id);
            assert_eq!((text(&view.trace_state), view.flags), (&*span.trace_state, span.flags));
            assert_eq!((text(&view.name), view.kind), (&*span.name, SpanKind::from_number(span.kind.into())));
            let (code, message) = span.status.as_ref().map_or((0, ""), |status| (status.code, &status.message));
            assert_eq!((view.status_code, text(&view.status_message)), (code, message));
            same_attributes(record.attributes(view), &span.attributes);
            assert_eq!(record.marks(view).as_deref(), marks_of(&span.attributes).as_ref());
            assert_eq!(record.events(view).len(), span.events.len());
            for (view, event) in record.events(view).iter().zip(&span.events) {
                assert_eq!((view.unix_nano.unwrap_or(0), text(&view.name)), (event.time_unix_nano, &*event.name));
                same_attributes(record.event_attributes(view), &event.attributes);
            }
            assert_eq!(record.links(view).len(), span.links.len());
            for (view, link) in record.links(view).iter().zip(&span.links) {
                assert_eq!((view.trace_id.bytes(), view.span_id.bytes()), (&*link.trace_id, &*link.span_id));
                assert_eq!(text(&view.trace_state), link.trace_state);
                same_attributes(record.link_attributes(view), &link.attributes);
            }
        }
    }
    assert!(views.next().is_none());
}

fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).unwrap()
}

fn same_attributes(views: &[AttributeView<'_>], attributes: &[KeyValue]) {
    let views = views.iter().map(|view| {
        let mut value = Vec::new();
        view.value.write(&mut value);
        (text(&view.key).to_owned(), text(&value).to_owned())
    });
    let told = attributes.iter().map(|it| (it.key.clone(), told(&it.value)));
    assert_eq!(views.collect::<Vec<_>>(), told.collect::<Vec<_>>());
}

/// A value as our tables have it: strings as they are, anything else as JSON.
pub fn told(value: &Option<AnyValue>) -> String {
    match value.as_ref().and_then(|any| any.value.as_ref()) {
        None => String::new(),
        Some(Value::StringValue(text)) => text.clone(),
        Some(value) => json(value).to_string(),
    }
}

fn json(value: &Value) -> serde_json::Value {
    let inner = |any: &AnyValue| any.value.as_ref().map_or(serde_json::Value::Null, json);
    match value {
        Value::StringValue(text) => text.as_str().into(),
        Value::BoolValue(flag) => (*flag).into(),
        Value::IntValue(number) => (*number).into(),
        Value::DoubleValue(number) if number.is_finite() => (*number).into(),
        Value::DoubleValue(number) => number.to_string().into(),
        Value::BytesValue(bytes) => bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>().into(),
        Value::ArrayValue(array) => array.values.iter().map(inner).collect(),
        Value::KvlistValue(list) => {
            let value = |it: &KeyValue| it.value.as_ref().map_or(serde_json::Value::Null, inner);
            serde_json::Value::Object(list.values.iter().map(|it| (it.key.clone(), value(it))).collect())
        }
        Value::StringValueStrindex(_) => serde_json::Value::Null,
    }
}

fn marks() -> Marks {
    Marks {
        clock: "line\n\"quoted\" é".into(),
        offset_ns: -7,
        nudge_ns: Some(2),
        uncertainty_ns: Some(3),
        correction: "moved".into(),
        original_start_unix_nano: None,
        original_end_unix_nano: Some(i64::MAX),
        is_estimate: false,
    }
}

fn int(key: &str, number: i64) -> KeyValue {
    KeyValue { key: key.into(), value: Some(AnyValue { value: Some(Value::IntValue(number)) }), ..KeyValue::default() }
}

fn string(key: &str, text: &str) -> KeyValue {
    let value = Some(Value::StringValue(text.into()));
    KeyValue { key: key.into(), value: Some(AnyValue { value }), ..KeyValue::default() }
}

/// All but the times, each of which is blanked to nothing.
fn around_times(payload: &Payload<'_>) -> Vec<u8> {
    let mut times: Vec<_> = payload.spans.iter().flat_map(|span| [&span.start, &span.end]).flatten().collect();
    times.extend(payload.events.iter().filter_map(|event| event.time.as_ref()));
    times.sort_by_key(|time| time.at.start);
    let (mut kept, mut from) = (Vec::new(), 0);
    for time in times {
        kept.extend_from_slice(&payload.bytes[from..time.at.start]);
        kept.push(b'@');
        from = time.at.end;
    }
    kept.extend_from_slice(&payload.bytes[from..]);
    kept
}
