//! The sending half of a connection.

use std::sync::Arc;
use std::time::Duration;

use ipc_core::{Limits, SendAllError, SendError};
use ipc_stream::Until;
use serde::{Deserialize, Serialize};

use crate::carrier::Out;
use crate::python::{Object, pickle, to_object};
use crate::types::{Control, Questions, Types};

/// The half of a [`Connection`](crate::Connection) that sends; [there](crate::Connection) is what is promised. Dropped, it
/// closes its direction: the peer receives what was sent, and then the end of the stream.
#[derive(Debug)]
pub struct SendHalf {
    pub(crate) out: Out,
    types: Types,
    questions: Arc<Questions>,
    /// CPython is at the other end.
    pub(crate) python: bool,
}

/// What is no plain data for Python.
#[cold]
fn no_pickle(source: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> SendError {
    SendError::Foreign { format: "a pickle", source: source.into() }
}

/// A batch goes out when so many bytes have come together.
const FULL: usize = 32 << 10;

impl SendHalf {
    pub(crate) fn new(out: Out, questions: Arc<Questions>, python: bool) -> Self {
        SendHalf { out, types: Types::default(), questions, python }
    }

    #[inline]
    fn put<T: Serialize + Deserialize<'static>>(
        &mut self,
        message: &T,
        until: Until,
    ) -> Result<(), SendError> {
        if self.python {
            let object = to_object(message).map_err(no_pickle)?;
            return self.put_object(&object, until);
        }
        let id = self.types.id::<T>();
        if self.questions.any() {
            self.answer(until)?;
        }
        self.out.send_behind(&id.to_le_bytes(), message, until)
    }

    fn put_object(&mut self, object: &Object, until: Until) -> Result<(), SendError> {
        if !self.python {
            return Err(no_pickle("the other end speaks this crate's own protocol: use `send`"));
        }
        let mut pickle = Vec::new();
        pickle::encode(object, &mut pickle).map_err(no_pickle)?;
        self.put_bytes(&pickle, until)
    }

    fn put_bytes(&mut self, bytes: &[u8], until: Until) -> Result<(), SendError> {
        self.out.send_bytes(bytes, until)
    }

    /// Says what the peer has asked, as far as it is known here.
    #[cold]
    pub(crate) fn answer(&mut self, until: Until) -> Result<(), SendError> {
        let mut asked = self.questions.take().into_iter();
        while let Some(id) = asked.next() {
            let text = self.types.text(id).unwrap_or_default().to_owned();
            let Err(error) = self.control(&Control::Structure(id, text), until) else { continue };
            let error = match (error, until) {
                // That answer is kept and goes first; of the message that it is in the way of nothing has gone.
                (SendError::Begun { .. }, Until::Now) => SendError::Full,
                (SendError::Begun { .. }, _) => SendError::Timeout,
                (error, _) => {
                    self.questions.put(id);
                    error
                }
            };
            asked.for_each(|id| self.questions.put(id));
            return Err(error);
        }
        Ok(())
    }

    pub(crate) fn control(&mut self, control: &Control, until: Until) -> Result<(), SendError> {
        self.out.send_control(&control.to_bytes(), until)
    }

    /// Sends a message of any type, waiting for room.
    ///
    /// # Errors
    /// [`SendError::Disconnected`] when nobody can receive any more; [`SendError::Encode`] and [`SendError::Frame`] for a
    /// message that cannot be encoded or is too long, [`SendError::Handles`] for one with handles where they cannot travel
    /// (in these cases nothing was sent, and the next message can be); [`SendError::Io`].
    #[inline]
    pub fn send<T: Serialize + Deserialize<'static>>(&mut self, message: &T) -> Result<(), SendError> {
        self.put(message, Until::Forever)
    }

    /// Sends a message if there is room for it now.
    ///
    /// # Errors
    /// [`SendError::Full`] when nothing of it has gone out; [`SendError::Begun`] when some has: the rest is kept and goes
    /// first, with the next send or [`flush`](Self::flush), so do not send it again. Else as [`send`](Self::send).
    pub fn try_send<T: Serialize + Deserialize<'static>>(&mut self, message: &T) -> Result<(), SendError> {
        self.put(message, Until::Now)
    }

    /// Sends a message, waiting for room no longer than `timeout`.
    ///
    /// # Errors
    /// [`SendError::Timeout`] when nothing of it has gone out; [`SendError::Begun`] when some has (see
    /// [`try_send`](Self::try_send)). Else as [`send`](Self::send).
    pub fn send_timeout<T: Serialize + Deserialize<'static>>(
        &mut self,
        message: &T,
        timeout: Duration,
    ) -> Result<(), SendError> {
        self.put(message, Until::after(timeout))
    }

    /// Sends all messages of an iterator, many with each system call. The peer may see them only when this has returned, or
    /// has to wait. How many there were.
    ///
    /// # Errors
    /// The error of the first message that could not be sent, and how many were sent for certain: of a batch that the peer
    /// took no more, some may have arrived.
    pub fn send_all<T: Serialize + Deserialize<'static>>(
        &mut self,
        messages: impl IntoIterator<Item = impl std::borrow::Borrow<T>>,
    ) -> Result<usize, SendAllError> {
        let mut sent = 0;
        if self.python {
            for message in messages {
                self.send(message.borrow()).map_err(|source| SendAllError { sent, source })?;
                sent += 1;
            }
            return Ok(sent);
        }
        let id = self.types.id::<T>().to_le_bytes();
        let mut gathered = 0;
        let put = |out: &mut Out| {
            out.begin_batch()?;
            for message in messages {
                out.batch(&id, message.borrow(), FULL)?;
                gathered += 1;
                if !out.has_gathered() {
                    sent = gathered;
                }
            }
            Ok(())
        };
        let put = put(&mut self.out);
        // Those before one that cannot be encoded go out all the same.
        let done = self.out.put_batch();
        if done.is_ok() {
            sent = gathered;
        }
        match put.and(done) {
            Ok(()) => Ok(sent),
            Err(source) => Err(SendAllError { sent, source }),
        }
    }

    /// Sends a value to CPython, as it is: tuples, sets and all, waiting for room.
    ///
    /// # Errors
    /// As of [`send`](Self::send); [`SendError::Foreign`] if the connection is not [CPython's](crate::Options::python).
    pub fn send_object(&mut self, object: &Object) -> Result<(), SendError> {
        self.put_object(object, Until::Forever)
    }

    /// Sends bytes as they are, waiting for room.
    ///
    /// # Errors
    /// As of [`send`](Self::send), without those of encoding.
    pub fn send_bytes(&mut self, bytes: &[u8]) -> Result<(), SendError> {
        self.put_bytes(bytes, Until::Forever)
    }

    /// Sends bytes if there is room for them now.
    ///
    /// # Errors
    /// As of [`try_send`](Self::try_send), without those of encoding.
    pub fn try_send_bytes(&mut self, bytes: &[u8]) -> Result<(), SendError> {
        self.put_bytes(bytes, Until::Now)
    }

    /// Sends bytes, waiting for room no longer than `timeout`.
    ///
    /// # Errors
    /// As of [`send_timeout`](Self::send_timeout), without those of encoding.
    pub fn send_bytes_timeout(&mut self, bytes: &[u8], timeout: Duration) -> Result<(), SendError> {
        self.put_bytes(bytes, Until::after(timeout))
    }

    /// Puts out the rest of a message that has [begun](SendError::Begun), waiting for room.
    ///
    /// # Errors
    /// [`SendError::Disconnected`], [`SendError::Io`].
    pub fn flush(&mut self) -> Result<(), SendError> {
        self.out.flush(Until::Forever)
    }

    /// As [`flush`](Self::flush), waiting for room no longer than `timeout`; zero does not wait.
    ///
    /// # Errors
    /// [`SendError::Begun`] when some of it is still left; else the same.
    pub fn flush_timeout(&mut self, timeout: Duration) -> Result<(), SendError> {
        self.out.flush(Until::after(timeout))
    }

    /// Sets the limits for what is sent.
    pub fn set_limits(&mut self, limits: Limits) {
        self.out.set_limits(limits);
    }
}
