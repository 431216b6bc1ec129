//! A handshake over a descriptor: reads exactly the messages of the handshake, and nothing of what comes behind.

use std::collections::VecDeque;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::time::Instant;

use ipc_core::frame::{FrameKind, HEADER_LEN, HEADER_LEN_MAX, Layout};
use ipc_core::{Classify, ErrorKind, FrameError};
use ipc_os::socket::{self, Mode};
use ipc_sync::object::Spin;

use crate::auth::{AuthError, Handshake, Step};
use crate::python::auth as python;

/// No message of a handshake is longer.
const MESSAGE_MAX: usize = python::MESSAGE_LEN_MAX;
const _: () = assert!(MESSAGE_MAX >= crate::auth::MESSAGE_MAX);

/// What it takes to ask the kernel whether there is something, against a look at memory.
pub(crate) const LOOK_COST: u32 = 25;

/// Why a connection did not come about after it had been accepted.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum HandshakeError {
    /// The two do not trust each other, or do not understand each other.
    #[error(transparent)]
    Auth(#[from] AuthError),
    /// The same, in CPython's protocol.
    #[error(transparent)]
    Python(#[from] python::AuthError),
    /// The peer did not say in time what it had to say.
    #[error("the other end did not answer in time; does it speak this protocol, and want a key?")]
    Timeout,
    /// The peer has closed the connection in the middle of the handshake.
    #[error("the other end closed the connection during the handshake")]
    Disconnected,
    /// What came is no frame of this protocol.
    #[error("the other end does not speak this protocol")]
    Frame(#[source] FrameError),
    /// There is no shared memory for the connection, here or at the other end, or what the other end sent is none.
    #[error("the shared memory of the connection could not be set up")]
    Memory(#[source] ipc_core::Error),
    /// The system reports something else.
    #[error("the handshake failed")]
    Io(#[source] io::Error),
}

impl Classify for HandshakeError {
    fn kind(&self) -> ErrorKind {
        match self {
            HandshakeError::Auth(error) => error.kind(),
            HandshakeError::Python(error) => error.kind(),
            HandshakeError::Timeout => ErrorKind::Timeout,
            HandshakeError::Disconnected => ErrorKind::Disconnected,
            HandshakeError::Frame(error) => error.kind(),
            HandshakeError::Memory(error) => error.kind(),
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

/// What is said in a handshake.
#[derive(Debug)]
pub(crate) enum Machine {
    Native(Handshake),
    Python(python::Auth),
    /// CPython's without a key: nothing is said.
    Nothing,
}

impl Machine {
    fn next(&mut self, received: Option<&[u8]>) -> Result<Step, HandshakeError> {
        match self {
            Machine::Native(machine) => Ok(machine.next(received)?),
            Machine::Python(machine) => Ok(match machine.next(received)? {
                python::Step::Send(message) => Step::Send(message),
                python::Step::Receive => Step::Receive,
                python::Step::Done => Step::Done,
            }),
            Machine::Nothing => Ok(Step::Done),
        }
    }

    /// So much can be read at once of a message of which nothing is known yet: all of it, or as much as any header has.
    /// Not a byte of what follows the handshake is among that.
    fn due(&self) -> usize {
        match self {
            Machine::Native(machine) => HEADER_LEN + machine.due_len(),
            Machine::Python(_) | Machine::Nothing => 4,
        }
    }

    fn layout(&self) -> Layout {
        match self {
            Machine::Native(_) => Layout::Frames,
            Machine::Python(_) | Machine::Nothing => Layout::Lengths,
        }
    }

    /// What its frames are.
    fn kind(&self) -> FrameKind {
        match self {
            Machine::Native(_) => FrameKind::Control,
            Machine::Python(_) | Machine::Nothing => FrameKind::Bytes,
        }
    }
}

/// A socket whose handshake is under way.
#[derive(Debug)]
pub(crate) struct Pending {
    pub(crate) fd: OwnedFd,
    machine: Machine,
    /// What has come of the message that is due.
    buf: [u8; HEADER_LEN_MAX + MESSAGE_MAX],
    filled: usize,
    heard: Option<Instant>,
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
    pub(crate) fn new(fd: OwnedFd, machine: Machine, deadline: Instant) -> Self {
        Pending { fd, machine, buf: [0; HEADER_LEN_MAX + MESSAGE_MAX], filled: 0, heard: None, deadline }
    }

    /// When the peer has last said something that makes sense, if it has.
    pub(crate) fn heard(&self) -> Option<Instant> {
        self.heard
    }

    /// Goes on as far as it can without waiting.
    pub(crate) fn advance(&mut self) -> Result<Progress, HandshakeError> {
        let mut step = self.machine.next(None)?;
        loop {
            step = match step {
                Step::Send(message) => {
                    self.send(&message)?;
                    match self.machine.next(None)? {
                        // The answer takes a while: who waits for it looks when it is there.
                        Step::Receive => return Ok(Progress::Waiting),
                        step => step,
                    }
                }
                Step::Done => return Ok(Progress::Done),
                Step::Refuse(message, error) => {
                    // It is told if it listens; it is not let in in any case.
                    let _told = self.send(&message);
                    return Err(error.into());
                }
                Step::Receive => match self.receive()? {
                    Some((from, len)) => {
                        self.filled = 0;
                        let step = self.machine.next(Some(&self.buf[from..from + len]))?;
                        self.heard = Some(Instant::now());
                        step
                    }
                    None if Instant::now() >= self.deadline => return Err(HandshakeError::Timeout),
                    None => return Ok(Progress::Waiting),
                },
            };
        }
    }

    /// Waits until it is done. The other end has little to do for each message, so the wait is awake where that pays.
    pub(crate) fn finish(mut self) -> Result<OwnedFd, HandshakeError> {
        static SPIN: Spin = Spin::new();
        loop {
            let mut progress = self.advance();
            if matches!(progress, Ok(Progress::Waiting)) {
                SPIN.spin_by(LOOK_COST, || {
                    progress = self.advance();
                    !matches!(progress, Ok(Progress::Waiting))
                });
            }
            if progress? == Progress::Done {
                return Ok(self.fd);
            }
            let left = self.deadline.saturating_duration_since(Instant::now());
            ipc_os::poll_readable(self.fd.as_fd(), Some(left))?;
        }
    }

    /// All messages of a handshake together fit into the buffer of any socket: who has no room is no peer.
    fn send(&self, message: &[u8]) -> Result<(), HandshakeError> {
        let (layout, kind) = (self.machine.layout(), self.machine.kind());
        let mut frame = Vec::new();
        layout.put(kind, message.len(), 0, MESSAGE_MAX, &mut frame).map_err(HandshakeError::Frame)?;
        frame.extend_from_slice(message);
        match socket::send(self.fd.as_fd(), &frame, Mode::Try) {
            Ok(count) if count == frame.len() => Ok(()),
            Ok(_) => Err(HandshakeError::Timeout),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Err(HandshakeError::Timeout),
            Err(error) => Err(error.into()),
        }
    }

    /// Where the message that is due begins, and its length, once all of it is here.
    fn receive(&mut self) -> Result<Option<(usize, usize)>, HandshakeError> {
        let due = self.machine.due();
        loop {
            let want = match self.header()? {
                // Of CPython's headers some are longer.
                None => self.filled + due - self.filled % due,
                // There is more only where it was shorter than it should be: nobody gets any further with that.
                Some((from, len)) if self.filled >= from + len => return Ok(Some((from, len))),
                Some((from, len)) => from + len,
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

    fn header(&self) -> Result<Option<(usize, usize)>, HandshakeError> {
        let parsed = self.machine.layout().parse(&self.buf[..self.filled], MESSAGE_MAX);
        match parsed.map_err(HandshakeError::Frame)? {
            None => Ok(None),
            Some((header, from)) if header.kind == self.machine.kind() && header.handles == 0 => {
                Ok(Some((from, header.payload_len as usize)))
            }
            Some(_) => Err(AuthError::Protocol("a frame that is no part of a handshake").into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::os::unix::net::UnixStream;
    use std::time::Duration;

    use super::*;
    use crate::auth::{Key, Role};

    /// A handshake with one end of a pair, and the other end.
    fn pending(role: Role, key: Option<&[u8]>) -> (Pending, UnixStream) {
        let (ours, theirs) = UnixStream::pair().unwrap();
        theirs.set_nonblocking(true).unwrap();
        let machine = Handshake::new(role, key.map(Key::new)).unwrap();
        let deadline = Instant::now() + Duration::from_secs(60);
        (Pending::new(ours.into(), Machine::Native(machine), deadline), theirs)
    }

    /// Hands on at most so many bytes.
    fn carry(mut from: &UnixStream, mut to: &UnixStream, piece: usize) {
        let mut buf = vec![0; piece];
        if let Ok(count) = from.read(&mut buf) {
            to.write_all(&buf[..count]).unwrap();
        }
    }

    #[test]
    fn in_pieces_of_any_size_and_nothing_that_follows_is_read() {
        for key in [None, Some(&b"secret"[..])] {
            for piece in [1, 7, 43, 4096] {
                let (mut client, of_client) = pending(Role::Client, key);
                let (mut listener, of_listener) = pending(Role::Listener, key);
                let mut has_followed = false;
                while client.advance().unwrap() == Progress::Waiting {
                    carry(&of_client, &of_listener, piece);
                    if listener.advance().unwrap() == Progress::Done && !has_followed {
                        socket::send(listener.fd.as_fd(), b"behind", Mode::Try).unwrap();
                        has_followed = true;
                    }
                    carry(&of_listener, &of_client, piece);
                }
                (0..6).for_each(|_| carry(&of_listener, &of_client, 6));
                let mut rest = [0; 7];
                assert_eq!(UnixStream::from(client.fd).read(&mut rest).unwrap(), 6, "{piece}");
                assert_eq!(&rest[..6], b"behind");
            }
        }
    }

    #[test]
    fn a_short_message_with_more_behind_it_leads_nowhere() {
        let cases: [(Option<&[u8]>, &[u8]); 3] = [
            (None, b"\0\0\0\0\0\0\x02\xa9P"),
            (Some(b"secret"), b"\x01\0\0\0\0\0\x02\xa9P and more, as long as a proof"),
            (Some(b"secret"), b"\x02\0\0\0\0\0\x02\xa9R\x01 and more, as long as a proof"),
        ];
        for (key, proof) in cases {
            let (mut client, of_client) = pending(Role::Client, key);
            let (mut listener, mut of_listener) = pending(Role::Listener, key);
            assert_eq!(client.advance().unwrap(), Progress::Waiting);
            carry(&of_client, &of_listener, 4096);
            assert_eq!(listener.advance().unwrap(), Progress::Waiting);
            of_listener.write_all(proof).unwrap();
            let error = listener.advance().unwrap_err();
            assert!(matches!(error, HandshakeError::Auth(AuthError::Protocol(_))), "{error:?}");
        }
    }
}
