//! Locks, events and conditions beside what the machine, the C library and CPython can do.

use std::cell::RefCell;
use std::sync::Arc;
use std::sync::atomic::Ordering::{Acquire, Relaxed, Release};
use std::sync::atomic::{AtomicBool, AtomicU64};
use std::time::{Duration, Instant};

use ipc::pipe::{Receiver, Sender, pipe};
use ipc::process::Process;
use ipc::sync::{Condition, Event, Lock, LockError};
use serde::{Deserialize, Serialize};

use crate::harness::{Bench, Error, Subject, Target, Unit};
use crate::place::{Placement, pin, pinned, placements};
use crate::pthread::RobustMutex;
use crate::python::Python;
use crate::raw::{BareCondition, Found, Page};
use crate::stats::median;

/// Lines of the raw page.
const PING: usize = 0;
const PONG: usize = 1;
const COUNTER: usize = 2;
const TURN: usize = 3;
const FLAG_PING: usize = 4;
const FLAG_PONG: usize = 5;
const START: usize = 6;
const DONE: usize = 7;
const BARE: usize = 8;

/// How long each side works before it answers, where the other is to be asleep.
const WORK: Duration = Duration::from_millis(1);

/// What the other process does next, so many times.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
enum Block {
    RobustMutex(u64),
    Lock(u64),
    Lines(u64),
    Events(u64),
    BareCondition(u64),
    Condition(u64),
    WorkAndFutex(u64),
    WorkAndEvent(u64),
}

/// What both processes have.
#[derive(Clone, Serialize, Deserialize)]
struct Shared {
    lock: Lock,
    ping: Event,
    pong: Event,
    changed: Condition,
}

fn work() {
    let start = Instant::now();
    while start.elapsed() < WORK {
        std::hint::spin_loop();
    }
}

/// One of the two, with what it does in the blocks; the first begins each exchange.
struct Side {
    page: Page,
    shared: Shared,
    me: u64,
}

impl Side {
    /// Both begin at the same moment.
    fn meet(&self) {
        let (ours, theirs) = if self.me == 0 { (START, DONE) } else { (DONE, START) };
        let number = self.page.line(ours).load(Relaxed) + 1;
        self.page.line(ours).store(number, Release);
        // The other may be at the next meeting already.
        while self.page.line(theirs).load(Acquire) < number {
            std::hint::spin_loop();
        }
    }

    fn run(&self, block: Block) -> Result<(), Error> {
        let Side { page, shared, me } = self;
        let is_first = *me == 0;
        match block {
            Block::RobustMutex(count) => {
                let mutex = RobustMutex::of(page)?;
                self.meet();
                for _ in 0..count {
                    mutex.lock()?;
                    let counter = page.line(COUNTER);
                    counter.store(counter.load(Relaxed) + 1, Relaxed);
                    mutex.unlock()?;
                }
                self.meet();
            }
            Block::Lock(count) => {
                self.meet();
                for _ in 0..count {
                    let _guard = shared.lock.lock()?;
                    let counter = page.line(COUNTER);
                    counter.store(counter.load(Relaxed) + 1, Relaxed);
                }
                self.meet();
            }
            Block::Lines(count) => {
                for number in 1..=count {
                    if is_first {
                        page.ping(PING, PONG, number);
                    } else {
                        page.pong(PING, number);
                        page.line(PONG).store(number, Release);
                    }
                }
            }
            Block::Events(count) => {
                for _ in 0..count {
                    if is_first {
                        shared.ping.set();
                        shared.pong.wait()?;
                        shared.pong.clear();
                    } else {
                        shared.ping.wait()?;
                        shared.ping.clear();
                        shared.pong.set();
                    }
                }
            }
            Block::BareCondition(count) => {
                let condition = BareCondition::new(page, BARE);
                for _ in 0..count {
                    condition.lock(*me);
                    while page.line(TURN).load(Relaxed) != *me {
                        condition.wait(*me);
                    }
                    page.line(TURN).store(1 - me, Relaxed);
                    condition.notify(*me);
                    condition.unlock();
                }
                // Whose turn it is must not be changed under one lock while the other side begins with another.
                self.meet();
            }
            Block::Condition(count) => {
                for _ in 0..count {
                    let guard = shared.changed.lock().lock()?;
                    let guard = shared.changed.wait_for(guard, || page.line(TURN).load(Relaxed) == *me)?;
                    page.line(TURN).store(1 - me, Relaxed);
                    shared.changed.notify(&guard)?;
                }
                self.meet();
            }
            Block::WorkAndFutex(count) => {
                for _ in 0..count {
                    if is_first {
                        page.set(FLAG_PING);
                        page.take(FLAG_PONG)?;
                        work();
                    } else {
                        page.take(FLAG_PING)?;
                        work();
                        page.set(FLAG_PONG);
                    }
                }
            }
            Block::WorkAndEvent(count) => {
                for _ in 0..count {
                    if is_first {
                        shared.ping.set();
                        shared.pong.wait()?;
                        shared.pong.clear();
                        work();
                    } else {
                        shared.ping.wait()?;
                        shared.ping.clear();
                        work();
                        shared.pong.set();
                    }
                }
            }
        }
        Ok(())
    }
}

fn serve(core: usize, found: Found, shared: Shared, mut control: Receiver<Block>) -> Result<(), String> {
    let mut serve = || -> Result<(), Error> {
        pin(core)?;
        let side = Side { page: Page::open(found)?, shared: shared.clone(), me: 1 };
        while let Ok(block) = control.recv() {
            side.run(block)?;
        }
        Ok(())
    };
    serve().map_err(|error| error.to_string())
}

/// A block, both sides of it: from when both are there to when this one is through.
fn timed(side: &Side, control: &RefCell<Sender<Block>>, block: Block) -> Result<Duration, Error> {
    control.borrow_mut().send(&block)?;
    // The words of exchanges begin where they ended.
    side.page.line(PING).store(0, Relaxed);
    let start = Instant::now();
    side.run(block)?;
    Ok(start.elapsed())
}

pub(crate) fn run(bench: &mut Bench) -> Result<(), Error> {
    uncontended(bench)?;
    for placement in placements() {
        pinned(placement.ours, || between_two(bench, placement))??;
    }
    deaths(bench)
}

fn uncontended(bench: &mut Bench) -> Result<(), Error> {
    let page = Page::new()?;
    let robust = RobustMutex::of(&page)?;
    robust.init()?;
    let lock = Lock::new()?;
    let private = parking_lot::Mutex::new(0_u64);
    let timed = |f: &mut dyn FnMut() -> Result<(), Error>| {
        let start = Instant::now();
        f()?;
        Ok(start.elapsed())
    };
    let mut subjects = vec![
        Subject::new("parking_lot", |count| {
            timed(&mut || {
                (0..count).for_each(|_| *private.lock() += 1);
                Ok(())
            })
        }),
        Subject::new("robust pthread mutex", |count| {
            timed(&mut || {
                (0..count).try_for_each(|_| {
                    robust.lock()?;
                    robust.unlock()
                })
            })
        }),
        Subject::new("ipc", |count| {
            timed(&mut || {
                for _ in 0..count {
                    drop(lock.lock()?);
                }
                Ok(())
            })
        })
        .against("parking_lot", Target::AtMost(1.5))
        .against("robust pthread mutex", Target::AtMost(1.0)),
    ];
    match Python::start(PROGRAM) {
        Ok(mut python) => subjects.push(
            // It is a hundred times slower: fewer will do.
            Subject::new("CPython Lock", move |count| Ok(python.block("lock", count / 20)? * 20)),
        ),
        Err(error) => println!("sync: CPython is not measured: {error}"),
    }
    bench.compare("lock and unlock, uncontended", Unit::Nanoseconds, 1_000_000, 1, subjects)
}

/// Takes and releases a lock so often.
const PROGRAM: &str = "\
import multiprocessing, sys, time
lock = multiprocessing.Lock()
for line in sys.stdin:
    operation, count = line.split()
    start = time.perf_counter()
    for _ in range(int(count)):
        with lock:
            pass
    print(time.perf_counter() - start, flush=True)
";

fn between_two(bench: &mut Bench, placement: Placement) -> Result<(), Error> {
    let page = Page::new()?;
    RobustMutex::of(&page)?.init()?;
    let shared =
        Shared { lock: Lock::new()?, ping: Event::new()?, pong: Event::new()?, changed: Condition::new()? };
    let (control, commands) = pipe()?;
    let server = Process::spawn(serve, (placement.theirs, page.found(), shared.clone(), commands))?;
    let control = RefCell::new(control);
    let side = Side { page, shared, me: 0 };
    let two_cores = placement.ours != placement.theirs;
    let run = |block: Block| timed(&side, &control, block);
    let case = |what: &str| format!("{what}, {}", placement.name);

    if two_cores {
        // Each block is of both processes' operations.
        bench.compare(
            &case("lock, add, unlock by two processes at once"),
            Unit::Nanoseconds,
            100_000,
            2,
            vec![
                Subject::new("robust pthread mutex", |count| run(Block::RobustMutex(count))),
                Subject::new("ipc", |count| run(Block::Lock(count)))
                    .against("robust pthread mutex", Target::AtMost(1.0)),
            ],
        )?;
        bench.compare(
            &case("event hand-over and back, both awake"),
            Unit::Nanoseconds,
            50_000,
            1,
            vec![
                Subject::new("two cache lines", |count| run(Block::Lines(count))),
                Subject::new("ipc", |count| run(Block::Events(count)))
                    .against("two cache lines", Target::AtMost(2.0)),
            ],
        )?;
        bench.compare(
            &case("condition hand-over and back, both awake"),
            Unit::Nanoseconds,
            20_000,
            1,
            vec![
                Subject::new("bare atomics", |count| run(Block::BareCondition(count))),
                Subject::new("ipc", |count| run(Block::Condition(count)))
                    .against("bare atomics", Target::AtMost(1.5)),
            ],
        )?;
    }
    bench.compare(
        &case("event hand-over and back, each works 1 ms before it answers"),
        Unit::Microseconds,
        10,
        1,
        vec![
            Subject::new("raw futex", |count| run(Block::WorkAndFutex(count))),
            Subject::new("ipc", |count| run(Block::WorkAndEvent(count)))
                .against("raw futex", Target::AtMost(if two_cores { 1.1 } else { 1.2 })),
        ],
    )?;
    drop(control.into_inner());
    server.join()??;
    Ok(())
}

fn hold(lock: Lock, mut held: Sender<()>) {
    let Ok(_guard) = lock.lock() else { return };
    if held.send(&()).is_ok() {
        loop {
            std::thread::park();
        }
    }
}

/// From SIGKILL of the holder to the error in a waiter that sleeps.
fn deaths(bench: &mut Bench) -> Result<(), Error> {
    let case = "SIGKILL of the holder to OwnerDied in a sleeper";
    if !bench.wants(case) {
        return Ok(());
    }
    let rounds = if bench.is_quick() { 1_000 } else { 10_000 };
    let stop = Arc::new(AtomicBool::new(false));
    let worst_timer = Arc::new(AtomicU64::new(0));
    let watch = {
        let (stop, worst) = (Arc::clone(&stop), Arc::clone(&worst_timer));
        std::thread::spawn(move || {
            // How late a sleep of 1 ms comes on this machine, in this run.
            while !stop.load(Acquire) {
                let start = Instant::now();
                std::thread::sleep(Duration::from_millis(1));
                let late = start.elapsed().saturating_sub(Duration::from_millis(1));
                worst.fetch_max(late.as_nanos() as u64, Relaxed);
            }
        })
    };
    let began = Instant::now();
    let mut told = Vec::with_capacity(rounds);
    for round in 0..rounds {
        if round % 50 == 0 {
            bench.progress("deaths", round, rounds, began);
        }
        told.push(one_death()?);
    }
    bench.progress("deaths", rounds, rounds, began);
    stop.store(true, Release);
    watch.join().map_err(|_| "the timer's thread panicked")?;
    let worst_timer = worst_timer.load(Relaxed) as f64 / 1e3;
    let worst = told.iter().copied().fold(0.0, f64::max);
    bench.record(&format!("{case}, median of {rounds}"), &told, median(&told), 1_000.0, "1 ms".into());
    let limit = f64::max(20_000.0, 2.0 * worst_timer);
    bench.record(
        &format!("{case}, worst of {rounds}"),
        &told,
        worst,
        limit,
        format!("20 ms, or twice the latest timer of the run ({:.1} ms)", worst_timer / 1e3),
    );
    Ok(())
}

/// In microseconds.
fn one_death() -> Result<f64, Error> {
    let lock = Lock::new()?;
    let (tx, mut rx) = pipe()?;
    let holder = Process::spawn(hold, (lock.clone(), tx))?;
    rx.recv()?;
    let theirs = lock.clone();
    let (ready, is_ready) = std::sync::mpsc::channel();
    let waiter = std::thread::spawn(move || {
        let _ = ready.send(());
        match theirs.lock() {
            Err(LockError::OwnerDied { .. }) => Ok(Instant::now()),
            other => Err(format!("expected OwnerDied, got {other:?}")),
        }
    });
    is_ready.recv()?;
    // It has stopped spinning and sleeps.
    std::thread::sleep(Duration::from_millis(1));
    let killed = Instant::now();
    holder.kill()?;
    let told = waiter.join().map_err(|_| "the waiter panicked")??;
    Ok(told.saturating_duration_since(killed).as_secs_f64() * 1e6)
}
