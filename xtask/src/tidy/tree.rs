//! The text files of the source tree.

use std::path::{Component, Path, PathBuf};
use std::{fs, io};

use crate::failure::{Failure, Outcome};

/// Directories with nothing of ours in them: what builds, version control and fuzzing leave.
const SKIPPED_DIRS: [&str; 5] = ["target", ".git", "corpus", "artifacts", "coverage"];

/// Files that are not written by us: texts of others, and what tools generate.
const SKIPPED_FILES: [&str; 2] = ["Cargo.lock", "LICENSE-APACHE"];

/// A text file: its path from the root, with `/` between the parts, and its text.
#[derive(Clone, Debug)]
pub(super) struct File {
    pub(super) path: String,
    pub(super) text: String,
}

#[cfg(test)]
impl File {
    pub(super) fn new(path: &str, text: &str) -> File {
        File { path: path.into(), text: text.into() }
    }
}

/// All text files below `root`, in order; what is not UTF-8 is no text.
pub(super) fn files(root: &Path) -> Outcome<Vec<File>> {
    let mut found = Vec::new();
    let mut dirs = vec![root.to_path_buf()];
    while let Some(dir) = dirs.pop() {
        for entry in fs::read_dir(&dir).map_err(Failure::io(dir.display()))? {
            let entry = entry.map_err(Failure::io(dir.display()))?;
            let (path, name) = (entry.path(), entry.file_name());
            let kind = entry.file_type().map_err(Failure::io(path.display()))?;
            if kind.is_dir() && !SKIPPED_DIRS.iter().any(|skipped| name == *skipped) {
                dirs.push(path);
            } else if kind.is_file() && !SKIPPED_FILES.iter().any(|skipped| name == *skipped) {
                match fs::read_to_string(&path) {
                    Ok(text) => found.push(File { path: relative(root, &path), text }),
                    Err(error) if error.kind() == io::ErrorKind::InvalidData => {}
                    // Another process may have removed it since it was listed.
                    Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                    Err(error) => return Err(Failure::io(path.display())(error)),
                }
            }
        }
    }
    found.sort_by(|a, b| a.path.cmp(&b.path));
    Ok(found)
}

/// The text of one file that has to be there.
pub(super) fn read(root: &Path, path: &str) -> Outcome<String> {
    fs::read_to_string(root.join(path)).map_err(Failure::io(path))
}

/// `path` as seen from `root`.
pub(super) fn relative(root: &Path, path: &Path) -> String {
    path.strip_prefix(root).unwrap_or(path).to_string_lossy().into_owned()
}

/// `target` as seen from the directory of the file `from`, without `.` and `..`; `None` if it leads out of
/// the tree.
pub(super) fn resolve(from: &str, target: &str) -> Option<String> {
    let mut parts = PathBuf::new();
    let dir = Path::new(from).parent().unwrap_or(Path::new(""));
    for part in dir.join(target).components() {
        match part {
            Component::Normal(name) => parts.push(name),
            Component::CurDir => {}
            Component::ParentDir if parts.pop() => {}
            Component::ParentDir | Component::RootDir | Component::Prefix(_) => return None,
        }
    }
    Some(parts.to_string_lossy().into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_files_of_all_kinds() {
        let files = files(crate::cargo::root()).unwrap();
        let has = |path: &str| files.iter().any(|file| file.path == path && !file.text.is_empty());
        assert!(has("xtask/src/tidy/tree.rs") && has("Cargo.toml") && has(".ci/run"));
        assert!(files.iter().all(|file| !file.path.contains("target/")));
    }

    #[test]
    fn resolves_from_the_directory_of_the_file() {
        assert_eq!(resolve("docs/a.md", "../crates/./x/README.md").as_deref(), Some("crates/x/README.md"));
        assert_eq!(resolve("README.md", "docs").as_deref(), Some("docs"));
        assert_eq!(resolve("docs/a.md", "../../outside.md"), None);
        assert_eq!(resolve("docs/a.md", "/etc/passwd"), None);
    }
}
