//! Starts workers, kills them, starts others in their place, and counts in the end.

use std::io::IsTerminal;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use ipc_process::{JoinError, Process};

use crate::check;
use crate::shared::{Counted, ROWS, Random, Shared, Slot, now};
use crate::work::{KINDS, work};

type BoxError = Box<dyn std::error::Error>;

/// A worker that is at one thing for longer than this hangs.
const HANG: Duration = Duration::from_secs(10);

/// After so many violations nothing new is learned.
const VIOLATIONS_MAX: usize = 20;

/// Works and kills for that long. Whether nothing was wrong.
///
/// All of it is done by a process of its own, with a directory for names that nobody else uses.
pub(crate) fn run(kinds: &[&str], time: Duration, workers: usize, seed: u64) -> Result<bool, BoxError> {
    let names = tempfile::Builder::new().prefix("ipc-soak").tempdir_in("/dev/shm")?;
    let kinds: Vec<String> = kinds.iter().map(|kind| kind.to_string()).collect();
    let builder = Process::builder().name("soak").env("IPC_RUNTIME_DIR", names.path());
    Ok(builder.spawn(soak, (kinds, time, workers, seed))?.join()?)
}

fn soak(kinds: Vec<String>, time: Duration, workers: usize, seed: u64) -> bool {
    let shared = Shared::new().expect("there is memory");
    let mut soak = Soak {
        shared,
        kinds,
        random: Random(seed),
        workers: Vec::new(),
        kills: [0; ROWS],
        violations: Vec::new(),
    };
    println!("{workers} workers for {} s, seed {seed}: {}", time.as_secs(), soak.kinds.join(", "));
    let start = Instant::now();
    soak.go(time, workers);
    soak.end();
    soak.violations.extend(check::all(&soak.shared, &soak.kills));
    soak.report(start.elapsed());
    soak.violations.is_empty()
}

struct Soak {
    shared: Shared,
    kinds: Vec<String>,
    random: Random,
    workers: Vec<Process<()>>,
    kills: [u64; ROWS],
    violations: Vec<String>,
}

impl Soak {
    fn start(&mut self, row: usize) -> Process<()> {
        let seed = self.random.below(u64::MAX).max(1);
        self.shared.journal.set(row, Slot::Since, now());
        let arguments = (self.shared.clone(), row, self.kinds.clone(), seed);
        Process::builder().name("worker").spawn(work, arguments).expect("a process can be started")
    }

    fn go(&mut self, time: Duration, workers: usize) {
        for row in 0..workers {
            let worker = self.start(row);
            self.workers.push(worker);
        }
        let target = if std::io::stderr().is_terminal() {
            ProgressDrawTarget::stderr()
        } else {
            ProgressDrawTarget::hidden()
        };
        let bar = ProgressBar::with_draw_target(Some(time.as_secs()), target);
        if let Ok(style) = ProgressStyle::with_template("[{bar:30}] {pos} of {len} s, {msg}") {
            bar.set_style(style.progress_chars("=> "));
        }
        let start = Instant::now();
        while start.elapsed() < time && self.violations.len() < VIOLATIONS_MAX {
            // Often soon after the last one, before it has been found dead.
            let pause = [200, 2_000, 20_000, 40_000][self.random.below(4) as usize];
            std::thread::sleep(Duration::from_micros(self.random.below(pause)));
            self.look();
            let (first, count) =
                (self.random.below(workers as u64) as usize, self.random.below(4).max(1) as usize);
            let rows: Vec<usize> = (0..count.min(workers)).map(|next| (first + next) % workers).collect();
            self.kill(&rows);
            bar.set_position(start.elapsed().as_secs());
            bar.set_message(format!(
                "{} kills, {} operations",
                self.kills.iter().sum::<u64>(),
                self.operations()
            ));
        }
        bar.finish_and_clear();
    }

    /// Whether all still work.
    fn look(&mut self) {
        for row in 0..self.workers.len() {
            if self.hangs(row) {
                let doing = self.shared.journal.get(row, Slot::Doing) as usize;
                let name = KINDS.get(doing).map_or("?", |kind| kind.name);
                self.violations.push(format!("worker {row} hangs in {name}"));
                self.kill(&[row]);
            } else if !self.workers[row].is_alive() {
                let ended = self.workers[row].join_timeout(HANG);
                self.violations.push(format!("worker {row} has ended by itself: {}", outcome(&ended)));
                self.workers[row] = self.start(row);
            }
        }
    }

    fn hangs(&self, row: usize) -> bool {
        let since = self.shared.journal.get(row, Slot::Since);
        since != 0 && now().saturating_sub(since) > HANG.as_micros() as u64
    }

    /// Kills the workers of these rows, and starts others in their place when they are dead: a row is one process's.
    fn kill(&mut self, rows: &[usize]) {
        for &row in rows {
            let kills: u64 = self.kills.iter().sum();
            self.shared.journal.bury(kills, self.workers[row].id());
            if let Err(error) = self.workers[row].kill() {
                self.violations.push(format!("worker {row} cannot be killed: {error}"));
            }
            self.kills[row] += 1;
        }
        for &row in rows {
            match self.workers[row].join_timeout(HANG) {
                // It may not have come to its work yet.
                Err(JoinError::Killed { signal: 9, .. } | JoinError::NeverStarted(_)) => {}
                ended => self.violations.push(format!("worker {row} was killed, and: {}", outcome(&ended))),
            }
            self.workers[row] = self.start(row);
        }
    }

    /// All come to an end by themselves.
    fn end(&mut self) {
        self.shared.journal.stop();
        for (row, worker) in self.workers.iter_mut().enumerate() {
            let ended = worker.join_timeout(HANG);
            if ended.is_err() {
                self.violations.push(format!("worker {row}, at the end: {}", outcome(&ended)));
                // It is gone already, or hangs.
                let _ = worker.kill();
            }
        }
    }

    fn operations(&self) -> u64 {
        Counted::ALL.iter().map(|counted| self.shared.journal.sum(Slot::Done(*counted))).sum()
    }

    fn report(&self, took: Duration) {
        let journal = &self.shared.journal;
        for counted in Counted::ALL {
            let (attempts, done) = (journal.sum(Slot::Attempts(counted)), journal.sum(Slot::Done(counted)));
            if attempts != 0 {
                println!("{:<12} {done:>10} done, {:>6} cut off", format!("{counted:?}"), attempts - done);
            }
        }
        let worst = (0..ROWS).map(|row| journal.get(row, Slot::Worst)).max().unwrap_or(0);
        for violation in &self.violations {
            println!("  {violation}");
        }
        println!(
            "kills {}, operations {}, recoveries {}, {:.1} ms at most from a kill to being told, violations {}, {:.1} s",
            self.kills.iter().sum::<u64>(),
            self.operations(),
            journal.sum(Slot::Recoveries),
            worst as f64 / 1e3,
            self.violations.len(),
            took.as_secs_f64()
        );
    }
}

fn outcome(ended: &Result<(), JoinError>) -> String {
    ended.as_ref().map_or_else(ToString::to_string, |()| "it has returned".into())
}
