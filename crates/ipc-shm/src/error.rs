//! What can go wrong with segments.

use std::io;

use ipc_core::{Classify, ErrorKind};
use ipc_os::names::NameError;

/// Why something could not be done with a [`Segment`](crate::Segment).
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SegmentError {
    /// There is a segment of that name.
    #[error("a segment {name:?} exists already: open it, or unlink it first")]
    AlreadyExists {
        /// The name.
        name: String,
    },
    /// There is no segment of that name.
    #[error("there is no segment {name:?}")]
    NotFound {
        /// The name.
        name: String,
    },
    /// That cannot be a name.
    #[error("{name:?} cannot be a name: 1 to 200 letters, digits, `.`, `_` and `-`, beginning with no dot")]
    BadName {
        /// What was given.
        name: String,
    },
    /// A segment has at least one byte.
    #[error("a segment must have at least one byte")]
    NoLength,
    /// A file of that name has no bytes: its creator is another program, which has made it and not sized it yet, or which
    /// died in between.
    #[error("the segment {name:?} has no length yet: if its creator is gone, unlink it")]
    Unfinished {
        /// The name.
        name: String,
    },
    /// It has no name that could be taken away.
    #[error("the segment has no name")]
    NoName,
    /// The system does not allow it: another user's segment, or one that may only be read.
    #[error("no permission to use the segment")]
    PermissionDenied(#[source] io::Error),
    /// This handle may only read.
    #[error("this handle of the segment may only read")]
    ReadOnly,
    /// A place outside of the segment, or of the view; or one that is not aligned for what was asked for there.
    #[error("{len} bytes at {offset} are not within the {within} bytes there, or not aligned")]
    OutOfBounds {
        /// Where they should begin.
        offset: usize,
        /// How many there should be.
        len: usize,
        /// How many there are.
        within: usize,
    },
    /// Somebody has cut the segment short, or there was no memory behind it any more. Nothing that is read from it or written
    /// to it through this handle counts from now on; open it again.
    #[error("the segment was cut short by somebody: open it again")]
    Truncated,
    /// There is no memory for so many bytes.
    #[error("no memory for {len} bytes: free some, or make it larger (of a container, the size of /dev/shm)")]
    NoSpace {
        /// How many.
        len: usize,
        /// What the system said.
        source: io::Error,
    },
    /// The system reported something else.
    #[error("the segment could not be used")]
    Io(#[from] io::Error),
}

impl Classify for SegmentError {
    fn kind(&self) -> ErrorKind {
        match self {
            SegmentError::AlreadyExists { .. } => ErrorKind::AlreadyExists,
            SegmentError::NotFound { .. } => ErrorKind::NotFound,
            SegmentError::BadName { .. }
            | SegmentError::NoLength
            | SegmentError::NoName
            | SegmentError::OutOfBounds { .. } => ErrorKind::InvalidInput,
            SegmentError::Unfinished { .. } => ErrorKind::Busy,
            SegmentError::PermissionDenied(_) | SegmentError::ReadOnly => ErrorKind::PermissionDenied,
            SegmentError::Truncated => ErrorKind::Truncated,
            SegmentError::NoSpace { .. } => ErrorKind::OutOfMemory,
            SegmentError::Io(error) => ErrorKind::of_io(error),
        }
    }
}

impl SegmentError {
    /// What happened to a name, or to a segment of `len` bytes under it.
    pub(crate) fn of_name(error: NameError, name: &str, len: usize) -> Self {
        let name = name.to_owned();
        match error {
            NameError::AlreadyExists { .. } => SegmentError::AlreadyExists { name },
            NameError::NotFound { .. } => SegmentError::NotFound { name },
            NameError::BadName { .. } => SegmentError::BadName { name },
            NameError::NoSpace { source, .. } => SegmentError::NoSpace { len, source },
            NameError::Io(error) => SegmentError::of_io(error, len),
            other => SegmentError::Io(io::Error::other(other)),
        }
    }

    /// What the system said of a segment of `len` bytes.
    pub(crate) fn of_io(error: io::Error, len: usize) -> Self {
        match error.kind() {
            io::ErrorKind::PermissionDenied => SegmentError::PermissionDenied(error),
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded | io::ErrorKind::OutOfMemory => {
                SegmentError::NoSpace { len, source: error }
            }
            _ => SegmentError::Io(error),
        }
    }
}
