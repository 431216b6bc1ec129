//! Connections: what two ends do once they know each other.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::time::Duration;

use ipc_core::{Limits, RecvError, SendAllError, SendError};
use ipc_os::{Readiness, Waitable};
use ipc_stream::{End, Part, Rx, Transport, Tx, Until};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::carrier::{Closer, In, Out, layout};
use crate::credentials::Credentials;
use crate::handshake::HandshakeError;
use crate::python::Object;
use crate::receiving::{RecvHalf, Step};
use crate::rings::{RingRx, RingTx};
use crate::sending::SendHalf;
use crate::types::{Control, Questions};

/// How long a receiver that has found a message of another type waits for the peer to say of which.
const ANSWER_WITHIN: Duration = Duration::from_secs(1);

/// An end of a connection: sends and receives messages of any types, in turn. One without a type in the program is an
/// [`ipc_core::Value`].
///
/// - *Ordering*: messages arrive in the order they were sent, whole, never merged.
/// - *Types*: each message says of which type it is, by a fingerprint of its structure. One of another type than is asked
///   for stays to be received, and is an error that shows both structures (as far as the peer is there to tell).
/// - *Blocking*: `send` waits for room, `recv` for a message; `try_…` do not, `…_timeout` only so long.
/// - *Handles* in messages travel over Unix sockets.
/// - *Death of the peer*: what it had sent is received, then comes [`RecvError::Disconnected`], or
///   [`RecvError::Truncated`] if it went in the middle of a message; sends fail with [`SendError::Disconnected`].
/// - *Threads*: `Send` and `Sync`, used by `&mut`; [`split`](Self::split) it for two.
/// - *Moving*: serialising it into a message moves it to another process, with all that it has not received yet; after the
///   message has gone, every call here fails with `Moved`. Limits do not move along.
/// - *Fork*: a forked child's copy is the same connection, and keeps it open; use it on one side only.
/// - *Hostile peer*: at worst an error, or a wait without end; memory grows with what has arrived, up to the limits.
#[derive(Debug)]
pub struct Connection {
    pub(crate) sending: SendHalf,
    pub(crate) receiving: RecvHalf,
    peer: Option<Credentials>,
}

impl Connection {
    /// A connection over a socket that was connected and authenticated.
    pub(crate) fn of(fd: OwnedFd, transport: Transport, peer: Option<Credentials>, python: bool) -> Self {
        let layout = layout(python);
        let end = End::new(fd, transport, Part::Whole);
        let out = Out::Stream(Tx::new(Arc::clone(&end)).layout(layout));
        Connection::over(out, In::Stream(Rx::new(end).layout(layout)), peer, python)
    }

    /// A connection over rings, which `agree` makes or takes over that socket.
    pub(crate) fn of_rings(
        fd: OwnedFd,
        transport: Transport,
        peer: Option<Credentials>,
        agree: impl FnOnce(Tx, Rx) -> Result<(RingTx, RingRx), HandshakeError>,
    ) -> Result<Self, HandshakeError> {
        let end = End::new(fd, transport, Part::Whole);
        let (tx, rx) = agree(Tx::new(Arc::clone(&end)), Rx::new(end))?;
        Ok(Connection::over(Out::Rings(Box::new(tx)), In::Rings(Box::new(rx)), peer, false))
    }

    pub(crate) fn over(out: Out, back: In, peer: Option<Credentials>, python: bool) -> Self {
        let questions = Arc::<Questions>::default();
        let sending = SendHalf::new(out, Arc::clone(&questions), python);
        Connection { sending, receiving: RecvHalf::new(back, questions, python), peer }
    }

    /// Who is at the other end of a Unix socket; `None` for connections of the network.
    pub fn peer(&self) -> Option<&Credentials> {
        self.peer.as_ref()
    }

    /// Two halves, for two threads. Each closes its direction when it is dropped.
    pub fn split(self) -> (SendHalf, RecvHalf) {
        let Connection { mut sending, mut receiving, .. } = self;
        let end = Arc::clone(sending.out.end());
        let part = |part| End::new(Arc::clone(end.descriptor()), end.transport(), part);
        sending.out.set_end(part(Part::Sending));
        receiving.back.set_end(part(Part::Receiving));
        (sending, receiving)
    }

    /// To close it from another thread.
    pub fn closer(&self) -> Closer {
        Closer::of(&self.sending.out, &self.receiving.back)
    }

    /// Both halves, to use one while the other is in use.
    pub fn both(&mut self) -> (&mut SendHalf, &mut RecvHalf) {
        (&mut self.sending, &mut self.receiving)
    }

    /// Says that nothing more will be sent: the peer receives what was, and then the end. Receiving goes on.
    ///
    /// # Errors
    /// What the system reports.
    pub fn close_sending(&mut self) -> std::io::Result<()> {
        self.sending.out.close()
    }

    fn recv_until<T: DeserializeOwned>(&mut self, until: Until) -> Result<T, RecvError> {
        self.receiving.begin();
        loop {
            match self.receiving.step(until)? {
                Step::Got(message) => return Ok(message),
                Step::Asked => self.answer(),
                Step::Unknown(theirs) => return Err(self.unknown::<T>(theirs, until)),
            }
        }
    }

    /// Whoever asks and does not hear has its own error to tell.
    #[cold]
    fn answer(&mut self) {
        let _told = self.sending.answer(Until::Now);
    }

    /// Asks the peer for the structure of its message, and waits for an answer for a moment.
    #[cold]
    fn unknown<T: DeserializeOwned>(&mut self, theirs: u64, until: Until) -> RecvError {
        let patience = match until.left() {
            Some(left) => left.min(ANSWER_WITHIN),
            None => ANSWER_WITHIN,
        };
        if self.sending.control(&Control::Ask(theirs), Until::Now).is_ok() {
            let until = Until::after(patience);
            while let Some(asked) = self.receiving.await_structure(theirs, until) {
                if asked {
                    self.answer();
                }
            }
        }
        self.receiving.mismatch::<T>(theirs)
    }

    /// Receives a message of type `T`, waiting for it. See [`RecvHalf::recv`].
    ///
    /// # Errors
    /// As there.
    #[inline]
    pub fn recv<T: DeserializeOwned>(&mut self) -> Result<T, RecvError> {
        self.recv_until(Until::Forever)
    }

    /// Receives a message if there is one now. See [`RecvHalf::try_recv`].
    ///
    /// # Errors
    /// As there.
    pub fn try_recv<T: DeserializeOwned>(&mut self) -> Result<T, RecvError> {
        self.recv_until(Until::Now)
    }

    /// Receives a message, waiting no longer than `timeout`. See [`RecvHalf::recv_timeout`].
    ///
    /// # Errors
    /// As there.
    pub fn recv_timeout<T: DeserializeOwned>(&mut self, timeout: Duration) -> Result<T, RecvError> {
        self.recv_until(Until::after(timeout))
    }

    fn recv_bytes_until(&mut self, until: Until) -> Result<Vec<u8>, RecvError> {
        self.receiving.begin();
        loop {
            match self.receiving.step_bytes(until)? {
                Step::Got(bytes) => return Ok(bytes),
                _ => self.answer(),
            }
        }
    }

    /// Receives bytes, waiting for them. See [`RecvHalf::recv_bytes`].
    ///
    /// # Errors
    /// As there.
    pub fn recv_bytes(&mut self) -> Result<Vec<u8>, RecvError> {
        self.recv_bytes_until(Until::Forever)
    }

    /// Receives bytes if there are some now. See [`RecvHalf::try_recv_bytes`].
    ///
    /// # Errors
    /// As there.
    pub fn try_recv_bytes(&mut self) -> Result<Vec<u8>, RecvError> {
        self.recv_bytes_until(Until::Now)
    }

    /// Receives bytes, waiting no longer than `timeout`. See [`RecvHalf::recv_bytes_timeout`].
    ///
    /// # Errors
    /// As there.
    pub fn recv_bytes_timeout(&mut self, timeout: Duration) -> Result<Vec<u8>, RecvError> {
        self.recv_bytes_until(Until::after(timeout))
    }

    fn recv_bytes_into_until(&mut self, buf: &mut [u8], until: Until) -> Result<usize, RecvError> {
        self.receiving.begin();
        loop {
            match self.receiving.step_bytes_into(buf, until)? {
                Step::Got(len) => return Ok(len),
                _ => self.answer(),
            }
        }
    }

    /// Receives bytes into `buf`, and says how many. See [`RecvHalf::recv_bytes_into`].
    ///
    /// # Errors
    /// As there.
    pub fn recv_bytes_into(&mut self, buf: &mut [u8]) -> Result<usize, RecvError> {
        self.recv_bytes_into_until(buf, Until::Forever)
    }

    /// Receives bytes into `buf` if there are some now. See [`RecvHalf::try_recv_bytes_into`].
    ///
    /// # Errors
    /// As there.
    pub fn try_recv_bytes_into(&mut self, buf: &mut [u8]) -> Result<usize, RecvError> {
        self.recv_bytes_into_until(buf, Until::Now)
    }

    /// Receives bytes into `buf`, waiting no longer than `timeout`. See [`RecvHalf::recv_bytes_into_timeout`].
    ///
    /// # Errors
    /// As there.
    pub fn recv_bytes_into_timeout(&mut self, buf: &mut [u8], timeout: Duration) -> Result<usize, RecvError> {
        self.recv_bytes_into_until(buf, Until::after(timeout))
    }

    /// Lets the next message or the next bytes go, whatever they are. See [`RecvHalf::skip`].
    ///
    /// # Errors
    /// As there.
    pub fn skip(&mut self) -> Result<(), RecvError> {
        self.receiving.begin();
        while !matches!(self.receiving.step_skip()?, Step::Got(())) {
            self.answer();
        }
        Ok(())
    }

    /// Whether a receive would not wait, for that time at most. See [`RecvHalf::poll`].
    ///
    /// # Errors
    /// As there.
    pub fn poll(&mut self, timeout: Duration) -> Result<bool, RecvError> {
        self.receiving.poll(timeout)
    }

    /// Sends a message of any type, waiting for room. See [`SendHalf::send`].
    ///
    /// # Errors
    /// As there.
    #[inline]
    pub fn send<T: Serialize + Deserialize<'static>>(&mut self, message: &T) -> Result<(), SendError> {
        self.sending.send(message)
    }

    /// Sends a message if there is room for it now. See [`SendHalf::try_send`].
    ///
    /// # Errors
    /// As there.
    pub fn try_send<T: Serialize + Deserialize<'static>>(&mut self, message: &T) -> Result<(), SendError> {
        self.sending.try_send(message)
    }

    /// Sends a message, waiting for room no longer than `timeout`. See [`SendHalf::send_timeout`].
    ///
    /// # Errors
    /// As there.
    pub fn send_timeout<T: Serialize + Deserialize<'static>>(
        &mut self,
        message: &T,
        timeout: Duration,
    ) -> Result<(), SendError> {
        self.sending.send_timeout(message, timeout)
    }

    /// Sends all messages of an iterator, many with each system call. See [`SendHalf::send_all`].
    ///
    /// # Errors
    /// As there.
    pub fn send_all<T: Serialize + Deserialize<'static>>(
        &mut self,
        messages: impl IntoIterator<Item = impl std::borrow::Borrow<T>>,
    ) -> Result<usize, SendAllError> {
        self.sending.send_all(messages)
    }

    /// Sends a value to CPython, as it is: tuples, sets and all. See [`SendHalf::send_object`].
    ///
    /// # Errors
    /// As there.
    pub fn send_object(&mut self, object: &Object) -> Result<(), SendError> {
        self.sending.send_object(object)
    }

    /// Receives a value from CPython, whatever it is. See [`RecvHalf::recv_object`].
    ///
    /// # Errors
    /// As there.
    pub fn recv_object(&mut self) -> Result<Object, RecvError> {
        self.receiving.recv_object()
    }

    /// Sends bytes as they are, waiting for room. See [`SendHalf::send_bytes`].
    ///
    /// # Errors
    /// As there.
    pub fn send_bytes(&mut self, bytes: &[u8]) -> Result<(), SendError> {
        self.sending.send_bytes(bytes)
    }

    /// Sends bytes if there is room for them now. See [`SendHalf::try_send_bytes`].
    ///
    /// # Errors
    /// As there.
    pub fn try_send_bytes(&mut self, bytes: &[u8]) -> Result<(), SendError> {
        self.sending.try_send_bytes(bytes)
    }

    /// Sends bytes, waiting for room no longer than `timeout`. See [`SendHalf::send_bytes_timeout`].
    ///
    /// # Errors
    /// As there.
    pub fn send_bytes_timeout(&mut self, bytes: &[u8], timeout: Duration) -> Result<(), SendError> {
        self.sending.send_bytes_timeout(bytes, timeout)
    }

    /// Puts out the rest of a message that has begun. See [`SendHalf::flush`].
    ///
    /// # Errors
    /// As there.
    pub fn flush(&mut self) -> Result<(), SendError> {
        self.sending.flush()
    }

    /// The same, waiting for room no longer than `timeout`. See [`SendHalf::flush_timeout`].
    ///
    /// # Errors
    /// As there.
    pub fn flush_timeout(&mut self, timeout: Duration) -> Result<(), SendError> {
        self.sending.flush_timeout(timeout)
    }

    /// Sets the limits of both directions.
    pub fn set_limits(&mut self, limits: Limits) {
        self.sending.set_limits(limits);
        self.receiving.set_limits(limits);
    }
}

/// The socket. Over shared memory no message shows on it, but the end of the peer does; and what was read ahead shows on no
/// descriptor: [`wait`](ipc_os::wait) knows of both.
impl AsFd for Connection {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.receiving.as_fd()
    }
}

impl AsFd for RecvHalf {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.back.end().as_fd()
    }
}

/// Ready when there is a message, or the news that there will be none.
impl Waitable for Connection {
    fn readiness(&self) -> Readiness<'_> {
        self.receiving.readiness()
    }
}

/// Ready when there is a message, or the news that there will be none.
impl Waitable for RecvHalf {
    fn readiness(&self) -> Readiness<'_> {
        RecvHalf::readiness(self)
    }
}
