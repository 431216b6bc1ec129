//! One wait over many sources.

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::atomic::AtomicU32;
use std::time::{Duration, Instant};

mod words;

/// How a source that somebody waits for tells that it is ready.
#[derive(Debug, Clone, Copy)]
#[non_exhaustive]
pub enum Readiness<'a> {
    /// It is ready already: something is buffered in this process, where the kernel cannot see it.
    Now,
    /// It is ready when this descriptor is readable, at its end, or in error.
    Descriptor(BorrowedFd<'a>),
    /// It may be ready when this word is not what it was any more: then it is asked again. Who changes the word wakes those
    /// who sleep on it. It is asked again at least each 100 ms, too.
    Word(&'a AtomicU32, u32),
}

/// Something that [`wait`] can wait for.
///
/// Ready means that the operation that one waits for will not wait, or that it has begun to arrive: a pipe end
/// of which half a message is here counts as ready once there are new bytes, and `try_recv` then tells.
pub trait Waitable {
    /// How to tell whether this is ready.
    fn readiness(&self) -> Readiness<'_>;

    /// After a wait that may have slept on this one's word, and so may have been woken for it: others who sleep there are
    /// not to be forgotten.
    fn has_slept(&self) {}
}

macro_rules! waitable_by_descriptor {
    ($($t:ty),* $(,)?) => {$(
        impl Waitable for $t {
            fn readiness(&self) -> Readiness<'_> {
                Readiness::Descriptor(self.as_fd())
            }
        }
    )*};
}

waitable_by_descriptor!(
    OwnedFd,
    BorrowedFd<'_>,
    std::fs::File,
    std::io::PipeReader,
    std::io::Stdin,
    std::net::TcpListener,
    std::net::TcpStream,
    std::net::UdpSocket,
    std::os::unix::net::UnixDatagram,
    std::os::unix::net::UnixListener,
    std::os::unix::net::UnixStream,
    std::process::ChildStderr,
    std::process::ChildStdout,
);

impl<T: Waitable + ?Sized> Waitable for &T {
    fn readiness(&self) -> Readiness<'_> {
        (**self).readiness()
    }

    fn has_slept(&self) {
        (**self).has_slept();
    }
}

/// Waits until one or more of `sources` are ready, or until `timeout` has passed (`None`: for ever), and returns
/// the indices of all that are ready, in order. A time-out gives an empty list; a time-out of zero only looks.
///
/// Nothing is consumed. A signal does not end the wait.
///
/// # Errors
/// What `poll(2)` reports: out of memory, or more sources than the process may have descriptors.
///
/// ```
/// use std::io::Write;
/// use std::os::unix::net::UnixStream;
/// use std::time::Duration;
/// let (mut a, b) = UnixStream::pair()?;
/// let (c, _d) = UnixStream::pair()?;
/// a.write_all(b"x")?;
/// assert_eq!(ipc_os::wait(&[&c, &b], Some(Duration::from_secs(5)))?, [1]);
/// # Ok::<(), std::io::Error>(())
/// ```
pub fn wait(sources: &[&dyn Waitable], timeout: Option<Duration>) -> io::Result<Vec<usize>> {
    // A time too far ahead for the clock is for ever.
    let deadline = timeout.and_then(|timeout| Instant::now().checked_add(timeout));
    let mut tick = words::FIRST_TICK;
    loop {
        let mut ready = Vec::new();
        let mut polled = Vec::with_capacity(sources.len());
        let mut index_of = Vec::with_capacity(sources.len());
        let mut words = Vec::new();
        for (index, source) in sources.iter().enumerate() {
            match source.readiness() {
                Readiness::Now => ready.push(index),
                Readiness::Descriptor(fd) => {
                    polled.push(PollFd::from_borrowed_fd(fd, PollFlags::IN));
                    index_of.push(index);
                }
                Readiness::Word(word, is) => words.push((word, is)),
            }
        }
        let left = deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
        let left = if deadline.is_some() { left } else { timeout.filter(Duration::is_zero) };
        let is_over = left.is_some_and(|left| left.is_zero());
        // With something ready the kernel is still asked, without waiting: all that are ready are returned.
        if !ready.is_empty() || is_over {
            poll_until(&mut polled, Some(Duration::ZERO))?;
        } else if words.is_empty() {
            poll_until(&mut polled, left)?;
        } else {
            words::sleep(&words, &mut polled, left.map_or(tick, |left| left.min(tick)))?;
            sources.iter().for_each(|source| source.has_slept());
            tick = (2 * tick).min(words::LAST_TICK);
        }
        let is_ready = |fd: &PollFd<'_>| !fd.revents().is_empty();
        ready.extend(polled.iter().zip(index_of).filter(|(fd, _)| is_ready(fd)).map(|(_, index)| index));
        if !ready.is_empty() && !words.is_empty() && !is_over {
            // What is in memory may have become ready meanwhile.
            let now = |index: &usize| matches!(sources[*index].readiness(), Readiness::Now);
            ready.extend((0..sources.len()).filter(now).collect::<Vec<_>>());
        }
        if !ready.is_empty() || is_over || words.is_empty() {
            ready.sort_unstable();
            ready.dedup();
            return Ok(ready);
        }
    }
}

/// Waits until `fd` can be read without waiting (data, end of file or an error), or the time is over.
///
/// # Errors
/// What `poll(2)` reports.
pub fn poll_readable(fd: BorrowedFd<'_>, timeout: Option<Duration>) -> io::Result<bool> {
    poll_one(fd, PollFlags::IN, timeout)
}

/// Waits until `fd` can be written without waiting (room, or an error such as a reader that is gone), or the
/// time is over.
///
/// # Errors
/// What `poll(2)` reports.
pub fn poll_writable(fd: BorrowedFd<'_>, timeout: Option<Duration>) -> io::Result<bool> {
    poll_one(fd, PollFlags::OUT, timeout)
}

fn poll_one(fd: BorrowedFd<'_>, events: PollFlags, timeout: Option<Duration>) -> io::Result<bool> {
    let mut fds = [PollFd::from_borrowed_fd(fd, events)];
    poll_until(&mut fds, timeout)
}

fn poll_until(fds: &mut [PollFd<'_>], timeout: Option<Duration>) -> io::Result<bool> {
    // A time too far ahead for the clock is for ever.
    let deadline = timeout.and_then(|timeout| Instant::now().checked_add(timeout));
    let mut left = timeout;
    loop {
        let spec = match left {
            Some(left) if deadline.is_some() => Timespec::try_from(left).ok(),
            _ => None,
        };
        match poll(fds, spec.as_ref()) {
            Ok(count) => return Ok(count > 0),
            Err(Errno::INTR) => left = deadline.map(|at| at.saturating_duration_since(Instant::now())),
            Err(error) => return Err(error.into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pidfd::PidFd;
    use crate::{pipe, socket};
    use ipc_testkit::watchdog;

    const LONG: Option<Duration> = Some(Duration::from_secs(50));

    /// Something that is buffered in this process.
    struct Buffered;
    impl Waitable for Buffered {
        fn readiness(&self) -> Readiness<'_> {
            Readiness::Now
        }
    }

    #[test]
    fn all_that_are_ready_are_returned_whatever_they_are() {
        let _watchdog = watchdog("all_that_are_ready_are_returned_whatever_they_are");
        let (reader, writer) = pipe::pipe().unwrap();
        let (a, b) = socket::pair(socket::Style::Stream).unwrap();
        let (quiet, _kept) = pipe::pipe().unwrap();
        let mut child = std::process::Command::new("true").spawn().unwrap();
        let sentinel = PidFd::open(child.id()).unwrap();
        pipe::write(writer.as_fd(), b"x").unwrap();
        drop(a);
        assert!(sentinel.wait_ended(LONG).unwrap());
        // Processes that other tests are starting have copies of `a` until their exec.
        assert!(poll_readable(b.as_fd(), LONG).unwrap());
        let sources: [&dyn Waitable; 6] = [&quiet, &reader, &Buffered, &b, &quiet, &sentinel];
        for timeout in [None, Some(Duration::ZERO), LONG, Some(Duration::MAX)] {
            assert_eq!(wait(&sources, timeout).unwrap(), [1, 2, 3, 5]);
        }
        assert_eq!(wait(&[&reader, &reader], None).unwrap(), [0, 1], "the same one twice");
        child.wait().unwrap();
    }

    #[test]
    fn nothing_ready_is_an_empty_list_when_the_time_is_over() {
        let (reader, _writer) = pipe::pipe().unwrap();
        assert_eq!(wait(&[&reader], Some(Duration::ZERO)).unwrap(), [0; 0]);
        let start = Instant::now();
        assert_eq!(wait(&[&reader], Some(Duration::from_millis(30))).unwrap(), [0; 0]);
        assert!(start.elapsed() >= Duration::from_millis(30));
        assert_eq!(wait(&[], Some(Duration::ZERO)).unwrap(), [0; 0]);
        assert!(!poll_readable(reader.as_fd(), Some(Duration::ZERO)).unwrap());
    }

    #[test]
    fn hundreds_of_sources() {
        let pipes: Vec<_> = (0..300).map(|_| pipe::pipe().unwrap()).collect();
        let sources: Vec<&dyn Waitable> = pipes.iter().map(|(reader, _)| reader as &dyn Waitable).collect();
        for n in [7, 299] {
            pipe::write(pipes[n].1.as_fd(), b"x").unwrap();
        }
        assert_eq!(wait(&sources, LONG).unwrap(), [7, 299]);
    }

    #[test]
    fn more_sources_than_descriptors_are_an_error() {
        ipc_testkit::alone("wait::tests::more_sources_than_descriptors_are_an_error", || {
            let now = rustix::process::getrlimit(rustix::process::Resource::Nofile);
            let low = rustix::process::Rlimit { current: Some(50), ..now };
            rustix::process::setrlimit(rustix::process::Resource::Nofile, low).unwrap();
            let (reader, _writer) = pipe::pipe().unwrap();
            let sources = [&reader as &dyn Waitable; 51];
            assert_eq!(wait(&sources, LONG).unwrap_err().kind(), io::ErrorKind::InvalidInput);
        });
    }

    extern "C" fn count(_: libc::c_int) {
        COUNT.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
    }
    static COUNT: std::sync::atomic::AtomicU32 = std::sync::atomic::AtomicU32::new(0);

    #[test]
    fn signals_neither_end_nor_shorten_a_wait() {
        ipc_testkit::alone("wait::tests::signals_neither_end_nor_shorten_a_wait", || {
            let _watchdog = watchdog("signals_neither_end_nor_shorten_a_wait");
            // No SA_RESTART, and poll(2) is never restarted anyway.
            let handler = nix::sys::signal::SigHandler::Handler(count);
            let action = nix::sys::signal::SigAction::new(
                handler,
                nix::sys::signal::SaFlags::empty(),
                nix::sys::signal::SigSet::empty(),
            );
            // SAFETY: the handler only adds to an atomic.
            unsafe { nix::sys::signal::sigaction(nix::sys::signal::Signal::SIGUSR1, &action) }.unwrap();
            let (reader, writer) = pipe::pipe().unwrap();
            let waiting = nix::sys::pthread::pthread_self();
            let start = Instant::now();
            let disturber = std::thread::spawn(move || {
                for _ in 0..20 {
                    nix::sys::pthread::pthread_kill(waiting, nix::sys::signal::Signal::SIGUSR1).unwrap();
                    std::thread::sleep(Duration::from_millis(5));
                }
                pipe::write(writer.as_fd(), b"x").unwrap();
                writer
            });
            assert_eq!(wait(&[&reader], Some(Duration::from_millis(50))).unwrap(), [0; 0]);
            assert!(start.elapsed() >= Duration::from_millis(50));
            assert_eq!(wait(&[&reader], None).unwrap(), [0]);
            disturber.join().unwrap();
            // Two that are pending at once are one.
            assert!(COUNT.load(std::sync::atomic::Ordering::Relaxed) >= 5);
        });
    }
}
