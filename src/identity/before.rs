//! What an earlier run found out about keys, for one that goes on from it.
//!
//! In come its clocks and how resources found them, out goes what holds of the resources of a later dump: values that name no
//! machine, keys that several clocks share, and names. So keys become finer from run to run, never coarser: a window with few
//! calls does not merge what an earlier one told apart.

use std::collections::{BTreeMap, BTreeSet};

use super::{Attributes, Finder, Part, Place, chosen, participating, tokens};
use crate::clock::{Clock, ClockId};

/// What is known of resources and clocks beforehand.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Before {
    /// `(attribute, value)` that names no machine, and why.
    pub(super) untrusted: BTreeMap<(String, String), String>,
    /// Per resource of the later dump whose key is known to hide several clocks, what it goes by.
    pub(super) parts: BTreeMap<u32, Part>,
    /// Clocks that nothing tells apart, by rule and key.
    pub(super) left_out: BTreeSet<(String, String)>,
    /// Display names, by rule and key.
    pub(super) names: BTreeMap<(String, String), String>,
}

impl Before {
    /// What the clocks of an earlier run, and its way to find them, say of these resources.
    pub fn of(clocks: &[&Clock], finder: &Finder, resources: &[Attributes], keys: &[String]) -> Self {
        let by_key = |clock: &Clock| (clock.rule.clone(), clock.key.clone());
        let part = |attributes: &Attributes| {
            let known = participating(tokens(attributes, keys, &finder.untrusted)).into_iter();
            known.into_iter().find_map(|token| match finder.places.get(&token)? {
                Place::Clock(_) => None,
                Place::Split { by, clocks: parts } => {
                    let value = chosen(attributes, by)?;
                    Some(match parts.get(&value) {
                        Some(ClockId(known)) => {
                            let Clock { rule, key, name, .. } = clocks.get(*known as usize)?;
                            Part { rule: rule.clone(), key: key.clone(), name: name.clone() }
                        }
                        None => Part::by(by, &token.1, &value),
                    })
                }
            })
        };
        Self {
            untrusted: finder.untrusted.clone(),
            parts: (0..).zip(resources).filter_map(|(resource, own)| Some((resource, part(own)?))).collect(),
            left_out: clocks.iter().filter(|clock| clock.untrusted).map(|clock| by_key(clock)).collect(),
            names: clocks.iter().map(|clock| (by_key(clock), clock.name.clone())).collect(),
        }
    }

    /// What is known of a clock's name, and that its key hides several.
    pub(super) fn tell(&self, clocks: &mut [Clock]) {
        let mut taken: BTreeMap<String, u32> = BTreeMap::new();
        let known = |clock: &Clock| self.names.get(&(clock.rule.clone(), clock.key.clone()));
        for clock in clocks.iter() {
            *taken.entry(known(clock).unwrap_or(&clock.name).clone()).or_default() += 1;
        }
        for clock in clocks {
            clock.untrusted |= self.left_out.contains(&(clock.rule.clone(), clock.key.clone()));
            if let Some(name) = known(clock).filter(|name| taken[*name] == 1) {
                clock.name.clone_from(name);
            }
        }
    }
}

impl Finder {
    /// Which clocks are the same as in an earlier run, own first: those of which all that leads to both leads to no other. What
    /// was told apart since, or found to be one, is another.
    pub fn same(&self, earlier: &Self) -> BTreeMap<ClockId, ClockId> {
        let mut pairs: BTreeSet<(ClockId, ClockId)> = BTreeSet::new();
        for (token, place) in &self.places {
            match (place, earlier.places.get(token)) {
                (Place::Clock(own), Some(Place::Clock(other))) => drop(pairs.insert((*own, *other))),
                (Place::Split { by, clocks }, Some(Place::Split { by: same, clocks: others })) if by == same => {
                    let both = clocks.iter().filter_map(|(value, own)| Some((*own, *others.get(value)?)));
                    pairs.extend(both);
                }
                _ => {}
            }
        }
        let mut counts: BTreeMap<(bool, ClockId), u32> = BTreeMap::new();
        for (own, other) in &pairs {
            *counts.entry((true, *own)).or_default() += 1;
            *counts.entry((false, *other)).or_default() += 1;
        }
        pairs.retain(|(own, other)| counts[&(true, *own)] == 1 && counts[&(false, *other)] == 1);
        pairs.into_iter().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::resource;
    use super::super::{Identity, Remedy, Shared, identify, treat};
    use super::*;

    fn resources(texts: &[&str]) -> Vec<Attributes> {
        texts.iter().map(|text| resource(text)).collect()
    }

    fn before(earlier: &Identity, later: &[Attributes]) -> Before {
        Before::of(&earlier.clocks.iter().collect::<Vec<_>>(), &earlier.finder, later, &[])
    }

    /// The clocks' names by resource, and which clocks are the same as before, by name.
    fn check(earlier: &Identity, later: &[&str], names: &[&str], same: &[(&str, &str)]) {
        let later = resources(later);
        let identity = identify(&later, &[], &before(earlier, &later));
        let name = |identity: &Identity, ClockId(clock): ClockId| identity.clocks[clock as usize].name.clone();
        let found: Vec<String> = identity.of_resource.iter().map(|clock| name(&identity, *clock)).collect();
        assert_eq!(found, names);
        let matched = identity.finder.same(&earlier.finder).into_iter();
        let matched: Vec<(String, String)> =
            matched.map(|(own, other)| (name(&identity, own), name(earlier, other))).collect();
        assert_eq!(matched.iter().map(|(own, other)| (&**own, &**other)).collect::<Vec<_>>(), same);
    }

    fn identity(texts: &[&str]) -> Identity {
        identify(&resources(texts), &[], &Before::default())
    }

    #[test]
    fn a_clock_is_the_same_by_what_leads_to_it() {
        let earlier = identity(&["host.id=1 host.name=a", "host.id=2 host.name=b"]);
        check(&earlier, &["host.name=a", "host.id=2", "host.name=c"], &["a", "b", "c"], &[("b", "b"), ("a", "a")]);
    }

    #[test]
    fn what_names_no_machine_names_none_later() {
        let earlier = identity(&["host.name=gw host.id=1", "host.name=gw host.id=2"]);
        check(&earlier, &["host.name=gw host.id=1 x=1", "host.name=gw"], &["1", "(none)"], &[("1", "1")]);
    }

    /// Two pods under one host's name, of which times told that they are two clocks.
    fn split() -> Identity {
        let known = resources(&["host.name=gw k8s.pod.name=p", "host.name=gw k8s.pod.name=q"]);
        let identity = identify(&known, &[], &Before::default());
        let parts = ["p", "q"].map(|value| Part::by("k8s.pod.name", "gw", value)).to_vec();
        let shared = Shared {
            attribute: "host.name".into(),
            value: "gw".into(),
            processes: vec![0, 1],
            apart: Vec::new(),
            mixed: Vec::new(),
            remedy: Remedy::Split { key: "k8s.pod.name", parts },
        };
        treat(&known, &identity, &[], &[shared], &Before::default())
    }

    #[test]
    fn what_was_told_apart_stays_apart() {
        let [p, q] = ["gw (k8s.pod.name=p)", "gw (k8s.pod.name=q)"];
        check(&split(), &["host.name=gw k8s.pod.name=q"], &[q], &[(q, q)]);
        let r = "gw (k8s.pod.name=r)";
        check(&split(), &["host.name=gw k8s.pod.name=r", "host.name=gw k8s.pod.name=p"], &[r, p], &[(p, p)]);
        // What nothing tells apart is none of them.
        check(&split(), &["host.name=gw"], &["gw"], &[]);
    }

    #[test]
    fn what_was_left_out_is_left_out() {
        let mut earlier = identity(&["host.name=gw", "host.name=a"]);
        earlier.clocks[1].untrusted = true;
        let later = resources(&["host.name=gw", "host.name=a"]);
        let identity = identify(&later, &[], &before(&earlier, &later));
        assert_eq!(identity.clocks.iter().map(|clock| clock.untrusted).collect::<Vec<_>>(), [false, true]);
    }
}
