//! Runs a program to its end, but not for ever.

use std::io::{self, Read};
use std::process::{Command, ExitStatus, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

/// How often to look whether the program has ended.
const LOOK_EVERY: Duration = Duration::from_millis(5);

/// How long a pipe may stay open after the program itself has ended.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(2);

/// How a run went.
#[derive(Debug)]
pub(crate) enum Run {
    /// It ended by itself.
    Ended { status: ExitStatus, stdout: Vec<u8>, stderr: Vec<u8> },
    /// It was killed because its time was over.
    TimedOut,
    /// It ended, but something that it started still holds its output open.
    LeftOutputOpen,
}

/// Runs `command` with an empty stdin and returns its output; after `timeout` it is killed.
pub(crate) fn run(mut command: Command, timeout: Duration) -> io::Result<Run> {
    let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
    let stdout = drain(child.stdout.take().expect("stdout is a pipe"));
    let stderr = drain(child.stderr.take().expect("stderr is a pipe"));
    let deadline = Instant::now() + timeout;
    let status = loop {
        if let Some(status) = child.try_wait()? {
            break status;
        }
        if Instant::now() >= deadline {
            child.kill()?;
            child.wait()?;
            return Ok(Run::TimedOut);
        }
        thread::sleep(LOOK_EVERY);
    };
    match (stdout.recv_timeout(DRAIN_TIMEOUT), stderr.recv_timeout(DRAIN_TIMEOUT)) {
        (Ok(stdout), Ok(stderr)) => Ok(Run::Ended { status, stdout: stdout?, stderr: stderr? }),
        _ => Ok(Run::LeftOutputOpen),
    }
}

/// Reads a pipe to its end on a thread of its own, so that neither pipe can fill up.
fn drain(mut pipe: impl Read + Send + 'static) -> mpsc::Receiver<io::Result<Vec<u8>>> {
    let (sender, receiver) = mpsc::channel();
    thread::spawn(move || {
        let mut bytes = Vec::new();
        let result = pipe.read_to_end(&mut bytes).map(|_| bytes);
        // Nobody listens any more once the run has been given up.
        let _ = sender.send(result);
    });
    receiver
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(script: &str) -> Command {
        let mut command = Command::new("sh");
        command.args(["-c", script]);
        command
    }

    #[test]
    fn returns_both_outputs_and_the_status() {
        let run = run(shell("read line; echo out; echo err >&2; exit 3"), Duration::from_secs(60)).unwrap();
        let Run::Ended { status, stdout, stderr } = run else { panic!("{run:?}") };
        assert_eq!(
            (status.code(), stdout.as_slice(), stderr.as_slice()),
            (Some(3), &b"out\n"[..], &b"err\n"[..])
        );
    }

    #[test]
    fn output_larger_than_a_pipe_does_not_block() {
        let run = run(shell("head -c 1000000 /dev/zero"), Duration::from_secs(60)).unwrap();
        let Run::Ended { status, stdout, .. } = run else { panic!("{run:?}") };
        assert!(status.success());
        assert_eq!(stdout.len(), 1_000_000);
    }

    #[test]
    fn kills_what_does_not_end() {
        let begin = Instant::now();
        let run = run(shell("exec sleep 600"), Duration::from_millis(100)).unwrap();
        assert!(matches!(run, Run::TimedOut), "{run:?}");
        assert!(begin.elapsed() >= Duration::from_millis(100));
    }

    #[test]
    fn notices_a_process_left_behind() {
        let run = run(shell("sleep 20 & exit 0"), Duration::from_secs(60)).unwrap();
        assert!(matches!(run, Run::LeftOutputOpen), "{run:?}");
    }
}
