//! Receiving frames from an end.
//!
//! One read takes as much as fits the read-ahead, so that many small messages cost one system call. What has been
//! read is this process's alone: it shows in [`Rx::is_ready`], and it travels along when the end moves.

use std::collections::VecDeque;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;

use ipc_core::channel::is_lost;
use ipc_core::frame::{FrameDecoder, FrameKind, Header, Layout};
use ipc_core::handle;
use ipc_core::{Codec, Limits, RecvError};
use serde::de::DeserializeOwned;

use crate::end::{End, Until};
use crate::pace::Pace;

/// The receiving side of an end.
#[derive(Debug)]
pub struct Rx {
    end: Arc<End>,
    codec: Codec,
    decoder: FrameDecoder,
    /// Received with bytes that are in the decoder, in the order of the frames they belong to.
    descriptors: VecDeque<OwnedFd>,
    /// The kernel has said that nobody can send any more.
    at_end: bool,
    /// Descriptors were lost for want of room: which of those that follow belong to which frame is not known.
    is_cut: bool,
    pace: Pace,
}

impl Rx {
    /// The end that it receives from.
    pub fn end(&self) -> &Arc<End> {
        &self.end
    }

    /// Goes on with another end of the same stream.
    pub fn set_end(&mut self, end: Arc<End>) {
        self.end = end;
    }

    /// For that end.
    pub fn new(end: Arc<End>) -> Self {
        Rx::with_unread(end, Vec::new(), VecDeque::new())
    }

    /// An end that arrived with what its last owner had read ahead.
    pub fn with_unread(end: Arc<End>, bytes: Vec<u8>, descriptors: VecDeque<OwnedFd>) -> Self {
        let codec = Codec::default();
        let decoder = FrameDecoder::with_bytes(codec.limits().frame_len_max, bytes);
        Rx { end, codec, decoder, descriptors, at_end: false, is_cut: false, pace: Pace::default() }
    }

    /// With frames laid out in another way.
    #[must_use]
    pub fn layout(self, layout: Layout) -> Self {
        Rx { decoder: self.decoder.layout(layout), ..self }
    }

    /// What was read ahead: bytes and descriptors.
    pub fn unread(&self) -> (&[u8], &VecDeque<OwnedFd>) {
        (self.decoder.buffered(), &self.descriptors)
    }

    /// Sets the limits for what is received.
    pub fn set_limits(&mut self, limits: Limits) {
        self.codec = Codec::new(limits);
        self.decoder.set_frame_len_max(limits.frame_len_max);
    }

    /// Receives a message.
    ///
    /// # Errors
    /// [`RecvError`].
    #[inline]
    pub fn recv<T: DeserializeOwned>(&mut self, until: Until) -> Result<T, RecvError> {
        let header = self.next_frame(until)?;
        if header.kind != FrameKind::Message {
            return Err(RecvError::wrong_kind(header.kind));
        }
        if header.handles != 0 || !self.descriptors.is_empty() {
            return self.recv_with_handles(header, 0);
        }
        let decoded = handle::incoming([], || self.codec.decode(self.decoder.payload()));
        self.decoder.consume();
        Ok(decoded?)
    }

    /// Receives a message that was sent behind just these bytes. `None` if the next frame is another one: it stays, to be
    /// taken with [`recv_frame`](Self::recv_frame).
    ///
    /// # Errors
    /// [`RecvError`].
    #[inline]
    pub fn recv_behind<T: DeserializeOwned>(
        &mut self,
        prefix: &[u8],
        until: Until,
    ) -> Result<Option<T>, RecvError> {
        let header = self.next_frame(until)?;
        if header.kind != FrameKind::Message || !self.decoder.payload().starts_with(prefix) {
            return Ok(None);
        }
        if header.handles != 0 || !self.descriptors.is_empty() {
            return self.recv_with_handles(header, prefix.len()).map(Some);
        }
        let decoded = handle::incoming([], || self.codec.decode(&self.decoder.payload()[prefix.len()..]));
        self.decoder.consume();
        Ok(Some(decoded?))
    }

    #[cold]
    fn recv_with_handles<T: DeserializeOwned>(
        &mut self,
        header: Header,
        from: usize,
    ) -> Result<T, RecvError> {
        let decoded = self.take_descriptors(header).and_then(|descriptors| {
            Ok(handle::incoming(descriptors, || self.codec.decode(&self.decoder.payload()[from..]))?)
        });
        self.consume();
        decoded
    }

    /// Receives bytes.
    ///
    /// # Errors
    /// [`RecvError`].
    pub fn recv_bytes(&mut self, until: Until) -> Result<Vec<u8>, RecvError> {
        let header = self.next_frame(until)?;
        if header.kind != FrameKind::Bytes {
            return Err(RecvError::wrong_kind(header.kind));
        }
        drop(self.take_descriptors(header));
        let bytes = self.decoder.payload().to_vec();
        self.consume();
        Ok(bytes)
    }

    /// Receives bytes into `buf`, and says how many.
    ///
    /// # Errors
    /// [`RecvError`].
    pub fn recv_bytes_into(&mut self, buf: &mut [u8], until: Until) -> Result<usize, RecvError> {
        let header = loop {
            self.check_moved()?;
            if let Some(header) = self.decoder.header()? {
                break header;
            }
            if let Err(error) = self.fill(until) {
                if matches!(error, RecvError::Truncated { .. }) {
                    self.decoder.consume_raw(self.decoder.buffered().len());
                }
                return Err(error);
            }
        };
        if header.kind != FrameKind::Bytes {
            return Err(RecvError::wrong_kind(header.kind));
        }
        let len = header.payload_len as usize;
        if len > buf.len() {
            let message = self.recv_bytes(until)?;
            return Err(RecvError::TooSmall { message, capacity: buf.len() });
        }
        if !matches!(until, Until::Forever) {
            // A wait that may end early keeps what has come of the frame in the decoder.
            self.next_frame(until)?;
        }
        drop(self.take_descriptors(header));
        let here = self.decoder.payload().len();
        buf[..here].copy_from_slice(self.decoder.payload());
        let missing = self.consume();
        self.read_exactly(&mut buf[len - missing..len])?;
        Ok(len)
    }

    /// Receives one frame of any kind: its payload is appended to `payload`.
    ///
    /// # Errors
    /// [`RecvError`].
    pub fn recv_frame(
        &mut self,
        payload: &mut Vec<u8>,
        descriptors: &mut Vec<OwnedFd>,
        until: Until,
    ) -> Result<FrameKind, RecvError> {
        let header = self.next_frame(until)?;
        let taken = self.take_descriptors(header);
        payload.extend_from_slice(self.decoder.payload());
        self.consume();
        descriptors.extend(taken?);
        Ok(header.kind)
    }

    /// Whether a receive would not wait: a message is here, or the news that there will be none.
    ///
    /// # Errors
    /// [`RecvError`], if neither can be told.
    pub fn poll(&mut self, until: Until) -> Result<bool, RecvError> {
        match self.arrive(until) {
            Err(RecvError::Empty | RecvError::Timeout) => Ok(false),
            Err(error @ (RecvError::Moved | RecvError::Io(_))) => Err(error),
            // The end of the stream stays: the next receive tells of it.
            _ => Ok(true),
        }
    }

    /// What the next frame is, if all of it is here.
    pub fn kind(&mut self) -> Option<FrameKind> {
        Some(self.decoder.frame().ok()??.kind)
    }

    /// Whether a receive would find a message, or the end, without asking the kernel.
    pub fn is_ready(&self) -> bool {
        self.at_end || self.decoder.is_ready()
    }

    /// Raw bytes, for those who do not want frames: what was read ahead first.
    ///
    /// # Errors
    /// What the system reports.
    pub fn read_raw(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        if self.end.is_moved() {
            return Err(io::Error::other(RecvError::Moved));
        }
        let buffered = self.decoder.buffered();
        if buffered.is_empty() {
            let read = loop {
                match self.end.read(buf, &mut self.descriptors, Until::Forever) {
                    // Somebody else who holds the description has set O_NONBLOCK on it.
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                        ipc_os::poll_readable(self.end.as_fd(), None)?;
                    }
                    other => break other,
                }
            };
            self.descriptors.clear();
            return read;
        }
        let count = buffered.len().min(buf.len());
        buf[..count].copy_from_slice(&buffered[..count]);
        self.decoder.consume_raw(count);
        Ok(count)
    }

    #[inline]
    fn check_moved(&self) -> Result<(), RecvError> {
        if self.end.is_moved() { Err(RecvError::Moved) } else { Ok(()) }
    }

    /// The next frame, all of it in the decoder. That a message was cut off is told once.
    #[inline]
    fn next_frame(&mut self, until: Until) -> Result<Header, RecvError> {
        match self.arrive(until) {
            Err(RecvError::Truncated { missing }) => {
                self.decoder.consume_raw(self.decoder.buffered().len());
                Err(RecvError::Truncated { missing })
            }
            other => other,
        }
    }

    #[inline]
    fn arrive(&mut self, until: Until) -> Result<Header, RecvError> {
        self.check_moved()?;
        loop {
            if let Some(header) = self.decoder.frame()? {
                return Ok(header);
            }
            self.fill(until)?;
        }
    }

    /// Reads once, waiting if need be. There is no whole frame at hand.
    #[inline]
    fn fill(&mut self, until: Until) -> Result<(), RecvError> {
        if self.is_cut || !self.descriptors.is_empty() {
            self.check_descriptors()?;
        }
        if matches!(until, Until::Forever) {
            self.pace.before_read();
        }
        loop {
            match self.end.read(self.decoder.space(), &mut self.descriptors, until) {
                Ok(0) => return Err(self.ended()),
                Ok(count) => {
                    self.decoder.filled(count);
                    if matches!(until, Until::Forever) {
                        self.pace.after_read(self.decoder.holds_one());
                    }
                    return Ok(());
                }
                Err(error) => self.not_read(error, until)?,
            }
        }
    }

    /// Reads past the decoder, straight to where a long payload is wanted. Descriptors that come with it go nowhere.
    fn read_exactly(&mut self, mut buf: &mut [u8]) -> Result<(), RecvError> {
        while !buf.is_empty() {
            match self.end.read(buf, &mut self.descriptors, Until::Forever) {
                Ok(count) if count > 0 => {
                    buf = &mut buf[count..];
                    self.descriptors.clear();
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    // Somebody else who holds the description has set O_NONBLOCK on it.
                    ipc_os::poll_readable(self.end.as_fd(), None).map_err(RecvError::Io)?;
                }
                Err(error) if !is_lost(error.kind()) => {
                    return self.not_read(error, Until::Forever);
                }
                _ => {
                    self.at_end = true;
                    return Err(RecvError::Truncated { missing: buf.len() });
                }
            }
        }
        Ok(())
    }

    #[cold]
    fn not_read(&mut self, error: io::Error, until: Until) -> Result<(), RecvError> {
        match error.kind() {
            // What it had sent has been read.
            kind if is_lost(kind) => Err(self.ended()),
            io::ErrorKind::WouldBlock => {
                if until.is_over() {
                    return Err(if matches!(until, Until::Now) {
                        RecvError::Empty
                    } else {
                        RecvError::Timeout
                    });
                }
                ipc_os::poll_readable(self.end.as_fd(), until.left()).map_err(RecvError::Io)?;
                Ok(())
            }
            io::ErrorKind::InvalidData => {
                self.is_cut = true;
                self.descriptors.clear();
                Err(RecvError::Io(error))
            }
            _ => Err(RecvError::Io(error)),
        }
    }

    /// What to say at the end of the stream.
    #[cold]
    fn ended(&mut self) -> RecvError {
        self.at_end = true;
        match self.decoder.missing() {
            0 => RecvError::Disconnected,
            missing => RecvError::Truncated { missing },
        }
    }

    #[inline]
    fn consume(&mut self) -> usize {
        let missing = self.decoder.consume();
        if !self.descriptors.is_empty() && self.decoder.buffered().is_empty() && missing == 0 {
            // They came with bytes of frames that did not announce them.
            self.descriptors.clear();
        }
        missing
    }

    /// Closes what came with the frame at hand beyond what it announced, so that no sender can make this process hold
    /// more than one frame's descriptors.
    #[cold]
    fn check_descriptors(&mut self) -> Result<(), RecvError> {
        if self.is_cut {
            let what = "descriptors were lost on the way to an earlier message: too many are open here";
            return Err(RecvError::Io(io::Error::new(io::ErrorKind::InvalidData, what)));
        }
        if let Some(header) = self.decoder.header()? {
            self.descriptors.truncate(header.handles.into());
        }
        Ok(())
    }

    /// The descriptors of the frame at hand.
    #[inline]
    fn take_descriptors(&mut self, header: Header) -> Result<Vec<OwnedFd>, RecvError> {
        let announced = usize::from(header.handles);
        if announced == 0 {
            return Ok(Vec::new());
        }
        let arrived = self.descriptors.len().min(announced);
        let taken = self.descriptors.drain(..arrived).collect();
        if arrived < announced { Err(RecvError::MissingHandles { announced, arrived }) } else { Ok(taken) }
    }
}
