//! Bytes in flight: how much of all requests is held at once, so that memory is bounded whoever sends.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// What all requests together may hold.
#[derive(Debug, Default)]
pub struct Budget {
    held: AtomicUsize,
    most: AtomicUsize,
}

/// What one request holds; given back when it is dropped.
#[derive(Debug)]
pub struct Claim {
    budget: Arc<Budget>,
    own: AtomicUsize,
}

/// Others hold so much that there is no room.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Full;

impl Budget {
    pub fn of(most: usize) -> Arc<Self> {
        Arc::new(Self { held: AtomicUsize::new(0), most: AtomicUsize::new(most) })
    }

    /// Holds from the next claim on.
    pub fn limit(&self, most: usize) {
        self.most.store(most, Ordering::Relaxed);
    }

    /// Bytes that are held.
    pub fn held(&self) -> usize {
        self.held.load(Ordering::Relaxed)
    }

    pub fn claim(self: &Arc<Self>) -> Arc<Claim> {
        Arc::new(Claim { budget: Arc::clone(self), own: AtomicUsize::new(0) })
    }
}

impl Claim {
    /// Claims so many bytes in all, if it does not hold them yet. A request that nobody else is in the way of may be larger
    /// than the budget, or it could never pass.
    ///
    /// # Errors
    /// Where others leave no room for more.
    pub fn hold(&self, bytes: usize) -> Result<(), Full> {
        let own = self.own.load(Ordering::Relaxed);
        self.more(bytes.saturating_sub(own))
    }

    /// Claims so many bytes more.
    ///
    /// # Errors
    /// As [`Claim::hold`].
    pub fn more(&self, bytes: usize) -> Result<(), Full> {
        let (own, most) = (self.own.load(Ordering::Relaxed), self.budget.most.load(Ordering::Relaxed));
        let grown = |held: usize| Some(held + bytes).filter(|sum| *sum <= most || held == own);
        match self.budget.held.fetch_update(Ordering::Relaxed, Ordering::Relaxed, grown) {
            Ok(_) => {
                self.own.fetch_add(bytes, Ordering::Relaxed);
                Ok(())
            }
            Err(_) => Err(Full),
        }
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        self.budget.held.fetch_sub(*self.own.get_mut(), Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_held_is_bounded_but_for_one_alone() {
        let budget = Budget::of(10);
        let (one, other) = (budget.claim(), budget.claim());
        assert_eq!([one.more(6), other.more(5), other.more(4), other.more(1)], [Ok(()), Err(Full), Ok(()), Err(Full)]);
        drop(other);
        // Nobody else is in its way.
        assert_eq!((one.hold(30), budget.held()), (Ok(()), 30));
        assert_eq!(budget.claim().more(1), Err(Full));
        drop(one);
        assert_eq!(budget.held(), 0);
    }
}
