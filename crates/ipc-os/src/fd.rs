//! What a descriptor is, asked of the kernel: checks for descriptors that came from somebody else.

use rustix::fs::{FileType, OFlags};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, FromRawFd, OwnedFd};

/// What kind of file a descriptor refers to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Kind {
    /// A pipe or FIFO, with what it was opened for.
    Pipe {
        /// It can be read.
        readable: bool,
        /// It can be written.
        writable: bool,
    },
    /// A socket, of any family.
    Socket,
    /// A regular file, a memfd included.
    File,
    /// Anything else (terminals, pidfds, eventfds, directories).
    Other,
}

/// Asks the kernel what `fd` is: a received descriptor is believed only after this.
///
/// # Errors
/// What `fstat(2)` or `fcntl(2)` report.
///
/// ```
/// let (reader, writer) = ipc_os::pipe::pipe()?;
/// use ipc_os::fd::{Kind, kind};
/// assert_eq!(kind(&reader)?, Kind::Pipe { readable: true, writable: false });
/// assert_eq!(kind(&writer)?, Kind::Pipe { readable: false, writable: true });
/// # Ok::<(), std::io::Error>(())
/// ```
pub fn kind(fd: impl AsFd) -> io::Result<Kind> {
    let fd = fd.as_fd();
    let stat = rustix::fs::fstat(fd)?;
    Ok(match FileType::from_raw_mode(stat.st_mode) {
        FileType::Fifo => {
            let mode = rustix::fs::fcntl_getfl(fd)? & OFlags::RWMODE;
            Kind::Pipe {
                readable: mode == OFlags::RDONLY || mode == OFlags::RDWR,
                writable: mode == OFlags::WRONLY || mode == OFlags::RDWR,
            }
        }
        FileType::Socket => Kind::Socket,
        FileType::RegularFile => Kind::File,
        _ => Kind::Other,
    })
}

/// What names an open file in this boot of the machine: device and inode.
///
/// # Errors
/// What `fstat(2)` reports.
pub fn identity(fd: impl AsFd) -> io::Result<(u64, u64)> {
    let stat = rustix::fs::fstat(fd.as_fd())?;
    Ok((stat.st_dev, stat.st_ino))
}

/// How many bytes a file has now.
///
/// # Errors
/// What `fstat(2)` reports.
pub fn len(fd: impl AsFd) -> io::Result<u64> {
    Ok(u64::try_from(rustix::fs::fstat(fd.as_fd())?.st_size).unwrap_or(0))
}

/// Opens the file behind `fd` once more, for reading and writing: an open file description of its own, with its own
/// locks. `/proc` must be mounted.
///
/// # Errors
/// What `open(2)` of `/proc/self/fd/N` reports; `NotFound` names `/proc`.
pub fn reopen(fd: impl AsFd) -> io::Result<OwnedFd> {
    use std::os::fd::AsRawFd;
    let path = format!("/proc/self/fd/{}", fd.as_fd().as_raw_fd());
    rustix::fs::open(&path, OFlags::RDWR | OFlags::CLOEXEC, rustix::fs::Mode::empty()).map_err(|error| {
        if error == rustix::io::Errno::NOENT {
            return io::Error::new(
                io::ErrorKind::NotFound,
                "cannot open a memory file again: /proc is not mounted",
            );
        }
        error.into()
    })
}

/// Fills `bytes` from that place in a file, without moving anybody's position in it.
///
/// # Errors
/// `UnexpectedEof` when the file ends before; what `pread(2)` reports.
pub fn read_exact_at(fd: impl AsFd, mut bytes: &mut [u8], mut at: u64) -> io::Result<()> {
    while !bytes.is_empty() {
        match rustix::io::pread(fd.as_fd(), &mut *bytes, at) {
            Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(count) => {
                at += count as u64;
                bytes = &mut bytes[count..];
            }
            Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

/// Takes over a descriptor that this process was started with, by its number and the identity that whoever started it
/// has named. `None` if there is none of that number, it is another file, or it was not inherited: everything that
/// Rust opens is close-on-exec, and so is what has been adopted.
pub fn adopt_inherited(number: i32, expected: (u64, u64)) -> Option<OwnedFd> {
    /// Two threads must not adopt the same number.
    static ONE_AT_A_TIME: std::sync::Mutex<()> = std::sync::Mutex::new(());
    let _guard = ONE_AT_A_TIME.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    if number < 3 {
        return None;
    }
    // SAFETY: the number is only asked about; if nothing is open there, the call says so.
    let flags = unsafe { libc::fcntl(number, libc::F_GETFD) };
    if flags < 0 || flags & libc::FD_CLOEXEC != 0 {
        return None;
    }
    // SAFETY: the number is open, as just seen. Nobody here owns it: it was inherited across exec, since it is not
    // close-on-exec, which all that this process has opened is.
    let fd = unsafe { BorrowedFd::borrow_raw(number) };
    if identity(fd).ok()? != expected {
        return None;
    }
    rustix::io::fcntl_setfd(fd, rustix::io::FdFlags::CLOEXEC).ok()?;
    // SAFETY: as above, and no second caller comes this far for the same number: it is close-on-exec now.
    Some(unsafe { OwnedFd::from_raw_fd(number) })
}

/// Moves a new descriptor away from the numbers of the standard streams, which it has got if those are closed: what the
/// program prints must not end up in it.
pub(crate) fn above_standard_streams(fd: OwnedFd) -> io::Result<OwnedFd> {
    use std::os::fd::AsRawFd;
    if fd.as_raw_fd() > 2 { Ok(fd) } else { duplicate(fd, 3) }
}

/// Opens `/dev/null` as each of the standard streams that is closed, as the standard library does before `main`: a file
/// that is opened later must not become one. For code that runs before that.
///
/// # Errors
/// What opening `/dev/null` reports.
pub fn open_missing_standard_streams() -> io::Result<()> {
    use std::os::fd::IntoRawFd;
    loop {
        // The lowest free number is taken: once that is none of the three, none of them is missing.
        let null = std::fs::File::options().read(true).write(true).open("/dev/null")?.into_raw_fd();
        if null > 2 {
            // SAFETY: just opened and given up above, nobody else knows it.
            drop(unsafe { OwnedFd::from_raw_fd(null) });
            return Ok(());
        }
        // SAFETY: as above; it stays open for good.
        let stream = unsafe { BorrowedFd::borrow_raw(null) };
        // Standard streams are inherited.
        rustix::io::fcntl_setfd(stream, rustix::io::FdFlags::empty())?;
    }
}

/// Duplicates `fd` to a number of at least `lowest`, close-on-exec.
///
/// # Errors
/// What `fcntl(2)` reports; `EMFILE` when the process has no number left.
pub fn duplicate(fd: impl AsFd, lowest: i32) -> io::Result<OwnedFd> {
    Ok(rustix::io::fcntl_dupfd_cloexec(fd.as_fd(), lowest)?)
}

/// Makes the descriptor's number refer to nothing that matters, and so lets go of what it referred to, while
/// the number stays taken until its owner is dropped.
///
/// An end that was sent away in a message is closed like this at once: whoever still holds the Rust value
/// cannot keep the kernel's object alive by mistake, and the number cannot be reused under a live `BorrowedFd`.
///
/// # Errors
/// What `dup3(2)` or opening the stand-in report; the descriptor is then unchanged.
pub fn retire(fd: BorrowedFd<'_>) -> io::Result<()> {
    use std::os::fd::AsRawFd;
    // An unconnected socket answers every operation with an error, and needs no path to open.
    let (stand_in, _) = crate::socket::pair(crate::socket::Style::Packets)?;
    loop {
        // SAFETY: both numbers are open descriptors for the whole call. `dup3` replaces what `fd`'s number
        // refers to in one step, so that every `BorrowedFd` of it stays valid as a number; the callers own it.
        let done = unsafe { libc::dup3(stand_in.as_raw_fd(), fd.as_raw_fd(), libc::O_CLOEXEC) };
        if done >= 0 {
            return Ok(());
        }
        let error = io::Error::last_os_error();
        if error.kind() != io::ErrorKind::Interrupted {
            return Err(error);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::fd::{AsRawFd, IntoRawFd};

    #[test]
    fn only_what_was_inherited_is_adopted_and_only_once() {
        let (reader, _writer) = crate::pipe::pipe().unwrap();
        let expected = identity(&reader).unwrap();
        let number = reader.as_raw_fd();
        assert!(adopt_inherited(number, expected).is_none(), "close-on-exec: opened here");
        rustix::io::fcntl_setfd(&reader, rustix::io::FdFlags::empty()).unwrap();
        assert!(adopt_inherited(number, (expected.0, expected.1 + 1)).is_none(), "another file");
        assert!(adopt_inherited(i32::MAX, expected).is_none() && adopt_inherited(1, expected).is_none());
        // As exec would leave it: nobody owns the number.
        let number = reader.into_raw_fd();
        let adopted = adopt_inherited(number, expected).unwrap();
        assert!(adopt_inherited(number, expected).is_none(), "adopted before");
        assert!(rustix::io::fcntl_getfd(&adopted).unwrap().contains(rustix::io::FdFlags::CLOEXEC));
    }

    #[test]
    fn a_retired_number_lets_go_of_its_file() {
        let (reader, writer) = crate::pipe::pipe().unwrap();
        retire(writer.as_fd()).unwrap();
        assert_eq!(crate::pipe::read(reader.as_fd(), &mut [0; 4]).unwrap(), 0, "no writer is left");
        assert_eq!(kind(&writer).unwrap(), Kind::Socket);
    }

    #[test]
    fn closed_standard_streams_are_opened_again() {
        ipc_testkit::alone("fd::tests::closed_standard_streams_are_opened_again", || {
            let null = std::fs::metadata("/dev/null")
                .map(|null| std::os::unix::fs::MetadataExt::rdev(&null))
                .unwrap();
            let is_null = |fd: BorrowedFd<'_>| rustix::fs::fstat(fd).unwrap().st_rdev == null;
            let saved = duplicate(std::io::stdout(), 3).unwrap();
            nix::unistd::close(0).unwrap();
            nix::unistd::close(1).unwrap();
            let before = ipc_testkit::open_descriptors();
            open_missing_standard_streams().unwrap();
            assert_eq!(ipc_testkit::open_descriptors(), before + 2);
            assert!(is_null(std::io::stdin().as_fd()) && is_null(std::io::stdout().as_fd()));
            assert!(
                !rustix::io::fcntl_getfd(std::io::stdout()).unwrap().contains(rustix::io::FdFlags::CLOEXEC)
            );
            open_missing_standard_streams().unwrap();
            assert_eq!(ipc_testkit::open_descriptors(), before + 2);
            // The harness wants to say how it went.
            rustix::stdio::dup2_stdout(&saved).unwrap();
        });
    }
}
