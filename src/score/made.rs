//! Small fleets made by hand, for tests.

use std::collections::{BTreeSet, HashMap};

use super::read::{Scored, Span, Times, Truth};

/// A span by its true times, in ms, and how late it was written. Id 0 is no parent.
#[derive(Clone, Debug)]
pub(super) struct Made {
    pub id: u64,
    pub parent: u64,
    pub host: &'static str,
    pub kind: &'static str,
    pub from: i64,
    pub to: i64,
    /// Added to both times.
    pub beyond_ns: i64,
    pub error_ms: f64,
}

impl Default for Made {
    fn default() -> Self {
        Self { id: 0, parent: 0, host: "a", kind: "INTERNAL", from: 0, to: 1, beyond_ns: 0, error_ms: 0.0 }
    }
}

/// One trace, in which clock and host are the same, and nothing was corrected.
pub(super) fn fleet(rows: &[Made]) -> Scored {
    let hosts: Vec<String> =
        rows.iter().map(|row| row.host).collect::<BTreeSet<_>>().into_iter().map(str::to_owned).collect();
    let by_id: HashMap<u64, usize> = rows.iter().enumerate().map(|(index, row)| (row.id, index)).collect();
    let spans = rows
        .iter()
        .map(|row| {
            let host = hosts.iter().position(|host| host == row.host).unwrap();
            let [start, end] = [row.from, row.to].map(|ms| ms * 1_000_000 + row.beyond_ns);
            let error_ns = (row.error_ms * 1e6).round() as i64;
            let written = Times { start: start + error_ns, end: end + error_ns };
            Span {
                trace: 1,
                parent: by_id.get(&row.parent).copied(),
                is_client: row.kind == "CLIENT",
                is_server: row.kind == "SERVER",
                clock: host,
                original: written,
                corrected: written,
                uncertainty_ns: None,
                moved: false,
                truth: Some(Truth { host, times: Times { start, end } }),
            }
        })
        .collect();
    Scored { spans, clocks: hosts.clone(), hosts, ..Scored::default() }
}
