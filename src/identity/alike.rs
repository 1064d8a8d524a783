//! Clocks' models → keys that are finer than the clocks.
//!
//! In come resources, the identity and the finished models; out goes which clocks share an attribute, and go together
//! where others do not. Too fine a key only costs statistics, so this is told, and nothing is merged by it.

use std::collections::{BTreeMap, BTreeSet};

use super::{Attributes, Identity, get, is_junk};
use crate::clock::{ClockId, ClockMap, ClockModel, Knot};

/// Attributes of a machine, which its processes may share.
const COARSER: [&str; 6] = ["k8s.node.name", "host.id", "host.name", "host.ip", "ip", "hostname"];

/// Several keys, likely one clock.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Alike {
    pub attribute: &'static str,
    /// What all of them carry.
    pub value: String,
    pub clocks: Vec<ClockId>,
    /// The furthest that any two are ever apart, by their estimates, ns.
    pub within_ns: i64,
}

/// The clocks that share an attribute and agree at all times, as no other clock does with them. An attribute of which
/// one value is on clocks that differ names no machine, and is left out.
pub fn alike(resources: &[Attributes], identity: &Identity, map: &ClockMap) -> Vec<Alike> {
    let known = |clock: &ClockId| map.models[clock.0 as usize].told().any(|segment| !segment.knots.is_empty());
    let mut found = Vec::new();
    for attribute in COARSER {
        let mut carriers: BTreeMap<&str, BTreeSet<ClockId>> = BTreeMap::new();
        let mut values: BTreeMap<ClockId, BTreeSet<Option<&str>>> = BTreeMap::new();
        for (resource, &clock) in resources.iter().zip(&identity.of_resource) {
            let value = get(resource, attribute).filter(|value| !is_junk(value));
            values.entry(clock).or_default().insert(value);
            value.into_iter().for_each(|value| _ = carriers.entry(value).or_default().insert(clock));
        }
        let of_attribute: Option<Vec<Alike>> = carriers
            .into_iter()
            .map(|(value, clocks)| {
                let has_only = |clock: &ClockId| values[clock].len() == 1;
                (value, clocks.into_iter().filter(|clock| has_only(clock) && known(clock)).collect::<Vec<_>>())
            })
            .filter(|(_, clocks)| clocks.len() > 1)
            .map(|(value, clocks)| {
                let within_ns = within(&clocks, map)?;
                Some(Alike { attribute, value: value.to_owned(), clocks, within_ns })
            })
            .collect();
        found.extend(of_attribute.into_iter().flatten().filter(|alike| stands_out(alike, map)));
    }
    // The coarsest attribute is enough.
    let mut told: BTreeSet<Vec<ClockId>> = BTreeSet::new();
    found.retain(|alike: &Alike| told.insert(alike.clocks.clone()));
    found
}

/// The furthest that any two of the clocks are apart, ns; `None` where two differ.
fn within(clocks: &[ClockId], map: &ClockMap) -> Option<i64> {
    let mut most = 0;
    for (place, one) in clocks.iter().enumerate() {
        for other in &clocks[place + 1..] {
            let (one, other) = (&map.models[one.0 as usize], &map.models[other.0 as usize]);
            let gaps: Vec<Gap> = if one.group == other.group { gaps(one, other).collect() } else { Vec::new() };
            let agree = gaps.len() >= LEAST_KNOTS && gaps.iter().all(|gap| gap.ns <= gap.allowed_ns);
            if !agree {
                return None;
            }
            most = gaps.iter().map(|gap| gap.ns).fold(most, i64::max);
        }
    }
    Some(most)
}

/// Knots at which two clocks must be known: fewer show one instant, at which two clocks may well agree.
const LEAST_KNOTS: usize = 5;

/// In a fleet that agrees throughout, agreeing shows nothing: some other clock has to differ, by twice what is unsure.
fn stands_out(alike: &Alike, map: &ClockMap) -> bool {
    let first = &map.models[alike.clocks[0].0 as usize];
    let differs = |other: &ClockModel| {
        let gaps: Vec<Gap> = gaps(first, other).collect();
        let beyond = gaps.iter().filter(|gap| gap.ns > 2 * gap.allowed_ns).count();
        gaps.len() >= LEAST_KNOTS && 2 * beyond > gaps.len()
    };
    let others = (0u32..).map(ClockId).zip(&map.models).filter(|(clock, _)| !alike.clocks.contains(clock));
    others.filter(|(_, model)| model.group == first.group).any(|(_, model)| differs(model))
}

/// How far apart two clocks are at an instant, and how far they may be while they are one, ns.
struct Gap {
    ns: i64,
    allowed_ns: i64,
}

/// At the knots of the one that the other's models reach.
fn gaps<'a>(one: &'a ClockModel, other: &'a ClockModel) -> impl Iterator<Item = Gap> + 'a {
    let gap = |knot: &Knot| {
        let true_time = knot.local.plus(knot.offset_ns.saturating_neg());
        let at = true_time.plus(other.segments.first()?.offset_at(true_time));
        let segment = &other.segments[other.segment_at(at)?];
        let (first, last) = (segment.knots.first()?, segment.knots.last()?);
        let reaches = segment.is_told() && first.local <= at && at <= last.local;
        reaches.then(|| Gap {
            ns: knot.offset_ns.saturating_sub(segment.offset_at(at)).saturating_abs(),
            allowed_ns: knot.uncertainty_ns.saturating_add(segment.uncertainty_at(at)),
        })
    };
    one.told().flat_map(|segment| &segment.knots).filter_map(gap)
}
