//! One resource → its clock, by what is known of others.
//!
//! The rules are those by which a whole dump is told apart, and a resource of that dump finds the clock that it was given.
//! One that was never seen finds a clock where all that it shares with known ones leads to that clock alone: what would
//! make one clock of two finds none, and so does what contradicts what is known of a machine.

use std::collections::{BTreeMap, BTreeSet};

use super::{Attributes, Part, chosen, is_browser, participating, tokens, witnesses};
use crate::clock::ClockId;

/// How a resource finds its clock.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Finder {
    /// The user's own keys, which go before every rule.
    pub keys: Vec<String>,
    /// `(attribute, value)` that names no machine, and why.
    pub untrusted: BTreeMap<(String, String), String>,
    /// What a machine's `(attribute, value)` came with, by attribute.
    pub witnessed: BTreeMap<(String, String), BTreeMap<String, String>>,
    /// Where `(rule, value)` leads.
    pub places: BTreeMap<(String, String), Place>,
}

/// Where a rule's value leads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    Clock(ClockId),
    /// Several clocks share it; this attribute or template tells them apart.
    Split {
        by: String,
        clocks: BTreeMap<String, ClockId>,
    },
}

impl Finder {
    /// Knows the resources of a dump, of which `parts` are known by something else than the rules say.
    pub(super) fn of(
        (resources, clocks): (&[Attributes], &[ClockId]),
        keys: &[String],
        parts: &BTreeMap<u32, Part>,
        untrusted: BTreeMap<(String, String), String>,
    ) -> Self {
        let mut finder = Self { keys: keys.to_vec(), untrusted, ..Self::default() };
        for (index, (resource, clock)) in (0u32..).zip(resources.iter().zip(clocks)) {
            for token in participating(tokens(resource, keys, &finder.untrusted)) {
                match parts.get(&index) {
                    None => drop(finder.places.insert(token, Place::Clock(*clock))),
                    Some(part) => finder.split(token, resource, &part.rule, *clock),
                }
            }
            for (attribute, value, witness, seen) in witnesses(resource).filter(|_| !is_browser(resource)) {
                if !finder.untrusted.contains_key(&(attribute.to_owned(), value.to_owned())) {
                    let with = finder.witnessed.entry((attribute.to_owned(), value.to_owned())).or_default();
                    with.insert(witness.to_owned(), seen.to_owned());
                }
            }
        }
        finder
    }

    fn split(&mut self, token: (String, String), resource: &Attributes, by: &str, clock: ClockId) {
        let nothing = Place::Split { by: by.to_owned(), clocks: BTreeMap::new() };
        let place = self.places.entry(token).or_insert(nothing);
        // A part that is told apart once more is found by no place.
        if let (Place::Split { by: known, clocks }, Some(value)) = (place, chosen(resource, by))
            && known == by
        {
            clocks.insert(value, clock);
        }
    }

    /// The clock of a resource; `None` where nothing leads to one, or to more than one.
    pub fn clock_of(&self, resource: &Attributes) -> Option<ClockId> {
        let tokens = participating(tokens(resource, &self.keys, &self.untrusted));
        let is_elsewhere = |rule: &str| {
            !is_browser(resource)
                && witnesses(resource).any(|(attribute, value, witness, seen)| {
                    let known = self.witnessed.get(&(attribute.to_owned(), value.to_owned()));
                    attribute == rule && known.and_then(|with| with.get(witness)).is_some_and(|known| known != seen)
                })
        };
        let mut found: BTreeSet<ClockId> = BTreeSet::new();
        for token in tokens.into_iter().filter(|(rule, _)| !is_elsewhere(rule)) {
            match self.places.get(&token) {
                Some(Place::Clock(clock)) => drop(found.insert(*clock)),
                Some(Place::Split { by, clocks }) => {
                    found.extend(chosen(resource, by).and_then(|value| clocks.get(&value)));
                }
                None => {}
            }
        }
        found.pop_first().filter(|_| found.is_empty())
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::resource;
    use super::super::{Before, Identity, identify};
    use super::*;

    fn identity(resources: &[&str], keys: &[&str]) -> (Vec<Attributes>, Identity) {
        let resources: Vec<_> = resources.iter().map(|text| resource(text)).collect();
        let keys: Vec<String> = keys.iter().map(|&key| key.to_owned()).collect();
        let identity = identify(&resources, &keys, &Before::default());
        (resources, identity)
    }

    /// What a new resource finds, where these are known.
    fn check(known: &[&str], new: &str, expected: Option<&str>) {
        let (_, identity) = identity(known, &[]);
        let found = identity.finder.clock_of(&resource(new));
        assert_eq!(found.map(|ClockId(clock)| identity.clocks[clock as usize].name.as_str()), expected, "{new}");
    }

    #[test]
    fn a_process_that_starts_again_finds_its_hosts_clock() {
        let known = ["host.name=a service.instance.id=1", "host.name=b service.instance.id=2"];
        check(&known, "host.name=a service.instance.id=3", Some("a"));
        check(&known, "host.name=c service.instance.id=1", None);
        check(&["k8s.node.name=n1 host.name=pod-a"], "k8s.node.name=n1 host.name=pod-b", Some("pod-a"));
    }

    #[test]
    fn what_would_make_one_clock_of_two_finds_none() {
        let known = ["host.id=1 x=y", "host.name=a"];
        check(&known, "host.id=1", Some("1"));
        check(&known, "host.id=1 host.name=a", None);
    }

    #[test]
    fn another_machine_under_a_known_name_is_not_the_known_one() {
        check(&["host.id=1 host.name=a"], "host.id=2 host.name=a", None);
        check(&["host.id=1 host.name=a"], "host.name=a", Some("a"));
        check(&["host.name=gw k8s.pod.uid=p"], "host.name=gw k8s.pod.uid=q", None);
        check(
            &["host.name=gw k8s.node.name=n k8s.pod.uid=p"],
            "host.name=gw k8s.node.name=n k8s.pod.uid=q",
            Some("gw"),
        );
    }

    #[test]
    fn a_value_that_is_no_key_finds_nothing() {
        let known = ["host.name=gw k8s.node.name=n1", "host.name=gw k8s.node.name=n2"];
        check(&known, "host.name=gw k8s.node.name=n2", Some("n2"));
        check(&known, "host.name=gw", None);
        check(&known, "host.name=localhost", None);
    }

    #[test]
    fn the_users_key_finds_what_it_named() {
        let (_, identity) = identity(&["a=1 b=2 host.name=h", "a=1 b=3 host.name=h"], &["{a}/{b}"]);
        let find = |text| identity.finder.clock_of(&resource(text)).map(|ClockId(clock)| clock);
        assert_eq!([find("a=1 b=3 host.name=g"), find("a=1 b=4"), find("a=1 b=2")], [Some(1), None, Some(0)]);
    }

    proptest::proptest! {
        /// By whatever attributes, each resource of a dump finds the clock that it was given.
        #[test]
        fn a_known_resource_finds_its_own_clock(
            drawn in proptest::collection::vec(proptest::collection::vec((0usize..9, 0u8..4), 0..5), 1..12),
            user in proptest::bool::ANY,
        ) {
            const NAMES: [&str; 9] = ["k8s.node.name", "host.id", "host.name", "host.ip", "container.id", "k8s.pod.uid",
                "service.instance.id", "service.name", "ip"];
            let text = |pairs: &Vec<(usize, u8)>| {
                let pairs = pairs.iter().map(|(name, value)| format!("{}={value}a", NAMES[*name]));
                pairs.collect::<Vec<_>>().join(" ")
            };
            let texts: Vec<String> = drawn.iter().map(text).collect();
            let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
            let (resources, identity) = identity(&texts, if user { &["host.ip"] } else { &[] });
            for (resource, clock) in resources.iter().zip(&identity.of_resource) {
                proptest::prop_assert_eq!(identity.finder.clock_of(resource), Some(*clock), "{:?}", resource);
            }
        }
    }
}
