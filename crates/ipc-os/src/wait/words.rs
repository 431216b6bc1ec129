//! Sleeping on words in memory, and on descriptors at the same time.

use std::io;
use std::os::fd::AsFd;
use std::sync::atomic::AtomicU32;
use std::sync::atomic::Ordering::Release;
use std::time::Duration;

use rustix::event::{EventfdFlags, PollFd, PollFlags, eventfd};

use super::poll_until;
use crate::futex::{self, Futex};
use crate::threads;

/// From tick to tick all are asked again: a process that was killed wakes nobody.
pub(super) const FIRST_TICK: Duration = Duration::from_millis(10);
pub(super) const LAST_TICK: Duration = Duration::from_millis(100);
/// Where not all words can be watched: a kernel before 5.16, or more words than it takes.
const TICK_BLIND: Duration = Duration::from_millis(2);

/// Sleeps until one of the words is another, a descriptor is ready, or the time is over.
///
/// The kernel has no call for both. A thread that lives as long as this call watches the words meanwhile; it touches
/// nothing but the words.
pub(super) fn sleep(words: &[(&AtomicU32, u32)], fds: &mut [PollFd<'_>], time: Duration) -> io::Result<()> {
    let watched = &words[..words.len().min(futex::WORDS_MAX - 1)];
    let is_blind = watched.len() < words.len() || !futex::can_watch_several() && words.len() + fds.len() > 1;
    let time = if is_blind { time.min(TICK_BLIND) } else { time };
    if fds.is_empty() {
        futex::wait(&futexes(watched), Some(time))?;
        return Ok(());
    }
    let woken = eventfd(0, EventfdFlags::CLOEXEC)?;
    let stop = AtomicU32::new(0);
    let watched: Vec<_> = watched.iter().copied().chain([(&stop, 0)]).collect();
    std::thread::scope(|scope| -> io::Result<()> {
        let watch = || {
            let _internal = threads::internal();
            // Whatever ends it, an error too, is looked after by the other one.
            let _woken = futex::wait(&futexes(&watched), Some(time));
            let _cannot_fail = rustix::io::write(&woken, &1_u64.to_ne_bytes());
        };
        std::thread::Builder::new().name("ipc-wait".into()).spawn_scoped(scope, watch)?;
        let mut all = fds.to_vec();
        all.push(PollFd::from_borrowed_fd(woken.as_fd(), PollFlags::IN));
        let polled = poll_until(&mut all, Some(time));
        // Release: with the kernel's look at the word, before the thread sleeps.
        stop.store(1, Release);
        futex::wake_all((&stop).into());
        polled.map(drop)
    })?;
    // Which ones they are.
    poll_until(fds, Some(Duration::ZERO)).map(drop)
}

fn futexes<'a>(words: &[(&'a AtomicU32, u32)]) -> Vec<(Futex<'a>, u32)> {
    words.iter().map(|(word, is)| ((*word).into(), *is)).collect()
}
