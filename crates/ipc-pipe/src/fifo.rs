//! Typed FIFOs: pipes that unrelated processes find by a path.
//!
//! Any number of processes may send into a FIFO at the same time, since what a single `write(2)` of up to `PIPE_BUF`
//! (4,096) bytes puts in is never mixed with another's, nor torn by a SIGKILL. So everything is written in chunks of
//! at most that size, each a [frame](ipc_core::frame) whose payload begins with
//!
//! ```text
//!  0              8              16      17
//!  | fingerprint  | writer       | flags | a message, or a part of one …
//!  | u64 LE       | u64 LE       | u8    |
//! ```
//!
//! The fingerprint is that of the message type, so that a writer of another structure is found out message by
//! message; the writer is a random number. Flags: 1 = first chunk of a message, 2 = last one, 4 = no message but the
//! structure of the writer's messages, sent once when it opens. A message of several chunks is for a writer that has
//! the FIFO to itself ([`Fifo::exclusive_sender`]); should it be killed in the middle and another one come before the
//! reader has noticed, the reader sees the change of writers, reports the message as [`RecvError::Truncated`] and goes
//! on with the next.
//!
//! | the reader sees | means | `try_recv` |
//! |---|---|---|
//! | no data, no hang-up | nobody has opened it for writing since it was opened for reading | [`RecvError::NotConnected`] |
//! | no data, writers | nothing now | [`RecvError::Empty`] |
//! | hang-up | the last writer left, or was killed | [`RecvError::Disconnected`], until another one comes |

use std::collections::HashMap;
use std::fmt;
use std::hash::{BuildHasher, Hasher, RandomState};
use std::io;
use std::marker::PhantomData;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use ipc_core::frame::{FrameDecoder, FrameKind, HEADER_LEN, Header};
use ipc_core::{Classify, Codec, ErrorKind, Fingerprint, Limits, RecvError, Schema, SendError, handle};
use ipc_os::fifo::{self, End};
use ipc_os::pipe::{self, PIPE_BUF};
use ipc_os::{Readiness, Waitable};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::end::Until;

const PREFIX_LEN: usize = 17;
const FIRST: u8 = 1;
const LAST: u8 = 2;
const STRUCTURE: u8 = 4;

/// The longest encoded message that a sender which shares the FIFO can send: a chunk less its header and prefix.
pub const SHARED_LEN_MAX: usize = PIPE_BUF - HEADER_LEN - PREFIX_LEN;

const _: () = assert!(SHARED_LEN_MAX > 4000, "PIPE_BUF is 4096 on Linux");

/// Structures of writers that disagree are kept for error messages, no more than this many.
const STRUCTURES_MAX: usize = 16;

/// Why a FIFO could not be created, opened or removed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FifoError {
    /// Something of that name exists.
    #[error("{path} exists already; `Fifo::open` uses it, if it is a FIFO")]
    AlreadyExists {
        /// The path.
        path: PathBuf,
    },
    /// There is nothing of that name.
    #[error("there is no FIFO at {path}; `Fifo::create` makes one")]
    NotFound {
        /// The path.
        path: PathBuf,
    },
    /// There is something else.
    #[error("{path} is not a FIFO")]
    NotAFifo {
        /// The path.
        path: PathBuf,
    },
    /// Nobody opened the FIFO for reading in time.
    #[error("nobody has opened {path} for reading")]
    NoReader {
        /// The path.
        path: PathBuf,
    },
    /// An exclusive sender has it; or, for an exclusive one, others have.
    #[error("{path} is in use by another sender, and one of the two is exclusive")]
    InUse {
        /// The path.
        path: PathBuf,
    },
    /// The system reported something else.
    #[error("{doing} {path} failed")]
    Io {
        /// What was attempted.
        doing: &'static str,
        /// The path.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

impl Classify for FifoError {
    fn kind(&self) -> ErrorKind {
        match self {
            FifoError::AlreadyExists { .. } => ErrorKind::AlreadyExists,
            FifoError::NotFound { .. } => ErrorKind::NotFound,
            FifoError::NotAFifo { .. } => ErrorKind::InvalidInput,
            FifoError::NoReader { .. } => ErrorKind::NotConnected,
            FifoError::InUse { .. } => ErrorKind::Full,
            FifoError::Io { source, .. } => ErrorKind::of_io(source),
        }
    }
}

impl FifoError {
    fn new(doing: &'static str, path: &Path, source: io::Error) -> Self {
        let path = path.to_owned();
        match source.kind() {
            io::ErrorKind::AlreadyExists => FifoError::AlreadyExists { path },
            io::ErrorKind::NotFound => FifoError::NotFound { path },
            io::ErrorKind::InvalidInput => FifoError::NotAFifo { path },
            io::ErrorKind::WouldBlock => FifoError::InUse { path },
            _ => FifoError::Io { doing, path, source },
        }
    }
}

/// A FIFO in the file system, for messages of type `T`: created by one process, opened by others, with mode 0600.
///
/// It stays until it is [unlinked](Fifo::unlink); dropping this does nothing. One process receives; any number send.
///
/// ```
/// use ipc_pipe::Fifo;
/// let dir = tempfile::tempdir()?;
/// let fifo = Fifo::<String>::create(dir.path().join("events"))?;
/// let mut rx = fifo.receiver()?;
///
/// // Usually in another process:
/// let mut tx = Fifo::<String>::open(dir.path().join("events"))?.sender()?;
/// tx.send(&"started".to_owned())?;
/// drop(tx);
///
/// assert_eq!(rx.recv()?, "started");
/// assert!(rx.recv().is_err(), "the last writer has left");
/// fifo.unlink()?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct Fifo<T> {
    path: PathBuf,
    types: PhantomData<fn(T) -> T>,
}

impl<T> Fifo<T> {
    /// Makes a FIFO at `path`, for this user only (mode 0600).
    ///
    /// # Errors
    /// [`FifoError::AlreadyExists`], [`FifoError::NotFound`] when the directory is missing, [`FifoError::Io`].
    pub fn create(path: impl Into<PathBuf>) -> Result<Self, FifoError> {
        let path = path.into();
        fifo::create(&path).map_err(|error| FifoError::new("creating", &path, error))?;
        Ok(Fifo { path, types: PhantomData })
    }

    /// The FIFO that is at `path`.
    ///
    /// # Errors
    /// [`FifoError::NotFound`], [`FifoError::NotAFifo`], [`FifoError::Io`].
    pub fn open(path: impl Into<PathBuf>) -> Result<Self, FifoError> {
        use std::os::unix::fs::FileTypeExt;
        let path = path.into();
        let found = std::fs::metadata(&path).map_err(|error| FifoError::new("opening", &path, error))?;
        if !found.file_type().is_fifo() {
            return Err(FifoError::NotAFifo { path });
        }
        Ok(Fifo { path, types: PhantomData })
    }

    /// The FIFO that is at `path`, made if there is none.
    ///
    /// # Errors
    /// As [`Fifo::create`] and [`Fifo::open`].
    pub fn open_or_create(path: impl Into<PathBuf>) -> Result<Self, FifoError> {
        let path = path.into();
        match Self::create(&path) {
            Err(FifoError::AlreadyExists { .. }) => Self::open(path),
            other => other,
        }
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Removes the FIFO from the file system. Ends that are open go on working.
    ///
    /// # Errors
    /// [`FifoError::NotFound`], [`FifoError::Io`].
    pub fn unlink(self) -> Result<(), FifoError> {
        std::fs::remove_file(&self.path).map_err(|error| FifoError::new("removing", &self.path, error))
    }

    /// Opens it for receiving. Does not wait for a sender; the first receive does. A second receiver would take
    /// messages away from the first: open one.
    ///
    /// # Errors
    /// [`FifoError::NotFound`], [`FifoError::NotAFifo`], [`FifoError::Io`].
    pub fn receiver(&self) -> Result<FifoReceiver<T>, FifoError> {
        let fd = self.open_end(End::Read)?;
        Ok(FifoReceiver {
            path: self.path.clone(),
            fd,
            codec: Codec::default(),
            decoder: FrameDecoder::new(PIPE_BUF),
            partial: None,
            structures: HashMap::new(),
            types: PhantomData,
        })
    }

    fn open_end(&self, end: End) -> Result<OwnedFd, FifoError> {
        fifo::open(&self.path, end).map_err(|error| FifoError::new("opening", &self.path, error))
    }
}

/// The longest that a sender sleeps between two looks for a reader.
const LOOK_MAX: Duration = Duration::from_millis(20);

impl<T: DeserializeOwned> Fifo<T> {
    /// Opens it for sending beside others, waiting for somebody to open it for receiving. Messages of up to
    /// [`SHARED_LEN_MAX`] bytes, encoded.
    ///
    /// # Errors
    /// [`FifoError::InUse`] while an exclusive sender has it; [`FifoError::NotFound`], [`FifoError::NotAFifo`],
    /// [`FifoError::Io`].
    pub fn sender(&self) -> Result<FifoSender<T>, FifoError> {
        self.open_sender(false, Until::Forever)
    }

    /// [`Fifo::sender`], waiting no longer than `timeout`; zero does not wait.
    ///
    /// # Errors
    /// [`FifoError::NoReader`] when nobody opened it for receiving in time; else as [`Fifo::sender`].
    pub fn sender_timeout(&self, timeout: Duration) -> Result<FifoSender<T>, FifoError> {
        self.open_sender(false, Until::after(timeout))
    }

    /// Opens it for sending alone, waiting for a receiver: messages up to the frame limit.
    ///
    /// # Errors
    /// [`FifoError::InUse`] while any other sender has it; else as [`Fifo::sender`].
    pub fn exclusive_sender(&self) -> Result<FifoSender<T>, FifoError> {
        self.open_sender(true, Until::Forever)
    }

    /// [`Fifo::exclusive_sender`], waiting for a receiver no longer than `timeout`.
    ///
    /// # Errors
    /// As [`Fifo::exclusive_sender`] and [`Fifo::sender_timeout`].
    pub fn exclusive_sender_timeout(&self, timeout: Duration) -> Result<FifoSender<T>, FifoError> {
        self.open_sender(true, Until::after(timeout))
    }

    fn open_sender(&self, exclusive: bool, until: Until) -> Result<FifoSender<T>, FifoError> {
        // A blocking open has no time-out and could not be told from one that waits for ever by a signal; so the
        // FIFO is looked at again and again, less often as time goes by.
        const ENXIO: i32 = 6;
        let mut pause = Duration::from_millis(1);
        let fd = loop {
            match self.open_end(End::Write) {
                Err(FifoError::Io { source, .. }) if source.raw_os_error() == Some(ENXIO) => {
                    if until.is_over() {
                        return Err(FifoError::NoReader { path: self.path.clone() });
                    }
                    std::thread::sleep(until.left().map_or(pause, |left| left.min(pause)));
                    pause = (pause * 2).min(LOOK_MAX);
                }
                other => break other?,
            }
        };
        fifo::lock(&fd, exclusive).map_err(|error| FifoError::new("locking", &self.path, error))?;
        let writer = RandomState::new().build_hasher().finish();
        let schema = Schema::of::<T>();
        let mut sender = FifoSender {
            fd,
            codec: Codec::default(),
            exclusive,
            writer,
            schema,
            message: Vec::new(),
            chunks: Vec::new(),
            at: 0,
            types: PhantomData,
        };
        sender.announce();
        Ok(sender)
    }
}

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

impl<T> FifoSender<T> {
    /// Sends bytes as they are, for [`FifoReceiver::recv_bytes`].
    ///
    /// # Errors
    /// As [`FifoSender::send`].
    pub fn send_bytes(&mut self, bytes: &[u8]) -> Result<(), SendError> {
        self.put(FrameKind::Bytes, bytes, Until::Forever)
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

/// A message of which not all chunks have come.
struct Partial {
    writer: u64,
    kind: FrameKind,
    bytes: Vec<u8>,
}

/// Receives messages of type `T` from a FIFO. See [the module](self) for how "no sender yet" and "the last sender
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

    /// Receives bytes that were sent with [`FifoSender::send_bytes`].
    ///
    /// # Errors
    /// As [`FifoReceiver::recv`].
    pub fn recv_bytes(&mut self) -> Result<Vec<u8>, RecvError> {
        match self.next(Until::Forever)? {
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

impl<T> AsFd for FifoSender<T> {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
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

impl<T> fmt::Debug for Fifo<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Fifo").field("path", &self.path).finish()
    }
}

impl<T> fmt::Debug for FifoSender<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FifoSender").field("exclusive", &self.exclusive).finish_non_exhaustive()
    }
}

impl<T> fmt::Debug for FifoReceiver<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FifoReceiver").field("path", &self.path).finish_non_exhaustive()
    }
}
