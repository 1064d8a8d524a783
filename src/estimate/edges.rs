//! When ramps begin and end, to a fraction of the time between two knots.
//!
//! As the search for steps has them they are off by a knot or more, and their clocks, before and after, by what they run away
//! meanwhile. What another end would change is nearly in proportion to how far it is moved: one more unknown of the solve for
//! each end, which then is moved, and again until all stay (Gauss and Newton).

use super::curves::{Break, Curves, Shape};

/// An end is moved no further at once, in knots; about so far it is thought to be off.
const FURTHEST: f64 = 1.0;

/// The ends of a ramp come no closer to each other, in knots.
const LEAST: f64 = 0.1;

/// Adds unknowns for both ends of each ramp; says whether there are any.
pub(super) fn add(curves: &mut Curves) -> bool {
    let ramps = ramps(curves);
    for &ramp in &ramps {
        let found = curves.breaks[ramp];
        // One over its square is finite.
        let size = (per_knot(curves, ramp) * FURTHEST).abs().max(1.0);
        [Shape::Start, Shape::End].into_iter().for_each(|shape| curves.add_break(Break { shape, size, ..found }));
    }
    !ramps.is_empty()
}

/// Moves the ends of ramps to where their unknowns have them; says how far at the most, in knots.
pub(super) fn settle(curves: &mut Curves) -> f64 {
    let (ramps, knots) = (ramps(curves), curves.knots());
    let mut furthest: f64 = 0.0;
    // Behind all breaks, in order of the ramps: where each begins and where it ends.
    for (ramp, start) in ramps.into_iter().zip((whole(curves)..).step_by(2)) {
        let per_knot = per_knot(curves, ramp);
        // The unknown is what the curve would have to lose at that end.
        let moved = |edge: usize| match -curves.values[knots + edge] / per_knot {
            moved if moved.is_finite() => moved.clamp(-FURTHEST, FURTHEST),
            _ => 0.0,
        };
        let (earlier, later) = (moved(start), moved(start + 1));
        let from = (curves.breaks[ramp].from + earlier).max(0.0);
        let to = (curves.breaks[ramp].to + later).max(from + LEAST);
        for index in [ramp, start, start + 1] {
            (curves.breaks[index].from, curves.breaks[index].to) = (from, to);
        }
        curves.values[knots + start..knots + start + 2].fill(0.0);
        furthest = furthest.max(earlier.abs()).max(later.abs());
    }
    furthest
}

fn ramps(curves: &Curves) -> Vec<usize> {
    (0..whole(curves)).filter(|&index| curves.breaks[index].from < curves.breaks[index].to).collect()
}

/// How many breaks there are but for ends.
fn whole(curves: &Curves) -> usize {
    curves.breaks.partition_point(|found| found.shape == Shape::Whole)
}

/// What a ramp adds from knot to knot, ns.
fn per_knot(curves: &Curves, ramp: usize) -> f64 {
    let Break { from, to, .. } = curves.breaks[ramp];
    curves.values[curves.knots() + ramp] / (to - from)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A clock of 21 knots with a step and a ramp of 8 ms, and a kind of call's bias behind them.
    fn curves(from: f64, to: f64) -> Curves {
        let step = Break { clock: 0, from: 3.0, to: 3.0, size: 1e6, least: 0.0, jump_ns: 0, shape: Shape::Whole };
        let mut curves = Curves::new(&[Some((0, 20))], vec![step, Break { from, to, ..step }], 1);
        curves.values[21..].copy_from_slice(&[5e6, 8e6, 0.25]);
        curves
    }

    #[test]
    fn an_unknown_is_what_a_ramp_with_another_end_differs_by() {
        for (shape, moved) in [(Shape::Start, [0.01, 0.0]), (Shape::End, [0.0, 0.01])] {
            let mut here = curves(8.0, 12.0);
            add(&mut here);
            let unknown = here.breaks.iter().position(|found| found.shape == shape).unwrap();
            here.values[21 + unknown] = -0.01 * 8e6 / 4.0;
            let there = curves(8.0 + moved[0], 12.0 + moved[1]);
            for place in [1.0, 3.5, 7.9, 8.1, 10.0, 11.9, 12.1, 19.0] {
                assert!(
                    (here.at(0, place) - there.at(0, place)).abs() < 0.01 * 0.01 * 8e6 / 4.0,
                    "{shape:?} at {place}"
                );
            }
        }
    }

    #[test]
    fn ends_are_moved_once() {
        let mut moved = curves(8.0, 12.0);
        assert!(add(&mut moved));
        moved.values[23..25].copy_from_slice(&[-1e6, 5e5]);
        assert!((settle(&mut moved) - 0.5).abs() < 1e-12);
        assert!(settle(&mut moved).abs() < 1e-12);
        assert!(moved.breaks[1..].iter().all(|found| (found.from, found.to) == (8.5, 11.75)));
        let expected = curves(8.5, 11.75);
        assert!([3.5, 8.2, 8.7, 11.0, 19.0].iter().all(|&place| moved.at(0, place) == expected.at(0, place)));
    }

    #[test]
    fn no_end_is_moved_far_at_once_or_past_the_other() {
        let mut far = curves(8.0, 8.2);
        add(&mut far);
        far.values[23..25].copy_from_slice(&[-1e9, 1e9]);
        assert!((settle(&mut far) - FURTHEST).abs() < 1e-12);
        assert_eq!((far.breaks[1].from, far.breaks[1].to), (9.0, 9.0 + LEAST));
        let mut nothing = curves(8.0, 12.0);
        nothing.values[22] = 0.0;
        add(&mut nothing);
        nothing.values[23] = 1.0;
        assert_eq!((settle(&mut nothing), nothing.breaks[1].from), (0.0, 8.0));
    }

    #[test]
    fn steps_have_no_such_unknowns() {
        assert!(!add(&mut curves(8.0, 8.0)));
    }
}
