//! Which spans share a clock, from their resources' attributes.
//!
//! In come the distinct resources of a dump, out goes one clock per resource (or one per trace, for browsers). Too fine
//! a key only costs statistics, too coarse a one mixes clocks; so a value that two machines carry is no key, and
//! resources that share a trusted value are merged. Where times show that one key hides several clocks all the same
//! (`apart`), its parts are told apart by a finer attribute (`doctor`); where several keys go as one clock (`alike`), that
//! is told, and nothing merged.

mod alike;
mod apart;
mod before;
mod doctor;
mod find;
mod mixed;
mod sights;

pub use alike::{Alike, alike};
pub use apart::Distance;
pub use before::Before;
pub use doctor::{Remedy, Shared, examine, treat};
pub use find::{Finder, Place};
pub use mixed::Mixed;
pub use sights::Call;

use std::collections::{BTreeMap, BTreeSet};

use crate::clock::{Clock, ClockId};
use crate::span::TraceId;

/// A resource's attributes, values as text.
pub type Attributes = Vec<(String, String)>;

/// Whose clock stamps the spans of each resource.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Identity {
    /// Sorted by key.
    pub clocks: Vec<Clock>,
    /// Per resource, its clock; one that has a clock per trace stands for all of these.
    pub of_resource: Vec<ClockId>,
    /// How others find their clock among these.
    pub finder: Finder,
    /// Every identity attribute's value, with the clocks that carry it; what `--reference` may name.
    pub values: BTreeMap<String, BTreeSet<ClockId>>,
}

/// How a clock's key is chosen: rules in order of preference, each a list of attributes that must all be there.
pub(crate) struct Rule {
    pub(crate) name: &'static str,
    pub(crate) attributes: &'static [&'static str],
    /// Attributes that set the scope of the value where they are there.
    pub(crate) scope: &'static [&'static str],
    /// Two resources with this value are on one machine.
    pub(crate) merges: bool,
}

const fn rule(name: &'static str, attributes: &'static [&'static str], scope: &'static [&'static str]) -> Rule {
    Rule { name, attributes, scope, merges: false }
}

pub(crate) const RULES: [Rule; 15] = [
    Rule { merges: true, ..rule("k8s.node.uid", &["k8s.node.uid"], &[]) },
    Rule { merges: true, ..rule("k8s.node.name", &["k8s.node.name"], &["k8s.cluster.uid", "k8s.cluster.name"]) },
    Rule { merges: true, ..rule("host.id", &["host.id"], &["cloud.provider", "cloud.account.id"]) },
    rule("faas.instance", &["faas.instance"], &[]),
    Rule { merges: true, ..rule("cloud.resource_id", &["cloud.resource_id"], &[]) },
    rule("k8s.pod.uid", &["k8s.pod.uid"], &[]),
    rule("container.id", &["container.id"], &[]),
    Rule { merges: true, ..rule("host.name", &["host.name"], &[]) },
    rule("device.id", &["device.id"], &[]),
    rule("app.installation.id", &["app.installation.id"], &[]),
    rule("session.id", &["session.id"], &[]),
    rule("service.instance.id", &["service.instance.id"], &["service.namespace", "service.name"]),
    Rule { merges: true, ..rule("ip", &["ip"], &[]) },
    Rule { merges: true, ..rule("hostname", &["hostname"], &[]) },
    rule("service.name", &["service.name"], &["service.namespace"]),
];

/// A value of these attributes that comes with two different values of one of its witnesses names no machine.
const WITNESSES: [(&str, &[&str]); 5] = [
    ("host.id", &["k8s.node.name", "host.name", "host.ip", "cloud.availability_zone"]),
    ("host.name", &["k8s.node.name", "host.id", "host.ip", "cloud.availability_zone"]),
    ("cloud.resource_id", &["k8s.node.name", "host.id", "host.name"]),
    ("ip", &["k8s.node.name", "host.id", "host.name", "hostname"]),
    ("hostname", &["k8s.node.name", "host.id", "ip"]),
];

/// Attributes that are a machine's, or of something whose clock is a machine's; the parts before a dot stand for all below.
const OF_HOSTS: [&str; 9] =
    ["k8s.node.", "host.", "cloud.resource_id", "k8s.pod.", "container.id", "faas.instance", "ip", "hostname", "host"];

/// Whether a key by this rule, or by a template of the user's, is a machine's: somebody looks after its clock.
pub fn is_host(rule: &str) -> bool {
    let mut attributes = rule.split(['{', '}', '+', ' ', '/', ',']);
    attributes.any(|attribute| {
        OF_HOSTS.iter().any(|of_host| attribute == *of_host || of_host.ends_with('.') && attribute.starts_with(of_host))
    })
}

/// Values that many machines carry.
const JUNK: [&str; 8] =
    ["", "localhost", "unknown", "minikube", "docker-desktop", "kind-control-plane", "127.0.0.1", "::1"];

fn get<'a>(attributes: &'a Attributes, key: &str) -> Option<&'a str> {
    // A key given twice: the last one wins.
    attributes.iter().rev().find(|(name, _)| name == key).map(|(_, value)| value.as_str())
}

fn is_junk(value: &str) -> bool {
    JUNK.contains(&value) || value.bytes().all(|byte| matches!(byte, b'0' | b'-'))
}

/// Has a clock of its own for every trace: nothing says which device it is.
fn is_browser(attributes: &Attributes) -> bool {
    get(attributes, "telemetry.sdk.language") == Some("webjs")
        || attributes.iter().any(|(key, _)| key.starts_with("browser."))
}

/// Sandboxes keep a clock of their own on a shared node.
fn is_sandboxed(attributes: &Attributes) -> bool {
    let runtime = get(attributes, "container.runtime").or(get(attributes, "container.runtime.name")).unwrap_or("");
    ["kata", "firecracker", "gvisor", "runsc"].iter().any(|name| runtime.contains(name))
}

/// One clock per resource. `keys` is the user's own choice: comma-separated attributes or templates
/// (`{k8s.cluster.name}/{k8s.node.name}`), tried in order; where none applies the rules do.
pub fn identify(resources: &[Attributes], keys: &[String], before: &Before) -> Identity {
    identified(resources, keys, &before.parts, before)
}

/// What a resource's clock is known by, where the rules' own key hides several clocks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Part {
    pub rule: String,
    pub key: String,
    pub name: String,
}

impl Part {
    /// One of the clocks that share a key: the one with this value of the attribute or template that tells them apart.
    fn by(finer: &str, shared: &str, value: &str) -> Self {
        let label = if finer.contains('{') { value.to_owned() } else { format!("{finer}={value}") };
        Self { rule: finer.to_owned(), key: format!("{shared}/{value}"), name: format!("{shared} ({label})") }
    }
}

/// `parts` are known by something else than the rules say.
fn identified(resources: &[Attributes], keys: &[String], parts: &BTreeMap<u32, Part>, before: &Before) -> Identity {
    let mut untrusted = contradictions(resources);
    untrusted.extend(before.untrusted.clone());
    let tokens: Vec<Vec<Token>> = (0u32..)
        .zip(resources)
        .map(|(resource, attributes)| match parts.get(&resource) {
            Some(part) => vec![(part.rule.clone(), part.key.clone(), true)],
            None => tokens(attributes, keys, &untrusted),
        })
        .collect();

    // Resources that share a merging value are one clock; its key is the best that any of them has.
    let mut holder: BTreeMap<(&str, &str), usize> = BTreeMap::new();
    let mut parent: Vec<usize> = (0..resources.len()).collect();
    fn root(parent: &[usize], mut at: usize) -> usize {
        while parent[at] != at {
            at = parent[at];
        }
        at
    }
    for (resource, tokens) in tokens.iter().enumerate() {
        for (_, (name, value, _)) in tokens.iter().enumerate().filter(participates) {
            let other = *holder.entry((name, value)).or_insert(resource);
            let (left, right) = (root(&parent, other), root(&parent, resource));
            parent[left.max(right)] = left.min(right);
        }
    }
    let rank = |name: &str| RULES.iter().position(|rule| rule.name == name).map_or(0, |place| place + 1);
    let mut best: BTreeMap<usize, (usize, &str, &str)> = BTreeMap::new();
    for (resource, tokens) in tokens.iter().enumerate() {
        if let Some((name, value, _)) = tokens.first() {
            let candidate = (rank(name), name.as_str(), value.as_str());
            let entry = best.entry(root(&parent, resource)).or_insert(candidate);
            *entry = (*entry).min(candidate);
        }
    }
    let mut clocks: BTreeMap<(String, String), Vec<usize>> = BTreeMap::new();
    for resource in 0..resources.len() {
        let (rule, key) = match best.get(&root(&parent, resource)) {
            Some((_, rule, key)) => ((*rule).to_owned(), (*key).to_owned()),
            None => (NO_RULE.to_owned(), String::new()),
        };
        clocks.entry((key, rule)).or_default().push(resource);
    }
    let mut identity = Identity { of_resource: vec![ClockId(0); resources.len()], ..Identity::default() };
    for ((key, rule), members) in clocks {
        let id = ClockId(identity.clocks.len() as u32);
        let collect = |attribute: &str| -> Vec<String> {
            let values: BTreeSet<&str> =
                members.iter().filter_map(|&member| get(&resources[member], attribute)).collect();
            values.into_iter().map(str::to_owned).collect()
        };
        for &member in &members {
            identity.of_resource[member] = id;
            for (name, value) in &resources[member] {
                if rank(name) > 0 || name.starts_with("k8s.pod") || name == "host.ip" {
                    identity.values.entry(value.clone()).or_default().insert(id);
                }
            }
        }
        identity.values.entry(key.clone()).or_default().insert(id);
        let untrusted = matches!(rule.as_str(), "service.name" | NO_RULE | PER_TRACE);
        let nodes = collect("k8s.node.name");
        let hosts = collect("host.name");
        let part = members.first().and_then(|member| parts.get(&(*member as u32)));
        let name = match (hosts.as_slice(), nodes.as_slice()) {
            _ if part.is_some() => part.map_or_else(String::new, |part| part.name.clone()),
            _ if rule == PER_TRACE => key.clone(),
            ([host], _) if !is_junk(host) => host.clone(),
            (_, [node]) if !is_junk(node) => node.clone(),
            _ => key.clone(),
        };
        identity.clocks.push(Clock { key, name, rule, hosts, services: collect("service.name"), untrusted });
    }
    name_apart(&mut identity.clocks);
    before.tell(&mut identity.clocks);
    for (index, clock) in identity.clocks.iter().enumerate() {
        identity.values.entry(clock.name.clone()).or_default().insert(ClockId(index as u32));
    }
    identity.finder = Finder::of((resources, &identity.of_resource), keys, parts, untrusted);
    identity
}

/// The rule's name where no rule applies.
const NO_RULE: &str = "none";

/// The rule's name where each trace has a clock of its own.
pub const PER_TRACE: &str = "per trace";

/// A display name belongs to one clock; where two would share it, each goes by its key.
fn name_apart(clocks: &mut [Clock]) {
    let mut counts: BTreeMap<String, u32> = BTreeMap::new();
    clocks.iter().for_each(|clock| *counts.entry(clock.name.clone()).or_default() += 1);
    for clock in clocks.iter_mut() {
        if counts[&clock.name] > 1 {
            clock.name = if clock.key.is_empty() { format!("({})", clock.rule) } else { clock.key.clone() };
        } else if clock.name.is_empty() {
            clock.name = "(no resource)".to_owned();
        }
    }
}

/// What a resource may be known by: `(rule, value, merges)`.
type Token = (String, String, bool);

/// Whether a token says whose clock it is: the best does, and those that merge.
fn participates((index, (_, _, merges)): &(usize, &Token)) -> bool {
    *merges || *index == 0
}

/// The tokens that say whose clock it is, `(rule, value)`; of a resource without any, that it has none.
fn participating(tokens: Vec<Token>) -> Vec<(String, String)> {
    let mut said: Vec<(String, String)> = tokens
        .iter()
        .enumerate()
        .filter(participates)
        .map(|(_, (rule, value, _))| (rule.clone(), value.clone()))
        .collect();
    if said.is_empty() {
        said.push((NO_RULE.to_owned(), String::new()));
    }
    said
}

/// What a resource may be known by, best first.
fn tokens(attributes: &Attributes, keys: &[String], untrusted: &BTreeMap<(String, String), String>) -> Vec<Token> {
    if let Some((key, value)) = keys.iter().find_map(|key| Some((key, chosen(attributes, key)?))) {
        return vec![(key.clone(), value, true)];
    }
    let browser = is_browser(attributes);
    let mut tokens = Vec::new();
    for rule in &RULES {
        let device = matches!(rule.name, "device.id" | "app.installation.id" | "session.id");
        let of_node = rule.name.starts_with("k8s.node") || rule.name == "host.id";
        if (browser && !device) || (of_node && is_sandboxed(attributes)) {
            continue;
        }
        let values: Option<Vec<&str>> = rule.attributes.iter().map(|key| get(attributes, key)).collect();
        let Some(values) = values else { continue };
        let is_vm =
            |value: &str| ["/instances/", "virtualMachines", ":instance/"].iter().any(|part| value.contains(part));
        if values.iter().any(|value| is_junk(value))
            || (rule.name == "cloud.resource_id" && !values.iter().all(|value| is_vm(value)))
            || untrusted.contains_key(&(rule.name.to_owned(), values.join("/")))
        {
            continue;
        }
        let scope = rule.scope.iter().filter_map(|key| get(attributes, key));
        let value = scope.chain(values).collect::<Vec<_>>().join("/");
        tokens.push((rule.name.to_owned(), value, rule.merges));
    }
    if browser && tokens.is_empty() {
        let service = get(attributes, "service.name").unwrap_or("browser");
        tokens.push((PER_TRACE.to_owned(), service.to_owned(), false));
    }
    tokens
}

/// The value of a user's key: an attribute's name, or a template with attributes in braces.
fn chosen(attributes: &Attributes, key: &str) -> Option<String> {
    if !key.contains('{') {
        return get(attributes, key).map(str::to_owned);
    }
    let mut value = String::new();
    let mut rest = key;
    while let Some((before, after)) = rest.split_once('{') {
        let (name, after) = after.split_once('}')?;
        value.push_str(before);
        value.push_str(get(attributes, name)?);
        rest = after;
    }
    value.push_str(rest);
    Some(value)
}

/// What a machine's values came with: `(attribute, value, witness, its value)`.
fn witnesses(resource: &Attributes) -> impl Iterator<Item = (&'static str, &str, &'static str, &str)> {
    // Pods of one node share its host id rightly; without a node, two pods may be anywhere.
    let pod = get(resource, "k8s.node.name").is_none().then_some("k8s.pod.uid");
    WITNESSES.into_iter().flat_map(move |(attribute, witnesses)| {
        let value = get(resource, attribute);
        let seen = move |witness| Some((attribute, value?, witness, get(resource, witness)?));
        witnesses.iter().copied().chain(pod).filter_map(seen)
    })
}

/// Values that two machines carry, and how that is known.
fn contradictions(resources: &[Attributes]) -> BTreeMap<(String, String), String> {
    let mut seen: BTreeMap<(&str, &str), BTreeMap<&str, BTreeSet<&str>>> = BTreeMap::new();
    for resource in resources.iter().filter(|resource| !is_browser(resource)) {
        for (attribute, value, witness, with) in witnesses(resource) {
            seen.entry((attribute, value)).or_default().entry(witness).or_default().insert(with);
        }
    }
    let reason = |by_witness: &BTreeMap<&str, BTreeSet<&str>>| {
        let (witness, values) = by_witness.iter().find(|(_, values)| values.len() > 1)?;
        let some: Vec<&str> = values.iter().take(3).copied().collect();
        Some(format!("{} values of {witness} carry it ({})", values.len(), some.join(", ")))
    };
    let untrusted = |((attribute, value), by_witness): ((&str, &str), BTreeMap<_, _>)| {
        Some(((attribute.to_owned(), value.to_owned()), reason(&by_witness)?))
    };
    seen.into_iter().filter_map(untrusted).collect()
}

/// The name of a trace's own clock.
pub fn trace_clock_name(service: &str, trace: TraceId) -> String {
    format!("{service} in {:032x}", trace.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    pub(super) fn resource(text: &str) -> Attributes {
        text.split_whitespace()
            .map(|pair| pair.split_once('=').expect("key=value"))
            .map(|(key, value)| (key.to_owned(), value.to_owned()))
            .collect()
    }

    fn check(resources: &[&str], expected: &[&str]) {
        let resources: Vec<_> = resources.iter().map(|text| resource(text)).collect();
        let identity = identify(&resources, &[], &Before::default());
        let found: Vec<String> = identity
            .of_resource
            .iter()
            .map(|clock| &identity.clocks[clock.0 as usize])
            .map(|clock| format!("{} by {}", clock.name, clock.rule))
            .collect();
        assert_eq!(found, expected);
    }

    #[test]
    fn a_node_goes_before_a_host_and_a_host_id_before_its_name() {
        check(
            &["k8s.node.name=n1 host.name=pod-a", "host.id=7f host.name=vm", "host.name=bare", "service.name=s"],
            &["pod-a by k8s.node.name", "vm by host.id", "bare by host.name", "s by service.name"],
        );
    }

    #[test]
    fn two_services_on_one_host_share_a_clock() {
        check(
            &["host.id=7f host.name=vm service.name=a", "host.id=7f host.name=vm service.name=b k8s.node.name=vm"],
            &["vm by k8s.node.name", "vm by k8s.node.name"],
        );
    }

    #[test]
    fn a_name_that_a_gateway_stamped_is_no_key() {
        check(
            &["host.name=gw k8s.node.name=n1", "host.name=gw k8s.node.name=n2", "host.name=gw service.instance.id=i"],
            &["n1 by k8s.node.name", "n2 by k8s.node.name", "i by service.instance.id"],
        );
    }

    #[test]
    fn a_machine_id_baked_into_an_image_is_no_key() {
        check(&["host.id=7f host.name=a", "host.id=7f host.name=b"], &["a by host.name", "b by host.name"]);
    }

    #[test]
    fn junk_is_no_key() {
        check(
            &["host.name=localhost service.instance.id=i", "host.id=00000000-0000 host.name=h"],
            &["i by service.instance.id", "h by host.name"],
        );
    }

    #[test]
    fn a_browser_has_a_clock_per_trace_unless_it_names_its_device() {
        check(
            &["telemetry.sdk.language=webjs service.name=shop host.name=gw", "browser.platform=x session.id=s1"],
            &["shop by per trace", "s1 by session.id"],
        );
    }

    #[test]
    fn the_users_key_goes_before_every_rule() {
        let resources = [resource("a=1 b=2 host.name=h"), resource("host.name=h2")];
        let identity = identify(&resources, &["{a}/{b}".to_owned(), "c".to_owned()], &Before::default());
        let names: Vec<_> = identity.clocks.iter().map(|clock| (clock.key.as_str(), clock.rule.as_str())).collect();
        assert_eq!(names, [("1/2", "{a}/{b}"), ("h2", "host.name")]);
    }

    #[test]
    fn the_order_of_the_resources_changes_nothing() {
        let texts = ["host.id=1 host.name=a service.name=x", "host.name=a service.name=y", "k8s.node.name=n host.id=1"];
        let forward: Vec<_> = texts.iter().map(|text| resource(text)).collect();
        let backward: Vec<_> = forward.iter().rev().cloned().collect();
        let clocks = |resources| identify(resources, &[], &Before::default()).clocks;
        assert_eq!(clocks(&forward), clocks(&backward));
    }
}
