//! Frames that are longer than the ring.

use ipc_core::RecvError;
use ipc_core::frame::FrameError;

use super::RingReader;

/// What is here of a frame that comes in pieces.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::ring) struct Long {
    pub(in crate::ring) kind: u32,
    pub(in crate::ring) len: usize,
    pub(in crate::ring) bytes: Vec<u8>,
}

impl Long {
    pub(super) fn missing(&self) -> usize {
        self.len - self.bytes.len()
    }
}

impl RingReader {
    /// Takes what is here of a long frame. The frame, once it is whole.
    #[cold]
    pub(super) fn collect(&mut self) -> Result<Option<(u32, usize)>, RecvError> {
        loop {
            let Some(long) = &mut self.long else { return Ok(None) };
            if long.len > self.frame_len_max {
                let (len, limit) = (long.len as u64, self.frame_len_max);
                return Err(RecvError::Frame(FrameError::TooLong { len, limit }));
            }
            if long.missing() == 0 {
                return Ok(Some((long.kind, long.len)));
            }
            if self.tail == self.head && !self.look()? {
                self.show();
                return Ok(None);
            }
            let Some(long) = &mut self.long else { return Ok(None) };
            // As much as is here, a quarter of the ring at a time: the writer is to be at the next one.
            let count = (self.tail - self.head).min(self.place.capacity() / 4);
            let at = long.bytes.len();
            let part = long.missing().min(count as usize);
            // Memory for what has arrived, not for what was announced.
            long.bytes.resize(at + part, 0);
            self.place.copy_out(self.head, &mut long.bytes[at..]);
            // The last piece has the padding with it, as counts are multiples of 8.
            self.head += (part as u64).next_multiple_of(8);
            self.show();
        }
    }
}
