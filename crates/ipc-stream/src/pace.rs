//! When a reader lets messages gather before it asks for them.
//!
//! A reader on another core that takes each message as soon as it is there meets the writer in the kernel at every
//! single one: both want the pipe's lock, take turns at it, and each message costs a system call on both sides (59,000
//! reads for 60,000 messages of 64 bytes, 290 ns each, where the writer by itself needs 190 ns). If the reader stays
//! away for a microsecond, the writer puts in several without meeting anybody, and one read takes them all.
//!
//! That pays in a stream and would cost in a dialogue, so it is done only where it is seen to pay:
//!
//! | state | left when | for |
//! |---|---|---|
//! | counting | [`STREAK`] reads in a row have each brought a single message | timing |
//! | timing, for one read | that read took less than [`AT_ONCE`]: it did not wait, so messages come as fast as they are taken | gathering |
//! | | it took longer | counting |
//! | gathering: each read is put off by [`GATHER`] | a read brings a single message: nobody was hurrying | counting |

use std::time::{Duration, Instant};

/// In a dialogue, where every read brings a single message, one read in so many is timed.
const STREAK: u32 = 64;

/// A read that waits for another process takes longer, even if that is about to write on another core.
const AT_ONCE: Duration = Duration::from_nanos(1000);

/// How long a reader stays away: what a message may be late in a stream.
const GATHER: Duration = Duration::from_nanos(1000);

#[derive(Debug, Default)]
pub(crate) struct Pace {
    /// Reads in a row that brought a single message.
    singles: u32,
    gathering: bool,
    /// When the read that is being timed began.
    began: Option<Instant>,
}

impl Pace {
    /// Before a read that may wait.
    #[inline]
    pub(crate) fn before_read(&mut self) {
        if self.gathering {
            gather();
        } else if self.singles >= STREAK {
            self.began = Some(Instant::now());
        }
    }

    /// After it, saying whether it brought no more than one message.
    #[inline]
    pub(crate) fn after_read(&mut self, single: bool) {
        if !single {
            self.singles = 0;
        } else if self.gathering {
            (self.gathering, self.singles) = (false, 0);
        } else {
            self.singles += 1;
            if let Some(began) = self.began.take() {
                (self.gathering, self.singles) = (began.elapsed() < AT_ONCE, 0);
            }
        }
    }
}

/// Stays away from the system for [`GATHER`].
#[cold]
fn gather() {
    let began = Instant::now();
    while began.elapsed() < GATHER {
        for _ in 0..4 {
            std::hint::spin_loop();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// So many reads, each of which brings a single message after `wait`.
    fn singles(pace: &mut Pace, count: u32, wait: Duration) {
        for _ in 0..count {
            pace.before_read();
            if pace.began.is_some() {
                std::thread::sleep(wait);
            }
            pace.after_read(true);
        }
    }

    #[test]
    fn a_dialogue_is_left_alone() {
        let mut pace = Pace::default();
        for _ in 0..10 {
            singles(&mut pace, STREAK + 1, Duration::from_micros(50));
            assert!(!pace.gathering);
        }
    }

    #[test]
    fn a_stream_of_singles_is_gathered_while_that_pays() {
        // A read "at once" may be interrupted on a busy machine: it is then told from a stream a little later.
        let mut pace = Pace::default();
        let mut tries = 0;
        while !pace.gathering {
            singles(&mut pace, 1, Duration::ZERO);
            tries += 1;
            assert!(tries < 100_000, "no stream was ever seen");
        }
        assert!(tries > STREAK);
        for _ in 0..10 {
            pace.before_read();
            pace.after_read(false);
            assert!(pace.gathering, "several came: it pays");
        }
        pace.before_read();
        pace.after_read(true);
        assert!(!pace.gathering, "one came: it does not");
        assert_eq!(pace.singles, 0, "and is not tried again at once");
    }

    #[test]
    fn reads_of_several_messages_start_the_count_again() {
        let mut pace = Pace::default();
        singles(&mut pace, STREAK - 1, Duration::ZERO);
        pace.after_read(false);
        singles(&mut pace, STREAK - 1, Duration::ZERO);
        assert!(!pace.gathering && pace.began.is_none());
    }
}
