//! Bytes to a CPython that receives them, from us and from another CPython.

use std::time::{Duration, Instant};

use ipc::socket::{Connection, Options};

use super::KEY;
use crate::harness::{Bench, Error, Subject, Unit};
use crate::place::Placement;
use crate::python::Python;

/// How long CPython may take to listen.
const PATIENCE: Duration = Duration::from_secs(10);

fn send(connection: &mut Connection, count: u64) -> Result<Duration, Error> {
    let mut payload = [0; 64];
    let start = Instant::now();
    connection.send_bytes(count.to_string().as_bytes())?;
    for n in 0..count {
        payload.fill(n as u8);
        connection.send_bytes(&payload)?;
    }
    // All of them have arrived.
    connection.recv_bytes()?;
    Ok(start.elapsed())
}

pub(super) fn run(bench: &mut Bench, placement: Placement) -> Result<(), Error> {
    let case = format!("one way 64 B to CPython, send_bytes, {}", placement.name);
    if !bench.wants(&case) {
        return Ok(());
    }
    let Some(mut python) = Python::placed("socket", PROGRAM, placement) else { return Ok(()) };
    let address = format!("unix:{}/ours", python.directory().display());
    let options = Options::new().python().authkey(KEY).allow_legacy_md5();
    let mut connection = options.retry().timeout(PATIENCE).connect(address.as_str())?;
    bench.compare(
        &case,
        Unit::PerSecond,
        10_000,
        1,
        vec![
            Subject::new("CPython to CPython", |count| python.block("", count)),
            Subject::new("ipc to CPython", |count| send(&mut connection, count))
                .against("CPython to CPython", None),
        ],
    )
}

/// Two processes that receive, one from us; and the sender for the other one.
const PROGRAM: &str = "\
import multiprocessing, os, sys, time
from multiprocessing.connection import Client, Listener
KEY = b'the key of the measurements'
HERE = os.path.dirname(os.path.abspath(__file__))
def receive(path, ready):
    os.sched_setaffinity(0, {THEIRS})
    with Listener(path, 'AF_UNIX', authkey=KEY) as listener:
        ready.set()
        with listener.accept() as connection:
            try:
                while True:
                    for _ in range(int(connection.recv_bytes())):
                        connection.recv_bytes()
                    connection.send_bytes(b'')
            except EOFError:
                pass
if __name__ == '__main__':
    os.sched_setaffinity(0, {OURS})
    for name in 'ours', 'own':
        ready = multiprocessing.Event()
        args = os.path.join(HERE, name), ready
        multiprocessing.Process(target=receive, args=args, daemon=True).start()
        ready.wait()
    connection = Client(os.path.join(HERE, 'own'), 'AF_UNIX', authkey=KEY)
    payload = bytes(64)
    for line in sys.stdin:
        count = int(line)
        start = time.perf_counter()
        connection.send_bytes(str(count).encode())
        for _ in range(count):
            connection.send_bytes(payload)
        connection.recv_bytes()
        print(time.perf_counter() - start, flush=True)
";
