//! OTLP bytes ↔ [`Payload`]: where the fields of each span sit, so that times are rewritten in place
//! and every other byte survives.

pub mod json;
mod marks;
mod payload;
pub mod protobuf;
mod splice;
mod view;

pub use payload::{
    Container, Counted, Encoding, EventEdit, EventTime, Malformed, Payload, ResourceSite, SpanEdit, SpanSite, TimeField,
};
pub use view::{AttributeView, EventView, IdView, LinkView, RecordView, ScopeView, SpanView, ValueView};

use std::borrow::Cow;
use std::ops::Range;

use opentelemetry_proto::tonic::common::v1::{AnyValue, KeyValue, any_value::Value};

/// Finds the spans of one record.
///
/// # Errors
/// Where the bytes are not such a record.
pub fn scan(encoding: Encoding, bytes: &[u8]) -> Result<Payload<'_>, Malformed> {
    match encoding {
        Encoding::Protobuf => protobuf::scan(bytes),
        Encoding::Json => json::scan(bytes),
    }
}

/// As [`scan`], but perhaps only what a rewrite needs.
///
/// # Errors
/// As [`scan`].
pub fn locate(encoding: Encoding, bytes: &[u8]) -> Result<Payload<'_>, Malformed> {
    match encoding {
        Encoding::Protobuf => protobuf::locate(bytes),
        Encoding::Json => json::scan(bytes),
    }
}

/// All of a record that the traces table shows, borrowed from it.
///
/// # Errors
/// Where the bytes are not such a record; as far as it is not UTF-8, only where they are JSON.
pub fn view(encoding: Encoding, bytes: &[u8]) -> Result<RecordView<'_>, Malformed> {
    match encoding {
        Encoding::Protobuf => protobuf::view(bytes),
        Encoding::Json => json::view(bytes),
    }
}

/// The attributes of one resource of a record, values as text.
///
/// # Errors
/// Where the resource is not well-formed.
pub fn resource_attributes(payload: &Payload<'_>, resource: usize) -> Result<Vec<(String, String)>, Malformed> {
    match payload.encoding {
        Encoding::Protobuf => protobuf::resource_attributes(payload, resource),
        Encoding::Json => json::resource_attributes(payload, resource),
    }
}

/// Copies a record to `out` with the edits made, which are in the order of the spans.
pub fn rewrite(payload: &Payload<'_>, edits: &[SpanEdit], out: &mut Vec<u8>) {
    if let Some(times) = overwrites(payload, edits) {
        let base = out.len();
        out.extend_from_slice(payload.bytes);
        return overwrite(payload.encoding, &mut out[base..], &times);
    }
    match payload.encoding {
        Encoding::Protobuf => protobuf::rewrite(payload, edits, out),
        Encoding::Json => json::rewrite(payload, edits, out),
    }
}

/// The new times and their places, where they are all that the edits change and each is as long as the old one: then the
/// record need not be copied.
pub fn overwrites(payload: &Payload<'_>, edits: &[SpanEdit]) -> Option<Vec<TimeField>> {
    let is_marked =
        |edit: &SpanEdit| edit.marks.is_some() || edit.events.iter().any(|event| event.original_unix_nano.is_some());
    if edits.iter().any(is_marked) {
        return None;
    }
    let mut times = Vec::with_capacity(2 * edits.len());
    for_each_time(payload, edits, |at, unix_nano| times.push(TimeField { at: at.clone(), unix_nano }));
    let fits = |time: &TimeField| match payload.encoding {
        Encoding::Protobuf => true,
        Encoding::Json => json::fits(payload.bytes, time),
    };
    times.iter().all(fits).then_some(times)
}

/// Writes times that [`overwrites`] gave into the record that they are of.
pub fn overwrite(encoding: Encoding, bytes: &mut [u8], times: &[TimeField]) {
    for TimeField { at, unix_nano } in times {
        let place = &mut bytes[at.clone()];
        match encoding {
            Encoding::Protobuf => place.copy_from_slice(&unix_nano.to_le_bytes()),
            Encoding::Json => json::overwrite(place, *unix_nano),
        }
    }
}

fn for_each_time(payload: &Payload<'_>, edits: &[SpanEdit], mut set: impl FnMut(&Range<usize>, u64)) {
    let mut time = |field: &Option<TimeField>, time: Option<u64>| {
        if let (Some(field), Some(time)) = (field, time) {
            set(&field.at, time);
        }
    };
    for edit in edits {
        let site = &payload.spans[edit.span as usize];
        time(&site.start, edit.start);
        time(&site.end, edit.end);
        edit.events.iter().for_each(|event| time(&payload.events[event.event as usize].time, event.time));
    }
}

/// An attribute's value as text: strings as they are, arrays and maps as JSON.
pub(crate) fn value_text(value: Option<&AnyValue>) -> Cow<'_, str> {
    match value.and_then(|any| any.value.as_ref()) {
        Some(Value::StringValue(text)) => Cow::Borrowed(text),
        Some(value) => Cow::Owned(value_json(Some(value)).to_string()),
        None => Cow::Borrowed(""),
    }
}

fn value_json(value: Option<&Value>) -> serde_json::Value {
    use serde_json::Value as Json;
    let inner = |any: &AnyValue| value_json(any.value.as_ref());
    match value {
        None => Json::Null,
        Some(Value::StringValue(text)) => Json::String(text.clone()),
        Some(Value::BoolValue(flag)) => Json::Bool(*flag),
        Some(Value::IntValue(number)) => Json::from(*number),
        // JSON has no word for NaN and the infinities; protobuf's JSON writes them as strings.
        Some(Value::DoubleValue(number)) => {
            serde_json::Number::from_f64(*number).map_or_else(|| Json::String(number.to_string()), Json::Number)
        }
        Some(Value::BytesValue(bytes)) => Json::String(bytes.iter().map(|byte| format!("{byte:02x}")).collect()),
        Some(Value::ArrayValue(array)) => array.values.iter().map(inner).collect(),
        Some(Value::KvlistValue(list)) => {
            let entry = |entry: &KeyValue| (entry.key.clone(), entry.value.as_ref().map_or(Json::Null, inner));
            Json::Object(list.values.iter().map(entry).collect())
        }
        Some(_) => Json::Null,
    }
}
