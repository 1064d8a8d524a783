//! Windows as one history: three of one fleet, as the stage records them.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::{Command, Output};

use serde_json::{Value, json};

use crate::common::{fix, fleet, lines, settings};

const FLEET: &str = include_str!("windows.toml");

/// The spans of a dump, each in a record of its own.
fn alone(dump: &[u8]) -> Vec<Value> {
    let requests = lines(dump).into_iter().map(|line| serde_json::from_slice::<Value>(&line).unwrap());
    let resources = requests.flat_map(|request| request["resourceSpans"].as_array().unwrap().clone());
    let spans = |resource: Value| -> Vec<Value> {
        let scopes = resource["scopeSpans"].as_array().unwrap().iter();
        let of_scope = |scope: &Value| scope["spans"].as_array().unwrap().clone();
        let record =
            |span| json!({"resourceSpans": [{"resource": resource["resource"], "scopeSpans": [{"spans": [span]}]}]});
        scopes.flat_map(of_scope).map(record).collect()
    };
    resources.flat_map(spans).collect()
}

fn span(record: &Value) -> (&str, i64) {
    let span = &record["resourceSpans"][0]["scopeSpans"][0]["spans"][0];
    (span["traceId"].as_str().unwrap(), span["startTimeUnixNano"].as_str().unwrap().parse().unwrap())
}

/// Traces by when they begin, in three parts of time.
fn thirds(records: &[Value]) -> [String; 3] {
    let mut begins: BTreeMap<&str, i64> = BTreeMap::new();
    records.iter().map(span).for_each(|(trace, start)| {
        begins.entry(trace).and_modify(|begin| *begin = start.min(*begin)).or_insert(start);
    });
    let (first, last) = (begins.values().min().unwrap(), begins.values().max().unwrap());
    let mut thirds: [String; 3] = Default::default();
    for record in records {
        let third = (3 * (begins[span(record).0] - first) / (last - first)).min(2);
        thirds[third as usize] += &format!("{record}\n");
    }
    thirds
}

/// A stage's folder with three windows.
fn recorded() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let mut after = None;
    for (number, dump) in (1..).zip(thirds(&alone(&fleet(FLEET).json.unwrap()))) {
        let input = folder.path().join(format!("{number}.jsonl"));
        std::fs::write(&input, dump).unwrap();
        let out = folder.path().join(format!("windows/window=2025-06-15T15-0{number}-00Z-{number}"));
        let mut settings = settings(&[input], &out, &[]);
        settings.after = after.replace(out.clone());
        assert!(!fix(&settings).failed);
    }
    folder
}

fn report(folder: &Path, more: &[&str]) -> (Output, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_unskew")).arg("report").arg(folder).args(more).output().unwrap();
    let text = String::from_utf8(output.stdout.clone()).unwrap();
    (output, text)
}

#[test]
fn three_windows_are_one_history() {
    let folder = recorded();
    let (output, text) = report(folder.path(), &[]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    snapshot!("report_windows", text);
    assert_eq!(report(&folder.path().join("windows"), &[]).1, text);

    let told: Value = serde_json::from_str(&report(folder.path(), &["--json"]).1).unwrap();
    let windows: Vec<&Value> = told["windows"].as_array().unwrap().iter().collect();
    let number = |window: &&Value| window["name"].as_str().unwrap().rsplit('-').next().unwrap().parse::<u64>().unwrap();
    assert_eq!(windows.iter().map(number).collect::<Vec<_>>(), [3, 2, 1]);
    let sum = |rows: &[&Value], name: &str| rows.iter().map(|row| row[name].as_u64().unwrap()).sum::<u64>();
    let summaries: Vec<&Value> = windows.iter().map(|window| &window["summary"]).collect();
    let clocks: Vec<&Value> = told["clocks"].as_array().unwrap().iter().collect();
    assert_eq!(clocks.len(), 8);
    for name in ["spans", "moved"] {
        assert_eq!(sum(&summaries, name), sum(&clocks, name), "{name}");
    }
    // The scenario's: 5 ms ahead, gaining 40 ppm over 300 s.
    let runs_off = clocks.iter().find(|clock| clock["clock"] == "svc02-1").unwrap();
    for (name, expected_ms) in [("offset_first_ns", 5.0), ("offset_last_ns", 17.0)] {
        assert!((runs_off[name].as_f64().unwrap() / 1e6 - expected_ms).abs() < 0.5, "{name}: {runs_off}");
    }
    let steps: Vec<&Value> = told["steps"].as_array().unwrap().iter().map(|step| &step["clock"]).collect();
    assert_eq!(steps, ["svc01-1", "svc03-1"]);
    for finding in told["findings"].as_array().unwrap() {
        let kind = finding["kind"].as_str().unwrap();
        let of_windows: Vec<u64> = summaries.iter().filter_map(|summary| summary["findings"][kind].as_u64()).collect();
        assert_eq!(finding["count"], of_windows.iter().sum::<u64>(), "{kind}");
    }
}

#[test]
fn a_window_that_cannot_be_read_is_named_and_the_rest_is_told() {
    let folder = recorded();
    let windows = folder.path().join("windows");
    std::fs::write(windows.join("window=2025-06-15T15-02-00Z-2/skew/steps.parquet"), "torn").unwrap();
    std::fs::create_dir(windows.join("window=2025-06-15T15-04-00Z-4")).unwrap();
    let (output, text) = report(folder.path(), &[]);
    assert_eq!(output.status.code(), Some(1));
    assert!(text.starts_with("2 windows from "), "{text}");
    for number in [2, 4] {
        let said = format!("problem     window=2025-06-15T15-0{number}-00Z-{number}: cannot be read: ");
        assert_eq!(text.matches(&said).count(), 1, "{text}");
    }
    let told: Value = serde_json::from_str(&report(folder.path(), &["--json"]).1).unwrap();
    assert_eq!((told["windows"].as_array().unwrap().len(), told["problems"].as_array().unwrap().len()), (2, 2));
}

#[test]
fn without_a_window_it_says_when_there_will_be_one() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::create_dir(folder.path().join("windows")).unwrap();
    let (output, text) = report(folder.path(), &[]);
    assert!(output.status.success());
    assert!(text.starts_with("no window is written yet: `unskew serve --out DIR` writes one when "), "{text}");
    // What is neither is what it was.
    let (output, _) = report(&folder.path().join("other"), &[]);
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&output.stderr).contains("no summary.json"));
}
