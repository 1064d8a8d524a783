//! OTLP/JSON: a scan that notes where times and ids sit, a rewrite that leaves every other byte alone, and
//! the full decoding.
//!
//! Reads what the Collector reads (see `words.rs`) and a little more. A key given twice counts as its last
//! value, as in most readers of JSON, so what is appended to an object always wins.

mod cursor;
mod decode;
mod foreign;
mod told;
mod view;
mod walk;
mod words;

use std::borrow::Cow;
use std::io::Write as _;
use std::ops::Range;

use xxhash_rust::xxh3::xxh3_64;

pub use decode::{decode, decode_most};
pub use foreign::foreign;
pub use told::that_can_be_told;
pub use view::view;

use self::cursor::{Broken, Closed, Cursor, broken};
use self::foreign::shown;
use self::walk::{Filled, Gather, walk};
use self::words::{Decimal, Plain, Word};
use super::for_each_time;
use super::marks::{EVENT_MARK, MarkValue, MarksFound, mark_attributes};
use super::payload::{
    Counted, Encoding, EventEdit, EventTime, Malformed, Payload, ResourceSite, SpanEdit, SpanSite, TimeField,
};
use super::splice::Splices;
use crate::clock::LocalTime;
use crate::span::{AttributeValue, CallFacts, SpanHead, SpanId, SpanKind, TraceId};

/// Finds the spans of one `ExportTraceServiceRequest` or `TracesData`. An object without `resourceSpans` is an empty
/// payload: another signal's, or foreign.
///
/// # Errors
/// Where the bytes are not one JSON object, or a field that is read holds what it cannot mean.
pub fn scan(bytes: &[u8]) -> Result<Payload<'_>, Malformed> {
    let mut payload = Payload {
        encoding: Encoding::Json,
        bytes,
        resources: Vec::new(),
        scopes: Vec::new(),
        spans: Vec::new(),
        events: Vec::new(),
        links: Vec::new(),
        containers: Vec::new(),
        is_foreign: false,
        unknown_values: Counted::default(),
    };
    payload.is_foreign = walk(bytes, &mut payload)?;
    Ok(payload)
}

/// Where the first JSON value in `bytes` ends; white space may come before it, anything after.
///
/// # Errors
/// Where it is not JSON; at the end of `bytes` when more bytes might make it so.
pub fn value_end(bytes: &[u8]) -> Result<usize, Malformed> {
    let mut cursor = Cursor::new(bytes, 0);
    cursor.skip()?;
    Ok(cursor.position())
}

/// Whether `bytes` are one JSON value, of any kind.
///
/// # Errors
/// Where they are not.
pub fn check(bytes: &[u8]) -> Result<(), Malformed> {
    check_utf8(bytes)?;
    let mut cursor = Cursor::new(bytes, 0);
    cursor.skip()?;
    Ok(cursor.finish()?)
}

fn check_utf8(bytes: &[u8]) -> Result<(), Malformed> {
    match std::str::from_utf8(bytes) {
        Ok(_) => Ok(()),
        Err(error) => Err(*broken(error.valid_up_to(), "invalid UTF-8")),
    }
}

impl<'a> Gather<'a> for Payload<'a> {
    fn filled(&self) -> Filled {
        Filled {
            resources: self.resources.len(),
            spans: self.spans.len(),
            events: self.events.len(),
            links: self.links.len(),
        }
    }

    fn forget(&mut self, back_to: Filled) {
        self.resources.truncate(back_to.resources);
        self.spans.truncate(back_to.spans);
        self.events.truncate(back_to.events);
        self.links.truncate(back_to.links);
    }

    fn open_resource_spans(&mut self) {
        self.resources.push(ResourceSite { at: Vec::new(), fingerprint: xxh3_64(b"") });
    }

    fn resource(&mut self, cursor: &mut Cursor<'a>) -> Result<(), Broken> {
        let unknown = &mut self.unknown_values;
        let at = cursor.object(|cursor, key| match Word::of(key) {
            Word::Attributes => cursor.array(|cursor| key_value(cursor, unknown).map(drop)).map(drop),
            _ => cursor.skip(),
        })?;
        let fingerprint = xxh3_64(at.clone().map_or(&b""[..], |at| &self.bytes[at]));
        if let Some(resource) = self.resources.last_mut() {
            *resource = ResourceSite { at: at.into_iter().collect(), fingerprint };
        }
        Ok(())
    }

    fn open_scope_spans(&mut self) {
        self.scopes.push(Cow::default());
    }

    fn scope(&mut self, cursor: &mut Cursor<'a>) -> Result<(), Broken> {
        let mut scope = Cow::default();
        cursor.object(|cursor, key| match Word::of(key) {
            Word::Name => {
                // A name that is none is no reason to refuse the record.
                let at = cursor.position();
                cursor.skip()?;
                let name = Cursor::new(self.bytes, at).string().ok().flatten();
                scope = name.map_or_else(Cow::default, text);
                Ok(())
            }
            _ => cursor.skip(),
        })?;
        if let Some(last) = self.scopes.last_mut() {
            *last = scope;
        }
        Ok(())
    }

    fn span(&mut self, cursor: &mut Cursor<'a>) -> Result<(), Broken> {
        scan_span(cursor, self)
    }
}

fn text(bytes: Cow<'_, [u8]>) -> Cow<'_, str> {
    match bytes {
        Cow::Borrowed(bytes) => String::from_utf8_lossy(bytes),
        Cow::Owned(bytes) => Cow::Owned(String::from_utf8_lossy(&bytes).into_owned()),
    }
}

fn scan_span(cursor: &mut Cursor<'_>, payload: &mut Payload<'_>) -> Result<(), Broken> {
    let before = payload.filled();
    let mut head = SpanHead::default();
    let mut marks = MarksFound::default();
    let mut attributes = None;
    let (mut start, mut end) = (None, None);
    let at = cursor.object(|cursor, key| {
        match Word::of(key) {
            Word::TraceId => head.trace = TraceId::from_bytes(cursor.id()?.as_slice()),
            Word::SpanId => head.span = SpanId::from_bytes(cursor.id()?.as_slice()),
            Word::ParentSpanId => {
                head.parent = Some(SpanId::from_bytes(cursor.id()?.as_slice())).filter(|id| id.0 != 0);
            }
            Word::Kind => head.kind = SpanKind::from_number(cursor.kind()?.into()),
            Word::Start => start = cursor.time()?,
            Word::End => end = cursor.time()?,
            Word::Attributes => {
                head.facts = CallFacts::default();
                marks = MarksFound::default();
                attributes = cursor.array(|cursor| {
                    let (key, value) = key_value(cursor, &mut payload.unknown_values)?;
                    head.facts.learn(&key, value.as_attribute());
                    marks.learn(&key, value.as_attribute());
                    Ok(())
                })?;
            }
            Word::Events => {
                payload.events.truncate(before.events);
                cursor.array(|cursor| scan_event(cursor, payload))?;
            }
            Word::Links => {
                payload.links.truncate(before.links);
                cursor.array(|cursor| scan_link(cursor, &mut payload.links))?;
            }
            Word::Status => {
                head.failed = false;
                cursor.object(|cursor, key| {
                    match Word::of(key) {
                        Word::Code => head.failed = cursor.status_code()? == 2,
                        _ => cursor.skip()?,
                    }
                    Ok(())
                })?;
            }
            _ => cursor.skip()?,
        }
        Ok(())
    })?;
    let Some(at) = at else { return Ok(()) };
    head.fingerprint = xxh3_64(&payload.bytes[at.clone()]);
    head.start = local_time(&start);
    head.end = local_time(&end);
    let (attributes_at, has_attributes) = attributes_place(attributes, &at);
    if payload.spans.len() >= payload.bytes.len() / 16 + (1 << 16) {
        return Err(broken(at.start, "more spans than so many bytes can hold"));
    }
    let (marks, annotated) = marks.finish();
    payload.spans.push(SpanSite {
        head,
        resource: (payload.resources.len() - 1) as u32,
        scope: (payload.scopes.len() - 1) as u32,
        at,
        start,
        end,
        events: before.events as u32..payload.events.len() as u32,
        links: before.links as u32..payload.links.len() as u32,
        marks,
        annotated,
        attributes_at,
        has_attributes,
        container: 0,
    });
    Ok(())
}

fn local_time(time: &Option<TimeField>) -> LocalTime {
    LocalTime::from_unix_nano(time.as_ref().map_or(0, |time| time.unix_nano))
}

/// Before the `]` of the attributes, or where there are none before the `}` of the object.
fn attributes_place(attributes: Option<Closed>, object: &Range<usize>) -> (usize, Option<bool>) {
    attributes.map_or((object.end - 1, None), |closed| (closed.at, Some(closed.has_elements)))
}

fn scan_event(cursor: &mut Cursor<'_>, payload: &mut Payload<'_>) -> Result<(), Broken> {
    let unknown = &mut payload.unknown_values;
    let (mut time, mut attributes) = (None, None);
    let at = cursor.object(|cursor, key| {
        match Word::of(key) {
            Word::Time => time = cursor.time()?,
            // Only to see that they can be read.
            Word::Attributes => attributes = cursor.array(|cursor| key_value(cursor, unknown).map(drop))?,
            _ => cursor.skip()?,
        }
        Ok(())
    })?;
    let Some(at) = at else { return Ok(()) };
    let (attributes_at, has_attributes) = attributes_place(attributes, &at);
    payload.events.push(EventTime { time, attributes_at, has_attributes, container: 0 });
    Ok(())
}

fn scan_link(cursor: &mut Cursor<'_>, links: &mut Vec<(TraceId, SpanId)>) -> Result<(), Broken> {
    let mut target = (TraceId::default(), SpanId::default());
    let found = cursor.object(|cursor, key| {
        match Word::of(key) {
            Word::TraceId => target.0 = TraceId::from_bytes(cursor.id()?.as_slice()),
            Word::SpanId => target.1 = SpanId::from_bytes(cursor.id()?.as_slice()),
            _ => cursor.skip()?,
        }
        Ok(())
    })?;
    links.extend(found.map(|_| target));
    Ok(())
}

/// An attribute's value as far as the scan looks.
enum LightValue<'a> {
    Str(Cow<'a, [u8]>),
    Int(i64),
    Other,
}

impl LightValue<'_> {
    fn as_attribute(&self) -> AttributeValue<'_> {
        match self {
            Self::Str(text) => AttributeValue::Str(text),
            Self::Int(number) => AttributeValue::Int(*number),
            Self::Other => AttributeValue::Other,
        }
    }
}

/// The value may come before its key: the Collector's protobuf has them so, and nothing orders JSON's.
fn key_value<'a>(cursor: &mut Cursor<'a>, unknown: &mut Counted) -> Result<(Cow<'a, [u8]>, LightValue<'a>), Broken> {
    if let Some((key, value)) = cursor.plain() {
        let value = match value {
            Plain::Text(text) => LightValue::Str(Cow::Borrowed(text)),
            Plain::Int(number) => LightValue::Int(number),
        };
        return Ok((Cow::Borrowed(key), value));
    }
    let (mut name, mut value, mut odd) = (Cow::Borrowed(&b""[..]), LightValue::Other, None);
    cursor.object(|cursor, key| {
        match Word::of(key) {
            Word::Key => name = cursor.string()?.unwrap_or_default(),
            Word::Value => {
                value = LightValue::Other;
                let (mut known, mut others) = (0, 0);
                let at = cursor.object(|cursor, key| {
                    if cursor.null()? {
                        return Ok(());
                    }
                    match Word::of(key) {
                        Word::StringValue => value = LightValue::Str(cursor.string()?.unwrap_or_default()),
                        Word::IntValue => {
                            if let Some(number) = cursor.integer()? {
                                value = LightValue::Int(number);
                            }
                        }
                        Word::BoolValue
                        | Word::DoubleValue
                        | Word::ArrayValue
                        | Word::KvlistValue
                        | Word::BytesValue => {
                            cursor.skip()?;
                            value = LightValue::Other;
                        }
                        _ => {
                            others += 1;
                            return cursor.skip();
                        }
                    }
                    known += 1;
                    Ok(())
                })?;
                odd = at.filter(|_| others > 0 && known == 0);
            }
            _ => cursor.skip()?,
        }
        Ok(())
    })?;
    if let Some(at) = odd {
        unknown.add(|| format!("{} of {}", shown(cursor.raw(at)), shown(&name)));
    }
    Ok((name, value))
}

/// The attributes of one resource, values as text.
///
/// # Errors
/// Where an attribute's value is not of the kind that it says.
pub fn resource_attributes(payload: &Payload<'_>, resource: usize) -> Result<Vec<(String, String)>, Malformed> {
    let Some(at) = payload.resources[resource].at.first() else { return Ok(Vec::new()) };
    let attributes = decode::resource_attributes(&mut Cursor::new(payload.bytes, at.start))?;
    Ok(attributes
        .into_iter()
        .map(|attribute| (attribute.key, super::value_text(attribute.value.as_ref()).into_owned()))
        .collect())
}

/// The quotes around a time's digits, if it has any, and the digits.
fn digits(time: u64, old: &[u8]) -> (&'static [u8], Decimal) {
    (if old.first() == Some(&b'"') { b"\"" } else { b"" }, Decimal::of(time))
}

/// Whether a new time is as long as the text in whose place it goes.
pub(super) fn fits(bytes: &[u8], time: &TimeField) -> bool {
    let (quote, digits) = digits(time.unix_nano, &bytes[time.at.clone()]);
    2 * quote.len() + digits.as_bytes().len() == time.at.len()
}

/// Writes a time that fits in the place of another, between the same quotes.
pub(super) fn overwrite(place: &mut [u8], time: u64) {
    let (quote, digits) = digits(time, place);
    let within = quote.len()..place.len() - quote.len();
    place[within].copy_from_slice(digits.as_bytes());
}

/// Copies the record to `out` with the edits made. Edits are in the order of the spans.
pub(super) fn rewrite(payload: &Payload<'_>, edits: &[SpanEdit], out: &mut Vec<u8>) {
    let mut splices = Splices::default();
    for_each_time(payload, edits, |at, time| {
        let (quote, digits) = digits(time, &payload.bytes[at.clone()]);
        splices.replace(at.clone(), |new| [quote, digits.as_bytes(), quote].iter().for_each(|it| new.extend(*it)));
    });
    for edit in edits {
        let site = &payload.spans[edit.span as usize];
        for &EventEdit { event, original_unix_nano, .. } in &edit.events {
            let event = &payload.events[event as usize];
            if let Some(original) = original_unix_nano {
                let mark = [(EVENT_MARK, MarkValue::Int(original))].into_iter();
                add_attributes(&mut splices, payload.bytes, event.attributes_at, event.has_attributes, mark);
            }
        }
        if let Some(marks) = &edit.marks {
            let marks = mark_attributes(marks);
            add_attributes(&mut splices, payload.bytes, site.attributes_at, site.has_attributes, marks);
        }
    }
    splices.splice(payload.bytes, out);
}

/// Attributes in the specified form, with the commas, and where there is no array the member, that they need.
fn add_attributes<'a>(
    splices: &mut Splices,
    bytes: &[u8],
    at: usize,
    has_attributes: Option<bool>,
    attributes: impl Iterator<Item = (&'static str, MarkValue<'a>)>,
) {
    let is_first = match has_attributes {
        Some(has_elements) => !has_elements,
        None => bytes[..at].trim_ascii_end().ends_with(b"{"),
    };
    splices.replace(at..at, |new| {
        if !is_first {
            new.push(b',');
        }
        if has_attributes.is_none() {
            new.extend(b"\"attributes\":[");
        }
        for (index, (key, value)) in attributes.enumerate() {
            if index > 0 {
                new.push(b',');
            }
            // Writing to memory does not fail.
            let _ = match value {
                MarkValue::Int(number) => write!(new, r#"{{"key":"{key}","value":{{"intValue":"{number}"}}}}"#),
                MarkValue::Text(value) => {
                    let value = serde_json::Value::from(value);
                    write!(new, r#"{{"key":"{key}","value":{{"stringValue":{value}}}}}"#)
                }
            };
        }
        if has_attributes.is_none() {
            new.push(b']');
        }
    });
}

#[cfg(test)]
mod tests;
