//! Everything that is kept of a dump while its clocks are estimated: the heads of its spans, never the payload.
//!
//! In come scanned records in any order; out go spans with their resources interned by content. A span that an
//! earlier run of ours moved is taken at its original times, so a second run sees the evidence of the first.

use rustc_hash::FxHashMap;

use crate::clock::LocalTime;
use crate::correct::{Corrected, Correction};
use crate::identity::Attributes;
use crate::otlp::{self, Malformed, Payload};
use crate::span::{Marks, SpanHead, SpanId, TraceId};

/// One span of the dump.
#[derive(Clone, Copy, Debug)]
pub struct DumpSpan {
    pub head: SpanHead,
    /// Index into [`Dump::resources`].
    pub resource: u32,
    /// Index into [`Dump::scopes`].
    pub scope: u32,
    /// An earlier run moved it.
    pub marked: bool,
}

/// The spans of a dump, in the order in which they were read.
#[derive(Clone, Debug, Default)]
pub struct Dump {
    pub spans: Vec<DumpSpan>,
    /// Distinct resources.
    pub resources: Vec<Attributes>,
    /// Distinct names of instrumentation scopes.
    pub scopes: Vec<String>,
    /// `(span, target)`.
    pub links: Vec<(u32, TraceId, SpanId)>,
    /// What an earlier run wrote, by span.
    pub corrected_before: Vec<(u32, Corrected)>,
    by_fingerprint: FxHashMap<u64, u32>,
    by_content: FxHashMap<Attributes, u32>,
    by_scope: FxHashMap<String, u32>,
}

/// What is taken out of one record; made in parallel, added in order.
#[derive(Clone, Debug, Default)]
pub struct Scanned {
    /// Each with its resource, its scope and what an earlier run wrote.
    spans: Vec<(SpanHead, [u32; 2], Option<Corrected>)>,
    scopes: Vec<String>,
    links: Vec<(u32, TraceId, SpanId)>,
    resources: Vec<(u64, Option<Attributes>)>,
}

/// A span's recorded times, before any earlier run of ours.
pub fn original(head: &SpanHead, marks: Option<&Marks>) -> (LocalTime, LocalTime) {
    let Some(marks) = marks else { return (head.start, head.end) };
    let back = |written: LocalTime, kept: Option<i64>| {
        let original = kept.map_or(written.plus(marks.offset_ns), LocalTime::from_nanos);
        // Marks are anybody's to write; a time before 1970 is none of ours.
        original.max(LocalTime::from_nanos(0))
    };
    (back(head.start, marks.original_start_unix_nano), back(head.end, marks.original_end_unix_nano))
}

fn corrected_before(head: &SpanHead, marks: &Marks) -> Corrected {
    Corrected {
        start: head.start.nanos(),
        end: head.end.nanos(),
        offset_ns: marks.offset_ns,
        nudge_ns: marks.nudge_ns.unwrap_or(0),
        uncertainty_ns: marks.uncertainty_ns,
        correction: Correction::of_name(&marks.correction),
        segment: None,
    }
}

impl Dump {
    /// Takes what is needed out of a record. Resources seen before are not read again.
    ///
    /// # Errors
    /// Where a resource is not well-formed.
    pub fn scan(&self, payload: &Payload<'_>) -> Result<Scanned, Malformed> {
        let mut scanned = Scanned { spans: Vec::with_capacity(payload.spans.len()), ..Scanned::default() };
        for (index, site) in payload.resources.iter().enumerate() {
            let known = self.by_fingerprint.contains_key(&site.fingerprint);
            let attributes = if known { None } else { Some(otlp::resource_attributes(payload, index)?) };
            scanned.resources.push((site.fingerprint, attributes));
        }
        for (index, site) in payload.spans.iter().enumerate() {
            let mut head = site.head;
            (head.start, head.end) = original(&head, site.marks.as_deref());
            let before = site.marks.as_deref().map(|marks| corrected_before(&site.head, marks));
            scanned.spans.push((head, [site.resource, site.scope], before));
            let targets = &payload.links[site.links.start as usize..site.links.end as usize];
            scanned.links.extend(targets.iter().map(|&(trace, span)| (index as u32, trace, span)));
        }
        scanned.scopes = payload.scopes.iter().map(|name| name.clone().into_owned()).collect();
        Ok(scanned)
    }

    /// Adds what a record held.
    pub fn add(&mut self, scanned: Scanned) {
        let places: Vec<u32> = scanned
            .resources
            .into_iter()
            .map(|(fingerprint, attributes)| {
                if let Some(&place) = self.by_fingerprint.get(&fingerprint) {
                    return place;
                }
                let mut attributes = attributes.unwrap_or_default();
                attributes.sort_unstable();
                let next = self.resources.len() as u32;
                let place = *self.by_content.entry(attributes.clone()).or_insert(next);
                if place == next {
                    self.resources.push(attributes);
                }
                self.by_fingerprint.insert(fingerprint, place);
                place
            })
            .collect();
        let scopes: Vec<u32> = scanned.scopes.into_iter().map(|name| self.scope(name)).collect();
        let first = self.spans.len() as u32;
        self.links.extend(scanned.links.into_iter().map(|(span, trace, target)| (first + span, trace, target)));
        for (ordinal, (head, [resource, scope], before)) in (first..).zip(scanned.spans) {
            let (resource, scope) = (places[resource as usize], scopes[scope as usize]);
            self.spans.push(DumpSpan { head, resource, scope, marked: before.is_some() });
            self.corrected_before.extend(before.map(|corrected| (ordinal, corrected)));
        }
    }

    fn scope(&mut self, name: String) -> u32 {
        if let Some(&place) = self.by_scope.get(&name) {
            return place;
        }
        let place = self.scopes.len() as u32;
        self.scopes.push(name.clone());
        self.by_scope.insert(name, place);
        place
    }

    /// Numbers the resources by their content: until then their numbers tell in which order records came.
    pub fn settle(&mut self) {
        let mut order: Vec<u32> = (0..self.resources.len() as u32).collect();
        order.sort_unstable_by(|&left, &right| self.resources[left as usize].cmp(&self.resources[right as usize]));
        let mut place = vec![0; order.len()];
        (0u32..).zip(&order).for_each(|(new, &old)| place[old as usize] = new);
        self.resources = order.iter().map(|&old| std::mem::take(&mut self.resources[old as usize])).collect();
        self.spans.iter_mut().for_each(|span| span.resource = place[span.resource as usize]);
        self.by_fingerprint
            .values_mut()
            .chain(self.by_content.values_mut())
            .for_each(|old| *old = place[*old as usize]);
    }

    /// Distinct resources' values of one attribute; empty where it is missing.
    pub fn attribute(&self, key: &str) -> Vec<String> {
        let value = |attributes: &Attributes| {
            attributes.iter().find(|(name, _)| name == key).map(|(_, value)| value.clone()).unwrap_or_default()
        };
        self.resources.iter().map(value).collect()
    }
}
