//! Expansion of environment variables, as a Collector does it: in the values, after YAML is parsed.
//!
//! `${env:NAME}`, or `${NAME}`, is what the variable holds, `${env:NAME:-default}` has something else where it is not
//! set, and `$$` is a dollar. A value that is nothing but a reference becomes what the variable's text is as YAML, so
//! that `max_in_flight_mib: ${env:MIB}` is a number. Unlike in a Collector, a variable that is not set and has no
//! default is an error, and what a variable holds is not expanded again: tokens may have dollars.

use serde_json::Value;

use super::Env;
use super::problems::Found;
use super::tree::Tree;

/// A YAML text's values.
pub(super) fn tree(text: &str, env: Env<'_>, found: &Found) -> Option<Tree> {
    match yaml(text) {
        Ok(value) => Some(Expansion { env, found }.of(value, "")),
        Err(error) => {
            found.wrong("", format!("not YAML: {error}"));
            None
        }
    }
}

fn yaml(text: &str) -> Result<Value, String> {
    // The parser's own values refuse a key that is there twice, where `serde_json`'s keep its last value.
    let merged = || -> Result<_, yaml_serde::Error> {
        let mut values: yaml_serde::Value = yaml_serde::from_str(text)?;
        values.apply_merge()?;
        Ok(values)
    };
    let said = |error: &dyn ToString| error.to_string().lines().next().unwrap_or_default().to_owned();
    serde_json::to_value(merged().map_err(|error| said(&error))?).map_err(|error| said(&error))
}

struct Expansion<'a> {
    env: Env<'a>,
    found: &'a Found,
}

impl Expansion<'_> {
    fn of(&self, value: Value, path: &str) -> Tree {
        match value {
            Value::String(text) if text.contains('$') => self.text(&text, path),
            Value::Array(all) => {
                let each = all.into_iter().enumerate();
                Tree::List(each.map(|(at, value)| self.of(value, &format!("{path}[{at}]"))).collect())
            }
            Value::Object(map) => {
                let below = |key: &str| if path.is_empty() { key.to_owned() } else { format!("{path}.{key}") };
                Tree::Map(map.into_iter().map(|(key, value)| (key.clone(), self.of(value, &below(&key)))).collect())
            }
            other => other.into(),
        }
    }

    fn text(&self, text: &str, path: &str) -> Tree {
        let mut rest = text;
        match self.reference(&mut rest, path) {
            Some(Ok(whole)) if rest.is_empty() => {
                let value = yaml(&whole).map_or_else(|_| Tree::Text(whole.clone()), Tree::from);
                return Tree::Expanded { text: whole, value: Box::new(value) };
            }
            Some(Err(())) => return Tree::Null,
            _ => {}
        }
        let mut rest = text;
        Tree::Text(self.upto(&mut rest, false, path))
    }

    /// Text with its references replaced: all of it, or as far as the brace that closes a default.
    fn upto(&self, rest: &mut &str, closes: bool, path: &str) -> String {
        let mut text = String::new();
        while let Some(next) = rest.chars().next() {
            if closes && next == '}' {
                break;
            }
            if let Some(behind) = rest.strip_prefix("$$") {
                text.push('$');
                *rest = behind;
            } else if let Some(held) = self.reference(rest, path) {
                text += &held.unwrap_or_default();
            } else {
                text.push(next);
                *rest = &rest[next.len_utf8()..];
            }
        }
        text
    }

    /// What a reference stands for, if the text begins with one.
    fn reference(&self, rest: &mut &str, path: &str) -> Option<Result<String, ()>> {
        let inner = rest.strip_prefix("${")?;
        let end = inner.find('}').unwrap_or(inner.len());
        let name_ends = inner.find(":-").map_or(end, |at| at.min(end));
        let name = &inner[..name_ends];
        *rest = &inner[name_ends..];
        let mut default = None;
        if let Some(behind) = rest.strip_prefix(":-") {
            *rest = behind;
            default = Some(self.upto(rest, true, path));
        }
        let Some(behind) = rest.strip_prefix('}') else {
            self.found.wrong(path, format!("`${{{name}` lacks its `}}`; a dollar of its own is `$$`"));
            return Some(Err(()));
        };
        *rest = behind;
        Some(self.held(name, default, path))
    }

    fn held(&self, name: &str, default: Option<String>, path: &str) -> Result<String, ()> {
        let name = match name.split_once(':') {
            Some(("env", name)) => name,
            Some((scheme, _)) => {
                self.found.not_supported(path, format!("`${{{scheme}:…}}`: values come from `${{env:NAME}}` only"));
                return Err(());
            }
            None => name,
        };
        let is_word = name.chars().all(|letter| letter.is_ascii_alphanumeric() || letter == '_');
        if !is_word || name.is_empty() || name.starts_with(|letter: char| letter.is_ascii_digit()) {
            self.found.wrong(path, format!("`{name}` is no name of a variable; a dollar of its own is `$$`"));
            return Err(());
        }
        (self.env)(name).or(default).ok_or_else(|| {
            let advice = format!("set it, or give a default: `${{env:{name}:-default}}`");
            self.found.wrong(path, format!("the variable {name} is not set; {advice}"));
        })
    }
}

#[cfg(test)]
mod tests {
    use super::super::problems::Problems;
    use super::*;
    use serde_json::json;

    fn env(name: &str) -> Option<String> {
        let held = [("HOST", "tempo"), ("MIB", "64"), ("ZIP", "0123"), ("DOLLAR", "a$$b${HOST}"), ("EMPTY", "")];
        held.iter().find(|(known, _)| *known == name).map(|(_, held)| (*held).to_owned())
    }

    fn expand(text: &str) -> Result<Tree, String> {
        let found = Found::default();
        let tree = tree(&format!("key: {text}"), &env, &found);
        if found.is_empty() { Ok(tree.unwrap()) } else { Err(Problems::from(found).to_string()) }
    }

    fn check(text: &str, is: &Value) {
        let Ok(Tree::Map(map)) = expand(text) else { panic!("{text}: {:?}", expand(text)) };
        assert_eq!(map["key"].plain(), &Tree::from(is.clone()), "{text}");
    }

    #[test]
    fn a_reference_becomes_what_the_variable_holds() {
        check("${env:HOST}", &json!("tempo"));
        check("${HOST}", &json!("tempo"));
        check("${env:HOST}:4317", &json!("tempo:4317"));
        check("'http://${env:HOST}:${env:MIB}/'", &json!("http://tempo:64/"));
        check("[a, 'x${env:HOST}']", &json!(["a", "xtempo"]));
    }

    #[test]
    fn a_value_that_is_one_reference_is_read_as_yaml() {
        check("${env:MIB}", &json!(64));
        check("${env:NONE:-true}", &json!(true));
        check("${env:NONE:-[a, b]}", &json!(["a", "b"]));
        check("${env:EMPTY}", &json!(null));
    }

    #[test]
    fn text_keeps_what_yaml_would_read_as_a_number() {
        let Ok(Tree::Map(map)) = expand("${env:ZIP}") else { panic!() };
        assert_eq!(map["key"].text(), Some("0123"));
    }

    #[test]
    fn a_default_stands_in_for_what_is_not_set() {
        check("${env:NONE:-localhost}:4317", &json!("localhost:4317"));
        check("${env:HOST:-localhost}", &json!("tempo"));
        check("${env:NONE:-${env:HOST}}", &json!("tempo"));
        check("x${env:NONE:-}", &json!("x"));
    }

    #[test]
    fn two_dollars_are_one_and_a_single_one_stays() {
        check("$${env:HOST}", &json!("${env:HOST}"));
        check("a$$b", &json!("a$b"));
        check("$HOST", &json!("$HOST"));
    }

    #[test]
    fn what_a_variable_holds_is_not_expanded_again() {
        check("'${env:DOLLAR}'", &json!("a$$b${HOST}"));
    }

    #[test]
    fn what_cannot_be_expanded_is_named() {
        for (text, says) in [
            ("${env:NONE}", "key: the variable NONE is not set; set it, or give a default: `${env:NONE:-default}`"),
            ("a${env:NONE}", "key: the variable NONE is not set; set it, or give a default: `${env:NONE:-default}`"),
            ("${env:HOST", "key: `${env:HOST` lacks its `}`; a dollar of its own is `$$`"),
            ("${env:1A}", "key: `1A` is no name of a variable; a dollar of its own is `$$`"),
            ("${file:/a}", "not supported: key: `${file:…}`: values come from `${env:NAME}` only"),
        ] {
            assert_eq!(expand(text), Err(says.to_owned()));
        }
    }

    #[test]
    fn words_merges_and_empty_files_are_as_to_a_collector() {
        for (text, is) in [
            ("", json!(null)),
            ("# nothing\n", json!(null)),
            ("{a: no, b: on, c: True, 4: 0x10}", json!({"a": "no", "b": "on", "c": true, "4": 16})),
            ("a: &all {b: 1}\nc: {<<: *all, d: 2}", json!({"a": {"b": 1}, "c": {"b": 1, "d": 2}})),
        ] {
            assert_eq!(yaml(text), Ok(is), "{text}");
        }
    }

    #[test]
    fn what_is_not_yaml_is_one_line() {
        for (text, names) in
            [("a: [", "line"), ("a: 1\na: 2\n", "key \"a\""), ("a: b: c", "line"), ("a: 1\n---\nb: 2", "document")]
        {
            let found = Found::default();
            assert_eq!(tree(text, &env, &found), None, "{text}");
            let said = Problems::from(found).to_string();
            assert!(said.starts_with("not YAML: ") && said.lines().count() == 1 && said.contains(names), "{said}");
        }
    }
}
