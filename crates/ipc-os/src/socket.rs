//! Socket pairs, messages with descriptors on them, sockets with an address, and who is at the other end.
//!
//! A received descriptor is an [`OwnedFd`] from the first moment and close-on-exec at receipt. No call here sets
//! `O_NONBLOCK`; those that must not wait say `MSG_DONTWAIT` for that call alone.

use crate::fd::above_standard_streams;
use rustix::io::Errno;
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, SocketFlags, SocketType, sockopt,
};
use std::collections::VecDeque;
use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

mod named;
mod peer;

pub use named::{
    Entry, TcpTimes, accept, connect_unix, entry, listen, open_directory, set_mode, unlink, watch_tcp,
};
pub use peer::{PeerCredentials, peer_credentials, peer_pidfd};

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
    let (a, b) = rustix::net::socketpair(AddressFamily::UNIX, kind, SocketFlags::CLOEXEC, None)?;
    Ok((above_standard_streams(a)?, above_standard_streams(b)?))
}

/// What a stream socket is of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Family {
    /// A Unix socket: it moves descriptors.
    Unix,
    /// TCP, over IPv4 or IPv6.
    Network,
}

/// Of what a stream socket is; `None` for any other socket. A received descriptor is believed only after this.
///
/// # Errors
/// What `getsockopt(2)` reports: that it is no socket.
///
/// ```
/// use ipc_os::socket::{Family, Style, pair, stream_family};
/// assert_eq!(stream_family(pair(Style::Stream)?.0)?, Some(Family::Unix));
/// assert_eq!(stream_family(pair(Style::Packets)?.0)?, None);
/// assert_eq!(stream_family(std::net::TcpListener::bind("127.0.0.1:0")?)?, Some(Family::Network));
/// assert!(stream_family(std::fs::File::open("/dev/null")?).is_err());
/// # Ok::<(), std::io::Error>(())
/// ```
pub fn stream_family(socket: impl AsFd) -> io::Result<Option<Family>> {
    let fd = socket.as_fd();
    if sockopt::socket_type(fd)? != SocketType::STREAM {
        return Ok(None);
    }
    Ok(match sockopt::socket_domain(fd)? {
        AddressFamily::UNIX => Some(Family::Unix),
        AddressFamily::INET | AddressFamily::INET6 => Some(Family::Network),
        _ => None,
    })
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pipe::pipe;
    use rustix::io::FdFlags;

    fn descriptors(count: usize) -> Vec<OwnedFd> {
        (0..count).map(|_| crate::fd::duplicate(std::io::stderr(), 3).unwrap()).collect()
    }

    fn borrowed(fds: &[OwnedFd]) -> Vec<BorrowedFd<'_>> {
        fds.iter().map(AsFd::as_fd).collect()
    }

    #[test]
    fn as_many_descriptors_as_the_kernel_takes_and_no_more() {
        let (a, b) = pair(Style::Stream).unwrap();
        let fds = descriptors(DESCRIPTORS_MAX + 1);
        let all = borrowed(&fds);
        let send = |fds: &[BorrowedFd<'_>]| send_with(a.as_fd(), &[IoSlice::new(b"x")], fds, Mode::Wait);
        assert_eq!(send(&all).unwrap_err().kind(), io::ErrorKind::InvalidInput);
        assert_eq!(send(&all[..DESCRIPTORS_MAX]).unwrap(), 1);
        assert_eq!(send(&all[DESCRIPTORS_MAX..]).unwrap(), 1);
        // The two groups do not merge, though the bytes of a stream may.
        let mut received = VecDeque::new();
        assert_eq!(receive(b.as_fd(), &mut [0; 8], &mut received, Mode::Wait).unwrap(), 1);
        assert_eq!(received.len(), DESCRIPTORS_MAX);
        assert_eq!(receive(b.as_fd(), &mut [0; 8], &mut received, Mode::Wait).unwrap(), 1);
        assert_eq!(received.len(), DESCRIPTORS_MAX + 1);
    }

    #[test]
    fn descriptors_need_a_byte_to_go_with() {
        let (a, _b) = pair(Style::Stream).unwrap();
        let error = send_with(a.as_fd(), &[IoSlice::new(b"")], &[a.as_fd()], Mode::Wait).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::InvalidInput);
    }

    #[test]
    fn descriptors_arrive_close_on_exec_and_are_the_same_file() {
        let (a, b) = pair(Style::Packets).unwrap();
        let (reader, writer) = pipe().unwrap();
        // Not close-on-exec at the sender: that does not travel, the receiver decides.
        rustix::io::fcntl_setfd(&writer, FdFlags::empty()).unwrap();
        send_with(a.as_fd(), &[IoSlice::new(b"x")], &[writer.as_fd()], Mode::Wait).unwrap();
        drop(writer);
        let mut received = VecDeque::new();
        receive(b.as_fd(), &mut [0; 8], &mut received, Mode::Wait).unwrap();
        let writer = received.pop_front().unwrap();
        assert!(rustix::io::fcntl_getfd(&writer).unwrap().contains(FdFlags::CLOEXEC));
        crate::pipe::write(writer.as_fd(), b"through").unwrap();
        drop(writer);
        let mut buf = [0; 16];
        assert_eq!(crate::pipe::read(reader.as_fd(), &mut buf).unwrap(), 7);
        assert_eq!(crate::pipe::read(reader.as_fd(), &mut buf).unwrap(), 0, "no copy is left in flight");
    }

    #[test]
    fn descriptors_without_room_are_an_error() {
        ipc_testkit::alone("socket::tests::descriptors_without_room_are_an_error", || {
            let (a, b) = pair(Style::Packets).unwrap();
            let fds = descriptors(20);
            send_with(a.as_fd(), &[IoSlice::new(b"x")], &borrowed(&fds), Mode::Wait).unwrap();
            // Room for five more.
            let highest = fds.iter().map(std::os::fd::AsRawFd::as_raw_fd).max().unwrap();
            let now = rustix::process::getrlimit(rustix::process::Resource::Nofile);
            let low = rustix::process::Rlimit { current: Some(highest as u64 + 6), ..now };
            rustix::process::setrlimit(rustix::process::Resource::Nofile, low).unwrap();
            let before = ipc_testkit::open_descriptors();
            let mut received = VecDeque::new();
            let error = receive(b.as_fd(), &mut [0; 8], &mut received, Mode::Wait).unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::InvalidData);
            assert!(error.to_string().contains("ulimit -n"), "{error}");
            assert!(!received.is_empty() && received.len() < 20, "{}", received.len());
            drop(received);
            assert_eq!(ipc_testkit::open_descriptors(), before, "those that came are closed");
        });
    }

    #[test]
    fn a_cut_packet_is_an_error() {
        let (a, b) = pair(Style::Packets).unwrap();
        send(a.as_fd(), b"longer than four", Mode::Wait).unwrap();
        let error = receive(b.as_fd(), &mut [0; 4], &mut VecDeque::new(), Mode::Wait).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::InvalidData);
    }

    #[test]
    fn nothing_waits_that_must_not_and_nothing_is_set_on_the_description() {
        let (a, b) = pair(Style::Stream).unwrap();
        let mut buf = [0; 8];
        let error = receive(b.as_fd(), &mut buf, &mut VecDeque::new(), Mode::Try).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::WouldBlock);
        let big = vec![0; 1 << 20];
        let sent = send(a.as_fd(), &big, Mode::Try).unwrap();
        assert!(sent > 0 && sent < big.len(), "{sent}");
        assert_eq!(send(a.as_fd(), &big, Mode::Try).unwrap_err().kind(), io::ErrorKind::WouldBlock);
        for end in [&a, &b] {
            assert!(!rustix::fs::fcntl_getfl(end).unwrap().contains(rustix::fs::OFlags::NONBLOCK));
        }
    }

    #[test]
    fn a_closed_peer_is_an_error_and_no_signal() {
        let (a, b) = pair(Style::Stream).unwrap();
        drop(b);
        // This waits for its end: processes that other tests are starting have copies of `b` until their exec.
        assert_eq!(receive(a.as_fd(), &mut [0; 8], &mut VecDeque::new(), Mode::Wait).unwrap(), 0);
        let error = send(a.as_fd(), b"x", Mode::Wait).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::BrokenPipe);
        let error = send_with(a.as_fd(), &[IoSlice::new(b"x")], &[a.as_fd()], Mode::Wait).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::BrokenPipe);
    }
}
