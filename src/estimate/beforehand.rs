//! What is known of clocks before a pass is solved: their breaks, and about where their curves run.
//!
//! In come what single calls show ([`super::jumps`]), or else a fit of the same readings in which no clock was held.

use std::collections::BTreeMap;

use super::align::Alignment;
use super::curves::{Break, Curves, Shape};
use super::fit::{Fit, Grid};
use super::jumps;
use super::steps;
use super::stretches::{self, Step, Stretch};

/// Breaks for the jumps that were taken off the readings, and for the steps that a `free` fit has, or else those that single
/// calls show at a closer look.
pub(super) fn breaks(
    alignment: &Alignment,
    grid: &Grid,
    anchored: &[bool],
    looked: &BTreeMap<u32, Vec<Stretch>>,
    free: Option<&Fit>,
) -> Vec<Break> {
    let of = |step: Step| {
        let (at, size, least) = (grid.place(0, step.time), step.size as f64, step.unsure);
        Break { clock: step.clock, from: at, to: at, size, least, jump_ns: 0, shape: Shape::Whole }
    };
    let jumped = |step: Step| Break { size: step.unsure, least: 0.0, jump_ns: step.size, ..of(step) };
    let jumps = (0..).zip(&alignment.stretches).flat_map(|(clock, stretches)| stretches::steps(clock, stretches));
    let mut breaks: Vec<Break> = jumps.map(jumped).collect();
    // As large as they are in all, taken off or not.
    let known: Vec<Break> = match free {
        Some(free) => {
            let (knots, place) = (free.curves.knots(), |place: f64| grid.place(0, free.grid.time(place)));
            let known = free.curves.breaks.iter().enumerate();
            let known = known.filter(|(_, old)| old.shape == Shape::Whole && !anchored[old.clock as usize]);
            let here = |(index, old): (usize, &Break)| {
                let jumped = |jump_ns: i64| jump_ns as f64 + free.curves.values[knots + index];
                let size = if old.jump_ns == 0 { old.size } else { jumped(old.jump_ns) };
                Break { from: place(old.from), to: place(old.to), size, jump_ns: 0, ..*old }
            };
            known.map(here).collect()
        }
        None => looked.iter().flat_map(|(&clock, stretches)| stretches::steps(clock, stretches)).map(of).collect(),
    };
    for new in known {
        match breaks.iter_mut().find(|old| old.jump_ns != 0 && steps::beside(old, &new)) {
            // A clock that steps by less than jumps are may have another's jump seem larger or smaller.
            Some(old) => old.size = old.size.max(2.0 * (new.size - old.jump_ns as f64).abs().min(jumps::LARGE_NS)),
            None => breaks.push(new),
        }
    }
    steps::sort(&mut breaks);
    breaks
}

/// Has curves begin where a `free` fit or else the looks at single calls have the clocks: from zero on, a clock that steps
/// is off by a step somewhere, and the calls of as long a time lie on the wrong side of it.
pub(super) fn begin(
    curves: &mut Curves,
    alignment: &Alignment,
    grid: &Grid,
    looked: &BTreeMap<u32, Vec<Stretch>>,
    free: Option<&Fit>,
) {
    let empty = curves.clone();
    for (clock, stretches) in (0..).zip(&alignment.stretches) {
        curves.begin(clock, |place| {
            let time = grid.time(place);
            let base = alignment.bases[clock as usize].saturating_add(empty.jumped(clock, place));
            let first = stretches::over_base(stretches, time);
            let closer = match free {
                Some(free) => Some(free.offset(clock, time).saturating_sub(base) as f64),
                None => looked.get(&clock).and_then(|looked| stretches::over(looked, time, base)),
            };
            // The two may place a jump differently.
            closer.filter(|closer| (closer - first).abs() < jumps::LARGE_NS).unwrap_or(first)
        });
    }
}
