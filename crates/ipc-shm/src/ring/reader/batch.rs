//! Several frames whose places are given back together.

use std::fmt;

use ipc_core::RecvError;

use super::RingReader;
use crate::ring::seen::Frame;
use crate::ring::until::Until;

/// Frames that are read one after the other, from [`RingReader::batch`]. Their places are given back when it is dropped,
/// before it waits, and whenever they are a quarter of the ring: a writer that waits for room has some by then.
///
/// What was [released](Frame::release) is read, and what was not is the next one still, however the batch ends. A reader
/// that is killed takes with it what it had of a batch.
#[must_use = "frames are read with it"]
pub struct Batch<'a> {
    pub(super) reader: &'a mut RingReader,
}

impl Batch<'_> {
    /// The next frame where it lies, waiting for it; it stays until it is released.
    ///
    /// # Errors
    /// As of [`RingReader::peek`].
    #[inline]
    pub fn peek(&mut self) -> Result<Frame<'_>, RecvError> {
        let (kind, len) = self.reader.front_until(Until::Forever)?;
        Ok(Frame::new(self.reader, kind, len, true))
    }

    /// As [`peek`](Self::peek), if it is here whole: no system call, and no word about the end.
    ///
    /// # Errors
    /// The same, but for those about the end.
    #[inline]
    pub fn peek_here(&mut self) -> Result<Option<Frame<'_>>, RecvError> {
        let front = self.reader.front()?;
        Ok(front.map(|(kind, len)| Frame::new(self.reader, kind, len, true)))
    }
}

impl Drop for Batch<'_> {
    /// Also when what was done with a frame panics.
    #[inline]
    fn drop(&mut self) {
        if self.reader.is_behind() {
            self.reader.show();
        }
    }
}

impl fmt::Debug for Batch<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Batch").field("reader", &self.reader).finish()
    }
}
