//! Writing as the input was written. A file appears under its name only when it is whole.

use std::ffi::OsString;
use std::fs::{self, File};
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

use anyhow::Context;

use super::layout::{Compression, Framing, Layout};

/// zstd's own default, and the Collector's.
const ZSTD_LEVEL: i32 = 3;

/// Writes records in a layout, under a temporary name until [`RecordWriter::finish`]; dropped before that, it
/// leaves nothing behind.
pub struct RecordWriter {
    // Before the guard: the file is closed when it is removed.
    sink: Sink,
    unfinished: Unfinished,
    layout: Layout,
}

enum Sink {
    Plain(BufWriter<File>),
    Gzip(flate2::write::GzEncoder<BufWriter<File>>),
    Zstd(zstd::Encoder<'static, BufWriter<File>>),
    ZstdFramed(BufWriter<File>, zstd::bulk::Compressor<'static>),
}

impl RecordWriter {
    /// Begins a file, and the folders above it.
    ///
    /// # Errors
    /// Where that is not possible; the text names the file.
    pub fn create(path: &Path, layout: Layout) -> anyhow::Result<Self> {
        let (unfinished, file) = Unfinished::create(path)?;
        let file = BufWriter::with_capacity(256 << 10, file);
        let sink = match layout.compression {
            Compression::None => Ok(Sink::Plain(file)),
            Compression::Gzip => Ok(Sink::Gzip(flate2::write::GzEncoder::new(file, flate2::Compression::default()))),
            Compression::Zstd => zstd::Encoder::new(file, ZSTD_LEVEL).map(Sink::Zstd),
            Compression::ZstdFramed => {
                zstd::bulk::Compressor::new(ZSTD_LEVEL).map(|compressor| Sink::ZstdFramed(file, compressor))
            }
        };
        Ok(Self { sink: sink.with_context(|| path.display().to_string())?, unfinished, layout })
    }

    /// Adds a record.
    ///
    /// # Errors
    /// Where it cannot be written; the text names the file.
    pub fn write(&mut self, record: &[u8]) -> anyhow::Result<()> {
        let framing = self.layout.framing;
        let written = match &mut self.sink {
            Sink::Plain(sink) => write_framed(sink, framing, record),
            Sink::Gzip(sink) => write_framed(sink, framing, record),
            Sink::Zstd(sink) => write_framed(sink, framing, record),
            Sink::ZstdFramed(sink, compressor) => {
                compressor.compress(record).and_then(|frame| write_framed(sink, Framing::LengthPrefixed, &frame))
            }
        };
        written.with_context(|| self.unfinished.target.display().to_string())
    }

    /// Ends the file and gives it its name.
    ///
    /// # Errors
    /// Where it cannot be written or named; the text names the file.
    pub fn finish(self) -> anyhow::Result<()> {
        let ended = match self.sink {
            Sink::Plain(sink) | Sink::ZstdFramed(sink, _) => Ok(sink),
            Sink::Gzip(sink) => sink.finish(),
            Sink::Zstd(sink) => sink.finish(),
        };
        let flushed = ended.and_then(|sink| sink.into_inner().map_err(io::IntoInnerError::into_error));
        flushed.with_context(|| self.unfinished.target.display().to_string())?;
        self.unfinished.rename()
    }
}

fn write_framed(sink: &mut impl Write, framing: Framing, record: &[u8]) -> io::Result<()> {
    if framing == Framing::LengthPrefixed {
        let length = u32::try_from(record.len())
            .map_err(|_| io::Error::other("record of 4 GiB and more, which a length of 4 bytes cannot tell"))?;
        sink.write_all(&length.to_be_bytes())?;
    }
    sink.write_all(record)?;
    if matches!(framing, Framing::JsonLines | Framing::JsonDocument) {
        sink.write_all(b"\n")?;
    }
    Ok(())
}

/// Writes a file whole or not at all, on disk before it has its name.
///
/// # Errors
/// Where it cannot be written or named; the text names the file.
pub fn atomic_write(path: &Path, bytes: &[u8]) -> anyhow::Result<()> {
    let (unfinished, mut file) = Unfinished::create(path)?;
    file.write_all(bytes).and_then(|()| file.sync_data()).with_context(|| path.display().to_string())?;
    unfinished.rename()
}

/// A file under its temporary name: removed unless it is renamed.
struct Unfinished {
    temporary: PathBuf,
    target: PathBuf,
    is_named: bool,
}

impl Unfinished {
    /// In the target's own folder, as renaming does not cross file systems. The process is part of the name, so
    /// that two runs do not write into one file; the dot keeps it out of folders that are read as input.
    fn create(target: &Path) -> anyhow::Result<(Self, File)> {
        let named = || target.display().to_string();
        let name = target.file_name().context("not a file name").with_context(named)?;
        let mut hidden = OsString::from(".");
        hidden.push(name);
        hidden.push(format!(".{}.part", std::process::id()));
        let temporary = target.with_file_name(hidden);
        if let Some(folder) = target.parent() {
            fs::create_dir_all(folder).with_context(named)?;
        }
        let file = File::create(&temporary).with_context(named)?;
        Ok((Self { temporary, target: target.to_owned(), is_named: false }, file))
    }

    fn rename(mut self) -> anyhow::Result<()> {
        fs::rename(&self.temporary, &self.target).with_context(|| self.target.display().to_string())?;
        self.is_named = true;
        Ok(())
    }
}

impl Drop for Unfinished {
    fn drop(&mut self) {
        if !self.is_named {
            // Nobody to tell, and nothing to do about it.
            let _ = fs::remove_file(&self.temporary);
        }
    }
}

/// A file that appears under its name when it is whole; for writers that stream.
pub struct AtomicFile {
    // Before the guard: the file is closed when it is removed.
    file: BufWriter<File>,
    unfinished: Unfinished,
}

impl AtomicFile {
    /// Begins a file, and the folders above it.
    ///
    /// # Errors
    /// Where that is not possible; the text names the file.
    pub fn create(path: &Path) -> anyhow::Result<Self> {
        let (unfinished, file) = Unfinished::create(path)?;
        Ok(Self { file: BufWriter::with_capacity(1 << 20, file), unfinished })
    }

    /// Gives the file its name.
    ///
    /// # Errors
    /// Where what is left cannot be written, or the name not given.
    pub fn finish(self) -> anyhow::Result<()> {
        let file = self.file.into_inner().map_err(io::IntoInnerError::into_error)?;
        file.sync_data().with_context(|| self.unfinished.target.display().to_string())?;
        self.unfinished.rename()
    }
}

impl Write for AtomicFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.file.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::otlp::Encoding;

    const LINES: Layout =
        Layout { compression: Compression::None, framing: Framing::JsonLines, encoding: Encoding::Json };

    fn names(folder: &Path) -> Vec<String> {
        let mut names: Vec<_> =
            fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    #[test]
    fn a_file_has_its_name_only_when_whole() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("dump.jsonl");
        fs::write(&path, "old").unwrap();
        let mut writer = RecordWriter::create(&path, LINES).unwrap();
        writer.write(b"{}").unwrap();
        assert_eq!(names(folder.path()).len(), 2);
        assert_eq!(fs::read(&path).unwrap(), b"old");
        drop(writer);
        assert_eq!(names(folder.path()), ["dump.jsonl"]);

        let mut writer = RecordWriter::create(&path, LINES).unwrap();
        writer.write(b"{}").unwrap();
        writer.finish().unwrap();
        assert_eq!(names(folder.path()), ["dump.jsonl"]);
        assert_eq!(fs::read(&path).unwrap(), b"{}\n");
    }

    #[test]
    fn atomic_write_replaces() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("new/summary.json");
        atomic_write(&path, b"1").unwrap();
        atomic_write(&path, b"22").unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"22");
        assert_eq!(names(path.parent().unwrap()), ["summary.json"]);
    }

    #[test]
    fn errors_name_the_file() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("file"), "").unwrap();
        let path = folder.path().join("file/below");
        assert!(atomic_write(&path, b"").unwrap_err().to_string().ends_with("file/below"));
        assert!(RecordWriter::create(&path, LINES).is_err());
        fs::create_dir(folder.path().join("taken")).unwrap();
        assert!(atomic_write(&folder.path().join("taken"), b"").is_err());
        assert_eq!(names(folder.path()), ["file", "taken"]);
    }
}
