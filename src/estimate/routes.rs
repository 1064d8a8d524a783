//! Which calls take the same way: those from one clock to another whose round trips are alike, whatever their protocol.
//!
//! A path that is slower one way is so for all of them. Were each protocol given an asymmetry of its own, two of them
//! between the same clocks would count as two independent witnesses.

use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::ops::Range;

use super::detours::Detour;
use super::evidence::Usual;
use super::rows::{LOW_DELAY, Observation, Scale, WHOLE_SECONDS, quantile};
use crate::clock::Link;

pub(super) struct Routes {
    /// Per link.
    pub(super) of_link: Vec<u32>,
    pub(super) all: Vec<Route>,
}

#[derive(Clone, Debug, PartialEq)]
pub(super) struct Route {
    /// Its readings, among those of all routes.
    pub(super) observations: Range<usize>,
    /// Its calls are seen without their client span.
    pub(super) without_client: bool,
    /// By how much whole seconds may have shifted all of its calls, ns.
    pub(super) blurred: f64,
    /// What its calls are like and how many there were, where most of their readings are no longer here.
    pub(super) usual: Option<(Scale, f64)>,
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
        let low = |delays: &mut Vec<f64>| {
            delays.sort_unstable_by(f64::total_cmp);
            quantile(delays, LOW_DELAY)
        };
        let low_delays: Vec<f64> = match usual {
            Some(usual) => usual.iter().map(|usual| usual.low_delay_ns as f64).collect(),
            None => delays.iter_mut().map(low).collect(),
        };
        let mut routes = Self::alike(links, &low_delays, without_client);
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
            routes.find_detours(observations);
        }
        routes
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
        let mut routes = Self { of_link: vec![0; links.len()], all: Vec::new() };
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
    fn another_pair_and_the_way_back_are_other_routes() {
        check(&[(0, 1, 1_000.0), (0, 2, 1_000.0), (1, 0, 1_000.0)], &[], &[0, 1, 2]);
    }

    #[test]
    fn where_the_client_span_is_missing_both_legs_hold_more_than_the_way() {
        check(&[(0, 1, 1_000.0), (0, 1, 1_000.0)], &[0], &[1, 0]);
    }
}
