//! A whole record as the traces table shows it, its text left where it stands in the record.
//!
//! In come a record's bytes (`json/view.rs`, `protobuf/view.rs`), out go lists of parts that borrow from them. Only what
//! has to be worked out is owned: text in JSON with escapes, and attributes that are lists or maps. Text is bytes, as
//! whoever copies it into a column checks all of it at once.

use std::borrow::Cow;
use std::ops::Range;

use opentelemetry_proto::tonic::common::v1::{AnyValue, any_value::Value};

use super::marks::{EVENT_MARK, MarksFound};
use super::value_text;
use crate::span::{AttributeValue, Marks, SpanId, SpanKind, TraceId};

/// Text as it was sent: UTF-8, but for nobody has looked.
pub type Text<'a> = Cow<'a, [u8]>;

/// One record. Parts are held in lists by kind, of which the spans and events hold ranges.
#[derive(Clone, Debug, Default)]
pub struct RecordView<'a> {
    /// In the order of [`Payload::spans`](super::Payload::spans).
    pub spans: Vec<SpanView<'a>>,
    pub(super) resources: Vec<Range<u32>>,
    pub(super) scopes: Vec<ScopeView<'a>>,
    pub(super) events: Vec<EventView<'a>>,
    pub(super) links: Vec<LinkView<'a>>,
    pub(super) attributes: Attributes<'a>,
}

/// All attributes of a record, by what they belong to, so that those of one span stand side by side.
#[derive(Clone, Debug, Default)]
pub(super) struct Attributes<'a> {
    pub(super) resources: Vec<AttributeView<'a>>,
    pub(super) spans: Vec<AttributeView<'a>>,
    pub(super) events: Vec<AttributeView<'a>>,
    pub(super) links: Vec<AttributeView<'a>>,
}

/// One span.
#[derive(Clone, Debug, Default)]
pub struct SpanView<'a> {
    pub trace_id: IdView<'a>,
    pub span_id: IdView<'a>,
    pub parent_span_id: IdView<'a>,
    pub trace_state: Text<'a>,
    pub flags: u32,
    pub name: Text<'a>,
    pub kind: SpanKind,
    /// OTLP's `StatusCode`.
    pub status_code: i32,
    pub status_message: Text<'a>,
    pub(super) scope: u32,
    pub(super) resource: u32,
    pub(super) attributes: Range<u32>,
    pub(super) events: Range<u32>,
    pub(super) links: Range<u32>,
}

/// What made a span.
#[derive(Clone, Debug, Default)]
pub struct ScopeView<'a> {
    pub name: Text<'a>,
    pub version: Text<'a>,
}

/// An event of a span.
#[derive(Clone, Debug, Default)]
pub struct EventView<'a> {
    /// `None` when the event carries no time: it is zero and stays so.
    pub unix_nano: Option<u64>,
    pub name: Text<'a>,
    pub(super) attributes: Range<u32>,
}

/// A link of a span.
#[derive(Clone, Debug, Default)]
pub struct LinkView<'a> {
    pub trace_id: IdView<'a>,
    pub span_id: IdView<'a>,
    pub trace_state: Text<'a>,
    pub(super) attributes: Range<u32>,
}

/// An id, of whatever length it was sent.
#[derive(Clone, Debug)]
pub enum IdView<'a> {
    /// As it stands in the record.
    Sent(&'a [u8]),
    /// As read from its digits: the bytes, and how many of them count.
    Read([u8; 16], u8),
}

impl Default for IdView<'_> {
    fn default() -> Self {
        Self::Sent(b"")
    }
}

impl IdView<'_> {
    /// The id's bytes.
    pub fn bytes(&self) -> &[u8] {
        match self {
            Self::Sent(bytes) => bytes,
            Self::Read(bytes, length) => &bytes[..usize::from(*length)],
        }
    }
}

/// An attribute.
#[derive(Clone, Debug, Default)]
pub struct AttributeView<'a> {
    pub key: Text<'a>,
    pub value: ValueView<'a>,
}

/// An attribute's value.
#[derive(Clone, Debug, Default)]
pub enum ValueView<'a> {
    #[default]
    Empty,
    Text(Text<'a>),
    Bool(bool),
    Int(i64),
    /// Not NaN, nor an infinity.
    Double(f64),
    /// Any other kind, as `value_text` tells it.
    Told(String),
}

impl ValueView<'_> {
    /// A value that was decoded whole, as lists and maps are.
    pub(super) fn of(value: Value) -> Self {
        match value {
            Value::StringValue(text) => Self::Text(Cow::Owned(text.into_bytes())),
            Value::BoolValue(flag) => Self::Bool(flag),
            Value::IntValue(number) => Self::Int(number),
            Value::DoubleValue(number) if number.is_finite() => Self::Double(number),
            other => Self::Told(value_text(Some(&AnyValue { value: Some(other) })).into_owned()),
        }
    }

    /// About as many bytes as it has as text.
    pub fn size(&self) -> usize {
        match self {
            Self::Empty => 0,
            Self::Text(text) => text.len(),
            Self::Bool(_) | Self::Int(_) | Self::Double(_) => 12,
            Self::Told(text) => text.len(),
        }
    }

    /// Appends the value as text, as `value_text` would tell it.
    pub fn write(&self, out: &mut Vec<u8>) {
        // Writing numbers to memory does not fail; serde_json's way is the one that takes no string.
        let _ = match self {
            Self::Empty => Ok(()),
            Self::Text(text) => {
                out.extend_from_slice(text);
                Ok(())
            }
            Self::Bool(flag) => serde_json::to_writer(out, flag),
            Self::Int(number) => serde_json::to_writer(out, number),
            Self::Double(number) => serde_json::to_writer(out, number),
            Self::Told(text) => {
                out.extend_from_slice(text.as_bytes());
                Ok(())
            }
        };
    }

    fn as_attribute(&self) -> AttributeValue<'_> {
        match self {
            Self::Text(text) => AttributeValue::Str(text),
            Self::Int(number) => AttributeValue::Int(*number),
            _ => AttributeValue::Other,
        }
    }
}

impl SpanView<'_> {
    /// The ids as the scan has them.
    pub fn ids(&self) -> (TraceId, SpanId) {
        (TraceId::from_bytes(self.trace_id.bytes()), SpanId::from_bytes(self.span_id.bytes()))
    }

    /// Its place among the record's resources.
    pub fn resource(&self) -> u32 {
        self.resource
    }
}

fn part<'v, T>(of: &'v [T], range: &Range<u32>) -> &'v [T] {
    &of[range.start as usize..range.end as usize]
}

impl<'a> RecordView<'a> {
    /// Nothing yet, with room for what is usually in so many bytes.
    pub(super) fn of_size(bytes: usize) -> Self {
        // Lists that grow are copied; too much room is never touched, and so costs nothing.
        let room = |each: usize| (bytes / each).min(1 << 16);
        let mut record = Self { spans: Vec::with_capacity(room(400)), ..Self::default() };
        record.attributes.spans.reserve(room(40));
        record
    }

    /// The attributes of a span's resource.
    pub fn resource_attributes(&self, span: &SpanView<'_>) -> &[AttributeView<'a>] {
        part(&self.attributes.resources, &self.resources[span.resource as usize])
    }

    /// A span's own attributes.
    pub fn attributes(&self, span: &SpanView<'_>) -> &[AttributeView<'a>] {
        part(&self.attributes.spans, &span.attributes)
    }

    /// What made a span.
    pub fn scope(&self, span: &SpanView<'_>) -> &ScopeView<'a> {
        &self.scopes[span.scope as usize]
    }

    /// All events, all links and all attributes of spans, of events and of links, whichever span they belong to.
    pub fn lists(&self) -> (usize, usize, [&[AttributeView<'a>]; 3]) {
        let Attributes { spans, events, links, .. } = &self.attributes;
        (self.events.len(), self.links.len(), [spans, events, links])
    }

    /// A span's events.
    pub fn events(&self, span: &SpanView<'_>) -> &[EventView<'a>] {
        part(&self.events, &span.events)
    }

    /// An event's attributes.
    pub fn event_attributes(&self, event: &EventView<'_>) -> &[AttributeView<'a>] {
        part(&self.attributes.events, &event.attributes)
    }

    /// A span's links.
    pub fn links(&self, span: &SpanView<'_>) -> &[LinkView<'a>] {
        part(&self.links, &span.links)
    }

    /// A link's attributes.
    pub fn link_attributes(&self, link: &LinkView<'_>) -> &[AttributeView<'a>] {
        part(&self.attributes.links, &link.attributes)
    }

    /// What an earlier run of ours wrote on a span.
    pub fn marks(&self, span: &SpanView<'_>) -> Option<Box<Marks>> {
        let mut marks = MarksFound::default();
        self.attributes(span).iter().for_each(|it| marks.learn(&it.key, it.value.as_attribute()));
        marks.finish().0
    }

    /// The original time that an earlier run of ours wrote on an event.
    pub fn original_unix_nano(&self, event: &EventView<'_>) -> Option<i64> {
        self.event_attributes(event).iter().rev().find_map(|it| match it.value {
            ValueView::Int(nanos) if *it.key == *EVENT_MARK.as_bytes() => Some(nanos),
            _ => None,
        })
    }
}
