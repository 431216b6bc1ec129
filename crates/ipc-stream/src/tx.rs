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

use ipc_core::frame::{FrameKind, HEADER_LEN, Header, Layout};
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
    /// Some of it has gone before these bytes.
    has_begun: bool,
}

/// Cuts a buffer back when a message was not encoded after all, with an error or a panic: a batch has other messages
/// in front of it.
struct CutBack<'a> {
    buf: &'a mut Vec<u8>,
    len: usize,
}

impl Drop for CutBack<'_> {
    fn drop(&mut self) {
        self.buf.truncate(self.len);
    }
}

/// The sending side of an end.
#[derive(Debug)]
pub struct Tx {
    end: Arc<End>,
    codec: Codec,
    /// Where messages are encoded.
    buf: Vec<u8>,
    pending: Option<Box<Pending>>,
    layout: Layout,
}

impl Tx {
    /// The end that it sends through.
    pub fn end(&self) -> &Arc<End> {
        &self.end
    }

    /// Goes on with another end of the same stream.
    pub fn set_end(&mut self, end: Arc<End>) {
        self.end = end;
    }

    /// For that end.
    pub fn new(end: Arc<End>) -> Self {
        let codec = Codec::default();
        Tx { end, codec, buf: Vec::new(), pending: None, layout: Layout::Frames }
    }

    /// With frames laid out in another way: bytes are sent then, and no messages.
    #[must_use]
    pub fn layout(self, layout: Layout) -> Self {
        Tx { layout, ..self }
    }

    /// An end that arrived with the rest of a frame which its last owner began.
    pub fn with_rest(end: Arc<End>, bytes: Vec<u8>, descriptors: Vec<Arc<OwnedFd>>) -> Self {
        let mut tx = Tx::new(end);
        if !bytes.is_empty() {
            tx.pending = Some(Box::new(Pending { bytes, at: 0, descriptors, has_begun: true }));
        }
        tx
    }

    /// The rest of a frame that has begun: its bytes and descriptors.
    pub fn rest(&self) -> (&[u8], &[Arc<OwnedFd>]) {
        match &self.pending {
            Some(pending) => (&pending.bytes[pending.at..], &pending.descriptors),
            None => (&[], &[]),
        }
    }

    /// Sets the limits for what is sent.
    pub fn set_limits(&mut self, limits: Limits) {
        self.codec = Codec::new(limits);
    }

    /// Sends a message.
    ///
    /// # Errors
    /// [`SendError`].
    #[inline]
    pub fn send<T: Serialize + ?Sized>(&mut self, message: &T, until: Until) -> Result<(), SendError> {
        self.send_behind(&[], message, until)
    }

    /// Sends a message behind some bytes, in one frame: what says how it is to be read.
    ///
    /// # Errors
    /// [`SendError`].
    #[inline]
    pub fn send_behind<T: Serialize + ?Sized>(
        &mut self,
        prefix: &[u8],
        message: &T,
        until: Until,
    ) -> Result<(), SendError> {
        if self.pending.is_some() || self.end.is_moved() {
            self.make_way(until)?;
        }
        self.buf.clear();
        let handles = self.encode(prefix, message)?;
        if !handles.is_empty() {
            return self.send_with_handles(handles, until);
        }
        // Nothing is in it; this spares the hot path the code that would drop what is.
        std::mem::forget(handles);
        self.put_buf(until)
    }

    #[cold]
    fn send_with_handles(&mut self, handles: handle::Outgoing, until: Until) -> Result<(), SendError> {
        let mut descriptors = handles.descriptors().to_vec();
        // Those that do not go with the first call may be kept here beyond the commit, which makes the ends let go of
        // theirs.
        for fd in descriptors.iter_mut().skip(DESCRIPTORS_MAX) {
            *fd = Arc::new(fd.try_clone().map_err(SendError::Io)?);
        }
        let sent = self.put_or_keep(descriptors, until);
        // A frame that has begun arrives whole: what it carries has moved.
        if sent.is_ok() || self.pending.is_some() {
            handles.commit();
        }
        sent
    }

    /// Appends one frame to the buffer; with an error the buffer is as it was.
    #[inline]
    fn encode<T: Serialize + ?Sized>(
        &mut self,
        prefix: &[u8],
        message: &T,
    ) -> Result<handle::Outgoing, SendError> {
        let start = self.buf.len();
        self.buf.extend_from_slice(&[0; HEADER_LEN]);
        self.buf.extend_from_slice(prefix);
        let cut = CutBack { buf: &mut self.buf, len: start };
        let ((), handles) = handle::outgoing(|| self.codec.encode(message, &mut *cut.buf))?;
        std::mem::forget(cut);
        match self.put_header(start, &handles) {
            Ok(()) => Ok(handles),
            Err(error) => Err(self.not_encoded(start, error)),
        }
    }

    #[inline]
    fn put_header(&mut self, start: usize, handles: &handle::Outgoing) -> Result<(), SendError> {
        let count = if handles.is_empty() { 0 } else { self.count_handles(handles)? };
        let len = self.buf.len() - start - HEADER_LEN;
        let header = Header::new(FrameKind::Message, len, count, self.codec.limits().frame_len_max)?;
        if let Some(place) = self.buf[start..].first_chunk_mut() {
            *place = header.to_bytes();
        }
        Ok(())
    }

    #[cold]
    fn count_handles(&self, handles: &handle::Outgoing) -> Result<usize, SendError> {
        let count = handles.descriptors().len();
        self.check_handles(count)?;
        Ok(count)
    }

    fn check_handles(&self, count: usize) -> Result<(), SendError> {
        if count == 0 || self.end.moves_handles() {
            return Ok(());
        }
        let (carrier, instead) = self.end.transport().names();
        Err(SendError::Handles { carrier, count, instead })
    }

    #[cold]
    fn not_encoded(&mut self, start: usize, error: impl Into<SendError>) -> SendError {
        self.buf.truncate(start);
        error.into()
    }

    /// Sends bytes as they are.
    ///
    /// # Errors
    /// [`SendError`].
    pub fn send_bytes(&mut self, bytes: &[u8], until: Until) -> Result<(), SendError> {
        self.send_parts(FrameKind::Bytes, &[bytes], &[], until)
    }

    /// Sends one frame whose payload is the concatenation of `parts`.
    ///
    /// # Errors
    /// [`SendError`].
    pub fn send_parts(
        &mut self,
        kind: FrameKind,
        parts: &[&[u8]],
        descriptors: &[BorrowedFd<'_>],
        until: Until,
    ) -> Result<(), SendError> {
        self.make_way(until)?;
        let count = descriptors.len();
        self.check_handles(count)?;
        let len = parts.iter().map(|part| part.len()).sum();
        self.buf.clear();
        self.layout.put(kind, len, count, self.codec.limits().frame_len_max, &mut self.buf)?;
        if let ([part], Until::Forever, 0) = (parts, until, count)
            && len > COPY_MAX
        {
            return self.put_gathered(part);
        }
        parts.iter().for_each(|part| self.buf.extend_from_slice(part));
        if count == 0 {
            return self.put_buf(until);
        }
        let owned = descriptors.iter().map(|fd| fd.try_clone_to_owned().map(Arc::new));
        let owned = owned.collect::<io::Result<Vec<_>>>().map_err(SendError::Io)?;
        self.put_or_keep(owned, until)
    }

    /// Appends a frame to the batch; [`Tx::put_batch`] sends it. A message with handles goes out by itself, after
    /// what is in the batch.
    ///
    /// # Errors
    /// [`SendError`].
    pub fn batch<T: Serialize + ?Sized>(
        &mut self,
        prefix: &[u8],
        message: &T,
        full: usize,
    ) -> Result<(), SendError> {
        let start = self.buf.len();
        let handles = self.encode(prefix, message)?;
        if !handles.is_empty() {
            let frame = self.buf.split_off(start);
            self.put_batch()?;
            self.buf = frame;
            let sent = self.send_with_handles(handles, Until::Forever);
            self.buf.clear();
            return sent;
        }
        if self.buf.len() >= full { self.put_batch() } else { Ok(()) }
    }

    /// Makes the buffer ready for a batch.
    ///
    /// # Errors
    /// [`SendError`].
    pub fn begin_batch(&mut self) -> Result<(), SendError> {
        self.make_way(Until::Forever)?;
        self.buf.clear();
        Ok(())
    }

    /// Whether something is in the batch that was not put out.
    pub fn has_gathered(&self) -> bool {
        !self.buf.is_empty()
    }

    /// Puts out what is in the batch.
    ///
    /// # Errors
    /// [`SendError`].
    pub fn put_batch(&mut self) -> Result<(), SendError> {
        // An earlier part of the batch may have been interrupted.
        self.flush(Until::Forever)?;
        let sent = if self.buf.is_empty() { Ok(()) } else { self.put_buf(Until::Forever) };
        self.buf.clear();
        sent
    }

    /// Puts the rest of a frame out that has begun; then the way is free for another.
    ///
    /// # Errors
    /// [`SendError`].
    pub fn flush(&mut self, until: Until) -> Result<(), SendError> {
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

    fn make_way(&mut self, until: Until) -> Result<(), SendError> {
        self.flush(until).map_err(|error| match (error, until) {
            (SendError::Begun { .. }, Until::Now) => SendError::Full,
            (SendError::Begun { .. }, _) => SendError::Timeout,
            (error, _) => error,
        })
    }

    /// Puts the frames in the buffer out.
    #[inline]
    fn put_buf(&mut self, until: Until) -> Result<(), SendError> {
        if !matches!(until, Until::Forever) {
            return self.put_or_keep(Vec::new(), until);
        }
        match self.end.write(&self.buf) {
            Ok(count) if count == self.buf.len() && count <= KEEP_MAX => Ok(()),
            Ok(count) => self.put_rest(count),
            Err(error) => {
                self.not_written(error, 0)?;
                self.put_rest(0)
            }
        }
    }

    /// The rest of a long frame, or of one that was interrupted.
    #[cold]
    fn put_rest(&mut self, mut at: usize) -> Result<(), SendError> {
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

    /// Puts the frame in the buffer out as far as time allows, and keeps the rest of one that has begun.
    fn put_or_keep(&mut self, descriptors: Vec<Arc<OwnedFd>>, until: Until) -> Result<(), SendError> {
        let mut pending =
            Pending { bytes: std::mem::take(&mut self.buf), at: 0, descriptors, has_begun: false };
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
                            _ if pending.at > 0 || pending.has_begun => SendError::Begun { left },
                            Until::Now => SendError::Full,
                            _ => SendError::Timeout,
                        });
                    }
                    self.end.wait_for_room(until).map_err(SendError::Io)?;
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

    /// A large frame, whose header is in the buffer, without copying its payload.
    fn put_gathered(&mut self, payload: &[u8]) -> Result<(), SendError> {
        let header_len = self.buf.len();
        let total = header_len + payload.len();
        let mut at = 0;
        while at < total {
            let written = match at.checked_sub(header_len) {
                Some(done) => self.end.write(&payload[done..]),
                None => self.end.write_two(&self.buf[at..header_len], payload),
            };
            match written {
                Ok(count) => at += count,
                Err(error) => {
                    self.buf.truncate(header_len);
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
            self.pending = Some(Box::new(Pending { bytes, at, descriptors: Vec::new(), has_begun: true }));
        }
        Err(error)
    }
}
