//! Readings → rows: per route and window the smallest of what the model leaves, both ways, and how sure it is.
//!
//! Minima are taken of residuals, never of raw gaps: with 80 ppm the raw minima of a long window sit at its two ends
//! (ESTIMATOR.md, fact 7). Floored readings have no minima: those of a window count together.

use rayon::iter::{IndexedParallelIterator, ParallelIterator};
use rayon::slice::ParallelSlice;

use super::curves::Curves;
use super::evidence::Side;
use super::floored::{Floored, together};
use super::legs::Over;
use super::observation::{Observation, WHOLE_SECONDS};
use super::routes::{Route, Routes};
use super::scale::Scale;
use super::solve::Rows;

/// By how much of itself the low δ is above the least: an exponential queue of half the delay each way has its 15 %
/// quantile there.
const ABOVE_LEAST: f64 = 0.15;

/// Of floored calls those count whose δ is no more than this many low ones: a longer one connected or queued first, which
/// is all in the request. (Fleets of drifting clocks: floored links of 0.2 to 1 ms seemed 5 to 23 µs slower out than they
/// are; with this 1 to 17. Others seemed 2 µs faster.)
const CLOSE: f64 = 1.5;

/// What a model may lag within a window, ns.
const LAG: f64 = 20e3;

/// Readings of one route and window.
#[derive(Default)]
struct Window {
    number: i64,
    /// How many breaks of its two clocks have begun: what is the least on one side of a step says nothing of the other.
    breaks: usize,
    /// Smallest residual each way: (residual, observation), and how many there were.
    out: Option<(f64, usize)>,
    back: Option<(f64, usize)>,
    outs: usize,
    backs: usize,
    floored: Vec<usize>,
}

/// Rows of all routes for windows `width` knots wide. How sure one is goes by what its request and response took `together`
/// only where clocks are followed already: otherwise a slew amid few calls is followed late (lab s2).
pub(super) fn rows(
    routes: &Routes,
    observations: &[Observation],
    used: &[bool],
    scales: &[Scale],
    curves: &Curves,
    width: f64,
    together: bool,
) -> Rows {
    let doubt = if together { (DOUBT * routes.given_up.share).clamp(LEAST_DOUBT, 1.0) } else { 1.0 };
    let of_routes = |(routes, of_routes): (&[Route], &[Scale])| {
        let mut rows = Rows::new();
        for (route, scale) in routes.iter().zip(of_routes) {
            let windows = windows(observations, route.observations.clone(), used, curves, width);
            let least = route.least(scale, scales);
            for index in 0..windows.len() {
                push_minima(&mut rows, &windows, index, observations, (scale, least, doubt), curves);
                push_floored(&mut rows, &windows[index].floored, observations, scale, curves);
            }
        }
        rows
    };
    let parts: Vec<Rows> = routes.all.par_chunks(ROUTES).zip(scales.par_chunks(ROUTES)).map(of_routes).collect();
    let mut rows = Rows::new();
    parts.into_iter().for_each(|part| rows.append(part));
    rows
}

/// Routes that are worth a turn of their own.
const ROUTES: usize = 64;

fn windows(
    observations: &[Observation],
    range: std::ops::Range<usize>,
    used: &[bool],
    curves: &Curves,
    width: f64,
) -> Vec<Window> {
    let number = |observation: &Observation| {
        let place = observation.place();
        ((place / width).floor() as i64, curves.breaks_before([observation.client, observation.server], place))
    };
    let mut order: Vec<((i64, usize), usize)> =
        range.filter(|&index| used[index]).map(|index| (number(&observations[index]), index)).collect();
    order.sort_unstable();
    let mut windows: Vec<Window> = Vec::new();
    for ((number, breaks), index) in order {
        if windows.last().is_none_or(|window| (window.number, window.breaks) != (number, breaks)) {
            windows.push(Window { number, breaks, ..Window::default() });
        }
        let last = windows.len() - 1;
        let window = &mut windows[last];
        let observation = &observations[index];
        let (least, count, residual) = match observation.side {
            Side::Both => {
                window.floored.push(index);
                continue;
            }
            Side::Forward => (&mut window.out, &mut window.outs, observation.out(curves)),
            Side::Backward => (&mut window.back, &mut window.backs, observation.back(curves)),
        };
        *count += observation.stands_for as usize;
        if least.is_none_or(|least| (residual, observation.exchange) < (least.0, observations[least.1].exchange)) {
            *least = Some((residual, index));
        }
    }
    windows
}

/// Windows this far apart may lend each other the direction that one of them lacks.
const LENT_OVER: i64 = 3;

/// Where calls are given up, what seems a quick round trip may be a slow request and a response that nobody waited for: with one
/// in ten, what both legs took together says nothing of either. (Half of all calls given up, `given_up`: p95 4.8 ms if it did,
/// 3.1 like this.)
const DOUBT: f64 = 10.0;

/// Nor are queues quite what is thought where none is: real ones make windows seem surer than they are. (Lab s2: p95 0.95 ms
/// instead of 0.78.)
const LEAST_DOUBT: f64 = 0.3;

fn push_minima(
    rows: &mut Rows,
    windows: &[Window],
    index: usize,
    observations: &[Observation],
    (scale, least, doubt): (&Scale, Option<f64>, f64),
    curves: &Curves,
) {
    let window = &windows[index];
    if window.out.is_none() && window.back.is_none() {
        return;
    }
    let nearest = |has: &dyn Fn(&Window) -> bool| {
        let lent = |other: &&Window| (other.number - window.number).abs() <= LENT_OVER && has(other);
        windows[index.saturating_sub(LENT_OVER as usize)..]
            .iter()
            .take(2 * LENT_OVER as usize + 1)
            .filter(lent)
            .min_by_key(|other| {
                (other.breaks.abs_diff(window.breaks), (other.number - window.number).abs(), other.number)
            })
    };
    let (Some(with_out), Some(with_back)) =
        (nearest(&|window| window.out.is_some()), nearest(&|window| window.back.is_some()))
    else {
        return;
    };
    let (Some((out, forward)), Some((back, backward))) = (with_out.out, with_back.back) else { return };
    // Not both of a detour.
    if least.is_some_and(|least| out + back < least) {
        return;
    }
    let over = Over { out: scale.jitter_out / with_out.outs as f64, back: scale.jitter_back / with_back.backs as f64 };
    // What the two legs took beyond the link's low delay may be all in one of them, whatever the clocks say.
    let excess = (out + back - scale.delay).max(0.0) / 2.0;
    let mut apart = over.each(out, back);
    apart.variance += excess * excess / 3.0;
    // The delay of a detour is no longer known to be that of a queue.
    if least.is_none() {
        let mut together = over.together(out, back, out + back - scale.least());
        together.variance += scale.least_unsure().powi(2) / 12.0;
        apart = together.mixed(apart, doubt);
    }
    let rounding = 0.04 * scale.jitter();
    let variance = apart.variance + rounding * rounding + 1e6;
    let (forward, backward) = (&observations[forward], &observations[backward]);
    let mut terms = Vec::with_capacity(10);
    curves.terms(forward.server, forward.received, 0.5, &mut terms);
    curves.terms(forward.client, forward.sent, -0.5, &mut terms);
    curves.terms(backward.server, backward.responded, 0.5, &mut terms);
    curves.terms(backward.client, backward.returned, -0.5, &mut terms);
    terms.extend([forward, backward].map(|o| (curves.bias(o.kind), scale.delay / 4.0)));
    push(rows, terms, apart.offset, variance, forward.route, curves);
}

/// Floored readings of one window, all together.
fn push_floored(rows: &mut Rows, floored: &[usize], observations: &[Observation], scale: &Scale, curves: &Curves) {
    let close = |&index: &usize| observations[index].delay() <= CLOSE * scale.delay;
    let floored: Vec<usize> = floored.iter().copied().filter(close).collect();
    let Some(&first) = floored.first() else { return };
    let excess = |o: &Observation| (o.delay() - scale.delay).max(0.0);
    let weight = |o: &Observation| 1.0 / (o.floored_variance() + excess(o) * excess(o) / 4.0 + 1e6);
    let total: f64 = floored.iter().map(|&index| weight(&observations[index])).sum();
    let mean = |value: &dyn Fn(&Observation) -> f64| {
        let of = |&index: &usize| weight(&observations[index]) * value(&observations[index]);
        floored.iter().map(of).sum::<f64>() / total
    };
    let offset = |o: &Observation| (o.out(curves) - o.back(curves)) / 2.0 - (o.quanta[0] - o.quanta[1]) / 2.0;
    let one = |&index: &usize| {
        let o = &observations[index];
        let [client, server] = o.quanta;
        Floored { offset: offset(o), widths: [client, server, excess(o) + ABOVE_LEAST * scale.delay + LAG] }
    };
    let exact = observations[first].floored_variance() < WHOLE_SECONDS;
    let (residual, variance) =
        if exact { together(&floored.iter().map(one).collect::<Vec<_>>()) } else { (mean(&offset), 1.0 / total) };
    let (client, server) = (observations[first].client, observations[first].server);
    let mut terms = Vec::with_capacity(4 + floored.len());
    curves.terms(server, mean(&|o| (o.received + o.responded) / 2.0), 1.0, &mut terms);
    curves.terms(client, mean(&|o| (o.sent + o.returned) / 2.0), -1.0, &mut terms);
    let bias = |&index: &usize| {
        let o = &observations[index];
        (curves.bias(o.kind), weight(o) / total * scale.delay / 2.0)
    };
    terms.extend(floored.iter().map(bias));
    push(rows, terms, residual, variance + 1e6, observations[first].route, curves);
}

/// A row asks for the whole offset, so what the model has already comes on top of the residual; of a bias it asks for
/// the whole as well, which no residual is rid of.
fn push(rows: &mut Rows, terms: Vec<(usize, f64)>, residual: f64, variance: f64, route: u32, curves: &Curves) {
    let offsets = terms.iter().filter(|(unknown, _)| *unknown < curves.bias(0));
    let has: f64 = offsets.map(|(unknown, factor)| factor * curves.values[*unknown]).sum();
    rows.push(terms, residual + has, 1.0 / variance, route);
}

#[cfg(test)]
mod tests {
    use super::super::curves::{Break, Shape};
    use super::*;

    #[test]
    fn a_call_that_outlasts_its_window_is_a_row_of_both_its_ends() {
        let curves = Curves::new(&[None, Some((0, 19))], Vec::new(), 1);
        let request = Observation { side: Side::Forward, ..Observation::between(&curves, 0, (0, 1), 1.0) };
        let response = |at| Observation { side: Side::Backward, ..Observation::between(&curves, 0, (0, 1), at) };
        let scale = Scale { delay: 1e6, jitter_out: 1e4, jitter_back: 1e4, calls: 5.0 };
        let rows_of = |calls: &[Observation]| {
            let windows = windows(calls, 0..calls.len(), &vec![true; calls.len()], &curves, 2.0);
            let mut rows = Rows::new();
            (0..windows.len())
                .for_each(|index| push_minima(&mut rows, &windows, index, calls, (&scale, None, 0.0), &curves));
            rows.len()
        };
        // Windows of two knots lend each other over three: one row for either end.
        assert_eq!(rows_of(&[request, response(6.5)]), 2);
        assert_eq!(rows_of(&[request, response(8.5)]), 0);
    }

    #[test]
    fn no_window_reaches_across_a_step() {
        let step = Break { clock: 1, from: 6.0, to: 6.0, size: 1e8, least: 0.0, jump_ns: 0, shape: Shape::Whole };
        let curves = Curves::new(&[None, Some((0, 19))], vec![step], 0);
        let calls = [5.1, 5.9, 6.1, 7.9, 8.1].map(|at| Observation::between(&curves, 0, (0, 1), at));
        let found = windows(&calls, 0..calls.len(), &[true; 5], &curves, 4.0);
        assert_eq!(found.iter().map(|window| window.floored.len()).collect::<Vec<_>>(), [2, 2, 1]);
    }
}
