//! Frames that are longer than the ring.

use ipc_core::SendError;

use super::{RingWriter, nothing_went};
use crate::ring::place;
use crate::ring::until::Until;

/// The bytes of a frame with header and padding, and how many have gone.
#[derive(Debug)]
pub(super) struct Rest {
    pub(super) bytes: Vec<u8>,
    pub(super) at: usize,
}

impl RingWriter {
    /// Writes a frame that is longer than the ring.
    pub(super) fn put_in_pieces(
        &mut self,
        kind: u32,
        parts: &[&[u8]],
        until: Until,
    ) -> Result<(), SendError> {
        let len: usize = parts.iter().map(|part| part.len()).sum();
        let header = place::header(kind, len as u32).to_ne_bytes();
        let padding = &[0; 8][..len.next_multiple_of(8) - len];
        let mut all = Vec::with_capacity(parts.len() + 2);
        all.push(&header[..]);
        all.extend_from_slice(parts);
        all.push(padding);
        let mut at = 0;
        let put = self.put_on(&all, &mut at, until);
        if at > 0 && !matches!(put, Ok(()) | Err(SendError::Disconnected)) {
            // The stream must not go on with another frame in the middle of this one.
            let mut bytes = all.concat();
            bytes.drain(..at);
            self.rest = Some(Box::new(Rest { bytes, at: 0 }));
        }
        put
    }

    /// Goes on writing bytes from `at`, a multiple of 8, as room appears.
    fn put_on(&mut self, all: &[&[u8]], at: &mut usize, until: Until) -> Result<(), SendError> {
        let total: usize = all.iter().map(|part| part.len()).sum();
        // Small enough for the reader to be at one piece while this is at the next.
        let step = self.place.capacity() / 4;
        while *at < total {
            let wanted = step.min((total - *at) as u64);
            let in_time = self.wait(wanted, until)?;
            let count = wanted.min(self.room());
            if count > 0 {
                self.pages.take(self.tail + count, &self.place).map_err(SendError::Io)?;
                self.copy_range(all, *at, count as usize);
                self.tail += count;
                *at += count as usize;
                self.publish()?;
            } else if !in_time {
                return Err(if *at == 0 {
                    nothing_went(until)
                } else {
                    SendError::Begun { left: total - *at }
                });
            }
        }
        Ok(())
    }

    /// Copies `count` bytes from `from` on, of all parts together.
    fn copy_range(&self, parts: &[&[u8]], from: usize, count: usize) {
        let (mut skip, mut left, mut to) = (from, count, self.tail);
        for part in parts {
            let (skipped, rest) = part.split_at(skip.min(part.len()));
            skip -= skipped.len();
            let taken = &rest[..left.min(rest.len())];
            self.place.copy_in(to, taken);
            to += taken.len() as u64;
            left -= taken.len();
        }
    }

    pub(super) fn flush_until(&mut self, until: Until) -> Result<(), SendError> {
        if !self.end.is_here() {
            return Err(if self.end.is_moved() { SendError::Moved } else { SendError::Disconnected });
        }
        let Some(mut rest) = self.rest.take() else { return Ok(()) };
        let put = match self.put_on(&[&rest.bytes], &mut rest.at, until) {
            Err(SendError::Full | SendError::Timeout) => {
                Err(SendError::Begun { left: rest.bytes.len() - rest.at })
            }
            other => other,
        };
        if rest.at < rest.bytes.len() && !matches!(put, Err(SendError::Disconnected)) {
            self.rest = Some(rest);
        }
        put
    }

    pub(super) fn make_way(&mut self, until: Until) -> Result<(), SendError> {
        self.flush_until(until).map_err(|error| match error {
            SendError::Begun { .. } => nothing_went(until),
            error => error,
        })
    }
}
