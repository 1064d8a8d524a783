//! Calls → what each says of one process' clock against the other's.
//!
//! Left out is what says nothing: calls that nobody waited for, and all of a pair of processes of which many are such.

use rustc_hash::FxHashMap;

use crate::clock::{ClockId, Exchange, Use};

/// A call between two processes, by their distinct resources.
#[derive(Clone, Copy, Debug)]
pub struct Call {
    pub client: u32,
    pub server: u32,
    pub exchange: Exchange,
}

/// Where this share of the calls between two processes ends before the answer, they are not waited for, and their ends
/// say nothing. Of hostile fleets' calls an eighth does; of a class that nobody waits for, nearly all do.
const UNANSWERED: f64 = 0.25;

/// Nothing below this is called apart, ns: server spans that end behind their response are late by as much.
pub(super) const LEAST_NS: i64 = 1_000_000;

/// What a call says of a process' clock against a neighbour's: process − neighbour lies between `low` and `high`, ns.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Sight {
    pub(super) neighbour: u32,
    pub(super) clock: ClockId,
    pub(super) process: u32,
    /// By the neighbour's clock, ns.
    pub(super) at: i64,
    /// By its own.
    pub(super) own: i64,
    pub(super) low: i64,
    pub(super) high: i64,
}

impl Sight {
    pub(super) fn relation(&self) -> (u32, ClockId) {
        (self.neighbour, self.clock)
    }

    pub(super) fn width(&self) -> i64 {
        self.high.saturating_sub(self.low)
    }

    /// By more than delays and habits explain, this one says that the clock is further ahead.
    pub(super) fn is_beyond(&self, other: &Self) -> bool {
        let margin = LEAST_NS.max(self.width().max(other.width()) / 2);
        self.low.saturating_sub(other.high) > margin
    }
}

/// Two for each call that counts: as either end is seen by the other.
pub(super) fn sights(calls: &[Call], clock_of: &[ClockId]) -> Vec<Sight> {
    let mut ends: FxHashMap<(u32, u32), (u64, u64)> = FxHashMap::default();
    for call in calls {
        let (early, all) = ends.entry((call.client, call.server)).or_default();
        *early += u64::from(call.exchange.round_trip_delay_ns() < 0);
        *all += 1;
    }
    let answered = |call: &&Call| {
        let (early, all) = ends[&(call.client, call.server)];
        call.exchange.counts == Use::TwoSided && early as f64 <= UNANSWERED * all as f64
    };
    let both = |call: &Call| {
        let Call { client, server, exchange } = *call;
        let (sent, received) = (exchange.request_sent.nanos(), exchange.request_received.nanos());
        // A floored start was later by up to a quantum, and a floored client's end with it.
        let high = exchange.forward_ns().saturating_add(exchange.server_quantum_ns.into());
        let low = exchange.backward_ns().saturating_add(exchange.client_quantum_ns.into()).saturating_neg();
        let sight = |(neighbour, at), (process, own), low, high| {
            let clock = clock_of[process as usize];
            Sight { neighbour, clock, process, at, own, low, high }
        };
        [
            sight((client, sent), (server, received), low, high),
            sight((server, received), (client, sent), high.saturating_neg(), low.saturating_neg()),
        ]
    };
    calls.iter().filter(answered).flat_map(both).collect()
}

#[cfg(test)]
pub(super) mod made {
    use super::*;
    use crate::clock::{Link, LocalTime};

    pub(in crate::identity) const MS: i64 = 1_000_000;
    pub(in crate::identity) const SECOND: i64 = 1_000 * MS;

    /// A process: its number, and how far ahead its clock is at a true time after the start, by the number of the call.
    pub(in crate::identity) type Process = (u32, fn(i64, i64) -> i64);

    /// A hundred calls, two a second, with legs of so many ns and a millisecond's work.
    pub(in crate::identity) fn calls(client: Process, server: Process, (out, back): (i64, i64)) -> Vec<Call> {
        let one = |number: i64| {
            let sent = number * SECOND / 2 + i64::from(client.0 * 37 + server.0 * 110) * MS;
            let late = number * 37 % 23 * 10_000;
            let read = |process: Process, at: i64| {
                LocalTime::from_nanos(1_700_000_000 * SECOND + at + (process.1)(at, number))
            };
            let exchange = Exchange {
                id: 0,
                link: Link::default(),
                request_sent: read(client, sent),
                request_received: read(server, sent + out + late),
                response_sent: read(server, sent + out + late + MS),
                response_received: read(client, sent + out + 2 * late + MS + back),
                client_quantum_ns: 1,
                server_quantum_ns: 1,
                counts: if out + late + back < 0 { Use::ForwardOnly } else { Use::TwoSided },
            };
            Call { client: client.0, server: server.0, exchange }
        };
        (0..100).map(one).collect()
    }
}
