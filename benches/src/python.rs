//! CPython beside us: a program that does a block of operations for each line that it is given.

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use crate::harness::Error;

/// A CPython that waits for blocks to do.
pub(crate) struct Python {
    child: Child,
    answers: BufReader<ChildStdout>,
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
        let mut child =
            Command::new("python3").arg(path).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
        let answers = BufReader::new(child.stdout.take().ok_or("no output of python3")?);
        Ok(Python { child, answers, _directory: directory })
    }

    pub(crate) fn block(&mut self, operation: &str, count: u64) -> Result<Duration, Error> {
        let input = self.child.stdin.as_mut().ok_or("no input of python3")?;
        writeln!(input, "{operation} {count}")?;
        let mut line = String::new();
        self.answers.read_line(&mut line)?;
        Ok(Duration::from_secs_f64(line.trim().parse()?))
    }
}

impl Drop for Python {
    fn drop(&mut self) {
        drop(self.child.stdin.take());
        let _ = self.child.wait();
    }
}
