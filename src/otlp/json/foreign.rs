//! Format recognition by keys: JSON without a signal of OpenTelemetry's, what it looks like, and how OTLP is made of it.
//! Without it, what a newcomer tries first, a trace as some API gave it, would pass for a dump without spans.
//!
//! In come a record's bytes, out goes text for people. Paths are as jq writes them, so that they can be handed to it.

use super::cursor::{Broken, Cursor};

/// So many objects within each other are looked into: spans in a search result of Elasticsearch's are in the fourth.
const LEVELS: usize = 4;
/// So many keys are looked at: no format has so many before one that tells what it is.
const LOOKED_AT: usize = 256;
/// So many keys are named, and so many letters of a key or a value shown: a line holds them.
const NAMED: usize = 5;
const LETTERS: usize = 60;

const EXPORT: &str = "; export OTLP instead, as the Collector's file exporter writes it";

const RECORD: [&str; 2] = [".resourceSpans", ".resource_spans"];
const RESOURCE_SPANS: [&str; 4] =
    [".scopeSpans", ".scope_spans", ".instrumentationLibrarySpans", ".instrumentation_library_spans"];

/// Keys that stand in one object, and whose they are; the first row that fits counts.
const LOOKS: [(&[&str], &str); 11] = [
    (&[".batches"], "a trace from Tempo's API"),
    (&[".traceID", ".rootServiceName"], "a search result from Tempo's API, without spans"),
    (&[".traceID", ".spans"], "a trace from Jaeger's API"),
    (&[".traceID", ".operationName"], "spans as Jaeger stores them"),
    (&[".traceId", ".id"], "spans from Zipkin's API"),
    (&[".traceId", ".spanId", ".startTimeUnixNano"], "spans without the resource that they are of"),
    (&[".trace_id", ".span_id", ".start_time_unix_nano"], "spans without the resource that they are of"),
    (&[".scope", ".spans"], "spans without the resource that they are of"),
    (&[".context.trace_id"], "spans as an SDK's console exporter prints them"),
    (&[".SpanContext.TraceID"], "spans as an SDK's console exporter prints them"),
    (&[".Segments"], "traces from AWS X-Ray"),
];

/// A key that was found.
struct Found {
    /// How many objects are around that which holds it.
    level: usize,
    path: String,
}

/// What a record is that is not OTLP: its keys, what they look like, and what to do. `None`: it is no object, no array,
/// or not JSON.
pub fn foreign(bytes: &[u8]) -> Option<String> {
    let mut found = Vec::new();
    let mut cursor = Cursor::new(bytes, 0);
    let first = cursor.peek();
    gather(&mut cursor, String::new(), 0, &mut found).ok()?;
    cursor.finish().ok()?;
    if let Some(spans) = RECORD.iter().find(|path| found.iter().any(|key| key.path == **path)) {
        let within = |key: &Found| Some(key.path.strip_prefix(spans)?.strip_prefix("[].")?.to_owned());
        let names: Vec<String> = found.iter().filter(|key| key.level == 1).filter_map(within).collect();
        return Some(format!("resourceSpans without scopeSpans; the first has {}{EXPORT}", named(&names)));
    }
    let names: Vec<String> = found.iter().filter(|key| key.level == 0).map(Found::name).collect();
    let held = match first? {
        b'{' => format!("it has {}", named(&names)),
        b'[' if names.is_empty() => "it is an array that begins with no object".to_owned(),
        b'[' => format!("it is an array of objects with {}", named(&names)),
        _ => return None,
    };
    Some(format!("no resourceSpans; {held}{}", resemblance(&found)))
}

/// The keys of objects and of those within them; of an array, those of its first element.
fn gather(cursor: &mut Cursor<'_>, path: String, level: usize, found: &mut Vec<Found>) -> Result<(), Broken> {
    match cursor.peek() {
        Some(b'{') if level < LEVELS => cursor
            .object(|cursor, key| {
                if found.len() == LOOKED_AT {
                    return cursor.skip();
                }
                let is_plain = (1..=LETTERS).contains(&key.len())
                    && key.iter().all(|byte| byte.is_ascii_alphanumeric() || *byte == b'_');
                if !is_plain {
                    found.push(Found { level, path: format!("{path}.\"{}\"", shown(key)) });
                    return cursor.skip();
                }
                let path = format!("{path}.{}", String::from_utf8_lossy(key));
                found.push(Found { level, path: path.clone() });
                gather(cursor, path, level + 1, found)
            })
            .map(drop),
        Some(b'[') => {
            let mut path = Some(path + "[]");
            let element = |cursor: &mut Cursor<'_>| match path.take() {
                Some(path) => gather(cursor, path, level, found),
                None => cursor.skip(),
            };
            cursor.array(element).map(drop)
        }
        _ => cursor.skip(),
    }
}

impl Found {
    fn name(&self) -> String {
        self.path.trim_start_matches("[]").trim_start_matches('.').to_owned()
    }
}

fn named(names: &[String]) -> String {
    let first = names[..names.len().min(NAMED)].join(", ");
    match names.len() {
        0 => "no keys".to_owned(),
        1 => format!("the key {first}"),
        count if count > NAMED => format!("the keys {first} and more"),
        _ => format!("the keys {first}"),
    }
}

/// What the keys look like, and what to do about it.
fn resemblance(found: &[Found]) -> String {
    let within = |names: &[&str]| {
        let around = |key: &Found| names.iter().find_map(|name| key.path.strip_suffix(name).map(str::to_owned));
        found.iter().find_map(around).map(|path| if path.starts_with('.') { path } else { format!(".{path}") })
    };
    if let Some(path) = within(&RECORD) {
        return format!(": looks like OTLP within `{path}`, not read yet; jq -c '{path}' takes it out");
    }
    if let Some(path) = within(&RESOURCE_SPANS) {
        let what = match path.as_str() {
            "." => "a ResourceSpans on its own".to_owned(),
            ".batches[]" => "a trace from Tempo's API".to_owned(),
            path => format!("ResourceSpans within `{path}`"),
        };
        return format!(": looks like {what}, not read yet; jq -c '{{resourceSpans: [{path}]}}' makes OTLP of it");
    }
    let holds = |path: &str| found.iter().any(|key| key.path == path);
    let fits = |keys: &[&str]| {
        let mut around = found.iter().filter_map(|key| key.path.strip_suffix(keys[0]));
        around.any(|around| keys.iter().all(|key| holds(&format!("{around}{key}"))))
    };
    let what = LOOKS.iter().find(|(keys, _)| fits(keys));
    let what = what.map_or_else(String::new, |(_, what)| format!(": looks like {what}, not read yet"));
    what + EXPORT
}

/// The first letters of a text, on one line and without control characters.
pub(super) fn shown(text: &[u8]) -> String {
    let text = String::from_utf8_lossy(text);
    let mut shown = String::new();
    for word in text.split(|letter: char| letter.is_whitespace() || letter.is_control()).filter(|it| !it.is_empty()) {
        shown.extend((!shown.is_empty()).then_some(' '));
        shown.extend(word.chars().take(LETTERS + 1));
        if let Some((end, _)) = shown.char_indices().nth(LETTERS) {
            shown.truncate(end);
            return shown + "…";
        }
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(record: &str, expected: &str) {
        assert_eq!(foreign(record.as_bytes()).unwrap_or_default(), expected, "{record}");
    }

    #[test]
    fn otlp_that_is_wrapped_says_how_to_take_it_out() {
        for (record, held, looks, jq) in [
            (r#"{"trace":{"resourceSpans":[]}}"#, "has the key trace", "OTLP within `.trace`", "'.trace' takes it out"),
            (
                r#"{"a":1,"traces":[{"resourceSpans":[]},7]}"#,
                "has the keys a, traces",
                "OTLP within `.traces[]`",
                "'.traces[]' takes it out",
            ),
            (
                r#"{"data":{"trace":{"resource_spans":[]}}}"#,
                "has the key data",
                "OTLP within `.data.trace`",
                "'.data.trace' takes it out",
            ),
            (
                r#"[{"resourceSpans":[]}]"#,
                "is an array of objects with the key resourceSpans",
                "OTLP within `.[]`",
                "'.[]' takes it out",
            ),
            (
                r#"{"batches":[{"resource":{},"instrumentationLibrarySpans":[]}]}"#,
                "has the key batches",
                "a trace from Tempo's API",
                "'{resourceSpans: [.batches[]]}' makes OTLP of it",
            ),
            (
                r#"{"resource":{},"scopeSpans":[]}"#,
                "has the keys resource, scopeSpans",
                "a ResourceSpans on its own",
                "'{resourceSpans: [.]}' makes OTLP of it",
            ),
            (
                r#"[{"resource":{},"scope_spans":[]}]"#,
                "is an array of objects with the keys resource, scope_spans",
                "ResourceSpans within `.[]`",
                "'{resourceSpans: [.[]]}' makes OTLP of it",
            ),
        ] {
            let expected = format!("no resourceSpans; it {held}: looks like {looks}, not read yet; jq -c {jq}");
            check(record, &expected);
        }
    }

    #[test]
    fn other_formats_are_known_by_their_keys() {
        for (record, held, looks) in [
            (r#"{"batches":[]}"#, "has the key batches", "a trace from Tempo's API"),
            (
                r#"{"traces":[{"traceID":"1","rootServiceName":"a"}],"metrics":{}}"#,
                "has the keys traces, metrics",
                "a search result from Tempo's API, without spans",
            ),
            (
                r#"{"data":[{"traceID":"1","spans":[{"traceID":"1"}]}],"total":0}"#,
                "has the keys data, total",
                "a trace from Jaeger's API",
            ),
            (
                r#"{"traceID":"1","operationName":"a"}"#,
                "has the keys traceID, operationName",
                "spans as Jaeger stores them",
            ),
            (
                r#"{"took":1,"hits":{"hits":[{"_source":{"traceID":"1","operationName":"a"}}]}}"#,
                "has the keys took, hits",
                "spans as Jaeger stores them",
            ),
            (
                r#"[[{"traceId":"1","id":"2"}]]"#,
                "is an array of objects with the keys traceId, id",
                "spans from Zipkin's API",
            ),
            (
                r#"{"name":"a","context":{"trace_id":"0x1"}}"#,
                "has the keys name, context",
                "spans as an SDK's console exporter prints them",
            ),
        ] {
            check(record, &format!("no resourceSpans; it {held}: looks like {looks}, not read yet{EXPORT}"));
        }
    }

    #[test]
    fn resource_spans_without_scopes_name_what_they_have() {
        let told = |keys: &str| format!("resourceSpans without scopeSpans; the first has {keys}{EXPORT}");
        check(r#"{"resourceSpans":[{"resource":{"a":1},"spans":[{}]}],"b":1}"#, &told("the keys resource, spans"));
        check(r#"{"resource_spans":[{"x.y":1}]}"#, &told("the key \"x.y\""));
        check(r#"{"resourceSpans":[{},{"spans":[{}]}]}"#, &told("no keys"));
    }

    #[test]
    fn keys_that_say_nothing_are_named() {
        // A log's line belongs to a span, and is none.
        let log = r#"{"msg":"a","trace_id":"1","span_id":"2"}"#;
        check(log, &format!("no resourceSpans; it has the keys msg, trace_id, span_id{EXPORT}"));
        // Keys of one object tell, not keys from here and there.
        let apart = r#"{"traceId":"1","user":{"id":"2"}}"#;
        check(apart, &format!("no resourceSpans; it has the keys traceId, user{EXPORT}"));
        check("[]", &format!("no resourceSpans; it is an array that begins with no object{EXPORT}"));
        check("[1,{\"a\":2}]", &format!("no resourceSpans; it is an array that begins with no object{EXPORT}"));
        let many: Vec<String> = (0..1000).map(|key| format!("\"k{key}\":0")).collect();
        check(
            &format!("{{{}}}", many.join(",")),
            &format!("no resourceSpans; it has the keys k0, k1, k2, k3, k4 and more{EXPORT}"),
        );
        let odd = format!("{{\"a \\n b\":{{\"resourceSpans\":[]}},\"{}\":0}}", "x".repeat(1000));
        check(&odd, &format!("no resourceSpans; it has the keys \"a b\", \"{}…\"{EXPORT}", "x".repeat(LETTERS)));
        for none in ["", "5", "\"a\"", "{\"a\":", "{} x"] {
            check(none, "");
        }
    }
}
