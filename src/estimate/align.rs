//! First look: which clocks are connected, and about how far each is off, to the nearest round trip.
//!
//! In come readings, out go groups and one integer offset per clock, so that all later arithmetic is on small
//! differences: a clock may be a year off, and an `f64` of a raw Unix time has steps of 256 ns.

use std::collections::BTreeMap;

use super::evidence::{Reading, Side};
use super::frame::Frame;
use super::jumps;
use super::stretches::{Moment, Stretch, moments};

/// Connected clocks, and where they stand before any fitting.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Alignment {
    /// Per clock the group it belongs to: numbered by the first clock in each.
    pub(super) groups: Vec<u32>,
    /// Per clock, its offset from its group's root, ns; where it jumps, before its first jump.
    pub(super) bases: Vec<i64>,
    /// Per clock, in groups in which one jumps or a few calls are astray, what it is off between its jumps; otherwise empty.
    pub(super) stretches: Vec<Vec<Stretch>>,
}

impl Alignment {
    /// A reading's four times.
    pub(super) fn moments(&self, reading: &Reading) -> [Moment; 4] {
        let (client, server) = (reading.link.client.0 as usize, reading.link.server.0 as usize);
        let steady = [client, server].map(|clock| [Stretch::steady(self.bases[clock])]);
        let history =
            |clock: usize, steady| if self.stretches[clock].is_empty() { steady } else { &self.stretches[clock][..] };
        let (of_client, of_server) = (history(client, &steady[0][..]), history(server, &steady[1][..]));
        let [sent, received] = moments((of_client, reading.request_sent), (of_server, reading.request_received));
        let [responded, returned] = moments((of_server, reading.response_sent), (of_client, reading.response_received));
        [sent, received, responded, returned]
    }
}

/// Per clock the first clock of its group: those that calls with both their ends connect.
pub(super) fn groups(clocks: usize, readings: &[Reading]) -> Vec<u32> {
    spanning_tree(clocks, &quickest_first(readings), &[]).0
}

/// Follows the quickest links outwards from the clocks that are `anchored` at zero. In a group without any, the median of
/// the clocks that vote stands where it is known to: what all of a group are off together must not look like a time of its
/// own.
pub(super) fn align(clocks: usize, readings: &[Reading], anchored: &[bool], frame: &Frame) -> Alignment {
    let edges = quickest_first(readings);
    let (groups, mut bases) = spanning_tree(clocks, &edges, &[]);
    let (trees, anchored_bases) = spanning_tree(clocks, &edges, anchored);
    let members = |group: u32| (0..clocks).filter(|&clock| groups[clock] == group).collect::<Vec<_>>();
    for group in (0..clocks as u32).filter(|&clock| groups[clock as usize] == clock) {
        let members = members(group);
        match members.iter().find(|&&clock| anchored.get(clock).copied().unwrap_or(false)) {
            Some(&anchor) => {
                let of_tree = |clock: &&usize| trees[**clock] == trees[anchor];
                members
                    .iter()
                    .filter(of_tree)
                    .for_each(|&clock| bases[clock] = anchored_bases[clock] - anchored_bases[anchor]);
            }
            None => {
                let changed = |&clock: &usize| bases[clock].saturating_sub(frame.known[clock].offset_ns);
                let mut sorted: Vec<i64> = members.iter().filter(|&&clock| frame.votes[clock]).map(changed).collect();
                sorted.sort_unstable();
                let median = sorted[(sorted.len() - 1) / 2];
                members.iter().for_each(|&clock| bases[clock] -= median);
            }
        }
    }
    let mut alignment = Alignment { groups, bases, stretches: vec![Vec::new(); clocks] };
    jumps::find(&mut alignment, readings, anchored);
    alignment
}

/// Pairs of clocks, each with its usual delay and how far the second clock is ahead, the quickest pair first.
fn quickest_first(readings: &[Reading]) -> Vec<(i64, u32, u32, i64)> {
    let mut pairs: BTreeMap<(u32, u32), Vec<(i64, i64)>> = BTreeMap::new();
    for reading in readings.iter().filter(|reading| reading.side != Side::Forward) {
        let (client, server) = (reading.link.client.0, reading.link.server.0);
        let delay = reading.round_trip_delay_ns();
        if delay >= 0 {
            let ahead = reading.forward_ns().saturating_sub(reading.backward_ns()) / 2;
            let ahead = if client < server { ahead } else { -ahead };
            pairs.entry((client.min(server), client.max(server))).or_default().push((delay, ahead));
        }
    }
    // The median of the quicker half: neither one call that ended early nor a congested hour decides.
    let mut edges: Vec<(i64, u32, u32, i64)> = pairs
        .into_iter()
        .map(|((low, high), mut calls)| {
            calls.sort_unstable();
            calls.truncate(calls.len().div_ceil(2));
            let delay = calls[calls.len() / 2].0;
            calls.sort_unstable_by_key(|call| call.1);
            (delay, low, high, calls[calls.len() / 2].1)
        })
        .collect();
    edges.sort_unstable();
    edges
}

/// Per clock the first clock of its tree, and how far it is ahead of that (Kruskal). Clocks that are `anchored` agree.
fn spanning_tree(clocks: usize, edges: &[(i64, u32, u32, i64)], anchored: &[bool]) -> (Vec<u32>, Vec<i64>) {
    let mut parent: Vec<u32> = (0..clocks as u32).collect();
    let mut ahead = vec![0i64; clocks];
    if let Some(first) = anchored.iter().position(|anchored| *anchored) {
        parent
            .iter_mut()
            .zip(anchored)
            .filter(|(_, anchored)| **anchored)
            .for_each(|(parent, _)| *parent = first as u32);
    }
    let find = |parent: &[u32], ahead: &[i64], clock: u32| {
        let (mut at, mut sum) = (clock, 0i64);
        while parent[at as usize] != at {
            sum += ahead[at as usize];
            at = parent[at as usize];
        }
        (at, sum)
    };
    for &(_, low, high, difference) in edges {
        let (low_root, low_ahead) = find(&parent, &ahead, low);
        let (high_root, high_ahead) = find(&parent, &ahead, high);
        if low_root != high_root {
            // offset(high) − offset(low) = difference
            let (child, root, of_child) = if low_root < high_root {
                (high_root, low_root, low_ahead + difference - high_ahead)
            } else {
                (low_root, high_root, high_ahead - difference - low_ahead)
            };
            parent[child as usize] = root;
            ahead[child as usize] = of_child;
        }
    }
    (0..clocks as u32).map(|clock| find(&parent, &ahead, clock)).unzip()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::{ClockId, Link};
    use crate::estimate::Course;

    fn call(client: u32, server: u32, ahead: i64, delay: i64) -> Reading {
        Reading {
            link: Link { client: ClockId(client), server: ClockId(server), class: 0 },
            side: Side::Backward,
            exchange: 0,
            request_sent: 0,
            request_received: delay / 2 + ahead,
            response_sent: ahead + 100,
            response_received: delay / 2 + 100,
            client_quantum_ns: 1,
            server_quantum_ns: 1,
            one_way: false,
            stands_for: 1,
        }
    }

    /// Clocks by whether they vote, of which nothing is known.
    fn frame<const N: usize>(votes: [bool; N]) -> Frame {
        Frame { fixed: vec![false; N], votes: votes.to_vec(), known: vec![Course::default(); N] }
    }

    #[test]
    fn offsets_add_up_along_the_quickest_links() {
        let calls = [call(0, 1, 500, 10), call(2, 1, -300, 20), call(0, 2, 7_000, 5_000)];
        let found = align(4, &calls, &[true, false, false, false], &frame([true; 4]));
        assert_eq!(found.bases, [0, 500, 800, 0]);
        assert_eq!(found.groups, [0, 0, 0, 3]);
        assert_eq!(align(4, &calls, &[false, false, true, false], &frame([true; 4])).bases, [-800, -300, 0, 0]);
        assert_eq!(align(4, &calls, &[], &frame([true; 4])).bases, [-500, 0, 300, 0], "the median clock");
        assert_eq!(
            align(4, &calls, &[], &frame([false, false, true, true])).bases,
            [-800, -300, 0, 0],
            "the only one that votes"
        );
        let mut known = frame([true, true, false, true]);
        known.known[1] = Course { offset_ns: 90, ..Course::default() };
        known.known[0] = Course { offset_ns: 90, ..Course::default() };
        // One did not change, and one is 500 further.
        assert_eq!(align(4, &calls, &[], &known).bases, [90, 590, 890, 0]);
    }

    #[test]
    fn a_call_that_nobody_waited_for_does_not_align() {
        let calls = [call(0, 1, 500, 10), call(0, 1, 500, 12), call(0, 1, 90_000, -4)];
        assert_eq!(align(2, &calls, &[true, false], &frame([true; 2])).bases, [0, 500]);
    }

    #[test]
    fn clocks_held_at_zero_agree_and_keep_their_groups() {
        let calls = [call(0, 1, 9_000, 10), call(0, 2, 9_005, 20), call(3, 4, 70, 10)];
        let found = align(5, &calls, &[false, true, true, false, true], &frame([true; 5]));
        assert_eq!(found.bases, [-9_000, 0, 0, -70, 0]);
        assert_eq!(found.groups, [0, 0, 0, 3, 3]);
    }
}
