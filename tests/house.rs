//! What the project says of itself: licences of what it stands on, paths that its documents name, and what its ablation
//! takes out.

#[allow(dead_code, reason = "the bench shows what each ingredient buys")]
#[path = "../benches/ablation/ingredients.rs"]
mod ingredients;

use std::collections::BTreeSet;
use std::path::Path;
use std::process::Command;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn text(path: &str) -> String {
    std::fs::read_to_string(root().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// Whether a licence expression can be met with the licences that are allowed.
fn is_met(expression: &str, allowed: &dyn Fn(&str) -> bool) -> bool {
    // Older manifests write / for OR.
    let spaced = expression.replace('/', " OR ").replace('(', " ( ").replace(')', " ) ").replace(" WITH ", "+WITH+");
    let mut words = spaced.split_whitespace().peekable();
    any(&mut words, allowed) && words.next().is_none()
}

type Words<'a> = std::iter::Peekable<std::str::SplitWhitespace<'a>>;

fn any(words: &mut Words<'_>, allowed: &dyn Fn(&str) -> bool) -> bool {
    let mut met = all(words, allowed);
    while words.next_if_eq(&"OR").is_some() {
        met |= all(words, allowed);
    }
    met
}

fn all(words: &mut Words<'_>, allowed: &dyn Fn(&str) -> bool) -> bool {
    let mut met = one(words, allowed);
    while words.next_if_eq(&"AND").is_some() {
        met &= one(words, allowed);
    }
    met
}

fn one(words: &mut Words<'_>, allowed: &dyn Fn(&str) -> bool) -> bool {
    if words.next_if_eq(&"(").is_some() {
        let met = any(words, allowed);
        return words.next() == Some(")") && met;
    }
    words.next().is_some_and(|name| allowed(&name.replace("+WITH+", " WITH ")))
}

#[test]
fn licence_expressions_are_met_as_they_are_read() {
    let allowed = |name: &str| ["MIT", "Apache-2.0", "Unicode-3.0"].contains(&name);
    for met in ["MIT", "GPL-3.0 OR MIT", "Unlicense/MIT", "(MIT OR GPL-3.0) AND Unicode-3.0", "MIT AND Apache-2.0"] {
        assert!(is_met(met, &allowed), "{met}");
    }
    for unmet in ["GPL-3.0", "MIT AND GPL-3.0", "(MIT OR Apache-2.0) AND GPL-3.0", "GPL-3.0 AND (MIT)", "", "MIT-0"] {
        assert!(!is_met(unmet, &allowed), "{unmet}");
    }
}

#[test]
fn every_dependency_has_a_licence_that_deny_toml_allows() {
    let deny: toml::Table = text("deny.toml").parse().unwrap();
    let allowed: BTreeSet<&str> =
        deny["licenses"]["allow"].as_array().unwrap().iter().map(|name| name.as_str().unwrap()).collect();
    let host = |line: &str| line.strip_prefix("host: ").map(str::to_owned);
    let rustc = Command::new(std::env::var_os("RUSTC").unwrap_or("rustc".into())).arg("-vV").output().unwrap();
    let host = String::from_utf8(rustc.stdout).unwrap().lines().find_map(host).unwrap();
    let metadata = Command::new(env!("CARGO"))
        .args(["metadata", "--format-version=1", "--locked", "--filter-platform", &host])
        .current_dir(root())
        .output()
        .unwrap();
    assert!(metadata.status.success(), "{}", String::from_utf8_lossy(&metadata.stderr));
    let metadata: serde_json::Value = serde_json::from_slice(&metadata.stdout).unwrap();
    let packages = metadata["packages"].as_array().unwrap();
    assert!(packages.len() > 100, "{} packages", packages.len());
    let refused: Vec<String> = packages
        .iter()
        .map(|package| (package["name"].as_str().unwrap(), package["license"].as_str().unwrap_or("")))
        .filter(|(_, licence)| !is_met(licence, &|name| allowed.contains(name)))
        .map(|(name, licence)| format!("{name}: {licence:?}"))
        .collect();
    assert!(refused.is_empty(), "{refused:#?}");
}

/// Paths below the root that a document names: words in back-ticks that look like one.
fn paths_named(document: &str) -> Vec<String> {
    let quoted = document.split('`').skip(1).step_by(2);
    let tops =
        [".ci/", "benches/", "deploy/", "fuzz", "notebooks", "proto/", "sample-traces", "scripts/", "src/", "tests/"];
    let is_path = |word: &&str| {
        let is_word = word.chars().all(|letter| letter.is_ascii_alphanumeric() || "-_./".contains(letter));
        let is_file = !word.contains('/') && [".md", ".toml"].iter().any(|end| word.ends_with(end));
        is_word && (is_file || tops.iter().any(|top| word.starts_with(top)))
    };
    quoted.filter(is_path).map(str::to_owned).collect()
}

#[test]
fn the_paths_that_documents_name_exist() {
    for (document, least) in [("ARCHITECTURE.md", 20), ("README.md", 5)] {
        let named = paths_named(&text(document));
        assert!(named.len() >= least, "{document} names {named:?}");
        let missing: Vec<_> = named.iter().filter(|path| !root().join(path).exists()).collect();
        assert!(missing.is_empty(), "{document} names {missing:?}");
    }
}

/// A folder of `src` that the architecture leaves out is one that nobody can find.
#[test]
fn the_architecture_names_every_part_of_the_source() {
    let named: BTreeSet<String> = paths_named(&text("ARCHITECTURE.md")).into_iter().collect();
    for entry in std::fs::read_dir(root().join("src")).unwrap() {
        let path = format!("src/{}", entry.unwrap().file_name().to_string_lossy());
        assert!(named.contains(&path), "ARCHITECTURE.md does not name {path}");
    }
}

/// Or the bench would stop where the source has changed.
#[test]
fn each_ingredient_can_be_taken_out_of_the_estimator() {
    for ingredient in ingredients::INGREDIENTS {
        for (file, old, _) in ingredient.replace {
            let times = text(&format!("src/estimate/{file}")).matches(old).count();
            assert_eq!(times, 1, "{}: {file} has {times} times: {old}", ingredient.name);
        }
    }
}
