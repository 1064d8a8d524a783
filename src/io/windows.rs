//! Windows of the stage's record: `DIR/windows/window=NAME-NUMBER`, each the output of one run.

use std::path::{Path, PathBuf};

use anyhow::Result;

use super::whole::files_in;

/// The number at the end of a window's name: they count up, whatever the clock says.
pub fn window_number(name: &str) -> u64 {
    name.rsplit_once('-').and_then(|(_, number)| number.parse().ok()).unwrap_or(0)
}

/// Windows in the order in which they were recorded, of the stage's folder or of the `windows` in it; `None` where it is
/// neither. A folder with a summary is the output of one run.
///
/// # Errors
/// Where a folder cannot be read; the text names it.
pub fn windows_in(folder: &Path) -> Result<Option<Vec<PathBuf>>> {
    if folder.join("summary.json").exists() || !folder.is_dir() {
        return Ok(None);
    }
    let own = windows_of(folder)?;
    let below = folder.join("windows");
    if own.is_empty() && below.is_dir() {
        return windows_of(&below).map(Some);
    }
    let is_theirs = !own.is_empty() || folder.file_name().is_some_and(|name| name == "windows");
    Ok(is_theirs.then_some(own))
}

fn windows_of(folder: &Path) -> Result<Vec<PathBuf>> {
    let name = |path: &Path| path.file_name().and_then(|name| name.to_str()).unwrap_or("").to_owned();
    let mut windows = files_in(folder)?;
    windows.retain(|path| name(path).starts_with("window=") && path.is_dir());
    windows.sort_by_key(|path| window_number(&name(path)));
    Ok(windows)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn made(folders: &[&str]) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        folders.iter().for_each(|name| std::fs::create_dir_all(folder.path().join(name)).unwrap());
        folder
    }

    fn found(folder: &Path) -> Option<Vec<String>> {
        let name = |path: PathBuf| path.file_name().unwrap().to_str().unwrap().to_owned();
        windows_in(folder).unwrap().map(|windows| windows.into_iter().map(name).collect())
    }

    #[test]
    fn windows_stand_in_order_of_their_numbers() {
        let folder = made(&["windows/window=2026-12-01T00-00-00Z-10", "windows/window=2026-12-02T00-00-00Z-9", "log"]);
        std::fs::write(folder.path().join("windows/window=note-11"), "").unwrap();
        let expected = Some(vec!["window=2026-12-02T00-00-00Z-9".into(), "window=2026-12-01T00-00-00Z-10".into()]);
        assert_eq!(found(folder.path()), expected);
        assert_eq!(found(&folder.path().join("windows")), expected);
    }

    #[test]
    fn a_folder_of_windows_may_be_empty_and_that_of_a_run_is_none() {
        let folder = made(&["record/windows", "other", "run/windows/window=a-1"]);
        std::fs::write(folder.path().join("run/summary.json"), "{}").unwrap();
        for empty in ["record", "record/windows"] {
            assert_eq!(found(&folder.path().join(empty)), Some(vec![]));
        }
        for none in ["other", "run", "missing"] {
            assert_eq!(found(&folder.path().join(none)), None, "{none}");
        }
    }
}
