//! Queues beside the cache lines and futexes of the machine, and beside other crates.

mod spsc;

use std::cell::RefCell;
use std::hint::black_box;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

use ipc::pipe::{Receiver as PipeReceiver, Sender as PipeSender, pipe};
use ipc::process::Process;
use ipc::queue::{Receiver, Sender, bounded};
use serde::{Deserialize, Serialize};

use crate::harness::{Bench, Error, Subject, Target, Unit};
use crate::peers::peer;
use crate::place::{Placement, pin, pinned, placements};
use crate::python::Python;
use crate::raw::{Found, Page};

/// Lines of the raw page.
const PING: usize = 0;
const PONG: usize = 1;
const FLAG_PING: usize = 2;
const FLAG_PONG: usize = 3;

/// How long each side works before it answers, where the other is to be asleep.
const WORK: Duration = Duration::from_millis(1);
const CAPACITY: usize = 1024;
const MEBIBYTE: usize = 1 << 20;

/// A message of 64 bytes that is encoded.
type Numbers = [u64; 8];

/// What the other process does next, so many times.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
enum Block {
    Lines(u64),
    PingPong(u64),
    WorkAndFutex(u64),
    WorkAndQueue(u64),
    OneWay(u64),
    OneWayEncoded(u64),
    Bytes(u64),
    /// Loans of so many words, of which the first and the last are written and read.
    Loans(u64, u64),
    /// Two threads in each of the two processes' places: this one receives.
    TwoTwo(u64),
    Spsc(spsc::Step),
}

/// What both processes have.
#[derive(Clone, Serialize, Deserialize)]
struct Shared {
    there: (Sender<u64>, Receiver<u64>),
    back: (Sender<u64>, Receiver<u64>),
    numbers: (Sender<Numbers>, Receiver<Numbers>),
    bytes: (Sender<()>, Receiver<()>),
    /// As deep as that of the other crates, whose memory is set aside: what fits into the caches is quicker.
    large: (Sender<()>, Receiver<()>),
    loans: (Sender<u64>, Receiver<u64>),
}

impl Shared {
    fn new() -> Result<Self, Error> {
        Ok(Shared {
            there: bounded(CAPACITY)?,
            back: bounded(CAPACITY)?,
            numbers: bounded(CAPACITY)?,
            bytes: bounded(CAPACITY)?,
            large: bounded(8)?,
            loans: bounded(8)?,
        })
    }
}

fn work() {
    let start = Instant::now();
    while start.elapsed() < WORK {
        std::hint::spin_loop();
    }
}

/// One of the two; the first begins each exchange.
struct Side {
    page: Page,
    shared: Shared,
    is_first: bool,
    ends: spsc::Ends,
    buf: Vec<u8>,
}

fn check(is: u64, expected: u64) -> Result<(), Error> {
    if is == expected { Ok(()) } else { Err(format!("got {is}, expected {expected}").into()) }
}

impl Side {
    fn run(&mut self, block: Block) -> Result<(), Error> {
        let Side { page, shared, is_first, ends, buf } = self;
        match (block, *is_first) {
            (Block::Spsc(step), _) => ends.run(step, buf)?,
            (Block::Lines(count), true) => (1..=count).for_each(|n| page.ping(PING, PONG, n)),
            (Block::Lines(count), false) => {
                for n in 1..=count {
                    page.pong(PING, n);
                    page.line(PONG).store(n, std::sync::atomic::Ordering::Release);
                }
            }
            (Block::PingPong(count), true) => {
                for n in 0..count {
                    shared.there.0.send(&n)?;
                    check(shared.back.1.recv()?, n)?;
                }
            }
            (Block::PingPong(count), false) => {
                for _ in 0..count {
                    shared.back.0.send(&shared.there.1.recv()?)?;
                }
            }
            (Block::WorkAndFutex(count), true) => {
                for _ in 0..count {
                    page.set(FLAG_PING);
                    page.take(FLAG_PONG)?;
                    work();
                }
            }
            (Block::WorkAndFutex(count), false) => {
                for _ in 0..count {
                    page.take(FLAG_PING)?;
                    work();
                    page.set(FLAG_PONG);
                }
            }
            (Block::WorkAndQueue(count), true) => {
                for n in 0..count {
                    shared.there.0.send(&n)?;
                    check(shared.back.1.recv()?, n)?;
                    work();
                }
            }
            (Block::WorkAndQueue(count), false) => {
                for _ in 0..count {
                    let n = shared.there.1.recv()?;
                    work();
                    shared.back.0.send(&n)?;
                }
            }
            (Block::OneWay(count), true) => {
                let mut plain = [0; 64];
                for n in 0..count {
                    plain.fill(n as u8);
                    shared.bytes.0.send_bytes(black_box(&plain))?;
                }
                check(shared.back.1.recv()?, count)?;
            }
            (Block::OneWay(count), false) => {
                let mut plain = [0; 64];
                for n in 0..count {
                    check(shared.bytes.1.recv_bytes_into(&mut plain)? as u64, 64)?;
                    check(black_box(&plain)[63].into(), n & 0xff)?;
                }
                shared.back.0.send(&count)?;
            }
            (Block::OneWayEncoded(count), true) => {
                for n in 0..count {
                    shared.numbers.0.send(black_box(&[n; 8]))?;
                }
                check(shared.back.1.recv()?, count)?;
            }
            (Block::OneWayEncoded(count), false) => {
                for n in 0..count {
                    check(black_box(shared.numbers.1.recv()?)[7], n)?;
                }
                shared.back.0.send(&count)?;
            }
            (Block::Bytes(count), true) => {
                buf.resize(MEBIBYTE, 0);
                for n in 0..count {
                    buf[..8].copy_from_slice(&n.to_le_bytes());
                    shared.large.0.send_bytes(buf)?;
                }
                check(shared.back.1.recv()?, count)?;
            }
            (Block::Bytes(count), false) => {
                buf.resize(MEBIBYTE, 0);
                for n in 0..count {
                    check(shared.large.1.recv_bytes_into(buf)? as u64, MEBIBYTE as u64)?;
                    check(u64::from_le_bytes(buf[..8].try_into()?), n)?;
                }
                shared.back.0.send(&count)?;
            }
            (Block::Loans(count, words), true) => {
                let last = words as usize - 1;
                for n in 0..count {
                    let mut loan = shared.loans.0.loan(words as usize)?;
                    loan.set(last, n)?;
                    loan.set(0, n)?;
                    loan.commit()?;
                }
                check(shared.back.1.recv()?, count)?;
            }
            (Block::Loans(count, words), false) => {
                let last = words as usize - 1;
                for n in 0..count {
                    let received = shared.loans.1.recv_loan()?;
                    check(received.get(0)?, n)?;
                    check(received.get(last)?, n)?;
                }
                shared.back.0.send(&count)?;
            }
            (Block::TwoTwo(count), true) => {
                let tx = &shared.there.0;
                std::thread::scope(|scope| {
                    let send = move || (0..count / 2).try_for_each(|n| tx.send(&n));
                    [scope.spawn(send), scope.spawn(send)].map(|sender| sender.join())
                })
                .into_iter()
                .try_for_each(|sent| sent.map_err(|_| "a sender panicked")?.map_err(Error::from))?;
                check(shared.back.1.recv()?, count / 2 * 2)?;
            }
            (Block::TwoTwo(count), false) => {
                let rx = &shared.there.1;
                let got = std::thread::scope(|scope| {
                    let take = move || (0..count / 2).try_fold(0, |got, _| rx.recv().map(|_| got + 1));
                    [scope.spawn(take), scope.spawn(take)].map(|receiver| receiver.join())
                });
                let mut sum = 0;
                for got in got {
                    sum += got.map_err(|_| "a receiver panicked")??;
                }
                shared.back.0.send(&sum)?;
            }
        }
        Ok(())
    }
}

/// What the other process is given.
type Given = (Found, Shared, spsc::Second);

fn serve(core: usize, given: Given, mut control: PipeReceiver<Block>) -> Result<(), String> {
    let serve = || -> Result<(), Error> {
        pin(core)?;
        let (found, shared, second) = given;
        let ends = spsc::Ends::Second(second);
        let mut side = Side { page: Page::open(found)?, shared, is_first: false, ends, buf: Vec::new() };
        while let Ok(block) = control.recv() {
            side.run(block)?;
        }
        Ok(())
    };
    serve().map_err(|error| error.to_string())
}

/// This process, and the line to the other one.
struct Two {
    side: Side,
    control: PipeSender<Block>,
}

impl Two {
    /// A block, both sides of it.
    fn timed(&mut self, block: Block) -> Result<Duration, Error> {
        self.control.send(&block)?;
        self.side.page.line(PING).store(0, Relaxed);
        let start = Instant::now();
        self.side.run(block)?;
        Ok(start.elapsed())
    }
}

/// Runs a block on both sides.
type Run<'a> = dyn Fn(Block) -> Result<Duration, Error> + 'a;

pub(crate) fn run(bench: &mut Bench) -> Result<(), Error> {
    for placement in placements() {
        pinned(placement.ours, || between_two(bench, placement))??;
    }
    Ok(())
}

/// Puts 64 bytes so often, for another process to get.
const PROGRAM: &str = "\
import multiprocessing, os, sys, time
def receive(there, back):
    os.sched_setaffinity(0, {THEIRS})
    while True:
        for _ in range(there.get()):
            there.get()
        back.put(None)
if __name__ == '__main__':
    os.sched_setaffinity(0, {OURS})
    there, back = multiprocessing.Queue(1024), multiprocessing.Queue()
    multiprocessing.Process(target=receive, args=(there, back), daemon=True).start()
    payload = bytes(64)
    for line in sys.stdin:
        count = int(line)
        start = time.perf_counter()
        there.put(count)
        for _ in range(count):
            there.put(payload)
        back.get()
        print(time.perf_counter() - start, flush=True)
";

fn between_two(bench: &mut Bench, placement: Placement) -> Result<(), Error> {
    let page = Page::new()?;
    let shared = Shared::new()?;
    let (control, commands) = pipe()?;
    let (first, second) = spsc::ends()?;
    let server = Process::spawn(serve, (placement.theirs, (page.found(), shared.clone(), second), commands))?;
    let ends = spsc::Ends::First(first);
    let side = Side { page, shared, is_first: true, ends, buf: Vec::new() };
    let two = RefCell::new(Two { side, control });
    let run = |block: Block| two.borrow_mut().timed(block);
    let case = |what: &str| format!("{what}, {}", placement.name);
    let two_cores = placement.ours != placement.theirs;

    if two_cores {
        let peers = bench.peers(placement)?.map(RefCell::new);
        let peers = peers.as_ref();
        let mut ours = Subject::new("ipc", |count| run(Block::PingPong(count)))
            .against("two cache lines", Target::AtMost(2.5));
        let theirs = [
            peer(peers, "iceoryx2", "iceoryx2", "ping-pong-u64"),
            peer(peers, "crossbeam-channel, threads", "crossbeam", "ping-pong-u64"),
        ];
        if peers.is_some() {
            ours = ours.against("iceoryx2", None).against("crossbeam-channel, threads", None);
        }
        let mut subjects = vec![Subject::new("two cache lines", |count| run(Block::Lines(count))), ours];
        subjects.extend(theirs.into_iter().flatten());
        bench.compare(
            &case("ping-pong of a u64, bounded, both awake"),
            Unit::Nanoseconds,
            50_000,
            1,
            subjects,
        )?;

        let mut ours = Subject::new("ipc", |count| run(Block::OneWay(count)));
        let theirs = [
            peer(peers, "iceoryx2", "iceoryx2", "one-way-64"),
            peer(peers, "ipc-channel", "ipc-channel", "one-way-64"),
            peer(peers, "crossbeam-channel, threads", "crossbeam", "one-way-64"),
        ];
        if peers.is_some() {
            ours = ours
                .against("iceoryx2", Target::AtLeast(5.0))
                .against("ipc-channel", None)
                .against("crossbeam-channel, threads", None);
        }
        let encoded = Subject::new("ipc, a struct that is encoded", |count| run(Block::OneWayEncoded(count)));
        let python = Python::placed("queue", PROGRAM, placement).map(RefCell::new);
        let python = python.as_ref().map(|python| {
            // It takes a hundred times as long.
            Subject::new("CPython Queue", |count| {
                Ok(python.borrow_mut().block("", count.div_ceil(100))? * 100)
            })
        });
        let subjects =
            [ours, encoded].into_iter().chain(theirs.into_iter().flatten()).chain(python).collect();
        bench.compare(&case("one way, 64 bytes, bounded 1 to 1"), Unit::PerSecond, 200_000, 1, subjects)?;

        let mut ours = Subject::new("ipc", |count| run(Block::TwoTwo(count)));
        if peers.is_some() {
            ours = ours.against("crossbeam-channel, threads", Target::AtLeast(0.4));
        }
        let theirs = peer(peers, "crossbeam-channel, threads", "crossbeam", "two-two-u64");
        let subjects = [ours].into_iter().chain(theirs).collect();
        bench.compare(&case("one way, u64, bounded 2 to 2"), Unit::PerSecond, 200_000, 1, subjects)?;

        let mut ours = Subject::new("ipc", |count| run(Block::Bytes(count)));
        if peers.is_some() {
            ours = ours.against("iceoryx2", Target::AtLeast(1.0)).against("ipc-channel", None);
        }
        let theirs = [
            peer(peers, "iceoryx2", "iceoryx2", "one-way-1m"),
            peer(peers, "ipc-channel", "ipc-channel", "one-way-1m"),
        ];
        let subjects = [ours].into_iter().chain(theirs.into_iter().flatten()).collect();
        bench.compare(
            &case("one way, 1 MiB copied in and out, bounded"),
            Unit::GigabytesPerSecond,
            100,
            MEBIBYTE as u64,
            subjects,
        )?;
        let mut subjects = vec![
            Subject::new("8 bytes", |count| run(Block::Loans(count, 1))),
            Subject::new("ipc", |count| run(Block::Loans(count, MEBIBYTE as u64 / 8)))
                .against("8 bytes", Target::AtMost(1.2)),
        ];
        subjects.extend(peer(peers, "iceoryx2, 8 bytes", "iceoryx2", "loan-8"));
        subjects.extend(peer(peers, "iceoryx2, 1 MiB", "iceoryx2", "loan-1m"));
        bench.compare(&case("one way, 1 MiB on loan, bounded"), Unit::Nanoseconds, 20_000, 1, subjects)?;

        spsc::awake(bench, &run, peers, &case)?;
    }
    bench.compare(
        &case("ping-pong of a u64, bounded, each works 1 ms before it answers"),
        Unit::Microseconds,
        10,
        1,
        vec![
            Subject::new("raw futex", |count| run(Block::WorkAndFutex(count))),
            Subject::new("ipc", |count| run(Block::WorkAndQueue(count)))
                .against("raw futex", Target::AtMost(if two_cores { 1.1 } else { 1.3 })),
        ],
    )?;
    spsc::asleep(
        bench,
        &run,
        &case("ping-pong of a u64, spsc, each works 1 ms before it answers"),
        if two_cores { 1.1 } else { 1.3 },
    )?;
    // The page stays until the other one has found it.
    let Two { side: _side, control } = two.into_inner();
    drop(control);
    server.join()??;
    Ok(())
}
