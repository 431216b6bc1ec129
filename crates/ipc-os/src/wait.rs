//! One wait over many sources.

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

/// How a source that somebody waits for tells that it is ready.
#[derive(Debug, Clone, Copy)]
#[non_exhaustive]
pub enum Readiness<'a> {
    /// It is ready already: something is buffered in this process, where the kernel cannot see it.
    Now,
    /// It is ready when this descriptor is readable, at its end, or in error.
    Descriptor(BorrowedFd<'a>),
}

/// Something that [`wait`] can wait for.
///
/// Ready means that the operation that one waits for will not wait, or that it has begun to arrive: a pipe end
/// of which half a message is here counts as ready once there are new bytes, and `try_recv` then tells.
pub trait Waitable {
    /// How to tell whether this is ready.
    fn readiness(&self) -> Readiness<'_>;
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
    let mut ready_now = Vec::new();
    let mut polled = Vec::with_capacity(sources.len());
    let mut index_of = Vec::with_capacity(sources.len());
    for (index, source) in sources.iter().enumerate() {
        match source.readiness() {
            Readiness::Now => ready_now.push(index),
            Readiness::Descriptor(fd) => {
                polled.push(PollFd::from_borrowed_fd(fd, PollFlags::IN));
                index_of.push(index);
            }
        }
    }
    // With something buffered the kernel is still asked, without waiting: all that are ready are returned.
    let timeout = if ready_now.is_empty() { timeout } else { Some(Duration::ZERO) };
    poll_until(&mut polled, timeout)?;
    let mut ready = ready_now;
    ready.extend(
        polled.iter().zip(index_of).filter(|(fd, _)| !fd.revents().is_empty()).map(|(_, index)| index),
    );
    ready.sort_unstable();
    Ok(ready)
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
