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
use super::scale::upper_median;

/// What a look takes for a step.
#[derive(Clone, Copy, Debug)]
struct Look {
    /// A smaller one is none, ns.
    least: f64,
    /// A smaller one is one only where no slew is as fast, ns.
    sure: f64,
}

/// What is taken off the readings. By the search in the solved curves alone, clocks that step by half a second within seconds
/// of each other are mistaken for one another (`benches/ablation/half_seconds.toml`), and a saw tooth of seconds comes out as
/// a dozen slews (`tests/cases.rs`). But the search can make no slew of what was taken off.
const TAKEN_OFF: Look = Look { least: 1e8, sure: LARGE_NS };

/// What the search begins with; for what is smaller it needs no help. 3, 5 and 20 ms do as well.
const CLOSER: Look = Look { least: 1e7, sure: 0.0 };

/// So large a step is one however long nobody looked, ns.
pub(super) const LARGE_NS: f64 = 1e9;

/// A clock gains or loses no more than a tenth, and chrony slews by no more than a twelfth.
const FASTEST: f64 = 0.1;

/// Of what a clock changes by from one level to another, it makes so much at once where it steps.
const AT_ONCE: f64 = 0.85;

/// One clock has no more of them: each is an unknown of the solve.
const MOST_STEPS: usize = 60;

/// One astray call in so many is few: a clock that runs off is off by seconds in more.
const FEW: usize = 20;

/// How often each clock is then looked at again, by all others as they are known by then.
const LOOKS: usize = 2;

/// A jump is this many times larger than what the offset usually changes by from one call to the next.
const OVER_USUAL: f64 = 8.0;

/// Calls on either side that tell a level.
const CALLS: usize = 5;

/// A local trace goes on as it began for so long after a jump.
const NEAR_NS: i64 = 500_000_000;

/// Before and after it was seen, a clock goes on for one part in so many of that time.
const BEYOND: i64 = 10;

/// Without a clock that is known to be right, so many of a group's clocks are tried as the one that never jumps.
const ROOTS: usize = 4;

/// The time between two jumps of one clock, or between those and slews that a look has followed it across.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Stretch {
    /// When it begins, by the other clocks.
    pub(super) from: i64,
    until: i64,
    /// The clock was seen about from then until then only, with what it jumped by within.
    seen: (i64, i64),
    /// What is taken off the clock's readings, ns.
    pub(super) base: i64,
    /// How far the clock is ahead of its base, about: `level` at `middle`, gaining `slope` per ns.
    middle: i64,
    level: f64,
    slope: f64,
    /// How unsure the jump that begins it is, ns.
    pub(super) unsure: f64,
}

impl Stretch {
    /// A clock that never jumps.
    pub(super) fn steady(base: i64) -> Self {
        let always = (i64::MIN, i64::MAX);
        Self { from: always.0, until: always.1, seen: always, base, middle: 0, level: 0.0, slope: 0.0, unsure: 0.0 }
    }

    /// When the clock read a local time, if it did so within this stretch.
    fn time(&self, local: i64) -> i64 {
        let without_base = local.saturating_sub(self.base);
        let after = without_base.saturating_sub(self.middle) as f64;
        // What is taken off is small beside the time, which an `f64` has to 256 ns only.
        let over = (self.level + self.slope * after) / (1.0 + self.slope);
        without_base.saturating_sub(over as i64)
    }

    /// How far the clock is ahead at a time.
    fn offset(&self, time: i64) -> i64 {
        let over = self.level + self.slope * time.saturating_sub(self.middle) as f64;
        self.base.saturating_add(over.round() as i64)
    }

    /// How far a time is outside of it, ns. Before a clock was seen it is outside of the first stretch as well: set back by an
    /// hour, it reads times of an hour before.
    fn outside(&self, time: i64) -> i64 {
        let (from, until) = (self.from.max(self.seen.0), self.until.min(self.seen.1));
        from.saturating_sub(time).max(time.saturating_sub(until)).max(0)
    }
}

/// How far a clock is ahead of what is taken off its readings at a time by the other clocks, about, ns; 0 where nothing was
/// found of it.
pub(super) fn over_base(stretches: &[Stretch], time: i64) -> f64 {
    at(stretches, time).map_or(0.0, |stretch| stretch.offset(time).saturating_sub(stretch.base) as f64)
}

/// How far it is ahead of a base of another look.
pub(super) fn over(stretches: &[Stretch], time: i64, base: i64) -> Option<f64> {
    at(stretches, time).map(|stretch| stretch.offset(time).saturating_sub(base) as f64)
}

fn at(stretches: &[Stretch], time: i64) -> Option<&Stretch> {
    stretches.iter().find(|stretch| time < stretch.until)
}

/// A reading's place in its clock's history.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Moment {
    /// What is taken off the reading, ns.
    pub(super) base: i64,
    /// When it was by the other clocks, about.
    pub(super) time: i64,
}

/// Both ends of one message: of all stretches in those that make it leave and arrive at one time.
pub(super) fn moments(sender: (&[Stretch], i64), receiver: (&[Stretch], i64)) -> [Moment; 2] {
    let moment = |stretch: &Stretch, local: i64| Moment { base: stretch.base, time: stretch.time(local) };
    let misfit = |one: &Stretch, other: &Stretch| {
        let (left, came) = (one.time(sender.1), other.time(receiver.1));
        left.abs_diff(came)
            .saturating_add(one.outside(left).unsigned_abs())
            .saturating_add(other.outside(came).unsigned_abs())
    };
    let pairs = sender.0.iter().flat_map(|one| receiver.0.iter().map(move |other| (one, other)));
    let best = match (sender.0, receiver.0) {
        ([sender], [receiver]) => Some((sender, receiver)),
        _ => pairs.min_by_key(|(one, other)| misfit(one, other)),
    };
    let alone = |local: i64| Moment { base: 0, time: local };
    best.map_or([alone(sender.1), alone(receiver.1)], |(one, other)| [moment(one, sender.1), moment(other, receiver.1)])
}

/// One call's word on a clock: when, how far ahead, and within what.
#[derive(Clone, Copy, Debug)]
struct Sample {
    /// The other clock.
    by: u32,
    time: i64,
    ahead: i64,
    within: i64,
}

/// One message's word on a clock: it was no further ahead than this, or else no less far.
#[derive(Clone, Copy, Debug)]
struct Bound {
    time: i64,
    ahead: i64,
    is_upper: bool,
    /// What the readings are floored to.
    quantum: i64,
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

/// Gives the clocks of groups in which one jumps a stretch for each time between two jumps. Where none does, but a few calls
/// are astray, each clock has one, by which these are left out.
pub(super) fn find(alignment: &mut Alignment, readings: &[Reading], anchored: &[bool]) {
    for (clock, stretches) in grown(alignment, readings, anchored, TAKEN_OFF) {
        alignment.bases[clock as usize] = stretches[0].base;
        alignment.stretches[clock as usize] = stretches;
    }
}

/// A step between two stretches of a clock.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Step {
    pub(super) clock: u32,
    /// By the other clocks, about.
    pub(super) time: i64,
    /// Positive where the clock leaps ahead, ns.
    pub(super) size: i64,
    /// How unsure that is, ns.
    pub(super) unsure: f64,
}

/// Stretches between steps of ten milliseconds and more, which stay in the readings; those that [`find`] took off are among
/// them.
pub(super) fn closer(alignment: &Alignment, readings: &[Reading], anchored: &[bool]) -> BTreeMap<u32, Vec<Stretch>> {
    grown(alignment, readings, anchored, CLOSER)
}

/// The steps between a clock's stretches; where it may have slewed from one to the next there is none.
pub(super) fn steps(clock: u32, stretches: &[Stretch]) -> impl Iterator<Item = Step> {
    let all = stretches.windows(2).map(move |pair| {
        let size = pair[1].base.saturating_sub(pair[0].base);
        Step { clock, time: pair[1].from, size, unsure: pair[1].unsure }
    });
    all.filter(|step| step.size != 0)
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
            if look.least < TAKEN_OFF.least || astray == 0 || FEW * astray > calls {
                continue;
            }
        }
        if fixed.is_empty() {
            let mut firsts: Vec<i64> = grown.values().map(|stretches| stretches[0].base).collect();
            firsts.sort_unstable();
            let median = firsts[(firsts.len() - 1) / 2];
            grown.values_mut().flatten().for_each(|stretch| shift(stretch, -median));
        }
        all.extend(grown);
    }
    all
}

/// As if all clocks of the group were so much further ahead: its time goes with them.
fn shift(stretch: &mut Stretch, by: i64) {
    stretch.base = stretch.base.saturating_add(by);
    let (first, last) = &mut stretch.seen;
    for time in [&mut stretch.from, &mut stretch.until, &mut stretch.middle, first, last] {
        if *time != i64::MIN && *time != i64::MAX {
            *time = time.saturating_sub(by);
        }
    }
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
        let often =
            self.look.least < TAKEN_OFF.least && found.len() > 1 + (samples.len() / (2 * CALLS)).min(MOST_STEPS);
        Some(if often { vec![Stretch::steady(samples[samples.len() / 2].ahead)] } else { found })
    }
}

/// With whether the other clock jumps; `None` where it reads a time twice and nothing tells which of the two it was.
fn sample(call: &Reading, clock: u32, known: &BTreeMap<u32, Vec<Stretch>>) -> Option<(bool, Sample)> {
    let is_server = call.link.server.0 == clock;
    let other = if is_server { call.link.client.0 } else { call.link.server.0 };
    let local = if is_server { call.request_sent } else { call.request_received };
    let stretches = known.get(&other)?;
    let (time, offset) = seen(stretches, local)?;
    let apart = call.forward_ns().saturating_sub(call.backward_ns()) / 2;
    let ahead = offset.saturating_add(if is_server { apart } else { -apart });
    Some((stretches.len() > 1, Sample { by: other, time, ahead, within: call.round_trip_delay_ns() / 2 }))
}

/// When a clock read a local time, and how far it was ahead; `None` where it may have read it twice.
fn seen(stretches: &[Stretch], local: i64) -> Option<(i64, i64)> {
    if times(stretches, local).count() > 1 {
        return None;
    }
    let stretch = stretches.iter().min_by_key(|stretch| stretch.outside(stretch.time(local)))?;
    let time = stretch.time(local);
    Some((time, stretch.offset(time)))
}

/// That no message comes before it was sent.
fn bounds(message: &Reading, clock: u32, known: &BTreeMap<u32, Vec<Stretch>>) -> impl Iterator<Item = Bound> {
    let is_server = message.link.server.0 == clock;
    let other = known.get(&if is_server { message.link.client.0 } else { message.link.server.0 });
    let quantum = i64::from(message.client_quantum_ns.max(message.server_quantum_ns));
    let [request, response] = [
        (message.request_sent, message.request_received, is_server),
        (message.response_received, message.response_sent, !is_server),
    ];
    let of_side = match message.side {
        Side::Forward => [Some(request), None],
        Side::Backward => [None, Some(response)],
        Side::Both => [Some(request), Some(response)],
    };
    of_side.into_iter().flatten().filter_map(move |(at_client, at_server, is_upper)| {
        let (own, theirs) = if is_server { (at_server, at_client) } else { (at_client, at_server) };
        // Near a step of the other clock, the looser.
        let looser = |offset: i64| if is_upper { offset } else { offset.saturating_neg() };
        let (time, offset) = times(other?, theirs).max_by_key(|(_, offset)| looser(*offset))?;
        Some(Bound { time, ahead: offset.saturating_add(own.saturating_sub(theirs)), is_upper, quantum })
    })
}

/// When a clock may have read a local time, and how far it was ahead then.
fn times(stretches: &[Stretch], local: i64) -> impl Iterator<Item = (i64, i64)> {
    let near = stretches.iter().filter(move |stretch| stretch.outside(stretch.time(local)) < NEAR_NS);
    near.map(move |stretch| (stretch.time(local), stretch.offset(stretch.time(local))))
}

/// Samples within `most`, but where most calls of a neighbour take longer: those that do not were given up.
fn quick_among(of_neighbour: &[Sample], most: i64) -> impl Iterator<Item = Sample> {
    let is_quick = move |sample: &Sample| sample.within <= most;
    let is_usual = move |index: usize| {
        let around = &of_neighbour[index.saturating_sub(CALLS)..(index + CALLS + 1).min(of_neighbour.len())];
        is_quick(&of_neighbour[index]) && 2 * around.iter().filter(|sample| is_quick(sample)).count() >= around.len()
    };
    (0..of_neighbour.len()).filter(move |&index| is_usual(index)).map(|index| of_neighbour[index])
}

/// Samples without those that most of the other neighbours contradict before and after; of two, the one by which the clock
/// is the steadier is believed. What one neighbour alone says of a clock is the neighbour's own: steps of less than a second
/// are no jumps, but may add up to some, and by such a clock others seemed to jump to and fro (fleet `steps`, seed 513). So is
/// what it says of times that lie further from all that the others say than these lie from each other.
fn agreed(samples: &[Sample], slope: f64, least: f64) -> Vec<Sample> {
    let mut of_neighbour: BTreeMap<u32, Vec<Sample>> = BTreeMap::new();
    samples.iter().for_each(|sample| of_neighbour.entry(sample.by).or_default().push(*sample));
    let rise = |from: &Sample, to: &Sample| {
        to.ahead.saturating_sub(from.ahead) as f64 - slope * to.time.saturating_sub(from.time) as f64
    };
    let range = |samples: &Vec<Sample>| {
        let rises = || samples.iter().map(|sample| rise(&samples[0], sample));
        rises().fold(0.0, f64::max) - rises().fold(0.0, f64::min)
    };
    let reach = |samples: &Vec<Sample>| (samples[0].time, samples[samples.len() - 1].time);
    let is_far = |sample: &&Sample| {
        let others = || of_neighbour.iter().filter(|(by, _)| **by != sample.by).map(|(_, theirs)| reach(theirs));
        let (first, last) = others().fold((i64::MAX, i64::MIN), |all, own| (all.0.min(own.0), all.1.max(own.1)));
        let beyond = last.saturating_sub(first).saturating_add(NEAR_NS);
        others().count() > 1 && first.saturating_sub(sample.time).max(sample.time.saturating_sub(last)) > beyond
    };
    let ranges: BTreeMap<u32, f64> = of_neighbour.iter().map(|(&by, samples)| (by, range(samples))).collect();
    let is_agreed = |sample: &&Sample| {
        let others = of_neighbour.iter().filter(|(by, _)| **by != sample.by);
        let contradicts = |(_, theirs): &(&u32, &Vec<Sample>)| {
            let after = theirs.partition_point(|other| other.time <= sample.time);
            // Before the first of them, and after the last, it may be the clock itself that jumps.
            let beside = theirs.get(after.wrapping_sub(1)..=after);
            beside.is_some_and(|beside| beside.iter().all(|other| rise(sample, other).abs() > least))
        };
        let against: Vec<u32> = others.clone().filter(contradicts).map(|(by, _)| *by).collect();
        match against[..] {
            [] => true,
            [other] if others.count() == 1 => ranges[&sample.by] <= ranges[&other],
            _ => 2 * against.len() < of_neighbour.len(),
        }
    };
    let agreed: Vec<Sample> = samples.iter().filter(|sample| !is_far(sample) && is_agreed(sample)).copied().collect();
    // Where each contradicts each other, none is more believable: only the first and last of each are left.
    if 10 * agreed.len() < samples.len() { samples.to_vec() } else { agreed }
}

/// Whether a clock may as well have slewed from one run of samples to the next, where its level is another by `change`: it
/// did not do that at once, nobody looked for as long as a slew takes, or those that were there before are not there after
/// and it may be they that slewed.
fn may_have_slewed(before: &[Sample], after: &[Sample], change: f64) -> bool {
    let (left, came) = (&before[before.len() - 1], &after[0]);
    let rise = came.ahead.saturating_sub(left.ahead) as f64;
    let beside = &before[before.len().saturating_sub(2 * CALLS)..];
    let both = after.iter().take(2 * CALLS).any(|one| beside.iter().any(|other| one.by == other.by));
    rise / change < AT_ONCE || change.abs() <= FASTEST * came.time.saturating_sub(left.time) as f64 || !both
}

/// A clock's samples, in order of time → its stretches, between which it jumps; `bounds` tell when.
fn stretches(samples: &[Sample], bounds: &[Bound], look: Look) -> Vec<Stretch> {
    let zero = samples[0].ahead;
    let value = |sample: &Sample| sample.ahead.saturating_sub(zero) as f64;
    let after = |from: i64, sample: &Sample| sample.time.saturating_sub(from) as f64;
    let slopes = |samples: &[Sample], lag: usize| -> Vec<f64> {
        let pairs = samples.iter().zip(samples.iter().skip(lag)).filter(|(one, other)| other.time > one.time);
        pairs.map(|(one, other)| (value(other) - value(one)) / after(one.time, other)).collect()
    };
    let slope = upper_median(slopes(samples, CALLS)).clamp(-FASTEST, FASTEST);
    let level = |samples: &[Sample], time: i64| {
        upper_median(samples.iter().map(|sample| value(sample) - slope * after(time, sample)).collect())
    };
    let changes =
        samples.windows(2).map(|pair| value(&pair[1]) - value(&pair[0]) - slope * after(pair[0].time, &pair[1]));
    let usual = upper_median(changes.map(f64::abs).collect());
    let least = look.least.max(OVER_USUAL * usual);
    let samples = &agreed(samples, slope, least)[..];
    let (first, last) = (samples[0].time, samples[samples.len() - 1].time);
    let beyond = last.saturating_sub(first) / BEYOND + NEAR_NS;
    let seen = (first.saturating_sub(beyond), last.saturating_add(beyond));

    let mut runs: Vec<Vec<Sample>> = vec![vec![samples[0]]];
    for (index, sample) in samples.iter().enumerate().skip(1) {
        let run = &runs[runs.len() - 1];
        let off = |sample: &Sample, run: &[Sample]| {
            value(sample) - level(&run[run.len().saturating_sub(CALLS)..], sample.time)
        };
        let here = off(sample, run);
        if here.abs() <= least {
            let last = runs.len() - 1;
            runs[last].push(*sample);
            continue;
        }
        // One call may be off for reasons of its own; a clock that jumped takes the next ones along.
        let next: Vec<f64> = samples[index..].iter().take(CALLS).map(|sample| off(sample, run)).collect();
        let there = upper_median(next.clone());
        let agree = next.iter().filter(|off| (*off - there).abs() < least / 2.0).count();
        if there.abs() > least && (here - there).abs() < least / 2.0 && agree >= 2 && 2 * agree > next.len() {
            runs.push(vec![*sample]);
        }
    }
    runs.retain(|run| run.len() > 1 || samples.len() == 1);
    // With whether the clock jumped when it began.
    let mut joined: Vec<(bool, Vec<Sample>)> = Vec::new();
    for run in runs {
        let begins = run[0].time;
        let Some((_, last)) = joined.last_mut() else {
            joined.push((true, run));
            continue;
        };
        let before = level(&last[last.len().saturating_sub(CALLS)..], begins);
        let change = level(&run[..run.len().min(CALLS)], begins) - before;
        if change.abs() <= least {
            last.extend(run);
        } else {
            let jumped = change.abs() >= look.sure || !may_have_slewed(last, &run, change);
            joined.push((jumped, run));
        }
    }

    let mut found: Vec<Stretch> = Vec::new();
    for (index, (jumped, run)) in joined.iter().enumerate() {
        let middle = run[run.len() / 2].time;
        let own = if run.len() > 4 * CALLS {
            upper_median(slopes(run, run.len() / 2)).clamp(-FASTEST, FASTEST)
        } else {
            slope
        };
        let at_middle = upper_median(run.iter().map(|sample| value(sample) - own * after(middle, sample)).collect());
        let (from, base) = match index.checked_sub(1).map(|last| (&joined[last].1, found[last].base)) {
            None => (i64::MIN, zero.saturating_add(at_middle.round() as i64)),
            Some((last, base)) => {
                let (before, after) = (&last[last.len().saturating_sub(CALLS)..], &run[..run.len().min(CALLS)]);
                let (left, came) = (last[last.len() - 1].time, run[0].time);
                // By how much a level is impossible.
                let over = |side: &[Sample], bound: &Bound| {
                    let over = level(side, bound.time) - bound.ahead.saturating_sub(zero) as f64;
                    (if bound.is_upper { over } else { -over }).max(0.0)
                };
                let from = bounds.partition_point(|bound| bound.time <= left);
                let to = bounds.partition_point(|bound| bound.time < came).max(from);
                let side = |bound: &Bound| {
                    let more = over(before, bound) - over(after, bound);
                    let least = bound.quantum as f64 + least / 2.0;
                    (bound.time, more > least, more < -least)
                };
                let between: Vec<(i64, bool, bool)> = bounds[from..to].iter().map(side).collect();
                let at = turn(left, &between, came);
                let jump = if *jumped { level(after, at) - level(before, at) } else { 0.0 };
                (at, base.saturating_add(jump.round() as i64))
            }
        };
        if let Some(last) = found.last_mut() {
            last.until = from;
        }
        let within = upper_median(run.iter().map(|sample| sample.within as f64).collect());
        found.push(Stretch {
            from,
            until: i64::MAX,
            seen,
            base,
            middle,
            level: at_middle - base.saturating_sub(zero) as f64,
            slope: own,
            unsure: 2.0 * (within + usual) + 1e6,
        });
    }
    match &mut found[..] {
        [] => vec![Stretch::steady(zero)],
        [only] => {
            only.seen = (i64::MIN, i64::MAX);
            found
        }
        _ => found,
    }
}

/// When a clock jumped that had not at `left` and had when it `came`: in between are messages, each with whether it speaks
/// more against the level before or against the one after.
fn turn(left: i64, between: &[(i64, bool, bool)], came: i64) -> i64 {
    // How many speak against it if it is before the k-th.
    let mut against = vec![between.iter().filter(|message| message.2).count()];
    for message in between {
        let last = against[against.len() - 1];
        against.push(last + usize::from(message.1) - usize::from(message.2));
    }
    let least = against.iter().min();
    let first = against.iter().position(|count| Some(count) == least).unwrap_or(0);
    let last = against.iter().rposition(|count| Some(count) == least).unwrap_or(0);
    let from = first.checked_sub(1).map_or(left, |index| between[index].0);
    let to = between.get(last).map_or(came, |message| message.0);
    from + (to - from) / 2
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::{ClockId, Link};

    const SECOND: i64 = 1_000_000_000;

    /// A clock's stretches by a call every half second, ± 3 ms: when each begins and by how much the clock jumped then.
    fn check(ahead: impl Fn(f64) -> f64, expected: &[(f64, f64)]) {
        let sample = |k: i64| {
            let time = k * SECOND / 2;
            let wrong = [0.003, -0.002, 0.001][k as usize % 3];
            // Every eleventh call is off by minutes for reasons of its own.
            let wrong = if k % 11 == 5 { 100.0 } else { wrong };
            Sample { by: 0, time, ahead: ((ahead(time as f64 / 1e9) + wrong) * 1e9) as i64, within: 5_000_000 }
        };
        let samples: Vec<Sample> = (0..1_200).map(sample).collect();
        let found = stretches(&samples, &[], TAKEN_OFF);
        let jumps: Vec<(f64, f64)> = found
            .windows(2)
            .map(|pair| (pair[1].from as f64 / 1e9, (pair[1].base - pair[0].base) as f64 / 1e9))
            .collect();
        let alike = jumps.len() == expected.len()
            && jumps
                .iter()
                .zip(expected)
                .all(|(one, other)| (one.0 - other.0).abs() < 1.1 && (one.1 - other.1).abs() < 0.02);
        assert!(alike, "{jumps:?}, and not {expected:?}");
    }

    #[test]
    fn a_clock_that_only_drifts_has_one_stretch() {
        check(|_| 0.0, &[]);
        check(|time| -1e-4 * time, &[]);
        check(|time| 0.08 * time + 1e6, &[]);
    }

    #[test]
    fn among_calls_that_take_long_a_quick_one_was_given_up() {
        let sample = |k: i64| {
            let is_slow = (40..80).contains(&k) && k % 10 != 3;
            Sample { by: 0, time: k * SECOND, ahead: 0, within: if is_slow { 9_000 } else { 1_000 } }
        };
        let samples: Vec<Sample> = (0..120).map(sample).collect();
        let left: Vec<i64> = quick_among(&samples, 4_000).map(|sample| sample.time / SECOND).collect();
        assert_eq!(left, (0..40).chain(80..120).collect::<Vec<_>>());
    }

    #[test]
    fn hours_ahead_for_a_while_are_two_jumps() {
        let there_and_back = |time: f64| if (300.0..330.0).contains(&time) { 28_560.002 } else { 0.002 };
        check(there_and_back, &[(300.0, 28_560.0), (330.0, -28_560.0)]);
    }

    #[test]
    fn what_may_be_a_slew_is_no_jump_but_how_far_ahead_the_clock_is_after_it_is_known() {
        // 300 ms from a minute on, `slewed` over so long or while nobody looked; `by` says whose call it is.
        let found = |ahead: f64, slewed: f64, unseen: f64, by: &dyn Fn(f64) -> u32| {
            let at = |time: f64| ahead * ((time - 60.0) / slewed).clamp(0.0, 1.0);
            let seconds = (0..240).map(|k| f64::from(k) / 2.0 + 0.1);
            let sample = |time: f64| {
                let [time_ns, ahead] = [time, at(time)].map(|seconds| (seconds * 1e9) as i64);
                Sample { by: by(time), time: time_ns, ahead, within: 1_000_000 }
            };
            let samples: Vec<Sample> =
                seconds.filter(|&time| time < 60.0 || time >= 60.0 + unseen).map(sample).collect();
            stretches(&samples, &[], TAKEN_OFF)
        };
        let jump = |found: &[Stretch]| steps(0, found).map(|step| step.size).sum::<i64>();
        let after = |found: &[Stretch]| over(found, 110 * SECOND, 0).map(|ahead| (ahead / 1e6).round());
        let one = |_: f64| 1;
        let at_once = found(0.3, 1e-3, 0.0, &one);
        assert_eq!((jump(&at_once), after(&at_once)), (300_000_000, Some(300.0)));
        for slewed in [
            found(0.3, 3.6, 0.0, &one),
            // In a gap of five seconds it may have been one, though it was not, and in one of two it may not.
            found(0.3, 1e-3, 5.0, &one),
            // Who is there after it alone may have made it.
            found(0.3, 1e-3, 0.0, &|time| if time < 60.0 { 1 } else { 2 }),
        ] {
            assert_eq!((jump(&slewed), after(&slewed)), (0, Some(300.0)), "{slewed:?}");
        }
        assert_eq!(jump(&found(0.3, 1e-3, 2.0, &one)), 300_000_000);
        // A large one is a jump however long nobody looked.
        assert_eq!(jump(&found(1.5, 1e-3, 20.0, &one)), 1_500_000_000);
    }

    #[test]
    fn what_a_clock_reads_twice_are_times_that_it_was_seen_at() {
        let set_back_by = |seconds: i64| {
            let ahead = |k: i64| if k < 600 { 0 } else { -seconds * SECOND };
            let sample = |k: i64| Sample { by: 0, time: k * SECOND / 2, ahead: ahead(k), within: 3_000_000 };
            stretches(&(0..1_200).map(sample).collect::<Vec<_>>(), &[], TAKEN_OFF)
        };
        // Not an hour before the first of ten minutes, but once more as it was set back.
        let time = |found: &[Stretch], local: i64| seen(found, local * SECOND).map(|(time, _)| time / SECOND);
        let by_an_hour = set_back_by(3_600);
        assert_eq!((time(&by_an_hour, 400 - 3_600), time(&by_an_hour, 100)), (Some(400), Some(100)));
        let [back, _] = moments((&[Stretch::steady(0)], 400 * SECOND), (&by_an_hour, (400 - 3_600) * SECOND));
        assert_eq!(back.time, 400 * SECOND);
        // Nor if all clocks are a day further ahead.
        let day = 86_400;
        let mut ahead = by_an_hour.clone();
        ahead.iter_mut().for_each(|stretch| shift(stretch, day * SECOND));
        assert_eq!((time(&ahead, 400 - 3_600), time(&ahead, 100)), (Some(400 - day), Some(100 - day)));
        let by_minutes = set_back_by(200);
        assert_eq!((time(&by_minutes, 150), time(&by_minutes, 50)), (None, Some(50)));
    }

    #[test]
    fn every_tooth_of_a_saw_is_a_jump() {
        check(
            |time| 0.074443 * (time % 60.0),
            &[60.0, 120.0, 180.0, 240.0, 300.0, 360.0, 420.0, 480.0, 540.0].map(|at| (at, -4.46658)),
        );
    }

    #[test]
    fn what_one_neighbour_alone_says_is_no_jump() {
        // Bursts of six calls by turns; by the last neighbour the clock is two seconds ahead for the first minute.
        let said = |neighbours: usize, jump: f64| -> Vec<Stretch> {
            let sample = |k: usize| {
                let (by, time) = (k / 6 % neighbours, k as i64 * SECOND / 2);
                let own = if by == neighbours - 1 && k < 120 { 2.0 } else { 0.0 };
                let jumped = if k < 600 { 0.0 } else { jump };
                Sample { by: by as u32, time, ahead: ((own + jumped) * 1e9) as i64, within: 5_000_000 }
            };
            stretches(&(0..1_200).map(sample).collect::<Vec<_>>(), &[], TAKEN_OFF)
        };
        for neighbours in [2, 3, 5] {
            assert_eq!(said(neighbours, 0.0).len(), 1, "{neighbours}");
        }
        // Of two neighbours neither is the steadier where the clock itself jumps.
        for neighbours in [3, 5] {
            let found = said(neighbours, 60.0);
            assert!(found.len() == 2 && found[1].base - found[0].base == 60 * SECOND, "{neighbours}: {found:?}");
        }
    }

    #[test]
    fn who_did_not_call_before_a_step_does_not_speak_against_it() {
        let sample = |k: usize| {
            let by = u32::from(k > 62 && k.is_multiple_of(2));
            let ahead = if k < 60 { 0 } else { 50_000_000 };
            Sample { by, time: k as i64 * SECOND / 2, ahead, within: 1_000_000 }
        };
        let found = stretches(&(0..120).map(sample).collect::<Vec<_>>(), &[], CLOSER);
        assert!(found.len() == 2 && found[1].base - found[0].base == 50_000_000, "{found:?}");
    }

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
    fn messages_tell_when_a_clock_stepped() {
        // Against the level after, neither, against the one before: the step is amid those that do not matter.
        let told = |sides: &[(bool, bool)]| {
            let between: Vec<(i64, bool, bool)> = (1..).zip(sides).map(|(k, side)| (10 * k, side.0, side.1)).collect();
            turn(0, &between, 100)
        };
        assert_eq!(told(&[]), 50);
        assert_eq!(told(&[(false, true), (false, true), (false, false), (true, false)]), 30);
        assert_eq!(told(&[(true, false)]), 5);
        assert_eq!(told(&[(false, true)]), 55);
        // One that is late for reasons of its own is outvoted.
        assert_eq!(told(&[(false, true), (true, false), (false, true), (false, true), (true, false)]), 45);
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
    fn what_one_neighbour_says_of_hours_later_is_its_own_leap() {
        // Ten minutes; one of three neighbours leaps ahead by an hour in the last one, which nothing tells yet.
        let leaps = |k: i64| k % 3 == 0 && k > 540;
        let sample = |k: i64| {
            let hour = if leaps(k) { 3_600 * SECOND } else { 0 };
            Sample { by: (k % 3) as u32, time: k * SECOND + hour, ahead: -hour, within: 5_000_000 }
        };
        let samples: Vec<Sample> = (0..600).map(sample).collect();
        assert_eq!(agreed(&samples, 0.0, LARGE_NS).len(), (0..600).filter(|k| !leaps(*k)).count());
        // By two it might be either.
        let two: Vec<Sample> = samples.iter().filter(|sample| sample.by < 2).copied().collect();
        assert_eq!(agreed(&two, 0.0, LARGE_NS).len(), two.len());
    }

    #[test]
    fn where_all_neighbours_contradict_each_other_all_count() {
        // As by a host name that three machines share.
        let sample = |k: usize| {
            let (by, time) = (k % 3, k as i64 * SECOND);
            Sample { by: by as u32, time, ahead: by as i64 * 3_600 * SECOND, within: 5_000_000 }
        };
        let samples: Vec<Sample> = (0..60).map(sample).collect();
        assert_eq!(agreed(&samples, 0.0, LARGE_NS).len(), samples.len());
        assert!(!stretches(&samples, &[], TAKEN_OFF).is_empty());
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

    #[test]
    fn a_message_belongs_where_both_its_ends_agree() {
        let hours = 28_560 * SECOND;
        let stretch = |from, until, base| Stretch { from, until, base, ..Stretch::steady(0) };
        let jumping = [
            stretch(i64::MIN, 300 * SECOND, 0),
            stretch(300 * SECOND, 330 * SECOND, hours),
            stretch(330 * SECOND, i64::MAX, 0),
        ];
        let steady = [Stretch::steady(7)];
        for (sent, received, base) in [
            (10 * SECOND, 10 * SECOND, 0),
            (310 * SECOND, 310 * SECOND + hours, hours),
            // It began before the jump, and counts on from there.
            (301 * SECOND, 301 * SECOND, 0),
        ] {
            let [one, other] = moments((&steady, sent), (&jumping, received));
            assert_eq!([one.base, one.time, other.base, other.time], [7, sent - 7, base, received - base]);
            assert_eq!(moments((&jumping, received), (&steady, sent)), [other, one]);
        }
    }
}
