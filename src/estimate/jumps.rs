//! Steps, as single calls show them before anything is solved. Large ones are taken off the readings.
//!
//! In come two-sided readings and who is connected, out goes a base per clock and *stretch* between two jumps, so that a
//! clock that was hours off for a while takes part like any other: by its raw times its readings would stand hours
//! away from the calls that they belong to, and a curve that bends freely would run through the hours between. What a
//! jump is wrong by after this is an unknown of the solve ([`super::curves::Break`]).
//!
//! What may have been a slew as well is no jump: the look follows it, so that others can be measured from that clock, and
//! leaves it in the readings. Smaller steps stay there too, and are what the search in the solved curves begins with:
//! where neighbours step within seconds of each other, a curve that bends freely tells neither when nor whose step it was.

use std::collections::{BTreeMap, BTreeSet};

use super::align::Alignment;
use super::evidence::{Reading, Side};
use super::samples::{Bound, CALLS, Look, Sample, bounds, quick_among, sample, stretches};
use super::stretches::{Moment, Stretch, moments, steps};

/// What is taken off the readings. By the search in the solved curves alone, clocks that step by half a second within seconds
/// of each other are mistaken for one another (`benches/ablation/half_seconds.toml`), and a saw tooth of seconds comes out as
/// a dozen slews (`tests/cases.rs`). But the search can make no slew of what was taken off.
pub(super) const TAKEN_OFF: Look = Look { least: 1e8, sure: LARGE_NS, taken_off: true };

/// What the search begins with; for what is smaller it needs no help. 3, 5 and 20 ms do as well.
pub(super) const CLOSER: Look = Look { least: 1e7, sure: 0.0, taken_off: false };

/// So large a step is one however long nobody looked, ns.
pub(super) const LARGE_NS: f64 = 1e9;

/// One clock has no more of them: each is an unknown of the solve.
const MOST_STEPS: usize = 60;

/// One astray call in so many is few: a clock that runs off is off by seconds in more.
const FEW: usize = 20;

/// How often each clock is then looked at again, by all others as they are known by then.
const LOOKS: usize = 2;

/// Without a clock that is known to be right, so many of a group's clocks are tried as the one that never jumps.
const ROOTS: usize = 4;

/// Gives the clocks of groups in which one jumps a stretch for each time between two jumps. Where none does, but a few calls
/// are astray, each clock has one, by which these are left out.
pub(super) fn find(alignment: &mut Alignment, readings: &[Reading], anchored: &[bool]) {
    for (clock, stretches) in grown(alignment, readings, anchored, TAKEN_OFF) {
        alignment.bases[clock as usize] = stretches[0].base;
        alignment.stretches[clock as usize] = stretches;
    }
}

/// Stretches between steps of ten milliseconds and more, which stay in the readings; those that [`find`] took off are among
/// them.
pub(super) fn closer(alignment: &Alignment, readings: &[Reading], anchored: &[bool]) -> BTreeMap<u32, Vec<Stretch>> {
    grown(alignment, readings, anchored, CLOSER)
}

/// The stretches of all clocks in groups in which one steps, or a few calls are seconds off.
fn grown(alignment: &Alignment, readings: &[Reading], anchored: &[bool], look: Look) -> BTreeMap<u32, Vec<Stretch>> {
    let fine = || readings.iter().filter(|reading| is_fine(reading));
    let calls: Vec<&Reading> = fine().filter(|r| r.side != Side::Forward && r.round_trip_delay_ns() >= 0).collect();
    let groups = groups_that_step(alignment, &calls, look.least);
    if groups.is_empty() {
        return BTreeMap::new();
    }
    let steps = |reading: &&Reading| groups.contains(&alignment.groups[reading.link.client.0 as usize]);
    let graph = Graph::new(calls.into_iter().filter(steps), fine().filter(steps), look);
    let mut all = BTreeMap::new();
    for group in groups {
        let members: Vec<u32> =
            graph.links.keys().copied().filter(|&clock| alignment.groups[clock as usize] == group).collect();
        let fixed: Vec<u32> =
            members.iter().copied().filter(|&clock| anchored.get(clock as usize).copied().unwrap_or(false)).collect();
        let mut grown = if fixed.is_empty() { graph.grow_from_any(&members) } else { graph.grow(&fixed) };
        if jumps(&grown) == 0 {
            // One trace may tell of a step of twenty seconds, and bends the curves of all clocks near it if it counts; but a
            // clock that runs off is off by as much in many calls.
            let (astray, calls) = graph.astray(&grown);
            if !look.taken_off || astray == 0 || FEW * astray > calls {
                continue;
            }
        }
        if fixed.is_empty() {
            let mut firsts: Vec<i64> = grown.values().map(|stretches| stretches[0].base).collect();
            firsts.sort_unstable();
            let median = firsts[(firsts.len() - 1) / 2];
            grown.values_mut().flatten().for_each(|stretch| stretch.shift(-median));
        }
        all.extend(grown);
    }
    all
}

fn jumps(grown: &BTreeMap<u32, Vec<Stretch>>) -> usize {
    grown.iter().map(|(&clock, stretches)| steps(clock, stretches).count()).sum()
}

/// Groups with two clocks whose calls no one offset explains, nor two that are near each other.
fn groups_that_step(alignment: &Alignment, calls: &[&Reading], least: f64) -> BTreeSet<u32> {
    let mut pairs: BTreeMap<(u32, u32), (i64, i64)> = BTreeMap::new();
    for call in calls {
        let (client, server) = (call.link.client.0, call.link.server.0);
        let (least, most) = if client < server {
            (call.backward_ns().saturating_neg(), call.forward_ns())
        } else {
            (call.forward_ns().saturating_neg(), call.backward_ns())
        };
        let bounds = pairs.entry((client.min(server), client.max(server))).or_insert((i64::MIN, i64::MAX));
        *bounds = (bounds.0.max(least), bounds.1.min(most));
    }
    let wide = pairs.into_iter().filter(|(_, (lower, upper))| lower.saturating_sub(*upper) as f64 > least);
    wide.map(|((clock, _), _)| alignment.groups[clock as usize]).collect()
}

/// Whole seconds are no witnesses of steps.
fn is_fine(reading: &Reading) -> bool {
    f64::from(reading.client_quantum_ns.max(reading.server_quantum_ns)) < TAKEN_OFF.least
}

/// When a call's messages left and came.
fn four_moments(call: &Reading, grown: &BTreeMap<u32, Vec<Stretch>>) -> Option<[Moment; 4]> {
    let (client, server) = (grown.get(&call.link.client.0)?, grown.get(&call.link.server.0)?);
    let [sent, received] = moments((client, call.request_sent), (server, call.request_received));
    let [responded, returned] = moments((server, call.response_sent), (client, call.response_received));
    Some([sent, received, responded, returned])
}

/// Whether a message of a reading comes long before it was sent, whatever stretches its clocks are in.
pub(super) fn is_astray(moments: &[Moment; 4], side: Side) -> bool {
    let [sent, received, responded, returned] = moments;
    let is_early = |left: &Moment, came: &Moment| left.time.saturating_sub(came.time) as f64 > LARGE_NS;
    is_early(sent, received) || (side != Side::Forward && is_early(responded, returned))
}

/// Who calls whom.
struct Graph<'a> {
    /// Per clock its neighbours, with the least round-trip delay.
    links: BTreeMap<u32, BTreeMap<u32, i64>>,
    of_clock: BTreeMap<u32, Vec<&'a Reading>>,
    /// All readings of a clock, also those of calls that make no sense as they are: a step in their midst makes none.
    messages: BTreeMap<u32, Vec<&'a Reading>>,
    look: Look,
}

impl<'a> Graph<'a> {
    fn new(calls: impl Iterator<Item = &'a Reading>, messages: impl Iterator<Item = &'a Reading>, look: Look) -> Self {
        let (links, of_clock, of_messages) = (BTreeMap::new(), BTreeMap::new(), BTreeMap::new());
        let mut graph = Self { links, of_clock, messages: of_messages, look };
        for message in messages {
            for clock in [message.link.client.0, message.link.server.0] {
                graph.messages.entry(clock).or_default().push(message);
            }
        }
        for call in calls {
            let (client, server) = (call.link.client.0, call.link.server.0);
            for (one, other) in [(client, server), (server, client)] {
                let least = graph.links.entry(one).or_default().entry(other).or_insert(i64::MAX);
                *least = call.round_trip_delay_ns().min(*least);
                graph.of_clock.entry(one).or_default().push(call);
            }
        }
        graph
    }

    /// From clocks that never jump outwards along the quickest links, each clock against all that are known by then.
    /// Those that are seen from a jumping one alone come last: where that reads a time twice, its calls say little of
    /// when. What one clock did and the next was blamed for comes right when both are looked at again.
    fn grow(&self, roots: &[u32]) -> BTreeMap<u32, Vec<Stretch>> {
        let mut known: BTreeMap<u32, Vec<Stretch>> =
            roots.iter().map(|&root| (root, vec![Stretch::steady(0)])).collect();
        let ahead = |clock: u32, jumps: bool| {
            self.links.get(&clock).into_iter().flatten().map(move |(&other, &delay)| (jumps, delay, other))
        };
        let mut next: BTreeSet<(bool, i64, u32)> = roots.iter().flat_map(|&root| ahead(root, false)).collect();
        let mut order = Vec::new();
        while let Some((_, _, clock)) = next.pop_first() {
            if known.contains_key(&clock) {
                continue;
            }
            let Some(found) = self.look(clock, &known, true) else { continue };
            next.extend(ahead(clock, found.len() > 1));
            known.insert(clock, found);
            order.push(clock);
        }
        let looks = if jumps(&known) > 0 { LOOKS } else { 0 };
        for _ in 0..looks {
            for &clock in &order {
                if let Some(found) = self.look(clock, &known, false) {
                    known.insert(clock, found);
                }
            }
        }
        known
    }

    /// From the clock by which there are the fewest jumps, and calls that these do not explain: what every clock does at once
    /// is done by the one that is looked from, and where that one reads a time twice, half of all calls say nothing.
    fn grow_from_any(&self, members: &[u32]) -> BTreeMap<u32, Vec<Stretch>> {
        let mut untried = members.to_vec();
        untried.sort_by_key(|clock| std::cmp::Reverse(self.links[clock].len()));
        let mut best: Option<(usize, BTreeMap<u32, Vec<Stretch>>)> = None;
        for _ in 0..ROOTS {
            // By a clock that jumps, one that does not jumps as often; one that does, more often still.
            let own = |clock: &u32| best.as_ref().and_then(|best| best.1.get(clock)).map_or(0, Vec::len);
            let Some(next) = (0..untried.len()).min_by_key(|&index| own(&untried[index])) else { break };
            let grown = self.grow(&[untried.remove(next)]);
            let cost = CALLS * jumps(&grown) + self.unexplained(members, &grown);
            if best.as_ref().is_none_or(|best| cost < best.0) {
                best = Some((cost, grown));
            }
        }
        best.map(|best| best.1).unwrap_or_default()
    }

    /// Calls of a group whose messages seem to come more than a step before or after they could.
    fn unexplained(&self, members: &[u32], grown: &BTreeMap<u32, Vec<Stretch>>) -> usize {
        let is_unexplained = |call: &&&Reading| {
            four_moments(call, grown).is_none_or(|[sent, received, responded, returned]| {
                let most = call.round_trip_delay_ns() as f64 + self.look.least;
                let off = |left: Moment, came: Moment| came.time.saturating_sub(left.time) as f64;
                [off(sent, received), off(responded, returned)].iter().any(|off| off.abs() > most)
            })
        };
        let calls = members.iter().flat_map(|clock| &self.of_clock[clock]);
        calls.filter(is_unexplained).count() / 2
    }

    /// How many calls of some clocks are astray, and how many there are.
    fn astray(&self, grown: &BTreeMap<u32, Vec<Stretch>>) -> (usize, usize) {
        let calls = || grown.keys().filter_map(|clock| self.of_clock.get(clock)).flatten();
        let is_astray = |call: &&&Reading| four_moments(call, grown).is_some_and(|all| is_astray(&all, call.side));
        (calls().filter(is_astray).count(), calls().count())
    }

    /// A clock's stretches by those that are known; where enough of them are `steady`, by these alone.
    fn look(&self, clock: u32, known: &BTreeMap<u32, Vec<Stretch>>, steady: bool) -> Option<Vec<Stretch>> {
        let of = self.of_clock.get(&clock).into_iter().flatten();
        let all: Vec<(bool, Sample)> = of.filter_map(|call| sample(call, clock, known)).collect();
        let by_steady = steady && all.iter().filter(|(jumps, _)| !jumps).count() > 2 * CALLS;
        let mut samples: Vec<Sample> =
            all.into_iter().filter(|(jumps, _)| !(by_steady && *jumps)).map(|(_, sample)| sample).collect();
        if samples.is_empty() {
            return None;
        }
        // Calls that took far longer than most say too little.
        let mut within: Vec<i64> = samples.iter().map(|sample| sample.within).collect();
        within.sort_unstable();
        let most = within[within.len() / 2].saturating_mul(4);
        samples.sort_unstable_by_key(|sample| (sample.by, sample.time, sample.ahead));
        let mut samples: Vec<Sample> = samples
            .chunk_by(|one, other| one.by == other.by)
            .flat_map(|of_neighbour| quick_among(of_neighbour, most))
            .collect();
        samples.sort_unstable_by_key(|sample| (sample.time, sample.ahead));
        let of = self.messages.get(&clock).into_iter().flatten();
        let mut bounds: Vec<Bound> = of.flat_map(|message| bounds(message, clock, known)).collect();
        bounds.sort_unstable_by_key(|bound| bound.time);
        let found = stretches(&samples, &bounds, self.look);
        // What seems to step every few calls is several clocks under one name, or none that is worth following.
        let often = !self.look.taken_off && found.len() > 1 + (samples.len() / (2 * CALLS)).min(MOST_STEPS);
        Some(if often { vec![Stretch::steady(samples[samples.len() / 2].ahead)] } else { found })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::{ClockId, Link};
    use crate::estimate::stretches::Step;

    const SECOND: i64 = 1_000_000_000;

    /// A call between two clocks that are so far ahead.
    fn call(client: (u32, i64), server: (u32, i64), time: i64, delay: i64) -> Reading {
        Reading {
            link: Link { client: ClockId(client.0), server: ClockId(server.0), class: 0 },
            side: Side::Backward,
            exchange: 0,
            request_sent: time + client.1,
            request_received: time + delay / 2 + server.1,
            response_sent: time + delay / 2 + 100 + server.1,
            response_received: time + delay + 100 + client.1,
            client_quantum_ns: 1,
            server_quantum_ns: 1,
            one_way: false,
            stands_for: 1,
        }
    }

    #[test]
    fn whose_step_it_was_comes_right_at_another_look() {
        // The first clock steps after ten seconds, in which the reference called it once. From the first alone it seems
        // that the second stepped, until the third is known as well.
        let ahead = |clock: u32, time: i64| if clock == 1 && time >= 10 * SECOND { 50_000_000 } else { 0 };
        let call = |client: u32, server: u32, time: i64, delay: i64| {
            call((client, ahead(client, time)), (server, ahead(server, time)), time, delay)
        };
        let times = |from: i64| (from..60).map(|second| second * SECOND);
        let mut readings = vec![call(0, 1, 5 * SECOND, 1_000_000)];
        readings.extend(times(12).map(|time| call(0, 1, time, 1_000_000)));
        for (client, server, delay) in [(1, 2, 2_000_000), (3, 1, 5_000_000), (3, 2, 5_000_000), (0, 3, 9_000_000)] {
            readings.extend(times(0).map(|time| call(client, server, time, delay)));
        }
        let alignment = Alignment { groups: vec![0; 4], bases: vec![0; 4], stretches: vec![Vec::new(); 4] };
        let found = closer(&alignment, &readings, &[true, false, false, false]);
        let steps: Vec<Step> = found.iter().flat_map(|(clock, stretches)| steps(*clock, stretches)).collect();
        let is_step = |size: i64| (size - 50_000_000).abs() < 1_000_000;
        assert!(matches!(steps[..], [Step { clock: 1, size, .. }] if is_step(size)), "{steps:?}");
        assert!((9 * SECOND..11 * SECOND).contains(&steps[0].time));
    }

    #[test]
    fn the_clock_that_jumps_is_not_the_one_that_all_others_are_measured_from() {
        // The first clock, which all others call, is set back by twenty seconds and so reads them twice.
        let ahead = |clock: u32, time: i64| if clock == 0 && time >= 40 * SECOND { -20 * SECOND } else { 0 };
        let mut readings = Vec::new();
        for (client, server) in [(1, 0), (2, 0), (3, 0), (4, 0), (1, 2), (3, 4)] {
            readings.extend((0..120).map(|k| {
                let time = k * SECOND / 2 + i64::from(client) * 1_000_000;
                call((client, ahead(client, time)), (server, ahead(server, time)), time, 1_000_000)
            }));
        }
        let mut alignment = Alignment { groups: vec![0; 5], bases: vec![0; 5], stretches: vec![Vec::new(); 5] };
        find(&mut alignment, &readings, &[false; 5]);
        let jumps: Vec<usize> = alignment.stretches.iter().map(|stretches| stretches.len() - 1).collect();
        assert_eq!(jumps, [1, 0, 0, 0, 0], "{alignment:?}");
        let [before, after] = &alignment.stretches[0][..] else { panic!() };
        assert!((after.base - before.base + 20 * SECOND).abs() < 2_000_000);
    }

    #[test]
    fn what_steps_every_few_calls_is_no_one_clock() {
        // By turns 50 ms ahead and not for six calls each, as two machines under one name are.
        let ahead = |k: i64| if k / 6 % 2 == 0 { 0 } else { 50_000_000 };
        let readings: Vec<Reading> = (0..600).map(|k| call((0, 0), (1, ahead(k)), k * SECOND / 2, 1_000_000)).collect();
        let alignment = Alignment { groups: vec![0; 2], bases: vec![0; 2], stretches: vec![Vec::new(); 2] };
        assert_eq!(closer(&alignment, &readings, &[true, false]), BTreeMap::new());
    }

    #[test]
    fn a_clock_that_says_nothing_of_jumps_is_placed_beside_one_that_jumps() {
        // As one that stamps whole seconds is: it was not looked at, and has a base alone.
        let jumped = Stretch { from: 300 * SECOND, base: 60 * SECOND, ..Stretch::steady(0) };
        let jumping = vec![Stretch { until: 300 * SECOND, ..Stretch::steady(0) }, jumped];
        let alignment = Alignment { groups: vec![0; 2], bases: vec![7, 0], stretches: vec![Vec::new(), jumping] };
        let moments = alignment.moments(&call((0, 7), (1, 60 * SECOND), 400 * SECOND, 1_000_000));
        assert_eq!(moments.map(|moment| moment.base), [7, 60 * SECOND, 60 * SECOND, 7]);
    }
}
