//! One-way pipes: a [`Sender`] and a [`Receiver`] of messages of one type.

use std::collections::VecDeque;
use std::fmt;
use std::io;
use std::marker::PhantomData;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::time::Duration;

use ipc_core::handle_kind;
use ipc_core::{Limits, RecvError, SendAllError, SendError};
use ipc_os::fd::Kind as FdKind;
use ipc_os::{Readiness, Waitable};
use serde::de::{DeserializeOwned, Deserializer};
use serde::ser::Serializer;
use serde::{Deserialize, Serialize};

use crate::batch::Batch;
use crate::raw::{RawReceiver, RawSender};
use ipc_stream::{End, Part, Rx, Transport, Tx, Until};

/// Makes a pipe for messages of type `T`, over pipe(2): what goes into the [`Sender`] comes out of the [`Receiver`],
/// in order. Either end, or both, can be given to other processes, as arguments of a spawned function or inside a
/// message through a carrier that moves handles.
///
/// Messages that hold handles themselves do not go through a pipe: use [`duplex`](crate::duplex()).
///
/// # Errors
/// What `pipe2(2)` reports; `EMFILE` when the process has no descriptor left.
///
/// ```
/// let (mut tx, mut rx) = ipc_pipe::pipe::<(u32, String)>()?;
/// tx.send(&(1, "one".to_owned()))?;
/// assert_eq!(rx.recv()?, (1, "one".to_owned()));
/// drop(tx);
/// assert!(matches!(rx.recv(), Err(ipc_pipe::RecvError::Disconnected)));
/// # Ok::<(), ipc_core::Error>(())
/// ```
pub fn pipe<T>() -> io::Result<(Sender<T>, Receiver<T>)> {
    let (reader, writer) = ipc_os::pipe::pipe()?;
    let tx = Sender::over(Tx::new(End::new(writer, Transport::Pipe, Part::Whole)));
    let rx = Receiver::over(Rx::new(End::new(reader, Transport::Pipe, Part::Whole)));
    Ok((tx, rx))
}

/// The end that messages of type `T` go into.
///
/// - *Ordering*: messages arrive in the order they were sent, whole, never merged.
/// - *Cost*: a message of up to 64 KiB leaves in one system call when there is room.
/// - *Blocking*: `send` waits while the pipe is full; `try_send` does not, `send_timeout` only so long.
/// - *Death of the peer*: once nobody can receive any more, sends fail with [`SendError::Disconnected`], and SIGPIPE
///   is not raised. What was sent before may have been lost with the receiver.
/// - *Threads*: `Send` and `Sync`; sending takes `&mut`, so threads share one behind a lock of theirs.
/// - *Fork*: a forked child's copy writes into the same pipe, and keeps it open; use it on one side only.
/// - *Moving*: serialising it into a message moves it: after the message has gone, every call here fails with
///   [`SendError::Moved`]. The rest of a message that has begun goes along.
pub struct Sender<T> {
    pub(crate) tx: Tx,
    types: PhantomData<fn(T)>,
}

impl<T> Sender<T> {
    pub(crate) fn over(tx: Tx) -> Self {
        Sender { tx, types: PhantomData }
    }

    /// Sends bytes as they are, to be received with [`Receiver::recv_bytes`] or [`Receiver::recv_bytes_into`]. Bytes
    /// and messages can be mixed; each is received in its turn.
    ///
    /// # Errors
    /// As [`Sender::send`], without those of encoding.
    pub fn send_bytes(&mut self, bytes: &[u8]) -> Result<(), SendError> {
        self.tx.send_bytes(bytes, Until::Forever)
    }

    /// Sends bytes as they are if there is room for them now.
    ///
    /// # Errors
    /// As [`Sender::try_send`], without those of encoding.
    pub fn try_send_bytes(&mut self, bytes: &[u8]) -> Result<(), SendError> {
        self.tx.send_bytes(bytes, Until::Now)
    }

    /// Sends bytes as they are, waiting for room no longer than `timeout`.
    ///
    /// # Errors
    /// As [`Sender::send_timeout`], without those of encoding.
    pub fn send_bytes_timeout(&mut self, bytes: &[u8], timeout: Duration) -> Result<(), SendError> {
        self.tx.send_bytes(bytes, Until::after(timeout))
    }

    /// Puts out the rest of a message that a `try_send` or `send_timeout` has begun, waiting for room.
    ///
    /// # Errors
    /// [`SendError::Disconnected`], [`SendError::Moved`], [`SendError::Io`].
    pub fn flush(&mut self) -> Result<(), SendError> {
        self.tx.flush(Until::Forever)
    }

    /// [`Sender::flush`], waiting for room no longer than `timeout`; zero does not wait.
    ///
    /// # Errors
    /// [`SendError::Begun`] when some of it is still left; else as [`Sender::flush`].
    pub fn flush_timeout(&mut self, timeout: Duration) -> Result<(), SendError> {
        self.tx.flush(Until::after(timeout))
    }

    /// Whether the rest of a message is kept here, to go first.
    pub fn has_begun(&self) -> bool {
        !self.tx.rest().0.is_empty()
    }

    /// Sets the limits for what is sent (a longer frame is refused here rather than at the receiver).
    pub fn set_limits(&mut self, limits: Limits) {
        self.tx.set_limits(limits);
    }

    /// How many bytes the pipe holds before a sender waits.
    ///
    /// # Errors
    /// What the system reports.
    pub fn capacity(&self) -> io::Result<usize> {
        self.tx.end().capacity()
    }

    /// Asks for a pipe that holds `bytes`; the result says what it holds now. Messages longer than that pass all the
    /// same, in pieces.
    ///
    /// # Errors
    /// `PermissionDenied` above the system's limit for unprivileged processes (1 MiB usually), `ResourceBusy` when
    /// more than that is in it.
    pub fn set_capacity(&mut self, bytes: usize) -> io::Result<usize> {
        self.tx.end().set_capacity(bytes)
    }

    /// Raw bytes into the pipe, without frames: for a peer that is no `Receiver`, or one that uses
    /// [`Receiver::raw`].
    pub fn raw(&mut self) -> RawSender<'_> {
        RawSender::new(&mut self.tx)
    }
}

impl<T: Serialize> Sender<T> {
    /// Sends a message, waiting for room.
    ///
    /// # Errors
    /// [`SendError::Disconnected`] when nobody can receive any more; [`SendError::Encode`] and [`SendError::Frame`]
    /// for a message that cannot be encoded or is too long, [`SendError::Handles`] for one with handles on a pipe
    /// (in these cases nothing was sent, and the next message can be); [`SendError::Moved`]; [`SendError::Io`].
    #[inline]
    pub fn send(&mut self, message: &T) -> Result<(), SendError> {
        self.tx.send(message, Until::Forever)
    }

    /// Sends a message if there is room for it now.
    ///
    /// # Errors
    /// [`SendError::Full`] when nothing of it has gone out; [`SendError::Begun`] when some has: the rest is kept and
    /// goes first, with the next send or [`Sender::flush`], so do not send it again. Else as [`Sender::send`].
    ///
    /// ```
    /// use ipc_pipe::SendError;
    /// let (mut tx, mut rx) = ipc_pipe::pipe::<u64>()?;
    /// let mut sent = 0;
    /// while tx.try_send(&sent).is_ok() { sent += 1 }
    /// assert_eq!(rx.recv()?, 0);
    /// assert!((1..sent).all(|n| rx.recv().unwrap() == n));
    /// # Ok::<(), ipc_core::Error>(())
    /// ```
    pub fn try_send(&mut self, message: &T) -> Result<(), SendError> {
        self.tx.send(message, Until::Now)
    }

    /// Sends a message, waiting for room no longer than `timeout`.
    ///
    /// # Errors
    /// [`SendError::Timeout`] when nothing of it has gone out; [`SendError::Begun`] when some has (see
    /// [`Sender::try_send`]). Else as [`Sender::send`].
    pub fn send_timeout(&mut self, message: &T, timeout: Duration) -> Result<(), SendError> {
        self.tx.send(message, Until::after(timeout))
    }

    /// Sends all messages of an iterator, many with each system call.
    ///
    /// # Errors
    /// The error of the first message that could not be sent, and how many were before it.
    ///
    /// ```
    /// let (mut tx, rx) = ipc_pipe::pipe::<u32>()?;
    /// let sender = std::thread::spawn(move || tx.send_all(0..100_000));
    /// assert!(rx.into_iter().eq(0..100_000));
    /// assert_eq!(sender.join().unwrap()?, 100_000);
    /// # Ok::<(), ipc_core::Error>(())
    /// ```
    pub fn send_all(
        &mut self,
        messages: impl IntoIterator<Item = impl std::borrow::Borrow<T>>,
    ) -> Result<usize, SendAllError> {
        let mut sent = 0;
        let mut batch = self.batch().map_err(|source| SendAllError { sent, source })?;
        for message in messages {
            batch.send(message.borrow()).map_err(|source| SendAllError { sent, source })?;
            sent += 1;
        }
        batch.flush().map_err(|source| SendAllError { sent, source })?;
        Ok(sent)
    }

    /// A sender that collects messages and puts them out together: when 32 KiB have come together, at
    /// [`Batch::flush`], and when it is dropped.
    ///
    /// # Errors
    /// Those of [`Sender::flush`], for the rest of a message that has begun.
    pub fn batch(&mut self) -> Result<Batch<'_, T>, SendError> {
        Batch::new(self)
    }
}

/// The end that messages of type `T` come out of.
///
/// - *Ordering*: as they were sent. One read of the system takes all messages that are there, up to 64 KiB.
/// - *Blocking*: `recv` waits for a message; `try_recv` does not, `recv_timeout` only so long.
/// - *Pace*: in a stream whose messages would each cost a read of their own, `recv` stays away from the system for a
///   microsecond at a time and then takes several; questions and answers are not put off.
/// - *Death of the peer*: all that was sent before can be received; then [`RecvError::Disconnected`]. A message that
///   its sender did not live to finish is [`RecvError::Truncated`].
/// - *Hostile peer*: at worst an error; memory grows with what has arrived, up to the limits.
/// - *One process*: since it reads ahead, a receiver belongs to one process. Moving it to another takes its unread
///   messages along; a forked child's copy must not be used.
/// - *Threads*: `Send` and `Sync`; receiving takes `&mut`.
pub struct Receiver<T> {
    pub(crate) rx: Rx,
    types: PhantomData<fn() -> T>,
}

impl<T> Receiver<T> {
    pub(crate) fn over(rx: Rx) -> Self {
        Receiver { rx, types: PhantomData }
    }

    /// Receives bytes that were sent with [`Sender::send_bytes`].
    ///
    /// # Errors
    /// As [`Receiver::recv`], without those of decoding.
    pub fn recv_bytes(&mut self) -> Result<Vec<u8>, RecvError> {
        self.rx.recv_bytes(Until::Forever)
    }

    /// Receives bytes if they are here, all of them.
    ///
    /// # Errors
    /// As [`Receiver::try_recv`], without those of decoding.
    pub fn try_recv_bytes(&mut self) -> Result<Vec<u8>, RecvError> {
        self.rx.recv_bytes(Until::Now)
    }

    /// Receives bytes, waiting no longer than `timeout`.
    ///
    /// # Errors
    /// As [`Receiver::recv_timeout`], without those of decoding.
    pub fn recv_bytes_timeout(&mut self, timeout: Duration) -> Result<Vec<u8>, RecvError> {
        self.rx.recv_bytes(Until::after(timeout))
    }

    /// Receives bytes into `buf`, and returns how many; what is behind them in `buf` stays as it was. Long ones are
    /// read straight to their place.
    ///
    /// # Errors
    /// [`RecvError::TooSmall`] when `buf` is too short: the error holds the whole message. Else as
    /// [`Receiver::recv_bytes`].
    pub fn recv_bytes_into(&mut self, buf: &mut [u8]) -> Result<usize, RecvError> {
        self.rx.recv_bytes_into(buf, Until::Forever)
    }

    /// [`Receiver::recv_bytes_into`], waiting no longer than `timeout`.
    ///
    /// # Errors
    /// [`RecvError::Timeout`] when no whole message was there in time (nothing is lost of one that has begun). Else
    /// as [`Receiver::recv_bytes_into`].
    pub fn recv_bytes_into_timeout(&mut self, buf: &mut [u8], timeout: Duration) -> Result<usize, RecvError> {
        self.rx.recv_bytes_into(buf, Until::after(timeout))
    }

    /// Whether a receive would not wait, after at most `timeout`: a message is here whole, or the end of the stream.
    /// Takes nothing away, however often it is called.
    ///
    /// # Errors
    /// [`RecvError::Moved`], [`RecvError::Io`].
    pub fn poll(&mut self, timeout: Duration) -> Result<bool, RecvError> {
        self.rx.poll(if timeout.is_zero() { Until::Now } else { Until::after(timeout) })
    }

    /// Sets the limits that protect this process from what is received.
    pub fn set_limits(&mut self, limits: Limits) {
        self.rx.set_limits(limits);
    }

    /// Raw bytes out of the pipe, without frames.
    pub fn raw(&mut self) -> RawReceiver<'_> {
        RawReceiver::new(&mut self.rx)
    }
}

impl<T: DeserializeOwned> Receiver<T> {
    /// Receives the next message, waiting for it.
    ///
    /// # Errors
    /// [`RecvError::Disconnected`] when all were received and nobody can send any more; [`RecvError::Truncated`] when
    /// the sender went away in mid-message; [`RecvError::Decode`] for a message that is no `T` or exceeds a limit
    /// (it is gone, the next ones are not); [`RecvError::WrongKind`] when the next is for [`Receiver::recv_bytes`];
    /// [`RecvError::Frame`] when the stream is broken; [`RecvError::Moved`]; [`RecvError::Io`].
    #[inline]
    pub fn recv(&mut self) -> Result<T, RecvError> {
        self.rx.recv(Until::Forever)
    }

    /// Receives the next message if it is here.
    ///
    /// # Errors
    /// [`RecvError::Empty`] when no whole message is here. Else as [`Receiver::recv`].
    pub fn try_recv(&mut self) -> Result<T, RecvError> {
        self.rx.recv(Until::Now)
    }

    /// Receives the next message, waiting no longer than `timeout`.
    ///
    /// # Errors
    /// [`RecvError::Timeout`] when no whole message was there in time. Else as [`Receiver::recv`].
    pub fn recv_timeout(&mut self, timeout: Duration) -> Result<T, RecvError> {
        self.rx.recv(Until::after(timeout))
    }

    /// The messages as they come, until the sender is gone.
    pub fn iter(&mut self) -> Iter<'_, T> {
        Iter { receiver: self }
    }
}

/// The messages of a [`Receiver`], waiting for each, until its sender is gone. An error other than
/// [`RecvError::Disconnected`] ends the iteration too; use [`Receiver::recv`] to see it.
pub struct Iter<'a, T> {
    receiver: &'a mut Receiver<T>,
}

impl<T: DeserializeOwned> Iterator for Iter<'_, T> {
    type Item = T;

    fn next(&mut self) -> Option<T> {
        self.receiver.recv().ok()
    }
}

/// The messages of a [`Receiver`], which this owns.
pub struct IntoIter<T> {
    receiver: Receiver<T>,
}

impl<T: DeserializeOwned> Iterator for IntoIter<T> {
    type Item = T;

    fn next(&mut self) -> Option<T> {
        self.receiver.recv().ok()
    }
}

impl<T: DeserializeOwned> IntoIterator for Receiver<T> {
    type Item = T;
    type IntoIter = IntoIter<T>;

    fn into_iter(self) -> IntoIter<T> {
        IntoIter { receiver: self }
    }
}

impl<'a, T: DeserializeOwned> IntoIterator for &'a mut Receiver<T> {
    type Item = T;
    type IntoIter = Iter<'a, T>;

    fn into_iter(self) -> Iter<'a, T> {
        self.iter()
    }
}

impl<T> AsFd for Sender<T> {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.tx.end().as_fd()
    }
}

impl<T> AsFd for Receiver<T> {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.rx.end().as_fd()
    }
}

impl<T> Waitable for Receiver<T> {
    fn readiness(&self) -> Readiness<'_> {
        if self.rx.is_ready() { Readiness::Now } else { Readiness::Descriptor(self.as_fd()) }
    }
}

impl<T> fmt::Debug for Sender<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sender").field("end", self.tx.end()).finish_non_exhaustive()
    }
}

impl<T> fmt::Debug for Receiver<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Receiver").field("end", self.rx.end()).finish_non_exhaustive()
    }
}

impl<T: DeserializeOwned> Serialize for Sender<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let (bytes, descriptors) = self.tx.rest();
        let descriptors = descriptors.iter().cloned();
        crate::travel::serialize::<T, S>(
            handle_kind!("pipe.sender"),
            self.tx.end(),
            bytes,
            descriptors,
            serializer,
        )
    }
}

impl<'de, T: DeserializeOwned> Deserialize<'de> for Sender<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let arrived = crate::travel::deserialize::<T, D>(
            handle_kind!("pipe.sender"),
            Part::Sending,
            |found, socket| match found {
                FdKind::Pipe { writable, .. } => writable && !socket,
                FdKind::Socket => socket,
                _ => false,
            },
            deserializer,
        )?;
        Ok(Sender::over(Tx::with_rest(arrived.end, arrived.bytes, arrived.descriptors.into())))
    }
}

impl<T: DeserializeOwned> Serialize for Receiver<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let (bytes, descriptors) = self.rx.unread();
        let descriptors = clone_all(descriptors).map_err(serde::ser::Error::custom)?;
        crate::travel::serialize::<T, S>(
            handle_kind!("pipe.receiver"),
            self.rx.end(),
            bytes,
            descriptors.into_iter(),
            serializer,
        )
    }
}

impl<'de, T: DeserializeOwned> Deserialize<'de> for Receiver<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let arrived = crate::travel::deserialize::<T, D>(
            handle_kind!("pipe.receiver"),
            Part::Receiving,
            |found, socket| match found {
                FdKind::Pipe { readable, .. } => readable && !socket,
                FdKind::Socket => socket,
                _ => false,
            },
            deserializer,
        )?;
        let descriptors = own_all(arrived.descriptors).map_err(serde::de::Error::custom)?;
        Ok(Receiver::over(Rx::with_unread(arrived.end, arrived.bytes, descriptors)))
    }
}

/// Duplicates of descriptors that were received for messages which have not been taken yet.
pub(crate) fn clone_all(descriptors: &VecDeque<OwnedFd>) -> io::Result<Vec<Arc<OwnedFd>>> {
    descriptors.iter().map(|fd| fd.try_clone().map(Arc::new)).collect()
}

/// The same descriptors, owned one by one.
pub(crate) fn own_all(descriptors: VecDeque<Arc<OwnedFd>>) -> io::Result<VecDeque<OwnedFd>> {
    descriptors.into_iter().map(|fd| Arc::try_unwrap(fd).or_else(|fd| fd.try_clone())).collect()
}
