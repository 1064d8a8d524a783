//! The folder of a run's output: replaced whole when it is ours, refused when it is somebody else's.
//!
//! A run writes below [`STAGE`] and moves all into place at its end, so that an earlier run's output stays until
//! there is a new one. A run that was interrupted leaves the stage behind, by which the next one knows the folder.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

/// All that a run leaves below its output folder. The summary comes last: it says that the rest is there.
const OURS: [&str; 4] = ["traces", "corrected", "skew", "summary.json"];

/// Where a run writes until it is done.
const STAGE: &str = ".unskew-unfinished";

/// A folder with files that are none of ours.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{} holds `{other}`, which is none of ours: give an empty or a new folder, or --force to write beside it", folder.display())]
pub struct NotOurs {
    pub folder: PathBuf,
    pub other: String,
}

/// What a folder holds, where it is or can be ours.
struct Contents {
    /// An earlier run wrote it, or began to.
    is_ours: bool,
}

/// Whether a run may write here. Changes nothing, so it can be asked long before.
///
/// # Errors
/// [`NotOurs`], unless `force`; or where the folder cannot be read.
pub fn check(folder: &Path, force: bool) -> Result<()> {
    look(folder, force).map(drop)
}

fn look(folder: &Path, force: bool) -> Result<Contents> {
    let named = || folder.display().to_string();
    let entries = match fs::read_dir(folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Contents { is_ours: false }),
        entries => entries.with_context(named)?,
    };
    let mut names = Vec::new();
    for entry in entries {
        names.push(entry.with_context(named)?.file_name().to_string_lossy().into_owned());
    }
    names.sort_unstable();
    let is_ours = names.iter().any(|name| name == STAGE) || is_summary(&folder.join("summary.json"));
    let is_strange = |name: &&String| *name != STAGE && !(is_ours && OURS.contains(&name.as_str()));
    match names.iter().find(is_strange).filter(|_| !force) {
        Some(other) => Err(NotOurs { folder: folder.to_owned(), other: other.clone() }.into()),
        None => Ok(Contents { is_ours }),
    }
}

/// Others write a `summary.json` too.
fn is_summary(path: &Path) -> bool {
    let value: Option<serde_json::Value> = fs::read(path).ok().and_then(|bytes| serde_json::from_slice(&bytes).ok());
    value.is_some_and(|value| value.get("schema_version").is_some() && value.get("inversions").is_some())
}

/// Whether a run into `folder` would replace `path`.
pub fn replaces(folder: &Path, path: &Path) -> bool {
    let (Ok(folder), Ok(path)) = (fs::canonicalize(folder), fs::canonicalize(path)) else { return false };
    OURS.iter().chain([&STAGE]).any(|name| path.starts_with(folder.join(name)))
}

/// Where a run writes. Dropped before [`Stage::commit`], it leaves the folder as it was.
pub struct Stage {
    folder: PathBuf,
    stage: PathBuf,
    is_ours: bool,
    is_new: bool,
    is_done: bool,
}

impl Stage {
    /// Makes the folder, and in it the place to write.
    ///
    /// # Errors
    /// [`NotOurs`], unless `force`; or where the folder cannot be read or written.
    pub fn begin(folder: &Path, force: bool) -> Result<Self> {
        let Contents { is_ours } = look(folder, force)?;
        let stage = folder.join(STAGE);
        let is_new = !folder.exists();
        let made = remove(&stage).and_then(|()| fs::create_dir_all(&stage));
        made.with_context(|| folder.display().to_string())?;
        Ok(Self { folder: folder.to_owned(), stage, is_ours, is_new, is_done: false })
    }

    /// Where to write, under the names that things shall have.
    pub fn path(&self) -> &Path {
        &self.stage
    }

    /// Puts what was written in the place of what an earlier run left.
    ///
    /// # Errors
    /// Where something cannot be removed or moved; the text names the folder. The next run may replace it.
    pub fn commit(mut self) -> Result<()> {
        let named = || self.folder.display().to_string();
        for name in OURS.iter().filter(|_| self.is_ours) {
            remove(&self.folder.join(name)).with_context(named)?;
        }
        for name in OURS {
            let from = self.stage.join(name);
            if from.exists() {
                merge(&from, &self.folder.join(name)).with_context(named)?;
            }
        }
        remove(&self.stage).with_context(named)?;
        self.is_done = true;
        Ok(())
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        if !self.is_done {
            // Nobody to tell, and the next run takes care of it.
            let _ = remove(&self.stage);
            if self.is_new {
                let _ = fs::remove_dir(&self.folder);
            }
        }
    }
}

fn remove(path: &Path) -> io::Result<()> {
    let gone = if path.is_dir() && !path.is_symlink() { fs::remove_dir_all(path) } else { fs::remove_file(path) };
    match gone {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// Moves a file or a folder, whose files go beside what is there already.
fn merge(from: &Path, to: &Path) -> io::Result<()> {
    if !from.is_dir() || !to.is_dir() {
        return fs::rename(from, to);
    }
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        merge(&entry.path(), &to.join(entry.file_name()))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const SUMMARY: &str = r#"{"schema_version":"1","inversions":{}}"#;

    fn run(folder: &Path, force: bool, table: &str) -> Result<()> {
        let stage = Stage::begin(folder, force)?;
        fs::create_dir(stage.path().join("skew"))?;
        fs::write(stage.path().join("skew").join(table), table)?;
        fs::write(stage.path().join("summary.json"), SUMMARY)?;
        stage.commit()
    }

    /// All files below a folder, sorted.
    fn files(folder: &Path) -> Vec<String> {
        let mut found = Vec::new();
        for entry in fs::read_dir(folder).into_iter().flatten().map(Result::unwrap) {
            let name = entry.file_name().into_string().unwrap();
            match entry.path().is_dir() {
                true => found.extend(files(&entry.path()).into_iter().map(|below| format!("{name}/{below}"))),
                false => found.push(name),
            }
        }
        found.sort();
        found
    }

    #[test]
    fn an_earlier_run_is_replaced_and_a_strange_folder_refused() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().join("new/out");
        run(&root, false, "a").unwrap();
        run(&root, false, "b").unwrap();
        assert_eq!(files(&root), ["skew/b", "summary.json"]);
        fs::write(root.join("thesis.tex"), "precious").unwrap();
        let refused = run(&root, false, "c").unwrap_err().downcast::<NotOurs>().unwrap();
        assert_eq!(refused.other, "thesis.tex");
        assert_eq!(files(&root), ["skew/b", "summary.json", "thesis.tex"]);
        run(&root, true, "c").unwrap();
        assert_eq!(files(&root), ["skew/c", "summary.json", "thesis.tex"]);
    }

    #[test]
    fn a_summary_of_others_does_not_make_a_folder_ours() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("summary.json"), r#"{"grade":"A"}"#).unwrap();
        fs::create_dir(folder.path().join("skew")).unwrap();
        fs::write(folder.path().join("skew/theirs"), "").unwrap();
        assert!(check(folder.path(), false).is_err() && run(folder.path(), false, "a").is_err());
        run(folder.path(), true, "a").unwrap();
        assert_eq!(files(folder.path()), ["skew/a", "skew/theirs", "summary.json"]);
    }

    #[test]
    fn until_a_run_is_done_the_earlier_one_stays() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().join("out");
        drop(Stage::begin(&root, false).unwrap());
        assert!(!root.exists());
        run(&root, false, "a").unwrap();
        let stage = Stage::begin(&root, false).unwrap();
        fs::write(stage.path().join("summary.json"), "half").unwrap();
        drop(stage);
        assert_eq!(files(&root), ["skew/a", "summary.json"]);
    }

    #[test]
    fn what_an_interrupted_run_left_is_ours() {
        let folder = tempfile::tempdir().unwrap();
        let stage = Stage::begin(folder.path(), false).unwrap();
        fs::write(stage.path().join("half"), "").unwrap();
        // Killed while it moved things into place, after the earlier summary went.
        std::mem::forget(stage);
        fs::create_dir(folder.path().join("traces")).unwrap();
        run(folder.path(), false, "a").unwrap();
        assert_eq!(files(folder.path()), ["skew/a", "summary.json"]);
    }

    #[test]
    fn what_would_be_replaced_is_known() {
        let folder = tempfile::tempdir().unwrap();
        run(folder.path(), false, "a").unwrap();
        fs::write(folder.path().join("dump"), "").unwrap();
        assert!(replaces(folder.path(), &folder.path().join("skew/../skew/a")));
        assert!(!replaces(folder.path(), &folder.path().join("dump")));
    }
}
