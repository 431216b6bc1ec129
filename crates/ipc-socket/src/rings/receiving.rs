//! The receiving side.

use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;

use ipc_core::frame::{FrameError, FrameKind};
use ipc_core::{Codec, Limits, RecvError, handle};
use ipc_os::{Readiness, Waitable};
use ipc_shm::ring::{Frame, RingReader};
use ipc_stream::{End, Rx, Until};
use serde::de::DeserializeOwned;

use super::{BYTES, CONTROL, KEEP_MAX, MESSAGE, ON_THE_SOCKET};

#[derive(Debug)]
pub(crate) struct RingRx {
    ring: RingReader,
    /// What has handles comes out of here.
    pub(crate) rx: Rx,
    codec: Codec,
    /// Where messages are copied to, and decoded from: what the sender could still write over is not decoded. It only
    /// grows, up to `KEEP_MAX`.
    buf: Vec<u8>,
    /// The next message is on the socket, as far as it has come.
    awaits: bool,
}

impl RingRx {
    pub(crate) fn new(ring: RingReader, rx: Rx) -> Self {
        RingRx { ring, rx, codec: Codec::default(), buf: Vec::new(), awaits: false }
    }

    /// The socket's.
    pub(crate) fn end(&self) -> &Arc<End> {
        self.rx.end()
    }

    pub(crate) fn set_end(&mut self, end: Arc<End>) {
        self.rx.set_end(end);
    }

    pub(crate) fn ring(&self) -> &RingReader {
        &self.ring
    }

    pub(crate) fn readiness(&self) -> Readiness<'_> {
        match self.awaits {
            false => self.ring.readiness(),
            true if self.rx.is_ready() => Readiness::Now,
            true => Readiness::Descriptor(self.rx.end().as_fd()),
        }
    }

    #[inline]
    pub(crate) fn recv_behind<T: DeserializeOwned>(
        &mut self,
        prefix: &[u8; 8],
        until: Until,
    ) -> Result<Option<T>, RecvError> {
        let frame = next(&mut self.ring, until)?;
        match frame.kind() {
            MESSAGE => {}
            ON_THE_SOCKET => {
                let message = self.rx.recv_behind(prefix, until);
                let is_over = matches!(message, Ok(Some(_))) || is_over(&message);
                self.awaits = !is_over;
                if is_over {
                    frame.release();
                }
                return message;
            }
            _ => return Ok(None),
        }
        let Some(len) = frame.len().checked_sub(prefix.len()) else { return Ok(None) };
        let mut found = [0; 8];
        copy(&frame, 0, &mut found)?;
        if found != *prefix {
            return Ok(None);
        }
        if self.buf.len() < len {
            self.buf.resize(len, 0);
        }
        copy(&frame, prefix.len(), &mut self.buf[..len])?;
        frame.release();
        let decoded = handle::incoming([], || self.codec.decode(&self.buf[..len]));
        if len > KEEP_MAX {
            self.buf = Vec::new();
        }
        Ok(Some(decoded?))
    }

    pub(crate) fn recv_bytes(&mut self, until: Until) -> Result<Vec<u8>, RecvError> {
        Ok(next_bytes(&mut self.ring, until)?.take())
    }

    pub(crate) fn recv_bytes_into(&mut self, buf: &mut [u8], until: Until) -> Result<usize, RecvError> {
        let frame = next_bytes(&mut self.ring, until)?;
        let len = frame.len();
        let Some(into) = buf.get_mut(..len) else {
            return Err(RecvError::TooSmall { message: frame.take(), capacity: buf.len() });
        };
        copy(&frame, 0, into)?;
        frame.release();
        Ok(len)
    }

    pub(crate) fn recv_frame(
        &mut self,
        payload: &mut Vec<u8>,
        descriptors: &mut Vec<OwnedFd>,
        until: Until,
    ) -> Result<FrameKind, RecvError> {
        let frame = next(&mut self.ring, until)?;
        let kind = match frame.kind() {
            MESSAGE => FrameKind::Message,
            BYTES => FrameKind::Bytes,
            CONTROL => FrameKind::Control,
            ON_THE_SOCKET => {
                let kind = self.rx.recv_frame(payload, descriptors, until);
                let is_over = kind.is_ok() || is_over(&kind);
                self.awaits = !is_over;
                if is_over {
                    frame.release();
                }
                return kind;
            }
            kind => return Err(unknown(kind)),
        };
        payload.extend(frame.take());
        Ok(kind)
    }

    pub(crate) fn poll(&mut self, until: Until) -> Result<bool, RecvError> {
        // A time too far ahead for the ring is for ever there too.
        if !self.ring.poll(until.left().unwrap_or(std::time::Duration::MAX))? {
            return Ok(false);
        }
        match self.ring.try_peek() {
            Ok(frame) if frame.kind() == ON_THE_SOCKET => {
                self.awaits = true;
                self.rx.poll(until)
            }
            // The next receive tells of it.
            _ => Ok(true),
        }
    }

    /// What the next frame is, if all of it is here.
    pub(crate) fn kind(&mut self) -> Option<FrameKind> {
        match self.ring.try_peek().ok()?.kind() {
            MESSAGE => Some(FrameKind::Message),
            BYTES => Some(FrameKind::Bytes),
            CONTROL => Some(FrameKind::Control),
            ON_THE_SOCKET => self.rx.kind(),
            _ => None,
        }
    }

    pub(crate) fn set_limits(&mut self, limits: Limits) {
        self.codec = Codec::new(limits);
        self.ring.set_limits(limits);
        self.rx.set_limits(limits);
    }
}

/// The next frame, where it lies.
#[inline]
fn next(ring: &mut RingReader, until: Until) -> Result<Frame<'_>, RecvError> {
    match until {
        Until::Forever => ring.peek(),
        Until::Now => ring.try_peek(),
        Until::At(_) => {
            if !ring.poll(until.left().unwrap_or_default())? {
                return Err(RecvError::Timeout);
            }
            ring.try_peek()
        }
    }
}

fn next_bytes(ring: &mut RingReader, until: Until) -> Result<Frame<'_>, RecvError> {
    let frame = next(ring, until)?;
    Err(match frame.kind() {
        BYTES => return Ok(frame),
        MESSAGE | ON_THE_SOCKET => RecvError::wrong_kind(FrameKind::Message),
        CONTROL => RecvError::wrong_kind(FrameKind::Control),
        kind => unknown(kind),
    })
}

/// Whether the message of a place was taken off the socket, or will never be there; else it is still to be had.
fn is_over<T>(result: &Result<T, RecvError>) -> bool {
    use RecvError::{Decode, Disconnected, MissingHandles, Truncated};
    matches!(result, Err(Decode(_) | MissingHandles { .. } | Truncated { .. } | Disconnected))
}

#[inline]
fn copy(frame: &Frame<'_>, from: usize, into: &mut [u8]) -> Result<(), RecvError> {
    // The frame was asked for its length.
    frame.read(from, into).map_err(|error| RecvError::Io(std::io::Error::other(error)))
}

#[cold]
fn unknown(kind: u32) -> RecvError {
    RecvError::Frame(FrameError::NotAFrame(u64::from(kind).to_le_bytes()))
}
