//! OTLP bytes ↔ [`Payload`]: where the fields of each span sit, so that times are rewritten in place
//! and every other byte survives.

mod payload;

pub use payload::{Container, Encoding, EventTime, Malformed, Payload, ResourceSite, SpanEdit, SpanSite, TimeField};
