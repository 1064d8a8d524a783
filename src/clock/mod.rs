//! The nouns that all stages share. No arithmetic of an estimate lives here.

mod time;

pub use time::{LocalTime, ReferenceTime};
