//! What can go wrong with named files.

use std::error::Error;
use std::fmt;
use std::io;
use std::path::PathBuf;

/// Why there is no named file.
#[derive(Debug)]
#[non_exhaustive]
pub enum NameError {
    /// Somebody uses that name.
    AlreadyExists {
        /// The name of the file, `KIND.NAME`.
        name: String,
    },
    /// Nobody uses that name.
    NotFound {
        /// The name of the file, `KIND.NAME`.
        name: String,
    },
    /// That cannot be a name.
    BadName {
        /// What was given.
        name: String,
    },
    /// The directory or the file is not this user's own.
    WrongOwner {
        /// Where it lies.
        path: PathBuf,
    },
    /// There is no directory for named files, and none can be made.
    NoDirectory {
        /// Where it should be.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// There is no memory for so many bytes.
    NoSpace {
        /// How many.
        len: u64,
        /// What the system said.
        source: io::Error,
    },
    /// Another process is removing or making that name, and has not come to an end of it.
    Busy {
        /// The name of the file, `KIND.NAME`.
        name: String,
    },
    /// The system reported something else.
    Io(io::Error),
}

impl fmt::Display for NameError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            NameError::AlreadyExists { name } => {
                write!(f, "{name} exists already, and is in use: open it, or choose another name")
            }
            NameError::NotFound { name } => write!(f, "there is no {name}: create it first"),
            NameError::BadName { name } => write!(
                f,
                "{name:?} cannot be a name: 1 to {} letters, digits, `.`, `_` and `-`, beginning with no dot",
                super::NAME_LEN_MAX
            ),
            NameError::WrongOwner { path } => write!(
                f,
                "{} is a link, belongs to another user or is open to others: remove it (or `chmod 700` it), or set \
                 IPC_RUNTIME_DIR to another directory",
                path.display()
            ),
            NameError::NoDirectory { path, .. } => write!(
                f,
                "no directory {} for named objects: set IPC_RUNTIME_DIR to a directory that can be written",
                path.display()
            ),
            NameError::NoSpace { len, .. } => write!(
                f,
                "no memory for {len} bytes: free some where named objects lie, or make it larger (for a container, the \
                 option that sets the size of /dev/shm)"
            ),
            NameError::Busy { name } => {
                write!(f, "another process is removing or making {name} and does not go on: is it stopped?")
            }
            NameError::Io(_) => f.write_str("the file of a named object could not be used"),
        }
    }
}

impl Error for NameError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            NameError::NoDirectory { source, .. }
            | NameError::NoSpace { source, .. }
            | NameError::Io(source) => Some(source),
            _ => None,
        }
    }
}

impl From<io::Error> for NameError {
    fn from(error: io::Error) -> Self {
        NameError::Io(error)
    }
}
