//! The frame of reference: which clocks stand at zero, and which say where zero is where none does.
//!
//! What all clocks of a group do together cannot be seen. The reference stands at zero; of two clocks that only know each
//! other nobody can tell which is wrong, so one of them does; in larger groups the median clock does, by the votes of the
//! machines among them.

use super::Settings;
use super::align;
use super::evidence::Evidence;

/// Per clock.
#[derive(Clone, Debug)]
pub(super) struct Frame {
    /// It stands at zero at all times.
    pub(super) fixed: Vec<bool>,
    /// It counts where the median clock of its group is looked for.
    pub(super) votes: Vec<bool>,
}

impl Frame {
    pub(super) fn of(evidence: &Evidence, settings: &Settings) -> Self {
        let clocks = evidence.clocks.len();
        let standing = |clock: usize| settings.standing.get(clock).copied().unwrap_or_default();
        let mut frame = Self { fixed: vec![false; clocks], votes: vec![true; clocks] };
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
            if let [one, other] = group[..] {
                // The first by key where nothing speaks for the other.
                frame.fixed[if standing(other) > standing(one) { other } else { one }] = true;
            }
            if group.iter().any(|&clock| standing(clock).is_host) {
                group.iter().for_each(|&clock| frame.votes[clock] = standing(clock).is_host);
            }
        }
        frame
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::{CallClass, ClockId, Exchange, Link, LocalTime, Use};
    use crate::estimate::Standing;

    /// Clocks by their standing, `h` for a host and `.` for another, each with so many spans; calls between pairs of them.
    /// Gives who is fixed and who votes.
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
            .map(|word| Standing { is_host: word.starts_with('h'), spans: word[1..].parse().unwrap() })
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
    fn in_larger_groups_hosts_vote_and_where_there_is_none_all_do() {
        check(".1 .1 h1 h1", &[(0, 2), (1, 2), (2, 3)], None, ["0000", "0011"]);
        check(".1 .1 .1", &[(0, 1), (1, 2)], None, ["000", "111"]);
        // One that nothing ties to another neither stands nor is asked.
        check("h1 h1 h1 h1", &[(0, 1), (1, 2)], None, ["0000", "1111"]);
    }
}
