//! How coarse a process' starts are: found in the data, as no SDK's name is sure to tell it.

use crate::clock::LocalTime;

const MILLISECOND_NS: i64 = 1_000_000;

/// What starts are floored to, coarsest first. A second is no SDK's habit, but that of a pipeline that drops fractions.
const QUANTA: [i64; 4] = [1_000_000_000, MILLISECOND_NS, 1_000, 100];

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
    /// The spans that enter the process start at multiples of so many ns, as a web server reads a coarse clock for
    /// requests; the others at multiples of `rest`.
    Entering { quantum: u32, rest: u32 },
    /// Each trace's spans are counted on from a multiple of so many ns, and so all early by the same.
    Anchors(u32),
}

impl Quantum {
    /// By how much a start may be early, ns; 1 when exact.
    pub fn of_start(self, start: LocalTime) -> u32 {
        let is_whole = |quantum: u32| start.nanos() % i64::from(quantum) == 0;
        match self {
            Self::Starts(quantum) | Self::Entering { quantum, .. } if is_whole(quantum) => quantum,
            Self::Entering { rest, .. } if is_whole(rest) => rest,
            Self::Starts(_) | Self::Entering { .. } => 1,
            Self::Anchors(quantum) => quantum,
        }
    }
}

/// A span is begun this soon after its SDK took the time that it counts from: Java takes 0.1 to 0.5 µs.
const BEGUN_WITHIN_NS: i64 = MILLISECOND_NS / 1_000;

/// By chance, one start in a thousand is so near to a whole millisecond, and one whole millisecond in a thousand is a
/// whole second, so one alone shows nothing.
const LEAST: u64 = 2;

#[derive(Clone, Default)]
struct Counts {
    all: u64,
    /// Multiples of each quantum.
    whole: [u64; QUANTA.len()],
    entering: u64,
    /// Of those, at a whole millisecond, and just behind one.
    entering_whole: u64,
    entering_behind: u64,
}

/// So many starts at the least show a tick.
const LEAST_OF_TICK: u32 = 20;

/// Per resource, the tick of its clock, ns: the greatest time that all of its starts are whole multiples of apart, where that
/// is more than an SDK floors to; whole seconds are a pipeline's. `None`: no such tick.
pub fn ticks(resources: usize, starts: impl Iterator<Item = (u32, LocalTime)>) -> Vec<Option<i64>> {
    const SECOND_NS: i64 = QUANTA[0];
    // How many, the first of them, and the greatest common divisor of how far the others are from it.
    let mut found: Vec<(u32, i64, i64)> = vec![(0, 0, 0); resources];
    for (resource, start) in starts {
        let (count, first, common) = &mut found[resource as usize];
        if *count == 0 {
            *first = start.nanos();
        }
        *count += 1;
        // Euclid's algorithm.
        let mut rest = start.nanos().saturating_sub(*first).saturating_abs();
        while rest > 0 {
            (*common, rest) = (rest, *common % rest);
        }
    }
    let tick = |(count, _, common): (u32, i64, i64)| {
        (count >= LEAST_OF_TICK && common > MILLISECOND_NS && common % SECOND_NS > 0).then_some(common)
    };
    found.into_iter().map(tick).collect()
}

/// Per resource, the quantum of its starts, from those of all spans.
pub fn quanta(resources: usize, starts: impl Iterator<Item = Start>) -> Vec<Quantum> {
    const MILLISECOND: u32 = MILLISECOND_NS as u32;
    let is_most = |count: u64, all: u64| count as f64 >= SHARE * all as f64;
    let mut counts = vec![Counts::default(); resources];
    for Start { resource, at, enters } in starts {
        let counts = &mut counts[resource as usize];
        counts.all += 1;
        for (count, quantum) in counts.whole.iter_mut().zip(QUANTA) {
            *count += u64::from(at.nanos() % quantum == 0);
        }
        if enters {
            let behind = at.nanos().rem_euclid(MILLISECOND_NS);
            counts.entering += 1;
            counts.entering_whole += u64::from(behind == 0);
            counts.entering_behind += u64::from(behind > 0 && behind < BEGUN_WITHIN_NS);
        }
    }
    let quantum = |counts: &Counts| {
        let found = counts
            .whole
            .iter()
            .zip(QUANTA)
            .find(|&(&count, quantum)| is_most(count, counts.all) && (quantum <= MILLISECOND_NS || count >= LEAST));
        let rest = found.map_or(1, |(_, quantum)| quantum as u32);
        let enter = |count: u64| count >= LEAST && is_most(count, counts.entering);
        match rest {
            MILLISECOND.. => Quantum::Starts(rest),
            _ if enter(counts.entering_behind) => Quantum::Anchors(MILLISECOND),
            _ if enter(counts.entering_whole) => Quantum::Entering { quantum: MILLISECOND, rest },
            _ => Quantum::Starts(rest),
        }
    };
    counts.iter().map(quantum).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A web server that reads its clock each millisecond, for requests alone (nginx).
    #[test]
    fn only_what_enters_may_be_floored() {
        let starts = [(5_000_000, true), (7_123_000, false), (9_000_000, true), (9_456_000, false)];
        let start = |(nanos, enters)| Start { resource: 0, at: LocalTime::from_nanos(nanos), enters };
        let quanta = quanta(1, starts.into_iter().map(start));
        assert_eq!(
            starts.map(|(nanos, _)| quanta[0].of_start(LocalTime::from_nanos(nanos))),
            [1_000_000, 1_000, 1_000_000, 1_000]
        );
    }

    fn check(starts: &[i64], expected: u32) {
        let start = |&nanos: &i64| Start { resource: 0, at: LocalTime::from_nanos(nanos), enters: false };
        assert_eq!(quanta(1, starts.iter().map(start)), [Quantum::Starts(expected)]);
    }

    #[test]
    fn a_clock_that_moves_every_10_ms_ticks_whatever_its_phase() {
        let check = |tick: i64, phase: i64, count: i64, expected: Option<i64>| {
            let starts = (0..count).map(|index| (0, LocalTime::from_nanos((index * index + 7) * tick + phase)));
            assert_eq!(ticks(1, starts), [expected], "{tick} {phase} {count}");
        };
        check(10_000_000, 0, 20, Some(10_000_000));
        check(15_625_000, 4_100_300, 20, Some(15_625_000));
        check(10_000_000, 0, 19, None);
        check(1_000_000, 0, 20, None);
        check(1_000_000_000, 0, 20, None);
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
    fn whole_seconds_are_floored_unless_there_is_but_one() {
        check(&[5_000_000_000, 7_000_000_000], 1_000_000_000);
        check(&[5_000_000_000], 1_000_000);
    }

    #[test]
    fn microseconds_and_ticks_are_told_apart_from_nanoseconds() {
        check(&[5_001_000, 7_000_000], 1_000);
        check(&[5_001_100, 7_000_000], 100);
        check(&[5_001_101, 7_000_000], 1);
    }
}
