//! What was found → Parquet tables, a summary, and text for a terminal. Builds bytes and text; writing them is `io`'s.

mod columns;
mod findings;
mod keys;
mod load;
mod skew;
mod summary;
mod table;
mod terminal;
mod traces;
mod verdict;

pub use findings::{Finding, LinkCounts, Tally, is_inverted, of_contradictions, of_edges, of_oddities, of_times};
pub use keys::{OnKey, of_alike, of_shared};
pub use load::load;
pub use skew::{ClockRow, Skew, clock_rows, exchanges, tables};
pub use summary::{FileSummary, Summary};
pub use table::{Metadata, SCHEMA_VERSION};
pub use terminal::{render, worst_first};
pub use traces::{Row, Rows, schema, writer_properties};
