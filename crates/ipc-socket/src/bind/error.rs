//! What can go wrong with a listening socket.

use std::io;
use std::path::PathBuf;

use ipc_core::{Classify, ErrorKind};

use crate::address::{Address, AddressError};

/// Why there is no listener at an address.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BindError {
    /// That is no address.
    #[error(transparent)]
    Address(#[from] AddressError),
    /// Somebody listens there.
    #[error("{address} is in use: somebody listens there; end that one, or take another address")]
    AddressInUse {
        /// The address.
        address: Address,
    },
    /// There is a file of that name which is no socket. It is never removed.
    #[error("{path:?} is there and is no socket, so it is left alone: remove it, or take another path")]
    NotASocket {
        /// What is there.
        path: PathBuf,
    },
    /// The directory of the socket is missing and could not be made, or cannot be opened for reading (which locking it
    /// takes).
    #[error("the directory {path:?}, for a socket, cannot be made or opened")]
    Directory {
        /// The directory.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// Somebody holds the lock of the directory and does not give it back.
    #[error(
        "the directory {path:?} is locked (flock) by another process, which does not go on: is it stopped? Take a \
         directory of your own"
    )]
    Busy {
        /// The directory.
        path: PathBuf,
    },
    /// The system does not allow it: the directory, or a socket that is there, belongs to somebody else, or the port is
    /// privileged.
    #[error("not allowed to listen at {address}: take a directory of your own, or a port above 1023")]
    PermissionDenied {
        /// The address.
        address: Address,
        /// What the system said.
        source: io::Error,
    },
    /// The host of a TCP address means nothing.
    #[error("the host of {address} cannot be looked up")]
    Unresolved {
        /// The address.
        address: Address,
        /// What the system said.
        source: io::Error,
    },
    /// The TCP address is none of this machine's.
    #[error(
        "{address} is no address of this machine: take one of its own, `127.0.0.1` for this machine alone, or \
         `0.0.0.0` (`[::]`) for all"
    )]
    NotOfThisMachine {
        /// The address.
        address: Address,
        /// What the system said.
        source: io::Error,
    },
    /// Others than this machine could reach it, which was not to be.
    #[error("{address} can be reached from other machines: listen at 127.0.0.1 or [::1], or set a key")]
    NotLoopback {
        /// The address.
        address: Address,
    },
    /// The system reports something else.
    #[error("cannot listen at {address}")]
    Io {
        /// The address.
        address: Address,
        /// What the system said.
        source: io::Error,
    },
}

impl BindError {
    /// What the system said of binding that address.
    pub(crate) fn of(address: &Address, source: io::Error) -> Self {
        let address = address.clone();
        match source.kind() {
            io::ErrorKind::AddrInUse => BindError::AddressInUse { address },
            io::ErrorKind::PermissionDenied => BindError::PermissionDenied { address, source },
            io::ErrorKind::AddrNotAvailable => BindError::NotOfThisMachine { address, source },
            _ => BindError::Io { address, source },
        }
    }
}

impl Classify for BindError {
    fn kind(&self) -> ErrorKind {
        match self {
            BindError::Address(error) => error.kind(),
            BindError::AddressInUse { .. } | BindError::NotASocket { .. } => ErrorKind::AlreadyExists,
            BindError::Busy { .. } => ErrorKind::Busy,
            BindError::PermissionDenied { .. } => ErrorKind::PermissionDenied,
            BindError::Unresolved { .. } => ErrorKind::NotFound,
            BindError::NotOfThisMachine { .. } | BindError::NotLoopback { .. } => ErrorKind::InvalidInput,
            BindError::Directory { source, .. } | BindError::Io { source, .. } => ErrorKind::of_io(source),
        }
    }
}

/// Why no connection could be taken.
#[derive(Debug, thiserror::Error)]
pub(crate) enum TakeError {
    /// No descriptor is left, in this process or the system, or no memory. The connection goes on waiting.
    #[error("no descriptor or memory is left for a connection: close some, or raise the limit (`ulimit -n`)")]
    Exhausted(#[source] io::Error),
    /// The system reports something else.
    #[error("cannot accept a connection")]
    Io(#[source] io::Error),
}

const ENOMEM: i32 = 12;
const ENFILE: i32 = 23;
const EMFILE: i32 = 24;
const ENONET: i32 = 64;
const EPROTO: i32 = 71;
const ENOPROTOOPT: i32 = 92;
const ENETDOWN: i32 = 100;
const ENOBUFS: i32 = 105;
const EHOSTDOWN: i32 = 112;

impl TakeError {
    /// Whether it is the connection that is broken, and not the listener: accept(2) has the list.
    pub(super) fn is_of_the_connection(error: &io::Error) -> bool {
        use io::ErrorKind as Kind;
        // EPERM is the firewall's word.
        let kinds = [
            Kind::ConnectionAborted,
            Kind::ConnectionReset,
            Kind::PermissionDenied,
            Kind::TimedOut,
            Kind::HostUnreachable,
            Kind::NetworkUnreachable,
        ];
        let numbers = [ENONET, EPROTO, ENOPROTOOPT, ENETDOWN, EHOSTDOWN];
        kinds.contains(&error.kind()) || error.raw_os_error().is_some_and(|number| numbers.contains(&number))
    }
}

impl From<io::Error> for TakeError {
    fn from(error: io::Error) -> Self {
        match error.raw_os_error() {
            Some(ENOMEM | ENFILE | EMFILE | ENOBUFS) => TakeError::Exhausted(error),
            _ => TakeError::Io(error),
        }
    }
}

impl Classify for TakeError {
    fn kind(&self) -> ErrorKind {
        match self {
            TakeError::Exhausted(_) => ErrorKind::Limit,
            TakeError::Io(error) => ErrorKind::of_io(error),
        }
    }
}
