//! OTLP bytes ↔ [`Payload`]: where the fields of each span sit, so that times are rewritten in place
//! and every other byte survives.

pub mod json;
mod payload;
pub mod protobuf;
mod splice;

pub use payload::{
    Container, Encoding, EventEdit, EventTime, Malformed, Payload, ResourceSite, SpanEdit, SpanSite, TimeField,
};

use opentelemetry_proto::tonic::common::v1::{AnyValue, any_value::Value};
use opentelemetry_proto::tonic::trace::v1::TracesData;

use crate::span::Marks;

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
    match payload.encoding {
        Encoding::Protobuf => protobuf::rewrite(payload, edits, out),
        Encoding::Json => json::rewrite(payload, edits, out),
    }
}

/// Decodes a whole record.
///
/// # Errors
/// Where the bytes are not such a record.
pub fn decode(encoding: Encoding, bytes: &[u8]) -> Result<TracesData, Malformed> {
    match encoding {
        Encoding::Protobuf => {
            prost::Message::decode(bytes).map_err(|error| Malformed { at: 0, what: format!("not OTLP: {error}") })
        }
        Encoding::Json => json::decode(bytes),
    }
}

/// The span attributes that say what was moved, by how much, how sure, and why (DESIGN.md, "Marks").
fn mark_attributes(marks: &Marks) -> Vec<(&'static str, Value)> {
    let mut attributes = vec![
        ("unskew.clock", Value::StringValue(marks.clock.clone())),
        ("unskew.offset_ns", Value::IntValue(marks.offset_ns)),
    ];
    attributes.extend(marks.uncertainty_ns.map(|nanos| ("unskew.uncertainty_ns", Value::IntValue(nanos))));
    attributes.push(("unskew.correction", Value::StringValue(marks.correction.clone())));
    let originals = [
        ("unskew.original_start_unix_nano", marks.original_start_unix_nano),
        ("unskew.original_end_unix_nano", marks.original_end_unix_nano),
    ];
    attributes.extend(originals.into_iter().filter_map(|(key, nanos)| Some((key, Value::IntValue(nanos?)))));
    attributes
}

/// An attribute's value as text: strings as they are, arrays and maps as JSON.
pub(crate) fn value_text(value: Option<AnyValue>) -> String {
    match value.and_then(|any| any.value) {
        Some(Value::StringValue(text)) => text,
        Some(value) => value_json(Some(value)).to_string(),
        None => String::new(),
    }
}

fn value_json(value: Option<Value>) -> serde_json::Value {
    use serde_json::Value as Json;
    match value {
        None => Json::Null,
        Some(Value::StringValue(text)) => Json::String(text),
        Some(Value::BoolValue(flag)) => Json::Bool(flag),
        Some(Value::IntValue(number)) => Json::from(number),
        // JSON has no word for NaN and the infinities; protobuf's JSON writes them as strings.
        Some(Value::DoubleValue(number)) => {
            serde_json::Number::from_f64(number).map_or_else(|| Json::String(number.to_string()), Json::Number)
        }
        Some(Value::BytesValue(bytes)) => Json::String(bytes.iter().map(|byte| format!("{byte:02x}")).collect()),
        Some(Value::ArrayValue(array)) => array.values.into_iter().map(|any| value_json(any.value)).collect(),
        Some(Value::KvlistValue(list)) => Json::Object(
            list.values
                .into_iter()
                .map(|entry| (entry.key, value_json(entry.value.and_then(|any| any.value))))
                .collect(),
        ),
        Some(_) => Json::Null,
    }
}
