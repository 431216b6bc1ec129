//! A directory of our own, for programs and sockets.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};

/// Below the system's directory for such; taken away with all that is in it.
pub(crate) struct Directory(PathBuf);

impl Directory {
    pub(crate) fn new() -> std::io::Result<Self> {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let name = format!("ipc-bench-{}-{}", std::process::id(), COUNT.fetch_add(1, Relaxed));
        let directory = Directory(std::env::temp_dir().join(name));
        std::fs::create_dir(&directory.0)?;
        Ok(directory)
    }

    pub(crate) fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}
