//! The lines that were typed before: a file that only its owner may read.

use std::fs::{DirBuilder, File, OpenOptions, Permissions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

/// The most lines that are kept from one session to the next.
pub(super) const LINES_LIMIT: usize = 1_000;
/// The most bytes of them; older ones go.
const BYTES_LIMIT: u64 = 1 << 20;
/// A longer line is not kept.
pub(super) const LINE_LIMIT: usize = 4 << 10;

/// The file of the history.
pub(super) struct History {
    file: File,
}

/// Where the history is: `drachma/history` in `$XDG_STATE_HOME`, else in `~/.local/state`; nothing without a home.
pub(super) fn place() -> Option<PathBuf> {
    let absolute = |name: &str| std::env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
    let state = absolute("XDG_STATE_HOME").or_else(|| absolute("HOME").map(|home| home.join(".local/state")))?;
    Some(state.join("drachma/history"))
}

impl History {
    /// Opens the file, and makes it if there is none; gives the lines that it has.
    ///
    /// # Errors
    /// If it, or its directory, cannot be made, read or written to.
    pub(super) fn open(path: &Path) -> io::Result<(History, Vec<String>)> {
        if let Some(directory) = path.parent() {
            DirBuilder::new().recursive(true).mode(0o700).create(directory)?;
        }
        let mut file = private().read(true).append(true).create(true).open(path)?;
        // It may be an older one that others may read.
        file.set_permissions(Permissions::from_mode(0o600))?;
        let length = file.metadata()?.len();
        let dropped = length.saturating_sub(BYTES_LIMIT);
        file.seek(SeekFrom::Start(dropped))?;
        let mut bytes = Vec::new();
        (&file).take(BYTES_LIMIT).read_to_end(&mut bytes)?;
        let text = String::from_utf8_lossy(&bytes);
        // The first line of a part lacks its beginning.
        let all: Vec<&str> = text.lines().skip(usize::from(dropped > 0)).filter(|line| is_kept(line)).collect();
        let kept: Vec<String> = all[all.len().saturating_sub(LINES_LIMIT)..].iter().map(ToString::to_string).collect();
        if dropped > 0 || all.len() > kept.len() {
            rewrite(path, &kept)?;
            file = private().append(true).open(path)?;
        }
        Ok((History { file }, kept))
    }

    /// Keeps a line, unless it begins with a blank, or is long.
    ///
    /// # Errors
    /// If the file cannot be written to.
    pub(super) fn add(&mut self, line: &str) -> io::Result<()> {
        // One write: shells that share the file do not tear each other's lines.
        if is_kept(line) { self.file.write_all(format!("{line}\n").as_bytes()) } else { Ok(()) }
    }
}

/// Whether a line is one to keep: not one that begins with a blank, which is how to keep it secret.
pub(super) fn is_kept(line: &str) -> bool {
    !line.is_empty() && line.len() <= LINE_LIMIT && !line.starts_with(char::is_whitespace) && !line.contains('\n')
}

fn private() -> OpenOptions {
    let mut options = OpenOptions::new();
    options.mode(0o600);
    options
}

/// Whole or not at all.
fn rewrite(path: &Path, lines: &[String]) -> io::Result<()> {
    let beside = path.with_extension(format!("{}.new", std::process::id()));
    let mut file = private().write(true).create(true).truncate(true).open(&beside)?;
    lines.iter().try_for_each(|line| writeln!(file, "{line}"))?;
    std::fs::rename(beside, path)
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Scratch(PathBuf);

    impl Scratch {
        fn new(name: &str) -> Scratch {
            let path = std::env::temp_dir().join(format!("drachma-history-{name}-{}", std::process::id()));
            let _ = std::fs::remove_dir_all(&path);
            Scratch(path)
        }

        fn file(&self) -> PathBuf {
            self.0.join("state/drachma/history")
        }
    }

    impl Drop for Scratch {
        fn drop(&mut self) {
            let _ = std::fs::remove_dir_all(&self.0);
        }
    }

    fn mode(path: &Path) -> u32 {
        std::fs::metadata(path).unwrap().permissions().mode() & 0o777
    }

    #[test]
    fn only_its_owner_may_read_it() {
        let scratch = Scratch::new("private");
        let path = scratch.file();
        History::open(&path).unwrap().0.add("put a b").unwrap();
        assert_eq!((mode(&path), mode(path.parent().unwrap())), (0o600, 0o700));
        std::fs::set_permissions(&path, Permissions::from_mode(0o644)).unwrap();
        assert_eq!(History::open(&path).unwrap().1, ["put a b"]);
        assert_eq!(mode(&path), 0o600, "an older file is made private");
    }

    #[test]
    fn as_many_lines_as_the_limit_are_kept_and_older_ones_go() {
        let scratch = Scratch::new("limit");
        let path = scratch.file();
        let mut history = History::open(&path).unwrap().0;
        (0..LINES_LIMIT).for_each(|n| history.add(&format!("get {n}")).unwrap());
        assert_eq!(History::open(&path).unwrap().1.len(), LINES_LIMIT);
        history.add("get last").unwrap();
        let kept = History::open(&path).unwrap().1;
        assert_eq!((kept.len(), kept[0].as_str(), kept[LINES_LIMIT - 1].as_str()), (LINES_LIMIT, "get 1", "get last"));
        assert_eq!(std::fs::read_to_string(&path).unwrap().lines().count(), LINES_LIMIT, "the file, too, is bounded");
        assert_eq!(mode(&path), 0o600);
    }

    #[test]
    fn a_file_of_too_many_bytes_loses_its_beginning() {
        let scratch = Scratch::new("bytes");
        let path = scratch.file();
        drop(History::open(&path).unwrap());
        let line = "x".repeat(LINE_LIMIT);
        std::fs::write(&path, format!("{line}\n").repeat(300)).unwrap();
        let kept = History::open(&path).unwrap().1;
        assert!(kept.len() < 256 && kept.iter().all(|kept| *kept == line), "{}", kept.len());
        assert!(std::fs::metadata(&path).unwrap().len() <= BYTES_LIMIT);
    }

    #[test]
    fn lines_that_are_secret_or_long_are_not_kept() {
        let scratch = Scratch::new("kept");
        let mut history = History::open(&scratch.file()).unwrap().0;
        let long = "x".repeat(LINE_LIMIT);
        for line in ["", " put secret 1", &format!("{long}x"), &long, "a"] {
            history.add(line).unwrap();
        }
        assert_eq!(History::open(&scratch.file()).unwrap().1, [long.as_str(), "a"]);
    }
}
