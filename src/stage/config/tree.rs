//! A file's values, read but not yet understood.

use std::collections::BTreeMap;

use serde_json::{Number, Value};

/// One value with what is below it.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) enum Tree {
    #[default]
    Null,
    Bool(bool),
    Number(Number),
    Text(String),
    List(Vec<Tree>),
    Map(BTreeMap<String, Tree>),
    /// What a variable holds: the text as it is where text is wanted (a token `0123` keeps its zero), else the value
    /// that it is as YAML.
    Expanded {
        text: String,
        value: Box<Tree>,
    },
}

impl Tree {
    /// The value, however it came here.
    pub(super) fn plain(&self) -> &Self {
        match self {
            Self::Expanded { value, .. } => value.plain(),
            other => other,
        }
    }

    pub(super) fn into_plain(self) -> Self {
        match self {
            Self::Expanded { value, .. } => value.into_plain(),
            other => other,
        }
    }

    pub(super) fn text(&self) -> Option<&str> {
        match self {
            Self::Text(text) | Self::Expanded { text, .. } => Some(text),
            _ => None,
        }
    }

    /// What it is, for one who expected something else.
    pub(super) fn described(&self) -> String {
        match self.plain() {
            Self::Null => "nothing".to_owned(),
            Self::Bool(flag) => format!("`{flag}`"),
            Self::Number(number) => format!("the number `{number}`"),
            // What was written may be a secret.
            Self::Text(_) | Self::Expanded { .. } => "text".to_owned(),
            Self::List(_) => "a list".to_owned(),
            Self::Map(_) => "a section".to_owned(),
        }
    }
}

/// A value that has nothing to be expanded.
impl From<Value> for Tree {
    fn from(value: Value) -> Self {
        match value {
            Value::Null => Self::Null,
            Value::Bool(flag) => Self::Bool(flag),
            Value::Number(number) => Self::Number(number),
            Value::String(text) => Self::Text(text),
            Value::Array(all) => Self::List(all.into_iter().map(Self::from).collect()),
            Value::Object(map) => Self::Map(map.into_iter().map(|(key, value)| (key, value.into())).collect()),
        }
    }
}
