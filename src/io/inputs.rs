//! Arguments → files to read, each with the path its output goes to.

use std::collections::{BTreeMap, HashSet};
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::detect::detect;

/// A file to read.
#[derive(Clone, Debug)]
pub struct Input {
    /// Where it is read from.
    pub path: PathBuf,
    /// Where its output goes, below the output folder. No two inputs have the same.
    pub target: PathBuf,
    /// Keeps what standard input was copied to.
    spooled: Option<Arc<Spooled>>,
}

impl Input {
    /// Whether it came through standard input, in which case `path` means nothing to the user.
    pub fn is_stdin(&self) -> bool {
        self.spooled.is_some()
    }
}

/// An argument, or a file of one, that cannot be read; the others can.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}: {reason}", input.display())]
pub struct InputProblem {
    pub input: PathBuf,
    pub reason: String,
}

/// What the arguments come to.
#[derive(Clone, Debug, Default)]
pub struct Inputs {
    /// In the order of their targets.
    pub inputs: Vec<Input>,
    pub problems: Vec<InputProblem>,
}

/// Arguments that cannot be meant.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum UsageError {
    #[error("{} and {} would both be written to {}; give their common folder instead", first.display(), second.display(), target.display())]
    Collision { target: PathBuf, first: PathBuf, second: PathBuf },
    #[error("{pattern}: {reason}")]
    Pattern { pattern: String, reason: String },
}

impl Inputs {
    /// These, and others behind them.
    #[must_use]
    pub fn followed_by(mut self, others: Self) -> Self {
        self.inputs.extend(others.inputs);
        self.problems.extend(others.problems);
        self
    }
}

/// Resolves files, folders (whole), patterns and `-`. A file that is named in two ways is read once.
/// In folders, names that begin with a dot are passed over, as are links to folders (they can go round).
///
/// # Errors
/// Where two inputs would have one target, or a pattern is not well-formed.
pub fn resolve(arguments: &[String], stdin: &mut dyn Read) -> Result<Inputs, UsageError> {
    let mut found = Found::default();
    for argument in arguments {
        let path = Path::new(argument);
        if argument == "-" {
            found.stdin(stdin)?;
        } else if path.exists() || !argument.contains(['*', '?', '[']) {
            let before = found.looked_at;
            found.add(path, path.is_dir().then_some(path))?;
            if found.looked_at == before {
                found.problem(path, "no file in this folder");
            }
        } else {
            found.pattern(argument)?;
        }
    }
    found.problems.sort_by(|a, b| a.input.cmp(&b.input));
    Ok(Inputs { inputs: found.by_target.into_values().collect(), problems: found.problems })
}

#[derive(Default)]
struct Found {
    by_target: BTreeMap<PathBuf, Input>,
    /// The files themselves, whatever they were called.
    seen: HashSet<PathBuf>,
    problems: Vec<InputProblem>,
    /// Files and failures so far, one for every time it was named.
    looked_at: usize,
}

impl Found {
    fn problem(&mut self, input: &Path, reason: impl ToString) {
        self.looked_at += 1;
        self.problems.push(InputProblem { input: input.to_owned(), reason: reason.to_string() });
    }

    /// A file, or a folder and all below it; targets are paths below `base`, or without one the file's own name.
    fn add(&mut self, path: &Path, base: Option<&Path>) -> Result<(), UsageError> {
        let (file_type, same) = match fs::metadata(path).and_then(|it| Ok((it, fs::canonicalize(path)?))) {
            Ok((metadata, same)) => (metadata.file_type(), same),
            Err(error) => {
                self.problem(path, error);
                return Ok(());
            }
        };
        if file_type.is_dir() {
            return self.folder(path, base);
        }
        self.looked_at += 1;
        let target = base.and_then(|base| path.strip_prefix(base).ok()).map(Path::to_owned);
        let target = target.or_else(|| path.file_name().map(PathBuf::from)).unwrap_or_default();
        if self.seen.insert(same) {
            self.insert(Input { path: path.to_owned(), target, spooled: None })?;
        }
        Ok(())
    }

    fn folder(&mut self, path: &Path, base: Option<&Path>) -> Result<(), UsageError> {
        let mut children = match fs::read_dir(path).and_then(Iterator::collect::<io::Result<Vec<_>>>) {
            Ok(children) => children,
            Err(error) => {
                self.problem(path, error);
                return Ok(());
            }
        };
        children.sort_by_key(fs::DirEntry::file_name);
        for child in children {
            let is_hidden = child.file_name().as_encoded_bytes().starts_with(b".");
            let is_link = child.file_type().is_ok_and(|kind| kind.is_symlink());
            let goes_round = is_link && child.path().is_dir();
            if !is_hidden && !goes_round {
                self.add(&child.path(), base)?;
            }
        }
        Ok(())
    }

    fn pattern(&mut self, pattern: &str) -> Result<(), UsageError> {
        let matches = glob::glob(pattern)
            .map_err(|error| UsageError::Pattern { pattern: pattern.to_owned(), reason: error.msg.to_owned() })?;
        let base = fixed_prefix(pattern);
        let mut is_empty = true;
        for path in matches {
            is_empty = false;
            match path {
                Ok(path) => self.add(&path, Some(&base))?,
                Err(error) => self.problem(error.path(), error.error()),
            }
        }
        if is_empty {
            self.problem(Path::new(pattern), "no file matches");
        }
        Ok(())
    }

    fn stdin(&mut self, stdin: &mut dyn Read) -> Result<(), UsageError> {
        let name = Path::new("-");
        if !self.seen.insert(name.to_owned()) {
            return Ok(());
        }
        match Spooled::copy(stdin) {
            Ok(spooled) => {
                // What is not known gets its error when it is read, as any other file does.
                let extension = detect(&spooled.path).ok().flatten().map_or("bin", |layout| layout.extension());
                let target = PathBuf::from(format!("stdin.{extension}"));
                self.insert(Input { path: spooled.path.clone(), target, spooled: Some(Arc::new(spooled)) })
            }
            Err(error) => {
                self.problem(name, error);
                Ok(())
            }
        }
    }

    fn insert(&mut self, input: Input) -> Result<(), UsageError> {
        let shown = |input: &Input| if input.is_stdin() { PathBuf::from("-") } else { input.path.clone() };
        if let Some(first) = self.by_target.get(&input.target) {
            return Err(UsageError::Collision { first: shown(first), second: shown(&input), target: input.target });
        }
        self.by_target.insert(input.target.clone(), input);
        Ok(())
    }
}

/// The folders before the first part that is a pattern.
fn fixed_prefix(pattern: &str) -> PathBuf {
    let parts = Path::new(pattern).components();
    parts.take_while(|part| !part.as_os_str().to_string_lossy().contains(['*', '?', '['])).collect()
}

/// Standard input in a file, so that it can be read twice; removed with the last input that reads it.
#[derive(Debug)]
struct Spooled {
    path: PathBuf,
}

impl Spooled {
    fn copy(stdin: &mut dyn Read) -> io::Result<Self> {
        let (path, mut file) = create_private(&std::env::temp_dir())?;
        let spooled = Self { path };
        io::copy(stdin, &mut file)?;
        Ok(spooled)
    }
}

impl Drop for Spooled {
    fn drop(&mut self) {
        // Nobody to tell, and nothing to do about it.
        let _ = fs::remove_file(&self.path);
    }
}

/// A new file that nobody else may read: traces can hold secrets, and the folder is everybody's.
fn create_private(folder: &Path) -> io::Result<(PathBuf, File)> {
    let mut options = OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let mut attempt = 0;
    loop {
        let path = folder.join(format!("unskew-stdin-{}-{attempt}", std::process::id()));
        match options.open(&path) {
            Ok(file) => return Ok((path, file)),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists && attempt < 10_000 => attempt += 1,
            Err(error) => return Err(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Resolves arguments against files made in a fresh folder (`F` stands for it): targets with what they hold,
    /// then problems, then the usage error.
    fn check(files: &[&str], arguments: &[&str], expected: &[&str]) {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().to_str().unwrap().to_owned();
        for file in files {
            let path = folder.path().join(file);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(&path, file).unwrap();
        }
        let arguments: Vec<String> = arguments.iter().map(|argument| argument.replace('F', &root)).collect();
        let told: Vec<String> = match resolve(&arguments, &mut &b"{}\n"[..]) {
            Ok(Inputs { inputs, problems }) => {
                let inputs = inputs.iter().map(|input| {
                    format!("{} <- {}", input.target.display(), fs::read_to_string(&input.path).unwrap().trim())
                });
                inputs.chain(problems.iter().map(|problem| format!("! {problem}").replace(&root, "F"))).collect()
            }
            Err(error) => vec![error.to_string().replace(&root, "F")],
        };
        assert_eq!(told, expected);
    }

    #[test]
    fn targets_are_names_and_paths_below() {
        check(&["a.json", "b.json"], &["F/b.json", "F/a.json"], &["a.json <- a.json", "b.json <- b.json"]);
        check(&["d/x/1", "d/2"], &["F/d"], &["2 <- d/2", "x/1 <- d/x/1"]);
        check(&["d/x/1", "d/y/1", "d/2"], &["F/d/*/1"], &["x/1 <- d/x/1", "y/1 <- d/y/1"]);
        check(&["d/x/1", "d/x/.part", "d/2"], &["F/d/*"], &["2 <- d/2", "x/1 <- d/x/1"]);
        check(&["d/[1]"], &["F/d/[1]"], &["[1] <- d/[1]"]);
        check(&["a"], &["-", "F/a", "-"], &["a <- a", "stdin.jsonl <- {}"]);
    }

    #[test]
    fn a_file_is_read_once() {
        check(&["d/a"], &["F/d/a", "F/d/../d/a", "F/d", "F/*/a"], &["a <- d/a"]);
    }

    #[test]
    fn a_folder_without_files_is_told() {
        check(&["d/.hidden", "e"], &["F/d", "F/e"], &["e <- e", "! F/d: no file in this folder"]);
    }

    #[test]
    fn missing_files_do_not_stop_the_others() {
        check(
            &["a"],
            &["F/none", "F/a", "F/*.nope"],
            &["a <- a", "! F/*.nope: no file matches", "! F/none: No such file or directory (os error 2)"],
        );
    }

    #[test]
    fn colliding_targets_are_refused() {
        check(
            &["x/a", "y/a"],
            &["F/x/a", "F/y/a"],
            &["F/x/a and F/y/a would both be written to a; give their common folder instead"],
        );
        check(&["a"], &["F/a***"], &["F/a***: wildcards are either regular `*` or recursive `**`"]);
    }

    #[test]
    fn standard_input_is_kept_as_long_as_it_is_read() {
        let found = resolve(&["-".to_owned()], &mut &b"\x00\x01"[..]).unwrap();
        let input = found.inputs[0].clone();
        drop(found);
        assert!(input.is_stdin() && input.target == Path::new("stdin.bin"));
        assert_eq!(fs::read(&input.path).unwrap(), b"\x00\x01");
        let path = input.path.clone();
        drop(input);
        assert!(!path.exists());
    }

    #[cfg(unix)]
    #[test]
    fn links_to_folders_do_not_go_round() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("a"), "").unwrap();
        std::os::unix::fs::symlink(folder.path(), folder.path().join("round")).unwrap();
        std::os::unix::fs::symlink(folder.path().join("gone"), folder.path().join("dangling")).unwrap();
        let found = resolve(&[folder.path().to_str().unwrap().to_owned()], &mut io::empty()).unwrap();
        assert_eq!((found.inputs.len(), found.problems.len()), (1, 1));
    }
}
