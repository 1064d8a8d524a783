//! `unskew serve`: a relay of OTLP that corrects spans as they pass.
//!
//! A request is received whole, its times are corrected by the models that are published, it is sent to the next hop, and
//! its sender is told what the next hop said. There is no queue: nothing is acknowledged that somebody else has not taken.
//! All that is known of clocks is in `live`, which asks neither sockets nor clocks.

#![allow(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    reason = "sockets and the time of day are what a stage is for"
)]

mod admin;
mod answer;
mod auth;
mod budget;
mod clocks;
mod compression;
pub mod config;
mod forward;
mod framing;
mod learner;
mod log;
mod metrics;
mod receive;
mod relay;
mod request;
mod serve;
mod tls;
mod windows;
mod workers;

pub use serve::{Served, serve};
