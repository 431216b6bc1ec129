//! How a connection is written into a message, and what it takes along.
//!
//! The socket travels, and with it what its last owner had not put out or taken out: the rest of a message that has begun,
//! what was read ahead, messages that were looked at and left. The rings of one over shared memory travel by themselves.
//! Limits do not: they protect the process that receives. The peer notices nothing.

use std::collections::VecDeque;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;

use ipc_core::frame::FrameKind;
use ipc_core::handle::{self, Bundle, Kind};
use ipc_core::{Fd, handle_kind};
use ipc_os::socket::{Family, stream_family};
use ipc_shm::ring::{RingReader, RingWriter};
use ipc_stream::{End, Part, Rx, Transport, Tx};
use serde::de::Error as _;
use serde::ser::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::carrier::{In, Out, layout};
use crate::connection::Connection;
use crate::credentials::Credentials;
use crate::receiving::Held;
use crate::rings::{RingRx, RingTx};

const KIND: Kind = handle_kind!("socket.connection");
const VERSION: u8 = 1;

/// The socket itself: it has a single owner.
struct Socket(Arc<OwnedFd>);

impl Serialize for Socket {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut bundle = Bundle::default();
        bundle.version = VERSION;
        bundle.descriptors = vec![Arc::clone(&self.0)];
        bundle.exclusive = true;
        bundle.serialize(KIND, serializer)
    }
}

impl<'de> Deserialize<'de> for Socket {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let mut bundle = Bundle::deserialize(KIND, true, deserializer)?;
        match (bundle.version, bundle.descriptors.pop()) {
            (VERSION, Some(fd)) if bundle.descriptors.is_empty() => Ok(Socket(fd)),
            (VERSION, _) => Err(D::Error::custom("a connection's handle is broken: it has one descriptor")),
            _ => Err(D::Error::custom("a connection's handle is of another version of this crate")),
        }
    }
}

/// Bytes of the stream, and the descriptors that belong to them.
#[derive(Serialize, Deserialize)]
struct Piece {
    bytes: Vec<u8>,
    descriptors: Vec<Fd>,
}

impl Piece {
    fn owned(self) -> io::Result<(Vec<u8>, Vec<OwnedFd>)> {
        let descriptors = self.descriptors.into_iter().map(Fd::into_owned).collect::<io::Result<_>>()?;
        Ok((self.bytes, descriptors))
    }
}

/// The rings, as they go and as they arrive. Without a writer, the way out was closed.
#[derive(Serialize, Deserialize)]
struct Rings<W, R> {
    writer: Option<W>,
    reader: R,
}

#[derive(Serialize, Deserialize)]
struct Travelling<W, R> {
    socket: Socket,
    python: bool,
    /// What has begun to go out.
    rest: Piece,
    /// What was read ahead.
    unread: Piece,
    /// What was taken out of the stream before that, and by whom it is to be received: 0 `recv`, 1 `recv_bytes`.
    held: Vec<(u8, Piece)>,
    rings: Option<Rings<W, R>>,
}

/// Clones, which the message owns: what is here stays as it is if the message does not go.
fn clones<'a>(descriptors: impl IntoIterator<Item = &'a OwnedFd>) -> io::Result<Vec<Fd>> {
    descriptors.into_iter().map(|fd| Ok(Fd::new(fd.try_clone()?))).collect()
}

/// A connection travels inside a message, over carriers that move handles: once the message has gone, it is the receiver's,
/// and here all fails with `Moved`. What it has not received yet goes along.
impl Serialize for Connection {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let Connection { sending, receiving, .. } = self;
        let end = sending.out.end();
        if end.is_moved() {
            return Err(S::Error::custom("this connection was moved to another process"));
        }
        let (tx, rx, rings) = match (&sending.out, &receiving.back) {
            (Out::Stream(tx), In::Stream(rx)) => (tx, rx, None),
            (Out::Rings(out), In::Rings(back)) => {
                (&out.tx, &back.rx, Some(Rings { writer: out.ring(), reader: back.ring() }))
            }
            _ => return Err(S::Error::custom("a connection has both directions over one carrier")),
        };
        let failed = |error: io::Error| S::Error::custom(error);
        let ((rest, rest_fds), (unread, unread_fds)) = (tx.rest(), rx.unread());
        let held = receiving.held.iter().map(|held| {
            let kind = if held.kind == FrameKind::Bytes { 1 } else { 0 };
            let descriptors = clones(&held.descriptors)?;
            Ok((kind, Piece { bytes: held.payload.clone(), descriptors }))
        });
        let travelling = Travelling {
            socket: Socket(Arc::clone(end.descriptor())),
            python: sending.python,
            rest: Piece {
                bytes: rest.to_vec(),
                descriptors: rest_fds.iter().map(|fd| Fd::from(Arc::clone(fd))).collect(),
            },
            unread: Piece { bytes: unread.to_vec(), descriptors: clones(unread_fds).map_err(failed)? },
            held: held.collect::<io::Result<_>>().map_err(failed)?,
            rings,
        };
        let done = travelling.serialize(serializer)?;
        let end = Arc::clone(end);
        handle::on_commit(move || end.retire());
        Ok(done)
    }
}

impl<'de> Deserialize<'de> for Connection {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let travelling = Travelling::<RingWriter, RingReader>::deserialize(deserializer)?;
        arrived(travelling).map_err(D::Error::custom)
    }
}

fn arrived(travelling: Travelling<RingWriter, RingReader>) -> io::Result<Connection> {
    let Travelling { socket, python, rest, unread, held, rings } = travelling;
    let broken = |what| io::Error::new(io::ErrorKind::InvalidData, what);
    let transport = match stream_family(&socket.0)? {
        Some(Family::Unix) => Transport::Unix,
        Some(Family::Network) => Transport::Network,
        None => return Err(broken("a connection's handle is broken: its descriptor is no stream")),
    };
    if rings.is_some() && (python || transport != Transport::Unix) {
        return Err(broken("a connection's handle is broken: rings without a Unix socket"));
    }
    let peer = match transport {
        Transport::Unix => Some(Credentials::of(socket.0.as_fd())?),
        _ => None,
    };
    let end = End::new(socket.0, transport, Part::Whole);
    let rest_descriptors = rest.descriptors.into_iter().map(Fd::into_owned);
    let rest_descriptors = rest_descriptors.map(|fd| fd.map(Arc::new)).collect::<io::Result<_>>()?;
    let tx = Tx::with_rest(Arc::clone(&end), rest.bytes, rest_descriptors).layout(layout(python));
    let (unread, descriptors) = unread.owned()?;
    let rx = Rx::with_unread(end, unread, descriptors.into()).layout(layout(python));
    let (out, back) = match rings {
        None => (Out::Stream(tx), In::Stream(rx)),
        Some(Rings { writer, reader }) => {
            (Out::Rings(Box::new(RingTx::new(writer, tx))), In::Rings(Box::new(RingRx::new(reader, rx))))
        }
    };
    let mut connection = Connection::over(out, back, peer, python);
    connection.receiving.held = held
        .into_iter()
        .map(|(kind, piece)| {
            let kind = if kind == 1 { FrameKind::Bytes } else { FrameKind::Message };
            let (payload, descriptors) = piece.owned()?;
            Ok(Held { kind, payload, descriptors })
        })
        .collect::<io::Result<VecDeque<_>>>()?;
    Ok(connection)
}
