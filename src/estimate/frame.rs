//! The frame of reference: which clocks stand at zero, and which say where zero is where none does.
//!
//! What all clocks of a group do together cannot be seen. The reference stands at zero; of two clocks that only know each
//! other nobody can tell which is wrong, so one of them does; in larger groups the median clock does, by the votes of the
//! machines among them. Where an earlier estimate knows clocks of the group, these alone vote, and what stands still is what
//! it took off their readings: the least change over them, so that a window that sees other clocks than the last one does not
//! move all of them together.

use rustc_hash::FxHashSet;

use super::align;
use super::evidence::Evidence;
use super::{Course, Settings};

/// Per clock.
#[derive(Clone, Debug)]
pub(super) struct Frame {
    /// It stands at zero at all times.
    pub(super) fixed: Vec<bool>,
    /// It counts where the median clock of its group is looked for.
    pub(super) votes: Vec<bool>,
    /// What its offset is measured from by its vote: what an earlier estimate took off its readings.
    pub(super) known: Vec<Course>,
}

impl Frame {
    pub(super) fn of(evidence: &Evidence, settings: &Settings) -> Self {
        let clocks = evidence.clocks.len();
        let standing = |clock: usize| settings.standing.get(clock).copied().unwrap_or_default();
        let known = (0..clocks).map(|clock| standing(clock).before.unwrap_or_default()).collect();
        let mut frame = Self { fixed: vec![false; clocks], votes: vec![true; clocks], known };
        if let Some(reference) = settings.reference {
            frame.fixed[reference.0 as usize] = true;
        }
        let mut groups: Vec<Vec<usize>> = vec![Vec::new(); clocks];
        for (clock, group) in align::groups(clocks, &evidence.readings).into_iter().enumerate() {
            groups[group as usize].push(clock);
        }
        for group in &groups {
            if group.iter().any(|&clock| frame.fixed[clock]) {
                continue;
            }
            let is_known = group.iter().any(|&clock| standing(clock).before.is_some());
            let stood = |clock: usize| standing(clock).before.is_some_and(|before| before.is_none());
            if let [one, other] = group[..]
                && (!is_known || stood(one) || stood(other))
            {
                let speaks = |clock: usize| (stood(clock), standing(clock).is_host, standing(clock).spans);
                // The first by key where nothing speaks for the other.
                frame.fixed[if speaks(other) > speaks(one) { other } else { one }] = true;
            }
            let asked: Vec<usize> =
                group.iter().copied().filter(|&clock| !is_known || standing(clock).before.is_some()).collect();
            let is_any_host = asked.iter().any(|&clock| standing(clock).is_host);
            group.iter().for_each(|&clock| frame.votes[clock] = false);
            asked.iter().for_each(|&clock| frame.votes[clock] = !is_any_host || standing(clock).is_host);
        }
        frame
    }
}

impl Frame {
    /// Of clocks that are to be held, lets go those without a vote where none of their group has one: a phone of which little is
    /// known seems as right as it is unsure, and held alone it would move all machines.
    pub(super) fn stand_by(&self, groups: &[u32], held: &mut [bool]) {
        let votes = |clock: &usize| self.votes[*clock] || self.fixed[*clock];
        let stand: FxHashSet<u32> = (0..held.len())
            .filter(|clock| (held[*clock] || self.fixed[*clock]) && votes(clock))
            .map(|clock| groups[clock])
            .collect();
        held.iter_mut().zip(groups).for_each(|(held, group)| *held &= stand.contains(group));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::{CallClass, ClockId, Exchange, Link, LocalTime, Use};
    use crate::estimate::Standing;

    /// Clocks by their standing, `h` for a host and `.` for another, each with so many spans, and behind it `=` where an
    /// earlier estimate left it alone, `!` where it moved it; calls between pairs of them. Gives who is fixed and who votes.
    fn check(standing: &str, calls: &[(u32, u32)], reference: Option<u32>, [fixed, votes]: [&str; 2]) {
        let exchange = |(id, &(client, server)): (u64, &(u32, u32))| Exchange {
            id,
            link: Link { client: ClockId(client), server: ClockId(server), class: 0 },
            request_sent: LocalTime::from_nanos(1_000_000_000_000_000),
            request_received: LocalTime::from_nanos(1_000_000_000_000_100),
            response_sent: LocalTime::from_nanos(1_000_000_000_000_200),
            response_received: LocalTime::from_nanos(1_000_000_000_000_300),
            client_quantum_ns: 1,
            server_quantum_ns: 1,
            counts: Use::TwoSided,
        };
        let exchanges: Vec<Exchange> = (0..).zip(calls).map(exchange).collect();
        let standing: Vec<Standing> = standing
            .split_whitespace()
            .map(|word| Standing {
                is_host: word.starts_with('h'),
                spans: word[1..].trim_end_matches(['=', '!']).parse().unwrap(),
                before: match word.as_bytes()[word.len() - 1] {
                    b'=' => Some(Course::default()),
                    b'!' => Some(Course { offset_ns: 50_000_000, ..Course::default() }),
                    _ => None,
                },
            })
            .collect();
        let keys = (0..standing.len()).map(|clock| format!("{clock:02}")).collect();
        let evidence = Evidence::of(keys, vec![CallClass::default()], &exchanges);
        let settings = Settings { reference: reference.map(ClockId), max_correction_ns: None, standing };
        let frame = Frame::of(&evidence, &settings);
        let text = |of: &[bool]| of.iter().map(|it| if *it { '1' } else { '0' }).collect::<String>();
        assert_eq!([text(&frame.fixed), text(&frame.votes)], [fixed, votes]);
    }

    #[test]
    fn of_two_clocks_the_host_stands_then_the_busier_then_the_first() {
        check(".9 h1", &[(0, 1)], None, ["01", "01"]);
        check(".9 .1", &[(0, 1)], None, ["10", "11"]);
        check("h1 h9", &[(0, 1)], None, ["01", "11"]);
        check("h5 h5", &[(0, 1)], None, ["10", "11"]);
        check("h5 h5", &[(0, 1)], Some(1), ["01", "11"]);
    }

    #[test]
    fn phones_hold_nobody_alone() {
        let known = vec![Course::default(); 6];
        let votes = vec![true, false, false, false, true, true];
        let frame = Frame { fixed: vec![false, false, false, true, false, false], votes, known };
        let check = |held: [bool; 6], expected: [bool; 6]| {
            let mut after = held.to_vec();
            frame.stand_by(&[0, 0, 0, 3, 3, 3], &mut after);
            assert_eq!(after, expected);
        };
        check([true, true, false, false, true, false], [true, true, false, false, true, false]);
        check([false, true, true, false, true, true], [false, false, false, false, true, true]);
        // The reference stands anyhow.
        check([false, false, false, false, false, true], [false, false, false, false, false, true]);
    }

    #[test]
    fn of_two_clocks_the_one_that_was_left_alone_stands() {
        check("h9 .1=", &[(0, 1)], None, ["01", "01"]);
        check("h9! .1=", &[(0, 1)], None, ["01", "10"]);
        check("h9= h1=", &[(0, 1)], None, ["10", "11"]);
        // Nobody stands at zero where that is known to be wrong.
        check("h9! h1", &[(0, 1)], None, ["00", "10"]);
        check("h9! h1!", &[(0, 1)], None, ["00", "11"]);
        check("h9! h1", &[(0, 1)], Some(1), ["01", "11"]);
    }

    #[test]
    fn where_clocks_are_known_they_vote_alone() {
        check("h1 .1= .1! h1", &[(0, 1), (1, 2), (2, 3)], None, ["0000", "0110"]);
        check("h1= .1= h1 h1!", &[(0, 1), (1, 2), (2, 3)], None, ["0000", "1001"]);
    }

    #[test]
    fn in_larger_groups_hosts_vote_and_where_there_is_none_all_do() {
        check(".1 .1 h1 h1", &[(0, 2), (1, 2), (2, 3)], None, ["0000", "0011"]);
        check(".1 .1 .1", &[(0, 1), (1, 2)], None, ["000", "111"]);
        // One that nothing ties to another neither stands nor is asked.
        check("h1 h1 h1 h1", &[(0, 1), (1, 2)], None, ["0000", "1111"]);
    }
}
