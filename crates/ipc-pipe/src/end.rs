//! One end of a carrier: its descriptor, what the system calls for it are, and whether it has moved away.

use std::collections::VecDeque;
use std::io::{self, IoSlice};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::{Duration, Instant};

use ipc_os::{pipe, socket};

/// How long a call may wait.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Until {
    Forever,
    Now,
    At(Instant),
}

impl Until {
    /// A time too far ahead for the clock is for ever.
    pub(crate) fn after(timeout: Duration) -> Self {
        Instant::now().checked_add(timeout).map_or(Until::Forever, Until::At)
    }

    pub(crate) fn deadline(deadline: Option<Instant>) -> Self {
        deadline.map_or(Until::Forever, Until::At)
    }

    /// What is left of it, as a time-out for `poll`; `None` is for ever.
    pub(crate) fn left(self) -> Option<Duration> {
        match self {
            Until::Forever => None,
            Until::Now => Some(Duration::ZERO),
            Until::At(at) => Some(at.saturating_duration_since(Instant::now())),
        }
    }

    pub(crate) fn is_over(self) -> bool {
        self.left().is_some_and(|left| left.is_zero())
    }
}

/// Which system calls move the bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Transport {
    Pipe,
    /// One socket for both directions.
    Socket,
    /// One direction of a socket that was split: closed with `shutdown`, since the other half holds it open.
    SendingHalf,
    ReceivingHalf,
}

/// An end of a pipe or socket. Shared by the two directions of a duplex, and by the commit of a message that moves
/// it away.
#[derive(Debug)]
pub(crate) struct End {
    fd: Arc<OwnedFd>,
    transport: Transport,
    /// Set once by the commit of the message that took it away. Relaxed: who uses an end has it by `&mut`, and the
    /// commit runs before the send that it belongs to returns.
    moved: AtomicBool,
}

impl End {
    pub(crate) fn new(fd: impl Into<Arc<OwnedFd>>, transport: Transport) -> Arc<Self> {
        Arc::new(End { fd: fd.into(), transport, moved: AtomicBool::new(false) })
    }

    #[inline]
    pub(crate) fn is_moved(&self) -> bool {
        self.moved.load(Relaxed)
    }

    pub(crate) fn transport(&self) -> Transport {
        self.transport
    }

    pub(crate) fn moves_handles(&self) -> bool {
        self.transport != Transport::Pipe
    }

    /// The descriptor, to be put into a message.
    pub(crate) fn descriptor(&self) -> &Arc<OwnedFd> {
        &self.fd
    }

    /// Lets go of it: it lives in another process from now on.
    pub(crate) fn retire(&self) {
        self.moved.store(true, Relaxed);
        // Failing to (no descriptor left for the stand-in) keeps the kernel's object alive until this end is
        // dropped; it is of no use here in either case.
        let _ = ipc_os::fd::retire(self.fd.as_fd());
    }

    #[inline]
    pub(crate) fn write(&self, bytes: &[u8]) -> io::Result<usize> {
        match self.transport {
            Transport::Pipe => pipe::write(self.fd.as_fd(), bytes),
            _ => socket::send(self.fd.as_fd(), bytes, socket::Mode::Wait),
        }
    }

    pub(crate) fn try_write(&self, bytes: &[u8]) -> io::Result<usize> {
        match self.transport {
            Transport::Pipe => pipe::try_write(self.fd.as_fd(), bytes),
            _ => socket::send(self.fd.as_fd(), bytes, socket::Mode::Try),
        }
    }

    pub(crate) fn write_two(&self, first: &[u8], second: &[u8]) -> io::Result<usize> {
        let parts = [IoSlice::new(first), IoSlice::new(second)];
        match self.transport {
            Transport::Pipe => pipe::write_vectored(self.fd.as_fd(), &parts),
            _ => socket::send_with(self.fd.as_fd(), &parts, &[], socket::Mode::Wait),
        }
    }

    /// Sends bytes with descriptors; only where handles can move.
    pub(crate) fn write_with(
        &self,
        bytes: &[u8],
        descriptors: &[BorrowedFd<'_>],
        mode: socket::Mode,
    ) -> io::Result<usize> {
        socket::send_with(self.fd.as_fd(), &[IoSlice::new(bytes)], descriptors, mode)
    }

    #[inline]
    pub(crate) fn read(
        &self,
        buf: &mut [u8],
        descriptors: &mut VecDeque<OwnedFd>,
        until: Until,
    ) -> io::Result<usize> {
        let fd = self.fd.as_fd();
        match (self.transport, until) {
            (Transport::Pipe, Until::Forever) => pipe::read(fd, buf),
            (Transport::Pipe, _) => pipe::try_read(fd, buf),
            (_, Until::Forever) => socket::receive(fd, buf, descriptors, socket::Mode::Wait),
            (_, _) => socket::receive(fd, buf, descriptors, socket::Mode::Try),
        }
    }

    pub(crate) fn capacity(&self) -> io::Result<usize> {
        match self.transport {
            Transport::Pipe => pipe::capacity(&self.fd),
            _ => socket::send_buffer(&self.fd),
        }
    }

    pub(crate) fn set_capacity(&self, bytes: usize) -> io::Result<usize> {
        match self.transport {
            Transport::Pipe => pipe::set_capacity(&self.fd, bytes),
            _ => socket::set_send_buffer(&self.fd, bytes),
        }
    }
}

impl AsFd for End {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

impl Drop for End {
    fn drop(&mut self) {
        let how = match self.transport {
            Transport::SendingHalf => std::net::Shutdown::Write,
            Transport::ReceivingHalf => std::net::Shutdown::Read,
            _ => return,
        };
        if !self.is_moved() {
            // The peer may be gone already.
            let _ = socket::shutdown(&self.fd, how);
        }
    }
}
