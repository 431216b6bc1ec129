//! The side that messages come out of.

use std::fmt;
use std::io;
use std::marker::PhantomData;
use std::sync::Arc;
use std::time::Duration;

use ipc_core::{Codec, DecodeError, Limits, RecvError};
use serde::de::DeserializeOwned;

use crate::end::{End, Wait, Waited, unlatched};
use crate::queue::{Body, Form, Message, Taken};
use crate::sender::with_scratch;

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
        let message = self.take(Form::Plain, wait)?;
        let mut bytes = Vec::new();
        self.read(message, &mut bytes)?;
        Ok(bytes)
    }

    /// Receives bytes into `buf`, and says how many; what is behind them in `buf` stays as it was.
    ///
    /// # Errors
    /// [`RecvError::TooSmall`] when `buf` is too short: the error holds the whole message. Else as of
    /// [`recv_bytes`](Self::recv_bytes).
    pub fn recv_bytes_into(&self, buf: &mut [u8]) -> Result<usize, RecvError> {
        let Message { len, body } = self.take(Form::Plain, Wait::forever())?;
        let Some(into) = buf.get_mut(..len) else {
            let mut message = Vec::new();
            self.read(Message { len, body }, &mut message)?;
            return Err(RecvError::TooSmall { message, capacity: buf.len() });
        };
        match body {
            Body::Here(here) => into.copy_from_slice(&here[..len]),
            Body::Copied(bytes) => into.copy_from_slice(&bytes),
            Body::Stored(held) => {
                let queue = &self.end.queue;
                let read = queue.object.read(held.pages.at(&queue.layout), into);
                self.free(held)?;
                read.map_err(|error| RecvError::Io(error.into()))?;
            }
        }
        Ok(len)
    }

    /// The bytes of a message, into an empty buffer.
    fn read(&self, message: Message, bytes: &mut Vec<u8>) -> Result<(), RecvError> {
        match message.body {
            Body::Here(here) => bytes.extend_from_slice(&here[..message.len]),
            Body::Copied(copied) => *bytes = copied,
            Body::Stored(held) => {
                let queue = &self.end.queue;
                bytes.resize(message.len, 0);
                let read = queue.object.read(held.pages.at(&queue.layout), bytes);
                self.free(held)?;
                read.map_err(|error| RecvError::Io(error.into()))?;
            }
        }
        Ok(())
    }

    fn free(&self, held: crate::store::Held) -> Result<(), RecvError> {
        let queue = &self.end.queue;
        let freed = queue.store.free(held);
        queue.room.ring();
        let unfreed = |why| unlatched(why).unwrap_or_else(|| io::ErrorKind::TimedOut.into());
        freed.map_err(|why| RecvError::Io(unfreed(why)))
    }

    #[inline]
    fn take(&self, form: Form, mut wait: Wait) -> Result<Message, RecvError> {
        let queue = &self.end.queue;
        loop {
            if queue.has_message() {
                let latch = queue.latch_receivers(&mut wait.latch).map_err(|why| match unlatched(why) {
                    Some(error) => RecvError::Io(error),
                    None => empty(&wait),
                })?;
                let taken = queue.take(form).map_err(RecvError::Io)?;
                drop(latch);
                match taken {
                    Taken::Message(message) => {
                        queue.room.ring();
                        self.end.settle(&wait, || queue.has_message());
                        return Ok(message);
                    }
                    Taken::Other => {
                        self.end.settle(&wait, || true);
                        return Err(other(form));
                    }
                    Taken::Empty => {}
                }
            }
            match self.end.wait(&mut wait, || queue.has_message()).map_err(RecvError::Io)? {
                Waited::Look => {}
                Waited::TimedOut => {
                    if queue.has_message() {
                        self.end.settle(&wait, || true);
                    } else if self.end.is_disconnected().map_err(RecvError::Io)? && !queue.has_message() {
                        return Err(RecvError::Disconnected);
                    }
                    return Err(empty(&wait));
                }
                Waited::Disconnected => return Err(RecvError::Disconnected),
                Waited::Abandoned => return Err(RecvError::Abandoned),
            }
        }
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

    #[inline]
    fn recv_within(&self, wait: Wait) -> Result<T, RecvError> {
        let message = self.take(Form::Encoded, wait)?;
        if let Body::Here(here) = &message.body {
            return Ok(self.decode(&here[..message.len])?);
        }
        with_scratch(|bytes| {
            self.read(message, bytes)?;
            Ok(self.decode(bytes)?)
        })
    }

    #[inline]
    fn decode(&self, bytes: &[u8]) -> Result<T, DecodeError> {
        self.codec.decode(bytes)
    }

    /// The messages one after the other, until nobody can send any more. An iterator ends at the first error: use
    /// [`recv`](Self::recv) to see it.
    pub fn iter(&self) -> Iter<'_, T> {
        Iter { receiver: self }
    }
}

/// The messages of a [`Receiver`], until nobody can send any more.
#[derive(Debug)]
pub struct Iter<'a, T> {
    receiver: &'a Receiver<T>,
}

impl<T: DeserializeOwned> Iterator for Iter<'_, T> {
    type Item = T;

    fn next(&mut self) -> Option<T> {
        self.receiver.recv().ok()
    }
}

impl<'a, T: DeserializeOwned> IntoIterator for &'a Receiver<T> {
    type Item = T;
    type IntoIter = Iter<'a, T>;

    fn into_iter(self) -> Iter<'a, T> {
        self.iter()
    }
}

/// The messages of a [`Receiver`] that was given away, until nobody can send any more.
#[derive(Debug)]
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

impl<T> fmt::Debug for Receiver<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Receiver")
            .field("len", &self.len())
            .field("capacity", &self.capacity())
            .finish_non_exhaustive()
    }
}
