//! A system → about its inverse, cheap to multiply by: what conjugate gradients need few iterations with.
//!
//! One Cholesky factor per clock, of its banded knots bordered by its steps; and a dense coarse space of each clock's constant
//! and slope, which carries what the blocks cannot see. Where clocks are many, of each neighbourhood's, and then their links'
//! asymmetries border the factors as well, which makes each its clock's part of the system exactly.
//!
//! Steps border, as a step beside steep knots is nearly what they are: without, a few steps a clock take 2,000 iterations
//! instead of 260. Asymmetries, as they make a clock's mean far softer than its shape: without, draws of ten thousand clocks
//! take 110 iterations instead of 30.

use rayon::iter::{IndexedParallelIterator, IntoParallelRefIterator, IntoParallelRefMutIterator, ParallelIterator};

use super::factors::{Bordered, Dense, Lanes, add_scaled};
use super::solve::{Block, System};

/// So many clocks, or groups of neighbours among more, are seen one by one from afar: with more, the dense factor costs
/// more than the iterations that it saves.
pub(super) const COARSE: usize = 300;

pub(super) struct Preconditioner {
    blocks: Vec<Bordered>,
    starts: Vec<Block>,
    /// Per block, the unknowns beside it.
    beside: Vec<Vec<usize>>,
    /// Diagonal of the unknowns that belong to no block, the last ones.
    loose: Vec<f64>,
    /// Per block, its place in the coarse space.
    places: Vec<usize>,
    coarse: Dense,
}

impl Preconditioner {
    pub(super) fn new(system: &System<'_>) -> Self {
        let mut owner = vec![u32::MAX; system.unknowns];
        let mut within = vec![0; system.unknowns];
        for (index, block) in system.blocks.iter().enumerate() {
            for k in 0..block.count {
                owner[block.start + k] = index as u32;
                within[block.start + k] = k;
            }
        }
        let knots: usize = system.blocks.iter().map(|block| block.count).sum();
        let blocked = knots + system.beside.len();
        let mut beside = vec![Vec::new(); system.blocks.len()];
        for (unknown, &block) in (knots..).zip(system.beside) {
            let others: &mut Vec<usize> = &mut beside[block as usize];
            owner[unknown] = block;
            within[unknown] = system.blocks[block as usize].count + others.len();
            others.push(unknown);
        }
        let places = neighbourhoods(system, &owner);
        let ((blocks, loose), coarse) =
            rayon::join(|| of_blocks(system, &owner, &within, &beside), || coarse(system, &owner, &places, blocked));
        Self { blocks, starts: system.blocks.to_vec(), beside, loose, places, coarse }
    }

    /// A residual → about the change that removes it, in its place.
    pub(super) fn apply<const L: usize>(&self, z: &mut [Lanes<L>]) {
        let blocked = z.len() - self.loose.len();
        let of_blocks = self.coarse.size - self.loose.len();
        let mut small = vec![[0.0; L]; self.coarse.size];
        for (block, place) in self.starts.iter().zip(&self.places) {
            for (k, value) in z[block.start..block.start + block.count].iter().enumerate() {
                add_scaled(&mut small[2 * place], 1.0, value);
                add_scaled(&mut small[2 * place + 1], slope_basis(k, block.count), value);
            }
        }
        small[of_blocks..].copy_from_slice(&z[blocked..]);
        self.coarse.solve(&mut small);
        self.solve_blocks(z);
        z[blocked..].iter_mut().zip(&self.loose).for_each(|(z, weight)| *z = z.map(|z| z / weight));
        for (block, place) in self.starts.iter().zip(&self.places) {
            for (k, value) in z[block.start..block.start + block.count].iter_mut().enumerate() {
                add_scaled(value, 1.0, &small[2 * place]);
                add_scaled(value, slope_basis(k, block.count), &small[2 * place + 1]);
            }
        }
        z[blocked..].iter_mut().zip(&small[of_blocks..]).for_each(|(z, s)| add_scaled(z, 1.0, s));
    }

    /// Blocks follow each other from the first unknown on.
    fn solve_blocks<const L: usize>(&self, z: &mut [Lanes<L>]) {
        // What borders a block: the unknowns beside it, then its links' asymmetries, which have no residual.
        let border = |index: usize| {
            let mut border: Vec<Lanes<L>> = self.beside[index].iter().map(|&unknown| z[unknown]).collect();
            border.resize(self.blocks[index].border(), [0.0; L]);
            border
        };
        let mut borders: Vec<_> = (0..self.blocks.len()).map(border).collect();
        let knots = self.starts.last().map_or(0, |last| last.start + last.count);
        let mut rest = &mut z[..knots];
        let mut values = Vec::with_capacity(self.starts.len());
        for block in &self.starts {
            let (own, others) = rest.split_at_mut(block.count);
            values.push(own);
            rest = others;
        }
        // Draws are shared out already.
        let all =
            self.blocks.par_iter().zip(values).zip(&mut borders).with_min_len(if L == 1 { 8 } else { usize::MAX });
        all.for_each(|((factor, values), border)| factor.solve(values, border));
        for (beside, border) in self.beside.iter().zip(borders) {
            beside.iter().zip(border).for_each(|(&unknown, value)| z[unknown] = value);
        }
    }
}

/// The factor of each block with what borders it, and the diagonal of the unknowns that belong to none. `within` is each
/// unknown's place in its block.
fn of_blocks(system: &System<'_>, owner: &[u32], within: &[usize], beside: &[Vec<usize>]) -> (Vec<Bordered>, Vec<f64>) {
    let knots: usize = system.blocks.iter().map(|block| block.count).sum();
    let blocked = knots + system.beside.len();
    let links = bordering(system, owner);
    let widths = widths(system, owner, knots);
    let of_block = |(index, block): (usize, &Block)| {
        Bordered::new(block.count, widths[index], beside[index].len() + links[index].len())
    };
    let mut blocks: Vec<Bordered> = system.blocks.iter().enumerate().map(of_block).collect();
    let mut loose = system.ridge[blocked..].to_vec();
    for row in 0..system.rows.len() {
        let weight = system.rows.weights[row];
        for (i, a) in system.rows.terms(row) {
            if owner[i] == u32::MAX {
                loose[i - blocked] += weight * a * a;
                continue;
            }
            let others = system.rows.terms(row).filter(|&(j, _)| owner[j] == owner[i] && within[j] <= within[i]);
            others.for_each(|(j, b)| *blocks[owner[i] as usize].at(within[i], within[j]) += weight * a * b);
        }
    }
    for ((block, beside), factor) in system.blocks.iter().zip(beside).zip(&mut blocks) {
        add_priors(system, block, beside, factor);
    }
    add_asymmetries(system, owner, within, &links, &mut blocks);
    blocks.par_iter_mut().for_each(Bordered::factor);
    (blocks, loose)
}

fn add_priors(system: &System<'_>, block: &Block, beside: &[usize], factor: &mut Bordered) {
    for (i, unknown) in (block.start..block.start + block.count).chain(beside.iter().copied()).enumerate() {
        *factor.at(i, i) += system.ridge[unknown];
    }
    for k in 1..block.count.saturating_sub(1) {
        let weight = system.smoothness[block.start + k];
        for (i, a) in [(k + 1, 1.0), (k, -2.0), (k - 1, 1.0)] {
            for (j, b) in [(k + 1, 1.0), (k, -2.0), (k - 1, 1.0)] {
                if i >= j {
                    *factor.at(i, j) += weight * a * b;
                }
            }
        }
    }
}

/// The last of what borders each block: the asymmetries of its `links`.
fn add_asymmetries(
    system: &System<'_>,
    owner: &[u32],
    within: &[usize],
    links: &[Vec<usize>],
    blocks: &mut [Bordered],
) {
    let rows_of: Vec<_> = system.rows.by_link().collect();
    for (block, links) in links.iter().enumerate() {
        let factor = &mut blocks[block];
        for (&link, place) in links.iter().zip(factor.size() - links.len()..) {
            let rows = rows_of[link].clone();
            // A little more than it is: rounded, nothing could be left.
            *factor.at(place, place) = system.total_weight(&rows) * (1.0 + 1e-9);
            for row in rows {
                for (i, a) in system.rows.terms(row).filter(|&(i, _)| owner[i] as usize == block) {
                    *factor.at(place, within[i]) += system.rows.weights[row] * a;
                }
            }
        }
    }
}

/// Per block, how far apart two of its knots are at the most that one row is about.
fn widths(system: &System<'_>, owner: &[u32], knots: usize) -> Vec<usize> {
    let mut widths = vec![2; system.blocks.len()];
    for row in 0..system.rows.len() {
        let terms = || system.rows.terms(row).map(|(unknown, _)| unknown).filter(|&unknown| unknown < knots);
        for i in terms() {
            for j in terms().filter(|&j| owner[j] == owner[i]) {
                widths[owner[i] as usize] = i.abs_diff(j).max(widths[owner[i] as usize]);
            }
        }
    }
    widths
}

/// Of a clock with more links than this, those border its factor that would take most off it: a border costs as much as
/// its length squared.
const BORDERING: usize = 32;

/// Per block, the links whose asymmetries border it, by their order among the rows. None where the coarse space sees each
/// clock by itself: it carries its mean, and borders cost more than they save (fleet `sparse`: `fix` takes 4.1 s instead of
/// 3.1).
fn bordering(system: &System<'_>, owner: &[u32]) -> Vec<Vec<usize>> {
    let mut links: Vec<Vec<(f64, usize)>> = vec![Vec::new(); system.blocks.len()];
    if links.len() <= COARSE {
        return vec![Vec::new(); links.len()];
    }
    for (number, rows) in system.rows.by_link().enumerate() {
        let weight: f64 = system.rows.weights[rows.clone()].iter().sum();
        let taken_up = weight * weight / system.total_weight(&rows);
        for (unknown, _) in rows.flat_map(|row| system.rows.terms(row)) {
            if let Some(links) = links.get_mut(owner[unknown] as usize)
                && links.last().is_none_or(|last| last.1 != number)
            {
                links.push((taken_up, number));
            }
        }
    }
    let strongest = |mut links: Vec<(f64, usize)>| {
        links.sort_unstable_by(|left, right| right.0.total_cmp(&left.0).then(left.1.cmp(&right.1)));
        links.into_iter().take(BORDERING).map(|link| link.1).collect()
    };
    links.into_iter().map(strongest).collect()
}

/// Per block, which of at most `COARSE` neighbourhoods of about as many blocks it belongs to: they follow a path through
/// the links that goes on to a neighbour as long as there is one (depth first).
fn neighbourhoods(system: &System<'_>, owner: &[u32]) -> Vec<usize> {
    let blocks = system.blocks.len();
    if blocks <= COARSE {
        return (0..blocks).collect();
    }
    let mut pairs: Vec<(u32, u32)> = Vec::new();
    for rows in system.rows.by_link() {
        let of_link =
            system.rows.terms(rows.start).map(|(unknown, _)| owner[unknown]).filter(|&block| block != u32::MAX);
        for one in of_link.clone() {
            pairs.extend(of_link.clone().filter(|&other| other != one).map(|other| (one, other)));
        }
    }
    pairs.sort_unstable();
    pairs.dedup();
    let mut order = Vec::with_capacity(blocks);
    let mut seen = vec![false; blocks];
    for first in 0..blocks as u32 {
        let mut next = vec![first];
        while let Some(block) = next.pop() {
            if std::mem::replace(&mut seen[block as usize], true) {
                continue;
            }
            order.push(block as usize);
            let from = pairs.partition_point(|pair| pair.0 < block);
            next.extend(pairs[from..].iter().take_while(|pair| pair.0 == block).map(|pair| pair.1));
        }
    }
    let mut places = vec![0; blocks];
    order.into_iter().enumerate().for_each(|(rank, block)| places[block] = rank * COARSE / blocks);
    places
}

/// From −1 at a block's first knot to 1 at its last.
fn slope_basis(k: usize, count: usize) -> f64 {
    if count < 2 { 0.0 } else { 2.0 * k as f64 / (count - 1) as f64 - 1.0 }
}

/// The system seen through the constant and the slope of each neighbourhood's blocks, links' asymmetries eliminated.
fn coarse(system: &System<'_>, owner: &[u32], places: &[usize], blocked: usize) -> Dense {
    let of_blocks = 2 * places.iter().max().map_or(0, |most| most + 1);
    let mut dense = Dense::new(of_blocks + system.unknowns - blocked);
    let mut projected: Vec<(usize, f64)> = Vec::new();
    for rows in system.rows.by_link() {
        let total = system.total_weight(&rows);
        let mut sums: Vec<(usize, f64)> = Vec::new();
        for row in rows {
            projected.clear();
            for (unknown, coefficient) in system.rows.terms(row) {
                if unknown >= blocked {
                    add(&mut projected, of_blocks + unknown - blocked, coefficient);
                } else if unknown < blocked - system.beside.len() {
                    let block = owner[unknown] as usize;
                    let Block { start, count } = system.blocks[block];
                    add(&mut projected, 2 * places[block], coefficient);
                    add(&mut projected, 2 * places[block] + 1, coefficient * slope_basis(unknown - start, count));
                }
            }
            let weight = system.rows.weights[row];
            for &(i, a) in &projected {
                add(&mut sums, i, weight * a);
                projected.iter().for_each(|&(j, b)| *dense.at(i, j) += weight * a * b);
            }
        }
        for &(i, a) in &sums {
            sums.iter().for_each(|&(j, b)| *dense.at(i, j) -= a * b / total);
        }
    }
    for (block, place) in system.blocks.iter().zip(places) {
        for k in 0..block.count {
            let (ridge, slope) = (system.ridge[block.start + k], slope_basis(k, block.count));
            *dense.at(2 * place, 2 * place) += ridge;
            *dense.at(2 * place, 2 * place + 1) += ridge * slope;
            *dense.at(2 * place + 1, 2 * place) += ridge * slope;
            *dense.at(2 * place + 1, 2 * place + 1) += ridge * slope * slope;
        }
    }
    for slope in (1..of_blocks).step_by(2) {
        // None of its blocks has two knots.
        if *dense.at(slope, slope) == 0.0 {
            *dense.at(slope, slope) = 1.0;
        }
    }
    for k in blocked..system.unknowns {
        let place = of_blocks + k - blocked;
        *dense.at(place, place) += system.ridge[k];
    }
    dense.factor();
    dense
}

fn add(sums: &mut Vec<(usize, f64)>, place: usize, value: f64) {
    match sums.iter_mut().find(|(other, _)| *other == place) {
        Some((_, sum)) => *sum += value,
        None => sums.push((place, value)),
    }
}
