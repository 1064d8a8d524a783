//! Small files of ours, read whole.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

/// A file's bytes.
///
/// # Errors
/// Where it cannot be read; the text names it.
pub fn read(path: &Path) -> Result<Vec<u8>> {
    fs::read(path).with_context(|| format!("{}: cannot read", path.display()))
}

/// The file of that name below a folder; what is no folder is the file.
pub fn within(path: &Path, name: &str) -> PathBuf {
    if path.is_dir() { path.join(name) } else { path.to_owned() }
}

/// A file's text.
///
/// # Errors
/// Where it cannot be read, or is not UTF-8; the text names it.
pub fn read_text(path: &Path) -> Result<String> {
    fs::read_to_string(path).with_context(|| format!("{}: cannot read", path.display()))
}

/// Paths of a folder's entries, in order of name.
///
/// # Errors
/// Where it cannot be read; the text names it.
pub fn files_in(folder: &Path) -> Result<Vec<PathBuf>> {
    let entries = fs::read_dir(folder).with_context(|| format!("{}: cannot read", folder.display()))?;
    let mut paths: Vec<PathBuf> = entries.map(|entry| Ok(entry?.path())).collect::<std::io::Result<_>>()?;
    paths.sort_unstable();
    Ok(paths)
}
