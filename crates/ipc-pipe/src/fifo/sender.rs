//! Sending into a FIFO.

use std::fmt;
use std::hash::{BuildHasher, Hasher, RandomState};
use std::io;
use std::marker::PhantomData;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::time::Duration;

use ipc_core::frame::{FrameKind, Header};
use ipc_core::{Codec, Limits, Schema, SendError, handle};
use ipc_os::fifo;
use ipc_os::pipe::{self, PIPE_BUF};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::{FIRST, LAST, PREFIX_LEN, SHARED_LEN_MAX, STRUCTURE};
use ipc_stream::Until;

/// Sends messages of type `T` into a FIFO.
///
/// - *Ordering*: of each sender as sent; between senders as they came.
/// - *Atomicity*: a message of one chunk arrives whole or not at all, SIGKILL at any instruction included. One of
///   several chunks (exclusive senders) may be cut off; the reader is told.
/// - *Death of the reader*: [`SendError::Disconnected`], without SIGPIPE.
/// - *Moving*: it does not travel; send the path.
/// - *Fork*: a forked child that drops its copy gives the lock back for both.
pub struct FifoSender<T> {
    fd: OwnedFd,
    codec: Codec,
    exclusive: bool,
    writer: u64,
    schema: Arc<Schema>,
    message: Vec<u8>,
    /// The chunks of the message at hand; `chunks[at..]` have not gone out.
    chunks: Vec<u8>,
    at: usize,
    types: PhantomData<fn(T)>,
}

impl<T: Serialize> FifoSender<T> {
    /// Sends a message, waiting for room.
    ///
    /// # Errors
    /// [`SendError::TooLongToShare`] for a long message from a sender that is not exclusive; else as
    /// [`Sender::send`](crate::Sender::send).
    pub fn send(&mut self, message: &T) -> Result<(), SendError> {
        self.send_until(message, Until::Forever)
    }

    /// Sends a message if there is room for it now.
    ///
    /// # Errors
    /// [`SendError::Full`], or for a message of several chunks [`SendError::Begun`]; else as [`FifoSender::send`].
    pub fn try_send(&mut self, message: &T) -> Result<(), SendError> {
        self.send_until(message, Until::Now)
    }

    /// Sends a message, waiting for room no longer than `timeout`.
    ///
    /// # Errors
    /// [`SendError::Timeout`], or for a message of several chunks [`SendError::Begun`]; else as [`FifoSender::send`].
    pub fn send_timeout(&mut self, message: &T, timeout: Duration) -> Result<(), SendError> {
        self.send_until(message, Until::after(timeout))
    }

    fn send_until(&mut self, message: &T, until: Until) -> Result<(), SendError> {
        self.message.clear();
        let ((), handles) = handle::outgoing(|| self.codec.encode(message, &mut self.message))?;
        let count = handles.descriptors().len();
        if count > 0 {
            return Err(SendError::Handles { carrier: "a FIFO", count, instead: "a duplex" });
        }
        let message = std::mem::take(&mut self.message);
        let sent = self.put(FrameKind::Message, &message, until);
        self.message = message;
        sent
    }
}

impl<T: DeserializeOwned> FifoSender<T> {
    /// Over a FIFO's end whose lock has been taken.
    pub(super) fn new(fd: OwnedFd, exclusive: bool) -> Self {
        let mut sender = FifoSender {
            fd,
            codec: Codec::default(),
            exclusive,
            writer: RandomState::new().build_hasher().finish(),
            schema: Schema::of::<T>(),
            message: Vec::new(),
            chunks: Vec::new(),
            at: 0,
            types: PhantomData,
        };
        sender.announce();
        sender
    }
}

impl<T> FifoSender<T> {
    /// Sends bytes as they are, for [`FifoReceiver::recv_bytes`](super::FifoReceiver::recv_bytes).
    ///
    /// # Errors
    /// As [`FifoSender::send`].
    pub fn send_bytes(&mut self, bytes: &[u8]) -> Result<(), SendError> {
        self.put(FrameKind::Bytes, bytes, Until::Forever)
    }

    /// Sends bytes as they are, waiting for room no longer than `timeout`; zero does not wait.
    ///
    /// # Errors
    /// As [`FifoSender::send_timeout`], without those of encoding.
    pub fn send_bytes_timeout(&mut self, bytes: &[u8], timeout: Duration) -> Result<(), SendError> {
        self.put(FrameKind::Bytes, bytes, Until::after(timeout))
    }

    /// Puts out the rest of a message that has begun, waiting for room.
    ///
    /// # Errors
    /// [`SendError::Disconnected`], [`SendError::Io`].
    pub fn flush(&mut self) -> Result<(), SendError> {
        self.put_chunks(Until::Forever)
    }

    /// Sets the limit for what an exclusive sender sends.
    pub fn set_limits(&mut self, limits: Limits) {
        self.codec = Codec::new(limits);
    }

    /// Says once what the structure of the messages is, for an error at the reader that shows both. Where there is no
    /// room for it the error will show one.
    fn announce(&mut self) {
        let text = self.schema.text();
        let mut len = text.len().min(SHARED_LEN_MAX);
        while !text.is_char_boundary(len) {
            len -= 1;
        }
        let text = text[..len].to_owned();
        let chunk = self.chunk(FrameKind::Message, STRUCTURE, text.as_bytes());
        let _ = pipe::try_write(self.fd.as_fd(), &chunk);
    }

    fn chunk(&self, kind: FrameKind, flags: u8, part: &[u8]) -> Vec<u8> {
        let mut chunk = Vec::with_capacity(PIPE_BUF);
        self.add_chunk(&mut chunk, kind, flags, part);
        chunk
    }

    fn add_chunk(&self, to: &mut Vec<u8>, kind: FrameKind, flags: u8, part: &[u8]) {
        let header = Header { payload_len: (PREFIX_LEN + part.len()) as u32, handles: 0, kind };
        to.extend(header.to_bytes());
        to.extend(self.schema.fingerprint().to_u64().to_le_bytes());
        to.extend(self.writer.to_le_bytes());
        to.push(flags);
        to.extend_from_slice(part);
    }

    fn put(&mut self, kind: FrameKind, message: &[u8], until: Until) -> Result<(), SendError> {
        let len = message.len();
        if len > SHARED_LEN_MAX && !self.exclusive {
            return Err(SendError::TooLongToShare { len, limit: SHARED_LEN_MAX });
        }
        // Checks the limit; each chunk has a header of its own.
        Header::new(kind, len, 0, self.codec.limits().frame_len_max)?;
        self.put_chunks(until).map_err(|error| match (error, until) {
            (SendError::Begun { .. }, Until::Now) => SendError::Full,
            (SendError::Begun { .. }, _) => SendError::Timeout,
            (error, _) => error,
        })?;
        let mut chunks = std::mem::take(&mut self.chunks);
        chunks.clear();
        let mut parts = message.chunks(SHARED_LEN_MAX).peekable();
        if parts.peek().is_none() {
            self.add_chunk(&mut chunks, kind, FIRST | LAST, b"");
        }
        let mut first = FIRST;
        while let Some(part) = parts.next() {
            let last = if parts.peek().is_none() { LAST } else { 0 };
            self.add_chunk(&mut chunks, kind, first | last, part);
            first = 0;
        }
        (self.chunks, self.at) = (chunks, 0);
        let sent = self.put_chunks(until);
        if self.at == 0 && sent.is_err() {
            self.chunks.clear();
        }
        match sent {
            Err(SendError::Begun { .. }) if self.at == 0 => {
                Err(if matches!(until, Until::Now) { SendError::Full } else { SendError::Timeout })
            }
            other => other,
        }
    }

    /// Writes what is left, chunk by chunk. `Begun` here means only that something is left.
    fn put_chunks(&mut self, until: Until) -> Result<(), SendError> {
        while self.at < self.chunks.len() {
            let end = self.chunks.len().min(self.at + PIPE_BUF);
            // All chunks but the last are of full length, so that their boundaries are known.
            match pipe::write(self.fd.as_fd(), &self.chunks[self.at..end]) {
                Ok(count) => self.at += count,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    if until.is_over() {
                        return Err(SendError::Begun { left: self.chunks.len() - self.at });
                    }
                    ipc_os::poll_writable(self.fd.as_fd(), until.left()).map_err(SendError::Io)?;
                }
                Err(error) => {
                    let error = SendError::from_io(error);
                    if matches!(error, SendError::Disconnected) {
                        self.at = self.chunks.len();
                    }
                    return Err(error);
                }
            }
        }
        Ok(())
    }
}

impl<T> Drop for FifoSender<T> {
    fn drop(&mut self) {
        // Closing it gives the lock back in any case.
        let _ = fifo::unlock(&self.fd);
    }
}

impl<T> AsFd for FifoSender<T> {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

impl<T> fmt::Debug for FifoSender<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FifoSender").field("exclusive", &self.exclusive).finish_non_exhaustive()
    }
}
