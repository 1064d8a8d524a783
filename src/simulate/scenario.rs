//! A scenario: everything that decides a fleet but the seed's draws.
//!
//! Every field has a default, and the defaults together are the *standard fleet* with constant
//! offsets, so a scenario file states only what is different.

use anyhow::{Context, Result, ensure};
use serde::Deserialize;

/// A fleet, its clocks, links and traffic, and which files to write.
#[derive(Clone, Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Scenario {
    /// What the scenario is for, in a sentence.
    pub about: String,
    pub seed: u64,
    /// True time of the first trace, Unix nanoseconds.
    pub start_unix_nano: i64,
    /// Traces begin uniformly over this long.
    pub duration_s: f64,
    /// Spans to make before any are lost or sampled away; the last trace may overshoot.
    pub spans: usize,
    pub outputs: Vec<Output>,
    pub fleet: Fleet,
    pub links: Links,
    pub clocks: Clocks,
    pub sdk: Sdks,
    pub traffic: Traffic,
    pub sampling: Option<Sampling>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Output {
    /// `traces.jsonl`
    Json,
    /// `traces.jsonl.zst`
    #[serde(rename = "json.zst")]
    JsonZstd,
    /// `traces.binpb`
    Protobuf,
    /// `traces.binpb.gz`
    #[serde(rename = "protobuf.gz")]
    ProtobufGzip,
}

impl Output {
    /// Name of its file.
    pub fn name(self) -> &'static str {
        match self {
            Self::Json => "traces.jsonl",
            Self::JsonZstd => "traces.jsonl.zst",
            Self::Protobuf => "traces.binpb",
            Self::ProtobufGzip => "traces.binpb.gz",
        }
    }
}

/// Who runs where.
#[derive(Clone, Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Fleet {
    /// Clocks at any one time, the reference among them.
    pub clocks: usize,
    /// Services, the root's among them; 0: half the clocks. Each runs on 1 to 3 clocks of its own.
    pub services: usize,
    /// Host name of the root service's only host, whose clock is perfect.
    pub reference: String,
    /// Hosts that are replaced by new ones, with new names, clocks and links.
    pub replaced: Option<Replaced>,
}

#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Replaced {
    /// Share of the clocks.
    pub share: f64,
    pub every_s: f64,
}

/// What the paths between two hosts are like. A link is one direction of calling: client host, server host.
#[derive(Clone, Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Links {
    /// Base one-way delay, log-uniform.
    pub one_way_ms: [f64; 2],
    /// The same of links with the reference, where it is elsewhere, as an edge is.
    pub reference_ms: Option<[f64; 2]>,
    /// Request leg = base × (1 + a), response leg = base × (1 − a), a uniform within ± this.
    pub asymmetry: f64,
    /// Mean of each leg's exponential jitter, in bases.
    pub jitter: f64,
    /// Share of calls that set up a connection first, which lengthens the request leg.
    pub set_up: f64,
    /// How much a set-up adds, in bases.
    pub set_up_bases: [f64; 2],
    /// Share of calls with a spike on one of their legs.
    pub spikes: f64,
    /// Mean of a spike, exponential.
    pub spike_ms: f64,
    pub congested: Option<Congested>,
    pub injected: Option<Injected>,
}

/// Queues on some links, in both directions and at all times.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Congested {
    /// Share of the links.
    pub share: f64,
    /// Mean of the exponential wait that every leg has on top.
    pub mean_ms: f64,
}

/// A delay added to one direction of some busy links for a while.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Injected {
    /// How many links.
    pub links: usize,
    pub ms: [f64; 2],
    pub for_s: f64,
}

/// How wrong the clocks are. Offsets are positive when a clock is ahead.
#[derive(Clone, Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Clocks {
    /// Every clock is perfect but for what `given` says.
    pub perfect: bool,
    /// Every clock is held by NTP within ± this, wandering; takes the place of offsets and frequencies.
    pub ntp_within_ms: Option<f64>,
    /// Share of clocks with offset zero.
    pub zero: f64,
    /// Share of clocks with a normal offset of deviation `near_ms`; the others draw from `far_ms`.
    pub near: f64,
    pub near_ms: f64,
    /// Size of a far offset, log-uniform, either sign.
    pub far_ms: [f64; 2],
    /// Standard deviation of the frequency error.
    pub frequency_ppm: f64,
    /// Standard deviation by which the frequency walks in an hour.
    pub wander_ppm: f64,
    pub slews: Option<Slews>,
    pub steps: Option<Steps>,
    /// Clocks that are spelled out, in place of what would be drawn.
    pub given: Vec<GivenClock>,
}

/// One slew, either sign, on a share of the clocks: so long, or of such a size.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Slews {
    pub share: f64,
    /// Speed, log-uniform.
    pub ppm: [f64; 2],
    /// How long, uniform; exactly one of this and `ms`.
    pub last_s: Option<[f64; 2]>,
    /// By how much, uniform.
    pub ms: Option<[f64; 2]>,
}

/// Steps, either sign, on a share of the clocks.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Steps {
    pub share: f64,
    /// How many on each, uniform, ends included.
    pub each: [usize; 2],
    /// Size, log-uniform.
    pub ms: [f64; 2],
}

/// A clock by its host's name; hosts are called by service and number, `svc03-1`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct GivenClock {
    pub host: String,
    pub offset_ms: f64,
    pub frequency_ppm: f64,
    pub steps: Vec<GivenStep>,
    pub slews: Vec<GivenSlew>,
}

/// A jump: the clock reads `ms` more from `at_s` (true time after the start) on.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GivenStep {
    pub at_s: f64,
    pub ms: f64,
}

/// A slew: the clock gains `ms` evenly over `last_s` from `at_s` on.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GivenSlew {
    pub at_s: f64,
    pub ms: f64,
    pub last_s: f64,
}

/// Shares of the clocks by how their SDK times a span; the rest stamp the start and add monotonic time.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Sdks {
    /// As JavaScript: whole-millisecond starts, end = start + monotonic time.
    pub millisecond_starts: f64,
    /// As Python: the wall clock read twice.
    pub wall_clock_ends: f64,
    /// As Java: one wall-clock reading per local trace, monotonic time from there.
    pub anchored: f64,
    /// Share of all spans whose end is written before their start, and by how much.
    pub broken: f64,
    pub broken_ms: f64,
}

/// What the calls are.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Traffic {
    /// Share of calls that are hostile: no plain two-sided exchange.
    pub hostile: f64,
    /// How the hostile ones divide.
    pub mix: Mix,
    /// A receive span begins up to this long before the publish.
    pub poll_s: f64,
    /// Share of plain calls that are tried again after a failure.
    pub retries: f64,
    /// Share of calls that answer with an error.
    pub errors: f64,
    /// A service's own work in one request, in the median.
    pub work_ms: f64,
    /// Share of a request's own work that is done before its first call; by default as much as between and after calls.
    pub work_ahead: Option<f64>,
    /// Share of traces that never leave one host: a lone INTERNAL root with children.
    pub background: f64,
    /// Share of spans that never arrive.
    pub lost: f64,
}

/// Weights of the hostile kinds.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Mix {
    pub messaging: f64,
    pub gives_up: f64,
    pub fire_and_forget: f64,
    pub client_missing: f64,
}

/// Tail sampling: traces with an error, the slowest, and some of the rest.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Sampling {
    pub slowest: f64,
    pub rest: f64,
}

impl Default for Scenario {
    fn default() -> Self {
        Self {
            about: String::new(),
            seed: 1,
            start_unix_nano: 1_750_000_000_000_000_000,
            duration_s: 600.0,
            spans: 60_000,
            outputs: vec![Output::Json, Output::Protobuf],
            fleet: Fleet::default(),
            links: Links::default(),
            clocks: Clocks::default(),
            sdk: Sdks::default(),
            traffic: Traffic::default(),
            sampling: None,
        }
    }
}

impl Default for Fleet {
    fn default() -> Self {
        Self { clocks: 24, services: 0, reference: "gateway-1".into(), replaced: None }
    }
}

impl Default for Links {
    fn default() -> Self {
        Self {
            one_way_ms: [0.16, 8.0],
            reference_ms: None,
            asymmetry: 0.3,
            jitter: 0.5,
            set_up: 0.05,
            set_up_bases: [2.0, 4.0],
            spikes: 0.02,
            spike_ms: 50.0,
            congested: None,
            injected: None,
        }
    }
}

impl Default for Clocks {
    fn default() -> Self {
        Self {
            perfect: false,
            ntp_within_ms: None,
            zero: 0.10,
            near: 0.65,
            near_ms: 5.0,
            far_ms: [50.0, 2_200.0],
            frequency_ppm: 0.0,
            wander_ppm: 0.0,
            slews: None,
            steps: None,
            given: Vec::new(),
        }
    }
}

impl Default for Sdks {
    fn default() -> Self {
        Self { millisecond_starts: 0.25, wall_clock_ends: 0.25, anchored: 0.25, broken: 0.0, broken_ms: 0.0 }
    }
}

impl Default for Traffic {
    fn default() -> Self {
        Self {
            hostile: 0.06,
            mix: Mix::default(),
            poll_s: 20.0,
            retries: 0.0,
            errors: 0.003,
            work_ms: 5.0,
            work_ahead: None,
            background: 0.0,
            lost: 0.01,
        }
    }
}

impl Default for Mix {
    fn default() -> Self {
        Self { messaging: 1.0, gives_up: 1.0, fire_and_forget: 1.0, client_missing: 1.0 }
    }
}

impl Scenario {
    /// From the text of a scenario file; an unknown field is an error.
    pub fn parse(text: &str) -> Result<Self> {
        let scenario: Self = toml::from_str(text)?;
        scenario.check()?;
        Ok(scenario)
    }

    /// Services of the fleet, the root's among them.
    pub fn service_count(&self) -> usize {
        if self.fleet.services == 0 { (self.fleet.clocks / 2).max(2) } else { self.fleet.services }
    }

    fn check(&self) -> Result<()> {
        let services = self.service_count();
        let clocks = self.fleet.clocks;
        ensure!(clocks >= 2, "fleet.clocks: at least 2, the reference and one other");
        ensure!(
            services >= 2 && services <= clocks && clocks - 1 <= 3 * (services - 1),
            "fleet: {clocks} clocks do not fit {services} services of 1 to 3 clocks each, the root alone on the reference"
        );
        ensure!(self.duration_s > 0.0, "duration_s: more than 0");
        ensure!(self.start_unix_nano > 0, "start_unix_nano: more than 0");
        let Links { one_way_ms, reference_ms, asymmetry, .. } = self.links;
        for (name, [low, high]) in [("one_way_ms", one_way_ms), ("reference_ms", reference_ms.unwrap_or(one_way_ms))] {
            ensure!(0.0 < low && low <= high, "links.{name}: 0 < low <= high");
        }
        ensure!((0.0..1.0).contains(&asymmetry), "links.asymmetry: from 0 to less than 1");
        if let Some(slews) = self.clocks.slews {
            ensure!(slews.last_s.is_some() != slews.ms.is_some(), "clocks.slews: exactly one of last_s and ms");
        }
        if let Some(steps) = self.clocks.steps {
            ensure!(steps.each[0] <= steps.each[1], "clocks.steps.each: low <= high");
        }
        if let Some(replaced) = self.fleet.replaced {
            ensure!(replaced.every_s > 0.0, "fleet.replaced.every_s: more than 0");
        }
        ensure!(self.traffic.work_ms > 0.0, "traffic.work_ms: more than 0");
        let ahead = self.traffic.work_ahead.unwrap_or(0.0);
        ensure!((0.0..=1.0).contains(&ahead), "traffic.work_ahead: from 0 to 1");
        let sdk = self.sdk;
        ensure!(
            sdk.millisecond_starts + sdk.wall_clock_ends + sdk.anchored <= 1.0 + 1e-9,
            "sdk: the shares add up to more than 1"
        );
        Ok(())
    }
}

/// Reads and checks a scenario file.
pub fn read(path: &std::path::Path) -> Result<Scenario> {
    let text = crate::io::read_text(path)?;
    Scenario::parse(&text).with_context(|| format!("{}: not a scenario", path.display()))
}

#[cfg(test)]
mod tests {
    use super::Scenario;

    fn refusal(text: &str) -> String {
        format!("{:#}", Scenario::parse(text).unwrap_err())
    }

    #[test]
    fn the_defaults_are_the_standard_fleet() {
        let standard = Scenario::parse("").unwrap();
        assert_eq!((standard.fleet.clocks, standard.service_count(), standard.spans), (24, 12, 60_000));
        assert_eq!(standard.traffic.hostile, 0.06);
    }

    #[test]
    fn what_cannot_be_is_refused_by_name() {
        assert!(refusal("sede = 3").contains("sede"));
        assert!(refusal("[fleet]\nclocks = 20\nservices = 3").contains("20 clocks"));
        assert!(refusal("[links]\nreference_ms = [3.0, 2.0]").contains("links.reference_ms"));
        assert!(refusal("[links]\nasymmetry = 1.0").contains("links.asymmetry"));
        assert!(refusal("[traffic]\nwork_ms = 0.0").contains("traffic.work_ms"));
        assert!(refusal("[traffic]\nwork_ahead = 1.5").contains("traffic.work_ahead"));
        assert!(refusal("[clocks.slews]\nshare = 1.0\nppm = [1.0, 2.0]").contains("exactly one"));
    }
}
