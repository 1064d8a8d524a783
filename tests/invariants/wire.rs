//! Any record, as odd as the wire allows: the scan reads what prost reads, and a rewrite changes what it was told to.

use opentelemetry_proto::tonic::trace::v1::TracesData;
use proptest::prelude::*;
use proptest::sample::Index;
use prost::Message;
use prost::encoding::encode_varint;
use unskew::otlp::{self, Encoding};

use crate::agree::check;

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
        delimited(6, Just(b"\x0A\x03\x0A\x01a".to_vec())),
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
        "unskew.nudge_ns",
        "unskew.uncertainty_ns",
        "unskew.original_start_unix_nano",
        "unskew.original_time_unix_nano",
        "service.name",
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

pub fn record() -> Bytes {
    let resource = message(vec![delimited(1, attribute()), number(2, 0..9u64)], 4);
    let scope = message(vec![text(1), text(2), delimited(3, attribute())], 4);
    let scope_spans = message(vec![delimited(1, scope), delimited(2, span()), text(3), delimited(2, span())], 5);
    let resource_spans =
        message(vec![delimited(1, resource), delimited(2, scope_spans.clone()), delimited(2, scope_spans), text(3)], 5);
    message(vec![delimited(1, resource_spans)], 4)
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
        check(Encoding::Protobuf, &bytes, Some(&data), &dice);
    }

    #[test]
    fn broken_protobuf_is_read_where_prost_reads_it(bytes in record(), changes in mutations(), dice in prop::collection::vec(any::<u64>(), 1..9)) {
        let bytes = mutated(bytes, &changes);
        check(Encoding::Protobuf, &bytes, TracesData::decode(&bytes[..]).ok().as_ref(), &dice);
    }

    #[test]
    fn any_json_is_read_alike_and_only_times_change(text in json_record(), dice in prop::collection::vec(any::<u64>(), 1..9)) {
        let data = otlp::json::decode(text.as_bytes()).unwrap_or_else(|error| panic!("{error}: {text}"));
        check(Encoding::Json, text.as_bytes(), Some(&data), &dice);
    }

    #[test]
    fn broken_json_is_read_alike_or_not_at_all(text in json_record(), changes in mutations(), dice in prop::collection::vec(any::<u64>(), 1..9)) {
        let bytes = mutated(text.into_bytes(), &changes);
        check(Encoding::Json, &bytes, otlp::json::decode(&bytes).ok().as_ref(), &dice);
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
    check(Encoding::Protobuf, &bytes, Some(&TracesData::decode(&bytes[..]).unwrap()), &[1]);
}

type Text = BoxedStrategy<String>;

/// An object of some of these members, any number of times and in any order, with white space where it may be.
fn object(members: Vec<Text>, most: usize) -> Text {
    holding(None, members, most)
}

/// As [`object`], with one member that is always there.
fn holding(always: Option<Text>, members: Vec<Text>, most: usize) -> Text {
    let stranger = prop::sample::select(vec![
        r#""futureField":{"deep":[1,{"spans":[{"startTimeUnixNano":"5"}]}]}"#,
        r#""x":null"#,
        r#""y":"}]\"""#,
    ]);
    let member = prop_oneof![8 => proptest::strategy::Union::new(members), 1 => stranger.prop_map(str::to_owned)];
    let always = always.map_or(Just(None).boxed(), |always| always.prop_map(Some).boxed());
    let space = prop::sample::select(vec!["", " ", "\n\t", "\r\n"]);
    (always, prop::collection::vec(member, 0..most), any::<Index>(), space)
        .prop_map(|(always, mut members, at, space)| {
            let at = at.index(members.len() + 1);
            members.splice(at..at, always);
            (members, space)
        })
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
        "\"service.name\"",
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
    let odd = object(vec![member(&["key"], key.prop_map(str::to_owned)), member(&["value"], value)], 4);
    // As everybody writes it, or nearly so.
    let (key, values) = (
        prop::sample::select(vec!["http.route", "unskew.clock", "service.name", "", "\\u0061", "é"]),
        prop::sample::select(vec![
            r#""stringValue":"é""#,
            r#""stringValue":"a\"b""#,
            r#""stringValue":"","stringValue":"b""#,
            r#""intValue":"-5""#,
            r#""intValue":"5.0""#,
            r#""intValue":"""#,
            r#""intValue":"9223372036854775807""#,
            r#""doubleValue":1.5e300"#,
            r#""doubleValue":"NaN""#,
            r#""kvlistValue":{"values":[{"key":"z","value":{"intValue":"1"}},{"key":"a"}]}"#,
        ]),
    );
    let plain = (key, values).prop_map(|(key, value)| format!(r#"{{"key":"{key}","value":{{{value}}}}}"#));
    prop_oneof![odd, plain].boxed()
}

fn json_text() -> Text {
    prop::sample::select(vec![r#""e""#, r#""\ud83d\ude00é""#, r#""a\tb""#, r#""""#, "null"])
        .prop_map(str::to_owned)
        .boxed()
}

fn json_id(bytes: usize) -> Text {
    prop::collection::vec(any::<u8>(), bytes)
        .prop_map(|bytes| format!("\"{}\"", bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>()))
        .boxed()
}

pub fn json_record() -> Text {
    let attributes = || member(&["attributes"], array(json_attribute()));
    let event = object(
        vec![member(&["timeUnixNano", "time_unix_nano"], json_time()), attributes(), member(&["name"], json_text())],
        4,
    );
    let link = object(
        vec![
            member(&["traceId"], json_id(16)),
            member(&["spanId"], json_id(8)),
            member(&["traceState"], json_text()),
            attributes(),
        ],
        4,
    );
    let status = object(
        vec![
            member(&["code"], prop::sample::select(vec!["2", "\"STATUS_CODE_ERROR\"", "1"]).prop_map(str::to_owned)),
            member(&["message"], json_text()),
        ],
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
            member(&["name"], json_text()),
            member(&["traceState", "trace_state"], json_text()),
            member(&["flags"], prop::sample::select(vec!["257", "\"1\"", "null"]).prop_map(str::to_owned)),
            attributes(),
            member(&["events"], array(event)),
            member(&["links"], array(link)),
            member(&["status"], status),
        ],
        14,
    );
    let scope = object(vec![member(&["name"], json_text()), member(&["version"], json_text())], 3);
    let scope = holding(
        Some(member(&["spans"], array(span.clone()))),
        vec![member(&["spans"], array(span)), member(&["scope"], scope)],
        3,
    );
    let resource = object(vec![attributes()], 3);
    let scopes = member(&["scopeSpans", "scope_spans"], array(scope));
    let of = holding(Some(scopes.clone()), vec![member(&["resource"], resource), scopes], 3);
    let all = member(&["resourceSpans"], array(of));
    holding(Some(all.clone()), vec![all], 2)
}
