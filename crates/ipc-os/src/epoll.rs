//! Many descriptors as one, for who waits for that one beside others.

use rustix::event::epoll;
use rustix::time::{
    Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, timerfd_create, timerfd_settime,
};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

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
/// all.wake_at(Some(std::time::Instant::now() + Duration::from_millis(5)))?;
/// assert!(ipc_os::poll_readable(all.as_fd(), None)?);
/// all.wake_at(None)?;
/// assert!(!ipc_os::poll_readable(all.as_fd(), Some(Duration::ZERO))?);
/// # Ok::<(), std::io::Error>(())
/// ```
#[derive(Debug)]
pub struct Epoll {
    set: OwnedFd,
    /// Of the set, too.
    timer: OwnedFd,
}

impl Epoll {
    /// A set of nothing but a timer that is off, close-on-exec.
    ///
    /// # Errors
    /// `EMFILE` when the process has no descriptor left.
    pub fn new() -> io::Result<Self> {
        let set = above_standard_streams(epoll::create(epoll::CreateFlags::CLOEXEC)?)?;
        let flags = TimerfdFlags::CLOEXEC | TimerfdFlags::NONBLOCK;
        let timer = above_standard_streams(timerfd_create(TimerfdClockId::Monotonic, flags)?)?;
        epoll::add(&set, &timer, epoll::EventData::new_u64(0), epoll::EventFlags::IN)?;
        Ok(Epoll { set, timer })
    }

    /// It is readable from that time on as well, until another is set; `None` is never.
    ///
    /// # Errors
    /// What `timerfd_settime(2)` reports.
    pub fn wake_at(&self, at: Option<Instant>) -> io::Result<()> {
        // Zero would turn it off.
        let left = at.map(|at| at.saturating_duration_since(Instant::now()).max(Duration::from_nanos(1)));
        let left = left.unwrap_or_default();
        let value = Timespec { tv_sec: left.as_secs() as i64, tv_nsec: i64::from(left.subsec_nanos()) };
        let once = Itimerspec { it_interval: Timespec::default(), it_value: value };
        timerfd_settime(&self.timer, TimerfdTimerFlags::empty(), &once)?;
        Ok(())
    }

    /// Adds a descriptor: it counts when it is readable, at its end, or in error.
    ///
    /// # Errors
    /// `AlreadyExists` if it is there, `PermissionDenied` for a file that is always ready; no memory.
    pub fn add(&self, fd: impl AsFd) -> io::Result<()> {
        Ok(epoll::add(&self.set, fd, epoll::EventData::new_u64(0), epoll::EventFlags::IN)?)
    }

    /// Takes a descriptor out. To close it is not enough while a copy of it is open somewhere, in a forked child for
    /// example.
    ///
    /// # Errors
    /// `NotFound` if it is not there.
    pub fn remove(&self, fd: impl AsFd) -> io::Result<()> {
        Ok(epoll::delete(&self.set, fd)?)
    }
}

impl AsFd for Epoll {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.set.as_fd()
    }
}
