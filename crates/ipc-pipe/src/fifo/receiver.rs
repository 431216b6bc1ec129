//! Receiving from a FIFO.

use std::collections::HashMap;
use std::fmt;
use std::io;
use std::marker::PhantomData;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use ipc_core::frame::{FrameDecoder, FrameKind};
use ipc_core::{Codec, Fingerprint, Limits, RecvError, Schema, handle};
use ipc_os::fifo::{self, End};
use ipc_os::pipe::{self, PIPE_BUF};
use ipc_os::{Readiness, Waitable};
use serde::de::DeserializeOwned;

use super::{FIRST, FifoError, LAST, PREFIX_LEN, STRUCTURE};
use ipc_stream::Until;

/// Structures of writers that disagree are kept for error messages, no more than this many.
const STRUCTURES_MAX: usize = 16;

/// A message of which not all chunks have come.
struct Partial {
    writer: u64,
    kind: FrameKind,
    bytes: Vec<u8>,
}

/// Receives messages of type `T` from a FIFO. See [the module](super) for how "no sender yet" and "the last sender
/// left" are told apart.
///
/// - *Ordering*: of each sender as sent; between senders as they came.
/// - *Blocking*: `recv` waits for the first sender, and then for messages.
/// - *Death of a sender*: what it had sent whole can be received. When it was the last one,
///   [`RecvError::Disconnected`]; in the middle of a long message, [`RecvError::Truncated`] first.
/// - *Another structure*: each message from a sender that disagrees is [`RecvError::Mismatch`]; others go on.
pub struct FifoReceiver<T> {
    path: PathBuf,
    fd: OwnedFd,
    codec: Codec,
    decoder: FrameDecoder,
    partial: Option<Partial>,
    structures: HashMap<u64, String>,
    types: PhantomData<fn() -> T>,
}

impl<T: DeserializeOwned> FifoReceiver<T> {
    /// Receives the next message, waiting for a sender and for the message.
    ///
    /// # Errors
    /// [`RecvError::Disconnected`] when all senders have left (another one may come: see [`FifoReceiver::reopen`]);
    /// [`RecvError::Truncated`], [`RecvError::Mismatch`], [`RecvError::Decode`], [`RecvError::WrongKind`] (the message
    /// is gone then), [`RecvError::Frame`], [`RecvError::Io`].
    pub fn recv(&mut self) -> Result<T, RecvError> {
        self.recv_until(Until::Forever)
    }

    /// Receives the next message if it is here.
    ///
    /// # Errors
    /// [`RecvError::NotConnected`] when no sender has come so far, [`RecvError::Empty`] when none has sent anything;
    /// else as [`FifoReceiver::recv`].
    pub fn try_recv(&mut self) -> Result<T, RecvError> {
        self.recv_until(Until::Now)
    }

    /// Receives the next message, waiting no longer than `timeout`.
    ///
    /// # Errors
    /// [`RecvError::NotConnected`] when no sender came in time, [`RecvError::Timeout`] when none sent anything; else
    /// as [`FifoReceiver::recv`].
    pub fn recv_timeout(&mut self, timeout: Duration) -> Result<T, RecvError> {
        self.recv_until(Until::after(timeout))
    }

    /// Receives bytes that were sent with [`FifoSender::send_bytes`](super::FifoSender::send_bytes).
    ///
    /// # Errors
    /// As [`FifoReceiver::recv`].
    pub fn recv_bytes(&mut self) -> Result<Vec<u8>, RecvError> {
        self.recv_bytes_until(Until::Forever)
    }

    /// Receives bytes, waiting no longer than `timeout`; zero does not wait.
    ///
    /// # Errors
    /// As [`FifoReceiver::recv_timeout`], without those of decoding.
    pub fn recv_bytes_timeout(&mut self, timeout: Duration) -> Result<Vec<u8>, RecvError> {
        self.recv_bytes_until(Until::after(timeout))
    }

    fn recv_bytes_until(&mut self, until: Until) -> Result<Vec<u8>, RecvError> {
        match self.next(until)? {
            (FrameKind::Bytes, bytes) => Ok(bytes),
            (kind, _) => Err(RecvError::wrong_kind(kind)),
        }
    }

    /// The messages as they come, until the last sender has left.
    pub fn iter(&mut self) -> impl Iterator<Item = T> + '_ {
        std::iter::from_fn(|| self.recv().ok())
    }

    fn recv_until(&mut self, until: Until) -> Result<T, RecvError> {
        match self.next(until)? {
            (FrameKind::Message, bytes) => Ok(handle::incoming([], || self.codec.decode(&bytes))?),
            (kind, _) => Err(RecvError::wrong_kind(kind)),
        }
    }

    /// The next message whole, put together of its chunks.
    fn next(&mut self, until: Until) -> Result<(FrameKind, Vec<u8>), RecvError> {
        let schema = Schema::of::<T>();
        loop {
            while self.decoder.frame()?.is_none() {
                self.fill(until)?;
            }
            if let Some(done) = self.take_chunk(&schema)? {
                return Ok(done);
            }
        }
    }

    /// Takes the chunk at hand; a message, if it completes one.
    fn take_chunk(&mut self, schema: &Schema) -> Result<Option<(FrameKind, Vec<u8>)>, RecvError> {
        let Some(header) = self.decoder.frame()? else { return Ok(None) };
        let payload = self.decoder.payload();
        let Some((prefix, part)) = payload.split_first_chunk::<PREFIX_LEN>() else {
            let broken = ipc_core::FrameError::NotAFrame(header.to_bytes());
            self.decoder.consume();
            return Err(broken.into());
        };
        let number = |at: usize| u64::from_le_bytes(std::array::from_fn(|i| prefix[at + i]));
        let (fingerprint, writer, flags) = (number(0), number(8), prefix[16]);
        let agrees = fingerprint == schema.fingerprint().to_u64();

        // Another writer in the middle of a message, or a new message: the old one will never be finished. The chunk
        // stays for the next call.
        let continues = flags & (FIRST | STRUCTURE) == 0;
        if let Some(partial) = &self.partial
            && (partial.writer != writer || !continues)
        {
            self.partial = None;
            return Err(RecvError::Truncated { missing: 0 });
        }
        if flags & STRUCTURE != 0 {
            if !agrees && self.structures.len() < STRUCTURES_MAX {
                self.structures.insert(fingerprint, String::from_utf8_lossy(part).into_owned());
            }
            self.decoder.consume();
            return Ok(None);
        }
        if !agrees {
            let theirs = self.structures.get(&fingerprint).map_or("(not announced)", String::as_str);
            let checked = schema.check(Fingerprint::from_u64(fingerprint), theirs);
            self.decoder.consume();
            // One error a message: further chunks of it are skipped.
            return match checked {
                Err(mismatch) if flags & FIRST != 0 => Err(RecvError::Mismatch(Box::new(mismatch))),
                _ => Ok(None),
            };
        }
        if flags & FIRST != 0 {
            self.partial = Some(Partial { writer, kind: header.kind, bytes: Vec::new() });
        }
        let Some(mut partial) = self.partial.take() else {
            // The rest of a message whose beginning was given up.
            self.decoder.consume();
            return Ok(None);
        };
        let len = partial.bytes.len() + part.len();
        let limit = self.codec.limits().frame_len_max;
        if len > limit {
            self.decoder.consume();
            return Err(ipc_core::FrameError::TooLong { len: len as u64, limit }.into());
        }
        partial.bytes.extend_from_slice(part);
        self.decoder.consume();
        if flags & LAST != 0 {
            return Ok(Some((partial.kind, partial.bytes)));
        }
        self.partial = Some(partial);
        Ok(None)
    }

    fn fill(&mut self, until: Until) -> Result<(), RecvError> {
        loop {
            match pipe::read(self.fd.as_fd(), self.decoder.space()) {
                Ok(0) => {
                    if !fifo::writers_left(&self.fd).map_err(RecvError::Io)? {
                        // No sender has come yet; poll(2) waits for the first.
                        self.wait(until, RecvError::NotConnected, RecvError::NotConnected)?;
                        continue;
                    }
                    // One may have come, sent and left between the two calls.
                    match pipe::read(self.fd.as_fd(), self.decoder.space()) {
                        Ok(0) => return Err(self.left()),
                        Ok(count) => {
                            self.decoder.filled(count);
                            return Ok(());
                        }
                        // Another one is here by now.
                        Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                        Err(error) => return Err(RecvError::Io(error)),
                    }
                }
                Ok(count) => {
                    self.decoder.filled(count);
                    return Ok(());
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    self.wait(until, RecvError::Empty, RecvError::Timeout)?;
                }
                Err(error) => return Err(RecvError::Io(error)),
            }
        }
    }

    fn wait(&self, until: Until, now: RecvError, later: RecvError) -> Result<(), RecvError> {
        if until.is_over() {
            return Err(if matches!(until, Until::Now) { now } else { later });
        }
        ipc_os::poll_readable(self.fd.as_fd(), until.left()).map_err(RecvError::Io)?;
        Ok(())
    }

    #[cold]
    fn left(&mut self) -> RecvError {
        if self.partial.take().is_some() {
            return RecvError::Truncated { missing: 0 };
        }
        RecvError::Disconnected
    }
}

impl<T> FifoReceiver<T> {
    pub(super) fn new(path: PathBuf, fd: OwnedFd) -> Self {
        FifoReceiver {
            path,
            fd,
            codec: Codec::default(),
            // All that a FIFO holds: should this process be killed, the next reader begins with a whole frame.
            decoder: FrameDecoder::new(PIPE_BUF).far_ahead(),
            partial: None,
            structures: HashMap::new(),
            types: PhantomData,
        }
    }

    /// Waits for new senders after the last one has left: until the next one opens the FIFO, receives wait again
    /// instead of failing with [`RecvError::Disconnected`]. What is in the FIFO stays.
    ///
    /// # Errors
    /// [`FifoError::NotFound`] when the FIFO was unlinked meanwhile, [`FifoError::NotAFifo`], [`FifoError::Io`].
    pub fn reopen(&mut self) -> Result<(), FifoError> {
        // The old descriptor is open until the new one is: senders find a reader all the time.
        self.fd = fifo::open(&self.path, End::Read)
            .map_err(|error| FifoError::new("opening", &self.path, error))?;
        Ok(())
    }

    /// Sets the limits that protect this process from what is received.
    pub fn set_limits(&mut self, limits: Limits) {
        self.codec = Codec::new(limits);
    }

    /// Whether a message may be here, or the news that all senders have left, after at most `timeout`.
    ///
    /// # Errors
    /// [`RecvError::Io`].
    pub fn poll(&mut self, timeout: Duration) -> Result<bool, RecvError> {
        if self.decoder.is_ready() {
            return Ok(true);
        }
        let deadline = Instant::now().checked_add(timeout);
        ipc_os::poll_readable(self.fd.as_fd(), deadline.map(|_| timeout)).map_err(RecvError::Io)
    }
}

impl<T> AsFd for FifoReceiver<T> {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

impl<T> Waitable for FifoReceiver<T> {
    fn readiness(&self) -> Readiness<'_> {
        if self.decoder.is_ready() { Readiness::Now } else { Readiness::Descriptor(self.fd.as_fd()) }
    }
}

impl<T> fmt::Debug for FifoReceiver<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FifoReceiver").field("path", &self.path).finish_non_exhaustive()
    }
}
