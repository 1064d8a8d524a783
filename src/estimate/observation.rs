//! Readings on the grid: relative to their clocks' bases, at the places that a model has them.

use rayon::iter::{IndexedParallelIterator, IntoParallelRefIterator, ParallelIterator};

use super::align::Alignment;
use super::curves::Curves;
use super::evidence::{Reading, Side};
use super::fit::Grid;
use super::jumps;

/// Readings that are worth a turn of their own.
pub(super) const AT_ONCE: usize = 4_096;

/// In whole seconds the end of a span is floored on its own, so that δ is wrong as well and picking by it is no longer
/// fair: no average makes up for it, ns².
pub(super) const WHOLE_SECONDS: f64 = 1e18 / 12.0;

/// A reading, relative to the bases of its two clocks.
#[derive(Clone, Copy, Debug)]
pub(super) struct Observation {
    pub(super) link: u32,
    /// The way its message took, which other links may share.
    pub(super) route: u32,
    /// Its kind of call, which has a bias.
    pub(super) kind: u32,
    pub(super) client: u32,
    pub(super) server: u32,
    pub(super) side: Side,
    pub(super) one_way: bool,
    /// f and b less the difference of the bases, ns.
    pub(super) forward: f64,
    pub(super) backward: f64,
    /// How far the server's base is ahead of the client's, at the request and at the response, ns.
    pub(super) apart: [f64; 2],
    /// Places on the grid of T1, T2, T3, T4, by each clock's own time less its base.
    pub(super) local: [f64; 4],
    /// Places on the grid of T1, T2, T3, T4, the model taken off: reference time.
    pub(super) sent: f64,
    pub(super) received: f64,
    pub(super) responded: f64,
    pub(super) returned: f64,
    /// What the client's clock and the server's are floored to, ns.
    pub(super) quanta: [f64; 2],
    pub(super) exchange: u64,
    /// The least of so many.
    pub(super) stands_for: u32,
    /// Its clocks jump, and whatever they had done by then, it comes before it was sent.
    pub(super) astray: bool,
}

impl Observation {
    /// Stands for its response as well; a call without one has no δ.
    pub(super) fn is_two_sided(&self) -> bool {
        self.side != Side::Forward
    }

    pub(super) fn delay(&self) -> f64 {
        self.forward + self.backward
    }

    /// Variance of what flooring adds to (f − b)/2, ns². A floored client's T1 and T4 are early by the same u, uniform
    /// in [0, q), so (f − b)/2 is too large by u; a floored server's makes it too small.
    pub(super) fn floored_variance(&self) -> f64 {
        (self.quanta[0].powi(2) + self.quanta[1].powi(2)) / 12.0
    }

    /// The request's delay, by the model, ns.
    pub(super) fn out(&self, curves: &Curves) -> f64 {
        self.forward - (curves.at(self.server, self.received) - curves.at(self.client, self.sent))
    }

    /// The response's delay, by the model, ns.
    pub(super) fn back(&self, curves: &Curves) -> f64 {
        self.backward + (curves.at(self.server, self.responded) - curves.at(self.client, self.returned))
    }

    /// Finds the reference time of its readings. A clock that steps back reads the same time twice; the other clock of
    /// the same message says which of the two it is.
    pub(super) fn locate(&mut self, curves: &Curves, spacing_ns: f64) {
        let alone = |clock: u32, local: f64| {
            let at = local - curves.at(clock, local) / spacing_ns;
            local - curves.at(clock, at) / spacing_ns
        };
        let steady = curves.steps(self.client) <= curves.steps(self.server);
        let [sent, received, responded, returned] = self.local;
        let beside = |clock: u32, local: f64, at: f64| local - curves.at(clock, at) / spacing_ns;
        if steady {
            self.sent = alone(self.client, sent);
            self.returned = alone(self.client, returned);
            self.received = beside(self.server, received, self.sent);
            self.responded = beside(self.server, responded, self.returned);
        } else {
            self.received = alone(self.server, received);
            self.responded = alone(self.server, responded);
            self.sent = beside(self.client, sent, self.received);
            self.returned = beside(self.client, returned, self.responded);
        }
    }

    /// Where the reading stands on the grid: by the client's clock, at the end that the reading is about.
    pub(super) fn place(&self) -> f64 {
        if self.side == Side::Backward { self.returned } else { self.sent }
    }
}

/// Puts readings on the grid.
pub(super) fn observe(
    readings: &[Reading],
    links: &[crate::clock::Link],
    alignment: &Alignment,
    grid: &Grid,
) -> Vec<Observation> {
    let observation = |reading: &Reading| {
        let (client, server) = (reading.link.client.0, reading.link.server.0);
        let moments = alignment.moments(reading);
        let bases = moments.map(|moment| moment.base);
        let apart = [bases[1].saturating_sub(bases[0]), bases[2].saturating_sub(bases[3])];
        let local = [
            grid.place(bases[0], reading.request_sent),
            grid.place(bases[1], reading.request_received),
            grid.place(bases[2], reading.response_sent),
            grid.place(bases[3], reading.response_received),
        ];
        let astray = !alignment.stretches[client as usize].is_empty() && jumps::is_astray(&moments, reading.side);
        let [sent, received, responded, returned] = moments.map(|moment| grid.place(0, moment.time));
        Observation {
            link: links.binary_search(&reading.link).unwrap_or(0) as u32,
            route: 0,
            kind: 0,
            client,
            server,
            side: reading.side,
            one_way: reading.one_way,
            forward: reading.forward_ns().saturating_sub(apart[0]) as f64,
            backward: reading.backward_ns().saturating_add(apart[1]) as f64,
            apart: apart.map(|apart| apart as f64),
            local,
            sent,
            received,
            responded,
            returned,
            quanta: [f64::from(reading.client_quantum_ns), f64::from(reading.server_quantum_ns)],
            exchange: reading.exchange,
            stands_for: reading.stands_for,
            astray,
        }
    };
    readings.par_iter().with_min_len(AT_ONCE).map(observation).collect()
}

#[cfg(test)]
impl Observation {
    /// A call between two clocks, as their curves have it and with a delay of 0.5 ms each way.
    pub(super) fn between(curves: &Curves, route: u32, (client, server): (u32, u32), at: f64) -> Self {
        let apart = curves.at(server, at) - curves.at(client, at);
        Self {
            link: route,
            route,
            kind: 0,
            client,
            server,
            side: Side::Both,
            one_way: false,
            forward: 5e5 + apart,
            backward: 5e5 - apart,
            apart: [0.0; 2],
            local: [at; 4],
            sent: at,
            received: at,
            responded: at,
            returned: at,
            quanta: [1.0; 2],
            exchange: 0,
            stands_for: 1,
            astray: false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_a_clock_that_jumps_what_no_stretch_explains_is_astray() {
        use super::super::evidence::Reading;
        use super::super::stretches::Stretch;
        use crate::clock::{ClockId, Link};
        let link = Link { client: ClockId(0), server: ClockId(1), class: 0 };
        let astray = |stretches: &[Stretch], received: i64| {
            let reading = Reading {
                link,
                side: Side::Backward,
                exchange: 0,
                request_sent: 50_000_000_000,
                request_received: received,
                response_sent: received + 1_000,
                response_received: 50_000_009_000,
                client_quantum_ns: 1,
                server_quantum_ns: 1,
                one_way: false,
                stands_for: 1,
            };
            let alignment = Alignment { groups: vec![0; 2], bases: vec![0; 2], stretches: vec![stretches.to_vec(); 2] };
            let grid = Grid { epoch: 0, spacing_ns: 5e9, reach: 1e3 };
            observe(&[reading], &[link], &alignment, &grid)[0].astray
        };
        let steady = [Stretch::steady(0)];
        assert!(!astray(&steady, 50_000_004_000));
        assert!(astray(&steady, 20_000_000_000) && astray(&steady, 80_000_000_000));
        // Where none jumps, a clock may run off by as much.
        assert!(!astray(&[], 20_000_000_000));
    }
}
