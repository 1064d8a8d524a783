//! From a record down to its spans, for whoever gathers them. What a key gave is forgotten when it comes again.

use super::check_utf8;
use super::cursor::{Broken, Cursor, broken};
use super::words::{Word, replaces};
use crate::otlp::Malformed;

/// How far what was gathered had come.
#[derive(Clone, Copy, Default)]
pub(super) struct Filled {
    pub(super) resources: usize,
    pub(super) spans: usize,
    pub(super) events: usize,
    pub(super) links: usize,
}

/// What is filled by a walk. Each part takes its value off the cursor, be it `null`; what was opened last holds it.
pub(super) trait Gather<'a> {
    fn filled(&self) -> Filled;
    /// Takes back what came since.
    fn forget(&mut self, back_to: Filled);
    fn open_resource_spans(&mut self);
    fn resource(&mut self, cursor: &mut Cursor<'a>) -> Result<(), Broken>;
    fn open_scope_spans(&mut self);
    fn scope(&mut self, cursor: &mut Cursor<'a>) -> Result<(), Broken>;
    fn span(&mut self, cursor: &mut Cursor<'a>) -> Result<(), Broken>;
}

/// Goes through one `ExportTraceServiceRequest` or `TracesData`. Says whether it is foreign: an object with keys, but no
/// signal's among them, or a `ResourceSpans` has others where its scopes should be, and there is no span.
pub(super) fn walk<'a>(bytes: &'a [u8], into: &mut impl Gather<'a>) -> Result<bool, Malformed> {
    check_utf8(bytes)?;
    let mut cursor = Cursor::new(bytes, 0);
    let (mut has_keys, mut has_signal, mut is_odd) = (false, false, false);
    let record = cursor.object(|cursor, key| {
        let key = Word::of(key);
        has_keys = true;
        has_signal |= matches!(key, Word::ResourceSpans | Word::OtherSignal);
        match key {
            Word::ResourceSpans => {
                into.forget(Filled::default());
                let each = |cursor: &mut Cursor<'a>| resource_spans(cursor, into).map(|odd| is_odd |= odd);
                cursor.array(each).map(drop)
            }
            _ => cursor.skip(),
        }
    })?;
    if record.is_none() {
        return Err(*broken(0, "expected an object"));
    }
    cursor.finish()?;
    Ok(has_keys && (!has_signal || is_odd && into.filled().spans == 0))
}

/// Whether it has keys that nothing is known of, and no scopes.
fn resource_spans<'a>(cursor: &mut Cursor<'a>, into: &mut impl Gather<'a>) -> Result<bool, Broken> {
    let without = into.filled();
    into.open_resource_spans();
    let empty = into.filled();
    let (mut has_modern, mut has_scopes, mut has_others) = (false, false, false);
    let found = cursor.object(|cursor, key| match Word::of(key) {
        Word::Resource => into.resource(cursor),
        key @ (Word::ScopeSpans | Word::LibrarySpans) => {
            has_scopes = true;
            let nothing = cursor.nothing()?;
            let replaces = replaces(key, nothing, &mut has_modern);
            if replaces {
                into.forget(empty);
            }
            match (nothing, replaces) {
                (true, _) => Ok(()),
                (false, false) => cursor.skip(),
                (false, true) => cursor.array(|cursor| scope_spans(cursor, into)).map(drop),
            }
        }
        key => {
            has_others |= key != Word::SchemaUrl;
            cursor.skip()
        }
    })?;
    if found.is_none() {
        into.forget(without);
    }
    Ok(has_others && !has_scopes)
}

fn scope_spans<'a>(cursor: &mut Cursor<'a>, into: &mut impl Gather<'a>) -> Result<(), Broken> {
    into.open_scope_spans();
    let empty = into.filled();
    cursor
        .object(|cursor, key| match Word::of(key) {
            Word::Scope => into.scope(cursor),
            Word::Spans => {
                into.forget(empty);
                cursor.array(|cursor| into.span(cursor)).map(drop)
            }
            _ => cursor.skip(),
        })
        .map(drop)
}
