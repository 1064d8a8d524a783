//! A wrong clock: a function from true time to what it reads.

use super::dice::Dice;
use super::scenario::{Clocks, GivenClock, Steps};
use crate::clock::{LocalTime, ReferenceTime};

/// A sudden or gradual change of a clock's offset. `size_ns` is positive when the clock gains.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Change {
    /// When it happens or begins.
    pub at: ReferenceTime,
    pub size_ns: f64,
    /// 0 for a step.
    pub duration_ns: i64,
}

/// Offset = what accumulates smoothly + the steps so far. Monotonic time has the first alone.
#[derive(Clone, Debug)]
pub struct Clock {
    /// True time and offset in ns, straight lines between; constant before the first, the last line goes on.
    smooth: Vec<(i64, f64)>,
    /// Steps and slews in time order; a slew is in `smooth` already.
    changes: Vec<Change>,
}

/// Frequency is redrawn this often where it wanders.
const KNOT_S: f64 = 10.0;

impl Clock {
    /// Reads true time.
    pub fn perfect() -> Self {
        Self { smooth: vec![(0, 0.0)], changes: Vec::new() }
    }

    /// How far this clock is ahead at a true instant, in ns; negative is behind.
    pub fn offset_ns(&self, at: ReferenceTime) -> f64 {
        let steps = self.changes.iter().filter(|change| change.duration_ns == 0 && change.at <= at);
        self.smooth_ns(at) + steps.map(|step| step.size_ns).sum::<f64>()
    }

    /// What the wall clock reads at a true instant.
    pub fn read(&self, at: ReferenceTime) -> LocalTime {
        LocalTime::from_nanos(at.nanos()).plus(self.offset_ns(at).round() as i64)
    }

    /// Monotonic time that passes between two true instants, in ns: slewed as the wall clock is, never stepped.
    pub fn monotonic_ns(&self, from: ReferenceTime, to: ReferenceTime) -> i64 {
        (to - from) + (self.smooth_ns(to) - self.smooth_ns(from)).round() as i64
    }

    /// Steps and slews, in time order.
    pub fn changes(&self) -> &[Change] {
        &self.changes
    }

    fn smooth_ns(&self, at: ReferenceTime) -> f64 {
        let at = at.nanos();
        let next = self.smooth.partition_point(|knot| knot.0 <= at);
        let (left, right) = match (next, self.smooth.len()) {
            (_, 1) | (0, _) => return self.smooth[0].1,
            (next, len) if next == len => (self.smooth[len - 2], self.smooth[len - 1]),
            _ => (self.smooth[next - 1], self.smooth[next]),
        };
        left.1 + (right.1 - left.1) * ((at - left.0) as f64 / (right.0 - left.0) as f64)
    }

    /// The clock that a scenario spells out.
    pub fn given(given: &GivenClock, life: Life) -> Self {
        let mut clock = Self { smooth: life.line(given.offset_ms * 1e6, given.frequency_ppm), changes: Vec::new() };
        for slew in &given.slews {
            clock.slew(life.after_s(slew.at_s), slew.ms * 1e6, seconds(slew.last_s));
        }
        for step in &given.steps {
            clock.step(life.after_s(step.at_s), step.ms * 1e6);
        }
        clock
    }

    /// A clock drawn as the scenario says.
    pub fn drawn(clocks: &Clocks, life: Life, troubled: Trouble, dice: &mut Dice) -> Self {
        let mut clock = if clocks.perfect {
            Self::perfect()
        } else if let Some(within_ms) = clocks.ntp_within_ms {
            Self { smooth: kept(within_ms * 1e6, life, dice), changes: Vec::new() }
        } else {
            Self { smooth: drifting(clocks, life, dice), changes: Vec::new() }
        };
        if let (Some(slews), true) = (clocks.slews, troubled.slews) {
            let ppm = dice.log_between(slews.ppm);
            let (size_ns, duration_ns) = match (slews.last_s, slews.ms) {
                (Some(last_s), _) => {
                    let last_s = dice.between(last_s);
                    (ppm * 1e3 * last_s, seconds(last_s))
                }
                (None, ms) => {
                    let size_ns = dice.between(ms.unwrap_or_default()) * 1e6;
                    (size_ns, (size_ns / ppm * 1e6) as i64)
                }
            };
            let at = life.within(dice);
            clock.slew(at, size_ns * dice.sign(), duration_ns);
        }
        if let (Some(Steps { each, ms, .. }), true) = (clocks.steps, troubled.steps) {
            for _ in 0..each[0] + dice.below(each[1] - each[0] + 1) {
                let at = life.within(dice);
                clock.step(at, dice.log_between(ms) * dice.sign() * 1e6);
            }
        }
        clock
    }

    fn step(&mut self, at: ReferenceTime, size_ns: f64) {
        self.note(Change { at, size_ns, duration_ns: 0 });
    }

    fn slew(&mut self, at: ReferenceTime, size_ns: f64, duration_ns: i64) {
        let duration_ns = duration_ns.max(1);
        let (begin, end) = (at.nanos(), at.nanos() + duration_ns);
        // Knots at both ends and one beyond, so that the last line keeps the slope it had.
        let beyond = self.smooth.last().map_or(end, |last| last.0.max(end)) + duration_ns;
        for knot in [begin, end, beyond] {
            let place = self.smooth.partition_point(|other| other.0 < knot);
            if self.smooth.get(place).is_none_or(|other| other.0 != knot) {
                let offset_ns = self.smooth_ns(ReferenceTime::from_nanos(knot));
                self.smooth.insert(place, (knot, offset_ns));
            }
        }
        for (knot, offset_ns) in &mut self.smooth {
            *offset_ns += size_ns * ((*knot - begin) as f64 / duration_ns as f64).clamp(0.0, 1.0);
        }
        self.note(Change { at, size_ns, duration_ns });
    }

    fn note(&mut self, change: Change) {
        let place = self.changes.partition_point(|other| other.at <= change.at);
        self.changes.insert(place, change);
    }
}

/// When a clock is in use.
#[derive(Clone, Copy, Debug)]
pub struct Life {
    pub from: ReferenceTime,
    pub until: ReferenceTime,
}

/// Which troubles this clock was chosen for.
#[derive(Clone, Copy, Debug, Default)]
pub struct Trouble {
    pub slews: bool,
    pub steps: bool,
}

impl Life {
    fn after_s(self, at_s: f64) -> ReferenceTime {
        self.from.plus(seconds(at_s))
    }

    fn within(self, dice: &mut Dice) -> ReferenceTime {
        self.from.plus((dice.between([0.02, 0.98]) * (self.until - self.from) as f64) as i64)
    }

    fn line(self, offset_ns: f64, ppm: f64) -> Vec<(i64, f64)> {
        let life_ns = (self.until - self.from).max(1);
        vec![(self.from.nanos(), offset_ns), (self.from.nanos() + life_ns, offset_ns + ppm * 1e-6 * life_ns as f64)]
    }

    fn knots(self) -> impl Iterator<Item = i64> {
        let count = ((self.until - self.from) as f64 / seconds(KNOT_S) as f64).ceil().max(1.0) as i64;
        (0..=count).map(move |index| self.from.nanos() + index * seconds(KNOT_S))
    }
}

fn seconds(count: f64) -> i64 {
    (count * 1e9) as i64
}

/// An offset that a frequency error carries away, and a frequency that walks.
fn drifting(clocks: &Clocks, life: Life, dice: &mut Dice) -> Vec<(i64, f64)> {
    let kind = dice.pick(&[clocks.zero, clocks.near, (1.0 - clocks.zero - clocks.near).max(0.0)]);
    let offset_ns = match kind {
        0 => 0.0,
        1 => dice.normal(clocks.near_ms * 1e6),
        _ => dice.log_between(clocks.far_ms) * 1e6 * dice.sign(),
    };
    let mut ppm = dice.normal(clocks.frequency_ppm);
    if clocks.wander_ppm == 0.0 {
        return life.line(offset_ns, ppm);
    }
    let walk_ppm = clocks.wander_ppm * (KNOT_S / 3_600.0).sqrt();
    let mut next_ns = offset_ns;
    life.knots()
        .map(|knot| {
            let here = (knot, next_ns);
            next_ns += ppm * KNOT_S * 1e3;
            ppm += dice.normal(walk_ppm);
            here
        })
        .collect()
}

/// Two slow swings around a small constant, never outside ± `within_ns`: what a disciplined clock looks like.
fn kept(within_ns: f64, life: Life, dice: &mut Dice) -> Vec<(i64, f64)> {
    let middle = dice.between([-0.5, 0.5]) * within_ns;
    let swings: Vec<_> = [0.3, 0.2]
        .iter()
        .map(|share| (share * within_ns * dice.unit(), dice.between([300.0, 1_800.0]), dice.unit()))
        .collect();
    life.knots()
        .map(|knot| {
            let at_s = (knot - life.from.nanos()) as f64 / 1e9;
            let swing = |&(size, period_s, phase): &(f64, f64, f64)| {
                size * (std::f64::consts::TAU * (at_s / period_s + phase)).sin()
            };
            (knot, middle + swings.iter().map(swing).sum::<f64>())
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::simulate::scenario::{GivenSlew, GivenStep, Scenario};

    const START: ReferenceTime = ReferenceTime::from_nanos(1_750_000_000_000_000_000);
    const LIFE: Life = Life { from: START, until: START.plus(600_000_000_000) };

    fn at(s: f64) -> ReferenceTime {
        LIFE.after_s(s)
    }

    fn check(clock: &Clock, at_s: f64, ahead_ms: f64) {
        let ahead_ns = clock.read(at(at_s)).nanos() - at(at_s).nanos();
        assert!((ahead_ns as f64 - ahead_ms * 1e6).abs() <= 1.0, "{at_s} s: {ahead_ns} ns, not {ahead_ms} ms");
    }

    #[test]
    fn a_perfect_clock_reads_true_time() {
        check(&Clock::perfect(), 0.0, 0.0);
        check(&Clock::perfect(), 599.0, 0.0);
    }

    #[test]
    fn positive_is_ahead_and_a_gain_grows() {
        let given = GivenClock { offset_ms: 5.0, frequency_ppm: 10.0, ..Default::default() };
        let clock = Clock::given(&given, LIFE);
        check(&clock, 0.0, 5.0);
        check(&clock, 300.0, 8.0);
        check(&clock, 700.0, 12.0);
    }

    #[test]
    fn a_step_is_there_from_its_instant_on_and_monotonic_time_does_not_see_it() {
        let steps = vec![GivenStep { at_s: 100.0, ms: -87.0 }, GivenStep { at_s: 50.0, ms: 7.0 }];
        let clock = Clock::given(&GivenClock { steps, ..Default::default() }, LIFE);
        check(&clock, 49.999_999, 0.0);
        check(&clock, 50.0, 7.0);
        check(&clock, 99.999_999, 7.0);
        check(&clock, 100.0, -80.0);
        assert_eq!(clock.monotonic_ns(at(49.0), at(101.0)), 52_000_000_000);
        assert_eq!(clock.changes().iter().map(|change| change.at).collect::<Vec<_>>(), [at(50.0), at(100.0)]);
    }

    #[test]
    fn a_slew_is_a_slope_with_an_end_and_monotonic_time_has_it() {
        let slews = vec![GivenSlew { at_s: 100.0, ms: 40.0, last_s: 80.0 }];
        let given = GivenClock { offset_ms: 1.0, frequency_ppm: 10.0, slews, ..Default::default() };
        let clock = Clock::given(&given, LIFE);
        check(&clock, 100.0, 2.0);
        check(&clock, 140.0, 22.4);
        check(&clock, 180.0, 42.8);
        check(&clock, 600.0, 47.0);
        check(&clock, 900.0, 50.0);
        assert_eq!(clock.monotonic_ns(at(100.0), at(140.0)), 40_020_400_000);
    }

    #[test]
    fn a_kept_clock_stays_within_its_limits_and_moves() {
        let clocks = Scenario::parse("[clocks]\nntp_within_ms = 0.3").unwrap().clocks;
        for index in 0..20 {
            let mut dice = Dice::new(1, "kept", index);
            let clock = Clock::drawn(&clocks, LIFE, Trouble::default(), &mut dice);
            let offsets: Vec<f64> = (0..600).map(|s| clock.offset_ns(at(f64::from(s)))).collect();
            assert!(offsets.iter().all(|offset| offset.abs() <= 300_000.0));
            assert!(offsets.iter().any(|offset| (offset - offsets[0]).abs() > 1_000.0), "clock {index} stands still");
        }
    }

    #[test]
    fn drawn_steps_and_slews_keep_to_their_sizes() {
        let clocks = Scenario::parse(
            "[clocks]\nperfect = true
            [clocks.steps]\nshare = 1.0\neach = [2, 2]\nms = [5.0, 1600.0]
            [clocks.slews]\nshare = 1.0\nppm = [10000.0, 83333.0]\nms = [200.0, 1000.0]",
        )
        .unwrap()
        .clocks;
        for index in 0..50 {
            let both = Trouble { slews: true, steps: true };
            let clock = Clock::drawn(&clocks, LIFE, both, &mut Dice::new(1, "clock", index));
            let (steps, slews): (Vec<Change>, Vec<Change>) = clock.changes().iter().partition(|c| c.duration_ns == 0);
            assert_eq!((steps.len(), slews.len()), (2, 1));
            assert!(steps.iter().all(|step| (5e6..=1.6e9).contains(&step.size_ns.abs())));
            let ppm = slews[0].size_ns.abs() / slews[0].duration_ns as f64 * 1e6;
            assert!((9_999.0..=83_334.0).contains(&ppm) && (2e8..=1e9).contains(&slews[0].size_ns.abs()), "{ppm}");
            let end = clock.offset_ns(LIFE.until.plus(200_000_000_000));
            let sum: f64 = clock.changes().iter().map(|change| change.size_ns).sum();
            assert!((end - sum).abs() < 1.0, "{end} {sum}");
        }
    }
}
