//! The second process: this program once more, told by the first what to do.

use std::fmt;
use std::io::{BufRead, BufReader, Write};
use std::process::{ChildStdin, ChildStdout, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering::{Acquire, Release};
use std::thread::JoinHandle;
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::message::Operation;
use crate::place::now;
use crate::settings::Settings;
use crate::{Error, scratch};

/// What the second process says when it begins a block.
const READY: &str = "ready";

/// The second process of a peer, as the first one sees it.
pub(crate) struct Second {
    pid: Pid,
    /// Closed, it ends the second process.
    commands: Option<ChildStdin>,
    answers: BufReader<ChildStdout>,
    in_block: bool,
    /// It is meant to end.
    ends: Arc<AtomicBool>,
    watch: Option<JoinHandle<()>>,
}

impl Second {
    /// Starts it; returns what it says once it is there.
    pub(crate) fn start(peer: &'static str, settings: Settings) -> Result<(Self, String), Error> {
        let scratch = scratch::directory()?;
        let mut child = Command::new(std::env::current_exe()?)
            .args(settings.arguments())
            .args(["--second", peer])
            .arg(scratch)
            .env("TMPDIR", scratch)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        let pid = Pid::from_raw(child.id() as i32);
        let commands = child.stdin.take();
        let answers = BufReader::new(child.stdout.take().ok_or("no output of the second process")?);
        let ends = Arc::new(AtomicBool::new(false));
        let expected = Arc::clone(&ends);
        // The first process waits for the second in loops that nothing else would end.
        let watch = std::thread::spawn(move || {
            let status = child.wait();
            if expected.load(Acquire) {
                return;
            }
            match status {
                Ok(status) if status.code() == Some(1) => {
                    // It has said why.
                    scratch::remove();
                    std::process::exit(1);
                }
                Ok(status) => crate::fail(format_args!("the second process of {peer} ended: {status}")),
                Err(error) => crate::fail(format_args!("the second process of {peer} is lost: {error}")),
            }
        });
        let mut second = Second { pid, commands, answers, in_block: false, ends, watch: Some(watch) };
        let said = second.answer();
        Ok((second, said))
    }

    /// Does a block with it: `ours` is what this side does, from when both are ready until both are done.
    pub(crate) fn block(
        &mut self,
        operation: Operation,
        count: u64,
        ours: impl FnOnce() -> Result<(), Error>,
    ) -> Result<Duration, Error> {
        self.in_block = true;
        let Some(commands) = &mut self.commands else { return Err("the second process has ended".into()) };
        if writeln!(commands, "{operation} {count}").is_err() {
            wait_for_the_end();
        }
        if self.answer() != READY {
            return Err("the second process is not ready".into());
        }
        let start = now()?;
        ours()?;
        let ours = now()?;
        let theirs = Duration::from_nanos(self.answer().parse()?);
        self.in_block = false;
        Ok(ours.max(theirs).saturating_sub(start))
    }

    fn answer(&mut self) -> String {
        let mut line = String::new();
        match self.answers.read_line(&mut line) {
            Ok(length) if length > 0 => line.trim_end().to_owned(),
            _ => wait_for_the_end(),
        }
    }
}

impl Drop for Second {
    fn drop(&mut self) {
        self.ends.store(true, Release);
        self.commands = None;
        // In a block it may wait for messages that nobody sends any more.
        if self.in_block {
            let _ = kill(self.pid, Signal::SIGKILL);
        }
        if let Some(watch) = self.watch.take() {
            let _ = watch.join();
        }
    }
}

/// Leaves it to the watching thread to say that the second process is gone and to end this one.
fn wait_for_the_end() -> ! {
    loop {
        std::thread::park();
    }
}

/// The second process does not outlive the first, whatever it waits for.
pub(crate) fn end_with_the_first() -> Result<(), Error> {
    Ok(nix::sys::prctl::set_pdeathsig(Signal::SIGKILL)?)
}

/// One line to who started this process.
pub(crate) fn say(what: impl fmt::Display) -> Result<(), Error> {
    let mut out = std::io::stdout().lock();
    writeln!(out, "{what}")?;
    Ok(out.flush()?)
}

/// Does the blocks that the first process asks for, until it asks for no more.
pub(crate) fn serve(mut block: impl FnMut(Operation, u64) -> Result<(), Error>) -> Result<(), Error> {
    for line in std::io::stdin().lines() {
        let line = line?;
        let (operation, count) = line.split_once(' ').ok_or("half a command")?;
        let (operation, count) = (operation.parse()?, count.parse()?);
        say(READY)?;
        block(operation, count)?;
        say(now()?.as_nanos())?;
    }
    Ok(())
}
