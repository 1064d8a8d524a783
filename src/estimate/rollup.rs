//! Evidence of a fleet too large for every reading to be looked at in every pass → what may still decide.
//!
//! Where knots stand far apart, a link's clocks are a line apart between two of them, unless one steps. Whatever that
//! line is, the least of what it leaves of a window's readings is a corner of their convex hull; and as it runs between
//! requests and responses, only corners that such a line can touch count. A window that no line runs through, as a
//! clock stepped there or a call ended early, is kept whole.
//!
//! Links do not mix, so parts of the evidence without a link in common may be rolled up each for itself.

use std::ops::Range;

use rayon::iter::{IntoParallelIterator, ParallelIterator};

use super::evidence::{Evidence, Reading, RolledUp, Side, Usual};
use super::fit::{SPACING_S, UNKNOWNS};
use super::scale::{EARLY, LOW_DELAY, quantile, spread};

/// Of floored readings, which count together, so many of each window are kept, those of smallest δ.
const FLOORED: usize = 8;

/// Of fewer calls of a window, the least says too little of how far the others are above the link's floor.
const LEAST_CALLS: usize = 6;

/// Shorter windows, in seconds, hold too few calls of a link for any to be left out.
const LEAST_WINDOW_S: f64 = 4.0 * SPACING_S;

/// A clock's readings over a longer time than so many median clocks' are broken, or of another day.
const LONGEST: f64 = 10.0;

/// So many readings can be looked at in every pass: it takes some 20 s.
const LOOKED_AT: usize = 2_000_000;

/// How long the windows of a fleet should be, ns; `None` where all readings can be looked at.
pub(super) fn window_ns(evidence: &Evidence) -> Option<i64> {
    let window_ns = (evidence.readings.len() > LOOKED_AT).then(|| stretch_ns(evidence));
    window_ns.filter(|window_ns| *window_ns >= LEAST_WINDOW_S * 1e9).map(|window_ns| window_ns.round() as i64)
}

/// How far apart knots may stand, ns: the time that all clocks are heard of, shared out among the unknowns.
fn stretch_ns(evidence: &Evidence) -> f64 {
    let mut reaches: Vec<Option<(i64, i64)>> = vec![None; evidence.clocks.len()];
    for reading in &evidence.readings {
        for (clock, at) in [(reading.link.client, reading.request_sent), (reading.link.server, reading.response_sent)] {
            let reach = reaches[clock.0 as usize].get_or_insert((at, at));
            *reach = (reach.0.min(at), reach.1.max(at));
        }
    }
    let mut lengths: Vec<f64> =
        reaches.into_iter().flatten().map(|(first, last)| last.saturating_sub(first) as f64).collect();
    lengths.sort_unstable_by(f64::total_cmp);
    let most = LONGEST * quantile(&lengths, 0.5);
    lengths.iter().map(|length| length.min(most)).sum::<f64>() / UNKNOWNS
}

pub(super) fn roll_up(evidence: &Evidence, window_ns: i64) -> Evidence {
    let window_ns = window_ns.max(1);
    let readings = &evidence.readings;
    let mut links: Vec<Range<usize>> = Vec::new();
    for of_link in readings.chunk_by(|left, right| left.link == right.link) {
        let start = links.last().map_or(0, |last| last.end);
        links.push(start..start + of_link.len());
    }
    let parts: Vec<(Vec<Reading>, Usual)> =
        links.into_par_iter().map(|range| of_link(&readings[range], window_ns)).collect();
    let usual = parts.iter().map(|(_, usual)| *usual).collect();
    Evidence {
        clocks: evidence.clocks.clone(),
        classes: evidence.classes.clone(),
        readings: parts.into_iter().flat_map(|(readings, _)| readings).collect(),
        rolled_up: Some(RolledUp { window_ns, usual }),
    }
}

/// A gap of one side, by the client's clock. Gaps are relative to the link's first request, ns.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Point {
    window: i64,
    at: f64,
    gap: f64,
    index: usize,
}

/// One side of a link during one window.
struct Window {
    points: Vec<Point>,
    /// Its lower convex hull, in order of time.
    hull: Vec<Point>,
}

impl Window {
    fn of(points: &[Point]) -> Self {
        let mut hull: Vec<Point> = Vec::new();
        for &point in points {
            while hull.len() > 1
                && slope(hull[hull.len() - 2], point) <= slope(hull[hull.len() - 2], hull[hull.len() - 1])
            {
                hull.pop();
            }
            // Of several at one time the least came first.
            if hull.last().is_none_or(|last| last.at < point.at) {
                hull.push(point);
            }
        }
        Self { points: points.to_vec(), hull }
    }

    fn number(&self) -> i64 {
        self.points[0].window
    }

    /// The corners that a line of one of these slopes touches from below.
    fn touched(&self, [least, most]: [f64; 2]) -> impl Iterator<Item = usize> + '_ {
        let hull = &self.hull;
        let is_touched = move |&place: &usize| {
            let before = place.checked_sub(1).map_or(f64::NEG_INFINITY, |before| slope(hull[before], hull[place]));
            let after = hull.get(place + 1).map_or(f64::INFINITY, |&after| slope(hull[place], after));
            before <= most && after >= least
        };
        (0..hull.len()).filter(is_touched).map(|place| hull[place].index)
    }

    /// How far all gaps are above the line of this slope that touches them, ns.
    fn above(&self, slope: f64) -> impl Iterator<Item = f64> + '_ {
        let rest = move |point: &Point| point.gap - slope * point.at;
        let least = self.hull.iter().map(rest).fold(f64::INFINITY, f64::min);
        self.points.iter().map(move |point| rest(point) - least)
    }
}

fn slope(from: Point, to: Point) -> f64 {
    (to.gap - from.gap) / (to.at - from.at)
}

/// Requests and responses of a link, each by window.
struct Sides {
    requests: Vec<Window>,
    responses: Vec<Window>,
}

impl Sides {
    fn of(readings: &[Reading], window_ns: i64) -> Self {
        let windows = |side: Side| -> Vec<Window> {
            let point = |(index, reading): (usize, &Reading)| {
                let (at, gap) = match side {
                    Side::Backward => {
                        (reading.response_received, reading.backward_ns().saturating_add(readings[0].forward_ns()))
                    }
                    _ => (reading.request_sent, reading.forward_ns().saturating_sub(readings[0].forward_ns())),
                };
                let window = at.div_euclid(window_ns);
                Point { window, at: at.saturating_sub(readings[0].request_sent) as f64, gap: gap as f64, index }
            };
            let of_side = readings.iter().enumerate().filter(|(_, reading)| reading.side == side);
            let mut points: Vec<Point> = of_side.map(point).collect();
            let order = |a: &Point, b: &Point| a.at.total_cmp(&b.at).then(a.gap.total_cmp(&b.gap));
            points.sort_unstable_by(|a, b| a.window.cmp(&b.window).then(order(a, b)).then(a.index.cmp(&b.index)));
            points.chunk_by(|left, right| left.window == right.window).map(Window::of).collect()
        };
        Self { requests: windows(Side::Forward), responses: windows(Side::Backward) }
    }

    /// The readings of one side that can decide, and how far all are above the lines that touch them, ns, sorted.
    fn decisive(&self, side: Side, readings: &[Reading]) -> (Vec<Reading>, Vec<f64>) {
        let (mut decisive, mut above) = (Vec::new(), Vec::new());
        for window in if side == Side::Backward { &self.responses } else { &self.requests } {
            let all = window.points.len();
            let Some([least, most]) = self.slopes(window.number(), 1).or_else(|| self.slopes(window.number(), 0))
            else {
                decisive.extend(window.points.iter().map(|point| readings[point.index]));
                continue;
            };
            // A response's gap shrinks where a request's grows.
            let slopes = if side == Side::Backward { [-most, -least] } else { [least, most] };
            decisive.extend(standing_for(all, window.touched(slopes).map(|index| readings[index]).collect()));
            if all >= LEAST_CALLS && least.is_finite() && most.is_finite() {
                above.extend(window.above((slopes[0] + slopes[1]) / 2.0));
            }
        }
        above.sort_unstable_by(f64::total_cmp);
        (decisive, above)
    }

    /// Least and largest slope of the lines that run between the requests and the responses of all windows as near as
    /// `reach`: each request says how far the server can be ahead at the most, each response at the least.
    fn slopes(&self, number: i64, reach: i64) -> Option<[f64; 2]> {
        let near = |windows: &[Window]| -> Vec<Point> {
            let start = windows.partition_point(|window| window.number() < number - reach);
            let near = windows[start..].iter().take_while(|window| window.number() <= number + reach);
            near.flat_map(|window| window.hull.iter().copied()).collect()
        };
        let (requests, responses) = (near(&self.requests), near(&self.responses));
        let [mut least, mut most] = [f64::NEG_INFINITY, f64::INFINITY];
        for request in &requests {
            for response in &responses {
                let (run, rise) = (request.at - response.at, request.gap + response.gap);
                if run > 0.0 {
                    most = most.min(rise / run);
                } else if run < 0.0 {
                    least = least.max(rise / run);
                } else if rise < 0.0 {
                    return None;
                }
            }
        }
        (least <= most).then_some([least, most])
    }
}

/// What is kept of one link's readings, and what all of them are like.
fn of_link(readings: &[Reading], window_ns: i64) -> (Vec<Reading>, Usual) {
    let (delays, low_delay) = waited_for(readings);
    let is_early = |reading: &Reading| {
        reading.side != Side::Forward && (reading.round_trip_delay_ns() as f64) < (EARLY * low_delay).max(0.0)
    };
    // The early ones take no part, and are told.
    let (mut kept, counted): (Vec<Reading>, Vec<Reading>) = readings.iter().partition(|reading| is_early(reading));
    let sides = Sides::of(&counted, window_ns);
    let [jitter_out_ns, jitter_back_ns] = [Side::Forward, Side::Backward].map(|side| {
        let (decisive, above) = sides.decisive(side, &counted);
        kept.extend(decisive);
        let jitter = if above.is_empty() { spread(&delays) / 2.0 } else { spread(&above).min(spread(&delays)) };
        jitter.round() as i64
    });
    kept.extend(quickest(&counted, window_ns));
    kept.sort_unstable();
    let (link, calls, low_delay_ns) = (readings[0].link, delays.len() as u64, low_delay.round() as i64);
    (kept, Usual { link, calls, low_delay_ns, jitter_out_ns, jitter_back_ns })
}

/// Floored readings: of each window those of smallest δ.
fn quickest(readings: &[Reading], window_ns: i64) -> Vec<Reading> {
    let window = |reading: &Reading| reading.request_sent.div_euclid(window_ns);
    let mut floored: Vec<Reading> = readings.iter().copied().filter(|reading| reading.side == Side::Both).collect();
    floored.sort_unstable_by_key(|reading| (window(reading), reading.round_trip_delay_ns(), reading.exchange));
    let windows = floored.chunk_by(|left, right| window(left) == window(right));
    windows.flat_map(|all| standing_for(all.len(), all[..all.len().min(FLOORED)].to_vec())).collect()
}

/// Shares out among the chosen how many there were.
fn standing_for(all: usize, chosen: Vec<Reading>) -> impl Iterator<Item = Reading> {
    let (each, more) = (all / chosen.len().max(1), all % chosen.len().max(1));
    let share = move |rank: usize| (each + usize::from(rank < more)) as u32;
    chosen.into_iter().enumerate().map(move |(rank, reading)| Reading { stands_for: share(rank), ..reading })
}

/// δ of the calls that somebody waited for, sorted, and the low one among them, ns.
fn waited_for(readings: &[Reading]) -> (Vec<f64>, f64) {
    let delays = readings.iter().filter(|reading| reading.side != Side::Forward);
    let mut delays: Vec<f64> =
        delays.map(|reading| reading.round_trip_delay_ns() as f64).filter(|delay| *delay >= 0.0).collect();
    delays.sort_unstable_by(f64::total_cmp);
    let early = EARLY * quantile(&delays, LOW_DELAY);
    delays.drain(..delays.partition_point(|delay| *delay < early));
    let low = quantile(&delays, LOW_DELAY);
    (delays, low)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::clock::{CallClass, ClockId, Exchange, Link, LocalTime, Use};

    const WINDOW_NS: i64 = 60_000_000_000;

    /// Calls as (when, in ms; out and back, in µs), between clocks that are apart by a line, and by a step at half an hour.
    fn evidence(calls: &[(i64, i64, i64)], server: u32, apart: impl Fn(i64) -> i64, quantum: u32) -> Evidence {
        let exchange = |(id, &(at, out, back)): (u64, &(i64, i64, i64))| {
            let sent = at * 1_000_000;
            let (received, responded) = (sent + out * 1_000, sent + out * 1_000 + 2_000_000);
            Exchange {
                id,
                link: Link { client: ClockId(0), server: ClockId(server), class: 0 },
                request_sent: LocalTime::from_nanos(sent),
                request_received: LocalTime::from_nanos(received + apart(received)),
                response_sent: LocalTime::from_nanos(responded + apart(responded)),
                response_received: LocalTime::from_nanos(responded + back * 1_000),
                client_quantum_ns: quantum,
                server_quantum_ns: 1,
                counts: Use::TwoSided,
            }
        };
        let exchanges: Vec<Exchange> = (0..).zip(calls).map(exchange).collect();
        Evidence::of(["a", "b", "c"].map(String::from).to_vec(), vec![CallClass::default()], &exchanges)
    }

    fn drifting(ppm: i64) -> impl Fn(i64) -> i64 {
        move |at| at / 1_000_000 * ppm + 7_000_000
    }

    fn some_calls() -> impl Strategy<Value = Vec<(i64, i64, i64)>> {
        proptest::collection::vec((0..300_000i64, 300..3_000i64, 300..3_000i64), 1..200)
    }

    /// Per side and window, the least of what is left of its gaps, ns, when such a line is taken off.
    fn least_left(evidence: &Evidence, apart: impl Fn(i64) -> i64) -> std::collections::BTreeMap<(Side, i64), i64> {
        let mut least = std::collections::BTreeMap::new();
        for reading in &evidence.readings {
            let (at, left) = match reading.side {
                Side::Backward => (reading.response_received, reading.backward_ns() + apart(reading.response_received)),
                _ => (reading.request_sent, reading.forward_ns() - apart(reading.request_sent)),
            };
            let entry = least.entry((reading.side, at.div_euclid(WINDOW_NS))).or_insert(i64::MAX);
            *entry = left.min(*entry);
        }
        least
    }

    proptest! {
        #[test]
        fn the_least_of_what_the_clocks_own_line_leaves_is_kept(calls in some_calls(), ppm in -100..100i64) {
            let all = evidence(&calls, 1, drifting(ppm), 1);
            let rolled_up = all.rolled_up(WINDOW_NS);
            prop_assert_eq!(least_left(&all, drifting(ppm)), least_left(&rolled_up, drifting(ppm)));
            let stood_for: u64 = rolled_up.readings.iter().map(|reading| u64::from(reading.stands_for)).sum();
            prop_assert_eq!(stood_for, all.readings.len() as u64);
        }
    }

    /// Calls every 200 ms for five minutes; out and back take 500 µs and up to a millisecond more.
    fn steady_calls() -> Vec<(i64, i64, i64)> {
        let more = |call: i64, prime: i64| call * prime % 1_009;
        (0..1_500).map(|call| (200 * call, 500 + more(call, 367), 500 + more(call, 613))).collect()
    }

    #[test]
    fn most_readings_of_steady_clocks_go() {
        let all = evidence(&steady_calls(), 1, drifting(40), 1);
        let left = all.rolled_up(WINDOW_NS).readings.len();
        assert!(left * 20 < all.readings.len(), "{left} of {}", all.readings.len());
    }

    #[test]
    fn a_window_with_a_step_is_kept_whole_and_the_others_are_not() {
        // At 130 s, in the third window.
        let steps = |at: i64| if at < 130_000_000_000 { 0 } else { 5_000_000 };
        let all = evidence(&steady_calls(), 1, steps, 1);
        let rolled_up = all.rolled_up(WINDOW_NS);
        let of_window = |evidence: &Evidence, window: i64| {
            evidence.readings.iter().filter(|reading| reading.request_sent / WINDOW_NS == window).count()
        };
        assert_eq!(of_window(&rolled_up, 2), of_window(&all, 2));
        for window in [0, 1, 3, 4] {
            assert!(of_window(&rolled_up, window) * 10 < of_window(&all, window), "window {window}");
        }
    }

    #[test]
    fn links_may_be_rolled_up_each_for_itself() {
        let (one, other) =
            (evidence(&steady_calls(), 1, drifting(40), 1), evidence(&steady_calls(), 2, drifting(-9), 1_000_000));
        let together = one.clone().merge(other.clone()).rolled_up(WINDOW_NS);
        assert_eq!(one.rolled_up(WINDOW_NS).merge(other.rolled_up(WINDOW_NS)), together);
    }

    #[test]
    fn of_floored_readings_the_quickest_stay() {
        let all = evidence(&steady_calls(), 1, drifting(0), 1_000_000);
        let rolled_up = all.rolled_up(WINDOW_NS);
        assert_eq!(rolled_up.readings.len(), 5 * FLOORED);
        let slowest = rolled_up.readings.iter().map(Reading::round_trip_delay_ns).max().unwrap();
        let quicker = all.readings.iter().filter(|reading| reading.round_trip_delay_ns() < slowest).count();
        assert!(quicker < 8 * 5 * FLOORED, "{quicker} are quicker");
    }

    #[test]
    fn what_calls_are_like_is_known_from_all_of_them() {
        // So rare that all are in the evidence.
        let calls: Vec<_> = steady_calls().into_iter().step_by(3).collect();
        let all = evidence(&calls, 1, drifting(40), 1);
        let RolledUp { usual, .. } = all.rolled_up(WINDOW_NS).rolled_up.unwrap();
        let [usual] = usual[..] else { panic!("one link: {usual:?}") };
        assert_eq!(usual.calls, calls.len() as u64);
        // Uniform over a millisecond: between the 10 % and the 50 % quantile are 0.4 ms, 0.588 means of an exponential.
        let mean = 0.4e6 / 0.588;
        for jitter in [usual.jitter_out_ns, usual.jitter_back_ns] {
            assert!((jitter as f64 / mean - 1.0).abs() < 0.1, "{jitter}");
        }
    }

    #[test]
    fn fleets_that_can_be_looked_at_whole_are() {
        let mut all = evidence(&[(0, 500, 500), (2_000_000, 500, 500)], 1, drifting(0), 1);
        let reading = all.readings[0];
        all.clocks = (0..4_000).map(|clock| format!("{clock:04}")).collect();
        // Four thousand clocks that are heard of for 2,000 s, and one that says 1970.
        for clock in 1..4_000 {
            let link = Link { client: ClockId(0), server: ClockId(clock), class: 0 };
            let late = reading.request_sent + 2_000_000_000_000;
            all.readings.push(Reading { link, ..reading });
            all.readings.push(Reading { link, request_sent: late, response_sent: late, ..reading });
        }
        all.readings.last_mut().unwrap().response_sent = i64::MAX;
        assert!((stretch_ns(&all) / 53.3e9 - 1.0).abs() < 0.02, "{}", stretch_ns(&all));
        assert_eq!(window_ns(&all), None);
        all.readings = all.readings.repeat(LOOKED_AT / all.readings.len() + 1);
        assert_eq!(window_ns(&all), Some(stretch_ns(&all).round() as i64));
        all.clocks.truncate(1_000);
        all.readings.retain(|reading| reading.link.server.0 < 1_000);
        all.readings = all.readings.repeat(LOOKED_AT / all.readings.len() + 1);
        assert_eq!(window_ns(&all), None, "a window of 13 s");
    }
}
