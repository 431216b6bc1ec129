//! Starting a function in a process beside starting the same executable with nothing to do.

use std::io::{BufRead, BufReader, Write};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use ipc::process::Process;
use ipc_os::pidfd::Exit;
use ipc_os::spawn::Spawn;

use crate::harness::{Bench, Error, Subject, Target, Unit};

/// Tells this executable to end at once in `main`.
pub(crate) const EXIT_AT_ONCE: &str = "--exit-at-once";

/// The machine's limit: this executable by posix_spawn, ending at once, and a wait for it.
fn raw(count: u64) -> Result<Duration, Error> {
    let start = Instant::now();
    for _ in 0..count {
        let spawned = Spawn::new("/proc/self/exe").args([EXIT_AT_ONCE]).env(std::env::vars_os()).start()?;
        if spawned.pidfd.wait_and_reap()? != Exit::Code(0) {
            return Err("the executable did not end well".into());
        }
    }
    Ok(start.elapsed())
}

fn trivial(number: u64) -> u64 {
    number + 1
}

fn ours(count: u64) -> Result<Duration, Error> {
    let start = Instant::now();
    for number in 0..count {
        if Process::spawn(trivial, (number,))?.join()? != number + 1 {
            return Err("a worker returned something else".into());
        }
    }
    Ok(start.elapsed())
}

const TOUCHED_MIB: usize = 256;

/// Memory that this process really has.
fn touched() -> Vec<u8> {
    let mut memory = vec![0u8; TOUCHED_MIB << 20];
    for page in memory.chunks_mut(4096) {
        page[0] = 1;
    }
    memory
}

pub(crate) fn run(bench: &mut Bench) -> Result<(), Error> {
    bench.compare(
        "start and join",
        Unit::Microseconds,
        20,
        1,
        vec![
            Subject::new("posix_spawn and wait", raw),
            Subject::new("ipc", ours).against("posix_spawn and wait", Target::AtMost(1.3)),
        ],
    )?;

    let large = |count| {
        let memory = touched();
        // Touching has emptied the caches, which is not what is measured.
        ours(2)?;
        let time = ours(count);
        drop(std::hint::black_box(memory));
        time
    };
    bench.compare(
        &format!("start and join, parent with {TOUCHED_MIB} MiB more"),
        Unit::Microseconds,
        20,
        1,
        vec![
            Subject::new("ipc, small parent", ours).form_of_ipc("start and join, between those with 256 MiB"),
            Subject::new("ipc", large).against("ipc, small parent", Target::AtMost(1.1)),
        ],
    )?;

    match Python::start() {
        Ok(mut python) => bench.compare_turns(
            if bench.is_quick() { 5 } else { 15 },
            "start and join, beside CPython (spawn)",
            Unit::Microseconds,
            4,
            1,
            vec![
                Subject::new("CPython Process", move |count| python.block(count)),
                Subject::new("ipc", ours).against("CPython Process", None),
            ],
        )?,
        Err(error) => println!("spawn: CPython is not measured: {error}"),
    }
    Ok(())
}

/// A CPython that starts and joins processes when told to.
struct Python {
    child: std::process::Child,
    answers: BufReader<std::process::ChildStdout>,
    /// Holds the program, which its children read again.
    _directory: Directory,
}

struct Directory(std::path::PathBuf);

impl Drop for Directory {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// Takes a number from each line, starts and joins so many processes, answers with the seconds it took.
const PROGRAM: &str = "\
import multiprocessing, sys, time
def trivial(number):
    pass
if __name__ == '__main__':
    context = multiprocessing.get_context('spawn')
    for line in sys.stdin:
        start = time.perf_counter()
        for number in range(int(line)):
            process = context.Process(target=trivial, args=(number,))
            process.start()
            process.join()
        print(time.perf_counter() - start, flush=True)
";

impl Python {
    fn start() -> Result<Self, Error> {
        let directory = Directory(std::env::temp_dir().join(format!("ipc-bench-{}", std::process::id())));
        std::fs::create_dir(&directory.0)?;
        let program = directory.0.join("spawn.py");
        std::fs::write(&program, PROGRAM)?;
        let mut child =
            Command::new("python3").arg(program).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
        let answers = BufReader::new(child.stdout.take().ok_or("no output of python3")?);
        let mut python = Python { child, answers, _directory: directory };
        python.block(1)?;
        Ok(python)
    }

    fn block(&mut self, count: u64) -> Result<Duration, Error> {
        let input = self.child.stdin.as_mut().ok_or("no input of python3")?;
        writeln!(input, "{count}")?;
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
