//! Socket pairs, and messages with descriptors on them.
//!
//! A received descriptor is an [`OwnedFd`] from the first moment and close-on-exec at receipt. No call here sets
//! `O_NONBLOCK`; those that must not wait say `MSG_DONTWAIT` for that call alone.

use rustix::io::Errno;
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, SocketFlags, SocketType,
};
use std::collections::VecDeque;
use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

/// The most descriptors that one `sendmsg(2)` carries (`SCM_MAX_FD`, include/net/scm.h).
pub const DESCRIPTORS_MAX: usize = 253;

/// What a socket pair keeps of its messages.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Style {
    /// A stream of bytes.
    Stream,
    /// Packets with their boundaries, in order; a packet has to fit the send buffer.
    Packets,
}

/// Whether a call may wait.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// Until it can go on.
    Wait,
    /// Not at all: `WouldBlock` instead.
    Try,
}

/// Two Unix sockets connected to each other, close-on-exec.
///
/// # Errors
/// What `socketpair(2)` reports; `EMFILE` when the process has no descriptor left.
pub fn pair(style: Style) -> io::Result<(OwnedFd, OwnedFd)> {
    let kind = match style {
        Style::Stream => SocketType::STREAM,
        Style::Packets => SocketType::SEQPACKET,
    };
    Ok(rustix::net::socketpair(AddressFamily::UNIX, kind, SocketFlags::CLOEXEC, None)?)
}

/// Sends bytes without descriptors, as many as go.
///
/// # Errors
/// `BrokenPipe` or `ConnectionReset` when the other end is gone (SIGPIPE is not raised); `WouldBlock` in
/// [`Mode::Try`]; else what `send(2)` reports.
#[inline]
pub fn send(fd: BorrowedFd<'_>, bytes: &[u8], mode: Mode) -> io::Result<usize> {
    loop {
        match rustix::net::send(fd, bytes, send_flags(mode)) {
            Ok(count) => return Ok(count),
            Err(Errno::INTR) => continue,
            Err(error) => return Err(error.into()),
        }
    }
}

/// Sends bytes with up to [`DESCRIPTORS_MAX`] descriptors beside the first of them. When it returns `Ok(n)`, n > 0,
/// all the descriptors have gone, even if not all the bytes have.
///
/// # Errors
/// As [`send`]; `InvalidInput` for too many descriptors, or for descriptors without a byte to go with;
/// `ETOOMANYREFS` when the user has more descriptors in flight than it may have open.
pub fn send_with(
    fd: BorrowedFd<'_>,
    parts: &[IoSlice<'_>],
    descriptors: &[BorrowedFd<'_>],
    mode: Mode,
) -> io::Result<usize> {
    if descriptors.len() > DESCRIPTORS_MAX || (!descriptors.is_empty() && parts.iter().all(|p| p.is_empty()))
    {
        return Err(Errno::INVAL.into());
    }
    let mut space = [MaybeUninit::<u8>::uninit(); rustix::cmsg_space!(ScmRights(DESCRIPTORS_MAX))];
    loop {
        let mut control = SendAncillaryBuffer::new(&mut space);
        if !descriptors.is_empty() && !control.push(SendAncillaryMessage::ScmRights(descriptors)) {
            return Err(Errno::INVAL.into());
        }
        match rustix::net::sendmsg(fd, parts, &mut control, send_flags(mode)) {
            Ok(count) => return Ok(count),
            Err(Errno::INTR) => continue,
            Err(error) => return Err(error.into()),
        }
    }
}

/// Receives bytes, and appends the descriptors that came with them. 0 bytes mean that the other end is closed
/// (or, for packets, an empty packet).
///
/// # Errors
/// `WouldBlock` in [`Mode::Try`]; `InvalidData` when the kernel had to cut something off (a packet longer than
/// `buf`, or descriptors for which this process had no room: they are gone, and a stream is of no use after that);
/// else what `recvmsg(2)` reports.
pub fn receive(
    fd: BorrowedFd<'_>,
    buf: &mut [u8],
    descriptors: &mut VecDeque<OwnedFd>,
    mode: Mode,
) -> io::Result<usize> {
    let flags = match mode {
        Mode::Wait => RecvFlags::CMSG_CLOEXEC,
        Mode::Try => RecvFlags::CMSG_CLOEXEC | RecvFlags::DONTWAIT,
    };
    let mut space = [MaybeUninit::<u8>::uninit(); rustix::cmsg_space!(ScmRights(DESCRIPTORS_MAX))];
    loop {
        let mut control = RecvAncillaryBuffer::new(&mut space);
        let received = match rustix::net::recvmsg(fd, &mut [IoSliceMut::new(&mut *buf)], &mut control, flags)
        {
            Ok(received) => received,
            Err(Errno::INTR) => continue,
            Err(error) => return Err(error.into()),
        };
        for message in control.drain() {
            if let RecvAncillaryMessage::ScmRights(rights) = message {
                descriptors.extend(rights);
            }
        }
        if received.flags.contains(ReturnFlags::CTRUNC) {
            let what = "the kernel could not hand over all descriptors of a message: too many are open here (raise \
                        the limit, `ulimit -n`)";
            return Err(io::Error::new(io::ErrorKind::InvalidData, what));
        }
        if received.flags.contains(ReturnFlags::TRUNC) {
            return Err(io::Error::new(
                io::ErrorKind::InvalidData,
                "a packet was longer than the buffer for it",
            ));
        }
        return Ok(received.bytes);
    }
}

/// Closes one direction or both: the peer reads end-of-file, or fails to write.
///
/// # Errors
/// What `shutdown(2)` reports.
pub fn shutdown(fd: impl AsFd, how: std::net::Shutdown) -> io::Result<()> {
    let how = match how {
        std::net::Shutdown::Read => rustix::net::Shutdown::Read,
        std::net::Shutdown::Write => rustix::net::Shutdown::Write,
        std::net::Shutdown::Both => rustix::net::Shutdown::Both,
    };
    Ok(rustix::net::shutdown(fd.as_fd(), how)?)
}

/// The size of the send buffer in bytes, the kernel's own share included.
///
/// # Errors
/// What `getsockopt(2)` reports.
pub fn send_buffer(fd: impl AsFd) -> io::Result<usize> {
    Ok(rustix::net::sockopt::socket_send_buffer_size(fd.as_fd())?)
}

/// Sets the size of the send buffer in bytes (the kernel doubles it for its own needs and caps it at
/// `/proc/sys/net/core/wmem_max`); the result says what it is now, the kernel's share included.
///
/// # Errors
/// What `setsockopt(2)` reports.
pub fn set_send_buffer(fd: impl AsFd, bytes: usize) -> io::Result<usize> {
    rustix::net::sockopt::set_socket_send_buffer_size(fd.as_fd(), bytes)?;
    send_buffer(fd)
}

fn send_flags(mode: Mode) -> SendFlags {
    match mode {
        Mode::Wait => SendFlags::NOSIGNAL,
        Mode::Try => SendFlags::NOSIGNAL | SendFlags::DONTWAIT,
    }
}
