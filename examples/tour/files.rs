//! Which files are counted, and how they are cut into units of work.

use std::ffi::OsString;
use std::fs::{self, File, Metadata};
use std::io::{self, Read};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::failure::{Failure, Result, with_causes};

/// Larger files are cut into units of this many bytes.
pub(crate) const UNIT_LEN: u64 = 256 << 10;

/// A file as it was when it was found.
#[derive(Debug)]
pub(crate) struct Found {
    pub(crate) path: PathBuf,
    pub(crate) len: u64,
    state: State,
}

/// What changes when a file is written to or replaced: its length, its number, its time of modification.
type State = (u64, u64, i64, i64);

fn state(metadata: &Metadata) -> State {
    (metadata.len(), metadata.ino(), metadata.mtime(), metadata.mtime_nsec())
}

/// A piece of work: a file, or a range of a large one. It goes to a worker as it is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Unit {
    /// As the system has it: a path need not be UTF-8.
    pub(crate) path: OsString,
    pub(crate) start: u64,
    pub(crate) end: u64,
    pub(crate) file_len: u64,
}

impl Unit {
    pub(crate) fn len(&self) -> u64 {
        self.end - self.start
    }
}

/// The sources of the workspace that this program was built from.
pub(crate) fn own_sources() -> Result<PathBuf> {
    let examples = Path::new(env!("CARGO_MANIFEST_DIR"));
    match examples.parent() {
        Some(workspace) if examples.is_dir() => Ok(workspace.to_owned()),
        _ => Err(Failure(format!(
            "the sources that this program was built from are gone ({}): name files or directories to count",
            examples.display()
        ))),
    }
}

/// The files that `paths` name: themselves, and all below directories in the order of their names. Symbolic
/// links below directories are not followed; hidden files and directories are left out, and so are `target`
/// directories.
pub(crate) fn find(paths: &[PathBuf]) -> Result<Vec<Found>> {
    let mut found = Vec::new();
    for path in paths {
        let metadata = fs::metadata(path).map_err(Failure::at(path))?;
        if metadata.is_dir() {
            walk(path, &mut found)?;
        } else if metadata.is_file() {
            found.push(Found { path: path.clone(), len: metadata.len(), state: state(&metadata) });
        } else {
            return Err(Failure(format!("{}: neither a file nor a directory", path.display())));
        }
    }
    Ok(found)
}

fn walk(directory: &Path, found: &mut Vec<Found>) -> Result<()> {
    let entries: io::Result<Vec<fs::DirEntry>> = fs::read_dir(directory).and_then(Iterator::collect);
    let mut entries = entries.map_err(Failure::at(directory))?;
    entries.sort_by_key(fs::DirEntry::file_name);
    for entry in entries {
        let (path, name) = (entry.path(), entry.file_name());
        if name.as_encoded_bytes().starts_with(b".") {
            continue;
        }
        // Of the entry itself, not of what a link leads to.
        let metadata = match entry.metadata() {
            Ok(metadata) => metadata,
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            Err(error) => return Err(Failure::at(&path)(error)),
        };
        if metadata.is_dir() && name != "target" {
            walk(&path, found)?;
        } else if metadata.is_file() {
            found.push(Found { path, len: metadata.len(), state: state(&metadata) });
        }
    }
    Ok(())
}

/// Cuts files into units, in order. An empty file is a unit too, so that somebody looks at it.
pub(crate) fn units(files: &[Found]) -> Vec<Unit> {
    let cut = |file: &Found| {
        let (path, file_len) = (file.path.clone().into_os_string(), file.len);
        (0..file_len.div_ceil(UNIT_LEN).max(1)).map(move |index| Unit {
            path: path.clone(),
            start: index * UNIT_LEN,
            end: file_len.min((index + 1) * UNIT_LEN),
            file_len,
        })
    };
    files.iter().flat_map(cut).collect()
}

/// Reads every file once, so that no count that is measured later has to wait for a disk. What cannot be read
/// is told by the counts.
pub(crate) fn warm_up(files: &[Found], mut progress: impl FnMut(u64)) {
    let mut buffer = vec![0; UNIT_LEN as usize];
    for file in files {
        let Ok(mut open) = File::open(&file.path) else { continue };
        while let Ok(len @ 1..) = open.read(&mut buffer) {
            progress(len as u64);
        }
    }
}

/// The files that are not what they were when they were found, with what happened to them.
pub(crate) fn changed(files: &[Found]) -> Vec<String> {
    let change = |file: &Found| match fs::metadata(&file.path) {
        Ok(metadata) if state(&metadata) == file.state => None,
        Ok(_) => Some(format!("{}: changed while it was counted", file.path.display())),
        Err(error) => Some(format!("{}: {}", file.path.display(), with_causes(&error))),
    };
    files.iter().filter_map(change).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(len: u64) -> Found {
        Found { path: "f".into(), len, state: (len, 0, 0, 0) }
    }

    #[test]
    fn units_cover_each_file_once() {
        for len in [0, 1, UNIT_LEN - 1, UNIT_LEN, UNIT_LEN + 1, 3 * UNIT_LEN, 10 * UNIT_LEN + 7] {
            let units = units(&[file(len)]);
            assert_eq!(units.first().unwrap().start, 0);
            assert_eq!(units.last().unwrap().end, len);
            assert!(units.windows(2).all(|pair| pair[0].end == pair[1].start), "{len}");
            assert!(units.iter().all(|unit| unit.len() <= UNIT_LEN && (unit.len() > 0 || len == 0)), "{len}");
        }
        assert_eq!(units(&[file(5), file(0), file(UNIT_LEN + 1)]).len(), 4);
    }

    #[test]
    fn directories_are_walked_in_order_without_what_is_hidden_built_or_linked() {
        let directory = tempfile::tempdir().unwrap();
        let root = directory.path();
        for name in ["b/z", "b/a", ".git", "target", "c"] {
            fs::create_dir_all(root.join(name)).unwrap();
        }
        for name in ["b/z/1", "b/a/2", ".git/x", "target/x", ".hidden", "c/target", "a"] {
            fs::write(root.join(name), "x").unwrap();
        }
        std::os::unix::fs::symlink(root, root.join("c/loop")).unwrap();
        std::os::unix::fs::symlink(root.join("a"), root.join("c/link")).unwrap();
        let found = find(&[root.to_owned()]).unwrap();
        let names: Vec<_> = found.iter().map(|file| file.path.strip_prefix(root).unwrap()).collect();
        assert_eq!(names, ["a", "b/a/2", "b/z/1", "c/target"].map(Path::new));

        // What is named is counted, whatever it is called.
        assert_eq!(find(&[root.join(".hidden"), root.join("c/link")]).unwrap().len(), 2);
    }

    #[test]
    fn a_path_that_is_not_there_is_named() {
        let Failure(text) = find(&["no/such/file".into()]).unwrap_err();
        assert!(text.starts_with("no/such/file: No such file"), "{text}");
        let Failure(text) = find(&["/dev/null".into()]).unwrap_err();
        assert_eq!(text, "/dev/null: neither a file nor a directory");
    }

    #[test]
    fn changes_are_noticed() {
        let directory = tempfile::tempdir().unwrap();
        let (a, b) = (directory.path().join("a"), directory.path().join("b"));
        fs::write(&a, "one").unwrap();
        fs::write(&b, "two").unwrap();
        let files = find(&[a.clone(), b.clone()]).unwrap();
        assert_eq!(changed(&files), [""; 0]);
        fs::write(&a, "one more").unwrap();
        fs::remove_file(&b).unwrap();
        let changes = changed(&files);
        assert!(changes[0].ends_with("/a: changed while it was counted"), "{changes:?}");
        assert!(changes[1].contains("/b: No such file"), "{changes:?}");
    }
}
