//! What the calls of a route are like: a low round-trip delay, what comes on top of it, and which were not waited for.

use rayon::iter::{IndexedParallelIterator, IntoParallelRefIterator, ParallelIterator};

use super::curves::Curves;
use super::detours;
use super::evidence::{Side, Usual};
use super::observation::{AT_ONCE, Observation};
use super::routes::{GivenUp, Route, Routes};

/// What the calls of one route are like, the model taken off.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Scale {
    /// A low round-trip delay, ns: robust where the least is not (ESTIMATOR.md, second prototype, 1).
    pub(super) delay: f64,
    /// Mean of what comes on top of the least delay, each way, ns.
    pub(super) jitter_out: f64,
    pub(super) jitter_back: f64,
    /// How many calls say so.
    pub(super) calls: f64,
}

impl Scale {
    /// What calls took at the least, ns: of two exponential queues one after the other, the low quantile is so many of their
    /// means above nothing.
    pub(super) fn least(&self) -> f64 {
        (self.delay - 0.683 * self.jitter()).max(0.0)
    }

    /// How unsure that is, as a deviation in ns: no queue is quite as thought; a quantile of n calls has a deviation of 1.2 means
    /// over √n, the jitter's included; and where n is so small that the least call stands for it, that is above it by up to two.
    pub(super) fn least_unsure(&self) -> f64 {
        let calls = self.calls.max(1.0);
        self.jitter() * (UNSURE.powi(2) + 1.4 / calls + 4.0 / calls.powi(2)).sqrt()
    }

    /// The mean of both legs' jitter, ns.
    pub(super) fn jitter(&self) -> f64 {
        (self.jitter_out + self.jitter_back) / 2.0
    }

    /// Of links that are rolled up and take the same way.
    pub(super) fn of(links: impl Iterator<Item = Usual> + Clone) -> Self {
        let calls = links.clone().map(|usual| usual.calls as f64).sum::<f64>();
        let mean = |value: &dyn Fn(&Usual) -> i64| {
            links.clone().map(|usual| usual.calls as f64 * value(&usual) as f64).sum::<f64>() / calls.max(1.0)
        };
        Self {
            delay: mean(&|usual| usual.low_delay_ns),
            jitter_out: mean(&|usual| usual.jitter_out_ns),
            jitter_back: mean(&|usual| usual.jitter_back_ns),
            calls,
        }
    }
}

/// By how much of their mean queues are not quite exponential.
const UNSURE: f64 = 0.15;

/// The part of a route's δ that its low round-trip delay is read at; a handful of calls that nobody waited for
/// have any δ ≥ 0, so not the least.
pub(super) const LOW_DELAY: f64 = 0.15;

/// A δ this much smaller than the route's low one belongs to a call that nobody waited for.
pub(super) const EARLY: f64 = 0.6;

/// The value below which `part` of a sorted slice lies.
pub(super) fn quantile(sorted: &[f64], part: f64) -> f64 {
    match sorted {
        [] => 0.0,
        _ => sorted[((sorted.len() - 1) as f64 * part).round() as usize],
    }
}

/// The value that half of some lie below; of two in the middle, the larger.
pub(super) fn upper_median(mut values: Vec<f64>) -> f64 {
    values.sort_unstable_by(f64::total_cmp);
    quantile(&values, 0.5)
}

/// The mean of what comes on top of the least. For an exponential tail the 10 % and the 50 % quantiles are ln(0.9/0.5) =
/// 0.588 means apart.
pub(super) fn spread(sorted: &[f64]) -> f64 {
    (quantile(sorted, 0.5) - quantile(sorted, 0.1)) / 0.588
}

/// Scales of all routes. Those with few calls lean on what calls of that delay are like in the whole fleet.
pub(super) fn scales(routes: &Routes, observations: &[Observation], used: &[bool], curves: &Curves) -> Vec<Scale> {
    let of_route = |route: &Route| match route.usual {
        Some(usual) => usual,
        None => scale(route, routes.given_up, observations, used, curves),
    };
    let routes = &routes.all;
    let mut scales: Vec<Scale> = routes.par_iter().map(of_route).collect();
    // A one-way route has no δ: it gives bounds, and no scale.
    let mut ratios: Vec<f64> = scales
        .iter()
        .zip(routes)
        .filter(|(scale, route)| scale.calls >= 20.0 && scale.delay > 0.0 && route.detour.is_none())
        .map(|(scale, _)| (scale.jitter_out + scale.jitter_back) / 2.0 / scale.delay)
        .collect();
    ratios.sort_unstable_by(f64::total_cmp);
    let ratio = if ratios.is_empty() { 0.25 } else { quantile(&ratios, 0.5) };
    // On a detour the delay grows, and what calls differ by does not.
    let direct =
        |(index, route): (usize, &Route)| scales[route.detour.map_or(index, |detour| detour.direct as usize)].delay;
    let delays: Vec<f64> = routes.iter().enumerate().map(direct).collect();
    for (scale, delay) in scales.iter_mut().zip(delays) {
        let (usual, count) = (ratio * delay, scale.calls);
        for jitter in [&mut scale.jitter_out, &mut scale.jitter_back] {
            *jitter = ((*jitter * count + usual * 5.0) / (count + 5.0)).max(0.05 * usual).max(200.0);
        }
    }
    scales
}

/// What the readings of one route are like.
fn scale(route: &Route, given_up: GivenUp, observations: &[Observation], used: &[bool], curves: &Curves) -> Scale {
    let (mut delays, mut outs, mut backs) = (Vec::new(), Vec::new(), Vec::new());
    let least = route.detour.map_or(0.0, |detour| detour.over);
    let of_route = observations[route.observations.clone()].iter().zip(&used[route.observations.clone()]);
    for (observation, _) in of_route.filter(|(_, used)| **used) {
        if observation.is_two_sided() && observation.delay() >= least {
            delays.push(observation.delay());
        }
        if observation.side != Side::Backward {
            outs.push(observation.out(curves));
        }
        if observation.is_two_sided() {
            backs.push(observation.back(curves));
        }
    }
    [&mut delays, &mut outs, &mut backs].into_iter().for_each(|list| list.sort_unstable_by(f64::total_cmp));
    let (low, spread) = match route.detour {
        None => (given_up.low(&delays), spread as fn(&[f64]) -> f64),
        Some(_) => (quantile(&delays, detours::TOO_SHORT), detours::spread as fn(&[f64]) -> f64),
    };
    // A model that lags behind a slew spreads the residuals; δ knows nothing of clocks.
    let most = spread(&delays);
    let [jitter_out, jitter_back] = [&outs, &backs].map(|legs| spread(legs).min(most));
    Scale { delay: low, jitter_out, jitter_back, calls: delays.len() as f64 }
}

/// Which readings take part at all: no response where δ shows that nobody waited for it. A request counts if it is not
/// astray.
pub(super) fn waited_for(routes: &[Route], observations: &[Observation], scales: &[Scale]) -> Vec<bool> {
    let least = |(route, scale): (&Route, &Scale)| route.least(scale, scales).unwrap_or(EARLY * scale.delay);
    let least: Vec<f64> = routes.iter().zip(scales).map(least).collect();
    let is_waited_for = |o: &Observation| !o.astray && (!o.is_two_sided() || o.delay() >= least[o.route as usize]);
    observations.par_iter().with_min_len(AT_ONCE).map(is_waited_for).collect()
}
