//! First pass: every file's spans, compact, and what could not be read.

use std::ops::Range;
use std::sync::{PoisonError, RwLock};

use super::map_in_order;
use crate::dump::{Dump, Scanned};
use crate::io::{Input, Layout, ProblemKind, Records};
use crate::otlp::{self, Counted, Encoding};

/// What became of one file.
#[derive(Clone, Debug, Default)]
pub struct FileRead {
    /// `None`: nothing could be read.
    pub layout: Option<Layout>,
    /// Per record or problem, in order, the ordinals of its spans; `None` where there was nothing to scan.
    pub records: Vec<Option<Range<usize>>>,
    /// What was wrong, and whether it makes the run fail.
    pub problems: Vec<(String, bool)>,
}

impl FileRead {
    /// Whether anything in it was a record.
    pub fn is_read(&self) -> bool {
        self.records.iter().any(Option::is_some)
    }
}

/// All files, read once.
#[derive(Clone, Debug, Default)]
pub struct Reading {
    pub dump: Dump,
    /// One per input, in order.
    pub files: Vec<FileRead>,
}

/// Reads all inputs; what cannot be read is told, and the rest goes on.
pub fn read(inputs: &[Input], max_record: u64, mut progress: impl FnMut(u64)) -> Reading {
    let mut reading = Reading::default();
    for input in inputs {
        let mut file = FileRead::default();
        match Records::detect(&input.path, max_record) {
            Err(error) => {
                // The report says which file; where it lies on this machine is no part of it.
                let (text, path) = (error.to_string(), format!("{}: ", input.path.display()));
                file.problems.push((text.strip_prefix(&path).unwrap_or(&text).to_owned(), true));
            }
            Ok((layout, records)) => {
                file.layout = layout;
                if let Some(layout) = layout {
                    read_file(&mut reading.dump, &mut file, layout, records, &mut progress);
                } else {
                    file.problems.push(("nothing in the file".to_owned(), false));
                }
            }
        }
        reading.files.push(file);
    }
    reading.dump.settle();
    reading
}

fn read_file(
    dump: &mut Dump,
    file: &mut FileRead,
    layout: Layout,
    mut records: Records,
    progress: &mut impl FnMut(u64),
) {
    let mut unknown = Counted::default();
    // The dump is read while records are scanned and written while they are added, in turns.
    let shared = RwLock::new(dump);
    let done = map_in_order(
        &mut records,
        |record| (record.position, record.bytes.len() as u64, scan(&shared, layout.encoding, &record.bytes)),
        |mapped| {
            match mapped {
                Ok((position, length, Ok((scanned, values)))) => {
                    unknown.add_record(position, values);
                    let mut dump = shared.write().unwrap_or_else(PoisonError::into_inner);
                    let first = dump.spans.len();
                    dump.add(scanned);
                    file.records.push(Some(first..dump.spans.len()));
                    progress(length);
                }
                Ok((position, _, Err(reason))) => {
                    file.records.push(None);
                    file.problems.push((format!("record at byte {position}: {reason}; skipped"), true));
                }
                Err(problem) => {
                    file.records.push(None);
                    let fails = !matches!(problem.kind, ProblemKind::Torn | ProblemKind::Empty);
                    file.problems.push((problem.to_string(), fails));
                }
            }
            Ok(())
        },
    );
    if let Err(error) = done {
        file.problems.push((error.to_string(), true));
    }
    if unknown.count > 0 {
        // Before those of single records, of which only the first few are told.
        file.problems.insert(0, (unknown_values(&unknown), true));
    }
}

/// What to tell of attribute values that could not be read.
fn unknown_values(Counted { count, first }: &Counted) -> String {
    let values = if *count == 1 { "value" } else { "values" };
    format!(
        "{count} attribute {values} of an unknown shape, the first is {first}: these attributes are not read; \
         export them as OTLP has them, {{\"stringValue\":\"…\"}}"
    )
}

/// What is taken out of one record, and values that could not be; or why nothing is: where it is JSON of another kind,
/// what it looks like.
fn scan(dump: &RwLock<&mut Dump>, encoding: Encoding, bytes: &[u8]) -> Result<(Scanned, Counted), String> {
    let payload = otlp::scan(encoding, bytes);
    let is_foreign = match &payload {
        Ok(payload) => payload.is_foreign,
        Err(_) => encoding == Encoding::Json && bytes.trim_ascii_start().starts_with(b"["),
    };
    if is_foreign && let Some(reason) = otlp::json::foreign(bytes) {
        return Err(reason);
    }
    let dump = dump.read().unwrap_or_else(PoisonError::into_inner);
    let scanned = payload.and_then(|payload| Ok((dump.scan(&payload)?, payload.unknown_values)));
    scanned.map_err(|malformed| malformed.to_string())
}
