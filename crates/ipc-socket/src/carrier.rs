//! What a connection goes over: a stream, or rings in shared memory.

use std::os::fd::OwnedFd;
use std::sync::{Arc, Weak};

use ipc_core::frame::{FrameKind, Layout};
use ipc_core::{Limits, RecvError, SendError};
use ipc_os::Readiness;
use ipc_shm::ring;
use ipc_stream::{End, Rx, Tx, Until};
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::os::fd::AsFd;

use crate::rings::{RingRx, RingTx};

/// How the frames of a stream are laid out.
pub(crate) fn layout(python: bool) -> Layout {
    if python { Layout::Lengths } else { Layout::Frames }
}

/// Does the same with whichever it is.
macro_rules! either {
    ($self:expr, $io:ident => $call:expr) => {
        match $self {
            Self::Stream($io) => $call,
            Self::Rings($io) => $call,
        }
    };
}

/// The way out.
#[derive(Debug)]
pub(crate) enum Out {
    Stream(Tx),
    Rings(Box<RingTx>),
}

impl Out {
    /// The socket's.
    pub(crate) fn end(&self) -> &Arc<End> {
        either!(self, tx => tx.end())
    }

    pub(crate) fn set_end(&mut self, end: Arc<End>) {
        either!(self, tx => tx.set_end(end));
    }

    #[inline]
    pub(crate) fn send_behind<T: Serialize>(
        &mut self,
        prefix: &[u8],
        message: &T,
        until: Until,
    ) -> Result<(), SendError> {
        either!(self, tx => tx.send_behind(prefix, message, until))
    }

    #[inline]
    pub(crate) fn send_bytes(&mut self, bytes: &[u8], until: Until) -> Result<(), SendError> {
        either!(self, tx => tx.send_bytes(bytes, until))
    }

    pub(crate) fn send_control(&mut self, bytes: &[u8], until: Until) -> Result<(), SendError> {
        match self {
            Out::Stream(tx) => tx.send_parts(FrameKind::Control, &[bytes], &[], until),
            Out::Rings(rings) => rings.send_control(bytes, until),
        }
    }

    pub(crate) fn begin_batch(&mut self) -> Result<(), SendError> {
        either!(self, tx => tx.begin_batch())
    }

    #[inline]
    pub(crate) fn batch<T: Serialize>(
        &mut self,
        prefix: &[u8],
        message: &T,
        full: usize,
    ) -> Result<(), SendError> {
        either!(self, tx => tx.batch(prefix, message, full))
    }

    /// Whether something is in the batch that was not put out.
    pub(crate) fn has_gathered(&self) -> bool {
        either!(self, tx => tx.has_gathered())
    }

    pub(crate) fn put_batch(&mut self) -> Result<(), SendError> {
        either!(self, tx => tx.put_batch())
    }

    pub(crate) fn flush(&mut self, until: Until) -> Result<(), SendError> {
        either!(self, tx => tx.flush(until))
    }

    pub(crate) fn set_limits(&mut self, limits: Limits) {
        either!(self, tx => tx.set_limits(limits));
    }

    /// The peer receives what was sent, and then the end.
    pub(crate) fn close(&mut self) -> std::io::Result<()> {
        if let Out::Rings(rings) = self {
            rings.close();
        }
        ipc_os::socket::shutdown(self.end().as_fd(), std::net::Shutdown::Write)
    }
}

/// The way in.
#[derive(Debug)]
pub(crate) enum In {
    Stream(Rx),
    Rings(Box<RingRx>),
}

impl In {
    /// The socket's.
    pub(crate) fn end(&self) -> &Arc<End> {
        either!(self, rx => rx.end())
    }

    pub(crate) fn set_end(&mut self, end: Arc<End>) {
        either!(self, rx => rx.set_end(end));
    }

    #[inline]
    pub(crate) fn recv_behind<T: DeserializeOwned>(
        &mut self,
        prefix: &[u8; 8],
        until: Until,
    ) -> Result<Option<T>, RecvError> {
        either!(self, rx => rx.recv_behind(prefix, until))
    }

    pub(crate) fn recv_bytes(&mut self, until: Until) -> Result<Vec<u8>, RecvError> {
        either!(self, rx => rx.recv_bytes(until))
    }

    pub(crate) fn recv_bytes_into(&mut self, buf: &mut [u8], until: Until) -> Result<usize, RecvError> {
        either!(self, rx => rx.recv_bytes_into(buf, until))
    }

    pub(crate) fn recv_frame(
        &mut self,
        payload: &mut Vec<u8>,
        descriptors: &mut Vec<OwnedFd>,
        until: Until,
    ) -> Result<FrameKind, RecvError> {
        either!(self, rx => rx.recv_frame(payload, descriptors, until))
    }

    pub(crate) fn poll(&mut self, until: Until) -> Result<bool, RecvError> {
        either!(self, rx => rx.poll(until))
    }

    /// What the next frame is, if all of it is here.
    pub(crate) fn kind(&mut self) -> Option<FrameKind> {
        either!(self, rx => rx.kind())
    }

    pub(crate) fn readiness(&self) -> Readiness<'_> {
        match self {
            In::Stream(rx) if rx.is_ready() => Readiness::Now,
            In::Stream(rx) => Readiness::Descriptor(rx.end().as_fd()),
            In::Rings(rings) => rings.readiness(),
        }
    }

    pub(crate) fn set_limits(&mut self, limits: Limits) {
        either!(self, rx => rx.set_limits(limits));
    }
}

/// Closes a connection, from any thread: who waits on it here is woken, and the peer is told as if the connection had been
/// dropped. What was received can still be taken; all else fails with `Disconnected`. It does not keep the connection
/// open, and does nothing to one that was dropped or has moved.
///
/// ```
/// use ipc_socket::{Client, Listener, RecvError};
///
/// let directory = tempfile::tempdir()?;
/// let address = format!("unix:{}", directory.path().join("app.sock").display());
/// let mut listener = Listener::bind(address.as_str())?;
/// let client = std::thread::spawn(move || Client::connect(address.as_str()));
/// let mut connection = listener.accept()?;
/// let _client = client.join().unwrap()?;
///
/// let closer = connection.closer();
/// let waiting = std::thread::spawn(move || connection.recv::<u32>());
/// closer.close();
/// assert!(matches!(waiting.join().unwrap(), Err(RecvError::Disconnected)));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone)]
pub struct Closer {
    socket: Weak<OwnedFd>,
    rings: Vec<ring::Closer>,
}

impl Closer {
    pub(crate) fn of(out: &Out, back: &In) -> Self {
        let mut rings = Vec::new();
        if let (Out::Rings(out), In::Rings(back)) = (out, back) {
            rings.extend(out.ring().map(|ring| ring.closer()));
            rings.push(back.ring().closer());
        }
        Closer { socket: Arc::downgrade(out.end().descriptor()), rings }
    }

    /// Closes it.
    pub fn close(&self) {
        if let Some(socket) = self.socket.upgrade() {
            // The peer may be gone already.
            let _ = ipc_os::socket::shutdown(socket.as_fd(), std::net::Shutdown::Both);
        }
        self.rings.iter().for_each(ring::Closer::close);
    }
}
