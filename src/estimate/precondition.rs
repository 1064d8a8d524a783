//! A system → about its inverse, cheap to multiply by: what conjugate gradients need few iterations with.

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
        for ((block, beside), factor) in self.starts.iter().zip(&self.beside).zip(&self.blocks) {
            let mut border: Vec<Lanes<L>> = beside.iter().map(|&unknown| z[unknown]).collect();
            factor.solve(&mut z[block.start..block.start + block.count], &mut border);
            beside.iter().zip(border).for_each(|(&unknown, value)| z[unknown] = value);
        }
        z[blocked..].iter_mut().zip(&self.loose).for_each(|(z, weight)| *z = z.map(|z| z / weight));
        for (block, place) in self.starts.iter().zip(&self.places) {
            for (k, value) in z[block.start..block.start + block.count].iter_mut().enumerate() {
                add_scaled(value, 1.0, &small[2 * place]);
                add_scaled(value, slope_basis(k, block.count), &small[2 * place + 1]);
            }
        }
        z[blocked..].iter_mut().zip(&small[of_blocks..]).for_each(|(z, s)| add_scaled(z, 1.0, s));
    }
}

/// The factor of each block with what is beside it, and the diagonal of the unknowns that belong to none. `within` is each
/// unknown's place in its block.
fn of_blocks(system: &System<'_>, owner: &[u32], within: &[usize], beside: &[Vec<usize>]) -> (Vec<Bordered>, Vec<f64>) {
    let knots: usize = system.blocks.iter().map(|block| block.count).sum();
    let blocked = knots + system.beside.len();
    let mut widths = vec![2usize; system.blocks.len()];
    let pairs = |row: usize| {
        let terms = system.rows.terms(row);
        terms.clone().flat_map(move |left| terms.clone().map(move |right| (left, right)))
    };
    for row in 0..system.rows.len() {
        for ((i, _), (j, _)) in pairs(row) {
            if i < knots && j < knots && owner[i] == owner[j] {
                let width = &mut widths[owner[i] as usize];
                *width = (*width).max(i.abs_diff(j));
            }
        }
    }
    let of_block =
        |((block, &width), beside): ((&Block, &usize), &Vec<usize>)| Bordered::new(block.count, width, beside.len());
    let mut blocks: Vec<_> = system.blocks.iter().zip(&widths).zip(beside).map(of_block).collect();
    let mut loose = system.ridge[blocked..].to_vec();
    for row in 0..system.rows.len() {
        let weight = system.rows.weights[row];
        for ((i, a), (j, b)) in pairs(row) {
            if i == j && owner[i] == u32::MAX {
                loose[i - blocked] += weight * a * b;
            } else if owner[i] == owner[j] && owner[i] != u32::MAX && within[i] >= within[j] {
                *blocks[owner[i] as usize].at(within[i], within[j]) += weight * a * b;
            }
        }
    }
    for ((block, beside), bordered) in system.blocks.iter().zip(beside).zip(&mut blocks) {
        for (i, unknown) in (block.start..block.start + block.count).chain(beside.iter().copied()).enumerate() {
            *bordered.at(i, i) += system.ridge[unknown];
        }
        for k in 1..block.count.saturating_sub(1) {
            let weight = system.smoothness[block.start + k];
            for (i, a) in [(k + 1, 1.0), (k, -2.0), (k - 1, 1.0)] {
                for (j, b) in [(k + 1, 1.0), (k, -2.0), (k - 1, 1.0)] {
                    if i >= j {
                        *bordered.at(i, j) += weight * a * b;
                    }
                }
            }
        }
        bordered.factor();
    }
    (blocks, loose)
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
        let link = system.rows.links[rows.start] as usize;
        let mut total = system.asymmetry_weights[link];
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
            total += weight;
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
