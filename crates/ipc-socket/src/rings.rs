//! A connection over shared memory: a ring each way, and the Unix socket over which the two came to know each other.
//!
//! After the handshake the listener makes both rings and sends the client its ends ([`Offer`]) over the socket, which stays
//! open: it carries what memory cannot, and its end is the end of the connection for who has it among other descriptors.
//!
//! ```text
//!  frames of a ring    kind 0, 1, 2   as those of a stream: message (fingerprint first), bytes, control
//!                      kind 3         the next message is on the socket, with its descriptors; no payload
//! ```
//!
//! A message with handles takes its place in the ring first, then goes out over the socket, then its place is shown: it is
//! in order with all others, and who is killed in between has sent nothing. On the socket are just those messages.

mod receiving;
mod sending;

use ipc_core::{Error, ErrorKind};
use ipc_shm::ring::{RingReader, RingWriter, ring};
use ipc_stream::{Rx, Tx, Until};
use serde::{Deserialize, Serialize};

use crate::handshake::HandshakeError;
pub(crate) use receiving::RingRx;
pub(crate) use sending::RingTx;

const MESSAGE: u32 = 0;
const BYTES: u32 = 1;
const CONTROL: u32 = 2;
const ON_THE_SOCKET: u32 = 3;

/// A buffer that one message has made longer than this is given back.
const KEEP_MAX: usize = 1 << 20;

const VERSION: u8 = 1;

/// What the listener sends: the client's ends.
#[derive(Serialize, Deserialize)]
struct Offer<W, R> {
    version: u8,
    writer: W,
    reader: R,
}

fn failed(error: impl Into<Error>) -> HandshakeError {
    let error = error.into();
    match error.kind() {
        ErrorKind::Disconnected | ErrorKind::Truncated => HandshakeError::Disconnected,
        ErrorKind::Timeout => HandshakeError::Timeout,
        _ => HandshakeError::Memory(error),
    }
}

/// The listener's part, with rings of so many bytes. It does not wait: nothing else is on the socket.
pub(crate) fn offer(mut tx: Tx, rx: Rx, bytes: usize) -> Result<(RingTx, RingRx), HandshakeError> {
    let (writer, theirs) = ring(bytes).map_err(failed)?;
    let (their_writer, reader) = ring(bytes).map_err(failed)?;
    let offer = Offer { version: VERSION, writer: &their_writer, reader: &theirs };
    tx.send(&offer, Until::Now).map_err(failed)?;
    Ok((RingTx::new(writer, tx), RingRx::new(reader, rx)))
}

/// The client's part.
pub(crate) fn accept(tx: Tx, mut rx: Rx, until: Until) -> Result<(RingTx, RingRx), HandshakeError> {
    let offer = rx.recv::<Offer<RingWriter, RingReader>>(until).map_err(failed)?;
    if offer.version != VERSION {
        return Err(crate::auth::AuthError::Version(offer.version).into());
    }
    Ok((RingTx::new(offer.writer, tx), RingRx::new(offer.reader, rx)))
}

#[cfg(test)]
mod tests;
