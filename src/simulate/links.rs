//! How long a message takes from one host to another.

use super::dice::Dice;
use super::fleet::HostId;
use super::scenario::Links;
use crate::clock::ReferenceTime;

/// Calls of one client host to one server host.
#[derive(Clone, Copy, Debug)]
pub(super) struct Link {
    pub base_ns: f64,
    /// Positive: the request leg is the longer one. Request = base × (1 + a), response = base × (1 − a).
    pub asymmetry: f64,
    congested_ns: f64,
}

/// A delay that someone added to one direction of a link for a while.
#[derive(Clone, Copy, Debug)]
pub(super) struct Injection {
    pub client: HostId,
    pub server: HostId,
    pub from: ReferenceTime,
    pub until: ReferenceTime,
    pub delay_ns: f64,
    /// On the request leg; otherwise on the response leg.
    pub on_request: bool,
}

/// The two legs of one call, in ns.
#[derive(Clone, Copy, Debug)]
pub(super) struct Legs {
    pub request_ns: i64,
    pub response_ns: i64,
}

impl Link {
    pub fn drawn(links: &Links, with_reference: bool, dice: &mut Dice) -> Self {
        let elsewhere = links.reference_ms.filter(|_| with_reference);
        let base_ns = dice.log_between(elsewhere.unwrap_or(links.one_way_ms)) * 1e6;
        let asymmetry = dice.between([-links.asymmetry, links.asymmetry]);
        let congested_ns = match links.congested {
            Some(congested) if dice.chance(congested.share) => congested.mean_ms * 1e6,
            _ => 0.0,
        };
        Self { base_ns, asymmetry, congested_ns }
    }

    pub fn legs(&self, links: &Links, dice: &mut Dice) -> Legs {
        let wait =
            |dice: &mut Dice| dice.exponential(self.base_ns * links.jitter) + dice.exponential(1.0) * self.congested_ns;
        let mut request_ns = self.base_ns * (1.0 + self.asymmetry) + wait(dice);
        let mut response_ns = self.base_ns * (1.0 - self.asymmetry) + wait(dice);
        if dice.chance(links.set_up) {
            request_ns += self.base_ns * dice.between(links.set_up_bases);
        }
        if dice.chance(links.spikes) {
            let spike_ns = dice.exponential(links.spike_ms * 1e6);
            *(if dice.chance(0.5) { &mut request_ns } else { &mut response_ns }) += spike_ns;
        }
        Legs { request_ns: request_ns as i64, response_ns: response_ns as i64 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_shortest_legs_are_base_and_asymmetry() {
        let links = Links::default();
        let link = Link { base_ns: 1e6, asymmetry: 0.3, congested_ns: 0.0 };
        let mut dice = Dice::new(1, "legs", 0);
        let legs: Vec<Legs> = (0..20_000).map(|_| link.legs(&links, &mut dice)).collect();
        let least = |leg: fn(&Legs) -> i64| legs.iter().map(leg).min().unwrap();
        assert!((1_300_000..1_301_000).contains(&least(|legs| legs.request_ns)));
        assert!((700_000..701_000).contains(&least(|legs| legs.response_ns)));
        let mean = legs.iter().map(|legs| legs.response_ns as f64).sum::<f64>() / legs.len() as f64;
        // 0.7 ms, 0.5 ms of jitter, and a spike of 50 ms on one call in a hundred.
        assert!((1.6e6..1.8e6).contains(&mean), "{mean}");
    }

    #[test]
    fn asymmetry_and_base_keep_to_their_ranges() {
        let links = Links { reference_ms: Some([20.0, 40.0]), ..Links::default() };
        for index in 0..1_000 {
            let [link, far] = [false, true]
                .map(|with_reference| Link::drawn(&links, with_reference, &mut Dice::new(1, "link", index)));
            assert!((160_000.0..=8_000_000.0).contains(&link.base_ns) && link.asymmetry.abs() <= 0.3);
            assert!((20e6..=40e6).contains(&far.base_ns) && far.asymmetry == link.asymmetry);
        }
    }
}
