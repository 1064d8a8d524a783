//! What was found → Parquet tables, a summary, and text for a terminal. Builds bytes and text; writing them is `io`'s.

mod findings;
mod skew;
mod summary;
mod table;
mod terminal;
mod traces;
mod verdict;

pub use findings::{Finding, LinkCounts, Tally, is_inverted, of_edges, of_oddities, of_times};
pub use skew::{ClockRow, Skew, clock_rows, exchanges, tables};
pub use summary::{FileSummary, Summary};
pub use table::Metadata;
pub use terminal::render;
pub use traces::{Row, batch, schema, writer_properties};
