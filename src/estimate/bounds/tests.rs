use proptest::prelude::*;

use super::*;
use crate::clock::{
    CallClass, ClockState, Exchange, Knot, Onward, ReferenceTime, Segment, Step, StepKind, Treatment, Use,
};

const US: i64 = 1_000;
const MS: i64 = 1_000_000;
const S: i64 = 1_000_000_000;

/// A message at a true time, with its true delays; the times that the two hosts read follow from their true offsets.
#[derive(Clone, Copy, Debug)]
struct Call {
    between: (u32, u32),
    at: i64,
    out: i64,
    back: i64,
    counts: Use,
    quanta: (i64, i64),
}

/// A call of 1 ms at a true time.
fn call(between: (u32, u32), at: i64, (out, back): (i64, i64)) -> Call {
    Call { between, at, out, back, counts: Use::TwoSided, quanta: (1, 1) }
}

fn message(between: (u32, u32), at: i64, out: i64) -> Call {
    Call { counts: Use::ForwardOnly, ..call(between, at, (out, 0)) }
}

fn evidence(clocks: usize, calls: &[Call], offset: impl Fn(u32, i64) -> i64) -> Evidence {
    let exchange = |(call, id): (&Call, u64)| {
        let Call { between: (client, server), at, out, back, counts, quanta } = *call;
        let times = [at, at + out, at + out + MS, at + out + MS + back];
        let read = |clock, time: i64| time + offset(clock, time);
        let [sent, returned] = [times[0], times[3]].map(|time| read(client, time));
        let [received, responded] = [times[1], times[2]].map(|time| read(server, time));
        // What the start is floored by, the end is early by.
        let (early, late) = (sent.rem_euclid(quanta.0), received.rem_euclid(quanta.1));
        Exchange {
            id,
            link: Link { client: ClockId(client), server: ClockId(server), class: 0 },
            request_sent: LocalTime::from_nanos(sent - early),
            request_received: LocalTime::from_nanos(received - late),
            response_sent: LocalTime::from_nanos(responded - late),
            response_received: LocalTime::from_nanos(returned - early),
            client_quantum_ns: quanta.0 as u32,
            server_quantum_ns: quanta.1 as u32,
            counts,
        }
    };
    let exchanges: Vec<Exchange> = calls.iter().zip(1..).map(exchange).collect();
    Evidence::of((0..clocks).map(|clock| clock.to_string()).collect(), vec![CallClass::default()], &exchanges)
}

/// Knots by reference time and offset; none for a clock without a round trip.
fn model(group: u32, knots: &[(i64, i64)]) -> ClockModel {
    let knot = |&(time, offset_ns): &(i64, i64)| Knot {
        local: LocalTime::from_nanos(time + offset_ns),
        offset_ns,
        uncertainty_ns: 0,
        lower_ns: None,
        upper_ns: None,
        exchanges: 0,
    };
    let segment = Segment {
        from: ReferenceTime::from_nanos(i64::MIN),
        until: ReferenceTime::MAX,
        knots: knots.iter().map(knot).collect(),
        treatment: Treatment::Moved,
        onward: Onward::default(),
    };
    ClockModel {
        state: if knots.is_empty() { ClockState::NoEvidence } else { ClockState::Corrected },
        group,
        segments: if knots.is_empty() { Vec::new() } else { vec![segment] },
        steps: Vec::new(),
        bounds: Vec::new(),
        exchanges: 0,
        neighbours: 0,
    }
}

fn reference() -> ClockModel {
    ClockModel { state: ClockState::Reference, ..model(0, &[(0, 0)]) }
}

/// The first clock is the reference.
fn against_first(models: Vec<ClockModel>) -> ClockMap {
    ClockMap { models, reference: Some(ClockId(0)) }
}

/// In microseconds, to the nearest ten: the leeway of a few ms makes no more of a difference.
fn in_us((lower, upper): Between) -> (Option<i64>, Option<i64>) {
    let round = |ns: i64| (ns + 5 * US).div_euclid(10 * US) * 10;
    (lower.map(round), upper.map(round))
}

fn knot(map: &ClockMap, clock: usize, place: usize) -> (Option<i64>, Option<i64>) {
    let knot = map.models[clock].segments.iter().flat_map(|segment| &segment.knots).nth(place).unwrap();
    in_us((knot.lower_ns, knot.upper_ns))
}

/// One clock 500 µs ahead of the reference, fitted as 550; calls 1 s after even seconds, where nodes have their middle.
fn check(calls: &[Call], expected: (Option<i64>, Option<i64>)) {
    let evidence = evidence(2, calls, |clock, _| i64::from(clock) * 500 * US);
    let mut map = against_first(vec![reference(), model(0, &[(S, 550 * US)])]);
    let contradictions = bound(&evidence, &FxHashSet::default(), &mut map);
    assert_eq!(contradictions, []);
    assert_eq!(knot(&map, 1, 0), expected);
    assert_eq!(knot(&map, 0, 0), (Some(0), Some(0)));
}

#[test]
fn a_call_bounds_by_its_two_delays() {
    check(&[call((0, 1), S, (300 * US, 200 * US))], (Some(300), Some(800)));
    check(&[call((1, 0), S, (300 * US, 200 * US))], (Some(200), Some(700)));
}

#[test]
fn the_tightest_of_each_way_counts() {
    let calls = [
        call((0, 1), S, (300 * US, 800 * US)),
        call((0, 1), S, (900 * US, 700 * US)),
        message((0, 1), S, 250 * US),
        message((1, 0), S, 100 * US),
    ];
    check(&calls, (Some(400), Some(750)));
}

#[test]
fn a_floored_time_may_be_a_quantum_later() {
    let floored = |quanta| Call { quanta, ..call((0, 1), S, (300 * US, 200 * US)) };
    // The server's 500 µs of offset and 300 µs of delay are floored off: received at 1 s, sent back 1 ms later.
    check(&[floored((1, MS))], (Some(-500), Some(1_000)));
    // The client starts on a whole ms, as floored; its end may be a ms later.
    check(&[floored((MS, 1))], (Some(-700), Some(800)));
}

#[test]
fn a_response_that_nobody_waited_for_bounds_nothing() {
    let calls = [call((0, 1), S, (300 * US, 200 * US))];
    let evidence = evidence(2, &calls, |clock, _| i64::from(clock) * 500 * US);
    let mut map = against_first(vec![reference(), model(0, &[(S, 550 * US)])]);
    bound(&evidence, &FxHashSet::from_iter([1]), &mut map);
    assert_eq!(knot(&map, 1, 0), (None, Some(800)));
}

#[test]
fn a_response_far_quicker_than_its_links_others_bounds_nothing() {
    let usual = call((0, 1), S, (300 * US, 400 * US));
    // The server's span ended 350 µs after the response went out.
    let late = call((0, 1), S, (300 * US, 50 * US));
    check(&[usual, usual, usual, late], (Some(100), Some(800)));
    let quick = call((0, 1), S, (300 * US, 250 * US));
    check(&[usual, usual, usual, quick], (Some(250), Some(800)));
}

#[test]
fn bounds_add_up_along_a_chain() {
    let calls = [call((0, 1), S, (300 * US, 200 * US)), call((1, 2), S, (40 * US, 10 * US))];
    let evidence = evidence(3, &calls, |clock, _| i64::from(clock) * 500 * US);
    let mut map = against_first(vec![reference(), model(0, &[(S, 550 * US)]), model(0, &[(S, 1_045 * US)])]);
    bound(&evidence, &FxHashSet::default(), &mut map);
    assert_eq!(knot(&map, 2, 0), (Some(790), Some(1_340)));
}

#[test]
fn between_its_calls_a_clock_may_drift_as_fast_as_its_model_is_unsure() {
    let calls = [1, 101].map(|second| call((0, 1), second * S, (300 * US, 200 * US)));
    let evidence = evidence(2, &calls, |_, _| 0);
    let mut map = against_first(vec![reference(), model(0, &[(S, 0), (21 * S, 0), (101 * S, 0), (111 * S, 0)])]);
    bound(&evidence, &FxHashSet::default(), &mut map);
    // 50 ppm, and half a ms over the 100 s between the two calls.
    assert_eq!(knot(&map, 1, 0), (Some(-200), Some(300)));
    assert_eq!(knot(&map, 1, 1), (Some(-200 - 20 * 55), Some(300 + 20 * 55)));
    assert_eq!(knot(&map, 1, 3), (Some(-200 - 10 * 55), Some(300 + 10 * 55)));
}

fn queue(calls: &[Call]) -> Vec<Between> {
    // A year ahead, and nothing tells.
    let ahead = 365 * 86_400 * S;
    let evidence = evidence(3, calls, |clock, _| if clock == 2 { ahead } else { 0 });
    let mut map = against_first(vec![reference(), model(0, &[(S, 0)]), model(2, &[])]);
    assert_eq!(bound(&evidence, &FxHashSet::default(), &mut map), []);
    let of = |bound: &Bound| in_us((bound.lower_ns.map(|it| it - ahead), bound.upper_ns.map(|it| it - ahead)));
    map.models[2].bounds.iter().map(of).collect()
}

#[test]
fn a_clock_behind_a_queue_is_bounded_from_one_side() {
    let tied = call((0, 1), S, (300 * US, 200 * US));
    let bounds = queue(&[tied, message((1, 2), 5 * S, 40_000 * US), message((1, 2), 9 * S, 70_000 * US)]);
    let [(None, Some(first)), (None, Some(second))] = bounds[..] else { panic!("{bounds:?}") };
    // By the way of the producer, which drifts for 4 s from its own call; then by as much as any clock may drift.
    assert!((40_200..42_600).contains(&first), "{first}");
    assert_eq!(second, first + 4 * 500);
}

#[test]
fn a_clock_between_two_queues_is_bounded_from_both() {
    let tied = call((0, 1), S, (300 * US, 200 * US));
    let bounds = queue(&[tied, message((1, 2), S, 40_000 * US), message((2, 0), S, 5_000 * US)]);
    let [(Some(lower), Some(upper))] = bounds[..] else { panic!("{bounds:?}") };
    assert!((-5_600..=-5_000).contains(&lower) && (40_200..40_900).contains(&upper), "{lower} {upper}");
}

#[test]
fn a_clock_that_nothing_ties_has_no_bounds() {
    assert_eq!(queue(&[call((0, 1), S, (300 * US, 200 * US))]), []);
}

#[test]
fn requests_that_contradict_are_named_and_the_rest_is_bounded() {
    // Clock 1 is two machines: one 500 µs ahead, the other a second.
    let calls = [
        message((0, 1), S, 300 * US),
        message((1, 0), S, 200 * US),
        call((0, 2), S, (300 * US, 200 * US)),
        Call { at: S + 1, ..message((1, 0), S, 200 * US) },
    ];
    let offset = |clock, time| match clock {
        1 if time == S + 1 => S,
        1 => 500 * US,
        _ => 0,
    };
    let evidence = evidence(3, &calls, offset);
    let mut map = against_first(vec![reference(), model(0, &[(S, 550 * US)]), model(0, &[(S, 0)])]);
    let contradictions = bound(&evidence, &FxHashSet::default(), &mut map);
    let [told] = &contradictions[..] else { panic!("{contradictions:?}") };
    assert_eq!((told.dropped, told.others.as_slice()), (4, &[1][..]));
    // A second, less the delays and what the clock may have drifted by meanwhile.
    assert_eq!(told.missing_ns / MS, 997);
    assert_eq!(knot(&map, 1, 0), (Some(300), Some(800)));
    assert_eq!(knot(&map, 2, 0), (Some(-200), Some(300)));
}

#[test]
fn an_estimate_that_a_request_refutes_is_held_by_its_bounds() {
    let evidence = evidence(2, &[message((0, 1), S, 300 * US)], |_, _| 0);
    let mut map = against_first(vec![reference(), model(0, &[(S, 900 * US)])]);
    assert_eq!(bound(&evidence, &FxHashSet::default(), &mut map), []);
    assert_eq!(knot(&map, 1, 0), (None, Some(900)));
}

#[test]
fn a_group_without_a_reference_stands_on_its_best_connected_clock() {
    let calls = [call((0, 1), S, (300 * US, 200 * US)), call((2, 1), S, (40 * US, 10 * US))];
    let evidence = evidence(3, &calls, |clock, _| i64::from(clock) * 500 * US);
    let mut models = vec![model(0, &[(S, -420 * US)]), model(0, &[(S, 20 * US)]), model(0, &[(S, 500 * US)])];
    models[1].neighbours = 2;
    let mut map = ClockMap { models, reference: None };
    bound(&evidence, &FxHashSet::default(), &mut map);
    assert_eq!(knot(&map, 1, 0), (Some(20), Some(20)));
    // 500 behind it, by as much as the delays let.
    assert_eq!(knot(&map, 0, 0), (Some(20 - 500 - 300), Some(20 - 500 + 200)));
}

#[test]
fn groups_that_only_messages_connect_are_bounded_each_on_its_own() {
    let calls =
        [call((0, 1), S, (MS, MS)), call((2, 3), S, (2 * MS, 2 * MS)), message((1, 2), S, MS), message((3, 0), S, MS)];
    let evidence = evidence(4, &calls, |_, _| 0);
    let models = vec![reference(), model(0, &[(S, 0)]), model(2, &[(S, 7 * MS)]), model(2, &[(S, 7 * MS)])];
    let mut map = against_first(models);
    assert_eq!(bound(&evidence, &FxHashSet::default(), &mut map), []);
    assert_eq!(knot(&map, 2, 0), (Some(7_000), Some(7_000)));
    let (lower, upper) = (knot(&map, 3, 0).0.unwrap(), knot(&map, 3, 0).1.unwrap());
    assert!((4_900..=5_000).contains(&lower) && (9_000..9_100).contains(&upper), "{lower} {upper}");
}

/// A clock that jumps by `size` at 100 s, fitted a second late; calls every 10 s.
fn stepping(size: i64) -> (ClockMap, impl Fn(i64) -> i64) {
    let offset = move |time: i64| if time < 100 * S { 0 } else { size };
    let calls: Vec<Call> = (0..20).map(|at| call((0, 1), (10 * at + 5) * S, (300 * US, 200 * US))).collect();
    let evidence = evidence(2, &calls, |clock, time| if clock == 1 { offset(time) } else { 0 });
    let at = 101 * S;
    let part = |times: [i64; 3], offset| model(0, &times.map(|time| (time, offset))).segments.remove(0);
    let before = Segment { until: ReferenceTime::from_nanos(at), ..part([5 * S, 90 * S, at], 0) };
    let after = Segment { from: ReferenceTime::from_nanos(at), ..part([at, 110 * S, 195 * S], size) };
    let (at, kind) = (ReferenceTime::from_nanos(at), StepKind::Step);
    let step = Step { kind, at, duration_ns: 0, size_ns: size, uncertainty_ns: 0, spans_straddling: 0 };
    let stepping = ClockModel { segments: vec![before, after], steps: vec![step], ..model(0, &[]) };
    let mut map = against_first(vec![reference(), stepping]);
    assert_eq!(bound(&evidence, &FxHashSet::default(), &mut map), []);
    (map, offset)
}

#[test]
fn across_a_step_no_bound_is_carried() {
    for size in [-3_600 * S, -30 * MS, 30 * MS, 5 * S] {
        let (map, offset) = stepping(size);
        let knots: Vec<Knot> = map.models[1].segments.iter().flat_map(|segment| segment.knots.clone()).collect();
        for knot in &knots {
            let truth = offset(knot.local.nanos() - knot.offset_ns);
            let (lower, upper) = (knot.lower_ns.unwrap(), knot.upper_ns.unwrap());
            assert!(lower <= truth && truth <= upper, "{size}: {truth} not between {lower} and {upper}");
        }
        let wide = |place: usize| knots[place].upper_ns.unwrap() - knots[place].lower_ns.unwrap();
        // Amid calls as without a step; between the last call before it and the first behind, wider by all of it.
        assert!(wide(1) < 2 * MS && wide(4) < 2 * MS, "{size}: {} {}", wide(1), wide(4));
        for place in [2, 3] {
            assert!((size.abs()..size.abs() + 3 * MS).contains(&wide(place)), "{size}: {}", wide(place));
        }
    }
}

/// Readings within a second of a step do not count, so the first that does lies in a cell that began before the step.
#[test]
fn a_step_timed_a_little_early_is_between_the_bounds_all_the_same() {
    let (at, truly, size) = (100_500 * MS, 100_504 * MS, 30 * MS);
    let calls: Vec<Call> = (0..400).map(|call_at| call((0, 1), call_at * S / 2, (300 * US, 200 * US))).collect();
    let offset = |clock, time: i64| if clock == 1 && time >= truly { size } else { 0 };
    let evidence = evidence(2, &calls, offset);
    let part = |times: [i64; 2], offset| model(0, &times.map(|time| (time, offset))).segments.remove(0);
    let before = Segment { until: ReferenceTime::from_nanos(at), ..part([5 * S, at], 0) };
    let after = Segment { from: ReferenceTime::from_nanos(at), ..part([at, 195 * S], size) };
    let mut map = against_first(vec![reference(), ClockModel { segments: vec![before, after], ..model(0, &[]) }]);
    bound(&evidence, &FxHashSet::default(), &mut map);
    for knot in map.models[1].segments.iter().flat_map(|segment| &segment.knots) {
        let truth = offset(1, knot.local.nanos() - knot.offset_ns);
        assert!(knot.lower_ns.unwrap() <= truth && truth <= knot.upper_ns.unwrap(), "{truth}: {knot:?}");
    }
}

#[test]
fn the_order_of_the_input_decides_nothing() {
    let mut calls: Vec<Call> = (0..40)
        .map(|at| call(((at % 3) as u32, ((at + 1) % 3) as u32), at * S, (at % 7 * 90 * US, at % 5 * US)))
        .collect();
    let solve = |calls: &[Call]| {
        // What an exchange is called depends on its place here: contradictions are left out of the comparison.
        let evidence = evidence(3, calls, |clock, _| i64::from(clock) * MS);
        let mut map = against_first(vec![reference(), model(0, &[(S, MS)]), model(0, &[(S, 2 * MS)])]);
        bound(&evidence, &FxHashSet::default(), &mut map);
        map
    };
    let first = solve(&calls);
    calls.reverse();
    assert_eq!(solve(&calls), first);
}

/// A clock's offset in ns and rate in ppm, and how far the model is off in both.
type Drifting = (i64, i64, i64, i64);

/// A fleet, of which the last clock is behind a queue.
fn some_fleet() -> impl Strategy<Value = (Vec<Drifting>, Vec<Call>)> {
    let clock = (-5_000 * US..5_000 * US, -80..80i64, -900 * US..900 * US, -40..40i64);
    let clocks = proptest::collection::vec(clock, 3..6);
    clocks.prop_flat_map(|clocks| {
        let last = clocks.len() as u32 - 1;
        let coarse = proptest::sample::select(vec![1, 1, 1_000, MS]);
        let one = (0..last, 0..=last, 0..90 * S, 0..3 * MS, 0..3 * MS, (coarse.clone(), coarse), 0..4u8);
        let one = one.prop_map(move |(client, server, at, out, back, quanta, kind)| {
            let counts = if kind == 0 || server == last { Use::ForwardOnly } else { Use::TwoSided };
            // Some messages come back from behind the queue.
            let between = if kind == 1 && server == last { (server, client) } else { (client, server) };
            Call { between, at, out, back, counts, quanta }
        });
        let calls = proptest::collection::vec(one, 1..60);
        (Just(clocks), calls.prop_map(|calls| calls.into_iter().filter(|it| it.between.0 != it.between.1).collect()))
    })
}

proptest! {
    #[test]
    fn the_truth_is_between_the_bounds((clocks, calls) in some_fleet()) {
        let truth = |clock: u32, time: i64| match clock {
            0 => 0,
            _ => clocks[clock as usize].0 + clocks[clock as usize].1 * time / 1_000_000,
        };
        let last = clocks.len() as u32 - 1;
        let evidence = evidence(clocks.len(), &calls, truth);
        let fitted = |clock: u32| {
            let (.., off, off_ppm) = clocks[clock as usize];
            let knot = |second: i64| (second * S, truth(clock, second * S) + off + off_ppm * second * 1_000);
            model(0, &[0, 30, 60, 100].map(knot))
        };
        let mut models = vec![reference()];
        models.extend((1..last).map(fitted));
        models.push(model(last, &[]));
        let mut map = against_first(models);
        prop_assert_eq!(bound(&evidence, &FxHashSet::default(), &mut map), []);
        for (clock, model) in (0..).zip(&map.models) {
            for knot in model.segments.iter().flat_map(|segment| &segment.knots) {
                let truth = truth(clock, knot.local.nanos() - truth(clock, knot.local.nanos()));
                prop_assert!(knot.lower_ns.is_none_or(|lower| lower <= truth + 10), "{} > {truth}", knot.lower_ns.unwrap());
                prop_assert!(knot.upper_ns.is_none_or(|upper| truth - 10 <= upper), "{} < {truth}", knot.upper_ns.unwrap());
                prop_assert!(knot.lower_ns.is_none_or(|lower| lower <= knot.offset_ns));
                prop_assert!(knot.upper_ns.is_none_or(|upper| knot.offset_ns <= upper));
            }
            for bound in &model.bounds {
                let truth = truth(clock, bound.local.nanos() - truth(clock, bound.local.nanos()));
                prop_assert!(bound.lower_ns.is_none_or(|lower| lower <= truth + 10));
                prop_assert!(bound.upper_ns.is_none_or(|upper| truth - 10 <= upper));
            }
        }
    }
}

#[test]
fn an_interval_is_no_wider_than_its_bounds() {
    let knot = |uncertainty_ns, lower_ns, upper_ns| Knot {
        local: LocalTime::from_nanos(uncertainty_ns),
        offset_ns: 5,
        uncertainty_ns,
        lower_ns,
        upper_ns,
        exchanges: 1,
    };
    let mut map = ClockMap { models: vec![model(0, &[(0, 0)]), model(0, &[]), model(1, &[])], reference: None };
    let segment = Segment {
        from: ReferenceTime::from_nanos(i64::MIN),
        until: ReferenceTime::MAX,
        knots: vec![knot(10, Some(-1), Some(12)), knot(100, Some(-20), Some(12)), knot(1_000, Some(-1), None)],
        treatment: Treatment::Moved,
        onward: Onward::default(),
    };
    map.models[1].segments = vec![segment.clone()];
    map.models[2].segments = vec![segment];
    let uncertainties = |map: &ClockMap, clock: usize| -> Vec<i64> {
        map.models[clock].segments[0].knots.iter().map(|knot| knot.uncertainty_ns).collect()
    };
    narrow(&mut map);
    assert_eq!(uncertainties(&map, 1), [10, 100, 1_000], "nothing without a reference");
    map.models[0].state = ClockState::Reference;
    narrow(&mut map);
    assert_eq!(uncertainties(&map, 1), [7, 25, 1_000]);
    assert_eq!(uncertainties(&map, 2), [10, 100, 1_000], "nothing ties it to the reference");
}
