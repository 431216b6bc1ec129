//! CPython beside us: a program that does a block of operations for each line that it is given.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use crate::directory::Directory;
use crate::driven::Driven;
use crate::harness::Error;
use crate::place::Placement;

/// A CPython that waits for blocks to do.
pub(crate) struct Python {
    program: Driven,
    /// Holds the program, which its children read again.
    directory: Directory,
}

impl Python {
    /// Starts it. For each line, of an operation's name (if any) and a number, the program does so many and answers
    /// with the seconds that they took.
    pub(crate) fn start(program: &str) -> Result<Self, Error> {
        let directory = Directory::new()?;
        let path = directory.path().join("program.py");
        std::fs::write(&path, program)?;
        let program = Driven::start("python3", Command::new("python3").arg(path))?;
        Ok(Python { program, directory })
    }

    /// Starts it with the numbers of the cores in the places of `OURS` and `THEIRS`. Where it cannot be started, says so.
    pub(crate) fn placed(bench: &str, program: &str, placement: Placement) -> Option<Self> {
        let program = program
            .replace("OURS", &placement.ours.to_string())
            .replace("THEIRS", &placement.theirs.to_string());
        Python::start(&program)
            .inspect_err(|error| println!("{bench}: CPython is not measured: {error}"))
            .ok()
    }

    /// Where its program lies, and what that makes.
    pub(crate) fn directory(&self) -> &Path {
        self.directory.path()
    }

    pub(crate) fn block(&mut self, operation: &str, count: u64) -> Result<Duration, Error> {
        self.program.block(format_args!("{operation} {count}"))
    }
}
