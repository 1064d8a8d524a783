//! What was acknowledged, on disk: requests as they were received, in dumps that `unskew fix` reads.
//!
//! A stretch of time is a segment: `DIR/log/NAME.binpb` (as the Collector's file exporter writes it), `NAME.json` beside it
//! for requests in JSON (one a line), and `DIR/index/NAME.index`, which says of each where it stands, when it came and what its
//! bytes hash to. A request counts when it is whole in both. Requests are synced in groups before they are acknowledged: while
//! one group is synced, the next gathers.

mod entry;
mod recorder;
mod segment;

pub use crate::io::window_number as number;
pub use entry::hash;
pub use recorder::{NotRecorded, Recorder};
pub use segment::{Dumps, Folders};
