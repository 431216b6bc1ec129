//! Sending frames through an end.
//!
//! | state | what a send does |
//! |---|---|
//! | nothing pending | puts its frame out; if that would wait too long after some of it has gone, the rest becomes pending (`Begun`) |
//! | a rest is pending | puts the rest out first; if that would wait too long, nothing of the new frame (`Full`, `Timeout`) |
//!
//! A frame's descriptors go with its first bytes, at most 253 a call, one byte a call until the last of them.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;

use ipc_core::frame::{FrameKind, HEADER_LEN, Header};
use ipc_core::{Codec, Limits, SendError, handle};
use ipc_os::socket::{DESCRIPTORS_MAX, Mode};
use serde::Serialize;

use crate::end::{End, Until};

/// Up to this length bytes are copied behind their header, to leave in one plain write; longer ones are gathered.
const COPY_MAX: usize = 8 << 10;

/// A scratch buffer that one message has made longer than this is given back.
const KEEP_MAX: usize = 1 << 20;

/// What is left of a frame that has begun to go out.
#[derive(Debug, Default)]
struct Pending {
    bytes: Vec<u8>,
    at: usize,
    descriptors: Vec<Arc<OwnedFd>>,
}

#[derive(Debug)]
pub(crate) struct Tx {
    pub(crate) end: Arc<End>,
    codec: Codec,
    /// Where messages are encoded.
    buf: Vec<u8>,
    pending: Option<Box<Pending>>,
}

impl Tx {
    pub(crate) fn new(end: Arc<End>) -> Self {
        let codec = Codec::default();
        Tx { end, codec, buf: Vec::new(), pending: None }
    }

    /// An end that arrived with the rest of a frame which its last owner began.
    pub(crate) fn with_rest(end: Arc<End>, bytes: Vec<u8>, descriptors: Vec<Arc<OwnedFd>>) -> Self {
        let mut tx = Tx::new(end);
        if !bytes.is_empty() {
            tx.pending = Some(Box::new(Pending { bytes, at: 0, descriptors }));
        }
        tx
    }

    /// The rest of a frame that has begun: its bytes and descriptors.
    pub(crate) fn rest(&self) -> (&[u8], &[Arc<OwnedFd>]) {
        match &self.pending {
            Some(pending) => (&pending.bytes[pending.at..], &pending.descriptors),
            None => (&[], &[]),
        }
    }

    pub(crate) fn set_limits(&mut self, limits: Limits) {
        self.codec = Codec::new(limits);
    }

    #[inline]
    pub(crate) fn send<T: Serialize + ?Sized>(&mut self, message: &T, until: Until) -> Result<(), SendError> {
        self.make_way(until)?;
        self.buf.clear();
        let handles = self.encode(message)?;
        if handles.descriptors().is_empty() {
            self.put_buf(until)?;
            handles.commit();
            return Ok(());
        }
        let sent = self.put_with_handles(handles.descriptors().to_vec(), until);
        // A frame that has begun arrives whole: what it carries has moved.
        if matches!(sent, Ok(()) | Err(SendError::Begun { .. })) {
            handles.commit();
        }
        sent
    }

    /// Appends one frame to the buffer; with an error the buffer is as it was.
    #[inline]
    fn encode<T: Serialize + ?Sized>(&mut self, message: &T) -> Result<handle::Outgoing, SendError> {
        let start = self.buf.len();
        self.buf.extend_from_slice(&[0; HEADER_LEN]);
        let encoded = handle::outgoing(|| self.codec.encode(message, &mut self.buf));
        let checked = encoded.map_err(SendError::from).and_then(|((), handles)| {
            let count = handles.descriptors().len();
            if count > 0 && !self.end.moves_handles() {
                return Err(SendError::Handles {
                    carrier: "a pipe",
                    count,
                    instead: "a duplex, or the arguments or result of a process",
                });
            }
            let len = self.buf.len() - start - HEADER_LEN;
            let header = Header::new(FrameKind::Message, len, count, self.codec.limits().frame_len_max)?;
            self.buf[start..start + HEADER_LEN].copy_from_slice(&header.to_bytes());
            Ok(handles)
        });
        if checked.is_err() {
            self.buf.truncate(start);
        }
        checked
    }

    pub(crate) fn send_bytes(&mut self, bytes: &[u8], until: Until) -> Result<(), SendError> {
        self.send_parts(FrameKind::Bytes, &[bytes], &[], until)
    }

    /// Sends one frame whose payload is the concatenation of `parts`.
    pub(crate) fn send_parts(
        &mut self,
        kind: FrameKind,
        parts: &[&[u8]],
        descriptors: &[BorrowedFd<'_>],
        until: Until,
    ) -> Result<(), SendError> {
        self.make_way(until)?;
        let count = descriptors.len();
        if count > 0 && !self.end.moves_handles() {
            return Err(SendError::Handles { carrier: "a pipe", count, instead: "a duplex" });
        }
        let len = parts.iter().map(|part| part.len()).sum();
        let header = Header::new(kind, len, count, self.codec.limits().frame_len_max)?.to_bytes();
        if let ([part], Until::Forever, 0) = (parts, until, count)
            && len > COPY_MAX
        {
            return self.put_gathered(&header, part);
        }
        self.buf.clear();
        self.buf.extend_from_slice(&header);
        parts.iter().for_each(|part| self.buf.extend_from_slice(part));
        if count == 0 {
            return self.put_buf(until);
        }
        let owned = descriptors.iter().map(|fd| fd.try_clone_to_owned().map(Arc::new));
        let owned = owned.collect::<io::Result<Vec<_>>>().map_err(SendError::Io)?;
        self.put_with_handles(owned, until)
    }

    /// Appends a frame to the batch; [`Tx::put_batch`] sends it. A message with handles goes out by itself, after
    /// what is in the batch.
    pub(crate) fn batch<T: Serialize + ?Sized>(&mut self, message: &T, full: usize) -> Result<(), SendError> {
        let start = self.buf.len();
        let handles = self.encode(message)?;
        if !handles.descriptors().is_empty() {
            let frame = self.buf.split_off(start);
            self.put_batch()?;
            self.buf = frame;
            let sent = self.put_with_handles(handles.descriptors().to_vec(), Until::Forever);
            self.buf.clear();
            if sent.is_ok() {
                handles.commit();
            }
            return sent;
        }
        handles.commit();
        if self.buf.len() >= full { self.put_batch() } else { Ok(()) }
    }

    /// Makes the buffer ready for a batch.
    pub(crate) fn begin_batch(&mut self) -> Result<(), SendError> {
        self.make_way(Until::Forever)?;
        self.buf.clear();
        Ok(())
    }

    pub(crate) fn put_batch(&mut self) -> Result<(), SendError> {
        let sent = if self.buf.is_empty() { Ok(()) } else { self.put_buf(Until::Forever) };
        self.buf.clear();
        sent
    }

    /// Puts the rest of a frame out that has begun; then the way is free for another.
    pub(crate) fn flush(&mut self, until: Until) -> Result<(), SendError> {
        if self.end.is_moved() {
            return Err(SendError::Moved);
        }
        let Some(mut pending) = self.pending.take() else { return Ok(()) };
        let done = self.put_pending(&mut pending, until);
        if pending.at < pending.bytes.len() && !matches!(done, Err(SendError::Disconnected)) {
            self.pending = Some(pending);
        }
        done
    }

    #[inline]
    fn make_way(&mut self, until: Until) -> Result<(), SendError> {
        if self.pending.is_none() && !self.end.is_moved() {
            return Ok(());
        }
        self.flush(until).map_err(|error| match (error, until) {
            (SendError::Begun { .. }, Until::Now) => SendError::Full,
            (SendError::Begun { .. }, _) => SendError::Timeout,
            (error, _) => error,
        })
    }

    /// Puts the frames in the buffer out.
    #[inline]
    fn put_buf(&mut self, until: Until) -> Result<(), SendError> {
        match until {
            Until::Forever => {
                let mut at = 0;
                while at < self.buf.len() {
                    match self.end.write(&self.buf[at..]) {
                        Ok(count) => at += count,
                        Err(error) => self.not_written(error, at)?,
                    }
                }
                if self.buf.capacity() > KEEP_MAX {
                    self.buf = Vec::new();
                }
                Ok(())
            }
            _ => self.put_or_keep(Vec::new(), until),
        }
    }

    fn put_with_handles(&mut self, descriptors: Vec<Arc<OwnedFd>>, until: Until) -> Result<(), SendError> {
        self.put_or_keep(descriptors, until)
    }

    /// Puts the frame in the buffer out as far as time allows, and keeps the rest of one that has begun.
    fn put_or_keep(&mut self, descriptors: Vec<Arc<OwnedFd>>, until: Until) -> Result<(), SendError> {
        let mut pending = Pending { bytes: std::mem::take(&mut self.buf), at: 0, descriptors };
        let done = self.put_pending(&mut pending, until);
        match &done {
            Err(SendError::Begun { .. }) => self.pending = Some(Box::new(pending)),
            Err(SendError::Io(_)) if pending.at > 0 => self.pending = Some(Box::new(pending)),
            _ => {
                self.buf = pending.bytes;
                self.buf.clear();
            }
        }
        done
    }

    fn put_pending(&self, pending: &mut Pending, until: Until) -> Result<(), SendError> {
        while pending.at < pending.bytes.len() {
            match self.put_some(pending, until) {
                Ok(()) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    if until.is_over() {
                        let left = pending.bytes.len() - pending.at;
                        return Err(match until {
                            _ if pending.at > 0 => SendError::Begun { left },
                            Until::Now => SendError::Full,
                            _ => SendError::Timeout,
                        });
                    }
                    ipc_os::poll_writable(self.end.as_fd(), until.left()).map_err(SendError::Io)?;
                }
                Err(error) => return Err(SendError::from_io(error)),
            }
        }
        Ok(())
    }

    /// One system call's worth of a frame.
    fn put_some(&self, pending: &mut Pending, until: Until) -> io::Result<()> {
        let bytes = &pending.bytes[pending.at..];
        let count = if pending.descriptors.is_empty() {
            match until {
                Until::Forever => self.end.write(bytes)?,
                _ => self.end.try_write(bytes)?,
            }
        } else {
            let mode = if matches!(until, Until::Forever) { Mode::Wait } else { Mode::Try };
            let now = pending.descriptors.len().min(DESCRIPTORS_MAX);
            let borrowed: Vec<_> = pending.descriptors[..now].iter().map(|fd| fd.as_fd()).collect();
            // All but the last group travel with a single byte, so that there is one left for each.
            let bytes = if now < pending.descriptors.len() { &bytes[..1] } else { bytes };
            let count = self.end.write_with(bytes, &borrowed, mode)?;
            pending.descriptors.drain(..now);
            count
        };
        pending.at += count;
        Ok(())
    }

    /// A large frame, without copying its payload.
    fn put_gathered(&mut self, header: &[u8; HEADER_LEN], payload: &[u8]) -> Result<(), SendError> {
        let total = HEADER_LEN + payload.len();
        let mut at = 0;
        while at < total {
            let written = match at.checked_sub(HEADER_LEN) {
                Some(done) => self.end.write(&payload[done..]),
                None => self.end.write_two(&header[at..], payload),
            };
            match written {
                Ok(count) => at += count,
                Err(error) => {
                    self.buf.clear();
                    self.buf.extend_from_slice(header);
                    self.buf.extend_from_slice(payload);
                    self.not_written(error, at)?;
                }
            }
        }
        Ok(())
    }

    /// A write failed after `at` bytes of the buffer. Unless nobody reads any more the rest is kept: the stream must
    /// not continue with another frame in the middle of this one.
    #[cold]
    fn not_written(&mut self, error: io::Error, at: usize) -> Result<(), SendError> {
        if error.kind() == io::ErrorKind::WouldBlock {
            // Somebody else who holds the description has set O_NONBLOCK on it.
            ipc_os::poll_writable(self.end.as_fd(), None).map_err(SendError::Io)?;
            return Ok(());
        }
        let error = SendError::from_io(error);
        if at > 0 && !matches!(error, SendError::Disconnected) {
            let bytes = std::mem::take(&mut self.buf);
            self.pending = Some(Box::new(Pending { bytes, at, descriptors: Vec::new() }));
        }
        Err(error)
    }
}
