//! A whole record as opentelemetry-proto's structs, read with the same words as the scan.

use opentelemetry_proto::tonic::common::v1::{
    AnyValue, ArrayValue, EntityRef, InstrumentationScope, KeyValue, KeyValueList, any_value::Value,
};
use opentelemetry_proto::tonic::resource::v1::Resource;
use opentelemetry_proto::tonic::trace::v1::span::{Event, Link};
use opentelemetry_proto::tonic::trace::v1::{ResourceSpans, ScopeSpans, Span, Status, TracesData};

use super::check_utf8;
use super::cursor::{Broken, Cursor, broken};
use super::foreign::shown;
use super::words::{IdBytes, Word, base64, replaces};
use crate::otlp::{Counted, Malformed};

/// Decodes one `ExportTraceServiceRequest` or `TracesData`, whole.
///
/// # Errors
/// Where the bytes are not one JSON object, or a field holds what it cannot mean.
pub fn decode(bytes: &[u8]) -> Result<TracesData, Malformed> {
    traces(bytes, Cursor::new(bytes, 0)).map(|(data, _)| data)
}

/// As [`decode`], but a field that holds what it cannot mean, as a count below zero does, is left out, and told: its
/// record has spans that are worth more than it. A record that was scanned has all its spans and events.
///
/// # Errors
/// Where the bytes are not one JSON object.
pub fn decode_most(bytes: &[u8]) -> Result<(TracesData, Counted), Malformed> {
    let mut cursor = Cursor::new(bytes, 0);
    cursor.left_out = Some(Counted::default());
    traces(bytes, cursor)
}

fn traces(bytes: &[u8], mut cursor: Cursor<'_>) -> Result<(TracesData, Counted), Malformed> {
    check_utf8(bytes)?;
    let mut data = TracesData::default();
    let record = cursor.object(|cursor, key| {
        match Word::of(key) {
            Word::ResourceSpans => data.resource_spans = list(cursor, resource_spans)?,
            _ => cursor.skip()?,
        }
        Ok(())
    })?;
    if record.is_none() {
        return Err(*broken(0, "expected an object"));
    }
    let left_out = cursor.left_out.take().unwrap_or_default();
    cursor.finish()?;
    Ok((data, left_out))
}

/// The messages of an array; a `null` among them is none.
fn list<'a, T>(
    cursor: &mut Cursor<'a>,
    mut element: impl FnMut(&mut Cursor<'a>) -> Result<Option<T>, Broken>,
) -> Result<Vec<T>, Broken> {
    let mut items = Vec::new();
    cursor.array(|cursor| {
        items.extend(element(cursor)?);
        Ok(())
    })?;
    Ok(items)
}

fn text(cursor: &mut Cursor<'_>) -> Result<String, Broken> {
    let text = cursor.string()?.unwrap_or_default();
    // The record was found to be UTF-8, and undoing an escape keeps it so.
    Ok(String::from_utf8(text.into_owned()).unwrap_or_default())
}

fn count(cursor: &mut Cursor<'_>) -> Result<u32, Broken> {
    Ok(cursor.integer()?.unwrap_or_default())
}

fn time(cursor: &mut Cursor<'_>) -> Result<u64, Broken> {
    Ok(cursor.time()?.map_or(0, |time| time.unix_nano))
}

/// A message: an object whose members `read` puts into a fresh `T`. `None`: a `null`.
fn message<'a, T: Default>(
    cursor: &mut Cursor<'a>,
    mut read: impl FnMut(&mut Cursor<'a>, Word, &mut T) -> Result<(), Broken>,
) -> Result<Option<T>, Broken> {
    let mut message = T::default();
    let found = cursor.object(|cursor, key| {
        let before = cursor.place();
        let Err(broken) = read(cursor, Word::of(key), &mut message) else { return Ok(()) };
        let Some(mut left_out) = cursor.left_out.take() else { return Err(broken) };
        left_out.add(|| format!("{}: {broken}", shown(key)));
        cursor.left_out = Some(left_out);
        cursor.back_to(before);
        cursor.skip()
    })?;
    Ok(found.map(|_| message))
}

fn resource_spans(cursor: &mut Cursor<'_>) -> Result<Option<ResourceSpans>, Broken> {
    let mut has_modern = false;
    message(cursor, |cursor, key, into: &mut ResourceSpans| {
        match key {
            Word::Resource => into.resource = resource(cursor)?,
            Word::SchemaUrl => into.schema_url = text(cursor)?,
            Word::ScopeSpans | Word::LibrarySpans => {
                let nothing = cursor.nothing()?;
                let replaces = replaces(key, nothing, &mut has_modern);
                if replaces {
                    into.scope_spans.clear();
                }
                match (nothing, replaces) {
                    (true, _) => {}
                    (false, false) => cursor.skip()?,
                    (false, true) => into.scope_spans = list(cursor, scope_spans)?,
                }
            }
            _ => cursor.skip()?,
        }
        Ok(())
    })
}

/// The attributes of a resource, whatever else it holds.
pub(super) fn resource_attributes(cursor: &mut Cursor<'_>) -> Result<Vec<KeyValue>, Broken> {
    let found = message(cursor, |cursor, key, into: &mut Vec<KeyValue>| {
        match key {
            Word::Attributes => *into = list(cursor, key_value)?,
            _ => cursor.skip()?,
        }
        Ok(())
    })?;
    Ok(found.unwrap_or_default())
}

fn resource(cursor: &mut Cursor<'_>) -> Result<Option<Resource>, Broken> {
    message(cursor, |cursor, key, into: &mut Resource| {
        match key {
            Word::Attributes => into.attributes = list(cursor, key_value)?,
            Word::DroppedAttributes => into.dropped_attributes_count = count(cursor)?,
            Word::EntityRefs => into.entity_refs = list(cursor, entity_ref)?,
            _ => cursor.skip()?,
        }
        Ok(())
    })
}

fn entity_ref(cursor: &mut Cursor<'_>) -> Result<Option<EntityRef>, Broken> {
    message(cursor, |cursor, key, into: &mut EntityRef| {
        match key {
            Word::SchemaUrl => into.schema_url = text(cursor)?,
            Word::Type => into.r#type = text(cursor)?,
            Word::IdKeys => into.id_keys = list(cursor, |cursor| text(cursor).map(Some))?,
            Word::DescriptionKeys => into.description_keys = list(cursor, |cursor| text(cursor).map(Some))?,
            _ => cursor.skip()?,
        }
        Ok(())
    })
}

fn scope_spans(cursor: &mut Cursor<'_>) -> Result<Option<ScopeSpans>, Broken> {
    message(cursor, |cursor, key, into: &mut ScopeSpans| {
        match key {
            Word::Scope => into.scope = scope(cursor)?,
            Word::SchemaUrl => into.schema_url = text(cursor)?,
            Word::Spans => into.spans = list(cursor, span)?,
            _ => cursor.skip()?,
        }
        Ok(())
    })
}

fn scope(cursor: &mut Cursor<'_>) -> Result<Option<InstrumentationScope>, Broken> {
    message(cursor, |cursor, key, into: &mut InstrumentationScope| {
        match key {
            Word::Name => into.name = text(cursor)?,
            Word::Version => into.version = text(cursor)?,
            Word::Attributes => into.attributes = list(cursor, key_value)?,
            Word::DroppedAttributes => into.dropped_attributes_count = count(cursor)?,
            _ => cursor.skip()?,
        }
        Ok(())
    })
}

/// An id's bytes, however many; what is not hexadecimal has none.
fn id(cursor: &mut Cursor<'_>) -> Result<Vec<u8>, Broken> {
    let at = cursor.position();
    let Some(text) = cursor.string()? else { return Ok(Vec::new()) };
    let id = IdBytes::of(&text);
    if id.as_slice().is_empty() && !text.is_empty() {
        return Err(broken(at, format!("`{}` is not hexadecimal", String::from_utf8_lossy(&text))));
    }
    Ok(id.as_slice().to_vec())
}

fn span(cursor: &mut Cursor<'_>) -> Result<Option<Span>, Broken> {
    message(cursor, |cursor, key, into: &mut Span| {
        match key {
            Word::TraceId => into.trace_id = id(cursor)?,
            Word::SpanId => into.span_id = id(cursor)?,
            Word::ParentSpanId => into.parent_span_id = id(cursor)?,
            Word::TraceState => into.trace_state = text(cursor)?,
            Word::Flags => into.flags = count(cursor)?,
            Word::Name => into.name = text(cursor)?,
            Word::Kind => into.kind = cursor.kind()?,
            Word::Start => into.start_time_unix_nano = time(cursor)?,
            Word::End => into.end_time_unix_nano = time(cursor)?,
            Word::Attributes => into.attributes = list(cursor, key_value)?,
            Word::DroppedAttributes => into.dropped_attributes_count = count(cursor)?,
            Word::Events => into.events = list(cursor, event)?,
            Word::DroppedEvents => into.dropped_events_count = count(cursor)?,
            Word::Links => into.links = list(cursor, link)?,
            Word::DroppedLinks => into.dropped_links_count = count(cursor)?,
            Word::Status => into.status = status(cursor)?,
            _ => cursor.skip()?,
        }
        Ok(())
    })
}

fn status(cursor: &mut Cursor<'_>) -> Result<Option<Status>, Broken> {
    message(cursor, |cursor, key, into: &mut Status| {
        match key {
            Word::Code => into.code = cursor.status_code()?,
            Word::Message => into.message = text(cursor)?,
            _ => cursor.skip()?,
        }
        Ok(())
    })
}

fn event(cursor: &mut Cursor<'_>) -> Result<Option<Event>, Broken> {
    message(cursor, |cursor, key, into: &mut Event| {
        match key {
            Word::Time => into.time_unix_nano = time(cursor)?,
            Word::Name => into.name = text(cursor)?,
            Word::Attributes => into.attributes = list(cursor, key_value)?,
            Word::DroppedAttributes => into.dropped_attributes_count = count(cursor)?,
            _ => cursor.skip()?,
        }
        Ok(())
    })
}

fn link(cursor: &mut Cursor<'_>) -> Result<Option<Link>, Broken> {
    message(cursor, |cursor, key, into: &mut Link| {
        match key {
            Word::TraceId => into.trace_id = id(cursor)?,
            Word::SpanId => into.span_id = id(cursor)?,
            Word::TraceState => into.trace_state = text(cursor)?,
            Word::Flags => into.flags = count(cursor)?,
            Word::Attributes => into.attributes = list(cursor, key_value)?,
            Word::DroppedAttributes => into.dropped_attributes_count = count(cursor)?,
            _ => cursor.skip()?,
        }
        Ok(())
    })
}

fn key_value(cursor: &mut Cursor<'_>) -> Result<Option<KeyValue>, Broken> {
    message(cursor, |cursor, key, into: &mut KeyValue| {
        match key {
            Word::Key => into.key = text(cursor)?,
            Word::Value => into.value = any_value(cursor)?,
            _ => cursor.skip()?,
        }
        Ok(())
    })
}

/// One variant; of several the last that is not `null`.
fn any_value(cursor: &mut Cursor<'_>) -> Result<Option<AnyValue>, Broken> {
    message(cursor, |cursor, key, into: &mut AnyValue| {
        if cursor.null()? {
            return Ok(());
        }
        if let Some(value) = variant(cursor, key)? {
            into.value = Some(value);
        }
        Ok(())
    })
}

/// What stands under a variant's key, which is not `null`.
pub(super) fn variant(cursor: &mut Cursor<'_>, key: Word) -> Result<Option<Value>, Broken> {
    Ok(match key {
        Word::StringValue => Some(Value::StringValue(text(cursor)?)),
        Word::BoolValue => cursor.bool()?.map(Value::BoolValue),
        Word::IntValue => cursor.integer()?.map(Value::IntValue),
        Word::DoubleValue => cursor.double()?.map(Value::DoubleValue),
        Word::BytesValue => {
            let before = cursor.position();
            let encoded = cursor.string()?.unwrap_or_default();
            match base64(&encoded) {
                Some(bytes) => Some(Value::BytesValue(bytes)),
                None => return Err(broken(before, "bytesValue is not base64")),
            }
        }
        Word::ArrayValue => message(cursor, |cursor, key, into: &mut ArrayValue| {
            match key {
                // A `null` keeps its place: an array's elements are told apart by it.
                Word::Values => {
                    into.values = list(cursor, |cursor| any_value(cursor).map(Option::unwrap_or_default).map(Some))?
                }
                _ => cursor.skip()?,
            }
            Ok(())
        })?
        .map(Value::ArrayValue),
        Word::KvlistValue => message(cursor, |cursor, key, into: &mut KeyValueList| {
            match key {
                Word::Values => into.values = list(cursor, key_value)?,
                _ => cursor.skip()?,
            }
            Ok(())
        })?
        .map(Value::KvlistValue),
        _ => {
            cursor.skip()?;
            None
        }
    })
}
