//! What an OTLP receiver owes its senders and its next hop, row by row, against the running program.
//!
//! `UNSKEW_DATA=FOLDER cargo test --release --test stage`: part of it sends the laboratory's traces. The harness is a
//! sender and a next hop that are both ours (`tests/stage/harness`).

mod common;

#[path = "stage/fixed.rs"]
mod fixed;
#[path = "stage/harness/mod.rs"]
mod harness;

#[path = "stage/access.rs"]
mod access;
#[path = "stage/admin.rs"]
mod admin;
#[path = "stage/content.rs"]
mod content;
#[path = "stage/errors.rs"]
mod errors;
#[path = "stage/itself.rs"]
mod itself;
#[path = "stage/knobs.rs"]
mod knobs;
#[path = "stage/lab.rs"]
mod lab;
#[path = "stage/limits.rs"]
mod limits;
#[path = "stage/recording.rs"]
mod recording;
#[path = "stage/relay.rs"]
mod relay;
#[path = "stage/replies.rs"]
mod replies;
