//! The two passes of `fix` over its input: heads first, then, the clocks known, every span once more; and what goes on
//! between them, span by span.

mod place;
mod read;
mod write;

pub use place::{Placed, count_straddling, habits, placed};
pub use read::{FileRead, Reading, read};
pub use write::{Outputs, Written, write};

use rayon::prelude::*;

use crate::io::{Record, RecordProblem, Records};

/// So many bytes are worked on at once: few enough that the same memory comes round again. From `benches/fix_cpu.rs`: with
/// 4 MiB a table's rows cost a twentieth more, and with 32 MiB new pages cost more than a scan.
const BATCH_BYTES: usize = 1 << 20;

/// Long records come in larger batches, up to this, so that each thread has two.
const MOST_BYTES: usize = 16 << 20;

/// Maps records in parallel and folds what comes of them in order.
fn map_in_order<T: Send>(
    records: &mut Records,
    map: impl Fn(Record) -> T + Sync,
    mut fold: impl FnMut(Result<T, RecordProblem>) -> anyhow::Result<()>,
) -> anyhow::Result<()> {
    let enough = 2 * rayon::current_num_threads();
    loop {
        let (mut batch, mut bytes) = (Vec::new(), 0);
        while bytes < BATCH_BYTES || (batch.len() < enough && bytes < MOST_BYTES) {
            let Some(record) = records.next() else { break };
            bytes += record.as_ref().map_or(0, |record| record.bytes.len());
            batch.push(record);
        }
        if batch.is_empty() {
            return Ok(());
        }
        let mapped: Vec<_> = batch.into_par_iter().map(|record| record.map(&map)).collect();
        mapped.into_iter().try_for_each(&mut fold)?;
    }
}
