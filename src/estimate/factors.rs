//! Matrices that are factored once and solved for many right sides, several of them side by side.

/// Problems that are solved side by side: they differ in their right sides alone, and a matrix costs more to walk than to
/// multiply by.
pub(super) type Lanes<const L: usize> = [f64; L];

pub(super) fn add_scaled<const L: usize>(sums: &mut Lanes<L>, scale: f64, by: &Lanes<L>) {
    sums.iter_mut().zip(by).for_each(|(sum, by)| *sum += scale * by);
}

pub(super) fn dot<const L: usize>(a: &[Lanes<L>], b: &[Lanes<L>]) -> Lanes<L> {
    let mut sums = [0.0; L];
    for (a, b) in a.iter().zip(b) {
        (0..L).for_each(|lane| sums[lane] += a[lane] * b[lane]);
    }
    sums
}

/// A row times a vector, in four sums at a time: one alone waits for each addition.
fn product<const L: usize>(row: &[f64], v: &[Lanes<L>]) -> Lanes<L> {
    let (fours, rest) = (row.chunks_exact(4), row.chunks_exact(4).remainder());
    let mut sums = [[0.0; L]; 4];
    for (entries, values) in fours.zip(v.chunks_exact(4)) {
        for (sum, (entry, value)) in sums.iter_mut().zip(entries.iter().zip(values)) {
            add_scaled(sum, *entry, value);
        }
    }
    rest.iter().zip(&v[row.len() - rest.len()..]).for_each(|(entry, value)| add_scaled(&mut sums[0], *entry, value));
    std::array::from_fn(|lane| (sums[0][lane] + sums[1][lane]) + (sums[2][lane] + sums[3][lane]))
}

pub(super) fn axpy<const L: usize>(v: &mut [Lanes<L>], scale: Lanes<L>, by: &[Lanes<L>]) {
    for (v, by) in v.iter_mut().zip(by) {
        (0..L).for_each(|lane| v[lane] += scale[lane] * by[lane]);
    }
}

/// A symmetric banded matrix, then its Cholesky factor, with one over each pivot in the pivot's place: row i holds columns
/// i − width ..= i.
pub(super) struct Banded {
    size: usize,
    width: usize,
    rows: Vec<f64>,
}

impl Banded {
    pub(super) fn new(size: usize, width: usize) -> Self {
        let width = width.min(size.saturating_sub(1));
        Self { size, width, rows: vec![0.0; size * (width + 1)] }
    }

    pub(super) fn at(&mut self, i: usize, j: usize) -> &mut f64 {
        &mut self.rows[i * (self.width + 1) + j + self.width - i]
    }

    fn get(&self, i: usize, j: usize) -> f64 {
        self.rows[i * (self.width + 1) + j + self.width - i]
    }

    pub(super) fn factor(&mut self) {
        for i in 0..self.size {
            let first = i.saturating_sub(self.width);
            for j in first..=i {
                let from = first.max(j.saturating_sub(self.width));
                let sum: f64 = (from..j).map(|k| self.get(i, k) * self.get(j, k)).sum();
                let value = self.get(i, j) - sum;
                *self.at(i, j) = if i == j { 1.0 / value.max(TINY).sqrt() } else { value * self.get(j, j) };
            }
        }
    }

    /// Row i left of its diagonal, and where it begins.
    fn left_of(&self, i: usize) -> (usize, &[f64]) {
        let first = i.saturating_sub(self.width);
        let end = i * (self.width + 1) + self.width;
        (first, &self.rows[end + first - i..end])
    }

    pub(super) fn solve<const L: usize>(&self, v: &mut [Lanes<L>]) {
        for i in 0..self.size {
            let (first, row) = self.left_of(i);
            let sum = product(row, &v[first..i]);
            v[i] = std::array::from_fn(|lane| (v[i][lane] - sum[lane]) * self.get(i, i));
        }
        for i in (0..self.size).rev() {
            let (first, row) = self.left_of(i);
            let value = v[i].map(|value| value * self.get(i, i));
            v[i] = value;
            v[first..i].iter_mut().zip(row).for_each(|(before, entry)| add_scaled(before, -entry, &value));
        }
    }
}

/// A symmetric matrix that is banded but for its last rows and columns, then what solves for it: the banded part's factor,
/// what that makes of the border, and the factor of what is left of the corner (its Schur complement).
pub(super) struct Bordered {
    banded: Banded,
    /// Row by row of the banded part.
    border: Vec<f64>,
    corner: Dense,
}

impl Bordered {
    pub(super) fn new(size: usize, width: usize, border: usize) -> Self {
        Self { banded: Banded::new(size, width), border: vec![0.0; size * border], corner: Dense::new(border) }
    }

    pub(super) fn border(&self) -> usize {
        self.corner.size
    }

    /// Rows of the banded part and of the border.
    pub(super) fn size(&self) -> usize {
        self.banded.size + self.corner.size
    }

    /// An entry of the lower triangle.
    pub(super) fn at(&mut self, i: usize, j: usize) -> &mut f64 {
        let size = self.banded.size;
        match (i.checked_sub(size), j.checked_sub(size)) {
            (None, _) => self.banded.at(i, j),
            (Some(i), None) => &mut self.border[j * self.corner.size + i],
            (Some(i), Some(j)) => self.corner.at(i, j),
        }
    }

    pub(super) fn factor(&mut self) {
        self.banded.factor();
        let border = self.corner.size;
        let columns: Vec<Vec<Lanes<1>>> =
            (0..border).map(|j| self.border.iter().skip(j).step_by(border).map(|&entry| [entry]).collect()).collect();
        for (j, column) in columns.iter().enumerate() {
            let mut solved = column.clone();
            self.banded.solve(&mut solved);
            for (i, other) in columns.iter().enumerate().skip(j) {
                let [through] = dot(other, &solved);
                *self.corner.at(i, j) -= through;
            }
            self.border.iter_mut().skip(j).step_by(border).zip(&solved).for_each(|(entry, [solved])| *entry = *solved);
        }
        self.corner.factor();
    }

    /// Solves for the banded part's values and the border's.
    pub(super) fn solve<const L: usize>(&self, v: &mut [Lanes<L>], border: &mut [Lanes<L>]) {
        let rows = || self.border.chunks_exact(self.corner.size.max(1));
        for (value, row) in v.iter().zip(rows()) {
            row.iter().zip(&mut *border).for_each(|(entry, sum)| add_scaled(sum, -entry, value));
        }
        self.corner.solve(border);
        self.banded.solve(v);
        for (value, row) in v.iter_mut().zip(rows()) {
            row.iter().zip(&*border).for_each(|(entry, by)| add_scaled(value, -entry, by));
        }
    }
}

/// A pivot at or below this is a direction that nothing determines.
const TINY: f64 = 1e-30;

/// A symmetric matrix, then its Cholesky factor (lower triangle).
pub(super) struct Dense {
    pub(super) size: usize,
    entries: Vec<f64>,
}

impl Dense {
    pub(super) fn new(size: usize) -> Self {
        Self { size, entries: vec![0.0; size * size] }
    }

    pub(super) fn at(&mut self, i: usize, j: usize) -> &mut f64 {
        &mut self.entries[i * self.size + j]
    }

    pub(super) fn factor(&mut self) {
        let n = self.size;
        let product = |left: &[f64], right: &[f64]| {
            let (left, rest) = left.as_chunks::<8>();
            let (right, of_rest) = right.as_chunks::<8>();
            let mut sums = [0.0; 8];
            left.iter().zip(right).for_each(|(l, r)| (0..8).for_each(|lane| sums[lane] += l[lane] * r[lane]));
            sums.iter().sum::<f64>() + rest.iter().zip(of_rest).map(|(l, r)| l * r).sum::<f64>()
        };
        for i in 0..n {
            let (above, row) = self.entries.split_at_mut(i * n);
            for j in 0..i {
                let other = &above[j * n..j * n + j + 1];
                row[j] = (row[j] - product(&row[..j], &other[..j])) / other[j];
            }
            let pivot = row[i] - product(&row[..i], &row[..i]);
            row[i] = pivot.max(TINY).sqrt();
        }
    }

    pub(super) fn solve<const L: usize>(&self, v: &mut [Lanes<L>]) {
        let n = self.size;
        for i in 0..n {
            let row = &self.entries[i * n..i * n + i + 1];
            let (before, here) = v.split_at_mut(i);
            let sum = product(&row[..i], before);
            here[0] = std::array::from_fn(|lane| (here[0][lane] - sum[lane]) / row[i]);
        }
        for i in (0..n).rev() {
            let row = &self.entries[i * n..i * n + i + 1];
            let (before, here) = v.split_at_mut(i);
            here[0] = here[0].map(|value| value / row[i]);
            before.iter_mut().zip(row).for_each(|(before, entry)| add_scaled(before, -entry, &here[0]));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_border_is_solved_for_with_the_band() {
        // Six banded rows and two bordering ones of a symmetric matrix that is heavy on its diagonal.
        let entry = |i: usize, j: usize| match (i - j, i < 6) {
            (0, _) => 9.0 + i as f64,
            (1..=2, true) => 1.0 / (1.0 + i as f64),
            (_, true) => 0.0,
            (_, false) => 1.0 + 0.5 * j as f64 - 0.1 * i as f64,
        };
        let (mut bordered, mut dense) = (Bordered::new(6, 2, 2), Dense::new(8));
        for (i, j) in (0..8).flat_map(|i| (0..=i).map(move |j| (i, j))) {
            *dense.at(i, j) = entry(i, j);
            if entry(i, j) != 0.0 {
                *bordered.at(i, j) = entry(i, j);
            }
        }
        bordered.factor();
        dense.factor();
        let right: Vec<Lanes<2>> = (0..8).map(|k| [k as f64, 3.0 - k as f64]).collect();
        let (mut expected, mut solved) = (right.clone(), right);
        dense.solve(&mut expected);
        let (knots, border) = solved.split_at_mut(6);
        bordered.solve(knots, border);
        for (solved, expected) in solved.iter().flatten().zip(expected.iter().flatten()) {
            assert!((solved - expected).abs() < 1e-12, "{solved}, not {expected}");
        }
    }
}
