//! The clocks of a run, for whoever corrects by them later: who each is, its model, and how a resource finds it.
//!
//! In come what identity and estimator found, out goes one message of `proto/unskew/v1`, and back. Neither files nor
//! clocks are asked.

mod message;

pub use message::{Unreadable, decode, encode, to_message};

use std::collections::BTreeSet;

use crate::clock::{Clock, ClockId, ClockModel, ReferenceTime};
use crate::identity::Finder;

/// What a run knows of clocks.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Models {
    /// Display name of the clock that all others are measured against; `None`: the median of the machines.
    pub reference: Option<String>,
    /// By [`ClockId`].
    pub clocks: Vec<(Clock, ClockModel)>,
    pub finder: Finder,
    /// None in what is known of one dump alone.
    pub learned: Option<Learned>,
}

/// What is kept beside models that were learnt window after window.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Learned {
    /// Each window's is one more than the last.
    pub number: u64,
    /// From when on they hold.
    pub from: ReferenceTime,
    /// Display names of clocks of which the last window alone would have decided otherwise.
    pub doubted: BTreeSet<String>,
    /// The window that they are from.
    pub window: String,
}

impl Models {
    /// A clock and its model.
    ///
    /// # Panics
    /// Where the id is of other models.
    pub fn clock(&self, ClockId(clock): ClockId) -> &(Clock, ClockModel) {
        &self.clocks[clock as usize]
    }
}

/// The file below a run's folder that holds its models.
pub const FILE: &str = "skew/models.binpb";
