//! Golden files: what a test shows is compared with what is recorded beside the code.
//!
//! `UPDATE_GOLDEN=1 cargo test` records instead of comparing; the difference is then read in version control.
//! A *script* is a golden file that also holds its own input: a line that begins with `> ` or `+ ` is a command, a line
//! that begins with `#` (the first one states the claim) or is empty stays as it is, and every other line is what the
//! commands above it have shown.

#![allow(clippy::disallowed_methods, reason = "a test may read the files that lie beside it")]

use std::fs;
use std::path::PathBuf;

/// Compares `actual` with the file at `path` (relative to this crate's `src`), or records it there.
///
/// # Panics
/// If they differ: shows the first line that does.
pub(crate) fn check(path: &str, actual: &str) {
    let file = file(path);
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        fs::write(&file, actual).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
        return;
    }
    let expected = read(path);
    if expected == actual {
        return;
    }
    let (mut old, mut new) = (expected.lines(), actual.lines());
    for number in 1.. {
        let (old, new) = (old.next(), new.next());
        if old != new || old.is_none() {
            panic!("{path}:{number}: recorded {old:?}\n{:width$}  found    {new:?}", "", width = path.len() + 3);
        }
    }
}

/// Runs the script at `path`: `run` gets each command with its mark (`>` or `+`) and returns the lines that it shows.
///
/// # Panics
/// If the script does not begin with its claim, or shows something else than what is recorded.
pub(crate) fn script(path: &str, mut run: impl FnMut(char, &str) -> Vec<String>) {
    let recorded = read(path);
    assert!(recorded.starts_with("# "), "{path}: the first line states the claim");
    let mut actual = String::new();
    let mut show = |line: &str| {
        actual.push_str(line);
        actual.push('\n');
    };
    for line in recorded.lines() {
        match (line.chars().next(), line.get(2..)) {
            (Some(mark @ ('>' | '+')), Some(command)) => {
                show(line);
                run(mark, command).iter().for_each(|line| show(line));
            }
            (None | Some('#'), _) => show(line),
            _ => {}
        }
    }
    check(path, &actual);
}

/// The names of the files in the directory `path` that end with `.txt`, without that, sorted.
pub(crate) fn names(path: &str) -> Vec<String> {
    let entries = fs::read_dir(file(path)).expect("the directory of the scripts lies beside the code");
    let names = entries.map(|entry| entry.expect("a directory entry").file_name().to_string_lossy().into_owned());
    let mut names: Vec<String> = names.filter_map(|name| name.strip_suffix(".txt").map(str::to_owned)).collect();
    names.sort();
    names
}

fn file(path: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("src").join(path)
}

fn read(path: &str) -> String {
    fs::read_to_string(file(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}
