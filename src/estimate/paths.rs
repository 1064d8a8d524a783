//! Inequalities between pairs of values → how far each value can be from zero, and which inequalities contradict.
//!
//! In come constraints `value[to] − value[from] ≤ most` and the nodes whose value is zero; out go the bounds that
//! follow, which are the lengths of shortest paths. A cycle of negative length is a contradiction: the reading on it
//! that is furthest out is dropped, so that the rest still gets its bounds, and told (ESTIMATOR.md, fact 9).

use std::cmp::Reverse;
use std::collections::BinaryHeap;

/// `value[to] − value[from] ≤ most`, in ns.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Constraint {
    pub(super) from: u32,
    pub(super) to: u32,
    pub(super) most: i64,
    /// The exchange that says so. `None`: a limit that is assumed; it is never negative, and never dropped.
    pub(super) exchange: Option<u64>,
}

/// Readings that cannot all be true, whatever the clocks did.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Contradiction {
    /// The exchange that is left out of the bounds.
    pub dropped: u64,
    /// The others, in the order of the cycle.
    pub others: Vec<u64>,
    /// By how much they cannot, ns.
    pub missing_ns: i64,
}

/// What follows from all constraints.
#[derive(Clone, Debug, Default)]
pub(super) struct Ranges {
    /// Per node; `None` where nothing bounds it.
    pub(super) lower: Vec<Option<i64>>,
    pub(super) upper: Vec<Option<i64>>,
    pub(super) contradictions: Vec<Contradiction>,
}

/// The bounds of all nodes; `owners` tells each node's clock. No two of `zeros` may be connected.
pub(super) fn ranges(owners: &[u32], constraints: Vec<Constraint>, zeros: &[u32]) -> Ranges {
    let mut graph = Graph::new(owners.len(), constraints);
    let (potential, contradictions) = graph.settle(owners);
    let (upper, mut lower) = rayon::join(
        || graph.distances(zeros, &potential, Direction::Forwards),
        || graph.distances(zeros, &potential, Direction::Backwards),
    );
    lower.iter_mut().flatten().for_each(|distance| *distance = distance.saturating_neg());
    Ranges { lower, upper, contradictions }
}

/// All constraints between the same two nodes, the tightest first; those before `at` do not count.
#[derive(Clone, Copy, Debug)]
struct Edge {
    from: u32,
    to: u32,
    at: u32,
    end: u32,
}

struct Graph {
    constraints: Vec<Constraint>,
    /// In order of `from` and `to`.
    edges: Vec<Edge>,
    /// Per node, its first edge; one more at the end.
    first: Vec<u32>,
    /// Edges in order of `to`, and per node its first.
    entering: Vec<u32>,
    first_entering: Vec<u32>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Direction {
    Forwards,
    Backwards,
}

const NONE: u32 = u32::MAX;

/// Values, and by how much each is about to be lowered.
struct Values {
    now: Vec<i64>,
    by: Vec<i64>,
    /// The edge that asks for it.
    cause: Vec<u32>,
    changed: Vec<u32>,
    next: BinaryHeap<(Reverse<i64>, u32)>,
}

impl Values {
    fn new(nodes: usize) -> Self {
        let (now, by, cause) = (vec![0; nodes], vec![0; nodes], vec![NONE; nodes]);
        Self { now, by, cause, changed: Vec::new(), next: BinaryHeap::new() }
    }

    fn change(&mut self, node: u32, by: i64, cause: u32) {
        (self.by[node as usize], self.cause[node as usize]) = (by, cause);
        self.changed.push(node);
        self.next.push((Reverse(by), node));
    }

    /// Takes over what was about to change, or forgets it.
    fn settle(&mut self, take: bool) {
        self.next.clear();
        for node in std::mem::take(&mut self.changed) {
            let by = std::mem::take(&mut self.by[node as usize]);
            self.cause[node as usize] = NONE;
            let now = &mut self.now[node as usize];
            *now = now.saturating_add(if take { by } else { 0 });
        }
    }
}

impl Graph {
    fn new(nodes: usize, mut constraints: Vec<Constraint>) -> Self {
        use rayon::slice::ParallelSliceMut;
        constraints.par_sort_unstable();
        let mut edges: Vec<Edge> = Vec::new();
        for (at, &Constraint { from, to, .. }) in constraints.iter().enumerate() {
            match edges.last_mut() {
                Some(edge) if (edge.from, edge.to) == (from, to) => edge.end += 1,
                _ => edges.push(Edge { from, to, at: at as u32, end: at as u32 + 1 }),
            }
        }
        let starts = |of: &dyn Fn(&Edge) -> u32| {
            let mut starts = vec![0u32; nodes + 1];
            edges.iter().for_each(|edge| starts[of(edge) as usize + 1] += 1);
            (1..=nodes).for_each(|node| starts[node] += starts[node - 1]);
            starts
        };
        let (first, first_entering) = (starts(&|edge| edge.from), starts(&|edge| edge.to));
        let mut entering = vec![0u32; edges.len()];
        let mut next = first_entering.clone();
        for (number, edge) in (0..).zip(&edges) {
            let place = &mut next[edge.to as usize];
            entering[*place as usize] = number;
            *place += 1;
        }
        Self { constraints, edges, first, entering, first_entering }
    }

    /// The tightest constraint of an edge that counts.
    fn tightest(&self, edge: u32) -> Option<&Constraint> {
        let Edge { at, end, .. } = self.edges[edge as usize];
        (at < end).then(|| &self.constraints[at as usize])
    }

    /// Values that meet every constraint, all zero where nothing is negative, after dropping what contradicts the rest.
    ///
    /// Negative constraints come in one after the other, so that of a contradiction the reading that is furthest out
    /// is dropped; each lowers only the values that it must (Cotton and Maler 2006, fast difference logic).
    fn settle(&mut self, owners: &[u32]) -> (Vec<i64>, Vec<Contradiction>) {
        let mut negative: Vec<(Constraint, u32)> = Vec::new();
        for (edge, number) in self.edges.iter_mut().zip(0..) {
            let own = &self.constraints[edge.at as usize..edge.end as usize];
            let count = own.partition_point(|constraint| constraint.most < 0);
            negative.extend(own[..count].iter().map(|constraint| (*constraint, number)));
            edge.at += count as u32;
        }
        negative.sort_unstable_by_key(|(constraint, _)| (Reverse(constraint.most), Reverse(*constraint)));
        let mut values = Values::new(self.first.len() - 1);
        let mut contradictions = Vec::new();
        for (constraint, edge) in negative {
            // Most contradictions are between two clocks that call each other often: no need to look at the others.
            let pair = [constraint.from, constraint.to].map(|node| owners[node as usize]);
            let near = self.lower(&mut values, &constraint, |node| pair.contains(&owners[node as usize]));
            values.settle(false);
            let lowered = near.and_then(|()| self.lower(&mut values, &constraint, |_| true));
            values.settle(lowered.is_ok());
            match lowered {
                Ok(()) => self.edges[edge as usize].at -= 1,
                Err(contradiction) => contradictions.push(contradiction),
            }
        }
        (values.now, contradictions)
    }

    /// Lowers values `within` some nodes until one more constraint is met, nearest first; reaching its own start, it
    /// contradicts.
    fn lower(&self, values: &mut Values, new: &Constraint, within: impl Fn(u32) -> bool) -> Result<(), Contradiction> {
        let by = values.now[new.from as usize].saturating_add(new.most).saturating_sub(values.now[new.to as usize]);
        if by >= 0 {
            return Ok(());
        }
        values.change(new.to, by, NONE);
        while let Some((Reverse(by), node)) = values.next.pop() {
            if by > values.by[node as usize] {
                continue;
            }
            for edge in self.first[node as usize]..self.first[node as usize + 1] {
                let Some(&Constraint { to, most, .. }) = self.tightest(edge) else { continue };
                let slack = most.saturating_add(values.now[node as usize]).saturating_sub(values.now[to as usize]);
                let by = by.saturating_add(slack.max(0));
                if by < values.by[to as usize] && within(to) {
                    values.change(to, by, edge);
                    if to == new.from {
                        let others = self.readings_before(to, values);
                        let dropped = new.exchange.unwrap_or_default();
                        return Err(Contradiction { dropped, others, missing_ns: by.saturating_neg() });
                    }
                }
            }
        }
        Ok(())
    }

    /// The readings that lowered a node, in their order.
    fn readings_before(&self, node: u32, values: &Values) -> Vec<u64> {
        let mut edge = values.cause[node as usize];
        let mut readings = Vec::new();
        while edge != NONE {
            readings.extend(self.tightest(edge).and_then(|constraint| constraint.exchange));
            edge = values.cause[self.edges[edge as usize].from as usize];
        }
        readings.reverse();
        readings
    }

    /// Shortest paths from the zeros, or to them (Dijkstra's method, on lengths that the potential makes positive:
    /// Johnson's). Only sums beyond 292 years could still be negative; taken as 0, they end the search all the same.
    fn distances(&self, zeros: &[u32], potential: &[i64], direction: Direction) -> Vec<Option<i64>> {
        let nodes = self.first.len() - 1;
        let mut reduced = vec![i64::MAX; nodes];
        let mut zero_of = vec![NONE; nodes];
        let mut heap = BinaryHeap::new();
        for &zero in zeros {
            (reduced[zero as usize], zero_of[zero as usize]) = (0, zero);
            heap.push((Reverse(0), zero));
        }
        while let Some((Reverse(length), node)) = heap.pop() {
            if length > reduced[node as usize] {
                continue;
            }
            let (first, list) = match direction {
                Direction::Forwards => (&self.first, None),
                Direction::Backwards => (&self.first_entering, Some(&self.entering)),
            };
            for place in first[node as usize]..first[node as usize + 1] {
                let edge = list.map_or(place, |list| list[place as usize]);
                let Some(constraint) = self.tightest(edge) else { continue };
                let Constraint { from, to, most, .. } = *constraint;
                let next = if direction == Direction::Forwards { to } else { from };
                let step = most.saturating_add(potential[from as usize]).saturating_sub(potential[to as usize]);
                let longer = length.saturating_add(step.max(0));
                if longer < reduced[next as usize] {
                    (reduced[next as usize], zero_of[next as usize]) = (longer, zero_of[node as usize]);
                    heap.push((Reverse(longer), next));
                }
            }
        }
        let length = |node: usize| {
            let zero = zero_of[node];
            let difference = || potential[node].saturating_sub(potential[zero as usize]);
            (zero != NONE).then(|| match direction {
                Direction::Forwards => reduced[node].saturating_add(difference()),
                Direction::Backwards => reduced[node].saturating_sub(difference()),
            })
        };
        (0..nodes).map(length).collect()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn constraint((from, to, most): (u32, u32, i64), exchange: u64) -> Constraint {
        Constraint { from, to, most, exchange: Some(exchange) }
    }

    fn solve(nodes: usize, edges: &[(u32, u32, i64)]) -> Ranges {
        let constraints = edges.iter().zip(1..).map(|(&edge, exchange)| constraint(edge, exchange)).collect();
        // Pairs of nodes belong together.
        let owners: Vec<u32> = (0..nodes as u32).map(|node| node / 2).collect();
        ranges(&owners, constraints, &[0])
    }

    #[test]
    fn bounds_add_up_along_the_shortest_path() {
        let found = solve(4, &[(0, 1, 5), (1, 2, 7), (0, 2, 20), (2, 1, 1), (1, 0, 3)]);
        assert_eq!(found.upper, [Some(0), Some(5), Some(12), None]);
        assert_eq!(found.lower, [Some(0), Some(-3), Some(-4), None]);
        assert!(found.contradictions.is_empty());
    }

    #[test]
    fn a_contradiction_is_named_and_the_next_best_takes_its_place() {
        // 1 is at most 10 above 0, and at least 30: by exchange 3. The next reading that way says at least −2.
        let found = solve(2, &[(0, 1, 10), (1, 0, 2), (1, 0, -30)]);
        assert_eq!(found.contradictions, [Contradiction { dropped: 3, others: vec![1], missing_ns: 20 }]);
        assert_eq!((found.lower[1], found.upper[1]), (Some(-2), Some(10)));
    }

    #[test]
    fn every_contradiction_is_told() {
        let found = solve(3, &[(0, 1, 1), (1, 0, -5), (1, 0, -4), (1, 2, 1), (2, 1, -3), (2, 1, 8)]);
        let dropped: Vec<u64> = found.contradictions.iter().map(|it| it.dropped).collect();
        assert_eq!(dropped, [5, 3, 2]);
        assert_eq!((found.lower[1], found.upper[2]), (None, Some(2)));
    }

    #[test]
    fn absurd_times_come_to_an_end() {
        let far = i64::MAX / 2 + 9;
        let mut edges: Vec<(u32, u32, i64)> = (0..8)
            .flat_map(|node| [(node, node + 1, -far), (node + 1, node, i64::MAX - 1), (node + 1, node, far)])
            .collect();
        edges.extend([(8, 0, i64::MAX), (0, 8, i64::MIN), (3, 1, i64::MIN + 1)]);
        let found = solve(9, &edges);
        assert_eq!((found.upper[0], found.lower[0]), (Some(0), Some(0)));
    }

    /// Shortest paths between all nodes; `None` where a circle is negative.
    fn floyd_and_warshall(nodes: usize, edges: &[(u32, u32, i64)]) -> Option<Vec<Vec<Option<i64>>>> {
        let mut length = vec![vec![None; nodes]; nodes];
        (0..nodes).for_each(|node| length[node][node] = Some(0));
        for &(from, to, most) in edges {
            let old = &mut length[from as usize][to as usize];
            *old = Some(old.map_or(most, |old: i64| old.min(most)));
        }
        for via in 0..nodes {
            for from in 0..nodes {
                for to in 0..nodes {
                    if let (Some(first), Some(second)) = (length[from][via], length[via][to]) {
                        let old = &mut length[from][to];
                        *old = Some(old.map_or(first + second, |old| old.min(first + second)));
                    }
                }
            }
        }
        (0..nodes).all(|node| length[node][node] == Some(0)).then_some(length)
    }

    proptest! {
        #[test]
        fn the_bounds_are_those_of_floyd_and_warshall(
            edges in proptest::collection::vec((0u32..9, 0u32..9, -12i64..60), 0..40)
        ) {
            let edges: Vec<_> = edges.into_iter().filter(|(from, to, _)| from != to).collect();
            let found = solve(9, &edges);
            // The oracle is told to leave out what was dropped: then nothing may contradict, and all bounds agree.
            let dropped: Vec<u64> = found.contradictions.iter().map(|it| it.dropped).collect();
            let kept = edges.iter().zip(1u64..).filter(|(_, id)| !dropped.contains(id)).map(|(edge, _)| *edge);
            let kept: Vec<_> = kept.collect();
            let oracle = floyd_and_warshall(9, &kept);
            prop_assert!(oracle.is_some(), "{dropped:?} are not enough");
            let oracle = oracle.unwrap();
            prop_assert_eq!(&found.upper, &oracle[0]);
            let lower: Vec<_> = oracle.iter().map(|to| to[0].map(|most| -most)).collect();
            prop_assert_eq!(&found.lower, &lower);
            // And nothing is dropped where nothing contradicts.
            prop_assert_eq!(floyd_and_warshall(9, &edges).is_some(), dropped.is_empty());
            for told in &found.contradictions {
                let most = |exchange: u64| edges[exchange as usize - 1].2;
                let sum: i64 = told.others.iter().map(|&other| most(other)).sum::<i64>() + most(told.dropped);
                prop_assert_eq!(-sum, told.missing_ns);
                prop_assert!(told.missing_ns > 0);
            }
        }
    }
}
