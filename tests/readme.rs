//! Every command that the README shows with its output gives that output.
//!
//! After a change that means to alter it: `UNSKEW_BLESS=1 cargo test --test readme`, and read the difference.

use std::path::Path;
use std::process::Command;

/// What the README calls the program.
const PROGRAM: &str = "$ cargo run --release -- ";

/// The README with the output of every `console` block as the program gives it now.
fn as_it_is_now(readme: &str) -> String {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut text = String::new();
    let mut lines = readme.lines();
    while let Some(line) = lines.next() {
        text += &format!("{line}\n");
        if line != "```console" {
            continue;
        }
        let command = lines.next().unwrap();
        let arguments = command.strip_prefix(PROGRAM).unwrap_or_else(|| panic!("{command}: not {PROGRAM}…"));
        let folder = tempfile::tempdir().unwrap();
        std::os::unix::fs::symlink(root.join("sample-traces"), folder.path().join("sample-traces")).unwrap();
        let run = Command::new(env!("CARGO_BIN_EXE_unskew"))
            .args(arguments.split_whitespace())
            .current_dir(folder.path())
            .output()
            .unwrap();
        assert!(run.status.success(), "{command}: {}", String::from_utf8_lossy(&run.stderr));
        text += &format!("{command}\n{}```\n", String::from_utf8(run.stdout).unwrap());
        assert!(lines.any(|line| line == "```"), "{command}: the block does not end");
    }
    text
}

#[test]
fn the_readme_shows_what_the_program_gives() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("README.md");
    let readme = std::fs::read_to_string(&path).unwrap();
    assert!(readme.matches("```console\n").count() >= 2);
    let now = as_it_is_now(&readme);
    if std::env::var_os("UNSKEW_BLESS").is_some() {
        std::fs::write(&path, &now).unwrap();
    } else if let Some((was, is)) = readme.lines().zip(now.lines()).find(|(was, is)| was != is) {
        panic!("README.md shows\n{was}\nand the program gives\n{is}\n(UNSKEW_BLESS=1 writes the README anew)");
    } else {
        assert_eq!(readme, now);
    }
}
