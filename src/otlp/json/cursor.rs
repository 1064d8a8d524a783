//! One pass over JSON text that keeps its place: in come bytes, out go members, elements and scalars with
//! the positions they stand at. Assumes nothing of the text; what is not JSON is an error with its position.
//!
//! Ours and not a crate's, for three reasons: positions into the record are the point of the exercise, one
//! pass both checks and finds (lazy values are skipped once for each level around them), and nesting has a
//! limit, so that a megabyte of `[` is an error and not a stack overflow.

use std::borrow::Cow;
use std::ops::Range;

use crate::otlp::{Counted, Malformed};

/// An attribute's nested list takes four levels of JSON; protobuf's own limit of 100 messages allows it
/// to nest 33 deep, so this is never the tighter of the two.
const DEEPEST: u32 = 256;

/// An error inside this module. In a box: a result then comes back in registers, which is a fifth of checking a record.
pub(super) type Broken = Box<Malformed>;

pub(super) fn broken(at: usize, what: impl Into<String>) -> Broken {
    Box::new(Malformed { at, what: what.into() })
}

impl From<Broken> for Malformed {
    fn from(broken: Broken) -> Self {
        *broken
    }
}

pub(super) struct Cursor<'a> {
    bytes: &'a [u8],
    position: usize,
    depth: u32,
    /// What whoever reads a message left out of it, where that is asked for.
    pub(super) left_out: Option<Counted>,
}

/// A place in the text to come back to.
#[derive(Clone, Copy)]
pub(super) struct Place {
    position: usize,
    depth: u32,
}

/// Where an array ended.
pub(super) struct Closed {
    /// The position of its `]`.
    pub(super) at: usize,
    pub(super) has_elements: bool,
}

/// A string or number as it stands; literals are neither.
pub(super) struct Scalar<'a> {
    /// Its text, escapes undone, without quotes.
    pub(super) text: Cow<'a, [u8]>,
    /// The raw value, quotes included.
    pub(super) at: Range<usize>,
}

/// An attribute without anything odd about it.
pub(super) struct PlainAttribute<'a> {
    pub(super) key: &'a [u8],
    pub(super) is_int: bool,
    pub(super) text: &'a [u8],
}

impl<'a> Cursor<'a> {
    pub(super) fn new(bytes: &'a [u8], position: usize) -> Self {
        Self { bytes, position, depth: 0, left_out: None }
    }

    pub(super) fn position(&self) -> usize {
        self.position
    }

    pub(super) fn place(&self) -> Place {
        Place { position: self.position, depth: self.depth }
    }

    pub(super) fn back_to(&mut self, place: Place) {
        (self.position, self.depth) = (place.position, place.depth);
    }

    /// What stands at a place that was passed.
    pub(super) fn raw(&self, at: Range<usize>) -> &'a [u8] {
        &self.bytes[at]
    }

    pub(super) fn skip_space(&mut self) {
        self.peek();
    }

    #[cold]
    pub(super) fn wrong<T>(&self, what: &str) -> Result<T, Broken> {
        Err(broken(self.position, what))
    }

    /// The next byte that is not white space, without taking it.
    #[inline(always)]
    pub(super) fn peek(&mut self) -> Option<u8> {
        loop {
            let byte = *self.bytes.get(self.position)?;
            if !matches!(byte, b' ' | b'\n' | b'\r' | b'\t') {
                return Some(byte);
            }
            self.position += 1;
        }
    }

    #[inline]
    fn expect(&mut self, byte: u8, what: &str) -> Result<(), Broken> {
        if self.peek() != Some(byte) {
            return self.wrong(what);
        }
        self.position += 1;
        Ok(())
    }

    /// Nothing but white space may follow.
    pub(super) fn finish(mut self) -> Result<(), Broken> {
        match self.peek() {
            None => Ok(()),
            Some(_) => self.wrong("text after the end of the JSON value"),
        }
    }

    /// Takes a `null`, if that is what comes next.
    #[inline]
    pub(super) fn null(&mut self) -> Result<bool, Broken> {
        if self.peek() == Some(b'n') { self.literal(b"null").map(|()| true) } else { Ok(false) }
    }

    #[inline]
    fn literal(&mut self, word: &[u8]) -> Result<(), Broken> {
        for &byte in word {
            if self.bytes.get(self.position) != Some(&byte) {
                return self.wrong("not a JSON value");
            }
            self.position += 1;
        }
        Ok(())
    }

    /// An object, braces included; `each` must take the value of every key. `None`: a `null`.
    #[inline]
    pub(super) fn object(
        &mut self,
        mut each: impl FnMut(&mut Self, &[u8]) -> Result<(), Broken>,
    ) -> Result<Option<Range<usize>>, Broken> {
        if self.null()? {
            return Ok(None);
        }
        self.expect(b'{', "expected an object")?;
        let start = self.position - 1;
        self.descend()?;
        if self.peek() == Some(b'}') {
            self.position += 1;
        } else {
            loop {
                if self.peek() != Some(b'"') {
                    return self.wrong("expected a key");
                }
                let key = self.quoted()?;
                self.expect(b':', "expected a colon")?;
                each(self, &key.text)?;
                if !self.goes_on(b'}', "expected a comma or the end of the object")? {
                    break;
                }
            }
        }
        self.depth -= 1;
        Ok(Some(start..self.position))
    }

    /// An array; `each` must take every element. `None`: a `null`.
    #[inline]
    pub(super) fn array(
        &mut self,
        mut each: impl FnMut(&mut Self) -> Result<(), Broken>,
    ) -> Result<Option<Closed>, Broken> {
        if self.null()? {
            return Ok(None);
        }
        self.expect(b'[', "expected an array")?;
        self.descend()?;
        let has_elements = self.peek() != Some(b']');
        if has_elements {
            loop {
                each(self)?;
                if !self.goes_on(b']', "expected a comma or the end of the array")? {
                    break;
                }
            }
        } else {
            self.position += 1;
        }
        self.depth -= 1;
        Ok(Some(Closed { at: self.position - 1, has_elements }))
    }

    /// Takes a `null` or an empty array, if that is what comes next.
    pub(super) fn nothing(&mut self) -> Result<bool, Broken> {
        if self.null()? {
            return Ok(true);
        }
        let start = self.position;
        if self.peek() == Some(b'[') {
            self.position += 1;
            if self.peek() == Some(b']') {
                self.position += 1;
                return Ok(true);
            }
        }
        self.position = start;
        Ok(false)
    }

    #[inline]
    fn descend(&mut self) -> Result<(), Broken> {
        self.depth += 1;
        if self.depth > DEEPEST { self.wrong("nested too deeply") } else { Ok(()) }
    }

    #[inline]
    fn goes_on(&mut self, close: u8, what: &str) -> Result<bool, Broken> {
        match self.peek() {
            Some(b',') => {
                self.position += 1;
                Ok(true)
            }
            Some(byte) if byte == close => {
                self.position += 1;
                Ok(false)
            }
            _ => self.wrong(what),
        }
    }

    /// Passes over a value of any kind.
    pub(super) fn skip(&mut self) -> Result<(), Broken> {
        match self.peek() {
            Some(b'{') => self.object(|cursor, _| cursor.skip()).map(drop),
            Some(b'[') => self.array(Self::skip).map(drop),
            Some(b'"') => self.raw_string().map(drop),
            Some(b't') => self.literal(b"true"),
            Some(b'f') => self.literal(b"false"),
            Some(b'n') => self.literal(b"null"),
            Some(b'-' | b'0'..=b'9') => self.number().map(drop),
            _ => self.wrong("expected a value"),
        }
    }

    /// Takes `{"key":"…","value":{"stringValue":"…"}}` or the same with an `intValue`, if that is what comes next to the
    /// letter and neither text holds an escape. Everybody writes so, and two thirds of a record are such objects.
    #[inline]
    pub(super) fn plain_attribute(&mut self) -> Option<PlainAttribute<'a>> {
        let rest = self.bytes[self.position..].strip_prefix(b"{\"key\":\"")?;
        let (key, rest) = rest.split_at(plain_length(rest));
        let rest = rest.strip_prefix(b"\",\"value\":{\"")?;
        let (is_int, rest) = match rest.strip_prefix(b"stringValue\":\"") {
            Some(rest) => (false, rest),
            None => (true, rest.strip_prefix(b"intValue\":\"")?),
        };
        let (text, rest) = rest.split_at(plain_length(rest));
        let rest = rest.strip_prefix(b"\"}}")?;
        self.position = self.bytes.len() - rest.len();
        Some(PlainAttribute { key, is_int, text })
    }

    /// A string or a number. `None`: a `null`.
    #[inline]
    pub(super) fn scalar(&mut self) -> Result<Option<Scalar<'a>>, Broken> {
        match self.peek() {
            Some(b'"') => self.quoted().map(Some),
            Some(b'-' | b'0'..=b'9') => {
                let at = self.number()?;
                Ok(Some(Scalar { text: Cow::Borrowed(&self.bytes[at.clone()]), at }))
            }
            Some(b'n') => self.literal(b"null").map(|()| None),
            _ => self.wrong("expected a string or a number"),
        }
    }

    /// A string. `None`: a `null`.
    #[inline]
    pub(super) fn string(&mut self) -> Result<Option<Cow<'a, [u8]>>, Broken> {
        if self.null()? {
            return Ok(None);
        }
        match self.peek() {
            Some(b'"') => Ok(Some(self.quoted()?.text)),
            _ => self.wrong("expected a string"),
        }
    }

    /// `true` or `false`, quoted or not. `None`: a `null`.
    pub(super) fn bool(&mut self) -> Result<Option<bool>, Broken> {
        match self.peek() {
            Some(b't') => self.literal(b"true").map(|()| Some(true)),
            Some(b'f') => self.literal(b"false").map(|()| Some(false)),
            Some(b'n') => self.literal(b"null").map(|()| None),
            Some(b'"') => {
                let before = self.position;
                match &*self.quoted()?.text {
                    b"true" => Ok(Some(true)),
                    b"false" => Ok(Some(false)),
                    _ => Err(broken(before, "expected true or false")),
                }
            }
            _ => self.wrong("expected true or false"),
        }
    }

    #[inline(always)]
    fn quoted(&mut self) -> Result<Scalar<'a>, Broken> {
        let start = self.position;
        let escaped = self.raw_string()?;
        let raw = &self.bytes[start + 1..self.position - 1];
        let text = if escaped { Cow::Owned(unescape(raw)) } else { Cow::Borrowed(raw) };
        Ok(Scalar { text, at: start..self.position })
    }

    /// Passes over a string, and says whether it holds escapes.
    #[inline]
    fn raw_string(&mut self) -> Result<bool, Broken> {
        self.position += 1;
        let mut escaped = false;
        loop {
            self.position += plain_length(&self.bytes[self.position..]);
            match self.bytes.get(self.position) {
                Some(b'"') => {
                    self.position += 1;
                    return Ok(escaped);
                }
                Some(b'\\') => {
                    escaped = true;
                    self.escape()?;
                }
                Some(_) => return self.wrong("control character in a string"),
                None => return self.wrong("string without an end"),
            }
        }
    }

    fn escape(&mut self) -> Result<(), Broken> {
        self.position += 1;
        match self.bytes.get(self.position) {
            Some(b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't') => self.position += 1,
            Some(b'u') => {
                self.position += 1;
                for _ in 0..4 {
                    if !self.bytes.get(self.position).is_some_and(u8::is_ascii_hexdigit) {
                        return self.wrong("escape without four hex digits");
                    }
                    self.position += 1;
                }
            }
            _ => return self.wrong("unknown escape"),
        }
        Ok(())
    }

    #[inline]
    fn number(&mut self) -> Result<Range<usize>, Broken> {
        let start = self.position;
        if self.bytes.get(self.position) == Some(&b'-') {
            self.position += 1;
        }
        let leading_zero = self.bytes.get(self.position) == Some(&b'0');
        if self.digits()? > 1 && leading_zero {
            return self.wrong("number with a leading zero");
        }
        if self.bytes.get(self.position) == Some(&b'.') {
            self.position += 1;
            self.digits()?;
        }
        if matches!(self.bytes.get(self.position), Some(b'e' | b'E')) {
            self.position += 1;
            if matches!(self.bytes.get(self.position), Some(b'+' | b'-')) {
                self.position += 1;
            }
            self.digits()?;
        }
        Ok(start..self.position)
    }

    #[inline]
    fn digits(&mut self) -> Result<usize, Broken> {
        let start = self.position;
        while self.bytes.get(self.position).is_some_and(u8::is_ascii_digit) {
            self.position += 1;
        }
        if self.position == start { self.wrong("expected a digit") } else { Ok(self.position - start) }
    }
}

/// How many bytes come before the first quote, backslash or control character. Eight at a time: strings
/// are most of a record, and most are too short for a call into anything wider to pay.
#[inline]
fn plain_length(bytes: &[u8]) -> usize {
    const ONES: u64 = 0x0101_0101_0101_0101;
    const HIGHS: u64 = 0x8080_8080_8080_8080;
    // The lowest set bit is exact: a borrow only ever reaches the bytes above the one that caused it.
    let zeros = |word: u64| word.wrapping_sub(ONES) & !word & HIGHS;
    let (words, rest) = bytes.as_chunks::<8>();
    for (index, word) in words.iter().enumerate() {
        let word = u64::from_le_bytes(*word);
        let control = word.wrapping_sub(ONES * 0x20) & !word & HIGHS;
        let found = zeros(word ^ (ONES * u64::from(b'"'))) | zeros(word ^ (ONES * u64::from(b'\\'))) | control;
        if found != 0 {
            return index * 8 + found.trailing_zeros() as usize / 8;
        }
    }
    let plain = |byte: &u8| *byte != b'"' && *byte != b'\\' && *byte >= 0x20;
    words.len() * 8 + rest.iter().take_while(|byte| plain(byte)).count()
}

/// Undoes escapes that were found well-formed. Half of a surrogate pair becomes U+FFFD, as Go has it.
fn unescape(raw: &[u8]) -> Vec<u8> {
    let mut text = Vec::with_capacity(raw.len());
    let mut at = 0;
    while at < raw.len() {
        if raw[at] != b'\\' {
            text.push(raw[at]);
            at += 1;
            continue;
        }
        at += 2;
        match raw[at - 1] {
            b'b' => text.push(8),
            b'f' => text.push(12),
            b'n' => text.push(b'\n'),
            b'r' => text.push(b'\r'),
            b't' => text.push(b'\t'),
            b'u' => {
                let mut code = code_unit(&raw[at..]);
                at += 4;
                if (0xD800..0xDC00).contains(&code) && raw[at..].starts_with(b"\\u") {
                    let low = code_unit(&raw[at + 2..]);
                    if (0xDC00..0xE000).contains(&low) {
                        code = 0x10000 + ((code - 0xD800) << 10) + (low - 0xDC00);
                        at += 6;
                    }
                }
                let character = char::from_u32(code).unwrap_or(char::REPLACEMENT_CHARACTER);
                text.extend_from_slice(character.encode_utf8(&mut [0; 4]).as_bytes());
            }
            other => text.push(other),
        }
    }
    text
}

fn code_unit(hex: &[u8]) -> u32 {
    hex[..4].iter().fold(0, |code, digit| code << 4 | (*digit as char).to_digit(16).unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn reads(text: &str) -> Result<(), Broken> {
        let mut cursor = Cursor::new(text.as_bytes(), 0);
        cursor.skip()?;
        cursor.finish()
    }

    #[test]
    fn takes_json_and_nothing_else() {
        for good in ["{}", "[]", " [ 1 , -0.5e+3 ] ", r#"{"a":{"b":[null,true,false,"\u00e9\n\"\\"]}}"#, "0", "\"\""] {
            assert_eq!(reads(good), Ok(()), "{good}");
        }
        for (bad, at) in [
            ("", 0),
            ("{", 1),
            ("{\"a\"}", 4),
            ("[1,]", 3),
            ("{,}", 1),
            ("[1 2]", 3),
            ("01", 2),
            ("1.", 2),
            ("-", 1),
            ("nul", 3),
            ("\"\\x\"", 2),
            ("\"\\u12g4\"", 5),
            ("\"a\u{1}\"", 2),
            ("\"open", 5),
            ("{} {}", 3),
        ] {
            assert_eq!(reads(bad).map_err(|error| error.at), Err(at), "{bad}");
        }
    }

    #[test]
    fn a_megabyte_of_brackets_is_an_error() {
        for open in ["[", "{\"\":"] {
            assert_eq!(reads(&open.repeat(1 << 20)).map_err(|error| error.what), Err("nested too deeply".into()));
        }
    }

    #[test]
    fn half_a_surrogate_pair_is_replaced() {
        for (raw, text) in [
            (r"\ud83d\ude00", "😀"),
            (r"\ud83d", "\u{fffd}"),
            (r"\ud83d\u0041", "\u{fffd}A"),
            (r"\ude00x", "\u{fffd}x"),
            (r"\/\b\f", "/\u{8}\u{c}"),
        ] {
            assert_eq!(String::from_utf8(unescape(raw.as_bytes())).as_deref(), Ok(text), "{raw}");
        }
    }

    proptest! {
        #[test]
        fn agrees_with_serde_json_on_what_is_json(text in r#"([\[\]{},:"\\ntrue0-9.eE+ -]|\{"a":|\\u00|null|true|\[\]){0,14}"#) {
            let judged = serde_json::from_str::<serde::de::IgnoredAny>(&text).is_ok();
            prop_assert_eq!(reads(&text).is_ok(), judged, "{}", text);
        }

        #[test]
        fn strings_come_back(text in any::<String>()) {
            let json = serde_json::to_string(&text).unwrap();
            let found = Cursor::new(json.as_bytes(), 0).string().unwrap().unwrap();
            prop_assert_eq!(std::str::from_utf8(&found).unwrap(), text);
        }
    }
}
