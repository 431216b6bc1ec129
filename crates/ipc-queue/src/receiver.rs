//! The side that messages come out of.

use std::fmt;
use std::io;
use std::marker::PhantomData;
use std::sync::Arc;
use std::time::Duration;

use ipc_core::{Codec, DecodeError, FrameError, Limits, RecvError};
use ipc_os::{Readiness, Waitable};
use serde::de::DeserializeOwned;

use ipc_sync::object::{Latched, Nap};

use crate::end::{End, Wait, Waited, unlatched};
use crate::iter::iterator;
use crate::layout::INLINE;
use crate::queue::{Form, Taken};
use crate::sender::{BATCH, with_scratch};
use crate::store::Held;

/// The side of a queue that messages of type `T` come out of.
///
/// A handle: clone it, use it from all threads, put it into a message or the arguments of a worker, and it is the same
/// queue there. Each message goes to one of those who receive.
///
/// - *Death*: a receiver that is killed takes at most the one message with it that it was just receiving. When the last
///   [`Sender`](crate::Sender) is gone, dropped or killed, what is left can be received, and then
///   [`RecvError::Disconnected`] comes: loops end by themselves.
/// - *Hostile peer*: at worst an error, or a wait for ever.
pub struct Receiver<T> {
    end: Arc<End>,
    codec: Codec,
    types: PhantomData<fn() -> T>,
}

impl<T> Clone for Receiver<T> {
    fn clone(&self) -> Self {
        Receiver { end: Arc::clone(&self.end), codec: self.codec, types: PhantomData }
    }
}

impl<T> Receiver<T> {
    pub(crate) fn over(end: End) -> Self {
        Receiver { end: Arc::new(end), codec: Codec::default(), types: PhantomData }
    }

    pub(crate) fn end(&self) -> &Arc<End> {
        &self.end
    }

    /// Sets the limits that protect this process from what is received.
    pub fn set_limits(&mut self, limits: Limits) {
        self.codec = Codec::new(limits);
    }

    /// How many messages the queue holds.
    pub fn capacity(&self) -> usize {
        self.end.queue.layout.capacity
    }

    /// How many messages are in the queue now.
    pub fn len(&self) -> usize {
        self.end.queue.len()
    }

    /// Whether there is none now.
    pub fn is_empty(&self) -> bool {
        !self.end.queue.has_message()
    }

    /// Receives bytes that were sent with [`Sender::send_bytes`](crate::Sender::send_bytes).
    ///
    /// # Errors
    /// As of [`recv`](Self::recv), without those of decoding.
    pub fn recv_bytes(&self) -> Result<Vec<u8>, RecvError> {
        self.recv_bytes_within(Wait::forever())
    }

    /// Receives bytes if there are some now.
    ///
    /// # Errors
    /// As of [`try_recv`](Self::try_recv), without those of decoding.
    pub fn try_recv_bytes(&self) -> Result<Vec<u8>, RecvError> {
        self.recv_bytes_within(Wait::none())
    }

    /// Receives bytes, waiting no longer than that.
    ///
    /// # Errors
    /// As of [`recv_timeout`](Self::recv_timeout), without those of decoding.
    pub fn recv_bytes_timeout(&self, timeout: Duration) -> Result<Vec<u8>, RecvError> {
        self.recv_bytes_within(Wait::within(timeout))
    }

    fn recv_bytes_within(&self, wait: Wait) -> Result<Vec<u8>, RecvError> {
        let mut here = [0; INLINE];
        let taken = self.take(Form::Plain, &mut here, wait)?;
        let mut bytes = Vec::new();
        self.read(taken, &here, &mut bytes)?;
        Ok(bytes)
    }

    /// Receives bytes into `buf`, and says how many; what is behind them in `buf` stays as it was.
    ///
    /// # Errors
    /// [`RecvError::TooSmall`] when `buf` is too short: the error holds the whole message. Else as of
    /// [`recv_bytes`](Self::recv_bytes).
    pub fn recv_bytes_into(&self, buf: &mut [u8]) -> Result<usize, RecvError> {
        let mut here = [0; INLINE];
        let taken = self.take(Form::Plain, &mut here, Wait::forever())?;
        let len = taken.len();
        let Some(into) = buf.get_mut(..len) else {
            let mut message = Vec::new();
            self.read(taken, &here, &mut message)?;
            return Err(RecvError::TooSmall { message, capacity: buf.len() });
        };
        match taken {
            Got::Here(len) => into.copy_from_slice(&here[..len]),
            Got::Copied(bytes) => into.copy_from_slice(&bytes),
            Got::Stored(held, _) => self.read_stored(held, into)?,
        }
        Ok(len)
    }

    /// The bytes of a message, into an empty buffer.
    fn read(&self, got: Got, here: &[u8; INLINE], bytes: &mut Vec<u8>) -> Result<(), RecvError> {
        match got {
            Got::Here(len) => bytes.extend_from_slice(&here[..len]),
            Got::Copied(copied) => *bytes = copied,
            Got::Stored(held, len) => {
                bytes.resize(len, 0);
                self.read_stored(held, bytes)?;
            }
        }
        Ok(())
    }

    /// Copies a stored message out, and gives its pages back.
    fn read_stored(&self, held: Held, into: &mut [u8]) -> Result<(), RecvError> {
        let queue = &self.end.queue;
        let read = queue.object.read(held.pages.at(&queue.layout), into);
        let freed = queue.store.free(held);
        queue.freed.ring_for_all();
        let unfreed = |why| unlatched(why).unwrap_or_else(|| io::ErrorKind::TimedOut.into());
        freed.map_err(|why| RecvError::Io(unfreed(why)))?;
        read.map_err(|error| RecvError::Io(error.into()))
    }

    #[inline]
    pub(crate) fn take(&self, form: Form, here: &mut [u8; INLINE], mut wait: Wait) -> Result<Got, RecvError> {
        let queue = &self.end.queue;
        loop {
            if queue.has_message() {
                let latch =
                    queue.latch_receivers(|| wait.latch_nap()).map_err(|why| unreceived(why, &wait))?;
                let taken = queue.take(form, here).map_err(RecvError::Io)?;
                drop(latch);
                let got = match taken {
                    Taken::Here(len) => Some(Got::Here(len)),
                    Taken::Stored(held, len) => Some(Got::Stored(held, len)),
                    Taken::Copied(bytes) => Some(Got::Copied(bytes)),
                    Taken::Other => {
                        self.end.settle(&wait, || true);
                        return Err(other(form));
                    }
                    Taken::Empty => None,
                };
                if let Some(got) = got {
                    queue.room.ring_after_latch();
                    self.end.settle(&wait, || queue.has_message());
                    return self.within_limits(got);
                }
            }
            self.wait(&mut wait)?;
        }
    }

    /// A message that is longer than this side accepts is gone, and nothing is allocated for it.
    #[inline]
    fn within_limits(&self, got: Got) -> Result<Got, RecvError> {
        let limit = self.codec.limits().frame_len_max;
        if got.len() <= limit {
            return Ok(got);
        }
        let len = got.len() as u64;
        if let Got::Stored(held, _) = got {
            self.read_stored(held, &mut [])?;
        }
        Err(FrameError::TooLong { len, limit }.into())
    }

    fn wait(&self, wait: &mut Wait) -> Result<(), RecvError> {
        let queue = &self.end.queue;
        match self.end.wait(wait, || queue.has_message(), || queue.has_messages()).map_err(RecvError::Io)? {
            Waited::Look => Ok(()),
            Waited::TimedOut => {
                // Also if there is nothing: the ring for this one may have been the only one.
                self.end.settle(wait, || queue.has_message());
                if !queue.has_message()
                    && self.end.is_disconnected().map_err(RecvError::Io)?
                    && !queue.has_message()
                {
                    return Err(RecvError::Disconnected);
                }
                Err(empty(wait))
            }
            Waited::Disconnected => Err(RecvError::Disconnected),
            Waited::Abandoned => Err(RecvError::Abandoned),
        }
    }
}

/// A message that was taken out.
#[derive(Debug)]
pub(crate) enum Got {
    /// So many bytes are where the caller wanted them.
    Here(usize),
    Stored(Held, usize),
    Copied(Vec<u8>),
}

impl Got {
    pub(crate) fn len(&self) -> usize {
        match self {
            Got::Here(len) | Got::Stored(_, len) => *len,
            Got::Copied(bytes) => bytes.len(),
        }
    }
}

#[cold]
pub(crate) fn unreceived(why: Latched, wait: &Wait) -> RecvError {
    match unlatched(why) {
        Some(error) => RecvError::Io(error),
        None => empty(wait),
    }
}

/// Ready when there is a message, or nobody is left who could send one.
impl<T> Waitable for Receiver<T> {
    fn readiness(&self) -> Readiness<'_> {
        self.end.readiness(|| self.end.queue.has_message())
    }

    fn has_slept(&self) {
        self.end.queue.items.settle(|| self.end.queue.has_message());
    }
}

pub(crate) fn empty(wait: &Wait) -> RecvError {
    if wait.is_at_once() { RecvError::Empty } else { RecvError::Timeout }
}

fn other(wanted: Form) -> RecvError {
    match wanted {
        Form::Encoded => RecvError::WrongKind { sent: "send_bytes", receive: "recv_bytes" },
        Form::Plain => RecvError::WrongKind { sent: "send", receive: "recv" },
    }
}

impl<T: DeserializeOwned> Receiver<T> {
    /// Receives the next message, waiting for it.
    ///
    /// # Errors
    /// [`RecvError::Disconnected`] when all were received and nobody can send any more; [`RecvError::Decode`] for a
    /// message that is no `T` or exceeds a limit (it is gone, the next ones are not); [`RecvError::WrongKind`] when the
    /// next is for [`recv_bytes`](Self::recv_bytes); [`RecvError::Abandoned`]; [`RecvError::Io`].
    #[inline]
    pub fn recv(&self) -> Result<T, RecvError> {
        self.recv_within(Wait::forever())
    }

    /// Receives the next message if there is one now.
    ///
    /// # Errors
    /// [`RecvError::Empty`]; else as of [`recv`](Self::recv).
    pub fn try_recv(&self) -> Result<T, RecvError> {
        self.recv_within(Wait::none())
    }

    /// Receives the next message, waiting no longer than that.
    ///
    /// # Errors
    /// [`RecvError::Timeout`]; else as of [`recv`](Self::recv).
    pub fn recv_timeout(&self, timeout: Duration) -> Result<T, RecvError> {
        self.recv_within(Wait::within(timeout))
    }

    /// Waits for a message, and takes those that are there with it: up to `max` are put behind what is in `into`. How many
    /// those were.
    ///
    /// # Errors
    /// As of [`recv`](Self::recv). With [`RecvError::Decode`] the messages that could be decoded are in `into` all the
    /// same.
    ///
    /// ```
    /// let (tx, rx) = ipc_queue::bounded::<u32>(64)?;
    /// tx.send_all(0..40)?;
    /// let mut numbers = Vec::new();
    /// assert_eq!(rx.recv_many(100, &mut numbers)?, 40);
    /// assert!(numbers.into_iter().eq(0..40));
    /// # Ok::<(), ipc_core::Error>(())
    /// ```
    pub fn recv_many(&self, max: usize, into: &mut Vec<T>) -> Result<usize, RecvError> {
        if max == 0 {
            return Ok(0);
        }
        into.push(self.recv()?);
        let mut count = 1;
        let mut undecoded = None;
        while count < max && undecoded.is_none() && self.end.queue.has_message() {
            let (got, error) = self.take_batch((max - count).min(BATCH), into)?;
            if got == 0 {
                break;
            }
            count += got;
            undecoded = error;
        }
        undecoded.map_or(Ok(count), |error| Err(error.into()))
    }

    /// Takes some short messages with one turn. How many there were, and why one of them could not be decoded.
    fn take_batch(&self, max: usize, into: &mut Vec<T>) -> Result<(usize, Option<DecodeError>), RecvError> {
        let queue = &self.end.queue;
        with_scratch(|bytes| {
            bytes.reserve(max * INLINE);
            let mut ends = [0; BATCH];
            let mut count = 0;
            let mut here = [0; INLINE];
            let mut long = None;
            let latch =
                queue.latch_receivers(Nap::forever).map_err(|why| unreceived(why, &Wait::forever()))?;
            while count < max {
                match queue.take(Form::Encoded, &mut here).map_err(RecvError::Io)? {
                    Taken::Here(len) => bytes.extend_from_slice(&here[..len]),
                    Taken::Stored(held, len) => {
                        long = Some(Got::Stored(held, len));
                        break;
                    }
                    Taken::Copied(copied) => {
                        long = Some(Got::Copied(copied));
                        break;
                    }
                    Taken::Empty | Taken::Other => break,
                }
                ends[count] = bytes.len();
                count += 1;
            }
            drop(latch);
            queue.room.ring_after_latch();
            let mut error = None;
            let mut start = 0;
            for end in &ends[..count] {
                match self.decode(&bytes[start..*end]) {
                    Ok(message) => into.push(message),
                    Err(undecoded) => error = error.or(Some(undecoded)),
                }
                start = *end;
            }
            if let Some(long) = long {
                bytes.clear();
                self.read(long, &here, bytes)?;
                count += 1;
                match self.decode(bytes) {
                    Ok(message) => into.push(message),
                    Err(undecoded) => error = error.or(Some(undecoded)),
                }
            }
            Ok((count, error))
        })
    }

    #[inline]
    fn recv_within(&self, wait: Wait) -> Result<T, RecvError> {
        let mut here = [0; INLINE];
        match self.take(Form::Encoded, &mut here, wait)? {
            Got::Here(len) => Ok(self.decode(&here[..len])?),
            got => with_scratch(|bytes| {
                self.read(got, &here, bytes)?;
                Ok(self.decode(bytes)?)
            }),
        }
    }

    #[inline]
    fn decode(&self, bytes: &[u8]) -> Result<T, DecodeError> {
        self.codec.decode(bytes)
    }

    /// The messages one after the other, until nobody can send any more. An iterator ends at the first error: use
    /// [`recv`](Self::recv) to see it.
    pub fn iter(&self) -> Iter<'_, T> {
        self.into_iter()
    }
}

iterator! {
    /// The messages of a [`Receiver`], until nobody can send any more.
    Iter<'a, T> of &'a Receiver<T> => T
}

iterator! {
    /// The messages of a [`Receiver`] that was given away, until nobody can send any more.
    IntoIter<T> of Receiver<T> => T
}

impl<T> fmt::Debug for Receiver<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Receiver")
            .field("len", &self.len())
            .field("capacity", &self.capacity())
            .finish_non_exhaustive()
    }
}
