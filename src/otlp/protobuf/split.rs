//! One request → several that are no longer than somebody takes, with their resources and scopes.
//!
//! Traces, metrics and logs alike: field 1 holds what belongs to a resource, in it field 2 what belongs to a scope, and in
//! that field 2 the items. What is beside them (the resource, the scope, a schema URL, what we do not know) goes into each part.

use std::ops::Range;

use prost::encoding::{encode_varint, encoded_len_varint};

use super::keys;
use super::wire::{Broken, Fields};
use crate::otlp::payload::Malformed;

/// Parts of at most so many bytes, in order, together what the request was; and how many items are in none, as they are
/// longer by themselves, with their resource, or their resource and scope take more than half of a part.
///
/// # Errors
/// Where the bytes are not such a request.
pub fn split(bytes: &[u8], most: usize) -> Result<(Vec<Vec<u8>>, u64), Malformed> {
    let mut parts = Parts { most, done: Vec::new(), open: Vec::new(), over: 0 };
    let top = Message::read(bytes, 0..bytes.len(), 1)?;
    for resource in &top.inner {
        parts.add_resource(bytes, resource.clone(), &top.beside)?;
    }
    parts.close();
    Ok((parts.done, parts.over))
}

/// A message's repeated field, and all else in it.
struct Message {
    /// Contents of the repeated field.
    inner: Vec<Range<usize>>,
    /// What is beside, tags included.
    beside: Vec<u8>,
}

impl Message {
    fn read(bytes: &[u8], at: Range<usize>, repeated: u32) -> Result<Self, Broken> {
        let (mut inner, mut beside) = (Vec::new(), Vec::new());
        let mut begins = at.start;
        let mut fields = Fields::new(bytes, at);
        while let Some(key) = fields.key()? {
            if key == keys::delimited(repeated) {
                inner.push(fields.message()?.1);
            } else {
                fields.pass_over(key, &[keys::delimited(repeated)])?;
                beside.extend_from_slice(&bytes[begins..fields.position()]);
            }
            begins = fields.position();
        }
        Ok(Self { inner, beside })
    }
}

struct Parts {
    most: usize,
    done: Vec<Vec<u8>>,
    open: Vec<u8>,
    /// Items that are in no part.
    over: u64,
}

impl Parts {
    fn close(&mut self) {
        if !self.open.is_empty() {
            self.done.push(std::mem::take(&mut self.open));
        }
    }

    fn has_room(&self, content: usize) -> bool {
        self.open.len() + delimited(content) <= self.most
    }

    fn add_resource(&mut self, bytes: &[u8], at: Range<usize>, beside_all: &[u8]) -> Result<(), Broken> {
        if self.open.is_empty() {
            self.open.extend_from_slice(beside_all);
        }
        if self.has_room(at.len()) {
            put(1, &bytes[at], &mut self.open);
            return Ok(());
        }
        let resource = Message::read(bytes, at, 2)?;
        for scope in &resource.inner {
            let scope = Message::read(bytes, scope.clone(), 2)?;
            let around = resource.beside.len() + scope.beside.len() + beside_all.len();
            // Or each part would be mostly what all have in common, and together they would be many times the request.
            if around > self.most / 2 {
                self.over += scope.inner.len() as u64;
                continue;
            }
            self.add_items(bytes, (&resource.beside, &scope.beside), &scope.inner, beside_all);
        }
        Ok(())
    }

    fn add_items(
        &mut self,
        bytes: &[u8],
        (of_resource, of_scope): (&[u8], &[u8]),
        mut items: &[Range<usize>],
        beside_all: &[u8],
    ) {
        while !items.is_empty() {
            if self.open.is_empty() {
                self.open.extend_from_slice(beside_all);
            }
            let (mut length, mut fit) = (of_scope.len(), 0);
            for item in items {
                length += delimited(item.len());
                if !self.has_room(of_resource.len() + delimited(length)) {
                    break;
                }
                fit += 1;
            }
            if fit == 0 && self.open.len() > beside_all.len() {
                self.close();
                continue;
            }
            let (now, later) = items.split_at(fit.max(1));
            if fit == 0 {
                self.over += 1;
            } else {
                self.put_items(bytes, (of_resource, of_scope), now);
            }
            items = later;
        }
    }

    fn put_items(&mut self, bytes: &[u8], (of_resource, of_scope): (&[u8], &[u8]), items: &[Range<usize>]) {
        let mut scope = of_scope.to_vec();
        items.iter().for_each(|item| put(2, &bytes[item.clone()], &mut scope));
        let mut resource = of_resource.to_vec();
        put(2, &scope, &mut resource);
        put(1, &resource, &mut self.open);
    }
}

/// The length of a field with so long a content.
fn delimited(content: usize) -> usize {
    1 + encoded_len_varint(content as u64) + content
}

fn put(field: u8, content: &[u8], out: &mut Vec<u8>) {
    out.push(field << 3 | 2);
    encode_varint(content.len() as u64, out);
    out.extend_from_slice(content);
}

#[cfg(test)]
mod tests {
    use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
    use opentelemetry_proto::tonic::resource::v1::Resource;
    use opentelemetry_proto::tonic::trace::v1::{ResourceSpans, ScopeSpans, Span};
    use proptest::prelude::*;
    use prost::Message as _;

    use super::*;

    fn request(shape: &[Vec<Vec<usize>>]) -> Vec<u8> {
        let span = |length: &usize| Span { name: "n".repeat(*length), ..Span::default() };
        let scope = |spans: &Vec<usize>| ScopeSpans {
            spans: spans.iter().map(span).collect(),
            schema_url: "scope".into(),
            ..ScopeSpans::default()
        };
        let resource = |scopes: &Vec<Vec<usize>>| ResourceSpans {
            resource: Some(Resource { dropped_attributes_count: 7, ..Resource::default() }),
            scope_spans: scopes.iter().map(scope).collect(),
            schema_url: "resource".into(),
        };
        ExportTraceServiceRequest { resource_spans: shape.iter().map(resource).collect() }.encode_to_vec()
    }

    /// Each span with what it hangs on.
    fn spans(bytes: &[u8]) -> Vec<(u32, String, String, usize)> {
        let request = ExportTraceServiceRequest::decode(bytes).unwrap();
        let mut spans = Vec::new();
        for resource in request.resource_spans {
            for scope in resource.scope_spans {
                for span in scope.spans {
                    let dropped = resource.resource.as_ref().unwrap().dropped_attributes_count;
                    spans.push((dropped, resource.schema_url.clone(), scope.schema_url.clone(), span.name.len()));
                }
            }
        }
        spans
    }

    proptest! {
        #[test]
        fn parts_are_short_and_together_what_the_request_was(
            shape in prop::collection::vec(prop::collection::vec(prop::collection::vec(0usize..300, 1..6), 1..4), 1..4),
            most in 60usize..900,
        ) {
            let whole = request(&shape);
            let (parts, over) = split(&whole, most).unwrap();
            let joined: Vec<_> = parts.iter().flat_map(|part| spans(part)).collect();
            // Names are all that is long; what is around is 40 bytes at the most.
            let fitting = |span: &(u32, String, String, usize)| span.3 + 48 <= most;
            let (fit, too_long): (Vec<_>, Vec<_>) = spans(&whole).into_iter().partition(fitting);
            let sent: Vec<_> = joined.iter().filter(|span| fitting(span)).cloned().collect();
            prop_assert!(most < 100 || sent == fit);
            prop_assert_eq!(joined.len() as u64 + over, (fit.len() + too_long.len()) as u64);
            prop_assert!(parts.iter().all(|part| part.len() <= most));
        }
    }

    #[test]
    fn what_fits_is_one_part_and_as_it_was() {
        let whole = request(&[vec![vec![5, 5]], vec![vec![9]]]);
        assert_eq!(split(&whole, whole.len()).unwrap(), (vec![whole.clone()], 0));
        assert!(split(&whole, whole.len() - 1).unwrap().0.len() > 1);
    }
}
