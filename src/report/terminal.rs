//! The report in a terminal: what is wrong with which clock, before and after, and what to do next.

use std::fmt::Write;

use super::kinds::KindRow;
use super::skew::{ClockRow, StepRow};
use super::summary::{Summary, problem_lines};
use crate::clock::{ErrorBound, Offset, Span};

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

/// The report of one run.
pub fn render(report: &Report) -> String {
    let Report { clocks, summary, .. } = report;
    let mut text = String::new();
    let of_state = |states: &[&str]| -> Vec<&ClockRow> {
        worst_first(clocks).into_iter().filter(|row| states.contains(&row.state.as_str())).collect()
    };
    let (differing, wrong): (Vec<&ClockRow>, Vec<&ClockRow>) = of_state(&["corrected", "capped"])
        .into_iter()
        .partition(|row| summary.undecided.iter().any(|pair| pair.other == row.clock));
    let (contradictory, unknown) = (of_state(&["contradictory"]), of_state(&["no_evidence"]));
    let well = clocks.len() - differing.len() - wrong.len() - contradictory.len() - unknown.len();
    for row in &differing {
        undecided(&mut text, row, summary);
    }
    if !wrong.is_empty() {
        table(&mut text, &wrong, summary);
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
        if well > 0 {
            let them = if well == 1 { "it" } else { "them" };
            let _ = writeln!(text, "{well} more {} nothing wrong with {them}", plural_has(well));
        }
    } else {
        let _ = writeln!(text, "{}", headline(report, well));
    }
    for row in contradictory.iter().chain(&unknown).take(SHOWN) {
        let _ = writeln!(text, "{}: {}", row.clock, row.verdict);
    }
    let told = contradictory.len() + unknown.len();
    if told > SHOWN {
        let _ = writeln!(text, "… and {} more in skew/clocks.parquet", told - SHOWN);
    }
    steps(&mut text, &report.steps);
    numbers(&mut text, summary);
    findings(&mut text, &report.findings);
    for problem in problem_lines(&summary.problems) {
        let _ = writeln!(text, "problem     {problem}");
    }
    next_steps(&mut text, &[differing, wrong, contradictory, unknown].concat());
    text
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

fn table(text: &mut String, wrong: &[&ClockRow], summary: &Summary) {
    let offset = |nanos: Option<i64>| nanos.map_or_else(|| "–".to_owned(), |nanos| Offset::ahead_ns(nanos).to_string());
    let bound = |nanos: Option<i64>| nanos.map_or_else(|| "–".to_owned(), |nanos| ErrorBound::ns(nanos).to_string());
    let against = match (&summary.reference, &summary.median_clock) {
        (Some(name), _) => format!("`{name}`"),
        (None, Some(name)) => format!("the median clock, `{name}`"),
        (None, None) => "the median clock of each group".to_owned(),
    };
    let mut lines = vec![["clock".to_owned(), "first".into(), "largest".into(), "± 95 %".into(), "verdict".into()]];
    lines.extend(wrong.iter().take(SHOWN).map(|row| {
        [
            row.clock.clone(),
            offset(row.offset_first_ns),
            offset(row.offset_largest_ns),
            bound(row.uncertainty_ns),
            row.verdict.clone(),
        ]
    }));
    let width = |column: usize| lines.iter().map(|line| line[column].chars().count()).max().unwrap_or(0);
    let widths: Vec<usize> = (0..4).map(width).collect();
    let _ = writeln!(
        text,
        "{} {} wrong, against {against}:",
        wrong.len(),
        if wrong.len() == 1 { "clock is" } else { "clocks are" }
    );
    let _ = writeln!(text);
    for [clock, first, largest, bound, verdict] in &lines {
        let _ = writeln!(
            text,
            "  {clock:<a$}  {first:>b$}  {largest:>c$}  {bound:>d$}  {verdict}",
            a = widths[0],
            b = widths[1],
            c = widths[2],
            d = widths[3]
        );
    }
    if wrong.len() > SHOWN {
        let _ = writeln!(text, "  … and {} more in skew/clocks.parquet", wrong.len() - SHOWN);
    }
    let _ = writeln!(text);
}

/// Steps and slews, by clock and time.
fn steps(text: &mut String, steps: &[StepRow]) {
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
    if steps.len() > SHOWN {
        let _ = writeln!(text, "{:<12}… and {} more in skew/steps.parquet", "", steps.len() - SHOWN);
    }
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
    for (index, KindRow { kind, count: number, left: still, example, advice }) in findings.iter().enumerate() {
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

fn next_steps(text: &mut String, rows: &[&ClockRow]) {
    let advice: Vec<&str> =
        rows.iter().map(|row| row.advice.as_str()).filter(|text| !text.is_empty()).take(3).collect();
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
