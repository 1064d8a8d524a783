//! The report in a terminal: what is wrong with which clock, before and after, and what to do next.

use std::fmt::Write;

use super::history::{History, Window};
use super::kinds::KindRow;
use super::skew::{ClockRow, StepRow};
use super::summary::{FileSummary, Summary, problem_lines};
use crate::clock::{ErrorBound, FrequencyError, Offset, Span};

/// Rows told one by one; the rest is counted.
const SHOWN: usize = 20;

/// All that is told of a run.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Report {
    /// In any order.
    pub clocks: Vec<ClockRow>,
    pub steps: Vec<StepRow>,
    pub findings: Vec<KindRow>,
    pub summary: Summary,
}

/// The clocks that are furthest off first.
pub fn worst_first(clocks: &[ClockRow]) -> Vec<&ClockRow> {
    let mut rows: Vec<&ClockRow> = clocks.iter().collect();
    rows.sort_by_key(|row| (std::cmp::Reverse(row.offset_largest_ns.unwrap_or(0).abs()), row.clock.as_str()));
    rows
}

/// What differs between the report of one run and that of several windows.
struct Manner {
    columns: &'static [Column],
    are_wrong: [&'static str; 2],
    /// Where the rows are that are not told.
    clocks: &'static str,
    steps: &'static str,
}

/// A column of the table of clocks that are wrong: its head, and its text of a clock.
type Column = (&'static str, fn(&ClockRow) -> String);

const CLOCK: Column = ("clock", |row| row.clock.clone());
const FIRST: Column = ("first", |row| offset(row.offset_first_ns));
const LAST: Column = ("last", |row| offset(row.offset_last_ns));
const LARGEST: Column = ("largest", |row| offset(row.offset_largest_ns));
const BOUND: Column =
    ("± 95 %", |row| row.uncertainty_ns.map_or_else(none, |nanos| ErrorBound::ns(nanos).to_string()));
const FREQUENCY: Column =
    ("frequency", |row| row.frequency_ppm.map_or_else(none, |ppm| FrequencyError::gains_ppm(ppm).to_string()));
const STEPS: Column = ("steps", |row| row.steps.to_string());
const SPANS: Column = ("spans", |row| count(row.spans.unsigned_abs()));
const MOVED: Column = ("moved", |row| count(row.moved.unsigned_abs()));
const VERDICT: Column = ("verdict", |row| row.verdict.clone());

const OF_A_RUN: Manner = Manner {
    columns: &[CLOCK, FIRST, LARGEST, BOUND, VERDICT],
    are_wrong: ["clock is", "clocks are"],
    clocks: " in skew/clocks.parquet",
    steps: " in skew/steps.parquet",
};

const OF_WINDOWS: Manner = Manner {
    columns: &[CLOCK, FIRST, LAST, LARGEST, BOUND, FREQUENCY, STEPS, SPANS, MOVED, VERDICT],
    are_wrong: ["clock was", "clocks were"],
    clocks: ", which --json tells",
    steps: ", which --json tells",
};

fn offset(nanos: Option<i64>) -> String {
    nanos.map_or_else(none, |nanos| Offset::ahead_ns(nanos).to_string())
}

fn none() -> String {
    "–".to_owned()
}

/// Clocks by what is told of them, the worst first.
struct Sorted<'a> {
    /// Of which nobody can tell which is wrong.
    differing: Vec<&'a ClockRow>,
    wrong: Vec<&'a ClockRow>,
    contradictory: Vec<&'a ClockRow>,
    unknown: Vec<&'a ClockRow>,
    /// How many have nothing wrong with them.
    well: usize,
}

impl<'a> Sorted<'a> {
    fn of(report: &'a Report, is_wrong: impl Fn(&ClockRow) -> bool) -> Self {
        let clocks = worst_first(&report.clocks);
        let (wrong, others): (Vec<&ClockRow>, Vec<&ClockRow>) = clocks.into_iter().partition(|row| is_wrong(row));
        let is_undecided = |row: &&ClockRow| report.summary.undecided.iter().any(|pair| pair.other == row.clock);
        let (differing, wrong) = wrong.into_iter().partition(is_undecided);
        let (contradictory, others): (_, Vec<&ClockRow>) =
            others.into_iter().partition(|row| row.state == "contradictory");
        let (unknown, well): (_, Vec<&ClockRow>) = others.into_iter().partition(|row| row.state == "no_evidence");
        Self { differing, wrong, contradictory, unknown, well: well.len() }
    }
}

/// Whether a run found a clock off, by its row.
pub(super) fn is_off(row: &ClockRow) -> bool {
    ["corrected", "capped"].contains(&row.state.as_str())
}

/// The report of one run.
pub fn render(report: &Report) -> String {
    let sorted = Sorted::of(report, is_off);
    let mut text = String::new();
    found(&mut text, report, &sorted, &OF_A_RUN);
    next_steps(&mut text, &sorted);
    text
}

/// The report of several windows as one history.
pub fn render_history(history: &History) -> String {
    let mut text = String::new();
    if history.windows.is_empty() {
        let _ = writeln!(text, "{}", no_window(&history.all.summary.problems));
    } else {
        let sorted = Sorted::of(&history.all, |row| history.wrong.contains(&row.clock));
        let _ = writeln!(text, "{}\n", headline_of_windows(history));
        found(&mut text, &history.all, &sorted, &OF_WINDOWS);
        windows(&mut text, &history.windows);
        next_steps(&mut text, &sorted);
    }
    text
}

/// All that was found, but what to do next.
fn found(text: &mut String, report: &Report, sorted: &Sorted<'_>, manner: &Manner) {
    clocks(text, report, sorted, manner);
    steps(text, &report.steps, manner);
    numbers(text, &report.summary);
    findings(text, &report.findings);
    for problem in problem_lines(&report.summary.problems) {
        let _ = writeln!(text, "problem     {problem}");
    }
}

fn clocks(text: &mut String, report: &Report, sorted: &Sorted<'_>, manner: &Manner) {
    let Sorted { differing, wrong, contradictory, unknown, well } = sorted;
    for row in differing {
        undecided(text, row, &report.summary);
    }
    if !wrong.is_empty() {
        table(text, wrong, &report.summary, manner);
    }
    if !contradictory.is_empty() {
        let count = contradictory.len();
        let _ = writeln!(
            text,
            "{count} {}: what was found of {} contradicts the calls, so {} left as recorded",
            plural(count, "clock"),
            if count == 1 { "it" } else { "them" },
            if count == 1 { "it is" } else { "they are" }
        );
    }
    if !wrong.is_empty() || !differing.is_empty() || !contradictory.is_empty() {
        if *well > 0 {
            let them = if *well == 1 { "it" } else { "them" };
            let _ = writeln!(text, "{well} more {} nothing wrong with {them}", plural_has(*well));
        }
    } else {
        let _ = writeln!(text, "{}", headline(report, *well));
    }
    for row in contradictory.iter().chain(unknown).take(SHOWN) {
        let _ = writeln!(text, "{}: {}", row.clock, row.verdict);
    }
    more(text, "", contradictory.len() + unknown.len(), manner.clocks);
}

/// How many rows are not told.
fn more(text: &mut String, indent: &str, rows: usize, place: &str) {
    if rows > SHOWN {
        let _ = writeln!(text, "{indent}… and {} more{place}", rows - SHOWN);
    }
}

/// What the run comes to where no clock is said to be wrong.
fn headline(report: &Report, well: usize) -> String {
    let Summary { spans, moved, clocks, clocks_compared, inversions, .. } = &report.summary;
    let moved_by_trace = || {
        let furthest = report.summary.furthest_by_trace_ns.map(Offset::ahead_ns);
        let by = furthest.map_or_else(String::new, |offset| format!(", one of which was {offset}"));
        format!("{} {} moved one by one{by}", count(*moved), plural_were(*moved))
    };
    if *spans == 0 {
        return "nothing to compare: no span was read; give OTLP traces as the Collector's file exporter writes them"
            .to_owned();
    }
    if *clocks_compared < 2 {
        let why = match (*clocks, report.summary.exchanges) {
            (1, _) => "there is but one; give the traces of all hosts",
            _ if report.summary.findings.contains_key("untrusted_source") => {
                "their calls are stamped by libraries of one process that go by two time sources"
            }
            (_, 0) => "no call between two of them has both its spans; trace one request through both",
            _ => "those that call each other are known by no key of their own, or nobody waited for the answers",
        };
        let all = format!("{} {}", count(*clocks), plural(*clocks as usize, "clock"));
        let rest = if *moved > 0 { moved_by_trace() } else { "0 spans moved".to_owned() };
        return format!("no clock could be followed over time ({all}): {why}; {rest}");
    }
    let within =
        report.summary.agree_within_ns.map_or_else(String::new, |ns| format!(" within {}", ErrorBound::ns(ns)));
    let agree = format!("{well} {} agree{}{within}", plural(well, "clock"), if well == 1 { "s" } else { "" });
    let mut besides: Vec<String> = Vec::new();
    if *moved > 0 {
        besides.push(moved_by_trace());
    }
    let left = [
        (inversions.early_after, inversions.worst_early_after_ns, ["start before their", "starts before its"]),
        (inversions.late_after, inversions.worst_late_after_ns, ["end after their", "ends after its"]),
    ];
    for (number, worst_ns, [several, one]) in left.into_iter().filter(|left| left.0 > 0) {
        besides.push(format!(
            "{} of {} calls {} caller, by up to {}, which no clock explains",
            count(number),
            count(inversions.pairs),
            if number == 1 { one } else { several },
            Span(worst_ns.unsigned_abs())
        ));
    }
    // What is out of order is told already.
    let is_told = |kind: &str| match kind {
        "duplicate" | "missing_parent" => true,
        "starts_before_parent" | "ends_after_parent" => !besides.is_empty(),
        _ => false,
    };
    let other: u64 = report.findings.iter().filter(|row| !is_told(&row.kind)).map(|row| row.count).sum();
    if other > 0 {
        besides.push(format!("{} {} below", count(other), plural(other as usize, "finding")));
    }
    if besides.is_empty() {
        format!("nothing is wrong: {agree}; 0 spans moved")
    } else {
        format!("no clock is wrong: {agree}; {}", besides.join("; "))
    }
}

/// How many windows there are, from when until when, and what they hold.
fn headline_of_windows(history: &History) -> String {
    let Summary { spans, moved, clocks, .. } = &history.all.summary;
    let number = history.windows.len();
    let period =
        history.period.map_or_else(String::new, |[from, until]| format!(" from {} until {}", utc(from), utc(until)));
    format!(
        "{} {}{period}: {} {} on {} {}, {} moved",
        count(number as u64),
        plural(number, "window"),
        count(*spans),
        plural(*spans as usize, "span"),
        count(*clocks),
        plural(*clocks as usize, "clock"),
        count(*moved)
    )
}

/// Why there is nothing to tell of windows.
fn no_window(problems: &[FileSummary]) -> String {
    if problems.is_empty() {
        return "no window is written yet: `unskew serve --out DIR` writes one when `window`, ten minutes unless configured, is \
                over and spans came in it; what `fix` failed at is in DIR/failed"
            .to_owned();
    }
    format!("no window could be read:\n  {}", problem_lines(problems).join("\n  "))
}

/// What each window came to, the newest first.
fn windows(text: &mut String, windows: &[Window]) {
    let heads = ["window", "spans", "moved", "clocks moved", "inversions", "problems"];
    let line = |Window { name, summary }: &Window| {
        let Summary { spans, moved, clocks_moved, inversions, problems, .. } = summary;
        let numbers = [*spans, *moved, *clocks_moved].map(count);
        let inversions = format!("{} → {}", count(inversions.before), count(inversions.after));
        [vec![name.clone()], numbers.to_vec(), vec![inversions, count(problems.len() as u64)]].concat()
    };
    let mut lines = vec![heads.map(str::to_owned).to_vec()];
    lines.extend(windows.iter().take(SHOWN).map(line));
    let _ = writeln!(text);
    aligned(text, &lines);
    more(text, "  ", windows.len(), OF_WINDOWS.clocks);
}

/// Two clocks that only know each other.
fn undecided(text: &mut String, row: &ClockRow, summary: &Summary) {
    let Some(pair) = summary.undecided.iter().find(|pair| pair.other == row.clock) else { return };
    let apart = row.offset_largest_ns.unwrap_or(0);
    let _ = writeln!(
        text,
        "`{}` and `{}` differ by {} {}; which of them is wrong cannot be told without --reference: `{}` stays as it is, and \
         `{}` is {}",
        pair.standing,
        pair.other,
        Span(apart.unsigned_abs()),
        ErrorBound::ns(row.uncertainty_ns.unwrap_or(0)),
        pair.standing,
        pair.other,
        row.verdict
    );
}

fn table(text: &mut String, wrong: &[&ClockRow], summary: &Summary, manner: &Manner) {
    let against = match (&summary.reference, &summary.median_clock) {
        (Some(name), _) => format!("`{name}`"),
        (None, Some(name)) => format!("the median clock, `{name}`"),
        (None, None) => "the median clock of each group".to_owned(),
    };
    let [one, several] = manner.are_wrong;
    let are = if wrong.len() == 1 { one } else { several };
    let _ = writeln!(text, "{} {are} wrong, against {against}:\n", wrong.len());
    let mut lines = vec![manner.columns.iter().map(|(head, _)| (*head).to_owned()).collect()];
    lines.extend(wrong.iter().take(SHOWN).map(|row| manner.columns.iter().map(|(_, text)| text(row)).collect()));
    aligned(text, &lines);
    more(text, "  ", wrong.len(), manner.clocks);
    let _ = writeln!(text);
}

/// Lines of as many columns each: the first ends, the others begin at its widest text, and the last is as long as it is.
fn aligned(text: &mut String, lines: &[Vec<String>]) {
    let width = |column: usize| lines.iter().map(|line| line[column].chars().count()).max().unwrap_or(0);
    let columns = lines.first().map_or(0, Vec::len);
    let widths: Vec<usize> = (0..columns.saturating_sub(1)).map(width).collect();
    for line in lines {
        let cell = |(column, (cell, &width)): (usize, (&String, &usize))| match column {
            0 => format!("  {cell:<width$}"),
            _ => format!("  {cell:>width$}"),
        };
        let cells: String = line.iter().zip(&widths).enumerate().map(cell).collect();
        let _ = writeln!(text, "{cells}  {}", line.last().map_or("", String::as_str));
    }
}

/// Steps and slews, by clock and time.
fn steps(text: &mut String, steps: &[StepRow], manner: &Manner) {
    if steps.is_empty() {
        return;
    }
    let _ = writeln!(text);
    for (index, step) in steps.iter().take(SHOWN).enumerate() {
        let head = if index == 0 { "steps" } else { "" };
        let slew = if step.duration_ns > 0 {
            format!(", slewed over {}", Span(step.duration_ns.unsigned_abs()))
        } else {
            String::new()
        };
        let _ = writeln!(
            text,
            "{head:<12}{}  {}  {}{} {}{slew}",
            step.clock,
            utc(step.time_unix_nano),
            if step.size_ns < 0 { "−" } else { "+" },
            Span(step.size_ns.unsigned_abs()),
            ErrorBound::ns(step.uncertainty_ns)
        );
    }
    more(text, &" ".repeat(12), steps.len(), manner.steps);
}

/// A time of the dump to the millisecond, UTC.
fn utc(nanos: i64) -> String {
    let (seconds, beyond) = (nanos.div_euclid(1_000_000_000), nanos.rem_euclid(1_000_000_000));
    chrono::DateTime::from_timestamp(seconds, beyond as u32)
        .map_or_else(|| format!("{nanos} ns"), |time| time.format("%Y-%m-%dT%H:%M:%S%.3fZ").to_string())
}

fn numbers(text: &mut String, summary: &Summary) {
    let Summary { inversions, spans, moved, marked_before, .. } = summary;
    let _ = writeln!(text);
    let _ = writeln!(
        text,
        "inversions  {} → {} of {} calls and messages between two clocks",
        count(inversions.before),
        count(inversions.after),
        count(inversions.pairs)
    );
    let would = if summary.dry_run { " (dry run: nothing written)" } else { "" };
    let _ = writeln!(text, "spans       {} moved, {} left alone{would}", count(*moved), count(spans - moved));
    if let (Some(nudged), Some(largest)) = (summary.nudged, summary.largest_nudge_ns) {
        let _ = writeln!(
            text,
            "            {} nudged into order, by {} at the most",
            count(nudged),
            Span(largest.unsigned_abs())
        );
    }
    if *marked_before > 0 {
        let _ = writeln!(text, "            {} were corrected before and passed as they are", count(*marked_before));
    }
}

fn findings(text: &mut String, findings: &[KindRow]) {
    for (index, KindRow { kind, count: number, left: still, example, advice, .. }) in findings.iter().enumerate() {
        let head = if index == 0 { "findings" } else { "" };
        let example = if example.is_empty() { String::new() } else { format!(": {example}") };
        let left = match *still {
            left if left == *number => String::new(),
            0 => ", none as written".to_owned(),
            left => format!(", {} as written", count(left)),
        };
        let _ = writeln!(text, "{head:<12}{} {kind}{left}{example}", count(*number));
        if !advice.is_empty() && *still > 0 {
            let _ = writeln!(text, "{:<12}  {advice}", "");
        }
    }
}

fn next_steps(text: &mut String, sorted: &Sorted<'_>) {
    let Sorted { differing, wrong, contradictory, unknown, .. } = sorted;
    let rows = [differing, wrong, contradictory, unknown].into_iter().flatten();
    let advice: Vec<&str> = rows.map(|row| row.advice.as_str()).filter(|text| !text.is_empty()).take(3).collect();
    if !advice.is_empty() {
        let _ = writeln!(text, "\nnext");
        advice.iter().for_each(|line| {
            let _ = writeln!(text, "  {line}");
        });
    }
}

fn plural(count: usize, word: &str) -> String {
    if count == 1 { word.to_owned() } else { format!("{word}s") }
}

fn plural_has(count: usize) -> &'static str {
    if count == 1 { "clock has" } else { "clocks have" }
}

fn plural_were(count: u64) -> &'static str {
    if count == 1 { "span was" } else { "spans were" }
}

/// Thousands apart.
fn count(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}
