//! Files, compression, detection: the only place, beside the stage, that touches the world.
//!
//! Arguments become [`Inputs`]; what a file holds is told by its content ([`detect()`]); [`Records`] reads it
//! one record at a time, and [`RecordWriter`] writes records in the same layout.

#![allow(clippy::disallowed_methods, reason = "asking the world is what this module is for")]

mod detect;
mod folder;
mod inputs;
mod layout;
mod output;
mod records;
mod whole;
mod windows;

pub use detect::{Undetected, detect};
pub use folder::{NotOurs, Stage, check, replaces};
pub use inputs::{Input, InputProblem, Inputs, UsageError, resolve};
pub use layout::{Compression, Framing, Layout};
pub use output::{AtomicFile, RecordWriter, atomic_write};
pub use records::{MAX_RECORD, ProblemKind, Record, RecordProblem, Records};
pub use whole::{files_in, read, read_text, within};
pub use windows::{window_number, windows_in};
