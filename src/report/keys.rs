//! Keys that hide several clocks, and clocks under several keys, in words. Every text about keys is here.

use std::collections::BTreeSet;

use super::findings::Finding;
use crate::clock::{Clock, ClockId, Offset, Span};
use crate::identity::{Alike, Distance, Remedy, Shared};

/// What is said of a clock's key: a finding, and what to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OnKey {
    pub finding: Finding,
    /// Empty where the finding's clock has advice that says as much.
    pub advice: String,
}

/// Neighbours named in one finding, at the most.
const NAMED: usize = 3;

/// One for each clock that a key hides. `of_resource` gives the clock of each distinct resource.
pub fn of_shared(shared: &[Shared], of_resource: &[ClockId], clocks: &[Clock]) -> Vec<OnKey> {
    let told = |shared: &Shared| {
        let parts: BTreeSet<ClockId> = shared.processes.iter().map(|&it| of_resource[it as usize]).collect();
        let told = Told { shared, of_resource, clocks, parts: parts.len() };
        parts.into_iter().map(|part| told.of(part)).collect::<Vec<_>>()
    };
    shared.iter().flat_map(told).collect()
}

/// One for each of several clocks that go as one.
pub fn of_alike(alike: &[Alike], clocks: &[Clock]) -> Vec<OnKey> {
    let told = |alike: &Alike| {
        let Alike { attribute, value, clocks: members, within_ns } = alike;
        let one = |&clock: &ClockId| {
            let others: Vec<&str> = members
                .iter()
                .filter(|member| **member != clock)
                .map(|&ClockId(member)| clocks[member as usize].name.as_str())
                .collect();
            let within = Span(within_ns.unsigned_abs());
            let reason = format!(
                "agrees within {within} with {}, of {attribute} `{value}` too, where others differ: likely one clock; \
                 --clock-key '{attribute}' takes them for one",
                listed(others.iter().copied())
            );
            let advice = format!(
                "likely one clock with {} more of {attribute} `{value}`; --clock-key '{attribute}' takes them for one",
                others.len()
            );
            let finding =
                Finding { kind: "split_clock", clock: Some(clock), action: "none", reason, ..Finding::default() };
            OnKey { finding, advice }
        };
        members.iter().map(one).collect::<Vec<_>>()
    };
    alike.iter().flat_map(told).collect()
}

/// The first few names, and how many more.
fn listed<'a>(names: impl ExactSizeIterator<Item = &'a str>) -> String {
    let more = names.len().saturating_sub(NAMED);
    let mut told: Vec<String> = names.take(NAMED).map(|name| format!("`{name}`")).collect();
    if more > 0 {
        told.push(format!("{more} more"));
    }
    told.join(", ")
}

struct Told<'a> {
    shared: &'a Shared,
    of_resource: &'a [ClockId],
    clocks: &'a [Clock],
    parts: usize,
}

impl Told<'_> {
    fn of(&self, clock: ClockId) -> OnKey {
        let Shared { attribute, value, remedy, .. } = self.shared;
        let (hides, evidence) = (format!("{attribute} `{value}` hides"), self.evidence(clock));
        let (action, reason, advice) = match remedy {
            Remedy::Split { key, .. } => {
                let hides = format!("{hides} {} clocks", self.parts);
                let reason = format!("{hides}: this one {evidence}; --clock-key '{key}' tells them apart");
                let advice = format!("{hides}; set host.id, or keep them apart with --clock-key '{key}'");
                ("split", reason, advice)
            }
            Remedy::LeftOut => {
                let reason = format!(
                    "{hides} several clocks, and no attribute tells them apart: one {evidence}; set host.id on each"
                );
                ("not used as evidence", reason, String::new())
            }
            Remedy::Told { key } => {
                let next = key.map_or_else(
                    || "no attribute tells them apart: set host.id on each".to_owned(),
                    |key| format!("--clock-key '{key}' tells them apart"),
                );
                let reason = format!("{hides} several clocks: one {evidence}; {next}");
                ("none", reason, format!("{hides} several clocks; {next}"))
            }
        };
        let finding = Finding { kind: "shared_key", clock: Some(clock), action, reason, ..Finding::default() };
        OnKey { finding, advice }
    }

    fn name(&self, process: u32) -> &str {
        &self.clocks[self.of_resource[process as usize].0 as usize].name
    }

    /// By what a clock, or a process under one key, is known to be another than the others.
    fn evidence(&self, clock: ClockId) -> String {
        let own = |process: u32| self.of_resource[process as usize] == clock;
        let Shared { apart, mixed, .. } = self.shared;
        if let Some(distance) = apart.iter().find(|it| own(it.one) || own(it.other)) {
            let turned = Distance {
                one: distance.other,
                other: distance.one,
                low_ns: -distance.high_ns,
                high_ns: -distance.low_ns,
                ..distance.clone()
            };
            let Distance { other, low_ns, high_ns, neighbours, calls, .. } =
                if own(distance.one) { distance } else { &turned };
            let [near, far] = if *low_ns > 0 { [*low_ns, *high_ns] } else { [*high_ns, *low_ns] };
            let (near, far) = (Span(near.unsigned_abs()), Offset::ahead_ns(far));
            let other = if own(*other) { "another process".to_owned() } else { format!("`{}`", self.name(*other)) };
            return format!("is {near} to {far} of {other}, by {calls} calls with {}", self.names(neighbours));
        }
        mixed.first().map_or_else(
            || "was compared with none of the others".to_owned(),
            |it| {
                let names = self.names(&it.neighbours);
                format!("process goes to and fro between two times within seconds, by {} calls with {names}", it.calls)
            },
        )
    }

    fn names(&self, processes: &BTreeSet<u32>) -> String {
        // Those beyond doubt first.
        let is_part = |process: u32| self.shared.processes.contains(&process);
        let names: BTreeSet<(bool, &str)> =
            processes.iter().map(|&process| (is_part(process), self.name(process))).collect();
        listed(names.iter().map(|(_, name)| *name))
    }
}
