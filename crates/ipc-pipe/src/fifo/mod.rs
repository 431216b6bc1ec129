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
//!
//! [`RecvError::Disconnected`]: crate::RecvError::Disconnected
//! [`RecvError::Empty`]: crate::RecvError::Empty
//! [`RecvError::NotConnected`]: crate::RecvError::NotConnected
//! [`RecvError::Truncated`]: crate::RecvError::Truncated

mod receiver;
mod sender;

use std::fmt;
use std::io;
use std::marker::PhantomData;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::time::Duration;

use ipc_core::frame::HEADER_LEN;
use ipc_core::{Classify, ErrorKind};
use ipc_os::fifo::{self, End};
use ipc_os::pipe::PIPE_BUF;
use serde::de::DeserializeOwned;

use ipc_stream::Until;

pub use receiver::FifoReceiver;
pub use sender::FifoSender;

const PREFIX_LEN: usize = 17;
const FIRST: u8 = 1;
const LAST: u8 = 2;
const STRUCTURE: u8 = 4;

/// The longest encoded message that a sender which shares the FIFO can send: a chunk less its header and prefix.
pub const SHARED_LEN_MAX: usize = PIPE_BUF - HEADER_LEN - PREFIX_LEN;

const _: () = assert!(SHARED_LEN_MAX > 4000, "PIPE_BUF is 4096 on Linux");

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
        Ok(FifoReceiver::new(self.path.clone(), fd))
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
        Ok(FifoSender::new(fd, exclusive))
    }
}

impl<T> fmt::Debug for Fifo<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Fifo").field("path", &self.path).finish()
    }
}
