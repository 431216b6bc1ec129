//! Processes by descriptor: a pidfd names one process for ever, whatever becomes of its number.

use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, Signal, WaitId, WaitIdOptions, WaitIdStatus};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::OnceLock;
use std::time::Duration;

use crate::{Readiness, Waitable};

/// How a process ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Exit {
    /// It returned from `main` or called `exit` with this code, 0 to 255.
    Code(i32),
    /// A signal ended it.
    Signal {
        /// The signal's number.
        number: i32,
        /// It left a core dump.
        core_dumped: bool,
    },
}

/// A process, by descriptor. Readable (in the sense of `poll(2)`) exactly when the process has ended.
#[derive(Debug)]
pub struct PidFd {
    fd: OwnedFd,
    /// The process had ended and been reaped by somebody before it could be opened: `fd` only looks like it.
    gone: bool,
}

impl PidFd {
    /// The process with this number. Only for a child that has not been waited for, or for oneself: another
    /// process's number may have been reused.
    ///
    /// # Errors
    /// `NotFound` when there is no such process; `Unsupported` on kernels before 5.3.
    pub fn open(pid: u32) -> io::Result<Self> {
        let pid = i32::try_from(pid).ok().and_then(Pid::from_raw).ok_or(Errno::SRCH)?;
        let fd = rustix::process::pidfd_open(pid, PidfdFlags::empty())?;
        Ok(PidFd { fd: crate::fd::above_standard_streams(fd)?, gone: false })
    }

    /// A descriptor of a pidfd that came from elsewhere.
    pub fn from_descriptor(fd: OwnedFd) -> Self {
        PidFd { fd, gone: false }
    }

    /// A process that has ended and been reaped by somebody else, so that it cannot be opened any more.
    pub(crate) fn of_gone() -> io::Result<Self> {
        // A pipe without writers is readable for ever, as the pidfd of a process that has ended.
        let (fd, _) = crate::pipe::pipe()?;
        Ok(PidFd { fd, gone: true })
    }

    /// This process itself, opened once and kept (so that every child can be given it).
    ///
    /// # Errors
    /// As [`PidFd::open`].
    pub fn of_self() -> io::Result<&'static PidFd> {
        static FIRST: OnceLock<(u32, PidFd)> = OnceLock::new();
        /// After a fork the parent's is still in the first cell.
        static FORKED: OnceLock<(u32, PidFd)> = OnceLock::new();
        let pid = std::process::id();
        for cell in [&FIRST, &FORKED] {
            if cell.get().is_none() {
                // Of two threads at once the later one's is closed again.
                let _ = cell.set((pid, PidFd::open(pid)?));
            }
            match cell.get() {
                Some((of, fd)) if *of == pid => return Ok(fd),
                _ => {}
            }
        }
        // Forks of forks, which do not exec: each call costs them a descriptor.
        Ok(Box::leak(Box::new(PidFd::open(pid)?)))
    }

    /// Whether the process has ended.
    ///
    /// # Errors
    /// What `poll(2)` reports.
    pub fn has_ended(&self) -> io::Result<bool> {
        self.wait_ended(Some(Duration::ZERO))
    }

    /// Waits for the end of the process, which need not be a child; whether it came in time.
    ///
    /// # Errors
    /// What `poll(2)` reports.
    pub fn wait_ended(&self, timeout: Option<Duration>) -> io::Result<bool> {
        crate::poll_readable(self.fd.as_fd(), timeout)
    }

    /// Takes the exit status of a child that has ended, so that nothing is left of it; `None` while it runs.
    ///
    /// # Errors
    /// `ECHILD` when it is no child of this process, or somebody else has taken the status (a wait for any child,
    /// or SIGCHLD set to be ignored).
    pub fn reap(&self) -> io::Result<Option<Exit>> {
        self.check()?;
        loop {
            match rustix::process::waitid(
                WaitId::PidFd(self.fd.as_fd()),
                WaitIdOptions::EXITED | WaitIdOptions::NOHANG,
            ) {
                Ok(status) => return Ok(status.as_ref().map(exit_of)),
                Err(Errno::INTR) => continue,
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// Waits for a child's end and takes its exit status.
    ///
    /// # Errors
    /// As [`PidFd::reap`].
    pub fn wait_and_reap(&self) -> io::Result<Exit> {
        self.check()?;
        loop {
            match rustix::process::waitid(WaitId::PidFd(self.fd.as_fd()), WaitIdOptions::EXITED) {
                Ok(Some(status)) => return Ok(exit_of(&status)),
                Ok(None) | Err(Errno::INTR) => continue,
                Err(error) => return Err(error.into()),
            }
        }
    }

    fn check(&self) -> io::Result<()> {
        if self.gone { Err(Errno::CHILD.into()) } else { Ok(()) }
    }

    /// Sends a signal by number.
    ///
    /// # Errors
    /// `ESRCH` when it has ended and been waited for; `InvalidInput` for a number that is no signal;
    /// `PermissionDenied`.
    pub fn signal(&self, number: i32) -> io::Result<()> {
        let signal = Signal::from_named_raw(number).ok_or(Errno::INVAL)?;
        if self.gone {
            return Err(Errno::SRCH.into());
        }
        Ok(rustix::process::pidfd_send_signal(&self.fd, signal)?)
    }
}

/// Ends this process at once, as SIGKILL from outside would: nothing is flushed, no handler runs.
pub fn kill_self() -> ! {
    let _ = rustix::process::kill_process(rustix::process::getpid(), Signal::KILL);
    // Not reached: nobody can refuse SIGKILL from itself, but for the first process of a container.
    std::process::abort()
}

impl AsFd for PidFd {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

impl Waitable for PidFd {
    fn readiness(&self) -> Readiness<'_> {
        Readiness::Descriptor(self.fd.as_fd())
    }
}

fn exit_of(status: &WaitIdStatus) -> Exit {
    if let Some(code) = status.exit_status() {
        return Exit::Code(code);
    }
    Exit::Signal { number: status.terminating_signal().unwrap_or(0), core_dumped: status.dumped() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_child_that_was_killed_says_so_once() {
        let mut child = std::process::Command::new("sleep").arg("60").spawn().unwrap();
        let fd = PidFd::open(child.id()).unwrap();
        assert!(!fd.has_ended().unwrap());
        assert_eq!(fd.reap().unwrap(), None);
        fd.signal(9).unwrap();
        assert!(fd.wait_ended(Some(Duration::from_secs(20))).unwrap());
        assert_eq!(fd.wait_and_reap().unwrap(), Exit::Signal { number: 9, core_dumped: false });
        assert_eq!(fd.reap().unwrap_err().raw_os_error(), Some(libc::ECHILD));
        assert!(child.try_wait().is_err(), "std sees that the status has been taken");
    }

    #[test]
    fn any_process_can_be_waited_for_by_many() {
        let mut child = std::process::Command::new("sleep").arg("60").spawn().unwrap();
        let fd = PidFd::open(child.id()).unwrap();
        let waiting: Vec<_> = (0..3)
            .map(|_| PidFd::from_descriptor(fd.as_fd().try_clone_to_owned().unwrap()))
            .map(|fd| std::thread::spawn(move || fd.wait_ended(None).unwrap()))
            .collect();
        assert!(!fd.wait_ended(Some(Duration::from_millis(10))).unwrap());
        child.kill().unwrap();
        assert!(waiting.into_iter().all(|thread| thread.join().unwrap()));
        assert!(fd.has_ended().unwrap(), "the zombie has ended");
        child.wait().unwrap();
        assert!(fd.has_ended().unwrap(), "and so has what was reaped");
        assert_eq!(fd.signal(9).unwrap_err().raw_os_error(), Some(libc::ESRCH));
    }

    #[test]
    fn one_that_is_gone_behaves_as_one_that_was_reaped_elsewhere() {
        let fd = PidFd::of_gone().unwrap();
        assert!(fd.has_ended().unwrap() && fd.wait_ended(None).unwrap());
        assert_eq!(fd.reap().unwrap_err().raw_os_error(), Some(libc::ECHILD));
        assert_eq!(fd.wait_and_reap().unwrap_err().raw_os_error(), Some(libc::ECHILD));
        assert_eq!(fd.signal(9).unwrap_err().raw_os_error(), Some(libc::ESRCH));
    }

    #[test]
    fn killing_oneself_is_a_kill() {
        const NAME: &str = "pidfd::tests::killing_oneself_is_a_kill";
        let ended = std::panic::catch_unwind(|| ipc_testkit::alone(NAME, || kill_self()));
        let message = *ended.unwrap_err().downcast::<String>().unwrap();
        assert!(message.contains("signal: 9"), "{message}");
    }

    #[test]
    fn oneself_is_alive() {
        assert!(!PidFd::of_self().unwrap().has_ended().unwrap());
        assert_eq!(PidFd::open(0).unwrap_err().raw_os_error(), Some(libc::ESRCH));
        assert_eq!(PidFd::of_self().unwrap().signal(12345).unwrap_err().kind(), io::ErrorKind::InvalidInput);
    }
}
