//! Robust least squares over all clocks and knots at once: the linear algebra.
//!
//! Minimises Σ w (row · v − target − asymmetry of the row's link)² + priors, where an asymmetry is one unknown per
//! link and is eliminated exactly, and v holds every clock's knots and steps. Conjugate gradients, with a preconditioner.
//! ESTIMATOR.md, fact 12.

use rand::SeedableRng;
use rand_distr::{Distribution, StandardNormal};
use rand_pcg::Pcg64Mcg;
use rayon::iter::{IntoParallelIterator, IntoParallelRefIterator, ParallelIterator};

use super::factors::{Dense, Lanes, add_scaled, axpy, dot};
use super::precondition::Preconditioner;

/// Draws that are solved side by side.
const ABREAST: usize = 8;

/// A stretch of unknowns that belong together: one clock's knots, in order of time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Block {
    pub(super) start: usize,
    pub(super) count: usize,
}

/// Rows in compressed form, sorted by link.
#[derive(Clone, Debug, Default)]
pub(super) struct Rows {
    /// Row r has the terms `starts[r]..starts[r + 1]`.
    starts: Vec<usize>,
    unknowns: Vec<u32>,
    coefficients: Vec<f64>,
    pub(super) targets: Vec<f64>,
    /// One over the variance of the row's noise, ns⁻².
    pub(super) weights: Vec<f64>,
    pub(super) links: Vec<u32>,
    /// Where the rows of each link begin.
    firsts: Vec<usize>,
}

impl Rows {
    pub(super) fn new() -> Self {
        Self { starts: vec![0], ..Self::default() }
    }

    /// Adds a row. Terms with the same unknown add up.
    pub(super) fn push(&mut self, terms: impl IntoIterator<Item = (usize, f64)>, target: f64, weight: f64, link: u32) {
        let first = self.unknowns.len();
        for (unknown, coefficient) in terms {
            let seen = self.unknowns[first..].iter().position(|&other| other as usize == unknown);
            match seen {
                Some(place) => self.coefficients[first + place] += coefficient,
                None => {
                    self.unknowns.push(unknown as u32);
                    self.coefficients.push(coefficient);
                }
            }
        }
        if self.links.last() != Some(&link) {
            self.firsts.push(self.links.len());
        }
        self.starts.push(self.unknowns.len());
        self.targets.push(target);
        self.weights.push(weight);
        self.links.push(link);
    }

    /// Adds the rows of other links.
    pub(super) fn append(&mut self, other: Self) {
        let (terms, rows) = (self.unknowns.len(), self.len());
        self.starts.extend(other.starts[1..].iter().map(|start| terms + start));
        self.firsts.extend(other.firsts.iter().map(|first| rows + first));
        self.unknowns.extend(other.unknowns);
        self.coefficients.extend(other.coefficients);
        self.targets.extend(other.targets);
        self.weights.extend(other.weights);
        self.links.extend(other.links);
    }

    pub(super) fn len(&self) -> usize {
        self.targets.len()
    }

    pub(super) fn terms(&self, row: usize) -> impl Iterator<Item = (usize, f64)> + Clone + '_ {
        let range = self.starts[row]..self.starts[row + 1];
        self.unknowns[range.clone()]
            .iter()
            .map(|&unknown| unknown as usize)
            .zip(self.coefficients[range].iter().copied())
    }

    pub(super) fn dot(&self, row: usize, v: &[f64]) -> f64 {
        self.terms(row).map(|(unknown, coefficient)| coefficient * v[unknown]).sum()
    }

    fn dots<const L: usize>(&self, row: usize, v: &[Lanes<L>]) -> Lanes<L> {
        let mut sums = [0.0; L];
        self.terms(row).for_each(|(unknown, coefficient)| add_scaled(&mut sums, coefficient, &v[unknown]));
        sums
    }

    /// Rows of one link, as ranges.
    pub(super) fn by_link(&self) -> impl Iterator<Item = std::ops::Range<usize>> + '_ {
        self.of_links(0..self.firsts.len())
    }

    fn of_links(&self, links: std::ops::Range<usize>) -> impl Iterator<Item = std::ops::Range<usize>> + '_ {
        links.map(|link| self.firsts[link]..self.firsts.get(link + 1).copied().unwrap_or(self.len()))
    }

    /// Links in parts of about as many rows; how many, no number of threads decides, so sums are the same with any.
    fn parts(&self) -> Vec<std::ops::Range<usize>> {
        let parts = if self.len() < PARTED { 1 } else { PARTS };
        let edge = |part: usize| self.firsts.partition_point(|&first| first < self.len() * part / parts);
        (0..parts).map(|part| edge(part)..edge(part + 1)).collect()
    }
}

/// Below this many rows, sharing them out costs more than it saves.
const PARTED: usize = 20_000;

/// Each part needs a sum of its own for all unknowns.
const PARTS: usize = 4;

/// The whole problem.
pub(super) struct System<'a> {
    pub(super) unknowns: usize,
    pub(super) blocks: &'a [Block],
    /// The block that each of the unknowns behind the blocks belongs to, as a step does to its clock; those behind these
    /// belong to none.
    pub(super) beside: &'a [u32],
    pub(super) rows: &'a Rows,
    /// Per link, one over the prior variance of its asymmetry.
    pub(super) asymmetry_weights: &'a [f64],
    /// Per unknown, the weight of the second difference centred on it (0 at the ends of a block).
    pub(super) smoothness: &'a [f64],
    /// Per unknown, the weight that pulls it to zero, and a knot to where it was: to zero, all knots of a clock that steps by
    /// half a second would take others along. (Fleets `far`, seeds 401 to 410: median error 0.86 ms instead of 0.71.)
    pub(super) ridge: &'a [f64],
}

impl System<'_> {
    /// Solves from `v` on, in place; says how many iterations it took. The preconditioner may be of a system that differs
    /// in weights.
    pub(super) fn solve(&self, preconditioner: &Preconditioner, v: &mut [f64], tolerance: f64) -> usize {
        let mut lanes: Vec<Lanes<1>> = v.iter().map(|&v| [v]).collect();
        let mut right = self.right_side();
        for k in self.blocks.iter().flat_map(|block| block.start..block.start + block.count) {
            right[k][0] += self.ridge[k] * v[k];
        }
        let iterations = self.solve_for(&right, preconditioner, &mut lanes, tolerance);
        v.iter_mut().zip(lanes).for_each(|(v, [lane])| *v = lane);
        iterations
    }

    /// What a solution changes by with something added to the right side.
    pub(super) fn change(&self, right: &[f64], tolerance: f64) -> Vec<f64> {
        let right: Vec<Lanes<1>> = right.iter().map(|&right| [right]).collect();
        let mut v = vec![[0.0]; self.unknowns];
        self.solve_for(&right, &Preconditioner::new(self), &mut v, tolerance);
        v.into_iter().map(|[v]| v).collect()
    }

    /// Errors that the solution may have, drawn from their distribution: the problem solved again for nothing but noise
    /// of the size that its weights state (perturbation sampling; Papandreou and Yuille 2010). Every sum of unknowns has
    /// its exact variance among them, links' asymmetries included, and no inverse is formed.
    /// Eight and more are drawn in whole eights.
    pub(super) fn errors(&self, draws: u64) -> Vec<Vec<f64>> {
        let preconditioner = Preconditioner::new(self);
        if draws < ABREAST as u64 {
            return (0..draws).flat_map(|first| self.drawn::<1>(first, &preconditioner)).collect();
        }
        let firsts: Vec<u64> = (0..draws).step_by(ABREAST).collect();
        firsts.into_par_iter().flat_map_iter(|first| self.drawn::<ABREAST>(first, &preconditioner)).collect()
    }

    /// Errors of some draws in a row.
    fn drawn<const L: usize>(&self, first: u64, preconditioner: &Preconditioner) -> [Vec<f64>; L] {
        let noises: [Vec<f64>; L] = std::array::from_fn(|lane| self.noise(first + lane as u64));
        let right: Vec<Lanes<L>> = (0..self.unknowns).map(|k| std::array::from_fn(|lane| noises[lane][k])).collect();
        let mut v = vec![[0.0; L]; self.unknowns];
        self.solve_for(&right, preconditioner, &mut v, 1e-3);
        std::array::from_fn(|lane| v.iter().map(|v| v[lane]).collect())
    }

    /// How much likelier it is that all unknowns from `first` on are zero than that they are what `v` has, drawn as their
    /// ridge says: the logarithm of the Bayes factor, which is what their density at zero grew by when the rows came in
    /// (Dickey 1971).
    pub(super) fn log_odds_of_zero(&self, v: &[f64], first: usize) -> f64 {
        let preconditioner = Preconditioner::new(self);
        let count = self.unknowns - first;
        let mut covariance = Dense::new(count);
        for i in 0..count {
            let mut unit = vec![[0.0]; self.unknowns];
            unit[first + i] = [1.0];
            let mut column = vec![[0.0]; self.unknowns];
            // Of a covariance, the error is the square of this.
            self.solve_for(&unit, &preconditioner, &mut column, 1e-3);
            (0..=i).for_each(|j| *covariance.at(i, j) = column[first + j][0]);
        }
        covariance.factor();
        let log_before: f64 = self.ridge[first..].iter().map(|ridge| -ridge.ln()).sum();
        let log_after: f64 = (0..count).map(|i| 2.0 * covariance.at(i, i).ln()).sum();
        let known: Vec<Lanes<1>> = v[first..].iter().map(|&v| [v]).collect();
        let mut solved = known.clone();
        covariance.solve(&mut solved);
        let [distance] = dot(&solved, &known);
        (log_before - log_after - distance) / 2.0
    }

    /// A right side as noise alone gives it. Each link's is its own, so that it is the same whatever other links or unknowns
    /// there are.
    fn noise(&self, seed: u64) -> Vec<f64> {
        let normal = |dice: &mut Pcg64Mcg, weight: f64| -> f64 {
            let drawn: f64 = StandardNormal.sample(dice);
            drawn * weight.sqrt()
        };
        let dice = |part: u64| Pcg64Mcg::seed_from_u64(part << 32 | seed);
        let mut of_unknowns = dice(0);
        let mut right: Vec<Lanes<1>> = self.ridge.iter().map(|&ridge| [normal(&mut of_unknowns, ridge)]).collect();
        for rows in self.rows.by_link() {
            let link = self.rows.links[rows.start];
            let mut dice = dice(2 + u64::from(link));
            let asymmetry = normal(&mut dice, 1.0 / self.asymmetry_weights[link as usize]);
            let weights = self.rows.weights[rows.clone()].iter();
            let mut values: Vec<Lanes<1>> =
                weights.map(|&weight| [asymmetry + normal(&mut dice, 1.0 / weight)]).collect();
            self.scatter(rows, &mut values, &mut right);
        }
        let mut of_bends = dice(1);
        for k in self.inner_knots() {
            let bend = normal(&mut of_bends, self.smoothness[k]);
            right[k - 1][0] += bend;
            right[k][0] -= 2.0 * bend;
            right[k + 1][0] += bend;
        }
        right.into_iter().map(|[right]| right).collect()
    }

    /// Knots with a neighbour on either side.
    fn inner_knots(&self) -> impl Iterator<Item = usize> + '_ {
        self.blocks.iter().flat_map(|block| block.start + 1..(block.start + block.count).saturating_sub(1))
    }

    fn solve_for<const L: usize>(
        &self,
        right: &[Lanes<L>],
        preconditioner: &Preconditioner,
        v: &mut [Lanes<L>],
        tolerance: f64,
    ) -> usize {
        let mut product = vec![[0.0; L]; self.unknowns];
        self.apply(v, &mut product);
        let mut residual = right.to_vec();
        axpy(&mut residual, [-1.0; L], &product);
        let mut z = right.to_vec();
        preconditioner.apply(&mut z);
        let floor = dot(right, &z).map(|energy| energy * tolerance * tolerance);
        z.copy_from_slice(&residual);
        preconditioner.apply(&mut z);
        let mut direction = z.clone();
        let mut energy = dot(&residual, &z);
        // The change still to come, measured where the preconditioner makes it ns rather than ns⁻¹.
        let start = energy.map(|energy| energy.max(f64::MIN_POSITIVE) * 1e-24);
        for iteration in 0..ITERATIONS {
            let done: [bool; L] = std::array::from_fn(|lane| energy[lane] <= floor[lane].max(start[lane]));
            if done.iter().all(|done| *done) {
                return iteration;
            }
            self.apply(&direction, &mut product);
            let curvature = dot(&direction, &product);
            let step = std::array::from_fn(|lane| if done[lane] { 0.0 } else { energy[lane] / curvature[lane] });
            axpy(v, step, &direction);
            axpy(&mut residual, step.map(|step| -step), &product);
            z.copy_from_slice(&residual);
            preconditioner.apply(&mut z);
            let next = dot(&residual, &z);
            let turn: Lanes<L> = std::array::from_fn(|lane| if done[lane] { 0.0 } else { next[lane] / energy[lane] });
            energy = next;
            for (d, z) in direction.iter_mut().zip(&z) {
                *d = std::array::from_fn(|lane| z[lane] + turn[lane] * d[lane]);
            }
        }
        ITERATIONS
    }

    /// The asymmetry of each link that fits best, ns.
    pub(super) fn asymmetries(&self, v: &[f64], links: usize) -> Vec<f64> {
        let mut asymmetries = vec![0.0; links];
        for rows in self.rows.by_link() {
            let link = self.rows.links[rows.start] as usize;
            let (mut sum, mut weight) = (0.0, self.asymmetry_weights[link]);
            for row in rows {
                sum += self.rows.weights[row] * (self.rows.targets[row] - self.rows.dot(row, v));
                weight += self.rows.weights[row];
            }
            asymmetries[link] = sum / weight;
        }
        asymmetries
    }

    /// How unsure each link's asymmetry is, ns², with errors that the unknowns may have; of a link without rows, as unsure
    /// as before.
    pub(super) fn asymmetry_variances(&self, errors: &[Vec<f64>]) -> Vec<f64> {
        let mut variances: Vec<f64> = self.asymmetry_weights.iter().map(|weight| 1.0 / weight).collect();
        for rows in self.rows.by_link() {
            let link = self.rows.links[rows.start] as usize;
            let total = self.total_weight(&rows);
            let moved = |error: &Vec<f64>| {
                rows.clone().map(|row| self.rows.weights[row] * self.rows.dot(row, error)).sum::<f64>() / total
            };
            let by_unknowns = errors.iter().map(|error| moved(error).powi(2)).sum::<f64>() / errors.len() as f64;
            variances[link] = 1.0 / total + by_unknowns;
        }
        variances
    }

    /// What holds the asymmetry of a link, given its rows, ns⁻².
    pub(super) fn total_weight(&self, rows: &std::ops::Range<usize>) -> f64 {
        let link = self.rows.links[rows.start] as usize;
        self.asymmetry_weights[link] + self.rows.weights[rows.clone()].iter().sum::<f64>()
    }

    /// Weighted values of a link's rows, less what the link's own asymmetry takes up.
    fn eliminate<const L: usize>(&self, rows: std::ops::Range<usize>, values: &mut [Lanes<L>]) {
        let total = self.total_weight(&rows);
        let weights = &self.rows.weights[rows];
        let mut mean = [0.0; L];
        weights.iter().zip(values.iter()).for_each(|(weight, value)| add_scaled(&mut mean, *weight, value));
        let mean = mean.map(|mean| mean / total);
        for (value, weight) in values.iter_mut().zip(weights) {
            *value = std::array::from_fn(|lane| weight * (value[lane] - mean[lane]));
        }
    }

    fn right_side(&self) -> Vec<Lanes<1>> {
        let mut right = vec![[0.0]; self.unknowns];
        for rows in self.rows.by_link() {
            let mut values: Vec<Lanes<1>> = self.rows.targets[rows.clone()].iter().map(|&target| [target]).collect();
            self.scatter(rows, &mut values, &mut right);
        }
        right
    }

    fn scatter<const L: usize>(&self, rows: std::ops::Range<usize>, values: &mut [Lanes<L>], out: &mut [Lanes<L>]) {
        self.eliminate(rows.clone(), values);
        for (row, value) in rows.zip(values.iter()) {
            self.rows.terms(row).for_each(|(unknown, coefficient)| add_scaled(&mut out[unknown], coefficient, value));
        }
    }

    fn apply<const L: usize>(&self, v: &[Lanes<L>], out: &mut [Lanes<L>]) {
        let of_part = |links: &std::ops::Range<usize>, out: &mut [Lanes<L>]| {
            let mut values = Vec::new();
            for rows in self.rows.of_links(links.clone()) {
                values.clear();
                values.extend(rows.clone().map(|row| self.rows.dots(row, v)));
                self.scatter(rows, &mut values, out);
            }
        };
        for ((out, v), ridge) in out.iter_mut().zip(v).zip(self.ridge) {
            *out = v.map(|v| ridge * v);
        }
        let parts = self.rows.parts();
        let (first, others) = parts.split_at(1);
        // Draws are shared out already.
        if L == 1 && !others.is_empty() {
            let sum = |links: &std::ops::Range<usize>| {
                let mut sum = vec![[0.0; L]; self.unknowns];
                of_part(links, &mut sum);
                sum
            };
            let (_, sums) = rayon::join(|| of_part(&first[0], out), || others.par_iter().map(sum).collect::<Vec<_>>());
            sums.iter().for_each(|sum| axpy(out, [1.0; L], sum));
        } else {
            parts.iter().for_each(|part| of_part(part, out));
        }
        for k in self.inner_knots() {
            for lane in 0..L {
                let bend = self.smoothness[k] * (v[k - 1][lane] - 2.0 * v[k][lane] + v[k + 1][lane]);
                out[k - 1][lane] += bend;
                out[k][lane] -= 2.0 * bend;
                out[k + 1][lane] += bend;
            }
        }
    }
}

const ITERATIONS: usize = 2_000;

#[cfg(test)]
mod tests {
    use super::super::precondition::COARSE;
    use super::*;

    const UNKNOWNS: usize = 7;

    /// Two clocks of three knots, one link between them and one to the reference; the first steps before its last knot.
    fn example() -> (Rows, Vec<Block>) {
        let mut rows = Rows::new();
        for (k, target) in [(0, 10.0), (1, 12.0), (2, 14.0)] {
            rows.push([(k, 1.0)].into_iter().chain((k == 2).then_some((6, 1.0))), target, 4.0, 0);
        }
        for (k, target) in [(0, 5.0), (1, 6.0), (2, 4.0)] {
            let step = (k == 2).then_some((6, -1.0));
            let terms = [(3 + k, 0.5), (3 + (k + 1).min(2), 0.5), (k, -1.0)];
            rows.push(terms.into_iter().chain(step), target, 1.0, 1);
        }
        (rows, vec![Block { start: 0, count: 3 }, Block { start: 3, count: 3 }])
    }

    fn with<T>(check: impl FnOnce(&System<'_>) -> T) -> T {
        let (rows, blocks) = example();
        check(&System {
            unknowns: UNKNOWNS,
            blocks: &blocks,
            beside: &[0],
            rows: &rows,
            asymmetry_weights: &[0.1, 0.2],
            smoothness: &[0.0, 0.3, 0.0, 0.0, 0.7, 0.0, 0.0],
            ridge: &[0.01; UNKNOWNS],
        })
    }

    /// The system's matrix, column by column.
    fn matrix(system: &System<'_>) -> Vec<Vec<f64>> {
        (0..system.unknowns)
            .map(|column| {
                let (mut unit, mut out) = (vec![[0.0]; system.unknowns], vec![[0.0]; system.unknowns]);
                unit[column] = [1.0];
                system.apply(&unit, &mut out);
                out.into_iter().map(|[out]| out).collect()
            })
            .collect()
    }

    #[test]
    fn conjugate_gradients_find_what_a_dense_factor_finds() {
        with(|system| {
            let mut dense = Dense::new(UNKNOWNS);
            for (j, column) in matrix(system).iter().enumerate() {
                column.iter().enumerate().for_each(|(i, value)| *dense.at(i, j) = *value);
            }
            dense.factor();
            let mut expected = system.right_side();
            dense.solve(&mut expected);
            let mut v = vec![0.0; UNKNOWNS];
            system.solve(&Preconditioner::new(system), &mut v, 1e-12);
            for (v, [expected]) in v.iter().zip(&expected) {
                assert!((v - expected).abs() < 1e-9, "{v} is not {expected}");
            }
        });
    }

    #[test]
    fn knots_stay_where_a_solution_has_them() {
        with(|system| {
            // As if knots were held by rows and bends alone.
            let preconditioner = Preconditioner::new(system);
            let mut v = vec![1e4; UNKNOWNS];
            (0..200).for_each(|_| _ = system.solve(&preconditioner, &mut v, 1e-12));
            let mut product = vec![[0.0]; UNKNOWNS];
            let lanes: Vec<Lanes<1>> = v.iter().map(|&v| [v]).collect();
            System { ridge: &[0.0; UNKNOWNS], ..*system }.apply(&lanes, &mut product);
            for (k, ([product], [right])) in product.iter().zip(system.right_side()).enumerate().take(6) {
                assert!((product - right).abs() < 1e-6, "knot {k}: {product} is not {right}");
            }
        });
    }

    #[test]
    fn a_long_chain_of_clocks_is_seen_from_afar_by_neighbourhoods() {
        // Every clock is 5 ns ahead of the last, the first of the reference. They are numbered by leaps, so that neighbours
        // in the chain are none by number.
        let clocks = 3 * COARSE + 1;
        let number = |place: usize| place * 7 % clocks;
        let mut rows = Rows::new();
        for place in 0..clocks {
            for knot in 0..2 {
                let before = place.checked_sub(1).map(|before| (2 * number(before) + knot, -1.0));
                rows.push([(2 * number(place) + knot, 1.0)].into_iter().chain(before), 5.0, 1.0, place as u32);
            }
        }
        let blocks: Vec<Block> = (0..clocks).map(|clock| Block { start: 2 * clock, count: 2 }).collect();
        let system = System {
            unknowns: 2 * clocks,
            blocks: &blocks,
            beside: &[],
            rows: &rows,
            asymmetry_weights: &vec![1e3; clocks],
            smoothness: &vec![0.0; 2 * clocks],
            ridge: &vec![1e-12; 2 * clocks],
        };
        let mut v = vec![0.0; 2 * clocks];
        let iterations = system.solve(&Preconditioner::new(&system), &mut v, 1e-9);
        for place in 0..clocks {
            let ahead = 5.0 * (place + 1) as f64;
            assert!((v[2 * number(place)] / ahead - 1.0).abs() < 1e-4, "{place}: {}", v[2 * number(place)]);
        }
        assert!(iterations < 60, "{iterations} iterations, and as many as there are clocks without");
    }

    #[test]
    fn a_step_costs_no_more_iterations_than_a_knot() {
        // One clock against the reference, its reading at every quarter of a knot; two steps within one gap of knots.
        let count = 200;
        let iterations = |steps: &[f64]| {
            let mut rows = Rows::new();
            for quarter in 0..4 * (count - 1) {
                let at = quarter as f64 / 4.0;
                let (knot, share) = (at as usize, at.fract());
                let begun = (0..).zip(steps).filter(|(_, step)| **step <= at).map(|(index, _)| (count + index, 1.0));
                let target = 1e5 * at.sin() + 1e6 * steps.iter().filter(|step| **step <= at).count() as f64;
                rows.push([(knot, 1.0 - share), (knot + 1, share)].into_iter().chain(begun), target, 1e-8, 0);
            }
            let unknowns = count + steps.len();
            let system = System {
                unknowns,
                blocks: &[Block { start: 0, count }],
                beside: &vec![0; steps.len()],
                rows: &rows,
                asymmetry_weights: &[1e-10],
                smoothness: &vec![1e-7; unknowns],
                ridge: &vec![1e-18; unknowns],
            };
            system.solve(&Preconditioner::new(&system), &mut vec![0.0; unknowns], 1e-7)
        };
        let [without, with] = [iterations(&[]), iterations(&[60.1, 60.4, 120.2, 150.7])];
        assert!(with <= without + 2, "{with} iterations, {without} without steps");
    }

    #[test]
    fn links_that_come_and_go_cost_no_more_iterations_than_one() {
        // Many clocks against the reference; each link has calls in its own part of the time, and may be far more uneven than
        // its calls are unsure.
        let (clocks, count) = (COARSE + 1, 60);
        let iterations = |links: usize| {
            let mut rows = Rows::new();
            for unknown in 0..clocks * count {
                let link = unknown * links / count;
                let target = 1e5 * (unknown as f64 / 9.0).sin() + 1e5 * (link % links) as f64;
                rows.push([(unknown, 1.0)], target, 1e-8, link as u32);
            }
            let blocks: Vec<Block> = (0..clocks).map(|clock| Block { start: clock * count, count }).collect();
            let system = System {
                unknowns: clocks * count,
                blocks: &blocks,
                beside: &[],
                rows: &rows,
                asymmetry_weights: &vec![1e-12; clocks * links],
                smoothness: &vec![1e-7; clocks * count],
                ridge: &vec![1e-18; clocks * count],
            };
            system.solve(&Preconditioner::new(&system), &mut vec![0.0; clocks * count], 1e-7)
        };
        let [one, many] = [iterations(1), iterations(15)];
        assert!(many <= one + 3, "{many} iterations, {one} with one link");
    }

    #[test]
    fn eliminating_asymmetries_equals_solving_for_them() {
        with(|system| {
            let mut v = vec![0.0; UNKNOWNS];
            system.solve(&Preconditioner::new(system), &mut v, 1e-12);
            let asymmetries = system.asymmetries(&v, 2);
            // At the minimum the gradient is zero with the asymmetries held where they are.
            for unknown in 0..UNKNOWNS {
                let moved = |by: f64| {
                    let mut v = v.clone();
                    v[unknown] += by;
                    let data: f64 = (0..system.rows.len())
                        .map(|row| {
                            let asymmetry = asymmetries[system.rows.links[row] as usize];
                            let rest = system.rows.targets[row] - system.rows.dot(row, &v) - asymmetry;
                            system.rows.weights[row] * rest * rest
                        })
                        .sum();
                    let bends: f64 =
                        [1, 4].iter().map(|&k| system.smoothness[k] * (v[k - 1] - 2.0 * v[k] + v[k + 1]).powi(2)).sum();
                    data + bends + v.iter().map(|v| 0.01 * v * v).sum::<f64>()
                };
                let slope = (moved(1e-4) - moved(-1e-4)) / 2e-4;
                assert!(slope.abs() < 1e-6, "unknown {unknown}: {slope}");
            }
        });
    }

    #[test]
    fn drawn_errors_spread_as_the_inverse_says() {
        with(|system| {
            let mut dense = Dense::new(UNKNOWNS);
            for (j, column) in matrix(system).iter().enumerate() {
                column.iter().enumerate().for_each(|(i, value)| *dense.at(i, j) = *value);
            }
            dense.factor();
            let mut inverse = vec![0.0; UNKNOWNS * UNKNOWNS];
            for (i, column) in inverse.chunks_mut(UNKNOWNS).enumerate() {
                let mut unit = [[0.0]; UNKNOWNS];
                unit[i] = [1.0];
                dense.solve(&mut unit);
                column.copy_from_slice(&unit.map(|[value]| value));
            }
            let draws = system.errors(4_000);
            for (i, j) in [(0, 0), (1, 1), (5, 5), (0, 2), (1, 4), (6, 6), (2, 6)] {
                let drawn = draws.iter().map(|v| v[i] * v[j]).sum::<f64>() / draws.len() as f64;
                let most = (inverse[i * UNKNOWNS + i] * inverse[j * UNKNOWNS + j]).sqrt();
                assert!((drawn - inverse[i * UNKNOWNS + j]).abs() < 0.07 * most, "entry {i}, {j}: {drawn}");
            }
        });
    }

    #[test]
    fn the_odds_of_zero_are_a_ratio_of_densities() {
        // By hand: one unknown of prior variance 4, read as 3 with variance 1. After: variance 0.8, mean 2.4.
        let mut rows = Rows::new();
        rows.push([(0, 1.0)], 3.0, 1.0, 0);
        let system = System {
            unknowns: 1,
            blocks: &[],
            beside: &[],
            rows: &rows,
            asymmetry_weights: &[1e12],
            smoothness: &[0.0],
            ridge: &[0.25],
        };
        let density = |variance: f64, at: f64| (-at * at / (2.0 * variance)).exp() / variance.sqrt();
        let expected = (density(0.8, 2.4) / density(4.0, 0.0)).ln();
        let odds = system.log_odds_of_zero(&[2.4], 0);
        assert!((odds - expected).abs() < 1e-6, "{odds}, not {expected}");
    }
}
