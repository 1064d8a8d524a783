//! What a file holds, told by its content and never by its name. A guess counts once the first record bears
//! it out; a file that ends within its first record gets the benefit of the doubt, so that it is called torn.

use std::fmt;
use std::io::{self, BufRead, Read};
use std::path::{Path, PathBuf};

use opentelemetry_proto::tonic::trace::v1::TracesData;
use prost::Message;

use super::layout::{self, Compression, Framing, Layout};
use crate::otlp::{Encoding, json};

/// A first record longer than this is believed on the strength of its beginning.
const FARTHEST: usize = 16 << 20;
/// White space at the beginning is let go of in pieces of this size.
const BUFFERED: usize = 64 << 10;
/// So many lines are looked at where the first does not settle it.
const LINES_TRIED: usize = 16;

const ZSTD: [u8; 4] = [0x28, 0xB5, 0x2F, 0xFD];
const BYTE_ORDER_MARK: &[u8] = b"\xEF\xBB\xBF";

/// A file that could not be told to be anything we read.
#[derive(Debug, thiserror::Error)]
pub struct Undetected {
    /// The file.
    pub path: PathBuf,
    reason: Reason,
}

#[derive(Debug)]
enum Reason {
    Unreadable(io::Error),
    Undecompressed(&'static str, io::Error),
    Unsupported(&'static str),
    Unknown { within: Option<&'static str>, first: Vec<u8> },
}

impl fmt::Display for Undetected {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(to, "{}: ", self.path.display())?;
        match &self.reason {
            Reason::Unreadable(error) => write!(to, "{error}"),
            Reason::Undecompressed(name, error) => write!(to, "begins like {name} but does not decompress: {error}"),
            Reason::Unsupported(what) => write!(to, "{what}"),
            Reason::Unknown { within, first } => {
                let tried = "JSON, length-prefixed protobuf, protobuf";
                match within {
                    Some(name) => write!(to, "no trace dump that we know within {name} (tried {tried}); it begins")?,
                    None => write!(
                        to,
                        "no trace dump that we know (tried gzip, zstd, length-prefixed zstd, {tried}); it begins"
                    )?,
                }
                first.iter().try_for_each(|byte| write!(to, " {byte:02x}"))?;
                let text: String =
                    first.iter().map(|byte| if byte.is_ascii_graphic() { *byte as char } else { '.' }).collect();
                write!(to, " |{text}|")
            }
        }
    }
}

impl Undetected {
    pub(super) fn unreadable(path: &Path, error: io::Error) -> Self {
        Self { path: path.to_owned(), reason: Reason::Unreadable(error) }
    }
}

/// The layout of a file. `None`: there is nothing in it, not even a broken record.
///
/// # Errors
/// Where the file cannot be read, or is nothing that we know; the text names the file.
pub fn detect(path: &Path) -> Result<Option<Layout>, Undetected> {
    let fail = |reason| Undetected { path: path.to_owned(), reason };
    let open = |compression| layout::open(path, compression).map_err(|error| fail(Reason::Unreadable(error)));
    let size = std::fs::metadata(path).map_err(|error| fail(Reason::Unreadable(error)))?.len();
    let mut window = Window::new(open(Compression::None)?);
    window.fill(512);
    if let Some(error) = window.failed {
        return Err(fail(Reason::Unreadable(error)));
    }
    let (compression, name) = match window.bytes.as_slice() {
        [0x1F, 0x8B, ..] => (Compression::Gzip, Some("gzip")),
        // Skippable frames may come first, as parallel compressors write them.
        [0x28, 0xB5, 0x2F, 0xFD, ..] | [0x50..=0x5F, 0x2A, 0x4D, 0x18, ..] => (Compression::Zstd, Some("zstd")),
        [_, _, _, _, rest @ ..] if rest.starts_with(&ZSTD) => {
            let encoding = framed_encoding(&mut window);
            return Ok(Some(Layout {
                compression: Compression::ZstdFramed,
                framing: Framing::LengthPrefixed,
                encoding,
            }));
        }
        _ => (Compression::None, None),
    };
    let mut size = Some(size);
    if let Some(name) = name {
        window = Window::new(open(compression)?);
        size = None;
        window.fill(512);
        if window.bytes.is_empty()
            && let Some(error) = window.failed
        {
            return Err(fail(Reason::Undecompressed(name, error)));
        }
    }
    match plain(&mut window, size, name.is_some()) {
        Ok(found) => Ok(found.map(|(framing, encoding)| Layout { compression, framing, encoding })),
        Err(Some(what)) => Err(fail(Reason::Unsupported(what))),
        Err(None) => {
            let first = window.bytes[..window.bytes.len().min(16)].to_vec();
            Err(fail(Reason::Unknown { within: name, first }))
        }
    }
}

/// The beginning of a stream, as much of it as a guess needs.
struct Window {
    reader: Box<dyn BufRead + Send>,
    bytes: Vec<u8>,
    at_end: bool,
    failed: Option<io::Error>,
}

impl Window {
    fn new(reader: Box<dyn BufRead + Send>) -> Self {
        Self { reader, bytes: Vec::new(), at_end: false, failed: None }
    }

    /// Reads until there are `wanted` bytes, or no more. A stream that breaks off ends there.
    fn fill(&mut self, wanted: usize) {
        while self.bytes.len() < wanted && !self.at_end {
            match layout::fill(&mut *self.reader) {
                Ok([]) => self.at_end = true,
                Ok(more) => {
                    self.bytes.extend_from_slice(more);
                    let taken = more.len();
                    self.reader.consume(taken);
                }
                Err(error) => {
                    self.at_end = true;
                    self.failed = Some(error);
                }
            }
        }
    }

    /// Reads as much again; whether that gave anything.
    fn grow(&mut self) -> bool {
        let before = self.bytes.len();
        if before < FARTHEST {
            self.fill(before * 2 + 1);
        }
        self.bytes.len() > before
    }
}

type Found = Option<(Framing, Encoding)>;

/// What a stream holds once decompressed. `Err`: what it is that we do not read, if that much is known.
fn plain(window: &mut Window, size: Option<u64>, within: bool) -> Result<Found, Option<&'static str>> {
    let first = window.bytes.as_slice();
    if first.starts_with(b"PAR1") || first.starts_with(b"ARROW1") || first.starts_with(&[0xFF; 4]) {
        return Err(Some("Parquet and Arrow files are not supported as input"));
    }
    if first.get(257..262) == Some(b"ustar") || first.starts_with(b"PK\x03\x04") {
        return Err(Some("an archive: unpack it, and give the files in it"));
    }
    let is_compressed = first.starts_with(&[0x1F, 0x8B]) || first.starts_with(&ZSTD) || first.get(4..8) == Some(&ZSTD);
    if within && is_compressed {
        return Err(Some("compressed twice: undo one of the two first"));
    }
    if is_blank(window) {
        return Ok(None);
    }
    let guesses =
        [json_from_start(window), length_prefixed(window, size), bare(window), json_lines_later(window), torn(window)];
    guesses.into_iter().flatten().next().map(Some).ok_or(None)
}

/// Looks past white space, however much there is, without holding it.
fn is_blank(window: &mut Window) -> bool {
    while without_mark(&window.bytes).trim_ascii().is_empty() {
        if window.bytes.len() > BUFFERED {
            window.bytes.clear();
        }
        let before = window.bytes.len();
        window.fill(before + BUFFERED);
        if window.bytes.len() == before {
            return true;
        }
    }
    false
}

fn without_mark(bytes: &[u8]) -> &[u8] {
    bytes.strip_prefix(BYTE_ORDER_MARK).unwrap_or(bytes)
}

/// Where JSON would begin, if the first byte of it is there.
fn json_start(bytes: &[u8]) -> Option<usize> {
    let text = without_mark(bytes).trim_ascii_start();
    matches!(text.first(), Some(b'{' | b'[')).then(|| bytes.len() - text.len())
}

fn json_from_start(window: &mut Window) -> Found {
    let start = json_start(&window.bytes)?;
    loop {
        let text = &window.bytes[start..];
        let line = memchr::memchr(b'\n', text).map(|end| &text[..end]);
        if line.or(window.at_end.then_some(text)).is_some_and(|line| json::check(line).is_ok()) {
            let rest = &text[line.unwrap_or(text).len()..];
            let framing = if goes_over_lines(rest) { Framing::JsonDocument } else { Framing::JsonLines };
            return Some((framing, Encoding::Json));
        }
        let incomplete = match json::value_end(text) {
            Ok(_) if line.is_some() || window.at_end => return Some((Framing::JsonDocument, Encoding::Json)),
            Ok(_) => true,
            Err(error) => error.at == text.len(),
        };
        if !incomplete {
            return None;
        }
        if !window.grow() {
            let far = !window.at_end && matches!(text_start(&window.bytes[start..]), Some(b'"' | b'{' | b'['));
            return far.then_some((Framing::JsonDocument, Encoding::Json));
        }
    }
}

/// Whether a record soon to come takes several lines: what prints JSON for people puts a short one on one line.
fn goes_over_lines(mut text: &[u8]) -> bool {
    for _ in 0..LINES_TRIED {
        text = text.trim_ascii_start();
        let line = memchr::memchr(b'\n', text).map_or(text, |end| &text[..end]);
        if json::check(line).is_err() {
            return json::value_end(text).is_ok_and(|end| end > line.len());
        }
        text = &text[line.len()..];
    }
    false
}

/// The byte that follows an opening bracket.
fn text_start(text: &[u8]) -> Option<u8> {
    text.get(1..)?.trim_ascii_start().first().copied()
}

/// A line of JSON further on: the first was broken, or was no JSON. Or one behind a log's prefix, which is told line by
/// line.
fn json_lines_later(window: &mut Window) -> Found {
    window.fill(1 << 20);
    let mut lines = window.bytes.split(|byte| *byte == b'\n').take(LINES_TRIED);
    let is_json = |line: &[u8]| line.starts_with(b"{\"") && json::check(line).is_ok();
    let found = lines.any(|line| is_json(line) || prefix(line).is_some());
    found.then_some((Framing::JsonLines, Encoding::Json))
}

/// The text before the JSON object in which a line ends, as loggers put it there.
pub(super) fn prefix(line: &[u8]) -> Option<&[u8]> {
    let (text, object) = line.split_at(memchr::memchr(b'{', line)?);
    let is_text = !text.is_empty() && text.iter().all(|byte| !byte.is_ascii_control() || *byte == b'\t');
    (is_text && object.starts_with(b"{\"") && json::check(object).is_ok()).then_some(text)
}

fn length_prefixed(window: &mut Window, size: Option<u64>) -> Found {
    let mut at = 0;
    let length = loop {
        window.fill(at + 5);
        match window.bytes.get(at..at + 4)? {
            // A request without spans is an empty message.
            [0, 0, 0, 0] if at < 4096 => at += 4,
            length => break u32::from_be_bytes(length.try_into().ok()?) as usize,
        }
    };
    let start = at + 4;
    if size.is_some_and(|size| (start + length) as u64 > size) {
        return None;
    }
    let encoding = match window.bytes.get(start)? {
        b'{' => Encoding::Json,
        0x0A => Encoding::Protobuf,
        _ => return None,
    };
    window.fill((start + length).min(FARTHEST));
    let bears_out = match window.bytes.get(start..start + length) {
        Some(record) if encoding == Encoding::Json => json::check(record).is_ok(),
        Some(record) => is_request(record),
        None => !window.at_end && encoding == Encoding::Protobuf && begins_request(&window.bytes[start..], length),
    };
    bears_out.then_some((Framing::LengthPrefixed, encoding))
}

fn bare(window: &mut Window) -> Found {
    if window.bytes.first() != Some(&0x0A) {
        return None;
    }
    window.fill(FARTHEST);
    let bears_out = if window.at_end { is_request(&window.bytes) } else { begins_request(&window.bytes, usize::MAX) };
    bears_out.then_some((Framing::Bare, Encoding::Protobuf))
}

/// The file ends, or is broken, within what would be its first record.
fn torn(window: &mut Window) -> Found {
    if let Some(start) = json_start(&window.bytes)
        && matches!(text_start(&window.bytes[start..]), None | Some(b'"' | b'}' | b'{'))
    {
        return Some((Framing::JsonLines, Encoding::Json));
    }
    // Lengths and tags are control characters, and text has none: five letters would pass for a length and a tag.
    if window.bytes.iter().all(|byte| !byte.is_ascii_control() || byte.is_ascii_whitespace()) {
        return None;
    }
    if let [a, b, c, d, rest @ ..] = window.bytes.as_slice() {
        let length = u32::from_be_bytes([*a, *b, *c, *d]) as usize;
        if rest.len() < length && begins_request(rest, length) {
            return Some((Framing::LengthPrefixed, Encoding::Protobuf));
        }
    }
    begins_request(&window.bytes, usize::MAX).then_some((Framing::Bare, Encoding::Protobuf))
}

/// A whole message with field 1 first. Requests of metrics and logs look so too, and may come in one file
/// with traces; they do not decode as traces, but their parts fill them just as well.
fn is_request(record: &[u8]) -> bool {
    record.first() == Some(&0x0A) && (TracesData::decode(record).is_ok() || begins_request(record, record.len()))
}

/// Whether messages in field 1, of fields that a `ResourceSpans` has, fill `bytes`, the beginning of `length`.
fn begins_request(bytes: &[u8], length: usize) -> bool {
    !bytes.is_empty()
        && fills(bytes, length, |number, content, claimed| {
            number == 1 && fills(content, claimed, |number, _, _| matches!(number, 1..=3 | 1000))
        })
}

/// Whether length-delimited fields, each to `each`'s liking, fill the first `length` bytes, as far as they are there.
fn fills(bytes: &[u8], length: usize, each: impl Fn(u64, &[u8], usize) -> bool) -> bool {
    let mut at = 0;
    while at < bytes.len().min(length) {
        let Some((key, after_key)) = varint(bytes, at) else { return bytes.len() < length };
        let Some((claimed, start)) = varint(bytes, after_key) else { return bytes.len() < length };
        let Some(end) = usize::try_from(claimed).ok().and_then(|claimed| start.checked_add(claimed)) else {
            return false;
        };
        let content = &bytes[start..end.min(bytes.len())];
        if key & 7 != 2 || end > length || !each(key >> 3, content, claimed as usize) {
            return false;
        }
        at = end;
    }
    true
}

fn varint(bytes: &[u8], at: usize) -> Option<(u64, usize)> {
    let mut value = 0u64;
    for (index, byte) in bytes.get(at..)?.iter().take(10).enumerate() {
        value |= u64::from(byte & 0x7F) << (7 * index).min(63);
        if byte & 0x80 == 0 {
            return Some((value, at + index + 1));
        }
    }
    None
}

/// What is in the first frame that holds anything at all.
fn framed_encoding(window: &mut Window) -> Encoding {
    let mut at = 0;
    while let Some(&[a, b, c, d]) = window.bytes.get(at..at + 4) {
        let length = u32::from_be_bytes([a, b, c, d]) as usize;
        let end = at + 4 + length;
        window.fill((end + 4).min(FARTHEST));
        let frame = &window.bytes[at + 4..end.min(window.bytes.len())];
        let mut beginning = Vec::new();
        if let Ok(decoder) = zstd::Decoder::with_buffer(frame) {
            // A frame that is torn or broken may still give its first bytes.
            let _ = decoder.take(64).read_to_end(&mut beginning);
        }
        match json_start(&beginning) {
            Some(_) => return Encoding::Json,
            None if beginning.is_empty() && end < FARTHEST => at = end,
            None => break,
        }
    }
    Encoding::Protobuf
}

#[cfg(test)]
mod tests {
    use super::*;

    const JSON: &str = r#"{"resourceSpans":[{"scopeSpans":[{"spans":[{"name":"a"}]}]}]}"#;
    /// A request with one span, named `a`.
    const PROTO: &[u8] = b"\x0a\x07\x12\x05\x12\x03\x2a\x01a";

    fn check(content: &[u8], expected: &str) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("dump");
        std::fs::write(&path, content).unwrap();
        let found = match detect(&path) {
            Ok(None) => "empty".to_owned(),
            Ok(Some(Layout { compression, framing, encoding })) => format!("{compression:?} {framing:?} {encoding:?}"),
            Err(error) => error.to_string().strip_prefix(&format!("{}: ", path.display())).unwrap().to_owned(),
        };
        assert_eq!(found, expected);
    }

    fn prefixed(record: &[u8]) -> Vec<u8> {
        [&(record.len() as u32).to_be_bytes(), record].concat()
    }

    fn zstd(content: &[u8]) -> Vec<u8> {
        zstd::encode_all(content, 1).unwrap()
    }

    fn gzip(content: &[u8]) -> Vec<u8> {
        let mut packed = Vec::new();
        flate2::bufread::GzEncoder::new(content, flate2::Compression::fast()).read_to_end(&mut packed).unwrap();
        packed
    }

    #[test]
    fn each_layout_is_known_by_its_content() {
        let pretty = "{\n  \"resourceSpans\": [\n    {}\n  ]\n}\n";
        check(format!("{JSON}\n{JSON}\n").as_bytes(), "None JsonLines Json");
        check(JSON.as_bytes(), "None JsonLines Json");
        check(format!("\u{feff}\r\n{JSON}\r\n").as_bytes(), "None JsonLines Json");
        check(pretty.as_bytes(), "None JsonDocument Json");
        check(format!("{JSON}{JSON}\n").as_bytes(), "None JsonDocument Json");
        check(format!("{{}}\n{JSON}\n{pretty}").as_bytes(), "None JsonDocument Json");
        check(b"{}\n{\"cut\":[\n{}\n", "None JsonLines Json");
        check(b"[{\"traceId\":\"1\"}]", "None JsonLines Json");
        check(b"{}", "None JsonLines Json");
        check(&prefixed(PROTO), "None LengthPrefixed Protobuf");
        check(&[prefixed(b""), prefixed(PROTO)].concat(), "None LengthPrefixed Protobuf");
        check(PROTO, "None Bare Protobuf");
        check(&gzip(pretty.as_bytes()), "Gzip JsonDocument Json");
        check(&gzip(&prefixed(PROTO)), "Gzip LengthPrefixed Protobuf");
        check(&zstd(PROTO), "Zstd Bare Protobuf");
        check(&prefixed(&zstd(PROTO)), "ZstdFramed LengthPrefixed Protobuf");
        check(&prefixed(&zstd(JSON.as_bytes())), "ZstdFramed LengthPrefixed Json");
        check(&[prefixed(&zstd(b"")), prefixed(&zstd(JSON.as_bytes()))].concat(), "ZstdFramed LengthPrefixed Json");
    }

    #[test]
    fn a_message_whose_length_is_a_brace_is_no_json() {
        let name = "n".repeat(115);
        let span = [&[0x2A, 115], name.as_bytes()].concat();
        let scope = [&[0x12, 117], &span[..]].concat();
        let spans = [&[0x12, 119], &scope[..]].concat();
        check(&[&[0x0A, 121], &spans[..]].concat(), "None Bare Protobuf");
        let resource = [&[0x0A, 0x7B, 0x1A, 0], &spans[..]].concat();
        assert_eq!(resource[..2], *b"\n{");
        check(&resource, "None Bare Protobuf");
    }

    #[test]
    fn other_signals_are_records_too() {
        // A metric with a sum (field 7) is no span: there, field 7 is a time.
        let metrics = b"\x0a\x0a\x12\x08\x12\x06\x0a\x01m\x3a\x01\x00";
        assert!(TracesData::decode(&metrics[..]).is_err());
        check(&prefixed(metrics), "None LengthPrefixed Protobuf");
        check(b"{\"resourceMetrics\":[]}\n", "None JsonLines Json");
    }

    #[test]
    fn a_torn_first_record_is_still_a_record() {
        check(&JSON.as_bytes()[..30], "None JsonLines Json");
        check(format!("{}\n{JSON}\n", &JSON[..30]).as_bytes(), "None JsonLines Json");
        check(format!("# exported\n{JSON}\n").as_bytes(), "None JsonLines Json");
        check(format!("12:00 INFO {JSON}\n12:01 INFO {JSON}\n").as_bytes(), "None JsonLines Json");
        check(&prefixed(PROTO)[..8], "None LengthPrefixed Protobuf");
        check(&PROTO[..6], "None Bare Protobuf");
        check(&prefixed(&zstd(PROTO))[..12], "ZstdFramed LengthPrefixed Protobuf");
    }

    #[test]
    fn a_prefix_is_text_before_a_whole_object() {
        for (line, text) in [
            ("12:00\tINFO {\"a\":{}}\r", Some("12:00\tINFO ")),
            ("[12:00] {\"a\":1}", Some("[12:00] ")),
            ("[{\"a\":1}]", None),
            ("{\"a\":1}", None),
            ("INFO {\"a\":1} done", None),
            ("INFO {\"a\":", None),
            ("INFO {}", None),
            ("INFO {id} {\"a\":1}", None),
            ("\u{2}\u{3}{\"a\":1}", None),
            ("INFO", None),
        ] {
            assert_eq!(prefix(line.as_bytes()), text.map(str::as_bytes), "{line}");
        }
    }

    #[test]
    fn nothing_is_empty() {
        for content in [&b""[..], b"\n \r\n", BYTE_ORDER_MARK, b"\xEF\xBB\xBF\r\n", &gzip(b""), &zstd(b"\n")] {
            check(content, "empty");
        }
    }

    #[test]
    fn what_is_unknown_is_shown() {
        check(
            b"\x00\x01hello",
            "no trace dump that we know (tried gzip, zstd, length-prefixed zstd, JSON, length-prefixed protobuf, protobuf); \
             it begins 00 01 68 65 6c 6c 6f |..hello|",
        );
        check(
            &zstd(b"a,b\n1,2\n"),
            "no trace dump that we know within zstd (tried JSON, length-prefixed protobuf, protobuf); \
             it begins 61 2c 62 0a 31 2c 32 0a |a,b.1,2.|",
        );
        check(b"PAR1....", "Parquet and Arrow files are not supported as input");
        check(&gzip(&zstd(JSON.as_bytes())), "compressed twice: undo one of the two first");
        check(b"\x1f\x8bnot really", "begins like gzip but does not decompress: invalid gzip header");
        check(
            b"null\n",
            "no trace dump that we know (tried gzip, zstd, length-prefixed zstd, JSON, length-prefixed protobuf, protobuf); \
             it begins 6e 75 6c 6c 0a |null.|",
        );
        let missing = detect(Path::new("/nowhere/at/all")).unwrap_err().to_string();
        assert!(missing.starts_with("/nowhere/at/all: "), "{missing}");
    }
}
