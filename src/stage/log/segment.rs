//! The files of one segment: written in groups, and read again after a crash up to where they are whole.

use std::fs::{self, File, OpenOptions};
use std::io::{self, BufReader, BufWriter, Read, Seek, SeekFrom, Write};
use std::ops::Range;
use std::path::{Path, PathBuf};

use bytes::Bytes;

use super::entry::{ENTRY_BYTES, Entry, MAGIC, hash, written_hash};
use super::number;
use crate::stage::request::Encoding;

/// A request that is to be recorded.
pub(super) struct Received {
    pub encoding: Encoding,
    /// As it was received, decompressed.
    pub bytes: Bytes,
    pub hash: u128,
    pub spans: u32,
    pub arrival_ns: i64,
}

/// The folders of a log.
#[derive(Clone, Debug)]
pub struct Folders {
    dumps: PathBuf,
    index: PathBuf,
    windows: PathBuf,
}

impl Folders {
    /// Makes them where they are not there.
    ///
    /// # Errors
    /// Where they cannot be made.
    pub fn below(out: &Path) -> io::Result<Self> {
        let folders = Self { dumps: out.join("log"), index: out.join("index"), windows: out.join("windows") };
        for folder in [&folders.dumps, &folders.index, &folders.windows] {
            fs::create_dir_all(folder)?;
            sync_folder(folder)?;
        }
        sync_folder(out)?;
        Ok(folders)
    }

    fn dump(&self, name: &str, encoding: Encoding) -> PathBuf {
        self.dumps.join(match encoding {
            Encoding::Protobuf => format!("{name}.binpb"),
            Encoding::Json => format!("{name}.json"),
        })
    }

    fn index(&self, name: &str) -> PathBuf {
        self.index.join(format!("{name}.index"))
    }

    /// The dumps of a segment that are there.
    pub fn dumps_of(&self, name: &str) -> Vec<PathBuf> {
        let both = [Encoding::Protobuf, Encoding::Json].map(|encoding| self.dump(name, encoding));
        both.into_iter().filter(|path| path.exists()).collect()
    }

    /// Removes a segment's dumps. Its index stays while it is one of the last two, for what is sent again.
    ///
    /// # Errors
    /// Where a file cannot be removed.
    pub fn remove(&self, name: &str) -> io::Result<()> {
        self.dumps_of(name).iter().try_for_each(fs::remove_file)?;
        let names = self.segments()?;
        let gone = names.iter().rev().skip(2).filter(|name| self.dumps_of(name).is_empty());
        gone.into_iter().try_for_each(|name| fs::remove_file(self.index(name)))
    }

    /// When the first and the last request of a segment came, ns; `None` where it has none.
    ///
    /// # Errors
    /// Where its index cannot be read.
    pub fn arrivals(&self, name: &str) -> io::Result<Option<(i64, i64)>> {
        let entries = self.entries(name)?;
        let arrivals = || entries.iter().map(|entry| entry.arrival_ns);
        Ok(arrivals().min().zip(arrivals().max()))
    }

    /// Copies a segment's requests that came at these times to dumps of their own, behind what is there.
    ///
    /// # Errors
    /// Where they cannot be read, or not be written.
    pub fn copy(&self, name: &str, within: &Range<i64>, to: &mut Dumps) -> io::Result<()> {
        for encoding in [Encoding::Protobuf, Encoding::Json] {
            let path = self.dump(name, encoding);
            let entries = self.entries(name)?.into_iter();
            let wanted = entries.filter(|it| it.encoding == encoding && within.contains(&it.arrival_ns));
            let mut dump = Dump::open(&path);
            for entry in wanted {
                // A dump may go while it is read.
                let Some(bytes) = dump.read(&entry) else { return Ok(()) };
                to.push(encoding, &bytes)?;
            }
        }
        Ok(())
    }

    /// What an index says of its segment, up to what is not whole.
    fn entries(&self, name: &str) -> io::Result<Vec<Entry>> {
        let mut index = BufReader::new(File::open(self.index(name))?);
        let (mut magic, mut line, mut entries) = ([0; MAGIC.len()], [0; ENTRY_BYTES], Vec::new());
        if index.read_exact(&mut magic).is_ok() && magic == MAGIC {
            while index.read_exact(&mut line).is_ok() {
                let Some(entry) = Entry::read(&line) else { break };
                entries.push(entry);
            }
        }
        Ok(entries)
    }

    /// Moves a segment's dumps to another folder.
    ///
    /// # Errors
    /// Where one cannot be moved.
    pub fn put_aside(&self, name: &str, folder: &Path) -> io::Result<()> {
        fs::create_dir_all(folder)?;
        for path in self.dumps_of(name) {
            fs::rename(&path, folder.join(path.file_name().unwrap_or_default()))?;
        }
        Ok(())
    }

    /// Names of segments, the oldest first.
    ///
    /// # Errors
    /// Where the folder cannot be read.
    pub fn segments(&self) -> io::Result<Vec<String>> {
        let mut names = Vec::new();
        for entry in fs::read_dir(&self.index)? {
            let name = entry?.file_name();
            names.extend(name.to_str().and_then(|name| name.strip_suffix(".index")).map(str::to_owned));
        }
        names.sort_by_key(|name| number(name));
        Ok(names)
    }

    /// The largest number that a segment has or had: a window's folder has its name.
    pub(super) fn last_number(&self) -> io::Result<u64> {
        let mut last = 0;
        for folder in [&self.index, &self.dumps, &self.windows] {
            for entry in fs::read_dir(folder)? {
                let name = entry?.file_name();
                let stem = name.to_str().map_or("", |name| name.split('.').next().unwrap_or(name));
                last = last.max(number(stem));
            }
        }
        Ok(last)
    }

    /// Bytes of all files.
    pub fn length(&self) -> io::Result<u64> {
        let mut length = 0;
        for folder in [&self.dumps, &self.index] {
            for entry in fs::read_dir(folder)? {
                length += entry?.metadata()?.len();
            }
        }
        Ok(length)
    }
}

fn sync_folder(folder: &Path) -> io::Result<()> {
    File::open(folder)?.sync_all()
}

/// A file and how long it is as far as it counts.
struct Grown {
    file: File,
    length: u64,
}

impl Grown {
    fn new(path: &Path) -> io::Result<Self> {
        let file = OpenOptions::new().write(true).create_new(true).open(path)?;
        Ok(Self { file, length: 0 })
    }

    fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.file.seek(SeekFrom::Start(self.length))?;
        self.file.write_all(bytes)
    }
}

/// A segment that is written.
pub(super) struct Segment {
    folders: Folders,
    pub name: String,
    index: Grown,
    protobuf: Option<Grown>,
    json: Option<Grown>,
    pub spans: u64,
}

impl Segment {
    pub fn new(folders: &Folders, name: String) -> io::Result<Self> {
        Self::begin(folders, &name).inspect_err(|_| discard(folders, &name))
    }

    fn begin(folders: &Folders, name: &str) -> io::Result<Self> {
        let mut index = Grown::new(&folders.index(name))?;
        index.append(&MAGIC)?;
        index.file.sync_all()?;
        index.length = MAGIC.len() as u64;
        sync_folder(&folders.index)?;
        Ok(Self { folders: folders.clone(), name: name.to_owned(), index, protobuf: None, json: None, spans: 0 })
    }

    /// Removes its files, where it holds nothing: a full disk is not to be filled with empty ones.
    pub fn discard_if_empty(&self) -> bool {
        let is_empty = self.spans == 0;
        if is_empty {
            discard(&self.folders, &self.name);
        }
        is_empty
    }

    /// Adds requests, and returns when they are on disk: how many bytes they took.
    ///
    /// # Errors
    /// Where they are not; then none of them is there.
    pub fn append(&mut self, group: &[Received]) -> io::Result<u64> {
        let before = [self.protobuf.as_ref(), self.json.as_ref()].map(|dump| dump.map_or(0, |dump| dump.length));
        let done = self.try_append(group);
        if done.is_err() {
            // What is left there counts for nothing, but a dump must end with a whole record.
            for (dump, length) in [&mut self.protobuf, &mut self.json].into_iter().flatten().zip(before) {
                dump.length = length;
                let _ = dump.file.set_len(length);
            }
            let _ = self.index.file.set_len(self.index.length);
        }
        done
    }

    fn try_append(&mut self, group: &[Received]) -> io::Result<u64> {
        let mut entries = Vec::with_capacity(group.len() * ENTRY_BYTES);
        let (mut written, mut spans) = (0, 0);
        for encoding in [Encoding::Protobuf, Encoding::Json] {
            let mut bytes = Vec::new();
            let slot = if encoding == Encoding::Json { &mut self.json } else { &mut self.protobuf };
            let start = slot.as_ref().map_or(0, |dump| dump.length);
            for received in group.iter().filter(|received| received.encoding == encoding) {
                let content = put(received, &mut bytes);
                let entry = Entry {
                    encoding,
                    offset: start + content.start as u64,
                    length: content.len() as u32,
                    spans: received.spans,
                    arrival_ns: received.arrival_ns,
                    hash: received.hash,
                    written_hash: written_hash(&bytes[content]),
                };
                entries.extend(entry.write());
                spans += u64::from(received.spans);
            }
            if bytes.is_empty() {
                continue;
            }
            let dump = match slot {
                Some(dump) => dump,
                None => {
                    let made = Grown::new(&self.folders.dump(&self.name, encoding))?;
                    sync_folder(&self.folders.dumps)?;
                    slot.insert(made)
                }
            };
            dump.append(&bytes)?;
            dump.file.sync_data()?;
            dump.length += bytes.len() as u64;
            written += bytes.len() as u64;
        }
        self.index.append(&entries)?;
        self.index.file.sync_data()?;
        self.index.length += entries.len() as u64;
        self.spans += spans;
        Ok(written + entries.len() as u64)
    }
}

fn discard(folders: &Folders, name: &str) {
    let files = [folders.index(name), folders.dump(name, Encoding::Protobuf), folders.dump(name, Encoding::Json)];
    // What is not there, or cannot be removed, holds nothing.
    files.iter().for_each(|path| drop(fs::remove_file(path)));
}

/// Puts a request as its dump has it, and returns where its content stands: behind its length, or on one line.
fn put(received: &Received, out: &mut Vec<u8>) -> std::ops::Range<usize> {
    match received.encoding {
        Encoding::Protobuf => {
            out.extend((received.bytes.len() as u32).to_be_bytes());
            let start = out.len();
            out.extend_from_slice(&received.bytes);
            start..out.len()
        }
        Encoding::Json => {
            let start = out.len();
            // Outside of texts, where alone JSON has line breaks, they are as good as spaces.
            out.extend(received.bytes.iter().map(|byte| if matches!(byte, b'\n' | b'\r') { b' ' } else { *byte }));
            out.push(b'\n');
            start..out.len() - 1
        }
    }
}

/// What a segment holds, and how much of its files was cut off as it was not whole.
pub(super) struct Recovered {
    pub entries: Vec<Entry>,
    pub cut_bytes: u64,
}

/// Reads a segment that a crash may have ended, up to the first request that is not whole in dump and index, and cuts off
/// what is behind it: nothing of that was acknowledged.
pub(super) fn recover(folders: &Folders, name: &str) -> io::Result<Recovered> {
    let index_path = folders.index(name);
    let mut dumps = [Encoding::Protobuf, Encoding::Json].map(|encoding| Dump::open(&folders.dump(name, encoding)));
    // Dumps that went as they were written into a window's tables.
    let is_done = folders.dumps_of(name).is_empty();
    let mut holds = |entry: &Entry| {
        let [protobuf, json] = &mut dumps;
        let dump = if entry.encoding == Encoding::Json { json } else { protobuf };
        is_done || dump.read(entry).is_some()
    };
    let mut entries = folders.entries(name)?;
    let whole = entries.iter().position(|entry| !holds(entry)).unwrap_or(entries.len());
    entries.truncate(whole);
    let mut cut_bytes = cut(&index_path, (MAGIC.len() + entries.len() * ENTRY_BYTES) as u64)?;
    for encoding in [Encoding::Protobuf, Encoding::Json] {
        let path = folders.dump(name, encoding);
        let ends = entries.iter().filter(|entry| entry.encoding == encoding).map(|entry| {
            // JSON has a line break behind it.
            entry.offset + u64::from(entry.length) + u64::from(encoding == Encoding::Json)
        });
        let end = ends.max().unwrap_or(0);
        if path.exists() {
            cut_bytes += cut(&path, end)?;
        }
    }
    Ok(Recovered { entries, cut_bytes })
}

/// Shortens a file, and tells by how much.
fn cut(path: &Path, length: u64) -> io::Result<u64> {
    let file = OpenOptions::new().write(true).open(path)?;
    let before = file.metadata()?.len();
    if before > length {
        file.set_len(length)?;
        file.sync_all()?;
    }
    Ok(before.saturating_sub(length))
}

/// A dump that is read again.
struct Dump(Option<BufReader<File>>);

impl Dump {
    fn open(path: &Path) -> Self {
        Self(File::open(path).ok().map(BufReader::new))
    }

    /// The bytes of a request; `None` where they are not there as its entry has it.
    fn read(&mut self, entry: &Entry) -> Option<Vec<u8>> {
        let file = self.0.as_mut()?;
        let mut bytes = Vec::new();
        file.seek(SeekFrom::Start(entry.offset)).ok()?;
        file.take(u64::from(entry.length) + 1).read_to_end(&mut bytes).ok()?;
        let ends_well = entry.encoding == Encoding::Protobuf || bytes.get(entry.length as usize) == Some(&b'\n');
        bytes.truncate(entry.length as usize);
        let is_same = entry.encoding == Encoding::Json || hash(&bytes) == entry.hash;
        let is_whole = bytes.len() == entry.length as usize && ends_well && is_same;
        (is_whole && written_hash(&bytes) == entry.written_hash).then_some(bytes)
    }
}

/// Dumps of requests that are copied, one for each encoding.
pub struct Dumps {
    stem: PathBuf,
    files: [Option<BufWriter<File>>; 2],
}

impl Dumps {
    /// None yet: a file is made with the first request that it has.
    pub fn at(stem: &Path) -> Self {
        Self { stem: stem.to_owned(), files: [None, None] }
    }

    fn push(&mut self, encoding: Encoding, bytes: &[u8]) -> io::Result<()> {
        let is_json = encoding == Encoding::Json;
        let slot = &mut self.files[usize::from(is_json)];
        let file = match slot {
            Some(file) => file,
            None => {
                let path = self.stem.with_extension(if is_json { "json" } else { "binpb" });
                slot.insert(BufWriter::new(File::create(path)?))
            }
        };
        if is_json {
            file.write_all(bytes)?;
            file.write_all(b"\n")
        } else {
            file.write_all(&(bytes.len() as u32).to_be_bytes())?;
            file.write_all(bytes)
        }
    }

    /// The files that were written.
    ///
    /// # Errors
    /// Where one could not be.
    pub fn finish(self) -> io::Result<Vec<PathBuf>> {
        let mut paths = Vec::new();
        for (file, extension) in self.files.into_iter().zip(["binpb", "json"]) {
            if let Some(mut file) = file {
                file.flush()?;
                paths.push(self.stem.with_extension(extension));
            }
        }
        Ok(paths)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn received(number: u32) -> Received {
        let encoding = if number.is_multiple_of(3) { Encoding::Json } else { Encoding::Protobuf };
        let text = format!("{{\n \"number\":\t{number}}}\r\n{}", " ".repeat(number as usize % 50));
        let bytes = Bytes::from(text);
        Received { encoding, hash: hash(&bytes), bytes, spans: number, arrival_ns: i64::from(number) }
    }

    fn written(folder: &Path, groups: &[u32]) -> (Folders, Vec<u128>) {
        let folders = Folders::below(folder).unwrap();
        let mut segment = Segment::new(&folders, "w-1".to_owned()).unwrap();
        let (mut number, mut hashes) = (0, Vec::new());
        for size in groups {
            let group: Vec<Received> = (number..number + size).map(received).collect();
            number += size;
            segment.append(&group).unwrap();
            // Protobuf stands before JSON in a group.
            for encoding in [Encoding::Protobuf, Encoding::Json] {
                hashes.extend(group.iter().filter(|it| it.encoding == encoding).map(|it| it.hash));
            }
        }
        (folders, hashes)
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(48))]

        /// Whatever a crash leaves of the files: what is read again is a beginning of what was written, whole, and reading it
        /// once more finds nothing else to cut off.
        #[test]
        fn what_is_torn_is_cut_off_and_the_rest_is_read(
            groups in prop::collection::vec(1u32..6, 1..6), which in 0..3usize, keep in 0.0..1.0f64, garbage: bool,
        ) {
            let folder = tempfile::tempdir().unwrap();
            let (folders, hashes) = written(folder.path(), &groups);
            let path = match which {
                0 => folders.index("w-1"),
                1 => folders.dump("w-1", Encoding::Protobuf),
                _ => folders.dump("w-1", Encoding::Json),
            };
            if path.exists() {
                let mut bytes = fs::read(&path).unwrap();
                bytes.truncate((bytes.len() as f64 * keep) as usize);
                if garbage {
                    bytes.extend([0; 200]);
                }
                fs::write(&path, &bytes).unwrap();
            }
            let first = recover(&folders, "w-1").unwrap();
            let read: Vec<u128> = first.entries.iter().map(|entry| entry.hash).collect();
            prop_assert_eq!(&read[..], &hashes[..read.len()]);
            let again = recover(&folders, "w-1").unwrap();
            prop_assert_eq!((again.entries.len(), again.cut_bytes), (read.len(), 0));
        }
    }

    #[test]
    fn what_is_whole_is_read_to_the_last() {
        let folder = tempfile::tempdir().unwrap();
        let (folders, hashes) = written(folder.path(), &[3, 1, 4]);
        let recovered = recover(&folders, "w-1").unwrap();
        assert_eq!(recovered.entries.iter().map(|entry| entry.hash).collect::<Vec<_>>(), hashes);
        assert_eq!(recovered.cut_bytes, 0);
        let json = fs::read_to_string(folders.dump("w-1", Encoding::Json)).unwrap();
        assert_eq!(json.lines().count(), recovered.entries.iter().filter(|it| it.encoding == Encoding::Json).count());
    }
}
