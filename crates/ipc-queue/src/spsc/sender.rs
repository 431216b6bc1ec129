//! The end that messages go into.

use std::borrow::Borrow;
use std::cell::{Ref, RefCell};
use std::fmt;
use std::marker::PhantomData;
use std::time::Duration;

use ipc_core::{Codec, Limits, SendAllError, SendError, handle};
use ipc_shm::ring::RingWriter;
use serde::Serialize;

use super::{BYTES, KEEP_MAX, MESSAGE};

/// The end of a [channel](crate::spsc()) that messages of type `T` go into; [there](super) is what is promised.
pub struct Sender<T> {
    pub(super) ring: RingWriter,
    codec: Codec,
    /// Where messages are encoded.
    buf: Vec<u8>,
    types: PhantomData<fn(T)>,
}

impl<T> Sender<T> {
    pub(crate) fn over(ring: RingWriter) -> Self {
        Sender { ring, codec: Codec::default(), buf: Vec::new(), types: PhantomData }
    }

    /// Sends bytes as they are, to be received with [`Receiver::recv_bytes`](super::Receiver::recv_bytes) or
    /// [`Receiver::recv_bytes_into`](super::Receiver::recv_bytes_into). Bytes and messages can be mixed; each is received
    /// in its turn.
    ///
    /// # Errors
    /// As of [`send`](Self::send), without those of encoding.
    #[inline]
    pub fn send_bytes(&mut self, bytes: &[u8]) -> Result<(), SendError> {
        self.ring.write(BYTES, bytes)
    }

    /// Sends bytes as they are if there is room for them now.
    ///
    /// # Errors
    /// As of [`try_send`](Self::try_send), without those of encoding.
    #[inline]
    pub fn try_send_bytes(&mut self, bytes: &[u8]) -> Result<(), SendError> {
        self.ring.try_write(BYTES, bytes)
    }

    /// Sends bytes as they are, waiting for room no longer than `timeout`.
    ///
    /// # Errors
    /// As of [`send_timeout`](Self::send_timeout), without those of encoding.
    pub fn send_bytes_timeout(&mut self, bytes: &[u8], timeout: Duration) -> Result<(), SendError> {
        self.ring.write_timeout(BYTES, bytes, timeout)
    }

    /// Sends the rest of a message that a `try_send` or a `send_timeout` has begun, waiting for room.
    ///
    /// # Errors
    /// [`SendError::Disconnected`], [`SendError::Moved`], [`SendError::Abandoned`], [`SendError::Io`].
    pub fn flush(&mut self) -> Result<(), SendError> {
        self.ring.flush()
    }

    /// As [`flush`](Self::flush), waiting for room no longer than `timeout`; zero does not wait.
    ///
    /// # Errors
    /// [`SendError::Begun`] when some of it is still left; else the same.
    pub fn flush_timeout(&mut self, timeout: Duration) -> Result<(), SendError> {
        self.ring.flush_timeout(timeout)
    }

    /// Whether the rest of a message is kept here, to go first.
    pub fn has_begun(&self) -> bool {
        self.ring.has_begun()
    }

    /// Sets the limits for what is sent: a longer message is refused here rather than by the receiver.
    pub fn set_limits(&mut self, limits: Limits) {
        self.codec = Codec::new(limits);
        self.ring.set_limits(limits);
    }

    /// How many bytes the ring holds: of each message its encoded length rounded up to 8, and 8 more. Longer ones pass
    /// all the same, in pieces.
    pub fn capacity(&self) -> usize {
        self.ring.capacity()
    }
}

impl<T: Serialize> Sender<T> {
    /// Sends a message, waiting for room.
    ///
    /// # Errors
    /// [`SendError::Disconnected`] when nobody can receive any more; [`SendError::Encode`] and [`SendError::Frame`] for a
    /// message that cannot be encoded or is too long, [`SendError::Handles`] for one with handles in it (in these cases
    /// nothing was sent, and the next message can be); [`SendError::Moved`]; [`SendError::Abandoned`] when the one thread
    /// that has both ends would wait for itself; [`SendError::Io`], of the kind `StorageFull` where there is no memory for
    /// more of the ring.
    #[inline]
    pub fn send(&mut self, message: &T) -> Result<(), SendError> {
        self.send_by(message, |ring, bytes| ring.write(MESSAGE, bytes))
    }

    /// Sends a message if there is room for it now. One that is longer than the ring begins if there is any room.
    ///
    /// # Errors
    /// [`SendError::Full`] when nothing of it was sent; [`SendError::Begun`] when some was: the rest is kept and goes
    /// first, with the next send or [`flush`](Self::flush), so do not send it again. Else as of [`send`](Self::send).
    ///
    /// ```
    /// use ipc_queue::SendError;
    /// let (mut tx, mut rx) = ipc_queue::spsc::<u64>(4096)?;
    /// let sent = (0..).take_while(|n| tx.try_send(n).is_ok()).count() as u64;
    /// assert!(matches!(tx.try_send(&sent), Err(SendError::Full)));
    /// assert!((0..sent).all(|n| rx.recv().unwrap() == n));
    /// # Ok::<(), ipc_core::Error>(())
    /// ```
    #[inline]
    pub fn try_send(&mut self, message: &T) -> Result<(), SendError> {
        self.send_by(message, |ring, bytes| ring.try_write(MESSAGE, bytes))
    }

    /// Sends a message, waiting for room no longer than `timeout`.
    ///
    /// # Errors
    /// [`SendError::Timeout`] when nothing of it was sent; [`SendError::Begun`] when some was (see
    /// [`try_send`](Self::try_send)). Else as of [`send`](Self::send).
    pub fn send_timeout(&mut self, message: &T, timeout: Duration) -> Result<(), SendError> {
        self.send_by(message, |ring, bytes| ring.write_timeout(MESSAGE, bytes, timeout))
    }

    #[inline]
    fn send_by(
        &mut self,
        message: &T,
        write: impl FnOnce(&mut RingWriter, &[u8]) -> Result<(), SendError>,
    ) -> Result<(), SendError> {
        self.buf.clear();
        encode(&self.codec, message, &mut self.buf)?;
        let sent = write(&mut self.ring, &self.buf);
        if self.buf.capacity() > KEEP_MAX {
            self.buf = Vec::new();
        }
        sent
    }

    /// Sends all messages of an iterator, many with one store and one look whether the receiver sleeps. It may see them
    /// only when a quarter of the ring is full of them, or this has returned or has to wait: do not make one message wait
    /// for the answer to another. How many there were.
    ///
    /// # Errors
    /// The error of the first message that could not be sent, as of [`send`](Self::send), and how many were before it.
    ///
    /// ```
    /// let (mut tx, rx) = ipc_queue::spsc::<u32>(4096)?;
    /// let sender = std::thread::spawn(move || tx.send_all(0..100_000));
    /// assert!(rx.into_iter().eq(0..100_000));
    /// assert_eq!(sender.join().unwrap()?, 100_000);
    /// # Ok::<(), ipc_core::Error>(())
    /// ```
    pub fn send_all(
        &mut self,
        messages: impl IntoIterator<Item = impl Borrow<T>>,
    ) -> Result<usize, SendAllError> {
        let codec = self.codec;
        let buf = RefCell::new(&mut self.buf);
        let mut failed = None;
        let frames = messages.into_iter().map_while(|message| {
            // The frame before it is in the ring, and given back.
            let mut bytes = buf.borrow_mut();
            bytes.clear();
            match encode(&codec, message.borrow(), &mut bytes) {
                Ok(()) => {
                    drop(bytes);
                    Some((MESSAGE, Encoded(buf.borrow())))
                }
                Err(error) => {
                    failed = Some(error);
                    None
                }
            }
        });
        let sent = self.ring.write_many(frames);
        if self.buf.capacity() > KEEP_MAX {
            self.buf = Vec::new();
        }
        let sent = sent?;
        failed.map_or(Ok(sent), |source| Err(SendAllError { sent, source }))
    }
}

/// An encoded message, lent to the ring.
struct Encoded<'a>(Ref<'a, &'a mut Vec<u8>>);

impl AsRef<[u8]> for Encoded<'_> {
    #[inline]
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

#[inline]
fn encode<T: Serialize>(codec: &Codec, message: &T, bytes: &mut Vec<u8>) -> Result<(), SendError> {
    let ((), handles) = handle::outgoing(|| codec.encode(message, bytes))?;
    if !handles.is_empty() {
        return Err(refused(&handles));
    }
    // Nothing is in it; this spares the hot path the code that would drop what is.
    std::mem::forget(handles);
    Ok(())
}

#[cold]
fn refused(handles: &handle::Outgoing) -> SendError {
    SendError::Handles {
        carrier: "a shared-memory ring",
        count: handles.descriptors().len(),
        instead: "a duplex pipe or a Unix socket",
    }
}

impl<T> fmt::Debug for Sender<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sender").field("ring", &self.ring).finish_non_exhaustive()
    }
}
