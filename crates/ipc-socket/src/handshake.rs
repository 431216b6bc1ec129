//! A handshake over a descriptor: reads exactly the messages of the handshake, and nothing of what comes behind.

use std::collections::VecDeque;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::time::Instant;

use ipc_core::frame::{FrameKind, HEADER_LEN, Header};
use ipc_core::{Classify, ErrorKind, FrameError};
use ipc_os::socket::{self, Mode};

use crate::auth::{AuthError, Handshake, MESSAGE_MAX, Step};

/// Why a connection did not come about after it had been accepted.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum HandshakeError {
    /// The two do not trust each other, or do not understand each other.
    #[error(transparent)]
    Auth(#[from] AuthError),
    /// The peer did not say in time what it had to say.
    #[error("the other end did not answer in time; does it speak this protocol, and want a key?")]
    Timeout,
    /// The peer has closed the connection in the middle of the handshake.
    #[error("the other end closed the connection during the handshake")]
    Disconnected,
    /// What came is no frame of this protocol.
    #[error("the other end does not speak this protocol")]
    Frame(#[source] FrameError),
    /// The system reports something else.
    #[error("the handshake failed")]
    Io(#[source] io::Error),
}

impl Classify for HandshakeError {
    fn kind(&self) -> ErrorKind {
        match self {
            HandshakeError::Auth(error) => error.kind(),
            HandshakeError::Timeout => ErrorKind::Timeout,
            HandshakeError::Disconnected => ErrorKind::Disconnected,
            HandshakeError::Frame(error) => error.kind(),
            HandshakeError::Io(error) => ErrorKind::of_io(error),
        }
    }
}

impl From<io::Error> for HandshakeError {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe | io::ErrorKind::UnexpectedEof => {
                HandshakeError::Disconnected
            }
            _ => HandshakeError::Io(error),
        }
    }
}

/// A socket whose handshake is under way.
#[derive(Debug)]
pub(crate) struct Pending {
    pub(crate) fd: OwnedFd,
    machine: Handshake,
    /// What has come of the message that is due.
    buf: [u8; HEADER_LEN + MESSAGE_MAX],
    filled: usize,
    pub(crate) deadline: Instant,
}

/// How far a handshake has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Progress {
    /// Something is to come from the peer.
    Waiting,
    Done,
}

impl Pending {
    pub(crate) fn new(fd: OwnedFd, machine: Handshake, deadline: Instant) -> Self {
        Pending { fd, machine, buf: [0; HEADER_LEN + MESSAGE_MAX], filled: 0, deadline }
    }

    /// Whether the peer has said anything that makes sense so far.
    pub(crate) fn has_begun(&self) -> bool {
        self.machine.has_begun()
    }

    /// Goes on as far as it can without waiting.
    pub(crate) fn advance(&mut self) -> Result<Progress, HandshakeError> {
        let mut step = self.machine.next(None)?;
        loop {
            step = match step {
                Step::Send(message) => {
                    self.send(&message)?;
                    self.machine.next(None)?
                }
                Step::Done => return Ok(Progress::Done),
                Step::Refuse(message, error) => {
                    // It is told if it listens; it is not let in in any case.
                    let _told = self.send(&message);
                    return Err(error.into());
                }
                Step::Receive => match self.receive()? {
                    Some(len) => {
                        self.filled = 0;
                        self.machine.next(Some(&self.buf[HEADER_LEN..HEADER_LEN + len]))?
                    }
                    None if Instant::now() >= self.deadline => return Err(HandshakeError::Timeout),
                    None => return Ok(Progress::Waiting),
                },
            };
        }
    }

    /// Waits until it is done.
    pub(crate) fn finish(mut self) -> Result<OwnedFd, HandshakeError> {
        loop {
            if self.advance()? == Progress::Done {
                return Ok(self.fd);
            }
            let left = self.deadline.saturating_duration_since(Instant::now());
            ipc_os::poll_readable(self.fd.as_fd(), Some(left))?;
        }
    }

    /// All messages of a handshake together fit into the buffer of any socket: who has no room is no peer.
    fn send(&self, message: &[u8]) -> Result<(), HandshakeError> {
        let header = Header::new(FrameKind::Control, message.len(), 0, MESSAGE_MAX);
        let header = header.map_err(HandshakeError::Frame)?.to_bytes();
        let frame = [&header[..], message].concat();
        match socket::send(self.fd.as_fd(), &frame, Mode::Try) {
            Ok(count) if count == frame.len() => Ok(()),
            Ok(_) => Err(HandshakeError::Timeout),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Err(HandshakeError::Timeout),
            Err(error) => Err(error.into()),
        }
    }

    /// The length of the message that is due, once all of it is here.
    fn receive(&mut self) -> Result<Option<usize>, HandshakeError> {
        loop {
            let want = match self.header()? {
                None => HEADER_LEN,
                Some(len) if self.filled == HEADER_LEN + len => return Ok(Some(len)),
                Some(len) => HEADER_LEN + len,
            };
            // Descriptors from somebody unknown are closed at once.
            let mut unwanted = VecDeque::new();
            let space = &mut self.buf[self.filled..want];
            match socket::receive(self.fd.as_fd(), space, &mut unwanted, Mode::Try) {
                Ok(0) => return Err(HandshakeError::Disconnected),
                Ok(count) => self.filled += count,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(None),
                Err(error) => return Err(error.into()),
            }
        }
    }

    fn header(&self) -> Result<Option<usize>, HandshakeError> {
        let Some(bytes) = self.buf[..self.filled].first_chunk() else { return Ok(None) };
        let header = Header::parse(*bytes, MESSAGE_MAX).map_err(HandshakeError::Frame)?;
        match header.kind {
            FrameKind::Control if header.handles == 0 => Ok(Some(header.payload_len as usize)),
            _ => Err(AuthError::Protocol("a frame that is no part of a handshake").into()),
        }
    }
}
