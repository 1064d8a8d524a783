//! The skew tables: clocks, offsets, links, steps, findings, exchanges.

use std::collections::BTreeMap;

use anyhow::Result;

use super::findings::{Finding, LinkCounts};
use super::keys::OnKey;
use super::kinds::{FindingRow, KindRow, by_kind};
use super::table::{Metadata, Table};
use super::verdict::{ByTrace, Heard, advice, verdict};
use crate::clock::{CallClass, Clock, ClockId, ClockMap, ClockModel, ClockState, Knot, Link, Step};
use crate::estimate::LinkEstimate;
use crate::pair::Edge;
use crate::span::Protocol;

/// One row of the clocks table.
#[derive(Clone, Debug, Default, PartialEq, serde::Serialize)]
pub struct ClockRow {
    pub clock: String,
    pub state: String,
    pub offset_first_ns: Option<i64>,
    pub offset_last_ns: Option<i64>,
    pub offset_largest_ns: Option<i64>,
    pub uncertainty_ns: Option<i64>,
    pub frequency_ppm: Option<f64>,
    pub steps: i64,
    pub spans: i64,
    pub moved: i64,
    pub verdict: String,
    pub advice: String,
}

/// Everything that the tables are made from.
pub struct Skew<'a> {
    pub clocks: &'a [Clock],
    pub map: &'a ClockMap,
    pub classes: &'a [CallClass],
    pub links: &'a BTreeMap<Link, LinkCounts>,
    pub estimates: &'a [LinkEstimate],
    pub findings: &'a [Finding],
    /// What is said of clocks' keys.
    pub keys: &'a [OnKey],
    /// Service of each distinct resource.
    pub services: &'a [String],
    /// Per clock: spans, and those that moved.
    pub spans: &'a [(i64, i64)],
    /// Per clock: its spans that were placed by their own traces.
    pub by_trace: &'a [ByTrace],
    /// Per clock: all of its starts are whole seconds.
    pub in_seconds: &'a [bool],
}

/// The clocks table's rows, worst first is the reader's business: they stand in order of key.
pub fn clock_rows(skew: &Skew<'_>) -> Vec<ClockRow> {
    let mut heard = vec![Heard::ByQueue; skew.clocks.len()];
    let calls =
        skew.links.iter().filter(|(link, _)| skew.classes[link.class as usize].protocol != Protocol::Messaging.name());
    for (link, counts) in calls {
        for (one, other) in [(link.client, link.server), (link.server, link.client)] {
            let is_loose = skew.clocks[other.0 as usize].untrusted && counts.exchanges > 0;
            let heard = &mut heard[one.0 as usize];
            *heard = match *heard {
                Heard::Loosely => Heard::Loosely,
                _ if is_loose => Heard::Loosely,
                Heard::Doubtful => Heard::Doubtful,
                _ if counts.distrusted => Heard::Doubtful,
                _ => Heard::OneWay,
            };
        }
    }
    let row = |index: usize| {
        let (clock, model, (spans, moved)) = (&skew.clocks[index], &skew.map.models[index], skew.spans[index]);
        let is_known = !matches!(model.state, ClockState::NoEvidence | ClockState::Contradictory);
        let knots = || model.told().filter(|_| is_known).flat_map(|segment| &segment.knots);
        let largest = knots().max_by_key(|knot| knot.offset_ns.abs());
        let mut uncertainties: Vec<i64> = knots().map(|knot| knot.uncertainty_ns).collect();
        uncertainties.sort_unstable();
        let is_steady = model.steps.is_empty() && model.segments.len() == 1;
        let frequency = match (knots().next(), knots().last()) {
            (Some(first), Some(last)) if last.local > first.local && is_steady => {
                Some((last.offset_ns - first.offset_ns) as f64 / (last.local - first.local) as f64 * 1e6)
            }
            (Some(_), Some(last)) => model.told().next_back().map(|segment| segment.frequency_ppm_at(last.local)),
            _ => None,
        };
        let mut row = ClockRow {
            clock: clock.name.clone(),
            state: model.state.name().to_owned(),
            offset_first_ns: knots().next().map(|knot| knot.offset_ns),
            offset_last_ns: knots().last().map(|knot| knot.offset_ns),
            offset_largest_ns: largest.map(|knot| knot.offset_ns),
            uncertainty_ns: uncertainties.get(uncertainties.len() / 2).copied(),
            frequency_ppm: frequency,
            steps: model.steps.len() as i64,
            spans,
            moved,
            ..ClockRow::default()
        };
        let heard = heard[index];
        let is_given = skew.map.reference == Some(ClockId(index as u32));
        row.verdict = verdict(&row, clock, model, heard, (is_given, skew.by_trace[index]));
        if skew.in_seconds[index] {
            row.verdict += "; its starts are whole seconds";
        }
        row.advice = advice(
            &row,
            clock,
            model,
            skew.in_seconds[index],
            (heard, skew.map.reference.map(|id| skew.clocks[id.0 as usize].name.as_str())),
        );
        let of_clock = |it: &&OnKey| it.finding.clock == Some(ClockId(index as u32)) && !it.advice.is_empty();
        for key in skew.keys.iter().filter(of_clock) {
            let before = if row.advice.is_empty() { format!("{}: ", clock.name) } else { "; ".to_owned() };
            row.advice += &(before + &key.advice);
        }
        row
    };
    (0..skew.clocks.len()).map(row).collect()
}

/// Every skew table but the exchanges: file name and bytes.
pub fn tables(skew: &Skew<'_>, rows: &[ClockRow], metadata: &Metadata) -> Result<Vec<(&'static str, Vec<u8>)>> {
    Ok(vec![
        ("clocks.parquet", clocks(skew, rows).parquet(metadata)?),
        ("offsets.parquet", offsets(skew).parquet(metadata)?),
        ("links.parquet", links(skew).parquet(metadata)?),
        ("steps.parquet", steps(skew).parquet(metadata)?),
        ("findings.parquet", findings(skew).parquet(metadata)?),
    ])
}

fn clocks(skew: &Skew<'_>, rows: &[ClockRow]) -> Table {
    let (clocks, models) = (skew.clocks, &skew.map.models);
    let mut calls = vec![0; clocks.len()];
    for (link, counts) in skew.links {
        [link.client, link.server].iter().for_each(|clock| calls[clock.0 as usize] += counts.exchanges as i64);
    }
    Table::new("clocks")
        .text("clock", rows.iter().map(|row| row.clock.as_str()))
        .text("key", clocks.iter().map(|clock| clock.key.as_str()))
        .text("rule", clocks.iter().map(|clock| clock.rule.as_str()))
        .texts("hosts", clocks.iter().map(|clock| &clock.hosts))
        .texts("services", clocks.iter().map(|clock| &clock.services))
        .ints("group", models.iter().map(|model| i64::from(model.group)))
        .text("state", rows.iter().map(|row| row.state.as_str()))
        .maybe_ints("offset_first_ns", rows.iter().map(|row| row.offset_first_ns))
        .maybe_ints("offset_last_ns", rows.iter().map(|row| row.offset_last_ns))
        .maybe_ints("offset_largest_ns", rows.iter().map(|row| row.offset_largest_ns))
        .maybe_ints("uncertainty_ns", rows.iter().map(|row| row.uncertainty_ns))
        .maybe_doubles("frequency_ppm", rows.iter().map(|row| row.frequency_ppm))
        .ints("steps", rows.iter().map(|row| row.steps))
        .ints("exchanges", calls)
        .ints("neighbours", models.iter().map(|model| i64::from(model.neighbours)))
        .ints("spans", rows.iter().map(|row| row.spans))
        .ints("moved", rows.iter().map(|row| row.moved))
        .text("verdict", rows.iter().map(|row| row.verdict.as_str()))
        .text("advice", rows.iter().map(|row| row.advice.as_str()))
}

/// One row of the offsets table.
#[derive(Clone, Copy, Debug)]
struct OffsetRow<'a> {
    clock: &'a str,
    segment: i64,
    local_ns: i64,
    /// `None`: bounds only.
    knot: Option<Knot>,
    applied_ns: i64,
    between: (Option<i64>, Option<i64>),
    frequency_ppm: Option<f64>,
}

impl OffsetRow<'_> {
    /// By the reference; by the clock itself where only bounds are known, as it is left alone.
    fn time(&self) -> i64 {
        self.local_ns.saturating_sub(self.knot.map_or(0, |knot| knot.offset_ns))
    }
}

fn offset_rows<'a>(clock: &'a Clock, model: &'a ClockModel) -> impl Iterator<Item = OffsetRow<'a>> {
    let knots = model.segments.iter().zip(0i64..).flat_map(move |(segment, index)| {
        segment.knots.iter().filter_map(move |knot| {
            let is_bound = knot.lower_ns.is_some() || knot.upper_ns.is_some();
            let is_slope = segment.is_told() && segment.knots.len() > 1;
            (segment.is_told() || is_bound).then(|| OffsetRow {
                clock: &clock.name,
                segment: index,
                local_ns: knot.local.nanos(),
                knot: Some(*knot).filter(|_| segment.is_told()),
                applied_ns: segment.applied_at(knot.local),
                between: (knot.lower_ns, knot.upper_ns),
                frequency_ppm: is_slope.then(|| segment.frequency_ppm_at(knot.local)),
            })
        })
    });
    let bounds = model.bounds.iter().map(move |bound| OffsetRow {
        clock: &clock.name,
        segment: 0,
        local_ns: bound.local.nanos(),
        knot: None,
        applied_ns: 0,
        between: (bound.lower_ns, bound.upper_ns),
        frequency_ppm: None,
    });
    knots.chain(bounds)
}

/// One row per clock and knot: enough to rebuild the model. Clocks without one have a row where something bounds them.
fn offsets(skew: &Skew<'_>) -> Table {
    let rows: Vec<OffsetRow<'_>> =
        skew.clocks.iter().zip(&skew.map.models).flat_map(|(clock, model)| offset_rows(clock, model)).collect();
    let knot = |value: fn(&Knot) -> i64| rows.iter().map(move |row| row.knot.as_ref().map(value));
    Table::new("offsets")
        .text("clock", rows.iter().map(|row| row.clock))
        .ints("segment", rows.iter().map(|row| row.segment))
        .ints("time_unix_nano", rows.iter().map(OffsetRow::time))
        .ints("local_unix_nano", rows.iter().map(|row| row.local_ns))
        .time("time", rows.iter().map(OffsetRow::time))
        .maybe_ints("offset_ns", knot(|knot| knot.offset_ns))
        .ints("applied_offset_ns", rows.iter().map(|row| row.applied_ns))
        .maybe_ints("uncertainty_ns", knot(|knot| knot.uncertainty_ns))
        .maybe_ints("lower_ns", rows.iter().map(|row| row.between.0))
        .maybe_ints("upper_ns", rows.iter().map(|row| row.between.1))
        .maybe_doubles("frequency_ppm", rows.iter().map(|row| row.frequency_ppm))
        .maybe_ints("exchanges", knot(|knot| i64::from(knot.exchanges)))
}

fn links(skew: &Skew<'_>) -> Table {
    let asymmetry: BTreeMap<Link, Option<i64>> =
        skew.estimates.iter().map(|estimate| (estimate.link, estimate.asymmetry_ns)).collect();
    let links: Vec<_> = skew.links.iter().collect();
    let name = |clock: crate::clock::ClockId| skew.clocks[clock.0 as usize].name.as_str();
    let class = |link: &Link| &skew.classes[link.class as usize];
    let part = |counts: &LinkCounts, part: f64| match counts.delays.len() {
        0 => None,
        count => counts.delays.get(((count - 1) as f64 * part).round() as usize).copied(),
    };
    Table::new("links")
        .text("client_clock", links.iter().map(|(link, _)| name(link.client)))
        .text("server_clock", links.iter().map(|(link, _)| name(link.server)))
        .text("call_class", links.iter().map(|(link, _)| class(link).protocol.as_str()))
        .text("client_service", links.iter().map(|(link, _)| class(link).client_service.as_str()))
        .text("server_service", links.iter().map(|(link, _)| class(link).server_service.as_str()))
        .ints("exchanges", links.iter().map(|(_, counts)| counts.exchanges as i64))
        .ints("one_way", links.iter().map(|(_, counts)| counts.one_way as i64))
        .ints("early_ends", links.iter().map(|(_, counts)| counts.early_ends as i64))
        .ints("set_aside", links.iter().map(|(_, counts)| counts.set_aside as i64))
        .maybe_ints("min_round_trip_ns", links.iter().map(|(_, counts)| part(counts, 0.0)))
        .maybe_ints("p50_round_trip_ns", links.iter().map(|(_, counts)| part(counts, 0.5)))
        .maybe_ints("p99_round_trip_ns", links.iter().map(|(_, counts)| part(counts, 0.99)))
        .maybe_ints("asymmetry_ns", links.iter().map(|(link, _)| asymmetry.get(link).copied().flatten()))
        .ints("inversions_before", links.iter().map(|(_, counts)| counts.inversions.before as i64))
        .ints("inversions_after", links.iter().map(|(_, counts)| counts.inversions.after as i64))
        .maybe_ints("worst_inversion_ns", links.iter().map(|(_, counts)| counts.worst_inversion_ns))
}

/// One row of the steps table, as it is told.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct StepRow {
    pub clock: String,
    pub time_unix_nano: i64,
    /// 0 for a step.
    pub duration_ns: i64,
    pub size_ns: i64,
    pub uncertainty_ns: i64,
}

/// Steps and slews, by clock and time.
pub fn step_rows(skew: &Skew<'_>) -> Vec<StepRow> {
    let row = |(clock, step): (&str, &Step)| StepRow {
        clock: clock.to_owned(),
        time_unix_nano: step.at.nanos(),
        duration_ns: step.duration_ns,
        size_ns: step.size_ns,
        uncertainty_ns: step.uncertainty_ns,
    };
    told_steps(skew).map(row).collect()
}

fn told_steps<'a>(skew: &Skew<'a>) -> impl Iterator<Item = (&'a str, &'a Step)> {
    let clocks = skew.clocks.iter().zip(&skew.map.models);
    clocks.flat_map(|(clock, model)| model.steps.iter().map(|step| (clock.name.as_str(), step)))
}

/// Findings by kind.
pub fn kind_rows(skew: &Skew<'_>) -> Vec<KindRow> {
    by_kind(skew.findings.iter().map(|finding| FindingRow {
        kind: finding.kind,
        trace: finding.trace.map(|id| format!("{id:032x}")),
        span: finding.span.map(|id| format!("{id:016x}")),
        clock: finding.clock.map(|clock| skew.clocks[clock.0 as usize].name.as_str()),
        before_ns: finding.before_ns,
        after_ns: finding.after_ns,
        reason: &finding.reason,
    }))
}

fn steps(skew: &Skew<'_>) -> Table {
    let steps: Vec<_> = told_steps(skew).collect();
    Table::new("steps")
        .text("clock", steps.iter().map(|(clock, _)| *clock))
        .ints("time_unix_nano", steps.iter().map(|(_, step)| step.at.nanos()))
        .time("time", steps.iter().map(|(_, step)| step.at.nanos()))
        .text("kind", steps.iter().map(|(_, step)| step.kind.name()))
        .ints("duration_ns", steps.iter().map(|(_, step)| step.duration_ns))
        .ints("size_ns", steps.iter().map(|(_, step)| step.size_ns))
        .ints("uncertainty_ns", steps.iter().map(|(_, step)| step.uncertainty_ns))
        .ints("spans_straddling", steps.iter().map(|(_, step)| step.spans_straddling))
}

fn findings(skew: &Skew<'_>) -> Table {
    let rows = skew.findings;
    let name = |clock: crate::clock::ClockId| skew.clocks[clock.0 as usize].name.as_str();
    let traces: Vec<_> = rows.iter().map(|row| row.trace.map(|id| format!("{id:032x}"))).collect();
    let spans: Vec<_> = rows.iter().map(|row| row.span.map(|id| format!("{id:016x}"))).collect();
    let parents: Vec<_> = rows.iter().map(|row| row.parent.map(|id| format!("{id:016x}"))).collect();
    Table::new("findings")
        .maybe_text("trace_id", traces.iter().map(Option::as_deref))
        .maybe_text("span_id", spans.iter().map(Option::as_deref))
        .maybe_text("parent_span_id", parents.iter().map(Option::as_deref))
        .maybe_text("clock", rows.iter().map(|row| row.clock.map(name)))
        .maybe_text("parent_clock", rows.iter().map(|row| row.parent_clock.map(name)))
        .maybe_text(
            "service_name",
            rows.iter().map(|row| row.resource.map(|resource| skew.services[resource as usize].as_str())),
        )
        .text("kind", rows.iter().map(|row| row.kind))
        .maybe_ints("before_ns", rows.iter().map(|row| row.before_ns))
        .maybe_ints("after_ns", rows.iter().map(|row| row.after_ns))
        .text("action", rows.iter().map(|row| row.action))
        .text("reason", rows.iter().map(|row| row.reason.as_str()))
}

/// The four readings of every exchange, used or why not. `ids` gives an edge's trace, client span and server span.
pub fn exchanges(
    skew: &Skew<'_>,
    edges: &[Edge],
    ids: impl Fn(&Edge) -> (u128, u64, u64),
    use_of: impl Fn(&Edge) -> String,
    metadata: &Metadata,
) -> Result<Vec<u8>> {
    let name = |clock: crate::clock::ClockId| skew.clocks[clock.0 as usize].name.as_str();
    let class = |edge: &Edge| &skew.classes[edge.exchange.link.class as usize];
    let ids: Vec<_> = edges.iter().map(ids).collect();
    let traces: Vec<_> = ids.iter().map(|(trace, ..)| format!("{trace:032x}")).collect();
    let clients: Vec<_> = ids.iter().map(|(_, client, _)| format!("{client:016x}")).collect();
    let servers: Vec<_> = ids.iter().map(|(.., server)| format!("{server:016x}")).collect();
    let uses: Vec<_> = edges.iter().map(use_of).collect();
    Table::new("exchanges")
        .text("trace_id", traces.iter().map(String::as_str))
        .text("client_span_id", clients.iter().map(String::as_str))
        .text("server_span_id", servers.iter().map(String::as_str))
        .text("client_clock", edges.iter().map(|edge| name(edge.exchange.link.client)))
        .text("server_clock", edges.iter().map(|edge| name(edge.exchange.link.server)))
        .text("call_class", edges.iter().map(|edge| class(edge).protocol.as_str()))
        .text("client_service", edges.iter().map(|edge| class(edge).client_service.as_str()))
        .text("server_service", edges.iter().map(|edge| class(edge).server_service.as_str()))
        .ints("request_sent_unix_nano", edges.iter().map(|edge| edge.exchange.request_sent.nanos()))
        .ints("request_received_unix_nano", edges.iter().map(|edge| edge.exchange.request_received.nanos()))
        .ints("response_sent_unix_nano", edges.iter().map(|edge| edge.exchange.response_sent.nanos()))
        .ints("response_received_unix_nano", edges.iter().map(|edge| edge.exchange.response_received.nanos()))
        .time("time", edges.iter().map(|edge| edge.exchange.request_sent.nanos()))
        .ints("round_trip_delay_ns", edges.iter().map(|edge| edge.exchange.round_trip_delay_ns()))
        .ints("measured_offset_ns", edges.iter().map(|edge| edge.exchange.offset_ns() as i64))
        .text("used", uses.iter().map(String::as_str))
        .parquet(metadata)
}
