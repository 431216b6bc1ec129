//! The files that peers make, all in one directory or with one prefix, so that none is left over.

use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use crate::Error;

/// Where Linux keeps shared memory that has a name.
const SHARED_MEMORY: &str = "/dev/shm";

static DIRECTORY: OnceLock<PathBuf> = OnceLock::new();

/// The directory of this run, made when it is first asked for.
pub(crate) fn directory() -> Result<&'static Path, Error> {
    if let Some(path) = DIRECTORY.get() {
        return Ok(path);
    }
    let path = std::env::temp_dir().join(format!("ipc-peers-{}", std::process::id()));
    std::fs::create_dir(&path).map_err(|error| format!("{}: {error}", path.display()))?;
    Ok(DIRECTORY.get_or_init(|| path))
}

/// What the names of shared memory begin with.
pub(crate) fn prefix(directory: &Path) -> String {
    let name = directory.file_name().unwrap_or_default();
    format!("{}_", name.to_string_lossy())
}

/// Removes what this process made, and what a second process left that was killed.
pub(crate) fn remove() {
    let Some(path) = DIRECTORY.get() else { return };
    let _ = std::fs::remove_dir_all(path);
    let prefix = prefix(path);
    for entry in std::fs::read_dir(SHARED_MEMORY).into_iter().flatten().flatten() {
        if entry.file_name().to_string_lossy().starts_with(&prefix) {
            let _ = std::fs::remove_file(entry.path());
        }
    }
}
