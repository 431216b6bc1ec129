//! What can go wrong.

use std::fmt;
use std::io;

use ipc_core::{Classify, ErrorKind};

/// A process that holds something, or held it when it died.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Owner {
    pid: Option<u32>,
}

impl Owner {
    pub(crate) fn new(pid: Option<u32>) -> Self {
        Owner { pid }
    }

    /// Its process id as it knows itself (in a PID namespace of its own, that is another number than here). `None`
    /// when seven others have taken its seat since, or it never wrote it.
    pub fn pid(self) -> Option<u32> {
        self.pid
    }
}

impl fmt::Display for Owner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.pid {
            Some(pid) => write!(f, "process {pid}"),
            None => f.write_str("a process whose id is no longer known"),
        }
    }
}

/// Why an object could not be made, opened or received.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
    /// There is an object of that name and kind already, and somebody uses it.
    #[error("{name} exists already: open it, or choose another name")]
    AlreadyExists {
        /// Its kind and name.
        name: String,
    },
    /// Nobody uses an object of that name and kind: none was made, or all who had it are gone.
    #[error("there is no {name}: create it first, or use open_or_create")]
    NotFound {
        /// Its kind and name.
        name: String,
    },
    /// Names are 1 to 200 of `A-Z a-z 0-9 . _ -`, and do not begin with a dot.
    #[error("{name:?} cannot be a name: 1 to 200 of A-Z a-z 0-9 . _ -, not beginning with a dot")]
    BadName {
        /// What was given.
        name: String,
    },
    /// It is of another type, another kind, or another version of this crate.
    #[error("{name} is something else: {what}")]
    Mismatch {
        /// Its kind and name.
        name: String,
        /// What differs.
        what: String,
    },
    /// It, or the directory of all names, belongs to another user.
    #[error("{path} belongs to another user: {what}")]
    WrongOwner {
        /// What belongs to another.
        path: String,
        /// What was expected.
        what: String,
    },
    /// An argument makes no sense.
    #[error("{0}")]
    InvalidInput(String),
    /// There is no memory for it: `/dev/shm` is full, or the machine's memory.
    #[error("no shared memory is left for it")]
    NoSpace(#[source] io::Error),
    /// The operating system reports something else.
    #[error("cannot make or open it")]
    Io(#[source] io::Error),
}

impl From<io::Error> for OpenError {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::OutOfMemory => OpenError::NoSpace(error),
            _ => OpenError::Io(error),
        }
    }
}

impl Classify for OpenError {
    fn kind(&self) -> ErrorKind {
        match self {
            OpenError::AlreadyExists { .. } => ErrorKind::AlreadyExists,
            OpenError::NotFound { .. } => ErrorKind::NotFound,
            OpenError::BadName { .. } | OpenError::InvalidInput(_) => ErrorKind::InvalidInput,
            OpenError::Mismatch { .. } => ErrorKind::Mismatch,
            OpenError::WrongOwner { .. } => ErrorKind::PermissionDenied,
            OpenError::NoSpace(_) => ErrorKind::OutOfMemory,
            OpenError::Io(error) => ErrorKind::of_io(error),
        }
    }
}

/// Why a lock was not got, or something that needs one was not done. Nothing is held then.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LockError {
    /// A process died while it held the lock: what the lock protects may be half changed. `recover()` takes the lock
    /// in that state, to repair it.
    #[error("{owner} died holding the lock: call recover(), repair what it protects, then repaired()")]
    OwnerDied {
        /// Who died.
        owner: Owner,
    },
    /// What the lock protects could not be repaired after a death, and somebody said so with `give_up()`.
    #[error("the lock was given up after the death of {owner}: reset() takes it into use again")]
    GivenUp {
        /// Whose death it was.
        owner: Owner,
    },
    /// Somebody holds it, and the call was told not to wait.
    #[error("somebody holds the lock")]
    WouldBlock,
    /// It was held by others all the time that was given.
    #[error("the lock was not free within the time given")]
    Timeout,
    /// This thread holds it already, and would wait for itself for ever.
    #[error("this thread holds the lock already")]
    Deadlock,
    /// No other process has the object any more, and so nobody is left who could end the wait.
    #[error("nobody is left who could end the wait: no other process has this object any more")]
    Abandoned,
    /// The guard is of another lock.
    #[error("the guard given is of another lock")]
    WrongLock,
    /// The operating system reports something.
    #[error("cannot wait")]
    Io(#[source] io::Error),
}

impl Classify for LockError {
    fn kind(&self) -> ErrorKind {
        match self {
            LockError::OwnerDied { .. } => ErrorKind::OwnerDied,
            LockError::GivenUp { .. } => ErrorKind::Broken,
            LockError::WouldBlock => ErrorKind::Busy,
            LockError::Timeout => ErrorKind::Timeout,
            LockError::Deadlock | LockError::WrongLock => ErrorKind::InvalidInput,
            LockError::Abandoned => ErrorKind::Abandoned,
            LockError::Io(error) => ErrorKind::of_io(error),
        }
    }
}

/// Why a wait for an event or a permit ended without it.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum WaitError {
    /// There is none at the moment, and the call was told not to wait.
    #[error("there is none at the moment")]
    WouldBlock,
    /// The time given is over.
    #[error("not within the time given")]
    Timeout,
    /// No other process has the object any more, and so nobody is left who could end the wait.
    #[error("nobody is left who could end the wait: no other process has this object any more")]
    Abandoned,
    /// The operating system reports something.
    #[error("cannot wait")]
    Io(#[source] io::Error),
}

impl Classify for WaitError {
    fn kind(&self) -> ErrorKind {
        match self {
            WaitError::WouldBlock => ErrorKind::Busy,
            WaitError::Timeout => ErrorKind::Timeout,
            WaitError::Abandoned => ErrorKind::Abandoned,
            WaitError::Io(error) => ErrorKind::of_io(error),
        }
    }
}
