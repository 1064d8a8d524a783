//! The folder of a run's output: replaced whole when it is ours, refused when it is somebody else's.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

/// All that a run writes below its output folder.
const OURS: [&str; 4] = ["traces", "corrected", "skew", "summary.json"];

/// A folder with files that are none of ours.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{} holds `{other}`, which is none of ours: give an empty or a new folder, or --force to write beside it", folder.display())]
pub struct NotOurs {
    pub folder: PathBuf,
    pub other: String,
}

/// Makes the folder, and removes what an earlier run of ours left in it.
///
/// # Errors
/// [`NotOurs`], unless `force`; or where the folder cannot be read or written.
pub fn prepare(folder: &Path, force: bool) -> Result<()> {
    fs::create_dir_all(folder).with_context(|| folder.display().to_string())?;
    let mut names = Vec::new();
    for entry in fs::read_dir(folder).with_context(|| folder.display().to_string())? {
        names.push(entry?.file_name().to_string_lossy().into_owned());
    }
    names.sort_unstable();
    // A summary is written by every run; without one, a folder with our names may still be somebody else's.
    let ours = names.iter().any(|name| name == "summary.json");
    let strange = names.iter().find(|name| !OURS.contains(&name.as_str()) || !ours);
    if let Some(other) = strange.filter(|_| !force) {
        return Err(NotOurs { folder: folder.to_owned(), other: other.clone() }.into());
    }
    for name in OURS.iter().filter(|_| ours) {
        let path = folder.join(name);
        let gone = if path.is_dir() { fs::remove_dir_all(&path) } else { fs::remove_file(&path) };
        match gone {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                return Err(error).with_context(|| path.display().to_string());
            }
            _ => {}
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_earlier_run_is_replaced_and_a_strange_folder_refused() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().join("out");
        prepare(&root, false).unwrap();
        fs::create_dir(root.join("traces")).unwrap();
        fs::write(root.join("summary.json"), "{}").unwrap();
        prepare(&root, false).unwrap();
        assert_eq!(fs::read_dir(&root).unwrap().count(), 0);
        fs::write(root.join("thesis.tex"), "precious").unwrap();
        let refused = prepare(&root, false).unwrap_err().downcast::<NotOurs>().unwrap();
        assert_eq!(refused.other, "thesis.tex");
        prepare(&root, true).unwrap();
        assert!(root.join("thesis.tex").exists());
    }
}
