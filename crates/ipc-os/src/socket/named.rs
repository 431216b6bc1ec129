//! Sockets with an address: listening, accepting, connecting, and the place of a Unix socket in the file system.

use crate::fd::above_standard_streams;
use rustix::fs::{AtFlags, FileType, Mode, OFlags};
use rustix::io::Errno;
use rustix::net::sockopt::Timeout;
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType};
use std::ffi::OsStr;
use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::SocketAddr as UnixAddr;
use std::path::Path;
use std::time::Duration;

/// Has a bound socket listen, with that many connections waiting, but no more than the system allows
/// (`net.core.somaxconn`). For one that listens already, the number is what changes.
///
/// # Errors
/// What `listen(2)` reports.
pub fn listen(socket: OwnedFd, waiting_max: u32) -> io::Result<OwnedFd> {
    let socket = above_standard_streams(socket)?;
    rustix::net::listen(&socket, i32::try_from(waiting_max).unwrap_or(i32::MAX))?;
    Ok(socket)
}

/// Takes the next connection of a listening socket, close-on-exec, and where it comes from, if that is an address of
/// the internet. It waits or not as the listener's description says (`O_NONBLOCK`: there is no flag for one call); the
/// connection itself always waits.
///
/// # Errors
/// `WouldBlock` when there is none; what `accept4(2)` reports, which on Linux includes what has happened to the
/// connection before it was taken.
pub fn accept(listener: BorrowedFd<'_>) -> io::Result<(OwnedFd, Option<SocketAddr>)> {
    loop {
        match rustix::net::acceptfrom_with(listener, SocketFlags::CLOEXEC) {
            Ok((fd, from)) => {
                let from = from.and_then(|from| SocketAddr::try_from(from).ok());
                return Ok((above_standard_streams(fd)?, from));
            }
            Err(Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
}

/// A stream connected to a Unix socket, close-on-exec. While the listener's backlog is full it waits, as long as `wait`
/// says (`None`: for ever; zero: not at all), and the kernel wakes it as soon as there is room.
///
/// # Errors
/// `WouldBlock` when the backlog was full all the time; `NotFound` and `ConnectionRefused` when nobody listens; else what
/// `connect(2)` reports.
pub fn connect_unix(to: &UnixAddr, wait: Option<Duration>) -> io::Result<OwnedFd> {
    let to = match (to.as_pathname(), to.as_abstract_name()) {
        (Some(path), _) => SocketAddrUnix::new(path)?,
        (_, Some(name)) => SocketAddrUnix::new_abstract_name(name)?,
        _ => return Err(Errno::INVAL.into()),
    };
    let deadline = wait.and_then(|wait| std::time::Instant::now().checked_add(wait));
    let stream = |flags| {
        let flags = SocketFlags::CLOEXEC | flags;
        above_standard_streams(rustix::net::socket_with(
            AddressFamily::UNIX,
            SocketType::STREAM,
            flags,
            None,
        )?)
    };
    if wait.is_some_and(|wait| wait.is_zero()) {
        let fd = stream(SocketFlags::NONBLOCK)?;
        rustix::net::connect(&fd, &to)?;
        // Nobody else has this description yet.
        rustix::io::ioctl_fionbio(&fd, false)?;
        return Ok(fd);
    }
    let fd = stream(SocketFlags::empty())?;
    loop {
        if let Some(deadline) = deadline {
            let left = deadline.saturating_duration_since(std::time::Instant::now());
            // Zero would be for ever, and less than a microsecond is zero.
            let left = left.max(Duration::from_micros(1));
            rustix::net::sockopt::set_socket_timeout(&fd, Timeout::Send, Some(left))?;
        }
        match rustix::net::connect(&fd, &to) {
            Ok(()) => break,
            Err(Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
    if deadline.is_some() {
        rustix::net::sockopt::set_socket_timeout(&fd, Timeout::Send, None)?;
    }
    Ok(fd)
}

/// When a TCP connection counts as dead that says nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TcpTimes {
    /// How long it may be silent before the kernel asks the peer whether it is there.
    pub idle: Duration,
    /// How long after that the kernel asks again.
    pub interval: Duration,
    /// After how long without an answer, or with bytes that the peer does not take, the connection ends.
    pub give_up: Duration,
}

/// Has a TCP socket send small messages at once, and notice a peer that is gone without a word.
///
/// # Errors
/// What `setsockopt(2)` reports.
pub fn watch_tcp(fd: impl AsFd, times: TcpTimes) -> io::Result<()> {
    use rustix::net::sockopt;
    let fd = fd.as_fd();
    sockopt::set_tcp_nodelay(fd, true)?;
    sockopt::set_tcp_keepidle(fd, times.idle)?;
    sockopt::set_tcp_keepintvl(fd, times.interval)?;
    sockopt::set_tcp_user_timeout(fd, u32::try_from(times.give_up.as_millis()).unwrap_or(u32::MAX))?;
    Ok(sockopt::set_socket_keepalive(fd, true)?)
}

/// What is under a name in a directory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Entry {
    /// Device and inode. A Unix socket keeps the file that it is bound to: as long as it is open, nothing else has them.
    pub identity: (u64, u64),
    /// It is a socket, and not a link to one.
    pub is_socket: bool,
}

/// Opens a directory, to lock it (`flock(2)`) and to look at what is in it.
///
/// # Errors
/// What `open(2)` reports.
pub fn open_directory(path: &Path) -> io::Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    above_standard_streams(rustix::fs::open(path, flags, Mode::empty())?)
}

/// What is there under that name; `None` if nothing is.
///
/// # Errors
/// What `fstatat(2)` reports.
pub fn entry(directory: impl AsFd, name: &OsStr) -> io::Result<Option<Entry>> {
    match rustix::fs::statat(directory, name, AtFlags::SYMLINK_NOFOLLOW) {
        Ok(stat) => Ok(Some(Entry {
            identity: (stat.st_dev, stat.st_ino),
            is_socket: FileType::from_raw_mode(stat.st_mode) == FileType::Socket,
        })),
        Err(Errno::NOENT) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// Takes a name away.
///
/// # Errors
/// What `unlinkat(2)` reports.
pub fn unlink(directory: impl AsFd, name: &OsStr) -> io::Result<()> {
    Ok(rustix::fs::unlinkat(directory, name, AtFlags::empty())?)
}

/// Gives a socket in a directory its permissions; not to anything else that is there by now. `/proc` must be mounted.
///
/// # Errors
/// `InvalidInput` if it is no socket; what `open(2)` and `chmod(2)` report.
pub fn set_mode(directory: impl AsFd, name: &OsStr, mode: u32) -> io::Result<()> {
    let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let file = rustix::fs::openat(directory, name, flags, Mode::empty())?;
    if FileType::from_raw_mode(rustix::fs::fstat(&file)?.st_mode) != FileType::Socket {
        return Err(Errno::INVAL.into());
    }
    let path = format!("/proc/self/fd/{}", file.as_raw_fd());
    Ok(rustix::fs::chmod(path, Mode::from_raw_mode(mode))?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::net::sockopt;
    use std::net::{TcpListener, TcpStream};
    use std::os::unix::fs::PermissionsExt;
    use std::os::unix::net::UnixListener;
    use std::time::Instant;

    fn waits(fd: impl AsFd) -> bool {
        let is_nonblocking = rustix::fs::fcntl_getfl(&fd).unwrap().contains(OFlags::NONBLOCK);
        let has_timeout = sockopt::socket_timeout(&fd, Timeout::Send).unwrap().is_some();
        !is_nonblocking && !has_timeout
    }

    #[test]
    fn connecting_waits_for_room_as_long_as_it_may() {
        let _watchdog = ipc_testkit::watchdog("connecting_waits_for_room_as_long_as_it_may");
        let to = UnixAddr::from_abstract_name(format!("ipc-os-room-{}", std::process::id())).unwrap();
        let gone = |wait| connect_unix(&to, wait).unwrap_err().kind();
        for wait in [None, Some(Duration::ZERO), Some(Duration::from_secs(50))] {
            assert_eq!(gone(wait), io::ErrorKind::ConnectionRefused);
        }
        let listener = listen(UnixListener::bind_addr(&to).unwrap().into(), 0).unwrap();
        // One fits all the same.
        assert!(waits(connect_unix(&to, Some(Duration::ZERO)).unwrap()));
        let start = Instant::now();
        assert_eq!(gone(Some(Duration::ZERO)), io::ErrorKind::WouldBlock);
        assert_eq!(gone(Some(Duration::from_millis(40))), io::ErrorKind::WouldBlock);
        assert!(start.elapsed() >= Duration::from_millis(40));
        for wait in [Some(Duration::from_secs(50)), Some(Duration::MAX), None] {
            let to = to.clone();
            let waiting = std::thread::spawn(move || connect_unix(&to, wait));
            std::thread::sleep(Duration::from_millis(20));
            assert!(!waiting.is_finished());
            let (taken, from) = accept(listener.as_fd()).unwrap();
            assert!(waits(&taken) && from.is_none());
            assert!(waits(waiting.join().unwrap().unwrap()));
        }
        let waiting = {
            let to = to.clone();
            std::thread::spawn(move || connect_unix(&to, None).unwrap_err().kind())
        };
        std::thread::sleep(Duration::from_millis(20));
        drop(listener);
        assert_eq!(waiting.join().unwrap(), io::ErrorKind::ConnectionRefused, "the listener has ended");
    }

    #[test]
    fn a_non_blocking_listener_gives_blocking_connections() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        let to = listener.local_addr().unwrap();
        let listener = listen(listener.into(), u32::MAX).unwrap();
        assert_eq!(accept(listener.as_fd()).unwrap_err().kind(), io::ErrorKind::WouldBlock);
        let client = TcpStream::connect(to).unwrap();
        assert!(crate::poll_readable(listener.as_fd(), Some(Duration::from_secs(50))).unwrap());
        let (taken, from) = accept(listener.as_fd()).unwrap();
        assert!(waits(&taken));
        assert!(rustix::io::fcntl_getfd(&taken).unwrap().contains(rustix::io::FdFlags::CLOEXEC));
        assert_eq!(from, Some(client.local_addr().unwrap()));
        let times = TcpTimes {
            idle: Duration::from_secs(20),
            interval: Duration::from_secs(7),
            give_up: Duration::from_millis(44_000),
        };
        assert!(!sockopt::socket_keepalive(&taken).unwrap());
        watch_tcp(&taken, times).unwrap();
        assert!(sockopt::socket_keepalive(&taken).unwrap() && sockopt::tcp_nodelay(&taken).unwrap());
        assert_eq!(sockopt::tcp_keepidle(&taken).unwrap(), times.idle);
        assert_eq!(sockopt::tcp_keepintvl(&taken).unwrap(), times.interval);
        assert_eq!(sockopt::tcp_user_timeout(&taken).unwrap(), 44_000);
    }

    #[test]
    fn what_is_under_a_name_is_looked_at_without_following_it() {
        let scratch = tempfile::tempdir().unwrap();
        let directory = open_directory(scratch.path()).unwrap();
        let name = OsStr::new("name");
        assert_eq!(entry(&directory, name).unwrap(), None);
        assert_eq!(unlink(&directory, name).unwrap_err().kind(), io::ErrorKind::NotFound);
        let path = scratch.path().join(name);
        let mode = || path.symlink_metadata().unwrap().permissions().mode() & 0o777;
        let _listener = UnixListener::bind(&path).unwrap();
        let found = entry(&directory, name).unwrap().unwrap();
        assert!(found.is_socket);
        for wanted in [0o666, 0o600] {
            set_mode(&directory, name, wanted).unwrap();
            assert_eq!(mode(), wanted);
        }
        let link = OsStr::new("link");
        std::os::unix::fs::symlink(&path, scratch.path().join(link)).unwrap();
        let linked = entry(&directory, link).unwrap().unwrap();
        assert!(!linked.is_socket && linked.identity != found.identity);
        assert_eq!(set_mode(&directory, link, 0o666).unwrap_err().kind(), io::ErrorKind::InvalidInput);
        assert_eq!(mode(), 0o600);
        unlink(&directory, link).unwrap();
        assert_eq!(entry(&directory, name).unwrap(), Some(found));
        unlink(&directory, name).unwrap();
        assert_eq!(entry(&directory, name).unwrap(), None);
        assert!(open_directory(&scratch.path().join("none")).is_err());
    }
}
