//! Who is at the other end of a Unix socket.

use rustix::io::Errno;
use std::io;
use std::mem::{MaybeUninit, size_of};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

/// Who a process was when it connected, listened, or made a pair of sockets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PeerCredentials {
    /// The effective user.
    pub uid: u32,
    /// The effective group.
    pub gid: u32,
    /// The process; `None` if it has no number here, being in a PID namespace that is no child of this one.
    pub pid: Option<u32>,
}

/// Who is at the other end (`SO_PEERCRED`).
///
/// # Errors
/// `NotConnected` if nobody is; what `getsockopt(2)` reports.
pub fn peer_credentials(socket: impl AsFd) -> io::Result<PeerCredentials> {
    // SAFETY: the kernel fills in a `ucred`, three integers, of which any bits are a value.
    let found = unsafe { option::<libc::ucred>(socket.as_fd(), libc::SO_PEERCRED) }?;
    if found.uid == u32::MAX {
        // What a socket without a peer says.
        return Err(Errno::NOTCONN.into());
    }
    let pid = u32::try_from(found.pid).ok().filter(|pid| *pid != 0);
    Ok(PeerCredentials { uid: found.uid, gid: found.gid, pid })
}

/// The process at the other end as a descriptor (`SO_PEERPIDFD`): the very process that connected, whatever has become
/// of its number. `None` on kernels before 6.5, and where the process is gone and the kernel does not say more.
///
/// # Errors
/// What `getsockopt(2)` reports; `EMFILE` when the process has no descriptor left.
pub fn peer_pidfd(socket: impl AsFd) -> io::Result<Option<OwnedFd>> {
    // SAFETY: the kernel fills in a number.
    match unsafe { option::<libc::c_int>(socket.as_fd(), libc::SO_PEERPIDFD) } {
        Ok(number) => {
            // SAFETY: the kernel has just opened it for this process, close-on-exec, and nobody else knows it.
            let fd = unsafe { OwnedFd::from_raw_fd(number) };
            crate::fd::above_standard_streams(fd).map(Some)
        }
        Err(error) => match Errno::from_io_error(&error) {
            Some(Errno::NOPROTOOPT | Errno::SRCH | Errno::INVAL | Errno::NODATA) => Ok(None),
            _ => Err(error),
        },
    }
}

/// An option of the socket layer.
///
/// # Safety
/// It is as long as a `T`, and what the kernel writes is a value of it.
unsafe fn option<T: Copy>(socket: BorrowedFd<'_>, name: libc::c_int) -> io::Result<T> {
    let mut value = MaybeUninit::<T>::zeroed();
    let mut len = size_of::<T>() as libc::socklen_t;
    // SAFETY: the place for the value is as long as `len` says, both are there for the whole call, and the descriptor is
    // open.
    let done = unsafe {
        libc::getsockopt(socket.as_raw_fd(), libc::SOL_SOCKET, name, value.as_mut_ptr().cast(), &raw mut len)
    };
    if done < 0 {
        return Err(io::Error::last_os_error());
    }
    if len as usize != size_of::<T>() {
        return Err(Errno::INVAL.into());
    }
    // SAFETY: all of it is initialised, by `zeroed` and by the kernel, and a value by the caller's promise.
    Ok(unsafe { value.assume_init() })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pidfd::PidFd;
    use crate::socket::{Style, pair};
    use std::process::{Command, Stdio};

    #[test]
    fn the_peer_is_who_made_the_connection() {
        let (a, b) = pair(Style::Stream).unwrap();
        let me = PeerCredentials {
            uid: rustix::process::geteuid().as_raw(),
            gid: rustix::process::getegid().as_raw(),
            pid: Some(std::process::id()),
        };
        assert_eq!(peer_credentials(&a).unwrap(), me);
        drop(b);
        assert_eq!(peer_credentials(&a).unwrap(), me, "it is known after it has gone");
        let pidfd = peer_pidfd(&a).unwrap();
        if pidfd.is_none() {
            eprintln!("this kernel has no SO_PEERPIDFD");
        }
        if let Some(pidfd) = pidfd {
            assert!(rustix::io::fcntl_getfd(&pidfd).unwrap().contains(rustix::io::FdFlags::CLOEXEC));
            assert!(!PidFd::from_descriptor(pidfd).has_ended().unwrap());
        }
    }

    #[test]
    fn whoever_inherits_an_end_is_not_the_peer() {
        let (a, b) = pair(Style::Stream).unwrap();
        let mut child = Command::new("sleep").arg("50").stdin(Stdio::from(b)).spawn().unwrap();
        assert_eq!(peer_credentials(&a).unwrap().pid, Some(std::process::id()));
        let pidfd = peer_pidfd(&a).unwrap();
        child.kill().unwrap();
        child.wait().unwrap();
        if let Some(pidfd) = pidfd {
            assert!(!PidFd::from_descriptor(pidfd).has_ended().unwrap());
        }
    }

    #[test]
    fn what_has_no_such_peer_is_an_error() {
        let alone = std::os::unix::net::UnixDatagram::unbound().unwrap();
        assert_eq!(peer_credentials(&alone).unwrap_err().kind(), io::ErrorKind::NotConnected);
        assert_eq!(peer_pidfd(&alone).unwrap().map(|_| ()), None);
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let tcp = std::net::TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        assert_eq!(peer_credentials(&tcp).unwrap_err().kind(), io::ErrorKind::NotConnected);
        assert_eq!(peer_pidfd(&tcp).unwrap().map(|_| ()), None);
        let (pipe, _writer) = crate::pipe::pipe().unwrap();
        assert!(peer_credentials(&pipe).is_err() && peer_pidfd(&pipe).is_err());
    }
}
