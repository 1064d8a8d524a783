//! A message's bytes → its view. As in the scan, repeated messages are merged and the last of other fields wins.

use std::ops::Range;

use opentelemetry_proto::tonic::common::v1::{KeyValue, any_value::Value};
use prost::Message;

use super::wire::{Broken, Fields};
use crate::otlp::payload::Malformed;
use crate::otlp::view::{AttributeView, EventView, IdView, LinkView, RecordView, ScopeView, SpanView, Text, ValueView};
use crate::span::SpanKind;

/// All spans of one `ExportTraceServiceRequest` or `TracesData` with what the traces table shows of them.
///
/// # Errors
/// Where the bytes are not well-formed protobuf as far as they are read.
pub fn view(bytes: &[u8]) -> Result<RecordView<'_>, Malformed> {
    let mut reader = Reader { bytes, record: RecordView::of_size(bytes.len()) };
    let mut fields = Fields::new(bytes, 0..bytes.len());
    while let Some(field) = fields.next()? {
        if field.number == 1 {
            reader.resource_spans(field.message()?.1)?;
        }
    }
    Ok(reader.record)
}

struct Reader<'a> {
    bytes: &'a [u8],
    record: RecordView<'a>,
}

fn end<T>(of: &[T]) -> u32 {
    of.len() as u32
}

impl<'a> Reader<'a> {
    fn resource_spans(&mut self, at: Range<usize>) -> Result<(), Broken> {
        let resource = self.record.resources.len();
        let first = end(&self.record.attributes.resources);
        self.record.resources.push(first..first);
        let mut fields = Fields::new(self.bytes, at);
        while let Some(field) = fields.next()? {
            match field.number {
                1 => {
                    let mut inner = Fields::new(self.bytes, field.message()?.1);
                    while let Some(field) = inner.next()? {
                        if field.number == 1 {
                            let attribute = attribute(self.bytes, field.message()?.1)?;
                            self.record.attributes.resources.push(attribute);
                        }
                    }
                }
                2 => self.scope_spans(field.message()?.1, resource as u32)?,
                _ => {}
            }
        }
        self.record.resources[resource].end = end(&self.record.attributes.resources);
        Ok(())
    }

    fn scope_spans(&mut self, at: Range<usize>, resource: u32) -> Result<(), Broken> {
        let scope = self.record.scopes.len();
        self.record.scopes.push(ScopeView::default());
        let mut fields = Fields::new(self.bytes, at);
        while let Some(field) = fields.next()? {
            match field.number {
                1 => {
                    let mut inner = Fields::new(self.bytes, field.message()?.1);
                    while let Some(field) = inner.next()? {
                        match field.number {
                            1 => self.record.scopes[scope].name = Text::Borrowed(field.slice(self.bytes)?),
                            2 => self.record.scopes[scope].version = Text::Borrowed(field.slice(self.bytes)?),
                            _ => {}
                        }
                    }
                }
                2 => self.span(field.message()?.1, scope as u32, resource)?,
                _ => {}
            }
        }
        Ok(())
    }

    fn span(&mut self, at: Range<usize>, scope: u32, resource: u32) -> Result<(), Broken> {
        let (bytes, record) = (self.bytes, &mut self.record);
        let mut span = SpanView { scope, resource, ..SpanView::default() };
        span.attributes.start = end(&record.attributes.spans);
        span.events.start = end(&record.events);
        span.links.start = end(&record.links);
        let mut fields = Fields::new(bytes, at);
        while let Some(field) = fields.next()? {
            match field.number {
                1 => span.trace_id = IdView::Sent(field.slice(bytes)?),
                2 => span.span_id = IdView::Sent(field.slice(bytes)?),
                3 => span.trace_state = Text::Borrowed(field.slice(bytes)?),
                4 => span.parent_span_id = IdView::Sent(field.slice(bytes)?),
                5 => span.name = Text::Borrowed(field.slice(bytes)?),
                6 => span.kind = SpanKind::from_number(i64::from(field.varint()? as i32)),
                9 => record.attributes.spans.push(attribute(bytes, field.message()?.1)?),
                11 => record.event(bytes, field.message()?.1)?,
                13 => record.link(bytes, field.message()?.1)?,
                15 => {
                    let mut status = Fields::new(bytes, field.message()?.1);
                    while let Some(field) = status.next()? {
                        match field.number {
                            2 => span.status_message = Text::Borrowed(field.slice(bytes)?),
                            3 => span.status_code = field.varint()? as i32,
                            _ => {}
                        }
                    }
                }
                16 => span.flags = field.fixed32(bytes)?,
                _ => {}
            }
        }
        span.attributes.end = end(&record.attributes.spans);
        span.events.end = end(&record.events);
        span.links.end = end(&record.links);
        record.spans.push(span);
        Ok(())
    }
}

impl<'a> RecordView<'a> {
    fn event(&mut self, bytes: &'a [u8], at: Range<usize>) -> Result<(), Broken> {
        let mut event = EventView::default();
        event.attributes.start = end(&self.attributes.events);
        let mut fields = Fields::new(bytes, at);
        while let Some(field) = fields.next()? {
            match field.number {
                1 => event.unix_nano = Some(field.time(bytes)?.unix_nano),
                2 => event.name = Text::Borrowed(field.slice(bytes)?),
                3 => self.attributes.events.push(attribute(bytes, field.message()?.1)?),
                _ => {}
            }
        }
        event.attributes.end = end(&self.attributes.events);
        self.events.push(event);
        Ok(())
    }

    fn link(&mut self, bytes: &'a [u8], at: Range<usize>) -> Result<(), Broken> {
        let mut link = LinkView::default();
        link.attributes.start = end(&self.attributes.links);
        let mut fields = Fields::new(bytes, at);
        while let Some(field) = fields.next()? {
            match field.number {
                1 => link.trace_id = IdView::Sent(field.slice(bytes)?),
                2 => link.span_id = IdView::Sent(field.slice(bytes)?),
                3 => link.trace_state = Text::Borrowed(field.slice(bytes)?),
                4 => self.attributes.links.push(attribute(bytes, field.message()?.1)?),
                _ => {}
            }
        }
        link.attributes.end = end(&self.attributes.links);
        self.links.push(link);
        Ok(())
    }
}

/// An attribute as everybody writes it: a short key, then a short text.
#[inline(always)]
fn plain_attribute(bytes: &[u8]) -> Option<AttributeView<'_>> {
    let [0x0A, length @ 0..0x80, rest @ ..] = bytes else { return None };
    let (key, [0x12, value @ 0..0x80, value_at @ ..]) = rest.split_at_checked(usize::from(*length))? else {
        return None;
    };
    let [0x0A, length @ 0..0x80, text @ ..] = value_at else { return None };
    let is_all = value_at.len() == usize::from(*value) && text.len() == usize::from(*length);
    is_all.then_some(AttributeView { key: Text::Borrowed(key), value: ValueView::Text(Text::Borrowed(text)) })
}

fn attribute(bytes: &[u8], at: Range<usize>) -> Result<AttributeView<'_>, Broken> {
    if let Some(plain) = plain_attribute(&bytes[at.clone()]) {
        return Ok(plain);
    }
    let mut attribute = AttributeView::default();
    let mut fields = Fields::new(bytes, at.clone());
    while let Some(field) = fields.next()? {
        match field.number {
            1 => attribute.key = Text::Borrowed(field.slice(bytes)?),
            2 => {
                let mut any = Fields::new(bytes, field.message()?.1);
                while let Some(field) = any.next()? {
                    attribute.value = match field.number {
                        1 => ValueView::Text(Text::Borrowed(field.slice(bytes)?)),
                        2 => ValueView::Bool(field.varint()? != 0),
                        3 => ValueView::Int(field.varint()? as i64),
                        4 => ValueView::of(Value::DoubleValue(f64::from_bits(field.fixed64(bytes)?))),
                        // Lists and maps that come in pieces are put together, so it takes all of the attribute.
                        5..=8 => return decoded(bytes, at),
                        _ => continue,
                    };
                }
            }
            _ => {}
        }
    }
    Ok(attribute)
}

/// An attribute of a rarer kind.
fn decoded(bytes: &[u8], at: Range<usize>) -> Result<AttributeView<'_>, Broken> {
    let broken = |error| Box::new(Malformed { at: at.start, what: format!("attribute: {error}") });
    let KeyValue { key, value, .. } = KeyValue::decode(&bytes[at.clone()]).map_err(broken)?;
    let value = value.and_then(|any| any.value).map_or(ValueView::Empty, ValueView::of);
    Ok(AttributeView { key: Text::Owned(key.into_bytes()), value })
}
