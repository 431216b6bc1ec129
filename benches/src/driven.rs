//! A program that does a block of operations for each line that it is given, and answers with the seconds it took.

use std::fmt::Display;
use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::time::Duration;

use crate::harness::Error;

/// Such a program, which waits for blocks to do; it is to end when it gets no more.
pub(crate) struct Driven {
    name: &'static str,
    child: Child,
    answers: BufReader<ChildStdout>,
}

impl Driven {
    pub(crate) fn start(name: &'static str, command: &mut Command) -> Result<Self, Error> {
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .map_err(|error| format!("cannot start {name}: {error}"))?;
        let answers = BufReader::new(child.stdout.take().ok_or("no output of a program")?);
        Ok(Driven { name, child, answers })
    }

    /// Has it do what `line` says.
    pub(crate) fn block(&mut self, line: impl Display) -> Result<Duration, Error> {
        let input = self.child.stdin.as_mut().ok_or("no input of a program")?;
        // One write, so that the program is woken once, with the whole line.
        input.write_all(format!("{line}\n").as_bytes())?;
        let mut answer = String::new();
        if self.answers.read_line(&mut answer)? == 0 {
            return Err(format!("{} has ended without an answer to `{line}`", self.name).into());
        }
        Ok(Duration::from_secs_f64(answer.trim().parse()?))
    }
}

impl Drop for Driven {
    fn drop(&mut self) {
        drop(self.child.stdin.take());
        let _ = self.child.wait();
    }
}
