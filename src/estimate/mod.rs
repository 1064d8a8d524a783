//! Evidence → every clock's offset over time.
//!
//! In come readings of two clocks at a time; out goes one model per clock. Assumed: a delay is never negative, a link
//! that is slower one way stays so, and a clock's frequency changes seldom. What all clocks of a group do together
//! cannot be seen; a reference, or the median of the clocks, stands in for it.

mod align;
mod beforehand;
mod bounds;
mod curves;
mod decide;
mod detours;
mod edges;
mod evidence;
mod factors;
mod fit;
mod floored;
mod frame;
mod gauge;
mod jumps;
mod leeway;
mod legs;
mod levels;
mod limits;
mod observation;
mod paths;
mod precondition;
mod rollup;
mod routes;
mod rows;
mod samples;
mod scale;
mod shifts;
mod slews;
mod solve;
mod steps;
mod stretches;
mod table;

pub use decide::{Estimate, LinkEstimate};
pub use evidence::{Evidence, Reading, RolledUp, Side, Usual};
pub use paths::Contradiction;

use crate::clock::{ClockId, ClockModel, LocalTime, ReferenceTime};
use frame::Frame;

/// What the caller decides.
#[derive(Clone, Debug, Default)]
pub struct Settings {
    pub reference: Option<ClockId>,
    /// A clock further off than this is left alone, whole, ns.
    pub max_correction_ns: Option<i64>,
    /// Per clock, how far it may stand for what is right where there is no reference; empty: all alike.
    pub standing: Vec<Standing>,
}

/// What speaks for a clock where nobody is the reference.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Standing {
    /// Its key is a machine's, not a phone's: somebody looks after its clock.
    pub is_host: bool,
    pub spans: u64,
    /// What an earlier estimate takes off its readings; `None` where there is none.
    pub before: Option<Course>,
}

/// An offset that goes on at one rate: as behind the last knot of a model.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Course {
    pub from: ReferenceTime,
    /// Clock − reference at that time, ns.
    pub offset_ns: i64,
    /// Positive: the clock gains on the reference, parts per billion.
    pub rate_ppb: i64,
}

impl Course {
    /// What a model takes off its clock's readings behind its last knot; nothing where it leaves them alone.
    pub fn onward(model: &ClockModel) -> Self {
        let last = model.segments.last().filter(|segment| segment.is_moved());
        last.and_then(|segment| Some((segment.knots.last()?, segment.onward))).map_or_else(
            Self::default,
            |(knot, on)| {
                let from = ReferenceTime::from_nanos(knot.local.nanos().saturating_sub(knot.offset_ns));
                Self { from, offset_ns: knot.offset_ns, rate_ppb: on.rate_ppb }
            },
        )
    }

    fn is_none(&self) -> bool {
        (self.offset_ns, self.rate_ppb) == (0, 0)
    }

    /// At a reference time, ns.
    fn at(&self, nanos: i64) -> f64 {
        self.offset_ns as f64 + nanos.saturating_sub(self.from.nanos()) as f64 * self.rate_ppb as f64 * 1e-9
    }
}

/// Solves for all clocks at once. `spans` gives the first and last local time of each clock's spans, over which
/// its model must reach; `None` for a clock with none to correct.
pub fn clocks(evidence: &Evidence, spans: &[Option<(LocalTime, LocalTime)>], settings: &Settings) -> Estimate {
    let rolled_up = match evidence.rolled_up {
        Some(_) => None,
        None => rollup::window_ns(evidence).map(|window_ns| evidence.rolled_up(window_ns)),
    };
    let evidence = rolled_up.as_ref().unwrap_or(evidence);
    let frame = Frame::of(evidence, settings);
    let fit = fit::fit(evidence, spans, &frame, &[], None);
    let mut estimate = decide::decide(evidence, spans, settings, &frame, fit);
    estimate.contradictions = bounds::bound(evidence, &estimate.unanswered, &mut estimate.map);
    bounds::narrow(&mut estimate.map);
    decide::release(&mut estimate.map, settings.max_correction_ns);
    estimate.map.models.iter_mut().for_each(ClockModel::go_on);
    estimate
}
