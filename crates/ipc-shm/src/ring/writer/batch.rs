//! Several frames that are shown together.

use ipc_core::SendError;

use super::RingWriter;
use crate::ring::until::Until;

/// Frames that are written and not all shown yet; also when the iterator that they come from panics, they are in the end.
pub(super) struct Batch<'a> {
    writer: &'a mut RingWriter,
    shown: u64,
}

impl<'a> Batch<'a> {
    pub(super) fn new(writer: &'a mut RingWriter) -> Self {
        let shown = writer.tail;
        Batch { writer, shown }
    }

    pub(super) fn put(&mut self, kind: u32, payload: &[u8]) -> Result<(), SendError> {
        let space = self.writer.check(kind, payload.len())?;
        // The reader is to be at one part while this is at the next.
        if self.writer.tail - self.shown >= self.writer.place.capacity() / 4 {
            self.show()?;
        }
        if !self.writer.fits_now(space) {
            self.show()?;
            self.writer.put(kind, &[payload], Until::Forever)?;
            self.shown = self.writer.tail;
            return Ok(());
        }
        self.writer.fill(kind, &[payload], space);
        Ok(())
    }

    pub(super) fn show(&mut self) -> Result<(), SendError> {
        if self.shown == self.writer.tail {
            return Ok(());
        }
        self.shown = self.writer.tail;
        self.writer.publish()
    }
}

impl Drop for Batch<'_> {
    fn drop(&mut self) {
        let _told_by_the_next_write = self.show();
    }
}
