//! Of a record that protobuf has no words for as a whole, the spans that it has words for.
//!
//! Slow, and hardly ever asked: each span is decoded by itself.

use serde_json::Value;

use super::decode;
use crate::otlp::Counted;

/// The record without the spans that cannot be told as protobuf, and these: how many, and what is wrong with the first.
/// `None`: it is not a record at all.
pub fn that_can_be_told(bytes: &[u8]) -> Option<(Vec<u8>, Counted)> {
    let mut record: Value = serde_json::from_slice(bytes).ok()?;
    let mut rejected = Counted::default();
    let mut work = 0;
    let resources = list(&mut record, ["resourceSpans", "resource_spans"])?;
    for resource in resources.iter_mut() {
        let around = without(resource, "scopeSpans", "scope_spans");
        let length = Value::Object(around.clone()).to_string().len();
        let Some(scopes) = list(resource, ["scopeSpans", "scope_spans"]) else { continue };
        for scope in scopes.iter_mut() {
            let within = without(scope, "spans", "spans");
            let length = length + Value::Object(within.clone()).to_string().len();
            let Some(spans) = list(scope, ["spans", "spans"]) else { continue };
            work += spans.len() * length;
            if work > MOST_WORK {
                return None;
            }
            spans.retain(|span| {
                let mut scope = within.clone();
                scope.insert("spans".to_owned(), Value::Array(vec![span.clone()]));
                let mut resource = around.clone();
                resource.insert("scopeSpans".to_owned(), Value::Array(vec![Value::Object(scope)]));
                let alone = serde_json::json!({ "resourceSpans": [resource] }).to_string();
                let wrong = decode(alone.as_bytes()).err();
                if let Some(wrong) = &wrong {
                    rejected.add(|| format!("a span cannot be told as protobuf: {}", field(span, &alone, wrong.at)));
                }
                wrong.is_none()
            });
        }
        // What is left around no span may itself be what was wrong.
        scopes.retain_mut(|scope| list(scope, ["spans", "spans"]).is_none_or(|spans| !spans.is_empty()));
    }
    resources
        .retain_mut(|resource| list(resource, ["scopeSpans", "scope_spans"]).is_none_or(|scopes| !scopes.is_empty()));
    (rejected.count > 0).then(|| (record.to_string().into_bytes(), rejected))
}

/// What is around each span is decoded with it; so many bytes of that are a second's work.
const MOST_WORK: usize = 64 << 20;

type Object = serde_json::Map<String, Value>;

fn list<'a>(value: &'a mut Value, names: [&str; 2]) -> Option<&'a mut Vec<Value>> {
    let object = value.as_object_mut()?;
    let name = names.into_iter().find(|name| object.contains_key(*name))?;
    object.get_mut(name)?.as_array_mut()
}

fn without(value: &Value, name: &str, other: &str) -> Object {
    let mut object = value.as_object().cloned().unwrap_or_default();
    object.remove(name);
    object.remove(other);
    object
}

/// The field at which decoding stopped, with what it holds.
fn field(span: &Value, alone: &str, at: usize) -> String {
    let before = &alone[..at.min(alone.len())];
    let last = span.as_object().into_iter().flatten().filter_map(|(name, value)| {
        let key = format!("\"{name}\":");
        Some((
            before.rfind(&key).or_else(|| alone[at.min(alone.len())..].starts_with(&key).then_some(at))?,
            name,
            value,
        ))
    });
    match last.max_by_key(|(place, ..)| *place) {
        Some((_, name, value)) => format!("{name} is {value}"),
        None => "its id or resource".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_field_that_cannot_be_told_is_named() {
        let check = |field: &str, expected: &str| {
            let span = |more: &str| format!(r#"{{"spanId":"00000000000000ff","name":"a"{more}}}"#);
            let spans = [span(""), span(&format!(",{field}")), span("")].join(",");
            let text = format!(r#"{{"resourceSpans":[{{"scopeSpans":[{{"spans":[{spans}]}}]}}]}}"#);
            let (kept, rejected) = that_can_be_told(text.as_bytes()).expect("a record");
            let kept = decode(&kept).expect("what is kept can be told");
            assert_eq!(kept.resource_spans[0].scope_spans[0].spans.len(), 2, "{field}");
            assert_eq!((rejected.count, rejected.first.contains(expected)), (1, true), "{}", rejected.first);
        };
        check(r#""parentSpanId":"not hexadecimal""#, "parentSpanId is");
        check(r#""startTimeUnixNano":"yesterday""#, "startTimeUnixNano is \"yesterday\"");
        check(r#""droppedAttributesCount":-1"#, "droppedAttributesCount is -1");
        // A scope that is wrong takes its own spans along, and no others.
        let span = r#"{"spanId":"00000000000000ff"}"#;
        let text = format!(
            r#"{{"resourceSpans":[{{"scopeSpans":[{{"spans":[{span}]}},{{"scope":{{"droppedAttributesCount":-1}},"spans":[{span}]}}]}}]}}"#
        );
        let (kept, rejected) = that_can_be_told(text.as_bytes()).expect("a record");
        let kept = decode(&kept).expect("what is kept can be told");
        assert_eq!((kept.resource_spans[0].scope_spans.len(), rejected.count), (1, 1));
        assert!(that_can_be_told(b"[]").is_none());
        assert!(that_can_be_told(br#"{"resourceSpans":"none"}"#).is_none());
    }
}
