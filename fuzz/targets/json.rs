//! Any bytes as OTLP/JSON: the scan, the full decoding and serde_json agree on what is JSON and on what it says, and
//! the record in protobuf says the same.

use opentelemetry_proto::tonic::trace::v1::TracesData;
use prost::Message;
use serde_json::Value;
use unskew::otlp::{self, Encoding, Payload, json};

use super::agree;

pub fn one(bytes: &[u8]) {
    let is_json = judged(bytes);
    let data = json::decode(bytes).ok();
    let dice = agree::dice(bytes);
    agree::check(Encoding::Json, bytes, data.as_ref(), &dice);
    let Ok(payload) = otlp::scan(Encoding::Json, bytes) else { return };
    assert!(is_json);
    // Whatever has keys can be told by them.
    assert!(!payload.is_foreign || json::foreign(bytes).is_some());
    for annotate in [false, true] {
        let out = agree::rewritten(&payload, &agree::edits(&payload, &dice, annotate));
        assert!(judged(&out));
        if !annotate {
            assert_eq!(timeless(bytes), timeless(&out));
        }
    }
    // What the scan takes can be told in protobuf, but for a field; and nothing is left out where all can be meant.
    let (most, left_out) = json::decode_most(bytes).unwrap();
    assert_eq!(left_out.count == 0, data.is_some(), "{left_out:?}");
    assert!(data.is_none_or(|data| data.encode_to_vec() == most.encode_to_vec()));
    in_protobuf(&payload, &most, &dice);
}

/// Whether the bytes are JSON, in serde_json's judgement and ours.
fn judged(bytes: &[u8]) -> bool {
    let ours = json::check(bytes);
    let theirs =
        std::str::from_utf8(bytes).is_ok_and(|text| serde_json::from_str::<serde::de::IgnoredAny>(text).is_ok());
    match &ours {
        Err(error) if error.what == "nested too deeply" => {}
        ours => assert_eq!(ours.is_ok(), theirs, "{ours:?}"),
    }
    if ours.is_ok() {
        breaks_off_at_its_end(bytes);
    }
    ours.is_ok()
}

/// A value that is cut off is wrong at its very end, by which a torn record is told from a broken one.
fn breaks_off_at_its_end(bytes: &[u8]) {
    let start = bytes.len() - bytes.trim_ascii_start().len();
    let end = json::value_end(bytes).unwrap();
    if matches!(bytes[start], b'{' | b'[') {
        // Every place would take most of the time.
        for cut in agree::dice(bytes).map(|dice| start + 1 + dice as usize % (end - start - 1)) {
            assert_eq!(json::value_end(&bytes[..cut]).map_err(|error| error.at), Err(cut));
        }
    }
}

/// The text as serde_json reads it, every time blanked. `None`: nested too deeply for it, or a number beyond its range.
fn timeless(bytes: &[u8]) -> Option<Value> {
    let mut value = serde_json::from_slice(bytes).ok()?;
    blank(&mut value);
    Some(value)
}

fn blank(value: &mut Value) {
    match value {
        Value::Array(items) => items.iter_mut().for_each(blank),
        Value::Object(members) => {
            for (key, value) in members {
                let is_time = key.ends_with("imeUnixNano") || key.ends_with("ime_unix_nano");
                match value {
                    Value::String(_) | Value::Number(_) if is_time => *value = Value::Null,
                    value => blank(value),
                }
            }
        }
        _ => {}
    }
}

/// Told in protobuf, a record has the same spans in the same order: edits fit either form.
fn in_protobuf(payload: &Payload<'_>, data: &TracesData, dice: &[u64]) {
    let encoded = data.encode_to_vec();
    match TracesData::decode(&encoded[..]) {
        Ok(again) => agree::check(Encoding::Protobuf, &encoded, Some(&again), dice),
        Err(error) => assert!(error.to_string().contains("recursion limit"), "{error}"),
    }
    let told = otlp::locate(Encoding::Protobuf, &encoded).unwrap();
    let read = |payload: &Payload<'_>| -> Vec<_> {
        payload.spans.iter().map(|site| (site.head.trace, site.head.span, site.head.start, site.head.end)).collect()
    };
    assert_eq!(read(payload), read(&told));
    assert_eq!(payload.events.len(), told.events.len());
}
