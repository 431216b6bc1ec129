//! What can be wrong with an address.

use std::path::PathBuf;

use ipc_core::{Classify, ErrorKind};

/// Why that is no address. The message says how to write one.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum AddressError {
    /// It begins with none of `unix:`, `tcp:` and `shm:`.
    #[error(
        "{text:?} is no address: write `unix:/path`, `unix:@abstract-name`, `tcp:host:port` (an IPv6 address in \
         brackets: `tcp:[::1]:port`) or `shm:/path`"
    )]
    UnknownScheme {
        /// What was given.
        text: String,
    },
    /// Nothing comes after the scheme.
    #[error("the address ends after `{scheme}`: write `unix:/path`, `unix:@abstract-name` or `shm:/path`")]
    Empty {
        /// What it consists of.
        scheme: &'static str,
    },
    /// The path is longer than the kernel takes for a socket.
    #[error(
        "the path {path:?} has {} bytes, and that of a socket at most {max}: put it into a directory with a shorter \
         path (as $XDG_RUNTIME_DIR or one below /tmp), or name it relative to the working directory",
        path.as_os_str().len(),
        max = super::SUN_PATH_MAX
    )]
    PathTooLong {
        /// The path.
        path: PathBuf,
    },
    /// The path has a zero byte in it.
    #[error("the path {path:?} has a zero byte in it, which no path can have")]
    ZeroInPath {
        /// The path.
        path: PathBuf,
    },
    /// The path ends in no name that a socket could have.
    #[error("the path {path:?} names a directory: write `unix:/directory/name-of-the-socket`")]
    NoFileName {
        /// The path.
        path: PathBuf,
    },
    /// The abstract name is longer than the kernel takes.
    #[error("the abstract name has {len} bytes, at most {max} are possible", max = super::SUN_PATH_MAX)]
    AbstractTooLong {
        /// How many bytes it has.
        len: usize,
    },
    /// `shm:@…`: such a socket has a path.
    #[error("{text:?}: shared memory is handed over through a socket with a path: write `shm:/path`")]
    ShmAbstract {
        /// What was given.
        text: String,
    },
    /// A `%` that is not followed by two hexadecimal digits.
    #[error(
        "{text:?}: a `%` begins a byte in hexadecimal, as in `%0A`; write `%25` for the character itself"
    )]
    BadEscape {
        /// The path or name.
        text: String,
    },
    /// That can be no host.
    #[error(
        "{host:?} is no host: write a name of letters, digits, `.`, `-` and `_`, an IPv4 address, or an IPv6 address \
         in brackets; all interfaces are `0.0.0.0` or `[::]`"
    )]
    BadHost {
        /// What was given.
        host: String,
    },
    /// A TCP address without a port.
    #[error("{text:?} has no port: write `tcp:host:port`")]
    NoPort {
        /// What was given.
        text: String,
    },
    /// The port is no number from 0 to 65535.
    #[error("{text:?}: a port is a number, 1 to 65535, or 0 for a listener that takes any that is free")]
    BadPort {
        /// What was given.
        text: String,
    },
    /// An IPv6 address without brackets.
    #[error("{text:?}: an IPv6 address has brackets around it: write `tcp:[::1]:port`")]
    NoBrackets {
        /// What was given.
        text: String,
    },
}

impl Classify for AddressError {
    fn kind(&self) -> ErrorKind {
        ErrorKind::InvalidInput
    }
}
