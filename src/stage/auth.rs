//! Bearer tokens: those that a listener takes, and the one that is shown to the next hop.

use anyhow::{Result, ensure};
use hyper::header::{AUTHORIZATION, HeaderMap, HeaderValue};

use super::config::{Bearer, Tokens};
use crate::io;

/// Values of `authorization` that are taken; none: whoever asks is answered.
#[derive(Clone, Debug, Default)]
pub struct Gate(Option<Vec<HeaderValue>>);

impl Gate {
    /// # Errors
    /// Where the file of tokens cannot be read, or a token is none.
    pub fn of(bearer: Option<&Bearer>) -> Result<Self> {
        Ok(Self(bearer.map(values).transpose()?))
    }

    /// Whether a request may come in. All tokens are compared to their end, however early they differ.
    pub fn opens(&self, headers: &HeaderMap) -> bool {
        let Some(values) = &self.0 else { return true };
        let Some(shown) = headers.get(AUTHORIZATION) else { return false };
        let is_equal = |value: &HeaderValue| {
            let (known, shown) = (value.as_bytes(), shown.as_bytes());
            let differ = known.iter().zip(shown).fold(0, |differ, (one, other)| differ | (one ^ other));
            known.len() == shown.len() && differ == 0
        };
        values.iter().fold(false, |opens, value| opens | is_equal(value))
    }
}

/// The value of `authorization` that is shown: the first token.
pub(super) fn shown(bearer: Option<&Bearer>) -> Result<Option<HeaderValue>> {
    Ok(bearer.map(values).transpose()?.and_then(|values| values.into_iter().next()))
}

fn values(bearer: &Bearer) -> Result<Vec<HeaderValue>> {
    let tokens: Vec<String> = match &bearer.tokens {
        Tokens::These(tokens) => tokens.iter().map(|token| token.0.clone()).collect(),
        Tokens::In(path) => io::read_text(path)?.lines().map(|line| line.trim().to_owned()).collect(),
    };
    let tokens: Vec<String> = tokens.into_iter().filter(|token| !token.is_empty()).collect();
    ensure!(!tokens.is_empty(), "a list of bearer tokens is empty: nobody could come in");
    let value = |token: &String| {
        let text = format!("{} {token}", bearer.scheme);
        let mut value = HeaderValue::from_str(text.trim_start())?;
        value.set_sensitive(true);
        Ok(value)
    };
    tokens.iter().map(value).collect()
}
