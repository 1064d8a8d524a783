//! The traces of a correction beside their truth, one row per span.

use std::collections::{BTreeSet, HashMap};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use parquet::file::reader::{FileReader, SerializedFileReader};
use polars::prelude::{DataFrame, DataType, JoinArgs, JoinType, LazyFrame, PlRefPath, col, lit};
use serde::Deserialize;

use crate::clock::ReferenceTime;
use crate::io;
use crate::report::scan_options;

/// A span with what was recorded, what was written and, where the truth has it, what was true. Times in
/// Unix nanoseconds.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Span {
    pub trace: u128,
    /// Index of the parent among the rows of the same trace.
    pub parent: Option<usize>,
    pub is_client: bool,
    pub is_server: bool,
    /// Index into [`Scored::clocks`].
    pub clock: usize,
    pub original: Times,
    pub corrected: Times,
    pub uncertainty_ns: Option<i64>,
    pub moved: bool,
    pub truth: Option<Truth>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Times {
    pub start: i64,
    pub end: i64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Truth {
    /// Index into [`Scored::hosts`].
    pub host: usize,
    pub times: Times,
}

/// All that a score is made from.
#[derive(Debug, Default)]
pub(super) struct Scored {
    /// Sorted by trace, then span id.
    pub spans: Vec<Span>,
    /// Display names of the clocks of the correction.
    pub clocks: Vec<String>,
    /// Host names of the truth.
    pub hosts: Vec<String>,
    /// Index into `clocks`.
    pub reference: Option<usize>,
    /// Index into `hosts`.
    pub true_reference: Option<usize>,
    /// Links by client and server host, where a simulation left them in the truth.
    pub links: HashMap<(usize, usize), Link>,
    /// Sudden changes of a host's clock, by host.
    pub steps: Vec<(usize, ReferenceTime, f64)>,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Link {
    pub base_ns: f64,
    pub asymmetry: f64,
}

/// Reads `dir/traces/*.parquet` and `dir/summary.json` and joins the truth to them.
pub(super) fn read(dir: &Path, truth: &Path) -> Result<Scored> {
    let rows = joined(dir, truth).with_context(|| format!("{} against {}", dir.display(), truth.display()))?;
    let mut scored = spans(&rows)?;
    let name = reference(dir)?;
    scored.reference = name.and_then(|name| scored.clocks.iter().position(|clock| *clock == name));
    learn(&mut scored, truth)?;
    Ok(scored)
}

/// The display name of the reference clock.
fn reference(dir: &Path) -> Result<Option<String>> {
    #[derive(Deserialize)]
    struct Summary {
        reference: Option<String>,
    }
    let path = dir.join("summary.json");
    let text = io::read_text(&path)?;
    let summary: Summary =
        serde_json::from_str(&text).with_context(|| format!("{}: not a summary of ours", path.display()))?;
    Ok(summary.reference)
}

fn joined(dir: &Path, truth: &Path) -> Result<DataFrame> {
    let traces = scan(parts(&dir.join("traces"))?)?;
    let mut truth = scan(vec![truth.to_owned()])?;
    let schema = truth.collect_schema()?;
    let keys: Vec<_> = ["trace_id", "span_id"].into_iter().filter(|key| schema.contains(key)).map(col).collect();
    ensure!(keys.len() == 2 || schema.contains("span_id"), "the truth has no column span_id");
    let mut columns = keys.clone();
    columns.extend([col("host").cast(DataType::String), col("true_start_ns"), col("true_end_ns")]);
    let traces = traces.select([
        col("trace_id"),
        col("span_id"),
        col("parent_span_id"),
        col("kind"),
        col("clock"),
        col("start_unix_nano"),
        col("end_unix_nano"),
        col("original_start_unix_nano"),
        col("original_end_unix_nano"),
        col("uncertainty_ns"),
        col("correction").eq(lit("moved")).or(col("correction").eq(lit("recovered"))).alias("moved"),
    ]);
    let joined = traces.join(truth.select(columns), keys.clone(), keys, JoinArgs::new(JoinType::Left));
    Ok(joined.sort(["trace_id", "span_id", "kind"], Default::default()).collect()?)
}

pub(super) fn parts(folder: &Path) -> Result<Vec<PathBuf>> {
    let mut parts = io::files_in(folder)?;
    parts.retain(|path| path.extension().is_some_and(|extension| extension == "parquet"));
    ensure!(!parts.is_empty(), "{}: no Parquet file; was `fix` run with --write parquet?", folder.display());
    Ok(parts)
}

fn scan(paths: Vec<PathBuf>) -> Result<LazyFrame> {
    let paths = paths.into_iter().map(PlRefPath::try_from_pathbuf).collect::<Result<_, _>>()?;
    Ok(LazyFrame::scan_parquet_files(paths, scan_options())?)
}

fn spans(rows: &DataFrame) -> Result<Scored> {
    let text = |name: &str| Ok::<_, anyhow::Error>(rows.column(name)?.str()?.iter().collect::<Vec<_>>());
    let number = |name: &str| {
        let column = rows.column(name)?.cast(&DataType::Int64)?;
        Ok::<_, anyhow::Error>(column.i64()?.iter().collect::<Vec<_>>())
    };
    let (traces, ids, parents) = (text("trace_id")?, text("span_id")?, text("parent_span_id")?);
    let (kinds, clocks, hosts) = (text("kind")?, text("clock")?, text("host")?);
    let (starts, ends) = (number("start_unix_nano")?, number("end_unix_nano")?);
    let (original_starts, original_ends) = (number("original_start_unix_nano")?, number("original_end_unix_nano")?);
    let (true_starts, true_ends) = (number("true_start_ns")?, number("true_end_ns")?);
    let uncertainties = number("uncertainty_ns")?;
    let moved: Vec<Option<bool>> = rows.column("moved")?.bool()?.iter().collect();

    let mut scored = Scored { clocks: names(&clocks), hosts: names(&hosts), ..Scored::default() };
    let index = |names: &[String]| -> HashMap<String, usize> {
        names.iter().enumerate().map(|(index, name)| (name.clone(), index)).collect()
    };
    let (clock_index, host_index) = (index(&scored.clocks), index(&scored.hosts));
    let mut by_id: HashMap<(&str, &str), Vec<usize>> = HashMap::new();
    for row in 0..rows.height() {
        by_id.entry((traces[row].unwrap_or(""), ids[row].unwrap_or(""))).or_default().push(row);
    }
    // Where client and server share an id, the parent of others is the server, the parent of the server the client.
    let parent_of = |row: usize| {
        let trace = traces[row].unwrap_or("");
        let named = by_id.get(&(trace, parents[row]?))?;
        named.iter().rev().copied().find(|parent| *parent != row)
    };
    for row in 0..rows.height() {
        let trace = traces[row].unwrap_or("");
        let whole = |value: Option<i64>, name: &str| value.with_context(|| format!("{name} is null in trace {trace}"));
        let times = Option::zip(true_starts[row], true_ends[row]).map(|(start, end)| Times { start, end });
        let host = hosts[row].and_then(|host| host_index.get(host).copied());
        scored.spans.push(Span {
            trace: u128::from_str_radix(trace, 16).with_context(|| format!("{trace:?} is no trace id"))?,
            parent: parent_of(row),
            is_client: kinds[row] == Some("CLIENT"),
            is_server: kinds[row] == Some("SERVER"),
            clock: clocks[row].and_then(|clock| clock_index.get(clock).copied()).context("a span without a clock")?,
            original: Times {
                start: whole(original_starts[row], "original_start_unix_nano")?,
                end: whole(original_ends[row], "original_end_unix_nano")?,
            },
            corrected: Times { start: whole(starts[row], "start_unix_nano")?, end: whole(ends[row], "end_unix_nano")? },
            uncertainty_ns: uncertainties[row],
            moved: moved[row] == Some(true),
            truth: host.zip(times).map(|(host, times)| Truth { host, times }),
        });
    }
    Ok(scored)
}

fn names(column: &[Option<&str>]) -> Vec<String> {
    column.iter().flatten().collect::<BTreeSet<_>>().into_iter().map(|name| (*name).to_owned()).collect()
}

/// What a simulation left in the metadata of its truth.
fn learn(scored: &mut Scored, truth: &Path) -> Result<()> {
    #[derive(Deserialize)]
    struct JsonLink {
        client_host: String,
        server_host: String,
        base_ns: f64,
        asymmetry: f64,
    }
    #[derive(Deserialize)]
    struct JsonStep {
        host: String,
        time_unix_nano: i64,
        kind: String,
        size_ns: f64,
    }
    let file = SerializedFileReader::new(prost::bytes::Bytes::from(io::read(truth)?))?;
    let notes = file.metadata().file_metadata().key_value_metadata().cloned().unwrap_or_default();
    let note = |key: &str| notes.iter().find(|note| note.key == key).and_then(|note| note.value.as_deref());
    let host = |name: &str| scored.hosts.iter().position(|host| host == name);
    let links: Vec<JsonLink> = serde_json::from_str(note("unskew.links").unwrap_or("[]"))?;
    let links = links.into_iter().filter_map(|link| {
        let ends = (host(&link.client_host)?, host(&link.server_host)?);
        Some((ends, Link { base_ns: link.base_ns, asymmetry: link.asymmetry }))
    });
    let links = links.collect();
    let steps: Vec<JsonStep> = serde_json::from_str(note("unskew.steps").unwrap_or("[]"))?;
    let steps = steps
        .into_iter()
        .filter(|change| change.kind == "step")
        .filter_map(|step| Some((host(&step.host)?, ReferenceTime::from_nanos(step.time_unix_nano), step.size_ns)));
    let steps = steps.collect();
    scored.true_reference = note("unskew.reference").and_then(host);
    (scored.links, scored.steps) = (links, steps);
    Ok(())
}
