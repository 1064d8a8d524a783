//! What a run writes, to the letter: every table's columns, and what is shown to people.

/// The stored text; a run that is asked to (`INSTA_UPDATE=always`) stores it anew, any other fails on a difference.
macro_rules! snapshot {
    ($name:literal, $text:expr) => {{
        let mut settings = insta::Settings::clone_current();
        settings.set_snapshot_path(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/tables"));
        settings.set_prepend_module_to_snapshot(false);
        settings.set_omit_expression(true);
        settings.bind(|| insta::assert_snapshot!($name, $text));
    }};
}

mod common;
#[path = "tables/windows.rs"]
mod windows;

use std::fs;
use std::path::Path;
use std::process::Command;

use parquet::file::reader::{FileReader, SerializedFileReader};
use parquet::schema::printer::print_schema;
use unskew::settings::Write;

use common::{fix, fleet, rows, settings};

/// One sample fleet, small enough to read.
const SAMPLE: &str = r"
    spans = 1500
    duration_s = 120
    [fleet]
    clocks = 5
    services = 3
    [clocks]
    zero = 0.2
    near = 0.4
    [sdk]
    broken = 0.005
    broken_ms = 2.0
";

fn sample() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let dump = folder.path().join("dump.binpb");
    fs::write(&dump, fleet(SAMPLE).protobuf.unwrap()).unwrap();
    assert!(!fix(&settings(&[dump], &folder.path().join("out"), &[Write::Parquet])).failed);
    folder
}

/// The columns as DESIGN.md lists them: name, `?` where it may be null, and for what is not an INT64 its kind.
/// `_ns` and counts are whole numbers, `_ppm` doubles, and `time` and `start_time` microseconds.
const TABLES: [(&str, &str); 7] = [
    (
        "traces/part-00000",
        "trace_id:text span_id:text parent_span_id:text? trace_state:text? flags name:text kind:text service_name:text \
         clock:text start_unix_nano end_unix_nano start_time:time duration_ns original_start_unix_nano \
         original_end_unix_nano offset_ns uncertainty_ns? correction:text status_code:text status_message:text? \
         scope_name:text scope_version:text resource_attributes:map attributes:map \
         events:list(time_unix_nano original_time_unix_nano name:text attributes:map) \
         links:list(trace_id:text span_id:text trace_state:text attributes:map)",
    ),
    (
        "skew/clocks",
        "clock:text key:text rule:text hosts:texts services:texts group state:text offset_first_ns? offset_last_ns? \
         offset_largest_ns? uncertainty_ns? frequency_ppm:double? steps exchanges neighbours spans moved verdict:text \
         advice:text",
    ),
    (
        "skew/offsets",
        "clock:text segment time_unix_nano local_unix_nano time:time offset_ns? applied_offset_ns uncertainty_ns? \
         lower_ns? upper_ns? frequency_ppm:double? exchanges?",
    ),
    (
        "skew/links",
        "client_clock:text server_clock:text call_class:text client_service:text server_service:text exchanges one_way \
         early_ends set_aside min_round_trip_ns? p50_round_trip_ns? p99_round_trip_ns? asymmetry_ns? inversions_before \
         inversions_after worst_inversion_ns?",
    ),
    ("skew/steps", "clock:text time_unix_nano time:time kind:text duration_ns size_ns uncertainty_ns spans_straddling"),
    (
        "skew/findings",
        "trace_id:text? span_id:text? parent_span_id:text? clock:text? parent_clock:text? service_name:text? kind:text \
         before_ns? after_ns? action:text reason:text",
    ),
    (
        "skew/exchanges",
        "trace_id:text client_span_id:text server_span_id:text client_clock:text server_clock:text call_class:text \
         client_service:text server_service:text request_sent_unix_nano request_received_unix_nano \
         response_sent_unix_nano response_received_unix_nano time:time round_trip_delay_ns measured_offset_ns used:text",
    ),
];

/// A column of the file, in the words of [`TABLES`], from the schema that is stored and not the one that is meant.
fn column(of: &parquet::schema::types::Type) -> String {
    use parquet::basic::{LogicalType, Repetition, TimeUnit, Type as Physical};
    let info = of.get_basic_info();
    let null = if info.repetition() == Repetition::OPTIONAL { "?" } else { "" };
    let kind = match (info.logical_type_ref(), of) {
        (Some(LogicalType::Map), _) => {
            let entry = &of.get_fields()[0].get_fields();
            assert_eq!((column(&entry[0]), column(&entry[1])), ("key:text".into(), "value:text?".into()));
            ":map".to_owned()
        }
        (Some(LogicalType::List), _) => {
            let item = &of.get_fields()[0].get_fields()[0];
            if item.is_primitive() {
                ":texts".to_owned()
            } else {
                let fields: Vec<String> = item.get_fields().iter().map(|field| column(field)).collect();
                format!(":list({})", fields.join(" "))
            }
        }
        (Some(LogicalType::String), _) => ":text".to_owned(),
        (Some(LogicalType::Timestamp(time)), _) => {
            assert!(time.is_adjusted_to_u_t_c && time.unit == TimeUnit::MICROS, "{of:?}");
            ":time".to_owned()
        }
        (None, of) if of.is_primitive() => match of.get_physical_type() {
            Physical::INT64 => String::new(),
            Physical::DOUBLE => ":double".to_owned(),
            other => format!(":{other}"),
        },
        (other, _) => format!(":{other:?}"),
    };
    format!("{}{kind}{null}", info.name())
}

#[test]
fn every_table_has_its_columns() {
    let folder = sample();
    let out = folder.path().join("out");
    for (table, expected) in TABLES {
        let path = out.join(format!("{table}.parquet"));
        let file = SerializedFileReader::new(fs::File::open(&path).unwrap()).unwrap();
        let metadata = file.metadata().file_metadata();
        let found: Vec<String> = metadata.schema().get_fields().iter().map(|field| column(field)).collect();
        assert_eq!(found.join(" "), expected.split_whitespace().collect::<Vec<_>>().join(" "), "{table}");

        // Whatever a reader makes of it: Spark refuses a file with one column of nanoseconds.
        let mut text = Vec::new();
        print_schema(&mut text, metadata.schema());
        let text = String::from_utf8(text).unwrap();
        for refused in ["NANOS", "UINT", "false))", "INTEGER(64,false)", "INT96"] {
            assert!(!text.contains(refused), "{table}: {refused}\n{text}");
        }

        let entries = metadata.key_value_metadata().unwrap();
        let value = |key: &str| entries.iter().find(|entry| entry.key == key).and_then(|entry| entry.value.as_deref());
        assert_eq!(value("unskew.schema_version"), Some("1"));
        assert_eq!(
            value("unskew.table"),
            table.split('/').next_back().map(|name| if name.starts_with("part") { "traces" } else { name })
        );
        assert!(value("unskew.sign_convention").unwrap().contains("positive is ahead"));
        assert_eq!(value("unskew.reference"), Some("gateway-1"));
        let told: serde_json::Value = serde_json::from_str(value("unskew.settings").unwrap()).unwrap();
        assert_eq!(told["reference"], "gateway-1");
    }
    assert_eq!(tables_in(&out), TABLES.len());
}

fn tables_in(folder: &Path) -> usize {
    fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .map(|path| {
            if path.is_dir() {
                tables_in(&path)
            } else {
                usize::from(path.extension().is_some_and(|it| it == "parquet"))
            }
        })
        .sum()
}

fn said(arguments: &[&str]) -> String {
    let output = Command::new(env!("CARGO_BIN_EXE_unskew")).args(arguments).env_remove("COLUMNS").output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn what_people_are_shown_is_as_stored() {
    let folder = sample();
    let out = folder.path().join("out");
    snapshot!("report", said(&["report", out.to_str().unwrap()]));
    snapshot!("report_json", said(&["report", out.to_str().unwrap(), "--json"]));
    snapshot!("summary", fs::read_to_string(out.join("summary.json")).unwrap());
    snapshot!("clocks", rows(&out.join("skew/clocks.parquet"), &[]).join("\n"));
    snapshot!("help", said(&["--help"]));
    snapshot!("help_fix", said(&["fix", "--help"]));
}
