//! The words of OTLP/JSON, as lax as the Collector reads them: both spellings of a key, numbers with or
//! without quotes, enums by number or name, ids in hex or base64. What is written is the specified form.

use super::cursor::{Broken, Cursor, PlainAttribute, broken};
use crate::otlp::TimeField;

macro_rules! keys {
    ($($key:ident: $($name:literal)|+;)+) => {
        /// A key that we know; the same field under another spelling is the same key.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub(super) enum Word { $($key,)+ Unknown }

        impl Word {
            #[inline]
            pub(super) fn of(name: &[u8]) -> Self {
                match name {
                    $($($name)|+ => Self::$key,)+
                    _ => Self::Unknown,
                }
            }
        }
    };
}

keys! {
    ResourceSpans: b"resourceSpans" | b"resource_spans";
    // Collectors mix these into one file with traces.
    OtherSignal: b"resourceMetrics" | b"resource_metrics" | b"resourceLogs" | b"resource_logs"
        | b"resourceProfiles" | b"resource_profiles";
    Resource: b"resource";
    ScopeSpans: b"scopeSpans" | b"scope_spans";
    // Before OTLP 0.19.
    LibrarySpans: b"instrumentationLibrarySpans" | b"instrumentation_library_spans";
    Scope: b"scope" | b"instrumentationLibrary" | b"instrumentation_library";
    SchemaUrl: b"schemaUrl" | b"schema_url";
    Spans: b"spans";
    TraceId: b"traceId" | b"trace_id";
    SpanId: b"spanId" | b"span_id";
    ParentSpanId: b"parentSpanId" | b"parent_span_id";
    TraceState: b"traceState" | b"trace_state";
    Flags: b"flags";
    Name: b"name";
    Kind: b"kind";
    Start: b"startTimeUnixNano" | b"start_time_unix_nano";
    End: b"endTimeUnixNano" | b"end_time_unix_nano";
    Time: b"timeUnixNano" | b"time_unix_nano";
    Attributes: b"attributes";
    DroppedAttributes: b"droppedAttributesCount" | b"dropped_attributes_count";
    Events: b"events";
    DroppedEvents: b"droppedEventsCount" | b"dropped_events_count";
    Links: b"links";
    DroppedLinks: b"droppedLinksCount" | b"dropped_links_count";
    Status: b"status";
    Code: b"code";
    Message: b"message";
    Version: b"version";
    EntityRefs: b"entityRefs" | b"entity_refs";
    Type: b"type";
    IdKeys: b"idKeys" | b"id_keys";
    DescriptionKeys: b"descriptionKeys" | b"description_keys";
    Key: b"key";
    Value: b"value";
    Values: b"values";
    StringValue: b"stringValue" | b"string_value";
    BoolValue: b"boolValue" | b"bool_value";
    IntValue: b"intValue" | b"int_value";
    DoubleValue: b"doubleValue" | b"double_value";
    ArrayValue: b"arrayValue" | b"array_value";
    KvlistValue: b"kvlistValue" | b"kvlist_value";
    BytesValue: b"bytesValue" | b"bytes_value";
}

/// Whether a member of a `ResourceSpans` replaces the scope spans read so far: the old name gives way to the
/// new one, and a new name with nothing in it (`null` or `[]`) takes back no more than its own.
pub(super) fn replaces(word: Word, nothing: bool, has_modern: &mut bool) -> bool {
    match word {
        Word::ScopeSpans => std::mem::replace(has_modern, !nothing) || !nothing,
        _ => !*has_modern,
    }
}

/// The bytes of an id; 16 and 8 are right, and any other number is what the text held.
#[derive(Clone, Copy, Default)]
pub(super) struct IdBytes {
    bytes: [u8; 16],
    length: usize,
}

impl IdBytes {
    pub(super) fn as_slice(&self) -> &[u8] {
        &self.bytes[..self.length]
    }

    /// Hex in either case; base64 by its length and padding, as Tempo writes ids. None of these: empty.
    pub(super) fn of(text: &[u8]) -> Self {
        let mut id = Self::default();
        let is_base64 =
            matches!(text, [.., b'=', b'='] if text.len() == 24) || matches!(text, [.., b'='] if text.len() == 12);
        if is_base64 {
            match base64(text) {
                Some(bytes) if bytes.len() <= 16 => {
                    id.bytes[..bytes.len()].copy_from_slice(&bytes);
                    id.length = bytes.len();
                }
                _ => {}
            }
            return id;
        }
        if text.len() > 32 || !text.len().is_multiple_of(2) {
            return id;
        }
        for (byte, pair) in id.bytes.iter_mut().zip(text.as_chunks::<2>().0) {
            let (high, low) = (HEX[usize::from(pair[0])], HEX[usize::from(pair[1])]);
            if high | low > 15 {
                return Self::default();
            }
            *byte = high << 4 | low;
        }
        id.length = text.len() / 2;
        id
    }
}

/// The value of a hex digit; 255 for any other byte.
const HEX: [u8; 256] = {
    let mut table = [255; 256];
    let mut digit = 0;
    while digit < 16 {
        table[b"0123456789abcdef"[digit] as usize] = digit as u8;
        table[b"0123456789ABCDEF"[digit] as usize] = digit as u8;
        digit += 1;
    }
    table
};

/// Base64 of either alphabet, padded or not.
pub(super) fn base64(text: &[u8]) -> Option<Vec<u8>> {
    let end = text.iter().rposition(|byte| *byte != b'=').map_or(0, |last| last + 1);
    if text.len() - end > 2 || end % 4 == 1 {
        return None;
    }
    let mut bytes = Vec::with_capacity(end * 3 / 4);
    let (mut held, mut bits) = (0u32, 0);
    for byte in &text[..end] {
        let sextet = match byte {
            b'A'..=b'Z' => byte - b'A',
            b'a'..=b'z' => byte - b'a' + 26,
            b'0'..=b'9' => byte - b'0' + 52,
            b'+' | b'-' => 62,
            b'/' | b'_' => 63,
            _ => return None,
        };
        held = held << 6 | u32::from(sextet);
        bits += 6;
        if bits >= 8 {
            bits -= 8;
            bytes.push((held >> bits) as u8);
            held &= (1 << bits) - 1;
        }
    }
    Some(bytes)
}

/// A whole number, however it is written: `5`, `5.0`, `1.7e18`. `None` where it is not whole, or beyond 2^100.
fn whole(text: &[u8]) -> Option<i128> {
    if text.len() < 20 && !text.is_empty() && text.iter().all(u8::is_ascii_digit) {
        return Some(text.iter().fold(0u64, |value, digit| value * 10 + u64::from(digit - b'0')).into());
    }
    let (negative, text) = match text {
        [b'-', rest @ ..] => (true, rest),
        _ => (false, text),
    };
    let (mantissa, exponent) = match text.iter().position(|byte| matches!(byte, b'e' | b'E')) {
        Some(at) => (&text[..at], std::str::from_utf8(&text[at + 1..]).ok()?.parse::<i32>().ok()?),
        None => (text, 0),
    };
    let (integer, fraction) = match mantissa.iter().position(|byte| *byte == b'.') {
        Some(at) => (&mantissa[..at], &mantissa[at + 1..]),
        None => (mantissa, &b""[..]),
    };
    if integer.is_empty() || !integer.iter().chain(fraction).all(u8::is_ascii_digit) {
        return None;
    }
    let mut value = 0i128;
    for digit in integer.iter().chain(fraction) {
        value = value.checked_mul(10)?.checked_add(i128::from(digit - b'0'))?;
    }
    let mut scale = exponent.checked_sub(i32::try_from(fraction.len()).ok()?)?;
    while scale != 0 && value != 0 {
        if scale > 0 {
            value = value.checked_mul(10)?;
            scale -= 1;
        } else if value % 10 == 0 {
            value /= 10;
            scale += 1;
        } else {
            return None;
        }
    }
    (value < 1 << 100).then_some(if negative { -value } else { value })
}

/// A number's digits.
pub(super) struct Decimal {
    text: [u8; 20],
    start: usize,
}

impl Decimal {
    pub(super) fn of(mut number: u64) -> Self {
        let (mut text, mut start) = ([b'0'; 20], 20);
        while number > 0 || start == 20 {
            start -= 1;
            text[start] = b'0' + (number % 10) as u8;
            number /= 10;
        }
        Self { text, start }
    }

    pub(super) fn as_bytes(&self) -> &[u8] {
        &self.text[self.start..]
    }
}

/// A value without anything odd about it.
#[derive(Clone, Copy)]
pub(super) enum Plain<'a> {
    Text(&'a [u8]),
    Int(i64),
}

impl<'a> Cursor<'a> {
    #[inline]
    pub(super) fn id(&mut self) -> Result<IdBytes, Broken> {
        Ok(self.string()?.map_or_else(IdBytes::default, |text| IdBytes::of(&text)))
    }

    /// A whole number that fits `T`. `None`: `null` or an empty string.
    #[inline]
    pub(super) fn integer<T: TryFrom<i128>>(&mut self) -> Result<Option<T>, Broken> {
        let Some(scalar) = self.scalar()? else { return Ok(None) };
        if scalar.text.is_empty() {
            return Ok(None);
        }
        match whole(&scalar.text).and_then(|value| T::try_from(value).ok()) {
            Some(value) => Ok(Some(value)),
            None => Err(broken(
                scalar.at.start,
                format!("`{}` is not a whole number of the right size", String::from_utf8_lossy(&scalar.text)),
            )),
        }
    }

    /// A plain attribute, if that is what comes next: its key, and text or a number.
    #[inline]
    pub(super) fn plain(&mut self) -> Option<(&'a [u8], Plain<'a>)> {
        let before = self.place();
        let PlainAttribute { key, is_int, text } = self.plain_attribute()?;
        if !is_int {
            return Some((key, Plain::Text(text)));
        }
        match whole(text).and_then(|value| i64::try_from(value).ok()) {
            Some(number) => Some((key, Plain::Int(number))),
            // Whoever reads it in full says what is wrong.
            None => {
                self.back_to(before);
                None
            }
        }
    }

    /// A time, and where it stands.
    #[inline]
    pub(super) fn time(&mut self) -> Result<Option<TimeField>, Broken> {
        self.skip_space();
        let start = self.position();
        Ok(self.integer()?.map(|unix_nano| TimeField { at: start..self.position(), unix_nano }))
    }

    /// A double; NaN and the infinities come as strings.
    pub(super) fn double(&mut self) -> Result<Option<f64>, Broken> {
        let Some(scalar) = self.scalar()? else { return Ok(None) };
        let text = String::from_utf8_lossy(&scalar.text);
        if text.is_empty() {
            return Ok(None);
        }
        match text.parse() {
            Ok(value) => Ok(Some(value)),
            Err(_) => Err(broken(scalar.at.start, format!("`{text}` is not a number"))),
        }
    }

    /// An enum's number: as it is, in quotes, or by name; a name that we do not know is 0.
    fn enumerated(&mut self, prefix: &[u8], names: &[&[u8]]) -> Result<i32, Broken> {
        let Some(scalar) = self.scalar()? else { return Ok(0) };
        if let Some(number) = whole(&scalar.text) {
            return i32::try_from(number).map_err(|_| broken(scalar.at.start, format!("{number} is beyond any enum")));
        }
        let upper = scalar.text.to_ascii_uppercase();
        let name = upper.strip_prefix(prefix).unwrap_or(&upper);
        Ok(names.iter().position(|known| *known == name).map_or(0, |at| at as i32))
    }

    /// A `SpanKind`.
    pub(super) fn kind(&mut self) -> Result<i32, Broken> {
        self.enumerated(b"SPAN_KIND_", &[b"UNSPECIFIED", b"INTERNAL", b"SERVER", b"CLIENT", b"PRODUCER", b"CONSUMER"])
    }

    /// A `StatusCode`.
    pub(super) fn status_code(&mut self) -> Result<i32, Broken> {
        self.enumerated(b"STATUS_CODE_", &[b"UNSET", b"OK", b"ERROR"])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whole_numbers_in_every_dress() {
        for (text, value) in [
            ("0", Some(0)),
            ("-0", Some(0)),
            ("5.0", Some(5)),
            ("1.7e18", Some(1_700_000_000_000_000_000)),
            ("1795493822885597620", Some(1_795_493_822_885_597_620)),
            ("9999999999999999999", Some(9_999_999_999_999_999_999)),
            ("18446744073709551615", Some(u64::MAX.into())),
            ("-12e1", Some(-120)),
            ("1200e-2", Some(12)),
            ("0e999999999", Some(0)),
            ("5.5", None),
            ("1e40", None),
            ("1e-1", None),
            ("", None),
            ("-", None),
            (".5", None),
            ("0x10", None),
            ("1e99999999999", None),
        ] {
            assert_eq!(whole(text.as_bytes()), value, "{text}");
        }
    }

    #[test]
    fn digits_of_the_least_and_the_greatest() {
        for number in [0, 9, 10, 1_700_000_000_000_000_000, u64::MAX] {
            assert_eq!(Decimal::of(number).as_bytes(), number.to_string().as_bytes());
        }
    }

    #[test]
    fn ids_in_hex_and_base64() {
        for (text, bytes) in [
            (
                "5B8EFFF798038103D269B633813FC60C",
                &b"\x5b\x8e\xff\xf7\x98\x03\x81\x03\xd2\x69\xb6\x33\x81\x3f\xc6\x0c"[..],
            ),
            ("eee19b7ec3c1b174", b"\xee\xe1\x9b\x7e\xc3\xc1\xb1\x74"),
            ("W47/95gDgQPSabYzgT/GDA==", b"\x5b\x8e\xff\xf7\x98\x03\x81\x03\xd2\x69\xb6\x33\x81\x3f\xc6\x0c"),
            ("7uGbfsPBsXQ=", b"\xee\xe1\x9b\x7e\xc3\xc1\xb1\x74"),
            ("5b8e", b"\x5b\x8e"),
            ("", b""),
            ("5b8", b""),
            ("not an id at all", b""),
        ] {
            assert_eq!(IdBytes::of(text.as_bytes()).as_slice(), bytes, "{text}");
        }
    }

    #[test]
    fn base64_of_either_alphabet() {
        for (text, bytes) in
            [("", Some(&b""[..])), ("_-8=", Some(b"\xff\xef")), ("/+8", Some(b"\xff\xef")), ("a", None), ("a?==", None)]
        {
            assert_eq!(base64(text.as_bytes()).as_deref(), bytes, "{text}");
        }
    }
}
