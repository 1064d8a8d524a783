//! Second pass: every record once more, its spans at their new times.

use std::collections::BTreeMap;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, Result};
use arrow::array::RecordBatch;
use parquet::arrow::ArrowWriter;

use super::map_in_order;
use super::read::FileRead;
use crate::apply::{self, Placement};
use crate::clock::{ClockMap, LocalTime};
use crate::correct::{self, Corrected, EndHabit, Recorded};
use crate::io::{AtomicFile, Compression, Framing, Input, Layout, RecordWriter, Records};
use crate::otlp::{self, Counted, Encoding, EventView, Payload, RecordView, SpanEdit, SpanView, TimeField};
use crate::pair::Paired;
use crate::report::{self, Metadata, Row, Rows};
use crate::span::Marks;

/// What is to be written, and where.
#[derive(Clone, Debug)]
pub struct Outputs<'a> {
    pub folder: &'a Path,
    pub parquet: bool,
    pub same: bool,
    pub otlp_proto: bool,
    /// Add marks to moved spans.
    pub annotate: bool,
    pub max_record: u64,
}

impl Outputs<'_> {
    fn same_path(&self, input: &Input) -> Option<PathBuf> {
        self.same.then(|| Path::new("corrected").join(&input.target))
    }

    fn proto_path(&self, input: &Input) -> Option<PathBuf> {
        self.otlp_proto.then(|| Path::new("corrected").join(&input.target).with_extension("binpb"))
    }

    /// Two inputs of which one would overwrite the other's output, or one that would overwrite its own, and where.
    pub fn collision<'b>(&self, inputs: &'b [Input]) -> Option<(&'b Input, &'b Input, PathBuf)> {
        let mut by_path: BTreeMap<PathBuf, &Input> = BTreeMap::new();
        for input in inputs {
            for path in [self.same_path(input), self.proto_path(input)].into_iter().flatten() {
                if let Some(other) = by_path.insert(path.clone(), input) {
                    return Some((other, input, path));
                }
            }
        }
        // A file where another needs a folder.
        by_path.iter().find_map(|(path, input)| {
            let (above, other) = path.ancestors().skip(1).find_map(|above| by_path.get_key_value(above))?;
            Some((*other, *input, above.clone()))
        })
    }
}

/// What is known of every span, by ordinal.
#[derive(Clone, Copy, Debug)]
pub struct Written<'a> {
    pub spans: &'a [Paired],
    pub corrected: &'a [Corrected],
    /// Spans that an earlier run moved.
    pub marked: &'a [bool],
    /// Display names, by clock.
    pub names: &'a [Arc<str>],
    pub map: &'a ClockMap,
    /// Per distinct resource.
    pub habits: &'a [EndHabit],
    /// Spans were nudged into order, and the table says by how much.
    pub enforced: bool,
}

/// What one record becomes.
#[derive(Default)]
struct Made {
    same: Option<Vec<u8>>,
    proto: Option<Vec<u8>>,
    rows: Vec<RecordBatch>,
    problem: Option<String>,
    /// Fields that are not in `proto`.
    left_out: Counted,
}

/// Writes all outputs of all inputs; gives what could not be written, each with the input's place.
pub fn write(
    inputs: &[Input],
    files: &[FileRead],
    known: Written<'_>,
    outputs: &Outputs<'_>,
    metadata: &Metadata,
    mut progress: impl FnMut(u64),
) -> Result<Vec<(usize, String)>> {
    let mut problems = Vec::new();
    let mut table = match outputs.parquet {
        true => {
            let file = AtomicFile::create(&outputs.folder.join("traces").join("part-00000.parquet"))?;
            let properties = report::writer_properties(metadata, known.enforced);
            Some(ArrowWriter::try_new(file, report::schema(known.enforced), Some(properties))?)
        }
        false => None,
    };
    for (index, (input, file)) in inputs.iter().zip(files).enumerate() {
        let Some(layout) = file.layout else { continue };
        let mut records = match Records::open(&input.path, layout, outputs.max_record) {
            Ok(records) => records,
            Err(error) => {
                problems.push((index, format!("gone before it could be written: {error}")));
                continue;
            }
        };
        let writer = |path: Option<PathBuf>, layout| {
            path.map(|path| RecordWriter::create(&outputs.folder.join(path), layout)).transpose()
        };
        let mut left_out = Counted::default();
        let (mut same, mut proto) =
            (writer(outputs.same_path(input), layout)?, writer(outputs.proto_path(input), PROTO)?);
        map_in_order(
            &mut records,
            |record| {
                let spans = file.records.get(record.ordinal as usize).cloned();
                (record.position, record.bytes.len() as u64, make(layout, record.bytes, spans, known, outputs))
            },
            |mapped| {
                let (position, length, made) = match mapped {
                    Ok(done) => done,
                    // Told when it was read the first time; what can be kept of it is.
                    Err(problem) => match (&mut same, problem.bytes) {
                        (Some(writer), Some(bytes)) => return writer.write(&bytes),
                        _ => return Ok(()),
                    },
                };
                if let (Some(writer), Some(bytes)) = (&mut same, &made.same) {
                    writer.write(bytes)?;
                }
                if let (Some(writer), Some(bytes)) = (&mut proto, &made.proto) {
                    writer.write(bytes)?;
                }
                if let Some(table) = &mut table {
                    made.rows.iter().try_for_each(|rows| table.write(rows))?;
                }
                problems.extend(made.problem.map(|problem| (index, problem)));
                left_out.add_record(position, made.left_out);
                progress(length);
                Ok(())
            },
        )
        .with_context(|| input.path.display().to_string())?;
        same.map(RecordWriter::finish).transpose()?;
        proto.map(RecordWriter::finish).transpose()?;
        if left_out.count > 0 {
            problems.push((index, fields_left_out(&left_out)));
        }
    }
    if let Some(table) = table {
        table.into_inner()?.finish()?;
    }
    Ok(problems)
}

/// What to tell of fields that protobuf cannot hold.
fn fields_left_out(Counted { count, first }: &Counted) -> String {
    let fields = if *count == 1 { "field" } else { "fields" };
    format!(
        "{count} {fields} left out, which protobuf cannot hold, the first is {first}; correct them where they come from, \
         or use --write same, which keeps them"
    )
}

/// How `--write otlp-proto` writes: as the Collector's file exporter does.
const PROTO: Layout =
    Layout { compression: Compression::None, framing: Framing::LengthPrefixed, encoding: Encoding::Protobuf };

/// All outputs of one record. One that is not OTLP passes as it is; `spans` is what the first reading found there.
fn make(
    layout: Layout,
    mut bytes: Vec<u8>,
    spans: Option<Option<Range<usize>>>,
    known: Written<'_>,
    outputs: &Outputs<'_>,
) -> Made {
    // What the first reading could not scan is told already.
    let is_told = spans == Some(None);
    let changed = "the file changed while it was read: a record is left as it is";
    let made = spans.flatten().and_then(|spans| make_known(layout, &bytes, spans, known, outputs));
    let (mut made, times) = made.unwrap_or_else(|| {
        let problem = (!is_told).then(|| changed.to_owned());
        (Made { problem, ..Made::default() }, outputs.same.then(Vec::new))
    });
    if let Some(times) = times {
        otlp::overwrite(layout.encoding, &mut bytes, &times);
        made.same = Some(bytes);
    }
    made
}

/// All outputs of a record with spans that are known; times, where to write those into the record itself is all that
/// `same` needs. `None`: it is not what it was when it was read first.
fn make_known(
    layout: Layout,
    bytes: &[u8],
    spans: Range<usize>,
    known: Written<'_>,
    outputs: &Outputs<'_>,
) -> Option<(Made, Option<Vec<TimeField>>)> {
    let (mut made, mut times) = (Made::default(), None);
    let ids = || known.spans[spans.clone()].iter().map(|span| (span.head.trace, span.head.span));
    if outputs.same || outputs.otlp_proto {
        let payload = otlp::locate(layout.encoding, bytes).ok()?;
        if !ids().eq(payload.spans.iter().map(|site| (site.head.trace, site.head.span))) {
            return None;
        }
        let edits = edits(&payload, spans.start, known, outputs.annotate);
        let rewritten = |payload: &Payload<'_>| {
            let mut out = Vec::with_capacity(payload.bytes.len() + 128 * edits.len());
            otlp::rewrite(payload, &edits, &mut out);
            out
        };
        if outputs.same {
            times = otlp::overwrites(&payload, &edits);
            made.same = times.is_none().then(|| rewritten(&payload));
        }
        if outputs.otlp_proto {
            match to_protobuf(layout.encoding, bytes, |encoded| {
                let payload = otlp::locate(Encoding::Protobuf, encoded).ok()?;
                Some(rewritten(&payload))
            }) {
                Some((encoded, left_out)) => (made.proto, made.left_out) = (Some(encoded), left_out),
                None => made.problem = Some("a record could not be told as protobuf".to_owned()),
            }
        }
    }
    if outputs.parquet {
        let rows = match otlp::view(layout.encoding, bytes) {
            Ok(record) if !ids().eq(record.spans.iter().map(SpanView::ids)) => return None,
            Ok(record) => rows(&record, spans.start, known),
            // The first reading looks at less: it may well be the same record.
            Err(error) => otlp::locate(layout.encoding, bytes).map(|_| Err(error.into())).ok()?,
        };
        match rows {
            Ok(rows) => made.rows = rows,
            Err(error) => made.problem = Some(format!("a record has no rows in the traces table: {error}")),
        }
    }
    Some((made, times))
}

/// The record in protobuf, handed to `then`, and what is not in it. Spans come in the same order, so edits fit either form.
fn to_protobuf(
    encoding: Encoding,
    bytes: &[u8],
    then: impl FnOnce(&[u8]) -> Option<Vec<u8>>,
) -> Option<(Vec<u8>, Counted)> {
    match encoding {
        Encoding::Protobuf => Some((then(bytes)?, Counted::default())),
        Encoding::Json => {
            let (data, left_out) = otlp::json::decode_most(bytes).ok()?;
            Some((then(&prost::Message::encode_to_vec(&data))?, left_out))
        }
    }
}

fn recorded(span: &Paired, known: Written<'_>) -> Recorded {
    Recorded { start: span.head.start, end: span.head.end, ends: known.habits[span.resource as usize] }
}

/// What to change in a record, of whose spans the first has the ordinal `first`.
fn edits(payload: &Payload<'_>, first: usize, known: Written<'_>, annotate: bool) -> Vec<SpanEdit> {
    let edit = |index: usize| {
        let ordinal = first + index;
        // What an earlier run moved passes as it is.
        if known.marked[ordinal] {
            return None;
        }
        let (span, placed) = (&known.spans[ordinal], &known.corrected[ordinal]);
        let placement = Placement {
            recorded: recorded(span, known),
            placed: *placed,
            clock: &known.names[span.clock.0 as usize],
            segment: placed.segment.map(|number| &known.map.model(span.clock).segments[number]),
        };
        apply::edit(payload, index as u32, &placement, annotate)
    };
    (0..payload.spans.len()).filter_map(edit).collect()
}

/// The rows of a record's spans, the first of which has the ordinal `first`. A copy of one that has its row already
/// has none.
fn rows(record: &RecordView<'_>, first: usize, known: Written<'_>) -> Result<Vec<RecordBatch>> {
    let mut rows = Rows::of(record, known.enforced);
    for (ordinal, site) in (first..).zip(&record.spans) {
        let (span, corrected) = (&known.spans[ordinal], &known.corrected[ordinal]);
        if !span.is_told() {
            continue;
        }
        let recorded = recorded(span, known);
        let segment = corrected.segment.map(|number| &known.map.model(span.clock).segments[number]);
        let marks = record.marks(site);
        let mut row = Row {
            clock: &known.names[span.clock.0 as usize],
            start: corrected.start,
            end: corrected.end,
            original_start: span.head.start.nanos(),
            original_end: span.head.end.nanos(),
            offset_ns: corrected.offset_ns,
            nudge_ns: known.enforced.then_some(corrected.nudge_ns),
            uncertainty_ns: corrected.uncertainty_ns,
            correction: corrected.correction.name(),
        };
        if let Some(marks) = &marks {
            (row.clock, row.correction) = (&marks.clock, &marks.correction);
        }
        rows.push(site, &row, |event| {
            let time = LocalTime::from_unix_nano(event.unix_nano.unwrap_or_default());
            match &marks {
                Some(marks) => (time.nanos(), original_event(record, event, time, marks).nanos()),
                None => (correct::event(time, recorded, corrected, segment), time.nanos()),
            }
        })?;
    }
    rows.finish()
}

/// An event's time before an earlier run. One without a time had none.
fn original_event(record: &RecordView<'_>, event: &EventView<'_>, written: LocalTime, marks: &Marks) -> LocalTime {
    match (record.original_unix_nano(event), event.unix_nano) {
        (Some(nanos), _) => LocalTime::from_nanos(nanos.max(0)),
        (None, Some(_)) => LocalTime::from_nanos(written.plus(marks.offset_ns).nanos().max(0)),
        (None, None) => written,
    }
}
