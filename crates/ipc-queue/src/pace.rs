//! When one stays away from the other side for a moment.
//!
//! A receiver that is quicker than the sender takes each message as soon as it is there: both want the same cache lines at
//! every message, and each waits for the other's core (126 ns a message, where either by itself needs 40). If it stays
//! away for a microsecond, several come together without meeting anybody, and it takes them at once. The same is true of a
//! sender that finds the queue full.
//!
//! That pays in a stream and would cost in a dialogue. So it is tried now and then, at intervals that grow while it does
//! not pay, and kept up as long as there is much to do afterwards each time. What is kept is a guess of this process's,
//! which threads may spoil for each other.

use std::sync::atomic::AtomicU32;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

/// How long one stays away: what a message may be late in a stream.
const TIME: Duration = Duration::from_micros(1);
const INTERVAL_MIN: u32 = 64;
const INTERVAL_MAX: u32 = 4096;

#[derive(Debug)]
pub(crate) struct Pace {
    /// Waits until the next trial; 0 while it pays.
    left: AtomicU32,
    interval: AtomicU32,
}

impl Default for Pace {
    fn default() -> Self {
        Pace { left: AtomicU32::new(INTERVAL_MIN), interval: AtomicU32::new(INTERVAL_MIN) }
    }
}

impl Pace {
    /// Before a wait: stays away if that seems to pay. `many` says afterwards whether it did.
    #[inline]
    pub(crate) fn hold_off(&self, many: impl Fn() -> bool) {
        let left = self.left.load(Relaxed);
        if left > 1 {
            self.left.store(left - 1, Relaxed);
        } else {
            self.stay_away(left == 0, many);
        }
    }

    #[cold]
    fn stay_away(&self, paid: bool, many: impl Fn() -> bool) {
        let start = Instant::now();
        while start.elapsed() < TIME {
            for _ in 0..4 {
                std::hint::spin_loop();
            }
        }
        if many() {
            self.left.store(0, Relaxed);
            self.interval.store(INTERVAL_MIN, Relaxed);
            return;
        }
        // One that did not pay once may again; a trial that fails is put off.
        let interval = self.interval.load(Relaxed);
        let interval = if paid { INTERVAL_MIN } else { (2 * interval).min(INTERVAL_MAX) };
        self.interval.store(interval, Relaxed);
        self.left.store(interval, Relaxed);
    }
}
