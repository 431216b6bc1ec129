//! Connecting, proving the key to each other, and closing, beside CPython.
//!
//! Each side waits for the other: here four times a connection, with CPython six times. On two cores, where to wake a sleeper
//! is nearly all that it costs, that by itself made 0.67 of CPython's time. Here the waits are awake where that has paid
//! lately, as in a row of connections like this one; a lone connection pays for the wakes.

use std::time::{Duration, Instant};

use ipc::pipe::{Receiver, Sender, pipe};
use ipc::process::Process;
use ipc::socket::Options;

use super::KEY;
use crate::directory::Directory;
use crate::harness::{Bench, Error, Subject, Target, Unit};
use crate::place::{Placement, pin};
use crate::python::Python;

/// The listener's process: accepts so many connections, each of which it closes.
fn listen(
    core: usize,
    address: String,
    mut counts: Receiver<u64>,
    mut ready: Sender<()>,
) -> Result<(), String> {
    let mut listen = || -> Result<(), Error> {
        pin(core)?;
        let mut listener = Options::new().authkey(KEY).bind(address.as_str())?;
        ready.send(&())?;
        while let Ok(count) = counts.recv() {
            for _ in 0..count {
                drop(listener.accept()?);
            }
        }
        Ok(())
    };
    listen().map_err(|error| error.to_string())
}

fn connect(address: &str, count: u64) -> Result<Duration, Error> {
    let options = Options::new().authkey(KEY);
    let start = Instant::now();
    for _ in 0..count {
        drop(options.connect(address)?);
    }
    Ok(start.elapsed())
}

pub(super) fn run(bench: &mut Bench, placement: Placement) -> Result<(), Error> {
    let case = format!("connect, prove the key both ways and close, {}", placement.name);
    if !bench.wants(&case) {
        return Ok(());
    }
    let directory = Directory::new()?;
    let address = format!("unix:{}/socket", directory.path().display());
    let (mut counts, counted) = pipe()?;
    let (ready, mut is_ready) = pipe()?;
    let server = Process::spawn(listen, (placement.theirs, address.clone(), counted, ready))?;
    if is_ready.recv().is_err() {
        server.join()??;
        return Err("the listener has ended without a word".into());
    }

    let mut python = Python::placed("socket", PROGRAM, placement);
    let mut ours = Subject::new("ipc", |count| {
        counts.send(&count)?;
        connect(&address, count)
    });
    let mut subjects = Vec::new();
    if let Some(python) = &mut python {
        ours = ours.against(CPYTHON, Target::AtMost(0.6));
        subjects.push(Subject::new(CPYTHON, move |count| python.block("", count)));
    }
    subjects.push(ours);
    bench.compare(&case, Unit::Microseconds, 100, 1, subjects)?;
    drop(counts);
    server.join()??;
    Ok(())
}

const CPYTHON: &str = "CPython Client and Listener";

/// Connects so often to a listener in another process.
const PROGRAM: &str = "\
import multiprocessing, os, sys, time
from multiprocessing.connection import Client, Listener
KEY = b'the key of the measurements'
PATH = os.path.join(os.path.dirname(os.path.abspath(__file__)), 'socket')
def listen(ready):
    os.sched_setaffinity(0, {THEIRS})
    with Listener(PATH, 'AF_UNIX', authkey=KEY) as listener:
        ready.set()
        while True:
            listener.accept().close()
if __name__ == '__main__':
    os.sched_setaffinity(0, {OURS})
    ready = multiprocessing.Event()
    multiprocessing.Process(target=listen, args=(ready,), daemon=True).start()
    ready.wait()
    for line in sys.stdin:
        start = time.perf_counter()
        for _ in range(int(line)):
            Client(PATH, 'AF_UNIX', authkey=KEY).close()
        print(time.perf_counter() - start, flush=True)
";
