//! A message's bytes → its view. As in the scan, repeated messages are merged and the last of other fields wins.

use std::ops::Range;

use opentelemetry_proto::tonic::common::v1::{KeyValue, any_value::Value};
use prost::Message;

use super::keys;
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
    while let Some(key) = fields.key()? {
        match key {
            keys::request::RESOURCE_SPANS => reader.resource_spans(fields.message()?.1)?,
            _ => fields.pass_over(key, keys::request::ALL)?,
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
        while let Some(key) = fields.key()? {
            match key {
                keys::resource_spans::RESOURCE => {
                    let mut inner = Fields::new(self.bytes, fields.message()?.1);
                    while let Some(key) = inner.key()? {
                        match key {
                            keys::resource::ATTRIBUTE => {
                                let attribute = attribute(self.bytes, inner.message()?.1)?;
                                self.record.attributes.resources.push(attribute);
                            }
                            _ => inner.pass_over(key, keys::resource::ALL)?,
                        }
                    }
                }
                keys::resource_spans::SCOPE_SPANS => self.scope_spans(fields.message()?.1, resource as u32)?,
                _ => fields.pass_over(key, keys::resource_spans::ALL)?,
            }
        }
        self.record.resources[resource].end = end(&self.record.attributes.resources);
        Ok(())
    }

    fn scope_spans(&mut self, at: Range<usize>, resource: u32) -> Result<(), Broken> {
        let scope = self.record.scopes.len();
        self.record.scopes.push(ScopeView::default());
        let mut fields = Fields::new(self.bytes, at);
        while let Some(key) = fields.key()? {
            match key {
                keys::scope_spans::SCOPE => {
                    let mut inner = Fields::new(self.bytes, fields.message()?.1);
                    while let Some(key) = inner.key()? {
                        match key {
                            keys::scope::NAME => self.record.scopes[scope].name = Text::Borrowed(inner.slice()?),
                            keys::scope::VERSION => self.record.scopes[scope].version = Text::Borrowed(inner.slice()?),
                            _ => inner.pass_over(key, keys::scope::ALL)?,
                        }
                    }
                }
                keys::scope_spans::SPAN => self.span(fields.message()?.1, scope as u32, resource)?,
                _ => fields.pass_over(key, keys::scope_spans::ALL)?,
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
        while let Some(key) = fields.key()? {
            match key {
                keys::span::TRACE_ID => span.trace_id = IdView::Sent(fields.slice()?),
                keys::span::SPAN_ID => span.span_id = IdView::Sent(fields.slice()?),
                keys::span::TRACE_STATE => span.trace_state = Text::Borrowed(fields.slice()?),
                keys::span::PARENT_SPAN_ID => span.parent_span_id = IdView::Sent(fields.slice()?),
                keys::span::NAME => span.name = Text::Borrowed(fields.slice()?),
                keys::span::KIND => span.kind = SpanKind::from_number(i64::from(fields.varint()? as i32)),
                keys::span::ATTRIBUTE => record.attributes.spans.push(attribute(bytes, fields.message()?.1)?),
                keys::span::EVENT => record.event(bytes, fields.message()?.1)?,
                keys::span::LINK => record.link(bytes, fields.message()?.1)?,
                keys::span::STATUS => {
                    let mut status = Fields::new(bytes, fields.message()?.1);
                    while let Some(key) = status.key()? {
                        match key {
                            keys::status::MESSAGE => span.status_message = Text::Borrowed(status.slice()?),
                            keys::status::CODE => span.status_code = status.varint()? as i32,
                            _ => status.pass_over(key, keys::status::ALL)?,
                        }
                    }
                }
                keys::span::FLAGS => span.flags = fields.fixed32()?,
                _ => fields.pass_over(key, keys::span::ALL)?,
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
        while let Some(key) = fields.key()? {
            match key {
                keys::event::TIME => event.unix_nano = Some(fields.fixed64()?),
                keys::event::NAME => event.name = Text::Borrowed(fields.slice()?),
                keys::event::ATTRIBUTE => self.attributes.events.push(attribute(bytes, fields.message()?.1)?),
                _ => fields.pass_over(key, keys::event::ALL)?,
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
        while let Some(key) = fields.key()? {
            match key {
                keys::link::TRACE_ID => link.trace_id = IdView::Sent(fields.slice()?),
                keys::link::SPAN_ID => link.span_id = IdView::Sent(fields.slice()?),
                keys::link::TRACE_STATE => link.trace_state = Text::Borrowed(fields.slice()?),
                keys::link::ATTRIBUTE => self.attributes.links.push(attribute(bytes, fields.message()?.1)?),
                _ => fields.pass_over(key, keys::link::ALL)?,
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
    while let Some(key) = fields.key()? {
        match key {
            keys::key_value::KEY => attribute.key = Text::Borrowed(fields.slice()?),
            keys::key_value::VALUE => {
                let mut any = Fields::new(bytes, fields.message()?.1);
                while let Some(key) = any.key()? {
                    attribute.value = match key {
                        keys::any_value::TEXT => ValueView::Text(Text::Borrowed(any.slice()?)),
                        keys::any_value::BOOL => ValueView::Bool(any.varint()? != 0),
                        keys::any_value::INT => ValueView::Int(any.varint()? as i64),
                        keys::any_value::DOUBLE => ValueView::of(Value::DoubleValue(f64::from_bits(any.fixed64()?))),
                        // Lists and maps that come in pieces are put together, so it takes all of the attribute.
                        _ if keys::any_value::ALL.contains(&key) => return decoded(bytes, at),
                        _ => {
                            any.pass_over(key, keys::any_value::ALL)?;
                            continue;
                        }
                    };
                }
            }
            _ => fields.pass_over(key, keys::key_value::ALL)?,
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
