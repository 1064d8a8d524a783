//! A file, one record at a time. Memory is bounded by one record, whatever a length claims and however well
//! the file is compressed. What is broken is a problem with its position; reading goes on behind it.

use std::collections::VecDeque;
use std::io::{self, BufRead, Read};
use std::path::Path;

use zstd::zstd_safe::{DCtx, ResetDirective};

use super::detect::{Undetected, detect, prefix};
use super::layout::{self, Compression, Framing, Layout};
use crate::otlp::json;

/// The longest record that is read unless told otherwise.
pub const MAX_RECORD: u64 = 1 << 30;

/// So much is set aside for a record before its bytes have come.
const BELIEVED: u64 = 1 << 20;

/// One record's bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    pub bytes: Vec<u8>,
    /// Where it stands in the decompressed stream; with a frame for each record, where the frame's length
    /// stands in the file.
    pub position: u64,
    /// How many records and problems came before it.
    pub ordinal: u64,
}

/// What could not be read as a record.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{reason} at byte {position}")]
pub struct RecordProblem {
    /// As in [`Record::position`].
    pub position: u64,
    pub reason: String,
    pub kind: ProblemKind,
    /// What stands there, where it can be written as it was: text that is no JSON between records that are.
    pub bytes: Option<Vec<u8>>,
}

/// What is wrong with a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ProblemKind {
    /// The file holds nothing: worth a notice, not a failure.
    Empty,
    /// The file ends within its last record; those before it are whole.
    Torn,
    /// Not JSON where JSON should be.
    NotJson,
    /// Longer than the longest that is read.
    Oversized,
    /// Does not decompress.
    Corrupt,
    /// The system could not read on.
    Unreadable,
}

/// The records of one file, in order. Ends after what cannot be read past.
pub struct Records {
    stream: Stream,
    layout: Layout,
    max_record: u64,
    ordinal: u64,
    is_done: bool,
    /// Found already, to be given out first.
    waiting: VecDeque<Result<(u64, Vec<u8>), RecordProblem>>,
    context: DCtx<'static>,
}

impl Records {
    /// Opens a file whose layout is known.
    ///
    /// # Errors
    /// Where the file cannot be opened.
    pub fn open(path: &Path, layout: Layout, max_record: u64) -> io::Result<Self> {
        Ok(Self::over(layout::open(path, layout.compression)?, layout, max_record))
    }

    /// Detects a file's layout and opens it. Without a layout it is empty, and its only item says so.
    ///
    /// # Errors
    /// Where the file cannot be read, or is nothing that we know; the text names the file.
    pub fn detect(path: &Path, max_record: u64) -> Result<(Option<Layout>, Self), Undetected> {
        let layout = detect(path)?;
        let plain = Layout {
            compression: Compression::None,
            framing: Framing::JsonLines,
            encoding: crate::otlp::Encoding::Json,
        };
        let mut records = match layout {
            Some(layout) => {
                Self::open(path, layout, max_record).map_err(|error| Undetected::unreadable(path, error))?
            }
            None => Self::over(Box::new(io::empty()), plain, max_record),
        };
        if layout.is_none() {
            records.fail(0, ProblemKind::Empty, "nothing in the file");
        }
        Ok((layout, records))
    }

    /// Over a stream from which a compression of the whole is undone already.
    pub fn over(stream: Box<dyn BufRead + Send>, layout: Layout, max_record: u64) -> Self {
        Self {
            stream: Stream { inner: stream, position: 0 },
            layout,
            max_record,
            ordinal: 0,
            is_done: false,
            waiting: VecDeque::new(),
            context: DCtx::create(),
        }
    }

    fn fail(&mut self, position: u64, kind: ProblemKind, reason: impl Into<String>) {
        self.waiting.push_back(Err(RecordProblem { position, reason: reason.into(), kind, bytes: None }));
    }

    fn not_json(&mut self, position: u64, reason: impl Into<String>, bytes: Vec<u8>) {
        let (reason, kind) = (reason.into(), ProblemKind::NotJson);
        self.waiting.push_back(Err(RecordProblem { position, reason, kind, bytes: Some(bytes) }));
    }

    fn give(&mut self, position: u64, bytes: Vec<u8>) {
        self.waiting.push_back(Ok((position, bytes)));
    }

    fn too_long(&mut self, position: u64) {
        let reason = format!("record longer than {} bytes, passed over", self.max_record);
        self.fail(position, ProblemKind::Oversized, reason);
    }

    fn torn(&mut self, position: u64) {
        self.fail(position, ProblemKind::Torn, "the file ends within a record");
    }

    /// One step: leaves an item waiting, or is done, or has passed over what is no record.
    fn advance(&mut self) {
        let position = self.stream.position;
        let advanced = match self.layout.framing {
            Framing::JsonLines => self.line(),
            Framing::JsonDocument => self.document(),
            Framing::LengthPrefixed => self.prefixed(),
            Framing::Bare => self.bare(),
        };
        if let Err(error) = advanced {
            self.broke_off(position, &error);
        }
    }

    fn broke_off(&mut self, position: u64, error: &io::Error) {
        self.is_done = true;
        let is_compressed = matches!(self.layout.compression, Compression::Gzip | Compression::Zstd);
        let kind = match error.kind() {
            io::ErrorKind::UnexpectedEof => ProblemKind::Torn,
            _ if is_compressed && error.raw_os_error().is_none() => ProblemKind::Corrupt,
            _ => ProblemKind::Unreadable,
        };
        self.fail(position, kind, error.to_string());
    }

    fn line(&mut self) -> io::Result<()> {
        if self.stream.position == 0 {
            self.stream.skip_byte_order_mark()?;
        }
        // Blank lines go by together: a file may hold a hundred million of them.
        if self.stream.skip_space()?.is_none() {
            self.is_done = true;
            return Ok(());
        }
        let position = self.stream.position;
        let mut line = Vec::new();
        let mut is_too_long = false;
        let has_end = loop {
            let more = layout::fill(&mut *self.stream.inner)?;
            if more.is_empty() {
                break false;
            }
            let end = memchr::memchr(b'\n', more);
            let part = &more[..end.unwrap_or(more.len())];
            is_too_long |= (line.len() + part.len()) as u64 > self.max_record;
            if is_too_long {
                line = Vec::new();
            } else {
                line.extend_from_slice(part);
            }
            let taken = part.len() + usize::from(end.is_some());
            self.stream.consume(taken);
            if end.is_some() {
                break true;
            }
        };
        self.is_done = !has_end;
        if is_too_long {
            self.too_long(position);
            return Ok(());
        }
        line.truncate(line.trim_ascii_end().len());
        let opens = matches!(line.first(), Some(b'{' | b'['));
        let closes = matches!(line.last(), Some(b'}' | b']'));
        match (opens, closes, has_end) {
            // A bracket may open a time as well as an array.
            _ if prefix(&line).is_some() => {
                self.not_json(position, "text before the JSON of a line (sed 's/^[^{]*//' takes it off)", line);
            }
            (true, true, true) => self.give(position, line),
            // Only the last line can be torn, and only where no line end follows: worth a closer look.
            (true, _, false) => match json::check(&line) {
                Ok(()) => self.give(position, line),
                Err(error) if error.at == line.len() => self.torn(position),
                Err(error) => self.not_json(position, format!("not JSON: {error} of the line"), line),
            },
            (false, _, _) => self.not_json(position, "line that is no JSON object", line),
            (true, false, true) => self.not_json(position, "line that is cut off", line),
        }
        Ok(())
    }

    fn document(&mut self) -> io::Result<()> {
        let mut bytes = Vec::new();
        let mut bounds = Bounds::default();
        let mut is_too_long = false;
        if self.stream.position == 0 {
            self.stream.skip_byte_order_mark()?;
        }
        let Some(first) = self.stream.skip_space()? else {
            self.is_done = true;
            return Ok(());
        };
        let position = self.stream.position;
        if !matches!(first, b'{' | b'[') {
            let mut text = Vec::new();
            if self.stream.take_line(self.max_record, &mut text)? {
                self.not_json(position, "text that is no JSON object", text);
            } else {
                self.fail(
                    position,
                    ProblemKind::NotJson,
                    "text that is no JSON object, longer than the longest record",
                );
            }
            return Ok(());
        }
        loop {
            let more = match layout::fill(&mut *self.stream.inner) {
                Ok(more) => more,
                Err(error) => {
                    // What is torn off is told once, by the error itself.
                    let torn = self.salvage(position, &bytes);
                    self.broke_off(torn.unwrap_or(self.stream.position), &error);
                    return Ok(());
                }
            };
            if more.is_empty() {
                self.is_done = true;
                if is_too_long {
                    self.too_long(position);
                } else if let Some(torn) = self.salvage(position, &bytes) {
                    self.torn(torn);
                }
                return Ok(());
            }
            let end = bounds.end(more);
            let part = &more[..end.unwrap_or(more.len())];
            is_too_long |= (bytes.len() + part.len()) as u64 > self.max_record;
            if is_too_long {
                bytes = Vec::new();
            } else {
                bytes.extend_from_slice(part);
            }
            let taken = part.len();
            self.stream.consume(taken);
            if end.is_some() {
                break;
            }
        }
        if is_too_long {
            self.too_long(position);
        } else {
            self.give(position, bytes);
        }
        Ok(())
    }

    /// A document that never closed may be one that was cut off, with whole ones after it: those begin
    /// where a line begins with a bracket. Gives the position of what is torn off at the end.
    fn salvage(&mut self, position: u64, bytes: &[u8]) -> Option<u64> {
        let mut at = 0;
        while at < bytes.len() {
            let rest = &bytes[at..];
            let here = position + at as u64;
            match json::value_end(rest) {
                Ok(end) => {
                    self.give(here, rest[..end].trim_ascii_start().to_vec());
                    at += end;
                    at = bytes.len() - bytes[at..].trim_ascii_start().len();
                }
                Err(error) => {
                    let next = memchr::memmem::find(rest, b"\n{");
                    if next.is_none() && error.at >= rest.len() {
                        return Some(here);
                    }
                    let text = rest[..next.unwrap_or(rest.len())].trim_ascii_end();
                    self.not_json(here, format!("not JSON: {} {} bytes on", error.what, error.at), text.to_vec());
                    at += next? + 1;
                }
            }
        }
        None
    }

    fn prefixed(&mut self) -> io::Result<()> {
        let position = self.stream.position;
        let mut prefix = Vec::with_capacity(4);
        if self.stream.take(4, Some(&mut prefix))? < 4 {
            self.is_done = true;
            if !prefix.is_empty() {
                self.torn(position);
            }
            return Ok(());
        }
        let length = u64::from(u32::from_be_bytes([prefix[0], prefix[1], prefix[2], prefix[3]]));
        let is_too_long = length > self.max_record;
        let mut bytes = Vec::with_capacity(if is_too_long { 0 } else { length.min(BELIEVED) as usize });
        if self.stream.take(length, (!is_too_long).then_some(&mut bytes))? < length {
            self.is_done = true;
            self.torn(position);
        } else if is_too_long {
            self.too_long(position);
        } else if self.layout.compression == Compression::ZstdFramed {
            self.frame(position, &bytes);
        } else {
            self.give(position + 4, bytes);
        }
        Ok(())
    }

    fn frame(&mut self, position: u64, frame: &[u8]) {
        match unpack(frame, &mut self.context, self.max_record) {
            Ok(bytes) if bytes.len() as u64 > self.max_record => self.too_long(position),
            Ok(bytes) => self.give(position, bytes),
            Err(error) => self.fail(position, ProblemKind::Corrupt, format!("zstd frame: {error}")),
        }
    }

    fn bare(&mut self) -> io::Result<()> {
        self.is_done = true;
        let mut bytes = Vec::new();
        self.stream.take(self.max_record, Some(&mut bytes))?;
        if layout::fill(&mut *self.stream.inner)?.is_empty() {
            self.give(0, bytes);
        } else {
            self.too_long(0);
        }
        Ok(())
    }
}

/// What is in a frame, or a byte more than `limit` of it: enough to tell that it is too long.
fn unpack(frame: &[u8], context: &mut DCtx<'static>, limit: u64) -> io::Result<Vec<u8>> {
    context
        .reset(ResetDirective::SessionOnly)
        .map_err(|code| io::Error::other(zstd::zstd_safe::get_error_name(code)))?;
    let mut bytes = Vec::new();
    zstd::Decoder::with_context(frame, context).take(limit.saturating_add(1)).read_to_end(&mut bytes)?;
    Ok(bytes)
}

impl Iterator for Records {
    type Item = Result<Record, RecordProblem>;

    fn next(&mut self) -> Option<Self::Item> {
        while self.waiting.is_empty() && !self.is_done {
            self.advance();
        }
        let item = self.waiting.pop_front()?;
        let ordinal = self.ordinal;
        self.ordinal += 1;
        Some(item.map(|(position, bytes)| Record { bytes, position, ordinal }))
    }
}

/// A stream that knows how far it was read.
struct Stream {
    inner: Box<dyn BufRead + Send>,
    position: u64,
}

impl Stream {
    fn consume(&mut self, count: usize) {
        self.inner.consume(count);
        self.position += count as u64;
    }

    /// Takes `count` bytes, or as many as there are, and says how many.
    fn take(&mut self, count: u64, mut into: Option<&mut Vec<u8>>) -> io::Result<u64> {
        let mut taken = 0;
        while taken < count {
            let more = layout::fill(&mut *self.inner)?;
            if more.is_empty() {
                break;
            }
            let part = &more[..more.len().min(usize::try_from(count - taken).unwrap_or(usize::MAX))];
            if let Some(into) = into.as_deref_mut() {
                into.extend_from_slice(part);
            }
            let length = part.len();
            self.consume(length);
            taken += length as u64;
        }
        Ok(taken)
    }

    /// The first byte that is not white space, which stays. `None`: there is none.
    fn skip_space(&mut self) -> io::Result<Option<u8>> {
        loop {
            let more = layout::fill(&mut *self.inner)?;
            if more.is_empty() {
                return Ok(None);
            }
            let text = more.trim_ascii_start();
            let (first, blank) = (text.first().copied(), more.len() - text.len());
            self.consume(blank);
            if first.is_some() {
                return Ok(first);
            }
        }
    }

    /// Takes the rest of the line, without its end; whether it was no longer than `most`.
    fn take_line(&mut self, most: u64, into: &mut Vec<u8>) -> io::Result<bool> {
        let mut is_whole = true;
        loop {
            let more = layout::fill(&mut *self.inner)?;
            let end = memchr::memchr(b'\n', more);
            let part = &more[..end.unwrap_or(more.len())];
            is_whole &= (into.len() + part.len()) as u64 <= most;
            if is_whole {
                into.extend_from_slice(part);
            }
            let (length, is_last) = (part.len() + usize::from(end.is_some()), end.is_some() || more.is_empty());
            self.consume(length);
            if is_last {
                return Ok(is_whole);
            }
        }
    }

    /// At the beginning only. A decompressor may give it in parts, so what turns out to be none is put back.
    fn skip_byte_order_mark(&mut self) -> io::Result<()> {
        let mut first = Vec::with_capacity(3);
        self.take(3, Some(&mut first))?;
        if first != b"\xEF\xBB\xBF" {
            self.position = 0;
            let rest = std::mem::replace(&mut self.inner, Box::new(io::empty()));
            self.inner = Box::new(io::Cursor::new(first).chain(rest));
        }
        Ok(())
    }
}

/// Finds the end of a bracketed JSON text that comes in pieces; what is between is for its reader to judge.
#[derive(Default)]
struct Bounds {
    depth: u64,
    in_string: bool,
    is_escaped: bool,
}

impl Bounds {
    /// How many bytes of this piece belong to the text, when it ends in it.
    fn end(&mut self, piece: &[u8]) -> Option<usize> {
        let mut at = 0;
        while at < piece.len() {
            if self.is_escaped {
                self.is_escaped = false;
            } else if self.in_string {
                at += memchr::memchr2(b'"', b'\\', &piece[at..])?;
                self.is_escaped = piece[at] == b'\\';
                self.in_string = self.is_escaped;
            } else {
                match piece[at] {
                    b'"' => self.in_string = true,
                    b'{' | b'[' => self.depth += 1,
                    b'}' | b']' => self.depth = self.depth.saturating_sub(1),
                    _ => {}
                }
                if self.depth == 0 {
                    return Some(at + 1);
                }
            }
            at += 1;
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::io::RecordWriter;
    use crate::otlp::Encoding;

    const LAYOUTS: [(Framing, Encoding); 5] = [
        (Framing::JsonLines, Encoding::Json),
        (Framing::JsonDocument, Encoding::Json),
        (Framing::LengthPrefixed, Encoding::Json),
        (Framing::LengthPrefixed, Encoding::Protobuf),
        (Framing::Bare, Encoding::Protobuf),
    ];
    const COMPRESSIONS: [Compression; 4] =
        [Compression::None, Compression::Gzip, Compression::Zstd, Compression::ZstdFramed];
    const PLAIN: Layout =
        Layout { compression: Compression::None, framing: Framing::JsonLines, encoding: Encoding::Json };

    fn in_file<T>(content: &[u8], with: impl FnOnce(&Path) -> T) -> T {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("dump");
        std::fs::write(&path, content).unwrap();
        with(&path)
    }

    /// Records as text, problems as kind and position, one a line.
    fn told(items: impl Iterator<Item = Result<Record, RecordProblem>>) -> String {
        items
            .map(|item| match item {
                Ok(record) => format!("{}\n", String::from_utf8_lossy(&record.bytes)),
                Err(problem) => format!("{:?} at {}\n", problem.kind, problem.position),
            })
            .collect()
    }

    fn check(layout: Layout, content: &[u8], max_record: u64, expected: &str) {
        let found = in_file(content, |path| told(Records::open(path, layout, max_record).unwrap()));
        assert_eq!(found.trim_end(), expected, "{layout:?} {}", String::from_utf8_lossy(content));
    }

    fn zstd(content: &[u8]) -> Vec<u8> {
        zstd::encode_all(content, 1).unwrap()
    }

    fn gzip(content: &[u8]) -> Vec<u8> {
        let mut packed = Vec::new();
        flate2::bufread::GzEncoder::new(content, flate2::Compression::fast()).read_to_end(&mut packed).unwrap();
        packed
    }

    fn prefixed(record: &[u8]) -> Vec<u8> {
        [&(record.len() as u32).to_be_bytes(), record].concat()
    }

    #[test]
    fn what_is_written_is_read_and_detected_in_every_layout() {
        let request = |name: &str| {
            let length = name.len() as u8;
            [&[0x0A, 6 + length, 0x12, 4 + length, 0x12, 2 + length, 0x2A, length], name.as_bytes()].concat()
        };
        for compression in COMPRESSIONS {
            for (framing, encoding) in LAYOUTS {
                if compression == Compression::ZstdFramed && framing != Framing::LengthPrefixed {
                    continue;
                }
                let records: Vec<Vec<u8>> = match (framing, encoding) {
                    (Framing::Bare, _) => vec![request("only")],
                    (_, Encoding::Protobuf) => vec![request("first"), Vec::new(), request(&"x".repeat(100))],
                    (Framing::JsonDocument, _) => vec![b"{\n  \"a\": \"}\\\"\"\n}".to_vec(), b"{}".to_vec()],
                    _ => vec![b"{\"a\":[1]}".to_vec(), b"{}".to_vec()],
                };
                let layout = Layout { compression, framing, encoding };
                let folder = tempfile::tempdir().unwrap();
                let path = folder.path().join("deep/down/dump");
                let mut writer = RecordWriter::create(&path, layout).unwrap();
                records.iter().for_each(|record| writer.write(record).unwrap());
                writer.finish().unwrap();
                let (detected, read) = Records::detect(&path, MAX_RECORD).unwrap();
                assert_eq!(detected, Some(layout));
                let read: Vec<_> = read.map(|record| record.unwrap()).collect();
                assert!(read.iter().map(|record| &record.bytes).eq(&records), "{layout:?}");
                assert!(read.iter().map(|record| record.ordinal).eq(0..records.len() as u64), "{layout:?}");
                if compression == Compression::None {
                    let file = std::fs::read(&path).unwrap();
                    assert!(read.iter().all(|record| file[record.position as usize..].starts_with(&record.bytes)));
                }
            }
        }
    }

    #[test]
    fn broken_lines_are_told_and_the_rest_is_kept() {
        for (content, expected) in [
            ("{\"a\":1}\n{}\n", "{\"a\":1}\n{}"),
            ("\u{feff}{}\r\n\r\n  {\"b\":2} \r\n", "{}\n{\"b\":2}"),
            ("{}\nwhat\n{}\n", "{}\nNotJson at 3\n{}"),
            ("{}\n{\"cut\":[\n{}\n", "{}\n{\"cut\":[\n{}"),
            ("{}\n{\"cut\":[1\n{}\n", "{}\nNotJson at 3\n{}"),
            ("{}\n{\"torn\":[{}", "{}\nTorn at 3"),
            ("{}\n{\"torn\":\"", "{}\nTorn at 3"),
            ("{}\n{\"a\":}", "{}\nNotJson at 3"),
            ("{}\n{\"whole\":1}", "{}\n{\"whole\":1}"),
            ("{}\nta", "{}\nNotJson at 3"),
            ("\n\n", ""),
        ] {
            // A line that ends in a bracket is a record until it is scanned.
            let expected = expected.replace("{\"cut\":[\n", "NotJson at 3\n");
            check(PLAIN, content.as_bytes(), MAX_RECORD, &expected);
        }
    }

    #[test]
    fn documents_may_span_lines_and_follow_one_another() {
        let layout = Layout { framing: Framing::JsonDocument, ..PLAIN };
        for (content, expected) in [
            ("\u{feff}{\n\"a\":\"{\"}{}\n[]", "{\n\"a\":\"{\"}\n{}\n[]"),
            ("{} what {}\n{}", "{}\nNotJson at 3\n{}"),
            ("{}\n{\n \"torn\": [", "{}\nTorn at 3"),
            ("{\n \"a\": [\n{\n \"b\": 1\n}\n{}\n", "NotJson at 0\n{\n \"b\": 1\n}\n{}"),
            ("{\n \"a\": [1,\n{\n \"b\": 1\n}\n{\"c\":", "NotJson at 0\n{\n \"b\": 1\n}\nTorn at 24"),
            ("{\"a\":\"\\\\\"}{\"b\":\"\\\"}\"}", "{\"a\":\"\\\\\"}\n{\"b\":\"\\\"}\"}"),
        ] {
            check(layout, content.as_bytes(), MAX_RECORD, expected);
        }
        check(layout, b"{\"a\":\"0123456789\"}{}", 10, "Oversized at 0\n{}");
        check(layout, b"{\"a\":\"0123456789", 10, "Oversized at 0");
    }

    #[test]
    fn lengths_are_not_believed() {
        let layout = Layout { framing: Framing::LengthPrefixed, encoding: Encoding::Protobuf, ..PLAIN };
        check(layout, &[prefixed(b"one"), prefixed(b"two")[..6].to_vec()].concat(), MAX_RECORD, "one\nTorn at 7");
        check(layout, &[prefixed(b"one"), vec![0, 0]].concat(), MAX_RECORD, "one\nTorn at 7");
        check(layout, &[&prefixed(b"one")[..], b"\xff\xff\xff\xffx"].concat(), u64::MAX, "one\nTorn at 7");
        let long = [prefixed(b"one"), prefixed(b"much longer"), prefixed(b"two")].concat();
        check(layout, &long, 5, "one\nOversized at 7\ntwo");
        check(PLAIN, b"{}\n{\"long\":1}\n{}\n{\"long\":2}", 5, "{}\nOversized at 3\n{}\nOversized at 17");
        check(Layout { framing: Framing::Bare, ..layout }, b"0123456789", 5, "Oversized at 0");
        check(Layout { framing: Framing::Bare, ..layout }, b"01234", 5, "01234");
    }

    #[test]
    fn frames_break_alone() {
        let layout = Layout {
            compression: Compression::ZstdFramed,
            framing: Framing::LengthPrefixed,
            encoding: Encoding::Protobuf,
        };
        let (one, two) = (prefixed(&zstd(b"one")), prefixed(&zstd(b"two")));
        let mut broken = one.clone();
        broken[6] ^= 0xFF;
        let cut = prefixed(&zstd(b"some text that is cut")[..15]);
        let bomb = prefixed(&zstd(&vec![0; 1 << 20]));
        assert_eq!(unpack(&bomb[4..], &mut DCtx::create(), 100).unwrap().len(), 101);
        let after = |before: &[&[u8]]| before.iter().map(|part| part.len()).sum::<usize>();
        check(layout, &[&one[..], &broken, &two].concat(), 100, &format!("one\nCorrupt at {}\ntwo", one.len()));
        check(layout, &[&one[..], &cut, &two].concat(), 100, &format!("one\nCorrupt at {}\ntwo", one.len()));
        check(layout, &[&one[..], &bomb, &two].concat(), 100, &format!("one\nOversized at {}\ntwo", one.len()));
        check(
            layout,
            &[&one[..], &two, &two[..9]].concat(),
            100,
            &format!("one\ntwo\nTorn at {}", after(&[&one, &two])),
        );
    }

    #[test]
    fn compressed_streams_come_in_parts_and_break_off() {
        let text = b"{\"a\":1}\n{\"b\":2}\n".repeat(5000);
        let whole = String::from_utf8(text.clone()).unwrap();
        for (compression, pack) in [(Compression::Gzip, gzip as fn(&[u8]) -> Vec<u8>), (Compression::Zstd, zstd)] {
            let layout = Layout { compression, ..PLAIN };
            // Parts end where they like.
            let parts = [pack(&text[..12_345]), pack(&text[12_345..])].concat();
            check(layout, &parts, MAX_RECORD, whole.trim_end());
            let broken_off = &parts[..parts.len() - 10];
            let items: Vec<_> = in_file(broken_off, |path| Records::open(path, layout, 100).unwrap().collect());
            let kinds: Vec<_> =
                items.iter().filter_map(|item| item.as_ref().err()).map(|problem| problem.kind).collect();
            assert_eq!(kinds, [ProblemKind::Torn], "{compression:?}");
            assert!(items.len() > 12_345 / 8, "{compression:?}: {}", items.len());
            let document = Layout { framing: Framing::JsonDocument, ..layout };
            let items: Vec<_> = in_file(broken_off, |path| Records::open(path, document, 100).unwrap().collect());
            assert_eq!(items.iter().filter(|item| item.is_err()).count(), 1, "{compression:?}");
            let salvaged = pack(b"{\"a\":[1,\n{}\n{\"b\":");
            check(document, &salvaged[..salvaged.len() - 3], MAX_RECORD, "NotJson at 0\n{}\nTorn at 12");
            let junk = [pack(b"{}\n"), vec![b'?'; 30]].concat();
            check(layout, &junk, MAX_RECORD, "{}\nCorrupt at 3");
        }
    }

    #[test]
    fn a_byte_order_mark_may_come_in_parts() {
        let layout = Layout { compression: Compression::Gzip, ..PLAIN };
        for (text, expected) in [
            (&b"\xEF\xBB\xBF{}\n"[..], "{}"),
            (b"\xEF\xBB{}\n", "NotJson at 0"),
            (b"{}\n", "{}"),
            (b"\xEF", "NotJson at 0"),
        ] {
            let parts: Vec<u8> = text.iter().flat_map(|byte| gzip(&[*byte])).collect();
            check(layout, &parts, MAX_RECORD, expected);
        }
    }

    #[test]
    fn a_bomb_counts_by_its_records() {
        let mut text = vec![b'x'; 64 << 20];
        text.extend_from_slice(b"\n{}\n");
        let layout = Layout { compression: Compression::Gzip, ..PLAIN };
        check(layout, &gzip(&text), 1 << 20, "Oversized at 0\n{}");
    }

    #[test]
    fn an_empty_file_says_so() {
        for content in [&b""[..], b"\n\n", &gzip(b"")] {
            let told = in_file(content, |path| {
                let (layout, records) = Records::detect(path, MAX_RECORD).unwrap();
                assert_eq!(layout, None);
                told(records)
            });
            assert_eq!(told, "Empty at 0\n");
        }
    }

    proptest! {
        #[test]
        fn any_bytes_end_without_a_panic(
            content in prop_oneof![
                prop::collection::vec(any::<u8>(), 0..200),
                r#"([{}\[\]",:\n\\a1 ]|\{\}\n|\n\{){0,40}"#.prop_map(String::into_bytes),
            ],
            wrap in 0..4usize,
        ) {
            let content = match wrap {
                1 => gzip(&content),
                2 => zstd(&content),
                3 => prefixed(&zstd(&content)),
                _ => content,
            };
            in_file(&content, |path| {
                if let Ok((_, records)) = Records::detect(path, 64) {
                    prop_assert!(records.count() <= content.len() + 200);
                }
                for compression in COMPRESSIONS {
                    for (framing, encoding) in LAYOUTS {
                        let layout = Layout { compression, framing, encoding };
                        if let Ok(records) = Records::open(path, layout, 64) {
                            prop_assert!(records.count() <= content.len() + 200);
                        }
                    }
                }
                Ok(())
            })?;
        }

        #[test]
        fn pieces_do_not_matter_to_bounds(text in r#"[{\[]([{}\[\]"\\a]){0,40}"#, cut in any::<prop::sample::Index>()) {
            let whole = Bounds::default().end(text.as_bytes());
            let cut = cut.index(text.len());
            let mut bounds = Bounds::default();
            let (first, second) = text.as_bytes().split_at(cut);
            let found = bounds.end(first).or_else(|| bounds.end(second).map(|end| cut + end));
            prop_assert_eq!(found, whole);
        }
    }
}
