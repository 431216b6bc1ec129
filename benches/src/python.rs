//! CPython beside us: a program that does a block of operations for each line that it is given.

use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use crate::driven::Driven;
use crate::harness::Error;

/// A CPython that waits for blocks to do.
pub(crate) struct Python {
    program: Driven,
    /// Holds the program, which its children read again.
    _directory: Directory,
}

struct Directory(std::path::PathBuf);

impl Drop for Directory {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

impl Python {
    /// Starts it. For each line, of an operation's name (if any) and a number, the program does so many and answers
    /// with the seconds that they took.
    pub(crate) fn start(program: &str) -> Result<Self, Error> {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let name = format!("ipc-bench-{}-{count}", std::process::id());
        let directory = Directory(std::env::temp_dir().join(name));
        std::fs::create_dir(&directory.0)?;
        let path = directory.0.join("program.py");
        std::fs::write(&path, program)?;
        let program = Driven::start("python3", Command::new("python3").arg(path))?;
        Ok(Python { program, _directory: directory })
    }

    pub(crate) fn block(&mut self, operation: &str, count: u64) -> Result<Duration, Error> {
        self.program.block(format_args!("{operation} {count}"))
    }
}
