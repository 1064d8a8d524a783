//! Calls and attributes → keys that hide several clocks, and what to do about each.
//!
//! In come resources, the identity made of them and calls between processes; out goes a diagnosis per clock that
//! cannot be one, and an identity in which its parts are clocks of their own. Assumed: an attribute whose values are on
//! one clock each wherever that can be told is so elsewhere. Never against a key that the user gave.

use std::collections::{BTreeMap, BTreeSet};

use super::apart::{Distance, Told, apart};
use super::mixed::Mixed;
use super::sights::Call;
use super::{Attributes, Before, Identity, PER_TRACE, Part, RULES, Rule, chosen, get, identified, is_junk};
use crate::clock::ClockId;

/// Attributes that may tell the clocks behind one key apart, the coarsest first: the first that does is used, as too
/// fine a key costs statistics. As `--clock-key` takes them.
const FINER: [&str; 13] = [
    "k8s.node.name",
    "host.id",
    "host.name",
    "host.ip",
    "ip",
    "k8s.pod.uid",
    "k8s.pod.name",
    // A pod's name is one pod's in its namespace alone.
    "{k8s.namespace.name}/{k8s.pod.name}",
    "container.id",
    "service.instance.id",
    "{service.name}/{process.pid}",
    "process.pid",
    "service.name",
];

/// One key, several clocks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shared {
    /// What made one clock of them, and its value.
    pub attribute: String,
    pub value: String,
    /// Its processes, by distinct resource.
    pub processes: Vec<u32>,
    /// Two of them that cannot be on one clock, surest first.
    pub apart: Vec<Distance>,
    /// Those that are two clocks by themselves.
    pub mixed: Vec<Mixed>,
    pub remedy: Remedy,
}

/// What was done about it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Remedy {
    /// Each part is a clock; `key` tells them apart.
    Split { key: &'static str, parts: Vec<Part> },
    /// Nothing tells them apart: evidence of no clock.
    LeftOut,
    /// The key is the user's: told, and used all the same. `key` would tell them apart.
    Told { key: Option<&'static str> },
}

/// Finds the clocks that cannot be one. `keys` is the user's own choice.
pub fn examine(resources: &[Attributes], identity: &Identity, keys: &[String], calls: &[Call]) -> Vec<Shared> {
    let Told { distances, mixed } = apart(calls, &identity.of_resource);
    let clock_of = |process: u32| identity.of_resource[process as usize];
    let mut found: BTreeMap<ClockId, (Vec<Distance>, Vec<Mixed>)> = BTreeMap::new();
    distances.into_iter().for_each(|it| found.entry(clock_of(it.one)).or_default().0.push(it));
    mixed.into_iter().for_each(|it| found.entry(clock_of(it.process)).or_default().1.push(it));
    found.retain(|_, (distances, mixed)| !mixed.is_empty() || distances.iter().any(Distance::is_apart));

    let diagnosis = |(clock, (distances, mixed)): (ClockId, (Vec<Distance>, Vec<Mixed>))| {
        let known = &identity.clocks[clock.0 as usize];
        let of_clock = |process: &u32| clock_of(*process) == clock;
        let processes: Vec<u32> = (0..resources.len() as u32).filter(of_clock).collect();
        let split = if mixed.is_empty() { split(resources, &processes, &known.name, &distances) } else { None };
        let remedy = match split {
            split if keys.contains(&known.rule) => Remedy::Told { key: split.map(|(key, _)| key) },
            Some((key, parts)) => Remedy::Split { key, parts },
            None => Remedy::LeftOut,
        };
        let mut apart: Vec<Distance> = distances.into_iter().filter(Distance::is_apart).collect();
        apart.sort_by_key(|it| (std::cmp::Reverse(it.calls), it.one, it.other));
        let (attribute, value) = common(resources, &processes)
            .filter(|_| !keys.contains(&known.rule))
            .unwrap_or_else(|| (known.rule.clone(), known.key.clone()));
        Shared { attribute, value, processes, apart, mixed, remedy }
    };
    // A clock that is not trusted as it is decides nothing.
    let trusted = |(clock, _): &(ClockId, _)| {
        let known = &identity.clocks[clock.0 as usize];
        !known.untrusted && known.rule != PER_TRACE
    };
    found.into_iter().filter(trusted).map(diagnosis).collect()
}

/// The identity with the parts of what was split as clocks of their own, and what cannot be split not trusted.
pub fn treat(
    resources: &[Attributes],
    identity: &Identity,
    keys: &[String],
    found: &[Shared],
    before: &Before,
) -> Identity {
    let mut parts: BTreeMap<u32, Part> = before.parts.clone();
    for shared in found {
        if let Remedy::Split { parts: own, .. } = &shared.remedy {
            parts.extend(shared.processes.iter().copied().zip(own.iter().cloned()));
        }
    }
    let mut treated =
        if parts == before.parts { identity.clone() } else { identified(resources, keys, &parts, before) };
    for shared in found.iter().filter(|shared| shared.remedy == Remedy::LeftOut) {
        for &process in &shared.processes {
            let ClockId(clock) = treated.of_resource[process as usize];
            treated.clocks[clock as usize].untrusted = true;
        }
    }
    treated
}

/// The attribute for which processes were taken to be on one machine.
fn common(resources: &[Attributes], processes: &[u32]) -> Option<(String, String)> {
    let of = |process: &u32, rule: &Rule| get(&resources[*process as usize], rule.name).map(str::to_owned);
    RULES.iter().filter(|rule| rule.merges).find_map(|rule| {
        let value = of(processes.first()?, rule)?;
        let all = processes.iter().all(|process| of(process, rule).as_ref() == Some(&value));
        all.then(|| (rule.name.to_owned(), value))
    })
}

/// The coarsest attribute whose values are on one clock each, and each process' part by it.
fn split(
    resources: &[Attributes],
    processes: &[u32],
    name: &str,
    distances: &[Distance],
) -> Option<(&'static str, Vec<Part>)> {
    let cluster = clusters(processes, distances);
    FINER.iter().find_map(|&finer| {
        let values: Option<Vec<String>> = processes
            .iter()
            .map(|&process| chosen(&resources[process as usize], finer).filter(|value| !is_junk(value)))
            .collect();
        let values = values?;
        // Processes under one value belong together, and so do all that agree with any of them.
        let mut cluster_of: BTreeMap<&str, u32> = BTreeMap::new();
        for (value, process) in values.iter().zip(processes) {
            let Some(&own) = cluster.get(process) else { continue };
            if *cluster_of.entry(value).or_insert(own) != own {
                return None;
            }
        }
        let mut first: BTreeMap<u32, &str> = BTreeMap::new();
        for (value, cluster) in &cluster_of {
            first.entry(*cluster).or_insert(value);
        }
        let part = |value: &String| {
            let value = cluster_of.get(value.as_str()).map_or(value.as_str(), |cluster| first[cluster]);
            Part::by(finer, name, value)
        };
        Some((finer, values.iter().map(part).collect()))
    })
}

/// Processes that were compared with any other, by the first process on the same clock. Two join where they are surely
/// nearer to each other than half of what parts any two: one seen through a slow link may be on any clock, and joins none.
/// (At the whole of it, two clocks 6 ms apart were joined amid hostile calls.)
fn clusters(processes: &[u32], distances: &[Distance]) -> BTreeMap<u32, u32> {
    let compared: BTreeSet<u32> = distances.iter().flat_map(|it| [it.one, it.other]).collect();
    let mut of: BTreeMap<u32, u32> =
        processes.iter().filter(|process| compared.contains(process)).map(|&process| (process, process)).collect();
    let apart: BTreeSet<(u32, u32)> =
        distances.iter().filter(|it| it.is_apart()).flat_map(|it| [(it.one, it.other), (it.other, it.one)]).collect();
    let least = distances.iter().filter(|it| it.is_apart()).map(Distance::least_ns).min().unwrap_or(0);
    let mut agreeing: Vec<&Distance> =
        distances.iter().filter(|it| !it.is_apart() && it.most_ns() < least / 2).collect();
    agreeing.sort_by_key(|it| (it.most_ns(), it.one, it.other));
    for it in agreeing {
        let (left, right) = (of[&it.one], of[&it.other]);
        let members = |cluster: u32| of.iter().filter(move |(_, own)| **own == cluster).map(|(process, _)| *process);
        let part = members(left).any(|one| members(right).any(|other| apart.contains(&(one, other))));
        if left != right && !part {
            let (keep, gone) = (left.min(right), left.max(right));
            of.values_mut().filter(|cluster| **cluster == gone).for_each(|cluster| *cluster = keep);
        }
    }
    of
}

#[cfg(test)]
mod tests {
    use super::super::sights::made::{MS, calls};
    use super::super::{identify, tests::resource};
    use super::*;

    const RIGHT: fn(i64, i64) -> i64 = |_, _| 0;
    const AHEAD: fn(i64, i64) -> i64 = |_, _| 30 * MS;
    const BEHIND: fn(i64, i64) -> i64 = |_, _| -30 * MS;

    /// The first resource calls the others, whose clocks are as given. Gives names, in order of resource, and the remedy.
    fn treated(
        resources: &[&str],
        clocks: &[fn(i64, i64) -> i64],
        keys: &[&str],
    ) -> (Vec<String>, Identity, Vec<Shared>) {
        let resources: Vec<Attributes> = resources.iter().map(|text| resource(text)).collect();
        let keys: Vec<String> = keys.iter().map(|&key| key.to_owned()).collect();
        let identity = identify(&resources, &keys, &Before::default());
        let of = |(place, clock): (u32, &fn(i64, i64) -> i64)| calls((0, RIGHT), (place, *clock), (MS, MS));
        let calls: Vec<Call> = (1..).zip(clocks).flat_map(of).collect();
        let found = examine(&resources, &identity, &keys, &calls);
        let treated = treat(&resources, &identity, &keys, &found, &Before::default());
        let name = |clock: &ClockId| treated.clocks[clock.0 as usize].name.clone();
        (treated.of_resource.iter().map(name).collect(), treated, found)
    }

    #[test]
    fn the_coarsest_attribute_that_tells_the_clocks_apart_splits_them() {
        let app = ["host.name=gw", "host.name=app ip=1 container.id=a", "host.name=app ip=1 container.id=b"];
        let more = ["host.name=app ip=2 container.id=c", "host.name=app ip=2 container.id=d"];
        let (names, ..) = treated(&[&app[..], &more].concat(), &[AHEAD, AHEAD, RIGHT, RIGHT], &[]);
        assert_eq!(names, ["gw", "app (ip=1)", "app (ip=1)", "app (ip=2)", "app (ip=2)"]);
        // Where each address has both, it does not.
        let (names, identity, _) = treated(&[&app[..], &more].concat(), &[AHEAD, RIGHT, RIGHT, AHEAD], &[]);
        let (one, other) = ("app (container.id=a)", "app (container.id=b)");
        assert_eq!(names, ["gw", one, other, other, one]);
        assert_eq!(identity.clocks[identity.of_resource[1].0 as usize].key, "app/a");
    }

    #[test]
    fn a_pods_name_is_one_pods_in_its_namespace() {
        let pods =
            ["shop", "bank"].map(|namespace| format!("host.name=gw k8s.pod.name=db-0 k8s.namespace.name={namespace}"));
        let resources = ["host.name=api", &pods[0], &pods[1]];
        let (names, ..) = treated(&resources, &[AHEAD, BEHIND], &[]);
        assert_eq!(names, ["api", "gw (shop/db-0)", "gw (bank/db-0)"]);
        // With one pod of that name, the name will do.
        let (names, ..) =
            treated(&[resources[0], resources[1], "host.name=gw k8s.pod.name=db-1"], &[AHEAD, BEHIND], &[]);
        assert_eq!(names, ["api", "gw (k8s.pod.name=db-0)", "gw (k8s.pod.name=db-1)"]);
    }

    #[test]
    fn processes_that_nobody_calls_go_by_their_attribute() {
        let resources = ["host.name=gw", "host.name=app ip=1", "host.name=app ip=2", "host.name=app ip=2 x=y"];
        let (names, ..) = treated(&resources, &[AHEAD, BEHIND], &[]);
        assert_eq!(names, ["gw", "app (ip=1)", "app (ip=2)", "app (ip=2)"]);
    }

    #[test]
    fn an_attribute_that_some_lack_splits_nothing() {
        let resources = ["host.name=gw", "host.name=app ip=1", "host.name=app x=y"];
        let (names, identity, found) = treated(&resources, &[AHEAD, BEHIND], &[]);
        assert_eq!((&names[1], &names[2]), (&"app".to_owned(), &"app".to_owned()));
        assert!(identity.clocks[identity.of_resource[1].0 as usize].untrusted);
        assert_eq!(found[0].remedy, Remedy::LeftOut);
    }

    #[test]
    fn the_users_key_stays() {
        let resources = ["host.name=gw", "host.name=app ip=1", "host.name=app ip=2"];
        let (names, identity, found) = treated(&resources, &[AHEAD, BEHIND], &["host.name"]);
        assert_eq!(names, ["gw", "app", "app"]);
        assert!(identity.clocks.iter().all(|clock| !clock.untrusted));
        assert_eq!(found[0].remedy, Remedy::Told { key: Some("ip") });
    }

    #[test]
    fn one_clock_is_left_as_it_is() {
        let resources = ["host.name=gw", "host.name=app ip=1", "host.name=app ip=2"];
        let (names, _, found) = treated(&resources, &[AHEAD, AHEAD], &[]);
        assert_eq!((names[1].as_str(), names[2].as_str()), ("app", "app"));
        assert_eq!(found, []);
    }
}
