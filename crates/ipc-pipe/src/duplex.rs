//! Two-way pipes, which also move handles.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;
use std::time::Duration;

use ipc_core::handle_kind;
use ipc_core::{Limits, RecvError, SendError};
use ipc_os::fd::Kind as FdKind;
use ipc_os::socket::{self, Style};
use ipc_os::{Readiness, Waitable};
use serde::de::{DeserializeOwned, Deserializer};
use serde::ser::Serializer;
use serde::{Deserialize, Serialize};

use crate::carrier::PipeChannel;
use crate::pipe::{Receiver, Sender, clone_all, own_all};
use ipc_stream::{End, Part, Rx, Transport, Tx};

/// Makes a two-way pipe over a pair of Unix sockets: the first end sends `A` and receives `B`, the second one the
/// reverse. Messages may hold handles (other pipes' ends, and whatever else implements serde as a handle).
///
/// # Errors
/// What `socketpair(2)` reports; `EMFILE` when the process has no descriptor left.
///
/// ```
/// let (mut a, mut b) = ipc_pipe::duplex::<ipc_pipe::Receiver<u8>, u32>()?;
/// let (mut tx, rx) = ipc_pipe::pipe::<u8>()?;
/// a.send(&rx)?;                                // the pipe's end itself goes through
/// let mut rx = b.recv()?;
/// tx.send(&7)?;
/// assert_eq!(rx.recv()?, 7);
/// b.send(&1)?;
/// assert_eq!(a.recv()?, 1);
/// # Ok::<(), ipc_core::Error>(())
/// ```
pub fn duplex<A, B>() -> io::Result<(Duplex<A, B>, Duplex<B, A>)> {
    let (first, second) = socket::pair(Style::Stream)?;
    Ok((
        Duplex::over(End::new(first, Transport::Unix, Part::Whole)),
        Duplex::over(End::new(second, Transport::Unix, Part::Whole)),
    ))
}

/// An end of a two-way pipe: sends `A`, receives `B`.
///
/// All that is said of [`Sender`] and [`Receiver`] holds for its two directions, but that messages may hold handles.
/// When the peer has closed its end or died, what it had sent can still be received.
#[derive(Debug)]
pub struct Duplex<A, B> {
    sender: Sender<A>,
    receiver: Receiver<B>,
}

impl<A, B> Duplex<A, B> {
    fn over(end: Arc<End>) -> Self {
        let sender = Sender::over(Tx::new(Arc::clone(&end)));
        Duplex { sender, receiver: Receiver::over(Rx::new(end)) }
    }

    /// Both directions, to use one while the other is in use.
    pub fn both(&mut self) -> (&mut Sender<A>, &mut Receiver<B>) {
        (&mut self.sender, &mut self.receiver)
    }

    /// Two halves that are used, moved and dropped each by itself. Dropping a half closes its direction: the peer
    /// receives the end of the stream, or fails to send. The direction of a half that is *killed* while the other
    /// lives on in another process is closed only when that one goes too.
    ///
    /// # Errors
    /// `EMFILE` when the process has no descriptor left; [`SendError::Moved`], as the source, for a duplex that was
    /// moved.
    pub fn split(self) -> io::Result<(Sender<A>, Receiver<B>)> {
        if self.sender.tx.end().is_moved() {
            return Err(io::Error::other(SendError::Moved));
        }
        let sending = self.sender.tx.end().half(Part::Sending)?;
        let receiving = self.sender.tx.end().half(Part::Receiving)?;
        let Duplex { mut sender, mut receiver } = self;
        sender.tx.set_end(sending);
        receiver.rx.set_end(receiving);
        Ok((sender, receiver))
    }

    /// The carrier beneath, for protocols of one's own: frames of bytes, used by shared reference from any thread.
    pub fn into_channel(self) -> PipeChannel {
        PipeChannel::new(self.sender.tx, self.receiver.rx)
    }

    /// See [`Sender::send_bytes`].
    ///
    /// # Errors
    /// As there.
    pub fn send_bytes(&mut self, bytes: &[u8]) -> Result<(), SendError> {
        self.sender.send_bytes(bytes)
    }

    /// See [`Sender::flush`].
    ///
    /// # Errors
    /// As there.
    pub fn flush(&mut self) -> Result<(), SendError> {
        self.sender.flush()
    }

    /// See [`Receiver::recv_bytes`].
    ///
    /// # Errors
    /// As there.
    pub fn recv_bytes(&mut self) -> Result<Vec<u8>, RecvError> {
        self.receiver.recv_bytes()
    }

    /// See [`Receiver::recv_bytes_into`].
    ///
    /// # Errors
    /// As there.
    pub fn recv_bytes_into(&mut self, buf: &mut [u8]) -> Result<usize, RecvError> {
        self.receiver.recv_bytes_into(buf)
    }

    /// See [`Receiver::poll`].
    ///
    /// # Errors
    /// As there.
    pub fn poll(&mut self, timeout: Duration) -> Result<bool, RecvError> {
        self.receiver.poll(timeout)
    }

    /// Sets the limits of both directions.
    pub fn set_limits(&mut self, limits: Limits) {
        self.sender.set_limits(limits);
        self.receiver.set_limits(limits);
    }
}

impl<A: Serialize, B> Duplex<A, B> {
    /// Sends a message, waiting for room; handles in it have moved when this returns. See [`Sender::send`].
    ///
    /// # Errors
    /// As there.
    #[inline]
    pub fn send(&mut self, message: &A) -> Result<(), SendError> {
        self.sender.send(message)
    }

    /// See [`Sender::try_send`].
    ///
    /// # Errors
    /// As there.
    pub fn try_send(&mut self, message: &A) -> Result<(), SendError> {
        self.sender.try_send(message)
    }

    /// See [`Sender::send_timeout`].
    ///
    /// # Errors
    /// As there.
    pub fn send_timeout(&mut self, message: &A, timeout: Duration) -> Result<(), SendError> {
        self.sender.send_timeout(message, timeout)
    }
}

impl<A, B: DeserializeOwned> Duplex<A, B> {
    /// Receives the next message, waiting for it. See [`Receiver::recv`].
    ///
    /// # Errors
    /// As there.
    #[inline]
    pub fn recv(&mut self) -> Result<B, RecvError> {
        self.receiver.recv()
    }

    /// See [`Receiver::try_recv`].
    ///
    /// # Errors
    /// As there.
    pub fn try_recv(&mut self) -> Result<B, RecvError> {
        self.receiver.try_recv()
    }

    /// See [`Receiver::recv_timeout`].
    ///
    /// # Errors
    /// As there.
    pub fn recv_timeout(&mut self, timeout: Duration) -> Result<B, RecvError> {
        self.receiver.recv_timeout(timeout)
    }

    /// The messages as they come, until the peer is gone.
    pub fn iter(&mut self) -> crate::pipe::Iter<'_, B> {
        self.receiver.iter()
    }
}

impl<A, B> AsFd for Duplex<A, B> {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.receiver.as_fd()
    }
}

impl<A, B> Waitable for Duplex<A, B> {
    fn readiness(&self) -> Readiness<'_> {
        self.receiver.readiness()
    }
}

/// The two message types, for the structure that both ends must agree on. A struct, and not a tuple, since a type that
/// only a message can bring forth (a handle) hides what follows it in a tuple.
#[derive(Deserialize)]
#[serde(bound = "A: DeserializeOwned, B: DeserializeOwned")]
#[allow(dead_code, reason = "only its structure counts")]
struct Both<A, B> {
    sends: A,
    receives: B,
}

/// In the metadata, the rest of a frame begun comes first, behind its length; unread input follows.
impl<A: DeserializeOwned, B: DeserializeOwned> Serialize for Duplex<A, B> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let (rest, rest_descriptors) = self.sender.tx.rest();
        let (unread, unread_descriptors) = self.receiver.rx.unread();
        let unread_descriptors = clone_all(unread_descriptors).map_err(serde::ser::Error::custom)?;
        let mut bytes = (rest.len() as u64).to_le_bytes().to_vec();
        bytes.extend((rest_descriptors.len() as u64).to_le_bytes());
        bytes.extend_from_slice(rest);
        bytes.extend_from_slice(unread);
        crate::travel::serialize::<Both<A, B>, S>(
            handle_kind!("pipe.duplex"),
            self.sender.tx.end(),
            &bytes,
            rest_descriptors.iter().cloned().chain(unread_descriptors),
            serializer,
        )
    }
}

impl<'de, A: DeserializeOwned, B: DeserializeOwned> Deserialize<'de> for Duplex<A, B> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let mut arrived = crate::travel::deserialize::<Both<A, B>, D>(
            handle_kind!("pipe.duplex"),
            Part::Whole,
            |found, socket| socket && found == FdKind::Socket,
            deserializer,
        )?;
        let broken = || serde::de::Error::custom("a pipe.duplex handle is broken: metadata is cut off");
        let number = |bytes: &[u8; 8]| usize::try_from(u64::from_le_bytes(*bytes)).unwrap_or(usize::MAX);
        let (len, tail) = arrived.bytes.split_first_chunk().ok_or_else(broken)?;
        let (count, tail) = tail.split_first_chunk().ok_or_else(broken)?;
        let (rest, unread) = tail.split_at_checked(number(len)).ok_or_else(broken)?;
        let count = number(count);
        if count > arrived.descriptors.len() {
            return Err(broken());
        }
        let unread_descriptors =
            own_all(arrived.descriptors.split_off(count)).map_err(serde::de::Error::custom)?;
        let tx = Tx::with_rest(Arc::clone(&arrived.end), rest.to_vec(), arrived.descriptors.into());
        let rx = Rx::with_unread(arrived.end, unread.to_vec(), unread_descriptors);
        Ok(Duplex { sender: Sender::over(tx), receiver: Receiver::over(rx) })
    }
}
