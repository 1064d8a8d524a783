//! The marks that we leave on what we moved (DESIGN.md, "Marks"): what they are, and finding those of an earlier run.

use crate::span::{AttributeValue, Marks};

/// The event attribute that says where the event was, where its span's offset does not.
pub(super) const EVENT_MARK: &str = "unskew.original_time_unix_nano";

/// What would be taken off a span that is not moved. Named apart, so that nothing takes the span for one that was.
const ESTIMATE: &str = "unskew.estimated_offset_ns";

#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum MarkValue<'a> {
    Text(&'a str),
    Int(i64),
}

/// The span attributes that say what was moved, by how much, how sure, and why.
pub(super) fn mark_attributes(marks: &Marks) -> impl Iterator<Item = (&'static str, MarkValue<'_>)> {
    use MarkValue::{Int, Text};
    let offset = if marks.is_estimate { ESTIMATE } else { "unskew.offset_ns" };
    [
        Some(("unskew.clock", Text(&marks.clock))),
        Some((offset, Int(marks.offset_ns))),
        marks.nudge_ns.map(|nanos| ("unskew.nudge_ns", Int(nanos))),
        marks.uncertainty_ns.map(|nanos| ("unskew.uncertainty_ns", Int(nanos))),
        (!marks.is_estimate).then_some(("unskew.correction", Text(&marks.correction))),
        marks.original_start_unix_nano.map(|nanos| ("unskew.original_start_unix_nano", Int(nanos))),
        marks.original_end_unix_nano.map(|nanos| ("unskew.original_end_unix_nano", Int(nanos))),
    ]
    .into_iter()
    .flatten()
}

/// Collects the marks of an earlier run from a span's attributes. Hardly a span has any.
#[derive(Default)]
pub(super) struct MarksFound {
    marks: Option<Box<Marks>>,
    corrected: bool,
    annotated: bool,
}

impl MarksFound {
    pub(super) fn learn(&mut self, key: &[u8], value: AttributeValue<'_>) {
        let Some(name) = key.strip_prefix(b"unskew.") else { return };
        let marks = self.marks.get_or_insert_default();
        match (name, value) {
            (b"clock", AttributeValue::Str(text)) => marks.clock = String::from_utf8_lossy(text).into(),
            (b"offset_ns", AttributeValue::Int(nanos)) => {
                marks.offset_ns = nanos;
                self.corrected = true;
            }
            (b"estimated_offset_ns", AttributeValue::Int(_)) => self.annotated = true,
            (b"nudge_ns", AttributeValue::Int(nanos)) => marks.nudge_ns = Some(nanos),
            (b"uncertainty_ns", AttributeValue::Int(nanos)) => marks.uncertainty_ns = Some(nanos),
            (b"correction", AttributeValue::Str(text)) => {
                marks.correction = String::from_utf8_lossy(text).into_owned().into();
                self.corrected = true;
            }
            (b"original_start_unix_nano", AttributeValue::Int(nanos)) => marks.original_start_unix_nano = Some(nanos),
            (b"original_end_unix_nano", AttributeValue::Int(nanos)) => marks.original_end_unix_nano = Some(nanos),
            _ => {}
        }
    }

    /// Those of a span that was moved, and whether one was annotated.
    #[inline]
    pub(super) fn finish(self) -> (Option<Box<Marks>>, bool) {
        (self.marks.filter(|_| self.corrected), self.annotated)
    }
}
