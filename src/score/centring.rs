//! What viewers do, one trace at a time: Jaeger's rule, for comparison.

use super::read::{Scored, Span, Times};

/// Every span's times after centring, in the order of the spans.
pub(super) fn centred(scored: &Scored) -> Vec<Times> {
    let spans = &scored.spans;
    let mut children: Vec<Vec<usize>> = vec![Vec::new(); spans.len()];
    let mut open = Vec::new();
    for (index, span) in spans.iter().enumerate() {
        match span.parent {
            Some(parent) => children[parent].push(index),
            None => open.push((index, 0)),
        }
    }
    let mut centred: Vec<Times> = spans.iter().map(|span| span.original).collect();
    while let Some((index, inherited_ns)) = open.pop() {
        let shift_ns = match spans[index].parent {
            Some(parent) if spans[parent].clock != spans[index].clock => shift_ns(&spans[index], centred[parent]),
            _ => inherited_ns,
        };
        let Times { start, end } = spans[index].original;
        centred[index] = Times { start: start.saturating_add(shift_ns), end: end.saturating_add(shift_ns) };
        open.extend(children[index].iter().map(|child| (*child, shift_ns)));
    }
    centred
}

/// How far a child on another clock is moved, in ns, to fit a parent that has been moved already.
fn shift_ns(child: &Span, parent: Times) -> i64 {
    let Times { start, end } = child.original;
    let (length, room) = (end.saturating_sub(start), parent.end.saturating_sub(parent.start));
    let earlier = parent.start.saturating_sub(start);
    if length > room {
        earlier.max(0)
    } else if start >= parent.start && end <= parent.end {
        0
    } else {
        earlier.saturating_add((room - length) / 2)
    }
}

#[cfg(test)]
mod tests {
    use super::super::made::{Made, fleet};
    use super::*;

    /// A parent of 0..100 ms; its child on another clock; the child's own child on the child's clock.
    fn check(child: [i64; 2], grandchild: [i64; 2], moved: [[i64; 2]; 2]) {
        let span = |id, parent, host, [from, to]: [i64; 2]| Made { id, parent, host, from, to, ..Made::default() };
        let scored = fleet(&[span(1, 0, "a", [0, 100]), span(2, 1, "b", child), span(3, 2, "b", grandchild)]);
        let centred: Vec<[i64; 2]> =
            centred(&scored).iter().map(|t| [t.start / 1_000_000, t.end / 1_000_000]).collect();
        assert_eq!(centred, [[0, 100], moved[0], moved[1]]);
    }

    #[test]
    fn a_child_inside_its_parent_is_left() {
        check([5, 25], [10, 20], [[5, 25], [10, 20]]);
    }

    #[test]
    fn a_child_outside_is_centred_and_its_subtree_moves_along() {
        check([-50, -30], [-45, -40], [[40, 60], [45, 50]]);
        check([90, 110], [95, 100], [[40, 60], [45, 50]]);
    }

    #[test]
    fn a_child_longer_than_its_parent_only_never_starts_before_it() {
        check([-50, 90], [-40, 0], [[0, 140], [10, 50]]);
        check([20, 150], [30, 40], [[20, 150], [30, 40]]);
    }

    #[test]
    fn a_child_on_a_third_clock_is_fitted_to_the_moved_parent() {
        let span = |id, parent, host, from, to| Made { id, parent, host, from, to, ..Made::default() };
        let scored = fleet(&[span(1, 0, "a", 0, 100), span(2, 1, "b", -50, -30), span(3, 2, "c", 45, 55)]);
        assert_eq!(centred(&scored)[2], scored.spans[2].original);
    }
}
