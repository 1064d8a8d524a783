//! Bearer tokens: what a listener asks for, and what the next hop is shown.

use std::fmt;
use std::path::PathBuf;

use super::answers;
use super::pipelines::kind;
use super::problems::Found;
use super::read::{Section, nearest};

/// A text that is not shown.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(pub String);

impl fmt::Debug for Secret {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("(secret)")
    }
}

/// One `bearertokenauth` extension, where a listener or an exporter names it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bearer {
    /// What stands before the token in `authorization`; default `Bearer`; may be empty.
    pub scheme: String,
    pub tokens: Tokens,
}

/// A listener takes any of them; an exporter shows the first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Tokens {
    /// At least one.
    These(Vec<Secret>),
    /// A file that has one on each line.
    In(PathBuf),
}

/// The extensions of a file, by id.
#[derive(Default)]
pub(super) struct Extensions {
    bearers: Vec<(String, Option<Bearer>)>,
    refused: Vec<String>,
}

impl Extensions {
    pub(super) fn read(root: &mut Section<'_>) -> Self {
        let mut extensions = Self::default();
        for (id, tree) in root.named("extensions") {
            let path = format!("extensions.{id}");
            if kind(&id) == "bearertokenauth" {
                let bearer = Section::of(tree, &path, root.found).and_then(bearer);
                extensions.bearers.push((id, bearer));
            } else {
                root.found.not_supported(path, answers::extension(kind(&id)));
                extensions.refused.push(id);
            }
        }
        extensions
    }

    fn ids(&self) -> impl Iterator<Item = &str> {
        self.bearers.iter().map(|(id, _)| id.as_str())
    }

    /// That those of `service.extensions` are there; whether they are listed makes no difference to us.
    pub(super) fn check_listed(&self, listed: &[String], found: &Found) {
        for id in listed.iter().filter(|id| !self.refused.contains(id) && !self.ids().any(|known| known == *id)) {
            found.wrong("service.extensions", not_configured(id, "extensions", self.ids()));
        }
    }

    /// The tokens that a section's `auth` names.
    pub(super) fn named_by(&self, section: &mut Section<'_>) -> Option<Bearer> {
        let mut auth = section.section("auth")?;
        auth.refuse(answers::AUTH);
        let Some(id) = auth.text("authenticator") else {
            auth.wrong("authenticator", "which extension? Write `authenticator: bearertokenauth`");
            return None;
        };
        let named = self.bearers.iter().find(|(known, _)| *known == id);
        if named.is_none() && !self.refused.contains(&id) {
            auth.wrong("authenticator", not_configured(&id, "extensions", self.ids()));
        }
        named.and_then(|(_, bearer)| bearer.clone())
    }
}

/// What is said of an id that is used and not configured.
pub(super) fn not_configured<'k>(id: &str, among: &str, known: impl Iterator<Item = &'k str>) -> String {
    match nearest(id, known) {
        Some(known) => format!("`{id}` is not among the {among}; the nearest is `{known}`"),
        None => format!("`{id}` is not among the {among}: there are none"),
    }
}

fn bearer(mut section: Section<'_>) -> Option<Bearer> {
    let scheme = section.text("scheme").unwrap_or_else(|| "Bearer".to_owned());
    let one = section.text("token");
    let several = section.texts("tokens");
    let file = section.text("filename");
    section.refuse(answers::BEARER);
    let these: Vec<Secret> = one.iter().cloned().chain(several.iter().cloned()).map(Secret).collect();
    let given = [one.is_some(), !several.is_empty(), file.is_some()].iter().filter(|given| **given).count();
    if given != 1 {
        section.wrong("", "give its tokens once: as `token`, `tokens` or `filename`");
        return None;
    }
    if these.iter().any(|token| token.0.is_empty()) {
        section.wrong("", "an empty token lets everybody in");
        return None;
    }
    Some(Bearer { scheme, tokens: file.map_or(Tokens::These(these), |file| Tokens::In(file.into())) })
}
