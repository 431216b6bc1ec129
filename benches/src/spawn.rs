//! Starting a function in a process beside starting the same executable with nothing to do.

use std::time::{Duration, Instant};

use ipc::process::Process;
use ipc_os::pidfd::Exit;
use ipc_os::spawn::Spawn;

use crate::harness::{Bench, Error, Subject, Target, Unit};
use crate::python::Python;

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

    match Python::start(PROGRAM) {
        Ok(mut python) => bench.compare_turns(
            if bench.is_quick() { 5 } else { 15 },
            "start and join, beside CPython (spawn)",
            Unit::Microseconds,
            4,
            1,
            vec![
                Subject::new("CPython Process", move |count| python.block("", count)),
                Subject::new("ipc", ours).against("CPython Process", None),
            ],
        )?,
        Err(error) => println!("spawn: CPython is not measured: {error}"),
    }
    Ok(())
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
