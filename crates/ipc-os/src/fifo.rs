//! FIFOs in the file system.

use nix::sys::stat::Mode;
use rustix::fs::{FileType, OFlags};
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

/// Makes a FIFO that only this user can open: mode 0600, less what the umask takes.
///
/// # Errors
/// `AlreadyExists` when something is there, `NotFound` when the directory is not; else what `mkfifo(3)` reports.
pub fn create(path: &Path) -> io::Result<()> {
    // The umask can only take bits away, and 0600 minus bits that an owner needs would be of no use to anybody:
    // such a umask shows at the first open.
    Ok(nix::unistd::mkfifo(path, Mode::S_IRUSR | Mode::S_IWUSR)?)
}

/// Which end to open.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// For reading. Opening does not wait for a writer.
    Read,
    /// For writing. Fails with `ENXIO` while nobody reads.
    Write,
}

/// Opens an end, without waiting for the other one. The description is this descriptor's own, so it stays
/// non-blocking: `WouldBlock` where a blocking one would wait.
///
/// # Errors
/// `InvalidInput` when the path is not a FIFO; `ENXIO` when opening for writing and nobody reads; else what
/// `open(2)` reports.
pub fn open(path: &Path, end: End) -> io::Result<OwnedFd> {
    let mode = match end {
        End::Read => OFlags::RDONLY,
        End::Write => OFlags::WRONLY,
    };
    let flags = mode | OFlags::NONBLOCK | OFlags::CLOEXEC | OFlags::NOCTTY;
    let fd = rustix::fs::open(path, flags, rustix::fs::Mode::empty())?;
    if FileType::from_raw_mode(rustix::fs::fstat(&fd)?.st_mode) != FileType::Fifo {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, format!("{} is not a FIFO", path.display())));
    }
    Ok(fd)
}

/// Takes the FIFO's advisory lock through `fd`: shared or exclusive, without waiting. The kernel gives it back
/// when the descriptor is closed or its process dies.
///
/// # Errors
/// `WouldBlock` when another description holds a lock that excludes this one.
pub fn lock(fd: impl AsFd, exclusive: bool) -> io::Result<()> {
    use rustix::fs::FlockOperation::{NonBlockingLockExclusive, NonBlockingLockShared};
    let how = if exclusive { NonBlockingLockExclusive } else { NonBlockingLockShared };
    Ok(rustix::fs::flock(fd.as_fd(), how)?)
}

/// Gives the lock back. Closing the descriptor does so as well, but not before the last copy of it is closed: a process
/// that another thread is about to start holds one until it has begun its program.
///
/// # Errors
/// What `flock(2)` reports.
pub fn unlock(fd: impl AsFd) -> io::Result<()> {
    Ok(rustix::fs::flock(fd.as_fd(), rustix::fs::FlockOperation::Unlock)?)
}

/// Whether the last writer has left a FIFO that had one. False before the first writer has come, which `read(2)`
/// alone (0 bytes) cannot tell.
///
/// # Errors
/// What `poll(2)` reports.
pub fn writers_left(fd: impl AsFd) -> io::Result<bool> {
    use rustix::event::{PollFd, PollFlags, poll};
    let mut fds = [PollFd::from_borrowed_fd(fd.as_fd(), PollFlags::IN)];
    loop {
        match poll(&mut fds, Some(&rustix::event::Timespec { tv_sec: 0, tv_nsec: 0 })) {
            Ok(_) => return Ok(fds[0].revents().contains(PollFlags::HUP)),
            Err(rustix::io::Errno::INTR) => continue,
            Err(error) => return Err(error.into()),
        }
    }
}
