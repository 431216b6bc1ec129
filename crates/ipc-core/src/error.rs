//! What can go wrong, in one vocabulary for every crate.
//!
//! Each family of operations has its own enum (here [`SendError`] and [`RecvError`], which every carrier
//! shares; [`EncodeError`](crate::EncodeError), [`DecodeError`](crate::DecodeError), and more in the crates
//! above). They all say their [`ErrorKind`] through [`Classify`], and `?` turns any of them into [`Error`].

use std::error::Error as StdError;
use std::fmt;

/// The kind of an error, common to all families: what a program branches on when it does not care
/// which operation failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ErrorKind {
    /// The other end is gone: closed, exited or killed.
    Disconnected,
    /// No other end has come yet (a FIFO that nobody has opened for writing so far).
    NotConnected,
    /// The other end went away in the middle of a message.
    Truncated,
    /// The time given ran out.
    Timeout,
    /// There is no room at the moment, and the call was told not to wait.
    Full,
    /// There is nothing at the moment, and the call was told not to wait.
    Empty,
    /// This end has been moved to another process, or was closed here.
    Moved,
    /// A value could not be encoded.
    Encode,
    /// Bytes could not be decoded.
    Decode,
    /// A limit was exceeded; the message names it and how to raise it.
    Limit,
    /// The two ends disagree on the structure of what they exchange.
    Mismatch,
    /// This carrier, kernel or build cannot do it.
    Unsupported,
    /// An argument makes no sense.
    InvalidInput,
    /// The name is taken.
    AlreadyExists,
    /// There is nothing of that name.
    NotFound,
    /// The operating system does not allow it.
    PermissionDenied,
    /// Somebody else has it at the moment, and the call was told not to wait.
    Busy,
    /// A process died that held it, and what it protects may be half changed.
    OwnerDied,
    /// Nobody is left who could end the wait.
    Abandoned,
    /// It was broken, closed or given up on purpose, or by a death, and says how to take it into use again.
    Broken,
    /// A process ended without the result it was started for (panic, exit, signal).
    Failed,
    /// There is no memory for it, or no space in the file system that it is to be in.
    OutOfMemory,
    /// The operating system reported something else.
    Io,
}

impl ErrorKind {
    /// The kind that fits an [`std::io::Error`].
    pub fn of_io(error: &std::io::Error) -> Self {
        use std::io::ErrorKind as Io;
        match error.kind() {
            Io::BrokenPipe | Io::ConnectionReset | Io::ConnectionAborted => ErrorKind::Disconnected,
            Io::UnexpectedEof => ErrorKind::Truncated,
            Io::TimedOut => ErrorKind::Timeout,
            Io::AlreadyExists | Io::AddrInUse => ErrorKind::AlreadyExists,
            Io::NotFound => ErrorKind::NotFound,
            Io::PermissionDenied => ErrorKind::PermissionDenied,
            Io::InvalidInput => ErrorKind::InvalidInput,
            Io::Unsupported => ErrorKind::Unsupported,
            Io::OutOfMemory | Io::StorageFull | Io::QuotaExceeded => ErrorKind::OutOfMemory,
            _ => ErrorKind::Io,
        }
    }
}

/// An error that knows its [`ErrorKind`]. Every error enum of the workspace implements it, and what
/// implements it converts into [`Error`] with `?`.
pub trait Classify: StdError + Send + Sync + 'static {
    /// The kind of this error.
    fn kind(&self) -> ErrorKind;
}

/// Any error of any of the crates: for programs that pass errors up rather than match on them.
///
/// ```
/// use ipc_core::{Codec, Error, ErrorKind};
///
/// fn answer(bytes: &[u8]) -> Result<u32, Error> {
///     Ok(Codec::default().decode::<u32>(bytes)?)
/// }
/// assert_eq!(answer(&[]).unwrap_err().kind(), ErrorKind::Decode);
/// ```
pub struct Error {
    kind: ErrorKind,
    inner: Box<dyn StdError + Send + Sync + 'static>,
}

impl Error {
    /// The kind of the error.
    pub fn kind(&self) -> ErrorKind {
        self.kind
    }

    /// The error that this was made from, if it was an `E`.
    pub fn downcast_ref<E: StdError + 'static>(&self) -> Option<&E> {
        self.inner.downcast_ref()
    }
}

impl<E: Classify> From<E> for Error {
    fn from(error: E) -> Self {
        Error { kind: error.kind(), inner: Box::new(error) }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.inner.fmt(f)
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}: {:?}", self.kind, self.inner)
    }
}

impl StdError for Error {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.inner.source()
    }
}

impl Classify for std::io::Error {
    fn kind(&self) -> ErrorKind {
        ErrorKind::of_io(self)
    }
}
