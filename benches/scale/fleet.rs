//! A fleet's exchanges, straight from its clocks: links of 0.16 to 8 ms, each longer one way.

use rand::{RngExt, SeedableRng};
use rand_distr::{Distribution, Exp1, StandardNormal};
use rand_pcg::Pcg64Mcg;
use unskew::clock::{CallClass, ClockId, ClockMap, ClockModel, Exchange, Knot, Link, LocalTime, Use};
use unskew::estimate::Evidence;

/// ESTIMATOR.md, fact 12: 88,000 links of 10,000 clocks.
const LINKS_PER_CLOCK: f64 = 8.8;
const EPOCH: i64 = 1_700_000_000_000_000_000;

#[derive(Clone, Copy, Default)]
pub struct Clock {
    pub offset_ns: f64,
    pub ppm: f64,
    /// When it steps, in seconds, and by how much, ns.
    pub step: (f64, f64),
}

impl Clock {
    pub fn off(&self, at_s: f64) -> f64 {
        let (when, by) = self.step;
        self.offset_ns + self.ppm * 1e3 * at_s + if at_s >= when { by } else { 0.0 }
    }

    pub fn reads(&self, at_s: f64) -> LocalTime {
        LocalTime::from_nanos(EPOCH + (at_s * 1e9) as i64 + self.off(at_s) as i64)
    }

    /// When it reads a time, in seconds, if it is that far off then.
    pub fn read(local: LocalTime, offset_ns: i64) -> f64 {
        (local.nanos() - EPOCH - offset_ns) as f64 / 1e9
    }
}

pub struct Fleet {
    /// The first is right.
    pub clocks: Vec<Clock>,
    /// Client and server, in order.
    pub links: Vec<(usize, usize)>,
    pub seconds: f64,
    pub calls_per_second: f64,
    /// By up to this part of itself a link is longer one way, and shorter the other.
    pub asymmetry: f64,
    dice: Pcg64Mcg,
}

impl Fleet {
    pub fn new(clocks: usize, seconds: f64, calls_per_second: f64) -> Self {
        let mut dice = Pcg64Mcg::seed_from_u64(clocks as u64);
        let normal = |dice: &mut Pcg64Mcg| -> f64 { StandardNormal.sample(dice) };
        let off = |clock: usize, dice: &mut Pcg64Mcg| match clock {
            0 => Clock::default(),
            _ => Clock { offset_ns: 5e6 * normal(dice), ppm: 15.0 * normal(dice), ..Clock::default() },
        };
        let all = (0..clocks).map(|clock| off(clock, &mut dice)).collect();
        let mut links = Vec::new();
        for link in 0..(LINKS_PER_CLOCK * clocks as f64) as usize {
            // Every clock is reached by one of those before it.
            let (servers, clients) =
                if link + 1 < clocks { (link + 1..link + 2, 0..link + 1) } else { (1..clocks, 0..clocks) };
            let (server, client) = (dice.random_range(servers), dice.random_range(clients));
            if client != server {
                links.push((client, server));
            }
        }
        links.sort_unstable();
        links.dedup();
        Self { clocks: all, links, seconds, calls_per_second, asymmetry: 0.3, dice }
    }

    /// What the calls of some of its links prove.
    pub fn evidence(&mut self, links: std::ops::Range<usize>) -> Evidence {
        let exchanges: Vec<Exchange> = links.flat_map(|link| self.calls(self.links[link])).collect();
        let keys = (0..self.clocks.len()).map(|clock| format!("{clock:06}")).collect();
        let class = CallClass { client_service: "a".into(), server_service: "b".into(), protocol: "http".into() };
        Evidence::of(keys, vec![class], &exchanges)
    }

    fn calls(&mut self, (client, server): (usize, usize)) -> Vec<Exchange> {
        let (dice, clocks) = (&mut self.dice, &self.clocks);
        let base = 0.16e-3 * 50f64.powf(dice.random());
        let asymmetry = self.asymmetry * dice.random_range(-1.0..1.0);
        let every = 1.0 / self.calls_per_second;
        let call = |call: usize| {
            let sent = (call as f64 + dice.random::<f64>()) * every;
            let mut leg = |share: f64| -> f64 {
                let queue: f64 = Exp1.sample(dice);
                base * (share + 0.5 * queue)
            };
            let received = sent + leg(1.0 + asymmetry);
            let responded = received + 2e-3;
            let returned = responded + leg(1.0 - asymmetry);
            Exchange {
                id: dice.random(),
                link: Link { client: ClockId(client as u32), server: ClockId(server as u32), class: 0 },
                request_sent: clocks[client].reads(sent),
                request_received: clocks[server].reads(received),
                response_sent: clocks[server].reads(responded),
                response_received: clocks[client].reads(returned),
                client_quantum_ns: 1,
                server_quantum_ns: 1,
                counts: Use::TwoSided,
            }
        };
        (0..(self.seconds * self.calls_per_second) as usize).map(call).collect()
    }

    /// The first and last time that its clocks read.
    pub fn reach(&self) -> Vec<Option<(LocalTime, LocalTime)>> {
        self.clocks.iter().map(|clock| Some((clock.reads(0.0), clock.reads(self.seconds)))).collect()
    }

    /// By how much a model is wrong at its knots, ns, sorted.
    pub fn errors(&self, map: &ClockMap) -> Vec<f64> {
        let of_clock = |(clock, model): (&Clock, &ClockModel)| -> Vec<f64> {
            let knots = model.segments.iter().flat_map(|segment| &segment.knots);
            let error =
                |knot: &Knot| (knot.offset_ns as f64 - clock.off(Clock::read(knot.local, knot.offset_ns))).abs();
            knots.map(error).collect()
        };
        let mut errors: Vec<f64> = self.clocks.iter().zip(&map.models).flat_map(of_clock).collect();
        errors.sort_unstable_by(f64::total_cmp);
        errors
    }
}
