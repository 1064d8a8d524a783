//! Slews, read off a solved curve: where a clock runs away from its usual frequency for a while, as knots and ramps
//! share in one in any proportion.

use super::levels::median;
use super::steps::RUNS_PPM;
use super::table::{Part, Point};

/// A stretch over which a clock runs away from its usual frequency.
pub(super) struct Slew {
    /// Places on the grid.
    pub(super) from: f64,
    pub(super) to: f64,
    /// What it adds to the offset beside the clock's usual run, ns.
    pub(super) size: f64,
    pub(super) deviation: f64,
}

/// So many knots before and after a slew tell how the clock runs without it.
const BESIDE: usize = 6;

/// Read off the curve, as knots and ramps share in a slew.
pub(super) fn slews(parts: &[Part], spacing_ns: f64) -> Vec<Slew> {
    let excess_ppm = RUNS_PPM * spacing_ns / 1e6;
    let slope = |one: &Point, other: &Point| (other.offset - one.offset) / (other.place - one.place);
    let slopes = parts.iter().flat_map(|part| part.points.windows(2).map(|pair| slope(&pair[0], &pair[1])));
    let slopes: Vec<f64> = slopes.collect();
    let middle = median(slopes.clone());
    // Fast for a while is a slew; fast throughout, between all its steps, is how the clock runs.
    let alike = slopes.iter().filter(|slope| (*slope - middle).abs() < excess_ppm).count();
    let usual =
        if parts.len() > 1 && alike * 4 >= slopes.len() * 3 { middle } else { middle.clamp(-excess_ppm, excess_ppm) };
    let mut slews = Vec::new();
    for Part { points, .. } in parts {
        let fast = |pair: usize| {
            points
                .get(pair..pair + 2)
                .map(|pair| slope(&pair[0], &pair[1]) - usual)
                .filter(|over| over.abs() >= excess_ppm)
        };
        let mut first = 0;
        while first + 1 < points.len() {
            let Some(over) = fast(first) else {
                first += 1;
                continue;
            };
            let along = |pair: &usize| fast(*pair).is_some_and(|other| (other > 0.0) == (over > 0.0));
            let last = first + (first..points.len()).take_while(along).count();
            // The knots next to it may stand within it: the lines before and after begin one further off.
            let (before, after) = (first.saturating_sub(1), (last + 1).min(points.len() - 1));
            let calm = |from: usize, to: usize| {
                let calm = (from..to).all(|pair| fast(pair).is_none());
                (to > from && calm).then(|| slope(&points[from], &points[to]))
            };
            let slope_before = calm(before.saturating_sub(BESIDE), before);
            let slope_after = calm(after, (after + BESIDE).min(points.len() - 1));
            let (slope_before, slope_after) =
                (slope_before.or(slope_after).unwrap_or(usual), slope_after.or(slope_before).unwrap_or(usual));
            let (before, after) = (&points[before], &points[after]);
            let beside = (slope_before + slope_after) / 2.0;
            let size = after.offset - before.offset - beside * (after.place - before.place);
            let error = |(before, after): (&f32, &f32)| f64::from(after - before).powi(2);
            let square: f64 = before.errors.iter().zip(&after.errors).map(error).sum();
            let deviation = (square / before.errors.len().max(1) as f64).sqrt();
            let (mut from, mut to) = (points[first].place, points[last].place);
            if last - first >= 3 {
                // Its ends lie between knots: where its own line meets the lines before and after.
                let (one, other) = (&points[first + 1], &points[last - 1]);
                let own = slope(one, other);
                let meets = |at: &Point, line: &Point, slope: f64| {
                    let over = at.offset - line.offset - slope * (at.place - line.place);
                    at.place - over / (own - slope)
                };
                from = meets(one, before, slope_before).clamp(before.place, one.place);
                to = meets(other, after, slope_after).clamp(other.place, after.place);
            }
            if size.abs() > 3.0 * deviation {
                slews.push(Slew { from, to, size, deviation });
            }
            first = last;
        }
    }
    slews
}
