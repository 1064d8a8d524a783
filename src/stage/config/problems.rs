//! What is wrong with a configuration: all of it at once, each with the path of its key.

use std::cell::RefCell;
use std::fmt;

/// One thing that is wrong.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Problem {
    /// Keys from the top, joined by dots; a flag or a variable as it is written; empty for the whole file.
    pub path: String,
    pub what: What,
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum What {
    /// Nobody could mean this.
    Wrong(String),
    /// A Collector would know it; the text says what to do instead.
    NotSupported(String),
}

impl fmt::Display for Problem {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (&self.what, self.path.as_str()) {
            (What::Wrong(text), "") => out.write_str(text),
            (What::Wrong(text), path) => write!(out, "{path}: {text}"),
            (What::NotSupported(instead), path) => write!(out, "not supported: {path}: {instead}"),
        }
    }
}

/// Why there is no configuration; one line each.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problems(pub Vec<Problem>);

impl fmt::Display for Problems {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let lines: Vec<String> = self.0.iter().map(Problem::to_string).collect();
        out.write_str(&lines.join("\n"))
    }
}

impl std::error::Error for Problems {}

/// Where problems are gathered, so that reading goes on behind the first.
#[derive(Debug, Default)]
pub(super) struct Found(RefCell<Vec<Problem>>);

impl Found {
    pub(super) fn wrong(&self, path: impl Into<String>, text: impl Into<String>) {
        self.0.borrow_mut().push(Problem { path: path.into(), what: What::Wrong(text.into()) });
    }

    pub(super) fn not_supported(&self, path: impl Into<String>, instead: impl Into<String>) {
        self.0.borrow_mut().push(Problem { path: path.into(), what: What::NotSupported(instead.into()) });
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.borrow().is_empty()
    }
}

impl From<Found> for Problems {
    /// By path, as maps of a file have no order.
    fn from(found: Found) -> Self {
        let mut all = found.0.into_inner();
        all.sort();
        all.dedup();
        Self(all)
    }
}
