//! Many descriptors as one, for who waits for that one beside others.

use rustix::event::epoll;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use crate::fd::above_standard_streams;

/// A descriptor that is readable while any of a set is: `epoll(7)`, for those who nest it in a wait of their own.
///
/// ```
/// use ipc_os::epoll::Epoll;
/// use std::io::Write;
/// use std::os::fd::AsFd;
/// use std::time::Duration;
///
/// let (reader, mut writer) = std::io::pipe()?;
/// let all = Epoll::new()?;
/// all.add(&reader)?;
/// assert!(!ipc_os::poll_readable(all.as_fd(), Some(Duration::ZERO))?);
/// writer.write_all(b"x")?;
/// assert!(ipc_os::poll_readable(all.as_fd(), None)?);
/// all.remove(&reader)?;
/// assert!(!ipc_os::poll_readable(all.as_fd(), Some(Duration::ZERO))?);
/// # Ok::<(), std::io::Error>(())
/// ```
#[derive(Debug)]
pub struct Epoll(OwnedFd);

impl Epoll {
    /// An empty set, close-on-exec.
    ///
    /// # Errors
    /// `EMFILE` when the process has no descriptor left.
    pub fn new() -> io::Result<Self> {
        let fd = epoll::create(epoll::CreateFlags::CLOEXEC)?;
        Ok(Epoll(above_standard_streams(fd)?))
    }

    /// Adds a descriptor: it counts when it is readable, at its end, or in error.
    ///
    /// # Errors
    /// `AlreadyExists` if it is there, `PermissionDenied` for a file that is always ready; no memory.
    pub fn add(&self, fd: impl AsFd) -> io::Result<()> {
        Ok(epoll::add(&self.0, fd, epoll::EventData::new_u64(0), epoll::EventFlags::IN)?)
    }

    /// Takes a descriptor out. To close it is not enough while a copy of it is open somewhere, in a forked child for
    /// example.
    ///
    /// # Errors
    /// `NotFound` if it is not there.
    pub fn remove(&self, fd: impl AsFd) -> io::Result<()> {
        Ok(epoll::delete(&self.0, fd)?)
    }
}

impl AsFd for Epoll {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}
