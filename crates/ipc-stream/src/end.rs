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
pub enum Until {
    /// As long as it takes.
    Forever,
    /// Not at all.
    Now,
    /// To this time.
    At(Instant),
}

impl Until {
    /// A time too far ahead for the clock is for ever.
    pub fn after(timeout: Duration) -> Self {
        Instant::now().checked_add(timeout).map_or(Until::Forever, Until::At)
    }

    /// To that time; `None` is for ever.
    pub fn deadline(deadline: Option<Instant>) -> Self {
        deadline.map_or(Until::Forever, Until::At)
    }

    /// What is left of it, as a time-out for `poll`; `None` is for ever.
    pub fn left(self) -> Option<Duration> {
        match self {
            Until::Forever => None,
            Until::Now => Some(Duration::ZERO),
            Until::At(at) => Some(at.saturating_duration_since(Instant::now())),
        }
    }

    /// Whether there is no time left.
    pub fn is_over(self) -> bool {
        self.left().is_some_and(|left| left.is_zero())
    }
}

/// So long at most before a write is tried again.
const ROOM_TICK: Duration = Duration::from_millis(100);

/// Which system calls move the bytes, and what can go with them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Transport {
    /// A pipe: bytes alone.
    Pipe,
    /// A Unix socket: descriptors beside the bytes.
    Unix,
    /// A socket of the network: bytes alone.
    Network,
}

impl Transport {
    /// What it is called, and the carriers that move handles where it does not.
    pub(crate) fn names(self) -> (&'static str, &'static str) {
        match self {
            Transport::Pipe => ("a pipe", "a duplex, or the arguments or result of a process"),
            Transport::Unix => ("a Unix socket", "a Unix socket"),
            Transport::Network => ("a network connection", "a Unix socket"),
        }
    }
}

/// Which directions of a socket are this end's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    /// All of it.
    Whole,
    /// The one out: closed with `shutdown`, since the other half holds the socket open.
    Sending,
    /// The one in.
    Receiving,
}

/// An end of a pipe or socket. Shared by the two directions of a two-way one, and by the commit of a message that moves
/// it away.
#[derive(Debug)]
pub struct End {
    fd: Arc<OwnedFd>,
    transport: Transport,
    part: Part,
    /// Set once by the commit of the message that took it away. Relaxed: who uses an end has it by `&mut`, and the
    /// commit runs before the send that it belongs to returns.
    moved: AtomicBool,
}

impl End {
    /// An end over that descriptor, which has to be what `transport` says.
    pub fn new(fd: impl Into<Arc<OwnedFd>>, transport: Transport, part: Part) -> Arc<Self> {
        Arc::new(End { fd: fd.into(), transport, part, moved: AtomicBool::new(false) })
    }

    /// Whether a message has taken it away.
    #[inline]
    pub fn is_moved(&self) -> bool {
        self.moved.load(Relaxed)
    }

    /// What it is.
    pub fn transport(&self) -> Transport {
        self.transport
    }

    /// Which part of it this is.
    pub fn part(&self) -> Part {
        self.part
    }

    /// Whether descriptors go along.
    pub fn moves_handles(&self) -> bool {
        self.transport == Transport::Unix
    }

    /// The descriptor, to be put into a message.
    pub fn descriptor(&self) -> &Arc<OwnedFd> {
        &self.fd
    }

    /// Lets go of it: it lives in another process from now on.
    pub fn retire(&self) {
        self.moved.store(true, Relaxed);
        // Failing to (no descriptor left for the stand-in) keeps the kernel's object alive until this end is
        // dropped; it is of no use here in either case.
        let _ = ipc_os::fd::retire(self.fd.as_fd());
    }

    /// Another end over a descriptor of its own for one direction of this socket.
    ///
    /// # Errors
    /// `EMFILE` when the process has no descriptor left.
    pub fn half(&self, part: Part) -> io::Result<Arc<Self>> {
        Ok(End::new(self.as_fd().try_clone_to_owned()?, self.transport, part))
    }

    /// Writes, waiting for room.
    ///
    /// # Errors
    /// What the system reports.
    #[inline]
    pub fn write(&self, bytes: &[u8]) -> io::Result<usize> {
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

    /// Waits for room to write, for a while: ask again.
    ///
    /// # Errors
    /// What the system reports.
    pub fn wait_for_room(&self, until: Until) -> io::Result<()> {
        // A peer that has closed just its receiving direction wakes nobody who waits here: the next write tells of it.
        let left = until.left().map_or(ROOM_TICK, |left| left.min(ROOM_TICK));
        ipc_os::poll_writable(self.fd.as_fd(), Some(left)).map(drop)
    }

    /// How many bytes fit between the two ends.
    ///
    /// # Errors
    /// What the system reports.
    pub fn capacity(&self) -> io::Result<usize> {
        match self.transport {
            Transport::Pipe => pipe::capacity(&self.fd),
            _ => socket::send_buffer(&self.fd),
        }
    }

    /// Asks for room for so many bytes, and says how many there are.
    ///
    /// # Errors
    /// What the system reports.
    pub fn set_capacity(&self, bytes: usize) -> io::Result<usize> {
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
        let how = match self.part {
            Part::Whole => return,
            Part::Sending => std::net::Shutdown::Write,
            Part::Receiving => std::net::Shutdown::Read,
        };
        if !self.is_moved() {
            // The peer may be gone already.
            let _ = socket::shutdown(&self.fd, how);
        }
    }
}
