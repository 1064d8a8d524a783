//! A record's text → its view, read with the same words as the full decoding.

use std::ops::Range;

use super::cursor::{Broken, Cursor};
use super::decode;
use super::walk::{Filled, Gather, walk};
use super::words::{IdBytes, Plain, Word};
use crate::otlp::Malformed;
use crate::otlp::view::{AttributeView, EventView, IdView, LinkView, RecordView, ScopeView, SpanView, Text, ValueView};
use crate::span::SpanKind;

/// All spans of one `ExportTraceServiceRequest` or `TracesData` with what the traces table shows of them.
///
/// # Errors
/// Where the bytes are not one JSON object, or a field that is read holds what it cannot mean.
pub fn view(bytes: &[u8]) -> Result<RecordView<'_>, Malformed> {
    let mut record = RecordView::of_size(bytes.len());
    walk(bytes, &mut record)?;
    Ok(record)
}

/// Spans alone are forgotten: they name the parts that count, and others may lie in between.
impl<'a> Gather<'a> for RecordView<'a> {
    fn filled(&self) -> Filled {
        Filled { resources: self.resources.len(), spans: self.spans.len(), ..Filled::default() }
    }

    fn forget(&mut self, back_to: Filled) {
        self.resources.truncate(back_to.resources);
        self.spans.truncate(back_to.spans);
    }

    fn open_resource_spans(&mut self) {
        self.resources.push(0..0);
    }

    fn resource(&mut self, cursor: &mut Cursor<'a>) -> Result<(), Broken> {
        let mut of = 0..0;
        cursor.object(|cursor, key| match Word::of(key) {
            Word::Attributes => attributes(cursor, &mut self.attributes.resources).map(|found| of = found),
            _ => cursor.skip(),
        })?;
        if let Some(resource) = self.resources.last_mut() {
            *resource = of;
        }
        Ok(())
    }

    fn open_scope_spans(&mut self) {
        self.scopes.push(ScopeView::default());
    }

    fn scope(&mut self, cursor: &mut Cursor<'a>) -> Result<(), Broken> {
        let mut scope = ScopeView::default();
        cursor.object(|cursor, key| match Word::of(key) {
            Word::Name => text(cursor).map(|name| scope.name = name),
            Word::Version => text(cursor).map(|version| scope.version = version),
            _ => cursor.skip(),
        })?;
        if let Some(last) = self.scopes.last_mut() {
            *last = scope;
        }
        Ok(())
    }

    fn span(&mut self, cursor: &mut Cursor<'a>) -> Result<(), Broken> {
        let mut span = SpanView {
            resource: (self.resources.len() - 1) as u32,
            scope: (self.scopes.len() - 1) as u32,
            ..SpanView::default()
        };
        let found = cursor.object(|cursor, key| {
            match Word::of(key) {
                Word::TraceId => span.trace_id = cursor.id()?.into(),
                Word::SpanId => span.span_id = cursor.id()?.into(),
                Word::ParentSpanId => span.parent_span_id = cursor.id()?.into(),
                Word::TraceState => span.trace_state = text(cursor)?,
                Word::Flags => span.flags = cursor.integer()?.unwrap_or_default(),
                Word::Name => span.name = text(cursor)?,
                Word::Kind => span.kind = SpanKind::from_number(cursor.kind()?.into()),
                Word::Attributes => span.attributes = attributes(cursor, &mut self.attributes.spans)?,
                Word::Events => {
                    let first = self.events.len() as u32;
                    cursor.array(|cursor| event(cursor, self))?;
                    span.events = first..self.events.len() as u32;
                }
                Word::Links => {
                    let first = self.links.len() as u32;
                    cursor.array(|cursor| link(cursor, self))?;
                    span.links = first..self.links.len() as u32;
                }
                Word::Status => {
                    (span.status_code, span.status_message) = (0, Text::default());
                    cursor.object(|cursor, key| match Word::of(key) {
                        Word::Code => cursor.status_code().map(|code| span.status_code = code),
                        Word::Message => text(cursor).map(|message| span.status_message = message),
                        _ => cursor.skip(),
                    })?;
                }
                _ => cursor.skip()?,
            }
            Ok(())
        })?;
        self.spans.extend(found.map(|_| span));
        Ok(())
    }
}

fn text<'a>(cursor: &mut Cursor<'a>) -> Result<Text<'a>, Broken> {
    Ok(cursor.string()?.unwrap_or_default())
}

fn event<'a>(cursor: &mut Cursor<'a>, record: &mut RecordView<'a>) -> Result<(), Broken> {
    let mut event = EventView::default();
    let found = cursor.object(|cursor, key| {
        match Word::of(key) {
            Word::Time => event.unix_nano = cursor.time()?.map(|time| time.unix_nano),
            Word::Name => event.name = text(cursor)?,
            Word::Attributes => event.attributes = attributes(cursor, &mut record.attributes.events)?,
            _ => cursor.skip()?,
        }
        Ok(())
    })?;
    record.events.extend(found.map(|_| event));
    Ok(())
}

fn link<'a>(cursor: &mut Cursor<'a>, record: &mut RecordView<'a>) -> Result<(), Broken> {
    let mut link = LinkView::default();
    let found = cursor.object(|cursor, key| {
        match Word::of(key) {
            Word::TraceId => link.trace_id = cursor.id()?.into(),
            Word::SpanId => link.span_id = cursor.id()?.into(),
            Word::TraceState => link.trace_state = text(cursor)?,
            Word::Attributes => link.attributes = attributes(cursor, &mut record.attributes.links)?,
            _ => cursor.skip()?,
        }
        Ok(())
    })?;
    record.links.extend(found.map(|_| link));
    Ok(())
}

/// Appends an array of attributes to a list, and says which part of it they are.
fn attributes<'a>(cursor: &mut Cursor<'a>, into: &mut Vec<AttributeView<'a>>) -> Result<Range<u32>, Broken> {
    let first = into.len() as u32;
    cursor.array(|cursor| {
        if let Some((key, value)) = cursor.plain() {
            let value = match value {
                Plain::Text(text) => ValueView::Text(Text::Borrowed(text)),
                Plain::Int(number) => ValueView::Int(number),
            };
            into.push(AttributeView { key: Text::Borrowed(key), value });
            return Ok(());
        }
        let mut attribute = AttributeView::default();
        let found = cursor.object(|cursor, key| {
            match Word::of(key) {
                Word::Key => attribute.key = text(cursor)?,
                Word::Value => attribute.value = value(cursor)?,
                _ => cursor.skip()?,
            }
            Ok(())
        })?;
        into.extend(found.map(|_| attribute));
        Ok(())
    })?;
    Ok(first..into.len() as u32)
}

/// One variant; of several the last that is not `null`.
fn value<'a>(cursor: &mut Cursor<'a>) -> Result<ValueView<'a>, Broken> {
    let mut value = ValueView::Empty;
    cursor.object(|cursor, key| {
        if cursor.null()? {
            return Ok(());
        }
        let found = match Word::of(key) {
            Word::StringValue => Some(ValueView::Text(text(cursor)?)),
            Word::IntValue => cursor.integer()?.map(ValueView::Int),
            key => decode::variant(cursor, key)?.map(ValueView::of),
        };
        value = found.unwrap_or(std::mem::take(&mut value));
        Ok(())
    })?;
    Ok(value)
}

impl From<IdBytes> for IdView<'_> {
    fn from(id: IdBytes) -> Self {
        let mut bytes = [0; 16];
        let read = id.as_slice();
        bytes[..read.len()].copy_from_slice(read);
        Self::Read(bytes, read.len() as u8)
    }
}
