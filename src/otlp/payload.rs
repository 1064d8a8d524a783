//! One record (an `ExportTraceServiceRequest`) with the places of what we read and rewrite in it.

use std::borrow::Cow;
use std::ops::Range;

use crate::span::{Marks, SpanHead, SpanId, TraceId};

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Encoding {
    Protobuf,
    Json,
}

/// One record as it was read. All positions are byte offsets into `bytes`.
#[derive(Clone, Debug)]
pub struct Payload<'a> {
    pub encoding: Encoding,
    pub bytes: &'a [u8],
    pub resources: Vec<ResourceSite>,
    /// Names of the instrumentation scopes; empty where there is none.
    pub scopes: Vec<Cow<'a, str>>,
    pub spans: Vec<SpanSite>,
    /// Times of all spans' events; a span holds a range of these.
    pub events: Vec<EventTime>,
    /// Targets of all spans' links; a span holds a range of these.
    pub links: Vec<(TraceId, SpanId)>,
    /// Protobuf only: the messages around the spans, whose lengths grow when marks are added.
    /// A container comes after the one that holds it.
    pub containers: Vec<Container>,
    /// JSON only: an object with keys that are not OTLP's. [`foreign`](super::json::foreign) says what it is.
    pub is_foreign: bool,
    /// JSON only: attribute values of an unknown shape, as `{"Value":{"StringValue":"a"}}`, which are read as no value.
    /// Only where the scan looks: in resources, spans and events, not in links, scopes and lists of values.
    pub unknown_values: Counted,
}

/// Things of one kind that went wrong: how many, and the first in words. A million of them are one line to a user.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Counted {
    pub count: u64,
    pub first: String,
}

impl Counted {
    /// Adds one.
    pub(super) fn add(&mut self, told: impl FnOnce() -> String) {
        if self.count == 0 {
            self.first = told();
        }
        self.count += 1;
    }

    /// Adds those of the record at a position.
    pub fn add_record(&mut self, position: u64, record: Self) {
        if self.count == 0 && record.count > 0 {
            self.first = format!("{} in the record at byte {position}", record.first);
        }
        self.count += record.count;
    }
}

/// A `ResourceSpans`' resource. Its attributes are read only when its fingerprint is new.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ResourceSite {
    /// The resource message or object(s); several when protobuf fields repeat. Empty: no resource given.
    pub at: Vec<Range<usize>>,
    /// A hash of those bytes.
    pub fingerprint: u64,
}

/// Where a time stands: eight bytes in protobuf, the raw value (quotes included) in JSON.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TimeField {
    pub at: Range<usize>,
    pub unix_nano: u64,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EventTime {
    /// `None` when the event carries no time: it is zero and stays so.
    pub time: Option<TimeField>,
    /// Where marks of this event go; see [`SpanSite::attributes_at`].
    pub attributes_at: usize,
    /// JSON: the attributes array at `attributes_at` has elements already.
    pub has_attributes: Option<bool>,
    /// Protobuf: the container of the event message itself.
    pub container: u32,
}

#[derive(Clone, Debug, PartialEq)]
pub struct SpanSite {
    pub head: SpanHead,
    /// Index into [`Payload::resources`].
    pub resource: u32,
    /// Index into [`Payload::scopes`].
    pub scope: u32,
    /// The span's own bytes: the message's content, or the JSON object with its braces.
    pub at: Range<usize>,
    /// `None` when absent: it is zero and stays so.
    pub start: Option<TimeField>,
    pub end: Option<TimeField>,
    pub events: Range<u32>,
    pub links: Range<u32>,
    /// What an earlier run wrote that moved it.
    pub marks: Option<Box<Marks>>,
    /// A stage said what would be taken off, and left it.
    pub annotated: bool,
    /// Where new attributes go. Protobuf: the end of the span's content. JSON: just before the `]` of the
    /// attributes array that counts (the last), or, when there is none, just before the span's closing `}`.
    pub attributes_at: usize,
    /// JSON: whether the array at `attributes_at` has elements already; `None` when there is no array.
    pub has_attributes: Option<bool>,
    /// Protobuf: the container of the span message itself.
    pub container: u32,
}

impl SpanSite {
    /// Moved or annotated before.
    pub fn is_marked(&self) -> bool {
        self.annotated || self.marks.is_some()
    }
}

/// A length-delimited message in protobuf: `tag length content`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Container {
    /// Where its length varint begins.
    pub length_at: usize,
    pub content: Range<usize>,
    /// The container that holds it; `None` at the top.
    pub parent: Option<u32>,
}

/// What to write into one span. Times not named stay as they are.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SpanEdit {
    /// Index into [`Payload::spans`].
    pub span: u32,
    pub start: Option<u64>,
    pub end: Option<u64>,
    pub events: Vec<EventEdit>,
    /// Marks to add as span attributes; empty with `--annotate none`.
    pub marks: Option<Marks>,
}

/// What to write into one event.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct EventEdit {
    /// Index into [`Payload::events`].
    pub event: u32,
    pub time: Option<u64>,
    /// The original time to mark, where it cannot be derived from the span's offset.
    pub original_unix_nano: Option<i64>,
}

/// Bytes that are not OTLP: where, and what was wrong.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{what} at byte {at}")]
pub struct Malformed {
    pub at: usize,
    pub what: String,
}
