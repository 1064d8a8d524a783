//! Any record, as odd as the wire allows: the scan reads what prost reads, and a rewrite changes what it was told to.

use opentelemetry_proto::tonic::common::v1::{AnyValue, KeyValue, any_value::Value};
use opentelemetry_proto::tonic::trace::v1::TracesData;
use proptest::prelude::*;
use proptest::sample::Index;
use prost::Message;
use prost::encoding::encode_varint;
use unskew::otlp::{self, Encoding, EventEdit, Payload, SpanEdit, TimeField};
use unskew::span::{AttributeValue, CallFacts, Marks, SpanId, SpanKind, TraceId};

type Bytes = BoxedStrategy<Vec<u8>>;

/// A varint, sometimes longer than it need be.
fn varint(value: u64, padding: usize) -> Vec<u8> {
    let mut bytes = Vec::new();
    encode_varint(value, &mut bytes);
    if padding > 0 && bytes.len() + padding <= 9 {
        *bytes.last_mut().unwrap() |= 0x80;
        bytes.resize(bytes.len() + padding - 1, 0x80);
        bytes.push(0);
    }
    bytes
}

fn tag(number: u64, wire_type: u64) -> Vec<u8> {
    varint(number << 3 | wire_type, 0)
}

fn delimited(number: u64, content: impl Strategy<Value = Vec<u8>> + 'static) -> Bytes {
    (content, prop_oneof![6 => Just(0usize), 1 => 1..3usize])
        .prop_map(move |(content, padding)| [tag(number, 2), varint(content.len() as u64, padding), content].concat())
        .boxed()
}

fn number(field: u64, value: impl Strategy<Value = u64> + 'static) -> Bytes {
    value.prop_map(move |value| [tag(field, 0), varint(value, 0)].concat()).boxed()
}

fn fixed(field: u64) -> Bytes {
    let time =
        prop_oneof![Just(0), Just(u64::MAX), 1_700_000_000_000_000_000..1_700_000_001_000_000_000u64, any::<u64>()];
    time.prop_map(move |value| [tag(field, 1), value.to_le_bytes().to_vec()].concat()).boxed()
}

/// Fields that nobody knows, of every wire type, groups within groups among them.
fn unknown() -> Bytes {
    let field = prop::sample::select(vec![20u64, 99, 1_000, 5_000_000]);
    let leaf = (field.clone(), 0..4u8, any::<u64>(), prop::collection::vec(any::<u8>(), 0..9)).prop_map(
        |(field, kind, value, text)| match kind {
            0 => [tag(field, 0), varint(value, 0)].concat(),
            1 => [tag(field, 1), value.to_le_bytes().to_vec()].concat(),
            2 => [tag(field, 2), varint(text.len() as u64, 0), text].concat(),
            _ => [tag(field, 5), (value as u32).to_le_bytes().to_vec()].concat(),
        },
    );
    leaf.prop_recursive(3, 8, 2, move |inner| {
        (field.clone(), prop::collection::vec(inner, 0..3))
            .prop_map(|(field, inner)| [tag(field, 3), inner.concat(), tag(field, 4)].concat())
    })
    .boxed()
}

/// A message of some of these fields, any number of times and in any order.
fn message(fields: Vec<Bytes>, most: usize) -> Bytes {
    let known = proptest::strategy::Union::new(fields);
    prop::collection::vec(prop_oneof![8 => known, 1 => unknown()], 0..most).prop_map(|fields| fields.concat()).boxed()
}

fn text(field: u64) -> Bytes {
    delimited(field, "[a-zé]{0,6}".prop_map(String::into_bytes))
}

fn any_value() -> Bytes {
    let variants = vec![
        delimited(1, prop::sample::select(vec!["process", "timeout", "moved", "4"]).prop_map(|text| text.into())),
        number(2, 0..2u64),
        number(3, any::<u64>()),
        fixed(4),
        delimited(5, Just(vec![0x0A, 2, 0x18, 7])),
        delimited(7, prop::collection::vec(any::<u8>(), 0..4)),
        number(8, 0..9u64),
    ];
    message(variants, 3)
}

fn attribute() -> Bytes {
    let keys = [
        "http.route",
        "rpc.status_code",
        "messaging.operation.type",
        "error.type",
        "unskew.clock",
        "unskew.offset_ns",
        "unskew.correction",
        "unskew.uncertainty_ns",
        "unskew.original_start_unix_nano",
        "unskew.original_time_unix_nano",
        "",
    ];
    let key = prop::sample::select(keys.to_vec()).prop_map(|key| key.as_bytes().to_vec());
    let (value, again) = (delimited(2, any_value()), delimited(2, any_value()));
    (delimited(1, key), value, prop::option::weighted(0.2, again), any::<bool>())
        .prop_map(|(key, value, again, value_first)| {
            let again = again.unwrap_or_default();
            if value_first { [value, key, again].concat() } else { [key, value, again].concat() }
        })
        .boxed()
}

fn id(field: u64, length: usize) -> Bytes {
    let bytes =
        prop_oneof![4 => prop::collection::vec(any::<u8>(), length), 1 => prop::collection::vec(any::<u8>(), 0..18)];
    delimited(field, prop_oneof![6 => bytes, 1 => Just(vec![0; length])])
}

fn span() -> Bytes {
    let event = message(vec![fixed(1), text(2), delimited(3, attribute()), number(4, 0..9u64)], 5);
    let link = message(vec![id(1, 16), id(2, 8), text(3), delimited(4, attribute()), number(5, 0..9u64)], 4);
    let status = message(vec![text(2), number(3, prop_oneof![0..4u64, any::<u64>()])], 3);
    let fields = vec![
        id(1, 16),
        id(2, 8),
        text(3),
        id(4, 8),
        text(5),
        number(6, prop_oneof![0..7u64, any::<u64>()]),
        fixed(7),
        fixed(8),
        delimited(9, attribute()),
        number(10, 0..9u64),
        delimited(11, event),
        delimited(13, link),
        delimited(15, status),
    ];
    message(fields, 14)
}

fn record() -> Bytes {
    let resource = message(vec![delimited(1, attribute()), number(2, 0..9u64)], 4);
    let scope = message(vec![text(1), text(2), delimited(3, attribute())], 4);
    let scope_spans = message(vec![delimited(1, scope), delimited(2, span()), text(3), delimited(2, span())], 5);
    let resource_spans =
        message(vec![delimited(1, resource), delimited(2, scope_spans.clone()), delimited(2, scope_spans), text(3)], 5);
    message(vec![delimited(1, resource_spans)], 4)
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
        uncertainty_ns: int("unskew.uncertainty_ns"),
        correction: correction.unwrap_or_default().into(),
        original_start_unix_nano: int("unskew.original_start_unix_nano"),
        original_end_unix_nano: int("unskew.original_end_unix_nano"),
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

fn marks() -> Marks {
    Marks {
        clock: "line\n\"quoted\" é".into(),
        offset_ns: -7,
        uncertainty_ns: Some(3),
        correction: "moved".into(),
        original_start_unix_nano: None,
        original_end_unix_nano: Some(i64::MAX),
    }
}

fn int(key: &str, number: i64) -> KeyValue {
    KeyValue { key: key.into(), value: Some(AnyValue { value: Some(Value::IntValue(number)) }), ..KeyValue::default() }
}

fn string(key: &str, text: &str) -> KeyValue {
    let value = Some(Value::StringValue(text.into()));
    KeyValue { key: key.into(), value: Some(AnyValue { value }), ..KeyValue::default() }
}

/// Edits by the dice, and what the record means when they are made.
fn edited(payload: &Payload<'_>, data: &TracesData, dice: &[u64], annotate: bool) -> (Vec<SpanEdit>, TracesData) {
    let mut data = data.clone();
    let mut edits = Vec::new();
    let mut throw = dice.iter().copied().cycle();
    let mut throw = || throw.next().unwrap_or(0);
    let spans = data.resource_spans.iter_mut().flat_map(|of| &mut of.scope_spans).flat_map(|of| &mut of.spans);
    for (index, (span, site)) in spans.zip(&payload.spans).enumerate() {
        if throw().is_multiple_of(4) {
            continue;
        }
        let mut time = |field: &Option<TimeField>, into: &mut u64| {
            let new = Some(throw()).filter(|dice| !dice.is_multiple_of(3));
            *into = new.filter(|_| field.is_some()).unwrap_or(*into);
            new
        };
        let start = time(&site.start, &mut span.start_time_unix_nano);
        let end = time(&site.end, &mut span.end_time_unix_nano);
        let mut events = Vec::new();
        for (place, event) in site.events.clone().zip(&mut span.events) {
            let new = time(&payload.events[place as usize].time, &mut event.time_unix_nano);
            let original_unix_nano = (annotate && new.is_some_and(|new| new.is_multiple_of(2))).then_some(11);
            event.attributes.extend(original_unix_nano.map(|nanos| int("unskew.original_time_unix_nano", nanos)));
            events.push(EventEdit { event: place, time: new, original_unix_nano });
        }
        let marks = annotate.then(marks);
        if marks.is_some() {
            span.attributes.extend([
                string("unskew.clock", "line\n\"quoted\" é"),
                int("unskew.offset_ns", -7),
                int("unskew.uncertainty_ns", 3),
                string("unskew.correction", "moved"),
                int("unskew.original_end_unix_nano", i64::MAX),
            ]);
        }
        edits.push(SpanEdit { span: index as u32, start, end, events, marks });
    }
    (edits, data)
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

/// What a scan and a rewrite must do with a record that a full decoding takes.
fn check(encoding: Encoding, bytes: &[u8], data: &TracesData, dice: &[u64]) {
    let payload = otlp::scan(encoding, bytes).unwrap();
    agree(&payload, data);
    let rewritten = |edits: &[SpanEdit]| {
        let mut out = Vec::new();
        otlp::rewrite(&payload, edits, &mut out);
        out
    };
    assert!(rewritten(&[]) == bytes);
    for annotate in [false, true] {
        let (edits, expected) = edited(&payload, data, dice, annotate);
        let out = rewritten(&edits);
        // Encoded, as NaN differs from itself.
        assert!(otlp::decode(encoding, &out).unwrap().encode_to_vec() == expected.encode_to_vec(), "{expected:?}");
        let again = otlp::scan(encoding, &out).unwrap();
        agree(&again, &expected);
        if !annotate {
            assert!(around_times(&payload) == around_times(&again), "more than times differs");
        }
    }
}

/// A few bytes set, dropped or doubled, and perhaps the end cut off.
fn mutated(mut bytes: Vec<u8>, mutations: &[(Index, u8, u8)]) -> Vec<u8> {
    for (at, kind, byte) in mutations {
        if bytes.is_empty() {
            break;
        }
        let at = at.index(bytes.len());
        match kind % 5 {
            0 | 1 => bytes[at] = *byte,
            2 => drop(bytes.remove(at)),
            3 => bytes.insert(at, *byte),
            _ => bytes.truncate(at),
        }
    }
    bytes
}

fn mutations() -> impl Strategy<Value = Vec<(Index, u8, u8)>> {
    let byte =
        prop_oneof![any::<u8>(), prop::sample::select(vec![0u8, 0x0A, 0x12, 0x39, 0x4A, 0x7A, b'"', b'}', b','])];
    prop::collection::vec((any::<Index>(), any::<u8>(), byte), 1..4)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 192, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_protobuf_is_read_as_prost_reads_it_and_only_times_change(bytes in record(), dice in prop::collection::vec(any::<u64>(), 1..9)) {
        let data = TracesData::decode(&bytes[..]).expect("made to be well-formed");
        check(Encoding::Protobuf, &bytes, &data, &dice);
    }

    #[test]
    fn broken_protobuf_is_read_where_prost_reads_it(bytes in record(), changes in mutations(), dice in prop::collection::vec(any::<u64>(), 1..9)) {
        let bytes = mutated(bytes, &changes);
        match TracesData::decode(&bytes[..]) {
            Ok(data) => check(Encoding::Protobuf, &bytes, &data, &dice),
            // More may be taken, as not every field is read; it must end, and be written as it was.
            Err(_) => if let Ok(payload) = otlp::scan(Encoding::Protobuf, &bytes) {
                let mut out = Vec::new();
                otlp::rewrite(&payload, &[], &mut out);
                prop_assert!(out == bytes);
            },
        }
    }

    #[test]
    fn any_json_is_read_alike_and_only_times_change(text in json_record(), dice in prop::collection::vec(any::<u64>(), 1..9)) {
        let data = otlp::decode(Encoding::Json, text.as_bytes()).unwrap_or_else(|error| panic!("{error}: {text}"));
        check(Encoding::Json, text.as_bytes(), &data, &dice);
    }

    #[test]
    fn broken_json_is_read_alike_or_not_at_all(text in json_record(), changes in mutations(), dice in prop::collection::vec(any::<u64>(), 1..9)) {
        let bytes = mutated(text.into_bytes(), &changes);
        if let Ok(data) = otlp::decode(Encoding::Json, &bytes) {
            check(Encoding::Json, &bytes, &data, &dice);
        } else if let Ok(payload) = otlp::scan(Encoding::Json, &bytes) {
            let mut out = Vec::new();
            otlp::rewrite(&payload, &[], &mut out);
            prop_assert!(out == bytes);
        }
    }
}

/// The last variant counts, also one that came to the protocol lately: too rare for the dice.
#[test]
fn a_value_that_points_elsewhere_is_no_text() {
    let field =
        |number: u64, content: &[u8]| [tag(number, 2), varint(content.len() as u64, 0), content.to_vec()].concat();
    let value = [field(1, b"timeout"), vec![0x40, 5]].concat();
    let attribute = [field(1, b"error.type"), field(2, &value)].concat();
    let bytes = field(1, &field(2, &field(2, &field(9, &attribute))));
    check(Encoding::Protobuf, &bytes, &TracesData::decode(&bytes[..]).unwrap(), &[1]);
}

type Text = BoxedStrategy<String>;

/// An object of some of these members, any number of times and in any order, with white space where it may be.
fn object(members: Vec<Text>, most: usize) -> Text {
    let stranger = prop::sample::select(vec![
        r#""futureField":{"deep":[1,{"spans":[{"startTimeUnixNano":"5"}]}]}"#,
        r#""x":null"#,
        r#""y":"}]\"""#,
    ]);
    let member = prop_oneof![8 => proptest::strategy::Union::new(members), 1 => stranger.prop_map(str::to_owned)];
    (prop::collection::vec(member, 0..most), prop::sample::select(vec!["", " ", "\n\t", "\r\n"]))
        .prop_map(|(members, space)| format!("{{{space}{}{space}}}", members.join(&format!("{space},{space}"))))
        .boxed()
}

fn member(keys: &'static [&'static str], value: impl Strategy<Value = String> + 'static) -> Text {
    (prop::sample::select(keys.to_vec()), value).prop_map(|(key, value)| format!("\"{key}\" : {value}")).boxed()
}

fn array(item: Text) -> Text {
    let item = prop_oneof![9 => item, 1 => Just("null".to_owned())];
    let items = prop::collection::vec(item, 0..4).prop_map(|items| format!("[{}]", items.join(" , ")));
    prop_oneof![9 => items, 1 => Just("null".to_owned())].boxed()
}

fn json_time() -> Text {
    let nanos = prop_oneof![Just(0), Just(u64::MAX), 1_700_000_000_000_000_000..1_700_000_001_000_000_000u64];
    let plain = (nanos, any::<bool>())
        .prop_map(|(nanos, quoted)| if quoted { format!("\"{nanos}\"") } else { nanos.to_string() });
    let odd = prop::sample::select(vec!["null", "1.7e18", "\"1.7e18\"", "\"\\u0031700\"", "5.0", "\"\""]);
    prop_oneof![6 => plain, 1 => odd.prop_map(str::to_owned)].boxed()
}

fn json_attribute() -> Text {
    let key = prop::sample::select(vec![
        "\"http.route\"",
        "\"unskew.offset_ns\"",
        "\"unskew.correction\"",
        "\"\\u0075nskew.clock\"",
        "null",
    ]);
    let value = object(
        vec![
            member(
                &["stringValue", "string_value"],
                prop::sample::select(vec!["\"moved\"", "\"\\u00e9\"", "null"]).prop_map(str::to_owned),
            ),
            member(&["intValue"], prop::sample::select(vec!["\"5\"", "-6", "null"]).prop_map(str::to_owned)),
            member(&["boolValue"], prop::sample::select(vec!["true", "\"false\""]).prop_map(str::to_owned)),
            member(
                &["arrayValue"],
                prop::sample::select(vec!["{\"values\":[{\"intValue\":1}]}", "{}", "null"]).prop_map(str::to_owned),
            ),
        ],
        3,
    );
    object(vec![member(&["key"], key.prop_map(str::to_owned)), member(&["value"], value)], 4)
}

fn json_id(bytes: usize) -> Text {
    prop::collection::vec(any::<u8>(), bytes)
        .prop_map(|bytes| format!("\"{}\"", bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>()))
        .boxed()
}

fn json_record() -> Text {
    let attributes = || member(&["attributes"], array(json_attribute()));
    let event = object(
        vec![
            member(&["timeUnixNano", "time_unix_nano"], json_time()),
            attributes(),
            member(&["name"], Just("\"e\"".to_owned())),
        ],
        4,
    );
    let link = object(vec![member(&["traceId"], json_id(16)), member(&["spanId"], json_id(8)), attributes()], 3);
    let status = object(
        vec![member(&["code"], prop::sample::select(vec!["2", "\"STATUS_CODE_ERROR\"", "1"]).prop_map(str::to_owned))],
        3,
    );
    let kind = prop::sample::select(vec!["2", "\"SPAN_KIND_CLIENT\"", "\"3\"", "null"]).prop_map(str::to_owned);
    let span = object(
        vec![
            member(&["traceId", "trace_id"], json_id(16)),
            member(&["spanId"], json_id(8)),
            member(&["parentSpanId"], json_id(8)),
            member(&["kind"], kind),
            member(&["startTimeUnixNano", "start_time_unix_nano"], json_time()),
            member(&["endTimeUnixNano"], json_time()),
            attributes(),
            member(&["events"], array(event)),
            member(&["links"], array(link)),
            member(&["status"], status),
        ],
        12,
    );
    let scope =
        object(vec![member(&["spans"], array(span)), member(&["scope"], Just("{\"name\":\"s\"}".to_owned()))], 3);
    let resource = object(vec![attributes()], 3);
    let of = object(vec![member(&["resource"], resource), member(&["scopeSpans", "scope_spans"], array(scope))], 3);
    object(vec![member(&["resourceSpans"], array(of))], 3)
}
