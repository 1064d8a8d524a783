//! The protobuf wire: the fields of a message, in order, each with where it stands. Knows of no message what it means.

use std::ops::Range;

use crate::otlp::payload::{Malformed, TimeField};

/// An error inside this module's parent. In a box: a result then comes back in registers.
pub(super) type Broken = Box<Malformed>;

/// The fields of one message, in order: [`key`](Self::key) of one, then what it holds.
pub(super) struct Fields<'a> {
    /// Up to the message's end.
    bytes: &'a [u8],
    position: usize,
}

impl<'a> Fields<'a> {
    pub(super) fn new(bytes: &'a [u8], content: Range<usize>) -> Self {
        Self { bytes: &bytes[..content.end], position: content.start }
    }

    /// Number and wire type of the next field; `None` at the end.
    #[inline(always)]
    pub(super) fn key(&mut self) -> Result<Option<u32>, Broken> {
        if self.position == self.bytes.len() {
            return Ok(None);
        }
        let (key, position) = varint(self.bytes, self.position)?;
        // Number zero, or one that is too large.
        if key < 8 || key > u64::from(u32::MAX) {
            return Err(broken(self.position, "no such field number"));
        }
        self.position = position;
        Ok(Some(key as u32))
    }

    /// What a length-delimited field holds, and where its length stands.
    #[inline(always)]
    pub(super) fn message(&mut self) -> Result<(usize, Range<usize>), Broken> {
        let length_at = self.position;
        let (length, start) = varint(self.bytes, length_at)?;
        self.position = past(self.bytes, start, length)?;
        Ok((length_at, start..self.position))
    }

    /// The bytes of a length-delimited field.
    #[inline(always)]
    pub(super) fn slice(&mut self) -> Result<&'a [u8], Broken> {
        let (_, content) = self.message()?;
        Ok(&self.bytes[content])
    }

    #[inline(always)]
    pub(super) fn varint(&mut self) -> Result<u64, Broken> {
        let (value, position) = varint(self.bytes, self.position)?;
        self.position = position;
        Ok(value)
    }

    pub(super) fn fixed32(&mut self) -> Result<u32, Broken> {
        let at = self.position;
        self.position = past(self.bytes, at, 4)?;
        let mut value = [0; 4];
        value.copy_from_slice(&self.bytes[at..self.position]);
        Ok(u32::from_le_bytes(value))
    }

    pub(super) fn fixed64(&mut self) -> Result<u64, Broken> {
        self.time().map(|field| field.unix_nano)
    }

    /// A fixed64, and where it stands.
    #[inline(always)]
    pub(super) fn time(&mut self) -> Result<TimeField, Broken> {
        let at = self.position;
        self.position = past(self.bytes, at, 8)?;
        let mut nanos = [0; 8];
        nanos.copy_from_slice(&self.bytes[at..self.position]);
        Ok(TimeField { at: at..self.position, unix_nano: u64::from_le_bytes(nanos) })
    }

    /// Goes past a field that is not read. One that has the number of a field of this message (`all` their keys), but another
    /// wire type, is an error, as it is to prost.
    #[inline(always)]
    pub(super) fn pass_over(&mut self, key: u32, all: &[u32]) -> Result<(), Broken> {
        self.position = past_field(self.bytes, self.position, key, all)?;
        Ok(())
    }

    /// Goes past the attributes in field `key` (of one byte) up to one whose name is read, as long as they are written as
    /// everybody writes them: the name, then the value, each shorter than 128 bytes. Most of a span is attributes, and this is
    /// most of a scan.
    #[inline(always)]
    pub(super) fn pass_attributes(&mut self, key: u32, is_read: impl Fn(&[u8]) -> bool) {
        // The field, its length, key_value::KEY, its length.
        while let Some(&[field, length, first, name_length]) = self.bytes[self.position..].first_chunk() {
            let lengths_are_short = (length | name_length) < 0x80;
            if u32::from(field) != key || u32::from(first) != super::keys::key_value::KEY || !lengths_are_short {
                return;
            }
            let name_at = self.position + 4;
            let value_at = name_at + usize::from(name_length);
            let end = self.position + 2 + usize::from(length);
            let Some(&[second, value_length]) = self.bytes.get(value_at..).and_then(<[u8]>::first_chunk) else {
                return;
            };
            let is_all = value_at + 2 + usize::from(value_length) == end && end <= self.bytes.len();
            if u32::from(second) != super::keys::key_value::VALUE || value_length >= 0x80 || !is_all {
                return;
            }
            if is_read(&self.bytes[name_at..value_at]) {
                return;
            }
            self.position = end;
        }
    }

    /// Where the next field begins.
    pub(super) fn position(&self) -> usize {
        self.position
    }
}

// What follows is given the bytes and a position, and returns the next: a cursor that is lent out does not stay in
// registers, and costs a scan half its time.

#[cold]
pub(super) fn broken(at: usize, what: &str) -> Broken {
    Box::new(Malformed { at, what: what.to_owned() })
}

fn past_field(bytes: &[u8], position: usize, key: u32, all: &[u32]) -> Result<usize, Broken> {
    if all.iter().any(|known| known >> 3 == key >> 3 && *known != key) {
        return Err(broken(position, &format!("field {} is of another wire type", key >> 3)));
    }
    match key & 7 {
        0 => Ok(varint(bytes, position)?.1),
        1 => past(bytes, position, 8),
        2 => {
            let (length, start) = varint(bytes, position)?;
            past(bytes, start, length)
        }
        3 => past_group(bytes, position, key >> 3),
        5 => past(bytes, position, 4),
        _ => Err(broken(position, "unknown wire type")),
    }
}

/// Groups are long deprecated; an unknown field may still be one. Nested ones are counted, not recursed into.
#[cold]
fn past_group(bytes: &[u8], mut position: usize, number: u32) -> Result<usize, Broken> {
    let mut open = vec![number];
    while let Some(&innermost) = open.last() {
        let (key, next) = varint(bytes, position)?;
        position = match key & 7 {
            0 => varint(bytes, next)?.1,
            1 => past(bytes, next, 8)?,
            2 => {
                let (length, start) = varint(bytes, next)?;
                past(bytes, start, length)?
            }
            5 => past(bytes, next, 4)?,
            wire => {
                match wire {
                    3 if open.len() < 100 => open.push((key >> 3) as u32),
                    4 if key >> 3 == u64::from(innermost) => drop(open.pop()),
                    _ => return Err(broken(next, "broken group")),
                }
                next
            }
        };
    }
    Ok(position)
}

#[inline(always)]
fn past(bytes: &[u8], position: usize, length: u64) -> Result<usize, Broken> {
    if length > (bytes.len() - position) as u64 {
        return Err(broken(position, "a field runs past its message's end"));
    }
    Ok(position + length as usize)
}

/// A varint, and where it ends.
#[inline(always)]
fn varint(bytes: &[u8], position: usize) -> Result<(u64, usize), Broken> {
    match bytes[position..] {
        [byte @ 0..0x80, ..] => Ok((u64::from(byte), position + 1)),
        // The length of a span.
        [low, high @ 0..0x80, ..] => Ok((u64::from(low & 0x7f) | u64::from(high) << 7, position + 2)),
        _ => long_varint(bytes, position),
    }
}

#[inline(never)]
fn long_varint(bytes: &[u8], position: usize) -> Result<(u64, usize), Broken> {
    let mut value = 0u64;
    for index in 0..10 {
        let Some(&byte) = bytes.get(position + index) else {
            return Err(broken(bytes.len(), "a varint runs past its message's end"));
        };
        value |= u64::from(byte & 0x7f) << (7 * index);
        if byte < 0x80 {
            let end = position + index + 1;
            // The tenth byte holds one bit; prost refuses more, and so do we.
            return if index == 9 && byte > 1 { Err(broken(end, "a varint is too large")) } else { Ok((value, end)) };
        }
    }
    Err(broken(position + 10, "a varint is too long"))
}
