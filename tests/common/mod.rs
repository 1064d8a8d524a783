//! What the tests of the whole program share: fleets, runs over them, and tables read back.
#![allow(dead_code, reason = "each test program uses a part")]

use std::fs;
use std::path::{Path, PathBuf};

use arrow::array::{Array, Int64Array, RecordBatch, StringArray};
use arrow::datatypes::DataType;
use arrow::util::display::{ArrayFormatter, FormatOptions};
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use unskew::run::{self, Outcome};
use unskew::settings::{Annotate, Fix, Write};
use unskew::simulate::{self, Scenario, Simulated};

/// All that makes spans differ: drifting clocks, every SDK's habits, messages, retries, ends before their starts.
pub const FLEET: &str = r"
    spans = 3000
    duration_s = 240
    [fleet]
    clocks = 8
    [clocks]
    zero = 0.2
    near = 0.5
    frequency_ppm = 40.0
    wander_ppm = 2.0
    [sdk]
    broken = 0.01
    broken_ms = 3.0
    [traffic]
    hostile = 0.2
    retries = 0.05
    errors = 0.02
    background = 0.05
";

/// The same with clocks that jump, ahead and back.
pub fn stepping() -> String {
    format!("{FLEET}\n[clocks.steps]\nshare = 0.6\neach = [1, 2]\nms = [20.0, 900.0]\n")
}

pub fn fleet(text: &str) -> Simulated {
    simulate::run(&Scenario::parse(text).unwrap()).unwrap()
}

/// Settings that ask for nothing special.
pub fn settings(inputs: &[PathBuf], out: &Path, write: &[Write]) -> Fix {
    Fix {
        inputs: inputs.iter().map(|path| path.to_str().unwrap().to_owned()).collect(),
        out: out.to_owned(),
        write: write.to_vec(),
        annotate: Annotate::Moved,
        reference: Some("gateway-1".to_owned()),
        after: None,
        context: Vec::new(),
        clock_keys: Vec::new(),
        max_correction_ns: None,
        dry_run: false,
        enforce_causality: false,
        exchanges: true,
        max_record: 1 << 30,
        force: false,
    }
}

pub fn fix(settings: &Fix) -> Outcome {
    run::fix(settings, &mut std::io::empty(), |_| ()).unwrap()
}

/// A 4-byte length before each record.
pub fn prefixed(records: &[Vec<u8>]) -> Vec<u8> {
    records.iter().flat_map(|record| [&(record.len() as u32).to_be_bytes()[..], record].concat()).collect()
}

/// The records of a length-prefixed file.
pub fn records(mut file: &[u8]) -> Vec<Vec<u8>> {
    let mut records = Vec::new();
    while let Some((length, rest)) = file.split_first_chunk::<4>() {
        let (record, rest) = rest.split_at(u32::from_be_bytes(*length) as usize);
        records.push(record.to_vec());
        file = rest;
    }
    records
}

pub fn lines(file: &[u8]) -> Vec<Vec<u8>> {
    file.split_inclusive(|byte| *byte == b'\n').map(<[u8]>::to_vec).collect()
}

pub fn batches(path: &Path) -> Vec<RecordBatch> {
    let file = fs::File::open(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    ParquetRecordBatchReaderBuilder::try_new(file).unwrap().build().unwrap().map(Result::unwrap).collect()
}

/// The rows of a table as text, without some columns.
pub fn rows(path: &Path, without: &[&str]) -> Vec<String> {
    let options = FormatOptions::default().with_null("–");
    let mut rows = Vec::new();
    for batch in batches(path) {
        let schema = batch.schema();
        let kept: Vec<usize> =
            (0..batch.num_columns()).filter(|&at| !without.contains(&schema.field(at).name().as_str())).collect();
        // Text of a time in a zone needs a table of zones; the number says the same.
        let plain = |at: usize| match schema.field(at).data_type() {
            DataType::Timestamp(..) => arrow::compute::cast(batch.column(at), &DataType::Int64).unwrap(),
            _ => batch.column(at).clone(),
        };
        let columns: Vec<_> = kept.iter().map(|&at| plain(at)).collect();
        let columns: Vec<_> = columns.iter().map(|column| ArrayFormatter::try_new(column, &options).unwrap()).collect();
        rows.extend(
            (0..batch.num_rows())
                .map(|row| columns.iter().map(|column| column.value(row).to_string()).collect::<Vec<_>>().join(" | ")),
        );
    }
    rows
}

pub fn traces(out: &Path) -> PathBuf {
    out.join("traces/part-00000.parquet")
}

pub fn texts(batch: &RecordBatch, name: &str) -> Vec<String> {
    let column = batch.column_by_name(name).unwrap_or_else(|| panic!("no column {name}"));
    let column = arrow::compute::cast(column, &DataType::Utf8).unwrap();
    let column = column.as_any().downcast_ref::<StringArray>().unwrap();
    (0..column.len()).map(|row| column.value(row).to_owned()).collect()
}

pub fn ints(batch: &RecordBatch, name: &str) -> Vec<i64> {
    let column = batch.column_by_name(name).unwrap_or_else(|| panic!("no column {name}"));
    column.as_any().downcast_ref::<Int64Array>().unwrap().values().to_vec()
}

/// A path below the folder of the shared data, which has to be there.
pub fn data(path: &str) -> PathBuf {
    let root = std::env::var_os("UNSKEW_DATA").expect("UNSKEW_DATA has to name the folder of the shared data");
    let path = Path::new(&root).join(path);
    assert!(path.exists(), "{}: missing; UNSKEW_DATA has to name the folder of the shared data", path.display());
    path
}
