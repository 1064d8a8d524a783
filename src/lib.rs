//! Clock-skew correction for distributed traces.
//!
//! One line of data flow, which `run.rs` spells out:
//!
//! bytes → [`otlp::Payload`] → exchanges → evidence → clock map and findings → corrected payload → bytes, Parquet, report
//!
//! Sign, everywhere: an *offset* is a clock's reading less the reference clock's reading at the same
//! instant. Positive is ahead; corrected time = reading − offset.

#![cfg_attr(not(test), warn(clippy::disallowed_methods, clippy::disallowed_types))]

pub mod apply;
pub mod cli;
pub mod clock;
pub mod correct;
pub mod dump;
pub mod estimate;
pub mod fix;
pub mod identity;
pub mod io;
pub mod learn;
pub mod live;
pub mod models;
pub mod otlp;
pub mod pair;
pub mod proto;
pub mod report;
pub mod run;
pub mod score;
pub mod settings;
pub mod simulate;
pub mod span;
pub mod stage;
