//! The decoders alone, and the targets over them. The modules are the program's own files; the crate itself would bring
//! Parquet and its queries, which take ten minutes to instrument and decode nothing here.

extern crate self as unskew;

#[path = "../src/clock/mod.rs"]
pub mod clock;
#[path = "../src/io/mod.rs"]
pub mod io;
#[path = "../src/otlp/mod.rs"]
pub mod otlp;
#[path = "../src/span.rs"]
pub mod span;
pub mod targets;
