//! Which calls take the same way: those from one clock to another whose round trips are alike, whatever their protocol.
//!
//! A path that is slower one way is so for all of them. Were each protocol given an asymmetry of its own, two of them
//! between the same clocks would count as two independent witnesses.

use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::ops::Range;

use super::detours::Detour;
use super::evidence::Usual;
use super::observation::{Observation, WHOLE_SECONDS};
use super::scale::{EARLY, LOW_DELAY, Scale, quantile};
use crate::clock::Link;

pub(super) struct Routes {
    /// Per link.
    pub(super) of_link: Vec<u32>,
    pub(super) all: Vec<Route>,
    pub(super) given_up: GivenUp,
}

/// How often a call that seems answered was given up before, in the fleet: what a handful of calls are like may be nothing
/// but that. (Calls of δ 0.03, 0.7 and 9 ms where others take 218: a healthy clock was moved by 180 ms.)
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct GivenUp {
    pub(super) share: f64,
    /// What δ is like in the fleet, ns.
    usual: f64,
}

impl GivenUp {
    /// δ of each link, sorted.
    fn of(delays: &[Vec<f64>]) -> Self {
        let (mut calls, mut given_up) = (CALLS_BEFORE, CALLS_BEFORE * BEFORE);
        for delays in delays.iter().filter(|delays| delays.len() >= TELLING) {
            calls += delays.len() as f64;
            given_up += delays.partition_point(|&delay| delay < EARLY * quantile(delays, 0.3)) as f64;
        }
        let mut lows: Vec<f64> =
            delays.iter().filter(|delays| !delays.is_empty()).map(|delays| quantile(delays, 0.5)).collect();
        lows.sort_unstable_by(f64::total_cmp);
        Self { share: given_up / calls, usual: quantile(&lows, 0.5) }
    }

    /// The low δ of some, sorted: with as many below it as were hardly all given up.
    pub(super) fn low(&self, delays: &[f64]) -> f64 {
        let count = delays.len();
        let least = quantile(delays, LOW_DELAY);
        if self.share * count as f64 > MANY {
            return quantile(delays, self.share.min(0.5)).max(least);
        }
        // Of so many calls, the chance that no more than `few` were given up.
        let (mut few, mut chance) = (0, (1.0 - self.share).powi(count as i32));
        let mut all = chance;
        while all < 1.0 - HARDLY && few + 1 < count {
            chance *= (count - few) as f64 / (few + 1) as f64 * self.share / (1.0 - self.share);
            few += 1;
            all += chance;
        }
        delays.get(few.min(count / 2)).map_or(least, |delay| delay.max(least))
    }

    /// The low δ of each link; of one whose calls may all have been given up, that of a longer one between the same clocks.
    fn lows(&self, links: &[Link], delays: &[Vec<f64>]) -> Vec<f64> {
        let lows: Vec<f64> = delays.iter().map(|delays| self.low(delays)).collect();
        let longer = |link: usize| {
            let (Link { client, server, .. }, low) = (links[link], lows[link]);
            let from = links.partition_point(|other| (other.client, other.server) < (client, server));
            let beside =
                links[from..].iter().take_while(|other| (other.client, other.server) == (client, server)).count();
            let known = (from..from + beside).filter(|&other| self.all(delays[other].len()) <= NO_CHANCE);
            known.map(|other| lows[other]).filter(|&other| EARLY * other > low).min_by(f64::total_cmp)
        };
        let is_doubtful = |link: usize| !delays[link].is_empty() && self.all(delays[link].len()) > NO_CHANCE;
        let of_link = |link: usize| longer(link).filter(|_| is_doubtful(link)).unwrap_or(lows[link]);
        (0..links.len()).map(of_link).collect()
    }

    /// The chance that all of so many calls were given up.
    fn all(&self, calls: usize) -> f64 {
        self.share.powi(calls as i32)
    }
}

/// Before any link with so many calls is seen, this share of calls was given up, which counts as much as so many.
const TELLING: usize = 20;
const BEFORE: f64 = 0.02;
const CALLS_BEFORE: f64 = 50.0;

/// Of so many given up, chance is no matter.
const MANY: f64 = 50.0;

/// More are given up than the low δ allows for on one route in ten.
const HARDLY: f64 = 0.1;

/// A link whose calls are shorter than those of others between the same clocks has a way of its own, unless it is likelier
/// than this that all of them were given up.
const NO_CHANCE: f64 = 1e-3;

/// Likelier than this, it is a reason to doubt a route that is the only one.
const LIKELY: f64 = 0.05;

#[derive(Clone, Debug, PartialEq)]
pub(super) struct Route {
    /// Its readings, among those of all routes.
    pub(super) observations: Range<usize>,
    /// Its calls are seen without their client span.
    pub(super) without_client: bool,
    /// How uneven it may seem besides, ns: whole seconds may have shifted all of its calls, or all were given up.
    pub(super) blurred: f64,
    /// What its calls are like, where most of their readings are no longer here.
    pub(super) usual: Option<Scale>,
    /// It is not the one that calls usually take.
    pub(super) detour: Option<Detour>,
}

impl Route {
    /// How uneven it may be besides what is in proportion to its delay, ns: what a detour takes longer may be all in one leg.
    pub(super) fn beyond(&self, scale: &Scale, scales: &[Scale]) -> f64 {
        let longer = self.detour.map_or(0.0, |detour| scale.delay - scales[detour.direct as usize].delay);
        self.blurred.hypot(longer / 2.0)
    }

    /// On a detour, the least δ of a call that was waited for, ns.
    pub(super) fn least(&self, scale: &Scale, scales: &[Scale]) -> Option<f64> {
        self.detour.map(|detour| detour.least(scale, &scales[detour.direct as usize]))
    }
}

/// Low delays are alike, each with the next larger one, up to this ratio.
const ALIKE: f64 = 1.25;

impl Routes {
    /// With what the calls of rolled up links were like, in order of link, if they are.
    pub(super) fn of(
        links: &[Link],
        observations: &[Observation],
        usual: Option<&[Usual]>,
        without_client: &dyn Fn(&Link) -> bool,
    ) -> Self {
        let mut delays: Vec<Vec<f64>> = vec![Vec::new(); links.len()];
        for observation in observations.iter().filter(|o| o.is_two_sided() && o.delay() >= 0.0) {
            delays[observation.link as usize].push(observation.delay());
        }
        delays.iter_mut().for_each(|delays| delays.sort_unstable_by(f64::total_cmp));
        let given_up = GivenUp::of(&delays);
        let low_delays: Vec<f64> = match usual {
            Some(usual) => usual.iter().map(|usual| usual.low_delay_ns as f64).collect(),
            None => given_up.lows(links, &delays),
        };
        let mut routes = Self { given_up, ..Self::alike(links, &low_delays, without_client) };
        if let Some(usual) = usual {
            let mut order: Vec<usize> = (0..links.len()).collect();
            order.sort_by_key(|&link| routes.of_link[link]);
            for links in order.chunk_by(|&left, &right| routes.of_link[left] == routes.of_link[right]) {
                let usual = links.iter().map(|&link| usual[link]);
                routes.all[routes.of_link[links[0]] as usize].usual = Some(Scale::of(usual));
            }
        }
        for observation in observations.iter().filter(|o| o.floored_variance() >= WHOLE_SECONDS) {
            let blurred = &mut routes.all[routes.of_link[observation.link as usize] as usize].blurred;
            *blurred = blurred.max(observation.floored_variance().sqrt());
        }
        if usual.is_none() {
            routes.doubt(&delays);
            routes.find_detours(observations);
        }
        routes
    }

    /// What a handful of calls are like that were all given up says nothing.
    fn doubt(&mut self, delays: &[Vec<f64>]) {
        let mut calls = vec![0; self.all.len()];
        self.of_link.iter().zip(delays).for_each(|(&route, delays)| calls[route as usize] += delays.len());
        for (route, calls) in self.all.iter_mut().zip(calls) {
            let chance = self.given_up.all(calls);
            if chance > LIKELY {
                route.blurred = route.blurred.hypot(chance.sqrt() * self.given_up.usual / 2.0);
            }
        }
    }

    fn find_detours(&mut self, observations: &[Observation]) {
        let mut calls: Vec<Vec<&Observation>> = vec![Vec::new(); self.all.len()];
        for observation in observations.iter().filter(|o| o.is_two_sided() && o.delay() >= 0.0) {
            calls[self.of_link[observation.link as usize] as usize].push(observation);
        }
        for (direct, mut calls) in (0..).zip(calls) {
            let order = |call: &Observation| (call.place(), call.exchange);
            calls.sort_unstable_by(|one, other| order(one).partial_cmp(&order(other)).unwrap_or(Ordering::Equal));
            let calls: Vec<(f64, f64)> = calls.into_iter().map(|call| (call.place(), call.delay())).collect();
            for detour in Detour::all(direct, &calls) {
                self.all.push(Route { detour: Some(detour), ..self.all[direct as usize].clone() });
            }
        }
    }

    /// Tells readings their route, and puts them in order of it.
    pub(super) fn sort(&mut self, observations: &mut [Observation]) {
        let mut detours: BTreeMap<u32, Vec<(u32, Detour)>> = BTreeMap::new();
        for (index, detour) in (0..).zip(&self.all).filter_map(|(index, route)| Some((index, route.detour?))) {
            detours.entry(detour.direct).or_default().push((index, detour));
        }
        for observation in &mut *observations {
            let direct = self.of_link[observation.link as usize];
            let is_on = |(_, detour): &&(u32, Detour)| detour.has(observation);
            let detour = detours.get(&direct).into_iter().flatten().find(is_on);
            observation.route = detour.map_or(direct, |(index, _)| *index);
        }
        observations.sort_by_key(|observation| observation.route);
        let mut start = 0;
        for of_route in observations.chunk_by(|left, right| left.route == right.route) {
            self.all[of_route[0].route as usize].observations = start..start + of_route.len();
            start += of_route.len();
        }
    }

    /// Routes of links that are sorted by client and server, each with its low delay.
    fn alike(links: &[Link], low_delays: &[f64], without_client: &dyn Fn(&Link) -> bool) -> Self {
        let mut routes = Self { of_link: vec![0; links.len()], all: Vec::new(), given_up: GivenUp::default() };
        let indices: Vec<usize> = (0..links.len()).collect();
        let pair = |link: usize| (links[link].client, links[link].server);
        let rank = |link: usize| (without_client(&links[link]), low_delays[link]);
        for of_pair in indices.chunk_by(|&left, &right| pair(left) == pair(right)) {
            let mut of_pair = of_pair.to_vec();
            of_pair.sort_by(|&left, &right| rank(left).partial_cmp(&rank(right)).unwrap_or(Ordering::Equal));
            let alike =
                |&left: &usize, &right: &usize| rank(left).0 == rank(right).0 && rank(right).1 <= ALIKE * rank(left).1;
            for links in of_pair.chunk_by(alike) {
                links.iter().for_each(|&link| routes.of_link[link] = routes.all.len() as u32);
                routes.all.push(Route {
                    without_client: rank(links[0]).0,
                    blurred: 0.0,
                    usual: None,
                    detour: None,
                    observations: 0..0,
                });
            }
        }
        routes
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::ClockId;

    /// Links as (client, server, low delay in µs), and the route of each.
    fn check(links: &[(u32, u32, f64)], without_client: &[u32], expected: &[u32]) {
        let low_delays: Vec<f64> = links.iter().map(|link| link.2 * 1e3).collect();
        let link = |(class, &(client, server, _)): (u32, &(u32, u32, f64))| Link {
            client: ClockId(client),
            server: ClockId(server),
            class,
        };
        let links: Vec<Link> = (0..).zip(links).map(link).collect();
        let routes = Routes::alike(&links, &low_delays, &|link| without_client.contains(&link.class));
        assert_eq!(routes.of_link, expected);
        assert_eq!(routes.all.len(), expected.iter().max().map_or(0, |most| *most as usize + 1));
    }

    #[test]
    fn calls_whose_round_trips_are_alike_share_a_route() {
        check(&[(0, 1, 1_000.0), (0, 1, 1_050.0)], &[], &[0, 0]);
        check(&[(0, 1, 1_000.0), (0, 1, 1_300.0)], &[], &[0, 1]);
        check(&[(0, 1, 1_300.0), (0, 1, 1_000.0)], &[], &[1, 0]);
    }

    #[test]
    fn among_a_handful_of_calls_the_shortest_may_have_been_given_up() {
        let rare = GivenUp { share: 0.01, usual: 0.0 };
        let often = GivenUp { share: 0.2, usual: 0.0 };
        let few = [3e6, 170e6, 182e6, 209e6];
        assert_eq!([rare.low(&few), often.low(&few)], [3e6, 182e6]);
        assert_eq!([rare.low(&few[..1]), often.low(&few[..1])], [3e6, 3e6]);
        let many: Vec<f64> = (0..1_000).map(f64::from).collect();
        assert_eq!([rare.low(&many), often.low(&many)], [150.0, 200.0]);
        assert_eq!(often.low(&[]), 0.0);
    }

    #[test]
    fn how_often_calls_are_given_up_is_learnt_from_links_with_many() {
        let link = |given_up: usize, calls: usize| (0..calls).map(|k| if k < given_up { 1e6 } else { 1e8 }).collect();
        let share = |delays: &[Vec<f64>]| GivenUp::of(delays).share;
        assert!((share(&[]) - 0.02).abs() < 1e-9);
        // Of 1,000 calls and of 50 that count before, 200 and one.
        assert!((share(&[link(200, 1_000), link(10, 10)]) - 201.0 / 1_050.0).abs() < 1e-9);
    }

    #[test]
    fn calls_that_may_all_have_been_given_up_take_the_way_of_others_that_were_not() {
        let often = GivenUp { share: 0.2, usual: 0.0 };
        let link = |server: u32, class: u32| Link { client: ClockId(0), server: ClockId(server), class };
        let links = [link(1, 0), link(1, 1), link(1, 2), link(2, 0)];
        let lows = |short: usize| often.lows(&links, &[vec![5.0; 100], vec![1.0; short], Vec::new(), vec![1.0]]);
        assert_eq!(lows(3), [5.0, 5.0, 0.0, 1.0]);
        assert_eq!(lows(9), [5.0, 1.0, 0.0, 1.0]);
    }

    #[test]
    fn a_route_whose_calls_were_likely_all_given_up_is_doubted() {
        let doubted = |calls: usize| {
            let alike = Routes::alike(&[Link { client: ClockId(0), server: ClockId(1), class: 0 }], &[1.0], &|_| false);
            let mut routes = Routes { given_up: GivenUp { share: 0.25, usual: 1e8 }, ..alike };
            routes.doubt(&[vec![1.0; calls]]);
            routes.all[0].blurred
        };
        // Half of the usual δ, by the root of the chance that it is so.
        assert_eq!([doubted(1), doubted(2), doubted(3)], [2.5e7, 1.25e7, 0.0]);
    }

    #[test]
    fn another_pair_and_the_way_back_are_other_routes() {
        check(&[(0, 1, 1_000.0), (0, 2, 1_000.0), (1, 0, 1_000.0)], &[], &[0, 1, 2]);
    }

    #[test]
    fn where_the_client_span_is_missing_both_legs_hold_more_than_the_way() {
        check(&[(0, 1, 1_000.0), (0, 1, 1_000.0)], &[0], &[1, 0]);
    }
}
