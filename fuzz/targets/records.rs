//! Any bytes as a stream of records, in every framing: it ends, no record is longer than asked for, neither the pieces
//! that the stream comes in nor its compression matter, and what is written is read again.

use std::io::{BufReader, Cursor};
use std::path::Path;

use unskew::io::{Compression, Framing, Layout, ProblemKind, Record, RecordProblem, RecordWriter, Records};
use unskew::otlp::{Encoding, json};

const FRAMINGS: [(Framing, Encoding); 4] = [
    (Framing::JsonLines, Encoding::Json),
    (Framing::JsonDocument, Encoding::Json),
    (Framing::LengthPrefixed, Encoding::Protobuf),
    (Framing::Bare, Encoding::Protobuf),
];
const COMPRESSIONS: [Compression; 4] =
    [Compression::None, Compression::Gzip, Compression::Zstd, Compression::ZstdFramed];

pub type Item = Result<Record, RecordProblem>;

/// The first byte says how the others are laid out.
pub fn one(bytes: &[u8]) {
    let Some((&first, content)) = bytes.split_first() else { return };
    let choice = usize::from(first);
    let (framing, encoding) = FRAMINGS[choice % 4];
    let layout = Layout { compression: Compression::None, framing, encoding };
    let longest = if choice & 64 == 0 { 1 << 20 } else { 40 };
    let items = pieces(content, layout, longest, 1 << 16);
    bounded(&items, longest);
    for item in &items {
        let (position, bytes) = place(item);
        assert!(content[position as usize..].starts_with(bytes));
    }
    if framing == Framing::JsonDocument && matches!(content.first(), Some(b'{' | b'[')) && json::check(content).is_ok()
    {
        let is_whole = |item: &Item| item.as_ref().map_or(true, |record| record.bytes == content.trim_ascii_end());
        assert!(items.len() == 1 && is_whole(&items[0]), "one value is one record");
    }
    for size in [1, 2, 7] {
        assert_eq!(pieces(content, layout, longest, size), items, "in pieces of {size}");
    }
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("dump");
    let compression = COMPRESSIONS[choice / 4 % 4];
    if matches!(compression, Compression::Gzip | Compression::Zstd) {
        // Bare: the bytes as they are.
        write(&path, Layout { compression, framing: Framing::Bare, encoding }, [content]);
        let packed: Vec<Item> = Records::open(&path, Layout { compression, ..layout }, longest).unwrap().collect();
        assert_eq!(packed, items, "{compression:?}");
    }
    if compression != Compression::ZstdFramed || framing == Framing::LengthPrefixed {
        survives(&items, Layout { compression, ..layout }, &path);
    }
}

fn pieces(content: &[u8], layout: Layout, longest: u64, size: usize) -> Vec<Item> {
    let stream = BufReader::with_capacity(size, Cursor::new(content.to_vec()));
    Records::over(Box::new(stream), layout, longest).collect()
}

/// Records are numbered in order and no longer than asked for, each behind the one before.
pub fn bounded(items: &[Item], longest: u64) {
    let mut behind = 0;
    for (ordinal, item) in (0..).zip(items) {
        let (position, bytes) = place(item);
        assert!(position >= behind && bytes.len() as u64 <= longest);
        behind = position;
        assert!(item.as_ref().map_or(ordinal, |record| record.ordinal) == ordinal);
    }
}

/// Where an item stands, and what of it can be written.
fn place(item: &Item) -> (u64, &[u8]) {
    match item {
        Ok(record) => (record.position, &record.bytes),
        Err(problem) => (problem.position, problem.bytes.as_deref().unwrap_or_default()),
    }
}

fn write<'a>(path: &Path, layout: Layout, records: impl IntoIterator<Item = &'a [u8]>) {
    let mut writer = RecordWriter::create(path, layout).unwrap();
    records.into_iter().for_each(|record| writer.write(record).unwrap());
    writer.finish().unwrap();
}

/// Written as `fix` writes them, records are read again, and so is text that is none.
pub fn survives(items: &[Item], layout: Layout, path: &Path) {
    let kept = |item: &Item| match item {
        Ok(record) => Some(record.bytes.clone()),
        Err(problem) => problem.bytes.clone(),
    };
    let mut written: Vec<Vec<u8>> = items.iter().filter_map(kept).collect();
    // A byte order mark among text would come to stand first, and be one.
    let is_marked = |first: &Vec<u8>| layout.encoding == Encoding::Json && first.starts_with(b"\xEF\xBB\xBF");
    if written.first().is_none_or(is_marked) {
        return;
    }
    write(path, layout, written.iter().map(Vec::as_slice));
    let again: Vec<Item> = Records::open(path, layout, 1 << 24).unwrap().collect();
    let is_torn = matches!(again.last(), Some(Err(problem)) if problem.kind == ProblemKind::Torn);
    if is_torn && matches!(items.iter().rfind(|item| kept(item).is_some()), Some(Err(_))) {
        // Half a record before one that was torn off is itself the last now, and what is torn goes.
        written.pop();
    }
    let read: Vec<Vec<u8>> = again.iter().filter_map(kept).collect();
    assert_eq!(shown(&read), shown(&written), "{layout:?}");
}

fn shown(records: &[Vec<u8>]) -> Vec<String> {
    records.iter().map(|record| record.escape_ascii().to_string()).collect()
}
