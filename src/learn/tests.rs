use proptest::prelude::*;

use super::*;
use crate::clock::{Clock, Knot, Onward, ReferenceTime};
use crate::identity::{Attributes, Finder, Place};

const S: i64 = 1_000_000_000;
const MS: i64 = 1_000_000;
const NOON: i64 = 1_700_000_000 * S;
const HOUR: i64 = 3600 * S;

/// What a window that ended at this time found of a clock: ahead by this, within so much, ms.
fn model(state: ClockState, at: i64, offset_ms: i64, within_ms: i64) -> ClockModel {
    let knot = |at| Knot {
        local: LocalTime::from_nanos(at),
        offset_ns: offset_ms * MS,
        uncertainty_ns: within_ms * MS,
        lower_ns: None,
        upper_ns: None,
        exchanges: 1,
    };
    let segment = Segment {
        from: ReferenceTime::from_nanos(i64::MIN),
        until: ReferenceTime::MAX,
        knots: vec![knot(at - 10 * S), knot(at)],
        treatment: if state == ClockState::Corrected { Treatment::Moved } else { Treatment::LeftAlone },
        onward: Onward { rate_ppb: 0, growth_ppb: 15_000 },
    };
    let is_known = state != ClockState::NoEvidence;
    let segments = if is_known { vec![segment] } else { Vec::new() };
    ClockModel { state, group: 0, segments, steps: Vec::new(), bounds: Vec::new(), exchanges: 1, neighbours: 1 }
}

fn models(clocks: &[(&str, ClockModel)]) -> Models {
    let clock = |(name, model): &(&str, ClockModel)| {
        (
            Clock { name: (*name).into(), key: (*name).into(), rule: "host.name".into(), ..Clock::default() },
            model.clone(),
        )
    };
    let place = |(number, (name, _)): (u32, &(&str, ClockModel))| {
        (("host.name".to_owned(), (*name).to_owned()), Place::Clock(ClockId(number)))
    };
    let finder = Finder { places: (0..).zip(clocks).map(place).collect(), ..Finder::default() };
    Models { clocks: clocks.iter().map(clock).collect(), finder, ..Models::default() }
}

fn host(name: &str) -> Attributes {
    vec![("host.name".to_owned(), name.to_owned())]
}

/// A clock's state by models, and what is taken off it, ms.
fn says(models: &Models, name: &str, at: i64) -> Option<(&'static str, i64)> {
    let (_, model) = models.clock(models.finder.clock_of(&host(name))?);
    let applied = model.segments.last().map_or(0, |segment| segment.applied_at(LocalTime::from_nanos(at)));
    Some((model.state.name(), (applied as f64 / MS as f64).round() as i64))
}

/// What is known of a clock after windows a minute apart, each of which found it in a state, ahead by so much, within so much.
fn check(windows: &[(ClockState, i64, i64)], expected: &[(&str, i64)]) {
    let mut known = Models::default();
    for ((minute, (state, offset_ms, within_ms)), expected) in (1..).zip(windows).zip(expected) {
        let at = NOON + minute * 60 * S;
        known = after(&known, models(&[("a", model(*state, at, *offset_ms, *within_ms))]), HOUR);
        assert_eq!(says(&known, "a", at), Some(*expected), "{minute}: {windows:?}");
        assert_eq!(known.learned.as_ref().unwrap().number, minute as u64);
    }
}

use ClockState::{Capped, Contradictory, Corrected, NoEvidence, Reference, WithinUncertainty as Within};

#[test]
fn a_first_window_decides_and_a_change_needs_two_or_to_be_large() {
    check(&[(Corrected, 50, 1)], &[("corrected", 50)]);
    check(
        &[(Within, 0, 1), (Corrected, 2, 1), (Corrected, 2, 1)],
        &[("within_uncertainty", 0), ("within_uncertainty", 0), ("corrected", 2)],
    );
    // Not in a row.
    check(
        &[(Within, 0, 1), (Corrected, 2, 1), (Within, 0, 1), (Corrected, 2, 1)],
        &[("within_uncertainty", 0), ("within_uncertainty", 0), ("within_uncertainty", 0), ("within_uncertainty", 0)],
    );
    check(&[(Within, 0, 1), (Corrected, 4, 1)], &[("within_uncertainty", 0), ("corrected", 4)]);
    // Somebody set the clock right.
    check(&[(Corrected, 50, 1), (Within, 0, 1)], &[("corrected", 50), ("within_uncertainty", 0)]);
    check(
        &[(Corrected, 3, 1), (Within, 1, 1), (Within, 1, 1)],
        &[("corrected", 3), ("corrected", 1), ("within_uncertainty", 0)],
    );
}

#[test]
fn what_a_window_hardly_knows_changes_nothing() {
    check(&[(Corrected, 50, 1), (Within, 20, 60), (Within, 20, 60)], &[("corrected", 50); 3]);
    check(&[(Corrected, 50, 1), (NoEvidence, 0, 0)], &[("corrected", 50); 2]);
    check(&[(Corrected, 50, 5), (Corrected, 52, 1)], &[("corrected", 50), ("corrected", 52)]);
    // Less sure, but sure that it is elsewhere.
    check(&[(Corrected, 50, 1), (Corrected, 90, 20)], &[("corrected", 50), ("corrected", 90)]);
}

#[test]
fn what_does_harm_or_is_the_reference_acts_at_once() {
    for (state, name) in [(Contradictory, "contradictory"), (Capped, "capped"), (Reference, "reference")] {
        check(&[(Corrected, 2, 1), (state, 2, 1)], &[("corrected", 2), (name, 0)]);
        let next = if state == Reference { ("within_uncertainty", 0) } else { ("corrected", 2) };
        check(&[(state, 2, 1), (Corrected, 2, 1)], &[(name, 0), next]);
    }
}

#[test]
fn a_clock_that_is_not_seen_is_kept_until_it_is_too_old() {
    let window = |name: &'static str, minute: i64| {
        models(&[
            (name, model(Corrected, NOON + minute * 60 * S, minute, 1)),
            ("r", model(Reference, NOON + minute * 60 * S, 0, 0)),
        ])
    };
    let known = [("a", 1), ("b", 2), ("c", 3), ("b", 50)]
        .iter()
        .fold(Models::default(), |known, (name, minute)| after(&known, window(name, *minute), HOUR));
    assert_eq!(says(&known, "a", NOON), Some(("corrected", 1)));
    assert_eq!(says(&known, "b", NOON), Some(("corrected", 50)));
    let known = after(&known, window("d", 62), HOUR);
    assert_eq!([says(&known, "a", NOON), says(&known, "c", NOON)], [None, Some(("corrected", 3))]);
    // Those that are measured from one clock can be compared.
    let groups: BTreeSet<u32> = known.clocks.iter().map(|(_, model)| model.group).collect();
    assert_eq!((groups.len(), known.clocks.len()), (1, 4));
}

proptest! {
    /// Whatever windows see: each clock that any saw of late is found, once, with a name of its own, and nothing is known
    /// of it that no window said.
    #[test]
    fn what_is_known_is_what_windows_said(
        windows in prop::collection::vec(prop::collection::btree_map(0u8..6, (-90i64..90, 1i64..30, 0usize..4), 1..6), 1..8),
    ) {
        let names = ["a", "b", "c", "d", "e", "f"];
        let mut known = Models::default();
        let mut said: BTreeMap<u8, BTreeSet<i64>> = BTreeMap::new();
        for (minute, window) in (1..).zip(&windows) {
            let found: Vec<(&str, ClockModel)> = window.iter().map(|(clock, (offset, within, state))| {
                let state = [Corrected, Within, Contradictory, NoEvidence][*state];
                (names[*clock as usize], model(state, NOON + minute * 60 * S, *offset, *within))
            }).collect();
            for (clock, (offset, _, _)) in window {
                said.entry(*clock).or_default().insert(*offset);
            }
            known = after(&known, models(&found), HOUR);
        }
        let found: BTreeSet<&str> = known.clocks.iter().map(|(clock, _)| clock.name.as_str()).collect();
        prop_assert_eq!(found.len(), known.clocks.len());
        for (clock, offsets) in said {
            let Some((_, applied)) = says(&known, names[clock as usize], NOON) else {
                // Nothing was ever known of it.
                prop_assert!(windows.iter().all(|window| window.get(&clock).is_none_or(|found| found.2 == 3)));
                continue;
            };
            let (least, most) = (*offsets.first().unwrap(), *offsets.last().unwrap());
            prop_assert!(applied == 0 || (least..=most).contains(&applied));
        }
        let last = windows.last().unwrap();
        for clock in last.keys() {
            prop_assert!(known.finder.clock_of(&host(names[*clock as usize])).is_some());
        }
    }
}
