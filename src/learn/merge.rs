//! Clocks that a window did not see, kept beside those that it saw.

use std::collections::{BTreeMap, BTreeSet};

use crate::clock::{Clock, ClockId, ClockModel};
use crate::identity::{Finder, Place};
use crate::models::Models;

/// Adds the clocks of `known` that are not among those `seen`, as `(known, window's)`, with what leads to them.
pub(super) fn unseen(next: &mut Models, known: &Models, seen: &BTreeMap<ClockId, ClockId>, max_age_ns: i64) {
    let latest = next.clocks.iter().filter_map(|(_, model)| last_ns(model)).max();
    let is_young = |model: &ClockModel| {
        let is_recent = |last: i64| latest.is_none_or(|latest| latest.saturating_sub(last) <= max_age_ns);
        last_ns(model).is_some_and(is_recent)
    };
    // A group goes on as that of any of its clocks that was seen.
    let group_of = |model: &ClockModel| model.group;
    let mut groups: BTreeMap<u32, u32> = BTreeMap::new();
    for (known_id, own) in seen {
        groups.entry(group_of(&known.clock(*known_id).1)).or_insert(group_of(&next.clock(*own).1));
    }
    let mut free = next.clocks.iter().map(|(_, model)| model.group + 1).max().unwrap_or(0);
    let mut names: BTreeSet<String> = next.clocks.iter().map(|(clock, _)| clock.name.clone()).collect();
    let mut now: BTreeMap<ClockId, ClockId> = BTreeMap::new();
    for (id, (clock, model)) in (0..).map(ClockId).zip(&known.clocks) {
        if let Some(own) = seen.get(&id) {
            now.insert(id, *own);
            continue;
        }
        // What two go by names neither.
        let Some(name) = [&clock.name, &clock.key].into_iter().find(|name| !names.contains(*name)) else { continue };
        if !is_young(model) {
            continue;
        }
        let group = *groups.entry(model.group).or_insert_with(|| {
            free += 1;
            free - 1
        });
        names.insert(name.clone());
        now.insert(id, ClockId(next.clocks.len() as u32));
        next.clocks.push((Clock { name: name.clone(), ..clock.clone() }, ClockModel { group, ..model.clone() }));
    }
    find_too(&mut next.finder, &known.finder, &now);
}

/// When a clock was seen last, ns by the reference.
fn last_ns(model: &ClockModel) -> Option<i64> {
    let knots = model.told().filter_map(|segment| segment.knots.last());
    knots.map(|knot| knot.local.nanos().saturating_sub(knot.offset_ns)).max()
}

/// Adds what led to clocks before, where nothing else is known of it; `now` has the clocks that are still there.
fn find_too(finder: &mut Finder, known: &Finder, now: &BTreeMap<ClockId, ClockId>) {
    finder.untrusted.extend(known.untrusted.clone());
    for (value, with) in &known.witnessed {
        let own = finder.witnessed.entry(value.clone()).or_default();
        with.iter().for_each(|(witness, seen)| {
            own.entry(witness.clone()).or_insert_with(|| seen.clone());
        });
    }
    for (token, place) in &known.places {
        match (place, finder.places.get_mut(token)) {
            (Place::Clock(clock), None) => {
                if let Some(clock) = now.get(clock) {
                    finder.places.insert(token.clone(), Place::Clock(*clock));
                }
            }
            (Place::Split { by, clocks }, own) => {
                let kept = clocks.iter().filter_map(|(value, clock)| Some((value.clone(), *now.get(clock)?)));
                match own {
                    None => {
                        let place = Place::Split { by: by.clone(), clocks: kept.collect() };
                        finder.places.insert(token.clone(), place);
                    }
                    Some(Place::Split { by: same, clocks: own }) if same == by => {
                        kept.for_each(|(value, clock)| {
                            own.entry(value).or_insert(clock);
                        });
                    }
                    Some(_) => {}
                }
            }
            (Place::Clock(_), Some(_)) => {}
        }
    }
}
