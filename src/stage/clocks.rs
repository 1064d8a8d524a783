//! Clocks as they are corrected now: for people in JSON, for Prometheus, and as messages for other programs.

use std::fmt;
use std::sync::Arc;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::{ConstGauge, Gauge};
use serde::Serialize;

use super::relay::{Relay, now};
use crate::clock::{Clock, ClockModel, LocalTime, ReferenceTime};
use crate::live::{Era, Published};

/// One clock, now. Absent: nothing is known.
#[derive(Clone, Debug, Serialize)]
pub struct ClockNow {
    pub clock: String,
    pub key: String,
    pub rule: String,
    pub state: &'static str,
    /// What is done with its spans: `moved`, `left_alone`, `model_expired` or `no_model`.
    pub spans: &'static str,
    /// Clock − reference, ns; positive is ahead.
    pub offset_ns: Option<i64>,
    /// Half-width of its 95 % interval, ns.
    pub uncertainty_ns: Option<i64>,
    pub frequency_ppm: Option<f64>,
    /// The reading of its own from which its spans pass unmoved, ns since the Unix epoch.
    pub expires_local_unix_nano: Option<i64>,
}

/// What `/clocks` tells.
#[derive(Clone, Debug, Serialize)]
pub struct ClocksNow {
    pub mode: &'static str,
    pub reference: Option<String>,
    /// From this reference time on these models hold, ns since the Unix epoch; null: from the beginning.
    pub from_reference_unix_nano: Option<i64>,
    /// The furthest off first.
    pub clocks: Vec<ClockNow>,
}

/// All clocks as they are at this time.
pub fn clocks(published: &Published, mode: &'static str, at: ReferenceTime) -> ClocksNow {
    let Some(era) = published.eras.last() else {
        return ClocksNow { mode, reference: None, from_reference_unix_nano: None, clocks: Vec::new() };
    };
    let mut clocks: Vec<ClockNow> = era
        .expiries()
        .map(|(id, expiry)| {
            let (clock, model) = era.models.clock(id);
            clock_now(clock, model, expiry, at)
        })
        .collect();
    clocks.sort_by_key(|clock| (std::cmp::Reverse(clock.offset_ns.map(i64::unsigned_abs)), clock.clock.clone()));
    ClocksNow { mode, reference: era.models.reference.clone(), from_reference_unix_nano: from(era), clocks }
}

/// When an era begins; `None`: it always held.
pub fn from(era: &Era) -> Option<i64> {
    Some(era.from.nanos()).filter(|from| *from > i64::MIN)
}

fn clock_now(clock: &Clock, model: &ClockModel, expiry: Option<LocalTime>, at: ReferenceTime) -> ClockNow {
    // Its own reading at this time of the reference's: by its last segment, which nothing has ended.
    let segment = model.segments.last().filter(|segment| segment.is_told());
    let local = segment.map(|segment| {
        let first = LocalTime::from_nanos(at.nanos());
        LocalTime::from_nanos(at.nanos()).plus(segment.offset_at(first.plus(segment.offset_at(first))))
    });
    let value = |of: &dyn Fn(&crate::clock::Segment, LocalTime) -> i64| Some(of(segment?, local?));
    let frequency = segment.map(|segment| {
        let last = segment.knots.last().map(|knot| knot.local);
        if local > last {
            segment.onward.rate_ppb as f64 / 1e3
        } else {
            segment.frequency_ppm_at(local.unwrap_or_default())
        }
    });
    let spans = match (expiry, local) {
        (Some(expiry), Some(local)) if local > expiry => "model_expired",
        (Some(_), _) => "moved",
        (None, _) if segment.is_none() => "no_model",
        (None, _) => "left_alone",
    };
    ClockNow {
        clock: clock.name.clone(),
        key: clock.key.clone(),
        rule: clock.rule.clone(),
        state: model.state.name(),
        spans,
        offset_ns: value(&|segment, at| segment.offset_at(at)),
        uncertainty_ns: value(&|segment, at| segment.uncertainty_at(at)),
        frequency_ppm: frequency,
        expires_local_unix_nano: expiry.map(LocalTime::nanos),
    }
}

/// Clocks that metrics name, the furthest off first: each costs several series.
const MOST_NAMED: usize = 200;

/// What a series says of a clock.
type Value = fn(&ClockNow) -> Option<f64>;

/// Tells of clocks when metrics are asked for.
pub struct Shown(pub Arc<Relay>);

impl fmt::Debug for Shown {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("Shown")
    }
}

impl Collector for Shown {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        let clocks = clocks(&self.0.published(), "", now()).clocks;
        let expired = clocks.iter().filter(|clock| clock.spans == "model_expired").count();
        let hidden = clocks.len().saturating_sub(MOST_NAMED);
        number(&mut encoder, "models_expired_clocks", "Clocks whose models are too old to correct by", expired)?;
        number(&mut encoder, "clocks_not_named", "Clocks that have no series of their own, as there are many", hidden)?;
        let named = &clocks[..clocks.len() - hidden];
        let series: [(&str, &str, Value); 3] = [
            ("clock_offset_seconds", "How far a clock is ahead of the reference", |clock| seconds(clock.offset_ns)),
            ("clock_uncertainty_seconds", "Half of the 95 % interval of that", |clock| seconds(clock.uncertainty_ns)),
            ("clock_frequency_error_ppm", "How fast a clock gains on the reference", |clock| clock.frequency_ppm),
        ];
        for (name, help, value) in series {
            let family = Family::<[(&str, String); 1], Gauge<f64, std::sync::atomic::AtomicU64>>::default();
            for clock in named {
                if let Some(value) = value(clock) {
                    family.get_or_create(&[("clock", clock.clock.clone())]).set(value);
                }
            }
            family.encode(encoder.encode_descriptor(name, help, None, family.metric_type())?)?;
        }
        let info = Family::<[(&str, String); 4], Gauge>::default();
        for clock in named {
            let text = |text: &str| text.to_owned();
            let labels = [
                ("clock", text(&clock.clock)),
                ("rule", text(&clock.rule)),
                ("state", text(clock.state)),
                ("spans", text(clock.spans)),
            ];
            info.get_or_create(&labels).set(1);
        }
        let help = "What is known of a clock, and what is done with its spans";
        info.encode(encoder.encode_descriptor("clock_info", help, None, info.metric_type())?)
    }
}

fn seconds(nanos: Option<i64>) -> Option<f64> {
    nanos.map(|nanos| nanos as f64 / 1e9)
}

fn number(encoder: &mut DescriptorEncoder<'_>, name: &str, help: &str, count: usize) -> Result<(), fmt::Error> {
    let gauge = ConstGauge::new(i64::try_from(count).unwrap_or(i64::MAX));
    gauge.encode(encoder.encode_descriptor(name, help, None, gauge.metric_type())?)
}
