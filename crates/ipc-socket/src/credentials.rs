//! Who is at the other end of a Unix socket.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;

use ipc_os::socket;

/// Who is at the other end of a Unix socket, as the kernel has it.
///
/// It is the process that connected, or, seen from the one that connected, the one that began to listen, as it was then.
/// A descriptor that was inherited or sent to another process keeps saying who it was at first: what these credentials
/// prove is who made the connection, not who writes into it now.
#[derive(Debug, Clone)]
pub struct Credentials {
    uid: u32,
    gid: u32,
    pid: Option<u32>,
    pidfd: Option<Arc<OwnedFd>>,
}

impl Credentials {
    /// Asks the kernel about a connected Unix socket.
    ///
    /// # Errors
    /// `NotConnected` if it is none; `EMFILE` when no descriptor is left for the process.
    pub(crate) fn of(socket: BorrowedFd<'_>) -> io::Result<Self> {
        let socket::PeerCredentials { uid, gid, pid, .. } = socket::peer_credentials(socket)?;
        let pidfd = socket::peer_pidfd(socket)?.map(Arc::new);
        Ok(Credentials { uid, gid, pid, pidfd })
    }

    /// The effective user.
    pub fn uid(&self) -> u32 {
        self.uid
    }

    /// The effective group.
    pub fn gid(&self) -> u32 {
        self.gid
    }

    /// The process. Its number may be another's once it has ended: [`pidfd`](Credentials::pidfd) is not. `None` if it has no
    /// number here, being in a PID namespace that this process does not see.
    pub fn pid(&self) -> Option<u32> {
        self.pid
    }

    /// The process as a descriptor, readable when it has ended: it is that process for ever.
    ///
    /// `None` on kernels before 6.5, which cannot tell, and where the process was gone before anybody asked. There is no
    /// way around by its number, which might be another process's by now.
    pub fn pidfd(&self) -> Option<BorrowedFd<'_>> {
        self.pidfd.as_deref().map(AsFd::as_fd)
    }
}

#[cfg(test)]
mod tests;
