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

/// When one side of something that two share stays away from the other for a moment: it learns whether that pays.
#[derive(Debug)]
pub struct Pace {
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
    /// Before a wait: whether it is time to [stay away](Self::stay_away). Then [`has_paid`](Self::has_paid) is to be told.
    #[inline]
    pub fn is_due(&self) -> bool {
        let left = self.left.load(Relaxed);
        if left > 1 {
            self.left.store(left - 1, Relaxed);
        }
        left <= 1
    }

    /// Leaves the other side alone for a moment.
    #[cold]
    pub fn stay_away() {
        let start = Instant::now();
        while start.elapsed() < TIME {
            for _ in 0..4 {
                std::hint::spin_loop();
            }
        }
    }

    /// Whether there was more than one thing to do after that.
    pub fn has_paid(&self, has_paid: bool) {
        if has_paid {
            self.left.store(0, Relaxed);
            return self.interval.store(INTERVAL_MIN, Relaxed);
        }
        // One that did not pay once may again; a trial that fails is put off.
        let was_paying = self.left.load(Relaxed) == 0;
        let interval = self.interval.load(Relaxed);
        let interval = if was_paying { INTERVAL_MIN } else { (2 * interval).min(INTERVAL_MAX) };
        self.interval.store(interval, Relaxed);
        self.left.store(interval, Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// How many waits there are until the next trial.
    fn until_due(pace: &Pace) -> u32 {
        (0..).find(|_| pace.is_due()).unwrap()
    }

    #[test]
    fn a_dialogue_is_left_alone_more_and_more() {
        let pace = Pace::default();
        for expected in [64, 128, 256, 512, 1024, 2048, 4096, 4096] {
            assert_eq!(until_due(&pace) + 1, expected);
            pace.has_paid(false);
        }
    }

    #[test]
    fn a_stream_is_let_gather_until_it_does_not_pay() {
        let pace = Pace::default();
        until_due(&pace);
        for _ in 0..10 {
            pace.has_paid(true);
            assert!(pace.is_due());
        }
        pace.has_paid(false);
        assert_eq!(until_due(&pace) + 1, 64);
    }
}
