//! How an SDK times a span: what it writes, and the true instants that stand behind it.

use super::clocks::Clock;
use crate::clock::{LocalTime, ReferenceTime};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Habit {
    /// Start read from the wall clock, end = start + monotonic time.
    Plain,
    /// The same with starts cut to whole milliseconds.
    MillisecondStarts,
    /// Both read from the wall clock.
    WallClockEnds,
    /// One wall-clock reading per local trace; all else is monotonic time from there.
    Anchored,
}

/// What was written, and the true instants of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Stamp {
    pub start: LocalTime,
    pub end: LocalTime,
    /// What was written less the clock's offset in that reading: an SDK's flooring stays in it, because no
    /// knowledge of the clock brings it back.
    pub true_start: ReferenceTime,
    pub true_end: ReferenceTime,
}

const MILLISECOND: i64 = 1_000_000;

impl Habit {
    /// Writes down a span that truly lasted `from..to`, in a local trace that began at `anchor`.
    pub fn stamp(self, clock: &Clock, anchor: ReferenceTime, from: ReferenceTime, to: ReferenceTime) -> Stamp {
        let read = clock.read(from);
        let stamp = |start: LocalTime, end| Stamp { start, end, true_start: from, true_end: to };
        match self {
            Self::Plain => stamp(read, read.plus(clock.monotonic_ns(from, to))),
            Self::WallClockEnds => stamp(read, clock.read(to)),
            Self::Anchored => {
                let base = clock.read(anchor);
                stamp(base.plus(clock.monotonic_ns(anchor, from)), base.plus(clock.monotonic_ns(anchor, to)))
            }
            Self::MillisecondStarts => {
                let cut = read.nanos().rem_euclid(MILLISECOND);
                let start = read.plus(-cut);
                Stamp {
                    start,
                    end: start.plus(clock.monotonic_ns(from, to)),
                    true_start: from.plus(-cut),
                    true_end: to.plus(-cut),
                }
            }
        }
    }

    /// `telemetry.sdk.language` of an SDK with this habit.
    pub fn language(self) -> &'static str {
        match self {
            Self::Plain => "go",
            Self::MillisecondStarts => "nodejs",
            Self::WallClockEnds => "python",
            Self::Anchored => "java",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::simulate::clocks::Life;
    use crate::simulate::scenario::{GivenClock, GivenStep};

    /// A clock 250.3 ms ahead that steps back by 1 s ten seconds in; a local trace from 9.9 s, a span of it from
    /// `from_ms` to `to_ms`. All in ms after the start.
    fn check(habit: Habit, [from_ms, to_ms]: [f64; 2], written: [f64; 2], truly: [f64; 2]) {
        let start = ReferenceTime::from_nanos(1_750_000_000_000_000_000);
        let steps = vec![GivenStep { at_s: 10.0, ms: -1_000.0 }];
        let given = GivenClock { offset_ms: 250.3, steps, ..Default::default() };
        let clock = Clock::given(&given, Life { from: start, until: start.plus(60_000_000_000) });
        let at = |ms: f64| start.plus((ms * 1e6).round() as i64);
        let stamp = habit.stamp(&clock, at(9_900.0), at(from_ms), at(to_ms));
        let ms = |nanos: i64| (nanos - start.nanos()) as f64 / 1e6;
        assert_eq!([ms(stamp.start.nanos()), ms(stamp.end.nanos())], written, "{habit:?} written");
        assert_eq!([ms(stamp.true_start.nanos()), ms(stamp.true_end.nanos())], truly, "{habit:?} truth");
    }

    #[test]
    fn away_from_a_step_only_milliseconds_differ() {
        let (span, written) = ([9_950.4, 9_960.9], [10_200.7, 10_211.2]);
        check(Habit::Plain, span, written, span);
        check(Habit::WallClockEnds, span, written, span);
        check(Habit::Anchored, span, written, span);
        check(Habit::MillisecondStarts, span, [10_200.0, 10_210.5], [9_949.7, 9_960.2]);
    }

    #[test]
    fn across_a_step_only_a_second_wall_clock_reading_sees_it() {
        let span = [9_990.0, 10_010.0];
        check(Habit::Plain, span, [10_240.3, 10_260.3], span);
        check(Habit::WallClockEnds, span, [10_240.3, 9_260.3], span);
        check(Habit::MillisecondStarts, span, [10_240.0, 10_260.0], [9_989.7, 10_009.7]);
    }

    #[test]
    fn after_a_step_an_anchored_local_trace_goes_on_as_it_began() {
        let span = [10_020.0, 10_030.0];
        check(Habit::Anchored, span, [10_270.3, 10_280.3], span);
        check(Habit::Plain, span, [9_270.3, 9_280.3], span);
    }
}
