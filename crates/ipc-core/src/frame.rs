//! Frames on a byte stream: a state machine without I/O.
//!
//! ```text
//!  0        4        6      7      8
//!  | length | handles| kind | magic| payload, `length` bytes …
//!  | u32 LE | u16 LE | u8   | 0xA9 |
//! ```
//!
//! `handles` is the number of descriptors that came beside the frame. The magic byte carries the version of this
//! layout: a stream that is no stream of frames, or is out of step, is found out at the first header.

use crate::error::{Classify, ErrorKind};
use crate::handle::HANDLES_MAX;

/// The length of a header in bytes.
pub const HEADER_LEN: usize = 8;

/// Marks a header, in version 1 of the layout.
const MAGIC: u8 = 0xA9;

/// What a frame's payload is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum FrameKind {
    /// An encoded message.
    Message,
    /// Bytes as the user gave them.
    Bytes,
    /// What two ends of a protocol say to each other, and the user does not see.
    Control,
}

/// A frame's header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Header {
    /// The length of the payload in bytes.
    pub payload_len: u32,
    /// How many descriptors belong to it.
    pub handles: u16,
    /// What the payload is.
    pub kind: FrameKind,
}

/// What is wrong with a frame.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum FrameError {
    /// These bytes are no header: the peer speaks something else, or the stream is out of step.
    #[error("not a frame of this protocol (header {0:02x?}); is the other end the same kind of pipe?")]
    NotAFrame([u8; HEADER_LEN]),
    /// The payload is longer than this end accepts.
    #[error("a frame of {len} bytes exceeds the limit of {limit}; raise Limits::frame_len_max on both ends")]
    TooLong {
        /// Its length in bytes.
        len: u64,
        /// The limit in bytes.
        limit: usize,
    },
    /// More descriptors than a frame may carry.
    #[error("a frame with {0} descriptors exceeds the limit of {HANDLES_MAX}")]
    TooManyHandles(usize),
}

impl Classify for FrameError {
    fn kind(&self) -> ErrorKind {
        match self {
            FrameError::NotAFrame(_) => ErrorKind::Decode,
            FrameError::TooLong { .. } | FrameError::TooManyHandles(_) => ErrorKind::Limit,
        }
    }
}

impl Header {
    /// The header of a payload of `len` bytes with `handles` descriptors.
    ///
    /// # Errors
    /// [`FrameError::TooLong`] when `len` exceeds `frame_len_max` or 32 bits, [`FrameError::TooManyHandles`].
    #[inline]
    pub fn new(
        kind: FrameKind,
        len: usize,
        handles: usize,
        frame_len_max: usize,
    ) -> Result<Self, FrameError> {
        let too_long = FrameError::TooLong { len: len as u64, limit: frame_len_max.min(u32::MAX as usize) };
        if len > frame_len_max {
            return Err(too_long);
        }
        if handles > HANDLES_MAX {
            return Err(FrameError::TooManyHandles(handles));
        }
        Ok(Header { payload_len: u32::try_from(len).map_err(|_| too_long)?, handles: handles as u16, kind })
    }

    /// The bytes of the header.
    #[inline]
    pub fn to_bytes(self) -> [u8; HEADER_LEN] {
        // One number, so that it is stored at once: the header is written last, just before the kernel reads it, and a
        // read over several narrower stores that are still under way waits for them (10 ns of a send's 300).
        let word = u64::from(self.payload_len)
            | u64::from(self.handles) << 32
            | (self.kind as u64) << 48
            | u64::from(MAGIC) << 56;
        word.to_le_bytes()
    }

    /// Reads a header.
    ///
    /// # Errors
    /// Each variant of [`FrameError`].
    #[inline]
    pub fn parse(bytes: [u8; HEADER_LEN], frame_len_max: usize) -> Result<Self, FrameError> {
        let [a, b, c, d, e, f, kind, magic] = bytes;
        let kind = match (kind, magic) {
            (0, MAGIC) => FrameKind::Message,
            (1, MAGIC) => FrameKind::Bytes,
            (2, MAGIC) => FrameKind::Control,
            _ => return Err(FrameError::NotAFrame(bytes)),
        };
        let payload_len = u32::from_le_bytes([a, b, c, d]);
        let handles = u16::from_le_bytes([e, f]);
        if payload_len as usize > frame_len_max {
            return Err(FrameError::TooLong { len: payload_len.into(), limit: frame_len_max });
        }
        if usize::from(handles) > HANDLES_MAX {
            return Err(FrameError::TooManyHandles(handles.into()));
        }
        Ok(Header { payload_len, handles, kind })
    }
}

/// How frames are laid out.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Layout {
    /// As the [module](self) shows.
    #[default]
    Frames,
    /// As CPython's `multiprocessing.connection` does it: nothing but a length before bytes.
    ///
    /// ```text
    ///  | length i32 BE | payload |        | ff ff ff ff | length u64 BE | payload |
    /// ```
    Lengths,
}

/// The longest header of any layout.
pub const HEADER_LEN_MAX: usize = 12;

impl Layout {
    /// The header at the front of a stream, and its length, if it has arrived.
    ///
    /// # Errors
    /// Each variant of [`FrameError`].
    #[inline]
    pub fn parse(self, bytes: &[u8], frame_len_max: usize) -> Result<Option<(Header, usize)>, FrameError> {
        match self {
            Layout::Frames => match bytes.first_chunk() {
                Some(header) => Ok(Some((Header::parse(*header, frame_len_max)?, HEADER_LEN))),
                None => Ok(None),
            },
            Layout::Lengths => parse_length(bytes, frame_len_max),
        }
    }

    /// Puts the header of a payload behind what is in `into`. Without a kind and handles in the layout those are not said.
    ///
    /// # Errors
    /// As of [`Header::new`].
    pub fn put(
        self,
        kind: FrameKind,
        len: usize,
        handles: usize,
        frame_len_max: usize,
        into: &mut Vec<u8>,
    ) -> Result<(), FrameError> {
        let header = Header::new(kind, len, handles, frame_len_max)?;
        match (self, i32::try_from(len)) {
            (Layout::Frames, _) => into.extend_from_slice(&header.to_bytes()),
            (Layout::Lengths, Ok(len)) => into.extend_from_slice(&len.to_be_bytes()),
            (Layout::Lengths, Err(_)) => {
                into.extend_from_slice(&(-1_i32).to_be_bytes());
                into.extend_from_slice(&(len as u64).to_be_bytes());
            }
        }
        Ok(())
    }
}

#[cold]
fn parse_length(bytes: &[u8], frame_len_max: usize) -> Result<Option<(Header, usize)>, FrameError> {
    let Some((first, rest)) = bytes.split_first_chunk() else { return Ok(None) };
    let (len, header_len) = match i32::from_be_bytes(*first) {
        -1 => match rest.first_chunk() {
            Some(len) => (u64::from_be_bytes(*len), 12),
            None => return Ok(None),
        },
        negative if negative < 0 => {
            let mut shown = [0; HEADER_LEN];
            shown[..4].copy_from_slice(first);
            return Err(FrameError::NotAFrame(shown));
        }
        len => (len as u64, 4),
    };
    let limit = frame_len_max.min(u32::MAX as usize);
    match u32::try_from(len) {
        Ok(payload_len) if len <= limit as u64 => {
            Ok(Some((Header { payload_len, handles: 0, kind: FrameKind::Bytes }, header_len)))
        }
        _ => Err(FrameError::TooLong { len, limit }),
    }
}

/// Cuts a stream of bytes into frames. It holds what was read and not yet taken: a reader that asks the system for
/// as much as fits gets many small frames with one call.
///
/// Its memory grows only with bytes that have really arrived, whatever a header promises.
///
/// ```
/// use ipc_core::frame::{FrameDecoder, FrameKind, Header};
/// let mut decoder = FrameDecoder::new(1024);
/// let header = Header::new(FrameKind::Bytes, 2, 0, 1024)?.to_bytes();
/// let stream = [&header[..], b"hi"].concat();
/// for byte in stream {                       // however the bytes are cut up
///     decoder.space()[0] = byte;
///     decoder.filled(1);
/// }
/// assert_eq!(decoder.frame()?.unwrap().payload_len, 2);
/// assert_eq!(decoder.payload(), b"hi");
/// decoder.consume();
/// assert_eq!(decoder.frame()?, None);
/// # Ok::<(), ipc_core::FrameError>(())
/// ```
#[derive(Debug, Default)]
pub struct FrameDecoder {
    /// `buf[start..end]` is what has arrived and was not consumed.
    buf: Vec<u8>,
    start: usize,
    end: usize,
    /// The header at `start`, and its length, once it was parsed.
    header: Option<(Header, usize)>,
    frame_len_max: usize,
    layout: Layout,
    /// A read has filled all the room that there was: more is coming than that.
    is_short: bool,
}

/// What one read asks for at least, and what a decoder keeps when it is empty, once so much has come at a time.
const READ_AHEAD: usize = 64 << 10;

/// The same before: what a connection costs that says little.
const READ_AHEAD_MIN: usize = 4 << 10;

/// A buffer that a large frame has made longer than this is given back after that frame.
const KEEP_MAX: usize = 1 << 20;

impl FrameDecoder {
    /// A decoder that refuses payloads of more than `frame_len_max` bytes. Allocates nothing yet.
    pub fn new(frame_len_max: usize) -> Self {
        FrameDecoder { frame_len_max, ..Default::default() }
    }

    /// A decoder that begins with bytes which arrived elsewhere.
    pub fn with_bytes(frame_len_max: usize, bytes: Vec<u8>) -> Self {
        FrameDecoder { end: bytes.len(), buf: bytes, frame_len_max, ..Default::default() }
    }

    /// The same decoder for frames of another layout, before any have come.
    #[must_use]
    pub fn layout(mut self, layout: Layout) -> Self {
        self.layout = layout;
        self
    }

    /// The same decoder, reading 64 KiB ahead from the first on, and not only once much comes: where what stays unread is for
    /// somebody else, and is not to begin in the middle of a frame.
    #[must_use]
    pub fn far_ahead(mut self) -> Self {
        self.is_short = true;
        self
    }

    /// How many bytes of the frame at hand are still to come, as far as is known; 0 if nothing of one is here.
    pub fn missing(&self) -> usize {
        let here = self.end - self.start;
        let whole = match self.layout.parse(self.buffered(), usize::MAX) {
            Ok(Some((header, header_len))) => header_len + header.payload_len as usize,
            _ => HEADER_LEN,
        };
        if here == 0 { 0 } else { whole.saturating_sub(here).max(1) }
    }

    /// Changes the longest payload that is accepted, for frames whose header has not been looked at.
    pub fn set_frame_len_max(&mut self, frame_len_max: usize) {
        self.frame_len_max = frame_len_max;
    }

    /// All bytes that arrived and were not consumed.
    #[inline]
    pub fn buffered(&self) -> &[u8] {
        &self.buf[self.start..self.end]
    }

    /// The frame at hand, if all of it has arrived.
    ///
    /// # Errors
    /// What is wrong with its header; the stream is of no use after that, and every further call says the same.
    #[inline]
    pub fn frame(&mut self) -> Result<Option<Header>, FrameError> {
        let Some((header, header_len)) = self.look()? else { return Ok(None) };
        let whole = self.end - self.start >= header_len + header.payload_len as usize;
        Ok(whole.then_some(header))
    }

    /// Whether what has arrived is exactly one frame.
    #[inline]
    pub fn holds_one(&self) -> bool {
        match (self.layout, self.buffered().first_chunk::<4>()) {
            (Layout::Frames, Some(len)) => {
                self.end - self.start == HEADER_LEN + u32::from_le_bytes(*len) as usize
            }
            (Layout::Lengths, Some(len)) => self.end - self.start == 4 + u32::from_be_bytes(*len) as usize,
            (_, None) => false,
        }
    }

    /// Whether [`FrameDecoder::frame`] would return a frame or an error: what a wait asks, by shared reference.
    pub fn is_ready(&self) -> bool {
        match self.layout.parse(self.buffered(), self.frame_len_max) {
            Ok(Some((header, header_len))) => {
                self.end - self.start >= header_len + header.payload_len as usize
            }
            Ok(None) => false,
            Err(_) => true,
        }
    }

    /// The header of the frame at hand, if that much has arrived.
    ///
    /// # Errors
    /// As [`FrameDecoder::frame`].
    #[inline]
    pub fn header(&mut self) -> Result<Option<Header>, FrameError> {
        Ok(self.look()?.map(|(header, _)| header))
    }

    #[inline]
    fn look(&mut self) -> Result<Option<(Header, usize)>, FrameError> {
        if self.header.is_none() {
            self.header = self.layout.parse(self.buffered(), self.frame_len_max)?;
        }
        Ok(self.header)
    }

    /// The payload of the frame at hand as far as it has arrived; empty before its header has.
    #[inline]
    pub fn payload(&self) -> &[u8] {
        let Some((header, header_len)) = self.header else { return &[] };
        let from = self.start + header_len;
        &self.buf[from..self.end.min(from + header.payload_len as usize)]
    }

    /// Lets go of the frame at hand: all that has arrived of it. Returns how many bytes of its payload have not
    /// arrived yet; the caller reads them itself, past this decoder (straight to where they are wanted).
    #[inline]
    pub fn consume(&mut self) -> usize {
        let Some((header, header_len)) = self.header.take() else { return 0 };
        let len = header_len + header.payload_len as usize;
        let here = len.min(self.end - self.start);
        self.start += here;
        if self.start == self.end {
            (self.start, self.end) = (0, 0);
            if self.buf.len() > KEEP_MAX {
                self.buf = Vec::new();
            }
        }
        if len - here > READ_AHEAD {
            // The next one may be as long: what is read ahead of it is copied twice.
            self.buf.truncate(self.end.max(READ_AHEAD_MIN));
            self.is_short = false;
        }
        len - here
    }

    /// Lets go of the first `count` bytes as they are, for a reader that takes raw bytes and no frames.
    pub fn consume_raw(&mut self, count: usize) {
        self.header = None;
        self.start = (self.start + count).min(self.end);
        if self.start == self.end {
            (self.start, self.end) = (0, 0);
        }
    }

    /// Room for more bytes, never empty; say how many of them were used with [`FrameDecoder::filled`].
    #[inline]
    pub fn space(&mut self) -> &mut [u8] {
        if self.start == 0 && self.end == 0 && !self.buf.is_empty() && !self.is_short {
            return &mut self.buf;
        }
        self.make_space();
        &mut self.buf[self.end..]
    }

    fn make_space(&mut self) {
        let have = self.end - self.start;
        let want = match self.header {
            Some((header, header_len)) => header_len + header.payload_len as usize,
            None => HEADER_LEN_MAX,
        };
        if self.start > 0 && (self.start + want > self.buf.len() || self.end == self.buf.len()) {
            self.buf.copy_within(self.start..self.end, 0);
            (self.start, self.end) = (0, have);
        }
        let ahead = if self.is_short { READ_AHEAD } else { READ_AHEAD_MIN };
        if self.is_short && self.buf.len() < READ_AHEAD {
            self.buf.resize(READ_AHEAD, 0);
        }
        self.is_short = false;
        if self.end == self.buf.len() {
            // Twice what has arrived: a header that lies about its length costs its sender half of what it
            // costs us.
            let len = ahead.max((have * 2).min(want.max(ahead)));
            self.buf.resize(len.max(self.end + 1), 0);
        }
    }

    /// The first `count` bytes of the last [`FrameDecoder::space`] now hold what has arrived.
    ///
    /// # Panics
    /// When that is more than there was room.
    #[inline]
    pub fn filled(&mut self, count: usize) {
        assert!(count <= self.buf.len() - self.end, "more bytes than there was room for");
        self.end += count;
        self.is_short = self.end == self.buf.len();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stream(frames: &[&[u8]]) -> Vec<u8> {
        let mut bytes = Vec::new();
        for payload in frames {
            bytes.extend(Header::new(FrameKind::Message, payload.len(), 3, 1 << 20).unwrap().to_bytes());
            bytes.extend(*payload);
        }
        bytes
    }

    #[test]
    fn frames_come_out_however_the_stream_is_cut() {
        let big = vec![7u8; 200_000];
        let frames: [&[u8]; 4] = [b"", b"a", &big, b"end"];
        let bytes = stream(&frames);
        for step in [1, 3, 8, 9, 1000, 70_000, usize::MAX] {
            let mut decoder = FrameDecoder::new(1 << 20);
            let mut seen = Vec::new();
            let mut rest = &bytes[..];
            while !rest.is_empty() {
                let space = decoder.space();
                let count = step.min(rest.len()).min(space.len());
                space[..count].copy_from_slice(&rest[..count]);
                decoder.filled(count);
                rest = &rest[count..];
                while let Some(header) = decoder.frame().unwrap() {
                    assert_eq!(header.handles, 3);
                    let one = decoder.buffered().len() == HEADER_LEN + decoder.payload().len();
                    assert_eq!(decoder.holds_one(), one);
                    seen.push(decoder.payload().to_vec());
                    assert_eq!(decoder.consume(), 0);
                }
            }
            assert_eq!(seen, frames, "cut every {step}");
            assert!(decoder.buffered().is_empty());
        }
    }

    #[test]
    fn memory_follows_what_arrived_not_what_was_promised() {
        let mut decoder = FrameDecoder::new(1 << 30);
        let header = Header::new(FrameKind::Message, 1 << 30, 0, 1 << 30).unwrap().to_bytes();
        decoder.space()[..HEADER_LEN].copy_from_slice(&header);
        decoder.filled(HEADER_LEN);
        assert_eq!(decoder.frame(), Ok(None));
        let room = decoder.space().len();
        assert!(room <= READ_AHEAD, "{room}");
        assert_eq!(decoder.consume(), 1 << 30, "the rest may be read elsewhere");
    }

    #[test]
    fn what_is_no_header_is_refused() {
        let good = Header::new(FrameKind::Bytes, 100, 2, 100).unwrap();
        assert_eq!(Header::parse(good.to_bytes(), 100), Ok(good));
        assert_eq!(Header::parse(good.to_bytes(), 99), Err(FrameError::TooLong { len: 100, limit: 99 }));
        let mut bad = good.to_bytes();
        bad[7] ^= 1;
        assert_eq!(Header::parse(bad, 100), Err(FrameError::NotAFrame(bad)));
        let mut bad = good.to_bytes();
        bad[6] = 9;
        assert_eq!(Header::parse(bad, 100), Err(FrameError::NotAFrame(bad)));
        let mut many = good.to_bytes();
        many[4..6].copy_from_slice(&u16::MAX.to_le_bytes());
        assert_eq!(Header::parse(many, 100), Err(FrameError::TooManyHandles(65535)));
        assert!(Header::new(FrameKind::Bytes, 1, HANDLES_MAX + 1, 100).is_err());
        assert!(Header::new(FrameKind::Bytes, 101, 0, 100).is_err());
    }

    /// Fills all the room that there is, and takes what is whole.
    fn fill(decoder: &mut FrameDecoder, bytes: &[u8]) -> usize {
        let space = decoder.space();
        let count = space.len().min(bytes.len());
        space[..count].copy_from_slice(&bytes[..count]);
        decoder.filled(count);
        while decoder.frame().unwrap().is_some() {
            decoder.consume();
        }
        count
    }

    #[test]
    fn more_is_read_ahead_once_much_comes_and_less_of_what_is_long() {
        let short = Header::new(FrameKind::Bytes, 0, 0, 0).unwrap().to_bytes().repeat(READ_AHEAD);
        assert_eq!(FrameDecoder::new(1 << 20).far_ahead().space().len(), READ_AHEAD);
        let mut decoder = FrameDecoder::new(1 << 20);
        assert_eq!(fill(&mut decoder, &short[..HEADER_LEN]), HEADER_LEN);
        assert_eq!(decoder.space().len(), READ_AHEAD_MIN);
        assert_eq!(fill(&mut decoder, &short), READ_AHEAD_MIN);
        assert_eq!(fill(&mut decoder, &short), READ_AHEAD);
        assert_eq!(decoder.space().len(), READ_AHEAD, "and it stays");
        let long = Header::new(FrameKind::Bytes, 1 << 20, 0, 1 << 20).unwrap().to_bytes();
        let long = [&long[..], &vec![0; 1 << 20]].concat();
        for room in [READ_AHEAD, READ_AHEAD_MIN, READ_AHEAD_MIN] {
            assert_eq!(fill(&mut decoder, &long), room);
            assert_eq!(decoder.header().unwrap().unwrap().payload_len, 1 << 20);
            assert_eq!(decoder.consume(), long.len() - room, "its reader takes the rest");
        }
    }

    #[test]
    fn a_large_buffer_is_given_back() {
        let payload = vec![1u8; 3 << 20];
        let mut decoder = FrameDecoder::new(4 << 20);
        let header = Header::new(FrameKind::Bytes, payload.len(), 0, 4 << 20).unwrap().to_bytes();
        let mut rest = &[&header[..], &payload].concat()[..];
        while decoder.frame().unwrap().is_none() {
            let space = decoder.space();
            let count = space.len().min(rest.len());
            space[..count].copy_from_slice(&rest[..count]);
            decoder.filled(count);
            rest = &rest[count..];
        }
        decoder.consume();
        assert!(decoder.space().len() <= READ_AHEAD);
    }

    #[test]
    fn lengths_alone_in_both_forms_and_what_is_none() {
        let mut stream = Vec::new();
        Layout::Lengths.put(FrameKind::Bytes, 3, 0, 100, &mut stream).unwrap();
        assert_eq!(stream, [0, 0, 0, 3]);
        stream.extend(b"abc");
        // The long form of a short length.
        stream.extend([0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0, 0, 0, 0, 2]);
        stream.extend(b"de");
        let mut decoder = FrameDecoder::new(100).layout(Layout::Lengths);
        let mut seen = Vec::new();
        for (at, byte) in stream.iter().enumerate() {
            assert_eq!(decoder.missing() == 0, decoder.buffered().is_empty(), "at {at}");
            decoder.space()[0] = *byte;
            decoder.filled(1);
            if decoder.frame().unwrap().is_some() {
                assert!(decoder.is_ready());
                seen.push(decoder.payload().to_vec());
                decoder.consume();
            }
        }
        assert_eq!(seen, [&b"abc"[..], b"de"]);

        for (bytes, error) in [
            (&[0xff, 0xff, 0xff, 0xfe][..], FrameError::NotAFrame([0xff, 0xff, 0xff, 0xfe, 0, 0, 0, 0])),
            (&[0, 0, 0, 101], FrameError::TooLong { len: 101, limit: 100 }),
            (
                &[0xff, 0xff, 0xff, 0xff, 1, 0, 0, 0, 0, 0, 0, 0],
                FrameError::TooLong { len: 1 << 56, limit: 100 },
            ),
        ] {
            let mut decoder = FrameDecoder::new(100).layout(Layout::Lengths);
            decoder.space()[..bytes.len()].copy_from_slice(bytes);
            decoder.filled(bytes.len());
            assert_eq!(decoder.frame(), Err(error));
        }
    }
}
