//! A fleet comes out of what rolling up leaves of its readings as it does of all of them.

use unskew::clock::{ClockId, StepKind};
use unskew::estimate::{self, Estimate, Evidence, Settings};

use super::fleet::Fleet;

fn estimate(fleet: &Fleet, evidence: &Evidence) -> Estimate {
    let settings = Settings { reference: Some(ClockId(0)), ..Settings::default() };
    estimate::clocks(evidence, &fleet.reach(), &settings)
}

fn rolled_up(evidence: &Evidence, window_s: i64) -> Evidence {
    let rolled_up = evidence.rolled_up(window_s * 1_000_000_000);
    let (left, all) = (rolled_up.readings.len(), evidence.readings.len());
    assert!(2 * left < all, "{left} of {all} readings are left");
    rolled_up
}

#[test]
fn a_fleet_comes_out_of_the_readings_that_can_decide_as_of_all() {
    let mut fleet = Fleet::new(20, 1_800.0, 0.2);
    let evidence = fleet.evidence(0..fleet.links.len());
    let p95 = |evidence: &Evidence| {
        let errors = fleet.errors(&estimate(&fleet, evidence).map);
        errors[errors.len() * 95 / 100]
    };
    let (of_all, of_rolled_up) = (p95(&evidence), p95(&rolled_up(&evidence, 60)));
    assert!(of_rolled_up < 1.3 * of_all && of_all < 200e3, "{of_all} ns, rolled up {of_rolled_up} ns");
}

#[test]
fn a_reading_that_stands_for_others_makes_as_sure_as_all_of_them() {
    // Links are even, so that noise is what intervals are made of.
    let mut fleet = Fleet::new(20, 1_800.0, 0.2);
    fleet.asymmetry = 0.0;
    let evidence = fleet.evidence(0..fleet.links.len());
    let median = |evidence: &Evidence| {
        let models = estimate(&fleet, evidence).map.models;
        let knots = models.iter().skip(1).flat_map(|model| &model.segments).flat_map(|segment| &segment.knots);
        let mut intervals: Vec<i64> = knots.map(|knot| knot.uncertainty_ns).collect();
        intervals.sort_unstable();
        intervals[intervals.len() / 2]
    };
    let (of_all, of_rolled_up) = (median(&evidence), median(&rolled_up(&evidence, 60)));
    let ratio = of_rolled_up as f64 / of_all as f64;
    assert!((0.7..1.4).contains(&ratio), "{of_all} ns, rolled up {of_rolled_up} ns");
}

#[test]
fn a_step_is_found_to_the_millisecond_and_the_second_all_the_same() {
    let mut fleet = Fleet::new(20, 1_800.0, 0.2);
    fleet.clocks[7].step = (851.0, 40e6);
    let evidence = fleet.evidence(0..fleet.links.len());
    let map = estimate(&fleet, &rolled_up(&evidence, 60)).map;
    let steps: Vec<_> = map
        .models
        .iter()
        .enumerate()
        .flat_map(|(clock, model)| model.steps.iter().map(move |step| (clock, step)))
        .collect();
    let [(7, step)] = steps[..] else { panic!("{steps:?}") };
    let at_s = (step.at.nanos() - fleet.clocks[0].reads(0.0).nanos()) as f64 / 1e9;
    assert_eq!(step.kind, StepKind::Step);
    assert!((at_s - 851.0).abs() < 1.0, "{at_s} s");
    assert!((step.size_ns - 40_000_000).abs() < 1_000_000, "{} ns", step.size_ns);
}
