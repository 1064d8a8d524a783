//! Reading a report back, with Polars: its Arrow is its own, so the two meet through the files.

use std::path::Path;

use anyhow::{Context, Result};
use polars::prelude::{DataFrame, LazyFrame, PlRefPath, ScanArgsParquet, col};

use super::skew::ClockRow;
use super::summary::Summary;
use crate::io;

/// The clocks and the summary of an earlier run.
///
/// # Errors
/// Where the folder holds no report, or one that cannot be read.
pub fn load(folder: &Path) -> Result<(Vec<ClockRow>, Summary)> {
    let summary = io::read(&folder.join("summary.json"))
        .context("no summary.json, so no report; give the --out folder of `unskew fix`")?;
    let summary: Summary = serde_json::from_slice(&summary).context("summary.json")?;
    let clocks = folder.join("skew").join("clocks.parquet");
    let named = || clocks.display().to_string();
    let path = PlRefPath::try_from_path(&clocks).with_context(named)?;
    let columns = [
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
    let frame = LazyFrame::scan_parquet(path, ScanArgsParquet::default())
        .with_context(named)?
        .select(columns.map(col))
        .collect()
        .with_context(named)?;
    Ok((rows(&frame).with_context(named)?, summary))
}

fn rows(frame: &DataFrame) -> Result<Vec<ClockRow>> {
    let text = |name: &str| Ok::<_, anyhow::Error>(frame.column(name)?.str()?);
    let int = |name: &str| Ok::<_, anyhow::Error>(frame.column(name)?.i64()?);
    let owned = |value: Option<&str>| value.unwrap_or_default().to_owned();
    (0..frame.height())
        .map(|row| {
            Ok(ClockRow {
                clock: owned(text("clock")?.get(row)),
                state: owned(text("state")?.get(row)),
                offset_first_ns: int("offset_first_ns")?.get(row),
                offset_last_ns: int("offset_last_ns")?.get(row),
                offset_largest_ns: int("offset_largest_ns")?.get(row),
                uncertainty_ns: int("uncertainty_ns")?.get(row),
                frequency_ppm: frame.column("frequency_ppm")?.f64()?.get(row),
                steps: int("steps")?.get(row).unwrap_or(0),
                spans: int("spans")?.get(row).unwrap_or(0),
                moved: int("moved")?.get(row).unwrap_or(0),
                verdict: owned(text("verdict")?.get(row)),
                advice: owned(text("advice")?.get(row)),
            })
        })
        .collect()
}
