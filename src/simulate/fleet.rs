//! Who there is: services, hosts, their clocks and SDKs, and who calls whom.

use super::clocks::{Clock, Life, Trouble};
use super::dice::Dice;
use super::links::{Injection, Link};
use super::scenario::{Links, Scenario};
use super::sdk::Habit;
use crate::clock::ReferenceTime;

pub(super) type HostId = usize;

pub(super) struct Fleet {
    pub services: Vec<Service>,
    pub hosts: Vec<Host>,
    pub life: Life,
    seed: u64,
    links: Links,
    injections: Vec<Injection>,
}

pub(super) struct Service {
    pub name: String,
    /// Services it may call.
    pub calls: Vec<usize>,
    pub slots: Vec<Slot>,
}

/// A place in a service, held by one host after another.
pub(super) struct Slot {
    hosts: Vec<HostId>,
    /// When each but the first takes over.
    changes: Vec<ReferenceTime>,
}

pub(super) struct Host {
    pub name: String,
    pub service: usize,
    pub clock: Clock,
    pub habit: Habit,
    /// `service.instance.id`.
    pub instance: u128,
}

/// The root service, which is alone on the reference.
pub(super) const ROOT: usize = 0;
/// The reference.
pub(super) const REFERENCE: HostId = 0;

impl Fleet {
    pub fn new(scenario: &Scenario) -> Self {
        let begin = ReferenceTime::from_nanos(scenario.start_unix_nano);
        let life = Life { from: begin, until: begin.plus((scenario.duration_s * 1e9) as i64) };
        let seed = scenario.seed;
        let mut fleet = Self {
            services: services(scenario.service_count(), &mut Dice::new(seed, "services", 0)),
            hosts: Vec::new(),
            life,
            seed,
            links: scenario.links.clone(),
            injections: Vec::new(),
        };
        fleet.settle(scenario);
        fleet.injections = fleet.drawn_injections(scenario);
        fleet
    }

    /// Who serves at an instant, in one of a service's places.
    pub fn host(&self, service: usize, slot: usize, at: ReferenceTime) -> HostId {
        let slot = &self.services[service].slots[slot];
        slot.hosts[slot.changes.partition_point(|change| *change <= at)]
    }

    pub fn link(&self, client: HostId, server: HostId) -> Link {
        let index = (client as u64) << 32 | server as u64;
        let with_reference = client == REFERENCE || server == REFERENCE;
        Link::drawn(&self.links, with_reference, &mut Dice::new(self.seed, "link", index))
    }

    pub fn injections_on(&self, client: HostId, server: HostId) -> impl Iterator<Item = &Injection> {
        self.injections.iter().filter(move |injection| (injection.client, injection.server) == (client, server))
    }

    /// Puts hosts into the services' places.
    fn settle(&mut self, scenario: &Scenario) {
        self.hosts.push(Host {
            name: scenario.fleet.reference.clone(),
            service: ROOT,
            clock: Clock::perfect(),
            habit: Habit::Plain,
            instance: self.instance(0),
        });
        self.services[ROOT].slots.push(Slot { hosts: vec![REFERENCE], changes: Vec::new() });

        let places = places(scenario, &mut Dice::new(self.seed, "places", 0));
        let habits = habits(scenario, places.len(), &mut Dice::new(self.seed, "habits", 0));
        let chosen = |share: Option<f64>, purpose| {
            chosen(share.unwrap_or(0.0), places.len(), &mut Dice::new(self.seed, purpose, 0))
        };
        let slews = chosen(scenario.clocks.slews.map(|slews| slews.share), "slews");
        let steps = chosen(scenario.clocks.steps.map(|steps| steps.share), "steps");
        let replaced = chosen(scenario.fleet.replaced.map(|replaced| replaced.share), "replaced");

        for (place, &service) in places.iter().enumerate() {
            let changes = match scenario.fleet.replaced {
                Some(plan) if replaced[place] => {
                    let every_ns = (plan.every_s * 1e9) as i64;
                    let phase = Dice::new(self.seed, "phase", place as u64).unit();
                    let first = self.life.from.plus((every_ns as f64 * phase) as i64);
                    (0..).map(|n| first.plus(n * every_ns)).take_while(|change| *change < self.life.until).collect()
                }
                _ => Vec::new(),
            };
            let trouble = Trouble { slews: slews[place], steps: steps[place] };
            let slot = self.services[service].slots.len() + 1;
            let name = format!("{}-{slot}", self.services[service].name);
            let hosts = (0..=changes.len())
                .map(|turn| {
                    let from = if turn == 0 { self.life.from } else { changes[turn - 1] };
                    let until = changes.get(turn).copied().unwrap_or(self.life.until);
                    let name = if turn == 0 { name.clone() } else { format!("{name}-r{turn}") };
                    self.add_host(scenario, name, service, habits[place], Life { from, until }, trouble)
                })
                .collect();
            self.services[service].slots.push(Slot { hosts, changes });
        }
    }

    fn add_host(
        &mut self,
        scenario: &Scenario,
        name: String,
        service: usize,
        habit: Habit,
        life: Life,
        trouble: Trouble,
    ) -> HostId {
        let id = self.hosts.len();
        let clock = match scenario.clocks.given.iter().find(|given| given.host == name) {
            Some(given) => Clock::given(given, life),
            None => Clock::drawn(&scenario.clocks, life, trouble, &mut Dice::new(self.seed, "clock", id as u64)),
        };
        self.hosts.push(Host { name, service, clock, habit, instance: self.instance(id) });
        id
    }

    fn instance(&self, host: HostId) -> u128 {
        let mut dice = Dice::new(self.seed, "instance", host as u64);
        u128::from(dice.bits()) << 64 | u128::from(dice.bits())
    }

    /// Delays on links near the root, where there is traffic to notice them.
    fn drawn_injections(&self, scenario: &Scenario) -> Vec<Injection> {
        let Some(plan) = scenario.links.injected else { return Vec::new() };
        let mut dice = Dice::new(self.seed, "injected", 0);
        let callers = std::iter::once(ROOT).chain(self.services[ROOT].calls.iter().copied());
        let hosts = |service: usize| self.services[service].slots.iter().flat_map(|slot| slot.hosts.iter().copied());
        let mut busy: Vec<(HostId, HostId)> = callers
            .flat_map(|caller| self.services[caller].calls.iter().map(move |&callee| (caller, callee)))
            .flat_map(|(caller, callee)| hosts(caller).flat_map(move |c| hosts(callee).map(move |s| (c, s))))
            .collect();
        dice.shuffle(&mut busy);
        busy.truncate(plan.links);
        busy.into_iter()
            .map(|(client, server)| {
                let for_ns = (plan.for_s * 1e9) as i64;
                let room_ns = (self.life.until - self.life.from - for_ns).max(0);
                let from = self.life.from.plus((dice.unit() * room_ns as f64) as i64);
                let delay_ns = dice.between(plan.ms) * 1e6;
                Injection { client, server, from, until: from.plus(for_ns), delay_ns, on_request: dice.chance(0.5) }
            })
            .collect()
    }
}

/// Services without hosts, each able to call one to three others and to be reached from the root.
fn services(count: usize, dice: &mut Dice) -> Vec<Service> {
    let mut calls: Vec<Vec<usize>> = vec![Vec::new(); count];
    for service in 1..count {
        let open: Vec<usize> = (0..service).filter(|&caller| calls[caller].len() < 3).collect();
        calls[open[dice.below(open.len())]].push(service);
    }
    for (service, calls) in calls.iter_mut().enumerate() {
        let wanted = 1 + dice.below(3);
        let mut others: Vec<usize> = (1..count).filter(|other| *other != service && !calls.contains(other)).collect();
        dice.shuffle(&mut others);
        others.truncate(wanted.saturating_sub(calls.len()));
        calls.extend(others);
    }
    let digits = (count - 1).to_string().len().max(2);
    let name = |service| if service == ROOT { "gateway".to_owned() } else { format!("svc{service:0digits$}") };
    calls
        .into_iter()
        .enumerate()
        .map(|(service, calls)| Service { name: name(service), calls, slots: Vec::new() })
        .collect()
}

/// The service of every place off the reference: one to three places for each.
fn places(scenario: &Scenario, dice: &mut Dice) -> Vec<usize> {
    let services = scenario.service_count();
    let mut sizes = vec![1; services];
    for _ in services..scenario.fleet.clocks {
        let open: Vec<usize> = (1..services).filter(|&service| sizes[service] < 3).collect();
        sizes[open[dice.below(open.len())]] += 1;
    }
    (1..services).flat_map(|service| std::iter::repeat_n(service, sizes[service])).collect()
}

fn habits(scenario: &Scenario, places: usize, dice: &mut Dice) -> Vec<Habit> {
    let sdk = &scenario.sdk;
    let mut habits = Vec::with_capacity(places);
    let mut upto = 0.0;
    for (habit, share) in [
        (Habit::MillisecondStarts, sdk.millisecond_starts),
        (Habit::WallClockEnds, sdk.wall_clock_ends),
        (Habit::Anchored, sdk.anchored),
    ] {
        upto += share * places as f64;
        habits.resize((upto.round() as usize).min(places), habit);
    }
    habits.resize(places, Habit::Plain);
    dice.shuffle(&mut habits);
    habits
}

/// A share of the places, rounded to whole ones.
fn chosen(share: f64, places: usize, dice: &mut Dice) -> Vec<bool> {
    let count = (share * places as f64).round() as usize;
    let mut chosen: Vec<bool> = (0..places).map(|place| place < count).collect();
    dice.shuffle(&mut chosen);
    chosen
}
