//! What can go wrong with connecting.

use std::io;

use ipc_core::{Classify, ErrorKind};

use crate::address::{Address, AddressError};
use crate::handshake::HandshakeError;

/// Why there is no connection to an address.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConnectError {
    /// That is no address.
    #[error(transparent)]
    Address(#[from] AddressError),
    /// There is no socket of that path: no listener has begun yet, or it has ended.
    #[error("there is no {address}: start the listener first, or connect with a time to wait for it")]
    NotFound {
        /// The address.
        address: Address,
        /// What the system said.
        source: io::Error,
    },
    /// Nobody listens there: the listener has ended without a word, or has not begun.
    #[error("nobody listens at {address}: start the listener first, or connect with a time to wait for it")]
    Refused {
        /// The address.
        address: Address,
        /// What the system said.
        source: io::Error,
    },
    /// The system does not allow it: the socket is another user's, or the directory is.
    #[error(
        "not allowed to connect to {address}: a listener is for its own user unless it is told otherwise, and so is \
         the directory that it makes"
    )]
    PermissionDenied {
        /// The address.
        address: Address,
        /// What the system said.
        source: io::Error,
    },
    /// The time is over. The source says how it was the last time.
    #[error("no connection to {address} in time: does the listener run, and accept?")]
    Timeout {
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
    /// Port 0 is for listeners, which then have another one.
    #[error("{address} has no port to connect to: take the one that the listener says its local address has")]
    NoPort {
        /// The address.
        address: Address,
    },
    /// It is another machine, which was not to be.
    #[error("{address} is not on this machine: connect to 127.0.0.1 or [::1], or set a key")]
    NotLoopback {
        /// The address.
        address: Address,
    },
    /// Somebody listens, but the two did not come to terms: the key, the user, the version, or the time.
    #[error("no understanding with the listener at {address}")]
    Handshake {
        /// The address.
        address: Address,
        /// What went wrong.
        source: HandshakeError,
    },
    /// The system reports something else.
    #[error("cannot connect to {address}")]
    Io {
        /// The address.
        address: Address,
        /// What the system said.
        source: io::Error,
    },
}

impl ConnectError {
    /// What the system said of connecting to that address.
    pub(crate) fn of(address: &Address, source: io::Error) -> Self {
        let address = address.clone();
        match source.kind() {
            io::ErrorKind::NotFound => ConnectError::NotFound { address, source },
            io::ErrorKind::ConnectionRefused => ConnectError::Refused { address, source },
            io::ErrorKind::PermissionDenied => ConnectError::PermissionDenied { address, source },
            io::ErrorKind::TimedOut | io::ErrorKind::WouldBlock => ConnectError::Timeout { address, source },
            _ => ConnectError::Io { address, source },
        }
    }

    /// Whether it may be otherwise in a moment: a listener begins, or has room again.
    pub(super) fn may_pass(&self) -> bool {
        match self {
            ConnectError::NotFound { .. } | ConnectError::Refused { .. } | ConnectError::Timeout { .. } => {
                true
            }
            // A listener that ends while one waits in its backlog.
            ConnectError::Io { source, .. } => {
                matches!(source.kind(), io::ErrorKind::ConnectionReset | io::ErrorKind::ConnectionAborted)
            }
            _ => false,
        }
    }

    /// The same, after which there was no time left.
    pub(super) fn at_the_deadline(self) -> Self {
        match self {
            ConnectError::NotFound { address, source }
            | ConnectError::Refused { address, source }
            | ConnectError::Io { address, source } => ConnectError::Timeout { address, source },
            other => other,
        }
    }
}

impl Classify for ConnectError {
    fn kind(&self) -> ErrorKind {
        match self {
            ConnectError::Address(error) => error.kind(),
            ConnectError::NotFound { .. } | ConnectError::Unresolved { .. } => ErrorKind::NotFound,
            ConnectError::Refused { .. } => ErrorKind::NotConnected,
            ConnectError::PermissionDenied { .. } => ErrorKind::PermissionDenied,
            ConnectError::Timeout { .. } => ErrorKind::Timeout,
            ConnectError::NoPort { .. } | ConnectError::NotLoopback { .. } => ErrorKind::InvalidInput,
            ConnectError::Handshake { source, .. } => source.kind(),
            ConnectError::Io { source, .. } => ErrorKind::of_io(source),
        }
    }
}
