//! What a program without this project would use: words in a shared page, and futexes on them.

use std::os::fd::{AsRawFd, OwnedFd};
use std::sync::atomic::{AtomicU32, AtomicU64};

use ipc_os::futex::{self, Futex};
use ipc_os::map::{Access, Mapping};
use serde::{Deserialize, Serialize};
use std::sync::atomic::Ordering::{AcqRel, Acquire, Relaxed, Release};

use crate::harness::Error;

const LEN: usize = 1 << 16;

/// A memory file that another process can open.
pub(crate) struct Page {
    fd: OwnedFd,
    map: Mapping,
}

/// Where to find it.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub(crate) struct Found {
    process: u32,
    fd: i32,
}

impl Page {
    pub(crate) fn new() -> Result<Self, Error> {
        let fd = ipc_os::memfd::shared("bench", LEN)?;
        let map = Mapping::new(&fd, LEN, Access::ReadWrite)?;
        map.prefault()?;
        Ok(Page { fd, map })
    }

    pub(crate) fn found(&self) -> Found {
        Found { process: std::process::id(), fd: self.fd.as_raw_fd() }
    }

    pub(crate) fn open(found: Found) -> Result<Self, Error> {
        let path = format!("/proc/{}/fd/{}", found.process, found.fd);
        let fd = OwnedFd::from(std::fs::OpenOptions::new().read(true).write(true).open(path)?);
        let map = Mapping::new(&fd, LEN, Access::ReadWrite)?;
        map.prefault()?;
        Ok(Page { fd, map })
    }

    pub(crate) fn map(&self) -> &Mapping {
        &self.map
    }

    /// The first word of a cache line of 128 bytes (pairs of lines are fetched together).
    pub(crate) fn line(&self, index: usize) -> &AtomicU64 {
        self.map.u64(index * 128).expect("far from the end")
    }

    fn word(&self, index: usize) -> &AtomicU32 {
        self.map.u32(index * 128).expect("far from the end")
    }

    /// Says `number` on one line and waits until it is on another.
    pub(crate) fn ping(&self, ours: usize, theirs: usize, number: u64) {
        self.line(ours).store(number, Release);
        self.pong(theirs, number);
    }

    pub(crate) fn pong(&self, theirs: usize, number: u64) {
        while self.line(theirs).load(Acquire) != number {
            std::hint::spin_loop();
        }
    }

    /// Sets a flag and wakes who sleeps on it, as the plainest program with a futex does.
    pub(crate) fn set(&self, index: usize) {
        self.word(index).store(1, Release);
        futex::wake(Futex::from(self.word(index)), 1);
    }

    /// Sleeps until the flag is set, and clears it.
    pub(crate) fn take(&self, index: usize) -> Result<(), Error> {
        while self.word(index).swap(0, AcqRel) == 0 {
            futex::wait(&[(Futex::from(self.word(index)), 0)], None)?;
        }
        Ok(())
    }
}

/// A condition variable of bare atomics: a lock, and a word to wait at for each of the two sides. It makes the transfers
/// that any condition makes which can also sleep: the lock is given back, and a waiter is told, by an exchange that would
/// learn of sleepers. But it has no owners, no deaths, no queue and no sleep.
pub(crate) struct BareCondition<'a> {
    lock: &'a AtomicU64,
    waiters: [&'a AtomicU64; 2],
}

impl<'a> BareCondition<'a> {
    pub(crate) fn new(page: &'a Page, line: usize) -> Self {
        BareCondition { lock: page.line(line), waiters: [page.line(line + 1), page.line(line + 2)] }
    }

    pub(crate) fn lock(&self, me: u64) {
        while self.lock.compare_exchange_weak(0, me + 1, Acquire, Relaxed).is_err() {
            while self.lock.load(Relaxed) != 0 {
                std::hint::spin_loop();
            }
        }
    }

    pub(crate) fn unlock(&self) {
        assert!(self.lock.swap(0, Release) <= 2, "nobody sleeps here");
    }

    pub(crate) fn wait(&self, me: u64) {
        let word = self.waiters[me as usize];
        word.store(1, Relaxed);
        self.unlock();
        while word.load(Acquire) != 2 {
            std::hint::spin_loop();
        }
        self.lock(me);
        word.store(0, Relaxed);
    }

    pub(crate) fn notify(&self, me: u64) {
        let other = self.waiters[1 - me as usize];
        if other.load(Relaxed) == 1 {
            assert!(other.swap(2, Release) == 1, "nobody sleeps here");
        }
    }
}
