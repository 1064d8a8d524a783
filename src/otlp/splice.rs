//! Copying bytes with some ranges replaced.

use std::ops::Range;

/// Ranges to replace, and what by; an empty range inserts. One buffer holds all that is new.
#[derive(Clone, Debug, Default)]
pub(super) struct Splices {
    /// Where, and which part of `new` goes there.
    places: Vec<(Range<usize>, Range<usize>)>,
    new: Vec<u8>,
}

impl Splices {
    /// Puts what `write` appends in the place of `at`; gives its length.
    pub(super) fn replace(&mut self, at: Range<usize>, write: impl FnOnce(&mut Vec<u8>)) -> usize {
        let start = self.new.len();
        write(&mut self.new);
        self.places.push((at, start..self.new.len()));
        self.new.len() - start
    }

    /// Copies `source` to `out` with the splices made; two insertions at one place keep their order.
    pub(super) fn splice(mut self, source: &[u8], out: &mut Vec<u8>) {
        self.places.sort_by_key(|(at, _)| at.start);
        out.reserve(source.len() + self.new.len());
        let mut copied = 0;
        for (at, new) in self.places {
            out.extend_from_slice(&source[copied..at.start]);
            out.extend_from_slice(&self.new[new]);
            copied = at.end;
        }
        out.extend_from_slice(&source[copied..]);
    }
}
