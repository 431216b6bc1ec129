//! The end that messages come out of.

use std::fmt;
use std::marker::PhantomData;
use std::time::Duration;

use ipc_core::frame::FrameKind;
use ipc_core::{Codec, DecodeError, Limits, RecvError, handle};
use ipc_os::{Readiness, Waitable};
use ipc_shm::ring::{Frame, RingReader};
use serde::de::DeserializeOwned;

use super::{KEEP_MAX, MESSAGE};
use crate::iter::iterator;

/// The end of a [channel](crate::spsc()) that messages of type `T` come out of; [there](super) is what is promised.
pub struct Receiver<T> {
    pub(super) ring: RingReader,
    codec: Codec,
    /// Where messages are copied to, and decoded from: what the sender could still write over is not decoded. It only
    /// grows, up to `KEEP_MAX`.
    buf: Vec<u8>,
    types: PhantomData<fn() -> T>,
}

/// How long a call may wait.
#[derive(Debug, Clone, Copy)]
enum Until {
    Forever,
    Now,
    Within(Duration),
}

/// The next frame, where it lies.
#[inline]
fn next(ring: &mut RingReader, until: Until) -> Result<Frame<'_>, RecvError> {
    match until {
        Until::Forever => ring.peek(),
        Until::Now => ring.try_peek(),
        Until::Within(timeout) => {
            if !ring.poll(timeout)? {
                return Err(if timeout.is_zero() { RecvError::Empty } else { RecvError::Timeout });
            }
            ring.try_peek()
        }
    }
}

/// The next frame, if it is of that kind.
#[inline]
fn next_of(ring: &mut RingReader, kind: FrameKind, until: Until) -> Result<Frame<'_>, RecvError> {
    of_kind(next(ring, until)?, kind)
}

/// The frame, if it is of that kind; any but `MESSAGE` has bytes.
#[inline]
fn of_kind(frame: Frame<'_>, kind: FrameKind) -> Result<Frame<'_>, RecvError> {
    let found = if frame.kind() == MESSAGE { FrameKind::Message } else { FrameKind::Bytes };
    if found == kind { Ok(frame) } else { Err(RecvError::wrong_kind(found)) }
}

impl<T> Receiver<T> {
    pub(crate) fn over(ring: RingReader) -> Self {
        Receiver { ring, codec: Codec::default(), buf: Vec::new(), types: PhantomData }
    }

    /// Receives bytes that were sent with [`Sender::send_bytes`](super::Sender::send_bytes).
    ///
    /// # Errors
    /// As of [`recv`](Self::recv), without those of decoding; [`RecvError::WrongKind`] when the next is a message.
    pub fn recv_bytes(&mut self) -> Result<Vec<u8>, RecvError> {
        self.recv_bytes_until(Until::Forever)
    }

    /// Receives bytes if they are here, all of them.
    ///
    /// # Errors
    /// As of [`try_recv`](Self::try_recv), without those of decoding.
    pub fn try_recv_bytes(&mut self) -> Result<Vec<u8>, RecvError> {
        self.recv_bytes_until(Until::Now)
    }

    /// Receives bytes, waiting no longer than `timeout`.
    ///
    /// # Errors
    /// As of [`recv_timeout`](Self::recv_timeout), without those of decoding.
    pub fn recv_bytes_timeout(&mut self, timeout: Duration) -> Result<Vec<u8>, RecvError> {
        self.recv_bytes_until(Until::Within(timeout))
    }

    fn recv_bytes_until(&mut self, until: Until) -> Result<Vec<u8>, RecvError> {
        Ok(next_of(&mut self.ring, FrameKind::Bytes, until)?.take())
    }

    /// Receives bytes into `buf`, and says how many; what is behind them in `buf` stays as it was.
    ///
    /// # Errors
    /// [`RecvError::TooSmall`] when `buf` is too short: the error holds the whole message. Else as of
    /// [`recv_bytes`](Self::recv_bytes).
    ///
    /// ```
    /// let (mut tx, mut rx) = ipc_queue::spsc::<()>(4096)?;
    /// tx.send_bytes(b"as they are")?;
    /// let mut buf = [0; 64];
    /// let len = rx.recv_bytes_into(&mut buf)?;
    /// assert_eq!(&buf[..len], b"as they are");
    /// # Ok::<(), ipc_core::Error>(())
    /// ```
    #[inline]
    pub fn recv_bytes_into(&mut self, buf: &mut [u8]) -> Result<usize, RecvError> {
        self.recv_bytes_into_until(buf, Until::Forever)
    }

    /// As [`recv_bytes_into`](Self::recv_bytes_into), waiting no longer than `timeout`; zero does not wait.
    ///
    /// # Errors
    /// [`RecvError::Timeout`] (or [`RecvError::Empty`] for zero) when no whole message was here in time. Else the same.
    pub fn recv_bytes_into_timeout(&mut self, buf: &mut [u8], timeout: Duration) -> Result<usize, RecvError> {
        self.recv_bytes_into_until(buf, Until::Within(timeout))
    }

    #[inline]
    fn recv_bytes_into_until(&mut self, buf: &mut [u8], until: Until) -> Result<usize, RecvError> {
        let frame = next_of(&mut self.ring, FrameKind::Bytes, until)?;
        let len = frame.len();
        match buf.get_mut(..len) {
            Some(into) => {
                copy(frame, into)?;
                Ok(len)
            }
            None => Err(RecvError::TooSmall { message: frame.take(), capacity: buf.len() }),
        }
    }

    /// Whether a receive would not wait, after at most `timeout`: a message is here whole, or the end of all. Takes
    /// nothing away, however often it is called.
    ///
    /// # Errors
    /// [`RecvError::Moved`], [`RecvError::Abandoned`], [`RecvError::Io`].
    pub fn poll(&mut self, timeout: Duration) -> Result<bool, RecvError> {
        self.ring.poll(timeout)
    }

    /// Whether nothing is here that was not received yet: no system call, and no word about the end. What is here may be
    /// a part of a message longer than the ring.
    pub fn is_empty(&self) -> bool {
        !self.ring.is_ready()
    }

    /// Sets the limits that protect this process from what is received.
    pub fn set_limits(&mut self, limits: Limits) {
        self.codec = Codec::new(limits);
        self.ring.set_limits(limits);
    }

    /// How many bytes the ring holds: see [`Sender::capacity`](super::Sender::capacity).
    pub fn capacity(&self) -> usize {
        self.ring.capacity()
    }
}

/// Copies the frame out, into so many bytes as it has, and lets it go.
#[inline]
fn copy(frame: Frame<'_>, into: &mut [u8]) -> Result<(), RecvError> {
    frame.read(0, into).map_err(|error| RecvError::Io(error.into()))?;
    frame.release();
    Ok(())
}

impl<T: DeserializeOwned> Receiver<T> {
    /// Receives the next message, waiting for it.
    ///
    /// # Errors
    /// [`RecvError::Disconnected`] when all were received and nobody can send any more; [`RecvError::Truncated`] when the
    /// sender went in the middle of a message; [`RecvError::Decode`] for a message that is no `T` or exceeds a limit (it
    /// is gone, the next ones are not); [`RecvError::WrongKind`] when the next is for [`recv_bytes`](Self::recv_bytes) (it
    /// stays); [`RecvError::Frame`] for a message longer than the limits (it stays: no further one can be had without
    /// [higher ones](Self::set_limits)), or what is none; [`RecvError::Moved`]; [`RecvError::Abandoned`] when the one
    /// thread that has both ends would wait for itself; [`RecvError::Io`].
    #[inline]
    pub fn recv(&mut self) -> Result<T, RecvError> {
        self.recv_until(Until::Forever)
    }

    /// Receives the next message if it is here.
    ///
    /// # Errors
    /// [`RecvError::Empty`] when no whole message is here. Else as of [`recv`](Self::recv).
    #[inline]
    pub fn try_recv(&mut self) -> Result<T, RecvError> {
        self.recv_until(Until::Now)
    }

    /// Receives the next message, waiting no longer than `timeout`; zero does not wait.
    ///
    /// # Errors
    /// [`RecvError::Timeout`] (or [`RecvError::Empty`] for zero) when no whole message was here in time. Else as of
    /// [`recv`](Self::recv).
    pub fn recv_timeout(&mut self, timeout: Duration) -> Result<T, RecvError> {
        self.recv_until(Until::Within(timeout))
    }

    #[inline]
    fn recv_until(&mut self, until: Until) -> Result<T, RecvError> {
        let frame = next_of(&mut self.ring, FrameKind::Message, until)?;
        let len = frame.len();
        if len > KEEP_MAX {
            return decode_long(&self.codec, frame);
        }
        let bytes = room(&mut self.buf, len);
        copy(frame, bytes)?;
        Ok(decode(&self.codec, bytes)?)
    }

    /// Waits for a message, and takes those that are here with it: up to `max` are put behind what is in `into`. How many
    /// those were; 0 for a `max` of 0.
    ///
    /// Their room is given back a quarter of the ring at a time, and at the end.
    ///
    /// # Errors
    /// As of [`recv`](Self::recv). With [`RecvError::Decode`] the messages that came before it are in `into`; any other
    /// error comes only before the first one.
    ///
    /// ```
    /// let (mut tx, mut rx) = ipc_queue::spsc::<u32>(4096)?;
    /// tx.send_all(0..10)?;
    /// let mut numbers = Vec::new();
    /// assert_eq!(rx.recv_many(7, &mut numbers)?, 7);
    /// assert_eq!(rx.recv_many(7, &mut numbers)?, 3);
    /// assert!(numbers.into_iter().eq(0..10));
    /// # Ok::<(), ipc_core::Error>(())
    /// ```
    pub fn recv_many(&mut self, max: usize, into: &mut Vec<T>) -> Result<usize, RecvError> {
        if max == 0 {
            return Ok(0);
        }
        let Receiver { ring, codec, buf, .. } = self;
        let mut batch = ring.batch();
        let mut frame = of_kind(batch.peek()?, FrameKind::Message)?;
        let mut count = 0;
        loop {
            let len = frame.len();
            if len > KEEP_MAX {
                into.push(decode_long(codec, frame)?);
            } else {
                let bytes = room(buf, len);
                copy(frame, bytes)?;
                // Not with `?`, which moves the message once more.
                match decode(codec, bytes) {
                    Ok(message) => into.push(message),
                    Err(error) => return Err(error.into()),
                }
            }
            count += 1;
            if count == max {
                break;
            }
            // What is no message stays, and the next call finds an error again.
            frame = match batch.peek_here() {
                Ok(Some(frame)) if frame.kind() == MESSAGE => frame,
                _ => break,
            };
        }
        Ok(count)
    }

    /// The messages as they come, until the sender is gone. An iterator ends at the first error: use
    /// [`recv`](Self::recv) to see it.
    pub fn iter(&mut self) -> Iter<'_, T> {
        self.into_iter()
    }
}

/// So many bytes of the buffer.
#[inline]
fn room(buf: &mut Vec<u8>, len: usize) -> &mut [u8] {
    if buf.len() < len {
        buf.resize(len, 0);
    }
    &mut buf[..len]
}

#[cold]
fn decode_long<T: DeserializeOwned>(codec: &Codec, frame: Frame<'_>) -> Result<T, RecvError> {
    Ok(decode(codec, &frame.take())?)
}

#[inline]
fn decode<T: DeserializeOwned>(codec: &Codec, bytes: &[u8]) -> Result<T, DecodeError> {
    // Not those handles that belong to a message which is being decoded around this one.
    handle::incoming([], || codec.decode(bytes))
}

iterator! {
    /// The messages of a [`Receiver`], waiting for each, until its sender is gone.
    Iter<'a, T> of &'a mut Receiver<T> => T
}

iterator! {
    /// The messages of a [`Receiver`] that was given away, until its sender is gone.
    IntoIter<T> of Receiver<T> => T
}

/// Ready when there is something to receive, or nobody is left who could send.
impl<T> Waitable for Receiver<T> {
    fn readiness(&self) -> Readiness<'_> {
        self.ring.readiness()
    }
}

impl<T> fmt::Debug for Receiver<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Receiver").field("ring", &self.ring).finish_non_exhaustive()
    }
}
