//! OTLP protobuf: a wire scan that notes where times and ids sit, and a rewrite that leaves every other
//! byte alone. Agrees with prost on what a message means (last field wins, unknown fields are passed over).

mod keys;
mod split;
mod view;
mod wire;

pub use split::split;
pub use view::view;

use std::borrow::Cow;
use std::ops::Range;

use prost::encoding::encode_varint;
use xxhash_rust::xxh3::{Xxh3, xxh3_64};

use self::wire::{Broken, Fields};
use super::for_each_time;
use super::marks::{EVENT_MARK, MarkValue, MarksFound, mark_attributes};
use super::payload::{
    Container, Counted, Encoding, EventEdit, EventTime, Malformed, Payload, ResourceSite, SpanEdit, SpanSite, TimeField,
};
use super::splice::Splices;
use crate::clock::LocalTime;
use crate::span::{AttributeValue, CallFacts, SpanHead, SpanId, SpanKind, TraceId};

/// Finds the spans of one `ExportTraceServiceRequest` or `TracesData` (the same on the wire).
///
/// # Errors
/// Where the bytes are not well-formed protobuf as far as they are read.
pub fn scan(bytes: &[u8]) -> Result<Payload<'_>, Malformed> {
    scan_for::<true>(bytes)
}

/// As [`scan`], but only what a rewrite needs: facts and fingerprints of spans stay as they are by default.
///
/// # Errors
/// As [`scan`].
pub fn locate(bytes: &[u8]) -> Result<Payload<'_>, Malformed> {
    scan_for::<false>(bytes)
}

fn scan_for<const FACTS: bool>(bytes: &[u8]) -> Result<Payload<'_>, Malformed> {
    let mut payload = Payload {
        encoding: Encoding::Protobuf,
        bytes,
        resources: Vec::new(),
        scopes: Vec::new(),
        // A list that grows is copied; too much room is never touched.
        spans: Vec::with_capacity((bytes.len() / 300).min(1 << 16)),
        events: Vec::new(),
        links: Vec::new(),
        containers: Vec::new(),
        is_foreign: false,
        unknown_values: Counted::default(),
    };
    let mut fields = Fields::new(bytes, 0..bytes.len());
    while let Some(key) = fields.key()? {
        match key {
            keys::request::RESOURCE_SPANS => {
                let container = payload.hold(fields.message()?, None)?;
                scan_resource_spans::<FACTS>(&mut payload, container)?;
            }
            _ => fields.pass_over(key, keys::request::ALL)?,
        }
    }
    Ok(payload)
}

impl Payload<'_> {
    #[inline(always)]
    fn hold(&mut self, message: (usize, Range<usize>), parent: Option<u32>) -> Result<u32, Broken> {
        let (length_at, content) = message;
        if self.containers.len() >= most_messages(self.bytes) {
            return Err(wire::broken(length_at, "more spans and events than so many bytes can hold"));
        }
        self.containers.push(Container { length_at, content, parent });
        Ok((self.containers.len() - 1) as u32)
    }
}

/// A span has ids and times, an event a time: a record of nothing but empty ones would take a hundred times its bytes.
fn most_messages(bytes: &[u8]) -> usize {
    bytes.len() / 16 + (1 << 16)
}

fn scan_resource_spans<const FACTS: bool>(payload: &mut Payload<'_>, container: u32) -> Result<(), Broken> {
    let resource = payload.resources.len() as u32;
    payload.resources.push(ResourceSite { at: Vec::new(), fingerprint: 0 });
    let content = payload.containers[container as usize].content.clone();
    let mut fields = Fields::new(payload.bytes, content);
    while let Some(key) = fields.key()? {
        match key {
            keys::resource_spans::RESOURCE => payload.resources[resource as usize].at.push(fields.message()?.1),
            keys::resource_spans::SCOPE_SPANS => {
                let scope = payload.hold(fields.message()?, Some(container))?;
                let mut inner = Fields::new(payload.bytes, payload.containers[scope as usize].content.clone());
                let name = payload.scopes.len();
                payload.scopes.push(Cow::default());
                while let Some(key) = inner.key()? {
                    match key {
                        keys::scope_spans::SCOPE if FACTS => {
                            payload.scopes[name] = scope_name(payload.bytes, inner.message()?.1)?;
                        }
                        keys::scope_spans::SPAN => {
                            let span = payload.hold(inner.message()?, Some(scope))?;
                            scan_span::<FACTS>(payload, span, (resource, name as u32))?;
                        }
                        _ => inner.pass_over(key, keys::scope_spans::ALL)?,
                    }
                }
            }
            _ => fields.pass_over(key, keys::resource_spans::ALL)?,
        }
    }
    let site = &mut payload.resources[resource as usize];
    site.fingerprint = match site.at.as_slice() {
        [one] => xxh3_64(&payload.bytes[one.clone()]),
        several => {
            let mut hash = Xxh3::new();
            several.iter().for_each(|part| hash.update(&payload.bytes[part.clone()]));
            hash.digest()
        }
    };
    Ok(())
}

fn scope_name(bytes: &[u8], at: Range<usize>) -> Result<Cow<'_, str>, Broken> {
    let mut name = Cow::default();
    let mut fields = Fields::new(bytes, at);
    while let Some(key) = fields.key()? {
        match key {
            keys::scope::NAME => name = String::from_utf8_lossy(fields.slice()?),
            _ => fields.pass_over(key, keys::scope::ALL)?,
        }
    }
    Ok(name)
}

fn scan_span<const FACTS: bool>(
    payload: &mut Payload<'_>,
    container: u32,
    (resource, scope): (u32, u32),
) -> Result<(), Broken> {
    let bytes = payload.bytes;
    let at = payload.containers[container as usize].content.clone();
    let (first_event, first_link) = (payload.events.len() as u32, payload.links.len() as u32);
    let fingerprint = if FACTS { xxh3_64(&bytes[at.clone()]) } else { 0 };
    let mut head = SpanHead { fingerprint, ..SpanHead::default() };
    let mut marks = MarksFound::default();
    let (mut start, mut end) = (None, None);
    let mut fields = Fields::new(bytes, at.clone());
    loop {
        fields.pass_attributes(keys::span::ATTRIBUTE, is_read::<FACTS>);
        let Some(key) = fields.key()? else { break };
        match key {
            keys::span::TRACE_ID => head.trace = TraceId::from_bytes(fields.slice()?),
            keys::span::SPAN_ID => head.span = SpanId::from_bytes(fields.slice()?),
            keys::span::PARENT_SPAN_ID => {
                head.parent = Some(SpanId::from_bytes(fields.slice()?)).filter(|id| id.0 != 0);
            }
            keys::span::KIND => head.kind = SpanKind::from_number(i64::from(fields.varint()? as i32)),
            keys::span::START => start = Some(fields.time()?),
            keys::span::END => end = Some(fields.time()?),
            keys::span::ATTRIBUTE => {
                let (key, value) = key_value(bytes, fields.message()?.1)?;
                if FACTS {
                    head.facts.learn(key, value);
                }
                marks.learn(key, value);
            }
            keys::span::EVENT => {
                let event = payload.hold(fields.message()?, Some(container))?;
                scan_event(payload, event)?;
            }
            keys::span::LINK => payload.links.push(link(bytes, fields.message()?.1)?),
            keys::span::STATUS => {
                let mut status = Fields::new(bytes, fields.message()?.1);
                while let Some(key) = status.key()? {
                    match key {
                        keys::status::CODE => head.failed = status.varint()? as i32 == 2,
                        _ => status.pass_over(key, keys::status::ALL)?,
                    }
                }
            }
            // As others that are not read, but these are in every span.
            keys::span::NAME | keys::span::TRACE_STATE => _ = fields.message()?,
            keys::span::FLAGS => _ = fields.fixed32()?,
            _ => fields.pass_over(key, keys::span::ALL)?,
        }
    }
    head.start = LocalTime::from_unix_nano(start.as_ref().map_or(0, |time: &TimeField| time.unix_nano));
    head.end = LocalTime::from_unix_nano(end.as_ref().map_or(0, |time: &TimeField| time.unix_nano));
    let (marks, annotated) = marks.finish();
    payload.spans.push(SpanSite {
        head,
        resource,
        scope,
        attributes_at: at.end,
        at,
        start,
        end,
        events: first_event..payload.events.len() as u32,
        links: first_link..payload.links.len() as u32,
        marks,
        annotated,
        has_attributes: None,
        container,
    });
    Ok(())
}

fn scan_event(payload: &mut Payload<'_>, container: u32) -> Result<(), Broken> {
    let content = payload.containers[container as usize].content.clone();
    let mut event = EventTime { time: None, attributes_at: content.end, has_attributes: None, container };
    let mut fields = Fields::new(payload.bytes, content);
    while let Some(key) = fields.key()? {
        match key {
            keys::event::TIME => event.time = Some(fields.time()?),
            // Only to see that they can be read.
            keys::event::ATTRIBUTE => drop(key_value(payload.bytes, fields.message()?.1)?),
            _ => fields.pass_over(key, keys::event::ALL)?,
        }
    }
    payload.events.push(event);
    Ok(())
}

fn link(bytes: &[u8], at: Range<usize>) -> Result<(TraceId, SpanId), Broken> {
    let mut target = (TraceId::default(), SpanId::default());
    let mut fields = Fields::new(bytes, at);
    while let Some(key) = fields.key()? {
        match key {
            keys::link::TRACE_ID => target.0 = TraceId::from_bytes(fields.slice()?),
            keys::link::SPAN_ID => target.1 = SpanId::from_bytes(fields.slice()?),
            _ => fields.pass_over(key, keys::link::ALL)?,
        }
    }
    Ok(target)
}

/// Whether the value of an attribute of this name is looked at. Most are not, and to look at no more than the name saves half
/// of a scan's time.
#[inline(always)]
fn is_read<const FACTS: bool>(name: &[u8]) -> bool {
    FACTS && CallFacts::is_telling(name) || name.starts_with(b"unskew.")
}

fn key_value(bytes: &[u8], at: Range<usize>) -> Result<(&[u8], AttributeValue<'_>), Broken> {
    let (mut key, mut value) = (&b""[..], AttributeValue::Other);
    let mut fields = Fields::new(bytes, at);
    while let Some(field) = fields.key()? {
        match field {
            keys::key_value::KEY => key = fields.slice()?,
            keys::key_value::VALUE => {
                let mut any = Fields::new(bytes, fields.message()?.1);
                while let Some(field) = any.key()? {
                    match field {
                        keys::any_value::TEXT => value = AttributeValue::Str(any.slice()?),
                        keys::any_value::INT => value = AttributeValue::Int(any.varint()? as i64),
                        _ => {
                            any.pass_over(field, keys::any_value::ALL)?;
                            if keys::any_value::ALL.contains(&field) {
                                value = AttributeValue::Other;
                            }
                        }
                    }
                }
            }
            _ => fields.pass_over(field, keys::key_value::ALL)?,
        }
    }
    Ok((key, value))
}

/// The attributes of one resource, values as text.
///
/// # Errors
/// Where the resource is not well-formed.
pub fn resource_attributes(payload: &Payload<'_>, resource: usize) -> Result<Vec<(String, String)>, Malformed> {
    use opentelemetry_proto::tonic::resource::v1::Resource;
    use prost::Message;

    let mut decoded = Resource::default();
    for part in &payload.resources[resource].at {
        decoded
            .merge(&payload.bytes[part.clone()])
            .map_err(|error| Malformed { at: part.start, what: format!("resource: {error}") })?;
    }
    Ok(decoded
        .attributes
        .into_iter()
        .map(|attribute| (attribute.key, super::value_text(attribute.value.as_ref()).into_owned()))
        .collect())
}

/// Copies the record to `out` with the edits made, marks among them. Edits are in the order of the spans.
pub(super) fn rewrite(payload: &Payload<'_>, edits: &[SpanEdit], out: &mut Vec<u8>) {
    let mut splices = Splices::default();
    let mut growth = vec![0usize; payload.containers.len()];
    for_each_time(payload, edits, |at, time| {
        splices.replace(at.clone(), |new| new.extend_from_slice(&time.to_le_bytes()));
    });
    for edit in edits {
        let site = &payload.spans[edit.span as usize];
        for &EventEdit { event, original_unix_nano, .. } in &edit.events {
            let Some(nanos) = original_unix_nano else { continue };
            let event = &payload.events[event as usize];
            growth[event.container as usize] += splices.replace(event.attributes_at..event.attributes_at, |new| {
                put_attribute(3, EVENT_MARK, MarkValue::Int(nanos), new);
            });
        }
        if let Some(marks) = &edit.marks {
            growth[site.container as usize] += splices.replace(site.attributes_at..site.attributes_at, |new| {
                mark_attributes(marks).for_each(|(key, value)| put_attribute(9, key, value, new));
            });
        }
    }
    // A container stands after its parent, so going backwards a parent hears of all its children first.
    for (index, container) in payload.containers.iter().enumerate().rev() {
        if growth[index] == 0 {
            continue;
        }
        let at = container.length_at..container.content.start;
        let before = at.len();
        let length = splices.replace(at, |new| encode_varint((container.content.len() + growth[index]) as u64, new));
        if let Some(parent) = container.parent {
            growth[parent as usize] += growth[index] + length - before;
        }
    }
    splices.splice(payload.bytes, out);
}

/// An attribute as prost would encode it, without the strings in between.
fn put_attribute(field: u8, key: &str, value: MarkValue<'_>, out: &mut Vec<u8>) {
    use prost::encoding::encoded_len_varint;
    let delimited = |length: usize| 1 + encoded_len_varint(length as u64) + length;
    let inner = match value {
        MarkValue::Text(text) => delimited(text.len()),
        MarkValue::Int(number) => 1 + encoded_len_varint(number as u64),
    };
    put_head(field, delimited(key.len()) + delimited(inner), out);
    put_head(1, key.len(), out);
    out.extend_from_slice(key.as_bytes());
    put_head(2, inner, out);
    match value {
        MarkValue::Text(text) => {
            put_head(1, text.len(), out);
            out.extend_from_slice(text.as_bytes());
        }
        MarkValue::Int(number) => {
            out.push(3 << 3);
            encode_varint(number as u64, out);
        }
    }
}

/// What stands before a field that is so long: hardly ever more than two bytes.
fn put_head(field: u8, length: usize, out: &mut Vec<u8>) {
    let tag = field << 3 | 2;
    match length {
        0..0x80 => out.extend_from_slice(&[tag, length as u8]),
        _ => {
            out.push(tag);
            encode_varint(length as u64, out);
        }
    }
}
