//! Waiting for a word in shared memory to change, and waking those who do.
//!
//! Everything here is about words that several processes share: never `FUTEX_PRIVATE_FLAG`. A wait may end for no
//! reason; whoever waits looks at the word again.

use std::io;
use std::marker::PhantomData;
use std::sync::atomic::{AtomicU8, AtomicU32, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use rustix::io::Errno;
use rustix::thread::futex::{self, Flags, Wait as RawWait, WaitFlags, WaitPtr, WaitvFlags};
use rustix::time::{ClockId, Timespec};

/// The most words that one wait can watch.
pub const WORDS_MAX: usize = 128;

/// A 32-bit word that can be waited for: an [`AtomicU32`], or the low half of an [`AtomicU64`].
#[derive(Debug, Clone, Copy)]
pub struct Futex<'a> {
    word: *const AtomicU32,
    life: PhantomData<&'a AtomicU32>,
}

impl<'a> From<&'a AtomicU32> for Futex<'a> {
    fn from(word: &'a AtomicU32) -> Self {
        Futex { word, life: PhantomData }
    }
}

impl<'a> From<&'a AtomicU64> for Futex<'a> {
    fn from(word: &'a AtomicU64) -> Self {
        let half: *const AtomicU32 = std::ptr::from_ref(word).cast();
        let low = if cfg!(target_endian = "little") { half } else { half.wrapping_add(1) };
        Futex { word: low, life: PhantomData }
    }
}

impl Futex<'_> {
    /// The word for a call that takes its address, and never looks at it otherwise.
    fn address(&self) -> &AtomicU32 {
        // SAFETY: it points to an `AtomicU32`, or to an aligned half of an `AtomicU64`, that lives as long as `self`.
        unsafe { &*self.word }
    }
}

/// How a wait ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Slept {
    /// A wake, a signal, or a word that was not what was expected: look again.
    Woken,
    /// The time is over.
    TimedOut,
}

/// Sleeps until one of the words is woken, unless one of them is no longer what it is expected to be; `timeout` at
/// the longest. With several words it needs `futex_waitv` ([`can_watch_several`]); without that only the last word is
/// watched.
///
/// # Errors
/// What the system call reports: `Unsupported` (`ENOSYS`) if even plain futexes are forbidden here, `InvalidInput` for
/// no or more than [`WORDS_MAX`] words.
pub fn wait(words: &[(Futex<'_>, u32)], timeout: Option<Duration>) -> io::Result<Slept> {
    let Some((last, others)) = words.split_last() else { return Err(io::ErrorKind::InvalidInput.into()) };
    let ended = if others.is_empty() || !can_watch_several() {
        // A time that does not fit is for ever.
        let timeout = timeout.and_then(|timeout| Timespec::try_from(timeout).ok());
        futex::wait(last.0.address(), Flags::empty(), last.1, timeout.as_ref())
    } else {
        wait_several(words, timeout)
    };
    match ended {
        Ok(()) | Err(Errno::AGAIN | Errno::INTR) => Ok(Slept::Woken),
        Err(Errno::TIMEDOUT) => Ok(Slept::TimedOut),
        Err(error) => Err(error.into()),
    }
}

fn wait_several(words: &[(Futex<'_>, u32)], timeout: Option<Duration>) -> Result<(), Errno> {
    if words.len() > WORDS_MAX {
        return Err(Errno::INVAL);
    }
    let mut raw = [RawWait::new(); WORDS_MAX];
    for (raw, (word, expected)) in raw.iter_mut().zip(words) {
        raw.val = u64::from(*expected);
        raw.uaddr = WaitPtr::new(word.word.cast_mut().cast());
        raw.flags = WaitFlags::SIZE_U32;
    }
    let deadline = timeout.and_then(|timeout| {
        let now = rustix::time::clock_gettime(ClockId::Monotonic);
        now.checked_add(Timespec::try_from(timeout).ok()?)
    });
    futex::waitv(&raw[..words.len()], WaitvFlags::empty(), deadline.as_ref(), ClockId::Monotonic).map(drop)
}

/// Wakes up to `count` of those who wait for the word; how many there were.
pub fn wake(word: Futex<'_>, count: u32) -> usize {
    // A page that is gone has no sleepers either; nothing else can fail.
    futex::wake(word.address(), Flags::empty(), count.min(i32::MAX as u32)).unwrap_or(0)
}

/// Wakes all who wait for the word; how many there were.
pub fn wake_all(word: Futex<'_>) -> usize {
    wake(word, u32::MAX)
}

/// Whether the kernel has `futex_waitv` (Linux 5.16) and lets this process use it.
pub fn can_watch_several() -> bool {
    static KNOWN: AtomicU8 = AtomicU8::new(0);
    match KNOWN.load(Ordering::Relaxed) {
        0 => {
            // No words at all: EINVAL from a kernel that has the call; a filter may say ENOSYS or EPERM.
            let answer = futex::waitv(&[], WaitvFlags::empty(), None, ClockId::Monotonic);
            let can = answer == Err(Errno::INVAL);
            KNOWN.store(if can { 1 } else { 2 }, Ordering::Relaxed);
            can
        }
        known => known == 1,
    }
}

/// The time left until a deadline; `None` is for ever.
pub fn left(deadline: Option<Instant>) -> Option<Duration> {
    deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use ipc_testkit::{PATIENCE, watchdog};
    use std::sync::Arc;

    #[test]
    fn a_changed_word_does_not_let_anybody_sleep() {
        let (a, b) = (AtomicU32::new(1), AtomicU64::new(0xffff_0000_0000_0005));
        for words in
            [vec![((&a).into(), 2)], vec![((&b).into(), 4)], vec![((&a).into(), 1), ((&b).into(), 4)]]
        {
            assert_eq!(wait(&words, None).unwrap(), Slept::Woken);
        }
        assert!(wait(&[], None).is_err());
        let many = [((&a).into(), 1); WORDS_MAX + 1];
        assert_eq!(wait(&many, None).unwrap_err().kind(), io::ErrorKind::InvalidInput);
    }

    #[test]
    fn the_time_given_is_slept() {
        let (a, b) = (AtomicU32::new(1), AtomicU64::new(0xffff_0000_0000_0005));
        for words in [vec![((&a).into(), 1)], vec![((&a).into(), 1), ((&b).into(), 5)]] {
            let start = Instant::now();
            while wait(&words, Some(Duration::from_millis(20))).unwrap() != Slept::TimedOut {}
            assert!(start.elapsed() >= Duration::from_millis(20));
        }
    }

    #[test]
    fn any_of_the_words_wakes() {
        let _watchdog = watchdog("any_of_the_words_wakes");
        let words = Arc::new([AtomicU64::new(7), AtomicU64::new(7)]);
        for n in 0..2 {
            let theirs = Arc::clone(&words);
            let waiter = std::thread::spawn(move || {
                let watched: Vec<_> = theirs.iter().map(|word| (word.into(), 7)).collect();
                // Acquire: with the Release of the other thread's stores.
                while theirs.iter().all(|word| word.load(Ordering::Acquire) == 7) {
                    wait(&watched, Some(PATIENCE)).unwrap();
                }
            });
            std::thread::sleep(Duration::from_millis(20));
            // Release, both: with the Acquire above.
            words[n].store(8, Ordering::Release);
            wake_all((&words[n]).into());
            waiter.join().unwrap();
            words[n].store(7, Ordering::Release);
        }
        assert_eq!(wake_all((&words[0]).into()), 0, "nobody is there");
    }
}
