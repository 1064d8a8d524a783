//! Findings by kind, in words: how many, the worst of them, and what to do. Every text about a kind is here.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use crate::clock::Span;

/// A finding as the table of findings has it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FindingRow<'a> {
    pub kind: &'a str,
    pub trace: Option<String>,
    pub span: Option<String>,
    pub clock: Option<&'a str>,
    pub before_ns: Option<i64>,
    pub after_ns: Option<i64>,
    pub reason: &'a str,
}

/// All findings of one kind.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct KindRow {
    pub kind: String,
    pub count: u64,
    /// Those that are still so as written.
    pub left: u64,
    /// The worst of them.
    pub example: String,
    /// How bad that is, ns: as written, then as recorded.
    #[serde(skip)]
    pub worst_ns: [Option<i64>; 2],
    pub advice: &'static str,
}

/// One row per kind, in order of their names. Of a kind the worst is the one that is worst as written, then as recorded; of
/// equals the first.
pub fn by_kind<'a>(findings: impl Iterator<Item = FindingRow<'a>>) -> Vec<KindRow> {
    let mut kinds: BTreeMap<&str, ([u64; 2], FindingRow<'a>)> = BTreeMap::new();
    for finding in findings {
        let worse = |other: &FindingRow<'_>| (finding.after_ns, finding.before_ns) > (other.after_ns, other.before_ns);
        let counted = [1, u64::from(finding.after_ns != Some(0))];
        match kinds.get_mut(finding.kind) {
            None => _ = kinds.insert(finding.kind, (counted, finding)),
            Some((counts, worst)) => {
                *counts = [counts[0] + counted[0], counts[1] + counted[1]];
                if worse(worst) {
                    *worst = finding;
                }
            }
        }
    }
    let row = |(kind, ([count, left], worst)): (&str, ([u64; 2], FindingRow<'_>))| KindRow {
        kind: kind.to_owned(),
        count,
        left,
        example: example(&worst),
        worst_ns: [worst.after_ns, worst.before_ns],
        advice: advice(kind),
    };
    kinds.into_iter().map(row).collect()
}

/// Findings by kind of several windows, summed and in order of their names. The example is the worst window's, which it names; of
/// equals the first's.
pub fn of_windows(windows: impl IntoIterator<Item = (String, Vec<KindRow>)>) -> Vec<KindRow> {
    let mut kinds: BTreeMap<String, KindRow> = BTreeMap::new();
    for (window, rows) in windows {
        for mut row in rows {
            row.example += &format!("{}in {window}", if row.example.is_empty() { "" } else { ", " });
            let all = match kinds.remove(&row.kind) {
                Some(earlier) => earlier.then(row),
                None => row,
            };
            kinds.insert(all.kind.clone(), all);
        }
    }
    kinds.into_values().collect()
}

impl KindRow {
    fn then(self, later: Self) -> Self {
        let (count, left) = (self.count + later.count, self.left + later.left);
        let worst = if later.worst_ns > self.worst_ns { later } else { self };
        Self { count, left, ..worst }
    }
}

fn example(worst: &FindingRow<'_>) -> String {
    let length = |nanos: i64| Span(nanos.unsigned_abs());
    let mut text = match (worst.before_ns, worst.after_ns) {
        _ if worst.span.is_none() => String::new(),
        (Some(before @ 1..), Some(0) | None) => format!("up to {} as recorded", length(before)),
        (_, Some(after @ 1..)) => format!("up to {}", length(after)),
        _ => String::new(),
    };
    let mut add = |word: &str, value: Option<&str>| {
        if let Some(value) = value.filter(|value| !value.is_empty()) {
            let _ = write!(text, "{}{word}{value}", if text.is_empty() { "" } else { ", " });
        }
    };
    add("span ", worst.span.as_deref());
    add("trace ", worst.trace.as_deref());
    add("on ", worst.clock);
    if worst.span.is_none() {
        // What the table says behind it is for who reads on there.
        add("", worst.reason.split("; ").next());
    }
    text
}

/// What to do about a kind of finding.
fn advice(kind: &str) -> &'static str {
    match kind {
        "end_before_start" => "a clock was set back while they lasted, or their SDK reads two clocks",
        "starts_before_parent" => "what is left is no matter of one clock: look for wrong readings and wrong parents",
        "ends_after_parent" => "what is left has callers that did not wait, or stamps its end after the answer",
        "not_comparable" => "trace one request with client and server spans through both clocks",
        "negative_cycle" => "wrong readings, or two clocks under one key: these calls bound nothing",
        "implausible_time" => "look at what stamps them; times within a day of 1970 are never moved",
        "time_out_of_range" => "corrupt times pass as they are",
        "invalid_id" => "spans without valid ids pass as they are, and are never paired",
        "duplicate" => "copies of one span count once",
        "conflicting_duplicate" => "two spans have one id: make their ids differ",
        "missing_parent" => "send whole traces: calls without both ends tell nothing",
        "parent_cycle" => "such spans are compared with nothing: mend what writes their parent ids",
        "shared_key" | "split_clock" => "say with --clock-key which attribute is a clock's own",
        "untrusted_key" => "several machines carry one value: set host.id",
        "untrusted_source" => "have all libraries of a process stamp spans by one clock, or leave one of them out",
        "coarse_tick" => "such a clock tells no finer than its tick",
        "not_corrected" => "look at the calls that they name: a wrong reading, a second time source or a coarse clock",
        _ => "",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn late<'a>(span: &str, before_ns: i64, after_ns: i64) -> FindingRow<'a> {
        FindingRow {
            kind: "ends_after_parent",
            trace: Some("7".to_owned()),
            span: Some(span.to_owned()),
            clock: Some("pay-1"),
            before_ns: Some(before_ns),
            after_ns: Some(after_ns),
            reason: "the clocks do not explain it",
        }
    }

    #[test]
    fn the_worst_is_the_one_that_is_worst_as_written() {
        let rows = by_kind([late("1", 9_000_000, 0), late("2", 7_000, 7_600), late("3", 7_000, 5_000)].into_iter());
        let told: Vec<_> =
            rows.iter().map(|row| (row.kind.as_str(), row.count, row.left, row.example.as_str())).collect();
        assert_eq!(told, [("ends_after_parent", 3, 2, "up to 7.6 µs, span 2, trace 7, on pay-1")]);
        let mended = by_kind([late("1", 9_000_000, 0)].into_iter());
        assert_eq!(mended[0].example, "up to 9 ms as recorded, span 1, trace 7, on pay-1");
    }

    #[test]
    fn what_no_correction_is_asked_to_mend_is_left() {
        let cycle = FindingRow { kind: "negative_cycle", after_ns: None, ..late("1", 9_000_000, 0) };
        let rows = by_kind([cycle].into_iter());
        assert_eq!((rows[0].left, rows[0].example.starts_with("up to 9 ms as recorded, span 1")), (1, true));
    }

    #[test]
    fn what_is_about_no_span_is_told_by_its_reason() {
        let shared = FindingRow {
            kind: "shared_key",
            clock: Some("web"),
            reason: "host.name `web` hides 3; set host.id",
            ..Default::default()
        };
        assert_eq!(by_kind([shared].into_iter())[0].example, "on web, host.name `web` hides 3");
    }
}
