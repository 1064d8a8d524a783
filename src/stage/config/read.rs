//! A walk over a file's sections that takes the keys it knows, and reports what is left with its nearest known key.

use std::collections::BTreeMap;
use std::time::Duration;

use clap::ValueEnum;

use super::duration::parse_duration;
use super::problems::Found;
use super::tree::Tree;

/// A section whose keys are taken one by one. When it goes, what nobody took is a problem.
pub(super) struct Section<'a> {
    path: String,
    keys: BTreeMap<String, Tree>,
    known: Vec<&'static str>,
    pub(super) found: &'a Found,
}

impl<'a> Section<'a> {
    /// A section; nothing is one without keys, as `grpc:` alone means defaults.
    pub(super) fn of(tree: Tree, path: &str, found: &'a Found) -> Option<Self> {
        let mut section = Self::empty(path, found);
        match tree.into_plain() {
            Tree::Null => {}
            Tree::Map(keys) => section.keys = keys,
            other => {
                section.wrong("", format!("must be a section of keys and values, not {}", other.described()));
                return None;
            }
        }
        Some(section)
    }

    pub(super) fn empty(path: &str, found: &'a Found) -> Self {
        Self { path: path.to_owned(), keys: BTreeMap::new(), known: Vec::new(), found }
    }

    /// The full path of a key, or the section's own.
    pub(super) fn path(&self, key: &str) -> String {
        match (self.path.as_str(), key) {
            ("", key) => key.to_owned(),
            (path, "") => path.to_owned(),
            (path, key) => format!("{path}.{key}"),
        }
    }

    pub(super) fn wrong(&self, key: &str, text: impl Into<String>) {
        self.found.wrong(self.path(key), text);
    }

    /// Whether a key is there, be it without a value.
    pub(super) fn has(&self, key: &str) -> bool {
        self.keys.contains_key(key)
    }

    /// Whether a key has a value.
    pub(super) fn gives(&self, key: &str) -> bool {
        self.keys.get(key).is_some_and(|tree| *tree != Tree::Null)
    }

    fn take(&mut self, key: &'static str) -> Option<Tree> {
        self.known.push(key);
        self.keys.remove(key)
    }

    pub(super) fn section(&mut self, key: &'static str) -> Option<Section<'a>> {
        let tree = self.take(key)?;
        Section::of(tree, &self.path(key), self.found)
    }

    /// A section whose keys are names that the user gives.
    pub(super) fn named(&mut self, key: &'static str) -> Vec<(String, Tree)> {
        let Some(mut section) = self.section(key) else { return Vec::new() };
        std::mem::take(&mut section.keys).into_iter().collect()
    }

    /// A value; nothing stands for what it is by default.
    fn value<T>(&mut self, key: &'static str, read: impl FnOnce(&Tree) -> Result<T, String>) -> Option<T> {
        let tree = self.take(key)?;
        if tree == Tree::Null {
            return None;
        }
        read(&tree).map_err(|text| self.wrong(key, text)).ok()
    }

    pub(super) fn text(&mut self, key: &'static str) -> Option<String> {
        self.value(key, text_of)
    }

    /// A text that means something.
    pub(super) fn parsed<T>(&mut self, key: &'static str, parse: impl Fn(&str) -> Result<T, String>) -> Option<T> {
        self.value(key, |tree| parse(&text_of(tree)?))
    }

    pub(super) fn duration(&mut self, key: &'static str) -> Option<Duration> {
        self.value(key, |tree| match tree.plain() {
            Tree::Number(number) if number.as_f64() != Some(0.0) => {
                Err(format!("`{number}` lacks its unit: write {number}s or {number}ms"))
            }
            Tree::Number(_) => Ok(Duration::ZERO),
            _ => parse_duration(&text_of(tree)?),
        })
    }

    pub(super) fn flag(&mut self, key: &'static str) -> Option<bool> {
        self.value(key, |tree| match tree.plain() {
            Tree::Bool(flag) => Ok(*flag),
            other => Err(format!("must be true or false, not {}", other.described())),
        })
    }

    /// A whole number from one on.
    pub(super) fn count(&mut self, key: &'static str, most: u64) -> Option<u64> {
        self.value(key, |tree| match tree.plain() {
            Tree::Number(number) if number.as_u64().is_some_and(|count| (1..=most).contains(&count)) => {
                Ok(number.as_u64().unwrap_or_default())
            }
            other => Err(format!("must be a whole number from 1 to {most}, not {}", other.described())),
        })
    }

    /// A size in MiB, in bytes.
    pub(super) fn mib(&mut self, key: &'static str) -> Option<u64> {
        self.count(key, 4095).map(|mib| mib << 20)
    }

    /// One of some words; case does not matter.
    pub(super) fn choice<T: ValueEnum>(&mut self, key: &'static str) -> Option<T> {
        self.value(key, |tree| {
            let word = match tree.plain() {
                // TLS 1.3 without quotes.
                Tree::Number(number) => number.to_string(),
                _ => text_of(tree)?,
            };
            T::from_str(&word, true).map_err(|_| format!("`{word}` is none of {}", words::<T>()))
        })
    }

    pub(super) fn texts(&mut self, key: &'static str) -> Vec<String> {
        self.value(key, |tree| match tree.plain() {
            Tree::List(all) => all.iter().map(text_of).collect(),
            _ => Err(format!("must be a list of texts, not {}", tree.described())),
        })
        .unwrap_or_default()
    }

    /// Keys that a Collector knows, each with what to do instead.
    pub(super) fn refuse(&mut self, answers: &[(&'static str, &str)]) {
        for (key, instead) in answers {
            if self.take(key).is_some() {
                self.found.not_supported(self.path(key), *instead);
            }
        }
    }

    /// Keys that are no problem while they switch something off that is not here anyway.
    pub(super) fn refuse_enabled(&mut self, key: &'static str, instead: &str) {
        let Some(tree) = self.take(key) else { return };
        let is_off = match tree.plain() {
            Tree::Map(keys) => keys.get("enabled").is_some_and(|on| on.plain() == &Tree::Bool(false)),
            other => other == &Tree::Bool(false),
        };
        if !is_off {
            self.found.not_supported(self.path(key), instead);
        }
    }
}

impl Drop for Section<'_> {
    fn drop(&mut self) {
        for key in std::mem::take(&mut self.keys).into_keys() {
            let text = match nearest(&key, self.known.iter().copied()) {
                Some(known) => format!("unknown key; the nearest is `{known}`"),
                None => "unknown key".to_owned(),
            };
            self.wrong(&key, text);
        }
    }
}

fn text_of(tree: &Tree) -> Result<String, String> {
    tree.text().map(str::to_owned).ok_or_else(|| match tree.plain() {
        Tree::Bool(_) | Tree::Number(_) => format!("must be text, not {}: put it in quotes", tree.described()),
        other => format!("must be text, not {}", other.described()),
    })
}

fn words<T: ValueEnum>() -> String {
    let named = T::value_variants().iter().filter_map(ValueEnum::to_possible_value);
    named.map(|value| format!("`{}`", value.get_name())).collect::<Vec<_>>().join(", ")
}

/// The known word that the fewest slips of a finger make of this one.
pub(super) fn nearest<'k>(word: &str, known: impl Iterator<Item = &'k str>) -> Option<&'k str> {
    known.min_by_key(|known| strsim::damerau_levenshtein(word, known))
}

#[cfg(test)]
mod tests {
    use super::super::problems::Problems;
    use super::*;

    #[derive(Clone, Copy, Debug, ValueEnum)]
    enum Word {
        One,
        Two,
    }

    /// What is said of a section that knows `endpoint`, `timeout`, `mib`, `flag`, `word`, `list` and `inner.key`.
    fn said(text: &str) -> String {
        let found = Found::default();
        let tree = super::super::expand::tree(text, &|_| None, &found).unwrap();
        if let Some(mut section) = Section::of(tree, "top", &found) {
            section.text("endpoint");
            section.duration("timeout");
            section.mib("mib");
            section.flag("flag");
            section.choice::<Word>("word");
            section.texts("list");
            section.refuse(&[("cors", "do without")]);
            section.refuse_enabled("queue", "no queue");
            if let Some(mut inner) = section.section("inner") {
                inner.text("key");
            }
        }
        Problems::from(found).to_string()
    }

    fn check(text: &str, says: &str) {
        assert_eq!(said(text), says, "{text}");
    }

    #[test]
    fn what_is_known_and_well_formed_is_no_problem() {
        check("{endpoint: a, timeout: 0, mib: 3, flag: true, word: ONE, list: [a], inner: {key: b}}", "");
        check("{endpoint: , timeout: , mib: , flag: , word: , list: , inner: }", "");
        check("{queue: {enabled: false}}", "");
        check("", "");
    }

    #[test]
    fn an_unknown_key_is_told_with_its_path_and_the_nearest() {
        check("{enpoint: a}", "top.enpoint: unknown key; the nearest is `endpoint`");
        check("{inner: {kay: b}}", "top.inner.kay: unknown key; the nearest is `key`");
    }

    #[test]
    fn all_problems_are_told_at_once() {
        check(
            "{timeuot: 1s, mib: 0, inner: {kee: 1}}",
            "top.inner.kee: unknown key; the nearest is `key`\n\
             top.mib: must be a whole number from 1 to 4095, not the number `0`\n\
             top.timeuot: unknown key; the nearest is `timeout`",
        );
    }

    #[test]
    fn a_value_of_another_kind_says_which_is_wanted() {
        check("{endpoint: 4317}", "top.endpoint: must be text, not the number `4317`: put it in quotes");
        check("{endpoint: [a]}", "top.endpoint: must be text, not a list");
        check("{timeout: 5}", "top.timeout: `5` lacks its unit: write 5s or 5ms");
        check("{timeout: 5x}", "top.timeout: `5x` is no length of time: write 200ms, 20s, 1h or 1h30m");
        check("{timeout: [1s]}", "top.timeout: must be text, not a list");
        check("{mib: 1.5}", "top.mib: must be a whole number from 1 to 4095, not the number `1.5`");
        check("{flag: yes}", "top.flag: must be true or false, not text");
        check("{word: three}", "top.word: `three` is none of `one`, `two`");
        check("{list: a}", "top.list: must be a list of texts, not text");
        check("{inner: 3}", "top.inner: must be a section of keys and values, not the number `3`");
        check("[1]", "top: must be a section of keys and values, not a list");
    }

    #[test]
    fn what_a_collector_knows_is_not_supported_rather_than_unknown() {
        check("{cors: {}}", "not supported: top.cors: do without");
        check("{queue: {}}", "not supported: top.queue: no queue");
    }
}
