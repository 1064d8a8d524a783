//! What is known of a clock: its offset over its own time, piecewise linear.

use std::cmp::Reverse;
use std::collections::BTreeMap;

use super::{ClockId, LocalTime, Onward, ReferenceTime};

/// Who a clock is.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Clock {
    /// The value that its spans share; clocks are sorted by it.
    pub key: String,
    /// The display name: the host's where that maps one to one to the key, otherwise the key's value.
    pub name: String,
    /// Which rule chose the key (`k8s.node`, `host.id`, …).
    pub rule: String,
    pub hosts: Vec<String>,
    pub services: Vec<String>,
    /// The key may hide several clocks (a service name alone): evidence of one trace at the most, never a curve.
    pub untrusted: bool,
}

/// The offset at one instant of the clock's own time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Knot {
    pub local: LocalTime,
    /// Clock − reference, ns.
    pub offset_ns: i64,
    /// Half-width of the 95 % interval around the estimate, ns.
    pub uncertainty_ns: i64,
    /// Bounds that follow from cause before effect alone, ns; `None` where nothing bounds.
    pub lower_ns: Option<i64>,
    pub upper_ns: Option<i64>,
    /// Exchanges nearest to this knot.
    pub exchanges: u32,
}

impl Knot {
    /// When it is by the reference, ns.
    pub(super) fn reference_ns(&self) -> i64 {
        self.local.nanos().saturating_sub(self.offset_ns)
    }
}

/// What holds of a clock's offset at one instant of its own time where no estimate can be made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bound {
    pub local: LocalTime,
    /// Clock − reference, ns; at least one of the two.
    pub lower_ns: Option<i64>,
    pub upper_ns: Option<i64>,
}

/// The stretch between two steps. A backward step makes the local times of two segments overlap.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Segment {
    /// Reference times between which the segment holds.
    pub from: ReferenceTime,
    pub until: ReferenceTime,
    /// At least one; in order of local time.
    pub knots: Vec<Knot>,
    pub treatment: Treatment,
    /// How it goes on behind its last knot.
    pub onward: Onward,
}

/// What is done with a segment, whole.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Treatment {
    Moved,
    #[default]
    LeftAlone,
    /// Left as recorded, as to move it would leave more out of order than it found: what was estimated of it is not told.
    Contradictory,
}

impl Segment {
    /// Whether its offset is taken off its clock's times.
    pub fn is_moved(&self) -> bool {
        self.treatment == Treatment::Moved
    }

    /// Whether its estimate is worth telling.
    pub fn is_told(&self) -> bool {
        self.treatment != Treatment::Contradictory
    }

    /// The steepest slope of the offset between two knots, in parts per million, without its sign.
    pub fn steepest_ppm(&self) -> f64 {
        let slope = |pair: &[Knot]| {
            (pair[1].offset_ns as f64 - pair[0].offset_ns as f64) / (pair[1].local - pair[0].local).max(1) as f64 * 1e6
        };
        self.knots.windows(2).map(|pair| slope(pair).abs()).fold(0.0, f64::max)
    }

    /// The estimated offset at a local time, applied or not, in ns. Before the knots the first one holds.
    pub fn offset_at(&self, local: LocalTime) -> i64 {
        self.interpolate(local, |knot| knot.offset_ns).saturating_add(self.onward.offset_ns(self.behind(local)))
    }

    /// The offset to take off at a local time, in ns: 0 where the segment is left whole.
    pub fn applied_at(&self, local: LocalTime) -> i64 {
        if self.is_moved() { self.offset_at(local) } else { 0 }
    }

    /// Half-width of the estimate's 95 % interval at a local time, in ns.
    pub fn uncertainty_at(&self, local: LocalTime) -> i64 {
        self.interpolate(local, |knot| knot.uncertainty_ns).saturating_add(self.onward.growth_ns(self.behind(local)))
    }

    /// By how much a local time is behind the last knot, ns; 0 where it is not.
    fn behind(&self, local: LocalTime) -> i64 {
        self.knots.last().map_or(0, |last| local.nanos().saturating_sub(last.local.nanos()).max(0))
    }

    fn interpolate(&self, local: LocalTime, value: impl Fn(&Knot) -> i64) -> i64 {
        // What passes a stage is behind them all.
        if let Some(last) = self.knots.last().filter(|last| last.local <= local) {
            return value(last);
        }
        let after = self.knots.partition_point(|knot| knot.local <= local);
        let Some(next) = self.knots.get(after) else { return 0 };
        let Some(last) = after.checked_sub(1).map(|index| &self.knots[index]) else { return value(next) };
        let share = (local - last.local) as f64 / (next.local - last.local) as f64;
        value(last) + ((value(next) - value(last)) as f64 * share).round() as i64
    }

    /// The slope of the offset between the knots around a local time, in parts per million.
    pub fn frequency_ppm_at(&self, local: LocalTime) -> f64 {
        let after = self.knots.partition_point(|knot| knot.local <= local).clamp(1, self.knots.len().max(2) - 1);
        match (self.knots.get(after - 1), self.knots.get(after)) {
            (Some(last), Some(next)) => {
                (next.offset_ns - last.offset_ns) as f64 / (next.local - last.local) as f64 * 1e6
            }
            _ => 0.0,
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum ClockState {
    Reference,
    Corrected,
    WithinUncertainty,
    NoEvidence,
    Capped,
    /// Left alone, as to move it would leave more out of order than it found.
    Contradictory,
}

impl ClockState {
    /// The name in our tables.
    pub fn name(self) -> &'static str {
        match self {
            Self::Reference => "reference",
            Self::Corrected => "corrected",
            Self::WithinUncertainty => "within_uncertainty",
            Self::NoEvidence => "no_evidence",
            Self::Capped => "capped",
            Self::Contradictory => "contradictory",
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum StepKind {
    Step,
    Slew,
}

impl StepKind {
    /// The name in our tables.
    pub fn name(self) -> &'static str {
        match self {
            Self::Step => "step",
            Self::Slew => "slew",
        }
    }
}

/// A jump of a clock, or a fast run from one offset to another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Step {
    pub kind: StepKind,
    /// When, by the reference; a slew's start.
    pub at: ReferenceTime,
    /// Zero for a step.
    pub duration_ns: i64,
    /// Positive: the clock jumped ahead.
    pub size_ns: i64,
    pub uncertainty_ns: i64,
    /// Spans that began before it and ended after it.
    pub spans_straddling: i64,
}

/// One clock's offset over time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClockModel {
    pub state: ClockState,
    /// Clocks that two-sided exchanges connect share a group.
    pub group: u32,
    /// In order of reference time; empty when nothing is known.
    pub segments: Vec<Segment>,
    pub steps: Vec<Step>,
    /// Where messages, or calls that nobody waited for, bound a clock that has no segments; in order of local time.
    pub bounds: Vec<Bound>,
    /// Exchanges that count, and the clocks they are with.
    pub exchanges: u64,
    pub neighbours: u32,
}

impl ClockModel {
    /// The segments whose estimates are worth telling.
    pub fn told(&self) -> impl DoubleEndedIterator<Item = &Segment> {
        self.segments.iter().filter(|segment| segment.is_told())
    }

    /// Leaves a segment as recorded, as moving it contradicts what it should explain. Steps and slews on it or beside it
    /// were estimated with it, and go; without a segment that is still moved the clock has no model that is told.
    pub fn contradict(&mut self, number: usize) {
        let segment = &mut self.segments[number];
        segment.treatment = Treatment::Contradictory;
        let around = segment.from..=segment.until;
        self.steps.retain(|step| !around.contains(&step.at));
        if self.state != ClockState::Reference && !self.segments.iter().any(Segment::is_moved) {
            self.state = ClockState::Contradictory;
            self.steps.clear();
        }
    }

    /// The segments that a local time may belong to: several in a stretch that a backward step repeats.
    pub fn segments_at(&self, local: LocalTime) -> impl Iterator<Item = (usize, &Segment)> {
        let last = self.segments.len().wrapping_sub(1);
        self.segments.iter().enumerate().filter(move |(index, segment)| {
            let reference = local.nanos().saturating_sub(segment.offset_at(local));
            (*index == 0 || reference >= segment.from.nanos()) && (*index == last || reference < segment.until.nanos())
        })
    }

    /// The segment of a local time. In a stretch that is repeated the earlier one; in one that a forward step
    /// skipped (nothing should read it) the one whose edge is nearest.
    pub fn segment_at(&self, local: LocalTime) -> Option<usize> {
        if let Some((index, _)) = self.segments_at(local).next() {
            return Some(index);
        }
        (0..self.segments.len()).min_by_key(|&index| {
            let segment = &self.segments[index];
            let reference = local.nanos().saturating_sub(segment.offset_at(local));
            let before = segment.from.nanos().saturating_sub(reference).max(0);
            before.max(reference.saturating_sub(segment.until.nanos()))
        })
    }
}

/// Every clock's model, by [`ClockId`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ClockMap {
    pub models: Vec<ClockModel>,
    pub reference: Option<ClockId>,
}

impl ClockMap {
    /// The model of one clock.
    pub fn model(&self, clock: ClockId) -> &ClockModel {
        &self.models[clock.0 as usize]
    }

    /// The group of the reference; without one, of the most clocks, and of equals the first.
    pub fn home(&self) -> Option<u32> {
        let mut sizes: BTreeMap<u32, usize> = BTreeMap::new();
        let known = self.models.iter().filter(|model| model.state != ClockState::NoEvidence);
        known.for_each(|model| *sizes.entry(model.group).or_default() += 1);
        let largest = sizes.into_iter().max_by_key(|&(group, size)| (size, Reverse(group)));
        self.reference.map(|clock| self.model(clock).group).or(largest.map(|(group, _)| group))
    }
}
