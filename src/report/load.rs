//! Reading a report back, with Polars: its Arrow is its own, so the two meet through the files.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use polars::prelude::{
    DataFrame, HiveOptions, Int64Chunked, LazyFrame, PlRefPath, ScanArgsParquet, StringChunked, col,
};

use super::history::{History, WindowReport, history};
use super::kinds::{FindingRow, KindRow, by_kind};
use super::skew::{ClockRow, StepRow};
use super::summary::{FileSummary, Summary};
use super::terminal::Report;
use crate::io;

/// The report of an earlier run.
///
/// # Errors
/// Where the folder holds no report, or one that cannot be read.
pub fn load(folder: &Path) -> Result<Report> {
    let summary = io::read(&folder.join("summary.json"))
        .context("no summary.json, so no report; give the --out folder of `unskew fix` or `unskew serve`")?;
    let summary: Summary = serde_json::from_slice(&summary).context("summary.json")?;
    let table = |name: &str, columns: &[&str]| read(&folder.join("skew").join(name), columns);
    let clocks = table("clocks.parquet", &CLOCKS)?;
    let steps = table("steps.parquet", &STEPS)?;
    let findings = table("findings.parquet", &FINDINGS)?;
    Ok(Report {
        clocks: clock_rows(&clocks).context("clocks.parquet")?,
        steps: step_rows(&steps).context("steps.parquet")?,
        findings: kind_rows(&findings).context("findings.parquet")?,
        summary,
    })
}

/// The reports of windows, oldest first, as one. Those that cannot be read, as they are torn or being removed, are its problems.
pub fn load_windows(folders: &[PathBuf]) -> History {
    let (mut windows, mut unread) = (Vec::new(), Vec::new());
    for folder in folders {
        let name = folder.file_name().unwrap_or_default().to_string_lossy().into_owned();
        match load(folder).and_then(|report| Ok((report, period(folder)?))) {
            Ok((report, period)) => windows.push(WindowReport { name, report, period }),
            Err(error) => unread.push(FileSummary { file: name, problem: format!("cannot be read: {error:#}") }),
        }
    }
    history(windows, unread)
}

/// The first and the last time at which calls tell of a clock, ns. The reference has a knot before all calls.
fn period(folder: &Path) -> Result<Option<[i64; 2]>> {
    let offsets =
        read(&folder.join("skew/offsets.parquet"), &["time_unix_nano", "exchanges"]).context("offsets.parquet")?;
    let (times, exchanges) = (int(&offsets, "time_unix_nano")?, int(&offsets, "exchanges")?);
    let told = times.iter().zip(exchanges.iter()).filter(|(_, exchanges)| *exchanges != Some(0));
    Ok(told.filter_map(|(time, _)| time).fold(None, |period: Option<[i64; 2]>, time| {
        Some(period.map_or([time; 2], |[from, until]| [from.min(time), until.max(time)]))
    }))
}

const CLOCKS: [&str; 12] = [
    "clock",
    "state",
    "offset_first_ns",
    "offset_last_ns",
    "offset_largest_ns",
    "uncertainty_ns",
    "frequency_ppm",
    "steps",
    "spans",
    "moved",
    "verdict",
    "advice",
];

const STEPS: [&str; 5] = ["clock", "time_unix_nano", "duration_ns", "size_ns", "uncertainty_ns"];

const FINDINGS: [&str; 7] = ["kind", "trace_id", "span_id", "clock", "before_ns", "after_ns", "reason"];

fn read(table: &Path, columns: &[&str]) -> Result<DataFrame> {
    let named = || table.display().to_string();
    let path = PlRefPath::try_from_path(table).with_context(named)?;
    let columns: Vec<_> = columns.iter().copied().map(col).collect();
    LazyFrame::scan_parquet(path, scan_options()).with_context(named)?.select(columns).collect().with_context(named)
}

/// How Parquet files are scanned: a folder's name is no column, as `window=…` would be by Hive's manner.
pub fn scan_options() -> ScanArgsParquet {
    ScanArgsParquet { hive_options: HiveOptions::new_disabled(), ..ScanArgsParquet::default() }
}

fn text<'a>(frame: &'a DataFrame, name: &str) -> Result<&'a StringChunked> {
    Ok(frame.column(name)?.str()?)
}

fn int<'a>(frame: &'a DataFrame, name: &str) -> Result<&'a Int64Chunked> {
    Ok(frame.column(name)?.i64()?)
}

fn clock_rows(frame: &DataFrame) -> Result<Vec<ClockRow>> {
    let owned = |name: &str, row: usize| Ok::<_, anyhow::Error>(text(frame, name)?.get(row).unwrap_or("").to_owned());
    let number = |name: &str, row: usize| Ok::<_, anyhow::Error>(int(frame, name)?.get(row));
    let row = |row: usize| {
        Ok(ClockRow {
            clock: owned("clock", row)?,
            state: owned("state", row)?,
            offset_first_ns: number("offset_first_ns", row)?,
            offset_last_ns: number("offset_last_ns", row)?,
            offset_largest_ns: number("offset_largest_ns", row)?,
            uncertainty_ns: number("uncertainty_ns", row)?,
            frequency_ppm: frame.column("frequency_ppm")?.f64()?.get(row),
            steps: number("steps", row)?.unwrap_or(0),
            spans: number("spans", row)?.unwrap_or(0),
            moved: number("moved", row)?.unwrap_or(0),
            verdict: owned("verdict", row)?,
            advice: owned("advice", row)?,
        })
    };
    (0..frame.height()).map(row).collect()
}

fn step_rows(frame: &DataFrame) -> Result<Vec<StepRow>> {
    let number = |name: &str, row: usize| Ok::<_, anyhow::Error>(int(frame, name)?.get(row).unwrap_or(0));
    let row = |row: usize| {
        Ok(StepRow {
            clock: text(frame, "clock")?.get(row).unwrap_or("").to_owned(),
            time_unix_nano: number("time_unix_nano", row)?,
            duration_ns: number("duration_ns", row)?,
            size_ns: number("size_ns", row)?,
            uncertainty_ns: number("uncertainty_ns", row)?,
        })
    };
    (0..frame.height()).map(row).collect()
}

fn kind_rows(frame: &DataFrame) -> Result<Vec<KindRow>> {
    let (kind, clock, reason) = (text(frame, "kind")?, text(frame, "clock")?, text(frame, "reason")?);
    let (trace, span) = (text(frame, "trace_id")?, text(frame, "span_id")?);
    let (before, after) = (int(frame, "before_ns")?, int(frame, "after_ns")?);
    Ok(by_kind((0..frame.height()).map(|row| FindingRow {
        kind: kind.get(row).unwrap_or(""),
        trace: trace.get(row).map(str::to_owned),
        span: span.get(row).map(str::to_owned),
        clock: clock.get(row),
        before_ns: before.get(row),
        after_ns: after.get(row),
        reason: reason.get(row).unwrap_or(""),
    })))
}
