//! Causal order in a written traces table, counted from its rows alone: parents and children on two clocks that are early
//! or late, as recorded and as written. Shares nothing with the gate that is to be judged by it but the facts of a span.

use std::collections::HashMap;
use std::path::Path;

use anyhow::{Context, Result};
use arrow::array::{Array, AsArray, RecordBatch};
use arrow::datatypes::Int64Type;
use parquet::arrow::ProjectionMask;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use serde::Serialize;

use super::read::{Times, parts};
use crate::io;
use crate::span::{AttributeValue, CallFacts, Protocol};

/// Parents and children on two clocks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct CausalOrder {
    pub pairs: u64,
    /// As recorded.
    pub before: OutOfOrder,
    /// As written.
    pub after: OutOfOrder,
}

/// Pairs out of order in one set of times.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct OutOfOrder {
    /// What the parent caused lies before its start, or after the end of a parent that waited.
    pub pairs: u64,
    /// How long before it, ns, summed up.
    pub early_ns: i128,
}

impl CausalOrder {
    /// Whether more is out of order as written than as recorded.
    pub fn is_worse(&self) -> bool {
        self.after.pairs > self.before.pairs || self.after.early_ns > self.before.early_ns
    }
}

/// A row, as far as its order counts.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Row {
    span: String,
    parent: Option<String>,
    kind: String,
    clock: String,
    recorded: Times,
    written: Times,
    facts: CallFacts,
}

/// Counts the pairs of `dir/traces/*.parquet`.
///
/// # Errors
/// Where there is no such table, or one that cannot be read.
pub fn order(dir: &Path) -> Result<CausalOrder> {
    let mut traces: HashMap<String, Vec<Row>> = HashMap::new();
    for path in parts(&dir.join("traces"))? {
        let named = || path.display().to_string();
        let bytes = prost::bytes::Bytes::from(io::read(&path)?);
        let builder = ParquetRecordBatchReaderBuilder::try_new(bytes).with_context(named)?;
        let projection = ProjectionMask::columns(builder.parquet_schema(), COLUMNS);
        for batch in builder.with_projection(projection).build().with_context(named)? {
            rows(&batch.with_context(named)?, &mut traces).with_context(named)?;
        }
    }
    let mut order = CausalOrder::default();
    traces.values().for_each(|rows| count(rows, &mut order));
    Ok(order)
}

const COLUMNS: [&str; 10] = [
    "trace_id",
    "span_id",
    "parent_span_id",
    "kind",
    "clock",
    "start_unix_nano",
    "end_unix_nano",
    "original_start_unix_nano",
    "original_end_unix_nano",
    "attributes",
];

fn rows(batch: &RecordBatch, traces: &mut HashMap<String, Vec<Row>>) -> Result<()> {
    let column = |name: &str| batch.column_by_name(name).with_context(|| format!("no column {name}"));
    let text =
        |name: &str| Ok::<_, anyhow::Error>(arrow::compute::cast(column(name)?, &arrow::datatypes::DataType::Utf8)?);
    let texts = [text("trace_id")?, text("span_id")?, text("parent_span_id")?, text("kind")?, text("clock")?];
    let [trace, span, parent, kind, clock] = [0, 1, 2, 3, 4].map(|place: usize| texts[place].as_string::<i32>());
    let number = |name: &str| Ok::<_, anyhow::Error>(column(name)?.as_primitive::<Int64Type>());
    let (start, end) = (number("start_unix_nano")?, number("end_unix_nano")?);
    let (recorded_start, recorded_end) = (number("original_start_unix_nano")?, number("original_end_unix_nano")?);
    let attributes = column("attributes")?.as_map();
    for row in 0..batch.num_rows() {
        let mut facts = CallFacts::default();
        let entries = attributes.value(row);
        let [keys, values] =
            [0, 1].map(|place| arrow::compute::cast(entries.column(place), &arrow::datatypes::DataType::Utf8));
        let (keys, values) = (keys?, values?);
        let (keys, values) = (keys.as_string::<i32>(), values.as_string::<i32>());
        for entry in (0..keys.len()).filter(|&entry| values.is_valid(entry)) {
            facts.learn(keys.value(entry).as_bytes(), AttributeValue::Str(values.value(entry).as_bytes()));
        }
        traces.entry(trace.value(row).to_owned()).or_default().push(Row {
            span: span.value(row).to_owned(),
            parent: parent.is_valid(row).then(|| parent.value(row).to_owned()),
            kind: kind.value(row).to_owned(),
            clock: clock.value(row).to_owned(),
            recorded: Times { start: recorded_start.value(row), end: recorded_end.value(row) },
            written: Times { start: start.value(row), end: end.value(row) },
            facts,
        });
    }
    Ok(())
}

/// Counts one trace's pairs. A parent is the span of that id that may make calls; of several of one kind nobody can say
/// which it was.
fn count(rows: &[Row], order: &mut CausalOrder) {
    let mut by_id: HashMap<(&str, &str), Vec<usize>> = HashMap::new();
    for (index, row) in rows.iter().enumerate() {
        by_id.entry((&row.span, &row.kind)).or_default().push(index);
    }
    let only = |span: &str, kind: &str| match by_id.get(&(span, kind)).map(Vec::as_slice) {
        Some([one]) => Some(*one),
        _ => None,
    };
    let kinds = ["CLIENT", "PRODUCER", "INTERNAL", "UNSPECIFIED", "SERVER", "CONSUMER"];
    for (index, row) in rows.iter().enumerate().filter(|(_, row)| only(&row.span, &row.kind).is_some()) {
        // A server that shares its client's id is that client's child.
        let client = only(&row.span, "CLIENT").filter(|_| row.kind == "SERVER");
        let above = row.parent.as_deref();
        let parent = client.or_else(|| kinds.iter().find_map(|kind| only(above?, kind)));
        if let Some(parent) = parent.filter(|&parent| parent != index && rows[parent].clock != row.clock) {
            count_pair(&rows[parent], row, order);
        }
    }
}

fn count_pair(parent: &Row, child: &Row, order: &mut CausalOrder) {
    let times = [parent.recorded, child.recorded];
    if times.iter().flat_map(|times| [times.start, times.end]).any(says_nothing) {
        return;
    }
    let (from, to) = (parent.kind.as_str(), child.kind.as_str());
    let is_message = [parent, child].iter().any(|row| row.facts.protocol == Protocol::Messaging);
    let is_publish = from == "PRODUCER" || to == "CONSUMER" || is_message && (from, to) == ("CLIENT", "SERVER");
    let is_receive = is_publish && !child.facts.processes_message;
    let length = |row: &Row| row.recorded.end.saturating_sub(row.recorded.start);
    let waited = !is_publish
        && to == "SERVER"
        && matches!(from, "CLIENT" | "SERVER")
        && !parent.facts.gave_up
        && length(parent) >= length(child);
    let slack_ns = 1_000 + floored_ns(parent).max(floored_ns(child));
    let out = |of: fn(&Row) -> Times| {
        let (parent, child) = (of(parent), of(child));
        let end = |times: Times| times.end.max(times.start);
        let caused = if is_receive { child.end } else { child.start };
        let early_ns = parent.start.saturating_sub(caused);
        let late_ns = end(child).saturating_sub(end(parent));
        let is_early = early_ns > slack_ns;
        (is_early || waited && late_ns > slack_ns, if is_early { early_ns } else { 0 })
    };
    order.pairs += 1;
    for (sum, (is_out, early_ns)) in
        [(&mut order.before, out(|row| row.recorded)), (&mut order.after, out(|row| row.written))]
    {
        sum.pairs += u64::from(is_out);
        sum.early_ns += i128::from(early_ns);
    }
}

/// Within a day of 1970, or beyond what can be told.
fn says_nothing(nanos: i64) -> bool {
    nanos.abs() < 86_400_000_000_000 || nanos == i64::MAX
}

/// What a start looks floored to, ns.
fn floored_ns(row: &Row) -> i64 {
    [1_000_000_000, 1_000_000, 1_000, 100].into_iter().find(|quantum| row.recorded.start % quantum == 0).unwrap_or(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOON: i64 = 1_700_000_000_000_000_007;

    fn row(span: &str, parent: &str, kind: &str, clock: &str, recorded: (i64, i64), by: i64) -> Row {
        let times = |by: i64| Times { start: NOON + recorded.0 * 10_000 + by, end: NOON + recorded.1 * 10_000 + by };
        Row {
            span: span.to_owned(),
            parent: Some(parent.to_owned()).filter(|parent| !parent.is_empty()),
            kind: kind.to_owned(),
            clock: clock.to_owned(),
            recorded: times(0),
            written: times(by * 10_000),
            facts: CallFacts::default(),
        }
    }

    /// Pairs, out of order before and after, early before and after in tens of µs.
    fn check(rows: &[Row], expected: (u64, [u64; 2], [i128; 2])) {
        let mut order = CausalOrder::default();
        count(rows, &mut order);
        let CausalOrder { pairs, before, after } = order;
        let early = [before, after].map(|out| out.early_ns / 10_000);
        assert_eq!((pairs, [before.pairs, after.pairs], early), expected);
    }

    #[test]
    fn calls_are_early_and_late() {
        let client = row("1", "", "CLIENT", "a", (0, 100), 0);
        check(&[client.clone(), row("2", "1", "SERVER", "b", (10, 90), -30)], (1, [0, 1], [0, 20]));
        check(&[client.clone(), row("2", "1", "SERVER", "b", (-50, 30), 60)], (1, [1, 0], [50, 0]));
        check(&[client.clone(), row("2", "1", "SERVER", "b", (10, 90), 30)], (1, [0, 1], [0, 0]));
        check(&[client.clone(), row("2", "1", "SERVER", "b", (10, 190), 30)], (1, [0, 0], [0, 0]));
        check(&[client.clone(), row("2", "1", "SERVER", "a", (10, 90), -30)], (0, [0, 0], [0, 0]));
        check(&[client, row("1", "", "SERVER", "b", (-50, 30), 60)], (1, [1, 0], [50, 0]));
    }

    #[test]
    fn nobody_waits_for_a_message_or_after_giving_up() {
        let publish = row("1", "", "PRODUCER", "a", (0, 100), 0);
        check(&[publish, row("2", "1", "CONSUMER", "b", (-50, 90), 30)], (1, [0, 0], [0, 0]));
        let mut client = row("1", "", "CLIENT", "a", (0, 100), 0);
        client.facts.gave_up = true;
        check(&[client, row("2", "1", "SERVER", "b", (10, 90), 30)], (1, [0, 0], [0, 0]));
    }

    #[test]
    fn spans_that_share_an_id_and_kind_are_nobodys_parent() {
        let client = || row("1", "", "CLIENT", "a", (0, 100), 0);
        check(&[client(), client(), row("2", "1", "SERVER", "b", (10, 90), -30)], (0, [0, 0], [0, 0]));
    }
}
