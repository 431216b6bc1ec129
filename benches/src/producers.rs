//! Many producers on few cores, and what a queue costs that nobody uses.

use std::cell::RefCell;
use std::time::{Duration, Instant};

use ipc::pipe::{Receiver as PipeReceiver, Sender as PipeSender, pipe};
use ipc::process::Process;
use ipc::queue::{Receiver, Sender, bounded};
use ipc::shm::Value;

use crate::harness::{Bench, Error, Subject, Target, Unit};

/// The most that there are.
const MANY: usize = 64;
const CAPACITY: usize = 1024;
/// How long they send for one value.
const WINDOW: Duration = Duration::from_millis(250);
/// What each sends at the end.
const END: u64 = u64::MAX;

/// Sends its number as often as it can, from each start to each stop.
fn produce(me: u64, tx: Sender<u64>, stop: Value<u32>, mut start: PipeReceiver<()>) {
    while start.recv().is_ok() {
        while stop.get() == 0 {
            if tx.send(&me).is_err() {
                return;
            }
        }
        let _told = tx.send(&END);
    }
}

struct Producers {
    rx: Receiver<u64>,
    stop: Value<u32>,
    starts: Vec<PipeSender<()>>,
    processes: Vec<Process<()>>,
    /// How many came from each in the last window.
    counts: Vec<u64>,
}

impl Producers {
    fn new() -> Result<Self, Error> {
        let (tx, rx) = bounded(CAPACITY)?;
        let stop = Value::new(0)?;
        let (mut starts, mut processes) = (Vec::new(), Vec::new());
        for me in 0..MANY as u64 {
            let (start, started) = pipe()?;
            processes.push(Process::spawn(produce, (me, tx.clone(), stop.clone(), started))?);
            starts.push(start);
        }
        Ok(Producers { rx, stop, starts, processes, counts: vec![0; MANY] })
    }

    /// That many send for a while; how many messages came.
    fn window(&mut self, count: usize) -> Result<(u64, Duration), Error> {
        self.counts.fill(0);
        self.stop.set(0)?;
        for start in &mut self.starts[..count] {
            start.send(&())?;
        }
        // All of them are to be there.
        let mut there = vec![false; count];
        while there.contains(&false) {
            there[self.rx.recv()? as usize] = true;
        }
        let began = Instant::now();
        let mut received = 0;
        while began.elapsed() < WINDOW {
            for _ in 0..64 {
                self.counts[self.rx.recv()? as usize] += 1;
            }
            received += 64;
        }
        let took = began.elapsed();
        self.stop.set(1)?;
        let mut ends = 0;
        while ends < count {
            ends += usize::from(self.rx.recv()? == END);
        }
        Ok((received, took))
    }
}

pub(crate) fn run(bench: &mut Bench) -> Result<(), Error> {
    let case = "from many producers to one receiver, u64, bounded, two cores";
    let share = "what each of 64 producers gets";
    if bench.wants(case) || bench.wants(share) {
        let producers = RefCell::new(Producers::new()?);
        let send = |producers_count: usize| {
            let producers = &producers;
            move |count: u64| {
                let (received, took) = producers.borrow_mut().window(producers_count)?;
                Ok(took.mul_f64(count as f64 / received as f64))
            }
        };
        let one = "1 producer";
        let subjects = vec![
            Subject::new(one, send(1)),
            Subject::new("2 producers", send(2)).against(one, None),
            Subject::new("8 producers", send(8)).against(one, None),
            Subject::new("64 producers", send(MANY)).against(one, Target::AtLeast(0.5)),
        ];
        bench.compare_turns(
            if bench.is_quick() { 5 } else { 20 },
            case,
            Unit::PerSecond,
            1_000,
            1,
            subjects,
        )?;

        let mut producers = producers.into_inner();
        if bench.wants(share) {
            // Longer than the scheduler takes to let each of them run some times.
            let mut sum = vec![0; MANY];
            for _ in 0..if bench.is_quick() { 12 } else { 40 } {
                producers.window(MANY)?;
                sum.iter_mut().zip(&producers.counts).for_each(|(sum, count)| *sum += count);
            }
            let mean = sum.iter().sum::<u64>() as f64 / MANY as f64;
            let shares: Vec<f64> = sum.iter().map(|count| *count as f64 / mean).collect();
            bench.record_smallest(share, Unit::Share, &shares, "the same for all", Target::AtLeast(0.25));
        }
        let Producers { starts, processes, .. } = producers;
        drop(starts);
        for process in processes {
            process.join()?;
        }
    }
    idle(bench)
}

fn sleep_on(rx: Receiver<u64>) -> u64 {
    let _ends_with_the_sender = rx.recv();
    cpu_time_us()
}

/// What this process has used of the processor.
fn cpu_time_us() -> u64 {
    let usage = nix::sys::resource::getrusage(nix::sys::resource::UsageWho::RUSAGE_SELF);
    usage.map_or(0, |usage| {
        let time = |at: nix::sys::time::TimeVal| at.tv_sec() as u64 * 1_000_000 + at.tv_usec() as u64;
        time(usage.user_time()) + time(usage.system_time())
    })
}

/// The memory of an idle queue, and the processor time of an idle receiver.
fn idle(bench: &mut Bench) -> Result<(), Error> {
    let (memory, cpu) = ("memory of an idle queue of 1,024", "processor of a receiver that sleeps");
    if bench.wants(memory) {
        let before = shared_memory()?;
        let queue = bounded::<u64>(CAPACITY)?;
        queue.0.send(&1)?;
        queue.1.recv()?;
        bench.record_plain(memory, Unit::Kibibytes, (shared_memory()? - before) / 1024.0);
    }
    if bench.wants(cpu) {
        // One that sleeps for two seconds beside one that ends at once: what starting costs is not counted.
        let used = |time: Duration| -> Result<f64, Error> {
            let (tx, rx) = bounded::<u64>(CAPACITY)?;
            let sleeper = Process::spawn(sleep_on, (rx,))?;
            std::thread::sleep(time);
            drop(tx);
            Ok(sleeper.join()? as f64)
        };
        let (short, long) = (used(Duration::from_secs(1))?, used(Duration::from_secs(6))?);
        let share = (long - short).max(0.0) / 5e6;
        bench.record_plain(cpu, Unit::Percent, 100.0 * share);
    }
    Ok(())
}

fn shared_memory() -> Result<f64, Error> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix("RssShmem:")).ok_or("no RssShmem")?;
    Ok(line.trim().trim_end_matches(" kB").parse::<f64>()? * 1024.0)
}
