//! Frames in their place in the ring: one that is being written, and one that is being looked at.

use std::fmt;

use ipc_core::SendError;
use ipc_os::map::OutOfBounds;

use super::reader::RingReader;
use super::writer::RingWriter;

/// A place for a frame, from [`RingWriter::reserve`]. Dropped without [`commit`](Self::commit), nothing has happened.
///
/// What is not written has the bytes of frames that were there before.
#[must_use = "the frame exists once it is committed"]
pub struct Reserved<'a> {
    writer: &'a mut RingWriter,
    len: usize,
}

impl<'a> Reserved<'a> {
    pub(super) fn new(writer: &'a mut RingWriter, len: usize) -> Self {
        Reserved { writer, len }
    }

    /// How long the frame is.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether it has no bytes.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Makes it shorter: for a frame of which it shows late how long it is. A longer one stays as it is.
    pub fn truncate(&mut self, len: usize) {
        self.len = self.len.min(len);
    }

    /// Writes bytes of the payload.
    ///
    /// # Errors
    /// [`OutOfBounds`] beyond its end, and nothing is written.
    pub fn write(&mut self, offset: usize, bytes: &[u8]) -> Result<(), OutOfBounds> {
        inside(offset, bytes.len(), self.len)?;
        self.writer.fill_reserved(offset, bytes);
        Ok(())
    }

    /// Commits the frame: the reader sees it.
    ///
    /// # Errors
    /// [`SendError::Io`] of the kind `InvalidInput` for the kind `u32::MAX`, and nothing has happened;
    /// [`SendError::Disconnected`] when the reader was dropped.
    pub fn commit(self, kind: u32) -> Result<(), SendError> {
        self.writer.commit_reserved(kind, self.len)
    }
}

impl fmt::Debug for Reserved<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reserved").field("len", &self.len).finish_non_exhaustive()
    }
}

/// The next frame, where it lies, from [`RingReader::peek`] or a [`Batch`](super::Batch). It stays the next one until it is
/// [released](Self::release).
pub struct Frame<'a> {
    reader: &'a mut RingReader,
    kind: u32,
    len: usize,
    /// Its place is given back with those of others.
    in_batch: bool,
}

impl<'a> Frame<'a> {
    #[inline]
    pub(super) fn new(reader: &'a mut RingReader, kind: u32, len: usize, in_batch: bool) -> Self {
        Frame { reader, kind, len, in_batch }
    }

    /// The kind that it was written with.
    #[inline]
    pub fn kind(&self) -> u32 {
        self.kind
    }

    /// How long the payload is.
    #[inline]
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether it has no bytes.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Copies bytes of the payload out. A writer that does not keep to the rules may change them between two calls.
    ///
    /// # Errors
    /// [`OutOfBounds`] beyond its end, and nothing is copied.
    #[inline]
    pub fn read(&self, offset: usize, bytes: &mut [u8]) -> Result<(), OutOfBounds> {
        inside(offset, bytes.len(), self.len)?;
        self.reader.copy_front(offset, bytes);
        Ok(())
    }

    /// Done with it: its place is free, in a [`Batch`](super::Batch) with those of others, and the next one comes.
    #[inline]
    pub fn release(self) {
        self.reader.release_front(self.len, self.in_batch);
    }

    /// Takes the whole payload out, and [releases](Self::release) it.
    pub fn take(self) -> Vec<u8> {
        self.reader.take_out(self.len, self.in_batch)
    }
}

impl fmt::Debug for Frame<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Frame").field("kind", &self.kind).field("len", &self.len).finish_non_exhaustive()
    }
}

#[inline]
fn inside(offset: usize, count: usize, len: usize) -> Result<(), OutOfBounds> {
    if offset.checked_add(count).is_none_or(|end| end > len) { Err(OutOfBounds) } else { Ok(()) }
}
