//! How long to spin, how long to sleep, and when to look after the others.

use std::io;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use ipc_os::futex::{self, Futex};

/// How a sleep ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rest {
    /// Look at the word again.
    Woken,
    /// The caller's time is over. Look at the word once more.
    TimedOut,
    /// Nobody is left who could change the word.
    Abandoned,
}

/// One wait: until when, and how often it has looked after the others.
#[derive(Debug)]
pub struct Nap {
    deadline: Option<Instant>,
    /// It must not sleep at all.
    at_once: bool,
    ticks: u32,
    next_tick: Option<Instant>,
    /// How often it has been in a hurry, and whether it is now.
    hurried: u32,
    in_a_hurry: bool,
}

/// What one sleep came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Slumber {
    Woken,
    TimedOut,
    /// It is time to look after the others.
    Tick,
}

impl Nap {
    /// As long as it takes.
    pub fn forever() -> Self {
        Nap { deadline: None, at_once: false, ticks: 0, next_tick: None, hurried: 0, in_a_hurry: false }
    }

    /// For that time; a time beyond what the clock can say is for ever.
    pub fn within(timeout: Duration) -> Self {
        Nap { deadline: Instant::now().checked_add(timeout), at_once: timeout.is_zero(), ..Nap::forever() }
    }

    /// Not at all.
    pub fn none() -> Self {
        Nap { at_once: true, ..Nap::forever() }
    }

    /// Whether the time is over.
    pub fn is_over(&self) -> bool {
        self.at_once || self.deadline.is_some_and(|deadline| deadline <= Instant::now())
    }

    /// How many ticks there were.
    pub fn ticks(&self) -> u32 {
        self.ticks
    }

    /// From tick to tick: soon at first, since who waits for a dead one without knowing is held up by it; then
    /// rarely, so that a long sleep costs next to nothing (0.07 % of a core at 100 ms).
    fn interval(&self) -> Duration {
        let ms = if futex::can_watch_several() {
            (10 << self.ticks.min(4)).min(100)
        } else if self.ticks < 25 {
            2
        } else {
            10
        };
        Duration::from_millis(ms)
    }

    /// The next tick is to come soon: somebody is about to be gone.
    pub fn hurry(&mut self) {
        if !self.in_a_hurry {
            self.in_a_hurry = true;
            let soon = Duration::from_micros((50 << self.hurried.min(7)).min(5_000));
            self.hurried = self.hurried.saturating_add(1);
            self.next_tick = Some(Instant::now() + soon);
        }
    }

    /// Sleeps for that time, or less.
    pub(crate) fn sleep_briefly(&self, word: Futex<'_>, time: Duration) -> io::Result<()> {
        let time = futex::left(self.deadline).map_or(time, |left| left.min(time));
        if !self.at_once {
            futex::wait(&[(word, 0)], Some(time))?;
        }
        Ok(())
    }

    /// Sleeps on the words until one is woken, the next tick, or the end of the time.
    pub(crate) fn sleep(&mut self, words: &[(Futex<'_>, u32)]) -> io::Result<Slumber> {
        if self.at_once {
            return Ok(Slumber::TimedOut);
        }
        let now = Instant::now();
        let next_tick = *self.next_tick.get_or_insert(now + self.interval());
        let until = self.deadline.map_or(next_tick, |deadline| deadline.min(next_tick));
        match until.checked_duration_since(now) {
            Some(time) if !time.is_zero() => _ = futex::wait(words, Some(time))?,
            _ => {}
        }
        // A stream of wakes that are for others must not keep it from looking after anybody.
        let now = Instant::now();
        if self.deadline.is_some_and(|deadline| deadline <= now) {
            return Ok(Slumber::TimedOut);
        }
        if next_tick <= now {
            self.ticks = self.ticks.saturating_add(1);
            self.next_tick = None;
            self.in_a_hurry = false;
            return Ok(Slumber::Tick);
        }
        Ok(Slumber::Woken)
    }
}

/// How long spinning pays in one place, learned in this process.
///
/// Waking a sleeper on another core takes some 35 µs, so a wait that is over sooner should spin; but a spin that does
/// not end the wait is lost, and where both share a core it keeps the other from running. How long the spins were
/// that succeeded does not matter, only how many do: one wait in a hundred that is late, and is slept through,
/// costs more than the other ninety-nine together. So the budget is a share of the most that can pay, the larger the
/// fewer fail: all of it where none do, a fifth where half do, none where all do. From there it is tried again at
/// growing intervals: two that answer each other fall asleep together by a single delay, and must find out of it.
///
/// ```
/// use ipc_sync::object::Spin;
/// static SPIN: Spin = Spin::new();
/// let mut looks = 0;
/// assert!(SPIN.spin(|| { looks += 1; looks == 3 }));
/// assert!(!SPIN.spin(|| false), "then it is time to sleep");
/// ```
#[derive(Debug)]
pub struct Spin {
    /// Turns of the loop.
    budget: AtomicU32,
    /// Failures since the last trial, and how many of them there have to be.
    failures: AtomicU32,
    interval: AtomicU32,
}

/// About 40 µs of PAUSE at 20 ns.
const TURNS_MAX: u32 = 2_000;
const TURNS_AT_FIRST: u32 = 200;
const INTERVAL_MIN: u32 = 8;
const INTERVAL_MAX: u32 = 512;

impl Default for Spin {
    fn default() -> Self {
        Spin::new()
    }
}

impl Spin {
    /// Where nothing was learned yet.
    pub const fn new() -> Self {
        Spin {
            budget: AtomicU32::new(TURNS_AT_FIRST),
            failures: AtomicU32::new(0),
            interval: AtomicU32::new(INTERVAL_MIN),
        }
    }

    /// Spins until `done`, or until it does not seem to pay any more: some 40 µs at most, for a `done` that looks at memory.
    #[inline]
    pub fn spin(&self, done: impl FnMut() -> bool) -> bool {
        self.spin_by(1, done)
    }

    /// As [`spin`](Self::spin), for a `done` that takes so many times the 20 ns of a look at memory.
    #[inline]
    pub fn spin_by(&self, cost: u32, mut done: impl FnMut() -> bool) -> bool {
        // Relaxed all over: a guess, which several threads may spoil for each other.
        let budget = self.budget.load(Ordering::Relaxed);
        let failures = self.failures.load(Ordering::Relaxed);
        let trial = failures >= self.interval.load(Ordering::Relaxed);
        let turns = if trial { TURNS_MAX } else { budget };
        let mut turn = 0;
        while turn < turns {
            if done() {
                // What needed no wait tells nothing.
                if turn != 0 {
                    let budget = if trial { budget.max(TURNS_MAX / 4) } else { budget };
                    self.succeeded(budget, failures);
                }
                return true;
            }
            std::hint::spin_loop();
            turn += cost;
        }
        if trial {
            let interval = self.interval.load(Ordering::Relaxed);
            self.interval.store((2 * interval).min(INTERVAL_MAX), Ordering::Relaxed);
            self.failures.store(0, Ordering::Relaxed);
        } else {
            self.failures.store(failures + 1, Ordering::Relaxed);
            self.budget.store(if budget < 16 { 0 } else { budget - budget / 4 }, Ordering::Relaxed);
        }
        false
    }

    fn succeeded(&self, budget: u32, failures: u32) {
        let next = budget + (TURNS_MAX - budget) / 16;
        if next != self.budget.load(Ordering::Relaxed) {
            self.budget.store(next, Ordering::Relaxed);
        }
        if failures != 0 {
            self.failures.store(0, Ordering::Relaxed);
            self.interval.store(INTERVAL_MIN, Ordering::Relaxed);
        }
    }
}
