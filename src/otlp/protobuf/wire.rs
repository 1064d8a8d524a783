//! The protobuf wire: the fields of a message, in order, each with where it stands. Knows of no message what it means.

use std::ops::Range;

use crate::otlp::payload::{Malformed, TimeField};

/// An error inside this module's parent. In a box: a result then comes back in registers.
pub(super) type Broken = Box<Malformed>;

/// One field on the wire.
pub(super) struct Field {
    pub(super) number: u32,
    value: Wire,
    at: usize,
}

enum Wire {
    Varint(u64),
    Fixed64(usize),
    Fixed32(usize),
    Message { length_at: usize, content: Range<usize> },
    Other,
}

impl Field {
    #[cold]
    fn wrong(&self, wanted: &str) -> Broken {
        Box::new(Malformed { at: self.at, what: format!("field {} is not {wanted}", self.number) })
    }

    pub(super) fn message(&self) -> Result<(usize, Range<usize>), Broken> {
        match &self.value {
            Wire::Message { length_at, content } => Ok((*length_at, content.clone())),
            _ => Err(self.wrong("length-delimited")),
        }
    }

    pub(super) fn slice<'a>(&self, bytes: &'a [u8]) -> Result<&'a [u8], Broken> {
        self.message().map(|(_, content)| &bytes[content])
    }

    pub(super) fn varint(&self) -> Result<u64, Broken> {
        match self.value {
            Wire::Varint(value) => Ok(value),
            _ => Err(self.wrong("a varint")),
        }
    }

    pub(super) fn fixed32(&self, bytes: &[u8]) -> Result<u32, Broken> {
        match self.value {
            Wire::Fixed32(at) => {
                let mut value = [0; 4];
                value.copy_from_slice(&bytes[at..at + 4]);
                Ok(u32::from_le_bytes(value))
            }
            _ => Err(self.wrong("a fixed32")),
        }
    }

    pub(super) fn fixed64(&self, bytes: &[u8]) -> Result<u64, Broken> {
        self.time(bytes).map(|field| field.unix_nano)
    }

    /// A fixed64, and where it stands.
    pub(super) fn time(&self, bytes: &[u8]) -> Result<TimeField, Broken> {
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
pub(super) struct Fields<'a> {
    /// Up to the message's end.
    bytes: &'a [u8],
    position: usize,
}

impl<'a> Fields<'a> {
    pub(super) fn new(bytes: &'a [u8], content: Range<usize>) -> Self {
        Self { bytes: &bytes[..content.end], position: content.start }
    }

    #[cold]
    fn error(&self, what: &str) -> Broken {
        Box::new(Malformed { at: self.position, what: what.to_owned() })
    }

    /// Goes past attributes in field `number`, each shorter than 128 bytes, that are to be passed over.
    #[inline(always)]
    pub(super) fn pass_attributes(&mut self, number: u8, pass_over: impl Fn(&[u8]) -> bool) {
        while let [tag, length @ 0..0x80, rest @ ..] = &self.bytes[self.position..] {
            match rest.get(..usize::from(*length)) {
                Some(attribute) if *tag == number << 3 | 2 && pass_over(attribute) => {
                    self.position += 2 + attribute.len();
                }
                _ => break,
            }
        }
    }

    /// Where the next field begins.
    pub(super) fn position(&self) -> usize {
        self.position
    }

    #[inline(always)]
    pub(super) fn next(&mut self) -> Result<Option<Field>, Broken> {
        if self.position == self.bytes.len() {
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
                let at = self.position;
                self.skip(4)?;
                Wire::Fixed32(at)
            }
            _ => return Err(self.error("unknown wire type")),
        };
        Ok(Some(Field { number, value, at }))
    }

    /// Groups are long deprecated; an unknown field may still be one. Nested ones are counted, not recursed into.
    fn skip_group(&mut self, number: u32) -> Result<(), Broken> {
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

    fn skip(&mut self, length: usize) -> Result<(), Broken> {
        if length > self.bytes.len() - self.position {
            return Err(self.error("a field runs past its message's end"));
        }
        self.position += length;
        Ok(())
    }

    #[inline(always)]
    fn varint(&mut self) -> Result<u64, Broken> {
        match self.bytes.get(self.position) {
            Some(&byte) if byte < 0x80 => {
                self.position += 1;
                Ok(u64::from(byte))
            }
            _ => self.long_varint(),
        }
    }

    fn long_varint(&mut self) -> Result<u64, Broken> {
        let mut value = 0u64;
        for index in 0..10 {
            let Some(&byte) = self.bytes.get(self.position) else {
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
