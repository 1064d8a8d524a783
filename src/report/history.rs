//! Windows → one history: each clock over all of them, steps by time, findings by kind.
//!
//! A clock is the same in two windows where its display name is: `fix --after` keeps names. Windows come oldest first.

use std::collections::{BTreeMap, BTreeSet};

use super::kinds::of_windows;
use super::skew::{ClockRow, StepRow};
use super::summary::{FileSummary, Summary};
use super::terminal::{Report, is_off};

/// All that is told of several windows.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct History {
    /// The newest first.
    pub windows: Vec<Window>,
    /// All of them as one run. Its problems are the windows that could not be read.
    pub all: Report,
    /// Clocks that one window or another found off, by their display names.
    pub wrong: BTreeSet<String>,
    /// The first and the last time at which calls tell of a clock, ns.
    pub period: Option<[i64; 2]>,
}

/// A window in numbers.
#[derive(Clone, Debug, Default, PartialEq, serde::Serialize)]
pub struct Window {
    /// Of its folder.
    pub name: String,
    pub summary: Summary,
}

/// All that is told of one window.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct WindowReport {
    pub name: String,
    pub report: Report,
    pub period: Option<[i64; 2]>,
}

/// The history of windows, oldest first, beside which `unread` could not be read.
pub fn history(windows: Vec<WindowReport>, unread: Vec<FileSummary>) -> History {
    let (mut clocks, mut wrong): (BTreeMap<String, ClockRow>, BTreeSet<String>) = Default::default();
    let (mut told, mut steps, mut kinds, mut periods) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    for WindowReport { name, report, period } in windows {
        wrong.extend(report.clocks.iter().filter(|row| is_off(row)).map(|row| row.clock.clone()));
        report.clocks.into_iter().for_each(|row| add(&mut clocks, row));
        steps.extend(report.steps);
        kinds.push((name.clone(), report.findings));
        periods.extend(period);
        told.push(Window { name, summary: report.summary });
    }
    steps.sort_by(|one, other| (&one.clock, one.time_unix_nano).cmp(&(&other.clock, other.time_unix_nano)));
    steps.dedup_by(|later, first| is_same(first, later));
    steps.sort_by_key(|step| step.time_unix_nano);
    let summary = told.iter().map(|window| window.summary.clone()).reduce(Summary::then).unwrap_or_default();
    let summary = Summary { clocks: clocks.len() as u64, problems: unread, ..summary };
    told.reverse();
    History {
        windows: told,
        all: Report { clocks: clocks.into_values().collect(), steps, findings: of_windows(kinds), summary },
        wrong,
        period: periods.into_iter().reduce(|all, next| [all[0].min(next[0]), all[1].max(next[1])]),
    }
}

/// A step near the end of a window is in the context of the next, and both tell it: at about the same time, about as large.
fn is_same(one: &StepRow, other: &StepRow) -> bool {
    let of_both = [one, other].map(|step| step.uncertainty_ns).iter().sum::<i64>().max(one.size_ns.abs() / 20);
    one.clock == other.clock
        && (one.duration_ns == 0) == (other.duration_ns == 0)
        && (other.time_unix_nano - one.time_unix_nano).abs() < NEAR_NS
        && (other.size_ns - one.size_ns).abs() <= of_both
}

/// When a step was is known to this amid few calls, ns.
const NEAR_NS: i64 = 2_000_000_000;

fn add(clocks: &mut BTreeMap<String, ClockRow>, row: ClockRow) {
    let all = match clocks.remove(&row.clock) {
        Some(earlier) => over(earlier, row),
        None => row,
    };
    clocks.insert(all.clock.clone(), all);
}

/// A clock over two stretches of time. Its verdict is that of the later one, unless that has no evidence of it.
fn over(earlier: ClockRow, later: ClockRow) -> ClockRow {
    let largest = [earlier.offset_largest_ns, later.offset_largest_ns].into_iter().flatten();
    let numbers = ClockRow {
        offset_first_ns: earlier.offset_first_ns.or(later.offset_first_ns),
        offset_last_ns: later.offset_last_ns.or(earlier.offset_last_ns),
        offset_largest_ns: largest.max_by_key(|nanos| nanos.abs()),
        uncertainty_ns: later.uncertainty_ns.or(earlier.uncertainty_ns),
        frequency_ppm: later.frequency_ppm.or(earlier.frequency_ppm),
        steps: earlier.steps + later.steps,
        spans: earlier.spans + later.spans,
        moved: earlier.moved + later.moved,
        ..ClockRow::default()
    };
    let newest = if later.state == "no_evidence" { earlier } else { later };
    ClockRow { clock: newest.clock, state: newest.state, verdict: newest.verdict, advice: newest.advice, ..numbers }
}

#[cfg(test)]
mod tests {
    use super::super::kinds::KindRow;
    use super::*;

    /// A clock that is so far ahead at the first and the last, ms, of whose spans all move.
    fn off(clock: &str, ahead_ms: [i64; 2], spans: i64) -> ClockRow {
        let [first, last] = ahead_ms.map(|ahead| Some(ahead * 1_000_000));
        ClockRow {
            state: "corrected".to_owned(),
            offset_first_ns: first,
            offset_last_ns: last,
            offset_largest_ns: [first, last].into_iter().flatten().max_by_key(|nanos| nanos.abs()),
            uncertainty_ns: Some(ahead_ms[1].abs() * 1_000),
            spans,
            moved: spans,
            verdict: format!("{} to {}", ahead_ms[0], ahead_ms[1]),
            ..of_state(clock, "corrected")
        }
    }

    /// A clock that does not move, with one span.
    fn of_state(clock: &str, state: &str) -> ClockRow {
        let (clock, state) = (clock.to_owned(), state.to_owned());
        ClockRow { verdict: state.clone(), clock, state, spans: 1, ..ClockRow::default() }
    }

    fn window(number: usize, clocks: Vec<ClockRow>) -> WindowReport {
        let summary = Summary { spans: 10, moved: number as u64, ..Summary::default() };
        WindowReport {
            name: format!("window=a-{number}"),
            report: Report { clocks, summary, ..Report::default() },
            period: Some([100 * number as i64, 100 * number as i64 + 90]),
        }
    }

    /// One clock over windows, by its rows.
    fn clock(rows: &[ClockRow]) -> ClockRow {
        let windows = rows.iter().enumerate().map(|(number, row)| window(number, vec![row.clone()])).collect();
        let [one] = <[ClockRow; 1]>::try_from(history(windows, Vec::new()).all.clocks).unwrap();
        one
    }

    #[test]
    fn a_clock_goes_from_its_first_window_to_its_last() {
        let one = clock(&[off("a", [5, 7], 10), off("a", [7, -90], 20), off("a", [-90, 3], 40)]);
        let ms = |nanos: Option<i64>| nanos.unwrap() / 1_000_000;
        let ends = [one.offset_first_ns, one.offset_last_ns, one.offset_largest_ns].map(ms);
        assert_eq!((ends, one.uncertainty_ns), ([5, 3, -90], Some(3_000)));
        assert_eq!((one.spans, one.moved, one.verdict.as_str()), (70, 70, "-90 to 3"));
    }

    #[test]
    fn the_newest_window_that_has_evidence_of_a_clock_has_the_say() {
        let unknown = of_state("a", "no_evidence");
        let one = clock(&[off("a", [5, 7], 10), unknown.clone(), unknown.clone()]);
        assert_eq!((one.state.as_str(), one.verdict.as_str(), one.spans), ("corrected", "5 to 7", 12));
        let well = clock(&[off("a", [5, 7], 10), of_state("a", "within_uncertainty"), unknown.clone()]);
        assert_eq!((well.verdict.as_str(), well.offset_last_ns), ("within_uncertainty", Some(7_000_000)));
        assert_eq!(clock(&[unknown.clone(), unknown]).verdict, "no_evidence");
    }

    #[test]
    fn a_clock_that_was_off_once_is_told() {
        let windows = vec![
            window(1, vec![off("a", [5, 7], 10), of_state("b", "capped"), of_state("c", "within_uncertainty")]),
            window(2, ["a", "b", "c"].map(|clock| of_state(clock, "within_uncertainty")).to_vec()),
        ];
        assert_eq!(history(windows, Vec::new()).wrong.into_iter().collect::<Vec<_>>(), ["a", "b"]);
    }

    #[test]
    fn windows_are_told_the_newest_first_and_summed() {
        let rows = |clock: &str| vec![of_state(clock, "within_uncertainty")];
        let unread = vec![FileSummary { file: "window=a-3".to_owned(), problem: "torn".to_owned() }];
        let told = history(vec![window(1, rows("a")), window(2, rows("b")), window(4, rows("a"))], unread.clone());
        let names: Vec<&str> = told.windows.iter().map(|window| window.name.as_str()).collect();
        assert_eq!(names, ["window=a-4", "window=a-2", "window=a-1"]);
        let Summary { spans, moved, clocks, problems, .. } = told.all.summary;
        assert_eq!((spans, moved, clocks, problems), (30, 7, 2, unread));
        assert_eq!(told.period, Some([100, 490]));
    }

    #[test]
    fn a_step_that_two_windows_tell_is_one() {
        let step = |clock: &str, at_ms: i64, size_ms: i64, duration_ns: i64| StepRow {
            clock: clock.to_owned(),
            time_unix_nano: at_ms * 1_000_000,
            duration_ns,
            size_ns: size_ms * 1_000_000,
            uncertainty_ns: 1_000_000,
        };
        let told = |steps: [StepRow; 2]| {
            let [mut first, mut second] = [window(1, Vec::new()), window(2, Vec::new())];
            let [one, other] = steps;
            (first.report.steps, second.report.steps) = (vec![one], vec![other]);
            history(vec![first, second], Vec::new()).all.steps.len()
        };
        assert_eq!(told([step("a", 1_000, -87, 0), step("a", 1_400, -86, 0)]), 1);
        assert_eq!(told([step("a", 1_000, -87, 0), step("b", 1_000, -87, 0)]), 2);
        assert_eq!(told([step("a", 1_000, -87, 0), step("a", 4_000, -87, 0)]), 2);
        assert_eq!(told([step("a", 1_000, -87, 0), step("a", 1_000, 87, 0)]), 2);
        assert_eq!(told([step("a", 1_000, -87, 0), step("a", 1_000, -87, 9)]), 2);
    }

    #[test]
    fn steps_are_told_by_time_and_the_worst_finding_with_its_window() {
        let with = |number: usize, step_at: i64, worst_ns: i64, example: &str| {
            let mut of = window(number, Vec::new());
            of.report.steps = vec![StepRow { time_unix_nano: step_at * 10_000_000_000, ..StepRow::default() }];
            let (kind, example) = ("shared_key".to_owned(), example.to_owned());
            let worst_ns = [Some(worst_ns), None];
            of.report.findings = vec![KindRow { kind, count: 3, left: 1, example, worst_ns, ..KindRow::default() }];
            of
        };
        let told = history(vec![with(1, 7, 5, "x"), with(2, 5, 9, "y"), with(3, 6, 9, "z")], Vec::new()).all;
        let steps: Vec<i64> = told.steps.iter().map(|step| step.time_unix_nano / 10_000_000_000).collect();
        assert_eq!(steps, [5, 6, 7]);
        let [KindRow { count, left, example, .. }] = told.findings.as_slice() else { panic!("{:?}", told.findings) };
        assert_eq!((*count, *left, example.as_str()), (9, 3, "y, in window=a-2"));
    }
}
