//! Evidence: what is kept of the exchanges. It merges: shards, replicas and re-delivery give the same bits.
//!
//! In come exchanges, out goes per link, side and bucket of 2 s the few readings with the smallest gaps. The union
//! by exchange, cut back to the smallest, is associative, commutative and idempotent (ESTIMATOR.md, fact 2).

use serde::{Deserialize, Serialize};

use super::rollup;
use crate::clock::{CallClass, ClockId, Exchange, Link, LocalTime, Use};

/// Kept per link, side and bucket. Four show the spacing near the minimum, from which its error follows.
const KEPT: usize = 4;

/// A size chosen from the traffic would differ between shards.
const BUCKET_NS: i64 = 2_000_000_000;

/// Which inequality a reading stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Side {
    /// x ≤ f: the request's way.
    Forward,
    /// x ≥ −b: the response's way.
    Backward,
    /// A floored exchange: only its average with others says anything, so both gaps stay together.
    Both,
}

/// One exchange, kept for one of its sides. Times are local, in ns.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Reading {
    pub link: Link,
    pub side: Side,
    pub exchange: u64,
    pub request_sent: i64,
    pub request_received: i64,
    pub response_sent: i64,
    pub response_received: i64,
    pub client_quantum_ns: u32,
    pub server_quantum_ns: u32,
    /// The request alone counts: nobody waited for the response, so δ says nothing.
    pub one_way: bool,
    /// The least of so many: 1, but for what rolling up left.
    pub stands_for: u32,
}

impl Reading {
    /// f, in ns.
    pub fn forward_ns(&self) -> i64 {
        self.request_received.saturating_sub(self.request_sent)
    }

    /// b, in ns.
    pub fn backward_ns(&self) -> i64 {
        self.response_received.saturating_sub(self.response_sent)
    }

    /// δ, in ns.
    pub fn round_trip_delay_ns(&self) -> i64 {
        self.forward_ns().saturating_add(self.backward_ns())
    }

    fn rank(&self) -> i64 {
        match self.side {
            Side::Forward => self.forward_ns(),
            Side::Backward => self.backward_ns(),
            Side::Both => self.round_trip_delay_ns(),
        }
    }

    /// Both local times of the reading: offsets of years do not matter then, and a step parts its two sides.
    fn bucket(&self) -> (i64, i64) {
        let (client, server) = match self.side {
            Side::Backward => (self.response_received, self.response_sent),
            Side::Forward | Side::Both => (self.request_sent, self.request_received),
        };
        (client.div_euclid(BUCKET_NS), server.div_euclid(BUCKET_NS))
    }

    fn group(&self) -> (Link, Side, (i64, i64)) {
        (self.link, self.side, self.bucket())
    }
}

/// Readings of all links, with the names that their numbers stand for.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Evidence {
    /// Keys of the clocks, sorted.
    pub clocks: Vec<String>,
    /// Sorted.
    pub classes: Vec<CallClass>,
    /// In order of link, side, bucket, gap and exchange; at most `KEPT` per bucket.
    pub readings: Vec<Reading>,
    /// Where only those readings were kept that may still decide.
    pub rolled_up: Option<RolledUp>,
}

/// What the calls of rolled up links were like.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RolledUp {
    /// How long the windows are, ns, counted from a local time of zero.
    pub window_ns: i64,
    /// In order of link; one for each.
    pub usual: Vec<Usual>,
}

/// What the calls of one link were like, ns.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Usual {
    pub link: Link,
    /// Those with a δ that somebody waited for.
    pub calls: u64,
    /// A low δ: below it are 15 %.
    pub low_delay_ns: i64,
    /// Mean of what comes on top of the least delay, each way.
    pub jitter_out_ns: i64,
    pub jitter_back_ns: i64,
}

impl Evidence {
    /// What the exchanges prove. Those that count for neither side are left out.
    pub fn of(clocks: Vec<String>, classes: Vec<CallClass>, exchanges: &[Exchange]) -> Self {
        let readings = exchanges.iter().flat_map(readings).collect();
        let mut evidence = Self { clocks, classes, readings, rolled_up: None };
        evidence.settle();
        evidence
    }

    /// Both together, whatever numbers they gave to the same names.
    #[must_use]
    pub fn merge(self, other: Self) -> Self {
        let clocks = union(&self.clocks, &other.clocks);
        let classes = union(&self.classes, &other.classes);
        let mut readings = Vec::with_capacity(self.readings.len() + other.readings.len());
        let mut rolled_up: Option<RolledUp> = None;
        for part in [self, other] {
            let place = |key: &String| clocks.binary_search(key).unwrap_or(0) as u32;
            let clock: Vec<_> = part.clocks.iter().map(place).collect();
            let class: Vec<_> =
                part.classes.iter().map(|class| classes.binary_search(class).unwrap_or(0) as u32).collect();
            let named = |link: Link| Link {
                client: ClockId(clock[link.client.0 as usize]),
                server: ClockId(clock[link.server.0 as usize]),
                class: class[link.class as usize],
            };
            readings.extend(part.readings.into_iter().map(|reading| Reading { link: named(reading.link), ..reading }));
            if let Some(part) = part.rolled_up {
                let all = rolled_up.get_or_insert_with(RolledUp::default);
                all.window_ns = all.window_ns.max(part.window_ns);
                all.usual.extend(part.usual.into_iter().map(|usual| Usual { link: named(usual.link), ..usual }));
                all.usual.sort_unstable();
            }
        }
        let mut evidence = Self { clocks, classes, readings, rolled_up };
        evidence.settle();
        evidence
    }

    /// As [`super::clocks`] does for itself where it must: leaves out what cannot decide where knots are so many ns apart.
    /// Parts of the evidence without a link in common may be rolled up before they are merged; a link's own parts may not.
    #[must_use]
    pub fn rolled_up(&self, window_ns: i64) -> Self {
        rollup::roll_up(self, window_ns)
    }

    fn settle(&mut self) {
        use rayon::slice::ParallelSliceMut;
        self.readings.par_sort_unstable_by_key(|reading| (reading.group(), reading.rank(), *reading));
        let mut last = None;
        let mut kept: Vec<Reading> = Vec::with_capacity(self.readings.len());
        let mut in_group = 0;
        for reading in &self.readings {
            let group = Some(reading.group());
            if group != last {
                (last, in_group) = (group, 0);
            }
            // Equal ids stand together: one exchange has one rank.
            let again = in_group > 0 && kept.last().is_some_and(|kept| kept.exchange == reading.exchange);
            if in_group < KEPT && !again {
                kept.push(*reading);
                in_group += 1;
            }
        }
        self.readings = kept;
    }
}

fn union<T: Ord + Clone>(left: &[T], right: &[T]) -> Vec<T> {
    let mut all = [left, right].concat();
    all.sort_unstable();
    all.dedup();
    all
}

fn readings(exchange: &Exchange) -> impl Iterator<Item = Reading> {
    let reading = |side| Reading {
        link: exchange.link,
        side,
        exchange: exchange.id,
        request_sent: LocalTime::nanos(exchange.request_sent),
        request_received: exchange.request_received.nanos(),
        response_sent: exchange.response_sent.nanos(),
        response_received: exchange.response_received.nanos(),
        client_quantum_ns: exchange.client_quantum_ns,
        server_quantum_ns: exchange.server_quantum_ns,
        one_way: exchange.counts == Use::ForwardOnly,
        stands_for: 1,
    };
    let coarse = exchange.client_quantum_ns.max(exchange.server_quantum_ns) > FINE_QUANTUM_NS;
    let sides: &[Side] = match (exchange.counts, coarse) {
        (Use::TwoSided, true) => &[Side::Both],
        (Use::TwoSided, false) => &[Side::Forward, Side::Backward],
        (Use::ForwardOnly, _) => &[Side::Forward],
        (Use::Neither, _) => &[],
    };
    sides.iter().map(move |&side| reading(side))
}

/// Below this a floored reading is as good as an exact one: the bias of its minimum is under a microsecond.
const FINE_QUANTUM_NS: u32 = 10_000;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn exchange(id: u64, (client, server): (u32, u32), sent: i64, out: i64, back: i64, quantum: u32) -> Exchange {
        Exchange {
            id,
            link: Link { client: ClockId(client), server: ClockId(server), class: 0 },
            request_sent: LocalTime::from_nanos(sent),
            request_received: LocalTime::from_nanos(sent + out),
            response_sent: LocalTime::from_nanos(sent + out + 1_000),
            response_received: LocalTime::from_nanos(sent + out + 1_000 + back),
            client_quantum_ns: quantum,
            server_quantum_ns: 1,
            counts: if id.is_multiple_of(7) { Use::ForwardOnly } else { Use::TwoSided },
        }
    }

    fn names() -> Vec<String> {
        ["a", "b", "c"].map(String::from).to_vec()
    }

    fn of(exchanges: &[Exchange]) -> Evidence {
        Evidence::of(names(), vec![CallClass::default()], exchanges)
    }

    /// One id is one exchange, wherever it turns up, so everything follows from the id.
    fn some_exchanges() -> impl Strategy<Value = Vec<Exchange>> {
        proptest::collection::vec(0..60u64, 0..80).prop_map(|ids| {
            let one = |id: u64| {
                let (number, pair) = (id as i64, (id % 3) as u32);
                let quantum = if id.is_multiple_of(5) { 1_000_000 } else { 1 };
                exchange(
                    id,
                    (pair, (pair + 1) % 3),
                    number % 4 * 2_100_000_000,
                    number * 37 % 911,
                    number * 53 % 701,
                    quantum,
                )
            };
            ids.into_iter().map(one).collect()
        })
    }

    proptest! {
        #[test]
        fn merging_is_associative_commutative_and_idempotent(
            a in some_exchanges(), b in some_exchanges(), c in some_exchanges()
        ) {
            let whole = of(&[a.clone(), b.clone(), c.clone()].concat());
            let (a, b, c) = (of(&a), of(&b), of(&c));
            prop_assert_eq!(&a.clone().merge(b.clone()).merge(c.clone()), &whole);
            prop_assert_eq!(&c.merge(b.merge(a)), &whole);
            prop_assert_eq!(&whole.clone().merge(whole.clone()), &whole);
        }
    }

    #[test]
    fn a_bucket_keeps_the_smallest_gaps_of_each_side() {
        let exchanges: Vec<_> =
            (1..=6).map(|id| exchange(id, (0, 1), id as i64, 100 - id as i64, id as i64, 1)).collect();
        let evidence = of(&exchanges);
        let kept = |side| {
            evidence.readings.iter().filter(|reading| reading.side == side).map(|r| r.exchange).collect::<Vec<_>>()
        };
        assert_eq!(kept(Side::Forward), [6, 5, 4, 3]);
        assert_eq!(kept(Side::Backward), [1, 2, 3, 4]);
    }

    #[test]
    fn shards_that_number_their_clocks_differently_still_meet() {
        let left =
            Evidence::of(vec!["b".into(), "c".into()], vec![CallClass::default()], &[exchange(1, (0, 1), 5, 3, 4, 1)]);
        let right =
            Evidence::of(vec!["a".into(), "b".into()], vec![CallClass::default()], &[exchange(2, (1, 0), 5, 3, 4, 1)]);
        let both = left.merge(right);
        assert_eq!(both.clocks, names());
        let links: Vec<_> = both.readings.iter().map(|r| (r.link.client.0, r.link.server.0)).collect();
        assert_eq!(links, [(1, 0), (1, 0), (1, 2), (1, 2)]);
    }

    #[test]
    fn evidence_survives_being_written_down() {
        let evidence = of(&[exchange(1, (0, 1), 5, 3, 4, 1), exchange(5, (1, 2), 5, 3, 4, 1_000_000)]);
        let text = serde_json::to_string(&evidence).unwrap();
        assert_eq!(serde_json::from_str::<Evidence>(&text).unwrap(), evidence);
    }
}
