//! What can go wrong with accepting somebody.

use std::io;

use ipc_core::{Classify, ErrorKind};

use crate::address::Address;
use crate::bind::TakeError;
use crate::handshake::HandshakeError;

/// Why no connection was accepted. The listener goes on.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AcceptError {
    /// Nobody came in time.
    #[error("nobody connected in time")]
    Timeout,
    /// Somebody came, and was not let in.
    #[error("somebody{} was not let in", from.as_ref().map(|from| format!(" from {from}")).unwrap_or_default())]
    Handshake {
        /// Where from, if over TCP.
        from: Option<Address>,
        /// Why.
        source: HandshakeError,
    },
    /// There is no descriptor or no memory for another connection: close some, or raise the limit (`ulimit -n`). For the
    /// next 50 ms nobody is taken, so that calling again at once costs nothing.
    #[error("no descriptor or memory for another connection: close some, or raise the limit (`ulimit -n`)")]
    Exhausted(#[source] io::Error),
    /// The system reports something else.
    #[error("cannot accept connections")]
    Io(#[source] io::Error),
}

impl Classify for AcceptError {
    fn kind(&self) -> ErrorKind {
        match self {
            AcceptError::Timeout => ErrorKind::Timeout,
            AcceptError::Handshake { source, .. } => source.kind(),
            AcceptError::Exhausted(_) => ErrorKind::Limit,
            AcceptError::Io(error) => ErrorKind::of_io(error),
        }
    }
}

impl From<TakeError> for AcceptError {
    fn from(error: TakeError) -> Self {
        match error {
            TakeError::Exhausted(error) => AcceptError::Exhausted(error),
            TakeError::Io(error) => AcceptError::Io(error),
        }
    }
}
