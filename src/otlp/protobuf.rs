//! OTLP protobuf: a wire scan that notes where times and ids sit, and a rewrite that leaves every other
//! byte alone. Agrees with prost on what a message means (last field wins, unknown fields are passed over).

use std::ops::Range;

use opentelemetry_proto::tonic::common::v1::{AnyValue, KeyValue, any_value::Value};
use xxhash_rust::xxh3::{Xxh3, xxh3_64};

use super::payload::{
    Container, Encoding, EventEdit, EventTime, Malformed, Payload, ResourceSite, SpanEdit, SpanSite, TimeField,
};
use super::splice::{Splice, splice};
use crate::clock::LocalTime;
use crate::span::{AttributeValue, Marks, SpanHead, SpanId, SpanKind, TraceId};

/// Finds the spans of one `ExportTraceServiceRequest` or `TracesData` (the same on the wire).
///
/// # Errors
/// Where the bytes are not well-formed protobuf as far as they are read.
pub fn scan(bytes: &[u8]) -> Result<Payload<'_>, Malformed> {
    let mut payload = Payload {
        encoding: Encoding::Protobuf,
        bytes,
        resources: Vec::new(),
        spans: Vec::new(),
        events: Vec::new(),
        links: Vec::new(),
        containers: Vec::new(),
    };
    let mut fields = Fields::new(bytes, 0..bytes.len());
    while let Some(field) = fields.next()? {
        if field.number == 1 {
            let container = payload.hold(field.message()?, None);
            scan_resource_spans(&mut payload, container)?;
        }
    }
    Ok(payload)
}

impl Payload<'_> {
    fn hold(&mut self, message: (usize, Range<usize>), parent: Option<u32>) -> u32 {
        let (length_at, content) = message;
        self.containers.push(Container { length_at, content, parent });
        (self.containers.len() - 1) as u32
    }
}

fn scan_resource_spans(payload: &mut Payload<'_>, container: u32) -> Result<(), Malformed> {
    let resource = payload.resources.len() as u32;
    payload.resources.push(ResourceSite { at: Vec::new(), fingerprint: 0 });
    let content = payload.containers[container as usize].content.clone();
    let mut fields = Fields::new(payload.bytes, content);
    while let Some(field) = fields.next()? {
        match field.number {
            1 => payload.resources[resource as usize].at.push(field.message()?.1),
            2 => {
                let scope = payload.hold(field.message()?, Some(container));
                let mut inner = Fields::new(payload.bytes, payload.containers[scope as usize].content.clone());
                while let Some(field) = inner.next()? {
                    if field.number == 2 {
                        let span = payload.hold(field.message()?, Some(scope));
                        scan_span(payload, span, resource)?;
                    }
                }
            }
            _ => {}
        }
    }
    let mut hash = Xxh3::new();
    let site = &mut payload.resources[resource as usize];
    site.at.iter().for_each(|part| hash.update(&payload.bytes[part.clone()]));
    site.fingerprint = hash.digest();
    Ok(())
}

fn scan_span(payload: &mut Payload<'_>, container: u32, resource: u32) -> Result<(), Malformed> {
    let bytes = payload.bytes;
    let at = payload.containers[container as usize].content.clone();
    let (first_event, first_link) = (payload.events.len() as u32, payload.links.len() as u32);
    let mut head = SpanHead { fingerprint: xxh3_64(&bytes[at.clone()]), ..SpanHead::default() };
    let mut marks = MarksFound::default();
    let (mut start, mut end) = (None, None);
    let mut fields = Fields::new(bytes, at.clone());
    while let Some(field) = fields.next()? {
        match field.number {
            1 => head.trace = TraceId::from_bytes(field.slice(bytes)?),
            2 => head.span = SpanId::from_bytes(field.slice(bytes)?),
            4 => head.parent = Some(SpanId::from_bytes(field.slice(bytes)?)).filter(|id| id.0 != 0),
            6 => head.kind = SpanKind::from_number(i64::from(field.varint()? as i32)),
            7 => start = Some(field.time(bytes)?),
            8 => end = Some(field.time(bytes)?),
            9 => {
                let (key, value) = key_value(bytes, field.message()?.1)?;
                head.facts.learn(key, value);
                marks.learn(key, value);
            }
            11 => {
                let event = payload.hold(field.message()?, Some(container));
                scan_event(payload, event)?;
            }
            13 => payload.links.push(link(bytes, field.message()?.1)?),
            15 => {
                let mut status = Fields::new(bytes, field.message()?.1);
                while let Some(field) = status.next()? {
                    if field.number == 3 {
                        head.failed = field.varint()? as i32 == 2;
                    }
                }
            }
            _ => {}
        }
    }
    head.start = LocalTime::from_unix_nano(start.as_ref().map_or(0, |time: &TimeField| time.unix_nano));
    head.end = LocalTime::from_unix_nano(end.as_ref().map_or(0, |time: &TimeField| time.unix_nano));
    payload.spans.push(SpanSite {
        head,
        resource,
        attributes_at: at.end,
        at,
        start,
        end,
        events: first_event..payload.events.len() as u32,
        links: first_link..payload.links.len() as u32,
        marks: marks.finish(),
        has_attributes: None,
        container,
    });
    Ok(())
}

fn scan_event(payload: &mut Payload<'_>, container: u32) -> Result<(), Malformed> {
    let content = payload.containers[container as usize].content.clone();
    let mut event =
        EventTime { time: None, attributes_at: content.end, has_attributes: None, container, original_unix_nano: None };
    let mut fields = Fields::new(payload.bytes, content);
    while let Some(field) = fields.next()? {
        match field.number {
            1 => event.time = Some(field.time(payload.bytes)?),
            3 => {
                if let (b"unskew.original_time_unix_nano", AttributeValue::Int(nanos)) =
                    key_value(payload.bytes, field.message()?.1)?
                {
                    event.original_unix_nano = Some(nanos);
                }
            }
            _ => {}
        }
    }
    payload.events.push(event);
    Ok(())
}

fn link(bytes: &[u8], at: Range<usize>) -> Result<(TraceId, SpanId), Malformed> {
    let mut target = (TraceId::default(), SpanId::default());
    let mut fields = Fields::new(bytes, at);
    while let Some(field) = fields.next()? {
        match field.number {
            1 => target.0 = TraceId::from_bytes(field.slice(bytes)?),
            2 => target.1 = SpanId::from_bytes(field.slice(bytes)?),
            _ => {}
        }
    }
    Ok(target)
}

fn key_value(bytes: &[u8], at: Range<usize>) -> Result<(&[u8], AttributeValue<'_>), Malformed> {
    let (mut key, mut value) = (&b""[..], AttributeValue::Other);
    let mut fields = Fields::new(bytes, at);
    while let Some(field) = fields.next()? {
        match field.number {
            1 => key = field.slice(bytes)?,
            2 => {
                let mut any = Fields::new(bytes, field.message()?.1);
                while let Some(field) = any.next()? {
                    value = match field.number {
                        1 => AttributeValue::Str(field.slice(bytes)?),
                        3 => AttributeValue::Int(field.varint()? as i64),
                        2 | 4..=8 => AttributeValue::Other,
                        _ => value,
                    };
                }
            }
            _ => {}
        }
    }
    Ok((key, value))
}

/// Collects the marks of an earlier run from a span's attributes.
#[derive(Default)]
pub(super) struct MarksFound {
    marks: Marks,
    corrected: bool,
}

impl MarksFound {
    pub(super) fn learn(&mut self, key: &[u8], value: AttributeValue<'_>) {
        let Some(name) = key.strip_prefix(b"unskew.") else { return };
        match (name, value) {
            (b"clock", AttributeValue::Str(text)) => self.marks.clock = String::from_utf8_lossy(text).into_owned(),
            (b"offset_ns", AttributeValue::Int(nanos)) => {
                self.marks.offset_ns = nanos;
                self.corrected = true;
            }
            (b"uncertainty_ns", AttributeValue::Int(nanos)) => self.marks.uncertainty_ns = Some(nanos),
            (b"correction", AttributeValue::Str(text)) => {
                self.marks.correction = String::from_utf8_lossy(text).into_owned();
                self.corrected = true;
            }
            (b"original_start_unix_nano", AttributeValue::Int(nanos)) => {
                self.marks.original_start_unix_nano = Some(nanos);
            }
            (b"original_end_unix_nano", AttributeValue::Int(nanos)) => self.marks.original_end_unix_nano = Some(nanos),
            _ => {}
        }
    }

    pub(super) fn finish(self) -> Option<Box<Marks>> {
        self.corrected.then(|| Box::new(self.marks))
    }
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
    Ok(decoded.attributes.into_iter().map(|attribute| (attribute.key, super::value_text(attribute.value))).collect())
}

/// Copies the record to `out` with the edits made. Edits are in the order of the spans.
pub fn rewrite(payload: &Payload<'_>, edits: &[SpanEdit], out: &mut Vec<u8>) {
    let mut splices: Vec<Splice> = Vec::new();
    let mut growth = vec![0usize; payload.containers.len()];
    let set = |splices: &mut Vec<Splice>, field: &Option<TimeField>, time: Option<u64>| {
        if let (Some(field), Some(time)) = (field, time) {
            splices.push(Splice { at: field.at.clone(), bytes: time.to_le_bytes().to_vec() });
        }
    };
    for edit in edits {
        let site = &payload.spans[edit.span as usize];
        set(&mut splices, &site.start, edit.start);
        set(&mut splices, &site.end, edit.end);
        for &EventEdit { event, time, original_unix_nano } in &edit.events {
            let event = &payload.events[event as usize];
            set(&mut splices, &event.time, time);
            if let Some(original) = original_unix_nano {
                let mark = encode_attributes(3, [("unskew.original_time_unix_nano", Value::IntValue(original))]);
                growth[event.container as usize] += mark.len();
                splices.push(Splice { at: event.attributes_at..event.attributes_at, bytes: mark });
            }
        }
        if let Some(marks) = &edit.marks {
            let marks = encode_attributes(9, super::mark_attributes(marks));
            growth[site.container as usize] += marks.len();
            splices.push(Splice { at: site.attributes_at..site.attributes_at, bytes: marks });
        }
    }
    // A container stands after its parent, so going backwards a parent hears of all its children first.
    for (index, container) in payload.containers.iter().enumerate().rev() {
        if growth[index] == 0 {
            continue;
        }
        let mut length = Vec::with_capacity(5);
        prost::encoding::encode_varint((container.content.len() + growth[index]) as u64, &mut length);
        let at = container.length_at..container.content.start;
        if let Some(parent) = container.parent {
            growth[parent as usize] += growth[index] + length.len() - at.len();
        }
        splices.push(Splice { at, bytes: length });
    }
    splice(payload.bytes, splices, out);
}

fn encode_attributes<'a>(field: u32, attributes: impl IntoIterator<Item = (&'a str, Value)>) -> Vec<u8> {
    let mut encoded = Vec::new();
    for (key, value) in attributes {
        let attribute =
            KeyValue { key: key.into(), value: Some(AnyValue { value: Some(value) }), ..KeyValue::default() };
        prost::encoding::message::encode(field, &attribute, &mut encoded);
    }
    encoded
}

/// One field on the wire.
struct Field {
    number: u32,
    value: Wire,
    at: usize,
}

enum Wire {
    Varint(u64),
    Fixed64(usize),
    Message { length_at: usize, content: Range<usize> },
    Other,
}

impl Field {
    fn wrong(&self, wanted: &str) -> Malformed {
        Malformed { at: self.at, what: format!("field {} is not {wanted}", self.number) }
    }

    fn message(&self) -> Result<(usize, Range<usize>), Malformed> {
        match &self.value {
            Wire::Message { length_at, content } => Ok((*length_at, content.clone())),
            _ => Err(self.wrong("length-delimited")),
        }
    }

    fn slice<'a>(&self, bytes: &'a [u8]) -> Result<&'a [u8], Malformed> {
        self.message().map(|(_, content)| &bytes[content])
    }

    fn varint(&self) -> Result<u64, Malformed> {
        match self.value {
            Wire::Varint(value) => Ok(value),
            _ => Err(self.wrong("a varint")),
        }
    }

    fn time(&self, bytes: &[u8]) -> Result<TimeField, Malformed> {
        match self.value {
            Wire::Fixed64(at) => {
                let mut nanos = [0; 8];
                nanos.copy_from_slice(&bytes[at..at + 8]);
                Ok(TimeField { at: at..at + 8, unix_nano: u64::from_le_bytes(nanos) })
            }
            _ => Err(self.wrong("a fixed64")),
        }
    }
}

/// The fields of one message, in order.
struct Fields<'a> {
    bytes: &'a [u8],
    position: usize,
    end: usize,
}

impl<'a> Fields<'a> {
    fn new(bytes: &'a [u8], content: Range<usize>) -> Self {
        Self { bytes, position: content.start, end: content.end }
    }

    fn error(&self, what: &str) -> Malformed {
        Malformed { at: self.position, what: what.to_owned() }
    }

    fn next(&mut self) -> Result<Option<Field>, Malformed> {
        if self.position == self.end {
            return Ok(None);
        }
        let at = self.position;
        let key = self.varint()?;
        let number = u32::try_from(key >> 3).map_err(|_| self.error("field number too large"))?;
        if number == 0 {
            return Err(self.error("field number zero"));
        }
        let value = match key & 7 {
            0 => Wire::Varint(self.varint()?),
            1 => {
                let at = self.position;
                self.skip(8)?;
                Wire::Fixed64(at)
            }
            2 => {
                let length_at = self.position;
                let length = self.varint()?;
                let start = self.position;
                self.skip(usize::try_from(length).map_err(|_| self.error("length too large"))?)?;
                Wire::Message { length_at, content: start..self.position }
            }
            3 => {
                self.skip_group(number)?;
                Wire::Other
            }
            5 => {
                self.skip(4)?;
                Wire::Other
            }
            _ => return Err(self.error("unknown wire type")),
        };
        Ok(Some(Field { number, value, at }))
    }

    /// Groups are long deprecated; an unknown field may still be one. Nested ones are counted, not recursed into.
    fn skip_group(&mut self, number: u32) -> Result<(), Malformed> {
        let mut open = vec![number];
        while let Some(&innermost) = open.last() {
            let key = self.varint()?;
            match key & 7 {
                0 => {
                    self.varint()?;
                }
                1 => self.skip(8)?,
                2 => {
                    let length = self.varint()?;
                    self.skip(usize::try_from(length).map_err(|_| self.error("length too large"))?)?;
                }
                3 if open.len() < 100 => open.push((key >> 3) as u32),
                4 if key >> 3 == u64::from(innermost) => {
                    open.pop();
                }
                5 => self.skip(4)?,
                _ => return Err(self.error("broken group")),
            }
        }
        Ok(())
    }

    fn skip(&mut self, length: usize) -> Result<(), Malformed> {
        if length > self.end - self.position {
            return Err(self.error("a field runs past its message's end"));
        }
        self.position += length;
        Ok(())
    }

    fn varint(&mut self) -> Result<u64, Malformed> {
        let mut value = 0u64;
        for index in 0..10 {
            let Some(&byte) = self.bytes[..self.end].get(self.position) else {
                return Err(self.error("a varint runs past its message's end"));
            };
            self.position += 1;
            value |= u64::from(byte & 0x7f) << (7 * index);
            if byte < 0x80 {
                // The tenth byte holds one bit; prost refuses more, and so do we.
                return if index == 9 && byte > 1 { Err(self.error("a varint is too large")) } else { Ok(value) };
            }
        }
        Err(self.error("a varint is too long"))
    }
}
