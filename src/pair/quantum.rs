//! How coarse a process' starts are: found in the data, as no SDK's name is sure to tell it.

use crate::clock::LocalTime;

const COARSEST_NS: i64 = 1_000_000;

/// Nine starts in ten must be whole: an SDK takes times from its caller now and then.
const SHARE: f64 = 0.9;

/// A start as the quantum of its process is found from.
#[derive(Clone, Copy, Debug)]
pub struct Start {
    pub resource: u32,
    pub at: LocalTime,
    /// The first span of its trace in its process, so that what an SDK takes once for all of them is taken here.
    pub enters: bool,
}

/// How far the starts of a process are floored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Quantum {
    /// Starts are multiples of so many ns; 1 when exact.
    Starts(u32),
    /// Each trace's spans are counted on from a multiple of so many ns, and so all early by the same.
    Anchors(u32),
}

impl Quantum {
    /// By how much a start may be early, ns; 1 when exact.
    pub fn of_start(self, start: LocalTime) -> u32 {
        match self {
            Self::Starts(quantum) if start.nanos() % i64::from(quantum) != 0 => 1,
            Self::Starts(quantum) | Self::Anchors(quantum) => quantum,
        }
    }
}

/// A span is begun this soon after its SDK took the time that it counts from: Java takes 0.1 to 0.5 µs. By chance, one
/// start in a thousand is so near to a whole millisecond, so one alone shows nothing.
const BEGUN_WITHIN_NS: i64 = COARSEST_NS / 1_000;

/// Per resource, the quantum of its starts, from those of all spans.
pub fn quanta(resources: usize, starts: impl Iterator<Item = Start>) -> Vec<Quantum> {
    const QUANTA: [i64; 3] = [COARSEST_NS, 1_000, 100];
    #[derive(Clone, Default)]
    struct Counts {
        all: u64,
        whole: [u64; 3],
        entering: u64,
        anchored: u64,
    }
    let is_most = |count: u64, all: u64| count as f64 >= SHARE * all as f64;
    let mut counts = vec![Counts::default(); resources];
    for Start { resource, at, enters } in starts {
        let counts = &mut counts[resource as usize];
        counts.all += 1;
        for (count, quantum) in counts.whole.iter_mut().zip(QUANTA) {
            *count += u64::from(at.nanos() % quantum == 0);
        }
        counts.entering += u64::from(enters);
        counts.anchored += u64::from(enters && at.nanos().rem_euclid(COARSEST_NS) < BEGUN_WITHIN_NS);
    }
    let quantum = |counts: &Counts| {
        let whole = counts.whole.iter().zip(QUANTA).find(|(count, _)| is_most(**count, counts.all));
        match whole {
            Some((_, COARSEST_NS)) => Quantum::Starts(COARSEST_NS as u32),
            _ if counts.anchored > 1 && is_most(counts.anchored, counts.entering) => {
                Quantum::Anchors(COARSEST_NS as u32)
            }
            found => Quantum::Starts(found.map_or(1, |(_, quantum)| quantum as u32)),
        }
    };
    counts.iter().map(quantum).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(starts: &[i64], expected: u32) {
        let start = |&nanos: &i64| Start { resource: 0, at: LocalTime::from_nanos(nanos), enters: false };
        assert_eq!(quanta(1, starts.iter().map(start)), [Quantum::Starts(expected)]);
    }

    #[test]
    fn whole_milliseconds_are_floored() {
        check(&[5_000_000, 7_000_000, 1_000_000], 1_000_000);
    }

    #[test]
    fn one_exact_start_among_many_whole_ones_changes_nothing() {
        let mut starts = vec![3_000_000; 20];
        starts.push(3_000_001);
        check(&starts, 1_000_000);
    }

    #[test]
    fn microseconds_and_ticks_are_told_apart_from_nanoseconds() {
        check(&[5_001_000, 7_000_000], 1_000);
        check(&[5_001_100, 7_000_000], 100);
        check(&[5_001_101, 7_000_000], 1);
    }
}
