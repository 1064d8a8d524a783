//! The report in a terminal: what is wrong with which clock, before and after, and what to do next.

use std::fmt::Write;

use super::skew::ClockRow;
use super::summary::Summary;
use crate::clock::{ErrorBound, Offset, Span};

/// Clocks told one by one; the rest is counted.
const SHOWN: usize = 20;

/// The clocks that are furthest off first.
pub fn worst_first(clocks: &[ClockRow]) -> Vec<&ClockRow> {
    let mut rows: Vec<&ClockRow> = clocks.iter().collect();
    rows.sort_by_key(|row| (std::cmp::Reverse(row.offset_largest_ns.unwrap_or(0).abs()), row.clock.as_str()));
    rows
}

/// The report of one run; `clocks` in any order.
pub fn render(clocks: &[ClockRow], summary: &Summary) -> String {
    let mut text = String::new();
    let mut wrong = worst_first(clocks);
    wrong.retain(|row| matches!(row.state.as_str(), "corrected" | "capped"));
    let unknown: Vec<&ClockRow> = clocks.iter().filter(|row| row.state == "no_evidence").collect();
    let well = clocks.len() - wrong.len() - unknown.len();
    if wrong.is_empty() {
        let within = summary.agree_within_ns.map_or_else(String::new, |ns| format!(" within {}", ErrorBound::ns(ns)));
        let _ = writeln!(text, "nothing is wrong: {well} {} agree{within}; 0 spans moved", plural(well, "clock"));
    } else {
        table(&mut text, &wrong, summary);
        if well > 0 {
            let _ = writeln!(
                text,
                "{well} more {} nothing wrong with {}",
                plural_has(well),
                if well == 1 { "it" } else { "them" }
            );
        }
    }
    for row in unknown.iter().take(SHOWN) {
        let _ = writeln!(text, "{}: {}", row.clock, row.verdict);
    }
    if unknown.len() > SHOWN {
        let _ = writeln!(text, "… and {} more without evidence", unknown.len() - SHOWN);
    }
    let Summary { inversions, spans, moved, marked_before, .. } = summary;
    let _ = writeln!(text);
    let _ = writeln!(
        text,
        "inversions  {} → {} of {} synchronous pairs across clocks",
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
    for problem in &summary.problems {
        let _ = writeln!(text, "problem     {}: {}", problem.file, problem.problem);
    }
    next_steps(&mut text, clocks, &wrong);
    text
}

fn table(text: &mut String, wrong: &[&ClockRow], summary: &Summary) {
    let offset = |nanos: Option<i64>| nanos.map_or_else(|| "–".to_owned(), |nanos| Offset::ahead_ns(nanos).to_string());
    let bound = |nanos: Option<i64>| nanos.map_or_else(|| "–".to_owned(), |nanos| ErrorBound::ns(nanos).to_string());
    let against =
        summary.reference.as_deref().map_or_else(|| "the median clock".to_owned(), |name| format!("`{name}`"));
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

fn next_steps(text: &mut String, clocks: &[ClockRow], wrong: &[&ClockRow]) {
    let unknown = clocks.iter().filter(|row| row.state == "no_evidence");
    let advice: Vec<&str> = wrong
        .iter()
        .copied()
        .chain(unknown)
        .map(|row| row.advice.as_str())
        .filter(|text| !text.is_empty())
        .take(3)
        .collect();
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
