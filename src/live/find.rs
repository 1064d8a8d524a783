//! Resources → their clocks, kept from request to request; and models published anew while requests pass.

use std::sync::atomic::{AtomicI64, AtomicUsize, Ordering};
use std::sync::{Arc, PoisonError, RwLock};

use rustc_hash::FxHashMap;

use super::era::{Era, Limits};
use super::pass::side;
use crate::clock::{ClockId, LocalTime, ReferenceTime};
use crate::correct::EndHabit;
use crate::identity::Attributes;
use crate::models::Models;
use crate::otlp::{self, Payload};

/// A resource, and whose clock stamps its spans.
#[derive(Debug)]
pub struct Found {
    pub attributes: Attributes,
    pub ends: EndHabit,
    /// Per era.
    pub clocks: Vec<Option<ClockId>>,
    /// The latest start that it has sent, ns by its own clock.
    latest: AtomicI64,
}

/// The models that spans are corrected by, and the resources seen with them. What is published later holds from a time that
/// no clock has reached: what was sent once is corrected in one way, however often it is sent.
#[derive(Debug)]
pub struct Published {
    /// In order; the first holds from the beginning.
    pub eras: Vec<Era>,
    limits: Limits,
    /// By fingerprint.
    resources: RwLock<FxHashMap<u64, Arc<Found>>>,
    /// Bytes of their attributes.
    bytes: AtomicUsize,
    /// The latest start of resources that are no longer kept, ns by the reference.
    forgotten: AtomicI64,
}

/// Resources that are kept; with more, all are looked up anew.
const MOST_RESOURCES: usize = 1 << 16;

/// What their attributes may take.
const MOST_BYTES: usize = 16 << 20;

/// No span ends, and none of ours starts, so much later than it arrives: clocks of stages differ a little.
pub(super) const AFTER_ARRIVAL_NS: i64 = 1_000_000_000;

impl Published {
    /// Models that hold one after another, the first from the beginning; none: nothing is known of any clock.
    pub fn of(models: impl IntoIterator<Item = Arc<Models>>, limits: &Limits) -> Self {
        let eras = models.into_iter().enumerate().map(|(number, models)| {
            let from = models.learned.as_ref().filter(|_| number > 0).map(|learned| learned.from);
            Era::of(models, from.unwrap_or(ReferenceTime::from_nanos(i64::MIN)), limits)
        });
        Self::empty(eras.collect(), limits.clone())
    }

    /// How far models are followed.
    pub fn limits(&self) -> &Limits {
        &self.limits
    }

    fn empty(eras: Vec<Era>, limits: Limits) -> Self {
        let bytes = AtomicUsize::new(0);
        Self { eras, limits, resources: RwLock::default(), bytes, forgotten: AtomicI64::new(i64::MIN) }
    }

    /// Whose clocks stamped the spans of a record that arrived at this time, by resource; and remembers how far they have
    /// got. A resource that cannot be read has no attributes.
    pub fn find(&self, payload: &Payload<'_>, arrival: ReferenceTime) -> Vec<Arc<Found>> {
        let mut found = Vec::with_capacity(payload.resources.len());
        for (index, site) in payload.resources.iter().enumerate() {
            let known = self.resources.read().unwrap_or_else(PoisonError::into_inner).get(&site.fingerprint).cloned();
            found.push(known.unwrap_or_else(|| {
                let attributes = otlp::resource_attributes(payload, index).unwrap_or_default();
                self.remember(site.fingerprint, attributes, arrival)
            }));
        }
        let mut latest = vec![i64::MIN; found.len()];
        for span in payload.spans.iter().filter(|span| !span.head.start.is_broken()) {
            let latest = &mut latest[span.resource as usize];
            *latest = (*latest).max(span.head.start.nanos());
        }
        found.iter().zip(latest).for_each(|(found, latest)| found.reaches(latest));
        found
    }

    fn remember(&self, fingerprint: u64, mut attributes: Attributes, arrival: ReferenceTime) -> Arc<Found> {
        attributes.sort_unstable();
        let bytes: usize = attributes.iter().map(|(name, value)| name.len() + value.len()).sum();
        let found = Arc::new(self.lookup(attributes, i64::MIN));
        let mut resources = self.resources.write().unwrap_or_else(PoisonError::into_inner);
        if resources.len() >= MOST_RESOURCES || self.bytes.load(Ordering::Relaxed) + bytes > MOST_BYTES {
            let latest = resources.values().filter_map(|found| self.latest(found, arrival)).max();
            self.forgotten.fetch_max(latest.unwrap_or(i64::MIN), Ordering::Relaxed);
            resources.clear();
            self.bytes.store(0, Ordering::Relaxed);
        }
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
        Arc::clone(resources.entry(fingerprint).or_insert(found))
    }

    fn lookup(&self, attributes: Attributes, latest: i64) -> Found {
        let language = attributes.iter().rev().find(|(name, _)| name == "telemetry.sdk.language");
        let ends = EndHabit::of_language(language.map(|(_, value)| value.as_str()));
        let clocks = self.eras.iter().map(|era| era.models.finder.clock_of(&attributes)).collect();
        Found { attributes, ends, clocks, latest: latest.into() }
    }

    /// The latest start of a resource as the newest models put it, ns by the reference; `None` where it sent nothing, or
    /// is further than it can be: one span from 2099 would stop all models.
    fn latest(&self, found: &Found, now: ReferenceTime) -> Option<i64> {
        let latest = LocalTime::from_nanos(found.latest.load(Ordering::Relaxed));
        let era = self.eras.last();
        let model = era.zip(found.clocks.last().copied().flatten()).map(|(era, clock)| &era.models.clock(clock).1);
        let segment = model.and_then(|model| model.segments.get(side(model, latest, now)?));
        let reached = latest.plus(-segment.map_or(0, |segment| segment.applied_at(latest))).nanos();
        Some(reached).filter(|reached| latest.nanos() > i64::MIN && *reached <= now.plus(AFTER_ARRIVAL_NS).nanos())
    }

    /// These with `models` after them, from a time later than all that was sent. The caller sees to it that nothing is looked
    /// up here meanwhile.
    #[must_use]
    pub fn followed_by(&self, models: Arc<Models>, now: ReferenceTime) -> Self {
        let mut next = self.with(models, ReferenceTime::from_nanos(i64::MIN));
        let after = self.reached(&next, now).saturating_add(1);
        let [.., last] = next.eras.as_mut_slice() else { return next };
        last.from = ReferenceTime::from_nanos(after);
        next
    }

    /// How far clocks have got as these models or those that are in use put it: the latest start of any that has been sent.
    pub fn reached_by(&self, models: Arc<Models>, now: ReferenceTime) -> ReferenceTime {
        let next = self.with(models, ReferenceTime::from_nanos(i64::MIN));
        ReferenceTime::from_nanos(self.reached(&next, now))
    }

    /// These with `models` after them from this time on; `None` where a clock has got there.
    #[must_use]
    pub fn followed_from(&self, from: ReferenceTime, models: Arc<Models>, now: ReferenceTime) -> Option<Self> {
        // What came before anything was known stays as it was sent.
        let unknown = || Self::of([Arc::new(Models::default())], &self.limits).eras;
        let next = if self.eras.is_empty() {
            self.again(unknown(), &self.limits).with(models, from)
        } else {
            self.with(models, from)
        };
        (self.reached(&next, now) < from.nanos()).then_some(next)
    }

    fn with(&self, models: Arc<Models>, from: ReferenceTime) -> Self {
        let mut eras = self.eras(&self.limits);
        // Of more than two the older ones are over: what was sent under them is not sent again.
        if eras.len() > 1 {
            eras.drain(..eras.len() - 1);
            eras[0].from = ReferenceTime::from_nanos(i64::MIN);
        }
        eras.push(Era::of(models, from, &self.limits));
        self.again(eras, &self.limits)
    }

    /// The latest start that was sent, as these models or the `next` put it, ns by the reference.
    fn reached(&self, next: &Self, now: ReferenceTime) -> i64 {
        let latest = |published: &Self| {
            let resources = published.resources.read().unwrap_or_else(PoisonError::into_inner);
            resources.values().filter_map(|found| published.latest(found, now)).max()
        };
        let forgotten = self.forgotten.load(Ordering::Relaxed);
        [latest(self), latest(next), Some(forgotten)].into_iter().flatten().max().unwrap_or(i64::MIN)
    }

    /// The same, with these clocks of the newest models left alone until others follow.
    #[must_use]
    pub fn holding(&self, clocks: &[ClockId]) -> Self {
        let mut eras = self.eras(&self.limits);
        if let Some(last) = eras.pop() {
            eras.push(last.holding(clocks));
        }
        self.again(eras, &self.limits)
    }

    /// The same models, followed otherwise.
    #[must_use]
    pub fn limited(&self, limits: &Limits) -> Self {
        self.again(self.eras(limits), limits)
    }

    fn eras(&self, limits: &Limits) -> Vec<Era> {
        self.eras.iter().map(|era| era.limited(limits)).collect()
    }

    fn again(&self, eras: Vec<Era>, limits: &Limits) -> Self {
        let mut next = Self::empty(eras, limits.clone());
        let resources = self.resources.read().unwrap_or_else(PoisonError::into_inner);
        let found = |(fingerprint, found): (&u64, &Arc<Found>)| {
            let latest = found.latest.load(Ordering::Relaxed);
            (*fingerprint, Arc::new(next.lookup(found.attributes.clone(), latest)))
        };
        let found = resources.iter().map(found).collect();
        next.bytes = self.bytes.load(Ordering::Relaxed).into();
        next.forgotten = self.forgotten.load(Ordering::Relaxed).into();
        next.resources = RwLock::new(found);
        next
    }
}

impl Found {
    fn reaches(&self, start: i64) {
        if start > self.latest.load(Ordering::Relaxed) {
            self.latest.fetch_max(start, Ordering::Relaxed);
        }
    }
}
