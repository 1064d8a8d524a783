//! How coarse a process' starts are: found in the data, as no SDK's name is sure to tell it.

use crate::clock::LocalTime;

const COARSEST_NS: i64 = 1_000_000;

/// Nine starts in ten must be whole: an SDK takes times from its caller now and then.
const SHARE: f64 = 0.9;

/// Per resource, the quantum of its starts in ns, from `(resource, start)` of all spans; 1 when exact.
pub fn quanta(resources: usize, starts: impl Iterator<Item = (u32, LocalTime)>) -> Vec<u32> {
    const QUANTA: [i64; 3] = [COARSEST_NS, 1_000, 100];
    let mut whole = vec![[0u64; 3]; resources];
    let mut all = vec![0u64; resources];
    for (resource, start) in starts {
        all[resource as usize] += 1;
        for (count, quantum) in whole[resource as usize].iter_mut().zip(QUANTA) {
            *count += u64::from(start.nanos() % quantum == 0);
        }
    }
    let quantum = |(whole, all): (&[u64; 3], &u64)| {
        let found = whole.iter().zip(QUANTA).find(|(count, _)| **count as f64 >= SHARE * *all as f64);
        found.map_or(1, |(_, quantum)| quantum as u32)
    };
    whole.iter().zip(&all).map(quantum).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(starts: &[i64], expected: u32) {
        let starts = starts.iter().map(|&nanos| (0, LocalTime::from_nanos(nanos)));
        assert_eq!(quanta(1, starts), [expected]);
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
