//! The working model while solving: every clock's offset from its base, piecewise linear on a common grid of knots.

use super::solve::Block;

/// A jump or ramp of one clock, by the grid. Its size is one unknown of the solve.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Break {
    pub(super) clock: u32,
    /// Where it begins and ends, in knots of reference time; equal for a step.
    pub(super) from: f64,
    pub(super) to: f64,
    /// About how large it is, ns: the deviation of its prior.
    pub(super) size: f64,
    /// A smaller one is within what single delays spread over, ns.
    pub(super) least: f64,
    /// Taken off the readings already, ns: the unknown is what that left.
    pub(super) jump_ns: i64,
    pub(super) shape: Shape,
}

/// A look and a search may place a step so many knots apart.
const APART: f64 = 0.1;

/// What of a break its unknown is the size of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Shape {
    /// The break itself.
    Whole,
    /// What it would have less if it began later: most where it begins, nothing from its end on.
    Start,
    /// What it would have less if it ended later: nothing where it begins, most just before its end.
    End,
}

impl Break {
    /// The share of the unknown that the curve has at a place on the grid.
    pub(super) fn share(&self, at: f64) -> f64 {
        match self.shape {
            Shape::Whole if at >= self.to => 1.0,
            _ if at < self.from || at >= self.to => 0.0,
            Shape::Start => (self.to - at) / (self.to - self.from),
            Shape::Whole | Shape::End => (at - self.from) / (self.to - self.from),
        }
    }
}

/// Unknowns: per clock its knots in order of time, then the sizes of the breaks, all in ns; then per kind of call how
/// much longer the request's way is than half of the round trip, as a share of that half.
#[derive(Clone, Debug, Default)]
pub(super) struct Curves {
    /// Per clock, its unknowns; `count` 0 for a clock that is held at its base.
    pub(super) blocks: Vec<Block>,
    /// Per clock, the grid's knot at which its first unknown stands.
    pub(super) first: Vec<usize>,
    pub(super) breaks: Vec<Break>,
    /// Per clock, the breaks it has.
    pub(super) of_clock: Vec<Vec<usize>>,
    pub(super) biases: usize,
    pub(super) values: Vec<f64>,
}

impl Curves {
    /// All zero, over each clock's own range of knots; `None`: held.
    pub(super) fn new(ranges: &[Option<(usize, usize)>], breaks: Vec<Break>, biases: usize) -> Self {
        let mut curves = Self { biases, ..Self::default() };
        let mut start = 0;
        for range in ranges {
            let (first, count) = range.map_or((0, 0), |(first, last)| (first, last - first + 1));
            curves.blocks.push(Block { start, count });
            curves.first.push(first);
            start += count;
        }
        curves.of_clock = vec![Vec::new(); ranges.len()];
        for (index, found) in breaks.iter().enumerate() {
            curves.of_clock[found.clock as usize].push(index);
        }
        curves.values = vec![0.0; start + breaks.len() + biases];
        curves.breaks = breaks;
        curves
    }

    /// Adds a break behind the others, as large as nothing.
    pub(super) fn add_break(&mut self, found: Break) {
        self.values.insert(self.bias(0), 0.0);
        self.of_clock[found.clock as usize].push(self.breaks.len());
        self.breaks.push(found);
    }

    /// Has a clock's curve begin as it is `about`, in its steps as well: what was not taken off the readings.
    pub(super) fn begin(&mut self, clock: u32, about: impl Fn(f64) -> f64) {
        let knots = self.knots();
        let of_clock = &self.of_clock[clock as usize];
        for (place, &index) in of_clock.iter().enumerate().filter(|(_, index)| self.breaks[**index].jump_ns == 0) {
            let Break { from, to, .. } = self.breaks[index];
            // What two breaks are near is the nearer one's.
            let last = place.checked_sub(1).map_or(f64::NEG_INFINITY, |last| self.breaks[of_clock[last]].to);
            let next = of_clock.get(place + 1).map_or(f64::INFINITY, |&next| self.breaks[next].from);
            let (low, high) = ((from - APART).max((last + from) / 2.0), (to + APART).min((to + next) / 2.0));
            self.values[knots + index] = about(high) - about(low);
        }
        let start = self.blocks[clock as usize].start;
        for (knot, place) in (start..).zip(self.places(clock as usize)) {
            self.values[knot] = about(place) - self.broken(&self.values, clock, place);
        }
    }

    /// How often a clock steps.
    pub(super) fn steps(&self, clock: u32) -> usize {
        let of_clock = self.of_clock[clock as usize].iter().map(|&index| &self.breaks[index]);
        of_clock.filter(|found| found.from == found.to).count()
    }

    /// Where a clock's knots stand.
    pub(super) fn places(&self, clock: usize) -> impl Iterator<Item = f64> + use<> {
        let first = self.first[clock];
        (first..first + self.blocks[clock].count).map(|knot| knot as f64)
    }

    /// Where the breaks' unknowns begin.
    pub(super) fn knots(&self) -> usize {
        self.values.len() - self.breaks.len() - self.biases
    }

    /// The unknown of one kind of call's bias.
    pub(super) fn bias(&self, kind: u32) -> usize {
        self.knots() + self.breaks.len() + kind as usize
    }

    /// The unknowns that make up a clock's offset at a place on the grid, each with its factor.
    pub(super) fn terms(&self, clock: u32, at: f64, factor: f64, out: &mut Vec<(usize, f64)>) {
        let Block { start, count } = self.blocks[clock as usize];
        if count == 0 {
            return;
        }
        let place = (at - self.first[clock as usize] as f64).clamp(0.0, (count - 1) as f64);
        let knot = (place as usize).min(count.saturating_sub(2));
        let share = place - knot as f64;
        out.push((start + knot, factor * (1.0 - share)));
        if share > 0.0 {
            out.push((start + knot + 1, factor * share));
        }
        for &index in &self.of_clock[clock as usize] {
            let share = self.breaks[index].share(at);
            if share > 0.0 {
                out.push((self.knots() + index, factor * share));
            }
        }
    }

    /// How many breaks of these clocks have begun at a place on the grid.
    pub(super) fn breaks_before(&self, clocks: [u32; 2], at: f64) -> usize {
        let begun =
            |clock: u32| self.of_clock[clock as usize].iter().filter(|&&index| self.breaks[index].from <= at).count();
        clocks.map(begun).iter().sum()
    }

    /// What was taken off a clock's readings at a place on the grid beyond its base, ns.
    pub(super) fn jumped(&self, clock: u32, at: f64) -> i64 {
        let breaks = self.of_clock[clock as usize].iter().map(|&index| &self.breaks[index]);
        breaks.filter(|found| found.from <= at).map(|found| found.jump_ns).sum()
    }

    /// A clock's offset from its base at a place on the grid, ns.
    pub(super) fn at(&self, clock: u32, at: f64) -> f64 {
        self.of(&self.values, clock, at)
    }

    /// The same with other values of the unknowns.
    pub(super) fn of(&self, values: &[f64], clock: u32, at: f64) -> f64 {
        let Block { start, count } = self.blocks[clock as usize];
        if count == 0 {
            return 0.0;
        }
        let place = (at - self.first[clock as usize] as f64).clamp(0.0, (count - 1) as f64);
        let knot = (place as usize).min(count.saturating_sub(2));
        let share = place - knot as f64;
        let smooth = if count == 1 {
            values[start]
        } else {
            values[start + knot] * (1.0 - share) + values[start + knot + 1] * share
        };
        smooth + self.broken(values, clock, at)
    }

    /// What of that its breaks are.
    fn broken(&self, values: &[f64], clock: u32, at: f64) -> f64 {
        let knots = self.knots();
        let of_clock = self.of_clock[clock as usize].iter();
        of_clock.map(|&index| self.breaks[index].share(at) * values[knots + index]).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_that_slews_does_not_step() {
        let step = Break { clock: 0, from: 3.0, to: 3.0, size: 1.0, least: 0.0, jump_ns: 0, shape: Shape::Whole };
        let ramp = Break { from: 5.0, to: 7.0, ..step };
        let mut curves = Curves::new(&[Some((0, 9)), Some((0, 9))], vec![step, ramp, Break { clock: 1, ..ramp }], 0);
        curves.add_break(Break { clock: 1, shape: Shape::Start, ..ramp });
        assert_eq!([curves.steps(0), curves.steps(1)], [1, 0]);
    }

    #[test]
    fn a_curve_is_what_its_terms_add_up_to() {
        let breaks = vec![
            Break { clock: 1, from: 4.5, to: 4.5, size: 1.0, least: 0.0, jump_ns: 0, shape: Shape::Whole },
            Break { clock: 1, from: 5.0, to: 7.0, size: 1.0, least: 0.0, jump_ns: 0, shape: Shape::Whole },
        ];
        let mut curves = Curves::new(&[None, Some((3, 8)), Some((2, 2))], breaks, 0);
        curves.values = vec![1.0, 4.0, 9.0, 16.0, 25.0, 36.0, 7.0, 100.0, 1_000.0];
        for clock in 0..3 {
            for place in [0.0, 3.2, 4.4, 4.5, 5.5, 8.0, 11.0] {
                let mut terms = Vec::new();
                curves.terms(clock, place, 2.0, &mut terms);
                let sum: f64 = terms.iter().map(|(unknown, factor)| factor * curves.values[*unknown]).sum();
                assert!((sum - 2.0 * curves.at(clock, place)).abs() < 1e-9, "clock {clock} at {place}");
            }
        }
        assert!((curves.at(1, 4.4) - 6.0).abs() < 1e-9);
        assert_eq!(curves.at(1, 6.0), 16.0 + 100.0 + 500.0);
    }

    #[test]
    fn a_curve_begins_with_the_steps_that_a_look_has() {
        let at = |from: f64, jump_ns| Break {
            clock: 0,
            from,
            to: from,
            size: 9e9,
            least: 0.0,
            jump_ns,
            shape: Shape::Whole,
        };
        // One that is 50 ms, one that only the search thought of, and one that was taken off.
        let mut curves = Curves::new(&[Some((2, 9))], vec![at(4.5, 0), at(6.2, 0), at(7.1, 3_000_000_000)], 1);
        let about = |place: f64| 1e3 * place + if place >= 4.55 { 5e7 } else { 0.0 };
        curves.begin(0, about);
        for place in [2.0, 4.0, 5.0, 6.0, 7.0, 9.0] {
            assert!((curves.at(0, place) - about(place)).abs() < 1e-6, "{place}");
        }
        let steps = &curves.values[curves.knots()..];
        assert!((steps[0] - 5e7).abs() < 1e3 && steps[1].abs() < 1e3 && steps[2] == 0.0, "{steps:?}");
    }
}
