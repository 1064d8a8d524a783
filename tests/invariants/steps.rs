//! A step moves its clock, and no estimate besides.

use unskew::clock::{ClockId, ClockModel, Knot};
use unskew::estimate::{self, Settings};

use super::fleet::{Clock, Fleet};

/// What all clocks are said to be off too much, ns, in the median over their knots, with half of them stepping by so much.
fn errors(step_ns: f64) -> Vec<f64> {
    let mut fleet = Fleet::new(12, 1_800.0, 0.2);
    for (index, clock) in fleet.clocks.iter_mut().enumerate().skip(1).step_by(2) {
        clock.step = (700.0 + 20.0 * index as f64, step_ns);
    }
    let evidence = fleet.evidence(0..fleet.links.len());
    let settings = Settings { reference: Some(ClockId(0)), ..Settings::default() };
    let map = estimate::clocks(&evidence, &fleet.reach(), &settings).map;
    let of_clock = |(clock, model): (&Clock, &ClockModel)| {
        let knots = model.segments.iter().flat_map(|segment| &segment.knots);
        let error = |knot: &Knot| knot.offset_ns as f64 - clock.off(Clock::read(knot.local, knot.offset_ns));
        let mut errors: Vec<f64> = knots.map(error).collect();
        errors.sort_unstable_by(f64::total_cmp);
        errors[errors.len() / 2]
    };
    fleet.clocks.iter().zip(&map.models).skip(1).map(of_clock).collect()
}

#[test]
fn how_far_clocks_stepped_takes_none_towards_where_it_was() {
    let (without, with) = (errors(0.0), errors(0.9e9));
    let shift = with.iter().zip(&without).map(|(with, without)| with - without).sum::<f64>() / with.len() as f64;
    // 2.2 µs where knots are held to within a second of zero.
    assert!(shift.abs() < 500.0, "{shift} ns: {without:?} without steps, {with:?} with them");
}
