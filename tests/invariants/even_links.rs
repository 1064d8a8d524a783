//! How asymmetric links are is learnt from a fleet's cycles.

use unskew::clock::ClockId;
use unskew::estimate::{self, Settings};

use super::fleet::{Clock, Fleet};

/// The median interval, ns, and the share of knots that lie within theirs.
fn intervals(asymmetry: f64) -> (i64, f64) {
    let mut fleet = Fleet::new(16, 600.0, 0.3);
    fleet.asymmetry = asymmetry;
    let evidence = fleet.evidence(0..fleet.links.len());
    let settings = Settings { reference: Some(ClockId(0)), ..Settings::default() };
    let map = estimate::clocks(&evidence, &fleet.reach(), &settings).map;
    let knots = fleet.clocks.iter().zip(&map.models).skip(1).flat_map(|(clock, model)| {
        model.segments.iter().flat_map(|segment| &segment.knots).map(move |knot| {
            let error = knot.offset_ns as f64 - clock.off(Clock::read(knot.local, knot.offset_ns));
            (knot.uncertainty_ns, error.abs() <= knot.uncertainty_ns as f64)
        })
    });
    let mut knots: Vec<(i64, bool)> = knots.collect();
    let covered = knots.iter().filter(|knot| knot.1).count() as f64 / knots.len() as f64;
    knots.sort_unstable();
    (knots[knots.len() / 2].0, covered)
}

#[test]
fn intervals_are_as_wide_as_the_links_of_the_fleet_are_uneven() {
    let ((even, of_even), (uneven, _)) = (intervals(0.0), intervals(0.3));
    assert!(5 * even < 3 * uneven, "{even} and {uneven} ns");
    assert!(of_even > 0.9, "{of_even}");
}
