//! The nouns that all stages share. No estimating is done here.
//!
//! Signs: an *offset* is a clock's reading less the reference clock's reading at the same instant, so positive
//! is ahead and corrected time = reading − offset. A *frequency error* is the slope of the offset: positive gains.

mod exchange;
mod model;
mod onward;
mod order;
mod quantity;
mod time;

pub use exchange::{CallClass, ClockId, Exchange, Link, Use, WITHOUT_CLIENT};
pub use model::{Bound, Clock, ClockMap, ClockModel, ClockState, Knot, Segment, Step, StepKind, Treatment};
pub use onward::Onward;
pub use order::{Disorder, Order, Pair, ROUNDING_NS, Times};
pub(crate) use quantity::Span;
pub use quantity::{ErrorBound, FrequencyError, Offset};
pub use time::{LocalTime, ReferenceTime};
