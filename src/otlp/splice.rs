//! Copying bytes with some ranges replaced.

use std::ops::Range;

/// `bytes` in place of `at`; an empty range inserts.
#[derive(Clone, Debug)]
pub(super) struct Splice {
    pub(super) at: Range<usize>,
    pub(super) bytes: Vec<u8>,
}

/// Copies `source` to `out` with the splices made; two insertions at one place keep their order.
pub(super) fn splice(source: &[u8], mut splices: Vec<Splice>, out: &mut Vec<u8>) {
    splices.sort_by_key(|splice| splice.at.start);
    out.reserve(source.len() + splices.iter().map(|splice| splice.bytes.len()).sum::<usize>());
    let mut copied = 0;
    for Splice { at, bytes } in splices {
        out.extend_from_slice(&source[copied..at.start]);
        out.extend_from_slice(&bytes);
        copied = at.end;
    }
    out.extend_from_slice(&source[copied..]);
}
