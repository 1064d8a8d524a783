//! What the stage makes of the spans of a request, from models that are known: pure, and told when the request came.
//!
//! In come a record as it was received, the published models and its arrival; out go the edits and what became of each
//! span. A span is corrected as it passes, by its own times and its clock's model, whatever else is in its trace.

mod era;
mod find;
mod pass;
mod ramp;
#[cfg(test)]
mod tests;
mod watch;

pub use era::{Era, Limits};
pub use find::{Found, Published};
pub use pass::{Mode, OUTCOMES, Outcome, Passed, Tally, pass};
pub use ramp::{RESETS, Resets, ramped};
pub use watch::{Call, Harm, Watch};
