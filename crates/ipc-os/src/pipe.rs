//! Pipes: creation, and reads and writes that know neither SIGPIPE nor EINTR.
//!
//! Nothing here sets `O_NONBLOCK`: that flag belongs to the open file description, which copies of the descriptor
//! in other processes share. Calls that must not wait use `RWF_NOWAIT` (pipes have it since Linux 6.5); where that
//! is missing they ask `poll(2)` first and then move no more than what cannot block: at most `PIPE_BUF` bytes into
//! a pipe that is writable (there is a free page), anything out of one that is readable. That is exact as long as an
//! end has a single user, which the crates above see to.

use crate::fd::above_standard_streams;
use crate::sigpipe;
use rustix::io::{Errno, ReadWriteFlags};
use rustix::pipe::PipeFlags;
use std::io::{self, IoSlice, IoSliceMut};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

/// A write of at most this many bytes is atomic: it is never mixed with another writer's.
pub const PIPE_BUF: usize = libc::PIPE_BUF;

/// `RWF_NOWAIT` has been refused for a pipe on this kernel.
static NOWAIT_MISSING: AtomicBool = AtomicBool::new(false);

/// A new pipe: the end to read from, then the end to write to, both close-on-exec.
///
/// # Errors
/// What `pipe2(2)` reports; `EMFILE` when the process has no descriptor left.
///
/// ```
/// use std::os::fd::AsFd;
/// let (reader, writer) = ipc_os::pipe::pipe()?;
/// ipc_os::pipe::write(writer.as_fd(), b"abc")?;
/// let mut buf = [0; 8];
/// assert_eq!(ipc_os::pipe::read(reader.as_fd(), &mut buf)?, 3);
/// # Ok::<(), std::io::Error>(())
/// ```
pub fn pipe() -> io::Result<(OwnedFd, OwnedFd)> {
    let (reader, writer) = rustix::pipe::pipe_with(PipeFlags::CLOEXEC)?;
    Ok((above_standard_streams(reader)?, above_standard_streams(writer)?))
}

/// Writes some of `bytes`, waiting for room. One system call unless a signal interrupts.
///
/// # Errors
/// `BrokenPipe` when nobody can read any more (SIGPIPE is not raised); else what `write(2)` reports.
#[inline]
pub fn write(fd: BorrowedFd<'_>, bytes: &[u8]) -> io::Result<usize> {
    sigpipe::write(fd, bytes)
}

/// Writes some of `parts`, in order, waiting for room.
///
/// # Errors
/// As [`write()`].
pub fn write_vectored(fd: BorrowedFd<'_>, parts: &[IoSlice<'_>]) -> io::Result<usize> {
    sigpipe::write_vectored(fd, parts)
}

/// Writes what has room now.
///
/// # Errors
/// `WouldBlock` when nothing has; else as [`write()`].
pub fn try_write(fd: BorrowedFd<'_>, bytes: &[u8]) -> io::Result<usize> {
    if !NOWAIT_MISSING.load(Relaxed) {
        match sigpipe::write_nowait(fd, &[IoSlice::new(bytes)]) {
            Err(error) if is_unsupported(&error) => NOWAIT_MISSING.store(true, Relaxed),
            other => return other,
        }
    }
    polled_write(fd, bytes)
}

/// [`try_write`] for kernels without `RWF_NOWAIT` on pipes.
fn polled_write(fd: BorrowedFd<'_>, bytes: &[u8]) -> io::Result<usize> {
    let mut written = 0;
    while written < bytes.len() && crate::poll_writable(fd, Some(std::time::Duration::ZERO))? {
        let chunk = &bytes[written..bytes.len().min(written + PIPE_BUF)];
        match sigpipe::write(fd, chunk) {
            Ok(count) => written += count,
            Err(_) if written > 0 => break,
            Err(error) => return Err(error),
        }
    }
    if written == 0 && !bytes.is_empty() { Err(Errno::AGAIN.into()) } else { Ok(written) }
}

/// Reads what is there into `buf`, waiting for the first byte. 0 means that no writer is left.
///
/// # Errors
/// What `read(2)` reports.
#[inline]
pub fn read(fd: BorrowedFd<'_>, buf: &mut [u8]) -> io::Result<usize> {
    loop {
        match rustix::io::read(fd, &mut *buf) {
            Ok(count) => return Ok(count),
            Err(Errno::INTR) => continue,
            Err(error) => return Err(error.into()),
        }
    }
}

/// Reads what is there now. 0 means that no writer is left.
///
/// # Errors
/// `WouldBlock` when nothing is there; else what `read(2)` reports.
pub fn try_read(fd: BorrowedFd<'_>, buf: &mut [u8]) -> io::Result<usize> {
    while !NOWAIT_MISSING.load(Relaxed) {
        match rustix::io::preadv2(fd, &mut [IoSliceMut::new(buf)], u64::MAX, ReadWriteFlags::NOWAIT) {
            Ok(count) => return Ok(count),
            Err(Errno::INTR) => continue,
            Err(error) if is_unsupported(&error.into()) => NOWAIT_MISSING.store(true, Relaxed),
            Err(error) => return Err(error.into()),
        }
    }
    polled_read(fd, buf)
}

/// [`try_read`] for kernels without `RWF_NOWAIT` on pipes.
fn polled_read(fd: BorrowedFd<'_>, buf: &mut [u8]) -> io::Result<usize> {
    if crate::poll_readable(fd, Some(std::time::Duration::ZERO))? {
        read(fd, buf)
    } else {
        Err(Errno::AGAIN.into())
    }
}

fn is_unsupported(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::EOPNOTSUPP | libc::ENOSYS | libc::EINVAL))
}

/// How many bytes the pipe holds before a writer has to wait.
///
/// # Errors
/// What `fcntl(2)` reports.
pub fn capacity(fd: impl AsFd) -> io::Result<usize> {
    Ok(rustix::pipe::fcntl_getpipe_size(fd.as_fd())?)
}

/// Sets how many bytes the pipe holds; the kernel rounds up to a power of two pages, and the result says to what.
///
/// # Errors
/// `EPERM` over `/proc/sys/fs/pipe-max-size` (1 MiB usually) for an unprivileged process, `EBUSY` when more than
/// that is in the pipe already.
pub fn set_capacity(fd: impl AsFd, bytes: usize) -> io::Result<usize> {
    Ok(rustix::pipe::fcntl_setpipe_size(fd.as_fd(), bytes)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    // The kernels that CI runs on have RWF_NOWAIT, so the other way is called by its name.
    #[test]
    fn without_nowait_nothing_waits_either() {
        let (reader, writer) = pipe().unwrap();
        let mut buf = [0u8; 16];
        assert_eq!(polled_read(reader.as_fd(), &mut buf).unwrap_err().kind(), io::ErrorKind::WouldBlock);
        let big = vec![7u8; 1 << 20];
        let filled = polled_write(writer.as_fd(), &big).unwrap();
        assert!(filled >= PIPE_BUF && filled < big.len(), "{filled}");
        assert_eq!(polled_write(writer.as_fd(), &big).unwrap_err().kind(), io::ErrorKind::WouldBlock);
        assert_eq!(polled_read(reader.as_fd(), &mut buf).unwrap(), 16);
        drop(reader);
        // Processes that other tests are starting have copies of it until their exec.
        ipc_testkit::eventually("the reader is gone", || {
            let kind = polled_write(writer.as_fd(), &big).unwrap_err().kind();
            assert!(matches!(kind, io::ErrorKind::BrokenPipe | io::ErrorKind::WouldBlock), "{kind}");
            kind == io::ErrorKind::BrokenPipe
        });
    }
}
