//! Locks on ranges of bytes that belong to an open file description: the kernel's own count of who is there.
//!
//! `fcntl(2)` with `F_OFD_SETLK`: such a lock ends with the last reference to the description (every copy of the
//! descriptor in whatever process, every message in flight, every mapping made through it), so it survives `fork`,
//! and ends at SIGKILL without anybody's help. The bytes need not exist in the file.

use std::io;
use std::ops::Range;
use std::os::fd::AsFd;

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, fcntl};

/// How a range is locked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// Together with other readers. The description must be open for reading.
    Read,
    /// By one description alone. It must be open for writing.
    Write,
}

/// Locks the range for the description behind `fd`, or changes the mode that it has there. Whether that worked:
/// `false` means that another description is in the way. Never waits.
///
/// # Errors
/// What `fcntl(2)` reports; `InvalidInput` for an empty range or one that ends beyond 2^63.
///
/// ```
/// use ipc_os::ofd::{self, Mode};
/// let file = ipc_os::memfd::shared("locks", 4096)?;
/// let other = ipc_os::fd::reopen(&file)?;
/// assert!(ofd::try_lock(&file, 7..8, Mode::Write)?);
/// assert!(!ofd::try_lock(&other, 0..100, Mode::Read)?);
/// drop(file);
/// assert!(ofd::try_lock(&other, 0..100, Mode::Read)?);
/// # Ok::<(), std::io::Error>(())
/// ```
pub fn try_lock(fd: impl AsFd, range: Range<u64>, mode: Mode) -> io::Result<bool> {
    match fcntl(fd, FcntlArg::F_OFD_SETLK(&flock(range, kind(mode))?)) {
        Ok(_) => Ok(true),
        Err(Errno::EAGAIN | Errno::EACCES) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

/// Gives back what the description behind `fd` has locked in the range.
///
/// # Errors
/// As of [`try_lock`].
pub fn unlock(fd: impl AsFd, range: Range<u64>) -> io::Result<()> {
    fcntl(fd, FcntlArg::F_OFD_SETLK(&flock(range, libc::F_UNLCK)?))?;
    Ok(())
}

/// Whether another description's lock in the range would be in the way of a lock of that mode.
///
/// # Errors
/// As of [`try_lock`].
pub fn is_held_elsewhere(fd: impl AsFd, range: Range<u64>, mode: Mode) -> io::Result<bool> {
    let mut flock = flock(range, kind(mode))?;
    fcntl(fd, FcntlArg::F_OFD_GETLK(&mut flock))?;
    Ok(i32::from(flock.l_type) != libc::F_UNLCK)
}

fn kind(mode: Mode) -> libc::c_int {
    match mode {
        Mode::Read => libc::F_RDLCK,
        Mode::Write => libc::F_WRLCK,
    }
}

fn flock(range: Range<u64>, kind: libc::c_int) -> io::Result<libc::flock> {
    let start = i64::try_from(range.start).map_err(|_| io::ErrorKind::InvalidInput)?;
    let end = i64::try_from(range.end).map_err(|_| io::ErrorKind::InvalidInput)?;
    if start >= end {
        // The kernel takes a length of zero for "to the end of everything".
        return Err(io::ErrorKind::InvalidInput.into());
    }
    Ok(libc::flock {
        l_type: kind as libc::c_short,
        l_whence: libc::SEEK_SET as libc::c_short,
        l_start: start,
        l_len: end - start,
        l_pid: 0,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{fd, memfd};
    use ipc_testkit::eventually;

    #[test]
    fn readers_share_and_a_writer_is_alone() {
        let a = memfd::shared("t", 4096).unwrap();
        let b = fd::reopen(&a).unwrap();
        let far = 1 << 41;
        assert!(try_lock(&a, far..far + 64, Mode::Read).unwrap());
        assert!(
            !is_held_elsewhere(&a, far..far + 64, Mode::Write).unwrap(),
            "its own lock is not in the way"
        );
        assert!(is_held_elsewhere(&b, far + 63..far + 64, Mode::Write).unwrap());
        assert!(!is_held_elsewhere(&b, far..far + 64, Mode::Read).unwrap());
        assert!(!is_held_elsewhere(&b, far + 64..far + 65, Mode::Write).unwrap(), "beside the range");
        assert!(try_lock(&b, far..far + 64, Mode::Read).unwrap());
        assert!(!try_lock(&a, far..far + 64, Mode::Write).unwrap());
        unlock(&b, far..far + 64).unwrap();
        assert!(try_lock(&a, far..far + 64, Mode::Write).unwrap());
    }

    #[test]
    fn a_copy_of_the_descriptor_keeps_the_lock() {
        let a = memfd::shared("t", 4096).unwrap();
        let b = fd::reopen(&a).unwrap();
        assert!(try_lock(&a, 0..1, Mode::Write).unwrap());
        let copy = a.try_clone().unwrap();
        drop(a);
        assert!(is_held_elsewhere(&b, 0..1, Mode::Read).unwrap());
        drop(copy);
        // Processes that other tests are starting have copies, too, until their exec.
        eventually("the lock is gone", || !is_held_elsewhere(&b, 0..1, Mode::Read).unwrap());
    }

    #[test]
    fn senseless_ranges_are_refused() {
        let a = memfd::shared("t", 4096).unwrap();
        for range in [5..5, 0..u64::MAX] {
            assert_eq!(try_lock(&a, range, Mode::Read).unwrap_err().kind(), io::ErrorKind::InvalidInput);
        }
    }
}
