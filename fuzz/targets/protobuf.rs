//! Any bytes as OTLP protobuf: what prost decodes, the scan reads alike; what it takes beside that is written as it came.

use opentelemetry_proto::tonic::trace::v1::TracesData;
use prost::Message;
use unskew::otlp::{self, Encoding};

use super::agree;

pub fn one(bytes: &[u8]) {
    let data = TracesData::decode(bytes).ok();
    agree::check(Encoding::Protobuf, bytes, data.as_ref(), &agree::dice(bytes));
    if let Ok(payload) = otlp::scan(Encoding::Protobuf, bytes) {
        for resource in 0..payload.resources.len() {
            // Only here is a resource decoded; one that cannot be is an error, which the caller tells.
            let attributes = otlp::resource_attributes(&payload, resource);
            assert!(attributes.is_ok() || data.is_none());
        }
    }
}
