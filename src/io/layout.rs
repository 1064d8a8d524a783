//! How records lie in a file, and opening a file accordingly.

use std::fs::File;
use std::io::{self, BufRead, BufReader};
use std::path::Path;

use crate::otlp::Encoding;

/// How a file is compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Compression {
    None,
    /// One or several members.
    Gzip,
    /// A stream of one or several frames.
    Zstd,
    /// The Collector's own: each record a 4-byte big-endian length and one frame of that many bytes.
    ZstdFramed,
}

/// How records are told apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Framing {
    /// A record a line.
    JsonLines,
    /// Records that may span lines, one after the other.
    JsonDocument,
    /// A 4-byte big-endian length before each record.
    LengthPrefixed,
    /// The file is one record.
    Bare,
}

/// All that is needed to write a file as another was written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Layout {
    pub compression: Compression,
    pub framing: Framing,
    pub encoding: Encoding,
}

impl Layout {
    /// What a file of this layout is usually called, for one that has no name of its own.
    pub fn extension(self) -> &'static str {
        use Compression::{Gzip, Zstd, ZstdFramed};
        match (self.encoding, self.framing, self.compression) {
            (Encoding::Json, _, ZstdFramed) => "json.zstd",
            (Encoding::Json, Framing::JsonLines, Compression::None) => "jsonl",
            (Encoding::Json, Framing::JsonLines, Gzip) => "jsonl.gz",
            (Encoding::Json, Framing::JsonLines, Zstd) => "jsonl.zst",
            (Encoding::Json, _, Compression::None) => "json",
            (Encoding::Json, _, Gzip) => "json.gz",
            (Encoding::Json, _, Zstd) => "json.zst",
            (Encoding::Protobuf, _, Compression::None) => "binpb",
            (Encoding::Protobuf, _, Gzip) => "binpb.gz",
            (Encoding::Protobuf, _, Zstd) => "binpb.zst",
            (Encoding::Protobuf, _, ZstdFramed) => "binpb.zstd",
        }
    }
}

/// Large enough that a system call costs nothing per span, small enough to stay in the second cache.
const BUFFER: usize = 256 << 10;

/// Opens a file and undoes a compression of the whole; frames with a length each are the reader's to undo.
pub(super) fn open(path: &Path, compression: Compression) -> io::Result<Box<dyn BufRead + Send>> {
    let file = BufReader::with_capacity(BUFFER, File::open(path)?);
    Ok(match compression {
        Compression::None | Compression::ZstdFramed => Box::new(file),
        Compression::Gzip => Box::new(BufReader::with_capacity(BUFFER, flate2::bufread::MultiGzDecoder::new(file))),
        Compression::Zstd => Box::new(BufReader::with_capacity(BUFFER, zstd::Decoder::with_buffer(file)?)),
    })
}

/// Reads on after a signal.
pub(super) fn fill(reader: &mut (dyn BufRead + Send)) -> io::Result<&[u8]> {
    loop {
        match reader.fill_buf() {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
            Ok(_) => break,
        }
    }
    reader.fill_buf()
}
