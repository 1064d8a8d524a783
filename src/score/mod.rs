//! How good a correction is: its traces against what is known to be true, beside what doing nothing and per-trace
//! centring make of the same spans, and beside the floor that asymmetric links set.

mod centring;
mod coverage;
mod error;
mod floor;
mod gauge;
mod inversions;
#[cfg(test)]
mod made;
mod order;
mod read;
mod text;

use std::path::Path;

use anyhow::Result;
use serde::Serialize;

pub use coverage::Coverage;
pub use error::Sizes;
pub use gauge::Gauge;
pub use inversions::{Inversions, Pairs};
pub use order::{CausalOrder, OutOfOrder, order};
use read::{Scored, Times};

/// The score of a correction. All errors are of starts, in ns; a signed one is positive when late.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Score {
    pub spans: usize,
    /// Spans that the truth has.
    pub with_truth: usize,
    /// Display name of the reference clock.
    pub reference: Option<String>,
    pub corrected: Way,
    pub doing_nothing: Way,
    /// Jaeger's rule, one trace at a time.
    pub centring: Way,
    /// The error that a solve has which knows every link's base delays and is wrong by their asymmetries alone;
    /// only for simulated fleets.
    pub floor: Option<Sizes>,
    /// p95 of per-trace centring over p95 of the correction; `None` where the correction has no error.
    pub centring_over_ours: Option<f64>,
    /// Sizes of the moves, |corrected − original|, of the spans whose errors count.
    pub moves: Sizes,
    /// Errors of spans whose clock's offset changes by more than 1 ms within them. They are not in `corrected` but
    /// with [`Gauge::Median`].
    pub straddling: Sizes,
    pub pairs: Pairs,
    pub coverage: Coverage,
    /// Worst p95 first.
    pub clocks: Vec<ClockScore>,
}

/// What one way of correcting makes of the spans.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Way {
    pub error: Sizes,
    pub inversions: Inversions,
    /// What was taken from all errors, in ns; 0 without a gauge.
    pub constant_ns: f64,
}

/// The errors of one clock's spans.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ClockScore {
    /// Display name.
    pub clock: String,
    /// Median error in ns; positive: its spans are late.
    pub median_ns: f64,
    pub error: Sizes,
}

/// Scores what `fix` wrote into `dir` against a table with the columns `span_id, host, true_start_ns, true_end_ns`
/// and, where it has one, `trace_id`.
pub fn score(dir: &Path, truth: &Path, gauge: Gauge) -> Result<Score> {
    Ok(of(&read::read(dir, truth)?, gauge))
}

fn of(scored: &Scored, gauge: Gauge) -> Score {
    let spans = &scored.spans;
    let straddles: Vec<bool> = spans.iter().map(|span| error::straddles(scored, span)).collect();
    let group = gauge::largest_group(scored);
    let counts = |index: usize| match gauge {
        Gauge::None => Some(spans[index].clock) != scored.reference,
        Gauge::Median => spans[index].truth.is_some_and(|truth| group[truth.host]),
    };
    let apart = |index: usize| gauge == Gauge::None && straddles[index];
    let constant_ns = |written: &[Times]| match gauge {
        Gauge::None => 0.0,
        Gauge::Median => gauge::constant_ns(scored, &group, written),
    };
    let errors_ns = |written: &[Times], constant_ns: f64| -> Vec<Option<f64>> {
        let error = |index: usize| Some(error::of_start(&spans[index], written[index])? as f64 - constant_ns);
        (0..spans.len()).map(|index| if counts(index) { error(index) } else { None }).collect()
    };
    let counted = |errors_ns: &[Option<f64>]| {
        error::sizes((0..spans.len()).filter(|index| !apart(*index)).filter_map(|index| errors_ns[index]))
    };
    let way = |written: &[Times]| {
        let constant_ns = constant_ns(written);
        let error = counted(&errors_ns(written, constant_ns));
        Way { error, inversions: inversions::inversions(scored, written), constant_ns }
    };

    let corrected: Vec<Times> = spans.iter().map(|span| span.corrected).collect();
    let original: Vec<Times> = spans.iter().map(|span| span.original).collect();
    let ours = way(&corrected);
    let centring = way(&centring::centred(scored));
    let errors = errors_ns(&corrected, ours.constant_ns);
    let unstraddled: Vec<Option<f64>> =
        errors.iter().zip(&straddles).map(|(error, straddles)| error.filter(|_| !straddles)).collect();
    let floor = floor::errors_ns(scored).map(|by_host| {
        let at = |index: usize| errors[index].and(spans[index].truth).and_then(|truth| by_host[truth.host]);
        counted(&(0..spans.len()).map(at).collect::<Vec<_>>())
    });
    let moves: Vec<Option<f64>> = spans
        .iter()
        .zip(&errors)
        .map(|(span, error)| error.map(|_| (span.corrected.start - span.original.start) as f64))
        .collect();
    Score {
        spans: spans.len(),
        with_truth: spans.iter().filter(|span| span.truth.is_some()).count(),
        reference: scored.reference.map(|clock| scored.clocks[clock].clone()),
        corrected: ours,
        doing_nothing: way(&original),
        centring,
        floor,
        centring_over_ours: (ours.error.p95_ns > 0.0).then(|| centring.error.p95_ns / ours.error.p95_ns),
        moves: counted(&moves),
        straddling: error::sizes((0..spans.len()).filter(|index| straddles[*index]).filter_map(|index| errors[index])),
        pairs: inversions::pairs(scored),
        coverage: coverage::coverage(scored, &unstraddled),
        clocks: clocks(scored, &unstraddled),
    }
}

fn clocks(scored: &Scored, errors_ns: &[Option<f64>]) -> Vec<ClockScore> {
    let mut by_clock: Vec<Vec<f64>> = vec![Vec::new(); scored.clocks.len()];
    for (span, error_ns) in scored.spans.iter().zip(errors_ns) {
        by_clock[span.clock].extend(error_ns);
    }
    let mut clocks: Vec<ClockScore> = scored
        .clocks
        .iter()
        .zip(&mut by_clock)
        .filter_map(|(clock, errors)| {
            let median_ns = error::median(errors)?;
            Some(ClockScore { clock: clock.clone(), median_ns, error: error::sizes(errors.iter().copied()) })
        })
        .collect();
    clocks.sort_by(|one, other| {
        other.error.p95_ns.total_cmp(&one.error.p95_ns).then_with(|| one.clock.cmp(&other.clock))
    });
    clocks
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::array::{ArrayRef, Int64Array, RecordBatch, StringArray};
    use parquet::arrow::ArrowWriter;
    use parquet::file::metadata::KeyValue;
    use parquet::file::properties::WriterProperties;

    use super::made::{Made, fleet};
    use super::*;

    fn text(values: &[&'static str]) -> ArrayRef {
        Arc::new(values.iter().map(|value| (!value.is_empty()).then_some(*value)).collect::<StringArray>())
    }

    fn times(values: &[i64]) -> ArrayRef {
        Arc::new(Int64Array::from(values.to_vec()))
    }

    fn write(path: &Path, columns: Vec<(&'static str, ArrayRef)>, notes: Vec<KeyValue>) {
        let batch = RecordBatch::try_from_iter_with_nullable(columns.into_iter().map(|(name, of)| (name, of, true)));
        let batch = batch.unwrap();
        let properties = WriterProperties::builder().set_key_value_metadata(Some(notes)).build();
        let file = std::fs::File::create(path).unwrap();
        let mut writer = ArrowWriter::try_new(file, batch.schema(), Some(properties)).unwrap();
        writer.write(&batch).unwrap();
        writer.close().unwrap();
    }

    const TRACE: &str = "000000000000000000000000000000a1";

    /// A call from `ref-1` to `far-1`, recorded 50 ms late there and corrected to 2 ms late; and a span that the
    /// truth lacks.
    fn folder(truth_has_traces: bool) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        std::fs::create_dir(path("traces")).unwrap();
        std::fs::write(path("summary.json"), r#"{"reference": "ref-1", "spans": 3}"#).unwrap();
        let ms = |values: [i64; 3]| times(&values.map(|value| value * 1_000_000 + 7));
        let ids = ["00000000000000c1", "00000000000000d1", "00000000000000e1"];
        let columns = vec![
            ("trace_id", text(&[TRACE; 3])),
            ("span_id", text(&ids)),
            ("parent_span_id", text(&["", ids[0], ids[0]])),
            ("kind", text(&["CLIENT", "SERVER", "INTERNAL"])),
            ("clock", text(&["ref-1", "far-1", "far-1"])),
            ("start_unix_nano", ms([1_000, 1_012, 1_012])),
            ("end_unix_nano", ms([1_100, 1_092, 1_013])),
            ("original_start_unix_nano", ms([1_000, 1_060, 1_060])),
            ("original_end_unix_nano", ms([1_100, 1_140, 1_061])),
            ("uncertainty_ns", times(&[0, 3_000_000, 3_000_000])),
            ("correction", text(&["reference", "moved", "moved"])),
        ];
        write(&path("traces/part-0.parquet"), columns, Vec::new());
        let two = |[one, two]: [i64; 2]| times(&[one * 1_000_000 + 7, two * 1_000_000 + 7]);
        let mut columns = vec![
            ("span_id", text(&ids[..2])),
            ("host", text(&["ref-1", "far-1"])),
            ("true_start_ns", two([1_000, 1_010])),
            ("true_end_ns", two([1_100, 1_090])),
        ];
        if truth_has_traces {
            columns.push(("trace_id", text(&[TRACE; 2])));
        }
        let links = r#"[{"client_host": "ref-1", "server_host": "far-1", "base_ns": 5e6, "asymmetry": 0.2}]"#;
        let notes = [("unskew.links", links), ("unskew.steps", "[]"), ("unskew.reference", "ref-1")];
        let notes = notes.map(|(key, value)| KeyValue::new(key.to_owned(), value.to_owned())).into();
        write(&path("truth.parquet"), columns, notes);
        folder
    }

    #[test]
    fn a_correction_is_read_from_its_folder_and_joined_to_its_truth() {
        for truth_has_traces in [true, false] {
            let folder = folder(truth_has_traces);
            let score = score(folder.path(), &folder.path().join("truth.parquet"), Gauge::None).unwrap();
            assert_eq!((score.spans, score.with_truth, score.reference.as_deref()), (3, 2, Some("ref-1")));
            assert_eq!((score.corrected.error.spans, score.corrected.error.max_ns), (1, 2e6));
            assert_eq!(score.doing_nothing.error.max_ns, 50e6);
            assert_eq!(score.moves.max_ns, 48e6);
            // Centred in its parent, where it truly is.
            assert_eq!(score.centring.error.max_ns, 0.0);
            assert_eq!((score.corrected.inversions.inverted, score.doing_nothing.inversions.inverted), (0, 1));
            assert_eq!((score.coverage.cells, score.coverage.covered), (1, 1));
            assert_eq!(score.floor.unwrap().max_ns, 1e6);
            assert_eq!(score.clocks[0].median_ns, 2e6);
        }
    }

    #[test]
    fn a_truth_with_trace_ids_is_joined_by_them_too() {
        let folder = folder(true);
        let truth = folder.path().join("other.parquet");
        let other = "000000000000000000000000000000a2";
        let columns = vec![
            ("trace_id", text(&[other, TRACE])),
            ("span_id", text(&["00000000000000d1"; 2])),
            ("host", text(&["far-1"; 2])),
            ("true_start_ns", times(&[1, 1_010_000_007])),
            ("true_end_ns", times(&[2, 1_090_000_007])),
        ];
        write(&truth, columns, Vec::new());
        let score = score(folder.path(), &truth, Gauge::None).unwrap();
        assert_eq!((score.with_truth, score.corrected.error.max_ns, score.floor), (1, 2e6, None));
    }

    #[test]
    fn a_folder_without_traces_is_named() {
        let folder = folder(true);
        std::fs::remove_file(folder.path().join("traces/part-0.parquet")).unwrap();
        let refusal = score(folder.path(), &folder.path().join("truth.parquet"), Gauge::None).unwrap_err();
        assert!(format!("{refusal:#}").contains("no Parquet file"), "{refusal:#}");
    }

    #[test]
    fn the_gauge_takes_one_constant_from_all_spans_and_the_reference_counts() {
        let row = |id, parent, host, error_ms| Made { id, parent, host, error_ms, ..Made::default() };
        let mut scored = fleet(&[row(1, 0, "a", 0.0), row(2, 1, "b", 10.0), row(3, 2, "c", 13.0)]);
        scored.reference = Some(0);
        let errors = |gauge| {
            let error = of(&scored, gauge).corrected.error;
            (error.spans, error.p50_ns, error.max_ns)
        };
        assert_eq!(errors(Gauge::None), (2, 10e6, 13e6));
        assert_eq!(errors(Gauge::Median), (3, 3e6, 10e6));
    }

    #[test]
    fn straddlers_of_a_step_are_counted_apart() {
        let row = |id, error_ms, from, to| Made { id, host: "b", from, to, error_ms, ..Made::default() };
        let mut scored = fleet(&[row(1, 1.0, 0, 10), row(2, 7.0, 20, 40), row(3, 9.0, 60, 70)]);
        // The second shows it by an end read from the wall clock again. The third's end is monotonic and shows
        // nothing: the truth says when the step was.
        scored.spans[1].original.end += 2_000_000;
        scored.steps = vec![(0, crate::clock::ReferenceTime::from_nanos(65_000_000), 3e6)];
        let score = of(&scored, Gauge::None);
        assert_eq!((score.straddling.spans, score.straddling.p50_ns), (2, 7e6));
        assert_eq!(score.corrected.error.spans, 1);
    }

    #[test]
    fn the_text_has_every_way_and_the_worst_clock_first() {
        let row = |id, parent, host, error_ms| Made { id, parent, host, error_ms, ..Made::default() };
        let scored = fleet(&[row(1, 0, "good", 0.25), row(2, 1, "bad", 1_234.5)]);
        let text = of(&scored, Gauge::None).to_string();
        for part in ["corrected", "doing nothing", "per-trace centring", "straddling", "1234.500", "0.250"] {
            assert!(text.contains(part), "{part} is not in:\n{text}");
        }
        for way in ["corrected", "doing nothing", "per-trace centring"] {
            let lines = text.lines().filter(|line| line.starts_with(&format!("{way:20} "))).count();
            assert_eq!(lines, 2, "{way}: its errors and its inversions, in:\n{text}");
        }
        assert!(text.rfind("bad") < text.rfind("good"), "{text}");
    }
}
