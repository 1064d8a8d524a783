//! Which ids of a trace are above which.
//!
//! In comes each id's parent, out go nested intervals: an id's holds those of all ids below it, as in the nested-set model
//! of trees. Following parents up from every span would take a trace's depth each time, and its depth squared in all.

use std::ops::Range;

/// Ids by their places.
pub(super) struct Ancestry {
    intervals: Vec<Range<usize>>,
}

impl Ancestry {
    /// Each id's parent → its interval. Leaves are taken off one after the other (Kahn's topological order); what is never
    /// one is part of a cycle, whose ids share an interval, as each is above all others.
    pub(super) fn of(parents: &[Option<usize>]) -> Self {
        let mut children = vec![0; parents.len()];
        parents.iter().flatten().for_each(|&parent| children[parent] += 1);
        let mut upwards: Vec<usize> = (0..parents.len()).filter(|&id| children[id] == 0).collect();
        let mut sizes = vec![1; parents.len()];
        let mut done = 0;
        while let Some(&id) = upwards.get(done) {
            done += 1;
            if let Some(parent) = parents[id] {
                sizes[parent] += sizes[id];
                children[parent] -= 1;
                if children[parent] == 0 {
                    upwards.push(parent);
                }
            }
        }

        let mut intervals = vec![0..0; parents.len()];
        // Where what is below an id goes next.
        let mut free = vec![0; parents.len()];
        let mut end = 0;
        for first in (0..parents.len()).filter(|&id| children[id] > 0) {
            if intervals[first].is_empty() {
                let around = std::iter::successors(parents[first], |&id| parents[id].filter(|_| id != first));
                let ring: Vec<usize> = around.collect();
                let start = end;
                for &id in &ring {
                    free[id] = end + 1;
                    end += sizes[id];
                }
                ring.into_iter().for_each(|id| intervals[id] = start..end);
            }
        }
        for id in upwards.into_iter().rev() {
            let start = parents[id].map_or(&mut end, |parent| &mut free[parent]);
            intervals[id] = *start..*start + sizes[id];
            *start = intervals[id].end;
            free[id] = intervals[id].start + 1;
        }
        Self { intervals }
    }

    /// Whether parents lead from `below` to `above`, if only as it is the same.
    pub(super) fn leads(&self, below: usize, above: usize) -> bool {
        self.intervals[above].contains(&self.intervals[below].start)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// Any parents, cycles and all, beside following them one by one.
        #[test]
        fn parents_lead_where_following_them_ends_up(
            parents in prop::collection::vec(prop::option::weighted(0.9, any::<prop::sample::Index>()), 1..12),
        ) {
            let parents: Vec<Option<usize>> =
                parents.iter().map(|parent| parent.map(|parent| parent.index(parents.len()))).collect();
            let ancestry = Ancestry::of(&parents);
            for (below, above) in (0..parents.len()).flat_map(|id| (0..parents.len()).map(move |other| (id, other))) {
                let mut upwards = std::iter::successors(Some(below), |&id| parents[id]).take(parents.len());
                let found = ancestry.leads(below, above);
                prop_assert_eq!(found, upwards.any(|id| id == above), "{} to {}, {:?}", below, above, &parents);
            }
        }
    }
}
