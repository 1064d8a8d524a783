//! What was found → Parquet tables, a summary, and text for a terminal. Builds bytes and text; writing them is `io`'s.

mod columns;
mod findings;
mod history;
mod keys;
mod kinds;
mod load;
mod skew;
mod summary;
mod table;
mod terminal;
mod traces;
mod verdict;

pub use findings::{
    Finding, LinkCounts, Shown, Tally, of_contradictions, of_edges, of_left, of_oddities, of_one_clock, of_sources,
    of_ticks, of_times,
};
pub use history::{History, Window};
pub use keys::{OnKey, of_alike, of_shared};
pub use kinds::KindRow;
pub use load::{load, load_windows, scan_options};
pub use skew::{ClockRow, Skew, StepRow, clock_rows, exchanges, kind_rows, step_rows, tables};
pub use summary::{FileSummary, Summary, Undecided, problem_lines};
pub use table::{Metadata, SCHEMA_VERSION};
pub use terminal::{Report, render, render_history, worst_first};
pub use traces::{Row, Rows, schema, writer_properties};
pub use verdict::ByTrace;
