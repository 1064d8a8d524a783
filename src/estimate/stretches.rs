//! What a clock is off, stretch by stretch: between two jumps, or slews that a look followed it across.

/// A local trace goes on as it began for so long after a jump.
pub(super) const NEAR_NS: i64 = 500_000_000;

/// The time between two jumps of one clock, or between those and slews that a look has followed it across.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Stretch {
    /// When it begins, by the other clocks.
    pub(super) from: i64,
    pub(super) until: i64,
    /// The clock was seen about from then until then only, with what it jumped by within.
    pub(super) seen: (i64, i64),
    /// What is taken off the clock's readings, ns.
    pub(super) base: i64,
    /// How far the clock is ahead of its base, about: `level` at `middle`, gaining `slope` per ns.
    pub(super) middle: i64,
    pub(super) level: f64,
    pub(super) slope: f64,
    /// How unsure the jump that begins it is, ns.
    pub(super) unsure: f64,
}

impl Stretch {
    /// A clock that never jumps.
    pub(super) fn steady(base: i64) -> Self {
        let always = (i64::MIN, i64::MAX);
        Self { from: always.0, until: always.1, seen: always, base, middle: 0, level: 0.0, slope: 0.0, unsure: 0.0 }
    }

    /// When the clock read a local time, if it did so within this stretch.
    fn time(&self, local: i64) -> i64 {
        let without_base = local.saturating_sub(self.base);
        let after = without_base.saturating_sub(self.middle) as f64;
        // What is taken off is small beside the time, which an `f64` has to 256 ns only.
        let over = (self.level + self.slope * after) / (1.0 + self.slope);
        without_base.saturating_sub(over as i64)
    }

    /// How far the clock is ahead at a time.
    fn offset(&self, time: i64) -> i64 {
        let over = self.level + self.slope * time.saturating_sub(self.middle) as f64;
        self.base.saturating_add(over.round() as i64)
    }

    /// How far a time is outside of it, ns. Before a clock was seen it is outside of the first stretch as well: set back by an
    /// hour, it reads times of an hour before.
    fn outside(&self, time: i64) -> i64 {
        let (from, until) = (self.from.max(self.seen.0), self.until.min(self.seen.1));
        from.saturating_sub(time).max(time.saturating_sub(until)).max(0)
    }

    /// As if all clocks of the group were so much further ahead: its time goes with them.
    pub(super) fn shift(&mut self, by: i64) {
        self.base = self.base.saturating_add(by);
        let (first, last) = &mut self.seen;
        for time in [&mut self.from, &mut self.until, &mut self.middle, first, last] {
            if *time != i64::MIN && *time != i64::MAX {
                *time = time.saturating_sub(by);
            }
        }
    }
}

/// How far a clock is ahead of what is taken off its readings at a time by the other clocks, about, ns; 0 where nothing was
/// found of it.
pub(super) fn over_base(stretches: &[Stretch], time: i64) -> f64 {
    at(stretches, time).map_or(0.0, |stretch| stretch.offset(time).saturating_sub(stretch.base) as f64)
}

/// How far it is ahead of a base of another look.
pub(super) fn over(stretches: &[Stretch], time: i64, base: i64) -> Option<f64> {
    at(stretches, time).map(|stretch| stretch.offset(time).saturating_sub(base) as f64)
}

fn at(stretches: &[Stretch], time: i64) -> Option<&Stretch> {
    stretches.iter().find(|stretch| time < stretch.until)
}

/// A reading's place in its clock's history.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Moment {
    /// What is taken off the reading, ns.
    pub(super) base: i64,
    /// When it was by the other clocks, about.
    pub(super) time: i64,
}

/// Both ends of one message: of all stretches in those that make it leave and arrive at one time.
pub(super) fn moments(sender: (&[Stretch], i64), receiver: (&[Stretch], i64)) -> [Moment; 2] {
    let moment = |stretch: &Stretch, local: i64| Moment { base: stretch.base, time: stretch.time(local) };
    let misfit = |one: &Stretch, other: &Stretch| {
        let (left, came) = (one.time(sender.1), other.time(receiver.1));
        left.abs_diff(came)
            .saturating_add(one.outside(left).unsigned_abs())
            .saturating_add(other.outside(came).unsigned_abs())
    };
    let pairs = sender.0.iter().flat_map(|one| receiver.0.iter().map(move |other| (one, other)));
    let best = match (sender.0, receiver.0) {
        ([sender], [receiver]) => Some((sender, receiver)),
        _ => pairs.min_by_key(|(one, other)| misfit(one, other)),
    };
    let alone = |local: i64| Moment { base: 0, time: local };
    best.map_or([alone(sender.1), alone(receiver.1)], |(one, other)| [moment(one, sender.1), moment(other, receiver.1)])
}

/// A step between two stretches of a clock.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Step {
    pub(super) clock: u32,
    /// By the other clocks, about.
    pub(super) time: i64,
    /// Positive where the clock leaps ahead, ns.
    pub(super) size: i64,
    /// How unsure that is, ns.
    pub(super) unsure: f64,
}

/// The steps between a clock's stretches; where it may have slewed from one to the next there is none.
pub(super) fn steps(clock: u32, stretches: &[Stretch]) -> impl Iterator<Item = Step> {
    let all = stretches.windows(2).map(move |pair| {
        let size = pair[1].base.saturating_sub(pair[0].base);
        Step { clock, time: pair[1].from, size, unsure: pair[1].unsure }
    });
    all.filter(|step| step.size != 0)
}

/// When a clock read a local time, and how far it was ahead; `None` where it may have read it twice.
pub(super) fn seen(stretches: &[Stretch], local: i64) -> Option<(i64, i64)> {
    if times(stretches, local).count() > 1 {
        return None;
    }
    let stretch = stretches.iter().min_by_key(|stretch| stretch.outside(stretch.time(local)))?;
    let time = stretch.time(local);
    Some((time, stretch.offset(time)))
}

/// When a clock may have read a local time, and how far it was ahead then.
pub(super) fn times(stretches: &[Stretch], local: i64) -> impl Iterator<Item = (i64, i64)> {
    let near = stretches.iter().filter(move |stretch| stretch.outside(stretch.time(local)) < NEAR_NS);
    near.map(move |stretch| (stretch.time(local), stretch.offset(stretch.time(local))))
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: i64 = 1_000_000_000;

    #[test]
    fn a_message_belongs_where_both_its_ends_agree() {
        let hours = 28_560 * SECOND;
        let stretch = |from, until, base| Stretch { from, until, base, ..Stretch::steady(0) };
        let jumping = [
            stretch(i64::MIN, 300 * SECOND, 0),
            stretch(300 * SECOND, 330 * SECOND, hours),
            stretch(330 * SECOND, i64::MAX, 0),
        ];
        let steady = [Stretch::steady(7)];
        for (sent, received, base) in [
            (10 * SECOND, 10 * SECOND, 0),
            (310 * SECOND, 310 * SECOND + hours, hours),
            // It began before the jump, and counts on from there.
            (301 * SECOND, 301 * SECOND, 0),
        ] {
            let [one, other] = moments((&steady, sent), (&jumping, received));
            assert_eq!([one.base, one.time, other.base, other.time], [7, sent - 7, base, received - base]);
            assert_eq!(moments((&jumping, received), (&steady, sent)), [other, one]);
        }
    }
}
