//! What several files of these tests use.

use std::fs::File;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};

use ipc_shm::Segment;

/// A name that no other test has; taken away when it is dropped.
#[derive(Debug)]
pub(crate) struct Name(pub(crate) String);

impl Name {
    pub(crate) fn new(test: &str) -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        Name(format!("ipc-shm-test-{test}-{}-{count}", std::process::id()))
    }

    pub(crate) fn path(&self) -> PathBuf {
        PathBuf::from(format!("/dev/shm/{}", self.0))
    }

    /// The file as any other program opens it.
    pub(crate) fn file(&self) -> File {
        File::options().read(true).write(true).open(self.path()).unwrap()
    }
}

impl Drop for Name {
    fn drop(&mut self) {
        let _gone_before = Segment::unlink_name(&self.0);
    }
}

impl std::ops::Deref for Name {
    type Target = str;
    fn deref(&self) -> &str {
        &self.0
    }
}
