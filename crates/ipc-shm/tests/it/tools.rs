//! What several files of these tests use.

use std::fs::File;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};

use ipc_process::{JoinError, PidFd, Process};
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

/// Ends this process with SIGKILL.
pub(crate) fn die() -> ! {
    PidFd::of_self().unwrap().signal(9).unwrap();
    unreachable!("SIGKILL is delivered before the call returns")
}

/// The process has died by SIGKILL.
#[track_caller]
pub(crate) fn assert_killed<R: serde::de::DeserializeOwned + std::fmt::Debug>(process: Process<R>) {
    let joined = process.join();
    assert!(matches!(joined, Err(JoinError::Killed { signal: 9, .. })), "{joined:?}");
}

/// Bytes of which each position tells where it is.
pub(crate) fn pattern(len: usize) -> Vec<u8> {
    (0..len).map(|i| (i ^ (i >> 8) ^ (i >> 16)) as u8).collect()
}
