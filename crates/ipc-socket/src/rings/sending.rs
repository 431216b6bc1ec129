//! The sending side.

use std::sync::Arc;

use ipc_core::{Codec, Limits, SendAllError, SendError, handle};
use ipc_shm::ring::{Reserved, RingWriter};
use ipc_stream::{End, Tx, Until};
use serde::Serialize;

use super::{BYTES, CONTROL, KEEP_MAX, MESSAGE, ON_THE_SOCKET};

/// A peer that was killed is noticed when this end would wait, and after so many messages at the latest, of which one
/// counts for each `COUNTS_TWICE` bytes of it more.
const ASK_AFTER: usize = 256;
const COUNTS_TWICE: usize = 256;

#[derive(Debug)]
pub(crate) struct RingTx {
    /// `None` once it was closed.
    ring: Option<RingWriter>,
    /// What has handles goes through here.
    pub(crate) tx: Tx,
    codec: Codec,
    /// Where messages are encoded, and batches gathered.
    buf: Vec<u8>,
    /// Where the messages of the batch end.
    ends: Vec<usize>,
    /// Messages since the kernel was asked for the peer.
    unasked: usize,
}

impl RingTx {
    pub(crate) fn new(ring: impl Into<Option<RingWriter>>, tx: Tx) -> Self {
        let codec = Codec::default();
        RingTx { ring: ring.into(), tx, codec, buf: Vec::new(), ends: Vec::new(), unasked: 0 }
    }

    /// The socket's.
    pub(crate) fn end(&self) -> &Arc<End> {
        self.tx.end()
    }

    pub(crate) fn set_end(&mut self, end: Arc<End>) {
        self.tx.set_end(end);
    }

    pub(crate) fn ring(&self) -> Option<&RingWriter> {
        self.ring.as_ref()
    }

    /// The peer reads what is there, and then the end.
    pub(crate) fn close(&mut self) {
        self.ring = None;
    }

    #[inline]
    pub(crate) fn send_behind<T: Serialize>(
        &mut self,
        prefix: &[u8],
        message: &T,
        until: Until,
    ) -> Result<(), SendError> {
        self.buf.clear();
        if self.encode(prefix, message)? {
            return self.send_on_the_socket(prefix, message, until);
        }
        let way = self.make_way(self.buf.len(), until);
        let sent = way.and_then(|()| write(&mut self.ring, MESSAGE, &self.buf, until));
        self.done();
        sent
    }

    pub(crate) fn send_bytes(&mut self, bytes: &[u8], until: Until) -> Result<(), SendError> {
        self.make_way(bytes.len(), until)?;
        write(&mut self.ring, BYTES, bytes, until)
    }

    pub(crate) fn send_control(&mut self, bytes: &[u8], until: Until) -> Result<(), SendError> {
        self.make_way(bytes.len(), until)?;
        write(&mut self.ring, CONTROL, bytes, until)
    }

    /// Appends a message to the buffer; or, if it has handles, nothing. Whether it has.
    #[inline]
    fn encode<T: Serialize>(&mut self, prefix: &[u8], message: &T) -> Result<bool, SendError> {
        let start = self.buf.len();
        self.buf.extend_from_slice(prefix);
        let encoded = handle::outgoing(|| self.codec.encode(message, &mut self.buf));
        match encoded {
            Ok(((), handles)) if handles.is_empty() => {
                // Nothing is in it; this spares the hot path the code that would drop what is.
                std::mem::forget(handles);
                Ok(false)
            }
            Ok(_) => {
                self.buf.truncate(start);
                Ok(true)
            }
            Err(error) => {
                self.buf.truncate(start);
                Err(error.into())
            }
        }
    }

    /// Puts out what is in the way of another frame.
    #[inline]
    fn make_way(&mut self, len: usize, until: Until) -> Result<(), SendError> {
        self.unasked += 1 + len / COUNTS_TWICE;
        if self.unasked >= ASK_AFTER || !self.tx.rest().0.is_empty() {
            self.look_after(until)?;
        }
        Ok(())
    }

    #[cold]
    fn look_after(&mut self, until: Until) -> Result<(), SendError> {
        self.unasked = 0;
        if self.ring.as_ref().is_some_and(RingWriter::is_disconnected) {
            // Whoever has had the other end, it does not come back.
            self.close();
            return Err(SendError::Disconnected);
        }
        // The reader has come to the place of a message of which some is still here.
        self.tx.flush(until).map_err(|error| match error {
            SendError::Begun { .. } => nothing_went(until),
            error => error,
        })
    }

    /// A message with handles.
    #[cold]
    fn send_on_the_socket<T: Serialize>(
        &mut self,
        prefix: &[u8],
        message: &T,
        until: Until,
    ) -> Result<(), SendError> {
        self.make_way(0, until)?;
        let RingTx { ring: Some(ring), tx, .. } = self else { return Err(SendError::Disconnected) };
        loop {
            let place = reserve(ring, until)?;
            match tx.send_behind(prefix, message, Until::Now) {
                Ok(()) => return place.commit(ON_THE_SOCKET),
                Err(SendError::Begun { left }) => {
                    place.commit(ON_THE_SOCKET)?;
                    return match until {
                        Until::Now => Err(SendError::Begun { left }),
                        _ => tx.flush(until),
                    };
                }
                Err(SendError::Full) if until.is_over() => return Err(nothing_went(until)),
                Err(SendError::Full) => {
                    // The reader has not come to those before.
                    drop(place);
                    tx.end().wait_for_room(until).map_err(SendError::Io)?;
                }
                Err(error) => {
                    if !tx.rest().0.is_empty() {
                        // It has begun, and the rest will go.
                        place.commit(ON_THE_SOCKET)?;
                    }
                    return Err(error);
                }
            }
        }
    }

    pub(crate) fn begin_batch(&mut self) -> Result<(), SendError> {
        // What a panic has left of an earlier one.
        self.buf.clear();
        self.ends.clear();
        self.make_way(0, Until::Forever)
    }

    pub(crate) fn batch<T: Serialize>(
        &mut self,
        prefix: &[u8],
        message: &T,
        full: usize,
    ) -> Result<(), SendError> {
        if self.encode(prefix, message)? {
            self.put_batch()?;
            return self.send_on_the_socket(prefix, message, Until::Forever);
        }
        self.ends.push(self.buf.len());
        if self.buf.len() >= full { self.put_batch() } else { Ok(()) }
    }

    pub(crate) fn has_gathered(&self) -> bool {
        !self.ends.is_empty()
    }

    pub(crate) fn put_batch(&mut self) -> Result<(), SendError> {
        self.unasked += self.ends.len();
        let asked = self.make_way(self.buf.len(), Until::Forever);
        let starts = std::iter::once(0).chain(self.ends.iter().copied());
        let frames = starts.zip(&self.ends).map(|(from, to)| (MESSAGE, &self.buf[from..*to]));
        let put = match (asked, &mut self.ring) {
            (Ok(()), Some(ring)) => {
                ring.write_many(frames).map(drop).map_err(|SendAllError { source, .. }| source)
            }
            (asked, _) => asked.and(Err(SendError::Disconnected)),
        };
        self.ends.clear();
        self.done();
        put
    }

    fn done(&mut self) {
        if self.buf.capacity() > KEEP_MAX {
            self.buf = Vec::new();
        }
        self.buf.clear();
    }

    pub(crate) fn flush(&mut self, until: Until) -> Result<(), SendError> {
        let Some(ring) = &mut self.ring else { return Err(SendError::Disconnected) };
        match until.left() {
            None => ring.flush()?,
            Some(left) => ring.flush_timeout(left)?,
        }
        self.tx.flush(until)
    }

    pub(crate) fn set_limits(&mut self, limits: Limits) {
        self.codec = Codec::new(limits);
        self.tx.set_limits(limits);
        if let Some(ring) = &mut self.ring {
            ring.set_limits(limits);
        }
    }
}

#[inline]
fn write(ring: &mut Option<RingWriter>, kind: u32, bytes: &[u8], until: Until) -> Result<(), SendError> {
    let Some(ring) = ring else { return Err(SendError::Disconnected) };
    match until {
        Until::Forever => ring.write(kind, bytes),
        Until::Now => ring.try_write(kind, bytes),
        Until::At(_) => in_time(ring.write_timeout(kind, bytes, until.left().unwrap_or_default())),
    }
}

/// The place of a message that is on the socket.
fn reserve(ring: &mut RingWriter, until: Until) -> Result<Reserved<'_>, SendError> {
    match until {
        Until::Forever => ring.reserve(0),
        Until::Now => ring.try_reserve(0),
        Until::At(_) => in_time(ring.reserve_timeout(0, until.left().unwrap_or_default())),
    }
}

/// With no time left at all the ring was merely looked at.
fn in_time<T>(result: Result<T, SendError>) -> Result<T, SendError> {
    match result {
        Err(SendError::Full) => Err(SendError::Timeout),
        other => other,
    }
}

fn nothing_went(until: Until) -> SendError {
    if matches!(until, Until::Now) { SendError::Full } else { SendError::Timeout }
}
