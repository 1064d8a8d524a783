//! Causal order: what cause before effect asks of the times of a parent and its child on two clocks.

/// What a span and its parent must be to each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    /// On one clock: the child goes along.
    Along,
    /// The child starts no earlier than its parent.
    After,
    /// The child ends no earlier than its parent starts: it may have polled for a message long before.
    EndsAfter,
    /// The parent waited: the child lies within it.
    Within,
}

/// Start and end of a span, ns since the Unix epoch, by whatever clock is meant.
pub type Times = (i64, i64);

/// A parent and its child on two clocks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pair {
    /// Indices into the spans.
    pub parent: u32,
    pub child: u32,
    pub order: Order,
    /// Less out of order than this is rounding, or within what a start was floored by, ns.
    pub tolerance_ns: i64,
}

/// How far a child is out of order with its parent, ns; 0 where it is not, by more than the pair's tolerance.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Disorder {
    /// Its parent starts so long after what it caused.
    pub early_ns: i64,
    /// It ends so long after a parent that waited for it.
    pub late_ns: i64,
}

impl Disorder {
    /// Early, late or both.
    pub fn is_any(self) -> bool {
        self != Self::default()
    }

    /// The larger of both, ns.
    pub fn worst_ns(self) -> i64 {
        self.early_ns.max(self.late_ns)
    }
}

/// Rounding of times, ns: formats that keep microseconds.
pub const ROUNDING_NS: i64 = 1_000;

impl Pair {
    /// `quanta_ns`: what the two starts were floored to, 1 when exact.
    pub fn new(parent: u32, child: u32, order: Order, quanta_ns: [u32; 2]) -> Self {
        let [one, other] = quanta_ns.map(i64::from);
        Self { parent, child, order, tolerance_ns: ROUNDING_NS + one.max(other) }
    }

    /// How far out of order the two are at these times.
    pub fn disorder(&self, parent: Times, child: Times) -> Disorder {
        let early = match self.order {
            Order::Along => i64::MIN,
            Order::After | Order::Within => parent.0.saturating_sub(child.0),
            Order::EndsAfter => parent.0.saturating_sub(child.1),
        };
        // A span that ends before it starts is over when it starts: that is how it is written.
        let end = |times: Times| times.0.max(times.1);
        let late = if self.order == Order::Within { end(child).saturating_sub(end(parent)) } else { i64::MIN };
        let beyond = |nanos: i64| if nanos > self.tolerance_ns { nanos } else { 0 };
        Disorder { early_ns: beyond(early), late_ns: beyond(late) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A parent from 0 to 100 µs, times in µs.
    fn check(order: Order, quantum_us: u32, child: (i64, i64), (early, late): (i64, i64)) {
        let pair = Pair::new(0, 1, order, [1, quantum_us * 1_000]);
        let found = pair.disorder((0, 100_000), (child.0 * 1_000, child.1 * 1_000));
        assert_eq!(found, Disorder { early_ns: early * 1_000, late_ns: late * 1_000 }, "{order:?} {child:?}");
    }

    #[test]
    fn a_child_before_its_cause_is_early_and_one_that_outlasts_who_waited_is_late() {
        for order in [Order::After, Order::Within] {
            check(order, 0, (10, 90), (0, 0));
            check(order, 0, (-10, 90), (10, 0));
        }
        check(Order::Within, 0, (10, 110), (0, 10));
        check(Order::Within, 0, (-10, 110), (10, 10));
        check(Order::After, 0, (10, 110), (0, 0));
    }

    #[test]
    fn a_receive_span_may_poll_before_the_publish_and_ends_behind_it() {
        check(Order::EndsAfter, 0, (-500, 10), (0, 0));
        check(Order::EndsAfter, 0, (-500, -10), (10, 0));
    }

    #[test]
    fn rounding_and_flooring_are_no_disorder() {
        check(Order::Within, 0, (-1, 101), (0, 0));
        check(Order::Within, 1_000, (-900, 1_000), (0, 0));
        check(Order::Within, 1_000, (-1_100, 1_200), (1_100, 1_100));
    }

    #[test]
    fn an_end_before_its_start_counts_as_the_start() {
        check(Order::Within, 0, (110, 20), (0, 10));
        check(Order::EndsAfter, 0, (-10, -20), (20, 0));
    }
}
